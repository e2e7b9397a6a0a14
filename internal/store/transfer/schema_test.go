package transfer

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// Additions to a database that change or hide rows by themselves are found. Those that an operator
// may make are not reported.
func TestCheckSchema(t *testing.T) {
	type test struct{ add, remove, want string }
	// In SQLite a no-break space is a letter, and a comment ends with its line.
	rewrite := func(table, from, to string) test {
		change := func(from, to string) string {
			return "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = replace(sql, '" + from + "', '" + to +
				"') WHERE name = '" + table + "'; PRAGMA writable_schema = OFF"
		}
		return test{change(from, to), change(to, from), "the table " + table + " is not as dialtone created it"}
	}
	// SQLite ends a name at its first NUL.
	hidden := func(make, column, value, remove, want string) test {
		change := "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET " + column + " = %s " +
			"WHERE instr(sql, ' INDEX uu ON '); PRAGMA writable_schema = OFF; "
		undo := fmt.Sprintf(change, "'"+remove+"'") + "DROP INDEX uu"
		return test{make + "; " + fmt.Sprintf(change, value), undo, want}
	}
	sqlite := []test{
		hidden("CREATE INDEX uu ON audit (abs(id)) WHERE id > 4", "tbl_name", "'audit' || char(0) || 'x'", "audit",
			`sqlite_schema has a row that hides what it is: index "uu" of "audit\x00x"`),
		hidden("CREATE UNIQUE INDEX uu ON account (email)", "tbl_name", "CAST('account' AS BLOB)", "account",
			`sqlite_schema has a row that hides what it is: index "uu" of "account"`),
		hidden("CREATE INDEX uu ON audit (abs(id))", "name", "'uu' || char(0)", "uu",
			`sqlite_schema has a row that hides what it is: index "uu\x00" of "audit"`),
		rewrite("audit", "INTEGER PRIMARY KEY AUTOINCREMENT", "INTEGER\u00a0PRIMARY\u00a0KEY\u00a0AUTOINCREMENT"),
		rewrite("account", "-- an operator disabled it\n", "-- an operator disabled it "),
		{`CREATE TABLE keep (a); PRAGMA writable_schema = ON;
			UPDATE sqlite_schema SET name = 'sqlite_keep', tbl_name = 'sqlite_keep',
				sql = replace(sql, 'keep', 'sqlite_keep') WHERE name = 'keep'; PRAGMA writable_schema = OFF`,
			`PRAGMA writable_schema = ON; DELETE FROM sqlite_schema WHERE name = 'sqlite_keep';
				PRAGMA writable_schema = OFF`,
			"did not create the table sqlite_keep"},
		{`INSERT INTO sqlite_sequence (name, seq) VALUES ('audit', 9223372036854775807)`,
			`DELETE FROM sqlite_sequence WHERE name = 'audit'`,
			"sqlite_sequence has 9223372036854775807 for the table audit"},
		{`INSERT INTO sqlite_sequence (name, seq) VALUES ('audit', 1), ('audit', 2)`,
			`DELETE FROM sqlite_sequence WHERE name = 'audit'`, "sqlite_sequence has 1 and 2 for the table audit"},
		{`INSERT INTO tenant (id, host, realm, public_url, settings, created) VALUES (7, 'a', 'a', '', '{}', 0);
			UPDATE sqlite_sequence SET seq = 6 WHERE name = 'tenant'`,
			`DELETE FROM tenant; DELETE FROM sqlite_sequence WHERE name = 'tenant'`,
			"sqlite_sequence has 6 for the table tenant, whose greatest id is 7"},
		{`ANALYZE`, ``, ``},
		{`CREATE TABLE mine (a, b); CREATE INDEX mine_a ON mine (a);
			CREATE INDEX audit_mine ON Audit (reason, actor COLLATE nocase);
			CREATE UNIQUE INDEX mine_b ON mine (b)`, ``, ``},
		{`CREATE UNIQUE INDEX once ON account (email)`, `DROP INDEX once`,
			"did not create the index once: CREATE UNIQUE INDEX once ON account"},
		{`CREATE UNIQUE INDEX once ON Session (length(browser)) WHERE net = ''`, `DROP INDEX once`,
			"did not create the index once"},
		{`CREATE INDEX fails ON audit (json(reason))`, `DROP INDEX fails`, "did not create the index fails"},
		{`CREATE INDEX fails ON audit (at) WHERE json(reason)`, `DROP INDEX fails`, "did not create the index fails"},
		{`CREATE TABLE holds (account BLOB REFERENCES Account (uid))`, `DROP TABLE holds`,
			"the table holds refers to the table Account"},
		{`CREATE TRIGGER hide AFTER INSERT ON audit BEGIN DELETE FROM audit WHERE id = NEW.id; END`,
			`DROP TRIGGER hide`, "did not create the trigger hide: CREATE TRIGGER hide AFTER INSERT ON audit"},
		{`CREATE TRIGGER aside AFTER INSERT ON mine BEGIN DELETE FROM audit; END`, `DROP TRIGGER aside`,
			"did not create the trigger aside"},
		{`CREATE VIEW shadow AS SELECT * FROM audit`, `DROP VIEW shadow`, "did not create the view shadow"},
		{`ALTER TABLE audit ADD COLUMN more TEXT`, `ALTER TABLE audit DROP COLUMN more`,
			"the table audit is not as dialtone created it"},
		{`DROP INDEX audit_at`, `CREATE INDEX audit_at ON audit (at)`, "the index audit_at is missing"},
		{`INSERT INTO schema_version (version, checksum, applied) VALUES (99, '', 0)`,
			`DELETE FROM schema_version WHERE version = 99`, "the schema has version 99"},
	}
	const nothing = `CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
		CREATE FUNCTION one() RETURNS bigint IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN 1; END';
		CREATE FUNCTION one_of(bytea, bigint) RETURNS boolean LANGUAGE sql AS 'SELECT true'`
	postgres := []test{
		{nothing + `; CREATE SCHEMA apart; CREATE EXTENSION citext SCHEMA apart; CREATE EXTENSION hstore SCHEMA apart;
			CREATE TABLE mine (a bigint, b text UNIQUE);
			CREATE INDEX audit_mine ON audit (actor, at) WITH (fillfactor = 80);
			CREATE INDEX audit_reason ON audit USING hash (reason);
			CREATE SCHEMA mine; CREATE TABLE mine.audit (a bigint UNIQUE);
			CREATE VIEW mine.report AS SELECT * FROM public.audit;
			ALTER INDEX audit_user SET (fillfactor = 70); ALTER INDEX audit_actor SET (fillfactor = 70);
			CREATE PUBLICATION every FOR TABLE account; CREATE PUBLICATION added FOR TABLE audit WHERE (id > 4)
				WITH (publish = 'insert'); ALTER TABLE audit REPLICA IDENTITY FULL`, ``, ``},
		{`ALTER EXTENSION citext SET SCHEMA public`, `ALTER EXTENSION citext SET SCHEMA apart`,
			"the extension citext has functions and operators (29, such as"},
		{`ALTER EXTENSION citext ADD TABLE account`, `ALTER EXTENSION citext DROP TABLE account`,
			"table public.account belongs to the extension citext"},
		{`ALTER EXTENSION citext ADD FUNCTION dialtone_tell()`, `ALTER EXTENSION citext DROP FUNCTION dialtone_tell()`,
			"function public.dialtone_tell() belongs to the extension citext"},
		{`CREATE FUNCTION lower(bytea) RETURNS text LANGUAGE sql AS 'SELECT NULL';
			ALTER EXTENSION citext ADD FUNCTION lower(bytea)`,
			`ALTER EXTENSION citext DROP FUNCTION lower(bytea); DROP FUNCTION lower(bytea)`,
			"the extension citext has functions and operators (1, such as function public.lower(bytea))"},
		{`CREATE OPERATOR = (LEFTARG = bytea, RIGHTARG = bigint, FUNCTION = one_of);
			ALTER EXTENSION citext ADD OPERATOR = (bytea, bigint)`,
			`ALTER EXTENSION citext DROP OPERATOR = (bytea, bigint); DROP OPERATOR = (bytea, bigint)`,
			"the extension citext has functions and operators (1, such as operator public.=(bytea,bigint))"},
		{`CREATE COLLATION public."C" (provider = libc, locale = 'C');
			ALTER TABLE account ALTER name TYPE text COLLATE public."C"`,
			`ALTER TABLE account ALTER name TYPE text COLLATE pg_catalog."C"; DROP COLLATION public."C"`,
			"the column name of the table account is not as dialtone created it"},
		{`CREATE UNIQUE INDEX once ON account (email)`, `DROP INDEX once`,
			"did not create the index once: CREATE UNIQUE INDEX once ON public.account"},
		{`CREATE UNIQUE INDEX once ON session (length(browser)) WHERE net = ''`, `DROP INDEX once`,
			"did not create the index once"},
		{`CREATE INDEX fails ON audit ((1 / length(reason)))`, `DROP INDEX fails`, "did not create the index fails"},
		{`CREATE INDEX fails ON audit (at) WHERE 1 / length(reason) = 1`, `DROP INDEX fails`,
			"did not create the index fails"},
		{`CREATE INDEX long ON audit (at, after)`, `DROP INDEX long`, "did not create the index long"},
		{`DROP INDEX audit_at; CREATE UNIQUE INDEX audit_at ON audit (at)`,
			`DROP INDEX audit_at; CREATE INDEX audit_at ON audit (at)`,
			"the index audit_at is not as dialtone created it"},
		{`DROP INDEX audit_at`, `CREATE INDEX audit_at ON audit (at)`, "the index audit_at is missing"},
		{`ALTER TABLE account ADD CONSTRAINT once UNIQUE (email)`, `ALTER TABLE account DROP CONSTRAINT once`,
			"did not create the constraint once of the table account: UNIQUE (email)"},
		{`ALTER TABLE account ADD CONSTRAINT apart EXCLUDE (email WITH =)`, `ALTER TABLE account DROP CONSTRAINT apart`,
			"did not create the constraint apart of the table account"},
		{`ALTER TABLE account ADD CONSTRAINT not_ann CHECK (username <> 'ann')`,
			`ALTER TABLE account DROP CONSTRAINT not_ann`,
			"did not create the constraint not_ann of the table account"},
		{`ALTER TABLE account DROP CONSTRAINT account_tenant_fkey`,
			`ALTER TABLE account ADD FOREIGN KEY (tenant) REFERENCES tenant (id)`,
			"the constraint account_tenant_fkey of the table account is missing"},
		{`ALTER TABLE audit ADD more text`, `ALTER TABLE audit DROP more`,
			"did not create the column more of the table audit: text"},
		{`ALTER TABLE account ADD more text GENERATED ALWAYS AS (1 / length(username)) STORED`,
			`ALTER TABLE account DROP more`, "did not create the column more of the table account"},
		{`ALTER TABLE account ALTER email_n SET DEFAULT 7`, `ALTER TABLE account ALTER email_n SET DEFAULT 0`,
			"the column email_n of the table account is not as dialtone created it: bigint not null default 7"},
		{`ALTER TABLE account ALTER activated SET NOT NULL`, `ALTER TABLE account ALTER activated DROP NOT NULL`,
			"the column activated of the table account is not as dialtone created it"},
		{`ALTER TABLE account ALTER name TYPE varchar(64)`, `ALTER TABLE account ALTER name TYPE text COLLATE "C"`,
			"the column name of the table account is not as dialtone created it"},
		{`ALTER SEQUENCE audit_id_seq MAXVALUE 1000`, `ALTER SEQUENCE audit_id_seq NO MAXVALUE`,
			"the sequence audit_id_seq is not as dialtone created it"},
		{`ALTER TABLE spent SET UNLOGGED`, `ALTER TABLE spent SET LOGGED`,
			"the table spent is not as dialtone created it"},
		{`CREATE TABLE more () INHERITS (account)`, `DROP TABLE more`, "public.more inherits from public.account"},
		{`CREATE TABLE mine.holds (account bytea REFERENCES public.account)`, `DROP TABLE mine.holds`,
			"the table mine.holds refers to the table public.account"},
		{`CREATE SCHEMA postgres; CREATE TABLE postgres.audit (id bigint)`, `DROP SCHEMA postgres CASCADE`,
			"table postgres.audit hides the table of dialtone that has this name"},
		{`CREATE FUNCTION lower(bytea) RETURNS text LANGUAGE sql AS 'SELECT NULL'`, `DROP FUNCTION lower(bytea)`,
			"did not create function public.lower(bytea), which"},
		{`CREATE OPERATOR = (LEFTARG = bytea, RIGHTARG = bigint, FUNCTION = one_of)`, `DROP OPERATOR = (bytea, bigint)`,
			"did not create operator public.=(bytea,bigint), which"},
		{`CREATE FUNCTION dialtone_exporting(bigint DEFAULT 1) RETURNS boolean LANGUAGE sql AS 'SELECT false'`,
			`DROP FUNCTION dialtone_exporting(bigint)`, "did not create the function dialtone_exporting(bigint)"},
		{`ALTER FUNCTION dialtone_exporting() SET search_path = mine`,
			`ALTER FUNCTION dialtone_exporting() RESET search_path`,
			"the function dialtone_exporting() is not as dialtone created it"},
		{`CREATE TRIGGER hide BEFORE INSERT ON audit FOR EACH ROW EXECUTE FUNCTION nothing()`,
			`DROP TRIGGER hide ON audit`, "did not create the trigger hide of the table audit: CREATE TRIGGER hide"},
		{`CREATE RULE hide AS ON INSERT TO audit DO INSTEAD NOTHING`, `DROP RULE hide ON audit`,
			"did not create the rule hide"},
		{`CREATE VIEW shadow AS SELECT * FROM audit`, `DROP VIEW shadow`, "did not create view public.shadow"},
		{`ALTER TABLE audit ENABLE ROW LEVEL SECURITY`, `ALTER TABLE audit DISABLE ROW LEVEL SECURITY`,
			"row security of the table audit"},
		{`CREATE POLICY hide ON audit USING (id < 0)`, `DROP POLICY hide ON audit`, "did not create the policy hide"},
		{`ALTER TABLE revision DISABLE TRIGGER revision_tell`, `ALTER TABLE revision ENABLE TRIGGER revision_tell`,
			"the trigger revision_tell of the table revision is disabled"},
		{`CREATE OR REPLACE FUNCTION dialtone_tell() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'`,
			"CREATE OR REPLACE FUNCTION dialtone_tell() RETURNS trigger LANGUAGE plpgsql AS $$\nBEGIN\n\tPERFORM " +
				"pg_notify('dialtone_' || NEW.subject, '');\n\tRETURN NULL;\nEND $$",
			"the function dialtone_tell() is not as dialtone created it"},
		{`ALTER TABLE audit ADD CONSTRAINT run CHECK (one() = 1)`, `ALTER TABLE audit DROP CONSTRAINT run`,
			"did not create the constraint run of the table audit: CHECK (public.one() = 1)"},
		{`ALTER TABLE audit ALTER event SET DEFAULT decode(one()::text, 'hex')`,
			`ALTER TABLE audit ALTER event DROP DEFAULT`,
			"the column event of the table audit is not as dialtone created it"},
		{`CREATE INDEX run ON audit ((one()))`, `DROP INDEX run`, "did not create the index run"},
		{`INSERT INTO schema_version (version, checksum, applied) VALUES (99, '', 0)`,
			`DELETE FROM schema_version WHERE version = 99`, "the schema has version 99"},
		// PostgreSQL creates no such rule on a table, but renames one.
		{`CREATE RULE hide AS ON INSERT TO audit WHERE new.username = 'ann' DO INSTEAD NOTHING;
			ALTER RULE hide ON audit RENAME TO "_RETURN"`, `DROP RULE "_RETURN" ON audit`,
			"did not create the rule _RETURN"},
		// The check itself does not call functions of the search_path.
		{`DROP INDEX account_username; CREATE INDEX account_username ON account (tenant, username);
			CREATE FUNCTION concat_ws(text, text, text) RETURNS text LANGUAGE sql AS $$ SELECT pg_catalog.concat_ws(' ',
				replace($2, 'CREATE INDEX account_username', 'CREATE UNIQUE INDEX account_username'), $3) $$`,
			`DROP FUNCTION concat_ws(text, text, text);
			DROP INDEX account_username; CREATE UNIQUE INDEX account_username ON account (tenant, username)`,
			"the index account_username is not as dialtone created it"},
		{`ALTER SEQUENCE audit_id_seq MAXVALUE 205;
			CREATE FUNCTION concat_ws(text, regtype, text, bigint, text, bigint, text, bigint, text) RETURNS text
				LANGUAGE sql AS $$ SELECT pg_catalog.concat_ws(' ', $2, $3, $4, $5,
					CASE WHEN $6 = 205 THEN 9223372036854775807 ELSE $6 END, $7, $8, $9) $$`,
			`DROP FUNCTION concat_ws(text, regtype, text, bigint, text, bigint, text, bigint, text);
				ALTER SEQUENCE audit_id_seq NO MAXVALUE`,
			"the sequence audit_id_seq is not as dialtone created it"},
		{`ALTER EXTENSION citext SET SCHEMA public;
			CREATE FUNCTION cc(citext, name) RETURNS citext LANGUAGE sql AS $$ SELECT (CASE WHEN $2 = 'aaa'
				THEN 'function dialtone_tell()' ELSE pg_catalog.concat($1, $2) END)::citext $$;
			CREATE FUNCTION cd(citext, citext) RETURNS citext LANGUAGE sql
				AS 'SELECT pg_catalog.concat($1, $2)::citext';
			CREATE OPERATOR || (LEFTARG = citext, RIGHTARG = name, FUNCTION = cc);
			CREATE OPERATOR || (LEFTARG = citext, RIGHTARG = citext, FUNCTION = cd);
			CREATE TRIGGER aaa BEFORE INSERT ON audit FOR EACH ROW EXECUTE FUNCTION nothing()`,
			`DROP TRIGGER aaa ON audit; DROP FUNCTION cc CASCADE; DROP FUNCTION cd CASCADE;
				ALTER EXTENSION citext SET SCHEMA apart`,
			"did not create the trigger aaa of the table audit\nthe extension citext has\n" +
				"did not create operator public.||(public.citext,name)\n" +
				"did not create operator public.||(public.citext,public.citext)"},
		{`ALTER EXTENSION citext SET SCHEMA public;
			CREATE FUNCTION pg_try_advisory_lock_shared(citext) RETURNS boolean LANGUAGE sql AS 'SELECT false';
			CREATE FUNCTION nextval(citext) RETURNS bigint LANGUAGE sql AS 'SELECT 1::bigint'`,
			`DROP FUNCTION pg_try_advisory_lock_shared(citext); DROP FUNCTION nextval(citext);
				ALTER EXTENSION citext SET SCHEMA apart`,
			"did not create function public.pg_try_advisory_lock_shared(public.citext)\n" +
				"did not create function public.nextval(public.citext)\nthe extension citext has"},
		{`CREATE TEMPORARY TABLE pg_trigger (LIKE pg_catalog.pg_trigger);
			CREATE TRIGGER aaa BEFORE INSERT ON audit FOR EACH ROW EXECUTE FUNCTION nothing()`,
			`DROP TABLE pg_temp.pg_trigger; DROP TRIGGER aaa ON audit`,
			"did not create the trigger aaa of the table audit"},
		{`ALTER DATABASE %[1]s SET quote_all_identifiers = on; SET quote_all_identifiers = on;
			SET standard_conforming_strings = off; SET bytea_output = escape`,
			`ALTER DATABASE %[1]s RESET quote_all_identifiers; RESET quote_all_identifiers;
			RESET standard_conforming_strings; RESET bytea_output`, ``},
		{`SELECT setval('audit_id_seq', 9223372036854775807)`, `SELECT setval('audit_id_seq', 1, false)`,
			"the sequence audit_id_seq gives 9223372036854775808 as the next id"},
		{`INSERT INTO tenant (id, host, realm, public_url, settings, created) OVERRIDING SYSTEM VALUE
			VALUES (7, 'a', 'a', '', '{}', 0); SELECT setval('tenant_id_seq', 6)`,
			`DELETE FROM tenant; SELECT setval('tenant_id_seq', 1, false)`,
			"the sequence tenant_id_seq gives 7 as the next id, and the table tenant has 7"},
		{`ALTER SEQUENCE audit_id_seq CACHE 1000`, `ALTER SEQUENCE audit_id_seq CACHE 1`,
			"the sequence audit_id_seq is not as dialtone created it"},
		{`CREATE PUBLICATION part FOR TABLE account WHERE (username <> 'ann')`, `DROP PUBLICATION part`,
			"the publication part has a row filter or a list of columns for the table account"},
		{`CREATE PUBLICATION part FOR TABLE account (username)`, `DROP PUBLICATION part`,
			"the publication part has a row filter or a list of columns for the table account"},
		{`ALTER TABLE account REPLICA IDENTITY NOTHING`, `ALTER TABLE account REPLICA IDENTITY DEFAULT`,
			"the table account has no replica identity"},
		{`ALTER TABLE tenant ALTER logo SET STORAGE plain`, `ALTER TABLE tenant ALTER logo SET STORAGE extended`,
			"the column logo of the table tenant is not as dialtone created it"},
		{`ALTER TABLE tenant ALTER logo SET COMPRESSION pglz`, `ALTER TABLE tenant ALTER logo SET COMPRESSION default`,
			"the column logo of the table tenant is not as dialtone created it"},
		{`ALTER INDEX account_username DEPENDS ON EXTENSION citext`,
			`ALTER INDEX account_username NO DEPENDS ON EXTENSION citext`,
			"index public.account_username depends on the extension citext"},
		{`ALTER TRIGGER revision_tell ON revision DEPENDS ON EXTENSION citext`,
			`ALTER TRIGGER revision_tell ON revision NO DEPENDS ON EXTENSION citext`,
			"trigger revision_tell on table public.revision depends on the extension citext"},
		{`ALTER FUNCTION dialtone_tell() DEPENDS ON EXTENSION citext`,
			`ALTER FUNCTION dialtone_tell() NO DEPENDS ON EXTENSION citext`,
			"function public.dialtone_tell() depends on the extension citext"},
		{`ALTER EXTENSION citext ADD SEQUENCE audit_id_seq`, `ALTER EXTENSION citext DROP SEQUENCE audit_id_seq`,
			"sequence public.audit_id_seq belongs to the extension citext"},
		{`DROP INDEX audit_actor; CREATE INDEX audit_actor ON audit (actor, id) WHERE actor <> ' WITH (x)'`,
			`DROP INDEX audit_actor; CREATE INDEX audit_actor ON audit (actor, id) WHERE actor <> ''`,
			"the index audit_actor is not as dialtone created it"},
		{`DROP INDEX audit_actor; CREATE INDEX audit_actor ON audit (actor, id) WITH (fillfactor = 70)
			WHERE actor <> ' WITH (x)'`,
			`DROP INDEX audit_actor; CREATE INDEX audit_actor ON audit (actor, id) WHERE actor <> ''`,
			"the index audit_actor is not as dialtone created it"},
		{`ALTER DATABASE %[1]s SET synchronous_commit = off`, `ALTER DATABASE %[1]s RESET synchronous_commit`,
			"sets synchronous_commit to off"},
		{`ALTER ROLE postgres IN DATABASE %[1]s SET synchronous_commit = local`,
			`ALTER ROLE postgres IN DATABASE %[1]s RESET synchronous_commit`, "sets synchronous_commit to local"},
		{`SET synchronous_commit = off`, `RESET synchronous_commit`, "the setting synchronous_commit is off"},
		{`SET session_replication_role = replica`, `RESET session_replication_role`,
			"the setting session_replication_role is replica"},
	}
	onEngines(t, func(t *trailTest) {
		tests := sqlite
		if strings.HasSuffix(t.Name(), "/PostgreSQL") {
			tests = postgres
		}
		faults := func() (list []string) {
			t.must(t.CheckSchema(t.Context(), func(text string) { list = append(list, text) }))
			return list
		}
		if got := faults(); len(got) > 0 {
			t.Fatalf("a new database: %q", got)
		}
		if strings.HasSuffix(t.Name(), "/PostgreSQL") {
			defer t.wantMembersSeen(faults)
		}
		var database string
		if strings.HasSuffix(t.Name(), "/PostgreSQL") {
			t.must(t.engine.Reads(t.Context()).Row(`SELECT current_database()`).Scan(&database))
		}
		for _, c := range tests {
			c.add = strings.ReplaceAll(c.add, "%[1]s", database)
			c.remove = strings.ReplaceAll(c.remove, "%[1]s", database)
			t.exec(c.add)
			if got := faults(); !eachOnce(got, c.want) {
				t.Errorf("%s: %q, want %q", c.add, got, c.want)
			}
			t.exec(c.remove)
			if got := faults(); len(got) > 0 {
				t.Fatalf("%s: %q", c.remove, got)
			}
		}
	})
}

// eachOnce reports whether each line of wants is part of one text of the list, in any order, and
// the list contains nothing else.
func eachOnce(list []string, wants string) bool {
	rest := slices.Clone(list)
	for want := range strings.SplitSeq(wants, "\n") {
		i := slices.IndexFunc(rest, func(text string) bool { return strings.Contains(text, want) })
		switch {
		case want == "":
		case i < 0:
			return false
		default:
			rest = slices.Delete(rest, i, i+1)
		}
	}
	return len(rest) == 0
}

// wantMembersSeen checks that everything that acts on a table is found although the table belongs
// to an extension, and also an extension's replacements of built-in operators.
func (t *trailTest) wantMembersSeen(faults func() []string) {
	t.exec(`ALTER EXTENSION citext ADD TABLE audit; ALTER TABLE audit ENABLE ROW LEVEL SECURITY;
		CREATE POLICY hide ON audit USING (id < 0); CREATE RULE hide AS ON INSERT TO audit DO INSTEAD NOTHING;
		CREATE EXTENSION pg_trgm`)
	all := strings.Join(faults(), "\n")
	for _, want := range []string{
		"belongs to the extension citext", "the policy hide", "the rule hide", "row security of the table audit",
		"the extension pg_trgm has functions and operators (2, such as operator public.%(text,text)",
	} {
		if !strings.Contains(all, want) {
			t.Errorf("%q is not in %s", want, all)
		}
	}
}
