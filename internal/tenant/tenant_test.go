package tenant_test

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"dialtone/internal/digest"
	"dialtone/internal/fault"
	"dialtone/internal/secret"
	"dialtone/internal/tenant"
	"dialtone/internal/test/teststore"
)

var noon = time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)

func TestCanonicalHost(t *testing.T) {
	for raw, want := range map[string]string{
		"a.test":             "a.test",
		"A.TEST":             "a.test",
		"a.test.":            "a.test",
		"A.Test.:8443":       "a.test",
		"a.test:8443":        "a.test",
		"a.test:":            "a.test",
		"xn--bcher-kva.test": "xn--bcher-kva.test",
		"XN--BCHER-KVA.test": "xn--bcher-kva.test",
		"127.0.0.1:80":       "127.0.0.1",
		"a_b.test":           "a_b.test",

		strings.Repeat("a", 253): strings.Repeat("a", 253),
	} {
		if got := tenant.CanonicalHost(raw); got != want {
			t.Errorf("CanonicalHost(%q) = %q, want %q", raw, got, want)
		}
	}
	for _, raw := range []string{
		"", ".", ":", ":80", "a.test:80:90", "a.test:x", "a.test:-1", "a@b", "a/b", "a b", "a\x00b",
		"a.test\n", "bücher.test", "\u212aarl.test", "İ.test", "[::1]", "[::1]:80", "::1",
		"a.test,b.test", "a%2etest", "http://a.test", "\xff.test", strings.Repeat("a", 254),
	} {
		if got := tenant.CanonicalHost(raw); got != "" {
			t.Errorf("CanonicalHost(%q) = %q, want none", raw, got)
		}
	}
}

func FuzzCanonicalHost(f *testing.F) {
	for _, s := range []string{"A.Test.:8443", "[::1]:80", "a..", "..", "\u212a", "a:b:1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		got := tenant.CanonicalHost(raw)
		if got == "" {
			return
		}
		if len(got) > 253 || strings.Trim(got, "abcdefghijklmnopqrstuvwxyz0123456789-._") != "" {
			t.Fatalf("CanonicalHost(%q) = %q", raw, got)
		}
		// Only case, a port and a trailing dot may differ.
		rest, ok := strings.CutPrefix(strings.ToLower(raw), got)
		port := strings.TrimPrefix(rest, ".")
		if !ok || port != "" && strings.Trim(port, "0123456789") != ":" {
			t.Fatalf("CanonicalHost(%q) = %q", raw, got)
		}
		if again := tenant.CanonicalHost(got + ".:443"); again != got && len(got) < 253 {
			t.Fatalf("CanonicalHost(%q) = %q, and with a port %q", raw, got, again)
		}
	})
}

// A freeze shows only its own note, since that of a tenant may be outdated.
func TestClosed(t *testing.T) {
	const own = "Own note."
	for _, c := range []struct {
		mode   tenant.Signups
		freeze *tenant.Freeze
		note   string
		closed bool
	}{
		{tenant.SignupsOpen, nil, "", false},
		{tenant.SignupsClosed, nil, own, true},
		{tenant.SignupsOpen, &tenant.Freeze{}, "", true},
		{tenant.SignupsClosed, &tenant.Freeze{}, "", true},
		{tenant.SignupsClosed, &tenant.Freeze{Note: "All."}, "All.", true},
	} {
		tn := tenant.Tenant{Freeze: c.freeze}
		tn.Signups, tn.SignupsNote = c.mode, own
		if note, closed := tn.Closed(); note != c.note || closed != c.closed {
			t.Errorf("%+v: %q, %t", c, note, closed)
		}
	}
}

func TestNewDefaults(t *testing.T) {
	long := strings.Repeat("a", 63) + ".test"
	for host, want := range map[string]string{
		"phone.test":         "phone.test",
		"Phone.Test":         "phone.test",
		"phone.test.":        "phone.test",
		"bücher.test":        "xn--bcher-kva.test",
		"BÜCHER.test":        "xn--bcher-kva.test",
		"xn--bcher-kva.test": "xn--bcher-kva.test",
		"localhost":          "localhost",
		long:                 long,
	} {
		got, err := tenant.New(tenant.Tenant{Host: host})
		if err != nil || got.Host != want || got.Realm != want || got.PublicURL != "" {
			t.Errorf("host %q: got %+v, %v", host, got, err)
		}
	}
	for url, want := range map[string]string{
		"":                        "",
		"https://Phone.Test":      "https://phone.test",
		"https://phone.test/":     "https://phone.test",
		"https://phone.test:8443": "https://phone.test:8443",
		"http://localhost:8080":   "http://localhost:8080",
		"http://127.0.0.1:80":     "http://127.0.0.1:80",
		"http://[::1]:80":         "http://[::1]:80",
		"http://a.localhost":      "http://a.localhost",
	} {
		got, err := tenant.New(tenant.Tenant{Host: "phone.test", PublicURL: url})
		if err != nil || got.PublicURL != want {
			t.Errorf("public URL %q: got %q, %v", url, got.PublicURL, err)
		}
	}
	got, err := tenant.New(tenant.Tenant{Host: "phone.test", Realm: "My Phones (1)"})
	if err != nil || got.Realm != "My Phones (1)" || got.Name() != "phone.test" ||
		got.Sender() != "no-reply@phone.test" || got.Server() != "phone.test" ||
		got.Transport() != "TLS" || got.Challenge() != digest.MD5 {
		t.Errorf("got %+v, %v", got, err)
	}
}

// newWith returns a tenant with settings.
func newWith(s tenant.Settings) (tenant.Tenant, error) {
	return tenant.New(tenant.Tenant{Host: "phone.test", Settings: s})
}

func TestNewPhoneSettings(t *testing.T) {
	for _, server := range []string{
		"", "a.test", "a.test:5061", "A.test", "10.0.0.1:5060", "[::1]", "[2001:db8::1]:5061",
	} {
		got, err := newWith(tenant.Settings{SIPServer: server})
		if err != nil || got.SIPServer != server {
			t.Errorf("SIP server %q: got %q, %v", server, got.SIPServer, err)
		}
	}
	for _, c := range []struct{ transport, websocket, wantTransport, wantWebSocket string }{
		{"", "", "TLS", ""},
		{"tcp", "", "TCP", ""},
		{"wss", "", "WSS", "wss://sip.test:7443"},
		{"WSS", "wss://ws.test/sip", "WSS", "wss://ws.test/sip"},
		{"UDP", "ws://localhost:5066", "UDP", "ws://localhost:5066"},
	} {
		got, err := newWith(tenant.Settings{
			SIPServer: "sip.test:7443", SIPTransport: c.transport, SIPWebSocket: c.websocket,
		})
		if err != nil || got.Transport() != c.wantTransport || got.WebSocket() != c.wantWebSocket {
			t.Errorf("%+v: got %s, %q, %v", c, got.Transport(), got.WebSocket(), err)
		}
	}
	got, err := newWith(tenant.Settings{
		TURNURIs: []string{
			"TURN:turn.test", "turns:Turn.test:5349?transport=tcp",
			"turn:[2001:db8::1]:3478?transport=udp",
		},
		TURNSeconds: 60,
	})
	want := []string{
		"turn:turn.test", "turns:turn.test:5349?transport=tcp",
		"turn:[2001:db8::1]:3478?transport=udp",
	}
	if err != nil || !slices.Equal(got.TURNURIs, want) || got.TURNLife() != time.Minute {
		t.Errorf("got %q, %v, %v", got.TURNURIs, got.TURNLife(), err)
	}
	if got, err := newWith(tenant.Settings{}); err != nil || got.TURNLife() != tenant.DefaultTURNLife {
		t.Errorf("default life of a TURN credential: got %v, %v", got.TURNLife(), err)
	}
}

func TestNewErrors(t *testing.T) {
	long := strings.Repeat("a.", 127) + "test"
	addresses := []string{
		"x", "A <a@b.test>", "a@b.test,c@d.test", "a@b.test\r\nBcc: c@d.test", `"a b"@c.test`,
		"ü@b.test", "a@bü.test",
	}
	for _, c := range []struct {
		field  string
		set    func(*tenant.Tenant, string)
		values []string
	}{
		{"host", func(tn *tenant.Tenant, v string) { tn.Host = v }, []string{
			"", ".", ".test", "a..test", "a.test:80", "https://a.test", "a/b", "a b.test", "a_b.test",
			"-a.test", "a-.test", "[::1]", "a@b", strings.Repeat("a", 64) + ".test", long,
			"xn--a.test", "a\n.test", "\xff.test",
		}},
		{"realm", func(tn *tenant.Tenant, v string) { tn.Realm = v }, []string{
			"a:b", `a"b`, `a\b`, "a\r\nb", "a\x00", "büro", " a", "a ", strings.Repeat("a", 254),
			"\x7f",
		}},
		{"public-url", func(tn *tenant.Tenant, v string) { tn.PublicURL = v }, []string{
			"http://phone.test", "phone.test", "//phone.test", "ftp://phone.test", "https://",
			"https://phone.test/x", "https://phone.test?x=1", "https://phone.test#x",
			"https://u:p@phone.test", "https://a b", "https://phone.test:x", "javascript:alert(1)",
			"http://localhost.evil.test", "http://10.0.0.1", "https://[::1]evil",
			"https://phone.test\r\nX: y",
		}},
		{"origin", func(tn *tenant.Tenant, v string) { tn.Origins = []string{"https://ok.test", v} },
			[]string{"*", "null", "http://x.test", "https://x.test/path", "https://*.x.test"}},
		{"product", func(tn *tenant.Tenant, v string) { tn.Product = v }, []string{
			"a\r\nBcc: x@y.test", "a\x00", "a\x7f", "\xff", strings.Repeat("a", 201),
		}},
		{"mail-from", func(tn *tenant.Tenant, v string) { tn.MailFrom = v }, addresses},
		{"reply-to", func(tn *tenant.Tenant, v string) { tn.ReplyTo = v }, addresses},
		{"mail-footer", func(tn *tenant.Tenant, v string) { tn.MailFooter = v }, []string{
			"a\nb", "a\r\nBcc: c@d.test", "\x00", strings.Repeat("x", 201), "\xff",
		}},
		{"algorithm", func(tn *tenant.Tenant, v string) { tn.Algorithm = digest.Algorithm(v) },
			[]string{"md5", "SHA-512-256", "MD5-sess"}},
		{"sip-server", func(tn *tenant.Tenant, v string) { tn.SIPServer = v }, []string{
			"a\nb", "a b", "sip:a.test", "a.test:", "a.test:0", "a.test:05060", "a.test:65536",
			"a..test", ".", "::1", "[::1", "[::1]x", "[1.2.3.4]", "[fe80::1%eth0]", "a;lr", "a>b",
			"bücher.test", strings.Repeat("a", 64), long,
		}},
		{"sip-transport", func(tn *tenant.Tenant, v string) { tn.SIPTransport = v },
			[]string{"a\tb", "TLS/TCP", "SCTP"}},
		{"sip-websocket", func(tn *tenant.Tenant, v string) { tn.SIPWebSocket = v }, []string{
			"ws://a.test", "a.test", "https://a.test", "wss://", "wss://u:p@a.test", "wss://a.test/#x",
			"wss://a.test/\"x", "wss://a.test:x", "wss://a b", "ws://localhost.evil.test",
			"wss://a.test/" + strings.Repeat("a", 200),
		}},
		{"acrobits-cloud-id", func(tn *tenant.Tenant, v string) { tn.AcrobitsCloud = v }, []string{
			"*", "A B", "A@B", "A**", "Ä", strings.Repeat("A", 33),
		}},
		{"turn-uri", func(tn *tenant.Tenant, v string) { tn.TURNURIs = []string{"turn:ok.test", v} },
			[]string{
				"", "turn.test", "turn:", "turn://a.test", "stun:a.test", "turn:a.test:x",
				"turn:a.test?", "turn:a.test?transport=sctp", "turn:a.test?transport=udp&x=1",
				"turn:u@a.test", "turn:a b", "TURN:OK.test", "turn:a.test?x=\"y",
			}},
		{"turn-uri", func(tn *tenant.Tenant, v string) { tn.TURNURIs = strings.Fields(v) },
			[]string{strings.Repeat("turn:a.test ", 9)}},
		{"turn-life", func(tn *tenant.Tenant, v string) { tn.TURNSeconds, _ = strconv.Atoi(v) },
			[]string{"59", "86401", "-1"}},
		{"activation", func(tn *tenant.Tenant, v string) { tn.Activation = tenant.Activation(v) },
			[]string{"Confirm", "get", "link,confirm"}},
		{"signups-per-hour", func(tn *tenant.Tenant, v string) { tn.SignupsPerHour, _ = strconv.Atoi(v) },
			[]string{"-1"}},
	} {
		for _, value := range c.values {
			tn := tenant.Tenant{Host: "phone.test"}
			c.set(&tn, value)
			got, err := tenant.New(tn)
			f, ok := errors.AsType[*fault.Error](err)
			if !ok || f.Kind != fault.Invalid || f.Field != c.field {
				t.Errorf("%s %q: got %+v, %v", c.field, value, got, err)
			}
		}
	}
}

func TestDefaultURL(t *testing.T) {
	for host, want := range map[string]string{
		"phone.test":          "https://phone.test",
		"localhost":           "http://localhost:8080",
		"a.localhost":         "http://a.localhost:8080",
		"127.0.0.1":           "http://127.0.0.1:8080",
		"localhost.evil.test": "https://localhost.evil.test",
		"evillocalhost":       "https://evillocalhost",
		"10.0.0.1":            "https://10.0.0.1",
	} {
		if got := tenant.DefaultURL(host, "8080", false); got != want {
			t.Errorf("DefaultURL(%q) = %s, want %s", host, got, want)
		}
		encrypted := strings.Replace(want, "http://", "https://", 1)
		if got := tenant.DefaultURL(host, "8080", true); got != encrypted {
			t.Errorf("with TLS, DefaultURL(%q) = %s, want %s", host, got, encrypted)
		}
	}
}

// faultyStore is a store that can fail and counts calls of Tenants.
type faultyStore struct {
	tenant.Store
	fails bool
	reads int
}

var errInjected = errors.New("injected")

func (s *faultyStore) TenantVersion(ctx context.Context) (int64, error) {
	if s.fails {
		return 0, errInjected
	}
	return s.Store.TenantVersion(ctx)
}

func (s *faultyStore) Tenants(ctx context.Context) ([]tenant.Tenant, int64, error) {
	s.reads++
	return s.Store.Tenants(ctx)
}

func TestTable(t *testing.T) {
	ctx := t.Context()
	db, err := teststore.Open(ctx, filepath.Join(t.TempDir(), "dialtone.db"), secret.NewRing(noon))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	store := &faultyStore{Store: db}
	table := tenant.NewTable(store, func(host string) string { return tenant.DefaultURL(host, "8080", false) })
	refresh := func() {
		t.Helper()
		if err := table.Refresh(ctx); err != nil {
			t.Fatal(err)
		}
	}
	add := func(host, url string) tenant.Tenant {
		t.Helper()
		tn, err := db.AddTenant(ctx, tenant.Tenant{Host: host, Realm: host, PublicURL: url, Created: noon})
		if err != nil {
			t.Fatal(err)
		}
		return tn
	}
	if _, ok := table.Lookup("a.test"); ok || len(table.All()) != 0 {
		t.Error("a new table has a tenant")
	}
	refresh()
	a := add("a.test", "")
	if _, ok := table.Lookup("a.test"); ok {
		t.Error("a tenant is found before Refresh")
	}
	refresh()
	other := tenant.NewTable(store, func(string) string { return "" }) // as after a restart
	if err := other.Refresh(ctx); err != nil || len(other.All()) != 1 {
		t.Errorf("a new table of a store with one tenant has %d: %v", len(other.All()), err)
	}
	b := add("b.test", "https://www.b.test:444")
	refresh()
	for _, host := range []string{"a.test", "A.TEST", "a.test.", "a.test:8443", "A.Test.:1"} {
		if got, ok := table.Lookup(host); !ok || got.ID != a.ID || got.PublicURL != "https://a.test" {
			t.Errorf("host %q: got %+v", host, got)
		}
	}
	if got, ok := table.ByID(b.ID); !ok || got.Host != "b.test" || got.PublicURL != "https://www.b.test:444" {
		t.Errorf("got %+v", got)
	}
	for _, realm := range []string{"b.test", "B.Test"} {
		if got, ok := table.ByRealm(realm); !ok || got.ID != b.ID {
			t.Errorf("realm %q: got %+v", realm, got)
		}
	}
	// In Unicode, the lower case of the Kelvin sign is k, and the upper case of the long s is
	// S. A table must not treat them as equal.
	add("sick.test", "")
	refresh()
	for _, realm := range []string{
		"", "b.test.", "b", "b.test ", "sic\u212a.test", "\u017fick.test", "b.test\xff", "B.TEST\xff",
	} {
		if got, ok := table.ByRealm(realm); ok {
			t.Errorf("realm %q: got %+v", realm, got)
		}
	}
	if err := db.RemoveTenant(ctx, "sick.test", false, noon); err != nil {
		t.Fatal(err)
	}
	refresh()
	if _, ok := table.ByRealm("sick.test"); ok {
		t.Error("the realm of a removed tenant is found")
	}
	if _, ok := table.ByID(99); ok || len(table.All()) != 2 {
		t.Errorf("there are %d tenants", len(table.All()))
	}
	for _, host := range []string{
		"", ".", "a.test..", "a.test.evil.test", "evil-a.test", "x.a.test", "test", "a.test@b.test",
		"a.test/", "127.0.0.1",
	} {
		if got, ok := table.Lookup(host); ok {
			t.Errorf("host %q: got %+v", host, got)
		}
	}
	reads := store.reads
	for range 5 {
		refresh()
	}
	if store.reads != reads {
		t.Error("the tenants were read although none had changed")
	}
	if err := db.RemoveTenant(ctx, "a.test", false, noon); err != nil {
		t.Fatal(err)
	}
	store.fails = true
	if err := table.Refresh(ctx); !errors.Is(err, errInjected) {
		t.Errorf("got %v", err)
	}
	if _, ok := table.Lookup("a.test"); !ok {
		t.Error("a failed Refresh emptied the table")
	}
	store.fails = false
	refresh()
	if _, ok := table.Lookup("a.test"); ok {
		t.Error("a removed tenant is found")
	}
}
