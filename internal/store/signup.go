package store

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/fault"
	"dialtone/internal/store/admission"
	"dialtone/internal/store/engine"
	"dialtone/internal/trace"
)

// Create implements account.Store.
func (s *Store) Create(ctx context.Context, a account.Signup, now time.Time) error {
	if !a.Captcha.Ours {
		// A captcha that is not ours is refused in any case, so a read is enough.
		wait, err := longestWait(s.engine.Reads(ctx), a.Address, now)
		if err != nil {
			return err
		}
		return admission.Facts{Address: wait, Used: true}.Decide(a).Refusal
	}
	if s.grouper != nil {
		_, span := trace.Start(ctx, "store.write")
		err := s.grouper.Create(a, now)
		span.Finish(err != nil && fault.KindOf(err) == fault.Internal)
		return err
	}
	return s.write(ctx, func(tx engine.Tx) error {
		f, err := gatherFacts(tx, a, now)
		if err != nil {
			return err
		}
		d := f.Decide(a)
		if err := apply(tx, d, a, now); err != nil {
			return err
		}
		return d.Refusal
	})
}

// gatherFacts reads the facts one by one, and stops at the first that leads to a refusal.
func gatherFacts(q engine.Querier, a account.Signup, now time.Time) (f admission.Facts, err error) {
	if f.Address, err = longestWait(q, a.Address, now); err != nil || f.Address.For > 0 {
		return f, err
	}
	if f.Used, err = isSpent(q, a.Captcha.Nonce, a.Captcha.Expires); err != nil || f.Used || !a.Captcha.Right {
		return f, err
	}
	err = q.Row(`SELECT uid, closed IS NOT NULL OR activated IS NOT NULL OR expires > $1
		FROM account WHERE tenant = $2 AND username = $3`,
		engine.Micros(now), a.Account.Tenant, a.Account.User).Scan(&f.Holder, &f.Taken)
	if err != nil && !errors.Is(err, sql.ErrNoRows) || f.Taken {
		return f, err
	}
	f.Recipient, err = longestWait(q, admission.Recipients(a), now)
	return f, err
}

// apply writes what the decision requires.
func apply(tx engine.Tx, d admission.Decision, a account.Signup, now time.Time) error {
	if d.Clears != nil {
		if _, err := tx.Exec(`DELETE FROM account WHERE uid = $1`, d.Clears); err != nil {
			return err
		}
	}
	if d.Spends {
		if _, err := markSpent(tx, a.Captcha.Nonce, a.Captcha.Expires); err != nil {
			return err
		}
	}
	if !d.Admits {
		return nil
	}
	for _, al := range admission.Allowances(a) {
		if _, err := tx.Exec(`INSERT INTO taken (bucket, at, account, until) VALUES ($1, $2, $3, $4)`,
			al.Bucket[:], engine.Micros(now), a.Account.UID[:], engine.Micros(now.Add(al.Rule.Per))); err != nil {
			return err
		}
	}
	c := a.Account
	if _, err := tx.Exec(`INSERT INTO account (uid, tenant, username, name, email, role, held, created, expires,
		epoch, credential, has_sha256, token, lang, signup_net, first_signin)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, NULL)`,
		c.UID[:], c.Tenant, c.User, c.Name, c.Email, string(c.Role), c.Held, engine.Micros(c.Created),
		engine.Micros(c.Expires), c.Epoch, c.Sealed, c.HasSHA256, a.Token[:], string(c.Lang),
		c.Net); err != nil {
		return err
	}
	_, err := tx.Exec(`INSERT INTO outbox (account, message, token) VALUES ($1, $2, $3)`,
		c.UID[:], a.Message[:], a.SealedToken)
	return err
}

// Undo implements account.Store.
func (s *Store) Undo(ctx context.Context, a account.Signup, now time.Time) error {
	return s.write(ctx, func(tx engine.Tx) error {
		// Once these locks are held, no commit of the account is in progress.
		if err := tx.Lock(admission.Keys(a)...); err != nil {
			return err
		}
		// An account that was enabled or acknowledged in the meantime has an owner, and its message
		// is written again. An account with another link has had a message since.
		n, err := tx.Exec(`DELETE FROM account
			WHERE uid = $1 AND activated IS NULL AND token = $2 AND epoch = $3`,
			a.Account.UID[:], a.Token[:], a.Account.Epoch)
		if err != nil || n == 0 {
			return err
		}
		for _, al := range admission.Allowances(a) {
			_, err := tx.Exec(`DELETE FROM taken WHERE bucket = $1 AND account = $2`, al.Bucket[:], a.Account.UID[:])
			if err != nil {
				return err
			}
		}
		_, err = tx.Exec(`DELETE FROM spent WHERE expires = $1 AND nonce = $2`,
			engine.Micros(a.Captcha.Expires), a.Captcha.Nonce[:])
		return err
	})
}

// Acknowledge implements account.Store. A pending account has no sessions, so its epoch can be used
// to record that the account must stay.
func (s *Store) Acknowledge(
	ctx context.Context, tenant int64, uid account.UID, now time.Time,
) error {
	return s.write(ctx, func(tx engine.Tx) error {
		n, err := tx.Exec(`UPDATE account SET epoch = epoch + 1
			WHERE uid = $1 AND tenant = $2 AND closed IS NULL AND activated IS NULL AND expires > $3`,
			uid[:], tenant, engine.Micros(now))
		if err == nil && n == 0 {
			err = errNoAccount
		}
		return err
	})
}
