package datadir

import (
	"errors"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// Only a lock that is held means that another server runs.
func TestLockError(t *testing.T) {
	if err := lockError("serve.lock", nil); err != nil {
		t.Errorf("without an error: %v", err)
	}
	for errno, says := range map[syscall.Errno]string{
		unix.EWOULDBLOCK: "serve.lock is held: another server runs",
		unix.ENOLCK:      "serve.lock cannot be locked: no locks available; the file system may lack locks",
		unix.EOPNOTSUPP:  "the file system may lack locks: use a data directory on a local one",
		unix.EIO:         "serve.lock cannot be locked: input/output error",
	} {
		err := lockError("serve.lock", errno)
		if !errors.Is(err, errno) || !strings.Contains(err.Error(), says) ||
			strings.Contains(err.Error(), "another server") != (errno == unix.EWOULDBLOCK) {
			t.Errorf("%v: got %v", errno, err)
		}
	}
}
