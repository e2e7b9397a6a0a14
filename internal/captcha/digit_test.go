package captcha

import (
	"testing"
	"unicode"
)

// TestDigitOf checks every code point. Decimal digits come in sets of ten consecutive code points.
func TestDigitOf(t *testing.T) {
	want := 0 // the value of the next digit
	for r := rune(0); r <= unicode.MaxRune; r++ {
		value, ok := digitOf(r)
		if !unicode.Is(unicode.Nd, r) {
			if ok || want != 0 {
				t.Errorf("%U is %d, %v, after a set of %d digits", r, value, ok, want)
			}
			continue
		}
		if !ok || value != want {
			t.Errorf("%U is %d, %v; want %d", r, value, ok, want)
		}
		want = (want + 1) % 10
	}
}

func TestParseAnswer(t *testing.T) {
	for text, want := range map[string]int{
		"": -1, " ": -1, "0": 0, "9": 9, "007": 7, "255": 255, "256": -1, "999": -1, "0007": -1, "1a": -1, "-1": -1,
	} {
		n, ok := parseAnswer(text)
		if ok != (want >= 0) || ok && int(n) != want {
			t.Errorf("%q is %d, %v; want %d", text, n, ok, want)
		}
	}
}
