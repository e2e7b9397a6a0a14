package store

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"time"
	"unicode/utf8"

	"dialtone/internal/account"
	"dialtone/internal/fault"
	"dialtone/internal/hook"
	"dialtone/internal/i18n"
	"dialtone/internal/store/engine"
	"dialtone/internal/store/phonetables"
)

var _ account.Store = (*Store)(nil)

const accountColumns = `uid, tenant, username, name, email, role, held, created, expires, activated, epoch, credential,
	has_sha256, lang, confirmed`

// live is the condition that an account exists, with the present time as $1.
const live = `closed IS NULL AND (activated IS NOT NULL OR expires > $1)`

var errNoAccount = fault.New(fault.NotFound, "there is no such account")

func scanAccount(row engine.Scanner) (a account.Account, err error) {
	var uid []byte
	var role, language string
	var created, expires int64
	var activated, confirmed sql.NullInt64
	err = row.Scan(&uid, &a.Tenant, &a.User, &a.Name, &a.Email, &role, &a.Held, &created, &expires, &activated,
		&a.Epoch, &a.Sealed, &a.HasSHA256, &language, &confirmed)
	if errors.Is(err, sql.ErrNoRows) {
		return a, errNoAccount
	} else if err != nil {
		return a, err
	}
	copy(a.UID[:], uid)
	a.Role = account.Role(role)
	a.Lang, _ = i18n.Parse(language) // one that a newer program knows is English to this one
	a.Created, a.Expires = engine.FromMicros(created), engine.FromMicros(expires)
	if activated.Valid {
		a.Activated = engine.FromMicros(activated.Int64)
	}
	if confirmed.Valid {
		a.Confirmed = engine.FromMicros(confirmed.Int64)
	}
	a.Disabled = a.Held || a.Pending()
	return a, nil
}

// linked returns the account of a token. It fails with account.ErrReplaced for a link that a newer
// one has replaced. It is one statement, so that a link that is being taken back is found in one
// table or the other.
func linked(q engine.Querier, tenant int64, token [32]byte) (account.Account, error) {
	var current bool // the link is the account's newest
	row := q.Row(`SELECT token = $1, `+accountColumns+` FROM account WHERE tenant = $2 AND closed IS NULL AND uid =
		COALESCE((SELECT uid FROM account WHERE token = $1), (SELECT account FROM replaced WHERE token = $1))`,
		token[:], tenant)
	a, err := scanAccount(prefixed{row, []any{&current}})
	if err == nil && !current {
		return account.Account{}, account.ErrReplaced
	}
	return a, err
}

// refusal returns why the account's link does not activate it, or nil.
func refusal(a account.Account, now time.Time) error {
	switch {
	case a.Held:
		return account.ErrHeld
	case !a.Pending():
		return account.ErrActive
	case !now.Before(a.Expires):
		return account.ErrExpired
	default:
		return nil
	}
}

// Linked implements account.Store.
func (s *Store) Linked(ctx context.Context, tenant int64, token [32]byte, now time.Time) (account.Account, error) {
	a, err := linked(s.engine.Reads(ctx), tenant, token)
	if err == nil {
		err = refusal(a, now)
	}
	return a, err
}

// Activate implements account.Store.
func (s *Store) Activate(ctx context.Context, tenant int64, token [32]byte, now time.Time) (account.Account, error) {
	// A bad link is refused by a read, without a write.
	a, err := s.Linked(ctx, tenant, token, now)
	if err != nil {
		return a, err
	}
	err = s.tables.Write(func(tx engine.Tx) ([]phonetables.Subject, error) {
		for range changeAttempts {
			n, err := tx.Exec(`UPDATE account SET activated = $1 WHERE token = $2 AND tenant = $3 AND closed IS NULL
				AND activated IS NULL AND NOT held AND expires > $1`, engine.Micros(now), token[:], tenant)
			if err != nil {
				return nil, err
			}
			if a, err = linked(tx, tenant, token); err != nil {
				return nil, err
			}
			if n > 0 || tx.Repeated() && a.Activated.Equal(engine.FromMicros(engine.Micros(now))) {
				return []phonetables.Subject{phonetables.Account(a.UID)}, nil
			}
			if err := refusal(a, now); err != nil {
				return nil, err
			}
		}
		return nil, errKeepsChanging
	})
	return a, err
}

// changeAttempts bounds the attempts of a transaction on an account that other transactions change. On
// PostgreSQL each statement has its own snapshot: an UPDATE may find a link replaced or its account
// held, and the next statement find that undone. Then the UPDATE is run again.
const changeAttempts = 10

var errKeepsChanging = errors.New("the account was changed by others in each of the attempts to change it")

// Confirm implements account.Store.
func (s *Store) Confirm(ctx context.Context, tenant int64, token [32]byte, uid account.UID,
	now time.Time) (account.Account, error) {
	a, err := s.Linked(ctx, tenant, token, now)
	switch {
	case a.UID == account.UID{}:
		return a, err
	case a.UID != uid:
		return account.Account{}, errNoAccount
	case err != nil && !errors.Is(err, account.ErrActive):
		return a, err
	case !a.Confirmed.IsZero():
		return a, nil
	}
	err = s.tables.Write(func(tx engine.Tx) ([]phonetables.Subject, error) {
		for range changeAttempts {
			// Since the read the account may have been deleted or disabled, or got another link. It
			// may also have expired since then, which does not matter.
			n, err := tx.Exec(`UPDATE account SET activated = COALESCE(activated, $1),
				confirmed = COALESCE(confirmed, $1)
				WHERE token = $2 AND tenant = $3 AND closed IS NULL AND NOT held`,
				engine.Micros(now), token[:], tenant)
			if err != nil {
				return nil, err
			}
			if a, err = linked(tx, tenant, token); err != nil {
				return nil, err
			}
			if n > 0 {
				return []phonetables.Subject{phonetables.Account(a.UID)}, nil
			}
			if a.Held {
				return nil, account.ErrHeld
			}
		}
		return nil, errKeepsChanging
	})
	return a, err
}

// Find implements account.Store.
func (s *Store) Find(ctx context.Context, tenant int64, user string, now time.Time) (account.Account, error) {
	// At sign-in, user may be any bytes. PostgreSQL fails for bytes that are not text.
	if !utf8.ValidString(user) || strings.Contains(user, "\x00") {
		return account.Account{}, errNoAccount
	}
	// The statement always reads one row, so that an unknown name takes as long as a known one: the row
	// of the name, or else that of the next name, or of the last name if there is no next one. The
	// subquery does not use max(username), for which PostgreSQL without statistics reads all rows.
	var found bool
	row := s.engine.Reads(ctx).Row(`SELECT username = $3 AND `+live+`, `+accountColumns+` FROM account
		WHERE tenant = $2 AND username >= (SELECT CASE WHEN last < $3 THEN last ELSE $3 END
			FROM (SELECT username AS last FROM account WHERE tenant = $2 ORDER BY username DESC LIMIT 1) names)
		ORDER BY username LIMIT 1`, engine.Micros(now), tenant, user)
	a, err := scanAccount(prefixed{row, append(make([]any, 0, 16), &found)})
	if err == nil && !found {
		return account.Account{}, errNoAccount
	}
	return a, err
}

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

// change updates one live account and returns it as it is after the change. In set, $1 is the
// present time, and more begins at $4. Phone servers are notified of what, unless it is empty.
func (s *Store) change(what hook.EventType, set string, tenant int64, user string, now time.Time,
	more ...any) (a account.Account, err error) {
	args := append([]any{engine.Micros(now), tenant, user}, more...)
	event := account.NewUID(now)
	defer s.signalAdded()
	err = s.tables.Write(func(tx engine.Tx) (_ []phonetables.Subject, err error) {
		err = untilFound(tx, tenant, user, now, func() (err error) {
			a, err = scanAccount(tx.Row(`UPDATE account SET `+set+` WHERE tenant = $2 AND username = $3 AND `+live+`
				RETURNING `+accountColumns, args...))
			return err
		})
		if err == nil && what != "" {
			err = insertAccountNotifications(tx, what, event, a.UID[:], now)
		}
		return []phonetables.Subject{phonetables.Account(a.UID)}, err
	})
	return a, err
}

// untilFound calls change, which changes the live account of a user, until it finds one or there is
// none. On PostgreSQL, a statement that waits for the row of an expired account, while a signup
// replaces that account, finds neither: its snapshot is older than the new account.
func untilFound(tx engine.Tx, tenant int64, user string, now time.Time, change func() error) error {
	for range changeAttempts {
		err := change()
		if !errors.Is(err, errNoAccount) {
			return err
		}
		n, countErr := engine.Count(tx, `SELECT count(*) FROM account WHERE tenant = $2 AND username = $3 AND `+live,
			engine.Micros(now), tenant, user)
		if countErr != nil || n == 0 {
			return errors.Join(countErr, err)
		}
	}
	return errKeepsChanging
}

// Enable implements account.Store.
func (s *Store) Enable(ctx context.Context, tenant int64, user string, now time.Time) (account.Account, error) {
	return s.change("", `held = FALSE, activated = COALESCE(activated, $1)`, tenant, user, now)
}

// Disable implements account.Store.
func (s *Store) Disable(ctx context.Context, tenant int64, user string, now time.Time) (account.Account, error) {
	return s.change(hook.AccountDisabled, `held = TRUE, epoch = epoch + 1`, tenant, user, now)
}

// SetRole implements account.Store.
func (s *Store) SetRole(ctx context.Context, tenant int64, user string, role account.Role,
	now time.Time) (account.Account, error) {
	return s.change(hook.AccountRole, `role = $4`, tenant, user, now, string(role))
}

// Delete implements account.Store.
func (s *Store) Delete(ctx context.Context, tenant int64, user string, now time.Time) error {
	event := account.NewUID(now)
	defer s.signalAdded()
	return s.tables.Write(func(tx engine.Tx) (changed []phonetables.Subject, err error) {
		err = untilFound(tx, tenant, user, now, func() (err error) {
			changed, err = remove(tx, tenant, user, event, now)
			return err
		})
		return changed, err
	})
}

// remove deletes a live account. One that was active keeps a row with its name.
func remove(
	tx engine.Tx, tenant int64, user string, event account.UID, now time.Time,
) ([]phonetables.Subject, error) {
	n, err := tx.Exec(`DELETE FROM account WHERE tenant = $2 AND username = $3 AND activated IS NULL AND `+live,
		engine.Micros(now), tenant, user)
	if err != nil || n > 0 {
		return nil, err
	}
	var uid []byte
	err = tx.Row(`UPDATE account SET closed = $1, name = '', email = '', credential = $4, has_sha256 = FALSE,
		token = NULL, lang = 'en', confirmed = NULL, epoch = epoch + 1
		WHERE tenant = $2 AND username = $3 AND activated IS NOT NULL AND closed IS NULL RETURNING uid`,
		engine.Micros(now), tenant, user, []byte{}).Scan(&uid)
	if errors.Is(err, sql.ErrNoRows) {
		if tx.Repeated() {
			return nil, nil
		}
		return nil, errNoAccount
	} else if err != nil {
		return nil, err
	}
	if err := insertAccountNotifications(tx, hook.AccountDeleted, event, uid, now); err != nil {
		return nil, err
	}
	for _, table := range []string{"outbox", "replaced", "delivery"} {
		if _, err := tx.Exec(`DELETE FROM `+table+` WHERE account = $1`, uid); err != nil {
			return nil, err
		}
	}
	return []phonetables.Subject{phonetables.Subject(uid)}, nil
}

// prefixed scans some columns before those of an account.
type prefixed struct {
	row   engine.Scanner
	first []any
}

func (p prefixed) Scan(dst ...any) error { return p.row.Scan(append(p.first, dst...)...) }
