package secret

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"dialtone/internal/redact"
)

// Key is 32 secret bytes. It does not print.
type Key [32]byte

// Format implements fmt.Formatter for all verbs.
func (Key) Format(f fmt.State, _ rune) { fmt.Fprint(f, redact.Text) }

// MarshalText keeps a key out of JSON and log/slog.
func (Key) MarshalText() ([]byte, error) { return []byte(redact.Text), nil }

// ID identifies a key and reveals nothing about it.
type ID [4]byte

func (id ID) String() string { return hex.EncodeToString(id[:]) }

// derive is HKDF-SHA-256 without a salt: the keys are already uniformly random (RFC 5869 section 3.1).
func (k Key) derive(purpose string) Key {
	out, err := hkdf.Key(sha256.New, k[:], nil, "dialtone v1 "+purpose, len(Key{}))
	if err != nil {
		panic("secret: HKDF of 32 bytes cannot fail: " + err.Error())
	}
	return Key(out)
}

func (k Key) id() ID { d := k.derive("key id"); return ID(d[:4]) }

type ringKey struct {
	created time.Time
	key     Key
	strict  bool
}

// Ring is one or more keys, newest first. It is immutable; a rotation returns another ring.
type Ring struct{ keys []ringKey }

// NewRing returns a ring of one new key.
func NewRing(now time.Time) *Ring {
	var k Key
	rand.Read(k[:])
	return &Ring{keys: []ringKey{{created: now.UTC().Truncate(time.Second), key: k}}}
}

// Rotated returns a ring with a new key in front and at most keep keys.
func (r *Ring) Rotated(now time.Time, keep int) *Ring {
	keys := append(NewRing(now).keys, r.keys...)
	keys[0].strict = r.keys[0].strict
	return &Ring{keys: keys[:min(keep, len(keys))]}
}

// Strict returns a ring of the same keys that opens no value of an older form (Vault.OpenOld).
func (r *Ring) Strict() *Ring { return r.withStrict(true) }

// Lenient returns a ring of the same keys that opens values of older forms.
func (r *Ring) Lenient() *Ring { return r.withStrict(false) }

func (r *Ring) withStrict(strict bool) *Ring {
	keys := slices.Clone(r.keys)
	for i := range keys {
		keys[i].strict = strict
	}
	return &Ring{keys: keys}
}

// IsStrict reports whether no key of the ring opens values of an older form.
func (r *Ring) IsStrict() bool {
	return !slices.ContainsFunc(r.keys, func(k ringKey) bool { return !k.strict })
}

// inUse returns how many of the keys may have signed something since a time: the newest key,
// and those that were replaced after that time.
func (r *Ring) inUse(since time.Time) int {
	n := 1
	for n < len(r.keys) && r.keys[n-1].created.After(since) {
		n++
	}
	return n
}

// SigningDelay is how old a key must be before it signs. By then, every server that shares the keys has read it.
const SigningDelay = 10 * time.Second

// Signing returns the ring with the key that signs at a time in front: the newest key that is
// old enough. If none is, it is the oldest, so the key of a new ring is used at once.
func (r *Ring) Signing(now time.Time) *Ring {
	first := len(r.keys) - 1
	for i, k := range r.keys {
		if now.Sub(k.created) >= SigningDelay {
			first = i
			break
		}
	}
	if first == 0 {
		return r
	}
	keys := []ringKey{r.keys[first]}
	keys = append(append(keys, r.keys[:first]...), r.keys[first+1:]...)
	return &Ring{keys: keys}
}

// Oldest returns a ring with only the oldest key.
func (r *Ring) Oldest() *Ring { return &Ring{keys: r.keys[len(r.keys)-1:]} }

// Only returns a ring with only the key with an ID, or nil if the ring lacks it.
func (r *Ring) Only(id ID) *Ring {
	for i, k := range r.keys {
		if k.key.id() == id {
			return &Ring{keys: r.keys[i : i+1 : i+1]}
		}
	}
	return nil
}

// IDs returns the IDs of the keys, newest first.
func (r *Ring) IDs() []ID {
	ids := make([]ID, len(r.keys))
	for i, k := range r.keys {
		ids[i] = k.key.id()
	}
	return ids
}

// Derive returns the key for one purpose under each key of the ring, newest first.
func (r *Ring) Derive(purpose string) []Key {
	out := make([]Key, len(r.keys))
	for i, k := range r.keys {
		out[i] = k.key.derive(purpose)
	}
	return out
}

// ParseRing reads the text of a key file, which the package comment describes; commas can
// replace its line breaks. Its error names the wrong line, and contains nothing of the text.
func ParseRing(text string) (*Ring, error) {
	text = strings.ReplaceAll(strings.TrimSuffix(text, "\n"), ",", "\n")
	r := &Ring{}
	for i, line := range strings.Split(text, "\n") {
		k, err := parseKey(line)
		if err != nil {
			return nil, fmt.Errorf("%d: %w", i+1, err)
		}
		r.keys = append(r.keys, k)
	}
	return r, nil
}

// Text returns the text of the ring's key file. The result is secret.
func (r *Ring) Text() string {
	var b strings.Builder
	for _, k := range r.keys {
		version := "v1"
		if k.strict {
			version = "v2"
		}
		fmt.Fprintf(&b, "%s %d %s\n", version, k.created.Unix(), hex.EncodeToString(k.key[:]))
	}
	return b.String()
}

func parseKey(line string) (ringKey, error) {
	f := strings.Split(line, " ")
	if len(f) != 3 || f[0] != "v1" && f[0] != "v2" {
		return ringKey{}, errors.New(
			"not a key line (expected: v1 or v2, <Unix seconds> <64 hex digits>)")
	}
	created, err := strconv.ParseInt(f[1], 10, 64)
	if err != nil {
		return ringKey{}, errors.New("the creation time is not a number of seconds")
	}
	b, err := hex.DecodeString(f[2])
	if err != nil || len(b) != len(Key{}) {
		return ringKey{}, errors.New("the key is not 64 hex digits")
	}
	if Key(b) == (Key{}) {
		return ringKey{}, errors.New("the key is all zeros")
	}
	return ringKey{created: time.Unix(created, 0).UTC(), key: Key(b), strict: f[0] == "v2"}, nil
}
