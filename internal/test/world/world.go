// Package world builds what most tests need: a store with tenants and accounts, a pickup directory, a
// clock and a log.
//
// A World consists of real parts, in a temporary directory. At the end of a test its log must not
// contain a password or a token.
package world

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/captcha"
	"dialtone/internal/digest"
	"dialtone/internal/mail/pickup"
	"dialtone/internal/outbox"
	"dialtone/internal/secret"
	"dialtone/internal/store"
	"dialtone/internal/tenant"
	"dialtone/internal/test/process"
	"dialtone/internal/test/teststore"
	"dialtone/internal/throttle"
)

// Noon is the time of a World's clock at the start.
var Noon = time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)

// Store is the store of a World.
type Store = store.Store

// OpenStore opens a SQLite store, which is closed when the test is over, if the test has not closed it.
func OpenStore(t testing.TB, path string, ring *secret.Ring) *Store {
	t.Helper()
	s, err := teststore.Open(t.Context(), path, ring)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { CloseStore(t, s) })
	return s
}

// OpenPostgres is OpenStore for a store on PostgreSQL.
func OpenPostgres(t testing.TB, url string, ring *secret.Ring) *Store {
	t.Helper()
	s, err := teststore.OpenPostgres(t.Context(), ring, "", url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { CloseStore(t, s) })
	return s
}

// CloseStore closes a store or an engine. The test fails if that fails.
func CloseStore(t testing.TB, s io.Closer) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// AddTenant adds a tenant to a store, and returns its id.
func AddTenant(t testing.TB, s interface {
	AddTenant(context.Context, tenant.Tenant) (tenant.Tenant, error)
}, host string) int64 {
	t.Helper()
	added, err := s.AddTenant(t.Context(), tenant.Tenant{Host: host, Realm: host, Created: Noon})
	if err != nil {
		t.Fatal(err)
	}
	return added.ID
}

// Options configures a World.
type Options struct {
	// Tenants are its tenants. Without any, the tenant is phone.test.
	Tenants []tenant.Tenant
	// PublicURL returns the URL of a tenant for which none is set. Without it, the URL is https://
	// and the host.
	PublicURL func(host string) string
	// RealTime makes its clock run. Otherwise the clock is stopped at Noon.
	RealTime bool
	// JSON makes its log JSON. Otherwise the log is text.
	JSON bool
	// Store, if not nil, is used instead of a new SQLite store.
	Store *Store
	// SealRing is the ring of Store.
	SealRing *secret.Ring
}

// World is a store and the parts of a server around it.
type World struct {
	testing.TB
	*Clock
	publicURL          func(host string) string
	Dir                string // of the files: dialtone.db, pickup
	Store              *Store
	Close              func() // closes the store, once
	SealRing, SignRing *secret.Ring
	Pickup             *Pickup
	Tenants            *tenant.Table
	Tenant             *tenant.Tenant // the tenant of the methods of World
	Log                *Log
	Logger             *slog.Logger // which writes to Log
	Audit              audit.Log    // which writes to Log, too
	// OutboxDeps and AccountDeps are the dependencies of Outbox and Accounts. A test may change
	// them and call Rebuild.
	OutboxDeps  outbox.Deps
	AccountDeps account.Deps
	Outbox      *outbox.Outbox
	Accounts    *account.Service
}

// New returns a new World.
func New(t testing.TB, o Options) *World {
	t.Helper()
	clock := &Clock{base: func() time.Time { return Noon }}
	if o.RealTime {
		clock.base = time.Now
	}
	w := &World{TB: t, Clock: clock, Dir: t.TempDir(), Log: &Log{secrets: make(map[string]bool)}}
	w.SealRing, w.SignRing = o.SealRing, secret.NewRing(w.Now())
	if w.SealRing == nil {
		w.SealRing = secret.NewRing(w.Now())
	}
	if w.Store = o.Store; w.Store == nil {
		w.Store = OpenStore(t, w.DatabaseFile(), w.SealRing)
	}
	t.Cleanup(func() { w.Log.check(t) })
	handler := &slog.HandlerOptions{Level: slog.LevelDebug}
	if w.Logger = slog.New(slog.NewTextHandler(w.Log, handler)); o.JSON {
		w.Logger = slog.New(slog.NewJSONHandler(w.Log, handler))
	}
	w.Audit = audit.Log{Logger: w.Logger}
	if w.publicURL = o.PublicURL; w.publicURL == nil {
		w.publicURL = func(host string) string { return "https://" + host }
	}
	w.open()
	if o.Tenants == nil {
		o.Tenants = []tenant.Tenant{{Host: "phone.test"}}
	}
	for _, t := range o.Tenants {
		w.AddTenant(t)
	}
	w.Tenant = w.At(o.Tenants[0].Host).Tenant
	return w
}

// open creates the parts that depend on the store.
func (w *World) open() {
	w.Helper()
	store := w.Store
	w.Close = sync.OnceFunc(func() {
		if err := store.Close(); err != nil {
			w.Errorf("close the store: %v", err)
		}
	})
	dir, err := pickup.Open(filepath.Join(w.Dir, "pickup"))
	w.Must(err)
	w.Pickup = &Pickup{Dir: dir}
	w.Tenants = tenant.NewTable(w.Store, w.publicURL)
	w.Must(w.Tenants.Refresh(w.Context()))
	w.OutboxDeps = outbox.Deps{
		Store: w.Store, Pickup: w.Pickup, Tenant: w.Tenants.ByID, SealRing: w.SealRing, Audit: w.Audit,
		Log: w.Logger, Now: w.Now,
	}
	w.AccountDeps = account.Deps{
		Store: w.Store, SealRing: w.SealRing, Audit: w.Audit, Log: w.Logger, Now: w.Now,
		Captcha:   func() *captcha.Issuer { return captcha.NewIssuer(w.SignRing, w.Now) },
		Passwords: throttle.NewPasswords(w.Now),
	}
	w.Rebuild()
}

// Rebuild replaces Outbox and Accounts with new ones that use the current OutboxDeps and
// AccountDeps.
func (w *World) Rebuild() {
	w.Outbox = outbox.New(w.OutboxDeps)
	w.AccountDeps.Outbox = w.Outbox
	w.Accounts = account.NewService(w.AccountDeps)
}

// Restart closes the store, opens the SQLite file of the World again, and rebuilds everything that
// depends on it, with the dependencies that New uses. A new process does the same.
func (w *World) Restart() {
	w.Helper()
	w.Close()
	w.Store = OpenStore(w.TB, w.DatabaseFile(), w.SealRing)
	w.open()
	w.Tenant = w.At(w.Tenant.Host).Tenant
}

// AddTenant adds a tenant. Its realm, if empty, is its host.
func (w *World) AddTenant(t tenant.Tenant) {
	w.Helper()
	if t.Realm == "" {
		t.Realm = t.Host
	}
	t.Created = w.Now()
	_, err := w.Store.AddTenant(w.Context(), t)
	w.Must(err)
	w.Must(w.Tenants.Refresh(w.Context()))
}

// At returns the World with another of its tenants.
func (w *World) At(host string) *World {
	w.Helper()
	t, ok := w.Tenants.Lookup(host)
	if !ok {
		w.Fatalf("there is no tenant %s", host)
	}
	other := *w
	other.Tenant = t
	return &other
}

// DatabaseFile returns the path of the SQLite database.
func (w *World) DatabaseFile() string { return filepath.Join(w.Dir, "dialtone.db") }

// Must fails the test if there is an error.
func (w *World) Must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// Is fails the test unless the error is want.
func (w *World) Is(err, want error) {
	w.Helper()
	if !errors.Is(err, want) {
		w.Fatalf("got %v, want %v", err, want)
	}
}

// Eventually waits until a condition holds.
func (w *World) Eventually(condition string, holds func() bool) {
	w.Helper()
	process.Eventually(w.TB, condition, func() error {
		if !holds() {
			return errors.New("it does not hold")
		}
		return nil
	})
}

// Files returns the names of the files in a directory of the World, sorted. A directory that does
// not exist has none.
func (w *World) Files(dir string) (names []string) {
	w.Helper()
	entries, err := os.ReadDir(filepath.Join(w.Dir, dir))
	if !errors.Is(err, fs.ErrNotExist) {
		w.Must(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// Messages returns the files of the pickup directory, hidden ones too: their contents by name.
func (w *World) Messages() map[string]string {
	w.Helper()
	messages := make(map[string]string)
	for _, name := range w.Files("pickup") {
		b, err := os.ReadFile(filepath.Join(w.Pickup.Path(), name))
		w.Must(err)
		messages[name] = string(b)
	}
	return messages
}

// Pending returns the entries of the outbox.
func (w *World) Pending() []outbox.Entry {
	w.Helper()
	list, err := w.Store.Pending(w.Context())
	w.Must(err)
	return list
}

// Person is a signup with the secrets that its owner knows.
type Person struct {
	account.Signup
	Password string
	Token    secret.Token // of the activation link
}

// Option changes a Person before the signup.
type Option func(*Person)

// WithPassword sets the password.
func WithPassword(password string) Option { return func(p *Person) { p.Password = password } }

// MD5Only leaves out the hashes that a signup need not have, HA1B and SHA-256.
func MD5Only(p *Person) { p.Account.HasSHA256 = false }

// Password returns the default password of a Person.
func Password(user, host string) string { return "the password of " + user + " at " + host }

// Signup returns a signup with all hashes. The store admits it, since everything in it is new.
// Signup does not add it to the store.
func (w *World) Signup(user string, options ...Option) Person {
	w.Helper()
	p := Person{
		Signup:   teststore.SignupAt(w.Tenant.ID, user, w.Now().UTC().Truncate(time.Microsecond)),
		Password: Password(user, w.Tenant.Host), Token: secret.NewToken(),
	}
	p.Signup.Token = w.Store.LinkHash(p.Token)
	p.Account.Name, p.Account.Lang, p.Account.HasSHA256 = user, "", true
	for _, o := range options {
		o(&p)
	}
	realm := w.Tenant.Realm
	c := digest.Credential{HA1: digest.Compute(user, realm, p.Password)}
	w.Log.Hide(p.Password, p.Token.Text(), c.HA1.Hex())
	if p.Account.HasSHA256 {
		b, sum := digest.ComputeB(user, realm, p.Password), digest.ComputeSHA256(user, realm, p.Password)
		c.HA1B, c.SHA256 = &b, &sum
		w.Log.Hide(b.Hex(), sum.Hex())
	}
	account.NewSealer(w.SealRing).Seal(&p.Account, c)
	return p
}

// Join signs a user up. The account waits for its activation, and no message is written.
func (w *World) Join(user string, options ...Option) Person {
	w.Helper()
	p := w.Signup(user, options...)
	w.Must(w.Store.Create(w.Context(), p.Signup, w.Now()))
	return p
}

// Activate activates a pending account.
func (w *World) Activate(p Person) {
	w.Helper()
	_, err := w.Store.Activate(w.Context(), p.Account.Tenant, w.Store.LinkHash(p.Token), w.Now())
	w.Must(err)
}

// Member signs a user up and activates the account.
func (w *World) Member(user string, options ...Option) Person {
	w.Helper()
	p := w.Join(user, options...)
	w.Activate(p)
	return p
}

// Disable disables accounts, as an operator does.
func (w *World) Disable(users ...string) {
	w.Helper()
	for _, user := range users {
		_, err := w.Store.Disable(w.Context(), w.Tenant.ID, user, w.Now())
		w.Must(err)
	}
}

// Enable enables disabled accounts, and activates pending ones, as an operator does.
func (w *World) Enable(users ...string) {
	w.Helper()
	for _, user := range users {
		_, err := w.Store.EnableNow(w.Context(), w.Tenant.ID, user, w.Now())
		w.Must(err)
	}
}

// Delete deletes an account.
func (w *World) Delete(user string) {
	w.Helper()
	w.Must(w.Store.Delete(w.Context(), w.Tenant.ID, user, w.Now()))
}
