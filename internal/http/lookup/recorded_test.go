package lookup_test

import (
	"strings"
	"testing"
	"time"

	"dialtone/internal/sipserver"
	"dialtone/internal/test/world"
)

// TestLookupsAreRecorded checks which requests count as look-ups of a credential.
func TestLookupsAreRecorded(t *testing.T) {
	f := newFixture(t)
	f.addActive("a.test", "alice", world.MD5Only)
	f.addActive("b.test", "alice")
	token := f.addServer("sbc", "a.test", "b.test")
	const credential, directory = "/v1/sip/credential?", "/v1/freeswitch/directory"
	for _, c := range []struct {
		name, method, target, body string
		how                        sipserver.How
	}{
		{"an unknown name", "GET", credential + "username=bob&realm=a.test", "", ""},
		{"no such hash", "GET", credential + "username=alice&realm=a.test&algorithm=SHA-256", "", ""},
		{"an endpoint of Asterisk", "POST", "/v1/asterisk/ps_endpoints/single", "id=alice%40a.test", ""},
		{"an AOR of Asterisk", "POST", "/v1/asterisk/ps_aors/single", "id=alice%40a.test", ""},
		{"a list of Asterisk", "POST", "/v1/asterisk/ps_auths/multi", "id%20LIKE=%25", ""},
		{"another purpose of FreeSWITCH", "POST", directory,
			strings.Replace(sipAuth("alice", "a.test"), "action=sip_auth", "action=message-count", 1), ""},
		{"another domain of FreeSWITCH", "POST", directory, sipAuthOf("alice", "a.test", "alice", "b.test"), ""},
		{"a credential", "GET", credential + "username=alice&realm=a.test", "", sipserver.HowCredential},
		{"an auth of Asterisk", "POST", "/v1/asterisk/ps_auths/single", "id=alice%40a.test", sipserver.HowAsterisk},
		{"FreeSWITCH", "POST", directory, sipAuth("alice", "a.test"), sipserver.HowFreeSWITCH},
	} {
		f.Advance(sipserver.LookupInterval)
		r := f.direct(c.method, c.target, c.body, token)
		f.Must(f.registry.Flush(t.Context()))
		a, err := f.Store.Find(t.Context(), f.At("a.test").Tenant.ID, "alice", f.Now())
		f.Must(err)
		list, err := f.Store.LastLookups(t.Context(), a.UID, f.Now())
		f.Must(err)
		var got sipserver.How
		for _, l := range list {
			if f.Now().Sub(l.At) < time.Minute {
				got += l.How
			}
		}
		if got != c.how {
			t.Errorf("%s: recorded is %q, want %q; the answer is %d %s", c.name, got, c.how, r.status, r.body)
		}
	}
	a, err := f.Store.Find(t.Context(), f.At("b.test").Tenant.ID, "alice", f.Now())
	f.Must(err)
	if list, err := f.Store.LastLookups(t.Context(), a.UID, f.Now()); len(list) > 0 || err != nil {
		t.Errorf("the other tenant's alice has look-ups: %v, %v", list, err)
	}
}
