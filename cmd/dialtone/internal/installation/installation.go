// Package installation opens an installation: its data directory, keys and store.
//
// It creates nothing unless the caller allows it, because a missing store is more often a wrong path than a new
// platform. It opens a store only with the keys that belong to it. While a restore is unfinished, only the restore
// itself and the diagnosis can open the installation.
//
// Open returns an Installation. A command of root works as the owner of the data directory until Close (package runas).
// Its methods find tenants and return the services that commands need. ConfiguredFiles, ServerID and DialAddress tell
// more about an installation that is not open.
//
// The package does not parse flags, and does not choose the exit status for an error. Adapters such as the mail relay
// are made by package adapter.
package installation

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"time"

	"dialtone/cmd/dialtone/internal/runas"
	"dialtone/internal/audit"
	"dialtone/internal/config"
	"dialtone/internal/datadir"
	"dialtone/internal/fault"
	"dialtone/internal/secret"
	"dialtone/internal/secret/keyfile"
	"dialtone/internal/store"
	"dialtone/internal/store/migrations"
	"dialtone/internal/store/phonetables"
	"dialtone/internal/store/postgres"
	"dialtone/internal/store/sqlite"
)

// Installation is an open installation.
type Installation struct {
	config.Config
	Dir        datadir.Dir
	KeySources *datadir.Keys // the places of the keys
	Seal       *secret.Ring  // the content of seal.key
	Store      *store.Store

	revert func() error // undoes runas.BecomeOwner
}

// Close closes the store. A command of root then continues as root.
func (in *Installation) Close() error { return errors.Join(in.Store.Close(), in.revert()) }

// Shared reports whether several servers may use the store: it is in PostgreSQL.
func (in *Installation) Shared() bool { return in.Database != "" }

// KeySources returns the places of the keys: files in keys.dir, or the environment.
func KeySources(c config.KeyFiles) *datadir.Keys {
	return datadir.NewKeys(c.Dir, datadir.KeyTexts{Seal: c.Seal, Sign: c.Sign, TURN: c.Turn})
}

// Keeper returns a writer of checkpoints of the audit trail. node is the name of a server, or empty for a command.
func (in *Installation) Keeper(node string, log *slog.Logger) *audit.Keeper {
	return audit.NewKeeper(audit.KeeperDeps{
		Store: in.Store, Ring: in.KeySources.Seal.Read, Memory: in.Dir.TrailFile(), Node: node, Log: log,
		Now: time.Now,
	})
}

// Creation tells whether Open may create a store, or update its schema.
type Creation int

const (
	// Never is for most commands: a missing store is a wrong path. They do not update the schema either, because
	// servers of the previous version may still be running; the operator decides when to update.
	Never Creation = iota
	// Upgrade is for commands that update the schema of an existing store.
	Upgrade
	// IfNamed is for a command that may be the first on a machine. It creates a store if the configuration names the
	// directory or the database, but not in the default directory.
	IfNamed
	// Always is for the server, which also updates the schema.
	Always
)

// change returns the permitted change of the schema. exists reports whether the database contains a store.
func (c Creation) change(exists bool) migrations.Change {
	switch {
	case !exists && c >= IfNamed:
		return migrations.Create
	case c == Upgrade, c == Always:
		return migrations.Upgrade
	}
	return migrations.Nothing
}

// ErrNoStore means that there is no store at the place that the configuration names.
var ErrNoStore = fault.Needs(fault.Correction, "there is no store")

// Options are the options of Open. The zero value is for a command that needs an existing store.
type Options struct {
	// Node is the name of the server that opens the installation, or empty for a command. Only a command of root
	// continues as the owner of the data directory.
	Node string
	// Create tells whether a store may be created or updated.
	Create Creation
	// Lenient accepts credentials that are not bound to their user names, even if seal.key is strict.
	Lenient bool
	// Restoring allows an installation whose restore is unfinished.
	Restoring bool
}

// New returns the installation of a configuration without opening it: Seal and Store are nil.
func New(c config.Config) *Installation {
	return &Installation{
		Config: c, Dir: datadir.Dir(c.Data), KeySources: KeySources(c.Keys), revert: func() error { return nil },
	}
}

// Open opens the data directory, the keys and the store. Unless o allows it, Open creates nothing: it fails with
// ErrNoStore if there is no store, and with datadir.ErrRestoring while a restore is unfinished.
func Open(ctx context.Context, c config.Config, o Options) (_ *Installation, err error) {
	in := New(c)
	if o.Node == "" {
		if in.revert, err = runas.BecomeOwner(c.Data); err != nil {
			return nil, err
		}
	}
	if !o.Restoring {
		err = runas.InDataDir(in.Dir.CheckRestored())
	}
	if err == nil {
		err = in.open(ctx, o)
	}
	if err != nil {
		return nil, errors.Join(err, in.revert())
	}
	return in, nil
}

// open opens the keys and the store.
func (in *Installation) open(ctx context.Context, o Options) error {
	exists, err := in.HasStore(ctx)
	if err != nil {
		return err
	}
	if !exists && (o.Create < IfNamed || o.Create == IfNamed && !in.named()) {
		return in.NoStore()
	}
	if !exists {
		if err := in.mayCreate(ctx); err != nil {
			return err
		}
		if err := in.Dir.Create(); err != nil {
			return runas.InDataDir(err)
		}
	}
	var ring *secret.Ring
	err = in.InKeys(func() (err error) {
		ring, err = in.KeySources.Open(datadir.Store{
			Shared:   in.Shared(),
			KeepKeys: exists && o.Create != Always,
			Sealed:   func() (bool, error) { return in.sealed(ctx) },
		}, time.Now())
		return err
	})
	if errors.Is(err, fs.ErrPermission) && errors.Is(err, keyfile.ErrUnusable) {
		err = fmt.Errorf("%w; run the program as the owner of the keys, or correct owner and mode", err)
	}
	if err != nil {
		return err
	}
	if o.Lenient {
		ring = ring.Lenient()
	}
	in.Seal = ring
	in.Store, err = in.openStore(ctx, o.Node, o.Create.change(exists))
	return err
}

// InKeys calls do, which reads or writes key files, as the owner of the directory of the keys. That may be root
// although the data directory belongs to another user.
func (in *Installation) InKeys(do func() error) error {
	return runas.AsCaller(func() error {
		u, err := runas.OwnerOf(in.Keys.Dir)
		if err != nil {
			return err
		}
		return runas.As(u, do)
	})
}

// HasStore reports whether the store exists, without opening it.
func (in *Installation) HasStore(ctx context.Context) (exists bool, err error) {
	if in.Shared() {
		// Only root may be able to read the files that the URL and libpq's variables name, such as the password file.
		err = runas.AsCaller(func() error {
			exists, err = postgres.HasStore(ctx, in.Database)
			return err
		})
		return exists, err
	}
	exists, err = in.Dir.HasStore()
	return exists, runas.InDataDir(err)
}

// mayCreate fails if a store cannot be created, before any keys are created for it.
func (in *Installation) mayCreate(ctx context.Context) error {
	if !in.Shared() {
		return nil
	}
	return runas.AsCaller(func() error { return postgres.CheckCreate(ctx, in.Database) })
}

var defaultData = config.Default("data")

// named reports whether the configuration names the place of the store instead of using the default directory.
func (in *Installation) named() bool { return in.Shared() || in.Data != defaultData }

// NoStore returns ErrNoStore with the place where no store was found, and what to do.
func (in *Installation) NoStore() error {
	const create = ", or create a store with: dialtone serve"
	switch {
	case in.Shared():
		return fmt.Errorf("%w in the database; correct the database's URL, or give another --config%s",
			ErrNoStore, create)
	case !in.named():
		return fmt.Errorf("%w in %s (the default); give --data or --config%s", ErrNoStore, in.Data, create)
	}
	return fmt.Errorf("%w in %s; give another --data or --config%s", ErrNoStore, in.Data, create)
}

// Reopen closes the store of a command or of the only server, and opens it again with another sealing key.
func (in *Installation) Reopen(ctx context.Context, ring *secret.Ring) error {
	if err := in.Store.Close(); err != nil {
		return err
	}
	in.Seal = ring
	var err error
	in.Store, err = in.openStore(ctx, "", migrations.Nothing)
	return err
}

func (in *Installation) openStore(ctx context.Context, node string, change migrations.Change) (*store.Store, error) {
	check := store.SealCheck(in.Seal)
	if in.Shared() {
		var e *postgres.Engine
		err := runas.AsCaller(func() (err error) {
			e, err = postgres.OpenTo(ctx, change, node, in.Database, check)
			return err
		})
		if err != nil {
			return nil, err
		}
		return store.New(e, phonetables.OnPostgres(e, in.Seal))
	}
	e, err := sqlite.OpenTo(ctx, change, in.Dir.Database(), check)
	if err != nil {
		return nil, err
	}
	return store.New(e, phonetables.OnSQLite(e, in.Seal))
}

// sealed reports whether the store may contain sealed data, for which the key must exist.
func (in *Installation) sealed(ctx context.Context) (sealed bool, err error) {
	if in.Shared() {
		err = runas.AsCaller(func() error {
			sealed, err = postgres.Sealed(ctx, in.Database)
			return err
		})
		return sealed, err
	}
	return in.Dir.HasDatabase(), nil
}
