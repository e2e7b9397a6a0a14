package webhook

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"dialtone/internal/hook"
	"dialtone/internal/hook/httpclient"
	"dialtone/internal/redact"
)

func TestSecret(t *testing.T) {
	one, other := NewSecret(), NewSecret()
	key, err := keyOf(one)
	if err != nil || len(key) != 32 || one == other || !strings.HasPrefix(one.Reveal(), "whsec_") {
		t.Errorf("%q: %x, %v", one.Reveal(), key, err)
	}
	for _, text := range []string{
		"", "Bearer x", "whsec_", "whsec_AAAA", strings.ToUpper(one.Reveal()),
	} {
		if _, err := keyOf(redact.New(text)); err == nil {
			t.Errorf("%q is a key", text)
		}
	}
}

func TestTransportTest(t *testing.T) {
	var body string
	status := http.StatusNoContent
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		body = string(text)
		w.WriteHeader(status)
	}))
	defer s.Close()
	client := httpclient.New()
	defer client.Close()
	tr := New(client, func() time.Time { return time.Date(2026, time.March, 1, 12, 0, 0, 5, time.UTC) })
	h := hook.Hook{Name: "crm", Kind: hook.Webhook, URL: s.URL}
	report, err := tr.Test(t.Context(), h, NewSecret())
	const want = `{"type":"hook.test","timestamp":"2026-03-01T12:00:00Z","data":{"hook":"crm"}}`
	if err != nil || report != "it accepted a message of the type hook.test" || body != want {
		t.Errorf("%q, %v: %s", report, err, body)
	}
	status = http.StatusGone
	_, err = tr.Test(t.Context(), h, NewSecret())
	if err == nil || err.Error() != "the server is unavailable: it responded with 410 Gone" {
		t.Errorf("status 410: %v", err)
	}
	body = ""
	if _, err := tr.Test(t.Context(), h, hook.Secret{}); err == nil || body != "" {
		t.Errorf("without a key: %v, sent %q", err, body)
	}
}
