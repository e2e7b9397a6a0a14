package operator_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/fault"
	"dialtone/internal/operator"
	"dialtone/internal/operator/opjson"
	"dialtone/internal/tenant"
	"dialtone/internal/test/world"
)

// newService returns a world with two tenants, and the service for its operators.
func newService(t *testing.T) (*world.World, *operator.Service) {
	t.Helper()
	w := world.New(t, world.Options{Tenants: []tenant.Tenant{{Host: "phone.test"}, {Host: "other.test"}}})
	return w, operator.NewService(operator.Deps{Accounts: w.Accounts, Store: w.Store, Now: w.Now})
}

var root = operator.Caller{Actor: audit.Actor{Kind: audit.Command, Name: "op"}, Scopes: operator.Scopes}

// changes returns the actions in a user's trail with their reasons, oldest first.
func changes(w *world.World, user string) (list []string) {
	w.Helper()
	w.Must(w.Store.Changes(w.Context(), audit.Filter{User: user}, func(c audit.Change) error {
		list = append(list, strings.TrimSpace(string(c.Action)+" "+c.Reason))
		return nil
	}))
	return list
}

// TestPermissions calls each method with and without the required scope, at the caller's own
// tenant and at another one.
func TestPermissions(t *testing.T) {
	w, s := newService(t)
	w.Member("ann")
	own, other := w.Tenant, w.At("other.test").Tenant
	ctx := w.Context()
	note := "note"
	for name, c := range map[string]struct {
		scope operator.Scope
		do    func(operator.Caller, *tenant.Tenant) error
	}{
		"Show": {operator.AccountsRead, func(c operator.Caller, t *tenant.Tenant) error {
			_, err := s.Show(ctx, c, t, "ann")
			return err
		}},
		"Add": {operator.AccountsWrite, func(c operator.Caller, t *tenant.Tenant) error {
			_, err := s.Add(ctx, c, t, account.NewAccount{User: "ben", Name: "Ben", Email: "ben@mail.test"}, "")
			return err
		}},
		"Resend": {operator.AccountsWrite, func(c operator.Caller, t *tenant.Tenant) error {
			_, err := s.Resend(ctx, c, t, "nobody", "", "")
			return err
		}},
		"SetEmail": {operator.AccountsWrite, func(c operator.Caller, t *tenant.Tenant) error {
			_, err := s.SetEmail(ctx, c, t, "nobody", "", "a@mail.test")
			return err
		}},
		"Rename": {operator.AccountsWrite, func(c operator.Caller, t *tenant.Tenant) error {
			_, err := s.Rename(ctx, c, t, "nobody", "", "Name")
			return err
		}},
		"ResetLink": {operator.AccountsWrite, func(c operator.Caller, t *tenant.Tenant) error {
			_, _, err := s.ResetLink(ctx, c, t, "nobody", "", time.Hour)
			return err
		}},
		"MailResetLink": {operator.AccountsWrite, func(c operator.Caller, t *tenant.Tenant) error {
			_, _, err := s.MailResetLink(ctx, c, t, "nobody", "")
			return err
		}},
		"SignOut": {operator.AccountsWrite, func(c operator.Caller, t *tenant.Tenant) error {
			_, err := s.SignOut(ctx, c, t, "nobody", "")
			return err
		}},
		"RemoveFactors": {operator.AccountsWrite, func(c operator.Caller, t *tenant.Tenant) error {
			_, err := s.RemoveFactors(ctx, c, t, "nobody", "")
			return err
		}},
		"FreeName": {operator.AccountsWrite, func(c operator.Caller, t *tenant.Tenant) error {
			return s.FreeName(ctx, c, t, "nobody", "")
		}},
		"Signups": {operator.TenantRead, func(c operator.Caller, t *tenant.Tenant) error {
			_, err := s.Signups(ctx, c, t)
			return err
		}},
		"SetSignups": {operator.TenantWrite, func(c operator.Caller, t *tenant.Tenant) error {
			_, err := s.SetSignups(ctx, c, t, tenant.SignupsClosed, &note, "")
			return err
		}},
	} {
		var others []operator.Scope
		for _, scope := range operator.Scopes {
			if scope != c.scope {
				others = append(others, scope)
			}
		}
		caller := operator.Caller{Actor: root.Actor, Tenant: own.ID, Scopes: []operator.Scope{c.scope}}
		if err := c.do(caller, own); fault.Is(err, fault.Forbidden) {
			t.Errorf("%s is refused: %v", name, err)
		}
		if err := c.do(caller, other); !fault.Is(err, fault.Forbidden) {
			t.Errorf("%s at another tenant: %v", name, err)
		}
		caller.Scopes = others
		if err := c.do(caller, own); !fault.Is(err, fault.Forbidden) {
			t.Errorf("%s without its scope: %v", name, err)
		}
	}
	w.Must(s.Flush())
	caller := operator.Caller{Tenant: own.ID, Scopes: operator.Scopes}
	if _, err := s.SetFreeze(ctx, caller, &tenant.Freeze{}, ""); !fault.Is(err, fault.Forbidden) {
		t.Errorf("a caller of one tenant freezes all: %v", err)
	}
	if _, err := s.Signups(ctx, caller, nil); !fault.Is(err, fault.Forbidden) {
		t.Errorf("a caller of one tenant reads the settings of all: %v", err)
	}
}

func TestShow(t *testing.T) {
	w, s := newService(t)
	w.Member("ann")
	w.Member("ben")
	_, err := s.SetRole(w.Context(), root, w.Tenant, "ann", "asked", account.User)
	w.Must(err)
	other := root
	other.Actor.Name = "other"
	for _, c := range []operator.Caller{root, root, other} {
		d, err := s.Show(w.Context(), c, w.Tenant, "ann")
		w.Must(err)
		w.Must(s.Flush())
		if d.Account == nil || d.Account.User != "ann" || d.Closed != nil || len(d.Messages) != 1 ||
			d.Changes[len(d.Changes)-1].Action != audit.AccountRole {
			t.Errorf("got %+v", d)
		}
	}
	w.Advance(time.Hour)
	// Another server does not know which views are in the trail.
	for range 2 {
		s = operator.NewService(operator.Deps{Accounts: w.Accounts, Store: w.Store, Now: w.Now})
		_, err = s.Show(w.Context(), root, w.Tenant, "ann")
		w.Must(err)
		w.Must(s.Flush())
	}
	want := []string{"account.role asked", "account.view", "account.view", "account.view"}
	if got := changes(w, "ann"); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	_, err = s.Delete(w.Context(), root, w.Tenant, "ben", "asked")
	w.Must(err)
	d, err := s.Show(w.Context(), root, w.Tenant, "ben")
	if err != nil || d.Account != nil || d.Closed == nil || d.Closed.User != "ben" || len(d.Changes) != 1 {
		t.Errorf("got %+v, %v", d, err)
	}
	_, err = s.Show(w.Context(), root, w.Tenant, "nobody")
	if !fault.Is(err, fault.NotFound) {
		t.Errorf("got %v", err)
	}
}

// brokenTrail is a store that fails to add views.
type brokenTrail struct{ operator.Store }

func (brokenTrail) AddView(context.Context, audit.Change, time.Time) error {
	return context.DeadlineExceeded
}

// If a view could not be added to the trail, the next view by the same caller is added.
func TestShowWithoutTrail(t *testing.T) {
	w, _ := newService(t)
	w.Member("ann")
	store := &switched{Store: w.Store, to: brokenTrail{w.Store}}
	s := operator.NewService(operator.Deps{Accounts: w.Accounts, Store: store, Now: w.Now})
	_, err := s.Show(w.Context(), root, w.Tenant, "ann")
	w.Must(err)
	if err := s.Flush(); err == nil {
		t.Error("the failure is lost")
	}
	store.to = w.Store
	_, err = s.Show(w.Context(), root, w.Tenant, "ann")
	w.Must(err)
	w.Must(s.Flush())
	if got := changes(w, "ann"); !slices.Equal(got, []string{"account.view"}) {
		t.Errorf("got %q", got)
	}
}

// switched is a store that adds views to another store.
type switched struct {
	operator.Store
	to operator.Store
}

func (s *switched) AddView(ctx context.Context, c audit.Change, since time.Time) error {
	return s.to.AddView(ctx, c, since)
}

func TestResetLinks(t *testing.T) {
	w, s := newService(t)
	w.Member("ann")
	w.Join("ben")
	w.Member("cid")
	w.Disable("cid")
	for _, user := range []string{"ben", "cid"} {
		_, _, err := s.ResetLink(w.Context(), root, w.Tenant, user, "", time.Hour)
		if !fault.Is(err, fault.Conflict) {
			t.Errorf("%s: %v", user, err)
		}
		_, _, err = s.MailResetLink(w.Context(), root, w.Tenant, user, "")
		if !fault.Is(err, fault.Conflict) {
			t.Errorf("%s: %v", user, err)
		}
	}
	for _, life := range []time.Duration{0, account.MaxResetLife + 1} {
		if _, _, err := s.ResetLink(w.Context(), root, w.Tenant, "ann", "", life); !fault.Is(err, fault.Invalid) {
			t.Errorf("%v: %v", life, err)
		}
	}
	link, until, err := s.ResetLink(w.Context(), root, w.Tenant, "ann", "asked", 2*time.Hour)
	if err != nil || !strings.HasPrefix(link, w.Tenant.PublicURL+"/reset.html?token=") ||
		!until.Equal(w.Now().Add(2*time.Hour)) {
		t.Errorf("got a link until %v, %v", until, err)
	}
	if got := changes(w, "ann"); !slices.Equal(got, []string{"password.link asked"}) {
		t.Errorf("got %q", got)
	}
}

func TestSignups(t *testing.T) {
	w, s := newService(t)
	ctx := w.Context()
	want := func(mode tenant.Signups, note string, frozen bool) {
		t.Helper()
		w.Must(w.Tenants.Refresh(ctx))
		tn, _ := w.Tenants.ByID(w.Tenant.ID)
		got, err := s.Signups(ctx, root, tn)
		if err != nil || got.Mode != mode || got.Note != note || (got.Freeze != nil) != frozen {
			t.Errorf("got %+v, %v", got, err)
		}
	}
	want(tenant.SignupsOpen, "", false)
	note := " Back on Monday.\r\n"
	_, err := s.SetSignups(ctx, root, w.Tenant, tenant.SignupsClosed, &note, "flood")
	w.Must(err)
	want(tenant.SignupsClosed, "Back on Monday.", false)
	_, err = s.SetFreeze(ctx, root, &tenant.Freeze{Note: "All."}, "flood")
	w.Must(err)
	want(tenant.SignupsClosed, "Back on Monday.", true)
	_, err = s.SetFreeze(ctx, root, nil, "over")
	w.Must(err)
	_, err = s.SetSignups(ctx, root, w.Tenant, tenant.SignupsOpen, nil, "over")
	w.Must(err)
	want(tenant.SignupsOpen, "", false) // the old note is gone
	for _, bad := range []string{strings.Repeat("é", 301), "\x07"} {
		if _, err := s.SetSignups(ctx, root, w.Tenant, tenant.SignupsClosed, &bad, ""); !fault.Is(err, fault.Invalid) {
			t.Errorf("%.10q: %v", bad, err)
		}
		if _, err := s.SetFreeze(ctx, root, &tenant.Freeze{Note: bad}, ""); !fault.Is(err, fault.Invalid) {
			t.Errorf("%.10q: %v", bad, err)
		}
	}
	for _, mode := range []tenant.Signups{"", "maybe"} {
		if _, err := s.SetSignups(ctx, root, w.Tenant, mode, nil, ""); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: %v", mode, err)
		}
	}
}

// The trail records once an hour that a caller has listed the accounts of a tenant, in pages or as a preview.
func TestListed(t *testing.T) {
	w, s := newService(t)
	w.Member("ann")
	starting := root
	starting.Actor.Name = "starting"
	b, err := s.StartBulk(w.Context(), starting, w.Tenant, operator.BulkDisable,
		account.Query{States: []account.State{account.Active}}, "")
	w.Must(err)
	w.Must(s.Flush())
	list := func(c operator.Caller) {
		t.Helper()
		for range 2 {
			p, err := s.List(w.Context(), c, w.Tenant, account.Query{}, "", 10)
			w.Must(err)
			if len(p.Accounts) != 1 {
				t.Errorf("got %+v", p)
			}
		}
		w.Must(s.Flush())
	}
	seen := func() (lines []string) {
		w.Must(w.Store.Changes(w.Context(), audit.Filter{Action: "account.list"}, func(c audit.Change) error {
			lines = append(lines, c.Actor.Name+" at "+c.Tenant+", "+c.User+c.Account)
			return nil
		}))
		return lines
	}
	if got := seen(); len(got) != 1 || !strings.HasPrefix(got[0], "starting at ") {
		t.Errorf("before: %q", got)
	}
	refused := operator.Caller{Actor: root.Actor}
	if _, err := s.List(w.Context(), refused, w.Tenant, account.Query{}, "", 10); !fault.Is(err, fault.Forbidden) {
		t.Errorf("without a scope: %v", err)
	}
	previewing := root
	previewing.Actor.Name = "previewing"
	_, err = s.PreviewBulk(w.Context(), previewing, w.Tenant, b.ID, "", 10)
	w.Must(err)
	w.Must(s.Flush())
	list(root)
	w.Advance(time.Hour)
	s = operator.NewService(operator.Deps{Accounts: w.Accounts, Store: w.Store, Now: w.Now})
	list(root)
	s.Listed(w.Context(), root, &tenant.Tenant{Host: "other.test"})
	w.Must(s.Flush())
	at := " at " + w.Tenant.Host + ", "
	name := root.Actor.Name
	want := []string{"starting" + at, "previewing" + at, name + at, name + at, name + " at other.test, "}
	if got := seen(); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestOtherListsAreRecorded checks that views of the lists of messages and of names of deleted
// accounts are also in the trail.
func TestOtherListsAreRecorded(t *testing.T) {
	w, s := newService(t)
	for name, list := range map[string]func(operator.Caller) error{
		"messages": func(c operator.Caller) error {
			_, err := s.Unsent(w.Context(), c, w.Tenant, 10)
			return err
		},
		"names": func(c operator.Caller) error {
			_, err := s.ClosedNames(w.Context(), c, w.Tenant, "", 10)
			return err
		},
	} {
		c := root
		c.Actor.Name = name
		w.Must(list(c))
		w.Must(s.Flush())
		seen := 0
		filter := audit.Filter{Action: "account.list", Actor: name}
		w.Must(w.Store.Changes(w.Context(), filter, func(audit.Change) error { seen++; return nil }))
		if seen != 1 {
			t.Errorf("%s: %d changes", name, seen)
		}
	}
}

// TestDeletedAccount checks that the name of a deleted account is shown with the deletion's
// actor and reason, and that changes of the account fail with the error that it was deleted.
func TestDeletedAccount(t *testing.T) {
	w, s := newService(t)
	w.Member("ann")
	_, err := s.Delete(w.Context(), root, w.Tenant, "ann", "by letter")
	w.Must(err)
	d, err := s.Show(w.Context(), root, w.Tenant, "ann")
	w.Must(err)
	if d.Closed == nil || d.Deletion == nil || d.Deletion.Actor != root.Actor || d.Deletion.Reason != "by letter" {
		t.Errorf("got %+v", d)
	}
	v := opjson.OfDetail(d)
	if v.StateBy != root.Actor.Words() || v.StateReason != "by letter" || v.StateSince == nil {
		t.Errorf("got %+v", v.Account)
	}
	for name, do := range map[string]func(user string) error{
		"find":     func(user string) error { _, err := s.Find(w.Context(), root, w.Tenant, user); return err },
		"sign out": func(user string) error { _, err := s.SignOut(w.Context(), root, w.Tenant, user, ""); return err },
		"disable":  func(user string) error { _, err := s.Disable(w.Context(), root, w.Tenant, user, ""); return err },
		"data":     func(user string) error { _, err := s.Data(w.Context(), root, w.Tenant, user, ""); return err },
		"delete":   func(user string) error { _, err := s.Delete(w.Context(), root, w.Tenant, user, ""); return err },
	} {
		if err := do("ann"); !errors.Is(err, operator.ErrDeleted) {
			t.Errorf("%s: %v", name, err)
		}
		err := do("nobody")
		if !fault.Is(err, fault.NotFound) || !strings.Contains(err.Error(), "no account nobody at ") {
			t.Errorf("%s of nobody: %v", name, err)
		}
	}
	n := account.NewAccount{User: "ann", Name: "Ann", Email: "ann@mail.test"}
	_, err = s.Add(w.Context(), root, w.Tenant, n, "")
	if !errors.Is(err, account.ErrTaken) || !strings.Contains(err.Error(), "a deleted account keeps it") {
		t.Errorf("add: %v", err)
	}
	w.Must(s.FreeName(w.Context(), root, w.Tenant, "ann", ""))
	if err := s.FreeName(w.Context(), root, w.Tenant, "ann", ""); !fault.Is(err, fault.NotFound) {
		t.Errorf("free again: %v", err)
	}
}

// TestBulkThatDidNotStart checks that a bulk change that was cancelled before it started is unconfirmed.
func TestBulkThatDidNotStart(t *testing.T) {
	w, s := newService(t)
	w.Member("ann")
	q := account.Query{Text: "ann"}
	b, err := s.StartBulk(w.Context(), root, w.Tenant, operator.BulkDelete, q, "")
	w.Must(err)
	got, err := s.CancelBulk(w.Context(), root, w.Tenant, b.ID)
	if err != nil || got.State != operator.BulkUnconfirmed || !got.State.Ended() {
		t.Errorf("got %+v, %v", got, err)
	}
	if _, err := s.RunBulk(w.Context(), root, w.Tenant, b.ID, 0); !fault.Is(err, fault.Conflict) {
		t.Errorf("run: %v", err)
	}
}

func TestResetLinkLife(t *testing.T) {
	w, s := newService(t)
	w.Member("ann")
	for life, want := range map[time.Duration]string{
		9000 * 24 * time.Hour: "not for 9000d", 200 * time.Hour: "not for 200h", 90 * time.Second / 2: "not for 45s",
		169*time.Hour + 30*time.Minute: "not for 169h30m",
	} {
		_, _, err := s.ResetLink(w.Context(), root, w.Tenant, "ann", "", life)
		if err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%v: %v", life, err)
		}
	}
}

// A change without an effect returns the account, so the trail records it as a view. A change
// with an effect is not recorded as a view.
func TestChangeWithoutEffectIsAView(t *testing.T) {
	w, s := newService(t)
	w.Member("ann")
	w.Member("ben")
	ctx := w.Context()
	ann, err := w.Accounts.Find(ctx, w.Tenant.ID, "ann")
	w.Must(err)
	for name, c := range map[string]struct {
		do   func(operator.Caller) (account.Account, error)
		want []string
	}{
		"enable": {func(c operator.Caller) (account.Account, error) {
			return s.Enable(ctx, c, w.Tenant, "ann", "", false)
		}, []string{"account.view ann"}},
		"role": {func(c operator.Caller) (account.Account, error) {
			return s.SetRole(ctx, c, w.Tenant, "ann", "", ann.Role)
		}, []string{"account.view ann"}},
		"name": {func(c operator.Caller) (account.Account, error) {
			return s.Rename(ctx, c, w.Tenant, "ann", "", ann.Name)
		}, []string{"account.view ann"}},
		"factors": {func(c operator.Caller) (account.Account, error) {
			return s.RemoveFactors(ctx, c, w.Tenant, "ann", "")
		}, []string{"account.view ann"}},
		"another name": {func(c operator.Caller) (account.Account, error) {
			return s.Rename(ctx, c, w.Tenant, "ben", "", "Other")
		}, []string{"account.profile ben"}},
	} {
		caller := root
		caller.Actor.Name = name
		a, err := c.do(caller)
		w.Must(err)
		w.Must(s.Flush())
		var got []string
		w.Must(w.Store.Changes(ctx, audit.Filter{Actor: name}, func(c audit.Change) error {
			got = append(got, string(c.Action)+" "+c.User)
			return nil
		}))
		if !slices.Equal(got, c.want) {
			t.Errorf("%s of %s: %q, want %q", name, a.User, got, c.want)
		}
	}
}
