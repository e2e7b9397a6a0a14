// Package smtptest is SMTP servers for tests: ones that take messages and remember them, and ones that do to a client what servers on
// the internet do. They speak by another implementation than the program's. A DNS server with the records of a sender is here too.
package smtptest

import (
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

// Step is what a client does.
type Step string

// The steps. Greet is a new connection, Content a message's content up to the final dot.
const (
	Greet   Step = "greet"
	Mail    Step = "MAIL"
	Rcpt    Step = "RCPT"
	Content Step = "content"
)

// ErrDrop is an answer that never comes: the connection breaks.
var ErrDrop = errors.New("drop the connection")

// ErrDropAfter is ErrDrop when the message has been taken: the client does not get to know.
var ErrDropAfterAccept = errors.New("drop the connection, and keep the message")

// Says is an answer with a code, such as Says(451, "4.7.1 later").
func Reply(code int, text string) error {
	return &smtp.SMTPError{Code: code, EnhancedCode: smtp.NoEnhancedCode, Message: text}
}

// Options say what a server is like. The zero value takes everything of everybody, without TLS.
type Options struct {
	// TLS has the server offer STARTTLS, or, with Implicit, TLS from the first byte on.
	TLS      *tls.Config
	Implicit bool
	// Users may log in, by their passwords; with any, nobody else may send. Mechanisms are how, and PLAIN where empty.
	Users      map[string]string
	Mechanisms []string
	SMTPUTF8   bool
	// Answer, where it is set, is asked at every step but Greet with the sender and recipient as far as they are known.
	Answer func(at Step, from, to string) error
	// Forget has messages counted and not kept.
	Forget bool
	// Listen is where it listens; 127.0.0.1:0 where empty.
	Listen string
}

// Message is one that was taken.
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
	taken       int
	connections int
	open        int
}

// Start starts a server, which ends with the test.
func Start(t testing.TB, o Options) *Server {
	t.Helper()
	listen := o.Listen
	if listen == "" {
		listen = "127.0.0.1:0"
	}
	l, err := net.Listen("tcp", listen)
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
	ended := make(chan struct{})
	go func() {
		s.server.Serve(l)
		close(ended)
	}()
	t.Cleanup(func() {
		s.Stop()
		<-ended
	})
	return s
}

// Stop stops it; connections break.
func (s *Server) Stop() { s.server.Close() }

// Messages are those that were taken, in their order.
func (s *Server) Messages() []Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.messages)
}

// Taken is how many messages were taken, Connections how many connections were made, Open how many there are now.
func (s *Server) Accepted() int    { return s.count(&s.taken) }
func (s *Server) Connections() int { return s.count(&s.connections) }
func (s *Server) Open() int        { return s.count(&s.open) }

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

// ask gives the answer of a step, or breaks the connection.
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
	user     bool
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
	if x.s.opts.Users != nil && !x.user {
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
	x.s.taken++
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
		x.user = true
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

// loginServer is the server's part of LOGIN.
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

// cramServer is the server's part of CRAM-MD5 (RFC 2195).
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

// xoauth2Server is the server's part of XOAUTH2, in which the password is a token.
type xoauth2Server struct {
	check func(user, password string) error
}

func (s xoauth2Server) Next(response []byte) (challenge []byte, done bool, err error) {
	parts := strings.Split(string(response), "\x01")
	if len(parts) != 4 || !strings.HasPrefix(parts[0], "user=") || !strings.HasPrefix(parts[1], "auth=Bearer ") {
		return nil, true, smtp.ErrAuthFailed
	}
	return nil, true, s.check(parts[0][len("user="):], parts[1][len("auth=Bearer "):])
}

// Certificate is one for hosts that was signed by nobody but itself, until it ends, and the same in PEM for those who are to trust it.
func Certificate(t testing.TB, ends time.Time, hosts ...string) (c tls.Certificate, trusted []byte, private []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "relay.test"}, NotBefore: ends.Add(-48 * time.Hour), NotAfter: ends,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, BasicConstraintsValid: true, IsCA: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
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
