package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// On a terminal, init asks for what is not given, and a line without an answer takes the default.
func TestInitAsks(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file, data := filepath.Join(dir, "dialtone.toml"), filepath.Join(dir, "data")
	ask := func(typed string, args ...string) (string, error) {
		cmd := exec.Command(binary(t), append([]string{"init", "--config", file, "--data", data}, args...)...)
		cmd.Env, cmd.Stdin = []string{}, newTerminal(t, typed)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	// Host, realm, product, TLS, relay, user name, address.
	out, err := ask("phone.test\n\nPhones\n\nsmtps://mail.phone.test:465\nann\n", "--email", "ann@phone.test")
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, want := range []string{
		"Host name, such as phone.example.org: ", "[phone.test]: ", "(proxy, files, acme) [proxy]: ",
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
	if err != nil || !strings.Contains(string(text), "\nrelay = \"smtps://mail.phone.test:465\"\n") {
		t.Errorf("%v: the configuration is %s", err, text)
	}
	if out := string(mustOutput(t, "tenant", "list", "--json", "--config", file)); !strings.Contains(out, `"Phones"`) {
		t.Errorf("the tenants are %s", out)
	}
}

// What root sets up belongs to the user that the server runs as, who can read the configuration.
func TestInitAsRoot(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.must(os.Remove(s.dir))
	file := filepath.Join(filepath.Dir(s.dir), "etc", "dialtone.toml")
	s.command("init", "--yes", "--host", "phone.test", "--admin", "ann", "--email", "ann@phone.test",
		"--user", "nobody", "--config", file)
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
}

func groupOf(t *testing.T, path string) uint32 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Sys().(*syscall.Stat_t).Gid
}
