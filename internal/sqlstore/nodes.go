package sqlstore

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"dialtone/internal/account"
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
func (p *postgres) adopt(ctx context.Context) (list []account.Waiting, err error) {
	if p.name == "" {
		return nil, nil
	}
	if err := p.gate.closed(); err != nil {
		return nil, err
	}
	err = p.write(func(tx transaction) error {
		_, err := tx.exec(`INSERT INTO node (id, beat) VALUES ($1, 1) ON CONFLICT (id) DO UPDATE SET beat = node.beat + 1`, p.name)
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
	} else if n > 0 {
		err := p.write(func(tx transaction) error {
			more, err := move(tx, "", p.name)
			if len(more) > 0 || !tx.repeated() {
				list = more
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	more, err := p.inherit(dead)
	return append(list, more...), err
}

// inherit takes over from nodes, unless their beat has moved.
func (p *postgres) inherit(dead map[string]int64) (list []account.Waiting, err error) {
	for id, beat := range dead {
		var more []account.Waiting
		err := p.write(func(tx transaction) error {
			n, err := tx.exec(`DELETE FROM node WHERE id = $1 AND beat = $2`, id, beat)
			switch {
			case err != nil:
				return err
			case n > 0:
				more, err = move(tx, id, p.name)
			case tx.repeated(): // of what was found before, that is ours which is ours
				var uids [][]byte
				for _, w := range more {
					uids = append(uids, w.Account.UID[:])
				}
				more, err = waiting(tx, `SELECT o.message, o.token, `+accountColumns+` FROM outbox o JOIN account ON uid = o.account
					WHERE o.node = $1 AND o.account = ANY ($2::bytea[]) ORDER BY uid`, p.name, uids)
			default: // it lives, or somebody else takes over
				more = nil
			}
			return err
		})
		if err != nil {
			return list, err
		}
		list = append(list, more...)
	}
	return list, nil
}

// move makes one node's outbox rows another's, and gives them.
func move(tx transaction, from, to string) ([]account.Waiting, error) {
	return waiting(tx, `WITH moved AS (UPDATE outbox SET node = $1 WHERE node = $2 RETURNING account, message, token)
		SELECT o.message, o.token, `+accountColumns+` FROM moved o JOIN account ON uid = o.account ORDER BY uid`, to, from)
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
