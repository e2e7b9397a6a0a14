package secret_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"dialtone/internal/redact"
	"dialtone/internal/secret"
	"dialtone/internal/test/printing"
)

var noon = time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)

func TestNothingPrints(t *testing.T) {
	key := secret.Key(bytes.Repeat([]byte{0xA7}, 32))
	token := secret.Token(bytes.Repeat([]byte{0xA7}, 32))
	for name, v := range map[string]any{
		"a key": key, "a token": token, "a pointer to a key": &key, "a pointer to a token": &token,
		"keys": []secret.Key{key}, "a token in a struct": struct{ T secret.Token }{token},
		"a map": map[string]secret.Key{"k": key},
	} {
		text := printing.All(t, v)
		for _, leak := range []string{
			"a7a7", "a7 a7", "167", "247", "10100111", "\xa7", "§", "p6en", "0xa7",
		} {
			if strings.Contains(text, leak) {
				t.Errorf("%s prints %q:\n%s", name, leak, text)
			}
		}
		if !strings.Contains(text, redact.Text) {
			t.Errorf("%s does not print as %s:\n%s", name, redact.Text, text)
		}
	}
}

func TestParseToken(t *testing.T) {
	token := secret.NewToken()
	text := token.Text()
	if got, ok := secret.ParseToken(text); !ok || got != token || len(text) != secret.TokenLength {
		t.Fatalf("%q is read as the token: %v, %v", text, got == token, ok)
	}
	if token.Hash() == secret.NewToken().Hash() {
		t.Error("two tokens have the same hash")
	}
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := strings.IndexByte(alphabet, text[42])
	for name, other := range map[string]string{
		"no text": "", "a shorter text": text[:42], "a longer text": text + "A",
		"padding": text + "=", "a line break inside": text[:9] + "\n" + text[9:],
		"a line break at the end": text + "\n", "a carriage return": text[:20] + "\r" + text[20:],
		"a space": " " + text, "the other alphabet": strings.Repeat("+", 43),
		"other low bits in the last character": text[:42] + alphabet[last^1:last^1+1],
	} {
		if _, ok := secret.ParseToken(other); ok {
			t.Errorf("accepted with %s", name)
		}
	}
}

func FuzzDecodeText(f *testing.F) {
	for _, s := range []string{"", "QQ", "QR", "Q", "QUI", "QU\nI", "QUI=", "+/+/", "-_-_"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		b, ok := secret.DecodeText(text)
		if !ok {
			return
		}
		// Each value has only one text, so a changed character must give another value or none.
		for i := range len(text) {
			other := text[:i] + string(rune('A'+(text[i]+1)%26)) + text[i+1:]
			if got, ok := secret.DecodeText(other); ok && other != text && bytes.Equal(got, b) {
				t.Fatalf("%q and %q are both %x", text, other, b)
			}
		}
		if strings.ContainsAny(text, "\r\n=+/ ") {
			t.Fatalf("%q is accepted", text)
		}
	})
}

func TestVault(t *testing.T) {
	ring := secret.NewRing(noon)
	vault := secret.NewVault(ring, "credential")
	place, value := []byte("uid 1"), []byte("a secret value")
	sealed := vault.Seal(1, place, value)
	if bytes.Contains(sealed, value) || bytes.Equal(sealed, vault.Seal(1, place, value)) {
		t.Error("a sealed value is visible, or is the same each time")
	}
	rotated := ring.Rotated(noon, 2)
	for _, v := range []*secret.Vault{
		vault, secret.NewVault(ring, "credential"), secret.NewVault(rotated, "credential"),
	} {
		if got, err := v.Open(1, place, sealed); err != nil || !bytes.Equal(got, value) {
			t.Errorf("got %q and %v", got, err)
		}
	}
	if got := secret.NewVault(rotated, "credential").Seal(1, place, value); bytes.Equal(got[:4], sealed[:4]) {
		t.Error("a rotated ring seals with the old key")
	}
	for name, open := range map[string]func() ([]byte, error){
		"at another place":   func() ([]byte, error) { return vault.Open(1, []byte("uid 2"), sealed) },
		"for another tenant": func() ([]byte, error) { return vault.Open(2, place, sealed) },
		"for another purpose": func() ([]byte, error) {
			return secret.NewVault(ring, "activation token").Open(1, place, sealed)
		},
		"with another ring": func() ([]byte, error) {
			return secret.NewVault(secret.NewRing(noon), "credential").Open(1, place, sealed)
		},
		"when the key is gone": func() ([]byte, error) {
			return secret.NewVault(ring.Rotated(noon, 1), "credential").Open(1, place, sealed)
		},
		"when it is empty": func() ([]byte, error) { return vault.Open(1, place, nil) },
	} {
		if got, err := open(); !errors.Is(err, secret.ErrSeal) || got != nil {
			t.Errorf("%s: got %q and %v", name, got, err)
		}
	}
	for i := range sealed {
		bad := bytes.Clone(sealed)
		bad[i] ^= 1
		if _, err := vault.Open(1, place, bad); !errors.Is(err, secret.ErrSeal) {
			t.Errorf("with byte %d changed: %v", i, err)
		}
		if _, err := vault.Open(1, place, sealed[:i]); !errors.Is(err, secret.ErrSeal) {
			t.Errorf("the first %d bytes: %v", i, err)
		}
	}
}

func TestMAC(t *testing.T) {
	ring := secret.NewRing(noon)
	mac := secret.NewMAC(ring, "session")
	otherMAC := secret.NewMAC(secret.NewRing(noon), "session")
	message := [][]byte{[]byte("ab"), []byte("c")}
	code := mac.Sum(message...)
	once, twice := ring.Rotated(noon, 2), ring.Rotated(noon, 2).Rotated(noon, 2)
	for name, c := range map[string]struct {
		want bool
		got  bool
	}{
		"the whole code":            {true, mac.Verify(code[:], message...)},
		"its first 16 bytes":        {true, mac.Verify(code[:16], message...)},
		"after one rotation":        {true, secret.NewMAC(once, "session").Verify(code[:], message...)},
		"after two rotations":       {false, secret.NewMAC(twice, "session").Verify(code[:], message...)},
		"fifteen bytes":             {false, mac.Verify(code[:15], message...)},
		"no bytes":                  {false, mac.Verify(nil, message...)},
		"33 bytes":                  {false, mac.Verify(append(code[:], 0), message...)},
		"the parts split elsewhere": {false, mac.Verify(code[:], []byte("a"), []byte("bc"))},
		"the parts joined":          {false, mac.Verify(code[:], []byte("abc"))},
		"an additional empty part":  {false, mac.Verify(code[:], []byte("ab"), []byte("c"), nil)},
		"another purpose":           {false, secret.NewMAC(ring, "device").Verify(code[:], message...)},
		"another ring":              {false, otherMAC.Verify(code[:], message...)},
		"the oldest key":            {true, secret.NewMAC(once.Oldest(), "session").Verify(code[:], message...)},
	} {
		if c.got != c.want {
			t.Errorf("%s: %v, want %v", name, c.got, c.want)
		}
	}
	for i := range code {
		bad := code
		bad[i] ^= 0x80
		if mac.Verify(bad[:], message...) {
			t.Errorf("accepted with byte %d changed", i)
		}
	}
}

func TestOrderedHash(t *testing.T) {
	made := time.UnixMilli(0x0102030405ff)
	token := secret.NewTokenAt(made)
	if want := []byte{1, 2, 3, 4, 5, 0xff}; !bytes.Equal(token[:6], want) {
		t.Errorf("the token begins with % x, want % x", token[:6], want)
	}
	if other := secret.NewTokenAt(made); other == token || other.OrderedHash() == token.OrderedHash() {
		t.Error("two tokens with the same time are the same")
	}
	hash, sum := token.OrderedHash(), token.Hash()
	if !bytes.Equal(hash[:6], token[:6]) || !bytes.Equal(hash[6:], sum[:26]) {
		t.Errorf("the hash % x is not the time and the first bytes of % x", hash, sum)
	}
}
