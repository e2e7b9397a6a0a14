package account_test

import (
	"strings"
	"testing"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/outbox"
	"dialtone/internal/passkey"
	"dialtone/internal/secret"
	"dialtone/internal/throttle"
	"dialtone/internal/totp"
)

// withFactors adds an active account with an authenticator app and a passkey.
func (o *fixture) withFactors(user string) (app totp.Secret, codes []string, key account.Passkey) {
	o.Helper()
	o.Member(user)
	app, err := o.Accounts.StartApp(o.Context(), o.Tenant, o.find(user), from(1))
	o.Must(err)
	step := totp.Step(o.Now())
	codes, _, err = o.Accounts.FinishApp(o.Context(), o.Tenant, o.find(user), app.Code(step), from(1))
	o.Must(err)
	c := passkey.Credential{ID: []byte("key of " + user), Key: []byte("public")}
	key, err = o.Accounts.AddPasskey(o.Context(), o.Tenant, o.find(user), c, "Key", from(1))
	o.Must(err)
	return app, codes, key
}

// A new key in seal.key does not affect what an older key sealed. Authenticator apps, recovery
// codes and passkeys keep working, and fail only without the older key.
func TestFactorsWithNewSealKey(t *testing.T) {
	o := newFixture(t)
	app, codes, key := o.withFactors("ann")
	older := o.SealRing
	newer := older.Rotated(o.Now(), 2)
	o.AccountDeps.SealRing, o.OutboxDeps.SealRing = newer, newer
	o.Rebuild()
	if c, err := o.Accounts.OpenPasskey(o.Tenant.ID, key); err != nil || string(c.Key) != "public" {
		t.Errorf("the passkey: %q, %v", c.Key, err)
	}
	o.Advance(time.Minute)
	for _, code := range []string{app.Code(totp.Step(o.Now())), codes[0]} {
		if err := o.Accounts.UseCode(o.Context(), o.Tenant, o.find("ann"), code, from(1)); err != nil {
			t.Errorf("%s: %v", code, err)
		}
		o.Is(o.Accounts.UseCode(o.Context(), o.Tenant, o.find("ann"), code, from(1)), account.ErrCodeWrong)
	}
	o.withFactors("bob") // with the new key
	faults := func(ring *secret.Ring) (list []string) {
		t.Helper()
		r, err := account.Verify(o.Context(), o.Store, o.Pickup, ring)
		o.Must(err)
		for _, text := range r.Faults {
			if strings.Contains(text, "authenticator app") || strings.Contains(text, "passkey") {
				list = append(list, text)
			}
		}
		return list
	}
	if list := faults(newer); len(list) > 0 {
		t.Errorf("with both keys: %q", list)
	}
	if list := faults(older); len(list) != 2 || !strings.HasPrefix(list[0], "account bob: ") {
		t.Errorf("with the older key: %q", list)
	}
}

// acknowledge removes the entries of the outbox. That of a Member has no token.
func (o *fixture) acknowledge() {
	o.Helper()
	for _, e := range o.Pending() {
		_, err := o.Store.Ack(o.Context(), []outbox.Ref{e.Ref}, o.Now())
		o.Must(err)
	}
}

// A message that is written for the first time is not logged as written again after a crash.
func TestFactorMessagesInTheLog(t *testing.T) {
	o := newFixture(t)
	_, codes, _ := o.withFactors("ann")
	o.acknowledge()
	flush := func() {
		t.Helper()
		o.Must(o.Outbox.TakeOver(o.Context()))
		for range 2 { // finds the entry, and writes the message
			o.Must(o.Outbox.Flush(o.Context()))
		}
	}
	flush()
	for _, c := range []struct {
		name string
		do   func() error
	}{
		{"recovery code", func() error {
			return o.Accounts.UseCode(o.Context(), o.Tenant, o.find("ann"), codes[0], from(1))
		}},
		{"wrong codes", func() error {
			for range throttle.WrongCodesNoticed.Limit {
				err := o.Accounts.UseCode(o.Context(), o.Tenant, o.find("ann"), codes[0], from(1))
				o.Is(err, account.ErrCodeWrong)
			}
			return nil
		}},
		{"removal by an operator", func() error {
			_, err := o.Accounts.RemoveFactors(o.Context(), o.Tenant, "ann")
			return err
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := len(o.Messages())
			o.Must(c.do())
			flush()
			if n := len(o.Messages()) - before; n != 1 {
				t.Fatalf("%d messages were written, want one", n)
			}
			for _, line := range []string{"message.republish", "dead node"} {
				if n := o.Log.Count(line); n != 0 {
					t.Errorf("the log has %d lines with %q:\n%s", n, line, o.Log.String())
				}
			}
		})
	}
}

// TestRecoveryCodesAreRenewed checks which codes work then, that the owner gets a message at once, and what is logged.
func TestRecoveryCodesAreRenewed(t *testing.T) {
	o := newFixture(t)
	app, old, _ := o.withFactors("ann")
	o.Must(o.Outbox.Flush(o.Context()))
	before := o.Messages()
	codes, err := o.Accounts.RenewCodes(o.Context(), o.Tenant, o.find("ann"), from(1))
	o.Must(err)
	o.Must(o.Outbox.Flush(o.Context()))
	if _, message := o.newFile(before); !strings.Contains(message, "recovery codes") {
		t.Errorf("the message is %s", message)
	}
	o.Advance(time.Minute)
	for i, c := range []struct {
		code   string
		want   error
		logged int
	}{
		{old[0], account.ErrCodeWrong, 0}, {app.Code(totp.Step(o.Now())), nil, 0}, {codes[0], nil, 1},
		{codes[0], account.ErrCodeWrong, 1},
	} {
		o.Is(o.Accounts.UseCode(o.Context(), o.Tenant, o.find("ann"), c.code, from(1)), c.want)
		if n := o.Log.Count(`"msg":"two-step.recovery"`); n != c.logged {
			t.Errorf("after code %d, the log has %d uses of recovery codes", i, n)
		}
	}
}

// A sealed value that belongs to another account, or was damaged, is a fault.
func TestVerifyFactors(t *testing.T) {
	o := newFixture(t)
	o.withFactors("ann")
	o.withFactors("bob")
	for _, c := range []struct{ change, want string }{
		{`UPDATE totp SET sealed = (SELECT min(sealed) FROM totp)`, "its authenticator app"},
		{`UPDATE totp SET sealed = x'00'`, "its authenticator app"},
		{`UPDATE passkey SET sealed = (SELECT min(sealed) FROM passkey)`, `its passkey "Key"`},
		{`UPDATE passkey SET rp = 'other.test'`, `its passkey "Key"`},
	} {
		t.Run(c.change, func(t *testing.T) {
			r, err := account.Verify(o.Context(), o.Store, o.Pickup, o.SealRing)
			o.Must(err)
			before := len(r.Faults)
			o.exec(c.change)
			r, err = account.Verify(o.Context(), o.Store, o.Pickup, o.SealRing)
			o.Must(err)
			if n := len(r.Faults); n <= before || !strings.Contains(strings.Join(r.Faults, "\n"), c.want) {
				t.Errorf("the faults are %q", r.Faults)
			}
		})
	}
}
