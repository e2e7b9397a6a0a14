package conformance

import (
	"fmt"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/sipserver"
)

// lookups returns the look-ups of an account that are shown at a time, as text.
func (t *test) lookups(uid account.UID, at time.Time) (list []string) {
	t.Helper()
	got, err := t.LastLookups(t.ctx, uid, at)
	t.must(err)
	for _, l := range got {
		if l.Account != uid {
			t.Errorf("a look-up of account %v is shown, want %v", l.Account, uid)
		}
		list = append(list, fmt.Sprintf("%s %s %v", l.Server, l.How, l.At.Sub(noon)))
	}
	return list
}

// lookup returns a look-up of an account.
func lookup(a account.Account, server string, how sipserver.How, at time.Time) sipserver.Lookup {
	return sipserver.Lookup{Account: a.UID, Server: server, How: how, At: at}
}

// addServers adds phone servers with names. They were added an hour before noon.
func (t *test) addServers(names ...string) {
	t.Helper()
	for _, name := range names {
		s := t.newServer(name, t.tenant)
		s.Created = noon.Add(-time.Hour)
		t.must(t.AddServer(t.ctx, s))
	}
}

// lookUp records a look-up by the server sbc.
func (t *test) lookUp(a account.Account, at time.Time) {
	t.Helper()
	t.must(t.RecordLookups(t.ctx, []sipserver.Lookup{lookup(a, "sbc", sipserver.HowCredential, at)}))
}

var lastLookupTests = []testCase{
	{"are shown for each server and form, the newest of each", func(t *test) {
		a, b := t.active("ann"), t.active("bob")
		t.addServers("sbc", "pbx")
		t.must(t.RecordLookups(t.ctx, nil))
		t.must(t.RecordLookups(t.ctx, []sipserver.Lookup{
			lookup(a, "pbx", sipserver.HowAsterisk, noon),
			lookup(a, "sbc", sipserver.HowCredential, noon.Add(tick)),
			lookup(a, "sbc", sipserver.HowFreeSWITCH, noon.Add(2*tick)),
		}))
		want := []string{"pbx asterisk 0s", "sbc credential " + tick.String(), "sbc freeswitch " + (2 * tick).String()}
		t.wantEqual(t.lookups(a.UID, noon), want)
		if got := t.lookups(b.UID, noon); len(got) > 0 {
			t.Errorf("look-ups of another account are shown: %v", got)
		}
		t.lookUp(a, noon) // is older
		t.wantEqual(t.lookups(a.UID, noon), want)
		t.lookUp(a, noon.Add(time.Hour))
		want[1] = "sbc credential 1h0m0s"
		t.wantEqual(t.lookups(a.UID, noon), want)
	}},
	{"are recorded in one call of any length", func(t *test) {
		t.addServers("sbc")
		var accounts []account.Account
		var list []sipserver.Lookup
		for i := range 76 { // 64 + 8 + 4
			accounts = append(accounts, t.active(fmt.Sprintf("u%02d", i)))
			list = append(list, sipserver.Lookup{
				Account: accounts[i].UID, Server: "sbc", How: sipserver.HowCredential,
				At: noon.Add(time.Duration(i) * time.Second),
			})
		}
		t.must(t.RecordLookups(t.ctx, list))
		for i, a := range accounts {
			want := fmt.Sprint("sbc credential ", time.Duration(i)*time.Second)
			t.wantEqual(t.lookups(a.UID, noon), []string{want})
		}
	}},
	{"are shown for LookupLife, and deleted with the next one", func(t *test) {
		a := t.active("ann")
		t.addServers("sbc", "pbx")
		end := noon.Add(sipserver.LookupLife)
		t.must(t.RecordLookups(t.ctx, []sipserver.Lookup{lookup(a, "pbx", sipserver.HowAsterisk, noon)}))
		t.lookUp(a, end.Add(-tick))
		last := fmt.Sprint("sbc credential ", end.Add(-tick).Sub(noon))
		t.wantEqual(t.lookups(a.UID, end.Add(-tick)), []string{"pbx asterisk 0s", last})
		t.wantEqual(t.lookups(a.UID, end), []string{last})
		t.lookUp(a, end)
		t.wantEqual(t.lookups(a.UID, noon), []string{fmt.Sprint("sbc credential ", end.Sub(noon))})
	}},
	{"by a removed server are not shown, even when it is added again", func(t *test) {
		a := t.active("ann")
		t.addServers("sbc", "pbx")
		t.must(t.RecordLookups(t.ctx, []sipserver.Lookup{lookup(a, "pbx", sipserver.HowAsterisk, noon)}))
		t.lookUp(a, noon)
		t.must(t.RemoveServer(t.ctx, "sbc"))
		t.wantEqual(t.lookups(a.UID, noon), []string{"pbx asterisk 0s"})
		again := t.newServer("sbc", t.tenant)
		again.Created = noon.Add(time.Hour)
		t.must(t.AddServer(t.ctx, again))
		t.wantEqual(t.lookups(a.UID, noon), []string{"pbx asterisk 0s"})
		t.lookUp(a, noon.Add(time.Hour))
		t.wantEqual(t.lookups(a.UID, noon), []string{"pbx asterisk 0s", "sbc credential 1h0m0s"})
		t.must(t.RemoveServer(t.ctx, "sbc"))
		t.lookUp(a, noon.Add(2*time.Hour)) // by a process that has not refreshed its servers yet
		t.addServers("sbc")
		t.wantEqual(t.lookups(a.UID, noon), []string{"pbx asterisk 0s"}) // it was not recorded
	}},
	{"are those of active accounts", func(t *test) {
		t.addServers("sbc")
		a, b := t.active("ann"), t.active("bob")
		t.lookUp(a, noon)
		t.lookUp(b, noon)
		_, err := t.Disable(t.ctx, t.tenant, "ann", noon)
		t.must(err)
		t.lookUp(a, noon.Add(time.Hour))
		t.wantEqual(t.lookups(a.UID, noon), []string{"sbc credential 0s"})
		t.must(t.Delete(t.ctx, t.tenant, "bob", noon))
		t.lookUp(b, noon.Add(time.Hour))
		t.lookUp(account.Account{UID: account.UID(newID())}, noon)
		if got := t.lookups(b.UID, noon); len(got) > 0 {
			t.Errorf("look-ups of a deleted account are shown: %v", got)
		}
	}},
	{"keep the newest of 20 concurrent calls", func(t *test) {
		a, b := t.active("ann"), t.active("bob")
		t.addServers("sbc")
		count := t.concurrently(20, func(i int) error {
			list := []sipserver.Lookup{
				lookup(a, "sbc", sipserver.HowCredential, noon.Add(time.Duration(i*7%20)*time.Second)),
				lookup(b, "sbc", sipserver.HowCredential, noon.Add(time.Duration(i*3%20)*time.Second)),
			}
			if string(a.UID[:]) > string(b.UID[:]) {
				list[0], list[1] = list[1], list[0]
			}
			return t.RecordLookups(t.ctx, list)
		})
		if count[succeeded] != 20 {
			t.Errorf("results by kind: %v", count)
		}
		for _, uid := range []account.UID{a.UID, b.UID} {
			t.wantEqual(t.lookups(uid, noon), []string{"sbc credential 19s"})
		}
	}},
}
