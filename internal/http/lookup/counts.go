package lookup

import (
	"sync/atomic"

	"dialtone/internal/fault"
)

// format is the format of a look-up.
type format int

// The formats. A request of any other path is no look-up.
const (
	noLookup format = iota
	credentialFormat
	freeswitchFormat
	asteriskFormat
)

var formats = []string{"", "credential", "freeswitch", "asterisk"}

// outcome is what became of a look-up.
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

// counts has the look-ups since the start.
type counts [4][9]atomic.Int64

// Count is how many look-ups of a kind there were since the start.
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
