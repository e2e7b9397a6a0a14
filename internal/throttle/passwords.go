package throttle

import (
	"context"
	"net/netip"
	"time"

	"dialtone/internal/secret"
)

// Passwords limits wrong passwords: by name, known or not, and by the address that they come from.
//
// A client that shows it belongs to the owner of an account, by a device token or a link, is
// counted by that alone. So nobody can lock an owner out by guessing at the name, or by abusing an
// address that the owner shares.
//
// It is safe for concurrent use. Its memory stays below 40 MiB.
type Passwords struct {
	buckets                   Buckets
	byName, byAddress, bySite *Failures
}

// NewPasswords returns Passwords without failures. The ring keys the buckets.
func NewPasswords(ring *secret.Ring, now func() time.Time) *Passwords {
	return &Passwords{
		buckets:   NewBuckets(ring),
		byName:    NewFailures(FailedSignIns, 1<<16, now),
		byAddress: NewFailures(FailedSignInsPerAddress, 1<<15, now),
		bySite:    NewFailures(FailedSignInsPerSite, 1<<12, now),
	}
}

// Guess is an attempt to prove a password that is in progress.
type Guess struct {
	ends   []func(failed bool)
	forget func()
	// Limit says in a word which limit refused the attempt, for the log. It is empty if none did.
	Limit string
}

// Begin begins an attempt for a name from an address. A client that is known to belong to the
// owner of the name is counted by the ID of its device token or link, which is empty for others.
// If a limit is reached, Begin returns how long to wait, and a Guess that names the limit. Otherwise
// the caller must end the Guess once. It fails only with the error of ctx.
func (p *Passwords) Begin(
	ctx context.Context, tenant int64, addr netip.Addr, name, known string,
) (*Guess, time.Duration, error) {
	type place struct {
		*Failures
		bucket Bucket
		limit  string
	}
	var places []place
	if known != "" {
		places = []place{{p.byName, p.buckets.Of("failed sign-in device", tenant, known), "device"}}
	} else {
		places = append(make([]place, 0, 3),
			place{p.byAddress, p.buckets.Of("failed sign-in address", tenant, Party(addr)), "address"})
		if s, ok := site(addr); ok {
			places = append(places, place{p.bySite, p.buckets.Of("failed sign-in site", tenant, s), "site"})
		}
		places = append(places, place{p.byName, p.buckets.Of("failed sign-in name", tenant, name), "name"})
	}
	last := places[len(places)-1]
	g := &Guess{forget: func() { last.Forget(last.bucket) }}
	// The order is the same for all attempts, so they cannot wait for each other in a circle.
	for _, at := range places {
		end, wait, err := at.Try(ctx, at.bucket)
		if wait > 0 || err != nil {
			g.Cancel()
			g.Limit = at.limit
			return g, wait, err
		}
		g.ends = append(g.ends, end)
	}
	return g, 0, nil
}

// Wrong ends a Guess that failed.
func (g *Guess) Wrong() { g.end(true) }

// Right ends a Guess that succeeded. The failures for its name, device or link no longer count.
func (g *Guess) Right() {
	g.end(false)
	g.forget()
}

// Cancel ends a Guess without an outcome.
func (g *Guess) Cancel() { g.end(false) }

func (g *Guess) end(failed bool) {
	for _, end := range g.ends {
		end(failed)
	}
	g.ends = nil
}
