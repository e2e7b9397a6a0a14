// Package totp computes the codes of authenticator apps: time-based one-time passwords by RFC 6238, with
// HMAC-SHA-1, six digits and steps of 30 seconds. These are the only parameters that all apps support.
//
// The package is pure: it knows neither accounts nor a store. A caller must refuse a code whose
// step is not newer than that of the last used code. Otherwise a code could be used twice.
package totp

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1"
	"crypto/subtle"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"net/url"
	"strings"
	"time"

	"dialtone/internal/redact"
)

const (
	// Period is the length of a step.
	Period = 30 * time.Second
	// Digits is the length of a code.
	Digits = 6

	// window is how many steps a clock can be ahead or behind (RFC 6238 section 5.2).
	window = 1
)

// Secret is the secret that the server and the app share. It does not print.
type Secret [20]byte

// Format implements fmt.Formatter for all verbs.
func (Secret) Format(f fmt.State, _ rune) { fmt.Fprint(f, redact.Text) }

// MarshalText keeps a secret out of JSON and log/slog.
func (Secret) MarshalText() ([]byte, error) { return []byte(redact.Text), nil }

// NewSecret returns a random secret. It has the length of the HMAC (RFC 4226 section 4, requirement R6).
func NewSecret() (s Secret) {
	rand.Read(s[:])
	return s
}

// Base32 returns the secret in the form that people type into an app.
func (s Secret) Base32() string {
	return base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(s[:])
}

// URI returns the otpauth URI for an app's QR code. The issuer is the name of the platform.
func (s Secret) URI(issuer, account string) string {
	// A colon separates the issuer from the account, and must not be in either.
	// Apps do not decode a plus sign as a space.
	escape := func(text string) string {
		return strings.ReplaceAll(url.QueryEscape(strings.ReplaceAll(text, ":", " ")), "+", "%20")
	}
	return "otpauth://totp/" + escape(issuer) + ":" + escape(account) +
		"?secret=" + s.Base32() + "&issuer=" + escape(issuer) +
		fmt.Sprintf("&algorithm=SHA1&digits=%d&period=%d", Digits, Period/time.Second)
}

// Step returns the number of the step at a time.
func Step(at time.Time) int64 { return at.Unix() / int64(Period/time.Second) }

// Code returns the code of a step.
func (s Secret) Code(step int64) string {
	return fmt.Sprintf("%0*d", Digits, s.truncated(step)%1_000_000)
}

// truncated returns the number that the digits of a code are taken from (RFC 4226 section 5.3).
func (s Secret) truncated(step int64) uint32 {
	var counter [8]byte
	binary.BigEndian.PutUint64(counter[:], uint64(step))
	h := hmac.New(sha1.New, s[:])
	h.Write(counter[:])
	sum := h.Sum(nil)
	return binary.BigEndian.Uint32(sum[sum[len(sum)-1]&0xf:]) & 0x7fffffff
}

// Match returns the newest step around a time whose code this is. It takes the same time for every code of
// the right length.
func (s Secret) Match(code string, now time.Time) (step int64, ok bool) {
	for i := Step(now) - window; i <= Step(now)+window; i++ {
		if subtle.ConstantTimeCompare([]byte(s.Code(i)), []byte(code)) == 1 {
			step, ok = i, true
		}
	}
	return step, ok
}

// maxTyped is the maximum length of a text that ParseCode accepts.
const maxTyped = 32

// ParseCode returns the digits of a code that a person typed, possibly with spaces or hyphens between them.
func ParseCode(text string) (code string, ok bool) {
	if len(text) > maxTyped {
		return "", false
	}
	code = strings.NewReplacer(" ", "", "-", "").Replace(text)
	if len(code) != Digits || strings.Trim(code, "0123456789") != "" {
		return "", false
	}
	return code, true
}
