// Package teststore opens stores for tests and benchmarks.
package teststore

import (
	"context"
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/captcha"
	"dialtone/internal/secret"
	"dialtone/internal/store"
	"dialtone/internal/store/engine"
	"dialtone/internal/store/phonetables"
	"dialtone/internal/store/postgres"
	"dialtone/internal/store/sqlite"
	"dialtone/internal/throttle"
)

// Open opens the store in the SQLite file at path. If there is none, Open copies a new database
// there, since most tests need a store and a copy costs less than the migrations.
func Open(ctx context.Context, path string, ring *secret.Ring) (*store.Store, error) {
	if isMissing(path) && isMissing(path+"-wal") {
		content, err := newDatabase()
		if err != nil {
			return nil, err
		}
		if err := os.WriteFile(path, content, 0o600); err != nil {
			return nil, err
		}
	}
	return OpenWithMigrations(ctx, path, ring)
}

// OpenWithMigrations is Open without the copy: the migrations create a new database, as in a
// server. Unlike Open, it is safe when several callers open one path at the same time.
func OpenWithMigrations(ctx context.Context, path string, ring *secret.Ring) (*store.Store, error) {
	e, err := sqlite.Open(ctx, path, check(ring))
	if err != nil {
		return nil, err
	}
	return store.New(e, phonetables.OnSQLite(e, ring))
}

func isMissing(path string) bool {
	_, err := os.Lstat(path)
	return errors.Is(err, fs.ErrNotExist)
}

// newDatabase returns the content of a file that sqlite.Open has created.
var newDatabase = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "dialtone-teststore-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "dialtone.db")
	e, err := sqlite.Open(context.Background(), path, nil)
	if err != nil {
		return nil, err
	}
	if err := e.Close(); err != nil {
		return nil, err
	}
	return os.ReadFile(path)
})

// OpenVFS is Open for a file of the named VFS of SQLite.
func OpenVFS(ctx context.Context, path string, ring *secret.Ring, vfs string) (*store.Store, error) {
	e, err := sqlite.OpenVFS(ctx, path, check(ring), vfs)
	if err != nil {
		return nil, err
	}
	return store.New(e, phonetables.OnSQLite(e, ring))
}

// OpenPostgres opens the store in the PostgreSQL database at url, for a node.
func OpenPostgres(ctx context.Context, ring *secret.Ring, node, url string) (*store.Store, error) {
	e, err := postgres.Open(ctx, node, url, check(ring))
	if err != nil {
		return nil, err
	}
	return store.New(e, phonetables.OnPostgres(e, ring))
}

// OnSQLite returns the store on an engine. It panics if the engine cannot be read.
func OnSQLite(e *sqlite.Engine, ring *secret.Ring) *store.Store {
	return On(e, phonetables.OnSQLite(e, ring))
}

// OnPostgres is OnSQLite for PostgreSQL.
func OnPostgres(e *postgres.Engine, ring *secret.Ring) *store.Store {
	return On(e, phonetables.OnPostgres(e, ring))
}

// On returns the store on an engine, with tables that belong to it. It panics if the engine cannot be read.
func On(e engine.Engine, tables *phonetables.Tables) *store.Store {
	s, err := store.New(e, tables)
	if err != nil {
		panic(err)
	}
	return s
}

// check returns the check of an engine's database. Without a ring there is none.
func check(ring *secret.Ring) func(engine.Tx) error {
	if ring == nil {
		return nil
	}
	return store.SealCheck(ring)
}

// Noon is the current time in tests.
var Noon = time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)

// Signup is SignupAt at noon.
func Signup(tenant int64, user string) account.Signup { return SignupAt(tenant, user, Noon) }

// SignupAt returns a signup that no rule refuses, and that shares no limit with another.
func SignupAt(tenant int64, user string, at time.Time) account.Signup {
	a := account.Signup{
		Account: account.Account{
			UID: account.NewUID(at), Tenant: tenant, User: user, Name: user, Email: user + "@mail.test",
			Role: account.Guest, Disabled: true, Created: at, Expires: at.Add(account.PendingLife),
			Sealed: []byte("sealed"),
		},
		SealedToken: []byte("sealed"),
		Captcha:     captcha.Proof{Ours: true, Right: true, Expires: at.Add(captcha.Life)},
		Recipient:   throttle.Allowance{Rule: throttle.MessagesPerRecipient},
		Address:     []throttle.Allowance{{Rule: throttle.SignupsPerAddress}},
	}
	for _, b := range [][]byte{
		a.Token[:], a.Message[:], a.Captcha.Nonce[:], a.Recipient.Bucket[:], a.Address[0].Bucket[:],
	} {
		rand.Read(b)
	}
	return a
}
