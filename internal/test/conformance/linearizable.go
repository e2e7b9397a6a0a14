package conformance

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"dialtone/internal/account"
	"dialtone/internal/fault"
)

// Linearizable tests that concurrent calls are linearizable: that the store answers as if each call
// had been executed at one moment between its start and its end. Clients create, activate, confirm,
// decline, enable, disable, delete and find accounts with a few user names, and replace links and undo
// that, while days pass. The store is closed and opened again several times. Then porcupine searches the
// history of each user name for an order of the calls that explains all answers, and the test fails
// if there is none.
func Linearizable(
	t *testing.T, open func(t *testing.T) Store, reopen func(t *testing.T, s Store) Store,
	seed uint64, operations int,
) {
	const clients, restarts, names = 8, 4, 6
	h := &history{test: newTest(t, open(t)), start: time.Now()}
	for round := range restarts {
		var all sync.WaitGroup
		for client := range clients {
			rng := rand.New(rand.NewPCG(seed, uint64(round*clients+client)))
			all.Go(func() {
				for range operations / clients / restarts {
					h.step(client, rng, fmt.Sprintf("user%d", rng.IntN(names)))
				}
			})
		}
		all.Wait()
		h.Store = reopen(t, h.Store)
	}
	if t.Failed() {
		return
	}
	switch porcupine.CheckOperationsTimeout(oneName, h.operations, time.Minute) {
	case porcupine.Ok:
		t.Logf("%d operations of %d clients over %d restarts, seed %d", len(h.operations), clients, restarts, seed)
	case porcupine.Illegal:
		t.Errorf("seed %d: no order of the calls explains the answers", seed)
		h.logIllegal()
	default:
		t.Errorf("seed %d: the search for an order was not finished in a minute", seed)
	}
}

// logIllegal logs the calls for each user name whose answers have no explanation.
func (h *history) logIllegal() {
	for _, part := range oneName.Partition(h.operations) {
		if porcupine.CheckOperations(oneName, part) {
			continue
		}
		slices.SortFunc(part, func(a, b porcupine.Operation) int { return cmp.Compare(a.Call, b.Call) })
		for _, op := range part {
			c, out := op.Input.(request), op.Output.(result)
			h.Logf("%v to %v: %s %s %.4x link %.4x, %s to %s, at %v: %.4x %s, active %v, disabled %v, confirmed %v, %v",
				time.Duration(op.Call), time.Duration(op.Return), c.op, c.user, c.uid[8:], c.link, c.was, c.email,
				c.at.Format(time.StampMicro), out.uid[8:], out.email, out.active, out.disabled, out.confirmed, out.err)
		}
	}
}

// operation is a method of the store.
type operation string

const (
	create    operation = "create"
	activate  operation = "activate"
	confirm   operation = "confirm"
	decline   operation = "decline"
	enable    operation = "enable"
	enableNow operation = "enableNow"
	disable   operation = "disable"
	remove    operation = "delete"
	resend    operation = "resend"
	undo      operation = "undo resend"
	find      operation = "find"
)

// request is a call of the store.
type request struct {
	op    operation
	user  string
	at    time.Time
	uid   account.UID // of the account, except for enable, enableNow, disable, remove and find
	link  [32]byte    // that create and resend set, activate, confirm and decline open, and undo removes
	was   string      // the address before the change, for resend, undo and decline
	email string      // the address that create and resend set
}

// result is what a call returned.
type result struct {
	err              error // as canonical returns it
	uid              account.UID
	disabled, active bool
	confirmed        bool
	email            string
}

// history records the calls of all clients. They share a clock, which sometimes jumps by days.
type history struct {
	*test
	start time.Time
	days  atomic.Int64

	mu         sync.Mutex
	operations []porcupine.Operation
	links      []link
}

// link is a link that a client may open.
type link struct {
	account account.Account
	token   [32]byte
	newer   *account.LinkReplacement // or nil for the link of a signup
}

// step makes one random call and records it. Some calls are for the user, others for the account of
// a random link.
func (h *history) step(client int, rng *rand.Rand, user string) {
	if rng.IntN(50) == 0 {
		h.days.Add(int64(rng.IntN(8)))
	}
	c := request{user: user, at: noon.AddDate(0, 0, int(h.days.Load())).Add(time.Since(h.start).Truncate(tick))}
	var do func() (account.Account, error)
	switch n := rng.IntN(15); {
	case n < 3:
		a := h.signup(user, c.at)
		a.Account.Email = h.anyAddress(rng)
		c.op, c.uid, c.link, c.email = create, a.Account.UID, a.Token, a.Account.Email
		h.addLink(link{a.Account, a.Token, nil})
		do = func() (account.Account, error) { return a.Account, h.Create(h.ctx, a, c.at) }
	case n < 6:
		l, ok := h.anyLink(rng)
		if !ok {
			return
		}
		c.op, c.uid, c.user, c.link = activate, l.account.UID, l.account.User, l.token
		do = func() (account.Account, error) { return h.Activate(h.ctx, h.tenant, l.token, c.at) }
		if rng.IntN(3) == 0 {
			c.op = confirm
			do = func() (account.Account, error) { return h.Confirm(h.ctx, h.tenant, l.token, l.account.UID, c.at) }
		}
	case n == 14:
		l, ok := h.anyLink(rng)
		if !ok {
			return
		}
		d := account.Decline{Account: l.account, Token: l.token, Recipient: allowance(newBucket(), 3)}
		d.Account.Email = h.anyAddress(rng)
		d.Places = [][16]byte{newID(), newID(), newID()}
		c.op, c.uid, c.user, c.link, c.was = decline, l.account.UID, l.account.User, l.token, d.Account.Email
		do = func() (account.Account, error) { return account.Account{}, h.Decline(h.ctx, d, c.at) }
	case n >= 12:
		l, ok := h.anyLink(rng)
		if !ok {
			return
		}
		r := h.newLink(l.account, h.anyAddress(rng), c.at)
		r.Was = h.anyAddress(rng)
		c.op, c.uid, c.user = resend, l.account.UID, l.account.User
		c.link, c.was, c.email = r.Token, r.Was, r.Account.Email
		h.addLink(link{l.account, r.Token, &r})
		do = func() (account.Account, error) { return account.Account{}, h.Resend(h.ctx, r, c.at) }
	case n == 11:
		l, ok := h.anyLink(rng)
		if !ok || l.newer == nil {
			return
		}
		c.op, c.uid, c.user, c.link, c.was = undo, l.account.UID, l.account.User, l.token, l.newer.Was
		do = func() (account.Account, error) { return account.Account{}, h.UndoResend(h.ctx, *l.newer, c.at) }
	case n == 6 && rng.IntN(2) == 0:
		c.op = enableNow
		do = func() (account.Account, error) { return h.EnableNow(h.ctx, h.tenant, user, c.at) }
	case n == 6:
		c.op = enable
		do = func() (account.Account, error) { return h.Enable(h.ctx, h.tenant, user, c.at) }
	case n == 7:
		c.op = disable
		do = func() (account.Account, error) { return h.Disable(h.ctx, h.tenant, user, c.at) }
	case n == 8 && rng.IntN(4) == 0:
		c.op = remove
		do = func() (account.Account, error) { return account.Account{}, h.Delete(h.ctx, h.tenant, user, c.at) }
	default:
		c.op = find
		do = func() (account.Account, error) { return h.Find(h.ctx, h.tenant, user, c.at) }
	}
	called := time.Since(h.start)
	a, err := do()
	returned := time.Since(h.start)
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case err != nil && fault.KindOf(err) == fault.Internal, errors.Is(err, fault.ErrInDoubt):
		h.Errorf("%s %s: %v", c.op, c.user, err)
	case fault.Is(err, fault.Overloaded) && !errors.Is(err, account.ErrAddressChanged):
		// A write was not started in time, and changed nothing.
		h.Logf("%s %s: %v", c.op, c.user, err)
		return
	}
	h.operations = append(h.operations, porcupine.Operation{
		ClientId: client,
		Input:    c,
		Call:     int64(called),
		Output:   result{canonical(err), a.UID, a.Disabled, !a.Pending(), !a.Confirmed.IsZero(), a.Email},
		Return:   int64(returned),
	})
}

// addLink adds a link for anyLink to return. That may happen before the store has the link.
func (h *history) addLink(l link) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.links = append(h.links, l)
}

// anyLink returns one of the last 20 links, or false if there is none.
func (h *history) anyLink(rng *rand.Rand) (link, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.links) == 0 {
		return link{}, false
	}
	recent := max(0, len(h.links)-20)
	return h.links[recent+rng.IntN(len(h.links)-recent)], true
}

func (h *history) anyAddress(rng *rand.Rand) string {
	return []string{"a@mail.test", "b@mail.test"}[rng.IntN(2)]
}

// canonical returns one value for all errors that mean the same to a caller, so that errors can be
// compared with ==.
func canonical(err error) error {
	switch {
	case err == nil || slices.Contains([]error{
		account.ErrActive, account.ErrExpired, account.ErrHeld, account.ErrWaiting, account.ErrReplaced,
		account.ErrAddressChanged,
	}, err):
		return err
	case fault.Is(err, fault.NotFound):
		return errAbsent
	case fault.Is(err, fault.Conflict):
		return account.ErrTaken
	}
	return err
}

var errAbsent = fault.New(fault.NotFound, "absent")

// nameState is the state of one user name. It is comparable, as porcupine needs it.
type nameState struct {
	uid          account.UID // zero if no account has the name
	expires      time.Time
	active, held bool
	confirmed    bool
	closed       bool
	link         [32]byte
	olderLinks   string // the links before link, concatenated
	sameAddress  string // those of olderLinks that went to email, since it was last changed
	email        string
}

func (s nameState) exists(at time.Time) bool {
	return s.uid != account.UID{} && !s.closed && (s.active || s.expires.After(at))
}

// hasLink reports whether a link is one of several that are concatenated.
func hasLink(links string, link [32]byte) bool {
	for i := 0; i < len(links); i += len(link) {
		if links[i:i+len(link)] == string(link[:]) {
			return true
		}
	}
	return false
}

// oneName is the sequential specification of a store, for one user name.
var oneName = porcupine.Model{
	Partition: func(all []porcupine.Operation) [][]porcupine.Operation {
		byUser := make(map[string][]porcupine.Operation)
		for _, op := range all {
			user := op.Input.(request).user
			byUser[user] = append(byUser[user], op)
		}
		var parts [][]porcupine.Operation
		for _, part := range byUser {
			parts = append(parts, part)
		}
		return parts
	},
	Init: func() any { return nameState{} },
	Step: func(state, input, output any) (bool, any) {
		s, c, out := state.(nameState), input.(request), output.(result)
		next, want := s.after(c)
		if want != out.err {
			return false, s
		}
		if want == nil && out.uid != (account.UID{}) && c.op != create {
			if out.email != next.email || out.uid != next.uid || out.active != next.active ||
				out.confirmed != next.confirmed ||
				out.disabled != (next.held || !next.active) {
				return false, s
			}
		}
		return true, next
	},
}

// after returns the state after a call, and the error that the call must return.
func (s nameState) after(c request) (nameState, error) {
	if c.op == create {
		if s.closed || s.exists(c.at) {
			return s, account.ErrTaken
		}
		return nameState{uid: c.uid, expires: c.at.Add(account.PendingLife), link: c.link, email: c.email}, nil
	}
	if c.op == activate || c.op == confirm {
		switch {
		case s.uid != c.uid || s.closed || s.link != c.link && !hasLink(s.olderLinks, c.link):
			return s, errAbsent
		case s.link != c.link:
			return s, account.ErrReplaced
		case s.held:
			return s, account.ErrHeld
		case s.active && c.op == activate:
			return s, account.ErrActive
		case !s.active && !s.expires.After(c.at):
			return s, account.ErrExpired
		}
		s.active, s.confirmed = true, s.confirmed || c.op == confirm
		return s, nil
	}
	if c.op == undo {
		if s.uid == c.uid && !s.active && !s.closed && s.link == c.link && s.olderLinks != "" {
			last := len(s.olderLinks) - len(s.link)
			copy(s.link[:], s.olderLinks[last:])
			s.olderLinks, s.email = s.olderLinks[:last], c.was
		}
		return s, nil
	}
	if !s.exists(c.at) || (c.op == resend || c.op == decline) && s.uid != c.uid {
		return s, errAbsent
	}
	switch c.op {
	case resend:
		switch {
		case s.held:
			return s, account.ErrHeld
		case s.active:
			return s, account.ErrActive
		case s.email != c.was:
			return s, account.ErrAddressChanged
		}
		s.olderLinks += string(s.link[:])
		s.sameAddress += string(s.link[:])
		if c.email != c.was {
			s.sameAddress = ""
		}
		s.link, s.email = c.link, c.email
	case decline:
		switch {
		case s.link != c.link && !hasLink(s.olderLinks, c.link):
			return s, errAbsent
		case s.link != c.link && !hasLink(s.sameAddress, c.link):
			return s, account.ErrReplaced
		case s.held:
			return s, account.ErrHeld
		case s.active:
			return s, account.ErrActive
		case s.email != c.was:
			return s, account.ErrAddressChanged
		}
		return nameState{}, nil
	case enable:
		if !s.held && !s.active {
			return s, account.ErrWaiting
		}
		s.held = false
	case enableNow:
		s.active, s.held = true, false
	case disable:
		s.held = true
	case remove:
		if !s.active {
			return nameState{}, nil
		}
		s.closed = true
	}
	return s, nil
}
