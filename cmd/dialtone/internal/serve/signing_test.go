package serve

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"dialtone/cmd/dialtone/internal/keys"
	"dialtone/internal/captcha"
	"dialtone/internal/datadir"
	"dialtone/internal/redact"
	"dialtone/internal/secret"
	"dialtone/internal/secret/keyfile"
	"dialtone/internal/tenant"
	"dialtone/internal/turn"
)

// A server signs with a new key after all others have read it, and accepts its signatures at once.
func TestServerFollowsSigningKeys(t *testing.T) {
	noon := time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)
	for name, fromEnv := range map[string]bool{"a key file": false, "the environment": true} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "sign.key")
			old := secret.NewRing(noon)
			both := keys.SignRotation(fromEnv, false).Apply(old, noon)
			if err := keyfile.Create(path, old); err != nil {
				t.Fatal(err)
			}
			source := keyfile.Source{Path: path}
			delay := secret.SigningDelay
			if fromEnv {
				source.Text = redact.New(both.Text())
				delay += secret.RolloutTime
			}
			now := noon
			clock := func() time.Time { return now }
			s := newSigning(source, clock)
			refresh := func() {
				t.Helper()
				if err := s.refresh(); err != nil {
					t.Fatal(err)
				}
			}
			refresh()
			if !fromEnv {
				if err := keyfile.Replace(path, both); err != nil {
					t.Fatal(err)
				}
			}
			otherServer := captcha.NewIssuer(old, clock) // which has not read the new key yet
			for _, c := range []struct {
				age      time.Duration
				accepted bool
			}{{0, true}, {delay - time.Second, true}, {delay, false}} {
				now = noon.Add(c.age)
				refresh()
				if got := otherServer.Check(1, s.issuer().Ask(1).Token, "").Ours; got != c.accepted {
					t.Errorf("after %v, a server with the old key only accepts a signature: %v, want %v",
						c.age, got, c.accepted)
				}
				for name, r := range map[string]*secret.Ring{
					"the old key": old, "the old key, of two": both, "the new key": both.Signing(noon.Add(delay)),
				} {
					if !s.issuer().Check(1, captcha.NewIssuer(r, clock).Ask(1).Token, "").Ours {
						t.Errorf("after %v, a signature of %s is refused", c.age, name)
					}
				}
			}
		})
	}
}

// A server signs with the first key at once. It signs with a new key only after the time that
// operators have to give it to the TURN servers.
func TestServerFollowsTURNKey(t *testing.T) {
	now := time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)
	clock := func() time.Time { return now }
	sources := datadir.NewKeys(t.TempDir(), datadir.KeyTexts{})
	s := newTURN(sources.TURN, clock)
	tn := &tenant.Tenant{Host: "phone.test"}
	signer := func() *turn.Issuer {
		t.Helper()
		if err := s.Refresh(); err != nil {
			t.Fatal(err)
		}
		return s.Value()
	}
	signedBy := func(r *secret.Ring) bool {
		t.Helper()
		return signer().Issue(tn, "alex").Password == turn.NewIssuer(r, clock).Issue(tn,
			"alex").Password
	}
	if signer() != nil {
		t.Fatal("there is a signer without a key")
	}
	if _, err := os.Stat(sources.TURN.Path); err == nil {
		t.Fatal("the server created a key")
	}
	old, err := sources.CreateTURN(now)
	if err != nil {
		t.Fatal(err)
	}
	if !signedBy(old) {
		t.Error("the first key does not sign at once")
	}
	both := keys.TURNRotation(false).Apply(old, now)
	if err := keyfile.Replace(sources.TURN.Path, both); err != nil {
		t.Fatal(err)
	}
	now = now.Add(secret.RolloutTime)
	if !signedBy(old) {
		t.Error("the new key signs before the TURN servers know it")
	}
	now = now.Add(secret.SigningDelay)
	if signedBy(old) || !signedBy(both) {
		t.Error("the new key does not sign when its time has come")
	}
	if err := os.Remove(sources.TURN.Path); err != nil || signer() != nil {
		t.Errorf("a removed key still signs: %v", err)
	}
}
