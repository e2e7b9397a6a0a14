package pickup_test

import (
	"bytes"
	"errors"
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

	"dialtone/internal/mail/pickup"
	"dialtone/internal/mailmsg"
	"dialtone/internal/outbox"
)

var noon = time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)

func open(t *testing.T) *pickup.Dir {
	t.Helper()
	return openOn(t, pickup.System, filepath.Join(t.TempDir(), "pickup"))
}

func openOn(t *testing.T, disk pickup.FileSystem, path string) *pickup.Dir {
	t.Helper()
	d, err := pickup.OpenOn(disk, path)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// stagings are the two ways to stage a message.
var stagings = []struct {
	name    string
	disk    pickup.FileSystem
	unnamed bool
}{
	{"unnamed", pickup.System, true},
	{"temporary_name", struct{ pickup.FileSystem }{pickup.System}, false}, // without the methods for unnamed files
}

// eachStaging runs a test with a directory for each way to stage a message.
func eachStaging(t *testing.T, test func(t *testing.T, d *pickup.Dir, unnamed bool)) {
	for _, s := range stagings {
		t.Run(s.name, func(t *testing.T) {
			d := openOn(t, s.disk, filepath.Join(t.TempDir(), "pickup"))
			if got := d.UsesUnnamedFiles(); s.unnamed && !got {
				t.Skip("the file system of temporary files has no files without a name")
			} else if got != s.unnamed {
				t.Fatalf("uses unnamed files: %v, want %v", got, s.unnamed)
			}
			if got := names(t, d.Path()); len(got) != 0 {
				t.Fatalf("the probe left the files %q", got)
			}
			test(t, d, s.unnamed)
		})
	}
}

func message(n int) mailmsg.Message {
	l := mailmsg.Message{
		Domain: "phone.test", From: "no-reply@phone.test", To: fmt.Sprintf("user%d@mail.test", n), Date: noon,
		Subject: "Activate your account", Text: strings.Repeat("A line of the message.\n", 1+n%300) + "The end.\n",
	}
	l.ID = mailmsg.ID{byte(n >> 16), byte(n >> 8), byte(n), 0xff}
	return l
}

func stage(d *pickup.Dir, l mailmsg.Message) (outbox.StagedMessage, error) {
	b, err := l.Bytes()
	if err != nil {
		return nil, err
	}
	return d.Stage(l.ID, b)
}

func publish(t *testing.T, d *pickup.Dir, l mailmsg.Message) {
	t.Helper()
	draft, err := stage(d, l)
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

func TestPublish(t *testing.T) {
	eachStaging(t, func(t *testing.T, d *pickup.Dir, unnamed bool) {
		l := message(1)
		want, err := l.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		draft, err := stage(d, l)
		if err != nil {
			t.Fatal(err)
		}
		part, name := "."+l.ID.String()+".part", l.ID.String()+".eml"
		var staged []string
		if !unnamed {
			staged = []string{part}
		}
		if got := names(t, d.Path()); !slices.Equal(got, staged) {
			t.Errorf("after Stage the directory has %q, want %q", got, staged)
		}
		if err := draft.Publish(); err != nil {
			t.Fatal(err)
		}
		check := func(when string) {
			t.Helper()
			if got := names(t, d.Path()); !slices.Equal(got, []string{name}) {
				t.Errorf("%s the directory has %q", when, got)
			}
			if got, err := os.ReadFile(filepath.Join(d.Path(), name)); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s the file has %d bytes, want %d; %v", when, len(got), len(want), err)
			}
		}
		check("after Publish")
		publish(t, d, l)
		check("after a second Publish")
		for _, left := range []string{name, part} { // by a run that crashed
			if err := os.WriteFile(filepath.Join(d.Path(), left), want[:9], 0o600); err != nil {
				t.Fatal(err)
			}
		}
		publish(t, d, l)
		check("after a Publish over the files of a crash")
		if info, err := os.Stat(filepath.Join(d.Path(), name)); err != nil || info.Mode() != 0o640 {
			t.Errorf("the mode is %v, %v", info.Mode(), err)
		}
		if draft, err = stage(d, message(2)); err != nil {
			t.Fatal(err)
		}
		draft.Discard()
		check("after Discard")
		if err := d.Ready(); err != nil {
			t.Error(err)
		}
		check("after Ready")
	})
}

func TestFailures(t *testing.T) {
	eachStaging(t, func(t *testing.T, d *pickup.Dir, unnamed bool) {
		draft, err := stage(d, message(2))
		if err != nil {
			t.Fatal(err)
		}
		blocked := filepath.Join(d.Path(), message(2).ID.String()+".eml")
		if err := os.MkdirAll(filepath.Join(blocked, "x"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := draft.Publish(); err == nil {
			t.Error("Publish replaced a directory")
		}
		if got := names(t, d.Path()); !slices.Equal(got, []string{filepath.Base(blocked)}) {
			t.Errorf("after a failed Publish the directory has %q", got)
		}
		if err := os.RemoveAll(d.Path()); err != nil {
			t.Fatal(err)
		}
		if _, err := stage(d, message(3)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Stage in a missing directory: %v", err)
		}
		if err := d.Ready(); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Ready in a missing directory: %v", err)
		}
		if err := d.Sync(); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Sync of a missing directory: %v", err)
		}
		if err := os.WriteFile(d.Path(), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := pickup.Open(d.Path()); err == nil {
			t.Error("Open accepted a file")
		}
	})
}

func TestModes(t *testing.T) {
	for _, s := range stagings {
		for _, umask := range []int{0, 0o022, 0o777} {
			t.Run(fmt.Sprintf("%s/umask_%#o", s.name, umask), func(t *testing.T) {
				parent := t.TempDir()
				defer syscall.Umask(syscall.Umask(umask))
				d := openOn(t, s.disk, filepath.Join(parent, "pickup"))
				info, err := os.Stat(d.Path())
				if err != nil || info.Mode() != fs.ModeDir|fs.ModeSetgid|0o770 || d.Readable() {
					t.Errorf("the directory has mode %v, %v", info.Mode(), err)
				}
				group := os.Getegid()
				if os.Geteuid() == 0 { // other users cannot give a directory to any group
					group = 12345
					if err := errors.Join(
						os.Chown(d.Path(), -1, group),
						os.Chmod(d.Path(), info.Mode()),
					); err != nil {
						t.Fatal(err)
					}
				}
				check := func(when string, count int) {
					t.Helper()
					list := names(t, d.Path())
					if len(list) != count {
						t.Errorf("%s there are %d files, want %d", when, len(list), count)
					}
					for _, name := range list {
						info, err := os.Stat(filepath.Join(d.Path(), name))
						if err != nil || info.Mode() != 0o640 || info.Sys().(*syscall.Stat_t).Gid != uint32(group) {
							t.Errorf("%s %s is %+v, %v", when, name, info, err)
						}
					}
				}
				draft, err := stage(d, message(1))
				if err != nil {
					t.Fatal(err)
				}
				if !d.UsesUnnamedFiles() {
					check("after Stage", 1)
				}
				if err := draft.Publish(); err != nil {
					t.Fatal(err)
				}
				check("after Publish", 1)
				if err := os.Chmod(d.Path(), 0o775); err != nil {
					t.Fatal(err)
				}
				if !d.Readable() {
					t.Error("Readable is false for mode 0775")
				}
				if _, err := pickup.Open(d.Path()); err != nil {
					t.Error(err)
				}
				if info, _ := os.Stat(d.Path()); info.Mode().Perm() != 0o775 {
					t.Errorf("Open changed the mode of an existing directory to %v", info.Mode())
				}
			})
		}
	}
}

func TestAgentSeesOnlyWholeMessages(t *testing.T) {
	eachStaging(t, func(t *testing.T, d *pickup.Dir, unnamed bool) {
		const messages, writers = 1200, 4
		done := make(chan struct{})
		seen := 0
		var agent sync.WaitGroup
		agent.Go(func() { // like a mail agent, it reads and removes each file that ends in .eml
			for over := false; ; {
				select {
				case <-done:
					over = true // one more round
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
					draft, err := stage(d, message(n))
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
			t.Errorf("the agent saw %d messages, want %d", seen, messages)
		}
	})
}

func TestClean(t *testing.T) {
	d := open(t)
	id := message(1).ID.String()
	ours := "." + id + ".part"
	others := []string{
		id + ".eml",
		id + ".part",
		"." + id + ".eml",
		"." + id + ".part~",
		"." + id + ".partial",
		"." + id[1:] + ".part",
		".0" + id + ".part",
		"." + strings.ToUpper(id) + ".part",
		".part",
		"notes.part",
		".g" + id[1:] + ".part",
		"x.tmp",
		"x.bad",
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
			t.Errorf("Clean left\n%q, want\n%q", got, others)
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
		if err := os.WriteFile(filepath.Join(d.Path(), name), []byte("not a message"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(filepath.Join(d.Path(), name), noon, noon); err != nil {
			t.Fatal(err)
		}
	}
	draft, err := stage(d, message(9))
	if err != nil {
		t.Fatal(err)
	}
	defer draft.Discard()
	list, err := d.Messages(100)
	if err != nil || len(list) != 5 {
		t.Fatalf("%d messages, %v", len(list), err)
	}
	for i, m := range list {
		n := 4 - i
		if m.Subject != fmt.Sprintf("Grüße %d", n) || m.Text != fmt.Sprintf("Zeile é %d\n.\n", n) ||
			m.To != fmt.Sprintf("user%d@mail.test", n) ||
			m.File != message(n).ID.String()+".eml" || !m.Date.Equal(noon) {
			t.Errorf("message %d is %+v", i, m)
		}
	}
	if list, err := d.Messages(2); err != nil || len(list) != 2 || list[0].To != "user4@mail.test" {
		t.Errorf("with limit 2: %v, %v", list, err)
	}
}
