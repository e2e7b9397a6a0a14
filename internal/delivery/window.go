package delivery

import (
	"maps"
	"slices"
	"sync"
	"time"

	"dialtone/internal/mailmsg"
)

// mostHeld is how many deliveries are in memory at most.
const mostHeld = 8 * batch

// window is the part of the queue that is in memory, which is the same however long the queue is: deliveries that are next, and those
// on their way. It says which may begin: not too many of one domain, and none while the relay is left alone.
type window struct {
	mu   sync.Mutex
	cond sync.Cond
	now  func() time.Time

	// wanted is told when there is room for more.
	wanted chan struct{}

	queue   []Delivery
	held    map[mailmsg.ID]bool // those that are next, on their way, or not recorded yet
	busy    map[string]int      // those on their way, by domain
	running int
	closed  bool

	connections, perDomain int

	// failures is how often in a row the relay could not be reached, inARow how many messages in a row were put off.
	failures, inARow int
	until            time.Time
	// generation rises with every pause, so that what began before it does not make it longer.
	generation int
}

func (w *window) init(connections int, now func() time.Time) {
	w.cond.L = &w.mu
	w.now, w.connections, w.perDomain = now, connections, max(connections-1, 1)
	w.held, w.busy, w.wanted = make(map[mailmsg.ID]bool), make(map[string]int), make(chan struct{}, 1)
}

// next waits for a delivery that may begin. ok is false when the window has been closed.
func (w *window) next() (d Delivery, generation int, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for !w.closed {
		if i := w.first(); i >= 0 {
			d := w.queue[i]
			w.queue = slices.Delete(w.queue, i, i+1)
			w.running++
			w.busy[domain(d.Email)]++
			w.want()
			return d, w.generation, true
		}
		w.cond.Wait()
	}
	return Delivery{}, 0, false
}

// first is the first delivery that may begin, or -1.
func (w *window) first() int {
	if w.failures > 0 && (w.running > 0 || w.now().Before(w.until)) {
		return -1 // one tries whether the relay is back
	}
	return slices.IndexFunc(w.queue, func(d Delivery) bool { return w.busy[domain(d.Email)] < w.perDomain })
}

// finish notes that a try is over. A message that was not taken for no fault of its own is due when the relay is tried again.
func (w *window) finish(o *outcome, generation int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.running--
	name := domain(o.Email)
	if w.busy[name]--; w.busy[name] == 0 {
		delete(w.busy, name)
	}
	switch {
	case o.untold || o.State == Discarded:
	case o.err == nil || o.verdict == forGood:
		w.failures, w.inARow = 0, 0
	default:
		if w.inARow++; (o.verdict == ours || w.inARow >= inARow) && generation == w.generation {
			w.generation++
			w.failures++
			w.until = w.now().Add(pause(w.failures))
		}
		if o.verdict == ours && o.State == Deferred {
			o.Due = w.until
		}
	}
	w.cond.Broadcast()
}

// hungry reports whether there is room for more, how many are held, and which domains are not wanted since they have all that they
// may have.
func (w *window) hungry() (without []string, held int, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	held = len(w.held)
	if len(w.queue) < batch {
		return nil, held, held <= mostHeld-batch
	}
	idle := w.running < w.connections && w.failures == 0
	if !idle || w.first() >= 0 || held > mostHeld-batch {
		return nil, held, false
	}
	for _, name := range slices.Sorted(maps.Keys(w.busy)) {
		if w.busy[name] >= w.perDomain {
			without = append(without, name)
		}
	}
	return without, held, true
}

// add takes deliveries that it does not hold.
func (w *window) add(list []Delivery) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, d := range list {
		if !w.held[d.Message] {
			w.held[d.Message] = true
			w.queue = append(w.queue, d)
		}
	}
	w.cond.Broadcast()
}

// want tells that there is room for more, where there is.
func (w *window) want() {
	if len(w.queue) < batch {
		select {
		case w.wanted <- struct{}{}:
		default:
		}
	}
}

// release forgets deliveries of which the store knows what came.
func (w *window) release(list []outcome) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, o := range list {
		delete(w.held, o.Message)
	}
	w.want()
}

// wake lets those look again who wait for the end of a pause.
func (w *window) wake() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cond.Broadcast()
}

func (w *window) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	w.cond.Broadcast()
}

func (w *window) pausing() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return max(w.until.Sub(w.now()), 0)
}
