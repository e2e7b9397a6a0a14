package phonetest

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strconv"
	"testing"
)

// Kamailio runs a configuration of deploy/ with its SIP port, 5060, in place of another.
func Kamailio(t testing.TB, name string, replace ...string) *Server {
	t.Helper()
	s := prepared(t, "kamailio")
	port := strconv.Itoa(s.Port)
	config := s.write(t, "kamailio.cfg", Config(t, name, append([]string{"127.0.0.1:5060", "127.0.0.1:" + port}, replace...)...))
	probe := &Phone{Server: s, User: "nobody", Domain: "nowhere.test"}
	s.start(t, func() error { _, err := probe.ask("REGISTER", "sip:nowhere.test", "nobody@nowhere.test"); return err },
		"kamailio", "-DD", "-E", "-f", config, "-m", "256", "-M", "8", "-Y", s.Dir, "-w", s.Dir, "-P", filepath.Join(s.Dir, "pid"))
	return s
}

// RPC calls a method of Kamailio's control plane.
func (s *Server) RPC(t testing.TB, port int, token, method, params string) string {
	t.Helper()
	body := fmt.Sprintf(`{"jsonrpc":"2.0","method":%q,"params":[%s],"id":1}`, method, params)
	req, err := http.NewRequestWithContext(t.Context(), "POST", fmt.Sprintf("http://127.0.0.1:%d/", port), bytes.NewReader([]byte(body)))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", token)
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s %s %v", method, answer.Status, text, err)
	}
	return string(text)
}
