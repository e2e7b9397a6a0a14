package throttle

import (
	"context"
	"net/netip"
	"time"
)

// Signups limits failed signups by the address that they come from.
//
// It is safe for concurrent use. Its memory stays below 16 MiB.
type Signups struct {
	buckets           *memoryBuckets
	byAddress, bySite *Failures
}

// NewSignups returns Signups without failures.
func NewSignups(now func() time.Time) *Signups {
	return &Signups{
		buckets:   newMemoryBuckets(),
		byAddress: NewFailures(FailedSignups, 1<<15, now),
		bySite:    NewFailures(FailedSignupsPerSite, 1<<12, now),
	}
}

// Begin begins a signup from an address. If a limit is reached, Begin returns how long to wait, and
// a Guess that names the limit. Otherwise the caller must end the Guess. It fails only with the error of ctx.
func (s *Signups) Begin(
	ctx context.Context, tenant int64, addr netip.Addr,
) (g Guess, wait time.Duration, err error) {
	// The order is the same for all signups, so they cannot deadlock.
	wait, err = g.add(ctx, s.byAddress, s.party(tenant, addr), LimitFailures)
	if wait > 0 || err != nil {
		return g, wait, err
	}
	if b, ok := s.site(tenant, addr); ok {
		wait, err = g.add(ctx, s.bySite, b, LimitFailuresSite)
	}
	return g, wait, err
}

// Add counts a failed signup even if a limit is reached.
func (s *Signups) Add(tenant int64, addr netip.Addr) {
	s.byAddress.Add(s.party(tenant, addr))
	if b, ok := s.site(tenant, addr); ok {
		s.bySite.Add(b)
	}
}

func (s *Signups) party(tenant int64, addr netip.Addr) Bucket {
	return s.buckets.of("address", tenant, Party(addr))
}

func (s *Signups) site(tenant int64, addr netip.Addr) (b Bucket, ok bool) {
	prefix, ok := site(addr)
	if ok {
		b = s.buckets.of("site", tenant, prefix)
	}
	return b, ok
}
