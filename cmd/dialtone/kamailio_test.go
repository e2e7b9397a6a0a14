package main

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// kamailioServer is Debian's Kamailio with a registrar that lets everybody in, a table of what it looked up, and a list of domains in a
// file. It takes commands as deploy/kamailio/rpc.cfg has it.
type kamailioServer struct {
	*testing.T
	dir     string
	address string // of SIP, by UDP
	rpc     string
	token   string // the file with the token
	bearer  string
	cmd     *exec.Cmd
	said    *lines
	writes  int // of the list of domains
}

const kamailioConfig = `#!KAMAILIO
#!define RPC_PORT %d
debug=2
log_stderror=yes
fork=yes
children=1
tcp_children=2
auto_aliases=no
listen=udp:%s
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "pv.so"
loadmodule "usrloc.so"
loadmodule "registrar.so"
loadmodule "siputils.so"
loadmodule "htable.so"
loadmodule "db_text.so"
loadmodule "domain.so"
modparam("usrloc", "db_mode", 0)
modparam("usrloc", "use_domain", 1)
modparam("htable", "htable", "ha1=>size=8;autoexpire=600;")
modparam("db_text", "db_mode", 1)
modparam("domain", "db_url", "text://%s")
include_file "rpc.cfg"
request_route {
	if (!save("location")) { sl_reply_error(); }
}
`

// freePort is a port of this machine that nobody has, for TCP and UDP alike.
func freePort(t testing.TB) int {
	t.Helper()
	for range 100 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port := l.Addr().(*net.TCPAddr).Port
		c, err := net.ListenPacket("udp", l.Addr().String())
		l.Close()
		if err == nil {
			c.Close()
			return port
		}
	}
	t.Fatal("no port is free")
	return 0
}

func newKamailio(t *testing.T) *kamailioServer {
	t.Helper()
	k := &kamailioServer{T: t, dir: t.TempDir(), said: newLines()}
	port := freePort(t)
	k.address = fmt.Sprintf("127.0.0.1:%d", freePort(t))
	k.rpc = fmt.Sprintf("http://127.0.0.1:%d/RPC", port)
	k.bearer, k.token = rand.Text(), filepath.Join(k.dir, "token")
	rules, err := os.ReadFile(filepath.Join("..", "..", "deploy", "kamailio", "rpc.cfg"))
	if err != nil {
		t.Fatal(err)
	}
	k.write("rpc.cfg", string(rules))
	k.write("rpc-token.cfg", fmt.Sprintf("#!define RPC_TOKEN \"Bearer %s\"\n", k.bearer))
	k.write("token", k.bearer+"\n")
	k.write("kamailio.cfg", fmt.Sprintf(kamailioConfig, port, k.address, k.dir))
	k.write("version", "table_name(string) table_version(int)\ndomain:2\ndomain_attrs:1\n")
	k.write("domain_attrs", "id(int,auto) did(string) name(string) type(int) value(string) last_modified(int)\n")
	k.domains("localhost")
	k.begin()
	return k
}

func (k *kamailioServer) write(name, text string) {
	k.Helper()
	if err := os.WriteFile(filepath.Join(k.dir, name), []byte(text), 0o600); err != nil {
		k.Fatal(err)
	}
}

// domains writes the list that domain.reload reads.
func (k *kamailioServer) domains(list ...string) {
	k.Helper()
	text := "id(int,auto) domain(string) did(string,null) last_modified(int)\n"
	for i, d := range list {
		text += fmt.Sprintf("%d:%s:%s:0\n", i+1, d, d)
	}
	k.write("domain", text)
	// db_text reads a file anew that has another time, in whole seconds.
	k.writes++
	at := time.Now().Add(time.Duration(k.writes) * time.Second)
	if err := os.Chtimes(filepath.Join(k.dir, "domain"), at, at); err != nil {
		k.Fatal(err)
	}
}

// begin starts it and waits until it takes commands.
func (k *kamailioServer) begin() {
	k.Helper()
	path, err := exec.LookPath("kamailio")
	if err != nil {
		path = "/usr/sbin/kamailio"
	}
	k.cmd = exec.Command(path, "-DD", "-E", "-m", "32", "-M", "4", "-Y", k.dir, "-w", k.dir, "-f", filepath.Join(k.dir, "kamailio.cfg"))
	k.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	pipe, err := k.cmd.StderrPipe()
	if err != nil {
		k.Fatal(err)
	}
	if err := k.cmd.Start(); err != nil {
		k.Fatalf("%v; `make test` installs Kamailio", err)
	}
	read := make(chan struct{})
	go func() { k.said.read(pipe); close(read) }()
	cmd := k.cmd
	k.Cleanup(func() {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // its children too, which are a group of their own
		<-read
		cmd.Wait()
	})
	for deadline := time.Now().Add(startWithin); ; {
		if _, err = k.ask("core.version"); err == nil {
			return
		}
		if time.Now().After(deadline) {
			k.Fatalf("Kamailio does not answer: %v\n%s", err, k.said)
		}
		<-time.After(10 * time.Millisecond)
	}
}

// ask runs a command of it. An error of its own is one.
func (k *kamailioServer) ask(method string, params ...string) (string, error) {
	if params == nil {
		params = []string{} // it wants a list
	}
	body, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
	if err != nil {
		return "", err
	}
	req, err := http.NewRequest(http.MethodPost, k.rpc, bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	req.Header.Set("Authorization", "Bearer "+k.bearer)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = errors.New(resp.Status)
	}
	return string(text), err
}

// register is a phone that registers, as RFC 3261 §10.2 has it.
func (k *kamailioServer) register(user, domain string) {
	k.Helper()
	c, err := net.Dial("udp", k.address)
	if err != nil {
		k.Fatal(err)
	}
	defer c.Close()
	own := c.LocalAddr().String()
	tag := rand.Text()
	fmt.Fprintf(c, "REGISTER sip:%[2]s SIP/2.0\r\nVia: SIP/2.0/UDP %[3]s;branch=z9hG4bK%[4]s\r\nMax-Forwards: 70\r\nFrom: <sip:%[1]s@%[2]s>;tag=%[4]s\r\n"+
		"To: <sip:%[1]s@%[2]s>\r\nCall-ID: %[4]s\r\nCSeq: 1 REGISTER\r\nContact: <sip:%[1]s@%[3]s>\r\nExpires: 3600\r\nContent-Length: 0\r\n\r\n", user, domain, own, tag)
	c.SetReadDeadline(time.Now().Add(5 * time.Second))
	answer := make([]byte, 4096)
	n, err := c.Read(answer)
	if err != nil || !strings.HasPrefix(string(answer[:n]), "SIP/2.0 200 ") {
		k.Fatalf("REGISTER: %v\n%s\n%s", err, answer[:n], k.said)
	}
	if !k.registered(user, domain) {
		k.Fatalf("%s is not registered", user)
	}
}

func (k *kamailioServer) registered(user, domain string) bool {
	k.Helper()
	_, err := k.ask("ul.lookup", "location", user+"@"+domain)
	return err == nil
}

// remember lets it know what it looked up, and remembers whether it still does.
func (k *kamailioServer) remember(key string) {
	k.Helper()
	if _, err := k.ask("htable.sets", "ha1", key, "0123"); err != nil || !k.remembers(key) {
		k.Fatal(err)
	}
}

func (k *kamailioServer) remembers(key string) bool {
	_, err := k.ask("htable.get", "ha1", key)
	return err == nil
}

func (k *kamailioServer) serves(domain string) bool {
	text, err := k.ask("domain.dump")
	return err == nil && strings.Contains(text, fmt.Sprintf("%q", domain))
}
