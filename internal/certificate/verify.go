package certificate

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"

	"dialtone/internal/fault"
	"dialtone/internal/secret"
)

// Verify calls report for each private key that does not open: those of the tenants'
// certificates, and those of the accounts with their authorities. hosts maps the IDs of tenants
// to their hosts. It changes nothing.
func Verify(ctx context.Context, store Store, hosts map[int64]string, r *secret.Ring, report func(string)) error {
	list, err := store.CertificateStates(ctx)
	if err != nil {
		return err
	}
	keys, seen := NewKeys(r), make(map[string]bool)
	for _, s := range list {
		host := hosts[s.Tenant]
		if !s.Issued.IsZero() {
			c, err := store.Certificate(ctx, s.Tenant)
			if err == nil {
				err = readable(keys.Open(s.Tenant, host, c.Sealed))
				if err != nil {
					report(fmt.Sprintf("the private key of the certificate for %s: %v", host, err))
				}
			} else if !fault.Is(err, fault.NotFound) { // the tenant may have been removed concurrently
				return err
			}
		}
		if seen[s.Authority] {
			continue
		}
		seen[s.Authority] = true
		sealed, err := store.AuthorityKey(ctx, s.Authority)
		if fault.Is(err, fault.NotFound) {
			continue // it is made when the first certificate is ordered
		}
		if err != nil {
			return err
		}
		if err := readable(keys.OpenAuthority(s.Authority, sealed)); err != nil {
			report(fmt.Sprintf("the key of the account with %s: %v", s.Authority, err))
		}
	}
	return nil
}

// readable checks an opened private key.
func readable(der []byte, err error) error {
	if err != nil {
		return err
	}
	if _, err := x509.ParsePKCS8PrivateKey(der); err != nil {
		return errors.New("it is damaged")
	}
	return nil
}
