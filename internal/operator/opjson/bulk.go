package opjson

import (
	"time"

	"dialtone/internal/account"
	"dialtone/internal/operator"
)

// Query selects accounts. In JSON it always has all members. An empty member does not restrict the selection.
type Query struct {
	States    []account.State `json:"state"`
	Roles     []account.Role  `json:"role"`
	Text      string          `json:"text"`
	Network   string          `json:"net"`
	Since     *time.Time      `json:"since"`
	Before    *time.Time      `json:"before"`
	Confirmed *bool           `json:"confirmed"`
}

// OfQuery returns the view of a query.
func OfQuery(q account.Query) Query {
	v := Query{
		States: list(q.States), Roles: list(q.Roles), Text: q.Text,
		Since: TimeOrNil(q.Since.UTC()), Before: TimeOrNil(q.Before.UTC()), Confirmed: q.Confirmed,
	}
	if q.Net.IsValid() {
		v.Network = q.Net.String()
	}
	return v
}

// Bulk is a change of many accounts.
type Bulk struct {
	ID      string              `json:"id"`
	Tenant  string              `json:"tenant" doc:"The host."`
	Action  operator.BulkAction `json:"action"`
	Query   Query               `json:"query"`
	State   operator.BulkState  `json:"state"`
	Found   int64               `json:"found" doc:"How many accounts were counted so far."`
	Done    int64               `json:"done" doc:"How many accounts were changed so far."`
	Made    time.Time           `json:"made"`
	Changed time.Time           `json:"changed" doc:"When state, found or done last changed."`
	By      string              `json:"by" doc:"Who started it, in words."`
	Reason  string              `json:"reason"`
	Failure string              `json:"failure" doc:"Why it failed, or empty."`
}

// OfBulk returns the view of a bulk change at the tenant with a host.
func OfBulk(b operator.Bulk, host string) Bulk {
	return Bulk{
		ID: b.ID.String(), Tenant: host, Action: b.Action, Query: OfQuery(b.Query), State: b.State, Found: b.Found,
		Done: b.Done, Made: b.Made.UTC(), Changed: b.Changed.UTC(), By: b.Cause.Actor.Words(),
		Reason: b.Cause.Reason, Failure: b.Failure,
	}
}

// list returns a copy of a list that is not null in JSON, even if it is empty.
func list[T any](l []T) []T { return append([]T{}, l...) }
