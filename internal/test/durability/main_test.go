package durability

import (
	"os"
	"runtime/debug"
	"testing"
)

// These tests make thousands of small disks that are garbage at once. With the default of 100 they spend
// two fifths of their time on collecting it; with this they take 150 MB.
func TestMain(m *testing.M) {
	debug.SetGCPercent(800)
	os.Exit(m.Run())
}
