package engine

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestQueueMeasures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueueTest(1)
		for i := range 5 { // groups [0], [1 2 3] and [4]
			q.start(i)
		}
		time.Sleep(2 * time.Second)
		close(q.allow)
		q.jobs.Wait()
		m := q.Measures()
		if s := m.Group.Snapshot(); s.Count != 3 || s.Sum != 5 || s.Buckets[1] != 2 || s.Buckets[4] != 3 {
			t.Errorf("groups: %+v", s)
		}
		if s := m.Commit.Snapshot(); s.Count != 3 || s.Sum != 2 || s.Buckets[1] != 2 {
			t.Errorf("commits: %+v", s)
		}
		if s := m.Wait.Snapshot(); s.Count != 4 || s.Sum != 8 {
			t.Errorf("waits: %+v", s)
		}
	})
}
