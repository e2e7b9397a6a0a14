package delivery

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"regexp"
	"strconv"
	"strings"
	"time"
)

const (
	// firstWait and longestWait are the pauses between the tries of one message, of which chance adds a fifth.
	firstWait   = time.Minute
	longestWait = 200 * time.Minute // four hours with what chance adds
	// patience is for how long a message is tried.
	patience = 3 * 24 * time.Hour

	// firstPause and longestPause are for how long a relay is left alone that cannot be reached.
	firstPause   = time.Second
	longestPause = 5 * time.Minute
	// inARow is how many messages may be put off one after the other before the relay is taken for one that takes nothing.
	inARow = 10
)

// verdict is whose fault a refusal is.
type verdict int

const (
	ours    verdict = iota // the relay's, or the configuration's: no message's
	later                  // the message is put off
	forGood                // the message has failed
)

// judge says what a failed try comes to. Errors other than a refusal are trouble on this machine, and put the message off.
func judge(err error) verdict {
	r, ok := errors.AsType[*Refusal](err)
	switch {
	case !ok:
		return later
	case r.At < Mail, r.At == Mail && (r.Code == 0 || r.Code == 421):
		return ours
	case r.At == Mail, r.Code < 500 || r.Code > 599, r.aboutUs():
		return later
	}
	return forGood
}

// aboutUs reports a refusal of recipient or content that is about who sends: commands in a wrong order, authentication, and, at the
// recipient, policy (RFC 3463 §3.8: X.7.X), by which servers say that they do not relay for us. What is refused so is not the fault of
// the address.
func (r *Refusal) aboutUs() bool {
	return r.Code == 503 || r.Code == 530 || r.Code == 535 || r.At == Rcpt && strings.HasPrefix(r.Text, "5.7.")
}

// longestAnswer bounds what is kept of an answer, in bytes.
const longestAnswer = 400

// answer is a refusal's answer as one line.
func (r *Refusal) answer() string {
	if r.Code == 0 {
		return oneLine(r.Text)
	}
	return oneLine(strconv.Itoa(r.Code) + " " + r.Text)
}

// oneLine is a text of another's for logs and terminals: without control characters, and not too long.
func oneLine(text string) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == '\u2028' || r == '\u2029' {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > longestAnswer {
		text = strings.ToValidUTF8(text[:longestAnswer], "") + "…"
	}
	return text
}

var addresses = regexp.MustCompile(`[^\s<>"'(),;:]+@[^\s<>"'(),;:]+`)

// withoutAddresses is an answer as a log may have it, which lies around for years: servers like to repeat whom they refuse.
func withoutAddresses(answer string) string { return addresses.ReplaceAllString(answer, "[address]") }

// wait is the pause after so many tries of a message.
func wait(attempts int) time.Duration {
	d := doubled(firstWait, longestWait, attempts)
	return d + chance(d/5)
}

// pause is for how long a relay is left alone that could not be reached so many times.
func pause(failures int) time.Duration {
	d := doubled(firstPause, longestPause, failures)
	return d - chance(d/5)
}

// doubled is first, doubled with every time after the first, and most at most.
func doubled(first, most time.Duration, times int) time.Duration {
	d := first
	for range min(times, 30) - 1 {
		if d *= 2; d >= most {
			return most
		}
	}
	return d
}

// chance is a duration from 0 to below most.
func chance(most time.Duration) time.Duration {
	var b [8]byte
	rand.Read(b[:])
	return time.Duration(binary.BigEndian.Uint64(b[:]) % uint64(most))
}
