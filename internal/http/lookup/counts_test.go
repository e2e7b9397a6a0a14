package lookup_test

import (
	"fmt"
	"testing"
)

func TestCounts(t *testing.T) {
	f := newFixture(t)
	f.addActive("a.test", "alice")
	one, all := f.addServer("one", "a.test"), f.addServer("all", "a.test", "b.test")
	f.credential("username=alice&realm=a.test", one)
	f.credential("username=alice&realm=a.test", one)
	f.credential("username=bob&realm=a.test", one)
	f.credential("username=alice&realm=a.test", "wrong")
	f.credential("username=alice", one)
	f.post("/v1/asterisk/ps_auths/single", "id=alice%40a.test", one)
	f.post("/v1/asterisk/ps_auths/single", "id=alice", all) // of several tenants
	f.post("/v1/asterisk/ps_auths/require", "id=alice", one)
	f.post("/v1/freeswitch/directory", "section=directory&action=sip_auth&sip_auth_username=alice&"+
		"sip_auth_realm=a.test&user=alice&domain=evil.test", one)
	got := make(map[string]int64)
	for _, c := range f.handler.Counts() {
		if c.N != 0 {
			got[fmt.Sprint(c.Format, " ", c.Outcome, " ", c.Cached)] = c.N
		}
	}
	want := map[string]int64{
		"credential found false": 1, "credential found true": 1, "credential not_found false": 1,
		"credential refused false": 1, "credential invalid false": 1, "asterisk found true": 1,
		"asterisk not_found false": 1, "freeswitch not_found false": 1,
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}
