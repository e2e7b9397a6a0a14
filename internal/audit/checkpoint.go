package audit

import (
	"context"
	"time"

	"dialtone/internal/secret"
)

// CheckpointStore stores checkpoints and their state. The state is a text, which is empty
// before the first checkpoint.
type CheckpointStore interface {
	Trail

	CheckpointState(ctx context.Context) (string, error)

	// Checkpoint returns the checkpoint with an ID. It fails with fault.NotFound.
	Checkpoint(ctx context.Context, id int64) (Checkpoint, error)

	// CheckpointBounds returns the lowest and the highest ID of a checkpoint, or zeros.
	CheckpointBounds(ctx context.Context) (lowest, highest int64, err error)

	// AddCheckpoint adds a checkpoint, unless c is nil, and replaces the state. If the current
	// state is not was, it changes nothing and returns false.
	AddCheckpoint(ctx context.Context, was string, c *Checkpoint, state string) (bool, error)

	// RemoveChanges removes the changes up to the ID through and the checkpoints up to the ID
	// checkpoint, and replaces the state. If the current state is not was, it changes nothing
	// and returns false.
	RemoveChanges(ctx context.Context, was string, through, checkpoint int64, state string) (bool, error)

	// RestartCheckpoints removes all checkpoints, replaces the state, and adds a change.
	RestartCheckpoints(ctx context.Context, c Change, state string) error
}

// Checkpoint proves which changes followed those of the previous checkpoint.
type Checkpoint struct {
	ID int64
	// At is when the newest of the changes was made.
	At time.Time
	// Node is the server that wrote it, or empty if there are no nodes.
	Node string
	// First and Through are the range of the IDs of the changes. First is one more than Through
	// of the previous checkpoint.
	First, Through int64
	Changes        int
	// Tags contains a tag of tagSize bytes for each change: its ID, the code of the change, and
	// the code of what remains of the change after its account was erased.
	Tags []byte
	// Seal is the ID of the key of MAC. MAC covers all other fields and the MAC of the previous checkpoint.
	Seal string
	MAC  []byte
}

// state is the range of existing checkpoints. It is signed too, so that the oldest or newest
// ones cannot be removed unnoticed.
type state struct {
	// At is when the state was last confirmed.
	At time.Time `json:"at"`
	// Oldest and Newest are IDs of checkpoints. Oldest is Newest + 1 if there are none.
	Oldest int64 `json:"oldest"`
	Newest int64 `json:"newest"`
	// First is the lowest change ID that the oldest checkpoint can cover, and Through the last
	// change that the newest checkpoint covers.
	First   int64 `json:"first"`
	Through int64 `json:"through"`
	// Base is the MAC of the removed checkpoint before the oldest one, and Top is the MAC of the newest.
	Base []byte `json:"base"`
	Top  []byte `json:"top"`
	// Began is when the first checkpoint was written, and Unproved the ID of the last change
	// that existed before, or 0 if all changes were recent then.
	Began    time.Time `json:"began,omitzero"`
	Unproved int64     `json:"unproved,omitempty"`

	Seal string `json:"seal"`
	MAC  []byte `json:"mac"`
}

// The sizes and limits of checkpoints.
const (
	codeSize = 16
	tagSize  = 8 + 2*codeSize
	// maxCovered is the maximum number of changes that a checkpoint covers, and maxSpan the
	// maximum time between them. Changes are only removed together with their checkpoint.
	maxCovered = 1000
	maxSpan    = 24 * time.Hour
	// CheckpointInterval is the time between two checkpoints. Operators are promised that a
	// change is covered within a minute, and a server checks every ten seconds whether a
	// checkpoint is due.
	CheckpointInterval = 45 * time.Second
	// lateCheckpoint is how late a checkpoint can be before verify reports it.
	lateCheckpoint = 10 * time.Minute
)

// restartLeap is about the number of checkpoints that servers write in fifty days.
const restartLeap = 100_000

// Restart begins new checkpoints, which cover all changes that are in the trail now. It is for
// an operator who knows why verify finds faults in it. The reason is in the context. seen is
// the text in Memory, or empty, since a server also knows those checkpoints. The new
// checkpoints have much higher IDs, so that servers which have seen other ones accept them.
func Restart(ctx context.Context, store CheckpointStore, ring *secret.Ring, seen string, now time.Time) error {
	_, highest, err := store.CheckpointBounds(ctx)
	if err != nil {
		return err
	}
	s := newSigner(ring)
	text, err := store.CheckpointState(ctx)
	if err != nil {
		return err
	}
	for _, text := range []string{text, seen} {
		if st, err := s.parse(text); err == nil {
			highest = max(highest, st.Newest)
		}
	}
	highest += restartLeap
	return store.RestartCheckpoints(ctx, Change{At: now, Action: TrailRestart, Outcome: OK},
		s.text(state{At: now.UTC().Truncate(time.Microsecond), Oldest: highest + 1, Newest: highest}))
}

// Newest returns the newest checkpoint in a state, and the last change that it covers. text is
// the state in the store or in Memory. For an empty text it returns zeros.
func Newest(ring *secret.Ring, text string) (checkpoint, through int64, err error) {
	st, err := newSigner(ring).parse(text)
	return st.Newest, st.Through, err
}
