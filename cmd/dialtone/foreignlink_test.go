package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"dialtone/cmd/dialtone/internal/finding"
	"dialtone/cmd/dialtone/internal/terminal"
)

// link creates a link owned by the service's user.
func (s *service) link(target, path string) {
	s.Helper()
	s.must(os.Symlink(target, path))
	s.must(os.Lchown(path, serviceUser, serviceGroup))
}

// No output tells anybody to change the owner or mode of a target behind a link that the server's
// user has created, wherever in the path the link is. A finding names the link instead.
func TestDoctorAdvisesNothingBehindLinks(t *testing.T) {
	t.Parallel()
	for claim, c := range map[string]struct {
		mode os.FileMode // of the file of root's
		make func(s *service, file string) (link string, environ []string)
	}{
		"file that is read": {0o600, func(s *service, file string) (string, []string) {
			link := filepath.Join(s.dir, "security.txt")
			s.link(file, link)
			return link, []string{"DIALTONE_HTTP_SECURITY_TXT=" + link}
		}},
		"directory above a file that is read": {0o600, func(s *service, file string) (string, []string) {
			link := filepath.Join(s.dir, "of root")
			s.link(filepath.Dir(file), link)
			return link, []string{"DIALTONE_HTTP_SECURITY_TXT=" + filepath.Join(link, filepath.Base(file))}
		}},
		"directory of the keys": {0o600, func(s *service, file string) (string, []string) {
			link := filepath.Join(s.dir, "keys")
			s.must(os.RemoveAll(link))
			s.link(filepath.Dir(file), link)
			return link, nil
		}},
		"directory of the keys elsewhere": {0o600, func(s *service, file string) (string, []string) {
			home := filepath.Join(filepath.Dir(s.dir), "home")
			s.must(os.Mkdir(home, 0o755))
			s.must(os.Chown(home, serviceUser, serviceGroup))
			link := filepath.Join(home, "keys")
			s.link(filepath.Dir(file), link)
			return link, []string{"DIALTONE_KEYS_DIR=" + link}
		}},
		"key": {0o644, func(s *service, file string) (string, []string) {
			link := filepath.Join(s.dir, "keys", "seal.key")
			s.must(os.Remove(link))
			s.link(file, link)
			return link, nil
		}},
		"link of root's to a link": {0o644, func(s *service, file string) (string, []string) {
			link, direct := filepath.Join(s.dir, "password"), filepath.Join(filepath.Dir(s.dir), "direct")
			s.link(file, link)
			s.must(os.Symlink(link, direct))
			return link, []string{"DIALTONE_MAIL_RELAY=smtp://user@127.0.0.1:9",
				"DIALTONE_MAIL_RELAY_PASSWORD_FILE=" + direct}
		}},
		"link in place of a link of root's": {0o644, func(s *service, file string) (string, []string) {
			link := filepath.Join(s.dir, "password")
			s.must(os.Symlink(file, link)) // the owner of the directory may have moved it there
			return link, []string{"DIALTONE_MAIL_RELAY=smtp://user@127.0.0.1:9",
				"DIALTONE_MAIL_RELAY_PASSWORD_FILE=" + link}
		}},
		"pickup directory": {0o644, func(s *service, file string) (string, []string) {
			link := filepath.Join(s.dir, "pickup")
			s.must(os.RemoveAll(link))
			s.link(filepath.Dir(file), link)
			return link, nil
		}},
	} {
		t.Run(claim, func(t *testing.T) {
			t.Parallel()
			s := newService(t)
			s.command("tenant", "add", "localhost")
			victim := filepath.Join(filepath.Dir(s.dir), "victim")
			s.must(os.Mkdir(victim, 0o755))
			file := filepath.Join(victim, "seal.key")
			s.must(os.WriteFile(file, []byte("of root"), c.mode))
			s.must(os.Chmod(file, c.mode))
			link, environ := c.make(s, file)
			list := examined(t, append(environ, "DIALTONE_DATA="+s.dir, "DIALTONE_OPS_LISTEN=127.0.0.1:9")...)
			named := 0
			for _, f := range list {
				if f.Level == finding.Fault && strings.HasPrefix(f.Cause, link+" is a link of the user ") {
					named++
				}
				for _, command := range []string{"chmod", "chown", "chgrp"} {
					if strings.Contains(f.Next, command) {
						t.Errorf("it advises %+v", f)
					}
				}
			}
			if named == 0 {
				t.Errorf("no finding names the link: %+v", list)
			}
		})
	}
}

// Shell metacharacters in a name are quoted in the printed commands, and nothing is printed about
// the target of a link of the server's user.
func TestCommandsToCopy(t *testing.T) {
	t.Parallel()
	s := newService(t)
	above, hostile := filepath.Dir(s.dir), "q$(id -un >pwned) '\n  run: touch pwned\n\u202e"
	s.dir = filepath.Join(above, hostile)
	s.must(os.Mkdir(s.dir, 0o751))
	s.must(os.Chown(s.dir, serviceUser, serviceGroup))
	s.command("tenant", "add", "localhost")
	s.command("directory", "export", "enable")
	s.must(os.Chmod(filepath.Join(s.dir, "directory"), 0o700))
	s.must(os.Chmod(s.dir, 0o700))
	status := func() (out string, commands []string) {
		t.Helper()
		cmd := exec.Command(s.program, "directory", "export", "status", "--data", s.dir)
		text, _ := cmd.Output() // which fails as long as there is a command
		for line := range strings.Lines(string(text)) {
			if _, command, found := strings.Cut(line, "; run: ch"); found {
				commands = append(commands, "ch"+command)
			}
			if strings.HasPrefix(strings.TrimSpace(line), "run:") {
				t.Errorf("a name begins a line: %q", text)
			}
		}
		return string(text), commands
	}
	out, commands := status()
	if len(commands) != 2 {
		t.Fatalf("not two commands in %q", out)
	}
	for _, f := range examined(t, "DIALTONE_DATA="+s.dir) {
		if command, found := strings.CutPrefix(terminal.OneLine(f.Next), "run: ch"); found {
			commands = append(commands, "ch"+command)
		}
	}
	if len(commands) != 4 {
		t.Fatalf("doctor does not print the same commands: %q", commands)
	}
	for _, command := range commands {
		cmd := exec.Command("sh", "-c", terminal.Escape(command))
		cmd.Dir = above
		if text, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v, %s", command, err, text)
		}
	}
	if out, commands := status(); len(commands) > 0 || !strings.Contains(out, "can read it") {
		t.Errorf("after the commands: %q", out)
	}
	if _, err := os.Lstat(filepath.Join(above, "pwned")); err == nil {
		t.Error("a command ran what a name has")
	}

	other := filepath.Join(s.dir, "other")
	s.must(os.Mkdir(other, 0o700))
	s.must(os.Chown(other, serviceUser, serviceGroup))
	s.must(os.Rename(filepath.Join(s.dir, "directory"), filepath.Join(other, "directory")))
	s.link(filepath.Join(other, "directory"), filepath.Join(s.dir, "directory"))
	out, commands = status()
	if len(commands) > 0 || strings.Contains(out, "chmod") ||
		!strings.Contains(out, "is a link of the user nobody to ") {
		t.Errorf("behind a link: %q", out)
	}
}
