package main

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"dialtone/internal/test/postgrestest"
)

// A platform moves from SQLite to PostgreSQL and back with dialtone store copy.
func TestStoreCopyMovesPlatform(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	data := func(name string) string { return filepath.Join(dir, name) }
	url := postgrestest.Shared(t).Database(t)
	run := func(env []string, args ...string) (string, error) {
		cmd := exec.Command(binary(t), args...)
		cmd.Env = env
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	p := start(t, launch{data: data("one")})
	_, port, _ := strings.Cut(p.address, ":")
	listen := "127.0.0.1:" + port // it is part of the links
	v := newVisitor(p.address, "")
	defer v.leave()
	for _, user := range []string{"ann", "bob"} {
		if a, err := v.signup(user); err != nil || !a.OK {
			t.Fatalf("%v, %v", a, err)
		}
	}
	links := make(map[string]message)
	list, err := messagesIn(filepath.Join(data("one"), "pickup"))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range list {
		links[m.to] = m
	}
	if status, _, err := v.open(links[email("ann")].link); err != nil || status != http.StatusOK {
		t.Fatalf("ann's link: status %d, %v", status, err)
	}
	database := "sqlite:" + filepath.Join(data("one"), "dialtone.db")
	if out, err := run(nil, "store", "copy", "--from", database, "--to", "env:TO"); err == nil ||
		!strings.Contains(out, "TO is not set") {
		t.Errorf("an unset variable: %v, %s", err, out)
	}
	if out, err := run([]string{"TO=" + url}, "store", "copy", "--from", database, "--to",
		"env:TO"); err == nil || !strings.Contains(out, "another server runs") {
		t.Errorf("while the server runs: %v, %s", err, out)
	}
	if out, err := run(nil, "store", "copy", "--from", database, "--to", url); err == nil ||
		!strings.Contains(out, "password") {
		t.Errorf("with a password on the command line: %v, %s", err, out)
	}
	p.mustStop(t)
	v.leave()

	out, err := run([]string{"TO=" + url}, "store", "copy", "--from", database, "--to", "env:TO")
	if err != nil || !strings.Contains(out, "all rows were copied and compared") {
		t.Fatalf("%v\n%s", err, out)
	}
	if out, err := run([]string{"TO=" + url}, "store", "copy", "--compare", "--from", database,
		"--to", "env:TO"); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	shared := launch{data: data("two"), listen: listen, env: []string{"DIALTONE_DATABASE=" + url}}
	if out, err := run(shared.env, "--data", data("two"), "tenant", "list"); err == nil ||
		!strings.Contains(out, "seal.key is missing") {
		t.Errorf("without the keys: %v, %s", err, out)
	}
	if err := os.CopyFS(filepath.Join(data("two"), "keys"),
		os.DirFS(filepath.Join(data("one"), "keys"))); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", "seal.key", "sign.key"} {
		if err := os.Chmod(filepath.Join(data("two"), "keys", name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	p = start(t, shared)
	signIn := func(user string) func() (int, error) {
		return func() (int, error) {
			a, err := v.signIn(user, password(user))
			return a.Status, err
		}
	}
	signup := func(user string) func() (int, error) {
		return func() (int, error) {
			a, err := v.signup(user)
			return a.Status, err
		}
	}
	open := func(user string) func() (int, error) {
		return func() (int, error) {
			status, _, err := v.open(links[email(user)].link)
			return status, err
		}
	}
	for _, step := range []struct {
		name string
		do   func() (int, error)
		want int
	}{
		{"ann signs in", signIn("ann"), http.StatusOK},
		{"bob opens his link", open("bob"), http.StatusOK},
		{"bob signs in", signIn("bob"), http.StatusOK},
		{"eve signs up, the third from this address", signup("eve"), http.StatusOK},
		{"ida is refused, the fourth from this address", signup("ida"), http.StatusTooManyRequests},
	} {
		if got, err := step.do(); err != nil || got != step.want {
			t.Errorf("%s: status %d, %v; want %d", step.name, got, err, step.want)
		}
	}
	if out, err := run(shared.env, "--data", data("two"), "verify"); err != nil ||
		!strings.Contains(out, "no faults found") {
		t.Errorf("verify: %v\n%s", err, out)
	}
	if out, err := run(shared.env, "--data", data("two"), "store", "migrate"); err != nil ||
		!strings.Contains(out, "the schema has version") {
		t.Errorf("migrate: %v\n%s", err, out)
	}
	if out, err := run(shared.env, "--data", data("two"), "backup",
		filepath.Join(dir, "x")); err == nil || !strings.Contains(out, "pg_dump") {
		t.Errorf("backup: %v\n%s", err, out)
	}
	if out, err := run([]string{"FROM=" + url}, "store", "copy", "--from", "env:FROM", "--to",
		"sqlite:"+filepath.Join(data("two"), "dialtone.db")); err == nil {
		t.Errorf("a copy was made while a server runs on PostgreSQL:\n%s", out)
	}
	p.mustStop(t)
	v.leave()

	if err := os.Remove(filepath.Join(data("two"), "dialtone.db")); err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	if out, err := run([]string{"FROM=" + url}, "store", "copy", "--from", "env:FROM", "--to",
		"sqlite:"+filepath.Join(data("two"), "dialtone.db")); err != nil {
		t.Fatalf("copying back: %v\n%s", err, out)
	}
	start(t, launch{data: data("two"), listen: listen})
	for _, user := range []string{"ann", "bob"} {
		if a, err := v.signIn(user, password(user)); err != nil || a.Status != http.StatusOK {
			t.Errorf("%s signs in on SQLite again: %v, %v", user, a, err)
		}
	}
}
