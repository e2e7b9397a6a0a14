package audit

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"
)

// Counts counts decisions by tenant, action and outcome since the start. All three come from
// fixed sets: the hosts of tenants, the actions of Counted, and the Outcomes; others are
// counted under "" or OtherOutcome. Observe is an observer of a Log. It takes no lock and does
// not allocate, except for the first event of a tenant.
type Counts struct {
	isTenant func(host string) bool

	mu      sync.Mutex                        // held to replace tenants
	tenants atomic.Pointer[map[string]*table] // by host; the map is replaced and never modified
}

// OtherOutcome replaces outcomes that are not among the Outcomes.
const OtherOutcome = "other"

// outcomes are the outcomes of events.
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

// counted are the actions that are counted by tenant. Others are rare, and are in the audit trail.
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

// NewCounts returns a Counts. isTenant reports whether a host belongs to a tenant.
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
	extended := maps.Clone(tenants)
	extended[host] = newTable()
	c.tenants.Store(&extended)
	return extended[host]
}

// Count is the number of decisions with a tenant, an action and an outcome.
type Count struct {
	Tenant  string // the host, or empty for decisions about no tenant
	Action  Action
	Outcome string
	N       int64
}

// basic and basicOutcomes are the counts that exist from the start, even if they are 0, so that
// the first event is visible as an increase.
var (
	basic         = []Action{Signup, Activate, Confirm, SignIn}
	basicOutcomes = []string{OK, "rate_limited", "server_error"}
)

// Each calls each for every tenant, action and outcome that was counted. It also calls each for
// the most important counts of the tenants in hosts if they are 0. It drops the counts of
// removed tenants.
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
	remaining := maps.Clone(*c.tenants.Load())
	maps.DeleteFunc(remaining, func(host string, _ *table) bool { return host != "" && !c.isTenant(host) })
	c.tenants.Store(&remaining)
}
