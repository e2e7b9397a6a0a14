package store

import (
	"context"
	"database/sql"
	"errors"
	"strconv"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/mailmsg"
	"dialtone/internal/store/engine"
	"dialtone/internal/throttle"
)

var _ account.TwoStepStore = (*Store)(nil)

// App implements account.TwoStepStore.
func (s *Store) App(ctx context.Context, uid account.UID) (account.App, error) {
	return appOf(s.engine.Reads(ctx), uid)
}

func appOf(q engine.Querier, uid account.UID) (app account.App, err error) {
	var since sql.NullInt64
	err = q.Row(`SELECT sealed, since, step, (SELECT count(*) FROM recovery_code WHERE account = $1)
		FROM totp WHERE account = $1`, uid[:]).Scan(&app.Sealed, &since, &app.Step, &app.Codes)
	if errors.Is(err, sql.ErrNoRows) {
		return app, errNoAccount
	}
	if since.Valid {
		app.Since = engine.FromMicros(since.Int64)
	}
	return app, err
}

// StartApp implements account.TwoStepStore.
func (s *Store) StartApp(_ context.Context, proved account.Account, sealed []byte, now time.Time,
	limits ...throttle.Allowance) error {
	return s.engine.Write(func(tx engine.Tx) error {
		a, err := lockProved(tx, proved, now)
		if err != nil {
			return err
		}
		if a.Factors.Has(account.FactorApp) {
			return account.ErrAppOn
		}
		if tx.Repeated() {
			n, err := engine.Count(tx, `SELECT count(*) FROM totp WHERE account = $1 AND sealed = $2`, a.UID[:], sealed)
			if err != nil || n > 0 {
				return err
			}
		}
		if err := takeChange(tx, limits, now); err != nil {
			return err
		}
		_, err = tx.Exec(`INSERT INTO totp (account, sealed, made, since, step) VALUES ($1, $2, $3, NULL, 0)
			ON CONFLICT (account) DO UPDATE SET sealed = $2, made = $3, since = NULL, step = 0`,
			a.UID[:], sealed, engine.Micros(now))
		return err
	})
}

// changeApp changes an app, unless an earlier run of the transaction has done so.
func (s *Store) changeApp(ctx context.Context, action audit.Action, c account.AppChange, now time.Time,
	change func(engine.Tx, account.Account) error) (a account.Account, err error) {
	e, place := entry(ctx, action, now), c.Message
	if place == (mailmsg.ID{}) {
		place = mailmsg.ID(account.NewUID(now))
	}
	err = s.write(ctx, func(tx engine.Tx) (err error) {
		if a, err = lockActive(tx, c.Account, now); err != nil {
			return err
		}
		if tx.Repeated() {
			if done, err := e.added(tx); err != nil || done {
				return err // before checkProved: an earlier run may have turned the app on
			}
		}
		if err := checkProved(a, c.Account); err != nil {
			return err
		}
		if err := mayChangeFactors(tx, c.Allowances, now); err != nil {
			return err
		}
		if err := change(tx, a); err != nil {
			return err
		}
		if err := takePlaces(tx, c.Allowances, place, now); err != nil {
			return err
		}
		if a, err = setFactors(tx, a); err != nil {
			return err
		}
		if c.Message != (mailmsg.ID{}) {
			if err := s.addNotice(tx, a, c.Notice); err != nil {
				return err
			}
		}
		return e.of(a).add(tx)
	})
	return a, err
}

// mayChangeFactors locks the places under limits, and fails with fault.Limited unless each limit
// allows another use.
func mayChangeFactors(tx engine.Tx, list []throttle.Allowance, now time.Time) error {
	if err := tx.Lock(placeKeys(list)...); err != nil {
		return err
	}
	return checkPlaces(tx, list, now, account.FactorRefusal)
}

// FinishApp implements account.TwoStepStore.
func (s *Store) FinishApp(ctx context.Context, c account.AppChange, now time.Time) (account.Account, error) {
	return s.changeApp(ctx, audit.TwoStepOn, c, now, func(tx engine.Tx, a account.Account) error {
		if a.Factors.Has(account.FactorApp) {
			return account.ErrAppOn
		}
		// The link of the message removes factors that were made at the time of the message or later.
		n, err := tx.Exec(`UPDATE totp SET since = $3, made = $4, step = $5 WHERE account = $1 AND sealed = $2`,
			a.UID[:], c.Sealed, engine.Micros(now), engine.Micros(c.Made), c.Step)
		if err != nil {
			return err
		}
		if n == 0 {
			return account.ErrAppReplaced
		}
		if err := setRecoveryCodes(tx, a, c.Codes); err != nil {
			return err
		}
		// This ends sessions that began with the password alone, options for a new passkey, and a
		// change of the address that was requested without a code.
		if err := removeEmailLinks(tx, a); err != nil {
			return err
		}
		return endSessions(tx, a)
	})
}

// endSessions raises the epoch of an account, which ends all its sessions, and removes their records.
func endSessions(tx engine.Tx, a account.Account) error {
	_, err := tx.Exec(`UPDATE account SET epoch = epoch + 1 WHERE uid = $1`, a.UID[:])
	if err == nil {
		_, err = tx.Exec(`DELETE FROM session WHERE account = $1`, a.UID[:])
	}
	return err
}

// setRecoveryCodes replaces the recovery codes of an account.
func setRecoveryCodes(tx engine.Tx, a account.Account, codes [][32]byte) error {
	if _, err := tx.Exec(`DELETE FROM recovery_code WHERE account = $1`, a.UID[:]); err != nil {
		return err
	}
	for _, code := range codes {
		if _, err := tx.Exec(`INSERT INTO recovery_code (account, code) VALUES ($1, $2)`,
			a.UID[:], code[:]); err != nil {
			return err
		}
	}
	return nil
}

// RenewCodes implements account.TwoStepStore.
func (s *Store) RenewCodes(ctx context.Context, c account.AppChange, now time.Time) (account.Account, error) {
	return s.changeApp(ctx, audit.TwoStepCodes, c, now, func(tx engine.Tx, a account.Account) error {
		if !a.Factors.Has(account.FactorApp) {
			return account.ErrAppOff
		}
		return setRecoveryCodes(tx, a, c.Codes)
	})
}

// RemoveApp implements account.TwoStepStore.
func (s *Store) RemoveApp(ctx context.Context, c account.AppChange, now time.Time) (account.Account, error) {
	return s.changeApp(ctx, audit.TwoStepOff, c, now, func(tx engine.Tx, a account.Account) error {
		if !a.Factors.Has(account.FactorApp) {
			return account.ErrAppOff
		}
		_, err := tx.Exec(`DELETE FROM totp WHERE account = $1`, a.UID[:])
		return err
	})
}

// RemoveFactors implements account.TwoStepStore.
func (s *Store) RemoveFactors(ctx context.Context, tenant int64, user string, n account.Notice,
	now time.Time) (a account.Account, err error) {
	e := entry(ctx, audit.AccountFactors, now)
	err = s.write(ctx, func(tx engine.Tx) (err error) {
		if a, err = lockAccount(tx, tenant, user, now); err != nil {
			return err
		}
		if err := checkVersion(ctx, tx, e, a); err != nil || a.Factors == 0 {
			return err
		}
		before := a.Factors.String()
		switch a.Factors { // the message says what the account had
		case account.FactorApp:
			n.Detail = mailmsg.AppAlone
		case account.FactorPasskey:
			n.Detail = mailmsg.PasskeysAlone
		}
		for _, table := range []string{"totp", "passkey", "session"} {
			if _, err := tx.Exec(`DELETE FROM `+table+` WHERE account = $1`, a.UID[:]); err != nil {
				return err
			}
		}
		if a, err = setFactors(tx, a); err != nil {
			return err
		}
		if a, err = scanAccount(tx.Row(`UPDATE account SET epoch = epoch + 1 WHERE uid = $1 RETURNING `+accountColumns,
			a.UID[:])); err != nil {
			return err
		}
		if n.Message != (mailmsg.ID{}) {
			if err := s.addNotice(tx, a, n); err != nil {
				return err
			}
			if err := s.leaveToServer(tx, a, n.Message); err != nil {
				return err
			}
		}
		return e.of(a).values(before, a.Factors.String()).add(tx)
	})
	return a, err
}

// UseCode implements account.TwoStepStore.
func (s *Store) UseCode(ctx context.Context, u account.CodeUse, now time.Time) (left int, err error) {
	e := entry(ctx, audit.TwoStepRecovery, now)
	err = s.write(ctx, func(tx engine.Tx) error {
		a, err := lockProved(tx, u.Account, now)
		if err != nil {
			return err
		}
		if err := tx.Lock(placeKeys(u.Allowances)...); err != nil {
			return err
		}
		if tx.Repeated() {
			known, err := repeatedUse(tx, u, e)
			if err != nil || known {
				return err
			}
		}
		if err := checkPlaces(tx, u.Allowances, now, account.CodeRefusal); err != nil {
			return err
		}
		used, err := useCode(tx, a, u)
		if err != nil {
			return err
		}
		if !used && u.Step > 0 {
			app, err := appOf(tx, a.UID)
			switch {
			case err != nil && !errors.Is(err, errNoAccount):
				return err
			case err == nil && string(app.Sealed) == string(u.Sealed) && app.Step >= u.Step:
				return account.ErrCodeWrong // the code was used: this is a repeated request, and not a guess
			}
		}
		if !used {
			if err := takePlaces(tx, u.Allowances, u.ID, now); err != nil {
				return err
			}
			if err := s.noticeWrongCode(tx, a, u, now); err != nil {
				return err
			}
			return account.ErrCodeWrong
		}
		app, err := appOf(tx, a.UID)
		if err != nil {
			return err
		}
		if left = app.Codes; u.Recovery == nil {
			return nil
		}
		if err := s.noticeRecovery(tx, a, u.Notice, left, now); err != nil {
			return err
		}
		return e.of(a).add(tx)
	})
	return left, err
}

// noticeWrongCode counts a wrong code, and adds the notice about several.
func (s *Store) noticeWrongCode(tx engine.Tx, a account.Account, u account.CodeUse, now time.Time) error {
	if u.Message == (mailmsg.ID{}) {
		return nil
	}
	if err := takePlaces(tx, []throttle.Allowance{u.Noticed}, u.ID, now); err != nil {
		return err
	}
	since := engine.Micros(now.Add(-u.Noticed.Rule.Per))
	wrong, err := engine.Count(tx, `SELECT count(*) FROM taken WHERE bucket = $1 AND at > $2`,
		u.Noticed.Bucket[:], since)
	if err != nil || wrong < int64(u.Noticed.Rule.Limit) {
		return err
	}
	notified, err := engine.Count(tx, `SELECT count(*) FROM link WHERE account = $1 AND kind = $2 AND made > $3`,
		a.UID[:], string(mailmsg.WrongCodes), since)
	if err != nil || notified > 0 {
		return err
	}
	n := u.Notice
	n.Kind = mailmsg.WrongCodes
	return s.addNotice(tx, a, n)
}

// noticeRecovery adds the notice of a used recovery code.
func (s *Store) noticeRecovery(tx engine.Tx, a account.Account, n account.Notice, left int, now time.Time) error {
	if n.Message == (mailmsg.ID{}) {
		return nil
	}
	n.Kind, n.Detail = mailmsg.RecoveryUsed, strconv.Itoa(left)
	notified, err := engine.Count(tx, `SELECT count(*) FROM link WHERE account = $1 AND kind = $2 AND made > $3`,
		a.UID[:], string(n.Kind), engine.Micros(now.Add(-24*time.Hour)))
	if err != nil || notified >= account.RecoveryNotices {
		return err
	}
	return s.addNotice(tx, a, n)
}

// repeatedUse reports whether an earlier run of UseCode was committed, as far as the tables show
// it. The use of an app's code leaves no trace of the run: the repetition then fails, and the
// person enters the next code.
func repeatedUse(tx engine.Tx, u account.CodeUse, e *trailEntry) (bool, error) {
	if used, err := e.added(tx); err != nil || used {
		return used, err
	}
	if len(u.Allowances) == 0 {
		return false, nil
	}
	n, err := engine.Count(tx, `SELECT count(*) FROM taken WHERE bucket = $1 AND account = $2`,
		u.Allowances[0].Bucket[:], u.ID[:])
	if err == nil && n > 0 {
		err = account.ErrCodeWrong
	}
	return false, err
}

// useCode spends a code, and reports whether it was valid.
func useCode(tx engine.Tx, a account.Account, u account.CodeUse) (bool, error) {
	if u.Step > 0 {
		n, err := tx.Exec(`UPDATE totp SET step = $3 WHERE account = $1 AND sealed = $2 AND since IS NOT NULL
			AND step < $3`, a.UID[:], u.Sealed, u.Step)
		return n > 0, err
	}
	for _, code := range u.Recovery {
		if n, err := tx.Exec(`DELETE FROM recovery_code WHERE account = $1 AND code = $2`,
			a.UID[:], code[:]); err != nil || n > 0 {
			return n > 0, err
		}
	}
	return false, nil
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
