package postgres

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"dialtone/internal/fault"
)

// outcome is what is known about a transaction.
type outcome int

const (
	nothing outcome = iota // it was not committed
	done                   // it was committed
	unknown                // it may have been committed
)

// unavailable returns the fault of a database that cannot be reached.
func unavailable(why error) error {
	return &fault.Error{
		Kind:       fault.Overloaded,
		Message:    "the database cannot be reached, and nothing was saved; try again in a moment",
		RetryAfter: 2 * time.Second, Cause: why,
	}
}

// unreachable reports whether a SQLSTATE is that of a server that is shutting down, starting, full,
// or a standby (PostgreSQL 15, appendix A).
func unreachable(code string) bool {
	return strings.HasPrefix(code, "57P") || strings.HasPrefix(code, "25006") || code == "53300"
}

// transient reports whether a SQLSTATE is that of a transaction that may succeed when it is run
// again: a deadlock, a serialization failure, or a row that another transaction inserted or deleted
// between a check and a write.
func transient(code string) bool {
	return code == "40001" || code == "40P01" || code == "23505" || code == "23503"
}

// answered returns the error of a statement that the server refused on a connection that still
// works, or nil where the connection is in doubt. An error of class 08 comes from a pooler that has
// lost the server.
func answered(err error) *pgconn.PgError {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok || pg.SeverityUnlocalized != "ERROR" && pg.Severity != "ERROR" || strings.HasPrefix(pg.Code, "08") {
		return nil
	}
	return pg
}

// lost reports whether an error is that of a broken connection or of a server that cannot be
// reached. Any other error is a defect of this program.
func lost(err error) bool {
	if pg := answered(err); pg != nil {
		return unreachable(pg.Code)
	}
	if _, fatal := errors.AsType[*pgconn.PgError](err); fatal {
		return true
	}
	_, network := errors.AsType[net.Error](err)
	_, refused := errors.AsType[*pgconn.ConnectError](err)
	_, system := errors.AsType[syscall.Errno](err)
	return network || refused || system || pgconn.Timeout(err) || pgconn.SafeToRetry(err) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// asFault returns err as the rest of the program expects it: as fault.Overloaded where the database
// cannot be reached or took too long.
func (e *Engine) asFault(err error) error {
	if err == nil || fault.KindOf(err) != fault.Internal || !lost(err) {
		return err
	}
	e.breaker.probeNow()
	if why := e.breaker.open(); why != nil && errors.Is(err, context.Canceled) {
		return why // the breaker cancelled the call
	}
	return unavailable(err)
}
