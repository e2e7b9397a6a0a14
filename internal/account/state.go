package account

import (
	"time"
)

// State is what an account can currently do. Every account is in exactly one state.
type State string

// The states. More may be added, such as on_hold.
const (
	// Waiting means that the account has not been activated.
	Waiting State = "waiting"
	Active  State = "active"
	// Disabled means that an operator disabled it, before or after its activation.
	Disabled State = "disabled"
	// Leaving means that its owner has left. It is erased at Account.Leaving, unless the owner returns.
	Leaving State = "leaving"
	// Closed means that it was deleted after it was active. Nothing is left but its name, and no method
	// returns it as an account.
	Closed State = "closed"
)

// States are the states that an account can be in.
var States = []State{Waiting, Active, Disabled, Leaving}

// SetState is a state that an operator gave an account, or its owner by leaving or staying.
type SetState struct {
	State  State // empty if nobody set one
	At     time.Time
	By     string
	Reason string
}

// State returns the state of the account.
func (a Account) State() State {
	switch {
	case a.Held && !a.Leaving.IsZero() && a.Set.State != Disabled:
		return Leaving
	case a.Held:
		return Disabled
	case a.Pending():
		return Waiting
	default:
		return Active
	}
}

// Since returns since when the account has been in its state, who gave it that state, and why.
// If nobody did, by and reason are empty. The time is zero if unknown.
func (a Account) Since() (at time.Time, by, reason string) {
	state := a.State()
	switch {
	case a.Set.State == state:
		return a.Set.At, a.Set.By, a.Set.Reason
	case state == Active:
		return a.Activated, "", ""
	case state == Waiting:
		return a.Created, "", ""
	default: // disabled by an older program
		return time.Time{}, "", ""
	}
}

// Pending reports whether the account has not been activated yet.
func (a Account) Pending() bool { return a.Activated.IsZero() }
