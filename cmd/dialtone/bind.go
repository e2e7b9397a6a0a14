package main

import (
	"errors"
	"fmt"
	"time"

	"dialtone/cmd/dialtone/internal/installation"
	"dialtone/cmd/dialtone/internal/keys"
	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/secret"
)

type keysBind struct{}

// Help is what "dialtone keys bind --help" adds.
func (keysBind) Help() string {
	return "Earlier versions bound a sealed credential to its account, but not to the user name: anyone who could " +
		"write to the database could exchange the names of two accounts. The command seals the credentials of such " +
		"a store again and marks seal.key, so that the older form is refused afterwards. With PostgreSQL, run it " +
		"once all servers run this version; they need not be stopped. With SQLite, the server does it when it " +
		"starts. After restoring a backup of such a store, run it again: it trusts the user names in the store." +
		"\n\nIf the environment holds the keys, the command prints their new content."
}

func (c *keysBind) Run(p *program) (err error) {
	conf, err := p.settings()
	if err != nil {
		return err
	}
	in, err := installation.Open(p.ctx, conf, installation.Options{Lenient: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	b, err := keys.NewBinding(p.ctx, in)
	if err != nil {
		return err
	}
	if b.Complete() {
		fmt.Fprintln(p.stdout, "all credentials are bound to their user names already")
		return nil
	}
	unlock, err := b.Lock()
	if err != nil {
		return err
	}
	defer unlock()
	var done account.Rebound
	err = p.recorded(p.ctx, in, audit.Change{Action: audit.KeysBind}, func() error {
		done, err = b.Bind(p.ctx, p.waitForServers)
		return err
	})
	if err != nil {
		return err
	}
	return c.report(p, in, b.Ring, done)
}

// report prints what was done and what is left to do. If the environment holds the key, its new content is the only
// text on standard output.
func (*keysBind) report(p *program, in *installation.Installation, ring *secret.Ring, done account.Rebound) error {
	text := fmt.Sprintf("credentials bound to their user names: %d", done.Accounts)
	if done.Damaged > 0 {
		text += fmt.Sprintf("; damaged: %d, see: dialtone verify", done.Damaged)
	}
	switch {
	case in.KeySources.Seal.FromEnv() && !ring.IsStrict():
		fmt.Fprintln(p.stderr, text)
		fmt.Fprintln(p.stderr, "this is the new content of DIALTONE_KEYS_SEAL, which refuses credentials that are not "+
			"bound: give it to every server, and restart them one by one")
		_, err := fmt.Fprint(p.stdout, ring.Strict().Text())
		return err
	case in.Shared():
		text += fmt.Sprintf("; now give %s to all servers that have a copy of it, and restart all servers one by one",
			in.KeySources.Seal.Path)
	}
	fmt.Fprintln(p.stdout, text)
	return nil
}

// waitForServers waits until all servers seal in the new form, or until the program is interrupted.
func (p *program) waitForServers(d time.Duration) error {
	if d > 0 {
		fmt.Fprintf(p.stderr, "waiting %v for all servers to seal in the new form\n", d.Round(time.Second))
	}
	select {
	case <-p.ctx.Done():
		return p.ctx.Err()
	case <-time.After(d):
		return nil
	}
}
