package archive

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"filippo.io/age"
	"filippo.io/age/armor"
)

// Recipients are those who can decrypt an archive.
type Recipients []age.Recipient

// ParseRecipient parses a recipient as it is on a command line: age1…
func ParseRecipient(text string) (age.Recipient, error) {
	list, err := ParseRecipients(strings.NewReader(text))
	if errors.Is(err, ErrPrivate) {
		return nil, err
	}
	if err != nil || len(list) != 1 {
		return nil, fmt.Errorf("%q is not a recipient of age; use the public key that age-keygen printed: age1…", text)
	}
	return list[0], nil
}

// ErrPrivate is returned for a private key in the place of a recipient. No error repeats the key.
var ErrPrivate = errors.New("this is a private key of age, which only restore needs; encrypt to its public key, " +
	"which age-keygen -y prints: age1…")

// ParseRecipients reads recipients, one per line. Empty lines and those that begin with # are
// ignored.
func ParseRecipients(r io.Reader) (Recipients, error) {
	text, err := io.ReadAll(io.LimitReader(r, MaxSmall))
	if err != nil {
		return nil, err
	}
	for line := range bytes.Lines(text) {
		if bytes.HasPrefix(bytes.ToUpper(bytes.TrimSpace(line)), []byte("AGE-SECRET-KEY-")) {
			return nil, ErrPrivate
		}
	}
	return age.ParseRecipients(bytes.NewReader(text))
}

// Encrypt returns a writer that encrypts to all of the recipients. Its Close ends the archive, and
// does not close w.
func Encrypt(w io.Writer, to Recipients) (io.WriteCloser, error) {
	if len(to) == 0 {
		return nil, errors.New("nobody could decrypt the backup")
	}
	return age.Encrypt(w, to...)
}

// ErrEncrypted is returned by Decrypt without identities for an encrypted archive.
var ErrEncrypted = errors.New("the backup is encrypted; give the file with the private key: --identity FILE")

// ErrDatabase is returned by Decrypt for an SQLite database.
var ErrDatabase = fmt.Errorf("%w, but a copy of the database alone, as dialtone backup makes without --archive; "+
	"put it in place as docs/backup.md says, and run dialtone restore --after-database", ErrFormat)

const ageHeader, armorHeader = "age-encryption.org/v1", armor.Header

// Decrypt returns the archive in r, decrypted if it is encrypted. identities is the content of a file as age-keygen
// writes it, or nil.
func Decrypt(r io.Reader, identities io.Reader) (_ io.Reader, encrypted bool, err error) {
	b := bufio.NewReader(r)
	begin, err := b.Peek(len(armorHeader))
	if err != nil && err != io.EOF {
		return nil, false, err
	}
	var from io.Reader = b
	switch {
	case bytes.HasPrefix(begin, []byte(armorHeader)):
		from = armor.NewReader(b)
	case bytes.HasPrefix(begin, []byte("SQLite format 3\x00")):
		return nil, false, ErrDatabase
	case !bytes.HasPrefix(begin, []byte(ageHeader)):
		return b, false, nil
	}
	if identities == nil {
		return nil, true, ErrEncrypted
	}
	keys, err := age.ParseIdentities(identities)
	if err != nil {
		return nil, true, fmt.Errorf("the identities cannot be read: %w; use the file that age-keygen wrote", err)
	}
	plain, err := age.Decrypt(from, keys...)
	if _, ok := errors.AsType[*age.NoIdentityMatchError](err); ok {
		return nil, true, errors.New("the backup is encrypted to others; give the private key of one of its recipients")
	}
	if err != nil {
		return nil, true, broken("%v", err)
	}
	return decrypted{plain}, true, nil
}

// decrypted is the content of an encrypted archive. It reports every error as one of the archive.
type decrypted struct{ r io.Reader }

func (d decrypted) Read(p []byte) (int, error) {
	n, err := d.r.Read(p)
	if err != nil && err != io.EOF {
		err = broken("%v", err)
	}
	return n, err
}
