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
)

func TestWebhookIsSignedAndSaysWhatToLookAt(t *testing.T) {
	o, r := newOffice(t), newReceiver(t, nil)
	s := o.hook("a", r.URL)
	o.members("ann")
	o.open()
	at := o.now().UTC().Truncate(time.Microsecond)
	_, err := o.store.Disable(t.Context(), o.tenant, "ann", at)
	o.must(err)
	o.eventually("it is told", func() bool { return o.state("a").Waiting == 0 })
	list := r.list()
	if len(list) != 1 {
		t.Fatalf("%d calls", len(list))
	}
	got := list[0]
	want := fmt.Sprintf(`{"type":"account.disabled","timestamp":%q,"data":{"tenant":"phone.test","realm":"Phone.Test","user":"ann"}}`, at.Format(time.RFC3339Nano))
	if string(got.body) != want {
		t.Errorf("got  %s\nwant %s", got.body, want)
	}
	id, sent := got.header.Get("webhook-id"), got.header.Get("webhook-timestamp")
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(s.Reveal(), "whsec_"))
	o.must(err)
	mac := hmac.New(sha256.New, key)
	fmt.Fprintf(mac, "%s.%s.%s", id, sent, want)
	if sign := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)); got.header.Get("webhook-signature") != sign || !strings.HasPrefix(id, "msg_") {
		t.Errorf("the signature of %s at %s is %s", id, sent, got.header.Get("webhook-signature"))
	}
	if got.header.Get("Content-Type") != "application/json" {
		t.Errorf("headers %v", got.header)
	}
}

// due reports whether something is due at a time from now.
func (o *office) due(in time.Duration) bool {
	o.Helper()
	list, err := o.store.Due(o.Context(), o.now().Add(in))
	o.must(err)
	return len(list) > 0
}

// What does not arrive is kept and tried again, with one id, until it arrives.
func TestFailuresAreTriedAgain(t *testing.T) {
	elsewhere := newReceiver(t, nil)
	t.Cleanup(func() {
		if n := len(elsewhere.list()); n > 0 {
			t.Errorf("%d calls went where somebody redirected them", n)
		}
	})
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		why    string
	}{
		"it answers 500": {code(500), "500 Internal Server Error"},
		"it refuses":     {code(400), "400 Bad Request"},
		"it redirects": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
		}, "307 Temporary Redirect; give the hook the address itself"},
		"it breaks off":         {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "EOF"},
		"it answers for ever":   {func(w http.ResponseWriter, _ *http.Request) { io.Copy(w, rand.Reader) }, "does not end"},
		"it has a vast header":  {func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X", strings.Repeat("x", 1<<20)) }, "headers exceeded"},
		"it promises a body":    {func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Length", "9") }, "EOF"},
		"it wants other papers": {code(401), "401 Unauthorized"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o, r := newOffice(t), newReceiver(t, c.answer)
			o.hook("a", r.URL)
			o.members("ann")
			o.open()
			o.disable("ann")
			for try := 1; try <= 3; try++ {
				o.eventually(fmt.Sprintf("try %d has failed", try), func() bool {
					s := o.state("a")
					return len(r.list()) == try && o.now().Sub(s.LastFailure) < time.Minute && strings.Contains(s.LastError, c.why)
				})
				if longest := 2 * time.Second << (try - 1); !o.due(longest) || o.due(longest/4) {
					t.Errorf("after %d tries it is due in %v: %v, in %v: %v", try, longest/4, o.due(longest/4), longest, o.due(longest))
				}
				if s := o.state("a"); s.Waiting != 1 || s.GivenUp != 0 {
					t.Errorf("after %d tries: %+v", try, s)
				}
				if try == 3 {
					r.answers(nil)
				}
				o.ahead.Add(int64(time.Hour))
			}
			o.eventually("it is told", func() bool { return o.state("a").Waiting == 0 })
			o.eventually("the log says so", func() bool { return o.log.count("is told of changes again") == 1 })
			if n := o.log.count("could not be told of changes"); n != 1 {
				t.Errorf("%d lines tell of the failures", n)
			}
			for _, m := range r.list() {
				if id := r.list()[0].header.Get("webhook-id"); m.header.Get("webhook-id") != id {
					t.Errorf("one notice had the ids %s and %s", id, m.header.Get("webhook-id"))
				}
			}
		})
	}
}

func TestNoticeIsGivenUpAfterThreeDays(t *testing.T) {
	o, r := newOffice(t), newReceiver(t, code(500))
	o.hook("a", r.URL)
	o.members("ann")
	o.open()
	o.disable("ann")
	o.eventually("the first try", func() bool { return o.state("a").LastError != "" })
	o.ahead.Add(int64(3*24*time.Hour - time.Minute))
	o.eventually("the second try", func() bool { return len(r.list()) == 2 && o.due(time.Hour) })
	if s := o.state("a"); s.Waiting != 1 || s.GivenUp != 0 {
		t.Errorf("before three days: %+v", s)
	}
	o.ahead.Add(int64(time.Hour))
	o.eventually("it is given up", func() bool { return o.state("a").GivenUp == 1 })
	if s := o.state("a"); s.Waiting != 0 || !strings.Contains(s.LastError, "500") {
		t.Errorf("after three days: %+v", s)
	}
	o.eventually("the log has it", func() bool {
		return o.log.count("is not told any more") == 1 && o.log.count("hook=a what=account.disabled tenant=phone.test user=ann") == 1
	})
}

// A server that hangs, one that is gone and one that refuses hold up nobody else's notices.
func TestHooksDoNotWaitForEachOther(t *testing.T) {
	o := newOffice(t)
	hang, let := hanging()
	stuck, fine, gone, refusing := newReceiver(t, hang), newReceiver(t, nil), newReceiver(t, nil), newReceiver(t, code(400))
	defer let()
	gone.Close()
	for name, r := range map[string]*receiver{"stuck": stuck, "fine": fine, "gone": gone, "refusing": refusing} {
		o.hook(name, r.URL)
	}
	users := many(100)
	o.members(users...)
	o.disable(users...)
	o.open()
	o.eventually("the one that is well is told of all", func() bool { return o.state("fine").Waiting == 0 })
	o.eventually("the one that hangs was called", func() bool { return len(stuck.list()) > 0 })
	if o.state("stuck").Waiting != 100 {
		t.Errorf("the one that hangs was called %d times, and %d wait", len(stuck.list()), o.state("stuck").Waiting)
	}
	o.eventually("the one that refuses was asked about each", func() bool { return len(refusing.list()) >= 100 })
	o.eventually("the failure of the one that is gone is noted", func() bool { return strings.Contains(o.state("gone").LastError, "refused") })
	o.stop() // and does not wait for the one that hangs
	if n := len(stuck.list()); n > 4 {
		t.Errorf("%d calls hung at once", n)
	}
}

func many(n int) (users []string) {
	for i := range n {
		users = append(users, fmt.Sprintf("user%02d", i))
	}
	return users
}

// While a server is away, one batch costs it no more calls than there are at once.
func TestServerThatIsAwayIsLeftAlone(t *testing.T) {
	o, r := newOffice(t), newReceiver(t, code(503))
	o.hook("a", r.URL)
	users := many(30)
	o.members(users...)
	o.disable(users...)
	o.open()
	o.eventually("all are put off", func() bool { return o.state("a").LastError != "" && !o.due(0) })
	if n := len(r.list()); n == 0 || n > 4 {
		t.Errorf("it was called %d times", n)
	}
	if s := o.state("a"); s.Waiting != 30 {
		t.Errorf("%d wait", s.Waiting)
	}
}

// Those about one user come one after the other, in their order; those about others beside them, but not too many.
func TestOrderOfCalls(t *testing.T) {
	o := newOffice(t)
	var mu sync.Mutex
	on, crowd := make(map[string]int), make(chan struct{}, 1000)
	r := newReceiver(t, nil)
	together := make(chan struct{})
	r.answers(func(_ http.ResponseWriter, req *http.Request) {
		mu.Lock()
		n := len(on)
		on[req.Header.Get("webhook-id")]++
		mu.Unlock()
		if n < 4 { // the first ones wait for each other: they are on their way at once
			crowd <- struct{}{}
			<-together
		}
	})
	o.hook("a", r.URL)
	users := many(10)
	o.members(users...)
	for _, user := range users {
		for _, role := range []account.Role{account.User, account.Admin} {
			_, err := o.store.SetRole(t.Context(), o.tenant, user, role, o.now())
			o.must(err)
		}
		o.disable(user)
		o.must(o.store.Delete(t.Context(), o.tenant, user, o.now()))
	}
	o.open()
	for range 4 {
		<-crowd
	}
	first := make(map[string]bool)
	for _, m := range r.list() {
		first[m.user] = true
	}
	if len(first) != 4 {
		t.Errorf("the first four calls were about %v", first)
	}
	close(together)
	o.eventually("all are told", func() bool { return o.state("a").Waiting == 0 })
	kinds := make(map[string][]string)
	for _, m := range r.list() {
		kinds[m.user] = append(kinds[m.user], m.kind)
	}
	for _, user := range users {
		if want := []string{"account.role", "account.role", "account.disabled", "account.deleted"}; !slices.Equal(kinds[user], want) {
			t.Errorf("%s: %v", user, kinds[user])
		}
	}
	if r.max != 4 {
		t.Errorf("%d calls at once", r.max)
	}
}

// A courier that is stopped in the middle of a call leaves it to the next, which does not wait for the claim to be over.
func TestStoppedCourierLeavesItsNotices(t *testing.T) {
	o := newOffice(t)
	hang, let := hanging()
	r := newReceiver(t, hang)
	defer let()
	o.hook("a", r.URL)
	users := many(10)
	o.members(users...)
	o.disable(users...)
	o.open()
	o.eventually("calls hang", func() bool { return len(r.list()) == 4 })
	o.stop()
	if s := o.state("a"); !o.due(0) || s.Waiting != 10 || s.LastError != "" {
		t.Errorf("it left %+v", s)
	}
	r.answers(nil)
	o.open()
	o.eventually("all are told", func() bool { return o.state("a").Waiting == 0 })
}

// A notice whose claim nobody worked on, as a crash leaves it, is told when the claim is over, and not before.
func TestDeadCouriersNoticesAreTold(t *testing.T) {
	o, r := newOffice(t), newReceiver(t, nil)
	o.hook("a", r.URL)
	o.members("ann", "bob")
	o.disable("ann")
	dead, err := o.store.Claim(t.Context(), o.state("a").ID, o.now(), o.now().Add(time.Hour), 10)
	if err != nil || len(dead) != 1 {
		t.Fatalf("%v, %v", dead, err)
	}
	o.open()
	o.disable("bob")
	o.eventually("the other is told", func() bool { return o.state("a").Waiting == 1 })
	if list := r.list(); len(list) != 1 || list[0].user != "bob" {
		t.Errorf("told were %v", list)
	}
	o.ahead.Add(int64(time.Hour))
	o.eventually("it is told", func() bool { return o.state("a").Waiting == 0 })
}

// A secret that was moved from another hook does not open, and nobody is called with it.
func TestHookWithoutItsSecretIsNotCalled(t *testing.T) {
	o, r := newOffice(t), newReceiver(t, nil)
	h, err := hook.New(hook.Hook{Name: "a", Kind: hook.Webhook, URL: r.URL, AllTenants: true, Created: noon})
	o.must(err)
	hook.NewSealer(o.ring).Seal(&h, hook.NewWebhookSecret())
	h.ID[0]++
	o.must(o.store.AddHook(t.Context(), h))
	o.members("ann")
	o.disable("ann")
	o.open()
	o.eventually("the log tells", func() bool { return o.log.count("sealed value does not open") == 1 })
	if s := o.state("a"); s.Waiting != 1 || !strings.Contains(s.LastError, "does not open") || len(r.list()) != 0 {
		t.Errorf("it was called %d times: %+v", len(r.list()), s)
	}
	var faults []string
	report, err := hook.Verify(t.Context(), o.store, o.ring, func(s string) { faults = append(faults, s) })
	if err != nil || report != (hook.VerifyReport{Hooks: 1, Notifications: 1}) || len(faults) != 1 || !strings.HasPrefix(faults[0], "hook a: ") {
		t.Errorf("%+v, %v, %v", report, faults, err)
	}
}
