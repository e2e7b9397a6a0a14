package conformance

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/captcha"
	"dialtone/internal/fault"
	"dialtone/internal/throttle"
)

// refusal is a reason for which Create refuses a signup. arrange makes Create refuse it, and matches
// reports whether an error is that refusal.
type refusal struct {
	name    string
	arrange func(*test, *account.Signup)
	matches func(error) bool
}

// refusals lists the refusals in the order in which Create checks for them.
var refusals = []refusal{
	{"the address is over its limit", func(t *test, a *account.Signup) {
		other := t.addPending("neighbour", noon)
		a.Address = []throttle.Allowance{allowance(other.Address[0].Bucket, 1)}
	}, sameMessage(account.AddressLimit(0))},
	{"the captcha is spent", func(t *test, a *account.Signup) {
		a.Captcha = t.addPending("earlier", noon).Captcha
	}, func(err error) bool { return errors.Is(err, account.ErrCaptcha) }},
	{"the name is taken", func(t *test, a *account.Signup) {
		t.addPending(a.Account.User, noon)
	}, func(err error) bool { return errors.Is(err, account.ErrTaken) }},
	{"the recipient is over its limit", func(t *test, a *account.Signup) {
		other := t.addPending("namesake", noon)
		a.Recipient = allowance(other.Recipient.Bucket, 1)
	}, sameMessage(account.RecipientLimit(0))},
}

// sameMessage returns a function that reports whether an error has the kind and the message of want.
func sameMessage(want error) func(error) bool {
	sentence, _ := errors.AsType[*fault.Error](want)
	return func(err error) bool {
		f, ok := errors.AsType[*fault.Error](err)
		return ok && f.Kind == sentence.Kind && f.Message == sentence.Message
	}
}

// orderTests returns a test for each set of refusals. Create returns the first of the set.
func orderTests() (tests []testCase) {
	for set := 1; set < 1<<len(refusals); set++ {
		var names []string
		first := -1
		for i, r := range refusals {
			if set&(1<<i) != 0 {
				names = append(names, r.name)
				if first < 0 {
					first = i
				}
			}
		}
		tests = append(tests, testCase{"refuses when " + strings.Join(names, " and "), func(t *test) {
			// The check comes first, and must change nothing for the signup that follows.
			for _, checkOnly := range []bool{true, false} {
				a := t.signup(fmt.Sprintf("ann%v", checkOnly), noon)
				a.CheckOnly = checkOnly
				for i, r := range refusals {
					if set&(1<<i) != 0 {
						t.freeNames()
						r.arrange(t, &a)
					}
				}
				if err := t.Create(t.ctx, a, noon); !refusals[first].matches(err) {
					t.Fatalf("CheckOnly %v: got %v, want the refusal because %s",
						checkOnly, err, refusals[first].name)
				}
			}
		}})
	}
	return tests
}

// freeNames deletes the accounts that refusals add.
func (t *test) freeNames() {
	for _, user := range []string{"neighbour", "earlier", "namesake"} {
		if err := t.Delete(t.ctx, t.tenant, user, noon); err != nil {
			t.wantKind(err, fault.NotFound)
		}
	}
}

var createTests = append(orderTests(), []testCase{
	{"adds the account as given, pending", func(t *test) {
		a := t.signup("ann", noon)
		a.Account.Name = "Анна ✆ O'Hara; DROP TABLE account --"
		a.Account.HasSHA256 = true
		t.must(t.Create(t.ctx, a, noon))
		t.wantAccount(t.find("ann", noon), a.Account)
		if !t.find("ann", noon).Pending() {
			t.Error("the account is not pending")
		}
	}},
	{"keeps every byte of sealed values", func(t *test) {
		a := t.signup("ann", noon)
		for i := range 256 {
			a.Account.Sealed = append(a.Account.Sealed, byte(i))
		}
		a.SealedToken = a.Account.Sealed[10:]
		t.must(t.Create(t.ctx, a, noon))
		t.wantAccount(t.find("ann", noon), a.Account)
		list, err := t.Pending(t.ctx)
		t.must(err)
		if len(list) != 1 || string(list[0].SealedToken) != string(a.SealedToken) || list[0].Message != a.Message {
			t.Errorf("got %v", list)
		}
	}},
	{"keeps times to the microsecond", func(t *test) {
		at := noon.Add(123456 * tick)
		a := t.addPending("ann", at)
		got := t.find("ann", at)
		if !got.Created.Equal(a.Account.Created) || !got.Expires.Equal(a.Account.Expires) {
			t.Errorf("got %v and %v", got.Created, got.Expires)
		}
	}},
	{"writes nothing when the address is over its limit", func(t *test) {
		first := t.addPending("first", noon)
		a := t.signup("ann", noon)
		a.Address = []throttle.Allowance{allowance(first.Address[0].Bucket, 1)}
		t.wantKind(t.Create(t.ctx, a, noon), fault.Limited)
		t.wantNoAccount("ann", noon)
		t.wantEqual(t.pendingUsers(), []string{"first"})
		t.must(t.Create(t.ctx, a, noon.Add(time.Hour)))
	}},
	{"uses no allowance when another is used up", func(t *test) {
		full := t.addPending("first", noon).Address[0].Bucket
		free := newBucket()
		a := t.signup("ann", noon)
		a.Address = []throttle.Allowance{allowance(free, 1), allowance(full, 1)}
		t.wantKind(t.Create(t.ctx, a, noon), fault.Limited)
		a.Address = a.Address[:1]
		t.must(t.Create(t.ctx, a, noon))
	}},
	{"writes nothing when the recipient is over its limit", func(t *test) {
		first := t.addPending("first", noon)
		a := t.signup("ann", noon)
		a.Address = []throttle.Allowance{allowance(newBucket(), 1)}
		full := a
		full.Recipient = allowance(first.Recipient.Bucket, 1)
		t.wantKind(t.Create(t.ctx, full, noon), fault.Limited)
		t.wantNoAccount("ann", noon)
		// The captcha, the name and the allowance of the address can still be used.
		t.must(t.Create(t.ctx, a, noon))
	}},
	{"spends the captcha on a taken name, and nothing else", func(t *test) {
		t.addPending("ann", noon)
		a := t.signup("ann", noon)
		a.Address = []throttle.Allowance{allowance(newBucket(), 1)}
		a.Recipient = allowance(newBucket(), 1)
		t.wantErr(t.Create(t.ctx, a, noon), account.ErrTaken)
		a.Account.User = "bob"
		t.wantErr(t.Create(t.ctx, a, noon), account.ErrCaptcha)
		a.Captcha = captchaProof()
		t.must(t.Create(t.ctx, a, noon))
	}},
	{"uses the allowances of the address and of the recipient", func(t *test) {
		a := t.signup("ann", noon)
		a.Address = []throttle.Allowance{allowance(newBucket(), 1), allowance(newBucket(), 1)}
		a.Recipient = allowance(newBucket(), 1)
		t.must(t.Create(t.ctx, a, noon))
		for i := range a.Address {
			other := t.signup("bob", noon)
			other.Address = a.Address[i : i+1]
			t.wantLimited(t.Create(t.ctx, other, noon), account.AddressLimit, time.Hour)
		}
		other := t.signup("bob", noon)
		other.Recipient = a.Recipient
		t.wantLimited(t.Create(t.ctx, other, noon), account.RecipientLimit, time.Hour)
	}},
	{"gives a name to one of 64 concurrent signups", func(t *test) {
		all := make([]account.Signup, 64)
		for i := range all {
			all[i] = t.signup("ann", noon)
		}
		got := t.concurrently(len(all), func(i int) error { return t.Create(t.ctx, all[i], noon) })
		if got[succeeded] != 1 || got[fault.Conflict] != 63 {
			t.Errorf("got %v, want one success and 63 conflicts", got)
		}
		t.wantEqual(t.pendingUsers(), []string{"ann"})
	}},
	{"admits three of 50 concurrent signups from one address", func(t *test) {
		all := make([]account.Signup, 50)
		from := newBucket()
		for i := range all {
			all[i] = t.signup(fmt.Sprint("ann", i), noon)
			all[i].Address = []throttle.Allowance{{Bucket: from, Rule: throttle.SignupsPerAddress}}
		}
		got := t.concurrently(len(all), func(i int) error { return t.Create(t.ctx, all[i], noon) })
		if got[succeeded] != 3 || got[fault.Limited] != 47 {
			t.Errorf("got %v, want three successes and 47 refusals", got)
		}
		if n := len(t.pendingUsers()); n != 3 {
			t.Errorf("%d messages are in the outbox", n)
		}
	}},
	{"admits three of 50 concurrent signups for one recipient", func(t *test) {
		all := make([]account.Signup, 50)
		to := newBucket()
		for i := range all {
			all[i] = t.signup(fmt.Sprint("ann", i), noon)
			all[i].Recipient.Bucket = to
		}
		got := t.concurrently(len(all), func(i int) error { return t.Create(t.ctx, all[i], noon) })
		if got[succeeded] != 3 || got[fault.Limited] != 47 {
			t.Errorf("got %v, want three successes and 47 refusals", got)
		}
	}},
	{"writes nothing when it only checks", func(t *test) {
		a := t.signup("ann", noon)
		a.Address = []throttle.Allowance{allowance(newBucket(), 1)}
		a.Recipient = allowance(newBucket(), 1)
		check := a
		check.CheckOnly = true
		for range 2 {
			t.must(t.Create(t.ctx, check, noon))
		}
		t.wantNoAccount("ann", noon)
		t.wantEqual(t.pendingUsers(), nil)
		t.must(t.Create(t.ctx, a, noon))
	}},
	{"refuses an account of a removed tenant", func(t *test) {
		a := t.signup("ann", noon)
		t.must(t.RemoveTenant(t.ctx, "phone.test", false, noon))
		if err := t.Create(t.ctx, a, noon); err == nil {
			t.Error("the account was created")
		}
		t.wantEqual(t.pendingUsers(), nil)
	}},
}...)

// wantAccount compares all fields of two accounts.
func (t *test) wantAccount(got, want account.Account) {
	t.Helper()
	if g, w := fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", want); g != w {
		t.Errorf("got  %s\nwant %s", g, w)
	}
}

var limitTests = []testCase{
	{"allow a signup again exactly when the oldest one leaves the window", func(t *test) {
		from := newBucket()
		for i, user := range []string{"ann", "bob", "cid"} {
			a := t.signup(user, noon)
			a.Address = []throttle.Allowance{allowance(from, 3)}
			t.must(t.Create(t.ctx, a, noon.Add(time.Duration(i)*time.Minute)))
		}
		a := t.signup("dan", noon)
		a.Address = []throttle.Allowance{allowance(from, 3)}
		t.wantLimited(t.Create(t.ctx, a, noon.Add(2*time.Minute)), account.AddressLimit, 58*time.Minute)
		t.wantLimited(t.Create(t.ctx, a, noon.Add(time.Hour-tick)), account.AddressLimit, time.Second)
		t.must(t.Create(t.ctx, a, noon.Add(time.Hour)))
		// The window slides: the next signup is allowed a minute later.
		a = t.signup("eve", noon)
		a.Address = []throttle.Allowance{allowance(from, 3)}
		t.wantLimited(t.Create(t.ctx, a, noon.Add(time.Hour)), account.AddressLimit, time.Minute)
		t.must(t.Create(t.ctx, a, noon.Add(time.Hour+time.Minute)))
	}},
	{"return the time to wait in whole seconds, rounded up", func(t *test) {
		from := newBucket()
		a := t.signup("ann", noon)
		a.Address = []throttle.Allowance{allowance(from, 1)}
		t.must(t.Create(t.ctx, a, noon))
		for _, c := range []struct{ after, wait time.Duration }{
			{0, time.Hour},
			{tick, time.Hour},
			{time.Second - tick, time.Hour},
			{time.Second, time.Hour - time.Second},
			{time.Hour - time.Second - tick, 2 * time.Second},
			{time.Hour - time.Second, time.Second},
			{time.Hour - tick, time.Second},
		} {
			a := t.signup("bob", noon)
			a.Address = []throttle.Allowance{allowance(from, 1)}
			t.wantLimited(t.Create(t.ctx, a, noon.Add(c.after)), account.AddressLimit, c.wait)
		}
	}},
	{"return the longest wait of several", func(t *test) {
		soon, late, unused := newBucket(), newBucket(), newBucket()
		a := t.signup("ann", noon)
		a.Address = []throttle.Allowance{allowance(soon, 1)}
		t.must(t.Create(t.ctx, a, noon))
		a = t.signup("bob", noon)
		a.Address = []throttle.Allowance{allowance(late, 1)}
		t.must(t.Create(t.ctx, a, noon.Add(30*time.Minute)))
		for _, order := range [][]throttle.Bucket{{soon, late, unused}, {late, unused, soon}, {unused, soon, late}} {
			a := t.signup("cid", noon)
			a.Address = nil
			for _, bucket := range order {
				a.Address = append(a.Address, allowance(bucket, 1))
			}
			t.wantLimited(t.Create(t.ctx, a, noon.Add(40*time.Minute)), account.AddressLimit, 50*time.Minute)
		}
	}},
	{"count the messages to a recipient for a day", func(t *test) {
		to := newBucket()
		rule := throttle.MessagesPerRecipient
		for i := range rule.Limit {
			a := t.signup(fmt.Sprint("ann", i), noon)
			a.Recipient.Bucket = to
			t.must(t.Create(t.ctx, a, noon.Add(time.Duration(i)*time.Hour)))
		}
		a := t.signup("bob", noon)
		a.Recipient.Bucket = to
		t.wantLimited(t.Create(t.ctx, a, noon.Add(2*time.Hour)), account.RecipientLimit, 22*time.Hour)
		t.wantLimited(t.Create(t.ctx, a, noon.Add(24*time.Hour-tick)), account.RecipientLimit, time.Second)
		t.must(t.Create(t.ctx, a, noon.Add(24*time.Hour)))
	}},
	{"count the messages to a recipient under each rule, and name the one that refuses", func(t *test) {
		all := throttle.Allowance{Bucket: newBucket(), Rule: throttle.Rule{Limit: 2, Per: 2 * time.Hour}, Limit: "all"}
		signup := func(user string) account.Signup {
			a := t.signup(user, noon)
			a.Recipient = throttle.Allowance{
				Bucket: newBucket(), Rule: throttle.Rule{Limit: 1, Per: time.Hour}, Limit: "one"}
			a.RecipientMore = []throttle.Allowance{all}
			return a
		}
		wantRefused := func(a account.Signup, limit string, wait time.Duration) {
			t.Helper()
			err := t.Create(t.ctx, a, noon.Add(time.Minute))
			t.wantLimited(err, account.RecipientLimit, wait)
			if fe, ok := errors.AsType[*fault.Error](err); !ok || fe.Limit != limit {
				t.Errorf("got the limit %q, want %q", fe.Limit, limit)
			}
		}
		ann := signup("ann")
		t.must(t.Create(t.ctx, ann, noon))
		again := signup("bob")
		again.Recipient = ann.Recipient
		wantRefused(again, "one", 59*time.Minute)
		bob := signup("bob")
		t.must(t.Create(t.ctx, bob, noon))
		wantRefused(signup("cid"), "all", 119*time.Minute)
		t.must(t.Undo(t.ctx, bob, noon))
		t.must(t.Create(t.ctx, signup("cid"), noon.Add(time.Minute)))
	}},
	{"count a signup whose account was deleted", func(t *test) {
		a := t.signup("ann", noon)
		a.Address = []throttle.Allowance{allowance(newBucket(), 1)}
		t.must(t.Create(t.ctx, a, noon))
		t.must(t.Delete(t.ctx, t.tenant, "ann", noon))
		again := t.signup("ann", noon)
		again.Address = a.Address
		t.wantKind(t.Create(t.ctx, again, noon), fault.Limited)
	}},
	{"refuse an address even without a captcha", func(t *test) {
		full := t.addPending("ann", noon)
		a := t.signup("bob", noon)
		a.Captcha = captcha.Proof{}
		a.Address = []throttle.Allowance{allowance(full.Address[0].Bucket, 1)}
		t.wantLimited(t.Create(t.ctx, a, noon), account.AddressLimit, time.Hour)
	}},
}

var captchaTests = []testCase{
	{"works once", func(t *test) {
		a := t.addPending("ann", noon)
		again := t.signup("bob", noon)
		again.Captcha = a.Captcha
		t.wantErr(t.Create(t.ctx, again, noon), account.ErrCaptcha)
		t.wantNoAccount("bob", noon)
	}},
	{"is spent by a wrong answer", func(t *test) {
		a := t.signup("ann", noon)
		a.Captcha.Right = false
		t.wantErr(t.Create(t.ctx, a, noon), account.ErrCaptcha)
		a.Captcha.Right = true
		t.wantErr(t.Create(t.ctx, a, noon), account.ErrCaptcha)
		a.Captcha = captchaProof()
		t.must(t.Create(t.ctx, a, noon))
	}},
	{"is not spent by a wrong answer from an address over its limit", func(t *test) {
		full := t.addPending("first", noon)
		a := t.signup("ann", noon)
		wrong := a
		wrong.Captcha.Right = false
		wrong.Address = []throttle.Allowance{allowance(full.Address[0].Bucket, 1)}
		t.wantKind(t.Create(t.ctx, wrong, noon), fault.Limited)
		t.must(t.Create(t.ctx, a, noon))
	}},
	{"is refused if the platform did not issue it", func(t *test) {
		a := t.signup("ann", noon)
		a.Captcha = captcha.Proof{}
		t.wantErr(t.Create(t.ctx, a, noon), account.ErrCaptcha)
		t.wantNoAccount("ann", noon)
		// The refusal did not spend the zero nonce.
		a.Captcha = captcha.Proof{Ours: true, Right: true, Expires: noon.Add(captcha.Life)}
		t.must(t.Create(t.ctx, a, noon))
	}},
	{"is refused with a wrong answer, whether the name is taken or not", func(t *test) {
		t.addPending("ann", noon)
		for _, user := range []string{"ann", "bob"} {
			a := t.signup(user, noon)
			a.Captcha.Right = false
			t.wantErr(t.Create(t.ctx, a, noon), account.ErrCaptcha)
		}
	}},
	{"uses no allowance with a wrong answer", func(t *test) {
		a := t.signup("ann", noon)
		a.Address = []throttle.Allowance{allowance(newBucket(), 1)}
		a.Recipient = allowance(newBucket(), 1)
		wrong := a
		wrong.Captcha.Right = false
		t.wantErr(t.Create(t.ctx, wrong, noon), account.ErrCaptcha)
		a.Captcha = captchaProof()
		t.must(t.Create(t.ctx, a, noon))
	}},
	{"admits one of 50 concurrent signups", func(t *test) {
		all := make([]account.Signup, 50)
		one := captchaProof()
		for i := range all {
			all[i] = t.signup(fmt.Sprint("ann", i), noon)
			all[i].Captcha = one
		}
		got := t.concurrently(len(all), func(i int) error { return t.Create(t.ctx, all[i], noon) })
		if got[succeeded] != 1 || got[fault.Captcha] != 49 {
			t.Errorf("got %v, want one success and 49 refusals", got)
		}
	}},
}

var undoTests = []testCase{
	{"gives back the name, the captcha and every allowance", func(t *test) {
		a := t.signup("ann", noon)
		a.Address = []throttle.Allowance{allowance(newBucket(), 1), allowance(newBucket(), 1)}
		a.Recipient = allowance(newBucket(), 1)
		for range 3 {
			t.must(t.Create(t.ctx, a, noon))
			t.must(t.Undo(t.ctx, a, noon))
			t.wantNoAccount("ann", noon)
			t.wantEqual(t.pendingUsers(), nil)
			_, err := t.Activate(t.ctx, t.tenant, a.Token, noon)
			t.wantKind(err, fault.NotFound)
		}
		t.must(t.Create(t.ctx, a, noon))
	}},
	{"is idempotent", func(t *test) {
		a := t.addPending("ann", noon)
		for range 3 {
			t.must(t.Undo(t.ctx, a, noon))
		}
		t.must(t.Create(t.ctx, a, noon))
	}},
	{"does nothing if nothing was created", func(t *test) {
		t.must(t.Undo(t.ctx, t.signup("ann", noon), noon))
	}},
	{"gives back no more than was used", func(t *test) {
		from := newBucket()
		for i := range 2 {
			a := t.signup(fmt.Sprint("ann", i), noon)
			a.Address = []throttle.Allowance{allowance(from, 3)}
			t.must(t.Create(t.ctx, a, noon))
		}
		third := t.signup("cid", noon)
		third.Address = []throttle.Allowance{allowance(from, 3)}
		t.must(t.Create(t.ctx, third, noon))
		for range 2 {
			t.must(t.Undo(t.ctx, third, noon))
		}
		for i, want := range []fault.Kind{succeeded, fault.Limited} {
			a := t.signup(fmt.Sprint("dan", i), noon)
			a.Address = []throttle.Allowance{allowance(from, 3)}
			if err := t.Create(t.ctx, a, noon); (err == nil) != (want == succeeded) {
				t.Errorf("signup %d after Undo: %v", i, err)
			}
		}
	}},
	{"does not remove an active account", func(t *test) {
		a := t.addActive("ann", noon)
		t.must(t.Undo(t.ctx, a, noon))
		if got := t.find("ann", noon); got.Disabled {
			t.Error("the account is disabled")
		}
		t.wantEqual(t.pendingUsers(), []string{"ann"})
		again := t.signup("bob", noon)
		again.Captcha = a.Captcha
		t.wantErr(t.Create(t.ctx, again, noon), account.ErrCaptcha)
	}},
	{"does not remove an account that was acknowledged", func(t *test) {
		a := t.addPending("ann", noon)
		for range 2 {
			t.must(t.Acknowledge(t.ctx, t.tenant, a.Account.UID, noon))
		}
		t.must(t.Undo(t.ctx, a, noon))
		t.wantEqual(t.pendingUsers(), []string{"ann"})
		again := t.signup("bob", noon)
		again.Captcha = a.Captcha
		t.wantErr(t.Create(t.ctx, again, noon), account.ErrCaptcha)
		got, err := t.Activate(t.ctx, t.tenant, a.Token, noon)
		t.must(err)
		if got.User != "ann" || got.Disabled {
			t.Errorf("got %+v", got)
		}
	}},
	{"removes an account, which then cannot be acknowledged", func(t *test) {
		a, b := t.addPending("ann", noon), t.addActive("bob", noon)
		t.wantKind(t.Acknowledge(t.ctx, t.tenant+1, a.Account.UID, noon), fault.NotFound)
		t.wantKind(t.Acknowledge(t.ctx, t.tenant, b.Account.UID, noon), fault.NotFound)
		t.wantKind(t.Acknowledge(t.ctx, t.tenant, a.Account.UID, a.Account.Expires), fault.NotFound)
		t.must(t.Undo(t.ctx, a, noon))
		t.wantNoAccount("ann", noon)
		t.wantKind(t.Acknowledge(t.ctx, t.tenant, a.Account.UID, noon), fault.NotFound)
	}},
	{"does not remove the next account of the same name", func(t *test) {
		a := t.addPending("ann", noon)
		t.must(t.Undo(t.ctx, a, noon))
		next := t.addPending("ann", noon)
		t.must(t.Undo(t.ctx, a, noon))
		t.wantAccount(t.find("ann", noon), next.Account)
	}},
}
