package store

import (
	"context"
	"database/sql"
	"fmt"
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

// holderLimit is how many names one statement looks for, and insertLimit how many accounts one inserts. The statements
// are prepared by their texts, so there are few different ones.
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
func (s *Store) ImportAccounts(ctx context.Context, tenant int64, list []account.Addition, begin *account.ImportChange,
	now time.Time) (taken map[string]account.NameHolder, err error) {
	event, e := account.NewUID(now), entry(ctx, audit.AccountImport, now)
	users, locks := make([]string, len(list)), make([]int64, len(list))
	for i, n := range list {
		users[i], locks[i] = n.Account.User, admission.Key("name", tenant, []byte(n.Account.User))
	}
	defer s.signalAdded()
	err = s.writeTables(ctx, func(tx engine.Tx) ([]phonetables.Subject, error) {
		// Signups with the names wait for this.
		if err := tx.Lock(locks...); err != nil {
			return nil, err
		}
		if taken, err = holders(tx, tenant, users, now); err != nil {
			return nil, err
		}
		var fresh []account.Addition
		var subjects []phonetables.Subject
		for _, n := range list {
			h, held := taken[n.Account.User]
			if held && h.UID == n.Account.UID { // an earlier run was committed
				delete(taken, n.Account.User)
				subjects = append(subjects, phonetables.Account(n.Account.UID))
			} else if !held {
				fresh = append(fresh, n)
				subjects = append(subjects, phonetables.Account(n.Account.UID))
			}
		}
		if len(fresh) == 0 {
			return subjects, nil
		}
		if err := insertImported(tx, fresh, e, now); err != nil {
			return nil, err
		}
		if err := s.announceImported(tx, fresh, event, now); err != nil {
			return nil, err
		}
		if begin == nil {
			return subjects, nil
		}
		e.tenant = tenant
		return subjects, e.about(begin.Subject).values(begin.Before, begin.After).add(tx)
	})
	return taken, err
}

// insertImported inserts accounts. Those with their names that have expired are removed.
func insertImported(tx engine.Tx, list []account.Addition, e *trailEntry, now time.Time) error {
	for len(list) > 0 {
		n := min(len(list), insertLimit)
		part := list[:n]
		list = list[n:]
		names := []any{part[0].Account.Tenant, engine.Micros(now)}
		var values []string
		var args []any
		for _, add := range part {
			c := add.Account
			names = append(names, c.User)
			var activated *int64
			if !c.Pending() {
				us := engine.Micros(c.Activated)
				activated = &us
			}
			values = append(values, fmt.Sprintf(`(%s, FALSE, 0, '', NULL)`, engine.Placeholders(len(args)+1, 17)))
			args = append(args, c.UID[:], c.Tenant, c.User, c.Name, c.Email, string(c.Role), engine.Micros(c.Created),
				engine.Micros(c.Expires), activated, c.Sealed, c.HasSHA256, add.Token[:], string(c.Lang),
				string(c.Set.State), engine.Micros(now), e.Actor.String(), e.Reason)
		}
		if _, err := tx.Exec(`DELETE FROM account WHERE tenant = $1 AND closed IS NULL AND activated IS NULL
			AND expires <= $2 AND username IN (`+engine.Placeholders(3, n)+`)`, names...); err != nil {
			return err
		}
		if _, err := tx.Exec(`INSERT INTO account (uid, tenant, username, name, email, role, created, expires, activated,
			credential, has_sha256, token, lang, set_state, set_at, set_by, set_why, held, epoch, signup_net,
			first_signin) VALUES `+strings.Join(values, `, `), args...); err != nil {
			return err
		}
	}
	return nil
}

// announceImported adds the messages of new accounts, and the notifications of phone servers.
func (s *Store) announceImported(tx engine.Tx, list []account.Addition, event account.UID, now time.Time) error {
	var created, activated []any
	for _, n := range list {
		if err := s.addMessage(tx, n.Account, n.Notice); err != nil {
			return err
		}
		uid := n.Account.UID
		if n.Notice.Kind != mailmsg.Activation || n.Notice.Message == (mailmsg.ID{}) {
			created = append(created, uid[:]) // otherwise the acknowledgement of the message adds it
		}
		if !n.Account.Pending() {
			activated = append(activated, uid[:])
		}
	}
	second := event
	second[len(second)-1] ^= 1
	if err := insertImportNotifications(tx, hook.AccountCreated, event, created, now); err != nil {
		return err
	}
	return insertImportNotifications(tx, hook.AccountActivated, second, activated, now)
}

func insertImportNotifications(tx engine.Tx, what hook.EventType, event account.UID, uids []any, now time.Time) error {
	for len(uids) > 0 {
		n := min(len(uids), insertLimit)
		err := insertNotifications(tx, `a.uid IN (`+engine.Placeholders(4, n)+`)`, what, event, now, uids[:n]...)
		if err != nil {
			return err
		}
		uids = uids[n:]
	}
	return nil
}

// EndImport implements account.ImportStore.
func (s *Store) EndImport(ctx context.Context, tenant int64, c account.ImportChange, now time.Time) error {
	e := entry(ctx, audit.AccountImport, now)
	e.tenant = tenant
	return s.engine.Write(e.about(c.Subject).values(c.Before, c.After).add)
}
