package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
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

// openFolder opens the data folder, and makes it where it is missing.
func openFolder(ctx context.Context, c config.Config) (*folder, error) {
	f := &folder{Config: c}
	// Mail agents of another group pass through to the pickup directory; what is beside it has modes of its own.
	if err := os.MkdirAll(f.Data, 0o751); err != nil {
		return nil, err
	}
	keys := filepath.Join(f.Data, "keys")
	if err := os.Mkdir(keys, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	database, sealKey := filepath.Join(f.Data, "dialtone.db"), filepath.Join(keys, "seal.key")
	if info, err := os.Stat(database); err == nil && info.Size() > 0 {
		// The key was there before the store. A new one would open nothing, and hide that the right one is missing.
		if _, err := os.Stat(sealKey); errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%w: %s is missing, and what is in the store cannot be read without it; restore it from a backup", errKeys, sealKey)
		}
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

// logger writes to stderr: readable text for a person at a terminal, JSON lines for everything else.
func (p *program) logger(c config.Log) *slog.Logger {
	options := &slog.HandlerOptions{Level: c.Level, ReplaceAttr: utc}
	text := c.Format == config.LogText
	if c.Format == config.LogAuto {
		f, ok := p.stderr.(*os.File)
		if ok {
			info, err := f.Stat()
			text = err == nil && info.Mode()&fs.ModeCharDevice != 0
		}
	}
	if text {
		return slog.New(slog.NewTextHandler(p.stderr, options))
	}
	return slog.New(slog.NewJSONHandler(p.stderr, options))
}

func utc(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && a.Key == slog.TimeKey {
		a.Value = slog.TimeValue(a.Value.Time().UTC())
	}
	return a
}

// tenantOf is the tenant of a host that an operator typed.
func (f *folder) tenantOf(ctx context.Context, host string) (*tenant.Tenant, error) {
	list, _, err := f.store.Tenants(ctx)
	if err != nil {
		return nil, err
	}
	for _, t := range list {
		if t.Host == tenant.CanonicalHost(host) {
			return &t, nil
		}
	}
	return nil, fault.New(fault.NotFound, "there is no tenant %s; see: dialtone tenant list", host)
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
