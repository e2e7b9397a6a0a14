// Package outfile writes files that an operator has named.
//
// A file gets its name when it is complete and on disk. A file of that name is replaced only if the operator wants it.
//
// The package does not write files of an installation: packages atomicfile and keyfile do.
package outfile

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"dialtone/cmd/dialtone/internal/runas"
	"dialtone/internal/atomicfile"
	"dialtone/internal/fault"
)

// ExistsError returns the error for a file that exists and may not be replaced.
func ExistsError(path string) error {
	return fault.New(fault.Conflict, "%s exists; choose another name, or add --force to replace it", path)
}

// Publish gives a complete file its name, durably. With replace, there may be a file of that name.
func Publish(temp, path string, replace bool) error {
	var err error
	if replace {
		err = os.Rename(temp, path)
	} else if err = os.Link(temp, path); errors.Is(err, fs.ErrExist) {
		return ExistsError(path)
	}
	if err != nil {
		return err
	}
	return atomicfile.SyncDir(filepath.Dir(path))
}

// Write creates a file as a whole, with mode 0600, as the user who has started the command. write reads the
// store. With replace, there may be a file of that name.
func Write(path string, replace bool, write func(io.Writer) error) error {
	return runas.AsCaller(func() error {
		temp, err := atomicfile.CreateTemp(path, ".accounts-*")
		if err != nil {
			return err
		}
		defer os.Remove(temp.Name())
		defer temp.Close()
		const mode = 0o600
		err = runas.AsOwner(func() error { return write(temp) })
		if err := errors.Join(temp.Chmod(mode), err, temp.Sync()); err != nil {
			return err
		}
		return Publish(temp.Name(), path, replace)
	})
}
