package conformance

import (
	"time"

	"dialtone/internal/account"
	"dialtone/internal/delivery"
	"dialtone/internal/hook"
	operators "dialtone/internal/operator"
	"dialtone/internal/stats"
	"dialtone/internal/throttle"
)

// year is how far the clock was ahead.
const year = 365 * 24 * time.Hour

// correctFuture calls CorrectFuture and wants it to find a number of times.
func (t *test) correctFuture(now time.Time, want int64) {
	t.Helper()
	got, err := t.CorrectFuture(t.ctx, now)
	t.must(err)
	if got != want {
		t.Errorf("CorrectFuture found %d times, want %d", got, want)
	}
}

// placeOfFuture tests a signup while the clock was ahead, and others afterwards.
func (t *test) placeOfFuture(ahead time.Duration) {
	first := t.signup("ann", noon.Add(ahead))
	first.Address = []throttle.Allowance{allowance(newBucket(), 1)}
	t.must(t.Create(t.ctx, first, noon.Add(ahead)))
	next := func(at time.Time) account.Signup {
		a := t.signup("bob", at)
		a.Address = first.Address
		return a
	}
	t.wantLimited(t.Create(t.ctx, next(noon), noon), account.AddressLimit, time.Hour)
	t.wantLimited(t.Create(t.ctx, next(noon), noon.Add(30*time.Minute)), account.AddressLimit, time.Hour)
	t.correctFuture(noon, 2) // that of the address and that of the recipient
	t.correctFuture(noon, 0)
	late := noon.Add(time.Hour - tick)
	t.wantLimited(t.Create(t.ctx, next(late), late), account.AddressLimit, time.Second)
	t.must(t.Create(t.ctx, next(late.Add(tick)), late.Add(tick)))
}

// Tests of a clock that was ahead by a year, or by some hours, and was then corrected.
var clockTests = []testCase{
	{"a place of next year counts as one of now", func(t *test) { t.placeOfFuture(year) }},
	{"a place of this evening counts as one of now", func(t *test) { t.placeOfFuture(10 * time.Hour) }},
	{"the place of a new link counts as one of now", func(t *test) {
		a := t.addPending("ann", noon)
		r := t.newLink(a.Account, a.Account.Email, noon.Add(time.Hour))
		r.Allowances = []throttle.Allowance{
			{Bucket: newBucket(), Rule: throttle.Rule{Limit: 1, Per: 24 * time.Hour}}, allowance(newBucket(), 9)}
		t.must(t.Resend(t.ctx, r, noon.Add(3*24*time.Hour)))
		again := t.newLink(a.Account, a.Account.Email, noon)
		again.Allowances = r.Allowances
		t.wantLimited(t.Resend(t.ctx, again, noon), account.ResendLimit, 24*time.Hour)
		t.correctFuture(noon, 2)
		t.must(t.Resend(t.ctx, again, noon.Add(24*time.Hour)))
	}},
	{"a place from another server's clock is not changed", func(t *test) {
		a := t.signup("ann", noon)
		t.must(t.Create(t.ctx, a, noon.Add(30*time.Second)))
		t.correctFuture(noon, 0)
	}},
	{"a notification that would wait for a year is due now", func(t *test) {
		h := t.addHookFor(2)
		list := t.claim(h, noon.Add(year), 10)
		if len(list) != 2 {
			t.Fatalf("claimed %d notifications", len(list))
		}
		t.must(t.Report(t.ctx, []hook.Result{
			{Notification: list[0], Failure: "no", RetryAt: noon.Add(year)},
			{Notification: list[1], Failure: "no", RetryAt: noon.Add(hook.MaxWait)},
		}, noon))
		t.wantEqual(t.dueHooks(noon), nil)
		t.correctFuture(noon, 1)
		t.wantEqual(usersOf(t.claim(h, noon, 10)), usersOf(list[:1]))
	}},
	{"a message that would wait for a year is due now", func(t *test) {
		ann, bob := t.addEnqueued("ann", noon), t.addEnqueued("bob", noon)
		for a, due := range map[*account.Signup]time.Time{
			&ann: noon.Add(year), &bob: noon.Add(delivery.MaxWait)} {
			d := t.delivery(*a)
			d.State, d.Due, d.Attempts = delivery.Deferred, due, 1
			t.must(t.Record(t.ctx, []delivery.Delivery{d}))
		}
		t.correctFuture(noon, 1)
		list, _, err := t.DueMessages(t.ctx, noon, delivery.Position{}, nil, 10)
		t.must(err)
		if len(list) != 1 || list[0].User != "ann" {
			t.Errorf("due: %+v", list)
		}
	}},
	{"a claim of a bulk change that ends in the future has ended", func(t *test) {
		t.must(t.AddBulk(t.ctx, t.bulkChange(operators.BulkDisable, account.Query{}, noon)))
		b, err := t.ClaimBulk(t.ctx, 0, noon.Add(3*time.Hour), noon.Add(3*time.Hour+bulkLease))
		t.must(err)
		if again := t.claimBulk(noon); again.ID != b.ID {
			t.Errorf("claimed %+v", again)
		}
		// The clock of another server may be a little ahead.
		if _, err := t.ClaimBulk(t.ctx, 0, noon.Add(-30*time.Second), noon.Add(bulkLease-30*time.Second)); err == nil {
			t.Error("claimed from another server")
		}
	}},
	{"a stored answer ends when one of now would, and is kept", func(t *test) {
		k := t.newToken("one", 0)
		t.must(t.AddToken(t.ctx, k))
		for key, until := range map[string]time.Time{"a": noon.Add(year), "b": noon.Add(operators.AnswerLife)} {
			t.claimAnswer(k.ID, key, operators.StoredAnswer{Request: []byte("x"), Until: until}, noon)
		}
		t.correctFuture(noon, 1)
		a := operators.StoredAnswer{Request: []byte("y"), Until: noon.Add(2 * year)}
		got, ok := t.claimAnswer(k.ID, "a", a, noon.Add(operators.AnswerLife-tick))
		if ok || string(got.Request) != "x" {
			t.Errorf("claimed too early: %+v", got)
		}
		if _, ok := t.claimAnswer(k.ID, "a", a, noon.Add(operators.AnswerLife)); !ok {
			t.Error("not claimed")
		}
	}},
	{"a token that was used in the future was used now", func(t *test) {
		k := t.newToken("one", 0)
		t.must(t.AddToken(t.ctx, k))
		t.must(t.RecordTokenUses(t.ctx, []operators.TokenUse{{ID: k.ID, At: noon.Add(year)}}))
		t.correctFuture(noon, 1)
		if got, err := t.TokenByHash(t.ctx, k.Hash, noon); err != nil || !got.Used.Equal(noon) {
			t.Errorf("used %v, %v", got.Used, err)
		}
	}},
	{"counts of future days count for today", func(t *test) {
		day := time.Unix(0, 0).Add(100 * 24 * time.Hour)
		t.must(t.AddCounts(t.ctx, []stats.Count{
			counted(t.tenant, 100, stats.Signup, 1), counted(t.tenant, 101, stats.Signup, 2),
			counted(t.tenant, 400, stats.Signup, 4), counted(t.tenant, 500, stats.SignIn, 8),
		}))
		t.correctFuture(day.Add(24*time.Hour-30*time.Second), 0) // day 101 is that of another server
		t.wantEqual(t.counts(t.tenant), []string{"100 signin 8", "100 signup 5", "101 signup 2"})
	}},
	{"a newer message discards one that was queued in the future", func(t *test) {
		a := t.addPending("ann", noon)
		t.enqueue(a, noon.Add(year))
		r := t.newLink(a.Account, a.Account.Email, noon.Add(time.Minute))
		t.must(t.Resend(t.ctx, r, noon.Add(time.Minute)))
		next := a
		next.Message = r.Message
		t.enqueue(next, noon.Add(time.Minute))
		t.wantState(a, delivery.Discarded)
		t.wantState(next, delivery.Waiting)
	}},
}
