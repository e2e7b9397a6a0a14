// Package pickup is the SMTP pickup directory: messages leave the program as files, and a mail server's pickup agent takes
// them from there.
//
// One message is one file, whole before it has a name that an agent looks for:
//
//	.<id>.part   being written; no agent takes a name that does not end in .eml
//	<id>.eml     published, by a rename within the directory
//
// A server that sends its messages itself (package delivery) takes them from here, and has a second directory beside this one for
// those that failed:
//
//	../badmail/<id>.eml, <id>.txt    the message, and why it failed
//
// The id is the message's own random one, so a name says nothing of a person, two messages never share one, and publishing
// a message again replaces it by the same bytes. Files have mode 0640: they hold activation links, which are for the mail
// server's group and nobody else.
//
// Publishing does not sync each file, which would cost more than everything else in a signup. Sync makes all of the
// directory durable at once; until then the caller keeps what is needed to write a message again (package account).
package pickup

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io/fs"
	"net/mail"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"dialtone/internal/mailmsg"
	"dialtone/internal/outbox"
)

const (
	published = ".eml"
	staged    = ".part"
)

// Directory is one pickup directory. It is safe for concurrent use.
type Directory struct {
	disk FileSystem
	path string
	// moving is held while a message moves to badmail or back.
	moving sync.Mutex
}

var _ outbox.Pickup = (*Directory)(nil)

// Open makes the directory where it is missing, for the owner and the group, whose members are mail agents.
func Open(path string) (*Directory, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	return OpenOn(system{}, path)
}

// OpenOn is Open on a file system other than the system's. The path is absolute.
func OpenOn(disk FileSystem, path string) (*Directory, error) {
	return &Directory{disk: disk, path: path}, disk.MakeDir(path)
}

// Path is the directory's absolute path.
func (d *Directory) Path() string { return d.path }

// Readable reports whether anybody on the machine may list the directory.
func (d *Directory) Readable() bool {
	info, err := os.Stat(d.path)
	return err == nil && info.Mode().Perm()&0o005 != 0
}

// Clean removes what an earlier run staged and did not publish. It is called by the one server of the directory before it
// takes its first signup.
func (d *Directory) Clean() error {
	entries, err := d.disk.List(d.path)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if isStaged(e.Name()) {
			if err := d.disk.Remove(filepath.Join(d.path, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}

func isStaged(name string) bool {
	id, ok := strings.CutSuffix(name, staged)
	return ok && len(id) == 1+32 && id[0] == '.' && strings.Trim(id[1:], "0123456789abcdef") == ""
}

// Stage implements outbox.Pickup.
func (d *Directory) Stage(l mailmsg.Message) (outbox.StagedMessage, error) {
	text, err := l.Bytes()
	if err != nil {
		return nil, err
	}
	dr := draft{
		disk: d.disk,
		part: filepath.Join(d.path, "."+l.ID.String()+staged),
		name: filepath.Join(d.path, l.ID.String()+published),
	}
	err = d.disk.Create(dr.part, text)
	if errors.Is(err, fs.ErrExist) { // an earlier try to write this message again
		dr.Discard()
		err = d.disk.Create(dr.part, text)
	}
	if err != nil {
		dr.Discard()
		return nil, err
	}
	return dr, nil
}

// Withdraw implements outbox.Pickup.
func (d *Directory) Withdraw(id mailmsg.ID) error {
	err := d.disk.Remove(filepath.Join(d.path, id.String()+published))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Sync implements outbox.Pickup.
func (d *Directory) Sync() error { return d.disk.Sync(d.path) }

type draft struct {
	disk       FileSystem
	part, name string
}

func (d draft) Publish() error {
	err := d.disk.Rename(d.part, d.name)
	if err != nil {
		d.Discard()
	}
	return err
}

// Discard has nobody to tell of a failure, and Clean removes what it leaves.
func (d draft) Discard() { d.disk.Remove(d.part) }

// Message is a published message, as the page of a development server shows it.
type Message struct {
	File, From, To, Subject, Text string
	Date                          time.Time
}

// Messages are at most limit published messages, newest first. A file that is no message is left out.
func (d *Directory) Messages(limit int) ([]Message, error) {
	entries, err := d.disk.List(d.path)
	if err != nil {
		return nil, err
	}
	type file struct {
		name string
		at   time.Time
	}
	var files []file
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), published) {
			if info, err := e.Info(); err == nil { // else an agent took it meanwhile
				files = append(files, file{e.Name(), info.ModTime()})
			}
		}
	}
	slices.SortFunc(files, func(a, b file) int { return b.at.Compare(a.at) })
	var list []Message
	for _, f := range files[:min(limit, len(files))] {
		if m, err := d.read(f.name); err == nil {
			list = append(list, m)
		}
	}
	return list, nil
}

func (d *Directory) read(name string) (Message, error) {
	b, err := d.disk.ReadFile(filepath.Join(d.path, name))
	if err != nil {
		return Message{}, err
	}
	m, err := mail.ReadMessage(bytes.NewReader(b))
	if err != nil {
		return Message{}, err
	}
	text, err := mailmsg.Text(m)
	if err != nil {
		return Message{}, err
	}
	date, err := m.Header.Date()
	return Message{
		File: name, From: m.Header.Get("From"), To: m.Header.Get("To"),
		Subject: mailmsg.Decode(m.Header.Get("Subject")), Text: text, Date: date,
	}, err
}

// Ready shows that a message could be staged now: the file that comes and goes is as large as one.
func (d *Directory) Ready() error {
	var id mailmsg.ID
	rand.Read(id[:])
	probe := filepath.Join(d.path, "."+id.String()+staged) // which Clean removes, should we not get to it
	return errors.Join(d.disk.Create(probe, bytes.Repeat([]byte("is there room?\n"), 4096/15)), d.disk.Remove(probe))
}

// Each implements account.Shelf.
func (d *Directory) Each(f func(file, text string, err error)) error {
	entries, err := d.disk.List(d.path)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), published) {
			continue
		}
		m, err := d.read(e.Name())
		if errors.Is(err, fs.ErrNotExist) { // an agent took it meanwhile
			continue
		}
		f(e.Name(), m.Text, err)
	}
	return nil
}
