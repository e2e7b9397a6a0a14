package sqlite

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"dialtone/internal/fault"
	"dialtone/internal/pathwalk"
	"dialtone/internal/regularfile"
	"dialtone/internal/shellword"
	"dialtone/internal/store/sqlite/conn"
)

// ErrNotWritable is returned by Open for a database that this process may not write to.
var ErrNotWritable = fault.Needs(fault.Correction, "the database cannot be opened")

// ErrForeignWAL is returned by Open for a database next to the WAL of another one.
var ErrForeignWAL = fault.Needs(fault.Correction, "the WAL next to the database does not belong to it")

func foreignWAL(path string) error {
	return fmt.Errorf("%w: if %s was restored from a backup, move %s-wal and %s-shm away and try again; "+
		"otherwise restore it from a backup", ErrForeignWAL, path, path, path)
}

// checkAccess returns ErrNotWritable if this process may not read and write the database, its WAL
// and its wal-index, or create them. SQLite would open such a database for reading, fail at the
// first write, and leave files that a process with more rights creates and that then stop this one.
func checkAccess(path string) error {
	if err := access(filepath.Dir(path), unix.W_OK|unix.X_OK); err != nil {
		return err
	}
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := access(path+suffix, unix.R_OK|unix.W_OK); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// checkRegular fails if a file of a database is a pipe or a device. SQLite could block on it
// forever.
func checkRegular(path string) error {
	for _, suffix := range []string{"", "-journal", "-wal", "-shm"} {
		if err := regularfile.Check(path + suffix); err != nil {
			return err
		}
	}
	return nil
}

func access(path string, mode uint32) error {
	err := unix.Faccessat(unix.AT_FDCWD, path, mode, unix.AT_EACCESS)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EROFS):
		return fmt.Errorf("%w: %s: %w", ErrNotWritable, path, unix.EROFS)
	case !errors.Is(err, fs.ErrPermission):
		return &fs.PathError{Op: "access", Path: path, Err: err}
	}
	info, statErr := os.Stat(path)
	if statErr != nil {
		return fmt.Errorf("%w: %w", ErrNotWritable, statErr)
	}
	owner, me := info.Sys().(*syscall.Stat_t), uint32(os.Geteuid())
	next := "run the program as its owner, or correct owner and mode"
	if owner.Uid == me {
		next = "let its owner write: chmod u+rwX " + shellword.Path(path)
	}
	return fmt.Errorf("%w: %s has mode %#o and belongs to the user %s and the group %s, so the user %s may not write "+
		"to it; %s", ErrNotWritable, path, info.Mode().Perm(), pathwalk.UserName(owner.Uid),
		pathwalk.GroupName(owner.Gid), pathwalk.UserName(me), next)
}

// IsDamaged reports whether an error means that the database is damaged or has a foreign WAL.
func IsDamaged(err error) bool {
	if errors.Is(err, ErrDamaged) || errors.Is(err, ErrForeignWAL) {
		return true
	}
	e, ok := errors.AsType[*conn.Error](err)
	return ok && e.IsDamage()
}

// Advice returns what to do about an error of a damaged database. It is empty if the error contains
// the advice itself, or is not about damage.
func Advice(err error) string {
	if !IsDamaged(err) || errors.Is(err, ErrDamaged) || errors.Is(err, ErrForeignWAL) {
		return ""
	}
	return "the database is damaged; restore it from a backup, as docs/operating.md says under Restore"
}

// hasFrames reports whether there is a WAL with content.
func hasFrames(path string) bool {
	info, err := os.Stat(path + "-wal")
	return err == nil && info.Size() > 0
}
