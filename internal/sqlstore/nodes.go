package sqlstore

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"dialtone/internal/account"
	"dialtone/internal/outbox"
)

// lease is how long the heartbeat of a node must stand still before another node takes over its outbox rows. It is
// longer than a restart takes, since a node that comes back writes its own messages.
var lease = time.Minute

// nodeSeen is the heartbeat of another node, and since when it has stood still by the monotonic clock of this
// process. No wall clock is compared with that of another machine.
type nodeSeen struct {
	heartbeat int64
	since     time.Time
}

// adopt increments the heartbeat of this node and takes over the outbox rows of dead nodes. Of several nodes that see
// a node dead, the one that deletes its row takes over.
func (p *postgres) adopt(ctx context.Context) (list []outbox.Entry, err error) {
	if p.name == "" {
		return nil, nil
	}
	if err := p.breaker.open(); err != nil {
		return nil, err
	}
	err = p.write(func(tx transaction) error {
		_, err := tx.exec(`INSERT INTO node (id, beat) VALUES ($1, 1)
			ON CONFLICT (id) DO UPDATE SET beat = node.beat + 1`, p.name)
		if err != nil {
			return err
		}
		// A node that was taken for dead and has rows again gets a row here. So its lease runs from now on, even if
		// it never increments its heartbeat again.
		_, err = tx.exec(`INSERT INTO node (id, beat) SELECT DISTINCT node, 0 FROM outbox o WHERE node <> ''
			AND NOT EXISTS (SELECT 1 FROM node WHERE id = o.node) ORDER BY node ON CONFLICT DO NOTHING`)
		return err
	})
	if err != nil {
		return nil, err
	}
	dead, err := p.dead(ctx)
	if err != nil {
		return nil, err
	}
	// Rows without a node came with a copy of another store.
	if n, err := count(p.reads(ctx), `SELECT count(*) FROM outbox WHERE node = ''`); err != nil {
		return nil, err
	} else if n > 0 || p.inDoubt() {
		if list, err = p.take(func(tx transaction) ([][]byte, error) { return move(tx, "", p.name) }); err != nil {
			return nil, err
		}
	}
	more, err := p.inherit(dead)
	return append(list, more...), err
}

// inherit takes over the outbox rows of nodes, unless their heartbeat has moved.
func (p *postgres) inherit(dead map[string]int64) (list []outbox.Entry, err error) {
	for id, heartbeat := range dead {
		more, err := p.take(func(tx transaction) ([][]byte, error) {
			n, err := tx.exec(`DELETE FROM node WHERE id = $1 AND beat = $2`, id, heartbeat)
			if err != nil || n == 0 { // it is alive, or another node takes over
				return nil, err
			}
			return move(tx, id, p.name)
		})
		if err != nil {
			return list, err
		}
		list = append(list, more...)
	}
	return list, nil
}

// move gives the outbox rows of one node to another, and returns their accounts.
func move(tx transaction, from, to string) (accounts [][]byte, err error) {
	err = tx.each(func(row scanner) error {
		var uid []byte
		err := row.Scan(&uid)
		accounts = append(accounts, uid)
		return err
	}, `UPDATE outbox SET node = $1 WHERE node = $2 RETURNING account`, to, from)
	return accounts, err
}

// take returns the outbox rows that do has given to this node. No other node writes their messages from then on. So
// when the commit is in doubt, take remembers them, and the next call returns those that belong to this node.
func (p *postgres) take(do func(transaction) ([][]byte, error)) (list []outbox.Entry, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	perhaps := p.doubtful
	err = p.write(func(tx transaction) error {
		moved, err := do(tx) // waits for an earlier run that has not ended
		if err != nil {
			return err
		}
		perhaps = append(perhaps, moved...)
		list, err = waiting(tx, `o.node = $1 AND o.account = ANY ($2::bytea[])`, p.name, perhaps)
		return err
	})
	if err == nil {
		p.doubtful = nil
	} else if list = nil; errors.Is(err, account.ErrUnknown) {
		p.doubtful = perhaps
	}
	return list, err
}

func (p *postgres) inDoubt() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.doubtful) > 0
}

// dead returns the other nodes whose heartbeat has stood still for the lease, with that heartbeat.
func (p *postgres) dead(ctx context.Context) (map[string]int64, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	seen, dead := make(map[string]nodeSeen), make(map[string]int64)
	err := p.reads(ctx).each(func(row scanner) error {
		var id string
		var s nodeSeen
		if err := row.Scan(&id, &s.heartbeat); err != nil {
			return err
		}
		s.since = now
		if before, known := p.others[id]; known && before.heartbeat == s.heartbeat {
			s.since = before.since
		}
		seen[id] = s
		if now.Sub(s.since) >= lease {
			dead[id] = s.heartbeat
		}
		return nil
	}, `SELECT id, beat FROM node WHERE id <> $1`, p.name)
	if err != nil {
		return nil, err
	}
	p.others = seen
	return dead, nil
}

// watch listens for notifications on a connection of its own, and opens a new one when it breaks.
func (p *postgres) watch(ctx context.Context, changed func()) {
	for ctx.Err() == nil {
		p.breaker.wait(ctx)
		p.listen(ctx, changed)
		pause(ctx, 50)
	}
}

func (p *postgres) listen(ctx context.Context, changed func()) {
	conn, err := pgx.ConnectConfig(ctx, p.pool.Config().ConnConfig)
	if err != nil {
		return
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, `LISTEN dialtone_tenant`); err != nil {
		return
	}
	for {
		changed() // also for changes while no connection listened
		if _, err := conn.WaitForNotification(ctx); err != nil {
			return
		}
	}
}
