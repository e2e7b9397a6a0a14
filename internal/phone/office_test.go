package phone_test

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
	"dialtone/internal/callout"
	"dialtone/internal/captcha"
	"dialtone/internal/phone"
	"dialtone/internal/secret"
	"dialtone/internal/store"
	"dialtone/internal/tenant"
	"dialtone/internal/test/teststore"
	"dialtone/internal/throttle"
)

var noon = time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)

// office is a store with a courier that tells real servers of it.
type office struct {
	*testing.T
	store  *store.Store
	ring   *secret.Ring
	tenant int64
	log    *logged
	ahead  atomic.Int64 // how far its clock is ahead
	stop   func()
}

// logged is a log that is written while it is read.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logged) count(part string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), part)
}

func newOffice(t *testing.T) *office {
	t.Helper()
	o := &office{T: t, ring: secret.NewRing(noon), log: &logged{}}
	var err error
	if o.store, err = teststore.Open(t.Context(), filepath.Join(t.TempDir(), "dialtone.db"), o.ring); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { o.store.Close() })
	added, err := o.store.AddTenant(t.Context(), tenant.Tenant{Host: "phone.test", Realm: "Phone.Test", Created: noon})
	o.must(err)
	o.tenant = added.ID
	return o
}

func (o *office) must(err error) {
	o.Helper()
	if err != nil {
		o.Fatal(err)
	}
}

func (o *office) now() time.Time { return time.Now().Add(time.Duration(o.ahead.Load())) }

// open lets a courier work until close.
func (o *office) open() {
	client := callout.New(o.now)
	c := &phone.Dispatcher{Store: o.store, Callout: client, SealRing: o.ring, Log: slog.New(slog.NewTextHandler(o.log, nil)), Now: o.now}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { c.Run(ctx); close(ended) }()
	o.stop = sync.OnceFunc(func() { cancel(); <-ended; client.Close() })
	o.Cleanup(o.stop)
}

// hook adds a webhook and gives its secret.
func (o *office) hook(name, url string) phone.HookSecret {
	o.Helper()
	h, err := phone.NewHook(phone.Hook{Name: name, Kind: phone.Webhook, URL: url, Everyone: true, Created: noon})
	o.must(err)
	s := phone.NewWebhookSecret()
	phone.NewLocker(o.ring).Seal(&h, s)
	o.must(o.store.AddHook(o.Context(), h))
	return s
}

// members adds active accounts.
func (o *office) members(users ...string) {
	o.Helper()
	for _, user := range users {
		a := account.Signup{
			Account: account.Account{UID: account.NewUID(noon), Tenant: o.tenant, User: user, Role: account.Guest, Created: noon, Expires: noon.Add(account.PendingLife), Sealed: []byte("x")},
			Captcha: captcha.Proof{Ours: true, Right: true, Expires: noon.Add(captcha.Life)}, Recipient: throttle.Allowance{Rule: throttle.MessagesPerRecipient}, SealedToken: []byte("x"),
		}
		for _, b := range [][]byte{a.Token[:], a.Message[:], a.Captcha.Nonce[:], a.Recipient.Bucket[:]} {
			rand.Read(b)
		}
		o.must(o.store.Create(o.Context(), a, noon))
		_, err := o.store.Activate(o.Context(), o.tenant, a.Token, noon)
		o.must(err)
	}
}

func (o *office) disable(users ...string) {
	o.Helper()
	for _, user := range users {
		_, err := o.store.Disable(o.Context(), o.tenant, user, o.now())
		o.must(err)
	}
}

func (o *office) state(name string) phone.HookState {
	o.Helper()
	list, err := o.store.Hooks(o.Context())
	o.must(err)
	i := slices.IndexFunc(list, func(h phone.HookState) bool { return h.Name == name })
	if i < 0 {
		o.Fatalf("there is no hook %s", name)
	}
	return list[i]
}

// eventually waits for a fact, and not for ever.
func (o *office) eventually(what string, is func() bool) {
	o.Helper()
	for end := time.Now().Add(30 * time.Second); !is(); {
		if time.Now().After(end) {
			o.Fatalf("not in 30 s: %s\n%s", what, o.log.text.String())
		}
		<-time.After(2 * time.Millisecond)
	}
}

// receiver is a server that takes webhooks, and answers as it is told to.
type receiver struct {
	*httptest.Server
	mu       sync.Mutex
	got      []received
	answer   http.HandlerFunc
	now, max int // on their way
}

type received struct {
	header http.Header
	body   []byte
	user   string
	kind   string
}

func newReceiver(t *testing.T, answer http.HandlerFunc) *receiver {
	r := &receiver{answer: answer}
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
	answer := r.answer
	r.mu.Unlock()
	if answer != nil {
		answer(w, req)
	}
	r.mu.Lock()
	r.now--
	r.mu.Unlock()
}

func (r *receiver) answers(answer http.HandlerFunc) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = answer
}

func (r *receiver) list() []received {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.got)
}

func code(status int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }
}

// hanging answers nobody before it is let go, or they leave.
func hanging() (answer http.HandlerFunc, let func()) {
	gone := make(chan struct{})
	return func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-gone:
		case <-r.Context().Done():
		}
	}, sync.OnceFunc(func() { close(gone) })
}
