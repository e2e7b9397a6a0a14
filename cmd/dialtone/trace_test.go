package main

import (
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"dialtone/internal/test/postgrestest"
	"dialtone/internal/test/smtptest"
)

// tracedSpan is a span in OTLP's JSON encoding, written from its specification.
type tracedSpan struct {
	TraceID, SpanID, ParentSpanID, Name string
	Kind                                int
	StartTimeUnixNano, EndTimeUnixNano  string
	Attributes                          []struct {
		Key   string
		Value struct{ StringValue, IntValue string }
	}
}

func (s tracedSpan) attribute(key string) string {
	for _, a := range s.Attributes {
		if a.Key == key {
			return a.Value.StringValue + a.Value.IntValue
		}
	}
	return ""
}

// spanReceiver is a collector of OpenTelemetry.
type spanReceiver struct {
	*httptest.Server
	mu     sync.Mutex
	spans  []tracedSpan
	bodies strings.Builder
}

func newSpanReceiver(t *testing.T, token string) *spanReceiver {
	c := new(spanReceiver)
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.mu.Lock()
		defer c.mu.Unlock()
		zip, err := gzip.NewReader(r.Body)
		if err != nil || r.URL.Path != "/v1/traces" || r.Header.Get("X-Token") != token {
			t.Errorf("%s: %v, %v", r.URL, err, r.Header)
			return
		}
		var body struct {
			ResourceSpans []struct {
				ScopeSpans []struct{ Spans []tracedSpan }
			}
		}
		text, err := io.ReadAll(zip)
		if err == nil {
			err = json.Unmarshal(text, &body)
		}
		if err != nil {
			t.Error(err)
			return
		}
		c.bodies.Write(text)
		for _, r := range body.ResourceSpans {
			for _, s := range r.ScopeSpans {
				c.spans = append(c.spans, s.Spans...)
			}
		}
		io.WriteString(w, "{}")
	}))
	t.Cleanup(c.Close)
	return c
}

// find returns the first span with a name that satisfies is.
func (c *spanReceiver) find(name string, is func(tracedSpan) bool) (tracedSpan, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.spans {
		if s.Name == name && is(s) {
			return s, true
		}
	}
	return tracedSpan{}, false
}

func anySpan(tracedSpan) bool { return true }

// The trace of a sign-up contains its writes and its message; deliveries have their own traces. A
// trusted proxy's trace is continued, another client's is not. Spans contain no personal data.
func TestTraces(t *testing.T) {
	t.Parallel()
	for _, engine := range []string{"SQLite", "PostgreSQL"} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			c := newSpanReceiver(t, "abc")
			dir := t.TempDir()
			header := filepath.Join(dir, "header")
			if err := os.WriteFile(header, []byte("X-Token: abc\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			relay := smtptest.Start(t, smtptest.Options{})
			hook := newWebhookServer(t, http.StatusNoContent)
			f := &hookFixture{T: t, dir: filepath.Join(dir, "data"), environ: []string{}}
			if engine == "PostgreSQL" {
				f.environ = append(f.environ, "DIALTONE_DATABASE="+postgrestest.Shared(t).Database(t))
			}
			trusted, stranger := nextAddress(), nextAddress()
			p := start(t, launch{data: f.dir, env: f.environ, flags: []string{
				"--trace-endpoint=" + c.URL, "--trace-sample=1", "--trace-header-file=" + header,
				"--mail-relay=smtp://" + relay.Address, "--http-trusted-proxies=" + trusted,
			}})
			f.command("directory", "hook", "add", "crm", "--webhook", hook.URL)

			const proxyTrace, proxySpan = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
			for _, from := range []string{trusted, stranger} {
				v := newVisitor(p.address, from)
				v.http.Transport = withHeaders{
					v.http.Transport.(*http.Transport),
					[]string{"Traceparent", "00-" + proxyTrace + "-" + proxySpan + "-01"},
				}
				if a, err := v.signup("visitor" + strings.ReplaceAll(from, ".", "x")); err != nil || !a.OK {
					t.Fatal(a, err)
				}
				v.leave()
			}
			f.addActive(p, "annabella")
			f.command("account", "disable", "annabella", "--tenant", "localhost")
			eventually(t, func() error {
				for _, name := range []string{"notification.send", "message.send"} {
					if _, ok := c.find(name, anySpan); !ok {
						return fmt.Errorf("no span %s", name)
					}
				}
				return nil
			})
			for name, labels := range map[string]map[string]string{
				"dialtone_hook_attempts_total": {"outcome": "delivered"},
				"dialtone_mail_tries_total":    {"outcome": "sent"},
			} {
				eventually(t, func() error {
					if n, _ := sample(p.scrape(t)[name], labels); n < 1 {
						return fmt.Errorf("%s is %v", name, n)
					}
					return nil
				})
			}
			p.mustStop(t)

			signup, ok := c.find("/signup.ashx", func(s tracedSpan) bool { return s.TraceID == proxyTrace })
			if !ok || signup.ParentSpanID != proxySpan || signup.Kind != 2 ||
				signup.attribute("http.response.status_code") != "200" ||
				signup.attribute("http.route") != "/signup.ashx" ||
				signup.attribute("dialtone.tenant") != "localhost" ||
				signup.attribute("http.request.method") != "POST" {
				t.Errorf("the sign-up behind the proxy: %v, %+v", ok, signup)
			}
			own, ok := c.find("/signup.ashx", func(s tracedSpan) bool { return s.TraceID != proxyTrace })
			if !ok || own.ParentSpanID != "" {
				t.Errorf("the sign-up of a stranger: %v, %+v", ok, own)
			}
			if s, ok := c.find("/signup.ashx", func(s tracedSpan) bool {
				return s.TraceID == proxyTrace && s.SpanID != signup.SpanID
			}); ok {
				t.Errorf("a second sign-up is in the trace of the proxy: %+v", s)
			}
			parts := []string{"store.write", "pickup.stage", "pickup.publish"}
			for _, name := range parts {
				if s, ok := c.find(name, func(s tracedSpan) bool { return s.ParentSpanID == signup.SpanID }); !ok ||
					s.TraceID != proxyTrace || s.EndTimeUnixNano < s.StartTimeUnixNano {
					t.Errorf("%s of the sign-up: %v, %+v", name, ok, s)
				}
			}
			for _, name := range []string{"store.wait", "store.commit"} {
				if _, ok := c.find(name, anySpan); !ok && engine == "SQLite" {
					t.Errorf("there is no %s", name)
				}
			}
			text := strings.ToLower(c.bodies.String())
			for _, personal := range []string{"visitor", "annabella", "example.test", trusted, stranger, "someone"} {
				if strings.Contains(text, personal) {
					t.Errorf("the spans contain %s", personal)
				}
			}
		})
	}
}

// A collector that does not answer delays no request, and its outage is logged.
func TestCollectorThatHangs(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	c := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer c.Close()
	defer close(release)
	p := start(t, launch{data: filepath.Join(t.TempDir(), "data"), flags: []string{
		"--trace-endpoint=" + c.URL, "--trace-sample=1",
	}})
	send(t, p.address, 6000, func(int) string { return "GET /captcha.ashx HTTP/1.1\r\nHost: localhost\r\n\r\n" })
	dropped := map[string]string{"outcome": "dropped"}
	if n, ok := sample(p.scrape(t)["dialtone_trace_spans_total"], dropped); !ok || n < 1000 {
		t.Errorf("%v spans were dropped", n)
	}
	p.mustStop(t)
	if !strings.Contains(p.stderr.String(), "traces not sent") {
		t.Errorf("the log does not have the outage: %s", p.stderr)
	}
}
