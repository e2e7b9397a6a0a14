package store

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/mailmsg"
	"dialtone/internal/store/engine"
	"dialtone/internal/store/phonetables"
	"dialtone/internal/throttle"
)

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
		}
		if err != nil {
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
