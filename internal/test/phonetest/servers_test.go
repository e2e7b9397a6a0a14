package phonetest_test

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"dialtone/internal/export"
	"dialtone/internal/export/htdigest"
	"dialtone/internal/test/phonetest"
	"dialtone/internal/test/postgrestest"
)

// conninfo converts a URL to libpq's other form.
func conninfo(t *testing.T, text string) string {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	password, _ := u.User.Password()
	return fmt.Sprintf("host=%s port=%s dbname=%s user=%s password=%s connect_timeout=5",
		u.Hostname(), u.Port(), u.Path[1:], u.User.Username(), password)
}

const exampleRealm = "phone.example.org"

// people are attempts to authenticate at the realm phone.test.
var people = []struct {
	name, user, password string
	accepted             bool
}{
	{"active account", "alex", "alex's password", true},
	{"wrong password", "alex", "guessed", false},
	{"password of the other tenant", "alex", "the other alex's password", false},
	{"account that is not activated", "waiting", "waiting's password", false},
	{"disabled account", "held", "held's password", false},
	{"unknown name", "nobody", "x", false},
}

// exampleConninfo is how the configurations of deploy/ connect to PostgreSQL.
func exampleConninfo(kind string) string {
	return "host=127.0.0.1 port=5432 dbname=dialtone user=dialtone_" + kind +
		" password=choose-one connect_timeout=5"
}

var exampleDatabase = `psql-userdb="` + exampleConninfo("coturn") + `"`

func TestCoturnOnPostgres(t *testing.T) {
	t.Parallel()
	p := onPostgres(t, postgrestest.Shared(t))
	testCoturn(t, p, exampleDatabase, `psql-userdb="`+conninfo(t, p.role("coturn"))+`"`)
}

func TestCoturnOnSQLite(t *testing.T) {
	t.Parallel()
	p := onSQLite(t)
	testCoturn(t, p, exampleDatabase, "", "#userdb="+shippedFile, "userdb="+p.export)
}

func testCoturn(t *testing.T, p *platform, replace ...string) {
	replace = append([]string{"realm=" + exampleRealm, "realm=phone.test"}, replace...)
	s := phonetest.Coturn(t, "turnserver.conf", replace...)
	for _, c := range people {
		t.Run(c.name, func(t *testing.T) {
			if got := s.Relays(t, c.user, c.password); got != c.accepted {
				t.Errorf("accepted: %t, want %t", got, c.accepted)
			}
		})
	}
	t.Run("activation and disabling take effect at once", func(t *testing.T) {
		p.Activate(p.waiting)
		if !s.Relays(t, "waiting", "waiting's password") {
			t.Error("an activated account is refused")
		}
		p.Disable("waiting")
		if s.Relays(t, "waiting", "waiting's password") {
			t.Error("a disabled account is accepted")
		}
	})
}

func testApache(t *testing.T, p *platform, s *phonetest.Server, changed func()) {
	status := map[bool]string{true: "200", false: "401"}
	for _, c := range people {
		t.Run(c.name, func(t *testing.T) {
			if got := s.Page(t, c.user, c.password); got != status[c.accepted] {
				t.Errorf("got %s, want %s", got, status[c.accepted])
			}
		})
	}
	t.Run("activation and disabling take effect at once", func(t *testing.T) {
		p.Activate(p.waiting)
		changed()
		if got := s.Page(t, "waiting", "waiting's password"); got != "200" {
			t.Errorf("got %s", got)
		}
		p.Disable("waiting")
		changed()
		if got := s.Page(t, "waiting", "waiting's password"); got != "401" {
			t.Errorf("got %s", got)
		}
	})
}

func TestApacheOnPostgres(t *testing.T) {
	t.Parallel()
	p := onPostgres(t, postgrestest.Shared(t))
	s := phonetest.Apache(t, "dbd.conf", exampleRealm, "phone.test",
		exampleConninfo("digest"), conninfo(t, p.role("digest")))
	testApache(t, p, s, func() {})
}

func TestApacheOnFile(t *testing.T) {
	t.Parallel()
	p := onSQLite(t)
	dir := phonetest.TempDir(t)
	phonetest.Chgrp(t, dir)
	if err := os.Chmod(dir, 0o750|os.ModeSetgid); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "phone.htdigest")
	write := func() {
		changed, err := htdigest.Write(file, func(each func(export.Entry) error) error {
			return p.Store.ExportedEntries(t.Context(), "phone.test", each)
		})
		if err != nil || !changed {
			t.Errorf("changed %t, %v", changed, err)
		}
	}
	write()
	s := phonetest.Apache(t, "htdigest.conf", "/etc/dialtone/phone.htdigest", file, exampleRealm, "phone.test")
	testApache(t, p, s, write)
}
