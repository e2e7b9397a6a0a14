package crashfs_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"

	"dialtone/internal/crashfs"
	"dialtone/internal/fault"
)

// ills are the ways in which an operation goes wrong.
var ills = []struct {
	name  string
	fault crashfs.Fault
}{
	{"EIO once", crashfs.Fault{Err: syscall.EIO}},
	{"ENOSPC once", crashfs.Fault{Err: syscall.ENOSPC, Only: grows}},
	{"EIO until healed", crashfs.Fault{Err: syscall.EIO, Stays: true}},
	{"ENOSPC until healed", crashfs.Fault{Err: syscall.ENOSPC, Stays: true, Only: grows}},
	{"a sync once, and the cache forgets", crashfs.Fault{Err: syscall.EIO, Reverts: true, Only: syncs}},
}

// grows are the operations that a full disk refuses.
func grows(op crashfs.Op) bool {
	switch op.Kind {
	case crashfs.Create, crashfs.MakeDir, crashfs.Write, crashfs.Rename, crashfs.Share:
		return true
	}
	return syncs(op)
}

func syncs(op crashfs.Op) bool { return op.Kind == crashfs.Sync || op.Kind == crashfs.SyncAll }

// TestEveryFault makes each operation of each scenario fail. What is asked for then is answered with our own trouble, or
// with success and rightly so. Once the disk is well again nothing is left of what failed, the program works without a
// restart, and a power cut, right after each answer or at the end, finds the promise kept.
func TestEveryFault(t *testing.T) {
	for _, sc := range scenarios {
		for _, ill := range ills {
			t.Run(sc.name+"/"+ill.name, func(t *testing.T) {
				t.Parallel()
				var base *crashfs.FS
				var before *truth
				synctest.Test(t, func(t *testing.T) { base, before = sc.prepare(t) })
				p := points{seen: make(map[string]bool)}
				hit := true
				for after := 0; hit && !t.Failed(); after++ {
					fault := ill.fault
					fault.After = after
					synctest.Test(t, func(t *testing.T) {
						f := base.Clone()
						var err error
						if hit, err = sc.endure(t, f, before.copy(), fault, &p); err != nil {
							t.Errorf("operation %d: %v\n%s", after, err, history(f.Journal(), f.Now()))
						}
					})
					p.moments++
				}
				t.Logf("%d operations failed, %d points after them, %d different disks", p.moments-1, p.points, len(p.seen))
			})
		}
	}
}

// endure does a scenario with a fault, heals it, and looks at what is left.
func (sc scenario) endure(t *testing.T, f *crashfs.FS, tr *truth, ill crashfs.Fault, p *points) (hit bool, err error) {
	var heal func() bool
	h := sc.run(t, f, tr, func() { heal = f.Fail(ill) })
	defer func() { h.close() }()
	hit = heal()
	f.Mark("the disk is well again")
	for _, d := range tr.deeds {
		if kind := fault.KindOf(d.err); d.err != nil && kind != fault.Internal && kind != fault.Captcha && kind != fault.Conflict {
			return hit, fmt.Errorf("%s was answered: %w", d, d.err)
		}
	}
	running := h != nil && !h.closed
	if !running {
		var tended error
		if h, tended, err = open(f, clock); err != nil || tended != nil {
			return hit, fmt.Errorf("it does not start on a disk that is well again: %w", errors.Join(err, tended))
		}
	}
	// A message whose sync failed is looked up at the first time and written again at the next.
	for range 2 {
		if err := h.outbox.Flush(ctx); err != nil {
			return hit, fmt.Errorf("on a disk that is well again: %w", err)
		}
	}
	if err := h.promise(tr, running); err != nil {
		return hit, err
	}
	if d := tr.signup(h, "zoe", true); d.err != nil {
		return hit, fmt.Errorf("%s on a disk that is well again: %w", d, d.err)
	}
	journal := f.Journal()
	failed := slices.IndexFunc(journal, func(op crashfs.Op) bool { return op.Err != nil })
	if failed < 0 {
		return hit, nil
	}
	f.Moments(func(at int, then *crashfs.FS) bool {
		if at > len(journal) {
			return false
		}
		// What went before is the matter of TestEveryPoint.
		if at <= failed {
			return true
		}
		variants := crashfs.Cuts[:2]
		if op := journal[at-1]; op.Kind == crashfs.Mark && !strings.HasSuffix(op.Path, "asked for") {
			variants = cuts(uint64(at), 1)
		} else if !syncs(journal[failed]) {
			return true
		}
		if err = p.cut(then, tr.at(at), variants); err != nil {
			err = fmt.Errorf("then stopped at %d: %w", at, err)
		}
		return err == nil
	})
	return hit, err
}
