package pickup

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"path/filepath"

	"dialtone/internal/mailmsg"
	"dialtone/internal/outbox"
)

func (d *Dir) file(id mailmsg.ID) string { return filepath.Join(d.path, id.String()+published) }

func (d *Dir) temporary(id mailmsg.ID) string {
	return filepath.Join(d.path, "."+id.String()+temporary)
}

// Stage implements outbox.Pickup: the file has no name yet, or a temporary one.
func (d *Dir) Stage(id mailmsg.ID, text []byte) (outbox.StagedMessage, error) {
	if unnamed := d.unnamedFiles(); unnamed != nil {
		file, err := unnamed.CreateUnnamed(d.path, text)
		if err == nil {
			return unnamedFile{d.disk, unnamed, file, d.temporary(id), d.file(id)}, nil
		}
		// The directory may have been moved to another file system since it was probed.
		if !errors.Is(err, errors.ErrUnsupported) {
			return nil, err
		}
	}
	f := temporaryFile{d.disk, d.temporary(id), d.file(id)}
	if err := d.create(f.temporary, text); err != nil {
		f.Discard()
		return nil, err
	}
	return f, nil
}

// unnamedFiles returns the file system if it can create files without a name in this directory,
// otherwise nil. The first call tests that by creating such a file, linking it to a temporary
// name and removing the name: linking can fail even if creating works, since it needs /proc on
// kernels before 6.10 (see system.LinkUnnamed).
func (d *Dir) unnamedFiles() UnnamedFileSystem {
	d.probe.Do(func() {
		unnamed, ok := d.disk.(UnnamedFileSystem)
		if !ok {
			return
		}
		file, err := unnamed.CreateUnnamed(d.path, nil)
		if err != nil {
			return
		}
		var id mailmsg.ID
		rand.Read(id[:])
		name := d.temporary(id)
		if errors.Join(unnamed.LinkUnnamed(file, name), unnamed.CloseUnnamed(file), d.disk.Remove(name)) == nil {
			d.unnamed = unnamed
		}
	})
	return d.unnamed
}

// unnamedFile is a staged message in a file without a name.
type unnamedFile struct {
	disk            FileSystem
	unnamed         UnnamedFileSystem
	file            int
	temporary, name string
}

// Publish implements outbox.StagedMessage.
func (f unnamedFile) Publish() error {
	err := f.unnamed.LinkUnnamed(f.file, f.name)
	if errors.Is(err, fs.ErrExist) {
		err = f.replace()
	}
	// The error of closing is ignored: local file systems report a failed write when writing or
	// syncing.
	f.unnamed.CloseUnnamed(f.file)
	return err
}

// replace gives the file a temporary name and renames it, since a link does not replace another
// file.
func (f unnamedFile) replace() error {
	err := f.unnamed.LinkUnnamed(f.file, f.temporary)
	if errors.Is(err, fs.ErrExist) { // left by a crash between link and rename
		if err = f.disk.Remove(f.temporary); err == nil {
			err = f.unnamed.LinkUnnamed(f.file, f.temporary)
		}
	}
	if err != nil {
		return err
	}
	return temporaryFile{f.disk, f.temporary, f.name}.Publish()
}

// Discard implements outbox.StagedMessage.
func (f unnamedFile) Discard() { f.unnamed.CloseUnnamed(f.file) }

// temporaryFile is a staged message in a file with a temporary name.
type temporaryFile struct {
	disk            FileSystem
	temporary, name string
}

// Publish implements outbox.StagedMessage.
func (f temporaryFile) Publish() error {
	err := f.disk.Rename(f.temporary, f.name)
	if err != nil {
		f.Discard()
	}
	return err
}

// Discard implements outbox.StagedMessage. If it fails to remove the file, Clean does later.
func (f temporaryFile) Discard() { f.disk.Remove(f.temporary) }

// create writes a file, and replaces one that an earlier attempt left behind.
func (d *Dir) create(path string, data []byte) error {
	err := d.disk.Create(path, data)
	if errors.Is(err, fs.ErrExist) {
		if err = d.disk.Remove(path); err == nil {
			err = d.disk.Create(path, data)
		}
	}
	return err
}

// ignoreMissing returns err, or nil if err means that a file does not exist.
func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
