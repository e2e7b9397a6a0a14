package main

import (
	"errors"
	"fmt"
	"strings"

	"dialtone/cmd/dialtone/internal/backup"
	"dialtone/cmd/dialtone/internal/installation"
	"dialtone/cmd/dialtone/internal/terminal"
	"dialtone/internal/archive"
	"dialtone/internal/fault"
	"dialtone/internal/regularfile"
	"dialtone/internal/store/migrations"
)

type backupCommand struct {
	File    string `arg:"" help:"The file to write. It must not exist."`
	Archive bool   `help:"Write an archive: the database, the configuration file and waiting messages."`

	Recipient      []string `sep:"none" placeholder:"KEY" help:"Encrypt to this public key of age (age1…); repeatable."`
	RecipientsFile string   `placeholder:"FILE" help:"Encrypt to the public keys in this file, one a line."`

	WithKeys  bool `help:"Put the keys into the archive too. It must be encrypted."`
	PlainKeys bool `help:"Allow keys in an archive that is not encrypted."`
	Force     bool `help:"Replace a file of that name."`
}

// Help is what "dialtone backup --help" adds.
func (backupCommand) Help() string {
	return "Without --archive, FILE is a copy of the SQLite database only. With it, FILE is one archive for " +
		"dialtone restore, made while the server runs. The command first makes a copy of the database in the " +
		"directory of FILE (as root, in the data directory), so it needs space for two copies of the database. With " +
		"PostgreSQL, the archive contains everything except the database: use pg_dump for that."
}

func (c *backupCommand) Run(p *program) error {
	err := c.run(p)
	if errors.Is(err, migrations.ErrOlder) {
		return fmt.Errorf("%w. To make a backup before the update, use the program of the earlier version", err)
	}
	return err
}

func (c *backupCommand) run(p *program) error {
	recipients, err := c.recipients()
	if err != nil {
		return err
	}
	if !c.Archive {
		if len(recipients) > 0 || c.WithKeys || c.PlainKeys || c.Force {
			return usageError{fault.New(fault.Invalid, "these flags are for archives; add --archive")}
		}
		return p.with(func(in *installation.Installation) error { return c.copyStore(p, in) })
	}
	if c.WithKeys && len(recipients) == 0 && !c.PlainKeys {
		return usageError{fault.New(fault.Invalid, "anyone with the keys and the database can read all credentials; "+
			"encrypt the archive with --recipient, or add --plain-keys if it is kept where nobody else can read it")}
	}
	if c.File == "-" {
		return usageError{fault.New(fault.Invalid, "an archive cannot be written to standard output, where an "+
			"incomplete one would go unnoticed; name a file")}
	}
	return p.with(func(in *installation.Installation) error {
		written, err := backup.Write(p.ctx, in, backup.Options{
			Path: c.File, Recipients: recipients, Keys: c.WithKeys, Replace: c.Force,
			Configuration: p.configFile(), Version: versionText(), Progress: p.stderr,
		})
		if err != nil {
			return err
		}
		c.print(p, in, written, len(recipients))
		return nil
	})
}

func (c *backupCommand) recipients() (list archive.Recipients, err error) {
	for _, text := range c.Recipient {
		r, err := archive.ParseRecipient(text)
		if err != nil {
			return nil, usageError{err}
		}
		list = append(list, r)
	}
	if c.RecipientsFile == "" {
		return list, nil
	}
	f, err := regularfile.Open(c.RecipientsFile)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	more, err := archive.ParseRecipients(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.RecipientsFile, err)
	}
	return append(list, more...), nil
}

// copyStore writes a copy of the SQLite database.
func (c *backupCommand) copyStore(p *program, in *installation.Installation) error {
	if err := backup.Copy(p.ctx, in, c.File); err != nil {
		return err
	}
	fmt.Fprintf(p.stdout, "%s is a copy of the store; keep a copy of %s in a different place\n",
		c.File, in.KeySources.Seal.Path)
	return nil
}

// print prints what the archive contains and what it lacks.
func (c *backupCommand) print(p *program, in *installation.Installation, w backup.Written, recipients int) {
	m := w.Manifest
	protection := "not encrypted"
	if recipients > 0 {
		protection = "encrypted to " + terminal.Counted(recipients, "recipient")
	}
	fmt.Fprintf(p.stdout, "%s: %s, %s, %s; %d bytes, %s\n", c.File, terminal.Counted(m.Tenants, "tenant"),
		terminal.Counted(m.Accounts, "account"), terminal.Counted(m.Messages, "message"), w.Size, protection)
	names := []string{"manifest.json"}
	for _, f := range m.Files {
		if !strings.HasPrefix(f.Name, archive.PickupDir) && !strings.HasPrefix(f.Name, archive.BadmailDir) {
			names = append(names, f.Name)
		}
	}
	if m.Messages > 0 {
		names = append(names, "messages")
	}
	fmt.Fprintf(p.stdout, "it contains: %s\n", strings.Join(names, ", "))
	for _, part := range w.Missing {
		fmt.Fprintf(p.stdout, "not included: %s\n", part)
	}
	switch {
	case m.Keys:
		fmt.Fprintln(p.stdout, "it contains the keys, so anyone who can read it can read all credentials")
	case in.KeySources.Seal.FromEnv():
		fmt.Fprintln(p.stdout,
			"without the keys this backup cannot be used: keep DIALTONE_KEYS_SEAL in a different place")
	default:
		fmt.Fprintf(p.stdout, "without the keys this backup cannot be used: keep a copy of %s in a different place\n",
			in.KeySources.Seal.Path)
	}
}
