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
	"context"
	"crypto/x509"
	"errors"
	"net"
	"net/textproto"
	"os"
	"slices"
	"sync"
	"time"

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
