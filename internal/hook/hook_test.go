package hook_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"dialtone/internal/fault"
	"dialtone/internal/hook"
	"dialtone/internal/redact"
	"dialtone/internal/secret"
)

func TestNew(t *testing.T) {
	valid := hook.Hook{Name: "sip-1", Kind: hook.Webhook, URL: "https://hooks.example.org/x?y=z"}
	withURL := func(url string) func(*hook.Hook) { return func(h *hook.Hook) { h.URL = url } }
	for name, c := range map[string]struct {
		change func(*hook.Hook)
		field  string // of the error, or empty
	}{
		"valid":               {func(*hook.Hook) {}, ""},
		"no name":             {func(h *hook.Hook) { h.Name = "" }, "name"},
		"longest name":        {func(h *hook.Hook) { h.Name = strings.Repeat("a", 64) }, ""},
		"name too long":       {func(h *hook.Hook) { h.Name = strings.Repeat("a", 65) }, "name"},
		"name with a newline": {func(h *hook.Hook) { h.Name = "a\nb" }, "name"},
		"name like a flag":    {func(h *hook.Hook) { h.Name = "-a" }, "name"},
		"no kind":             {func(h *hook.Hook) { h.Kind = "" }, "kind"},
		"a Kamailio":          {func(h *hook.Hook) { h.Kind = hook.Kamailio }, ""},
		"events of a webhook": {func(h *hook.Hook) { h.Events = hook.Events[:2] }, ""},
		"no such event":       {func(h *hook.Hook) { h.Events = []hook.EventType{"account.lost"} }, "events"},
		"events of a Kamailio": {func(h *hook.Hook) {
			h.Kind, h.Events = hook.Kamailio, hook.Events[:2]
		}, "events"},
		"http to this machine":          {withURL("http://127.0.0.1:5060/RPC"), ""},
		"http to this machine, by IPv6": {withURL("http://[::1]/RPC"), ""},
		"http to a private address":     {withURL("http://192.168.1.2/RPC"), ""},
		// The address of a name is checked at the time of the call.
		"http to a name":           {withURL("http://sip.internal/RPC"), ""},
		"http to a public address": {withURL("http://198.51.100.7/RPC"), "url"},
		"http to a public address, allowed": {func(h *hook.Hook) {
			h.URL, h.PlainHTTP = "http://198.51.100.7/RPC", true
		}, ""},
		"http to a public address, in IPv6 form": {withURL("http://[::ffff:198.51.100.7]/RPC"), "url"},
		"https to a public address":              {withURL("https://198.51.100.7/RPC"), ""},
		"no URL":                                 {withURL(""), "url"},
		"no scheme":                              {withURL("hooks.example.org/x"), "url"},
		"other scheme":                           {withURL("ftp://hooks.example.org/x"), "url"},
		"no host":                                {withURL("https:///x"), "url"},
		"port only":                              {withURL("https://:443/x"), "url"},
		"password":                               {withURL("https://ann:hunter2@hooks.example.org/"), "url"},
		"fragment":                               {withURL(valid.URL + "#a"), "url"},
		"space":                                  {withURL("https://hooks.example.org /"), "url"},
		"URL too long":                           {withURL(valid.URL + strings.Repeat("a", 2048)), "url"},
	} {
		h := valid
		c.change(&h)
		got, err := hook.New(h)
		f, _ := errors.AsType[*fault.Error](err)
		switch {
		case c.field == "" && (err != nil || got.ID == hook.ID{}):
			t.Errorf("%s: %v", name, err)
		case c.field == "":
		case f == nil || f.Kind != fault.Invalid || f.Field != c.field || strings.Contains(err.Error(), "hunter2"):
			t.Errorf("%s: %#v", name, err)
		}
	}
}

func TestIsPrivate(t *testing.T) {
	for text, want := range map[string]bool{
		"127.0.0.1": true, "127.9.9.9": true, "::1": true,
		"10.1.2.3": true, "172.16.0.1": true, "172.32.0.1": false, "192.168.0.1": true,
		"169.254.1.1": true, "fe80::1": true, "fd00::1": true, "fec0::1": false,
		"::ffff:10.0.0.1": true, "::ffff:8.8.8.8": false, "8.8.8.8": false, "100.64.0.1": false,
		"2001:db8::1": false, "0.0.0.0": false, "::": false, "224.0.0.1": false,
	} {
		if got := hook.IsPrivate(netip.MustParseAddr(text)); got != want {
			t.Errorf("IsPrivate(%s) = %v", text, got)
		}
	}
}

func TestSecretDoesNotPrint(t *testing.T) {
	s := redact.New("hunter2")
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		if got := fmt.Sprintf(verb, s); got != redact.Text {
			t.Errorf("%s prints %s", verb, got)
		}
		if got := fmt.Sprintf(verb, struct{ S hook.Secret }{s}); strings.Contains(got, s.Reveal()) {
			t.Errorf("%s of a struct prints %s", verb, got)
		}
	}
}

func TestSealer(t *testing.T) {
	l := hook.NewSealer(secret.NewRing(time.Unix(0, 0)))
	a, b := hook.Hook{ID: hook.ID{1}}, hook.Hook{ID: hook.ID{2}}
	l.Seal(&a, redact.New("secret"))
	if got, err := l.Open(a); err != nil || got.Reveal() != "secret" || strings.Contains(string(a.Sealed), "secret") {
		t.Errorf("%q, %v", got.Reveal(), err)
	}
	b.Sealed = a.Sealed
	if got, err := l.Open(b); err == nil {
		t.Errorf("the secret of another hook opens: %q", got.Reveal())
	}
	l.Seal(&b, hook.Secret{})
	if got, err := l.Open(b); err != nil || got != (hook.Secret{}) || len(b.Sealed) != 0 {
		t.Errorf("no secret: %q, %v", got.Reveal(), err)
	}
}

// batchQueue is a Queue with one hook and one batch of notifications.
type batchQueue struct {
	batch   []hook.Notification
	results chan []hook.Result
}

func (q *batchQueue) Due(context.Context, time.Time) ([]hook.Hook, error) {
	return []hook.Hook{{Kind: hook.Webhook}}, nil
}

func (q *batchQueue) Claim(
	context.Context, hook.ID, time.Time, time.Time, int,
) (batch []hook.Notification, err error) {
	batch, q.batch = q.batch, nil
	return batch, nil
}

func (q *batchQueue) Report(_ context.Context, results []hook.Result, _ time.Time) error {
	q.results <- results
	return nil
}

func (q *batchQueue) NotificationsAdded() <-chan struct{} { return nil }

func TestBackoff(t *testing.T) {
	now := time.Unix(0, 0)
	wants := map[int][2]time.Duration{
		0:    {time.Second, 2 * time.Second},
		1:    {time.Second, 2 * time.Second},
		2:    {2 * time.Second, 4 * time.Second},
		5:    {16 * time.Second, 32 * time.Second},
		9:    {256 * time.Second, 512 * time.Second},
		10:   {5 * time.Minute, 10 * time.Minute},
		1000: {5 * time.Minute, 10 * time.Minute},
	}
	q := &batchQueue{results: make(chan []hook.Result, 1)}
	for attempts := range wants {
		for range 100 {
			q.batch = append(q.batch, hook.Notification{Attempts: attempts, At: now})
		}
	}
	fails := sendFunc(func(hook.Notification) error { return errBroken })
	d := hook.NewDispatcher(hook.Deps{
		Queue:      q,
		Transports: map[hook.Kind]hook.Transport{hook.Webhook: fails},
		SealRing:   secret.NewRing(now),
		Log:        slog.New(slog.DiscardHandler),
		Now:        func() time.Time { return now },
	})
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { d.Run(ctx) })
	results := <-q.results
	cancel()
	running.Wait()
	if len(results) != 100*len(wants) {
		t.Errorf("%d results", len(results))
	}
	distinct := make(map[int]map[time.Duration]bool)
	for attempts := range wants {
		distinct[attempts] = make(map[time.Duration]bool)
	}
	for _, r := range results {
		got, want := r.RetryAt.Sub(now), wants[r.Attempts]
		if got < want[0] || got > want[1] {
			t.Errorf("after %d attempts: %v, want %v", r.Attempts, got, want)
		}
		distinct[r.Attempts][got] = true
	}
	for attempts, seen := range distinct {
		if len(seen) < 50 {
			t.Errorf("after %d attempts: %d different values of 100", attempts, len(seen))
		}
	}
}
