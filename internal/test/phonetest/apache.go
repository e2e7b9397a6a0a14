package phonetest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"dialtone/internal/test/process"
)

// Apache runs a configuration of deploy/apache, with replacements as for Config. It protects one
// page, /members/page.
func Apache(t testing.TB, name string, replace ...string) *Server {
	t.Helper()
	s := newServer(t, "apache")
	s.mkdir(t, "www")
	members := s.mkdir(t, "www/members")
	s.Write(t, "www/members/page", "for members")
	site := Config(t, "apache/"+name, append([]string{"/var/www/members", members}, replace...)...)
	s.Write(t, "site.conf", site)
	modules := "/usr/lib/apache2/modules"
	if _, err := os.Stat(modules); err != nil {
		modules = "/usr/lib64/httpd/modules"
	}
	var load strings.Builder
	for _, m := range []string{
		"mpm_event", "authn_core", "authz_core", "authz_user", "auth_digest", "authn_file", "dbd", "authn_dbd",
	} {
		fmt.Fprintf(&load, "LoadModule %s_module %s/mod_%s.so\n", m, modules, m)
	}
	config := s.Write(t, "apache.conf", fmt.Sprintf(`%sServerRoot "%s"
DefaultRuntimeDir "%[2]s"
PidFile "%[2]s/pid"
ErrorLog "|$/bin/cat >&2"
ServerName 127.0.0.1
Listen 127.0.0.1:%d
DocumentRoot "%[2]s/www"
Include "%[2]s/site.conf"
`, load.String(), s.Dir, s.Port))
	s.run(t, process.Answers(s.address()), "apache2", "-X", "-f", config)
	return s
}

// Page requests the protected page with digest authentication, by curl, and returns the status.
func (s *Server) Page(t testing.TB, user, password string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "curl", "-sS", "-o", filepath.Join(t.TempDir(), "page"),
		"-w", "%{http_code}", "--digest", "--config", "-", "http://"+s.address()+"/members/page")
	quote := strings.NewReplacer(`\`, `\\`, `"`, `\"`)
	cmd.Stdin = strings.NewReader(`user = "` + quote.Replace(user+":"+password) + `"`)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}
