package phonetables_test

import (
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dialtone/internal/secret"
	"dialtone/internal/store/phonetables"
	"dialtone/internal/store/sqlite"
	"dialtone/internal/test/postgrestest"
	"dialtone/internal/test/world"
)

// attack is a change by the owner of the database, the statement that undoes it, and what is
// reported about it, or "".
type attack struct{ add, undo, want string }

// wantFound checks what is reported about each attack, and that nothing is reported after it was
// undone.
func wantFound(t *testing.T, s *testStore, exec func(string), attacks []attack) {
	t.Helper()
	faults := func(find func(func(string)) error) (list []string) {
		t.Helper()
		if err := find(func(text string) { list = append(list, text) }); err != nil {
			t.Fatal(err)
		}
		return list
	}
	both := func() (schema, all []string) {
		t.Helper()
		schema = faults(func(report func(string)) error { return s.CheckExportSchema(t.Context(), report) })
		return schema, faults(func(report func(string)) error { return s.CompareExport(t.Context(), report) })
	}
	if got, all := both(); len(got)+len(all) > 0 {
		t.Fatalf("new tables: %q, %q", got, all)
	}
	for _, c := range attacks {
		exec(c.add)
		got, all := both()
		for _, found := range [][]string{got, all} {
			if text := strings.Join(found, "\n"); !strings.Contains(text, c.want) || (c.want == "") != (text == "") {
				t.Errorf("%s: %q, want %q", c.add, found, c.want)
			}
		}
		exec(c.undo)
		if got, all := both(); len(got)+len(all) > 0 {
			t.Fatalf("after %s: %q, %q", c.undo, got, all)
		}
	}
}

// Changes of the schemas of the export are reported.
func TestChangedSchemas(t *testing.T) {
	c := postgrestest.Shared(t)
	database := c.Database(t)
	ring := secret.NewRing(noon)
	s := openStore(t, ring, "", database)
	addActive(t, s.Store, ring, addTenant(t, s, "phone.test"), "ann", "bob")
	exec := func(text string) {
		t.Helper()
		if text != "" {
			c.Exec(t, database, text)
		}
	}
	// Without an export, schemas of similar names are no fault.
	wantFound(t, s, exec, []attack{{`CREATE SCHEMA dialtone_mine; CREATE TABLE dialtone_mine.entry (a int)`, ``, ``}})
	if err := s.EnableExport(t.Context(), noProgress); err != nil {
		t.Fatal(err)
	}
	const subscriber = `CREATE OR REPLACE VIEW dialtone_kamailio.subscriber AS
		SELECT username::varchar AS username, realm::varchar AS domain, %1ha1%2::varchar AS ha1, ha1b::varchar AS ha1b,
			ha1_sha256::varchar AS ha1_sha256, role::varchar AS role FROM dialtone_directory.entry`
	view := func(before, after string) string {
		return strings.NewReplacer("%1", before, "%2", after).Replace(subscriber)
	}
	own := view("(CASE WHEN username = 'ann' THEN md5('ann:' || realm || ':mine') ELSE ", " END)")
	const functions = `CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
		CREATE FUNCTION equal(varchar, varchar) RETURNS boolean LANGUAGE sql AS 'SELECT true';
		CREATE SCHEMA mine; CREATE COLLATION mine."C" (provider = libc, locale = 'C')`
	exec(functions)
	attacks := []attack{
		{`CREATE VIEW mine.report AS SELECT count(*) FROM dialtone_directory.entry;
			CREATE INDEX mine ON dialtone_directory.entry (username, realm);
			CREATE STATISTICS dialtone_directory.mine ON realm, role FROM dialtone_directory.entry;
			ALTER DEFAULT PRIVILEGES IN SCHEMA dialtone_kamailio GRANT SELECT ON TABLES TO public;
			GRANT SELECT ON dialtone_kamailio.subscriber TO public;
			ALTER TABLE dialtone_directory.entry SET (fillfactor = 80);
			ALTER DATABASE ` + nameOf(database) + ` SET quote_all_identifiers = on`, ``, ``},
		{own, view("", ""), "the definition of dialtone_kamailio.subscriber is not as dialtone created it"},
		{view("('' || ", ")"), view("", ""),
			"the definition of dialtone_kamailio.subscriber is not as dialtone created it"},
		{`ALTER VIEW dialtone_kamailio.subscriber SET (security_barrier = true)`,
			`ALTER VIEW dialtone_kamailio.subscriber RESET (security_barrier)`,
			"dialtone_kamailio.subscriber is not as dialtone created it: view with security_barrier"},
		{`ALTER TABLE dialtone_coturn.turnusers_lt RENAME TO old;
			CREATE TABLE dialtone_coturn.turnusers_lt AS SELECT * FROM dialtone_coturn.old`,
			`DROP TABLE dialtone_coturn.turnusers_lt; ALTER TABLE dialtone_coturn.old RENAME TO turnusers_lt`,
			"dialtone_coturn.turnusers_lt is not as dialtone created it: table\n"},
		{`DROP VIEW dialtone_coturn.turnusers_lt`,
			`CREATE VIEW dialtone_coturn.turnusers_lt AS SELECT realm::varchar AS realm, username::varchar AS name,
				ha1::varchar AS hmackey FROM dialtone_directory.entry`,
			"dialtone_coturn.turnusers_lt is missing"},
		{`ALTER TABLE dialtone_directory.entry RENAME ha1 TO x;
				ALTER TABLE dialtone_directory.entry RENAME ha1b TO ha1`,
			`ALTER TABLE dialtone_directory.entry RENAME ha1 TO ha1b;
				ALTER TABLE dialtone_directory.entry RENAME x TO ha1`,
			"the definition of dialtone_coturn.turnusers_lt is not as dialtone created it"},
		{`CREATE TRIGGER keep BEFORE DELETE ON dialtone_directory.entry FOR EACH ROW EXECUTE FUNCTION nothing()`,
			`DROP TRIGGER keep ON dialtone_directory.entry`,
			"dialtone did not create the trigger keep of dialtone_directory.entry: CREATE TRIGGER keep"},
		{`CREATE TRIGGER keep INSTEAD OF DELETE ON dialtone_digest.credential
			FOR EACH ROW EXECUTE FUNCTION nothing()`, `DROP TRIGGER keep ON dialtone_digest.credential`,
			"dialtone did not create the trigger keep of dialtone_digest.credential"},
		{`CREATE RULE keep AS ON DELETE TO dialtone_directory.entry WHERE old.username = 'ann' DO INSTEAD NOTHING;
			ALTER RULE keep ON dialtone_directory.entry RENAME TO "_RETURN"`,
			`DROP RULE "_RETURN" ON dialtone_directory.entry`,
			"dialtone did not create the rule _RETURN of dialtone_directory.entry"},
		{`ALTER TABLE dialtone_directory.entry ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY`,
			`ALTER TABLE dialtone_directory.entry DISABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY`,
			"dialtone_directory.entry is not as dialtone created it: table with row security"},
		{`CREATE POLICY keep ON dialtone_directory.entry USING (username <> 'ann')`,
			`DROP POLICY keep ON dialtone_directory.entry`, "dialtone did not create the policy keep"},
		{`CREATE TABLE mine.more () INHERITS (dialtone_directory.entry)`, `DROP TABLE mine.more`,
			"mine.more inherits from dialtone_directory.entry"},
		{`CREATE TABLE mine.holds (uid bytea REFERENCES dialtone_directory.entry)`, `DROP TABLE mine.holds`,
			"the table mine.holds refers to dialtone_directory.entry"},
		{`ALTER TABLE dialtone_directory.entry DROP CONSTRAINT entry_pkey, ADD UNIQUE (uid)`,
			`ALTER TABLE dialtone_directory.entry DROP CONSTRAINT entry_uid_key, ADD PRIMARY KEY (uid)`,
			"the constraint entry_pkey of dialtone_directory.entry is missing"},
		{`ALTER TABLE dialtone_directory.entry ADD CHECK (username <> 'cid')`,
			`ALTER TABLE dialtone_directory.entry DROP CONSTRAINT entry_username_check`,
			"dialtone did not create the constraint entry_username_check"},
		{`CREATE UNIQUE INDEX once ON dialtone_directory.entry (username)`, `DROP INDEX dialtone_directory.once`,
			"dialtone did not create the index once of dialtone_directory.entry"},
		{`CREATE INDEX fails ON dialtone_directory.entry ((1 / (length(username) - 9)))`,
			`DROP INDEX dialtone_directory.fails`, "dialtone did not create the index fails"},
		{`DROP INDEX dialtone_directory.entry_address; CREATE INDEX entry_address ON dialtone_directory.entry (role)`,
			`DROP INDEX dialtone_directory.entry_address;
				CREATE INDEX entry_address ON dialtone_directory.entry (address)`,
			"the index entry_address of dialtone_directory.entry is not as dialtone created it"},
		{`ALTER TABLE dialtone_directory.realm ADD more text DEFAULT 'x'`,
			`ALTER TABLE dialtone_directory.realm DROP more`,
			"dialtone did not create the column more of dialtone_directory.realm"},
		{`ALTER TABLE dialtone_directory.state ALTER whole SET DEFAULT true`,
			`ALTER TABLE dialtone_directory.state ALTER whole DROP DEFAULT`,
			"the column whole of dialtone_directory.state is not as dialtone created it"},
		{`ALTER TABLE dialtone_directory.state ALTER whole DROP NOT NULL`,
			`ALTER TABLE dialtone_directory.state ALTER whole SET NOT NULL`,
			"the column whole of dialtone_directory.state is not as dialtone created it"},
		{`ALTER SEQUENCE dialtone_directory.change MAXVALUE 1000 CYCLE`,
			`ALTER SEQUENCE dialtone_directory.change NO MAXVALUE NO CYCLE`,
			"the range of dialtone_directory.change is not as dialtone created it"},
		{`SELECT setval('dialtone_directory.change', 9223372036854775807)`,
			`SELECT setval('dialtone_directory.change', 100)`,
			"the sequence dialtone_directory.change is at 9223372036854775807"},
		{`CREATE VIEW dialtone_kamailio.uri AS SELECT 1`, `DROP VIEW dialtone_kamailio.uri`,
			"dialtone did not create view dialtone_kamailio.uri of the schema dialtone_kamailio"},
		{`CREATE FUNCTION dialtone_digest.md5(varchar) RETURNS text LANGUAGE sql AS 'SELECT NULL'`,
			`DROP FUNCTION dialtone_digest.md5`, "dialtone did not create function dialtone_digest.md5"},
		{`CREATE OPERATOR dialtone_kamailio.= (LEFTARG = varchar, RIGHTARG = varchar, FUNCTION = equal)`,
			`DROP OPERATOR dialtone_kamailio.= (varchar, varchar)`,
			"dialtone did not create operator dialtone_kamailio.="},
	}
	// These would hide every change if the names of functions were looked up in the schema of the
	// store.
	hiding := `CREATE FUNCTION concat_ws(text, text, text) RETURNS text LANGUAGE sql AS 'SELECT NULL';
		CREATE FUNCTION pg_get_viewdef(oid) RETURNS text LANGUAGE sql AS 'SELECT NULL';
		CREATE FUNCTION to_regclass(text) RETURNS regclass LANGUAGE sql AS 'SELECT NULL::regclass'; ` + own
	attacks = append(attacks, attack{hiding, `DROP FUNCTION public.concat_ws(text, text, text),
		public.pg_get_viewdef(oid), public.to_regclass(text); ` + view("", ""),
		"the definition of dialtone_kamailio.subscriber is not as dialtone created it"})
	wantFound(t, s, exec, attacks)

	exec(own)
	if err := s.EnableExport(t.Context(), noProgress); err != nil {
		t.Fatal(err)
	}
	wantFound(t, s, exec, nil) // it is repaired
	if err := s.DisableExport(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantFound(t, s, exec, attacks[1:4])
}

// A user of the database who cannot compare the tables is reported.
func TestCheckWithoutTemporaryTables(t *testing.T) {
	c := postgrestest.Shared(t)
	database := c.Database(t)
	s := openStore(t, secret.NewRing(noon), "", newLogin(t, c, database))
	name := nameOf(database)
	c.Exec(t, database, `GRANT CREATE ON DATABASE `+name+` TO public;
		REVOKE TEMPORARY ON DATABASE `+name+` FROM public`)
	addTenant(t, s, "phone.test")
	wantFound(t, s, func(string) {}, nil)
	if err := s.EnableExport(t.Context(), noProgress); err != nil {
		t.Fatal(err)
	}
	var list []string
	if err := s.CheckExportSchema(t.Context(), func(text string) { list = append(list, text) }); err != nil {
		t.Fatal(err)
	}
	if len(list) != 1 || !strings.Contains(list[0], "GRANT TEMPORARY ON DATABASE") {
		t.Fatalf("got %q", list)
	}
	_, grant, _ := strings.Cut(list[0], "have an administrator run: ")
	c.Exec(t, database, grant)
	wantFound(t, s, func(string) {}, nil)
}

// Every statement that creates something is repeated for the comparison.
func TestMadeObjects(t *testing.T) {
	made, all := phonetables.CountMade()
	if made != all || made == 0 {
		t.Errorf("%d of %d objects are compared", made, all)
	}
}

// Changes of the file of the export are reported.
func TestChangedFile(t *testing.T) {
	ring := secret.NewRing(noon)
	s := openFile(t, ring)
	addActive(t, s.Store, ring, addTenant(t, s, "phone.test"), "ann", "bob")
	path := filepath.Join(filepath.Dir(s.engine.(*sqlite.Engine).Path()), "directory", "directory.db")
	exec := func(text string) {
		t.Helper()
		execSQLite(t, path, text)
	}
	wantFound(t, s, exec, nil)
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the check made a file: %v", err)
	}
	if err := s.EnableExport(t.Context(), noProgress); err != nil {
		t.Fatal(err)
	}
	const credential = `DROP VIEW IF EXISTS credential; CREATE VIEW credential AS
	SELECT username, realm, address, ha1, ha1b, ha1_sha256, role FROM entry`
	schema := func(set string) string {
		return `PRAGMA writable_schema = ON; UPDATE sqlite_schema SET ` + set + `; PRAGMA writable_schema = OFF`
	}
	attacks := []attack{
		{`ANALYZE`, ``, ``},
		{strings.Replace(credential, "ha1,", "CASE username WHEN 'ann' THEN 'mine' ELSE ha1 END AS ha1,", 1),
			credential,
			"the view credential is not as dialtone created it"},
		{strings.Replace(credential, "ha1,", "'mine' AS ha1,", 1) + `; PRAGMA user_version = 7`,
			credential + `; PRAGMA user_version = 7`, "the view credential is not as dialtone created it"},
		{`DROP VIEW credential`, credential, "the view credential is missing"},
		{`CREATE TRIGGER keep BEFORE DELETE ON entry WHEN old.username = 'ann' BEGIN SELECT RAISE(IGNORE); END`,
			`DROP TRIGGER keep`,
			"dialtone did not create the trigger keep: CREATE TRIGGER keep BEFORE DELETE ON entry"},
		{`CREATE VIEW uri AS SELECT 1`, `DROP VIEW uri`, "dialtone did not create the view uri"},
		{`CREATE TABLE more (a)`, `DROP TABLE more`, "dialtone did not create the table more"},
		{`CREATE UNIQUE INDEX once ON entry (username)`, `DROP INDEX once`, "dialtone did not create the index once"},
		{`CREATE INDEX uu ON entry (username); ` + schema(`tbl_name = 'entry' || char(0) WHERE name = 'uu'`),
			schema(`tbl_name = 'entry' WHERE name = 'uu'`) + `; DROP INDEX uu`,
			`sqlite_schema has a row that hides what it is: index "uu" of "entry\x00"`},
		{`ALTER TABLE entry ADD COLUMN more`, `ALTER TABLE entry DROP COLUMN more`,
			"the table entry is not as dialtone created it"},
		{`UPDATE attribute SET name = 'other'`, `UPDATE attribute SET name = 'realm'`,
			"the rows of the table attribute are not as dialtone created them"},
		{`INSERT INTO revision VALUES ('uri', 1)`, `DELETE FROM revision WHERE table_name = 'uri'`,
			"the rows of the table revision are not as dialtone created them"},
	}
	wantFound(t, s, exec, attacks)
	if err := s.DisableExport(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantFound(t, s, exec, attacks[1:3])
	if _, err := os.Stat(path + "-wal"); err != nil {
		t.Errorf("the WAL that readers need is missing: %v", err)
	}
}

// An index with other values than its table gives phone servers the entry of another account.
func TestForeignIndex(t *testing.T) {
	s, _, dir, _ := openExporting(t)
	world.CloseStore(t, s)
	path := filepath.Join(dir, "directory", "directory.db")
	const swap = `PRAGMA writable_schema = ON;
		UPDATE sqlite_schema SET sql = 'CREATE INDEX entry_address ON entry (%s)' WHERE name = 'entry_address';
		PRAGMA writable_schema = OFF`
	execSQLite(t, path, strings.ReplaceAll(swap, "%s", "username"))
	execSQLite(t, path, `REINDEX entry_address`)
	execSQLite(t, path, strings.ReplaceAll(swap, "%s", "address"))
	again := world.OpenStore(t, filepath.Join(dir, "dialtone.db"), newRing(t, dir))
	var list []string
	if err := again.CompareExport(t.Context(), func(text string) { list = append(list, text) }); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(strings.Join(list, "\n"), "missing from index entry_address") {
		t.Errorf("got %q", list)
	}
}

// nameOf returns the name of the database of a URL.
func nameOf(database string) string {
	u, err := url.Parse(database)
	if err != nil {
		panic(err)
	}
	return strings.TrimPrefix(u.Path, "/")
}
