package main

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"encoding/json"
	"strconv"
	"strings"
	"testing"
	"time"

	"dialtone/internal/test/phonetest"
)

// credential is the response of GET /turn.
type credential struct {
	Username, Password string
	TTL                int
	URIs               []string
}

// turnOf requests a credential for a signed-in user.
func turnOf(t *testing.T, v *visitor) (c credential) {
	t.Helper()
	resp, body, err := v.send("GET", "/turn", nil, "")
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("GET /turn: %v, %v\n%s", resp, err, body)
	}
	if err := json.Unmarshal(body, &c); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	return c
}

// A real coturn with the configuration from deploy/coturn accepts the credentials of Dialtone, and
// no others.
func TestCoturnAcceptsCredentials(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	p := start(t, launch{data: data})
	v := newVisitor(p.address, "")
	if a, err := v.signup("alex"); err != nil || !a.OK {
		t.Fatal(a, err)
	}
	command(t, "account", "enable", "--activate", "alex", "--tenant", "localhost", "--data", data)
	if a, err := v.signIn("alex", password("alex")); err != nil || !a.OK {
		t.Fatal(a, err)
	}
	command(t, "tenant", "set", "localhost", "--turn-uri", "turn:127.0.0.1:3478?transport=udp",
		"--data", data)
	first := secrets(t, data, "turn", "secret")
	if len(first) != 1 {
		t.Fatalf("there are %d secrets", len(first))
	}
	waitUntil(t, func() bool {
		resp, _, err := v.send("GET", "/turn", nil, "")
		return err == nil && resp.StatusCode == 200
	})
	both := secrets(t, data, "turn", "secret", "--rotate")
	if len(both) != 2 || both[1] != first[0] {
		t.Fatalf("after a rotation there are %d secrets", len(both))
	}
	c := newCoturn(t, both...)
	minted := turnOf(t, v)
	if minted.TTL != 3600 {
		t.Errorf("the credential is valid for %d s", minted.TTL)
	}
	sign := func(secret, name string) string {
		mac := hmac.New(sha1.New, []byte(secret))
		mac.Write([]byte(name))
		return base64.StdEncoding.EncodeToString(mac.Sum(nil))
	}
	nameAt := func(d time.Duration, user string) string {
		return strconv.FormatInt(time.Now().Add(d).Unix(), 10) + ":" + user
	}
	later, expired := nameAt(24*time.Hour, "alex@localhost"), nameAt(-2*time.Second, "alex@localhost")
	for _, row := range []struct {
		name, user, password string
		ok                   bool
	}{
		{"credential of GET /turn", minted.Username, minted.Password, true},
		{"signed with the new secret", later, sign(both[0], later), true},
		{"not an expired one", expired, sign(both[1], expired), false},
		{"not with a changed time", later, minted.Password, false},
		{"not with a changed name",
			strings.Replace(minted.Username, "alex", "boss", 1), minted.Password, false},
		{"not with another secret", later, sign(strings.Repeat("0", 64), later), false},
		{"not the password of the account", "alex", password("alex"), false},
	} {
		t.Run(row.name, func(t *testing.T) {
			if got := c.Relays(t, row.user, row.password); got != row.ok {
				t.Errorf("coturn accepts it: %v\n%s", got, c.Logs())
			}
		})
	}
	p.mustStop(t)
	for _, secret := range append(both, minted.Password) {
		if strings.Contains(p.stderr.String(), secret) {
			t.Error("the log contains a secret")
		}
	}
}

// secrets returns the lines that a command prints.
func secrets(t *testing.T, data string, args ...string) []string {
	t.Helper()
	return strings.Fields(string(mustOutput(t, append(args, "--data", data)...)))
}

// newCoturn runs coturn with the file in deploy/coturn and the secrets.
func newCoturn(t *testing.T, secrets ...string) *phonetest.Server {
	t.Helper()
	return phonetest.Coturn(t, "rest.conf", "use-auth-secret\n",
		"use-auth-secret\nstatic-auth-secret="+strings.Join(secrets, "\nstatic-auth-secret=")+"\n")
}
