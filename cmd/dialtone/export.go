package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/export/htdigest"
	"dialtone/internal/fault"
	"dialtone/internal/phone"
)

type exportCommand struct {
	Enable  exportEnable  `cmd:"" help:"Keep tables of the active accounts, with their HA1s in clear; a running server goes on. Programs of before this version may not use the store meanwhile."`
	Disable exportDisable `cmd:"" help:"End that, and remove what the tables hold."`
	Status  exportStatus  `cmd:"" help:"Say whether they are kept, and where."`
	Rebuild exportRebuild `cmd:"" help:"Compare the tables with the accounts, and mend them."`
	Role    exportRole    `cmd:"" help:"Make a PostgreSQL role that may read the tables of one kind of phone server and nothing else."`
}

// filled goes through all accounts and shows how far it is.
func (p *program) filled(f *folder) error {
	b := newBar(p.stderr)
	err := f.store.EnableExport(p.ctx, func(done, total int64) { b.show("directory", done, total) })
	b.end()
	if err != nil && errors.Is(err, p.ctx.Err()) {
		err = fmt.Errorf("stopped (%w); accounts may be missing, and dialtone directory export rebuild adds them", err)
	}
	return err
}

type exportEnable struct{}

func (exportEnable) Run(p *program) error {
	return p.with(func(f *folder) error {
		if err := p.audited(f, audit.ExportEnable, "", func() error { return p.filled(f) }); err != nil {
			return err
		}
		return exportStatus{}.print(p, f)
	})
}

type exportRebuild struct{}

func (exportRebuild) Run(p *program) error {
	return p.with(func(f *folder) error {
		st, err := f.store.ExportStatus(p.ctx)
		if err != nil {
			return err
		}
		if !st.Enabled {
			return phone.ErrNoExport
		}
		if err := p.audited(f, audit.ExportRebuild, "", func() error { return p.filled(f) }); err != nil {
			return err
		}
		return exportStatus{}.print(p, f)
	})
}

type exportDisable struct{}

func (exportDisable) Run(p *program) error {
	return p.with(func(f *folder) error {
		err := p.audited(f, audit.ExportDisable, "", func() error { return f.store.DisableExport(p.ctx) })
		if err == nil {
			fmt.Fprintln(p.stdout, "phone servers are given no directory any more, and nothing is left in it")
		}
		return err
	})
}

type exportStatus struct {
	JSON bool `name:"json" help:"Print one JSON object."`
}

func (c exportStatus) Run(p *program) error {
	return p.with(func(f *folder) error { return c.print(p, f) })
}

func (c exportStatus) print(p *program, f *folder) error {
	st, err := f.store.ExportStatus(p.ctx)
	if err != nil {
		return err
	}
	if c.JSON {
		return json.NewEncoder(p.stdout).Encode(st)
	}
	switch {
	case !st.Enabled:
		fmt.Fprintln(p.stdout, "phone servers are given no directory")
	case !st.Whole:
		fmt.Fprintf(p.stdout, "not whole: %d active accounts, and there may be more; see: dialtone directory export rebuild\n", st.Entries)
	default:
		fmt.Fprintf(p.stdout, "%d active accounts, %d domains\n", st.Entries, st.Domains)
	}
	for _, place := range st.Places {
		fmt.Fprintln(p.stdout, "  "+place)
	}
	return nil
}

type exportRole struct {
	Server string `arg:"" enum:"kamailio,opensips,coturn,asterisk,digest" help:"kamailio, opensips, coturn, asterisk, or digest for Apache, Dovecot, FreeRADIUS and queries of your own."`
	Name   string `placeholder:"ROLE" help:"The role's name (dialtone_SERVER)."`
	Login  string `name:"login" placeholder:"FILE" help:"A file with the password that the role is to log in with, or - for standard input. Without one it cannot log in."`
}

func (c exportRole) Run(p *program) error {
	role := c.Name
	if role == "" {
		role = "dialtone_" + c.Server
	}
	schema := map[string]string{"opensips": "kamailio"}[c.Server]
	if schema == "" {
		schema = c.Server
	}
	password, err := passwordOf(c.Login)
	if err != nil {
		return err
	}
	return p.with(func(f *folder) error {
		var undone []string
		err := p.audited(f, audit.ExportRole, "", func() (err error) {
			undone, err = f.store.GrantExport(p.ctx, "dialtone_"+schema, role, password)
			return err
		})
		if err != nil {
			return err
		}
		if len(undone) > 0 {
			fmt.Fprintln(p.stderr, "the database's user may make no roles; have an administrator run these statements in the database:")
			_, err := fmt.Fprintln(p.stdout, strings.Join(undone, ";\n")+";")
			return err
		}
		fmt.Fprintf(p.stdout, "the role %s may read the schema dialtone_%s\n", role, schema)
		return nil
	})
}

// passwordOf reads a password from a file or from standard input: what is on the command line, everybody on this machine can see.
func passwordOf(path string) (string, error) {
	var text []byte
	var err error
	switch path {
	case "":
		return "", nil
	case "-":
		text, err = io.ReadAll(io.LimitReader(os.Stdin, 4096))
	default:
		text, err = os.ReadFile(path)
	}
	if err != nil {
		return "", err
	}
	password := strings.TrimRight(string(text), "\r\n")
	if password == "" {
		return "", fault.New(fault.Invalid, "there is no password in %s", path)
	}
	return password, nil
}

type htdigestCommand struct {
	File string `arg:"" help:"The file; what has its name is replaced."`
	where
}

// Run needs no export: it opens the credentials itself, once.
func (c *htdigestCommand) Run(p *program) error {
	return p.with(func(f *folder) error {
		t, err := f.tenantOf(p.ctx, c.Tenant)
		if err != nil {
			return err
		}
		open := account.Opener(f.seal)
		return p.audited(f, audit.ExportFile, t.Host, func() error {
			_, err := htdigest.Write(c.File, func(each func(phone.Listing) error) error {
				return f.store.List(p.ctx, t.ID, time.Now(), func(a account.Account) error {
					if !phone.Listed(a) {
						return nil
					}
					credential, err := open(a)
					if err != nil {
						return fmt.Errorf("account %s: %w", a.User, err)
					}
					return each(phone.Listing{UID: a.UID, User: a.User, Realm: t.Realm, Role: a.Role, Credential: credential})
				})
			})
			return err
		})
	})
}

// files are the htdigest files that a server keeps.
type files struct {
	seen    int64
	written map[string]bool // those that have what there was at seen
	warned  bool
	trouble string // what was logged last
}

// keepFiles has phone servers' files follow the accounts.
func (s *server) keepFiles() func(context.Context) {
	k := &files{written: make(map[string]bool)}
	return func(ctx context.Context) {
		err := k.follow(ctx, s)
		if err == nil {
			k.trouble = ""
		} else if ctx.Err() == nil && err.Error() != k.trouble {
			k.trouble = err.Error()
			s.log.ErrorContext(ctx, "a file for phone servers could not be written; it is tried again and again", "err", err)
		}
	}
}

func (k *files) follow(ctx context.Context, s *server) error {
	n, err := s.store.ExportChanges(ctx)
	if err != nil {
		return err
	}
	if n == 0 && k.seen == 0 {
		if !k.warned {
			s.log.WarnContext(ctx, "directory.htdigest names files, and there is no directory to write them from; begin it with dialtone directory export enable")
			k.warned = true
		}
		return nil
	}
	if n != k.seen {
		clear(k.written)
	}
	var errs []error
	for _, h := range s.Export.Htdigest {
		if k.written[h.File] {
			continue
		}
		err := s.writeFile(ctx, h.Host, h.File, n == 0)
		k.written[h.File] = err == nil
		errs = append(errs, err)
	}
	k.seen = n
	return errors.Join(errs...)
}

// writeFile writes one. It is emptied when the export has ended.
func (s *server) writeFile(ctx context.Context, host, path string, empty bool) error {
	t, err := s.tenantOf(ctx, host)
	if err != nil {
		return err
	}
	_, err = htdigest.Write(path, func(each func(phone.Listing) error) error {
		if empty {
			return nil
		}
		return s.store.Exported(ctx, t.Realm, each)
	})
	return err
}

func (s *server) tendExport(ctx context.Context) {
	if err := s.store.TendExport(context.WithoutCancel(ctx)); err != nil {
		s.log.ErrorContext(ctx, "the directory of phone servers is behind the accounts; it is tried again in a second", "err", err)
	}
}
