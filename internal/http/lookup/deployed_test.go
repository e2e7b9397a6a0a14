package lookup_test

import (
	"encoding/xml"
	"io"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"

	"dialtone/internal/account"
)

// These tests read the files in deploy/ for servers that the tests do not run, and send the
// requests that these servers would send. They show only that URLs, credentials, tables and
// contexts match.

// deployed returns the text of a file in deploy/.
func deployed(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile("../../../deploy/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// fetch posts a form as libcurl does: the user information of the URL becomes a header.
func fetch(t *testing.T, f *fixture, address, token, body string) string {
	t.Helper()
	u, err := url.Parse(strings.Replace(address, "TOKEN", token, 1))
	if err != nil || u.Host != "127.0.0.1:8081" { // the default of ops.listen
		t.Fatalf("%s: %v", address, err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, f.url+u.Path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", formType)
	secret, _ := u.User.Password()
	req.SetBasicAuth(u.User.Username(), secret)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("%s: %s", u.Path, resp.Status)
	}
	return string(text)
}

// Lines of Asterisk's configuration files (config.c): a setting has = or =>, and a value.
var (
	asteriskSection = regexp.MustCompile(`^\[[\w-]+\]$`)
	asteriskSetting = regexp.MustCompile(`^ ?[\w/]+ *=>? *\S.*$`)
)

func TestDeployedAsterisk(t *testing.T) {
	f := newFixture(t)
	f.addActive("a.test", "alice")
	token := f.addServer("asterisk", "a.test")
	tables := make(map[string]string)
	extconfig := deployed(t, "asterisk/extconfig.conf")
	for _, m := range regexp.MustCompile(`(?m)^(ps_\w+) +=> curl,(\S+)$`).FindAllStringSubmatch(extconfig, -1) {
		tables[m[1]] = m[2]
	}
	sorcery := deployed(t, "asterisk/sorcery.conf")
	used := regexp.MustCompile(`(?m)^\w+=realtime,(\w+)$`).FindAllStringSubmatch(sorcery, -1)
	if len(used) != 3 || len(tables) != 3 {
		t.Fatalf("sorcery.conf uses %v of %v", used, tables)
	}
	rows := make(map[string]map[string]string)
	for _, m := range used {
		address, ok := tables[m[1]]
		if !ok {
			t.Fatalf("sorcery.conf uses %s, which extconfig.conf does not have", m[1])
		}
		row := fetch(t, f, address+"/single", token, "id=alice%40a.test")
		rows[m[1]] = parseRow(t, strings.TrimSuffix(row, "\n"))
		if none := fetch(t, f, address+"/single", token, "id=nobody%40a.test"); none != "" {
			t.Errorf("%s: a row for an unknown account: %q", m[1], none)
		}
	}
	auth := rows["ps_auths"]
	if auth["md5_cred"] == "" || auth["realm"] != "a.test" || rows["ps_aors"]["max_contacts"] == "" {
		t.Errorf("the rows are %v", rows)
	}
	for _, name := range []string{"extconfig", "extensions", "pjsip", "sorcery"} {
		section := ""
		for line := range strings.Lines(deployed(t, "asterisk/"+name+".conf")) {
			line, _, _ = strings.Cut(strings.TrimRight(line, "\n"), ";")
			switch {
			case strings.TrimSpace(line) == "":
			case asteriskSection.MatchString(line):
				section = line
			case section == "" || !asteriskSetting.MatchString(line):
				t.Errorf("%s.conf: neither a section nor a setting in one: %s", name, line)
			}
		}
	}
	plan := deployed(t, "asterisk/extensions.conf")
	for _, m := range regexp.MustCompile(`(?m)^include => (.*)$`).FindAllStringSubmatch(plan, -1) {
		if !strings.Contains(plan, "\n["+m[1]+"]\n") {
			t.Errorf("extensions.conf includes %s, which it does not have", m[1])
		}
	}
	for _, role := range account.Roles {
		if !strings.Contains(plan, "[dialtone-"+string(role)+"]") {
			t.Errorf("the context for calls of role %s is missing", role)
		}
	}
	if got := rows["ps_endpoints"]["context"]; got != "dialtone-guest" {
		t.Errorf("calls of alice start in the context %q", got)
	}
}

func TestDeployedFreeSWITCH(t *testing.T) {
	f := newFixture(t)
	f.addActive("a.test", "alice")
	token := f.addServer("freeswitch", "a.test")
	var c struct {
		Params []pair `xml:"bindings>binding>param"`
	}
	if err := xml.Unmarshal([]byte(deployed(t, "freeswitch/xml_curl.conf.xml")), &c); err != nil {
		t.Fatal(err)
	}
	set := make(map[string]string)
	for _, p := range c.Params {
		set[p.Name] = p.Value
	}
	address := strings.Replace(set["gateway-url"], "://", "://"+set["gateway-credentials"]+"@", 1)
	var d document
	found := fetch(t, f, address, token, sipAuth("alice", "a.test"))
	if err := xml.Unmarshal([]byte(found), &d); err != nil || d.Section.Domain == nil {
		t.Fatalf("alice is not found: %v", err)
	}
	if got := fetch(t, f, address, token, sipAuth("nobody", "a.test")); got != notFound {
		t.Errorf("unknown account: %s", got)
	}
	plan := deployed(t, "freeswitch/dialplan.xml")
	for _, role := range account.Roles {
		if !strings.Contains(plan, `<context name="dialtone-`+string(role)+`">`) {
			t.Errorf("the context for calls of role %s is missing", role)
		}
	}
	for _, name := range []string{"dialplan.xml", "profile.xml"} {
		if err := xml.Unmarshal([]byte(deployed(t, "freeswitch/"+name)), new(struct{})); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
