package admin

import (
	"time"

	"dialtone/internal/account"
	"dialtone/internal/fault"
	"dialtone/internal/i18n"
	"dialtone/internal/operator/opjson"
)

// AccountPage is a page of accounts.
type AccountPage struct {
	Items []opjson.Account `json:"items" doc:"May be empty though there is a next page."`
	Next  *string          `json:"next" doc:"The cursor of the next page, or null at the end."`
}

// AccountDetail is all that operators see of one user name.
type AccountDetail struct {
	User     string           `json:"user"`
	State    account.State    `json:"state"`
	Closed   *time.Time       `json:"closed" doc:"When it was deleted. Then account is null, and the name taken."`
	Account  *opjson.Account  `json:"account"`
	Sessions []opjson.Session `json:"sessions"`
	Factors  opjson.Factors   `json:"factors"`
	Lookups  []opjson.Lookup  `json:"lookups" doc:"When phone servers last asked for the account."`
	Messages []opjson.Message `json:"messages" doc:"The newest 50 messages, newest first."`
	Changes  []opjson.Change  `json:"changes" doc:"The newest 50 changes in the audit trail, newest first."`
}

// textOrNil returns nil for an empty text.
func textOrNil(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

// account returns the answer with an account, whose version is the ETag.
func (r *request) account(a account.Account, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	r.setTag(a.Version())
	return opjson.OfAccount(a), nil
}

func (h *Handler) listAccounts(r *request) (any, error) {
	q := account.Query{
		States: words[account.State](r, "state"), Roles: words[account.Role](r, "role"), Text: r.query["text"],
		Since: r.time("since"), Before: r.time("before"),
	}
	if text, ok := r.query["net"]; ok {
		q.Net, _ = parseNetwork(text)
		if q.Net.Addr().Is4() && q.Net.Bits() > 24 || q.Net.Addr().Is6() && q.Net.Bits() > 48 {
			return nil, fault.Field("net", "the store has the networks of signups only: "+
				"use at most 24 bits for IPv4 and 48 for IPv6")
		}
	}
	if text, ok := r.query["confirmed"]; ok {
		confirmed := text == "true"
		q.Confirmed = &confirmed
	}
	page, err := h.deps.Operator.List(r.ctx, r.caller, r.tenant, q, r.query["cursor"],
		r.integer("limit", defaultLimit))
	if err != nil {
		return nil, err
	}
	v := AccountPage{Items: opjson.All(page.Accounts, opjson.OfAccount), Next: textOrNil(page.Next)}
	return v, nil
}

func (h *Handler) getAccount(r *request) (any, error) {
	d, err := h.deps.Operator.Show(r.ctx, r.caller, r.tenant, r.args["user"])
	if err != nil {
		return nil, err
	}
	v := AccountDetail{
		User: d.User, State: account.Closed,
		Sessions: opjson.All(d.Sessions, opjson.OfSession), Factors: opjson.OfFactors(d.Factors),
		Lookups: opjson.All(d.Lookups, opjson.OfLookup), Messages: opjson.All(d.Messages, opjson.OfMessage),
		Changes: opjson.All(d.Changes, opjson.OfChange),
	}
	if d.Closed != nil {
		v.Closed = &d.Closed.Closed
	}
	if d.Account != nil {
		a := opjson.OfAccount(*d.Account)
		v.Account, v.State = &a, a.State
		r.setTag(d.Account.Version())
	}
	return v, nil
}

// NewAccount is the body of createAccount.
type NewAccount struct {
	User      string       `json:"user"`
	Name      string       `json:"name" doc:"The display name."`
	Email     string       `json:"email"`
	Role      account.Role `json:"role,omitempty" doc:"Without it, guest."`
	Lang      i18n.Tag     `json:"lang,omitempty" doc:"The language of messages. Without it, en."`
	HA1       string       `json:"ha1,omitempty" doc:"MD5(user:realm:password) in hex. Without it, a message is sent."`
	HA1SHA256 *string      `json:"ha1_sha256,omitempty" doc:"SHA-256(user:realm:password) in hex."`
	Active    bool         `json:"active,omitempty" doc:"Activate the account at once, without a message."`
	Reserved  bool         `json:"reserved,omitempty" doc:"Permit a reserved user name."`
	Reason    string       `json:"reason,omitempty" doc:"Why, for the audit trail."`
}

func (h *Handler) createAccount(r *request) (any, error) {
	b := r.body.(*NewAccount)
	a, err := h.deps.Operator.Add(r.ctx, r.caller, r.tenant, account.NewAccount{
		User: b.User, Name: b.Name, Email: b.Email, Role: b.Role, Lang: b.Lang, HA1: b.HA1, HA1SHA256: b.HA1SHA256,
		Active: b.Active, Reserved: b.Reserved,
	}, r.reason)
	return opjson.OfAccount(a), err
}

// AccountPatch is the body of updateAccount.
type AccountPatch struct {
	Role   *account.Role `json:"role,omitempty"`
	Name   *string       `json:"name,omitempty" doc:"The display name."`
	Email  *string       `json:"email,omitempty" doc:"The address. All links and sessions of the account end."`
	Reason string        `json:"reason,omitempty" doc:"Why, for the audit trail."`
}

var errOneMember = fault.New(fault.Invalid, "send one of the members role, name and email: each change of an account "+
	"is one of its own in the audit trail")

func (h *Handler) updateAccount(r *request) (any, error) {
	b := r.body.(*AccountPatch)
	n := 0
	for _, sent := range []bool{b.Role != nil, b.Name != nil, b.Email != nil} {
		if sent {
			n++
		}
	}
	s, user := h.deps.Operator, r.args["user"]
	switch {
	case n != 1:
		return nil, errOneMember
	case b.Role != nil:
		return r.account(s.SetRole(r.ctx, r.caller, r.tenant, user, r.reason, *b.Role))
	case b.Name != nil:
		return r.account(s.Rename(r.ctx, r.caller, r.tenant, user, r.reason, *b.Name))
	default:
		return r.account(s.SetEmail(r.ctx, r.caller, r.tenant, user, r.reason, *b.Email))
	}
}

func (h *Handler) deleteAccount(r *request) (any, error) {
	_, err := h.deps.Operator.Delete(r.ctx, r.caller, r.tenant, r.args["user"], r.reason)
	return nil, err
}

// EnableBody is the body of enableAccount.
type EnableBody struct {
	Activate bool   `json:"activate,omitempty" doc:"Also activate an account that was never active."`
	Reason   string `json:"reason,omitempty" doc:"Why, for the audit trail and the account's state."`
}

func (h *Handler) enableAccount(r *request) (account.Account, error) {
	return h.deps.Operator.Enable(r.ctx, r.caller, r.tenant, r.args["user"], r.reason, r.body.(*EnableBody).Activate)
}

func (h *Handler) disableAccount(r *request) (account.Account, error) {
	return h.deps.Operator.Disable(r.ctx, r.caller, r.tenant, r.args["user"], r.reason)
}

func (h *Handler) signOutAccount(r *request) (account.Account, error) {
	return h.deps.Operator.SignOut(r.ctx, r.caller, r.tenant, r.args["user"], r.reason)
}

func (h *Handler) removeFactors(r *request) (account.Account, error) {
	return h.deps.Operator.RemoveFactors(r.ctx, r.caller, r.tenant, r.args["user"], r.reason)
}

// ResendBody is the body of resendAccount.
type ResendBody struct {
	Email  string `json:"email,omitempty" doc:"The corrected address."`
	Reason string `json:"reason,omitempty" doc:"Why, for the audit trail."`
}

func (h *Handler) resendAccount(r *request) (account.Account, error) {
	return h.deps.Operator.Resend(r.ctx, r.caller, r.tenant, r.args["user"], r.reason, r.body.(*ResendBody).Email)
}

// MailedLink says until when a link works that was sent in a message.
type MailedLink struct {
	Expires time.Time `json:"expires"`
}

func (h *Handler) mailResetLink(r *request) (any, error) {
	_, until, err := h.deps.Operator.MailResetLink(r.ctx, r.caller, r.tenant, r.args["user"], r.reason)
	return MailedLink{until}, err
}

// ResetLink is a link to choose a new password.
type ResetLink struct {
	Link    string    `json:"link"`
	Expires time.Time `json:"expires"`
}

func (h *Handler) createResetLink(r *request) (any, error) {
	link, until, err := h.deps.Operator.ResetLink(r.ctx, r.caller, r.tenant, r.args["user"], r.reason,
		resetLinkLife)
	return ResetLink{link, until}, err
}

// resetLinkLife is how long a link works that createResetLink makes.
const resetLinkLife = 24 * time.Hour
