package conformance

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/fault"
	"dialtone/internal/hook"
	"dialtone/internal/tenant"
)

// addHook adds a hook for all tenants, or for some.
func (t *test) addHook(name string, tenants ...int64) hook.Hook {
	t.Helper()
	h := hook.Hook{
		ID:         newID(),
		Name:       name,
		Kind:       hook.Kamailio,
		URL:        "http://127.0.0.1/RPC",
		AllTenants: tenants == nil,
		Tenants:    tenants,
		Created:    noon,
	}
	t.must(t.AddHook(t.ctx, h))
	return h
}

// claim claims due notifications of a hook for a minute.
func (t *test) claim(h hook.Hook, at time.Time, limit int) []hook.Notification {
	t.Helper()
	list, err := t.Claim(t.ctx, h.ID, at, at.Add(time.Minute), limit)
	t.must(err)
	return list
}

// deliverDue reports all due notifications of a hook as delivered and returns them, sorted, as
// "type host user".
func (t *test) deliverDue(h hook.Hook, at time.Time) (list []string) {
	t.Helper()
	var results []hook.Result
	for _, n := range t.claim(h, at, 1000) {
		list = append(list, strings.TrimSpace(fmt.Sprint(n.Type, " ", n.Host, " ", n.User)))
		results = append(results, hook.Result{Notification: n})
	}
	t.must(t.Report(t.ctx, results, at))
	slices.Sort(list)
	return list
}

// hookState returns the state of a hook.
func (t *test) hookState(name string) hook.State {
	t.Helper()
	list, err := t.Hooks(t.ctx)
	t.must(err)
	for _, s := range list {
		if s.Name == name {
			return s
		}
	}
	t.Fatalf("there is no hook %s", name)
	return hook.State{}
}

func (t *test) dueHooks(at time.Time) (names []string) {
	t.Helper()
	list, err := t.Due(t.ctx, at)
	t.must(err)
	for _, h := range list {
		names = append(names, h.Name)
	}
	return names
}

var hookTests = []testCase{
	{"keep every field, and are listed by name", func(t *test) {
		other := t.addTenant("other.test")
		want := hook.Hook{
			ID:        newID(),
			Name:      "b",
			Kind:      hook.Webhook,
			URL:       "https://hooks.test/x?y=z",
			PlainHTTP: true,
			Tenants:   []int64{t.tenant, other},
			Sealed:    []byte("sealed\x00"),
			Created:   noon.Add(7 * tick),
		}
		t.must(t.AddHook(t.ctx, want))
		t.addHook("a")
		list, err := t.Hooks(t.ctx)
		t.must(err)
		if len(list) != 2 || list[0].Name != "a" || !list[0].AllTenants || len(list[0].Tenants) != 0 ||
			len(list[0].Sealed) != 0 || list[0].PlainHTTP {
			t.Fatalf("got %+v", list)
		}
		if got, want := fmt.Sprintf("%+v", list[1]), fmt.Sprintf("%+v", hook.State{Hook: want}); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}},
	{"have unique names", func(t *test) {
		first := t.addHook("a")
		t.wantKind(t.AddHook(t.ctx, hook.Hook{ID: newID(), Name: "a", Created: noon}), fault.Conflict)
		if got := t.hookState("a"); got.ID != first.ID {
			t.Errorf("got %+v", got)
		}
		t.must(t.RemoveHook(t.ctx, "a"))
		t.wantKind(t.RemoveHook(t.ctx, "a"), fault.NotFound)
		t.addHook("a")
	}},
	{"give a name to one of 20 concurrent calls", func(t *test) {
		got := t.concurrently(20, func(int) error {
			return t.AddHook(t.ctx, hook.Hook{ID: newID(), Name: "a", AllTenants: true, Created: noon})
		})
		if got[succeeded] != 1 || got[fault.Conflict] != 19 {
			t.Errorf("got %v", got)
		}
	}},
	{"are removed with their notifications", func(t *test) {
		t.addActive("ann", noon)
		t.addHook("a")
		kept := t.addHook("kept")
		_, err := t.Disable(t.ctx, t.tenant, "ann", noon)
		t.must(err)
		t.must(t.RemoveHook(t.ctx, "a"))
		t.wantEqual(t.dueHooks(noon), []string{"kept"})
		again := t.addHook("a")
		t.wantEqual(t.deliverDue(again, noon), nil)
		t.wantEqual(t.deliverDue(kept, noon), []string{"account.disabled phone.test ann"})
	}},
	{"can be added and removed while accounts change", func(t *test) {
		for i := range 8 {
			t.addActive(fmt.Sprint("user", i), noon)
		}
		got := t.concurrently(64, func(i int) error {
			if i%2 == 0 {
				_, err := t.Disable(t.ctx, t.tenant, fmt.Sprint("user", i/2%8), noon)
				return err
			}
			name := fmt.Sprint("hook", i)
			if err := t.AddHook(t.ctx,
				hook.Hook{ID: newID(), Name: name, AllTenants: true, Created: noon}); err != nil {
				return err
			}
			return t.RemoveHook(t.ctx, name)
		})
		if got[succeeded] != 64 {
			t.Errorf("got %v", got)
		}
		t.wantEqual(t.dueHooks(noon), nil)
	}},
}

var notificationTests = []testCase{
	{"are written for each change that phone servers see, and for no other", func(t *test) {
		h := t.addHook("a")
		t.addActive("ann", noon)
		t.addActive("bob", noon)
		t.addPending("kim", noon)
		other := t.addTenant("other.test")
		t.wantEqual(t.deliverDue(h, noon), []string{"tenant.added other.test"})
		at := noon.Add(time.Minute)
		for _, c := range []struct {
			name string
			do   func() error
			want []string
		}{
			{"disable", func() error { _, err := t.Disable(t.ctx, t.tenant, "ann", at); return err },
				[]string{"account.disabled phone.test ann"}},
			{"enable", func() error { _, err := t.EnableNow(t.ctx, t.tenant, "ann", at); return err }, nil},
			{"role", func() error { _, err := t.SetRole(t.ctx, t.tenant, "ann", account.User, at); return err },
				[]string{"account.role phone.test ann"}},
			{"delete", func() error { return t.Delete(t.ctx, t.tenant, "ann", at) },
				[]string{"account.deleted phone.test ann"}},
			{"disable a pending account",
				func() error { _, err := t.Disable(t.ctx, t.tenant, "kim", at); return err }, nil},
			{"role of a pending account",
				func() error { _, err := t.SetRole(t.ctx, t.tenant, "kim", account.User, at); return err }, nil},
			{"delete a pending account", func() error { return t.Delete(t.ctx, t.tenant, "kim", at) }, nil},
			{"set a tenant", func() error { return t.SetTenant(t.ctx, t.tenantByHost("other.test"), at) },
				[]string{"tenant.changed other.test"}},
			{"remove a tenant", func() error { return t.RemoveTenant(t.ctx, "other.test", false, at) },
				[]string{"tenant.removed other.test"}},
		} {
			t.must(c.do())
			if got := t.deliverDue(h, at); !slices.Equal(got, c.want) {
				t.Errorf("%s: got %q, want %q", c.name, got, c.want)
			}
		}
		for name, do := range map[string]func() error{
			"disable a deleted account": func() error { _, err := t.Disable(t.ctx, t.tenant, "ann", at); return err },
			"delete an unknown user":    func() error { return t.Delete(t.ctx, t.tenant, "nobody", at) },
			"add a tenant twice": func() error {
				_, err := t.AddTenant(t.ctx, tenant.Tenant{Host: "phone.test", Realm: "x", Created: at})
				return err
			},
			"set a removed tenant": func() error {
				return t.SetTenant(t.ctx, tenant.Tenant{ID: other, Host: "other.test"}, at)
			},
			"remove a tenant with accounts": func() error { return t.RemoveTenant(t.ctx, "phone.test", false, at) },
		} {
			if err := do(); err == nil {
				t.Errorf("%s succeeds", name)
			}
			if got := t.deliverDue(h, at); got != nil {
				t.Errorf("%s: got %q, want no notification", name, got)
			}
		}
	}},
	{"have every field", func(t *test) {
		tn, err := t.AddTenant(t.ctx, tenant.Tenant{Host: "b.test", Realm: "Realm of B", Created: noon})
		t.must(err)
		t.tenant = tn.ID
		ann := t.addActive("ann", noon)
		h := t.addHook("a")
		at := noon.Add(7 * tick)
		_, err = t.Disable(t.ctx, tn.ID, "ann", at)
		t.must(err)
		list := t.claim(h, at, 10)
		if len(list) != 1 {
			t.Fatalf("got %+v", list)
		}
		n := list[0]
		want := hook.Notification{
			Hook: h.ID, EventID: n.EventID, Account: ann.Account.UID, Type: hook.AccountDisabled, Tenant: tn.ID,
			Host: "b.test", Realm: "Realm of B", User: "ann", At: at, Attempts: 1, ClaimEnds: at.Add(time.Minute),
		}
		if n != want || n.EventID == (account.UID{}) {
			t.Errorf("got  %+v\nwant %+v", n, want)
		}
		t.must(t.SetTenant(t.ctx, t.tenantByHost("b.test"), at))
		if list = t.claim(h, at, 10); len(list) != 1 || list[0].Account != (account.UID{}) || list[0].ID() == n.ID() {
			t.Errorf("got %+v", list)
		}
	}},
	{"are for the hooks of the tenant", func(t *test) {
		other := t.addTenant("other.test")
		t.addActive("ann", noon)
		all, own := t.addHook("all"), t.addHook("own", t.tenant)
		others, both := t.addHook("others", other), t.addHook("both", other, t.tenant)
		_, err := t.Disable(t.ctx, t.tenant, "ann", noon)
		t.must(err)
		t.addTenant("third.test")
		t.wantEqual(t.dueHooks(noon), []string{"all", "both", "own"})
		t.wantEqual(t.deliverDue(all, noon), []string{"account.disabled phone.test ann", "tenant.added third.test"})
		t.wantEqual(t.deliverDue(own, noon), []string{"account.disabled phone.test ann"})
		t.wantEqual(t.deliverDue(both, noon), []string{"account.disabled phone.test ann"})
		t.wantEqual(t.deliverDue(others, noon), nil)
	}},
	{"are written for each active account of a removed tenant", func(t *test) {
		t.addActive("ann", noon)
		t.addActive("bob", noon)
		t.addActive("deleted", noon)
		t.addPending("kim", noon)
		_, err := t.Disable(t.ctx, t.tenant, "bob", noon)
		t.must(err)
		t.must(t.Delete(t.ctx, t.tenant, "deleted", noon))
		t.addTenant("other.test")
		all, own := t.addHook("all"), t.addHook("own", t.tenant)
		t.must(t.RemoveTenant(t.ctx, "phone.test", true, noon))
		want := []string{
			"account.deleted phone.test ann",
			"account.deleted phone.test bob",
			"tenant.removed phone.test",
		}
		for _, h := range []hook.Hook{all, own} {
			t.wantEqual(t.deliverDue(h, noon), want)
		}
		// Another tenant with the same host is not the tenant of the hook, which has none left.
		t.tenant = t.addTenant("phone.test")
		t.addActive("ann", noon)
		_, err = t.Disable(t.ctx, t.tenant, "ann", noon)
		t.must(err)
		t.wantEqual(t.deliverDue(own, noon), nil)
		if got := t.hookState("own"); got.AllTenants || len(got.Tenants) != 0 {
			t.Errorf("got %+v", got)
		}
	}},
	{"are written for each of 20 concurrent changes", func(t *test) {
		h := t.addHook("a")
		t.addActive("ann", noon)
		got := t.concurrently(20, func(int) error { _, err := t.Disable(t.ctx, t.tenant, "ann", noon); return err })
		if n := len(t.deliverDue(h, noon)); got[succeeded] != 20 || n != 20 {
			t.Errorf("got %d notifications, and %v", n, got)
		}
	}},
	{"are signalled by NotificationsAdded", func(t *test) {
		t.addActive("ann", noon)
		for len(t.NotificationsAdded()) > 0 {
			<-t.NotificationsAdded()
		}
		for _, c := range []struct {
			name string
			do   func() error
		}{
			{"disable", func() error { _, err := t.Disable(t.ctx, t.tenant, "ann", noon); return err }},
			{"role", func() error { _, err := t.SetRole(t.ctx, t.tenant, "ann", account.User, noon); return err }},
			{"delete", func() error { return t.Delete(t.ctx, t.tenant, "ann", noon) }},
			{"add", func() error { t.addTenant("b.test"); return nil }},
			{"set", func() error { return t.SetTenant(t.ctx, t.tenantByHost("phone.test"), noon) }},
			{"remove", func() error { return t.RemoveTenant(t.ctx, "phone.test", true, noon) }},
		} {
			t.must(c.do())
			select {
			case <-t.NotificationsAdded():
			default:
				t.Errorf("%s: no signal", c.name)
			}
		}
	}},
}

// addHookFor adds a hook with a notification for each of n users, user00 and so on.
func (t *test) addHookFor(n int) hook.Hook {
	t.Helper()
	h := t.addHook("a")
	for i := range n {
		user := fmt.Sprintf("user%02d", i)
		t.addActive(user, noon)
		_, err := t.Disable(t.ctx, t.tenant, user, noon.Add(time.Duration(i)*time.Second))
		t.must(err)
	}
	return h
}

func usersOf(list []hook.Notification) (users []string) {
	for _, n := range list {
		users = append(users, n.User)
	}
	return users
}

var claimTests = []testCase{
	{"end at their time", func(t *test) {
		h := t.addHookFor(1)
		at := noon.Add(-time.Hour) // new notifications are due even if the clock is behind
		t.wantEqual(t.dueHooks(at), []string{"a"})
		first := t.claim(h, at, 10)
		t.wantEqual(usersOf(first), []string{"user00"})
		t.wantEqual(t.dueHooks(at.Add(time.Minute-tick)), nil)
		t.wantEqual(usersOf(t.claim(h, at.Add(time.Minute-tick), 10)), nil)
		t.wantEqual(t.dueHooks(at.Add(time.Minute)), []string{"a"})
		again := t.claim(h, at.Add(time.Minute), 10)
		if len(again) != 1 || again[0].Attempts != 2 || again[0].ID() != first[0].ID() {
			t.Errorf("got %+v", again)
		}
	}},
	{"find nothing for an unknown hook", func(t *test) {
		t.addHookFor(1)
		t.wantEqual(usersOf(t.claim(hook.Hook{ID: newID()}, noon, 10)), nil)
	}},
	{"take at most the limit, and untried notifications first", func(t *test) {
		h := t.addHookFor(5)
		first := t.claim(h, noon, 2)
		t.wantEqual(usersOf(first), []string{"user00", "user01"})
		t.must(t.Report(t.ctx, []hook.Result{
			{Notification: first[0], Failure: "no", RetryAt: noon},
			{Notification: first[1], Failure: "no", RetryAt: noon},
		}, noon))
		t.wantEqual(usersOf(t.claim(h, noon, 2)), []string{"user02", "user03"})
		t.wantEqual(usersOf(t.claim(h, noon, 9)), []string{"user00", "user01", "user04"})
	}},
	{"give a notification to one of 12 concurrent calls", func(t *test) {
		h := t.addHookFor(30)
		var mu sync.Mutex
		var all []string
		got := t.concurrently(12, func(int) error {
			for {
				list, err := t.Claim(t.ctx, h.ID, noon, noon.Add(time.Minute), 3)
				if err != nil || len(list) == 0 {
					return err
				}
				mu.Lock()
				all = append(all, usersOf(list)...)
				mu.Unlock()
			}
		})
		slices.Sort(all)
		if n := len(slices.Compact(slices.Clone(all))); got[succeeded] != 12 || n != 30 || len(all) != 30 {
			t.Errorf("%v took %d notifications, of %d users", got, len(all), n)
		}
	}},
	{"are reported as delivered, failed, given up or not attempted", func(t *test) {
		h := t.addHookFor(4)
		list := t.claim(h, noon, 10)
		if s := t.hookState("a"); s.Waiting != 4 || !s.Oldest.Equal(noon) || !s.LastFailure.IsZero() ||
			s.LastError != "" || s.GivenUp != 0 {
			t.Errorf("before: %+v", s)
		}
		at := noon.Add(5 * time.Second)
		t.must(t.Report(t.ctx, []hook.Result{
			{Notification: list[0]},
			{Notification: list[1], Failure: "it hangs", RetryAt: at.Add(time.Hour)},
			{Notification: list[2], Failure: "no\x00 \xff" + strings.Repeat("é", 500)},
			{Notification: list[3], RetryAt: at},
		}, at))
		s := t.hookState("a")
		if s.Waiting != 2 || !s.Oldest.Equal(noon.Add(time.Second)) || !s.LastFailure.Equal(at) || s.GivenUp != 1 {
			t.Errorf("after: %+v", s)
		}
		if !strings.HasPrefix(s.LastError, "no? ?é") || len(s.LastError) > 310 {
			t.Errorf("LastError is %q", s.LastError)
		}
		t.wantEqual(usersOf(t.claim(h, at, 10)), []string{"user03"})
		t.wantEqual(usersOf(t.claim(h, at.Add(time.Hour-tick), 10)), []string{"user03"}) // its claim has ended
		t.wantEqual(usersOf(t.claim(h, at.Add(time.Hour), 10)), []string{"user01"})
	}},
	{"that have ended count only deliveries", func(t *test) {
		h := t.addHookFor(3)
		old := t.claim(h, noon, 10)
		later := noon.Add(time.Minute)
		current := t.claim(h, later, 10)
		t.must(t.Report(t.ctx, []hook.Result{
			{Notification: old[0], Failure: "late", RetryAt: later},
			{Notification: old[1], Failure: "late"},
			{Notification: old[2]},
		}, later))
		if s := t.hookState("a"); s.Waiting != 2 || s.GivenUp != 0 || s.LastError != "" {
			t.Errorf("got %+v", s)
		}
		t.wantEqual(usersOf(t.claim(h, later, 10)), nil)
		// A result that is reported twice counts once.
		for range 2 {
			t.must(t.Report(t.ctx, []hook.Result{{Notification: current[1], Failure: "no"}}, later))
		}
		if s := t.hookState("a"); s.Waiting != 1 || s.GivenUp != 1 {
			t.Errorf("got %+v", s)
		}
	}},
}
