package postgres

import (
	"context"

	"dialtone/internal/store/engine"
)

// Measures implements engine.Measurer.
func (e *Engine) Measures() engine.Measures { return e.queue.Measures() }

// Load implements engine.Measurer. The size of the database is the one that its server reports. The
// WAL belongs to the whole server, and only its administrators may know its size.
func (e *Engine) Load(ctx context.Context) (engine.Load, error) {
	stat := e.pool.Stat()
	l := engine.Load{Waiting: e.queue.Waiting(), WAL: -1, Pool: &engine.Pool{
		Used: int(stat.AcquiredConns()), Idle: int(stat.IdleConns()), Max: int(stat.MaxConns()),
		Waits: stat.EmptyAcquireCount(),
	}}
	var err error
	l.Database, err = engine.Count(e.Reads(ctx), `SELECT pg_database_size(current_database())`)
	return l, err
}
