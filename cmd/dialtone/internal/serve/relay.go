package serve

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"dialtone/cmd/dialtone/internal/adapter"
	"dialtone/internal/delivery"
	"dialtone/internal/http/ops"
	"dialtone/internal/mail/dkim"
)

// openRelay creates the queue that sends messages, if a relay is configured.
func (s *server) openRelay(node string) error {
	if s.Mail.Relay == "" {
		return nil
	}
	r, err := adapter.NewRelay(s.Mail)
	if err != nil {
		return err
	}
	if _, err := adapter.RelayPassword(s.Mail)(); err != nil && s.Mail.Relay.Parts().User != "" {
		return err // at the start, not at the first message
	}
	s.relay = r
	s.queue = delivery.NewQueue(delivery.Deps{
		Store:       s.Store,
		Files:       s.pickup,
		Relay:       r,
		Signer:      dkim.NewSigner(dkim.NewKeys(s.Store, s.Seal), time.Now),
		Node:        node,
		Tracer:      s.tracer,
		Connections: s.Mail.RelayConnections,
		Counts:      s.daily,
		Log:         s.log,
		Now:         time.Now,
	})
	return nil
}

// sendMessages sends messages until ctx is done.
func (s *server) sendMessages(ctx context.Context) {
	s.queue.Run(ctx)
	s.relay.Close()
}

// pickupMetrics returns the metrics of the pickup directory.
func (s *server) pickupMetrics() prometheus.Collector {
	return ops.NewCollector([]ops.Metric{
		{Name: "dialtone_mail_pickup_files", Help: "Messages in the pickup directory."},
		{
			Name: "dialtone_mail_pickup_oldest_age_seconds",
			Help: "Age of the oldest message in the pickup directory; 0 if there is none.",
		},
		{
			Name: "dialtone_mail_unwritten_messages",
			Help: "Messages of all servers that are not in a pickup directory yet, counted up to 1001.",
		},
		{
			Name: "dialtone_mail_unwritten_oldest_age_seconds",
			Help: "Age of the oldest of these messages; 0 if there is none.",
		},
	}, func(ctx context.Context, to *ops.Values) error {
		files, oldest, err := s.pickup.Load()
		if err == nil {
			to.Set(0, float64(files))
			to.Set(1, age(oldest).Seconds())
		}
		n, made, storeErr := s.Store.Unwritten(ctx, 0)
		if storeErr == nil {
			to.Set(2, float64(n))
			to.Set(3, age(made).Seconds())
		}
		return errors.Join(err, storeErr)
	})
}

// relayMetrics returns the metrics of the messages that this server sends.
func (s *server) relayMetrics() prometheus.Collector {
	return ops.NewCollector([]ops.Metric{
		{
			Name:   "dialtone_mail_queue_messages",
			Help:   "Messages that wait in the queue of this server, by state.",
			Labels: []string{"state"},
		},
		{
			Name: "dialtone_mail_queue_oldest_age_seconds",
			Help: "How long the oldest of these messages has waited; 0 if there is none.",
		},
		{
			Name:    "dialtone_mail_tries_total",
			Help:    "Attempts to send a message since the start, by outcome.",
			Counter: true,
			Labels:  []string{"outcome"},
		},
		{
			Name: "dialtone_mail_relay_pause_seconds",
			Help: "Time until an unreachable relay is tried again; 0 if it is in use.",
		},
	}, func(ctx context.Context, to *ops.Values) error {
		n := s.queue.Counts()
		to.Set(2, float64(n.Sent), "sent")
		to.Set(2, float64(n.Deferred), "deferred")
		to.Set(2, float64(n.Failed), "failed")
		to.Set(3, n.Pause.Seconds())
		b, err := s.Store.Backlog(ctx)
		if err != nil {
			return fmt.Errorf("count the queue: %w", err)
		}
		to.Set(0, float64(b.Waiting), string(delivery.Waiting))
		to.Set(0, float64(b.Deferred), string(delivery.Deferred))
		to.Set(1, age(b.Oldest).Seconds())
		return nil
	})
}

// age returns how long ago a time was. It is 0 for the zero time, and for a time in the future, which a wrong clock may
// have written.
func age(since time.Time) time.Duration {
	if since.IsZero() {
		return 0
	}
	return max(time.Since(since), 0)
}
