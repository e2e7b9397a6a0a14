package serve

import (
	"testing"
	"time"
)

// TestAge checks that no age is negative after the clock was ahead.
func TestAge(t *testing.T) {
	if got := age(time.Time{}); got != 0 {
		t.Errorf("of no time: %v", got)
	}
	if got := age(time.Now().AddDate(1, 0, 0)); got != 0 {
		t.Errorf("of a time in the future: %v", got)
	}
	if got := age(time.Now().Add(-time.Hour)); got < time.Hour || got > 2*time.Hour {
		t.Errorf("of an hour ago: %v", got)
	}
}
