package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"dialtone/internal/test/postgrestest"
	"dialtone/internal/test/process"
)

// hookFixture runs servers and commands on one store with hooks.
type hookFixture struct {
	*testing.T
	dir     string
	environ []string
}

// command runs a command of the program, which must succeed.
func (f *hookFixture) command(args ...string) string {
	f.Helper()
	out, err := f.try(args...)
	if err != nil {
		f.Fatalf("dialtone %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func (f *hookFixture) try(args ...string) (string, error) {
	cmd := exec.Command(binary(f), append([]string{"--data", f.dir}, args...)...)
	cmd.Env = f.environ
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// addActive signs up a user at a server and enables the account.
func (f *hookFixture) addActive(p *serverProcess, user string) {
	f.Helper()
	v := newVisitor(p.address, "")
	defer v.leave()
	if a, err := v.signup(user); err != nil || !a.OK {
		f.Fatalf("%v, %v", a, err)
	}
	f.command("account", "enable", "--activate", user, "--tenant", "localhost")
}

func (f *hookFixture) hooks() (list []hookView) {
	f.Helper()
	if err := json.Unmarshal([]byte(f.command("directory", "hook", "list", "--json")), &list); err != nil {
		f.Fatal(err)
	}
	return list
}

// within waits until a condition holds, for at most a time, and logs how long it took.
func (f *hookFixture) within(limit time.Duration, condition string, holds func() bool) {
	f.Helper()
	start := time.Now()
	ctx, cancel := context.WithTimeout(f.Context(), limit)
	defer cancel()
	if err := process.Poll(ctx, process.Holds(holds)); err != nil {
		f.Fatalf("not within %v: %s", limit, condition)
	}
	f.Logf("%s after %v", condition, time.Since(start).Round(time.Millisecond))
}

// offlineTime is how long the phone of a disabled account may stay registered, as docs/directory.md
// promises.
const offlineTime = 2 * time.Second

func TestKamailioHook(t *testing.T) {
	t.Parallel()
	k := newKamailio(t)
	f := &hookFixture{T: t, dir: filepath.Join(t.TempDir(), "data"), environ: []string{}}
	p := start(t, launch{data: f.dir})
	for _, user := range []string{"ann", "bob", "cid"} {
		f.addActive(p, user)
	}
	f.command("directory", "hook", "add", "sip", "--kamailio", k.Control.URL, "--bearer", k.token)
	report := f.command("directory", "hook", "test", "sip")
	const methods = "end registrations (ul.rm), drop cached credentials (htable.delete), " +
		"reload domains (domain.reload)"
	if !strings.Contains(report, methods) {
		t.Errorf("hook test: %s", report)
	}
	for _, user := range []string{"ann", "bob", "cid"} {
		k.register(user, "localhost")
		k.cache(user + "@localhost")
	}
	k.cache("ann@localhost@localhost")

	f.command("account", "disable", "ann", "--tenant", "localhost")
	f.within(offlineTime, "the disabled phone is gone", func() bool {
		return !k.registered("ann", "localhost")
	})
	if k.caches("ann@localhost") || k.caches("ann@localhost@localhost") {
		t.Error("the credentials are still cached")
	}
	if !k.registered("bob", "localhost") || !k.caches("bob@localhost") {
		t.Error("the phone of another user is gone")
	}

	f.command("account", "role", "bob", "user", "--tenant", "localhost")
	f.within(offlineTime, "the credentials with the old role are dropped", func() bool {
		return !k.caches("bob@localhost")
	})

	f.command("account", "delete", "cid", "--tenant", "localhost")
	f.within(offlineTime, "the deleted phone is gone", func() bool {
		return !k.registered("cid", "localhost") && !k.caches("cid@localhost")
	})
	if !k.registered("bob", "localhost") {
		t.Error("a change of the role ended the registration")
	}

	k.domains("localhost", "new.example.org")
	f.command("tenant", "add", "new.example.org")
	f.within(offlineTime, "the new domain is served", func() bool { return k.serves("new.example.org") })
	k.domains("new.example.org")
	f.command("tenant", "remove", "localhost", "--with-accounts")
	f.within(offlineTime, "the phones of the tenant are gone", func() bool {
		return !k.registered("bob", "localhost")
	})
	f.within(offlineTime, "the domain of the tenant is gone", func() bool { return !k.serves("localhost") })
	f.within(offlineTime, "no notification waits", func() bool { return f.hooks()[0].Waiting == 0 })
	if h := f.hooks()[0]; h.LastFailure != nil || h.GivenUp != 0 {
		t.Errorf("the hook: %+v", h)
	}

	// Kamailio refuses another token.
	k.Control.Token = "another"
	if _, err := k.Control.Call("core.version"); err == nil || err.Error() != "core.version: 401 Unauthorized" {
		t.Errorf("with another token: %v", err)
	}
	p.mustStop(t)
	if n := p.stderr.Count("hook failing"); n != 0 {
		t.Errorf("the log says\n%s", p.stderr)
	}
}

// webhookServer receives webhooks.
type webhookServer struct {
	*httptest.Server
	mu     sync.Mutex
	status int                 // of the responses; 0 to hang
	calls  map[string][]string // by webhook-id, the user of each call
}

func newWebhookServer(t *testing.T, status int) *webhookServer {
	c := &webhookServer{status: status, calls: make(map[string][]string)}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var m struct{ Data struct{ User string } }
		text, _ := io.ReadAll(r.Body)
		json.Unmarshal(text, &m)
		c.mu.Lock()
		id := r.Header.Get("webhook-id")
		c.calls[id] = append(c.calls[id], m.Data.User)
		status := c.status
		c.mu.Unlock()
		if status == 0 {
			<-r.Context().Done()
			return
		}
		w.WriteHeader(status)
	}))
	t.Cleanup(c.Close)
	return c
}

func (c *webhookServer) setStatus(status int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.status = status
}

// users returns the sorted users of all calls.
func (c *webhookServer) users() (users []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, calls := range c.calls {
		users = append(users, calls...)
	}
	slices.Sort(users)
	return users
}

// TestNotificationsSurviveCrash checks that the next server delivers the notifications of a killed
// one, and those of commands that ran without a server.
func TestNotificationsSurviveCrash(t *testing.T) {
	t.Parallel()
	f := &hookFixture{T: t, dir: filepath.Join(t.TempDir(), "data"), environ: []string{}}
	c := newWebhookServer(t, http.StatusInternalServerError)
	ops := process.Address(t)
	p := start(t, launch{data: f.dir, flags: []string{"--ops-listen", ops}})
	for _, user := range []string{"ann", "bob"} {
		f.addActive(p, user)
	}
	f.command("directory", "hook", "add", "crm", "--webhook", c.URL)
	f.command("account", "disable", "ann", "--tenant", "localhost")
	f.within(10*time.Second, "the call has failed", func() bool {
		h := f.hooks()[0]
		return h.Waiting == 1 && h.LastFailure != nil
	})
	if !strings.Contains(f.hooks()[0].LastError, "500") {
		t.Errorf("the hook: %+v", f.hooks()[0])
	}
	resp, err := http.Get("http://" + ops + "/readyz")
	if err != nil || resp.Body.Close() != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("the server is not ready: %v", err)
	}
	if out := f.command("verify"); !strings.Contains(out, "1 hook, 1 notification not delivered yet") {
		t.Errorf("verify says %s", out)
	}
	p.Kill()
	f.command("account", "disable", "bob", "--tenant", "localhost")
	if got := f.hooks()[0].Waiting; got != 2 {
		t.Errorf("%d notifications wait", got)
	}
	c.setStatus(http.StatusOK)
	before := len(c.users())
	p = start(t, launch{data: f.dir})
	f.within(10*time.Second, "both are delivered", func() bool { return f.hooks()[0].Waiting == 0 })
	if got := c.users()[before:]; len(c.users()) != before+2 || !slices.Contains(c.users(), "bob") {
		t.Errorf("delivered: %v", got)
	}
	p.mustStop(t)
}

// TestServersShareNotifications checks that one of two servers on a database delivers each
// notification, and that the other takes over the notifications that a killed server was sending.
func TestServersShareNotifications(t *testing.T) {
	t.Parallel() // It waits for the end of a claim.
	url := postgrestest.Shared(t).Database(t)
	dir := t.TempDir()
	f := &hookFixture{T: t, dir: filepath.Join(dir, "command"), environ: []string{
		"DIALTONE_DATABASE=" + url, "DIALTONE_KEYS_DIR=" + filepath.Join(dir, "keys"),
	}}
	c := newWebhookServer(t, http.StatusOK)
	var nodes []*serverProcess
	for i := range 2 {
		nodes = append(nodes, start(t, launch{data: filepath.Join(dir, fmt.Sprint("node", i)), env: f.environ}))
	}
	var users []string
	for i := range 12 {
		users = append(users, fmt.Sprintf("user%02d", i))
		f.addActive(nodes[i%2], users[i])
	}
	f.command("directory", "hook", "add", "crm", "--webhook", c.URL)
	var all sync.WaitGroup
	for _, user := range users {
		all.Go(func() {
			if out, err := f.try("account", "disable", user, "--tenant", "localhost"); err != nil {
				t.Errorf("disable %s: %v\n%s", user, err, out)
			}
		})
	}
	all.Wait()
	f.within(10*time.Second, "all are delivered", func() bool { return f.hooks()[0].Waiting == 0 })
	if got := c.users(); !slices.Equal(got, users) {
		t.Errorf("delivered: %v", got)
	}

	// The servers are killed during a call, which is repeated when the claim expires.
	c.setStatus(0)
	f.command("account", "role", "user00", "user", "--tenant", "localhost")
	f.within(10*time.Second, "the call is made", func() bool { return len(c.users()) == 13 })
	nodes[0].Kill()
	nodes[1].Kill()
	c.setStatus(http.StatusOK)
	start(t, launch{data: filepath.Join(dir, "node1"), env: f.environ})
	f.within(30*time.Second, "another server makes the call", func() bool { return len(c.users()) == 14 })
	f.within(10*time.Second, "it is delivered", func() bool { return f.hooks()[0].Waiting == 0 })
	if got := c.users(); len(got) != 14 || got[0] != "user00" || got[2] != "user00" {
		t.Errorf("delivered: %v", got)
	}
}

// TestNewAccountsAreNotified checks that a webhook soon learns of new accounts, even those of a
// server that was killed immediately, and always through the same message.
func TestNewAccountsAreNotified(t *testing.T) {
	t.Parallel()
	f := &hookFixture{T: t, dir: filepath.Join(t.TempDir(), "data"), environ: []string{}}
	c := newWebhookServer(t, http.StatusOK)
	p := start(t, launch{data: f.dir})
	f.command("directory", "hook", "add", "crm", "--webhook", c.URL, "--events", "account.created")
	v := newVisitor(p.address, "")
	defer v.leave()
	signUp := func(user string) {
		t.Helper()
		if a, err := v.signup(user); err != nil || !a.OK {
			t.Fatalf("%v, %v", a, err)
		}
	}
	signUp("ann")
	f.within(3*time.Second, "ann is notified", func() bool { return slices.Equal(c.users(), []string{"ann"}) })
	signUp("bob")
	p.Kill()
	start(t, launch{data: f.dir})
	f.within(startWithin, "bob is notified", func() bool { return slices.Contains(c.users(), "bob") })
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.calls) != 2 {
		t.Errorf("the messages are %v, want one for each account", c.calls)
	}
}
