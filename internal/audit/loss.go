package audit

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"

	"dialtone/internal/fault"
)

// noCheckpoint is Change.After of a TrailBroken if all checkpoints and the state were gone.
const noCheckpoint = "no checkpoint"

// errLost means that checkpoints that this server has seen are gone. Then the server signs
// nothing, since the current changes may be forged replacements.
var errLost = errors.New("the audit trail lacks checkpoints that this server has seen; run dialtone verify here, and " +
	"once the reason is known, dialtone audit restart")

// recordLoss logs that checkpoints are gone and adds that to the trail, once. It fails if the
// change is not in the trail afterwards.
func (k *Keeper) recordLoss(ctx context.Context, st state, text string) error {
	lost, left := k.known, fmt.Sprintf("change %d", st.Through)
	if k.broken.Newest == lost.Newest && bytes.Equal(k.broken.Top, lost.Top) {
		return nil
	}
	if text == "" {
		left = noCheckpoint
	}
	c := Change{
		At: k.deps.Now(), Action: TrailBroken, Outcome: OK,
		Subject: fmt.Sprintf("checkpoint %d", lost.Newest), Before: fmt.Sprintf("change %d", lost.Through), After: left,
	}
	// An earlier process may have recorded it.
	found, err := k.recorded(ctx, c, st.Through)
	if err != nil {
		return err
	}
	if !found {
		if k.complained.Newest != lost.Newest || !bytes.Equal(k.complained.Top, lost.Top) {
			k.deps.Log.ErrorContext(ctx, "audit trail lacks what this server has seen in it: somebody has changed "+
				"it, or restored an older store", "checkpoint", lost.Newest, "through", lost.Through, "left", left,
				"mac", base64.StdEncoding.EncodeToString(lost.Top))
			k.complained = lost
		}
		if err := k.deps.Store.AddChange(ctx, c); err != nil {
			return err
		}
		if found, err = k.recorded(ctx, c, st.Through); err != nil {
			return err
		} else if !found {
			return errors.New("the change " + string(TrailBroken) + " was added to the trail and is not there: " +
				"something in the database removes changes")
		}
	}
	k.broken = lost
	return nil
}

// recorded reports whether the trail contains, after an ID, a change with the action, subject and values of like.
func (k *Keeper) recorded(ctx context.Context, like Change, after int64) (found bool, err error) {
	next := ""
	for {
		page, err := k.deps.Store.ChangePage(ctx, Filter{AfterID: after, Action: string(like.Action)}, next, maxCovered)
		if err != nil {
			return false, err
		}
		for _, c := range page.Changes {
			if c.Subject == like.Subject && c.Before == like.Before && c.After == like.After {
				return true, nil
			}
		}
		if next = page.Next; next == "" {
			return false, nil
		}
	}
}

// gone reports whether checkpoints that this server knows are gone and were not removed because of their age.
func (k *Keeper) gone(ctx context.Context, st state) (bool, error) {
	if k.known.Newest == 0 || k.known.Newest < st.Oldest {
		return false, nil
	}
	if st.Newest < k.known.Newest {
		return true, nil
	}
	if st.Newest == k.known.Newest {
		return !bytes.Equal(st.Top, k.known.Top), nil
	}
	c, err := k.deps.Store.Checkpoint(ctx, k.known.Newest)
	if fault.Is(err, fault.NotFound) {
		// Another server may have removed it because of its age after the state was read.
		return false, nil
	}
	return err == nil && !bytes.Equal(c.MAC, k.known.Top), err
}
