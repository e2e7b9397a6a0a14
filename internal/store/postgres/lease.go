package postgres

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"dialtone/internal/store/engine"
)

// lease is how long the heartbeat of a node must remain unchanged before another node may take over
// its work. It is longer than a restart takes, since a restarted node does its own work.
var lease = time.Minute // changed by tests

// nodeSeen is another node's last heartbeat, and when it last changed by the monotonic clock of
// this process. Wall clocks of different machines are never compared.
type nodeSeen struct {
	heartbeat int64
	since     time.Time
}

// Node implements engine.Node.
func (e *Engine) Node() string { return e.name }

// claimTimeout is how long Claim waits for a heartbeat of another process. A heartbeat comes every
// ten seconds, and may take five.
var claimTimeout = 25 * time.Second // changed by tests

// claimInterval is how often Claim looks for that heartbeat.
const claimInterval = 250 * time.Millisecond

// claimant is the process that holds the name of a node, according to its row.
type claimant struct {
	beat     int64 // 0 if there is no row
	instance string
}

func (e *Engine) claimant(ctx context.Context) (c claimant, err error) {
	err = e.Reads(ctx).Row(`SELECT beat, instance FROM node WHERE id = $1`, e.name).Scan(&c.beat, &c.instance)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return c, err
}

// Claim implements engine.Node.
func (e *Engine) Claim(ctx context.Context, place string, waiting func()) error {
	if e.name == "" {
		return nil
	}
	first, err := e.claimant(ctx)
	if err != nil {
		return err
	}
	if at, _, named := strings.Cut(first.instance, " "); named && (at != place || place == "") {
		waiting()
		for end := time.Now().Add(claimTimeout); time.Now().Before(end); {
			if err := sleep(ctx, claimInterval); err != nil {
				return err
			}
			now, err := e.claimant(ctx)
			if err != nil {
				return err
			}
			if now.instance == "" { // the other process ended, or others have taken over its messages
				first = now
				break
			}
			if now != first {
				return engine.ErrNodeAlive
			}
		}
	}
	instance := place + " " + rand.Text()
	err = e.Write(func(tx engine.Tx) error {
		// Exactly one of several concurrent claims finds the row unchanged.
		n, err := tx.Exec(`INSERT INTO node (id, beat, binding_beat, instance) VALUES ($1, 1, 1, $2)
			ON CONFLICT (id) DO UPDATE SET beat = node.beat + 1, binding_beat = node.beat + 1, instance = $2
				WHERE node.beat = $3 AND node.instance = $4 OR node.instance = $2`,
			e.name, instance, first.beat, first.instance)
		if err == nil && n == 0 {
			err = engine.ErrNodeAlive
		}
		return err
	})
	if err == nil {
		e.instance = instance
	}
	return err
}

// release records that this process has ended, so that the next one need not wait.
func (e *Engine) release() {
	if e.instance == "" {
		return
	}
	// If it fails, the next process waits.
	_ = e.Write(func(tx engine.Tx) error {
		_, err := tx.Exec(`UPDATE node SET instance = '' WHERE id = $1 AND instance = $2`, e.name, e.instance)
		return err
	})
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// Heartbeat implements engine.Node. Without Claim, it takes the name from any other process.
func (e *Engine) Heartbeat(ctx context.Context, also func(engine.Tx) error) ([]engine.ExpiredLease, error) {
	err := e.Write(func(tx engine.Tx) error {
		n, err := tx.Exec(`INSERT INTO node (id, beat, binding_beat, instance) VALUES ($1, 1, 1, $2)
			ON CONFLICT (id) DO UPDATE SET beat = node.beat + 1, binding_beat = node.beat + 1, instance = $2
				WHERE node.instance = $2 OR $2 = ''`, e.name, e.instance)
		if err != nil {
			return err
		} else if n == 0 {
			return engine.ErrNodeAlive
		}
		return also(tx)
	})
	if err != nil {
		return nil, err
	}
	return e.expired(ctx)
}

// expired returns the other nodes whose heartbeat has not changed for the length of a lease.
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

// Watch implements engine.Notifier. It listens on a separate connection, and opens a new one when
// that breaks. A connection through a pooler cannot listen, so there Watch does nothing.
func (e *Engine) Watch(ctx context.Context, changed func()) {
	if e.pooled() {
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
