package phonetables_test

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"dialtone/internal/account"
	"dialtone/internal/digest"
	"dialtone/internal/fault"
	"dialtone/internal/secret"
	"dialtone/internal/store/engine"
	"dialtone/internal/store/migrations"
	"dialtone/internal/store/phonetables"
	"dialtone/internal/test/postgrestest"
)

// openExportingOnPostgres opens a store on PostgreSQL with a tenant and the export enabled.
func openExportingOnPostgres(t *testing.T, url string) *testStore {
	t.Helper()
	s := openStore(t, secret.NewRing(noon), "", url)
	addTenant(t, s, "phone.test")
	if err := s.EnableExport(t.Context(), noProgress); err != nil {
		t.Fatal(err)
	}
	return s
}

// urlOf returns the URL with which a role connects to a database.
func urlOf(t *testing.T, database, role, password string) string {
	t.Helper()
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(role, password)
	return u.String()
}

// connect opens a connection, and closes it at the end of the test.
func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(t.Context()) })
	return conn
}

// roleCount counts the roles of this process, for their names. Roles belong to the whole cluster.
var roleCount = 0

func newRoleName() string {
	roleCount++
	return fmt.Sprintf("role_%d", roleCount)
}

// PostgreSQL plans the queries of phone servers with an index, on tables with 200,000 accounts and
// with the privileges of their roles.
func TestPhoneServerQueriesUseIndex(t *testing.T) {
	database := postgrestest.Shared(t).Database(t)
	s := openExportingOnPostgres(t, database)
	conn := connect(t, database)
	if _, err := conn.Exec(t.Context(), `
		INSERT INTO dialtone_directory.entry (uid, realm, username, address, role, ha1, ha1b, ha1_sha256)
		SELECT decode(md5(i::text), 'hex'), 'phone.test', 'u' || i, 'u' || i || '@phone.test', 'guest',
			md5('a' || i), md5('b' || i), ''
		FROM generate_series(1, 200000) i`); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(t.Context(), `ANALYZE dialtone_directory.entry`); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ server, query string }{
		{"kamailio", `SELECT ha1, role FROM subscriber WHERE username='u777' AND domain='phone.test'`},
		{"coturn", `SELECT hmackey FROM turnusers_lt WHERE name='u777' AND realm='phone.test'`},
		{"asterisk", `SELECT * FROM ps_auths WHERE id = 'u777@phone.test'`},
		{"asterisk", `SELECT * FROM ps_aors WHERE id = 'u777@phone.test'`},
		{"asterisk", `SELECT * FROM ps_endpoints WHERE id = 'u777@phone.test'`},
		{"digest", `SELECT ha1 FROM credential WHERE username = 'u777' AND realm = 'phone.test'`},
		{"digest", `SELECT ha1 FROM credential WHERE address = 'u777@phone.test'`},
	} {
		role := newRoleName()
		if undone, err := s.GrantExport(t.Context(), "dialtone_"+c.server, role, "x"); err != nil || len(undone) > 0 {
			t.Fatalf("%q, %v", undone, err)
		}
		server := connect(t, urlOf(t, database, role, "x"))
		rows, err := server.Query(t.Context(), "EXPLAIN (COSTS OFF) "+c.query)
		if err != nil {
			t.Fatalf("%s: %v", c.query, err)
		}
		plan, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatal(err)
		}
		text := strings.Join(plan, "\n")
		if !strings.Contains(text, "Scan using entry_") || strings.Contains(text, "Seq Scan") ||
			strings.Contains(text, "Filter") {
			t.Errorf("%s:\n%s", c.query, text)
		}
		if tag, err := server.Exec(t.Context(), c.query); err != nil || tag.RowsAffected() != 1 {
			t.Errorf("%s: %s, %v", c.query, tag, err)
		}
	}
}

func TestRoleReadsOnlyItsViews(t *testing.T) {
	database := postgrestest.Shared(t).Database(t)
	s := openExportingOnPostgres(t, database)
	role := newRoleName()
	for _, password := range []string{"first", "second's"} {
		undone, err := s.GrantExport(t.Context(), "dialtone_kamailio", role, password)
		if err != nil || len(undone) > 0 {
			t.Fatalf("%q, %v", undone, err)
		}
	}
	if conn, err := pgx.Connect(t.Context(), urlOf(t, database, role, "first")); err == nil {
		conn.Close(t.Context())
		t.Error("the old password still works")
	}
	conn := connect(t, urlOf(t, database, role, "second's"))
	for query, allowed := range map[string]bool{
		`SELECT count(*) FROM subscriber`:               true,
		`SELECT count(*) FROM domain`:                   true,
		`SELECT count(*) FROM dialtone_directory.entry`: false,
		`SELECT count(*) FROM public.account`:           false,
		`SELECT count(*) FROM public.seal_key`:          false,
		`SELECT * FROM dialtone_coturn.turnusers_lt`:    false,
		`DELETE FROM subscriber`:                        false,
		`UPDATE subscriber SET ha1 = ''`:                false,
		`CREATE TABLE mine (x int)`:                     false,
	} {
		if _, err := conn.Exec(t.Context(), query); (err == nil) != allowed {
			t.Errorf("%s: %v", query, err)
		}
	}
}

// newLogin creates a role that may only use the public schema of a database, and returns its URL.
func newLogin(t *testing.T, c *postgrestest.Cluster, database string) string {
	t.Helper()
	name := newRoleName()
	c.Exec(t, database, `CREATE ROLE `+name+` LOGIN PASSWORD 'x'; GRANT CREATE, USAGE ON SCHEMA public TO `+name)
	return urlOf(t, database, name, "x")
}

func TestMissingPrivileges(t *testing.T) {
	c := postgrestest.Shared(t)
	database := c.Database(t)
	s := openStore(t, secret.NewRing(noon), "", newLogin(t, c, database))
	addTenant(t, s, "phone.test")
	err := s.EnableExport(t.Context(), noProgress)
	if !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "GRANT CREATE ON DATABASE") {
		t.Fatalf("EnableExport: %v", err)
	}
	if st, err := s.ExportStatus(t.Context()); err != nil || st.Enabled {
		t.Errorf("%+v, %v", st, err)
	}
	_, grant, _ := strings.Cut(err.Error(), "have an administrator run: ")
	c.Exec(t, database, grant)
	if err := s.EnableExport(t.Context(), noProgress); err != nil {
		t.Fatal(err)
	}
	role := newRoleName()
	undone, err := s.GrantExport(t.Context(), "dialtone_kamailio", role, "hunter2")
	if err != nil || len(undone) == 0 {
		t.Fatalf("%q, %v", undone, err)
	}
	if strings.Contains(strings.Join(undone, ""), "hunter2") {
		t.Error("the statements contain the password")
	}
	for _, statement := range undone {
		c.Exec(t, database, statement)
	}
	conn := connect(t, urlOf(t, database, role, "hunter2"))
	if _, err := conn.Exec(t.Context(), `SELECT * FROM subscriber`); err != nil {
		t.Error(err)
	}
}

// A version of the program that does not update the export's tables cannot use the database while
// the export is enabled.
func TestExportFencesOlderPrograms(t *testing.T) {
	database := postgrestest.Shared(t).Database(t)
	s := openExportingOnPostgres(t, database)
	older := openStore(t, nil, "", database)
	const exportVersion = 3 // the first version that keeps the tables
	allowed := func() error { return migrations.Allowed(older.engine.Reads(t.Context()), exportVersion-1) }
	if err := allowed(); !errors.Is(err, migrations.ErrNewer) {
		t.Errorf("while the export is enabled: %v", err)
	}
	if err := s.Ready(t.Context()); err != nil {
		t.Error(err)
	}
	if err := s.DisableExport(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := allowed(); err != nil {
		t.Errorf("after the export was disabled: %v", err)
	}
}

// Filling the tables waits for open transactions that change accounts. It does not see their changes
// yet, and would write the old state.
func TestFillWaitsForOpenTransactions(t *testing.T) {
	database := postgrestest.Shared(t).Database(t)
	ring := secret.NewRing(noon)
	s := openStore(t, ring, "", database)
	id := addTenant(t, s, "phone.test")
	a := newSignup(id, "ann")
	a.Account.Sealed = secret.NewVault(ring, "credential").Seal(id, a.Account.UID[:],
		digest.Credential{HA1: digest.Compute("ann", "phone.test", "ann")}.Marshal())
	if err := s.Create(t.Context(), a, noon); err != nil {
		t.Fatal(err)
	}
	if _, err := s.EnableNow(t.Context(), id, "ann", noon); err != nil {
		t.Fatal(err)
	}
	if err := s.tables.EnableOnly(); err != nil {
		t.Fatal(err)
	}
	changing, commit := make(chan struct{}), make(chan struct{})
	changed, filled := make(chan error, 1), make(chan error, 1)
	go func() {
		changed <- disableSlowly(s, a.Account.UID, changing, commit)
	}()
	<-changing
	go func() { filled <- s.tables.Fill(t.Context(), noProgress) }()
	conn := connect(t, database)
	for waits, done := false, false; !waits && !done; {
		if err := conn.QueryRow(t.Context(), `
			SELECT EXISTS (SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
			AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))`,
		).Scan(&waits); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-filled:
			done = true
			filled <- err
		default:
		}
	}
	close(commit)
	if err := errors.Join(<-changed, <-filled); err != nil {
		t.Fatal(err)
	}
	if err := s.CompareExport(t.Context(), func(text string) { t.Error(text) }); err != nil {
		t.Fatal(err)
	}
}

// disableSlowly disables an account, and waits before the commit.
func disableSlowly(s *testStore, uid account.UID, changing, commit chan struct{}) error {
	return s.engine.Write(func(tx engine.Tx) error {
		if _, err := tx.Exec(`UPDATE account SET held = TRUE WHERE uid = $1`, uid[:]); err != nil {
			return err
		}
		err := s.tables.Publish(tx, phonetables.Account(uid))
		close(changing)
		<-commit
		return err
	})
}

// CompareExport finds changes that another program has made in the tables, and EnableExport
// corrects them.
func TestCompareExport(t *testing.T) {
	for name, open := range map[string]func(*testing.T, *secret.Ring) *testStore{
		"SQLite": openFile,
		"PostgreSQL": func(t *testing.T, ring *secret.Ring) *testStore {
			return openStore(t, ring, "", postgrestest.Shared(t).Database(t))
		},
	} {
		t.Run(name, func(t *testing.T) {
			ring := secret.NewRing(noon)
			s := open(t, ring)
			id := addTenant(t, s, "phone.test")
			vault := secret.NewVault(ring, "credential")
			for _, user := range []string{"ann", "bob", "cid"} {
				a := newSignup(id, user)
				a.Account.Sealed = vault.Seal(id, a.Account.UID[:],
					digest.Credential{HA1: digest.Compute(user, "phone.test", user)}.Marshal())
				if err := s.Create(t.Context(), a, noon); err != nil {
					t.Fatal(err)
				}
				if _, err := s.EnableNow(t.Context(), id, user, noon); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.EnableExport(t.Context(), noProgress); err != nil {
				t.Fatal(err)
			}
			blob := map[string]string{"SQLite": "BLOB", "PostgreSQL": "BYTEA"}[name]
			const bobDiffers = "the entry of bob@phone.test does not match the account"
			for _, c := range []struct{ change, want string }{
				{`DELETE FROM dialtone_directory.entry WHERE username = 'ann'`,
					"the entry of ann@phone.test is missing"},
				{`UPDATE dialtone_directory.entry SET ha1 = '00000000000000000000000000000000'
					WHERE username = 'bob'`, bobDiffers},
				{`UPDATE dialtone_directory.entry SET ha1 = 'x' WHERE username = 'bob'`, bobDiffers},
				{`UPDATE dialtone_directory.entry SET role = 'admin' WHERE username = 'bob'`, bobDiffers},
				{`UPDATE dialtone_directory.entry SET address = 'eve@phone.test' WHERE username = 'bob'`,
					bobDiffers},
				{`INSERT INTO dialtone_directory.entry (uid, realm, username, address, role, ha1, ha1b, ha1_sha256)
					SELECT CAST('0123456789abcdef' AS ` + blob + `), realm, 'eve', 'eve@phone.test', role,
						ha1, ha1b, ha1_sha256
					FROM dialtone_directory.entry WHERE username = 'ann'`,
					"the entry of eve@phone.test belongs to no active account"},
				{`UPDATE account SET held = TRUE WHERE username = 'cid'`,
					"the entry of cid@phone.test belongs to no active account"},
				{`DELETE FROM dialtone_directory.realm`,
					"the domain phone.test is missing or has another realm"},
				{`INSERT INTO dialtone_directory.realm (domain, realm, tenant) VALUES ('eve.test', 'eve', 99)`,
					"the domain eve.test belongs to no tenant"},
				{`UPDATE dialtone_directory.state SET whole = FALSE`,
					"it is not complete: accounts may be missing; " +
						"add them with: dialtone directory export rebuild"},
			} {
				do := s.tables.WithTables
				if strings.HasPrefix(c.change, "UPDATE account") {
					do = s.engine.Write
				}
				if err := do(func(tx engine.Tx) error { _, err := tx.Exec(c.change); return err }); err != nil {
					t.Fatalf("%s: %v", c.change, err)
				}
				var found []string
				if err := s.CompareExport(t.Context(),
					func(text string) { found = append(found, text) }); err != nil {
					t.Fatal(err)
				}
				if !slices.Equal(found, []string{c.want}) {
					t.Errorf("%s: found %q", c.change, found)
				}
				if err := s.EnableExport(t.Context(), noProgress); err != nil {
					t.Fatal(err)
				}
				if err := s.CompareExport(t.Context(),
					func(text string) { t.Errorf("%s: after EnableExport: %s", c.change, text) }); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}
