package account

import (
	"context"
	"fmt"
	"time"
)

const (
	// linkMemory is how long the row of an account stays that was not activated, so that a link opened too late is told
	// that it is too late. The name is free from the moment of expiry on.
	linkMemory = 24 * time.Hour
	// sweepLimit keeps one transaction of a sweep short.
	sweepLimit = 500
	// maxDrift is how far the wall clock may have moved against the machine's own count of time. Beyond it the clock was
	// set while we ran, perhaps wrongly and by years, and nothing is removed for its age.
	maxDrift = time.Hour
)

// Sweep removes what has had its time. Nothing depends on it: every rule checks times when it is used.
func (d *Service) Sweep(ctx context.Context) error {
	now := d.Now()
	if drift := now.Round(0).Sub(d.started.Round(0)) - now.Sub(d.started); drift.Abs() > maxDrift {
		return fmt.Errorf("the clock moved by %v since the start; nothing is removed until a restart finds it right", drift.Round(time.Second))
	}
	for ctx.Err() == nil {
		swept, err := d.Store.Sweep(ctx, now, now.Add(-linkMemory), sweepLimit)
		if err != nil {
			return err
		}
		if swept.Accounts > 0 {
			d.Log.InfoContext(ctx, "removed accounts that were not activated", "accounts", swept.Accounts)
		}
		if !swept.More {
			return nil
		}
	}
	return ctx.Err()
}
