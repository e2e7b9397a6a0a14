package admin

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"dialtone/internal/audit"
	"dialtone/internal/delivery"
	"dialtone/internal/fault"
	"dialtone/internal/mailmsg"
	"dialtone/internal/operator"
	"dialtone/internal/operator/opjson"
	"dialtone/internal/tenant"
)

// ChangePage is a page of the audit trail.
type ChangePage struct {
	Items []opjson.Change `json:"items" doc:"May be empty although there is a next page."`
	Next  *string         `json:"next" doc:"The cursor of the next page, or null at the end."`
}

// linesType is the media type of JSON lines.
var linesType = []string{"application/jsonl; charset=utf-8"}

// wantsLines reports whether the client asks for JSON lines.
func (r *request) wantsLines() bool {
	return r.op != nil && r.op.lines && strings.HasPrefix(r.Header.Get("Accept"), "application/jsonl")
}

func (h *Handler) listChanges(r *request) (any, error) {
	f := audit.Filter{
		User: r.query["user"], Action: r.query["action"], Actor: r.query["actor"], Newest: r.query["newest"] == "true",
	}
	now := h.deps.Now()
	err := audit.CheckAction("action", f.Action)
	if err != nil {
		return nil, err
	}
	if f.Since, err = operator.ParseTime("since", r.query["since"], now); err != nil {
		return nil, err
	}
	if f.Before, err = operator.ParseTime("before", r.query["before"], now); err != nil {
		return nil, err
	}
	if f.Net, err = operator.ParseNetwork("net", r.query["net"]); err != nil {
		return nil, err
	}
	switch kinds := words[audit.ActorKind](r, "actor_kind"); len(kinds) {
	case 0:
	case 1:
		f.ActorKind = kinds[0]
	default:
		return nil, fault.Field("actor_kind", "use one kind")
	}
	limit := r.integer("limit", defaultLimit)
	if !r.wantsLines() {
		p, err := h.deps.Operator.Changes(r.ctx, r.caller, r.tenant, f, r.query["cursor"], limit)
		return ChangePage{opjson.All(p.Changes, opjson.OfChange), textOrNil(p.Next)}, err
	}
	return h.changeLines(r, f)
}

// exportLimits bound an export, which is held in memory.
type exportLimits struct{ lines, bytes int }

var defaultExport = exportLimits{100_000, 64 << 20}

// maxExports is how many exports may run at the same time.
const maxExports = 2

var (
	errManyLines = fault.New(fault.Invalid, "these are more than %d changes or %d MiB; use since and before to get "+
		"them in parts, or dialtone audit export", defaultExport.lines, defaultExport.bytes>>20)
	errManyExports = fault.Limit(time.Second, "%d other exports are being made; ask again shortly", maxExports)
)

// changeLines returns all changes that a filter selects, one on each line.
func (h *Handler) changeLines(r *request, f audit.Filter) (any, error) {
	if r.query["cursor"] != "" || r.query["limit"] != "" {
		return nil, fault.New(fault.Invalid, "as application/jsonl the list is complete, so it takes no cursor and "+
			"no limit")
	}
	select {
	case h.exports <- struct{}{}:
		defer func() { <-h.exports }()
	default:
		return nil, errManyExports
	}
	var b bytes.Buffer
	out, n := json.NewEncoder(&b), 0
	err := h.deps.Operator.ExportChanges(r.ctx, r.caller, r.tenant, f, "", func(c audit.Change) error {
		if n++; n > h.export.lines || b.Len() > h.export.bytes {
			return errManyLines
		}
		return out.Encode(opjson.OfChange(c))
	})
	if err != nil {
		return nil, err
	}
	return append([]byte{}, b.Bytes()...), nil
}

// HookPage is the list of all hooks.
type HookPage struct {
	Items []opjson.Hook `json:"items"`
	Next  *string       `json:"next" doc:"Currently always null."`
}

func (h *Handler) stats(r *request, without int) (operator.Stats, error) {
	return h.deps.Operator.Stats(r.ctx, r.caller, r.tenant, r.integer("days", without))
}

func (h *Handler) getStats(r *request) (any, error) {
	s, err := h.stats(r, 30)
	if err != nil {
		return nil, err
	}
	signups, err := h.deps.Operator.SignupsOf(r.ctx, r.caller, r.tenant)
	return opjson.OfStats(r.tenant, s, signups), err
}

func (h *Handler) listHooks(r *request) (any, error) {
	s, err := h.stats(r, 1)
	return HookPage{Items: opjson.All(s.Hooks, opjson.OfHook)}, err
}

// MessagePage is the list of unsent messages.
type MessagePage struct {
	Items []opjson.Delivery `json:"items"`
	Next  *string           `json:"next" doc:"Currently always null."`
}

func (h *Handler) listMessages(r *request) (any, error) {
	list, err := h.deps.Operator.Unsent(r.ctx, r.caller, r.tenant, maxLimit)
	return MessagePage{Items: opjson.All(list, r.message)}, err
}

func (r *request) message(d delivery.Delivery) opjson.Delivery {
	return opjson.OfDelivery(d, r.tenant.Host)
}

// messageAction returns the handler of an action on a message. It answers with the resulting state
// of the message.
func messageAction(do func(context.Context, operator.Caller, *tenant.Tenant, mailmsg.ID, string) (delivery.Delivery,
	error)) func(*request) (any, error) {
	return func(r *request) (any, error) {
		b, err := hex.DecodeString(r.args["id"])
		if err != nil || len(b) != len(mailmsg.ID{}) {
			return nil, fault.New(fault.NotFound, "there is no such message")
		}
		d, err := do(r.ctx, r.caller, r.tenant, mailmsg.ID(b), r.reason)
		return r.message(d), err
	}
}

// TokenPage is a page of tokens.
type TokenPage struct {
	Items []opjson.Token `json:"items"`
	Next  *string        `json:"next" doc:"The cursor of the next page, or null at the end."`
}

// NewToken is the body of createToken.
type NewToken struct {
	Name    string           `json:"name"`
	Tenant  *string          `json:"tenant,omitempty" doc:"A host. Without it, the tenants of this token."`
	Scopes  []operator.Scope `json:"scopes"`
	Expires string           `json:"expires,omitempty" doc:"A time, or a duration such as 90d. Without it, as yours."`
	Reason  string           `json:"reason,omitempty" doc:"Why, for the audit trail."`
}

func (h *Handler) viewToken(t operator.Token) opjson.Token {
	return opjson.OfToken(t, h.deps.Now(), func(id int64) string {
		if at, ok := h.deps.Tenants.ByID(id); ok {
			return at.Host
		}
		return ""
	})
}

func (h *Handler) listTokens(r *request) (any, error) {
	list, err := h.deps.Tokens.List(r.ctx, r.caller)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(list, func(a, b operator.Token) int { return strings.Compare(a.Name, b.Name) })
	list, next, err := page(r, list, func(t operator.Token) string { return t.Name })
	v := TokenPage{Items: []opjson.Token{}, Next: next}
	for _, t := range list {
		v.Items = append(v.Items, h.viewToken(t))
	}
	return v, err
}

func (h *Handler) createToken(r *request) (any, error) {
	b := r.body.(*NewToken)
	n := operator.NewToken{Name: b.Name, Tenant: r.caller.Tenant, Scopes: b.Scopes, Expires: r.token.Expires,
		Reason: b.Reason}
	if b.Tenant != nil {
		t, ok := h.deps.Tenants.Lookup(*b.Tenant)
		if !ok || r.caller.Tenant != 0 && r.caller.Tenant != t.ID {
			return nil, fault.Field("tenant", "there is no such tenant")
		}
		n.Tenant = t.ID
	}
	if b.Expires != "" {
		var err error
		if n.Expires, err = operator.ParseEnd("expires", b.Expires, h.deps.Now()); err != nil {
			return nil, err
		}
	}
	t, secret, err := h.deps.Tokens.Add(r.ctx, r.caller, r.token.Expires, n)
	if err != nil {
		return nil, err
	}
	return opjson.MadeToken{Token: h.viewToken(t), Secret: secret}, nil
}

func (h *Handler) deleteToken(r *request) (any, error) {
	return nil, h.deps.Tokens.Remove(r.ctx, r.caller, r.args["name"], r.reason)
}
