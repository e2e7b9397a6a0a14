// Package pickup stores outgoing messages as files in an SMTP pickup directory. A mail server's
// pickup agent takes them from there, or this server's own queue does (package delivery).
//
// It guarantees:
//   - A file whose name ends in .eml is complete as long as it has that name.
//   - A message has one name, its random ID. Publishing it again atomically replaces the file
//     with the same bytes. The name reveals nothing about a person.
//   - Message files have mode 0640 regardless of the umask: they contain activation links,
//     which are only for the owner and for the mail server's group.
//   - Sync makes all files and names of the directory durable. Before Sync, a power failure can
//     lose a published message or its content; until then the caller must be able to write the
//     message again (package outbox).
//
// On Linux, a message is written to a file without a name (O_TMPFILE), which linkat then gives its
// name. If the process ends in between, the kernel frees the file. If the file system does not
// support such files, and on other systems, a message is written under a temporary name and
// renamed. These names are used:
//
//	<id>.eml     a published message
//	.<id>.part   a message that is being written, or is about to replace another; agents ignore it
//
//	../badmail/<id>.eml, <id>.txt    a message that could not be sent, and the reason
//
// The package does not decide what is sent, when, or how often.
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
	temporary = ".part"
)

// Dir is a pickup directory. It is safe for concurrent use.
type Dir struct {
	disk FileSystem
	path string
	// unnamed is disk if it can create files without a name in this directory, otherwise nil. Use
	// unnamedFiles to read it.
	unnamed UnnamedFileSystem
	probe   sync.Once
	// syncer is older than every message that this Dir has published.
	syncer Syncer
	// moving is held while a message is moved to badmail or back.
	moving sync.Mutex
}

var _ outbox.Pickup = (*Dir)(nil)

// Open opens the pickup directory at path. A missing directory is created with access for its
// owner and group: the members of the group are mail agents.
func Open(path string) (*Dir, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	return OpenOn(system{}, path)
}

// Look is like Open, but changes nothing, and nothing can be synced. It fails with fs.ErrNotExist if the
// directory does not exist.
func Look(path string) (*Dir, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	_, err = os.Stat(path)
	return &Dir{disk: system{}, path: path}, err
}

// OpenOn is like Open, on the given file system. The path must be absolute.
func OpenOn(disk FileSystem, path string) (*Dir, error) {
	if err := disk.MakeDir(path); err != nil {
		return nil, err
	}
	s, err := disk.NewSyncer(path)
	return &Dir{disk: disk, path: path, syncer: s}, err
}

// Path returns the absolute path of the directory.
func (d *Dir) Path() string { return d.path }

// Readable reports whether every user of the machine can list the directory.
func (d *Dir) Readable() bool {
	info, err := os.Stat(d.path)
	return err == nil && info.Mode().Perm()&0o005 != 0
}

// Clean removes files that an earlier run left under temporary names. The server that owns the
// directory must call it before its first signup.
func (d *Dir) Clean() error {
	entries, err := d.disk.List(d.path)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if isTemporary(e.Name()) {
			if err := ignoreMissing(d.disk.Remove(filepath.Join(d.path, e.Name()))); err != nil {
				return err
			}
		}
	}
	return nil
}

func isTemporary(name string) bool {
	id, ok := strings.CutSuffix(name, temporary)
	return ok && len(id) == 1+32 && id[0] == '.' && strings.Trim(id[1:], "0123456789abcdef") == ""
}

// Withdraw implements outbox.Pickup.
func (d *Dir) Withdraw(id mailmsg.ID) error { return ignoreMissing(d.disk.Remove(d.file(id))) }

// Sync implements outbox.Pickup.
func (d *Dir) Sync() error { return d.syncer.Sync() }

// Message is a published message, decoded for the page of a development server.
type Message struct {
	File, From, To, Subject, Text, HTML string
	Date                                time.Time
}

// Messages returns up to limit published messages, newest first. Files that are not messages are
// left out.
func (d *Dir) Messages(limit int) ([]Message, error) {
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
			if info, err := e.Info(); err == nil { // otherwise an agent took the file after it was listed
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

func (d *Dir) read(name string) (Message, error) {
	b, err := d.disk.ReadFile(filepath.Join(d.path, name))
	if err != nil {
		return Message{}, err
	}
	m, err := mail.ReadMessage(bytes.NewReader(b))
	if err != nil {
		return Message{}, err
	}
	text, html, err := mailmsg.Parts(m)
	if err != nil {
		return Message{}, err
	}
	date, err := m.Header.Date()
	return Message{
		File: name, From: m.Header.Get("From"), To: m.Header.Get("To"),
		Subject: mailmsg.Decode(m.Header.Get("Subject")), Text: text, HTML: html, Date: date,
	}, err
}

// Ready returns nil if messages can be staged. It stages one of the usual size and discards it.
func (d *Dir) Ready() error {
	var id mailmsg.ID
	rand.Read(id[:])
	staged, err := d.Stage(id, bytes.Repeat([]byte("A readiness probe.\r\n"), 4096/20))
	if err == nil {
		staged.Discard()
	}
	return err
}

// Each implements account.MessageReader.
func (d *Dir) Each(f func(file, text string, err error)) error {
	entries, err := d.disk.List(d.path)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), published) {
			continue
		}
		m, err := d.read(e.Name())
		if errors.Is(err, fs.ErrNotExist) { // an agent took the file after it was listed
			continue
		}
		f(e.Name(), m.Text, err)
	}
	return nil
}
