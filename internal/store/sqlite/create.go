package sqlite

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"dialtone/internal/atomicfile"
	"dialtone/internal/fault"
	"dialtone/internal/regularfile"
	"dialtone/internal/store/migrations"
)

// ErrDamaged is returned by Open for a file that is not a database, and for a database that has
// lost content. SQLite would take some of these for complete or for new.
var ErrDamaged = fault.Needs(fault.Correction,
	"the database is damaged or has lost content; restore it from a backup, or, to begin without "+
		"any accounts, move it and its -wal file away")

// create makes a database with its schema if there is none. It builds the database in a temporary
// file and links that to its name when it is complete and durable. So a file of that name was a
// database once, and an empty file is one that has lost its content. The file has mode 0600, which
// SQLite gives to its WAL too.
func create(path string) (err error) {
	if err := checkPlace(path); !errors.Is(err, fs.ErrNotExist) {
		return err
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
	if err := atomicfile.InheritOwner(f); err != nil {
		return err
	}
	// Nobody uses the file yet, so one sync at the end is enough. WAL mode stays with the file;
	// closing the only connection moves the WAL to it.
	c, err := Connect(f.Name(), "", `PRAGMA synchronous = OFF; PRAGMA journal_mode = WAL`)
	if err != nil {
		return err
	}
	if err := errors.Join(
		exclusively(c, func(tx Tx) error { return migrations.Migrate(tx, Dialect, time.Now()) }),
		c.Close(),
	); err != nil {
		return err
	}
	// The file is closed before it has its name: closing a file releases the locks that SQLite
	// holds on it in this process.
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	// A link, unlike a rename, does not replace a database that another process has created in the
	// meantime.
	if err := os.Link(f.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return atomicfile.SyncDir(filepath.Dir(path))
}

// checkPlace is checkFile, and returns ErrDamaged for a missing database whose WAL exists.
func checkPlace(path string) error {
	// The WAL is checked first: another process may be creating the database, and creates its WAL
	// only after that.
	wal, noWAL := os.Stat(path + "-wal")
	err := checkFile(path)
	if errors.Is(err, fs.ErrNotExist) && noWAL == nil && wal.Size() > 0 {
		return ErrDamaged
	}
	return err
}

// checkFile returns ErrDamaged for a file that is not a database or ends within a page. SQLite
// would read zeros for the rest of the page: a leaf without its last accounts, or, for a file
// shorter than its header, a new database.
//
// It returns ErrForeignWAL for a database that has never had a WAL, but lies next to the WAL of
// another database. SQLite would apply that WAL to it. Backup writes such a database: VACUUM INTO
// leaves it in rollback mode, and SQLite notes WAL mode in the header, durably, before it creates a
// WAL.
func checkFile(path string) error {
	if err := checkRegular(path); err != nil {
		return err
	}
	f, err := regularfile.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	var header [100]byte // https://www.sqlite.org/fileformat2.html#the_database_header
	_, err = io.ReadFull(f, header[:])
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return ErrDamaged
	}
	if err != nil {
		return err
	}
	page := int64(header[16])<<8 | int64(header[17])
	if page == 1 {
		page = 1 << 16
	}
	if string(header[:16]) != "SQLite format 3\x00" || page == 0 {
		return ErrDamaged
	}
	const rollbackMode = 1 // as the version that readers need; 2 is WAL mode
	switch frames := hasFrames(path); {
	case frames && header[19] == rollbackMode:
		return foreignWAL(path)
	case !frames && info.Size()%page != 0:
		// With a WAL, a partial page may be the result of a power cut during a checkpoint. The WAL
		// then contains all pages.
		return ErrDamaged
	}
	return nil
}
