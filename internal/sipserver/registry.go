package sipserver

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/fault"
	"dialtone/internal/secret"
	"dialtone/internal/sipserver/cache"
	"dialtone/internal/stats"
	"dialtone/internal/tenant"
	"dialtone/internal/throttle"
)

// Registry authenticates phone servers and answers their look-ups. It is safe for concurrent use.
type Registry struct {
	deps        Deps
	buckets     throttle.Buckets
	wrongTokens *throttle.Failures
	table       atomic.Pointer[table]
	cache       *cache.Cache
	lookups     *lookups
}

// Deps are the dependencies of a Registry. All but Counts, Log and NoCache are required.
type Deps struct {
	Store    Store
	Tenants  *tenant.Table
	Accounts *account.Service
	SealRing *secret.Ring
	Audit    audit.Log
	// Counts counts the look-ups that succeed. It may be nil.
	Counts *stats.Counter
	// Log gets failures to record look-ups.
	Log *slog.Logger
	Now func() time.Time
	// NoCache makes every look-up read the store. Servers that share a database need it: a
	// phone server that one of them has notified of a change may ask another one, which must
	// not return the outdated account.
	NoCache bool
}

type table struct {
	version int64
	callers map[[32]byte]*Caller // by the SHA-256 of the token
}

// Caller is an authenticated phone server.
type Caller struct {
	Server
	rate *throttle.Rate
}

// lookupsPerSecond is the rate limit of one server. It stops a server in an endless loop: a
// busy registrar needs about 10,000 look-ups per second.
const lookupsPerSecond = 100_000

// NewRegistry returns a Registry without servers, which refuses every token. Refresh reads the
// servers.
func NewRegistry(d Deps) *Registry {
	r := &Registry{
		deps:    d,
		buckets: throttle.NewBuckets(d.SealRing),
		wrongTokens: throttle.NewFailures(
			throttle.WrongTokens, throttle.WrongTokenBuckets, d.Now),
		cache:   cache.New(d.Store, d.Now),
		lookups: newLookups(d),
	}
	r.cache.Off = d.NoCache
	r.table.Store(&table{version: -1})
	return r
}

// Forget removes an account from the cache, or all accounts for the zero UID. Look-ups that
// start afterwards read the store. Call it for changes that another process has made.
func (r *Registry) Forget(uid account.UID) { r.cache.Forget(uid) }

// Refresh reads the servers if they have changed. On an error, the servers stay as they were.
func (r *Registry) Refresh(ctx context.Context) error {
	old := r.table.Load()
	version, err := r.deps.Store.ServersVersion(ctx)
	if err != nil || version == old.version {
		return err
	}
	list, version, err := r.deps.Store.Servers(ctx)
	if err != nil {
		return err
	}
	next := &table{version: version, callers: make(map[[32]byte]*Caller, len(list))}
	for _, s := range list {
		c := &Caller{Server: s}
		if known := old.callers[s.Token]; known != nil {
			c.rate = known.rate
		} else {
			c.rate = throttle.NewRate(lookupsPerSecond)
		}
		next.callers[s.Token] = c
	}
	r.table.Store(next)
	return nil
}

// ErrBadToken refuses a token that is malformed, unknown or removed.
var ErrBadToken = fault.New(fault.Unauthorized,
	"unknown token; create one with: dialtone directory token add")

// Authenticate returns the server of a token. It fails with ErrBadToken, and with fault.Limited if
// the server asks too often or too many wrong tokens came from the address. A valid token is never
// refused because of wrong ones.
func (r *Registry) Authenticate(ctx context.Context, token string, from account.Origin) (*Caller, error) {
	if t, ok := secret.ParseToken(token); ok {
		if c, ok := r.table.Load().callers[t.Hash()]; ok {
			if wait := c.rate.Take(r.deps.Now()); wait > 0 {
				return nil, fault.Limit(wait, "the phone server asks too often; "+
					"the limit is %d look-ups per second", lookupsPerSecond)
			}
			return c, nil
		}
	}
	// The first argument is part of the bucket's key; changing it resets the counts.
	bucket := r.buckets.Of("wrong phone server token", 0, throttle.Party(from.Addr))
	if wait := r.wrongTokens.Fail(bucket); wait > 0 {
		return nil, fault.Limit(wait, "too many wrong tokens came from this address; "+
			"the right token is accepted at once")
	}
	r.deps.Audit.Record(ctx, audit.Event{
		Action: audit.DirectoryRequest, Outcome: "denied", Peer: from.Addr, Request: from.Request,
	})
	return nil, ErrBadToken
}
