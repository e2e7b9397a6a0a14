package postgres_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/fault"
	"dialtone/internal/outbox"
	"dialtone/internal/secret"
	"dialtone/internal/store"
	"dialtone/internal/tenant"
	"dialtone/internal/test/postgrestest"
	"dialtone/internal/throttle"
)

// platform is several nodes on one database.
type platform struct {
	*testing.T
	nodes  []*store.Store
	tenant int64
}

func newPlatform(t *testing.T, url string, names ...string) *platform {
	t.Helper()
	ring := secret.NewRing(noon)
	pf := &platform{T: t}
	for _, name := range names {
		pf.nodes = append(pf.nodes, openStore(t, ring, name, url).Store)
	}
	pf.tenant = addTenant(t, pf.nodes[0], "phone.test")
	return pf
}

const succeeded fault.Kind = -1

// concurrently calls do n times at once, distributed over the nodes, and returns how many calls
// ended with which kind of error. It repeats calls that were refused because the store was busy:
// they have changed nothing. succeeded stands for no error.
func (pf *platform) concurrently(n int, do func(s *store.Store, i int) error) map[fault.Kind]int {
	pf.Helper()
	var mu sync.Mutex
	count := make(map[fault.Kind]int)
	var all sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		all.Go(func() {
			<-start
			err := do(pf.nodes[i%len(pf.nodes)], i)
			for fault.Is(err, fault.Overloaded) {
				err = do(pf.nodes[i%len(pf.nodes)], i)
			}
			kind := succeeded
			if err != nil {
				kind = fault.KindOf(err)
			}
			mu.Lock()
			defer mu.Unlock()
			count[kind]++
			if kind == fault.Internal {
				pf.Error(err)
			}
		})
	}
	close(start)
	all.Wait()
	return count
}

func TestNodesShareEveryLimit(t *testing.T) {
	nodesShareEveryLimit(t, postgrestest.Shared(t).Database(t), 8)
}

// nodesShareEveryLimit runs three nodes on the empty database at url.
func nodesShareEveryLimit(t *testing.T, url string, rounds int) {
	pf := newPlatform(t, url, "a", "b", "c")
	for round := range rounds {
		base := newSignup(pf.tenant, "x")
		signup := func(i int) account.Signup {
			return newSignup(pf.tenant, fmt.Sprintf("user%d-%d", round, i))
		}
		for _, c := range []struct {
			name string
			next func(i int) account.Signup
			want int
			kind fault.Kind
		}{
			{"address", func(i int) account.Signup {
				a := signup(i)
				a.Address = base.Address
				return a
			}, 3, fault.Limited},
			{"captcha", func(i int) account.Signup {
				a := signup(100 + i)
				a.Captcha.Nonce = base.Captcha.Nonce
				return a
			}, 1, fault.Captcha},
			{"name", func(i int) account.Signup {
				return newSignup(pf.tenant, fmt.Sprintf("one%d", round))
			}, 1, fault.Conflict},
			{"recipient", func(i int) account.Signup {
				a := signup(200 + i)
				a.Recipient = base.Recipient
				return a
			}, 3, fault.Limited},
			{"database", func(i int) account.Signup { return signup(300 + i) }, 24, fault.Limited},
		} {
			got := pf.concurrently(24, func(s *store.Store, i int) error {
				return s.Create(t.Context(), c.next(i), noon)
			})
			if got[succeeded] != c.want || got[c.kind] != 24-c.want {
				t.Fatalf("24 signups with the same %s: got %v, want %d accounts", c.name, got, c.want)
			}
		}
		ann := newSignup(pf.tenant, fmt.Sprintf("ann%d", round))
		if err := pf.nodes[0].Create(t.Context(), ann, noon); err != nil {
			t.Fatal(err)
		}
		got := pf.concurrently(24, func(s *store.Store, _ int) error {
			_, err := s.Activate(t.Context(), pf.tenant, ann.Token, noon)
			return err
		})
		if got[succeeded] != 1 || got[fault.Conflict] != 23 {
			t.Fatalf("24 activations by one link: %v", got)
		}
	}
}

// Concurrent calls of all kinds on a few names, addresses and captchas do not deadlock, whatever
// their order.
func TestNoDeadlockBetweenNodes(t *testing.T) {
	pf := newPlatform(t, postgrestest.Shared(t).Database(t), "a", "b", "c")
	const names, buckets, clients, calls = 12, 6, 24, 125
	shared := make([]account.Signup, buckets)
	for i := range shared {
		shared[i] = newSignup(pf.tenant, "x")
	}
	var mu sync.Mutex
	var created []account.Signup
	random := func() (account.Signup, bool) {
		mu.Lock()
		defer mu.Unlock()
		if len(created) == 0 {
			return account.Signup{}, false
		}
		return created[rand.IntN(len(created))], true
	}
	call := func(s *store.Store, i int) error {
		at := noon.Add(time.Duration(i) * time.Hour / 10)
		user := fmt.Sprint("user", rand.IntN(names))
		old, ok := random()
		switch n := rand.IntN(20); {
		case n < 10 || !ok:
			a := newSignup(pf.tenant, user)
			a.Account.Created, a.Account.Expires = at, at.Add(account.PendingLife)
			a.Address = append(a.Address, throttle.Allowance{
				Bucket: shared[rand.IntN(buckets)].Address[0].Bucket,
				Rule:   throttle.Rule{Limit: 50, Per: time.Hour},
			})
			a.Recipient.Bucket = shared[rand.IntN(buckets)].Recipient.Bucket
			if rand.IntN(3) == 0 {
				a.Captcha = shared[rand.IntN(buckets)].Captcha
			}
			err := s.Create(t.Context(), a, at)
			if err == nil {
				mu.Lock()
				created = append(created, a)
				mu.Unlock()
			}
			return err
		case n < 12:
			_, err := s.Activate(t.Context(), pf.tenant, old.Token, at)
			return err
		case n < 14:
			return s.Delete(t.Context(), pf.tenant, user, at)
		case n < 15:
			return s.Undo(t.Context(), old, at)
		case n < 16:
			_, err := s.Ack(t.Context(), []outbox.Ref{{Account: old.Account.UID, Message: old.Message}}, noon)
			return err
		case n < 17:
			_, err := s.Sweep(t.Context(), at, at, 50)
			return err
		case n < 18:
			_, err := s.Disable(t.Context(), pf.tenant, user, at)
			return err
		case n < 19:
			_, err := s.AddTenant(t.Context(), tenant.Tenant{Host: user + ".test", Realm: user, Created: at})
			return err
		default:
			return s.RemoveTenant(t.Context(), user+".test", true, at)
		}
	}
	sum := make(map[fault.Kind]int)
	for i := range calls {
		for kind, n := range pf.concurrently(clients, func(s *store.Store, k int) error {
			return call(s, i*clients+k)
		}) {
			sum[kind] += n
		}
	}
	if sum[succeeded] < clients*calls/20 {
		t.Errorf("less than a twentieth of the calls succeeded: %v", sum)
	}
}
