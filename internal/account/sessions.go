package account

import (
	"dialtone/internal/fault"
	"dialtone/internal/throttle"
)

// SessionEnd is a way to end sessions. Each is counted separately, so that somebody with a
// stolen session cannot use up the places of the owner, who has the password.
type SessionEnd string

// The ways to end sessions.
const (
	EndBySession SessionEnd = "end by session" // all others, by one of them
	EndByProof   SessionEnd = "end by proof"   // all, by the password
	EndOne       SessionEnd = "sign out"       // one
)

// SessionEndLimit returns the limit of an account for a way to end sessions.
func (s *Service) SessionEndLimit(a Account, way SessionEnd) throttle.Allowance {
	rule := throttle.SessionEndsPerAccount
	if way == EndOne {
		rule = throttle.SignOutsPerAccount
	}
	return throttle.Allowance{
		Bucket: s.buckets.Of(string(way), a.Tenant, a.UID.String()), Rule: rule, Limit: throttle.LimitSessions,
	}
}

// SessionEndRefusal is the error for the limits of ends of all sessions.
func SessionEndRefusal(w throttle.Wait) error {
	return named(limitRule("sessions", fault.Limit(w.For, "all sessions of the account were ended too often today; "+
		"choose another password, which ends them too, or wait")), w)
}
