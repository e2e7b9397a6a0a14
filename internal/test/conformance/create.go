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

// obstacle is one of the things that Create checks, in the order in which it does.
type obstacle struct {
	name  string
	raise func(*bench, *account.Signup)
	meets func(error) bool
}

var obstacles = []obstacle{
	{"the address is full", func(b *bench, a *account.Signup) {
		full := b.join("neighbour", noon)
		a.Address = []throttle.Allowance{place(full.Address[0].Bucket, 1)}
	}, saysLike(account.AddressLimit(0))},
	{"the captcha was spent", func(b *bench, a *account.Signup) {
		a.Captcha = b.join("earlier", noon).Captcha
	}, func(err error) bool { return errors.Is(err, account.ErrCaptcha) }},
	{"the name is taken", func(b *bench, a *account.Signup) {
		b.join(a.Account.User, noon)
	}, func(err error) bool { return errors.Is(err, account.ErrTaken) }},
	{"the recipient has had enough", func(b *bench, a *account.Signup) {
		full := b.join("namesake", noon)
		a.Recipient = place(full.Recipient.Bucket, 1)
	}, saysLike(account.RecipientLimit(0))},
}

func saysLike(want error) func(error) bool {
	sentence, _ := errors.AsType[*fault.Error](want)
	return func(err error) bool {
		f, ok := errors.AsType[*fault.Error](err)
		return ok && f.Kind == sentence.Kind && f.Message == sentence.Message
	}
}

// orderRules are every set of obstacles: the first one of them is what Create fails with.
func orderRules() (rules []rule) {
	for set := 1; set < 1<<len(obstacles); set++ {
		var names []string
		first := -1
		for i, o := range obstacles {
			if set&(1<<i) != 0 {
				names = append(names, o.name)
				if first < 0 {
					first = i
				}
			}
		}
		rules = append(rules, rule{"is refused when " + strings.Join(names, " and "), func(b *bench) {
			// The check comes first. It must change nothing for the signup that follows.
			for _, checkOnly := range []bool{true, false} {
				a := b.admission(fmt.Sprintf("ann%v", checkOnly), noon)
				a.CheckOnly = checkOnly
				for i, o := range obstacles {
					if set&(1<<i) != 0 {
						b.clear()
						o.raise(b, &a)
					}
				}
				if err := b.Create(b.ctx, a, noon); !obstacles[first].meets(err) {
					b.Fatalf("check only %v: got %v, want the refusal because %s",
						checkOnly, err, obstacles[first].name)
				}
			}
		}})
	}
	return rules
}

// clear gives the names free that obstacles take.
func (b *bench) clear() {
	for _, user := range []string{"neighbour", "earlier", "namesake"} {
		if err := b.Delete(b.ctx, b.tenant, user, noon); err != nil {
			b.refused(err, fault.NotFound)
		}
	}
}

var createRules = append(orderRules(), []rule{
	{"adds the account as it was given, pending", func(b *bench) {
		a := b.admission("ann", noon)
		a.Account.Name = "Анна ✆ O'Hara; DROP TABLE account --"
		a.Account.HasSHA256 = true
		b.must(b.Create(b.ctx, a, noon))
		b.same(b.find("ann", noon), a.Account)
		if !b.find("ann", noon).Pending() {
			b.Error("the account does not wait for its link")
		}
	}},
	{"keeps every byte of what is sealed", func(b *bench) {
		a := b.admission("ann", noon)
		for i := range 256 {
			a.Account.Sealed = append(a.Account.Sealed, byte(i))
		}
		a.SealedToken = a.Account.Sealed[10:]
		b.must(b.Create(b.ctx, a, noon))
		b.same(b.find("ann", noon), a.Account)
		list, err := b.Pending(b.ctx)
		b.must(err)
		if len(list) != 1 || string(list[0].SealedToken) != string(a.SealedToken) || list[0].Message != a.Message {
			b.Errorf("got %v", list)
		}
	}},
	{"keeps the time to the microsecond", func(b *bench) {
		at := noon.Add(123456 * tick)
		a := b.join("ann", at)
		got := b.find("ann", at)
		if !got.Created.Equal(a.Account.Created) || !got.Expires.Equal(a.Account.Expires) {
			b.Errorf("got %v and %v", got.Created, got.Expires)
		}
	}},
	{"leaves nothing when the address is full", func(b *bench) {
		first := b.join("first", noon)
		a := b.admission("ann", noon)
		a.Address = []throttle.Allowance{place(first.Address[0].Bucket, 1)}
		b.refused(b.Create(b.ctx, a, noon), fault.Limited)
		b.absent("ann", noon)
		b.equal(b.waiting(), []string{"first"})
		b.must(b.Create(b.ctx, a, noon.Add(time.Hour)))
	}},
	{"takes no place of one rule when another is full", func(b *bench) {
		full := b.join("first", noon).Address[0].Bucket
		site := bucket()
		a := b.admission("ann", noon)
		a.Address = []throttle.Allowance{place(site, 1), place(full, 1)}
		b.refused(b.Create(b.ctx, a, noon), fault.Limited)
		a.Address = a.Address[:1]
		b.must(b.Create(b.ctx, a, noon))
	}},
	{"leaves nothing when the recipient has had enough", func(b *bench) {
		first := b.join("first", noon)
		a := b.admission("ann", noon)
		a.Address = []throttle.Allowance{place(bucket(), 1)}
		full := a
		full.Recipient = place(first.Recipient.Bucket, 1)
		b.refused(b.Create(b.ctx, full, noon), fault.Limited)
		b.absent("ann", noon)
		b.must(b.Create(b.ctx, a, noon)) // with the same captcha, the same name and the only place of the address
	}},
	{"spends the captcha on a taken name, and nothing else", func(b *bench) {
		b.join("ann", noon)
		a := b.admission("ann", noon)
		a.Address = []throttle.Allowance{place(bucket(), 1)}
		a.Recipient = place(bucket(), 1)
		b.is(b.Create(b.ctx, a, noon), account.ErrTaken)
		a.Account.User = "bob"
		b.is(b.Create(b.ctx, a, noon), account.ErrCaptcha)
		a.Captcha = proof()
		b.must(b.Create(b.ctx, a, noon))
	}},
	{"takes a place of the address and of the recipient", func(b *bench) {
		a := b.admission("ann", noon)
		a.Address = []throttle.Allowance{place(bucket(), 1), place(bucket(), 1)}
		a.Recipient = place(bucket(), 1)
		b.must(b.Create(b.ctx, a, noon))
		for i := range a.Address {
			other := b.admission("bob", noon)
			other.Address = a.Address[i : i+1]
			b.limited(b.Create(b.ctx, other, noon), account.AddressLimit, time.Hour)
		}
		other := b.admission("bob", noon)
		other.Recipient = a.Recipient
		b.limited(b.Create(b.ctx, other, noon), account.RecipientLimit, time.Hour)
	}},
	{"gives a name to one of 64 at once", func(b *bench) {
		all := make([]account.Signup, 64)
		for i := range all {
			all[i] = b.admission("ann", noon)
		}
		got := b.crowd(len(all), func(i int) error { return b.Create(b.ctx, all[i], noon) })
		if got[-1] != 1 || got[fault.Conflict] != 63 {
			b.Errorf("got %v, want one success and 63 conflicts", got)
		}
		b.equal(b.waiting(), []string{"ann"})
	}},
	{"gives three places of an address to 50 at once", func(b *bench) {
		all := make([]account.Signup, 50)
		from := bucket()
		for i := range all {
			all[i] = b.admission(fmt.Sprint("ann", i), noon)
			all[i].Address = []throttle.Allowance{{Bucket: from, Rule: throttle.SignupsPerAddress}}
		}
		got := b.crowd(len(all), func(i int) error { return b.Create(b.ctx, all[i], noon) })
		if got[-1] != 3 || got[fault.Limited] != 47 {
			b.Errorf("got %v, want three successes and 47 refusals", got)
		}
		if n := len(b.waiting()); n != 3 {
			b.Errorf("%d messages wait", n)
		}
	}},
	{"gives three places of a recipient to 50 at once", func(b *bench) {
		all := make([]account.Signup, 50)
		to := bucket()
		for i := range all {
			all[i] = b.admission(fmt.Sprint("ann", i), noon)
			all[i].Recipient.Bucket = to
		}
		got := b.crowd(len(all), func(i int) error { return b.Create(b.ctx, all[i], noon) })
		if got[-1] != 3 || got[fault.Limited] != 47 {
			b.Errorf("got %v, want three successes and 47 refusals", got)
		}
	}},
	{"checks and writes nothing when it is to check only", func(b *bench) {
		a := b.admission("ann", noon)
		a.Address = []throttle.Allowance{place(bucket(), 1)}
		a.Recipient = place(bucket(), 1)
		check := a
		check.CheckOnly = true
		for range 2 {
			b.must(b.Create(b.ctx, check, noon))
		}
		b.absent("ann", noon)
		b.equal(b.waiting(), nil)
		b.must(b.Create(b.ctx, a, noon))
	}},
	{"refuses an account of a tenant that is gone", func(b *bench) {
		a := b.admission("ann", noon)
		b.must(b.RemoveTenant(b.ctx, "phone.test", false, noon))
		if err := b.Create(b.ctx, a, noon); err == nil {
			b.Error("an account was made that nobody can reach")
		}
		b.equal(b.waiting(), nil)
	}},
}...)

// same compares the account that the store gives with the one that it was given.
func (b *bench) same(got, want account.Account) {
	b.Helper()
	if g, w := fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", want); g != w {
		b.Errorf("got  %s\nwant %s", g, w)
	}
}

var limitRules = []rule{
	{"frees a place when it is exactly as old as the rule says", func(b *bench) {
		from := bucket()
		for i, user := range []string{"ann", "bob", "cid"} {
			a := b.admission(user, noon)
			a.Address = []throttle.Allowance{place(from, 3)}
			b.must(b.Create(b.ctx, a, noon.Add(time.Duration(i)*time.Minute)))
		}
		a := b.admission("dan", noon)
		a.Address = []throttle.Allowance{place(from, 3)}
		b.limited(b.Create(b.ctx, a, noon.Add(2*time.Minute)), account.AddressLimit, 58*time.Minute)
		b.limited(b.Create(b.ctx, a, noon.Add(time.Hour-tick)), account.AddressLimit, time.Second)
		b.must(b.Create(b.ctx, a, noon.Add(time.Hour)))
		// The next one is free a minute later, and not at the turn of an hour.
		a = b.admission("eve", noon)
		a.Address = []throttle.Allowance{place(from, 3)}
		b.limited(b.Create(b.ctx, a, noon.Add(time.Hour)), account.AddressLimit, time.Minute)
		b.must(b.Create(b.ctx, a, noon.Add(time.Hour+time.Minute)))
	}},
	{"tells of the time to wait in whole seconds, rounded up", func(b *bench) {
		from := bucket()
		a := b.admission("ann", noon)
		a.Address = []throttle.Allowance{place(from, 1)}
		b.must(b.Create(b.ctx, a, noon))
		for _, c := range []struct{ after, wait time.Duration }{
			{0, time.Hour},
			{tick, time.Hour},
			{time.Second - tick, time.Hour},
			{time.Second, time.Hour - time.Second},
			{time.Hour - time.Second - tick, 2 * time.Second},
			{time.Hour - time.Second, time.Second},
			{time.Hour - tick, time.Second},
		} {
			a := b.admission("bob", noon)
			a.Address = []throttle.Allowance{place(from, 1)}
			b.limited(b.Create(b.ctx, a, noon.Add(c.after)), account.AddressLimit, c.wait)
		}
	}},
	{"tells of the longest wait where several rules are full", func(b *bench) {
		soon, late, free := bucket(), bucket(), bucket()
		a := b.admission("ann", noon)
		a.Address = []throttle.Allowance{place(soon, 1)}
		b.must(b.Create(b.ctx, a, noon))
		a = b.admission("bob", noon)
		a.Address = []throttle.Allowance{place(late, 1)}
		b.must(b.Create(b.ctx, a, noon.Add(30*time.Minute)))
		for _, order := range [][]throttle.Bucket{{soon, late, free}, {late, free, soon}, {free, soon, late}} {
			a := b.admission("cid", noon)
			a.Address = nil
			for _, bucket := range order {
				a.Address = append(a.Address, place(bucket, 1))
			}
			b.limited(b.Create(b.ctx, a, noon.Add(40*time.Minute)), account.AddressLimit, 50*time.Minute)
		}
	}},
	{"counts a recipient's messages over a day", func(b *bench) {
		to := bucket()
		rule := throttle.MessagesPerRecipient
		for i := range rule.Limit {
			a := b.admission(fmt.Sprint("ann", i), noon)
			a.Recipient.Bucket = to
			b.must(b.Create(b.ctx, a, noon.Add(time.Duration(i)*time.Hour)))
		}
		a := b.admission("bob", noon)
		a.Recipient.Bucket = to
		b.limited(b.Create(b.ctx, a, noon.Add(2*time.Hour)), account.RecipientLimit, 22*time.Hour)
		b.limited(b.Create(b.ctx, a, noon.Add(24*time.Hour-tick)), account.RecipientLimit, time.Second)
		b.must(b.Create(b.ctx, a, noon.Add(24*time.Hour)))
	}},
	{"counts a signup whose account was deleted", func(b *bench) {
		a := b.admission("ann", noon)
		a.Address = []throttle.Allowance{place(bucket(), 1)}
		b.must(b.Create(b.ctx, a, noon))
		b.must(b.Delete(b.ctx, b.tenant, "ann", noon))
		again := b.admission("ann", noon)
		again.Address = a.Address
		b.refused(b.Create(b.ctx, again, noon), fault.Limited)
	}},
	{"needs no captcha to refuse an address", func(b *bench) {
		full := b.join("ann", noon)
		a := b.admission("bob", noon)
		a.Captcha = captcha.Proof{}
		a.Address = []throttle.Allowance{place(full.Address[0].Bucket, 1)}
		b.limited(b.Create(b.ctx, a, noon), account.AddressLimit, time.Hour)
	}},
}

var captchaRules = []rule{
	{"works once", func(b *bench) {
		a := b.join("ann", noon)
		again := b.admission("bob", noon)
		again.Captcha = a.Captcha
		b.is(b.Create(b.ctx, again, noon), account.ErrCaptcha)
		b.absent("bob", noon)
	}},
	{"is spent by a wrong answer", func(b *bench) {
		a := b.admission("ann", noon)
		a.Captcha.Right = false
		b.is(b.Create(b.ctx, a, noon), account.ErrCaptcha)
		a.Captcha.Right = true
		b.is(b.Create(b.ctx, a, noon), account.ErrCaptcha)
		a.Captcha = proof()
		b.must(b.Create(b.ctx, a, noon))
	}},
	{"is not spent by a wrong answer from an address that is full", func(b *bench) {
		full := b.join("first", noon)
		a := b.admission("ann", noon)
		wrong := a
		wrong.Captcha.Right = false
		wrong.Address = []throttle.Allowance{place(full.Address[0].Bucket, 1)}
		b.refused(b.Create(b.ctx, wrong, noon), fault.Limited)
		b.must(b.Create(b.ctx, a, noon))
	}},
	{"is refused where it is none of ours", func(b *bench) {
		a := b.admission("ann", noon)
		a.Captcha = captcha.Proof{}
		b.is(b.Create(b.ctx, a, noon), account.ErrCaptcha)
		b.absent("ann", noon)
		a.Captcha = captcha.Proof{Ours: true, Right: true, Expires: noon.Add(captcha.Life)} // with the nonce of zeros
		b.must(b.Create(b.ctx, a, noon))
	}},
	{"that is wrong is refused whether the name is taken or not", func(b *bench) {
		b.join("ann", noon)
		for _, user := range []string{"ann", "bob"} {
			a := b.admission(user, noon)
			a.Captcha.Right = false
			b.is(b.Create(b.ctx, a, noon), account.ErrCaptcha)
		}
	}},
	{"takes no place when it is wrong", func(b *bench) {
		a := b.admission("ann", noon)
		a.Address = []throttle.Allowance{place(bucket(), 1)}
		a.Recipient = place(bucket(), 1)
		wrong := a
		wrong.Captcha.Right = false
		b.is(b.Create(b.ctx, wrong, noon), account.ErrCaptcha)
		a.Captcha = proof()
		b.must(b.Create(b.ctx, a, noon))
	}},
	{"makes one account of 50 at once", func(b *bench) {
		all := make([]account.Signup, 50)
		one := proof()
		for i := range all {
			all[i] = b.admission(fmt.Sprint("ann", i), noon)
			all[i].Captcha = one
		}
		got := b.crowd(len(all), func(i int) error { return b.Create(b.ctx, all[i], noon) })
		if got[-1] != 1 || got[fault.Captcha] != 49 {
			b.Errorf("got %v, want one success and 49 refusals", got)
		}
	}},
}

var undoRules = []rule{
	{"gives back the name, the captcha and every place", func(b *bench) {
		a := b.admission("ann", noon)
		a.Address = []throttle.Allowance{place(bucket(), 1), place(bucket(), 1)}
		a.Recipient = place(bucket(), 1)
		for range 3 {
			b.must(b.Create(b.ctx, a, noon))
			b.must(b.Undo(b.ctx, a, noon))
			b.absent("ann", noon)
			b.equal(b.waiting(), nil)
			_, err := b.Activate(b.ctx, b.tenant, a.Token, noon)
			b.refused(err, fault.NotFound)
		}
		b.must(b.Create(b.ctx, a, noon))
	}},
	{"may be repeated", func(b *bench) {
		a := b.join("ann", noon)
		for range 3 {
			b.must(b.Undo(b.ctx, a, noon))
		}
		b.must(b.Create(b.ctx, a, noon))
	}},
	{"does nothing where nothing was created", func(b *bench) {
		b.must(b.Undo(b.ctx, b.admission("ann", noon), noon))
	}},
	{"gives back no more than was taken", func(b *bench) {
		from := bucket()
		for i := range 2 {
			a := b.admission(fmt.Sprint("ann", i), noon)
			a.Address = []throttle.Allowance{place(from, 3)}
			b.must(b.Create(b.ctx, a, noon))
		}
		third := b.admission("cid", noon)
		third.Address = []throttle.Allowance{place(from, 3)}
		b.must(b.Create(b.ctx, third, noon))
		for range 2 {
			b.must(b.Undo(b.ctx, third, noon))
		}
		for i, want := range []fault.Kind{-1, fault.Limited} {
			a := b.admission(fmt.Sprint("dan", i), noon)
			a.Address = []throttle.Allowance{place(from, 3)}
			if err := b.Create(b.ctx, a, noon); (err == nil) != (want == -1) {
				b.Errorf("signup %d after the undoing: %v", i, err)
			}
		}
	}},
	{"leaves an account alone that was activated", func(b *bench) {
		a := b.member("ann", noon)
		b.must(b.Undo(b.ctx, a, noon))
		if got := b.find("ann", noon); got.Disabled {
			b.Error("the account is disabled")
		}
		b.equal(b.waiting(), []string{"ann"})
		again := b.admission("bob", noon)
		again.Captcha = a.Captcha
		b.is(b.Create(b.ctx, again, noon), account.ErrCaptcha)
	}},
	{"leaves the next account of the same name alone", func(b *bench) {
		a := b.join("ann", noon)
		b.must(b.Undo(b.ctx, a, noon))
		next := b.join("ann", noon)
		b.must(b.Undo(b.ctx, a, noon))
		b.same(b.find("ann", noon), next.Account)
	}},
}
