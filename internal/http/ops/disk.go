package ops

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"
)

const (
	mib = 1 << 20
	// A disk counts as nearly full with less than a twentieth of its space left, but never with
	// more than maxReserve, and always with less than minReserve. Its inodes are nearly used up
	// with less than minInodes left.
	minReserve = 100 * mib
	maxReserve = 1024 * mib
	minInodes  = 1000
)

// Disk returns a probe with a Warning while the disk of a directory is nearly full.
func Disk(dir string) func(context.Context) error {
	return func(context.Context) error {
		var s unix.Statfs_t
		if err := unix.Statfs(dir, &s); err != nil {
			return Warning(fmt.Sprintf("the free space of %s is not known: %v", dir, err))
		}
		return diskWarning(dir, s.Blocks*uint64(s.Bsize), s.Bavail*uint64(s.Bsize), s.Files, s.Ffree)
	}
}

// amount formats a number of bytes for people.
func amount(bytes uint64) string {
	switch {
	case bytes >= 10*mib:
		return fmt.Sprintf("%d MiB", bytes/mib)
	case bytes >= mib:
		return fmt.Sprintf("%.1f MiB", float64(bytes/(mib/10))/10)
	}
	return fmt.Sprintf("%d KiB", bytes/1024)
}

// diskWarning returns a Warning if there is not enough free space, in bytes, or if there are not
// enough inodes. Some file systems do not report a number of inodes.
func diskWarning(dir string, size, free, inodes, freeInodes uint64) error {
	if free < min(max(size/20, minReserve), maxReserve) {
		return Warning(fmt.Sprintf("the disk of %s has only %s left; free some space", dir, amount(free)))
	}
	if inodes > 0 && freeInodes < minInodes {
		return Warning(fmt.Sprintf("the disk of %s has only %d inodes left; remove some files", dir, freeInodes))
	}
	return nil
}
