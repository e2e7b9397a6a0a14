package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"modernc.org/sqlite"

	"dialtone/internal/account"
	"dialtone/internal/secret"
)

var strict = sync.OnceFunc(func() { sqlite.StrictPragmas(true) })

// lite is the engine of SQLite: one writer, and beside it readers.
type lite struct {
	db     *sql.DB // reads
	writes *sql.DB
	writer *writer

	mu       sync.Mutex
	prepared map[string]*sql.Stmt
}

// Open opens the SQLite database at path, makes it where it is missing, brings its schema up to date, and checks that ring
// has every key that it was sealed with. A database of a newer program is refused and not touched, and so is a file that is no
// database or has lost its content.
func Open(ctx context.Context, path string, ring *secret.Ring) (*Store, error) {
	strict()
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(makeWhole(ctx, path), forget(path+"-wal")); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return OpenVFS(ctx, path, ring, "")
}

// OpenVFS is Open for files that the named VFS of SQLite has; the empty name is the system's. The path is absolute, and an
// empty database is made in its place.
func OpenVFS(ctx context.Context, path string, ring *secret.Ring, vfs string) (*Store, error) {
	strict()
	db, err := sql.Open("sqlite", dsn(path, "immediate", false)+on(vfs))
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	l := &lite{writes: db, prepared: make(map[string]*sql.Stmt)}
	if err := l.start(ctx, path, ring, vfs); err != nil {
		db.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &Store{homes: []home{{0, l}}}, nil
}

// ErrDamaged is returned by Open for a database of which a part alone is left, or nothing, and for a file that is none.
// SQLite would take some of these for whole or for new.
var ErrDamaged = errors.New("the database is damaged or has lost content; restore it from a backup, or, to begin without any accounts, move it and its -wal file away")

// makeWhole makes a database with its schema where there is none. It is made beside its place and linked to it when it is
// whole and durable: so whatever has the name was a database once, and an empty file is one that lost its content. The
// file has mode 0600, which SQLite gives its journals too.
func makeWhole(ctx context.Context, path string) (err error) {
	// The journal is looked at first: another process may make the database meanwhile, and has a journal only after it.
	journal, noJournal := os.Stat(path + "-wal")
	if err := checkWhole(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if noJournal == nil && journal.Size() > 0 {
		return ErrDamaged
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*.db")
	if err != nil {
		return err
	}
	defer func() {
		for _, suffix := range []string{"", "-wal", "-shm"} {
			os.Remove(f.Name() + suffix)
		}
	}()
	defer f.Close()
	// Nobody has the file yet, and so one sync at the end is enough. WAL mode stays with the file (the driver sets it after
	// what _pragma says); closing the only connection moves what is in the journal to it.
	db, err := sql.Open("sqlite", "file:"+escapePath(f.Name())+"?_txlock=immediate&_pragma=synchronous(OFF)&_journal_mode=WAL")
	if err != nil {
		return err
	}
	if err := errors.Join(
		alone(ctx, db, func(tx *liteTx) error { return migrate(tx, "sqlite", time.Now()) }),
		db.Close(),
	); err != nil {
		return err
	}
	// Closed before it has its name: a close takes SQLite's locks on the same file with it, where another opened it here.
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	// A link, unlike a rename, does not replace a database that another process made meanwhile.
	if err := os.Link(f.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// checkWhole refuses a file that ends within a page. SQLite would read zeros for the rest: a leaf without its last accounts,
// or for a file shorter than its header a new database.
func checkWhole(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	var header [100]byte // https://www.sqlite.org/fileformat2.html#the_database_header
	if _, err := io.ReadFull(f, header[:]); err == io.EOF || err == io.ErrUnexpectedEOF {
		return ErrDamaged
	} else if err != nil {
		return err
	}
	page := int64(header[16])<<8 | int64(header[17])
	if page == 1 {
		page = 1 << 16
	}
	if string(header[:16]) != "SQLite format 3\x00" || page == 0 {
		return ErrDamaged
	}
	// A power cut may leave half a page behind while pages move from the journal. All of them are in the journal then.
	journal, err := os.Stat(path + "-wal")
	if info.Size()%page != 0 && (err != nil || journal.Size() == 0) {
		return ErrDamaged
	}
	return nil
}

func (l *lite) start(ctx context.Context, path string, ring *secret.Ring, vfs string) error {
	err := alone(ctx, l.writes, func(tx *liteTx) error {
		if err := migrate(tx, "sqlite", time.Now()); err != nil {
			return err
		}
		return checkSealKey(tx, ring)
	})
	if err != nil {
		return err
	}
	if l.db, err = sql.Open("sqlite", dsn(path, "deferred", true)+on(vfs)); err != nil {
		return err
	}
	// More connections than processors only take memory and contend.
	l.db.SetMaxOpenConns(max(2, runtime.GOMAXPROCS(0)))
	l.db.SetMaxIdleConns(max(2, runtime.GOMAXPROCS(0)))
	conn, err := l.writes.Conn(ctx)
	if err != nil {
		l.db.Close()
		return err
	}
	l.writer = newWriter(l.writes, conn)
	return nil
}

// alone runs do in a transaction that other processes wait for.
func alone(ctx context.Context, db *sql.DB, do func(*liteTx) error) error {
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	tx := newLiteTx(conn)
	defer tx.close()
	if err := tx.script("BEGIN IMMEDIATE"); err != nil {
		return err
	}
	if err := do(tx); err != nil {
		return errors.Join(err, tx.script("ROLLBACK"))
	}
	return tx.script("COMMIT")
}

// dsn has only what stands here in it; the path is percent-encoded, since a query in it would be options.
func dsn(path, lock string, readOnly bool) string {
	text := "file:" + escapePath(path) + "?_txlock=" + lock +
		"&_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=foreign_keys(1)"
	if readOnly {
		text += "&_pragma=query_only(1)"
	}
	return text
}

// on is the option for a VFS other than the system's.
func on(vfs string) string {
	if vfs == "" {
		return ""
	}
	return "&vfs=" + vfs
}

func escapePath(path string) string {
	var b []byte
	for i := range len(path) {
		switch c := path[i]; c {
		case '%', '?', '#':
			b = fmt.Appendf(b, "%%%02X", c)
		default:
			b = append(b, c)
		}
	}
	return string(b)
}

func (l *lite) close() error { return errors.Join(l.writer.stop(), l.db.Close(), l.writes.Close()) }

// node has no name: there are no other nodes.
func (l *lite) node() string { return "" }

// adopt finds nothing: there are no other nodes.
func (l *lite) adopt(context.Context) ([]account.Waiting, error) { return nil, nil }

// watch cannot tell.
func (l *lite) watch(context.Context, func()) {}

func (l *lite) spendSoon(_ context.Context, id [16]byte, expires time.Time) (first bool, err error) {
	err = l.write(func(tx transaction) error {
		first, err = note(tx, id, expires)
		return err
	})
	return first, err
}

// statement is a prepared statement for the read connections.
func (l *lite) statement(ctx context.Context, query string) (*sql.Stmt, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if st := l.prepared[query]; st != nil {
		return st, nil
	}
	st, err := l.db.PrepareContext(ctx, query)
	if err == nil {
		l.prepared[query] = st
	}
	return st, err
}

func (l *lite) reads(ctx context.Context) querier { return liteReader{ctx, l} }

// liteReader is a querier on the read connections.
type liteReader struct {
	ctx context.Context
	l   *lite
}

func (r liteReader) row(query string, args ...any) scanner {
	if err := r.ctx.Err(); err != nil {
		return failed{err}
	}
	// The driver starts a goroutine to watch a context that can end, which costs more than finding one row.
	ctx := context.WithoutCancel(r.ctx)
	st, err := r.l.statement(ctx, query)
	if err != nil {
		return failed{err}
	}
	return st.QueryRowContext(ctx, args...)
}

func (r liteReader) each(f func(scanner) error, query string, args ...any) error {
	rows, err := r.l.db.QueryContext(r.ctx, query, args...)
	return eachOf(rows, err, f)
}

func eachOf(rows *sql.Rows, err error, f func(scanner) error) error {
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := f(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}
