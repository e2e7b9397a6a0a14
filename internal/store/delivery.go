package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/delivery"
	"dialtone/internal/fault"
	"dialtone/internal/mailmsg"
	"dialtone/internal/store/engine"
)

var (
	_ delivery.Store       = (*Store)(nil)
	_ delivery.OrphanStore = (*Store)(nil)
)

const deliveryQuery = `SELECT d.message, d.account, d.node, d.state, d.since, d.expires, d.due, d.attempts, d.answer,
	d.kind, d.ended, a.tenant, a.username, ` + recipient + ` FROM delivery d JOIN account a ON a.uid = d.account `

// recipient is the address of a message. In a row of an older version it is empty, and the
// account's current address is used.
const recipient = `COALESCE(NULLIF(d.email, ''), a.email)`

var errNoDelivery = fault.New(fault.NotFound, "there is no such message; see: dialtone mail list --all")

func scanDelivery(row engine.Scanner) (d delivery.Delivery, err error) {
	var message, uid []byte
	var state string
	var since, expires int64
	var due, ended sql.NullInt64
	err = row.Scan(&message, &uid, &d.Node, &state, &since, &expires, &due, &d.Attempts, &d.Answer,
		&d.Kind, &ended, &d.Tenant, &d.User, &d.Email)
	if errors.Is(err, sql.ErrNoRows) {
		return d, errNoDelivery
	}
	if err != nil {
		return d, err
	}
	copy(d.Message[:], message)
	copy(d.Account[:], uid)
	d.State, d.Since, d.Expires = delivery.State(state), engine.FromMicros(since), engine.FromMicros(expires)
	if due.Valid {
		d.Due = engine.FromMicros(due.Int64)
	}
	if ended.Valid {
		d.Ended = engine.FromMicros(ended.Int64)
	}
	return d, nil
}

func deliveries(q engine.Querier, query string, args ...any) (list []delivery.Delivery, err error) {
	err = q.Each(func(row engine.Scanner) error {
		d, err := scanDelivery(row)
		list = append(list, d)
		return err
	}, deliveryQuery+query, args...)
	return list, err
}

// DueMessages implements delivery.Store.
func (s *Store) DueMessages(ctx context.Context, now time.Time, after delivery.Position, without []string,
	limit int) (list []delivery.Delivery, next delivery.Position, err error) {
	last := int64(-1) // before every due message
	if after != (delivery.Position{}) {
		last = engine.Micros(after.Due)
	}
	args := []any{engine.Micros(now), s.nodeName(), limit, last, after.Message[:]}
	var others strings.Builder
	for _, domain := range without {
		args = append(args, "%@"+domain)
		fmt.Fprintf(&others, " AND %s NOT LIKE $%d", recipient, len(args))
	}
	list, err = deliveries(s.engine.Reads(ctx),
		`WHERE d.node = $2 AND d.due <= $1 AND d.due >= $4 AND (d.due > $4 OR d.message > $5)`+others.String()+
			` ORDER BY d.due, d.message LIMIT $3`, args...)
	if n := len(list); n > 0 && n == limit {
		next = delivery.Position{Due: list[n-1].Due, Message: list[n-1].Message}
	}
	return list, next, err
}

// Record implements delivery.Store.
func (s *Store) Record(ctx context.Context, list []delivery.Delivery) error {
	_, err := inChunks(s.engine, list, func(tx engine.Tx, d delivery.Delivery) error {
		_, err := tx.Exec(`UPDATE delivery SET state = $2, due = $3, attempts = $4, answer = $5, ended = $6
			WHERE message = $1 AND (state IN ('waiting', 'deferred', $2) OR $2 = 'sent')`,
			d.Message[:], string(d.State), microsOrNull(d.Due), d.Attempts, d.Answer, microsOrNull(d.Ended))
		return err
	})
	return err
}

// Classify implements delivery.Store.
func (s *Store) Classify(ctx context.Context,
	messages []mailmsg.ID) (list []delivery.Delivery, inOutbox []mailmsg.ID, err error) {
	if len(messages) == 0 {
		return nil, nil, nil
	}
	among := `message IN (` + engine.Placeholders(1, len(messages)) + `)`
	args := make([]any, len(messages))
	for i := range messages {
		args[i] = messages[i][:]
	}
	// The outbox is read first: a message moves from there to the deliveries, so it is seen in at
	// least one of them.
	err = s.engine.Reads(ctx).Each(func(row engine.Scanner) error {
		var message []byte
		err := row.Scan(&message)
		inOutbox = append(inOutbox, mailmsg.ID(append(message, make([]byte, 16)...)))
		return err
	}, `SELECT message FROM outbox WHERE `+among, args...)
	if err != nil {
		return nil, nil, err
	}
	list, err = deliveries(s.engine.Reads(ctx), `WHERE d.`+among, args...)
	return list, inOutbox, err
}

// ClaimFiles implements delivery.Store.
func (s *Store) ClaimFiles(_ context.Context, found []delivery.FoundFile,
	now time.Time) (unclaimed []mailmsg.ID, err error) {
	claimed := make(map[mailmsg.ID]bool)
	_, err = inChunks(s.engine, found, func(tx engine.Tx, f delivery.FoundFile) (err error) {
		claimed[f.Message], err = claimFile(tx, f, s.nodeName(), now)
		return err
	})
	for _, f := range found {
		if !claimed[f.Message] {
			unclaimed = append(unclaimed, f.Message)
		}
	}
	return unclaimed, err
}

// claimFile assigns the delivery of a file that was found to this node. If there is none, but the
// file has the current link of a pending account, it adds one. It reports whether the file belongs
// to a delivery.
func claimFile(tx engine.Tx, f delivery.FoundFile, node string, now time.Time) (bool, error) {
	n, err := tx.Exec(`UPDATE delivery SET node = $2,
			due = CASE state WHEN 'written' THEN CAST($3 AS BIGINT) ELSE due END,
			state = CASE state WHEN 'written' THEN 'waiting' ELSE state END
		WHERE message = $1`, f.Message[:], node, engine.Micros(now))
	if err != nil || n > 0 {
		return n > 0, err
	}
	var uid []byte
	var expires int64
	var email string
	err = tx.Row(`SELECT uid, expires, email FROM account
		WHERE token = $1 AND closed IS NULL AND activated IS NULL AND expires > $2`,
		f.Token[:], engine.Micros(now)).Scan(&uid, &expires, &email)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	_, err = tx.Exec(`INSERT INTO delivery (message, account, node, state, since, expires, due, attempts, answer, email,
			kind)
		VALUES ($1, $2, $3, 'waiting', $4, $5, $4, 0, '', $6, $7) ON CONFLICT (message) DO NOTHING`,
		f.Message[:], uid, node, engine.Micros(now), expires, email, account.KindName(mailmsg.Activation))
	return true, err
}

// WithAccount implements delivery.OrphanStore.
func (s *Store) WithAccount(ctx context.Context, found []delivery.FoundFile) (list []mailmsg.ID, err error) {
	if len(found) == 0 {
		return nil, nil
	}
	among := `token IN (` + engine.Placeholders(1, len(found)) + `)`
	args := make([]any, len(found))
	for i := range found {
		args[i] = found[i].Token[:]
	}
	known := make(map[[32]byte]bool)
	// A link moves from account to replaced, or back. In one statement it is seen in one of them.
	err = s.engine.Reads(ctx).Each(func(row engine.Scanner) error {
		var token []byte
		err := row.Scan(&token)
		known[[32]byte(append(token, make([]byte, 32)...))] = true
		return err
	}, `SELECT token FROM account WHERE `+among+` UNION ALL SELECT token FROM replaced WHERE `+among+`
		UNION ALL SELECT token FROM link WHERE `+among, args...)
	for _, f := range found {
		if known[f.Token] {
			list = append(list, f.Message)
		}
	}
	return list, err
}

// EachDelivery implements delivery.Store.
func (s *Store) EachDelivery(ctx context.Context, states []delivery.State, f func(delivery.Delivery) error) error {
	args := make([]any, len(states))
	for i, state := range states {
		args[i] = string(state)
	}
	return s.engine.Reads(ctx).Each(func(row engine.Scanner) error {
		d, err := scanDelivery(row)
		if err != nil {
			return err
		}
		return f(d)
	}, deliveryQuery+`WHERE d.state IN (`+engine.Placeholders(1, len(args))+`) ORDER BY d.since, d.message`, args...)
}

// Delivery implements delivery.Store.
func (s *Store) Delivery(ctx context.Context, message mailmsg.ID) (delivery.Delivery, error) {
	return scanDelivery(s.engine.Reads(ctx).Row(deliveryQuery+`WHERE d.message = $1`, message[:]))
}

// OfAccount implements delivery.Store.
func (s *Store) OfAccount(ctx context.Context, tenant int64, uid account.UID) (delivery.Delivery, error) {
	return scanDelivery(s.engine.Reads(ctx).Row(deliveryQuery+`WHERE d.account = $1 AND a.tenant = $2
		AND NOT EXISTS (SELECT 1 FROM outbox o WHERE o.account = $1) ORDER BY d.since DESC, d.message LIMIT 1`,
		uid[:], tenant))
}

// retryUpdate makes messages due as if they were new, except those that a newer message has
// replaced, whose link no longer works.
const retryUpdate = `UPDATE delivery SET state = 'waiting', since = CAST($1 AS BIGINT),
	due = CAST($1 AS BIGINT), attempts = 0, ended = NULL
	WHERE expires > $1
	AND NOT EXISTS (SELECT 1 FROM outbox o WHERE o.account = delivery.account)
	AND NOT EXISTS (SELECT 1 FROM delivery n WHERE n.account = delivery.account AND n.since > delivery.since)
	AND `

// Retry implements delivery.Store.
func (s *Store) Retry(ctx context.Context, message mailmsg.ID, now time.Time) (delivery.Delivery, error) {
	return s.changeDelivery(ctx, audit.MessageRetry, message, now, func(tx engine.Tx, d delivery.Delivery) error {
		n, err := tx.Exec(retryUpdate+`message = $2 AND state IN ('waiting', 'deferred', 'failed')`,
			engine.Micros(now), message[:])
		if err == nil && n == 0 {
			err = fault.New(fault.Conflict, "the message cannot be sent again: %s", whyNot(d, now))
		}
		return err
	})
}

// whyNot returns why a message cannot be sent again.
func whyNot(d delivery.Delivery, now time.Time) string {
	switch {
	case d.Replaced():
		return "a newer message has replaced it"
	case d.State == delivery.Written:
		return "it was written to the pickup directory, and the mail server has it from there"
	case d.State == delivery.Sent, d.State == delivery.Discarded:
		return "it is " + string(d.State)
	case !now.Before(d.Expires):
		return "its link has expired"
	default:
		return "a newer message has replaced it"
	}
}

// changeDelivery changes one delivery and returns it as it is after the change.
func (s *Store) changeDelivery(ctx context.Context, action audit.Action, message mailmsg.ID, now time.Time,
	do func(engine.Tx, delivery.Delivery) error) (delivery.Delivery, error) {
	d, err := s.Delivery(ctx, message)
	if err != nil {
		return d, err
	}
	e := entry(ctx, action, now).about(message.String())
	err = s.engine.Write(func(tx engine.Tx) error {
		find := func() (delivery.Delivery, error) {
			return scanDelivery(tx.Row(deliveryQuery+`WHERE d.message = $1`, message[:]))
		}
		before, err := find()
		if err == nil {
			err = do(tx, before)
		}
		if err == nil {
			d, err = find()
		}
		if err == nil {
			e.tenant, e.Account, e.User = d.Tenant, d.Account.String(), d.User
			err = e.values(string(before.State), string(d.State)).add(tx)
		}
		return err
	})
	return d, err
}

// RetryAll implements delivery.Store.
func (s *Store) RetryAll(ctx context.Context, now time.Time) (n int64, err error) {
	e := entry(ctx, audit.MessageRetry, now)
	err = s.engine.Write(func(tx engine.Tx) (err error) {
		n, err = tx.Exec(retryUpdate+`state IN ('deferred', 'failed')`, engine.Micros(now))
		if err != nil || n == 0 {
			return err
		}
		return e.about(fmt.Sprintf("%d messages", n)).add(tx)
	})
	return n, err
}

// discardedNow sets the columns of a message that is discarded at $2 for the reason $3. It keeps
// the relay's last answer.
const discardedNow = `state = 'discarded', due = CAST($2 AS BIGINT), ended = CAST($2 AS BIGINT),
	answer = CAST($3 AS TEXT) || CASE WHEN answer = '' THEN '' ELSE '` + delivery.LastAnswer + `' || answer END`

// Discard implements delivery.Store.
func (s *Store) Discard(ctx context.Context, message mailmsg.ID, why string,
	now time.Time) (delivery.Delivery, error) {
	return s.changeDelivery(ctx, audit.MessageDiscard, message, now, func(tx engine.Tx, d delivery.Delivery) error {
		if d.State == delivery.Discarded { // keep the first reason and time
			return nil
		}
		n, err := tx.Exec(`UPDATE delivery SET `+discardedNow+`
			WHERE message = $1 AND state NOT IN ('sent', 'written')`,
			message[:], engine.Micros(now), why)
		if err == nil && n == 0 {
			err = fault.New(fault.Conflict, "the message was %s already and cannot be discarded", d.State)
		}
		return err
	})
}

// Backlog implements delivery.Store.
func (s *Store) Backlog(ctx context.Context) (b delivery.Backlog, err error) {
	err = s.engine.Reads(ctx).Each(func(row engine.Scanner) error {
		var state string
		var n, since int64
		if err := row.Scan(&state, &n, &since); err != nil {
			return err
		}
		switch delivery.State(state) {
		case delivery.Waiting:
			b.Waiting += n
		case delivery.Deferred:
			b.Deferred += n
		default:
			return nil
		}
		if at := engine.FromMicros(since); b.Oldest.IsZero() || at.Before(b.Oldest) {
			b.Oldest = at
		}
		return nil
	}, `SELECT state, count(*), min(since) FROM delivery WHERE due IS NOT NULL AND node = $1 GROUP BY state`,
		s.nodeName())
	return b, err
}

// unsentScan is how many messages Unsent examines.
const unsentScan = 2000

// Unsent implements operator.MessageStore.
func (s *Store) Unsent(ctx context.Context, tenant int64, state delivery.State, limit int) (
	[]delivery.Delivery, error) {
	return deliveries(s.engine.Reads(ctx), `WHERE d.message IN (
			SELECT message FROM delivery WHERE state = $1 ORDER BY since DESC LIMIT $2)
		AND d.state = $1 AND +a.tenant = $3 ORDER BY d.since DESC, d.message LIMIT $4`, // without the index on tenant
		string(state), unsentScan, tenant, limit)
}
