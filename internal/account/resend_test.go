package account_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/fault"
	"dialtone/internal/test/world"
)

func TestResend(t *testing.T) {
	o := newFixture(t)
	a := o.pending("ann")
	before := o.Messages()
	_, old := o.onlyFile()
	o.Set(world.Noon.Add(time.Hour + 123456789))
	got, err := o.Accounts.Resend(o.Context(), o.Tenant, a, "", from(1))
	o.Must(err)
	if got.Email != a.Email || !got.Expires.Equal(a.Expires) {
		t.Errorf("got %+v, want %+v", got, a)
	}
	_, content := o.newFile(before)
	if !strings.Contains(content, "Date: Sun, 01 Mar 2026 13:00:00 +0000") {
		t.Errorf("the message has another date:\n%s", content)
	}
	_, err = o.Accounts.Activate(o.Context(), o.Tenant, tokenIn(t, old), from(1))
	o.Is(err, account.ErrReplaced)
	o.Must(o.Outbox.Flush(o.Context()))
	if len(o.Pending()) != 0 {
		t.Error("an entry is left")
	}
	o.opens(tokenIn(t, content))
	log := o.Log.String()
	for _, want := range []string{`"msg":"resend","outcome":"ok"`,
		`"msg":"activate","outcome":"replaced"`} {
		if !strings.Contains(log, want) {
			t.Errorf("the log does not contain %s:\n%s", want, log)
		}
	}
	if strings.Contains(log, a.Email) {
		t.Error("the log contains the address")
	}
}

func TestResendBadAddress(t *testing.T) {
	o := newFixture(t)
	a := o.pending("ann")
	for _, email := range []string{"ann", "a@b.test,c@d.test", "-f@x.test", "a b@x.test",
		"a@[127.0.0.1]", "a@x.test\r\nBcc: b@x.test"} {
		_, err := o.Accounts.Resend(o.Context(), o.Tenant, a, email, from(1))
		o.refused(err, fault.Invalid)
	}
	if len(o.Messages()) != 1 {
		t.Error("a message was sent")
	}
}

func TestResendFaults(t *testing.T) {
	for _, c := range pickupFaults {
		t.Run("the directory "+c.name, func(t *testing.T) {
			o := newFixture(t)
			a := o.pending("ann")
			_, old := o.onlyFile()
			o.Must(c.fail(o))
			if o.faults.create != nil {
				o.faults.resend, o.faults.lost = errBroken, true
			}
			for range 5 { // more than the limits
				_, err := o.Accounts.Resend(o.Context(), o.Tenant, a, "new@mail.test", from(1))
				o.refused(err, fault.Internal)
			}
			o.Must(c.repair(o))
			o.faults.resend, o.faults.lost = nil, false
			if got, err := o.Store.Find(o.Context(), o.Tenant.ID, "ann", o.Now()); err != nil ||
				got.Email != a.Email {
				t.Errorf("the address is %s, %v", got.Email, err)
			}
			for name, content := range o.Messages() {
				if content != old {
					t.Errorf("%s is left", name)
				}
			}
			o.opens(tokenIn(t, old))
			b := o.pending("bob")
			for range 2 { // as many as the limits allow
				_, err := o.Accounts.Resend(o.Context(), o.Tenant, b, "", from(1))
				o.Must(err)
			}
		})
	}
}

func TestResendOfActiveAccountWithFaultyPickup(t *testing.T) {
	o := newFixture(t)
	a := o.pending("ann")
	_, content := o.onlyFile()
	o.opens(tokenIn(t, content))
	o.Pickup.StageErr = errBroken
	_, err := o.Accounts.Resend(o.Context(), o.Tenant, a, "", from(1))
	o.Is(err, account.ErrActive)
}

func TestResendUndo(t *testing.T) {
	for _, c := range []struct {
		name         string
		fail, repair func(o *fixture)
	}{
		{"when the message cannot be published and the store fails",
			func(o *fixture) { o.Pickup.PublishErr, o.faults.undoResend = errBroken, errBroken },
			func(o *fixture) { o.Pickup.PublishErr, o.faults.undoResend = nil, nil }},
		{"when the commit is unknown and happened",
			func(o *fixture) { o.faults.resend = fault.ErrInDoubt },
			func(o *fixture) { o.faults.resend = nil }},
		{"when the commit is unknown and did not happen",
			func(o *fixture) { o.faults.resend, o.faults.lost = fault.ErrInDoubt, true },
			func(o *fixture) { o.faults.resend, o.faults.lost = nil, false }},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := newFixture(t)
			a := o.pending("ann")
			_, old := o.onlyFile()
			c.fail(o)
			if _, err := o.Accounts.Resend(o.Context(), o.Tenant, a, "new@mail.test", from(1)); err == nil {
				t.Fatal("Resend succeeded")
			}
			if err := o.Outbox.Flush(o.Context()); (err == nil) != (o.faults.undoResend == nil) ||
				err != nil && !errors.Is(err, errBroken) {
				t.Errorf("Flush: got %v", err)
			}
			c.repair(o)
			o.Must(o.Outbox.Flush(o.Context()))
			o.Must(o.Outbox.Flush(o.Context()))
			if got, err := o.Store.Find(o.Context(), o.Tenant.ID, "ann", o.Now()); err != nil ||
				got.Email != a.Email {
				t.Errorf("the address is %s, %v", got.Email, err)
			}
			if n := len(o.Pending()); n != 0 || len(o.Messages()) != 1 {
				t.Errorf("%d entries are left, %d files", n, len(o.Messages()))
			}
			o.opens(tokenIn(t, old))
		})
	}
}

// TestOutboxRecoverAfterResend checks that only the newest message is written again after a crash,
// with the same bytes to the same address.
func TestOutboxRecoverAfterResend(t *testing.T) {
	for _, email := range []string{"", "new@mail.test"} {
		t.Run(fmt.Sprintf("to %q", email), func(t *testing.T) {
			o := newFixture(t)
			a := o.pending("ann")
			before := o.Messages()
			o.Set(world.Noon.Add(time.Hour + 123456789))
			_, err := o.Accounts.Resend(o.Context(), o.Tenant, a, email, from(1))
			o.Must(err)
			name, content := o.newFile(before)
			o.Set(world.Noon.Add(5 * time.Hour))
			o.Must(os.RemoveAll(o.Pickup.Path()))
			o.restart()
			o.Must(o.Outbox.Recover(o.Context()))
			for name, content := range before { // part of the older message was written
				path := filepath.Join(o.Pickup.Path(), name)
				o.Must(os.WriteFile(path, []byte(content[:200]), 0o600))
			}
			o.Must(o.Outbox.Flush(o.Context()))
			if again, bytes := o.onlyFile(); again != name || bytes != content {
				t.Errorf("there is %s:\n%s\nwant %s:\n%s", again, bytes, name, content)
			}
			if len(o.Pending()) != 0 {
				t.Error("an entry is left")
			}
			o.opens(tokenIn(t, content))
		})
	}
}
