package throttle

import (
	"context"
	"net/netip"
	"time"
)

// Passwords limits wrong passwords: by name, known or not, and by the address that they come from.
//
// A client that belongs to the owner of an account, as proved by a device token or a link, is
// counted only by that. So nobody can lock out an owner by guessing passwords for the name, or
// by abusing an address that the owner shares.
//
// It is safe for concurrent use. Its memory stays below 40 MiB.
type Passwords struct {
	buckets                   *memoryBuckets
	byName, byAddress, bySite *Failures
}

// NewPasswords returns Passwords without failures.
func NewPasswords(now func() time.Time) *Passwords {
	return &Passwords{
		buckets:   newMemoryBuckets(),
		byName:    NewFailures(FailedSignIns, 1<<16, now),
		byAddress: NewFailures(FailedSignInsPerAddress, 1<<15, now),
		bySite:    NewFailures(FailedSignInsPerSite, 1<<12, now),
	}
}

// Guess is an attempt in progress to prove a password or to sign up. Only one copy of it must be ended.
type Guess struct {
	// attempts are the n attempts, one under each limit that counts the Guess. A right password
	// resets the failures of the last one.
	attempts [3]Attempt
	n        int
	// Limit is a short name of the limit that refused the attempt, for the log. It is empty if none did.
	Limit string
}

// Begin begins an attempt for a name from an address. known is the ID of the device token or link of
// a client that belongs to the owner of the name, which is then counted by it. It is empty for other
// clients. If a limit is reached, Begin returns how long to wait, and a Guess that names the limit.
// Otherwise the caller must end the Guess. It fails only with the error of ctx.
func (p *Passwords) Begin(
	ctx context.Context, tenant int64, addr netip.Addr, name, known string,
) (g Guess, wait time.Duration, err error) {
	if known != "" {
		wait, err = g.add(ctx, p.byName, p.buckets.of("device", tenant, known), LimitDevice)
		return g, wait, err
	}
	if wait, err = p.addNetwork(ctx, &g, tenant, addr); wait > 0 || err != nil {
		return g, wait, err
	}
	wait, err = g.add(ctx, p.byName, p.buckets.of("name", tenant, name), LimitName)
	return g, wait, err
}

// BeginUnnamed is Begin for an attempt that is not counted by a name. A successful Guess must
// be ended by Cancel, since Right would reset the failures of the address.
func (p *Passwords) BeginUnnamed(
	ctx context.Context, tenant int64, addr netip.Addr,
) (g Guess, wait time.Duration, err error) {
	wait, err = p.addNetwork(ctx, &g, tenant, addr)
	return g, wait, err
}

// addNetwork begins an attempt under the limits of the network that it comes from.
func (p *Passwords) addNetwork(
	ctx context.Context, g *Guess, tenant int64, addr netip.Addr,
) (wait time.Duration, err error) {
	// The order is the same for all attempts, so they cannot deadlock.
	party := p.buckets.of("address", tenant, Party(addr))
	if wait, err = g.add(ctx, p.byAddress, party, LimitAddress); wait > 0 || err != nil {
		return wait, err
	}
	if s, ok := site(addr); ok {
		return g.add(ctx, p.bySite, p.buckets.of("site", tenant, s), LimitSite)
	}
	return 0, nil
}

// add begins an attempt under one more limit. If the limit refuses it, all attempts so far end.
func (g *Guess) add(ctx context.Context, f *Failures, b Bucket, limit string) (time.Duration, error) {
	a, wait, err := f.Try(ctx, b)
	if wait > 0 || err != nil {
		g.Cancel()
		g.Limit = limit
		return wait, err
	}
	g.attempts[g.n] = a
	g.n++
	return 0, nil
}

// Wrong ends a Guess that failed.
func (g *Guess) Wrong() { g.end(true) }

// Right ends a Guess that succeeded. It resets the failures for its name, device or link.
func (g *Guess) Right() {
	if g.n > 0 {
		g.n--
		g.attempts[g.n].EndAndForget()
	}
	g.end(false)
}

// Cancel ends a Guess without an outcome. It does nothing if the Guess has ended.
func (g *Guess) Cancel() { g.end(false) }

func (g *Guess) end(failed bool) {
	for _, a := range g.attempts[:g.n] {
		a.End(failed)
	}
	g.n = 0
}
