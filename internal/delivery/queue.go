package delivery

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/mail"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"dialtone/internal/audit"
)

// Queue sends what is due. Its methods besides Run may be called at any time.
type Queue struct {
	Deps
	window window
	tally  struct{ sent, deferred, failed atomic.Int64 }
}

// Deps is what a Queue works with. Every field is needed, save Signer and Node.
type Deps struct {
	Store  Store
	Box    Box
	Relay  Relay
	Signer Signer
	// Node is this server's name among those that share the store.
	Node string
	// Connections is how many messages are handed over at a time.
	Connections int
	Log         *slog.Logger
	Now         func() time.Time
}

// NewQueue makes a Queue.
func NewQueue(d Deps) *Queue {
	q := &Queue{Deps: d}
	q.window.init(d.Connections, d.Now)
	return q
}

const (
	// batch is how many deliveries are read at a time.
	batch = 512
	// recordEvery is how long an outcome waits for others, so that one transaction does for them.
	recordEvery = 20 * time.Millisecond
	// lookEvery is how often the store is asked for what is due, where it had nothing; tidyEvery how often files are compared with it.
	lookEvery = time.Second
	tidyEvery = time.Hour
	// goodbye is for how long messages that are on their way to the relay may go on when the server ends.
	goodbye = 5 * time.Second
)

// Run sends messages until ctx ends. It is called once. One after the other, and each at its own pace, are done: reading what is due,
// sending, recording what came of it, and moving files; so the relay does not wait for the disk.
func (q *Queue) Run(ctx context.Context) {
	trying, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	defer context.AfterFunc(ctx, func() {
		q.window.close()
		time.AfterFunc(goodbye, stop)
	})()

	results := make(chan outcome, mostHeld)
	recorded := make(chan []outcome, mostHeld/batch)
	var all, workers sync.WaitGroup
	for range q.Connections {
		workers.Go(func() { q.work(trying, results) })
	}
	all.Go(func() {
		workers.Wait()
		close(results)
	})
	all.Go(func() { q.read(ctx) })
	all.Go(func() { q.record(context.WithoutCancel(ctx), results, recorded) })
	all.Go(func() { q.clear(context.WithoutCancel(ctx), recorded) })
	all.Go(func() { q.keepTidy(ctx) })
	all.Wait()
}

// read keeps the window filled with what is due: from the beginning to the end, and again from the beginning a moment later.
func (q *Queue) read(ctx context.Context) {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	var at Place
	for {
		wanted := q.window.wanted
		for more := true; more && ctx.Err() == nil; {
			var asked bool
			asked, at = q.fetch(ctx, at)
			more = asked && at != (Place{})
			if asked && !more {
				wanted = nil
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-wanted:
		case <-ticker.C:
			q.window.wake()
		}
	}
}

// fetch reads what is due from behind a place on into the window, where that has room, and says where to go on; nowhere is the end.
func (q *Queue) fetch(ctx context.Context, at Place) (asked bool, next Place) {
	without, held, hungry := q.window.hungry()
	if !hungry {
		return false, at
	}
	limit := batch
	if len(without) > 0 {
		at = Place{} // others of their domains were passed over
	}
	if at == (Place{}) {
		limit += held // which are due still, for all that the store knows
	}
	list, next, err := q.Store.DueMessages(ctx, q.Now(), at, without, limit)
	if err != nil {
		q.complain(ctx, "what is to be sent could not be read; it is tried again in a second", err)
		return true, Place{}
	}
	q.window.add(list)
	if len(without) > 0 {
		next = Place{}
	}
	return true, next
}

func (q *Queue) work(ctx context.Context, results chan<- outcome) {
	for {
		d, generation, ok := q.window.next()
		if !ok {
			return
		}
		o := q.try(ctx, d)
		q.window.finish(&o, generation)
		results <- o
	}
}

// record tells the store what came of messages, until there are no more.
func (q *Queue) record(ctx context.Context, results <-chan outcome, recorded chan<- []outcome) {
	defer close(recorded)
	var pending []outcome
	for o := range results {
		pending = append(pending, o)
		for full := time.After(recordEvery); full != nil; {
			select {
			case o, ok := <-results:
				if ok {
					pending = append(pending, o)
					continue
				}
				full = nil
			case <-full:
				full = nil
			}
		}
		if q.settle(ctx, pending) {
			recorded <- pending
			pending = nil
		}
	}
	if len(pending) > 0 && q.settle(ctx, pending) {
		recorded <- pending
	}
}

// settle records outcomes. Where the store fails they are recorded with the next ones; none is released before, so none is tried again.
func (q *Queue) settle(ctx context.Context, list []outcome) bool {
	var rows []Delivery
	for _, o := range list {
		if !o.untold {
			rows = append(rows, o.Delivery)
		}
	}
	err := q.Store.Record(ctx, rows)
	if err != nil {
		q.complain(ctx, "what became of messages could not be recorded; it is tried again", err)
	}
	return err == nil
}

// clear does to the files what follows from what was recorded.
func (q *Queue) clear(ctx context.Context, recorded <-chan []outcome) {
	for list := range recorded {
		for _, o := range list {
			if !o.untold {
				q.clearOne(ctx, o)
			}
		}
		q.window.release(list)
	}
}

// outcome is what a try came to: the delivery as it is to be recorded, and what was wrong.
type outcome struct {
	Delivery
	err     error
	verdict verdict
	// untold says that there was no try, since the server ends: nothing is recorded.
	untold bool
}

// try does what is due about one message, as far as it needs no store.
func (q *Queue) try(ctx context.Context, d Delivery) outcome {
	o := outcome{Delivery: d}
	if d.State == Discarded {
		o.Due = time.Time{}
		return o
	}
	if !q.Now().Before(d.Expires) {
		o.fail("its link expired before the relay took it; the last answer: " + or(d.Answer, "none"))
		return o
	}
	o.Attempts++
	answer, err := q.send(ctx, d)
	switch {
	case err == nil:
		o.State, o.Due, o.Answer = Sent, time.Time{}, oneLine(answer)
	case ctx.Err() != nil:
		o.untold = true
	case errors.Is(err, ErrNoFile):
		o.State, o.Due, o.Answer = Discarded, time.Time{}, "its file is gone from the pickup directory: another program took it, or somebody removed it"
	case errors.Is(err, errNoMessage):
		o.fail(err.Error())
	default:
		o.putOff(err, q.Now())
	}
	return o
}

func (o *outcome) fail(why string) { o.State, o.Due, o.Answer = Failed, time.Time{}, why }

// putOff says what becomes of a message that was not taken.
func (o *outcome) putOff(err error, now time.Time) {
	o.err, o.verdict = err, judge(err)
	answer := oneLine(err.Error())
	if o.verdict == ours {
		o.Attempts-- // there was no word of the message
	}
	o.State, o.Answer, o.Due = Deferred, answer, now.Add(wait(max(o.Attempts, 1)))
	switch {
	case o.verdict == forGood:
		o.fail(answer)
	case now.Sub(o.Since) >= patience:
		o.fail(fmt.Sprintf("the relay did not take it in %d days; the last answer: %s", patience/(24*time.Hour), answer))
	}
}

// errNoMessage is a file that is no message; trying again does not help.
var errNoMessage = errors.New("its file is no message with one sender and one recipient")

func (q *Queue) send(ctx context.Context, d Delivery) (answer string, err error) {
	b, err := q.Box.Message(d.Message)
	if err != nil {
		return "", err
	}
	from, to, err := envelope(b)
	if err != nil {
		return "", err
	}
	if q.Signer != nil {
		if b, err = q.Signer.Sign(ctx, d.Tenant, b); err != nil {
			return "", fmt.Errorf("sign: %w", err)
		}
	}
	return q.Relay.Send(ctx, from, to, b)
}

// envelope is whom a message is from, and whom to.
func envelope(message []byte) (from, to string, err error) {
	m, err := mail.ReadMessage(bytes.NewReader(message))
	if err != nil {
		return "", "", errNoMessage
	}
	sender, err := m.Header.AddressList("From")
	if err != nil || len(sender) != 1 {
		return "", "", errNoMessage
	}
	recipient, err := m.Header.AddressList("To")
	if err != nil || len(recipient) != 1 {
		return "", "", errNoMessage
	}
	return sender[0].Address, recipient[0].Address, nil
}

// clearOne does to a file what its state says, counts and tells. What it fails at, Tidy does later.
func (q *Queue) clearOne(ctx context.Context, o outcome) {
	var err error
	answer := withoutAddresses(o.Answer)
	log := q.Log.With("message", o.Message.String(), "email", audit.MaskEmail(o.Email), "attempts", o.Attempts)
	switch o.State {
	case Sent:
		q.tally.sent.Add(1)
		log.InfoContext(ctx, "message.sent", "answer", answer)
		err = q.Box.Remove(o.Message)
	case Discarded:
		log.WarnContext(ctx, "message.discarded", "why", answer)
		err = q.Box.Remove(o.Message)
	case Failed:
		q.tally.failed.Add(1)
		log.WarnContext(ctx, "message.failed", "answer", answer)
		err = q.Box.Condemn(o.Message, o.Answer)
	case Deferred:
		q.tally.deferred.Add(1)
		log.InfoContext(ctx, "message.deferred", "answer", answer, "until", o.Due.UTC())
	}
	if err != nil {
		q.complain(ctx, "a file could not be moved or removed; it is tried again within an hour", err)
	}
}

func (q *Queue) complain(ctx context.Context, what string, err error) {
	if ctx.Err() == nil {
		q.Log.ErrorContext(ctx, what, "err", err)
	}
}

// Counts is what a Queue has done since it was made.
type Counts struct {
	Sent, Deferred, Failed int64
	// Pause is for how long the relay is left alone from now on; zero where it is in use.
	Pause time.Duration
}

// Counts tells what was done.
func (q *Queue) Counts() Counts {
	return Counts{q.tally.sent.Load(), q.tally.deferred.Load(), q.tally.failed.Load(), q.window.pausing()}
}

// domain is what an address has behind the @.
func domain(address string) string { return address[strings.LastIndexByte(address, '@')+1:] }

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}
