package store_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/secret"
	"dialtone/internal/store"
	"dialtone/internal/test/conformance"
	"dialtone/internal/test/postgrestest"
	"dialtone/internal/test/teststore"
)

func TestLinearizable(t *testing.T) {
	testLinearizable(t, func(t *testing.T) func() (closing, error) {
		path, ring := filepath.Join(t.TempDir(), "dialtone.db"), secret.NewRing(noon)
		return func() (closing, error) { return teststore.Open(t.Context(), path, ring) }
	})
}

// Three servers on one database are one store.
func TestLinearizableOnPostgres(t *testing.T) {
	c := postgrestest.Shared(t)
	testLinearizable(t, func(t *testing.T) func() (closing, error) {
		url, ring := c.Database(t), secret.NewRing(noon)
		return func() (closing, error) {
			var s spread
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

type closing interface {
	conformance.Store
	Close() error
}

// spread has each call done by the next of some servers.
type spread struct {
	*store.Store
	nodes []*store.Store
	calls atomic.Uint32
}

func (s *spread) next() *store.Store { return s.nodes[s.calls.Add(1)%uint32(len(s.nodes))] }

func (s *spread) Close() error {
	var errs []error
	for _, node := range s.nodes {
		errs = append(errs, node.Close())
	}
	return errors.Join(errs...)
}

func (s *spread) Create(ctx context.Context, a account.Signup, now time.Time) error {
	return s.next().Create(ctx, a, now)
}

func (s *spread) Activate(ctx context.Context, tenant int64, token [32]byte, now time.Time) (account.Account, error) {
	return s.next().Activate(ctx, tenant, token, now)
}

func (s *spread) Find(ctx context.Context, tenant int64, user string, now time.Time) (account.Account, error) {
	return s.next().Find(ctx, tenant, user, now)
}

func (s *spread) Enable(ctx context.Context, tenant int64, user string, now time.Time) (account.Account, error) {
	return s.next().Enable(ctx, tenant, user, now)
}

func (s *spread) Disable(ctx context.Context, tenant int64, user string, now time.Time) (account.Account, error) {
	return s.next().Disable(ctx, tenant, user, now)
}

func (s *spread) Delete(ctx context.Context, tenant int64, user string, now time.Time) error {
	return s.next().Delete(ctx, tenant, user, now)
}

// testLinearizable has some histories made on a database each.
func testLinearizable(t *testing.T, database func(*testing.T) (open func() (closing, error))) {
	for seed := range uint64(5) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			open := database(t)
			var last closing
			next := func(t *testing.T) conformance.Store {
				s, err := open()
				if err != nil {
					t.Fatal(err)
				}
				last = s
				return s
			}
			t.Cleanup(func() { shut(t, last) })
			conformance.Linearizable(t, next, func(t *testing.T, _ conformance.Store) conformance.Store {
				shut(t, last)
				return next(t)
			}, seed, 2000)
		})
	}
}
