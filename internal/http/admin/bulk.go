package admin

import (
	"dialtone/internal/account"
	"dialtone/internal/operator"
	"dialtone/internal/operator/opjson"
)

// AccountQuery selects accounts, by the parameters of listAccounts.
type AccountQuery struct {
	States    []account.State `json:"state,omitempty"`
	Roles     []account.Role  `json:"role,omitempty"`
	Text      string          `json:"text,omitempty" doc:"The beginning of user name, address or display name."`
	Network   string          `json:"net,omitempty" doc:"Only signups from this address or network."`
	Since     string          `json:"since,omitempty" doc:"Only signups since this time, as in the parameter since."`
	Before    string          `json:"before,omitempty" doc:"Only signups before this time."`
	Confirmed *bool           `json:"confirmed,omitempty"`
}

// NewBulk is the body of createBulk.
type NewBulk struct {
	Action operator.BulkAction `json:"action"`
	Query  AccountQuery        `json:"query" doc:"Which accounts. It has at least one member."`
	Reason string              `json:"reason,omitempty" doc:"Why, for the audit trail and the accounts' states."`
}

// BulkPage is the list of the newest bulk changes.
type BulkPage struct {
	Items []opjson.Bulk `json:"items"`
	Next  *string       `json:"next" doc:"Currently always null."`
}

// RunBulk is the body of runBulk.
type RunBulk struct {
	Count int64 `json:"count" doc:"The value of the member found, to confirm that it was read."`
}

func (h *Handler) listBulks(r *request) (any, error) {
	list, err := h.deps.Operator.Bulks(r.ctx, r.caller, r.tenant, maxLimit)
	v := BulkPage{Items: []opjson.Bulk{}}
	for _, b := range list {
		v.Items = append(v.Items, opjson.OfBulk(b, r.tenant.Host))
	}
	return v, err
}

func (h *Handler) createBulk(r *request) (any, error) {
	b := r.body.(*NewBulk)
	q, err := operator.AccountFilter(b.Query).Query(h.deps.Now())
	if err != nil {
		return nil, err
	}
	made, err := h.deps.Operator.StartBulk(r.ctx, r.caller, r.tenant, b.Action, q, r.reason)
	return opjson.OfBulk(made, r.tenant.Host), err
}

// bulk returns the answer of an operation on the bulk change in the path.
func (r *request) bulk(do func(operator.BulkID) (operator.Bulk, error)) (any, error) {
	id, err := operator.ParseBulkID(r.args["id"])
	if err != nil {
		return nil, err
	}
	b, err := do(id)
	return opjson.OfBulk(b, r.tenant.Host), err
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
	page, err := h.deps.Operator.PreviewBulk(r.ctx, r.caller, r.tenant, id, r.query["cursor"],
		r.integer("limit", defaultLimit))
	return viewPage(page), err
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
