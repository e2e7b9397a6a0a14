package provision_test

import (
	"encoding/json"
	"encoding/xml"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"dialtone/internal/account"
	"dialtone/internal/fault"
	"dialtone/internal/provision"
	"dialtone/internal/tenant"
)

func phone(t *testing.T, a account.Account, s tenant.Settings) provision.Phone {
	t.Helper()
	tn, err := tenant.New(tenant.Tenant{Host: "phone.test", Settings: s})
	if err != nil {
		t.Fatal(err)
	}
	return provision.New(&tn, a)
}

var alex = account.Account{User: "alex", Name: "Älex 🙂 & Co", Sealed: []byte("a sealed credential")}

// full is a platform with all settings.
var full = tenant.Settings{
	Product: "Example Phones", SIPServer: "sbc.test:5061", SIPTransport: "TLS",
	SIPWebSocket: "wss://sbc.test:7443/ws?a=1&b=2", AcrobitsCloud: "HOUSE",
	TURNURIs: []string{"turn:turn.test"},
}

// TestFormats compares each format with the files in testdata, for a platform with all settings
// and for one without any.
func TestFormats(t *testing.T) {
	for platform, settings := range map[string]tenant.Settings{"full": full, "plain": {}} {
		for _, f := range provision.Formats {
			if f == provision.JsSIP && platform == "plain" {
				continue
			}
			t.Run(platform+"/"+string(f), func(t *testing.T) {
				file, err := phone(t, alex, settings).In(f)
				if err != nil {
					t.Fatal(err)
				}
				want, err := os.ReadFile(filepath.Join("testdata", platform+"-"+string(f)))
				if err != nil {
					t.Fatal(err)
				}
				if string(file.Text) != string(want) {
					t.Errorf("got\n%s\nwant\n%s", file.Text, want)
				}
			})
		}
	}
}

// hostile are possible display names of an account that have a special meaning in one of the formats.
var hostile = []string{
	`a" <sip:b@evil.test>;auth_pass=x`, `</title><password>x</password>`, `]]>`, `&amp;`, `\`, `"`,
	`<>`, `a\" x`, `');alert(1);('`, `${alert(1)}`, `</script>`,
	"\u2028", `# x`, strings.Repeat("ä", 120),
}

func TestHostileNames(t *testing.T) {
	for _, name := range hostile {
		p := phone(t, account.Account{User: "o_neil-1.2", Name: name}, full)
		for _, f := range provision.Formats {
			file, err := p.In(f)
			if err != nil {
				t.Fatal(err)
			}
			text := string(file.Text)
			switch f {
			case provision.Linphone, provision.Zoiper, provision.Acrobits:
				wellFormed(t, text)
				for _, never := range []string{"password", "title>title"} {
					if strings.Contains(strings.ReplaceAll(text, "&lt;password&gt;", ""), "<"+never) {
						t.Errorf("%s of %q has an element of the name:\n%s", f, name, text)
					}
				}
			case provision.Baresip:
				m := regexp.MustCompile(`^("[^"\\<>\n]+" )?<sip:o_neil-1\.2@phone\.test;transport=tls>;` +
					`auth_user=o_neil-1\.2;outbound="sip:sbc\.test:5061;transport=tls";regint=600\n$`)
				if !m.MatchString(text) {
					t.Errorf("%q becomes %q", name, text)
				}
			case provision.JsSIP:
				m := regexp.MustCompile(`display_name: ("(?:[^"\\]|\\.)*"),`).FindStringSubmatch(text)
				var got string
				if m == nil || json.Unmarshal([]byte(m[1]), &got) != nil || got != name ||
					strings.ContainsAny(m[1], "<>\u2028") {
					t.Errorf("%q becomes %s", name, text)
				}
			}
		}
	}
}

func wellFormed(t *testing.T, text string) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(text))
	for {
		_, err := d.Token()
		if err == io.EOF {
			return
		}
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
	}
}

// A program that cannot reach the platform is not offered a file.
func TestOffers(t *testing.T) {
	programs := []provision.Format{provision.Linphone, provision.Zoiper, provision.Acrobits,
		provision.Baresip}
	for _, c := range []struct {
		name     string
		settings tenant.Settings
		offered  []provision.Format
		refused  []provision.Format
	}{
		{"nothing is set", tenant.Settings{},
			[]provision.Format{provision.Text, provision.Linphone, provision.Zoiper,
				provision.Baresip}, []provision.Format{provision.JsSIP}},
		{"everything is set", full, provision.Formats, nil},
		{"browsers only", tenant.Settings{SIPTransport: "WSS"},
			[]provision.Format{provision.Text, provision.JsSIP}, programs},
		{"browsers on this machine",
			tenant.Settings{SIPTransport: "WS", SIPWebSocket: "ws://localhost:80"},
			[]provision.Format{provision.Text, provision.JsSIP}, programs},
		{"UDP", tenant.Settings{SIPTransport: "udp", SIPWebSocket: "wss://ws.test"},
			[]provision.Format{provision.Text, provision.Linphone, provision.Zoiper,
				provision.Baresip, provision.JsSIP}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := phone(t, alex, c.settings)
			for _, f := range provision.Formats {
				if got, want := p.Offers(f), slices.Contains(c.offered, f); got != want {
					t.Errorf("%s is offered: %v", f, got)
				}
				_, err := p.In(f)
				if want := slices.Contains(c.refused, f); fault.Is(err, fault.Invalid) != want {
					t.Errorf("%s: %v", f, err)
				}
			}
		})
	}
	if _, err := phone(t, alex, full).In("fax"); !fault.Is(err, fault.Invalid) ||
		!strings.Contains(err.Error(), "text, linphone, zoiper, acrobits, baresip, jssip") {
		t.Errorf("fax: %v", err)
	}
}

func TestScan(t *testing.T) {
	for _, f := range provision.Formats {
		want := ""
		if f == provision.Acrobits {
			want = "csc:alex@HOUSE"
		}
		if got := phone(t, alex, full).Scan(f); got != want {
			t.Errorf("the code for %s contains %q", f, got)
		}
		if got := phone(t, alex, tenant.Settings{}).Scan(f); got != "" {
			t.Errorf("without a Cloud ID, the code for %s contains %q", f, got)
		}
	}
}
