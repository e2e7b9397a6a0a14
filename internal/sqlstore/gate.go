package sqlstore

import (
	"context"
	"sync"
	"time"
)

const (
	// probeEvery is the rhythm of looking whether the database is there; while it is not, that of looking whether it is back.
	probeEvery     = time.Second
	probeEveryShut = 100 * time.Millisecond
	// probeTime is how long a probe waits for a host. It bounds for how long a network that swallows everything is waited for; a server
	// that has much to do answers within it. While the gate is shut, more probes of less patience are what finds it open again.
	probeTime     = 2 * time.Second
	probeTimeShut = time.Second
	// probeMost is how long a probe may take over all hosts, and for their names. Of those that are asked before the primary, some may
	// be gone without a word.
	probeMost = 10 * time.Second
)

// gate is shut while the database cannot be reached. Nobody then waits for what cannot come, or holds on to memory and sockets
// meanwhile: whoever meets it shut is turned away at once, and what was on its way is given up.
type gate struct {
	probe func(ctx context.Context, each time.Duration) error

	stop    context.CancelFunc
	stopped sync.WaitGroup
	doubts  chan struct{}

	mu     sync.Mutex
	shut   chan struct{} // while it is shut: closed when it opens
	why    error
	passed context.Context // of what went through; it ends when the gate shuts
	giveUp context.CancelFunc
}

func newGate(probe func(ctx context.Context, each time.Duration) error) *gate {
	ctx, stop := context.WithCancel(context.Background())
	g := &gate{probe: probe, stop: stop, doubts: make(chan struct{}, 1)}
	g.passed, g.giveUp = context.WithCancel(context.Background())
	g.stopped.Go(func() { g.watch(ctx) })
	return g
}

func (g *gate) close() {
	g.stop()
	g.stopped.Wait()
}

// closed is why the gate is shut, and nil where it is open.
func (g *gate) closed() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.why
}

// doubt has the gate probe at once: something went wrong that may be the database's end.
func (g *gate) doubt() {
	select {
	case g.doubts <- struct{}{}:
	default:
	}
}

// wait returns when the gate is open, or ctx ends.
func (g *gate) wait(ctx context.Context) {
	g.mu.Lock()
	shut := g.shut
	g.mu.Unlock()
	if shut == nil {
		return
	}
	select {
	case <-shut:
	case <-ctx.Done():
	}
}

// pass is ctx for something that is given up when the gate shuts.
func (g *gate) pass(ctx context.Context) (context.Context, context.CancelFunc) {
	g.mu.Lock()
	passed := g.passed
	g.mu.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	forget := context.AfterFunc(passed, cancel)
	return ctx, func() { forget(); cancel() }
}

func (g *gate) watch(ctx context.Context) {
	every, each := probeEvery, probeTime
	timer := time.NewTimer(every)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-g.doubts:
		case <-timer.C:
		}
		limited, cancel := context.WithTimeout(ctx, probeMost)
		err := g.probe(limited, each)
		cancel()
		g.set(err)
		every, each = probeEvery, probeTime
		if err != nil {
			every, each = probeEveryShut, probeTimeShut
		}
		timer.Reset(every)
	}
}

func (g *gate) set(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.why = err
	switch {
	case err != nil && g.shut == nil:
		g.shut = make(chan struct{})
		g.giveUp()
	case err == nil && g.shut != nil:
		close(g.shut)
		g.shut = nil
		g.passed, g.giveUp = context.WithCancel(context.Background())
	}
}
