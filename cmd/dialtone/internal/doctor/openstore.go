package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"dialtone/cmd/dialtone/internal/finding"
	"dialtone/cmd/dialtone/internal/installation"
	"dialtone/cmd/dialtone/internal/runas"
	"dialtone/internal/datadir"
	"dialtone/internal/mail/pickup"
	"dialtone/internal/secret/keyfile"
	"dialtone/internal/shellword"
	"dialtone/internal/store"
	"dialtone/internal/store/migrations"
	"dialtone/internal/store/postgres"
	"dialtone/internal/store/sqlite"
	"dialtone/internal/tenant"
)

// open opens the store, unless its schema is older than the program's: opening must not change it.
func (e *examination) open(ctx context.Context) []finding.Finding {
	one := func(level finding.Level, see finding.Section, cause, next string) []finding.Finding {
		return []finding.Finding{finding.New(level, "store", see, cause, next)}
	}
	if err := datadir.Dir(e.Data).Restored(); err != nil {
		return one(finding.Fault, finding.AboutRestore, runas.InDataDir(err).Error(),
			"finish the restore; until then, no server starts")
	}
	in := installation.New(e.Config)
	exists, err := in.HasStore(ctx)
	if errors.Is(err, postgres.ErrMisplaced) {
		return one(finding.Fault, finding.AboutNodes, err.Error(),
			"do what the error says before you add a tenant; until then, no server starts")
	}
	if err != nil {
		return []finding.Finding{e.storeFault(err)}
	}
	if !exists {
		next := "give this command the configuration of the server; if this is a new machine, begin with: dialtone init"
		if list, err := os.ReadDir(e.Data); !in.Shared() && e.Configuration != "" && len(list) == 0 &&
			(err == nil || errors.Is(err, fs.ErrNotExist)) {
			next = fmt.Sprintf("there is a configuration, but %s is empty or missing: is it a volume that is not "+
				"mounted? If so, mount it before you start a server, which would otherwise create a new platform "+
				"there (findmnt -T %s); if this is a new machine, begin with: dialtone init", e.Data,
				shellword.Path(e.Data))
		}
		return one(finding.Fault, finding.AboutStart, in.NoStore().Error(), next)
	}
	version, known := int64(0), int64(0)
	if in.Shared() {
		known = int64(migrations.Newest(postgres.Dialect))
		version, err = postgres.SchemaVersion(ctx, e.Database)
	} else {
		known = int64(migrations.Newest(sqlite.Dialect))
		version, err = schemaVersion(in.Dir)
	}
	if err != nil {
		return []finding.Finding{e.storeFault(err)}
	}
	if version < known {
		return one(finding.Warning, finding.AboutNodes, fmt.Sprintf("the schema of the store has version %d, but this "+
			"program needs %d, so the store was not checked", version, known),
			"update it with dialtone store migrate, or by starting the server")
	}
	hidden := e.hidden(ctx)
	if e.newer = version > known; e.newer {
		hidden = append(hidden, one(finding.Warning, finding.AboutNodes, fmt.Sprintf("the schema of the store has "+
			"version %d, but this program knows only versions up to %d, so the schema was not checked for changes by "+
			"others", version, known), "run this command with the newest program that uses this database")...)
	}
	in, err = installation.Open(ctx, e.Config, installation.Options{Restoring: true})
	if err != nil {
		f := e.storeFault(err)
		if hidden != nil && !e.newer {
			f.Next = "first find out which of the two stores is the right one: this error may be about the wrong one"
		}
		return append(hidden, f)
	}
	list, _, err := in.Store.Tenants(ctx)
	if err != nil {
		in.Close()
		return []finding.Finding{e.storeFault(err)}
	}
	for _, t := range list {
		if t.PublicURL == "" {
			t.PublicURL = in.DefaultURL(t.Host)
		}
		e.tenants = append(e.tenants, t)
	}
	e.opened <- in
	found := append(hidden, e.unused(ctx, in)...)
	if len(list) == 0 {
		found = append(found, one(finding.Fault, finding.AboutTenants,
			"there is no tenant, so nobody can use the platform", "add one with: dialtone tenant add HOST")...)
	}
	return found
}

// schemaVersion reads the version of the schema as the owner of the data directory.
func schemaVersion(dir datadir.Dir) (version int64, err error) {
	revert, err := runas.BecomeOwner(string(dir))
	if err != nil {
		return 0, err
	}
	version, err = sqlite.SchemaVersion(dir.Database())
	return version, errors.Join(err, revert())
}

// hidden reports a store in a schema of PostgreSQL that is not used because another one precedes it in the search_path.
func (e *examination) hidden(ctx context.Context) []finding.Finding {
	if e.Database == "" {
		return nil
	}
	var used string
	var hidden []string
	err := runas.AsCaller(func() (err error) {
		used, hidden, err = postgres.Hidden(ctx, e.Database)
		return err
	})
	if err != nil || len(hidden) == 0 {
		return failed("store", err)
	}
	return []finding.Finding{finding.New(finding.Warning, "store", finding.AboutNodes, fmt.Sprintf(
		"the schema %q contains another store, which is not used because the schema %q precedes it in the search_path",
		hidden[0], used),
		"find out which store has the accounts, put its schema first in the search_path, and drop the other one")}
}

// unused notes a store that looks as after the first start of a server. If somebody expects accounts, this command or
// the server uses the wrong configuration.
func (e *examination) unused(ctx context.Context, in *installation.Installation) []finding.Finding {
	if len(e.tenants) != 1 || !tenant.Loopback(e.tenants[0].Host) {
		return nil
	}
	facts, err := in.Store.Facts(ctx)
	if err != nil || facts.Accounts > 0 {
		return failed("store", err)
	}
	place := "the PostgreSQL database"
	if e.Database == "" {
		place = in.Dir.Database()
	}
	return []finding.Finding{finding.New(finding.Note, "store", finding.AboutStart,
		fmt.Sprintf("%s has no accounts, and only the tenant %s", place, e.tenants[0].Host),
		"if there should be others, compare data and database with those of the server, also in the environment of "+
			"its unit, and see whether a volume is not mounted at data")}
}

// storeFault returns a finding about a store that cannot be opened.
func (e *examination) storeFault(err error) finding.Finding {
	check, see, next := "store", finding.AboutStart, sqlite.Advice(err)
	switch {
	case next != "":
		see = finding.AboutRestore
	case errors.Is(err, unix.EROFS):
		next = fmt.Sprintf("make the file system writable: findmnt -T %s shows it (for a unit of systemd, also look "+
			"at ReadWritePaths= in it); if it became read-only by itself, look at the disk first: dmesg",
			shellword.Path(e.Data))
	case errors.Is(err, store.ErrSealKey):
		check, see = "keys", finding.AboutKeys
		next = fmt.Sprintf("put the seal.key of this store at %s, from where you keep its copy or from a backup with "+
			"keys; or correct data or database, if this is the store of another platform",
			installation.KeySources(e.Keys).Seal.Path)
	case errors.Is(err, keyfile.ErrUnusable) && e.missingKey() != "":
		check, see = "keys", finding.AboutKeys
		next = fmt.Sprintf("put a copy of the key back at %s, or correct keys.dir: a new key does not fit this "+
			"store", e.missingKey())
	case errors.Is(err, keyfile.ErrUnusable):
		check, see = "keys", finding.AboutKeys
		next = "correct owner and mode of the key file (the server's user, 0600), or put a copy of it back"
	case errors.Is(err, sqlite.ErrNotWritable), errors.Is(err, runas.ErrDataDir):
		next = "give everything in the data directory to one user, with the commands of the findings about files, " +
			"and run the server as this user"
	case e.Database != "":
		next = "correct what the error says; if the database does not answer, look at its server and at the network"
	default:
		next = "correct what the error says; if the file is damaged, restore a backup"
	}
	return finding.New(finding.Fault, check, see, err.Error(), next)
}

// missingKey returns the path of the first missing key file without which the store cannot be opened, or "".
func (e *examination) missingKey() (path string) {
	keys := installation.KeySources(e.Keys)
	_ = runas.AsCaller(func() error {
		for _, source := range []keyfile.Source{keys.Seal, keys.Sign} {
			if _, err := os.Stat(source.Path); !source.FromEnv() && errors.Is(err, fs.ErrNotExist) {
				path = source.Path
				break
			}
		}
		return nil
	})
	return path
}

// schema reports changes of the schema by others, and lost messages. Unlike Verify, it does not read every row.
func (e *examination) schema(ctx context.Context, in *installation.Installation) (list []finding.Finding) {
	if !e.newer {
		err := in.Store.CheckSchema(ctx, func(text string) {
			list = append(list, finding.New(finding.Warning, "store", finding.AboutTrail, text,
				"find out who changed the database, undo it, and run: dialtone verify"))
		})
		list = append(list, failed("store", err)...)
	}
	dir, err := pickup.Look(in.Mail.PickupDir)
	if err != nil {
		return list // the check of the pickup directory reports it
	}
	lost, err := lostMessages(ctx, in, dir)
	for _, text := range lost {
		list = append(list, finding.New(finding.Fault, "store", finding.AboutMail, text,
			"run dialtone verify; people whose message is lost can ask for another one"))
	}
	return append(list, failed("store", err)...)
}
