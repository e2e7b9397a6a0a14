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

// conninfo is the URL of a role as libpq's other form.
func conninfo(t *testing.T, text string) string {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	password, _ := u.User.Password()
	return fmt.Sprintf("host=%s port=%s dbname=%s user=%s password=%s connect_timeout=5", u.Hostname(), u.Port(), u.Path[1:], u.User.Username(), password)
}

const exampleRealm = "phone.example.org"

// people are who should be in, and who out, at the realm phone.test.
var people = []struct {
	name, user, password string
	in                   bool
}{
	{"an active account is in", "alex", "alex's password", true},
	{"a wrong password is out", "alex", "guessed", false},
	{"the password of the other tenant's same name is out", "alex", "the other alex's password", false},
	{"an account that waits for its link is out", "waiting", "waiting's password", false},
	{"a disabled account is out", "held", "held's password", false},
	{"an unknown name is out", "nobody", "x", false},
}

const exampleDatabase = `psql-userdb="host=127.0.0.1 port=5432 dbname=dialtone user=dialtone_coturn password=choose-one connect_timeout=5"`

func TestCoturnOnPostgres(t *testing.T) {
	t.Parallel()
	p := onPostgres(t, postgrestest.Shared(t))
	testCoturn(t, p, exampleDatabase, `psql-userdb="`+conninfo(t, p.role("coturn"))+`"`)
}

func TestCoturnOnSQLite(t *testing.T) {
	t.Parallel()
	p := onSQLite(t)
	testCoturn(t, p, exampleDatabase, "", "#userdb="+shippedFile, "userdb="+p.directory)
}

func testCoturn(t *testing.T, p *platform, replace ...string) {
	s := phonetest.Coturn(t, append([]string{"realm=" + exampleRealm, "realm=phone.test"}, replace...)...)
	for _, c := range people {
		t.Run(c.name, func(t *testing.T) {
			if got := s.Relays(t, c.user, c.password); got != c.in {
				t.Errorf("in: %t, want %t", got, c.in)
			}
		})
	}
	t.Run("activation is seen at once, and so is disabling", func(t *testing.T) {
		p.activate("waiting", "phone.test")
		if !s.Relays(t, "waiting", "waiting's password") {
			t.Error("an active account is out")
		}
		p.disable("waiting", "phone.test")
		if s.Relays(t, "waiting", "waiting's password") {
			t.Error("a disabled account is in")
		}
	})
}

func testApache(t *testing.T, p *platform, s *phonetest.Server, changed func()) {
	status := map[bool]string{true: "200", false: "401"}
	for _, c := range people {
		t.Run(c.name, func(t *testing.T) {
			if got := s.Page(t, c.user, c.password); got != status[c.in] {
				t.Errorf("got %s, want %s", got, status[c.in])
			}
		})
	}
	t.Run("activation is seen at once, and so is disabling", func(t *testing.T) {
		p.activate("waiting", "phone.test")
		changed()
		if got := s.Page(t, "waiting", "waiting's password"); got != "200" {
			t.Errorf("got %s", got)
		}
		p.disable("waiting", "phone.test")
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
		"host=127.0.0.1 port=5432 dbname=dialtone user=dialtone_digest password=choose-one connect_timeout=5", conninfo(t, p.role("digest")))
	testApache(t, p, s, func() {})
}

func TestApacheOnAFile(t *testing.T) {
	t.Parallel()
	p := onSQLite(t)
	dir := phonetest.Folder(t)
	phonetest.Group(t, dir)
	if err := os.Chmod(dir, 0o750|os.ModeSetgid); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "phone.htdigest")
	write := func() {
		changed, err := htdigest.Write(file, func(each func(export.Entry) error) error { return p.ExportedEntries(t.Context(), "phone.test", each) })
		if err != nil || !changed {
			t.Errorf("changed %t, %v", changed, err)
		}
	}
	write()
	s := phonetest.Apache(t, "htdigest.conf", "/etc/dialtone/phone.htdigest", file, exampleRealm, "phone.test")
	testApache(t, p, s, write)
}
