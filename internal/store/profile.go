package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"slices"
	"strings"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/hook"
	"dialtone/internal/mailmsg"
	"dialtone/internal/store/admission"
	"dialtone/internal/store/engine"
)

var _ account.ProfileStore = (*Store)(nil)

// AddEmailLink implements account.ProfileStore.
func (s *Store) AddEmailLink(_ context.Context, l account.NewEmailLink, now time.Time) (sent bool, err error) {
	err = s.engine.Write(func(tx engine.Tx) error {
		sent = false
		a, err := lockActive(tx, l.Account, now)
		if err != nil {
			return err
		}
		if tx.Repeated() {
			if sent, err = linkExists(tx, l.Token); err != nil || sent {
				return err
			}
		}
		if err := checkProved(a, l.Account); err != nil {
			return err
		}
		if a.Email != l.Account.Email {
			return account.ErrAddressChanged
		}
		if err := tx.Lock(placeKeys(slices.Concat(l.Allowances, l.Recipient))...); err != nil {
			return err
		}
		if err := checkAndTake(tx, l.Allowances, l.Message, now, account.EmailRefusal); err != nil {
			return err
		}
		if err := removeEmailLinks(tx, a); err != nil {
			return err
		}
		if wait, err := longestWait(tx, l.Recipient, now); err != nil || wait.For > 0 {
			return err
		}
		if err := takePlaces(tx, l.Recipient, l.Message, now); err != nil {
			return err
		}
		sent = true
		a.Email = l.Email
		return s.addNotice(tx, a, l.Notice)
	})
	return sent && err == nil, err
}

// removeEmailLinks removes the links of an account that set another address. Every change of the
// address calls it, so a remaining link was requested for the account's current address.
func removeEmailLinks(tx engine.Tx, a account.Account) error {
	_, err := tx.Exec(`DELETE FROM link WHERE account = $1 AND kind = $2`, a.UID[:], string(mailmsg.ConfirmEmail))
	return err
}

// EmailLink implements account.ProfileStore.
func (s *Store) EmailLink(ctx context.Context, tenant int64, token [32]byte,
	now time.Time) (a account.Account, email string, err error) {
	a, err = scanAccount(s.engine.Reads(ctx).Row(`SELECT l.address, `+accountColumns+`
		FROM account JOIN (SELECT account, email AS address FROM link
			WHERE token = $3 AND kind = $4 AND until > $1) l ON l.account = uid
		WHERE tenant = $2 AND activated IS NOT NULL AND NOT held AND `+live,
		engine.Micros(now), tenant, token[:], string(mailmsg.ConfirmEmail)), &email)
	if errors.Is(err, errNoAccount) {
		err = account.ErrLinkUsed
	}
	return a, email, err
}

// SetEmail implements account.ProfileStore.
func (s *Store) SetEmail(ctx context.Context, tenant int64, token [32]byte, n account.Notice,
	now time.Time) (a account.Account, err error) {
	event, e := account.NewUID(now), entry(ctx, audit.EmailChange, now)
	defer s.signalAdded()
	// A bad link is refused by a read, without a write.
	found, _, err := s.EmailLink(ctx, tenant, token, now)
	if err != nil {
		return a, err
	}
	err = s.write(ctx, func(tx engine.Tx) error {
		if a, err = lockAccount(tx, tenant, found.User, now); err != nil {
			return err
		}
		if tx.Repeated() {
			if done, err := linkExists(tx, n.Token); err != nil || done {
				return err
			}
		}
		if a.Held {
			return account.ErrHeld
		}
		var email string
		err := tx.Row(`DELETE FROM link WHERE token = $1 AND account = $2 AND kind = $3 AND until > $4
			RETURNING email`, token[:], a.UID[:], string(mailmsg.ConfirmEmail), engine.Micros(now)).Scan(&email)
		if errors.Is(err, sql.ErrNoRows) {
			return account.ErrLinkUsed
		}
		if err != nil {
			return err
		}
		if err := tx.Lock(addressKeys(a, email)...); err != nil {
			return err
		}
		// The links of activation messages end here, including those that went to the previous
		// address: they must not work again if the address is changed back.
		if _, err := tx.Exec(`DELETE FROM link WHERE account = $1 AND kind IN ($2, $3)`,
			a.UID[:], olderLink, string(mailmsg.ConfirmEmail)); err != nil {
			return err
		}
		if err := removeResetLinks(tx, a, noUnsent); err != nil {
			return err
		}
		if err := s.addNotice(tx, a, n); err != nil {
			return err
		}
		was := a
		if a, err = scanAccount(tx.Row(`UPDATE account SET email = $2, email_n = email_n + 1,
			confirmed = COALESCE(confirmed, $3)
			WHERE uid = $1 RETURNING `+accountColumns, a.UID[:], email, engine.Micros(now))); err != nil {
			return err
		}
		if err := insertAccountNotifications(tx, event, a.UID[:], now, changesOf(was, a)...); err != nil {
			return err
		}
		return e.of(a).add(tx)
	})
	return a, err
}

// ReplaceEmail implements account.ProfileStore.
func (s *Store) ReplaceEmail(ctx context.Context, tenant int64, user, email string,
	now time.Time) (a account.Account, err error) {
	event, e := account.NewUID(now), entry(ctx, audit.EmailChange, now)
	defer s.signalAdded()
	found, err := s.Find(ctx, tenant, user, now)
	if err != nil {
		return a, err
	}
	var token [32]byte // of an activation link that nobody has
	rand.Read(token[:])
	err = s.write(ctx, func(tx engine.Tx) error {
		// A new activation link, and a removal by one, wait for this.
		if err := tx.Lock(admission.Key("link", tenant, found.UID[:])); err != nil {
			return err
		}
		if a, err = lockAccount(tx, tenant, user, now); err != nil {
			return err
		}
		if err := checkVersion(ctx, tx, e, a); err != nil {
			return err
		}
		if a.UID != found.UID {
			return errNoAccount
		}
		if tx.Repeated() {
			if done, err := e.added(tx); err != nil || done {
				return err
			}
		}
		if err := tx.Lock(addressKeys(a, email)...); err != nil {
			return err
		}
		if err := removeResetLinks(tx, a, 0); err != nil {
			return err
		}
		if err := insertCreated(tx, a.UID, ``); err != nil { // nobody else removes the entry of a new account
			return err
		}
		// A message that is being written would have a link that has ended. An activation message
		// would go to the new address.
		for _, table := range []string{"link", "replaced", "outbox", "session"} {
			if _, err := tx.Exec(`DELETE FROM `+table+` WHERE account = $1`, a.UID[:]); err != nil {
				return err
			}
		}
		if err := forgetBrowsers(tx, a.UID); err != nil {
			return err
		}
		if a, err = scanAccount(tx.Row(`UPDATE account SET email = $2, email_n = email_n + 1,
			token = $3, epoch = epoch + 1, password_n = password_n + 1 WHERE uid = $1 RETURNING `+accountColumns,
			a.UID[:], email, token[:])); err != nil {
			return err
		}
		if err := removeResetLinks(tx, a, noUnsent); err != nil {
			return err
		}
		if err := insertAccountNotifications(tx, event, a.UID[:], now, hook.AccountEmail); err != nil {
			return err
		}
		return e.of(a).add(tx)
	})
	return a, err
}

// addressKeys returns the keys of addressKey for the account's address and another one.
func addressKeys(a account.Account, email string) []int64 {
	other := a
	other.Email = email
	return []int64{addressKey(a), addressKey(other)}
}

// SetProfile implements account.ProfileStore.
func (s *Store) SetProfile(ctx context.Context, p account.ProfileChange, now time.Time) (account.Account, error) {
	none := func(account.Account) string { return "" }
	return s.change(ctx, audit.ProfileChange, "", p.Account.Tenant, p.Account.User, now, none,
		func(tx engine.Tx, e *trailEntry, a account.Account) (u update, err error) {
			if err := checkActive(a, p.Account); err != nil {
				return u, err
			}
			var changed []string
			if p.Name != "" && p.Name != a.Name {
				changed = append(changed, "name")
				a.Name = p.Name
			}
			if p.Lang != "" && p.Lang != a.Lang {
				changed = append(changed, "lang")
				a.Lang = p.Lang
			}
			if len(changed) == 0 {
				return u, nil
			}
			if err := takeChange(tx, p.Allowances, now); err != nil {
				return u, err
			}
			e.about(strings.Join(changed, ","))
			return update{`name = $2, lang = $3`, []any{a.Name, string(a.Lang)}}, nil
		})
}
