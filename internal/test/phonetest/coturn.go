package phonetest

import (
	"net"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// Coturn runs deploy/coturn/turnserver.conf with ports of its own. Peers on this machine are let through, since there are no others.
func Coturn(t testing.TB, replace ...string) *Server {
	t.Helper()
	s := prepared(t, "coturn")
	config := s.write(t, "turnserver.conf", Config(t, "coturn/turnserver.conf", append([]string{
		"listening-port=3478", "listening-port=" + strconv.Itoa(s.Port),
		"min-port=49152", "min-port=40000", "max-port=65535", "max-port=42000",
		"denied-peer-ip=127.0.0.0-127.255.255.255", "allow-loopback-peers",
	}, replace...)...))
	s.start(t, func() error {
		conn, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(s.Port)))
		if err == nil {
			conn.Close()
		}
		return err
	}, "turnserver", "-c", config, "--pidfile", filepath.Join(s.Dir, "pid"))
	return s
}

// Relays sends some packets through an allocation of a user, and reports whether that was let through or refused.
func (s *Server) Relays(t testing.TB, user, password string) bool {
	t.Helper()
	path, err := find("turnutils_uclient")
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), path, "-y", "-c", "-n", "1", "-m", "1", "-u", user, "-w", password,
		"-p", strconv.Itoa(s.Port), "127.0.0.1").CombinedOutput()
	if err != nil && !strings.Contains(string(out), "Cannot complete Allocation") {
		t.Fatalf("not refused, and not let through: %v\n%s", err, out)
	}
	return err == nil
}
