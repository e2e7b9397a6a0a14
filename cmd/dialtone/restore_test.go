package main

import (
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"dialtone/internal/test/postgrestest"
)

// restoring runs the steps of docs/backup.md.
type restoring struct {
	*testing.T
	data, backup, config, path string

	env []string
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
	// The server's user is the user of the test.
	r.must(os.WriteFile(filepath.Join(r.path, "runuser"), []byte("#!/bin/sh\nshift 2\nexec \"$@\"\n"), 0o755))
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
	document, err := os.ReadFile(filepath.Join(root, "docs", "backup.md"))
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
	cmd.Env = append([]string{"PATH=" + r.path + ":" + os.Getenv("PATH")}, r.env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		r.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}

// signup signs up a person at a server.
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
	if out := r.steps("mv dialtone.db* old/"); !strings.Contains(out, "no faults found") ||
		!strings.Contains(out, "restored the database") {
		t.Errorf("verify says\n%s", out)
	}
	p = start(t, launch{data: r.data})
	if list := shownAccounts(t, r.data); len(list) != 1 || list[0].User != "before" {
		t.Errorf("the accounts are %v", list)
	}
	r.signup(p, "later")
	p.mustStop(t)
}

// The documented steps create an encrypted archive, and restore it with the trail of the lost
// database.
func TestRestoreArchive(t *testing.T) {
	t.Parallel()
	key := newIdentity(t)
	r := newRestoring(t, "-o dialtone -g dialtone ", "", "/root/backup.identity", key.file)
	// Debian's package is not installed for this. The program is asked for a new key, and for its recipient.
	script := "#!/bin/sh\n[ \"$1\" = -o ] || echo " + key.recipient + "\n"
	r.must(os.WriteFile(filepath.Join(r.path, "age-keygen"), []byte(script), 0o755))
	p := start(t, launch{data: r.data})
	r.signup(p, "before")
	r.signup(p, "gone")
	r.steps("age-keygen")
	command(t, "account", "delete", "gone", "--data", r.data)
	r.signup(p, "after")
	p.Kill()
	out := r.steps("--trail")
	if !strings.Contains(out, "no faults found") || !strings.Contains(out, "repeated ") {
		t.Errorf("restore says\n%s", out)
	}
	if list := shownAccounts(t, r.data); len(list) != 1 || list[0].User != "before" {
		t.Errorf("the accounts are %v", list)
	}
	p = start(t, launch{data: r.data})
	r.signup(p, "later")
	p.mustStop(t)
}

// active signs up a person, activates the account, signs in, and enables the exported tables.
func (r *restoring) active(p *serverProcess, database, user string) *visitor {
	r.Helper()
	v := r.signup(p, user)
	for _, line := range []string{"account enable --activate " + user, "directory export enable"} {
		cmd := exec.Command(binary(r), strings.Fields(line)...)
		cmd.Env = []string{"DIALTONE_DATABASE=" + database, "DIALTONE_DATA=" + r.data}
		if out, err := cmd.CombinedOutput(); err != nil {
			r.Fatalf("%v\n%s", err, out)
		}
	}
	if a, err := v.signIn(user, password(user)); err != nil || !a.OK {
		r.Fatal(a, err)
	}
	if !r.signedIn(v) {
		r.Fatal("the person is not signed in")
	}
	return v
}

// filesOnly creates an archive of an installation on PostgreSQL, which contains no database, and
// restores it elsewhere.
func (r *restoring) filesOnly(database string) {
	r.Helper()
	file, to := filepath.Join(r.backup, "dialtone.tar"), filepath.Join(filepath.Dir(r.data), "another")
	for _, c := range []struct{ args, says string }{
		{"backup --archive " + file + " --config " + r.config, "not included: the PostgreSQL database"},
		{"restore " + file + " --data " + to + " --keys-dir " + filepath.Join(r.data, "keys"),
			"and then run dialtone restore --after-database"},
	} {
		cmd := exec.Command(binary(r), strings.Fields(c.args)...)
		cmd.Env = []string{"DIALTONE_DATABASE=" + database}
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), c.says) {
			r.Errorf("dialtone %s: %v\n%s", c.args, err, out)
		}
	}
	for _, name := range []string{"keys/seal.key", "keys/sign.key", "restored/dialtone.toml"} {
		if _, err := os.Stat(filepath.Join(to, name)); err != nil {
			r.Error(err)
		}
	}
}

func (r *restoring) signedIn(v *visitor) bool {
	r.Helper()
	resp, _, err := v.send("GET", "/sessions.ashx", nil, "")
	r.must(err)
	return resp.StatusCode == 200
}

// newEpoch checks that the session of a person ended, that the password works, and that the exported tables
// have one entry.
func (r *restoring) newEpoch(p *serverProcess, v *visitor, database, user string) {
	r.Helper()
	if r.signedIn(v) {
		r.Error("a session from before the restore is valid")
	}
	v.session = ""
	if a, err := v.signIn(user, password(user)); err != nil || !a.OK {
		r.Errorf("with the password: %s, %v", a, err)
	}
	cmd := exec.Command(binary(r), "directory", "export", "status", "--json")
	cmd.Env = []string{"DIALTONE_DATABASE=" + database, "DIALTONE_DATA=" + r.data}
	out, err := cmd.Output()
	if err != nil || !strings.Contains(string(out), `"entries":1,`) ||
		!strings.Contains(string(out), `"whole":true`) {
		r.Errorf("the exported tables: %s%v", out, err)
	}
}

// A base backup contains the exported tables too. The documented steps invalidate the sessions and
// links in it.
func TestRestoreBaseBackup(t *testing.T) {
	t.Parallel()
	tool, err := postgrestest.Program("pg_basebackup")
	if err != nil {
		t.Fatal(err)
	}
	cluster := postgrestest.Start(t)
	database := cluster.Database(t)
	base := filepath.Join(cluster.Dir, "base")
	r := newRestoring(t)
	r.env = []string{"DIALTONE_DATABASE=" + database}
	p := start(t, launch{data: r.data, env: r.env})
	v := r.active(p, database, "before")
	// The document's command, as the user of PostgreSQL.
	cmd := exec.Command(tool, "--dbname="+cluster.URL("postgres"), "--pgdata="+base, "--checkpoint=fast")
	cmd.Dir = cluster.Dir
	if info, err := os.Stat(filepath.Join(cluster.Dir, "data")); err != nil {
		t.Fatal(err)
	} else if owner := info.Sys().(*syscall.Stat_t); os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: owner.Uid, Gid: owner.Gid}}
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	r.signup(p, "after")
	p.Kill()
	r.must(cluster.Stop())
	r.must(os.Rename(filepath.Join(cluster.Dir, "data"), filepath.Join(cluster.Dir, "lost")))
	r.must(os.Rename(base, filepath.Join(cluster.Dir, "data")))
	r.must(cluster.Begin())
	out := r.steps("dialtone verify --config")
	if !strings.Contains(out, "no faults found") || !strings.Contains(out, "1 account") {
		t.Errorf("restore and verify say\n%s", out)
	}
	p = start(t, launch{data: r.data, listen: p.address, env: r.env})
	r.newEpoch(p, v, database, "before")
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
		"postgres://postgres@db.example.org/postgres --owner=dialtone", "'"+old+"'",
		"postgres://dialtone@db.example.org/restored", "'"+u.String()+"'", " restored\n", " "+name+"\n")
	r.path += ":" + filepath.Dir(dump)
	p := start(t, launch{data: r.data, env: []string{"DIALTONE_DATABASE=" + old}})
	v := r.active(p, old, "before")
	r.steps("pg_dump --format=custom --file")
	r.filesOnly(old)
	r.signup(p, "after")
	p.Kill()
	out := r.steps("pg_restore")
	if !strings.Contains(out, "no faults found") || !strings.Contains(out, "restored the database") {
		t.Errorf("verify says\n%s", out)
	}
	p = start(t, launch{data: r.data, listen: p.address, env: []string{"DIALTONE_DATABASE=" + u.String()}})
	r.newEpoch(p, v, u.String(), "before")
	cmd := exec.Command(binary(t), "account", "list")
	cmd.Env = []string{"DIALTONE_DATABASE=" + u.String(), "DIALTONE_DATA=" + r.data}
	list, err := cmd.Output()
	if err != nil || !strings.Contains(string(list), "\nbefore ") || strings.Contains(string(list), "\nafter ") {
		t.Errorf("the accounts are\n%s%v", list, err)
	}
	r.signup(p, "later")
	p.mustStop(t)
}

// A restore by root writes no keys and no messages to places that another user can redirect.
func TestRestoreWhereOthersLead(t *testing.T) {
	t.Parallel()
	s := newService(t)
	above := filepath.Dir(s.dir)
	archive := filepath.Join(above, "backup.tar")
	victim, home := filepath.Join(above, "victim"), filepath.Join(above, "home")
	s.command("tenant", "add", "localhost")
	s.command("backup", "--archive", archive, "--with-keys", "--plain-keys")
	s.must(os.Mkdir(victim, 0o755))
	s.must(os.Mkdir(home, 0o755))
	s.must(os.Mkdir(filepath.Join(home, "keys"), 0o755))
	s.must(os.Chown(home, serviceUser, serviceGroup))
	s.link(victim, filepath.Join(home, "link"))
	data := filepath.Join(above, "restored")
	for _, variable := range []string{
		"DIALTONE_KEYS_DIR=" + filepath.Join(home, "link"), "DIALTONE_KEYS_DIR=" + filepath.Join(home, "keys"),
		"DIALTONE_KEYS_DIR=" + filepath.Join(home, "new"),
		"DIALTONE_MAIL_PICKUP_DIR=" + filepath.Join(home, "link", "pickup"),
	} {
		status, out, stderr := runCommand(t, []string{variable}, "restore", archive, "--data", data)
		if status != exitConfig || !strings.Contains(stderr, "to whom "+home+" belongs, can replace it") {
			t.Errorf("%s: status %d, %s%s", variable, status, out, stderr)
		}
		if list, err := os.ReadDir(victim); err != nil || len(list) > 0 {
			t.Errorf("%s: written to the directory of root's: %v, %v", variable, list, err)
		}
		if _, err := os.Lstat(data); err == nil {
			t.Errorf("%s: the data directory was created", variable)
			s.must(os.RemoveAll(data))
		}
	}
	ready := filepath.Join(above, "ready") // as after an installation before, in a directory of root's
	s.must(os.Mkdir(ready, 0o700))
	s.must(os.Chown(ready, serviceUser, serviceGroup))
	status, out, stderr := runCommand(t, []string{"DIALTONE_KEYS_DIR=" + ready}, "restore", archive, "--data", data)
	if status != 0 {
		t.Errorf("into a directory of the server's user: status %d, %s%s", status, out, stderr)
	}
}
