package phonetest_test

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/http/lookup"
	"dialtone/internal/sipserver"
	"dialtone/internal/tenant"
	"dialtone/internal/test/phonetest"
	"dialtone/internal/test/process"
	"dialtone/internal/test/world"
)

// lookups is a platform with the HTTP look-ups of the operators' listener.
type lookups struct {
	*platform
	server           *httptest.Server
	token            string
	asked, connected atomic.Int64                  // requests, connections
	slow             atomic.Pointer[chan struct{}] // if not nil, requests wait until it is closed
	away             atomic.Bool                   // whether all requests get 503
}

func overHTTP(t testing.TB, p *platform, more ...string) *lookups {
	t.Helper()
	l := &lookups{platform: p, token: p.AddServer("kamailio", append(more, "phone.test", "other.test")...)}
	registry := sipserver.NewRegistry(p.RegistryDeps())
	p.Must(registry.Refresh(t.Context()))
	handler := lookup.New(lookup.Deps{Registry: registry, Log: p.Logger, Now: p.Now})
	l.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		l.asked.Add(1)
		if wait := l.slow.Load(); wait != nil {
			<-*wait
		}
		if l.away.Load() {
			http.Error(w, "", http.StatusServiceUnavailable)
			return
		}
		handler.ServeHTTP(w, r)
	}))
	l.server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			l.connected.Add(1)
		}
	}
	l.server.Start()
	t.Cleanup(l.server.Close)
	return l
}

// unlimited raises the limits that the tests reach: the timeout of look-ups, on a busy machine, and
// the limit on requests from one address, which all phones of a test share.
var unlimited = []string{
	`"connection_timeout", 2`, `"connection_timeout", 30`,
	`"reqs_density_per_unit", 50`, `"reqs_density_per_unit", 100000`,
}

// kamailio runs deploy/kamailio/http.cfg with rpc.cfg, which hooks call.
func (l *lookups) kamailio(replace []string) *phonetest.Server {
	l.Helper()
	port := process.Port(l.TB)
	hooks := phonetest.Config(l.TB, "kamailio/rpc.cfg",
		`include_file "rpc-token.cfg"`, `#!define RPC_TOKEN "Bearer `+rpcToken+`"`,
		"RPC_PORT 5065", "RPC_PORT "+strconv.Itoa(port))
	address := fmt.Sprintf(`#!define DIRECTORY "dialtone=>http://kamailio:%s@%s"`,
		l.token, l.server.Listener.Addr())
	s := phonetest.DeployedKamailio(l.TB, "http.cfg", append([]string{
		`include_file "directory.cfg"`, address,
		`alias="phone.example.org"`, "alias=\"phone.test\"\nalias=\"other.test\"",
		"##!define HOOKS", "#!define HOOKS", `include_file "rpc.cfg"`, hooks,
	}, replace...)...)
	l.Cleanup(func() {
		if strings.Contains(s.Logs(), l.token) {
			l.Error("the log contains the token")
		}
	})
	s.Control = controlAt(port)
	return s
}

// A tenant whose realm differs from its host has its own line in deploy/kamailio/http.cfg.
func TestKamailioOverHTTPWithRealm(t *testing.T) {
	t.Parallel()
	p := onSQLite(t)
	p.AddTenant(tenant.Tenant{Host: "office.test", Realm: "The Office"})
	p.At("office.test").Member("dora", world.WithPassword("dora's password"))
	l := overHTTP(t, p, "office.test")
	k := l.kamailio([]string{
		`alias="phone.test"`, "alias=\"phone.test\"\nalias=\"office.test\"",
		`#if ($avp(realm) == "phone.example.org") { $avp(realm) = "sip.example.org"; }`,
		`if ($avp(realm) == "office.test") { $avp(realm) = "The Office"; }`,
	})
	dora := &phonetest.Phone{Server: k, User: "dora", Domain: "Office.Test", Password: "dora's password"}
	dora.Registers(t, 200)
	if r, err := dora.Call("berta@office.test"); err != nil || r.Status != 480 {
		t.Errorf("a call inside: %v, %v", r, err)
	}
	dora.Password = "guessed"
	dora.Registers(t, 401)
	(&phonetest.Phone{Server: k, User: "alex", Domain: "phone.test", Password: "alex's password"}).Registers(t, 200)
}

func TestKamailioOverHTTP(t *testing.T) {
	t.Parallel()
	l := overHTTP(t, onSQLite(t))
	k := l.kamailio(unlimited)
	phone := func(user, password string) *phonetest.Phone {
		return &phonetest.Phone{Server: k, User: user, Domain: "phone.test", Password: password}
	}
	alex, berta := phone("alex", "alex's password"), phone("berta", "berta's password")
	testPeople(t, k)
	t.Run("malformed name", func(t *testing.T) {
		for _, name := range []string{"al\x01ex", "\xff", "a&realm=other.test", "alex%00"} {
			malformed := *alex
			malformed.DigestUser = name
			malformed.Registers(t, 401)
		}
	})
	t.Run("activation takes effect at once", func(t *testing.T) {
		waiting := phone("waiting", "waiting's password")
		waiting.Registers(t, 401)
		l.Activate(l.waiting)
		waiting.Registers(t, 200)
	})
	t.Run("answers are cached", func(t *testing.T) {
		alex.Registers(t, 200)
		before := l.asked.Load()
		for range 5 {
			alex.Registers(t, 200)
		}
		if more := l.asked.Load() - before; more > 0 {
			t.Errorf("%d more look-ups", more)
		}
	})
	t.Run("connections are reused", func(t *testing.T) {
		if n := l.connected.Load(); n > 8 {
			t.Errorf("8 workers made %d connections for %d look-ups", n, l.asked.Load())
		}
	})
	t.Run("a hook or a wrong password removes an answer from the cache", func(t *testing.T) {
		l.Disable("waiting")
		waiting := phone("waiting", "waiting's password")
		waiting.Registers(t, 200)
		k.RPC(t, "htable.delete", "ha1", "waiting@phone.test")
		waiting.Registers(t, 401)
		before := l.asked.Load()
		phone("alex", "guessed").Registers(t, 401)
		alex.Registers(t, 200)
		if l.asked.Load() == before {
			t.Error("no new look-up")
		}
	})
	t.Run("credentials work once", func(t *testing.T) {
		berta.Registers(t, 200)
		again := *berta
		again.Authorization = berta.Sent
		again.Registers(t, 401)
	})
	t.Run("roles", func(t *testing.T) {
		const outside = "+4930123456@elsewhere.test"
		for role, want := range map[account.Role]int{account.Guest: 403, account.User: 501} {
			_, err := l.Store.SetRole(t.Context(), l.Tenant.ID, "berta", role, time.Now())
			l.Must(err)
			k.RPC(t, "htable.delete", "ha1", "berta@phone.test")
			if r, err := berta.Call(outside); err != nil || r.Status != want {
				t.Errorf("a %s calls outside: %v, %v, want %d", role, r, err, want)
			}
		}
		if r, err := phone("berta", "guessed").Call(outside); err != nil || r.Status != 407 {
			t.Errorf("with a wrong password: %v, %v", r, err)
		}
		stranger := &phonetest.Phone{Server: k, User: "x", Domain: "stranger.test"}
		if r, err := stranger.Call(outside); err != nil || r.Status != 403 {
			t.Errorf("a stranger: %v, %v", r, err)
		}
	})
	t.Run("unavailable look-ups are not a wrong password", func(t *testing.T) {
		k.RPC(t, "htable.flush", "ha1")
		l.away.Store(true)
		defer l.away.Store(false)
		for _, password := range []string{"alex's password", "guessed"} {
			if r := phone("alex", password).Registers(t, 503); r.Header.Get("Retry-After") == "" {
				t.Error("the response has no Retry-After")
			}
		}
	})
	t.Run("slow look-ups do not delay cached users", func(t *testing.T) {
		berta.Registers(t, 200)
		gate := make(chan struct{})
		open := sync.OnceFunc(func() {
			l.slow.Store(nil)
			close(gate)
		})
		defer open() // closing the listener waits for its requests
		l.slow.Store(&gate)
		before := l.asked.Load()
		done := make(chan error, 6) // more than there are workers for UDP
		for i := range cap(done) {
			go func() {
				r, err := phone(fmt.Sprint("nobody", i), "x").Register()
				if err == nil && r.Status != 401 {
					err = fmt.Errorf("got %s", r)
				}
				done <- err
			}()
		}
		process.Eventually(t, "all of them are looked up", func() error {
			if n := l.asked.Load() - before; n < int64(cap(done)) {
				return fmt.Errorf("%d", n)
			}
			return nil
		})
		berta.Registers(t, 200)
		if n := len(done); n > 0 {
			t.Errorf("%d of the others did not wait, so this test proves nothing", n)
		}
		open()
		for range cap(done) {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	})
}
