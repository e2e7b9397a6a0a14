package main

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	neturl "net/url"
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
	"dialtone/internal/userfile"
)

// kamailioTables returns Kamailio's script that creates its tables in a kind of database.
func kamailioTables(t *testing.T, kind, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("/usr/share/kamailio", kind, name+"-create.sql"))
	if err != nil {
		t.Fatalf("the scripts of Kamailio's package for %s are needed: %v", kind, err)
	}
	return string(text)
}

// A phone that registered with a Kamailio that uses the table subscriber can register through
// Dialtone, with the same password.
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

// The rows of kamailio-sql fit the table that Kamailio creates, which has no column for an e-mail
// address.
func TestKamailioTakesTheSQL(t *testing.T) {
	t.Parallel()
	db, err := sql.Open("sqlite", filepath.Join(t.TempDir(), "kamailio.sqlite"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var out bytes.Buffer
	w, err := userfile.NewWriter(userfile.KamailioSQL, &out, "for a test")
	if err != nil {
		t.Fatal(err)
	}
	e := userfile.Exported{Realm: "localhost", Credential: new(digest.Credential)}
	e.Credential.HA1 = digest.Compute("ann", "localhost", "p")
	e.User, e.Name, e.Email = "ann", "Ann", "ann@mail.test"
	if err := errors.Join(w.Write(e), w.Close()); err != nil {
		t.Fatal(err)
	}
	_, err = db.Exec(kamailioTables(t, "db_sqlite", "standard") + kamailioTables(t, "db_sqlite", "auth_db") +
		out.String())
	var ha1 string
	if err == nil {
		err = db.QueryRow("SELECT ha1 FROM subscriber WHERE username = 'ann' AND domain = 'localhost'").Scan(&ha1)
	}
	if err != nil || ha1 != e.Credential.HA1.Hex() {
		t.Errorf("got %q, %v", ha1, err)
	}
}

// The dumps of pg_dump, and the database itself, produce the same accounts.
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

// A PostgreSQL database in another encoding produces the same texts.
func TestImportFromLatin1(t *testing.T) {
	t.Parallel()
	old := postgrestest.Shared(t).Database(t)
	conn, err := pgx.Connect(t.Context(), old)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	name := fmt.Sprintf("latin1_%d", os.Getpid())
	if _, err := conn.Exec(t.Context(), "CREATE DATABASE "+name+
		" ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"); err != nil {
		t.Fatal(err)
	}
	defer conn.Exec(context.Background(), "DROP DATABASE "+name)
	url, err := neturl.Parse(old)
	if err != nil {
		t.Fatal(err)
	}
	url.Path = "/" + name
	latin1, err := pgx.Connect(t.Context(), url.String()+"&client_encoding=UTF8")
	if err != nil {
		t.Fatal(err)
	}
	_, err = latin1.Exec(t.Context(), "CREATE TABLE subscriber (username text, password text, first_name text);"+
		"INSERT INTO subscriber VALUES ('ann', 'grün', 'Jürgen')")
	if err := errors.Join(err, latin1.Close(t.Context())); err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(t.TempDir(), "data")
	command(t, "tenant", "add", "localhost", "--data", data)
	cmd := exec.Command(binary(t), "account", "import", "env:OLD", "--format", "kamailio", "--data", data)
	cmd.Env = []string{"OLD=" + url.String()}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	got := command(t, "account", "export", "-", "--format", "csv", "--with-credentials", "--data", data)
	if !strings.Contains(got, "Jürgen") || !strings.Contains(got, digest.Compute("ann", "localhost", "grün").Hex()) {
		t.Error("the account has another name or password")
	}
}

// An interrupted import says what was done, and how to continue. Running it again completes it.
func TestInterruptedImport(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	data, file := filepath.Join(dir, "data"), filepath.Join(dir, "accounts")
	command(t, "tenant", "add", "localhost", "--data", data)
	const rows = 30_000
	var lines strings.Builder
	for i := range rows {
		fmt.Fprintf(&lines, "user%d:localhost:%032x\n", i, i)
	}
	if err := os.WriteFile(file, []byte(lines.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", "file:"+filepath.Join(data, "dialtone.db")+"?mode=ro&_pragma=busy_timeout(5000)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	count := func() (n int, err error) {
		err = db.QueryRow("SELECT count(*) FROM account").Scan(&n)
		return n, err
	}
	var out strings.Builder
	cmd := exec.Command(binary(t), "account", "import", file, "--format", "htdigest", "--data", data)
	cmd.Env, cmd.Stdout, cmd.Stderr = []string{}, &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	process.Eventually(t, "the first accounts", func() error {
		if n, err := count(); err != nil || n == 0 {
			return fmt.Errorf("%d accounts, %v", n, err)
		}
		return nil
	})
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	n, err := count()
	if err != nil || n == 0 || n == rows {
		t.Fatalf("%d accounts, %v", n, err)
	}
	want := fmt.Sprintf("dialtone: interrupted: %d accounts of %d rows were added, and stay; run the same command "+
		"again for the rest\n", n, rows)
	if cmd.ProcessState.ExitCode() != exitFailed || !strings.HasSuffix(out.String(), want) {
		t.Errorf("status %d, got %s, want %s", cmd.ProcessState.ExitCode(), out.String(), want)
	}
	if testing.Short() {
		return
	}
	report := command(t, "account", "import", file, "--format", "htdigest", "--data", data)
	if !strings.Contains(report, fmt.Sprintf("%d accounts of %d rows imported", rows-n, rows)) {
		t.Errorf("got %s", report)
	}
}

// An interrupted command does not print Go's error text.
func TestInterruptedCommands(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	data, file := filepath.Join(dir, "data"), filepath.Join(dir, "accounts")
	command(t, "tenant", "add", "localhost", "--data", data)
	if err := os.WriteFile(file, []byte("ann:localhost:0123456789abcdef0123456789abcdef\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, args := range [][]string{
		{"account", "import", file, "--format", "htdigest"}, {"account", "export", "-", "--format", "csv"},
		{"account", "list"}, {"directory", "export", "enable"},
	} {
		var out bytes.Buffer
		status := run(ctx, append(args, "--data", data), []string{}, &out, &out)
		if status == 0 || strings.Contains(out.String(), "context") {
			t.Errorf("%v: status %d, %s", args, status, &out)
		}
	}
}

// Exported accounts can be imported elsewhere unchanged, also into another kind of store.
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
