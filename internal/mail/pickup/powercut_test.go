//go:build long && linux

package pickup_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"dialtone/internal/mail/pickup"
	"dialtone/internal/outbox"
)

// These values stop a file system like a power cut does,
// https://man7.org/linux/man-pages/man2/ioctl_xfs_goingdown.2.html. The call is the same for
// ext4. Unsynced data is lost with both flags. With logFlush, the log of names is written
// first; with noLogFlush it is not.
const (
	goingDown  = 0x8004587d // _IOR('X', 125, __u32)
	logFlush   = 1
	noLogFlush = 2
)

// After a power cut, all messages that were synced must exist, and messages that were staged
// but not published must leave nothing.
func TestPowerCut(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can mount a file system")
	}
	for _, kind := range []string{"ext4", "xfs"} {
		for _, s := range stagings {
			for name, how := range map[string]int{"log_flushed": logFlush, "log_lost": noLogFlush} {
				t.Run(strings.Join([]string{kind, s.name, name}, "/"), func(t *testing.T) {
					powerCut(t, kind, s.disk, s.unnamed, how)
				})
			}
		}
	}
}

func powerCut(t *testing.T, kind string, disk pickup.FileSystem, unnamed bool, how int) {
	const count = 500
	dir := t.TempDir()
	image, mnt := filepath.Join(dir, "image"), filepath.Join(dir, "mnt")
	if err := errors.Join(
		os.WriteFile(image, nil, 0o600),
		os.Truncate(image, 512<<20),
		os.Mkdir(mnt, 0o700),
	); err != nil {
		t.Fatal(err)
	}
	if _, err := exec.LookPath("mkfs." + kind); err != nil {
		t.Skip(err)
	}
	run(t, "mkfs."+kind, "-q", image)
	mount := func() { run(t, "mount", "-o", "loop", image, mnt) }
	umount := func() { run(t, "umount", mnt) }
	mount()
	mounted := true
	defer func() {
		if mounted {
			exec.Command("umount", mnt).Run()
		}
	}()
	d := openOn(t, disk, filepath.Join(mnt, "pickup"))
	if d.UsesUnnamedFiles() != unnamed {
		t.Fatalf("%s: uses unnamed files: %v", kind, !unnamed)
	}
	for n := range count {
		publish(t, d, message(n))
	}
	for n := range count / 2 { // as after a crash
		publish(t, d, message(n))
	}
	if err := d.Sync(); err != nil {
		t.Fatal(err)
	}
	for n := count; n < 2*count; n++ {
		publish(t, d, message(n))
	}
	var staged []outbox.StagedMessage
	for n := range 100 {
		draft, err := stage(d, message(3*count+n))
		if err != nil {
			t.Fatal(err)
		}
		staged = append(staged, draft)
	}
	root, err := os.Open(mnt)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(int(root.Fd()), goingDown, how); err != nil {
		t.Fatal(err)
	}
	root.Close()
	for _, draft := range staged { // a power cut would end the process; the disk no longer changes
		draft.Discard()
	}
	umount()
	mount()
	if d, err = pickup.Open(d.Path()); err != nil {
		t.Fatal(err)
	}
	whole, damaged, missing := 0, 0, 0
	for n := range 2 * count {
		want, err := message(n).Bytes()
		if err != nil {
			t.Fatal(err)
		}
		got, err := d.Peek(message(n).ID)
		switch {
		case err != nil:
			missing++
		case bytes.Equal(got, want):
			whole++
		default:
			damaged++
		}
		if n == count-1 && whole != count {
			t.Fatalf("of %d synced messages %d are damaged and %d missing", count, damaged, missing)
		}
	}
	entries, err := os.ReadDir(d.Path())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d synced messages are whole; of %d unsynced ones %d are whole, %d damaged, %d missing",
		count, count, whole-count, damaged, missing)
	if left := len(entries) - whole - damaged; unnamed && left != 0 {
		t.Errorf("%d temporary names are left", left)
	} else {
		t.Logf("%d temporary names are left", left)
	}
	umount()
	mounted = false
	switch kind {
	case "ext4":
		run(t, "e2fsck", "-fn", image)
	case "xfs":
		run(t, "xfs_repair", "-n", image)
	}
}

func run(t *testing.T, command ...string) {
	t.Helper()
	if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(command, " "), err, out)
	}
}
