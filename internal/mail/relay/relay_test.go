package relay_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"dialtone/internal/delivery"
	"dialtone/internal/mail/relay"
	"dialtone/internal/test/process"
	"dialtone/internal/test/smtptest"
)

const message = "From: no-reply@phone.test\r\nTo: ann@mail.test\r\nSubject: Hello\r\n" +
	"Message-ID: <1@phone.test>\r\n\r\n.one dot\r\n..two dots\r\nThe end.\r\n"

// shortTimes are timeouts for a server on this machine.
var shortTimes = timesOf(5 * time.Second)

// timesOf returns timeouts of d each, except Idle.
func timesOf(d time.Duration) relay.Times {
	return relay.Times{Connect: d, Command: d, Content: d, Idle: time.Minute}
}

func newRelay(t *testing.T, c relay.Config) *relay.Relay {
	t.Helper()
	if c.Times == (relay.Times{}) {
		c.Times = shortTimes
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

func unencrypted(t *testing.T, s *smtptest.Server) *relay.Relay {
	t.Helper()
	return newRelay(t, relay.Config{Address: s.Address, Security: relay.None})
}

func send(t *testing.T, r *relay.Relay) (string, error) {
	t.Helper()
	return r.Send(t.Context(), "no-reply@phone.test", "ann@mail.test", []byte(message))
}

// wantRefusal checks that err is a refusal at a step, with a code and a text that contains words.
func wantRefusal(t *testing.T, err error, at delivery.Step, code int, words string) {
	t.Helper()
	r, ok := errors.AsType[*delivery.Refusal](err)
	if !ok || r.At != at || r.Code != code || !strings.Contains(r.Text, words) {
		t.Errorf("got %#v, want %v %d %q", err, at, code, words)
	}
}

// waitFor waits until a condition is true.
func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	process.Eventually(t, what, process.Holds(ok))
}

func password(text string) func() (string, error) {
	return func() (string, error) { return text, nil }
}

func TestSendSecurityAndLogin(t *testing.T) {
	certificate, trusted, _ := smtptest.Certificate(t, time.Now().Add(time.Hour), "127.0.0.1", "localhost")
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(trusted)
	settings := &tls.Config{Certificates: []tls.Certificate{certificate}}
	const user = "alex@phone.test"
	users := map[string]string{user: "a pass phrase ü"}
	for name, c := range map[string]struct {
		server smtptest.Options
		client relay.Config
	}{
		"unencrypted": {
			smtptest.Options{},
			relay.Config{Security: relay.None}},
		"STARTTLS": {
			smtptest.Options{TLS: settings},
			relay.Config{Security: relay.StartTLS}},
		"TLS": {
			smtptest.Options{TLS: settings, Implicit: true},
			relay.Config{Security: relay.TLS}},
		"TLS with login": {
			smtptest.Options{TLS: settings, Implicit: true, Users: users},
			relay.Config{Security: relay.TLS, User: user}},
		"STARTTLS with login": {
			smtptest.Options{TLS: settings, Users: users},
			relay.Config{Security: relay.StartTLS, User: user}},
		"LOGIN if nothing else is offered": {
			smtptest.Options{TLS: settings, Users: users, Mechanisms: []string{"LOGIN"}},
			relay.Config{Security: relay.StartTLS, User: user}},
		"CRAM-MD5 if nothing else is offered": {
			smtptest.Options{Users: users, Mechanisms: []string{"CRAM-MD5", "GSSAPI"}},
			relay.Config{Security: relay.None, User: user}},
		"XOAUTH2 if configured": {
			smtptest.Options{TLS: settings, Users: users, Mechanisms: []string{"PLAIN", "XOAUTH2"}},
			relay.Config{Security: relay.StartTLS, User: user, Mechanism: "XOAUTH2"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := smtptest.Start(t, c.server)
			c.client.Address, c.client.Roots, c.client.Password = s.Address, roots, password("a pass phrase ü")
			if answer, err := send(t, newRelay(t, c.client)); err != nil || answer == "" {
				t.Fatalf("%q, %v", answer, err)
			}
			got := s.Messages()
			if len(got) != 1 || got[0].From != "no-reply@phone.test" || got[0].To != "ann@mail.test" ||
				string(got[0].Data) != message || got[0].UTF8 {
				t.Errorf("got %+v", got)
			}
		})
	}
}

func TestCertificateIsVerified(t *testing.T) {
	valid, trusted, _ := smtptest.Certificate(t, time.Now().Add(time.Hour), "127.0.0.1")
	otherHost, otherTrusted, _ := smtptest.Certificate(t, time.Now().Add(time.Hour), "mail.example")
	expired, expiredTrusted, _ := smtptest.Certificate(t, time.Now().Add(-time.Minute), "127.0.0.1")
	roots := x509.NewCertPool()
	for _, pem := range [][]byte{otherTrusted, expiredTrusted} {
		roots.AppendCertsFromPEM(pem)
	}
	both := roots.Clone()
	both.AppendCertsFromPEM(trusted)
	for name, c := range map[string]struct {
		certificate tls.Certificate
		roots       *x509.CertPool
		words       string
	}{
		"unknown authority":               {valid, roots, "unknown authority"},
		"authority unknown to the system": {valid, nil, "unknown authority"},
		"certificate for another host":    {otherHost, both, "127.0.0.1"},
		"expired certificate":             {expired, both, "expired"},
	} {
		for security, implicit := range map[relay.Security]bool{relay.TLS: true, relay.StartTLS: false} {
			t.Run(fmt.Sprint(name, ", implicit ", implicit), func(t *testing.T) {
				s := smtptest.Start(t, smtptest.Options{
					TLS:      &tls.Config{Certificates: []tls.Certificate{c.certificate}},
					Implicit: implicit,
				})
				asked := false
				r := newRelay(t, relay.Config{
					Address: s.Address, Security: security, Roots: c.roots, User: "alex",
					Password: func() (string, error) {
						asked = true
						return "secret", nil
					},
				})
				_, err := send(t, r)
				wantRefusal(t, err, delivery.Connecting, 0, c.words)
				if asked || s.Accepted() > 0 {
					t.Error("the relay continued with an untrusted server")
				}
			})
		}
	}
}

func TestServerWithoutSTARTTLSIsRefused(t *testing.T) {
	s := smtptest.Start(t, smtptest.Options{Users: map[string]string{"alex": "secret"}})
	_, err := send(t, newRelay(t, relay.Config{
		Address: s.Address, Security: relay.StartTLS, User: "alex", Password: password("secret"),
	}))
	wantRefusal(t, err, delivery.Connecting, 0, "does not offer STARTTLS")
}

func TestLoginFailures(t *testing.T) {
	s := smtptest.Start(t, smtptest.Options{
		Users:      map[string]string{"alex": "secret"},
		Mechanisms: []string{"PLAIN", "LOGIN", "CRAM-MD5", "XOAUTH2"},
	})
	c := relay.Config{Address: s.Address, Security: relay.None, User: "alex", Password: password("wrong")}
	for _, mechanism := range []string{"", "LOGIN", "CRAM-MD5", "XOAUTH2"} {
		c.Mechanism = mechanism
		_, err := send(t, newRelay(t, c))
		wantRefusal(t, err, delivery.LoggingIn, 535, "Authentication failed")
		if strings.Contains(fmt.Sprint(err), "wrong") {
			t.Error("the password is in the error")
		}
	}
	c.Mechanism = ""
	c.Password = func() (string, error) { return "", errors.New("no such file") }
	_, err := send(t, newRelay(t, c))
	wantRefusal(t, err, delivery.LoggingIn, 0, "no such file")
	_, err = send(t, unencrypted(t, s))
	wantRefusal(t, err, delivery.Mail, 530, "Authentication required")
	c.Address, c.Password = smtptest.Start(t, smtptest.Options{}).Address, password("secret")
	_, err = send(t, newRelay(t, c))
	wantRefusal(t, err, delivery.LoggingIn, 0, "does not offer a login")
}

func TestRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		at    smtptest.Step
		reply error
		step  delivery.Step
		code  int
		text  string
	}{
		"greeting 421":       {smtptest.Greet, smtptest.Reply(421, "too busy"), delivery.Connecting, 421, "too busy"},
		"greeting 554":       {smtptest.Greet, smtptest.Reply(554, "not you"), delivery.Connecting, 554, "not you"},
		"greeting dropped":   {smtptest.Greet, smtptest.ErrDrop, delivery.Connecting, 0, ""},
		"MAIL 451":           {smtptest.Mail, smtptest.Reply(451, "4.7.1 later"), delivery.Mail, 451, "4.7.1 later"},
		"MAIL 550":           {smtptest.Mail, smtptest.Reply(550, "5.1.8 domain"), delivery.Mail, 550, "5.1.8 domain"},
		"MAIL dropped":       {smtptest.Mail, smtptest.ErrDrop, delivery.Mail, 0, ""},
		"RCPT 450":           {smtptest.Rcpt, smtptest.Reply(450, "4.2.1 busy"), delivery.Rcpt, 450, "4.2.1 busy"},
		"RCPT 550":           {smtptest.Rcpt, smtptest.Reply(550, "5.1.1 nobody"), delivery.Rcpt, 550, "5.1.1 nobody"},
		"RCPT dropped":       {smtptest.Rcpt, smtptest.ErrDrop, delivery.Rcpt, 0, ""},
		"DATA 452":           {smtptest.Content, smtptest.Reply(452, "4.3.1 full"), delivery.Data, 452, "4.3.1 full"},
		"DATA 554":           {smtptest.Content, smtptest.Reply(554, "5.6.0 no"), delivery.Data, 554, "5.6.0 no"},
		"DATA dropped":       {smtptest.Content, smtptest.ErrDrop, delivery.Data, 0, ""},
		"accepted, no reply": {smtptest.Content, smtptest.ErrDropAfterAccept, delivery.Data, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var healthy atomic.Bool
			s := smtptest.Start(t, smtptest.Options{Answer: func(at smtptest.Step, _, _ string) error {
				if at == c.at && !healthy.Load() {
					return c.reply
				}
				return nil
			}})
			r := unencrypted(t, s)
			_, err := send(t, r)
			wantRefusal(t, err, c.step, c.code, c.text)
			healthy.Store(true)
			before := s.Accepted()
			if _, err := send(t, r); err != nil || s.Accepted() != before+1 {
				t.Errorf("the next message: %v", err)
			}
		})
	}
}

// silent starts a server that stops answering at a step, and returns its address. It calls reached
// at that step.
func silent(t *testing.T, step string, reached func()) string {
	t.Helper()
	return smtptest.Serve(t, func(conn net.Conn) {
		if step == "greeting" {
			reached()
			bufio.NewReader(conn).ReadString(0)
			return
		}
		fmt.Fprint(conn, "220 relay.test\r\n")
		content := false
		for lines := bufio.NewScanner(conn); lines.Scan(); {
			line := lines.Text()
			verb, _, _ := strings.Cut(line, " ")
			switch {
			case content && line != ".":
			case strings.EqualFold(verb, step):
				reached()
			case verb == "DATA":
				content = true
				fmt.Fprint(conn, "354 go on\r\n")
			default:
				content = false
				fmt.Fprint(conn, "250 ok\r\n")
			}
		}
	})
}

// TestRepliesWithoutText sends through a server whose replies are only a code (RFC 5321 section 4.2).
func TestRepliesWithoutText(t *testing.T) {
	for _, row := range []struct{ name, hello, end string }{
		{"one command after the other", "250 relay.test\r\n", "\r\n"},
		{"with pipelining", "250-relay.test\r\n250-PIPELINING\r\n250 8BITMIME\r\n", "\r\n"},
		{"with a space", "250 relay.test\r\n", " \r\n"},
		{"even to EHLO", "250\r\n", "\r\n"},
		{"and lines end with a line feed only", "250 relay.test\n", "\n"},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := newRelay(t, relay.Config{Address: terse(t, row.hello, row.end, "250"), Security: relay.None})
			for range 2 {
				if answer, err := send(t, r); err != nil || answer != "" {
					t.Errorf("answer %q, %v", answer, err)
				}
			}
			r = newRelay(t, relay.Config{Address: terse(t, row.hello, row.end, "452"), Security: relay.None})
			_, err := send(t, r)
			wantRefusal(t, err, delivery.Data, 452, "")
		})
	}
}

// terse starts a server whose replies have no text, and returns its address. It answers the content
// of a message with last.
func terse(t *testing.T, hello, end, last string) string {
	t.Helper()
	return smtptest.Serve(t, func(conn net.Conn) {
		fmt.Fprint(conn, "220 relay.test\r\n")
		content := false
		for lines := bufio.NewScanner(conn); lines.Scan(); {
			verb, _, _ := strings.Cut(lines.Text(), " ")
			switch {
			case content && verb != ".":
			case content:
				content = false
				fmt.Fprint(conn, last+end)
			case verb == "EHLO":
				fmt.Fprint(conn, hello)
			case verb == "DATA":
				content = true
				fmt.Fprint(conn, "354"+end)
			default:
				fmt.Fprint(conn, "250"+end)
			}
		}
	})
}

func TestTimeouts(t *testing.T) {
	for step, at := range map[string]delivery.Step{
		"greeting": delivery.Connecting,
		"EHLO":     delivery.Connecting,
		"MAIL":     delivery.Mail,
		"RCPT":     delivery.Rcpt,
		"DATA":     delivery.Data,
		".":        delivery.Data,
	} {
		t.Run(step, func(t *testing.T) {
			times := shortTimes // only the step is short: a busy machine may need long for the others
			switch {
			case at == delivery.Connecting:
				times.Connect = 50 * time.Millisecond
			case step == ".":
				times.Content = 50 * time.Millisecond
			default:
				times.Command = 200 * time.Millisecond
			}
			r := newRelay(t, relay.Config{
				Address: silent(t, step, func() {}), Security: relay.None, Times: times,
			})
			began := time.Now()
			_, err := send(t, r)
			wantRefusal(t, err, at, 0, "did not answer in time")
			if took := time.Since(began); took >= shortTimes.Command {
				t.Errorf("it took %v, which is the timeout of other steps", took)
			}
		})
		t.Run(step+" cancelled", func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			r := newRelay(t, relay.Config{
				Address: silent(t, step, cancel), Security: relay.None, Times: timesOf(time.Hour),
			})
			_, err := r.Send(ctx, "a@phone.test", "b@mail.test", []byte(message))
			wantRefusal(t, err, at, 0, "")
		})
	}
}

func TestConnectionReuse(t *testing.T) {
	s := smtptest.Start(t, smtptest.Options{Answer: func(at smtptest.Step, _, to string) error {
		if at == smtptest.Rcpt && strings.HasPrefix(to, "bad") {
			return smtptest.Reply(550, "5.1.1 nobody")
		}
		return nil
	}})
	r := unencrypted(t, s)
	for i := range 20 {
		to, bad := "ann@mail.test", i%3 == 0
		if bad {
			to = "bad@mail.test"
		}
		if _, err := r.Send(t.Context(), "no-reply@phone.test", to, []byte(message)); (err != nil) != bad {
			t.Fatal(err)
		}
	}
	if s.Connections() != 1 || s.Accepted() != 13 {
		t.Errorf("%d messages over %d connections", s.Accepted(), s.Connections())
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
	waitFor(t, "at most Connections are kept", func() bool { return s.Open() <= 4 })
	r.Close()
	waitFor(t, "Close closes all connections", func() bool { return s.Open() == 0 })
}

func TestIdleConnectionIsClosed(t *testing.T) {
	s := smtptest.Start(t, smtptest.Options{})
	times := shortTimes
	times.Idle = 30 * time.Millisecond
	r := newRelay(t, relay.Config{Address: s.Address, Security: relay.None, Times: times})
	for i := range 2 {
		if _, err := send(t, r); err != nil {
			t.Fatal(err)
		}
		waitFor(t, "the connection is closed", func() bool { return s.Open() == 0 })
		if s.Connections() != i+1 {
			t.Errorf("%d connections", s.Connections())
		}
	}
}

func TestConnectionClosedByServer(t *testing.T) {
	for name, reply := range map[string]error{
		"without reply": smtptest.ErrDrop,
		"with 421":      smtptest.Reply(421, "bye"),
	} {
		t.Run(name, func(t *testing.T) {
			var mails atomic.Int64
			s := smtptest.Start(t, smtptest.Options{Answer: func(at smtptest.Step, _, _ string) error {
				if at == smtptest.Mail && mails.Add(1) == 2 {
					return reply
				}
				return nil
			}})
			r := unencrypted(t, s)
			for range 2 {
				if _, err := send(t, r); err != nil {
					t.Fatal(err)
				}
			}
			if s.Connections() != 2 || s.Accepted() != 2 {
				t.Errorf("%d messages over %d connections", s.Accepted(), s.Connections())
			}
		})
	}
}

func TestSMTPUTF8(t *testing.T) {
	s := smtptest.Start(t, smtptest.Options{SMTPUTF8: true})
	r := unencrypted(t, s)
	for _, c := range []struct{ to, message string }{
		{"ann@mail.test", message},
		{"ann@mail.test", message + "ü\r\n"},
		{"zoë@mail.test", message},
		{"ann@mail.test", "Subject: Grüße\r\n" + message},
	} {
		if _, err := r.Send(t.Context(), "no-reply@phone.test", c.to, []byte(c.message)); err != nil {
			t.Fatal(err)
		}
	}
	var requested []bool
	for _, m := range s.Messages() {
		requested = append(requested, m.UTF8)
	}
	if fmt.Sprint(requested) != "[false false true true]" {
		t.Errorf("SMTPUTF8 requested: %v", requested)
	}
}

func TestGreeting(t *testing.T) {
	greetings := make(chan string, 1)
	address := smtptest.Serve(t, func(conn net.Conn) {
		fmt.Fprint(conn, "220 relay.test\r\n")
		line, _ := bufio.NewReader(conn).ReadString('\n')
		greetings <- line
	})
	for name, want := range map[string]string{
		"":                  "EHLO [127.0.0.1]\r\n",
		"phone.example.org": "EHLO phone.example.org\r\n",
	} {
		c := relay.Config{Address: address, Security: relay.None, Name: name}
		newRelay(t, c).Check(t.Context())
		if got := <-greetings; got != want {
			t.Errorf("%q greets with %q", name, got)
		}
	}
}

func TestCheck(t *testing.T) {
	s := smtptest.Start(t, smtptest.Options{Users: map[string]string{"alex": "secret"}})
	c := relay.Config{Address: s.Address, Security: relay.None, User: "alex", Password: password("secret")}
	reply, err := newRelay(t, c).Check(t.Context())
	if err != nil || !strings.Contains(reply, "relay.test") && !strings.Contains(reply, "Hello") {
		t.Errorf("%q, %v", reply, err)
	}
	c.Password = password("wrong")
	_, err = newRelay(t, c).Check(t.Context())
	wantRefusal(t, err, delivery.LoggingIn, 535, "")
	waitFor(t, "Check closes its connection", func() bool { return s.Open() == 0 })
}

// scripted starts a server whose answers to commands are in a map by verb. received returns the
// lines that it has received so far.
func scripted(t *testing.T, answers map[string]string) (address string, received func() []string) {
	t.Helper()
	var mu sync.Mutex
	var lines []string
	address = smtptest.Serve(t, func(conn net.Conn) {
		fmt.Fprint(conn, "220 relay.test\r\n")
		for in := bufio.NewScanner(conn); in.Scan(); {
			mu.Lock()
			lines = append(lines, in.Text())
			mu.Unlock()
			verb, _, _ := strings.Cut(in.Text(), " ")
			if answer, ok := answers[verb]; ok {
				fmt.Fprint(conn, answer+"\r\n")
			}
		}
	})
	return address, func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(lines)
	}
}

// A server may accept a pipelined DATA although it refused the recipient. The client must send
// it empty content, and the next message must not be affected.
func TestRefusalsWithPipelining(t *testing.T) {
	const hello = "250-relay.test\r\n250-PIPELINING\r\n250 8BITMIME"
	for name, c := range map[string]struct {
		answers map[string]string
		at      delivery.Step
		code    int
		want    string
	}{
		"recipient, DATA accepted": {
			map[string]string{
				"EHLO": hello, "MAIL": "250 ok", "RCPT": "550 5.1.1 nobody", "DATA": "354 go on",
				".": "554 no recipients", "RSET": "250 ok",
			},
			delivery.Rcpt, 550, "MAIL RCPT DATA . RSET"},
		"recipient, DATA refused": {
			map[string]string{
				"EHLO": hello, "MAIL": "250 ok", "RCPT": "550 5.1.1 nobody",
				"DATA": "503 no recipients", "RSET": "250 ok",
			},
			delivery.Rcpt, 550, "MAIL RCPT DATA RSET"},
		"sender": {
			map[string]string{
				"EHLO": hello, "MAIL": "451 later", "RCPT": "503 no sender", "DATA": "503 no sender",
				"RSET": "250 ok",
			},
			delivery.Mail, 451, "MAIL RCPT DATA RSET"},
		"content": {
			map[string]string{
				"EHLO": hello, "MAIL": "250 ok", "RCPT": "250 ok", "DATA": "452 full",
				"RSET": "250 ok",
			},
			delivery.Data, 452, "MAIL RCPT DATA RSET"},
	} {
		t.Run(name, func(t *testing.T) {
			address, received := scripted(t, c.answers)
			r := newRelay(t, relay.Config{Address: address, Security: relay.None})
			for range 2 {
				_, err := send(t, r)
				wantRefusal(t, err, c.at, c.code, "")
			}
			var verbs []string
			for _, line := range received()[1:] {
				verb, _, _ := strings.Cut(line, " ")
				verbs = append(verbs, verb)
			}
			if got := strings.Join(verbs, " "); got != c.want+" "+c.want {
				t.Errorf("the relay sent %s", got)
			}
		})
	}
}

func TestAddressWithLineBreak(t *testing.T) {
	s := smtptest.Start(t, smtptest.Options{})
	for _, bad := range []string{"ann@mail.test>\r\nRCPT TO:<bob@mail.test", "ann@mail.test\n"} {
		for _, pair := range [][2]string{{bad, "ann@mail.test"}, {"no-reply@phone.test", bad}} {
			_, err := unencrypted(t, s).Send(t.Context(), pair[0], pair[1], []byte(message))
			wantRefusal(t, err, delivery.Rcpt, 553, "")
		}
	}
	if s.Accepted() != 0 {
		t.Error("a message was sent")
	}
}
