// Package relay sends messages to an SMTP server (RFC 5321, RFC 6409), which forwards them: the
// operator's own server or that of a provider.
//
// # Guarantees
//
// A password and activation links travel over the connection. It is therefore always encrypted, and
// the server's certificate is always verified. The only exception is a server on this machine. If a
// server is configured for STARTTLS and does not offer it, nothing is sent: an attacker on the path
// may have removed the offer.
//
// Every failure is a *delivery.Refusal that names the step at which it happened.
//
// # Connections
//
// A connection is kept for the next message and closed after it has been idle for a while. If the
// server has closed an idle connection, the message is sent over a new one, as long as the server
// has not received any of its content.
//
// # Protocol
//
// Most of the protocol is implemented by go-mail's package smtp. This package chooses the
// connection, pipelines commands, and classifies failures. It does not retry and does not keep
// messages; package delivery does.
package relay

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/wneessen/go-mail/smtp"

	"dialtone/internal/delivery"
)

// Security is how a connection is encrypted.
type Security int

const (
	// TLS encrypts from the first byte (RFC 8314).
	TLS Security = iota
	// StartTLS begins unencrypted; only EHLO and STARTTLS are sent before it is encrypted.
	StartTLS
	// None is for a server on this machine.
	None
)

// Config describes the server and how to talk to it.
type Config struct {
	// Address is the server's host:port. Its certificate must be valid for the host.
	Address  string
	Security Security
	// User is the login name, or empty for no login. Password is called at every login, so that the
	// password can change while the program runs.
	User     string
	Password func() (string, error)
	// Mechanism is PLAIN, LOGIN, CRAM-MD5, or XOAUTH2 with an access token as the password. If
	// it is empty, the first of PLAIN, LOGIN and CRAM-MD5 that the server offers is used.
	Mechanism string
	// Roots are the trusted certificate authorities, or nil for the system's.
	Roots *x509.CertPool
	// Name is the host name in EHLO (RFC 5321 section 4.1.1.1). If it is empty, the connection's
	// local address is used.
	Name string
	// Connections is the maximum number of idle connections that are kept.
	Connections int
	// Times are the timeouts. The zero value means DefaultTimes.
	Times Times
}

// Times are the timeouts of a connection.
type Times struct {
	Connect time.Duration // TCP, TLS, greeting and login together
	Command time.Duration // the reply to one command
	Content time.Duration // the reply to the content (RFC 5321 section 4.5.3.2.6 suggests ten minutes)
	Idle    time.Duration // how long an idle connection is kept
}

// DefaultTimes are the timeouts for a server on the internet.
var DefaultTimes = Times{
	Connect: 30 * time.Second,
	Command: time.Minute,
	Content: 5 * time.Minute,
	Idle:    20 * time.Second,
}

// Relay is a client of one server. It is safe for concurrent use.
type Relay struct {
	config Config
	host   string

	mu     sync.Mutex
	idle   []*connection // the most recently used last
	closed bool
}

var _ delivery.Relay = (*Relay)(nil)

// New returns a Relay. It does not connect yet.
func New(c Config) (*Relay, error) {
	host, _, err := net.SplitHostPort(c.Address)
	if err != nil {
		return nil, err
	}
	if c.Times == (Times{}) {
		c.Times = DefaultTimes
	}
	return &Relay{config: c, host: host}, nil
}

// Check connects, logs in and disconnects. It returns the server's reply to EHLO.
func (r *Relay) Check(ctx context.Context) (string, error) {
	c, err := r.connect(ctx)
	if err != nil {
		return "", err
	}
	reply := c.client.HelloResponse()
	c.quit()
	return reply, nil
}

// Send implements delivery.Relay.
func (r *Relay) Send(ctx context.Context, from, to string, message []byte) (string, error) {
	for {
		c, reused := r.takeIdle()
		if c == nil {
			var err error
			if c, err = r.connect(ctx); err != nil {
				return "", err
			}
		}
		answer, err := c.send(ctx, from, to, message)
		refusal, _ := errors.AsType[*delivery.Refusal](err)
		switch {
		case err == nil || refusal.Code != 0 && refusal.Code != 421:
			r.keep(ctx, c, err != nil)
			return answer, err
		case reused && refusal.At == delivery.Mail:
			c.drop() // the server closed it while it was idle; try another one
		default:
			c.drop()
			return "", err
		}
	}
}

// takeIdle returns an idle connection, or nil if there is none.
func (r *Relay) takeIdle() (c *connection, reused bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.idle) == 0 {
		return nil, false
	}
	c = r.idle[len(r.idle)-1]
	r.idle = r.idle[:len(r.idle)-1]
	c.idleTimer.Stop()
	return c, true
}

// keep keeps a connection for the next message. If its mail transaction was not completed, it is
// aborted first (RFC 5321 section 4.1.1.5).
func (r *Relay) keep(ctx context.Context, c *connection, incomplete bool) {
	if incomplete && c.reset(ctx) != nil {
		c.drop()
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || len(r.idle) >= r.config.Connections {
		go c.quit()
		return
	}
	c.idleTimer = time.AfterFunc(r.config.Times.Idle, func() { r.expire(c) })
	r.idle = append(r.idle, c)
}

// expire closes a connection whose idle time has ended, unless it is in use again.
func (r *Relay) expire(c *connection) {
	r.mu.Lock()
	i := slices.Index(r.idle, c)
	if i >= 0 {
		r.idle = slices.Delete(r.idle, i, i+1)
	}
	r.mu.Unlock()
	if i >= 0 {
		c.quit()
	}
}

// Close closes the idle connections. Messages that are being sent continue, and their connections
// are closed afterwards.
func (r *Relay) Close() {
	r.mu.Lock()
	idle := r.idle
	r.idle, r.closed = nil, true
	r.mu.Unlock()
	for _, c := range idle {
		c.idleTimer.Stop()
		c.quit()
	}
}

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

// quit sends QUIT and closes the connection.
func (c *connection) quit() {
	c.raw.SetDeadline(time.Now().Add(c.times.Connect / 10))
	c.client.Quit()
	c.raw.Close()
}

// drop closes the connection without QUIT.
func (c *connection) drop() { c.raw.Close() }

// refusal turns the error of a step into a Refusal.
func refusal(at delivery.Step, err error) *delivery.Refusal {
	if reply, ok := errors.AsType[*textproto.Error](err); ok {
		return &delivery.Refusal{At: at, Code: reply.Code, Text: reply.Msg}
	}
	text := err.Error()
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) {
		text = "the server did not answer in time"
	}
	return &delivery.Refusal{At: at, Text: text}
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
