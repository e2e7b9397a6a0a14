package account_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/fault"
	"dialtone/internal/test/world"
)

func TestSweepAtMaxDrift(t *testing.T) {
	start := time.Now() // with the machine's count of time
	o := newFixture(t)
	o.Set(start)
	o.restart()
	for _, by := range []time.Duration{time.Hour, -time.Hour} {
		o.Set(jumped(t, start, by))
		if err := o.Accounts.Sweep(o.Context()); err != nil {
			t.Errorf("after a jump of %v: %v", by, err)
		}
	}
}

func TestSweepIsLogged(t *testing.T) {
	o := newFixture(t)
	o.signup("ann")
	o.Must(o.Accounts.Sweep(o.Context()))
	const event = `"msg":"expired accounts removed"`
	if o.Log.Count(event) != 0 {
		t.Error("a sweep that removed nothing is logged")
	}
	o.Advance(account.PendingLife + 25*time.Hour)
	o.Must(o.Accounts.Sweep(o.Context()))
	if o.Log.Count(event+`,"accounts":1`) == 0 {
		t.Errorf("the log does not say that one account was removed:\n%s", o.Log)
	}
}

func TestEmailIsRecorded(t *testing.T) {
	o := newFixture(t)
	o.signup("ann")
	if o.Log.Count(`"user":"ann","email":"a***@mail.test"`) == 0 {
		t.Errorf("the log has no masked address:\n%s", o.Log)
	}
	if _, err := o.Accounts.Disable(o.Context(), o.Tenant, "nobody"); err == nil {
		t.Fatal("an unknown account was disabled")
	}
	if o.Log.Count(`"email":"***"`) != 0 {
		t.Errorf("the log has an address where there is none:\n%s", o.Log)
	}
}

func TestSignupWithInvalidReservedNames(t *testing.T) {
	o := newFixture(t)
	o.Tenant.Reserved = []string{"a b"}
	for range 2 {
		if _, err := o.Accounts.Signup(o.Context(), o.Tenant, o.form("ann"), world.NewOrigin()); err == nil {
			t.Error("a signup succeeds although the reserved names cannot be read")
		}
	}
	o.Tenant.Reserved = nil
	o.signup("ann")
}

func TestVerifyReport(t *testing.T) {
	o := newFixture(t)
	o.signup("ann")
	before := o.Messages()
	o.signup("bob")
	_, content := o.newFile(before)
	o.opens(tokenIn(t, content))
	report := func() account.Report {
		t.Helper()
		r, err := account.Verify(o.Context(), o.Store, o.Pickup, o.SealRing)
		o.Must(err)
		return r
	}
	r := report()
	if r.Accounts != 2 || r.Active != 1 || r.Waiting != 2 || r.Messages != 2 ||
		len(r.Faults)+len(r.Notes) != 0 {
		t.Errorf("got %+v", r)
	}
	o.exec(`UPDATE account SET username = 'cid' WHERE username = 'ann'`)
	if r := report(); len(r.Faults) != 1 || !strings.HasPrefix(r.Faults[0], "account cid: sealed value does not open") {
		t.Errorf("a row with another name; the entry follows the account: got the faults %q", r.Faults)
	}
	o.exec(`UPDATE account SET username = 'ann' WHERE username = 'cid'`)
	o.exec(`DELETE FROM account WHERE username = 'bob'`)
	if r := report(); r.Accounts != 1 || len(r.Notes) != 1 {
		t.Errorf("a message without its account: got %+v", r)
	}
	o.exec(`UPDATE account SET token = x'00', has_sha256 = TRUE`)
	want := []string{"the row is wrong about having a SHA-256 digest", "pending without a link",
		"is not that of account ann"}
	r = report()
	for _, fault := range want {
		if !strings.Contains(strings.Join(r.Faults, "\n"), fault) {
			t.Errorf("there is no fault %q in %q", fault, r.Faults)
		}
	}
}

// TestVerifyLinks checks links in messages, which are a table of their own.
func TestVerifyLinks(t *testing.T) {
	o := newFixture(t)
	o.Member("ann")
	o.acknowledge()
	o.resetToken("ann")
	verify := func(want ...string) {
		t.Helper()
		r, err := account.Verify(o.Context(), o.Store, o.Pickup, o.SealRing)
		o.Must(err)
		if len(r.Faults) != len(want) || len(want) > 0 && !strings.Contains(r.Faults[0], want[0]) {
			t.Errorf("the faults are %q, want %q", r.Faults, want)
		}
	}
	verify()
	o.exec(`UPDATE link SET token = x'00'`)
	verify("account ann: a link without a token")
	o.exec(`DELETE FROM link`) // as after the use of the link
	verify()
}

// TestVerifyUnbound checks that credentials in the form of an earlier version are counted.
func TestVerifyUnbound(t *testing.T) {
	o := newFixture(t)
	o.AccountDeps.OldForm = func() bool { return true }
	o.Rebuild()
	o.Member("ann")
	_, err := o.change("ann", newPassword)
	o.Must(err)
	o.acknowledge()
	for binding, want := range map[account.Binding]string{
		account.Unbound: "[] [credentials that are not bound to their user names: 1; ",
		account.Bound:   "[account ann: its credential is not bound to its user name, though all have been; ",
	} {
		o.exec(fmt.Sprintf(`UPDATE revision SET n = %d WHERE subject = 'binding'`, binding))
		r, err := account.Verify(o.Context(), o.Store, o.Pickup, o.SealRing)
		o.Must(err)
		if got := fmt.Sprint(r.Faults, r.Notes); !strings.HasPrefix(got, want) || len(r.Faults)+len(r.Notes) != 1 {
			t.Errorf("binding %d: got %s", binding, got)
		}
	}
}

// TestMalformedSignupIsNotRecorded checks that requests that are not even forms cannot fill the audit log.
func TestMalformedSignupIsNotRecorded(t *testing.T) {
	o := newFixture(t)
	malformed := fault.New(fault.Invalid, "not a form")
	_, err := o.Accounts.Signup(o.Context(), o.Tenant, account.Form{Malformed: malformed}, from(1))
	o.Is(err, malformed)
	if o.Log.Count(`"msg":"signup"`) != 0 {
		t.Error("a malformed form is in the audit log")
	}
	_, err = o.Accounts.Signup(o.Context(), o.Tenant, account.Form{}, from(1))
	o.refused(err, fault.Invalid)
	if o.Log.Count(`"msg":"signup","outcome":"invalid_request"`) != 1 {
		t.Error("a form without its fields is not in the audit log")
	}
}
