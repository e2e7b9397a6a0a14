package audit

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"log/slog"
	"math"
	"sync"
	"time"

	"dialtone/internal/fault"
	"dialtone/internal/secret"
)

// Keeper writes checkpoints and removes old changes. It is safe for concurrent use.
type Keeper struct {
	deps KeeperDeps

	mu sync.Mutex
	// known is the newest state that this server has seen, and saved is the state last written
	// to Memory. A state that lacks checkpoints of known never replaces it, unless an operator
	// has begun new ones.
	known, saved state
	// unreadable means that Memory could not be read, and unwritable that it could not be written.
	unreadable, unwritable bool
	// broken is the state whose loss this process knows to be recorded in the trail.
	broken state
	// complained is the state whose loss was logged.
	complained state
	// blocked is when this server first found a state that it could not read, or zero.
	blocked time.Time
}

// Memory stores a text outside the database: the newest state that a server has seen. So the
// server notices if checkpoints were removed, or an older database was restored, while it did
// not run. The text stays until an operator begins new checkpoints, so that Verify can use it
// too.
type Memory interface {
	// Load returns the text, or "" if there is none.
	Load() (string, error)
	Save(text string) error
}

// KeeperDeps are the dependencies of a Keeper.
type KeeperDeps struct {
	Store CheckpointStore
	// Ring returns the keys of seal.key, which may have been rotated.
	Ring func() (*secret.Ring, error)
	// Memory may be nil.
	Memory Memory
	Node   string
	Log    *slog.Logger
	Now    func() time.Time
}

// NewKeeper returns a Keeper.
func NewKeeper(d KeeperDeps) *Keeper { return &Keeper{deps: d} }

// Start logs the newest checkpoint. A server calls it when it starts.
func (k *Keeper) Start(ctx context.Context) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	_, text, st, err := k.read(ctx)
	if err != nil && !errors.Is(err, errState) && !errors.Is(err, errLost) { // Cover logs that
		return err
	}
	if err == nil && text != "" {
		k.log(ctx, "audit checkpoint found", st)
	}
	return nil
}

// Cover writes checkpoints for the changes that have none, unless that was done less than
// CheckpointInterval ago. If there are no such changes, it confirms the newest checkpoint.
// Several servers can call it concurrently. If somebody has edited the state, or checkpoints
// are gone that this server has seen, it fails and signs nothing until an operator begins new
// ones (Restart).
func (k *Keeper) Cover(ctx context.Context) error { return k.cover(ctx, false) }

// CoverNow is Cover regardless of CheckpointInterval.
func (k *Keeper) CoverNow(ctx context.Context) error { return k.cover(ctx, true) }

func (k *Keeper) cover(ctx context.Context, now bool) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	s, text, st, err := k.read(ctx)
	if err != nil {
		return err
	}
	for first := true; ; first = false {
		at := k.deps.Now().UTC().Truncate(time.Microsecond)
		if age := at.Sub(st.At); first && !now && text != "" && age >= 0 && age < CheckpointInterval {
			return nil
		}
		if text == "" {
			if st.Began, st.Unproved, err = k.begin(ctx, at); err != nil {
				return err
			}
		}
		c, more, err := k.next(ctx, s, st, at)
		if err != nil || c == nil && !first {
			return err
		}
		st.At = at
		if c != nil {
			st.Newest, st.Through, st.Top = c.ID, c.Through, c.MAC
		}
		was := text
		st.Seal = s.newest
		text = s.text(st)
		if added, err := k.deps.Store.AddCheckpoint(ctx, was, c, text); err != nil || !added {
			return err // if it was not added, another server has added one
		}
		k.remember(ctx, st, text)
		if c != nil {
			k.log(ctx, "audit checkpoint", st, "first", c.First, "changes", c.Changes)
		}
		if !more {
			return nil
		}
	}
}

// log logs the newest checkpoint, so that a log that is kept elsewhere can prove that it was removed.
func (k *Keeper) log(ctx context.Context, event string, st state, attrs ...any) {
	k.deps.Log.InfoContext(ctx, event, append([]any{
		"checkpoint", st.Newest, "through", st.Through, "mac", base64.StdEncoding.EncodeToString(st.Top)}, attrs...)...)
}

// begin returns Began and Unproved of the state with the first checkpoint.
func (k *Keeper) begin(ctx context.Context, now time.Time) (time.Time, int64, error) {
	page, err := k.deps.Store.ChangePage(ctx, Filter{AfterID: math.MinInt64}, "", 1)
	if err != nil || len(page.Changes) == 0 || now.Sub(page.Changes[0].At) <= lateCheckpoint {
		return now, 0, err
	}
	last, _, err := k.deps.Store.LastChange(ctx, TrailBroken)
	return now, last, err
}

// recall reads Memory. A command may have written it too.
func (k *Keeper) recall(ctx context.Context, s *signer) {
	if k.deps.Memory == nil {
		return
	}
	var st state
	text, err := k.deps.Memory.Load()
	if err == nil && text != "" {
		if st, err = s.parse(text); err == nil && st.Newest > k.known.Newest {
			k.known, k.saved = st, st
		}
	}
	if err != nil && !k.unreadable {
		k.deps.Log.ErrorContext(ctx, "what this server has seen of the audit trail cannot be read, so it notices no "+
			"change of the trail before this start", "err", err)
	}
	k.unreadable = err != nil
}

// remember sets the newest state that this server has seen.
func (k *Keeper) remember(ctx context.Context, st state, text string) {
	k.known = st
	same := k.saved.Newest == st.Newest && bytes.Equal(k.saved.Top, st.Top) && k.saved.Seal == st.Seal
	if k.deps.Memory == nil || text == "" || same {
		return
	}
	if err := k.deps.Memory.Save(text); err == nil {
		k.saved, k.unwritable = st, false
	} else if !k.unwritable {
		k.unwritable = true
		k.deps.Log.ErrorContext(ctx, "what this server has seen of the audit trail cannot be written, so it may not "+
			"notice after a restart that somebody has changed the trail", "err", err)
	}
}

// signedState is the subject of a TrailBroken that records how long a server could not read the state.
const signedState = "signed state"

// read returns the state. If the state could not be read for a while, it adds that to the
// trail. If checkpoints that this server knows are gone, it adds that too, and fails with
// errLost.
func (k *Keeper) read(ctx context.Context) (s *signer, text string, st state, err error) {
	ring, err := k.deps.Ring()
	if err != nil {
		return s, text, st, err
	}
	s = newSigner(ring)
	k.recall(ctx, s)
	if text, err = k.deps.Store.CheckpointState(ctx); err != nil {
		return s, text, st, err
	}
	if st, err = s.parse(text); err != nil {
		if k.blocked.IsZero() {
			k.blocked = k.deps.Now()
		}
		return s, text, st, err
	}
	// A state that was written since then comes from another server, or from an operator who began new checkpoints.
	if !k.blocked.IsZero() && st.At.Before(k.blocked) {
		err := k.deps.Store.AddChange(ctx, Change{
			At: k.deps.Now(), Action: TrailBroken, Outcome: OK, Subject: signedState,
			Before: stamp(k.blocked), After: stamp(k.deps.Now()),
		})
		if err != nil {
			return s, text, st, err
		}
	}
	k.blocked = time.Time{}
	gone, err := k.gone(ctx, st)
	if err != nil {
		return s, text, st, err
	}
	if gone {
		return s, text, st, errors.Join(errLost, k.recordLoss(ctx, st, text))
	}
	k.remember(ctx, st, text)
	return s, text, st, nil
}

// maxSkew is how far the clocks of servers may differ.
const maxSkew = time.Minute

// next returns a checkpoint for the changes that no checkpoint covers yet, or nil if there are
// none. more means that there are further changes.
func (k *Keeper) next(ctx context.Context, s *signer, st state, now time.Time) (c *Checkpoint, more bool, err error) {
	page, err := k.deps.Store.ChangePage(ctx, Filter{AfterID: st.Through}, "", maxCovered)
	if err != nil || len(page.Changes) == 0 {
		return nil, false, err
	}
	c = &Checkpoint{ID: st.Newest + 1, Node: k.deps.Node, First: st.Through + 1, Seal: s.newest}
	key := s.keys[s.newest]
	from, to := page.Changes[0].At, page.Changes[0].At
	for _, change := range page.Changes {
		if change.At.Before(from) {
			from = change.At
		}
		if change.At.After(to) {
			to = change.At
		}
		if to.Sub(from) > maxSpan {
			more = true
			break
		}
		c.At, c.Through = to, change.ID
		c.Changes++
		c.Tags = append(c.Tags, key.tag(change)...)
	}
	// A change can have the time of a clock that was ahead. That must not keep changes from
	// being removed for years. The present clock can also be behind, so the confirmed time is a
	// lower bound.
	latest := now
	if st.At.After(now) {
		latest = st.At
	}
	if latest = latest.Add(maxSkew); c.At.After(latest) {
		c.At = latest
	}
	mac := key.checkpoint.Sum(c.signed(st.Top)...)
	c.MAC = mac[:]
	return c, more || page.Next != "", nil
}

// Remove removes the changes that were made before a time, in units of whole checkpoints that
// cover only such changes.
func (k *Keeper) Remove(ctx context.Context, before time.Time) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	s, text, st, err := k.read(ctx)
	if err != nil {
		return err
	}
	for st.Oldest <= st.Newest {
		c, err := k.deps.Store.Checkpoint(ctx, st.Oldest)
		if fault.Is(err, fault.NotFound) {
			return nil // another server has removed it, or verify reports it as missing
		}
		if err != nil {
			return err
		}
		if at, err := k.madeBy(ctx, c, st); err != nil || !at.Before(before) {
			return err
		}
		if key, ok := s.keys[c.Seal]; !ok || !key.checkpoint.Verify(c.MAC, c.signed(st.Base)...) {
			return errors.New("the oldest checkpoint of the audit trail was edited, so nothing is removed; " +
				"run dialtone verify")
		}
		st.Oldest, st.First, st.Base = c.ID+1, c.Through+1, c.MAC
		was := text
		st.Seal = s.newest
		text = s.text(st)
		removed, err := k.deps.Store.RemoveChanges(ctx, was, c.Through, c.ID, text)
		if err != nil || !removed {
			return err
		}
		k.remember(ctx, st, text)
	}
	return nil
}

// madeBy returns an upper bound for when the newest change of a checkpoint was made. If its
// time is in the future, it was written while a clock was ahead, and the bound is the time of
// the next checkpoint with a plausible time.
func (k *Keeper) madeBy(ctx context.Context, c Checkpoint, st state) (time.Time, error) {
	const maxRead = 10_000
	at, limit := c.At, k.deps.Now().Add(maxSkew)
	for id := c.ID + 1; at.After(limit) && id <= min(st.Newest, c.ID+maxRead); id++ {
		later, err := k.deps.Store.Checkpoint(ctx, id)
		if fault.Is(err, fault.NotFound) {
			return at, nil
		}
		if err != nil {
			return at, err
		}
		at = later.At
	}
	return at, nil
}
