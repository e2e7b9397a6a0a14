package redact_test

import (
	"errors"
	"strings"
	"testing"

	"dialtone/internal/redact"
	"dialtone/internal/test/printing"
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
		printed := printing.All(t, v)
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
