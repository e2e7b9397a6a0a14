package secret

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"sync"
)

// MAC authenticates messages of one purpose with HMAC-SHA-256. It signs with the newest key of a
// ring and accepts all of them. It is safe for concurrent use.
type MAC struct{ keys []*sync.Pool }

// NewMAC returns the MAC of one purpose.
func NewMAC(r *Ring, purpose string) *MAC {
	m := &MAC{}
	for _, k := range r.Derive("mac " + purpose) {
		m.keys = append(m.keys, &sync.Pool{New: func() any { return hmac.New(sha256.New, k[:]) }})
	}
	return m
}

// Sum returns the code of a message under the newest key. The parts are joined with their lengths,
// so no two lists of parts have the same code.
func (m *MAC) Sum(parts ...[]byte) [32]byte { return m.sum(join(parts)) }

// Verify reports whether code is the beginning of the message's code under any key of the ring. A
// code of less than 16 bytes is always wrong.
func (m *MAC) Verify(code []byte, parts ...[]byte) bool { return m.verify(code, join(parts)) }

func (m *MAC) sum(message []byte) [32]byte { return sum(m.keys[0], message) }

func (m *MAC) verify(code, message []byte) bool {
	if len(code) < 16 || len(code) > 32 {
		return false
	}
	ok := false
	for _, k := range m.keys {
		full := sum(k, message)
		ok = hmac.Equal(code, full[:len(code)]) || ok
	}
	return ok
}

func sum(pool *sync.Pool, message []byte) (out [32]byte) {
	h := pool.Get().(hash.Hash)
	h.Reset()
	h.Write(message)
	h.Sum(out[:0])
	pool.Put(h)
	return out
}

func join(parts [][]byte) []byte {
	m := make([]byte, 0, 160)
	for _, p := range parts {
		m = append(appendLength(m, len(p)), p...)
	}
	return m
}

// appendLength appends a length in a form that cannot be confused with the text after it.
func appendLength(b []byte, n int) []byte { return binary.BigEndian.AppendUint32(b, uint32(n)) }
