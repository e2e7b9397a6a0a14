package main

import (
	"fmt"
	"time"

	"dialtone/internal/audit"
	"dialtone/internal/captcha"
	"dialtone/internal/provision"
	"dialtone/internal/secret"
	"dialtone/internal/secret/keyfile"
	"dialtone/internal/session"
)

type keysCommand struct {
	Rotate keysRotate `cmd:"" help:"Make a new signing key."`
}

type keysRotate struct {
	Revoke bool `help:"Drop the older keys at once, for instance because one was read by somebody else."`
}

// Help is what "dialtone keys rotate --help" adds.
func (keysRotate) Help() string {
	return "Servers that share the key file sign with the new key after ten seconds. If the environment holds " +
		"the keys, the command prints their new content, which signs after an hour. Existing sessions and open " +
		"forms stay valid until they expire. Whether a browser has signed in before is remembered over this " +
		"rotation, and forgotten with one more than thirteen hours later; the browser then shares the limit of " +
		"its user name.\n\nWith --revoke, everybody has to sign in again, and open forms get a new question."
}

const (
	// signedLife is how long a key is needed after it no longer signs: the life of a session, and a
	// margin for clocks.
	signedLife = session.Life + time.Hour
	// handOut is how long an operator has to give the new content of a variable to all servers before
	// the first of them signs with it.
	handOut = time.Hour
)

// rotated returns a ring with a new key in front. It keeps the older keys that are still needed by
// what they signed, which lives for life. With ahead, the new key signs only after handOut. With
// revoke, it signs at once and no older key is kept.
func rotated(r *secret.Ring, now time.Time, life time.Duration, ahead, revoke bool) *secret.Ring {
	if revoke {
		return r.Rotated(now, 1)
	}
	keep := 1 + r.InUse(now.Add(-life))
	if ahead {
		now = now.Add(handOut)
	}
	return r.Rotated(now, keep)
}

func (c *keysRotate) Run(p *program) error {
	return p.with(func(f *folder) error {
		return p.audited(f, audit.KeysRotate, "", func() error {
			now := time.Now()
			ring, err := f.signRing()
			if err != nil {
				return err
			}
			held := f.Keys.Sign != ""
			ring = rotated(ring, now, signedLife, held, c.Revoke)
			if !held {
				if err := keyfile.Replace(f.signKey(), ring); err != nil {
					return err
				}
				fmt.Fprintf(p.stdout, "%s has a new key in front\n", f.signKey())
				return nil
			}
			if _, err := fmt.Fprint(p.stdout, ring.Text()); err != nil {
				return err
			}
			advice := "give it to every server, and restart them one by one, before " +
				now.Add(handOut).UTC().Format(time.TimeOnly) + " UTC, when the new key begins to sign"
			if c.Revoke {
				advice = "give it to every server, and restart all of them at once: until then, " +
					"each refuses what the others sign"
			}
			fmt.Fprintf(p.stderr, "this is the new content of DIALTONE_KEYS_SIGN: %s\n", advice)
			return nil
		})
	})
}

// signing has what a running server signs with. It follows the key file.
type signing struct{ followed[signers] }

func newSigning(f *folder) *signing {
	return &signing{followed[signers]{
		file:    f.signKey(),
		fromEnv: f.Keys.Sign != "",
		read:    f.signRing,
		now:     time.Now,
		build: func(r *secret.Ring, clock func() time.Time) *signers {
			return &signers{
				captcha.NewIssuer(r, clock), session.NewSignatures(r), provision.NewTickets(r, clock),
			}
		},
	}}
}

type signers struct {
	captcha    *captcha.Issuer
	signatures *session.Signatures
	tickets    *provision.Tickets
}

func (s *signing) issuer() *captcha.Issuer         { return s.value.Load().captcha }
func (s *signing) signatures() *session.Signatures { return s.value.Load().signatures }
func (s *signing) tickets() *provision.Tickets     { return s.value.Load().tickets }
