package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/captcha"
	"dialtone/internal/config"
	"dialtone/internal/fault"
	"dialtone/internal/pickup"
	"dialtone/internal/secret"
	"dialtone/internal/sqlstore"
	"dialtone/internal/tenant"
)

// errKeys is trouble with a key file.
var errKeys = errors.New("keys")

// folder is an open data folder:
//
//	dialtone.db   the store
//	keys/         sign.key and seal.key, which a copy of the store is worth nothing without
//	pickup/       messages on their way to a mail server, unless they go elsewhere
//	serve.lock    held by the server of this folder
type folder struct {
	config.Config
	seal  *secret.Ring
	store *sqlstore.Store
}

func (f *folder) signKey() string { return filepath.Join(f.Data, "keys", "sign.key") }
func (f *folder) sealKey() string { return filepath.Join(f.Data, "keys", "seal.key") }

// openFolder opens the data folder, and makes it where it is missing.
func openFolder(ctx context.Context, c config.Config) (*folder, error) {
	f := &folder{Config: c}
	// Mail agents of another group pass through to the pickup directory; what is beside it has modes of its own.
	if err := os.MkdirAll(f.Data, 0o751); err != nil {
		return nil, err
	}
	keys := filepath.Join(f.Data, "keys")
	database, sealKey := filepath.Join(f.Data, "dialtone.db"), f.sealKey()
	if info, err := os.Stat(database); err == nil && info.Size() > 0 {
		// The key was there before the store. A new one would open nothing, and hide that the right one is missing.
		if _, err := os.Stat(sealKey); errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%w: %s is missing, and what is in the store cannot be read without it; restore it from a backup", errKeys, sealKey)
		}
	}
	if err := os.Mkdir(keys, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	var err error
	if f.seal, err = secret.ReadOrCreate(sealKey, time.Now()); err != nil {
		return nil, fmt.Errorf("%w: %w", errKeys, err)
	}
	if _, err = secret.ReadOrCreate(f.signKey(), time.Now()); err != nil {
		return nil, fmt.Errorf("%w: %w", errKeys, err)
	}
	f.store, err = sqlstore.Open(ctx, database, f.seal)
	return f, err
}

// with opens the data folder for one command and closes it behind it.
func (p *program) with(do func(*folder) error) (err error) {
	c, err := p.settings(nil)
	if err != nil {
		return err
	}
	f, err := openFolder(p.ctx, c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.store.Close()) }()
	return do(f)
}

// tenantOf is the tenant of a host that an operator typed.
func (f *folder) tenantOf(ctx context.Context, host string) (*tenant.Tenant, error) {
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

// typedHost is a host name as the store has it, from how an operator may type it: in any case and any script.
func typedHost(host string) (string, error) {
	t, err := tenant.New(tenant.Tenant{Host: host})
	return t.Host, err
}

// desk is the accounts' desk of a command, which publishes no messages.
func (p *program) desk(f *folder) *account.Desk {
	log := p.logger(f.Log)
	return account.NewDesk(account.Deps{
		Store:    f.store,
		Mailbox:  (*pickup.Directory)(nil),
		Tenant:   func(int64) (*tenant.Tenant, bool) { return nil, false },
		Captcha:  func() *captcha.Issuer { return nil },
		SealRing: f.seal,
		Audit:    audit.Log{Logger: log},
		Log:      log,
		Now:      time.Now,
	})
}
