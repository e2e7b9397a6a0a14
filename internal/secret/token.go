package secret

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"time"

	"dialtone/internal/redact"
)

// Token is a one-time secret of 256 bits, at least 208 of them random, that is sent to a
// person. The store contains only a hash of it. A fast hash suffices, since the token cannot be
// guessed. A Token does not print.
type Token [32]byte

// TokenLength is the length of a token's Text.
const TokenLength = 43

// NewToken returns a random token.
func NewToken() (t Token) {
	rand.Read(t[:])
	return t
}

// ParseToken parses the result of Text. It refuses every text that is not in canonical encoding.
func ParseToken(text string) (t Token, ok bool) {
	// This is DecodeText without allocations: SIP servers send a token with every look-up.
	var has, want [TokenLength]byte
	if len(text) != TokenLength {
		return Token{}, false
	}
	copy(has[:], text)
	n, err := base64.RawURLEncoding.Decode(t[:], has[:])
	base64.RawURLEncoding.Encode(want[:], t[:])
	if err != nil || n != len(t) || has != want {
		return Token{}, false
	}
	return t, true
}

// Text returns the token in the form used in links: base64url without padding (RFC 4648 section
// 5). The result is secret.
func (t Token) Text() string { return base64.RawURLEncoding.EncodeToString(t[:]) }

// Hash returns the hash that is stored for tokens other than those of links (see OrderedHash).
func (t Token) Hash() [32]byte { return sha256.Sum256(t[:]) }

// orderBytes is the length of the time at the start of a token: Unix milliseconds, as in the UID of an account.
const orderBytes = 6

// NewTokenAt returns a token that begins with a time. The other 208 bits are random.
func NewTokenAt(made time.Time) Token {
	t := NewToken()
	var ms [8]byte
	binary.BigEndian.PutUint64(ms[:], uint64(made.UnixMilli()))
	copy(t[:orderBytes], ms[8-orderBytes:])
	return t
}

// OrderedHash returns the hash that a store keeps of a token of NewTokenAt, ordered by time:
// the time, and the first 208 bits of Hash. So new links are adjacent in an index, and share
// its pages.
func (t Token) OrderedHash() (h [32]byte) {
	sum := t.Hash()
	copy(h[copy(h[:], t[:orderBytes]):], sum[:])
	return h
}

// Format implements fmt.Formatter for all verbs.
func (Token) Format(f fmt.State, _ rune) { fmt.Fprint(f, redact.Text) }

// MarshalText keeps a token out of JSON and log/slog.
func (Token) MarshalText() ([]byte, error) { return []byte(redact.Text), nil }

// DecodeText decodes unpadded base64url in canonical form. The standard decoder skips line
// breaks and ignores trailing bits, so a value would have many encodings and could be used
// again after one of them was recorded as spent.
func DecodeText(text string) ([]byte, bool) { return appendText(nil, text) }

// appendText is DecodeText that appends the value.
func appendText(dst []byte, text string) ([]byte, bool) {
	var room buffer
	b, err := base64.RawURLEncoding.AppendDecode(dst, []byte(text))
	if err != nil || string(base64.RawURLEncoding.AppendEncode(room[:0], b[len(dst):])) != text {
		return nil, false
	}
	return b, true
}
