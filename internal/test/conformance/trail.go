package conformance

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/delivery"
	"dialtone/internal/fault"
	"dialtone/internal/hook"
	"dialtone/internal/mailmsg"
	"dialtone/internal/sipserver"
	"dialtone/internal/tenant"
)

// operator is the actor of tests.
var operator = audit.Actor{Kind: audit.Command, Name: "root", ID: "0", Sudo: "olga"}

// as returns a context for changes of operator.
func (t *test) as(reason string) context.Context {
	return audit.With(t.ctx, audit.Cause{Actor: operator, Reason: reason})
}

// changes returns the changes that a filter selects.
func (t *test) changes(f audit.Filter) (list []audit.Change) {
	t.Helper()
	t.must(t.Changes(t.ctx, f, func(c audit.Change) error {
		list = append(list, c)
		return nil
	}))
	return list
}

// lastChange returns the ID of the newest change, or 0.
func (t *test) lastChange() (id int64) {
	t.Helper()
	for _, c := range t.changes(audit.Filter{}) {
		id = c.ID
	}
	return id
}

// newChanges runs do and returns the changes that it adds, in short.
func (t *test) newChanges(do func()) (list []string) {
	t.Helper()
	last := t.lastChange()
	do()
	for _, c := range t.changes(audit.Filter{AfterID: last}) {
		text := fmt.Sprintf("%s %s %s %s %s>%s", c.Action, c.Tenant, c.User, c.Subject, c.Before, c.After)
		list = append(list, strings.Join(strings.Fields(strings.TrimSuffix(text, ">")), " "))
	}
	return list
}

// wantAccountState checks the state of an account, and since when, by whom and for what reason it
// is in that state.
func (t *test) wantAccountState(a account.Account, state account.State, since time.Time, by, reason string) {
	t.Helper()
	gotSince, gotBy, gotReason := a.Since()
	if a.State() != state || !gotSince.Equal(since) || gotBy != by || gotReason != reason {
		t.Errorf("got %s since %v by %q: %q, want %s since %v by %q: %q",
			a.State(), gotSince, gotBy, gotReason, state, since, by, reason)
	}
}

var stateTests = []testCase{
	{"begins with waiting, and with active after the link", func(t *test) {
		a := t.addPending("ann", noon)
		t.wantAccountState(t.find("ann", noon), account.Waiting, noon, "", "")
		at := noon.Add(time.Hour)
		_, err := t.Activate(t.ctx, t.tenant, a.Token, at)
		t.must(err)
		t.wantAccountState(t.find("ann", at), account.Active, at, "", "")
	}},
	{"is disabled by Disable, and restored by Enable", func(t *test) {
		waiting := t.addPending("ann", noon)
		t.addActive("bob", noon)
		for user, state := range map[string]account.State{"ann": account.Waiting, "bob": account.Active} {
			got, err := t.Disable(t.as("spam"), t.tenant, user, noon.Add(time.Hour))
			t.must(err)
			t.wantAccountState(got, account.Disabled, noon.Add(time.Hour), "root (sudo by olga)", "spam")
			t.wantAccountState(t.find(user, noon), account.Disabled, noon.Add(time.Hour), "root (sudo by olga)", "spam")
			got, err = t.Enable(t.as("a mistake"), t.tenant, user, noon.Add(2*time.Hour))
			t.must(err)
			t.wantAccountState(got, state, noon.Add(2*time.Hour), "root (sudo by olga)", "a mistake")
			t.wantAccountState(t.find(user, noon), state, noon.Add(2*time.Hour), "root (sudo by olga)", "a mistake")
		}
		// The link works again, and the operator and reason of the earlier state are gone.
		at := noon.Add(3 * time.Hour)
		_, err := t.Activate(t.ctx, t.tenant, waiting.Token, at)
		t.must(err)
		t.wantAccountState(t.find("ann", at), account.Active, at, "", "")
	}},
	{"gets time, operator and reason together if an account is disabled again for a reason", func(t *test) {
		t.addActive("ann", noon)
		dan := func(reason string) context.Context {
			return audit.With(t.ctx, audit.Cause{Actor: audit.Actor{Kind: audit.Admin, Name: "dan"}, Reason: reason})
		}
		for i, c := range []struct {
			ctx   context.Context
			since int
			by    string
			why   string
		}{
			{t.as("spam"), 0, "root (sudo by olga)", "spam"},
			{dan(""), 0, "root (sudo by olga)", "spam"},
			{t.ctx, 0, "root (sudo by olga)", "spam"},
			{dan("fraud"), 3, "admin dan", "fraud"},
			{t.as(""), 3, "admin dan", "fraud"},
		} {
			got, err := t.Disable(c.ctx, t.tenant, "ann", noon.Add(time.Duration(i)*time.Hour))
			t.must(err)
			since := noon.Add(time.Duration(c.since) * time.Hour)
			t.wantAccountState(got, account.Disabled, since, c.by, c.why)
			t.wantAccountState(t.find("ann", noon), account.Disabled, since, c.by, c.why)
		}
		_, err := t.SetRole(t.ctx, t.tenant, "ann", t.find("ann", noon).Role, noon.Add(time.Hour))
		t.must(err)
		t.wantAccountState(t.find("ann", noon), account.Disabled, noon.Add(3*time.Hour), "admin dan", "fraud")
	}},
	{"keeps its time, operator and reason if an account is enabled again", func(t *test) {
		t.addPending("ann", noon)
		_, err := t.EnableNow(t.as("by phone"), t.tenant, "ann", noon)
		t.must(err)
		for _, enable := range []func(context.Context, int64, string, time.Time) (account.Account, error){
			t.Enable, t.EnableNow,
		} {
			got, err := enable(t.ctx, t.tenant, "ann", noon.Add(time.Hour))
			t.must(err)
			t.wantAccountState(got, account.Active, noon, "root (sudo by olga)", "by phone")
		}
	}},
	{"does not change if Enable does not apply", func(t *test) {
		pending, member := t.addPending("ann", noon), t.addActive("bob", noon)
		_, err := t.Enable(t.as(""), t.tenant, "ann", noon.Add(time.Hour))
		t.wantErr(err, account.ErrWaiting)
		t.wantAccount(t.find("ann", noon), pending.Account)
		before := t.find("bob", noon)
		got, err := t.Enable(t.as(""), t.tenant, "bob", noon.Add(time.Hour))
		t.must(err)
		t.wantAccount(got, before)
		got, err = t.EnableNow(t.as(""), t.tenant, "bob", noon.Add(time.Hour))
		t.must(err)
		t.wantAccount(got, before)
		t.wantAccountState(t.find("bob", noon), account.Active, member.Account.Created, "", "")
	}},
	{"of an account that was disabled while it waited ends with the week", func(t *test) {
		t.addPending("ann", noon)
		_, err := t.Disable(t.as(""), t.tenant, "ann", noon)
		t.must(err)
		t.wantNoAccount("ann", noon.Add(week))
		t.addPending("ann", noon.Add(week))
		t.wantAccountState(t.find("ann", noon.Add(week)), account.Waiting, noon.Add(week), "", "")
	}},
	{"selects the accounts of List", func(t *test) {
		t.addPending("waiting", noon)
		t.addActive("active", noon)
		t.addPending("never", noon)
		t.addActive("banned", noon)
		for _, user := range []string{"never", "banned"} {
			_, err := t.Disable(t.ctx, t.tenant, user, noon)
			t.must(err)
		}
		for _, c := range []struct {
			states []account.State
			want   []string
		}{
			{nil, []string{"active", "banned", "never", "waiting"}},
			{[]account.State{account.Waiting}, []string{"waiting"}},
			{[]account.State{account.Active}, []string{"active"}},
			{[]account.State{account.Disabled}, []string{"banned", "never"}},
			{[]account.State{account.Waiting, account.Active}, []string{"active", "waiting"}},
		} {
			users := accountUsers(t.pages(account.Query{States: c.states}, 10, noon))
			slices.Sort(users)
			t.wantEqual(users, c.want)
		}
		for _, a := range t.pages(account.Query{States: account.States}, 10, noon.Add(week)) {
			if a.State() == account.Waiting {
				t.Errorf("%s has expired", a.User)
			}
		}
	}},
}

var nameTests = []testCase{
	{"are those of deleted accounts that were active", func(t *test) {
		other := t.addTenant("b.test")
		for _, user := range []string{"cid", "bob"} {
			t.addActive(user, noon)
			t.must(t.Delete(t.ctx, t.tenant, user, noon.Add(time.Hour)))
		}
		t.addActive("dan", noon)
		t.addPending("eve", noon)
		t.must(t.Delete(t.ctx, t.tenant, "eve", noon))
		var names []string
		t.must(t.ClosedNames(t.ctx, t.tenant, func(n account.ClosedName) error {
			if names = append(names, n.User); !n.Closed.Equal(noon.Add(time.Hour)) {
				t.Errorf("%s was deleted at %v", n.User, n.Closed)
			}
			return nil
		}))
		t.wantEqual(names, []string{"bob", "cid"})
		t.must(t.ClosedNames(t.ctx, other, func(n account.ClosedName) error {
			t.Errorf("another tenant has %s", n.User)
			return nil
		}))
		for after, want := range map[string]string{"": "bob", "bob": "cid", "cid": ""} {
			list, err := t.ClosedNamesAfter(t.ctx, t.tenant, after, 1)
			t.must(err)
			if got := append(list, account.ClosedName{})[0]; got.User != want || len(list) > 1 {
				t.Errorf("after %q: %v", after, list)
			}
		}
		t.wantKind(t.FreeName(t.ctx, other, "bob", noon), fault.NotFound)
	}},
	{"can be freed, once, and then be taken", func(t *test) {
		old := t.addActive("ann", noon)
		t.must(t.Delete(t.ctx, t.tenant, "ann", noon))
		t.wantErr(t.Create(t.ctx, t.signup("ann", noon), noon), account.ErrTaken)
		t.must(t.FreeName(t.ctx, t.tenant, "ann", noon))
		t.wantKind(t.FreeName(t.ctx, t.tenant, "ann", noon), fault.NotFound)
		next := t.addPending("ann", noon)
		t.wantAccount(t.find("ann", noon), next.Account)
		_, err := t.FindUID(t.ctx, t.tenant, old.Account.UID, noon)
		t.wantKind(err, fault.NotFound)
	}},
	{"of accounts cannot be freed", func(t *test) {
		t.addActive("ann", noon)
		t.addPending("bob", noon)
		for _, user := range []string{"ann", "bob", "cid"} {
			t.wantKind(t.FreeName(t.ctx, t.tenant, user, noon), fault.NotFound)
		}
		t.find("ann", noon)
		t.find("bob", noon)
	}},
}

var trailTests = []testCase{
	{"has each change of an account with its cause, and nothing else", func(t *test) {
		t.addPending("kim", noon)
		a := t.addActive("ann", noon)
		at := noon.Add(time.Hour)
		last := t.lastChange()
		_, err := t.Disable(t.as("fraud"), t.tenant, "ann", at)
		t.must(err)
		list := t.changes(audit.Filter{AfterID: last})
		want := audit.Change{
			At: at, Action: audit.AccountDisable, Outcome: audit.OK, Tenant: "phone.test",
			Account: a.Account.UID.String(), User: "ann", Before: "active", After: "disabled",
			Cause: audit.Cause{Actor: operator, Reason: "fraud"},
		}
		if len(list) == 1 {
			want.ID = list[0].ID
		}
		if len(list) != 1 || list[0] != want || want.ID <= last {
			t.Fatalf("got %+v\nwant %+v", list, want)
		}
		for _, c := range []struct {
			do   func() error
			want []string
		}{
			{func() error { _, err := t.Enable(t.ctx, t.tenant, "ann", at); return err },
				[]string{"account.enable phone.test ann disabled>active"}},
			{func() error { _, err := t.Enable(t.ctx, t.tenant, "ann", at); return err }, nil},
			{func() error { _, err := t.Enable(t.ctx, t.tenant, "kim", at); return err }, nil},
			{func() error { _, err := t.EnableNow(t.ctx, t.tenant, "kim", at); return err },
				[]string{"account.enable phone.test kim waiting>active"}},
			{func() error { _, err := t.SetRole(t.ctx, t.tenant, "kim", account.Admin, at); return err },
				[]string{"account.role phone.test kim guest>admin"}},
			{func() error { return t.Delete(t.ctx, t.tenant, "kim", at) },
				[]string{"account.delete phone.test kim active>closed"}},
			{func() error { return t.FreeName(t.ctx, t.tenant, "kim", at) },
				[]string{"account.free-name phone.test kim closed"}},
			{func() error { return t.FreeName(t.ctx, t.tenant, "kim", at) }, nil},
			{func() error { _, err := t.Disable(t.ctx, t.tenant, "nobody", at); return err }, nil},
			{func() error { t.addActive("lea", at); return nil }, nil},
		} {
			t.wantEqual(t.newChanges(func() { _ = c.do() }), c.want)
		}
	}},
	{"has each change of tenants, phone servers, hooks, keys and messages", func(t *test) {
		b := tenant.Tenant{Host: "b.test", Realm: "b.test", Created: noon}
		var err error
		sbc := sipserver.Server{Name: "sbc", Tenants: []int64{t.tenant}, Created: noon}
		h := hook.Hook{Name: "sbc", Kind: hook.Webhook, URL: "https://sbc.test/", AllTenants: true, Created: noon}
		key := delivery.SigningKey{Tenant: t.tenant, Selector: "s1", Created: noon, Sealed: []byte("x")}
		message := t.addEnqueued("ann", noon)
		other := t.addEnqueued("bob", noon)
		for _, d := range []account.Signup{message, other} {
			t.record(d, delivery.Failed, "550 no")
		}
		for _, c := range []struct {
			do   func() error
			want []string
		}{
			{func() error { b, err = t.AddTenant(t.ctx, b); return err }, []string{"tenant.add b.test"}},
			{func() error { _, err := t.AddTenant(t.ctx, b); return err }, nil},
			{func() error {
				b.Product, b.PublicURL = "Phones", "https://b.test"
				return t.SetTenant(t.ctx, b, noon)
			}, []string{`tenant.set b.test {"public_url":""}>{"product":"Phones","public_url":"https://b.test"}`}},
			{func() error {
				b.Logo = tenant.Logo{Type: "image/png", Data: []byte("logo")}
				return t.SetTenant(t.ctx, b, noon)
			}, []string{`tenant.set b.test {"logo":""}>{"logo":"image/png, 4 bytes, SHA-256 ` +
				fmt.Sprintf("%x", sha256.Sum256([]byte("logo"))) + `"}`}},
			{func() error { t.addActiveAt(b.ID, "cid"); return t.RemoveTenant(t.ctx, "b.test", false, noon) }, nil},
			{func() error { return t.RemoveTenant(t.ctx, "b.test", true, noon) },
				[]string{"tenant.remove b.test 1 accounts"}},
			{func() error {
				return t.AddServer(t.ctx, sbc)
			},
				[]string{"directory.token.add sbc >phone.test"}},
			{func() error { return t.AddServer(t.ctx, sipserver.Server{Name: "sbc", Created: noon}) }, nil},
			{func() error { return t.RemoveServer(t.ctx, "sbc") }, []string{"directory.token.remove sbc phone.test"}},
			{func() error { return t.RemoveServer(t.ctx, "sbc") }, nil},
			{func() error { return t.AddHook(t.ctx, h) },
				[]string{"directory.hook.add sbc >webhook https://sbc.test, all tenants"}},
			{func() error { return t.AddHook(t.ctx, h) }, nil},
			{func() error { return t.RemoveHook(t.ctx, "sbc") },
				[]string{"directory.hook.remove sbc webhook https://sbc.test, all tenants"}},
			{func() error { return t.RemoveHook(t.ctx, "sbc") }, nil},
			{func() error { return t.AddSigningKey(t.ctx, key) }, []string{"dkim.add phone.test s1"}},
			{func() error { return t.AddSigningKey(t.ctx, key) }, nil},
			{func() error { return t.RemoveSigningKey(t.ctx, t.tenant, "s1") }, []string{"dkim.remove phone.test s1"}},
			{func() error { return t.RemoveSigningKey(t.ctx, t.tenant, "s1") }, nil},
			{func() error { _, err := t.Retry(t.ctx, message.Message, noon); return err },
				[]string{"message.retry phone.test ann " + message.Message.String() + " failed>waiting"}},
			{func() error { _, err := t.RetryAll(t.ctx, noon); return err }, []string{"message.retry 1 messages"}},
			{func() error { _, err := t.RetryAll(t.ctx, noon); return err }, nil},
			{func() error { _, err := t.Discard(t.ctx, other.Message, "no", noon); return err },
				[]string{"message.discard phone.test bob " + other.Message.String() + " waiting>discarded"}},
			{func() error {
				return t.AddFirstTenant(t.ctx, tenant.Tenant{Host: "first.test", Realm: "first.test", Created: noon})
			}, nil},
		} {
			t.wantEqual(t.newChanges(func() { _ = c.do() }), c.want)
		}
	}},
	{"has changes outside the store", func(t *test) {
		want := audit.Change{
			At: noon, Action: audit.KeysRotate, Outcome: audit.Failed, Subject: "revoke",
			Cause: audit.Cause{Actor: operator, Reason: "leaked"},
		}
		c := want
		c.Cause = audit.Cause{} // that of the context is used
		t.must(t.AddChange(t.as("leaked"), c))
		list := t.changes(audit.Filter{})
		got := list[len(list)-1]
		want.ID = got.ID
		if got != want {
			t.Errorf("got  %+v\nwant %+v", got, want)
		}
		t.must(t.AddChange(t.ctx, c))
		list = t.changes(audit.Filter{AfterID: got.ID})
		if len(list) != 1 || list[0].Actor != (audit.Actor{Kind: audit.System}) {
			t.Errorf("got %+v", list)
		}
	}},
	{"can be filtered", func(t *test) {
		other := t.addTenant("b.test")
		for i, c := range []struct {
			tenant int64
			user   string
		}{{t.tenant, "ann"}, {t.tenant, "bob"}, {other, "ann"}} {
			t.addActiveAt(c.tenant, c.user)
			_, err := t.Disable(t.ctx, c.tenant, c.user, noon.Add(time.Duration(i+1)*time.Hour))
			t.must(err)
		}
		for _, c := range []struct {
			filter audit.Filter
			want   string
		}{
			{audit.Filter{User: "ann"}, "phone.test/ann b.test/ann"},
			{audit.Filter{User: "ann", Tenant: "b.test"}, "b.test/ann"},
			{audit.Filter{Since: noon.Add(2 * time.Hour)}, "phone.test/bob b.test/ann"},
			{audit.Filter{Since: noon.Add(2*time.Hour + tick)}, "b.test/ann"},
			{audit.Filter{Tenant: "nowhere.test"}, ""},
		} {
			var got []string
			for _, change := range t.changes(c.filter) {
				got = append(got, change.Tenant+"/"+change.User)
			}
			if text := strings.Join(got, " "); text != c.want {
				t.Errorf("%+v selects %q, want %q", c.filter, text, c.want)
			}
		}
	}},
	{"keeps the networks of an erased account, not its addresses", func(t *test) {
		a := t.addActive("ann", noon)
		for i, kind := range []audit.ActorKind{audit.Person, audit.Person, audit.Admin} {
			ctx := audit.With(t.ctx, audit.Cause{
				Actor: audit.Actor{Kind: kind}, Net: []string{"192.0.2.7", "2001:db8::7", "198.51.100.7"}[i],
			})
			t.must(t.AddChange(ctx, audit.Change{
				At: noon, Action: audit.AccountStay, Outcome: audit.OK, Tenant: "phone.test", User: a.Account.User,
			}))
		}
		t.must(t.Delete(t.ctx, t.tenant, "ann", noon))
		var nets []string
		for _, c := range t.changes(audit.Filter{Action: string(audit.AccountStay)}) {
			nets = append(nets, c.Net)
		}
		t.wantEqual(nets, []string{"192.0.2.0/24", "2001:db8::/48", "198.51.100.7"})
	}},
	{"keeps no e-mail address, name or credential of a deleted account", func(t *test) {
		a := t.addActive("ann", noon)
		for _, do := range []func() error{
			func() error { _, err := t.Disable(t.ctx, t.tenant, "ann", noon); return err },
			func() error { return t.Delete(t.ctx, t.tenant, "ann", noon) },
		} {
			t.must(do())
		}
		text := fmt.Sprintf("%+v", t.changes(audit.Filter{}))
		for _, secret := range []string{a.Account.Email, a.Account.Name} {
			if strings.Contains(text, secret) {
				t.Errorf("the trail contains %q: %s", secret, text)
			}
		}
	}},
	{"is read in the order of the commits, without gaps, during concurrent writes", func(t *test) {
		const writers, each = 8, 20
		for i := range writers {
			t.addActive(fmt.Sprint("ann", i), noon)
		}
		last := t.lastChange()
		var all sync.WaitGroup
		for i := range writers {
			all.Go(func() {
				for range each {
					if _, err := t.Disable(t.ctx, t.tenant, fmt.Sprint("ann", i), noon); err != nil {
						t.Error(err)
					}
				}
			})
		}
		done := make(chan struct{})
		go func() {
			all.Wait()
			close(done)
		}()
		seen := 0
		for ended := false; !ended; {
			select {
			case <-done:
				ended = true
			default:
			}
			for _, c := range t.changes(audit.Filter{AfterID: last}) {
				last = c.ID
				seen++
			}
		}
		if seen != writers*each {
			t.Errorf("a reader saw %d changes, want %d", seen, writers*each)
		}
	}},
	{"loses changes up to an ID if the state has not changed, and reuses no ID", func(t *test) {
		last := t.lastChange()
		for range 4 {
			t.must(t.AddChange(t.ctx, audit.Change{At: noon, Action: audit.KeysRotate, Outcome: audit.OK}))
		}
		list := t.changes(audit.Filter{AfterID: last})
		for _, c := range []struct {
			was, state    string
			through       int64
			removed       bool
			oldest, count int
		}{
			{"", "a", list[1].ID, true, 2, 2},
			{"", "b", list[2].ID, false, 2, 2},
			{"a", "b", list[2].ID, true, 3, 1},
		} {
			removed, err := t.RemoveChanges(t.ctx, c.was, c.through, 0, c.state)
			t.must(err)
			left := t.changes(audit.Filter{})
			if removed != c.removed || len(left) != c.count || left[0] != list[c.oldest] {
				t.Errorf("removed: %t, left %+v, want %+v", removed, left, c)
			}
		}
		_, err := t.RemoveChanges(t.ctx, "b", list[3].ID, 0, "c")
		t.must(err)
		t.must(t.AddChange(t.ctx, audit.Change{At: noon, Action: audit.KeysRotate, Outcome: audit.OK}))
		if left := t.changes(audit.Filter{}); len(left) != 1 || left[0].ID <= list[3].ID {
			t.Errorf("an ID was reused: %+v", left)
		}
	}},
	{"has each change on one page", func(t *test) {
		last := t.lastChange()
		for i := range 7 {
			c := audit.Change{
				At: noon.Add(time.Duration(i) * time.Hour), Action: audit.KeysRotate, Outcome: audit.OK,
				Tenant: "a.test",
			}
			if i%2 == 1 {
				c.Action, c.Tenant = audit.AccountRole, "b.test"
			}
			cause := audit.Cause{Actor: operator, Net: "192.0.2.0/24", Request: "r1"}
			if i > 2 {
				cause = audit.Cause{Actor: audit.Actor{Kind: audit.Token, Name: "crm"}, Net: "2001:db8::7"}
			}
			t.must(t.AddChange(audit.With(t.ctx, cause), c))
		}
		list := t.changes(audit.Filter{AfterID: last})
		for name, c := range map[string]struct {
			f    audit.Filter
			want string
		}{
			"all":                  {audit.Filter{}, "0123456"},
			"of a tenant":          {audit.Filter{Tenant: "b.test"}, "135"},
			"by an actor":          {audit.Filter{Actor: "crm"}, "3456"},
			"by a kind":            {audit.Filter{ActorKind: audit.Command}, "012"},
			"an action":            {audit.Filter{Action: "account.role"}, "135"},
			"actions":              {audit.Filter{Action: "account."}, "135"},
			"part of an action":    {audit.Filter{Action: "account"}, ""},
			"of a network":         {audit.Filter{Net: netip.MustParsePrefix("192.0.2.9/32")}, "012"},
			"of an IPv6 network":   {audit.Filter{Net: netip.MustParsePrefix("2001:db8::/32")}, "3456"},
			"of a time":            {audit.Filter{Since: noon.Add(time.Hour), Before: noon.Add(3 * time.Hour)}, "12"},
			"a tenant by an actor": {audit.Filter{Tenant: "b.test", Actor: "crm"}, "35"},
		} {
			for _, newest := range []bool{false, true} {
				f := c.f
				f.AfterID, f.Newest = last, newest
				got := ""
				for next, pages := "", 0; pages == 0 || next != ""; pages++ {
					p, err := t.ChangePage(t.ctx, f, next, 2)
					t.must(err)
					if len(p.Changes) > 2 {
						t.Errorf("%s: a page of %d", name, len(p.Changes))
					}
					for _, change := range p.Changes {
						got += fmt.Sprint(slices.Index(list, change))
					}
					next = p.Next
				}
				want := []byte(c.want)
				if newest {
					slices.Reverse(want)
				}
				if got != string(want) {
					t.Errorf("%s, newest first %t: %q, want %q", name, newest, got, want)
				}
			}
		}
		_, err := t.ChangePage(t.ctx, audit.Filter{}, "x", 2)
		t.wantKind(err, fault.Invalid)
	}},
}

// addActiveAt adds an active account at a tenant.
func (t *test) addActiveAt(id int64, user string) account.Signup {
	own := t.tenant
	defer func() { t.tenant = own }()
	t.tenant = id
	return t.addActive(user, noon)
}

var orphanTests = []testCase{
	{"have neither an account nor an older link of one", func(t *test) {
		pending, member := t.addPending("ann", noon), t.addActive("bob", noon)
		closed, deleted := t.addActive("cid", noon), t.addPending("dan", noon)
		for _, user := range []string{"cid", "dan"} {
			t.must(t.Delete(t.ctx, t.tenant, user, noon))
		}
		newer := t.newLink(pending.Account, "x@mail.test", noon)
		t.must(t.Resend(t.ctx, newer, noon))
		files := []delivery.FoundFile{
			{Message: pending.Message, Token: pending.Token}, {Message: newer.Message, Token: newer.Token},
			{Message: member.Message, Token: member.Token},
			{Message: closed.Message, Token: closed.Token}, {Message: deleted.Message, Token: deleted.Token},
			{Message: newMessageID()},
		}
		got, err := t.WithAccount(t.ctx, files)
		t.must(err)
		if want := []mailmsg.ID{pending.Message, newer.Message, member.Message}; !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		got, err = t.WithAccount(t.ctx, nil)
		t.must(err)
		if len(got) != 0 {
			t.Errorf("got %v", got)
		}
	}},
}
