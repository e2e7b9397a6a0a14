package conformance_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/secret"
	"dialtone/internal/session"
	"dialtone/internal/store"
	"dialtone/internal/test/conformance"
	"dialtone/internal/test/postgrestest"
	"dialtone/internal/test/teststore"
	"dialtone/internal/test/world"
	"dialtone/internal/throttle"
)

func TestLinearizableOnSQLite(t *testing.T) {
	testLinearizable(t, 2, func(t *testing.T) func() (closableStore, error) {
		path, ring := filepath.Join(t.TempDir(), "dialtone.db"), secret.NewRing(noon)
		return func() (closableStore, error) { return teststore.Open(t.Context(), path, ring) }
	})
}

// Three nodes on one database behave as one store.
func TestLinearizableOnPostgres(t *testing.T) {
	c := postgrestest.Shared(t)
	testLinearizable(t, 1, func(t *testing.T) func() (closableStore, error) {
		url, ring := c.Database(t), secret.NewRing(noon)
		return func() (closableStore, error) {
			var s roundRobin
			for _, name := range []string{"a", "b", "c"} {
				node, err := teststore.OpenPostgres(t.Context(), ring, name, url)
				if err != nil {
					return nil, err
				}
				s.nodes = append(s.nodes, node)
			}
			s.Store = s.nodes[0]
			return &s, nil
		}
	})
}

type closableStore interface {
	conformance.Store
	Close() error
}

// roundRobin distributes calls to the nodes of a platform in turn.
type roundRobin struct {
	*store.Store
	nodes []*store.Store
	calls atomic.Uint32
}

func (s *roundRobin) next() *store.Store { return s.nodes[s.calls.Add(1)%uint32(len(s.nodes))] }

func (s *roundRobin) Close() error {
	var errs []error
	for _, node := range s.nodes {
		errs = append(errs, node.Close())
	}
	return errors.Join(errs...)
}

func (s *roundRobin) Create(ctx context.Context, a account.Signup, now time.Time) error {
	return s.next().Create(ctx, a, now)
}

func (s *roundRobin) Activate(
	ctx context.Context, tenant int64, token [32]byte, now time.Time,
) (account.Account, error) {
	return s.next().Activate(ctx, tenant, token, now)
}

func (s *roundRobin) Decline(ctx context.Context, d account.Decline, now time.Time) error {
	return s.next().Decline(ctx, d, now)
}

func (s *roundRobin) Find(ctx context.Context, tenant int64, user string, now time.Time) (account.Account, error) {
	return s.next().Find(ctx, tenant, user, now)
}

func (s *roundRobin) Enable(ctx context.Context, tenant int64, user string, now time.Time) (account.Account, error) {
	return s.next().Enable(ctx, tenant, user, now)
}

func (s *roundRobin) EnableNow(ctx context.Context, tenant int64, user string, now time.Time) (account.Account, error) {
	return s.next().EnableNow(ctx, tenant, user, now)
}

func (s *roundRobin) Disable(ctx context.Context, tenant int64, user string, now time.Time) (account.Account, error) {
	return s.next().Disable(ctx, tenant, user, now)
}

func (s *roundRobin) Delete(ctx context.Context, tenant int64, user string, now time.Time) error {
	return s.next().Delete(ctx, tenant, user, now)
}

func (s *roundRobin) SetPassword(
	ctx context.Context, c account.PasswordChange, now time.Time,
) (account.Account, error) {
	return s.next().SetPassword(ctx, c, now)
}

func (s *roundRobin) AddResetLink(
	ctx context.Context, r account.NewResetLink, now time.Time,
) (account.Account, error) {
	return s.next().AddResetLink(ctx, r, now)
}

func (s *roundRobin) ResetLink(
	ctx context.Context, tenant int64, token [32]byte, now time.Time,
) ([]account.Account, time.Time, error) {
	return s.next().ResetLink(ctx, tenant, token, now)
}

func (s *roundRobin) NotMe(
	ctx context.Context, tenant int64, token [32]byte, n account.Notice, now time.Time,
	limits ...throttle.Allowance,
) (account.Account, error) {
	return s.next().NotMe(ctx, tenant, token, n, now, limits...)
}

func (s *roundRobin) RecordSessions(ctx context.Context, list []session.Record) ([]session.Noticed, error) {
	return s.next().RecordSessions(ctx, list)
}

func (s *roundRobin) Sessions(
	ctx context.Context, uid account.UID, epoch int64, now time.Time,
) ([]session.Record, error) {
	return s.next().Sessions(ctx, uid, epoch, now)
}

func (s *roundRobin) End(
	ctx context.Context, uid account.UID, epoch int64, id [16]byte, now time.Time, limits ...throttle.Allowance,
) error {
	return s.next().End(ctx, uid, epoch, id, now, limits...)
}

func (s *roundRobin) EndOthers(
	ctx context.Context, own session.Record, now time.Time, limits ...throttle.Allowance,
) error {
	return s.next().EndOthers(ctx, own, now, limits...)
}

func (s *roundRobin) EmailLink(
	ctx context.Context, tenant int64, token [32]byte, now time.Time,
) (account.Account, string, error) {
	return s.next().EmailLink(ctx, tenant, token, now)
}

func (s *roundRobin) AddEmailLink(ctx context.Context, l account.NewEmailLink, now time.Time) (bool, error) {
	return s.next().AddEmailLink(ctx, l, now)
}

func (s *roundRobin) SetEmail(
	ctx context.Context, tenant int64, token [32]byte, n account.Notice, now time.Time,
) (account.Account, error) {
	return s.next().SetEmail(ctx, tenant, token, n, now)
}

func (s *roundRobin) Leave(ctx context.Context, d account.Departure, now time.Time) (account.Account, error) {
	return s.next().Leave(ctx, d, now)
}

func (s *roundRobin) Stay(
	ctx context.Context, tenant int64, token [32]byte, now time.Time,
) (account.Account, error) {
	return s.next().Stay(ctx, tenant, token, now)
}

func (s *roundRobin) EraseOverdue(ctx context.Context, a account.Account, by, now time.Time) (bool, error) {
	return s.next().EraseOverdue(ctx, a, by, now)
}

func (s *roundRobin) StartApp(
	ctx context.Context, a account.Account, sealed []byte, now time.Time, limits ...throttle.Allowance,
) error {
	return s.next().StartApp(ctx, a, sealed, now, limits...)
}

func (s *roundRobin) FinishApp(
	ctx context.Context, c account.AppChange, now time.Time,
) (account.Account, error) {
	return s.next().FinishApp(ctx, c, now)
}

func (s *roundRobin) RenewCodes(
	ctx context.Context, c account.AppChange, now time.Time,
) (account.Account, error) {
	return s.next().RenewCodes(ctx, c, now)
}

func (s *roundRobin) RemoveApp(
	ctx context.Context, c account.AppChange, now time.Time,
) (account.Account, error) {
	return s.next().RemoveApp(ctx, c, now)
}

func (s *roundRobin) RemoveFactors(
	ctx context.Context, tenant int64, user string, n account.Notice, now time.Time,
) (account.Account, error) {
	return s.next().RemoveFactors(ctx, tenant, user, n, now)
}

func (s *roundRobin) UseCode(ctx context.Context, u account.CodeUse, now time.Time) (int, error) {
	return s.next().UseCode(ctx, u, now)
}

func (s *roundRobin) AddPasskey(
	ctx context.Context, n account.NewPasskey, now time.Time,
) (account.Account, error) {
	return s.next().AddPasskey(ctx, n, now)
}

func (s *roundRobin) RemovePasskey(
	ctx context.Context, r account.PasskeyRemoval, now time.Time,
) (account.Account, error) {
	return s.next().RemovePasskey(ctx, r, now)
}

func (s *roundRobin) UsePasskey(
	ctx context.Context, was account.Passkey, sealed []byte, now time.Time,
) error {
	return s.next().UsePasskey(ctx, was, sealed, now)
}

// testLinearizable tests n random histories, different ones in each run. DIALTONE_HISTORIES overrides
// their number. newDatabase creates an empty database for each and returns a function that opens it as
// a store.
func testLinearizable(t *testing.T, n uint64, newDatabase func(*testing.T) (open func() (closableStore, error))) {
	if text := os.Getenv("DIALTONE_HISTORIES"); text != "" {
		var err error
		if n, err = strconv.ParseUint(text, 10, 16); err != nil {
			t.Fatal("DIALTONE_HISTORIES: ", err)
		}
	}
	ran, successes := uint64(0), make(conformance.Successes)
	first := rand.Uint64N(1e6)
	for seed := first; seed < first+n; seed++ {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			ran++
			openDatabase := newDatabase(t)
			var s closableStore
			open := func(t *testing.T) conformance.Store {
				var err error
				if s, err = openDatabase(); err != nil {
					t.Fatal(err)
				}
				return s
			}
			t.Cleanup(func() { world.CloseStore(t, s) })
			conformance.Linearizable(t, open, func(t *testing.T, _ conformance.Store) conformance.Store {
				world.CloseStore(t, s)
				return open(t)
			}, seed, 6000, successes)
		})
	}
	if ran == n && !t.Failed() {
		successes.Check(t, n)
	}
}
