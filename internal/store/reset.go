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
	"dialtone/internal/store/phonetables"
	"dialtone/internal/throttle"
)

var _ account.ResetStore = (*Store)(nil)

// AddForgotten implements account.ResetStore.
func (s *Store) AddForgotten(_ context.Context, f account.Forgotten, now time.Time) error {
	return s.engine.Write(func(tx engine.Tx) error {
		if err := tx.Lock(placeKeys(f.Allowances)...); err != nil {
			return err
		}
		if tx.Repeated() && len(f.Allowances) > 0 { // a server may have handled and removed the row
			n, err := engine.Count(tx, `SELECT count(*) FROM taken WHERE bucket = $1 AND at = $2 AND account = $3`,
				f.Allowances[0].Bucket[:], engine.Micros(now), f.ID[:])
			if err != nil || n > 0 {
				return err
			}
		}
		if err := checkAndTake(tx, f.Allowances, f.ID, now, account.ForgottenRefusal); err != nil {
			return err
		}
		_, err := tx.Exec(`INSERT INTO forgotten (id, tenant, who, net, at) VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT DO NOTHING`,
			f.ID[:], f.Tenant, f.Sealed, f.Net, engine.Micros(now))
		return err
	})
}

// Forgotten implements account.ResetStore.
func (s *Store) Forgotten(ctx context.Context, skip, limit int) (list []account.Forgotten, err error) {
	err = s.engine.Reads(ctx).Each(func(row engine.Scanner) error {
		var f account.Forgotten
		var id []byte
		err := row.Scan(&id, &f.Tenant, &f.Sealed, &f.Net)
		copy(f.ID[:], id)
		list = append(list, f)
		return err
	}, `SELECT id, tenant, who, net FROM forgotten ORDER BY at, id LIMIT $1 OFFSET $2`,
		limit, skip)
	return list, err
}

// RemoveForgotten implements account.ResetStore.
func (s *Store) RemoveForgotten(_ context.Context, id account.ForgottenID) (removed bool, err error) {
	err = s.engine.Write(func(tx engine.Tx) error {
		n, err := tx.Exec(`DELETE FROM forgotten WHERE id = $1`, id[:])
		removed = n > 0 || tx.Repeated()
		return err
	})
	return removed, err
}

// removeForgotten removes a row, unless the id is zero. It fails with account.ErrHandled if the row
// no longer exists.
func removeForgotten(tx engine.Tx, id account.ForgottenID) error {
	if id == (account.ForgottenID{}) {
		return nil
	}
	n, err := tx.Exec(`DELETE FROM forgotten WHERE id = $1`, id[:])
	if err == nil && n == 0 {
		err = account.ErrHandled
	}
	return err
}

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
		// A refusal keeps what was written before it: the row is handled.
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
	} else if err != nil {
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

// NotMe implements account.ResetStore.
func (s *Store) NotMe(ctx context.Context, tenant int64, token [32]byte, n account.Notice, now time.Time,
	limits ...throttle.Allowance) (after account.Account, err error) {
	event, e := account.NewUID(now), entry(ctx, audit.PasswordNotMe, now)
	defer s.signalAdded()
	// A bad link is refused by a read, without a write.
	found, err := s.ofNotMeLink(ctx, tenant, token, now)
	if err != nil {
		return after, err
	}
	err = s.writeTables(ctx, func(tx engine.Tx) ([]phonetables.Subject, error) {
		a, err := lockAccount(tx, tenant, found.account.User, now)
		if after = a; err != nil {
			return nil, err
		}
		if tx.Repeated() {
			if done, err := linkExists(tx, n.Token); err != nil || done {
				return nil, err
			}
		}
		was := a
		if was.State() == account.Disabled {
			return nil, account.ErrHeld
		}
		// A refusal keeps what was written before it, so it comes before the link is used up.
		if err := tx.Lock(placeKeys(limits)...); err != nil {
			return nil, err
		}
		if err := checkPlaces(tx, limits, now, account.NotMeRefusal); err != nil {
			return nil, err
		}
		var kind, email string
		var emails, made int64
		err = tx.Row(`DELETE FROM link WHERE token = $1 AND account = $2 AND kind IN (`+notMeKinds+`) AND until > $3
			RETURNING kind, email, email_n, made`, token[:], a.UID[:], engine.Micros(now)).
			Scan(&kind, &email, &emails, &made)
		if errors.Is(err, sql.ErrNoRows) {
			return nil, account.ErrLinkUsed
		} else if err != nil {
			return nil, err
		}
		if err := takePlaces(tx, limits, [16]byte(n.Token[:16]), now); err != nil {
			return nil, err
		}
		if err := tx.Lock(addressKey(a), addressKey(account.Account{Tenant: a.Tenant, Email: email})); err != nil {
			return nil, err
		}
		if err := removeResetLinks(tx, a, emails); err != nil {
			return nil, err
		}
		if err := removeEmailLinks(tx, a); err != nil {
			return nil, err
		}
		if a, err = restoreEmail(tx, a, email, emails); err != nil {
			return nil, err
		}
		a, removed, err := removeFactorsSince(tx, a, made)
		if err != nil {
			return nil, err
		}
		if isAboutCodes(kind) {
			codes, err := tx.Exec(`DELETE FROM recovery_code WHERE account = $1`, a.UID[:])
			if err != nil {
				return nil, err
			}
			if codes > 0 {
				removed = append(removed, "codes")
			}
		}
		if a, err = scanAccount(tx.Row(`UPDATE account SET epoch = epoch + 1, password_n = password_n + 1
			WHERE uid = $1 RETURNING `+accountColumns, a.UID[:])); err != nil {
			return nil, err
		}
		if _, err := tx.Exec(`DELETE FROM session WHERE account = $1`, a.UID[:]); err != nil {
			return nil, err
		}
		if err := forgetBrowsers(tx, a.UID); err != nil {
			return nil, err
		}
		if err := removeResetLinks(tx, a, emails); err != nil {
			return nil, err
		}
		if err := s.addNotice(tx, a, n); err != nil {
			return nil, err
		}
		var subjects []phonetables.Subject
		if was.State() == account.Leaving {
			if a, err = stay(tx, a, e); err != nil {
				return nil, err
			}
			subjects = []phonetables.Subject{phonetables.Account(a.UID)}
		}
		if err := insertAccountNotifications(tx, event, a.UID[:], now, changesOf(was, a)...); err != nil {
			return nil, err
		}
		after = a
		return subjects, e.of(a).undone(was, a, removed).add(tx)
	})
	return after, err
}

// undone records what a person undid who had not made a change: the ended sessions, the address,
// the removed second factors and recovery codes, and the old and new values of the state and the
// masked address.
func (e *trailEntry) undone(was, a account.Account, factors []string) *trailEntry {
	did := []string{"sessions"}
	var before, after []string
	if was.State() != a.State() {
		before, after = append(before, string(was.State())), append(after, string(a.State()))
	}
	if was.Email != a.Email {
		did = append(did, "email")
		before, after = append(before, audit.MaskEmail(was.Email)), append(after, audit.MaskEmail(a.Email))
	}
	return e.about(strings.Join(append(did, factors...), ",")).
		values(strings.Join(before, " "), strings.Join(after, " "))
}

// NotMeLink implements account.ResetStore.
func (s *Store) NotMeLink(ctx context.Context, tenant int64, token [32]byte,
	now time.Time) (u account.Undone, err error) {
	l, err := s.ofNotMeLink(ctx, tenant, token, now)
	if err == nil && l.account.State() == account.Disabled {
		err = account.ErrLinkUsed
	}
	if err != nil {
		return account.Undone{}, err
	}
	u.Account, u.Email, u.Emails = l.account, l.email, l.emails
	q := s.engine.Reads(ctx)
	apps, err := engine.Count(q, `SELECT count(*) FROM totp WHERE account = $1 AND made >= $2
		AND since IS NOT NULL`, u.Account.UID[:], l.made)
	if err != nil {
		return account.Undone{}, err
	}
	u.App = apps > 0
	passkeys, err := engine.Count(q, `SELECT count(*) FROM passkey WHERE account = $1 AND made >= $2`,
		u.Account.UID[:], l.made)
	if u.Passkeys = int(passkeys); err != nil || u.App || !isAboutCodes(l.kind) {
		return u, err
	}
	codes, err := engine.Count(q, `SELECT count(*) FROM recovery_code WHERE account = $1`, u.Account.UID[:])
	u.Codes = int(codes)
	return u, err
}

// notMeLink is the link of a message about a change.
type notMeLink struct {
	account account.Account // in any state
	kind    string          // as linkKind returns it
	email   string          // the address that the message went to
	emails  int64           // how often the address had been changed by then
	made    int64
}

// ofNotMeLink returns the link of a message about a change. It fails with account.ErrLinkUsed.
func (s *Store) ofNotMeLink(ctx context.Context, tenant int64, token [32]byte,
	now time.Time) (l notMeLink, err error) {
	l.account, err = scanAccount(s.engine.Reads(ctx).Row(`SELECT l.kind, l.address, l.n, l.made, `+accountColumns+`
		FROM account JOIN (SELECT account, kind, email AS address, email_n AS n, made FROM link
			WHERE token = $3 AND kind IN (`+notMeKinds+`) AND until > $1) l ON l.account = uid
		WHERE tenant = $2 AND closed IS NULL`, engine.Micros(now), tenant, token[:]),
		&l.kind, &l.email, &l.emails, &l.made)
	if errors.Is(err, errNoAccount) {
		err = account.ErrLinkUsed
	}
	return l, err
}

// isAboutCodes reports whether a kind in the table link is that of a message about recovery codes
// that were used or replaced. Its link removes all of them, since someone else may have the list.
func isAboutCodes(kind string) bool {
	return kind == string(mailmsg.RecoveryUsed) || kind == codesReplaced
}

// notMeKinds is a list for IN of the kinds in mailmsg.NotMe, as linkKind returns them.
var notMeKinds = func() string {
	list := []string{`'` + codesReplaced + `'`}
	for _, k := range mailmsg.NotMe {
		list = append(list, `'`+string(k)+`'`)
	}
	return strings.Join(list, ", ")
}()

// restoreEmail sets the address to the one that a message went to, when the address had been
// changed emails times. It ends all links that went to addresses which the account got later, so
// that nobody can use them to undo this. It does not compare clocks.
func restoreEmail(tx engine.Tx, a account.Account, email string, emails int64) (account.Account, error) {
	if _, err := tx.Exec(`DELETE FROM link WHERE account = $1 AND kind <> $2 AND email_n > $3 AND email <> $4`,
		a.UID[:], olderLink, emails, email); err != nil || a.Email == email {
		return a, err
	}
	return scanAccount(tx.Row(`UPDATE account SET email = $2, email_n = email_n + 1 WHERE uid = $1
		RETURNING `+accountColumns, a.UID[:], email))
}

// removeFactorsSince removes the second factors that were added when a message was made or later. Those that
// are older stay: a message about a reset by mail must not be enough to get around them. It returns names for the
// trail of what was removed.
func removeFactorsSince(tx engine.Tx, was account.Account, made int64) (
	a account.Account, removed []string, err error) {
	if _, err := tx.Exec(`DELETE FROM totp WHERE account = $1 AND made >= $2`, was.UID[:], made); err != nil {
		return was, nil, err
	}
	passkeys, err := tx.Exec(`DELETE FROM passkey WHERE account = $1 AND made >= $2`, was.UID[:], made)
	if err != nil {
		return was, nil, err
	}
	a, err = setFactors(tx, was)
	if was.Factors.Has(account.FactorApp) && !a.Factors.Has(account.FactorApp) {
		removed = append(removed, "app")
	}
	if passkeys > 0 {
		removed = append(removed, "passkeys")
	}
	return a, removed, err
}

// setFactors updates the account's factors from the tables, and removes recovery codes without an
// authenticator app.
func setFactors(tx engine.Tx, a account.Account) (account.Account, error) {
	if _, err := tx.Exec(`DELETE FROM recovery_code WHERE account = $1
		AND NOT EXISTS (SELECT 1 FROM totp WHERE account = $1 AND since IS NOT NULL)`, a.UID[:]); err != nil {
		return a, err
	}
	return scanAccount(tx.Row(`UPDATE account SET
		factors = CASE WHEN EXISTS (SELECT 1 FROM totp WHERE account = $1 AND since IS NOT NULL) THEN 1 ELSE 0 END
			+ CASE WHEN EXISTS (SELECT 1 FROM passkey WHERE account = $1) THEN 2 ELSE 0 END
		WHERE uid = $1 RETURNING `+accountColumns, a.UID[:]))
}
