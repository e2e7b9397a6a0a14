package main

import (
	"dialtone/cmd/dialtone/internal/restore"
	"dialtone/internal/fault"
)

type restoreCommand struct {
	File string `arg:"" optional:"" help:"The archive that dialtone backup --archive wrote."`

	AfterDatabase bool   `help:"Other tools restored the database: end old sessions and links."`
	Identity      string `placeholder:"FILE" help:"The private key of age that the archive was encrypted to."`
	KeysDir       string `placeholder:"DIR" help:"Directory with seal.key, if the archive has no keys."`
	Trail         string `placeholder:"FILE" help:"Repeat later changes in this trail or damaged database."`
	AcceptFaults  bool   `help:"Restore a database in which verify finds faults."`
	reasonFlag
}

// Help is what "dialtone restore --help" adds.
func (restoreCommand) Help() string {
	return "Stop all servers first. An archive is restored into the data directory, which must be empty or absent, " +
		"and is checked before anything is put in place. If the command was killed, run it again. As root, it " +
		"opens the files that the command line and the database's URL name, and then continues as the owner of the " +
		"data directory.\n\n" +
		"Sessions, links, open forms, links for phones, and TURN credentials from before are no longer valid. " +
		"Passwords stay, and phones keep registering. Waiting messages are not sent, because their links are no " +
		"longer valid: people can ask for new ones.\n\n" +
		"With --trail, the command disables and deletes accounts again, removes tokens and changes roles as was done " +
		"after the backup, and lists other later changes."
}

// Run checks the arguments, and restores.
func (c *restoreCommand) Run(p *program) error {
	switch {
	case c.AfterDatabase && c.File != "":
		return usageError{fault.New(fault.Invalid, "give either an archive or --after-database, not both: the flag "+
			"means that the database is already in place")}
	case !c.AfterDatabase && c.File == "":
		return usageError{fault.New(fault.Invalid, "name an archive, or give --after-database if other tools have "+
			"restored the database")}
	case c.AfterDatabase && (c.Identity != "" || c.KeysDir != ""):
		return usageError{fault.New(fault.Invalid, "--identity and --keys-dir are for archives")}
	}
	ctx, err := p.withReason(c.Reason)
	if err != nil {
		return err
	}
	conf, err := p.settings()
	if err != nil {
		return err
	}
	return restore.Run(ctx, conf, restore.Options{
		File: c.File, AfterDatabase: c.AfterDatabase, Identity: c.Identity, KeysDir: c.KeysDir, Trail: c.Trail,
		AcceptFaults: c.AcceptFaults, Log: p.logger(conf.Log), Stdout: p.stdout, Stderr: p.stderr,
	})
}
