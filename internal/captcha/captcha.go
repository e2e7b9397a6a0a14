// Package captcha asks a visitor a small sum, and sees that each question is answered once.
//
// The sum is a speed bump: it keeps out forms that are filled in blindly, and nothing that was written for this page. What
// holds against the rest are the limits (package throttle) and the activation link.
//
// # The token
//
// Nothing is stored for a question that is asked. The token carries what is needed, as unpadded base64url of
//
//	version (1 byte) ‖ nonce (16, random) ‖ Unix seconds of issue (8) ‖ proof of origin (16) ‖ proof of answer (16)
//
// The proofs are HMAC-SHA-256 codes. The first is over tenant, nonce and time: it shows that the token is ours, whatever
// was answered, so that a wrong answer can use it up and a made-up token costs us nothing. The second is over the same and
// the answer: the answer is in the token only inside that code. Both keys are derived for this purpose alone; the present
// and the previous signing key are accepted.
//
// # One try
//
// Check decides all that can be decided without a store and says so in a Proof. The nonce of a Proof is spent in the same
// transaction that makes the account, keyed by its value (the token's text could be varied) and kept until the token has
// expired.
package captcha

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	mrand "math/rand/v2"
	"strconv"
	"strings"
	"time"

	"dialtone/internal/secret"
)

const (
	// Life is how long a question may be answered.
	Life = 15 * time.Minute
	// skew is how far another node's clock may be ahead of ours.
	skew = time.Minute

	version  = 1
	tokenLen = 1 + 16 + 8 + 16 + 16
)

// Issuer asks questions and checks answers. It is safe for concurrent use.
type Issuer struct {
	now    func() time.Time
	origin *secret.MAC
	answer *secret.MAC
}

// NewIssuer uses keys of the ring.
func NewIssuer(r *secret.Ring, now func() time.Time) *Issuer {
	return &Issuer{now, secret.NewMAC(r, "captcha origin"), secret.NewMAC(r, "captcha answer")}
}

// Question is what a visitor is shown, and the token that goes with the answer.
type Question struct {
	Text  string // "3 + 5"
	Token string
}

// Ask makes a question for a tenant. Sums are of two numbers from 1 to 9.
func (i *Issuer) Ask(tenant int64) Question {
	var b [tokenLen]byte
	b[0] = version
	rand.Read(b[1:17])
	binary.BigEndian.PutUint64(b[17:25], uint64(i.now().Unix()))
	// The sum need not be secret from whoever sees the question, so it takes no strong randomness.
	x, y := 1+mrand.IntN(9), 1+mrand.IntN(9)
	t := tenantBytes(tenant)
	origin := i.origin.Sum(t[:], b[:25])
	copy(b[25:41], origin[:])
	answer := i.answer.Sum(t[:], b[:25], []byte{byte(x + y)})
	copy(b[41:57], answer[:])
	return Question{
		Text:  strconv.Itoa(x) + " + " + strconv.Itoa(y),
		Token: base64.RawURLEncoding.EncodeToString(b[:]),
	}
}

// Proof is what a token and an answer came to, short of whether the nonce was spent before.
type Proof struct {
	// Ours says that we issued the token, for this tenant, and that it is in time. Only then is Nonce set.
	Ours bool
	// Right says that the answer is the question's.
	Right bool
	Nonce [16]byte
	// Expires is when a spent nonce may be forgotten, since the token is refused by its time from then on, by a node whose
	// clock is behind ours too.
	Expires time.Time
}

// Check decides over a token and an answer as they came in the form.
func (i *Issuer) Check(tenant int64, token, answer string) Proof {
	b, ok := secret.DecodeText(token)
	if !ok || len(b) != tokenLen || b[0] != version {
		return Proof{}
	}
	t := tenantBytes(tenant)
	if !i.origin.Verify(b[25:41], t[:], b[:25]) {
		return Proof{}
	}
	issued := time.Unix(int64(binary.BigEndian.Uint64(b[17:25])), 0)
	if now := i.now(); now.Before(issued.Add(-skew)) || !now.Before(issued.Add(Life)) {
		return Proof{}
	}
	p := Proof{Ours: true, Nonce: [16]byte(b[1:17]), Expires: issued.Add(Life + skew)}
	if n, ok := parseAnswer(answer); ok {
		p.Right = i.answer.Verify(b[41:57], t[:], b[:25], []byte{n})
	}
	return p
}

// parseAnswer reads the integer that a person typed, with spaces around it if they typed some.
func parseAnswer(s string) (byte, bool) {
	s = strings.Trim(s, " ")
	if len(s) == 0 || len(s) > 3 {
		return 0, false
	}
	n, err := strconv.ParseUint(s, 10, 8)
	return byte(n), err == nil
}

func tenantBytes(tenant int64) (b [8]byte) {
	binary.BigEndian.PutUint64(b[:], uint64(tenant))
	return b
}
