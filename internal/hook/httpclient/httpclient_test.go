package httpclient_test

import (
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"dialtone/internal/hook"
	"dialtone/internal/hook/httpclient"
)

func TestMain(m *testing.M) {
	// A client that uses the proxies of the environment fails.
	os.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	os.Setenv("HTTPS_PROXY", "http://127.0.0.1:1")
	os.Exit(m.Run())
}

func post(t *testing.T, h hook.Hook) (*http.Response, error) {
	t.Helper()
	c := httpclient.New()
	defer c.Close()
	resp, _, err := c.Post(t.Context(), h, nil, []byte("{}"))
	return resp, err
}

// TestPlainHTTP uses 0.0.0.0, which reaches this machine and is not private. The standard
// library would also use a proxy for this address.
func TestPlainHTTP(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer s.Close()
	_, port, _ := strings.Cut(strings.TrimPrefix(s.URL, "http://"), ":")
	for _, h := range []hook.Hook{
		{URL: s.URL},
		{URL: "http://localhost:" + port},
		{URL: "http://0.0.0.0:" + port, PlainHTTP: true},
	} {
		if _, err := post(t, h); err != nil {
			t.Errorf("%s: %v", h.URL, err)
		}
	}
	_, err := post(t, hook.Hook{URL: "http://0.0.0.0:" + port})
	if !errors.Is(err, hook.ErrPlainHTTP) || !errors.Is(err, hook.ErrUnavailable) {
		t.Errorf("http to an address that is not private: %v", err)
	}
}

func TestCertificateIsVerified(t *testing.T) {
	called := false
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		called = true
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	defer s.Close()
	_, err := post(t, hook.Hook{URL: s.URL})
	if !errors.Is(err, hook.ErrUnavailable) || !strings.Contains(err.Error(), "certificate") || called {
		t.Errorf("%v, called: %v", err, called)
	}
}

func TestErrorHasNoURL(t *testing.T) {
	_, err := post(t, hook.Hook{URL: "http://127.0.0.1:1/secret-path"})
	if !errors.Is(err, hook.ErrUnavailable) || strings.Contains(err.Error(), "secret-path") {
		t.Errorf("got %v", err)
	}
}

func TestCheckStatus(t *testing.T) {
	for code, want := range map[int]struct {
		text        string // empty for success
		unavailable bool
	}{
		200: {},
		204: {},
		302: {"it responded with 302 Found; redirects are not followed", true},
		400: {"it responded with 400 Bad Request", false},
		401: {"it responded with 401 Unauthorized", true},
		404: {"it responded with 404 Not Found", true},
		422: {"it responded with 422 Unprocessable Entity", false},
		500: {"it responded with 500 Internal Server Error", true},
		599: {"it responded with 599", true},
	} {
		err := httpclient.CheckStatus(&http.Response{StatusCode: code})
		switch {
		case want.text == "" && err != nil:
			t.Errorf("%d: %v", code, err)
		case want.text == "":
		case err == nil || !strings.Contains(err.Error(), want.text):
			t.Errorf("%d: %v", code, err)
		}
		if errors.Is(err, hook.ErrUnavailable) != want.unavailable {
			t.Errorf("%d: unavailable is not %v", code, want.unavailable)
		}
	}
}
