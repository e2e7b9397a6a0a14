package hook_test

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/hook"
	"dialtone/internal/hook/webhook"
	"dialtone/internal/secret"
	"dialtone/internal/test/world"
	"dialtone/internal/trace"
)

func TestWebhookDelivery(t *testing.T) {
	f, r := newFixture(t), newReceiver(t, nil)
	s := f.addHook("a", r.URL)
	f.addActive("ann")
	f.start()
	at := f.Now().UTC().Truncate(time.Microsecond)
	ann, err := f.Store.Disable(t.Context(), f.Tenant.ID, "ann", at)
	f.Must(err)
	f.delivered("a")
	list := r.requests()
	if len(list) != 1 {
		t.Fatalf("%d calls", len(list))
	}
	got := list[0]
	want := fmt.Sprintf(`{"type":"account.disabled","timestamp":%q,`+
		`"data":{"tenant":"phone.test","realm":"Phone.Test","user":"ann","id":%q}}`,
		at.Format(time.RFC3339Nano), ann.UID.String())
	if string(got.body) != want {
		t.Errorf("got  %s\nwant %s", got.body, want)
	}
	id, sent := got.header.Get("webhook-id"), got.header.Get("webhook-timestamp")
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(s.Reveal(), "whsec_"))
	f.Must(err)
	mac := hmac.New(sha256.New, key)
	fmt.Fprintf(mac, "%s.%s.%s", id, sent, want)
	signature := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	if got.header.Get("webhook-signature") != signature || !strings.HasPrefix(id, "msg_") {
		t.Errorf("the signature of %s at %s is %s", id, sent, got.header.Get("webhook-signature"))
	}
	if got.header.Get("Content-Type") != "application/json" {
		t.Errorf("headers %v", got.header)
	}
}

// TestRetry checks that a failed delivery is retried with back-off and with the same id.
func TestRetry(t *testing.T) {
	elsewhere := newReceiver(t, nil)
	t.Cleanup(func() {
		if n := len(elsewhere.requests()); n > 0 {
			t.Errorf("%d calls followed a redirect", n)
		}
	})
	for name, c := range map[string]struct {
		respond   http.HandlerFunc
		lastError string
	}{
		"status 500": {status(500), "500 Internal Server Error"},
		"status 400": {status(400), "400 Bad Request"},
		"status 401": {status(401), "401 Unauthorized"},
		"redirect": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
		}, "307 Temporary Redirect; redirects are not followed"},
		"closed connection": {func(http.ResponseWriter, *http.Request) {
			panic(http.ErrAbortHandler)
		}, "EOF"},
		"endless body": {func(w http.ResponseWriter, _ *http.Request) {
			io.Copy(w, rand.Reader)
		}, "longer than"},
		"huge header": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X", strings.Repeat("x", 1<<20))
		}, "headers exceeded"},
		"truncated body": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "9")
		}, "EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, r := newFixture(t), newReceiver(t, c.respond)
			f.addHook("a", r.URL)
			f.addActive("ann")
			f.start()
			f.Disable("ann")
			for attempt := 1; attempt <= 3; attempt++ {
				f.Eventually(fmt.Sprintf("attempt %d has failed", attempt), func() bool {
					s := f.state("a")
					return len(r.requests()) == attempt && f.Now().Sub(s.LastFailure) < time.Minute &&
						strings.Contains(s.LastError, c.lastError)
				})
				longest := 2 * time.Second << (attempt - 1)
				if !f.dueIn(longest) || f.dueIn(longest/4) {
					t.Errorf("after %d attempts: due in %v: %v, in %v: %v",
						attempt, longest/4, f.dueIn(longest/4), longest, f.dueIn(longest))
				}
				if s := f.state("a"); s.Waiting != 1 || s.GivenUp != 0 {
					t.Errorf("after %d attempts: %+v", attempt, s)
				}
				if attempt == 3 {
					r.setRespond(nil)
				}
				f.Advance(time.Hour)
			}
			f.delivered("a")
			f.Eventually("the recovery is logged", func() bool { return f.Log.Count("hook recovered") == 1 })
			// The outage is logged when it begins, and then at most once a minute.
			if n := f.Log.Count(`back-off" hook=a err=`); n != 1 {
				t.Errorf("the start of the outage was logged %d times", n)
			}
			for _, m := range r.requests() {
				if id := r.requests()[0].header.Get("webhook-id"); m.header.Get("webhook-id") != id {
					t.Errorf("one notification had the ids %s and %s", id, m.header.Get("webhook-id"))
				}
			}
		})
	}
}

func TestAbandonedAfterThreeDays(t *testing.T) {
	f, r := newFixture(t), newReceiver(t, status(500))
	f.addHook("a", r.URL)
	f.addActive("ann")
	f.start()
	f.Disable("ann")
	f.Eventually("the first attempt has failed", func() bool { return f.state("a").LastError != "" })
	f.Advance(3*24*time.Hour - time.Minute)
	f.Eventually("the second attempt has failed", func() bool {
		return len(r.requests()) == 2 && f.dueIn(time.Hour)
	})
	if s := f.state("a"); s.Waiting != 1 || s.GivenUp != 0 {
		t.Errorf("before three days: %+v", s)
	}
	f.Advance(time.Hour)
	f.Eventually("the notification is abandoned", func() bool { return f.state("a").GivenUp == 1 })
	if s := f.state("a"); s.Waiting != 0 || !strings.Contains(s.LastError, "500") {
		t.Errorf("after three days: %+v", s)
	}
	f.Eventually("it is logged", func() bool {
		return f.Log.Count(`msg="hook notification abandoned"`) == 1 &&
			f.Log.Count("hook=a type=account.disabled tenant=phone.test user=ann") == 1
	})
}

// TestHooksAreIndependent checks that a hanging server, a server that is down and a refusing
// server do not delay others.
func TestHooksAreIndependent(t *testing.T) {
	f := newFixture(t)
	respond, release := hang()
	hanging, healthy := newReceiver(t, respond), newReceiver(t, nil)
	down, refusing := newReceiver(t, nil), newReceiver(t, status(400))
	defer release()
	down.Close()
	for name, r := range map[string]*receiver{
		"hanging": hanging, "healthy": healthy, "down": down, "refusing": refusing,
	} {
		f.addHook(name, r.URL)
	}
	users := userNames(100)
	f.addActive(users...)
	f.Disable(users...)
	f.start()
	f.delivered("healthy")
	f.Eventually("the hanging server was called", func() bool { return len(hanging.requests()) > 0 })
	if n := f.state("hanging").Waiting; n != 100 {
		t.Errorf("%d notifications wait for the hanging server after %d calls", n, len(hanging.requests()))
	}
	f.Eventually("the refusing server got all", func() bool { return len(refusing.requests()) >= 100 })
	f.Eventually("the failure of the server that is down is recorded", func() bool {
		return strings.Contains(f.state("down").LastError, "refused")
	})
	f.stop() // does not wait for the hanging server
	if n := len(hanging.requests()); n > 4 {
		t.Errorf("%d calls to the hanging server at a time", n)
	}
}

func userNames(n int) (users []string) {
	for i := range n {
		users = append(users, fmt.Sprintf("user%02d", i))
	}
	return users
}

// TestTrace checks that the trace says which calls failed.
func TestTrace(t *testing.T) {
	f := newFixture(t)
	var mu sync.Mutex
	calls := make(map[string]int) // by hook, and whether it failed
	f.tracer = trace.New(1, func(s *trace.Span) {
		mu.Lock()
		defer mu.Unlock()
		calls[fmt.Sprint(s.Attrs[0].Text, " ", s.Failed)]++
	})
	f.addHook("good", newReceiver(t, nil).URL)
	f.addHook("bad", newReceiver(t, status(503)).URL)
	f.addActive("ann")
	f.Disable("ann")
	f.start()
	f.delivered("good")
	f.Eventually("the bad one was called", func() bool { return f.state("bad").LastError != "" })
	f.stop()
	if calls["good false"] == 0 || calls["bad true"] == 0 || len(calls) != 2 {
		t.Errorf("the trace has %v", calls)
	}
}

// TestUnavailableServerIsNotFlooded checks that a batch stops after the first calls that fail
// because the server is unavailable.
func TestUnavailableServerIsNotFlooded(t *testing.T) {
	f, r := newFixture(t), newReceiver(t, status(503))
	f.Set(f.Now()) // the first retry is due after a second, and must not be counted
	f.addHook("a", r.URL)
	users := userNames(30)
	f.addActive(users...)
	f.Disable(users...)
	f.start()
	f.Eventually("all are postponed", func() bool { return f.state("a").LastError != "" && !f.dueIn(0) })
	if n := len(r.requests()); n == 0 || n > 4 {
		t.Errorf("%d calls", n)
	}
	if s := f.state("a"); s.Waiting != 30 {
		t.Errorf("%d notifications wait", s.Waiting)
	}
}

// TestOrder checks that notifications about one user are sent one after another, in order, and
// those about up to four different users concurrently.
func TestOrder(t *testing.T) {
	f := newFixture(t)
	var mu sync.Mutex
	seen, arrived := make(map[string]int), make(chan struct{}, 1000)
	r := newReceiver(t, nil)
	together := make(chan struct{})
	r.setRespond(func(_ http.ResponseWriter, req *http.Request) {
		mu.Lock()
		n := len(seen)
		seen[req.Header.Get("webhook-id")]++
		mu.Unlock()
		if n < 4 { // The first four calls wait for each other.
			arrived <- struct{}{}
			<-together
		}
	})
	f.addHook("a", r.URL)
	users := userNames(10)
	f.addActive(users...)
	for _, user := range users {
		for _, role := range []account.Role{account.User, account.Admin} {
			_, err := f.Store.SetRole(t.Context(), f.Tenant.ID, user, role, f.Now())
			f.Must(err)
		}
		f.Disable(user)
		f.Must(f.Store.Delete(t.Context(), f.Tenant.ID, user, f.Now()))
	}
	f.start()
	for range 4 {
		<-arrived
	}
	first := make(map[string]bool)
	for _, m := range r.requests() {
		first[m.user] = true
	}
	if len(first) != 4 {
		t.Errorf("the first four calls were about %v", first)
	}
	close(together)
	f.delivered("a")
	kinds := make(map[string][]string)
	for _, m := range r.requests() {
		kinds[m.user] = append(kinds[m.user], m.kind)
	}
	want := []string{"account.role", "account.role", "account.disabled", "account.deleted"}
	for _, user := range users {
		if !slices.Equal(kinds[user], want) {
			t.Errorf("%s: %v", user, kinds[user])
		}
	}
	if r.max != 4 {
		t.Errorf("%d calls at a time", r.max)
	}
}

// TestStoppedDispatcher checks that the next Dispatcher immediately sends the notifications
// that a stopped one was sending. It must not wait for the end of the claim.
func TestStoppedDispatcher(t *testing.T) {
	f := newFixture(t)
	respond, release := hang()
	r := newReceiver(t, respond)
	defer release()
	f.addHook("a", r.URL)
	users := userNames(10)
	f.addActive(users...)
	f.Disable(users...)
	f.start()
	f.Eventually("calls hang", func() bool { return len(r.requests()) == 4 })
	f.stop()
	if s := f.state("a"); !f.dueIn(0) || s.Waiting != 10 || s.LastError != "" {
		t.Errorf("after stop: %+v", s)
	}
	r.setRespond(nil)
	f.start()
	f.delivered("a")
}

// TestClaimOfCrashedDispatcher checks that notifications without a report are sent when their
// claim ends, and not earlier.
func TestClaimOfCrashedDispatcher(t *testing.T) {
	f, r := newFixture(t), newReceiver(t, nil)
	f.addHook("a", r.URL)
	f.addActive("ann", "bob")
	f.Disable("ann")
	lost, err := f.Store.Claim(t.Context(), f.state("a").ID, f.Now(), f.Now().Add(time.Hour), 10)
	if err != nil || len(lost) != 1 {
		t.Fatalf("%v, %v", lost, err)
	}
	f.start()
	f.Disable("bob")
	f.Eventually("the other notification is sent", func() bool { return f.state("a").Waiting == 1 })
	if list := r.requests(); len(list) != 1 || list[0].user != "bob" {
		t.Errorf("sent %v", list)
	}
	f.Advance(time.Hour)
	f.delivered("a")
}

// TestUnreadableSecret checks that a secret of another hook cannot be opened, and that no call
// is made without the secret.
func TestUnreadableSecret(t *testing.T) {
	f, r := newFixture(t), newReceiver(t, nil)
	h, err := hook.New(hook.Hook{
		Name: "a", Kind: hook.Webhook, URL: r.URL, AllTenants: true, Created: world.Noon,
	})
	f.Must(err)
	hook.NewSealer(f.SealRing).Seal(&h, webhook.NewSecret())
	h.ID[0]++
	f.Must(f.Store.AddHook(t.Context(), h))
	f.addActive("ann")
	f.Disable("ann")
	f.start()
	f.Eventually("it is logged", func() bool { return f.Log.Count(secret.ErrSeal.Error()) == 1 })
	s := f.state("a")
	if s.Waiting != 1 || !strings.Contains(s.LastError, secret.ErrSeal.Error()) || len(r.requests()) != 0 {
		t.Errorf("%d calls: %+v", len(r.requests()), s)
	}
	var faults []string
	report, err := hook.Verify(t.Context(), f.Store, f.SealRing, func(s string) { faults = append(faults, s) })
	want := hook.VerifyReport{Hooks: 1, Notifications: 1}
	if err != nil || report != want || len(faults) != 1 || !strings.HasPrefix(faults[0], "hook a: ") {
		t.Errorf("%+v, %v, %v", report, faults, err)
	}
}

// TestUnknownKind checks that a hook of a kind without a transport is not called and fails visibly.
func TestUnknownKind(t *testing.T) {
	f := newFixture(t)
	h, err := hook.New(hook.Hook{
		Name: "a", Kind: hook.Kamailio, URL: "http://127.0.0.1:1/", AllTenants: true, Created: world.Noon,
	})
	f.Must(err)
	f.Must(f.Store.AddHook(t.Context(), h))
	f.addActive("ann")
	f.Disable("ann")
	f.start() // with webhooks only
	f.Eventually("it is recorded", func() bool {
		return strings.Contains(f.state("a").LastError, `kind "kamailio"`)
	})
}
