package transfer

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/delivery"
	"dialtone/internal/fault"
	"dialtone/internal/hook"
	"dialtone/internal/mailmsg"
	"dialtone/internal/outbox"
	"dialtone/internal/secret"
	"dialtone/internal/sipserver"
	"dialtone/internal/store"
	"dialtone/internal/store/engine"
	"dialtone/internal/tenant"
	"dialtone/internal/test/postgrestest"
)

// fillStore adds rows to every table, and more than a page of rows to some.
func fillStore(t *testing.T, s *testStore, ring *secret.Ring) {
	t.Helper()
	ctx := t.Context()
	var tenantIDs []int64
	for _, host := range []string{"one.test", "two.test", "removed.test"} {
		tenantIDs = append(tenantIDs, addTenant(t, s, host))
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(s.AddHook(ctx, hook.Hook{
		ID:         hook.ID{1},
		Name:       "all",
		Kind:       hook.Webhook,
		URL:        "https://hooks.test",
		AllTenants: true,
		Sealed:     []byte("sealed"),
		Created:    noon,
	}))
	must(s.AddHook(ctx, hook.Hook{
		ID:        hook.ID{2},
		Name:      "one",
		Kind:      hook.Kamailio,
		URL:       "http://127.0.0.1",
		PlainHTTP: true,
		Tenants:   tenantIDs[:1],
		Created:   noon,
	}))
	must(s.RemoveTenant(ctx, "removed.test", false, noon))
	defer func() {
		must(s.AddChange(ctx, audit.Change{At: noon.Add(-time.Hour), Action: audit.KeysRotate, Outcome: audit.OK}))
		must(s.engine.Write(func(tx engine.Tx) error {
			_, err := tx.Exec(`DELETE FROM audit WHERE at < $1`, engine.Micros(noon))
			return err
		}))
		must(keeper(s, ring).Cover(ctx))
	}()
	var all sync.WaitGroup
	for i := range page + 500 {
		all.Go(func() {
			if err := s.Create(ctx, newSignup(tenantIDs[i%2], fmt.Sprintf("user%d", i)), noon); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	for _, user := range []string{"active", "held", "closed"} {
		a := newSignup(tenantIDs[0], user)
		a.Account.Name, a.Account.HasSHA256 = "Zoë \"Ж\" \\ 🎺", true
		must(s.Create(ctx, a, noon))
		_, err := s.Confirm(ctx, tenantIDs[0], a.Token, a.Account.UID, noon)
		must(err)
	}
	_, err := s.Disable(ctx, tenantIDs[0], "held", noon)
	must(err)
	must(s.Delete(ctx, tenantIDs[0], "closed", noon))
	_, err = s.Spend(ctx, tenantIDs[0], [16]byte{1, 2, 3}, noon)
	must(err)
	must(s.AddServer(ctx,
		sipserver.Server{Name: "sbc", Token: [32]byte{4, 5, 6}, Tenants: tenantIDs[:1], Created: noon}))
	again := newSignup(tenantIDs[0], "again")
	must(s.Create(ctx, again, noon))
	must(s.Resend(ctx, account.LinkReplacement{
		Account:     again.Account,
		Was:         again.Account.Email,
		Token:       [32]byte{1},
		Message:     [16]byte{2},
		SealedToken: []byte("newer"),
		Made:        noon,
	}, noon))
	_, err = s.AddResetLink(ctx, account.NewResetLink{Tenant: tenantIDs[0], User: "active", Notice: account.Notice{
		Kind: mailmsg.Reset, Message: mailmsg.ID{3}, Token: [32]byte{3}, SealedToken: []byte("sealed"),
		Made: noon, Until: noon.Add(time.Hour), Net: "192.0.2.0/24",
	}}, noon)
	must(err)
	must(s.engine.Write(func(tx engine.Tx) error {
		return tx.Script(`INSERT INTO forgotten (id, tenant, who, net, at)
			SELECT uid, tenant, x'0102', '192.0.2.0/24', 1 FROM account WHERE username = 'active';
			INSERT INTO session (id, account, epoch, began, seen, until, net, browser)
			SELECT uid, uid, 1, 2, 3, 4, '192.0.2.0/24', 'Firefox' FROM account WHERE username = 'active';
			INSERT INTO totp (account, sealed, made, since, step)
			SELECT uid, x'01', 1, 2, 3 FROM account WHERE username = 'active';
			INSERT INTO known_browser (account, net, browser, until)
				SELECT uid, '192.0.2.0/24', 'curl', 90 FROM account WHERE username = 'active';
			INSERT INTO recovery_code (account, code) SELECT uid, x'01' FROM account WHERE username = 'active';
			INSERT INTO passkey (id, account, rp, name, sealed, made, used)
			SELECT x'01', uid, 'a.test', 'key', x'02', 1, 2 FROM account WHERE username = 'active';
			INSERT INTO last_lookup (account, server, how, at)
			SELECT uid, 'kamailio', 'json', 1 FROM account WHERE username = 'active';
			INSERT INTO platform (name, value) VALUES ('signups', 'frozen');
			INSERT INTO api_token (id, name, hash, tenant, scopes, made, made_by, expires, used)
				SELECT 'id', 'crm', x'01', id, 'stats:read', 1, 'root', 2, 3 FROM tenant WHERE host = 'one.test';
			INSERT INTO idempotency (token, key, request, status, body, until) VALUES ('id', 'k', x'01', 201, x'02', 3);
			INSERT INTO bulk (id, tenant, action, query, through, state, position, found, done, made, changed, lease,
				actor_kind, actor, actor_id, sudo_user, reason, net, request, failure)
				SELECT x'01', id, 'delete', '{}', x'02', 'counting', x'', 1, 2, 3, 4, 5, 'admin', 'ann', 'x', '',
				'bots', '192.0.2.0/24', 'r1', '' FROM tenant WHERE host = 'one.test';
			INSERT INTO certificate (tenant, authority, issued, not_before, not_after, chain, sealed, due, failures,
				failure, tried, lease, challenge)
				SELECT id, 'https://ca.test/', 1, 2, 3, x'01', x'02', 4, 5, 'why', 6, 7, 'token' FROM tenant
				WHERE host = 'one.test';
			INSERT INTO authority_key (authority, sealed, made) VALUES ('https://ca.test/', x'01', 1);
			INSERT INTO daily (tenant, day, kind, n) SELECT id, 20000, 'signup', 7 FROM tenant WHERE host = 'one.test'`)
	}))
	list, err := s.Pending(ctx)
	must(err)
	var sent []outbox.Ref
	for _, e := range list[:100] {
		sent = append(sent, outbox.Ref{Tenant: e.Tenant, Account: e.Account, Message: e.Message})
	}
	_, err = s.Ack(ctx, sent[:50], noon)
	must(err)
	_, err = s.Enqueue(ctx, sent[50:], noon)
	must(err)
	due, _, err := s.DueMessages(ctx, noon, delivery.Position{}, nil, 10)
	must(err)
	for i := range due {
		due[i].State, due[i].Due, due[i].Answer = delivery.Failed, time.Time{}, "550 no such user"
	}
	must(s.Record(ctx, due))
	must(s.AddSigningKey(ctx,
		delivery.SigningKey{Tenant: tenantIDs[0], Selector: "a", Created: noon, Sealed: []byte{1, 2, 3}}))
}

func noProgress(string, int64, int64) {}

func TestCopyThereAndBack(t *testing.T) {
	ctx, dir, ring := t.Context(), t.TempDir(), secret.NewRing(noon)
	first, third := "sqlite:"+filepath.Join(dir, "first.db"), "sqlite:"+filepath.Join(dir, "third.db")
	second, fourth := postgrestest.Shared(t).Database(t), postgrestest.Shared(t).Database(t)
	s, err := openFile(ctx, filepath.Join(dir, "first.db"), ring)
	if err != nil {
		t.Fatal(err)
	}
	fillStore(t, s, ring)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, c := range [][2]string{{first, second}, {second, third}, {second, fourth}} {
		last := make(map[string][2]int64) // progress by part
		if err := Copy(ctx, c[0], c[1], Directly,
			func(what string, done, total int64) { last[what] = [2]int64{done, total} }); err != nil {
			t.Fatal(err)
		}
		for what, n := range last {
			if n[0] != n[1] {
				t.Errorf("%s ended at %d of %d", what, n[0], n[1])
			}
		}
		if len(last) != 2*len(copied) {
			t.Errorf("progress was reported for %d parts, want %d", len(last), 2*len(copied))
		}
	}
	if err := Compare(ctx, first, third, Directly, noProgress); err != nil {
		t.Error(err)
	}
	if err := Compare(ctx, first, fourth, Directly, noProgress); err != nil {
		t.Error(err)
	}
	// The copies work as stores: they have the same keys and next ids, and their messages are written.
	for name, open := range map[string]func() (*testStore, error){
		"SQLite":     func() (*testStore, error) { return openFile(ctx, filepath.Join(dir, "third.db"), ring) },
		"PostgreSQL": func() (*testStore, error) { return openPostgres(ctx, ring, "a", second) },
	} {
		s, err := open()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var trail []audit.Change
		must := func(err error) {
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		list := func(c audit.Change) error {
			trail = append(trail, c)
			return nil
		}
		if got := wrong(t, s, ring); len(got) > 0 {
			t.Errorf("%s: the trail has the faults %q", name, got)
		}
		must(s.Changes(ctx, audit.Filter{}, list))
		n := len(trail)
		if n == 0 {
			t.Fatalf("%s: the trail is empty", name)
		}
		must(s.AddChange(ctx, audit.Change{At: noon, Action: audit.KeysRotate, Outcome: audit.OK}))
		must(s.Changes(ctx, audit.Filter{AfterID: trail[n-1].ID}, list))
		// The ID of the removed change is not reused.
		if len(trail) != n+1 || trail[n].ID != trail[n-1].ID+2 {
			t.Errorf("%s: unexpected changes at the end of the trail: %+v", name, trail[n:])
		}
		if a, err := s.Find(ctx, 1, "held", noon); err != nil || a.State() != account.Disabled || a.Set.By != "system" {
			t.Errorf("%s: found %+v, %v", name, a, err)
		}
		if id := addTenant(t, s, "next.test"); id != 4 {
			t.Errorf("%s: the next tenant has id %d, want 4", name, id)
		}
		if a, err := s.Find(ctx, 1, "active", noon); err != nil || a.Name != "Zoë \"Ж\" \\ 🎺" ||
			a.Disabled || !a.Confirmed.Equal(noon) || !a.HasSHA256 {
			t.Errorf("%s: found %+v, %v", name, a, err)
		}
		if err := s.Create(ctx, newSignup(1, "closed"), noon); !errors.Is(err, account.ErrTaken) {
			t.Errorf("%s: the name of a deleted account: %v", name, err)
		}
		if hooks, err := s.Hooks(ctx); err != nil || len(hooks) != 2 || hooks[0].Waiting != 4 ||
			hooks[1].Waiting != 2 || len(hooks[1].Tenants) != 1 {
			t.Errorf("%s: the hooks are %+v, %v", name, hooks, err)
		}
		taken, err := s.TakeOver(ctx)
		if err != nil {
			t.Fatal(err)
		}
		pending, err := s.Pending(ctx)
		if err != nil || len(pending) != page+500-100+5 {
			t.Errorf("%s: %d messages are in the outbox, %d of them taken over; %v",
				name, len(pending), len(taken), err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if _, err := openPostgres(ctx, secret.NewRing(noon), "a", second); !errors.Is(err, store.ErrSealKey) {
			t.Errorf("with other keys: %v", err)
		}
	}
}

// A copy that is cancelled at any steps, others in each run, can be continued, but not from another source. After that,
// Compare finds every change.
func TestCopyContinues(t *testing.T) {
	dir, ring := t.TempDir(), secret.NewRing(noon)
	from := "sqlite:" + filepath.Join(dir, "from.db")
	s, err := openFile(t.Context(), filepath.Join(dir, "from.db"), ring)
	if err != nil {
		t.Fatal(err)
	}
	fillStore(t, s, ring)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(dir, "other.db")
	if s, err = openFile(t.Context(), other, secret.NewRing(noon)); err != nil {
		t.Fatal(err)
	}
	addTenant(t, s, "foreign.test")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		to   string
		open func(string) (*testStore, error)
	}{
		"sqlite": {"sqlite:" + filepath.Join(dir, "to.db"), func(to string) (*testStore, error) {
			return openFile(t.Context(), strings.TrimPrefix(to, "sqlite:"), ring)
		}},
		"postgres": {postgrestest.Shared(t).Database(t), func(to string) (*testStore, error) {
			return openPostgres(t.Context(), ring, "a", to)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			stops := 0
			for last := 1; ; last += 1 + rand.IntN(3) {
				ctx, stop := context.WithCancel(t.Context())
				steps, copying := 0, false
				err := Copy(ctx, from, c.to, Directly, func(what string, _, _ int64) {
					if steps++; steps > last && strings.HasPrefix(what, "copy") {
						copying = true
						stop()
					}
				})
				stop()
				if err == nil {
					break
				}
				if !copying {
					t.Fatal(err)
				}
				if _, err := c.open(c.to); !errors.Is(err, store.ErrUnfinished) {
					t.Fatalf("open of a copy that ended after %d steps: %v", last, err)
				}
				err = Copy(t.Context(), "sqlite:"+other, c.to, Directly, noProgress)
				if !fault.Is(err, fault.Conflict) {
					t.Fatalf("copy of another source into one that ended after %d steps: %v", last, err)
				}
				stops++
			}
			if stops < 5 {
				t.Errorf("the copy was cancelled only %d times", stops)
			}
			if err := Compare(t.Context(), from, c.to, Directly, noProgress); err != nil {
				t.Error(err)
			}
			if err := Copy(t.Context(), from, c.to, Directly, noProgress); !fault.Is(err, fault.Conflict) {
				t.Errorf("copy into a finished copy: %v", err)
			}
			if err := Copy(t.Context(), "sqlite:"+other, c.to, Directly, noProgress); !fault.Is(err, fault.Conflict) {
				t.Errorf("copy of another source into a finished copy: %v", err)
			}
			s, err := c.open(c.to)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			comparing, err := open(t.Context(), from, c.to, false, Directly, noProgress)
			if err != nil {
				t.Fatal(err)
			}
			defer comparing.close()
			for _, tb := range copied {
				rows, err := tb.after(s.engine.Reads(t.Context()), nil)
				if err != nil {
					t.Fatal(err)
				}
				row, column := rows[0], tb.columns[len(tb.columns)-1]
				where := fmt.Sprintf(` WHERE (%s) = (%s)`, strings.Join(tb.key, ", "),
					engine.Placeholders(2, len(tb.key)))
				old, key := row[len(row)-1], tb.keyOf(row)
				set := func(column string, from, to any) {
					t.Helper()
					key := slices.Clone(key)
					if i := slices.Index(tb.key, column); i >= 0 {
						key[i] = from
					}
					n, err := int64(0), s.engine.Write(func(tx engine.Tx) error {
						n, err := tx.Exec(`UPDATE `+tb.name+` SET `+column+` = $1`+where,
							append([]any{to}, key...)...)
						if err == nil && n != 1 {
							err = fmt.Errorf("%d rows", n)
						}
						return err
					})
					if err != nil {
						t.Fatal(tb.name, n, err)
					}
				}
				var changed any
				switch v := old.(type) {
				case nil:
					changed = int64(1)
				case int64:
					changed = v + 1
				case []byte:
					changed = append([]byte("x"), v...)
				case string:
					changed = "x" + v
				}
				set(column, old, changed)
				if err := comparing.compareTable(t.Context(), tb); !fault.Is(err, fault.Conflict) ||
					!strings.Contains(err.Error(), " of "+tb.name+" ") {
					t.Errorf("a changed row of %s: %v", tb.name, err)
				}
				set(column, changed, old)
			}
			if err := Compare(t.Context(), from, c.to, Directly, noProgress); err != nil {
				t.Errorf("after all changes were reverted: %v", err)
			}
			exec := func(query string) {
				t.Helper()
				if err := s.engine.Write(func(tx engine.Tx) error {
					_, err := tx.Exec(query)
					return err
				}); err != nil {
					t.Fatal(err)
				}
			}
			for query, want := range map[string]string{
				`DELETE FROM spent WHERE expires IN (SELECT max(expires) FROM spent)`: "spent is missing",
				`INSERT INTO seal_key (id) VALUES ('zzz')`:                            "seal_key is only in the target",
			} {
				exec(query)
				if err := Compare(t.Context(), from, c.to, Directly, noProgress); !fault.Is(err, fault.Conflict) ||
					!strings.Contains(err.Error(), want) {
					t.Errorf("%s: %v", query, err)
				}
				if want == "seal_key is only in the target" {
					exec(`DELETE FROM seal_key WHERE id = 'zzz'`)
				}
			}
		})
	}
}

func TestCopyOfRunningServer(t *testing.T) {
	url, ring := postgrestest.Shared(t).Database(t), secret.NewRing(noon)
	s := openStore(t, ring, "a", url)
	if _, err := s.AddTenant(t.Context(), tenant.Tenant{Host: "phone.test", Realm: "phone.test"}); err != nil {
		t.Fatal(err)
	}
	to := "sqlite:" + filepath.Join(t.TempDir(), "to.db")
	if err := Copy(t.Context(), url, to, Directly, noProgress); !fault.Is(err, fault.Conflict) {
		t.Errorf("Copy while a server runs: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	var refused error
	err := Copy(t.Context(), url, to, Directly, func(string, int64, int64) {
		if refused == nil {
			_, refused = openPostgres(t.Context(), ring, "b", url)
		}
	})
	if err != nil || !fault.Is(refused, fault.Overloaded) {
		t.Errorf("Copy: %v; start of a server during the copy: %v", err, refused)
	}
}

// Copy does not write the tables for phone servers, so it refuses a target that has them.
func TestCopyIntoExport(t *testing.T) {
	database := postgrestest.Shared(t).Database(t)
	s := openStore(t, secret.NewRing(noon), "", database)
	if err := s.EnableExport(t.Context(), func(int64, int64) {}); err != nil {
		t.Fatal(err)
	}
	from := filepath.Join(t.TempDir(), "dialtone.db")
	source, err := openFile(t.Context(), from, secret.NewRing(noon))
	if err != nil {
		t.Fatal(err)
	}
	if err := source.Close(); err != nil {
		t.Fatal(err)
	}
	if err := Copy(t.Context(), "sqlite:"+from, database, Directly, noProgress); !errors.Is(err, errForeign) {
		t.Errorf("got %v", err)
	}
}
