package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"dialtone/cmd/dialtone/internal/finding"
	"dialtone/internal/test/postgrestest"
)

// withPassFile returns the URL of a database without its password, which is in a file that only root can read.
func (s *service) withPassFile(url, name string) (bare, file string) {
	s.Helper()
	m := regexp.MustCompile(`^(postgres://[^:]+):([^@]+)(@.*)$`).FindStringSubmatch(url)
	if m == nil {
		s.Fatal("the URL of the test database has no password")
	}
	file = filepath.Join(filepath.Dir(s.dir), "private", name)
	s.must(os.MkdirAll(filepath.Dir(file), 0o700))
	s.must(os.WriteFile(file, []byte("*:*:*:*:"+m[2]+"\n"), 0o600))
	return m[1] + m[3], file
}

// as runs a command as root with variables, and returns its output.
func (s *service) as(environ []string, args ...string) (string, error) {
	cmd := exec.Command(binary(s.T), args...)
	cmd.Env = environ
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// Every command that opens a database on behalf of another user reads root's password file,
// including commands that open it only to copy or to restore.
func TestPasswordFileOfRoot(t *testing.T) {
	t.Parallel()
	s := newService(t)
	cluster := postgrestest.Shared(t)
	url, file := s.withPassFile(cluster.Database(t), "pgpass")
	inURL := url + "&passfile=" + file
	for _, environ := range [][]string{
		{"DIALTONE_DATABASE=" + url, "PGPASSFILE=" + file, "DIALTONE_DATA=" + s.dir},
		{"DIALTONE_DATABASE=" + inURL, "DIALTONE_DATA=" + s.dir},
	} {
		for _, args := range [][]string{
			{"tenant", "add", "localhost"}, {"restore", "--after-database"}, {"verify"}, {"store", "migrate"},
			{"audit", "restart", "--reason", "asked"},
		} {
			out, err := s.as(environ, args...)
			if err != nil && !strings.Contains(out, "there is a tenant localhost already") {
				t.Errorf("%q: %v, %s", args, err, out)
			}
		}
	}
	s.owned()
	other := newService(t)
	other.command("tenant", "add", "localhost")
	target, file := other.withPassFile(cluster.Database(t), "pgpass")
	for _, flag := range []string{"", "--compare"} {
		args := []string{"store", "copy", "--from", "sqlite:" + filepath.Join(other.dir, "dialtone.db"), "--to", target}
		if flag != "" {
			args = append(args, flag)
		}
		if out, err := s.as([]string{"PGPASSFILE=" + file}, args...); err != nil {
			t.Errorf("%q: %v, %s", args, err, out)
		}
	}
}

// After a restore of the database, keys in a directory owned by root are replaced there.
func TestRestoreAfterDatabaseWithKeysOfRoot(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.command("tenant", "add", "localhost")
	s.start().mustStop(t) // makes sign.key
	keys := filepath.Join(filepath.Dir(s.dir), "keys")
	s.must(os.Rename(filepath.Join(s.dir, "keys"), keys))
	for _, path := range []string{keys, filepath.Join(keys, "seal.key"), filepath.Join(keys, "sign.key")} {
		s.must(os.Chown(path, 0, 0))
	}
	before, err := os.ReadFile(filepath.Join(keys, "sign.key"))
	s.must(err)
	out, err := s.as([]string{"DIALTONE_KEYS_DIR=" + keys}, "restore", "--after-database", "--data", s.dir)
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	after, err := os.ReadFile(filepath.Join(keys, "sign.key"))
	if err != nil || string(after) == string(before) {
		t.Errorf("the key for signatures was not replaced: %v", err)
	}
}

// A restore by root reads a trail that only root can read, from an export and from a database. It
// does not copy a database of root for the owner of the data directory, who has put a link to it
// there.
func TestTrailOfRoot(t *testing.T) {
	t.Parallel()
	s := newService(t)
	private := filepath.Join(filepath.Dir(s.dir), "private")
	s.must(os.Mkdir(private, 0o700))
	file := func(name string) string { return filepath.Join(private, name) }
	s.command("tenant", "add", "localhost")
	s.command("backup", "--archive", file("backup.tar"), "--with-keys", "--plain-keys")
	s.command("tenant", "set", "localhost", "--product", "Later")
	s.must(os.WriteFile(file("trail.jsonl"), []byte(s.command("audit", "export")), 0o600))
	s.command("backup", file("lost.db"))
	s.must(os.Chmod(file("lost.db"), 0o600))
	planted := filepath.Join(filepath.Dir(s.dir), "planted")
	s.must(os.Symlink(file("lost.db"), planted))
	s.must(os.Lchown(planted, serviceUser, serviceGroup))
	for _, trail := range []string{file("trail.jsonl"), file("lost.db"), planted} {
		s.must(os.RemoveAll(s.dir))
		s.must(os.Mkdir(s.dir, 0o751))
		s.must(os.Chown(s.dir, serviceUser, serviceGroup))
		out, err := s.as(nil, "restore", file("backup.tar"), "--trail", trail, "--data", s.dir)
		if trail == planted {
			if err == nil || !strings.Contains(out, "permission denied; give the file") {
				t.Errorf("with a link to a database of root's: %v, %s", err, out)
			}
			continue
		}
		if err != nil || !strings.Contains(out, "not repeated ") {
			t.Errorf("%s: %v, %s", trail, err, out)
		}
		s.owned()
	}
}

// init (before it writes anything), config check and doctor name a password file that the server's
// user cannot read, or that everybody can read. A variable of the command may have another value
// for the server.
func TestPasswordFileForServer(t *testing.T) {
	t.Parallel()
	s := newService(t)
	url, file := s.withPassFile(postgrestest.Shared(t).Database(t), "pgpass")
	inURL := url + "&passfile=" + file
	etc := filepath.Join(filepath.Dir(s.dir), "etc")
	setup := []string{
		"init", "--yes", "--host", "phone.test", "--admin", "ann", "--email", "ann@phone.test", "--config",
		filepath.Join(etc, "dialtone.toml"), "--data", s.dir,
	}
	const denied = " cannot read "
	refused := func(says string) {
		t.Helper()
		out, err := s.as([]string{"DIALTONE_DATABASE=" + inURL}, setup...)
		if err == nil || !strings.Contains(out, "nothing was changed: passfile in database: ") ||
			!strings.Contains(out, says) {
			t.Errorf("%v, want %q: %s", err, says, out)
		}
		if _, err := os.Stat(etc); err == nil {
			t.Fatal("it has written something")
		}
	}
	noted := func(level finding.Level, says string, environ ...string) {
		t.Helper()
		environ = append(environ, "DIALTONE_DATA="+s.dir, "DIALTONE_OPS_LISTEN=127.0.0.1:9",
			"DIALTONE_LISTEN=127.0.0.1:9")
		out, err := s.as(environ, "config", "check")
		if err != nil || !strings.Contains(out, "note: ") || !strings.Contains(out, says) {
			t.Errorf("config check: %v, want %q: %s", err, says, out)
		}
		wantFinding(t, examined(t, environ...), level, "files", says)
	}
	private := filepath.Dir(file)
	refused(denied + file + ": the owner and mode of " + private + " do not allow it; correct owner and mode of ")
	noted(finding.Fault, denied+file, "DIALTONE_DATABASE="+inURL)
	s.must(os.Chmod(private, 0o755))
	refused("do not allow it; run as root: chown nobody " + file + " &&")
	noted(finding.Fault, denied+file, "DIALTONE_DATABASE="+inURL)
	noted(finding.Warning, denied+file, "DIALTONE_DATABASE="+url, "PGPASSFILE="+file)
	s.must(os.Chmod(file, 0o644))
	const public = "every user of this machine can read "
	refused(public + file)
	noted(finding.Fault, public+file, "DIALTONE_DATABASE="+inURL)

	s.must(os.Chmod(file, 0o600))
	out, err := s.as([]string{"DIALTONE_DATABASE=" + url, "PGPASSFILE=" + file}, setup...)
	if err != nil || !strings.Contains(out, "The user nobody cannot read "+file+", so give the server another PGPASS") {
		t.Errorf("init with a variable: %v: %s", err, out)
	}
	s.must(os.Chown(file, serviceUser, serviceGroup))
	for _, f := range examined(t, "DIALTONE_DATABASE="+inURL, "DIALTONE_DATA="+s.dir) {
		if strings.Contains(f.Cause, file) {
			t.Errorf("the server can read it: %+v", f)
		}
	}
}
