package store

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/delivery"
	"dialtone/internal/fault"
	"dialtone/internal/mailmsg"
	"dialtone/internal/outbox"
	"dialtone/internal/store/engine"
)

var _ outbox.Store = (*Store)(nil)

// Pending implements outbox.Store.
func (s *Store) Pending(ctx context.Context) ([]outbox.Entry, error) {
	return pendingEntries(s.engine.Reads(ctx), `($1 = '' OR o.node = $1)`, s.nodeName())
}

// pendingEntries returns the outbox rows that a condition selects, with their accounts.
func pendingEntries(q engine.Querier, condition string, args ...any) (list []outbox.Entry, err error) {
	err = q.Each(func(row engine.Scanner) (err error) {
		var e outbox.Entry
		var message []byte
		var made, until int64
		var kind, address string
		a, err := scanAccount(row, &message, &e.SealedToken, &made, &kind, &address, &until, &e.Net, &e.Detail,
			&e.Replaced)
		if err != nil {
			return err
		}
		e.Tenant, e.Account, e.User, e.Email, e.Lang = a.Tenant, a.UID, a.User, a.Email, a.Lang
		copy(e.Message[:], message)
		e.Kind, e.Detail = messageKind(kind, e.Detail)
		e.Made, e.Expires = a.Created, a.Expires
		if made > 0 {
			e.Made, e.Resent = engine.FromMicros(made), e.Kind == mailmsg.Activation
		}
		if address != "" {
			e.Email = address
		}
		if until > 0 {
			e.Expires = engine.FromMicros(until)
		}
		list = append(list, e)
		return nil
	}, `SELECT o.message, o.token, o.made, o.kind, o.address, o.until, o.net, o.detail,
		o.kind = '' AND EXISTS (SELECT 1 FROM outbox n
			WHERE n.account = o.account AND n.turn > o.turn AND n.kind = ''), `+
		accountColumns+`
		FROM outbox o JOIN account ON uid = o.account WHERE `+condition+` ORDER BY o.account, o.turn`, args...)
	return list, err
}

// Ack implements outbox.Store.
func (s *Store) Ack(ctx context.Context, messages []outbox.Ref, now time.Time) (left []outbox.Ref, err error) {
	created, err := s.hasCreatedHooks(ctx)
	if err != nil {
		return messages, err
	}
	later, err := s.laterMessages(ctx, messages)
	if err != nil {
		return messages, err
	}
	defer s.signalAdded()
	return inChunks(s.engine, messages, func(tx engine.Tx, m outbox.Ref) error {
		if later[m.Message] || firstMessageLate(m.Account, now) {
			if err := insertDelivery(tx, m, delivery.Written, now, nil); err != nil {
				return err
			}
		}
		return ack(tx, m, created)
	})
}

// laterMessages returns those of the messages that are not the first of an account. Signups have none.
func (s *Store) laterMessages(ctx context.Context, messages []outbox.Ref) (map[mailmsg.ID]bool, error) {
	later := make(map[mailmsg.ID]bool)
	for some := range slices.Chunk(messages, 256) {
		args := make([]any, len(some))
		for i := range some {
			args[i] = some[i].Account[:]
		}
		err := s.engine.Reads(ctx).Each(func(row engine.Scanner) error {
			var message []byte
			err := row.Scan(&message)
			later[mailmsg.ID(append(message, make([]byte, 16)...))] = true
			return err
		}, `SELECT message FROM outbox WHERE account IN (`+engine.Placeholders(1, len(args))+`)
			AND (made > 0 OR kind <> '')`, args...)
		if err != nil {
			return nil, err
		}
	}
	return later, nil
}

// firstMessageLate reports whether the first message of an account is written noticeably later than
// the account was created: a command created the account, or the pickup directory failed.
func firstMessageLate(uid account.UID, now time.Time) bool {
	const noticeable = 10 * time.Second
	bound := account.FirstUID(now.Add(-noticeable))
	return bytes.Compare(uid[:], bound[:]) < 0
}

// insertDelivery adds the delivery of a message that is in the outbox.
func insertDelivery(tx engine.Tx, m outbox.Ref, state delivery.State, now time.Time, due *int64) error {
	// The account may have another address by now. The replaced link of the next message then has
	// the one before.
	_, err := tx.Exec(`INSERT INTO delivery (message, account, node, state, since, expires, due, attempts, answer,
			email, kind)
		SELECT o.message, o.account, o.node, CAST($4 AS TEXT), CAST($3 AS BIGINT),
			COALESCE(NULLIF(o.until, 0), a.expires), CAST($5 AS BIGINT), 0, '',
			COALESCE(NULLIF(o.address, ''), (SELECT r.email FROM outbox n
				JOIN replaced r ON r.account = n.account AND r.message = n.message
				WHERE n.account = o.account AND n.turn > o.turn AND r.email <> '' ORDER BY n.turn LIMIT 1), a.email),
			CASE WHEN o.kind = '' THEN CAST($6 AS TEXT)
				WHEN o.kind = CAST($7 AS TEXT) AND o.detail = $8 THEN $9 ELSE o.kind END
		FROM outbox o JOIN account a ON a.uid = o.account WHERE o.account = $1 AND o.message = $2
		ON CONFLICT (message) DO NOTHING`, m.Account[:], m.Message[:], engine.Micros(now), string(state), due,
		account.KindName(mailmsg.Activation), string(mailmsg.Reset), firstPassword, string(mailmsg.SetPassword))
	return err
}

// ack removes the row of a message whose file is durable. With created it notifies hooks of a new account.
func ack(tx engine.Tx, m outbox.Ref, created bool) error {
	// One sync of the directory makes all older activation messages that this node wrote durable,
	// so their rows are removed too.
	const rows = ` AND (o.message = $2 OR EXISTS (SELECT 1 FROM outbox n
		WHERE n.account = $1 AND n.message = $2 AND n.turn > o.turn AND n.node = o.node
			AND n.kind = '' AND o.kind = ''))`
	if created {
		if err := insertCreated(tx, m.Account, rows, m.Message[:]); err != nil {
			return err
		}
	}
	_, err := tx.Exec(`DELETE FROM outbox AS o WHERE o.account = $1`+rows, m.Account[:], m.Message[:])
	if err != nil {
		return err
	}
	_, err = tx.Exec(`UPDATE replaced SET email = '' WHERE account = $1 AND message = $2 AND email <> ''`,
		m.Account[:], m.Message[:])
	return err
}

// Enqueue implements outbox.Store.
func (s *Store) Enqueue(ctx context.Context, messages []outbox.Ref,
	now time.Time) (left []outbox.Ref, err error) {
	created, err := s.hasCreatedHooks(ctx)
	if err != nil {
		return messages, err
	}
	defer s.signalAdded()
	return inChunks(s.engine, messages, func(tx engine.Tx, m outbox.Ref) error {
		due := engine.Micros(now)
		if err := insertDelivery(tx, m, delivery.Waiting, now, &due); err != nil {
			return err
		}
		// The newest activation link is on disk, so no older one comes back. Messages that were
		// queued before this one was created are older, on any node. For the first message of a
		// signup, made is 0. A message with a time in the future was queued while a clock was
		// ahead.
		_, err := tx.Exec(`UPDATE delivery SET `+discardedNow+`
			WHERE account = $1 AND message <> $4 AND state IN ('waiting', 'deferred', 'failed')
				AND (since < (SELECT made FROM outbox WHERE account = $1 AND message = $4 AND kind = '')
					OR since > $5 AND EXISTS (SELECT 1 FROM outbox
						WHERE account = $1 AND message = $4 AND made > 0 AND kind = ''))`,
			m.Account[:], engine.Micros(now), account.ErrReplaced.Error(), m.Message[:],
			engine.Micros(now.Add(maxSkew)))
		if err != nil {
			return err
		}
		return ack(tx, m, created)
	})
}

// takeOver holds the state that TakeOver keeps between calls.
type takeOver struct {
	mu       sync.Mutex
	doubtful [][]byte // accounts whose outbox rows may belong to this node since a commit in doubt
}

// TakeOver implements outbox.Store.
func (s *Store) TakeOver(ctx context.Context) (list []outbox.Entry, err error) {
	if s.node == nil {
		return s.takeUnowned(ctx)
	}
	if s.nodeName() == "" {
		return nil, nil
	}
	expired, err := s.node.Heartbeat(ctx, func(tx engine.Tx) error {
		// A node whose lease has expired and that has rows again gets a row here. Its lease thus
		// starts now, even if it never records another heartbeat.
		_, err := tx.Exec(`INSERT INTO node (id, beat) SELECT DISTINCT node, 0 FROM outbox o WHERE node <> ''
			AND NOT EXISTS (SELECT 1 FROM node WHERE id = o.node) ORDER BY node ON CONFLICT DO NOTHING`)
		return err
	})
	if err != nil {
		return nil, err
	}
	if list, err = s.takeUnowned(ctx); err != nil {
		return nil, err
	}
	more, err := s.TakeOverFrom(ctx, expired)
	return append(list, more...), err
}

// unowned is the node of outbox rows that no server added: those of commands and, with nodes, also
// those that were copied from another store.
func (s *Store) unowned() string {
	if s.node == nil {
		return "-" // the only server has the empty name
	}
	return ""
}

// takeUnowned takes over the rows that no server added. After a commit in doubt, these may include
// rows of a server that has died.
func (s *Store) takeUnowned(ctx context.Context) ([]outbox.Entry, error) {
	n, err := engine.Count(s.engine.Reads(ctx), `SELECT count(*) FROM outbox WHERE node = $1`, s.unowned())
	if err != nil || n == 0 && !s.inDoubt() {
		return nil, err
	}
	list, err := s.take(func(tx engine.Tx) ([][]byte, error) { return moveOutbox(tx, s.unowned(), s.nodeName()) })
	for i := range list {
		list[i].Unowned = true
	}
	return list, err
}

// TakeOverFrom takes over the outbox rows of nodes whose lease has expired, unless they have
// recorded a heartbeat since.
func (s *Store) TakeOverFrom(_ context.Context,
	expired []engine.ExpiredLease) (list []outbox.Entry, err error) {
	for _, lease := range expired {
		more, err := s.take(func(tx engine.Tx) ([][]byte, error) {
			removed, err := removeNode(tx, lease)
			if err != nil || !removed { // it is alive, or another node takes over
				return nil, err
			}
			return moveOutbox(tx, lease.Node, s.nodeName())
		})
		if err != nil {
			return list, err
		}
		list = append(list, more...)
	}
	return list, nil
}

// removeNode removes a node whose lease has expired, unless it has recorded a heartbeat since. It
// reports whether it did: exactly one of several nodes that see the lease expire removes the node.
func removeNode(tx engine.Tx, l engine.ExpiredLease) (bool, error) {
	n, err := tx.Exec(`DELETE FROM node WHERE id = $1 AND beat = $2`, l.Node, l.Heartbeat)
	return n > 0, err
}

// moveOutbox gives the outbox rows of one node to another, and returns their accounts.
func moveOutbox(tx engine.Tx, from, to string) (accounts [][]byte, err error) {
	err = tx.Each(func(row engine.Scanner) error {
		var uid []byte
		err := row.Scan(&uid)
		accounts = append(accounts, uid)
		return err
	}, `UPDATE outbox SET node = $1 WHERE node = $2 RETURNING account`, to, from)
	return accounts, err
}

// take runs do, which gives outbox rows to this node and returns their accounts, and returns the
// entries of these rows. From then on, no other node writes their messages. If the commit is in
// doubt, take therefore remembers the accounts, and the next call returns those of their entries
// that belong to this node.
func (s *Store) take(do func(engine.Tx) ([][]byte, error)) (list []outbox.Entry, err error) {
	s.takeOver.mu.Lock()
	defer s.takeOver.mu.Unlock()
	candidates := s.takeOver.doubtful
	err = s.engine.Write(func(tx engine.Tx) error {
		moved, err := do(tx) // waits for an earlier run that has not ended
		if err != nil {
			return err
		}
		candidates = append(candidates, moved...)
		accounts := make(map[account.UID]bool)
		for _, uid := range candidates {
			accounts[account.UID(uid)] = true
		}
		list, err = pendingEntries(tx, `o.node = $1`, s.nodeName())
		list = slices.DeleteFunc(list, func(e outbox.Entry) bool { return !accounts[e.Account] })
		return err
	})
	if err == nil {
		s.takeOver.doubtful = nil
	} else if list = nil; errors.Is(err, fault.ErrInDoubt) {
		s.takeOver.doubtful = candidates
	}
	return list, err
}

func (s *Store) inDoubt() bool {
	s.takeOver.mu.Lock()
	defer s.takeOver.mu.Unlock()
	return len(s.takeOver.doubtful) > 0
}
