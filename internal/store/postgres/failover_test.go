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

// eventually waits until is returns true, and fails the test after 30 s.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !is(); {
		if time.Now().After(end) {
			t.Fatalf("not in 30 s: %s", what)
		}
		<-time.After(5 * time.Millisecond)
	}
}

// number returns the number that a query selects.
func (s *Store) number(t *testing.T, query string, args ...any) int64 {
	t.Helper()
	n, err := engine.Count(s.engine.Reads(t.Context()), query, args...)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// A commit is interrupted while it waits for the synchronous standby. Its rows are then visible on
// the primary and not on the standby. The write is not answered before the standby has them, so
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
	s := openStore(t, secret.NewRing(midday), "a", primary.URL(name, standby))
	ctx, home := t.Context(), addedTenant(t, s, "phone.test")
	link, member := newcomer(home, "link"), newcomer(home, "member")
	leaving, made := newcomer(home, "leaving"), newcomer(home, "made")
	for _, a := range []account.Signup{link, member, leaving} {
		if err := s.Create(ctx, a, midday); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Enable(ctx, home, "member", midday); err != nil {
		t.Fatal(err)
	}
	standby.Crash(t)
	type answer struct {
		name string
		err  error
	}
	calls := map[string]func() error{
		"create":   func() error { return s.Create(ctx, made, midday) },
		"activate": func() error { _, err := s.Activate(ctx, home, link.Token, midday); return err },
		"delete":   func() error { return s.Delete(ctx, home, "member", midday) },
		"undo":     func() error { return s.Undo(ctx, leaving, midday) },
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
	eventually(t, "all wait for the standby", func() bool { return all(waiting()) })
	before := waiting()
	primary.Exec(t, primary.URL(name), `SELECT `+interrupt+` FROM pg_stat_activity WHERE wait_event = 'SyncRep'`)
	eventually(t, "all wait for the standby again", func() bool {
		select {
		case a := <-answers:
			t.Fatalf("%s was answered (%v) before the standby had it", a.name, a.err)
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
	if !s.there(t, made) {
		t.Fatal("the commit did not happen")
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
		// A busy machine was too slow. A retry finds the state before or after the write.
		eventually(t, a.name+" again", func() bool { return !fault.Is(calls[a.name](), fault.Overloaded) })
	}
	got := make(map[string]bool)
	for _, a := range []account.Signup{link, leaving, made} {
		got[a.Account.User] = s.there(t, a)
	}
	got["member"] = s.there(t, member)
	if want := map[string]bool{
		"link":    true,
		"member":  false,
		"leaving": false,
		"made":    true,
	}; !maps.Equal(got, want) {
		t.Errorf("at the end there are %v, want %v", got, want)
	}
	if _, err := s.Activate(ctx, home, link.Token, midday); err != account.ErrActive {
		t.Errorf("the link, at the end: %v", err)
	}
}

// The machine of the primary drops all packets, so that connections are neither refused nor
// answered. The store finds the new primary, which comes later in the URL.
func TestPrimaryVanishes(t *testing.T) {
	t.Parallel()
	primary := postgrestest.Start(t)
	name := databaseIn(primary.Database(t))
	standby := primary.SyncStandby(t)
	w := newWire(t, primary.Addr())
	s := openStore(t, secret.NewRing(midday), "a", w.url(primary.URL(name, standby)))
	load := startLoad(s, addedTenant(t, s, "phone.test"))
	load.until(200)
	before := load.overloads()
	w.set(func() { w.hole = true })
	load.untilRefused(before)
	standby.Promote(t)
	began := time.Now()
	eventually(t, "the breaker is closed", func() bool { return s.engine.BreakerErr() == nil })
	t.Logf("found %v after the promotion", time.Since(began).Round(time.Millisecond))
	load.until(1)
	t.Logf("the first signup %v after the promotion", time.Since(began).Round(time.Millisecond))
	load.until(100)
	load.check(t, s)
}

// Connections over a network that dropped packets do not keep their places in the pool when the
// network is back.
func TestDeadConnectionsAreReplaced(t *testing.T) {
	t.Parallel()
	far, _, w, home := farAndNear(t, postgrestest.Shared(t))
	ctx, p := t.Context(), far.engine
	n := p.FillPool(t)
	var before int
	w.set(func() { w.hole, before = true, len(w.conns) })
	var all sync.WaitGroup
	for range n {
		all.Go(func() {
			if _, err := far.Find(ctx, home, "ann", midday); !fault.Is(err, fault.Overloaded) {
				t.Errorf("a look-up into the hole: %v", err)
			}
		})
	}
	all.Wait()
	// The driver cancels each query that is given up over another connection. Those hang too, and
	// some probes after them.
	eventually(t, "the server was told", func() (is bool) {
		w.set(func() { is = p.BreakerErr() != nil && len(w.conns) >= before+2*n+4 })
		return is
	})
	w.set(func() { w.hole = false })
	p.WaitForBreaker(ctx)
	if err := far.Create(ctx, newcomer(home, "ann"), midday); err != nil {
		t.Errorf("the first signup when the network is back: %v", err)
	}
}

// When the breaker opens, every kind of call that waits for the database is cancelled.
func TestOpenBreakerCancelsCalls(t *testing.T) {
	t.Parallel()
	far, _, w, home := farAndNear(t, postgrestest.Shared(t))
	ctx := t.Context()
	far.engine.FillPool(t) // otherwise some would wait to connect, which has a timeout of its own
	w.set(func() { w.hole = true })
	calls := map[string]func() error{
		"create":   func() error { return far.Create(ctx, newcomer(home, "ann"), midday) },
		"find":     func() error { _, err := far.Find(ctx, home, "ann", midday); return err },
		"revoke":   func() error { return far.Revoke(ctx, home, [16]byte{1}, midday) },
		"spend":    func() error { _, err := far.Spend(ctx, home, [16]byte{2}, midday); return err },
		"settle":   func() error { _, err := far.Ack(ctx, []outbox.Ref{{Tenant: home}}); return err },
		"tenants":  func() error { _, _, err := far.Tenants(ctx); return err },
		"adopt":    func() error { _, err := far.TakeOver(ctx); return err },
		"disable":  func() error { _, err := far.Disable(ctx, home, "ann", midday); return err },
		"activate": func() error { _, err := far.Activate(ctx, home, [32]byte{1}, midday); return err },
		"confirm":  func() error { _, err := far.Confirm(ctx, home, [32]byte{1}, account.UID{}, midday); return err },
	}
	began := time.Now()
	var all sync.WaitGroup
	for name, do := range calls {
		all.Go(func() {
			if err := do(); !fault.Is(err, fault.Overloaded) {
				t.Errorf("%s into the hole: %v", name, err)
			}
			if d := time.Since(began); d >= postgres.OperationTimeout {
				t.Errorf("%s into the hole was given up after %v, by its own deadline alone",
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
	both := []string{"ann", "bob"}
	cases := []*struct {
		name      string
		lose      func(*wire)
		third     bool // a third node takes over before the database is back
		want      []string
		far, near *Store
		w         *wire
	}{
		{name: "it happened", lose: func(w *wire) { w.hear = committed }, want: both},
		{name: "it has not", lose: func(w *wire) { w.say = []byte("COMMIT") }, want: both},
		{
			name:  "it has not, and somebody else took over",
			lose:  func(w *wire) { w.say = []byte("COMMIT") },
			third: true,
		},
	}
	var all sync.WaitGroup
	for _, c := range cases {
		var home int64
		c.far, c.near, c.w, home = farAndNear(t, postgrestest.Shared(t))
		for _, user := range both {
			if err := c.near.Create(t.Context(), newcomer(home, user), midday); err != nil {
				t.Fatal(err)
			}
		}
		c.near.adopted(t)
		expired, err := c.far.engine.Expired(t.Context())
		if err != nil || len(expired) != 1 || expired[0].Node != "near" {
			t.Fatalf("expired are %v, %v", expired, err)
		}
		c.w.set(func() { c.lose(c.w); c.w.then = true })
		all.Go(func() {
			if list, err := c.far.TakeOverFrom(t.Context(), expired); !fault.Is(err, fault.Overloaded) {
				t.Errorf("%s: got %v, %v", c.name, list, err)
			}
		})
	}
	all.Wait()
	for _, c := range cases {
		postgres.SetLease(0)
		if c.third {
			third := openStore(t, nil, "third", c.near.engine.Pool().Config().ConnString())
			if got := third.adopted(t); len(got) != 2 {
				t.Fatalf("the third node takes over %v", got)
			}
			postgres.SetLease(time.Hour) // and lives
		}
		c.w.heal()
		c.far.engine.WaitForBreaker(t.Context())
		var list []outbox.Entry
		var err error
		eventually(t, "the database is back", func() bool {
			list, err = c.far.TakeOver(t.Context())
			return !fault.Is(err, fault.Overloaded)
		})
		got := c.far.users(t, list, err)
		if slices.Sort(got); !slices.Equal(got, c.want) {
			t.Errorf("%s: the heir has heard of %v, want %v", c.name, got, c.want)
		}
		if got := c.far.adopted(t); got != nil {
			t.Errorf("%s: and again of %v", c.name, got)
		}
	}
}

// A node that was taken for dead comes back, commits a signup, and dies before it increments its
// heartbeat.
func TestReturnedNodeDies(t *testing.T) {
	defer postgres.SetLease(time.Minute)()
	_, near, _, home := farAndNear(t, postgrestest.Shared(t))
	heir := openStore(t, nil, "heir", near.engine.Pool().Config().ConnString())
	near.adopted(t)
	heir.adopted(t)
	postgres.SetLease(0)
	eventually(t, "it is taken for dead", func() bool {
		heir.adopted(t)
		return near.number(t, `SELECT count(*) FROM node WHERE id = 'near'`) == 0
	})
	if err := near.Create(t.Context(), newcomer(home, "ann"), midday); err != nil {
		t.Fatal(err)
	}
	postgres.SetLease(time.Hour)
	if got := heir.adopted(t); got != nil {
		t.Fatalf("%v was taken from one that may live", got)
	}
	postgres.SetLease(0)
	if got := heir.adopted(t); !slices.Equal(got, []string{"ann"}) {
		t.Errorf("after the lease the heir has %v", got)
	}
	if got := heir.adopted(t); got != nil {
		t.Errorf("and again %v", got)
	}
}

// Of concurrent calls of Spend for one id, on all nodes, one is the first.
func TestNodesSpendOnce(t *testing.T) {
	url, ring := postgrestest.Shared(t).Database(t), secret.NewRing(midday)
	var nodes []*Store
	for _, name := range []string{"a", "b", "c"} {
		nodes = append(nodes, openStore(t, ring, name, url))
	}
	home := addedTenant(t, nodes[0], "phone.test")
	for round := range 20 {
		firsts := make(chan bool, 24)
		for i := range cap(firsts) {
			go func() {
				first, err := nodes[i%3].Spend(t.Context(), home, [16]byte{byte(round)}, midday)
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
			t.Fatalf("%d of 24 were the first", n)
		}
	}
}

// Tenants are added, changed and removed while people sign up with them.
func TestTenantsChangeUnderLoad(t *testing.T) {
	url, ring := postgrestest.Shared(t).Database(t), secret.NewRing(midday)
	var nodes []*Store
	for _, name := range []string{"a", "b", "c"} {
		nodes = append(nodes, openStore(t, ring, name, url))
	}
	ctx, stays := t.Context(), addedTenant(t, nodes[0], "stays.test")
	made := 0
	for round := range 15 {
		host := fmt.Sprintf("goes%d.test", round)
		goes, err := nodes[0].AddTenant(ctx, tenant.Tenant{Host: host, Realm: host, Created: midday})
		if err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		var all sync.WaitGroup
		for i := range 48 {
			all.Go(func() {
				a := newcomer([]int64{stays, goes.ID}[i%2], fmt.Sprintf("user%d-%d", round, i))
				err := nodes[i%3].Create(ctx, a, midday)
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err == nil:
					made++
				case i%2 == 0:
					t.Errorf("a signup with the tenant that stays: %v", err)
				case fault.KindOf(err) == fault.Internal && !strings.Contains(err.Error(), "account_tenant_fkey"):
					t.Errorf("a signup with the tenant that goes: %v", err)
				}
			})
		}
		for i := range 3 {
			all.Go(func() {
				t2 := goes
				t2.Product = fmt.Sprint(i)
				if err := nodes[i].SetTenant(ctx, t2, midday); err != nil && !fault.Is(err, fault.NotFound) {
					t.Errorf("set: %v", err)
				}
				err := nodes[i].RemoveTenant(ctx, host, true, midday)
				if err != nil && !fault.Is(err, fault.NotFound) {
					t.Errorf("remove: %v", err)
				}
			})
		}
		all.Wait()
		if n := nodes[1].number(t, `SELECT count(*) FROM account WHERE tenant = $1`, goes.ID); n != 0 {
			t.Errorf("%d accounts of a tenant that is gone", n)
		}
	}
	t.Logf("%d signups", made)
}

// The server crashes repeatedly while links are opened and accounts are taken back.
func TestCrashesDuringActivation(t *testing.T) {
	t.Parallel()
	c := postgrestest.Start(t)
	s := openStore(t, secret.NewRing(midday), "a", c.Database(t))
	ctx, home := t.Context(), addedTenant(t, s, "phone.test")
	var mu sync.Mutex
	var active, pending, gone []account.Signup // by what the client was answered
	var links, refusals int
	told := func(list *[]account.Signup, a account.Signup) {
		mu.Lock()
		defer mu.Unlock()
		*list = append(*list, a)
	}
	refused := func() {
		mu.Lock()
		defer mu.Unlock()
		refusals++
	}
	over := make(chan struct{})
	var all sync.WaitGroup
	for client := range 12 {
		all.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-over:
					return
				default:
				}
				a := newcomer(home, fmt.Sprintf("user%d-%d", client, i))
				err := s.Create(ctx, a, midday)
				switch {
				case errors.Is(err, fault.ErrInDoubt) || err == nil && i%3 == 0: // its message could not be published
					for fault.Is(s.Undo(ctx, a, midday), fault.Overloaded) {
						refused()
						s.engine.WaitForBreaker(ctx)
					}
					told(&gone, a)
					continue
				case fault.Is(err, fault.Overloaded):
					told(&gone, a)
					refused()
					s.engine.WaitForBreaker(ctx)
					continue
				case err != nil:
					t.Errorf("a signup: %v", err)
					continue
				}
				_, err = s.Activate(ctx, home, a.Token, midday)
				switch {
				case err == nil:
					told(&active, a)
					mu.Lock()
					links++
					mu.Unlock()
				case errors.Is(err, fault.ErrInDoubt):
				case fault.Is(err, fault.Overloaded):
					told(&pending, a)
				default:
					t.Errorf("a link: %v", err)
				}
			}
		})
	}
	counted := func(n *int) int {
		mu.Lock()
		defer mu.Unlock()
		return *n
	}
	for range 5 {
		have := counted(&links)
		eventually(t, "some links", func() bool { return counted(&links) >= have+100 })
		away := counted(&refusals)
		c.Crash(t)
		eventually(t, "somebody is turned away", func() bool { return counted(&refusals) > away })
		have = counted(&links)
		c.Restart(t)
		began := time.Now()
		eventually(t, "a link", func() bool { return counted(&links) > have })
		t.Logf("the first link %v after the server was back", time.Since(began).Round(time.Millisecond))
	}
	close(over)
	all.Wait()
	for _, list := range []struct {
		what   string
		of     []account.Signup
		exists bool
		active bool
	}{
		{"active", active, true, true},
		{"refused a link", pending, true, false},
		{"refused or taken back", gone, false, false},
	} {
		for _, a := range list.of {
			got, err := s.FindUID(ctx, home, a.Account.UID, midday)
			if (err == nil) != list.exists || err == nil && got.Disabled == list.active ||
				err != nil && !fault.Is(err, fault.NotFound) {
				t.Errorf("%s was told %s: %+v, %v", a.Account.User, list.what, got, err)
			}
		}
		t.Logf("%d were told %s", len(list.of), list.what)
	}
}
