package main

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

// errExists is the error for a file that exists and may not be replaced.
func errExists(path string) error {
	return fault.New(fault.Conflict, "%s exists; choose another name, or add --force to replace it", path)
}

// publish gives a complete file its name, durably. With replace, there may be a file of that name.
func publish(temp, path string, replace bool) error {
	var err error
	if replace {
		err = os.Rename(temp, path)
	} else if err = os.Link(temp, path); errors.Is(err, fs.ErrExist) {
		return errExists(path)
	}
	if err != nil {
		return err
	}
	return atomicfile.SyncDir(filepath.Dir(path))
}

// writePrivate creates a file as a whole, with mode 0600, as the user who has started the command. write reads the
// store. With replace, there may be a file of that name.
func writePrivate(path string, replace bool, write func(io.Writer) error) error {
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
		return publish(temp.Name(), path, replace)
	})
}
