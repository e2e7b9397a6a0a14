package store

import (
	"context"
	"errors"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/hook"
	"dialtone/internal/store/admission"
	"dialtone/internal/store/engine"
)

var _ account.DeclineStore = (*Store)(nil)

// olderLink is the kind, in the table link, of an activation link that another one has replaced.
// Its email is the address that its message went to.
const olderLink = "activation"

// LinkedAddress implements account.DeclineStore.
func (s *Store) LinkedAddress(ctx context.Context, tenant int64, token [32]byte,
	now time.Time) (account.Account, error) {
	return linkedAddress(s.engine.Reads(ctx), tenant, token, now)
}

func linkedAddress(q engine.Querier, tenant int64, token [32]byte, now time.Time) (account.Account, error) {
	var known bool // the message of the link went to the account's address
	row := q.Row(`SELECT token = $1 OR EXISTS (SELECT 1 FROM link l
			WHERE l.token = $1 AND l.kind = $3 AND l.account = a.uid AND l.email = a.email), `+accountColumns+`
		FROM account a WHERE tenant = $2 AND closed IS NULL AND uid =
			COALESCE((SELECT uid FROM account WHERE token = $1),
				(SELECT r.account FROM replaced r WHERE r.token = $1))`,
		token[:], tenant, olderLink)
	a, err := scanAccount(row, &known)
	switch {
	case err != nil:
		return account.Account{}, err
	case !known:
		return account.Account{}, account.ErrReplaced
	}
	err = refusal(a, now)
	if errors.Is(err, account.ErrExpired) {
		return account.Account{}, errNoAccount
	}
	return a, err
}

// keepOlder records the address of the message whose link r replaces, if the newer message goes to
// the same address. Otherwise it removes all such records, since no older link went to the new
// address.
func keepOlder(tx engine.Tx, a account.Account, token []byte, r account.LinkReplacement, now time.Time) error {
	if a.Email != r.Account.Email {
		_, err := tx.Exec(`DELETE FROM link WHERE account = $1 AND kind = $2`, a.UID[:], olderLink)
		return err
	}
	_, err := tx.Exec(`INSERT INTO link (token, account, kind, email, made, until)
		VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING`,
		token, a.UID[:], olderLink, a.Email, engine.Micros(now), engine.Micros(a.Expires))
	return err
}

// Decline implements account.DeclineStore.
func (s *Store) Decline(ctx context.Context, d account.Decline, now time.Time) error {
	event, e := account.NewUID(now), entry(ctx, audit.AccountDecline, now)
	defer s.signalAdded()
	return s.engine.Write(func(tx engine.Tx) error {
		// A new link for the account, and a signup with its address, wait for these.
		err := tx.Lock(append(placeKeys(d.Recipient), admission.Key("link", d.Account.Tenant, d.Account.UID[:]))...)
		if err != nil {
			return err
		}
		a, err := lockAccount(tx, d.Account.Tenant, d.Account.User, now)
		if err == nil && a.UID == d.Account.UID {
			a, err = linkedAddress(tx, d.Account.Tenant, d.Token, now)
		} else if err == nil {
			err = errNoAccount
		}
		switch {
		case tx.Repeated() && errors.Is(err, errNoAccount):
			return nil
		case err != nil:
			return err
		case a.Email != d.Account.Email:
			return account.ErrAddressChanged
		}
		for _, place := range d.Places {
			if err := takePlaces(tx, d.Recipient, place, now); err != nil {
				return err
			}
		}
		if err := insertAccountNotifications(tx, event, a.UID[:], now, hook.AccountDeleted); err != nil {
			return err
		}
		// This also deletes the rows of its links and messages.
		if _, err := tx.Exec(`DELETE FROM account WHERE uid = $1`, a.UID[:]); err != nil {
			return err
		}
		return e.of(a).values(stateOf(a), "").add(tx)
	})
}
