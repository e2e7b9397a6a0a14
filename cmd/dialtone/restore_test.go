package main

import (
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"dialtone/internal/test/postgrestest"
)

// restoring runs the steps of docs/operating.md.
type restoring struct {
	*testing.T
	data, backup, config, path string
	// replace has what the document says, and what it is in the test.
	replace *strings.Replacer
}

func newRestoring(t *testing.T, replace ...string) *restoring {
	t.Helper()
	dir := t.TempDir()
	r := &restoring{
		T: t, data: filepath.Join(dir, "data"), backup: filepath.Join(dir, "backup"),
		config: filepath.Join(dir, "dialtone.toml"), path: filepath.Join(dir, "bin"),
	}
	r.replace = strings.NewReplacer(append(replace,
		"/var/lib/dialtone", r.data, "/backup", r.backup, "/etc/dialtone.toml", r.config)...)
	r.must(os.Mkdir(r.path, 0o755))
	r.must(os.Mkdir(r.backup, 0o700))
	r.must(os.Symlink(binary(t), filepath.Join(r.path, "dialtone")))
	r.must(os.WriteFile(filepath.Join(r.path, "systemctl"), []byte("#!/bin/sh\n"), 0o755))
	r.must(os.WriteFile(r.config, []byte("data = \""+r.data+"\"\n"), 0o600))
	return r
}

func (r *restoring) must(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

// steps runs the code block of the document that contains a text.
func (r *restoring) steps(containing string) string {
	r.Helper()
	document, err := os.ReadFile(filepath.Join(root, "docs", "operating.md"))
	r.must(err)
	var found []string
	for _, m := range codeBlock.FindAllStringSubmatch(string(document), -1) {
		if strings.Contains(m[1], containing) {
			found = append(found, m[1])
		}
	}
	if len(found) != 1 {
		r.Fatalf("%d code blocks contain %s", len(found), containing)
	}
	cmd := exec.Command("bash", "-euxc", r.replace.Replace(found[0]))
	cmd.Env = []string{"PATH=" + r.path + ":" + os.Getenv("PATH")}
	out, err := cmd.CombinedOutput()
	if err != nil {
		r.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}

// signup signs a person up at a server.
func (r *restoring) signup(p *serverProcess, user string) *visitor {
	r.Helper()
	v := newVisitor(p.address, "")
	r.Cleanup(v.leave)
	if a, err := v.signup(user); err != nil || !a.OK {
		r.Fatalf("%v, %v", a, err)
	}
	return v
}

// The documented steps restore a backup over a database that a killed server left with its WAL.
func TestRestoreSQLite(t *testing.T) {
	t.Parallel()
	r := newRestoring(t)
	p := start(t, launch{data: r.data})
	r.signup(p, "before")
	mustOutput(t, "backup", filepath.Join(r.backup, "dialtone.db"), "--data", r.data)
	seal := filepath.Join(r.data, "keys", "seal.key")
	text, err := os.ReadFile(seal)
	r.must(err)
	r.must(os.WriteFile(filepath.Join(r.backup, "seal.key"), text, 0o600))
	r.signup(p, "after")
	p.Kill()
	if info, err := os.Stat(filepath.Join(r.data, "dialtone.db-wal")); err != nil || info.Size() == 0 {
		t.Fatalf("the server left no WAL: %v", err)
	}
	r.must(os.RemoveAll(filepath.Join(r.data, "keys")))
	if out := r.steps("mv dialtone.db* old/"); !strings.Contains(out, "no faults found") {
		t.Errorf("verify says\n%s", out)
	}
	p = start(t, launch{data: r.data})
	if list := shownAccounts(t, r.data); len(list) != 1 || list[0].User != "before" {
		t.Errorf("the accounts are %v", list)
	}
	r.signup(p, "later")
	p.mustStop(t)
}

func TestRestorePostgres(t *testing.T) {
	t.Parallel()
	dump, err := postgrestest.Program("pg_dump")
	if err != nil {
		t.Fatal(err)
	}
	old := postgrestest.Shared(t).Database(t)
	u, err := url.Parse(old)
	if err != nil {
		t.Fatal(err)
	}
	u.Path += "_restored"
	name := u.Path[1:]
	r := newRestoring(t, "postgres://dialtone@db.example.org/dialtone", "'"+old+"'",
		"postgres://dialtone@db.example.org/restored", "'"+u.String()+"'", " restored\n", " "+name+"\n")
	r.path += ":" + filepath.Dir(dump)
	p := start(t, launch{data: r.data, env: []string{"DIALTONE_DATABASE=" + old}})
	r.signup(p, "before")
	r.steps("pg_dump --format=custom --file")
	r.signup(p, "after")
	p.Kill()
	if out := r.steps("pg_restore"); !strings.Contains(out, "no faults found") {
		t.Errorf("verify says\n%s", out)
	}
	p = start(t, launch{data: r.data, env: []string{"DIALTONE_DATABASE=" + u.String()}})
	cmd := exec.Command(binary(t), "account", "list")
	cmd.Env = []string{"DIALTONE_DATABASE=" + u.String(), "DIALTONE_DATA=" + r.data}
	out, err := cmd.Output()
	if err != nil || !strings.Contains(string(out), "\nbefore ") || strings.Contains(string(out), "\nafter ") {
		t.Errorf("the accounts are\n%s%v", out, err)
	}
	r.signup(p, "later")
	p.mustStop(t)
}
