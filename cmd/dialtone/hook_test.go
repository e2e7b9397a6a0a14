package main

import (
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
)

// station is a platform whose phone servers are told: servers and commands on one store.
type station struct {
	*testing.T
	dir     string
	environ []string
}

// command runs one of the program's commands.
func (s *station) command(args ...string) string {
	s.Helper()
	out, err := s.try(args...)
	if err != nil {
		s.Fatalf("dialtone %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func (s *station) try(args ...string) (string, error) {
	cmd := exec.Command(binary(s), append([]string{"--data", s.dir}, args...)...)
	cmd.Env = s.environ
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// member signs somebody up at a server and opens the link.
func (s *station) member(p *process, user string) {
	s.Helper()
	v := newVisitor(p.address, "")
	defer v.leave()
	if a, err := v.signup(user); err != nil || !a.OK {
		s.Fatalf("%v, %v", a, err)
	}
	s.command("account", "enable", user, "--tenant", "localhost")
}

func (s *station) hooks() (list []listedHook) {
	s.Helper()
	if err := json.Unmarshal([]byte(s.command("directory", "hook", "list", "--json")), &list); err != nil {
		s.Fatal(err)
	}
	return list
}

// within waits for a fact for so long, and says how long it took.
func (s *station) within(most time.Duration, what string, is func() bool) {
	s.Helper()
	began := time.Now()
	for !is() {
		if time.Since(began) > most {
			s.Fatalf("not within %v: %s", most, what)
		}
		<-time.After(5 * time.Millisecond)
	}
	s.Logf("%s after %v", what, time.Since(began).Round(time.Millisecond))
}

// offTheAir is for how long a phone may still be reached that is disabled; so it stands in docs/directory.md.
const offTheAir = 2 * time.Second

func TestDisabledIsOffTheAir(t *testing.T) {
	k := newKamailio(t)
	s := &station{T: t, dir: filepath.Join(t.TempDir(), "data"), environ: []string{}}
	p := start(t, launch{data: s.dir})
	for _, user := range []string{"ann", "bob", "cid"} {
		s.member(p, user)
	}
	s.command("directory", "hook", "add", "sip", "--kamailio", k.rpc, "--bearer", k.token)
	if said := s.command("directory", "hook", "test", "sip"); !strings.Contains(said, "ul.rm") || !strings.Contains(said, "htable.delete") || !strings.Contains(said, "domain.reload") || strings.Contains(said, "no ") {
		t.Errorf("the test says %s", said)
	}
	for _, user := range []string{"ann", "bob", "cid"} {
		k.register(user, "localhost")
		k.remember(user + "@localhost")
	}
	k.remember("ann@localhost@localhost")

	s.command("account", "disable", "ann", "--tenant", "localhost")
	s.within(offTheAir, "the disabled phone is gone", func() bool { return !k.registered("ann", "localhost") })
	if k.remembers("ann@localhost") || k.remembers("ann@localhost@localhost") {
		t.Error("what was looked up is remembered")
	}
	if !k.registered("bob", "localhost") || !k.remembers("bob@localhost") {
		t.Error("another's phone is gone")
	}

	s.command("account", "role", "bob", "user", "--tenant", "localhost")
	s.within(offTheAir, "the role is looked up anew", func() bool { return !k.remembers("bob@localhost") })

	s.command("account", "delete", "cid", "--tenant", "localhost")
	s.within(offTheAir, "the deleted phone is gone", func() bool { return !k.registered("cid", "localhost") && !k.remembers("cid@localhost") })
	if !k.registered("bob", "localhost") {
		t.Error("with another role, the phone is gone")
	}

	k.domains("localhost", "new.example.org")
	s.command("tenant", "add", "new.example.org")
	s.within(offTheAir, "the new domain is there", func() bool { return k.serves("new.example.org") })
	k.domains("new.example.org")
	s.command("tenant", "remove", "localhost", "--with-accounts")
	s.within(offTheAir, "the tenant's phones are gone", func() bool { return !k.registered("bob", "localhost") })
	s.within(offTheAir, "its domain is gone", func() bool { return !k.serves("localhost") })
	s.within(offTheAir, "nothing waits", func() bool { return s.hooks()[0].Waiting == 0 })
	if h := s.hooks()[0]; h.LastFailure != nil || h.GivenUp != 0 {
		t.Errorf("the hook: %+v", h)
	}

	// Nobody else gives it commands.
	k.bearer = "another"
	if _, err := k.ask("core.version"); err == nil || err.Error() != "401 Unauthorized" {
		t.Errorf("with another token: %v", err)
	}
	p.mustStop(t)
	if n := p.stderr.count("could not be told"); n != 0 {
		t.Errorf("the log has\n%s", p.stderr)
	}
}

// crm takes webhooks.
type crm struct {
	*httptest.Server
	mu     sync.Mutex
	status int                 // of its answers; for 0 there is none
	told   map[string][]string // by webhook-id, the users of each call
}

func newCRM(t *testing.T, status int) *crm {
	c := &crm{status: status, told: make(map[string][]string)}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var m struct{ Data struct{ User string } }
		text, _ := io.ReadAll(r.Body)
		json.Unmarshal(text, &m)
		c.mu.Lock()
		id := r.Header.Get("webhook-id")
		c.told[id] = append(c.told[id], m.Data.User)
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

func (c *crm) answers(status int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.status = status
}

// users are those it was told of, each call once.
func (c *crm) users() (users []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, calls := range c.told {
		users = append(users, calls...)
	}
	slices.Sort(users)
	return users
}

// A server that is killed between a change and the call has the change told by the next one; so has a command without any server.
func TestNoticesSurviveTheServer(t *testing.T) {
	s := &station{T: t, dir: filepath.Join(t.TempDir(), "data"), environ: []string{}}
	c := newCRM(t, http.StatusInternalServerError)
	ops := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	p := start(t, launch{data: s.dir, flags: []string{"--ops-listen", ops}})
	for _, user := range []string{"ann", "bob"} {
		s.member(p, user)
	}
	s.command("directory", "hook", "add", "crm", "--webhook", c.URL)
	s.command("account", "disable", "ann", "--tenant", "localhost")
	s.within(10*time.Second, "the call has failed", func() bool { h := s.hooks()[0]; return h.Waiting == 1 && h.LastFailure != nil })
	if !strings.Contains(s.hooks()[0].LastError, "500") {
		t.Errorf("the hook: %+v", s.hooks()[0])
	}
	if resp, err := http.Get("http://" + ops + "/readyz"); err != nil || resp.Body.Close() != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("the server is not ready: %v", err)
	}
	if out := s.command("verify"); !strings.Contains(out, "1 hooks, 1 notices that phone servers have not been told yet") {
		t.Errorf("verify says %s", out)
	}
	p.kill()
	s.command("account", "disable", "bob", "--tenant", "localhost")
	if got := s.hooks()[0].Waiting; got != 2 {
		t.Errorf("%d wait", got)
	}
	c.answers(http.StatusOK)
	before := len(c.users())
	p = start(t, launch{data: s.dir})
	s.within(10*time.Second, "both are told", func() bool { return s.hooks()[0].Waiting == 0 })
	if got := c.users()[before:]; len(c.users()) != before+2 || !slices.Contains(c.users(), "bob") {
		t.Errorf("told were %v", got)
	}
	p.mustStop(t)
}

// Of two servers on a database, one tells each notice. What one was about to tell when it was killed, the other tells.
func TestServersShareNotices(t *testing.T) {
	t.Parallel() // it waits for a claim to be over
	url := postgrestest.Start(t).Database(t)
	dir := t.TempDir()
	s := &station{T: t, dir: filepath.Join(dir, "command"), environ: []string{"DIALTONE_DATABASE=" + url, "DIALTONE_KEYS_DIR=" + filepath.Join(dir, "keys")}}
	c := newCRM(t, http.StatusOK)
	var nodes []*process
	for i := range 2 {
		nodes = append(nodes, start(t, launch{data: filepath.Join(dir, fmt.Sprint("node", i)), env: s.environ}))
	}
	var users []string
	for i := range 12 {
		users = append(users, fmt.Sprintf("user%02d", i))
		s.member(nodes[i%2], users[i])
	}
	s.command("directory", "hook", "add", "crm", "--webhook", c.URL)
	var all sync.WaitGroup
	for _, user := range users {
		all.Go(func() {
			if out, err := s.try("account", "disable", user, "--tenant", "localhost"); err != nil {
				t.Errorf("disable %s: %v\n%s", user, err, out)
			}
		})
	}
	all.Wait()
	s.within(10*time.Second, "all are told", func() bool { return s.hooks()[0].Waiting == 0 })
	if got := c.users(); !slices.Equal(got, users) {
		t.Errorf("told were %v", got)
	}

	// A call hangs, and its server is killed with it: nobody knows whether it arrived. It is made again when the claim is over.
	c.answers(0)
	s.command("account", "role", "user00", "user", "--tenant", "localhost")
	s.within(10*time.Second, "somebody calls", func() bool { return len(c.users()) == 13 })
	nodes[0].kill()
	nodes[1].kill()
	c.answers(http.StatusOK)
	start(t, launch{data: filepath.Join(dir, "node1"), env: s.environ})
	s.within(30*time.Second, "another server has told it", func() bool { return s.hooks()[0].Waiting == 0 })
	if got := c.users(); len(got) != 14 || got[0] != "user00" || got[2] != "user00" {
		t.Errorf("told were %v", got)
	}
}
