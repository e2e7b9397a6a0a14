package lookup_test

import (
	"net/url"
	"strings"
	"testing"

	"dialtone/internal/account"
	"dialtone/internal/digest"
	"dialtone/internal/test/world"
)

// Asterisk is not run here. These are contract tests on the bytes that res_config_curl sends and
// reads, according to its source (res/res_config_curl.c, res_sorcery_realtime.c,
// res_pjsip/config_auth.c of Asterisk 22).

// parseRow reads a row as res_config_curl does: up to the first newline, fields split at & and =,
// each percent-decoded without a plus sign meaning a space.
func parseRow(t testing.TB, body string) map[string]string {
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
		if _, repeated := row[key]; repeated {
			t.Errorf("%s is repeated in %s", key, line)
		}
		if key != "" {
			row[key] = value
		}
	}
	return row
}

func TestAsterisk(t *testing.T) {
	f := newFixture(t)
	for _, host := range []string{"a.test", "b.test", "c.test"} {
		f.addActive(host, "alice")
	}
	f.addActive("a.test", "md5only", world.MD5Only)
	_, err := f.Store.SetRole(t.Context(), f.At("b.test").Tenant.ID, "alice", account.User, f.Now())
	f.Must(err)
	all, one := f.addServer("all", "a.test", "b.test", "c.test"), f.addServer("one", "a.test")
	ask := func(path, body, token string) string {
		t.Helper()
		r := f.post("/v1/asterisk/"+path, body, token)
		if r.status != 200 || r.header.Get("Content-Type") != "text/plain; charset=utf-8" {
			t.Fatalf("%s: %d %s", path, r.status, r.body)
		}
		return r.body
	}
	atA := world.Password("alice", "a.test")
	hashes := "&md5_cred=" + digest.Compute("alice", "a.test", atA).Hex() +
		"&password_digest=SHA-256%3A" + digest.ComputeSHA256("alice", "a.test", atA).Hex()
	const aor = "id=alice%40a.test&max_contacts=10&remove_existing=yes\n"
	const endpoint = "id=alice%40b.test&aors=alice%40b.test&auth=alice%40b.test&context=dialtone-user" +
		"&set_var=DIALTONE_ROLE%3Duser&identify_by=username%2Cauth_username" +
		"&allow=%21all%2Copus%2Cg722%2Culaw%2Calaw&direct_media=no&force_rport=yes&rewrite_contact=yes" +
		"&rtp_symmetric=yes\n"
	for _, c := range []struct{ name, path, body, token, want string }{
		{"auth", "ps_auths/single", "id=alice%40a.test", all,
			"id=alice%40a.test&auth_type=md5&username=alice&realm=a.test" + hashes + "\n"},
		{"id without a realm, one tenant", "ps_auths/single", "id=alice", one,
			"id=alice&auth_type=md5&username=alice&realm=a.test" + hashes + "\n"},
		{"endpoint", "ps_endpoints/single", "id=alice%40b.test", all, endpoint},
		{"AOR", "ps_aors/single", "id=alice%40a.test", all, aor},
		{"multi with an id", "ps_aors/multi", "id=alice%40a.test", all, aor},
		{"multi with the pattern %", "ps_endpoints/multi", "id%20LIKE=%25", all, ""},
		{"multi with a pattern", "ps_endpoints/multi", "id%20LIKE=alice%25", one, ""},
		{"multi with another field", "ps_aors/multi", "mailboxes%20!%3D=", one, ""},
		{"id without a realm, several tenants", "ps_auths/single", "id=alice", all, ""},
		{"tenant of another server", "ps_auths/single", "id=alice%40b.test", one, ""},
		{"unknown realm", "ps_auths/single", "id=alice%40d.test", all, ""},
		{"id with two realms", "ps_auths/single", "id=alice%40a.test%40a.test", all, ""},
		{"no id", "ps_auths/single", "", all, ""},
		{"require", "ps_endpoints/require", "id=char%3A40&transport=char%3A40", all, "0\n"},
		{"update", "ps_endpoints/update?id=alice%40a.test", "context=evil", all, "0\n"},
		{"store", "ps_auths/store", "id=eve&password=x", all, "0\n"},
		{"destroy", "ps_auths/destroy", "id=alice&", all, "0\n"},
	} {
		if got := ask(c.path, c.body, c.token); got != c.want {
			t.Errorf("%s:\ngot  %s\nwant %s", c.name, got, c.want)
		}
	}
	r := f.send("GET", "/v1/asterisk/ps_auths/static?file=pjsip.conf", "", "Authorization", "Bearer "+all)
	if r.status != 200 || r.body != "" {
		t.Errorf("static: %d %q", r.status, r.body)
	}

	row := parseRow(t, ask("ps_auths/single", "id=md5only%40a.test", all))
	md5 := digest.Compute("md5only", "a.test", world.Password("md5only", "a.test")).Hex()
	if _, ok := row["password_digest"]; ok || row["md5_cred"] != md5 {
		t.Errorf("account with an MD5 hash only: %v", row)
	}
	row = parseRow(t, ask("ps_auths/single", "id=alice%40C%20%26%20%3Cphones%3E", all))
	password := world.Password("alice", "c.test")
	if row["realm"] != "C & <Phones>" || row["id"] != "alice@C & <phones>" ||
		row["supported_algorithms_uas"] != "SHA-256" ||
		row["password_digest"] != "SHA-256:"+digest.ComputeSHA256("alice", "C & <Phones>", password).Hex() ||
		row["md5_cred"] != digest.Compute("alice", "C & <Phones>", password).Hex() {
		t.Errorf("tenant with SHA-256 and a realm that needs escaping: %v", row)
	}

	for _, user := range f.addInactive() {
		for _, table := range []string{"ps_auths", "ps_endpoints", "ps_aors"} {
			for _, verb := range []string{"single", "multi"} {
				if got := ask(table+"/"+verb, "id="+user+"%40a.test", all); got != "" {
					t.Errorf("%s: %s/%s: %s", user, table, verb, got)
				}
			}
		}
	}
}

// TestAsteriskErrors checks the bodies of errors: Asterisk reads any body as a row, and needs a
// number after a write.
func TestAsteriskErrors(t *testing.T) {
	f := newFixture(t)
	f.addActive("a.test", "alice")
	token := f.addServer("one", "a.test")
	for _, c := range []struct {
		path, body, token string
		status            int
		want              string
	}{
		{"ps_auths/single", "id=alice", "wrong", 401, ""},
		{"ps_endpoints/multi", "id=alice", "wrong", 401, ""},
		{"ps_aors/single", "id=alice&id=bob", token, 400, ""},
		{"ps_aors/single", "id=%00", token, 400, ""},
		{"ps_aors/single", strings.Repeat("x", 20<<10), token, 400, ""},
		{"ps_auths/update?id=alice", "password=x", "wrong", 401, "-1\n"},
		{"ps_auths/store", "id=x", "wrong", 401, "-1\n"},
		{"ps_auths/destroy", "id=x", "wrong", 401, "-1\n"},
		{"ps_auths/require", "id=char%3A40", "wrong", 401, "-1\n"},
	} {
		if r := f.post("/v1/asterisk/"+c.path, c.body, c.token); r.status != c.status || r.body != c.want {
			t.Errorf("%s: %d %q", c.path, r.status, r.body)
		}
	}
	r := f.send("GET", "/v1/asterisk/ps_auths/single?id=alice", "", "Authorization", "Bearer "+token)
	if r.status != 405 || r.body != "" {
		t.Errorf("GET: %d %q", r.status, r.body)
	}
}

// FuzzAsterisk checks that a row is always one of the account that was asked for.
func FuzzAsterisk(f *testing.F) {
	fx := newFixture(f)
	fx.addActive("a.test", "alice")
	fx.addActive("b.test", "alice")
	token := fx.addServer("ast", "a.test", "b.test")
	for _, body := range []string{
		"id=alice%40a.test", "id=alice@B.test", "id=alice", "id=bob%40a.test",
		"id=alice%40a.test&id=x", "id%20LIKE=%25",
	} {
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body string) {
		r := fx.direct("POST", "/v1/asterisk/ps_auths/single", body, token)
		if r.status != 200 && r.body != "" {
			t.Fatalf("%d %q", r.status, r.body)
		}
		if r.status != 200 || r.body == "" {
			return
		}
		if strings.Count(r.body, "\n") != 1 {
			t.Fatalf("%q", r.body)
		}
		row := parseRow(t, r.body)
		user, realm, _ := strings.Cut(row["id"], "@")
		if user != "alice" || row["username"] != user || row["realm"] != strings.ToLower(realm) ||
			row["md5_cred"] != digest.Compute(user, row["realm"], world.Password(user, row["realm"])).Hex() {
			t.Errorf("%q: %q", body, r.body)
		}
	})
}
