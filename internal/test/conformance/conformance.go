// Package storetest states what every store must do, as tests. A store is right when it passes
// them, whatever it is made of: nothing here knows an engine, and all of it is said in the terms of
// the interfaces account.Store, tenant.Store, session.Store, delivery.Store, delivery.KeyStore,
// sipserver.AdminStore, sipserver.Store, hook.Store and hook.Queue. The time is passed in, and no
// test waits.
package conformance

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/captcha"
	"dialtone/internal/delivery"
	"dialtone/internal/fault"
	"dialtone/internal/hook"
	"dialtone/internal/i18n"
	"dialtone/internal/outbox"
	"dialtone/internal/session"
	"dialtone/internal/sipserver"
	"dialtone/internal/tenant"
	"dialtone/internal/throttle"
)

// Store is everything that the program keeps.
type Store interface {
	account.Store
	outbox.Store
	tenant.Store
	session.Store
	sipserver.AdminStore
	sipserver.Store
	hook.Store
	hook.Queue
	delivery.Store
	delivery.KeyStore
}

// Run tests a store. open gives a fresh, empty one, which it closes at the end of the test that it is given.
func Run(t *testing.T, open func(t *testing.T) Store) {
	for _, chapter := range []struct {
		name  string
		rules []rule
	}{
		{"Create", createRules}, {"Limits", limitRules}, {"Captcha", captchaRules}, {"Undo", undoRules},
		{"Activate", activateRules}, {"Resend", resendRules}, {"Confirm", confirmRules}, {"Expiry", expiryRules},
		{"Operator", operatorRules}, {"Look-ups", lookupRules}, {"Outbox", outboxRules}, {"Sweep", sweepRules},
		{"Tenants", tenantRules}, {"Sessions", sessionRules}, {"Strangers", strangerRules},
		{"Phone servers", phoneRules}, {"Phones' questions", sealedRules}, {"Changes", changeRules},
		{"Hooks", hookRules}, {"Notices", noticeRules}, {"Claims", claimRules},
		{"Deliveries", deliveryRules}, {"Signing keys", keyRules},
	} {
		t.Run(chapter.name, func(t *testing.T) {
			for _, r := range chapter.rules {
				t.Run(r.name, func(t *testing.T) {
					t.Parallel() // for the disk's sake: every rule has a store of its own
					b := &bench{T: t, Store: open(t), ctx: t.Context()}
					b.tenant = b.addTenant("phone.test")
					r.prove(b)
				})
			}
		})
	}
}

// rule is one sentence and its proof.
type rule struct {
	name  string
	prove func(*bench)
}

// noon is when every test begins.
var noon = time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)

// tick is the smallest step of a store's time.
const tick = time.Microsecond

// bench is a store under test, with one tenant in it.
type bench struct {
	*testing.T
	Store
	ctx    context.Context
	tenant int64
}

func (b *bench) addTenant(host string) int64 {
	b.Helper()
	t, err := b.AddTenant(b.ctx, tenant.Tenant{Host: host, Realm: host, Created: noon})
	b.must(err)
	return t.ID
}

func (b *bench) must(err error) {
	b.Helper()
	if err != nil {
		b.Fatalf("got %v, want no error", err)
	}
}

// refused wants a refusal of a kind.
func (b *bench) refused(err error, kind fault.Kind) {
	b.Helper()
	if !fault.Is(err, kind) {
		b.Fatalf("got %v (kind %d), want kind %d", err, fault.KindOf(err), kind)
	}
}

func (b *bench) is(err, want error) {
	b.Helper()
	if !errors.Is(err, want) {
		b.Fatalf("got %v, want %v", err, want)
	}
}

// limited wants the refusal of a limit, of one kind and with one time to wait.
func (b *bench) limited(err error, of func(time.Duration) error, wait time.Duration) {
	b.Helper()
	want, _ := errors.AsType[*fault.Error](of(wait))
	got, ok := errors.AsType[*fault.Error](err)
	if !ok || got.Kind != fault.Limited || got.Message != want.Message || got.RetryAfter != want.RetryAfter {
		b.Fatalf("got %#v, want %#v", err, want)
	}
}

func fresh() (b [16]byte) {
	rand.Read(b[:])
	return b
}

func bucket() throttle.Bucket { return throttle.Bucket(fresh()) }

// proof is a captcha that was answered right.
func proof() captcha.Proof {
	return captcha.Proof{Ours: true, Right: true, Nonce: fresh(), Expires: noon.Add(captcha.Life)}
}

// place is a place of a bucket under a rule of so many an hour.
func place(b throttle.Bucket, limit int) throttle.Allowance {
	return throttle.Allowance{Bucket: b, Rule: throttle.Rule{Limit: limit, Per: time.Hour}}
}

// Signup returns a signup that a store admits, since everything in it is new.
func Signup(tenant int64, user string, at time.Time) account.Signup {
	s := account.Signup{
		Account: account.Account{
			UID: account.NewUID(at), Tenant: tenant, User: user, Name: "Ann Example",
			Email: user + "@mail.test", Role: account.Guest, Lang: i18n.Arabic, Disabled: true,
			Created: at, Expires: at.Add(account.PendingLife),
			Sealed: []byte("sealed credential of " + user),
		},
		Message:     fresh(),
		SealedToken: []byte("sealed token of " + user),
		Captcha:     captcha.Proof{Ours: true, Right: true, Nonce: fresh(), Expires: at.Add(captcha.Life)},
		Address:     []throttle.Allowance{{Bucket: bucket(), Rule: throttle.SignupsPerAddress}},
		Recipient:   throttle.Allowance{Bucket: bucket(), Rule: throttle.MessagesPerRecipient},
	}
	rand.Read(s.Token[:])
	return s
}

// admission returns a Signup at the tenant, with a captcha of noon.
func (b *bench) admission(user string, at time.Time) account.Signup {
	s := Signup(b.tenant, user, at)
	s.Captcha = proof()
	return s
}

// join adds an account and gives its admission back.
func (b *bench) join(user string, at time.Time) account.Signup {
	b.Helper()
	a := b.admission(user, at)
	b.must(b.Create(b.ctx, a, at))
	return a
}

// member adds an account and activates it.
func (b *bench) member(user string, at time.Time) account.Signup {
	b.Helper()
	a := b.join(user, at)
	_, err := b.Activate(b.ctx, b.tenant, a.Token, at)
	b.must(err)
	return a
}

// find is the account of a user, which must be there.
func (b *bench) find(user string, at time.Time) account.Account {
	b.Helper()
	a, err := b.Find(b.ctx, b.tenant, user, at)
	b.must(err)
	return a
}

// absent wants that there is no account of the user.
func (b *bench) absent(user string, at time.Time) {
	b.Helper()
	_, err := b.Find(b.ctx, b.tenant, user, at)
	b.refused(err, fault.NotFound)
}

func (b *bench) settle(sent []outbox.Ref) {
	b.Helper()
	left, err := b.Ack(b.ctx, sent)
	b.must(err)
	if len(left) > 0 {
		b.Fatalf("%d are left", len(left))
	}
}

// waiting are the users of the outbox, in its order.
func (b *bench) waiting() (users []string) {
	b.Helper()
	list, err := b.Pending(b.ctx)
	b.must(err)
	for _, w := range list {
		users = append(users, w.User)
	}
	return users
}

func (b *bench) equal(got, want []string) {
	b.Helper()
	if !slices.Equal(got, want) {
		b.Fatalf("got %q, want %q", got, want)
	}
}

// crowd calls do n times at once and counts the results by kind; nil is counted as -1.
func (b *bench) crowd(n int, do func(i int) error) map[fault.Kind]int {
	const fine = fault.Kind(-1)
	errs := make([]error, n)
	var ready, all sync.WaitGroup
	start := make(chan struct{})
	ready.Add(n)
	for i := range n {
		all.Go(func() {
			ready.Done()
			<-start
			for errs[i] = do(i); fault.Is(errs[i], fault.Overloaded); {
				errs[i] = do(i) // nothing has happened, by the store's own word: a busy machine is no failure
			}
		})
	}
	ready.Wait()
	close(start)
	all.Wait()
	count := make(map[fault.Kind]int)
	for _, err := range errs {
		if err == nil {
			count[fine]++
			continue
		}
		if fault.Is(err, fault.Internal) {
			b.Error(err)
		}
		count[fault.KindOf(err)]++
	}
	return count
}
