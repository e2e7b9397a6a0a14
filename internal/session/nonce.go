package session

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"time"

	"dialtone/internal/digest"
	"dialtone/internal/secret"
	"dialtone/internal/tenant"
)

// nonces gives out the nonces of challenges and lets each be spent once.
type nonces interface {
	issue(t *tenant.Tenant) string
	// spend reports whether the nonce is one of ours for the tenant, in time and not spent before, and spends it.
	spend(ctx context.Context, t *tenant.Tenant, nonce string) (fresh bool, err error)
}

// ownNonces are those of a server that is the only one: which are spent is a bit in memory.
type ownNonces struct{ *digest.Nonces }

func (n ownNonces) issue(t *tenant.Tenant) string { return n.Issue(t.Realm) }

func (n ownNonces) spend(_ context.Context, t *tenant.Tenant, nonce string) (bool, error) {
	return n.Spend(nonce, t.Realm), nil
}

// sharedNonces are those of several servers: any of them knows a nonce by its signature, and which are spent is in the store. A
// nonce is base64url of
//
//	id (16 bytes, random) ‖ Unix milliseconds (8) ‖ HMAC-SHA-256 (32)
//
// and the HMAC covers the tenant and the realm besides.
type sharedNonces struct {
	store      Store
	signatures func() *Signatures
	now        func() time.Time
}

const (
	nonceSigned = 16 + 8
	// nonceDrift is how far a server's clock may be behind that of the one that gave the nonce out.
	nonceDrift = 10 * time.Second
)

func (n sharedNonces) issue(t *tenant.Tenant) string {
	b := make([]byte, nonceSigned, nonceSigned+32)
	rand.Read(b[:16])
	binary.BigEndian.PutUint64(b[16:], uint64(n.now().UnixMilli()))
	sum := n.signatures().nonce.Sum(tenantBytes(t.ID), b, []byte(t.Realm))
	return base64.RawURLEncoding.EncodeToString(append(b, sum[:]...))
}

func (n sharedNonces) spend(ctx context.Context, t *tenant.Tenant, nonce string) (bool, error) {
	b, ok := secret.DecodeText(nonce)
	if !ok || len(b) != nonceSigned+32 ||
		!n.signatures().nonce.Verify(b[nonceSigned:], tenantBytes(t.ID), b[:nonceSigned], []byte(t.Realm)) {
		return false, nil
	}
	issued := time.UnixMilli(int64(binary.BigEndian.Uint64(b[16:])))
	if age := n.now().Sub(issued); age < -nonceDrift || age >= digest.NonceLife {
		return false, nil
	}
	// Kept longer than it is good for, for servers whose clocks differ.
	return n.store.Spend(ctx, t.ID, [16]byte(b[:16]), issued.Add(digest.NonceLife+time.Minute))
}
