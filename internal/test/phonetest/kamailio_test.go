package phonetest_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/tenant"
	"dialtone/internal/test/phonetest"
	"dialtone/internal/test/postgrestest"
	"dialtone/internal/test/process"
	"dialtone/internal/test/world"
)

const (
	shippedURL  = "postgres://dialtone_kamailio@127.0.0.1:5432/dialtone"
	shippedFile = "/var/lib/dialtone/directory/directory.db"
	rpcToken    = "of-the-tests"
)

// controlAt is the control interface of a Kamailio on a port.
func controlAt(port int) phonetest.RPC {
	return phonetest.RPC{URL: fmt.Sprintf("http://127.0.0.1:%d/RPC", port), Token: rpcToken}
}

// kamailio runs deploy/kamailio/kamailio.cfg on a platform. All phones of a test have one address, so
// the limit on requests from one address is lifted.
func (p *platform) kamailio() *phonetest.Server {
	p.Helper()
	port := process.Port(p.TB)
	replace := []string{
		`"reqs_density_per_unit", 50`, `"reqs_density_per_unit", 100000`,
		`##!define RPC_TOKEN "Bearer choose-a-long-random-one"`, `#!define RPC_TOKEN "Bearer ` + rpcToken + `"`,
		"RPC_PORT 5065", "RPC_PORT " + strconv.Itoa(port),
	}
	if p.export != "" {
		replace = append(replace, "##!define SQLITE", "#!define SQLITE", shippedFile, p.export)
	} else if p.using != "" {
		replace = append(replace, shippedURL, p.using)
	} else {
		replace = append(replace, shippedURL, p.role("kamailio"))
	}
	s := phonetest.DeployedKamailio(p.TB, "kamailio.cfg", replace...)
	s.Control = controlAt(port)
	return s
}

// role creates a database role for a kind of server, as dialtone directory export role does, and
// returns the URL for it.
func (p *platform) role(kind string) string {
	p.Helper()
	name := fmt.Sprintf("%s_%d", kind, time.Now().UnixNano())
	undone, err := p.Store.GrantExport(p.Context(), "dialtone_"+kind, name, "s3cret-of-"+kind)
	p.Must(err)
	if len(undone) > 0 {
		p.Fatalf("%d statements are left to an administrator", len(undone))
	}
	return fmt.Sprintf(p.url, name+":s3cret-of-"+kind)
}

func TestKamailioOnPostgres(t *testing.T) {
	t.Parallel()
	testKamailio(t, onPostgres(t, postgrestest.Shared(t)))
}

func TestKamailioOnSQLite(t *testing.T) {
	t.Parallel()
	testKamailio(t, onSQLite(t))
}

// testPeople registers phones of people who may register, and of people who may not.
func testPeople(t *testing.T, k *phonetest.Server) {
	phone := func(user, domain, password string) *phonetest.Phone {
		return &phonetest.Phone{Server: k, User: user, Domain: domain, Password: password}
	}
	for _, c := range []struct {
		name  string
		phone *phonetest.Phone
		want  int
	}{
		{"active account", phone("alex", "phone.test", "alex's password"), 200},
		{"domain in capitals", phone("alex", "PHONE.Test", "alex's password"), 200},
		{"punctuation in the password", phone("o_hara", "phone.test", "it's \"p&ss\" Größe"), 200},
		{"user name with domain",
			&phonetest.Phone{Server: k, User: "alex", Domain: "phone.test",
				DigestUser: "alex@phone.test", Password: "alex's password"}, 200},
		{"same name at another tenant", phone("alex", "other.test", "the other alex's password"), 200},
		{"wrong password", phone("alex", "phone.test", "guessed"), 401},
		{"password of the other tenant", phone("alex", "phone.test", "the other alex's password"), 401},
		{"password of this tenant at the other", phone("alex", "other.test", "alex's password"), 401},
		{"account that is not activated", phone("waiting", "phone.test", "waiting's password"), 401},
		{"disabled account", phone("held", "phone.test", "held's password"), 401},
		{"unknown name", phone("nobody", "phone.test", "x"), 401},
		{"name with a quote", phone("o'hara", "phone.test", "x"), 401},
		{"unknown domain", phone("alex", "nowhere.test", "x"), 404},
		{"another user's address",
			&phonetest.Phone{Server: k, User: "berta", Domain: "phone.test",
				DigestUser: "alex", Password: "alex's password"}, 403},
	} {
		t.Run(c.name, func(t *testing.T) { c.phone.Registers(t, c.want) })
	}
}

func testKamailio(t *testing.T, p *platform) {
	k := p.kamailio()
	phone := func(user, domain, password string) *phonetest.Phone {
		return &phonetest.Phone{Server: k, User: user, Domain: domain, Password: password}
	}
	alex := phone("alex", "phone.test", "alex's password")
	testPeople(t, k)
	t.Run("activation and disabling take effect at once", func(t *testing.T) {
		waiting := phone("waiting", "phone.test", "waiting's password")
		waiting.Registers(t, 401)
		p.Activate(p.waiting)
		waiting.Registers(t, 200)
		p.Disable("waiting")
		waiting.Registers(t, 401)
	})
	t.Run("credentials work once", func(t *testing.T) {
		alex.Registers(t, 200)
		again := *alex
		again.Authorization = alex.Sent
		again.Registers(t, 401)
	})
	t.Run("reload after adding a tenant", func(t *testing.T) {
		p.AddTenant(tenant.Tenant{Host: "new.test"})
		p.At("new.test").Member("carla", world.WithPassword("carla's password"))
		carla := phone("carla", "new.test", "carla's password")
		carla.Registers(t, 404)
		k.RPC(t, "domain.reload")
		carla.Registers(t, 200)
	})
	t.Run("realm that differs from the domain", func(t *testing.T) {
		p.AddTenant(tenant.Tenant{Host: "office.test", Realm: "The Office"})
		p.At("office.test").Member("dora", world.WithPassword("dora's password"))
		k.RPC(t, "domain.reload")
		phone("dora", "office.test", "dora's password").Registers(t, 200)
	})
	t.Run("phones can be unregistered", func(t *testing.T) {
		if out := k.RPC(t, "ul.rm", "location", "alex@phone.test"); strings.Contains(out, `"error"`) {
			t.Error(out)
		}
		caller := phone("berta", "phone.test", "berta's password")
		if r, err := caller.Call("alex@phone.test"); err != nil || r.Status != 480 {
			t.Errorf("got %v, %v", r, err)
		}
	})
	t.Run("roles", func(t *testing.T) {
		outside := "+4930123456@elsewhere.test"
		for _, c := range []struct {
			name string
			role account.Role
			want int
		}{{"guest", account.Guest, 403}, {"user", account.User, 501}} {
			_, err := p.Store.SetRole(t.Context(), p.Tenant.ID, "berta", c.role, time.Now())
			p.Must(err)
			r, err := phone("berta", "phone.test", "berta's password").Call(outside)
			if err != nil || r.Status != c.want {
				t.Errorf("%s: got %v, %v, want %d", c.name, r, err, c.want)
			}
		}
		if r, err := phone("berta", "phone.test", "guessed").Call(outside); err != nil || r.Status != 407 {
			t.Errorf("with a wrong password: got %v, %v", r, err)
		}
		if r, err := phone("stranger", "stranger.test", "x").Call(outside); err != nil || r.Status != 403 {
			t.Errorf("a stranger: got %v, %v", r, err)
		}
	})
}
