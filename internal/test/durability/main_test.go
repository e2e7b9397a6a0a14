package durability

import (
	"os"
	"runtime/debug"
	"testing"
)

// TestMain makes the garbage collector run less often. The tests create thousands of short-lived
// small disks, and with the default of 100 percent would spend two fifths of their time on
// collecting them. With 800 percent they need 150 MB.
func TestMain(m *testing.M) {
	debug.SetGCPercent(800)
	os.Exit(m.Run())
}
