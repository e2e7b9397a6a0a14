package audit

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"
)

// Counts counts decisions by tenant, action and outcome since the start. All three come from fixed sets: the hosts
// that are known tenants when they are counted first, the Actions, and the Outcomes; others are counted under "" or
// OtherOutcome. Observe is an observer of a Log. It takes no lock and allocates nothing, except for the first event
// of a tenant.
type Counts struct {
	isTenant func(host string) bool

	mu      sync.Mutex                        // held to replace tenants
	tenants atomic.Pointer[map[string]*table] // by host; never changed, but replaced
}

// OtherOutcome is the outcome of events whose own one is not one of the Outcomes.
const OtherOutcome = "other"

// outcomes are the outcomes that events have, the first being success.
var outcomes = []string{
	OK, "already_active", "captcha_failed", "code_needed", "code_wrong", "conflict", "denied", "expired",
	"factor_needed", "held", "invalid_request", "leaving", "malformed", "not_activated", "not_found", "opened",
	"other_uri", "overloaded", "passkey_needed", "rate_limited", "repeated", "replaced", "server_error",
	"signups_closed", OtherOutcome,
}

var outcomeNumbers = func() map[string]int {
	numbers := make(map[string]int, len(outcomes))
	for i, o := range outcomes {
		numbers[o] = i
	}
	return numbers
}()

// Outcomes returns the outcomes by which events are counted.
func Outcomes() []string { return slices.Clone(outcomes) }

// counted are the actions that are counted by tenant. Others are seldom, and are in the audit trail.
var counted = []Action{
	Signup, Activate, Confirm, Resend, SignIn, SignOut, PasswordForgot, PasswordReset, PasswordChange, EmailChange,
	AccountDecline, AccountLeave, AccountStay, AccountData, SessionsEnd, TwoStepOn, PasskeyAdd,
	ProvisionFile, DirectoryRequest,
}

// Counted returns the actions that are counted.
func Counted() []Action { return slices.Clone(counted) }

type table [][]atomic.Int64 // by action and outcome

func newTable() *table {
	t := make(table, len(counted))
	for i := range t {
		t[i] = make([]atomic.Int64, len(outcomes))
	}
	return &t
}

// NewCounts returns a Counts. isTenant reports whether a host is that of a tenant.
func NewCounts(isTenant func(host string) bool) *Counts {
	c := &Counts{isTenant: isTenant}
	c.tenants.Store(&map[string]*table{"": newTable()})
	return c
}

// Observe counts an event.
func (c *Counts) Observe(e Event) {
	action, ok := actionNumbers[e.Action]
	if !ok {
		return
	}
	outcome, ok := outcomeNumbers[e.Outcome]
	if !ok {
		outcome = len(outcomes) - 1
	}
	(*c.table(e.Tenant))[action][outcome].Add(1)
}

var actionNumbers = func() map[Action]int {
	numbers := make(map[Action]int, len(counted))
	for i, a := range counted {
		numbers[a] = i
	}
	return numbers
}()

// table returns the counts of a tenant.
func (c *Counts) table(host string) *table {
	tenants := *c.tenants.Load()
	if t, ok := tenants[host]; ok {
		return t
	}
	if !c.isTenant(host) {
		return tenants[""]
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	tenants = *c.tenants.Load()
	if t, ok := tenants[host]; ok {
		return t
	}
	more := maps.Clone(tenants)
	more[host] = newTable()
	c.tenants.Store(&more)
	return more[host]
}

// Count is how many decisions there were.
type Count struct {
	Tenant  string // the host, or empty for decisions about no tenant
	Action  Action
	Outcome string
	N       int64
}

// basic and basicOutcomes are the counts that are there from the start, so that the first event shows as an increase.
var (
	basic         = []Action{Signup, Activate, Confirm, SignIn}
	basicOutcomes = []string{OK, "rate_limited", "server_error"}
)

// Each calls each for every tenant, action and outcome that was counted. For the most important ones of the tenants
// in hosts it does so, too, where the count is 0. The counts of tenants that were removed are dropped.
func (c *Counts) Each(hosts []string, each func(Count)) {
	for _, host := range hosts {
		c.table(host)
	}
	c.drop()
	for host, t := range *c.tenants.Load() {
		for i, action := range counted {
			for k, outcome := range outcomes {
				n := (*t)[i][k].Load()
				if n > 0 || host != "" && slices.Contains(basic, action) && slices.Contains(basicOutcomes, outcome) {
					each(Count{host, action, outcome, n})
				}
			}
		}
	}
}

// drop removes the counts of hosts that are no longer tenants.
func (c *Counts) drop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	left := maps.Clone(*c.tenants.Load())
	maps.DeleteFunc(left, func(host string, _ *table) bool { return host != "" && !c.isTenant(host) })
	c.tenants.Store(&left)
}
