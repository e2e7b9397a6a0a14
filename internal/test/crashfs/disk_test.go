package crashfs

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"syscall"
	"testing"
)

func TestCrash(t *testing.T) {
	for _, c := range []struct {
		name    string
		do      func(*FS) error
		variant Variant
		want    map[string]string
	}{
		{"killed: everything is kept", write, Killed, map[string]string{"/d/a": "new"}},
		{"nothing is kept", write, Variant{Data: None, Entries: None}, nil},
		{"a name without data", write, Variant{Data: None}, map[string]string{"/d/a": ""}},
		{"data without a name", write, Variant{Entries: None}, nil},
		{"a sync of everything keeps all", after(write, flush), Variant{Data: None, Entries: None},
			map[string]string{"/d/a": "new"}},
		{"a rename is undone", after(write, flush, rename), Variant{Data: None, Entries: None},
			map[string]string{"/d/a": "new"}},
		{"a rename of nothing", after(write, rename), Variant{Data: None}, map[string]string{"/d/b": ""}},
		{"a removal is undone", after(write, flush, remove), Variant{Data: None, Entries: None},
			map[string]string{"/d/a": "new"}},
		{"a failed sync drops data", after(write, failing(flush, syscall.EIO), flush), Variant{Data: None,
			Entries: None}, map[string]string{"/d/a": ""}},
		{"and a killed process does not see it", after(write, failing(flush, syscall.EIO), flush), Killed,
			map[string]string{"/d/a": "new"}},
		{"an unnamed file leaves nothing", unnamed, Variant{}, nil},
		{"a linked file is kept", linked, Variant{}, map[string]string{"/d/a": "new"}},
		{"a linked name without data", linked, Variant{Data: None}, map[string]string{"/d/a": ""}},
		{"linked data without a name", linked, Variant{Entries: None}, nil},
		{"a sync keeps a linked file", after(linked, flush), Variant{Data: None, Entries: None},
			map[string]string{"/d/a": "new"}},
		{"a link does not replace", after(write, notLinked), Killed, map[string]string{"/d/a": "new"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := New()
			f.MakeDir("/d")
			f.SyncAll("/")
			if err := c.do(f); err != nil {
				t.Fatal(err)
			}
			then := f.Crash(c.variant)
			got := make(map[string]string)
			for _, p := range then.Files() {
				b, err := then.ReadFile(p)
				if err != nil {
					t.Fatal(err)
				}
				got[p] = string(b)
			}
			if len(got) != len(c.want) {
				t.Fatalf("found %q, want %q", got, c.want)
			}
			for p, text := range c.want {
				if have, ok := got[p]; !ok || have != text {
					t.Errorf("found %q, want %q", got, c.want)
				}
			}
			if err := write(f); !errors.Is(err, syscall.EIO) {
				t.Errorf("after the crash the old file system still writes: %v", err)
			}
		})
	}
}

func write(f *FS) error  { return f.Create("/d/a", []byte("new")) }
func flush(f *FS) error  { return f.SyncAll("/d") }
func rename(f *FS) error { return f.Rename("/d/a", "/d/b") }
func remove(f *FS) error { return f.Remove("/d/a") }

func unnamed(f *FS) error {
	_, err := f.CreateUnnamed("/d", []byte("new"))
	return err
}

func linked(f *FS) error {
	file, err := f.CreateUnnamed("/d", []byte("new"))
	return errors.Join(err, f.LinkUnnamed(file, "/d/a"), f.CloseUnnamed(file))
}

func notLinked(f *FS) error {
	if err := linked(f); !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("the link failed with %w", err)
	}
	return nil
}

func after(list ...func(*FS) error) func(*FS) error {
	return func(f *FS) error {
		for _, do := range list {
			if err := do(f); err != nil {
				return err
			}
		}
		return nil
	}
}

func failing(do func(*FS) error, errno syscall.Errno) func(*FS) error {
	return func(f *FS) error {
		disarm := f.Fail(Fault{Err: errno})
		defer disarm()
		if err := do(f); !errors.Is(err, errno) {
			return errors.New("it did not fail")
		}
		return nil
	}
}

func TestTorn(t *testing.T) {
	d := newDisk()
	d.apply(Op{Kind: Create, name: "a"})
	d.apply(Op{Kind: Write, node: 1, Off: 100, Data: make([]byte, 1200)})
	if got, want := d.torn(), []int{412, 924}; !slices.Equal(got, want) {
		t.Errorf("torn at %v, want %v", got, want)
	}
	if n := len(d.crash(Variant{Torn: 412}).nodes[1].data); n != 512 {
		t.Errorf("%d bytes are left, want a sector", n)
	}
	d.apply(Op{Kind: Sync, node: 1})
	if d.torn() != nil {
		t.Error("a write that was synced is torn")
	}
}

// A write to a page whose data a failed sync dropped writes the whole page again, and no other page.
func TestFailedSync(t *testing.T) {
	d := newDisk()
	d.apply(Op{Kind: Create, name: "a"})
	d.apply(Op{Kind: SyncDir})
	d.apply(Op{Kind: Write, node: 1, Data: slices.Repeat([]byte{1}, 2*page)})
	d.apply(Op{Kind: Sync, node: 1, Err: syscall.EIO})
	d.apply(Op{Kind: Write, node: 1, Off: page, Data: []byte{2}})
	d.apply(Op{Kind: Sync, node: 1})
	got := d.crash(Variant{Data: None, Entries: None}).nodes[1].data
	if len(got) != 2*page || got[0] != 0 || got[page] != 2 || got[page+1] != 1 {
		t.Errorf("%d bytes, of the first page %d, of the second %d %d", len(got), got[0], got[page], got[page+1])
	}
}

func TestErrors(t *testing.T) {
	f := New()
	f.MakeDir("/d")
	if err := f.Create("/e/a", nil); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if err := errors.Join(write(f), f.MakeDir("/d")); err != nil {
		t.Error(err)
	}
	if err := write(f); !errors.Is(err, fs.ErrExist) {
		t.Error(err)
	}
	if err := f.Remove("/d/b"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}
