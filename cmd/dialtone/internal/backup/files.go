package backup

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"dialtone/cmd/dialtone/internal/installation"
	"dialtone/cmd/dialtone/internal/keys"
	"dialtone/cmd/dialtone/internal/runas"
	"dialtone/internal/archive"
	"dialtone/internal/mail/pickup"
	"dialtone/internal/mailmsg"
	"dialtone/internal/secret"
	"dialtone/internal/secret/keyfile"
)

// addFiles adds everything to the archive: the database unless it is nil, the configuration, keys and messages.
func (b *backup) addFiles(database *os.File) error {
	if database != nil {
		info, err := database.Stat()
		if err != nil {
			return err
		}
		shown := b.bar.Reader(b.ctx, database, "write the store", info.Size())
		if err := b.out.Add(archive.Database, info.Size(), shown); err != nil {
			return err
		}
	}
	if err := b.addConfiguration(); err != nil {
		return err
	}
	b.noteFiles()
	if b.Keys {
		if err := b.addKeys(); err != nil {
			return err
		}
	}
	dir, err := pickup.Open(b.in.Mail.PickupDir)
	if err != nil {
		return installation.InPickupDir(b.in.Config, err)
	}
	err = dir.EachPickup(func(list []mailmsg.ID) error {
		return b.addMessages(dir.Path(), archive.PickupDir, list, ".eml")
	})
	if err != nil {
		return err
	}
	return dir.EachBadmail(func(list []mailmsg.ID) error {
		return b.addMessages(dir.Badmail(), archive.BadmailDir, list, ".eml", ".txt")
	})
}

// addMessages adds the files of messages. It skips a file that no longer exists, because its message has been sent.
func (b *backup) addMessages(from, to string, list []mailmsg.ID, suffixes ...string) error {
	for _, id := range list {
		for _, suffix := range suffixes {
			path := filepath.Join(from, id.String()+suffix)
			text, err := readMessage(path)
			switch {
			case errors.Is(err, fs.ErrNotExist):
				continue
			case errors.Is(err, errNoMessage):
				b.missing = append(b.missing, path+": it is not a regular file of the size of a message")
				continue
			case err != nil:
				return err
			}
			if err := b.out.Add(to+id.String()+suffix, int64(len(text)), bytes.NewReader(text)); err != nil {
				return err
			}
		}
	}
	return b.ctx.Err()
}

var errNoMessage = errors.New("not a message")

// readMessage reads the file of a message. It does not follow links, because root makes backups, and the user of the
// server could create a link to a file that only root can read. It fails with errNoMessage for anything other than a
// regular file of at most archive.MaxSmall bytes.
func readMessage(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, unix.ELOOP) {
		return nil, errNoMessage
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errNoMessage
	}
	text, err := io.ReadAll(io.LimitReader(f, archive.MaxSmall+1))
	if err == nil && len(text) > archive.MaxSmall {
		err = errNoMessage
	}
	return text, err
}

func (b *backup) addConfiguration() error {
	if b.Configuration == "" {
		b.missing = append(b.missing, "the configuration: it is not in a file, but in the environment and in flags")
		return nil
	}
	text, err := runas.ReadNamed(b.Configuration)
	if err != nil {
		return err
	}
	return b.out.Add(archive.Configuration, int64(len(text)), strings.NewReader(string(text)))
}

// noteFiles notes that the files named in the configuration are not in the archive.
func (b *backup) noteFiles() {
	for _, f := range installation.ConfiguredFiles(b.in.Config) {
		b.missing = append(b.missing, f.Path+" ("+f.Key+"): keep a copy of it")
	}
}

// addKeys adds the keys, including those in the environment.
func (b *backup) addKeys() error {
	for _, k := range keys.Files(b.in.KeySources) {
		var ring *secret.Ring
		err := b.in.InKeys(func() (err error) {
			ring, err = k.Source.Read()
			return err
		})
		if errors.Is(err, keyfile.ErrMissing) && k.Name != "seal.key" {
			continue
		}
		if err != nil {
			return err
		}
		text := ring.Text()
		if err := b.out.Add(archive.KeysDir+k.Name, int64(len(text)), strings.NewReader(text)); err != nil {
			return err
		}
	}
	return nil
}
