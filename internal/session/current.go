package session

import (
	"context"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/tenant"
)

// FreshFor is how long after a sign-in with the password alone a session counts as fresh.
const FreshFor = 15 * time.Minute

// Current is the session of a request.
type Current struct {
	Owner account.Account
	How   How
	Began time.Time
}

// Fresh reports whether the session began with a second factor, or less than FreshFor ago.
// Actions that somebody at an unattended browser or with a stolen cookie must not perform
// require a fresh session.
func (c Current) Fresh(now time.Time) bool { return c.How != ByPassword || now.Sub(c.Began) < FreshFor }

// Current returns the session of a token. It fails as SignedIn does.
func (a *Authenticator) Current(
	ctx context.Context, t *tenant.Tenant, token string, from account.Origin,
) (Current, error) {
	owner, k, err := a.signedIn(ctx, t, token, from)
	if err != nil {
		return Current{}, err
	}
	how, err := a.how(ctx, owner, k.ID)
	return Current{Owner: owner, How: how, Began: k.Issued}, err
}
