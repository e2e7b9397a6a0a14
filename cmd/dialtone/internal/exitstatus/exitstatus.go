// Package exitstatus defines the exit statuses that scripts and systemd may rely on.
//
// The status tells whether starting the program again can help. The errors themselves say so (fault.Remedy), so this
// package knows none of them.
package exitstatus

import "dialtone/internal/fault"

// The exit statuses. Restart and Config are EX_TEMPFAIL and EX_CONFIG of sysexits.h.
const (
	Failed  = 1
	Usage   = 2
	Restart = 75 // a commit failed: start the program again
	Config  = 78 // the same would happen again until an operator corrects the configuration, the keys or the store
)

// Of returns the exit status for an error that is not one of usage.
func Of(err error) int {
	switch fault.RemedyOf(err) {
	case fault.Correction, fault.CorrectionFirst:
		return Config
	case fault.Restart:
		return Restart
	}
	return Failed
}
