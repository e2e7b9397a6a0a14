package phonetest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"testing"
)

// Kamailio runs Kamailio with the configuration that config returns. It must answer SIP requests on
// the server's port by UDP. config may write more files to the server's directory.
func Kamailio(t testing.TB, config func(s *Server) string) *Server {
	t.Helper()
	s := newServer(t, "kamailio")
	file := s.Write(t, "kamailio.cfg", config(s))
	phone := &Phone{Server: s, User: "nobody", Domain: "nowhere.test"}
	answers := func() error {
		_, err := phone.exchange("REGISTER", "sip:nowhere.test", "nobody@nowhere.test")
		return err
	}
	s.run(t, answers, "kamailio", "-DD", "-E", "-f", file, "-m", "256", "-M", "8",
		"-Y", s.Dir, "-w", s.Dir, "-P", filepath.Join(s.Dir, "pid"))
	return s
}

// DeployedKamailio runs a configuration of deploy/kamailio, with replacements as for Config. The SIP
// port, 5060, is replaced too.
func DeployedKamailio(t testing.TB, name string, replace ...string) *Server {
	t.Helper()
	return Kamailio(t, func(s *Server) string {
		return Config(t, "kamailio/"+name, append([]string{"127.0.0.1:5060", s.address()}, replace...)...)
	})
}

// RPC is Kamailio's JSON-RPC over HTTP. The token is a bearer token.
type RPC struct{ URL, Token string }

// Call calls a method and returns the response. A response with an error is an error.
func (r RPC) Call(method string, params ...any) (string, error) {
	if params == nil {
		params = []any{} // Kamailio requires a list
	}
	body, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
	if err != nil {
		return "", err
	}
	req, err := http.NewRequest(http.MethodPost, r.URL, bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	req.Header.Set("Authorization", "Bearer "+r.Token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = errors.New(resp.Status)
	}
	if err != nil {
		return string(text), fmt.Errorf("%s: %w", method, err)
	}
	return string(text), nil
}

// RPC calls a method and returns the response. An error fails the test.
func (s *Server) RPC(t testing.TB, method string, params ...any) string {
	t.Helper()
	text, err := s.Control.Call(method, params...)
	if err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return text
}
