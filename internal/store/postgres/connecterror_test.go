package postgres_test

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"dialtone/internal/store/postgres"
	"dialtone/internal/test/postgrestest"
)

// The error is one line that begins with the answer of PostgreSQL. It names a missing password or
// file.
func TestConnectErrors(t *testing.T) {
	t.Setenv("PGPASSFILE", filepath.Join(t.TempDir(), "none"))
	url := postgrestest.Shared(t).Database(t)
	prefer := strings.Replace(url, "sslmode=disable", "sslmode=prefer", 1)
	with := func(password string) string {
		return regexp.MustCompile(`^(postgres://[^:]+):[^@]+@`).ReplaceAllString(prefer, "${1}"+password+"@")
	}
	closed := filepath.Join(t.TempDir(), "none.pem")
	for _, c := range []struct {
		url, begins string
		code        string
	}{
		{with(""), "the database cannot be opened: there is no password for it: set PGPASSWORD, or name ", "28P01"},
		{with(":wrong"), "the database cannot be opened: 127.0.0.1:", "28P01"},
		{regexp.MustCompile(`/test_[0-9]+`).ReplaceAllString(prefer, "/absent"),
			"the database cannot be opened: 127.0.0.1:", "3D000"},
		{strings.Replace(url, "sslmode=disable", "sslmode=verify-full&sslrootcert="+closed, 1),
			"a file that the database's URL or a variable of PostgreSQL's libraries names cannot be read: ", ""},
	} {
		_, err := postgres.HasStore(t.Context(), c.url)
		if err == nil || !strings.HasPrefix(err.Error(), c.begins) || strings.Contains(err.Error(), "TLS") ||
			strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), "wrong") {
			t.Errorf("want %q: %v", c.begins, err)
		}
		answer, ok := errors.AsType[*pgconn.PgError](err)
		if ok != (c.code != "") || ok && answer.Code != c.code || errors.Is(err, os.ErrNotExist) == ok {
			t.Errorf("want the code %q: %v", c.code, err)
		}
		if c.code == "28P01" && strings.Contains(err.Error(), "no password for it") != (c.url == with("")) {
			t.Errorf("%v", err)
		}
	}
}
