package delivery

import (
	"maps"
	"slices"
	"sync"
	"time"

	"dialtone/internal/mailmsg"
)

// maxHeld is the maximum number of deliveries in memory.
const maxHeld = 8 * batchSize

// window is the part of the queue that is in memory: the next deliveries, and those being sent.
// Its size does not depend on the length of the queue. It decides which delivery can start: not
// too many of one domain, and none while the relay is paused.
type window struct {
	mu   sync.Mutex
	cond sync.Cond
	now  func() time.Time

	// roomFree receives a value when there is room for more deliveries.
	roomFree chan struct{}

	queue    []Delivery
	held     map[mailmsg.ID]bool // next, being sent, or not recorded yet
	inFlight map[string]int      // being sent, by domain
	running  int
	closed   bool

	connections, perDomain int

	// relayFailures counts consecutive failures to reach the relay, consecutiveFailures
	// consecutive messages that were deferred.
	relayFailures, consecutiveFailures int
	pausedUntil                        time.Time
	down                               string // the relay's last answer when it could not be used
	// generation increases with every pause. An attempt that began before a pause does not extend
	// it.
	generation int
}

func (w *window) init(connections int, now func() time.Time) {
	w.cond.L = &w.mu
	w.now, w.connections, w.perDomain = now, connections, max(connections-1, 1)
	w.held, w.inFlight = make(map[mailmsg.ID]bool), make(map[string]int)
	w.roomFree = make(chan struct{}, 1)
}

// next waits for a delivery that can start. ok is false after close.
func (w *window) next() (d Delivery, generation int, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for !w.closed {
		if i := w.first(); i >= 0 {
			d := w.queue[i]
			w.queue = slices.Delete(w.queue, i, i+1)
			w.running++
			w.inFlight[mailmsg.Domain(d.Email)]++
			w.signalRoom()
			return d, w.generation, true
		}
		w.cond.Wait()
	}
	return Delivery{}, 0, false
}

// first returns the index of the first delivery that can start, or -1.
func (w *window) first() int {
	if w.relayFailures > 0 && (w.running > 0 || w.now().Before(w.pausedUntil)) {
		return -1 // after a pause, a single message probes the relay
	}
	return slices.IndexFunc(w.queue, func(d Delivery) bool {
		return w.inFlight[mailmsg.Domain(d.Email)] < w.perDomain
	})
}

// done records the result of an attempt. If the relay caused a failure, the message becomes due
// when the relay is tried again.
func (w *window) done(a *attempt, generation int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.running--
	name := mailmsg.Domain(a.Email)
	if w.inFlight[name]--; w.inFlight[name] == 0 {
		delete(w.inFlight, name)
	}
	switch {
	case a.notAttempted || a.State == Discarded:
	case a.err == nil || a.failure == permanent:
		w.relayFailures, w.consecutiveFailures = 0, 0
	default:
		w.consecutiveFailures++
		unreachable := a.failure == relayFailure || w.consecutiveFailures >= maxDeferredInRow
		if unreachable && generation == w.generation {
			w.generation++
			w.relayFailures++
			w.pausedUntil = w.now().Add(relayPause(w.relayFailures))
			w.down = withoutAddresses(a.Answer)
		}
		if a.failure == relayFailure && a.State == Deferred {
			a.Due = w.pausedUntil
		}
	}
	w.cond.Broadcast()
}

// room reports whether there is room for more deliveries. It also returns how many are held, and which domains
// to skip because they already use all the connections that they are allowed.
func (w *window) room() (without []string, held int, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	held = len(w.held)
	if len(w.queue) < batchSize {
		return nil, held, held <= maxHeld-batchSize
	}
	idle := w.running < w.connections && w.relayFailures == 0
	if !idle || w.first() >= 0 || held > maxHeld-batchSize {
		return nil, held, false
	}
	for _, name := range slices.Sorted(maps.Keys(w.inFlight)) {
		if w.inFlight[name] >= w.perDomain {
			without = append(without, name)
		}
	}
	return without, held, true
}

// add adds the deliveries that the window does not hold yet.
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

// signalRoom signals roomFree if there is room for more.
func (w *window) signalRoom() {
	if len(w.queue) < batchSize {
		select {
		case w.roomFree <- struct{}{}:
		default:
		}
	}
}

// release forgets deliveries whose attempts have been recorded.
func (w *window) release(list []attempt) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, a := range list {
		delete(w.held, a.Message)
	}
	w.signalRoom()
}

// wake makes waiting workers check again whether a pause has ended.
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

func (w *window) pauseLeft() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return max(w.pausedUntil.Sub(w.now()), 0)
}

// relayDown reports whether the relay cannot be used, and returns its last answer.
func (w *window) relayDown() (answer string, down bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.down, w.relayFailures > 0
}
