// Package outfile writes output files that an operator names, such as exports and backups.
//
// A file gets its name only when it is complete and on disk, so a crash leaves no partial file of that name. An
// existing file is replaced only if the operator allows it.
//
// Write writes a temporary file in the same directory and publishes it. Callers that write the file themselves use
// Publish.
//
// The package does not write the files of an installation: packages atomicfile and keyfile do.
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

// Publish durably renames temp, which is complete and on disk, to path. Without replace, it fails if path exists.
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

// Write creates a file with mode 0600 as the user who started the command. It calls write as the owner of the data,
// because write reads the store. Without replace, it fails if path exists.
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
