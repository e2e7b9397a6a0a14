package kamailio_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"dialtone/internal/fault"
	"dialtone/internal/hook"
	"dialtone/internal/hook/httpclient"
	"dialtone/internal/hook/kamailio"
	"dialtone/internal/redact"
)

// server is an HTTP server whose response to each RPC method is in a table. Kamailio 5.6.3 was
// observed to send these responses.
type server struct {
	*httptest.Server
	calls         []string
	authorization string
}

// Each response is an HTTP status and a body.
const (
	success    = `200 {"jsonrpc":"2.0","result":{},"id":1}`
	noKey      = `404 {"jsonrpc":"2.0","error":{"code":404,"message":"Key not found in htable."},"id":1}`
	noTable    = `500 {"jsonrpc":"2.0","error":{"code":500,"message":"No such htable"},"id":1}`
	noMethod   = `500 {"jsonrpc":"2.0","error":{"code":500,"message":"Method Not Found"},"id":1}`
	noMethod2  = `404 {"jsonrpc":"2.0","error":{"code":-32601,"message":"unknown"},"id":1}`
	noLocation = `500 {"jsonrpc":"2.0","error":{"code":500,"message":"Domain table not found"},"id":1}`
	noAOR      = `500 {"jsonrpc":"2.0","error":{"code":500,"message":"AOR not found in location table"},"id":1}`
	failure    = `500 {"jsonrpc":"2.0","error":{"code":500,"message":"Reload failed"},"id":1}`
)

func newServer(t *testing.T, responses map[string]string) *server {
	s := &server{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.authorization = r.Header.Get("Authorization")
		var call struct {
			JSONRPC, Method string
			ID              int
			Params          []string
		}
		text, _ := io.ReadAll(r.Body)
		if err := json.Unmarshal(text, &call); err != nil || call.JSONRPC != "2.0" || r.Method != http.MethodPost {
			t.Errorf("%s %s: %v", r.Method, text, err)
		}
		s.calls = append(s.calls, strings.Join(append([]string{call.Method}, call.Params...), " "))
		response, ok := responses[call.Method]
		if !ok {
			response = success
		}
		var code int
		fmt.Sscan(response, &code)
		w.WriteHeader(code)
		io.WriteString(w, response[4:])
	}))
	t.Cleanup(s.Close)
	return s
}

func newTransport(t *testing.T) *kamailio.Transport {
	client := httpclient.New()
	t.Cleanup(client.Close)
	return kamailio.New(client)
}

func TestSend(t *testing.T) {
	account := func(event hook.EventType) hook.Notification {
		return hook.Notification{Type: event, Host: "phone.test", Realm: "Phone.Test", User: "ann"}
	}
	disabled := account(hook.AccountDisabled)
	removed := hook.Notification{Type: hook.TenantRemoved}
	drops := []string{"htable.delete ha1 ann@phone.test", "htable.delete ha1 ann@Phone.Test@phone.test"}
	all := append(slices.Clone(drops), "ul.rm location ann@phone.test")
	reload := []string{"domain.reload"}
	responds := func(method, response string) map[string]string { return map[string]string{method: response} }
	for name, c := range map[string]struct {
		notification hook.Notification
		responses    map[string]string
		calls        []string
		err          string
		unavailable  bool
	}{
		"account disabled":                 {notification: disabled, calls: all},
		"account deleted":                  {notification: account(hook.AccountDeleted), calls: all},
		"role changed keeps registrations": {notification: account(hook.AccountRole), calls: drops},
		"tenant added": {
			notification: hook.Notification{Type: hook.TenantAdded, Realm: "x"}, calls: reload,
		},
		"key not in the htable is no error": {
			notification: disabled, responses: responds("htable.delete", noKey),
			calls: all,
		},
		"missing htable is no error": {
			notification: disabled, responses: responds("htable.delete", noTable),
			calls: all,
		},
		"missing module htable is no error": {
			notification: disabled, responses: responds("htable.delete", noMethod),
			calls: all,
		},
		"missing method by JSON-RPC code": {
			notification: disabled, responses: responds("htable.delete", noMethod2),
			calls: all,
		},
		"unknown AOR is no error": {
			notification: disabled, responses: responds("ul.rm", noAOR),
			calls: all,
		},
		"missing module domain is no error": {
			notification: removed, responses: responds("domain.reload", noMethod),
			calls: reload,
		},
		"reload fails": {
			notification: removed, responses: responds("domain.reload", failure),
			calls: reload, err: "domain.reload: Reload failed (500)",
		},
		"missing registrar": {
			notification: disabled, responses: responds("ul.rm", noMethod),
			calls: all, err: "ul.rm location: Method Not Found (500)",
		},
		"missing location table": {
			notification: disabled, responses: responds("ul.rm", noLocation),
			calls: all, err: "ul.rm location: Domain table not found (500)",
		},
		"htable fails": {
			notification: disabled, responses: responds("htable.delete", failure),
			calls: drops[:1], err: "htable.delete ha1: Reload failed (500)",
		},
		"wrong credentials make it unavailable": {
			notification: disabled, responses: responds("htable.delete", "401 "),
			calls: drops[:1], err: "it responded with 401 Unauthorized, without JSON-RPC", unavailable: true,
		},
		"HTML makes it unavailable": {
			notification: disabled, responses: responds("htable.delete", "200 <html>"),
			calls: drops[:1], err: "it responded without JSON-RPC", unavailable: true,
		},
		"other JSON makes it unavailable": {
			notification: disabled, responses: responds("htable.delete", "200 {}"),
			calls: drops[:1], err: "it responded without JSON-RPC", unavailable: true,
		},
		"realm that is another host name": {
			notification: hook.Notification{
				Type: hook.AccountDisabled, Host: "a.test", Realm: "B.test", User: "ann",
			},
			calls: []string{
				"htable.delete ha1 ann@a.test", "htable.delete ha1 ann@B.test@a.test",
				"htable.delete ha1 ann@b.test", "htable.delete ha1 ann@B.test@b.test",
				"ul.rm location ann@a.test", "ul.rm location ann@b.test",
			},
		},
		"realm that is no host name": {
			notification: hook.Notification{
				Type: hook.AccountDisabled, Host: "a.test", Realm: "Our Phones", User: "ann",
			},
			calls: []string{
				"htable.delete ha1 ann@a.test", "htable.delete ha1 ann@Our Phones@a.test",
				"ul.rm location ann@a.test",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t, c.responses)
			h := hook.Hook{Kind: hook.Kamailio, URL: s.URL + "/RPC"}
			err := newTransport(t).Send(t.Context(), h, redact.New("Bearer token"), c.notification)
			switch {
			case c.err == "" && err != nil, c.err != "" && (err == nil || !strings.HasSuffix(err.Error(), c.err)):
				t.Errorf("got %v, want %q", err, c.err)
			case errors.Is(err, hook.ErrUnavailable) != c.unavailable:
				t.Errorf("unavailable is not %v", c.unavailable)
			}
			if !slices.Equal(s.calls, c.calls) {
				t.Errorf("called %q, want %q", s.calls, c.calls)
			}
			if s.authorization != "Bearer token" {
				t.Errorf("Authorization is %q", s.authorization)
			}
		})
	}
}

func TestTransportTest(t *testing.T) {
	list := func(methods string) string { return `200 {"jsonrpc":"2.0","result":[` + methods + `],"id":1}` }
	for name, c := range map[string]struct{ response, report, err string }{
		"all methods": {
			response: list(`"core.version","ul.rm","htable.delete","domain.reload"`),
			report: "it responds, and can end registrations (ul.rm), drop cached credentials (htable.delete), " +
				"reload domains (domain.reload)",
		},
		"registrar only": {
			response: list(`"ul.rm"`),
			report: "it responds, and can end registrations (ul.rm); it does not cache credentials in an htable " +
				"(no htable.delete); it does not keep a list of domains (no domain.reload)",
		},
		"no registrar": {
			response: list(`"core.version"`),
			err:      "it does not have ul.rm and cannot end registrations; load the module usrloc",
		},
		"RPC error":  {response: noMethod, err: "system.listMethods: Method Not Found (500)"},
		"not a list": {response: success, err: "system.listMethods did not return a list"},
		"not JSON-RPC": {
			response: "403 no",
			err:      "the server is unavailable: it responded with 403 Forbidden, without JSON-RPC",
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t, map[string]string{"system.listMethods": c.response})
			report, err := newTransport(t).Test(t.Context(), hook.Hook{Kind: hook.Kamailio, URL: s.URL}, hook.Secret{})
			if report != c.report || c.err == "" && err != nil || c.err != "" && (err == nil || err.Error() != c.err) {
				t.Errorf("got %q, %v", report, err)
			}
			if s.authorization != "" {
				t.Errorf("Authorization is %q", s.authorization)
			}
		})
	}
}

func TestSecrets(t *testing.T) {
	s, err := kamailio.BearerSecret("to-ken")
	if err != nil || s.Reveal() != "Bearer to-ken" {
		t.Errorf("%q, %v", s.Reveal(), err)
	}
	s, err = kamailio.BasicSecret("Aladdin:open sesame") // the example of RFC 7617, section 2
	if err != nil || s.Reveal() != "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==" {
		t.Errorf("%q, %v", s.Reveal(), err)
	}
	for _, text := range []string{"", "two words", "line\nHost: other", "größe", "\x00"} {
		if _, err := kamailio.BearerSecret(text); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q is a bearer token: %v", text, err)
		}
	}
	for _, text := range []string{"", "user", ":password", "user:pass\nword"} {
		if _, err := kamailio.BasicSecret(text); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q is a user and a password: %v", text, err)
		}
	}
}
