package main

import (
	"crypto/rand"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"dialtone/internal/test/phonetest"
	"dialtone/internal/test/process"
)

// kamailioServer is a Kamailio with a registrar that accepts every phone, a table of cached
// credentials, and a list of domains in a file. Its control interface is deploy/kamailio/rpc.cfg.
type kamailioServer struct {
	*phonetest.Server
	t      *testing.T
	token  string // the file with the token
	writes int    // of the list of domains
}

const kamailioConfig = `#!KAMAILIO
#!define RPC_PORT %s
debug=2
log_stderror=yes
fork=yes
children=1
tcp_children=2
auto_aliases=no
listen=udp:127.0.0.1:%d
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

func newKamailio(t *testing.T) *kamailioServer {
	t.Helper()
	k := &kamailioServer{t: t}
	control, bearer := process.Address(t), rand.Text()
	k.Server = phonetest.Kamailio(t, func(s *phonetest.Server) string {
		k.Server = s
		s.Write(t, "rpc.cfg", phonetest.Config(t, "kamailio/rpc.cfg"))
		s.Write(t, "rpc-token.cfg", fmt.Sprintf("#!define RPC_TOKEN \"Bearer %s\"\n", bearer))
		k.token = s.Write(t, "token", bearer+"\n")
		s.Write(t, "version", "table_name(string) table_version(int)\ndomain:2\ndomain_attrs:1\n")
		s.Write(t, "domain_attrs", "id(int,auto) did(string) name(string) type(int) value(string) "+
			"last_modified(int)\n")
		k.domains("localhost")
		_, port, _ := strings.Cut(control, ":")
		return fmt.Sprintf(kamailioConfig, port, s.Port, s.Dir)
	})
	k.Control = phonetest.RPC{URL: "http://" + control + "/RPC", Token: bearer}
	process.Eventually(t, "Kamailio takes commands", func() error {
		_, err := k.Control.Call("core.version")
		return err
	})
	return k
}

// domains writes the list that domain.reload reads.
func (k *kamailioServer) domains(list ...string) {
	k.t.Helper()
	text := "id(int,auto) domain(string) did(string,null) last_modified(int)\n"
	for i, d := range list {
		text += fmt.Sprintf("%d:%s:%s:0\n", i+1, d, d)
	}
	file := k.Write(k.t, "domain", text)
	// db_text reads a file again if its time in whole seconds has changed.
	k.writes++
	at := time.Now().Add(time.Duration(k.writes) * time.Second)
	if err := os.Chtimes(file, at, at); err != nil {
		k.t.Fatal(err)
	}
}

// register registers a phone.
func (k *kamailioServer) register(user, domain string) {
	k.t.Helper()
	(&phonetest.Phone{Server: k.Server, User: user, Domain: domain}).Registers(k.t, 200)
	if !k.registered(user, domain) {
		k.t.Fatalf("%s is not registered", user)
	}
}

func (k *kamailioServer) registered(user, domain string) bool {
	_, err := k.Control.Call("ul.lookup", "location", user+"@"+domain)
	return err == nil
}

// cache adds a credential to the cache.
func (k *kamailioServer) cache(key string) {
	k.t.Helper()
	if _, err := k.Control.Call("htable.sets", "ha1", key, "0123"); err != nil || !k.caches(key) {
		k.t.Fatal(err)
	}
}

// caches reports whether the cache contains a credential.
func (k *kamailioServer) caches(key string) bool {
	_, err := k.Control.Call("htable.get", "ha1", key)
	return err == nil
}

func (k *kamailioServer) serves(domain string) bool {
	text, err := k.Control.Call("domain.dump")
	return err == nil && strings.Contains(text, fmt.Sprintf("%q", domain))
}
