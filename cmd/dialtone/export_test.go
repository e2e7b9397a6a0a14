package main

import (
	"database/sql"
	"errors"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	_ "modernc.org/sqlite"

	"dialtone/internal/test/postgrestest"
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

// A database user who may not create roles gets the statements, and the command fails.
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
