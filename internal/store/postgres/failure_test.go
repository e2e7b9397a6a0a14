package postgres_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/fault"
	"dialtone/internal/hook"
	"dialtone/internal/outbox"
	"dialtone/internal/secret"
	"dialtone/internal/session"
	"dialtone/internal/sipserver"
	"dialtone/internal/store/admission"
	"dialtone/internal/store/engine"
	"dialtone/internal/store/postgres"
	"dialtone/internal/tenant"
	"dialtone/internal/test/postgrestest"
	"dialtone/internal/throttle"
)

// exists reports whether the account of a signup exists.
func (s *testStore) exists(t *testing.T, a account.Signup) bool {
	t.Helper()
	_, err := s.FindUID(t.Context(), a.Account.Tenant, a.Account.UID, noon)
	if err != nil && !fault.Is(err, fault.NotFound) {
		t.Fatal(err)
	}
	return err == nil
}

// The connection breaks around the commit of a group. The answer to each signup agrees with the
// rows.
func TestSignupCommitWithoutAnswer(t *testing.T) {
	signupCommitWithoutAnswer(t, 10, func(t *testing.T) (*testStore, *testStore, *proxy, int64) {
		return openBoth(t, postgrestest.Shared(t))
	})
}

// signupCommitWithoutAnswer runs some rounds on two stores and a proxy as openBoth returns them.
func signupCommitWithoutAnswer(t *testing.T, rounds int,
	open func(*testing.T) (proxied, direct *testStore, p *proxy, tenantID int64),
) {
	for name, lose := range map[string]func(*proxy){
		"after the commit":  func(p *proxy) { p.cutResponse = committed },
		"before the commit": func(p *proxy) { p.cutRequest = []byte("@mail.test") },
	} {
		t.Run(name, func(t *testing.T) {
			proxied, direct, p, tenantID := open(t)
			taken := newSignup(tenantID, "taken")
			if err := direct.Create(t.Context(), taken, noon); err != nil {
				t.Fatal(err)
			}
			for round := range rounds {
				group := []account.Signup{
					newSignup(tenantID, fmt.Sprintf("ann%d", round)),
					newSignup(tenantID, "taken"),
					newSignup(tenantID, fmt.Sprintf("bob%d", round)),
					newSignup(tenantID, fmt.Sprintf("eve%d", round)),
				}
				group[3].Captcha.Right = false
				p.update(func() { lose(p) })
				before := p.cuts.Load()
				errs := proxied.engine.CreateGroup(group, noon)
				if p.cuts.Load() != before+1 {
					t.Fatal("the connection was not cut")
				}
				for i, want := range []error{nil, account.ErrTaken, nil, account.ErrCaptcha} {
					if err := errs[i]; !errors.Is(err, want) {
						t.Errorf("signup %d: got %v, want %v", i, err, want)
					}
					if got := direct.exists(t, group[i]); got != (want == nil) {
						t.Errorf("signup %d: the account exists: %v", i, got)
					}
					again := newSignup(tenantID, fmt.Sprintf("again%d-%d", round, i))
					again.Captcha = group[i].Captcha
					again.Captcha.Right = true
					if err := direct.Create(t.Context(), again, noon); err != account.ErrCaptcha {
						t.Errorf("the captcha of signup %d is used again: %v", i, err)
					}
				}
			}
		})
	}
}

// The connection breaks around the commit of every other write. The write is run again, and its
// answer is that of the first run.
func TestWriteWithoutAnswer(t *testing.T) {
	proxied, direct, p, tenantID := openBoth(t, postgrestest.Shared(t))
	ctx := t.Context()
	pending := func(user string) account.Signup {
		a := newSignup(tenantID, user)
		if err := direct.Create(ctx, a, noon); err != nil {
			t.Fatal(err)
		}
		return a
	}
	n := 0
	for _, lose := range []func(){func() { p.cutResponse = committed }, func() { p.cutRequest = []byte("COMMIT") }} {
		n++
		activated, confirmed := pending(fmt.Sprint("activated", n)), pending(fmt.Sprint("confirmed", n))
		disabled, deleted := pending(fmt.Sprint("disabled", n)), pending(fmt.Sprint("deleted", n))
		active, sent := pending(fmt.Sprint("active", n)), pending(fmt.Sprint("sent", n))
		undone := pending(fmt.Sprint("undone", n))
		if _, err := direct.EnableNow(ctx, tenantID, active.Account.User, noon); err != nil {
			t.Fatal(err)
		}
		signedOut := session.Record{
			ID: [16]byte{byte(n)}, Account: active.Account.UID, Epoch: active.Account.Epoch, Began: noon,
		}
		once := throttle.Allowance{Rule: throttle.Rule{Limit: 1, Per: time.Hour}}
		once.Bucket[0] = byte(n)
		host := fmt.Sprintf("other%d.test", n)
		added := hook.Hook{ID: hook.ID{byte(n)}, Name: "hook", AllTenants: true, Created: noon}
		var notifications []hook.Notification
		for _, c := range []struct {
			name string
			do   func() error
		}{
			{"add a hook", func() error { return proxied.AddHook(ctx, added) }},
			{"activate", func() error {
				a, err := proxied.Activate(ctx, tenantID, activated.Token, noon)
				if err == nil && a.Disabled {
					err = errors.New("the account is not active")
				}
				return err
			}},
			{"confirm", func() error {
				a, err := proxied.Confirm(ctx, tenantID, confirmed.Token, confirmed.Account.UID, noon)
				if err == nil && (a.Disabled || !a.Confirmed.Equal(noon)) {
					err = errors.New("the account is not confirmed")
				}
				return err
			}},
			{"sign out", func() error {
				if err := proxied.SignOut(ctx, signedOut, noon, once); err != nil {
					return err
				}
				revoked, _, err := direct.Revoked(ctx, signedOut.Account, signedOut.ID, session.RevokedUntil(noon)...)
				if err != nil {
					return err
				}
				if a, err := direct.FindUID(ctx, tenantID, signedOut.Account, noon); err != nil || !revoked ||
					a.Epoch != signedOut.Epoch {
					return fmt.Errorf("the session is revoked: %t; the epoch is %d, %v", revoked, a.Epoch, err)
				}
				return nil
			}},
			{"disable", func() error {
				_, err := proxied.Disable(ctx, tenantID, disabled.Account.User, noon)
				return err
			}},
			{"disable an active account", func() error {
				_, err := proxied.Disable(ctx, tenantID, active.Account.User, noon)
				return err
			}},
			{"delete", func() error { return proxied.Delete(ctx, tenantID, deleted.Account.User, noon) }},
			{"delete an active account", func() error {
				return proxied.Delete(ctx, tenantID, active.Account.User, noon)
			}},
			{"ack", func() error {
				_, err := proxied.Ack(ctx, []outbox.Ref{{Account: sent.Account.UID, Message: sent.Message}}, noon)
				return err
			}},
			{"undo", func() error { return proxied.Undo(ctx, undone, noon) }},
			{"add a tenant", func() error {
				_, err := proxied.AddTenant(ctx, tenant.Tenant{Host: host, Realm: host, Created: noon})
				return err
			}},
			{"remove a tenant", func() error { return proxied.RemoveTenant(ctx, host, false, noon) }},
			{"add a phone server", func() error {
				return proxied.AddServer(ctx, sipserver.Server{
					Name: host, Token: [32]byte{byte(n)}, Tenants: []int64{tenantID}, Created: noon,
				})
			}},
			{"remove a phone server", func() error { return proxied.RemoveServer(ctx, host) }},
			{"claim", func() error {
				if _, err := proxied.Claim(ctx, added.ID, noon, noon.Add(time.Minute), 9); err != nil {
					return err
				}
				// The first run may have claimed other notifications than the second. When the
				// claims end, there is one for each change.
				var err error
				notifications, err = direct.Claim(ctx, added.ID, noon.Add(time.Minute), noon.Add(2*time.Minute), 9)
				if len(notifications) != 4 {
					t.Errorf("%d notifications of four changes", len(notifications))
				}
				return err
			}},
			{"report", func() error {
				return proxied.Report(ctx, []hook.Result{
					{Notification: notifications[0]},
					{Notification: notifications[3]},
					{Notification: notifications[1], Failure: "no"},
					{Notification: notifications[2], Failure: "no", RetryAt: noon},
				}, noon)
			}},
			{"remove a hook", func() error {
				if s, err := direct.Hooks(ctx); err != nil || s[0].Waiting != 1 || s[0].GivenUp != 1 {
					t.Errorf("after the report: %+v, %v", s, err)
				}
				return proxied.RemoveHook(ctx, "hook")
			}},
		} {
			before := p.cuts.Load()
			p.update(lose)
			if err := c.do(); err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
			if p.cuts.Load() == before {
				t.Fatalf("%s: the connection was not cut", c.name)
			}
		}
		for _, a := range []account.Signup{activated, deleted, active, undone} {
			if got, want := direct.exists(t, a), a.Token == activated.Token; got != want {
				t.Errorf("%s exists: %v, want %v", a.Account.User, got, want)
			}
		}
		_, err := direct.Activate(ctx, tenantID, activated.Token, noon)
		if !errors.Is(err, account.ErrActive) {
			t.Errorf("the link is opened again: %v", err)
		}
	}
}

// The network drops all packets. Calls fail fast, no signup is acknowledged, and signups work
// again when the network does.
func TestBlackHole(t *testing.T) {
	proxied, direct, p, tenantID := openBoth(t, postgrestest.Shared(t))
	p.update(func() { p.blackhole = true })
	lost := newSignup(tenantID, "lost")
	began := time.Now()
	if err := proxied.Create(t.Context(), lost, noon); !fault.Is(err, fault.Overloaded) {
		t.Fatalf("a signup into the black hole: %v", err)
	}
	if d := time.Since(began); d >= postgres.OperationTimeout {
		t.Errorf("a signup into the black hole failed after %v, only by its own deadline", d)
	}
	for proxied.engine.BreakerErr() == nil { // the signup or a probe opens the breaker
		if _, err := proxied.Find(t.Context(), tenantID, "lost", noon); !fault.Is(err, fault.Overloaded) {
			t.Fatalf("a look-up into the black hole: %v", err)
		}
	}
	began = time.Now()
	for i := range 1000 {
		err := proxied.Create(t.Context(), newSignup(tenantID, fmt.Sprint("quick", i)), noon)
		_, other := proxied.Find(t.Context(), tenantID, "ann", noon)
		if !fault.Is(err, fault.Overloaded) || !fault.Is(other, fault.Overloaded) {
			t.Fatalf("while the breaker is open: %v, %v", err, other)
		}
	}
	if d := time.Since(began); d > postgres.OperationTimeout {
		t.Errorf("2000 refusals took %v", d)
	}
	// The server has released the locks of the proxied store, without hearing from it.
	if err := direct.Create(t.Context(), newSignup(tenantID, "lost"), noon); err != nil {
		t.Errorf("the name, at another node: %v", err)
	}
	p.restore()
	next := newSignup(tenantID, "next")
	began = time.Now()
	for err := proxied.Create(t.Context(), next, noon); err != nil; err = proxied.Create(t.Context(), next, noon) {
		if !fault.Is(err, fault.Overloaded) {
			t.Fatal(err)
		}
		proxied.engine.WaitForBreaker(t.Context())
	}
	t.Logf("back after %v", time.Since(began).Round(time.Millisecond))
	if direct.exists(t, lost) || !direct.exists(t, next) {
		t.Error("an account exists although its signup failed, or is missing although it succeeded")
	}
}

// Beginning with the response to a commit, the network drops all packets. The caller gets fault.ErrInDoubt, and can
// undo the signup later.
func TestUndoAfterLostCommit(t *testing.T) {
	t.Parallel()
	proxied, direct, p, tenantID := openBoth(t, postgrestest.Shared(t))
	lost := newSignup(tenantID, "lost")
	p.update(func() { p.cutResponse, p.thenBlackhole = committed, true })
	if err := proxied.Create(t.Context(), lost, noon); !errors.Is(err, fault.ErrInDoubt) {
		t.Fatalf("got %v", err)
	}
	if !direct.exists(t, lost) {
		t.Fatal("the signup was not committed")
	}
	undo := func() error { return proxied.Undo(t.Context(), lost, noon) }
	err := undo()
	if !fault.Is(err, fault.Overloaded) {
		t.Errorf("Undo without the database: %v", err)
	}
	p.restore()
	for err = undo(); fault.Is(err, fault.Overloaded); err = undo() {
		proxied.engine.WaitForBreaker(t.Context())
	}
	if err != nil || direct.exists(t, lost) {
		t.Errorf("Undo: %v; the account exists: %v", err, direct.exists(t, lost))
	}
}

// An error of a statement does not count as a lost database: it is returned as an internal error,
// and the breaker stays closed.
func TestStatementErrorIsInternal(t *testing.T) {
	s := openStore(t, secret.NewRing(noon), "a", postgrestest.Shared(t).Database(t))
	var n int
	for name, do := range map[string]func(engine.Tx) error{
		"wrong type of a value": func(tx engine.Tx) error { return tx.Row(`SELECT 'x'`).Scan(&n) },
		"wrong type of an argument": func(tx engine.Tx) error {
			_, err := tx.Exec(`UPDATE revision SET n = $1`, "x")
			return err
		},
		"no SQL":        func(tx engine.Tx) error { _, err := tx.Exec(`SELEC`); return err },
		"unknown table": func(tx engine.Tx) error { return tx.Row(`SELECT 1 FROM nothing`).Scan(&n) },
	} {
		if err := s.engine.Write(do); err == nil || fault.KindOf(err) != fault.Internal {
			t.Errorf("write: %s: %v", name, err)
		}
	}
	err := s.engine.Reads(t.Context()).Row(`SELECT 'x'`).Scan(&n)
	if err == nil || fault.KindOf(err) != fault.Internal {
		t.Errorf("read: %v", err)
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

// Undo of a signup whose commit is in progress waits until the commit has ended.
func TestUndoWaitsForTheCommit(t *testing.T) {
	c := postgrestest.Shared(t)
	_, direct, _, tenantID := openBoth(t, c)
	ctx := t.Context()
	conn, err := direct.engine.Pool().Acquire(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	a := newSignup(tenantID, "ann")
	tx := postgres.NewTx(ctx, conn.Conn())
	for _, err := range []error{tx.Script("BEGIN"), tx.Lock(admission.Keys(a)...), insertAccount(tx, a)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	undone := make(chan error, 1)
	go func() { undone <- direct.Undo(ctx, a, noon) }()
	waits := func() (n int64) {
		n, err := engine.Count(direct.engine.Reads(ctx),
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
			t.Fatalf("Undo did not wait: %v", err)
		default:
		}
	}
	if err := tx.Script("COMMIT"); err != nil {
		t.Fatal(err)
	}
	if err := <-undone; err != nil || direct.exists(t, a) {
		t.Errorf("Undo: %v; the account exists: %v", err, direct.exists(t, a))
	}
}

// The server crashes repeatedly under load.
func TestServerCrashes(t *testing.T) {
	t.Parallel()
	c := postgrestest.Start(t)
	ring := secret.NewRing(noon)
	s := openStore(t, ring, "a", c.Database(t))
	tenantID := addTenant(t, s, "phone.test")
	load := startLoad(s, tenantID)
	for range 6 {
		load.waitForSignups(200)
		before := load.countOverloads()
		c.Crash(t)
		load.waitForOverload(before)
		c.Restart(t)
		began := time.Now()
		load.waitForSignups(1)
		t.Logf("the first signup %v after the server was back", time.Since(began).Round(time.Millisecond))
	}
	load.check(t, s)
}

// The server's processes are killed in the middle of statements.
func TestBackendsAreKilled(t *testing.T) {
	t.Parallel()
	c := postgrestest.Start(t)
	s := openStore(t, secret.NewRing(noon), "a", c.Database(t))
	tenantID := addTenant(t, s, "phone.test")
	load := startLoad(s, tenantID)
	const enough = 6
	killed := 0
	for i := 0; i < 60 && killed < enough; i++ {
		load.waitForSignups(20)
		killed += c.KillBackends(t, []string{"INSERT INTO", "COMMIT", "advisory"}[i%3])
	}
	if killed < enough {
		t.Errorf("only %d connections were killed", killed)
	}
	t.Logf("%d connections were killed", killed)
	load.check(t, s)
}

// The primary is lost for good, and a standby that has every commit replaces it.
func TestPromotion(t *testing.T) {
	t.Parallel()
	primary := postgrestest.Start(t)
	name := databaseIn(primary.Database(t))
	standby := primary.SyncStandby(t)
	s := openStore(t, secret.NewRing(noon), "a", primary.URL(name, standby))
	tenantID := addTenant(t, s, "phone.test")
	load := startLoad(s, tenantID)
	load.waitForSignups(300)
	before := load.countOverloads()
	primary.Crash(t)
	load.waitForOverload(before)
	standby.Promote(t)
	began := time.Now()
	load.waitForSignups(1)
	t.Logf("the first signup %v after the promotion", time.Since(began).Round(time.Millisecond))
	load.waitForSignups(200)
	load.check(t, s)
}
