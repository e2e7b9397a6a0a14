package store

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/hook"
	"dialtone/internal/mailmsg"
	"dialtone/internal/store/admission"
	"dialtone/internal/store/engine"
	"dialtone/internal/store/phonetables"
	"dialtone/internal/throttle"
)

// Operators make the changes in this file. A server writes their messages.

// AddAccount implements account.AdminStore.
func (s *Store) AddAccount(ctx context.Context, n account.Addition, now time.Time) (a account.Account, err error) {
	e := entry(ctx, audit.AccountAdd, now)
	c := n.Account
	defer s.signalAdded()
	err = s.tables.Write(func(tx engine.Tx) ([]phonetables.Subject, error) {
		// A signup with the name waits for this.
		if err := tx.Lock(admission.Key("name", c.Tenant, []byte(c.User))); err != nil {
			return nil, err
		}
		subjects := []phonetables.Subject{phonetables.Account(c.UID)}
		if tx.Repeated() {
			a, err = scanAccount(tx.Row(`SELECT `+accountColumns+` FROM account WHERE uid = $1`, c.UID[:]))
			if !errors.Is(err, errNoAccount) {
				return subjects, err
			}
		}
		if err := freeExpiredName(tx, c, now); err != nil {
			return nil, err
		}
		if err := takeRecipient(tx, n.Allowances, c.UID, now); err != nil {
			return nil, err
		}
		var activated *int64
		if !c.Pending() {
			us := engine.Micros(c.Activated)
			activated = &us
		}
		a, err = scanAccount(tx.Row(`INSERT INTO account (uid, tenant, username, name, email, role, held, created,
			expires, activated, epoch, credential, has_sha256, token, lang, set_state, set_at, set_by, set_why,
			signup_net, first_signin)
			VALUES ($1, $2, $3, $4, $5, $6, FALSE, $7, $8, $9, 0, $10, $11, $12, $13, $14, $15, $16, $17, '', NULL)
			RETURNING `+accountColumns,
			c.UID[:], c.Tenant, c.User, c.Name, c.Email, string(c.Role), engine.Micros(c.Created),
			engine.Micros(c.Expires), activated, c.Sealed, c.HasSHA256, n.Token[:], string(c.Lang),
			string(c.Set.State), engine.Micros(now), e.Actor.String(), e.Reason))
		if err != nil {
			return nil, err
		}
		if err := s.addMessage(tx, a, n.Notice); err != nil {
			return nil, err
		}
		var changes []hook.EventType
		if n.Notice.Kind != mailmsg.Activation || n.Notice.Message == (mailmsg.ID{}) {
			changes = append(changes, hook.AccountCreated) // otherwise the acknowledgement of the message adds it
		}
		if !a.Pending() {
			changes = append(changes, hook.AccountActivated)
		}
		if err := insertAccountNotifications(tx, c.UID, c.UID[:], now, changes...); err != nil {
			return nil, err
		}
		return subjects, e.of(a).about(string(a.Role)).values("", stateOf(a)).add(tx)
	})
	return a, err
}

// takeRecipient takes places for a message to a recipient. It fails with account.RecipientRefusal.
func takeRecipient(tx engine.Tx, limits []throttle.Allowance, id [16]byte, now time.Time) error {
	if len(limits) == 0 {
		return nil
	}
	if err := tx.Lock(placeKeys(limits)...); err != nil {
		return err
	}
	return checkAndTake(tx, limits, id, now, account.RecipientRefusal)
}

// freeExpiredName removes an account with the name of c that expired before it was activated. It fails with
// account.ErrTaken if the name is taken.
func freeExpiredName(tx engine.Tx, c account.Account, now time.Time) error {
	if _, err := tx.Exec(`DELETE FROM account WHERE tenant = $1 AND username = $2 AND closed IS NULL
		AND activated IS NULL AND expires <= $3`, c.Tenant, c.User, engine.Micros(now)); err != nil {
		return err
	}
	var one int
	err := tx.Row(`SELECT 1 FROM account WHERE tenant = $1 AND username = $2`, c.Tenant, c.User).Scan(&one)
	if err == nil {
		return account.ErrTaken
	} else if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	return err
}

// addMessage adds the message for a new account, unless n has none.
func (s *Store) addMessage(tx engine.Tx, a account.Account, n account.Notice) error {
	switch {
	case n.Message == mailmsg.ID{}:
		return nil
	case n.Kind == mailmsg.Activation:
		_, err := tx.Exec(`INSERT INTO outbox (account, message, token, node) VALUES ($1, $2, $3, $4)`,
			a.UID[:], n.Message[:], n.SealedToken, s.unowned())
		return err
	}
	if err := s.addNotice(tx, a, n); err != nil {
		return err
	}
	return s.leaveToServer(tx, a, n.Message)
}

// SendAgain implements account.AdminStore.
func (s *Store) SendAgain(ctx context.Context, r account.Resending, now time.Time) (a account.Account, err error) {
	event, e := account.NewUID(now), entry(ctx, audit.AccountResend, now)
	defer s.signalAdded()
	found, err := s.Find(ctx, r.Tenant, r.User, now)
	if err != nil {
		return a, err
	}
	err = s.engine.Write(func(tx engine.Tx) error {
		// A new activation link, and a removal by one, wait for this.
		if err := tx.Lock(admission.Key("link", r.Tenant, found.UID[:])); err != nil {
			return err
		}
		if a, err = lockAccount(tx, r.Tenant, r.User, now); err != nil {
			return err
		}
		if err := checkVersion(ctx, tx, e, a); err != nil {
			return err
		}
		if tx.Repeated() {
			if done, err := e.added(tx); err != nil || done {
				return err
			}
		}
		switch {
		case a.UID != found.UID:
			return errNoAccount
		case a.Held:
			return account.ErrHeld
		case !a.Pending():
			return account.ErrActive
		}
		was := a
		if r.Email != "" && r.Email != a.Email {
			if err := tx.Lock(addressKeys(a, r.Email)...); err != nil {
				return err
			}
			a.Email = r.Email
			e.about("email") // the trail has no addresses of people
		}
		if err := takeRecipient(tx, r.Allowances, event, now); err != nil {
			return err
		}
		links, err := passwordLinks(tx, a.UID)
		if err != nil {
			return err
		}
		if links > 0 {
			err = s.replacePasswordLink(tx, a, r.SetPassword, now)
		} else {
			err = s.replaceActivationLink(tx, was, a, r.Activation, now)
		}
		if err == nil {
			err = insertAccountNotifications(tx, event, a.UID[:], now, changesOf(was, a)...)
		}
		if err != nil {
			return err
		}
		return e.of(a).add(tx)
	})
	return a, err
}

// replaceActivationLink gives a waiting account another activation link, and sets its address to
// that of a.
func (s *Store) replaceActivationLink(tx engine.Tx, was, a account.Account, n account.Notice, now time.Time) error {
	var token []byte
	if err := tx.Row(`SELECT token FROM account WHERE uid = $1`, a.UID[:]).Scan(&token); err != nil {
		return err
	}
	if _, err := tx.Exec(`UPDATE account SET token = $2, email = $3 WHERE uid = $1`,
		a.UID[:], n.Token[:], a.Email); err != nil {
		return err
	}
	return addReplacement(tx, was, token, account.LinkReplacement{
		Account: a, Was: was.Email, Message: n.Message, SealedToken: n.SealedToken, Made: n.Made,
	}, s.unowned(), now)
}

// replacePasswordLink gives a waiting account another link of mailmsg.SetPassword, and sets its
// address to that of a. Messages with the previous link are no longer sent.
func (s *Store) replacePasswordLink(tx engine.Tx, a account.Account, n account.Notice, now time.Time) error {
	if err := removeResetLinks(tx, a, noUnsent); err != nil {
		return err
	}
	if _, err := tx.Exec(`DELETE FROM outbox WHERE account = $1`, a.UID[:]); err != nil {
		return err
	}
	if _, err := tx.Exec(`UPDATE delivery SET state = 'discarded', due = CAST($2 AS BIGINT), answer = $3
		WHERE account = $1 AND state IN ('waiting', 'deferred', 'failed')`,
		a.UID[:], engine.Micros(now), account.ErrReplaced.Error()); err != nil {
		return err
	}
	if _, err := tx.Exec(`UPDATE account SET email = $2 WHERE uid = $1`, a.UID[:], a.Email); err != nil {
		return err
	}
	n.Until = a.Expires
	return s.addMessage(tx, a, n)
}

// Rename implements account.AdminStore. The trail has no names of people.
func (s *Store) Rename(ctx context.Context, tenant int64, user, name string, now time.Time) (account.Account, error) {
	none := func(account.Account) string { return "" }
	return s.change(ctx, audit.ProfileChange, "", tenant, user, now, none,
		func(_ engine.Tx, e *trailEntry, a account.Account) (update, error) {
			if a.Name == name {
				return update{}, nil
			}
			e.about("name")
			return update{`name = $2`, []any{name}}, nil
		})
}

// EndSessions implements account.AdminStore.
func (s *Store) EndSessions(ctx context.Context, tenant int64, user string, now time.Time) (account.Account, error) {
	none := func(account.Account) string { return "" }
	return s.change(ctx, audit.SessionsEnd, "", tenant, user, now, none,
		func(tx engine.Tx, e *trailEntry, a account.Account) (update, error) {
			if a.Pending() { // it has none, and its epoch means something else
				return update{}, nil
			}
			e.about("all")
			_, err := tx.Exec(`DELETE FROM session WHERE account = $1`, a.UID[:])
			return update{`epoch = epoch + 1`, nil}, err
		})
}
