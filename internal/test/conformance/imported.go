package conformance

import (
	"fmt"
	"slices"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/fault"
	"dialtone/internal/hook"
	"dialtone/internal/mailmsg"
)

// imported returns an account to import, active and without a message.
func (t *test) imported(user string, at time.Time) account.Addition {
	n := t.addition(user, mailmsg.Activation, at)
	n.Account.Activated, n.Account.Set.State, n.Account.Email, n.Notice = at, account.Active, "", account.Notice{}
	return n
}

// importAll imports accounts, and returns the names that were taken.
func (t *test) importAll(begin *account.ImportChange, at time.Time, list ...account.Addition) (taken []string) {
	t.Helper()
	held, err := t.ImportAccounts(t.byOperator(), t.tenant, list, begin, at)
	t.must(err)
	for user, h := range held {
		if h.User != user || h.Tenant != t.tenant {
			t.Errorf("%s is held by %+v", user, h)
		}
		if h.Closed {
			user += " closed"
		}
		taken = append(taken, user)
	}
	slices.Sort(taken)
	return taken
}

var importTests = []testCase{
	{"equal accounts that are added one by one, but have no entries of their own in the trail", func(t *test) {
		n, waiting := t.imported("ann", noon), t.addition("bob", mailmsg.Activation, noon)
		noPassword := t.addition("carl", mailmsg.SetPassword, noon)
		begin := &account.ImportChange{Subject: "csv 1", After: "3 rows"}
		t.wantEqual(t.importAll(begin, noon, n, waiting, noPassword), nil)
		want := n.Account
		want.Set = account.SetState{State: account.Active, At: noon, By: "op", Reason: "asked"}
		t.wantAccount(t.find("ann", noon), want)
		t.wantLeft("activation bob@mail.test", "set_password carl@mail.test")
		_, err := t.Activate(t.ctx, t.tenant, waiting.Token, noon)
		t.must(err)
		t.wantResetLink(noPassword.Notice.Token, noon, "carl")
		t.must(t.EndImport(t.byOperator(), t.tenant,
			account.ImportChange{Subject: "csv 1", Before: "3 rows", After: "added 3"}, noon))
		t.wantEqual(t.changesOf("")[1:], []string{"account.import csv 1[>3 rows] op asked",
			"account.import csv 1[3 rows>added 3] op asked"})
	}},
	{"take no name that is taken, and change nothing", func(t *test) {
		t.addPending("ann", noon)
		t.addActive("bob", noon)
		t.addActive("gone", noon)
		t.must(t.Delete(t.ctx, t.tenant, "gone", noon))
		other := t.addTenant("other.test")
		elsewhere := t.imported("carl", noon)
		elsewhere.Account.Tenant = other
		_, err := t.ImportAccounts(t.ctx, other, []account.Addition{elsewhere}, nil, noon)
		t.must(err)
		before := t.find("bob", noon)
		var list []account.Addition
		for _, user := range []string{"ann", "bob", "carl", "gone"} {
			list = append(list, t.imported(user, noon))
		}
		t.wantEqual(t.importAll(nil, noon, list...), []string{"ann", "bob", "gone closed"})
		// As a transaction that is run again.
		t.wantEqual(t.importAll(nil, noon, list...), []string{"ann", "bob", "gone closed"})
		t.wantAccount(t.find("bob", noon), before)
		held, err := t.Holders(t.ctx, t.tenant, []string{"ann", "bob", "carl", "gone", "nobody"}, noon)
		t.must(err)
		if len(held) != 4 || !held["gone"].Closed || held["bob"].UID != before.UID {
			t.Errorf("got %+v", held)
		}
	}},
	{"take the names of accounts that have expired", func(t *test) {
		t.addPending("ann", noon)
		late := noon.Add(account.PendingLife)
		held, err := t.Holders(t.ctx, t.tenant, []string{"ann"}, late)
		t.must(err)
		if len(held) > 0 {
			t.Errorf("got %+v", held)
		}
		t.wantEqual(t.importAll(nil, late, t.imported("bob", late), t.imported("ann", late)), nil)
		if a := t.find("ann", late); !a.Created.Equal(late) {
			t.Errorf("got %+v", a)
		}
	}},
	{"compete with signups for a name, and one gets it", func(t *test) {
		kinds := t.concurrently(8, func(i int) error {
			if i%2 == 0 {
				return t.Create(t.ctx, t.signup("ann", noon), noon)
			}
			list := []account.Addition{t.imported("ann", noon), t.imported(fmt.Sprint("other", i), noon)}
			held, err := t.ImportAccounts(t.ctx, t.tenant, list, nil, noon)
			if len(held) > 0 {
				return account.ErrTaken
			}
			return err
		})
		if kinds[succeeded] != 1 || kinds[fault.Conflict] != 7 {
			t.Errorf("got %v", kinds)
		}
	}},
	{"are added in large numbers", func(t *test) {
		var list []account.Addition
		var users []string
		for i := range 600 {
			users = append(users, fmt.Sprintf("user%03d", i))
			list = append(list, t.imported(users[i], noon))
		}
		t.wantEqual(t.importAll(nil, noon, list...), nil)
		held, err := t.Holders(t.ctx, t.tenant, users, noon)
		t.must(err)
		if len(held) != len(users) {
			t.Errorf("%d names have holders", len(held))
		}
	}},
	{"notify the hooks that subscribe to the events", func(t *test) {
		phones := t.addHook("phones")
		h := hook.Hook{
			ID: newID(), Name: "all events", Kind: hook.Webhook, URL: "https://web.test/", AllTenants: true,
			Events: []hook.EventType{hook.AccountCreated, hook.AccountActivated}, Created: noon,
		}
		t.must(t.AddHook(t.ctx, h))
		t.importAll(nil, noon, t.imported("ann", noon), t.addition("bob", mailmsg.SetPassword, noon),
			t.addition("carl", mailmsg.Activation, noon))
		notified := func(id hook.ID) (got []string) {
			list, err := t.Claim(t.ctx, id, noon, noon.Add(time.Minute), 100)
			t.must(err)
			for _, n := range list {
				got = append(got, fmt.Sprint(n.Type, " ", n.User, " ", n.Host, " ", n.Realm))
			}
			slices.Sort(got)
			return got
		}
		t.wantEqual(notified(h.ID), []string{"account.activated ann phone.test phone.test",
			"account.created ann phone.test phone.test", "account.created bob phone.test phone.test"})
		t.wantEqual(notified(phones.ID), nil) // it subscribes to other events
	}},
}
