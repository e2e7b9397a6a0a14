package phonetables

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	_ "embed"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"dialtone/internal/atomicfile"
	"dialtone/internal/export"
	"dialtone/internal/secret"
	"dialtone/internal/store/engine"
	"dialtone/internal/store/migrations"
	"dialtone/internal/store/sqlite"
	"dialtone/internal/store/sqlite/conn"
)

//go:embed sqlite.sql
var sqliteTables string

// sqliteVersion marks a file that has the tables and views of this program, as SQLite's
// user_version.
var sqliteVersion = func() int {
	sum := sha256.Sum256([]byte(sqliteTables))
	return int(binary.BigEndian.Uint32(sum[:]) >> 1)
}()

// exportFile is the file that phone servers read: directory/directory.db next to the database of
// the store. The directory has mode 2750 and the file 0640, so that its group can read the file and
// the files that SQLite creates next to it, and nobody else can.
//
// A phone server may not be able to write there. So the WAL stays when the store is closed: a
// reader that cannot create a WAL cannot read a database in WAL mode that has none.
type exportFile struct {
	engine *sqlite.Engine
	open   opener
	path   string

	mu      sync.Mutex
	conn    *conn.Conn  // to the store, with the file attached; nil until it is needed
	info    os.FileInfo // of the file that is open
	emptied bool        // the export is disabled, and nothing of it is left
	applied int64       // the last change that is known to be in the file
	pruned  int64       // the last change that prune has deleted
}

// OnSQLite returns the tables of a database of SQLite. Without a ring they cannot be enabled.
func OnSQLite(e *sqlite.Engine, ring *secret.Ring) *Tables {
	open := openerOf(ring)
	x := &exportFile{
		engine: e, open: open,
		path: filepath.Join(filepath.Dir(e.Path()), "directory", "directory.db"),
	}
	e.OnClose(x.close)
	return &Tables{engine: e, open: open, backend: x}
}

// attach opens the file, and creates it if it is missing. A file that was replaced since is closed
// first.
func (x *exportFile) attach() (err error) {
	if x.conn != nil {
		if info, err := os.Stat(x.path); err == nil && os.SameFile(info, x.info) {
			return nil
		}
		x.detach()
	}
	defer func() {
		if err != nil {
			x.detach()
			err = fmt.Errorf("%s: %w", x.path, err)
		}
	}()
	if err := x.prepare(); err != nil {
		return err
	}
	if x.info, err = os.Stat(x.path); err != nil {
		return err
	}
	if x.conn, err = x.engine.Connect(); err != nil {
		return err
	}
	if _, err := x.conn.Exec(`ATTACH $1 AS dialtone_directory`, x.path); err != nil {
		return err
	}
	if err := x.conn.KeepWAL("dialtone_directory"); err != nil {
		return err
	}
	// A removed HA1 is overwritten, and not left in the free space of a page.
	return x.conn.Script(`PRAGMA dialtone_directory.secure_delete = ON;
		PRAGMA dialtone_directory.synchronous = FULL`)
}

// prepare creates the directory, the file, the tables and the views that are missing.
func (x *exportFile) prepare() error {
	dir := filepath.Dir(x.path)
	// With setgid, the files that SQLite creates belong to the directory's group.
	if err := atomicfile.MkdirSetgid(dir, 0o750); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	f, err := os.OpenFile(x.path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o640)
	if err == nil {
		err = errors.Join(atomicfile.InheritOwner(f), f.Chmod(0o640), f.Close(),
			atomicfile.SyncDir(dir), atomicfile.SyncDir(filepath.Dir(dir)))
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return x.withFile(func(tx sqlite.Tx) error {
		var version int
		err := tx.Row(`PRAGMA user_version`).Scan(&version)
		if err != nil || version == sqliteVersion {
			return err
		}
		return tx.Script(fmt.Sprintf("BEGIN IMMEDIATE; %s PRAGMA user_version = %d; COMMIT",
			sqliteTables, sqliteVersion))
	})
}

// withFile runs do on the file alone, without the store.
func (x *exportFile) withFile(do func(sqlite.Tx) error) (err error) {
	c, err := sqlite.Connect(x.path, "", `PRAGMA busy_timeout = 5000; PRAGMA journal_mode = WAL;
		PRAGMA synchronous = FULL; PRAGMA secure_delete = ON`)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	if err := c.KeepWAL("main"); err != nil {
		return err
	}
	return do(sqlite.Tx{Conn: c})
}

func (x *exportFile) detach() {
	if x.conn != nil {
		x.conn.Close()
		x.conn = nil
	}
	x.applied = 0
}

func (x *exportFile) close() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.detach()
}

// do applies what is missing in the file, and then runs do, in one transaction of the file. The
// transaction sees the store as of the moment up to which the file is current. It fails with
// export.ErrNotEnabled if the export is not enabled.
func (x *exportFile) do(do func(engine.Tx) error) (err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if err := x.attach(); err != nil {
		return err
	}
	tx := sqlite.Tx{Conn: x.conn}
	if err := tx.Script("BEGIN"); err != nil {
		x.detach()
		return err
	}
	applied, err := x.apply(tx)
	if err == nil && do != nil {
		err = do(tx)
	}
	if err == nil {
		if err = tx.Script("COMMIT"); err == nil {
			x.applied, x.emptied = applied, false
			return nil
		}
	}
	// A connection that has seen an error is not used again.
	if tx.Script("ROLLBACK") != nil || !errors.Is(err, export.ErrNotEnabled) {
		x.detach()
	}
	return err
}

// apply applies the changes that are due and returns the number up to which the file is current. It
// begins with a write, so that the file is locked before the store is read: another process that
// applies changes has done so already, or waits.
func (x *exportFile) apply(tx engine.Tx) (int64, error) {
	if _, err := tx.Exec(`UPDATE dialtone_directory.state SET one = 1`); err != nil {
		return 0, err
	}
	var id, seen []byte
	var changes, applied, due int64
	err := tx.Row(`SELECT id, changes FROM main.export WHERE name = $1`, exportName).Scan(&id, &changes)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, export.ErrNotEnabled
	}
	if err != nil {
		return 0, err
	}
	err = tx.Row(`SELECT export, applied FROM dialtone_directory.state`).Scan(&seen, &applied)
	if err != nil {
		return 0, err
	}
	due, err = engine.Count(tx, `SELECT count(*) FROM main.export_due WHERE n > $1`, applied)
	if err != nil {
		return 0, err
	}
	if !bytes.Equal(id, seen) || due != changes-applied {
		// The file is new, or older or newer than the store. It will be filled (Tables.fill). Known
		// changes are applied without waiting for that.
		_, err := tx.Exec(`UPDATE dialtone_directory.state SET export = $1, whole = FALSE`, id)
		if err != nil {
			return 0, err
		}
		if err := updateDomains(tx); err != nil {
			return 0, err
		}
		applied = -1
	} else if due == 0 {
		return applied, nil
	}
	var subjects []Subject
	err = tx.Each(func(row engine.Scanner) error {
		var s []byte
		err := row.Scan(&s)
		subjects = append(subjects, Subject(s))
		return err
	}, `SELECT DISTINCT subject FROM main.export_due WHERE n > $1 ORDER BY subject`, applied) // Tenants first
	if err != nil {
		return 0, err
	}
	for _, s := range subjects {
		if err := update(tx, x, x.open, s); err != nil {
			return 0, err
		}
	}
	_, err = tx.Exec(`UPDATE dialtone_directory.state SET applied = $1`, changes)
	return changes, err
}

// empty removes everything from the file and from its WAL.
func (x *exportFile) empty() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.emptied {
		return nil
	}
	x.detach()
	if _, err := os.Stat(x.path); errors.Is(err, fs.ErrNotExist) {
		x.emptied = true
		return nil
	}
	if err := x.prepare(); err != nil {
		return err
	}
	err := x.withFile(func(tx sqlite.Tx) error {
		if err := tx.Script(`BEGIN IMMEDIATE; DELETE FROM entry; DELETE FROM realm; DELETE FROM missing;
			UPDATE state SET export = x'', applied = 0, whole = FALSE; COMMIT`); err != nil {
			return err
		}
		var busy, pages, moved int
		err := tx.Row(`PRAGMA wal_checkpoint(TRUNCATE)`).Scan(&busy, &pages, &moved)
		if err == nil && busy != 0 {
			err = errors.New("a phone server is reading, and the WAL still contains removed data; try again")
		}
		return err
	})
	x.emptied = err == nil
	return err
}

func (x *exportFile) publish(tx engine.Tx, changed []Subject) (due bool, err error) {
	for _, s := range changed {
		var n int64
		err := tx.Row(`UPDATE export SET changes = changes + 1 WHERE name = $1 RETURNING changes`,
			exportName).Scan(&n)
		if errors.Is(err, sql.ErrNoRows) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		_, err = tx.Exec(`INSERT INTO export_due (n, subject) VALUES ($1, $2)`, n, []byte(s))
		if err != nil {
			return false, err
		}
		due = true
	}
	return due, nil
}

func (x *exportFile) follow() error {
	err := x.do(nil)
	if errors.Is(err, export.ErrNotEnabled) { // disabled since
		return nil
	}
	if err != nil {
		return fmt.Errorf("the change is saved, but phone servers do not see it yet; "+
			"the server keeps trying: %w", err)
	}
	return nil
}

func (x *exportFile) withTables(do func(engine.Tx) error) error {
	if on, err := Enabled(x.engine.Reads(context.Background())); err != nil {
		return err
	} else if !on {
		return export.ErrNotEnabled
	}
	return x.do(do)
}

func (x *exportFile) enable(also func(engine.Tx) error) error {
	return x.engine.Write(func(tx engine.Tx) error {
		if err := also(tx); err != nil {
			return err
		}
		var id [16]byte
		rand.Read(id[:])
		_, err := tx.Exec(`INSERT INTO export (name, id, changes) VALUES ($1, $2, 0)
			ON CONFLICT DO NOTHING`, exportName, id[:])
		if err != nil {
			return err
		}
		return migrations.Fence(tx, sqlite.Dialect, exportVersion, true)
	})
}

func (x *exportFile) disable(also func(engine.Tx) error) error {
	return x.engine.Write(func(tx engine.Tx) error {
		if err := also(tx); err != nil {
			return err
		}
		for _, query := range []string{
			`DELETE FROM export WHERE name = 'directory'`, `DELETE FROM export_due`,
		} {
			if _, err := tx.Exec(query); err != nil {
				return err
			}
		}
		return migrations.Fence(tx, sqlite.Dialect, exportVersion, false)
	})
}

func (x *exportFile) clear() error {
	x.mu.Lock()
	x.emptied = false
	x.mu.Unlock()
	return x.empty()
}

func (x *exportFile) catchUp(ctx context.Context) (incomplete bool, err error) {
	version, err := x.version(ctx)
	if err != nil {
		return false, err
	}
	if version == 0 {
		return false, x.empty()
	}
	var complete bool
	err = x.withTables(func(tx engine.Tx) (err error) {
		complete, err = isComplete(tx)
		return err
	})
	return !complete, err
}

func (x *exportFile) prune() error {
	x.mu.Lock()
	applied, pruned := x.applied, x.pruned
	x.mu.Unlock()
	if applied == pruned {
		return nil
	}
	err := x.engine.Write(func(tx engine.Tx) error {
		_, err := tx.Exec(`DELETE FROM export_due WHERE n <= $1`, applied)
		return err
	})
	if err == nil {
		x.mu.Lock()
		x.pruned = applied
		x.mu.Unlock()
	}
	return err
}

func (x *exportFile) version(ctx context.Context) (int64, error) {
	return engine.Count(x.engine.Reads(ctx),
		`SELECT COALESCE(max(changes + 1), 0) FROM export WHERE name = $1`, exportName)
}

func (x *exportFile) locations() []string { return []string{x.path} }

// read does not apply changes first, so it writes nothing.
func (x *exportFile) read(ctx context.Context, do func(engine.Querier) error) error {
	if on, err := Enabled(x.engine.Reads(ctx)); err != nil {
		return err
	} else if !on {
		return export.ErrNotEnabled
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if err := x.attach(); err != nil {
		return err
	}
	err := do(sqlite.Tx{Conn: x.conn})
	if err != nil {
		x.detach()
	}
	return err
}

// These have nothing to check or create: the file is complete before it is opened.
func (x *exportFile) exist(engine.Querier) (bool, error)      { return true, nil }
func (x *exportFile) hasState(engine.Querier) (bool, error)   { return true, nil }
func (x *exportFile) hasMissing(engine.Querier) (bool, error) { return true, nil }
func (x *exportFile) prepareMissing(engine.Tx) error          { return nil }
