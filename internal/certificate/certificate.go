// Package certificate defines for which hosts the servers obtain certificates automatically,
// when, and what happens after failures.
//
// # What it guarantees
//
// Only hosts of tenants get certificates. Requests by clients never cause one to be ordered, so nobody can make the
// servers ask the certificate authority often. Of several servers that share a store, only one at a time works on
// the certificate of a host: it claims the certificate with a lease. After a failure all of them wait (Backoff).
//
// Private keys are sealed in the store, like credentials, for the tenant and host that they belong to.
//
// # How it works
//
// For each tenant, a row of the store contains its certificate, when the next one is due, and
// the challenge that the authority is checking. Any server can answer the challenge, since all
// of them read that row.
//
// # What it is not
//
// It does not speak ACME (package acme does), and knows nothing of certificates in files.
package certificate

import (
	"context"
	"net/netip"
	"strings"
	"time"

	"dialtone/internal/secret"
	"dialtone/internal/tenant"
)

// State is the state of a tenant's certificate.
type State struct {
	Tenant int64
	// Authority is the URL of the authority's directory at the last attempt.
	Authority string
	// Issued is when the certificate was issued, in whole microseconds. It is zero if there is no certificate, and
	// so are the next two.
	Issued              time.Time
	NotBefore, NotAfter time.Time
	// Due is when the next certificate is ordered.
	Due time.Time
	// Failures counts the failed attempts since the last success. Failure is the error of the last one.
	Failures int
	Failure  string
	// Lease is when the claim of the server that orders a certificate expires.
	Lease time.Time
}

// Certificate is a certificate with its private key.
type Certificate struct {
	State
	// Chain is in PEM.
	Chain []byte
	// Sealed is the private key in PKCS #8, sealed by Keys.
	Sealed []byte
}

// Challenge is what an authority checks.
type Challenge struct {
	Authority string
	Token     string
}

// Store stores certificates. Each method is one transaction.
type Store interface {
	// CertificateStates returns the states of all tenants that have one, in order of tenant.
	CertificateStates(ctx context.Context) ([]State, error)

	// Certificate returns the certificate of a tenant. It fails with fault.NotFound if there is none.
	Certificate(ctx context.Context, tenant int64) (Certificate, error)

	// ClaimCertificate claims the certificate of a tenant until a time, and returns its state. ok is false if it is
	// not due, if another server has claimed it, or if there is no tenant. If the last attempt was with another
	// authority, it is due ChangeWait after that.
	ClaimCertificate(ctx context.Context, tenant int64, authority string, now, until time.Time) (s State, ok bool,
		err error)

	// KeepCertificate stores a new certificate and ends the claim that c.Lease identifies. It changes nothing if
	// the claim has been lost.
	KeepCertificate(ctx context.Context, c Certificate) error

	// FailCertificate stores Authority, Due, Failures and Failure of s, and ends the claim. It
	// does not change the certificate. It changes nothing if the claim has been lost.
	FailCertificate(ctx context.Context, s State) error

	// SetChallenge stores the challenge of a claim. It fails with fault.Conflict if the claim
	// has been lost. Ending the claim removes the challenge.
	SetChallenge(ctx context.Context, s State, c Challenge) error

	// ChallengeOf returns the challenge of a tenant. It fails with fault.NotFound if there is none.
	ChallengeOf(ctx context.Context, tenant int64) (Challenge, error)

	// AddAuthorityKey stores the key of the account with an authority, sealed by Keys, and
	// returns the stored key. An existing key is kept.
	AddAuthorityKey(ctx context.Context, authority string, sealed []byte, now time.Time) ([]byte, error)

	// AuthorityKey fails with fault.NotFound if there is none.
	AuthorityKey(ctx context.Context, authority string) ([]byte, error)
}

// ChangeWait is how long servers wait after an attempt before they use another authority.
// Otherwise two servers with different configurations would order certificates alternately,
// without end.
const ChangeWait = 10 * time.Minute

// Keys seals private keys for the store.
type Keys struct{ hosts, authorities *secret.Vault }

// NewKeys returns the Keys of a ring.
func NewKeys(r *secret.Ring) Keys {
	return Keys{secret.NewVault(r, "certificate"), secret.NewVault(r, "certificate authority")}
}

// Seal seals the key of a host.
func (k Keys) Seal(tenant int64, host string, key []byte) []byte {
	return k.hosts.Seal(tenant, []byte(host), key)
}

// Open opens the result of Seal.
func (k Keys) Open(tenant int64, host string, sealed []byte) ([]byte, error) {
	return k.hosts.Open(tenant, []byte(host), sealed)
}

// SealAuthority seals the key of the account with an authority.
func (k Keys) SealAuthority(authority string, key []byte) []byte {
	return k.authorities.Seal(0, []byte(authority), key)
}

// OpenAuthority opens the result of SealAuthority.
func (k Keys) OpenAuthority(authority string, sealed []byte) ([]byte, error) {
	return k.authorities.Open(0, []byte(authority), sealed)
}

// Eligible reports whether an authority may issue a certificate for a host: not for loopback
// names, addresses, or names without a dot.
func Eligible(host string) bool {
	_, err := netip.ParseAddr(host)
	return err != nil && strings.Contains(host, ".") && !tenant.Loopback(host)
}

// RenewAt returns when to renew a certificate: when a third of its life is left.
func RenewAt(notBefore, notAfter time.Time) time.Time {
	return notAfter.Add(-notAfter.Sub(notBefore) / 3)
}

// maxWarning is the longest time before a certificate's expiry at which a warning begins.
const maxWarning = 14 * 24 * time.Hour

// ExpiresSoon reports whether a certificate with a total validity of life should have been
// renewed by now: less than a sixth of it is left, and less than two weeks.
func ExpiresSoon(notAfter time.Time, life time.Duration, now time.Time) bool {
	return notAfter.Sub(now) < min(life/6, maxWarning)
}

// The waits after consecutive failures. Let's Encrypt refuses a host for a while after five failed checks in an
// hour.
var (
	refusedWaits = []time.Duration{2 * time.Minute, 10 * time.Minute, 20 * time.Minute, 40 * time.Minute, 2 * time.Hour,
		6 * time.Hour}
	outageWaits = []time.Duration{time.Minute, 2 * time.Minute, 5 * time.Minute, 15 * time.Minute, time.Hour}
)

// Backoff returns how long to wait after a number of consecutive failures. A failure to connect
// to the authority is retried sooner, since such an attempt counts against no limit.
func Backoff(failures int, connection bool) time.Duration {
	waits := refusedWaits
	if connection {
		waits = outageWaits
	}
	return waits[min(max(failures, 1), len(waits))-1]
}
