// Package sqlstore keeps everything in an SQL database: today SQLite, in one file.
//
// # One use case, one transaction
//
// Every method of a store interface is one transaction here, and no transaction leaves this package. A method checks
// first and writes last: what it refuses with a fault leaves only what its interface says that a refusal leaves. Any
// other error rolls everything back.
//
// # Group commit
//
// SQLite has one writer, and what a durable transaction costs is the wait for the disk. So writes that come at once share
// one transaction and are committed together. A lone write does not wait for company, nor for another goroutine: it
// commits itself. The next group is whatever came in while the last one was on its way to the disk. Writes of one group see each other in order,
// as if each had been a transaction of its own; should one of them fail with an error of the database, the group is rolled
// back and the others are run again without it, so writes are functions that can be repeated.
//
// The queue is bounded. A write that finds it full, or that waited too long without having been started, fails with
// fault.Overloaded and has not happened.
//
// # SQL
//
// The text of a statement serves SQLite and PostgreSQL alike: $1 placeholders, ON CONFLICT, RETURNING, times as
// microseconds in BIGINT. Only opening and migrations are per engine. The database runs in WAL mode with
// synchronous=FULL: a commit that returned is on the disk.
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

	"dialtone/internal/secret"
)

// Store is an open database. It is safe for concurrent use, and by several processes at once.
type Store struct {
	reads  *sql.DB
	writes *sql.DB
	writer *writer

	mu       sync.Mutex
	prepared map[string]*sql.Stmt
}

var strict = sync.OnceFunc(func() { sqlite.StrictPragmas(true) })

// ErrSealKey is returned by Open where the key file is not the one that the store was sealed with.
var ErrSealKey = errors.New("the store was sealed with another key")

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
	var err error
	s := &Store{prepared: make(map[string]*sql.Stmt)}
	if s.writes, err = sql.Open("sqlite", dsn(path, "immediate", false)+on(vfs)); err != nil {
		return nil, err
	}
	s.writes.SetMaxOpenConns(1)
	if err := s.start(ctx, path, ring, vfs); err != nil {
		s.writes.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return s, nil
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
	if err := errors.Join(migrate(ctx, db), db.Close()); err != nil {
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

func (s *Store) start(ctx context.Context, path string, ring *secret.Ring, vfs string) error {
	if err := migrate(ctx, s.writes); err != nil {
		return err
	}
	if err := checkSealKey(ctx, s.writes, ring); err != nil {
		return err
	}
	var err error
	if s.reads, err = sql.Open("sqlite", dsn(path, "deferred", true)+on(vfs)); err != nil {
		return err
	}
	// More connections than processors only take memory and contend.
	s.reads.SetMaxOpenConns(max(2, runtime.GOMAXPROCS(0)))
	s.reads.SetMaxIdleConns(max(2, runtime.GOMAXPROCS(0)))
	conn, err := s.writes.Conn(ctx)
	if err != nil {
		s.reads.Close()
		return err
	}
	s.writer = startWriter(s.writes, conn)
	return nil
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

// checkSealKey compares the ring with the ids in the store, and notes the ring's keys where there are new ones.
func checkSealKey(ctx context.Context, db *sql.DB, ring *secret.Ring) error {
	has := make(map[string]bool)
	for _, id := range ring.IDs() {
		has[id.String()] = true
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	rows, err := tx.QueryContext(ctx, `SELECT id FROM seal_key`)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return err
		}
		if !has[id] {
			return fmt.Errorf("%w (%s); put the seal.key file back that was made with this store, from a backup", ErrSealKey, id)
		}
		delete(has, id)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	for id := range has {
		if _, err := tx.ExecContext(ctx, `INSERT INTO seal_key (id) VALUES ($1)`, id); err != nil {
			return err
		}
	}
	return tx.Commit()
}

// Close finishes the writes that were accepted and closes the database.
func (s *Store) Close() error {
	return errors.Join(s.writer.stop(), s.reads.Close(), s.writes.Close())
}

// statement is a prepared statement for the read connections.
func (s *Store) statement(ctx context.Context, query string) (*sql.Stmt, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if st := s.prepared[query]; st != nil {
		return st, nil
	}
	st, err := s.reads.PrepareContext(ctx, query)
	if err == nil {
		s.prepared[query] = st
	}
	return st, err
}

// querier reads: within a write, or beside all writes.
type querier interface {
	row(query string, args ...any) scanner
}

type scanner interface{ Scan(dst ...any) error }

// reader is a querier on the read connections. Each of its statements sees what was committed when it began.
type reader struct {
	ctx context.Context
	s   *Store
}

func (r reader) row(query string, args ...any) scanner {
	if err := r.ctx.Err(); err != nil {
		return failed{err}
	}
	// The driver starts a goroutine to watch a context that can end, which costs more than finding one row.
	ctx := context.WithoutCancel(r.ctx)
	st, err := r.s.statement(ctx, query)
	if err != nil {
		return failed{err}
	}
	return st.QueryRowContext(ctx, args...)
}

type failed struct{ err error }

func (f failed) Scan(...any) error { return f.err }

func micros(t time.Time) int64 { return t.UnixMicro() }

func fromMicros(us int64) time.Time { return time.UnixMicro(us).UTC() }
