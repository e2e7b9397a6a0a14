package account_test

import (
	"strings"
	"testing"

	"dialtone/internal/account"
	"dialtone/internal/tenant"
)

// TestParty checks which tenants offer passkeys, and with which RP ID and origin.
func TestParty(t *testing.T) {
	for _, tt := range []struct{ host, url, origin string }{
		{"a.test", "https://a.test", "https://a.test"},
		{"a.test", "https://a.test:443", "https://a.test"},
		{"a.test", "https://a.test:8443", "https://a.test:8443"},
		{"a.test", "https://www.a.test", "https://www.a.test"},
		{"localhost", "http://localhost:8080", "http://localhost:8080"},
		{"localhost", "http://localhost:80", "http://localhost"},
		{"a.test", "http://a.test", ""},
		{"a.test", "https://b.test", ""},
		{"a.test", "https://xa.test", ""},
		{"127.0.0.1", "http://127.0.0.1:8080", ""},
		{"192.0.2.1", "https://192.0.2.1", ""},
	} {
		p, ok := account.Party(&tenant.Tenant{Host: tt.host, PublicURL: tt.url})
		if ok != (tt.origin != "") || ok && (p.Origin != tt.origin || p.ID != tt.host) {
			t.Errorf("%s at %s: %+v, %v", tt.host, tt.url, p, ok)
		}
	}
}

func TestPasskeyName(t *testing.T) {
	long := strings.Repeat("ä", 64)
	for raw, want := range map[string]string{" My  key ": "My key", long: long} {
		if got, err := account.CleanPasskeyName(raw); got != want || err != nil {
			t.Errorf("%q: %q, %v", raw, got, err)
		}
	}
	for _, raw := range []string{"", " ", long + "x", "a\nb", "\u202ea", "!"} {
		if got, err := account.CleanPasskeyName(raw); err == nil {
			t.Errorf("%q: %q", raw, got)
		}
	}
}
