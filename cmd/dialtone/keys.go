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
	Rotate keysRotate `cmd:"" help:"Make a new signing key. Servers that share the key file sign with it from ten seconds on; where the environment holds the keys, its new content is printed, and signs from an hour on. Sessions and forms of before stay good until they would end by themselves. That a browser has signed in before is known for this rotation, and forgotten with one that comes more than thirteen hours later; then it only shares the limit of its name."`
}

type keysRotate struct {
	Revoke bool `help:"Forget the older keys at once, for instance because somebody has read one. Everybody signs in again, and forms that are open ask anew."`
}

const (
	// signedLife is for how long a key may be needed that signs no more: as long as sessions live, and some time for clocks.
	signedLife = session.Life + time.Hour
	// handOut is how long an operator has to give all servers the new content of a variable, before the first of them signs with it.
	handOut = time.Hour
)

// rotated is a ring with a new key in front, and with the older ones that are needed by what they signed, which lives so long. With
// ahead, the new one counts as made only when an operator has had the time to hand it out.
func rotated(r *secret.Ring, now time.Time, life time.Duration, ahead, revoke bool) *secret.Ring {
	if revoke {
		return r.Rotated(now, 1) // which signs at once
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
			said := "give it to every server, and start them anew one by one, before " + now.Add(handOut).UTC().Format(time.TimeOnly) + " UTC, when its new key begins to sign"
			if c.Revoke {
				said = "give it to every server, and start them anew at once: until then, each refuses what the others sign"
			}
			fmt.Fprintf(p.stderr, "that is the new content of DIALTONE_KEYS_SIGN: %s\n", said)
			return nil
		})
	})
}

// signing is what a running server signs with.
type signing struct{ followed[signers] }

func newSigning(f *folder) *signing {
	return &signing{followed[signers]{
		file: f.signKey(), held: f.Keys.Sign != "", read: f.signRing, clock: time.Now,
		use: func(r *secret.Ring, clock func() time.Time) *signers {
			return &signers{captcha.NewIssuer(r, clock), session.NewSignatures(r), provision.NewTickets(r, clock)}
		},
	}}
}

type signers struct {
	captcha    *captcha.Issuer
	signatures *session.Signatures
	tickets    *provision.Tickets
}

func (s *signing) issuer() *captcha.Issuer         { return s.now.Load().captcha }
func (s *signing) signatures() *session.Signatures { return s.now.Load().signatures }
func (s *signing) tickets() *provision.Tickets     { return s.now.Load().tickets }
