package phonetest_test

import (
	"crypto/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/captcha"
	"dialtone/internal/digest"
	"dialtone/internal/secret"
	"dialtone/internal/store"
	"dialtone/internal/tenant"
	"dialtone/internal/test/phonetest"
	"dialtone/internal/test/postgrestest"
	"dialtone/internal/test/teststore"
	"dialtone/internal/throttle"
)

func TestMain(m *testing.M) { postgrestest.Main(m) }

// platform is a store with the directory of phone servers, and people in it.
type platform struct {
	testing.TB
	*store.Store
	ring    *secret.Ring
	vault   *secret.Vault
	tenants map[string]int64
	links   map[string][32]byte
	// url is the database's, with %s in place of user and password; or directory is the file of SQLite.
	url, directory string
	admin          string // the database's URL for its owner
	using          string // the one that Kamailio is given, where it is not a role's of the directory
}

func (p *platform) must(err error) {
	p.Helper()
	if err != nil {
		p.Fatal(err)
	}
}

// onPostgres has its store on a cluster.
func onPostgres(t testing.TB, c *postgrestest.Cluster) *platform {
	t.Helper()
	url := c.Database(t)
	ring := secret.NewRing(time.Now())
	s, err := teststore.OpenPostgres(t.Context(), ring, "", url)
	if err != nil {
		t.Fatal(err)
	}
	scheme, rest, _ := strings.Cut(url, "://")
	_, rest, _ = strings.Cut(rest, "@")
	p := furnish(t, s, ring)
	p.admin = url
	p.url, _, _ = strings.Cut(scheme+"://%s@"+rest, "?")
	return p
}

// onSQLite has its store in a file, and the directory's folder belongs to the group of the phone servers.
func onSQLite(t testing.TB) *platform {
	t.Helper()
	dir := phonetest.Folder(t)
	ring := secret.NewRing(time.Now())
	folder := filepath.Join(dir, "directory")
	if err := os.Mkdir(folder, 0o750); err != nil {
		t.Fatal(err)
	}
	phonetest.Group(t, folder)
	if err := os.Chmod(folder, 0o750|os.ModeSetgid); err != nil {
		t.Fatal(err)
	}
	s, err := teststore.Open(t.Context(), filepath.Join(dir, "dialtone.db"), ring)
	if err != nil {
		t.Fatal(err)
	}
	p := furnish(t, s, ring)
	p.directory = filepath.Join(folder, "directory.db")
	return p
}

// furnish adds two tenants with people in every state, and enables the export.
func furnish(t testing.TB, s *store.Store, ring *secret.Ring) *platform {
	t.Helper()
	p := &platform{TB: t, Store: s, ring: ring, vault: secret.NewVault(ring, "credential"), tenants: make(map[string]int64), links: make(map[string][32]byte)}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	p.tenant("phone.test", "phone.test")
	p.tenant("other.test", "other.test")
	p.member("alex", "phone.test", "alex's password")
	p.member("alex", "other.test", "the other alex's password")
	p.member("berta", "phone.test", "berta's password")
	p.member("o_hara", "phone.test", "it's \"p&ss\" Größe")
	p.member("held", "phone.test", "held's password")
	_, err := s.Disable(t.Context(), p.tenants["phone.test"], "held", time.Now())
	p.must(err)
	p.join("waiting", "phone.test", "waiting's password")
	p.must(s.EnableExport(t.Context(), func(int64, int64) {}))
	return p
}

// reopen opens the store of SQLite again, which was closed.
func (p *platform) reopen() {
	p.Helper()
	s, err := teststore.Open(p.Context(), p.file(), p.ring)
	p.must(err)
	p.Store = s
}

// file is the store of SQLite.
func (p *platform) file() string {
	return filepath.Join(filepath.Dir(filepath.Dir(p.directory)), "dialtone.db")
}

func (p *platform) tenant(host, realm string) {
	p.Helper()
	added, err := p.AddTenant(p.Context(), tenant.Tenant{Host: host, Realm: realm, Created: time.Now()})
	p.must(err)
	p.tenants[host] = added.ID
}

// join signs somebody up, with the hashes that the page sends.
func (p *platform) join(user, host, password string) {
	p.Helper()
	now := time.Now()
	second, third := digest.ComputeB(user, host, password), digest.ComputeSHA256(user, host, password)
	c := digest.Credential{HA1: digest.Compute(user, host, password), HA1B: &second, SHA256: &third}
	a := account.Signup{
		Account: account.Account{
			UID: account.NewUID(now), Tenant: p.tenants[host], User: user, Name: user, Email: user + "@mail.test", Role: account.Guest,
			Disabled: true, Created: now, Expires: now.Add(account.PendingLife), HasSHA256: true,
		},
		SealedToken: []byte("sealed"),
		Captcha:     captcha.Proof{Ours: true, Right: true, Expires: now.Add(captcha.Life)},
		Recipient:   throttle.Allowance{Rule: throttle.MessagesPerRecipient},
	}
	a.Account.Sealed = p.vault.Seal(a.Account.Tenant, a.Account.UID[:], c.Marshal())
	for _, b := range [][]byte{a.Token[:], a.Message[:], a.Captcha.Nonce[:], a.Recipient.Bucket[:]} {
		rand.Read(b)
	}
	p.must(p.Create(p.Context(), a, now))
	p.links[user+"@"+host] = a.Token
}

func (p *platform) activate(user, host string) {
	p.Helper()
	_, err := p.Activate(p.Context(), p.tenants[host], p.links[user+"@"+host], time.Now())
	p.must(err)
}

func (p *platform) member(user, host, password string) {
	p.Helper()
	p.join(user, host, password)
	p.activate(user, host)
}

func (p *platform) disable(user, host string) {
	p.Helper()
	_, err := p.Disable(p.Context(), p.tenants[host], user, time.Now())
	p.must(err)
}

// office is a tenant whose realm is not its host.
var office = tenant.Tenant{Host: "office.test", Realm: "The Office", Created: time.Now()}
