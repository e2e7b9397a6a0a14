package callout_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"dialtone/internal/callout"
	"dialtone/internal/hook"
)

func call(t *testing.T, h hook.Hook, s hook.Secret, n hook.Notification) error {
	t.Helper()
	c := callout.New(time.Now)
	defer c.Close()
	return c.Send(t.Context(), h, s, n)
}

// kamailio answers each command as the table says, in the words that Kamailio 5.6.3 was seen to use.
type kamailio struct {
	*httptest.Server
	called []string
	bearer string
}

const (
	empty      = `200 {"jsonrpc":"2.0","result":{},"id":1}`
	noKey      = `404 {"jsonrpc":"2.0","error":{"code":404,"message":"Key not found in htable."},"id":1}`
	noTable    = `500 {"jsonrpc":"2.0","error":{"code":500,"message":"No such htable"},"id":1}`
	noMethod   = `500 {"jsonrpc":"2.0","error":{"code":500,"message":"Method Not Found"},"id":1}`
	noMethod2  = `404 {"jsonrpc":"2.0","error":{"code":-32601,"message":"unknown"},"id":1}`
	noLocation = `500 {"jsonrpc":"2.0","error":{"code":500,"message":"Domain table not found"},"id":1}`
	noAOR      = `500 {"jsonrpc":"2.0","error":{"code":500,"message":"AOR not found in location table"},"id":1}`
	broken     = `500 {"jsonrpc":"2.0","error":{"code":500,"message":"Reload failed"},"id":1}`
)

func newKamailio(t *testing.T, answers map[string]string) *kamailio {
	k := &kamailio{}
	k.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		k.bearer = r.Header.Get("Authorization")
		var q struct {
			JSONRPC, Method string
			ID              int
			Params          []string
		}
		text, _ := io.ReadAll(r.Body)
		if err := json.Unmarshal(text, &q); err != nil || q.JSONRPC != "2.0" || r.Method != http.MethodPost {
			t.Errorf("%s %s: %v", r.Method, text, err)
		}
		k.called = append(k.called, strings.Join(append([]string{q.Method}, q.Params...), " "))
		answer, ok := answers[q.Method]
		if !ok {
			answer = empty
		}
		var code int
		fmt.Sscan(answer, &code)
		w.WriteHeader(code)
		io.WriteString(w, answer[4:])
	}))
	t.Cleanup(k.Close)
	return k
}

func TestKamailioIsTold(t *testing.T) {
	user := func(what hook.EventType) hook.Notification {
		return hook.Notification{Type: what, Host: "phone.test", Realm: "Phone.Test", User: "ann"}
	}
	cached := []string{"htable.delete ha1 ann@phone.test", "htable.delete ha1 ann@Phone.Test@phone.test"}
	all := append(slices.Clone(cached), "ul.rm location ann@phone.test")
	for name, c := range map[string]struct {
		notice  hook.Notification
		answers map[string]string
		called  []string
		err     string
		away    bool
	}{
		"a disabled account":            {notice: user(hook.AccountDisabled), called: all},
		"a deleted account":             {notice: user(hook.AccountDeleted), called: all},
		"another password":              {notice: user(hook.AccountPassword), called: all},
		"a role, which keeps the phone": {notice: user(hook.AccountRole), called: cached},
		"a realm that is another host name": {notice: hook.Notification{Type: hook.AccountDisabled, Host: "a.test", Realm: "B.test", User: "ann"}, called: []string{
			"htable.delete ha1 ann@a.test", "htable.delete ha1 ann@B.test@a.test", "htable.delete ha1 ann@b.test", "htable.delete ha1 ann@B.test@b.test",
			"ul.rm location ann@a.test", "ul.rm location ann@b.test"}},
		"a realm that is no host name": {notice: hook.Notification{Type: hook.AccountDisabled, Host: "a.test", Realm: "Our Phones", User: "ann"}, called: []string{
			"htable.delete ha1 ann@a.test", "htable.delete ha1 ann@Our Phones@a.test", "ul.rm location ann@a.test"}},
		"a new tenant":                        {notice: hook.Notification{Type: hook.TenantAdded, Realm: "x"}, called: []string{"domain.reload"}},
		"nothing was cached":                  {notice: user(hook.AccountDisabled), answers: map[string]string{"htable.delete": noKey}, called: all},
		"it has no such table":                {notice: user(hook.AccountDisabled), answers: map[string]string{"htable.delete": noTable}, called: all},
		"it has no tables":                    {notice: user(hook.AccountDisabled), answers: map[string]string{"htable.delete": noMethod}, called: all},
		"it has no tables, by JSON-RPC's own": {notice: user(hook.AccountDisabled), answers: map[string]string{"htable.delete": noMethod2}, called: all},
		"nobody was registered":               {notice: user(hook.AccountDisabled), answers: map[string]string{"ul.rm": noAOR}, called: all},
		"it has no list of domains":           {notice: hook.Notification{Type: hook.TenantRemoved}, answers: map[string]string{"domain.reload": noMethod}, called: []string{"domain.reload"}},
		"it cannot read its domains":          {notice: hook.Notification{Type: hook.TenantRemoved}, answers: map[string]string{"domain.reload": broken}, called: []string{"domain.reload"}, err: "domain.reload: Reload failed (500)"},
		"it has no registrar":                 {notice: user(hook.AccountDisabled), answers: map[string]string{"ul.rm": noMethod}, called: all, err: "ul.rm location: Method Not Found (500)"},
		"it has another table of locations":   {notice: user(hook.AccountDisabled), answers: map[string]string{"ul.rm": noLocation}, called: all, err: "ul.rm location: Domain table not found (500)"},
		"it refuses to forget":                {notice: user(hook.AccountDisabled), answers: map[string]string{"htable.delete": broken}, called: cached[:1], err: "htable.delete ha1: Reload failed (500)"},
		"it wants another token":              {notice: user(hook.AccountDisabled), answers: map[string]string{"htable.delete": "401 "}, called: cached[:1], err: "it answers 401 Unauthorized, and no JSON-RPC", away: true},
		"it is something else":                {notice: user(hook.AccountDisabled), answers: map[string]string{"htable.delete": "200 <html>"}, called: cached[:1], err: "what answers there is no JSON-RPC", away: true},
		"it answers other JSON":               {notice: user(hook.AccountDisabled), answers: map[string]string{"htable.delete": "200 {}"}, called: cached[:1], err: "what answers there is no JSON-RPC", away: true},
	} {
		t.Run(name, func(t *testing.T) {
			k := newKamailio(t, c.answers)
			err := call(t, hook.Hook{Kind: hook.Kamailio, URL: k.URL + "/RPC"}, "Bearer token", c.notice)
			if c.err == "" && err != nil || c.err != "" && (err == nil || !strings.HasSuffix(err.Error(), c.err)) || errors.Is(err, hook.ErrUnavailable) != c.away {
				t.Errorf("got %v, want %q", err, c.err)
			}
			if !slices.Equal(k.called, c.called) {
				t.Errorf("called %q, want %q", k.called, c.called)
			}
			if k.bearer != "Bearer token" {
				t.Errorf("it was shown %q", k.bearer)
			}
		})
	}
}

func TestKamailioIsTried(t *testing.T) {
	list := func(methods string) string { return `200 {"jsonrpc":"2.0","result":[` + methods + `],"id":1}` }
	for name, c := range map[string]struct{ answer, said, err string }{
		"it can do all": {answer: list(`"core.version","ul.rm","htable.delete","domain.reload"`),
			said: "it answers, and can end registrations (ul.rm), forget what it looked up (htable.delete), read domains anew (domain.reload)"},
		"it can end registrations": {answer: list(`"ul.rm"`),
			said: "it answers, and can end registrations (ul.rm); it keeps nothing that it looked up in an htable (no htable.delete); it keeps no list of domains (no domain.reload)"},
		"it is no registrar": {answer: list(`"core.version"`), err: "it has no ul.rm, and so cannot be told to end a registration; load the module usrloc"},
		"it refuses":         {answer: noMethod, err: "system.listMethods: Method Not Found (500)"},
		"it says no list":    {answer: empty, err: "system.listMethods gives no list"},
		"it is another":      {answer: "403 no", err: "the server is away: it answers 403 Forbidden, and no JSON-RPC"},
	} {
		t.Run(name, func(t *testing.T) {
			k := newKamailio(t, map[string]string{"system.listMethods": c.answer})
			client := callout.New(time.Now)
			defer client.Close()
			said, err := client.Test(t.Context(), hook.Hook{Kind: hook.Kamailio, URL: k.URL}, "")
			if said != c.said || c.err == "" && err != nil || c.err != "" && (err == nil || err.Error() != c.err) {
				t.Errorf("got %q, %v", said, err)
			}
			if k.bearer != "" {
				t.Errorf("it was shown %q", k.bearer)
			}
		})
	}
}

func TestWebhookIsTried(t *testing.T) {
	var body string
	status := http.StatusNoContent
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		body = string(text)
		w.WriteHeader(status)
	}))
	defer s.Close()
	at := time.Date(2026, time.March, 1, 12, 0, 0, 5, time.UTC)
	client := callout.New(func() time.Time { return at })
	defer client.Close()
	h := hook.Hook{Name: "crm", Kind: hook.Webhook, URL: s.URL}
	said, err := client.Test(t.Context(), h, hook.NewWebhookSecret())
	if err != nil || said != "it took a message of the type hook.test" || body != `{"type":"hook.test","timestamp":"2026-03-01T12:00:00Z","data":{"hook":"crm"}}` {
		t.Errorf("%q, %v: %s", said, err, body)
	}
	status = http.StatusGone
	if _, err := client.Test(t.Context(), h, hook.NewWebhookSecret()); err == nil || err.Error() != "the server is away: it answers 410 Gone" {
		t.Errorf("a refusal: %v", err)
	}
	if _, err := client.Test(t.Context(), h, ""); err == nil {
		t.Error("it was called without a key")
	}
}

// The address of a name is looked at when it is called. 0.0.0.0 is this machine too, and yet not private; nor is it an address that
// the standard library would keep from a proxy.
func TestPlainHTTPStaysAtHome(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer s.Close()
	_, port, _ := strings.Cut(strings.TrimPrefix(s.URL, "http://"), ":")
	key := hook.NewWebhookSecret()
	for _, h := range []hook.Hook{{URL: s.URL}, {URL: "http://localhost:" + port}, {URL: "http://0.0.0.0:" + port, PlainHTTP: true}} {
		h.Kind = hook.Webhook
		if err := call(t, h, key, hook.Notification{}); err != nil {
			t.Errorf("%s: %v", h.URL, err)
		}
	}
	if err := call(t, hook.Hook{Kind: hook.Webhook, URL: "http://0.0.0.0:" + port}, key, hook.Notification{}); !errors.Is(err, hook.ErrPlainHTTP) || !errors.Is(err, hook.ErrUnavailable) {
		t.Errorf("http to an address that is not private: %v", err)
	}
}

func TestMain(m *testing.M) {
	// Whoever asks the environment for a proxy finds one that is not there.
	os.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	os.Setenv("HTTPS_PROXY", "http://127.0.0.1:1")
	os.Exit(m.Run())
}

// A certificate that nobody vouches for is not taken.
func TestCertificateIsChecked(t *testing.T) {
	called := false
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { called = true }))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	defer s.Close()
	err := call(t, hook.Hook{Kind: hook.Webhook, URL: s.URL}, hook.NewWebhookSecret(), hook.Notification{})
	if !errors.Is(err, hook.ErrUnavailable) || !strings.Contains(err.Error(), "certificate") || called {
		t.Errorf("%v, called: %v", err, called)
	}
}
