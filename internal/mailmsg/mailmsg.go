// Package letter says what a message to a person says.
//
// A message goes to whatever address somebody typed, so it may reach a stranger: nothing that the sender of the form chose
// (user name, displayed name) stands in it, in any part; of the form it has the language, which is one of ours. It is short,
// with one link, as plain text and as HTML (multipart/alternative, RFC 2046 §5.1.4), in the person's language. The HTML loads
// nothing, so that nobody is told that it was read, and leaves the colours of page and text to the mail program, which
// may be dark. The header keeps mail programs from answering.
//
// # The same letter, the same bytes
//
// A message that a crash swallowed is written again as it was, under the same Message-ID, and a mail system that got both
// can drop one. So everything in it comes from the letter, the boundary between its parts too.
//
// # A link that programs can read
//
// Scripts read the pickup directory. So a text of ASCII, which English is for a platform with such a name, is sent as it
// is: its link stands whole on a line of its own. The HTML is always base64, where no search for a link finds a second one. Texts of
// other languages have what encoding is shorter, and are for programs that read MIME.
//
// # Words
//
// The words are those of package lang. An operator may replace the message of a language by two templates, of text and of HTML
// (Load), which are tried when the program starts.
package mailmsg

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"mime"
	"mime/multipart"
	"net/mail"
	"net/textproto"
	"strings"
	"time"

	"dialtone/internal/i18n"
)

// ID names a message, in its Message-ID and in the pickup directory.
type ID [16]byte

func (id ID) String() string { return hex.EncodeToString(id[:]) }

// Letter is one message to one person.
type Message struct {
	ID       ID
	Domain   string // of the Message-ID
	FromName string
	From     string
	ReplyTo  string // empty for none
	To       string
	Date     time.Time
	Lang     i18n.Tag // empty for a letter that does not say
	Subject  string
	Text     string // lines end with \n
	HTML     string // the same, or empty for a message of text alone
}

// errHeader is a bug of the caller: what goes into a header was to be checked long before.
var errHeader = errors.New("letter: control character in a header, or an address that is not ASCII")

// Bytes is the message by RFC 5322, with CRLF and in seven bits.
func (l Message) Bytes() ([]byte, error) {
	if err := l.check(); err != nil {
		return nil, err
	}
	var b bytes.Buffer
	b.Grow(1024 + 2*len(l.Text) + 2*len(l.HTML))
	header := func(name, value string) { b.WriteString(name + ": " + value + "\r\n") }
	header("Date", l.Date.UTC().Format("Mon, 02 Jan 2006 15:04:05 +0000"))
	from := l.From
	if l.FromName != "" {
		from = foldable((&mail.Address{Name: l.FromName, Address: l.From}).String())
	}
	header("From", from)
	if l.ReplyTo != "" {
		header("Reply-To", l.ReplyTo)
	}
	header("To", l.To)
	header("Subject", foldable(mime.QEncoding.Encode("utf-8", l.Subject)))
	header("Message-ID", "<"+l.ID.String()+"@"+l.Domain+">")
	header("Auto-Submitted", "auto-generated") // RFC 3834 §5
	header("X-Auto-Response-Suppress", "All")
	if l.Lang != "" {
		header("Content-Language", string(l.Lang))
	}
	header("MIME-Version", "1.0")
	text := part{"text/plain; charset=utf-8", encodingOf(l.Text), strings.ReplaceAll(l.Text, "\n", "\r\n")}
	if l.HTML == "" {
		header("Content-Type", text.contentType)
		header("Content-Transfer-Encoding", text.encoding)
		b.WriteString("\r\n")
		err := text.write(&b)
		return b.Bytes(), err
	}
	w := multipart.NewWriter(&b)
	// Neither of the encodings has an underscore behind an equals sign, and no text knows the id.
	if err := w.SetBoundary("=_" + l.ID.String()); err != nil {
		return nil, err
	}
	header("Content-Type", `multipart/alternative; boundary="`+w.Boundary()+`"`)
	b.WriteString("\r\n")
	html := part{"text/html; charset=utf-8", "base64", strings.ReplaceAll(l.HTML, "\n", "\r\n")}
	for _, p := range []part{text, html} {
		to, err := w.CreatePart(textproto.MIMEHeader{"Content-Type": {p.contentType}, "Content-Transfer-Encoding": {p.encoding}})
		if err != nil {
			return nil, err
		}
		if err := p.write(to); err != nil {
			return nil, err
		}
	}
	err := w.Close()
	return b.Bytes(), err
}

// check refuses what would break out of a header.
func (l Message) check() error {
	for _, s := range []string{l.Domain, l.FromName, l.From, l.ReplyTo, l.To, string(l.Lang), l.Subject} {
		if strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return errHeader
		}
	}
	for i, address := range []string{l.From, l.To, "id@" + l.Domain, l.ReplyTo} {
		if i == 3 && address == "" {
			continue
		}
		if strings.ContainsFunc(address, func(r rune) bool { return r > '~' }) {
			return errHeader
		}
		if a, err := mail.ParseAddress(address); err != nil || a.Address != address || a.Name != "" {
			return fmt.Errorf("letter: %s is not one plain address", strings.ToValidUTF8(address, "?"))
		}
	}
	return nil
}

// foldable puts each encoded word of a long header on a line of its own (RFC 2047 §2).
func foldable(encoded string) string { return strings.ReplaceAll(encoded, "?= =?", "?=\r\n =?") }
