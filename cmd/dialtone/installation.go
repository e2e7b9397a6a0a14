package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/config"
	"dialtone/internal/datadir"
	"dialtone/internal/doctor"
	"dialtone/internal/fault"
	"dialtone/internal/mailmsg"
	"dialtone/internal/outbox"
	"dialtone/internal/secret"
	"dialtone/internal/secret/keyfile"
	"dialtone/internal/shellword"
	"dialtone/internal/store"
	"dialtone/internal/store/migrations"
	"dialtone/internal/store/phonetables"
	"dialtone/internal/store/postgres"
	"dialtone/internal/store/sqlite"
	"dialtone/internal/tenant"
)

// errTemplates means that mail.templates_dir cannot be used.
var errTemplates = errors.New("mail.templates_dir")

// templates reads the templates in a directory. If dir is empty, there are none.
func templates(dir string) (mailmsg.Templates, error) {
	if dir == "" {
		return mailmsg.Templates{}, nil
	}
	ts, err := mailmsg.Load(os.DirFS(dir))
	if err != nil {
		err = fmt.Errorf("%w: %s: %w", errTemplates, dir, err)
	}
	return ts, err
}

// installation is what all commands use: the configuration, the data directory, the keys and the
// store.
type installation struct {
	config.Config
	dir   datadir.Dir
	keys  *datadir.Keys
	seal  *secret.Ring
	store *store.Store
	back  func() error // undoes becomeOwner
}

// close closes the store. The command continues as the user who has started it.
func (in *installation) close() error { return errors.Join(in.store.Close(), in.back()) }

// shared reports whether other servers may use the store.
func (in *installation) shared() bool { return in.Database != "" }

// keeper returns what writes the checkpoints of the audit trail, as a node, or "".
func (in *installation) keeper(node string, log *slog.Logger) *audit.Keeper {
	return audit.NewKeeper(audit.KeeperDeps{
		Store: in.store, Ring: in.keys.Seal.Read, Memory: in.dir.TrailFile(), Node: node, Log: log,
		Now: time.Now,
	})
}

// creation says which commands create a store where there is none.
type creation int

const (
	// never is for all commands but those below: a wrong directory is a mistake. They do not update the schema
	// either, which is for the operator to decide while servers of the previous version run.
	never creation = iota
	// upgrade is for commands that update the schema of a store.
	upgrade
	// ifNamed is for a command that may be the first on a machine. It creates a store if the
	// configuration names the directory or the database, not in the default directory.
	ifNamed
	// always is for the server. It updates the schema too.
	always
)

// change returns what may be changed in the schema of a database that has a store, or has none.
func (c creation) change(exists bool) migrations.Change {
	switch {
	case !exists && c >= ifNamed:
		return migrations.Create
	case c == upgrade, c == always:
		return migrations.Upgrade
	}
	return migrations.Nothing
}

// errNoStore means that there is no store where the configuration says.
var errNoStore = errors.New("there is no store")

// errDataDir means that this process may not use the data directory.
var errDataDir = errors.New("the data directory cannot be used by this user")

// inDataDir adds errDataDir to an error that says that this process lacks a permission.
func inDataDir(err error) error {
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EROFS) {
		return fmt.Errorf("%w: %w; run the program as its owner, or correct owner and mode", errDataDir, err)
	}
	return err
}

// errPickupDir means that this process may not use the pickup directory, which is not in the data directory.
var errPickupDir = errors.New("the pickup directory (mail.pickup_dir) cannot be used by this user")

// inPickupDir is inDataDir for the pickup directory of a configuration.
func inPickupDir(c config.Config, err error) error {
	if below(c.Mail.PickupDir, c.Data) || !errors.Is(err, fs.ErrPermission) && !errors.Is(err, unix.EROFS) {
		return inDataDir(err)
	}
	me := userOf(uint32(os.Geteuid()), uint32(os.Getegid()))
	return fmt.Errorf("%w: %s: %w; %s", errPickupDir, c.Mail.PickupDir, err, makePickup(me, c.Mail.PickupDir))
}

// makePickup says how to make a pickup directory, or one that exists usable, for a user, and badmail beside it.
func makePickup(u serverUser, dir string) string {
	if link := doctor.Link("mail", dir); link != nil {
		return link.Cause + "; " + link.Next
	}
	return fmt.Sprintf("run as root: install -d -o %s -g %s -m 2770 %s %s; or correct mail.pickup_dir",
		shellword.Quote(u.name), shellword.Quote(u.group), shellword.Path(dir),
		shellword.Path(filepath.Join(filepath.Dir(dir), "badmail")))
}

// openInstallation opens the data directory and the store. If create allows it, it creates what is
// missing; otherwise it creates nothing. Only a server has a node name.
func openInstallation(
	ctx context.Context, c config.Config, node string, create creation,
) (*installation, error) {
	return openInstallationWith(ctx, c, node, create, func(r *secret.Ring) *secret.Ring { return r })
}

// openInstallationWith is openInstallation with another ring of the keys in seal.key.
func openInstallationWith(
	ctx context.Context, c config.Config, node string, create creation, with func(*secret.Ring) *secret.Ring,
) (*installation, error) {
	return openChecked(ctx, c, node, create, with, datadir.Dir(c.Data).CheckRestored)
}

// openAny is openInstallationWith also while a restore is not finished.
func openAny(
	ctx context.Context, c config.Config, node string, create creation, with func(*secret.Ring) *secret.Ring,
) (*installation, error) {
	return openChecked(ctx, c, node, create, with, func() error { return nil })
}

// openChecked calls check first. A command of root continues as the owner of the data directory.
func openChecked(
	ctx context.Context, c config.Config, node string, create creation, with func(*secret.Ring) *secret.Ring,
	check func() error,
) (_ *installation, err error) {
	in := &installation{
		Config: c, dir: datadir.Dir(c.Data), keys: newKeys(c.Keys), back: func() error { return nil },
	}
	if node == "" {
		back, err := becomeOwner(c.Data)
		if err != nil {
			return nil, err
		}
		in.back = back
	}
	if err = check(); err != nil {
		err = inDataDir(err)
	} else {
		err = in.open(ctx, node, create, with)
	}
	if err != nil {
		return nil, errors.Join(err, in.back())
	}
	return in, nil
}

// open opens the keys and the store.
func (in *installation) open(
	ctx context.Context, node string, create creation, with func(*secret.Ring) *secret.Ring,
) error {
	exists, err := in.hasStore(ctx)
	if err != nil {
		return err
	}
	if !exists && (create < ifNamed || create == ifNamed && !in.named()) {
		return in.noStore()
	}
	if !exists {
		if err := in.mayCreate(ctx); err != nil {
			return err
		}
		if err := in.dir.Create(); err != nil {
			return inDataDir(err)
		}
	}
	var ring *secret.Ring
	err = in.inKeys(func() (err error) {
		ring, err = in.keys.Open(datadir.Store{
			Shared:   in.shared(),
			KeepKeys: exists && create != always,
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
	in.seal = with(ring)
	in.store, err = in.openStore(ctx, node, create.change(exists))
	return err
}

// inKeys calls do, which reads or writes keys. Root may have put them where only root can write.
func (in *installation) inKeys(do func() error) error {
	return asCaller(func() error {
		o, err := ownerOf(in.Keys.Dir)
		if err != nil {
			return err
		}
		return o.do(do)
	})
}

func (in *installation) hasStore(ctx context.Context) (exists bool, err error) {
	if in.shared() {
		// The files that libpq's variables and the URL name, such as the one with the password, may be root's.
		err = asCaller(func() error {
			exists, err = postgres.HasStore(ctx, in.Database)
			return err
		})
		return exists, err
	}
	exists, err = in.dir.HasStore()
	return exists, inDataDir(err)
}

// mayCreate fails if a store cannot be created, so that no keys are made for it.
func (in *installation) mayCreate(ctx context.Context) error {
	if !in.shared() {
		return nil
	}
	return asCaller(func() error { return postgres.CheckCreate(ctx, in.Database) })
}

// defaultData is the data directory of a configuration that names none.
var defaultData = defaultOf("data")

// named reports whether the configuration names the place of the store.
func (in *installation) named() bool { return in.shared() || in.Data != defaultData }

// noStore returns an error that says where no store was found, and what to do.
func (in *installation) noStore() error {
	const create = ", or create a store with: dialtone serve"
	switch {
	case in.shared():
		return fmt.Errorf("%w in the database; correct the database's URL, or give another --config%s",
			errNoStore, create)
	case !in.named():
		return fmt.Errorf("%w in %s (the default); give --data or --config%s", errNoStore, in.Data, create)
	}
	return fmt.Errorf("%w in %s; give another --data or --config%s", errNoStore, in.Data, create)
}

// newKeys returns the keys of the configuration.
func newKeys(c config.KeyFiles) *datadir.Keys {
	return datadir.NewKeys(c.Dir, datadir.KeyTexts{Seal: c.Seal, Sign: c.Sign, TURN: c.Turn})
}

func (in *installation) openStore(ctx context.Context, node string, change migrations.Change) (*store.Store, error) {
	check := store.SealCheck(in.seal)
	if in.shared() {
		var e *postgres.Engine
		err := asCaller(func() (err error) {
			e, err = postgres.OpenTo(ctx, change, node, in.Database, check)
			return err
		})
		if err != nil {
			return nil, err
		}
		return store.New(e, phonetables.OnPostgres(e, in.seal))
	}
	e, err := sqlite.OpenTo(ctx, change, in.dir.Database(), check)
	if err != nil {
		return nil, err
	}
	return store.New(e, phonetables.OnSQLite(e, in.seal))
}

// sealed reports whether the store may contain something that is sealed with a key.
func (in *installation) sealed(ctx context.Context) (sealed bool, err error) {
	if in.shared() {
		err = asCaller(func() error {
			sealed, err = postgres.Sealed(ctx, in.Database)
			return err
		})
		return sealed, err
	}
	return in.dir.HasDatabase(), nil
}

// with opens the installation, runs a function with it, and closes it. There must be a store.
func (p *program) with(do func(*installation) error) error { return p.withStore(never, do) }

// withStore is with for a command that may create a store.
func (p *program) withStore(create creation, do func(*installation) error) error {
	warn := func(c config.Config, lost []lostPart) { warnOfLost(p.logger(c.Log), lost) }
	return p.withStoreWarning(create, warn, do)
}

// withStoreWarning is withStore, with what warns of parts that were created though the installation is not new.
func (p *program) withStoreWarning(
	create creation, warn func(config.Config, []lostPart), do func(*installation) error,
) (err error) {
	c, err := p.settings()
	if err != nil {
		return err
	}
	var lost []lostPart
	if create >= ifNamed {
		lost = lostParts(p.ctx, c, create)
	}
	in, err := openInstallation(p.ctx, c, "", create)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.close()) }()
	warn(c, lost)
	return do(in)
}

// tenantOf returns the tenant of a host name. An operator may type it in upper case and in any
// script.
func (in *installation) tenantOf(ctx context.Context, host string) (*tenant.Tenant, error) {
	typed, err := typedHost(host)
	if err != nil {
		return nil, err
	}
	list, _, err := in.store.Tenants(ctx)
	if err != nil {
		return nil, err
	}
	for _, t := range list {
		if t.Host == typed {
			return &t, nil
		}
	}
	return nil, fault.New(fault.NotFound, "there is no tenant %s; see: dialtone tenant list", host)
}

// tenantOrOnly is tenantOf, or returns the only tenant if host is empty.
func (in *installation) tenantOrOnly(ctx context.Context, host string) (*tenant.Tenant, error) {
	if host != "" {
		return in.tenantOf(ctx, host)
	}
	list, _, err := in.store.Tenants(ctx)
	switch {
	case err != nil:
		return nil, err
	case len(list) == 0:
		return nil, fault.New(fault.NotFound, "there is no tenant; add one with: dialtone tenant add HOST")
	case len(list) == 1:
		return &list[0], nil
	}
	hosts := make([]string, len(list))
	for i, t := range list {
		hosts[i] = t.Host
	}
	return nil, usageError{fault.New(fault.Invalid, "there are several tenants; name one of: %s",
		strings.Join(hosts, ", "))}
}

// typedHost returns a typed host name in the form that the store has.
func typedHost(host string) (string, error) {
	t, err := tenant.New(tenant.Tenant{Host: host})
	return t.Host, err
}

// accounts returns the account service of a command, which writes no messages.
func (p *program) accounts(in *installation) *account.Service {
	return account.NewService(account.Deps{
		Store:    in.store,
		SealRing: in.seal,
		Outbox:   outbox.New(outbox.Deps{SealRing: in.seal, Now: time.Now}), // seals links, and writes no messages
		Log:      p.logger(in.Log),
		Now:      time.Now,
	})
}
