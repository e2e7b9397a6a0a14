package lookup

import (
	"sync/atomic"

	"dialtone/internal/fault"
)

// format is the format of a look-up.
type format int

// The formats. A request for any other path is not a look-up.
const (
	noLookup format = iota
	credentialFormat
	freeswitchFormat
	asteriskFormat
)

var formats = []string{"", "credential", "freeswitch", "asterisk"}

// outcome is the outcome of a look-up.
type outcome int

const (
	notCounted outcome = iota // a request that looks nobody up
	found
	foundCached
	notFound
	refused // without a valid token
	limited
	invalid
	unavailable
	failed
)

var outcomes = []string{
	"", "found", "found", "not_found", "refused", "limited", "invalid", "unavailable", "error",
}

// outcomeOf returns the outcome of a look-up that failed.
func outcomeOf(err error) outcome {
	switch fault.KindOf(err) {
	case fault.NotFound:
		return notFound
	case fault.Unauthorized:
		return refused
	case fault.Limited:
		return limited
	case fault.Overloaded:
		return unavailable
	case fault.Internal:
		return failed
	default:
		return invalid
	}
}

// counts holds the number of look-ups since the start, by format and outcome.
type counts [4][9]atomic.Int64

// Count is the number of look-ups of one kind since the start.
type Count struct {
	Format, Outcome string
	// Cached is set for accounts that were found without reading the store.
	Cached bool
	N      int64
}

// Counts returns the numbers of look-ups of all kinds, in a fixed order.
func (h *Handler) Counts() (list []Count) {
	for f := credentialFormat; int(f) < len(formats); f++ {
		for o := found; int(o) < len(outcomes); o++ {
			list = append(list, Count{formats[f], outcomes[o], o == foundCached, h.counts[f][o].Load()})
		}
	}
	return list
}
