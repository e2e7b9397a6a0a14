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

// The files of deploy/ for servers that are not run here are read, and what they would make those servers ask is asked. It is a contract
// test: no more is known than that the addresses, credentials, tables and contexts fit together.

func deployed(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile("../../../deploy/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// fetch asks as libcurl does: what stands before the @ is a header.
func fetch(t *testing.T, h *house, address, token, body string) string {
	t.Helper()
	u, err := url.Parse(strings.Replace(address, "TOKEN", token, 1))
	if err != nil || u.Host != "127.0.0.1:8081" { // the standard of ops.listen
		t.Fatalf("%s: %v", address, err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, h.url+u.Path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	secret, _ := u.User.Password()
	req.SetBasicAuth(u.User.Username(), secret)
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Errorf("%s: %s", u.Path, answer.Status)
	}
	return string(text)
}

func TestDeployedAsterisk(t *testing.T) {
	h := open(t)
	h.member("a.test", "alice", nil)
	token := h.server("asterisk", "a.test")
	tables := make(map[string]string)
	for _, m := range regexp.MustCompile(`(?m)^(ps_\w+) +=> curl,(\S+)$`).FindAllStringSubmatch(deployed(t, "asterisk/extconfig.conf"), -1) {
		tables[m[1]] = m[2]
	}
	used := regexp.MustCompile(`(?m)^\w+=realtime,(\w+)$`).FindAllStringSubmatch(deployed(t, "asterisk/sorcery.conf"), -1)
	if len(used) != 3 || len(tables) != 3 {
		t.Fatalf("%v of %v", used, tables)
	}
	rows := make(map[string]map[string]string)
	for _, m := range used {
		address, ok := tables[m[1]]
		if !ok {
			t.Fatalf("sorcery.conf wants %s, and extconfig.conf does not say where it is", m[1])
		}
		rows[m[1]] = read(t, strings.TrimSuffix(fetch(t, h, address+"/single", token, "id=alice%40a.test"), "\n"))
		if none := fetch(t, h, address+"/single", token, "id=nobody%40a.test"); none != "" {
			t.Errorf("%s: a row for nobody: %q", m[1], none)
		}
	}
	if rows["ps_auths"]["md5_cred"] == "" || rows["ps_auths"]["realm"] != "a.test" || rows["ps_aors"]["max_contacts"] == "" {
		t.Errorf("the rows are %v", rows)
	}
	plan := deployed(t, "asterisk/extensions.conf")
	for _, role := range account.Roles {
		if !strings.Contains(plan, "[dialtone-"+string(role)+"]") {
			t.Errorf("calls of role %s begin in a context that is not there", role)
		}
	}
	if got := rows["ps_endpoints"]["context"]; got != "dialtone-guest" {
		t.Errorf("alice's calls begin in %q", got)
	}
}

func TestDeployedFreeSWITCH(t *testing.T) {
	h := open(t)
	h.member("a.test", "alice", nil)
	token := h.server("freeswitch", "a.test")
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
	if err := xml.Unmarshal([]byte(fetch(t, h, address, token, sipAuth("alice", "a.test"))), &d); err != nil || d.Section.Domain == nil {
		t.Fatalf("alice is not found: %v", err)
	}
	if got := fetch(t, h, address, token, sipAuth("nobody", "a.test")); got != notFound {
		t.Errorf("nobody is %s", got)
	}
	plan := deployed(t, "freeswitch/dialplan.xml")
	for _, role := range account.Roles {
		if !strings.Contains(plan, `<context name="dialtone-`+string(role)+`">`) {
			t.Errorf("calls of role %s begin in a context that is not there", role)
		}
	}
	for _, name := range []string{"dialplan.xml", "profile.xml"} {
		if err := xml.Unmarshal([]byte(deployed(t, "freeswitch/"+name)), new(struct{})); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
