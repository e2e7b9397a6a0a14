package digest

import (
	"encoding/binary"
	"sync/atomic"
	"time"

	"dialtone/internal/secret"
)

const (
	// NonceLife is how long a nonce can be answered. It does not include the time for typing a
	// password, since clients request a challenge when they have the password.
	NonceLife = time.Minute

	// outstanding is the number of bits, in total 1 MiB, and a power of two. Of the nonces, the last
	// outstanding/2 can still be answered.
	outstanding = 1 << 23
)

// Nonces issues nonces and lets each be spent once. It is safe for concurrent use, and its size is
// fixed.
//
// A nonce is spent by its first answer, regardless of nc: some clients continue counting across nonces.
//
// A nonce is a signed ticket of package secret, bound to its realm. The first half of its ID is a
// serial number.
type Nonces struct {
	now     func() time.Time
	tickets *secret.Tickets
	serial  atomic.Uint64
	spent   [outstanding / 32]atomic.Uint32
}

// NewNonces returns a Nonces with its own random key.
func NewNonces(now func() time.Time) *Nonces {
	format := secret.TicketFormat{Purpose: "digest nonce", Unit: time.Millisecond, CodeSize: 16}
	return &Nonces{now: now, tickets: secret.NewTickets(secret.NewRing(now()), format)}
}

// Issue returns a new nonce for the realm.
func (n *Nonces) Issue(realm string) string {
	serial := n.serial.Add(1)
	// The nonce that this bit represented until now is too old to be answered.
	word, bit := n.bit(serial)
	word.And(^bit)
	k := secret.Ticket{Issued: n.now()}
	binary.BigEndian.PutUint64(k.ID[:], serial)
	return n.tickets.Issue(0, k, realm)
}

// Spend spends a nonce. It reports whether the nonce was issued for the realm and has neither
// expired nor been spent before. Of several concurrent calls with one nonce, exactly one returns
// true.
func (n *Nonces) Spend(nonce, realm string) bool {
	k, ok := n.tickets.Read(0, nonce, realm)
	if !ok || !k.Fresh(n.now(), NonceLife, 0) {
		return false
	}
	serial := binary.BigEndian.Uint64(k.ID[:])
	// Nonces of the older half are refused, so that none is mistaken for one that is just being issued and takes
	// over its bit.
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
