package sipserver

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/outage"
	"dialtone/internal/recorder"
	"dialtone/internal/stats"
)

// Lookup is approximately when a phone server last got the credential of an account.
type Lookup struct {
	Account account.UID
	Server  string
	How     How
	// At is the time of the last recorded look-up. The last look-up can be up to LookupInterval later.
	At time.Time
}

// How is the form of a look-up. Its values are stored, and are part of the API.
type How string

const (
	// HowCredential is the JSON for Kamailio, OpenSIPS and scripts.
	HowCredential How = "credential"
	// HowFreeSWITCH is the directory of mod_xml_curl.
	HowFreeSWITCH How = "freeswitch"
	// HowAsterisk is a row of ps_auths for res_config_curl.
	HowAsterisk How = "asterisk"
)

const (
	// LookupInterval is the minimum interval between two recorded look-ups of one account by
	// one server in one form by one process.
	LookupInterval = time.Hour
	// LookupLife is how long a look-up is shown.
	LookupLife = 90 * 24 * time.Hour
)

// lookups records look-ups.
type lookups struct {
	records *recorder.Recorder[lookupKey, Lookup] // about 200 bytes each
	recent  *recorder.Recent
}

type lookupKey struct {
	account account.UID
	server  string
	how     How
}

func (l Lookup) key() lookupKey { return lookupKey{l.Account, l.Server, l.How} }

// compareLookups is the order in which all servers write look-ups, so that transactions cannot deadlock.
func compareLookups(a, b Lookup) int {
	return cmp.Or(slices.Compare(a.Account[:], b.Account[:]), cmp.Compare(a.Server, b.Server),
		cmp.Compare(a.How, b.How))
}

var errTooManyLookups = errors.New("more look-ups than can be written; some phones are shown as used later")

func newLookups(d Deps) *lookups {
	log := d.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &lookups{
		records: recorder.New(recorder.Deps[lookupKey, Lookup]{
			Key: Lookup.key,
			Write: func(ctx context.Context, list []Lookup) error {
				slices.SortFunc(list, compareLookups)
				return d.Store.RecordLookups(ctx, list)
			},
			Failed:  outage.New(log, "look-ups not recorded", "look-ups recorded again", d.Now),
			Dropped: outage.New(log, "look-ups dropped", "look-ups no longer dropped", d.Now),
			TooMany: errTooManyLookups,
		}),
		recent: recorder.NewRecent(LookupInterval),
	}
}

// Found counts that a server got the credential of an account, and queues it to be recorded. It
// does not block. It nearly always finds that such a look-up was recorded within
// LookupInterval, which takes no lock and does not allocate.
func (r *Registry) Found(ctx context.Context, c *Caller, e Entry, how How) {
	r.deps.Counts.Add(e.Tenant.ID, stats.Lookup)
	now := r.deps.Now()
	key := r.lookups.recent.Key(e.Account, c.Name, string(how))
	if !r.lookups.recent.Has(key, now) &&
		r.lookups.records.Add(ctx, Lookup{e.Account, c.Name, how, now.UTC().Truncate(time.Microsecond)}) {
		r.lookups.recent.Add(key, now)
	}
}

// LastLookups returns the last look-ups of an account by each server and in each form, ordered
// by server name. asked reports whether any server may ask about accounts of the tenant:
// otherwise phones work in another way, if at all, and it is unknown when they were used.
func (r *Registry) LastLookups(ctx context.Context, a account.Account) (list []Lookup, asked bool, err error) {
	for _, c := range r.table.Load().callers {
		if slices.Contains(c.Tenants, a.Tenant) {
			list, err = r.deps.Store.LastLookups(ctx, a.UID, r.deps.Now())
			return list, true, err
		}
	}
	return nil, false, nil
}

// Run writes look-ups to the store until ctx is done.
func (r *Registry) Run(ctx context.Context) { r.lookups.records.Run(ctx) }

// Flush writes all look-ups so far to the store.
func (r *Registry) Flush(ctx context.Context) error { return r.lookups.records.Flush(ctx) }
