package account

import (
	"context"
	"fmt"
	"time"
)

const (
	// linkMemory is how long the row of an account is kept after it expired, so that a link
	// that is opened too late can be distinguished from an unknown one. The name is free as
	// soon as the account expires. An account whose owner has left is kept for the same time
	// after Grace, so that a clock that is wrong by a time zone does not cut Grace short.
	linkMemory = 24 * time.Hour
	// sweepLimit keeps the transactions of a sweep short.
	sweepLimit = 500
	// maxDrift is how far the wall clock may have moved ahead of the monotonic clock. If it has
	// moved further, the clock was set forward while the program ran, perhaps by years, and
	// nothing is removed because of its age. A clock that was set back makes everything
	// younger, so that less is removed.
	maxDrift = time.Hour
)

// Sweep removes what has expired. Nothing depends on it: every rule checks times itself. It
// also corrects times that were written while the clock was ahead. That removes nothing and is
// done even if the clock was set forward since the start.
func (s *Service) Sweep(ctx context.Context) error {
	now := s.deps.Now()
	switch corrected, err := s.deps.Store.CorrectFuture(ctx, now); {
	case err != nil:
		return err
	case corrected > 0:
		s.deps.Log.WarnContext(ctx, "times in the future corrected; the clock was ahead", "rows", corrected)
	}
	if err := s.CheckClock(); err != nil {
		return err
	}
	for ctx.Err() == nil {
		swept, err := s.deps.Store.Sweep(ctx, now, now.Add(-linkMemory), sweepLimit)
		if err != nil {
			return err
		}
		if swept.Accounts > 0 {
			s.deps.Log.InfoContext(ctx, "expired accounts removed", "accounts", swept.Accounts)
		}
		if !swept.More {
			return nil
		}
	}
	return ctx.Err()
}

// CheckClock returns an error if the clock was set forward since the start.
func (s *Service) CheckClock() error {
	now := s.deps.Now()
	drift := now.Round(0).Sub(s.started.Round(0)) - now.Sub(s.started)
	if drift > maxDrift {
		return fmt.Errorf("the clock was set forward by %v since the start; "+
			"nothing is removed until the program is restarted with the right time",
			drift.Round(time.Second))
	}
	return nil
}
