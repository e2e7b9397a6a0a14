package provision

import (
	"testing"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/secret"
)

// A token can be read by every server that has the key, but only for its tenant and format.
func TestTickets(t *testing.T) {
	now := time.Date(2026, time.March, 1, 12, 0, 0, 500, time.UTC)
	clock := func() time.Time { return now }
	ring := secret.NewRing(now)
	a := account.Account{Tenant: 7, UID: account.NewUID(now), Epoch: 3}
	token := NewTickets(ring, clock).issue(a, Linphone)
	if n := len(token); n != 87 {
		t.Errorf("a token has %d characters, want 87: a longer one makes a denser QR code", n)
	}
	for _, c := range []struct {
		name    string
		tickets *Tickets
		tenant  int64
		format  Format
		ok      bool
	}{
		{"by the key that signed it", NewTickets(ring, clock), 7, Linphone, true},
		{"after a rotation", NewTickets(ring.Rotated(now, 2), clock), 7, Linphone, true},
		{"not by another key", NewTickets(secret.NewRing(now), clock), 7, Linphone, false},
		{"not at another tenant", NewTickets(ring, clock), 8, Linphone, false},
		{"not as another format", NewTickets(ring, clock), 7, Zoiper, false},
	} {
		k, ok := c.tickets.read(c.tenant, c.format, token)
		if ok != c.ok {
			t.Errorf("%s: %v", c.name, ok)
		}
		if ok && (k.Account != a.UID || k.Epoch != 3 ||
			!k.Issued.Equal(now.Truncate(time.Second)) || k.ID == [16]byte{}) {
			t.Errorf("%s: it contains %+v", c.name, k)
		}
	}
	if NewTickets(ring, clock).issue(a, Linphone) == token {
		t.Error("two tickets are the same")
	}
}
