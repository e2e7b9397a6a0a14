package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

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

// as runs a command of root with variables, and returns what it prints.
func (s *service) as(environ []string, args ...string) (string, error) {
	cmd := exec.Command(binary(s.T), args...)
	cmd.Env = environ
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// Root's password file is read by every command that opens a database in the place of another user, also by those that
// only open it to copy or to restore.
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
			{"tenant", "add", "localhost"}, {"restore", "--after-database"}, {"verify"}, {"audit", "restart", "--reason", "asked"},
			{"store", "migrate"},
		} {
			if out, err := s.as(environ, args...); err != nil && !strings.Contains(out, "there is a tenant localhost already") {
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

// Keys in a directory of root's are replaced there after a restore of the database.
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
	if out, err := s.as([]string{"DIALTONE_KEYS_DIR=" + keys}, "restore", "--after-database", "--data", s.dir); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	after, err := os.ReadFile(filepath.Join(keys, "sign.key"))
	if err != nil || string(after) == string(before) {
		t.Errorf("the key for signatures was not replaced: %v", err)
	}
}

// A trail that only root can read is read, be it an export or a database. But a link of the owner of the data directory
// gives this user no copy of a database of root's.
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
