package digest

import (
	"encoding/binary"
	"sync/atomic"
	"time"

	"dialtone/internal/secret"
)

const (
	// NonceLife is how long a nonce may be answered. The time for typing a password is not part of
	// it, since clients ask for a challenge once they have the password.
	NonceLife = time.Minute

	// outstanding is how many of the last nonces can still be answered. It is a power of two. There
	// is one bit for each, 1 MiB in all.
	outstanding = 1 << 23
)

// Nonces issues nonces and lets each be spent once. It is safe for concurrent use, and its size is
// fixed.
//
// A nonce is spent by its first answer, whatever nc that has: some clients count on over nonces.
//
// A nonce is a signed ticket of package secret, bound to its realm. The first half of its ID is a
// serial number.
type Nonces struct {
	now     func() time.Time
	tickets *secret.Tickets
	serial  atomic.Uint64
	spent   [outstanding / 32]atomic.Uint32
}

// NewNonces returns Nonces with a random key of their own.
func NewNonces(now func() time.Time) *Nonces {
	format := secret.TicketFormat{Purpose: "digest nonce", Unit: time.Millisecond, CodeSize: 16}
	return &Nonces{now: now, tickets: secret.NewTickets(secret.NewRing(now()), format)}
}

// Issue returns a new nonce for the realm.
func (n *Nonces) Issue(realm string) string {
	serial := n.serial.Add(1)
	// The nonce that this bit stood for until now is too old to be answered.
	word, bit := n.bit(serial)
	word.And(^bit)
	k := secret.Ticket{Issued: n.now()}
	binary.BigEndian.PutUint64(k.ID[:], serial)
	return n.tickets.Issue(0, k, realm)
}

// Spend reports whether we issued the nonce for the realm, it has not expired and was not spent
// before, and spends it. Of any number of concurrent calls with one nonce, one returns true.
func (n *Nonces) Spend(nonce, realm string) bool {
	k, ok := n.tickets.Read(0, nonce, realm)
	if !ok || !k.Fresh(n.now(), NonceLife, 0) {
		return false
	}
	serial := binary.BigEndian.Uint64(k.ID[:])
	// Half of the bits are kept free, so that a nonce is never mistaken for the one that takes its
	// bit over at the same moment.
	if n.serial.Load()-serial >= outstanding/2 {
		return false
	}
	word, bit := n.bit(serial)
	return word.Or(bit)&bit == 0
}

func (n *Nonces) bit(serial uint64) (*atomic.Uint32, uint32) {
	i := serial % outstanding
	return &n.spent[i/32], 1 << (i % 32)
}
