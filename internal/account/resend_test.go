package account_test

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/fault"
)

// newFile returns the only file that was not there before.
func (o *fixture) newFile(before map[string]string) (name, content string) {
	o.Helper()
	files := o.files()
	maps.DeleteFunc(files, func(name, _ string) bool { return before[name] != "" })
	if len(files) != 1 {
		o.Fatalf("there are %d new files, want one", len(files))
	}
	for name, content = range files {
	}
	return name, content
}

// pending makes a pending account.
func (o *fixture) pending(user string) account.Account {
	o.Helper()
	o.signup(user)
	a, err := o.store.Find(o.Context(), o.tenant.ID, user, o.now)
	o.must(err)
	return a
}

func (o *fixture) opens(token string) {
	o.Helper()
	_, err := o.Activate(o.Context(), o.tenant, token, from(1))
	o.must(err)
}

func TestResend(t *testing.T) {
	o := newFixture(t)
	a := o.pending("ann")
	before := o.files()
	_, old := o.onlyFile()
	o.now = noon.Add(time.Hour + 123456789)
	got, err := o.Resend(o.Context(), o.tenant, a, "", from(1))
	o.must(err)
	if got.Email != a.Email || !got.Expires.Equal(a.Expires) {
		t.Errorf("got %+v, want %+v", got, a)
	}
	_, content := o.newFile(before)
	if !strings.Contains(content, "Date: Sun, 01 Mar 2026 13:00:00 +0000") {
		t.Errorf("the message has another date:\n%s", content)
	}
	_, err = o.Activate(o.Context(), o.tenant, tokenIn(t, old), from(1))
	o.is(err, account.ErrReplaced)
	o.must(o.Flush(o.Context()))
	if o.waiting() != 0 {
		t.Error("an entry is left")
	}
	o.opens(tokenIn(t, content))
	log := o.log.String()
	for _, want := range []string{`"msg":"resend","outcome":"ok"`,
		`"msg":"activate","outcome":"replaced"`} {
		if !strings.Contains(log, want) {
			t.Errorf("the log has no %s:\n%s", want, log)
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
		_, err := o.Resend(o.Context(), o.tenant, a, email, from(1))
		o.refused(err, fault.Invalid)
	}
	if len(o.files()) != 1 {
		t.Error("a message was sent")
	}
}

func TestResendFaults(t *testing.T) {
	for _, c := range pickupFaults {
		t.Run("the directory "+c.name, func(t *testing.T) {
			o := newFixture(t)
			a := o.pending("ann")
			_, old := o.onlyFile()
			o.must(c.brk(o))
			if o.faults.create != nil {
				o.faults.resend, o.faults.lost = errBroken, true
			}
			for range 5 { // more than there are places
				_, err := o.Resend(o.Context(), o.tenant, a, "new@mail.test", from(1))
				o.refused(err, fault.Internal)
			}
			o.must(c.mended(o))
			o.faults.resend, o.faults.lost = nil, false
			if got, err := o.store.Find(o.Context(), o.tenant.ID, "ann", o.now); err != nil ||
				got.Email != a.Email {
				t.Errorf("the address is %s, %v", got.Email, err)
			}
			for name, content := range o.files() {
				if content != old {
					t.Errorf("%s is left", name)
				}
			}
			o.opens(tokenIn(t, old))
			b := o.pending("bob")
			for range 2 { // and every place is there
				_, err := o.Resend(o.Context(), o.tenant, b, "", from(1))
				o.must(err)
			}
		})
	}
}

func TestResendOfActiveAccountWithFaultyPickup(t *testing.T) {
	o := newFixture(t)
	a := o.pending("ann")
	_, content := o.onlyFile()
	o.opens(tokenIn(t, content))
	o.pickup.stage = errBroken
	_, err := o.Resend(o.Context(), o.tenant, a, "", from(1))
	o.is(err, account.ErrActive)
}

func TestResendUndo(t *testing.T) {
	for _, c := range []struct {
		name      string
		brk, mend func(o *fixture)
	}{
		{"the message cannot be published and the store fails",
			func(o *fixture) { o.pickup.publish, o.faults.undoResend = errBroken, errBroken },
			func(o *fixture) { o.pickup.publish, o.faults.undoResend = nil, nil }},
		{"the commit is unknown and happened",
			func(o *fixture) { o.faults.resend = fault.ErrInDoubt },
			func(o *fixture) { o.faults.resend = nil }},
		{"the commit is unknown and did not happen",
			func(o *fixture) { o.faults.resend, o.faults.lost = fault.ErrInDoubt, true },
			func(o *fixture) { o.faults.resend, o.faults.lost = nil, false }},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := newFixture(t)
			a := o.pending("ann")
			_, old := o.onlyFile()
			c.brk(o)
			if _, err := o.Resend(o.Context(), o.tenant, a, "new@mail.test", from(1)); err == nil {
				t.Fatal("it did not fail")
			}
			if err := o.Flush(o.Context()); (err == nil) != (o.faults.undoResend == nil) ||
				err != nil && !errors.Is(err, errBroken) {
				t.Errorf("flushing: %v", err)
			}
			c.mend(o)
			o.must(o.Flush(o.Context()))
			o.must(o.Flush(o.Context()))
			if got, err := o.store.Find(o.Context(), o.tenant.ID, "ann", o.now); err != nil ||
				got.Email != a.Email {
				t.Errorf("the address is %s, %v", got.Email, err)
			}
			if n := o.waiting(); n != 0 || len(o.files()) != 1 {
				t.Errorf("%d entries are left, %d files", n, len(o.files()))
			}
			o.opens(tokenIn(t, old))
		})
	}
}

// After a crash the newest message is written again, the same bytes to the same address, and no
// older one.
func TestOutboxRecoverAfterResend(t *testing.T) {
	for _, mended := range []string{"", "new@mail.test"} {
		t.Run(fmt.Sprintf("to %q", mended), func(t *testing.T) {
			o := newFixture(t)
			a := o.pending("ann")
			before := o.files()
			o.now = noon.Add(time.Hour + 123456789)
			_, err := o.Resend(o.Context(), o.tenant, a, mended, from(1))
			o.must(err)
			name, content := o.newFile(before)
			o.now = noon.Add(5 * time.Hour)
			o.open(filepath.Join(t.TempDir(), "pickup")) // nothing is left
			o.must(o.Recover(o.Context()))
			for i := range before { // half of the older one is there
				o.must(os.WriteFile(filepath.Join(o.pickup.Path(), i), []byte(before[i][:200]),
					0o600))
			}
			o.must(o.Flush(o.Context()))
			if again, bytes := o.onlyFile(); again != name || bytes != content {
				t.Errorf("there is %s:\n%s\nwant %s:\n%s", again, bytes, name, content)
			}
			if o.waiting() != 0 {
				t.Error("an entry is left")
			}
			o.opens(tokenIn(t, content))
		})
	}
}
