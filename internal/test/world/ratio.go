package world

import (
	"slices"
	"testing"
	"time"
)

// ReportRatio compares two ways to do something. run does it once, in the way 0 or 1, and returns how long that took.
// The metric is the median of the ratio of way 0 to way 1 over all pairs. The ways take turns in which one is first,
// so that other load on the machine affects both.
func ReportRatio(b *testing.B, run func(way int) time.Duration) {
	var ratios []float64
	for b.Loop() {
		var took [2]time.Duration
		first := len(ratios) % 2
		took[first] = run(first)
		took[1-first] = run(1 - first)
		ratios = append(ratios, float64(took[0])/float64(took[1]))
	}
	slices.Sort(ratios)
	b.ReportMetric(ratios[len(ratios)/2], "ratio-median")
}
