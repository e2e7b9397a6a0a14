package account

import (
	"strings"
	"testing"
)

func TestRecoveryCodes(t *testing.T) {
	seen := map[string]bool{}
	for range 100 {
		code := newRecoveryCode()
		plain, ok := parseRecoveryCode(code)
		if !ok || len(code) != 11 || code[5] != '-' || strings.ReplaceAll(code, "-", "") != plain || seen[code] {
			t.Errorf("%q is read as %q, %v", code, plain, ok)
		}
		seen[code] = true
	}
	for text, want := range map[string]string{
		"abcde-fgh23": "abcdefgh23", "ABCDE FGH23": "abcdefgh23", "oO0iI-lL1ab": "00011111ab",
		"oOiIl-Labcd": "001111abcd", "": "", "abcde-fgh2": "", "abcde-fgh234": "", "abcde-fghu2": "", "123456": "",
		strings.Repeat("-", 23) + "abcdefgh23": "",
	} {
		if got, ok := parseRecoveryCode(text); ok != (want != "") || ok && got != want {
			t.Errorf("%q is read as %q, %v", text, got, ok)
		}
	}
}

func FuzzParseRecoveryCode(f *testing.F) {
	f.Add("abcde-fgh23")
	f.Add("OIL")
	f.Fuzz(func(t *testing.T, text string) {
		code, ok := parseRecoveryCode(text)
		if !ok {
			return
		}
		if again, ok := parseRecoveryCode(code); !ok || again != code || len(code) != recoveryLength {
			t.Errorf("%q: %q", text, code)
		}
	})
}
