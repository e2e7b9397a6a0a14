package phonetest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// Apache runs a file of deploy/apache in a server of its own, which has one folder and in it a page for members.
func Apache(t testing.TB, name string, replace ...string) *Server {
	t.Helper()
	s := prepared(t, "apache")
	members := filepath.Join(s.Dir, "www", "members")
	for _, dir := range []string{filepath.Dir(members), members} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		s.give(t, dir)
	}
	s.write(t, "www/members/page", "for members")
	s.write(t, "site.conf", Config(t, "apache/"+name, append([]string{"/var/www/members", members}, replace...)...))
	modules := "/usr/lib/apache2/modules"
	if _, err := os.Stat(modules); err != nil {
		modules = "/usr/lib64/httpd/modules"
	}
	var load strings.Builder
	for _, m := range []string{"mpm_event", "authn_core", "authz_core", "authz_user", "auth_digest", "authn_file", "dbd", "authn_dbd"} {
		fmt.Fprintf(&load, "LoadModule %s_module %s/mod_%s.so\n", m, modules, m)
	}
	config := s.write(t, "apache.conf", fmt.Sprintf(`%sServerRoot "%s"
DefaultRuntimeDir "%[2]s"
PidFile "%[2]s/pid"
ErrorLog "|/bin/cat >&2"
ServerName 127.0.0.1
Listen 127.0.0.1:%d
DocumentRoot "%[2]s/www"
Include "%[2]s/site.conf"
`, load.String(), s.Dir, s.Port))
	s.start(t, func() error {
		conn, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(s.Port)))
		if err == nil {
			conn.Close()
		}
		return err
	}, "apache2", "-X", "-f", config)
	return s
}

// Page asks for the members' page as curl does, and gives the status.
func (s *Server) Page(t testing.TB, user, password string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "curl", "-sS", "-o", filepath.Join(t.TempDir(), "page"), "-w", "%{http_code}", "--digest", "--config", "-",
		fmt.Sprintf("http://127.0.0.1:%d/members/page", s.Port))
	quote := strings.NewReplacer(`\`, `\\`, `"`, `\"`)
	cmd.Stdin = strings.NewReader(`user = "` + quote.Replace(user+":"+password) + `"`)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}
