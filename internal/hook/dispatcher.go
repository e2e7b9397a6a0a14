package hook

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/outage"
	"dialtone/internal/secret"
	"dialtone/internal/trace"
)

// Transport calls phone servers by one protocol. Its errors never contain the secret.
type Transport interface {
	// Send delivers a notification. It returns nil if the server has dropped its state of the
	// user, or had none. It fails with ErrUnavailable if the server could not be reached or
	// cannot handle any notification now, and with any other error if the server refused this
	// one.
	Send(ctx context.Context, h Hook, s Secret, n Notification) error

	// Test calls a server without a change, and returns a sentence about the result.
	Test(ctx context.Context, h Hook, s Secret) (string, error)
}

// ErrUnavailable means that a server cannot be used, so that other notifications need not be tried now.
var ErrUnavailable = errors.New("the server is unavailable")

const (
	// pollInterval bounds how long notifications of other processes wait for a Dispatcher.
	pollInterval = 400 * time.Millisecond
	// CallTimeout bounds the delivery of one notification.
	CallTimeout = 5 * time.Second
	// claimTime is how long a batch is claimed. It leaves time for several calls.
	claimTime = 10 * time.Second
	// batchSize is how many notifications of a hook are claimed at a time.
	batchSize = 32
	// concurrency is how many calls to one hook run at a time.
	concurrency = 4
	// The back-off doubles from minBackoff with every attempt up to maxBackoff.
	minBackoff = 2 * time.Second
	maxBackoff = 10 * time.Minute
	// MaxWait is how far in the future a notification can be due.
	MaxWait = maxBackoff
	// maxAge is the age at which a failing notification is abandoned. Registrations and caches
	// that are this old have expired.
	maxAge = 3 * 24 * time.Hour
)

// Dispatcher delivers notifications. Run must not be called twice at the same time.
type Dispatcher struct {
	deps Deps
	// These log failures of the store.
	claiming, saving *outage.Log

	mu      sync.Mutex
	active  map[ID]bool // hooks that are being worked on
	outages map[ID]*outage.Log

	attempts struct{ delivered, deferred, abandoned atomic.Int64 }
}

// Counts are the outcomes of attempts to deliver notifications since the start.
type Counts struct{ Delivered, Deferred, Abandoned int64 }

// Counts returns the counts. It can be called at any time.
func (d *Dispatcher) Counts() Counts {
	return Counts{d.attempts.delivered.Load(), d.attempts.deferred.Load(), d.attempts.abandoned.Load()}
}

// Deps are the dependencies of a Dispatcher. All but Forget and Tracer are required.
type Deps struct {
	Queue      Queue
	Transports map[Kind]Transport
	// Forget is called before each call, with the account that changed or the zero UID. A cache
	// of this process may not know of the change yet if another process made it, and the phone
	// server may look up the account during the call.
	Forget   func(uid account.UID)
	SealRing *secret.Ring
	// Tracer may be nil.
	Tracer *trace.Tracer
	Log    *slog.Logger
	Now    func() time.Time
}

// NewDispatcher returns a Dispatcher.
func NewDispatcher(d Deps) *Dispatcher {
	return &Dispatcher{
		deps: d, active: make(map[ID]bool), outages: make(map[ID]*outage.Log),
		claiming: outage.New(d.Log, "hook claim failed", "hook claims work again", d.Now),
		saving: outage.New(d.Log, "hook results not saved; their notifications are sent again",
			"hook results saved again", d.Now),
	}
}

// Run delivers notifications until ctx is done. Then it cancels the running calls, and makes
// their notifications due at once for the next Dispatcher.
func (d *Dispatcher) Run(ctx context.Context) {
	var deliveries sync.WaitGroup
	defer deliveries.Wait()
	poll := time.NewTicker(pollInterval)
	defer poll.Stop()
	reading := outage.New(d.deps.Log, "hook queue read failed", "hook queue read again", d.deps.Now)
	for {
		hooks, err := d.deps.Queue.Due(ctx, d.deps.Now())
		if ctx.Err() != nil {
			return
		}
		reading.Report(ctx, err, "retry_in", pollInterval.String())
		for _, h := range hooks {
			if d.begin(h.ID) {
				deliveries.Go(func() {
					defer d.end(h.ID)
					d.deliver(ctx, h)
				})
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-poll.C:
		case <-d.deps.Queue.NotificationsAdded():
		}
	}
}

// begin reports whether no other goroutine works on the hook, and marks it as being worked on.
func (d *Dispatcher) begin(id ID) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.active[id] {
		return false
	}
	d.active[id] = true
	return true
}

func (d *Dispatcher) end(id ID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.active, id)
}

// deliver delivers the notifications of a hook until none is due or the server is unavailable. A
// hook whose secret does not open counts as unavailable, since an operator has to repair it.
func (d *Dispatcher) deliver(ctx context.Context, h Hook) {
	send := d.sender(ctx, h)
	for ctx.Err() == nil {
		now := d.deps.Now()
		b := &batch{send: send, now: d.deps.Now, claimEnds: now.Add(claimTime)}
		notifications, err := d.deps.Queue.Claim(ctx, h.ID, now, b.claimEnds, batchSize)
		d.claiming.Report(ctx, err, "hook", h.Name)
		if len(notifications) == 0 {
			return
		}
		b.run(ctx, notifications)
		// This must succeed even if ctx is cancelled: notifications that were not sent then
		// become due at once, instead of when the claim ends.
		err = d.deps.Queue.Report(context.WithoutCancel(ctx), b.results, d.deps.Now())
		d.saving.Report(context.WithoutCancel(ctx), err, "hook", h.Name)
		if err != nil {
			return
		}
		d.logResults(ctx, h, b.results)
		if b.unavailable != nil {
			return
		}
	}
}

// sender returns a function that sends one notification to the server of a hook.
func (d *Dispatcher) sender(ctx context.Context, h Hook) func(Notification) error {
	s, err := NewSealer(d.deps.SealRing).Open(h)
	transport := d.deps.Transports[h.Kind]
	if err == nil && transport == nil {
		err = fmt.Errorf("this version of Dialtone has no hooks of the kind %q", h.Kind)
	}
	if err != nil {
		return func(Notification) error { return fmt.Errorf("%w: %w", ErrUnavailable, err) }
	}
	return func(n Notification) error {
		if d.deps.Forget != nil {
			d.deps.Forget(n.Account)
		}
		ctx, cancel := context.WithTimeout(ctx, CallTimeout)
		defer cancel()
		ctx, span := d.deps.Tracer.Begin(ctx, "notification.send", trace.Client, trace.Parent{})
		err := transport.Send(ctx, h, s, n)
		span.Set("dialtone.hook", h.Name)
		span.Set("dialtone.notification", string(n.Type))
		span.SetInt("dialtone.attempt", int64(n.Attempts))
		span.Set("dialtone.tenant", n.Host)
		span.Finish(err != nil)
		return err
	}
}

// batch is a batch of claimed notifications of one hook.
type batch struct {
	send      func(Notification) error
	now       func() time.Time
	claimEnds time.Time

	mu          sync.Mutex
	unavailable error // why no more calls are made
	results     []Result
}

// run sends the notifications: those about one user one after another, in their order, and those
// about different users concurrently. When the server turns out to be unavailable, the others fail
// with the same error and without a call.
func (b *batch) run(ctx context.Context, notifications []Notification) {
	groups := make(chan []Notification)
	var workers sync.WaitGroup
	for range concurrency {
		workers.Go(func() {
			for group := range groups {
				for _, n := range group {
					b.attempt(ctx, n)
				}
			}
		})
	}
	for _, group := range byUser(notifications) {
		groups <- group
	}
	close(groups)
	workers.Wait()
}

func (b *batch) attempt(ctx context.Context, n Notification) {
	b.mu.Lock()
	err := b.unavailable
	b.mu.Unlock()
	if err == nil && ctx.Err() == nil {
		if b.now().Add(CallTimeout).After(b.claimEnds) {
			return // without a result, the notification is due again when the claim ends
		}
		err = b.send(n)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if errors.Is(err, ErrUnavailable) && b.unavailable == nil {
		b.unavailable = err
	}
	b.results = append(b.results, b.result(ctx, n, err))
}

func (b *batch) result(ctx context.Context, n Notification, err error) Result {
	now := b.now()
	switch {
	case ctx.Err() != nil: // this process is stopping; the attempt says nothing about the server
		return Result{Notification: n, RetryAt: now}
	case err == nil:
		return Result{Notification: n}
	case now.Sub(n.At) >= maxAge:
		return Result{Notification: n, Failure: err.Error()}
	default:
		return Result{Notification: n, Failure: err.Error(), RetryAt: now.Add(backoff(n.Attempts))}
	}
}

// byUser groups notifications by user, and keeps their order within each group.
func byUser(notifications []Notification) (groups [][]Notification) {
	type user struct {
		tenant int64
		name   string
	}
	index := make(map[user]int)
	for _, n := range notifications {
		u := user{n.Tenant, n.User}
		i, ok := index[u]
		if !ok {
			i = len(groups)
			index[u], groups = i, append(groups, nil)
		}
		groups[i] = append(groups[i], n)
	}
	return groups
}

// backoff returns how long to wait after a number of attempts. It is random between half of the
// maximum for that number and the maximum, so that the notifications of an outage are not all
// retried at the same time.
func backoff(attempts int) time.Duration {
	doublings := min(max(0, attempts-1), 10) // more would reach maxBackoff too
	d := min(minBackoff<<doublings, maxBackoff)
	return d/2 + rand.N(d/2)
}

// logResults logs each notification that was abandoned, and the failures of a hook as package outage does.
func (d *Dispatcher) logResults(ctx context.Context, h Hook, results []Result) {
	failure := ""
	delivered := false
	for _, r := range results {
		switch done := r.RetryAt.IsZero(); {
		case r.Failure != "":
			failure = r.Failure
			if !done {
				d.attempts.deferred.Add(1)
			} else {
				d.attempts.abandoned.Add(1)
				d.deps.Log.ErrorContext(ctx, "hook notification abandoned", "hook", h.Name,
					"type", r.Type, "tenant", r.Host, "user", r.User, "since", r.At, "err", r.Failure)
			}
		case done:
			delivered = true
			d.attempts.delivered.Add(1)
		}
	}
	if (failure == "" && !delivered) || ctx.Err() != nil {
		return
	}
	var err error
	if failure != "" {
		err = errors.New(failure)
	}
	d.outageOf(h.ID).Report(ctx, err, "hook", h.Name)
}

// outageOf returns the log of the failures of a hook.
func (d *Dispatcher) outageOf(id ID) *outage.Log {
	d.mu.Lock()
	defer d.mu.Unlock()
	o, ok := d.outages[id]
	if !ok {
		o = outage.NewWarning(d.deps.Log, "hook failing; notifications are retried with back-off", "hook recovered",
			d.deps.Now)
		d.outages[id] = o
	}
	return o
}
