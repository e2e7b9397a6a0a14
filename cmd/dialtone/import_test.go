package main

import (
	"database/sql"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	_ "modernc.org/sqlite"

	"dialtone/internal/digest"
	"dialtone/internal/test/phonetest"
	"dialtone/internal/test/postgrestest"
	"dialtone/internal/test/process"
)

// kamailioTables returns a script of Kamailio that makes tables, for a kind of database.
func kamailioTables(t *testing.T, kind, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("/usr/share/kamailio", kind, name+"-create.sql"))
	if err != nil {
		t.Fatalf("the scripts of Kamailio's package for %s are needed: %v", kind, err)
	}
	return string(text)
}

// A phone that registered at a Kamailio with the table subscriber registers by Dialtone, with the same password.
func TestImportedPhone(t *testing.T) {
	t.Parallel()
	dir := phonetest.TempDir(t)
	old := filepath.Join(dir, "kamailio.sqlite")
	db, err := sql.Open("sqlite", old)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	const password = `sieben Zwölftel: "grün"`
	_, err = db.Exec(kamailioTables(t, "db_sqlite", "standard") + kamailioTables(t, "db_sqlite", "auth_db") +
		fmt.Sprintf(`INSERT INTO subscriber (username, domain, ha1, ha1b) VALUES ('alex', 'localhost', '%s', '%s');`,
			digest.Compute("alex", "localhost", password).Hex(), digest.ComputeB("alex", "localhost", password).Hex()))
	if err != nil {
		t.Fatal(err)
	}

	data, operators := t.TempDir(), process.Address(t)
	start(t, launch{data: data, flags: []string{"--dev", "--ops-listen", operators}})
	token := secrets(t, data, "directory", "token", "add", "registrar", "--tenant", "localhost")
	k := newRegistrar(t, "http://"+operators, token[0])
	phone := func(digestUser, password string) *phonetest.Phone {
		return &phonetest.Phone{Server: k.Server, User: "alex", Domain: "localhost", DigestUser: digestUser,
			Password: password}
	}
	waitUntil(t, func() bool { // the server knows the token
		r, err := phone("", password).Register()
		return err == nil && r.Status == 401
	})
	out := command(t, "account", "import", old, "--format", "kamailio", "--data", data)
	if !strings.Contains(out, "1 account of 1 row imported to localhost") {
		t.Errorf("got %s", out)
	}
	phone("", password).Registers(t, 200)
	phone("alex@localhost", password).Registers(t, 200)
	phone("", "guessed").Registers(t, 401)
}

// The dumps of pg_dump, and the database itself, give the same accounts.
func TestImportFromPostgres(t *testing.T) {
	t.Parallel()
	url := postgrestest.Shared(t).Database(t)
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	_, err = conn.Exec(t.Context(), "CREATE TABLE version (table_name VARCHAR(32), table_version INTEGER);"+
		kamailioTables(t, "postgres", "auth_db")+
		`CREATE FUNCTION quotes() RETURNS text LANGUAGE sql AS $f$ SELECT 'it''s; "(' $f$;
		INSERT INTO subscriber (username, domain, password, ha1) VALUES ('hashed', 'localhost', '', '`+
		digest.Compute("hashed", "localhost", "p").Hex()+`'), ('plain', 'localhost', E'tab\t, \\back, ''quote''\n', ''),
		('o''hara', 'localhost', 'x', ''), ('nora', 'localhost', '', ''), ('other', 'other.test', 'x', '')`)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	program, err := postgrestest.Program("pg_dump")
	if err != nil {
		t.Fatal(err)
	}
	dump := func(name string, flags ...string) string {
		path := filepath.Join(dir, name)
		out, err := exec.Command(program, append(flags, "--file", path, url)...).CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return path
	}
	want := regexp.MustCompile(`"rows":5,"imported":2,"refused":\[\{"reason":"realm",.*"count":1,.*` +
		`\{"reason":"user",.*"count":1,.*\{"reason":"no_password",.*"count":1,`)
	var first string
	for name, from := range map[string]string{
		"COPY": dump("copy.sql"), "INSERT": dump("insert.sql", "--inserts"),
		"INSERT of several": dump("rows.sql", "--column-inserts", "--rows-per-insert=3"), "database": "env:OLD",
	} {
		data := filepath.Join(t.TempDir(), "data")
		command(t, "tenant", "add", "localhost", "--data", data)
		execute := func(args ...string) string {
			cmd := exec.Command(binary(t), append(args, "--data", data)...)
			cmd.Env = []string{"OLD=" + url}
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("%s: %v: %v", name, args, err)
			}
			return string(out)
		}
		report := execute("account", "import", from, "--format", "kamailio", "--json")
		if !want.MatchString(report) {
			t.Errorf("%s: got %s", name, report)
		}
		got := execute("account", "export", "-", "--format", "csv", "--with-credentials")
		if first == "" {
			first = got
		}
		plain := digest.Compute("plain", "localhost", "tab\t, \\back, 'quote'\n")
		if got != first || !strings.Contains(got, plain.Hex()) {
			t.Errorf("%s: the accounts are others", name)
		}
	}
}

// What is exported is imported elsewhere, in another kind of store too, as it was.
func TestExportAndImport(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	source := filepath.Join(dir, "accounts.jsonl")
	var lines strings.Builder
	for i, name := range []string{"Ann Ä", "Ben \"B\" <b>", "1001"} {
		user := fmt.Sprint("user", i)
		b, sum := digest.ComputeB(user, "localhost", "p"), digest.ComputeSHA256(user, "localhost", "p")
		fmt.Fprintf(&lines, `{"user":%q,"realm":"localhost","name":%q,"email":"%s@mail.test","role":"user",`+
			`"lang":"de","ha1":%q,"ha1b":%q,"ha1_sha256":%q}`+"\n", user, name, user,
			digest.Compute(user, "localhost", "p").Hex(), b.Hex(), sum.Hex())
	}
	if err := os.WriteFile(source, []byte(lines.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	install := func(database string) func(args ...string) string {
		data := filepath.Join(t.TempDir(), "data")
		execute := func(args ...string) string {
			cmd := exec.Command(binary(t), append(args, "--data", data)...)
			if database != "" {
				cmd.Env = []string{"DIALTONE_DATABASE=" + database}
			}
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("%v: %v", args, err)
			}
			return string(out)
		}
		execute("tenant", "add", "localhost")
		return execute
	}
	one := install("")
	one("account", "import", source, "--format", "jsonl", "--role", "file")
	want := one("account", "export", "-", "--format", "jsonl", "--with-credentials")
	if want != lines.String() {
		t.Errorf("the export has %d bytes, and not those of the file", len(want))
	}
	full := map[string]string{"csv": "csv", "jsonl": "jsonl"} // with names and addresses
	for format, reader := range map[string]string{
		"csv": "csv", "jsonl": "jsonl", "htdigest": "htdigest", "kamailio-csv": "kamailio", "kamailio-sql": "kamailio",
		"freeswitch": "freeswitch", "pjsip": "asterisk", "coturn-sql": "coturn",
	} {
		file := filepath.Join(dir, format)
		one("account", "export", file, "--format", format, "--with-credentials")
		if info, err := os.Stat(file); err != nil || info.Mode() != 0o600 {
			t.Errorf("%s: %v, %v", format, info.Mode(), err)
		}
		database := ""
		if format == "jsonl" {
			database = postgrestest.Shared(t).Database(t)
		}
		two := install(database)
		two("account", "import", file, "--format", reader, "--role", "file")
		form := "htdigest"
		if full[format] != "" {
			form = "jsonl"
		}
		if two("account", "export", "-", "--format", form, "--with-credentials") !=
			one("account", "export", "-", "--format", form, "--with-credentials") {
			t.Errorf("%s: the accounts are others", format)
		}
	}
}
