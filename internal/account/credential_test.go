package account_test

import (
	"errors"
	"testing"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/digest"
	"dialtone/internal/secret"
)

func TestSealer(t *testing.T) {
	ring := secret.NewRing(time.Now())
	lenient, strict := account.NewSealer(ring), account.NewSealer(ring.Strict())
	want := digest.Credential{HA1: digest.Compute("ann", "phone.test", "ann's password")}
	ann := account.Account{Tenant: 1, UID: account.NewUID(time.Now()), User: "ann"}
	older := ann
	lenient.Seal(&ann, want)
	lenient.SealOld(&older, want)
	changed := func(a account.Account, change func(*account.Account)) account.Account {
		change(&a)
		return a
	}
	rename := func(a *account.Account) { a.User = "admin" }
	unname := func(a *account.Account) { a.User = "" }
	for _, c := range []struct {
		claim  string
		a      account.Account
		sealer account.Sealer
		opens  bool
	}{
		{"opens", ann, lenient, true},
		{"opens with a strict key", ann, strict, true},
		{"does not open under another name", changed(ann, rename), lenient, false},
		{"does not open under another name with a strict key", changed(ann, rename), strict, false},
		{"does not open without a name", changed(ann, unname), lenient, false},
		{
			"does not open with another UID",
			changed(ann, func(a *account.Account) { a.UID = account.NewUID(time.Now()) }), lenient, false,
		},
		{"does not open at another tenant", changed(ann, func(a *account.Account) { a.Tenant = 2 }), lenient, false},
		{"of the older form opens", older, lenient, true},
		{"of the older form does not open with a strict key", older, strict, false},
		{"of the older form does not open without a name with a strict key", changed(older, unname), strict, false},
	} {
		got, err := c.sealer.Open(c.a)
		if c.opens && (err != nil || got.HA1 != want.HA1) || !c.opens && !errors.Is(err, secret.ErrSeal) {
			t.Errorf("a credential %s: got %v", c.claim, err)
		}
	}
}
