package main

import (
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"dialtone/internal/audit"
	"dialtone/internal/captcha"
	"dialtone/internal/secret"
	"dialtone/internal/session"
)

type keysCommand struct {
	Rotate keysRotate `cmd:"" help:"Make a new signing key. It signs from ten seconds on; what the older ones signed stays good until it would end by itself."`
}

type keysRotate struct {
	Revoke bool `help:"Forget the older keys at once, for instance because somebody has read one. Everybody signs in again, and forms that are open ask anew."`
}

// signedLife is for how long a key may be needed that signs no more: as long as sessions live, and some time for clocks.
const signedLife = session.Life + time.Hour

func (c *keysRotate) Run(p *program) error {
	return p.with(func(f *folder) error {
		return p.audited(f, audit.KeysRotate, "", func() error {
			now := time.Now()
			ring, err := f.signRing()
			if err != nil {
				return err
			}
			keep := 1 + ring.InUse(now.Add(-signedLife))
			if c.Revoke {
				keep = 1
			}
			ring = ring.Rotated(now, keep)
			if f.Keys.Sign != "" {
				fmt.Fprint(p.stdout, ring.Text())
				fmt.Fprintln(p.stderr, "that is the new content of DIALTONE_KEYS_SIGN: give it to every server, and start them anew one by one")
				return nil
			}
			if err := ring.Replace(f.signKey()); err != nil {
				return err
			}
			fmt.Fprintf(p.stdout, "%s has a new key in front\n", f.signKey())
			return nil
		})
	})
}

// signing is what a running server signs with. It follows the key file, where there is one.
type signing struct {
	read func() (*secret.Ring, error)
	stat func() (os.FileInfo, error)

	at    os.FileInfo
	ring  *secret.Ring
	front secret.ID
	now   atomic.Pointer[signers]
}

func newSigning(f *folder) *signing {
	s := &signing{read: f.signRing}
	if f.Keys.Sign == "" {
		s.stat = func() (os.FileInfo, error) { return os.Stat(f.signKey()) }
	}
	return s
}

type signers struct {
	captcha    *captcha.Issuer
	signatures *session.Signatures
}

func (s *signing) issuer() *captcha.Issuer         { return s.now.Load().captcha }
func (s *signing) signatures() *session.Signatures { return s.now.Load().signatures }

// refresh reads the key file if it is another one than before, and has a new key sign when it is old enough. A file that cannot
// be read changes nothing.
func (s *signing) refresh() error {
	changed := s.ring == nil
	if s.stat != nil {
		info, err := s.stat()
		if err != nil {
			return fmt.Errorf("%w: %w", errKeys, err)
		}
		if s.at == nil || !os.SameFile(s.at, info) || !s.at.ModTime().Equal(info.ModTime()) {
			s.at, changed = info, true
		}
	}
	if changed {
		ring, err := s.read()
		if err != nil {
			s.at = nil
			return err
		}
		s.ring = ring
	}
	ring := s.ring.Signing(time.Now())
	if front := ring.IDs()[0]; changed || front != s.front {
		s.front = front
		s.now.Store(&signers{captcha.NewIssuer(ring, time.Now), session.NewSignatures(ring)})
	}
	return nil
}
