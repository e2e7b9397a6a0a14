package secret

import (
	"crypto/hmac"
	"crypto/sha256"
	"hash"
	"sync"
)

// MAC authenticates messages of one purpose with HMAC-SHA-256: it signs with the newest key and accepts every key of the
// ring. It is safe for concurrent use.
type MAC struct{ keys []*sync.Pool }

// NewMAC is the MAC of one purpose.
func NewMAC(r *Ring, purpose string) *MAC {
	m := &MAC{}
	for _, k := range r.Derive("mac " + purpose) {
		m.keys = append(m.keys, &sync.Pool{New: func() any { return hmac.New(sha256.New, k[:]) }})
	}
	return m
}

// Sum is the code of the message under the newest key. The parts are joined with their lengths, so that no two lists of
// parts have the same code.
func (m *MAC) Sum(parts ...[]byte) [32]byte { return sum(m.keys[0], parts) }

// Verify reports whether code is the beginning of the message's code under any key of the ring. A code shorter than 16
// bytes is never right.
func (m *MAC) Verify(code []byte, parts ...[]byte) bool {
	if len(code) < 16 || len(code) > 32 {
		return false
	}
	ok := false
	for _, k := range m.keys {
		full := sum(k, parts)
		ok = hmac.Equal(code, full[:len(code)]) || ok
	}
	return ok
}

func sum(pool *sync.Pool, parts [][]byte) (out [32]byte) {
	h := pool.Get().(hash.Hash)
	h.Reset()
	var length [4]byte
	for _, p := range parts {
		h.Write(appendInt(length[:0], len(p)))
		h.Write(p)
	}
	h.Sum(out[:0])
	pool.Put(h)
	return out
}
