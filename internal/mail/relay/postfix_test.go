package relay_test

import (
	"crypto/x509"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"dialtone/internal/delivery"
	"dialtone/internal/mail/relay"
	"dialtone/internal/test/smtptest"
)

func TestPostfix(t *testing.T) {
	if why := smtptest.PostfixUnavailable(); why != "" {
		t.Skip(why)
	}
	var busy atomic.Bool
	busy.Store(true)
	sink := smtptest.Start(t, smtptest.Options{Answer: func(at smtptest.Step, _, to string) error {
		if at == smtptest.Rcpt && strings.HasPrefix(to, "queued") && busy.Load() {
			return smtptest.Reply(450, "4.2.1 busy")
		}
		return nil
	}})
	p := smtptest.StartPostfix(t, sink.Address,
		"bad@mail.test REJECT 5.1.1 no such user", "later@mail.test DEFER 4.2.1 mailbox busy")
	pem, err := os.ReadFile(p.CA)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	for name, c := range map[string]relay.Config{
		"STARTTLS":           {Address: p.StartTLS, Security: relay.StartTLS},
		"TLS":                {Address: p.TLS, Security: relay.TLS},
		"TLS, AUTH LOGIN":    {Address: p.TLS, Security: relay.TLS, Mechanism: "LOGIN"},
		"TLS, AUTH CRAM-MD5": {Address: p.TLS, Security: relay.TLS, Mechanism: "CRAM-MD5"},
	} {
		t.Run(name, func(t *testing.T) {
			c.Roots, c.User, c.Password = roots, p.User, password(p.Password)
			r := newRelay(t, c)
			before := sink.Accepted()
			answer, err := send(t, r)
			if err != nil || !strings.Contains(answer, "queued as") {
				t.Fatalf("%q, %v", answer, err)
			}
			waitFor(t, "Postfix forwards the message", func() bool { return sink.Accepted() > before })
			got := sink.Messages()[before]
			_, body, _ := strings.Cut(string(got.Data), "\r\n\r\n")
			if got.To != "ann@mail.test" || !strings.HasSuffix(message, "\r\n\r\n"+body) {
				t.Errorf("got %s", got.Data)
			}
			_, err = r.Send(t.Context(), "no-reply@phone.test", "bad@mail.test", []byte(message))
			wantRefusal(t, err, delivery.Rcpt, 554, "5.1.1")
			_, err = r.Send(t.Context(), "no-reply@phone.test", "later@mail.test", []byte(message))
			wantRefusal(t, err, delivery.Rcpt, 450, "4.2.1")
			c.Password = password("wrong")
			_, err = send(t, newRelay(t, c))
			wantRefusal(t, err, delivery.LoggingIn, 535, "")
			c.User = ""
			_, err = send(t, newRelay(t, c))
			wantRefusal(t, err, delivery.Rcpt, 554, "5.7.1")
			c.User, c.Roots = p.User, nil
			_, err = send(t, newRelay(t, c))
			wantRefusal(t, err, delivery.Connecting, 0, "unknown authority")
		})
	}
	r := newRelay(t, relay.Config{
		Address: p.TLS, Security: relay.TLS, Roots: roots, User: p.User, Password: password(p.Password),
	})
	_, err = r.Send(t.Context(), "no-reply@phone.test", "queued@mail.test", []byte(message))
	if err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the message is in the queue of Postfix",
		func() bool { return strings.Contains(p.Queue(), "queued@mail.test") })
	busy.Store(false)
	waitFor(t, "the queue of Postfix is empty", func() bool {
		p.Flush()
		return strings.Contains(p.Queue(), "Mail queue is empty")
	})
}
