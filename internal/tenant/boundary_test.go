package tenant_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"dialtone/internal/tenant"
)

func TestCanonicalHostPort(t *testing.T) {
	for _, port := range []string{"", "0", "9", "1029", "65535"} {
		if got := tenant.CanonicalHost("a.test:" + port); got != "a.test" {
			t.Errorf("with the port %q: got %q", port, got)
		}
	}
	for _, port := range []string{"/", ":", "8/", "8;"} { // the neighbours of the digits
		if got := tenant.CanonicalHost("a.test:" + port); got != "" {
			t.Errorf("with the port %q: got %q", port, got)
		}
	}
}

// TestNewLimits checks that values at the limits are valid and values beyond them are not.
func TestNewLimits(t *testing.T) {
	path := "wss://a.test/"
	for name, c := range map[string]struct {
		set    func(tn *tenant.Tenant, n int)
		length int // the longest that is valid
	}{
		"realm":       {func(tn *tenant.Tenant, n int) { tn.Realm = strings.Repeat("a", n) }, 253},
		"product":     {func(tn *tenant.Tenant, n int) { tn.Product = strings.Repeat("a", n) }, 200},
		"mail footer": {func(tn *tenant.Tenant, n int) { tn.MailFooter = strings.Repeat("a", n) }, 200},
		"Cloud ID":    {func(tn *tenant.Tenant, n int) { tn.AcrobitsCloud = strings.Repeat("A", n) }, 32},
		"Cloud ID of the test version": {func(tn *tenant.Tenant, n int) {
			tn.AcrobitsCloud = strings.Repeat("A", n) + "*"
		}, 32},
		"SIP server": {func(tn *tenant.Tenant, n int) {
			tn.SIPServer = strings.Repeat("a.", 120) + strings.Repeat("b", n-240)
		}, 253},
		"label of the SIP server": {func(tn *tenant.Tenant, n int) {
			tn.SIPServer = strings.Repeat("a", n) + ".test"
		}, 63},
		"port of the SIP server": {func(tn *tenant.Tenant, n int) { tn.SIPServer = fmt.Sprint("a.test:", n) },
			65535},
		"WebSocket": {func(tn *tenant.Tenant, n int) {
			tn.SIPWebSocket = path + strings.Repeat("a", n-len(path))
		}, 200},
		"number of TURN servers": {func(tn *tenant.Tenant, n int) {
			for i := range n {
				tn.TURNURIs = append(tn.TURNURIs, fmt.Sprintf("turn:%d.test", i))
			}
		}, 8},
		"life of a TURN credential": {func(tn *tenant.Tenant, n int) { tn.TURNSeconds = n }, 86400},
	} {
		for excess, want := range []bool{true, false} {
			tn := tenant.Tenant{Host: "phone.test"}
			c.set(&tn, c.length+excess)
			if _, err := tenant.New(tn); (err == nil) != want {
				t.Errorf("%s of %d: %v", name, c.length+excess, err)
			}
		}
	}
	for seconds, want := range map[int]bool{1: false, 59: false, 60: true} {
		if _, err := newWith(tenant.Settings{TURNSeconds: seconds}); (err == nil) != want {
			t.Errorf("life of a TURN credential of %d: %v", seconds, err)
		}
	}
}

// TestNewCharacters checks the first and the last of the characters that a value can contain.
func TestNewCharacters(t *testing.T) {
	for name, tn := range map[string]tenant.Tenant{
		"realm with a space and a tilde": {Realm: "a ~!b"},
		"realm with a semicolon":         {Realm: "x; y"},
		"product with a space":           {Settings: tenant.Settings{Product: "My ~ Phones"}},
		"sender with a tilde":            {Settings: tenant.Settings{MailFrom: "a~b@c.test"}},
		"reply address with a tilde":     {Settings: tenant.Settings{ReplyTo: "a~b@c.test"}},
		"WebSocket with a tilde":         {Settings: tenant.Settings{SIPWebSocket: "wss://a.test/~!x"}},
		"one signup per hour":            {Settings: tenant.Settings{SignupsPerHour: 1}},
	} {
		tn.Host = "phone.test"
		if _, err := tenant.New(tn); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, s := range map[string]tenant.Settings{
		"space":  {SIPWebSocket: "wss://a.test/a b"},
		"DEL":    {SIPWebSocket: "wss://a.test/a\x7fb"},
		"letter": {SIPWebSocket: "wss://a.test/ä"},
	} {
		if _, err := newWith(s); err == nil {
			t.Errorf("WebSocket with a %s is valid", name)
		}
	}
}

func TestHasDomain(t *testing.T) {
	tn := tenant.Tenant{Host: "az.test", Realm: "Az@[`{ Phones"}
	for domain, want := range map[string]bool{
		"az.test": true, "Az.test": true, "aZ.test": true, "AZ.TEST": true,
		"az@[`{ phones": true, "aZ@[`{ phones": true, "Az@[`{ Phones": true,
		"": false, "az": false, "az.test.": false, "b.test": false, "\u017fz.test": false,
		"az`[`{ phones": false, "az@{`{ phones": false,
	} {
		if got := tn.HasDomain(domain); got != want {
			t.Errorf("%q: %v, want %v", domain, got, want)
		}
	}
}

func TestConfirms(t *testing.T) {
	for activation, want := range map[tenant.Activation]bool{
		"": false, tenant.ActivationLink: false, tenant.ActivationConfirm: true,
	} {
		tn := tenant.Tenant{Settings: tenant.Settings{Activation: activation}}
		if got := tn.Confirms(); got != want {
			t.Errorf("activation %q requires the password: %v, want %v", activation, got, want)
		}
	}
}

func TestSecure(t *testing.T) {
	for url, want := range map[string]bool{"https://a.test": true, "http://localhost": false, "": false} {
		if got := (tenant.Tenant{PublicURL: url}).Secure(); got != want {
			t.Errorf("%q is over TLS: %v, want %v", url, got, want)
		}
	}
}

func TestTURNLife(t *testing.T) {
	if got := (tenant.Tenant{Settings: tenant.Settings{TURNSeconds: 90}}).TURNLife(); got != 90*time.Second {
		t.Errorf("the life is %v, want 1m30s", got)
	}
}
