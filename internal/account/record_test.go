package account_test

import (
	"strings"
	"testing"
	"time"

	"dialtone/internal/account"
)

func TestSweepAtMaxDrift(t *testing.T) {
	start := time.Now() // with the machine's count of time
	o := newFixture(t)
	o.now = start
	o.open(o.pickup.Path())
	for _, by := range []time.Duration{time.Hour, -time.Hour} {
		o.now = jumped(t, start, by)
		if err := o.Sweep(o.Context()); err != nil {
			t.Errorf("after a jump of %v: %v", by, err)
		}
	}
}

func TestSweepIsLogged(t *testing.T) {
	o := newFixture(t)
	o.signup("ann")
	o.must(o.Sweep(o.Context()))
	const event = `"msg":"expired accounts removed"`
	if strings.Contains(o.log.String(), event) {
		t.Error("a sweep that removed nothing is logged")
	}
	o.now = o.now.Add(account.PendingLife + 25*time.Hour)
	o.must(o.Sweep(o.Context()))
	if !strings.Contains(o.log.String(), event+`,"accounts":1`) {
		t.Errorf("the log does not say that one account was removed:\n%s", o.log)
	}
}

func TestEmailIsRecorded(t *testing.T) {
	o := newFixture(t)
	o.signup("ann")
	if !strings.Contains(o.log.String(), `"user":"ann","email":"a***@mail.test"`) {
		t.Errorf("the log has no masked address:\n%s", o.log)
	}
	if _, err := o.Disable(o.Context(), o.tenant, "nobody"); err == nil {
		t.Fatal("an unknown account was disabled")
	}
	if strings.Contains(o.log.String(), `"email":"***"`) {
		t.Errorf("the log has an address where there is none:\n%s", o.log)
	}
}

func TestSignupWithInvalidReservedNames(t *testing.T) {
	o := newFixture(t)
	o.tenant.Reserved = []string{"a b"}
	for range 2 {
		if _, err := o.Signup(o.Context(), o.tenant, o.form("ann"), o.newOrigin()); err == nil {
			t.Error("a signup succeeds although the reserved names cannot be read")
		}
	}
	o.tenant.Reserved = nil
	o.signup("ann")
}

func TestVerifyReport(t *testing.T) {
	o := newFixture(t)
	o.signup("ann")
	before := o.files()
	o.signup("bob")
	_, content := o.newFile(before)
	o.opens(tokenIn(t, content))
	report := func() account.Report {
		t.Helper()
		r, err := account.Verify(o.Context(), o.store, o.pickup, o.seal)
		o.must(err)
		return r
	}
	r := report()
	if r.Accounts != 2 || r.Active != 1 || r.Waiting != 2 || r.Messages != 2 ||
		len(r.Faults)+len(r.Notes) != 0 {
		t.Errorf("got %+v", r)
	}
	o.exec(`UPDATE account SET username = 'cid' WHERE username = 'ann'`)
	if r := report(); len(r.Faults) != 0 {
		t.Errorf("the entry follows the account, and there are faults: %q", r.Faults)
	}
	o.exec(`DELETE FROM account WHERE username = 'bob'`)
	if r := report(); r.Accounts != 1 || len(r.Notes) != 1 {
		t.Errorf("a message without its account: got %+v", r)
	}
	o.exec(`UPDATE account SET token = x'00', has_sha256 = TRUE`)
	want := []string{"the row is wrong about having a SHA-256 digest", "pending without a link"}
	r = report()
	for _, fault := range want {
		if !strings.Contains(strings.Join(r.Faults, "\n"), fault) {
			t.Errorf("there is no fault %q in %q", fault, r.Faults)
		}
	}
}
