package engine

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"dialtone/internal/fault"
)

// queueTest is a queue whose commits wait until they are allowed.
type queueTest struct {
	*Queue[int]
	allow  chan struct{} // one commit for each value, or all commits when it is closed
	mu     sync.Mutex
	groups []string // that were committed
	jobs   sync.WaitGroup
}

var errOdd = errors.New("odd")

// newQueueTest returns a queue that commits groups of at most three jobs. The outcome of a job with
// odd Work is errOdd.
func newQueueTest(concurrency int) *queueTest {
	q := &queueTest{allow: make(chan struct{})}
	q.Queue = NewQueue(concurrency, 3, func(group []*Job[int]) {
		<-q.allow
		var works []int
		for _, j := range group {
			works = append(works, j.Work)
			if j.Work%2 == 1 {
				j.Err = errOdd
			}
		}
		q.mu.Lock()
		defer q.mu.Unlock()
		q.groups = append(q.groups, fmt.Sprint(works))
	})
	return q
}

// start runs a job, and returns when it waits or has ended. The channel receives its outcome.
func (q *queueTest) start(work int, keys ...int64) <-chan error {
	outcome := make(chan error, 1)
	q.jobs.Go(func() { outcome <- q.Run(&Job[int]{Work: work, Keys: keys}) })
	synctest.Wait()
	return outcome
}

// wantGroups ends all jobs and checks which were committed, in order.
func (q *queueTest) wantGroups(t *testing.T, want ...string) {
	t.Helper()
	close(q.allow)
	q.jobs.Wait()
	if !slices.Equal(q.groups, want) {
		t.Errorf("got the groups %v, want %v", q.groups, want)
	}
}

// TestQueueGroups checks which of the waiting jobs are committed together. The job -1 leads, and
// the others wait for it.
func TestQueueGroups(t *testing.T) {
	for _, c := range []struct {
		name string
		keys [][]int64
		want []string
	}{
		{"no keys in common", [][]int64{{1}, {2}, {3}, {4}}, []string{"[0 1 2]", "[3]"}},
		{"no keys", make([][]int64, 7), []string{"[0 1 2]", "[3 4 5]", "[6]"}},
		{"the leader's key waits", [][]int64{{1, 2}, {2}, {3}}, []string{"[0 2]", "[1]"}},
		{"the key of an earlier follower waits", [][]int64{{1}, {2, 3}, {3}, {4}}, []string{"[0 1 3]", "[2]"}},
		{"a job that waits does not hold back later jobs",
			[][]int64{{1}, {1, 5}, {5}, {6}}, []string{"[0 2 3]", "[1]"}},
		{"one key for all", [][]int64{{1}, {1}, {1}}, []string{"[0]", "[1]", "[2]"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := newQueueTest(1)
				q.start(-1)
				for i, keys := range c.keys {
					q.start(i, keys...)
				}
				q.wantGroups(t, append([]string{"[-1]"}, c.want...)...)
			})
		})
	}
}

func TestQueueReturnsOutcomeOfEachJob(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueueTest(1)
		var outcomes []<-chan error
		for i := range 6 {
			outcomes = append(outcomes, q.start(i))
		}
		q.wantGroups(t, "[0]", "[1 2 3]", "[4 5]")
		for i, outcome := range outcomes {
			if err, want := <-outcome, []error{nil, errOdd}[i%2]; !errors.Is(err, want) {
				t.Errorf("job %d: got %v, want %v", i, err, want)
			}
		}
	})
}

func TestQueueConcurrency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueueTest(2)
		for i := range 5 {
			q.start(i)
		}
		if n := q.Waiting(); n != 3 {
			t.Errorf("%d of 5 jobs wait while 2 are committed", n)
		}
		q.allow <- struct{}{} // one of the first two jobs
		synctest.Wait()
		if n := q.Waiting(); n != 0 {
			t.Errorf("%d jobs wait after a commit, want none", n)
		}
		close(q.allow)
		q.jobs.Wait()
	})
}

func TestQueueFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueueTest(1)
		q.start(0)
		for range MaxQueued {
			q.jobs.Go(func() { q.Run(&Job[int]{}) })
		}
		synctest.Wait()
		select {
		case err := <-q.start(0):
			if !fault.Is(err, fault.Overloaded) {
				t.Errorf("a job for a full queue: %v", err)
			}
		default:
			t.Errorf("a job waits in a full queue")
		}
		q.allow <- struct{}{} // the next group leaves the queue
		synctest.Wait()
		select {
		case err := <-q.start(0):
			t.Errorf("a job after the commit of a group: %v", err)
		default:
		}
		close(q.allow)
		q.jobs.Wait()
	})
}

// A job that is not started in time is never committed. One that was started returns its outcome,
// however long it takes.
func TestQueueTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueueTest(1)
		leader := q.start(0)
		late := q.start(1)
		time.Sleep(QueueTimeout - time.Millisecond)
		next := q.start(2)
		time.Sleep(time.Millisecond)
		synctest.Wait()
		select {
		case err := <-late:
			if !fault.Is(err, fault.Overloaded) {
				t.Errorf("the job that waited too long: %v", err)
			}
		default:
			t.Error("a job waits longer than QueueTimeout")
		}
		q.allow <- struct{}{} // the next job is started, and its commit takes long
		time.Sleep(2 * QueueTimeout)
		q.wantGroups(t, "[0]", "[2]")
		for name, outcome := range map[string]<-chan error{"the leader": leader, "the next job": next} {
			if err := <-outcome; err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

func TestQueueDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueueTest(1)
		q.start(0)
		q.start(2)
		drained := make(chan struct{})
		go func() {
			q.Drain()
			close(drained)
		}()
		synctest.Wait()
		if err := <-q.start(4); !errors.Is(err, ErrClosed) {
			t.Errorf("a job after Drain: %v", err)
		}
		q.allow <- struct{}{}
		synctest.Wait()
		select {
		case <-drained:
			t.Error("Drain returned while a job was being committed")
		default:
		}
		q.wantGroups(t, "[0]", "[2]")
		<-drained
	})
}

// TestQueuePause checks which leaders wait for other jobs. A job arrives a millisecond after the first
// job of each group.
func TestQueuePause(t *testing.T) {
	for name, c := range map[string]struct {
		pause time.Duration
		want  []string
	}{
		"no pause": {0, []string{"[0]", "[2 4]", "[6]", "[8]"}},
		"a pause":  {2 * time.Millisecond, []string{"[0]", "[2 4]", "[6 8]"}},
		"too late": {time.Millisecond / 2, []string{"[0]", "[2 4]", "[6]", "[8]"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := newQueueTest(1)
				q.Pause = c.pause
				q.start(0) // It does not wait: no group was before it.
				q.start(2)
				q.start(4)
				q.allow <- struct{}{} // [0]: the next leader does not wait after a group of one
				synctest.Wait()
				q.allow <- struct{}{} // [2 4]
				synctest.Wait()
				q.start(6)
				time.Sleep(time.Millisecond)
				q.start(8)
				q.wantGroups(t, c.want...)
			})
		})
	}
}

// TestQueueEnough checks that a leader does not pause if enough jobs wait already.
func TestQueueEnough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueueTest(1)
		q.Pause = time.Second
		began := time.Now()
		for work := 0; work <= 14; work += 2 {
			q.start(work)
		}
		q.wantGroups(t, "[0]", "[2 4 6]", "[8 10 12]", "[14]")
		if got := time.Since(began); got != time.Second { // before the last group
			t.Errorf("the leaders paused for %v", got)
		}
	})
}
