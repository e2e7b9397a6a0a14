package store

import (
	"context"
	"errors"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/hook"
	"dialtone/internal/store/engine"
	"dialtone/internal/store/phonetables"
)

// changeAttempts limits how often a transaction tries to change an account that other transactions
// are changing. On PostgreSQL each statement has its own snapshot: an UPDATE may find a link
// replaced or its account held, while the next statement finds that undone. The UPDATE is then run
// again.
const changeAttempts = 10

var errKeepsChanging = errors.New("every attempt to change the account met another change of it; try again")

// update holds the SET clause of an UPDATE of one account. $1 is its uid, and args start at $2.
type update struct {
	set  string
	args []any
}

// change changes one live account and returns it as it is after the change. decide receives the
// account before the change, locked against other transactions. If it returns an empty update, the
// account is not changed. value returns the value that changes, for the audit trail. Hooks are
// notified of what, unless it is empty, and of the events of changesOf.
func (s *Store) change(ctx context.Context, action audit.Action, what hook.EventType, tenant int64, user string,
	now time.Time, value func(account.Account) string, decide decision) (a account.Account, err error) {
	event, e := account.NewUID(now), entry(ctx, action, now)
	defer s.signalAdded()
	err = s.writeTables(ctx, func(tx engine.Tx) (_ []phonetables.Subject, err error) {
		if a, err = lockAccount(tx, tenant, user, now); err != nil {
			return nil, err
		}
		if err := checkVersion(ctx, tx, e, a); err != nil {
			return nil, err
		}
		before := a
		var changed bool
		a, changed, err = changeLocked(tx, a, e, what, event, now, decide)
		if err != nil || !changed {
			return nil, err
		}
		err = e.of(a).values(value(before), value(a)).add(tx)
		return []phonetables.Subject{phonetables.Account(a.UID)}, err
	})
	return a, err
}

// checkVersion fails as account.CheckVersion does, unless an earlier run of the transaction has made the change.
func checkVersion(ctx context.Context, tx engine.Tx, e *trailEntry, a account.Account) error {
	err := account.CheckVersion(ctx, a)
	if err != nil && tx.Repeated() {
		added, addedErr := e.added(tx)
		if added || addedErr != nil {
			return addedErr
		}
	}
	return err
}

// decision returns the update of an account, given its state before the change.
type decision func(engine.Tx, *trailEntry, account.Account) (update, error)

// changeLocked changes an account that the transaction has locked, and returns it as it is after
// the change. The caller adds the entry to the trail.
func changeLocked(tx engine.Tx, a account.Account, e *trailEntry, what hook.EventType, event account.UID, now time.Time,
	decide decision) (after account.Account, changed bool, err error) {
	u, err := decide(tx, e, a)
	if err != nil || u.set == "" {
		return a, false, err
	}
	was := a
	a, err = scanAccount(tx.Row(`UPDATE account SET `+u.set+` WHERE uid = $1 RETURNING `+accountColumns,
		append([]any{a.UID[:]}, u.args...)...))
	if err == nil {
		changes := changesOf(was, a)
		if what != "" {
			changes = append(changes, what)
		}
		err = insertAccountNotifications(tx, event, a.UID[:], now, changes...)
	}
	return a, true, err
}

// lockAccount locks a live account until the transaction ends, and returns it. On PostgreSQL, a
// statement that waits for the row of an expired account, while a signup replaces that account,
// finds neither, since its snapshot is older than the new account. The statement is then run again.
func lockAccount(tx engine.Tx, tenant int64, user string, now time.Time) (account.Account, error) {
	for range changeAttempts {
		a, err := scanAccount(tx.Row(`UPDATE account SET held = held WHERE tenant = $2 AND username = $3 AND `+live+`
			RETURNING `+accountColumns, engine.Micros(now), tenant, user))
		if !errors.Is(err, errNoAccount) {
			return a, err
		}
		n, countErr := engine.Count(tx, `SELECT count(*) FROM account WHERE tenant = $2 AND username = $3 AND `+live,
			engine.Micros(now), tenant, user)
		if countErr != nil || n == 0 {
			return a, errors.Join(countErr, err)
		}
	}
	return account.Account{}, errKeepsChanging
}

// lockActive is lockAccount for a change by the account's owner. was is the account as it was when
// its owner was authenticated. It fails as checkActive does.
func lockActive(tx engine.Tx, was account.Account, now time.Time) (account.Account, error) {
	a, err := lockAccount(tx, was.Tenant, was.User, now)
	if err == nil {
		err = checkActive(a, was)
	}
	return a, err
}

// lockProved is lockActive for an account whose password was proved. It also fails as checkProved does.
func lockProved(tx engine.Tx, proved account.Account, now time.Time) (account.Account, error) {
	a, err := lockActive(tx, proved, now)
	if err == nil {
		err = checkProved(a, proved)
	}
	return a, err
}

// checkActive fails with account.ErrHeld if the account is held, and with fault.NotFound if it is
// not active, or is not was but another account with its user name.
func checkActive(a, was account.Account) error {
	switch {
	case a.UID != was.UID:
		return errNoAccount
	case a.Held:
		return account.ErrHeld
	case a.Pending():
		return errNoAccount
	}
	return nil
}

// checkProved fails with account.ErrPasswordChanged if the proof was of an older password, or had no code of an
// authenticator app that was turned on since.
func checkProved(a, proved account.Account) error {
	if a.Passwords != proved.Passwords ||
		a.Factors.Has(account.FactorApp) && !proved.Factors.Has(account.FactorApp) {
		return account.ErrPasswordChanged
	}
	return nil
}
