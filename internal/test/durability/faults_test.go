package durability

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"

	"dialtone/internal/fault"
	"dialtone/internal/store/engine"
	"dialtone/internal/test/crashfs"
)

// diskFault is a way in which an operation fails.
type diskFault struct {
	name  string
	fault crashfs.Fault
}

var diskFaults = []diskFault{
	{"EIO once", crashfs.Fault{Err: syscall.EIO}},
	{"ENOSPC once", crashfs.Fault{Err: syscall.ENOSPC, Only: grows}},
	{"EIO until repaired", crashfs.Fault{Err: syscall.EIO, Stays: true}},
	{"ENOSPC until repaired", crashfs.Fault{Err: syscall.ENOSPC, Stays: true, Only: grows}},
	{"EIO of a sync once, and the page cache is lost",
		crashfs.Fault{Err: syscall.EIO, Reverts: true, Only: syncs}},
}

// positions returns the operations of a journal that are to fail, as indexes into the operations that
// can fail in this way. In make test, they are an eighth of them, but at least two and at most four, or
// six of the syncs that lose the page cache.
func (f diskFault) positions(t *testing.T, journal []crashfs.Op) []int {
	var ops []crashfs.Op
	for _, op := range journal {
		if op.MayFail() && (f.fault.Only == nil || f.fault.Only(op)) {
			ops = append(ops, op)
		}
	}
	var list []int
	for i := range ops {
		if !leftOut(ops, i) {
			list = append(list, i)
		}
	}
	n := min(max(2, len(list)/8), 4)
	if f.fault.Reverts {
		n = 6
	}
	return some(t, list, n)
}

// grows reports whether a full disk refuses an operation.
func grows(op crashfs.Op) bool {
	switch op.Kind {
	case crashfs.Create, crashfs.CreateUnnamed, crashfs.LinkUnnamed, crashfs.MakeDir, crashfs.Write,
		crashfs.Rename, crashfs.Share:
		return true
	}
	return syncs(op)
}

func syncs(op crashfs.Op) bool { return op.Kind == crashfs.Sync || op.Kind == crashfs.SyncAll }

// TestEveryFault makes operations of each scenario fail, once or until the disk is repaired. In make
// test-long each operation fails in both ways, in make test only some do (positions). A request then
// succeeds, or fails and changes nothing, or fails with fault.ErrInDoubt after a commit in doubt. In
// the last case the process exits and starts again; otherwise it works without a restart as soon as
// the disk does. The promise is checked then, and also after power cuts that follow each answer and
// the end. Make test alternates between the two halves of the variants of these power cuts, and make
// test-long uses all of them.
func TestEveryFault(t *testing.T) {
	exits := 0
	for _, sc := range scenarios {
		if sc.sampled && !complete {
			continue
		}
		t.Run(sc.name, func(t *testing.T) {
			repeat(t, preparing)
			var base *crashfs.FS
			var before *transcript
			synctest.Test(t, func(t *testing.T) { base, before = sc.prepare(t) })
			recorded, _ := sc.record(t)
			var p points
			for _, injected := range diskFaults {
				t.Run(injected.name, func(t *testing.T) {
					moments := p.moments
					for _, after := range injected.positions(t, recorded.Journal()) {
						fault := injected.fault
						fault.After = after
						repeat(t, running)
						synctest.Test(t, func(t *testing.T) {
							f := base.Clone()
							hit, err := sc.runWithFault(t, f, before.copy(), fault, &p)
							if !hit {
								err = errors.Join(err, errors.New("it did not fail"))
							}
							if err != nil {
								t.Errorf("operation %d: %v\n%s\n%s",
									after, err, repetition(t, seed), history(f.Journal(), f.Now()))
							}
						})
						if p.moments++; t.Failed() {
							break
						}
					}
					t.Logf("%d operations failed", p.moments-moments)
				})
			}
			t.Logf("%d points after a failure, %d different disks, %d exits", p.points, p.disks, p.exits)
			exits += p.exits
		})
	}
	if exits == 0 {
		t.Error("no fault ended the process")
	}
}

// runWithFault runs a scenario with a fault, disarms it, restarts a store that has failed, and checks
// the promise. hit reports whether the fault occurred.
func (sc scenario) runWithFault(
	t *testing.T, f *crashfs.FS, tr *transcript, injected crashfs.Fault, p *points,
) (hit bool, err error) {
	var disarm func() bool
	h := sc.run(t, f, tr, func() { disarm = f.Fail(injected) })
	// SQLite keeps a file system in memory until it is closed.
	defer func() { err = errors.Join(err, h.close(), f.Close()) }()
	hit = disarm()
	f.Mark("the disk works again")
	for _, d := range tr.requests {
		if kind := fault.KindOf(d.err); d.err != nil && !d.open() && kind != fault.Captcha && kind != fault.Conflict {
			return hit, fmt.Errorf("%s was answered: %w", d, d.err)
		}
	}
	if err := checkStoreErr(f, h, tr); err != nil {
		return hit, err
	}
	failed := h.failed()
	if failed && !h.closed {
		p.exits++
		if err := h.exit(); err != nil {
			return hit, err
		}
	}
	running := h != nil && !h.closed
	if !running {
		var flushErr error
		if h, flushErr, err = open(f, clock); err != nil || flushErr != nil {
			return hit, fmt.Errorf("start on a disk that works again: %w", errors.Join(err, flushErr))
		}
	}
	// After a failed sync the first Flush finds the entry, and the second writes the message.
	for range 2 {
		if err := h.outbox.Flush(ctx); err != nil {
			return hit, fmt.Errorf("flush on a disk that works again: %w", err)
		}
	}
	if err := h.promise(tr, running); err != nil {
		return hit, err
	}
	if d := tr.signup(h, "zoe", true); d.err != nil {
		return hit, fmt.Errorf("%s on a disk that works again: %w", d, d.err)
	}
	journal := f.Journal()
	first := slices.IndexFunc(journal, func(op crashfs.Op) bool { return op.Err != nil })
	if first < 0 {
		return hit, nil
	}
	f.Moments(func(at int, then *crashfs.FS) bool {
		if at > len(journal) {
			return false
		}
		// TestEveryPoint stops before the fault.
		if at <= first {
			return true
		}
		variants := crashfs.Cuts[1:2]
		if complete {
			variants = crashfs.Cuts[:2]
		}
		if op := journal[at-1]; op.Kind == crashfs.Mark && !strings.HasSuffix(op.Path, " begins") {
			variants = half(cuts(seed+uint64(at), chances/5), at+p.moments)
		} else if !syncs(journal[first]) {
			return true
		}
		if err = p.cut(then, tr.at(at), variants); err != nil {
			err = fmt.Errorf("stopped at %d after the fault: %w", at, err)
		}
		return err == nil
	})
	return hit, err
}

// checkStoreErr checks that a store has failed if and only if a request got fault.ErrInDoubt, and
// only if an operation on the database failed. Running out of space is not such a failure, except in
// a sync or while the wal-index grows.
func checkStoreErr(f *crashfs.FS, h *harness, tr *transcript) error {
	inDoubt := slices.ContainsFunc(tr.requests, func(d *request) bool { return errors.Is(d.err, fault.ErrInDoubt) })
	switch {
	case h == nil && !inDoubt: // the scenario has started and ended the process itself
		return nil
	case h == nil:
	case !h.failed() && inDoubt:
		return errors.New("a request got ErrInDoubt, but the store has not failed")
	case !h.failed():
		return nil
	case !errors.Is(h.store.Err(), engine.ErrFailed):
		return fmt.Errorf("the store failed with %w", h.store.Err())
	}
	for _, op := range f.Journal() {
		full := errors.Is(op.Err, syscall.ENOSPC) && op.Kind != crashfs.Sync && op.Kind != crashfs.Share
		if op.Err != nil && !full && strings.HasPrefix(op.Path, database) {
			return nil
		}
	}
	return errors.New("the store failed, but no operation on the database did")
}
