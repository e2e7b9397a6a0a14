package session

import (
	"context"
	"time"

	"dialtone/internal/digest"
	"dialtone/internal/secret"
	"dialtone/internal/tenant"
)

// nonces issues nonces for challenges. Each can be spent once.
type nonces interface {
	issue(t *tenant.Tenant) string
	// spend reports whether the nonce was issued for the tenant, has not expired and was not spent
	// before, and spends it.
	spend(ctx context.Context, t *tenant.Tenant, nonce string) (fresh bool, err error)
}

// localNonces are the nonces of a single server. It keeps spent ones in memory.
type localNonces struct{ *digest.Nonces }

func (n localNonces) issue(t *tenant.Tenant) string { return n.Issue(t.Realm) }

func (n localNonces) spend(_ context.Context, t *tenant.Tenant, nonce string) (bool, error) {
	return n.Spend(nonce, t.Realm), nil
}

// sharedNonces are the nonces of several servers that share a store. Each server accepts a
// nonce by its signature, and the store contains the spent ones. A nonce is a ticket of package
// secret, bound to the realm:
//
//	ID (16 bytes) ‖ Unix milliseconds of issue (8) ‖ HMAC (32)
type sharedNonces struct {
	store      Store
	signatures func() *Signatures
	now        func() time.Time
}

// nonceSkew is how far a server's clock may be behind the clock of the server that issued a nonce.
const nonceSkew = 10 * time.Second

func (n sharedNonces) issue(t *tenant.Tenant) string {
	return n.signatures().nonce.Issue(t.ID, secret.NewTicket(n.now()), t.Realm)
}

func (n sharedNonces) spend(ctx context.Context, t *tenant.Tenant, nonce string) (bool, error) {
	k, ok := n.signatures().nonce.Read(t.ID, nonce, t.Realm)
	if !ok || !k.Fresh(n.now(), digest.NonceLife, nonceSkew) {
		return false, nil
	}
	// It is kept longer than it is valid, because the clocks of servers differ.
	return n.store.Spend(ctx, t.ID, k.ID, k.Issued.Add(digest.NonceLife+time.Minute))
}
