package account

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"time"
)

// UID identifies an account forever, even after its name was given to another account. It
// consists of 48 bits of Unix milliseconds, and random bits (a UUIDv7, RFC 9562 section 5.7),
// so that accounts that were created together are stored together. Half of it may be derived
// from the nonce of a captcha, which is random too.
type UID [16]byte

// NewUID returns a new UID.
func NewUID(now time.Time) (u UID) {
	rand.Read(u[6:])
	var ms [8]byte
	binary.BigEndian.PutUint64(ms[:], uint64(now.UnixMilli()))
	copy(u[:6], ms[2:])
	u[6] = 0x70 | u[6]&0x0f
	u[8] = 0x80 | u[8]&0x3f
	return u
}

// FirstUID and LastUID return the least and the greatest UID that NewUID can return in the millisecond of at.
func FirstUID(at time.Time) UID { return boundUID(at, 0) }

// LastUID is the upper bound; see FirstUID.
func LastUID(at time.Time) UID { return boundUID(at, 0xff) }

// boundUID returns a UID with the millisecond of at, in which all remaining bytes are other.
func boundUID(at time.Time, other byte) UID {
	const maxMillis = 1<<48 - 1 // far in the future
	u := UID(bytes.Repeat([]byte{other}, len(UID{})))
	var ms [8]byte
	binary.BigEndian.PutUint64(ms[:], uint64(min(max(at.UnixMilli(), 0), maxMillis)))
	copy(u[:6], ms[2:])
	return u
}

// signupUID returns the UID of an account that is made with a captcha. Its second half is derived from
// the captcha's nonce, which is random and known only to the sender of the form, so that the same
// form can be recognized later.
func signupUID(now time.Time, nonce [16]byte) UID {
	u := NewUID(now)
	sum := sha256.Sum256(append([]byte("signup "), nonce[:]...))
	copy(u[8:], sum[:])
	u[8] = 0x80 | u[8]&0x3f
	return u
}

// madeWith reports whether the account was made with the captcha of a nonce.
func (u UID) madeWith(nonce [16]byte) bool {
	made := signupUID(time.Time{}, nonce)
	return bytes.Equal(u[8:], made[8:])
}

func (u UID) String() string { return hex.EncodeToString(u[:]) }
