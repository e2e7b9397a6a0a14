package account_test

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/digest"
	"dialtone/internal/fault"
	"dialtone/internal/tenant"
	"dialtone/internal/throttle"
)

// formFor returns a form for another tenant and address.
func (o *fixture) formFor(t *tenant.Tenant, user, email string) account.Form {
	o.Helper()
	f := account.Form{User: user, Name: "Ann Example", Email: email,
		HA1: digest.Compute(user, t.Realm, password).Hex()}
	f.CaptchaToken, f.CaptchaAnswer = o.answered(t.ID)
	return f
}

// A person gets ten messages a day from all tenants together, no matter how the address is spelled.
func TestMessagesPerPerson(t *testing.T) {
	o := newFixture(t)
	spellings := []string{"v.w@gmail.com", "vw+1@gmail.com", "V.W@googlemail.com"}
	sent := 0
	for i := range 8 {
		host := fmt.Sprintf("t%d.test", i)
		o.AddTenant(tenant.Tenant{Host: host})
		at := o.At(host).Tenant
		for j, email := range spellings {
			_, err := o.Accounts.Signup(o.Context(), at, o.formFor(at, "ann", email), from(100*i+j))
			if err == nil {
				sent++
				o.exec(`DELETE FROM account`)
			} else if !fault.Is(err, fault.Limited) || !strings.Contains(err.Error(), "e-mail address") {
				t.Fatalf("%s at %s: %v", email, host, err)
			}
		}
	}
	if want := throttle.MessagesPerPerson.Limit; sent != want {
		t.Errorf("%d messages were sent, want %d", sent, want)
	}
	o.Set(o.Now().Add(24 * time.Hour))
	at := o.At("t7.test").Tenant
	_, err := o.Accounts.Signup(o.Context(), at, o.formFor(at, "ann", spellings[0]), from(9))
	o.Must(err)
}

// With a single tenant, the tenant's own limit is the lower one, and a signup counts towards no other.
func TestMessagesPerPersonOfOneTenant(t *testing.T) {
	for one, want := range map[bool]int{false: 3, true: 2} { // with the place of the address
		o := newFixture(t)
		o.AccountDeps.OneTenant = func() bool { return one }
		o.Rebuild()
		o.signup("ann")
		if got := o.count(`SELECT count(*) FROM taken`); got != want {
			t.Errorf("one tenant is %v: the signup takes %d places, want %d", one, got, want)
		}
	}
}

// The owner of a pending account can correct the address, but cannot have messages sent to many strangers.
func TestAddressChangesPerAccount(t *testing.T) {
	o := newFixture(t)
	a := o.pending("ann")
	resend := func(email string) error {
		b, err := o.Accounts.Resend(o.Context(), o.Tenant, a, email, from(1))
		if err == nil {
			a = b
		}
		return err
	}
	o.Must(resend("right@mail.test"))
	for _, email := range []string{"one@mail.test", "two@mail.test"} {
		err := resend(email)
		o.refused(err, fault.Limited)
		if !strings.Contains(err.Error(), "once a day") {
			t.Errorf("%s: %v", email, err)
		}
	}
	o.Must(resend("")) // to the address that it has now
	o.Set(o.Now().Add(24 * time.Hour))
	o.Must(resend("one@mail.test"))
}

// Each limit has its own name in the log, and a tenant's ceiling has its own sentence.
func TestCauseOfRefusal(t *testing.T) {
	tenants := "too many people are signing up here at the moment; try again later"
	for _, c := range []struct {
		limit, rule, sentence string
		exhaust               func(*fixture) error // returns the first refusal
	}{
		{"address", "accounts", "too many accounts were created from your network", func(o *fixture) error {
			return o.untilLimited(func(i int) account.Form { return o.form(fmt.Sprint("ann", i)) },
				func(int) netip.Addr { return netip.MustParseAddr("192.0.2.1") })
		}},
		{"site", "accounts", "too many accounts were created from your network", func(o *fixture) error {
			return o.untilLimited(func(i int) account.Form { return o.form(fmt.Sprint("ann", i)) },
				func(i int) netip.Addr { return netip.MustParseAddr(fmt.Sprintf("2001:db8:0:%x::1", i)) })
		}},
		{"tenant", "platform", tenants, func(o *fixture) error {
			o.Tenant.SignupsPerHour = 2
			return o.untilLimited(func(i int) account.Form { return o.form(fmt.Sprint("ann", i)) }, nil)
		}},
		{"recipient", "recipient", "too many messages to this e-mail address", func(o *fixture) error {
			return o.untilLimited(func(i int) account.Form {
				return o.formFor(o.Tenant, fmt.Sprint("ann", i), "one@mail.test")
			}, nil)
		}},
		{"failures", "", "too many failed attempts", func(o *fixture) error {
			return o.untilLimited(func(int) account.Form {
				f := o.form("ann")
				f.CaptchaAnswer = "99"
				return f
			}, func(int) netip.Addr { return netip.MustParseAddr("192.0.2.1") })
		}},
		{"failures_site", "", "too many failed attempts", func(o *fixture) error {
			bad := o.form("ann")
			bad.HA1 = "x"
			site := func(i int) netip.Addr {
				return netip.MustParseAddr(fmt.Sprintf("2001:db8:0:%x::1", i%8))
			}
			for i := range throttle.FailedSignupsPerSite.Limit {
				origin := from(i)
				origin.Addr = site(i)
				if _, err := o.Accounts.Signup(o.Context(), o.Tenant, bad, origin); !fault.Is(err, fault.Invalid) {
					return err
				}
			}
			other := from(1)
			other.Addr = netip.MustParseAddr("2001:db8:1::1")
			if _, err := o.Accounts.Signup(o.Context(), o.Tenant, o.form("bob"), other); err != nil {
				return err
			}
			return o.untilLimited(func(int) account.Form { return o.form("ann") }, site)
		}},
		{"address_change", "", "the address can be changed once a day", func(o *fixture) error {
			a := o.pending("ann")
			for _, email := range []string{"one@mail.test", "two@mail.test"} {
				var err error
				if a, err = o.Accounts.Resend(o.Context(), o.Tenant, a, email, from(1)); err != nil {
					return err
				}
			}
			return nil
		}},
	} {
		t.Run(c.limit, func(t *testing.T) {
			o := newFixture(t)
			err := c.exhaust(o)
			if !fault.Is(err, fault.Limited) || !strings.Contains(err.Error(), c.sentence) {
				t.Fatalf("got %v", err)
			}
			if fe, _ := errors.AsType[*fault.Error](err); fe.Rule != c.rule {
				t.Errorf("the rule is %q, want %q", fe.Rule, c.rule)
			}
			if log := o.Log.String(); !strings.Contains(log, `"detail":"`+c.limit+`"`) {
				t.Errorf("the log does not name the limit:\n%s", log)
			}
		})
	}
}

// untilLimited signs up until a limit refuses. If from is nil, each signup is from another address.
func (o *fixture) untilLimited(form func(int) account.Form, peer func(int) netip.Addr) error {
	o.Helper()
	for i := range 70 {
		origin := from(i)
		if peer != nil {
			origin.Addr = peer(i)
		}
		if _, err := o.Accounts.Signup(o.Context(), o.Tenant, form(i), origin); fault.Is(err, fault.Limited) {
			return err
		}
	}
	return nil
}

// A fault of the platform does not count as a failure of the sender.
func TestFaultIsNoFailure(t *testing.T) {
	o := newFixture(t)
	o.Tenant.Reserved = []string{"Not a name"}
	for range throttle.FailedSignups.Limit {
		_, err := o.Accounts.Signup(o.Context(), o.Tenant, o.form("ann"), from(1))
		o.refused(err, fault.Internal)
	}
	o.Tenant.Reserved = nil
	_, err := o.Accounts.Signup(o.Context(), o.Tenant, o.form("ann"), from(1))
	o.Must(err)
}
