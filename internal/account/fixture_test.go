package account_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	_ "modernc.org/sqlite"

	"dialtone/internal/account"
	"dialtone/internal/digest"
	"dialtone/internal/fault"
	"dialtone/internal/store"
	"dialtone/internal/tenant"
	"dialtone/internal/test/world"
)

const password = "seven horses under the bridge"

// fixture is a World with a store that a test can make fail.
type fixture struct {
	*world.World
	faults *faultyStore // in front of Store, for Accounts and Outbox
}

var errBroken = errors.New("broken by the test")

// faultyStore is a store whose methods fail with the errors in its fields. A change that fails
// with fault.ErrInDoubt is committed, unless lost is set.
type faultyStore struct {
	*store.Store
	create, undo, resend, undoResend error
	setPassword                      error
	lost                             bool
}

func (s *faultyStore) Undo(ctx context.Context, a account.Signup, now time.Time) error {
	if s.undo != nil {
		return s.undo
	}
	return s.Store.Undo(ctx, a, now)
}

func (s *faultyStore) Create(ctx context.Context, a account.Signup, now time.Time) error {
	if s.create != nil && (s.lost || !errors.Is(s.create, fault.ErrInDoubt)) {
		return s.create
	}
	return errors.Join(s.Store.Create(ctx, a, now), s.create)
}

func (s *faultyStore) Resend(ctx context.Context, r account.LinkReplacement, now time.Time) error {
	if s.resend != nil && s.lost {
		return s.resend
	}
	return errors.Join(s.Store.Resend(ctx, r, now), s.resend)
}

func (s *faultyStore) UndoResend(ctx context.Context, r account.LinkReplacement, now time.Time) error {
	if s.undoResend != nil {
		return s.undoResend
	}
	return s.Store.UndoResend(ctx, r, now)
}

func (s *faultyStore) SetPassword(
	ctx context.Context, c account.PasswordChange, now time.Time,
) (account.Account, error) {
	if s.setPassword != nil && s.lost {
		return account.Account{}, s.setPassword
	}
	a, err := s.Store.SetPassword(ctx, c, now)
	return a, errors.Join(err, s.setPassword)
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	o := &fixture{World: world.New(t, world.Options{
		Tenants: []tenant.Tenant{{Host: "phone.test"}, {Host: "other.test"}}, JSON: true,
	})}
	o.useFaults()
	return o
}

// useFaults puts a new faultyStore in front of Store.
func (o *fixture) useFaults() {
	o.faults = &faultyStore{Store: o.Store}
	o.OutboxDeps.Store, o.AccountDeps.Store = o.faults, o.faults
	o.Rebuild()
}

// restart reopens the store and the pickup directory, as a new process does.
func (o *fixture) restart() {
	o.Helper()
	o.Restart()
	o.useFaults()
}

// refused checks that an error has a kind.
func (o *fixture) refused(err error, kind fault.Kind) {
	o.Helper()
	if !fault.Is(err, kind) {
		o.Fatalf("got %v (kind %d), want kind %d", err, fault.KindOf(err), kind)
	}
}

// answered returns a new captcha with its right answer.
func (o *fixture) answered(tenant int64) (token, answer string) {
	o.Helper()
	q := o.AccountDeps.Captcha().Ask(tenant)
	var x, y int
	if _, err := fmt.Sscanf(q.Text, "%d + %d", &x, &y); err != nil {
		o.Fatal(err)
	}
	return q.Token, fmt.Sprint(x + y)
}

// form returns a valid form.
func (o *fixture) form(user string) account.Form {
	o.Helper()
	f := account.Form{User: user, Name: "Ann Example", Email: user + "@mail.test",
		HA1: digest.Compute(user, o.Tenant.Realm, password).Hex()}
	f.CaptchaToken, f.CaptchaAnswer = o.answered(o.Tenant.ID)
	return f
}

// from returns the nth address.
func from(n int) account.Origin {
	return account.Origin{Addr: netip.AddrFrom4([4]byte{192, 0, byte(n >> 8), byte(n)}),
		Request: fmt.Sprint("r", n)}
}

// signup signs a user up.
func (o *fixture) signup(user string) account.Account {
	o.Helper()
	a, err := o.Accounts.Signup(o.Context(), o.Tenant, o.form(user), world.NewOrigin())
	o.Must(err)
	return a
}

// absent checks that there is no account.
func (o *fixture) absent(user string) {
	o.Helper()
	_, err := o.Store.Find(o.Context(), o.Tenant.ID, user, o.Now())
	o.refused(err, fault.NotFound)
}

// hash returns the HA1 of a user in hex.
func (o *fixture) hash(user, password string) string {
	return digest.Compute(user, o.Tenant.Realm, password).Hex()
}

// pending signs a user up and returns the account.
func (o *fixture) pending(user string) account.Account {
	o.Helper()
	o.signup(user)
	a, err := o.Store.Find(o.Context(), o.Tenant.ID, user, o.Now())
	o.Must(err)
	return a
}

// opens activates an account by the link in its message.
func (o *fixture) opens(token string) {
	o.Helper()
	_, err := o.Accounts.Activate(o.Context(), o.Tenant, token, from(1))
	o.Must(err)
}

// onlyFile returns the only file of the pickup directory.
func (o *fixture) onlyFile() (name, content string) { o.Helper(); return o.newFile(nil) }

// newFile returns the only file of the pickup directory that is not among those before.
func (o *fixture) newFile(before map[string]string) (name, content string) {
	o.Helper()
	files := o.Messages()
	maps.DeleteFunc(files, func(name, _ string) bool { return before[name] != "" })
	if len(files) != 1 {
		o.Fatalf("there are %d new files, want one", len(files))
	}
	for name, content = range files {
	}
	return name, content
}

var link = regexp.MustCompile(`(?m)^https://phone\.test/activate\.ashx\?token=([A-Za-z0-9_-]{43})$`)

// tokenIn returns the token of the link in a message.
func tokenIn(t *testing.T, message string) string {
	t.Helper()
	m := link.FindStringSubmatch(strings.ReplaceAll(message, "\r\n", "\n"))
	if m == nil {
		t.Fatalf("no link in %q", message)
	}
	return m[1]
}

// count returns the number that a query returns.
func (o *fixture) count(query string) (n int) {
	o.Helper()
	db, err := sql.Open("sqlite", o.DatabaseFile())
	o.Must(err)
	err = db.QueryRow(query).Scan(&n)
	o.Must(errors.Join(err, db.Close()))
	return n
}

// exec runs SQL on a separate connection.
func (o *fixture) exec(query string) {
	o.Helper()
	db, err := sql.Open("sqlite", o.DatabaseFile())
	o.Must(err)
	_, err = db.Exec(query)
	o.Must(errors.Join(err, db.Close()))
}
