package main

import (
	"fmt"
	"time"

	"dialtone/cmd/dialtone/internal/installation"
	"dialtone/cmd/dialtone/internal/keys"
	"dialtone/internal/audit"
	"dialtone/internal/secret"
)

type keysCommand struct {
	Rotate keysRotate `cmd:"" help:"Create a new signing key."`
	Bind   keysBind   `cmd:"" help:"Bind the credentials of an older store to their user names."`
}

type keysRotate struct {
	Revoke bool `help:"Drop the older keys at once, for instance after a leak."`
}

// Help is what "dialtone keys rotate --help" adds.
func (keysRotate) Help() string {
	return "Servers that share the key file sign with the new key after ten seconds. If the environment holds the " +
		"keys, the command prints their new content, and servers sign with the new key after an hour. Existing " +
		"sessions and open forms stay valid until they expire. Browsers that have signed in before are still " +
		"recognized after this rotation, but not after another one more than thirteen hours later: they then share " +
		"the limit of their user name.\n\nWith --revoke, everyone has to sign in again, and open forms get a new " +
		"question."
}

func (c *keysRotate) Run(p *program) error {
	return p.with(func(in *installation.Installation) error {
		change := audit.Change{Action: audit.KeysRotate}
		if c.Revoke {
			change.Subject = "revoke"
		}
		return p.recorded(p.ctx, in, change, func() error { return c.rotate(p, in, time.Now()) })
	})
}

func (c *keysRotate) rotate(p *program, in *installation.Installation, now time.Time) error {
	source := in.KeySources.Sign
	ring, created, err := keys.RotateSign(in, c.Revoke, now)
	if created {
		fmt.Fprintf(p.stderr, "there was no %s, so this command created it: what an earlier key signed is no longer "+
			"valid, and everyone has to sign in again\n", source.Path)
	}
	if err != nil {
		return err
	}
	if !source.FromEnv() {
		if c.Revoke {
			fmt.Fprintf(p.stdout, "%s has a new key and no older ones; everyone has to sign in again\n",
				source.Path)
		} else {
			fmt.Fprintf(p.stdout, "%s has a new key; servers sign with it after %v\n",
				source.Path, secret.SigningDelay)
		}
		return nil
	}
	if _, err := fmt.Fprint(p.stdout, ring.Text()); err != nil {
		return err
	}
	advice := "give it to every server, and restart them one by one, before " +
		now.Add(secret.RolloutTime).UTC().Format(time.TimeOnly) + " UTC, when the new key begins to sign"
	if c.Revoke {
		advice = "give it to every server, and restart all of them at once: until then, " +
			"each refuses what the others sign"
	}
	fmt.Fprintf(p.stderr, "this is the new content of DIALTONE_KEYS_SIGN: %s\n", advice)
	return nil
}
