package main

import (
	"fmt"
	"time"

	"dialtone/cmd/dialtone/internal/installation"
	"dialtone/cmd/dialtone/internal/keys"
	"dialtone/internal/audit"
	"dialtone/internal/fault"
	"dialtone/internal/secret"
	"dialtone/internal/turn"
)

type turnCommand struct {
	Secret turnSecret `cmd:"" help:"Print the secrets for TURN servers."`
}

type turnSecret struct {
	Rotate bool `help:"Create a new key first."`
	Revoke bool `help:"With --rotate, drop the older keys at once, for instance after a leak."`
}

// Help is what "dialtone turn secret --help" adds.
func (turnSecret) Help() string {
	return "The secrets (coturn's static-auth-secret) are printed one per line. The key is created if there is " +
		"none.\n\n" +
		"After --rotate, give all printed secrets to the TURN servers within an hour. After that hour, " +
		"credentials are signed with the new one. If the environment holds the key, the command prints its " +
		"new content instead of the secrets.\n\nWith --revoke, TURN servers refuse new credentials until " +
		"they have the new secret."
}

func (c *turnSecret) Run(p *program) error {
	if c.Revoke && !c.Rotate {
		return usageError{fault.New(fault.Invalid,
			"--revoke requires --rotate: without a new key the old ones cannot be dropped; add --rotate")}
	}
	change := audit.Change{Action: audit.TURNSecret}
	if c.Rotate {
		change.Action = audit.TURNRotate
	}
	if c.Revoke {
		change.Subject = "revoke"
	}
	return p.with(func(in *installation.Installation) error {
		return p.recorded(p.ctx, in, change, func() error { return c.print(p, in, time.Now()) })
	})
}

// print creates a new key with --rotate, and prints the secrets.
func (c *turnSecret) print(p *program, in *installation.Installation, now time.Time) error {
	var ring *secret.Ring
	var err error
	if c.Rotate {
		ring, err = keys.RotateTURN(in, c.Revoke, now)
	} else {
		ring, err = keys.TURN(in, now)
	}
	if err != nil {
		return err
	}
	if c.Rotate {
		if in.KeySources.TURN.FromEnv() {
			_, err := fmt.Fprint(p.stdout, ring.Text())
			fmt.Fprintln(p.stderr, "this is the new content of DIALTONE_KEYS_TURN: give it to every server; "+
				"then run dialtone turn secret with it, and give the secrets to the TURN servers")
			return err
		}
		advice := "the first secret is new, and signing with it begins at " +
			now.Add(secret.RolloutTime).UTC().Format(time.TimeOnly) +
			" UTC: give all of these secrets to the TURN servers before then"
		if c.Revoke {
			advice = "this new secret is the only one: give it to the TURN servers at once"
		}
		fmt.Fprintln(p.stderr, advice)
	}
	for _, s := range turn.Secrets(ring)[:keys.TURNRotation(c.Revoke).Needed(ring, now)] {
		if _, err := fmt.Fprintln(p.stdout, s.Text()); err != nil {
			return err
		}
	}
	return nil
}
