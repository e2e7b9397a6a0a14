package durability

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"dialtone/internal/delivery"
	"dialtone/internal/test/crashfs"
)

const badmail = "/data/badmail"

// fakeRelay is a delivery.Relay that records the messages that it gets. It survives crashes.
type fakeRelay struct {
	mu      sync.Mutex
	fs      *crashfs.FS
	arrived []arrival
	// replies are the refusals, by address. Messages to other addresses are accepted.
	replies map[string]*delivery.Refusal
}

type arrival struct {
	to         string
	text       []byte
	at         int  // a moment of the journal
	unanswered bool // the client did not get the reply
}

// Send implements delivery.Relay.
func (w *fakeRelay) Send(_ context.Context, _, to string, message []byte) (string, error) {
	refusal := w.replies[to]
	if refusal != nil && refusal.Code != 0 {
		return "", refusal
	}
	w.fs.Mark("the relay has the message to %s", to)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.arrived = append(w.arrived, arrival{to, bytes.Clone(message), w.fs.Now() - 1, refusal != nil})
	if refusal != nil {
		return "", refusal
	}
	return "250 ok", nil
}

// before returns the messages that had arrived at a moment, by address.
func (w *fakeRelay) before(moment int) map[string][]arrival {
	list := make(map[string][]arrival)
	for _, a := range w.arrived {
		if a.at < moment {
			list[a.to] = append(list[a.to], a)
		}
	}
	return list
}

// send runs the delivery queue until nothing is due.
func (h *harness) send(w *fakeRelay) error {
	q := delivery.NewQueue(delivery.Deps{
		Store: h.store, Files: h.pickup, Relay: w, Connections: 2, Log: slog.New(slog.DiscardHandler), Now: h.now,
	})
	if err := q.Tidy(ctx); err != nil {
		return err
	}
	running, stop := context.WithCancel(ctx)
	var all sync.WaitGroup
	all.Go(func() { q.Run(running) })
	time.Sleep(3 * time.Second) // in the bubble; the queue polls every second
	synctest.Wait()
	stop()
	all.Wait()
	return nil
}

// openRelayed starts a harness that sends its messages through a relay.
func openRelayed(f *crashfs.FS) (*harness, error) {
	h, flushErr, err := openWith(f, clock, true)
	if err != nil {
		return nil, err
	}
	return h, errors.Join(flushErr, h.outbox.Flush(ctx))
}

// TestCrashesDuringDelivery stops a server that is sending messages, before and after each operation
// and in every variant, and starts it again. In make test, it stops only at some moments (stops). The
// message of every signup that succeeded must then have arrived, or be in the pickup directory or
// badmail. A message that is recorded as sent is not sent again.
func TestCrashesDuringDelivery(t *testing.T) {
	// On one processor, the goroutines of the queue take turns in the same order in each run.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	var f *crashfs.FS
	tr, relay := &transcript{}, &fakeRelay{replies: map[string]*delivery.Refusal{
		"person1@example.org": {At: delivery.Rcpt, Code: 550, Text: "5.1.1 nobody"},
		"person2@example.org": {At: delivery.Data, Text: "the connection broke"},
		"person3@example.org": {At: delivery.Rcpt, Code: 450, Text: "4.2.1 busy"},
	}}
	synctest.Test(t, func(t *testing.T) {
		repeat(t, preparing)
		disk := crashfs.New()
		if err := disk.MakeDir("/data"); err != nil {
			t.Fatal(err)
		}
		first, err := openRelayed(disk)
		if err != nil {
			t.Fatal(err)
		}
		f = disk.Clone()
		first.close()
		h, err := openRelayed(f)
		if err != nil {
			t.Fatal(err)
		}
		f.Record()
		relay.fs = f
		for _, user := range []string{"karl", "lena", "mary", "nora", "olga"} {
			tr.signup(h, user, true)
		}
		h.outbox.Flush(ctx)
		if err := h.send(relay); err != nil {
			t.Fatal(err)
		}
		tr.signup(h, "paul", true)
		h.outbox.Flush(ctx)
		if err := h.send(relay); err != nil {
			t.Fatal(err)
		}
		f.Crash(crashfs.Killed)
		h.close()
	})
	if n := len(relay.arrived); n != 4 {
		t.Fatalf("%d messages arrived, want 4", n)
	}
	moments, points, twice := 0, 0, 0
	seen := make(map[string]bool)
	chosen := stops(t, f.Journal(), 80)
	f.Moments(func(at int, then *crashfs.FS) bool {
		if !chosen[at] {
			return true
		}
		moments++
		for _, v := range cuts(seed+uint64(at), chances) {
			after := then.Crash(v)
			key := fmt.Sprintf("%s %s %d", after.Image(), tr.at(at).key(), len(relay.before(at)))
			if seen[key] {
				continue
			}
			seen[key] = true
			points++
			var err error
			synctest.Test(t, func(*testing.T) {
				var again int
				again, err = checkDelivery(after, tr.at(at), relay.before(at), relay.replies)
				twice += again
			})
			if err != nil {
				t.Errorf("stopped at %d, %s: %v\n%s\n%s",
					at, v.Name, err, repetition(t, seed), history(f.Journal(), at))
				return false
			}
		}
		return true
	})
	if twice == 0 {
		t.Error("no stop was between the relay's reply and its record")
	}
	t.Logf("%d moments, %d different disks, %d messages arrived twice", moments, points, twice)
}

// checkDelivery starts the program on a disk and lets it send what is due. It returns how many
// messages arrived twice, and an error if one is missing or was sent again after it was recorded as
// sent. earlier are the messages that had arrived before.
func checkDelivery(
	f *crashfs.FS, tr *transcript, earlier map[string][]arrival, replies map[string]*delivery.Refusal,
) (twice int, err error) {
	h, err := openRelayed(f)
	if err != nil {
		return 0, fmt.Errorf("start: %w", err)
	}
	defer func() { err = errors.Join(err, h.close(), f.Close()) }()
	known := make(map[string]delivery.State)
	read := func() error {
		states := []delivery.State{
			delivery.Waiting, delivery.Deferred, delivery.Sent, delivery.Failed, delivery.Discarded,
		}
		return h.store.EachDelivery(ctx, states, func(d delivery.Delivery) error {
			known[d.Email] = d.State
			return nil
		})
	}
	if err := read(); err != nil {
		return 0, err
	}
	atStart := make(map[string]delivery.State)
	for email, state := range known {
		atStart[email] = state
	}
	w := &fakeRelay{fs: f, replies: replies}
	if err := h.send(w); err != nil {
		return 0, err
	}
	later := w.before(f.Now() + 1)
	if err := read(); err != nil {
		return 0, err
	}
	var faults []error
	wrong := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	waits, inBadmail, err := h.storedMessages()
	if err != nil {
		return 0, err
	}
	for _, d := range tr.requests {
		all := append(earlier[d.email], later[d.email]...)
		acknowledged := 0
		for _, a := range all {
			if !bytes.Equal(a.text, all[0].text) {
				wrong("two different messages to %s arrived", d.email)
			}
			if !a.unanswered {
				acknowledged++
			}
		}
		if acknowledged > 1 {
			twice++
		}
		if len(later[d.email]) > 0 && atStart[d.email] == delivery.Sent {
			wrong("the message to %s was recorded as sent, and was sent again", d.email)
		}
		state := known[d.email]
		there := map[delivery.State]bool{
			delivery.Sent: acknowledged > 0 && !waits[d.email], delivery.Failed: inBadmail[d.email] && !waits[d.email],
			delivery.Deferred: waits[d.email],
		}
		if (d.done() || state != "") && !there[state] {
			wrong("the message to %s is %q: acknowledged %d times, in the pickup directory %t, in badmail %t",
				d.email, state, acknowledged, waits[d.email], inBadmail[d.email])
		}
		delete(waits, d.email)
		delete(inBadmail, d.email)
	}
	for email := range waits {
		wrong("there is a message to %s without a signup", email)
	}
	return twice, errors.Join(faults...)
}

// storedMessages returns the addresses of the messages in the pickup directory and in badmail. All
// messages must be complete.
func (h *harness) storedMessages() (waits, inBadmail map[string]bool, err error) {
	waits, inBadmail = make(map[string]bool), make(map[string]bool)
	for _, p := range h.fs.Files() {
		into := waits
		switch path.Dir(p) {
		case outgoing:
		case badmail:
			into = inBadmail
		default:
			continue
		}
		if strings.HasSuffix(p, ".txt") {
			continue
		}
		m, err := readMessage(h.fs, p)
		if err != nil {
			return nil, nil, fmt.Errorf("%s is not complete: %w", p, err)
		}
		if into[m.to] {
			return nil, nil, fmt.Errorf("there are two messages to %s", m.to)
		}
		into[m.to] = true
	}
	return waits, inBadmail, nil
}

var _ delivery.Relay = (*fakeRelay)(nil)
