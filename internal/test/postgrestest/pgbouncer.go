package postgrestest

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"dialtone/internal/test/process"
)

// PgBouncer runs PgBouncer in front of the server at address, which has the databases and the
// password of the cluster, until the test is over. It returns a function that turns the URL of a
// database into its URL through PgBouncer. All settings except mode, the pool_mode, have their
// defaults.
func (c *Cluster) PgBouncer(t testing.TB, mode, address string) (through func(url string) string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "dialtone-pgbouncer-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	listen := process.Port(t)
	for name, text := range map[string]string{
		"users": fmt.Sprintf("%q %q\n", "postgres", c.verifier),
		"ini": fmt.Sprintf(`[databases]
* = host=%s port=%s
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
unix_socket_dir =
auth_type = scram-sha-256
auth_file = %s
pool_mode = %s
`, host, port, listen, filepath.Join(dir, "users"), mode),
	} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := process.Chown(path, c.installed.as); err != nil {
			t.Fatal(err)
		}
	}
	if err := process.Chown(dir, c.installed.as); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(process.Find(t, "pgbouncer"), filepath.Join(dir, "ini"))
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: c.installed.as} // it does not run as root
	pooler := fmt.Sprintf("127.0.0.1:%d", listen)
	process.Run(t, cmd, new(process.Log), process.Answers(pooler))
	return func(direct string) string {
		u, err := url.Parse(direct)
		if err != nil {
			t.Fatal(err)
		}
		u.Host = pooler
		return u.String()
	}
}
