// Package letter says what a message to a person says.
//
// A message goes to whatever address somebody typed, so it may reach a stranger: nothing that the sender of the form chose
// (user name, displayed name) stands in it, in any part. It is short, plain text, with one link. It carries the headers
// that keep mail programs from answering it.
//
// The same letter always gives the same bytes. So a message that a crash swallowed is written again as it was, under the
// same Message-ID, and a mail system that got both can drop one.
package letter

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"mime"
	"mime/quotedprintable"
	"net/mail"
	"strings"
	"time"

	"dialtone/internal/secret"
	"dialtone/internal/tenant"
)

// ID names a message, in its Message-ID and in the pickup directory.
type ID [16]byte

func (id ID) String() string { return hex.EncodeToString(id[:]) }

// Letter is one message to one person.
type Letter struct {
	ID       ID
	Domain   string // of the Message-ID
	FromName string
	From     string
	To       string
	Date     time.Time
	Subject  string
	Text     string // lines end with \n
}

// linkPath is what a link has between the tenant's public URL and the token (the published contract).
const linkPath = "/activate.ashx?token="

// Activation is the message with an account's one-time link, which is good until expires.
func Activation(t *tenant.Tenant, id ID, to string, token secret.Token, date, expires time.Time) Letter {
	return Letter{
		ID:       id,
		Domain:   t.Host,
		FromName: t.Product,
		From:     t.Sender(),
		To:       to,
		Date:     date,
		Subject:  "Activate your account at " + t.Name(),
		Text: "Somebody, we hope you, asked for an account at " + t.Name() + "\n" +
			"with this e-mail address.\n" +
			"\n" +
			"To activate the account, open this link:\n" +
			"\n" +
			t.PublicURL + linkPath + token.Text() + "\n" +
			"\n" +
			"It works once, until " + expires.UTC().Format("Monday, 2 January 2006, 15:04") + " UTC.\n" +
			"Then sign in with the user name and password that you chose.\n" +
			"\n" +
			"If you did not ask for this, do nothing: without the link the account\n" +
			"stays closed, and it is removed on that day.\n",
	}
}

// errHeader is a bug of the caller: what goes into a header was to be checked long before.
var errHeader = errors.New("letter: control character in a header, or an address that is not ASCII")

// Bytes is the message by RFC 5322: CRLF, 7-bit where the text allows it and quoted-printable otherwise.
func (l Letter) Bytes() ([]byte, error) {
	for _, s := range []string{l.Domain, l.FromName, l.From, l.To, l.Subject} {
		if strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return nil, errHeader
		}
	}
	for _, address := range []string{l.From, l.To, "id@" + l.Domain} {
		if strings.ContainsFunc(address, func(r rune) bool { return r > '~' }) {
			return nil, errHeader
		}
		if a, err := mail.ParseAddress(address); err != nil || a.Address != address || a.Name != "" {
			return nil, fmt.Errorf("letter: %s is not one plain address", strings.ToValidUTF8(address, "?"))
		}
	}
	var b bytes.Buffer
	b.Grow(1024 + len(l.Text))
	header := func(name, value string) { b.WriteString(name + ": " + value + "\r\n") }
	header("Date", l.Date.UTC().Format("Mon, 02 Jan 2006 15:04:05 +0000"))
	from := l.From
	if l.FromName != "" {
		from = foldable((&mail.Address{Name: l.FromName, Address: l.From}).String())
	}
	header("From", from)
	header("To", l.To)
	header("Subject", foldable(mime.QEncoding.Encode("utf-8", l.Subject)))
	header("Message-ID", "<"+l.ID.String()+"@"+l.Domain+">")
	header("MIME-Version", "1.0")
	header("Content-Type", "text/plain; charset=utf-8")
	plain := sevenBit(l.Text)
	if plain {
		header("Content-Transfer-Encoding", "7bit")
	} else {
		header("Content-Transfer-Encoding", "quoted-printable")
	}
	header("Auto-Submitted", "auto-generated") // RFC 3834 §5
	header("X-Auto-Response-Suppress", "All")
	b.WriteString("\r\n")
	text := strings.ReplaceAll(l.Text, "\n", "\r\n")
	if plain {
		b.WriteString(text)
		return b.Bytes(), nil
	}
	w := quotedprintable.NewWriter(&b)
	if _, err := w.Write([]byte(text)); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// foldable puts each encoded word of a long header on a line of its own (RFC 2047 §2).
func foldable(encoded string) string { return strings.ReplaceAll(encoded, "?= =?", "?=\r\n =?") }

// sevenBit reports whether the text can be sent as it is (RFC 5322 §2.1.1, RFC 2045 §2.7).
func sevenBit(text string) bool {
	line := 0
	for i := range len(text) {
		switch c := text[i]; {
		case c == '\n':
			line = 0
		case c < ' ' || c >= 0x7f:
			return false
		default:
			if line++; line > 998 {
				return false
			}
		}
	}
	return true
}
