package account_test

import (
	"testing"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/secret"
	"dialtone/internal/tenant"
)

func TestActivateAtTenantThatConfirms(t *testing.T) {
	o := newFixture(t)
	strict := *o.Tenant
	strict.Activation = tenant.ActivationConfirm
	a := o.pending("ann")
	_, content := o.onlyFile()
	token := tokenIn(t, content)
	for range 2 {
		got, err := o.Accounts.Activate(o.Context(), &strict, token, from(1))
		o.Must(err)
		if got.UID != a.UID || !got.Pending() {
			t.Errorf("got %+v", got)
		}
	}
	got, err := o.Accounts.Confirm(o.Context(), &strict, a, token, from(1))
	o.Must(err)
	if got.Disabled || !got.Confirmed.Equal(o.Now()) || got.UID != a.UID {
		t.Errorf("got %+v", got)
	}
	_, err = o.Accounts.Activate(o.Context(), &strict, token, from(1))
	o.Is(err, account.ErrActive)
	for _, want := range []string{`"msg":"activate","outcome":"opened"`,
		`"msg":"confirm","outcome":"ok"`, `"msg":"activate","outcome":"already_active"`} {
		if o.Log.Count(want) == 0 {
			t.Errorf("the log does not contain %s", want)
		}
	}
}

func TestConfirmLink(t *testing.T) {
	o := newFixture(t)
	a := o.pending("ann")
	before := o.Messages()
	b := o.pending("bob")
	_, content := o.newFile(before)
	bobs := tokenIn(t, content)
	for _, text := range []string{"", "x", bobs, secret.NewToken().Text(), bobs + "A"} {
		got, err := o.Accounts.Confirm(o.Context(), o.Tenant, a, text, from(1))
		o.Is(err, account.ErrLink)
		if got.UID != a.UID {
			t.Errorf("got %+v", got)
		}
	}
	_, err := o.Accounts.Resend(o.Context(), o.Tenant, b, "", from(1))
	o.Must(err)
	_, err = o.Accounts.Confirm(o.Context(), o.Tenant, b, bobs, from(1))
	o.Is(err, account.ErrLink)
}

func TestConfirmExpiredOrHeld(t *testing.T) {
	o := newFixture(t)
	a := o.pending("ann")
	_, content := o.onlyFile()
	token := tokenIn(t, content)
	_, err := o.Accounts.Disable(o.Context(), o.Tenant, "ann")
	o.Must(err)
	_, err = o.Accounts.Confirm(o.Context(), o.Tenant, a, token, from(1))
	o.Is(err, account.ErrHeld)
	o.Advance(account.PendingLife + time.Second)
	_, err = o.Accounts.Confirm(o.Context(), o.Tenant, a, token, from(1))
	o.Is(err, account.ErrHeld)

	before := o.Messages()
	b := o.pending("bob")
	_, content = o.newFile(before)
	o.Advance(account.PendingLife)
	_, err = o.Accounts.Confirm(o.Context(), o.Tenant, b, tokenIn(t, content), from(1))
	o.Is(err, account.ErrExpired)
}

func TestVerifyConfirmed(t *testing.T) {
	o := newFixture(t)
	o.pending("ann")
	o.Must(o.Outbox.Flush(o.Context()))
	faults := func() []string {
		r, err := account.Verify(o.Context(), o.Store, o.Pickup, o.SealRing)
		o.Must(err)
		return r.Faults
	}
	if got := faults(); len(got) != 0 {
		t.Fatalf("faults: %q", got)
	}
	o.exec(`UPDATE account SET confirmed = 1`)
	if got := faults(); len(got) != 1 || got[0] != "account ann: confirmed but not active" {
		t.Errorf("faults: %q", got)
	}
	o.exec(`UPDATE account SET activated = 1`)
	if got := faults(); len(got) != 0 {
		t.Errorf("faults: %q", got)
	}
}
