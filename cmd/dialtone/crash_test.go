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
	"dialtone/internal/sqlstore"
)

// rounds is how often a server is ended: DIALTONE_TEST_KILLS, or 12.
func rounds(t *testing.T) int {
	text := os.Getenv("DIALTONE_TEST_KILLS")
	if text == "" {
		return 12
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("DIALTONE_TEST_KILLS is %q, not a number above 0", text)
	}
	return n
}

// loadFor is how long a server is under load at most before its end comes.
const loadFor = 150 * time.Millisecond

// In every round a server is started on the same data folder, loaded with signups from many
// addresses, and killed at a random moment. What it answered must be there afterwards; what it did
// not answer is whole or gone.
func TestKilledServerLosesNothing(t *testing.T) {
	s := newKillTest(t)
	n := rounds(t)
	for range n {
		s.killedRound()
	}
	s.finish()
	t.Logf("%d rounds: %d signups answered, %d unanswered but whole, %d messages republished; %d accounts "+
		"activated by their links",
		n, len(s.answered), s.unanswered, s.republished, len(s.activated))
}

// The same with a mail server behind the pickup directory, which takes every message away as
// waitRandomly as it is there. A message may then come twice, as the same bytes with one
// Message-ID; it is never missing.
func TestKilledServerWithMailAgentLosesNothing(t *testing.T) {
	s := newKillTest(t)
	s.agent = newAgent(t, s.pickup)
	n := rounds(t)
	for range n {
		s.killedRound()
	}
	s.finish()
	t.Logf("%d rounds: %d signups answered, %d unanswered but whole, %d messages republished, %d taken "+
		"twice by the agent; %d accounts activated by their links",
		n, len(s.answered), s.unanswered, s.republished, s.agent.twice, len(s.activated))
}

// The server is asked to end while it is busy, as every upgrade does.
func TestTerminatedServerAnswersWhatItBegan(t *testing.T) {
	s := newKillTest(t)
	n := rounds(t)
	var whole int
	for range n {
		whole += s.terminatedRound()
	}
	s.finish()
	if s.republished > 0 {
		t.Errorf("%d messages were written again, though every server ended well", s.republished)
	}
	t.Logf("%d rounds: %d signups answered, %d unanswered but whole on connections that were kept open", n,
		len(s.answered), whole)
}

// killTest is one data folder and what clients know of it. What they know outlives the servers.
type killTest struct {
	t            *testing.T
	data, pickup string
	listen       string
	agent        *agent

	mu       sync.Mutex
	users    int
	answered map[string]bool // signups that were answered 200
	hurried  map[string]bool // signups on a connection of their own
	trouble  []error

	activated   map[string]bool // by their links
	seen        map[string]bool // accounts that an earlier round accounted for
	unanswered  int
	republished int
}

// clients is how many sign up at a time.
const clients = 12

func newKillTest(t *testing.T) *killTest {
	data := filepath.Join(t.TempDir(), "data")
	// The same port in all rounds, since it stands in the links; an address of its own, so that
	// nobody else takes it.
	l, err := net.Listen("tcp", fmt.Sprintf("127.%d.%d.%d:0", 100+rand.IntN(100), rand.IntN(256), 1+rand.IntN(254)))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return &killTest{
		t: t, data: data, pickup: filepath.Join(data, "pickup"), listen: l.Addr().String(),
		answered: map[string]bool{}, hurried: map[string]bool{}, activated: map[string]bool{},
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

// load sets clients on the server, who sign people up until its end.
func (s *killTest) load(p *serverProcess) *loadedServer {
	b := &loadedServer{killTest: s, serverProcess: p}
	for i := range clients {
		b.clients.Go(func() { b.client(i%2 == 0) })
	}
	return b
}

// waitRandomly waits for a random time of at most loadFor.
func waitRandomly() { <-time.After(rand.N(loadFor)) }

// client signs people up, three from each address, until the server has ended.
func (b *loadedServer) client(hurried bool) {
	for {
		v := newVisitor(b.address, "")
		if hurried {
			v.hurried()
		}
		for range 3 {
			if !b.signup(v, hurried) {
				v.leave()
				return
			}
		}
		v.leave()
	}
}

func (b *loadedServer) signup(v *visitor, hurried bool) bool {
	b.mu.Lock()
	b.users++
	user := fmt.Sprintf("person-%d", b.users)
	b.hurried[user] = hurried
	b.mu.Unlock()
	a, err := v.signup(user)
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case err != nil && !b.ending.Load():
		b.trouble = append(b.trouble, fmt.Errorf("%s, long before the end: %w", user, err))
	case err != nil:
		return b.broken(v, user, err)
	case a.Status != 200 || !a.OK || a.User != user:
		b.trouble = append(b.trouble, fmt.Errorf("%s: %s", user, a))
	default:
		b.answered[user] = true
		return true
	}
	return false
}

// broken notes an answer that broke off, which only a kill may do.
func (b *loadedServer) broken(v *visitor, user string, err error) bool {
	if v.began.Load() && !b.killed() {
		b.trouble = append(b.trouble, fmt.Errorf("%s: the answer broke off: %w", user, err))
	}
	return false
}

func (b *loadedServer) killed() bool {
	<-b.ended
	return b.cmd.ProcessState.ExitCode() < 0
}

func (s *killTest) killedRound() {
	s.t.Helper()
	p := s.start()
	s.check(p)
	b := s.load(p)
	waitRandomly()
	b.ending.Store(true)
	p.kill()
	b.clients.Wait()
	s.republished += p.stderr.count(`"msg":"message.republish"`)
	s.noTrouble()
}

// terminatedRound tells how many accounts are whole that nobody was told of. There are none on
// fresh connections: those are either taken and answered, or not taken. On one that waited for its
// next request, that may cross with the end.
func (s *killTest) terminatedRound() (whole int) {
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
	s.republished += p.stderr.count(`"msg":"message.republish"`)
	s.noTrouble()
	for _, a := range shownAccounts(s.t, s.data) {
		if !s.answered[a.User] && !s.seen[a.User] {
			whole++
			if s.hurried[a.User] {
				s.t.Errorf("%s was signed up and never told", a.User)
			}
		}
	}
	return whole
}

func (s *killTest) noTrouble() {
	s.t.Helper()
	for _, err := range s.trouble {
		s.t.Error(err)
	}
	if s.t.Failed() {
		s.t.FailNow()
	}
}

// messages are those in the pickup directory, and those that the agent took, by recipient.
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

// check compares what the server has with what clients know, after a start that followed a kill.
func (s *killTest) check(p *serverProcess) {
	s.t.Helper()
	list, messages := shownAccounts(s.t, s.data), s.messages()
	left := make(map[string][]message, len(messages))
	for to, m := range messages {
		left[to] = m
	}
	there := make(map[string]bool, len(list))
	var fresh []string
	for _, a := range list {
		there[a.User] = true
		if _, tried := s.hurried[a.User]; !tried {
			s.t.Errorf("nobody asked for the account %s", a.User)
		}
		if a.Role != "guest" || a.Email != email(a.User) || a.Disabled == s.activated[a.User] ||
			(a.Activated != nil) != s.activated[a.User] {
			s.t.Errorf("%s is not as it was asked for and left: %+v", a.User, a)
		}
		if n := len(messages[a.Email]); n != 1 {
			s.t.Errorf("%s has %d messages, want one", a.User, n)
		}
		delete(left, a.Email)
		if !s.seen[a.User] {
			s.seen[a.User] = true
			fresh = append(fresh, a.User)
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
	s.sample(p, fresh, messages)
}

// sample activates a few of the accounts that are new, and signs one of them in. The next check
// finds out whether the links did what they should, and whether it lasts.
func (s *killTest) sample(p *serverProcess, fresh []string, messages map[string][]message) {
	s.t.Helper()
	v := newVisitor(p.address, "")
	defer v.leave()
	for i, user := range fresh {
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

// finish starts a last time, checks, ends well, and then opens every link that is left: each
// activates the very account that the message went to.
func (s *killTest) finish() {
	s.t.Helper()
	p := s.start()
	s.check(p)
	p.mustStop(s.t)
	s.republished += p.stderr.count(`"msg":"message.republish"`)
	if len(s.answered) == 0 {
		s.t.Fatal("no signup was answered: the test tested nothing")
	}

	ctx := context.Background()
	ring, err := keyfile.Read(filepath.Join(s.data, "keys", "seal.key"))
	if err != nil {
		s.t.Fatal(err)
	}
	store, err := sqlstore.Open(ctx, filepath.Join(s.data, "dialtone.db"), ring)
	if err != nil {
		s.t.Fatal(err)
	}
	defer store.Close()
	waiting, err := store.Pending(ctx)
	if err != nil || len(waiting) > 0 {
		s.t.Errorf("%d messages are not settled after a good end (%v)", len(waiting), err)
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
		a, err := store.Activate(ctx, tenants[0].ID, token.Hash(), time.Now())
		if err != nil || a.User != user || a.Disabled {
			s.t.Errorf("the link of %s activates %q: %v", user, a.User, err)
		}
		s.activated[user] = true
	}
}

// agent takes messages out of a pickup directory, as a mail server does.
type agent struct {
	pickup, spool string
	pass          chan chan error // a request for a whole pass
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
			var wants chan error
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			case wants = <-a.pass:
			}
			if failed == nil {
				failed = a.take(&n)
			}
			if wants != nil {
				wants <- failed
			}
		}
	}()
	return a
}

// take takes away every message that is there.
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
		mine := filepath.Join(a.spool, strconv.Itoa(*n))
		if err := os.Rename(filepath.Join(a.pickup, e.Name()), mine); err != nil {
			return err
		}
		raw, err := os.ReadFile(mine)
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
				return fmt.Errorf("%s came twice, and not as the same bytes:\n%s\n%s", m.id, old.raw, m.raw)
			}
		}
		a.byID[m.id] = m
	}
	return nil
}

// taken are all messages so far, each once, after a whole pass over the directory.
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
