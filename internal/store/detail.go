package store

import (
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"slices"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/delivery"
	"dialtone/internal/mailmsg"
	"dialtone/internal/operator"
	"dialtone/internal/store/engine"
)

var _ operator.Store = (*Store)(nil)

// FactorsOf implements operator.DetailStore.
func (s *Store) FactorsOf(ctx context.Context, uid account.UID) (account.DataFactors, error) {
	return factorsOf(s.engine.Reads(ctx), account.Account{UID: uid})
}

// MessagesOf implements operator.DetailStore.
func (s *Store) MessagesOf(ctx context.Context, uid account.UID, limit int) ([]account.DataMessage, error) {
	// The outbox is read first: a message moves from there to the deliveries, so it is seen in at
	// least one of them.
	q := s.engine.Reads(ctx)
	list, err := listOf(q, scanOutboxMessage, outboxMessages+` ORDER BY o.turn DESC, o.message LIMIT $2`, uid[:], limit)
	if err != nil {
		return nil, err
	}
	known := make(map[string]bool)
	for _, m := range list {
		known[m.ID] = true
	}
	sent, err := listOf(q, scanDeliveryMessage,
		deliveryQuery+`WHERE d.account = $1 ORDER BY d.since DESC, d.message LIMIT $2`, uid[:], limit)
	for _, m := range sent {
		if !known[m.ID] {
			list = append(list, m)
		}
	}
	if err != nil || len(list) == 0 {
		return firstMessage(q, uid, err)
	}
	slices.SortStableFunc(list, func(a, b account.DataMessage) int { return b.Since.Compare(a.Since) })
	return list[:min(len(list), limit)], nil
}

// firstMessage returns the activation message of a waiting account that has no message in the
// outbox and no delivery. The message was written to the pickup directory when the account was
// created (see Ack). Its ID is not known. A relay's delivery is kept for as long as the account
// waits.
func firstMessage(q engine.Querier, uid account.UID, err error) ([]account.DataMessage, error) {
	if err != nil {
		return nil, err
	}
	x := account.DataMessage{Kind: account.KindName(mailmsg.Activation), State: string(delivery.Written)}
	var created, expires int64
	err = q.Row(`SELECT email, created, expires FROM account WHERE uid = $1 AND activated IS NULL AND closed IS NULL`,
		uid[:]).Scan(&x.To, &created, &expires)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	ends := engine.FromMicros(expires)
	x.Since, x.Expires = engine.FromMicros(created), &ends
	return []account.DataMessage{x}, err
}

// NewestChanges implements operator.DetailStore.
func (s *Store) NewestChanges(ctx context.Context, host, user string, since time.Time, limit int) ([]audit.Change,
	error) {
	return listOf(s.engine.Reads(ctx), func(row engine.Scanner, c *audit.Change) (err error) {
		*c, err = scanChange(row)
		return err
	}, `SELECT `+changeColumns+` FROM audit WHERE tenant = $1 AND username = $2 AND at >= $3
		ORDER BY id DESC LIMIT $4`, host, user, engine.Micros(since), limit)
}

// ClosedName implements operator.DetailStore.
func (s *Store) ClosedName(ctx context.Context, tenant int64, user string) (n account.ClosedName, err error) {
	if !isText(user) {
		return n, errNoAccount
	}
	var at int64
	err = s.engine.Reads(ctx).Row(`SELECT username, closed FROM account WHERE tenant = $1 AND username = $2
		AND closed IS NOT NULL`, tenant, user).Scan(&n.User, &at)
	if errors.Is(err, sql.ErrNoRows) {
		err = errNoAccount
	}
	n.Closed = engine.FromMicros(at)
	return n, err
}

// AddView implements operator.DetailStore.
func (s *Store) AddView(ctx context.Context, c audit.Change, since time.Time) error {
	e := entry(ctx, c.Action, c.At)
	c.Cause = e.Cause
	e.Change = c
	if known, err := viewSince(s.engine.Reads(ctx), c, since); err != nil || known {
		return err
	}
	return s.engine.Write(func(tx engine.Tx) error {
		if err := tx.Lock(trailLock); err != nil {
			return err
		}
		if known, err := viewSince(tx, c, since); err != nil || known {
			return err
		}
		return e.add(tx)
	})
}

// viewSince reports whether the trail has a change like c that is not older than since.
func viewSince(q engine.Querier, c audit.Change, since time.Time) (known bool, err error) {
	var at int64
	err = q.Row(`SELECT at FROM audit WHERE tenant = $1 AND username = $2 AND account = $3 AND action = $4
		AND actor_kind = $5 AND actor = $6 AND actor_id = $7 AND sudo_user = $8 ORDER BY id DESC LIMIT 1`,
		c.Tenant, c.User, c.Account, string(c.Action), string(c.Actor.Kind), c.Actor.Name, c.Actor.ID, c.Actor.Sudo,
	).Scan(&at)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return at >= engine.Micros(since), err
}

// scanDeliveryMessage reads deliveryQuery.
func scanDeliveryMessage(row engine.Scanner, x *account.DataMessage) error {
	d, err := scanDelivery(row)
	x.ID, x.To, x.State, x.Kind = hex.EncodeToString(d.Message[:]), d.Email, string(d.Shown()), d.Kind
	if !d.Ended.IsZero() {
		x.Ended = &d.Ended
	}
	x.Since, x.Expires, x.Attempts, x.Answer = d.Since, &d.Expires, d.Attempts, d.Answer
	return err
}
