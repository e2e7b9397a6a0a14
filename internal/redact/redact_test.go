package redact_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"dialtone/internal/redact"
)

func TestNothingPrints(t *testing.T) {
	text := redact.New("hunter2")
	type config struct {
		Password redact.Of[string]
		Keys     map[string]redact.Of[[4]byte]
	}
	for name, v := range map[string]any{
		"a text": text, "bytes": redact.New([]byte("hunter2")), "a pointer": &text,
		"an array": redact.New([4]byte{0xA7, 0xA7, 0xA7, 0xA7}), "a list": []redact.Of[string]{text},
		"a struct": config{text, map[string]redact.Of[[4]byte]{"k": redact.New([4]byte{0xA7})}},
		"an error": redact.New(errors.New("hunter2")),
	} {
		var out strings.Builder
		for _, verb := range []string{
			"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "% x", "%d", "%o", "%b", "%c", "%U", "%t", "%e",
		} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(b)
		slog.New(slog.NewTextHandler(&out, nil)).Info("x", "v", v)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "v", v)
		printed := strings.ToLower(out.String())
		for _, leak := range []string{"hunter2", "68756e74", "aHVudGVyMg", "a7", "0xa7", "68 75"} {
			if strings.Contains(printed, strings.ToLower(leak)) {
				t.Errorf("%s prints %q:\n%s", name, leak, printed)
			}
		}
		if !strings.Contains(printed, redact.Text) {
			t.Errorf("%s does not print as %s:\n%s", name, redact.Text, printed)
		}
	}
}

func TestReveal(t *testing.T) {
	if got := redact.New("hunter2"); got.Reveal() != "hunter2" || got != redact.New("hunter2") {
		t.Errorf("%q", got.Reveal())
	}
}
