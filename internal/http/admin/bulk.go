package admin

import (
	"time"

	"dialtone/internal/account"
	"dialtone/internal/fault"
	"dialtone/internal/operator"
	"dialtone/internal/operator/opjson"
)

// AccountQuery selects accounts, by the parameters of listAccounts.
type AccountQuery struct {
	States    []account.State `json:"state,omitempty"`
	Roles     []account.Role  `json:"role,omitempty"`
	Text      string          `json:"text,omitempty" doc:"The beginning of user name, address or display name."`
	Network   string          `json:"net,omitempty" doc:"Only signups from this network."`
	Since     *time.Time      `json:"since,omitempty" doc:"Only signups from this time on."`
	Before    *time.Time      `json:"before,omitempty" doc:"Only signups before this time."`
	Confirmed *bool           `json:"confirmed,omitempty"`
}

func (q AccountQuery) query() (account.Query, error) {
	list := account.Query{States: q.States, Roles: q.Roles, Text: q.Text, Confirmed: q.Confirmed}
	if q.Network != "" {
		net, err := parseNetwork(q.Network)
		if err != nil {
			return list, fault.Field("net", "this is not a network; use 192.0.2.0/24 or 2001:db8::/48")
		}
		list.Net = net
	}
	for _, limit := range []struct {
		name string
		at   *time.Time
		to   *time.Time
	}{{"since", q.Since, &list.Since}, {"before", q.Before, &list.Before}} {
		if limit.at == nil {
			continue
		}
		if limit.at.Year() < 1970 || limit.at.Year() > 9999 {
			return list, fault.Field(limit.name, "this time is not from 1970 to 9999")
		}
		*limit.to = limit.at.UTC().Truncate(time.Microsecond)
	}
	return list, nil
}

func viewQuery(q account.Query) AccountQuery {
	v := AccountQuery{
		States: q.States, Roles: q.Roles, Text: q.Text,
		Since: opjson.TimeOrNil(q.Since), Before: opjson.TimeOrNil(q.Before),
		Confirmed: q.Confirmed,
	}
	if q.Net.IsValid() {
		v.Network = q.Net.String()
	}
	return v
}

// NewBulk is the body of createBulk.
type NewBulk struct {
	Action operator.BulkAction `json:"action"`
	Query  AccountQuery        `json:"query" doc:"Which accounts. It has at least one member."`
	Reason string              `json:"reason,omitempty" doc:"Why, for the audit trail and the accounts' states."`
}

// Bulk is a change of many accounts.
type Bulk struct {
	ID      string              `json:"id"`
	Action  operator.BulkAction `json:"action"`
	Query   AccountQuery        `json:"query"`
	State   operator.BulkState  `json:"state"`
	Found   int64               `json:"found" doc:"How many accounts were counted so far."`
	Done    int64               `json:"done" doc:"How many accounts were changed so far."`
	Made    time.Time           `json:"made"`
	Changed time.Time           `json:"changed"`
	By      string              `json:"by"`
	Reason  string              `json:"reason"`
	Failure string              `json:"failure" doc:"Why it failed, or empty."`
}

// BulkPage has the newest bulk changes.
type BulkPage struct {
	Items []Bulk  `json:"items"`
	Next  *string `json:"next" doc:"Always null at present."`
}

// RunBulk is the body of runBulk.
type RunBulk struct {
	Count int64 `json:"count" doc:"The member found, as a proof that it was read."`
}

func viewBulk(b operator.Bulk) Bulk {
	return Bulk{
		b.ID.String(), b.Action, viewQuery(b.Query), b.State, b.Found, b.Done, b.Made, b.Changed,
		b.Cause.Actor.String(), b.Cause.Reason, b.Failure,
	}
}

func (h *Handler) listBulks(r *request) (any, error) {
	list, err := h.deps.Operator.Bulks(r.ctx, r.caller, r.tenant, maxLimit)
	v := BulkPage{Items: []Bulk{}}
	for _, b := range list {
		v.Items = append(v.Items, viewBulk(b))
	}
	return v, err
}

func (h *Handler) createBulk(r *request) (any, error) {
	b := r.body.(*NewBulk)
	q, err := b.Query.query()
	if err != nil {
		return nil, err
	}
	made, err := h.deps.Operator.StartBulk(r.ctx, r.caller, r.tenant, b.Action, q, r.reason)
	return viewBulk(made), err
}

// bulk returns the answer of an operation on the bulk change in the path.
func (r *request) bulk(do func(operator.BulkID) (operator.Bulk, error)) (any, error) {
	id, err := operator.ParseBulkID(r.args["id"])
	if err != nil {
		return nil, err
	}
	b, err := do(id)
	return viewBulk(b), err
}

func (h *Handler) getBulk(r *request) (any, error) {
	return r.bulk(func(id operator.BulkID) (operator.Bulk, error) {
		return h.deps.Operator.Bulk(r.ctx, r.caller, r.tenant, id)
	})
}

func (h *Handler) previewBulk(r *request) (any, error) {
	id, err := operator.ParseBulkID(r.args["id"])
	if err != nil {
		return nil, err
	}
	list, err := h.deps.Operator.PreviewBulk(r.ctx, r.caller, r.tenant, id, r.integer("limit", defaultLimit))
	v := AccountPage{Items: []opjson.Account{}}
	for _, a := range list {
		v.Items = append(v.Items, opjson.OfAccount(a))
	}
	return v, err
}

func (h *Handler) runBulk(r *request) (any, error) {
	return r.bulk(func(id operator.BulkID) (operator.Bulk, error) {
		return h.deps.Operator.RunBulk(r.ctx, r.caller, r.tenant, id, r.body.(*RunBulk).Count)
	})
}

func (h *Handler) cancelBulk(r *request) (any, error) {
	return r.bulk(func(id operator.BulkID) (operator.Bulk, error) {
		return h.deps.Operator.CancelBulk(r.ctx, r.caller, r.tenant, id)
	})
}
