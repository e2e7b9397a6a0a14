package conformance

import (
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

// Linearizable shows that a store, whatever goes on in it at once, answers as if one thing had been
// done after the other, each between its call and its answer. Clients sign up, activate, confirm,
// enable, disable, delete, ask for new links, take them back and look up a few names, while days
// pass; every some operations the store is closed and opened again, as a restart does. The history
// of calls and answers is then searched for an order that explains it; there must be one for each
// name.
func Linearizable(
	t *testing.T, open func(t *testing.T) Store, reopen func(t *testing.T, s Store) Store,
	seed uint64, operations int,
) {
	const clients, restarts, names = 8, 4, 6
	h := &history{test: newTest(t, open(t)), start: time.Now()}
	for round := range restarts {
		var all sync.WaitGroup
		for client := range clients {
			chance := rand.New(rand.NewPCG(seed, uint64(round*clients+client)))
			all.Go(func() {
				for range operations / clients / restarts {
					h.step(client, chance, fmt.Sprintf("user%d", chance.IntN(names)))
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
		t.Errorf("no order explains the history of seed %d", seed)
	default:
		t.Errorf("no order was found in a minute for the history of seed %d", seed)
	}
}

// act is what a client does, and call what it does it with.
type operation string

const (
	create   operation = "create"
	activate operation = "activate"
	confirm  operation = "confirm"
	enable   operation = "enable"
	disable  operation = "disable"
	remove   operation = "delete"
	resend   operation = "resend"
	undo     operation = "undo resend"
	find     operation = "find"
)

type request struct {
	op   operation
	user string
	at   time.Time
	uid  account.UID // of the admission, or of the account whose link is opened or replaced
	link [32]byte    // that the account gets, or that is opened or taken back

	was, email string // of a new link
}

// answer is what came of it.
type result struct {
	err              error // as the interface names it, or nil
	uid              account.UID
	disabled, active bool
	confirmed        bool
	email            string
}

// history is what the clients did so far. All clients have one clock, which jumps.
type history struct {
	*test
	start time.Time
	days  atomic.Int64

	mu         sync.Mutex
	operations []porcupine.Operation
	links      []link
}

// link is what somebody may open: of a signup, or of a later message.
type link struct {
	account account.Account
	token   [32]byte
	newer   *account.LinkReplacement
}

func (h *history) step(client int, chance *rand.Rand, user string) {
	if chance.IntN(50) == 0 {
		h.days.Add(int64(chance.IntN(8)))
	}
	c := request{user: user, at: noon.AddDate(0, 0, int(h.days.Load())).Add(time.Since(h.start).Truncate(tick))}
	var do func() (account.Account, error)
	switch n := chance.IntN(14); {
	case n < 3:
		a := h.signup(user, c.at)
		a.Account.Email = h.anyAddress(chance)
		c.op, c.uid, c.link, c.email = create, a.Account.UID, a.Token, a.Account.Email
		h.addLink(link{a.Account, a.Token, nil})
		do = func() (account.Account, error) { return a.Account, h.Create(h.ctx, a, c.at) }
	case n < 6:
		l, ok := h.anyLink(chance)
		if !ok {
			return
		}
		c.op, c.uid, c.user, c.link = activate, l.account.UID, l.account.User, l.token
		do = func() (account.Account, error) { return h.Activate(h.ctx, h.tenant, l.token, c.at) }
		if chance.IntN(3) == 0 {
			c.op = confirm
			do = func() (account.Account, error) { return h.Confirm(h.ctx, h.tenant, l.token, l.account.UID, c.at) }
		}
	case n >= 12:
		l, ok := h.anyLink(chance)
		if !ok {
			return
		}
		r := h.newLink(l.account, h.anyAddress(chance), c.at)
		r.Was = h.anyAddress(chance)
		c.op, c.uid, c.user = resend, l.account.UID, l.account.User
		c.link, c.was, c.email = r.Token, r.Was, r.Account.Email
		h.addLink(link{l.account, r.Token, &r})
		do = func() (account.Account, error) { return account.Account{}, h.Resend(h.ctx, r, c.at) }
	case n == 11:
		l, ok := h.anyLink(chance)
		if !ok || l.newer == nil {
			return
		}
		c.op, c.uid, c.user, c.link, c.was = undo, l.account.UID, l.account.User, l.token, l.newer.Was
		do = func() (account.Account, error) { return account.Account{}, h.UndoResend(h.ctx, *l.newer, c.at) }
	case n == 6:
		c.op = enable
		do = func() (account.Account, error) { return h.Enable(h.ctx, h.tenant, user, c.at) }
	case n == 7:
		c.op = disable
		do = func() (account.Account, error) { return h.Disable(h.ctx, h.tenant, user, c.at) }
	case n == 8 && chance.IntN(4) == 0:
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
		// The disk is so slow that a write was not started in time. It changed nothing.
		h.Logf("%s %s: %v", c.op, c.user, err)
		return
	}
	h.operations = append(h.operations, porcupine.Operation{
		ClientId: client,
		Input:    c,
		Call:     int64(called),
		Output: result{
			canonical(err),
			a.UID,
			a.Disabled,
			!a.Pending(),
			!a.Confirmed.IsZero(),
			a.Email,
		},
		Return: int64(returned),
	})
}

// hand gives a link to the clients, also before anybody can have it.
func (h *history) addLink(l link) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.links = append(h.links, l)
}

// anyLink is a link that somebody opens, a recent one as a rule.
func (h *history) anyLink(chance *rand.Rand) (link, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.links) == 0 {
		return link{}, false
	}
	recent := max(0, len(h.links)-20)
	return h.links[recent+chance.IntN(len(h.links)-recent)], true
}

func (h *history) anyAddress(chance *rand.Rand) string {
	return []string{"a@mail.test", "b@mail.test"}[chance.IntN(2)]
}

// named is an error as the interface has a name for it.
func canonical(err error) error {
	switch {
	case err == nil || slices.Contains([]error{
		account.ErrActive, account.ErrExpired, account.ErrHeld, account.ErrReplaced,
	}, err):
		return err
	case errors.Is(err, account.ErrAddressChanged):
		return err
	case fault.Is(err, fault.NotFound):
		return errAbsent
	case fault.Is(err, fault.Conflict):
		return account.ErrTaken
	}
	return err
}

var errAbsent = fault.New(fault.NotFound, "absent")

// fate is what one name has come to.
type nameState struct {
	uid          account.UID // zero where nobody has the name
	expires      time.Time
	active, held bool
	confirmed    bool
	closed       bool
	link         [32]byte
	olderLinks   string // the links before, one behind the other
	email        string
}

func (f nameState) exists(at time.Time) bool {
	return f.uid != account.UID{} && !f.closed && (f.active || f.expires.After(at))
}

// knew reports whether the account had the link before a newer one.
func (f nameState) hadLink(link [32]byte) bool {
	for i := 0; i < len(f.olderLinks); i += len(link) {
		if f.olderLinks[i:i+len(link)] == string(link[:]) {
			return true
		}
	}
	return false
}

// oneName is the truth about one name, one thing after the other.
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
		f, c, out := state.(nameState), input.(request), output.(result)
		next, want := f.after(c)
		if want != out.err {
			return false, f
		}
		if want == nil && out.uid != (account.UID{}) && c.op != create {
			if out.email != next.email || out.uid != next.uid || out.active != next.active ||
				out.confirmed != next.confirmed ||
				out.disabled != (next.held || !next.active) {
				return false, f
			}
		}
		return true, next
	},
}

// after is what a call must be answered, and what the name has come to then.
func (f nameState) after(c request) (nameState, error) {
	if c.op == create {
		if f.closed || f.exists(c.at) {
			return f, account.ErrTaken
		}
		return nameState{uid: c.uid, expires: c.at.Add(account.PendingLife), link: c.link, email: c.email}, nil
	}
	if c.op == activate || c.op == confirm {
		switch {
		case f.uid != c.uid || f.closed || f.link != c.link && !f.hadLink(c.link):
			return f, errAbsent
		case f.link != c.link:
			return f, account.ErrReplaced
		case f.held:
			return f, account.ErrHeld
		case f.active && c.op == activate:
			return f, account.ErrActive
		case !f.active && !f.expires.After(c.at):
			return f, account.ErrExpired
		}
		f.active, f.confirmed = true, f.confirmed || c.op == confirm
		return f, nil
	}
	if c.op == undo {
		if f.uid == c.uid && !f.active && !f.closed && f.link == c.link && f.olderLinks != "" {
			last := len(f.olderLinks) - len(f.link)
			copy(f.link[:], f.olderLinks[last:])
			f.olderLinks, f.email = f.olderLinks[:last], c.was
		}
		return f, nil
	}
	if !f.exists(c.at) || c.op == resend && f.uid != c.uid {
		return f, errAbsent
	}
	switch c.op {
	case resend:
		switch {
		case f.held:
			return f, account.ErrHeld
		case f.active:
			return f, account.ErrActive
		case f.email != c.was:
			return f, account.ErrAddressChanged
		}
		f.olderLinks += string(f.link[:])
		f.link, f.email = c.link, c.email
	case enable:
		f.active, f.held = true, false
	case disable:
		f.held = true
	case remove:
		if !f.active {
			return nameState{}, nil
		}
		f.closed = true
	}
	return f, nil
}
