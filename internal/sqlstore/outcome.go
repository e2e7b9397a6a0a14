package sqlstore

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

// outcome is what is known of a transaction.
type outcome int

const (
	nothing outcome = iota // it has not happened
	done                   // it has
	unknown                // it may have
)

// unavailable is what a person is told while the database is away.
func unavailable(why error) error {
	return &fault.Error{
		Kind: fault.Overloaded, Message: "the store cannot be reached at the moment; nothing was saved, send the same again in a moment",
		RetryAfter: 2 * time.Second, Cause: why,
	}
}

// away are the SQLSTATEs of a server that is on its way out or not there yet, or is the wrong one
// (PostgreSQL 15, appendix A).
func away(code string) bool {
	return strings.HasPrefix(code, "57P") || strings.HasPrefix(code, "08") || strings.HasPrefix(code, "25006") || code == "53300"
}

// passing are those of a transaction that may succeed when it is run again: a deadlock or a serialization failure, and what else
// two transactions meet that run at once: a row that came or went between a check and a write.
func passing(code string) bool {
	return code == "40001" || code == "40P01" || code == "23505" || code == "23503"
}

// answered is the server's own error where it refused a statement and went on, and nil where the connection is in doubt.
func answered(err error) *pgconn.PgError {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok || pg.SeverityUnlocalized != "ERROR" && pg.Severity != "ERROR" {
		return nil
	}
	return pg
}

// lost reports whether an error is the connection's, or that of a server which is away. Any other is one of ours.
func lost(err error) bool {
	if pg := answered(err); pg != nil {
		return away(pg.Code)
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

// told is an error as the rest of the program has it: fault.Overloaded where the database is away or took too long.
func (p *postgres) told(err error) error {
	if err == nil || fault.KindOf(err) != fault.Internal || !lost(err) {
		return err
	}
	p.gate.doubt()
	return unavailable(err)
}
