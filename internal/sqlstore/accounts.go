package sqlstore

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
	"dialtone/internal/outbox"
)

var (
	_ account.Store = (*Store)(nil)
	_ outbox.Store  = (*Store)(nil)
)

const accountColumns = `uid, tenant, username, name, email, role, held, created, expires, activated, epoch, credential,
	has_sha256, lang, confirmed`

// live is the condition that an account exists, with the present time as $1.
const live = `closed IS NULL AND (activated IS NOT NULL OR expires > $1)`

var errNoAccount = fault.New(fault.NotFound, "there is no such account")

func scanAccount(row scanner) (a account.Account, err error) {
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
	a.Created, a.Expires = fromMicros(created), fromMicros(expires)
	if activated.Valid {
		a.Activated = fromMicros(activated.Int64)
	}
	if confirmed.Valid {
		a.Confirmed = fromMicros(confirmed.Int64)
	}
	a.Disabled = a.Held || a.Pending()
	return a, nil
}

// linked returns the account of a token. It fails with account.ErrReplaced for a link that a newer one has replaced.
// It is one statement, so that a link that is being taken back is found in one table or the other.
func linked(q querier, tenant int64, token [32]byte) (account.Account, error) {
	var current bool // the link is the account's newest
	row := q.row(`SELECT token = $1, `+accountColumns+` FROM account WHERE tenant = $2 AND closed IS NULL AND uid =
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
	a, err := linked(s.engine.reads(ctx), tenant, token)
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
	err = writeAndPublish(s.engine, func(tx transaction) ([]subject, error) {
		n, err := tx.exec(`UPDATE account SET activated = $1 WHERE token = $2 AND tenant = $3 AND closed IS NULL
			AND activated IS NULL AND NOT held AND expires > $1`, micros(now), token[:], tenant)
		if err != nil {
			return nil, err
		}
		if a, err = linked(tx, tenant, token); err != nil {
			return nil, err
		}
		if n > 0 || tx.repeated() && a.Activated.Equal(fromMicros(micros(now))) {
			return []subject{subjectOf(a)}, nil
		}
		return nil, refusal(a, now)
	})
	return a, err
}

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
	err = writeAndPublish(s.engine, func(tx transaction) ([]subject, error) {
		// Since the read the account may have been deleted or disabled, or got another link. It may also have expired
		// since then, which does not matter.
		n, err := tx.exec(`UPDATE account SET activated = COALESCE(activated, $1), confirmed = COALESCE(confirmed, $1)
			WHERE token = $2 AND tenant = $3 AND closed IS NULL AND NOT held`, micros(now), token[:], tenant)
		if err != nil {
			return nil, err
		}
		if a, err = linked(tx, tenant, token); err == nil && n == 0 {
			err = account.ErrHeld // it was when the UPDATE ran
		}
		return []subject{subjectOf(a)}, err
	})
	return a, err
}

// Find implements account.Store.
func (s *Store) Find(ctx context.Context, tenant int64, user string, now time.Time) (account.Account, error) {
	// At sign-in, user may be any bytes. PostgreSQL fails for bytes that are not text.
	if !utf8.ValidString(user) || strings.Contains(user, "\x00") {
		return account.Account{}, errNoAccount
	}
	return scanAccount(s.engine.reads(ctx).row(
		`SELECT `+accountColumns+` FROM account WHERE tenant = $2 AND username = $3 AND `+live,
		micros(now), tenant, user))
}

// FindUID implements account.Store.
func (s *Store) FindUID(ctx context.Context, tenant int64, uid account.UID, now time.Time) (account.Account, error) {
	return scanAccount(s.engine.reads(ctx).row(
		`SELECT `+accountColumns+` FROM account WHERE tenant = $2 AND uid = $3 AND `+live,
		micros(now), tenant, uid[:]))
}

// List implements account.Store.
func (s *Store) List(ctx context.Context, tenant int64, now time.Time, each func(account.Account) error) error {
	return s.engine.reads(ctx).each(func(row scanner) error {
		a, err := scanAccount(row)
		if err != nil {
			return err
		}
		return each(a)
	}, `SELECT `+accountColumns+` FROM account WHERE tenant = $2 AND `+live+` ORDER BY username`, micros(now), tenant)
}

// change updates one live account and returns it as it is after the change. In set, $1 is the present time, and more
// begins at $4. Phone servers are notified of what, unless it is empty.
func (s *Store) change(what hook.EventType, set string, tenant int64, user string, now time.Time,
	more ...any) (a account.Account, err error) {
	args := append([]any{micros(now), tenant, user}, more...)
	event := account.NewUID(now)
	defer s.notify()
	err = writeAndPublish(s.engine, func(tx transaction) (_ []subject, err error) {
		a, err = scanAccount(tx.row(`UPDATE account SET `+set+` WHERE tenant = $2 AND username = $3 AND `+live+`
			RETURNING `+accountColumns, args...))
		if err == nil && what != "" {
			err = noticeAccount(tx, what, event, a.UID[:], now)
		}
		return []subject{subjectOf(a)}, err
	})
	return a, err
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
	defer s.notify()
	return writeAndPublish(s.engine, func(tx transaction) ([]subject, error) {
		n, err := tx.exec(`DELETE FROM account WHERE tenant = $2 AND username = $3 AND activated IS NULL AND `+live,
			micros(now), tenant, user)
		if err != nil || n > 0 {
			return nil, err
		}
		var uid []byte
		err = tx.row(`UPDATE account SET closed = $1, name = '', email = '', credential = $4, has_sha256 = FALSE,
			token = NULL, lang = 'en', confirmed = NULL, epoch = epoch + 1
			WHERE tenant = $2 AND username = $3 AND activated IS NOT NULL AND closed IS NULL RETURNING uid`,
			micros(now), tenant, user, []byte{}).Scan(&uid)
		if errors.Is(err, sql.ErrNoRows) {
			if tx.repeated() {
				return nil, nil
			}
			return nil, errNoAccount
		} else if err != nil {
			return nil, err
		}
		if err := noticeAccount(tx, hook.AccountDeleted, event, uid, now); err != nil {
			return nil, err
		}
		for _, table := range []string{"outbox", "replaced", "delivery"} {
			if _, err := tx.exec(`DELETE FROM `+table+` WHERE account = $1`, uid); err != nil {
				return nil, err
			}
		}
		return []subject{subject(uid)}, nil
	})
}

// Pending implements outbox.Store.
func (s *Store) Pending(ctx context.Context) ([]outbox.Entry, error) {
	return waiting(s.engine.reads(ctx), `($1 = '' OR o.node = $1)`, s.engine.node())
}

// waiting returns the outbox rows of a condition, with their accounts.
func waiting(q querier, condition string, args ...any) (list []outbox.Entry, err error) {
	err = q.each(func(row scanner) (err error) {
		var w outbox.Entry
		var message []byte
		var made int64
		a, err := scanAccount(prefixed{row, []any{&message, &w.SealedToken, &made, &w.Replaced}})
		if err != nil {
			return err
		}
		w.Tenant, w.Account, w.User, w.Email, w.Lang = a.Tenant, a.UID, a.User, a.Email, a.Lang
		copy(w.Message[:], message)
		w.Made, w.Expires = a.Created, a.Expires
		if made > 0 {
			w.Made = fromMicros(made)
		}
		list = append(list, w)
		return nil
	}, `SELECT o.message, o.token, o.made,
		EXISTS (SELECT 1 FROM outbox n WHERE n.account = o.account AND n.turn > o.turn), `+accountColumns+`
		FROM outbox o JOIN account ON uid = o.account WHERE `+condition+` ORDER BY o.account, o.turn`, args...)
	return list, err
}

// prefixed scans some columns before those of an account.
type prefixed struct {
	row   scanner
	first []any
}

func (p prefixed) Scan(dst ...any) error { return p.row.Scan(append(p.first, dst...)...) }

// TakeOver implements outbox.Store.
func (s *Store) TakeOver(ctx context.Context) ([]outbox.Entry, error) {
	return s.engine.adopt(ctx)
}

// Ack implements outbox.Store.
func (s *Store) Ack(ctx context.Context, messages []outbox.Ref) (left []outbox.Ref, err error) {
	return inChunks(s.engine, messages, settle)
}

// inChunks calls one for each element of list, in transactions of up to 256 elements. When a transaction
// fails, it returns the elements that are not committed.
func inChunks[T any](e engine, list []T, one func(transaction, T) error) (left []T, err error) {
	const chunk = 256 // small enough that signups do not wait long for the writer
	for i := 0; i < len(list); i += chunk {
		err := e.write(func(tx transaction) error {
			for _, element := range list[i:min(i+chunk, len(list))] {
				if err := one(tx, element); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return list[i:], err
		}
	}
	return nil, nil
}

func settle(tx transaction, m outbox.Ref) error {
	// One sync of the directory makes durable all older messages that this node wrote, so their rows go too.
	_, err := tx.exec(`DELETE FROM outbox WHERE account = $1 AND (message = $2 OR EXISTS (SELECT 1 FROM outbox n
		WHERE n.account = $1 AND n.message = $2 AND n.turn > outbox.turn AND n.node = outbox.node))`,
		m.Account[:], m.Message[:])
	if err != nil {
		return err
	}
	_, err = tx.exec(`UPDATE replaced SET email = '' WHERE account = $1 AND message = $2 AND email <> ''`,
		m.Account[:], m.Message[:])
	return err
}

// Sweep implements account.Store.
func (s *Store) Sweep(_ context.Context, now, expired time.Time, limit int) (swept account.Swept, err error) {
	err = s.engine.write(func(tx transaction) (err error) {
		swept, err = sweep(tx, now, expired, limit)
		return err
	})
	return swept, err
}

func sweep(tx transaction, now, expired time.Time, limit int) (swept account.Swept, err error) {
	n, err := tx.exec(`DELETE FROM account WHERE activated IS NULL AND uid IN
		(SELECT uid FROM account WHERE activated IS NULL AND expires <= $1 ORDER BY expires LIMIT $2)`,
		micros(expired), limit)
	if err != nil {
		return swept, err
	}
	swept.Accounts, swept.More = n, n == int64(limit)
	for _, query := range []string{
		`DELETE FROM spent WHERE (expires, nonce) IN
			(SELECT expires, nonce FROM spent WHERE expires <= $1 ORDER BY expires LIMIT $2)`,
		`DELETE FROM taken WHERE (bucket, at, account) IN
			(SELECT bucket, at, account FROM taken WHERE until <= $1 ORDER BY until LIMIT $2)`,
		`DELETE FROM delivery WHERE message IN (SELECT message FROM delivery WHERE expires <= $1 ORDER BY expires LIMIT $2)`,
		`DELETE FROM replaced WHERE token IN (SELECT token FROM replaced WHERE until <= $1 ORDER BY until LIMIT $2)`,
	} {
		n, err := tx.exec(query, micros(now), limit)
		if err != nil {
			return swept, err
		}
		swept.Others += n
		swept.More = swept.More || n == int64(limit)
	}
	return swept, nil
}

// Revoke implements session.Store.
func (s *Store) Revoke(ctx context.Context, tenant int64, id [16]byte, expires time.Time) error {
	return s.engine.write(func(tx transaction) error {
		_, err := markSpent(tx, id, expires)
		return err
	})
}

// Revoked implements session.Store.
func (s *Store) Revoked(ctx context.Context, tenant int64, id [16]byte, expires time.Time) (bool, error) {
	return isSpent(s.engine.reads(ctx), id, expires)
}

// Spend implements session.Store.
func (s *Store) Spend(ctx context.Context, tenant int64, id [16]byte, expires time.Time) (first bool, err error) {
	return s.engine.spendSoon(ctx, id, expires)
}
