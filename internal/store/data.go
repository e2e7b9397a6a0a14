package store

import (
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/mailmsg"
	"dialtone/internal/store/engine"
)

var _ account.DataStore = (*Store)(nil)

// timeOf returns the time of a nullable column, or nil for NULL.
func timeOf(us sql.NullInt64) *time.Time {
	if !us.Valid {
		return nil
	}
	t := engine.FromMicros(us.Int64)
	return &t
}

// listOf returns the rows of a query as a list, which is empty and not nil if there are none.
func listOf[T any](q engine.Querier, scan func(engine.Scanner, *T) error, query string, args ...any) ([]T, error) {
	list := []T{}
	err := q.Each(func(row engine.Scanner) error {
		var v T
		err := scan(row, &v)
		list = append(list, v)
		return err
	}, query, args...)
	return list, err
}

// AddDataNotice implements account.DataStore.
func (s *Store) AddDataNotice(ctx context.Context, was account.Account, n account.Notice,
	since, now time.Time) (added bool, err error) {
	// Most calls of one day need no write.
	if notified, err := dataNoticeSince(s.engine.Reads(ctx), was, since); err != nil || notified {
		return false, err
	}
	e := entry(ctx, audit.AccountData, now)
	err = s.engine.Write(func(tx engine.Tx) error {
		added = false
		a, err := lockActive(tx, was, now)
		if err != nil {
			return err
		}
		if tx.Repeated() {
			if added, err = linkExists(tx, n.Token); err != nil || added {
				return err
			}
		}
		if notified, err := dataNoticeSince(tx, a, since); err != nil || notified {
			return err
		}
		added = true
		if err := s.addNotice(tx, a, n); err != nil {
			return err
		}
		return e.of(a).add(tx)
	})
	return added, err
}

// dataNoticeSince reports whether a message about an account's data was created after a time. It
// looks for the link of the message, which is kept for account.NoticeLife unless it was used.
func dataNoticeSince(q engine.Querier, a account.Account, since time.Time) (bool, error) {
	n, err := engine.Count(q, `SELECT count(*) FROM link WHERE account = $1 AND kind = $2 AND made > $3`,
		a.UID[:], string(mailmsg.DataTaken), engine.Micros(since))
	return n > 0, err
}

// HeldAbout implements account.DataStore. TestDataIsComplete lists all tables that refer to
// accounts.
func (s *Store) HeldAbout(ctx context.Context, a account.Account, host string) (d account.Data, err error) {
	q := s.engine.Reads(ctx)
	var changed sql.NullInt64
	var token bool
	if err := q.Row(`SELECT password_at, token IS NOT NULL FROM account WHERE uid = $1`, a.UID[:]).
		Scan(&changed, &token); err != nil {
		return d, err
	}
	d.Account.PasswordChanged = timeOf(changed)
	if d.Messages, err = messagesOf(q, a); err != nil {
		return d, err
	}
	if d.Links, err = linksOf(q, a); err != nil {
		return d, err
	}
	if token && a.Pending() {
		d.Links = append(d.Links, account.DataLink{
			Kind: account.KindName(mailmsg.Activation), Until: a.Expires, To: a.Email,
		})
	}
	if d.Sessions, err = listOf(q, func(row engine.Scanner, x *account.DataSession) error {
		var began, seen, until int64
		err := row.Scan(&began, &seen, &until, &x.Net, &x.Browser, &x.How)
		x.Began, x.Seen, x.Until = engine.FromMicros(began), engine.FromMicros(seen), engine.FromMicros(until)
		if x.How == "" {
			x.How = "password"
		}
		return err
	}, `SELECT began, seen, until, net, browser, how FROM session WHERE account = $1 ORDER BY began, id`,
		a.UID[:]); err != nil {
		return d, err
	}
	if d.Browsers, err = listOf(q, func(row engine.Scanner, x *account.DataBrowser) error {
		var until int64
		err := row.Scan(&x.Net, &x.Browser, &until)
		x.Until = engine.FromMicros(until)
		return err
	}, `SELECT net, browser, until FROM known_browser WHERE account = $1 ORDER BY net, browser`,
		a.UID[:]); err != nil {
		return d, err
	}
	if d.SecondFactors, err = factorsOf(q, a); err != nil {
		return d, err
	}
	if d.LookUps, err = listOf(q, func(row engine.Scanner, x *account.DataLookUp) error {
		var at int64
		err := row.Scan(&x.Server, &x.How, &at)
		x.At = engine.FromMicros(at)
		return err
	}, `SELECT server, how, at FROM last_lookup WHERE account = $1 ORDER BY server, how`, a.UID[:]); err != nil {
		return d, err
	}
	return d, nil
}

// changesOfAccount is the condition for the changes of an account.
const changesOfAccount = `tenant = $1 AND username = $2 AND account = $3`

// DataChanges implements account.DataStore.
func (s *Store) DataChanges(ctx context.Context, a account.Account, host string, after int64,
	limit int) ([]account.DataChange, error) {
	return listOf(s.engine.Reads(ctx), func(row engine.Scanner, x *account.DataChange) error {
		var at int64
		err := row.Scan(&x.ID, &at, &x.Action, &x.Outcome, &x.Before, &x.After, &x.By, &x.Reason, &x.Net)
		x.At = engine.FromMicros(at)
		return err
	}, `SELECT id, at, action, outcome, before, after, actor_kind, reason,
		CASE WHEN actor_kind = 'person' THEN net ELSE '' END FROM audit
		WHERE `+changesOfAccount+` AND id > $4 ORDER BY id LIMIT $5`, host, a.User, a.UID.String(), after, limit)
}

// OlderChanges implements account.DataStore.
func (s *Store) OlderChanges(ctx context.Context, a account.Account, host string, n int) (id int64, err error) {
	err = s.engine.Reads(ctx).Row(`SELECT id FROM audit WHERE `+changesOfAccount+` ORDER BY id DESC
		LIMIT 1 OFFSET $4`, host, a.User, a.UID.String(), n).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return id, err
}

// messagesOf returns the messages to the address of an account that are being written or sent, or
// were sent recently. Those to other addresses are left out, since they would reveal whether a
// request to use another address sent a message (account.Service.RequestEmail).
func messagesOf(q engine.Querier, a account.Account) ([]account.DataMessage, error) {
	list, err := listOf(q, scanOutboxMessage, outboxMessages+` AND o.address IN ('', a.email)
		ORDER BY o.made, o.message`, a.UID[:])
	if err != nil {
		return nil, err
	}
	sent, err := listOf(q, scanDeliveryMessage,
		deliveryQuery+`WHERE d.account = $1 AND `+recipient+` = $2 ORDER BY d.since, d.message`, a.UID[:], a.Email)
	return append(list, sent...), err
}

// outboxMessages selects the outbox rows of an account for scanOutboxMessage.
const outboxMessages = `SELECT o.message, o.kind, o.made, o.until, COALESCE(NULLIF(o.address, ''), a.email), o.net,
		o.detail, a.created, a.expires
	FROM outbox o JOIN account a ON a.uid = o.account WHERE o.account = $1`

func scanOutboxMessage(row engine.Scanner, x *account.DataMessage) error {
	var id []byte
	var kind string
	var made, until, created, expires int64
	err := row.Scan(&id, &kind, &made, &until, &x.To, &x.Net, &x.Detail, &created, &expires)
	what, detail := messageKind(kind, x.Detail)
	x.ID, x.Kind, x.Detail, x.State = hex.EncodeToString(id), account.KindName(what), detail, "writing"
	if made == 0 {
		made = created
	}
	if until == 0 {
		until = expires
	}
	ends := engine.FromMicros(until)
	x.Since, x.Expires = engine.FromMicros(made), &ends
	return err
}

// linksOf returns the links of an account except its activation link and links that set another
// address.
func linksOf(q engine.Querier, a account.Account) ([]account.DataLink, error) {
	scan := func(row engine.Scanner, x *account.DataLink) error {
		var made sql.NullInt64
		var until int64
		err := row.Scan(&x.Kind, &made, &until, &x.To)
		x.Made, x.Until = timeOf(made), engine.FromMicros(until)
		return err
	}
	list, err := listOf(q, scan, `SELECT kind, made, until, email FROM link WHERE account = $1 AND kind NOT IN ($2, $3)
		ORDER BY made, token`, a.UID[:], olderLink, string(mailmsg.ConfirmEmail))
	if err != nil {
		return nil, err
	}
	older, err := listOf(q, scan, `SELECT 'activation_replaced', l.made, r.until,
		COALESCE(NULLIF(r.email, ''), l.email, '') FROM replaced r LEFT JOIN link l ON l.token = r.token
		WHERE r.account = $1 ORDER BY r.until, r.token`, a.UID[:])
	return append(list, older...), err
}

// factorsOf returns the second factors of an account.
func factorsOf(q engine.Querier, a account.Account) (f account.DataFactors, err error) {
	apps, err := listOf(q, func(row engine.Scanner, x *account.DataApp) error {
		var made int64
		var since sql.NullInt64
		err := row.Scan(&made, &since)
		x.Made, x.Since = engine.FromMicros(made), timeOf(since)
		return err
	}, `SELECT made, since FROM totp WHERE account = $1`, a.UID[:])
	if err != nil {
		return f, err
	}
	if len(apps) > 0 {
		f.App = &apps[0]
	}
	if f.RecoveryCodes, err = engine.Count(q, `SELECT count(*) FROM recovery_code WHERE account = $1`,
		a.UID[:]); err != nil {
		return f, err
	}
	f.Passkeys, err = listOf(q, func(row engine.Scanner, x *account.DataPasskey) error {
		var made int64
		var used sql.NullInt64
		err := row.Scan(&x.Name, &x.Site, &made, &used)
		x.Made, x.Used = engine.FromMicros(made), timeOf(used)
		return err
	}, `SELECT name, rp, made, used FROM passkey WHERE account = $1 ORDER BY made, id`, a.UID[:])
	return f, err
}
