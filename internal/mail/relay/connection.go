package relay

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/textproto"
	"slices"
	"strings"
	"time"

	"github.com/wneessen/go-mail/smtp"

	"dialtone/internal/delivery"
)

// connection is a connection that is logged in.
type connection struct {
	raw       net.Conn
	client    *smtp.Client
	times     Times
	idleTimer *time.Timer
}

// connect connects, encrypts and logs in.
func (r *Relay) connect(ctx context.Context) (*connection, error) {
	ctx, cancel := context.WithTimeout(ctx, r.config.Times.Connect)
	defer cancel()
	raw, err := new(net.Dialer).DialContext(ctx, "tcp", r.config.Address)
	if err != nil {
		return nil, refusal(delivery.Connecting, err)
	}
	c := &connection{raw: raw, times: r.config.Times}
	defer c.limit(ctx, r.config.Times.Connect)()
	if err := r.greet(ctx, c); err != nil {
		c.drop()
		return nil, refusal(delivery.Connecting, err)
	}
	if err := r.login(c.client); err != nil {
		c.drop()
		return nil, refusal(delivery.LoggingIn, err)
	}
	return c, nil
}

// greet encrypts the connection and exchanges greetings.
func (r *Relay) greet(ctx context.Context, c *connection) (err error) {
	conn := c.raw
	settings := &tls.Config{
		ServerName: r.host,
		RootCAs:    r.config.Roots,
		MinVersion: tls.VersionTLS12,
	}
	if r.config.Security == TLS {
		encrypted := tls.Client(conn, settings)
		if err := encrypted.HandshakeContext(ctx); err != nil {
			return err
		}
		conn = encrypted
	}
	if c.client, err = smtp.NewClient(conn, r.host); err != nil {
		return err
	}
	acceptBareCodes(c.client.Text)
	name := r.config.Name
	if name == "" {
		name = addressLiteral(c.raw.LocalAddr())
	}
	if err := c.client.Hello(name); err != nil {
		return err
	}
	if r.config.Security != StartTLS {
		return nil
	}
	if ok, _ := c.client.Extension("STARTTLS"); !ok {
		return errors.New("the server does not offer STARTTLS, so nothing was sent; " +
			"if it uses TLS from the first byte, use a smtps:// URL")
	}
	if err := c.client.StartTLS(settings); err != nil {
		return err
	}
	acceptBareCodes(c.client.Text)
	return nil
}

// acceptBareCodes makes the connection accept replies that consist only of a code, such as
// "250", which RFC 5321 section 4.2 allows. Package textproto refuses those without a space
// after the code.
func acceptBareCodes(text *textproto.Conn) {
	text.R = bufio.NewReader(&spacedReplies{in: text.R})
}

// spacedReplies adds a space to each line that consists only of a reply code.
type spacedReplies struct {
	in     *bufio.Reader
	within bool   // the next bytes continue a line
	rest   []byte // read, but not returned yet
}

// Read implements io.Reader.
func (s *spacedReplies) Read(p []byte) (int, error) {
	if len(s.rest) == 0 {
		line, err := s.in.ReadSlice('\n')
		if len(line) == 0 {
			return 0, err
		}
		if end := bytes.TrimRight(line, "\r\n"); !s.within && len(end) == 3 && len(line) > 3 {
			line = []byte(string(end) + " \r\n")
		}
		s.within = line[len(line)-1] != '\n'
		s.rest = line
	}
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

// addressLiteral returns an address in the form that EHLO requires (RFC 5321 section 4.1.3).
func addressLiteral(a net.Addr) string {
	ip := a.(*net.TCPAddr).IP
	if ip.To4() != nil {
		return "[" + ip.String() + "]"
	}
	return "[IPv6:" + ip.String() + "]"
}

// login logs in if a user is configured.
func (r *Relay) login(c *smtp.Client) error {
	user := r.config.User
	if user == "" {
		return nil
	}
	ok, offered := c.Extension("AUTH")
	if !ok {
		return fmt.Errorf("the server does not offer a login, so %s cannot log in", user)
	}
	mechanism := r.config.Mechanism
	if mechanism == "" {
		for _, m := range []string{"PLAIN", "LOGIN", "CRAM-MD5"} {
			if mechanism == "" && slices.Contains(strings.Fields(offered), m) {
				mechanism = m
			}
		}
	}
	password, err := r.config.Password()
	if err != nil {
		return err
	}
	allowPlaintext := r.config.Security == None
	switch mechanism {
	case "PLAIN":
		return c.Auth(smtp.PlainAuth("", user, password, r.host, allowPlaintext))
	case "LOGIN":
		return c.Auth(smtp.LoginAuth(user, password, r.host, allowPlaintext))
	case "CRAM-MD5":
		return c.Auth(smtp.CRAMMD5Auth(user, password))
	case "XOAUTH2":
		return c.Auth(smtp.XOAuth2Auth(user, password))
	}
	return fmt.Errorf("the server offers no supported login mechanism: %s", offered)
}

// past is a deadline that makes pending reads and writes fail at once.
var past = time.Unix(1, 0)

// limit bounds the use of the connection by d and by ctx, until the returned function is called.
func (c *connection) limit(ctx context.Context, d time.Duration) (done func()) {
	c.raw.SetDeadline(time.Now().Add(d))
	stop := context.AfterFunc(ctx, func() { c.raw.SetDeadline(past) })
	return func() { stop() }
}

// quit sends QUIT and closes the connection.
func (c *connection) quit() {
	c.raw.SetDeadline(time.Now().Add(c.times.Connect / 10))
	c.client.Quit()
	c.raw.Close()
}

// drop closes the connection without QUIT.
func (c *connection) drop() { c.raw.Close() }
