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

func TestJudge(t *testing.T) {
	for _, c := range []struct {
		what string
		err  error
		want verdict
	}{
		{"no connection", &Refusal{At: Connecting}, ours},
		{"a greeting with 554", &Refusal{At: Connecting, Code: 554}, ours},
		{"a wrong password", &Refusal{At: LoggingIn, Code: 535, Text: "5.7.8 no"}, ours},
		{"a connection lost at the sender", &Refusal{At: Mail}, ours},
		{"closing at the sender", &Refusal{At: Mail, Code: 421}, ours},
		{"the sender refused for good", &Refusal{At: Mail, Code: 550, Text: "5.1.8 no"}, later},
		{"the sender refused for now", &Refusal{At: Mail, Code: 452}, later},
		{"the recipient refused for good", &Refusal{At: Rcpt, Code: 550, Text: "5.1.1 nobody"}, forGood},
		{"the recipient refused for now", &Refusal{At: Rcpt, Code: 450}, later},
		{"a connection lost at the recipient", &Refusal{At: Rcpt}, later},
		{"closing at the recipient", &Refusal{At: Rcpt, Code: 421}, later},
		{"relaying denied", &Refusal{At: Rcpt, Code: 554, Text: "5.7.1 Relay access denied"}, later},
		{"commands in a wrong order", &Refusal{At: Rcpt, Code: 503, Text: "5.5.1 MAIL first"}, later},
		{"the content refused for good", &Refusal{At: Data, Code: 554, Text: "5.6.0 no"}, forGood},
		{"the content refused by policy", &Refusal{At: Data, Code: 550, Text: "5.7.1 spam"}, forGood},
		{"the content refused for now", &Refusal{At: Data, Code: 451}, later},
		{"a connection lost at the content", &Refusal{At: Data}, later},
		{"an answer that is none", &Refusal{At: Data, Code: 250}, later},
		{"a disk that fails", errors.New("input/output error"), later},
	} {
		if got := judge(fmt.Errorf("wrapped: %w", c.err)); got != c.want {
			t.Errorf("%s: %d, want %d", c.what, got, c.want)
		}
	}
}

func TestPauses(t *testing.T) {
	for range 200 {
		last := time.Duration(0)
		for tries := 1; tries < 100; tries++ {
			d := wait(tries)
			least := min(time.Minute<<min(tries-1, 20), 200*time.Minute)
			if d < least || d > least+least/5 || d > 4*time.Hour {
				t.Fatalf("after %d tries it waits %v", tries, d)
			}
			last = d
		}
		if last < 200*time.Minute {
			t.Errorf("in the end it waits %v", last)
		}
		for failures := 1; failures < 50; failures++ {
			d := pause(failures)
			most := min(time.Second<<min(failures-1, 20), 5*time.Minute)
			if d > most || d < most-most/5 {
				t.Fatalf("after %d failures the relay is left alone for %v", failures, d)
			}
		}
	}
	seen := make(map[time.Duration]bool)
	for range 50 {
		seen[wait(1)] = true
	}
	if len(seen) < 40 {
		t.Errorf("of 50 pauses %d are different", len(seen))
	}
}

func TestAnswersAreOneLineAndShort(t *testing.T) {
	for text, want := range map[string]string{
		"no\r\nsuch\tuser \x1b[31m":   "550 no such user [31m",
		"a\u2028b\u0085c\x00":         "550 a b c",
		"\xff":                        "550 ?",
		strings.Repeat("wörter ", 99): "",
	} {
		got := (&Refusal{At: Rcpt, Code: 550, Text: text}).answer()
		if want != "" && got != want || len(got) > longestAnswer+len("…") || !utf8.ValidString(got) {
			t.Errorf("%q is %q", text, got)
		}
	}
}

func TestLogsHaveNoAddresses(t *testing.T) {
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

// clocked is a window whose time is told.
func clocked(connections int) (w *window, now *time.Time) {
	now = new(time.Time)
	*now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	w = new(window)
	w.init(connections, func() time.Time { return *now })
	return w, now
}

func put(w *window, from, n int) {
	var list []Delivery
	for i := range n {
		list = append(list, Delivery{Message: mailmsg.ID{byte((from + i) >> 8), byte(from + i)}, Email: fmt.Sprintf("a@%d.test", (from+i)%50)})
	}
	w.add(list)
}

func begin(t *testing.T, w *window) (outcome, int) {
	t.Helper()
	if w.first() < 0 {
		t.Fatal("nothing may begin")
	}
	d, generation, _ := w.next()
	return outcome{Delivery: d}, generation
}

func (o outcome) with(v verdict) *outcome {
	o.err, o.verdict, o.State = errors.New("no"), v, Deferred
	if v == forGood {
		o.State = Failed
	}
	return &o
}

func TestRelayThatIsDownIsTriedByOneMessageAtATimeAndMoreAndMoreSeldom(t *testing.T) {
	w, now := clocked(4)
	put(w, 0, 100)
	var running []outcome
	var generations []int
	for range 4 {
		o, g := begin(t, w)
		running, generations = append(running, o), append(generations, g)
	}
	for i, o := range running {
		down := o.with(ours)
		w.finish(down, generations[i])
		if i == 0 && !down.Due.Equal(w.until) {
			t.Error("the message is not due when the relay is tried again")
		}
	}
	if w.failures != 1 {
		t.Errorf("four that broke at once count as %d failures", w.failures)
	}
	for n := 1; n < 12; n++ {
		if w.first() >= 0 {
			t.Fatal("the relay is not left alone")
		}
		if left := w.pausing(); left <= 0 || left > longestPause || n < 9 && left < time.Second<<(n-1)*4/5 {
			t.Fatalf("after %d failures it is left alone for %v", n, left)
		}
		*now = w.until
		o, g := begin(t, w)
		if w.first() >= 0 {
			t.Fatal("a second message tries with the first")
		}
		w.finish(o.with(ours), g)
	}
	*now = w.until
	o, g := begin(t, w)
	w.finish(&o, g)
	if w.first() < 0 || w.pausing() != 0 {
		t.Error("it is back, and left alone all the same")
	}
}

func TestRelayThatTakesNothingIsTreatedAsDown(t *testing.T) {
	w, _ := clocked(1)
	put(w, 0, 100)
	for i := range inARow {
		if w.pausing() > 0 {
			t.Fatalf("left alone after %d messages", i)
		}
		o, g := begin(t, w)
		w.finish(o.with(later), g)
	}
	if w.pausing() == 0 || w.first() >= 0 {
		t.Error("not left alone")
	}
	for _, taken := range []verdict{ours, forGood} { // sent, or refused for good: it answers about messages
		w, _ := clocked(1)
		put(w, 0, 100)
		for i := range 50 {
			o, g := begin(t, w)
			if i%inARow == inARow-1 {
				if taken == forGood {
					w.finish(o.with(forGood), g)
				} else {
					w.finish(&o, g)
				}
				continue
			}
			w.finish(o.with(later), g)
		}
		if w.pausing() > 0 {
			t.Error("left alone though it takes messages")
		}
	}
}

func TestWindowIsBounded(t *testing.T) {
	w, _ := clocked(4)
	fetched := 0
	for range 100 {
		if _, _, hungry := w.hungry(); !hungry {
			break
		}
		put(w, fetched, batch)
		fetched += batch
	}
	if fetched > 2*batch {
		t.Errorf("it holds %d", fetched)
	}
	// Of a domain that has all it may have, others are asked for, and not without end.
	w, _ = clocked(4)
	slow := func(domain string) {
		var list []Delivery
		for range batch {
			fetched++
			list = append(list, Delivery{Message: mailmsg.ID{byte(fetched >> 8), byte(fetched), 1}, Email: "a@" + domain})
		}
		w.add(list)
	}
	slow("slow.test")
	slow("slow.test")
	for range 3 {
		begin(t, w)
	}
	without, _, hungry := w.hungry()
	if !hungry || len(without) != 1 || without[0] != "slow.test" {
		t.Errorf("hungry %t, without %q", hungry, without)
	}
	for range 50 {
		if _, _, hungry := w.hungry(); !hungry {
			break
		}
		slow("slow.test")
	}
	if len(w.held) > mostHeld {
		t.Errorf("it holds %d", len(w.held))
	}
	put(w, 0, 3)
	w.add(nil)
	before := len(w.held)
	put(w, 0, 3)
	if len(w.held) != before {
		t.Error("the same is held twice")
	}
}
