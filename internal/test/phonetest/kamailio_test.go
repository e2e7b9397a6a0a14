package phonetest_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/test/phonetest"
	"dialtone/internal/test/postgrestest"
)

const (
	shippedURL  = "postgres://dialtone_kamailio@127.0.0.1:5432/dialtone"
	shippedFile = "/var/lib/dialtone/directory/directory.db"
	rpcToken    = "Bearer of-the-tests"
)

// kamailio runs deploy/kamailio/kamailio.cfg on a platform. The limit on floods is lifted: all phones of a test have one address.
func (p *platform) kamailio(more ...string) (s *phonetest.Server, rpc int) {
	p.Helper()
	rpc = phonetest.Port(p)
	replace := []string{
		`"reqs_density_per_unit", 50`, `"reqs_density_per_unit", 100000`,
		`##!define RPC_TOKEN "Bearer choose-a-long-random-one"`, `#!define RPC_TOKEN "` + rpcToken + `"`,
		"RPC_PORT 5065", "RPC_PORT " + strconv.Itoa(rpc),
	}
	if p.directory != "" {
		replace = append(replace, "##!define SQLITE", "#!define SQLITE", shippedFile, p.directory)
	} else if p.using != "" {
		replace = append(replace, shippedURL, p.using)
	} else {
		replace = append(replace, shippedURL, p.role("kamailio"))
	}
	return phonetest.Kamailio(p, "kamailio/kamailio.cfg", append(replace, more...)...), rpc
}

// role makes a role for a kind of server, as dialtone directory export role does, and gives the URL that it logs in with.
func (p *platform) role(kind string) string {
	p.Helper()
	name := fmt.Sprintf("%s_%d", kind, time.Now().UnixNano())
	undone, err := p.GrantExport(p.Context(), "dialtone_"+kind, name, "s3cret-of-"+kind)
	p.must(err)
	if len(undone) > 0 {
		p.Fatalf("left to an administrator: %d statements", len(undone))
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

// testPeople has everybody register who may, and who may not.
func testPeople(t *testing.T, k *phonetest.Server) {
	phone := func(user, domain, password string) *phonetest.Phone {
		return &phonetest.Phone{Server: k, User: user, Domain: domain, Password: password}
	}
	for _, c := range []struct {
		name  string
		phone *phonetest.Phone
		want  int
	}{
		{"an active account is in", phone("alex", "phone.test", "alex's password"), 200},
		{"and so is one whose domain is written in capitals", phone("alex", "PHONE.Test", "alex's password"), 200},
		{"and one with signs in the password", phone("o_hara", "phone.test", "it's \"p&ss\" Größe"), 200},
		{"and one whose phone sends user@domain",
			&phonetest.Phone{Server: k, User: "alex", Domain: "phone.test", Digest: "alex@phone.test", Password: "alex's password"}, 200},
		{"the same name at another tenant is in, with its own password", phone("alex", "other.test", "the other alex's password"), 200},
		{"a wrong password is out", phone("alex", "phone.test", "guessed"), 401},
		{"the password of the other tenant's same name is out", phone("alex", "phone.test", "the other alex's password"), 401},
		{"and the other way round", phone("alex", "other.test", "alex's password"), 401},
		{"an account that waits for its link is out", phone("waiting", "phone.test", "waiting's password"), 401},
		{"a disabled account is out", phone("held", "phone.test", "held's password"), 401},
		{"an unknown name is out", phone("nobody", "phone.test", "x"), 401},
		{"a name with a quote is out", phone("o'hara", "phone.test", "x"), 401},
		{"a domain of nobody is not here", phone("alex", "nowhere.test", "x"), 404},
		{"a neighbour's address is not to be had with one's own password",
			&phonetest.Phone{Server: k, User: "berta", Domain: "phone.test", Digest: "alex", Password: "alex's password"}, 403},
	} {
		t.Run(c.name, func(t *testing.T) { c.phone.Registers(t, c.want) })
	}
}

func testKamailio(t *testing.T, p *platform) {
	k, rpc := p.kamailio()
	phone := func(user, domain, password string) *phonetest.Phone {
		return &phonetest.Phone{Server: k, User: user, Domain: domain, Password: password}
	}
	alex := phone("alex", "phone.test", "alex's password")
	testPeople(t, k)
	t.Run("activation is seen at once, and so is disabling", func(t *testing.T) {
		waiting := phone("waiting", "phone.test", "waiting's password")
		waiting.Registers(t, 401)
		p.activate("waiting", "phone.test")
		waiting.Registers(t, 200)
		p.disable("waiting", "phone.test")
		waiting.Registers(t, 401)
	})
	t.Run("what was overheard is worth nothing a second time", func(t *testing.T) {
		alex.Registers(t, 200)
		again := *alex
		again.Authorization = alex.Sent
		again.Registers(t, 401)
	})
	t.Run("a tenant that was added is there after a reload", func(t *testing.T) {
		p.tenant("new.test", "new.test")
		p.member("carla", "new.test", "carla's password")
		carla := phone("carla", "new.test", "carla's password")
		carla.Registers(t, 404)
		k.RPC(t, rpc, rpcToken, "domain.reload", "")
		carla.Registers(t, 200)
	})
	t.Run("a realm of other letters than the domain is what phones are challenged with", func(t *testing.T) {
		added, err := p.AddTenant(t.Context(), office)
		p.must(err)
		p.tenants["office.test"] = added.ID
		p.tenants["The Office"] = added.ID
		p.member("dora", "The Office", "dora's password")
		k.RPC(t, rpc, rpcToken, "domain.reload", "")
		phone("dora", "office.test", "dora's password").Registers(t, 200)
	})
	t.Run("a disabled account's phones can be taken off the air", func(t *testing.T) {
		if out := k.RPC(t, rpc, rpcToken, "ul.rm", `"location","alex@phone.test"`); strings.Contains(out, `"error"`) {
			t.Error(out)
		}
		caller := phone("berta", "phone.test", "berta's password")
		if r, err := caller.Call("alex@phone.test"); err != nil || r.Status != 480 {
			t.Errorf("got %v, %v", r, err)
		}
	})
	t.Run("roles travel along", func(t *testing.T) {
		outside := "+4930123456@elsewhere.test"
		for _, c := range []struct {
			name string
			role account.Role
			want int
		}{{"a guest calls inside", account.Guest, 403}, {"a user calls outside", account.User, 501}} {
			_, err := p.SetRole(t.Context(), p.tenants["phone.test"], "berta", c.role, time.Now())
			p.must(err)
			if r, err := phone("berta", "phone.test", "berta's password").Call(outside); err != nil || r.Status != c.want {
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
