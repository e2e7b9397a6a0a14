package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/captcha"
	"dialtone/internal/fault"
	"dialtone/internal/throttle"
)

var _ account.Store = (*Store)(nil)

const accountColumns = `uid, tenant, username, name, email, role, held, created, expires, activated, epoch, credential, has_sha256`

// live is the condition that an account is there at all, with the present time as $1.
const live = `closed IS NULL AND (activated IS NOT NULL OR expires > $1)`

var errNoAccount = fault.New(fault.NotFound, "there is no such account")

func scanAccount(row scanner) (a account.Account, err error) {
	var uid []byte
	var role string
	var created, expires int64
	var activated sql.NullInt64
	err = row.Scan(&uid, &a.Tenant, &a.User, &a.Name, &a.Email, &role, &a.Held, &created, &expires, &activated,
		&a.Epoch, &a.Sealed, &a.HasSHA256)
	if errors.Is(err, sql.ErrNoRows) {
		return a, errNoAccount
	} else if err != nil {
		return a, err
	}
	copy(a.UID[:], uid)
	a.Role = account.Role(role)
	a.Created, a.Expires = fromMicros(created), fromMicros(expires)
	if activated.Valid {
		a.Activated = fromMicros(activated.Int64)
	}
	a.Disabled = a.Held || a.Pending()
	return a, nil
}

// Create implements account.Store.
func (s *Store) Create(ctx context.Context, a account.Admission, now time.Time) error {
	if !a.Captcha.Ours {
		// Nothing can come of it, so no write waits for it either.
		if err := admitAddress(reader{ctx, s}, a.Address, now); err != nil {
			return err
		}
		return account.ErrCaptcha
	}
	return s.write(func(tx *tx) error { return create(tx, a, now) })
}

func create(tx *tx, a account.Admission, now time.Time) error {
	if err := admitAddress(tx, a.Address, now); err != nil {
		return err
	}
	used, err := isSpent(tx, a.Captcha.Nonce, a.Captcha.Expires)
	if err != nil {
		return err
	}
	if used {
		return account.ErrCaptcha
	}
	if !a.Captcha.Right {
		return refuse(spend(tx, a.Captcha), account.ErrCaptcha)
	}
	var uid []byte
	var there bool
	err = tx.row(`SELECT uid, closed IS NOT NULL OR activated IS NOT NULL OR expires > $1
		FROM account WHERE tenant = $2 AND username = $3`, micros(now), a.Account.Tenant, a.Account.User).Scan(&uid, &there)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	if there {
		return refuse(spend(tx, a.Captcha), account.ErrTaken)
	}
	wait, err := waitFor(tx, a.Recipient, now)
	if err != nil {
		return err
	}
	if wait > 0 {
		return account.ErrRecipient(wait)
	}
	if a.CheckOnly {
		return nil
	}
	if uid != nil { // expired: its name, its row and its link end here
		if _, err := tx.exec(`DELETE FROM account WHERE uid = $1`, uid); err != nil {
			return err
		}
	}
	return insert(tx, a, now)
}

func insert(tx *tx, a account.Admission, now time.Time) error {
	if err := spend(tx, a.Captcha); err != nil {
		return err
	}
	for _, al := range append(a.Address[:len(a.Address):len(a.Address)], a.Recipient) {
		if _, err := tx.exec(`INSERT INTO taken (bucket, at, account, until) VALUES ($1, $2, $3, $4)`,
			al.Bucket[:], micros(now), a.Account.UID[:], micros(now.Add(al.Rule.Per))); err != nil {
			return err
		}
	}
	c := a.Account
	if _, err := tx.exec(`INSERT INTO account (uid, tenant, username, name, email, role, held, created, expires, epoch,
		credential, has_sha256, token) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)`,
		c.UID[:], c.Tenant, c.User, c.Name, c.Email, string(c.Role), c.Held, micros(c.Created), micros(c.Expires), c.Epoch,
		c.Sealed, c.HasSHA256, a.Token[:]); err != nil {
		return err
	}
	_, err := tx.exec(`INSERT INTO outbox (account, message, token) VALUES ($1, $2, $3)`, c.UID[:], a.Message[:], a.SealedToken)
	return err
}

// admitAddress wants a place under every rule; where several are full it tells of the longest wait.
func admitAddress(q querier, list []throttle.Allowance, now time.Time) error {
	var longest time.Duration
	for _, al := range list {
		wait, err := waitFor(q, al, now)
		if err != nil {
			return err
		}
		longest = max(longest, wait)
	}
	if longest > 0 {
		return account.ErrAddress(longest)
	}
	return nil
}

// waitFor is how long it takes until there is a place: until the oldest of the last Limit times no longer counts.
func waitFor(q querier, al throttle.Allowance, now time.Time) (time.Duration, error) {
	var at int64
	err := q.row(`SELECT at FROM taken WHERE bucket = $1 AND at > $2 ORDER BY at DESC LIMIT 1 OFFSET $3`,
		al.Bucket[:], micros(now.Add(-al.Rule.Per)), al.Rule.Limit-1).Scan(&at)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	} else if err != nil {
		return 0, err
	}
	return fromMicros(at).Add(al.Rule.Per).Sub(now), nil
}

func isSpent(q querier, nonce [16]byte, expires time.Time) (bool, error) {
	var one int
	err := q.row(`SELECT 1 FROM spent WHERE expires = $1 AND nonce = $2`, micros(expires), nonce[:]).Scan(&one)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return err == nil, err
}

// refuse is the refusal, unless what goes with it failed.
func refuse(err error, refusal *fault.Error) error {
	if err != nil {
		return err
	}
	return refusal
}

func spend(tx *tx, p captcha.Proof) error { return note(tx, p.Nonce, p.Expires) }

func note(tx *tx, nonce [16]byte, expires time.Time) error {
	_, err := tx.exec(`INSERT INTO spent (expires, nonce) VALUES ($1, $2) ON CONFLICT DO NOTHING`, micros(expires), nonce[:])
	return err
}

// Undo implements account.Store.
func (s *Store) Undo(ctx context.Context, a account.Admission, now time.Time) error {
	return s.write(func(tx *tx) error {
		// An account that somebody enabled meanwhile has an owner; its message is written at the next start.
		n, err := tx.exec(`DELETE FROM account WHERE uid = $1 AND activated IS NULL`, a.Account.UID[:])
		if err != nil || n == 0 {
			return err
		}
		for _, al := range append(a.Address[:len(a.Address):len(a.Address)], a.Recipient) {
			if _, err := tx.exec(`DELETE FROM taken WHERE bucket = $1 AND account = $2`, al.Bucket[:], a.Account.UID[:]); err != nil {
				return err
			}
		}
		_, err = tx.exec(`DELETE FROM spent WHERE expires = $1 AND nonce = $2`, micros(a.Captcha.Expires), a.Captcha.Nonce[:])
		return err
	})
}

// Activate implements account.Store.
func (s *Store) Activate(ctx context.Context, tenant int64, token [32]byte, now time.Time) (account.Account, error) {
	find := func(q querier) (account.Account, error) {
		return scanAccount(q.row(`SELECT `+accountColumns+` FROM account WHERE token = $1 AND tenant = $2 AND closed IS NULL`, token[:], tenant))
	}
	explain := func(a account.Account) error {
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
	// Whoever comes with no good link is answered by a read alone.
	a, err := find(reader{ctx, s})
	if err == nil {
		err = explain(a)
	}
	if err != nil {
		return a, err
	}
	err = s.write(func(tx *tx) error {
		n, err := tx.exec(`UPDATE account SET activated = $1 WHERE token = $2 AND tenant = $3 AND closed IS NULL
			AND activated IS NULL AND NOT held AND expires > $1`, micros(now), token[:], tenant)
		if err != nil {
			return err
		}
		if a, err = find(tx); err != nil {
			return err
		}
		if n == 0 {
			return explain(a)
		}
		return nil
	})
	return a, err
}

// Find implements account.Store.
func (s *Store) Find(ctx context.Context, tenant int64, user string, now time.Time) (account.Account, error) {
	return scanAccount(reader{ctx, s}.row(`SELECT `+accountColumns+` FROM account WHERE tenant = $2 AND username = $3 AND `+live,
		micros(now), tenant, user))
}

// FindUID implements account.Store.
func (s *Store) FindUID(ctx context.Context, tenant int64, uid account.UID, now time.Time) (account.Account, error) {
	return scanAccount(reader{ctx, s}.row(`SELECT `+accountColumns+` FROM account WHERE tenant = $2 AND uid = $3 AND `+live,
		micros(now), tenant, uid[:]))
}

// List implements account.Store.
func (s *Store) List(ctx context.Context, tenant int64, now time.Time, each func(account.Account) error) error {
	rows, err := s.reads.QueryContext(ctx, `SELECT `+accountColumns+` FROM account WHERE tenant = $2 AND `+live+` ORDER BY username`,
		micros(now), tenant)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		a, err := scanAccount(rows)
		if err != nil {
			return err
		}
		if err := each(a); err != nil {
			return err
		}
	}
	return rows.Err()
}

// change updates one live account and gives it back as it is then. The statement has the present time as $1.
func (s *Store) change(set string, tenant int64, user string, now time.Time, more ...any) (a account.Account, err error) {
	args := append([]any{micros(now), tenant, user}, more...)
	err = s.write(func(tx *tx) (err error) {
		a, err = scanAccount(tx.row(`UPDATE account SET `+set+` WHERE tenant = $2 AND username = $3 AND `+live+` RETURNING `+accountColumns, args...))
		return err
	})
	return a, err
}

// Enable implements account.Store.
func (s *Store) Enable(ctx context.Context, tenant int64, user string, now time.Time) (account.Account, error) {
	return s.change(`held = FALSE, activated = COALESCE(activated, $1)`, tenant, user, now)
}

// Disable implements account.Store.
func (s *Store) Disable(ctx context.Context, tenant int64, user string, now time.Time) (account.Account, error) {
	return s.change(`held = TRUE, epoch = epoch + 1`, tenant, user, now)
}

// SetRole implements account.Store.
func (s *Store) SetRole(ctx context.Context, tenant int64, user string, role account.Role, now time.Time) (account.Account, error) {
	return s.change(`role = $4`, tenant, user, now, string(role))
}

// Delete implements account.Store.
func (s *Store) Delete(ctx context.Context, tenant int64, user string, now time.Time) error {
	return s.write(func(tx *tx) error {
		a, err := scanAccount(tx.row(`SELECT `+accountColumns+` FROM account WHERE tenant = $2 AND username = $3 AND `+live, micros(now), tenant, user))
		if err != nil {
			return err
		}
		if a.Pending() {
			_, err = tx.exec(`DELETE FROM account WHERE uid = $1`, a.UID[:])
			return err
		}
		if _, err := tx.exec(`DELETE FROM outbox WHERE account = $1`, a.UID[:]); err != nil {
			return err
		}
		_, err = tx.exec(`UPDATE account SET closed = $2, name = '', email = '', credential = $3, has_sha256 = FALSE,
			token = NULL, epoch = epoch + 1 WHERE uid = $1`, a.UID[:], micros(now), []byte{})
		return err
	})
}

// Waiting implements account.Store.
func (s *Store) Waiting(ctx context.Context) ([]account.Waiting, error) {
	rows, err := s.reads.QueryContext(ctx, `SELECT o.message, o.token, uid, tenant, username, name, email, role, held, created, expires,
		activated, epoch, credential, has_sha256 FROM outbox o JOIN account ON uid = o.account ORDER BY o.account`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []account.Waiting
	for rows.Next() {
		var w account.Waiting
		var message []byte
		w.Account, err = scanAccount(prefixed{rows, []any{&message, &w.SealedToken}})
		if err != nil {
			return nil, err
		}
		copy(w.Message[:], message)
		list = append(list, w)
	}
	return list, rows.Err()
}

// prefixed scans some columns before those of an account.
type prefixed struct {
	row   scanner
	first []any
}

func (p prefixed) Scan(dst ...any) error { return p.row.Scan(append(p.first, dst...)...) }

// Settle implements account.Store.
func (s *Store) Settle(ctx context.Context, messages []account.Sent) error {
	const chunk = 256 // so that signups get their turn in between
	for len(messages) > 0 {
		n := min(chunk, len(messages))
		part := messages[:n]
		err := s.write(func(tx *tx) error {
			for _, m := range part {
				if _, err := tx.exec(`DELETE FROM outbox WHERE account = $1 AND message = $2`, m.Account[:], m.Message[:]); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		messages = messages[n:]
	}
	return nil
}

// Sweep implements account.Store.
func (s *Store) Sweep(ctx context.Context, now, expired time.Time, limit int) (account.Swept, error) {
	var swept account.Swept
	err := s.write(func(tx *tx) error {
		swept = account.Swept{}
		n, err := tx.exec(`DELETE FROM account WHERE uid IN (SELECT uid FROM account WHERE activated IS NULL AND expires <= $1
			ORDER BY expires LIMIT $2)`, micros(expired), limit)
		if err != nil {
			return err
		}
		swept.Accounts, swept.More = n, n == int64(limit)
		for _, query := range []string{
			`DELETE FROM spent WHERE (expires, nonce) IN (SELECT expires, nonce FROM spent WHERE expires <= $1 ORDER BY expires LIMIT $2)`,
			`DELETE FROM taken WHERE (bucket, at, account) IN (SELECT bucket, at, account FROM taken WHERE until <= $1 ORDER BY until LIMIT $2)`,
		} {
			n, err := tx.exec(query, micros(now), limit)
			if err != nil {
				return err
			}
			swept.Others += n
			swept.More = swept.More || n == int64(limit)
		}
		return nil
	})
	return swept, err
}

// Revoke implements session.Store.
func (s *Store) Revoke(ctx context.Context, id [16]byte, expires time.Time) error {
	return s.write(func(tx *tx) error { return note(tx, id, expires) })
}

// Revoked implements session.Store.
func (s *Store) Revoked(ctx context.Context, id [16]byte, expires time.Time) (bool, error) {
	return isSpent(reader{ctx, s}, id, expires)
}
