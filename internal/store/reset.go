package store

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"strings"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/mailmsg"
	"dialtone/internal/store/engine"
)

var _ account.ResetStore = (*Store)(nil)

// OfEmail implements account.ResetStore.
func (s *Store) OfEmail(ctx context.Context, tenant int64, email string,
	now time.Time) (list []account.Account, err error) {
	return accountsOf(s.engine.Reads(ctx), ofEmail, engine.Micros(now), tenant, strings.ToLower(email))
}

const (
	ofTenant = `SELECT ` + accountColumns + ` FROM account WHERE tenant = $2 AND ` + live + ` AND `
	// ofEmail and usableOfEmail select accounts by an address. Waiting accounts have an index of
	// their own.
	ofEmail = ofTenant + `lower(email) = $3 AND activated IS NOT NULL UNION ALL ` +
		ofTenant + `lower(email) = $3 AND activated IS NULL`
	usable        = `activated IS NOT NULL AND (NOT held OR ` + isLeaving + `)`
	usableOfEmail = ofTenant + `lower(email) = lower($3) AND email = $3 AND ` + usable
)

// accountsOf returns the accounts that a statement selects, in the order of their user names. If the statement said
// ORDER BY username, SQLite would read all accounts of the tenant in the order of that index.
func accountsOf(q engine.Querier, statement string, args ...any) (list []account.Account, err error) {
	err = q.Each(func(row engine.Scanner) error {
		a, err := scanAccount(row)
		list = append(list, a)
		return err
	}, statement, args...)
	slices.SortFunc(list, func(a, b account.Account) int { return strings.Compare(a.User, b.User) })
	return list, err
}

// AddResetLink implements account.ResetStore.
func (s *Store) AddResetLink(ctx context.Context, r account.NewResetLink,
	now time.Time) (a account.Account, err error) {
	e := entry(ctx, audit.PasswordLink, now)
	err = s.write(ctx, func(tx engine.Tx) error {
		if tx.Repeated() {
			done, err := linkExists(tx, r.Token)
			if err != nil {
				return err
			} else if done {
				a, err = lockAccount(tx, r.Tenant, r.User, now)
				return err
			}
		}
		// This deletion is committed even if the link is refused below, because the request has been handled.
		if err := removeForgotten(tx, r.Forgotten); err != nil {
			return err
		}
		if a, err = lockAccount(tx, r.Tenant, r.User, now); err != nil {
			return err
		}
		if err := checkVersion(ctx, tx, e, a); err != nil {
			return err
		}
		switch {
		case a.State() == account.Disabled:
			return account.ErrHeld
		case a.Pending() != (r.Kind == mailmsg.SetPassword):
			return errNoAccount
		case a.Pending():
			if n, err := passwordLinks(tx, a.UID); err != nil {
				return err
			} else if n == 0 {
				return errNoAccount
			}
		}
		if err := tx.Lock(append(placeKeys(r.Allowances), addressKey(a))...); err != nil {
			return err
		}
		if err := checkAndTake(tx, r.Allowances, r.Message, now, account.ResetRefusal); err != nil {
			return err
		}
		unsent := noUnsent
		if r.Message == (mailmsg.ID{}) {
			unsent = 0
		}
		if err := removeResetLinks(tx, a, unsent); err != nil {
			return err
		}
		if err := s.addNotice(tx, a, r.Notice); err != nil {
			return err
		}
		if r.TakenOver {
			if err := s.leaveToServer(tx, a, r.Message); err != nil {
				return err
			}
			e.about("message")
		}
		return e.of(a).add(tx)
	})
	return a, err
}

// passwordLinks returns how many links of mailmsg.SetPassword an account has, whether or not they still work.
func passwordLinks(q engine.Querier, uid account.UID) (int64, error) {
	return engine.Count(q, `SELECT count(*) FROM link WHERE account = $1 AND kind = $2`,
		uid[:], string(mailmsg.SetPassword))
}

// HasPasswordLink implements account.ResetStore.
func (s *Store) HasPasswordLink(ctx context.Context, uid account.UID) (bool, error) {
	n, err := passwordLinks(s.engine.Reads(ctx), uid)
	return n > 0, err
}

// leaveToServer leaves a message to the next server that looks for messages of commands. Commands
// write none themselves.
func (s *Store) leaveToServer(tx engine.Tx, a account.Account, message mailmsg.ID) error {
	_, err := tx.Exec(`UPDATE outbox SET node = $1 WHERE account = $2 AND message = $3`,
		s.unowned(), a.UID[:], message[:])
	return err
}

// linkExists reports whether there is a link with the hash of a token.
func linkExists(q engine.Querier, token [32]byte) (bool, error) {
	n, err := engine.Count(q, `SELECT count(*) FROM link WHERE token = $1`, token[:])
	return n > 0, err
}

// ResetLink implements account.ResetStore.
func (s *Store) ResetLink(ctx context.Context, tenant int64, token [32]byte,
	now time.Time) (list []account.Account, until time.Time, err error) {
	q := s.engine.Reads(ctx)
	var uid []byte
	var kind, email string
	var us int64
	err = q.Row(`SELECT l.account, l.kind, l.email, l.until FROM link l JOIN account a ON a.uid = l.account
		WHERE l.token = $1 AND l.kind IN ($2, $5) AND l.until > $3 AND a.tenant = $4`,
		token[:], string(mailmsg.Reset), engine.Micros(now), tenant, string(mailmsg.SetPassword)).
		Scan(&uid, &kind, &email, &us)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, until, account.ErrLinkUsed
	}
	if err != nil {
		return nil, until, err
	}
	if kind == string(mailmsg.SetPassword) {
		list, err = accountsOf(q, ofTenant+`uid = $3 AND email = $4 AND (NOT held OR `+isLeaving+`)`,
			engine.Micros(now), tenant, uid, email)
	} else if email == "" {
		list, err = accountsOf(q, ofTenant+`uid = $3 AND `+usable, engine.Micros(now), tenant, uid)
	} else {
		// The index ignores case, but only the mail server of the address knows whether case
		// matters.
		list, err = accountsOf(q, usableOfEmail, engine.Micros(now), tenant, email)
	}
	if err == nil && len(list) == 0 {
		err = account.ErrLinkUsed
	}
	return list, engine.FromMicros(us), err
}

// findResetLink finds a reset link that went to the account's address, or was made for the account without a message.
// For an account that waits it finds only a link of mailmsg.SetPassword.
// It reports whether there was a message, and how often the address had been changed when the link was made.
func findResetLink(
	tx engine.Tx, a account.Account, token [32]byte, now time.Time,
) (mailed bool, emails int64, err error) {
	var email string
	err = tx.Row(`SELECT email, email_n FROM link WHERE token = $1 AND until > $3
		AND (kind = $2 AND (email = $4 OR email = '' AND account = $6) OR kind = $7 AND email = $4 AND account = $6)
		AND EXISTS (SELECT 1 FROM account a WHERE a.uid = link.account AND a.tenant = $5)
		AND ($8 OR kind = $7)`,
		token[:], string(mailmsg.Reset), engine.Micros(now), a.Email, a.Tenant, a.UID[:], string(mailmsg.SetPassword),
		!a.Pending()).Scan(&email, &emails)
	if errors.Is(err, sql.ErrNoRows) {
		err = account.ErrLinkUsed
	}
	return email != "", emails, err
}
