// Package sqlite is the engine of the store on SQLite: one file for a single server.
//
// # What it guarantees
//
// A commit that returned is on the disk (WAL mode, synchronous=FULL). A commit that failed changed
// nothing, as on a full disk, or ends all writing: see writer. A file that is not a database, or
// that has lost content, is refused and not modified. If the file is removed or replaced while it
// is open, no further commit succeeds, and writing ends within two seconds.
//
// # How it works
//
// One connection writes and others read. Concurrent writes share a transaction. They see each other
// in order. If one fails with a database error, the group is rolled back and the others run again
// without it.
package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"dialtone/internal/store/engine"
	"dialtone/internal/store/migrations"
	"dialtone/internal/store/sqlite/conn"
)

// Dialect is the name of this engine in the files of package migrations.
const Dialect = "sqlite"

// Engine is an open database.
type Engine struct {
	readers
	writer  *writer
	path    string
	vfs     string
	closing []func()
}

var (
	_ engine.Copier   = (*Engine)(nil)
	_ engine.Backuper = (*Engine)(nil)
	_ engine.Checker  = (*Engine)(nil)
	_ engine.Failer   = (*Engine)(nil)
	_ engine.Eraser   = (*Engine)(nil)
	_ engine.Measurer = (*Engine)(nil)
)

// Open opens the database at path, creates it if it is missing, and brings its schema up to date.
// Then it runs check in the same transaction, unless check is nil; an error of check leaves the
// database as it was. Open fails with migrations.ErrNewer, ErrDamaged, ErrForeignWAL and
// ErrNotWritable; then it has not written anything, except for ErrForeignWAL, where SQLite may have
// written the wal-index.
func Open(ctx context.Context, path string, check func(engine.Tx) error) (*Engine, error) {
	return OpenTo(ctx, migrations.Create, path, check)
}

// OpenTo is Open with a limit on changes of the schema. It then also fails with
// migrations.ErrNoTables and ErrOlder.
func OpenTo(
	ctx context.Context, change migrations.Change, path string, check func(engine.Tx) error,
) (*Engine, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if err := checkAccess(path); err != nil {
		return nil, err
	}
	frames := hasFrames(path)
	if change == migrations.Create {
		err = create(path)
	} else if err = checkPlace(path); errors.Is(err, fs.ErrNotExist) {
		err = migrations.ErrNoTables
	}
	if err == nil {
		err = settleWAL(path + "-wal")
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	place, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	e, err := open(change, path, check, "")
	if err != nil && frames && IsDamaged(err) {
		return nil, fmt.Errorf("%w (%w)", foreignWAL(path), err)
	}
	if err == nil {
		e.watchPlace(place)
	}
	return e, err
}

// OpenVFS is Open for a file of the named VFS of SQLite. The path is absolute, and a missing
// database is created in place.
func OpenVFS(_ context.Context, path string, check func(engine.Tx) error, vfs string) (*Engine, error) {
	return open(migrations.Create, path, check, vfs)
}

func open(change migrations.Change, path string, check func(engine.Tx) error, vfs string) (*Engine, error) {
	e := &Engine{path: path, vfs: vfs}
	c, err := e.connect(conn.Options{VFS: vfs, Existing: change != migrations.Create})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	err = exclusively(c, func(tx Tx) error {
		n, err := engine.Count(tx, `SELECT count(*) FROM sqlite_schema WHERE name = 'schema_version'`)
		if err == nil {
			err = change.Prepare(tx, Dialect, n > 0, time.Now())
		}
		if err != nil || check == nil {
			return err
		}
		return check(tx)
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, closeAfter(err, c, path))
	}
	e.readers = newReaders(e.connectReader)
	e.writer = newWriter(c)
	return e, nil
}

// Path returns the path of the database.
func (e *Engine) Path() string { return e.path }

// Connect opens another connection that may write.
func (e *Engine) Connect() (*conn.Conn, error) { return e.connect(conn.Options{VFS: e.vfs}) }

func (e *Engine) connect(o conn.Options) (*conn.Conn, error) {
	// Deleted values are overwritten with zeros, and not left in the free space of the file.
	return connect(e.path, o, `PRAGMA busy_timeout = 5000; PRAGMA journal_mode = WAL;
		PRAGMA synchronous = FULL; PRAGMA foreign_keys = 1; PRAGMA secure_delete = 1`)
}

func (e *Engine) connectReader() (*conn.Conn, error) {
	return Connect(e.path, e.vfs, `PRAGMA busy_timeout = 5000; PRAGMA query_only = 1`)
}

// Connect opens a connection and runs pragmas on it.
func Connect(path, vfs, pragmas string) (*conn.Conn, error) {
	return connect(path, conn.Options{VFS: vfs}, pragmas)
}

func connect(path string, o conn.Options, pragmas string) (*conn.Conn, error) {
	if o.VFS == "" {
		if err := checkRegular(path); err != nil {
			return nil, err
		}
	}
	c, err := conn.Open(path, o)
	if err != nil {
		return nil, err
	}
	if err := c.Script(pragmas); err != nil {
		return nil, closeAfter(err, c, path)
	}
	return c, nil
}

// closeAfter closes a connection that failed with err. If the database is damaged and has a WAL, both
// stay as they are: SQLite would otherwise move the WAL to the database, even the WAL of another
// database.
func closeAfter(err error, c *conn.Conn, path string) error {
	if IsDamaged(err) && hasFrames(path) {
		err = errors.Join(err, c.NoCheckpointOnClose())
	}
	return errors.Join(err, c.Close())
}

// OnClose makes Close call f after the last write, before it closes the connections. It must not be
// called concurrently with another method.
func (e *Engine) OnClose(f func()) { e.closing = append(e.closing, f) }

// Close ends the writer's connection last: SQLite may then move the WAL to the database file, and
// sync it.
func (e *Engine) Close() error {
	e.writer.Drain()
	closing := e.closing
	e.closing = nil // Close may be called again
	for _, f := range closing {
		f()
	}
	return errors.Join(e.readers.close(), e.writer.close())
}

// ExecSoon waits for the disk: a transaction that shares its commit with others costs little.
func (e *Engine) ExecSoon(_ context.Context, query string, args ...any) (n int64, err error) {
	err = e.Write(func(tx engine.Tx) error {
		n, err = tx.Exec(query, args...)
		return err
	})
	return n, err
}

// The attempts of Erase. Each holds up the writers of all processes for at most eraseTimeout.
const (
	eraseAttempts = 10
	eraseTimeout  = 200 * time.Millisecond
)

// Erase moves the WAL to the database file and empties it: its older frames contain data that was
// deleted since. In the file, deleted values are overwritten.
func (e *Engine) Erase(ctx context.Context) (err error) {
	c, err := Connect(e.path, e.vfs, fmt.Sprintf("PRAGMA busy_timeout = %d", eraseTimeout.Milliseconds()))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	for attempt := 1; ; attempt++ {
		var busy, frames, moved int
		err := Tx{c}.Row(`PRAGMA wal_checkpoint(TRUNCATE)`).Scan(&busy, &frames, &moved)
		if err != nil || busy == 0 {
			return err
		}
		if attempt == eraseAttempts {
			return errors.New("the database is being read, and its WAL still contains deleted data")
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(eraseTimeout):
		}
	}
}

// Check runs SQLite's own checks.
func (e *Engine) Check(ctx context.Context, report func(string)) error {
	return engine.Report(e.Reads(ctx), report,
		`SELECT integrity_check FROM pragma_integrity_check WHERE integrity_check <> 'ok'`,
		`SELECT "table" || ' has a row that refers to no ' || parent FROM pragma_foreign_key_check`)
}
