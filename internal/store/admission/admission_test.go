package admission

import (
	"reflect"
	"slices"
	"testing"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/captcha"
	"dialtone/internal/throttle"
)

// TestDecide removes one reason for a refusal after the other, so that each row passes the checks
// of the rows before it.
func TestDecide(t *testing.T) {
	const minute = time.Minute
	holder := []byte("uid")
	wait, none := throttle.Wait{For: minute}, throttle.Wait{}
	for _, c := range []struct {
		name     string
		facts    Facts
		right    bool
		want     Decision
		ifChecks Decision // with CheckOnly
	}{
		{
			"address over its limit", Facts{wait, true, holder, true, wait}, false,
			Decision{Refusal: account.AddressLimit(minute)},
			Decision{Refusal: account.AddressLimit(minute)},
		},
		{
			"captcha used", Facts{none, true, holder, true, wait}, false,
			Decision{Refusal: account.ErrCaptcha},
			Decision{Refusal: account.ErrCaptcha},
		},
		{
			"wrong answer", Facts{none, false, holder, true, wait}, false,
			Decision{Refusal: account.ErrCaptcha, Spends: true},
			Decision{Refusal: account.ErrCaptcha, Spends: true},
		},
		{
			"name taken", Facts{none, false, holder, true, wait}, true,
			Decision{Refusal: account.ErrTaken, Spends: true},
			Decision{Refusal: account.ErrTaken, Spends: true},
		},
		{
			"recipient over its limit", Facts{none, false, holder, false, wait}, true,
			Decision{Refusal: account.RecipientLimit(minute)},
			Decision{Refusal: account.RecipientLimit(minute)},
		},
		{
			"name of an expired account", Facts{none, false, holder, false, none}, true,
			Decision{Spends: true, Admits: true, Clears: holder},
			Decision{},
		},
		{
			"free name", Facts{}, true,
			Decision{Spends: true, Admits: true},
			Decision{},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			for checkOnly, want := range map[bool]Decision{false: c.want, true: c.ifChecks} {
				a := account.Signup{Captcha: captcha.Proof{Ours: true, Right: c.right}, CheckOnly: checkOnly}
				if got := c.facts.Decide(a); !reflect.DeepEqual(got, want) {
					t.Errorf("CheckOnly %v: got %+v, want %+v", checkOnly, got, want)
				}
			}
		})
	}
}

func TestWaitSince(t *testing.T) {
	hourly := throttle.Allowance{Rule: throttle.Rule{Limit: 3, Per: time.Hour}}
	now := time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)
	for age, want := range map[time.Duration]time.Duration{
		-24 * time.Hour: time.Hour, 0: time.Hour, 20 * time.Minute: 40 * time.Minute, time.Hour: 0,
	} {
		if got := WaitSince(now.Add(-age), hourly, now).For; got != want {
			t.Errorf("the oldest use is %v old: got %v, want %v", age, got, want)
		}
	}
}

func TestAllowances(t *testing.T) {
	a := account.Signup{Recipient: allowance(3)}
	a.Address = append(make([]throttle.Allowance, 0, 10), allowance(1), allowance(2))
	all := Allowances(a)
	if !slices.Equal(all, []throttle.Allowance{allowance(1), allowance(2), allowance(3)}) {
		t.Errorf("got %v", all)
	}
	if a.Address[:3][2] != (throttle.Allowance{}) {
		t.Error("Allowances wrote to the array of Address")
	}
}

func allowance(bucket byte) throttle.Allowance {
	return throttle.Allowance{Bucket: throttle.Bucket{bucket}}
}

// TestKeys checks that two signups share a key exactly if they must not be decided at the same time.
func TestKeys(t *testing.T) {
	base := account.Signup{
		Account:   account.Account{UID: account.UID{1}, Tenant: 1, User: "ann"},
		Captcha:   captcha.Proof{Nonce: [16]byte{1}},
		Address:   []throttle.Allowance{allowance(1), allowance(2)},
		Recipient: allowance(3),
	}
	other := account.Signup{
		Account:   account.Account{UID: account.UID{2}, Tenant: 2, User: "bob"},
		Captcha:   captcha.Proof{Nonce: [16]byte{2}},
		Address:   []throttle.Allowance{allowance(4)},
		Recipient: allowance(5),
	}
	for _, c := range []struct {
		name   string
		change func(a *account.Signup)
		want   bool
	}{
		{"nothing in common", func(*account.Signup) {}, false},
		{"same captcha", func(a *account.Signup) { a.Captcha = base.Captcha }, true},
		{"same name", func(a *account.Signup) { a.Account.Tenant, a.Account.User = 1, "ann" }, true},
		{"same name of another tenant", func(a *account.Signup) { a.Account.User = "ann" }, false},
		{"other name of the tenant", func(a *account.Signup) { a.Account.Tenant = 1 }, false},
		{"same address", func(a *account.Signup) { a.Address = base.Address[1:] }, true},
		{"same recipient", func(a *account.Signup) { a.Recipient = base.Recipient }, true},
		{"address as recipient", func(a *account.Signup) { a.Recipient = base.Address[0] }, true},
	} {
		a := other
		c.change(&a)
		if got := share(Keys(base), Keys(a)); got != c.want {
			t.Errorf("%s: share a key: %v", c.name, got)
		}
	}
}

// A replacement of a link is not decided at the same time as another one of the same account, or as
// a signup with the same recipient.
func TestLinkKeys(t *testing.T) {
	replacement := func(uid byte, bucket byte) account.LinkReplacement {
		return account.LinkReplacement{
			Account:    account.Account{UID: account.UID{uid}, Tenant: 1},
			Allowances: []throttle.Allowance{allowance(bucket)},
		}
	}
	base := LinkKeys(replacement(1, 1))
	for name, c := range map[string]struct {
		keys []int64
		want bool
	}{
		"nothing in common":           {LinkKeys(replacement(2, 2)), false},
		"same account":                {LinkKeys(replacement(1, 2)), true},
		"same allowance":              {LinkKeys(replacement(2, 1)), true},
		"signup with the recipient":   {Keys(account.Signup{Recipient: allowance(1)}), true},
		"signup of another recipient": {Keys(account.Signup{Recipient: allowance(2)}), false},
	} {
		if got := share(base, c.keys); got != c.want {
			t.Errorf("%s: share a key: %v", name, got)
		}
	}
}

func share(a, b []int64) bool {
	return slices.ContainsFunc(a, func(key int64) bool { return slices.Contains(b, key) })
}
