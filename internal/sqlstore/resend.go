package sqlstore

import (
	"context"
	"slices"
	"time"

	"dialtone/internal/account"
)

// Resend implements account.Store.
func (s *Store) Resend(ctx context.Context, r account.LinkReplacement, now time.Time) error {
	home := s.of(r.Account.Tenant)
	return home.write(func(tx transaction) error {
		if err := tx.lock(keysOfResend(r)...); err != nil {
			return err
		}
		a, token, err := linkOf(tx, r, now)
		if err != nil {
			return err
		}
		if tx.repeated() && slices.Equal(token, r.Token[:]) {
			return nil
		}
		if err := mayResend(tx, a, r, now); err != nil || r.CheckOnly {
			return err
		}
		// Whatever may have changed without a lock since it was looked at is in the condition. Those who change the address or the
		// link hold the same locks.
		n, err := tx.exec(`UPDATE account SET token = $1, email = $2 WHERE uid = $3 AND activated IS NULL AND NOT held`,
			r.Token[:], r.Account.Email, r.Account.UID[:])
		if err != nil {
			return err
		}
		if n == 0 {
			if a, _, err = linkOf(tx, r, now); err == nil {
				err = mayResend(tx, a, r, now)
			}
			if err == nil {
				err = account.ErrAddressChanged // whatever it was: asked again, it is answered
			}
			return err
		}
		if _, err := tx.exec(`INSERT INTO replaced (token, account, message, email, until) VALUES ($1, $2, $3, $4, $5)`,
			token, r.Account.UID[:], r.Message[:], r.Was, micros(a.Expires)); err != nil {
			return err
		}
		for _, al := range r.Places {
			if _, err := tx.exec(`INSERT INTO taken (bucket, at, account, until) VALUES ($1, $2, $3, $4)`,
				al.Bucket[:], micros(now), r.Message[:], micros(now.Add(al.Rule.Per))); err != nil {
				return err
			}
		}
		_, err = tx.exec(`INSERT INTO outbox (account, message, token, node, made, turn) SELECT $1, $2, $3, $4, $5, COALESCE(max(turn), 0) + 1
			FROM outbox WHERE account = $1`, r.Account.UID[:], r.Message[:], r.SealedToken, home.node(), micros(r.Made))
		return err
	})
}

// linkOf is the account, and the hash of the link that counts.
func linkOf(q querier, r account.LinkReplacement, now time.Time) (a account.Account, token []byte, err error) {
	a, err = scanAccount(prefixed{q.row(`SELECT token, `+accountColumns+` FROM account WHERE tenant = $2 AND uid = $3 AND `+live,
		micros(now), r.Account.Tenant, r.Account.UID[:]), []any{&token}})
	return a, token, err
}

// mayResend is the order of account.Store.Resend.
func mayResend(q querier, a account.Account, r account.LinkReplacement, now time.Time) error {
	switch {
	case a.Held:
		return account.ErrHeld
	case !a.Pending():
		return account.ErrActive
	case a.Email != r.Was:
		return account.ErrAddressChanged
	}
	refusals := []func(time.Duration) error{account.ErrResends, account.ErrRecipient}
	for i, al := range r.Places {
		if wait, err := waitFor(q, al, now); err != nil {
			return err
		} else if wait > 0 {
			return refusals[i](wait)
		}
	}
	return nil
}

// keysOfResend are what no two may decide about at once: the account's link, and the places.
func keysOfResend(r account.LinkReplacement) []int64 {
	keys := []int64{keyOf("link", r.Account.Tenant, r.Account.UID[:])}
	for _, al := range r.Places {
		keys = append(keys, keyOf("place", 0, al.Bucket[:]))
	}
	return keys
}

// UndoResend implements account.Store.
func (s *Store) UndoResend(ctx context.Context, r account.LinkReplacement, now time.Time) error {
	return s.of(r.Account.Tenant).write(func(tx transaction) error {
		// A commit of the link that is still on its way ends first.
		if err := tx.lock(keysOfResend(r)...); err != nil {
			return err
		}
		n, err := tx.exec(`UPDATE account SET token = (SELECT token FROM replaced WHERE account = $1 AND message = $2),
			email = (SELECT email FROM replaced WHERE account = $1 AND message = $2)
			WHERE uid = $1 AND token = $3 AND activated IS NULL AND EXISTS (SELECT 1 FROM replaced WHERE account = $1 AND message = $2)`,
			r.Account.UID[:], r.Message[:], r.Token[:])
		if err != nil {
			return err
		}
		if n > 0 {
			if _, err := tx.exec(`DELETE FROM replaced WHERE account = $1 AND message = $2`, r.Account.UID[:], r.Message[:]); err != nil {
				return err
			}
		} else if _, err := tx.exec(`UPDATE replaced SET email = '' WHERE account = $1 AND message = $2`,
			r.Account.UID[:], r.Message[:]); err != nil {
			return err
		}
		if _, err := tx.exec(`DELETE FROM outbox WHERE account = $1 AND message = $2`, r.Account.UID[:], r.Message[:]); err != nil {
			return err
		}
		for _, al := range r.Places {
			if _, err := tx.exec(`DELETE FROM taken WHERE bucket = $1 AND account = $2`, al.Bucket[:], r.Message[:]); err != nil {
				return err
			}
		}
		return nil
	})
}
