package main

import (
	"bytes"
	"context"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"dialtone/cmd/dialtone/internal/runas"
	"dialtone/internal/test/tlstest"
)

// The user and group of the server in the tests that run commands as root.
const serviceUser, serviceGroup = 65534, 65533

// service is a server that runs as its own user. Commands run as root.
type service struct {
	*testing.T
	dir, program string
}

// newService returns a service with a directory that belongs to its user.
func newService(t *testing.T) *service {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to run the server as another user")
	}
	above := t.TempDir()
	s := &service{T: t, dir: filepath.Join(above, "data"), program: filepath.Join(above, "dialtone")}
	// A link and not a copy: a process that another test starts at the same time would have the
	// copy open for writing.
	s.must(os.Link(binary(t), s.program))
	for _, dir := range []string{above, filepath.Dir(above)} {
		s.must(os.Chmod(dir, 0o755))
	}
	s.must(os.Mkdir(s.dir, 0o751))
	s.must(os.Chown(s.dir, serviceUser, serviceGroup))
	return s
}

func (s *service) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// command runs a command as root.
func (s *service) command(args ...string) string {
	s.Helper()
	return string(mustOutput(s.T, append(args, "--data", s.dir)...))
}

// asService returns a command that runs as the service's user.
func (s *service) asService(args ...string) *exec.Cmd {
	cmd := exec.Command(s.program, append(args, "--data", s.dir)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: serviceUser, Gid: serviceGroup}}
	cmd.Env, cmd.Dir = []string{}, "/"
	return cmd
}

func (s *service) start() *serverProcess {
	s.Helper()
	p, err := launched(s.asService("serve", "--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0"), nil)
	s.must(err)
	s.Cleanup(p.Kill)
	return p
}

// owned checks that everything in the directory belongs to the service.
func (s *service) owned() {
	s.Helper()
	s.must(filepath.WalkDir(s.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if owner := info.Sys().(*syscall.Stat_t); owner.Uid != serviceUser || owner.Gid != serviceGroup {
			s.Errorf("%s belongs to user %d and group %d", path, owner.Uid, owner.Gid)
		}
		return nil
	}))
}

// Commands that root runs leave nothing that the server cannot use.
func TestCommandsAsRoot(t *testing.T) {
	s := newService(t)
	s.command("tenant", "add", "localhost")
	s.command("verify") // creates the pickup directory
	s.command("turn", "secret")
	s.command("directory", "export", "enable")
	s.command("directory", "htdigest", filepath.Join(s.dir, "users"), "--tenant", "localhost")
	s.owned()

	p := s.start()
	s.command("keys", "rotate", "--revoke")
	s.command("turn", "secret", "--rotate")
	s.command("tenant", "set", "localhost", "--product", "Example Phones")
	s.owned()
	p.mustStop(t)
	p = s.start()
	if n := p.stderr.Count("keys"); n != 0 {
		t.Errorf("the server complains about its keys\n%s", p.stderr)
	}
	p.mustStop(t)
	s.command("account", "list", "--tenant", "localhost")
	s.owned()
}

// A restore by root gives the service's user none of root's files: it works as the owner of the
// data directory, and so follows neither a plan nor a link that this user has put there.
func TestRestoreAsRoot(t *testing.T) {
	s := newService(t)
	above := filepath.Dir(s.dir)
	private := filepath.Join(above, "private")
	s.must(os.Mkdir(private, 0o700))
	secret, archive := filepath.Join(private, "secret"), filepath.Join(private, "backup.tar")
	s.must(os.WriteFile(secret, []byte("of root"), 0o600))
	s.command("tenant", "add", "localhost")
	s.command("backup", "--archive", archive, "--with-keys", "--plain-keys")
	s.must(os.RemoveAll(s.dir))
	again := func() {
		s.must(os.Mkdir(s.dir, 0o751))
		s.must(os.Chown(s.dir, serviceUser, serviceGroup))
	}
	again()
	s.command("restore", archive) // which this user cannot read
	s.owned()
	s.start().mustStop(t)

	s.must(os.RemoveAll(s.dir))
	again()
	planted := filepath.Join(s.dir, "restore.unfinished")
	way := filepath.Join(s.dir, "way") // so that all seems to be in the data directory
	plan := `[{"From":"mine","To":"` + way + `/secret"}]`
	script := exec.Command("sh", "-c",
		`umask 077; mkdir "$0" && echo evil > "$0/mine" && printf %s "$1" > "$0/plan.json" &&
		ln -s "$2" "$3"`, planted, plan, private, way)
	script.SysProcAttr = s.asService().SysProcAttr
	script.Dir = "/"
	s.must(script.Run())
	if out, err := exec.Command(binary(t), "restore", archive, "--data", s.dir).CombinedOutput(); err == nil ||
		!strings.Contains(string(out), "permission denied") {
		t.Errorf("with a plan of another user: %v, %s", err, out)
	}
	if text, err := os.ReadFile(secret); err != nil || string(text) != "of root" {
		t.Errorf("the file of root has %q, %v", text, err)
	}
}

// A backup by root contains no file to which the service's user only has a link.
func TestBackupAsRoot(t *testing.T) {
	s := newService(t)
	above := filepath.Dir(s.dir)
	private := filepath.Join(above, "private")
	s.must(os.Mkdir(private, 0o700))
	secret, file := filepath.Join(private, "secret"), filepath.Join(private, "backup.tar")
	s.must(os.WriteFile(secret, []byte("only for root"), 0o600))
	s.command("tenant", "add", "localhost")
	s.command("verify") // creates the pickup directory
	link := filepath.Join(s.dir, "pickup", strings.Repeat("ab", 16)+".eml")
	pipe := filepath.Join(s.dir, "pickup", strings.Repeat("cd", 16)+".eml")
	script := exec.Command("sh", "-c", `ln -s "$0" "$1" && mkfifo "$2"`, secret, link, pipe)
	script.SysProcAttr = s.asService().SysProcAttr
	script.Dir = "/"
	s.must(script.Run())
	out := s.command("backup", "--archive", file)
	text, err := os.ReadFile(file)
	s.must(err)
	if bytes.Contains(text, []byte("only for root")) {
		t.Error("the archive has a file of root")
	}
	for _, path := range []string{link, pipe} {
		if !strings.Contains(out, "not included: "+path) {
			t.Errorf("the command does not name %s: %s", path, out)
		}
	}
}

// A server that can no longer read its keys reports that it is not ready.
func TestUnreadableKeysAreNotReady(t *testing.T) {
	t.Parallel()
	s := newService(t)
	p := s.start()
	path := filepath.Join(s.dir, "keys", "sign.key")
	text, err := os.ReadFile(path)
	s.must(err)
	ready := func(want int, says string) {
		t.Helper()
		p.readiness(t, want, says)
	}
	ready(200, `{"name":"keys","ok":true}`)
	other := filepath.Join(s.dir, "new")
	s.must(os.WriteFile(other, text, 0o600)) // root's
	s.must(os.Rename(other, path))
	ready(503, `{"name":"keys","ok":false,"error":"keys: open `+path+`: permission denied"}`)
	s.must(os.Chown(path, serviceUser, serviceGroup))
	ready(200, `{"name":"keys","ok":true}`)

	// The same file may lose its permissions.
	for _, key := range []string{"sign", "seal"} {
		path := filepath.Join(s.dir, "keys", key+".key")
		denied := `{"name":"keys","ok":false,"error":"keys: open ` + path + `: permission denied`
		s.must(os.Chown(path, 0, 0))
		ready(503, denied)
		s.must(os.Chown(path, serviceUser, serviceGroup))
		ready(200, `{"name":"keys","ok":true}`)
		s.must(os.Chmod(path, 0))
		ready(503, denied)
		s.must(os.Chmod(path, 0o600))
		ready(200, `{"name":"keys","ok":true}`)
	}
	p.mustStop(t)
}

// A server or a command without permission to write to the database says so, names the file, and
// leaves nothing behind.
func TestDatabaseWithoutPermission(t *testing.T) {
	s := newService(t)
	s.command("tenant", "add", "localhost")
	database, keys := filepath.Join(s.dir, "dialtone.db"), filepath.Join(s.dir, "keys")
	for _, c := range []struct {
		claim string
		spoil func() error
		says  string
		heal  func() error
	}{
		{
			"database for reading only", func() error { return os.Chmod(database, 0o444) },
			"dialtone: the database cannot be opened: " + database + " has mode 0444 and belongs to the user nobody",
			func() error { return os.Chmod(database, 0o600) },
		},
		{
			"database of another user", func() error { return os.Chown(database, 0, 0) },
			database + " has mode 0600 and belongs to the user root",
			func() error { return os.Chown(database, serviceUser, serviceGroup) },
		},
		{
			"directory for reading only", func() error { return os.Chmod(s.dir, 0o551) },
			s.dir + " has mode 0551 and belongs to the user nobody", func() error { return os.Chmod(s.dir, 0o751) },
		},
		{
			"WAL of another user", func() error { return os.WriteFile(database+"-wal", nil, 0o600) },
			database + "-wal has mode 0600 and belongs to the user root",
			func() error { return os.Remove(database + "-wal") },
		},
		{
			"keys of another user", func() error { return os.Chown(keys, 0, 0) },
			"dialtone: keys: stat " + filepath.Join(keys, "seal.key") + ": permission denied; " +
				"run the program as the owner of the keys, or correct owner and mode",
			func() error { return os.Chown(keys, serviceUser, serviceGroup) },
		},
	} {
		t.Run(c.claim, func(t *testing.T) {
			s := &service{T: t, dir: s.dir, program: s.program}
			s.must(c.spoil())
			before := s.names()
			for _, args := range [][]string{
				{"serve", "--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0"},
				{"account", "list", "--tenant", "localhost"}, {"tenant", "add", "new.example.org"},
			} {
				ctx, cancel := context.WithTimeout(t.Context(), stopWithin)
				cmd := s.asService(args...)
				run := exec.CommandContext(ctx, cmd.Path, cmd.Args[1:]...)
				run.SysProcAttr, run.Env, run.Dir = cmd.SysProcAttr, cmd.Env, cmd.Dir
				out, err := run.CombinedOutput()
				cancel()
				if run.ProcessState.ExitCode() != exitConfig || !strings.Contains(string(out), c.says) {
					t.Errorf("%s: %v, want exit status %d and %q\n%s", args[0], err, exitConfig, c.says, out)
				}
			}
			if after := s.names(); after != before {
				t.Errorf("the files were %s and are %s", before, after)
			}
			s.must(c.heal())
			s.command("account", "list", "--tenant", "localhost")
		})
	}
	s.start().mustStop(t)
}

// A PostgreSQL socket that this user must not use is not a fault of the data directory.
func TestDatabaseSocketWithoutPermission(t *testing.T) {
	s := newService(t)
	closed := filepath.Join(filepath.Dir(s.dir), "closed")
	s.must(os.Mkdir(closed, 0o700))
	cmd := s.asService("tenant", "list")
	cmd.Env = []string{"DIALTONE_DATABASE=postgres:///dialtone?host=" + closed}
	out, _ := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() != exitFailed || !strings.Contains(string(out), "permission denied") ||
		strings.Contains(string(out), runas.ErrDataDir.Error()) {
		t.Errorf("exit status %d\n%s", cmd.ProcessState.ExitCode(), out)
	}
}

// A copy from or to a directory of another user says so.
func TestStoreCopyWithoutPermission(t *testing.T) {
	s := newService(t)
	s.command("tenant", "add", "localhost")
	s.must(os.Chmod(s.dir, 0o755))
	s.must(os.RemoveAll(filepath.Join(s.dir, "serve.lock")))
	cmd := s.asService("store", "copy", "--from", "sqlite:"+filepath.Join(s.dir, "dialtone.db"),
		"--to", "sqlite:"+filepath.Join(s.dir, "copy.db"))
	cmd.SysProcAttr.Credential = &syscall.Credential{Uid: serviceUser - 1, Gid: serviceGroup - 1}
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() != exitConfig ||
		!strings.Contains(string(out), "permission denied; run the program as its owner, or correct owner and mode") {
		t.Errorf("%v\n%s", err, out)
	}
}

// names returns the names of the files in the directory, without that of the server.
func (s *service) names() (names string) {
	s.Helper()
	list, err := os.ReadDir(s.dir)
	s.must(err)
	for _, e := range list {
		if e.Name() != "node.id" && e.Name() != "audit.seen" { // of the first start
			names += e.Name() + " "
		}
	}
	return names
}

// A file that the server's user could not read is noted, since root can read it.
func TestConfigCheckAsRoot(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.command("tenant", "add", "phone.test")
	a := tlstest.NewAuthority(t)
	cert, key := a.Issue(t, "ops", time.Time{}, "phone.test")
	check := func() string {
		t.Helper()
		out, status := checkedOps(t, s.dir, cert, key, "")
		if status != 0 {
			t.Errorf("status %d", status)
		}
		return out
	}
	if out := check(); !strings.Contains(out, "the configuration is valid") ||
		!strings.Contains(out, "note: ops.tls_key: the user nobody, who owns "+s.dir+", cannot read "+key) {
		t.Errorf("with a key of root: %s", out)
	}
	moved := filepath.Join(s.dir, "ops.key")
	text, err := os.ReadFile(key)
	s.must(err)
	s.must(os.WriteFile(moved, text, 0o640))
	s.must(os.Chown(moved, 0, serviceGroup))
	key = moved
	if out := check(); strings.Contains(out, "ops.tls_key") {
		t.Errorf("with a key of the group: %s", out)
	}
}

// A command of root follows no link that the service's user has put into the data directory.
func TestRootFollowsNoLink(t *testing.T) {
	s := newService(t)
	private := filepath.Join(filepath.Dir(s.dir), "private")
	content := func() (text string) {
		s.must(filepath.WalkDir(private, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			b, err := os.ReadFile(path)
			text += path + " has " + string(b) + "\n"
			return err
		}))
		return text
	}
	s.must(os.Mkdir(private, 0o700))
	s.command("tenant", "add", "localhost")
	out, err := s.asService("backup", filepath.Join(s.dir, "copy.db")).CombinedOutput()
	if err != nil {
		t.Fatalf("%v, %s", err, out)
	}
	s.must(os.Rename(filepath.Join(s.dir, "copy.db"), filepath.Join(private, "other.db")))
	s.must(os.Chown(filepath.Join(private, "other.db"), 0, 0))
	for _, name := range []string{"file", "wal"} {
		s.must(os.WriteFile(filepath.Join(private, name), []byte("of root"), 0o600))
	}
	for _, c := range []struct {
		link, to string
		command  []string
	}{
		{"dialtone.db-wal", "wal", []string{"tenant", "set", "localhost", "--product", "Phones"}},
		{"dialtone.db-wal", "new", []string{"tenant", "set", "localhost", "--product", "Phones"}},
		{"dialtone.db", "other.db", []string{"tenant", "set", "localhost", "--product", "Phones"}},
		{"directory", "", []string{"directory", "export", "enable"}},
		{"pickup", "", []string{"verify"}},
		{"keys", "", []string{"turn", "secret"}},
		{"serve.lock", "file", []string{
			"store", "copy", "--from", "sqlite:" + filepath.Join(s.dir, "dialtone.db"),
			"--to", "sqlite:" + filepath.Join(s.dir, "other.db"),
		}},
	} {
		before, link := content(), filepath.Join(s.dir, c.link)
		err := os.Rename(link, link+".aside")
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		aside := err == nil
		s.must(os.Symlink(filepath.Join(private, c.to), link))
		args := append(c.command, "--data", s.dir)
		if out, err := exec.Command(binary(t), args...).CombinedOutput(); err == nil {
			t.Errorf("%s is a link, and %q succeeds: %s", c.link, c.command, out)
		}
		if after := content(); after != before {
			t.Errorf("%q with the link %s to %s changes files of root", c.command, c.link, c.to)
		}
		s.must(os.Remove(link))
		if aside {
			s.must(os.Rename(link+".aside", link))
		}
	}
	s.command("directory", "export", "rebuild")
	if out, err := exec.Command(binary(t), "verify", "--data", s.dir).CombinedOutput(); err != nil {
		t.Errorf("verify: %v, %s", err, out)
	}
}

// Files that root names on the command line may be in places that the service's user cannot reach.
func TestFilesOfRoot(t *testing.T) {
	s := newService(t)
	private := filepath.Join(filepath.Dir(s.dir), "private")
	s.must(os.Mkdir(private, 0o700))
	file := func(name string) string { return filepath.Join(private, name) }
	s.must(os.WriteFile(file("people.csv"), []byte("username,name,email,password,role\n"+
		"ann,Ann,ann@mail.test,correct horse battery,guest\n"), 0o600))
	config := "data = \"" + s.dir + "\"\n"
	s.must(os.WriteFile(file("dialtone.toml"), []byte(config), 0o600))
	s.command("tenant", "add", "localhost")
	s.command("account", "import", file("people.csv"), "--format", "csv", "--tenant", "localhost")
	s.command("account", "export", file("accounts.csv"), "--format", "csv", "--tenant", "localhost")
	s.command("directory", "htdigest", file("users"), "--tenant", "localhost")
	s.command("backup", file("copy.db"))
	s.command("backup", "--archive", file("backup.tar"), "--config", file("dialtone.toml"))
	s.command("keys", "rotate")
	s.command("doctor")
	s.owned()
	for _, name := range []string{"accounts.csv", "users", "copy.db", "backup.tar"} {
		info, err := os.Stat(file(name))
		if err != nil {
			t.Error(err)
			continue
		}
		if owner := info.Sys().(*syscall.Stat_t); owner.Uid != 0 || info.Size() == 0 {
			t.Errorf("%s belongs to the user %d and has %d bytes", name, owner.Uid, info.Size())
		}
	}
	if left, err := os.ReadDir(private); err != nil || len(left) != 6 {
		t.Errorf("beside them: %v, %v", left, err)
	}
	if left, err := filepath.Glob(filepath.Join(s.dir, ".backup*")); err != nil || len(left) > 0 {
		t.Errorf("left in the data directory: %v, %v", left, err)
	}
	// Keys in a directory owned by root, which the server only reads.
	keys := file("keys")
	s.must(os.Rename(filepath.Join(s.dir, "keys"), keys))
	s.must(os.Chown(keys, 0, 0))
	s.must(os.WriteFile(file("dialtone.toml"), []byte(config+"[keys]\ndir = \""+keys+"\"\n"), 0o600))
	s.command("keys", "rotate", "--config", file("dialtone.toml"))
	s.command("turn", "secret", "--config", file("dialtone.toml"))
}

// A data directory that root owns but others can change is refused with the reason.
func TestDataOfRootForOthers(t *testing.T) {
	s := newService(t)
	above := filepath.Dir(s.dir)
	s.must(os.Chown(s.dir, 0, 0))
	s.command("tenant", "add", "localhost")
	archive := filepath.Join(above, "backup.tar")
	s.command("backup", "--archive", archive, "--with-keys", "--plain-keys")
	empty := filepath.Join(above, "empty")
	s.must(os.Mkdir(empty, 0o700))
	for _, c := range []struct {
		path    string
		mode    os.FileMode
		refused bool
	}{
		{s.dir, 0o770, true},
		{s.dir, 0o770 | os.ModeSetgid, true},
		{s.dir, 0o757, true},
		{s.dir, 0o777 | os.ModeSticky, true},
		{s.dir, 0o755, false},
		{above, 0o775, true},
		{above, 0o757, true},
		{above, 0o777 | os.ModeSticky, false},
		{empty, 0o770 | os.ModeSetgid, true},
		{empty, 0o750, false},
	} {
		info, err := os.Stat(c.path)
		s.must(err)
		s.must(os.Chmod(c.path, c.mode))
		args := []string{"verify", "--data", s.dir}
		if c.path == empty {
			args = []string{"restore", archive, "--data", empty}
		}
		out, err := exec.Command(binary(t), args...).CombinedOutput()
		says := strings.Contains(string(out), "other users can write to "+c.path+", which has the mode ") &&
			strings.Contains(string(out), "run: chmod g-w,o-w "+c.path+";")
		if (err != nil) != c.refused || says != c.refused {
			t.Errorf("%s with the mode %v: %v, %s", c.path, c.mode, err, out)
		}
		s.must(os.Chmod(c.path, info.Mode()))
	}
}

// A restore also writes to the configured places for keys and messages, and nowhere else outside
// the data directory.
func TestRestoreIntoConfiguredPlaces(t *testing.T) {
	above := t.TempDir()
	at := func(path string) string { return filepath.Join(above, path) }
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	file, bad := at("dialtone.toml"), at("mail/badmail/"+strings.Repeat("ab", 16)+".eml")
	must(os.WriteFile(file, []byte("data = \""+at("data")+"\"\n[keys]\ndir = \""+at("keys")+
		"\"\n[mail]\npickup_dir = \""+at("mail/pickup")+"\"\n"), 0o600))
	command := func(args ...string) {
		t.Helper()
		mustOutput(t, append(args, "--config", file)...)
	}
	command("tenant", "add", "localhost")
	must(os.MkdirAll(filepath.Dir(bad), 0o700))
	must(os.WriteFile(bad, []byte("Subject: one\r\n\r\n"), 0o600))
	command("backup", "--archive", at("backup.tar"), "--with-keys", "--plain-keys")
	for _, dir := range []string{"data", "keys", "mail"} {
		must(os.RemoveAll(at(dir)))
	}
	command("restore", at("backup.tar"))
	for _, path := range []string{bad, at("keys/seal.key"), at("keys/sign.key"), at("data/dialtone.db")} {
		if _, err := os.Stat(path); err != nil {
			t.Error(err)
		}
	}
}
