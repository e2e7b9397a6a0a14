package secret

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"log/slog"
)

// Token is a one-time secret of 256 random bits that a person is sent. The store keeps its Hash alone: a fast hash
// suffices, since the token cannot be guessed.
type Token [32]byte

// TokenLength is the length of a token's Text.
const TokenLength = 43

// NewToken makes a token.
func NewToken() (t Token) {
	rand.Read(t[:])
	return t
}

// ParseToken reads what Text wrote, and nothing else: a text that does not encode back to itself is refused.
func ParseToken(text string) (t Token, ok bool) {
	// As DecodeText does it, without memory of its own: phone servers show a token with every look-up.
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

// Text is the token as it stands in a link: base64url without padding (RFC 4648 §5). It is the secret itself.
func (t Token) Text() string { return base64.RawURLEncoding.EncodeToString(t[:]) }

// Hash is what the store keeps.
func (t Token) Hash() [32]byte { return sha256.Sum256(t[:]) }

func (Token) String() string               { return Redacted }
func (Token) GoString() string             { return Redacted }
func (Token) LogValue() slog.Value         { return slog.StringValue(Redacted) }
func (Token) MarshalText() ([]byte, error) { return []byte(Redacted), nil }

// Format keeps a token out of the verbs that would print its bytes.
func (Token) Format(f fmt.State, _ rune) { fmt.Fprint(f, Redacted) }

// DecodeText decodes unpadded base64url that encodes back to the same text. The standard decoder
// skips line breaks and ignores stray low bits, so that one value would have many texts and could be
// used again after one of them was noted as spent.
func DecodeText(text string) ([]byte, bool) {
	var room [128]byte
	b, err := base64.RawURLEncoding.AppendDecode(nil, []byte(text))
	if err != nil || string(base64.RawURLEncoding.AppendEncode(room[:0], b)) != text {
		return nil, false
	}
	return b, true
}
