// Package mailmsg builds the messages that are sent to people.
//
// # Guarantees
//
// A message goes to an address that anyone could have typed, so it may reach a stranger. Nothing
// that the sender of the form chose (user name, display name) appears in it; the only thing taken
// from the form is the language. It has one link to activate the account, whose address is also
// there to be copied, and the operator's links. It has a text and an HTML part
// (multipart/alternative, RFC 2046 section 5.1.4). What it says is true however the tenant's
// accounts are activated.
//
// The HTML loads nothing, not even the tenant's logo, so nobody learns that it was read, and
// nothing is missing where a mail program blocks pictures. It has light colours, and dark ones for
// mail programs that ask. It is built of tables with inline styles, which Outlook and Gmail show as
// they are meant.
//
// Headers ask mail programs not to answer automatically. A message that a person has asked for
// again has a subject of its own and refers to no other message, so that no mail program hides it
// in a thread.
//
// A message that a crash lost is written again with the same bytes and the same Message-ID, so that
// a mail system that received both can drop one. Therefore everything in it, including the boundary
// between its parts, is derived from the Message.
//
// # Encoding
//
// Scripts read the pickup directory. ASCII text, which English is for most platforms, is sent as
// 7bit, so its link is whole on one line. HTML is always base64, so that a search finds no second
// link. Other text uses the shorter of quoted-printable and base64.
//
// # Words
//
// The words come from package i18n. An operator can replace the message of a language with two
// templates, for text and HTML (Load). They are checked when the program starts.
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

// errHeader means that the caller has a bug: it must check header values before it builds a
// message.
var errHeader = errors.New("message header has a control character, or an address is not ASCII")

// Bytes returns the message in the format of RFC 5322, with CRLF line ends, as 7-bit text.
func (m Message) Bytes() ([]byte, error) {
	if err := m.check(); err != nil {
		return nil, err
	}
	var b bytes.Buffer
	b.Grow(1500 + (len(m.Text)+len(m.HTML))*3/2) // mostly the whole message
	header := func(name, value string) { b.WriteString(name + ": " + value + "\r\n") }
	header("Date", m.Date.UTC().Format("Mon, 02 Jan 2006 15:04:05 +0000"))
	from := m.From
	if m.FromName != "" {
		from = foldable((&mail.Address{Name: m.FromName, Address: m.From}).String())
	}
	header("From", from)
	if m.ReplyTo != "" {
		header("Reply-To", m.ReplyTo)
	}
	header("To", m.To)
	header("Subject", foldable(mime.QEncoding.Encode("utf-8", m.Subject)))
	header("Message-ID", "<"+m.ID.String()+"@"+m.Domain+">")
	header("Auto-Submitted", "auto-generated") // RFC 3834 section 5
	header("X-Auto-Response-Suppress", "All")
	if m.Lang != "" {
		header("Content-Language", string(m.Lang))
	}
	header("MIME-Version", "1.0")
	text := part{"text/plain; charset=utf-8", encodingOf(m.Text), strings.ReplaceAll(m.Text, "\n", "\r\n")}
	if m.HTML == "" {
		header("Content-Type", text.contentType)
		header("Content-Transfer-Encoding", text.encoding)
		b.WriteString("\r\n")
		err := text.write(&b)
		return b.Bytes(), err
	}
	w := multipart.NewWriter(&b)
	// No encoding produces "=_", and no text contains the id.
	if err := w.SetBoundary("=_" + m.ID.String()); err != nil {
		return nil, err
	}
	header("Content-Type", `multipart/alternative; boundary="`+w.Boundary()+`"`)
	b.WriteString("\r\n")
	html := part{"text/html; charset=utf-8", "base64", strings.ReplaceAll(m.HTML, "\n", "\r\n")}
	for _, p := range []part{text, html} {
		to, err := w.CreatePart(textproto.MIMEHeader{
			"Content-Type": {p.contentType}, "Content-Transfer-Encoding": {p.encoding},
		})
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

// check refuses values that would break out of a header.
func (m Message) check() error {
	for _, s := range []string{m.Domain, m.FromName, m.From, m.ReplyTo, m.To, string(m.Lang), m.Subject} {
		if strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return errHeader
		}
	}
	for i, address := range []string{m.From, m.To, "id@" + m.Domain, m.ReplyTo} {
		if i == 3 && address == "" {
			continue
		}
		if strings.ContainsFunc(address, func(r rune) bool { return r > '~' }) {
			return errHeader
		}
		if a, err := mail.ParseAddress(address); err != nil || a.Address != address || a.Name != "" {
			return fmt.Errorf("message header: %s is not a plain e-mail address", strings.ToValidUTF8(address, "?"))
		}
	}
	return nil
}

// foldable puts each encoded word of a header on its own line (RFC 2047 section 2).
func foldable(encoded string) string { return strings.ReplaceAll(encoded, "?= =?", "?=\r\n =?") }
