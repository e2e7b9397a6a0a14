package digest

import (
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"dialtone/internal/redact"
)

// HA1 is MD5(user:realm:password), or MD5(user@realm:realm:password) if it is called HA1B. It
// is an array, since it is compared and looked up very often. It does not print.
type HA1 [16]byte

// HA1SHA256 is SHA-256(user:realm:password). It does not print.
type HA1SHA256 [32]byte

// Compute returns the HA1 of a password. It is for tests, tools and the check for weak passwords:
// the server never receives a password.
func Compute(user, realm, password string) HA1 {
	return md5.Sum([]byte(user + ":" + realm + ":" + password))
}

// ComputeB returns the HA1 for a phone that sends user@realm as the digest user name.
func ComputeB(user, realm, password string) HA1 { return Compute(user+"@"+realm, realm, password) }

// ComputeSHA256 returns the SHA-256 digest of a password.
func ComputeSHA256(user, realm, password string) HA1SHA256 {
	return sha256.Sum256([]byte(user + ":" + realm + ":" + password))
}

// Hex returns the hash in lower-case hex (LHEX in RFC 7616 section 3.4). The result is secret.
func (h HA1) Hex() string       { return hex.EncodeToString(h[:]) }
func (h HA1SHA256) Hex() string { return hex.EncodeToString(h[:]) }

// AppendHex appends the result of Hex.
func (h HA1) AppendHex(b []byte) []byte       { return hex.AppendEncode(b, h[:]) }
func (h HA1SHA256) AppendHex(b []byte) []byte { return hex.AppendEncode(b, h[:]) }

// ErrHex is returned for a text that is not a hash in hex.
var ErrHex = errors.New("not the right number of hex digits")

// ParseHA1 reads 32 hex digits of either case.
func ParseHA1(text string) (h HA1, err error) { return h, parseHex(h[:], text) }

// ParseHA1SHA256 reads 64 hex digits of either case.
func ParseHA1SHA256(text string) (h HA1SHA256, err error) { return h, parseHex(h[:], text) }

func parseHex(dst []byte, text string) error {
	if len(text) != hex.EncodedLen(len(dst)) {
		return ErrHex
	}
	if _, err := hex.Decode(dst, []byte(text)); err != nil {
		return ErrHex
	}
	return nil
}

// Format implements fmt.Formatter for all verbs.
func (HA1) Format(f fmt.State, _ rune)       { fmt.Fprint(f, redact.Text) }
func (HA1SHA256) Format(f fmt.State, _ rune) { fmt.Fprint(f, redact.Text) }

// MarshalText keeps a hash out of JSON and log/slog.
func (HA1) MarshalText() ([]byte, error)       { return []byte(redact.Text), nil }
func (HA1SHA256) MarshalText() ([]byte, error) { return []byte(redact.Text), nil }

// Credential is what an account stores instead of its password. HA1B and SHA256 are nil unless the client
// sent them; they cannot be derived later.
type Credential struct {
	HA1    HA1
	HA1B   *HA1
	SHA256 *HA1SHA256
}

const (
	hasHA1B   = 1 << 0
	hasSHA256 = 1 << 1
)

// Marshal encodes the credential before it is sealed: a byte of flags, then the hashes.
func (c Credential) Marshal() []byte {
	b := append([]byte{0}, c.HA1[:]...)
	if c.HA1B != nil {
		b[0] |= hasHA1B
		b = append(b, c.HA1B[:]...)
	}
	if c.SHA256 != nil {
		b[0] |= hasSHA256
		b = append(b, c.SHA256[:]...)
	}
	return b
}

// UnmarshalCredential decodes the result of Marshal.
func UnmarshalCredential(b []byte) (c Credential, err error) {
	take := func(dst []byte) bool {
		n := copy(dst, b)
		b = b[n:]
		return n == len(dst)
	}
	var flags [1]byte
	ok := take(flags[:]) && flags[0]&^(hasHA1B|hasSHA256) == 0 && take(c.HA1[:])
	if ok && flags[0]&hasHA1B != 0 {
		c.HA1B = new(HA1)
		ok = take(c.HA1B[:])
	}
	if ok && flags[0]&hasSHA256 != 0 {
		c.SHA256 = new(HA1SHA256)
		ok = take(c.SHA256[:])
	}
	if !ok || len(b) != 0 {
		return Credential{}, errors.New("digest: not a stored credential")
	}
	return c, nil
}
