package store_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/digest"
	"dialtone/internal/fault"
	"dialtone/internal/i18n"
	"dialtone/internal/secret"
	"dialtone/internal/secret/keyfile"
	"dialtone/internal/session"
	"dialtone/internal/store"
	"dialtone/internal/store/engine"
	"dialtone/internal/store/migrations"
	"dialtone/internal/store/sqlite"
	"dialtone/internal/tenant"
	"dialtone/internal/test/teststore"
	"dialtone/internal/test/world"
)

// oldDatabase creates a database as version 0 wrote it, and returns its path and its keys.
func oldDatabase(t *testing.T) (path string, ring *secret.Ring) {
	t.Helper()
	dir := t.TempDir()
	key, err := os.ReadFile("testdata/version-0.seal.key")
	if err != nil {
		t.Fatal(err)
	}
	keyFile := filepath.Join(dir, "seal.key")
	if err := os.WriteFile(keyFile, key, 0o600); err != nil {
		t.Fatal(err)
	}
	if ring, err = keyfile.Read(keyFile); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("testdata/version-0.sql")
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(dir, "dialtone.db")
	execSQLite(t, path, string(text))
	return path, ring
}

func TestUpgradeFromVersion0(t *testing.T) {
	path, ring := oldDatabase(t)
	s := world.OpenStore(t, path, ring)
	ctx := t.Context()
	at := noon.Add(24 * time.Hour)

	if err := s.CheckSchema(ctx, func(difference string) { t.Error(difference) }); err != nil {
		t.Error(err)
	}
	tenants, version, err := s.Tenants(ctx)
	if err != nil || version != 2 {
		t.Fatalf("Tenants: version %d, %v", version, err)
	}
	want := []tenant.Tenant{
		{
			ID:        2,
			Host:      "office.test",
			Realm:     "Office",
			PublicURL: "https://office.test:8443",
			Created:   noon.Add(time.Minute),
			Settings: tenant.Settings{
				Product:        "Bürotelefon",
				MailFrom:       "phones@office.test",
				SIPServer:      "sip.office.test",
				SIPTransport:   "TCP",
				Origins:        []string{"https://www.office.test"},
				Reserved:       []string{"initech"},
				Algorithm:      digest.SHA256,
				SignupsPerHour: 100,
			},
		},
		{ID: 1, Host: "phone.test", Realm: "phone.test", Created: noon},
	}
	if got, want := fmt.Sprintf("%#v", tenants), fmt.Sprintf("%#v", want); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}

	type row struct {
		host, user, name string
		role             account.Role
		disabled, held   bool
		activated        time.Time
		epoch            int64
		allHashes        bool
	}
	rows := []row{
		{"office.test", "ann", "Other Ann", account.Guest, true, false, time.Time{}, 0, true},
		{"phone.test", "ann", "Ann O'Hara", account.Admin, false, false, noon.Add(time.Hour), 0, true},
		{"phone.test", "bob", "Боб", account.Guest, true, true, noon.Add(time.Hour), 1, false},
		{"phone.test", "dan", "Dan", account.Guest, true, false, time.Time{}, 0, true},
	}
	passwords := []string{"other ann's password", "ann's password", "bob's password", "dan's password"}
	vault := secret.NewVault(ring, "credential")
	var got []row
	for _, tn := range tenants {
		if err := s.List(ctx, tn.ID, at, func(a account.Account) error {
			if a.Email != a.User+"@mail.test" || !a.Created.Equal(noon) ||
				!a.Expires.Equal(noon.Add(account.PendingLife)) ||
				a.Lang != i18n.English {
				t.Errorf("%s: %+v", a.User, a)
			}
			b, err := vault.Open(a.Tenant, a.UID[:], a.Sealed)
			if err != nil {
				return err
			}
			c, err := digest.UnmarshalCredential(b)
			if err != nil {
				return err
			}
			password := passwords[len(got)]
			if c.HA1 != digest.Compute(a.User, tn.Realm, password) {
				t.Errorf("%s at %s has a wrong HA1", a.User, tn.Host)
			}
			allHashes := c.HA1B != nil && c.SHA256 != nil
			if allHashes && (*c.HA1B != digest.ComputeB(a.User, tn.Realm, password) ||
				*c.SHA256 != digest.ComputeSHA256(a.User, tn.Realm, password)) {
				t.Errorf("%s at %s has wrong hashes", a.User, tn.Host)
			}
			if a.HasSHA256 != (c.SHA256 != nil) {
				t.Errorf("%s at %s: HasSHA256 is %v", a.User, tn.Host, a.HasSHA256)
			}
			since, by, reason := a.Since()
			want := map[account.State]time.Time{account.Waiting: noon, account.Active: noon.Add(time.Hour)}
			if !since.Equal(want[a.State()]) || by != "" || reason != "" {
				t.Errorf("%s at %s is %s since %v by %q: %q", a.User, tn.Host, a.State(), since, by, reason)
			}
			got = append(got, row{tn.Host, a.User, a.Name, a.Role, a.Disabled, a.Held, a.Activated, a.Epoch, allHashes})
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Equal(got, rows) {
		t.Errorf("got  %+v\nwant %+v", got, rows)
	}

	tokens := secret.NewVault(ring, "activation token")
	pending, err := s.Pending(ctx)
	if err != nil || len(pending) != 2 {
		t.Fatalf("%d messages are in the outbox, want 2; %v", len(pending), err)
	}
	for _, e := range pending {
		text, err := tokens.Open(e.Tenant, e.Message[:], e.SealedToken)
		if err != nil || len(text) != len(secret.Token{}) {
			t.Fatalf("the token of %s: %v", e.User, err)
		}
		a, err := s.Activate(ctx, e.Tenant, s.LinkHash(secret.Token(text)), at)
		if err != nil || a.UID != e.Account || a.Disabled {
			t.Errorf("the link of %s: %v", e.User, err)
		}
	}
	revoked, _, err := s.Revoked(ctx, account.UID{}, [16]byte{1, 2, 3}, session.RevokedUntil(noon)...)
	if err != nil || !revoked {
		t.Errorf("Revoked: got %v, %v, want true", revoked, err)
	}
	if err := s.Create(ctx, newSignup(1, "cid"), at); !fault.Is(err, fault.Conflict) {
		t.Errorf("the name of a deleted account: %v", err)
	}
	if id := addTenant(t, s, "new.test"); id != 3 {
		t.Errorf("the next tenant has id %d, want 3", id)
	}
}

func TestUpgradeNeedsSealKey(t *testing.T) {
	path, _ := oldDatabase(t)
	if s, err := teststore.Open(t.Context(), path, secret.NewRing(noon)); err == nil {
		s.Close()
		t.Error("Open succeeds with another key")
	}
}

// A database that a later version of the program has changed can be used as long as the later
// version allows it. The same on PostgreSQL is TestOldAndNewProgramSideBySide, in store/postgres.
func TestSchemaOfLaterVersion(t *testing.T) {
	path, ring := filepath.Join(t.TempDir(), "dialtone.db"), secret.NewRing(noon)
	first, second, err := teststore.LaterMigrations(sqlite.Dialect)
	if err != nil {
		t.Fatal(err)
	}
	upgrade := func(to []migrations.Migration) {
		t.Helper()
		e, err := sqlite.Open(t.Context(), path, store.SealCheck(ring))
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close()
		if err := e.Write(func(tx engine.Tx) error { return migrations.Apply(tx, to, noon) }); err != nil {
			t.Fatal(err)
		}
	}
	upgrade(first)
	world.CloseStore(t, world.OpenStore(t, path, ring))
	upgrade(second)
	if s, err := teststore.Open(t.Context(), path, ring); !errors.Is(err, migrations.ErrNewer) {
		t.Errorf("after the second version: got %v, want ErrNewer", err)
		if err == nil {
			s.Close()
		}
	}
}

// A database that must not be changed stays unchanged: one of an older program, one that is not a
// store, and a missing one.
func TestOpenToNothing(t *testing.T) {
	old, _ := oldDatabase(t)
	other := filepath.Join(t.TempDir(), "other.db")
	execSQLite(t, other, `CREATE TABLE theirs (n)`)
	for _, c := range []struct {
		path   string
		change migrations.Change
		want   error
	}{
		{old, migrations.Nothing, migrations.ErrOlder},
		{other, migrations.Nothing, migrations.ErrNoTables},
		{other, migrations.Upgrade, migrations.ErrNoTables},
		{filepath.Join(t.TempDir(), "missing.db"), migrations.Nothing, migrations.ErrNoTables},
		{filepath.Join(t.TempDir(), "missing.db"), migrations.Upgrade, migrations.ErrNoTables},
	} {
		before := schemaOf(t, c.path)
		if _, err := sqlite.OpenTo(t.Context(), c.change, c.path, nil); !errors.Is(err, c.want) {
			t.Errorf("%s opened to %d: %v", filepath.Base(c.path), c.change, err)
		}
		if after := schemaOf(t, c.path); after != before {
			t.Errorf("%s opened to %d: the schema is now %s", filepath.Base(c.path), c.change, after)
		}
	}
	e, err := sqlite.OpenTo(t.Context(), migrations.Upgrade, old, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if e, err = sqlite.OpenTo(t.Context(), migrations.Nothing, old, nil); err != nil {
		t.Fatalf("after the update: %v", err)
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
}

// schemaOf returns the names in the schema of a database, or that there is no file.
func schemaOf(t *testing.T, path string) (names string) {
	t.Helper()
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return "no file"
	}
	err := sqlite.Read(path, func(q engine.Querier) error {
		return q.Row(`SELECT CAST(group_concat(name) AS TEXT) FROM sqlite_schema`).Scan(&names)
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}
