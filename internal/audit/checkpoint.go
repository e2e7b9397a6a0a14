package audit

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"sync"
	"time"

	"dialtone/internal/fault"
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

// signer makes and checks codes.
type signer struct {
	newest string
	keys   map[string]signerKey
}

type signerKey struct{ change, checkpoint, state *secret.MAC }

func newSigner(r *secret.Ring) *signer {
	s := &signer{keys: make(map[string]signerKey)}
	for i, id := range r.IDs() {
		if i == 0 {
			s.newest = id.String()
		}
		one := r.Only(id)
		s.keys[id.String()] = signerKey{
			secret.NewMAC(one, "audit change"), secret.NewMAC(one, "audit checkpoint"),
			secret.NewMAC(one, "audit state"),
		}
	}
	return s
}

func number(n int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(n)) }

// erased returns what remains of a change after the store has erased its account.
func erased(c Change) Change {
	switch c.Action {
	case PasswordNotMe:
		c.Before, c.After = "", ""
	case PasskeyAdd, PasskeyRename, PasskeyRemove:
		c.Subject = ""
	}
	if c.Actor.Kind == Person {
		c.Net = NetworkOf(c.Net)
	}
	return c
}

// code returns the code of a change.
func (k signerKey) code(c Change) []byte {
	full := k.change.Sum(number(c.ID), number(c.At.UnixMicro()), []byte(c.Action), []byte(c.Outcome), []byte(c.Tenant),
		[]byte(c.Account), []byte(c.User), []byte(c.Subject), []byte(c.Before), []byte(c.After),
		[]byte(c.Actor.Kind), []byte(c.Actor.Name), []byte(c.Actor.ID), []byte(c.Actor.Sudo), []byte(c.Reason),
		[]byte(c.Net), []byte(c.Request))
	return full[:codeSize]
}

// tag returns the tag of a change.
func (k signerKey) tag(c Change) []byte {
	return slices.Concat(number(c.ID), k.code(c), k.code(erased(c)))
}

// matches reports whether a tag belongs to a change, or to the change as it was before its account was erased.
func (k signerKey) matches(tag []byte, c Change) bool {
	code := k.code(c)
	return bytes.Equal(tag[8:8+codeSize], code) || c == erased(c) && bytes.Equal(tag[8+codeSize:], code)
}

func (c Checkpoint) signed(before []byte) [][]byte {
	return [][]byte{before, number(c.ID), number(c.At.UnixMicro()), []byte(c.Node), number(c.First), number(c.Through),
		number(int64(c.Changes)), c.Tags, []byte(c.Seal)}
}

func (s state) signed() [][]byte {
	return [][]byte{number(s.At.UnixMicro()), number(s.Oldest), number(s.Newest), number(s.First), number(s.Through),
		s.Base, s.Top, number(s.Began.UnixMicro()), number(s.Unproved), []byte(s.Seal)}
}

// text signs a state and returns its stored form.
func (s *signer) text(st state) string {
	st.Seal = s.newest
	mac := s.keys[st.Seal].state.Sum(st.signed()...)
	st.MAC = mac[:]
	b, err := json.Marshal(st)
	if err != nil {
		panic("audit: a state is JSON: " + err.Error())
	}
	return string(b)
}

// parse returns the state in a text. An empty text is the state without checkpoints.
func (s *signer) parse(text string) (st state, err error) {
	if text == "" {
		return state{Oldest: 1}, nil
	}
	if err := json.Unmarshal([]byte(text), &st); err != nil {
		return st, errState
	}
	if st.Seal == "" {
		return st, errState
	}
	k, ok := s.keys[st.Seal]
	if !ok {
		return st, fmt.Errorf("the state of the audit trail is signed with the key %q, which seal.key lacks", st.Seal)
	}
	if len(st.MAC) != 32 || !k.state.Verify(st.MAC, st.signed()...) {
		return st, errState
	}
	return st, nil
}

var errState = errors.New("the signed state of the audit trail was edited; run dialtone verify")

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

// noCheckpoint is Change.After of a TrailBroken if all checkpoints and the state were gone.
const noCheckpoint = "no checkpoint"

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
		} else if err != nil {
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
		} else if err != nil {
			return at, err
		}
		at = later.At
	}
	return at, nil
}

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
