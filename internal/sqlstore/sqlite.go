package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"dialtone/internal/outbox"
	"dialtone/internal/secret"
	"dialtone/internal/sqlstore/sqlite"
)

// lite is the engine of SQLite: one writer, and beside it readers.
type lite struct {
	*readers
	observers
	writer *writer
	annex  *annex // what phone servers read
	// open makes a connection that may write.
	open func() (*sqlite.Conn, error)
}

// Open opens the SQLite database at path, makes it where it is missing, brings its schema up to date, and checks that ring
// has every key that it was sealed with. A database of a newer program is refused and not touched, and so is a file that is no
// database or has lost its content.
func Open(ctx context.Context, path string, ring *secret.Ring) (*Store, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(makeWhole(path), settleWAL(path+"-wal")); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return OpenVFS(ctx, path, ring, "")
}

// OpenVFS is Open for files that the named VFS of SQLite has; the empty name is the system's. The path is absolute, and an
// empty database is made in its place.
func OpenVFS(ctx context.Context, path string, ring *secret.Ring, vfs string) (*Store, error) {
	l := &lite{open: func() (*sqlite.Conn, error) {
		return connect(path, vfs, `PRAGMA busy_timeout = 5000; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = 1`)
	}}
	l.annex = newAnnex(path, openerOf(ring), l.open)
	conn, err := l.open()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	err = alone(conn, func(tx liteTx) error {
		if err := migrate(tx, "sqlite", time.Now()); err != nil {
			return err
		}
		return checkSealKey(tx, ring)
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, errors.Join(err, conn.Close()))
	}
	l.readers = newReaders(func() (*sqlite.Conn, error) {
		return connect(path, vfs, `PRAGMA busy_timeout = 5000; PRAGMA query_only = 1`)
	})
	l.writer = newWriter(conn)
	return newStore(l), nil
}

// connect opens a connection and sets it up.
func connect(path, vfs, pragmas string) (*sqlite.Conn, error) {
	conn, err := sqlite.Open(path, sqlite.Options{VFS: vfs})
	if err != nil {
		return nil, err
	}
	if err := conn.Script(pragmas); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// ErrDamaged is returned by Open for a database of which a part alone is left, or nothing, and for a file that is none.
// SQLite would take some of these for whole or for new.
var ErrDamaged = errors.New("the database is damaged or has lost content; restore it from a backup, or, to begin without any accounts, move it and its -wal file away")

// makeWhole makes a database with its schema where there is none. It is made beside its place and linked to it when it is
// whole and durable: so whatever has the name was a database once, and an empty file is one that lost its content. The
// file has mode 0600, which SQLite gives its journals too.
func makeWhole(path string) (err error) {
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
	// Nobody has the file yet, and so one sync at the end is enough. WAL mode stays with the file; closing the only connection
	// moves what is in the journal to it.
	conn, err := connect(f.Name(), "", `PRAGMA synchronous = OFF; PRAGMA journal_mode = WAL`)
	if err != nil {
		return err
	}
	if err := errors.Join(
		alone(conn, func(tx liteTx) error { return migrate(tx, "sqlite", time.Now()) }),
		conn.Close(),
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

// alone runs do in a transaction that other processes wait for.
func alone(conn *sqlite.Conn, do func(liteTx) error) error {
	tx := liteTx{conn}
	if err := tx.script("BEGIN IMMEDIATE"); err != nil {
		return err
	}
	if err := do(tx); err != nil {
		return errors.Join(err, tx.script("ROLLBACK"))
	}
	return tx.script("COMMIT")
}

// close ends the writer's connection last: it may move what is in the journal to the database, and sync it.
func (l *lite) close() error {
	l.writer.drain()
	l.annex.close()
	return errors.Join(l.readers.close(), l.writer.close())
}

// node has no name: there are no other nodes.
func (l *lite) node() string { return "" }

// adopt finds nothing: there are no other nodes.
func (l *lite) adopt(context.Context) ([]outbox.Entry, error) { return nil, nil }

// watch cannot tell.
func (l *lite) watch(context.Context, func()) {}

func (l *lite) spendSoon(_ context.Context, id [16]byte, expires time.Time) (first bool, err error) {
	err = l.write(func(tx transaction) error {
		first, err = markSpent(tx, id, expires)
		return err
	})
	return first, err
}
