package phonetables

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"dialtone/internal/export"
	"dialtone/internal/fault"
	"dialtone/internal/store/engine"
)

// Grant creates a PostgreSQL role that may read the schema of one kind of phone server and nothing
// else. Without a password the role cannot log in. If the database's user may not create roles,
// Grant changes nothing and returns the statements for an administrator to run.
func (t *Tables) Grant(schema, role, password string, also func(engine.Tx) error) (statements []string, err error) {
	statements, err = grants(schema, role, password)
	if err != nil {
		return nil, err
	}
	s, ok := t.backend.(schemas)
	if !ok {
		return nil, fault.New(fault.Invalid, "there are no roles in SQLite; make the phone server's user "+
			"a member of the group of the directory that the file is in")
	}
	err = s.engine.Write(func(tx engine.Tx) error {
		if on, err := Enabled(tx); err != nil {
			return err
		} else if !on {
			return export.ErrNotEnabled
		}
		var exists bool
		err := tx.Row(`SELECT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = $1)`, role).Scan(&exists)
		if err != nil {
			return err
		}
		for i, text := range statements {
			if i == 0 && exists {
				continue
			}
			if err := tx.Script(text); err != nil {
				return err
			}
		}
		return also(tx)
	})
	if denied(err) {
		return statements, nil
	}
	return nil, err
}

// grants returns the statements that create a role. The first creates it; the others can be
// repeated.
func grants(schema, role, password string) ([]string, error) {
	id := func(name string) string { return pgx.Identifier{name}.Sanitize() }
	list := []string{
		"CREATE ROLE " + id(role) + " NOLOGIN",
		"GRANT USAGE ON SCHEMA " + id(schema) + " TO " + id(role),
		"GRANT SELECT ON ALL TABLES IN SCHEMA " + id(schema) + " TO " + id(role),
		"ALTER ROLE " + id(role) + " SET search_path = " + id(schema),
	}
	if password != "" {
		verifier, err := scram(password)
		if err != nil {
			return nil, err
		}
		list = append(list, "ALTER ROLE "+id(role)+" LOGIN PASSWORD '"+verifier+"'")
	}
	return list, nil
}

// scram returns the verifier that PostgreSQL stores for a password (RFC 5803, section 3, with the
// iteration count of PostgreSQL). So the server, which may log statements, does not see the
// password.
func scram(password string) (string, error) {
	if strings.ContainsFunc(password, func(r rune) bool { return r < ' ' || r > '~' }) {
		return "", fault.New(fault.Invalid,
			"a role's password must consist of printable ASCII characters, since programs disagree about others")
	}
	const iterations = 4096
	var salt [16]byte
	rand.Read(salt[:])
	salted, err := pbkdf2.Key(sha256.New, password, salt[:], iterations, sha256.Size)
	if err != nil {
		return "", err
	}
	key := func(name string) []byte {
		h := hmac.New(sha256.New, salted)
		h.Write([]byte(name))
		return h.Sum(nil)
	}
	stored := sha256.Sum256(key("Client Key"))
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s",
		iterations, b64(salt[:]), b64(stored[:]), b64(key("Server Key"))), nil
}
