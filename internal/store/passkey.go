package store

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/store/engine"
	"dialtone/internal/throttle"
)

var _ account.PasskeyStore = (*Store)(nil)

const passkeyColumns = `p.id, p.account, p.rp, p.name, p.sealed, p.made, p.used`

func scanPasskey(row engine.Scanner) (k account.Passkey, err error) {
	var uid []byte
	var made int64
	var used sql.NullInt64
	err = row.Scan(&k.ID, &uid, &k.RP, &k.Name, &k.Sealed, &made, &used)
	copy(k.Account[:], uid)
	k.Made = engine.FromMicros(made)
	if used.Valid {
		k.Used = engine.FromMicros(used.Int64)
	}
	return k, err
}

// AddPasskey implements account.PasskeyStore.
func (s *Store) AddPasskey(ctx context.Context, n account.NewPasskey,
	now time.Time) (a account.Account, err error) {
	k, e := n.Passkey, entry(ctx, audit.PasskeyAdd, now).about(n.Passkey.RP)
	err = s.write(ctx, func(tx engine.Tx) error {
		if a, err = lockActive(tx, n.Account, now); err != nil {
			return err
		}
		if tx.Repeated() {
			if done, err := linkExists(tx, n.Token); err != nil || done {
				return err
			}
		}
		first := !a.Factors.Has(account.FactorPasskey)
		if a.Epoch != n.Account.Epoch || !first && !n.Account.Factors.Has(account.FactorPasskey) {
			return account.ErrPasskeyStale
		}
		if err := mayChangeFactors(tx, n.Allowances, now); err != nil {
			return err
		}
		count, err := engine.Count(tx, `SELECT count(*) FROM passkey WHERE account = $1`, a.UID[:])
		if err != nil {
			return err
		}
		// A refusal keeps what was written before it, so the insert is last.
		if count >= account.MaxPasskeys {
			known, err := engine.Count(tx, `SELECT count(*) FROM passkey WHERE id = $1`, k.ID)
			if err == nil && known == 0 {
				err = account.ErrTooManyPasskeys
			} else if err == nil {
				err = account.ErrPasskeyKnown
			}
			return err
		}
		added, err := tx.Exec(`INSERT INTO passkey (id, account, rp, name, sealed, made)
			VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING`,
			k.ID, a.UID[:], k.RP, k.Name, k.Sealed, engine.Micros(k.Made))
		if err != nil {
			return err
		} else if added == 0 {
			return account.ErrPasskeyKnown
		}
		if err := takePlaces(tx, n.Allowances, n.Message, now); err != nil {
			return err
		}
		if a, err = setFactors(tx, a); err != nil {
			return err
		}
		// This ends a change of the address that was requested with the password alone.
		if first {
			if err := removeEmailLinks(tx, a); err != nil {
				return err
			}
		}
		if err := s.addNotice(tx, a, n.Notice); err != nil {
			return err
		}
		return e.of(a).add(tx)
	})
	return a, err
}

// RenamePasskey implements account.PasskeyStore.
func (s *Store) RenamePasskey(ctx context.Context, was account.Account, id []byte, name string,
	now time.Time, limits ...throttle.Allowance) error {
	e := entry(ctx, audit.PasskeyRename, now)
	return s.write(ctx, func(tx engine.Tx) error {
		a, err := lockActive(tx, was, now)
		if err != nil {
			return err
		}
		var before, rp string
		err = tx.Row(`SELECT name, rp FROM passkey WHERE id = $1 AND account = $2`, id, a.UID[:]).Scan(&before, &rp)
		if errors.Is(err, sql.ErrNoRows) {
			return account.ErrNoPasskey
		} else if err != nil || before == name {
			return err
		}
		if err := takeChange(tx, limits, now); err != nil {
			return err
		}
		if _, err := tx.Exec(`UPDATE passkey SET name = $3 WHERE id = $1 AND account = $2`,
			id, a.UID[:], name); err != nil {
			return err
		}
		return e.of(a).about(rp).add(tx)
	})
}

// RemovePasskey implements account.PasskeyStore.
func (s *Store) RemovePasskey(ctx context.Context, n account.PasskeyRemoval,
	now time.Time) (a account.Account, err error) {
	e := entry(ctx, audit.PasskeyRemove, now)
	err = s.write(ctx, func(tx engine.Tx) error {
		if a, err = lockProved(tx, n.Account, now); err != nil {
			return err
		}
		if tx.Repeated() {
			if done, err := linkExists(tx, n.Token); err != nil || done {
				return err
			}
		}
		if err := mayChangeFactors(tx, n.Allowances, now); err != nil {
			return err
		}
		var rp string
		err := tx.Row(`DELETE FROM passkey WHERE id = $1 AND account = $2 RETURNING rp`,
			n.ID, a.UID[:]).Scan(&rp)
		if errors.Is(err, sql.ErrNoRows) {
			return account.ErrNoPasskey
		}
		if err != nil {
			return err
		}
		// Someone else who has the passkey may have started a session with it.
		if err := endSessions(tx, a); err != nil {
			return err
		}
		if a, err = setFactors(tx, a); err != nil {
			return err
		}
		if err := takePlaces(tx, n.Allowances, n.Message, now); err != nil {
			return err
		}
		if err := s.addNotice(tx, a, n.Notice); err != nil {
			return err
		}
		return e.of(a).about(rp).add(tx)
	})
	return a, err
}

// Passkeys implements account.PasskeyStore.
func (s *Store) Passkeys(ctx context.Context, uid account.UID) (list []account.Passkey, err error) {
	err = s.engine.Reads(ctx).Each(func(row engine.Scanner) error {
		k, err := scanPasskey(row)
		list = append(list, k)
		return err
	}, `SELECT `+passkeyColumns+` FROM passkey p WHERE p.account = $1 ORDER BY p.made, p.id`, uid[:])
	return list, err
}

// Passkey implements account.PasskeyStore.
func (s *Store) Passkey(ctx context.Context, tenant int64, id []byte) (account.Passkey, error) {
	k, err := scanPasskey(s.engine.Reads(ctx).Row(`SELECT `+passkeyColumns+`
		FROM passkey p JOIN account a ON a.uid = p.account WHERE p.id = $1 AND a.tenant = $2`, id, tenant))
	if errors.Is(err, sql.ErrNoRows) {
		err = account.ErrNoPasskey
	}
	return k, err
}

// UsePasskey implements account.PasskeyStore.
func (s *Store) UsePasskey(_ context.Context, was account.Passkey, sealed []byte, now time.Time) error {
	return s.engine.Write(func(tx engine.Tx) error {
		// Because of the lock, a concurrent disable or removal comes either before the use or after
		// it.
		locked, err := tx.Exec(`UPDATE account SET held = held WHERE uid = $1 AND activated IS NOT NULL AND NOT held
			AND closed IS NULL`, was.Account[:])
		if err != nil {
			return err
		} else if locked == 0 {
			return account.ErrNoPasskey
		}
		n, err := tx.Exec(`UPDATE passkey SET sealed = $3, used = $4 WHERE id = $1 AND account = $6
			AND (sealed = $2 OR sealed = $3 AND $5)`,
			was.ID, was.Sealed, sealed, engine.Micros(now), tx.Repeated(), was.Account[:])
		if err != nil || n > 0 {
			return err
		}
		changed, err := engine.Count(tx, `SELECT count(*) FROM passkey WHERE id = $1 AND sealed <> $2`,
			was.ID, was.Sealed)
		switch {
		case err != nil:
			return err
		case changed > 0:
			return account.ErrPasskeyChanged
		}
		return account.ErrNoPasskey
	})
}
