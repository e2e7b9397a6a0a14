package runas

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"dialtone/internal/regularfile"
)

// OpenNamed opens a file that the operator has named.
func OpenNamed(path string) (f *os.File, err error) {
	err = AsCaller(func() error {
		f, err = regularfile.Open(path)
		return err
	})
	return f, err
}

// OpenAsOwner opens a file in a directory that may be the owner's of the data: as this user, or as root if nobody else
// can replace the file. So what the owner has put there in its place is not read as root.
func OpenAsOwner(path string) (*os.File, error) {
	f, err := regularfile.Open(path)
	if !Acting() || !errors.Is(err, fs.ErrPermission) {
		return f, err
	}
	var w Walk
	walkErr := AsCaller(func() (err error) {
		w, err = WalkTo(path)
		return err
	})
	if walkErr != nil || w.Other != "" || w.Writable != "" {
		return nil, fmt.Errorf("%w; give the file and the directories above it to root, or let the owner of the data "+
			"directory read it", err)
	}
	return OpenNamed(path)
}

// maxNamed is how long a file that is read whole may be, in bytes. Bundles of all authorities have less than a MiB.
const maxNamed = 4 << 20

// ReadNamed reads a file that the operator has named. It may be another user's.
func ReadNamed(path string) (text []byte, err error) {
	err = AsCaller(func() error {
		text, err = regularfile.ReadUpTo(path, maxNamed)
		return err
	})
	return text, err
}
