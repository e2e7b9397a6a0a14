package runas

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"dialtone/internal/regularfile"
)

// OpenNamed opens a file that the operator has named, as the user who started the command.
func OpenNamed(path string) (f *os.File, err error) {
	err = AsCaller(func() error {
		f, err = regularfile.Open(path)
		return err
	})
	return f, err
}

// OpenAsOwner opens a file that may lie in a directory of the owner of the data. It opens the file as that owner, and
// as root only if no other user could replace the file. So the owner cannot make root read a file elsewhere.
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
	if walkErr != nil || w.NonRoot != "" || w.Writable != "" {
		return nil, fmt.Errorf("%w; give the file and the directories above it to root, or let the owner of the data "+
			"directory read it", err)
	}
	return OpenNamed(path)
}

// maxNamed limits the size of a file that is read as a whole, in bytes. A bundle of all public certificate authorities
// is smaller than a MiB.
const maxNamed = 4 << 20

// ReadNamed reads a file that the operator has named, as the user who started the command.
func ReadNamed(path string) (text []byte, err error) {
	err = AsCaller(func() error {
		text, err = regularfile.ReadUpTo(path, maxNamed)
		return err
	})
	return text, err
}
