package delivery

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"dialtone/internal/mailmsg"
)

func TestClassify(t *testing.T) {
	for _, c := range []struct {
		claim string
		err   error
		want  failure
	}{
		{"no connection", &Refusal{At: Connecting}, relayFailure},
		{"a greeting with 554", &Refusal{At: Connecting, Code: 554}, relayFailure},
		{"a wrong password", &Refusal{At: LoggingIn, Code: 535, Text: "5.7.8 no"}, relayFailure},
		{"a connection lost at the sender", &Refusal{At: Mail}, relayFailure},
		{"closing at the sender", &Refusal{At: Mail, Code: 421}, relayFailure},
		{"the sender refused for good", &Refusal{At: Mail, Code: 550, Text: "5.1.8 no"}, temporary},
		{"the sender refused for now", &Refusal{At: Mail, Code: 452}, temporary},
		{"the recipient refused for good", &Refusal{At: Rcpt, Code: 550, Text: "5.1.1 nobody"},
			permanent},
		{"the recipient refused for now", &Refusal{At: Rcpt, Code: 450}, temporary},
		{"a connection lost at the recipient", &Refusal{At: Rcpt}, temporary},
		{"closing at the recipient", &Refusal{At: Rcpt, Code: 421}, temporary},
		{"relaying denied", &Refusal{At: Rcpt, Code: 554, Text: "5.7.1 Relay access denied"}, temporary},
		{"commands in a wrong order", &Refusal{At: Rcpt, Code: 503, Text: "5.5.1 MAIL first"},
			temporary},
		{"the content refused for good", &Refusal{At: Data, Code: 554, Text: "5.6.0 no"}, permanent},
		{"the content refused by policy", &Refusal{At: Data, Code: 550, Text: "5.7.1 spam"}, permanent},
		{"the content refused for now", &Refusal{At: Data, Code: 451}, temporary},
		{"a connection lost at the content", &Refusal{At: Data}, temporary},
		{"a positive code in a refusal", &Refusal{At: Data, Code: 250}, temporary},
		{"a disk that fails", errors.New("input/output error"), temporary},
	} {
		if got := classify(fmt.Errorf("wrapped: %w", c.err)); got != c.want {
			t.Errorf("%s: %d, want %d", c.claim, got, c.want)
		}
	}
}

func TestBackoffTimes(t *testing.T) {
	for range 200 {
		last := time.Duration(0)
		for attempts := 1; attempts < 100; attempts++ {
			d := backoff(attempts)
			least := min(time.Minute<<min(attempts-1, 20), 200*time.Minute)
			if d < least || d > least+least/5 || d > 4*time.Hour {
				t.Fatalf("after %d attempts the back-off is %v", attempts, d)
			}
			last = d
		}
		if last < 200*time.Minute {
			t.Errorf("the longest back-off is %v", last)
		}
		for failures := 1; failures < 50; failures++ {
			d := relayPause(failures)
			longest := min(time.Second<<min(failures-1, 20), 5*time.Minute)
			if d > longest || d < longest-longest/5 {
				t.Fatalf("after %d failures the relay is paused for %v", failures, d)
			}
		}
	}
	seen := make(map[time.Duration]bool)
	for range 50 {
		seen[backoff(1)] = true
	}
	if len(seen) < 40 {
		t.Errorf("of 50 back-offs %d are different", len(seen))
	}
}

func TestAnswer(t *testing.T) {
	for text, want := range map[string]string{
		"no\r\nsuch\tuser \x1b[31m":   "550 no such user [31m",
		"a\u2028b\u0085c\x00":         "550 a b c",
		"\xff":                        "550 ?",
		strings.Repeat("wörter ", 99): "",
	} {
		got := (&Refusal{At: Rcpt, Code: 550, Text: text}).answer()
		if want != "" && got != want || len(got) > maxAnswer+len("…") || !utf8.ValidString(got) {
			t.Errorf("%q: got %q", text, got)
		}
	}
}

func TestWithoutAddresses(t *testing.T) {
	for answer, want := range map[string]string{
		"550 5.1.1 <Ann+x@mail.test>: Recipient address rejected": "550 5.1.1 <[address]>: Recipient address rejected",
		"550 no mailbox ann@mail.test, nor zoë@bücher.test":       "550 no mailbox [address], nor [address]",
		"2.0.0 Ok: queued as 430B29BE066":                         "2.0.0 Ok: queued as 430B29BE066",
	} {
		if got := withoutAddresses(answer); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// newWindow returns a window and its clock.
func newWindow(connections int) (w *window, now *time.Time) {
	now = new(time.Time)
	*now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	w = new(window)
	w.init(connections, func() time.Time { return *now })
	return w, now
}

// put adds n deliveries to fifty domains. Their numbers begin with from.
func put(w *window, from, n int) {
	var list []Delivery
	for i := from; i < from+n; i++ {
		list = append(list, Delivery{
			Message: mailmsg.ID{byte(i >> 8), byte(i)}, Email: fmt.Sprintf("a@%d.test", i%50),
		})
	}
	w.add(list)
}

// begin starts the next delivery.
func begin(t *testing.T, w *window) (attempt, int) {
	t.Helper()
	if w.first() < 0 {
		t.Fatal("no delivery may start")
	}
	d, generation, _ := w.next()
	return attempt{Delivery: d}, generation
}

func (o attempt) with(v failure) *attempt {
	o.err, o.failure, o.State = errors.New("no"), v, Deferred
	if v == permanent {
		o.State = Failed
	}
	return &o
}

func TestBackoffRelayDown(t *testing.T) {
	w, now := newWindow(4)
	put(w, 0, 100)
	var running []attempt
	var generations []int
	for range 4 {
		o, g := begin(t, w)
		running, generations = append(running, o), append(generations, g)
	}
	for i, o := range running {
		down := o.with(relayFailure)
		w.done(down, generations[i])
		if i == 0 && !down.Due.Equal(w.pausedUntil) {
			t.Error("the message is not due when the relay is tried again")
		}
	}
	if w.relayFailures != 1 {
		t.Errorf("four concurrent attempts that failed count as %d failures", w.relayFailures)
	}
	for n := 1; n < 12; n++ {
		if w.first() >= 0 {
			t.Fatal("the relay is not paused")
		}
		if left := w.pauseLeft(); left <= 0 || left > maxPause || n < 9 &&
			left < time.Second<<(n-1)*4/5 {
			t.Fatalf("after %d failures it is paused for %v", n, left)
		}
		*now = w.pausedUntil
		o, g := begin(t, w)
		if w.first() >= 0 {
			t.Fatal("a second message is sent during the probe")
		}
		w.done(o.with(relayFailure), g)
	}
	*now = w.pausedUntil
	o, g := begin(t, w)
	w.done(&o, g)
	if w.first() < 0 || w.pauseLeft() != 0 {
		t.Error("the relay works again and is still paused")
	}
}

func TestBackoffRelayAcceptsNothing(t *testing.T) {
	w, _ := newWindow(1)
	put(w, 0, 100)
	for i := range maxDeferredInRow {
		if w.pauseLeft() > 0 {
			t.Fatalf("paused after %d messages", i)
		}
		o, g := begin(t, w)
		w.done(o.with(temporary), g)
	}
	if w.pauseLeft() == 0 || w.first() >= 0 {
		t.Error("not paused")
	}
	for _, taken := range []failure{relayFailure, permanent} { // relayFailure means "sent" here
		w, _ := newWindow(1)
		put(w, 0, 100)
		for i := range 50 {
			o, g := begin(t, w)
			if i%maxDeferredInRow == maxDeferredInRow-1 {
				if taken == permanent {
					w.done(o.with(permanent), g)
				} else {
					w.done(&o, g)
				}
				continue
			}
			w.done(o.with(temporary), g)
		}
		if w.pauseLeft() > 0 {
			t.Error("paused although it accepts messages")
		}
	}
}

func TestWindowIsBounded(t *testing.T) {
	w, _ := newWindow(4)
	fetched := 0
	for range 100 {
		if _, _, ok := w.room(); !ok {
			break
		}
		put(w, fetched, batchSize)
		fetched += batchSize
	}
	if fetched > 2*batchSize {
		t.Errorf("the window holds %d", fetched)
	}
	// If one domain uses all its connections, messages to other domains are fetched, within the bound.
	w, _ = newWindow(4)
	slow := func(domain string) {
		var list []Delivery
		for range batchSize {
			fetched++
			list = append(list,
				Delivery{Message: mailmsg.ID{byte(fetched >> 8), byte(fetched), 1},
					Email: "a@" + domain})
		}
		w.add(list)
	}
	slow("slow.test")
	slow("slow.test")
	for range 3 {
		begin(t, w)
	}
	without, _, ok := w.room()
	if !ok || len(without) != 1 || without[0] != "slow.test" {
		t.Errorf("room %t, without %q", ok, without)
	}
	for range 50 {
		if _, _, ok := w.room(); !ok {
			break
		}
		slow("slow.test")
	}
	if len(w.held) > maxHeld {
		t.Errorf("the window holds %d", len(w.held))
	}
	put(w, 0, 3)
	w.add(nil)
	before := len(w.held)
	put(w, 0, 3)
	if len(w.held) != before {
		t.Error("the same delivery is held twice")
	}
}
