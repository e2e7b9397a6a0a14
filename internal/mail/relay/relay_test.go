package relay_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"dialtone/internal/delivery"
	"dialtone/internal/mail/relay"
	"dialtone/internal/test/smtptest"
)

const message = "From: no-reply@phone.test\r\nTo: ann@mail.test\r\nSubject: Hello\r\nMessage-ID: <1@phone.test>\r\n\r\n.one dot\r\n..two dots\r\nThe end.\r\n"

// brief are times for a server on this machine.
var brief = relay.Times{Connect: 5 * time.Second, Command: 5 * time.Second, Content: 5 * time.Second, Idle: time.Minute}

func open(t *testing.T, c relay.Config) *relay.Relay {
	t.Helper()
	if c.Times == (relay.Times{}) {
		c.Times = brief
	}
	if c.Connections == 0 {
		c.Connections = 4
	}
	r, err := relay.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

func plain(t *testing.T, s *smtptest.Server) *relay.Relay {
	return open(t, relay.Config{Address: s.Address, Security: relay.None})
}

func send(t *testing.T, r *relay.Relay) (string, error) {
	t.Helper()
	return r.Send(t.Context(), "no-reply@phone.test", "ann@mail.test", []byte(message))
}

// refused wants a refusal at a step, with a code, and words in its text.
func refused(t *testing.T, err error, at delivery.Step, code int, words string) {
	t.Helper()
	r, ok := errors.AsType[*delivery.Refusal](err)
	if !ok || r.At != at || r.Code != code || !strings.Contains(r.Text, words) {
		t.Errorf("got %#v, want %v %d %q", err, at, code, words)
	}
}

// until waits for something that comes in a moment.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

func password(text string) func() (string, error) { return func() (string, error) { return text, nil } }

func TestMessageArrivesByteForByte(t *testing.T) {
	certificate, trusted, _ := smtptest.Certificate(t, time.Now().Add(time.Hour), "127.0.0.1", "localhost")
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(trusted)
	settings := &tls.Config{Certificates: []tls.Certificate{certificate}}
	users := map[string]string{"alex@phone.test": "a pass phrase ü"}
	for name, c := range map[string]struct {
		server smtptest.Options
		client relay.Config
	}{
		"in the clear on this machine":     {smtptest.Options{}, relay.Config{Security: relay.None}},
		"by STARTTLS":                      {smtptest.Options{TLS: settings}, relay.Config{Security: relay.StartTLS}},
		"by TLS":                           {smtptest.Options{TLS: settings, Implicit: true}, relay.Config{Security: relay.TLS}},
		"by TLS, logged in":                {smtptest.Options{TLS: settings, Implicit: true, Users: users}, relay.Config{Security: relay.TLS, User: "alex@phone.test"}},
		"by STARTTLS, logged in":           {smtptest.Options{TLS: settings, Users: users}, relay.Config{Security: relay.StartTLS, User: "alex@phone.test"}},
		"by LOGIN where there is no other": {smtptest.Options{TLS: settings, Users: users, Mechanisms: []string{"LOGIN"}}, relay.Config{Security: relay.StartTLS, User: "alex@phone.test"}},
		"by CRAM-MD5 where there is no other": {smtptest.Options{Users: users, Mechanisms: []string{"CRAM-MD5", "GSSAPI"}},
			relay.Config{Security: relay.None, User: "alex@phone.test"}},
		"by XOAUTH2 where that is said": {smtptest.Options{TLS: settings, Users: users, Mechanisms: []string{"PLAIN", "XOAUTH2"}},
			relay.Config{Security: relay.StartTLS, User: "alex@phone.test", Mechanism: "XOAUTH2"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := smtptest.Start(t, c.server)
			c.client.Address, c.client.Roots, c.client.Password = s.Address, roots, password("a pass phrase ü")
			if answer, err := send(t, open(t, c.client)); err != nil || answer == "" {
				t.Fatalf("%q, %v", answer, err)
			}
			got := s.Messages()
			if len(got) != 1 || got[0].From != "no-reply@phone.test" || got[0].To != "ann@mail.test" || string(got[0].Data) != message || got[0].UTF8 {
				t.Errorf("got %+v", got)
			}
		})
	}
}

func TestNothingIsSaidToWhoeverIsNotTheServer(t *testing.T) {
	good, trusted, _ := smtptest.Certificate(t, time.Now().Add(time.Hour), "127.0.0.1")
	other, othersTrusted, _ := smtptest.Certificate(t, time.Now().Add(time.Hour), "mail.example")
	late, lateTrusted, _ := smtptest.Certificate(t, time.Now().Add(-time.Minute), "127.0.0.1")
	roots := x509.NewCertPool()
	for _, pem := range [][]byte{othersTrusted, lateTrusted} {
		roots.AppendCertsFromPEM(pem)
	}
	both := roots.Clone()
	both.AppendCertsFromPEM(trusted)
	for name, c := range map[string]struct {
		certificate tls.Certificate
		roots       *x509.CertPool
		words       string
	}{
		"a certificate of nobody known":       {good, roots, "unknown authority"},
		"nobody known to the system":          {good, nil, "unknown authority"},
		"a certificate for another host":      {other, both, "127.0.0.1"},
		"a certificate that has come too old": {late, both, "expired"},
	} {
		for security, implicit := range map[relay.Security]bool{relay.TLS: true, relay.StartTLS: false} {
			t.Run(fmt.Sprint(name, implicit), func(t *testing.T) {
				s := smtptest.Start(t, smtptest.Options{TLS: &tls.Config{Certificates: []tls.Certificate{c.certificate}}, Implicit: implicit})
				asked := false
				r := open(t, relay.Config{Address: s.Address, Security: security, Roots: c.roots, User: "alex", Password: func() (string, error) {
					asked = true
					return "secret", nil
				}})
				_, err := send(t, r)
				refused(t, err, delivery.Connecting, 0, c.words)
				if asked || s.Taken() > 0 {
					t.Error("it went on")
				}
			})
		}
	}
}

func TestServerWithoutSTARTTLSIsRefused(t *testing.T) {
	s := smtptest.Start(t, smtptest.Options{Users: map[string]string{"alex": "secret"}})
	_, err := send(t, open(t, relay.Config{Address: s.Address, Security: relay.StartTLS, User: "alex", Password: password("secret")}))
	refused(t, err, delivery.Connecting, 0, "does not offer STARTTLS")
}

func TestWrongPasswordIsSaid(t *testing.T) {
	s := smtptest.Start(t, smtptest.Options{Users: map[string]string{"alex": "secret"}, Mechanisms: []string{"PLAIN", "LOGIN", "CRAM-MD5", "XOAUTH2"}})
	for _, mechanism := range []string{"", "LOGIN", "CRAM-MD5", "XOAUTH2"} {
		_, err := send(t, open(t, relay.Config{Address: s.Address, Security: relay.None, User: "alex", Password: password("wrong"), Mechanism: mechanism}))
		refused(t, err, delivery.LoggingIn, 535, "Authentication failed")
		if strings.Contains(fmt.Sprint(err), "wrong") {
			t.Error("the password is in the error")
		}
	}
	_, err := send(t, open(t, relay.Config{Address: s.Address, Security: relay.None, User: "alex", Password: func() (string, error) { return "", errors.New("no such file") }}))
	refused(t, err, delivery.LoggingIn, 0, "no such file")
	_, err = send(t, plain(t, s))
	refused(t, err, delivery.Mail, 530, "Authentication required")
	nobody := smtptest.Start(t, smtptest.Options{})
	_, err = send(t, open(t, relay.Config{Address: nobody.Address, Security: relay.None, User: "alex", Password: password("secret")}))
	refused(t, err, delivery.LoggingIn, 0, "lets nobody log in")
}

func TestAnswersAreTold(t *testing.T) {
	for name, c := range map[string]struct {
		at   smtptest.Step
		says error
		step delivery.Step
		code int
		text string
	}{
		"greeting with 421":        {smtptest.Greet, smtptest.Says(421, "too busy"), delivery.Connecting, 421, "too busy"},
		"greeting with 554":        {smtptest.Greet, smtptest.Says(554, "not you"), delivery.Connecting, 554, "not you"},
		"broken at the greeting":   {smtptest.Greet, smtptest.ErrDrop, delivery.Connecting, 0, ""},
		"sender later":             {smtptest.Mail, smtptest.Says(451, "4.7.1 greylisted"), delivery.Mail, 451, "4.7.1 greylisted"},
		"sender never":             {smtptest.Mail, smtptest.Says(550, "5.1.8 no such domain"), delivery.Mail, 550, "5.1.8 no such domain"},
		"recipient later":          {smtptest.Rcpt, smtptest.Says(450, "4.2.1 busy"), delivery.Rcpt, 450, "4.2.1 busy"},
		"recipient never":          {smtptest.Rcpt, smtptest.Says(550, "5.1.1 nobody"), delivery.Rcpt, 550, "5.1.1 nobody"},
		"content later":            {smtptest.Content, smtptest.Says(452, "4.3.1 full"), delivery.Data, 452, "4.3.1 full"},
		"content never":            {smtptest.Content, smtptest.Says(554, "5.6.0 no"), delivery.Data, 554, "5.6.0 no"},
		"broken at the sender":     {smtptest.Mail, smtptest.ErrDrop, delivery.Mail, 0, ""},
		"broken at the recipient":  {smtptest.Rcpt, smtptest.ErrDrop, delivery.Rcpt, 0, ""},
		"broken after the content": {smtptest.Content, smtptest.ErrDrop, delivery.Data, 0, ""},
		"taken, and never said":    {smtptest.Content, smtptest.ErrDropAfter, delivery.Data, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var well atomic.Bool
			s := smtptest.Start(t, smtptest.Options{Answer: func(at smtptest.Step, _, _ string) error {
				if at == c.at && !well.Load() {
					return c.says
				}
				return nil
			}})
			r := plain(t, s)
			_, err := send(t, r)
			refused(t, err, c.step, c.code, c.text)
			well.Store(true)
			before := s.Taken()
			if _, err := send(t, r); err != nil || s.Taken() != before+1 {
				t.Errorf("the next message: %v", err)
			}
		})
	}
}

// A server that reads and never answers, which the library of the others cannot be.
func silent(t *testing.T, upTo string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				if upTo == "greeting" {
					bufio.NewReader(conn).ReadString(0)
					return
				}
				fmt.Fprint(conn, "220 relay.test\r\n")
				content := false
				for lines := bufio.NewScanner(conn); lines.Scan(); {
					line := lines.Text()
					verb, _, _ := strings.Cut(line, " ")
					switch {
					case content && line != ".", strings.EqualFold(verb, upTo), content && upTo == ".":
					case verb == "DATA":
						content = true
						fmt.Fprint(conn, "354 go on\r\n")
					default:
						content = false
						fmt.Fprint(conn, "250 ok\r\n")
					}
				}
			}()
		}
	}()
	return l.Addr().String()
}

func TestSilenceEnds(t *testing.T) {
	for upTo, at := range map[string]delivery.Step{
		"greeting": delivery.Connecting, "EHLO": delivery.Connecting, "MAIL": delivery.Mail, "RCPT": delivery.Rcpt, "DATA": delivery.Data, ".": delivery.Data,
	} {
		t.Run(upTo, func(t *testing.T) {
			const patience = 50 * time.Millisecond
			r := open(t, relay.Config{Address: silent(t, upTo), Security: relay.None, Times: relay.Times{Connect: patience, Command: patience, Content: patience, Idle: time.Minute}})
			_, err := send(t, r)
			refused(t, err, at, 0, "did not answer in time")
		})
		t.Run(upTo+" given up", func(t *testing.T) {
			r := open(t, relay.Config{Address: silent(t, upTo), Security: relay.None, Times: relay.Times{Connect: time.Hour, Command: time.Hour, Content: time.Hour, Idle: time.Minute}})
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(20*time.Millisecond, cancel)
			_, err := r.Send(ctx, "a@phone.test", "b@mail.test", []byte(message))
			if refusal, ok := errors.AsType[*delivery.Refusal](err); !ok || refusal.Code != 0 {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestOneConnectionServesManyMessages(t *testing.T) {
	s := smtptest.Start(t, smtptest.Options{Answer: func(at smtptest.Step, _, to string) error {
		if at == smtptest.Rcpt && strings.HasPrefix(to, "bad") {
			return smtptest.Says(550, "5.1.1 nobody")
		}
		return nil
	}})
	r := plain(t, s)
	for i := range 20 {
		to, bad := "ann@mail.test", i%3 == 0
		if bad {
			to = "bad@mail.test"
		}
		if _, err := r.Send(t.Context(), "no-reply@phone.test", to, []byte(message)); (err != nil) != bad {
			t.Fatal(err)
		}
	}
	if s.Connections() != 1 || s.Taken() != 13 {
		t.Errorf("%d messages by %d connections", s.Taken(), s.Connections())
	}
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			if _, err := send(t, r); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	until(t, "no more connections are kept than the configuration says", func() bool { return s.Open() <= 4 })
	r.Close()
	until(t, "all are closed in the end", func() bool { return s.Open() == 0 })
}

func TestIdleConnectionIsClosed(t *testing.T) {
	s := smtptest.Start(t, smtptest.Options{})
	times := brief
	times.Idle = 30 * time.Millisecond
	r := open(t, relay.Config{Address: s.Address, Security: relay.None, Times: times})
	for i := range 2 {
		if _, err := send(t, r); err != nil {
			t.Fatal(err)
		}
		until(t, "the connection is closed", func() bool { return s.Open() == 0 })
		if s.Connections() != i+1 {
			t.Errorf("%d connections", s.Connections())
		}
	}
}

func TestConnectionThatTheServerClosedIsNoFailure(t *testing.T) {
	for name, says := range map[string]error{"without a word": smtptest.ErrDrop, "with 421": smtptest.Says(421, "bye")} {
		t.Run(name, func(t *testing.T) {
			var mails atomic.Int64
			s := smtptest.Start(t, smtptest.Options{Answer: func(at smtptest.Step, _, _ string) error {
				if at == smtptest.Mail && mails.Add(1) == 2 {
					return says
				}
				return nil
			}})
			r := plain(t, s)
			for range 2 {
				if _, err := send(t, r); err != nil {
					t.Fatal(err)
				}
			}
			if s.Connections() != 2 || s.Taken() != 2 {
				t.Errorf("%d messages by %d connections", s.Taken(), s.Connections())
			}
		})
	}
}

func TestSMTPUTF8IsAskedForWhereItIsNeeded(t *testing.T) {
	s := smtptest.Start(t, smtptest.Options{SMTPUTF8: true})
	r := plain(t, s)
	for _, c := range []struct{ to, message string }{
		{"ann@mail.test", message}, {"ann@mail.test", message + "ü\r\n"}, {"zoë@mail.test", message}, {"ann@mail.test", "Subject: Grüße\r\n" + message},
	} {
		if _, err := r.Send(t.Context(), "no-reply@phone.test", c.to, []byte(c.message)); err != nil {
			t.Fatal(err)
		}
	}
	var asked []bool
	for _, m := range s.Messages() {
		asked = append(asked, m.UTF8)
	}
	if fmt.Sprint(asked) != "[false false true true]" {
		t.Errorf("asked: %v", asked)
	}
}

func TestGreeting(t *testing.T) {
	heard := make(chan string, 1)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(conn, "220 relay.test\r\n")
			line, _ := bufio.NewReader(conn).ReadString('\n')
			heard <- line
			conn.Close()
		}
	}()
	for name, want := range map[string]string{"": "EHLO [127.0.0.1]\r\n", "phone.example.org": "EHLO phone.example.org\r\n"} {
		open(t, relay.Config{Address: l.Addr().String(), Security: relay.None, Name: name}).Check(t.Context())
		if got := <-heard; got != want {
			t.Errorf("%q greets with %q", name, got)
		}
	}
}

func TestCheckLogsInAndLeaves(t *testing.T) {
	s := smtptest.Start(t, smtptest.Options{Users: map[string]string{"alex": "secret"}})
	c := relay.Config{Address: s.Address, Security: relay.None, User: "alex", Password: password("secret")}
	if said, err := open(t, c).Check(t.Context()); err != nil || !strings.Contains(said, "relay.test") && !bytes.Contains([]byte(said), []byte("Hello")) {
		t.Errorf("%q, %v", said, err)
	}
	c.Password = password("wrong")
	_, err := open(t, c).Check(t.Context())
	refused(t, err, delivery.LoggingIn, 535, "")
	until(t, "it leaves", func() bool { return s.Open() == 0 })
}

// scripted is a server that answers each command by its verb, and notes what it got.
func scripted(t *testing.T, answers map[string]string) (address string, got func() []string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	var mu sync.Mutex
	var lines []string
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				fmt.Fprint(conn, "220 relay.test\r\n")
				for in := bufio.NewScanner(conn); in.Scan(); {
					mu.Lock()
					lines = append(lines, in.Text())
					mu.Unlock()
					verb, _, _ := strings.Cut(in.Text(), " ")
					if says, ok := answers[verb]; ok {
						fmt.Fprint(conn, says+"\r\n")
					}
				}
			}()
		}
	}()
	return l.Addr().String(), func() []string {
		mu.Lock()
		defer mu.Unlock()
		return append([]string(nil), lines...)
	}
}

// A server that takes commands at once may ask for content though it refused the recipient. It gets none, and the next message is whole.
func TestRefusalsAmongCommandsSentAtOnce(t *testing.T) {
	const hello = "250-relay.test\r\n250-PIPELINING\r\n250 8BITMIME"
	for name, c := range map[string]struct {
		answers map[string]string
		at      delivery.Step
		code    int
		want    string
	}{
		"the recipient, and content is asked for": {map[string]string{"EHLO": hello, "MAIL": "250 ok", "RCPT": "550 5.1.1 nobody", "DATA": "354 go on", ".": "554 nobody to send to", "RSET": "250 ok"},
			delivery.Rcpt, 550, "MAIL RCPT DATA . RSET"},
		"the recipient, and content is refused": {map[string]string{"EHLO": hello, "MAIL": "250 ok", "RCPT": "550 5.1.1 nobody", "DATA": "503 no recipients", "RSET": "250 ok"},
			delivery.Rcpt, 550, "MAIL RCPT DATA RSET"},
		"the sender": {map[string]string{"EHLO": hello, "MAIL": "451 later", "RCPT": "503 no sender", "DATA": "503 no sender", "RSET": "250 ok"},
			delivery.Mail, 451, "MAIL RCPT DATA RSET"},
		"content": {map[string]string{"EHLO": hello, "MAIL": "250 ok", "RCPT": "250 ok", "DATA": "452 full", "RSET": "250 ok"},
			delivery.Data, 452, "MAIL RCPT DATA RSET"},
	} {
		t.Run(name, func(t *testing.T) {
			address, got := scripted(t, c.answers)
			r := open(t, relay.Config{Address: address, Security: relay.None})
			for range 2 {
				_, err := send(t, r)
				refused(t, err, c.at, c.code, "")
			}
			var verbs []string
			for _, line := range got()[1:] {
				verb, _, _ := strings.Cut(line, " ")
				verbs = append(verbs, verb)
			}
			if have := strings.Join(verbs, " "); have != c.want+" "+c.want {
				t.Errorf("it said %s", have)
			}
		})
	}
}

func TestAddressesAreOneLine(t *testing.T) {
	s := smtptest.Start(t, smtptest.Options{})
	for _, bad := range []string{"ann@mail.test>\r\nRCPT TO:<bob@mail.test", "ann@mail.test\n"} {
		for _, both := range [][2]string{{bad, "ann@mail.test"}, {"no-reply@phone.test", bad}} {
			_, err := plain(t, s).Send(t.Context(), both[0], both[1], []byte(message))
			refused(t, err, delivery.Rcpt, 553, "")
		}
	}
	if s.Taken() != 0 {
		t.Error("a message was sent")
	}
}
