package delivery

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/mail"
	"sync"
	"sync/atomic"
	"time"

	"dialtone/internal/audit"
	"dialtone/internal/outage"
	"dialtone/internal/stats"
	"dialtone/internal/trace"
)

// Queue sends the messages that are due. Its methods other than Run can be called at any time.
type Queue struct {
	deps   Deps
	window window
	counts struct{ sent, deferred, failed atomic.Int64 }
	// These log outages of reading due messages and of recording states.
	reading, recording *outage.Log
}

// Deps are the dependencies of a Queue. All fields but Signer, Node, Counts and Tracer are required.
type Deps struct {
	Store  Store
	Files  Files
	Relay  Relay
	Signer Signer
	// Node is this server's name among those that share the store.
	Node string
	// Connections is how many messages are sent at a time.
	Connections int
	// Counts counts the messages that were sent and those that failed.
	Counts *stats.Counter
	// Tracer may be nil.
	Tracer *trace.Tracer
	Log    *slog.Logger
	Now    func() time.Time
}

// NewQueue returns a Queue.
func NewQueue(d Deps) *Queue {
	q := &Queue{
		deps:      d,
		reading:   outage.New(d.Log, "due messages not read", "due messages read again", d.Now),
		recording: outage.New(d.Log, "message states not recorded", "message states recorded again", d.Now),
	}
	q.window.init(d.Connections, d.Now)
	return q
}

const (
	// batchSize is how many deliveries are read at a time.
	batchSize = 512
	// recordDelay is how long a finished attempt waits for others to share a transaction.
	recordDelay = 20 * time.Millisecond
	// pollInterval is how often an empty queue asks the store for due messages; tidyInterval how
	// often files are compared with the store.
	pollInterval = time.Second
	tidyInterval = time.Hour
	// shutdownGrace is how long messages that are being sent may still take when the server stops.
	shutdownGrace = 5 * time.Second
)

// Run sends messages until ctx is done. It must be called once. It is a pipeline: read due
// messages, send them, record the results, move the files. Each stage has its own goroutines,
// so the relay does not wait for the disk.
func (q *Queue) Run(ctx context.Context) {
	sending, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	defer context.AfterFunc(ctx, func() {
		q.window.close()
		time.AfterFunc(shutdownGrace, stop)
	})()

	attempts := make(chan attempt, maxHeld)
	recorded := make(chan []attempt, maxHeld/batchSize)
	var all, workers sync.WaitGroup
	for range q.deps.Connections {
		workers.Go(func() { q.work(sending, attempts) })
	}
	all.Go(func() {
		workers.Wait()
		close(attempts)
	})
	all.Go(func() { q.read(ctx) })
	all.Go(func() { q.record(context.WithoutCancel(ctx), attempts, recorded) })
	all.Go(func() { q.finishFiles(context.WithoutCancel(ctx), recorded) })
	all.Go(func() { q.runTidy(ctx) })
	all.Wait()
}

// read keeps the window filled. It reads all due messages in order, then starts over after
// pollInterval or when there is room.
func (q *Queue) read(ctx context.Context) {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	var at Position
	for {
		roomFree := q.window.roomFree
		for more := true; more && ctx.Err() == nil; {
			var asked bool
			asked, at = q.fetch(ctx, at)
			more = asked && at != (Position{})
			if asked && !more {
				roomFree = nil
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-roomFree:
		case <-ticker.C:
			q.window.wake()
		}
	}
}

// fetch reads due messages after a position into the window if there is room, and returns the
// position to continue from. The zero position is the end.
func (q *Queue) fetch(ctx context.Context, at Position) (asked bool, next Position) {
	without, held, ok := q.window.room()
	if !ok {
		return false, at
	}
	limit := batchSize
	if len(without) > 0 {
		at = Position{} // messages of other domains were skipped
	}
	if at == (Position{}) {
		limit += held // the store still counts these as due
	}
	list, next, err := q.deps.Store.DueMessages(ctx, q.deps.Now(), at, without, limit)
	if err != nil {
		q.reading.Report(ctx, err, "retry_in", pollInterval.String())
		return true, Position{}
	}
	q.reading.Report(ctx, nil)
	q.window.add(list)
	if len(without) > 0 {
		next = Position{}
	}
	return true, next
}

func (q *Queue) work(ctx context.Context, attempts chan<- attempt) {
	for {
		d, generation, ok := q.window.next()
		if !ok {
			return
		}
		a := q.try(ctx, d)
		q.window.done(&a, generation)
		attempts <- a
	}
}

// record stores finished attempts in groups until the channel is closed.
func (q *Queue) record(ctx context.Context, attempts <-chan attempt, recorded chan<- []attempt) {
	defer close(recorded)
	var pending []attempt
	for a := range attempts {
		pending = append(pending, a)
		for full := time.After(recordDelay); full != nil; {
			select {
			case a, ok := <-attempts:
				if ok {
					pending = append(pending, a)
					continue
				}
				full = nil
			case <-full:
				full = nil
			}
		}
		if q.recordAll(ctx, pending) {
			recorded <- pending
			pending = nil
		}
	}
	if pending != nil && q.recordAll(ctx, pending) {
		recorded <- pending
	}
}

// recordAll stores attempts. If the store fails, they are stored together with the next ones.
// The window holds them until then, so none of them is sent twice.
func (q *Queue) recordAll(ctx context.Context, list []attempt) bool {
	var rows []Delivery
	for _, a := range list {
		if !a.notAttempted {
			rows = append(rows, a.Delivery)
		}
	}
	err := q.deps.Store.Record(ctx, rows)
	q.recording.Report(ctx, err, "count", len(rows))
	return err == nil
}

// finishFiles removes or moves the files of recorded attempts.
func (q *Queue) finishFiles(ctx context.Context, recorded <-chan []attempt) {
	for list := range recorded {
		for _, a := range list {
			if !a.notAttempted {
				q.finishFile(ctx, a)
			}
		}
		q.window.release(list)
	}
}

// attempt is the result of one attempt to send a message: the delivery to record, and the error.
type attempt struct {
	Delivery
	err     error
	failure failure
	// notAttempted is set if the server is shutting down. Such an attempt is not recorded.
	notAttempted bool
}

// try makes one attempt to deliver a message. It does not store the result.
func (q *Queue) try(ctx context.Context, d Delivery) attempt {
	a := attempt{Delivery: d}
	if d.State == Discarded {
		a.Due = time.Time{}
		return a
	}
	if !q.deps.Now().Before(d.Expires) {
		a.fail("the link expired before the relay accepted the message" + LastAnswer +
			cmp.Or(d.Answer, "none"))
		a.Ended = q.deps.Now()
		return a
	}
	a.Attempts++
	sending, span := q.deps.Tracer.Begin(ctx, "message.send", trace.Client, trace.Parent{})
	answer, err := q.send(sending, d)
	span.SetInt("dialtone.attempt", int64(a.Attempts))
	span.Finish(err != nil)
	switch {
	case err == nil:
		a.State, a.Due, a.Answer = Sent, time.Time{}, oneLine(answer)
	case ctx.Err() != nil:
		a.notAttempted = true
	case errors.Is(err, ErrNoFile):
		a.State, a.Due = Discarded, time.Time{}
		a.Answer = "its file is gone from the pickup directory; another program or a person removed it"
		if d.Answer != "" {
			a.Answer += LastAnswer + d.Answer
		}
	case errors.Is(err, errNotOneMessage):
		a.fail(err.Error())
	default:
		a.refused(err, q.deps.Now())
	}
	if !a.State.Open() {
		a.Ended = q.deps.Now()
	}
	return a
}

func (a *attempt) fail(why string) { a.State, a.Due, a.Answer = Failed, time.Time{}, why }

// refused sets the state of a message that was not accepted.
func (a *attempt) refused(err error, now time.Time) {
	a.err, a.failure = err, classify(err)
	answer := oneLine(err.Error())
	if a.failure == relayFailure {
		a.Attempts-- // the relay never saw the message
	}
	a.State, a.Answer, a.Due = Deferred, answer, now.Add(backoff(max(a.Attempts, 1)))
	switch {
	case a.failure == permanent:
		a.fail(answer)
	case now.Sub(a.Since) >= maxAge:
		a.fail(fmt.Sprintf("the relay did not accept the message for %d days%s%s",
			maxAge/(24*time.Hour), LastAnswer, answer))
	}
}

// errNotOneMessage means that a file cannot be sent, not even in another attempt.
var errNotOneMessage = errors.New("its file is not a message with one sender and one recipient")

func (q *Queue) send(ctx context.Context, d Delivery) (answer string, err error) {
	b, err := q.deps.Files.Message(d.Message)
	if err != nil {
		return "", err
	}
	from, to, err := envelope(b)
	if err != nil {
		return "", err
	}
	if q.deps.Signer != nil {
		if b, err = q.deps.Signer.Sign(ctx, d.Tenant, b); err != nil {
			return "", fmt.Errorf("sign: %w", err)
		}
	}
	return q.deps.Relay.Send(ctx, from, to, b)
}

// envelope returns the sender and the recipient of a message.
func envelope(message []byte) (from, to string, err error) {
	m, err := mail.ReadMessage(bytes.NewReader(message))
	if err != nil {
		return "", "", errNotOneMessage
	}
	sender, err := m.Header.AddressList("From")
	if err != nil || len(sender) != 1 {
		return "", "", errNotOneMessage
	}
	recipient, err := m.Header.AddressList("To")
	if err != nil || len(recipient) != 1 {
		return "", "", errNotOneMessage
	}
	return sender[0].Address, recipient[0].Address, nil
}

// finishFile removes or moves a message's file according to its state, and counts and logs the
// attempt. If it fails, Tidy does it later.
func (q *Queue) finishFile(ctx context.Context, a attempt) {
	var err error
	answer := withoutAddresses(a.Answer)
	log := q.deps.Log.With(
		"message", a.Message.String(), "email", audit.MaskEmail(a.Email), "attempts", a.Attempts)
	switch a.State {
	case Sent:
		q.counts.sent.Add(1)
		q.deps.Counts.Add(a.Tenant, stats.MailSent)
		log.InfoContext(ctx, "message.sent", "answer", answer)
		err = q.deps.Files.Remove(a.Message)
	case Discarded:
		log.WarnContext(ctx, "message.discarded", "why", answer)
		err = q.deps.Files.Remove(a.Message)
	case Failed:
		q.counts.failed.Add(1)
		q.deps.Counts.Add(a.Tenant, stats.MailFailed)
		log.WarnContext(ctx, "message.failed", "answer", answer)
		err = q.deps.Files.MoveToBadmail(a.Message, a.Answer)
	case Deferred:
		q.counts.deferred.Add(1)
		log.InfoContext(ctx, "message.deferred", "answer", answer, "until", a.Due.UTC())
	}
	if err != nil {
		q.logError(ctx, "message file not moved", err,
			"message", a.Message.String(), "retry_in", tidyInterval.String())
	}
}

func (q *Queue) logError(ctx context.Context, event string, err error, attrs ...any) {
	if ctx.Err() == nil {
		q.deps.Log.ErrorContext(ctx, event, append(attrs, "err", err)...)
	}
}

// Counts are the numbers of attempts by result since a Queue was created.
type Counts struct {
	Sent, Deferred, Failed int64
	// Pause is how much longer the relay is not tried, or zero.
	Pause time.Duration
}

// Counts returns the counts.
func (q *Queue) Counts() Counts {
	return Counts{
		q.counts.sent.Load(), q.counts.deferred.Load(), q.counts.failed.Load(), q.window.pauseLeft(),
	}
}

// Down returns an error while the relay cannot be used. The error contains no e-mail address.
func (q *Queue) Down() error {
	if answer, down := q.window.relayDown(); down {
		return fmt.Errorf("the relay takes no messages: %s", answer)
	}
	return nil
}
