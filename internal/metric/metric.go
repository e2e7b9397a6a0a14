// Package metric counts how long things take and how large they are.
//
// A Histogram is safe for concurrent use. Observe takes no lock, does not allocate and takes a
// few nanoseconds, so that code that runs for every request can use it. A Snapshot can miss a
// concurrent observation, but never counts one twice. Package http/ops publishes the values.
package metric

import (
	"math"
	"sync/atomic"
	"time"
)

// Latencies are the upper bounds of buckets for the times of requests and commits, in seconds.
var Latencies = []float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10}

// Sizes are the upper bounds of buckets for the number of writes in a group.
var Sizes = []float64{1, 2, 4, 8, 16, 32, 64, 128}

// maxBuckets is the maximum number of bounds of a Histogram. The counts are in the Histogram
// itself, which saves following a pointer for each observation.
const maxBuckets = 12

// Histogram counts values by buckets.
type Histogram struct {
	bounds []float64
	counts [maxBuckets + 1]atomic.Uint64 // the last one is above all bounds
	sum    atomic.Uint64                 // the bits of a float64
}

// NewHistogram returns a Histogram with up to 12 ascending bounds. It keeps a reference to bounds.
func NewHistogram(bounds []float64) *Histogram {
	if len(bounds) > maxBuckets {
		panic("metric: too many buckets")
	}
	return &Histogram{bounds: bounds}
}

// Observe counts a value.
func (h *Histogram) Observe(value float64) {
	i := 0
	for i < len(h.bounds) && value > h.bounds[i] {
		i++
	}
	h.counts[i].Add(1)
	for {
		old := h.sum.Load()
		if h.sum.CompareAndSwap(old, math.Float64bits(math.Float64frombits(old)+value)) {
			return
		}
	}
}

// Since observes the seconds since a time, or 0 if the clock was set back.
func (h *Histogram) Since(start time.Time) { h.Observe(max(0, time.Since(start).Seconds())) }

// Snapshot is the state of a Histogram.
type Snapshot struct {
	Count uint64
	Sum   float64
	// Buckets contains, for each bound, how many values were not above it.
	Buckets map[float64]uint64
}

// Snapshot returns what has been counted so far.
func (h *Histogram) Snapshot() Snapshot {
	s := Snapshot{Sum: math.Float64frombits(h.sum.Load()), Buckets: make(map[float64]uint64, len(h.bounds))}
	for i := range len(h.bounds) + 1 {
		s.Count += h.counts[i].Load()
		if i < len(h.bounds) {
			s.Buckets[h.bounds[i]] = s.Count
		}
	}
	return s
}
