package audit

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"dialtone/internal/fault"
	"dialtone/internal/secret"
)

// maxFaults is the maximum number of faults that Verify reports.
const maxFaults = 100

// Verified is the result of Verify.
type Verified struct {
	Checkpoints int64 `json:"audit_checkpoints"`
	Changes     int64 `json:"audit_changes"`
	// Proved is how many of the changes match their checkpoint.
	Proved int64 `json:"audit_proved"`
	// Confirmed is when a server last wrote a checkpoint, or found that there was nothing to cover. It is nil if none
	// has.
	Confirmed *time.Time `json:"audit_confirmed"`
	// newer are the IDs of the first and the last change that no checkpoint covers yet, or 0.
	newer [2]int64
}

// Summary returns one line about how much of the trail is proved.
func (v Verified) Summary() string {
	n := numbered(v.Changes, "change")
	switch {
	case v.Changes == 0 && v.Checkpoints == 0:
		return "audit trail: no changes"
	case v.Checkpoints == 0:
		return "audit trail: " + n + ", none of them proved: there is no checkpoint"
	}
	text := fmt.Sprintf("audit trail: %s, %d of them proved by %s", n, v.Proved, numbered(v.Checkpoints, "checkpoint"))
	if v.newer[0] == 0 {
		return text + "; the last one covers all, " + stamp(*v.Confirmed)
	}
	return text + fmt.Sprintf("; from %d to %d they are newer than the last one, %s", v.newer[0], v.newer[1],
		stamp(*v.Confirmed))
}

// numbered returns a number and what it counts, in the plural if needed.
func numbered(n int64, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return fmt.Sprintf("%d %s", n, noun)
}

// VerifyDeps are what Verify needs.
type VerifyDeps struct {
	Store CheckpointStore
	Ring  *secret.Ring
	// Seen is the text in the Memory of a server, read before the store, or empty.
	Seen string
	// Numbers is nil for a store whose IDs have gaps.
	Numbers *Numbers
	// Before is the time before which changes are removed because of their age.
	Before time.Time
	Now    time.Time
}

// Numbers is what a store that assigns IDs to changes without gaps knows about them, read before the changes.
type Numbers struct {
	// Last is the last assigned ID, even if its change was removed.
	Last int64
	// Gaps is the ID up to which there can be gaps, since the changes were copied from a store whose IDs have gaps.
	Gaps int64
}

// Verify compares the audit trail with its checkpoints. It calls addFault with a sentence for each change and
// checkpoint that was edited, removed or inserted, and addNote with remarks for the operator. It needs little
// memory. Servers can write to the store concurrently.
func Verify(ctx context.Context, d VerifyDeps, addFault, addNote func(string)) (Verified, error) {
	v := verifier{
		store: d.Store, signer: newSigner(d.Ring), seen: d.Seen, before: d.Before, now: d.Now, addNote: addNote,
		numbers: d.Numbers,
	}
	err := v.run(ctx)
	for _, text := range v.reset {
		v.fault(0, "%s", text)
	}
	for _, text := range v.gaps {
		v.fault(0, "%s", text)
	}
	if v.aged > 0 {
		v.note("%s missing, up to change %d: old enough for a server of an earlier version to remove", numbered(v.aged,
			"change"), v.agedTo)
	}
	for _, f := range v.found {
		if f.checkpoint == 0 || f.checkpoint >= v.oldest {
			addFault("audit trail: " + f.text)
		}
	}
	if v.more > 0 {
		addFault(fmt.Sprintf("audit trail: %d more faults", v.more))
	}
	return v.Verified, err
}

type verifier struct {
	Verified
	store   CheckpointStore
	signer  *signer
	seen    string
	before  time.Time
	now     time.Time
	addNote func(string)
	// reset contains a fault for each time that all checkpoints were gone, since the last restart by an operator.
	reset []string
	// gaps contains a fault for each gap between the IDs of changes, also since the last
	// restart. previous is the last ID that is accounted for, or 0.
	gaps     []string
	previous int64
	numbers  *Numbers
	// unnumbered is the ID up to which gaps are not faults.
	unnumbered int64
	// aged is how many of the oldest changes are missing that may have been removed because of
	// their age, and agedTo is the last of them. started means that an existing change was
	// read.
	aged, agedTo int64
	started      bool
	found        []foundFault
	more         int
	oldest       int64 // the oldest checkpoint, read again at the end
	// changes are read in pages.
	page []Change
	last int64
	done bool
}

// foundFault is a fault, and the checkpoint that it belongs to, or 0. It is dropped if the
// checkpoint is removed concurrently because of its age.
type foundFault struct {
	checkpoint int64
	text       string
}

func (v *verifier) fault(checkpoint int64, format string, args ...any) {
	if len(v.found) == maxFaults {
		v.more++
		return
	}
	v.found = append(v.found, foundFault{checkpoint, fmt.Sprintf(format, args...)})
}

func (v *verifier) note(format string, args ...any) {
	v.addNote("audit trail: " + fmt.Sprintf(format, args...))
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func (v *verifier) run(ctx context.Context) error {
	text, err := v.store.CheckpointState(ctx)
	if err != nil {
		return err
	}
	st, err := v.signer.parse(text)
	if err != nil {
		v.fault(0, "%v: nothing is known about its changes", err)
		return nil
	}
	if text == "" {
		if _, highest, err := v.store.CheckpointBounds(ctx); err != nil || highest > 0 {
			v.fault(0, "the signed state is missing, though there are checkpoints")
			return err
		}
	}
	if err := v.compareSeen(ctx, st, text); err != nil {
		return err
	}
	if st.Unproved >= max(st.First, 1) {
		v.note("the first checkpoint was written at %s: nothing proves the changes before, which are those up to %d",
			stamp(st.Began), st.Unproved)
	}
	if text != "" {
		v.Confirmed = &st.At
	}
	v.last = st.First - 1
	if v.numbers != nil {
		// Servers of earlier versions removed changes by their age from between others.
		v.unnumbered = max(v.numbers.Gaps, st.Unproved)
		v.previous = max(st.First-1, 0)
	}
	if err := v.checkpoints(ctx, st); err != nil {
		return err
	}
	if err := v.rest(ctx, st, text != ""); err != nil {
		return err
	}
	if v.numbers != nil {
		v.number(v.numbers.Last + 1)
		if v.numbers.Gaps > max(st.First-1, 0) {
			v.note("the changes up to %d were copied from PostgreSQL, which leaves out numbers", v.numbers.Gaps)
		}
	}
	return v.outside(ctx)
}

// compareSeen compares a state with what a server has seen.
func (v *verifier) compareSeen(ctx context.Context, st state, text string) error {
	if v.seen == "" {
		return nil
	}
	seen, err := v.signer.parse(v.seen)
	switch {
	case err != nil:
		v.note("what the server has seen of the trail cannot be read: %v", err)
	case seen.Newest == 0 || seen.Newest < st.Oldest:
	case text == "":
		v.fault(0, "there are no checkpoints, though a server here has seen checkpoint %d, of %s: somebody removed "+
			"them, or a store without them was restored. Nothing proves the changes", seen.Newest, stamp(seen.At))
	case st.Newest < seen.Newest, st.Newest == seen.Newest && !bytes.Equal(st.Top, seen.Top):
		v.lost(seen)
	case st.Newest > seen.Newest:
		c, err := v.store.Checkpoint(ctx, seen.Newest)
		if fault.Is(err, fault.NotFound) {
			return nil // it is reported as missing later, or was removed because of its age concurrently
		}
		if err != nil {
			return err
		}
		if !bytes.Equal(c.MAC, seen.Top) {
			v.lost(seen)
		}
	}
	return nil
}

func (v *verifier) lost(seen state) {
	v.fault(0, "a server here has seen checkpoint %d, of %s, which is missing: an older store was restored, or "+
		"somebody removed the end of the trail and may have added other changes. Changes up to %d may be missing, and "+
		"this server signs no more until dialtone audit restart", seen.Newest, stamp(seen.At), seen.Through)
}

// checkpoints checks the checkpoints of a state, and the changes that they cover.
func (v *verifier) checkpoints(ctx context.Context, st state) error {
	before, through := st.Base, max(st.First-1, 0)
	known := true // before and through are those of the previous checkpoint
	gap := false  // no checkpoint proves the changes right before this one
	for id := st.Oldest; id <= st.Newest; id++ {
		c, err := v.store.Checkpoint(ctx, id)
		if fault.Is(err, fault.NotFound) {
			v.fault(id, "checkpoint %d is missing, so the changes after %d are not proven", id, through)
			known, gap = false, true
			continue
		}
		if err != nil {
			return err
		}
		v.Checkpoints++
		key, ok := v.signer.keys[c.Seal]
		switch {
		case !ok:
			v.fault(id, "checkpoint %d (up to %s) is signed with the key %q, which seal.key lacks", id,
				stamp(c.At), c.Seal)
			before, through, known, gap = c.MAC, c.Through, true, true
			continue
		case known && (len(c.MAC) != 32 || !key.checkpoint.Verify(c.MAC, c.signed(before)...) || c.First != through+1),
			len(c.Tags) != c.Changes*tagSize:
			v.fault(id, "checkpoint %d (changes %d to %d, up to %s) was edited, or replaced", id, c.First, c.Through,
				stamp(c.At))
		}
		if err := v.covered(ctx, c, key, gap); err != nil {
			return err
		}
		before, through, known, gap = c.MAC, c.Through, true, false
	}
	if st.Newest >= st.Oldest && known && (!bytes.Equal(before, st.Top) || through != st.Through) {
		v.fault(st.Newest, "checkpoint %d is not the one that was written as the newest", st.Newest)
	}
	v.last, v.page = max(v.last, st.Through), nil
	return nil
}

// peek returns the next change up to an ID.
func (v *verifier) peek(ctx context.Context, through int64) (c Change, ok bool, err error) {
	if len(v.page) == 0 && !v.done {
		p, err := v.store.ChangePage(ctx, Filter{AfterID: v.last}, "", maxCovered)
		if err != nil {
			return c, false, err
		}
		v.page, v.done = p.Changes, len(p.Changes) == 0
	}
	if len(v.page) == 0 || v.page[0].ID > through {
		return c, false, nil
	}
	return v.page[0], true, nil
}

// take removes the change that peek has returned.
func (v *verifier) take() {
	c := v.page[0]
	v.last, v.page = c.ID, v.page[1:]
	v.Changes++
	v.number(c.ID)
	if c.Action == Unreadable {
		v.fault(0, "change %d was edited: a value in its row has a wrong type", c.ID)
	}
	v.started = true
	switch {
	case c.Action != TrailBroken:
	case c.Subject == signedState:
		v.note("between %s and %s, a server could not read the signed state, and wrote no checkpoints (change %d): "+
			"what was added and removed between them is not known", c.Before, c.After, c.ID)
	case c.After == noCheckpoint:
		v.reset = append(v.reset, fmt.Sprintf("at %s (change %d), a server found that all checkpoints were gone, up "+
			"to %s, which it had seen: nothing proves earlier changes", stamp(c.At), c.ID, c.Before))
	default:
		v.note("at %s (change %d), a server found that changes after %s were gone, up to %s, which it had seen: "+
			"an older store was restored, or somebody removed them", stamp(c.At), c.ID, c.After, c.Before)
	}
	if c.Action == Restore {
		v.note("at %s (change %d), %s restored the %s: what was changed after it is not in the trail", stamp(c.At),
			c.ID, c.Actor, c.Subject)
	}
	if c.Action == TrailRestart {
		v.reset, v.gaps = nil, nil
		v.note("at %s (change %d), %s began new checkpoints: nothing proves earlier changes. The reason: %s",
			stamp(c.At), c.ID, c.Actor, c.Reason)
	}
}

// number compares the ID of a change, which may be missing, with the previous one.
func (v *verifier) number(id int64) {
	if v.numbers == nil || id <= v.previous {
		return
	}
	from := max(v.previous, v.unnumbered) + 1
	if v.previous > 0 && id > from && len(v.gaps) < maxFaults {
		v.gaps = append(v.gaps, fmt.Sprintf("%s missing (%s): no checkpoint had them, and the database gave them "+
			"their numbers. Somebody removed them, or something in the database does", numbered(id-from, "change"),
			span(from, id-1)))
	}
	v.previous = id
}

// span returns a range of IDs.
func span(from, to int64) string {
	if from == to {
		return fmt.Sprint(from)
	}
	return fmt.Sprintf("%d to %d", from, to)
}

// covered checks the changes that a checkpoint covers. After a gap, it skips changes before the
// first one that the checkpoint covers.
func (v *verifier) covered(ctx context.Context, c Checkpoint, key signerKey, gap bool) error {
	tags := c.Tags
	for len(tags) >= tagSize {
		tag := tags[:tagSize]
		id := int64(binary.BigEndian.Uint64(tag))
		change, ok, err := v.peek(ctx, c.Through)
		switch {
		case err != nil:
			return err
		case !ok || change.ID > id:
			v.number(id)
			// A server of an earlier version removes changes by their own age instead of
			// together with their checkpoint.
			if !v.started && c.At.Add(-maxSpan).Before(v.before) {
				v.aged, v.agedTo = v.aged+1, id
			} else {
				v.fault(c.ID, "change %d (by %s) is missing", id, stamp(c.At))
			}
			tags = tags[tagSize:]
		case change.ID < id && gap && change.ID < c.First:
			v.take()
		case change.ID < id:
			v.inserted(c, change)
		default:
			if key.matches(tag, change) {
				v.Proved++
			} else if change.Action != Unreadable {
				v.fault(c.ID, "change %d (%s of %s) was edited", id, change.Action, stamp(change.At))
			}
			v.take()
			tags = tags[tagSize:]
		}
	}
	for {
		change, ok, err := v.peek(ctx, c.Through)
		if err != nil || !ok {
			return err
		}
		v.inserted(c, change)
	}
}

func (v *verifier) inserted(c Checkpoint, change Change) {
	v.fault(c.ID, "change %d (%s of %s) was inserted", change.ID, change.Action, stamp(change.At))
	v.take()
}

// rest checks the changes that no checkpoint covers yet.
func (v *verifier) rest(ctx context.Context, st state, begun bool) error {
	var first, late Change
	n := 0
	const all = 1<<63 - 1
	v.done = false
	for {
		c, ok, err := v.peek(ctx, all)
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		if n++; n == 1 {
			first = c
		}
		v.newer = [2]int64{first.ID, c.ID}
		// If a server made a change, it was running and should have written checkpoints. A
		// command can run without a server.
		if c.Actor.Kind != Command && c.Action != Unreadable && c.At.Sub(st.At) > lateCheckpoint && late.ID == 0 {
			late = c
		}
		v.take()
	}
	age := v.now.Sub(st.At)
	switch {
	case !begun && n > 0 && v.now.Sub(first.At) > lateCheckpoint:
		v.note("no server has written a checkpoint yet, so nothing proves its %d changes", n)
	case !begun:
	case late.ID != 0 && v.now.Sub(late.At) > lateCheckpoint:
		v.fault(0, "the newest checkpoint was confirmed at %s, but a server made change %d at %s: it could not write "+
			"checkpoints, or they were removed", stamp(st.At), late.ID, stamp(late.At))
	case n > 0 && age > lateCheckpoint:
		v.note("no checkpoint covers change %d and later changes yet", first.ID)
	}
	if begun && age > lateCheckpoint {
		v.note("the newest checkpoint was confirmed at %s; if a server has run since then, the end of the trail may "+
			"have been cut off", stamp(st.At))
	}
	return nil
}

// outside looks for changes and checkpoints that are older than the oldest ones in the state,
// and for checkpoints that are newer than the newest.
func (v *verifier) outside(ctx context.Context) error {
	lowest, highest, err := v.store.CheckpointBounds(ctx)
	if err != nil {
		return err
	}
	// The state may have changed since it was first read. Since it is read after the bounds, it
	// includes every checkpoint that was written by then.
	text, err := v.store.CheckpointState(ctx)
	if err != nil {
		return err
	}
	st, err := v.signer.parse(text)
	if err != nil {
		v.fault(0, "%v", err)
		return nil
	}
	v.oldest = st.Oldest
	if highest > st.Newest {
		v.fault(0, "checkpoint %d was inserted: the newest is %d", highest, st.Newest)
	}
	if lowest != 0 && lowest < st.Oldest {
		if now, _, err := v.store.CheckpointBounds(ctx); err != nil || now != 0 && now < st.Oldest {
			v.fault(0, "checkpoint %d was inserted: the oldest is %d", lowest, st.Oldest)
			return err
		}
	}
	p, err := v.store.ChangePage(ctx, Filter{AfterID: math.MinInt64}, "", 1)
	if err == nil && len(p.Changes) > 0 && p.Changes[0].ID < max(st.First, 1) {
		v.fault(0, "change %d (%s of %s) was inserted: the oldest has the ID %d or a higher one",
			p.Changes[0].ID, p.Changes[0].Action, stamp(p.Changes[0].At), st.First)
	}
	return err
}
