package store

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/fault"
	"dialtone/internal/hook"
	"dialtone/internal/i18n"
	"dialtone/internal/store/engine"
	"dialtone/internal/store/phonetables"
)

var _ account.Store = (*Store)(nil)

const accountColumns = `uid, tenant, username, name, email, role, held, created, expires, activated, epoch, credential,
	has_sha256, lang, confirmed, set_state, set_at, set_by, set_why, password_n, leaving, factors, email_n, signup_net,
	first_signin`

// live is the condition that an account exists, with the current time as $1.
const live = `closed IS NULL AND (activated IS NOT NULL OR expires > $1)`

var errNoAccount = fault.New(fault.NotFound, "there is no such account")

// scanned holds the destinations of accountColumns, and of the columns that precede them.
type scanned struct {
	account.Account
	uid                      []byte
	role, language, setState string
	created, expires, setAt  int64
	activatedAt, confirmedAt sql.NullInt64
	leaving, firstSignIn     sql.NullInt64
	dst                      [33]any
}

// scannedPool pools zero values of scanned. Each takes more than a kilobyte.
var scannedPool = sync.Pool{New: func() any { return new(scanned) }}

// scanAccount scans accountColumns. first holds the destinations of the columns that precede them.
func scanAccount(row engine.Scanner, first ...any) (account.Account, error) {
	v := scannedPool.Get().(*scanned)
	defer func() {
		*v = scanned{}
		scannedPool.Put(v)
	}()
	a := &v.Account
	err := row.Scan(append(append(v.dst[:0], first...), &v.uid, &a.Tenant, &a.User, &a.Name, &a.Email, &v.role, &a.Held,
		&v.created, &v.expires, &v.activatedAt, &a.Epoch, &a.Sealed, &a.HasSHA256, &v.language, &v.confirmedAt,
		&v.setState, &v.setAt, &a.Set.By, &a.Set.Reason, &a.Passwords,
		&v.leaving, &a.Factors, &a.Emails, &a.Net, &v.firstSignIn)...)
	if errors.Is(err, sql.ErrNoRows) {
		return *a, errNoAccount
	} else if err != nil {
		return *a, err
	}
	copy(a.UID[:], v.uid)
	a.Role = account.Role(v.role)
	a.Lang, _ = i18n.Parse(v.language) // a language that only a newer version knows becomes English
	a.Created, a.Expires = engine.FromMicros(v.created), engine.FromMicros(v.expires)
	if v.activatedAt.Valid {
		a.Activated = engine.FromMicros(v.activatedAt.Int64)
	}
	if v.confirmedAt.Valid {
		a.Confirmed = engine.FromMicros(v.confirmedAt.Int64)
	}
	a.Disabled = a.Held || a.Pending()
	if v.leaving.Valid && a.Held {
		a.Leaving = engine.FromMicros(v.leaving.Int64)
	}
	a.NotSignedIn = !v.firstSignIn.Valid
	if v.firstSignIn.Int64 != 0 {
		a.FirstSignIn = engine.FromMicros(v.firstSignIn.Int64)
	}
	if v.setState != "" {
		a.Set.State, a.Set.At = account.State(v.setState), engine.FromMicros(v.setAt)
	}
	return *a, nil
}

// linked returns the account that a token belongs to. It fails with account.ErrReplaced for a link
// that a newer one has replaced. It runs a single statement, so that a link that is being restored
// at the same time is found in one table or the other.
func linked(q engine.Querier, tenant int64, token [32]byte) (account.Account, error) {
	var current bool // the link is the account's newest
	row := q.Row(`SELECT token = $1, `+accountColumns+` FROM account WHERE tenant = $2 AND closed IS NULL AND uid =
		COALESCE((SELECT uid FROM account WHERE token = $1), (SELECT account FROM replaced WHERE token = $1))`,
		token[:], tenant)
	a, err := scanAccount(row, &current)
	if err == nil && !current {
		return account.Account{}, account.ErrReplaced
	}
	return a, err
}

// refusal returns why the account's link does not activate it, or nil.
func refusal(a account.Account, now time.Time) error {
	switch {
	case a.Held:
		return account.ErrHeld
	case !a.Pending():
		return account.ErrActive
	case !now.Before(a.Expires):
		return account.ErrExpired
	default:
		return nil
	}
}

// Linked implements account.Store.
func (s *Store) Linked(ctx context.Context, tenant int64, token [32]byte, now time.Time) (account.Account, error) {
	a, err := linked(s.engine.Reads(ctx), tenant, token)
	if err == nil {
		err = refusal(a, now)
	}
	return a, err
}

// Activate implements account.Store.
func (s *Store) Activate(ctx context.Context, tenant int64, token [32]byte, now time.Time) (account.Account, error) {
	// A bad link is refused by a read, without a write.
	a, err := s.Linked(ctx, tenant, token, now)
	if err != nil {
		return a, err
	}
	event := account.NewUID(now)
	defer s.signalAdded()
	err = s.writeTables(ctx, func(tx engine.Tx) ([]phonetables.Subject, error) {
		for range changeAttempts {
			n, err := tx.Exec(`UPDATE account SET activated = $1 WHERE token = $2 AND tenant = $3 AND closed IS NULL
				AND activated IS NULL AND NOT held AND expires > $1`, engine.Micros(now), token[:], tenant)
			if err != nil {
				return nil, err
			}
			if a, err = linked(tx, tenant, token); err != nil {
				return nil, err
			}
			if n > 0 || tx.Repeated() && a.Activated.Equal(engine.FromMicros(engine.Micros(now))) {
				err := insertAccountNotifications(tx, event, a.UID[:], now, hook.AccountActivated)
				return []phonetables.Subject{phonetables.Account(a.UID)}, err
			}
			if err := refusal(a, now); err != nil {
				return nil, err
			}
		}
		return nil, errKeepsChanging
	})
	return a, err
}

// changeAttempts limits how often a transaction tries to change an account that other transactions
// are changing. On PostgreSQL each statement has its own snapshot: an UPDATE may find a link
// replaced or its account held, while the next statement finds that undone. The UPDATE is then run
// again.
const changeAttempts = 10

var errKeepsChanging = errors.New("every attempt to change the account met another change of it; try again")

// Confirm implements account.Store.
func (s *Store) Confirm(ctx context.Context, tenant int64, token [32]byte, uid account.UID,
	now time.Time) (account.Account, error) {
	a, err := s.Linked(ctx, tenant, token, now)
	switch {
	case a.UID == account.UID{}:
		return a, err
	case a.UID != uid:
		return account.Account{}, errNoAccount
	case err != nil && !errors.Is(err, account.ErrActive):
		return a, err
	case !a.Confirmed.IsZero():
		return a, nil
	}
	event := account.NewUID(now)
	defer s.signalAdded()
	err = s.writeTables(ctx, func(tx engine.Tx) ([]phonetables.Subject, error) {
		for range changeAttempts {
			// Since the read, the account may have been deleted or disabled, or received another
			// link. It may also have expired, which does not matter.
			n, err := tx.Exec(`UPDATE account SET activated = COALESCE(activated, $1),
				confirmed = COALESCE(confirmed, $1)
				WHERE token = $2 AND tenant = $3 AND closed IS NULL AND NOT held`,
				engine.Micros(now), token[:], tenant)
			if err != nil {
				return nil, err
			}
			if a, err = linked(tx, tenant, token); err != nil {
				return nil, err
			}
			if n > 0 {
				var changes []hook.EventType
				if at := engine.FromMicros(engine.Micros(now)); a.Confirmed.Equal(at) {
					if changes = append(changes, hook.AccountConfirmed); a.Activated.Equal(at) {
						changes = append(changes, hook.AccountActivated)
					}
				}
				err := insertAccountNotifications(tx, event, a.UID[:], now, changes...)
				return []phonetables.Subject{phonetables.Account(a.UID)}, err
			}
			if a.Held {
				return nil, account.ErrHeld
			}
		}
		return nil, errKeepsChanging
	})
	return a, err
}

// Find implements account.Store.
func (s *Store) Find(ctx context.Context, tenant int64, user string, now time.Time) (account.Account, error) {
	// At sign-in, user can be any bytes. PostgreSQL rejects bytes that are not text.
	if !isText(user) {
		return account.Account{}, errNoAccount
	}
	// The statement always reads one row, so that an unknown name takes as long as a known one: the
	// row of the name, or else the first row of the table, which may be of another tenant. For a
	// known name the second subquery is not run. Whether the row is the right one, and live, is
	// checked here, which takes less time than in the statement.
	var closed bool
	row := s.engine.Reads(ctx).Row(`SELECT closed IS NOT NULL, `+accountColumns+` FROM account
		WHERE uid = COALESCE((SELECT uid FROM account WHERE tenant = $1 AND username = $2),
			(SELECT uid FROM account ORDER BY uid LIMIT 1))`, tenant, user)
	a, err := scanAccount(row, &closed)
	if err == nil && (a.Tenant != tenant || a.User != user || closed || a.Pending() && !a.Expires.After(now)) {
		return account.Account{}, errNoAccount
	}
	return a, err
}

// isText reports whether PostgreSQL stores a string as text.
func isText(s string) bool { return utf8.ValidString(s) && !strings.Contains(s, "\x00") }

// FindUID implements account.Store.
func (s *Store) FindUID(ctx context.Context, tenant int64, uid account.UID, now time.Time) (account.Account, error) {
	return scanAccount(s.engine.Reads(ctx).Row(
		`SELECT `+accountColumns+` FROM account WHERE tenant = $2 AND uid = $3 AND `+live,
		engine.Micros(now), tenant, uid[:]))
}

// List implements account.Store.
func (s *Store) List(ctx context.Context, tenant int64, now time.Time, each func(account.Account) error) error {
	return s.engine.Reads(ctx).Each(func(row engine.Scanner) error {
		a, err := scanAccount(row)
		if err != nil {
			return err
		}
		return each(a)
	}, `SELECT `+accountColumns+` FROM account WHERE tenant = $2 AND `+live+` ORDER BY username`,
		engine.Micros(now), tenant)
}

// isLeaving is the condition that a live account is in the state account.Leaving.
const isLeaving = `held AND leaving IS NOT NULL AND set_state <> 'disabled'`

// inState maps each state to the condition that a live account is in it.
var inState = map[account.State]string{
	account.Waiting:  `activated IS NULL AND NOT held`,
	account.Active:   `activated IS NOT NULL AND NOT held`,
	account.Disabled: `held AND NOT (` + isLeaving + `)`,
	account.Leaving:  isLeaving,
}

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

func stateOf(a account.Account) string { return string(a.State()) }

// setState returns an update that moves an account into another state. more is the rest of its SET
// clause.
func setState(e *trailEntry, state account.State, more string) update {
	return update{
		`set_state = $2, set_at = $3, set_by = $4, set_why = $5, ` + more,
		[]any{string(state), engine.Micros(e.At), e.Actor.String(), e.Reason},
	}
}

// free ends a hold, whether by an operator or because the owner has left.
const free = `held = FALSE, leaving = NULL`

// Enable implements account.Store.
func (s *Store) Enable(ctx context.Context, tenant int64, user string, now time.Time) (account.Account, error) {
	return s.change(ctx, audit.AccountEnable, "", tenant, user, now, stateOf, enable)
}

func enable(tx engine.Tx, e *trailEntry, a account.Account) (update, error) {
	switch {
	case a.Held && a.Pending():
		return setState(e, account.Waiting, free), nil
	case a.Held:
		return setState(e, account.Active, free), nil
	case a.Pending() && !tx.Repeated(): // otherwise an earlier run may have enabled it
		return update{}, account.ErrWaiting
	}
	return update{}, nil
}

// EnableNow implements account.Store.
func (s *Store) EnableNow(ctx context.Context, tenant int64, user string, now time.Time) (account.Account, error) {
	return s.change(ctx, audit.AccountEnable, "", tenant, user, now, stateOf,
		func(_ engine.Tx, e *trailEntry, a account.Account) (update, error) {
			if a.State() == account.Active {
				return update{}, nil
			}
			return setState(e, account.Active, free+`, activated = COALESCE(activated, $3)`), nil
		})
}

// Disable implements account.Store.
func (s *Store) Disable(ctx context.Context, tenant int64, user string, now time.Time) (account.Account, error) {
	return s.change(ctx, audit.AccountDisable, hook.AccountDisabled, tenant, user, now, stateOf, disable)
}

func disable(tx engine.Tx, e *trailEntry, a account.Account) (update, error) {
	// An earlier version that ended a hold may have left behind the time at which the account would
	// be erased.
	const more = `held = TRUE, epoch = epoch + 1, leaving = CASE WHEN held THEN leaving END`
	// Links in messages about changes, and reset links, do not outlive it.
	const statement = `DELETE FROM link WHERE account = $1 AND kind <> $2`
	if _, err := tx.Exec(statement, a.UID[:], olderLink); err != nil {
		return update{}, err
	}
	// Time, operator and reason change together, so that no operator is shown with another one's
	// reason. An account that is leaving is still erased, and its owner can no longer stay.
	if a.State() != account.Disabled || e.Reason != "" {
		return setState(e, account.Disabled, more), nil
	}
	return update{more, nil}, nil
}

// SetRole implements account.Store.
func (s *Store) SetRole(ctx context.Context, tenant int64, user string, role account.Role,
	now time.Time) (account.Account, error) {
	return s.change(ctx, audit.AccountRole, hook.AccountRole, tenant, user, now,
		func(a account.Account) string { return string(a.Role) },
		func(_ engine.Tx, _ *trailEntry, a account.Account) (update, error) {
			if a.Role == role {
				return update{}, nil
			}
			return update{`role = $2`, []any{string(role)}}, nil
		})
}

// Delete implements account.Store.
func (s *Store) Delete(ctx context.Context, tenant int64, user string, now time.Time) error {
	event, e := account.NewUID(now), entry(ctx, audit.AccountDelete, now)
	defer s.signalAdded()
	return s.writeTables(ctx, func(tx engine.Tx) ([]phonetables.Subject, error) {
		a, err := lockAccount(tx, tenant, user, now)
		if errors.Is(err, errNoAccount) && tx.Repeated() {
			return nil, nil
		} else if err != nil {
			return nil, err
		}
		if err := checkVersion(ctx, tx, e, a); err != nil {
			return nil, err
		}
		subject, err := erase(tx, a, event, e, now)
		if err == nil {
			err = e.add(tx)
		}
		return subject, err
	})
}

// erase removes all data about an account, but keeps the name of an account that was active. event
// is the id of the notifications for phone servers. erase fills in e, the entry for the trail,
// which the caller adds.
func erase(tx engine.Tx, a account.Account, event account.UID, e *trailEntry,
	now time.Time) ([]phonetables.Subject, error) {
	if a.Pending() {
		if err := insertAccountNotifications(tx, event, a.UID[:], now, hook.AccountDeleted); err != nil {
			return nil, err
		}
		if _, err := tx.Exec(`DELETE FROM account WHERE uid = $1`, a.UID[:]); err != nil {
			return nil, err
		}
		e.of(a).values(stateOf(a), "")
		return nil, nil
	}
	if _, err := tx.Exec(`UPDATE account SET closed = $1, name = '', email = '', credential = $3,
		has_sha256 = FALSE, token = NULL, lang = 'en', confirmed = NULL, epoch = epoch + 1, set_state = '',
		set_at = 0, set_by = '', set_why = '', leaving = NULL, factors = 0, email_n = 0, signup_net = '',
		first_signin = 0 WHERE uid = $2`,
		engine.Micros(now), a.UID[:], []byte{}); err != nil {
		return nil, err
	}
	if err := insertAccountNotifications(tx, event, a.UID[:], now, hook.AccountDeleted); err != nil {
		return nil, err
	}
	for _, table := range []string{"outbox", "replaced", "delivery", "link", "session", "totp", "recovery_code",
		"passkey", "last_lookup", "known_browser"} {
		if _, err := tx.Exec(`DELETE FROM `+table+` WHERE account = $1`, a.UID[:]); err != nil {
			return nil, err
		}
	}
	if err := clearPersonal(tx, a.Tenant, a.User); err != nil {
		return nil, err
	}
	e.of(a).values(stateOf(a), string(account.Closed))
	return []phonetables.Subject{phonetables.Account(a.UID)}, nil
}

// ClosedNames implements account.Store.
func (s *Store) ClosedNames(ctx context.Context, tenant int64, each func(account.ClosedName) error) error {
	return s.engine.Reads(ctx).Each(func(row engine.Scanner) error {
		var n account.ClosedName
		var closed int64
		if err := row.Scan(&n.User, &closed); err != nil {
			return err
		}
		n.Closed = engine.FromMicros(closed)
		return each(n)
	}, `SELECT username, closed FROM account WHERE tenant = $1 AND closed IS NOT NULL ORDER BY username`, tenant)
}

// ClosedNamesAfter implements operator.DetailStore.
func (s *Store) ClosedNamesAfter(ctx context.Context, tenant int64, after string,
	limit int) (list []account.ClosedName, err error) {
	err = s.engine.Reads(ctx).Each(func(row engine.Scanner) error {
		var n account.ClosedName
		var closed int64
		err := row.Scan(&n.User, &closed)
		n.Closed = engine.FromMicros(closed)
		list = append(list, n)
		return err
	}, `SELECT username, closed FROM account WHERE tenant = $1 AND closed IS NOT NULL AND username > $2
		ORDER BY username LIMIT $3`, tenant, after, limit)
	return list, err
}

// FreeName implements account.Store.
func (s *Store) FreeName(ctx context.Context, tenant int64, user string, now time.Time) error {
	e := entry(ctx, audit.AccountFreeName, now)
	return s.write(ctx, func(tx engine.Tx) error {
		var uid []byte
		err := tx.Row(`DELETE FROM account WHERE tenant = $1 AND username = $2 AND closed IS NOT NULL RETURNING uid`,
			tenant, user).Scan(&uid)
		if errors.Is(err, sql.ErrNoRows) {
			if tx.Repeated() {
				return nil
			}
			return errNoAccount
		} else if err != nil {
			return err
		}
		return e.of(account.Account{UID: account.UID(uid), Tenant: tenant, User: user}).
			values(string(account.Closed), "").add(tx)
	})
}
