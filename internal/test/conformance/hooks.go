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

// hook adds a hook for all tenants, or for some.
func (b *bench) hook(name string, tenants ...int64) hook.Hook {
	b.Helper()
	h := hook.Hook{
		ID:         fresh(),
		Name:       name,
		Kind:       hook.Kamailio,
		URL:        "http://127.0.0.1/RPC",
		AllTenants: tenants == nil,
		Tenants:    tenants,
		Created:    noon,
	}
	b.must(b.AddHook(b.ctx, h))
	return h
}

// claim takes what is due for a hook.
func (b *bench) claim(h hook.Hook, at time.Time, limit int) []hook.Notification {
	b.Helper()
	list, err := b.Claim(b.ctx, h.ID, at, at.Add(time.Minute), limit)
	b.must(err)
	return list
}

// told are the notices that are due for a hook, sorted: what, where and who. They are told then.
func (b *bench) told(h hook.Hook, at time.Time) (list []string) {
	b.Helper()
	var results []hook.Result
	for _, n := range b.claim(h, at, 1000) {
		list = append(list, strings.TrimSpace(fmt.Sprint(n.Type, " ", n.Host, " ", n.User)))
		results = append(results, hook.Result{Notification: n})
	}
	b.must(b.Report(b.ctx, results, at))
	slices.Sort(list)
	return list
}

// state is how a hook is doing.
func (b *bench) state(name string) hook.State {
	b.Helper()
	list, err := b.Hooks(b.ctx)
	b.must(err)
	for _, s := range list {
		if s.Name == name {
			return s
		}
	}
	b.Fatalf("there is no hook %s", name)
	return hook.State{}
}

func (b *bench) due(at time.Time) (names []string) {
	b.Helper()
	list, err := b.Due(b.ctx, at)
	b.must(err)
	for _, h := range list {
		names = append(names, h.Name)
	}
	return names
}

var hookRules = []rule{
	{"are added whole, and listed by name", func(b *bench) {
		other := b.addTenant("other.test")
		want := hook.Hook{
			ID:        fresh(),
			Name:      "b",
			Kind:      hook.Webhook,
			URL:       "https://hooks.test/x?y=z",
			PlainHTTP: true,
			Tenants:   []int64{b.tenant, other},
			Sealed:    []byte("sealed\x00"),
			Created:   noon.Add(7 * tick),
		}
		b.must(b.AddHook(b.ctx, want))
		b.hook("a")
		list, err := b.Hooks(b.ctx)
		b.must(err)
		if len(list) != 2 || list[0].Name != "a" || !list[0].AllTenants || len(list[0].Tenants) != 0 ||
			len(list[0].Sealed) != 0 ||
			list[0].PlainHTTP {
			b.Fatalf("got %+v", list)
		}
		if got, want := fmt.Sprintf("%+v", list[1]), fmt.Sprintf("%+v", hook.State{Hook: want}); got != want {
			b.Errorf("got  %s\nwant %s", got, want)
		}
	}},
	{"have a name that no other has", func(b *bench) {
		first := b.hook("a")
		b.refused(b.AddHook(b.ctx, hook.Hook{ID: fresh(), Name: "a", Created: noon}), fault.Conflict)
		if got := b.state("a"); got.ID != first.ID {
			b.Errorf("the hook is %v", got)
		}
		b.must(b.RemoveHook(b.ctx, "a"))
		b.refused(b.RemoveHook(b.ctx, "a"), fault.NotFound)
		b.hook("a")
	}},
	{"one of 20 at once gets a name", func(b *bench) {
		got := b.crowd(20, func(int) error {
			return b.AddHook(b.ctx, hook.Hook{ID: fresh(), Name: "a", AllTenants: true, Created: noon})
		})
		if got[-1] != 1 || got[fault.Conflict] != 19 {
			b.Errorf("got %v", got)
		}
	}},
	{"take their notices with them", func(b *bench) {
		b.member("ann", noon)
		b.hook("a")
		kept := b.hook("kept")
		_, err := b.Disable(b.ctx, b.tenant, "ann", noon)
		b.must(err)
		b.must(b.RemoveHook(b.ctx, "a"))
		b.equal(b.due(noon), []string{"kept"})
		anew := b.hook("a")
		b.equal(b.told(anew, noon), nil)
		b.equal(b.told(kept, noon), []string{"account.disabled phone.test ann"})
	}},
	{"come and go while accounts change", func(b *bench) {
		for i := range 8 {
			b.member(fmt.Sprint("user", i), noon)
		}
		got := b.crowd(64, func(i int) error {
			if i%2 == 0 {
				_, err := b.Disable(b.ctx, b.tenant, fmt.Sprint("user", i/2%8), noon)
				return err
			}
			name := fmt.Sprint("hook", i)
			if err := b.AddHook(b.ctx,
				hook.Hook{ID: fresh(), Name: name, AllTenants: true, Created: noon}); err != nil {
				return err
			}
			return b.RemoveHook(b.ctx, name)
		})
		if got[-1] != 64 {
			b.Errorf("got %v", got)
		}
		b.equal(b.due(noon), nil)
	}},
}

var noticeRules = []rule{
	{"are written with each change that concerns phone servers, and with no other", func(b *bench) {
		h := b.hook("a")
		b.member("ann", noon)
		b.member("bob", noon)
		b.join("kim", noon)
		other := b.addTenant("other.test")
		b.equal(b.told(h, noon), []string{"tenant.added other.test"})
		at := noon.Add(time.Minute)
		for _, c := range []struct {
			name string
			do   func() error
			want []string
		}{
			{"disable", func() error { _, err := b.Disable(b.ctx, b.tenant, "ann", at); return err },
				[]string{"account.disabled phone.test ann"}},
			{"enable", func() error { _, err := b.Enable(b.ctx, b.tenant, "ann", at); return err }, nil},
			{"role", func() error { _, err := b.SetRole(b.ctx, b.tenant, "ann", account.User, at); return err },
				[]string{"account.role phone.test ann"}},
			{"delete", func() error { return b.Delete(b.ctx, b.tenant, "ann", at) },
				[]string{"account.deleted phone.test ann"}},
			{"disable who was not active",
				func() error { _, err := b.Disable(b.ctx, b.tenant, "kim", at); return err }, nil},
			{"role of who was not active",
				func() error { _, err := b.SetRole(b.ctx, b.tenant, "kim", account.User, at); return err }, nil},
			{"delete who was not active", func() error { return b.Delete(b.ctx, b.tenant, "kim", at) }, nil},
			{"set a tenant", func() error { return b.SetTenant(b.ctx, b.tenantOf("other.test"), at) },
				[]string{"tenant.changed other.test"}},
			{"remove a tenant", func() error { return b.RemoveTenant(b.ctx, "other.test", false, at) },
				[]string{"tenant.removed other.test"}},
		} {
			b.must(c.do())
			if got := b.told(h, at); !slices.Equal(got, c.want) {
				b.Errorf("%s: got %q, want %q", c.name, got, c.want)
			}
		}
		for name, do := range map[string]func() error{
			"disable a deleted one": func() error { _, err := b.Disable(b.ctx, b.tenant, "ann", at); return err },
			"delete nobody":         func() error { return b.Delete(b.ctx, b.tenant, "nobody", at) },
			"add a tenant twice": func() error {
				_, err := b.AddTenant(b.ctx, tenant.Tenant{Host: "phone.test", Realm: "x", Created: at})
				return err
			},
			"set one that is gone": func() error {
				return b.SetTenant(b.ctx, tenant.Tenant{ID: other, Host: "other.test"}, at)
			},
			"remove one with people": func() error { return b.RemoveTenant(b.ctx, "phone.test", false, at) },
		} {
			if err := do(); err == nil {
				b.Errorf("%s succeeds", name)
			}
			if got := b.told(h, at); got != nil {
				b.Errorf("%s: %q", name, got)
			}
		}
	}},
	{"say all that a server needs", func(b *bench) {
		t, err := b.AddTenant(b.ctx, tenant.Tenant{Host: "b.test", Realm: "Realm of B", Created: noon})
		b.must(err)
		b.tenant = t.ID
		ann := b.member("ann", noon)
		h := b.hook("a")
		at := noon.Add(7 * tick)
		_, err = b.Disable(b.ctx, t.ID, "ann", at)
		b.must(err)
		list := b.claim(h, at, 10)
		if len(list) != 1 {
			b.Fatalf("got %+v", list)
		}
		n := list[0]
		want := hook.Notification{
			Hook: h.ID, EventID: n.EventID, Account: ann.Account.UID, Type: hook.AccountDisabled, Tenant: t.ID,
			Host: "b.test", Realm: "Realm of B", User: "ann", At: at, Attempts: 1, ClaimEnds: at.Add(time.Minute),
		}
		if n != want || n.EventID == (account.UID{}) {
			b.Errorf("got  %+v\nwant %+v", n, want)
		}
		b.must(b.SetTenant(b.ctx, b.tenantOf("b.test"), at))
		if list = b.claim(h, at, 10); len(list) != 1 || list[0].Account != (account.UID{}) || list[0].ID() == n.ID() {
			b.Errorf("got %+v", list)
		}
	}},
	{"go to the hooks that are for the tenant", func(b *bench) {
		other := b.addTenant("other.test")
		b.member("ann", noon)
		all, own := b.hook("all"), b.hook("own", b.tenant)
		foreign, both := b.hook("foreign", other), b.hook("both", other, b.tenant)
		_, err := b.Disable(b.ctx, b.tenant, "ann", noon)
		b.must(err)
		b.addTenant("third.test")
		b.equal(b.due(noon), []string{"all", "both", "own"})
		b.equal(b.told(all, noon), []string{"account.disabled phone.test ann", "tenant.added third.test"})
		b.equal(b.told(own, noon), []string{"account.disabled phone.test ann"})
		b.equal(b.told(both, noon), []string{"account.disabled phone.test ann"})
		b.equal(b.told(foreign, noon), nil)
	}},
	{"tell of everybody who goes with a tenant", func(b *bench) {
		b.member("ann", noon)
		b.member("bob", noon)
		b.member("gone", noon)
		b.join("kim", noon)
		_, err := b.Disable(b.ctx, b.tenant, "bob", noon)
		b.must(err)
		b.must(b.Delete(b.ctx, b.tenant, "gone", noon))
		b.addTenant("other.test")
		all, own := b.hook("all"), b.hook("own", b.tenant)
		b.must(b.RemoveTenant(b.ctx, "phone.test", true, noon))
		want := []string{
			"account.deleted phone.test ann",
			"account.deleted phone.test bob",
			"tenant.removed phone.test",
		}
		for _, h := range []hook.Hook{all, own} {
			b.equal(b.told(h, noon), want)
		}
		// A tenant of the same host is another one, and a hook without its tenants is for nobody.
		b.tenant = b.addTenant("phone.test")
		b.member("ann", noon)
		_, err = b.Disable(b.ctx, b.tenant, "ann", noon)
		b.must(err)
		b.equal(b.told(own, noon), nil)
		if got := b.state("own"); got.AllTenants || len(got.Tenants) != 0 {
			b.Errorf("got %+v", got)
		}
	}},
	{"are one for each change", func(b *bench) {
		h := b.hook("a")
		b.member("ann", noon)
		got := b.crowd(20, func(int) error { _, err := b.Disable(b.ctx, b.tenant, "ann", noon); return err })
		if n := len(b.told(h, noon)); got[-1] != 20 || n != 20 {
			b.Errorf("%d notices of %v", n, got)
		}
	}},
	{"wake whoever waits for them", func(b *bench) {
		b.member("ann", noon)
		for len(b.NotificationsAdded()) > 0 {
			<-b.NotificationsAdded()
		}
		for _, c := range []struct {
			name string
			do   func() error
		}{
			{"disable", func() error { _, err := b.Disable(b.ctx, b.tenant, "ann", noon); return err }},
			{"role", func() error { _, err := b.SetRole(b.ctx, b.tenant, "ann", account.User, noon); return err }},
			{"delete", func() error { return b.Delete(b.ctx, b.tenant, "ann", noon) }},
			{"add", func() error { b.addTenant("b.test"); return nil }},
			{"set", func() error { return b.SetTenant(b.ctx, b.tenantOf("phone.test"), noon) }},
			{"remove", func() error { return b.RemoveTenant(b.ctx, "phone.test", true, noon) }},
		} {
			b.must(c.do())
			select {
			case <-b.NotificationsAdded():
			default:
				b.Errorf("%s wakes nobody", c.name)
			}
		}
	}},
}

// busy is a hook with a notice for each of so many users.
func (b *bench) busy(users int) hook.Hook {
	b.Helper()
	h := b.hook("a")
	for i := range users {
		user := fmt.Sprintf("user%02d", i)
		b.member(user, noon)
		_, err := b.Disable(b.ctx, b.tenant, user, noon.Add(time.Duration(i)*time.Second))
		b.must(err)
	}
	return h
}

func users(list []hook.Notification) (users []string) {
	for _, n := range list {
		users = append(users, n.User)
	}
	return users
}

var claimRules = []rule{
	{"hold until their time, and then end by themselves", func(b *bench) {
		h := b.busy(1)
		at := noon.Add(-time.Hour) // a clock that is behind sees new notices all the same
		b.equal(b.due(at), []string{"a"})
		first := b.claim(h, at, 10)
		b.equal(users(first), []string{"user00"})
		b.equal(b.due(at.Add(time.Minute-tick)), nil)
		b.equal(users(b.claim(h, at.Add(time.Minute-tick), 10)), nil)
		b.equal(b.due(at.Add(time.Minute)), []string{"a"})
		again := b.claim(h, at.Add(time.Minute), 10)
		if len(again) != 1 || again[0].Attempts != 2 || again[0].ID() != first[0].ID() {
			b.Errorf("got %+v", again)
		}
	}},
	{"of a hook that is not there find nothing", func(b *bench) {
		b.busy(1)
		b.equal(users(b.claim(hook.Hook{ID: fresh()}, noon, 10)), nil)
	}},
	{"take what was never tried first, and no more than they may", func(b *bench) {
		h := b.busy(5)
		first := b.claim(h, noon, 2)
		b.equal(users(first), []string{"user00", "user01"})
		b.must(b.Report(b.ctx, []hook.Result{
			{Notification: first[0], Failure: "no", RetryAt: noon},
			{Notification: first[1], Failure: "no", RetryAt: noon},
		}, noon))
		b.equal(users(b.claim(h, noon, 2)), []string{"user02", "user03"})
		b.equal(users(b.claim(h, noon, 9)), []string{"user00", "user01", "user04"})
	}},
	{"go to one of many", func(b *bench) {
		h := b.busy(30)
		var mu sync.Mutex
		var all []string
		got := b.crowd(12, func(int) error {
			for {
				list, err := b.Claim(b.ctx, h.ID, noon, noon.Add(time.Minute), 3)
				if err != nil || len(list) == 0 {
					return err
				}
				mu.Lock()
				all = append(all, users(list)...)
				mu.Unlock()
			}
		})
		slices.Sort(all)
		if n := len(slices.Compact(slices.Clone(all))); got[-1] != 12 || n != 30 || len(all) != 30 {
			b.Errorf("%v took %d notices, of %d users", got, len(all), n)
		}
	}},
	{"end with what came of them", func(b *bench) {
		h := b.busy(4)
		list := b.claim(h, noon, 10)
		if s := b.state("a"); s.Waiting != 4 || !s.Oldest.Equal(noon) || !s.LastFailure.IsZero() ||
			s.LastError != "" || s.GivenUp != 0 {
			b.Errorf("before: %+v", s)
		}
		at := noon.Add(5 * time.Second)
		b.must(b.Report(b.ctx, []hook.Result{
			{Notification: list[0]},
			{Notification: list[1], Failure: "it hangs", RetryAt: at.Add(time.Hour)},
			{Notification: list[2], Failure: "no\x00 \xff" + strings.Repeat("é", 500)},
			{Notification: list[3], RetryAt: at},
		}, at))
		s := b.state("a")
		if s.Waiting != 2 || !s.Oldest.Equal(noon.Add(time.Second)) || !s.LastFailure.Equal(at) || s.GivenUp != 1 {
			b.Errorf("after: %+v", s)
		}
		if !strings.HasPrefix(s.LastError, "no? ?é") || len(s.LastError) > 310 {
			b.Errorf("why: %q", s.LastError)
		}
		b.equal(users(b.claim(h, at, 10)), []string{"user03"})
		b.equal(users(b.claim(h, at.Add(time.Hour-tick), 10)), []string{"user03"}) // whose claim has run out
		b.equal(users(b.claim(h, at.Add(time.Hour), 10)), []string{"user01"})
	}},
	{"that ran out decide nothing but that it was told", func(b *bench) {
		h := b.busy(3)
		old := b.claim(h, noon, 10)
		later := noon.Add(time.Minute)
		fresh := b.claim(h, later, 10)
		b.must(b.Report(b.ctx, []hook.Result{
			{
				Notification: old[0],
				Failure:      "late",
				RetryAt:      later,
			},
			{Notification: old[1], Failure: "late"},
			{Notification: old[2]},
		}, later))
		if s := b.state("a"); s.Waiting != 2 || s.GivenUp != 0 || s.LastError != "" {
			b.Errorf("got %+v", s)
		}
		b.equal(users(b.claim(h, later, 10)), nil)
		// What is said twice counts once.
		for range 2 {
			b.must(b.Report(b.ctx, []hook.Result{{Notification: fresh[1], Failure: "no"}}, later))
		}
		if s := b.state("a"); s.Waiting != 1 || s.GivenUp != 1 {
			b.Errorf("got %+v", s)
		}
	}},
}
