package pickup

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"dialtone/internal/delivery"
	"dialtone/internal/mailmsg"
)

var _ delivery.Files = (*Directory)(nil)

const (
	badmail = "badmail"
	reason  = ".txt"
)

func (d *Directory) file(id mailmsg.ID) string { return filepath.Join(d.path, id.String()+published) }

// Badmail is the directory of messages that failed. It is made when the first does.
func (d *Directory) Badmail() string { return filepath.Join(filepath.Dir(d.path), badmail) }

func (d *Directory) bad(id mailmsg.ID, ending string) string {
	return filepath.Join(d.Badmail(), id.String()+ending)
}

// idOf is the message that a file is, by its name.
func idOf(name string) (id mailmsg.ID, ok bool) {
	text, ok := strings.CutSuffix(name, published)
	if !ok || len(text) != 2*len(id) || strings.ToLower(text) != text {
		return id, false
	}
	_, err := hex.Decode(id[:], []byte(text))
	return id, err == nil
}

// Message implements delivery.Box.
func (d *Directory) Message(id mailmsg.ID) ([]byte, error) {
	b, err := d.disk.ReadFile(d.file(id))
	if !errors.Is(err, fs.ErrNotExist) {
		return b, err
	}
	d.moving.Lock()
	defer d.moving.Unlock()
	b, err = d.disk.ReadFile(d.bad(id, published))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, delivery.ErrNoFile
	} else if err != nil {
		return nil, err
	}
	dr := draft{disk: d.disk, part: filepath.Join(d.path, "."+id.String()+staged), name: d.file(id)}
	if err := d.create(dr.part, b); err != nil {
		return nil, err
	}
	if err := dr.Publish(); err != nil {
		return nil, err
	}
	if err := d.disk.Sync(d.path); err != nil {
		return nil, err
	}
	return b, d.removeBad(id)
}

// Peek is the bytes of a message, wherever it lies; nothing is moved. It fails with delivery.ErrNoFile.
func (d *Directory) Peek(id mailmsg.ID) ([]byte, error) {
	for _, path := range []string{d.file(id), d.bad(id, published)} {
		if b, err := d.disk.ReadFile(path); !errors.Is(err, fs.ErrNotExist) {
			return b, err
		}
	}
	return nil, delivery.ErrNoFile
}

// Remove implements delivery.Box.
func (d *Directory) Remove(id mailmsg.ID) error {
	err := d.disk.Remove(d.file(id))
	if errors.Is(err, fs.ErrNotExist) {
		return d.removeBad(id)
	}
	return err
}

func (d *Directory) removeBad(id mailmsg.ID) error {
	return errors.Join(gone(d.disk.Remove(d.bad(id, published))), gone(d.disk.Remove(d.bad(id, reason))))
}

// gone takes the absence of a file for its removal.
func gone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Condemn implements delivery.Box. It copies, since badmail may lie on another file system, and the file is gone from one place only
// when it is on the disk in the other.
func (d *Directory) MoveToBadmail(id mailmsg.ID, why string) error {
	d.moving.Lock()
	defer d.moving.Unlock()
	b, err := d.disk.ReadFile(d.file(id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	if err := d.disk.MakeDir(d.Badmail()); err != nil {
		return err
	}
	text := fmt.Sprintf("%s\n\nTo send it again: dialtone mail retry %s\nTo be rid of it:  dialtone mail discard %s\n", why, id, id)
	if err := errors.Join(d.create(d.bad(id, reason), []byte(text)), d.create(d.bad(id, published), b)); err != nil {
		return err
	}
	if err := d.disk.Sync(d.Badmail()); err != nil {
		return err
	}
	return d.disk.Remove(d.file(id))
}

// create makes a file anew, also where an earlier try left one.
func (d *Directory) create(path string, data []byte) error {
	err := d.disk.Create(path, data)
	if errors.Is(err, fs.ErrExist) {
		if err = d.disk.Remove(path); err == nil {
			err = d.disk.Create(path, data)
		}
	}
	return err
}

// Files implements delivery.Box.
func (d *Directory) EachPickup(f func([]mailmsg.ID) error) error { return d.messages(d.path, f) }

// Condemned implements delivery.Box.
func (d *Directory) EachBadmail(f func([]mailmsg.ID) error) error {
	return gone(d.messages(d.Badmail(), f))
}

func (d *Directory) messages(path string, f func([]mailmsg.ID) error) error {
	return d.disk.Walk(path, func(entries []fs.DirEntry) error {
		var list []mailmsg.ID
		for _, e := range entries {
			if id, ok := idOf(e.Name()); ok {
				list = append(list, id)
			}
		}
		return f(list)
	})
}

// Link implements delivery.Box.
func (d *Directory) TokenHash(id mailmsg.ID) ([32]byte, error) {
	m, err := d.read(id.String() + published)
	if errors.Is(err, fs.ErrNotExist) {
		return [32]byte{}, delivery.ErrNoFile
	} else if err != nil {
		return [32]byte{}, err
	}
	token, ok := mailmsg.Token(m.Text)
	if !ok {
		return [32]byte{}, errors.New("there is no link in it")
	}
	return token.Hash(), nil
}

// Load is how many published messages lie in the directory, whoever is to send them, and when the oldest came; zero where none does.
func (d *Directory) Load() (files int, oldest time.Time, err error) {
	err = d.disk.Walk(d.path, func(entries []fs.DirEntry) error {
		for _, e := range entries {
			if !strings.HasSuffix(e.Name(), published) {
				continue
			}
			info, err := e.Info()
			if errors.Is(err, fs.ErrNotExist) {
				continue
			} else if err != nil {
				return err
			}
			files++
			if at := info.ModTime(); oldest.IsZero() || at.Before(oldest) {
				oldest = at
			}
		}
		return nil
	})
	return files, oldest, err
}
