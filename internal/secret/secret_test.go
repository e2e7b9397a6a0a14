package secret_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"dialtone/internal/secret"
)

var noon = time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)

// timeless leaves the time out of a log, whose digits may be anything.
var timeless = &slog.HandlerOptions{ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && a.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return a
}}

func TestNothingPrints(t *testing.T) {
	key := secret.Key(bytes.Repeat([]byte{0xA7}, 32))
	token := secret.Token(bytes.Repeat([]byte{0xA7}, 32))
	for name, v := range map[string]any{
		"a key": key, "a token": token, "a pointer to a key": &key, "a pointer to a token": &token,
		"keys": []secret.Key{key}, "a token in a struct": struct{ T secret.Token }{token}, "a map": map[string]secret.Key{"k": key},
	} {
		var out strings.Builder
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "% x", "%d", "%o", "%b", "%c", "%U", "%t", "%e"} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(b)
		slog.New(slog.NewTextHandler(&out, timeless)).Info("x", "v", v)
		slog.New(slog.NewJSONHandler(&out, timeless)).Info("x", "v", v)
		text := strings.ToLower(out.String())
		for _, leak := range []string{"a7a7", "a7 a7", "167", "247", "10100111", "\xa7", "§", "p6en", "0xa7"} {
			if strings.Contains(text, leak) {
				t.Errorf("%s prints %q:\n%s", name, leak, text)
			}
		}
		if !strings.Contains(text, secret.Redacted) {
			t.Errorf("%s does not print as %s:\n%s", name, secret.Redacted, text)
		}
	}
}

func TestToken(t *testing.T) {
	token := secret.NewToken()
	text := token.Text()
	if got, ok := secret.ParseToken(text); !ok || got != token || len(text) != secret.TokenLength {
		t.Fatalf("%q reads as %v, %v", text, got == token, ok)
	}
	if token.Hash() == secret.NewToken().Hash() {
		t.Error("two tokens have one hash")
	}
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := strings.IndexByte(alphabet, text[42])
	for name, other := range map[string]string{
		"nothing": "", "a shorter text": text[:42], "a longer text": text + "A", "padding": text + "=", "a line break within": text[:9] + "\n" + text[9:],
		"a line break behind": text + "\n", "a carriage return": text[:20] + "\r" + text[20:], "a space": " " + text,
		"other low bits in the last character": text[:42] + alphabet[last^1:last^1+1], "the other alphabet": strings.Repeat("+", 43),
	} {
		if _, ok := secret.ParseToken(other); ok {
			t.Errorf("a token with %s is read", name)
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
		// One value has one text: changing any character gives another value or none.
		for i := range len(text) {
			other := text[:i] + string(rune('A'+(text[i]+1)%26)) + text[i+1:]
			if got, ok := secret.DecodeText(other); ok && other != text && bytes.Equal(got, b) {
				t.Fatalf("%q and %q are both %x", text, other, b)
			}
		}
		if strings.ContainsAny(text, "\r\n=+/ ") {
			t.Fatalf("%q is read", text)
		}
	})
}

func TestVault(t *testing.T) {
	ring := secret.NewRing(noon)
	vault := secret.NewVault(ring, "credential")
	place, value := []byte("uid 1"), []byte("a value that is secret")
	sealed := vault.Seal(1, place, value)
	if bytes.Contains(sealed, value) || bytes.Equal(sealed, vault.Seal(1, place, value)) {
		t.Error("what is sealed shows, or is the same each time")
	}
	rotated := ring.Rotated(noon, 2)
	for _, v := range []*secret.Vault{vault, secret.NewVault(ring, "credential"), secret.NewVault(rotated, "credential")} {
		if got, err := v.Open(1, place, sealed); err != nil || !bytes.Equal(got, value) {
			t.Errorf("got %q and %v", got, err)
		}
	}
	if got := secret.NewVault(rotated, "credential").Seal(1, place, value); bytes.Equal(got[:4], sealed[:4]) {
		t.Error("a rotated ring seals with the old key")
	}
	for name, open := range map[string]func() ([]byte, error){
		"at another place":    func() ([]byte, error) { return vault.Open(1, []byte("uid 2"), sealed) },
		"for another tenant":  func() ([]byte, error) { return vault.Open(2, place, sealed) },
		"for another purpose": func() ([]byte, error) { return secret.NewVault(ring, "activation token").Open(1, place, sealed) },
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
	message := [][]byte{[]byte("ab"), []byte("c")}
	code := mac.Sum(message...)
	once, twice := ring.Rotated(noon, 2), ring.Rotated(noon, 2).Rotated(noon, 2)
	for name, c := range map[string]struct {
		want bool
		got  bool
	}{
		"as it was made":        {true, mac.Verify(code[:], message...)},
		"its first 16 bytes":    {true, mac.Verify(code[:16], message...)},
		"after one rotation":    {true, secret.NewMAC(once, "session").Verify(code[:], message...)},
		"after two rotations":   {false, secret.NewMAC(twice, "session").Verify(code[:], message...)},
		"fifteen bytes":         {false, mac.Verify(code[:15], message...)},
		"no bytes":              {false, mac.Verify(nil, message...)},
		"33 bytes":              {false, mac.Verify(append(code[:], 0), message...)},
		"the parts cut apart":   {false, mac.Verify(code[:], []byte("a"), []byte("bc"))},
		"the parts joined":      {false, mac.Verify(code[:], []byte("abc"))},
		"an empty part besides": {false, mac.Verify(code[:], []byte("ab"), []byte("c"), nil)},
		"another purpose":       {false, secret.NewMAC(ring, "device").Verify(code[:], message...)},
		"another ring":          {false, secret.NewMAC(secret.NewRing(noon), "session").Verify(code[:], message...)},
		"the oldest key":        {true, secret.NewMAC(once.Oldest(), "session").Verify(code[:], message...)},
	} {
		if c.got != c.want {
			t.Errorf("%s: %v, want %v", name, c.got, c.want)
		}
	}
	for i := range code {
		bad := code
		bad[i] ^= 0x80
		if mac.Verify(bad[:], message...) {
			t.Errorf("with byte %d changed it is right", i)
		}
	}
}

func TestKeyFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "seal.key")
	if _, err := secret.ReadRing(path); !errors.Is(err, secret.ErrNoFile) {
		t.Fatalf("there is none: %v", err)
	}
	ring, err := secret.ReadOrCreate(path, noon)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("its mode is %v, %v", info.Mode(), err)
	}
	again, err := secret.ReadOrCreate(path, noon)
	if err != nil || again.IDs()[0] != ring.IDs()[0] {
		t.Errorf("the second time: %v", err)
	}
	before, _ := os.ReadFile(path)
	if err := secret.NewRing(noon).Create(path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("it is overwritten: %v", err)
	}
	if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
		t.Error("it was overwritten")
	}
	rotated := ring.Rotated(noon.Add(time.Hour), 2)
	if err := rotated.Replace(path); err != nil {
		t.Fatal(err)
	}
	read, err := secret.ReadRing(path)
	if err != nil || fmt.Sprint(read.IDs()) != fmt.Sprint(rotated.IDs()) || len(read.IDs()) != 2 || read.IDs()[1] != ring.IDs()[0] {
		t.Errorf("after a rotation: %v", err)
	}
	if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) != 1 {
		t.Errorf("%d files are left", len(entries))
	}
}

func TestKeyFileThatIsRefused(t *testing.T) {
	good := "v1 1772366400 " + strings.Repeat("a7", 32) + "\n"
	for _, c := range []struct {
		name, text string
		mode       fs.FileMode
		says       string
	}{
		{"is open to the group", good, 0o640, "chmod 600"},
		{"is open to the world", good, 0o604, "chmod 600"},
		{"is empty", "", 0o600, ":1:"},
		{"is short", good[:60] + "\n", 0o600, ":1:"},
		{"is of zeros", "v1 1772366400 " + strings.Repeat("0", 64) + "\n", 0o600, "zeros"},
		{"is of another version", "v2" + good[2:], 0o600, ":1:"},
		{"has a bad second line", good + "x\n", 0o600, ":2:"},
		{"has an empty line", good + "\n" + good, 0o600, ":2:"},
		{"has a word more", strings.TrimSpace(good) + " x\n", 0o600, ":1:"},
		{"has no time", strings.Replace(good, "1772366400", "now", 1), 0o600, "time"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "seal.key")
			if err := os.WriteFile(path, []byte(c.text), c.mode); err != nil {
				t.Fatal(err)
			}
			_, err := secret.ReadOrCreate(path, noon)
			if err == nil || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), path) {
				t.Errorf("got %v", err)
			}
			if err != nil && strings.Contains(err.Error(), "a7a7") {
				t.Errorf("the error has the key in it: %v", err)
			}
			if after, _ := os.ReadFile(path); string(after) != c.text {
				t.Error("the file was changed")
			}
		})
	}
}

func TestManyFirstStarts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "seal.key")
	ids := make([]string, 16)
	var all sync.WaitGroup
	for i := range ids {
		all.Go(func() {
			ring, err := secret.ReadOrCreate(path, noon)
			if err != nil {
				t.Error(err)
				return
			}
			ids[i] = ring.IDs()[0].String()
		})
	}
	all.Wait()
	for _, id := range ids {
		if id != ids[0] {
			t.Fatalf("they end with the keys %q", ids)
		}
	}
}
