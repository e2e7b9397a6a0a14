package stats

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"dialtone/internal/audit"
	"dialtone/internal/fault"
	"dialtone/internal/tenant"
)

// Counter counts events of a server. It is safe for concurrent use, except for Flush, which
// must not be called concurrently with itself. A nil Counter counts nothing.
type Counter struct {
	store  Store
	byHost func(host string) (*tenant.Tenant, bool)
	now    func() time.Time

	tenants sync.Map // from the ID of a tenant to *counters
	pending map[key]int64
}

// counters are the counts that Flush has not taken yet, in the order of Kinds.
type counters [numKinds]atomic.Int64

const numKinds = 15

// key identifies a count.
type key struct {
	tenant int64
	day    Day
	kind   Kind
}

func compare(a, b Count) int {
	return cmp.Or(cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(a.Day, b.Day), cmp.Compare(a.Kind, b.Kind))
}

// NewCounter returns a Counter. byHost returns the tenant with exactly this host.
func NewCounter(store Store, byHost func(host string) (*tenant.Tenant, bool), now func() time.Time) *Counter {
	return &Counter{store: store, byHost: byHost, now: now, pending: make(map[key]int64)}
}

// index maps each kind to its position in Kinds.
var index = func() map[Kind]int {
	m := make(map[Kind]int, len(Kinds))
	for i, k := range Kinds {
		m[k] = i
	}
	return m
}()

// Add counts one event at a tenant, which must exist or have existed.
func (c *Counter) Add(tenant int64, k Kind) {
	if c == nil {
		return
	}
	n, ok := c.tenants.Load(tenant)
	if !ok {
		n, _ = c.tenants.LoadOrStore(tenant, new(counters))
	}
	n.(*counters)[index[k]].Add(1)
}

// Observe counts a recorded decision, if it is one of the kinds and about a tenant that exists.
func (c *Counter) Observe(e audit.Event) {
	kinds := kindsOf(e)
	if kinds[0] == "" {
		return
	}
	t, ok := c.byHost(e.Tenant)
	if !ok {
		return
	}
	for _, k := range kinds {
		if k != "" {
			c.Add(t.ID, k)
		}
	}
}

// Activated is the detail of a confirmation that activated the account. Repeated is the detail
// of one that changed nothing.
const (
	Activated = "activated"
	Repeated  = "repeated"
)

// kindsOf returns the kinds that a decision is counted as. The first is empty for a decision that is not counted.
func kindsOf(e audit.Event) [2]Kind {
	switch ok := e.Outcome == "ok"; e.Action {
	case audit.Signup:
		return [2]Kind{signupKind(e.Outcome)}
	case audit.Activate:
		if ok {
			return [2]Kind{Activation}
		}
	case audit.Confirm:
		if ok && e.Detail == Activated {
			return [2]Kind{Confirmation, Activation}
		} else if ok && e.Detail != Repeated {
			return [2]Kind{Confirmation}
		}
	case audit.SignIn:
		switch e.Outcome {
		case "ok":
			return [2]Kind{SignIn}
		case "code_needed", "passkey_needed": // the first of two steps
		default:
			return [2]Kind{SignInRefused}
		}
	}
	return [2]Kind{}
}

func signupKind(outcome string) Kind {
	switch outcome {
	case "ok":
		return Signup
	case "repeated": // a form that was sent again
		return ""
	case "captcha_failed":
		return SignupCaptcha
	case "conflict":
		return SignupTaken
	case "rate_limited":
		return SignupLimit
	case "invalid_request":
		return SignupInvalid
	case "signups_closed":
		return SignupClosed
	default:
		return SignupFailed
	}
}

// Flush writes the counts since its last success in one transaction. Events are counted for the
// day on which Flush is called.
func (c *Counter) Flush(ctx context.Context) error {
	day := DayOf(c.now())
	c.tenants.Range(func(id, n any) bool {
		for i := range n.(*counters) {
			if added := n.(*counters)[i].Swap(0); added != 0 {
				c.pending[key{id.(int64), day, Kinds[i]}] += added
			}
		}
		return true
	})
	if len(c.pending) == 0 {
		return nil
	}
	list := make([]Count, 0, len(c.pending))
	for k, n := range c.pending {
		list = append(list, Count{k.tenant, k.day, k.kind, n})
	}
	slices.SortFunc(list, compare)
	err := c.store.AddCounts(ctx, list)
	// If the outcome is in doubt, the counts are dropped, since they may have been written.
	if err == nil || errors.Is(err, fault.ErrInDoubt) {
		clear(c.pending)
	}
	return err
}

// Sweep removes the counts of days that are no longer kept.
func (c *Counter) Sweep(ctx context.Context) error {
	const limit = 500 // keeps a transaction short
	for {
		n, err := c.store.RemoveCounts(ctx, DayOf(c.now())-KeptDays+1, limit)
		if err != nil || n < limit {
			return err
		}
	}
}
