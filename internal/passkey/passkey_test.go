package passkey_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"dialtone/internal/passkey"
	"dialtone/internal/test/passkeytest"
)

var (
	party     = passkey.Party{ID: "a.test", Origin: "https://a.test", Name: "A"}
	page      = passkeytest.Page{Origin: "https://a.test"}
	challenge = []byte("0123456789abcdef")
	user      = passkey.User{Handle: []byte("the UID of alex."), Name: "alex", DisplayName: "Alex"}
)

// answer wraps options in JSON like the endpoints do.
func answer(options []byte, err error) string {
	if err != nil {
		panic(err)
	}
	return `{"publicKey":` + string(options) + `}`
}

func create(t testing.TB, k *passkeytest.Key, p passkeytest.Page) (passkey.Credential, error) {
	t.Helper()
	c, err := passkey.ParseCreation(k.Create(t, answer(party.CreationOptions(challenge, user, nil)), p))
	if err != nil {
		return passkey.Credential{}, err
	}
	return c.Verify(party)
}

func get(t testing.TB, k *passkeytest.Key, p passkeytest.Page, c passkey.Credential) (passkey.Credential, error) {
	t.Helper()
	a, err := passkey.ParseAssertion(k.Get(t, answer(party.RequestOptions(challenge)), p))
	if err != nil {
		return c, err
	}
	return a.Verify(party, c)
}

func made(t testing.TB, k *passkeytest.Key) passkey.Credential {
	t.Helper()
	c, err := create(t, k, page)
	if err != nil {
		t.Fatal(err)
	}
	// The credential passes through the encoding of the store.
	c, err = passkey.Unmarshal(c.ID, c.Marshal())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestAlgorithms(t *testing.T) {
	for name, k := range map[string]*passkeytest.Key{
		"ES256": passkeytest.New(t), "EdDSA": passkeytest.NewEd25519(t), "RS256": passkeytest.NewRSA(t, 2048),
	} {
		t.Run(name, func(t *testing.T) {
			c := made(t, k)
			after, err := get(t, k, page, c)
			if err != nil || !after.Equal(c) {
				t.Errorf("got %+v, %v", after, err)
			}
			other := passkeytest.New(t)
			other.ID, other.Handle = k.ID, k.Handle
			if _, err := get(t, other, page, c); !errors.Is(err, passkey.ErrResponse) {
				t.Errorf("the signature of another key: %v", err)
			}
		})
	}
}

// TestKeys checks that only keys with the requested algorithms are accepted.
func TestKeys(t *testing.T) {
	if _, err := create(t, passkeytest.NewRSA(t, 1024), page); !errors.Is(err, passkey.ErrResponse) {
		t.Errorf("a short RSA key: %v", err)
	}
	for _, tt := range []struct {
		name  string
		label int
		value any
	}{
		{"another algorithm", 3, -35},
		{"the algorithm of another kind of key", 3, -257},
		{"another curve", -1, 2},
		{"a point that is not on the curve", -3, make([]byte, 32)},
		{"a short coordinate", -2, make([]byte, 31)},
		{"another kind of key", 1, 4},
	} {
		t.Run(tt.name, func(t *testing.T) {
			k := passkeytest.New(t)
			k.SetCOSE(tt.label, tt.value)
			if _, err := create(t, k, page); !errors.Is(err, passkey.ErrResponse) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestBinding checks that a response is valid only for one party, origin and ceremony, and with a verified user.
func TestBinding(t *testing.T) {
	k := passkeytest.New(t)
	c := made(t, k)
	for _, tt := range []struct {
		name  string
		page  passkeytest.Page
		flags byte
	}{
		{name: "another RP ID", page: passkeytest.Page{Origin: page.Origin, RP: "b.test"}},
		{name: "another origin", page: passkeytest.Page{Origin: "https://b.test"}},
		{name: "a sibling host", page: passkeytest.Page{Origin: "https://x.a.test"}},
		{name: "another port", page: passkeytest.Page{Origin: "https://a.test:8443"}},
		{name: "no TLS", page: passkeytest.Page{Origin: "http://a.test"}},
		{name: "an origin with a path", page: passkeytest.Page{Origin: "https://a.test/"}},
		{name: "an origin in capitals", page: passkeytest.Page{Origin: "https://A.test"}},
		{name: "a frame of another site", page: passkeytest.Page{Origin: page.Origin, CrossOrigin: true}},
		{name: "another ceremony", page: passkeytest.Page{Origin: page.Origin, Type: "payment.get"}},
		{name: "no user verification", page: page, flags: passkeytest.Present},
		{name: "no user presence", page: page, flags: passkeytest.Verified},
		{
			name: "backed up but not eligible", page: page,
			flags: passkeytest.Present | passkeytest.Verified | passkeytest.BackedUp,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			other := *k
			if tt.flags != 0 {
				other.Flags = tt.flags
			}
			if _, err := create(t, &other, tt.page); !errors.Is(err, passkey.ErrResponse) {
				t.Errorf("creating: %v", err)
			}
			if _, err := get(t, &other, tt.page, c); !errors.Is(err, passkey.ErrResponse) {
				t.Errorf("using: %v", err)
			}
		})
	}
	t.Run("a response for creating one", func(t *testing.T) {
		response := k.Create(t, answer(party.CreationOptions(challenge, user, nil)), page)
		if _, err := passkey.ParseAssertion(response); !errors.Is(err, passkey.ErrResponse) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("another credential", func(t *testing.T) {
		other := c
		other.ID = []byte("another")
		if _, err := get(t, k, page, other); !errors.Is(err, passkey.ErrResponse) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a changed response", func(t *testing.T) {
		response := k.Get(t, answer(party.RequestOptions(challenge)), page)
		for _, change := range [][2]string{
			{`"signature":"ME`, `"signature":"MF`}, {`"rawId":"`, `"rawId":"AA`}, {`"type":"public-key"`, `"type":"x"`},
			{`"userHandle":`, `"other":`}, {`{"id"`, `[{"id"`}, {`"public-key"}`, `"public-key"}{}`},
		} {
			changed := strings.Replace(response, change[0], change[1], 1)
			if changed == response {
				t.Fatalf("no %s in %s", change[0], response)
			}
			a, err := passkey.ParseAssertion(changed)
			if err == nil {
				_, err = a.Verify(party, c)
			}
			if !errors.Is(err, passkey.ErrResponse) {
				t.Errorf("with %s: %v", change[1], err)
			}
		}
	})
}

func TestCounter(t *testing.T) {
	for _, tt := range []struct {
		name        string
		before, now uint32
		ok          bool
	}{
		{"no counter", 0, 0, true}, {"the first count", 0, 1, true}, {"increased", 7, 8, true},
		{"increased a lot", 7, 1 << 31, true}, {"the same", 7, 7, false}, {"decreased", 7, 6, false},
		{"reset", 7, 0, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			k := passkeytest.New(t)
			k.Counter = tt.before
			c := made(t, k)
			k.Counter = tt.now
			after, err := get(t, k, page, c)
			if tt.ok && (err != nil || after.Counter != tt.now) || !tt.ok && !errors.Is(err, passkey.ErrCloned) {
				t.Errorf("got %d, %v", after.Counter, err)
			}
		})
	}
}

// TestBackupFlags checks that a passkey may become synchronized, and stop being synchronized.
func TestBackupFlags(t *testing.T) {
	const verified = passkeytest.Present | passkeytest.Verified
	k := passkeytest.New(t)
	c := made(t, k)
	for _, flags := range []byte{
		verified | passkeytest.BackupEligible, verified | passkeytest.BackupEligible | passkeytest.BackedUp, verified,
	} {
		k.Flags = flags
		after, err := get(t, k, page, c)
		if err != nil || after.BackupEligible != (flags&passkeytest.BackupEligible != 0) ||
			after.BackedUp != (flags&passkeytest.BackedUp != 0) {
			t.Errorf("flags %b: %+v, %v", flags, after, err)
		}
		c = after
	}
}

func TestOptions(t *testing.T) {
	var o struct {
		PublicKey struct {
			Attestation            string
			UserVerification       string
			RPID                   string `json:"rpId"`
			AuthenticatorSelection struct{ ResidentKey, UserVerification string }
			ExcludeCredentials     []struct{ ID, Type string }
			AllowCredentials       []any
			PubKeyCredParams       []struct{ Alg int }
		}
	}
	text := answer(party.CreationOptions(challenge, user, []passkey.Credential{{ID: []byte("1")}}))
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		t.Fatal(err)
	}
	p := o.PublicKey
	if p.AuthenticatorSelection.ResidentKey != "required" || p.AuthenticatorSelection.UserVerification != "required" ||
		p.Attestation != "none" || len(p.ExcludeCredentials) != 1 || p.ExcludeCredentials[0].ID != "MQ" ||
		len(p.PubKeyCredParams) != 3 {
		t.Errorf("got %s", text)
	}
	text = answer(party.RequestOptions(challenge))
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		t.Fatal(err)
	}
	if p = o.PublicKey; p.UserVerification != "required" || p.RPID != "a.test" || p.AllowCredentials != nil {
		t.Errorf("got %s", text)
	}
}

// FuzzResponse reads responses that an attacker may send.
func FuzzResponse(f *testing.F) {
	for _, k := range []*passkeytest.Key{
		passkeytest.New(f), passkeytest.NewEd25519(f), passkeytest.NewRSA(f, 2048),
	} {
		f.Add(k.Create(f, answer(party.CreationOptions(challenge, user, nil)), page))
		f.Add(k.Get(f, answer(party.RequestOptions(challenge)), page))
	}
	other := passkeytest.New(f)
	c := made(f, other)
	f.Fuzz(func(t *testing.T, text string) {
		if r, err := passkey.ParseCreation(text); err == nil {
			made, err := r.Verify(party)
			if err == nil && (len(made.ID) == 0 || len(made.ID) > passkey.MaxID || len(made.Marshal()) > 4096) {
				t.Errorf("got %+v", made)
			}
		}
		if r, err := passkey.ParseAssertion(text); err == nil {
			c.ID = r.ID()
			if _, err := r.Verify(party, c); err == nil {
				t.Errorf("the signature of a new key is accepted: %s", text)
			}
		}
	})
}
