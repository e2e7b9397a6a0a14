package lookup_test

import (
	"encoding/xml"
	"net/url"
	"strings"
	"testing"

	"dialtone/internal/account"
	"dialtone/internal/digest"
)

// FreeSWITCH is not run here. This is a contract test on the bytes that mod_xml_curl sends and reads: those of its documentation and
// its source (v1.10, src/mod/xml_int/mod_xml_curl, src/switch_xml.c, sofia_reg.c).

// sipAuth is what FreeSWITCH sends when a phone has answered a challenge.
func sipAuth(user, domain string) string { return sipAuthOf(user, domain, user, domain) }

func sipAuthOf(username, realm, user, domain string) string {
	q := url.QueryEscape
	return "hostname=fs1&section=directory&tag_name=domain&key_name=name&key_value=" + domain +
		"&Event-Name=REQUEST_PARAMS&Core-UUID=2ad13b4c-7b9c-4f2e-9d3e-0f3e6f1d2b3a&FreeSWITCH-Hostname=fs1&FreeSWITCH-Switchname=fs1" +
		"&FreeSWITCH-IPv4=192.0.2.7&FreeSWITCH-IPv6=%3A%3A1&Event-Date-Local=2026-03-01%2012%3A00%3A00&Event-Calling-File=sofia_reg.c" +
		"&Event-Calling-Function=sofia_reg_parse_auth&Event-Calling-Line-Number=2974&Event-Sequence=532&action=sip_auth&sip_profile=internal" +
		"&sip_user_agent=Linphone%20Desktop/5.2&sip_auth_username=" + q(username) + "&sip_auth_realm=" + q(realm) +
		"&sip_auth_nonce=7d2e1c0f-4b59-4a0e-9b1a-6f1f4d2a9c11&sip_auth_uri=sip%3Aa.test&sip_contact_user=" + q(username) +
		"&sip_contact_host=192.0.2.9&sip_to_user=" + q(username) + "&sip_to_host=a.test&sip_via_protocol=udp&sip_from_user=" + q(username) +
		"&sip_from_host=a.test&sip_call_id=Nj~2&sip_request_host=a.test&sip_auth_qop=auth&sip_auth_cnonce=QlQ&sip_auth_nc=00000001" +
		"&sip_auth_response=5a1f0b7f0f9f8f1f2f3f4f5f6f7f8f9f&sip_auth_method=REGISTER&client_port=5060&key=id&user=" + q(user) +
		"&domain=" + q(domain) + "&ip=192.0.2.9"
}

const notFound = `<document type="freeswitch/xml"><section name="result"><result status="not found"/></section></document>` + "\n"

// document is how FreeSWITCH reads it.
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

func TestFreeSWITCHContract(t *testing.T) {
	h := open(t)
	for _, host := range []string{"a.test", "b.test", "c.test"} {
		h.member(host, "alice", nil)
	}
	token := h.server("fs", "a.test", "b.test", "c.test")
	tn, _ := h.tenants.Lookup("b.test")
	_, err := h.store.SetRole(t.Context(), tn.ID, "alice", account.SIPOnly, h.now)
	h.must(err)
	ask := func(body string) string {
		t.Helper()
		a := h.form("/v1/freeswitch/directory", body, token)
		if a.status != 200 || a.header.Get("Content-Type") != "text/xml; charset=utf-8" {
			t.Fatalf("%d %s %s", a.status, a.header.Get("Content-Type"), a.body)
		}
		return a.body
	}
	for _, c := range []struct{ name, body, domain, user, ha1, role string }{
		{"an active account", sipAuth("alice", "a.test"), "a.test", "alice", digest.Compute("alice", "a.test", password("alice", "a.test")).Hex(), "guest"},
		{"with a line end, as older versions send", sipAuth("alice", "a.test") + "\n", "a.test", "alice", digest.Compute("alice", "a.test", password("alice", "a.test")).Hex(), "guest"},
		{"another role", sipAuth("alice", "b.test"), "b.test", "alice", digest.Compute("alice", "b.test", password("alice", "b.test")).Hex(), "siponly"},
		{"a name with its realm", sipAuth("alice@a.test", "a.test"), "a.test", "alice@a.test", digest.ComputeB("alice", "a.test", password("alice", "a.test")).Hex(), "guest"},
		{"a realm and its tenant's host", sipAuthOf("alice", "C & <Phones>", "alice", "c.test"), "c.test", "alice", digest.Compute("alice", "C & <Phones>", password("alice", "c.test")).Hex(), "guest"},
		{"a realm to be escaped", strings.Replace(sipAuth("alice", "C & <Phones>"), "key_value=C & <Phones>", "key_value=c", 1), "C & <Phones>", "alice", digest.Compute("alice", "C & <Phones>", password("alice", "c.test")).Hex(), "guest"},
		{"letters in any case, which come back as they were", sipAuth("alice", "A.Test"), "A.Test", "alice", digest.Compute("alice", "a.test", password("alice", "a.test")).Hex(), "guest"},
		{"fields that come again, alike", sipAuth("alice", "a.test") + "&key=id&user=alice&domain=a.test", "a.test", "alice", digest.Compute("alice", "a.test", password("alice", "a.test")).Hex(), "guest"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var d document
			if err := xml.Unmarshal([]byte(ask(c.body)), &d); err != nil {
				t.Fatal(err)
			}
			if d.Type != "freeswitch/xml" || d.Section.Name != "directory" || d.Section.Domain == nil || len(d.Section.Domain.Users) != 1 {
				t.Fatalf("%+v", d)
			}
			user := d.Section.Domain.Users[0]
			// FreeSWITCH looks for the domain and the user that it asked for.
			if d.Section.Domain.Name != c.domain || user.ID != c.user {
				t.Errorf("the user is %q in %q", user.ID, d.Section.Domain.Name)
			}
			if want := []pair{{"a1-hash", c.ha1}, {"allow-empty-password", "false"}}; !equal(user.Params, want) {
				t.Errorf("the params are %v, want %v", user.Params, want)
			}
			if want := []pair{{"user_context", "dialtone-" + c.role}, {"dialtone_role", c.role}}; !equal(user.Vars, want) {
				t.Errorf("the variables are %v, want %v", user.Vars, want)
			}
		})
	}
	want := `<document type="freeswitch/xml"><section name="directory"><domain name="a.test"><groups><group name="dialtone"><users><user id="alice">` +
		`<params><param name="a1-hash" value="` + digest.Compute("alice", "a.test", password("alice", "a.test")).Hex() + `"/>` +
		`<param name="allow-empty-password" value="false"/></params><variables><variable name="user_context" value="dialtone-guest"/>` +
		`<variable name="dialtone_role" value="guest"/></variables></user></users></group></groups></domain></section></document>` + "\n"
	if got := ask(sipAuth("alice", "a.test")); got != want {
		t.Errorf("got  %swant %s", got, want)
	}

	// A user without a hash is let in by FreeSWITCH. So whoever is not active is in no answer at all.
	with := func(field, value string) string {
		return strings.Replace(sipAuth("alice", "a.test"), field+"=", field+"="+value+"&was=", 1)
	}
	nobody := map[string]string{
		"another action": with("action", "user_call"), "a message count": with("action", "message-count"), "a reverse look-up": with("action", "reverse-auth-lookup"),
		"Verto": with("action", "jsonrpc-authenticate"), "no action": strings.Replace(sipAuth("alice", "a.test"), "action=sip_auth&", "", 1),
		"gateways":        "hostname=fs1&section=directory&tag_name=&key_name=&key_value=&purpose=gateways&profile=internal",
		"a network list":  "hostname=fs1&section=directory&tag_name=domain&key_name=name&key_value=a.test&purpose=network-list&domain=a.test",
		"another section": strings.Replace(sipAuth("alice", "a.test"), "section=directory", "section=dialplan", 1),
		"no realm":        with("sip_auth_realm", ""), "no name": with("sip_auth_username", ""), "no user": with("&user", ""), "no domain": with("&domain", ""),
		"another user than proved itself":      sipAuthOf("alice", "a.test", "bob", "a.test"),
		"the domain of another tenant":         sipAuthOf("alice", "b.test", "alice", "a.test"),
		"the domain of nobody":                 sipAuthOf("alice", "a.test", "alice", "192.0.2.7"),
		"a domain that only Unicode takes for": sipAuthOf("alice", "a.test", "alice", "a.te\u017ft"),
		"nothing":                              "",
	}
	for _, user := range h.inactive() {
		nobody[user] = sipAuth(user, "a.test")
		nobody[user+" with the realm"] = sipAuth(user+"@a.test", "a.test")
	}
	for name, body := range nobody {
		if got := ask(body); got != notFound {
			t.Errorf("%s: %s", name, got)
		}
	}

	// What a phone has smuggled into key_value, which is not encoded, does not pass for a field.
	for _, more := range []string{"&action=x", "&user=bob", "&domain=b.test", "&sip_auth_realm=b.test", "&sip_auth_username=bob", "&section=x"} {
		body := strings.Replace(sipAuth("alice", "a.test"), "key_value=a.test", "key_value=a.test"+more, 1)
		h.form("/v1/freeswitch/directory", body, token).fails(t, more, 400, "invalid_request")
	}
	h.form("/v1/freeswitch/directory", strings.Repeat("x", 40<<10), token).fails(t, "40 KiB", 400, "invalid_request")
	h.send("POST", "/v1/freeswitch/directory", sipAuth("alice", "a.test"), "Authorization", "Bearer "+token, "Content-Type", "text/plain").
		fails(t, "another media type", 400, "invalid_request")
	h.send("POST", "/v1/freeswitch/directory", sipAuth("alice", "a.test")).fails(t, "no token", 401, "unauthorized")
	h.send("GET", "/v1/freeswitch/directory?"+sipAuth("alice", "a.test"), "").fails(t, "GET", 405, "method_not_allowed")

	only := h.server("fs-b", "b.test")
	if a := h.form("/v1/freeswitch/directory", sipAuth("alice", "a.test"), only); a.body != notFound {
		t.Errorf("the tenant of another server: %s", a.body)
	}
}

func equal(got, want []pair) bool {
	if len(got) != len(want) {
		return false
	}
	for i := range got {
		if got[i] != want[i] {
			return false
		}
	}
	return true
}

// FuzzFreeSWITCH: there is no form for which FreeSWITCH would let somebody in who has not proved to be the account.
func FuzzFreeSWITCH(f *testing.F) {
	h := open(f)
	h.member("a.test", "alice", nil)
	h.member("b.test", "alice", nil)
	token := h.server("fs", "a.test", "b.test")
	for _, body := range []string{sipAuth("alice", "a.test"), sipAuth("alice@b.test", "b.test"), sipAuth("nobody", "a.test"), "section=directory"} {
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body string) {
		a := h.direct("POST", "/v1/freeswitch/directory", body, token)
		if a.status != 200 {
			return
		}
		var d document
		if err := xml.Unmarshal([]byte(a.body), &d); err != nil {
			t.Fatalf("%v in %s", err, a.body)
		}
		if d.Section.Domain == nil {
			if a.body != notFound {
				t.Fatal(a.body)
			}
			return
		}
		u := d.Section.Domain.Users
		if len(u) != 1 || len(u[0].Params) != 2 || len(u[0].Params[0].Value) != 32 || u[0].Params[1] != (pair{"allow-empty-password", "false"}) {
			t.Fatal(a.body)
		}
		realm := strings.ToLower(d.Section.Domain.Name)
		name := strings.TrimSuffix(u[0].ID, "@"+realm)
		want := digest.Compute(u[0].ID, realm, password(name, realm)).Hex()
		if u[0].Params[0].Value != want {
			t.Fatalf("%s in %s has the hash of another", u[0].ID, realm)
		}
	})
}
