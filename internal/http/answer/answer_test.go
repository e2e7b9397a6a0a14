package answer

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"dialtone/internal/fault"
)

func TestKindOf(t *testing.T) {
	for kind, want := range kinds {
		if want.Status == 0 || want.Code == "" {
			t.Errorf("kind %d has no answer", kind)
		}
		err := fmt.Errorf("wrapped: %w", fault.New(fault.Kind(kind), "text"))
		if got := KindOf(err); got != want {
			t.Errorf("kind %d: %v, want %v", kind, got, want)
		}
	}
	if got := KindOf(errors.New("disk")); got.Status != http.StatusInternalServerError {
		t.Errorf("another error: %v", got)
	}
}

func TestErrorOf(t *testing.T) {
	internal := fault.New(fault.Internal, "disk sda")
	for _, c := range []struct {
		claim string
		err   error
		want  Error
	}{
		{"a refusal", fault.New(fault.Conflict, "taken"), Error{"conflict", "taken"}},
		{"with its field", fault.Field("user", "too long"), Error{"invalid_request", "user: too long"}},
		{"without its cause", &fault.Error{Kind: fault.Conflict, Message: "taken", Cause: internal},
			Error{"conflict", "taken"}},
		{"wrapped", fmt.Errorf("here: %w", fault.New(fault.Conflict, "taken")),
			Error{"conflict", "taken"}},
		{"other errors are not told", errors.New("disk sda"), Error{"server_error", "sorry"}},
		{"internal errors are not told", internal, Error{"server_error", "sorry"}},
	} {
		if got := ErrorOf(c.err, "sorry"); got != c.want {
			t.Errorf("%s: %v, want %v", c.claim, got, c.want)
		}
	}
}

func TestSetRetryAfter(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{fault.Limit(90*time.Second, "wait"), "90"},
		{fmt.Errorf("wrapped: %w", fault.Limit(time.Second, "wait")), "1"},
		{fault.New(fault.Conflict, "taken"), ""},
		{errors.New("disk"), ""},
	} {
		h := http.Header{}
		if SetRetryAfter(h, c.err); h.Get("Retry-After") != c.want {
			t.Errorf("%v: %q, want %q", c.err, h.Get("Retry-After"), c.want)
		}
	}
}

func TestJSON(t *testing.T) {
	w := httptest.NewRecorder()
	SetHeaders(w.Header())
	if err := JSON(w, http.StatusTeapot, map[string]int{"a": 1}); err != nil {
		t.Fatal(err)
	}
	h := w.Header()
	if w.Code != http.StatusTeapot || w.Body.String() != "{\"a\":1}\n" ||
		h.Get("Content-Type") != "application/json; charset=utf-8" || h.Get("Content-Length") != "" ||
		h.Get("Cache-Control") != "no-store" || h.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("%d %q %v", w.Code, w.Body, h)
	}

	w = httptest.NewRecorder()
	if err := JSON(w, http.StatusOK, strings.Repeat("x", 3000)); err != nil {
		t.Fatal(err)
	}
	if w.Header().Get("Content-Length") != "3003" {
		t.Errorf("length %q", w.Header().Get("Content-Length"))
	}

	w = httptest.NewRecorder()
	if err := JSON(w, http.StatusOK, func() {}); err == nil || w.Body.Len() > 0 {
		t.Errorf("%v, and %d bytes were sent", err, w.Body.Len())
	}
}
