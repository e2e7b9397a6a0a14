package postgres

import (
	"context"
	"sync"
	"time"
)

const (
	// probeInterval is the time between probes while the breaker is closed, and openProbeInterval
	// while it is open.
	probeInterval     = time.Second
	openProbeInterval = 100 * time.Millisecond
	// probeTimeout limits how long a probe waits for one host, and so how long a network that drops
	// packets goes unnoticed. A busy server answers within it. While the breaker is open, shorter
	// and more frequent probes find sooner that the database is back.
	probeTimeout     = 2 * time.Second
	openProbeTimeout = time.Second
	// totalProbeTimeout limits a probe over all hosts, including the look-up of their names. Hosts
	// that are tried before the primary may drop packets.
	totalProbeTimeout = 10 * time.Second
)

// breaker is a circuit breaker for the database. It is open while the database cannot be reached:
// calls fail immediately instead of waiting and holding memory and sockets, and calls in progress
// are cancelled. A goroutine probes the database, and opens and closes the breaker accordingly.
type breaker struct {
	// probe connects to the database and waits at most perHost for each host.
	probe func(ctx context.Context, perHost time.Duration) error

	stop    context.CancelFunc
	stopped sync.WaitGroup
	hurry   chan struct{} // asks for a probe now

	mu     sync.Mutex
	err    error           // why it is open; nil while it is closed
	closed chan struct{}   // non-nil while it is open; closed when it closes
	calls  context.Context // parent of the calls in progress; cancelled when it opens
	cancel context.CancelFunc
}

// newBreaker returns a closed breaker and starts its goroutine, which close stops.
func newBreaker(probe func(ctx context.Context, perHost time.Duration) error) *breaker {
	ctx, stop := context.WithCancel(context.Background())
	b := &breaker{probe: probe, stop: stop, hurry: make(chan struct{}, 1)}
	b.calls, b.cancel = context.WithCancel(context.Background())
	b.stopped.Go(func() { b.run(ctx) })
	return b
}

func (b *breaker) close() {
	b.stop()
	b.stopped.Wait()
}

// open returns why the breaker is open, or nil while it is closed.
func (b *breaker) open() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err
}

// probeNow asks for a probe without waiting for it. Callers use it after an error that may mean
// that the database cannot be reached.
func (b *breaker) probeNow() {
	select {
	case b.hurry <- struct{}{}:
	default:
	}
}

// wait returns when the breaker is closed, or when ctx ends.
func (b *breaker) wait(ctx context.Context) {
	b.mu.Lock()
	closed := b.closed
	b.mu.Unlock()
	if closed == nil {
		return
	}
	select {
	case <-closed:
	case <-ctx.Done():
	}
}

// withCancel returns a copy of ctx that is also cancelled when the breaker opens.
func (b *breaker) withCancel(ctx context.Context) (context.Context, context.CancelFunc) {
	b.mu.Lock()
	calls := b.calls
	b.mu.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(calls, cancel)
	return ctx, func() { stop(); cancel() }
}

// run probes until ctx ends.
func (b *breaker) run(ctx context.Context) {
	interval, perHost := probeInterval, probeTimeout
	timer := time.NewTimer(interval)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-b.hurry:
		case <-timer.C:
		}
		limited, cancel := context.WithTimeout(ctx, totalProbeTimeout)
		err := b.probe(limited, perHost)
		cancel()
		b.set(err)
		interval, perHost = probeInterval, probeTimeout
		if err != nil {
			interval, perHost = openProbeInterval, openProbeTimeout
		}
		timer.Reset(interval)
	}
}

// set opens the breaker with an error, and closes it with nil.
func (b *breaker) set(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.err = err
	switch {
	case err != nil && b.closed == nil:
		b.closed = make(chan struct{})
		b.cancel()
	case err == nil && b.closed != nil:
		close(b.closed)
		b.closed = nil
		b.calls, b.cancel = context.WithCancel(context.Background())
	}
}
