package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"dialtone/cmd/dialtone/internal/installation"
	"dialtone/cmd/dialtone/internal/owner"
	"dialtone/cmd/dialtone/internal/runas"
	"dialtone/cmd/dialtone/internal/terminal"
	"dialtone/internal/datadir"
	"dialtone/internal/fault"
	"dialtone/internal/store/transfer"
)

type storeCommand struct {
	Migrate storeMigrate `cmd:"" help:"Update the schema, as a server does when it starts."`
	Copy    storeCopy    `cmd:"" help:"Copy the store to another database."`
}

type storeMigrate struct{}

func (storeMigrate) Run(p *program) error {
	return p.withStore(installation.Upgrade, func(in *installation.Installation) error {
		version, err := in.Store.Schema(p.ctx)
		if err == nil {
			fmt.Fprintf(p.stdout, "the schema has version %d\n", version)
		}
		return err
	})
}

type storeCopy struct {
	From    string `required:"" placeholder:"STORE" help:"The source."`
	To      string `required:"" placeholder:"STORE" help:"The target: new, empty, or an interrupted copy."`
	Compare bool   `help:"Compare the rows of both without copying."`
}

// Help is what "dialtone store copy --help" adds.
func (storeCopy) Help() string {
	return "STORE is sqlite:FILE, a postgres:// URL without a password (use PGPASSFILE or PGPASSWORD), or " +
		"env:NAME for a variable that contains either. To continue an interrupted copy, run the command again."
}

func (c *storeCopy) Run(p *program) (err error) {
	from, err := p.location(c.From)
	if err != nil {
		return err
	}
	to, err := p.location(c.To)
	if err != nil {
		return err
	}
	revert, err := becomeOwnerOf(from, to)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, revert()) }()
	for _, location := range []string{from, to} {
		path, ok := strings.CutPrefix(location, "sqlite:")
		if !ok {
			continue
		}
		if info, err := os.Stat(filepath.Dir(path)); err != nil || !info.IsDir() {
			return fault.New(fault.Invalid,
				"there is no directory %s; create it first, or correct the path", filepath.Dir(path))
		}
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) && (location == from || c.Compare) {
			return fmt.Errorf("%w in %s; correct --from or --to", installation.ErrNoStore, path)
		}
		// A server that uses the file holds this lock.
		unlock, err := datadir.Dir(filepath.Dir(path)).Lock()
		if err != nil {
			return runas.InDataDir(err)
		}
		defer unlock()
	}
	do := transfer.Copy
	if c.Compare {
		do = transfer.Compare
	}
	bar := terminal.NewProgress(p.stderr)
	err = do(p.ctx, from, to, runas.AsCaller, bar.Show)
	bar.End()
	if err != nil {
		if errors.Is(err, p.ctx.Err()) {
			err = fmt.Errorf("stopped (%w); run the same command again to continue", err)
		}
		return err
	}
	if c.Compare {
		fmt.Fprintln(p.stdout, "all rows are the same in both stores")
		return nil
	}
	fmt.Fprintln(p.stdout, "all rows were copied and compared; "+
		"now give seal.key and sign.key to the servers that will use the copy")
	return nil
}

// becomeOwnerOf calls runas.BecomeOwner for the directories of the SQLite databases, which must have the same owner.
func becomeOwnerOf(locations ...string) (revert func() error, err error) {
	var dirs []string
	var owners []*owner.User
	for _, location := range locations {
		if path, ok := strings.CutPrefix(location, "sqlite:"); ok {
			o, err := runas.OwnerOf(filepath.Dir(path))
			if err != nil {
				return nil, err
			}
			dirs, owners = append(dirs, filepath.Dir(path)), append(owners, o)
		}
	}
	if len(dirs) == 2 && (owners[0] == nil) != (owners[1] == nil) ||
		len(dirs) == 2 && owners[0] != nil && owners[0].UID != owners[1].UID {
		return nil, fault.New(fault.Invalid, "%s and %s belong to different users, so root will not copy from "+
			"one to the other: give both to one user, or use dialtone backup", dirs[0], dirs[1])
	}
	if len(dirs) == 0 {
		return func() error { return nil }, nil
	}
	return runas.BecomeOwner(dirs[0])
}

// location returns the location of a store. It refuses a password on the command line, because
// every user of the machine can see command lines.
func (p *program) location(text string) (string, error) {
	if name, ok := strings.CutPrefix(text, "env:"); ok {
		for _, entry := range p.environ {
			if value, ok := strings.CutPrefix(entry, name+"="); ok {
				return value, nil
			}
		}
		return "", fault.New(fault.Invalid,
			"the environment variable %s is not set; set it to sqlite:FILE or the URL of a PostgreSQL database", name)
	}
	switch {
	case strings.HasPrefix(text, "sqlite:"):
		return text, nil
	case strings.HasPrefix(text, "postgres://"), strings.HasPrefix(text, "postgresql://"):
		user, _, _ := strings.Cut(text[strings.Index(text, "://")+3:], "@")
		if strings.Contains(user, ":") && strings.Contains(text, "@") ||
			strings.Contains(strings.ToLower(text), "password=") {
			return "", fault.New(fault.Invalid, "the URL contains a password, and every user of this machine "+
				"can see command lines; put the URL in a variable and use env:NAME, or use PGPASSFILE")
		}
		return text, nil
	default:
		return "", fault.New(fault.Invalid, "use sqlite:FILE, postgres://USER@HOST/DATABASE or env:NAME")
	}
}
