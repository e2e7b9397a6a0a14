package serve

import (
	"time"

	"dialtone/internal/captcha"
	"dialtone/internal/provision"
	"dialtone/internal/secret"
	"dialtone/internal/secret/keyfile"
	"dialtone/internal/session"
	"dialtone/internal/turn"
)

// signing holds everything that signs with sign.key, and follows changes of the key.
type signing struct{ keys *keyfile.Follower[signers] }

type signers struct {
	captcha    *captcha.Issuer
	signatures *session.Signatures
	tickets    *provision.Tickets
}

func newSigning(keys keyfile.Source, now func() time.Time) signing {
	return signing{keyfile.NewFollower(keys, func(r *secret.Ring) *signers {
		return &signers{
			captcha:    captcha.NewIssuer(r, now),
			signatures: session.NewSignatures(r),
			tickets:    provision.NewTickets(r, now),
		}
	}, now)}
}

func (s signing) refresh() error                  { return s.keys.Refresh() }
func (s signing) issuer() *captcha.Issuer         { return s.keys.Value().captcha }
func (s signing) signatures() *session.Signatures { return s.keys.Value().signatures }
func (s signing) tickets() *provision.Tickets     { return s.keys.Value().tickets }

// newTURN returns the TURN issuer of a running server, which follows turn.key. Its value is nil without a key.
func newTURN(keys keyfile.Source, now func() time.Time) *keyfile.Follower[turn.Issuer] {
	build := func(r *secret.Ring) *turn.Issuer { return turn.NewIssuer(r, now) }
	return keyfile.NewOptionalFollower(keys, build, now)
}
