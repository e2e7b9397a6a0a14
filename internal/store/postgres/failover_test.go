package postgres_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/fault"
	"dialtone/internal/outbox"
	"dialtone/internal/secret"
	"dialtone/internal/session"
	"dialtone/internal/store/engine"
	"dialtone/internal/store/postgres"
	"dialtone/internal/tenant"
	"dialtone/internal/test/postgrestest"
)

// databaseIn returns the name of the database in a URL.
func databaseIn(url string) string {
	name, _, _ := strings.Cut(url[strings.LastIndex(url, "/")+1:], "?")
	return name
}

// eventually waits until done returns true, and fails the test after 30 s.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !done(); {
		if time.Now().After(end) {
			t.Fatalf("not within 30 s: %s", what)
		}
		<-time.After(5 * time.Millisecond)
	}
}

// count returns the number that a query selects.
func (s *testStore) count(t *testing.T, query string, args ...any) int64 {
	t.Helper()
	n, err := engine.Count(s.engine.Reads(t.Context()), query, args...)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// A commit is interrupted while it waits for the synchronous standby. Its rows are then visible on
// the primary and not on the standby. The write is not acknowledged before the standby has them, so
// that nothing is lost with the primary.
func TestInterruptedCommitWaitsForStandby(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		interrupt string
		end       func(t *testing.T, primary, standby *postgrestest.Cluster)
	}{
		"connection_broken_standby_promoted": {`pg_terminate_backend(pid, 20000)`, promote},
		"wait_cancelled_standby_promoted":    {`pg_cancel_backend(pid)`, promote},
		"connection_broken_standby_returns": {`pg_terminate_backend(pid, 20000)`,
			func(t *testing.T, _, standby *postgrestest.Cluster) { standby.Restart(t) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			interruptCommits(t, c.interrupt, c.end)
		})
	}
}

// promote crashes the primary and makes the standby the primary.
func promote(t *testing.T, primary, standby *postgrestest.Cluster) {
	primary.Crash(t)
	standby.Restart(t)
	standby.Promote(t)
}

func interruptCommits(
	t *testing.T, interrupt string, end func(t *testing.T, primary, standby *postgrestest.Cluster),
) {
	primary := postgrestest.Start(t)
	name := databaseIn(primary.Database(t))
	standby := primary.SyncStandby(t)
	s := openStore(t, secret.NewRing(noon), "a", primary.URL(name, standby))
	ctx, tenantID := t.Context(), addTenant(t, s, "phone.test")
	activated, deleted := newSignup(tenantID, "activated"), newSignup(tenantID, "deleted")
	undone, created := newSignup(tenantID, "undone"), newSignup(tenantID, "created")
	for _, a := range []account.Signup{activated, deleted, undone} {
		if err := s.Create(ctx, a, noon); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.EnableNow(ctx, tenantID, "deleted", noon); err != nil {
		t.Fatal(err)
	}
	standby.Crash(t)
	type answer struct {
		name string
		err  error
	}
	calls := map[string]func() error{
		"create":   func() error { return s.Create(ctx, created, noon) },
		"activate": func() error { _, err := s.Activate(ctx, tenantID, activated.Token, noon); return err },
		"delete":   func() error { return s.Delete(ctx, tenantID, "deleted", noon) },
		"undo":     func() error { return s.Undo(ctx, undone, noon) },
	}
	answers := make(chan answer, len(calls))
	for name, do := range calls {
		go func() { answers <- answer{name, do()} }()
	}
	waiting := func() (pids string) {
		if err := s.engine.Reads(ctx).Row(
			`SELECT COALESCE(string_agg(pid || ' since ' || xact_start, ', ' ORDER BY pid), '')
			FROM pg_stat_activity
			WHERE datname = current_database() AND wait_event = 'SyncRep'`,
		).Scan(&pids); err != nil {
			t.Fatal(err)
		}
		return pids
	}
	all := func(pids string) bool { return strings.Count(pids, "since") == len(calls) }
	eventually(t, "all commits wait for the standby", func() bool { return all(waiting()) })
	before := waiting()
	primary.Exec(t, primary.URL(name), `SELECT `+interrupt+` FROM pg_stat_activity WHERE wait_event = 'SyncRep'`)
	eventually(t, "all commits wait for the standby again", func() bool {
		select {
		case a := <-answers:
			t.Fatalf("%s was acknowledged (%v) before the standby had the commit", a.name, a.err)
		default:
		}
		now := waiting()
		for _, one := range strings.Split(before, ", ") {
			if strings.Contains(now, one) {
				return false
			}
		}
		return all(now)
	})
	if !s.exists(t, created) {
		t.Fatal("the signup was not committed")
	}
	end(t, primary, standby)
	for range calls {
		a := <-answers
		if a.err == nil {
			continue
		}
		if !fault.Is(a.err, fault.Overloaded) {
			t.Errorf("%s: %v", a.name, a.err)
		}
		// The machine was too slow. A retry finds the state before or after the write.
		eventually(t, "a retry of "+a.name+" succeeds", func() bool {
			return !fault.Is(calls[a.name](), fault.Overloaded)
		})
	}
	got := make(map[string]bool)
	for _, a := range []account.Signup{activated, created, deleted, undone} {
		got[a.Account.User] = s.exists(t, a)
	}
	want := map[string]bool{"activated": true, "created": true, "deleted": false, "undone": false}
	if !maps.Equal(got, want) {
		t.Errorf("the accounts exist: %v, want %v", got, want)
	}
	if _, err := s.Activate(ctx, tenantID, activated.Token, noon); !errors.Is(err, account.ErrActive) {
		t.Errorf("the link is opened again: %v", err)
	}
}

// The machine of the primary drops all packets, so that connections are neither refused nor
// answered. The store finds the new primary, which is named later in the URL.
func TestPrimaryVanishes(t *testing.T) {
	t.Parallel()
	primary := postgrestest.Start(t)
	name := databaseIn(primary.Database(t))
	standby := primary.SyncStandby(t)
	p := newProxy(t, primary.Addr())
	s := openStore(t, secret.NewRing(noon), "a", p.url(primary.URL(name, standby)))
	load := startLoad(s, addTenant(t, s, "phone.test"))
	load.waitForSignups(200)
	before := load.countOverloads()
	p.update(func() { p.blackhole = true })
	load.waitForOverload(before)
	standby.Promote(t)
	began := time.Now()
	eventually(t, "the breaker is closed", func() bool { return s.engine.BreakerErr() == nil })
	t.Logf("found %v after the promotion", time.Since(began).Round(time.Millisecond))
	load.waitForSignups(1)
	t.Logf("the first signup %v after the promotion", time.Since(began).Round(time.Millisecond))
	load.waitForSignups(100)
	load.check(t, s)
}

// Connections that were lost while the network dropped packets do not occupy the pool when the
// network is back.
func TestDeadConnectionsAreReplaced(t *testing.T) {
	t.Parallel()
	proxied, _, p, tenantID := openBoth(t, postgrestest.Shared(t))
	ctx, e := t.Context(), proxied.engine
	n := e.FillPool(t)
	var before int
	p.update(func() { p.blackhole, before = true, len(p.conns) })
	var all sync.WaitGroup
	for range n {
		all.Go(func() {
			if _, err := proxied.Find(ctx, tenantID, "ann", noon); !fault.Is(err, fault.Overloaded) {
				t.Errorf("a look-up into the black hole: %v", err)
			}
		})
	}
	all.Wait()
	// The driver cancels each abandoned query over a new connection. These connections hang too, and
	// then some of the probes.
	eventually(t, "cancel requests and probes hang", func() (done bool) {
		p.update(func() { done = e.BreakerErr() != nil && len(p.conns) >= before+2*n+4 })
		return done
	})
	p.update(func() { p.blackhole = false })
	e.WaitForBreaker(ctx)
	if err := proxied.Create(ctx, newSignup(tenantID, "ann"), noon); err != nil {
		t.Errorf("the first signup when the network is back: %v", err)
	}
}

// When the breaker opens, every kind of call that waits for the database is cancelled.
func TestOpenBreakerCancelsCalls(t *testing.T) {
	t.Parallel()
	proxied, _, p, tenantID := openBoth(t, postgrestest.Shared(t))
	ctx := t.Context()
	proxied.engine.FillPool(t) // otherwise some calls would wait for a connection, which has its own timeout
	p.update(func() { p.blackhole = true })
	calls := map[string]func() error{
		"create":   func() error { return proxied.Create(ctx, newSignup(tenantID, "ann"), noon) },
		"find":     func() error { _, err := proxied.Find(ctx, tenantID, "ann", noon); return err },
		"sign out": func() error { return proxied.SignOut(ctx, session.Record{ID: [16]byte{1}}, noon) },
		"spend":    func() error { _, err := proxied.Spend(ctx, tenantID, [16]byte{2}, noon); return err },
		"ack":      func() error { _, err := proxied.Ack(ctx, []outbox.Ref{{Tenant: tenantID}}, noon); return err },
		"tenants":  func() error { _, _, err := proxied.Tenants(ctx); return err },
		"takeover": func() error { _, err := proxied.TakeOver(ctx); return err },
		"disable":  func() error { _, err := proxied.Disable(ctx, tenantID, "ann", noon); return err },
		"activate": func() error { _, err := proxied.Activate(ctx, tenantID, [32]byte{1}, noon); return err },
		"confirm": func() error {
			_, err := proxied.Confirm(ctx, tenantID, [32]byte{1}, account.UID{}, noon)
			return err
		},
	}
	began := time.Now()
	var all sync.WaitGroup
	for name, do := range calls {
		all.Go(func() {
			if err := do(); !fault.Is(err, fault.Overloaded) {
				t.Errorf("%s into the black hole: %v", name, err)
			} else if !strings.Contains(fmt.Sprint(err, errors.Unwrap(err)), "no answer within") {
				t.Errorf("%s into the black hole does not name the time-out: %v, %v", name, err, errors.Unwrap(err))
			}
			if d := time.Since(began); d >= postgres.OperationTimeout {
				t.Errorf("%s into the black hole failed after %v, only by its own deadline",
					name, d.Round(time.Millisecond))
			}
		})
	}
	all.Wait()
}

// A node takes over from a dead node, and loses the database before the commit is answered. It gets
// the messages when the database is back.
func TestTakeOverInDoubt(t *testing.T) {
	defer postgres.SetLease(0)()
	users := []string{"ann", "bob"}
	cases := []*struct {
		name            string
		cut             func(*proxy)
		third           bool // a third node takes over before the database is back
		want            []string
		proxied, direct *testStore
		proxy           *proxy
	}{
		{name: "committed", cut: func(p *proxy) { p.cutResponse = committed }, want: users},
		{name: "not committed", cut: func(p *proxy) { p.cutRequest = []byte("COMMIT") }, want: users},
		{name: "not committed, and a third node takes over",
			cut: func(p *proxy) { p.cutRequest = []byte("COMMIT") }, third: true},
	}
	var all sync.WaitGroup
	for _, c := range cases {
		var tenantID int64
		c.proxied, c.direct, c.proxy, tenantID = openBoth(t, postgrestest.Shared(t))
		for _, user := range users {
			if err := c.direct.Create(t.Context(), newSignup(tenantID, user), noon); err != nil {
				t.Fatal(err)
			}
		}
		c.direct.takeOver(t)
		expired, err := c.proxied.engine.Expired(t.Context())
		if err != nil || len(expired) != 1 || expired[0].Node != "direct" {
			t.Fatalf("expired are %v, %v", expired, err)
		}
		c.proxy.update(func() { c.cut(c.proxy); c.proxy.thenBlackhole = true })
		all.Go(func() {
			if list, err := c.proxied.TakeOverFrom(t.Context(), expired); !fault.Is(err, fault.Overloaded) {
				t.Errorf("%s: got %v, %v", c.name, list, err)
			}
		})
	}
	all.Wait()
	for _, c := range cases {
		postgres.SetLease(0)
		if c.third {
			third := openStore(t, nil, "third", c.direct.engine.Pool().Config().ConnString())
			if got := third.takeOver(t); len(got) != 2 {
				t.Fatalf("the third node takes over %v", got)
			}
			postgres.SetLease(time.Hour) // the third node is alive
		}
		c.proxy.restore()
		c.proxied.engine.WaitForBreaker(t.Context())
		var list []outbox.Entry
		var err error
		eventually(t, "the database is back", func() bool {
			list, err = c.proxied.TakeOver(t.Context())
			return !fault.Is(err, fault.Overloaded)
		})
		got := usersOf(t, list, err)
		if slices.Sort(got); !slices.Equal(got, c.want) {
			t.Errorf("%s: took over %v, want %v", c.name, got, c.want)
		}
		if got := c.proxied.takeOver(t); got != nil {
			t.Errorf("%s: took over %v again", c.name, got)
		}
	}
}

// A node whose lease has expired commits a signup, and dies before it increments its heartbeat.
func TestReturnedNodeDies(t *testing.T) {
	defer postgres.SetLease(time.Minute)()
	_, direct, _, tenantID := openBoth(t, postgrestest.Shared(t))
	other := openStore(t, nil, "other", direct.engine.Pool().Config().ConnString())
	direct.takeOver(t)
	other.takeOver(t)
	postgres.SetLease(0)
	eventually(t, "the node is taken for dead", func() bool {
		other.takeOver(t)
		return direct.count(t, `SELECT count(*) FROM node WHERE id = 'direct'`) == 0
	})
	if err := direct.Create(t.Context(), newSignup(tenantID, "ann"), noon); err != nil {
		t.Fatal(err)
	}
	postgres.SetLease(time.Hour)
	if got := other.takeOver(t); got != nil {
		t.Fatalf("%v was taken over before the lease expired", got)
	}
	postgres.SetLease(0)
	if got := other.takeOver(t); !slices.Equal(got, []string{"ann"}) {
		t.Errorf("took over %v after the lease", got)
	}
	if got := other.takeOver(t); got != nil {
		t.Errorf("took over %v again", got)
	}
}

// Of concurrent calls of Spend for one id on all nodes, exactly one is the first.
func TestNodesSpendOnce(t *testing.T) {
	url, ring := postgrestest.Shared(t).Database(t), secret.NewRing(noon)
	var nodes []*testStore
	for _, name := range []string{"a", "b", "c"} {
		nodes = append(nodes, openStore(t, ring, name, url))
	}
	tenantID := addTenant(t, nodes[0], "phone.test")
	for round := range 20 {
		firsts := make(chan bool, 24)
		for i := range cap(firsts) {
			go func() {
				first, err := nodes[i%3].Spend(t.Context(), tenantID, [16]byte{byte(round)}, noon)
				if err != nil {
					t.Error(err)
				}
				firsts <- first
			}()
		}
		n := 0
		for range cap(firsts) {
			if <-firsts {
				n++
			}
		}
		if n != 1 {
			t.Fatalf("%d of 24 calls were the first, want 1", n)
		}
	}
}

// Tenants are added, changed and removed while people sign up with them.
func TestTenantsChangeUnderLoad(t *testing.T) {
	url, ring := postgrestest.Shared(t).Database(t), secret.NewRing(noon)
	var nodes []*testStore
	for _, name := range []string{"a", "b", "c"} {
		nodes = append(nodes, openStore(t, ring, name, url))
	}
	ctx, kept := t.Context(), addTenant(t, nodes[0], "kept.test")
	created := 0
	for round := range 15 {
		host := fmt.Sprintf("removed%d.test", round)
		removed, err := nodes[0].AddTenant(ctx, tenant.Tenant{Host: host, Realm: host, Created: noon})
		if err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		var all sync.WaitGroup
		for i := range 48 {
			all.Go(func() {
				a := newSignup([]int64{kept, removed.ID}[i%2], fmt.Sprintf("user%d-%d", round, i))
				err := nodes[i%3].Create(ctx, a, noon)
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err == nil:
					created++
				case i%2 == 0:
					t.Errorf("a signup with the tenant that is kept: %v", err)
				case fault.KindOf(err) == fault.Internal && !strings.Contains(err.Error(), "account_tenant_fkey"):
					t.Errorf("a signup with the tenant that is removed: %v", err)
				}
			})
		}
		for i := range 3 {
			all.Go(func() {
				changed := removed
				changed.Product = fmt.Sprint(i)
				if err := nodes[i].SetTenant(ctx, changed, noon); err != nil && !fault.Is(err, fault.NotFound) {
					t.Errorf("set: %v", err)
				}
				err := nodes[i].RemoveTenant(ctx, host, true, noon)
				if err != nil && !fault.Is(err, fault.NotFound) {
					t.Errorf("remove: %v", err)
				}
			})
		}
		all.Wait()
		if n := nodes[1].count(t, `SELECT count(*) FROM account WHERE tenant = $1`, removed.ID); n != 0 {
			t.Errorf("the removed tenant has %d accounts", n)
		}
	}
	t.Logf("%d signups", created)
}

// The server crashes repeatedly while clients sign up, open links and undo signups.
func TestCrashesDuringActivation(t *testing.T) {
	t.Parallel()
	c := postgrestest.Start(t)
	s := openStore(t, secret.NewRing(noon), "a", c.Database(t))
	ctx, tenantID := t.Context(), addTenant(t, s, "phone.test")
	var mu sync.Mutex
	var active, pending, absent []account.Signup // by the last answer that the client got
	var links, refusals int
	record := func(list *[]account.Signup, a account.Signup) {
		mu.Lock()
		defer mu.Unlock()
		*list = append(*list, a)
	}
	refused := func() {
		mu.Lock()
		defer mu.Unlock()
		refusals++
	}
	stop := make(chan struct{})
	var all sync.WaitGroup
	for client := range 12 {
		all.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				a := newSignup(tenantID, fmt.Sprintf("user%d-%d", client, i))
				err := s.Create(ctx, a, noon)
				switch {
				case errors.Is(err, fault.ErrInDoubt) || err == nil && i%3 == 0: // as without its message
					for fault.Is(s.Undo(ctx, a, noon), fault.Overloaded) {
						refused()
						s.engine.WaitForBreaker(ctx)
					}
					record(&absent, a)
					continue
				case fault.Is(err, fault.Overloaded):
					record(&absent, a)
					refused()
					s.engine.WaitForBreaker(ctx)
					continue
				case err != nil:
					t.Errorf("a signup: %v", err)
					continue
				}
				_, err = s.Activate(ctx, tenantID, a.Token, noon)
				switch {
				case err == nil:
					record(&active, a)
					mu.Lock()
					links++
					mu.Unlock()
				case errors.Is(err, fault.ErrInDoubt):
				case fault.Is(err, fault.Overloaded):
					record(&pending, a)
				default:
					t.Errorf("a link: %v", err)
				}
			}
		})
	}
	load := func(n *int) int {
		mu.Lock()
		defer mu.Unlock()
		return *n
	}
	for range 5 {
		before := load(&links)
		eventually(t, "100 links are opened", func() bool { return load(&links) >= before+100 })
		refused := load(&refusals)
		c.Crash(t)
		eventually(t, "a call is refused", func() bool { return load(&refusals) > refused })
		before = load(&links)
		c.Restart(t)
		began := time.Now()
		eventually(t, "a link is opened", func() bool { return load(&links) > before })
		t.Logf("the first link %v after the server was back", time.Since(began).Round(time.Millisecond))
	}
	close(stop)
	all.Wait()
	for _, list := range []struct {
		name    string
		signups []account.Signup
		exists  bool
		active  bool
	}{
		{"active", active, true, true},
		{"pending", pending, true, false},
		{"refused or undone", absent, false, false},
	} {
		for _, a := range list.signups {
			got, err := s.FindUID(ctx, tenantID, a.Account.UID, noon)
			if (err == nil) != list.exists || err == nil && got.Disabled == list.active ||
				err != nil && !fault.Is(err, fault.NotFound) {
				t.Errorf("%s should be %s: got %+v, %v", a.Account.User, list.name, got, err)
			}
		}
		t.Logf("%d signups are %s", len(list.signups), list.name)
	}
}
