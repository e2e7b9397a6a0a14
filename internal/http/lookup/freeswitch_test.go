package lookup_test

import (
	"encoding/xml"
	"net/url"
	"slices"
	"strings"
	"testing"

	"dialtone/internal/account"
	"dialtone/internal/digest"
	"dialtone/internal/test/world"
)

// FreeSWITCH is not run here. These are contract tests on the bytes that mod_xml_curl sends and
// reads, according to its documentation and source (v1.10: src/mod/xml_int/mod_xml_curl,
// src/switch_xml.c, sofia_reg.c).

// sipAuth is the form that FreeSWITCH sends when a phone has responded to a challenge.
func sipAuth(user, domain string) string { return sipAuthOf(user, domain, user, domain) }

func sipAuthOf(username, realm, user, domain string) string {
	q := url.QueryEscape
	return "hostname=fs1&section=directory&tag_name=domain&key_name=name&key_value=" + domain +
		"&Event-Name=REQUEST_PARAMS&Core-UUID=2ad13b4c-7b9c-4f2e-9d3e-0f3e6f1d2b3a" +
		"&FreeSWITCH-Hostname=fs1&FreeSWITCH-Switchname=fs1&FreeSWITCH-IPv4=192.0.2.7" +
		"&FreeSWITCH-IPv6=%3A%3A1&Event-Date-Local=2026-03-01%2012%3A00%3A00" +
		"&Event-Calling-File=sofia_reg.c&Event-Calling-Function=sofia_reg_parse_auth" +
		"&Event-Calling-Line-Number=2974&Event-Sequence=532&action=sip_auth&sip_profile=internal" +
		"&sip_user_agent=Linphone%20Desktop/5.2&sip_auth_username=" + q(username) +
		"&sip_auth_realm=" + q(realm) + "&sip_auth_nonce=7d2e1c0f-4b59-4a0e-9b1a-6f1f4d2a9c11" +
		"&sip_auth_uri=sip%3Aa.test&sip_contact_user=" + q(username) +
		"&sip_contact_host=192.0.2.9&sip_to_user=" + q(username) + "&sip_to_host=a.test" +
		"&sip_via_protocol=udp&sip_from_user=" + q(username) + "&sip_from_host=a.test" +
		"&sip_call_id=Nj~2&sip_request_host=a.test&sip_auth_qop=auth&sip_auth_cnonce=QlQ" +
		"&sip_auth_nc=00000001&sip_auth_response=5a1f0b7f0f9f8f1f2f3f4f5f6f7f8f9f" +
		"&sip_auth_method=REGISTER&client_port=5060&key=id&user=" + q(user) +
		"&domain=" + q(domain) + "&ip=192.0.2.9"
}

const notFound = `<document type="freeswitch/xml"><section name="result">` +
	`<result status="not found"/></section></document>` + "\n"

// document is an answer as FreeSWITCH reads it.
type document struct {
	Type    string `xml:"type,attr"`
	Section struct {
		Name   string `xml:"name,attr"`
		Domain *struct {
			Name  string `xml:"name,attr"`
			Users []struct {
				ID     string `xml:"id,attr"`
				Params []pair `xml:"params>param"`
				Vars   []pair `xml:"variables>variable"`
			} `xml:"groups>group>users>user"`
		} `xml:"domain"`
	} `xml:"section"`
}

type pair struct {
	Name  string `xml:"name,attr"`
	Value string `xml:"value,attr"`
}

func TestFreeSWITCH(t *testing.T) {
	f := newFixture(t)
	for _, host := range []string{"a.test", "b.test", "c.test"} {
		f.addActive(host, "alice")
	}
	token := f.addServer("fs", "a.test", "b.test", "c.test")
	_, err := f.Store.SetRole(t.Context(), f.At("b.test").Tenant.ID, "alice", account.SIPOnly, f.Now())
	f.Must(err)
	ask := func(body string) string {
		t.Helper()
		r := f.post("/v1/freeswitch/directory", body, token)
		if r.status != 200 || r.header.Get("Content-Type") != "text/xml; charset=utf-8" {
			t.Fatalf("%d %s %s", r.status, r.header.Get("Content-Type"), r.body)
		}
		return r.body
	}
	atA := digest.Compute("alice", "a.test", world.Password("alice", "a.test")).Hex()
	atB := digest.Compute("alice", "b.test", world.Password("alice", "b.test")).Hex()
	atC := digest.Compute("alice", "C & <Phones>", world.Password("alice", "c.test")).Hex()
	withRealm := digest.ComputeB("alice", "a.test", world.Password("alice", "a.test")).Hex()
	// An unencoded & in key_value would start another field.
	unescaped := strings.Replace(sipAuth("alice", "C & <Phones>"), "key_value=C & <Phones>", "key_value=c", 1)
	for _, c := range []struct{ name, body, domain, user, ha1, role string }{
		{"an active account", sipAuth("alice", "a.test"), "a.test", "alice", atA, "guest"},
		{"with a newline, as older versions send", sipAuth("alice", "a.test") + "\n",
			"a.test", "alice", atA, "guest"},
		{"another role", sipAuth("alice", "b.test"), "b.test", "alice", atB, "siponly"},
		{"a name with its realm", sipAuth("alice@a.test", "a.test"),
			"a.test", "alice@a.test", withRealm, "guest"},
		{"the host as the domain", sipAuthOf("alice", "C & <Phones>", "alice", "c.test"),
			"c.test", "alice", atC, "guest"},
		{"a realm that needs escaping", unescaped, "C & <Phones>", "alice", atC, "guest"},
		{"other case, which the answer keeps", sipAuth("alice", "A.Test"), "A.Test", "alice", atA, "guest"},
		{"repeated fields with the same value", sipAuth("alice", "a.test") + "&key=id&user=alice&domain=a.test",
			"a.test", "alice", atA, "guest"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var d document
			if err := xml.Unmarshal([]byte(ask(c.body)), &d); err != nil {
				t.Fatal(err)
			}
			domain := d.Section.Domain
			if d.Type != "freeswitch/xml" || d.Section.Name != "directory" ||
				domain == nil || len(domain.Users) != 1 {
				t.Fatalf("%+v", d)
			}
			user := domain.Users[0]
			// FreeSWITCH looks for the domain and the user that it asked for.
			if domain.Name != c.domain || user.ID != c.user {
				t.Errorf("the user is %q in %q", user.ID, domain.Name)
			}
			want := []pair{{"a1-hash", c.ha1}, {"allow-empty-password", "false"}}
			if !slices.Equal(user.Params, want) {
				t.Errorf("the params are %v, want %v", user.Params, want)
			}
			want = []pair{{"user_context", "dialtone-" + c.role}, {"dialtone_role", c.role}}
			if !slices.Equal(user.Vars, want) {
				t.Errorf("the variables are %v, want %v", user.Vars, want)
			}
		})
	}
	want := `<document type="freeswitch/xml"><section name="directory"><domain name="a.test">` +
		`<groups><group name="dialtone"><users><user id="alice">` +
		`<params><param name="a1-hash" value="` + atA + `"/>` +
		`<param name="allow-empty-password" value="false"/></params>` +
		`<variables><variable name="user_context" value="dialtone-guest"/>` +
		`<variable name="dialtone_role" value="guest"/></variables></user></users></group></groups>` +
		`</domain></section></document>` + "\n"
	if got := ask(sipAuth("alice", "a.test")); got != want {
		t.Errorf("got  %swant %s", got, want)
	}
}

// TestFreeSWITCHNotFound checks that an inactive account is never returned: FreeSWITCH does not ask
// a user without a hash for a password.
func TestFreeSWITCHNotFound(t *testing.T) {
	f := newFixture(t)
	for _, host := range []string{"a.test", "b.test", "c.test"} {
		f.addActive(host, "alice")
	}
	token := f.addServer("fs", "a.test", "b.test", "c.test")
	alice := sipAuth("alice", "a.test")
	with := func(field, value string) string {
		return strings.Replace(alice, field+"=", field+"="+value+"&was=", 1)
	}
	bodies := map[string]string{
		"another action": with("action", "user_call"),
		"message count":  with("action", "message-count"),
		"reverse auth":   with("action", "reverse-auth-lookup"),
		"Verto":          with("action", "jsonrpc-authenticate"),
		"no action":      strings.Replace(alice, "action=sip_auth&", "", 1),
		"gateways": "hostname=fs1&section=directory&tag_name=&key_name=&key_value=" +
			"&purpose=gateways&profile=internal",
		"network list": "hostname=fs1&section=directory&tag_name=domain&key_name=name&key_value=a.test" +
			"&purpose=network-list&domain=a.test",
		"another section":              strings.Replace(alice, "section=directory", "section=dialplan", 1),
		"no realm":                     with("sip_auth_realm", ""),
		"no name":                      with("sip_auth_username", ""),
		"no user":                      with("&user", ""),
		"no domain":                    with("&domain", ""),
		"user is not the name":         sipAuthOf("alice", "a.test", "bob", "a.test"),
		"domain of another tenant":     sipAuthOf("alice", "b.test", "alice", "a.test"),
		"unknown domain":               sipAuthOf("alice", "a.test", "alice", "192.0.2.7"),
		"domain equal under case fold": sipAuthOf("alice", "a.test", "alice", "a.te\u017ft"),
		"empty form":                   "",
	}
	for _, user := range f.addInactive() {
		bodies[user] = sipAuth(user, "a.test")
		bodies[user+" with the realm"] = sipAuth(user+"@a.test", "a.test")
	}
	for name, body := range bodies {
		r := f.post("/v1/freeswitch/directory", body, token)
		if r.status != 200 || r.body != notFound {
			t.Errorf("%s: %d %s", name, r.status, r.body)
		}
	}
	for _, key := range []string{"b.test", "nowhere.test"} {
		body := strings.Replace(alice, "key_value=a.test", "key_value="+key, 1)
		if r := f.post("/v1/freeswitch/directory", body, token); r.status != 200 || r.body != notFound {
			t.Errorf("key_value %s: %d %s", key, r.status, r.body)
		}
	}
	for _, key := range []string{"a.test", "A.Test", ""} {
		body := strings.Replace(alice, "key_value=a.test", "key_value="+key, 1)
		if r := f.post("/v1/freeswitch/directory", body, token); !strings.Contains(r.body, "a1-hash") {
			t.Errorf("key_value %q: %d %s", key, r.status, r.body)
		}
	}
	other := f.addServer("fs-b", "b.test")
	if r := f.post("/v1/freeswitch/directory", alice, other); r.body != notFound {
		t.Errorf("tenant of another server: %s", r.body)
	}
}

func TestFreeSWITCHInvalidRequest(t *testing.T) {
	const path = "/v1/freeswitch/directory"
	f := newFixture(t)
	f.addActive("a.test", "alice")
	token := f.addServer("fs", "a.test")
	alice := sipAuth("alice", "a.test")
	// A phone can add fields to key_value, which is not encoded.
	for _, extra := range []string{
		"&action=x", "&user=bob", "&domain=b.test", "&sip_auth_realm=b.test", "&sip_auth_username=bob",
		"&section=x",
	} {
		body := strings.Replace(alice, "key_value=a.test", "key_value=a.test"+extra, 1)
		f.post(path, body, token).wantError(t, extra, 400, "invalid_request")
	}
	f.post(path, strings.Repeat("x", 40<<10), token).wantError(t, "40 KiB", 400, "invalid_request")
	f.send("POST", path, alice, "Authorization", "Bearer "+token, "Content-Type", "text/plain").
		wantError(t, "another media type", 400, "invalid_request")
	f.send("POST", path, alice).wantError(t, "no token", 401, "unauthorized")
	f.send("GET", path+"?"+alice, "").wantError(t, "GET", 405, "method_not_allowed")
}

// FuzzFreeSWITCH checks that no form makes FreeSWITCH accept a phone that did not authenticate as
// the account.
func FuzzFreeSWITCH(f *testing.F) {
	fx := newFixture(f)
	fx.addActive("a.test", "alice")
	fx.addActive("b.test", "alice")
	token := fx.addServer("fs", "a.test", "b.test")
	for _, body := range []string{
		sipAuth("alice", "a.test"), sipAuth("alice@b.test", "b.test"), sipAuth("nobody", "a.test"),
		"section=directory",
	} {
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body string) {
		r := fx.direct("POST", "/v1/freeswitch/directory", body, token)
		if r.status != 200 {
			return
		}
		var d document
		if err := xml.Unmarshal([]byte(r.body), &d); err != nil {
			t.Fatalf("%v in %s", err, r.body)
		}
		if d.Section.Domain == nil {
			if r.body != notFound {
				t.Fatal(r.body)
			}
			return
		}
		u := d.Section.Domain.Users
		if len(u) != 1 || len(u[0].Params) != 2 || len(u[0].Params[0].Value) != 32 ||
			u[0].Params[1] != (pair{"allow-empty-password", "false"}) {
			t.Fatal(r.body)
		}
		realm := strings.ToLower(d.Section.Domain.Name)
		name := strings.TrimSuffix(u[0].ID, "@"+realm)
		want := digest.Compute(u[0].ID, realm, world.Password(name, realm)).Hex()
		if u[0].Params[0].Value != want {
			t.Fatalf("%s in %s has the hash of another account", u[0].ID, realm)
		}
	})
}
