package phone

import (
	"context"
	"sync/atomic"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/fault"
	"dialtone/internal/secret"
	"dialtone/internal/tenant"
	"dialtone/internal/throttle"
)

// Directory is what phone servers ask. It is safe for concurrent use.
type Registry struct {
	Deps
	buckets throttle.Buckets
	wrong   *throttle.Failures
	table   atomic.Pointer[table]
	cache   *cache
}

// Deps is what a Directory works with. Every field but NoCache is needed.
type Deps struct {
	Store    Store
	Tenants  *tenant.Table
	Accounts *account.Service
	// SealRing is the ring of seal.key.
	SealRing *secret.Ring
	Audit    audit.Log
	Now      func() time.Time
	// NoCache makes every look-up read the store. It is for servers that share a database: a phone server that one of them
	// has notified of a change may ask another, and must not get the account as it was.
	NoCache bool
}

type table struct {
	version int64
	callers map[[32]byte]*Caller // by the hash of the token
}

// Caller is a phone server whose token was right.
type Caller struct {
	Server
	rate *throttle.Rate
}

const (
	// lookupsPerSecond is how often one server may ask. It is meant for one gone wild: a busy registrar asks for some ten thousand.
	lookupsPerSecond = 100_000
	// failureBuckets bounds the memory for counting wrong tokens.
	failureBuckets = 1 << 14
)

// NewDirectory is an empty Directory, in which every token is wrong; Refresh fills it.
func NewRegistry(d Deps) *Registry {
	dir := &Registry{
		Deps:    d,
		buckets: throttle.NewBuckets(d.SealRing),
		wrong:   throttle.NewFailures(throttle.WrongTokens, failureBuckets, d.Now),
		cache:   newCache(),
	}
	d.Store.OnChange(dir.cache.forget)
	dir.table.Store(&table{version: -1})
	return dir
}

// Refresh reads the servers anew if they have changed. On an error the old table stays.
func (d *Registry) Refresh(ctx context.Context) error {
	old := d.table.Load()
	version, err := d.Store.ServersVersion(ctx)
	if err != nil || version == old.version {
		return err
	}
	list, version, err := d.Store.Servers(ctx)
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
	d.table.Store(next)
	return nil
}

// ErrToken is a token that is none, or none any more.
var ErrToken = fault.New(fault.Unauthorized, "the token is not that of a phone server; make one with: dialtone directory token add")

// Admit is the server of a token. It fails with ErrToken, and with fault.Limited where the server asks too often, or where too many
// wrong tokens came from the address.
func (d *Registry) Admit(ctx context.Context, token string, from account.Origin) (*Caller, error) {
	if t, ok := secret.ParseToken(token); ok {
		if c, ok := d.table.Load().callers[t.Hash()]; ok {
			if wait := c.rate.Take(d.Now()); wait > 0 {
				return nil, fault.Limit(wait, "the phone server asks too often; it may ask %d times a second", lookupsPerSecond)
			}
			return c, nil
		}
	}
	address := d.buckets.Of("wrong phone server token", 0, throttle.Party(from.Addr))
	if wait := d.wrong.Wait(address); wait > 0 {
		return nil, fault.Limit(wait, "too many wrong tokens came from this address; mend the token, then it is taken at once")
	}
	d.wrong.Add(address)
	d.Audit.Record(ctx, audit.Event{Action: audit.DirectoryRequest, Outcome: "denied", Peer: from.Addr, Request: from.Request})
	return nil, ErrToken
}
