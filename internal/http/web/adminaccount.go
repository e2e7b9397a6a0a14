package web

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/fault"
	"dialtone/internal/operator"
)

// accountView is /admin/account.
type accountView struct {
	adminFrame
	User string
	// Closed is when the account was deleted that keeps the name. Then there is nothing else but Changes.
	Closed time.Time

	UID, Name, Email string
	Role             account.Role
	Roles            []account.Role
	State            account.State
	// Since is since when it is in State, By and Why are by whom and why, if that is known.
	Since   time.Time
	By, Why string
	// Until is when an account that is waiting or leaving ends.
	Until       time.Time
	Created     time.Time
	Activated   time.Time
	Confirmed   time.Time
	FirstSignIn time.Time
	NotSignedIn bool
	Net         string
	// App says that it has an authenticator app, Codes how many recovery codes it has.
	App      bool
	Codes    int64
	Passkeys []string
	Messages []account.DataMessage
	Sessions []listedSession
	Lookups  []askedServer
	Changes  []listedChange
	// MoreChanges is the address of all changes.
	MoreChanges string
	// Own says that it is the account of the person who looks.
	Own bool
	// Form is the action whose form has a problem, with the values that were sent.
	Form   string
	Fields adminFields
	// ResetLink is a link for a new password, until LinkUntil. It is shown once.
	ResetLink string
	LinkUntil time.Time
}

// Value returns what was sent in a field of an action's form, or a default.
func (v accountView) Value(form, field, other string) string {
	if v.Form == form {
		return v.Fields[field]
	}
	return other
}

// accountForm is the form of an action.
type accountForm struct {
	Do string
	// Open says that the form is shown at once, since it has a problem.
	Open bool
	// Input is the name of its further field, or empty, and Value is what that has.
	Input, Value string
	Reason       string
	// Danger marks what cannot be undone.
	Danger bool
}

// Forms returns the forms of the actions that make sense for the account as it is.
func (v accountView) Forms() (list []accountForm) {
	add := func(do, input, value string) {
		f := accountForm{Do: do, Input: input, Value: v.Value(do, input, value), Danger: do == "delete"}
		f.Open, f.Reason = v.Form == do, v.Value(do, "reason", "")
		list = append(list, f)
	}
	switch {
	case !v.Closed.IsZero():
		add(doFreeName, "confirm", "")
		return list
	case v.Own: // operator.ErrOwnAccount
		return nil
	}
	switch v.State {
	case account.Waiting:
		add("activate", "", "")
		add("resend", "email", v.Email)
	case account.Active:
		add("mail-link", "", "")
		add(doResetLink, "", "")
	default:
		add("enable", "", "")
		if v.Activated.IsZero() {
			add("activate", "", "")
		}
	}
	if v.State != account.Disabled {
		add("disable", "", "")
	}
	add("role", "role", string(v.Role))
	add("rename", "name", v.Name)
	if v.State != account.Waiting {
		add("email", "email", v.Email)
	}
	if v.State == account.Active {
		add("sign-out", "", "")
	}
	if v.App || len(v.Passkeys) > 0 {
		add("remove-factors", "", "")
	}
	add("delete", "confirm", "")
	return list
}

// accountDone are the actions that an address may say were done.
var accountDone = []string{
	"enabled", "activated", "disabled", "role-set", "email-set", "renamed", "resent", "mailed", "signed-out",
	"factors-removed", "deleted", "name-freed",
}

func (s *Site) showAccount(w http.ResponseWriter, r *adminRequest) error {
	return s.writeAccount(w, r, adminQuery(r).Get("user"), func(*accountView) {})
}

// writeAccount answers with the page of an account as it is now, after a change of the view.
func (s *Site) writeAccount(w http.ResponseWriter, r *adminRequest, user string, change func(*accountView)) error {
	if !account.WellFormedUser(user) {
		return errNoPage
	}
	d, err := s.deps.Operators.Show(r.Context(), r.caller, r.tenant, user)
	if err != nil {
		return err
	}
	v := s.newAccountView(r, d)
	change(&v)
	return s.adminShow(w, r, "admin-account", v.Problem, v)
}

func (s *Site) newAccountView(r *adminRequest, d operator.Detail) accountView {
	v := accountView{adminFrame: s.adminFrame(r, adminAccounts, accountDone...), User: d.User}
	if v.Again != "" {
		v.Again = v.Link(adminAgain, "next", v.Link(adminAccount, "user", d.User))
	}
	for _, c := range d.Changes {
		v.Changes = append(v.Changes, newListedChange(v.adminFrame, c))
	}
	v.MoreChanges = v.Link(adminChanges, "user", d.User)
	if d.Account == nil {
		if d.Closed != nil {
			v.Closed = d.Closed.Closed
		}
		return v
	}
	a := *d.Account
	v.UID, v.Name, v.Email, v.Role, v.Roles = a.UID.String(), a.Name, a.Email, a.Role, account.Roles
	v.State = a.State()
	v.Since, v.By, v.Why = a.Since()
	switch v.State {
	case account.Waiting:
		v.Until = a.Expires
	case account.Leaving:
		v.Until = a.Leaving
	}
	v.Created, v.Activated, v.Confirmed = a.Created, a.Activated, a.Confirmed
	v.FirstSignIn, v.NotSignedIn, v.Net = a.FirstSignIn, a.NotSignedIn, a.Net
	v.App, v.Codes = d.Factors.App != nil, d.Factors.RecoveryCodes
	for _, p := range d.Factors.Passkeys {
		v.Passkeys = append(v.Passkeys, p.Name)
	}
	v.Messages = d.Messages
	for _, x := range d.Sessions {
		browser, system, _ := strings.Cut(x.Browser, " on ")
		v.Sessions = append(v.Sessions, listedSession{
			Browser: browser, System: system, Net: x.Net, Began: x.Began, Seen: x.Seen, How: x.How,
		})
	}
	for _, l := range d.Lookups {
		v.Lookups = append(v.Lookups, askedServer{l.Server, l.At})
	}
	v.Own = r.caller.Others(a.User) != nil
	return v
}

// listedChange is a change of the audit trail in a list.
type listedChange struct {
	At            time.Time
	Action        string
	Failed        bool
	User, UserURL string
	Subject       string
	Before, After string
	Actor, Reason string
	Net, Request  string
}

func newListedChange(f adminFrame, c audit.Change) listedChange {
	l := listedChange{
		At: c.At, Action: string(c.Action), Failed: c.Outcome != audit.OK, User: c.User, Subject: c.Subject,
		Before: c.Before, After: c.After, Actor: c.Actor.String(), Reason: c.Reason, Net: c.Net, Request: c.Request,
	}
	if account.WellFormedUser(c.User) {
		l.UserURL = f.Link(adminAccount, "user", c.User)
	}
	return l
}

// accountFields are the fields of the forms of /admin/account.
var accountFields = []string{"user", "uid", "do", "reason", "role", "email", "name", "confirm"}

// accountAction makes a change of an account. It returns the fragment that says so.
type accountAction func(*Site, *adminRequest, adminFields) (done string, err error)

// accountActions are the changes by forms of /admin/account, by the value of the field do. That for a reset link is
// not among them: it shows the link.
var accountActions = map[string]accountAction{
	"enable": func(s *Site, r *adminRequest, f adminFields) (string, error) {
		_, err := s.deps.Operators.Enable(r.Context(), r.caller, r.tenant, f["user"], f["reason"], false)
		return "enabled", err
	},
	"activate": func(s *Site, r *adminRequest, f adminFields) (string, error) {
		_, err := s.deps.Operators.Enable(r.Context(), r.caller, r.tenant, f["user"], f["reason"], true)
		return "activated", err
	},
	"disable": func(s *Site, r *adminRequest, f adminFields) (string, error) {
		_, err := s.deps.Operators.Disable(r.Context(), r.caller, r.tenant, f["user"], f["reason"])
		return "disabled", err
	},
	"role": func(s *Site, r *adminRequest, f adminFields) (string, error) {
		role := account.Role(f["role"])
		if !slices.Contains(account.Roles, role) {
			return "", fault.Field("role", "choose one of the roles")
		}
		_, err := s.deps.Operators.SetRole(r.Context(), r.caller, r.tenant, f["user"], f["reason"], role)
		return "role-set", err
	},
	"email": func(s *Site, r *adminRequest, f adminFields) (string, error) {
		_, err := s.deps.Operators.SetEmail(r.Context(), r.caller, r.tenant, f["user"], f["reason"], f["email"])
		return "email-set", err
	},
	"rename": func(s *Site, r *adminRequest, f adminFields) (string, error) {
		_, err := s.deps.Operators.Rename(r.Context(), r.caller, r.tenant, f["user"], f["reason"], f["name"])
		return "renamed", err
	},
	"resend": func(s *Site, r *adminRequest, f adminFields) (string, error) {
		_, err := s.deps.Operators.Resend(r.Context(), r.caller, r.tenant, f["user"], f["reason"], f["email"])
		return "resent", err
	},
	"mail-link": func(s *Site, r *adminRequest, f adminFields) (string, error) {
		_, _, err := s.deps.Operators.MailResetLink(r.Context(), r.caller, r.tenant, f["user"], f["reason"])
		return "mailed", err
	},
	"sign-out": func(s *Site, r *adminRequest, f adminFields) (string, error) {
		_, err := s.deps.Operators.SignOut(r.Context(), r.caller, r.tenant, f["user"], f["reason"])
		return "signed-out", err
	},
	"remove-factors": func(s *Site, r *adminRequest, f adminFields) (string, error) {
		_, err := s.deps.Operators.RemoveFactors(r.Context(), r.caller, r.tenant, f["user"], f["reason"])
		return "factors-removed", err
	},
	"delete": func(s *Site, r *adminRequest, f adminFields) (string, error) {
		if f["confirm"] != f["user"] {
			return "", errNotTyped
		}
		_, err := s.deps.Operators.Delete(r.Context(), r.caller, r.tenant, f["user"], f["reason"])
		return "deleted", err
	},
	"free-name": func(s *Site, r *adminRequest, f adminFields) (string, error) {
		if f["confirm"] != f["user"] {
			return "", errNotTyped
		}
		return "name-freed", s.deps.Operators.FreeName(r.Context(), r.caller, r.tenant, f["user"], f["reason"])
	},
}

// errNotTyped means that the person did not type the name of the account that is to be deleted.
var errNotTyped = fault.New(fault.Invalid, "type the user name to confirm")

const (
	doResetLink = "reset-link"
	doFreeName  = "free-name"
	// resetLinkLife is how long a reset link works that an operator makes here.
	resetLinkLife = 24 * time.Hour
)

// changeAccount does what a form of /admin/account is for.
func (s *Site) changeAccount(w http.ResponseWriter, r *adminRequest, f adminFields) error {
	user, do := f["user"], f["do"]
	act := accountActions[do]
	if !account.WellFormedUser(user) || act == nil && do != doResetLink {
		return fault.New(fault.Invalid, "the form is not one of this page; load the page again")
	}
	done, link, until, err := "", "", time.Time{}, s.sameAccount(r, f)
	switch {
	case err != nil:
	case do == doResetLink:
		link, until, err = s.deps.Operators.ResetLink(r.Context(), r.caller, r.tenant, user, f["reason"], resetLinkLife)
	default:
		done, err = act(s, r, f)
	}
	if errors.Is(err, operator.ErrSignInAgain) {
		return s.showAgain(w, r, f, "")
	}
	problem, ok := problemOf(err)
	switch {
	case err == nil && do == doResetLink:
		return s.writeAccount(w, r, user, func(v *accountView) { v.ResetLink, v.LinkUntil = link, until })
	case err == nil && (done == "deleted" || done == "name-freed"):
		// The name may be free now, and have no page.
		return s.toAdmin(w, r, adminAccounts, done)
	case err == nil:
		return s.toAdmin(w, r, adminAccount, done, "user", user)
	case !ok:
		return err
	}
	shown := s.writeAccount(w, r, user, func(v *accountView) { v.Problem, v.Form, v.Fields = problem, do, f })
	if fault.Is(shown, fault.NotFound) { // it is gone
		v := s.newAccountsView(r, accountFilter{})
		v.Problem = "gone"
		return s.listAccounts(w, r, v, "")
	}
	return shown
}

// sameAccount fails with fault.NotFound if the form was made for an account that had the name before.
func (s *Site) sameAccount(r *adminRequest, f adminFields) error {
	if f["do"] == doFreeName {
		return nil
	}
	a, err := s.deps.Accounts.Find(r.Context(), r.tenant.ID, f["user"])
	if err == nil && a.UID.String() != f["uid"] {
		return fault.New(fault.NotFound, "the account of this form no longer exists; load the page again")
	}
	return err
}
