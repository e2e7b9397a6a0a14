package phone

import (
	"context"
	"encoding/hex"
	"time"

	"dialtone/internal/account"
)

// What is the change that a notice is about.
type What string

// The changes. They are published (docs/directory.md): a name here is not changed.
const (
	AccountDisabled What = "account.disabled"
	AccountDeleted  What = "account.deleted"
	AccountPassword What = "account.password"
	AccountRole     What = "account.role"
	TenantAdded     What = "tenant.added"
	TenantChanged   What = "tenant.changed"
	TenantRemoved   What = "tenant.removed"
)

// Unregisters reports whether phones that are registered have to go: they would not get in again with what they have.
func (w What) Unregisters() bool {
	return w == AccountDisabled || w == AccountDeleted || w == AccountPassword
}

// Notice is one change that one hook is to be told of.
type Notification struct {
	Hook HookID
	// Event is the change.
	Event account.UID
	// Account is zero for a change of a tenant.
	Account account.UID
	What    What
	Tenant  int64
	// Host, Realm and User are as they were with the change; User is empty for a change of a tenant.
	Host, Realm, User string
	At                time.Time
	// Tries is how often it was claimed.
	Tries int
	// Due is when the claim is over. It tells one claim from another.
	Due time.Time
}

// ID is the same for every try, and for no other change.
func (n Notification) ID() string {
	id := "msg_" + hex.EncodeToString(n.Event[:])
	if n.Account != (account.UID{}) {
		id += "_" + hex.EncodeToString(n.Account[:])
	}
	return id
}

// Result is what came of a notice that was claimed.
type Result struct {
	Notification
	// Why is the failure, and empty where there was none.
	Why string
	// Next is when it is tried again. Without it the notice goes: it was told, or with a Why it is given up.
	Next time.Time
}

// HookState is a hook and how it is doing.
type HookState struct {
	Hook
	// Waiting is how many notices are not told yet, and Oldest when the oldest of them was written.
	Waiting int64
	Oldest  time.Time
	// Failed is when a try last failed, and Why.
	Failed time.Time
	Why    string
	// GivenUp is how many notices were given up.
	GivenUp int64
}

// HookStore keeps hooks and notices. Every method is one transaction.
//
// The stores of accounts and tenants write the notices, in the transactions of the changes: Disable and SetRole for an account that
// was activated once, Delete likewise, AddTenant, SetTenant and RemoveTenant, the last also for every account that goes with the
// tenant. There is one for each hook that is for the tenant.
type HookStore interface {
	// AddHook adds a hook. It fails with fault.Conflict where there is one of the name.
	AddHook(ctx context.Context, h Hook) error

	// RemoveHook removes a hook, and the notices for it. It fails with fault.NotFound.
	RemoveHook(ctx context.Context, name string) error

	// Hooks are all hooks, by name.
	Hooks(ctx context.Context) ([]HookState, error)

	// Due returns the hooks for which a notice is due.
	Due(ctx context.Context, now time.Time) ([]Hook, error)

	// Claim takes at most so many of the due notices for a hook, those that were never tried first, and gives them by the time of
	// the change; until then they are due for nobody. Of any number of concurrent calls, each notice goes to one.
	Claim(ctx context.Context, hook HookID, now, until time.Time, limit int) ([]Notification, error)

	// Report does what the results say, and notes the failures with the hooks. It passes over notices that are gone or that were
	// claimed anew since, save those that were told: they go.
	Report(ctx context.Context, results []Result, now time.Time) error

	// Noticed has something in it soon after a change of this process that may have written notices.
	Noticed() <-chan struct{}
}
