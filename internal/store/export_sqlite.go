package store

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
	"syscall"

	"dialtone/internal/phone"
	"dialtone/internal/store/sqlite/conn"
)

//go:embed directory/sqlite.sql
var directorySQLite string

// directoryVersion is the mark of a file that has what the program knows, as SQLite's user_version.
var directoryVersion = func() int {
	sum := sha256.Sum256([]byte(directorySQLite))
	return int(binary.BigEndian.Uint32(sum[:]) >> 1)
}()

// annex is the file that phone servers read, beside the store: directory/directory.db in the folder of the database. The folder has
// mode 2750 and the file 0640, so that the folder's group can read the file, and what SQLite puts beside it, and nobody else.
//
// A phone server may not be able to write there. So the journal stays when the store is closed: without one, who cannot make one
// cannot read a database that has been in WAL mode.
type annex struct {
	path  string
	open  opener
	store func() (*conn.Conn, error) // opens the store

	mu      sync.Mutex
	conn    *conn.Conn  // to the store, with the file attached; nil until it is needed
	info    os.FileInfo // of the file that is open
	emptied bool        // the export is off, and nothing of it is left
	applied int64       // up to where changes are known to be in the file
	pruned  int64
}

func newAnnex(store string, open opener, connect func() (*conn.Conn, error)) *annex {
	return &annex{path: filepath.Join(filepath.Dir(store), "directory", "directory.db"), open: open, store: connect}
}

// attach opens the file, and makes it where it is missing. One that was replaced under its name is let go of.
func (x *annex) attach() (err error) {
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
	if x.conn, err = x.store(); err != nil {
		return err
	}
	if _, err := x.conn.Exec(`ATTACH $1 AS dialtone_directory`, x.path); err != nil {
		return err
	}
	if err := x.conn.KeepJournal("dialtone_directory"); err != nil {
		return err
	}
	// What was removed is an HA1. It is written over, and not left in the free room of a page.
	return x.conn.Script(`PRAGMA dialtone_directory.secure_delete = ON; PRAGMA dialtone_directory.synchronous = FULL`)
}

// prepare makes folder, file, tables and views where they are missing.
func (x *annex) prepare() error {
	dir := filepath.Dir(x.path)
	// A command may be root's, and the server is not: what is made belongs to whom the folder above it belongs to.
	owner, err := os.Stat(filepath.Dir(dir))
	if err != nil {
		return err
	}
	uid := int(owner.Sys().(*syscall.Stat_t).Uid)
	if err := os.Mkdir(dir, 0o750); err == nil {
		// The umask does not know who the phone server is; setgid has what SQLite makes be of the folder's group.
		if err := errors.Join(os.Chown(dir, uid, -1), os.Chmod(dir, 0o750|fs.ModeSetgid)); err != nil {
			return err
		}
	} else if !errors.Is(err, fs.ErrExist) {
		return err
	}
	f, err := os.OpenFile(x.path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o640)
	if err == nil {
		err = errors.Join(f.Chown(uid, -1), f.Chmod(0o640), f.Close(), syncDir(dir), syncDir(filepath.Dir(dir)))
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return x.alone(func(tx liteTx) error {
		var version int
		if err := tx.row(`PRAGMA user_version`).Scan(&version); err != nil || version == directoryVersion {
			return err
		}
		return tx.script(fmt.Sprintf("BEGIN IMMEDIATE; %s PRAGMA user_version = %d; COMMIT", directorySQLite, directoryVersion))
	})
}

// alone opens the file without the store.
func (x *annex) alone(do func(liteTx) error) (err error) {
	conn, err := connect(x.path, "", `PRAGMA busy_timeout = 5000; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA secure_delete = ON`)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	if err := conn.KeepJournal("main"); err != nil {
		return err
	}
	return do(liteTx{conn})
}

func (x *annex) detach() {
	if x.conn != nil {
		x.conn.Close()
		x.conn = nil
	}
	x.applied = 0
}

func (x *annex) close() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.detach()
}

// do has the file follow the store, and then do run, in one transaction of the file. The store is read in it as of one moment, at
// which the file has followed. It fails with phone.ErrNoExport.
func (x *annex) do(do func(transaction) error) (err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if err := x.attach(); err != nil {
		return err
	}
	tx := liteTx{x.conn}
	if err := tx.script("BEGIN"); err != nil {
		x.detach()
		return err
	}
	applied, err := x.catchUp(tx)
	if err == nil && do != nil {
		err = do(tx)
	}
	if err == nil {
		if err = tx.script("COMMIT"); err == nil {
			x.applied, x.emptied = applied, false
			return nil
		}
	}
	// Nothing is assumed of a connection that has seen a fault.
	if tx.script("ROLLBACK") != nil || !errors.Is(err, phone.ErrNoExport) {
		x.detach()
	}
	return err
}

// catchUp applies what is due and gives the number up to which the file has followed. It begins by writing, so that the file is
// locked before the store is looked at: whoever else applies changes has done so already, or waits.
func (x *annex) catchUp(tx transaction) (int64, error) {
	if _, err := tx.exec(`UPDATE dialtone_directory.state SET one = 1`); err != nil {
		return 0, err
	}
	var id, seen []byte
	var changes, applied, due int64
	err := tx.row(`SELECT id, changes FROM main.export WHERE name = $1`, exportName).Scan(&id, &changes)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, phone.ErrNoExport
	} else if err != nil {
		return 0, err
	}
	if err := tx.row(`SELECT export, applied FROM dialtone_directory.state`).Scan(&seen, &applied); err != nil {
		return 0, err
	}
	if due, err = count(tx, `SELECT count(*) FROM main.export_due WHERE n > $1`, applied); err != nil {
		return 0, err
	}
	if !bytes.Equal(id, seen) || due != changes-applied {
		// The file is new, or of another time than the store. It is filled anew (fillExport), and what is known to have changed is
		// not kept waiting for that.
		if _, err := tx.exec(`UPDATE dialtone_directory.state SET export = $1, whole = FALSE`, id); err != nil {
			return 0, err
		}
		if err := bringDomains(tx); err != nil {
			return 0, err
		}
		applied = -1
	} else if due == 0 {
		return applied, nil
	}
	var subjects []subject
	err = tx.each(func(row scanner) error {
		var s []byte
		err := row.Scan(&s)
		subjects = append(subjects, subject(s))
		return err
	}, `SELECT DISTINCT subject FROM main.export_due WHERE n > $1 ORDER BY subject`, applied) // the tenants first
	if err != nil {
		return 0, err
	}
	for _, s := range subjects {
		if err := bring(tx, x.open, s); err != nil {
			return 0, err
		}
	}
	_, err = tx.exec(`UPDATE dialtone_directory.state SET applied = $1`, changes)
	return changes, err
}

// empty removes everything from the file, and what its journal still has of it.
func (x *annex) empty() error {
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
	err := x.alone(func(tx liteTx) error {
		if err := tx.script(`BEGIN IMMEDIATE; DELETE FROM entry; DELETE FROM realm; UPDATE state SET export = x'', applied = 0, whole = FALSE; COMMIT`); err != nil {
			return err
		}
		var busy, pages, moved int
		if err := tx.row(`PRAGMA wal_checkpoint(TRUNCATE)`).Scan(&busy, &pages, &moved); err != nil {
			return err
		}
		if busy != 0 {
			return errors.New("a phone server is reading; what was removed is still in the journal, so do it again")
		}
		return nil
	})
	x.emptied = err == nil
	return err
}

func (l *lite) opener() opener { return l.annex.open }

func (l *lite) publish(tx transaction, changed []subject) (due bool, err error) {
	for _, s := range changed {
		var n int64
		err := tx.row(`UPDATE export SET changes = changes + 1 WHERE name = $1 RETURNING changes`, exportName).Scan(&n)
		if errors.Is(err, sql.ErrNoRows) {
			return false, nil
		} else if err != nil {
			return false, err
		}
		if _, err := tx.exec(`INSERT INTO export_due (n, subject) VALUES ($1, $2)`, n, []byte(s)); err != nil {
			return false, err
		}
		due = true
	}
	return due, nil
}

func (l *lite) follow() error {
	err := l.annex.do(nil)
	if errors.Is(err, phone.ErrNoExport) { // disabled since
		return nil
	} else if err != nil {
		return fmt.Errorf("the change is saved, and phone servers do not see it yet; it is tried again: %w", err)
	}
	return nil
}

func (l *lite) directory(do func(transaction) error) error {
	if on, err := exporting(l.reads(context.Background())); err != nil {
		return err
	} else if !on {
		return phone.ErrNoExport
	}
	return l.annex.do(do)
}

func (l *lite) enableExport() error {
	return l.write(func(tx transaction) error {
		var id [16]byte
		rand.Read(id[:])
		if _, err := tx.exec(`INSERT INTO export (name, id, changes) VALUES ($1, $2, 0) ON CONFLICT DO NOTHING`, exportName, id[:]); err != nil {
			return err
		}
		return bar(tx, "sqlite", true)
	})
}

func (l *lite) disableExport() error {
	err := l.write(func(tx transaction) error {
		for _, query := range []string{`DELETE FROM export WHERE name = 'directory'`, `DELETE FROM export_due`} {
			if _, err := tx.exec(query); err != nil {
				return err
			}
		}
		return bar(tx, "sqlite", false)
	})
	if err != nil {
		return err
	}
	l.annex.mu.Lock()
	l.annex.emptied = false
	l.annex.mu.Unlock()
	return l.annex.empty()
}

// tendExport applies what was left due, fills a file that is new, and forgets changes that the file has.
func (l *lite) tendExport(ctx context.Context) error {
	changes, err := l.exportChanges(ctx)
	if err != nil {
		return err
	}
	if changes == 0 {
		return l.annex.empty()
	}
	var whole bool
	err = l.directory(func(tx transaction) error { return tx.row(`SELECT whole FROM dialtone_directory.state`).Scan(&whole) })
	if err == nil && !whole {
		err = fillExport(ctx, l, func(int64, int64) {})
	}
	if errors.Is(err, phone.ErrNoExport) {
		return nil
	} else if err != nil {
		return err
	}
	l.annex.mu.Lock()
	applied, pruned := l.annex.applied, l.annex.pruned
	l.annex.mu.Unlock()
	if applied == pruned {
		return nil
	}
	err = l.write(func(tx transaction) error {
		_, err := tx.exec(`DELETE FROM export_due WHERE n <= $1`, applied)
		return err
	})
	if err == nil {
		l.annex.mu.Lock()
		l.annex.pruned = applied
		l.annex.mu.Unlock()
	}
	return err
}

func (l *lite) exportChanges(ctx context.Context) (int64, error) {
	return count(l.reads(ctx), `SELECT COALESCE(max(changes + 1), 0) FROM export WHERE name = $1`, exportName)
}

func (l *lite) exportPlaces() []string { return []string{l.annex.path} }
