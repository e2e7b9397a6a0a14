package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/config"
	"dialtone/internal/datadir"
	"dialtone/internal/fault"
	"dialtone/internal/mailmsg"
	"dialtone/internal/secret"
	"dialtone/internal/store"
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
}

// shared reports whether other servers may use the store.
func (in *installation) shared() bool { return in.Database != "" }

// openInstallation opens the data directory and the store. It creates what is missing. Only a
// server has a node name.
func openInstallation(ctx context.Context, c config.Config, node string) (*installation, error) {
	in := &installation{Config: c, dir: datadir.Dir(c.Data), keys: newKeys(c.Keys)}
	if err := in.dir.Create(); err != nil {
		return nil, err
	}
	var err error
	in.seal, err = in.keys.Open(datadir.Store{
		Shared: in.shared(),
		Sealed: func() (bool, error) { return in.sealed(ctx) },
	}, time.Now())
	if err != nil {
		return nil, err
	}
	in.store, err = in.openStore(ctx, node)
	return in, err
}

// newKeys returns the keys of the configuration.
func newKeys(c config.KeyFiles) *datadir.Keys {
	return datadir.NewKeys(c.Dir, datadir.KeyTexts{Seal: c.Seal, Sign: c.Sign, TURN: c.Turn})
}

func (in *installation) openStore(ctx context.Context, node string) (*store.Store, error) {
	check := store.SealCheck(in.seal)
	if in.shared() {
		e, err := postgres.Open(ctx, node, in.Database, check)
		if err != nil {
			return nil, err
		}
		return store.New(e, phonetables.OnPostgres(e, in.seal)), nil
	}
	e, err := sqlite.Open(ctx, in.dir.Database(), check)
	if err != nil {
		return nil, err
	}
	return store.New(e, phonetables.OnSQLite(e, in.seal)), nil
}

// sealed reports whether the store may contain something that is sealed with a key.
func (in *installation) sealed(ctx context.Context) (bool, error) {
	if in.shared() {
		return postgres.Sealed(ctx, in.Database)
	}
	return in.dir.HasDatabase(), nil
}

// with opens the installation, runs a function with it, and closes it.
func (p *program) with(do func(*installation) error) (err error) {
	c, err := p.settings()
	if err != nil {
		return err
	}
	in, err := openInstallation(p.ctx, c, "")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.store.Close()) }()
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

// typedHost returns a typed host name in the form that the store has.
func typedHost(host string) (string, error) {
	t, err := tenant.New(tenant.Tenant{Host: host})
	return t.Host, err
}

// accounts returns the account service of a command, which writes no messages.
func (p *program) accounts(in *installation) *account.Service {
	log := p.logger(in.Log)
	return account.NewService(account.Deps{
		Store:    in.store,
		SealRing: in.seal,
		Audit:    audit.Log{Logger: log},
		Log:      log,
		Now:      time.Now,
	})
}
