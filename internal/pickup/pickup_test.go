package pickup_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"net/mail"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"dialtone/internal/mailmsg"
	"dialtone/internal/pickup"
)

var noon = time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)

func open(t *testing.T) *pickup.Directory {
	t.Helper()
	d, err := pickup.Open(filepath.Join(t.TempDir(), "pickup"))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func message(n int) mailmsg.Message {
	l := mailmsg.Message{
		Domain: "phone.test", From: "no-reply@phone.test", To: fmt.Sprintf("user%d@mail.test", n), Date: noon,
		Subject: "Activate your account", Text: strings.Repeat("A line of the message.\n", 1+n%300) + "The end.\n",
	}
	l.ID = mailmsg.ID{byte(n >> 16), byte(n >> 8), byte(n), 0xff}
	return l
}

func publish(t *testing.T, d *pickup.Directory, l mailmsg.Message) {
	t.Helper()
	draft, err := d.Stage(l)
	if err != nil {
		t.Fatal(err)
	}
	if err := draft.Publish(); err != nil {
		t.Fatal(err)
	}
}

func names(t *testing.T, dir string) (list []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

func TestDraft(t *testing.T) {
	d := open(t)
	l := message(1)
	want, err := l.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	draft, err := d.Stage(l)
	if err != nil {
		t.Fatal(err)
	}
	part := "." + l.ID.String() + ".part"
	if got := names(t, d.Path()); !slices.Equal(got, []string{part}) {
		t.Errorf("staged, there is %q", got)
	}
	if err := draft.Publish(); err != nil {
		t.Fatal(err)
	}
	name := l.ID.String() + ".eml"
	if got := names(t, d.Path()); !slices.Equal(got, []string{name}) {
		t.Errorf("published, there is %q", got)
	}
	if got, err := os.ReadFile(filepath.Join(d.Path(), name)); err != nil || !bytes.Equal(got, want) {
		t.Errorf("it has %d bytes of %d, %v", len(got), len(want), err)
	}
	if err := d.Sync(); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(filepath.Join(d.Path(), name), want[:9], 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(d.Path(), part), want[:9], 0o600); err != nil { // of a run that crashed
		t.Fatal(err)
	}
	publish(t, d, l)
	if got, err := os.ReadFile(filepath.Join(d.Path(), name)); err != nil || !bytes.Equal(got, want) {
		t.Errorf("again, it has %d bytes of %d, %v", len(got), len(want), err)
	}
	draft, err = d.Stage(message(2))
	if err != nil {
		t.Fatal(err)
	}
	draft.Discard()
	if got := names(t, d.Path()); !slices.Equal(got, []string{name}) {
		t.Errorf("after a discarded one there is %q", got)
	}
}

func TestFailuresLeaveNothing(t *testing.T) {
	d := open(t)
	bad := message(1)
	bad.To = "a@b.test\r\nBcc: c@d.test"
	if _, err := d.Stage(bad); err == nil {
		t.Error("a bad letter is staged")
	}
	draft, err := d.Stage(message(2))
	if err != nil {
		t.Fatal(err)
	}
	blocked := filepath.Join(d.Path(), message(2).ID.String()+".eml")
	if err := os.MkdirAll(filepath.Join(blocked, "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := draft.Publish(); err == nil {
		t.Error("a message is published in the place of a directory")
	}
	if got := names(t, d.Path()); !slices.Equal(got, []string{filepath.Base(blocked)}) {
		t.Errorf("there is %q", got)
	}
	if err := os.RemoveAll(d.Path()); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Stage(message(3)); err == nil {
		t.Error("a message is staged in no directory")
	}
	if err := d.Sync(); err == nil {
		t.Error("no directory is synced")
	}
	if err := os.WriteFile(d.Path(), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := pickup.Open(d.Path()); err == nil {
		t.Error("a file is opened as a directory")
	}
}

func TestModes(t *testing.T) {
	for _, umask := range []int{0, 0o022, 0o777} {
		t.Run(fmt.Sprintf("umask %#o", umask), func(t *testing.T) {
			parent := t.TempDir()
			defer syscall.Umask(syscall.Umask(umask))
			d, err := pickup.Open(filepath.Join(parent, "pickup"))
			if err != nil {
				t.Fatal(err)
			}
			info, err := os.Stat(d.Path())
			if err != nil || info.Mode() != fs.ModeDir|fs.ModeSetgid|0o770 || d.Readable() {
				t.Errorf("the directory has %v, %v", info.Mode(), err)
			}
			draft, err := d.Stage(message(1))
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range names(t, d.Path()) {
				if info, err := os.Stat(filepath.Join(d.Path(), name)); err != nil || info.Mode() != 0o640 {
					t.Errorf("staged, %s has %v, %v", name, info.Mode(), err)
				}
			}
			if err := draft.Publish(); err != nil {
				t.Fatal(err)
			}
			for _, name := range names(t, d.Path()) {
				if info, err := os.Stat(filepath.Join(d.Path(), name)); err != nil || info.Mode() != 0o640 {
					t.Errorf("published, %s has %v, %v", name, info.Mode(), err)
				}
			}
			if err := os.Chmod(d.Path(), 0o775); err != nil {
				t.Fatal(err)
			}
			if !d.Readable() {
				t.Error("a directory that everybody may list is not said to be")
			}
			if _, err := pickup.Open(d.Path()); err != nil {
				t.Error(err)
			}
			if info, _ := os.Stat(d.Path()); info.Mode().Perm() != 0o775 {
				t.Errorf("a directory of somebody else has %v now", info.Mode())
			}
		})
	}
}

func TestNoMessageIsSeenInPart(t *testing.T) {
	const messages, writers = 4000, 4
	d := open(t)
	done := make(chan struct{})
	seen := 0
	var agent sync.WaitGroup
	agent.Go(func() { // as a mail agent does: whatever ends in .eml is read and taken
		for over := false; ; {
			select {
			case <-done:
				over = true // one round more
			default:
			}
			entries, err := os.ReadDir(d.Path())
			if err != nil {
				t.Error(err)
				return
			}
			for _, e := range entries {
				if !strings.HasSuffix(e.Name(), ".eml") {
					continue
				}
				path := filepath.Join(d.Path(), e.Name())
				b, err := os.ReadFile(path)
				if err != nil {
					t.Error(err)
					return
				}
				m, err := mail.ReadMessage(bytes.NewReader(b))
				if err != nil || !bytes.HasSuffix(b, []byte("The end.\r\n")) || m.Header.Get("To") == "" {
					t.Errorf("%s has %d bytes: %v", e.Name(), len(b), err)
				}
				if err := os.Remove(path); err != nil {
					t.Error(err)
				}
				seen++
			}
			if over {
				return
			}
		}
	})
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			for n := w; n < messages; n += writers {
				draft, err := d.Stage(message(n))
				if err == nil {
					err = draft.Publish()
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	close(done)
	agent.Wait()
	if seen != messages {
		t.Errorf("the agent saw %d messages of %d", seen, messages)
	}
}

func TestCleanRemovesOnlyWhatIsOurs(t *testing.T) {
	d := open(t)
	id := message(1).ID.String()
	ours := "." + id + ".part"
	others := []string{
		id + ".eml", id + ".part", "." + id + ".eml", "." + id + ".part~", "." + id + ".partial", "." + id[1:] + ".part", ".0" + id + ".part",
		"." + strings.ToUpper(id) + ".part", ".part", "notes.part", ".g" + id[1:] + ".part", "x.tmp", "x.bad",
	}
	for _, name := range append(others, ours) {
		if err := os.WriteFile(filepath.Join(d.Path(), name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := d.Clean(); err != nil {
			t.Fatal(err)
		}
		slices.Sort(others)
		if got := names(t, d.Path()); !slices.Equal(got, others) {
			t.Errorf("left are\n%q, want\n%q", got, others)
		}
	}
}

func TestMessages(t *testing.T) {
	d := open(t)
	for n := range 5 {
		l := message(n)
		l.Subject, l.Text = fmt.Sprintf("Grüße %d", n), fmt.Sprintf("Zeile é %d\n.\n", n)
		publish(t, d, l)
		at := noon.Add(time.Duration(n) * time.Minute)
		if err := os.Chtimes(filepath.Join(d.Path(), l.ID.String()+".eml"), at, at); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"a.eml", "b.txt"} {
		if err := os.WriteFile(filepath.Join(d.Path(), name), []byte("no message"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(filepath.Join(d.Path(), name), noon, noon); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := d.Stage(message(9)); err != nil {
		t.Fatal(err)
	}
	list, err := d.Messages(100)
	if err != nil || len(list) != 5 {
		t.Fatalf("%d messages, %v", len(list), err)
	}
	for i, m := range list {
		n := 4 - i
		if m.Subject != fmt.Sprintf("Grüße %d", n) || m.Text != fmt.Sprintf("Zeile é %d\n.\n", n) || m.To != fmt.Sprintf("user%d@mail.test", n) ||
			m.File != message(n).ID.String()+".eml" || !m.Date.Equal(noon) {
			t.Errorf("message %d is %+v", i, m)
		}
	}
	if list, err := d.Messages(2); err != nil || len(list) != 2 || list[0].To != "user4@mail.test" {
		t.Errorf("of two: %v, %v", list, err)
	}
}
