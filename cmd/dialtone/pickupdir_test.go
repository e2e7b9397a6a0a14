package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dialtone/cmd/dialtone/internal/finding"
	"dialtone/cmd/dialtone/internal/installation"
)

// If the server's user can neither create nor use the pickup directory, config check, doctor and
// the server name it, with a command that repairs it.
func TestPickupDirWithoutPermission(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.command("tenant", "add", "localhost")
	spool := filepath.Join(filepath.Dir(s.dir), "spool")
	s.must(os.Mkdir(spool, 0o755)) // of root
	dir := filepath.Join(spool, "mail", "pickup")
	environ := []string{
		"DIALTONE_DATA=" + s.dir, "DIALTONE_MAIL_PICKUP_DIR=" + dir, "DIALTONE_LISTEN=127.0.0.1:0",
		"DIALTONE_OPS_LISTEN=127.0.0.1:0",
	}
	serve := func() string {
		t.Helper()
		cmd := s.asService("serve")
		cmd.Env = environ
		out, err := within(t, cmd)
		if err == nil || cmd.ProcessState.ExitCode() != exitConfig {
			t.Errorf("serve: %v", err)
		}
		return string(out)
	}
	for _, c := range []struct{ says, at string }{{"create", spool}, {"use", dir}} {
		cause := "the user nobody of the server cannot " + c.says + " the pickup directory " + dir +
			" (mail.pickup_dir): the owner and mode of " + c.at + " do not allow it"
		repair := "run as root: install -d -o nobody -g 65533 -m 2770 " + dir + " "
		out, err := s.as(environ, "config", "check")
		if err != nil || !strings.Contains(out, "note: "+cause+"; "+repair) {
			t.Errorf("config check: %v, want %q: %s", err, cause, out)
		}
		list := examined(t, environ...)
		wantFinding(t, list, finding.Fault, map[string]string{"create": "mail", "use": "files"}[c.says], dir)
		out = serve()
		if !strings.Contains(out, installation.ErrPickupDir.Error()+": "+dir) || !strings.Contains(out, repair) {
			t.Errorf("serve prints %s", out)
		}
		s.must(os.MkdirAll(dir, 0o755))
		s.must(os.Chmod(dir, 0o700))
	}
	s.must(os.Chown(dir, serviceUser, serviceGroup))
	if out, err := s.as(environ, "config", "check"); err != nil || strings.Contains(out, "pickup_dir") {
		t.Errorf("repaired: %v, %s", err, out)
	}
}

// within returns the output of a command that should exit on its own, and kills it after some time.
func within(t *testing.T, cmd *exec.Cmd) ([]byte, error) {
	t.Helper()
	timer := time.AfterFunc(stopWithin, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	return cmd.CombinedOutput()
}
