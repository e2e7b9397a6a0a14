package main

import (
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// phoneUser and phoneGroup are the user and group of a phone server.
const phoneUser, phoneGroup = 65532, 65531

// TestExportStatusNamesReaders checks that "export status" says whether the group of the exported
// file can read it, what blocks the path, and a command that opens it.
func TestExportStatusNamesReaders(t *testing.T) {
	s := newService(t)
	s.command("tenant", "add", "phone.test")
	s.command("directory", "export", "enable")
	dir := filepath.Join(s.dir, "directory")
	file := filepath.Join(dir, "directory.db")
	run := func(command string) {
		t.Helper()
		if out, err := exec.Command("sh", "-c", command).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", command, err, out)
		}
	}
	readable := func() bool {
		cmd := exec.Command("cat", file, file+"-wal", file+"-shm")
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: phoneUser, Gid: phoneGroup}}
		return cmd.Run() == nil
	}
	run("chgrp 65531 " + dir + " " + dir + "/*")
	if out := s.command("directory", "export", "status"); !strings.HasSuffix(out, "\nthe group 65531 can read it\n") ||
		!readable() {
		t.Errorf("readable: %t, the status is %q", readable(), out)
	}
	above := filepath.Dir(s.dir)
	run("chmod 700 " + above)
	status, _, stderr := runCommand(t, nil, "directory", "export", "status", "--data", s.dir)
	if status != exitConfig ||
		!strings.Contains(stderr, "the user 65534, who owns "+s.dir+", may not pass through a directory above it") {
		t.Errorf("in a closed directory: status %d, %s", status, stderr)
	}
	run("chmod 751 " + above + "; chgrp 65533 " + above) // open for the owner of the data, not for the phone server
	run("chmod 710 " + above)
	stdout, err := exec.Command(binary(t), "directory", "export", "status", "--data", s.dir).Output()
	want := "  " + above + " has the mode 0710 and the group 65533; run: chmod o+x"
	if err == nil || !strings.Contains(string(stdout), want) {
		t.Errorf("in a directory for the owner alone: %v, the status is %q", err, stdout)
	}
	run("chmod 755 " + above)
	for name, c := range map[string]struct{ command, path string }{
		"data directory":            {"chmod 700 " + s.dir, s.dir},
		"group of the data, no x":   {"chgrp 65531 " + s.dir + "; chmod 701 " + s.dir, s.dir},
		"directory of the export":   {"chmod 700 " + dir, dir},
		"file":                      {"chmod 600 " + file, file},
		"group of the file":         {"chgrp 65533 " + file, file},
		"two of them, in any order": {"chmod 700 " + s.dir + "; chmod 600 " + file + "-shm", s.dir},
	} {
		t.Run(name, func(t *testing.T) {
			run(c.command)
			if readable() {
				t.Fatal("the file is still readable, so there is nothing to report")
			}
			// The error is on standard error. For cron, the command fails.
			stdout, err := exec.Command(s.program, "directory", "export", "status", "--data", s.dir).Output()
			if e, ok := errors.AsType[*exec.ExitError](err); !ok || e.ExitCode() != exitFailed ||
				!strings.HasPrefix(string(e.Stderr), "dialtone: the group 65531 cannot read the exported tables; ") {
				t.Errorf("export status: %v", err)
			}
			out := string(stdout)
			_, reasons, found := strings.Cut(out, "\nthe group 65531 cannot read it:\n")
			if !found || !strings.HasPrefix(reasons, "  "+c.path+" has the mode ") {
				t.Fatalf("the status is %q", out)
			}
			for line := range strings.Lines(reasons) {
				_, remedy, _ := strings.Cut(line, "; run: ")
				run(remedy)
			}
			if out := s.command("directory", "export", "status"); !readable() ||
				!strings.HasSuffix(out, "\nthe group 65531 can read it\n") {
				t.Errorf("after that, readable: %t, the status is %q", readable(), out)
			}
		})
	}
}
