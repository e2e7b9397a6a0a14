package engine

import (
	"runtime"
	"slices"
	"sync"
	"time"

	"dialtone/internal/fault"
)

const (
	// MaxQueued is how many jobs may wait. A slow disk commits that many in a few seconds.
	MaxQueued = 4096
	// QueueTimeout is how long a job waits to be started.
	QueueTimeout = 5 * time.Second
	// enough is the size of a group whose leader does not wait for more jobs.
	enough = 8
)

// errOverloaded is returned for a job that was not started.
var errOverloaded = &fault.Error{
	Kind:       fault.Overloaded,
	Message:    "the server is too busy, and nothing was saved; try again in a moment",
	RetryAfter: 2 * time.Second,
}

// Queue is a group commit: it collects concurrent jobs in groups and calls commit for each group,
// for up to concurrency groups at a time.
//
// It has no separate goroutine. A job that arrives while fewer groups are being committed leads a
// group at once, on its own goroutine. Other jobs wait; when a commit is done, the first of them
// leads the next group. A leader yields the processor once before it takes the waiting jobs: on an
// idle machine that takes no time, and on a busy one the jobs that are about to arrive share this
// commit. If the last group had several jobs and few wait now, more are likely to arrive, and the
// leader waits for Pause instead. A client that sends one job after another never waits for it.
type Queue[T any] struct {
	// Pause is how long the leader after a group of several jobs waits for others. Set it before the
	// first job.
	Pause time.Duration

	commit      func(group []*Job[T])
	concurrency int
	limit       int // of jobs in a group
	measures    Measures

	mu      sync.Mutex // guards the fields below
	closed  bool
	shared  bool       // the last group had several jobs
	leading int        // groups that are being committed
	idle    *sync.Cond // signalled when leading decreases
	waiting []*Job[T]
}

// Job is a piece of work that is committed in a group.
type Job[T any] struct {
	Work T
	// Keys keeps jobs apart: two jobs that share a key are never in the same group.
	Keys []int64
	// Err is the outcome, which the commit sets.
	Err error
	// turn receives true when a waiting job is to lead, and false when another job's group
	// committed it. It is nil for a job that did not wait.
	turn   chan bool
	queued time.Time // when it began to wait
}

// NewQueue returns a queue that commits up to concurrency groups at a time, each of up to limit
// jobs. commit sets the Err of each job in the group.
func NewQueue[T any](concurrency, limit int, commit func([]*Job[T])) *Queue[T] {
	q := &Queue[T]{commit: commit, concurrency: concurrency, limit: limit, measures: NewMeasures()}
	q.idle = sync.NewCond(&q.mu)
	return q
}

// Run returns the error of the job after it has been committed, or has failed.
func (q *Queue[T]) Run(j *Job[T]) error {
	leads, err := q.enter(j)
	switch {
	case err != nil:
		return err
	case leads:
		q.lead(j)
		return j.Err
	default:
		return q.wait(j)
	}
}

// enter makes the job a leader or puts it into the queue.
func (q *Queue[T]) enter(j *Job[T]) (leads bool, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.closed:
		return false, ErrClosed
	case q.leading < q.concurrency:
		q.leading++
		return true, nil
	case len(q.waiting) >= MaxQueued:
		return false, errOverloaded
	}
	j.turn = make(chan bool, 1)
	j.queued = time.Now()
	q.waiting = append(q.waiting, j)
	return false, nil
}

func (q *Queue[T]) wait(j *Job[T]) error {
	timer := time.NewTimer(QueueTimeout)
	defer timer.Stop()
	var leads bool
	select {
	case leads = <-j.turn:
	case <-timer.C:
		if q.leave(j) {
			return errOverloaded
		}
		leads = <-j.turn // the job has been started
	}
	if leads {
		q.measures.Wait.Since(j.queued)
		q.lead(j)
	}
	return j.Err
}

// leave removes a job from the queue, and reports false if it has been started.
func (q *Queue[T]) leave(j *Job[T]) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	i := slices.Index(q.waiting, j)
	if i >= 0 {
		q.waiting = slices.Delete(q.waiting, i, i+1)
	}
	return i >= 0
}

// lead commits a group that begins with the job, and then lets the next job lead. The next leader
// is started before the jobs of this group return, so that the disk is not idle.
func (q *Queue[T]) lead(j *Job[T]) {
	// The HTTP server would recover a panic, and leave the queue without a leader in the middle of
	// a transaction. So a panic ends the process. That loses nothing: everything that was answered
	// is durable.
	defer func() {
		if p := recover(); p != nil {
			go panic(p)
			select {}
		}
	}()
	q.await()
	group := q.gather(j)
	start := time.Now()
	for _, j := range group[1:] {
		q.measures.Wait.Observe(start.Sub(j.queued).Seconds())
	}
	q.commit(group)
	q.measures.Commit.Since(start)
	q.measures.Group.Observe(float64(len(group)))
	q.next()
	for _, j := range group[1:] {
		j.turn <- false
	}
}

// await lets other jobs arrive.
func (q *Queue[T]) await() {
	q.mu.Lock()
	pauses := q.shared && q.Pause > 0 && len(q.waiting)+1 < min(q.limit, enough) && !q.closed
	q.mu.Unlock()
	if pauses {
		time.Sleep(q.Pause)
	} else {
		runtime.Gosched()
	}
}

// gather takes the jobs of a group from the queue, in order. It skips those that share a key with a
// job in the group.
func (q *Queue[T]) gather(first *Job[T]) []*Job[T] {
	q.mu.Lock()
	defer q.mu.Unlock()
	group := []*Job[T]{first}
	defer func() { q.shared = len(group) > 1 }()
	if len(q.waiting) == 0 {
		return group
	}
	taken := make(map[int64]bool)
	fits := func(j *Job[T]) bool { return !slices.ContainsFunc(j.Keys, func(k int64) bool { return taken[k] }) }
	add := func(j *Job[T]) {
		for _, k := range j.Keys {
			taken[k] = true
		}
	}
	add(first)
	left := q.waiting[:0]
	for _, j := range q.waiting {
		if len(group) == q.limit || !fits(j) {
			left = append(left, j)
			continue
		}
		add(j)
		group = append(group, j)
	}
	clear(q.waiting[len(left):])
	q.waiting = left
	return group
}

// next lets the first waiting job lead. If none waits, one group fewer is being committed.
func (q *Queue[T]) next() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) == 0 {
		q.leading--
		q.idle.Broadcast()
		return
	}
	first := q.waiting[0]
	q.waiting = slices.Delete(q.waiting, 0, 1)
	first.turn <- true
}

// Measures returns the queue's measurements.
func (q *Queue[T]) Measures() Measures { return q.measures }

// Waiting returns the number of jobs that wait to be started.
func (q *Queue[T]) Waiting() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.waiting)
}

// Drain refuses further jobs and waits for those that were accepted.
func (q *Queue[T]) Drain() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	for q.leading > 0 {
		q.idle.Wait()
	}
}
