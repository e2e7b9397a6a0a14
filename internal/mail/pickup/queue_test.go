package pickup_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"dialtone/internal/delivery"
	"dialtone/internal/mail/pickup"
	"dialtone/internal/mailmsg"
)

// ids returns the IDs that a walk passes.
func ids(t *testing.T, walk func(func([]mailmsg.ID) error) error) (list []mailmsg.ID) {
	t.Helper()
	if err := walk(func(some []mailmsg.ID) error {
		list = append(list, some...)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return list
}

func TestBadmail(t *testing.T) {
	eachStaging(t, func(t *testing.T, d *pickup.Dir, _ bool) {
		l := message(1)
		publish(t, d, l)
		want, err := l.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // it is repeated after a crash
			if err := d.MoveToBadmail(l.ID, "550 nobody"); err != nil {
				t.Fatal(err)
			}
		}
		if got := names(t, d.Path()); len(got) != 0 {
			t.Errorf("the pickup directory has %q", got)
		}
		for _, name := range names(t, d.Badmail()) {
			if info, err := os.Stat(filepath.Join(d.Badmail(), name)); err != nil || info.Mode() != 0o640 {
				t.Errorf("%s has mode %v, %v", name, info.Mode(), err)
			}
		}
		if info, err := os.Stat(d.Badmail()); err != nil || info.Mode() != fs.ModeDir|fs.ModeSetgid|0o770 {
			t.Errorf("badmail has mode %v, %v", info.Mode(), err)
		}
		if got := ids(t, d.EachBadmail); !slices.Equal(got, []mailmsg.ID{l.ID}) {
			t.Errorf("badmail has %v", got)
		}
		if got, err := d.Peek(l.ID); err != nil || !bytes.Equal(got, want) || len(names(t, d.Path())) != 0 {
			t.Errorf("Peek returned %d bytes, %v", len(got), err)
		}
		publish(t, d, l) // as if the process ended while it moved the message
		if err := d.MoveToBadmail(l.ID, "550 nobody"); err != nil {
			t.Fatal(err)
		}
		if got, err := d.Message(l.ID); err != nil || !bytes.Equal(got, want) {
			t.Errorf("Message returned %d bytes, %v", len(got), err)
		}
		in, bad := names(t, d.Path()), names(t, d.Badmail())
		if !slices.Equal(in, []string{l.ID.String() + ".eml"}) || len(bad) != 0 {
			t.Errorf("after Message there are %q, and %q in badmail", in, bad)
		}
		for range 2 {
			if err := d.Remove(l.ID); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := d.Message(l.ID); !errors.Is(err, delivery.ErrNoFile) {
			t.Errorf("Message after Remove: %v", err)
		}
		if err := d.MoveToBadmail(l.ID, "550 nobody"); err != nil {
			t.Errorf("MoveToBadmail after Remove: %v", err)
		}
	})
}

func TestRemoveFromBadmail(t *testing.T) {
	d := open(t)
	publish(t, d, message(1))
	if err := d.MoveToBadmail(message(1).ID, "550 nobody"); err != nil {
		t.Fatal(err)
	}
	if err := d.Remove(message(1).ID); err != nil || len(names(t, d.Badmail())) != 0 {
		t.Errorf("%v; badmail has %q", err, names(t, d.Badmail()))
	}
}

func TestEachPickupIgnoresOtherNames(t *testing.T) {
	d := open(t)
	if got := ids(t, d.EachBadmail); len(got) != 0 {
		t.Errorf("without badmail there are %v", got)
	}
	want := make(map[mailmsg.ID]bool)
	for n := range 600 { // more than Walk passes at a time
		publish(t, d, message(n))
		want[message(n).ID] = true
	}
	id := message(1).ID.String()
	others := []string{
		"notes.eml", id + ".txt", "." + id + ".part", "0" + id + ".eml", id[1:] + ".eml", "A" + id[1:] + ".eml",
		"g" + id[1:] + ".eml",
	}
	for _, name := range others {
		if err := os.WriteFile(filepath.Join(d.Path(), name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, got := range ids(t, d.EachPickup) {
		if !want[got] {
			t.Errorf("%s is not a message, or was listed before", got)
		}
		delete(want, got)
	}
	if len(want) > 0 {
		t.Errorf("%d messages are missing", len(want))
	}
	enough := errors.New("enough")
	if err := d.EachPickup(func([]mailmsg.ID) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("got %v", err)
	}
	if n, oldest, err := d.Load(); err != nil || n != 605 || oldest.IsZero() {
		t.Errorf("Load counts %d files, the oldest of %v, %v", n, oldest, err)
	}
}

func TestMessageOfAnySize(t *testing.T) {
	d := open(t)
	for _, size := range []int{0, 1, 4095, 4096, 4097, 1 << 20} {
		want := bytes.Repeat([]byte("x"), size)
		if err := os.WriteFile(filepath.Join(d.Path(), message(1).ID.String()+".eml"), want, 0o640); err != nil {
			t.Fatal(err)
		}
		if got, err := d.Message(message(1).ID); err != nil || !bytes.Equal(got, want) {
			t.Errorf("got %d bytes, want %d; %v", len(got), size, err)
		}
	}
}
