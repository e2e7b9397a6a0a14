package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"dialtone/internal/test/postgrestest"
)

// withRole returns the URL of a database for a new role that owns nothing in it.
func withRole(t *testing.T, cluster *postgrestest.Cluster, url, role string) string {
	t.Helper()
	cluster.Exec(t, url, fmt.Sprintf(`CREATE ROLE %s LOGIN PASSWORD 'a';
		REVOKE CREATE ON SCHEMA public FROM PUBLIC`, role))
	t.Cleanup(func() {
		cluster.Exec(t, url, fmt.Sprintf(`ALTER SCHEMA public OWNER TO postgres; REASSIGN OWNED BY %s TO postgres;
			DROP OWNED BY %[1]s CASCADE; DROP ROLE %[1]s`, role))
	})
	return regexp.MustCompile(`//[^@]*@`).ReplaceAllString(url, "//"+role+":a@")
}

// Without the right to create tables, init writes nothing and says what to run. After that, it
// works. It uses the remains of an interrupted run without a warning, but not the keys of an
// earlier store.
func TestInitWithoutRights(t *testing.T) {
	t.Parallel()
	cluster := postgrestest.Shared(t)
	admin := cluster.Database(t)
	url := withRole(t, cluster, admin, "norights")
	dir := t.TempDir()
	data := filepath.Join(dir, "data")
	setup := func(url string) (string, error) {
		cmd := exec.Command(binary(t), "init", "--yes", "--host", "phone.test", "--admin", "ann", "--email",
			"ann@phone.test", "--user", me(t), "--config", filepath.Join(dir, "dialtone.toml"), "--data", data)
		cmd.Env = []string{"DIALTONE_DATABASE=" + url}
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	out, err := setup(url)
	grant := regexp.MustCompile(`GRANT CREATE ON SCHEMA public TO norights`).FindString(out)
	if err == nil || !strings.Contains(out, "nothing was changed: the database's role may not create tables: ") ||
		grant == "" || !strings.Contains(out, "ALTER DATABASE test_") {
		t.Fatalf("%v: %s", err, out)
	}
	if list, err := os.ReadDir(dir); err != nil || len(list) > 0 {
		t.Errorf("%v: there is %v", err, list)
	}
	// A command that creates a store does not create keys for it either.
	status, _, stderr := runCommand(t, []string{"DIALTONE_DATABASE=" + url}, "tenant", "add", "phone.test",
		"--data", data)
	if _, err := os.Stat(data); status != exitConfig || !strings.Contains(stderr, grant) || err == nil {
		t.Errorf("tenant add: status %d, %v: %s", status, err, stderr)
	}
	cluster.Exec(t, admin, grant)
	if out, err = setup(url); err != nil || strings.Contains(out, "keys of an earlier one") {
		t.Fatalf("with the right: %v: %s", err, out)
	}
	// As if the run had ended after it created the keys.
	cluster.Exec(t, admin, "DROP SCHEMA public CASCADE; CREATE SCHEMA public; "+
		"GRANT USAGE ON SCHEMA public TO norights; "+grant)
	if out, err = setup(url); err != nil || strings.Contains(out, "keys of an earlier one") {
		t.Errorf("the second run: %v: %s", err, out)
	}
	other := cluster.Database(t)
	if err := os.Remove(filepath.Join(dir, "dialtone.toml")); err != nil {
		t.Fatal(err)
	}
	if out, err = setup(other); err != nil ||
		!strings.Contains(out, "warning: store created though there are keys of an earlier one; if accounts") {
		t.Errorf("with keys of an earlier store: %v: %s", err, out)
	}
}
