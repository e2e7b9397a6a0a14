package conformance_test

import (
	"context"
	"fmt"
	"sync"

	"dialtone/internal/store/engine"
	"dialtone/internal/store/postgres"
)

// recorder is an engine that records which statements run on it, with which types of arguments, and whether they
// return rows.
type recorder struct {
	*postgres.Engine
	mu  sync.Mutex
	ran map[string]bool
}

func (r *recorder) record(query string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range args {
		query += fmt.Sprintf(" %T", a)
	}
	r.ran[query] = true
}

// take returns what was recorded since the last call.
func (r *recorder) take() map[string]bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	ran := r.ran
	r.ran = make(map[string]bool)
	return ran
}

func (r *recorder) Reads(ctx context.Context) engine.Querier {
	return recordedQuerier{r.Engine.Reads(ctx), r}
}

func (r *recorder) Write(do func(engine.Tx) error) error {
	return r.Engine.Write(func(tx engine.Tx) error { return do(recordedTx{tx, recordedQuerier{tx, r}}) })
}

func (r *recorder) ExecSoon(ctx context.Context, query string, args ...any) (int64, error) {
	r.record(query, args...)
	return r.Engine.ExecSoon(ctx, query, args...)
}

type recordedQuerier struct {
	engine.Querier
	r *recorder
}

func (q recordedQuerier) Row(query string, args ...any) engine.Scanner {
	q.r.record(query, args...)
	return recordedRow{q.Querier.Row(query, args...), q.r, query}
}

func (q recordedQuerier) Each(f func(engine.Scanner) error, query string, args ...any) error {
	q.r.record(query, args...)
	return q.Querier.Each(func(row engine.Scanner) error {
		q.r.record("a row of " + query)
		return f(row)
	}, query, args...)
}

type recordedRow struct {
	engine.Scanner
	r     *recorder
	query string
}

func (r recordedRow) Scan(dst ...any) error {
	err := r.Scanner.Scan(dst...)
	if err == nil {
		r.r.record("a row of " + r.query)
	}
	return err
}

type recordedTx struct {
	engine.Tx
	q recordedQuerier
}

func (t recordedTx) Row(query string, args ...any) engine.Scanner { return t.q.Row(query, args...) }

func (t recordedTx) Each(f func(engine.Scanner) error, query string, args ...any) error {
	return t.q.Each(f, query, args...)
}

func (t recordedTx) Exec(query string, args ...any) (int64, error) {
	t.q.r.record(query, args...)
	return t.Tx.Exec(query, args...)
}
