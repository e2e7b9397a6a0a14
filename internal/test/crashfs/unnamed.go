package crashfs

import (
	"errors"
	"fmt"
)

// CreateUnnamed creates a file without a name, as open(2) with O_TMPFILE does, and returns a handle
// for it. A crash leaves nothing of the file unless LinkUnnamed gave it a name.
func (f *FS) CreateUnnamed(dir string, data []byte) (file int, err error) {
	op, err := f.do(Op{Kind: CreateUnnamed, Path: dir}, func(op *Op) error {
		id, _, _, err := f.disk.find(op.Path)
		if err != nil {
			return err
		}
		op.node = id
		op.newNode = f.disk.next
		return nil
	})
	if err != nil {
		return -1, err
	}
	_, err = f.do(Op{Kind: Write, Path: dir, Data: data, node: op.newNode}, nil)
	if err == nil {
		_, err = f.do(Op{Kind: Chmod, Path: dir}, nil)
	}
	if err != nil {
		return -1, errors.Join(err, f.CloseUnnamed(op.newNode))
	}
	return op.newNode, nil
}

// LinkUnnamed gives the file a name, which must not exist, as linkat(2) does.
func (f *FS) LinkUnnamed(file int, p string) error {
	_, err := f.do(Op{Kind: LinkUnnamed, Path: p, newNode: file}, f.unnamed)
	return err
}

// CloseUnnamed closes the handle.
func (f *FS) CloseUnnamed(file int) error {
	_, err := f.do(Op{Kind: Close, Path: fmt.Sprintf("unnamed file %d", file)}, nil)
	return err
}
