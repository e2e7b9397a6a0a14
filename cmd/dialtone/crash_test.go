package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"dialtone/internal/secret"
	"dialtone/internal/secret/keyfile"
	"dialtone/internal/test/teststore"
)

// kills is DIALTONE_TEST_KILLS. Processes that tests start do not inherit it: the program refuses variables that it
// does not know.
var kills = func() string {
	const name = "DIALTONE_TEST_KILLS"
	defer os.Unsetenv(name)
	return os.Getenv(name)
}()

// rounds returns how often a test kills a server: DIALTONE_TEST_KILLS, or 6 times. make test-long sets
// it to 50.
func rounds(t *testing.T) int {
	text := kills
	if text == "" {
		return 6
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("DIALTONE_TEST_KILLS is %q, not a number above 0", text)
	}
	return n
}

// maxLoadTime is the longest time that a server is under load before it is killed.
const maxLoadTime = 150 * time.Millisecond

// In every round a server starts with the same data directory, gets signups from many addresses,
// and is killed at a random moment. Every signup that was answered must exist afterwards. One that
// was not answered exists completely or not at all.
func TestKilledServerLosesNothing(t *testing.T) {
	t.Parallel()
	s := newKillTest(t)
	n := rounds(t)
	for range n {
		s.killedRound()
	}
	s.finish()
	t.Logf("%d rounds: %d signups answered, %d saved without an answer, %d messages republished; %d accounts "+
		"activated by their links",
		n, len(s.answered), s.unanswered, s.republished, len(s.activated))
}

// Here, a mail server takes every message out of the pickup directory as soon as it appears. Then a
// message may be written twice, with the same bytes and Message-ID, but none is ever missing.
func TestKilledServerWithMailAgentLosesNothing(t *testing.T) {
	t.Parallel()
	s := newKillTest(t)
	s.agent = newAgent(t, s.pickup)
	n := rounds(t)
	for range n {
		s.killedRound()
	}
	s.finish()
	t.Logf("%d rounds: %d signups answered, %d saved without an answer, %d messages republished, %d taken "+
		"twice by the agent; %d accounts activated by their links",
		n, len(s.answered), s.unanswered, s.republished, s.agent.twice, len(s.activated))
}

// An upgrade sends SIGTERM to a server under load.
func TestTerminatedServerAnswersOpenRequests(t *testing.T) {
	t.Parallel()
	s := newKillTest(t)
	n := rounds(t)
	var unanswered int
	for range n {
		unanswered += s.terminatedRound()
	}
	s.finish()
	if s.republished > 0 {
		t.Errorf("%d messages were written again, though no server was killed", s.republished)
	}
	t.Logf("%d rounds: %d signups answered, %d saved without an answer on connections that were kept open", n,
		len(s.answered), unanswered)
}

// killTest is a data directory, and the results that the clients of its servers have recorded.
type killTest struct {
	t            *testing.T
	data, pickup string
	listen       string
	agent        *agent

	mu       sync.Mutex
	users    int
	answered map[string]bool // signups that were answered 200
	newConn  map[string]bool // signups on a new connection
	failures []error

	activated   map[string]bool // by links
	seen        map[string]bool // accounts that an earlier round accounted for
	unanswered  int
	republished int
}

// clients is the number of concurrent clients.
const clients = 12

func newKillTest(t *testing.T) *killTest {
	data := filepath.Join(t.TempDir(), "data")
	// All rounds use the same port, because it is part of the links. An address that nobody else
	// uses keeps the port free.
	l, err := net.Listen("tcp", fmt.Sprintf("127.%d.%d.%d:0", 100+rand.IntN(100), rand.IntN(256), 1+rand.IntN(254)))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return &killTest{
		t: t, data: data, pickup: filepath.Join(data, "pickup"), listen: l.Addr().String(),
		answered: map[string]bool{}, newConn: map[string]bool{}, activated: map[string]bool{},
		seen: map[string]bool{},
	}
}

func (s *killTest) start() *serverProcess { return start(s.t, launch{data: s.data, listen: s.listen}) }

// loadedServer is a server under load.
type loadedServer struct {
	*killTest
	*serverProcess
	ending  atomic.Bool
	clients sync.WaitGroup
}

// load starts clients that sign up until the server has ended.
func (s *killTest) load(p *serverProcess) *loadedServer {
	b := &loadedServer{killTest: s, serverProcess: p}
	for i := range clients {
		b.clients.Go(func() { b.client(i%2 == 0) })
	}
	return b
}

// waitRandomly waits for a random time of at most maxLoadTime.
func waitRandomly() { <-time.After(rand.N(maxLoadTime)) }

// client signs up until the server has ended, three times from each address.
func (b *loadedServer) client(newConn bool) {
	for {
		v := newVisitor(b.address, "")
		if newConn {
			v.useNewConnections()
		}
		for range 3 {
			if !b.signup(v, newConn) {
				v.leave()
				return
			}
		}
		v.leave()
	}
}

func (b *loadedServer) signup(v *visitor, newConn bool) bool {
	b.mu.Lock()
	b.users++
	user := fmt.Sprintf("person-%d", b.users)
	b.newConn[user] = newConn
	b.mu.Unlock()
	a, err := v.signup(user)
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case err != nil && !b.ending.Load():
		b.failures = append(b.failures, fmt.Errorf("%s, before the server ended: %w", user, err))
	case err != nil:
		return b.aborted(v, user, err)
	case a.Status != 200 || !a.OK || a.User != user:
		b.failures = append(b.failures, fmt.Errorf("%s: %s", user, a))
	default:
		b.answered[user] = true
		return true
	}
	return false
}

// aborted reports an answer that was aborted, which only a kill may do.
func (b *loadedServer) aborted(v *visitor, user string, err error) bool {
	if v.began.Load() && !b.killed() {
		b.failures = append(b.failures, fmt.Errorf("%s: the answer was aborted: %w", user, err))
	}
	return false
}

func (b *loadedServer) killed() bool {
	<-b.Done()
	return b.ExitCode() < 0
}

func (s *killTest) killedRound() {
	s.t.Helper()
	p := s.start()
	s.check(p)
	b := s.load(p)
	waitRandomly()
	b.ending.Store(true)
	p.Kill()
	b.clients.Wait()
	s.republished += p.stderr.Count(`"msg":"message.republish"`)
	s.failIfBroken()
}

// terminatedRound returns how many accounts were saved without an answer. A new connection is
// either accepted and answered, or not accepted, so there are none on those. On a connection that
// was kept open, a request may arrive while the server closes it.
func (s *killTest) terminatedRound() (unanswered int) {
	s.t.Helper()
	p := s.start()
	s.check(p)
	b := s.load(p)
	waitRandomly()
	b.ending.Store(true)
	p.mustStop(s.t)
	b.clients.Wait()
	if err := p.checkLog(); err != nil {
		s.t.Fatal(err)
	}
	s.republished += p.stderr.Count(`"msg":"message.republish"`)
	s.failIfBroken()
	for _, a := range shownAccounts(s.t, s.data) {
		if !s.answered[a.User] && !s.seen[a.User] {
			unanswered++
			if s.newConn[a.User] {
				s.t.Errorf("%s was saved without an answer, on a new connection", a.User)
			}
		}
	}
	return unanswered
}

func (s *killTest) failIfBroken() {
	s.t.Helper()
	for _, err := range s.failures {
		s.t.Error(err)
	}
	if s.t.Failed() {
		s.t.FailNow()
	}
}

// messages returns the messages in the pickup directory, or those that the agent took, by
// recipient.
func (s *killTest) messages() map[string][]message {
	s.t.Helper()
	list := s.agent.taken()
	if s.agent == nil {
		var err error
		if list, err = messagesIn(s.pickup); err != nil {
			s.t.Fatal(err)
		}
	}
	by := make(map[string][]message)
	for _, m := range list {
		by[m.to] = append(by[m.to], m)
	}
	return by
}

// check compares accounts and messages with the clients' results, after a restart.
func (s *killTest) check(p *serverProcess) {
	s.t.Helper()
	list, messages := shownAccounts(s.t, s.data), s.messages()
	left := make(map[string][]message, len(messages))
	for to, m := range messages {
		left[to] = m
	}
	there := make(map[string]bool, len(list))
	var added []string
	for _, a := range list {
		there[a.User] = true
		if _, tried := s.newConn[a.User]; !tried {
			s.t.Errorf("no client asked for the account %s", a.User)
		}
		if a.Role != "guest" || a.Email != email(a.User) || a.Disabled == s.activated[a.User] ||
			(a.Activated != nil) != s.activated[a.User] {
			s.t.Errorf("%s was changed: %+v", a.User, a)
		}
		if n := len(messages[a.Email]); n != 1 {
			s.t.Errorf("%s has %d messages, want one", a.User, n)
		}
		delete(left, a.Email)
		if !s.seen[a.User] {
			s.seen[a.User] = true
			added = append(added, a.User)
			if !s.answered[a.User] {
				s.unanswered++
			}
		}
	}
	for user := range s.answered {
		if !there[user] {
			s.t.Errorf("%s was answered 200 and has no account", user)
		}
	}
	for to := range left {
		s.t.Errorf("there is a message to %s and no account", to)
	}
	if s.t.Failed() {
		s.t.Fatalf("the server's log:\n%s", p.stderr)
	}
	s.sample(p, added, messages)
}

// sample activates some of the new accounts and signs in. The next check proves that the activation
// was durable.
func (s *killTest) sample(p *serverProcess, added []string, messages map[string][]message) {
	s.t.Helper()
	v := newVisitor(p.address, "")
	defer v.leave()
	for i, user := range added {
		if i == 3 {
			break
		}
		link := messages[email(user)][0].link
		if status, page, err := v.open(link); err != nil || status != 200 {
			s.t.Fatalf("the link of %s: %d %v\n%s", user, status, err, page)
		}
		s.activated[user] = true
		if status, _, err := v.open(link); err != nil || status != 400 {
			s.t.Fatalf("the link of %s, a second time: %d %v, want 400", user, status, err)
		}
		if a, err := v.signIn(user, password(user)); err != nil || a.Status != 200 || a.User != user ||
			a.Role != "guest" {
			s.t.Fatalf("%s signs in: %v %v", user, a, err)
		}
	}
}

// finish starts the server for the last time, checks, and stops it. Then it uses all remaining
// links: each must activate the account that its message was sent to.
func (s *killTest) finish() {
	s.t.Helper()
	p := s.start()
	s.check(p)
	p.mustStop(s.t)
	s.republished += p.stderr.Count(`"msg":"message.republish"`)
	if len(s.answered) == 0 {
		s.t.Fatal("no signup was answered, so nothing was tested")
	}

	ctx := context.Background()
	ring, err := keyfile.Read(filepath.Join(s.data, "keys", "seal.key"))
	if err != nil {
		s.t.Fatal(err)
	}
	store, err := teststore.Open(ctx, filepath.Join(s.data, "dialtone.db"), ring)
	if err != nil {
		s.t.Fatal(err)
	}
	defer store.Close()
	pending, err := store.Pending(ctx)
	if err != nil || len(pending) > 0 {
		s.t.Errorf("%d outbox rows are left after SIGTERM (%v)", len(pending), err)
	}
	tenants, _, err := store.Tenants(ctx)
	if err != nil || len(tenants) != 1 {
		s.t.Fatalf("%d tenants, %v", len(tenants), err)
	}
	messages := s.messages()
	users := make([]string, 0, len(s.seen))
	for user := range s.seen {
		if !s.activated[user] {
			users = append(users, user)
		}
	}
	slices.Sort(users)
	for _, user := range users {
		token, ok := secret.ParseToken(messages[email(user)][0].token)
		if !ok {
			s.t.Errorf("the token of %s is malformed", user)
			continue
		}
		a, err := store.Activate(ctx, tenants[0].ID, store.LinkHash(token), time.Now())
		if err != nil || a.User != user || a.Disabled {
			s.t.Errorf("the link of %s activates %q: %v", user, a.User, err)
		}
		s.activated[user] = true
	}
}

// agent takes messages out of a pickup directory, as a mail server does.
type agent struct {
	pickup, spool string
	pass          chan chan error // requests for a pass over the directory
	byID          map[string]message
	twice         int
	t             *testing.T
}

func newAgent(t *testing.T, pickup string) *agent {
	a := &agent{t: t, pickup: pickup, spool: t.TempDir(), pass: make(chan chan error), byID: map[string]message{}}
	ended := make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() { cancel(); <-ended })
	go func() {
		defer close(ended)
		ticker := time.NewTicker(time.Millisecond)
		defer ticker.Stop()
		var failed error
		for n := 0; ; {
			var requested chan error
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			case requested = <-a.pass:
			}
			if failed == nil {
				failed = a.take(&n)
			}
			if requested != nil {
				requested <- failed
			}
		}
	}()
	return a
}

// take moves all messages out of the directory.
func (a *agent) take(n *int) error {
	entries, err := os.ReadDir(a.pickup)
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	for _, e := range entries {
		if filepath.Ext(e.Name()) != ".eml" {
			continue
		}
		*n++
		taken := filepath.Join(a.spool, strconv.Itoa(*n))
		if err := os.Rename(filepath.Join(a.pickup, e.Name()), taken); err != nil {
			return err
		}
		raw, err := os.ReadFile(taken)
		if err != nil {
			return err
		}
		m, err := parseMessage(string(raw))
		if err != nil {
			return fmt.Errorf("the agent took %s: %w", e.Name(), err)
		}
		if old, ok := a.byID[m.id]; ok {
			a.twice++
			if old.raw != m.raw {
				return fmt.Errorf("%s was written twice, with different bytes:\n%s\n%s", m.id, old.raw, m.raw)
			}
		}
		a.byID[m.id] = m
	}
	return nil
}

// taken returns all messages so far, each once, after another pass over the directory.
func (a *agent) taken() []message {
	if a == nil {
		return nil
	}
	a.t.Helper()
	done := make(chan error)
	a.pass <- done
	if err := <-done; err != nil {
		a.t.Fatal(err)
	}
	if left, err := messagesIn(a.pickup); err != nil || len(left) > 0 {
		a.t.Fatalf("%d messages after the agent's pass (%v)", len(left), err)
	}
	list := make([]message, 0, len(a.byID))
	for _, m := range a.byID {
		list = append(list, m)
	}
	return list
}
