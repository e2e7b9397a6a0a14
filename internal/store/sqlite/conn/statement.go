package conn

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"modernc.org/libc"
	lib "modernc.org/sqlite/lib"
)

// statement is a prepared statement. It stays prepared until the connection is closed.
type statement struct {
	c      *Conn
	text   string
	handle uintptr
	// order holds, for each parameter, the index of its argument. SQLite numbers the parameters by
	// their first occurrence in the text, and not by the number after $.
	order []int
	// buffer is C memory that holds the bound text and blobs. SQLite does not copy them.
	buffer uintptr
	size   int // of buffer
	row    Row
}

// statement returns the prepared statement for a text, and prepares it the first time.
func (c *Conn) statement(text string) (*statement, error) {
	if c.last != nil && c.last.text == text { // often the same statement runs again, and its text need not be hashed
		return c.last, nil
	}
	if s := c.prepared[text]; s != nil {
		c.last = s
		return s, nil
	}
	sql, err := libc.CString(text)
	if err != nil {
		return nil, err
	}
	defer libc.Xfree(c.tls, sql)
	handle, tail, err := c.compile(sql, lib.SQLITE_PREPARE_PERSISTENT)
	if err != nil {
		return nil, err
	}
	s := &statement{c: c, text: text, handle: handle}
	s.row.s = s
	if handle == 0 || strings.TrimSpace(libc.GoString(tail)) != "" {
		s.finalize()
		return nil, fmt.Errorf("not exactly one statement: %s", text)
	}
	for i := range lib.Xsqlite3_bind_parameter_count(c.tls, handle) {
		name := libc.GoString(lib.Xsqlite3_bind_parameter_name(c.tls, handle, i+1))
		number, err := strconv.Atoi(strings.TrimPrefix(name, "$"))
		if err != nil || number < 1 {
			s.finalize()
			return nil, fmt.Errorf("the parameters must be $1, $2 and so on: %s", text)
		}
		s.order = append(s.order, number-1)
	}
	c.prepared[text] = s
	return s, nil
}

// finalize releases the statement.
func (s *statement) finalize() {
	lib.Xsqlite3_finalize(s.c.tls, s.handle)
	libc.Xfree(s.c.tls, s.buffer)
}

// Exec runs a statement to its end and ignores its rows. It returns how many rows an INSERT, UPDATE
// or DELETE changed; after another statement the number is meaningless.
func (c *Conn) Exec(text string, args ...any) (changed int64, err error) {
	err = c.run(text, args, func(*Row) (more bool, err error) { return true, nil })
	if err != nil {
		return 0, err
	}
	return lib.Xsqlite3_changes64(c.tls, c.db), nil
}

// Row runs a statement up to its first row and scans that row into dst. If there is no row, it
// returns sql.ErrNoRows.
func (c *Conn) Row(dst []any, text string, args ...any) error {
	found := false
	err := c.run(text, args, func(row *Row) (more bool, err error) {
		found = true
		return false, row.Scan(dst...)
	})
	if err == nil && !found {
		return sql.ErrNoRows
	}
	return err
}

// Each runs a statement and calls f for every row. It stops at the first error of f and returns it.
// If ctx is done, it aborts the statement and returns the error of ctx.
func (c *Conn) Each(ctx context.Context, f func(*Row) error, text string, args ...any) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if ctx.Done() != nil {
		interrupted := make(chan struct{})
		stop := context.AfterFunc(ctx, func() {
			defer close(interrupted)
			c.interrupt()
		})
		defer func() {
			if !stop() {
				<-interrupted // an interrupt that came later would abort the next statement
			}
		}()
	}
	err := c.run(text, args, func(row *Row) (more bool, err error) {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		return true, f(row)
	})
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// run binds the arguments, runs the statement, and calls each for every row until it returns false
// or an error. It always resets the statement.
func (c *Conn) run(text string, args []any, each func(*Row) (more bool, err error)) error {
	s, err := c.statement(text)
	if err != nil {
		return err
	}
	if err := s.bind(args); err != nil {
		return err
	}
	defer lib.Xsqlite3_reset(c.tls, s.handle) // its result repeats that of the last step
	for {
		switch rc := lib.Xsqlite3_step(c.tls, s.handle); rc {
		case lib.SQLITE_ROW:
			if more, err := each(&s.row); err != nil || !more {
				return err
			}
		case lib.SQLITE_DONE:
			return nil
		default:
			return c.fault(rc)
		}
	}
}

// bind sets the arguments of the statement: nil, bool, int, int64, float64, string, []byte, and
// values that database/sql converts to one of these. A nil []byte is NULL.
func (s *statement) bind(args []any) error {
	args, size, err := convert(args)
	if err != nil {
		return err
	}
	if err := s.reserve(size); err != nil {
		return err
	}
	tls, free := s.c.tls, s.buffer
	for i, place := range s.order {
		if place >= len(args) {
			return fmt.Errorf("argument $%d is missing", place+1)
		}
		var rc int32
		n := int32(i + 1)
		switch v := args[place].(type) {
		case nil:
			rc = lib.Xsqlite3_bind_null(tls, s.handle, n)
		case bool:
			var number int64
			if v {
				number = 1
			}
			rc = lib.Xsqlite3_bind_int64(tls, s.handle, n, number)
		case int:
			rc = lib.Xsqlite3_bind_int64(tls, s.handle, n, int64(v))
		case int64:
			rc = lib.Xsqlite3_bind_int64(tls, s.handle, n, v)
		case float64:
			rc = lib.Xsqlite3_bind_double(tls, s.handle, n, v)
		case string:
			copy(bytesAt(free, len(v)), v)
			rc = lib.Xsqlite3_bind_text(tls, s.handle, n, free, int32(len(v)), 0)
			free += uintptr(len(v))
		case []byte:
			if v == nil {
				rc = lib.Xsqlite3_bind_null(tls, s.handle, n)
				break
			}
			copy(bytesAt(free, len(v)), v)
			rc = lib.Xsqlite3_bind_blob(tls, s.handle, n, free, int32(len(v)), 0)
			free += uintptr(len(v))
		}
		if rc != lib.SQLITE_OK {
			return s.c.fault(rc)
		}
	}
	return nil
}

// convert returns the arguments as the types that bind supports, and the total size of their text
// and blobs in bytes.
func convert(args []any) (list []any, size int, err error) {
	list = args
	for i := 0; i < len(list); i++ {
		switch v := list[i].(type) {
		case nil, bool, int, int64, float64:
		case string:
			size += len(v)
		case []byte:
			size += len(v)
		case time.Time:
			return nil, 0, fmt.Errorf("argument $%d is a time.Time; the store keeps times as microseconds", i+1)
		default:
			value, err := driver.DefaultParameterConverter.ConvertValue(v)
			if err != nil {
				return nil, 0, fmt.Errorf("argument $%d: %w", i+1, err)
			}
			list = slices.Clone(list)
			list[i] = value
			i-- // the loop visits the converted value
		}
	}
	return list, size, nil
}

// reserve makes buffer large enough for size bytes. The statement must not be running, because it
// uses the buffer.
func (s *statement) reserve(size int) error {
	if size < s.size {
		return nil
	}
	libc.Xfree(s.c.tls, s.buffer)
	s.buffer, s.size = 0, 0
	n := size + 256
	p, err := s.c.alloc(n)
	if err == nil {
		s.buffer, s.size = p, n
	}
	return err
}
