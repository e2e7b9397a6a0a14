package relay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/textproto"
	"slices"
	"strings"
	"time"

	"github.com/wneessen/go-mail/smtp"

	"dialtone/internal/delivery"
)

// send sends one message and returns the server's answer.
func (c *connection) send(ctx context.Context, from, to string, message []byte) (
	answer string, err error) {
	if strings.ContainsAny(from+to, "\r\n") {
		return "", &delivery.Refusal{
			At: delivery.Rcpt, Code: 553, Text: "an address contains a line break",
		}
	}
	defer c.limit(ctx, c.times.Command)()
	extend := func(d time.Duration) {
		c.raw.SetDeadline(time.Now().Add(d))
		if ctx.Err() != nil { // ctx may have been cancelled just before the line above
			c.raw.SetDeadline(past)
		}
	}
	// SMTPUTF8 is requested only if the message needs it: a server further on may not support it.
	utf8 := !ascii(from, to, headerOf(message))
	begin := c.begin
	if ok, _ := c.client.Extension("PIPELINING"); ok {
		begin = c.beginPipelined
	}
	w, err := begin(from, to, utf8, extend)
	if err != nil {
		return "", err
	}
	extend(c.times.Content)
	if _, err := w.Write(message); err != nil {
		return "", refusal(delivery.Data, err)
	}
	err = w.Close()
	if d, ok := w.(*smtp.DataCloser); ok {
		answer = d.ServerResponse()
	} else if err == nil {
		_, answer, err = c.client.Text.ReadResponse(250)
	}
	if err != nil {
		return "", refusal(delivery.Data, err)
	}
	return answer, nil
}

// begin starts a mail transaction by sending one command at a time. It returns a writer for the
// content. It calls extend before each wait for a reply.
func (c *connection) begin(from, to string, utf8 bool, extend func(time.Duration)) (
	io.WriteCloser, error) {
	c.client.SkipSMTPUTF8(!utf8)
	if err := c.client.Mail("<" + from + ">"); err != nil {
		return nil, refusal(delivery.Mail, err)
	}
	extend(c.times.Command)
	if err := c.client.Rcpt("<" + to + ">"); err != nil {
		return nil, refusal(delivery.Rcpt, err)
	}
	extend(c.times.Command)
	w, err := c.client.Data()
	if err != nil {
		return nil, refusal(delivery.Data, err)
	}
	return w, nil
}

// beginPipelined is begin for a server with PIPELINING (RFC 2920). It needs one round trip instead
// of three. go-mail sends commands one by one but exposes its text connection.
func (c *connection) beginPipelined(from, to string, utf8 bool, extend func(time.Duration)) (
	io.WriteCloser, error) {
	parameters := ""
	if ok, _ := c.client.Extension("8BITMIME"); ok {
		parameters += " BODY=8BITMIME"
	}
	if ok, _ := c.client.Extension("SMTPUTF8"); ok && utf8 {
		parameters += " SMTPUTF8"
	}
	text := c.client.Text
	fmt.Fprintf(text.W, "MAIL FROM:<%s>%s\r\nRCPT TO:<%s>\r\nDATA\r\n", from, parameters, to)
	if err := text.W.Flush(); err != nil {
		return nil, refusal(delivery.Mail, err)
	}
	var first error
	for _, reply := range []struct {
		at   delivery.Step
		code int
	}{{delivery.Mail, 250}, {delivery.Rcpt, 25}, {delivery.Data, 354}} {
		extend(c.times.Command)
		_, _, err := text.ReadResponse(reply.code)
		if err != nil && first == nil {
			first = refusal(reply.at, err)
		}
		if _, negative := errors.AsType[*textproto.Error](err); err != nil && !negative {
			return nil, first
		}
		if err == nil && reply.at == delivery.Data && first != nil {
			// The server refused the sender or recipient, but still waits for content. Send
			// empty content (RFC 2920 section 3.1).
			fmt.Fprint(text.W, ".\r\n")
			text.W.Flush()
			text.ReadResponse(0)
		}
	}
	if first != nil {
		return nil, first
	}
	return text.DotWriter(), nil
}

// reset aborts the mail transaction.
func (c *connection) reset(ctx context.Context) error {
	defer c.limit(ctx, c.times.Command)()
	return c.client.Reset()
}

func ascii(texts ...string) bool {
	return !slices.ContainsFunc(texts, func(t string) bool {
		return strings.ContainsFunc(t, func(r rune) bool { return r >= 0x80 })
	})
}

func headerOf(message []byte) string {
	header, _, _ := bytes.Cut(message, []byte("\r\n\r\n"))
	return string(header)
}
