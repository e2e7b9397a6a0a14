package transfer

import (
	"strings"
	"testing"
)

// What somebody adds to a database that changes or hides rows by itself is found, and what an operator may add is not.
func TestCheckSchema(t *testing.T) {
	type test struct{ add, remove, want string }
	sqlite := []test{
		{`CREATE TABLE mine (a, b); CREATE INDEX mine_a ON mine (a);
			CREATE INDEX audit_mine ON audit (reason)`, ``, ``},
		{`CREATE TRIGGER hide AFTER INSERT ON audit BEGIN DELETE FROM audit WHERE id = NEW.id; END`,
			`DROP TRIGGER hide`, "did not make the trigger hide: CREATE TRIGGER hide AFTER INSERT ON audit"},
		{`CREATE TRIGGER aside AFTER INSERT ON mine BEGIN DELETE FROM audit; END`, `DROP TRIGGER aside`,
			"did not make the trigger aside"},
		{`CREATE VIEW shadow AS SELECT * FROM audit`, `DROP VIEW shadow`, "did not make the view shadow"},
		{`ALTER TABLE audit ADD COLUMN more TEXT`, `ALTER TABLE audit DROP COLUMN more`,
			"the table audit is not as dialtone made it"},
		{`DROP INDEX audit_at`, `CREATE INDEX audit_at ON audit (at)`, "the index audit_at is missing"},
		{`INSERT INTO schema_version (version, checksum, applied) VALUES (99, '', 0)`,
			`DELETE FROM schema_version WHERE version = 99`, "the schema has version 99"},
	}
	const nothing = `CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
		CREATE FUNCTION one() RETURNS bigint IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN 1; END'`
	postgres := []test{
		{nothing + `; CREATE TABLE mine (a bigint); CREATE INDEX audit_mine ON audit (reason)`, ``, ``},
		{`CREATE TRIGGER hide BEFORE INSERT ON audit FOR EACH ROW EXECUTE FUNCTION nothing()`,
			`DROP TRIGGER hide ON audit`, "did not make the trigger hide: CREATE TRIGGER hide BEFORE INSERT ON "},
		{`CREATE RULE hide AS ON INSERT TO audit DO INSTEAD NOTHING`, `DROP RULE hide ON audit`,
			"did not make the rule hide"},
		{`CREATE VIEW shadow AS SELECT * FROM audit`, `DROP VIEW shadow`, "did not make view shadow"},
		{`ALTER TABLE audit ENABLE ROW LEVEL SECURITY`, `ALTER TABLE audit DISABLE ROW LEVEL SECURITY`,
			"row security of the table audit"},
		{`CREATE POLICY hide ON audit USING (id < 0)`, `DROP POLICY hide ON audit`, "did not make the policy hide"},
		{`ALTER TABLE revision DISABLE TRIGGER revision_tell`, `ALTER TABLE revision ENABLE TRIGGER revision_tell`,
			"the trigger revision_tell of the table revision is disabled"},
		{`CREATE OR REPLACE FUNCTION dialtone_tell() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'`,
			"CREATE OR REPLACE FUNCTION dialtone_tell() RETURNS trigger LANGUAGE plpgsql AS $$\nBEGIN\n\tPERFORM " +
				"pg_notify('dialtone_' || NEW.subject, '');\n\tRETURN NULL;\nEND $$",
			"the trigger revision_tell is missing"},
		{`ALTER TABLE audit ADD CONSTRAINT run CHECK (one() = 1)`, `ALTER TABLE audit DROP CONSTRAINT run`,
			"constraint run on table audit, which calls function one()"},
		{`ALTER TABLE audit ALTER event SET DEFAULT decode(one()::text, 'hex')`,
			`ALTER TABLE audit ALTER event DROP DEFAULT`, "which calls function one()"},
		{`CREATE INDEX run ON audit ((one()))`, `DROP INDEX run`, "index run, which calls function one()"},
		{`INSERT INTO schema_version (version, checksum, applied) VALUES (99, '', 0)`,
			`DELETE FROM schema_version WHERE version = 99`, "the schema has version 99"},
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
		for _, c := range tests {
			t.exec(c.add)
			if got := faults(); c.want == "" && len(got) > 0 || c.want != "" && !oneWith(got, c.want) {
				t.Errorf("%s: %q, want %q", c.add, got, c.want)
			}
			t.exec(c.remove)
			if got := faults(); len(got) > 0 {
				t.Fatalf("%s: %q", c.remove, got)
			}
		}
	})
}
