package phone

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/secret"
)

// Callout calls phone servers.
type Callout interface {
	// Call tells a server of a notice. It returns nil when the server has dropped what it held, or held nothing. It fails with
	// ErrAway where the server could not be reached or can do nothing at the moment, and with any other error where it refused.
	// What it fails with has no secret in its text.
	Call(ctx context.Context, h Hook, s HookSecret, n Notification) error
}

// ErrAway is a server to which no other notice needs to be tried now.
var ErrAway = errors.New("the server is away")

const (
	// lookEvery is the rhythm of looking for notices of other processes: they arrive within a second.
	lookEvery = 400 * time.Millisecond
	// CallTime is how long it may take to tell of one notice, and claimTime of a batch.
	CallTime  = 5 * time.Second
	claimTime = 10 * time.Second
	// batch is how many notices a lane claims at a time, and abreast how many of them are on their way at once.
	batch   = 32
	abreast = 4
	// firstPause doubles with every failure up to longestPause; a pause is between half of that and the whole.
	firstPause   = 2 * time.Second
	longestPause = 10 * time.Minute
	// patience is how old a notice is that is given up. Registrations and caches of that time have run out by themselves.
	patience = 3 * 24 * time.Hour
)

// Courier tells phone servers of notices.
type Dispatcher struct {
	Store    HookStore
	Callout  Callout
	SealRing *secret.Ring
	Log      *slog.Logger
	Now      func() time.Time
	// Forget is called before a phone server is called, with the account that changed or the zero UID. The change may be
	// another process's, which a cache of this one does not know of. It may be nil.
	Forget func(uid account.UID)

	state   sync.Mutex // guards what follows
	busy    map[HookID]bool
	failing map[HookID]bool
}

// Run tells notices until ctx ends. What is on its way then is told by the next Courier.
func (c *Dispatcher) Run(ctx context.Context) {
	c.busy, c.failing = make(map[HookID]bool), make(map[HookID]bool)
	var lanes sync.WaitGroup
	defer lanes.Wait()
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for blind := false; ; {
		hooks, err := c.Store.Due(ctx, c.Now())
		if ctx.Err() != nil {
			return
		}
		if err != nil && !blind {
			c.Log.ErrorContext(ctx, "notices for phone servers could not be read; it is tried again all the time", "err", err)
		}
		blind = err != nil
		for _, h := range hooks {
			if c.enter(h.ID) {
				lanes.Go(func() {
					defer c.leave(h.ID)
					c.lane(ctx, h)
				})
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		case <-c.Store.Noticed():
		}
	}
}

// enter reports whether the hook's lane was free.
func (c *Dispatcher) enter(id HookID) bool {
	c.state.Lock()
	defer c.state.Unlock()
	if c.busy[id] {
		return false
	}
	c.busy[id] = true
	return true
}

func (c *Dispatcher) leave(id HookID) {
	c.state.Lock()
	defer c.state.Unlock()
	delete(c.busy, id)
}

// lane tells a hook's notices, until none is due or the server is away. One whose secret does not open is taken for away: somebody
// has to mend it.
func (c *Dispatcher) lane(ctx context.Context, h Hook) {
	s, unsealed := NewLocker(c.SealRing).Open(h)
	call := func(n Notification) error {
		if unsealed != nil {
			return fmt.Errorf("%w: %w", ErrAway, unsealed)
		}
		ctx, cancel := context.WithTimeout(ctx, CallTime)
		defer cancel()
		return c.Callout.Call(ctx, h, s, n)
	}
	for away := false; !away && ctx.Err() == nil; {
		now := c.Now()
		until := now.Add(claimTime)
		notices, err := c.Store.Claim(ctx, h.ID, now, until, batch)
		if err != nil && ctx.Err() == nil {
			c.Log.ErrorContext(ctx, "notices could not be claimed; it is tried again all the time", "hook", h.Name, "err", err)
		}
		if len(notices) == 0 {
			return
		}
		var results []Result
		results, away = c.tell(ctx, call, notices, until)
		// Also when the server ends: nobody is to wait for claims that nobody works on.
		if err := c.Store.Report(context.WithoutCancel(ctx), results, c.Now()); err != nil {
			c.Log.ErrorContext(ctx, "what came of notices could not be saved; they are told again", "hook", h.Name, "err", err)
			return
		}
		c.note(ctx, h, results)
	}
}

// round is a batch of notices that are being told.
type round struct {
	*Dispatcher
	call  func(Notification) error
	until time.Time // of the claim

	mu      sync.Mutex
	away    error // why no other call is made
	results []Result
}

// tell calls the server for each notice, for those about one user one after the other. Where the server is away, the rest is put off
// with what failed.
func (c *Dispatcher) tell(ctx context.Context, call func(Notification) error, notices []Notification, until time.Time) (results []Result, away bool) {
	r := &round{Dispatcher: c, call: call, until: until}
	todo := make(chan []Notification)
	var all sync.WaitGroup
	for range abreast {
		all.Go(func() {
			for group := range todo {
				for _, n := range group {
					r.one(ctx, n)
				}
			}
		})
	}
	for _, group := range byUser(notices) {
		todo <- group
	}
	close(todo)
	all.Wait()
	return r.results, r.away != nil
}

func (r *round) one(ctx context.Context, n Notification) {
	r.mu.Lock()
	err := r.away
	r.mu.Unlock()
	if err == nil && ctx.Err() == nil {
		if r.Now().Add(CallTime).After(r.until) {
			return // it is due again when the claim is over
		}
		if r.Forget != nil {
			r.Forget(n.Account)
		}
		err = r.call(n)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if errors.Is(err, ErrAway) && r.away == nil {
		r.away = err
	}
	r.results = append(r.results, r.result(ctx, n, err))
}

// byUser are the notices about each user, in their order.
func byUser(notices []Notification) (groups [][]Notification) {
	type user struct {
		tenant int64
		name   string
	}
	place := make(map[user]int)
	for _, n := range notices {
		u := user{n.Tenant, n.User}
		i, ok := place[u]
		if !ok {
			i = len(groups)
			place[u], groups = i, append(groups, nil)
		}
		groups[i] = append(groups[i], n)
	}
	return groups
}

func (c *Dispatcher) result(ctx context.Context, n Notification, err error) Result {
	now := c.Now()
	switch {
	case ctx.Err() != nil: // the server ends, and not the notice's way
		return Result{Notification: n, Next: now}
	case err == nil:
		return Result{Notification: n}
	case now.Sub(n.At) >= patience:
		return Result{Notification: n, Why: err.Error()}
	default:
		return Result{Notification: n, Why: err.Error(), Next: now.Add(pause(n.Tries))}
	}
}

// pause is how long is waited after so many tries. Chance keeps the notices of one outage from coming back all at once.
func pause(tries int) time.Duration {
	d := longestPause
	if tries < 10 {
		d = min(d, firstPause<<max(0, tries-1))
	}
	return d/2 + rand.N(d/2+1)
}

// note tells the log what came of some notices: each that was given up, and besides when a hook begins and ends to fail.
func (c *Dispatcher) note(ctx context.Context, h Hook, results []Result) {
	var failed error
	told := false
	for _, r := range results {
		switch {
		case r.Why != "" && r.Next.IsZero():
			c.Log.ErrorContext(ctx, "a phone server could not be told for three days, and is not told any more", "hook", h.Name,
				"what", r.What, "tenant", r.Host, "user", r.User, "since", r.At, "err", r.Why)
			fallthrough
		case r.Why != "":
			failed = errors.New(r.Why)
		case r.Next.IsZero():
			told = true
		}
	}
	if failed != nil || told {
		c.failed(ctx, h, failed)
	}
}

// failed logs when a hook begins to fail, and with nil when it no longer does.
func (c *Dispatcher) failed(ctx context.Context, h Hook, err error) {
	if ctx.Err() != nil {
		return
	}
	c.state.Lock()
	before := c.failing[h.ID]
	c.failing[h.ID] = err != nil
	c.state.Unlock()
	switch {
	case err != nil && !before:
		c.Log.WarnContext(ctx, "a phone server could not be told of changes; it is tried again, ever more rarely", "hook", h.Name, "err", err)
	case err == nil && before:
		c.Log.InfoContext(ctx, "a phone server is told of changes again", "hook", h.Name)
	}
}
