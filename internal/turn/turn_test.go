package turn_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"dialtone/internal/secret"
	"dialtone/internal/tenant"
	"dialtone/internal/turn"
)

var noon = time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)

func ring(t *testing.T) *secret.Ring {
	t.Helper()
	r, err := secret.ParseRing("v1 1772366400 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n" +
		"v1 1772280000 1f1e1d1c1b1a191817161514131211100f0e0d0c0b0a09080706050403020100\n")
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// Credentials must be valid for the secrets that TURN servers already have. The expected values
// were computed with Python's hmac and an HKDF that was written according to RFC 5869.
func TestCredential(t *testing.T) {
	secrets := turn.Secrets(ring(t))
	if len(secrets) != 2 || secrets[0].Text() != wantSecret || secrets[1].Text() == wantSecret {
		t.Fatalf("there are %d secrets, the first is %s", len(secrets), secrets[0].Text())
	}
	tn := &tenant.Tenant{Host: "phone.test",
		Settings: tenant.Settings{TURNURIs: []string{"turn:turn.test"}, TURNSeconds: 600}}
	c := turn.NewIssuer(ring(t), func() time.Time { return noon }).Issue(tn, "alex")
	if c.Username != "1772367000:alex@phone.test" || c.Password.Reveal() != wantPassword ||
		c.Life != 10*time.Minute || !slices.Equal(c.URIs, tn.TURNURIs) {
		t.Errorf("issued %q, %q, %v, %q", c.Username, c.Password.Reveal(), c.Life, c.URIs)
	}
}

const (
	wantSecret   = "5b3159a46cf61105126aca27adfb3a3cde819851d6774dcb5d26ab9d0cdbf4f7"
	wantPassword = "z8YcEHApgW+EbNxxEr7OpYLL7L4="
)

func TestSecretsDoNotPrint(t *testing.T) {
	s := turn.Secrets(ring(t))[0]
	c := turn.NewIssuer(ring(t), time.Now).Issue(&tenant.Tenant{Host: "phone.test"}, "alex")
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "secret", s, "credential", c)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%q", "%d"} {
		fmt.Fprintf(&log, verb+verb, s, c)
	}
	for _, v := range []any{s, c} {
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		log.Write(text)
	}
	if text := log.String(); strings.Contains(text, s.Text()) ||
		strings.Contains(text, c.Password.Reveal()) || !strings.Contains(text, "alex") {
		t.Errorf("a credential or its secret prints as %s", text)
	}
}
