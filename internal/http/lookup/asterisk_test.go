package lookup_test

import (
	"net/url"
	"strings"
	"testing"

	"dialtone/internal/account"
	"dialtone/internal/digest"
)

// Asterisk is not run here. This is a contract test on the bytes that res_config_curl sends and reads: those of its source
// (res/res_config_curl.c, res_sorcery_realtime.c, res_pjsip/config_auth.c of Asterisk 22).

// read is how res_config_curl reads a row: up to the first line end, fields split at & and =, each decoded without a plus sign
// standing for a space.
func read(t testing.TB, body string) map[string]string {
	t.Helper()
	line, _, _ := strings.Cut(body, "\n")
	row := make(map[string]string)
	for pair := range strings.SplitSeq(line, "&") {
		key, value, _ := strings.Cut(pair, "=")
		key, err := url.PathUnescape(key)
		if err != nil {
			t.Fatal(err)
		}
		if value, err = url.PathUnescape(value); err != nil {
			t.Fatal(err)
		}
		if _, twice := row[key]; twice {
			t.Errorf("%s comes twice in %s", key, line)
		}
		if key != "" {
			row[key] = value
		}
	}
	return row
}

func TestAsteriskContract(t *testing.T) {
	h := open(t)
	for _, host := range []string{"a.test", "b.test", "c.test"} {
		h.member(host, "alice", nil)
	}
	h.member("a.test", "plain", func(c *digest.Credential) { c.HA1B, c.SHA256 = nil, nil })
	b, _ := h.tenants.Lookup("b.test")
	_, err := h.store.SetRole(t.Context(), b.ID, "alice", account.User, h.now)
	h.must(err)
	all, one := h.server("all", "a.test", "b.test", "c.test"), h.server("one", "a.test")
	ask := func(path, body, token string) string {
		t.Helper()
		a := h.form("/v1/asterisk/"+path, body, token)
		if a.status != 200 || a.header.Get("Content-Type") != "text/plain; charset=utf-8" {
			t.Fatalf("%s: %d %s", path, a.status, a.body)
		}
		return a.body
	}
	md5 := digest.Compute("alice", "a.test", password("alice", "a.test")).Hex()
	sha := digest.ComputeSHA256("alice", "a.test", password("alice", "a.test")).Hex()
	for _, c := range []struct{ name, path, body, token, want string }{
		{"auth", "ps_auths/single", "id=alice%40a.test", all,
			"id=alice%40a.test&auth_type=md5&username=alice&realm=a.test&md5_cred=" + md5 + "&password_digest=SHA-256%3A" + sha + "\n"},
		{"the id of a server's only tenant", "ps_auths/single", "id=alice", one,
			"id=alice&auth_type=md5&username=alice&realm=a.test&md5_cred=" + md5 + "&password_digest=SHA-256%3A" + sha + "\n"},
		{"endpoint", "ps_endpoints/single", "id=alice%40b.test", all,
			"id=alice%40b.test&aors=alice%40b.test&auth=alice%40b.test&context=dialtone-user&set_var=DIALTONE_ROLE%3Duser&identify_by=username%2Cauth_username" +
				"&allow=%21all%2Copus%2Cg722%2Culaw%2Calaw&direct_media=no&force_rport=yes&rewrite_contact=yes&rtp_symmetric=yes\n"},
		{"aor", "ps_aors/single", "id=alice%40a.test", all, "id=alice%40a.test&max_contacts=10&remove_existing=yes\n"},
		{"several, of which there is one", "ps_aors/multi", "id=alice%40a.test", all, "id=alice%40a.test&max_contacts=10&remove_existing=yes\n"},
		{"every one", "ps_endpoints/multi", "id%20LIKE=%25", all, ""},
		{"those of a pattern", "ps_endpoints/multi", "id%20LIKE=alice%25", one, ""},
		{"those of another field", "ps_aors/multi", "mailboxes%20!%3D=", one, ""},
		{"an id without a realm, for a server of many tenants", "ps_auths/single", "id=alice", all, ""},
		{"the tenant of another server", "ps_auths/single", "id=alice%40b.test", one, ""},
		{"a realm of nobody", "ps_auths/single", "id=alice%40d.test", all, ""},
		{"an id of two realms", "ps_auths/single", "id=alice%40a.test%40a.test", all, ""},
		{"no id", "ps_auths/single", "", all, ""},
		{"what columns there are", "ps_endpoints/require", "id=char%3A40&transport=char%3A40", all, "0\n"},
		{"a change", "ps_endpoints/update?id=alice%40a.test", "context=evil", all, "0\n"},
		{"a new one", "ps_auths/store", "id=eve&password=x", all, "0\n"},
		{"one to go", "ps_auths/destroy", "id=alice&", all, "0\n"},
	} {
		if got := ask(c.path, c.body, c.token); got != c.want {
			t.Errorf("%s:\ngot  %s\nwant %s", c.name, got, c.want)
		}
	}
	if a := h.send("GET", "/v1/asterisk/ps_auths/static?file=pjsip.conf", "", "Authorization", "Bearer "+all); a.status != 200 || a.body != "" {
		t.Errorf("a file: %d %q", a.status, a.body)
	}

	// An account that has one hash alone, and a tenant that has chosen SHA-256, under a realm that is to be escaped.
	row := read(t, ask("ps_auths/single", "id=plain%40a.test", all))
	if _, has := row["password_digest"]; has || row["md5_cred"] != digest.Compute("plain", "a.test", password("plain", "a.test")).Hex() {
		t.Errorf("one hash alone: %v", row)
	}
	row = read(t, ask("ps_auths/single", "id=alice%40C%20%26%20%3Cphones%3E", all))
	if row["realm"] != "C & <Phones>" || row["id"] != "alice@C & <phones>" || row["supported_algorithms_uas"] != "SHA-256" ||
		row["password_digest"] != "SHA-256:"+digest.ComputeSHA256("alice", "C & <Phones>", password("alice", "c.test")).Hex() ||
		row["md5_cred"] != digest.Compute("alice", "C & <Phones>", password("alice", "c.test")).Hex() {
		t.Errorf("a tenant with SHA-256: %v", row)
	}

	for _, user := range h.inactive() {
		for _, table := range []string{"ps_auths", "ps_endpoints", "ps_aors"} {
			for _, verb := range []string{"single", "multi"} {
				if got := ask(table+"/"+verb, "id="+user+"%40a.test", all); got != "" {
					t.Errorf("%s: %s/%s: %s", user, table, verb, got)
				}
			}
		}
	}

	// Whatever the status, a body is a row to Asterisk; and after a write it has to be a number.
	for _, c := range []struct {
		path, body, token string
		status            int
		want              string
	}{
		{"ps_auths/single", "id=alice", "wrong", 401, ""},
		{"ps_endpoints/multi", "id=alice", "wrong", 401, ""},
		{"ps_aors/single", "id=alice&id=bob", one, 400, ""},
		{"ps_aors/single", "id=%00", one, 400, ""},
		{"ps_aors/single", strings.Repeat("x", 20<<10), one, 400, ""},
		{"ps_auths/update?id=alice", "password=x", "wrong", 401, "-1\n"},
		{"ps_auths/store", "id=x", "wrong", 401, "-1\n"},
		{"ps_auths/destroy", "id=x", "wrong", 401, "-1\n"},
		{"ps_auths/require", "id=char%3A40", "wrong", 401, "-1\n"},
	} {
		if a := h.form("/v1/asterisk/"+c.path, c.body, c.token); a.status != c.status || a.body != c.want {
			t.Errorf("%s: %d %q", c.path, a.status, a.body)
		}
	}
	if a := h.send("GET", "/v1/asterisk/ps_auths/single?id=alice", "", "Authorization", "Bearer "+one); a.status != 405 || a.body != "" {
		t.Errorf("GET: %d %q", a.status, a.body)
	}
}

// FuzzAsterisk: a row is of the account that was asked for, and of no other.
func FuzzAsterisk(f *testing.F) {
	h := open(f)
	h.member("a.test", "alice", nil)
	h.member("b.test", "alice", nil)
	token := h.server("ast", "a.test", "b.test")
	for _, body := range []string{"id=alice%40a.test", "id=alice@B.test", "id=alice", "id=bob%40a.test", "id=alice%40a.test&id=x", "id%20LIKE=%25"} {
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body string) {
		a := h.direct("POST", "/v1/asterisk/ps_auths/single", body, token)
		if a.status != 200 && a.body != "" {
			t.Fatalf("%d %q", a.status, a.body)
		}
		if a.status != 200 || a.body == "" {
			return
		}
		if strings.Count(a.body, "\n") != 1 {
			t.Fatalf("%q", a.body)
		}
		row := read(t, a.body)
		user, realm, _ := strings.Cut(row["id"], "@")
		if user != "alice" || row["username"] != user || row["realm"] != strings.ToLower(realm) ||
			row["md5_cred"] != digest.Compute(user, row["realm"], password(user, row["realm"])).Hex() {
			t.Errorf("%q: %q", body, a.body)
		}
	})
}
