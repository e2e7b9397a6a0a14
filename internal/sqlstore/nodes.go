package sqlstore

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"dialtone/internal/account"
	"dialtone/internal/outbox"
)

// lease is how long a node's beat must stand still before another node takes over its outbox rows. It is longer than any
// restart, since whoever comes back writes its own messages.
var lease = time.Minute

// sighting is what this node knows of another: how far its beat was, and since when by a clock of our own, so that nobody's
// wall clock matters.
type sighting struct {
	beat  int64
	since time.Time
}

// adopt raises this node's beat and takes over from those that are dead. Of several that see a node dead, one takes over: the
// one that removes it.
func (p *postgres) adopt(ctx context.Context) (list []outbox.Entry, err error) {
	if p.name == "" {
		return nil, nil
	}
	if err := p.gate.closed(); err != nil {
		return nil, err
	}
	err = p.write(func(tx transaction) error {
		if _, err := tx.exec(`INSERT INTO node (id, beat) VALUES ($1, 1) ON CONFLICT (id) DO UPDATE SET beat = node.beat + 1`, p.name); err != nil {
			return err
		}
		// Who was taken for dead and has rows again is missed from now on, whether it ever raises its beat or not.
		_, err := tx.exec(`INSERT INTO node (id, beat) SELECT DISTINCT node, 0 FROM outbox o WHERE node <> ''
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
	// Rows of no node came with a copy of another store.
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

// inherit takes over from nodes, unless their beat has moved.
func (p *postgres) inherit(dead map[string]int64) (list []outbox.Entry, err error) {
	for id, beat := range dead {
		more, err := p.take(func(tx transaction) ([][]byte, error) {
			n, err := tx.exec(`DELETE FROM node WHERE id = $1 AND beat = $2`, id, beat)
			if err != nil || n == 0 { // it lives, or somebody else takes over
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

// move makes one node's outbox rows another's, and names their accounts.
func move(tx transaction, from, to string) (accounts [][]byte, err error) {
	err = tx.each(func(row scanner) error {
		var uid []byte
		err := row.Scan(&uid)
		accounts = append(accounts, uid)
		return err
	}, `UPDATE outbox SET node = $1 WHERE node = $2 RETURNING account`, to, from)
	return accounts, err
}

// take gives the outbox rows that do has made this node's own. Nobody else writes their messages any more: so where it is not known
// whether the commit happened, they are remembered, and the next time gives those that have become ours.
func (p *postgres) take(do func(transaction) ([][]byte, error)) (list []outbox.Entry, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	perhaps := p.doubtful
	err = p.write(func(tx transaction) error {
		moved, err := do(tx) // waits for an earlier run that is still on its way
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

// dead are the other nodes whose beat has stood still for the time of the lease.
func (p *postgres) dead(ctx context.Context) (map[string]int64, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	seen, dead := make(map[string]sighting), make(map[string]int64)
	err := p.reads(ctx).each(func(row scanner) error {
		var id string
		var s sighting
		if err := row.Scan(&id, &s.beat); err != nil {
			return err
		}
		s.since = now
		if before, known := p.others[id]; known && before.beat == s.beat {
			s.since = before.since
		}
		seen[id] = s
		if now.Sub(s.since) >= lease {
			dead[id] = s.beat
		}
		return nil
	}, `SELECT id, beat FROM node WHERE id <> $1`, p.name)
	if err != nil {
		return nil, err
	}
	p.others = seen
	return dead, nil
}

// watch listens on a connection of its own, and gets a new one when that breaks.
func (p *postgres) watch(ctx context.Context, changed func()) {
	for ctx.Err() == nil {
		p.gate.wait(ctx)
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
		changed() // also for what changed while nobody listened
		if _, err := conn.WaitForNotification(ctx); err != nil {
			return
		}
	}
}
