// Package mailmsg builds the messages that are sent to people.
//
// # Guarantees
//
// An activation message goes to an address that anyone could have typed, so it may reach a
// stranger. Nothing that the sender of the form chose (user name, display name) appears in it; the
// only thing taken from the form is the language. Its text is true for every way in which a
// tenant's accounts are activated. Messages about changes of an account say its user name (see
// Link.User).
//
// A message has one link for its purpose, whose URL is also shown to be copied, and the
// operator's links. It has a text and an HTML part (multipart/alternative, RFC 2046 section
// 5.1.4).
//
// The HTML loads nothing, not even the tenant's logo, so nobody learns that it was read, and
// nothing is missing if a mail program blocks pictures. It has light colours, and dark ones for
// mail programs that support them. It uses tables with inline styles, which Outlook and Gmail
// display correctly.
//
// Headers ask mail programs not to answer automatically. A message that a person has requested
// again has a different subject and refers to no other message, so that no mail program hides
// it in a thread.
//
// A message that a crash lost is written again with the same bytes and the same Message-ID, so that
// a mail system that received both can drop one. Therefore everything in it, including the boundary
// between its parts, is derived from the Message.
//
// # Encoding
//
// Scripts read the pickup directory. ASCII text, such as the English text of most platforms, is
// sent as 7bit, so its link is on one line. HTML is always base64, so that a search finds no
// second link. Other text uses the shorter of quoted-printable and base64.
//
// # Words
//
// The words come from package i18n. An operator can replace the message of a language with two
// templates, for text and HTML (Load). They are checked when the program starts.
//
// # Cost
//
// The messages of two signups differ in the receiver, the ID, the date and the token of the
// link. So Templates.Bytes composes and encodes the built-in message once for many signups, and
// fills these in.
package mailmsg

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"mime"
	"net/mail"
	"strings"
	"time"

	"dialtone/internal/i18n"
)

// ID identifies a message, in its Message-ID and in the pickup directory.
type ID [16]byte

func (id ID) String() string { return hex.EncodeToString(id[:]) }

// Message is one message to one person.
type Message struct {
	ID       ID
	Domain   string // of the Message-ID
	FromName string
	From     string
	ReplyTo  string // empty for none
	To       string
	Date     time.Time
	Lang     i18n.Tag // or empty
	Subject  string
	Text     string // lines end with \n
	HTML     string // the same content, or empty for a message without HTML
}

// errHeader is caused by a bug of the caller, which must check header values before it builds a message.
var errHeader = errors.New("message header has a control character, or an address is not ASCII")

// Bytes returns the message in the format of RFC 5322, with CRLF line ends, as 7-bit text.
func (m Message) Bytes() ([]byte, error) {
	p, err := m.prepare("")
	if err != nil {
		return nil, err
	}
	return p.fill(m.ID, m.To, m.Date, "")
}

// prepared is a message without the values that differ between messages of one kind to
// different people: the ID, the receiver, the date, and the token of the link. It is immutable.
type prepared struct {
	from    string // the fields between Date and the receiver
	subject string // the fields between the receiver and the ID
	domain  string // the fields between the ID and the fields of the content
	parts   []part
	token   string // the placeholder of the token in parts; empty if parts contain the final token
	size    int    // approximate size of the message
}

// prepare prepares the message. Its ID, receiver and date are not used. If token is not empty,
// fill replaces it with another token of the same length.
func (m Message) prepare(token string) (*prepared, error) {
	if err := m.check(); err != nil {
		return nil, err
	}
	from := m.From
	if m.FromName != "" {
		from = foldable((&mail.Address{Name: m.FromName, Address: m.From}).String())
	}
	p := &prepared{token: token, size: 1000 + (len(m.Text)+len(m.HTML))*7/5}
	p.from = "\r\nFrom: " + from
	if m.ReplyTo != "" {
		p.from += "\r\nReply-To: " + m.ReplyTo
	}
	p.from += "\r\nTo: "
	p.subject = "\r\nSubject: " + foldable(mime.QEncoding.Encode("utf-8", m.Subject)) + "\r\nMessage-ID: <"
	p.domain = "@" + m.Domain + ">\r\n" +
		"Auto-Submitted: auto-generated\r\n" + // RFC 3834 section 5
		"X-Auto-Response-Suppress: All\r\n"
	if m.Lang != "" {
		p.domain += "Content-Language: " + string(m.Lang) + "\r\n"
	}
	p.domain += "MIME-Version: 1.0\r\n"
	p.parts = []part{newPart("text/plain; charset=utf-8", encodingOf(m.Text), m.Text, token)}
	if m.HTML != "" {
		p.parts = append(p.parts, newPart("text/html; charset=utf-8", "base64", m.HTML, token))
	}
	return p, nil
}

// fill returns the bytes of a prepared message.
func (p *prepared) fill(id ID, to string, date time.Time, token string) ([]byte, error) {
	if err := checkAddress(to); err != nil {
		return nil, err
	}
	b := bytes.NewBuffer(make([]byte, 0, p.size))
	write := func(texts ...string) {
		for _, text := range texts {
			b.WriteString(text)
		}
	}
	name := id.String()
	write("Date: ", date.UTC().Format("Mon, 02 Jan 2006 15:04:05 +0000"), p.from, to, p.subject, name, p.domain)
	if len(p.parts) == 1 {
		part := p.parts[0]
		write("Content-Type: ", part.contentType, "\r\nContent-Transfer-Encoding: ", part.encoding, "\r\n\r\n")
		part.write(b, p.token, token)
		return b.Bytes(), nil
	}
	// RFC 2046 section 5.1.1. No encoding produces "=_", and no text contains the ID.
	write(`Content-Type: multipart/alternative; boundary="=_`, name, "\"\r\n")
	for _, part := range p.parts {
		write("\r\n--=_", name, "\r\nContent-Transfer-Encoding: ", part.encoding,
			"\r\nContent-Type: ", part.contentType, "\r\n\r\n")
		part.write(b, p.token, token)
	}
	write("\r\n--=_", name, "--\r\n")
	return b.Bytes(), nil
}

// check refuses values that would break out of a header.
func (m Message) check() error {
	for _, s := range []string{m.FromName, string(m.Lang), m.Subject} {
		if strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return errHeader
		}
	}
	if m.ReplyTo != "" {
		if err := checkAddress(m.ReplyTo); err != nil {
			return err
		}
	}
	return cmp.Or(checkAddress(m.From), checkAddress("id@"+m.Domain))
}

func checkAddress(address string) error {
	if strings.ContainsFunc(address, func(r rune) bool { return r < ' ' || r > '~' }) {
		return errHeader
	}
	if a, err := mail.ParseAddress(address); err != nil || a.Address != address || a.Name != "" {
		return fmt.Errorf("message header: %s is not a plain e-mail address", strings.ToValidUTF8(address, "?"))
	}
	return nil
}

// foldable puts each encoded word of a header on its own line (RFC 2047 section 2).
func foldable(encoded string) string { return strings.ReplaceAll(encoded, "?= =?", "?=\r\n =?") }
