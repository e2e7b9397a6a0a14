// Package installation opens what a server or a command works on: the configuration, the data directory, the keys and
// the store.
//
// Nothing is created unless the caller allows it, because a wrong directory is a mistake, not a new platform. A store
// is opened only with the keys that belong to it. A command of root works as the owner of the data directory until
// Close (package runas). While a restore is not finished, only the restore itself and commands that look for faults
// can open the installation.
//
// The package also contains what several parts of the program derive from the configuration: the relay, certificate
// files, the other files that it names, and addresses.
//
// It does not parse flags and does not decide what an error means for the exit status.
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
	"dialtone/internal/secret"
	"dialtone/internal/secret/keyfile"
	"dialtone/internal/store"
	"dialtone/internal/store/migrations"
	"dialtone/internal/store/phonetables"
	"dialtone/internal/store/postgres"
	"dialtone/internal/store/sqlite"
)

// Installation is what a server or a command works on.
type Installation struct {
	config.Config
	Dir        datadir.Dir
	KeySources *datadir.Keys // where the keys are
	Seal       *secret.Ring  // the keys in seal.key
	Store      *store.Store

	back func() error // undoes BecomeOwner
}

// Close closes the store. A command then continues as the user who started it.
func (in *Installation) Close() error { return errors.Join(in.Store.Close(), in.back()) }

// Shared reports whether other servers may use the store.
func (in *Installation) Shared() bool { return in.Database != "" }

// Keeper returns what writes the checkpoints of the audit trail. The node is the name of a server; commands have none.
func (in *Installation) Keeper(node string, log *slog.Logger) *audit.Keeper {
	return audit.NewKeeper(audit.KeeperDeps{
		Store: in.Store, Ring: in.KeySources.Seal.Read, Memory: in.Dir.TrailFile(), Node: node, Log: log,
		Now: time.Now,
	})
}

// Creation says which commands create a store where there is none.
type Creation int

const (
	// Never is for all commands but those below: a wrong directory is a mistake. They do not update the schema
	// either, which is for the operator to decide while servers of the previous version run.
	Never Creation = iota
	// Upgrade is for commands that update the schema of a store.
	Upgrade
	// IfNamed is for a command that may be the first on a machine. It creates a store if the
	// configuration names the directory or the database, not in the default directory.
	IfNamed
	// Always is for the server. It updates the schema too.
	Always
)

// change returns what may be changed in the schema of a database that has a store, or has none.
func (c Creation) change(exists bool) migrations.Change {
	switch {
	case !exists && c >= IfNamed:
		return migrations.Create
	case c == Upgrade, c == Always:
		return migrations.Upgrade
	}
	return migrations.Nothing
}

// ErrNoStore means that there is no store where the configuration says.
var ErrNoStore = errors.New("there is no store")

// Options say how Open opens an installation. The zero value is for a command that needs a store.
type Options struct {
	// Node is the name of the server that opens the installation. Commands have none. A command of root continues as
	// the owner of the data directory.
	Node string
	// Create says whether a store may be created or updated.
	Create Creation
	// Lenient accepts credentials that are not bound to their user names, whatever seal.key says.
	Lenient bool
	// Restoring allows an installation whose restore is not finished.
	Restoring bool
}

// New returns the installation of a configuration without opening it: it has neither Seal nor Store.
func New(c config.Config) *Installation {
	return &Installation{
		Config: c, Dir: datadir.Dir(c.Data), KeySources: KeySources(c.Keys), back: func() error { return nil },
	}
}

// Open opens the data directory, the keys and the store. Unless o allows it, nothing is created: it fails
// with ErrNoStore where there is no store, and with datadir.ErrRestoring while a restore is not finished.
func Open(ctx context.Context, c config.Config, o Options) (_ *Installation, err error) {
	in := New(c)
	if o.Node == "" {
		if in.back, err = runas.BecomeOwner(c.Data); err != nil {
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
		return nil, errors.Join(err, in.back())
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

// InKeys calls do, which reads or writes keys. Root may have put them where only root can write.
func (in *Installation) InKeys(do func() error) error {
	return runas.AsCaller(func() error {
		o, err := runas.OwnerOf(in.Keys.Dir)
		if err != nil {
			return err
		}
		return o.Do(do)
	})
}

// HasStore reports whether there is a store, without opening it.
func (in *Installation) HasStore(ctx context.Context) (exists bool, err error) {
	if in.Shared() {
		// The files that libpq's variables and the URL name, such as the one with the password, may be root's.
		err = runas.AsCaller(func() error {
			exists, err = postgres.HasStore(ctx, in.Database)
			return err
		})
		return exists, err
	}
	exists, err = in.Dir.HasStore()
	return exists, runas.InDataDir(err)
}

// mayCreate fails if a store cannot be created, so that no keys are made for it.
func (in *Installation) mayCreate(ctx context.Context) error {
	if !in.Shared() {
		return nil
	}
	return runas.AsCaller(func() error { return postgres.CheckCreate(ctx, in.Database) })
}

// defaultData is the data directory of a configuration that names none.
var defaultData = config.Default("data")

// named reports whether the configuration names the place of the store.
func (in *Installation) named() bool { return in.Shared() || in.Data != defaultData }

// NoStore returns an error that says where no store was found, and what to do.
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

// Reopen closes the store of a command or of the only server, and opens it again with another ring of the keys.
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

// sealed reports whether the store may contain something that is sealed with a key.
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
