package metric

import (
	"maps"
	"sync"
	"testing"
)

func TestHistogram(t *testing.T) {
	h := NewHistogram([]float64{1, 2, 4})
	for _, v := range []float64{0, 1, 1.5, 4, 4.5, 100} {
		h.Observe(v)
	}
	s := h.Snapshot()
	if want := map[float64]uint64{1: 2, 2: 3, 4: 4}; !maps.Equal(s.Buckets, want) || s.Count != 6 || s.Sum != 111 {
		t.Errorf("%+v, want the buckets %v, 6 values and the sum 111", s, want)
	}
}

func TestHistogramWithConcurrentObservations(t *testing.T) {
	h := NewHistogram(Latencies)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 1000 {
				h.Observe(0.5)
			}
		})
	}
	all.Wait()
	if s := h.Snapshot(); s.Count != 8000 || s.Sum != 4000 || s.Buckets[0.25] != 0 || s.Buckets[0.5] != 8000 {
		t.Errorf("%+v", s)
	}
}

func TestObserveAllocatesNothing(t *testing.T) {
	h := NewHistogram(Latencies)
	if n := testing.AllocsPerRun(100, func() { h.Observe(0.003) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
