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

// instance is what all commands use: the configuration, the data directory, the keys and the store.
type instance struct {
	config.Config
	dir   datadir.Dir
	keys  *datadir.Keys
	seal  *secret.Ring
	store *store.Store
}

// shared reports whether other servers may use the store.
func (f *instance) shared() bool { return f.Database != "" }

// openInstance opens the data directory and the store. It creates what is missing. Only a server has
// a node name.
func openInstance(ctx context.Context, c config.Config, node string) (*instance, error) {
	f := &instance{Config: c, dir: datadir.Dir(c.Data), keys: newKeys(c.Keys)}
	if err := f.dir.Create(); err != nil {
		return nil, err
	}
	var err error
	f.seal, err = f.keys.Open(datadir.Store{
		Shared: f.shared(),
		Sealed: func() (bool, error) { return f.sealed(ctx) },
	}, time.Now())
	if err != nil {
		return nil, err
	}
	f.store, err = f.openStore(ctx, node)
	return f, err
}

// newKeys returns the keys of the configuration.
func newKeys(c config.KeyFiles) *datadir.Keys {
	return datadir.NewKeys(c.Dir, datadir.KeyTexts{Seal: c.Seal, Sign: c.Sign, TURN: c.Turn})
}

func (f *instance) openStore(ctx context.Context, node string) (*store.Store, error) {
	check := store.SealCheck(f.seal)
	if f.shared() {
		e, err := postgres.Open(ctx, node, f.Database, check)
		if err != nil {
			return nil, err
		}
		return store.New(e, phonetables.OnPostgres(e, f.seal)), nil
	}
	e, err := sqlite.Open(ctx, f.dir.Database(), check)
	if err != nil {
		return nil, err
	}
	return store.New(e, phonetables.OnSQLite(e, f.seal)), nil
}

// sealed reports whether something in the store is sealed with a key.
func (f *instance) sealed(ctx context.Context) (bool, error) {
	if f.shared() {
		return postgres.Sealed(ctx, f.Database)
	}
	return f.dir.HasDatabase(), nil
}

// with opens the instance, runs a function with it, and closes it.
func (p *program) with(do func(*instance) error) (err error) {
	c, err := p.settings()
	if err != nil {
		return err
	}
	f, err := openInstance(p.ctx, c, "")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.store.Close()) }()
	return do(f)
}

// tenantOf returns the tenant of a host name. An operator may type it in upper case and in any
// script.
func (f *instance) tenantOf(ctx context.Context, host string) (*tenant.Tenant, error) {
	typed, err := typedHost(host)
	if err != nil {
		return nil, err
	}
	list, _, err := f.store.Tenants(ctx)
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
func (p *program) accounts(f *instance) *account.Service {
	log := p.logger(f.Log)
	return account.NewService(account.Deps{
		Store:    f.store,
		SealRing: f.seal,
		Audit:    audit.Log{Logger: log},
		Log:      log,
		Now:      time.Now,
	})
}
