package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"dialtone/cmd/dialtone/internal/finding"
	"dialtone/internal/test/process"
)

// When root restores into an absent directory within a directory of the service's user, the command
// works as that user from the start. So a plan that this user puts there in the meantime cannot
// redirect it; here it is the restore's own plan.
func TestRestoreIntoAbsentDirectory(t *testing.T) {
	s := newService(t)
	above := filepath.Dir(s.dir)
	ofRoot, home := filepath.Join(above, "root"), filepath.Join(above, "home")
	s.must(os.Mkdir(ofRoot, 0o755))
	s.command("tenant", "add", "localhost")
	backup := filepath.Join(ofRoot, "backup.tar")
	s.command("backup", "--archive", backup, "--with-keys", "--plain-keys")
	s.must(os.Mkdir(home, 0o755))
	s.must(os.Chown(home, serviceUser, serviceGroup))
	data, keys := filepath.Join(home, "data"), filepath.Join(ofRoot, "keys")
	status, out, stderr := runCommand(t, []string{"DIALTONE_KEYS_DIR=" + keys}, "restore", backup, "--data", data)
	if _, err := os.Lstat(keys); err == nil || status == 0 || !strings.Contains(stderr, "permission denied") {
		t.Errorf("status %d, and root has created a directory for the user (%v): %s%s", status, err, out, stderr)
	}
	s.must(os.RemoveAll(data))
	mustOutput(t, "restore", backup, "--data", data)
	for _, path := range []string{data, filepath.Join(data, "dialtone.db"), filepath.Join(data, "keys", "seal.key")} {
		info, err := os.Stat(path)
		if err != nil || info.Sys().(*syscall.Stat_t).Uid != serviceUser {
			t.Errorf("%s: %v, %v", path, info, err)
		}
	}
}

// A data directory that root owns but another user can replace is not used.
func TestDirectoryThatOthersReplace(t *testing.T) {
	s := newService(t)
	above := filepath.Dir(s.dir)
	ofRoot, home := filepath.Join(above, "root"), filepath.Join(above, "home")
	s.must(os.Mkdir(ofRoot, 0o755))
	s.must(os.Mkdir(home, 0o755))
	s.must(os.Chown(home, serviceUser, serviceGroup))
	link := filepath.Join(home, "data")
	s.must(os.Symlink(ofRoot, link))
	s.must(os.Lchown(link, serviceUser, serviceGroup))
	status, _, stderr := runCommand(t, []string{}, "tenant", "add", "localhost", "--data", link)
	if want := "the user 65534, to whom " + home + " belongs, can replace it"; status != exitConfig ||
		!strings.Contains(stderr, want) {
		t.Errorf("status %d, %s", status, stderr)
	}
	if left, err := os.ReadDir(ofRoot); err != nil || len(left) > 0 {
		t.Errorf("in the directory of root's: %v, %v", left, err)
	}
}

// Commands fail with an error for pipes in place of files, and do not wait for them.
func TestPipesInPlaceOfFiles(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	mustOutput(t, "tenant", "add", "localhost", "--data", data)
	mustOutput(t, "directory", "export", "enable", "--data", data)
	pipe := filepath.Join(filepath.Dir(data), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	ends := func(about string, args ...string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		cmd := exec.CommandContext(ctx, binary(t), args...)
		cmd.Env = []string{}
		out, err := cmd.CombinedOutput()
		if ctx.Err() != nil || err == nil || !strings.Contains(string(out), "it is a named pipe") {
			t.Errorf("%s: %v, %v, %s", about, ctx.Err(), err, out)
		}
	}
	for _, name := range []string{
		"dialtone.db", "dialtone.db-journal", "dialtone.db-wal", "keys/seal.key", "directory/directory.db",
	} {
		path := filepath.Join(data, name)
		err := os.Rename(path, path+".aside")
		missing := errors.Is(err, os.ErrNotExist)
		if err != nil && !missing {
			t.Fatal(err)
		}
		if err := os.Link(pipe, path); err != nil {
			t.Fatal(err)
		}
		ends(name, "directory", "export", "rebuild", "--data", data)
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if !missing {
			if err := os.Rename(path+".aside", path); err != nil {
				t.Fatal(err)
			}
		}
	}
	ends("configuration", "config", "check", "--config", pipe)
	ends("import", "account", "import", pipe, "--format", "csv", "--data", data)
	ends("archive", "restore", pipe, "--data", filepath.Join(t.TempDir(), "new"))
	mustOutput(t, "directory", "export", "rebuild", "--data", data)
}

// A command that waits for its input exits at the second signal.
func TestSecondSignal(t *testing.T) {
	t.Parallel()
	temp, data := t.TempDir(), filepath.Join(t.TempDir(), "data")
	mustOutput(t, "tenant", "add", "localhost", "--data", data)
	cmd := exec.Command(binary(t), "account", "import", "-", "--format", "csv", "--data", data)
	cmd.Env = []string{"TMPDIR=" + temp}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	p, err := process.Start(cmd, syscall.SIGKILL)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Kill()
	waitUntil(t, func() bool {
		list, err := os.ReadDir(temp)
		return err == nil && len(list) > 0
	})
	waitUntil(t, func() bool {
		_ = syscall.Kill(p.Pid(), syscall.SIGTERM)
		return p.Ended()
	})
	if p.ExitCode() != 128+int(syscall.SIGTERM) {
		t.Errorf("exit status %d", p.ExitCode())
	}
}

// doctor and config check report secrets that everybody can read, and doctor reports links in place
// of files.
func TestDoctorNamesOpenSecretsAndLinks(t *testing.T) {
	t.Parallel()
	s := newService(t)
	above := filepath.Dir(s.dir)
	s.command("tenant", "add", "localhost")
	s.command("directory", "export", "enable")
	users := filepath.Join(above, "users")
	s.command("directory", "htdigest", users)
	password, config := filepath.Join(above, "password"), filepath.Join(above, "dialtone.toml")
	s.must(os.WriteFile(password, []byte("secret"), 0o600))
	s.must(os.WriteFile(config, []byte(fmt.Sprintf("data = %q\nlisten = \"127.0.0.1:9\"\n"+
		"[ops]\nlisten = \"127.0.0.1:9\"\n[mail]\n"+
		"relay = \"smtp://user@127.0.0.1:9\"\nrelay_password_file = %q\n", s.dir, password)), 0o600))
	s.must(os.Chown(password, serviceUser, serviceGroup))
	s.must(os.Chown(config, serviceUser, serviceGroup))
	database := filepath.Join(s.dir, "dialtone.db")
	exported := filepath.Join(s.dir, "directory", "directory.db")
	files := []string{database, password, exported, users}
	open := func() (count int, list []finding.Finding) {
		list = examined(t, "DIALTONE_CONFIG="+config)
		for _, f := range list {
			if f.Level == finding.Fault && strings.HasPrefix(f.Cause, "every user of this machine can read ") {
				count++
			}
		}
		return count, list
	}
	if n, list := open(); n > 0 {
		t.Errorf("before: %+v", list)
	}
	for _, path := range files {
		s.must(os.Chmod(path, 0o644))
	}
	_, list := open()
	for _, path := range files[:2] {
		wantFinding(t, list, finding.Fault, "files", "every user of this machine can read "+path+", which has ")
	}
	// The directory of the exported tables is closed.
	wantFinding(t, list, finding.Fault, "export", "every user of this machine can read "+users+", which has ")
	s.must(os.Chmod(filepath.Dir(exported), 0o755))
	n, list := open()
	wantFinding(t, list, finding.Fault, "export", "every user of this machine can read "+exported+", which has ")
	if n != len(files) {
		t.Errorf("%d findings: %+v", n, list)
	}
	_, _, stderr := runCommand(t, []string{}, "config", "check", "--config", config)
	for _, path := range files[:2] {
		if !strings.Contains(stderr, "note: every user of this machine can read "+path+", which has ") {
			t.Errorf("config check does not name %s: %s", path, stderr)
		}
	}
	url := "postgres://dialtone:secret@127.0.0.1:9/dialtone"
	s.must(os.WriteFile(config, []byte(fmt.Sprintf("data = %q\ndatabase = %q\n", s.dir, url)), 0o600))
	s.must(os.Chmod(config, 0o644))
	_, list = open()
	wantFinding(t, list, finding.Fault, "files", "every user of this machine can read "+config+
		", which has the password of the database")

	keys := filepath.Join(s.dir, "keys")
	s.must(os.Rename(keys, filepath.Join(above, "keys")))
	s.must(os.Symlink(filepath.Join(above, "keys"), keys))
	wantFinding(t, examined(t, "DIALTONE_DATA="+s.dir), finding.Warning, "files", keys+" is a link of the user root")
	turnKey := filepath.Join(keys, "turn.key")
	for _, path := range []string{turnKey, keys, exported, database} {
		s.must(os.RemoveAll(path))
		s.must(os.Symlink(filepath.Join(above, "other"), path))
		s.must(os.Lchown(path, serviceUser, serviceGroup))
		s.must(os.WriteFile(filepath.Join(above, "other"), []byte("of somebody else"), 0o644))
		list := examined(t, "DIALTONE_DATA="+s.dir)
		wantFinding(t, list, finding.Fault, "files", path+" is a link of the user nobody to ")
		for _, f := range list {
			if strings.Contains(f.Next, "chmod") && strings.Contains(f.Next, strconv.Quote(path)) {
				t.Errorf("it says to change the mode of what a link leads to: %+v", f)
			}
		}
	}
}

// Another program that listens in place of the server cannot add lines to the output.
func TestHealthPrintsOneLineForEachCheck(t *testing.T) {
	t.Parallel()
	fake := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"checks":[{"name":"a\nready","ok":false,"error":"b\nready"},`+
			`{"name":"c","ok":true,"warning":"d\nready"}]}`)
	}))
	defer fake.Close()
	_, out, _ := runCommand(t, []string{"DIALTONE_OPS_LISTEN=" + fake.Listener.Addr().String()}, "health")
	if want := "a; ready: b; ready\nc: warning: d; ready\nready\n"; out != want {
		t.Errorf("printed %q", out)
	}
}

// Restore says where a backup comes from. A backup that somebody else has encrypted for the same
// recipient does not match the operator's own key.
func TestForgedArchive(t *testing.T) {
	t.Parallel()
	dir, key := t.TempDir(), newIdentity(t)
	data, other := filepath.Join(dir, "data"), filepath.Join(dir, "other")
	mustOutput(t, "tenant", "add", "localhost", "--data", data)
	mustOutput(t, "tenant", "add", "forged.test", "--data", other)
	archives := make(map[string]string)
	for _, from := range []string{data, other} {
		archives[from] = from + ".age"
		mustOutput(t, "backup", "--archive", archives[from], "--with-keys", "--recipient", key.recipient,
			"--data", from)
	}
	restore := func(to, archive string, args ...string) (int, string, string) {
		args = append([]string{"restore", archive, "--identity", key.file, "--data", filepath.Join(dir, to)}, args...)
		return runCommand(t, []string{}, args...)
	}
	const origin = "according to its manifest, the backup was made at "
	const unproved = "nothing proves that it is from your server"
	status, out, _ := restore("one", archives[other])
	said, done := strings.Index(out, origin), strings.Index(out, "restored the backup")
	if status != 0 || said < 0 || done < said || !strings.Contains(out, unproved) {
		t.Errorf("with the keys of the archive: status %d, %s", status, out)
	}
	ownKeys := filepath.Join(data, "keys")
	status, out, stderr := restore("two", archives[other], "--keys-dir", ownKeys)
	if status != exitConfig || !strings.Contains(stderr, "seal.key") {
		t.Errorf("a forged archive with --keys-dir: status %d, %s%s", status, out, stderr)
	}
	status, out, stderr = restore("three", archives[data], "--keys-dir", ownKeys)
	if status != 0 || !strings.Contains(out, origin) || strings.Contains(out, unproved) {
		t.Errorf("with --keys-dir: status %d, %s%s", status, out, stderr)
	}
}
