package web

import (
	"context"
	"encoding/hex"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/fault"
	"dialtone/internal/i18n"
	"dialtone/internal/operator"
)

// accountView is /admin/account.
type accountView struct {
	adminFrame
	User string
	// Closed is when the account that reserves the name was deleted. Then only Changes is set.
	Closed time.Time
	// Version is the account's version. A form changes the account only if it still has this
	// version.
	Version string

	UID, Name, Email string
	Role             account.Role
	Roles            []account.Role
	State            account.State
	// Since is when the account got its State, By and Why are by whom and why, if known. After a
	// deletion, By and Why refer to the deletion.
	Since time.Time
	By    listedActor
	Why   string
	// Until is when a waiting or leaving account is removed.
	Until       time.Time
	Created     time.Time
	Activated   time.Time
	Confirmed   time.Time
	FirstSignIn time.Time
	NotSignedIn bool
	Net         string
	// App means that it has an authenticator app. Codes is the number of recovery codes.
	App      bool
	Codes    int64
	Passkeys []string
	Messages []account.DataMessage
	Sessions []listedSession
	Lookups  []listedPhoneServer
	Changes  []listedChange
	// MoreChanges is the address of all changes.
	MoreChanges string
	// Own means that it is the viewer's own account.
	Own bool
	// Form is the action whose form has a problem, and Fields are its submitted values.
	Form   string
	Fields adminFields
	// Wrong is the name of the field of Form that is wrong, and Error the text next to it. Both may
	// be empty.
	Wrong, Error string
	// If the form was for an earlier version, ChangedBy is who changed the account last, at
	// ChangedAt.
	ChangedBy listedActor
	ChangedAt time.Time
	// ResetLink is a link for a new password, valid until LinkUntil. It is shown once.
	ResetLink string
	LinkUntil time.Time
}

// Value returns the submitted value of a field of an action's form, or the default other.
func (v accountView) Value(form, field, other string) string {
	if v.Form == form {
		return v.Fields[field]
	}
	return other
}

// accountForm is the form of an action.
type accountForm struct {
	Do string
	// Open means that the form is shown expanded, since it has a problem.
	Open bool
	// Input is the name of the form's additional field, or empty, and Value is its value.
	Input, Value string
	Reason       string
	// Reserve means that the name will be reserved too.
	Reserve bool
	// Wrong is the name of the field that is wrong, and Error the text about that.
	Wrong, Error string
	// Danger marks actions that cannot be undone.
	Danger bool
}

// Forms returns the forms of the actions that are possible in the account's state.
func (v accountView) Forms() (list []accountForm) {
	add := func(do, input, value string) {
		f := accountForm{Do: do, Input: input, Value: v.Value(do, input, value), Danger: do == "delete"}
		f.Open, f.Reason, f.Reserve = v.Form == do, v.Value(do, "reason", ""), v.Value(do, "reserve", "") != ""
		if f.Open {
			f.Wrong, f.Error = v.Wrong, v.Error
		}
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
	add(doData, "", "")
	add("delete", "confirm", "")
	if v.Form != "" && !slices.ContainsFunc(list, func(f accountForm) bool { return f.Do == v.Form }) {
		// The action is no longer possible, but the form keeps what was typed.
		add(v.Form, "", "")
	}
	return list
}

// accountDone lists the fragments of the address that confirm an action.
var accountDone = []string{
	"enabled", "activated", "disabled", "role-set", "email-set", "renamed", "resent", "mailed", "signed-out",
	"factors-removed", "deleted", "name-freed", "added",
}

func (s *Site) showAccount(w http.ResponseWriter, r *adminRequest) error {
	return s.writeAccount(w, r, adminQuery(r).Get("user"), func(*accountView) {})
}

// writeAccount writes the page of an account in its current state. change can adjust the view
// first.
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
		l := newListedChange(v.adminFrame, c)
		l.UserURL = "" // it is this page
		v.Changes = append(v.Changes, l)
	}
	v.MoreChanges = v.Link(adminChanges, "user", d.User)
	if d.Account == nil {
		if d.Closed != nil {
			v.Closed = d.Closed.Closed
		}
		if d.Deletion != nil {
			v.By, v.Why = newListedActor(d.Deletion.Actor), d.Deletion.Reason
		}
		return v
	}
	a := *d.Account
	version := a.Version()
	v.Version = hex.EncodeToString(version[:])
	v.UID, v.Name, v.Email, v.Role, v.Roles = a.UID.String(), a.Name, a.Email, a.Role, account.Roles
	v.State = a.State()
	since, by, why := a.Since()
	v.Since, v.Why = since, why
	if by != "" {
		v.By = newListedActor(audit.ParseActor(by))
	}
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
		v.Lookups = append(v.Lookups, listedPhoneServer{l.Server, l.At})
	}
	v.Own = r.caller.Others(a.User) != nil
	return v
}

// accountFields are the fields of the forms of /admin/account.
var accountFields = []string{
	"user", "uid", "version", "do", "reason", "role", "email", "name", "confirm", "reserve",
}

// accountAction changes an account. It returns the fragment that confirms the change.
type accountAction func(*Site, *adminRequest, adminFields) (done string, err error)

// accountActions maps values of the field do in the forms of /admin/account to changes. It does not
// contain the action for a reset link, which shows the link.
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
		done := "deleted"
		if f["reserve"] != "" { // first, so that nobody signs up with the name in between
			err := r.caller.Others(f["user"])
			if err == nil {
				err = s.deps.Operators.ReserveName(r.Context(), r.caller, r.tenant, f["user"], f["reason"])
			}
			if err != nil {
				return "", err
			}
			done = "reserved"
		}
		_, err := s.deps.Operators.Delete(r.Context(), r.caller, r.tenant, f["user"], f["reason"])
		return done, err
	},
	"free-name": func(s *Site, r *adminRequest, f adminFields) (string, error) {
		if f["confirm"] != f["user"] {
			return "", errNotTyped
		}
		return "name-freed", s.deps.Operators.FreeName(r.Context(), r.caller, r.tenant, f["user"], f["reason"])
	},
}

// errNotTyped means that the person did not type the name of the account to confirm its deletion.
var errNotTyped = fault.New(fault.Invalid, "type the user name to confirm")

const (
	doResetLink = "reset-link"
	doFreeName  = "free-name"
	doData      = "data"
)

// changeAccount carries out a form of /admin/account.
func (s *Site) changeAccount(w http.ResponseWriter, r *adminRequest, f adminFields) error {
	user, do := f["user"], f["do"]
	act := accountActions[do]
	if !account.WellFormedUser(user) || act == nil && do != doResetLink && do != doData {
		return fault.New(fault.Invalid, "the form is not one of this page; load the page again")
	}
	done, link, until := "", "", time.Time{}
	ctx, err := s.sameAccount(r, f)
	switch {
	case err != nil:
	case do == doResetLink:
		link, until, err = s.deps.Operators.ResetLink(ctx, r.caller, r.tenant, user, f["reason"], account.ResetLife)
	case do == doData:
		var file *account.DataFile
		if file, err = s.deps.Operators.Data(ctx, r.caller, r.tenant, user, f["reason"]); err == nil {
			s.writeDataFile(w, r.request, user, file)
			return nil
		}
	default:
		conditional := *r.request
		conditional.Request = r.WithContext(ctx)
		done, err = act(s, &adminRequest{request: &conditional, caller: r.caller, page: r.page, sent: r.sent}, f)
	}
	if errors.Is(err, operator.ErrSignInAgain) {
		return s.showAgain(w, r, f, "")
	}
	problem, ok := problemOf(err)
	switch {
	case err == nil && do == doResetLink:
		return s.writeAccount(w, r, user, func(v *accountView) { v.ResetLink, v.LinkUntil = link, until })
	case err == nil && (done == "deleted" || done == "reserved" || done == "name-freed"):
		// The name may be free now, and have no page.
		return s.toAdmin(w, r, adminAccounts, done)
	case err == nil:
		return s.toAdmin(w, r, adminAccount, done, "user", user)
	case !ok:
		return err
	}
	shown := s.writeAccount(w, r, user, func(v *accountView) {
		v.Problem, v.Form, v.Fields = problem, do, f
		v.Wrong, v.Error = fieldError(err)
		if v.Wrong != "" {
			v.Fixes = []adminField{{do + "-" + v.Wrong, fieldLabels[v.Wrong]}}
		}
		if problem != "changed" {
			return
		}
		for _, c := range v.Changes {
			if c.Action != string(audit.AccountView) {
				v.ChangedBy, v.ChangedAt = c.By, c.At
				break
			}
		}
	})
	if fault.Is(shown, fault.NotFound) { // it is gone
		v := s.newAccountsView(r, accountFilter{})
		v.Problem = "gone"
		return s.listAccounts(w, r, v, "")
	}
	return shown
}

// fieldLabels are the keys of the labels of fields.
var fieldLabels = map[string]string{
	"user": "form.user", "name": "account.name", "email": "account.email", "role": "admin.role", "lang": "admin.lang",
	"reason": "admin.reason", "confirm": "admin.bad.confirm",
}

// fieldError returns the name of the field that an error is about, and the key of the text next to
// it, or empty strings.
func fieldError(err error) (field, text string) {
	fe, _ := errors.AsType[*fault.Error](err)
	switch {
	case errors.Is(err, errNotTyped):
		return "confirm", "admin.bad.confirm"
	case errors.Is(err, account.ErrTaken):
		return "user", "signup.say.conflict"
	case fe == nil || fe.Kind != fault.Invalid:
		return "", ""
	}
	key := fe.Field + "_" + fe.Rule
	for _, prefix := range []string{"signup.say.", "form.say."} {
		if _, known := i18n.In(i18n.English).Find(prefix + key); !known {
			continue
		}
		switch {
		case fe.Field == "user", fe.Field == "email" && fe.Rule != "empty":
			return fe.Field, prefix + key
		}
	}
	switch fe.Field {
	case "name":
		if fe.Rule == "empty" {
			return fe.Field, "admin.bad.name_empty"
		}
		fallthrough
	case "user", "email", "reason", "role", "lang":
		return fe.Field, "admin.bad." + fe.Field
	}
	return "", ""
}

// sameAccount returns a context for changes of the account version that the form was created for:
// they fail with account.ErrChanged if the version is now different. sameAccount fails with
// fault.NotFound if the form was created for a previous account with that name.
func (s *Site) sameAccount(r *adminRequest, f adminFields) (context.Context, error) {
	ctx := r.Context()
	if f["do"] == doFreeName {
		return ctx, nil
	}
	a, err := s.deps.Accounts.Find(ctx, r.tenant.ID, f["user"])
	if err != nil {
		return ctx, err
	}
	if a.UID.String() != f["uid"] {
		return ctx, fault.New(fault.NotFound, "the account of this form no longer exists; load the page again")
	}
	if f["do"] == doData {
		return ctx, nil
	}
	b, err := hex.DecodeString(f["version"])
	if err != nil || len(b) != len(account.Version{}) {
		return ctx, account.ErrChanged
	}
	ctx = account.OnlyIf(ctx, account.Version(b))
	return ctx, account.CheckVersion(ctx, a)
}
