package sipserver_test

import (
	"bytes"
	"crypto/rand"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/captcha"
	"dialtone/internal/digest"
	"dialtone/internal/secret"
	"dialtone/internal/sipserver"
	"dialtone/internal/sqlstore"
	"dialtone/internal/tenant"
	"dialtone/internal/throttle"
)

var noon = time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)

// fixture is a registry on a store with the tenants a.test, b.test and c.test, whose realm is
// "C Phones".
type fixture struct {
	testing.TB
	now        time.Time
	store      *sqlstore.Store
	path       string // of the store
	closeStore func()
	ring       *secret.Ring
	tenants    *tenant.Table
	accounts   *account.Service
	registry   *sipserver.Registry
	audit      bytes.Buffer
}

func newFixture(t testing.TB) *fixture {
	t.Helper()
	f := &fixture{
		TB: t, now: noon, ring: secret.NewRing(noon), path: filepath.Join(t.TempDir(), "dialtone.db"),
	}
	var err error
	f.store, err = sqlstore.Open(t.Context(), f.path, f.ring)
	f.must(err)
	f.closeStore = sync.OnceFunc(func() { f.store.Close() })
	t.Cleanup(f.closeStore)
	for host, realm := range map[string]string{"a.test": "a.test", "b.test": "b.test", "c.test": "C Phones"} {
		_, err := f.store.AddTenant(t.Context(), tenant.Tenant{Host: host, Realm: realm, Created: noon})
		f.must(err)
	}
	now := func() time.Time { return f.now }
	f.tenants = tenant.NewTable(f.store, func(host string) string { return "https://" + host })
	f.must(f.tenants.Refresh(t.Context()))
	events := audit.Log{Logger: slog.New(slog.NewTextHandler(&f.audit, nil))}
	f.accounts = account.NewService(account.Deps{
		Store:    f.store,
		SealRing: f.ring, Audit: events, Now: now,
	})
	f.registry = sipserver.NewRegistry(sipserver.Deps{
		Store: f.store, Tenants: f.tenants, Accounts: f.accounts, SealRing: f.ring, Audit: events, Now: now,
	})
	return f
}

func (f *fixture) must(err error) {
	f.Helper()
	if err != nil {
		f.Fatal(err)
	}
}

func random16() (b [16]byte) {
	rand.Read(b[:])
	return b
}

func (f *fixture) tenant(host string) *tenant.Tenant {
	f.Helper()
	t, ok := f.tenants.Lookup(host)
	if !ok {
		f.Fatalf("there is no tenant %s", host)
	}
	return t
}

func passwordOf(user, host string) string { return "the password of " + user + " at " + host }

// addPending adds an account that is not activated. edit, if not nil, changes its credential.
func (f *fixture) addPending(host, user string, edit func(*digest.Credential)) account.Signup {
	f.Helper()
	t := f.tenant(host)
	password := passwordOf(user, host)
	b, sha := digest.ComputeB(user, t.Realm, password), digest.ComputeSHA256(user, t.Realm, password)
	c := digest.Credential{HA1: digest.Compute(user, t.Realm, password), HA1B: &b, SHA256: &sha}
	if edit != nil {
		edit(&c)
	}
	s := account.Signup{
		Account: account.Account{
			UID: account.NewUID(f.now), Tenant: t.ID, User: user, Name: user, Email: user + "@mail.test",
			Role: account.Guest, Disabled: true, Created: f.now, Expires: f.now.Add(account.PendingLife),
			HasSHA256: c.SHA256 != nil,
		},
		Token: secret.NewToken().Hash(), SealedToken: []byte("sealed"),
		Message: random16(),
		Captcha: captcha.Proof{
			Ours: true, Right: true, Nonce: random16(), Expires: f.now.Add(captcha.Life),
		},
		Recipient: throttle.Allowance{
			Bucket: throttle.Bucket(random16()), Rule: throttle.MessagesPerRecipient,
		},
		Address: []throttle.Allowance{{
			Bucket: throttle.Bucket(random16()), Rule: throttle.SignupsPerAddress,
		}},
	}
	s.Account.Sealed = secret.NewVault(f.ring, "credential").Seal(t.ID, s.Account.UID[:], c.Marshal())
	f.must(f.store.Create(f.Context(), s, f.now))
	return s
}

// addActive adds an account and activates it.
func (f *fixture) addActive(host, user string, edit func(*digest.Credential)) {
	f.Helper()
	s := f.addPending(host, user, edit)
	_, err := f.store.Activate(f.Context(), s.Account.Tenant, s.Token, f.now)
	f.must(err)
}

// addServer adds a phone server and returns its token.
func (f *fixture) addServer(name string, hosts ...string) (token string) {
	f.Helper()
	t := secret.NewToken()
	s := sipserver.Server{Name: name, Token: t.Hash(), Created: noon}
	for _, host := range hosts {
		s.Tenants = append(s.Tenants, f.tenant(host).ID)
	}
	f.must(f.store.AddServer(f.Context(), s))
	f.must(f.registry.Refresh(f.Context()))
	return t.Text()
}

// caller authenticates a server.
func (f *fixture) caller(token string) *sipserver.Caller {
	f.Helper()
	c, err := f.registry.Authenticate(f.Context(), token, account.Origin{})
	f.must(err)
	return c
}
