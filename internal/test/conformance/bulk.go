package conformance

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/fault"
	operators "dialtone/internal/operator"
)

// bulkChange returns a bulk change that starts at a time.
func (t *test) bulkChange(action operators.BulkAction, q account.Query, at time.Time) operators.Bulk {
	return operators.Bulk{
		ID: operators.BulkID(account.NewUID(at)), Tenant: t.tenant, Action: action, Query: q,
		Through: account.LastUID(at), State: operators.BulkCounting, Made: at, Changed: at,
		Cause: audit.Cause{Actor: operator, Reason: "flood", Net: "192.0.2.0/24", Request: "r1"},
	}
}

// bulkLease is how long the claims of tests last.
const bulkLease = time.Minute

func (t *test) claimBulk(at time.Time) operators.Bulk {
	t.Helper()
	b, err := t.ClaimBulk(t.ctx, 0, at, at.Add(bulkLease))
	t.must(err)
	return b
}

// workBulk works on a bulk change until its state changes or it reaches its last account.
func (t *test) workBulk(b operators.Bulk, limit int, at time.Time) operators.Bulk {
	t.Helper()
	for state := b.State; b.State == state && b.Position != b.Through; {
		var err error
		b, err = t.WorkBulk(t.ctx, b, limit, at, at.Add(bulkLease))
		t.must(err)
	}
	return b
}

// changeSome works on a bulk change until it has changed n more accounts. One call of WorkBulk may change fewer, since
// its time for finding them is limited.
func (t *test) changeSome(b operators.Bulk, n int64, at time.Time) operators.Bulk {
	t.Helper()
	for want := b.Done + n; b.Done < want; {
		var err error
		b, err = t.WorkBulk(t.ctx, b, int(want-b.Done), at, at.Add(bulkLease))
		t.must(err)
		if b.State != operators.BulkRunning || b.Position == b.Through {
			t.Fatalf("it ended: %+v", b)
		}
	}
	return b
}

// addBulk adds a bulk change and counts its accounts.
func (t *test) addBulk(action operators.BulkAction, q account.Query, at time.Time) operators.Bulk {
	t.Helper()
	b := t.bulkChange(action, q, at)
	t.must(t.AddBulk(t.ctx, b))
	b = t.workBulk(t.claimBulk(at), 2, at)
	t.must(t.ReleaseBulk(t.ctx, b))
	if b.State != operators.BulkReady {
		t.Fatalf("after the count: %+v", b)
	}
	return b
}

// runBulk runs a bulk change that is ready, and claims it.
func (t *test) runBulk(b operators.Bulk, at time.Time) operators.Bulk {
	t.Helper()
	_, err := t.RunBulk(t.as("flood"), t.tenant, b.ID, b.Found, b.Changed, at)
	t.must(err)
	return t.claimBulk(at)
}

// endBulk ends a bulk change and returns it.
func (t *test) endBulk(b operators.Bulk, at time.Time) operators.Bulk {
	t.Helper()
	t.must(t.EndBulk(t.ctx, b, at))
	b, err := t.Bulk(t.ctx, t.tenant, b.ID)
	t.must(err)
	return b
}

// inStates returns the users of a tenant with their states.
func (t *test) inStates(at time.Time) (list []string) {
	t.Helper()
	t.must(t.List(t.ctx, t.tenant, at, func(a account.Account) error {
		list = append(list, a.User+" "+string(a.State()))
		return nil
	}))
	return list
}

// addFlood adds active accounts a0 to a4 and waiting ones w0 to w4, of the network 198.51.100.0/24, and others.
func (t *test) addFlood() {
	t.Helper()
	for i := range 5 {
		at := noon.Add(time.Duration(i) * time.Second)
		for _, name := range []string{"a", "w"} {
			s := t.signup(fmt.Sprint(name, i), at)
			s.Account.Net = "198.51.100.0/24"
			t.must(t.Create(t.ctx, s, at))
			if name == "a" {
				_, err := t.Activate(t.ctx, t.tenant, s.Token, at)
				t.must(err)
			}
		}
	}
	t.addActive("x", noon)
}

// flood selects the accounts of addFlood.
var flood = account.Query{Net: netip.MustParsePrefix("198.51.100.0/24")}

var bulkTests = []testCase{
	{"disable, enable and delete what the query selects, as the changes of one account do", func(t *test) {
		t.addFlood()
		h := t.addHook("a")
		at := noon.Add(time.Minute)
		for _, c := range []struct {
			action  operators.BulkAction
			change  string
			states  []string
			notices []string
		}{
			{operators.BulkDisable, "account.disable phone.test a0 %s active>disabled",
				[]string{"a0 disabled", "w0 disabled", "x active"}, []string{"account.disabled phone.test a0"}},
			{operators.BulkEnable, "account.enable phone.test w4 %s disabled>waiting",
				[]string{"a0 active", "w0 waiting", "x active"}, nil},
			{operators.BulkDelete, "account.delete phone.test a3 %s active>closed",
				[]string{"x active"}, []string{"account.deleted phone.test a3"}},
		} {
			b := t.addBulk(c.action, flood, at)
			if b.Found != 10 {
				t.Fatalf("%s: found %d accounts, want 10", c.action, b.Found)
			}
			t.deliverDue(h, at)
			changes := t.newChanges(func() { b = t.endBulk(t.workBulk(t.runBulk(b, at), 3, at), at) })
			if b.State != operators.BulkDone || b.Done != 10 {
				t.Errorf("%s: %+v", c.action, b)
			}
			if changes[0] != fmt.Sprintf("account.bulk phone.test %s %s >10", c.action, b.ID) || len(changes) != 11 ||
				!slices.Contains(changes, fmt.Sprintf(c.change, audit.BulkSubject+b.ID.String())) {
				t.Errorf("%s: changes %q", c.action, changes)
			}
			states := t.inStates(at)
			for _, want := range c.states {
				if !slices.Contains(states, want) {
					t.Errorf("%s: %q lacks %s", c.action, states, want)
				}
			}
			notices := t.deliverDue(h, at)
			for _, want := range c.notices {
				if !slices.Contains(notices, want) {
					t.Errorf("%s: notifications %q lack %s", c.action, notices, want)
				}
			}
			at = at.Add(time.Minute)
		}
		last := t.changes(audit.Filter{})
		if got := last[len(last)-1]; got.Cause != (audit.Cause{
			Actor: operator, Reason: "flood", Net: "192.0.2.0/24", Request: "r1",
		}) {
			t.Errorf("the cause is %+v", got.Cause)
		}
		t.wantEqual(t.inStates(at), []string{"x active"})
	}},
	{"leave out the caller, admins, later signups, other tenants and what stays as it is", func(t *test) {
		for _, user := range []string{"ann", "boss", "held", "me"} {
			t.addActive(user, noon)
		}
		for _, user := range []string{"boss", "me"} {
			_, err := t.SetRole(t.ctx, t.tenant, user, account.Admin, noon)
			t.must(err)
		}
		_, err := t.Disable(t.ctx, t.tenant, "held", noon)
		t.must(err)
		own := t.tenant
		t.tenant = t.addTenant("other.test")
		t.addActive("ann", noon)
		t.tenant = own
		at := noon.Add(time.Minute)
		for _, c := range []struct {
			action operators.BulkAction
			roles  []account.Role
			me     bool
			found  int64
		}{
			{operators.BulkDisable, nil, false, 1},
			{operators.BulkDisable, nil, true, 1},
			{operators.BulkDisable, []account.Role{account.Admin}, true, 1},
			{operators.BulkDisable, []account.Role{account.Admin}, false, 2},
			{operators.BulkDisable, account.Roles, false, 3},
			{operators.BulkEnable, nil, false, 1},
			{operators.BulkDelete, nil, false, 2},
		} {
			b := t.bulkChange(c.action, account.Query{Roles: c.roles, Since: noon}, at)
			if c.me {
				b.Cause.Actor = audit.Actor{Kind: audit.Admin, Name: "me", ID: t.find("me", at).UID.String()}
			}
			t.must(t.AddBulk(t.ctx, b))
			t.addActive(fmt.Sprint("later", at.Unix()), at.Add(time.Second))
			if b = t.workBulk(t.claimBulk(at), 10, at); b.Found != c.found {
				t.Errorf("%s of roles %q: found %d, want %d", c.action, c.roles, b.Found, c.found)
			}
			t.must(t.Delete(t.ctx, t.tenant, fmt.Sprint("later", at.Unix()), at.Add(time.Second)))
			at = at.Add(2 * time.Minute)
		}
	}},
	{"run only when they are ready, and with the number that was found", func(t *test) {
		t.addFlood()
		at := noon.Add(time.Minute)
		b := t.bulkChange(operators.BulkDisable, flood, at)
		t.must(t.AddBulk(t.ctx, b))
		t.must(t.AddBulk(t.ctx, b)) // a repetition
		run := func(id operators.BulkID, found int64, since time.Time) error {
			_, err := t.RunBulk(t.ctx, t.tenant, id, found, since, at)
			return err
		}
		t.wantKind(run(b.ID, 0, noon), fault.Conflict)
		b = t.workBulk(t.claimBulk(at), 100, at)
		t.wantKind(run(b.ID, 9, noon), fault.Conflict)
		t.wantKind(run(b.ID, 10, at.Add(tick)), fault.Conflict)
		t.wantErr(run(operators.BulkID(newID()), 10, noon), operators.ErrNoBulk)
		other := t.addTenant("other.test")
		_, err := t.RunBulk(t.ctx, other, b.ID, 10, noon, at)
		t.wantErr(err, operators.ErrNoBulk)
		_, err = t.CancelBulk(t.ctx, other, b.ID, at)
		t.wantErr(err, operators.ErrNoBulk)
		_, err = t.Bulk(t.ctx, other, b.ID)
		t.wantErr(err, operators.ErrNoBulk)
		changes := t.newChanges(func() {
			t.must(run(b.ID, 10, noon))
			t.must(run(b.ID, 10, noon)) // it is already running
		})
		if len(changes) != 1 {
			t.Errorf("the audit trail has %q", changes)
		}
		t.wantKind(run(b.ID, 9, noon), fault.Conflict)
		_, err = t.CancelBulk(t.ctx, t.tenant, b.ID, at)
		t.must(err)
		t.wantKind(run(b.ID, 10, noon), fault.Conflict)
		list, err := t.Bulks(t.ctx, t.tenant, 10)
		t.must(err)
		if len(list) != 1 || list[0].State != operators.BulkCancelled || list[0].Found != 10 {
			t.Errorf("the list is %+v", list)
		}
	}},
	{"change each account once, no matter which server works on them", func(t *test) {
		t.addFlood()
		at := noon.Add(time.Minute)
		stale := t.runBulk(t.addBulk(operators.BulkDelete, flood, at), at)
		b := t.changeSome(stale, 3, at)
		if b.Position == stale.Position {
			t.Fatalf("after the first part: %+v", b)
		}
		again, err := t.WorkBulk(t.ctx, stale, 3, at, at.Add(bulkLease)) // as a server that was slow
		t.must(err)
		if again.Done != 3 {
			t.Errorf("the first part was done twice: %+v", again)
		}
		// The server with the claim crashes, and others want to continue when the claim ends.
		_, err = t.ClaimBulk(t.ctx, 0, at.Add(bulkLease-tick), at.Add(2*bulkLease))
		t.wantErr(err, operators.ErrNoBulk)
		at = at.Add(bulkLease)
		if got := t.concurrently(8, func(int) error {
			_, err := t.ClaimBulk(t.ctx, 0, at, at.Add(bulkLease))
			return err
		}); got[succeeded] != 1 {
			t.Errorf("%d have claimed it", got[succeeded])
		}
		b, err = t.Bulk(t.ctx, t.tenant, b.ID)
		t.must(err)
		t.concurrently(8, func(int) error {
			_, err := t.WorkBulk(t.ctx, b, 2, at, at.Add(bulkLease))
			return err
		})
		b, err = t.Bulk(t.ctx, t.tenant, b.ID)
		t.must(err)
		if b.Done != 5 {
			t.Errorf("%d are done, want 5", b.Done)
		}
		b = t.endBulk(t.workBulk(b, 2, at), at)
		if b.State != operators.BulkDone || b.Done != 10 {
			t.Errorf("at the end: %+v", b)
		}
		t.wantEqual(t.inStates(at), []string{"x active"})
	}},
	{"stop when they are cancelled, and end only when all accounts were changed", func(t *test) {
		t.addFlood()
		at := noon.Add(time.Minute)
		b := t.changeSome(t.runBulk(t.addBulk(operators.BulkDelete, flood, at), at), 3, at)
		if got := t.endBulk(b, at); got.State != operators.BulkRunning {
			t.Errorf("it ended early: %+v", got)
		}
		changes := t.newChanges(func() {
			for range 2 {
				_, err := t.CancelBulk(t.as("enough"), t.tenant, b.ID, at)
				t.must(err)
			}
		})
		t.wantEqual(changes, []string{fmt.Sprintf("account.bulk phone.test delete %s 10>cancelled after 3", b.ID)})
		got, err := t.WorkBulk(t.ctx, b, 3, at, at.Add(bulkLease))
		t.must(err)
		if got.State != operators.BulkCancelled || got.Done != 3 {
			t.Errorf("after it was cancelled: %+v", got)
		}
		_, err = t.ClaimBulk(t.ctx, 0, at.Add(time.Hour), at.Add(2*time.Hour))
		t.wantErr(err, operators.ErrNoBulk)
		if n := len(t.inStates(at)); n != 8 {
			t.Errorf("%d accounts are left, want 8", n)
		}
	}},
	{"leave an account alone that no longer belongs to them", func(t *test) {
		t.addFlood()
		at := noon.Add(time.Minute)
		q := flood
		q.States = []account.State{account.Waiting}
		b := t.runBulk(t.addBulk(operators.BulkDelete, q, at), at)
		_, err := t.EnableNow(t.ctx, t.tenant, "w1", at)
		t.must(err)
		_, err = t.SetRole(t.ctx, t.tenant, "w2", account.Admin, at)
		t.must(err)
		t.must(t.Delete(t.ctx, t.tenant, "w3", at))
		if b = t.workBulk(b, 2, at); b.Done != 2 {
			t.Errorf("%d were deleted, want 2", b.Done)
		}
		t.wantEqual(t.inStates(at), []string{
			"a0 active", "a1 active", "a2 active", "a3 active", "a4 active", "w1 active", "w2 waiting", "x active"})
	}},
	{"fail before they change more accounts than were counted", func(t *test) {
		t.addFlood()
		at := noon.Add(time.Minute)
		b := t.runBulk(t.addBulk(operators.BulkDelete, account.Query{States: []account.State{account.Active}}, at), at)
		_, err := t.EnableNow(t.ctx, t.tenant, "w4", at)
		t.must(err)
		b = t.workBulk(b, 4, at)
		if b.State != operators.BulkFailed || b.Failure == "" || b.Done != 6 || b.Found != 6 {
			t.Errorf("got %+v", b)
		}
		if n := len(t.inStates(at)); n != 5 {
			t.Errorf("%d accounts are left, want 5", n)
		}
	}},
	{"stop when the actor that started them may no longer change accounts", func(t *test) {
		token, expiring := t.newToken("leaked", t.tenant), t.newToken("expiring", t.tenant)
		at := noon.Add(time.Minute)
		expiring.Expires = at.Add(time.Minute)
		t.must(t.AddToken(t.ctx, token))
		t.must(t.AddToken(t.ctx, expiring))
		t.addFlood()
		admin := func(user string) audit.Actor {
			t.addActive(user, noon)
			_, err := t.SetRole(t.ctx, t.tenant, user, account.Admin, noon)
			t.must(err)
			return audit.Actor{Kind: audit.Admin, Name: user, ID: t.find(user, noon).UID.String()}
		}
		ann, bob, cid := admin("ann"), admin("bob"), admin("cid")
		for _, c := range []struct {
			actor audit.Actor
			end   func() error
		}{
			{audit.Actor{Kind: audit.Token, Name: "leaked", ID: token.ID}, func() error {
				return t.RemoveToken(t.ctx, "leaked", 0, at)
			}},
			{audit.Actor{Kind: audit.Token, Name: "expiring", ID: expiring.ID}, func() error {
				at = at.Add(time.Minute)
				return nil
			}},
			{ann, func() error { return t.Delete(t.ctx, t.tenant, "ann", at) }},
			{bob, func() error {
				_, err := t.SetRole(t.ctx, t.tenant, "bob", account.User, at)
				return err
			}},
			{cid, func() error {
				_, err := t.Disable(t.ctx, t.tenant, "cid", at)
				return err
			}},
		} {
			at = at.Add(time.Second)
			b := t.bulkChange(operators.BulkDisable, flood, at)
			b.Cause.Actor = c.actor
			t.must(t.AddBulk(t.ctx, b))
			b = t.workBulk(t.claimBulk(at), 2, at)
			b = t.changeSome(t.runBulk(b, at), 1, at)
			counting := t.bulkChange(operators.BulkDisable, flood, at)
			counting.Cause.Actor = c.actor
			t.must(t.AddBulk(t.ctx, counting))
			t.must(c.end())
			trail := t.newChanges(func() {
				var err error
				b, err = t.WorkBulk(t.ctx, b, 1, at, at.Add(bulkLease))
				t.must(err)
			})
			if b.Done != 1 || b.State != operators.BulkFailed || b.Failure != operators.BulkNotAllowed {
				t.Errorf("%v: %+v", c.actor, b)
			}
			t.wantEqual(trail, []string{
				fmt.Sprintf("account.bulk phone.test disable %s %d>failed after 1", b.ID, b.Found),
			})
			counting = t.workBulk(t.claimBulk(at), 2, at)
			if counting.State != operators.BulkFailed || counting.Failure != operators.BulkNotAllowed {
				t.Errorf("%v, counting: %+v", c.actor, counting)
			}
		}
	}},
	{"take turns by tenant", func(t *test) {
		at := noon.Add(time.Minute)
		first := t.tenant
		for range 3 {
			t.must(t.AddBulk(t.ctx, t.bulkChange(operators.BulkDisable, flood, at)))
			at = at.Add(time.Second)
		}
		second := t.addTenant("b.test")
		t.tenant = second
		t.must(t.AddBulk(t.ctx, t.bulkChange(operators.BulkDisable, flood, at)))
		var got []int64
		after := int64(0)
		for range 4 {
			b, err := t.ClaimBulk(t.ctx, after, at, at.Add(bulkLease))
			t.must(err)
			after, got = b.Tenant, append(got, b.Tenant)
		}
		if !slices.Equal(got, []int64{first, second, first, first}) {
			t.Errorf("the turns are %v", got)
		}
	}},
	{"are limited for each tenant", func(t *test) {
		at := noon.Add(time.Minute)
		var last operators.Bulk
		for range operators.MaxOpenBulks {
			last = t.bulkChange(operators.BulkDisable, flood, at)
			t.must(t.AddBulk(t.ctx, last))
		}
		t.must(t.AddBulk(t.ctx, last)) // a repetition
		more := t.bulkChange(operators.BulkDisable, flood, at)
		t.wantErr(t.AddBulk(t.ctx, more), operators.ErrTooManyBulks)
		_, err := t.CancelBulk(t.ctx, t.tenant, last.ID, at)
		t.must(err)
		t.must(t.AddBulk(t.ctx, more))
		t.tenant = t.addTenant("other.test")
		t.must(t.AddBulk(t.ctx, t.bulkChange(operators.BulkDisable, flood, at)))
	}},
	{"are limited for each caller in a day, whether or not they are run", func(t *test) {
		at := noon.Add(time.Minute)
		add := func(actor audit.Actor, at time.Time) (operators.Bulk, error) {
			b := t.bulkChange(operators.BulkDisable, flood, at)
			b.Cause.Actor = actor
			err := t.AddBulk(t.ctx, b)
			return b, err
		}
		token := audit.Actor{Kind: audit.Token, Name: "ci", ID: "1"}
		for range operators.MaxNewBulks {
			b, err := add(token, at)
			t.must(err)
			_, err = t.CancelBulk(t.ctx, t.tenant, b.ID, at)
			t.must(err)
		}
		refused := func(at time.Time, wait time.Duration) {
			t.Helper()
			_, err := add(token, at)
			if e, ok := errors.AsType[*fault.Error](err); !ok || e.Kind != fault.Limited || e.RetryAfter != wait {
				t.Errorf("one more: %v, want a wait of %v", err, wait)
			}
		}
		refused(at, operators.BulkUnrunKept)
		t.must(t.RemoveBulks(t.ctx, noon, at))
		refused(at.Add(time.Hour), operators.BulkUnrunKept-time.Hour)
		for _, other := range []audit.Actor{{Kind: audit.Token, ID: "2"}, {Kind: audit.Admin, ID: "1"}, operator} {
			_, err := add(other, at)
			t.must(err)
		}
		_, err := add(token, at.Add(operators.BulkUnrunKept))
		t.must(err)
	}},
	{"are removed soon if they changed nothing", func(t *test) {
		t.addFlood()
		at := noon.Add(time.Minute)
		run := t.endBulk(t.workBulk(t.runBulk(t.addBulk(operators.BulkDisable, flood, at), at), 3, at), at)
		t.addBulk(operators.BulkDelete, flood, at)
		cancelled, stopped := t.addBulk(operators.BulkDelete, flood, at), t.addBulk(operators.BulkEnable, flood, at)
		stopped = t.changeSome(t.runBulk(stopped, at), 1, at)
		for _, b := range []operators.Bulk{cancelled, stopped} {
			_, err := t.CancelBulk(t.ctx, t.tenant, b.ID, at)
			t.must(err)
		}
		t.must(t.AddBulk(t.ctx, t.bulkChange(operators.BulkDelete, flood, at)))
		t.must(t.RemoveBulks(t.ctx, noon, at))
		t.must(t.RemoveBulks(t.ctx, noon, at.Add(tick)))
		list, err := t.Bulks(t.ctx, t.tenant, 10)
		t.must(err)
		var got []string
		for _, b := range list {
			got = append(got, string(b.State))
		}
		slices.Sort(got)
		if !slices.Equal(got, []string{"cancelled", "counting", "done"}) || run.State != operators.BulkDone {
			t.Errorf("%q are left", got)
		}
	}},
	{"are removed when they are old, and with their tenant", func(t *test) {
		t.addFlood()
		at := noon.Add(time.Minute)
		counting := t.bulkChange(operators.BulkDelete, flood, at)
		t.addBulk(operators.BulkDelete, flood, at)
		t.must(t.AddBulk(t.ctx, counting))
		for _, c := range []struct {
			before time.Time
			left   int
		}{{at, 2}, {at.Add(tick), 1}} {
			t.must(t.RemoveBulks(t.ctx, c.before, noon))
			list, err := t.Bulks(t.ctx, t.tenant, 10)
			t.must(err)
			if len(list) != c.left {
				t.Errorf("%d are left, want %d", len(list), c.left)
			}
		}
		t.must(t.RemoveTenant(t.ctx, "phone.test", true, at))
		_, err := t.ClaimBulk(t.ctx, 0, at, at.Add(time.Hour))
		t.wantErr(err, operators.ErrNoBulk)
	}},
	{"leave out an account that a concurrent change excludes", func(t *test) {
		at := noon.Add(time.Minute)
		for i := range 40 {
			user := fmt.Sprint("ann", i)
			t.addActive(user, noon)
			q := account.Query{Text: user, Roles: []account.Role{account.Guest}}
			b := t.runBulk(t.addBulk(operators.BulkDisable, q, at), at)
			var member account.Account
			var others sync.WaitGroup
			others.Go(func() {
				var err error
				if member, err = t.SetRole(t.ctx, t.tenant, user, account.User, at); err != nil {
					t.Error(err)
				}
			})
			t.endBulk(t.workBulk(b, 10, at), at)
			others.Wait()
			after, err := t.Find(t.ctx, t.tenant, user, at)
			t.must(err)
			if !member.Disabled && after.Disabled {
				t.Fatalf("the account was disabled although it was no longer a guest: try %d", i)
			}
		}
	}},
	{"find the accounts that match any query", func(t *test) {
		r := newRand(t.T)
		all := t.addRandom(r, 60)
		for range 40 {
			q := randomQuery(r)
			b := t.bulkChange(operators.BulkDelete, q, pageTime)
			var want []account.Account
			for _, a := range all {
				if b.Includes(a) {
					want = append(want, a)
				}
			}
			if b = t.addBulk(b.Action, q, pageTime); b.Found != int64(len(want)) {
				t.Fatalf("query %+v: found %d, want %d", q, b.Found, len(want))
			}
			if b.Position != b.Through {
				t.Fatalf("the position is not the end: %+v", b)
			}
			_, err := t.CancelBulk(t.ctx, t.tenant, b.ID, pageTime)
			t.must(err)
		}
	}},
}
