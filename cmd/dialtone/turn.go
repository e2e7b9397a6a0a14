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
	Secret turnSecret `cmd:"" help:"Print what a TURN server shares with this platform, one secret a line, for coturn's static-auth-secret. The key that they come from is made when it is missing."`
}

type turnSecret struct {
	Rotate bool `help:"Make a new key first. Give its secret, which is printed beside the older ones, to the TURN servers within the hour; then credentials are signed with it. Where the environment holds the key, its new content is printed instead."`
	Revoke bool `help:"With --rotate, forget the older keys at once, for instance because somebody has read a secret. Calls cannot begin until the TURN servers have the new one."`
}

// turnSigned is for how long a secret may be needed that signs no more: as long as a credential lives, and some time for clocks.
const turnSigned = tenant.MostTURNLife + time.Hour

func (f *folder) turnKey() string { return filepath.Join(f.Keys.Dir, "turn.key") }

func (f *folder) turnRing() (*secret.Ring, error) {
	return heldOr(f.Keys.Turn, "DIALTONE_KEYS_TURN", f.turnKey())
}

// newTURN follows turn.key. Only the command makes it: a key that no TURN server knows is worth nothing, and servers that share a
// database would each make another one.
func newTURN(f *folder) *followed[turn.Issuer] {
	return &followed[turn.Issuer]{
		file: f.turnKey(), held: f.Keys.Turn != "", read: f.turnRing, use: turn.NewIssuer, clock: time.Now, optional: true,
	}
}

func (c *turnSecret) Run(p *program) error {
	if c.Revoke && !c.Rotate {
		return fault.New(fault.Invalid, "--revoke goes with --rotate: the old key is forgotten for a new one")
	}
	action := audit.TURNSecret
	if c.Rotate {
		action = audit.TURNRotate
	}
	return p.with(func(f *folder) error {
		return p.audited(f, action, "", func() error { return c.print(p, f, time.Now()) })
	})
}

func (c *turnSecret) print(p *program, f *folder, now time.Time) error {
	ring, err := f.turnRing()
	if f.Keys.Turn == "" && errors.Is(err, keyfile.ErrMissing) {
		ring, err = f.makeTURN(now)
	}
	if err != nil {
		return err
	}
	if c.Rotate {
		ring = rotated(ring, now, turnSigned, true, c.Revoke)
		if f.Keys.Turn != "" {
			_, err := fmt.Fprint(p.stdout, ring.Text())
			fmt.Fprintln(p.stderr, "that is the new content of DIALTONE_KEYS_TURN: give it to every server, then their secrets to the TURN servers (dialtone turn secret, with that content)")
			return err
		}
		if err := keyfile.Replace(f.turnKey(), ring); err != nil {
			return err
		}
		said := "the first secret is new and signs from " + now.Add(handOut).UTC().Format(time.TimeOnly) + " UTC on: give all of these to the TURN servers before"
		if c.Revoke {
			said = "the secret is new and the only one: give it to the TURN servers at once"
		}
		fmt.Fprintln(p.stderr, said)
	}
	for _, s := range turn.Secrets(ring)[:ring.InUse(now.Add(-turnSigned))] {
		if _, err := fmt.Fprintln(p.stdout, s.Text()); err != nil {
			return err
		}
	}
	return nil
}

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
