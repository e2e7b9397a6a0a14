package main

import (
	"fmt"
	"strings"

	"dialtone/cmd/dialtone/internal/installation"
	"dialtone/cmd/dialtone/internal/storecopy"
	"dialtone/cmd/dialtone/internal/terminal"
	"dialtone/internal/fault"
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

func (c *storeCopy) Run(p *program) error {
	from, err := p.location(c.From)
	if err != nil {
		return err
	}
	to, err := p.location(c.To)
	if err != nil {
		return err
	}
	bar := terminal.NewProgress(p.stderr)
	err = storecopy.Run(p.ctx, storecopy.Options{From: from, To: to, Compare: c.Compare, Show: bar.Show})
	bar.End()
	if err != nil {
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
