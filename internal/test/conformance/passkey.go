package conformance

import (
	"fmt"
	"strings"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/fault"
	"dialtone/internal/mailmsg"
	"dialtone/internal/outbox"
	"dialtone/internal/throttle"
)

// newPasskey returns a passkey for an account in its current state.
func newPasskey(a account.Account, id string, at time.Time) account.NewPasskey {
	return account.NewPasskey{
		Account: a,
		Passkey: account.Passkey{
			ID: []byte(id), Account: a.UID, RP: "phone.test", Name: "Key " + id, Made: at,
			Sealed: []byte("sealed " + id),
		},
		Notice: factorNotice(mailmsg.PasskeyAdded, at),
	}
}

// passkey adds a passkey to the account of a user.
func (t *test) passkey(user, id string, at time.Time) account.NewPasskey {
	t.Helper()
	n := newPasskey(t.find(user, at), id, at)
	_, err := t.AddPasskey(t.ctx, n, at)
	t.must(err)
	return n
}

// wantPasskeys compares the IDs of the passkeys of a user, and checks the factors of the account.
func (t *test) wantPasskeys(user string, at time.Time, want ...string) {
	t.Helper()
	a := t.find(user, at)
	list, err := t.Passkeys(t.ctx, a.UID)
	t.must(err)
	var ids []string
	for _, k := range list {
		ids = append(ids, string(k.ID))
	}
	t.wantEqual(ids, want)
	if got := a.Factors.Has(account.FactorPasskey); got != (len(want) > 0) {
		t.Errorf("the account has passkeys: %v", got)
	}
}

func (t *test) readPasskey(id string) account.Passkey {
	t.Helper()
	k, err := t.Passkey(t.ctx, t.tenant, []byte(id))
	t.must(err)
	return k
}

var passkeyTests = []testCase{
	{"are added with a message and an entry in the trail", func(t *test) {
		a := t.addActive("ann", noon)
		t.ack([]outbox.Ref{ref(a)})
		before := t.find("ann", noon)
		at := noon.Add(time.Minute + 3*tick)
		n := newPasskey(before, "1", at)
		got, err := t.AddPasskey(t.ctx, n, at)
		t.must(err)
		before.Factors = account.FactorPasskey
		t.wantAccount(got, before)
		t.wantAccount(t.find("ann", at), before)
		k := t.readPasskey("1")
		if k.Account != before.UID || k.RP != "phone.test" || k.Name != "Key 1" || string(k.Sealed) != "sealed 1" ||
			!k.Made.Equal(at) || !k.Used.IsZero() {
			t.Errorf("got %+v", k)
		}
		list, err := t.Pending(t.ctx)
		t.must(err)
		if len(list) != 1 || list[0].Message != n.Message || list[0].Kind != mailmsg.FactorChanged ||
			list[0].Detail != mailmsg.PasskeyAdded {
			t.Errorf("the messages are %+v", list)
		}
		changes := t.changes(audit.Filter{User: "ann"})
		if len(changes) != 1 || changes[0].Action != audit.PasskeyAdd || changes[0].Subject != "phone.test" {
			t.Errorf("the trail is %+v", changes)
		}
	}},
	{"are listed in the order in which they were added", func(t *test) {
		t.addActive("ann", noon)
		t.addActive("bob", noon)
		t.passkey("ann", "b", noon)
		t.passkey("ann", "a", noon.Add(tick))
		t.passkey("bob", "c", noon)
		t.wantPasskeys("ann", noon, "b", "a")
		t.wantPasskeys("bob", noon, "c")
	}},
	{"are refused if the ID is known", func(t *test) {
		t.addActive("ann", noon)
		t.addActive("bob", noon)
		t.passkey("ann", "1", noon)
		for _, user := range []string{"ann", "bob"} {
			n := newPasskey(t.find(user, noon), "1", noon)
			n.Passkey.Name = "Another"
			_, err := t.AddPasskey(t.ctx, n, noon)
			t.wantErr(err, account.ErrPasskeyKnown)
		}
		if k := t.readPasskey("1"); k.Name != "Key 1" {
			t.Errorf("got %+v", k)
		}
		t.wantPasskeys("bob", noon)
		t.wantEqual(t.trailOf("bob"), nil)
	}},
	{"are refused for another state, epoch or tenant", func(t *test) {
		t.addPending("waiting", noon)
		_, err := t.AddPasskey(t.ctx, newPasskey(t.find("waiting", noon), "1", noon), noon)
		t.wantKind(err, fault.NotFound)
		t.addActive("ann", noon)
		a := t.find("ann", noon)
		other := a
		other.Tenant = t.addTenant("b.test")
		_, err = t.AddPasskey(t.ctx, newPasskey(other, "1", noon), noon)
		t.wantKind(err, fault.NotFound)
		other = a
		other.UID = account.NewUID(noon)
		_, err = t.AddPasskey(t.ctx, newPasskey(other, "1", noon), noon)
		t.wantKind(err, fault.NotFound)
		_, err = t.Disable(t.ctx, t.tenant, "ann", noon)
		t.must(err)
		_, err = t.AddPasskey(t.ctx, newPasskey(t.find("ann", noon), "1", noon), noon)
		t.wantErr(err, account.ErrHeld)
		_, err = t.Enable(t.ctx, t.tenant, "ann", noon)
		t.must(err)
		_, err = t.AddPasskey(t.ctx, newPasskey(a, "1", noon), noon)
		t.wantErr(err, account.ErrPasskeyStale)
		t.wantPasskeys("ann", noon)
	}},
	{"are limited in number, even with concurrent calls", func(t *test) {
		t.addActive("ann", noon)
		for i := range account.MaxPasskeys - 1 {
			t.passkey("ann", fmt.Sprint("key ", i), noon.Add(time.Duration(i)*tick))
		}
		a := t.find("ann", noon)
		kinds := t.concurrently(4, func(i int) error {
			_, err := t.AddPasskey(t.ctx, newPasskey(a, fmt.Sprint("last ", i), noon), noon)
			return err
		})
		if kinds[succeeded] != 1 || kinds[fault.Conflict] != 3 {
			t.Errorf("got %v", kinds)
		}
		list, err := t.Passkeys(t.ctx, a.UID)
		t.must(err)
		if len(list) != account.MaxPasskeys {
			t.Errorf("the account has %d passkeys", len(list))
		}
	}},
	{"are renamed and removed by their account only", func(t *test) {
		t.addActive("ann", noon)
		t.addActive("bob", noon)
		n := t.passkey("ann", "1", noon)
		t.passkey("ann", "2", noon.Add(tick))
		ann, bob := t.find("ann", noon), t.find("bob", noon)
		t.wantErr(t.RenamePasskey(t.ctx, bob, n.Passkey.ID, "x", noon), account.ErrNoPasskey)
		t.wantErr(t.RenamePasskey(t.ctx, ann, []byte("3"), "x", noon), account.ErrNoPasskey)
		_, err := t.RemovePasskey(t.ctx, removal(bob, n.Passkey.ID), noon)
		t.wantErr(err, account.ErrNoPasskey)
		t.must(t.RenamePasskey(t.ctx, ann, n.Passkey.ID, "x", noon))
		if k := t.readPasskey("1"); k.Name != "x" || string(k.Sealed) != "sealed 1" {
			t.Errorf("got %+v", k)
		}
		for i, id := range []string{"1", "2"} {
			messages := len(t.pendingUsers())
			got, err := t.RemovePasskey(t.ctx, removal(ann, []byte(id)), noon)
			t.must(err)
			if got.Factors.Has(account.FactorPasskey) != (i == 0) || got.Epoch != ann.Epoch+int64(i)+1 {
				t.Errorf("got %+v", got)
			}
			if len(t.pendingUsers()) != messages+1 {
				t.Error("there is no message")
			}
			t.wantSessions(got, noon)
			t.begin(got, 1, noon)
		}
		t.wantPasskeys("ann", noon)
		t.wantEqual(t.trailOf("ann"),
			[]string{"passkey.add", "passkey.add", "passkey.rename", "passkey.remove", "passkey.remove"})
		t.wantEqual(t.trailOf("bob"), nil)
		for _, c := range t.changes(audit.Filter{User: "ann"}) {
			if c.Subject != "phone.test" {
				t.Errorf("the subject is %q", c.Subject)
			}
		}
	}},
	{"leave no name in the trail after the erasure, and other entries are kept", func(t *test) {
		b := t.addTenant("b.test")
		t.addActiveAt(b, "ann")
		for _, user := range []string{"ann", "bob"} {
			t.addActive(user, noon)
		}
		for host, users := range map[string][]string{"phone.test": {"ann", "bob"}, "b.test": {"ann"}} {
			for _, user := range users {
				for _, action := range []audit.Action{
					audit.PasskeyAdd, audit.PasskeyRename, audit.PasskeyRemove, audit.ProfileChange,
				} { // as an earlier version did
					t.must(t.AddChange(t.ctx, audit.Change{
						At: noon, Action: action, Outcome: audit.OK, Tenant: host, User: user,
						Subject: "Key of " + user,
					}))
				}
				t.must(t.AddChange(t.ctx, audit.Change{
					At: noon, Action: audit.PasswordNotMe, Outcome: audit.OK, Tenant: host, User: user,
					Subject: "Key of " + user, Before: "active x***@thief.test", After: "active a***@mail.test",
				}))
			}
		}
		named := func(host, user string) (n int) {
			for _, c := range t.changes(audit.Filter{Tenant: host, User: user}) {
				if c.Subject == "Key of "+user {
					n++
				}
				if strings.Contains(c.Before+c.After, "***@") {
					n += 10
				}
			}
			return n
		}
		t.must(t.Delete(t.ctx, t.tenant, "ann", noon))
		if got, want := [...]int{named("phone.test", "ann"), named("phone.test", "bob"), named("b.test", "ann")},
			[...]int{2, 15, 15}; got != want {
			t.Errorf("after the account %v subjects, want %v", got, want)
		}
		t.must(t.RemoveTenant(t.ctx, "b.test", true, noon))
		if got, want := [...]int{named("phone.test", "bob"), named("b.test", "ann")}, [...]int{15, 2}; got != want {
			t.Errorf("after the tenant %v subjects, want %v", got, want)
		}
	}},
	{"are removed once", func(t *test) {
		t.addActive("ann", noon)
		n := t.passkey("ann", "1", noon)
		a := t.find("ann", noon)
		kinds := t.concurrently(8, func(int) error {
			_, err := t.RemovePasskey(t.ctx, removal(a, n.Passkey.ID), noon)
			return err
		})
		if kinds[succeeded] != 1 || kinds[fault.Invalid] != 7 {
			t.Errorf("got %v", kinds)
		}
	}},
	{"are found for their tenant", func(t *test) {
		t.addActive("ann", noon)
		t.passkey("ann", "1", noon)
		_, err := t.Passkey(t.ctx, t.addTenant("b.test"), []byte("1"))
		t.wantErr(err, account.ErrNoPasskey)
		_, err = t.Passkey(t.ctx, t.tenant, []byte("2"))
		t.wantErr(err, account.ErrNoPasskey)
	}},
	{"are used once with each state", func(t *test) {
		t.addActive("ann", noon)
		t.passkey("ann", "1", noon)
		k := t.readPasskey("1")
		at := noon.Add(time.Minute + tick)
		kinds := t.concurrently(8, func(i int) error {
			return t.UsePasskey(t.ctx, k, fmt.Appendf(nil, "counted %d", i), at)
		})
		if kinds[succeeded] != 1 || kinds[fault.Conflict] != 7 {
			t.Errorf("got %v", kinds)
		}
		if after := t.readPasskey("1"); !after.Used.Equal(at) || string(after.Sealed) == "sealed 1" {
			t.Errorf("got %+v", after)
		}
		t.wantErr(t.UsePasskey(t.ctx, k, []byte("other"), at), account.ErrPasskeyChanged)
	}},
	{"without a counter are used at once", func(t *test) {
		t.addActive("ann", noon)
		t.passkey("ann", "1", noon)
		k := t.readPasskey("1")
		kinds := t.concurrently(8, func(int) error { return t.UsePasskey(t.ctx, k, k.Sealed, noon) })
		if kinds[succeeded] != 8 {
			t.Errorf("got %v", kinds)
		}
	}},
	{"are not used when removed or disabled", func(t *test) {
		t.addActive("ann", noon)
		n := t.passkey("ann", "1", noon)
		k := t.readPasskey("1")
		_, err := t.Disable(t.ctx, t.tenant, "ann", noon)
		t.must(err)
		t.wantErr(t.UsePasskey(t.ctx, k, k.Sealed, noon), account.ErrNoPasskey)
		_, err = t.Enable(t.ctx, t.tenant, "ann", noon)
		t.must(err)
		t.must(t.UsePasskey(t.ctx, k, k.Sealed, noon))
		a := t.find("ann", noon)
		kinds := t.concurrently(2, func(i int) error {
			if i == 0 {
				_, err := t.RemovePasskey(t.ctx, removal(a, n.Passkey.ID), noon)
				return err
			}
			return t.UsePasskey(t.ctx, k, k.Sealed, noon)
		})
		if kinds[succeeded]+kinds[fault.Invalid] != 2 || kinds[succeeded] == 0 {
			t.Errorf("got %v", kinds)
		}
		t.wantPasskeys("ann", noon)
		t.wantErr(t.UsePasskey(t.ctx, k, k.Sealed, noon), account.ErrNoPasskey)
	}},
	{"end what was requested without a factor when the first is added", func(t *test) {
		t.addActive("ann", noon)
		before := t.find("ann", noon)
		link := t.emailLink("ann", "other@mail.test", noon)
		t.passkey("ann", "1", noon)
		t.wantEmailLink(link.Token, noon, "", "")
		_, err := t.AddPasskey(t.ctx, newPasskey(before, "2", noon), noon)
		t.wantErr(err, account.ErrPasskeyStale)
		link = t.emailLink("ann", "other@mail.test", noon)
		t.passkey("ann", "2", noon)
		t.wantEmailLink(link.Token, noon, "ann", "other@mail.test")
		t.wantPasskeys("ann", noon, "1", "2")
	}},
	{"are used before a concurrent disable, or not at all", func(t *test) {
		t.addActive("ann", noon)
		t.passkey("ann", "1", noon)
		for i := range 8 {
			k, at := t.readPasskey("1"), noon.Add(time.Duration(i+1)*time.Minute)
			after := fmt.Appendf(nil, "counted %d", i)
			kinds := t.concurrently(4, func(n int) error {
				if n == 0 {
					_, err := t.Disable(t.ctx, t.tenant, "ann", at)
					return err
				}
				return t.UsePasskey(t.ctx, k, after, at)
			})
			used := t.readPasskey("1").Used.Equal(at)
			if want := 1; kinds[succeeded] != want && (!used || kinds[succeeded] != want+1) {
				t.Errorf("got %v, and the passkey was used: %t", kinds, used)
			}
			t.wantErr(t.UsePasskey(t.ctx, k, after, at), account.ErrNoPasskey)
			_, err := t.Enable(t.ctx, t.tenant, "ann", at)
			t.must(err)
		}
	}},
	{"are changed under a limit", func(t *test) {
		t.addActive("ann", noon)
		a := t.find("ann", noon)
		limits := []throttle.Allowance{allowance(newBucket(), 2)}
		refused := func(wait time.Duration) error { return account.FactorRefusal(throttle.Wait{For: wait}) }
		for i, want := range []bool{true, true, false} {
			n := newPasskey(t.find("ann", noon), fmt.Sprint(i), noon)
			n.Allowances = limits
			_, err := t.AddPasskey(t.ctx, n, noon)
			if want {
				t.must(err)
			} else {
				t.wantLimited(err, refused, time.Hour)
			}
		}
		r := removal(a, []byte("0"))
		r.Allowances = limits
		_, err := t.RemovePasskey(t.ctx, r, noon)
		t.wantLimited(err, refused, time.Hour)
		t.wantPasskeys("ann", noon, "0", "1")
		_, err = t.RemovePasskey(t.ctx, r, noon.Add(time.Hour))
		t.must(err)
	}},
	{"that were added since a message are removed by its \"not me\"", func(t *test) {
		t.addActive("ann", noon)
		t.passkey("ann", "mine", noon)
		at := noon.Add(3 * time.Minute)
		changed := t.changed("ann", "new", noon.Add(time.Minute))
		first := t.passkey("ann", "theirs", noon.Add(time.Minute))
		t.passkey("ann", "theirs too", noon.Add(2*time.Minute))
		_, err := t.NotMe(t.ctx, t.tenant, changed.Token, unsent(at), at)
		t.must(err)
		t.wantPasskeys("ann", at, "mine")
		k := first.Passkey
		t.wantErr(t.UsePasskey(t.ctx, k, k.Sealed, at), account.ErrNoPasskey)
	}},
	{"are removed with their account", func(t *test) {
		t.addActive("ann", noon)
		a := t.find("ann", noon)
		t.passkey("ann", "1", noon)
		t.must(t.Delete(t.ctx, t.tenant, "ann", noon))
		_, err := t.Passkey(t.ctx, t.tenant, []byte("1"))
		t.wantErr(err, account.ErrNoPasskey)
		list, err := t.Passkeys(t.ctx, a.UID)
		t.must(err)
		if len(list) != 0 {
			t.Errorf("got %+v", list)
		}
	}},
}

// removal returns the argument of RemovePasskey, without limits.
func removal(a account.Account, id []byte) account.PasskeyRemoval {
	return account.PasskeyRemoval{Account: a, ID: id, Notice: notice(mailmsg.FactorChanged, noon)}
}
