// Package conformance contains the tests that every store must pass.
//
// They are written in terms of the interfaces that the program uses: account.Store, outbox.Store,
// tenant.Store, session.Store, sipserver.AdminStore, sipserver.Store, hook.Store, hook.Queue,
// delivery.Store, delivery.KeyStore, delivery.OrphanStore, audit.CheckpointStore, stats.Store, operator.BulkStore
// and others of that package. No test knows the engine, and a store that passes all tests can replace any other.
//
// Run and RunExport run the tests, each on an empty store. Linearizable checks the answers of a
// store to concurrent calls. Every call takes the time as an argument, so no test waits.
//
// The test files run them on SQLite, on PostgreSQL and through PgBouncer. They are here and not beside
// those engines, since Go would compile this package again for each package with tests of its own names.
package conformance

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/captcha"
	"dialtone/internal/certificate"
	"dialtone/internal/delivery"
	"dialtone/internal/fault"
	"dialtone/internal/hook"
	"dialtone/internal/i18n"
	operators "dialtone/internal/operator"
	"dialtone/internal/outbox"
	"dialtone/internal/session"
	"dialtone/internal/sipserver"
	"dialtone/internal/tenant"
	"dialtone/internal/throttle"
)

// Store has all methods that the program needs of a store.
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
	delivery.OrphanStore
	audit.CheckpointStore
	statsStore
	operators.BulkStore
	operators.DetailStore
	operators.SignupsStore
	operators.TokenStore
	operators.AnswerStore
	operators.TenantStore
	certificate.Store
}

// Run tests a store. open returns a new, empty store and closes it at the end of the test t.
func Run(t *testing.T, open func(t *testing.T) Store) {
	RunSome(t, open, func(string) bool { return true })
}

// RunSome is Run for the tests whose names are chosen. A name has no spaces, as in the output of a test.
func RunSome(t *testing.T, open func(t *testing.T) Store, chosen func(name string) bool) {
	for _, group := range []struct {
		name  string
		tests []testCase
	}{
		{"Create", createTests}, {"Limits", limitTests}, {"Captcha", captchaTests}, {"Undo", undoTests},
		{"Activate", activateTests}, {"Resend", resendTests}, {"Confirm", confirmTests}, {"Expiry", expiryTests},
		{"Operators", operatorTests}, {"Look-ups", lookupTests}, {"Outbox", outboxTests}, {"Sweep", sweepTests},
		{"Tenants", tenantTests}, {"Sessions", sessionTests}, {"Tenant isolation", isolationTests},
		{"Phone servers", serverTests}, {"Sealed credentials", sealedTests}, {"OnChange", changeTests},
		{"Hooks", hookTests}, {"Notifications", notificationTests}, {"Claims", claimTests},
		{"States", stateTests}, {"Closed names", nameTests}, {"Audit trail", trailTests}, {"Orphans", orphanTests},
		{"Deliveries", deliveryTests}, {"Signing keys", keyTests},
		{"Certificates", certificateTests}, {"Clock", clockTests},
		{"Passwords", passwordTests}, {"Reset links", resetTests}, {"Decline", declineTests},
		{"List of sessions", listTests}, {"New browsers", newBrowserTests},
		{"Last look-ups", lastLookupTests}, {"Passkeys", passkeyTests},
		{"Forgotten passwords", forgottenTests}, {"Not me", notMeTests},
		{"Address changes", emailTests}, {"Profile", profileTests},
		{"Leaving", leaveTests},
		{"Link reads", linkReadTests},
		{"Authenticator apps", appTests}, {"Codes", codeTests},
		{"Replaced addresses", replacedEmailTests}, {"Limits of an owner", ownerLimitTests},
		{"Messages about wrong codes", wrongCodeTests}, {"A message about data", dataTests},
		{"Changes of an account", dataChangeTests},
		{"Pages of accounts", pageTests}, {"Bulk changes", bulkTests},
		{"Counts", countTests}, {"Backlogs", backlogTests}, {"Events of accounts", eventTests},
		{"Added accounts", addedTests}, {"Imported accounts", importTests}, {"Messages sent again", sentAgainTests},
		{"Names and sessions by an operator", renameTests}, {"What an operator sees", detailTests},
		{"Who can sign up", signupModeTests},
		{"Tokens", tokenTests}, {"Kept answers", answerTests}, {"Conditions", conditionTests},
		{"New epoch", epochTests},
	} {
		t.Run(group.name, func(t *testing.T) {
			for _, c := range group.tests {
				if !chosen(strings.ReplaceAll(group.name+"/"+c.name, " ", "_")) {
					continue
				}
				t.Run(c.name, func(t *testing.T) {
					t.Parallel() // each test has its own store, and most of its time is fsync
					c.run(newTest(t, open(t)))
				})
			}
		})
	}
}

type testCase struct {
	name string
	run  func(*test)
}

// noon is the time at which every test begins.
var noon = time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)

// tick is the resolution of the times in a store.
const tick = time.Microsecond

// test is a test of a store that has one tenant, phone.test.
type test struct {
	*testing.T
	Store
	ctx    context.Context
	tenant int64
}

func newTest(t *testing.T, s Store) *test {
	b := &test{T: t, Store: s, ctx: t.Context()}
	b.tenant = b.addTenant("phone.test")
	return b
}

func (t *test) addTenant(host string) int64 {
	t.Helper()
	tn, err := t.AddTenant(t.ctx, tenant.Tenant{Host: host, Realm: host, Created: noon})
	t.must(err)
	return tn.ID
}

func (t *test) must(err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("got %v, want no error", err)
	}
}

func (t *test) wantKind(err error, kind fault.Kind) {
	t.Helper()
	if !fault.Is(err, kind) {
		t.Fatalf("got %v (kind %d), want kind %d", err, fault.KindOf(err), kind)
	}
}

// wantNoChanges checks that operators cannot change an account that the tenant does not have.
func (t *test) wantNoChanges(user string) {
	t.Helper()
	_, err := t.EnableNow(t.ctx, t.tenant, user, noon)
	t.wantKind(err, fault.NotFound)
	_, err = t.Disable(t.ctx, t.tenant, user, noon)
	t.wantKind(err, fault.NotFound)
	_, err = t.SetRole(t.ctx, t.tenant, user, account.Admin, noon)
	t.wantKind(err, fault.NotFound)
	t.wantKind(t.Delete(t.ctx, t.tenant, user, noon), fault.NotFound)
}

func (t *test) wantErr(err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("got %v, want %v", err, want)
	}
}

// wantLimited fails the test unless err is the refusal of a limit, with the given time to wait.
func (t *test) wantLimited(err error, refusal func(time.Duration) error, wait time.Duration) {
	t.Helper()
	want, _ := errors.AsType[*fault.Error](refusal(wait))
	got, ok := errors.AsType[*fault.Error](err)
	if !ok || got.Kind != fault.Limited || got.Message != want.Message || got.RetryAfter != want.RetryAfter {
		t.Fatalf("got %#v, want %#v", err, want)
	}
}

func (t *test) wantEqual(got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Fatalf("got %q, want %q", got, want)
	}
}

func newID() (id [16]byte) {
	rand.Read(id[:])
	return id
}

func newBucket() throttle.Bucket { return throttle.Bucket(newID()) }

// captchaProof returns a captcha with the right answer.
func captchaProof() captcha.Proof {
	return captcha.Proof{Ours: true, Right: true, Nonce: newID(), Expires: noon.Add(captcha.Life)}
}

// allowance returns the allowance of a bucket that may be used limit times an hour.
func allowance(b throttle.Bucket, limit int) throttle.Allowance {
	return throttle.Allowance{Bucket: b, Rule: throttle.Rule{Limit: limit, Per: time.Hour}}
}

// signup returns a signup that a store admits: it shares no limit with another. Its captcha is from
// noon, whatever at is.
func (t *test) signup(user string, at time.Time) account.Signup {
	s := account.Signup{
		Account: account.Account{
			UID: account.NewUID(at), Tenant: t.tenant, User: user, Name: "Ann Example",
			Email: user + "@mail.test", Role: account.Guest, Lang: i18n.Arabic, Disabled: true,
			Net: "192.0.2.0/24", NotSignedIn: true,
			Created: at, Expires: at.Add(account.PendingLife),
			Sealed: []byte("sealed credential of " + user),
		},
		Message:     newID(),
		SealedToken: []byte("sealed token of " + user),
		Captcha:     captchaProof(),
		Address:     []throttle.Allowance{{Bucket: newBucket(), Rule: throttle.SignupsPerAddress}},
		Recipient:   throttle.Allowance{Bucket: newBucket(), Rule: throttle.MessagesPerRecipient},
	}
	rand.Read(s.Token[:])
	return s
}

// addPending creates an account that waits for its link.
func (t *test) addPending(user string, at time.Time) account.Signup {
	t.Helper()
	a := t.signup(user, at)
	t.must(t.Create(t.ctx, a, at))
	return a
}

// addActive creates an account and activates it.
func (t *test) addActive(user string, at time.Time) account.Signup {
	t.Helper()
	a := t.addPending(user, at)
	_, err := t.Activate(t.ctx, t.tenant, a.Token, at)
	t.must(err)
	return a
}

// addMany creates n pending accounts and returns references to their messages.
func (t *test) addMany(n int) (messages []outbox.Ref) {
	t.Helper()
	signups := make([]account.Signup, n)
	for i := range signups {
		signups[i] = t.signup(fmt.Sprint("ann", i), noon)
		messages = append(messages, ref(signups[i]))
	}
	for part := range slices.Chunk(signups, 300) { // a store refuses more at once
		got := t.concurrently(len(part), func(i int) error { return t.Create(t.ctx, part[i], noon) })
		if got[succeeded] != len(part) {
			t.Fatalf("got %v", got)
		}
	}
	return messages
}

// ref returns a reference to the message of a signup.
func ref(a account.Signup) outbox.Ref {
	return outbox.Ref{Tenant: a.Account.Tenant, Account: a.Account.UID, Message: a.Message}
}

// find returns the account of a user, which must exist.
func (t *test) find(user string, at time.Time) account.Account {
	t.Helper()
	a, err := t.Find(t.ctx, t.tenant, user, at)
	t.must(err)
	return a
}

func (t *test) wantNoAccount(user string, at time.Time) {
	t.Helper()
	_, err := t.Find(t.ctx, t.tenant, user, at)
	t.wantKind(err, fault.NotFound)
}

// ack acknowledges messages, and expects that none is left.
func (t *test) ack(sent []outbox.Ref) {
	t.Helper()
	left, err := t.Ack(t.ctx, sent, noon)
	t.must(err)
	if len(left) > 0 {
		t.Fatalf("%d messages are left", len(left))
	}
}

// pendingUsers returns the users whose messages are in the outbox, in its order.
func (t *test) pendingUsers() (users []string) {
	t.Helper()
	list, err := t.Pending(t.ctx)
	t.must(err)
	for _, e := range list {
		users = append(users, e.User)
	}
	return users
}

// succeeded counts the calls without an error in the result of concurrently.
const succeeded fault.Kind = -1

// concurrently calls do(0) to do(n-1) concurrently and returns how many calls ended with each kind
// of error. It repeats a call that was refused because the store was busy: such a call has changed
// nothing.
func (t *test) concurrently(n int, do func(i int) error) map[fault.Kind]int {
	t.Helper()
	errs := make([]error, n)
	var ready, all sync.WaitGroup
	start := make(chan struct{})
	ready.Add(n)
	for i := range n {
		all.Go(func() {
			ready.Done()
			<-start
			for errs[i] = do(i); fault.Is(errs[i], fault.Overloaded); {
				errs[i] = do(i)
			}
		})
	}
	ready.Wait()
	close(start)
	all.Wait()
	count := make(map[fault.Kind]int)
	for _, err := range errs {
		switch {
		case err == nil:
			count[succeeded]++
			continue
		case fault.Is(err, fault.Internal):
			t.Error(err)
		}
		count[fault.KindOf(err)]++
	}
	return count
}
