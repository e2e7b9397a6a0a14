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

// Lookup is when a phone server last got the credential of an account, roughly.
type Lookup struct {
	Account account.UID
	Server  string
	How     How
	// At may be up to LookupInterval earlier than the last look-up.
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
	// LookupInterval is how often a process records look-ups of one account by one server in one form at
	// most.
	LookupInterval = time.Hour
	// LookupLife is how long a look-up is shown.
	LookupLife = 90 * 24 * time.Hour
)

// lookups records look-ups.
type lookups struct {
	records *recorder.Recorder[lookupKey, Lookup] // of about 200 bytes each
	recent  *recorder.Recent
}

type lookupKey struct {
	account account.UID
	server  string
	how     How
}

func (l Lookup) key() lookupKey { return lookupKey{l.Account, l.Server, l.How} }

// compareLookups is the order in which all servers write, so that no two transactions wait for each
// other.
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

// Found counts that a server got the credential of an account, and has it recorded soon. It waits for nothing, and
// nearly always finds that this was recorded within LookupInterval, which takes no lock and allocates
// nothing.
func (r *Registry) Found(ctx context.Context, c *Caller, e Entry, how How) {
	r.deps.Counts.Add(e.Tenant.ID, stats.Lookup)
	now := r.deps.Now()
	key := r.lookups.recent.Key(e.Account, c.Name, string(how))
	if !r.lookups.recent.Has(key, now) &&
		r.lookups.records.Add(ctx, Lookup{e.Account, c.Name, how, now.UTC().Truncate(time.Microsecond)}) {
		r.lookups.recent.Add(key, now)
	}
}

// LastLookups returns the last look-ups of an account by each server and in each form, in the order of
// the servers' names. It reports whether any server may ask about accounts of the tenant: otherwise
// phones work in another way, if at all, and nothing can be known.
func (r *Registry) LastLookups(ctx context.Context, a account.Account) (list []Lookup, asked bool, err error) {
	for _, c := range r.table.Load().callers {
		if slices.Contains(c.Tenants, a.Tenant) {
			list, err = r.deps.Store.LastLookups(ctx, a.UID, r.deps.Now())
			return list, true, err
		}
	}
	return nil, false, nil
}

// Run writes look-ups to the store until ctx ends.
func (r *Registry) Run(ctx context.Context) { r.lookups.records.Run(ctx) }

// Flush writes the look-ups so far.
func (r *Registry) Flush(ctx context.Context) error { return r.lookups.records.Flush(ctx) }
