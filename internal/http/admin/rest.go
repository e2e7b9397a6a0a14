package admin

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"dialtone/internal/audit"
	"dialtone/internal/fault"
	"dialtone/internal/hook"
	"dialtone/internal/operator"
	"dialtone/internal/operator/opjson"
	"dialtone/internal/stats"
)

// ChangePage is a page of the audit trail.
type ChangePage struct {
	Items []opjson.Change `json:"items" doc:"May be empty though there is a next page."`
	Next  *string         `json:"next" doc:"The cursor of the next page, or null at the end."`
}

// linesType is JSON lines.
var linesType = []string{"application/jsonl; charset=utf-8"}

// wantsLines reports whether the answer has a JSON value on each line.
func (r *request) wantsLines() bool {
	return r.op != nil && r.op.lines && strings.HasPrefix(r.Header.Get("Accept"), "application/jsonl")
}

func (h *Handler) listChanges(r *request) (any, error) {
	f := audit.Filter{
		Since: r.time("since"), Before: r.time("before"), User: r.query["user"], Action: r.query["action"],
		Actor: r.query["actor"], Newest: r.query["newest"] == "true",
	}
	switch kinds := words[audit.ActorKind](r, "actor_kind"); len(kinds) {
	case 0:
	case 1:
		f.ActorKind = kinds[0]
	default:
		return nil, fault.Field("actor_kind", "use one kind")
	}
	if text, ok := r.query["net"]; ok {
		f.Net, _ = parseNetwork(text)
	}
	limit := r.integer("limit", defaultLimit)
	if !r.wantsLines() {
		p, err := h.deps.Operator.Changes(r.ctx, r.caller, r.tenant, f, r.query["cursor"], limit)
		return ChangePage{opjson.All(p.Changes, opjson.OfChange), textOrNil(p.Next)}, err
	}
	return h.changeLines(r, f)
}

// maxLines and maxExport bound an export, which is held in memory, and maxExports how many there are at the same time.
const (
	maxLines   = 100_000
	maxExport  = 64 << 20
	maxExports = 2
)

var (
	errManyLines = fault.New(fault.Invalid, "these are more than %d changes or %d MiB; use since and before to get "+
		"them in parts, or dialtone audit export", maxLines, maxExport>>20)
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
		if n++; n > maxLines || b.Len() > maxExport {
			return errManyLines
		}
		return out.Encode(opjson.OfChange(c))
	})
	if err != nil {
		return nil, err
	}
	return append([]byte{}, b.Bytes()...), nil
}

// Stats are counts of some days, and the present backlogs.
type Stats struct {
	Days   []Day        `json:"days" doc:"The oldest first. The last one is today, UTC."`
	Total  stats.Counts `json:"total"`
	Funnel Funnel       `json:"funnel"`
	Mail   MailBacklog  `json:"mail"`
	Hooks  []Hook       `json:"hooks"`
}

// Day are the counts of a day.
type Day struct {
	Day    string       `json:"day" doc:"A date, UTC."`
	Counts stats.Counts `json:"counts"`
}

// Funnel is how far people got.
type Funnel struct {
	Signups      int64 `json:"signups"`
	Activations  int64 `json:"activations"`
	FirstSignIns int64 `json:"first_signins"`
}

// MailBacklog counts messages, each up to 1001: more are not counted.
type MailBacklog struct {
	Waiting  int64      `json:"waiting"`
	Deferred int64      `json:"deferred"`
	Failed   int64      `json:"failed"`
	Oldest   *time.Time `json:"oldest" doc:"When the oldest that waits began to."`
}

// HookPage has all hooks.
type HookPage struct {
	Items []Hook  `json:"items"`
	Next  *string `json:"next" doc:"Always null at present."`
}

// Hook is a hook and its backlog.
type Hook struct {
	Name        string     `json:"name"`
	Kind        hook.Kind  `json:"kind"`
	Waiting     int64      `json:"waiting" doc:"Notifications that wait, up to 1001: more are not counted."`
	Oldest      *time.Time `json:"oldest"`
	LastFailure *time.Time `json:"last_failure"`
	LastError   string     `json:"last_error"`
	GivenUp     int64      `json:"given_up"`
}

func (h *Handler) stats(r *request, without int) (operator.Stats, error) {
	return h.deps.Operator.Stats(r.ctx, r.caller, r.tenant, r.integer("days", without))
}

func (h *Handler) getStats(r *request) (any, error) {
	s, err := h.stats(r, 30)
	if err != nil {
		return nil, err
	}
	v := Stats{Days: []Day{}, Total: s.Total, Funnel: Funnel(s.Funnel), Mail: viewMail(s.Mail),
		Hooks: viewHooks(s.Hooks)}
	for _, d := range s.Days {
		v.Days = append(v.Days, Day{d.Day.String(), d.Counts})
	}
	return v, nil
}

func viewMail(m operator.MailBacklog) MailBacklog {
	return MailBacklog{int64(m.Waiting), int64(m.Deferred), int64(m.Failed), opjson.TimeOrNil(m.Oldest)}
}

func viewHooks(list []operator.HookBacklog) []Hook {
	out := []Hook{}
	for _, k := range list {
		out = append(out, Hook{k.Name, k.Kind, int64(k.Waiting),
			opjson.TimeOrNil(k.Oldest), opjson.TimeOrNil(k.LastFailure),
			k.LastError, k.GivenUp})
	}
	return out
}

func (h *Handler) getMessages(r *request) (any, error) {
	s, err := h.stats(r, 1)
	return viewMail(s.Mail), err
}

func (h *Handler) listHooks(r *request) (any, error) {
	s, err := h.stats(r, 1)
	return HookPage{Items: viewHooks(s.Hooks)}, err
}

// Token is a token in an answer, without its secret.
type Token struct {
	ID      string           `json:"id"`
	Name    string           `json:"name"`
	Tenant  *string          `json:"tenant" doc:"The host of the only tenant at which it may act, or null for all."`
	Scopes  []operator.Scope `json:"scopes"`
	Created time.Time        `json:"created"`
	By      string           `json:"created_by"`
	Expires *time.Time       `json:"expires"`
	Used    *time.Time       `json:"used" doc:"When it was last used, up to a minute too early."`
}

// TokenPage is a page of tokens.
type TokenPage struct {
	Items []Token `json:"items"`
	Next  *string `json:"next" doc:"The cursor of the next page, or null at the end."`
}

// MadeToken is a new token.
type MadeToken struct {
	Token
	Secret string `json:"secret" doc:"The token itself. It cannot be shown again."`
}

// NewToken is the body of createToken.
type NewToken struct {
	Name    string           `json:"name"`
	Tenant  *string          `json:"tenant,omitempty" doc:"A host. Without it, the tenants of this token."`
	Scopes  []operator.Scope `json:"scopes"`
	Expires *time.Time       `json:"expires,omitempty" doc:"Without it, when this token does."`
}

func (h *Handler) viewToken(t operator.Token) Token {
	v := Token{
		ID: t.ID, Name: t.Name, Scopes: listOf(t.Scopes), Created: t.Made, By: t.MadeBy,
		Expires: opjson.TimeOrNil(t.Expires),
		Used:    opjson.TimeOrNil(t.Used),
	}
	if t.Tenant != 0 {
		host := ""
		if at, ok := h.deps.Tenants.ByID(t.Tenant); ok {
			host = at.Host
		}
		v.Tenant = &host
	}
	return v
}

func (h *Handler) listTokens(r *request) (any, error) {
	list, err := h.deps.Tokens.List(r.ctx, r.caller)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(list, func(a, b operator.Token) int { return strings.Compare(a.Name, b.Name) })
	list, next, err := page(r, list, func(t operator.Token) string { return t.Name })
	v := TokenPage{Items: []Token{}, Next: next}
	for _, t := range list {
		v.Items = append(v.Items, h.viewToken(t))
	}
	return v, err
}

func (h *Handler) createToken(r *request) (any, error) {
	b := r.body.(*NewToken)
	n := operator.NewToken{Name: b.Name, Tenant: r.caller.Tenant, Scopes: b.Scopes, Expires: r.token.Expires}
	if b.Tenant != nil {
		t, ok := h.deps.Tenants.Lookup(*b.Tenant)
		if !ok || r.caller.Tenant != 0 && r.caller.Tenant != t.ID {
			return nil, fault.Field("tenant", "there is no such tenant")
		}
		n.Tenant = t.ID
	}
	if b.Expires != nil {
		n.Expires = *b.Expires
	}
	t, secret, err := h.deps.Tokens.Add(r.ctx, r.caller, r.token.Expires, n)
	if err != nil {
		return nil, err
	}
	return MadeToken{h.viewToken(t), secret}, nil
}

func (h *Handler) deleteToken(r *request) (any, error) {
	return nil, h.deps.Tokens.Remove(r.ctx, r.caller, r.args["name"])
}
