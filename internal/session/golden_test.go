package session

import (
	"context"
	"fmt"
	"testing"
	"time"

	"dialtone/internal/secret"
	"dialtone/internal/tenant"
)

// spending is a Store that keeps which values were spent.
type spending struct {
	Store
	spent []string
}

func (s *spending) Spend(
	_ context.Context, tenant int64, id [16]byte, expires time.Time,
) (bool, error) {
	s.spent = append(s.spent, fmt.Sprintf("%d %x %d", tenant, id, expires.UnixMilli()))
	return true, nil
}

// Sessions, known devices and challenges of an older version of the program survive an upgrade.
// A device token that was issued for a name instead of an account does not, since a former
// owner of the name may have it.
func TestGoldenTokens(t *testing.T) {
	const (
		session = "AdIyTYZAmXq2YwqS51w-vhwBAgMEBQYHCAkKCwwNDg8QAAAAAAAAACoAAAAAaVc1pad_xSAn35yqUyUpS2" +
			"HidX5bDi4y9Igc4KQwIL_L_XB2"
		named   = "m4BswdkGjbCnyIL_sL-LL5g6iypeGAgeaLLNZAGUyQkKLlmOmBgXAcrTQEwyBRc5"
		account = "AU4yfoeRVWQLwfWpg9hRQt4BAgMAAAAAAAAAAAAAAAAAAAAAAAAAAAB0ehm9TjoTjUtr_6ZzpYnWiftw" +
			"titjcZcJwTdrIhe4og"
		nonce = "W1LZoMaAhRRiDTUVmgsf3AAAAZt8qY8uwE2muFph85dFGEf7eZIsEkx6IBpv76E3HR8eN5WZKb0"
	)
	ring, err := secret.ParseRing("v1 1700000000 " +
		"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f")
	if err != nil {
		t.Fatal(err)
	}
	issued := time.Date(2026, time.January, 2, 3, 4, 5, 678e6, time.UTC)
	now := issued.Add(30 * time.Second)
	store := &spending{}
	x := &tenant.Tenant{ID: 5<<32 | 7, Realm: "a.test"}
	a := NewAuthenticator(Deps{
		Store: store, Now: func() time.Time { return now }, Nodes: true,
		Signatures: func() *Signatures { return NewSignatures(ring) },
	})

	k, ok := a.read(x, session)
	if !ok || k.Account != ([16]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}) ||
		k.Epoch != 42 || fmt.Sprintf("%x", k.ID) != "d2324d8640997ab6630a92e75c3ebe1c" ||
		!k.Issued.Equal(issued.Truncate(time.Second)) {
		t.Errorf("the session says %+v, %v", k, ok)
	}
	owner, err := a.ownerToken(t.Context(), x, "alex", Attempt{Device: named})
	if err != nil || owner != "" {
		t.Errorf("the device of a name is known: %v", err)
	}
	if k, ok := a.deps.Signatures().device.Read(x.ID, account); !ok || k.Account != ([16]byte{1, 2, 3}) {
		t.Errorf("the device of an account says %+v, %v", k, ok)
	}
	if fresh, err := a.nonces.spend(t.Context(), x, nonce); !fresh || err != nil {
		t.Errorf("the nonce is not accepted: %v", err)
	}
	want := fmt.Sprintf("%d 5b52d9a0c6808514620d35159a0b1fdc %d", x.ID,
		issued.Add(2*time.Minute).UnixMilli())
	if len(store.spent) != 1 || store.spent[0] != want {
		t.Errorf("spent %q, want %q", store.spent, want)
	}
}
