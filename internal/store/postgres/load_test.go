package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"dialtone/internal/account"
	"dialtone/internal/fault"
)

// load is a number of clients that sign up repeatedly, sometimes with a taken name. It records every
// answer.
type load struct {
	ctx context.Context
	end context.CancelFunc
	all sync.WaitGroup

	mu        sync.Mutex
	changed   *sync.Cond
	created   []account.Signup // acknowledged
	refused   []account.Signup
	unknown   []account.Signup // fault.ErrInDoubt
	other     []error          // internal errors
	overloads int              // refused or unknown because of the database
}

// startLoad starts 16 clients.
func startLoad(s *testStore, tenantID int64) *load {
	l := &load{}
	l.ctx, l.end = context.WithCancel(context.Background())
	l.changed = sync.NewCond(&l.mu)
	for client := range 16 {
		l.all.Go(func() {
			for i := 0; l.ctx.Err() == nil; i++ {
				a := newSignup(tenantID, fmt.Sprintf("user%d-%d", client, i))
				if i%10 == 9 { // with a name that is probably taken
					a.Account.User = fmt.Sprintf("user%d-%d", client, i-1)
				}
				err := s.Create(context.Background(), a, noon)
				l.mu.Lock()
				if fault.Is(err, fault.Overloaded) {
					// This includes signups whose outcome is unknown. All 16 may have been in the
					// commit that was interrupted.
					l.overloads++
				}
				switch {
				case err == nil:
					l.created = append(l.created, a)
				case errors.Is(err, fault.ErrInDoubt):
					l.unknown = append(l.unknown, a)
				case fault.KindOf(err) == fault.Internal:
					l.other = append(l.other, err)
				default:
					l.refused = append(l.refused, a)
				}
				l.changed.Broadcast()
				l.mu.Unlock()
				if fault.Is(err, fault.Overloaded) {
					s.engine.WaitForBreaker(l.ctx)
				}
			}
		})
	}
	return l
}

// waitForSignups waits until n more signups have succeeded.
func (l *load) waitForSignups(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for want := len(l.created) + n; len(l.created) < want; {
		l.changed.Wait()
	}
}

// waitForOverload waits until there are more overloads than before.
func (l *load) waitForOverload(before int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.overloads == before {
		l.changed.Wait()
	}
}

func (l *load) countOverloads() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.overloads
}

// check ends the load, undoes the signups with an unknown outcome, and compares the answers with
// the accounts and messages in the store.
func (l *load) check(t *testing.T, s *testStore) {
	t.Helper()
	l.end()
	l.all.Wait()
	for _, err := range l.other {
		t.Errorf("a signup failed: %v", err)
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
		if err := s.Undo(t.Context(), a, noon); err != nil {
			t.Fatal(err)
		}
	}
	rows, err := s.engine.Pool().Query(t.Context(), "SELECT uid FROM account")
	if err != nil {
		t.Fatal(err)
	}
	uids, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
	if err != nil {
		t.Fatal(err)
	}
	exists := make(map[account.UID]bool)
	for _, uid := range uids {
		exists[account.UID(uid)] = true
	}
	for _, a := range l.created {
		if !exists[a.Account.UID] || !waiting[a.Account.UID] {
			t.Errorf("%s was acknowledged and is lost", a.Account.User)
		}
	}
	for _, a := range append(l.refused, l.unknown...) {
		if exists[a.Account.UID] {
			t.Errorf("%s was refused or undone and exists", a.Account.User)
		}
	}
	t.Logf("%d signups acknowledged, %d refused, %d unknown; %d failed because of the database",
		len(l.created), len(l.refused), len(l.unknown), l.overloads)
}
