package phonetest_test

import (
	"fmt"
	"log/slog"
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
	"dialtone/internal/secret"
	"dialtone/internal/sipserver"
	"dialtone/internal/tenant"
	"dialtone/internal/test/phonetest"
)

// lookups are a platform's look-ups over HTTP, as the operators' listener has them.
type lookups struct {
	*platform
	server *httptest.Server
	token  secret.Token
	// asked counts requests, and connected connections; a request waits for slow, where there is one; away answers all with 503.
	asked, connected atomic.Int64
	slow             atomic.Pointer[chan struct{}]
	away             atomic.Bool
}

func overHTTP(t testing.TB, p *platform) *lookups {
	t.Helper()
	l := &lookups{platform: p, token: secret.NewToken()}
	tenants := tenant.NewTable(p.Store, func(host string) string { return "https://" + host })
	p.must(tenants.Refresh(t.Context()))
	server := sipserver.Server{Name: "kamailio", Token: l.token.Hash(), Created: time.Now()}
	for _, id := range p.tenants {
		server.Tenants = append(server.Tenants, id)
	}
	p.must(p.AddServer(t.Context(), server))
	log := slog.New(slog.DiscardHandler)
	desk := account.NewService(account.Deps{Store: p.Store, SealRing: p.ring, Log: log, Now: time.Now})
	phones := sipserver.NewRegistry(sipserver.Deps{Store: p.Store, Tenants: tenants, Accounts: desk, SealRing: p.ring, Now: time.Now})
	p.must(phones.Refresh(t.Context()))
	site := lookup.New(lookup.Deps{Registry: phones, Log: log, Now: time.Now})
	l.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		l.asked.Add(1)
		if wait := l.slow.Load(); wait != nil {
			<-*wait
		}
		if l.away.Load() {
			http.Error(w, "", http.StatusServiceUnavailable)
			return
		}
		site.ServeHTTP(w, r)
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

// patient has nobody turned away for a machine that has much to do, or for having one address with all phones of a test.
var patient = []string{`"connection_timeout", 2`, `"connection_timeout", 30`, `"reqs_density_per_unit", 50`, `"reqs_density_per_unit", 100000`}

// kamailio runs deploy/kamailio/http.cfg, with what hooks call.
func (l *lookups) kamailio(replace []string) (s *phonetest.Server, rpc int) {
	l.Helper()
	rpc = phonetest.Port(l)
	hooks := phonetest.Config(l, "kamailio/rpc.cfg", `include_file "rpc-token.cfg"`, `#!define RPC_TOKEN "`+rpcToken+`"`, "RPC_PORT 5065", "RPC_PORT "+strconv.Itoa(rpc))
	s = phonetest.Kamailio(l, "kamailio/http.cfg", append([]string{
		`include_file "directory.cfg"`, fmt.Sprintf(`#!define DIRECTORY "dialtone=>http://kamailio:%s@%s"`, l.token.Text(), l.server.Listener.Addr()),
		`alias="phone.example.org"`, "alias=\"phone.test\"\nalias=\"other.test\"",
		"##!define HOOKS", "#!define HOOKS", `include_file "rpc.cfg"`, hooks,
	}, replace...)...)
	l.Cleanup(func() {
		if strings.Contains(s.Logs(), l.token.Text()) {
			l.Error("the log has the token in it")
		}
	})
	return s, rpc
}

func TestKamailioOverHTTP(t *testing.T) {
	t.Parallel()
	l := overHTTP(t, onSQLite(t))
	k, rpc := l.kamailio(patient)
	phone := func(user, password string) *phonetest.Phone {
		return &phonetest.Phone{Server: k, User: user, Domain: "phone.test", Password: password}
	}
	alex, berta := phone("alex", "alex's password"), phone("berta", "berta's password")
	testPeople(t, k)
	t.Run("a name that nobody can have is out as any other", func(t *testing.T) {
		for _, name := range []string{"al\x01ex", "\xff", "a&realm=other.test", "alex%00"} {
			(&phonetest.Phone{Server: k, User: "alex", Domain: "phone.test", Digest: name, Password: "alex's password"}).Registers(t, 401)
		}
	})
	t.Run("activation is seen at once", func(t *testing.T) {
		waiting := phone("waiting", "waiting's password")
		waiting.Registers(t, 401)
		l.activate("waiting", "phone.test")
		waiting.Registers(t, 200)
	})
	t.Run("what was answered is remembered", func(t *testing.T) {
		alex.Registers(t, 200)
		before := l.asked.Load()
		for range 5 {
			alex.Registers(t, 200)
		}
		if more := l.asked.Load() - before; more > 0 {
			t.Errorf("the directory was asked %d times more", more)
		}
	})
	t.Run("connections are kept", func(t *testing.T) {
		if n := l.connected.Load(); n > 8 {
			t.Errorf("8 workers have made %d connections for %d look-ups", n, l.asked.Load())
		}
	})
	t.Run("until a hook takes it out, and a wrong password does", func(t *testing.T) {
		l.disable("waiting", "phone.test")
		waiting := phone("waiting", "waiting's password")
		waiting.Registers(t, 200)
		k.RPC(t, rpc, rpcToken, "htable.delete", `"ha1","waiting@phone.test"`)
		waiting.Registers(t, 401)
		before := l.asked.Load()
		phone("alex", "guessed").Registers(t, 401)
		alex.Registers(t, 200)
		if l.asked.Load() == before {
			t.Error("what may have been old was not asked about")
		}
	})
	t.Run("what was overheard is worth nothing a second time", func(t *testing.T) {
		berta.Registers(t, 200)
		again := *berta
		again.Authorization = berta.Sent
		again.Registers(t, 401)
	})
	t.Run("roles travel along", func(t *testing.T) {
		const outside = "+4930123456@elsewhere.test"
		for role, want := range map[account.Role]int{account.Guest: 403, account.User: 501} {
			_, err := l.SetRole(t.Context(), l.tenants["phone.test"], "berta", role, time.Now())
			l.must(err)
			k.RPC(t, rpc, rpcToken, "htable.delete", `"ha1","berta@phone.test"`)
			if r, err := berta.Call(outside); err != nil || r.Status != want {
				t.Errorf("a %s calls outside: %v, %v, want %d", role, r, err, want)
			}
		}
		if r, err := phone("berta", "guessed").Call(outside); err != nil || r.Status != 407 {
			t.Errorf("with a wrong password: %v, %v", r, err)
		}
		if r, err := (&phonetest.Phone{Server: k, User: "x", Domain: "stranger.test"}).Call(outside); err != nil || r.Status != 403 {
			t.Errorf("a stranger: %v, %v", r, err)
		}
	})
	t.Run("a directory that is away is not a wrong password", func(t *testing.T) {
		k.RPC(t, rpc, rpcToken, "htable.flush", `"ha1"`)
		l.away.Store(true)
		defer l.away.Store(false)
		for _, password := range []string{"alex's password", "guessed"} {
			if r := phone("alex", password).Registers(t, 503); r.Header.Get("Retry-After") == "" {
				t.Error("the phone is not told when to try again")
			}
		}
	})
	t.Run("a slow directory keeps nobody waiting who is known", func(t *testing.T) {
		berta.Registers(t, 200)
		gate := make(chan struct{})
		open := sync.OnceFunc(func() {
			l.slow.Store(nil)
			close(gate)
		})
		defer open() // the listener's end waits for its requests
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
		phonetest.Eventually(t, "all of them are asked about", func() error {
			if n := l.asked.Load() - before; n < int64(cap(done)) {
				return fmt.Errorf("%d", n)
			}
			return nil
		})
		berta.Registers(t, 200)
		if n := len(done); n > 0 {
			t.Errorf("%d of the others have not waited: this was not while they did", n)
		}
		open()
		for range cap(done) {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	})
}
