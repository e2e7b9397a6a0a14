package postgres_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/fault"
	"dialtone/internal/hook"
	"dialtone/internal/outbox"
	"dialtone/internal/secret"
	"dialtone/internal/sipserver"
	"dialtone/internal/store/admission"
	"dialtone/internal/store/engine"
	"dialtone/internal/store/postgres"
	"dialtone/internal/tenant"
	"dialtone/internal/test/postgrestest"
)

// wire is the network between a store and its server.
type wire struct {
	net.Listener
	target string

	mu    sync.Mutex
	hole  bool   // everything is swallowed, in both directions
	then  bool   // the hole opens with the next cut
	say   []byte // a message of the client that is lost, with its connection
	hear  []byte // a message of the server, likewise
	cuts  atomic.Int32
	conns []net.Conn
}

func newWire(t *testing.T, target string) *wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{Listener: l, target: target}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s, err := net.Dial("tcp", target)
			if err != nil {
				c.Close()
				continue
			}
			w.mu.Lock()
			w.conns = append(w.conns, c, s)
			w.mu.Unlock()
			all.Go(func() { w.carry(c, s, &w.say) })
			all.Go(func() { w.carry(s, c, &w.hear) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		w.mu.Lock()
		for _, c := range w.conns {
			c.Close()
		}
		w.mu.Unlock()
		all.Wait()
	})
	return w
}

// carry passes bytes on, until one of them ends or is to end.
func (w *wire) carry(from, to net.Conn, lost *[]byte) {
	defer from.Close()
	defer to.Close()
	b := make([]byte, 64<<10)
	for {
		n, err := from.Read(b)
		if err != nil {
			return
		}
		w.mu.Lock()
		hole := w.hole
		cut := *lost != nil && bytes.Contains(b[:n], *lost)
		if cut {
			*lost = nil // once
			w.hole = w.hole || w.then
			w.cuts.Add(1)
		}
		w.mu.Unlock()
		switch {
		case cut:
			return
		case hole:
		default:
			if _, err := to.Write(b[:n]); err != nil {
				return
			}
		}
	}
}

func (w *wire) set(do func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	do()
}

// heal lets everything through again, save what went into the hole: those connections have lost a
// part of what was said.
func (w *wire) heal() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hole, w.then = false, false
	for _, c := range w.conns {
		c.Close()
	}
	w.conns = nil
}

// url is that of a database as it is reached through the wire.
func (w *wire) url(direct string) string {
	return strings.Replace(direct, w.target, w.Addr().String(), 1)
}

// committed is what the server says when a transaction is.
var committed = []byte("COMMIT\x00")

// farAndNear are two stores on one database, one of them at the end of a wire, with a tenant.
func farAndNear(t *testing.T, c *postgrestest.Cluster) (far, near *Store, w *wire, home int64) {
	t.Helper()
	direct, ring := c.Database(t), secret.NewRing(midday)
	w = newWire(t, c.Addr())
	near = openStore(t, ring, "near", direct)
	far = openStore(t, ring, "far", w.url(direct))
	added, err := near.AddTenant(t.Context(), tenant.Tenant{Host: "phone.test", Realm: "phone.test", Created: midday})
	if err != nil {
		t.Fatal(err)
	}
	return far, near, w, added.ID
}

func (s *Store) there(t *testing.T, a account.Signup) bool {
	t.Helper()
	_, err := s.FindUID(t.Context(), a.Account.Tenant, a.Account.UID, midday)
	if err != nil && !fault.Is(err, fault.NotFound) {
		t.Fatal(err)
	}
	return err == nil
}

// The connection breaks around the commit of a group. The answer of each signup agrees with
// the rows.
func TestSignupCommitWithoutAnswer(t *testing.T) {
	for name, lose := range map[string]func(*wire){
		"after it happened":  func(w *wire) { w.hear = committed },
		"before it happened": func(w *wire) { w.say = []byte("@mail.test") },
	} {
		t.Run(name, func(t *testing.T) {
			far, near, w, home := farAndNear(t, postgrestest.Shared(t))
			taken := newcomer(home, "taken")
			if err := near.Create(t.Context(), taken, midday); err != nil {
				t.Fatal(err)
			}
			for round := range 10 {
				group := []account.Signup{
					newcomer(home, fmt.Sprintf("ann%d", round)),
					newcomer(home, "taken"),
					newcomer(home, fmt.Sprintf("bob%d", round)),
					newcomer(home, fmt.Sprintf("eve%d", round)),
				}
				group[3].Captcha.Right = false
				w.set(func() { lose(w) })
				before := w.cuts.Load()
				errs := far.engine.CreateGroup(group, midday)
				if w.cuts.Load() != before+1 {
					t.Fatal("the wire was not cut")
				}
				for i, want := range []error{nil, account.ErrTaken, nil, account.ErrCaptcha} {
					if err := errs[i]; !errors.Is(err, want) {
						t.Errorf("signup %d: got %v, want %v", i, err, want)
					}
					if got := near.there(t, group[i]); got != (want == nil) {
						t.Errorf("signup %d: the account is there: %v", i, got)
					}
					again := newcomer(home, fmt.Sprintf("again%d-%d", round, i))
					again.Captcha = group[i].Captcha
					again.Captcha.Right = true
					if err := near.Create(t.Context(), again, midday); err != account.ErrCaptcha {
						t.Errorf("the captcha of signup %d once more: %v", i, err)
					}
				}
			}
		})
	}
}

// The same for every other write: it is run again, and its answer is that of the first time.
func TestWriteWithoutAnswer(t *testing.T) {
	far, near, w, home := farAndNear(t, postgrestest.Shared(t))
	ctx := t.Context()
	member := func(user string) account.Signup {
		a := newcomer(home, user)
		if err := near.Create(ctx, a, midday); err != nil {
			t.Fatal(err)
		}
		return a
	}
	n := 0
	for _, lose := range []func(){func() { w.hear = committed }, func() { w.say = []byte("COMMIT") }} {
		n++
		link, both := member(fmt.Sprint("link", n)), member(fmt.Sprint("both", n))
		shut, gone := member(fmt.Sprint("shut", n)), member(fmt.Sprint("gone", n))
		active, sent := member(fmt.Sprint("active", n)), member(fmt.Sprint("sent", n))
		undone := member(fmt.Sprint("undone", n))
		if _, err := near.Enable(ctx, home, active.Account.User, midday); err != nil {
			t.Fatal(err)
		}
		host := fmt.Sprintf("other%d.test", n)
		added := hook.Hook{ID: hook.ID{byte(n)}, Name: "hook", AllTenants: true, Created: midday}
		var notices []hook.Notification
		for _, c := range []struct {
			name string
			do   func() error
		}{
			{"add a hook", func() error { return far.AddHook(ctx, added) }},
			{"activate", func() error {
				a, err := far.Activate(ctx, home, link.Token, midday)
				if err == nil && a.Disabled {
					err = errors.New("it is not active")
				}
				return err
			}},
			{"confirm", func() error {
				a, err := far.Confirm(ctx, home, both.Token, both.Account.UID, midday)
				if err == nil && (a.Disabled || !a.Confirmed.Equal(midday)) {
					err = errors.New("it is not confirmed")
				}
				return err
			}},
			{"disable", func() error {
				_, err := far.Disable(ctx, home, shut.Account.User, midday)
				return err
			}},
			{"disable one that is active", func() error {
				_, err := far.Disable(ctx, home, active.Account.User, midday)
				return err
			}},
			{"delete one that waits", func() error { return far.Delete(ctx, home, gone.Account.User, midday) }},
			{"delete one that is active", func() error { return far.Delete(ctx, home, active.Account.User, midday) }},
			{"settle", func() error {
				_, err := far.Ack(ctx, []outbox.Ref{{Account: sent.Account.UID, Message: sent.Message}})
				return err
			}},
			{"undo", func() error { return far.Undo(ctx, undone, midday) }},
			{"revoke", func() error { return far.Revoke(ctx, home, [16]byte{byte(n)}, midday) }},
			{"add a tenant", func() error {
				_, err := far.AddTenant(ctx, tenant.Tenant{Host: host, Realm: host, Created: midday})
				return err
			}},
			{"remove a tenant", func() error { return far.RemoveTenant(ctx, host, false, midday) }},
			{"add a phone server", func() error {
				return far.AddServer(ctx, sipserver.Server{
					Name: host, Token: [32]byte{byte(n)}, Tenants: []int64{home}, Created: midday,
				})
			}},
			{"remove a phone server", func() error { return far.RemoveServer(ctx, host) }},
			{"claim", func() error {
				if _, err := far.Claim(ctx, added.ID, midday, midday.Add(time.Minute), 9); err != nil {
					return err
				}
				// Nobody was told of those that the first run claimed. They are there when the
				// claim is over, each change once.
				var err error
				notices, err = near.Claim(ctx, added.ID, midday.Add(time.Minute), midday.Add(2*time.Minute), 9)
				if len(notices) != 4 {
					t.Errorf("%d notices of four changes", len(notices))
				}
				return err
			}},
			{"report", func() error {
				return far.Report(ctx, []hook.Result{
					{Notification: notices[0]},
					{Notification: notices[3]},
					{Notification: notices[1], Failure: "no"},
					{Notification: notices[2], Failure: "no", RetryAt: midday},
				}, midday)
			}},
			{"what was reported", func() error {
				w.cuts.Add(1)
				if s, err := near.Hooks(ctx); err != nil || s[0].Waiting != 1 || s[0].GivenUp != 1 {
					t.Errorf("%+v, %v", s, err)
				}
				return nil
			}},
			{"remove a hook", func() error { return far.RemoveHook(ctx, "hook") }},
		} {
			before := w.cuts.Load()
			w.set(lose)
			if err := c.do(); err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
			if w.cuts.Load() == before {
				t.Fatalf("%s: the wire was not cut", c.name)
			}
		}
		if near.there(t, gone) || near.there(t, active) || near.there(t, undone) || !near.there(t, link) {
			t.Error("what was answered is not so")
		}
		if _, err := near.Activate(ctx, home, link.Token, midday); err != account.ErrActive {
			t.Errorf("the link once more: %v", err)
		}
	}
}

// A network that swallows everything: nobody waits for long, nobody is told of what did not happen,
// and all is well when it heals.
func TestBlackHole(t *testing.T) {
	far, near, w, home := farAndNear(t, postgrestest.Shared(t))
	w.set(func() { w.hole = true })
	lost := newcomer(home, "lost")
	began := time.Now()
	if err := far.Create(t.Context(), lost, midday); !fault.Is(err, fault.Overloaded) {
		t.Fatalf("a signup into the hole: %v", err)
	}
	if d := time.Since(began); d >= postgres.OperationTimeout {
		t.Errorf("a signup into the hole was given up after %v, by its own deadline alone", d)
	}
	for far.engine.BreakerErr() == nil { // seen by the first that met it, or by the next probe
		if _, err := far.Find(t.Context(), home, "lost", midday); !fault.Is(err, fault.Overloaded) {
			t.Fatalf("a look-up into the hole: %v", err)
		}
	}
	began = time.Now()
	for i := range 1000 {
		err := far.Create(t.Context(), newcomer(home, fmt.Sprint("quick", i)), midday)
		_, other := far.Find(t.Context(), home, "ann", midday)
		if !fault.Is(err, fault.Overloaded) || !fault.Is(other, fault.Overloaded) {
			t.Fatalf("while the database is away: %v, %v", err, other)
		}
	}
	if d := time.Since(began); d > postgres.OperationTimeout {
		t.Errorf("2000 refusals took %v: somebody waited", d)
	}
	// What the far store holds at the server is let go of, without a word from it.
	if err := near.Create(t.Context(), newcomer(home, "lost"), midday); err != nil {
		t.Errorf("the name, at another node: %v", err)
	}
	w.heal()
	healed := newcomer(home, "healed")
	began = time.Now()
	for err := far.Create(t.Context(), healed, midday); err != nil; err = far.Create(t.Context(), healed, midday) {
		if !fault.Is(err, fault.Overloaded) {
			t.Fatal(err)
		}
		far.engine.WaitForBreaker(t.Context())
	}
	t.Logf("back after %v", time.Since(began).Round(time.Millisecond))
	if near.there(t, lost) || !near.there(t, healed) {
		t.Error("what was answered is not so")
	}
}

// A commit that nobody answers, and a database that stays away: the caller hears that it is not
// known, and can take it back.
func TestUndoAfterLostCommit(t *testing.T) {
	t.Parallel()
	far, near, w, home := farAndNear(t, postgrestest.Shared(t))
	lost := newcomer(home, "lost")
	w.set(func() { w.hear, w.then = committed, true })
	if err := far.Create(t.Context(), lost, midday); !errors.Is(err, account.ErrUnknown) {
		t.Fatalf("got %v", err)
	}
	if !near.there(t, lost) {
		t.Fatal("the commit did not happen")
	}
	undo := func() error { return far.Undo(t.Context(), lost, midday) }
	err := undo()
	if !fault.Is(err, fault.Overloaded) {
		t.Errorf("taking it back while the database is away: %v", err)
	}
	w.heal()
	for err = undo(); fault.Is(err, fault.Overloaded); err = undo() {
		far.engine.WaitForBreaker(t.Context())
	}
	if err != nil || near.there(t, lost) {
		t.Errorf("taken back: %v; still there: %v", err, near.there(t, lost))
	}
}

// What is wrong with a statement of ours is not taken for a lost database: it is told as it is, and
// the breaker stays closed.
func TestStatementErrorIsInternal(t *testing.T) {
	s := openStore(t, secret.NewRing(midday), "a", postgrestest.Shared(t).Database(t))
	var n int
	for name, do := range map[string]func(engine.Tx) error{
		"a value of another type": func(tx engine.Tx) error { return tx.Row(`SELECT 'x'`).Scan(&n) },
		"an argument of another type": func(tx engine.Tx) error {
			_, err := tx.Exec(`UPDATE revision SET n = $1`, "x")
			return err
		},
		"a statement that is none":  func(tx engine.Tx) error { _, err := tx.Exec(`SELEC`); return err },
		"a table that is not there": func(tx engine.Tx) error { return tx.Row(`SELECT 1 FROM nothing`).Scan(&n) },
	} {
		if err := s.engine.Write(do); err == nil || fault.KindOf(err) != fault.Internal {
			t.Errorf("%s, writing: %v", name, err)
		}
	}
	err := s.engine.Reads(t.Context()).Row(`SELECT 'x'`).Scan(&n)
	if err == nil || fault.KindOf(err) != fault.Internal {
		t.Errorf("reading: %v", err)
	}
	if err := s.engine.BreakerErr(); err != nil {
		t.Errorf("the breaker is open: %v", err)
	}
}

// insertAccount inserts the row of a signup.
func insertAccount(tx engine.Tx, a account.Signup) error {
	c := a.Account
	_, err := tx.Exec(`INSERT INTO account (uid, tenant, username, name, email, role, held, created, expires,
		epoch, credential, has_sha256, token, lang)
		VALUES ($1, $2, $3, '', '', 'guest', FALSE, $4, $5, 0, '', FALSE, $6, 'en')`,
		c.UID[:], c.Tenant, c.User, engine.Micros(c.Created), engine.Micros(c.Expires), a.Token[:])
	return err
}

// A commit is on its way when the account is to be taken back: the one ends before the other begins.
func TestUndoWaitsForTheCommit(t *testing.T) {
	c := postgrestest.Shared(t)
	_, near, _, home := farAndNear(t, c)
	ctx := t.Context()
	conn, err := near.engine.Pool().Acquire(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	a := newcomer(home, "ann")
	tx := postgres.NewTx(ctx, conn.Conn())
	for _, err := range []error{tx.Script("BEGIN"), tx.Lock(admission.Keys(a)...), insertAccount(tx, a)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	undone := make(chan error, 1)
	go func() { undone <- near.Undo(ctx, a, midday) }()
	waits := func() (n int64) {
		n, err := engine.Count(near.engine.Reads(ctx),
			`SELECT count(*) FROM pg_stat_activity
			WHERE datname = current_database() AND wait_event_type = 'Lock'`)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	for waits() == 0 {
		select {
		case err := <-undone:
			t.Fatalf("it did not wait: %v", err)
		default:
		}
	}
	if err := tx.Script("COMMIT"); err != nil {
		t.Fatal(err)
	}
	if err := <-undone; err != nil || near.there(t, a) {
		t.Errorf("taken back: %v; still there: %v", err, near.there(t, a))
	}
}

// The server crashes again and again under load.
func TestServerCrashes(t *testing.T) {
	t.Parallel()
	c := postgrestest.Start(t)
	ring := secret.NewRing(midday)
	s := openStore(t, ring, "a", c.Database(t))
	home, err := s.AddTenant(t.Context(), tenant.Tenant{Host: "phone.test", Realm: "phone.test", Created: midday})
	if err != nil {
		t.Fatal(err)
	}
	load := startLoad(s, home.ID)
	for range 6 {
		load.until(200)
		before := load.overloads()
		c.Crash(t)
		load.untilRefused(before)
		c.Restart(t)
		began := time.Now()
		load.until(1)
		t.Logf("the first signup %v after the server was back", time.Since(began).Round(time.Millisecond))
	}
	load.check(t, s)
}

// Connections are cut, at any moment.
func TestBackendsAreKilled(t *testing.T) {
	t.Parallel()
	c := postgrestest.Start(t)
	s := openStore(t, secret.NewRing(midday), "a", c.Database(t))
	home, err := s.AddTenant(t.Context(), tenant.Tenant{Host: "phone.test", Realm: "phone.test", Created: midday})
	if err != nil {
		t.Fatal(err)
	}
	load := startLoad(s, home.ID)
	killed := 0
	for i := range 30 {
		load.until(20)
		killed += c.KillBackends(t, []string{"INSERT INTO", "COMMIT", "advisory"}[i%3])
	}
	if killed < 5 {
		t.Errorf("only %d connections were killed", killed)
	}
	t.Logf("%d connections were killed", killed)
	load.check(t, s)
}

// The primary is lost for good, and a standby that has every commit takes its place.
func TestPromotion(t *testing.T) {
	t.Parallel()
	primary := postgrestest.Start(t)
	database := primary.Database(t)
	standby := primary.SyncStandby(t)
	name := database[strings.LastIndex(database, "/")+1:]
	name, _, _ = strings.Cut(name, "?")
	s := openStore(t, secret.NewRing(midday), "a", primary.URL(name, standby))
	home, err := s.AddTenant(t.Context(), tenant.Tenant{Host: "phone.test", Realm: "phone.test", Created: midday})
	if err != nil {
		t.Fatal(err)
	}
	load := startLoad(s, home.ID)
	load.until(300)
	before := load.overloads()
	primary.Crash(t)
	load.untilRefused(before)
	standby.Promote(t)
	began := time.Now()
	load.until(1)
	t.Logf("the first signup %v after the promotion", time.Since(began).Round(time.Millisecond))
	load.until(200)
	load.check(t, s)
}

// load are clients that sign up, with some that are refused among them, and remember what they were
// told.
type load struct {
	s      *Store
	tenant int64
	ctx    context.Context
	end    context.CancelFunc
	all    sync.WaitGroup

	mu       sync.Mutex
	moved    *sync.Cond
	made     []account.Signup // nil
	refused  []account.Signup // a fault, or Overloaded
	unknown  []account.Signup
	other    []error
	overload int
}

func startLoad(s *Store, home int64) *load {
	l := &load{s: s, tenant: home}
	l.ctx, l.end = context.WithCancel(context.Background())
	l.moved = sync.NewCond(&l.mu)
	for client := range 16 {
		l.all.Go(func() {
			for i := 0; l.ctx.Err() == nil; i++ {
				a := newcomer(home, fmt.Sprintf("user%d-%d", client, i))
				if i%10 == 9 {
					a.Account.User = fmt.Sprintf("user%d-%d", client, i-1) // mostly taken
				}
				err := s.Create(context.Background(), a, midday)
				l.mu.Lock()
				if fault.Is(err, fault.Overloaded) {
					// This includes commits whose outcome is unknown. All sixteen signups may have
					// been in the one commit that was cut off.
					l.overload++
				}
				switch {
				case err == nil:
					l.made = append(l.made, a)
				case errors.Is(err, account.ErrUnknown):
					l.unknown = append(l.unknown, a)
				case fault.KindOf(err) == fault.Internal:
					l.other = append(l.other, err)
				default:
					l.refused = append(l.refused, a)
				}
				l.moved.Broadcast()
				l.mu.Unlock()
				if fault.Is(err, fault.Overloaded) {
					s.engine.WaitForBreaker(l.ctx) // a client that waits as it is told
				}
			}
		})
	}
	return l
}

// until waits for n more signups, and untilRefused for more that were turned away than before.
func (l *load) until(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for want := len(l.made) + n; len(l.made) < want; {
		l.moved.Wait()
	}
}

func (l *load) untilRefused(before int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.overload == before {
		l.moved.Wait()
	}
}

func (l *load) overloads() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.overload
}

// check compares what everybody was told with what there is.
func (l *load) check(t *testing.T, s *Store) {
	t.Helper()
	l.end()
	l.all.Wait()
	for _, err := range l.other {
		t.Errorf("somebody was told: %v", err)
	}
	waiting := make(map[account.UID]bool)
	list, err := s.Pending(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range list {
		waiting[w.Account] = true
	}
	for _, a := range l.unknown {
		if err := s.Undo(t.Context(), a, midday); err != nil {
			t.Fatal(err)
		}
	}
	for _, a := range l.made {
		if !s.there(t, a) || !waiting[a.Account.UID] {
			t.Errorf("%s was answered, and is lost", a.Account.User)
		}
	}
	for _, a := range append(l.refused, l.unknown...) {
		if s.there(t, a) {
			t.Errorf("%s was refused, and is there", a.Account.User)
		}
	}
	t.Logf("%d signups answered, %d refused, %d not known of; %d of both since the database was away",
		len(l.made), len(l.refused), len(l.unknown), l.overload)
}
