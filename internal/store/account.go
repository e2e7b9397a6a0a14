package store

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/fault"
	"dialtone/internal/hook"
	"dialtone/internal/i18n"
	"dialtone/internal/store/engine"
)

var _ account.Store = (*Store)(nil)

const accountColumns = `uid, tenant, username, name, email, role, held, created, expires, activated, epoch, credential,
	has_sha256, lang, confirmed, set_state, set_at, set_by, set_why, password_n, leaving, factors, email_n, signup_net,
	first_signin`

// live is the condition that an account exists, with the current time as $1.
const live = `closed IS NULL AND (activated IS NOT NULL OR expires > $1)`

var errNoAccount = fault.New(fault.NotFound, "there is no such account")

// scanned holds the destinations of accountColumns, and of the columns that precede them.
type scanned struct {
	account.Account
	uid                      []byte
	role, language, setState string
	created, expires, setAt  int64
	activatedAt, confirmedAt sql.NullInt64
	leaving, firstSignIn     sql.NullInt64
	dst                      [33]any
}

// scannedPool pools zero values of scanned. Each takes more than a kilobyte.
var scannedPool = sync.Pool{New: func() any { return new(scanned) }}

// scanAccount scans accountColumns. first holds the destinations of the columns that precede them.
func scanAccount(row engine.Scanner, first ...any) (account.Account, error) {
	v := scannedPool.Get().(*scanned)
	defer func() {
		*v = scanned{}
		scannedPool.Put(v)
	}()
	a := &v.Account
	err := row.Scan(append(append(v.dst[:0], first...), &v.uid, &a.Tenant, &a.User, &a.Name, &a.Email, &v.role, &a.Held,
		&v.created, &v.expires, &v.activatedAt, &a.Epoch, &a.Sealed, &a.HasSHA256, &v.language, &v.confirmedAt,
		&v.setState, &v.setAt, &a.Set.By, &a.Set.Reason, &a.Passwords,
		&v.leaving, &a.Factors, &a.Emails, &a.Net, &v.firstSignIn)...)
	if errors.Is(err, sql.ErrNoRows) {
		return *a, errNoAccount
	}
	if err != nil {
		return *a, err
	}
	copy(a.UID[:], v.uid)
	a.Role = account.Role(v.role)
	a.Lang, _ = i18n.Parse(v.language) // a language that only a newer version knows becomes English
	a.Created, a.Expires = engine.FromMicros(v.created), engine.FromMicros(v.expires)
	if v.activatedAt.Valid {
		a.Activated = engine.FromMicros(v.activatedAt.Int64)
	}
	if v.confirmedAt.Valid {
		a.Confirmed = engine.FromMicros(v.confirmedAt.Int64)
	}
	a.Disabled = a.Held || a.Pending()
	if v.leaving.Valid && a.Held {
		a.Leaving = engine.FromMicros(v.leaving.Int64)
	}
	a.NotSignedIn = !v.firstSignIn.Valid
	if v.firstSignIn.Int64 != 0 {
		a.FirstSignIn = engine.FromMicros(v.firstSignIn.Int64)
	}
	if v.setState != "" {
		a.Set.State, a.Set.At = account.State(v.setState), engine.FromMicros(v.setAt)
	}
	return *a, nil
}

// Find implements account.Store.
func (s *Store) Find(ctx context.Context, tenant int64, user string, now time.Time) (account.Account, error) {
	// At sign-in, user can be any bytes. PostgreSQL rejects bytes that are not text.
	if !isText(user) {
		return account.Account{}, errNoAccount
	}
	// The statement always reads one row, so that an unknown name takes as long as a known one: the
	// row of the name, or else the first row of the table, which may be of another tenant. For a
	// known name the second subquery is not run. Whether the row is the right one, and live, is
	// checked here, which takes less time than in the statement.
	var closed bool
	row := s.engine.Reads(ctx).Row(`SELECT closed IS NOT NULL, `+accountColumns+` FROM account
		WHERE uid = COALESCE((SELECT uid FROM account WHERE tenant = $1 AND username = $2),
			(SELECT uid FROM account ORDER BY uid LIMIT 1))`, tenant, user)
	a, err := scanAccount(row, &closed)
	if err == nil && (a.Tenant != tenant || a.User != user || closed || a.Pending() && !a.Expires.After(now)) {
		return account.Account{}, errNoAccount
	}
	return a, err
}

// isText reports whether PostgreSQL stores a string as text.
func isText(s string) bool { return utf8.ValidString(s) && !strings.Contains(s, "\x00") }

// FindUID implements account.Store.
func (s *Store) FindUID(ctx context.Context, tenant int64, uid account.UID, now time.Time) (account.Account, error) {
	return scanAccount(s.engine.Reads(ctx).Row(
		`SELECT `+accountColumns+` FROM account WHERE tenant = $2 AND uid = $3 AND `+live,
		engine.Micros(now), tenant, uid[:]))
}

// List implements account.Store.
func (s *Store) List(ctx context.Context, tenant int64, now time.Time, each func(account.Account) error) error {
	return s.engine.Reads(ctx).Each(func(row engine.Scanner) error {
		a, err := scanAccount(row)
		if err != nil {
			return err
		}
		return each(a)
	}, `SELECT `+accountColumns+` FROM account WHERE tenant = $2 AND `+live+` ORDER BY username`,
		engine.Micros(now), tenant)
}

// SetRole implements account.Store.
func (s *Store) SetRole(ctx context.Context, tenant int64, user string, role account.Role,
	now time.Time) (account.Account, error) {
	return s.change(ctx, audit.AccountRole, hook.AccountRole, tenant, user, now,
		func(a account.Account) string { return string(a.Role) },
		func(_ engine.Tx, _ *trailEntry, a account.Account) (update, error) {
			if a.Role == role {
				return update{}, nil
			}
			return update{`role = $2`, []any{string(role)}}, nil
		})
}
