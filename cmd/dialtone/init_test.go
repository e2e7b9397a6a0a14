package main

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"dialtone/internal/config"
	"dialtone/internal/test/postgrestest"
	"dialtone/internal/test/process"
	"dialtone/internal/test/tlstest"
)

// me returns the name of the user who runs the test.
func me(t *testing.T) string {
	t.Helper()
	u, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	return u.Username
}

// On a terminal, init asks for missing answers, and asks again after a wrong one. An empty line
// selects the default.
func TestInitAsks(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file, data := filepath.Join(dir, "dialtone.toml"), filepath.Join(dir, "data")
	ask := func(typed string, args ...string) (string, error) {
		args = append([]string{"init", "--config", file, "--data", data, "--user", me(t)}, args...)
		cmd := exec.Command(binary(t), args...)
		cmd.Env, cmd.Stdin = []string{}, newTerminal(t, typed)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	// Host, realm, product, TLS, relay, its password, user name, address.
	out, err := ask("http://bad\n\nPhone.test\n\nPhones\nfoo\n\nmail.phone.test\nsmtps://a@mail.phone.test:465\n"+
		"/none\n"+binary(t)+"\nAnn\nann\n", "--email", "ann@phone.test")
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, want := range []string{
		"Host name, such as phone.example.org:   \"http://bad\" is not a host name; ",
		"Host name, such as phone.example.org:   an answer is needed\n",
		"[phone.test]: ", "(proxy, files, acme) [proxy]: ", `  "foo" is not an answer; type proxy, files or acme`,
		"for the pickup directory:   expected smtps://", "password for the relay:   open /none: no such file",
		"first operator:   the user name must be in lower case",
		"added the tenant phone.test with the realm phone.test", "added the operator ann",
		`phone.test. IN TXT "v=spf1 mx a:mail.phone.test -all"`,
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in %s", want, out)
		}
	}
	if strings.Contains(out, "E-mail address of the first operator") {
		t.Errorf("it asks for what is given: %s", out)
	}
	text, err := os.ReadFile(file)
	if err != nil || !strings.Contains(string(text), "\nrelay = \"smtps://a@mail.phone.test:465\"\n") {
		t.Errorf("%v: the configuration is %s", err, text)
	}
	if out := string(mustOutput(t, "tenant", "list", "--json", "--config", file)); !strings.Contains(out, `"Phones"`) {
		t.Errorf("the tenants are %s", out)
	}

	// The second time, init asks only for answers that it would use.
	out, err = ask("phone.test\nann\n")
	if err != nil || !strings.Contains(out, "User name of the first operator: ") {
		t.Errorf("%v: %s", err, out)
	}
	for _, unused := range []string{"TLS by", "relay, such", "Digest realm", "E-mail"} {
		if strings.Contains(out, unused) {
			t.Errorf("it asks what it does not use: %s", out)
		}
	}
}

// Ctrl-C at a question stops init immediately, and leaves nothing behind.
func TestInitInterrupted(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	keyboard, terminal := openTerminal(t)
	cmd := exec.Command(binary(t), "init", "--config", filepath.Join(dir, "etc", "dialtone.toml"),
		"--data", filepath.Join(dir, "data"), "--user", me(t))
	screen, err := os.Create(filepath.Join(t.TempDir(), "screen"))
	if err != nil {
		t.Fatal(err)
	}
	defer screen.Close()
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = []string{}, terminal, screen, screen
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	before, err := unix.IoctlGetTermios(int(terminal.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	until := func(want string) {
		t.Helper()
		process.Eventually(t, "the text "+want, func() error {
			text, err := os.ReadFile(screen.Name())
			if err == nil && !strings.HasSuffix(string(text), want) {
				err = fmt.Errorf("the screen shows %q", text)
			}
			return err
		})
	}
	defer cmd.Process.Kill() // if it does not end by itself
	until("phone.example.org: ")
	keyboard.WriteString("phone.test\n")
	until("[phone.test]: ")
	keyboard.WriteString("\x03")
	until("nothing was changed: the program was interrupted\n")
	if err := cmd.Wait(); cmd.ProcessState.ExitCode() != exitFailed {
		t.Error(err)
	}
	if after, err := unix.IoctlGetTermios(int(terminal.Fd()), unix.TCGETS); err != nil || *after != *before {
		t.Errorf("the terminal is %v, %v, and was %v", after, err, before)
	}
	if list, err := os.ReadDir(dir); err != nil || len(list) > 0 {
		t.Errorf("%v: there is %v", err, list)
	}
}

// canceler is a writer that cancels a context when a text is written.
type canceler struct {
	bytes.Buffer
	cancel context.CancelFunc
	at     string
}

func (c *canceler) Write(b []byte) (int, error) {
	if bytes.Contains(b, []byte(c.at)) {
		c.cancel()
	}
	return c.Buffer.Write(b)
}

// An init that is interrupted while it works says so, and the next run does the rest.
func TestInitInterruptedAtWork(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	args := []string{
		"init", "--yes", "--config", filepath.Join(dir, "dialtone.toml"), "--data", filepath.Join(dir, "data"),
		"--user", me(t), "--host", "phone.test", "--admin", "ann", "--email", "ann@mail.test",
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out := &canceler{cancel: cancel, at: "wrote the configuration"}
	status := run(ctx, args, []string{}, out, out)
	if want := "the program was interrupted before it was done; run it again"; status == 0 ||
		!strings.Contains(out.String(), want) {
		t.Errorf("status %d, want %q in: %s", status, want, out)
	}
	again := string(mustOutput(t, args...))
	for _, want := range []string{"the tenant phone.test", "ann", "systemctl enable --now dialtone"} {
		if !strings.Contains(again, want) {
			t.Errorf("the second run does not print %s: %s", want, again)
		}
	}
}

// The database is in the configuration, wherever its URL came from. One with a password makes the file unreadable for
// others.
func TestInitOnPostgres(t *testing.T) {
	t.Parallel()
	for name, mode := range map[string]fs.FileMode{"new": 0o600, "replaced": 0o640} {
		t.Run(name, func(t *testing.T) {
			url := postgrestest.Shared(t).Database(t)
			dir := t.TempDir()
			file := filepath.Join(dir, "dialtone.toml")
			if name == "replaced" {
				if err := os.WriteFile(file, []byte("# nothing\n"), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			cmd := exec.Command(binary(t), "init", "--yes", "--host", name+".test", "--admin", "ann", "--email",
				"ann@phone.test", "--user", me(t), "--config", file, "--data", filepath.Join(dir, "data"))
			cmd.Env = []string{"DIALTONE_DATABASE=" + url, "PGPASSFILE=/none"}
			out, err := cmd.CombinedOutput()
			if err != nil || !strings.Contains(string(out), "as far as the database needs them: PGPASSFILE") {
				t.Fatalf("%v: %s", err, out)
			}
			conf, err := config.Load(file, nil, nil)
			if err != nil || conf.Database != url {
				t.Errorf("%v: the database is not in the configuration", err)
			}
			if info, err := os.Stat(file); err != nil || info.Mode().Perm() != mode {
				t.Errorf("%v, %v", info.Mode(), err)
			}
			if out := string(mustOutput(t, "tenant", "list", "--config", file)); !strings.Contains(out, name+".test") {
				t.Errorf("the tenants are %s", out)
			}
			if _, err := os.Stat(filepath.Join(dir, "data", "dialtone.db")); err == nil {
				t.Error("there is an SQLite store")
			}
		})
	}
}

// With --tls=files, the certificate must match the host, and the server's user must be able to read
// it.
func TestInitChecksCertificates(t *testing.T) {
	t.Parallel()
	authority := tlstest.NewAuthority(t)
	until := time.Now().AddDate(0, 1, 0)
	cert, key := authority.Issue(t, "one", until, "phone.test")
	other, otherKey := authority.Issue(t, "two", until, "other.test")
	dir := t.TempDir()
	run := func(cert, key string) (string, error) {
		cmd := exec.Command(binary(t), "init", "--yes", "--host", "phone.test", "--admin", "ann",
			"--email", "ann@phone.test", "--user", me(t), "--config", filepath.Join(dir, "dialtone.toml"),
			"--data", filepath.Join(dir, "data"), "--tls", "files", "--tls-cert", filepath.Base(cert), "--tls-key", key)
		cmd.Env, cmd.Dir = []string{}, filepath.Dir(cert)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	for what, wrong := range map[string]struct{ cert, key, says string }{
		"another host": {other, otherKey, "no certificate is for phone.test"},
		"another key":  {cert, otherKey, "private key does not match"},
		"no key":       {cert, filepath.Join(dir, "none"), "no such file"},
	} {
		out, err := run(wrong.cert, wrong.key)
		if err == nil || !strings.Contains(out, wrong.says) ||
			!strings.Contains(out, "nothing was changed: --tls-key: ") {
			t.Errorf("%s: %v: %s", what, err, out)
		}
	}
	if list, err := os.ReadDir(dir); err != nil || len(list) > 0 {
		t.Fatalf("%v: there is %v", err, list)
	}
	if out, err := run(cert, key); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	conf, err := config.Load(filepath.Join(dir, "dialtone.toml"), nil, nil)
	if err != nil || string(conf.TLS.Cert[0]) != cert || conf.Listen != ":443" {
		t.Errorf("%v: %v", err, conf.TLS)
	}
}

// The files that root sets up belong to the server's user, who can read the configuration and the
// certificate.
func TestInitAsRoot(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.must(os.Remove(s.dir))
	file := filepath.Join(filepath.Dir(s.dir), "etc", "dialtone.toml")
	authority := tlstest.NewAuthority(t)
	cert, key := authority.Issue(t, "one", time.Now().AddDate(0, 1, 0), "phone.test")
	args := []string{"init", "--yes", "--host", "phone.test", "--admin", "ann", "--email", "ann@phone.test",
		"--config", file}
	refused := func(want string, more ...string) {
		t.Helper()
		cmd := exec.Command(s.program, append(append(args, "--data", s.dir), more...)...)
		cmd.Env = []string{}
		if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), want) {
			t.Errorf("%v: %s", err, out)
		}
	}
	refused("the user nobody of the server cannot read "+cert, "--user", "nobody", "--tls", "files",
		"--tls-cert", cert, "--tls-key", key)
	if _, err := user.Lookup("dialtone"); err != nil {
		refused("there is no user dialtone for the server to run as; create it with: useradd --system ")
	}
	for _, path := range []string{s.dir, file} {
		if _, err := os.Stat(path); err == nil {
			t.Errorf("there is %s", path)
		}
	}
	s.command(append(args, "--user", "nobody")...)
	s.must(filepath.WalkDir(s.dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := os.Stat(path)
		if err == nil && info.Sys().(*syscall.Stat_t).Uid != serviceUser {
			t.Errorf("%s belongs to %d", path, info.Sys().(*syscall.Stat_t).Uid)
		}
		return err
	}))
	cmd := exec.Command(s.program, "verify", "--config", file)
	cmd.SysProcAttr = s.asService().SysProcAttr
	cmd.SysProcAttr.Credential.Gid = groupOf(t, s.dir)
	cmd.Env, cmd.Dir = []string{}, "/"
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("as the user of the server: %v: %s", err, out)
	}
	info, err := os.Stat(file)
	s.must(err)
	if mode := info.Mode().Perm(); mode != 0o640 || info.Sys().(*syscall.Stat_t).Uid != 0 {
		t.Errorf("the configuration has the mode %04o and the user %d", mode, info.Sys().(*syscall.Stat_t).Uid)
	}
	unit, err := os.ReadFile(filepath.Join(filepath.Dir(file), "init", "dialtone.service"))
	s.must(err)
	if !strings.Contains(string(unit), "\nUser=nobody\nGroup=nogroup\n") {
		t.Errorf("the unit is %s", unit)
	}
	refused("belongs to the user nobody, so a server of the user root could not use it; give --user nobody",
		"--user", "root")
	s.command(args...) // as before, the user is the owner
}

func groupOf(t *testing.T, path string) uint32 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Sys().(*syscall.Stat_t).Gid
}

// Files that the server's user has put next to the configuration neither stop root's init nor make
// it write elsewhere.
func TestInitAmongFilesOfAnother(t *testing.T) {
	t.Parallel()
	s := newService(t)
	above := filepath.Dir(s.dir)
	etc, private := filepath.Join(above, "etc"), filepath.Join(above, "private")
	s.must(os.Mkdir(etc, 0o755))
	s.must(os.Chown(etc, serviceUser, serviceGroup))
	s.must(os.Mkdir(private, 0o700))
	mine := func(script string) {
		t.Helper()
		cmd := exec.Command("sh", "-c", script)
		cmd.SysProcAttr, cmd.Dir = s.asService().SysProcAttr, etc
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v, %s", err, out)
		}
	}
	run := func() (string, error) {
		ctx, stop := context.WithTimeout(t.Context(), 30*time.Second)
		defer stop()
		cmd := exec.CommandContext(ctx, s.program, "init", "--yes", "--host", "phone.test", "--admin", "ann", "--email",
			"ann@phone.test", "--user", "nobody", "--data", s.dir, "--config", filepath.Join(etc, "dialtone.toml"))
		cmd.Env = []string{}
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	s.must(os.WriteFile(filepath.Join(private, ".temp-1"), nil, 0o600))
	mine("ln -s " + private + " init")
	out, err := run()
	want := "nothing was changed: " + etc + "/init, where the examples go, is not a directory"
	if err == nil || !strings.Contains(out, want) {
		t.Errorf("a link in place of the directory of examples: %v, %s", err, out)
	}
	mine("rm init; mkfifo dialtone.toml")
	if out, err := run(); err == nil || !strings.Contains(out, "named pipe") {
		t.Errorf("a pipe in place of the configuration: %v, %s", err, out)
	}
	mine("rm dialtone.toml; mkdir init; mkfifo .temp-1 init/.temp-1 init/nginx.conf; ln -s " + private +
		"/new init/kamailio.cfg; mkfifo init/directory.cfg")
	if out, err := run(); err == nil || !strings.Contains(out, "not a regular file") {
		t.Errorf("a pipe in place of the token: %v, %s", err, out)
	}
	mine("rm init/directory.cfg")
	if out, err := run(); err != nil {
		t.Errorf("among pipes: %v, %s", err, out)
	}
	if list, err := os.ReadDir(private); err != nil || len(list) != 1 {
		t.Errorf("in the directory of root: %v, %v", list, err)
	}
}

// Files of another user that root's init reads cannot exhaust the memory.
func TestInitAmongLargeFiles(t *testing.T) {
	t.Parallel()
	s := newService(t)
	etc := filepath.Join(filepath.Dir(s.dir), "etc")
	s.must(os.Mkdir(etc, 0o755))
	s.must(os.Chown(etc, serviceUser, serviceGroup))
	large := func(names ...string) {
		t.Helper()
		for _, name := range names {
			path := filepath.Join(etc, name)
			s.must(os.MkdirAll(filepath.Dir(path), 0o755))
			s.must(os.WriteFile(path, []byte("# large\n"), 0o644))
			s.must(os.Truncate(path, 600<<20)) // without blocks on the disk
		}
	}
	init := func() (out string, used int64, err error) {
		cmd := exec.Command("sh", "-c", `ulimit -t 60; exec "$@"`, "sh", s.program, "init", "--yes",
			"--host", "phone.test", "--admin", "ann", "--email", "ann@phone.test",
			"--user", "nobody", "--data", s.dir, "--config", filepath.Join(etc, "dialtone.toml"))
		cmd.Env = []string{"GOMEMLIMIT=200MiB"}
		text, err := cmd.CombinedOutput()
		return string(text), cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss / 1024, err
	}
	large("dialtone.toml")
	const most = 400 // MiB, with the binary and its libraries
	if out, used, err := init(); err == nil || used > most || !strings.Contains(out, "the file is too long") {
		t.Errorf("a large configuration: %d MiB, %v, %s", used, err, out)
	}
	s.must(os.Remove(filepath.Join(etc, "dialtone.toml")))
	large(".temp-1", "init/nginx.conf", "init/directory.cfg", "init/.temp-2")
	if out, used, err := init(); err != nil || used > most || !strings.Contains(out, "nginx.conf") {
		t.Errorf("large files next to the configuration: %d MiB, %v, %s", used, err, out)
	}
	if _, err := os.Stat(filepath.Join(etc, ".temp-1")); err != nil {
		t.Error(err)
	}
}
