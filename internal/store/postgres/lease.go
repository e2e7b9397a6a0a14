package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"dialtone/internal/store/engine"
)

// lease is how long the heartbeat of a node must stand still before another node may take over
// its work. It is longer than a restart takes, since a node that comes back does its own work.
var lease = time.Minute // changed by tests

// nodeSeen is the heartbeat of another node, and since when it has stood still by the monotonic
// clock of this process. No wall clock is compared with that of another machine.
type nodeSeen struct {
	heartbeat int64
	since     time.Time
}

// Node implements engine.Node.
func (e *Engine) Node() string { return e.name }

// Heartbeat implements engine.Node.
func (e *Engine) Heartbeat(ctx context.Context, also func(engine.Tx) error) ([]engine.ExpiredLease, error) {
	err := e.Write(func(tx engine.Tx) error {
		_, err := tx.Exec(`INSERT INTO node (id, beat, binding_beat) VALUES ($1, 1, 1)
			ON CONFLICT (id) DO UPDATE SET beat = node.beat + 1, binding_beat = node.beat + 1`, e.name)
		if err != nil {
			return err
		}
		return also(tx)
	})
	if err != nil {
		return nil, err
	}
	return e.expired(ctx)
}

// expired returns the other nodes whose heartbeat has stood still for the lease.
func (e *Engine) expired(ctx context.Context) (list []engine.ExpiredLease, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	seen := make(map[string]nodeSeen)
	err = e.Reads(ctx).Each(func(row engine.Scanner) error {
		var id string
		var s nodeSeen
		if err := row.Scan(&id, &s.heartbeat); err != nil {
			return err
		}
		s.since = now
		if before, known := e.others[id]; known && before.heartbeat == s.heartbeat {
			s.since = before.since
		}
		seen[id] = s
		if now.Sub(s.since) >= lease {
			list = append(list, engine.ExpiredLease{Node: id, Heartbeat: s.heartbeat})
		}
		return nil
	}, `SELECT id, beat FROM node WHERE id <> $1`, e.name)
	if err != nil {
		return nil, err
	}
	e.others = seen
	return list, nil
}

// Watch implements engine.Notifier. It listens on a connection of its own, and opens a new one when
// that breaks. A connection through a pooler cannot listen, so there Watch does nothing.
func (e *Engine) Watch(ctx context.Context, changed func()) {
	if e.settings != nil {
		return
	}
	for ctx.Err() == nil {
		e.breaker.wait(ctx)
		e.listen(ctx, changed)
		pause(ctx, 50)
	}
}

func (e *Engine) listen(ctx context.Context, changed func()) {
	conn, err := pgx.ConnectConfig(ctx, e.pool.Config().ConnConfig)
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
