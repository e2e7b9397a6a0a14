package phonetest_test

import (
	"fmt"
	"log/slog"
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
)

// offTheAir is for how long a phone may still be reached that is disabled; so it stands in docs/directory.md.
const offTheAir = 2 * time.Second

// The hook that an operator adds, and what Dialtone calls by it, on the file that Kamailio has.
func TestKamailioOverHTTPIsTold(t *testing.T) {
	t.Parallel()
	l := overHTTP(t, onSQLite(t))
	k, rpc := l.kamailio(patient)
	h, err := hook.New(hook.Hook{Name: "sip1", Kind: hook.Kamailio, URL: fmt.Sprintf("http://127.0.0.1:%d/RPC", rpc), AllTenants: true, Created: time.Now()})
	l.must(err)
	bearer, err := kamailio.BearerSecret(strings.TrimPrefix(rpcToken, "Bearer "))
	l.must(err)
	hook.NewSealer(l.ring).Seal(&h, bearer)
	l.must(l.AddHook(t.Context(), h))
	client := httpclient.New()
	dispatcher := hook.NewDispatcher(hook.Deps{
		Queue: l.Store, Transports: map[hook.Kind]hook.Transport{hook.Kamailio: kamailio.New(client)},
		SealRing: l.ring, Log: slog.New(slog.DiscardHandler), Now: time.Now,
	})
	var running sync.WaitGroup
	running.Go(func() { dispatcher.Run(t.Context()) })
	t.Cleanup(func() { // when the context has ended, and before the store is closed
		running.Wait()
		client.Close()
	})
	alex := &phonetest.Phone{Server: k, User: "alex", Domain: "phone.test", Password: "alex's password"}
	whole := *alex
	whole.Digest = "alex@phone.test"
	alex.Registers(t, 200)
	whole.Registers(t, 200)
	berta := &phonetest.Phone{Server: k, User: "berta", Domain: "phone.test", Password: "berta's password"}
	berta.Registers(t, 200)

	l.disable("alex", "phone.test")
	began := time.Now()
	phonetest.Eventually(t, "the disabled phone is off the air", func() error {
		for _, p := range []*phonetest.Phone{alex, &whole} {
			if r, err := p.Register(); err != nil || r.Status != 401 {
				return fmt.Errorf("%s, %v", r, err)
			}
		}
		if list := k.RPC(t, rpc, rpcToken, "ul.dump", `"brief"`); strings.Contains(list, "alex@phone.test") {
			return fmt.Errorf("registered: %s", list)
		}
		return nil
	})
	if took := time.Since(began); took > offTheAir {
		t.Errorf("it took %v", took)
	}
	if list := k.RPC(t, rpc, rpcToken, "ul.dump", `"brief"`); !strings.Contains(list, "berta@phone.test") {
		t.Errorf("another's phone is gone: %s", list)
	}
}

// With the time that the file gives it, a directory that nobody answers for is none that knows no such account.
func TestKamailioWithoutTheDirectory(t *testing.T) {
	t.Parallel()
	l := overHTTP(t, onSQLite(t))
	k, _ := l.kamailio(nil)
	alex := &phonetest.Phone{Server: k, User: "alex", Domain: "phone.test", Password: "alex's password"}
	later := func(t *testing.T) {
		for _, password := range []string{"alex's password", "guessed"} {
			away := *alex
			away.Password = password
			if r := away.Registers(t, 503); r.Header.Get("Retry-After") == "" {
				t.Error("the phone is not told when to try again")
			}
		}
	}
	t.Run("it hangs", func(t *testing.T) {
		gate := make(chan struct{})
		l.slow.Store(&gate)
		defer close(gate)
		defer l.slow.Store(nil)
		later(t)
	})
	t.Run("it is not there", func(t *testing.T) {
		l.server.Close()
		later(t)
	})
}

// strangers has names register that nobody has, by credentials that are none, and waits for no answer.
func strangers(t *testing.T, k *phonetest.Server, from string, n int) net.Conn {
	t.Helper()
	dialer := net.Dialer{LocalAddr: &net.UDPAddr{IP: net.ParseIP(from)}}
	conn, err := dialer.DialContext(t.Context(), "udp", net.JoinHostPort("127.0.0.1", strconv.Itoa(k.Port)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	for i := range n {
		if _, err := fmt.Fprintf(conn, "REGISTER sip:phone.test SIP/2.0\r\nVia: SIP/2.0/UDP %[2]s;branch=z9hG4bK-stranger-%[1]d\r\nMax-Forwards: 70\r\n"+
			"From: <sip:stranger%[1]d@phone.test>;tag=%[1]d\r\nTo: <sip:stranger%[1]d@phone.test>\r\nCall-ID: %[2]s-%[1]d\r\nCSeq: 1 REGISTER\r\n"+
			"Contact: <sip:stranger%[1]d@%[2]s>\r\nAuthorization: Digest username=\"stranger%[1]d\", realm=\"phone.test\", nonce=\"n\", uri=\"sip:phone.test\", "+
			"response=\"00000000000000000000000000000000\", cnonce=\"c\", qop=auth, nc=00000001\r\nContent-Length: 0\r\n\r\n", i, conn.LocalAddr()); err != nil {
			t.Fatal(err)
		}
	}
	return conn
}

// A thousand who ask about nobody are no reason for the one to wait who is known, nor to wait for an answer themselves for ever.
func TestKamailioWithMoreLookupsThanWorkers(t *testing.T) {
	t.Parallel()
	l := overHTTP(t, onSQLite(t))
	k, _ := l.kamailio(patient)
	berta := &phonetest.Phone{Server: k, User: "berta", Domain: "phone.test", Password: "berta's password"}
	berta.Registers(t, 200)
	gate := make(chan struct{})
	open := sync.OnceFunc(func() {
		l.slow.Store(nil)
		close(gate)
	})
	defer open()
	l.slow.Store(&gate)
	// By and by, since a socket takes so many at a time.
	phonetest.Eventually(t, "somebody is told to come again", func() error {
		conn := strangers(t, k, "127.0.0.1", 100)
		conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		answer := make([]byte, 4096)
		n, err := conn.Read(answer)
		if err == nil && !(strings.HasPrefix(string(answer[:n]), "SIP/2.0 503 ") && strings.Contains(string(answer[:n]), "\r\nRetry-After: ")) {
			t.Fatalf("got %s", answer[:n])
		}
		return err
	})
	berta.Registers(t, 200)
}

// The limit that the file has on floods stands before the look-ups.
func TestKamailioShieldsTheDirectory(t *testing.T) {
	t.Parallel()
	l := overHTTP(t, onSQLite(t))
	k, _ := l.kamailio(patient[:2])
	const sent = 1000
	strangers(t, k, "127.0.0.2", sent)
	phonetest.Eventually(t, "the address is shut out", func() error {
		if !strings.Contains(k.Logs(), "BLOCKing ip 127.0.0.2") {
			return fmt.Errorf("it is not")
		}
		return nil
	})
	if n := l.asked.Load(); n > sent/2 {
		t.Errorf("the directory was asked %d times", n)
	}
	(&phonetest.Phone{Server: k, User: "alex", Domain: "phone.test", Password: "alex's password"}).Registers(t, 200)
}
