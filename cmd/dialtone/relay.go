package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"dialtone/internal/config"
	"dialtone/internal/delivery"
	"dialtone/internal/http/ops"
	"dialtone/internal/mail/dkim"
	"dialtone/internal/mail/relay"
)

var securities = map[string]relay.Security{"smtps": relay.TLS, "smtp+starttls": relay.StartTLS, "smtp": relay.None}

// relay is the one of the configuration, which has one.
func (f *folder) relay() (*relay.Relay, error) {
	parts := f.Mail.Relay.Parts()
	c := relay.Config{
		Address: parts.Address, Security: securities[parts.Scheme], User: parts.User, Mechanism: strings.ToUpper(parts.Mechanism),
		Name: parts.Name, Password: relayPassword(f.Mail), Connections: f.Mail.RelayConnections,
	}
	if c.Name == "" {
		// What is no full name tells a server nothing, and some refuse it.
		if name, err := os.Hostname(); err == nil && strings.Contains(name, ".") {
			c.Name = name
		}
	}
	if f.Mail.RelayCAFile != "" {
		text, err := os.ReadFile(f.Mail.RelayCAFile)
		if err != nil {
			return nil, fmt.Errorf("mail.relay_ca_file: %w", err)
		}
		c.Roots = x509.NewCertPool()
		if !c.Roots.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("mail.relay_ca_file: there is no certificate in %s; it is to be PEM", f.Mail.RelayCAFile)
		}
	}
	return relay.New(c)
}

// relayPassword gives the password of the relay's user, for each login anew.
func relayPassword(m config.Mail) func() (string, error) {
	return func() (string, error) {
		if m.RelayPassword != "" {
			return string(m.RelayPassword), nil
		}
		text, err := os.ReadFile(m.RelayPasswordFile)
		if err != nil {
			return "", fmt.Errorf("mail.relay_password_file: %w", err)
		}
		return strings.TrimRight(string(text), "\r\n"), nil
	}
}

// openRelay makes the queue that sends the messages, where there is a relay for them.
func (s *server) openRelay(node string) error {
	if s.Mail.Relay == "" {
		return nil
	}
	r, err := s.folder.relay()
	if err != nil {
		return err
	}
	if _, err := relayPassword(s.Mail)(); err != nil && s.Mail.Relay.Parts().User != "" {
		return err // now, and not at the first message
	}
	s.outgoing = r
	s.queue = delivery.NewQueue(delivery.Deps{
		Store: s.store, Files: s.pickup, Relay: r, Signer: dkim.NewSigner(dkim.NewKeys(s.store, s.seal), time.Now), Node: node,
		Connections: s.Mail.RelayConnections, Log: s.log, Now: time.Now,
	})
	return nil
}

// post sends messages until ctx ends.
func (s *server) post(ctx context.Context) {
	s.queue.Run(ctx)
	s.outgoing.Close()
}

// pickupMetrics are of the files in the pickup directory, whoever is to send them.
func (s *server) pickupMetrics() prometheus.Collector {
	return ops.Readings([]ops.Metric{
		{Name: "dialtone_mail_pickup_files", Help: "Messages in the pickup directory."},
		{Name: "dialtone_mail_pickup_oldest_age_seconds", Help: "Age of the oldest of them; 0 where there is none."},
	}, func(_ context.Context, set func(int, string, float64)) error {
		files, oldest, err := s.pickup.Load()
		if err == nil {
			set(0, "", float64(files))
			set(1, "", age(oldest))
		}
		return err
	})
}

// relayMetrics are of what this server sends.
func (s *server) relayMetrics() prometheus.Collector {
	return ops.Readings([]ops.Metric{
		{Name: "dialtone_mail_queue_messages", Help: "Messages that this server is to send, by state.", Label: "state"},
		{Name: "dialtone_mail_queue_oldest_age_seconds", Help: "Since when the oldest of them waits; 0 where there is none."},
		{Name: "dialtone_mail_tries_total", Help: "What tries to send a message came to, since the start.", Counts: true, Label: "outcome"},
		{Name: "dialtone_mail_relay_pause_seconds", Help: "For how long the relay is left alone since it could not be reached; 0 where it is in use."},
	}, func(ctx context.Context, set func(int, string, float64)) error {
		n := s.queue.Counts()
		for outcome, count := range map[string]int64{"sent": n.Sent, "deferred": n.Deferred, "failed": n.Failed} {
			set(2, outcome, float64(count))
		}
		set(3, "", n.Pause.Seconds())
		b, err := s.store.Backlog(ctx)
		if err != nil {
			return errors.Join(errors.New("count the queue"), err)
		}
		set(0, string(delivery.Waiting), float64(b.Waiting))
		set(0, string(delivery.Deferred), float64(b.Deferred))
		set(1, "", age(b.Oldest))
		return nil
	})
}

func age(since time.Time) float64 {
	if since.IsZero() {
		return 0
	}
	return time.Since(since).Seconds()
}
