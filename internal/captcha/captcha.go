// Package captcha asks a visitor for a small sum, and lets each question be answered once.
//
// The sum stops programs that fill in every form they find. It does not stop a program that was
// written for this page: the limits of package throttle and the activation link do.
//
// # The token
//
// Nothing is stored when a question is asked. Its token contains everything needed, as unpadded base64url of
//
//	version (1 byte) ‖ nonce (16, random) ‖ Unix seconds of issue (8) ‖ origin code (16) ‖ answer code (16)
//
// Both codes are truncated HMAC-SHA-256, under keys derived for their purpose. The origin code
// covers the tenant and everything before the code. It proves that we issued the token, whatever
// the answer is, so a wrong answer can spend the token, and a forged token costs nothing. The
// answer code covers the answer as well, which is in no other part of the token. Tokens that
// were signed with the current or the previous key are accepted.
//
// # One try
//
// Check decides everything that can be decided without a store, and returns the result as a Proof.
// The nonce of a Proof is spent in the transaction that creates the account. The store keeps the
// nonce, not the text of the token, until the token has expired.
package captcha

import (
	"encoding/base64"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"
	"unicode"

	"dialtone/internal/secret"
)

const (
	// Life is how long a question can be answered.
	Life = 15 * time.Minute
	// skew is how far the clock of another node may be ahead of ours.
	skew = time.Minute

	codeSize = 16
	// tokenSize is the size of a token in bytes.
	tokenSize = 1 + 16 + 8 + 2*codeSize
)

// Issuer asks questions and checks answers. It is safe for concurrent use.
type Issuer struct {
	now    func() time.Time
	origin *secret.Tickets
	answer *secret.Tickets
}

// NewIssuer returns an Issuer that signs with the keys of the ring.
func NewIssuer(r *secret.Ring, now func() time.Time) *Issuer {
	tickets := func(purpose string) *secret.Tickets {
		return secret.NewTickets(r, secret.TicketFormat{
			Purpose: purpose, Version: 1, Unit: time.Second, CodeSize: codeSize,
		})
	}
	return &Issuer{now, tickets("captcha origin"), tickets("captcha answer")}
}

// Question is what a visitor is shown, and the token that is sent back with the answer.
type Question struct {
	Text  string // "3 + 5"
	Token string
}

// Ask makes a question for a tenant: the sum of two numbers from 1 to 9.
func (i *Issuer) Ask(tenant int64) Question {
	// Anyone who sees the question knows the sum, so strong randomness is not needed.
	x, y := 1+rand.IntN(9), 1+rand.IntN(9)
	k := secret.NewTicket(i.now())
	token := i.origin.Append(nil, tenant, k)
	answer := i.answer.Append(nil, tenant, k, string([]byte{byte(x + y)}))
	token = append(token, answer[len(answer)-codeSize:]...)
	return Question{
		Text:  strconv.Itoa(x) + " + " + strconv.Itoa(y),
		Token: base64.RawURLEncoding.EncodeToString(token),
	}
}

// Proof is what a token and an answer prove. The store decides whether the nonce was spent before.
type Proof struct {
	// Ours means that we issued the token for this tenant, and that it has not expired.
	// Otherwise Nonce and Expires are zero.
	Ours bool
	// Right means that the answer is right.
	Right bool
	Nonce [16]byte
	// Expires is when a spent nonce can be forgotten. By then every node refuses the token
	// because of its age, even one whose clock is behind ours.
	Expires time.Time
}

// Check checks a token and an answer as they came in a form.
func (i *Issuer) Check(tenant int64, token, answer string) Proof {
	b, ok := secret.DecodeText(token)
	if !ok || len(b) != tokenSize {
		return Proof{}
	}
	signed, code := b[:len(b)-codeSize], b[len(b)-codeSize:]
	k, ok := i.origin.Parse(tenant, signed)
	if !ok || !k.Fresh(i.now(), Life, skew) {
		return Proof{}
	}
	p := Proof{Ours: true, Nonce: k.ID, Expires: k.Issued.Add(Life + skew)}
	if n, ok := parseAnswer(answer); ok {
		content := signed[:len(signed)-codeSize]
		_, p.Right = i.answer.Parse(tenant, append(content, code...), string([]byte{n}))
	}
	return p
}

// Nonce returns the nonce of a token that we issued for the tenant, however old.
func (i *Issuer) Nonce(tenant int64, token string) (nonce [16]byte, ok bool) {
	b, ok := secret.DecodeText(token)
	if !ok || len(b) != tokenSize {
		return nonce, false
	}
	k, ok := i.origin.Parse(tenant, b[:len(b)-codeSize])
	return k.ID, ok
}

// parseAnswer reads an integer in the decimal digits of any script. Surrounding spaces and
// direction marks are ignored, since Arabic keyboards add them.
func parseAnswer(s string) (byte, bool) {
	s = strings.TrimFunc(s, func(r rune) bool {
		return unicode.Is(unicode.Zs, r) || unicode.Is(unicode.Bidi_Control, r)
	})
	n, digits := 0, 0
	for _, r := range s {
		d, ok := digitOf(r)
		if digits++; !ok || digits > 3 {
			return 0, false
		}
		n = 10*n + d
	}
	return byte(n), digits > 0 && n <= math.MaxUint8
}

// digitOf returns the value of a decimal digit. In Unicode, the digits of a script are
// consecutive, from zero to nine, and the ranges of unicode.Nd consist of complete sets of ten.
func digitOf(r rune) (int, bool) {
	for _, set := range unicode.Nd.R16 {
		if rune(set.Lo) <= r && r <= rune(set.Hi) {
			return int(r-rune(set.Lo)) % 10, true
		}
	}
	for _, set := range unicode.Nd.R32 {
		if rune(set.Lo) <= r && r <= rune(set.Hi) {
			return int(r-rune(set.Lo)) % 10, true
		}
	}
	return 0, false
}
