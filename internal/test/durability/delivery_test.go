package durability

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"dialtone/internal/delivery"
	"dialtone/internal/test/crashfs"
)

const badmail = "/data/badmail"

// outside is the world outside the machine: it keeps what it was given when the machine crashes.
type outside struct {
	mu      sync.Mutex
	fs      *crashfs.FS
	arrived []arrival
	// replies are the refusals by address; an address without one takes the message.
	replies map[string]*delivery.Refusal
}

type arrival struct {
	to         string
	text       []byte
	at         int // a moment of the journal
	unanswered bool
}

// Send implements delivery.Relay.
func (w *outside) Send(_ context.Context, _, to string, message []byte) (string, error) {
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

// has are the messages that came before a moment, by address.
func (w *outside) has(before int) map[string][]arrival {
	list := make(map[string][]arrival)
	for _, a := range w.arrived {
		if a.at < before {
			list[a.to] = append(list[a.to], a)
		}
	}
	return list
}

// post sends what is due, until nothing is.
func (h *harness) post(w *outside) error {
	q := delivery.NewQueue(delivery.Deps{
		Store: h.store, Files: h.box, Relay: w, Connections: 2, Log: slog.New(slog.DiscardHandler), Now: h.now,
	})
	if err := q.Tidy(ctx); err != nil {
		return err
	}
	running, stop := context.WithCancel(ctx)
	var all sync.WaitGroup
	all.Go(func() { q.Run(running) })
	time.Sleep(3 * time.Second) // of the bubble: the queue looks every second
	synctest.Wait()
	stop()
	all.Wait()
	return nil
}

// openRelayed starts a harness whose messages leave by a relay.
func openRelayed(f *crashfs.FS) (*harness, error) {
	h, tended, err := openWith(f, clock, true)
	if err != nil {
		return nil, err
	}
	return h, errors.Join(tended, h.outbox.Flush(ctx))
}

// TestCrashesDuringDelivery stops a server that sends its messages at every operation, in every
// way, and starts it again. Every message of a signup that was answered must then have arrived, or
// wait in the pickup directory; and no message arrives again that was known to be sent.
func TestCrashesDuringDelivery(t *testing.T) {
	var f *crashfs.FS
	tr, before := &transcript{}, &outside{replies: map[string]*delivery.Refusal{
		"person1@example.org": {At: delivery.Rcpt, Code: 550, Text: "5.1.1 nobody"},
		"person2@example.org": {At: delivery.Data, Text: "the connection broke"},
		"person3@example.org": {At: delivery.Rcpt, Code: 450, Text: "4.2.1 busy"},
	}}
	synctest.Test(t, func(t *testing.T) {
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
		before.fs = f
		for _, user := range []string{"karl", "lena", "mary", "nora", "olga"} {
			tr.signup(h, user, true)
		}
		h.outbox.Flush(ctx)
		if err := h.post(before); err != nil {
			t.Fatal(err)
		}
		tr.signup(h, "paul", true)
		h.outbox.Flush(ctx)
		if err := h.post(before); err != nil {
			t.Fatal(err)
		}
		f.Crash(crashfs.Killed)
		h.close()
	})
	if n := len(before.arrived); n != 4 {
		t.Fatalf("this is another scenario: %d messages came", n)
	}
	moments, points, twice := 0, 0, 0
	seen := make(map[string]bool)
	f.Moments(func(at int, then *crashfs.FS) bool {
		moments++
		for _, v := range cuts(uint64(at), chances) {
			after := then.Crash(v)
			key := fmt.Sprintf("%s %s %d", after.Image(), tr.at(at).key(), len(before.has(at)))
			if seen[key] {
				continue
			}
			seen[key] = true
			points++
			var err error
			synctest.Test(t, func(*testing.T) {
				var again int
				again, err = arrives(after, tr.at(at), before.has(at), before.replies)
				twice += again
			})
			if err != nil {
				t.Errorf("stopped at %d, %s: %v\n%s", at, v.Name, err, history(f.Journal(), at))
				return false
			}
		}
		return true
	})
	if twice == 0 {
		t.Error("no stop fell between the relay's answer and its record, which there must be")
	}
	t.Logf("%d moments, %d different disks, %d messages came twice", moments, points, twice)
}

// arrives starts the program on a disk, lets it send what there is, and reports which message is
// missing.
func arrives(f *crashfs.FS, tr *transcript, came map[string][]arrival,
	replies map[string]*delivery.Refusal) (twice int, err error) {
	h, err := openRelayed(f)
	if err != nil {
		return 0, fmt.Errorf("it does not start: %w", err)
	}
	defer func() { err = errors.Join(err, h.close(), f.Close()) }()
	known := make(map[string]delivery.State)
	read := func() error {
		return h.store.EachDelivery(ctx, []delivery.State{delivery.Waiting, delivery.Deferred, delivery.Sent,
			delivery.Failed, delivery.Discarded},
			func(d delivery.Delivery) error {
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
	w := &outside{fs: f, replies: replies}
	if err := h.post(w); err != nil {
		return 0, err
	}
	later := w.has(f.Now() + 1)
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
		all := append(came[d.email], later[d.email]...)
		told := 0
		for _, a := range all {
			if !bytes.Equal(a.text, all[0].text) {
				wrong("the message to %s came as two", d.email)
			}
			if !a.unanswered {
				told++
			}
		}
		if told > 1 {
			twice++
		}
		if len(later[d.email]) > 0 && atStart[d.email] == delivery.Sent {
			wrong("the message to %s was known to be sent, and came again", d.email)
		}
		state := known[d.email]
		there := map[delivery.State]bool{
			delivery.Sent: told > 0 && !waits[d.email], delivery.Failed: inBadmail[d.email] && !waits[d.email],
			delivery.Deferred: waits[d.email],
		}
		if (d.done() || state != "") && !there[state] {
			wrong("the message to %s is %q: it came %d times, waits %t, inBadmail %t", d.email, state, told,
				waits[d.email], inBadmail[d.email])
		}
		delete(waits, d.email)
		delete(inBadmail, d.email)
	}
	for email := range waits {
		wrong("a message to %s that nobody asked for", email)
	}
	return twice, errors.Join(faults...)
}

// storedMessages returns whose messages are in the pickup directory and in badmail. All must be
// whole.
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
		to, _, err := readMessage(h.fs, p)
		if err != nil {
			return nil, nil, fmt.Errorf("%s is not whole: %w", p, err)
		}
		if into[to] {
			return nil, nil, fmt.Errorf("two messages to %s", to)
		}
		into[to] = true
	}
	return waits, inBadmail, nil
}

var _ delivery.Relay = (*outside)(nil)
