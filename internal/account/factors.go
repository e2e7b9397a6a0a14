package account

import (
	"cmp"
	"strings"
)

// Factors is a set of second factors. Its values are stored.
type Factors int64

// The second factors.
const (
	// FactorApp is an authenticator app.
	FactorApp Factors = 1 << iota
	// FactorPasskey is at least one passkey.
	FactorPasskey
)

// String returns the factors as words, or "none".
func (fs Factors) String() string { return cmp.Or(strings.Join(fs.Words(), " "), "none") }

// Words returns a word for each of the factors.
func (fs Factors) Words() []string {
	list := []string{}
	if fs.Has(FactorApp) {
		list = append(list, "app")
	}
	if fs.Has(FactorPasskey) {
		list = append(list, "passkey")
	}
	return list
}

// Has reports whether fs contains any of the factors f.
func (fs Factors) Has(f Factors) bool { return fs&f != 0 }
