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

// state computes codes under one key. It copies messages and codes, since arguments of
// interface methods escape to the heap: so those of the callers stay on the stack.
type state struct {
	hash          hash.Hash
	message, code []byte
}

// NewMAC returns the MAC of one purpose.
func NewMAC(r *Ring, purpose string) *MAC {
	m := &MAC{}
	for _, k := range r.Derive("mac " + purpose) {
		m.keys = append(m.keys, &sync.Pool{New: func() any {
			return &state{hash: hmac.New(sha256.New, k[:])}
		}})
	}
	return m
}

// Sum returns the code of a message under the newest key. The parts are joined with their
// lengths, so different lists of parts have different codes.
func (m *MAC) Sum(parts ...[]byte) [32]byte {
	var b buffer
	return m.sum(join(b[:0], parts))
}

// Sums returns the codes of a message under all keys, newest first.
func (m *MAC) Sums(parts ...[]byte) (list [][32]byte) {
	var b buffer
	message := join(b[:0], parts)
	for _, k := range m.keys {
		list = append(list, sum(k, message))
	}
	return list
}

// Verify reports whether code is the beginning of the message's code under any key of the ring. A
// code of less than 16 bytes is always wrong.
func (m *MAC) Verify(code []byte, parts ...[]byte) bool {
	var b buffer
	return m.verify(code, join(b[:0], parts))
}

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

func sum(pool *sync.Pool, message []byte) [32]byte {
	s := pool.Get().(*state)
	s.message = append(s.message[:0], message...)
	s.hash.Reset()
	s.hash.Write(s.message)
	s.code = s.hash.Sum(s.code[:0])
	code := [32]byte(s.code)
	pool.Put(s)
	return code
}

// buffer is space on the stack for a message or token. Longer ones are allocated.
type buffer [160]byte

func join(b []byte, parts [][]byte) []byte {
	for _, p := range parts {
		b = append(appendLength(b, len(p)), p...)
	}
	return b
}

// appendLength appends a length in a form that cannot be confused with the text after it.
func appendLength(b []byte, n int) []byte { return binary.BigEndian.AppendUint32(b, uint32(n)) }
