package conformance

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/fault"
	"dialtone/internal/session"
	"dialtone/internal/throttle"
)

// newRecord returns the record of a session of an account that began at a time and was not used since.
func newRecord(a account.Account, at time.Time) session.Record {
	return session.Record{
		ID: newID(), Account: a.UID, Epoch: a.Epoch, Began: at, Seen: at, Net: "192.0.2.0/24",
		Browser: "Firefox on Linux",
	}
}

// recordSessions records sessions, and returns those whose notices were added.
func (t *test) recordSessions(list ...session.Record) []session.Noticed {
	t.Helper()
	added, err := t.RecordSessions(t.ctx, list)
	t.must(err)
	return added
}

// begin records n sessions of an account that begin a minute apart, and returns them, the last one
// first.
func (t *test) begin(a account.Account, n int, at time.Time) (list []session.Record) {
	t.Helper()
	for i := range n {
		list = append(list, newRecord(a, at.Add(time.Duration(i)*time.Minute)))
	}
	t.recordSessions(list...)
	slices.Reverse(list)
	return list
}

// wantSessions compares the listed sessions of an account.
func (t *test) wantSessions(a account.Account, at time.Time, want ...session.Record) {
	t.Helper()
	list, err := t.Sessions(t.ctx, a.UID, a.Epoch, at)
	t.must(err)
	if len(list) != len(want) {
		t.Fatalf("%d sessions are listed, want %d", len(list), len(want))
	}
	for i, got := range list {
		if g, w := fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", want[i]); g != w {
			t.Errorf("got  %s\nwant %s", g, w)
		}
	}
}

// revoked reports whether a session was revoked.
func (t *test) revoked(r session.Record) bool {
	t.Helper()
	got, _, err := t.Revoked(t.ctx, r.Account, r.ID, session.RevokedUntil(r.Began)...)
	t.must(err)
	return got
}

// active adds an account and returns it.
func (t *test) active(user string) account.Account {
	t.Helper()
	t.addActive(user, noon)
	return t.find(user, noon)
}

var listTests = []testCase{
	{"has the last used first, with every field", func(t *test) {
		a, b := t.active("ann"), t.active("bob")
		list := t.begin(a, 3, noon)
		t.wantSessions(a, noon, list...)
		t.wantSessions(b, noon)
		used := list[2]
		used.Seen, used.Net, used.Browser = noon.Add(time.Hour+tick), "2001:db8::/48", "Safari on Mac"
		t.recordSessions(used)
		t.wantSessions(a, used.Seen, used, list[0], list[1])
		older := used
		older.Seen, older.Net = noon.Add(time.Minute), "198.51.100.0/24"
		t.recordSessions(older)
		t.wantSessions(a, used.Seen, used, list[0], list[1])
		_, seen, err := t.Revoked(t.ctx, a.UID, used.ID, session.RevokedUntil(used.Began)...)
		t.must(err)
		if !seen.Equal(used.Seen) {
			t.Errorf("the session was seen at %v, want %v", seen, used.Seen)
		}
		if _, seen, err = t.Revoked(t.ctx, b.UID, used.ID, used.Ends()); err != nil || !seen.IsZero() {
			t.Errorf("the session of another account was seen at %v, %v", seen, err)
		}
	}},
	{"is added in one call of any length", func(t *test) {
		var all []session.Record
		accounts := []account.Account{t.active("ann"), t.active("bob"), t.active("cid")}
		for i := range 141 { // not a sum of few statements
			all = append(all, newRecord(accounts[i%3], noon.Add(time.Duration(i)*time.Second)))
		}
		t.recordSessions()
		t.recordSessions(all...)
		for _, a := range accounts {
			list, err := t.Sessions(t.ctx, a.UID, a.Epoch, noon)
			t.must(err)
			if len(list) != 47 {
				t.Errorf("%d sessions of %s are listed, want 47", len(list), a.User)
			}
		}
	}},
	{"keeps those that were used last", func(t *test) {
		a, b := t.active("ann"), t.active("bob")
		others := t.begin(b, 2, noon)
		list := t.begin(a, session.MaxListed+10, noon)
		t.wantSessions(a, noon, list[:session.MaxListed]...)
		t.wantSessions(b, noon, others...)
		_, seen, err := t.Revoked(t.ctx, a.UID, list[session.MaxListed].ID, noon)
		t.must(err)
		if !seen.IsZero() {
			t.Error("more records are kept than listed")
		}
	}},
	{"leaves out sessions that have expired", func(t *test) {
		a := t.active("ann")
		list := t.begin(a, 1, noon)
		t.wantSessions(a, noon.Add(session.Idle-tick), list...)
		t.wantSessions(a, noon.Add(session.Idle))
		list[0].Seen = noon.Add(session.Life - time.Hour)
		t.recordSessions(list...)
		t.wantSessions(a, noon.Add(session.Life-tick), list...)
		t.wantSessions(a, noon.Add(session.Life))
		for _, c := range []struct {
			at   time.Time
			want bool
		}{{noon.Add(session.Life - tick), true}, {noon.Add(session.Life), false}} {
			_, err := t.Sweep(t.ctx, c.at, noon, 10)
			t.must(err)
			_, seen, err := t.Revoked(t.ctx, a.UID, list[0].ID, noon)
			t.must(err)
			if seen.IsZero() == c.want {
				t.Errorf("after a sweep at %v the record is there: %v", c.at, !c.want)
			}
		}
	}},
	{"leaves out revoked sessions, even those that are recorded later", func(t *test) {
		a := t.active("ann")
		list := t.begin(a, 2, noon)
		t.must(t.SignOut(t.ctx, list[0], noon))
		t.wantSessions(a, noon, list[1])
		list[0].Seen = noon.Add(time.Hour)
		t.recordSessions(list...)
		t.wantSessions(a, noon, list[1])
		_, seen, err := t.Revoked(t.ctx, a.UID, list[0].ID, noon)
		t.must(err)
		if !seen.IsZero() {
			t.Error("a revoked session has a record")
		}
	}},
	{"ends one session of the account", func(t *test) {
		a, b := t.active("ann"), t.active("bob")
		list, others := t.begin(a, 2, noon), t.begin(b, 1, noon)
		t.wantErr(t.End(t.ctx, a.UID, a.Epoch, others[0].ID, noon), session.ErrNoSession)
		t.wantErr(t.End(t.ctx, a.UID, a.Epoch, newID(), noon), session.ErrNoSession)
		t.wantErr(t.End(t.ctx, a.UID, a.Epoch+1, list[0].ID, noon), session.ErrNoSession)
		t.must(t.End(t.ctx, a.UID, a.Epoch, list[0].ID, noon))
		t.wantErr(t.End(t.ctx, a.UID, a.Epoch, list[0].ID, noon), session.ErrNoSession)
		t.wantSessions(a, noon, list[1])
		t.wantSessions(b, noon, others...)
		for i, want := range []bool{true, false} {
			for _, until := range session.RevokedUntil(list[i].Began) {
				got, _, err := t.Revoked(t.ctx, a.UID, list[i].ID, until)
				t.must(err)
				if got != want {
					t.Errorf("session %d is revoked until %v: %v, want %v", i, until, got, want)
				}
			}
		}
	}},
	{"ends one session once in 8 concurrent calls", func(t *test) {
		a := t.active("ann")
		list := t.begin(a, 1, noon)
		got := t.concurrently(8, func(int) error { return t.End(t.ctx, a.UID, a.Epoch, list[0].ID, noon) })
		if got[succeeded] < 1 || got[succeeded]+got[fault.NotFound] != 8 {
			t.Errorf("got %v", got)
		}
	}},
	{"ends all other sessions, with an entry in the trail", func(t *test) {
		a, b := t.active("ann"), t.active("bob")
		t.begin(a, 3, noon)
		others := t.begin(b, 1, noon)
		own := newRecord(a, noon.Add(-time.Hour))
		own.Epoch++
		own.Seen = noon
		ctx := audit.With(t.ctx, audit.Cause{Actor: audit.Actor{Kind: audit.Person}})
		t.must(t.EndOthers(ctx, own, noon))
		t.wantSessions(a, noon)
		a = t.find("ann", noon)
		if a.Epoch != own.Epoch {
			t.Errorf("the epoch is %d, want %d", a.Epoch, own.Epoch)
		}
		t.wantSessions(a, noon, own)
		t.wantSessions(b, noon, others...)
		again := newRecord(a, noon)
		t.wantErr(t.EndOthers(ctx, again, noon), session.ErrDenied)
		t.must(t.EndOthers(ctx, session.Record{Account: b.UID, Epoch: b.Epoch + 1}, noon))
		t.wantSessions(b, noon)
		t.wantSessions(t.find("bob", noon), noon)
		var trail []audit.Change
		t.must(t.Changes(t.ctx, audit.Filter{User: "ann"}, func(c audit.Change) error {
			trail = append(trail, c)
			return nil
		}))
		if len(trail) != 1 || trail[0].Action != audit.SessionsEnd || trail[0].Actor.Kind != audit.Person ||
			trail[0].Account != a.UID.String() || trail[0].Tenant != "phone.test" {
			t.Errorf("the trail has %+v", trail)
		}
	}},
	{"records when a person first signed in, once", func(t *test) {
		a, b := t.active("ann"), t.active("bob")
		if !a.NotSignedIn || !a.FirstSignIn.IsZero() {
			t.Errorf("before the first sign-in, the account is %+v", a)
		}
		first := newRecord(a, noon)
		first.First = true
		later := newRecord(a, noon.Add(time.Hour))
		later.First = true // another server did not know of the first one
		for _, r := range []session.Record{first, later} {
			_, err := t.RecordSessions(t.ctx, []session.Record{r})
			t.must(err)
		}
		if a = t.find("ann", noon); a.NotSignedIn || !a.FirstSignIn.Equal(first.Began) {
			t.Errorf("after the first sign-in, the account is %+v", a)
		}
		_, err := t.RecordSessions(t.ctx, []session.Record{newRecord(b, noon)})
		t.must(err)
		if b = t.find("bob", noon); !b.NotSignedIn {
			t.Errorf("a session that is not the first made the account %+v", b)
		}
	}},
	{"ends all others as often as a limit permits", func(t *test) {
		a := t.active("ann")
		limit := allowance(newBucket(), 2)
		end := func(at time.Time) error {
			own := newRecord(t.find("ann", at), at)
			own.Epoch++
			return t.EndOthers(t.ctx, own, at, limit)
		}
		t.must(end(noon))
		t.must(end(noon.Add(time.Minute)))
		refused := func(wait time.Duration) error { return account.SessionEndRefusal(throttle.Wait{For: wait}) }
		t.wantLimited(end(noon.Add(2*time.Minute)), refused, 58*time.Minute)
		if got := t.find("ann", noon); got.Epoch != a.Epoch+2 {
			t.Errorf("the epoch is %d, want %d", got.Epoch, a.Epoch+2)
		}
		t.wantEqual(t.trailOf("ann"), []string{"sessions.end", "sessions.end"})
		t.must(end(noon.Add(time.Hour)))
	}},
	{"ends all others within a limit in 8 concurrent calls", func(t *test) {
		a := t.active("ann")
		limit := allowance(newBucket(), 3)
		t.concurrently(8, func(int) error {
			for {
				own := newRecord(t.find("ann", noon), noon)
				own.Epoch++
				err := t.EndOthers(t.ctx, own, noon, limit)
				if !errors.Is(err, session.ErrDenied) { // another call was faster
					return err
				}
			}
		})
		if got := t.find("ann", noon); got.Epoch != a.Epoch+3 {
			t.Errorf("the epoch is %d, want %d", got.Epoch, a.Epoch+3)
		}
	}},
	{"records sign-outs up to a limit, and ends all sessions beyond it", func(t *test) {
		a, b := t.active("ann"), t.active("bob")
		list := t.begin(a, 4, noon)
		others := t.begin(b, 1, noon)
		limit := allowance(newBucket(), 2)
		out := func(r session.Record) { t.Helper(); t.must(t.SignOut(t.ctx, r, noon, limit)) }
		past := list[0]
		past.Epoch--
		out(past)
		out(list[0])
		out(list[0])
		if !t.revoked(list[0]) || t.revoked(list[1]) {
			t.Error("another session was revoked")
		}
		t.must(t.End(t.ctx, a.UID, a.Epoch, list[1].ID, noon, limit))
		if got := t.find("ann", noon); got.Epoch != a.Epoch {
			t.Error("all sessions have ended within the limit")
		}
		out(list[0]) // it has ended
		t.wantSessions(a, noon, list[2:]...)
		out(list[2])
		if got := t.find("ann", noon); got.Epoch != a.Epoch+1 || t.revoked(list[2]) {
			t.Errorf("the epoch is %d, want %d; revoked: %t", got.Epoch, a.Epoch+1, t.revoked(list[2]))
		}
		t.wantSessions(a, noon)
		out(list[3]) // of the epoch before
		if got := t.find("ann", noon); got.Epoch != a.Epoch+1 {
			t.Error("the end of an earlier session ends the current ones")
		}
		t.wantSessions(b, noon, others...)
	}},
	{"ends all others once in 8 concurrent calls", func(t *test) {
		a := t.active("ann")
		got := t.concurrently(8, func(int) error {
			own := newRecord(a, noon)
			own.Epoch++
			return t.EndOthers(t.ctx, own, noon)
		})
		if got[succeeded] != 1 || got[fault.Unauthorized] != 7 {
			t.Errorf("got %v", got)
		}
		list, err := t.Sessions(t.ctx, a.UID, a.Epoch+1, noon)
		t.must(err)
		if len(list) != 1 {
			t.Errorf("%d sessions are listed", len(list))
		}
	}},
	{"is for accounts that exist, under their current epoch", func(t *test) {
		a, held, gone := t.active("ann"), t.active("held"), t.active("gone")
		t.begin(gone, 1, noon)
		_, err := t.Disable(t.ctx, t.tenant, "held", noon)
		t.must(err)
		t.must(t.Delete(t.ctx, t.tenant, "gone", noon))
		unknown, past := a, a
		unknown.UID = account.UID(newID())
		past.Epoch--
		var list []session.Record
		for _, x := range []account.Account{unknown, past, held, gone, a} {
			list = append(list, newRecord(x, noon))
		}
		t.recordSessions(list...)
		for _, x := range []account.Account{unknown, past, held, gone} {
			t.wantSessions(x, noon)
		}
		t.wantSessions(a, noon, list[4])
		for _, x := range []account.Account{t.find("held", noon), gone} {
			x.Epoch++
			t.wantErr(t.EndOthers(t.ctx, newRecord(x, noon), noon), session.ErrDenied)
		}
	}},
	{"is empty after a change of the password, a disable and a delete", func(t *test) {
		for user, change := range map[string]func(account.Account) error{
			"ann": func(a account.Account) error {
				_, err := t.SetPassword(t.ctx, newPassword(a, "new", noon), noon)
				return err
			},
			"bob": func(account.Account) error {
				_, err := t.Disable(t.ctx, t.tenant, "bob", noon)
				return err
			},
			"cid": func(account.Account) error { return t.Delete(t.ctx, t.tenant, "cid", noon) },
		} {
			a := t.active(user)
			list := t.begin(a, 1, noon)
			t.must(change(a))
			t.recordSessions(list...) // a use of the session is recorded late
			a.Epoch++
			t.wantSessions(a, noon)
			t.wantErr(t.End(t.ctx, a.UID, a.Epoch, list[0].ID, noon), session.ErrNoSession)
		}
	}},
	{"accepts concurrent calls with the same sessions", func(t *test) {
		var list []session.Record
		for i := range 20 {
			list = append(list, newRecord(t.active(fmt.Sprint("ann", i)), noon))
		}
		slices.SortFunc(list, func(a, b session.Record) int { return slices.Compare(a.Account[:], b.Account[:]) })
		got := t.concurrently(8, func(int) error {
			_, err := t.RecordSessions(t.ctx, list)
			return err
		})
		if got[succeeded] != 8 {
			t.Errorf("got %v", got)
		}
	}},
}
