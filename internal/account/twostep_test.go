package account

import (
	"errors"
	"strings"
	"testing"
	"time"

	"dialtone/internal/secret"
	"dialtone/internal/totp"
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
		strings.Repeat("-", 22) + "abcdefgh23": "abcdefgh23", strings.Repeat("-", 23) + "abcdefgh23": "",
	} {
		if got, ok := parseRecoveryCode(text); ok != (want != "") || ok && got != want {
			t.Errorf("%q is read as %q, %v", text, got, ok)
		}
	}
}

// TestOpenApp opens sealed values of other lengths than a secret has.
func TestOpenApp(t *testing.T) {
	vault := newAppSecrets(secret.NewRing(time.Now()))
	a := Account{Tenant: 1, User: "ann"}
	want := totp.NewSecret()
	for _, n := range []int{0, len(want) - 1, len(want), len(want) + 1} {
		plain := append(want[:], 0)[:n]
		got, err := openApp(vault, a, App{Sealed: vault.Seal(a.Tenant, place(a), plain)})
		if n != len(want) && !errors.Is(err, secret.ErrSeal) || n == len(want) && (err != nil || got != want) {
			t.Errorf("with %d bytes: %v", n, err)
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
