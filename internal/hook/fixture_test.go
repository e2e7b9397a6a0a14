package hook_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"dialtone/internal/hook"
	"dialtone/internal/hook/httpclient"
	"dialtone/internal/hook/webhook"
	"dialtone/internal/tenant"
	"dialtone/internal/test/world"
	"dialtone/internal/trace"
)

// fixture is a World whose notifications a Dispatcher sends to real servers.
type fixture struct {
	*world.World
	tracer *trace.Tracer
	stop   func() // stops the Dispatcher
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	return &fixture{World: world.New(t, world.Options{
		Tenants: []tenant.Tenant{{Host: "phone.test", Realm: "Phone.Test"}}, RealTime: true,
	})}
}

// start runs a Dispatcher until stop.
func (f *fixture) start() {
	client := httpclient.New()
	d := hook.NewDispatcher(hook.Deps{
		Queue:      f.Store,
		Transports: map[hook.Kind]hook.Transport{hook.Webhook: webhook.New(client, f.Now)},
		SealRing:   f.SealRing,
		Log:        f.Logger,
		Now:        f.Now,
		Tracer:     f.tracer,
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { d.Run(ctx); close(done) }()
	f.stop = sync.OnceFunc(func() { cancel(); <-done; client.Close() })
	f.Cleanup(f.stop)
}

// addHook adds a webhook and returns its secret.
func (f *fixture) addHook(name, url string) hook.Secret {
	f.Helper()
	h, err := hook.New(hook.Hook{Name: name, Kind: hook.Webhook, URL: url, AllTenants: true, Created: f.Now()})
	f.Must(err)
	s := webhook.NewSecret()
	hook.NewSealer(f.SealRing).Seal(&h, s)
	f.Must(f.Store.AddHook(f.Context(), h))
	return s
}

// addActive adds active accounts.
func (f *fixture) addActive(users ...string) {
	f.Helper()
	for _, user := range users {
		f.Member(user)
	}
}

func (f *fixture) state(name string) hook.State {
	f.Helper()
	list, err := f.Store.Hooks(f.Context())
	f.Must(err)
	i := slices.IndexFunc(list, func(h hook.State) bool { return h.Name == name })
	if i < 0 {
		f.Fatalf("there is no hook %s", name)
	}
	return list[i]
}

// dueIn reports whether a notification is due when d has passed.
func (f *fixture) dueIn(d time.Duration) bool {
	f.Helper()
	list, err := f.Store.Due(f.Context(), f.Now().Add(d))
	f.Must(err)
	return len(list) > 0
}

// delivered waits until no notification of a hook is pending.
func (f *fixture) delivered(hook string) {
	f.Helper()
	f.Eventually("everything is delivered to "+hook, func() bool { return f.state(hook).Waiting == 0 })
}

// receiver is a server that receives webhooks.
type receiver struct {
	*httptest.Server
	mu       sync.Mutex
	got      []received
	respond  http.HandlerFunc // nil for 200
	now, max int              // concurrent requests
}

type received struct {
	header http.Header
	body   []byte
	user   string
	kind   string
}

func newReceiver(t *testing.T, respond http.HandlerFunc) *receiver {
	r := &receiver{respond: respond}
	r.Server = httptest.NewServer(http.HandlerFunc(r.serve))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) serve(w http.ResponseWriter, req *http.Request) {
	body, _ := io.ReadAll(req.Body)
	var m struct {
		Type string
		Data struct{ User string }
	}
	json.Unmarshal(body, &m)
	r.mu.Lock()
	r.got = append(r.got, received{req.Header, body, m.Data.User, m.Type})
	r.now++
	r.max = max(r.max, r.now)
	respond := r.respond
	r.mu.Unlock()
	if respond != nil {
		respond(w, req)
	}
	r.mu.Lock()
	r.now--
	r.mu.Unlock()
}

func (r *receiver) setRespond(respond http.HandlerFunc) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.respond = respond
}

func (r *receiver) requests() []received {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.got)
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

// hang returns a handler that does not respond until release is called or the client disconnects.
func hang() (respond http.HandlerFunc, release func()) {
	released := make(chan struct{})
	return func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-released:
		case <-r.Context().Done():
		}
	}, sync.OnceFunc(func() { close(released) })
}
