package digest

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"hash"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// NonceLife is how long a nonce may be answered: a person's typing is not part of it, since clients ask for the
	// challenge when they have the password.
	NonceLife = time.Minute
	// outstanding is how many of the last nonces can still be answered; a power of two, one bit each (1 MiB in all).
	outstanding = 1 << 23
)

// Nonces gives out nonces and lets each be spent once. It is safe for concurrent use, and its size is fixed.
//
// A nonce is base64url of
//
//	serial number (8 bytes) ‖ Unix milliseconds (8) ‖ HMAC-SHA-256 over both and the realm (first 16 bytes)
type Nonces struct {
	now    func() time.Time
	macs   sync.Pool // of hash.Hash: HMACs under a key that is known here alone
	serial atomic.Uint64
	spent  []atomic.Uint32
}

// NewNonces starts with a key of its own.
func NewNonces(now func() time.Time) *Nonces {
	var key [32]byte
	rand.Read(key[:])
	n := &Nonces{now: now, spent: make([]atomic.Uint32, outstanding/32)}
	n.macs.New = func() any { return hmac.New(sha256.New, key[:]) }
	return n
}

const nonceBytes = 8 + 8 + 16

// Issue is a new nonce for the realm.
func (n *Nonces) Issue(realm string) string {
	serial := n.serial.Add(1)
	// The bit belonged to a number that is now too old to be answered; it is this one's from here on.
	word, bit := n.bit(serial)
	word.And(^bit)

	var b [nonceBytes]byte
	binary.BigEndian.PutUint64(b[0:], serial)
	binary.BigEndian.PutUint64(b[8:], uint64(n.now().UnixMilli()))
	n.authenticate(b[16:], b[:16], realm)
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// Spend reports whether the nonce is one of ours for the realm, in time and not spent before, and spends it. Of any number
// of concurrent calls with one nonce, one gets true.
func (n *Nonces) Spend(nonce, realm string) bool {
	var b, code [nonceBytes]byte
	if len(nonce) != base64.RawURLEncoding.EncodedLen(nonceBytes) {
		return false
	}
	if _, err := base64.RawURLEncoding.Decode(b[:], []byte(nonce)); err != nil {
		return false
	}
	n.authenticate(code[16:], b[:16], realm)
	if !hmac.Equal(code[16:], b[16:]) {
		return false
	}
	serial := binary.BigEndian.Uint64(b[0:])
	age := n.now().Sub(time.UnixMilli(int64(binary.BigEndian.Uint64(b[8:]))))
	if age < 0 || age >= NonceLife {
		return false
	}
	// Half of the ring is kept free, so that a number is never mistaken for the one that takes its bit over meanwhile.
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

func (n *Nonces) authenticate(dst, message []byte, realm string) {
	h := n.macs.Get().(hash.Hash)
	h.Reset()
	h.Write(message)
	h.Write([]byte(realm))
	var sum [sha256.Size]byte
	copy(dst, h.Sum(sum[:0])[:16])
	n.macs.Put(h)
}
