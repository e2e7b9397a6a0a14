package phonetest_test

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"dialtone/internal/hook"
	"dialtone/internal/hook/httpclient"
	"dialtone/internal/hook/kamailio"
	"dialtone/internal/test/phonetest"
	"dialtone/internal/test/process"
)

// offlineTime is how long a disabled account's phone may still be reachable (docs/directory.md).
const offlineTime = 2 * time.Second

// TestKamailioHook tests the hook that an operator adds for deploy/kamailio.
func TestKamailioHook(t *testing.T) {
	t.Parallel()
	l := overHTTP(t, onSQLite(t))
	k := l.kamailio(unlimited)
	h, err := hook.New(hook.Hook{
		Name: "sip1", Kind: hook.Kamailio, URL: k.Control.URL, AllTenants: true, Created: l.Now(),
	})
	l.Must(err)
	bearer, err := kamailio.BearerSecret(rpcToken)
	l.Must(err)
	hook.NewSealer(l.SealRing).Seal(&h, bearer)
	l.Must(l.Store.AddHook(t.Context(), h))
	client := httpclient.New()
	dispatcher := hook.NewDispatcher(hook.Deps{
		Queue: l.Store, Transports: map[hook.Kind]hook.Transport{hook.Kamailio: kamailio.New(client)},
		SealRing: l.SealRing, Log: l.Logger, Now: l.Now,
	})
	var running sync.WaitGroup
	running.Go(func() { dispatcher.Run(t.Context()) })
	t.Cleanup(func() { // when the context has ended, and before the store is closed
		running.Wait()
		client.Close()
	})
	alex := &phonetest.Phone{Server: k, User: "alex", Domain: "phone.test", Password: "alex's password"}
	whole := *alex
	whole.DigestUser = "alex@phone.test"
	alex.Registers(t, 200)
	whole.Registers(t, 200)
	berta := &phonetest.Phone{Server: k, User: "berta", Domain: "phone.test", Password: "berta's password"}
	berta.Registers(t, 200)

	l.Disable("alex")
	began := time.Now()
	process.Eventually(t, "the disabled account's phones are unregistered", func() error {
		for _, p := range []*phonetest.Phone{alex, &whole} {
			if r, err := p.Register(); err != nil || r.Status != 401 {
				return fmt.Errorf("%s, %v", r, err)
			}
		}
		if list := k.RPC(t, "ul.dump", "brief"); strings.Contains(list, "alex@phone.test") {
			return fmt.Errorf("registered: %s", list)
		}
		return nil
	})
	if took := time.Since(began); took > offlineTime {
		t.Errorf("it took %v", took)
	}
	if list := k.RPC(t, "ul.dump", "brief"); !strings.Contains(list, "berta@phone.test") {
		t.Errorf("another user's phone is unregistered: %s", list)
	}
}

// TestKamailioWithoutLookups tests that a phone gets 503 while look-ups are unavailable, and not
// the answer for an unknown name. It uses the timeout of the deployed file.
func TestKamailioWithoutLookups(t *testing.T) {
	t.Parallel()
	l := overHTTP(t, onSQLite(t))
	k := l.kamailio(nil)
	alex := &phonetest.Phone{Server: k, User: "alex", Domain: "phone.test", Password: "alex's password"}
	refused := func(t *testing.T) {
		for _, password := range []string{"alex's password", "guessed"} {
			away := *alex
			away.Password = password
			if r := away.Registers(t, 503); r.Header.Get("Retry-After") == "" {
				t.Error("the response has no Retry-After")
			}
		}
	}
	t.Run("look-ups hang", func(t *testing.T) {
		gate := make(chan struct{})
		l.slow.Store(&gate)
		defer close(gate)
		defer l.slow.Store(nil)
		refused(t)
	})
	t.Run("connections are refused", func(t *testing.T) {
		l.server.Close()
		refused(t)
	})
}

// registerUnknown sends n registrations of unknown users without waiting for the responses.
func registerUnknown(t *testing.T, k *phonetest.Server, from string, n int) net.Conn {
	t.Helper()
	dialer := net.Dialer{LocalAddr: &net.UDPAddr{IP: net.ParseIP(from)}}
	conn, err := dialer.DialContext(t.Context(), "udp", net.JoinHostPort("127.0.0.1", strconv.Itoa(k.Port)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	for i := range n {
		if _, err := fmt.Fprintf(conn, "REGISTER sip:phone.test SIP/2.0\r\n"+
			"Via: SIP/2.0/UDP %[2]s;branch=z9hG4bK-stranger-%[1]d\r\nMax-Forwards: 70\r\n"+
			"From: <sip:stranger%[1]d@phone.test>;tag=%[1]d\r\nTo: <sip:stranger%[1]d@phone.test>\r\n"+
			"Call-ID: %[2]s-%[1]d\r\nCSeq: 1 REGISTER\r\nContact: <sip:stranger%[1]d@%[2]s>\r\n"+
			"Authorization: Digest username=\"stranger%[1]d\", realm=\"phone.test\", nonce=\"n\", "+
			"uri=\"sip:phone.test\", response=\"00000000000000000000000000000000\", cnonce=\"c\", qop=auth, "+
			"nc=00000001\r\nContent-Length: 0\r\n\r\n", i, conn.LocalAddr()); err != nil {
			t.Fatal(err)
		}
	}
	return conn
}

// TestKamailioOverload sends more look-ups than Kamailio has workers. Users in the cache do not wait,
// and the others get 503.
func TestKamailioOverload(t *testing.T) {
	t.Parallel()
	l := overHTTP(t, onSQLite(t))
	k := l.kamailio(unlimited)
	berta := &phonetest.Phone{Server: k, User: "berta", Domain: "phone.test", Password: "berta's password"}
	berta.Registers(t, 200)
	gate := make(chan struct{})
	open := sync.OnceFunc(func() {
		l.slow.Store(nil)
		close(gate)
	})
	defer open()
	l.slow.Store(&gate)
	// The requests are sent in groups, because a socket buffers only a limited number.
	process.Eventually(t, "a phone gets 503", func() error {
		conn := registerUnknown(t, k, "127.0.0.1", 100)
		conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		answer := make([]byte, 4096)
		n, err := conn.Read(answer)
		text := string(answer[:n])
		if err == nil && !(strings.HasPrefix(text, "SIP/2.0 503 ") && strings.Contains(text, "\r\nRetry-After: ")) {
			t.Fatalf("got %s", text)
		}
		return err
	})
	berta.Registers(t, 200)
}

// TestKamailioFlood tests that the limit on requests from one address comes before the look-ups.
func TestKamailioFlood(t *testing.T) {
	t.Parallel()
	l := overHTTP(t, onSQLite(t))
	k := l.kamailio(unlimited[:2])
	const sent = 1000
	registerUnknown(t, k, "127.0.0.2", sent)
	process.Eventually(t, "the address is blocked", func() error {
		if !strings.Contains(k.Logs(), "BLOCKing ip 127.0.0.2") {
			return errors.New("no line in the log says so")
		}
		return nil
	})
	if n := l.asked.Load(); n > sent/2 {
		t.Errorf("%d look-ups", n)
	}
	(&phonetest.Phone{Server: k, User: "alex", Domain: "phone.test", Password: "alex's password"}).Registers(t, 200)
}
