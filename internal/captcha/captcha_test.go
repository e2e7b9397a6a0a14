package captcha_test

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"

	"dialtone/internal/captcha"
	"dialtone/internal/secret"
)

var noon = time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)

// fixture is an Issuer with a clock that the test sets.
type fixture struct {
	*captcha.Issuer
	now  time.Time
	ring *secret.Ring
}

func newFixture() *fixture {
	d := &fixture{now: noon, ring: secret.NewRing(noon)}
	d.Issuer = captcha.NewIssuer(d.ring, func() time.Time { return d.now })
	return d
}

func solve(t testing.TB, q captcha.Question) int {
	t.Helper()
	var x, y int
	if n, err := fmt.Sscanf(q.Text, "%d + %d", &x, &y); n != 2 || err != nil || x < 1 || x > 9 ||
		y < 1 || y > 9 || q.Text != fmt.Sprintf("%d + %d", x, y) {
		t.Fatalf("the question is %q", q.Text)
	}
	return x + y
}

func TestAnswers(t *testing.T) {
	d := newFixture()
	for range 50 {
		q := d.Ask(1)
		right := solve(t, q)
		for n := -20; n <= 300; n++ {
			p := d.Check(1, q.Token, strconv.Itoa(n))
			if !p.Ours || p.Right != (n == right) {
				t.Fatalf("%s = %d: %+v", q.Text, n, p)
			}
		}
	}
	q := d.Ask(1)
	right := strconv.Itoa(solve(t, q))
	for answer, want := range map[string]bool{
		right: true, " " + right + " ": true, "": false, " ": false, "x": false, right + "x": false,
		right + ".0": false, "+" + right: false,
		"-" + right: false, "0x" + right: false, right + "\n": false, right + "\x00": false,
		strings.Repeat(" ", 5000) + "99": false,
		strings.Repeat("9", 5000):        false, "０": false,
	} {
		if p := d.Check(1, q.Token, answer); !p.Ours || p.Right != want {
			t.Errorf("%.20q for %s: %+v", answer, right, p)
		}
	}
}

func TestAnswerWithLeadingZeros(t *testing.T) {
	d := newFixture()
	q := d.Ask(1)
	right := solve(t, q)
	for answer, want := range map[string]bool{
		fmt.Sprintf("%02d", right): true, fmt.Sprintf("%03d", right): true,
		fmt.Sprintf("%04d", right): false,
	} {
		if p := d.Check(1, q.Token, answer); !p.Ours || p.Right != want {
			t.Errorf("%q for %d: %+v", answer, right, p)
		}
	}
}

// TestAnswerInAnyScript answers in the digits of every script that has decimal digits.
func TestAnswerInAnyScript(t *testing.T) {
	d := newFixture()
	q := d.Ask(1)
	right := strconv.Itoa(solve(t, q))
	in := func(zero rune, text string) string {
		var b strings.Builder
		for _, r := range text {
			b.WriteRune(zero + r - '0')
		}
		return b.String()
	}
	scripts := 0
	for zero := rune('0'); zero < unicode.MaxRune; zero++ {
		if !unicode.Is(unicode.Nd, zero) {
			continue
		}
		scripts++
		if p := d.Check(1, q.Token, in(zero, right)); !p.Right {
			t.Errorf("%q is not accepted as %s", in(zero, right), right)
		}
		zero += 9
	}
	if scripts < 60 {
		t.Fatalf("only %d sets of digits were tried", scripts)
	}
	for answer, want := range map[string]bool{
		"\u200f" + in('٠', right) + "\u200f": true, "\u061c" + right: true,
		"\u3000" + in('０', right) + "\u00a0": true, "\u2066" + right + "\u2069": true,
		in('٠', right) + "x": false, "Ⅳ": false, "²": false, "४٣२": false, "\u200f": false,
		right + "\u200f0": false,
	} {
		if p := d.Check(1, q.Token, answer); p.Right != want {
			t.Errorf("%q for %s: right is %v", answer, right, p.Right)
		}
	}
}

func TestTime(t *testing.T) {
	d := newFixture()
	q := d.Ask(1)
	answer := strconv.Itoa(solve(t, q))
	for after, want := range map[time.Duration]bool{
		0: true, 15*time.Minute - time.Nanosecond: true, 15 * time.Minute: false, time.Hour: false,
		-time.Minute: true, -time.Minute - time.Nanosecond: false, -time.Hour: false,
	} {
		d.now = noon.Add(after)
		if p := d.Check(1, q.Token, answer); p.Ours != want || p.Right != want {
			t.Errorf("%v after it was asked: %+v", after, p)
		}
	}
	// As long as any node accepts the token, no node may forget that it was spent.
	d.now = noon
	p := d.Check(1, q.Token, answer)
	d.now = p.Expires.Add(-time.Minute)
	if late := d.Check(1, q.Token, answer); late.Ours {
		t.Error("a node whose clock is a minute behind accepts a captcha that the others have forgotten")
	}
}

func TestProof(t *testing.T) {
	d := newFixture()
	q, other := d.Ask(1), d.Ask(1)
	right, wrong := d.Check(1, q.Token, strconv.Itoa(solve(t, q))), d.Check(1, q.Token, "99")
	if right.Nonce != wrong.Nonce || !right.Expires.Equal(wrong.Expires) {
		t.Error("a right and a wrong answer do not spend the same nonce")
	}
	if p := d.Check(1, other.Token, "1"); p.Nonce == right.Nonce {
		t.Error("two questions have the same nonce")
	}
	if p := d.Check(2, q.Token, strconv.Itoa(solve(t, q))); p != (captcha.Proof{}) {
		t.Errorf("at another tenant: %+v", p)
	}
}

// TestNonce checks that the nonce of a token that we issued is found, whether or not the token has expired.
func TestNonce(t *testing.T) {
	d := newFixture()
	q := d.Ask(1)
	want := d.Check(1, q.Token, "99").Nonce
	d.now = noon.Add(time.Hour)
	if got, ok := d.Nonce(1, q.Token); !ok || got != want {
		t.Errorf("got %x, %v, want %x", got, ok, want)
	}
	forged := strings.Replace(q.Token, q.Token[4:8], "____", 1)
	for _, token := range []string{"", "x", q.Token + "A", q.Token[4:], forged} {
		if _, ok := d.Nonce(1, token); ok {
			t.Errorf("%q has a nonce", token)
		}
	}
	if _, ok := d.Nonce(2, q.Token); ok {
		t.Error("another tenant has the nonce")
	}
}

func TestRotation(t *testing.T) {
	d := newFixture()
	q := d.Ask(1)
	answer := strconv.Itoa(solve(t, q))
	ring := d.ring
	for rotations, want := range []bool{true, true, false} {
		p := captcha.NewIssuer(ring, func() time.Time { return noon }).Check(1, q.Token, answer)
		if p.Ours != want || p.Right != want {
			t.Errorf("after %d rotations: %+v", rotations, p)
		}
		ring = ring.Rotated(noon, 2)
	}
	if p := captcha.NewIssuer(secret.NewRing(noon), func() time.Time { return noon }).Check(1,
		q.Token, answer); p.Ours {
		t.Error("another installation accepts the token")
	}
}

func TestTokenText(t *testing.T) {
	d := newFixture()
	q := d.Ask(1)
	answer := strconv.Itoa(solve(t, q))
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	variants := []string{"", q.Token[1:], q.Token + "A", q.Token + "=", q.Token + "==",
		q.Token + "\n", "\n" + q.Token, q.Token + " ", strings.ToLower(q.Token),
		strings.ToUpper(q.Token)}
	for i := range len(q.Token) {
		variants = append(variants, q.Token[:i]+"\n"+q.Token[i:], q.Token[:i]+"\r\n"+q.Token[i:])
		for _, c := range alphabet + "+/" {
			variants = append(variants, q.Token[:i]+string(c)+q.Token[i+1:])
		}
	}
	b, err := base64.RawURLEncoding.DecodeString(q.Token)
	if err != nil {
		t.Fatal(err)
	}
	variants = append(variants, base64.StdEncoding.EncodeToString(b),
		base64.URLEncoding.EncodeToString(append(b, 0)))
	for _, v := range variants {
		// If the answer code was changed, the token is still ours, but no answer is right.
		if p := d.Check(1, v, answer); v != q.Token && p.Right {
			t.Fatalf("%q is accepted for %q", v, q.Token)
		}
	}
	if !d.Check(1, q.Token, answer).Right {
		t.Error("the token itself is refused")
	}
}

// TestTokensDoNotLeakTheAnswer uses Pearson's chi-square test to compare each half byte of many
// tokens with the answer. There are 17 answers, and 16 values of a half byte, so there are
// (17-1)*(16-1) = 240 degrees of freedom. For independent values the statistic is about 240,
// with a standard deviation of sqrt(2*240) = 22. If a half byte depends on the answer, the
// statistic grows with the number of tokens, up to 16 times 10,000. The bound is eight standard
// deviations above the mean. For all 114 half bytes together, chance exceeds it in less than
// one of 10^12 runs.
func TestTokensDoNotLeakTheAnswer(t *testing.T) {
	const tokens, bound = 10000, 240 + 8*22
	d := newFixture()
	var answers [19]float64
	counts := make(map[[2]int]*[19]float64) // (index of the half byte, value) -> counts by answer
	seen := make(map[string]bool)
	halves := 0
	for range tokens {
		q := d.Ask(1)
		if seen[q.Token] {
			t.Fatal("two questions have the same token")
		}
		seen[q.Token] = true
		n := solve(t, q)
		answers[n]++
		b, err := base64.RawURLEncoding.DecodeString(q.Token)
		if err != nil {
			t.Fatal(err)
		}
		halves = 2 * len(b)
		for i, v := range b {
			for half, value := range [2]int{int(v >> 4), int(v & 15)} {
				key := [2]int{2*i + half, value}
				if counts[key] == nil {
					counts[key] = new([19]float64)
				}
				counts[key][n]++
			}
		}
	}
	for half := range halves {
		var statistic float64
		for value := range 16 {
			row := counts[[2]int{half, value}]
			if row == nil {
				continue
			}
			var total float64
			for _, n := range row {
				total += n
			}
			for n, got := range row {
				if expected := total * answers[n] / tokens; expected > 0 {
					statistic += (got - expected) * (got - expected) / expected
				}
			}
		}
		if statistic > bound {
			t.Errorf("half %d of byte %d depends on the answer: chi-square %.0f", half%2, half/2,
				statistic)
		}
	}
}

func FuzzCheck(f *testing.F) {
	d := newFixture()
	q := d.Ask(1)
	real := strconv.Itoa(solve(f, q))
	f.Add(q.Token, real)
	f.Add(q.Token, "99")
	f.Add(q.Token+"\n", real)
	f.Add("", "")
	f.Fuzz(func(t *testing.T, token, answer string) {
		p := d.Check(1, token, answer)
		ascii := strings.IndexFunc(answer, func(r rune) bool { return r > unicode.MaxASCII }) < 0
		if p.Right && (token != q.Token ||
			ascii && strings.TrimLeft(strings.Trim(answer, " "), "0") != real) {
			t.Fatalf("%q answers %q", answer, token)
		}
		if !p.Ours && p != (captcha.Proof{}) {
			t.Fatalf("a token that is not ours gave %+v", p)
		}
	})
}
