package postgres

import (
	"context"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"dialtone/internal/account"
	"dialtone/internal/store/admission"
	"dialtone/internal/store/engine"
)

const OperationTimeout = operationTimeout

// SetLease changes the lease of all nodes and returns a function that undoes that.
func SetLease(d time.Duration) (restore func()) {
	before := lease
	lease = d
	return func() { lease = before }
}

// SetClaimTimeout changes how long Claim waits and returns a function that undoes that.
func SetClaimTimeout(d time.Duration) (restore func()) {
	before := claimTimeout
	claimTimeout = d
	return func() { claimTimeout = before }
}

// BreakerErr returns why the circuit breaker is open, or nil.
func (e *Engine) BreakerErr() error { return e.breaker.open() }

// WaitForBreaker returns when the circuit breaker is closed.
func (e *Engine) WaitForBreaker(ctx context.Context) { e.breaker.wait(ctx) }

func (e *Engine) Pool() *pgxpool.Pool { return e.pool }

// KnowNext makes the engine accept one more version of the schema, as the next version of the
// program does.
func (e *Engine) KnowNext() { e.known++ }

func (e *Engine) Expired(ctx context.Context) ([]engine.ExpiredLease, error) { return e.expired(ctx) }

func Answered(err error) *pgconn.PgError { return answered(err) }

// WriteRow scans the row of a query in a write.
func (e *Engine) WriteRow(query string, dst ...any) error {
	return e.Write(func(tx engine.Tx) error { return tx.Row(query).Scan(dst...) })
}

// NewTx returns the transaction that conn is in.
func NewTx(ctx context.Context, conn *pgx.Conn) *Tx { return &Tx{ctx: ctx, conn: conn} }

// CreateGroup commits signups as one group and returns the error of each.
func (e *Engine) CreateGroup(signups []account.Signup, now time.Time) []error {
	var group []*job
	for _, a := range signups {
		group = append(group, &job{Work: signup{a, now}, Keys: admission.Keys(a)})
	}
	e.admitAll(group)
	errs := make([]error, len(group))
	for i, j := range group {
		errs[i] = j.Err
	}
	return errs
}

// FillPool opens the maximum number of connections of the pool, and returns it.
func (e *Engine) FillPool(t *testing.T) int {
	t.Helper()
	var held []*pgxpool.Conn
	for range e.pool.Config().MaxConns {
		c, err := e.pool.Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, c)
	}
	for _, c := range held {
		c.Release()
	}
	return len(held)
}

// SchemaText returns what schema.txt must contain for a database with what the migrations create
// and nothing else.
func (e *Engine) SchemaText(ctx context.Context) (string, error) {
	made := make(objects)
	err := e.Reads(ctx).Each(func(row engine.Scanner) error {
		var key string
		err := row.Scan(&key)
		made[key] = ""
		return err
	}, `SELECT 'table ' || relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
		UNION ALL SELECT 'function ' || proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace`)
	if err != nil {
		return "", err
	}
	var text strings.Builder
	err = e.pinned(ctx, func(q engine.Querier, path []string) error {
		found, _, _, err := readSchema(q, path, made)
		text.Reset()
		for _, key := range slices.Sorted(maps.Keys(found)) {
			text.WriteString(key + "\t" + strings.ReplaceAll(found[key], "public.", schemaMark+".") + "\n")
		}
		return err
	})
	return text.String(), err
}

// Connect opens a connection for a few statements.
var Connect = connect

// BuiltIn are the functions of PostgreSQL that nobody may replace.
var BuiltIn = builtIn
