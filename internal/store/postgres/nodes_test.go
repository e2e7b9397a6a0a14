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

// platform are some servers on one database.
type platform struct {
	*testing.T
	nodes  []*store.Store
	tenant int64
}

func newPlatform(t *testing.T, url string, names ...string) *platform {
	t.Helper()
	ring := secret.NewRing(noon)
	p := &platform{T: t}
	for _, name := range names {
		p.nodes = append(p.nodes, openStore(t, ring, name, url).Store)
	}
	p.tenant = addedTenant(t, p.nodes[0], "phone.test")
	return p
}

// crowd has all nodes do something at once, and counts the answers by kind; -1 stands for none.
func (p *platform) crowd(n int, do func(s *store.Store, i int) error) map[fault.Kind]int {
	p.Helper()
	var mu sync.Mutex
	count := make(map[fault.Kind]int)
	var all sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		all.Go(func() {
			<-start
			err := do(p.nodes[i%len(p.nodes)], i)
			for fault.Is(err, fault.Overloaded) { // nothing has happened: a busy machine is no failure
				err = do(p.nodes[i%len(p.nodes)], i)
			}
			kind := fault.Kind(-1)
			if err != nil {
				kind = fault.KindOf(err)
			}
			mu.Lock()
			defer mu.Unlock()
			count[kind]++
			if kind == fault.Internal {
				p.Error(err)
			}
		})
	}
	close(start)
	all.Wait()
	return count
}

func TestNodesShareEveryLimit(t *testing.T) {
	p := newPlatform(t, postgrestest.Shared(t).Database(t), "a", "b", "c")
	for round := range 20 {
		base := newcomer(p.tenant, "x")
		fresh := func(i int) account.Signup {
			return newcomer(p.tenant, fmt.Sprintf("user%d-%d", round, i))
		}
		for _, c := range []struct {
			name string
			one  func(i int) account.Signup
			want int
			kind fault.Kind
		}{
			{"address", func(i int) account.Signup {
				a := fresh(i)
				a.Address = base.Address
				return a
			}, 3, fault.Limited},
			{"captcha", func(i int) account.Signup {
				a := fresh(100 + i)
				a.Captcha.Nonce = base.Captcha.Nonce
				return a
			}, 1, fault.Captcha},
			{"name", func(i int) account.Signup {
				return newcomer(p.tenant, fmt.Sprintf("one%d", round))
			}, 1, fault.Conflict},
			{"recipient", func(i int) account.Signup {
				a := fresh(200 + i)
				a.Recipient = base.Recipient
				return a
			}, 3, fault.Limited},
			{"nothing", func(i int) account.Signup { return fresh(300 + i) }, 24, fault.Limited},
		} {
			got := p.crowd(24, func(s *store.Store, i int) error { return s.Create(t.Context(), c.one(i), noon) })
			if got[-1] != c.want || got[c.kind] != 24-c.want {
				t.Fatalf("24 signups with one %s: %v, want %d", c.name, got, c.want)
			}
		}
		ann := newcomer(p.tenant, fmt.Sprintf("ann%d", round))
		if err := p.nodes[0].Create(t.Context(), ann, noon); err != nil {
			t.Fatal(err)
		}
		got := p.crowd(24, func(s *store.Store, _ int) error {
			_, err := s.Activate(t.Context(), p.tenant, ann.Token, noon)
			return err
		})
		if got[-1] != 1 || got[fault.Conflict] != 23 {
			t.Fatalf("24 activations by one link: %v", got)
		}
	}
}

// Everything at once, on a few names, addresses and captchas: whatever the order, there is an
// answer for everybody.
func TestNodesDoNotBlockEachOther(t *testing.T) {
	p := newPlatform(t, postgrestest.Shared(t).Database(t), "a", "b", "c")
	const names, buckets, clients, calls = 12, 6, 24, 125
	shared := make([]account.Signup, buckets)
	for i := range shared {
		shared[i] = newcomer(p.tenant, "x")
	}
	var mu sync.Mutex
	var made []account.Signup
	some := func() (account.Signup, bool) {
		mu.Lock()
		defer mu.Unlock()
		if len(made) == 0 {
			return account.Signup{}, false
		}
		return made[rand.IntN(len(made))], true
	}
	one := func(s *store.Store, i int) error {
		at := noon.Add(time.Duration(i) * time.Hour / 10)
		user := fmt.Sprint("user", rand.IntN(names))
		old, ok := some()
		switch n := rand.IntN(20); {
		case n < 10 || !ok:
			a := newcomer(p.tenant, user)
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
				made = append(made, a)
				mu.Unlock()
			}
			return err
		case n < 12:
			_, err := s.Activate(t.Context(), p.tenant, old.Token, at)
			return err
		case n < 14:
			return s.Delete(t.Context(), p.tenant, user, at)
		case n < 15:
			return s.Undo(t.Context(), old, at)
		case n < 16:
			_, err := s.Ack(t.Context(), []outbox.Ref{{Account: old.Account.UID, Message: old.Message}})
			return err
		case n < 17:
			_, err := s.Sweep(t.Context(), at, at, 50)
			return err
		case n < 18:
			_, err := s.Disable(t.Context(), p.tenant, user, at)
			return err
		case n < 19:
			_, err := s.AddTenant(t.Context(), tenant.Tenant{Host: user + ".test", Realm: user, Created: at})
			return err
		default:
			return s.RemoveTenant(t.Context(), user+".test", true, at)
		}
	}
	sum := make(map[fault.Kind]int)
	for call := range calls {
		for kind, n := range p.crowd(clients, func(s *store.Store, i int) error { return one(s, call*clients+i) }) {
			sum[kind] += n
		}
	}
	if sum[-1] < clients*calls/20 {
		t.Errorf("hardly anything succeeded: %v", sum)
	}
}
