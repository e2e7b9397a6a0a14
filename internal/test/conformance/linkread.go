package conformance

import (
	"time"

	"dialtone/internal/account"
)

// wantStayLink checks that a link keeps the account of a user or, if user is empty, that it does
// not work.
func (t *test) wantStayLink(tenant int64, token [32]byte, at time.Time, user string) {
	t.Helper()
	a, err := t.StayLink(t.ctx, tenant, token, at)
	if user == "" {
		t.wantErr(err, account.ErrLinkUsed)
		return
	}
	t.must(err)
	t.wantAccount(a, t.find(user, at))
}

// wantNotMeLink checks what a link undoes or, if want is zero, that it does not work.
func (t *test) wantNotMeLink(tenant int64, token [32]byte, at time.Time, want account.Undone) {
	t.Helper()
	got, err := t.NotMeLink(t.ctx, tenant, token, at)
	if want.Email == "" {
		t.wantErr(err, account.ErrLinkUsed)
	} else {
		t.must(err)
		t.wantAccount(got.Account, want.Account)
	}
	if got.Email != want.Email || got.App != want.App || got.Passkeys != want.Passkeys {
		t.Errorf("the link undoes %+v, want %+v", got, want)
	}
}

var linkReadTests = []testCase{
	{"return the account that a link to stay keeps, and change nothing", func(t *test) {
		t.addActive("ann", noon)
		changed := t.changed("ann", "new", noon)
		d := t.leave("ann", noon)
		for range 2 {
			t.wantStayLink(t.tenant, d.Token, d.Until.Add(-tick), "ann")
		}
		t.wantStayLink(t.tenant, d.Token, d.Until, "")
		t.wantStayLink(t.addTenant("b.test"), d.Token, noon, "")
		t.wantStayLink(t.tenant, newToken(), noon, "")
		t.wantStayLink(t.tenant, changed.Token, noon, "")
		_, err := t.Stay(t.ctx, t.tenant, d.Token, noon)
		t.must(err)
		t.wantStayLink(t.tenant, d.Token, noon, "")
	}},
	{"return no account that an operator has disabled or that was deleted", func(t *test) {
		t.addActive("ann", noon)
		t.addActive("bob", noon)
		ann, bob := t.leave("ann", noon), t.leave("bob", noon)
		_, err := t.Disable(t.as("fraud"), t.tenant, "ann", noon)
		t.must(err)
		t.wantStayLink(t.tenant, ann.Token, noon, "")
		t.must(t.Delete(t.ctx, t.tenant, "bob", noon))
		t.wantStayLink(t.tenant, bob.Token, noon, "")
	}},
	{"return what the link about a change undoes, and change nothing", func(t *test) {
		t.addWithAddress("ann", "a@mail.test", noon)
		change := t.changed("ann", "new", noon)
		same := account.Undone{Account: t.find("ann", noon), Email: "a@mail.test"}
		for range 2 {
			t.wantNotMeLink(t.tenant, change.Token, change.Until.Add(-tick), same)
		}
		t.setEmail("ann", "b@mail.test", noon.Add(time.Minute))
		t.passkey("ann", "one", noon.Add(time.Minute))
		t.passkey("ann", "two", noon.Add(time.Minute))
		d := t.leave("ann", noon.Add(2*time.Minute))
		at := noon.Add(3 * time.Minute)
		t.wantNotMeLink(t.tenant, change.Token, at, account.Undone{
			Account: t.find("ann", at), Email: "a@mail.test", Passkeys: 2,
		})
		t.wantNotMeLink(t.tenant, d.Token, at, account.Undone{})
		t.wantNotMeLink(t.tenant, newToken(), at, account.Undone{})
		t.wantNotMeLink(t.tenant, change.Token, change.Until, account.Undone{})
		t.wantNotMeLink(t.addTenant("b.test"), change.Token, at, account.Undone{})
		got, err := t.NotMe(t.ctx, t.tenant, change.Token, unsent(at), at)
		t.must(err)
		if got.Email != "a@mail.test" || got.Factors != 0 || got.State() != account.Active {
			t.Errorf("got %+v", got)
		}
		t.wantNotMeLink(t.tenant, change.Token, at, account.Undone{})
	}},
	{"count the factors that were added since the message", func(t *test) {
		a, c := t.withApp("ann")
		t.wantNotMeLink(t.tenant, c.Token, noon, account.Undone{Account: a, Email: a.Email, App: true})
		t.passkey("ann", "old", noon)
		later := noon.Add(time.Minute)
		change := t.changed("ann", "new", later)
		a = t.find("ann", later)
		t.wantNotMeLink(t.tenant, change.Token, later, account.Undone{Account: a, Email: a.Email})
		t.passkey("ann", "new", later)
		a = t.find("ann", later)
		t.wantNotMeLink(t.tenant, change.Token, later, account.Undone{Account: a, Email: a.Email, Passkeys: 1})
		t.wantNotMeLink(t.tenant, c.Token, later, account.Undone{
			Account: a, Email: a.Email, App: true, Passkeys: 2,
		})
	}},
	{"do not count an app that was not finished", func(t *test) {
		t.addActive("ann", noon)
		change := t.changed("ann", "new", noon)
		a := t.find("ann", noon)
		t.must(t.StartApp(t.ctx, a, []byte("secret"), noon))
		t.wantNotMeLink(t.tenant, change.Token, noon, account.Undone{Account: a, Email: a.Email})
	}},
	{"return nothing for the link about a change of an account that an operator has disabled", func(t *test) {
		t.addActive("ann", noon)
		change := t.changed("ann", "new", noon)
		t.leave("ann", noon)
		_, err := t.Disable(t.as("fraud"), t.tenant, "ann", noon)
		t.must(err)
		t.wantNotMeLink(t.tenant, change.Token, noon, account.Undone{})
	}},
}
