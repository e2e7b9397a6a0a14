package delivery

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"
)

const (
	// firstBackoff and maxBackoff bound the back-off between two attempts of one message,
	// without jitter. Jitter adds up to a fifth, so the maximum is four hours.
	firstBackoff = time.Minute
	maxBackoff   = 200 * time.Minute
	// MaxWait is the longest time until a message is due again, including jitter.
	MaxWait = maxBackoff + maxBackoff/5
	// maxAge is how long delivery of a message is attempted.
	maxAge = 3 * 24 * time.Hour

	// firstPause and maxPause bound how long an unreachable relay is not tried.
	firstPause = time.Second
	maxPause   = 5 * time.Minute
	// maxDeferredInRow is how many messages in a row may be deferred before the relay is treated as
	// unreachable.
	maxDeferredInRow = 10
)

// failure is the scope of a failed attempt.
type failure int

const (
	relayFailure failure = iota // caused by the relay or the configuration, not by the message
	temporary                   // the message is deferred
	permanent                   // the message has failed
)

// classify returns the scope of a failed attempt. Errors other than a *Refusal are local and defer the message.
func classify(err error) failure {
	r, ok := errors.AsType[*Refusal](err)
	switch {
	case !ok:
		return temporary
	case r.At < Mail, r.At == Mail && (r.Code == 0 || r.Code == 421):
		return relayFailure
	case r.At == Mail, r.Code < 500 || r.Code > 599, r.aboutSender():
		return temporary
	}
	return permanent
}

// aboutSender reports whether a refusal of the recipient or the content is really about the sender:
// wrong command order, authentication, or at RCPT a policy (RFC 3463 section 3.8: X.7.X), by which
// servers reject relaying for us. Such a refusal says nothing about the recipient's address.
func (r *Refusal) aboutSender() bool {
	return r.Code == 503 || r.Code == 530 || r.Code == 535 ||
		r.At == Rcpt && strings.HasPrefix(r.Text, "5.7.")
}

// maxAnswer is how much of an answer is kept, in bytes.
const maxAnswer = 400

// answer returns the refusal's answer as one line.
func (r *Refusal) answer() string {
	if r.Code == 0 {
		return oneLine(r.Text)
	}
	return oneLine(strconv.Itoa(r.Code) + " " + r.Text)
}

// oneLine makes a remote server's text safe for logs and terminals: no control characters, and at
// most maxAnswer bytes.
func oneLine(text string) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
	text = strings.Join(strings.Fields(text), " ") // Unicode's line separators are spaces too
	if len(text) > maxAnswer {
		text = strings.ToValidUTF8(text[:maxAnswer], "") + "…"
	}
	return text
}

var addresses = regexp.MustCompile(`[^\s<>"'(),;:]+@[^\s<>"'(),;:]+`)

// withoutAddresses removes e-mail addresses from an answer before it is logged. Servers repeat
// the address that they refuse, and logs may be kept for years.
func withoutAddresses(answer string) string { return addresses.ReplaceAllString(answer, "[address]") }

// backoff returns the time until the next attempt of a message, with jitter.
func backoff(attempts int) time.Duration {
	d := doubled(firstBackoff, maxBackoff, attempts)
	return d + random(d/5)
}

// relayPause returns how long a relay is not tried after a number of consecutive failures, with jitter.
func relayPause(failures int) time.Duration {
	d := doubled(firstPause, maxPause, failures)
	return d - random(d/5)
}

// doubled returns first, doubled for each of times after the first, but at most limit.
func doubled(first, limit time.Duration, times int) time.Duration {
	return min(first<<min(max(times-1, 0), 20), limit) // 20 doublings exceed every limit
}

// random returns a random duration in [0, limit).
func random(limit time.Duration) time.Duration {
	var b [8]byte
	rand.Read(b[:])
	return time.Duration(binary.BigEndian.Uint64(b[:]) % uint64(limit))
}
