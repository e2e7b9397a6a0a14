package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	_ "modernc.org/sqlite"

	"dialtone/internal/test/postgrestest"
	"dialtone/internal/test/process"
)

// TestExportRole checks that a role can log in with a password from a file or standard input.
func TestExportRole(t *testing.T) {
	dir, ctx := t.TempDir(), t.Context()
	database := postgrestest.Shared(t).Database(t)
	command := func(stdin string, args ...string) string {
		t.Helper()
		cmd := exec.Command(binary(t), append(args, "--data", filepath.Join(dir, "data"))...)
		cmd.Env = []string{"DIALTONE_DATABASE=" + database}
		cmd.Stdin = strings.NewReader(stdin)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", args, err, out)
		}
		return string(out)
	}
	file := filepath.Join(dir, "password")
	if err := os.WriteFile(file, []byte("from a file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	command("", "tenant", "add", "phone.test")
	command("", "directory", "export", "enable")
	for password, out := range map[string]string{
		"from a file": command("",
			"directory", "export", "role", "opensips", "--name", "a", "--login", file),
		"from a pipe": command("from a pipe\n",
			"directory", "export", "role", "opensips", "--name", "b", "--login", "-"),
	} {
		role, _, _ := strings.Cut(strings.TrimPrefix(out[strings.Index(out, "the role "):], "the role "), " ")
		u, err := url.Parse(database)
		if err != nil {
			t.Fatal(err)
		}
		u.User = url.UserPassword(role, password)
		conn, err := pgx.Connect(ctx, u.String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(ctx)
		var domain string
		err = conn.QueryRow(ctx, `SELECT domain FROM domain`).Scan(&domain)
		if err != nil || domain != "phone.test" {
			t.Errorf("%s reads the domain %q, %v", role, domain, err)
		}
		if strings.Contains(out, password) {
			t.Errorf("the password is in the output:\n%s", out)
		}
	}
}

// If the database user is not allowed to create roles, the command prints the statements and fails.
func TestExportRoleWithoutPermission(t *testing.T) {
	dir, ctx := t.TempDir(), t.Context()
	database := postgrestest.Shared(t).Database(t)
	conn, err := pgx.Connect(ctx, database)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	const user = "dialtone_without_createrole"
	_, err = conn.Exec(ctx, `CREATE ROLE `+user+` LOGIN PASSWORD 'x';
		CREATE SCHEMA own AUTHORIZATION `+user+`; GRANT CREATE ON DATABASE `+conn.Config().Database+` TO `+user)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if _, err := conn.Exec(ctx, `DROP OWNED BY `+user+` CASCADE; DROP ROLE `+user); err != nil {
			t.Error(err)
		}
	}()
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(user, "x")
	q := u.Query()
	q.Set("search_path", "own")
	u.RawQuery = q.Encode()
	command := func(args ...string) (stdout, stderr string, status int) {
		var out, log strings.Builder
		cmd := exec.Command(binary(t), append(args, "--data", filepath.Join(dir, "data"))...)
		cmd.Env = []string{"DIALTONE_DATABASE=" + u.String()}
		cmd.Stdout, cmd.Stderr = &out, &log
		cmd.Run()
		return out.String(), log.String(), cmd.ProcessState.ExitCode()
	}
	for _, args := range [][]string{{"tenant", "add", "phone.test"}, {"directory", "export", "enable"}} {
		if _, log, status := command(args...); status != 0 {
			t.Fatalf("%s: %d\n%s", args, status, log)
		}
	}
	out, log, status := command("directory", "export", "role", "coturn")
	if status != exitFailed || !strings.Contains(out, "CREATE ROLE") || !strings.HasSuffix(out, ";\n") ||
		strings.Contains(log, `"audit"`) ||
		!strings.Contains(log, "dialtone: the role dialtone_coturn was not created") {
		t.Errorf("exit status %d, %s\n%s", status, out, log)
	}
}

func TestVerifyComparesExport(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	command := func(args ...string) (string, error) {
		cmd := exec.Command(binary(t), append(args, "--data", data)...)
		cmd.Env = []string{}
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	for _, args := range [][]string{
		{"tenant", "add", "phone.test"}, {"directory", "export", "enable"}, {"verify"},
	} {
		if out, err := command(args...); err != nil {
			t.Fatalf("%s: %v\n%s", args, err, out)
		}
	}
	db, err := sql.Open("sqlite", filepath.Join(data, "directory", "directory.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(`DELETE FROM realm`); err != nil {
		t.Fatal(err)
	}
	out, err := command("verify")
	const fault = "FAULT  exported tables: the domain phone.test is missing"
	if err == nil || !strings.Contains(out, fault) {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := command("directory", "export", "rebuild"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if out, err := command("verify"); err != nil {
		t.Errorf("after rebuild: %v\n%s", err, out)
	}
}

// An account whose credential cannot be decrypted is left out of the export. Others are activated,
// exported and disabled as usual, and everything that reports on the export names the account.
func TestExportWithDamagedCredential(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	data, file := filepath.Join(dir, "data"), filepath.Join(dir, "htdigest")
	p := start(t, launch{data: data, flags: []string{"--directory-htdigest=localhost=" + file}})
	command := func(want string, args ...string) {
		t.Helper()
		status, out, stderr := runCommand(t, nil, append(args, "--data", data)...)
		wantStatus := 0
		if slices.Contains(args, "status") {
			wantStatus = exitFailed
		}
		if status != wantStatus || !strings.Contains(out+stderr, want) {
			t.Errorf("dialtone %s: status %d, want %q\n%s%s", args, status, want, out, stderr)
		}
	}
	v := newVisitor(p.address, "")
	defer v.leave()
	wait := func(check func() error) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), stopWithin)
		defer cancel()
		if err := process.Poll(ctx, check); err != nil {
			t.Error(err)
		}
	}
	join := func(user string) {
		t.Helper()
		v := newVisitor(p.address, "") // a new one, because of the limit for an address
		defer v.leave()
		if a, err := v.signup(user); err != nil || !a.OK {
			t.Fatalf("%+v, %v", a, err)
		}
	}
	for _, user := range []string{"one", "two", "three"} {
		join(user)
		command("", "account", "enable", user, "--activate")
	}
	command("3 active accounts", "directory", "export", "enable")

	db, err := sql.Open("sqlite", filepath.Join(data, "dialtone.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(`UPDATE account SET credential = zeroblob(49) WHERE username = 'one'`); err != nil {
		t.Fatal(err)
	}
	command("", "account", "role", "one", "user")
	command("", "account", "disable", "two")
	join("four")
	messages, err := messagesIn(filepath.Join(data, "pickup"))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range messages {
		if m.to != email("four") {
			continue
		}
		if status, page, err := v.open(m.link); status != 200 || err != nil {
			t.Errorf("the link of another account: %d, %v\n%s", status, err, page)
		}
	}
	const name = "one of localhost ("
	for _, args := range [][]string{{"status"}, {"status", "--json"}, {"rebuild"}, {"enable"}} {
		want := "active accounts left out, because their credentials do not open: " + name
		if len(args) > 1 {
			want = `"user":"one","tenant":"localhost"`
		}
		command(want, append([]string{"directory", "export"}, args...)...)
	}
	command("2 active accounts, 1 domain\n", "directory", "export", "status")
	command(name, "directory", "htdigest", filepath.Join(dir, "once"), "--tenant", "localhost")
	if _, out, _ := runCommand(t, nil, "verify", "--data", data); !strings.Contains(out,
		"FAULT  exported tables: the entry of one@localhost is missing, because the credential") {
		t.Errorf("verify says\n%s", out)
	}
	for _, path := range []string{filepath.Join(dir, "once"), file} {
		wait(func() error {
			text, err := os.ReadFile(path)
			var users []string
			for line := range strings.Lines(string(text)) {
				user, _, _ := strings.Cut(line, ":")
				users = append(users, user)
			}
			if got := strings.Join(users, " "); got != "four three" {
				return fmt.Errorf("%s has %q, %v", path, got, err)
			}
			return nil
		})
	}
	wait(func() error {
		text, err := p.ready(http.StatusOK)
		if err == nil && (!strings.Contains(text, `"name":"export","ok":true,"warning":"active accounts left out`) ||
			!strings.Contains(text, name)) {
			err = fmt.Errorf("/readyz says %s", text)
		}
		return err
	})
	p.mustStop(t)
	if log := p.stderr.String(); strings.Count(log, `"account missing in the export`) != 1 ||
		!strings.Contains(log, `"tenant":"localhost","user":"one","account":"`) {
		t.Errorf("the log is\n%s", log)
	}
}

// The status of incomplete tables is a failure, so that cron reports it.
func TestExportStatusIncomplete(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	mustOutput(t, "tenant", "add", "phone.test", "--data", data)
	mustOutput(t, "directory", "export", "enable", "--data", data)
	db, err := sql.Open("sqlite", filepath.Join(data, "directory", "directory.db"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = db.Exec(`UPDATE state SET whole = 0`)
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	for _, format := range []string{"", "--json"} {
		args := strings.Fields("directory export status " + format + " --data " + data)
		var stdout, stderr strings.Builder
		status := run(t.Context(), args, nil, &stdout, &stderr)
		if status != exitFailed || stdout.Len() == 0 || !strings.HasPrefix(stderr.String(),
			"dialtone: the exported tables are incomplete; complete them with: dialtone directory export rebuild") {
			t.Errorf("status %d\n%s%s", status, &stdout, &stderr)
		}
	}
}

// Commands report tables that somebody has changed, and line breaks in the names of their parts
// cannot add lines to the output.
func TestCommandsReportChangedTables(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	mustOutput(t, "tenant", "add", "phone.test", "--data", data)
	mustOutput(t, "directory", "export", "enable", "--data", data)
	const forged = "no faults found"
	change := func(file, query string) {
		t.Helper()
		db, err := sql.Open("sqlite", filepath.Join(data, file))
		if err != nil {
			t.Fatal(err)
		}
		_, err = db.Exec(query)
		if err := errors.Join(err, db.Close()); err != nil {
			t.Fatal(err)
		}
	}
	change("directory/directory.db", "DROP VIEW subscriber; PRAGMA user_version = 7; "+
		"CREATE VIEW subscriber AS SELECT 'mine' AS ha1; "+
		"CREATE TRIGGER \"x\n"+forged+"\n\x1b[2K\" DELETE ON entry BEGIN SELECT RAISE(IGNORE); END")
	change("dialtone.db", "CREATE TRIGGER \"y\n"+forged+"\n\" DELETE ON account BEGIN SELECT 1; END")
	for _, c := range []struct{ args, of string }{
		{"doctor", "the view subscriber is not as dialtone created it;the trigger x; the trigger y; "},
		{"directory export status", "the view subscriber is not as dialtone created it;the trigger x; "},
		{"directory export status --json", "the view subscriber is not as dialtone created it;the trigger x\\n"},
		{"verify", "the view subscriber is not as dialtone created it;the trigger x; ;the trigger y; "},
	} {
		// Each case starts with the file as somebody has changed it.
		change("directory/directory.db", "PRAGMA user_version = 7; DROP VIEW subscriber; "+
			"CREATE VIEW subscriber AS SELECT 'mine' AS ha1")
		status, out, stderr := runCommand(t, []string{"DIALTONE_DATA=" + data, "DIALTONE_LISTEN=127.0.0.1:9",
			"DIALTONE_OPS_LISTEN=127.0.0.1:9"}, strings.Fields(c.args)...)
		if status != exitFailed || strings.Contains("\n"+out, "\n"+forged) || strings.Contains(out, "\x1b") {
			t.Errorf("%s: status %d\n%s%s", c.args, status, out, stderr)
		}
		for want := range strings.SplitSeq(c.of, ";") {
			if !strings.Contains(out, strings.TrimSpace(want)) {
				t.Errorf("%s: no %q in\n%s", c.args, want, out)
			}
		}
	}
}
