package store

import (
	"context"
	"database/sql"
	"slices"
	"strings"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/hook"
	"dialtone/internal/mailmsg"
	"dialtone/internal/store/admission"
	"dialtone/internal/store/engine"
	"dialtone/internal/store/phonetables"
)

// holderLimit is how many names one statement looks for, and insertLimit how many accounts one
// statement inserts. Prepared statements are cached by their text, so there are only a few
// different ones.
const (
	holderLimit = 256
	insertLimit = 32
)

// Holders implements account.ImportStore.
func (s *Store) Holders(ctx context.Context, tenant int64, users []string,
	now time.Time) (map[string]account.NameHolder, error) {
	return holders(s.engine.Reads(ctx), tenant, users, now)
}

func holders(q engine.Querier, tenant int64, users []string, now time.Time) (map[string]account.NameHolder, error) {
	found := make(map[string]account.NameHolder)
	for len(users) > 0 {
		n := min(len(users), holderLimit)
		args := []any{tenant, engine.Micros(now)}
		for i := range holderLimit {
			args = append(args, users[min(i, n-1)])
		}
		users = users[n:]
		err := q.Each(func(row engine.Scanner) error {
			var closed sql.NullInt64
			a, err := scanAccount(row, &closed)
			found[a.User] = account.NameHolder{Account: a, Closed: closed.Valid}
			return err
		}, `SELECT closed, `+accountColumns+` FROM account WHERE tenant = $1
			AND (closed IS NOT NULL OR activated IS NOT NULL OR expires > $2)
			AND username IN (`+engine.Placeholders(3, holderLimit)+`)`, args...)
		if err != nil {
			return nil, err
		}
	}
	return found, nil
}

// ImportAccounts implements account.ImportStore.
func (s *Store) ImportAccounts(ctx context.Context, tenant int64, list []account.Addition,
	begin *account.ImportChange, now time.Time) (taken map[string]account.NameHolder, err error) {
	event, e := account.NewUID(now), entry(ctx, audit.AccountImport, now)
	locks := make([]int64, len(list))
	for i, n := range list {
		locks[i] = admission.Key("name", tenant, []byte(n.Account.User))
	}
	defer s.signalAdded()
	err = s.writeTables(ctx, func(tx engine.Tx) ([]phonetables.Subject, error) {
		// Signups with the names wait for this.
		if err := tx.Lock(locks...); err != nil {
			return nil, err
		}
		var added []account.Addition
		if added, taken, err = importNames(tx, tenant, list, e, now); err != nil || len(added) == 0 {
			return nil, err
		}
		var subjects []phonetables.Subject
		for _, n := range added {
			subjects = append(subjects, phonetables.Account(n.Account.UID))
		}
		if err := s.announceImported(tx, tenant, added, event, now); err != nil || begin == nil {
			return subjects, err
		}
		e.tenant = tenant
		return subjects, e.about(begin.Subject).values(begin.Before, begin.After).add(tx)
	})
	return taken, err
}

// importNames inserts the accounts whose names are free, and returns them and the holders of the
// other names. It looks for the holder of a name only if the insert finds the name taken: on
// PostgreSQL, a plan of that query from when the table was small would read the whole table as it
// grows.
func importNames(tx engine.Tx, tenant int64, list []account.Addition, e *trailEntry,
	now time.Time) (added []account.Addition, taken map[string]account.NameHolder, err error) {
	left, err := insertImported(tx, list, e, now)
	if err != nil || len(left) == 0 {
		return list, nil, err
	}
	users := make([]string, len(left))
	for i, n := range left {
		users[i] = n.Account.User
	}
	if taken, err = holders(tx, tenant, users, now); err != nil {
		return nil, nil, err
	}
	var again []account.Addition
	for _, n := range left {
		h, held := taken[n.Account.User]
		switch {
		case held && h.UID == n.Account.UID: // an earlier run was committed
			delete(taken, n.Account.User)
		case !held: // by an account that has expired
			if err := freeExpiredName(tx, n.Account, now); err != nil {
				return nil, nil, err
			}
			again = append(again, n)
		}
	}
	if left, err = insertImported(tx, again, e, now); err != nil {
		return nil, nil, err
	} else if len(left) > 0 {
		return nil, nil, errKeepsChanging
	}
	for _, n := range list {
		if _, held := taken[n.Account.User]; !held {
			added = append(added, n)
		}
	}
	return added, taken, nil
}

// insertImported inserts the accounts whose names are free, and returns the others.
func insertImported(tx engine.Tx, list []account.Addition, e *trailEntry,
	now time.Time) (left []account.Addition, err error) {
	for part := range slices.Chunk(list, insertLimit) {
		var values []string
		var args []any
		for _, add := range part {
			c := add.Account
			var activated *int64
			if !c.Pending() {
				us := engine.Micros(c.Activated)
				activated = &us
			}
			values = append(values, `(`+engine.Placeholders(len(args)+1, 17)+`, FALSE, 0, '', NULL)`)
			args = append(args, c.UID[:], c.Tenant, c.User, c.Name, c.Email, string(c.Role), engine.Micros(c.Created),
				engine.Micros(c.Expires), activated, c.Sealed, c.HasSHA256, add.Token[:], string(c.Lang),
				string(c.Set.State), engine.Micros(now), e.Actor.String(), e.Reason)
		}
		inserted := make(map[account.UID]bool)
		if err := tx.Each(func(row engine.Scanner) error {
			var uid []byte
			err := row.Scan(&uid)
			inserted[account.UID(uid)] = true
			return err
		}, `INSERT INTO account (uid, tenant, username, name, email, role, created, expires, activated,
			credential, has_sha256, token, lang, set_state, set_at, set_by, set_why, held, epoch, signup_net,
			first_signin) VALUES `+strings.Join(values, `, `)+` ON CONFLICT DO NOTHING RETURNING uid`,
			args...); err != nil {
			return nil, err
		}
		for _, n := range part {
			if !inserted[n.Account.UID] {
				left = append(left, n)
			}
		}
	}
	return left, nil
}

// announceImported adds the messages for new accounts, and the notifications for phone servers.
func (s *Store) announceImported(tx engine.Tx, tenant int64, list []account.Addition, event account.UID,
	now time.Time) error {
	var created, activated []account.Account
	for _, n := range list {
		if err := s.addMessage(tx, n.Account, n.Notice); err != nil {
			return err
		}
		if n.Notice.Kind != mailmsg.Activation || n.Notice.Message == (mailmsg.ID{}) {
			created = append(created, n.Account) // otherwise the acknowledgement of the message adds it
		}
		if !n.Account.Pending() {
			activated = append(activated, n.Account)
		}
	}
	if err := insertImportNotifications(tx, hook.AccountCreated, event, tenant, created, now); err != nil {
		return err
	}
	event[len(event)-1] ^= 1
	return insertImportNotifications(tx, hook.AccountActivated, event, tenant, activated, now)
}

// insertImportNotifications is insertNotifications for accounts that are new.
func insertImportNotifications(tx engine.Tx, what hook.EventType, event account.UID, tenant int64,
	list []account.Account, now time.Time) error {
	type target struct {
		hook        []byte
		host, realm string
		all         bool // also of accounts that were not activated
	}
	var targets []target
	err := tx.Each(func(row engine.Scanner) error {
		var t target
		err := row.Scan(&t.hook, &t.host, &t.realm, &t.all)
		targets = append(targets, t)
		return err
	}, `SELECT h.id, t.host, t.realm, h.events <> '' FROM hook h JOIN tenant t ON t.id = $1
		WHERE `+wants(what)+` AND`+ofTenantHooks, tenant)
	if err != nil {
		return err
	}
	for _, t := range targets {
		known := slices.DeleteFunc(slices.Clone(list), func(a account.Account) bool { return a.Pending() && !t.all })
		for part := range slices.Chunk(known, insertLimit) {
			var values []string
			var args []any
			for _, a := range part {
				values = append(values, `(`+engine.Placeholders(len(args)+1, 9)+`, 0, 0)`)
				args = append(args, t.hook, event[:], a.UID[:], string(what), tenant, t.host, t.realm, a.User,
					engine.Micros(now))
			}
			if _, err := tx.Exec(`INSERT INTO notice (`+notificationColumns+`) VALUES `+strings.Join(values, `, `)+
				` ON CONFLICT DO NOTHING`, args...); err != nil {
				return err
			}
		}
	}
	return nil
}

// EndImport implements account.ImportStore.
func (s *Store) EndImport(ctx context.Context, tenant int64, c account.ImportChange, now time.Time) error {
	e := entry(ctx, audit.AccountImport, now)
	e.tenant = tenant
	return s.engine.Write(e.about(c.Subject).values(c.Before, c.After).add)
}
