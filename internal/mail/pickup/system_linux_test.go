package pickup_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"dialtone/internal/mail/pickup"
)

func TestSyncCallsSyncfs(t *testing.T) {
	d := open(t)
	if got := reflect.ValueOf(*pickup.Syncfs).Pointer(); got != reflect.ValueOf(unix.Syncfs).Pointer() {
		t.Error("the system call is not syncfs")
	}
	opened := descriptorsOf(t, d.Path()) // before any message is published
	defer func(before func(int) error) { *pickup.Syncfs = before }(*pickup.Syncfs)
	for _, result := range []error{nil, unix.EIO, nil} {
		publish(t, d, message(1))
		calls := 0
		*pickup.Syncfs = func(fd int) error {
			calls++
			if !slices.Contains(opened, fd) {
				t.Error("syncfs got a descriptor that was opened after the message was published")
			}
			return result
		}
		if err := d.Sync(); !errors.Is(err, result) || calls != 1 {
			t.Errorf("syncfs fails with %v and Sync with %v, after %d calls", result, err, calls)
		}
	}
}

// descriptorsOf returns the descriptors of this process for a path.
func descriptorsOf(t *testing.T, path string) (list []int) {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if to, _ := os.Readlink("/proc/self/fd/" + e.Name()); to == path {
			fd, err := strconv.Atoi(e.Name())
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, fd)
		}
	}
	return list
}

// Sync follows the path. If that leads to another file system, it cannot be known whether a write to that one failed
// before.
func TestSyncOfReplacedDirectory(t *testing.T) {
	other, err := os.MkdirTemp("/dev/shm", "pickup")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(other)
	dir := t.TempDir()
	real, path := filepath.Join(dir, "pickup"), filepath.Join(dir, "link")
	if err := errors.Join(os.Mkdir(real, 0o700), os.Symlink(real, path)); err != nil {
		t.Fatal(err)
	}
	d, err := pickup.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(real, real+".old"); err != nil {
		t.Fatal(err)
	}
	if err := d.Sync(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Sync without a directory: %v", err)
	}
	if err := os.Mkdir(real, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := d.Sync(); err != nil {
		t.Errorf("Sync of another directory: %v", err)
	}
	if err := errors.Join(os.Remove(path), os.Symlink(other, path)); err != nil {
		t.Fatal(err)
	}
	var was, is unix.Stat_t
	if err := errors.Join(unix.Stat(real, &was), unix.Stat(other, &is)); err != nil {
		t.Fatal(err)
	}
	if err := d.Sync(); (err == nil) != (was.Dev == is.Dev) {
		t.Errorf("Sync of a directory on another file system: %v", err)
	}
	if err := d.Sync(); err != nil {
		t.Error(err)
	}
	if list := descriptorsOf(t, other); len(list) != 1 {
		t.Errorf("the directory is open %d times", len(list))
	}
	if list := slices.Concat(descriptorsOf(t, real), descriptorsOf(t, real+".old")); len(list) != 0 {
		t.Error("an earlier directory is still open")
	}
}

func TestLink(t *testing.T) {
	d := open(t)
	if !d.UsesUnnamedFiles() {
		t.Skip("the file system of temporary files has no files without a name")
	}
	system := pickup.System.(pickup.UnnamedFileSystem)
	for name, link := range map[string]func(fd int, path string) error{
		"system":     system.LinkUnnamed,
		"descriptor": pickup.LinkDescriptor,
		"proc":       pickup.LinkByProc,
	} {
		t.Run(name, func(t *testing.T) {
			file, err := system.CreateUnnamed(d.Path(), []byte("text"))
			if err != nil {
				t.Fatal(err)
			}
			defer system.CloseUnnamed(file)
			path := filepath.Join(d.Path(), name)
			err = link(file, path)
			if name == "descriptor" && errors.Is(err, unix.ENOENT) {
				t.Skip("the kernel is older than 6.10 and this process has no CAP_DAC_READ_SEARCH")
			}
			if err != nil {
				t.Fatal(err)
			}
			if text, err := os.ReadFile(path); err != nil || string(text) != "text" {
				t.Errorf("read %q, %v", text, err)
			}
			if err := link(file, path); !errors.Is(err, fs.ErrExist) {
				t.Errorf("a second link with the same name: %v", err)
			}
		})
	}
}

// unsupported is a file system in which a step fails.
type unsupported struct {
	pickup.FileSystem
	pickup.UnnamedFileSystem
	create, link error
}

func (u *unsupported) CreateUnnamed(dir string, data []byte) (int, error) {
	if u.create != nil {
		return -1, u.create
	}
	return u.UnnamedFileSystem.CreateUnnamed(dir, data)
}

func (u *unsupported) LinkUnnamed(file int, path string) error {
	if u.link != nil {
		return u.link
	}
	return u.UnnamedFileSystem.LinkUnnamed(file, path)
}

func TestFallback(t *testing.T) {
	if !open(t).UsesUnnamedFiles() {
		t.Skip("the file system of temporary files has no files without a name")
	}
	system := pickup.System.(pickup.UnnamedFileSystem)
	name := message(1).ID.String() + ".eml"
	for _, c := range []struct {
		name string
		disk unsupported
		used bool
	}{
		{"no unnamed files", unsupported{create: unix.EOPNOTSUPP}, false},
		{"kernel without O_TMPFILE", unsupported{create: unix.EISDIR}, false},
		{"no proc", unsupported{link: unix.ENOENT}, false},
		{"works", unsupported{}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			disk := &c.disk
			disk.FileSystem, disk.UnnamedFileSystem = pickup.System, system
			d := openOn(t, disk, filepath.Join(t.TempDir(), "pickup"))
			if got := d.UsesUnnamedFiles(); got != c.used {
				t.Errorf("uses unnamed files: %v, want %v", got, c.used)
			}
			publish(t, d, message(1))
			if got := names(t, d.Path()); !slices.Equal(got, []string{name}) {
				t.Errorf("the directory has %q", got)
			}
		})
	}
	t.Run("directory moved to another file system", func(t *testing.T) {
		disk := &unsupported{FileSystem: pickup.System, UnnamedFileSystem: system}
		d := openOn(t, disk, filepath.Join(t.TempDir(), "pickup"))
		if !d.UsesUnnamedFiles() {
			t.Fatal("does not use unnamed files")
		}
		disk.create = unix.EOPNOTSUPP
		publish(t, d, message(1))
		if got := names(t, d.Path()); !slices.Equal(got, []string{name}) {
			t.Errorf("the directory has %q", got)
		}
		disk.create = unix.ENOSPC
		if _, err := stage(d, message(2)); !errors.Is(err, unix.ENOSPC) {
			t.Errorf("with a full disk Stage fails with %v", err)
		}
	})
}

// Staged messages that are not published leave no descriptor open.
func TestDescriptors(t *testing.T) {
	d := open(t)
	d.UsesUnnamedFiles()
	before := descriptors(t)
	for n := range 50 {
		publish(t, d, message(n%10))
		draft, err := stage(d, message(100))
		if err != nil {
			t.Fatal(err)
		}
		draft.Discard()
		if err := d.Ready(); err != nil {
			t.Fatal(err)
		}
	}
	if after := descriptors(t); after > before {
		t.Errorf("%d descriptors were open, and %d are now", before, after)
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip(err)
	}
	return len(list)
}

// Agents that watch the directory see exactly these events with the name of a message.
func TestInotify(t *testing.T) {
	eachStaging(t, func(t *testing.T, d *pickup.Dir, unnamed bool) {
		watch, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(watch)
		if _, err := unix.InotifyAddWatch(watch, d.Path(), unix.IN_ALL_EVENTS); err != nil {
			t.Fatal(err)
		}
		publish(t, d, message(1))
		first := events(t, watch, message(1).ID.String()+".eml")
		publish(t, d, message(1))
		second := events(t, watch, message(1).ID.String()+".eml")
		want := []uint32{unix.IN_MOVED_TO}
		if !slices.Equal(second, want) {
			t.Errorf("a replaced message causes the events %#x, want %#x", second, want)
		}
		if unnamed {
			want = []uint32{unix.IN_CREATE}
		}
		if !slices.Equal(first, want) {
			t.Errorf("a new message causes the events %#x, want %#x", first, want)
		}
	})
}

// events returns the masks of the events that are queued for a name.
func events(t *testing.T, watch int, name string) (masks []uint32) {
	t.Helper()
	buf := make([]byte, 1<<16)
	n, err := unix.Read(watch, buf)
	if err != nil {
		t.Fatal(err)
	}
	for buf = buf[:n]; len(buf) > 0; {
		mask := binary.NativeEndian.Uint32(buf[4:])
		size := binary.NativeEndian.Uint32(buf[12:])
		got := string(bytes.TrimRight(buf[unix.SizeofInotifyEvent:unix.SizeofInotifyEvent+size], "\x00"))
		t.Logf("%#x %q", mask, got)
		if got == name {
			masks = append(masks, mask)
		}
		buf = buf[unix.SizeofInotifyEvent+size:]
	}
	return masks
}
