// Package relay hands messages to an SMTP server, which sends them on (RFC 5321, RFC 6409): the operator's own, or a provider's.
//
// A password and activation links go over the connection, so it is encrypted, and the server's certificate is checked, always. The one
// exception is a server on this machine, to which nobody can listen in. A server that is said to have STARTTLS and does not offer it is
// refused: somebody in between may have taken the offer out.
//
// A connection is kept for the next message, and closed when none came for a while. One that the server has closed meanwhile is no
// failure: the message is tried on a new one, as long as the server has not been given any of its content.
//
// The protocol is that of go-mail's package smtp. What is here is which connection a message goes by, and what each failure is called
// (delivery.Refusal).
package relay

import (
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
	// TLS is from the first byte on (RFC 8314).
	TLS Security = iota
	// StartTLS begins in the clear, and nothing is said before it is encrypted.
	StartTLS
	// None is for a server on this machine.
	None
)

// Config says which server, and how.
type Config struct {
	// Address is the server's, as host:port; the certificate is to be the host's.
	Address  string
	Security Security
	// User is who logs in; empty where nobody does. Password is asked for at every login, so that a file may change.
	User     string
	Password func() (string, error)
	// Mechanism is PLAIN, LOGIN, CRAM-MD5 or XOAUTH2, where the password is an access token; empty for the first of the first three
	// that the server offers.
	Mechanism string
	// Roots are the authorities that certificates are checked by; the system's where nil.
	Roots *x509.CertPool
	// Name is how we greet (RFC 5321 §4.1.1.1): a host name, or the connection's address in brackets where empty.
	Name string
	// Connections is how many are kept.
	Connections int
	// Times are DefaultTimes where zero.
	Times Times
}

// Times are for how long a server is waited for.
type Times struct {
	Connect time.Duration // to a login
	Command time.Duration // one command
	Content time.Duration // the answer to a message's content (RFC 5321 §4.5.3.2.6 has ten minutes)
	Idle    time.Duration // for how long a connection is kept
}

// DefaultTimes are times for a server on the internet.
var DefaultTimes = Times{Connect: 30 * time.Second, Command: time.Minute, Content: 5 * time.Minute, Idle: 20 * time.Second}

// Relay is one server. It is safe for concurrent use.
type Relay struct {
	Config
	host string

	mu     sync.Mutex
	idle   []*connection // the one used last at the end
	closed bool
}

var _ delivery.Relay = (*Relay)(nil)

// New makes a Relay. It connects to nothing yet.
func New(c Config) (*Relay, error) {
	host, _, err := net.SplitHostPort(c.Address)
	if err != nil {
		return nil, err
	}
	if c.Times == (Times{}) {
		c.Times = DefaultTimes
	}
	return &Relay{Config: c, host: host}, nil
}

// Check connects and logs in, and says what the server is.
func (r *Relay) Check(ctx context.Context) (string, error) {
	c, err := r.connect(ctx)
	if err != nil {
		return "", err
	}
	said := c.client.HelloResponse()
	c.close()
	return said, nil
}

// Send implements delivery.Relay.
func (r *Relay) Send(ctx context.Context, from, to string, message []byte) (string, error) {
	for {
		c, used := r.take()
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
		case used && refusal.At == delivery.Mail:
			c.drop() // it was closed while nobody used it
		default:
			c.drop()
			return "", err
		}
	}
}

// take is a connection that waits, if there is one.
func (r *Relay) take() (c *connection, used bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.idle) == 0 {
		return nil, false
	}
	c = r.idle[len(r.idle)-1]
	r.idle = r.idle[:len(r.idle)-1]
	c.bored.Stop()
	return c, true
}

// keep has a connection wait for the next message. A mail transaction that was begun is ended first (RFC 5321 §4.1.1.5).
func (r *Relay) keep(ctx context.Context, c *connection, begun bool) {
	if begun && c.reset(ctx) != nil {
		c.drop()
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || len(r.idle) >= r.Connections {
		go c.close()
		return
	}
	c.bored = time.AfterFunc(r.Times.Idle, func() { r.part(c) })
	r.idle = append(r.idle, c)
}

// part closes a connection that waited for too long, unless somebody has taken it.
func (r *Relay) part(c *connection) {
	r.mu.Lock()
	i := slices.Index(r.idle, c)
	if i >= 0 {
		r.idle = slices.Delete(r.idle, i, i+1)
	}
	r.mu.Unlock()
	if i >= 0 {
		c.close()
	}
}

// Close closes what waits. A message that is on its way goes on, and its connection is closed after it.
func (r *Relay) Close() {
	r.mu.Lock()
	idle := r.idle
	r.idle, r.closed = nil, true
	r.mu.Unlock()
	for _, c := range idle {
		c.bored.Stop()
		c.close()
	}
}

// connection is one that is logged in.
type connection struct {
	raw    net.Conn
	client *smtp.Client
	times  Times
	bored  *time.Timer
}

// connect connects, encrypts and logs in.
func (r *Relay) connect(ctx context.Context) (*connection, error) {
	ctx, cancel := context.WithTimeout(ctx, r.Times.Connect)
	defer cancel()
	raw, err := new(net.Dialer).DialContext(ctx, "tcp", r.Address)
	if err != nil {
		return nil, refusal(delivery.Connecting, err)
	}
	c := &connection{raw: raw, times: r.Times}
	defer c.within(ctx, r.Times.Connect)()
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

func (r *Relay) greet(ctx context.Context, c *connection) (err error) {
	conn := c.raw
	settings := &tls.Config{ServerName: r.host, RootCAs: r.Roots, MinVersion: tls.VersionTLS12}
	if r.Security == TLS {
		encrypted := tls.Client(conn, settings)
		if err := encrypted.HandshakeContext(ctx); err != nil {
			return err
		}
		conn = encrypted
	}
	if c.client, err = smtp.NewClient(conn, r.host); err != nil {
		return err
	}
	name := r.Name
	if name == "" {
		name = literal(c.raw.LocalAddr())
	}
	if err := c.client.Hello(name); err != nil {
		return err
	}
	if r.Security != StartTLS {
		return nil
	}
	if ok, _ := c.client.Extension("STARTTLS"); !ok {
		return errors.New("the server does not offer STARTTLS, and nothing is said to it in the clear; for TLS from the first byte on, the URL begins with smtps://")
	}
	return c.client.StartTLS(settings)
}

// literal is an address as a greeting has it (RFC 5321 §4.1.3).
func literal(a net.Addr) string {
	ip := a.(*net.TCPAddr).IP
	if ip.To4() != nil {
		return "[" + ip.String() + "]"
	}
	return "[IPv6:" + ip.String() + "]"
}

// login logs in where there is somebody to log in.
func (r *Relay) login(c *smtp.Client) error {
	if r.User == "" {
		return nil
	}
	ok, offered := c.Extension("AUTH")
	if !ok {
		return fmt.Errorf("the server lets nobody log in, and %s is to", r.User)
	}
	mechanism := r.Mechanism
	if mechanism == "" {
		for _, m := range []string{"PLAIN", "LOGIN", "CRAM-MD5"} {
			if mechanism == "" && slices.Contains(strings.Fields(offered), m) {
				mechanism = m
			}
		}
	}
	password, err := r.Password()
	if err != nil {
		return err
	}
	open := r.Security == None
	switch mechanism {
	case "PLAIN":
		return c.Auth(smtp.PlainAuth("", r.User, password, r.host, open))
	case "LOGIN":
		return c.Auth(smtp.LoginAuth(r.User, password, r.host, open))
	case "CRAM-MD5":
		return c.Auth(smtp.CRAMMD5Auth(r.User, password))
	case "XOAUTH2":
		return c.Auth(smtp.XOAuth2Auth(r.User, password))
	}
	return fmt.Errorf("the server offers no way to log in that is known here: %s", offered)
}

// past is a deadline by which what waits fails at once.
var past = time.Unix(1, 0)

// within bounds what is done with the connection until the returned function is called.
func (c *connection) within(ctx context.Context, d time.Duration) (done func()) {
	c.raw.SetDeadline(time.Now().Add(d))
	stop := context.AfterFunc(ctx, func() { c.raw.SetDeadline(past) })
	return func() { stop() }
}

// send hands one message over.
func (c *connection) send(ctx context.Context, from, to string, message []byte) (answer string, err error) {
	if strings.ContainsAny(from+to, "\r\n") {
		return "", &delivery.Refusal{At: delivery.Rcpt, Code: 553, Text: "an address may not have a line end in it"}
	}
	defer c.within(ctx, c.times.Command)()
	limit := func(d time.Duration) {
		c.raw.SetDeadline(time.Now().Add(d))
		if ctx.Err() != nil { // also where that was between two of these lines
			c.raw.SetDeadline(past)
		}
	}
	// SMTPUTF8 is asked for where it is needed alone: whoever sends the message on may not have it.
	utf8 := !ascii(from, to, headerOf(message))
	begin := c.begin
	if ok, _ := c.client.Extension("PIPELINING"); ok {
		begin = c.pipeline
	}
	w, err := begin(from, to, utf8, limit)
	if err != nil {
		return "", err
	}
	limit(c.times.Content)
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

// begin says whom a message is from and to, one command after the other. Its content is then to be written.
func (c *connection) begin(from, to string, utf8 bool, limit func(time.Duration)) (io.WriteCloser, error) {
	c.client.SkipSMTPUTF8(!utf8)
	if err := c.client.Mail("<" + from + ">"); err != nil {
		return nil, refusal(delivery.Mail, err)
	}
	limit(c.times.Command)
	if err := c.client.Rcpt("<" + to + ">"); err != nil {
		return nil, refusal(delivery.Rcpt, err)
	}
	limit(c.times.Command)
	w, err := c.client.Data()
	if err != nil {
		return nil, refusal(delivery.Data, err)
	}
	return w, nil
}

// pipeline is begin for a server that takes several commands at once (RFC 2920), and so with one way there and back instead of three.
// The library sends them one by one, and leaves its text connection to extensions.
func (c *connection) pipeline(from, to string, utf8 bool, limit func(time.Duration)) (io.WriteCloser, error) {
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
	for _, answer := range []struct {
		at   delivery.Step
		code int
	}{{delivery.Mail, 250}, {delivery.Rcpt, 25}, {delivery.Data, 354}} {
		limit(c.times.Command)
		_, _, err := text.ReadResponse(answer.code)
		if err != nil && first == nil {
			first = refusal(answer.at, err)
		}
		if _, said := errors.AsType[*textproto.Error](err); err != nil && !said {
			return nil, first
		}
		if err == nil && answer.at == delivery.Data && first != nil {
			// It waits for content though it refused what is before: it gets none (RFC 2920 §3.1).
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

func (c *connection) reset(ctx context.Context) error {
	defer c.within(ctx, c.times.Command)()
	return c.client.Reset()
}

// close takes leave.
func (c *connection) close() {
	c.raw.SetDeadline(time.Now().Add(c.times.Connect / 10))
	c.client.Quit()
	c.raw.Close()
}

// drop closes without a word.
func (c *connection) drop() { c.raw.Close() }

// refusal is what an error of a step is called.
func refusal(at delivery.Step, err error) *delivery.Refusal {
	if answer, ok := errors.AsType[*textproto.Error](err); ok {
		return &delivery.Refusal{At: at, Code: answer.Code, Text: answer.Msg}
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
