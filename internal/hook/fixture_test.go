package hook_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/captcha"
	"dialtone/internal/hook"
	"dialtone/internal/hook/httpclient"
	"dialtone/internal/hook/webhook"
	"dialtone/internal/secret"
	"dialtone/internal/store"
	"dialtone/internal/tenant"
	"dialtone/internal/test/teststore"
	"dialtone/internal/throttle"
)

var noon = time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)

// fixture is a store whose notifications a Dispatcher sends to real servers.
type fixture struct {
	*testing.T
	store  *store.Store
	ring   *secret.Ring
	tenant int64
	log    *logBuffer
	offset atomic.Int64 // of the clock
	stop   func()       // stops the Dispatcher
}

// logBuffer is a log that may be read while it is written.
type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logBuffer) count(text string) int {
	return strings.Count(l.String(), text)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{T: t, ring: secret.NewRing(noon), log: &logBuffer{}}
	var err error
	f.store, err = teststore.Open(t.Context(), filepath.Join(t.TempDir(), "dialtone.db"), f.ring)
	f.must(err)
	t.Cleanup(func() { f.store.Close() })
	added, err := f.store.AddTenant(t.Context(), tenant.Tenant{
		Host: "phone.test", Realm: "Phone.Test", Created: noon,
	})
	f.must(err)
	f.tenant = added.ID
	return f
}

func (f *fixture) must(err error) {
	f.Helper()
	if err != nil {
		f.Fatal(err)
	}
}

func (f *fixture) now() time.Time { return time.Now().Add(time.Duration(f.offset.Load())) }

func (f *fixture) advance(d time.Duration) { f.offset.Add(int64(d)) }

// start runs a Dispatcher until stop.
func (f *fixture) start() {
	client := httpclient.New()
	d := hook.NewDispatcher(hook.Deps{
		Queue:      f.store,
		Transports: map[hook.Kind]hook.Transport{hook.Webhook: webhook.New(client, f.now)},
		SealRing:   f.ring,
		Log:        slog.New(slog.NewTextHandler(f.log, nil)),
		Now:        f.now,
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
	h, err := hook.New(hook.Hook{Name: name, Kind: hook.Webhook, URL: url, AllTenants: true, Created: noon})
	f.must(err)
	s := webhook.NewSecret()
	hook.NewSealer(f.ring).Seal(&h, s)
	f.must(f.store.AddHook(f.Context(), h))
	return s
}

// addActive adds active accounts.
func (f *fixture) addActive(users ...string) {
	f.Helper()
	for _, user := range users {
		s := account.Signup{
			Account: account.Account{
				UID: account.NewUID(noon), Tenant: f.tenant, User: user, Role: account.Guest,
				Created: noon, Expires: noon.Add(account.PendingLife), Sealed: []byte("x"),
			},
			Captcha:     captcha.Proof{Ours: true, Right: true, Expires: noon.Add(captcha.Life)},
			Recipient:   throttle.Allowance{Rule: throttle.MessagesPerRecipient},
			SealedToken: []byte("x"),
		}
		for _, b := range [][]byte{s.Token[:], s.Message[:], s.Captcha.Nonce[:], s.Recipient.Bucket[:]} {
			rand.Read(b)
		}
		f.must(f.store.Create(f.Context(), s, noon))
		_, err := f.store.Activate(f.Context(), f.tenant, s.Token, noon)
		f.must(err)
	}
}

func (f *fixture) disable(users ...string) {
	f.Helper()
	for _, user := range users {
		_, err := f.store.Disable(f.Context(), f.tenant, user, f.now())
		f.must(err)
	}
}

func (f *fixture) state(name string) hook.State {
	f.Helper()
	list, err := f.store.Hooks(f.Context())
	f.must(err)
	i := slices.IndexFunc(list, func(h hook.State) bool { return h.Name == name })
	if i < 0 {
		f.Fatalf("there is no hook %s", name)
	}
	return list[i]
}

// dueIn reports whether a notification is due after d.
func (f *fixture) dueIn(d time.Duration) bool {
	f.Helper()
	list, err := f.store.Due(f.Context(), f.now().Add(d))
	f.must(err)
	return len(list) > 0
}

// eventually waits until a condition holds.
func (f *fixture) eventually(condition string, holds func() bool) {
	f.Helper()
	for end := time.Now().Add(30 * time.Second); !holds(); {
		if time.Now().After(end) {
			f.Fatalf("not within 30 s: %s\n%s", condition, f.log)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// delivered waits until no notification of a hook waits.
func (f *fixture) delivered(hook string) {
	f.Helper()
	f.eventually("everything is delivered to "+hook, func() bool { return f.state(hook).Waiting == 0 })
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

// hang returns a handler that does not respond before release is called or the client leaves.
func hang() (respond http.HandlerFunc, release func()) {
	released := make(chan struct{})
	return func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-released:
		case <-r.Context().Done():
		}
	}, sync.OnceFunc(func() { close(released) })
}
