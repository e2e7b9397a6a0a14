package store

import (
	"context"
	"slices"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/store/admission"
	"dialtone/internal/store/engine"
)

// Resend implements account.Store.
func (s *Store) Resend(ctx context.Context, r account.LinkReplacement, now time.Time) error {
	return s.write(ctx, func(tx engine.Tx) error {
		if err := tx.Lock(admission.LinkKeys(r)...); err != nil {
			return err
		}
		a, token, err := linkOf(tx, r, now)
		if err != nil {
			return err
		}
		if tx.Repeated() && slices.Equal(token, r.Token[:]) {
			return nil
		}
		if !r.CheckOnly {
			if err := removeForgotten(tx, r.Forgotten); err != nil {
				return err
			}
		}
		if err := mayResend(tx, a, r, now); err != nil || r.CheckOnly {
			return err
		}
		// The condition repeats what may have changed without these locks since linkOf read it.
		// Changes of the address and of the link take the same locks.
		n, err := tx.Exec(`UPDATE account SET token = $1, email = $2
			WHERE uid = $3 AND activated IS NULL AND NOT held`,
			r.Token[:], r.Account.Email, r.Account.UID[:])
		if err != nil {
			return err
		}
		if n == 0 {
			if a, _, err = linkOf(tx, r, now); err == nil {
				err = mayResend(tx, a, r, now)
			}
			if err == nil {
				err = account.ErrAddressChanged // it was changed and changed back; a retry succeeds
			}
			return err
		}
		for _, al := range r.Allowances {
			if _, err := tx.Exec(`INSERT INTO taken (bucket, at, account, until) VALUES ($1, $2, $3, $4)`,
				al.Bucket[:], engine.Micros(now), r.Message[:], engine.Micros(now.Add(al.Rule.Per))); err != nil {
				return err
			}
		}
		return addReplacement(tx, a, token, r, s.nodeName(), now)
	})
}

// addReplacement records the hash of the link that r replaces, and adds the outbox row of the new
// message for a node. a is the account as it was.
func addReplacement(tx engine.Tx, a account.Account, token []byte, r account.LinkReplacement, node string,
	now time.Time) error {
	if _, err := tx.Exec(`INSERT INTO replaced (token, account, message, email, until)
		VALUES ($1, $2, $3, $4, $5)`,
		token, r.Account.UID[:], r.Message[:], r.Was, engine.Micros(a.Expires)); err != nil {
		return err
	}
	if err := keepOlder(tx, a, token, r, now); err != nil {
		return err
	}
	_, err := tx.Exec(`INSERT INTO outbox (account, message, token, node, made, turn)
		SELECT $1, $2, $3, $4, $5, COALESCE(max(turn), 0) + 1 FROM outbox WHERE account = $1`,
		r.Account.UID[:], r.Message[:], r.SealedToken, node, engine.Micros(r.Made))
	return err
}

// linkOf returns the account and the hash of its newest link.
func linkOf(q engine.Querier, r account.LinkReplacement, now time.Time) (a account.Account, token []byte, err error) {
	row := q.Row(`SELECT token, `+accountColumns+` FROM account WHERE tenant = $2 AND uid = $3 AND `+live,
		engine.Micros(now), r.Account.Tenant, r.Account.UID[:])
	a, err = scanAccount(row, &token)
	return a, token, err
}

// mayResend applies the checks in the order that account.Store.Resend states.
func mayResend(q engine.Querier, a account.Account, r account.LinkReplacement, now time.Time) error {
	switch {
	case a.Held:
		return account.ErrHeld
	case !a.Pending():
		return account.ErrActive
	case a.Email != r.Was:
		return account.ErrAddressChanged
	}
	for i, al := range r.Allowances {
		if wait, err := waitFor(q, al, now); err != nil {
			return err
		} else if wait.For > 0 && i == 0 {
			return account.ResendRefusal(wait)
		} else if wait.For > 0 {
			return account.RecipientRefusal(wait)
		}
	}
	return nil
}

// UndoResend implements account.Store.
func (s *Store) UndoResend(ctx context.Context, r account.LinkReplacement, now time.Time) error {
	return s.write(ctx, func(tx engine.Tx) error {
		// Once these locks are held, no commit of the link is in progress.
		if err := tx.Lock(admission.LinkKeys(r)...); err != nil {
			return err
		}
		// A link whose message was acknowledged is not undone: the previous address is no longer
		// stored. Nor is one that a newer link has replaced, until that one is undone.
		n, err := tx.Exec(`UPDATE account SET
			token = (SELECT token FROM replaced WHERE account = $1 AND message = $2),
			email = (SELECT email FROM replaced WHERE account = $1 AND message = $2)
			WHERE uid = $1 AND token = $3 AND activated IS NULL
				AND EXISTS (SELECT 1 FROM replaced WHERE account = $1 AND message = $2 AND email <> '')`,
			r.Account.UID[:], r.Message[:], r.Token[:])
		if err != nil {
			return err
		}
		if n > 0 {
			if _, err := tx.Exec(`DELETE FROM replaced WHERE account = $1 AND message = $2`,
				r.Account.UID[:], r.Message[:]); err != nil {
				return err
			}
		}
		if _, err := tx.Exec(`DELETE FROM outbox WHERE account = $1 AND message = $2`,
			r.Account.UID[:], r.Message[:]); err != nil {
			return err
		}
		for _, al := range r.Allowances {
			_, err := tx.Exec(`DELETE FROM taken WHERE bucket = $1 AND account = $2`, al.Bucket[:], r.Message[:])
			if err != nil {
				return err
			}
		}
		return nil
	})
}
