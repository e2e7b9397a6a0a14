package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/config"
	"dialtone/internal/fault"
	"dialtone/internal/mailmsg"
	"dialtone/internal/secret"
	"dialtone/internal/secret/keyfile"
	"dialtone/internal/sqlstore"
	"dialtone/internal/tenant"
)

// errKeys is trouble with a key file.
var errKeys = errors.New("keys")

// errTemplates is trouble with a template for messages.
var errTemplates = errors.New("mail.templates_dir")

// templates are those of a directory, or none.
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

// folder is an open data folder:
//
//	dialtone.db   the store, unless that is a PostgreSQL database
//	keys/         sign.key and seal.key, which a copy of the store is worth nothing without, and turn.key, unless they lie elsewhere
//	node.id       the name under which PostgreSQL knows this server
//	pickup/       messages on their way to a mail server, unless they go elsewhere
//	serve.lock    held by the server of this folder
type folder struct {
	config.Config
	seal  *secret.Ring
	store *sqlstore.Store
}

func (f *folder) signKey() string { return filepath.Join(f.Keys.Dir, "sign.key") }
func (f *folder) sealKey() string { return filepath.Join(f.Keys.Dir, "seal.key") }

// nodes reports whether other servers may share the store.
func (f *folder) nodes() bool { return f.Database != "" }

// signRing is the ring of sign.key as it is now.
func (f *folder) signRing() (*secret.Ring, error) {
	return heldOr(f.Keys.Sign, "DIALTONE_KEYS_SIGN", f.signKey())
}

// heldOr reads a ring that the environment holds, or else a file.
func heldOr(text config.Secret, variable, path string) (ring *secret.Ring, err error) {
	if text == "" {
		ring, err = keyfile.Read(path)
	} else if ring, err = secret.ParseRing(string(text)); err != nil {
		err = fmt.Errorf("%s:%w; give it the content of a key file", variable, err)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errKeys, err)
	}
	return ring, nil
}

// openFolder opens the data folder, and makes it where it is missing, for a command.
func openFolder(ctx context.Context, c config.Config) (*folder, error) { return openNode(ctx, c, "") }

// openNode opens it for the server of that name.
func openNode(ctx context.Context, c config.Config, node string) (*folder, error) {
	f := &folder{Config: c}
	// Mail agents of another group pass through to the pickup directory; what is beside it has modes of its own.
	if err := os.MkdirAll(f.Data, 0o751); err != nil {
		return nil, err
	}
	if err := f.openKeys(ctx); err != nil {
		return nil, err
	}
	var err error
	if !f.nodes() {
		f.store, err = sqlstore.Open(ctx, f.database(), f.seal)
		return f, err
	}
	f.store, err = sqlstore.OpenPostgres(ctx, f.seal, node, f.Database)
	return f, err
}

// database is the file of SQLite.
func (f *folder) database() string { return filepath.Join(f.Data, "dialtone.db") }

// openKeys reads the keys, and makes what is missing, but not a seal key for a store that has one: a new one would open nothing,
// and hide that the right one is missing.
func (f *folder) openKeys(ctx context.Context) (err error) {
	for _, k := range []struct {
		held      config.Secret
		path, why string
		needed    bool
	}{
		{f.Keys.Seal, f.sealKey(), "what is in the store cannot be read without it; restore it from a backup", true},
		{f.Keys.Sign, f.signKey(), "other servers of this database have one, and this one would refuse what they signed; take it from one of them", f.nodes()},
	} {
		if _, err := os.Stat(k.path); k.held != "" || !k.needed || !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if sealed, err := f.sealed(ctx); err != nil {
			return err
		} else if sealed {
			return fmt.Errorf("%w: %s is missing, and %s", errKeys, k.path, k.why)
		}
	}
	if f.Keys.Seal == "" || f.Keys.Sign == "" {
		if err := f.makeKeysFolder(); err != nil {
			return err
		}
	}
	for _, k := range []struct {
		held config.Secret
		path string
	}{{f.Keys.Seal, f.sealKey()}, {f.Keys.Sign, f.signKey()}} {
		if k.held != "" {
			continue
		}
		if _, err := keyfile.ReadOrCreate(k.path, time.Now()); err != nil {
			return fmt.Errorf("%w: %w", errKeys, err)
		}
	}
	if f.seal, err = heldOr(f.Keys.Seal, "DIALTONE_KEYS_SEAL", f.sealKey()); err != nil {
		return err
	}
	_, err = f.signRing()
	return err
}

// makeKeysFolder does not make what it lies in: where that is missing, something is not mounted.
func (f *folder) makeKeysFolder() error {
	if err := os.Mkdir(f.Keys.Dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%w: the folder of the keys cannot be made: %w; mount or make what it lies in, or mend keys.dir", errKeys, err)
	}
	return nil
}

// sealed reports whether the store has been sealed with a key.
func (f *folder) sealed(ctx context.Context) (bool, error) {
	if f.nodes() {
		return sqlstore.PostgresSealed(ctx, f.Database)
	}
	info, err := os.Stat(f.database())
	return err == nil && info.Size() > 0, nil
}

// nodeID is the name of the server of a data folder among those that share a database. It is made once, at random.
func nodeID(data string) (string, error) {
	path := filepath.Join(data, "node.id")
	id, err := readNodeID(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return id, err
	}
	if err := os.MkdirAll(data, 0o751); err != nil {
		return "", err
	}
	f, err := os.CreateTemp(data, ".node-*") // with mode 0600
	if err != nil {
		return "", err
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString(strings.ToLower(rand.Text()) + "\n")
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return "", err
	}
	// Of two servers that start at once, only one gets the folder; which, is not known yet. So both take the name that was first.
	if err := os.Link(f.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	// A server whose name a power cut takes away would be another one afterwards, and wait for its own messages.
	if err := syncFolder(data); err != nil {
		return "", err
	}
	return readNodeID(path)
}

func readNodeID(path string) (string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	id := strings.TrimSpace(string(text))
	if len(id) < 16 || len(id) > 64 || strings.ContainsFunc(id, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return "", fmt.Errorf("%s is damaged; delete it, and this server gets a new name", path)
	}
	return id, nil
}

func syncFolder(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// with opens the data folder for one command and closes it behind it.
func (p *program) with(do func(*folder) error) (err error) {
	c, err := p.settings()
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
func (p *program) desk(f *folder) *account.Service {
	log := p.logger(f.Log)
	return account.NewService(account.Deps{
		Store:    f.store,
		SealRing: f.seal,
		Audit:    audit.Log{Logger: log},
		Log:      log,
		Now:      time.Now,
	})
}
