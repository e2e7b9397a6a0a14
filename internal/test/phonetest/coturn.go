package phonetest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"dialtone/internal/test/process"
)

var relayPorts = regexp.MustCompile(`(?m)^(min|max)-port=.*$`)

// Coturn runs a configuration of deploy/coturn, with replacements as for Config. It gets ports of its
// own, and relays to this machine, which the configurations forbid: the tests have no other peer.
func Coturn(t testing.TB, name string, replace ...string) *Server {
	t.Helper()
	s := newServer(t, "coturn")
	text := Config(t, "coturn/"+name, append([]string{
		"listening-port=3478", "listening-port=" + strconv.Itoa(s.Port),
		"denied-peer-ip=127.0.0.0-127.255.255.255", "allow-loopback-peers",
	}, replace...)...)
	text = relayPorts.ReplaceAllString(text, "") + "\nmin-port=40000\nmax-port=42000\n"
	if !strings.Contains(text, "listening-ip=") {
		text += fmt.Sprintf("listening-ip=127.0.0.1\nrelay-ip=127.0.0.1\nno-tls\nno-dtls\n"+
			"log-file=stdout\nsimple-log\nuserdb=%s/turndb\n", s.Dir)
	}
	s.run(t, answersSTUN(s.address()), "turnserver",
		"-c", s.Write(t, "turnserver.conf", text), "--pidfile", filepath.Join(s.Dir, "pid"))
	return s
}

// answersSTUN returns a condition for process.Run: something answers a STUN binding request that is
// sent to address by UDP. coturn opens its TCP ports earlier than its UDP ports.
func answersSTUN(address string) func() error {
	// The type of the message, the length of its attributes, the magic cookie, and the transaction ID
	// (RFC 8489, section 5).
	request := []byte("\x00\x01" + "\x00\x00" + "\x21\x12\xa4\x42" + "transaction!")
	return func() error {
		conn, err := net.DialTimeout("udp", address, time.Second)
		if err != nil {
			return err
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(time.Second))
		if _, err := conn.Write(request); err != nil {
			return err
		}
		_, err = conn.Read(make([]byte, 1500))
		return err
	}
}

// Relays sends a packet through a relay that it allocates for a user. It reports whether the server
// accepted the credentials. Any other problem fails the test.
func (s *Server) Relays(t testing.TB, user, password string) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), process.Timeout)
	defer cancel()
	out, err := exec.CommandContext(ctx, process.Find(t, "turnutils_uclient"), "-y", "-c", "-n", "1",
		"-m", "1", "-u", user, "-w", password, "-p", strconv.Itoa(s.Port), "127.0.0.1").CombinedOutput()
	_, refused := errors.AsType[*exec.ExitError](err)
	switch {
	case err == nil:
		if !strings.Contains(string(out), "Total lost packets 0 ") {
			t.Errorf("the relay lost packets:\n%s", out)
		}
		return true
	case refused && ctx.Err() == nil && strings.Contains(string(out), "Cannot complete Allocation"):
		return false
	}
	t.Fatalf("turnutils_uclient: %v\n%s", err, out)
	return false
}
