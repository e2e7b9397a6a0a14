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
	"dialtone/internal/secret"
)

var _ delivery.Files = (*Dir)(nil)

const (
	badmail = "badmail"
	reason  = ".txt"
)

// Badmail returns the path of the directory of messages that could not be sent. It is created
// when the first such message is moved there.
func (d *Dir) Badmail() string { return filepath.Join(filepath.Dir(d.path), badmail) }

func (d *Dir) bad(id mailmsg.ID, suffix string) string {
	return filepath.Join(d.Badmail(), id.String()+suffix)
}

// parseName returns the ID of the message whose published file has this name.
func parseName(name string) (id mailmsg.ID, ok bool) {
	text, ok := strings.CutSuffix(name, published)
	if !ok || len(text) != 2*len(id) || strings.ToLower(text) != text {
		return id, false
	}
	_, err := hex.Decode(id[:], []byte(text))
	return id, err == nil
}

// Message implements delivery.Files.
func (d *Dir) Message(id mailmsg.ID) ([]byte, error) {
	b, err := d.disk.ReadFile(d.file(id))
	if !errors.Is(err, fs.ErrNotExist) {
		return b, err
	}
	d.moving.Lock()
	defer d.moving.Unlock()
	b, err = d.disk.ReadFile(d.bad(id, published))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, delivery.ErrNoFile
	}
	if err != nil {
		return nil, err
	}
	err = d.durably(d.path, func() error {
		staged, err := d.Stage(id, b)
		if err != nil {
			return err
		}
		return staged.Publish()
	})
	if err != nil {
		return nil, err
	}
	return b, d.removeBad(id)
}

// Peek implements delivery.FilePeeker.
func (d *Dir) Peek(id mailmsg.ID) ([]byte, error) {
	for _, path := range []string{d.file(id), d.bad(id, published)} {
		if b, err := d.disk.ReadFile(path); !errors.Is(err, fs.ErrNotExist) {
			return b, err
		}
	}
	return nil, delivery.ErrNoFile
}

// Remove implements delivery.Files.
func (d *Dir) Remove(id mailmsg.ID) error {
	err := d.disk.Remove(d.file(id))
	if errors.Is(err, fs.ErrNotExist) {
		return d.removeBad(id)
	}
	return err
}

func (d *Dir) removeBad(id mailmsg.ID) error {
	return errors.Join(
		ignoreMissing(d.disk.Remove(d.bad(id, published))),
		ignoreMissing(d.disk.Remove(d.bad(id, reason))),
	)
}

// MoveToBadmail implements delivery.Files. It copies the message, since badmail may be on another
// file system, and removes the original once the copy is durable.
func (d *Dir) MoveToBadmail(id mailmsg.ID, why string) error {
	d.moving.Lock()
	defer d.moving.Unlock()
	b, err := d.disk.ReadFile(d.file(id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := d.disk.MakeDir(d.Badmail()); err != nil {
		return err
	}
	text := fmt.Sprintf(
		"%s\n\nTo send it again: dialtone mail retry %s\nTo be rid of it:  dialtone mail discard %s\n",
		why, id, id)
	err = d.durably(d.Badmail(), func() error {
		return errors.Join(
			d.create(d.bad(id, reason), []byte(text)),
			d.create(d.bad(id, published), b),
		)
	})
	if err != nil {
		return err
	}
	return d.disk.Remove(d.file(id))
}

// durably makes durable what write writes to a directory.
func (d *Dir) durably(dir string, write func() error) error {
	// This has a Syncer of its own, so that d.syncer still reports failures to Sync.
	s, err := d.disk.NewSyncer(dir)
	if err != nil {
		return err
	}
	defer s.Close()
	if err := write(); err != nil {
		return err
	}
	return s.Sync()
}

// EachPickup implements delivery.Files.
func (d *Dir) EachPickup(f func([]mailmsg.ID) error) error { return d.messages(d.path, f) }

// EachBadmail implements delivery.Files.
func (d *Dir) EachBadmail(f func([]mailmsg.ID) error) error {
	return ignoreMissing(d.messages(d.Badmail(), f))
}

func (d *Dir) messages(path string, f func([]mailmsg.ID) error) error {
	return d.disk.Walk(path, func(entries []fs.DirEntry) error {
		var list []mailmsg.ID
		for _, e := range entries {
			if id, ok := parseName(e.Name()); ok {
				list = append(list, id)
			}
		}
		return f(list)
	})
}

// Token implements delivery.Files.
func (d *Dir) Token(id mailmsg.ID) (secret.Token, error) {
	m, err := d.read(id.String() + published)
	if errors.Is(err, fs.ErrNotExist) {
		return secret.Token{}, delivery.ErrNoFile
	}
	if err != nil {
		return secret.Token{}, err
	}
	token, ok := mailmsg.Token(m.Text)
	if !ok {
		return secret.Token{}, errors.New("the message has no link")
	}
	return token, nil
}

// Load returns the number of published messages in the directory, and when the oldest was written
// (the zero time if there is none).
func (d *Dir) Load() (files int, oldest time.Time, err error) {
	err = d.disk.Walk(d.path, func(entries []fs.DirEntry) error {
		for _, e := range entries {
			if !strings.HasSuffix(e.Name(), published) {
				continue
			}
			info, err := e.Info()
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
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
