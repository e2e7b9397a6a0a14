package delivery

import (
	"context"
	"strings"
	"time"

	"dialtone/internal/fault"
)

// SigningKey is a key that messages of a tenant are signed with (DKIM, RFC 6376), as the store has it.
type SigningKey struct {
	Tenant   int64
	Selector string // under which its public part stands in the DNS
	Created  time.Time
	Sealed   []byte // bound to tenant and selector
}

// KeyStore keeps signing keys. Every method is one transaction.
type KeyStore interface {
	// AddSigningKey fails with fault.Conflict where the tenant has a key of that selector.
	AddSigningKey(ctx context.Context, k SigningKey) error
	// SigningKeys are a tenant's, in order of selector.
	SigningKeys(ctx context.Context, tenant int64) ([]SigningKey, error)
	// RemoveSigningKey fails with fault.NotFound.
	RemoveSigningKey(ctx context.Context, tenant int64, selector string) error
}

// CheckSelector takes what can stand before ._domainkey in a name of the DNS (RFC 6376 §3.1): labels of lower-case letters, digits and
// hyphens.
func CheckSelector(selector string) error {
	bad := len(selector) > 63
	for label := range strings.SplitSeq(selector, ".") {
		bad = bad || label == "" || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" || label[0] == '-' || label[len(label)-1] == '-'
	}
	if bad {
		return fault.Field("selector", "a selector is lower-case letters, digits and hyphens, such as dialtone2026")
	}
	return nil
}
