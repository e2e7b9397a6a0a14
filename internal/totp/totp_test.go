package totp

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"
)

// vectors is the secret of RFC 6238 appendix B.
var vectors = Secret([]byte("12345678901234567890"))

func TestCode(t *testing.T) {
	// The RFC has codes of eight digits. Ours are the last six of them.
	for at, want := range map[int64]string{
		59: "94287082", 1111111109: "07081804", 1111111111: "14050471", 1234567890: "89005924",
		2000000000: "69279037", 20000000000: "65353130",
	} {
		if got := vectors.Code(Step(time.Unix(at, 0))); got != want[2:] {
			t.Errorf("at %d: %s, want %s", at, got, want[2:])
		}
	}
}

func TestMatch(t *testing.T) {
	now := time.Unix(1111111109, 0)
	for offset, want := range map[int64]bool{-2: false, -1: true, 0: true, 1: true, 2: false} {
		step, ok := vectors.Match(vectors.Code(Step(now)+offset), now)
		if ok != want || ok && step != Step(now)+offset {
			t.Errorf("%d steps from now: %d, %v", offset, step-Step(now), ok)
		}
	}
	for _, code := range []string{"", "0", "081804 ", "07081804", "000000"} {
		if _, ok := vectors.Match(code, now); ok {
			t.Errorf("%q matches", code)
		}
	}
}

func TestURI(t *testing.T) {
	text := vectors.URI("Blue: Phone & Co", "ann@phone.test")
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	if u.Scheme != "otpauth" || u.Host != "totp" || u.Path != "/Blue  Phone & Co:ann@phone.test" {
		t.Errorf("got %s", text)
	}
	want := url.Values{
		"secret": {"GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"}, "issuer": {"Blue  Phone & Co"},
		"algorithm": {"SHA1"}, "digits": {"6"}, "period": {"30"},
	}
	if got := u.Query(); got.Encode() != want.Encode() {
		t.Errorf("got %v, want %v", got, want)
	}
	if strings.Contains(text, "+") {
		t.Errorf("%s has a plus sign, which apps show", text)
	}
}

func TestSecretDoesNotPrint(t *testing.T) {
	j, err := json.Marshal(vectors)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{fmt.Sprintf("%v %x %s", vectors, vectors, vectors), string(j)} {
		if strings.Contains(text, "1234") || strings.Contains(text, "3132") {
			t.Errorf("%q has the secret", text)
		}
	}
	if first, second := NewSecret(), NewSecret(); first == second {
		t.Error("two secrets are equal")
	}
}

func TestParseCode(t *testing.T) {
	for text, want := range map[string]string{
		"123456": "123456", "123 456": "123456", " 123-456 ": "123456", "": "", "12345": "", "1234567": "",
		"12345a": "", "１２３４５６": "", strings.Repeat(" ", 27) + "123456": "",
	} {
		got, ok := ParseCode(text)
		if got != want || ok != (want != "") {
			t.Errorf("%q: %q, %v", text, got, ok)
		}
	}
}

func FuzzParseCode(f *testing.F) {
	f.Add("123 456")
	f.Add("-")
	f.Fuzz(func(t *testing.T, text string) {
		code, ok := ParseCode(text)
		if !ok {
			return
		}
		if again, ok := ParseCode(code); !ok || again != code || len(code) != Digits {
			t.Errorf("%q: %q", text, code)
		}
		vectors.Match(code, time.Unix(59, 0))
	})
}
