package main

import (
	"errors"
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
	Rotate keysRotate `cmd:"" help:"Make a new signing key. What the present one signed stays good until the next rotation; people signed in before that one sign in again."`
}

type keysRotate struct{}

// signKeys is how many signing keys are good at a time: the present and the previous one.
const signKeys = 2

func (keysRotate) Run(p *program) error {
	return p.with(func(f *folder) error {
		return p.audited(f, audit.KeysRotate, "", func() error {
			ring, err := secret.ReadRing(f.signKey())
			if err != nil {
				return fmt.Errorf("%w: %w", errKeys, err)
			}
			if err := ring.Rotated(time.Now(), signKeys).Replace(f.signKey()); err != nil {
				return err
			}
			fmt.Fprintf(p.stdout, "%s has a new key in front\n", f.signKey())
			return nil
		})
	})
}

// signing is what a running server signs with. It follows the key file.
type signing struct {
	path string
	at   os.FileInfo
	now  atomic.Pointer[signers]
}

type signers struct {
	captcha    *captcha.Issuer
	signatures *session.Signatures
}

func (s *signing) issuer() *captcha.Issuer         { return s.now.Load().captcha }
func (s *signing) signatures() *session.Signatures { return s.now.Load().signatures }

// refresh reads the key file if it is another one than before. A file that cannot be read changes nothing.
func (s *signing) refresh() error {
	info, err := os.Stat(s.path)
	if err != nil {
		return errors.Join(errKeys, err)
	}
	if s.at != nil && os.SameFile(s.at, info) && s.at.ModTime().Equal(info.ModTime()) {
		return nil
	}
	ring, err := secret.ReadRing(s.path)
	if err != nil {
		return fmt.Errorf("%w: %w", errKeys, err)
	}
	s.now.Store(&signers{captcha.NewIssuer(ring, time.Now), session.NewSignatures(ring)})
	s.at = info
	return nil
}
