package postgres

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// connectError is the error of a failed connection. Its text is a single line, which begins with
// PostgreSQL's answer.
type connectError struct {
	text string
	err  error
}

func (e *connectError) Error() string { return e.text }
func (e *connectError) Unwrap() error { return e.err }

// withoutPassword returns the error of a failed connection without any password in its text. The
// driver leaves passwords out of its errors, except where it cannot parse the URL.
func withoutPassword(err error) error {
	if _, bad := errors.AsType[*pgconn.ParseConfigError](err); bad {
		if file, ok := errors.AsType[*fs.PathError](err); ok {
			return fmt.Errorf("a file that the database's URL or a variable of PostgreSQL's libraries names cannot be "+
				"read: %w", file)
		}
		return errors.New("the database's URL is not one that PostgreSQL's libraries understand; " +
			"give postgres://user@host:5432/database")
	}
	if failed, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		err = &connectError{describe(failed), err}
	}
	return fmt.Errorf("the database cannot be opened: %w", err)
}

// describe returns the errors of all attempts to connect, on one line. Answers of servers come
// first. A refusal of TLS is left out if there is another error, because with the usual sslmode the
// driver then connects without TLS.
func describe(failed *pgconn.ConnectError) string {
	attempts := []error{failed.Unwrap()}
	if joined, ok := failed.Unwrap().(interface{ Unwrap() []error }); ok {
		attempts = joined.Unwrap()
	}
	var answers, others, noTLS []string
	missing := false
	for _, attempt := range attempts {
		text := strings.Join(strings.Fields(attempt.Error()), " ")
		answer, answered := errors.AsType[*pgconn.PgError](attempt)
		switch {
		case answered:
			missing = missing || answer.Code == "28P01" && failed.Config.Password == ""
			answers = append(answers, text)
		case strings.Contains(text, "server refused TLS connection"):
			noTLS = append(noTLS, text)
		default:
			others = append(others, text)
		}
	}
	list := append(answers, others...)
	if len(list) == 0 {
		list = noTLS
	}
	text := fmt.Sprintf("%s (user %s, database %s)", strings.Join(slices.Compact(list), "; "), failed.Config.User,
		failed.Config.Database)
	if missing {
		text = "there is no password for it: set PGPASSWORD, or name a file that this user can read, with a line for " +
			"this host, port, database and user, in PGPASSFILE or as passfile= in the URL; " + text
	}
	return text
}
