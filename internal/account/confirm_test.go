package account_test

import (
	"strings"
	"testing"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/secret"
	"dialtone/internal/tenant"
)

func TestActivateAtTenantThatConfirms(t *testing.T) {
	o := newFixture(t)
	strict := *o.tenant
	strict.Activation = tenant.ActivationConfirm
	a := o.pending("ann")
	_, content := o.onlyFile()
	token := tokenIn(t, content)
	for range 2 {
		got, err := o.Activate(o.Context(), &strict, token, from(1))
		o.must(err)
		if got.UID != a.UID || !got.Pending() {
			t.Errorf("got %+v", got)
		}
	}
	got, err := o.Confirm(o.Context(), &strict, a, token, from(1))
	o.must(err)
	if got.Disabled || !got.Confirmed.Equal(o.now) || got.UID != a.UID {
		t.Errorf("got %+v", got)
	}
	_, err = o.Activate(o.Context(), &strict, token, from(1))
	o.is(err, account.ErrActive)
	for _, want := range []string{`"msg":"activate","outcome":"opened"`,
		`"msg":"confirm","outcome":"ok"`, `"msg":"activate","outcome":"already_active"`} {
		if !strings.Contains(o.log.String(), want) {
			t.Errorf("the log has no %s", want)
		}
	}
}

func TestConfirmLink(t *testing.T) {
	o := newFixture(t)
	a := o.pending("ann")
	before := o.files()
	b := o.pending("bob")
	_, content := o.newFile(before)
	bobs := tokenIn(t, content)
	for _, text := range []string{"", "x", bobs, secret.NewToken().Text(), bobs + "A"} {
		got, err := o.Confirm(o.Context(), o.tenant, a, text, from(1))
		o.is(err, account.ErrLink)
		if got.UID != a.UID {
			t.Errorf("got %+v", got)
		}
	}
	_, err := o.Resend(o.Context(), o.tenant, b, "", from(1))
	o.must(err)
	_, err = o.Confirm(o.Context(), o.tenant, b, bobs, from(1))
	o.is(err, account.ErrLink)
}

func TestConfirmExpiredOrHeld(t *testing.T) {
	o := newFixture(t)
	a := o.pending("ann")
	_, content := o.onlyFile()
	token := tokenIn(t, content)
	_, err := o.Disable(o.Context(), o.tenant, "ann")
	o.must(err)
	_, err = o.Confirm(o.Context(), o.tenant, a, token, from(1))
	o.is(err, account.ErrHeld)
	o.now = o.now.Add(account.PendingLife + time.Second)
	_, err = o.Confirm(o.Context(), o.tenant, a, token, from(1))
	o.is(err, account.ErrHeld)

	before := o.files()
	b := o.pending("bob")
	_, content = o.newFile(before)
	o.now = o.now.Add(account.PendingLife)
	_, err = o.Confirm(o.Context(), o.tenant, b, tokenIn(t, content), from(1))
	o.is(err, account.ErrExpired)
}

func TestVerifyConfirmed(t *testing.T) {
	o := newFixture(t)
	o.pending("ann")
	o.must(o.Flush(o.Context()))
	faults := func() []string {
		r, err := account.Verify(o.Context(), o.store, o.pickup, o.seal)
		o.must(err)
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
