package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"dialtone/internal/audit"
	"dialtone/internal/fault"
	"dialtone/internal/secret"
	"dialtone/internal/secret/keyfile"
	"dialtone/internal/tenant"
	"dialtone/internal/turn"
)

type turnCommand struct {
	Secret turnSecret `cmd:"" help:"Print the secrets for TURN servers (coturn's static-auth-secret), one per line. Creates the key if there is none."`
}

type turnSecret struct {
	Rotate bool `help:"Make a new key first."`
	Revoke bool `help:"With --rotate, drop the older keys at once, for instance because a secret was read by somebody else."`
}

// Help is what "dialtone turn secret --help" adds.
func (turnSecret) Help() string {
	return "After --rotate, give all secrets that are printed to the TURN servers within an hour. Then " +
		"credentials are signed with the new one. If the environment holds the key, the command prints its " +
		"new content instead of the secrets.\n\nWith --revoke, TURN servers refuse new credentials until " +
		"they have the new secret."
}

// turnSignedLife is how long a secret is needed after it no longer signs: the longest life of a
// credential, and a margin for clocks.
const turnSignedLife = tenant.MaxTURNLife + time.Hour

func (f *folder) turnKey() string { return filepath.Join(f.Keys.Dir, "turn.key") }

// turnRing returns the keys of TURN secrets, from the environment or from turn.key.
func (f *folder) turnRing() (*secret.Ring, error) {
	return heldOr(f.Keys.Turn, "DIALTONE_KEYS_TURN", f.turnKey())
}

// newTURN returns the TURN issuer of a running server, which follows turn.key. A server does not create
// the file: TURN servers would not know the key, and servers that share a database would create different
// ones.
func newTURN(f *folder) *followed[turn.Issuer] {
	return &followed[turn.Issuer]{
		file:     f.turnKey(),
		fromEnv:  f.Keys.Turn != "",
		optional: true,
		read:     f.turnRing,
		build:    turn.NewIssuer,
		now:      time.Now,
	}
}

func (c *turnSecret) Run(p *program) error {
	if c.Revoke && !c.Rotate {
		return fault.New(fault.Invalid,
			"--revoke requires --rotate, because dropping the old keys needs a new one")
	}
	action := audit.TURNSecret
	if c.Rotate {
		action = audit.TURNRotate
	}
	return p.with(func(f *folder) error {
		return p.audited(f, action, "", func() error { return c.print(p, f, time.Now()) })
	})
}

// print makes a new key if asked to, and prints the secrets.
func (c *turnSecret) print(p *program, f *folder, now time.Time) error {
	ring, err := f.turnRing()
	if f.Keys.Turn == "" && errors.Is(err, keyfile.ErrMissing) {
		ring, err = f.makeTURN(now)
	}
	if err != nil {
		return err
	}
	if c.Rotate {
		ring = rotated(ring, now, turnSignedLife, true, c.Revoke)
		if f.Keys.Turn != "" {
			_, err := fmt.Fprint(p.stdout, ring.Text())
			fmt.Fprintln(p.stderr, "this is the new content of DIALTONE_KEYS_TURN: give it to every server; "+
				"then run dialtone turn secret with it, and give the secrets to the TURN servers")
			return err
		}
		if err := keyfile.Replace(f.turnKey(), ring); err != nil {
			return err
		}
		advice := "the first secret is new and signs from " + now.Add(handOut).UTC().Format(time.TimeOnly) +
			" UTC: give all of these to the TURN servers before then"
		if c.Revoke {
			advice = "this new secret is the only one: give it to the TURN servers at once"
		}
		fmt.Fprintln(p.stderr, advice)
	}
	for _, s := range turn.Secrets(ring)[:ring.InUse(now.Add(-turnSignedLife))] {
		if _, err := fmt.Fprintln(p.stdout, s.Text()); err != nil {
			return err
		}
	}
	return nil
}

// makeTURN creates turn.key.
func (f *folder) makeTURN(now time.Time) (*secret.Ring, error) {
	if err := f.makeKeysFolder(); err != nil {
		return nil, err
	}
	ring, err := keyfile.ReadOrCreate(f.turnKey(), now)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errKeys, err)
	}
	return ring, nil
}
