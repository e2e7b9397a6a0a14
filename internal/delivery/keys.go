package delivery

import (
	"context"
	"strings"
	"time"

	"dialtone/internal/fault"
)

// SigningKey is a DKIM key of a tenant (RFC 6376), in its stored form.
type SigningKey struct {
	Tenant   int64
	Selector string // the DNS name of the public key is SELECTOR._domainkey.DOMAIN
	Created  time.Time
	Sealed   []byte // the private key, sealed for tenant and selector
}

// KeyStore stores DKIM keys. Each method is one transaction.
type KeyStore interface {
	// AddSigningKey fails with fault.Conflict if the tenant has a key with that selector.
	AddSigningKey(ctx context.Context, k SigningKey) error
	// SigningKeys returns a tenant's keys in order of selector.
	SigningKeys(ctx context.Context, tenant int64) ([]SigningKey, error)
	// RemoveSigningKey fails with fault.NotFound.
	RemoveSigningKey(ctx context.Context, tenant int64, selector string) error
}

// CheckSelector accepts a DKIM selector (RFC 6376 section 3.1): DNS labels of lower-case letters,
// digits and hyphens.
func CheckSelector(selector string) error {
	const allowed = "abcdefghijklmnopqrstuvwxyz0123456789-"
	bad := len(selector) > 63
	for label := range strings.SplitSeq(selector, ".") {
		bad = bad || label == "" || strings.Trim(label, allowed) != "" ||
			label[0] == '-' || label[len(label)-1] == '-'
	}
	if bad {
		return fault.Field("selector",
			"a selector has lower-case letters, digits and hyphens, such as dialtone2026")
	}
	return nil
}
