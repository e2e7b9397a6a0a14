package admin

import (
	"bytes"
	"cmp"

	"dialtone/internal/account"
	"dialtone/internal/fault"
	"dialtone/internal/i18n"
	"dialtone/internal/operator"
	"dialtone/internal/operator/opjson"
)

// AccountPage is a page of accounts.
type AccountPage struct {
	Items []opjson.Account `json:"items" doc:"May be empty although there is a next page."`
	Next  *string          `json:"next" doc:"The cursor of the next page, or null at the end."`
}

// textOrNil returns nil for an empty text.
func textOrNil(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

// account returns the answer for an account, and sets its version as the ETag.
func (r *request) account(a account.Account, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	r.setTag(a.Version())
	return opjson.OfAccount(a), nil
}

func (h *Handler) listAccounts(r *request) (any, error) {
	f := operator.AccountFilter{
		States: words[account.State](r, "state"), Roles: words[account.Role](r, "role"), Text: r.query["text"],
		Network: r.query["net"], Since: r.query["since"], Before: r.query["before"],
	}
	if text, ok := r.query["confirmed"]; ok {
		confirmed := text == "true"
		f.Confirmed = &confirmed
	}
	q, err := f.Query(h.deps.Now())
	if err != nil {
		return nil, err
	}
	page, err := h.deps.Operator.List(r.ctx, r.caller, r.tenant, q, r.query["cursor"],
		r.integer("limit", defaultLimit))
	return viewPage(page), err
}

func viewPage(p account.Page) AccountPage {
	return AccountPage{Items: opjson.All(p.Accounts, opjson.OfAccount), Next: textOrNil(p.Next)}
}

func (h *Handler) getAccount(r *request) (any, error) {
	d, err := h.deps.Operator.Show(r.ctx, r.caller, r.tenant, r.args["user"])
	if err != nil {
		return nil, err
	}
	if d.Account != nil {
		r.setTag(d.Account.Version())
	}
	return opjson.OfDetail(d), nil
}

func (h *Handler) getAccountData(r *request) (any, error) {
	d, err := h.deps.Operator.Data(r.ctx, r.caller, r.tenant, r.args["user"], r.reason)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer // bounded, since there are at most account.MaxDataChanges changes
	err = d.Write(r.ctx, &b)
	return b.Bytes(), err
}

// NamePage is a page of names.
type NamePage struct {
	Items []opjson.ClosedName `json:"items"`
	Next  *string             `json:"next" doc:"The cursor of the next page, or null at the end."`
}

func (h *Handler) listNames(r *request) (any, error) {
	after, err := r.cursor()
	if err != nil {
		return nil, err
	}
	limit := r.integer("limit", defaultLimit)
	list, err := h.deps.Operator.ClosedNames(r.ctx, r.caller, r.tenant, after, limit)
	v := NamePage{Items: opjson.All(list, opjson.OfClosedName)}
	if len(list) == limit {
		v.Next = cursorAfter(list[limit-1].User)
	}
	return v, err
}

func (h *Handler) freeName(r *request) (any, error) {
	return nil, h.deps.Operator.FreeName(r.ctx, r.caller, r.tenant, r.args["user"], r.reason)
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
	return r.account(a, err)
}

// AccountPatch is the body of updateAccount.
type AccountPatch struct {
	Role   *account.Role `json:"role,omitempty"`
	Name   *string       `json:"name,omitempty" doc:"The display name."`
	Email  *string       `json:"email,omitempty" doc:"The address. Invalidates all links and sessions."`
	Reason string        `json:"reason,omitempty" doc:"Why, for the audit trail."`
}

var errOneMember = fault.New(fault.Invalid, "send one of the members role, name and email: each change of an account "+
	"has its own entry in the audit trail")

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

func (h *Handler) mailResetLink(r *request) (any, error) {
	a, until, err := h.deps.Operator.MailResetLink(r.ctx, r.caller, r.tenant, r.args["user"], r.reason)
	return opjson.ResetLink{User: a.User, To: &a.Email, Until: until}, err
}

// ResetLinkBody is the body of createResetLink.
type ResetLinkBody struct {
	Valid  string `json:"valid,omitempty" doc:"How long the link works, such as 30m, 12h or 7d. Without it, 1h."`
	Reason string `json:"reason,omitempty" doc:"Why, for the audit trail."`
}

func (h *Handler) createResetLink(r *request) (any, error) {
	life, err := operator.ParsePeriod("valid", r.body.(*ResetLinkBody).Valid)
	if err != nil {
		return nil, err
	}
	user := r.args["user"]
	link, until, err := h.deps.Operator.ResetLink(r.ctx, r.caller, r.tenant, user, r.reason,
		cmp.Or(life, account.ResetLife))
	return opjson.ResetLink{User: user, Link: &link, Until: until}, err
}
