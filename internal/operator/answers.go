package operator

import (
	"context"
	"crypto/hmac"
	"errors"
	"strings"
	"time"

	"dialtone/internal/fault"
	"dialtone/internal/secret"
)

// AnswerLife is how long the answer to a request with an idempotency key is kept.
const AnswerLife = 24 * time.Hour

// claimTime is the longest time until a request is answered. An older claim belongs to a
// request whose outcome is unknown: the server ended before it stored the answer.
const claimTime = time.Minute

// StoredAnswer is the answer to a request in its stored form.
type StoredAnswer struct {
	Request []byte // a MAC of the request
	// Status is 0 while the request has no answer.
	Status int
	Body   []byte // sealed
	Until  time.Time
}

// AnswerStore stores answers. Each method is one transaction.
type AnswerStore interface {
	// ClaimAnswer stores a, without status, for a key of a token, and returns true. If there is
	// already an answer that has not expired by now, it returns that answer and false. Exactly
	// one of several concurrent calls for one key returns true.
	ClaimAnswer(ctx context.Context, token, key string, a StoredAnswer, now time.Time) (StoredAnswer, bool, error)

	// SetAnswer sets the status and body of a claim.
	SetAnswer(ctx context.Context, token, key string, a StoredAnswer) error

	// ReleaseAnswer removes a claim.
	ReleaseAnswer(ctx context.Context, token, key string, a StoredAnswer) error

	// SweepAnswers removes up to limit answers that have expired by now, and returns how many it removed.
	SweepAnswers(ctx context.Context, now time.Time, limit int) (int64, error)
}

// Answers answers a repeated request with the answer to the first one. It is safe for concurrent use.
//
// The key of a request is claimed before the request does anything, and its answer is stored
// afterwards. If the server ends in between, it is unknown whether the request was carried out,
// and it is not carried out again: every repetition is refused until the claim expires. A
// request that was refused, or that failed without a change, releases its claim.
//
// Answers are sealed in the store, since they can contain a token or a link. Of a request, the
// store contains only a MAC: with a plain hash, somebody with a copy of the database could
// guess values of its members.
type Answers struct {
	store AnswerStore
	vault *secret.Vault
	mac   *secret.MAC
	now   func() time.Time
}

// NewAnswers returns an Answers.
func NewAnswers(s AnswerStore, ring *secret.Ring, now func() time.Time) *Answers {
	return &Answers{s, secret.NewVault(ring, "api answer"), secret.NewMAC(ring, "api request"), now}
}

const maxKey = 255

// checkKey refuses keys that would need escaping.
func checkKey(key string) error {
	if key == "" || len(key) > maxKey || strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return fault.New(fault.Invalid,
			"the header Idempotency-Key has 1 to %d visible characters of ASCII, such as a UUID", maxKey)
	}
	return nil
}

// Once calls do and returns its answer, or returns the answer that it gave to the same request with the same key within
// AnswerLife. request is everything that determines what do does. Errors of do are not stored,
// and are returned unchanged.
//
// If the answer cannot be stored, it returns the answer and an error. It fails with fault.Mismatch if the key was used
// for another request, and with fault.Conflict while the first request is being carried out,
// with a time to wait, or if it is unknown whether it was carried out.
func (s *Answers) Once(ctx context.Context, token, key string, request []byte,
	do func() (status int, body []byte, err error)) (status int, body []byte, err error) {
	if err := checkKey(key); err != nil {
		return 0, nil, err
	}
	now := s.now().UTC().Truncate(time.Microsecond)
	sum := s.mac.Sum([]byte(token), request)
	claim := StoredAnswer{Request: sum[:], Until: now.Add(AnswerLife)}
	stored, claimed, err := s.store.ClaimAnswer(ctx, token, key, claim, now)
	if err != nil {
		return 0, nil, err
	}
	place := []byte(token + " " + key)
	if !claimed {
		return s.earlier(stored, place, now, token, request)
	}
	// The claim is completed even if the client has disconnected.
	background := context.WithoutCancel(ctx)
	if status, body, err = do(); err != nil {
		if fault.KindOf(err) != fault.Internal && !errors.Is(err, fault.ErrInDoubt) {
			err = errors.Join(err, s.store.ReleaseAnswer(background, token, key, claim))
		}
		return 0, nil, err
	}
	claim.Status, claim.Body = status, s.vault.Seal(0, place, body)
	return status, body, s.store.SetAnswer(background, token, key, claim)
}

// earlier returns the answer to a request that was sent before.
func (s *Answers) earlier(a StoredAnswer, place []byte, now time.Time, token string, request []byte) (int, []byte,
	error) {
	same := false
	for _, sum := range s.mac.Sums([]byte(token), request) {
		same = same || hmac.Equal(sum[:], a.Request)
	}
	began := a.Until.Add(-AnswerLife)
	switch {
	case !same:
		return 0, nil, fault.New(fault.Mismatch, "this Idempotency-Key was used for another request; use a new one")
	case a.Status == 0 && now.Sub(began) < claimTime:
		e := fault.New(fault.Conflict, "the first request with this Idempotency-Key is not answered yet; "+
			"send this one again in a moment")
		e.RetryAfter = time.Second
		return 0, nil, e
	case a.Status == 0:
		return 0, nil, ErrUnknownOutcome
	}
	body, err := s.vault.Open(0, place, a.Body)
	if err != nil { // the seal key was replaced
		return 0, nil, ErrUnknownOutcome
	}
	return a.Status, body, nil
}

// ErrUnknownOutcome means that it is unknown whether the first request with a key was carried out.
var ErrUnknownOutcome = fault.New(fault.Conflict, "the server does not know how the first request with this "+
	"Idempotency-Key ended, and does not carry it out again; look whether it was carried out, and if not, send it "+
	"with a new key")

// Sweep removes expired answers.
func (s *Answers) Sweep(ctx context.Context) error {
	const limit = 500 // keeps a transaction short
	for {
		n, err := s.store.SweepAnswers(ctx, s.now(), limit)
		if err != nil || n < limit {
			return err
		}
	}
}
