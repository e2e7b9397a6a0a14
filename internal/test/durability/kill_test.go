package durability

import (
	"errors"
	"testing"
	"testing/synctest"

	"dialtone/internal/test/crashfs"
)

// TestKillBetweenWriteAndSync kills the process between the write of a commit and its fsync. The next
// process finds the commit in the page cache and writes after it. Then a sync of another file fails,
// and the data that was not synced is lost. The later commits must survive. Simulation 15469 of
// 20,000 found this case.
func TestKillBetweenWriteAndSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, tr := crashfs.New(), &transcript{}
		if err := f.MakeDir("/data"); err != nil {
			t.Fatal(err)
		}
		h, flushErr, err := open(f, clock)
		if err := errors.Join(err, flushErr, f.SyncAll("/")); err != nil {
			t.Fatal(err)
		}
		f.Record()
		var killed *crashfs.FS
		f.Before = func(op crashfs.Op) {
			if killed == nil && op.Kind == crashfs.Sync && op.Path == database+"-wal" {
				killed = f.Crash(crashfs.Killed)
			}
		}
		tr.signup(h, "karl", true)
		if err := errors.Join(h.close(), f.Close()); err != nil || killed == nil {
			t.Fatal(err, killed)
		}

		// The message of karl is written again at the start, and synced.
		disarm := killed.Fail(crashfs.Fault{
			Err: eio, Reverts: true, Only: func(op crashfs.Op) bool { return op.Kind == crashfs.SyncAll },
		})
		if h, _, err = open(killed, clock); err != nil || !disarm() {
			t.Fatal(err, "or no sync failed")
		}
		if d := tr.signup(h, "lena", true); d.err != nil {
			t.Fatal(d.err)
		}
		h.outbox.Flush(ctx)
		after := killed.Crash(crashfs.Variant{Data: crashfs.None, Entries: crashfs.None})
		if err := errors.Join(h.close(), killed.Close(), checkPromise(after, tr)); err != nil {
			t.Error(err)
		}
	})
}
