// Package smtptest provides SMTP servers for tests: one that records messages and can fail at any
// step (Start), and Debian's Postfix (StartPostfix). Neither shares code with the SMTP client under
// test. It also provides a DNS server with TXT records (DNS).
package smtptest

import (
	"cmp"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/md5"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"math/big"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

// Step is a step of an SMTP session.
type Step string

// The steps. Greet is a new connection. Content is the content of a message up to the final dot.
const (
	Greet   Step = "greet"
	Mail    Step = "MAIL"
	Rcpt    Step = "RCPT"
	Content Step = "content"
)

// ErrDrop makes the server close the connection instead of replying.
var ErrDrop = errors.New("drop the connection")

// ErrDropAfterAccept makes the server accept the message but close the connection without a reply.
var ErrDropAfterAccept = errors.New("drop the connection, and keep the message")

// Reply is a reply with a code, such as Reply(451, "4.7.1 later").
func Reply(code int, text string) error {
	return &smtp.SMTPError{Code: code, EnhancedCode: smtp.NoEnhancedCode, Message: text}
}

// Options configure a server. The zero value accepts every message from everybody, without TLS.
type Options struct {
	// TLS makes the server offer STARTTLS or, with Implicit, use TLS from the first byte.
	TLS      *tls.Config
	Implicit bool
	// Users maps login names to passwords. If it is not nil, sending requires a login. Mechanisms
	// are the mechanisms that are offered; the default is PLAIN.
	Users      map[string]string
	Mechanisms []string
	SMTPUTF8   bool
	// Answer, if it is not nil, is called at every step, with the sender and recipient if they are
	// known. Its error is the reply.
	Answer func(at Step, from, to string) error
	// Forget makes the server only count messages, without storing them.
	Forget bool
	// Listen is the address to listen on; the default is 127.0.0.1:0.
	Listen string
}

// Message is an accepted message.
type Message struct {
	From, To string
	UTF8     bool
	Data     []byte
}

// Server is a running server.
type Server struct {
	Address string
	opts    Options
	server  *smtp.Server

	mu          sync.Mutex
	messages    []Message
	accepted    int
	connections int
	open        int
}

// Start starts a server. It stops with the test.
func Start(t testing.TB, o Options) *Server {
	t.Helper()
	l, err := net.Listen("tcp", cmp.Or(o.Listen, "127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{Address: l.Addr().String(), opts: o}
	s.server = smtp.NewServer(smtp.BackendFunc(s.session))
	s.server.Domain = "relay.test"
	s.server.AllowInsecureAuth = o.TLS == nil
	s.server.EnableSMTPUTF8 = o.SMTPUTF8
	s.server.ErrorLog = log.New(io.Discard, "", 0)
	s.server.TLSConfig = o.TLS
	if o.Implicit {
		l = tls.NewListener(l, o.TLS)
	}
	stopped := make(chan struct{})
	go func() {
		s.server.Serve(l)
		close(stopped)
	}()
	t.Cleanup(func() {
		s.Stop()
		<-stopped
	})
	return s
}

// Stop stops the server and closes its connections.
func (s *Server) Stop() { s.server.Close() }

// Messages returns the accepted messages in order.
func (s *Server) Messages() []Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.messages)
}

// Accepted returns how many messages were accepted.
func (s *Server) Accepted() int { return s.count(&s.accepted) }

// Connections returns how many connections were made.
func (s *Server) Connections() int { return s.count(&s.connections) }

// Open returns how many connections are open.
func (s *Server) Open() int { return s.count(&s.open) }

func (s *Server) count(n *int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return *n
}

func (s *Server) session(c *smtp.Conn) (smtp.Session, error) {
	s.mu.Lock()
	s.connections++
	s.open++
	s.mu.Unlock()
	if err := s.ask(c, Greet, "", ""); err != nil {
		return nil, err
	}
	return &session{s: s, c: c}, nil
}

// ask returns the reply to a step. For ErrDrop it closes the connection.
func (s *Server) ask(c *smtp.Conn, at Step, from, to string) error {
	if s.opts.Answer == nil {
		return nil
	}
	err := s.opts.Answer(at, from, to)
	if errors.Is(err, ErrDrop) {
		c.Conn().Close()
	}
	return err
}

type session struct {
	s        *Server
	c        *smtp.Conn
	loggedIn bool
	from, to string
	utf8     bool
}

func (x *session) Reset() { x.from, x.to = "", "" }

func (x *session) Logout() error {
	x.s.mu.Lock()
	x.s.open--
	x.s.mu.Unlock()
	return nil
}

func (x *session) Mail(from string, o *smtp.MailOptions) error {
	if x.s.opts.Users != nil && !x.loggedIn {
		return Reply(530, "5.7.0 Authentication required")
	}
	x.from, x.utf8 = from, o.UTF8
	return x.s.ask(x.c, Mail, from, "")
}

func (x *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	x.to = to
	return x.s.ask(x.c, Rcpt, x.from, to)
}

func (x *session) Data(r io.Reader) error {
	b, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	err = x.s.ask(x.c, Content, x.from, x.to)
	if err != nil && !errors.Is(err, ErrDropAfterAccept) {
		return err
	}
	x.s.mu.Lock()
	x.s.accepted++
	if !x.s.opts.Forget {
		x.s.messages = append(x.s.messages, Message{x.from, x.to, x.utf8, b})
	}
	x.s.mu.Unlock()
	if err != nil {
		x.c.Conn().Close()
	}
	return err
}

func (x *session) AuthMechanisms() []string {
	if x.s.opts.Users == nil {
		return nil
	}
	if x.s.opts.Mechanisms == nil {
		return []string{sasl.Plain}
	}
	return x.s.opts.Mechanisms
}

func (x *session) Auth(mechanism string) (sasl.Server, error) {
	check := func(user, password string) error {
		if want, ok := x.s.opts.Users[user]; !ok || password != want {
			return smtp.ErrAuthFailed
		}
		x.loggedIn = true
		return nil
	}
	switch mechanism {
	case sasl.Plain:
		return sasl.NewPlainServer(func(_, user, password string) error { return check(user, password) }), nil
	case sasl.Login:
		return &loginServer{check: check}, nil
	case "CRAM-MD5":
		return &cramServer{users: x.s.opts.Users, check: check}, nil
	case "XOAUTH2":
		return xoauth2Server{check}, nil
	}
	return nil, smtp.ErrAuthUnknownMechanism
}

// loginServer implements LOGIN.
type loginServer struct {
	check func(user, password string) error
	asked int
	user  string
}

func (l *loginServer) Next(response []byte) (challenge []byte, done bool, err error) {
	l.asked++
	switch l.asked {
	case 1:
		return []byte("Username:"), false, nil
	case 2:
		l.user = string(response)
		return []byte("Password:"), false, nil
	}
	return nil, true, l.check(l.user, string(response))
}

// cramServer implements CRAM-MD5 (RFC 2195).
type cramServer struct {
	users map[string]string
	check func(user, password string) error
	asked bool
}

const cramChallenge = "<1896.697170952@relay.test>"

func (s *cramServer) Next(response []byte) (challenge []byte, done bool, err error) {
	if !s.asked {
		s.asked = true
		return []byte(cramChallenge), false, nil
	}
	user, digest, _ := strings.Cut(string(response), " ")
	mac := hmac.New(md5.New, []byte(s.users[user]))
	mac.Write([]byte(cramChallenge))
	if digest != hex.EncodeToString(mac.Sum(nil)) {
		return nil, true, smtp.ErrAuthFailed
	}
	return nil, true, s.check(user, s.users[user])
}

// xoauth2Server implements XOAUTH2. The password is the access token.
type xoauth2Server struct {
	check func(user, password string) error
}

func (s xoauth2Server) Next(response []byte) (challenge []byte, done bool, err error) {
	parts := strings.Split(string(response), "\x01")
	if len(parts) != 4 {
		return nil, true, smtp.ErrAuthFailed
	}
	user, hasUser := strings.CutPrefix(parts[0], "user=")
	token, hasToken := strings.CutPrefix(parts[1], "auth=Bearer ")
	if !hasUser || !hasToken {
		return nil, true, smtp.ErrAuthFailed
	}
	return nil, true, s.check(user, token)
}

// Certificate returns a self-signed certificate for hosts that is valid until a time. trusted is
// the certificate in PEM, for the clients that trust it; private is its key in PEM.
func Certificate(t testing.TB, until time.Time, hosts ...string) (
	c tls.Certificate, trusted, private []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "relay.test"},
		NotBefore:             until.Add(-48 * time.Hour),
		NotAfter:              until,
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, h)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	trusted = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	private = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, trusted, private
}
