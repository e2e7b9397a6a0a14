package sqlstore

import (
	"errors"
	"runtime"
	"slices"
	"sync"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/fault"
)

const (
	// queued is how many jobs may wait. At the slowest disk that is worth the name they are done within some seconds.
	queued = 4096
	// patience is how long a job waits to be started.
	patience = 5 * time.Second
)

// errOverloaded says that nothing has happened yet.
var errOverloaded = &fault.Error{
	Kind: fault.Overloaded, Message: "too much is going on at once; nothing was saved, send the same again in a moment", RetryAfter: 2 * time.Second,
}

var errClosed = errors.New("the store is closed")

// queue makes groups of jobs and has them committed, so many groups at a time as it has lanes. It has no goroutine of its own: a
// job that finds a lane free leads a group, and so costs no hand-over; those that come meanwhile wait, and when a commit is done
// the first of them leads the next group.
//
// Whoever leads lets those go first who are ready to run, and then takes what waits: where nobody is, that takes no time, and where
// the processors are what is short, the jobs that are almost here share this commit instead of paying for another.
type queue struct {
	commit func(group []*job) // sets the error of each
	lanes  int
	limit  int // of a group

	mu      sync.Mutex // guards what follows
	closed  bool
	leading int        // groups that are being committed
	idle    *sync.Cond // none is any more
	waiting []*job
}

// job is one write on its way.
type job struct {
	// do is the write, or else there is a signup.
	do     func(transaction) error
	signup account.Signup
	now    time.Time
	// keys are what jobs of one group may not have in common.
	keys []int64

	err error
	// turn tells a job that waited whether to lead, or that it was done by another. It is nil for one that did not wait.
	turn chan bool
}

func newQueue(lanes, limit int, commit func([]*job)) *queue {
	q := &queue{commit: commit, lanes: lanes, limit: limit}
	q.idle = sync.NewCond(&q.mu)
	return q
}

// run returns when the job has been committed, with its error.
func (q *queue) run(j *job) error {
	leads, err := q.enter(j)
	switch {
	case err != nil:
		return err
	case leads:
		q.lead(j)
		return j.err
	default:
		return q.wait(j)
	}
}

// enter makes the job a leader, or lets it wait.
func (q *queue) enter(j *job) (leads bool, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.closed:
		return false, errClosed
	case q.leading < q.lanes:
		q.leading++
		return true, nil
	case len(q.waiting) >= queued:
		return false, errOverloaded
	}
	j.turn = make(chan bool, 1)
	q.waiting = append(q.waiting, j)
	return false, nil
}

func (q *queue) wait(j *job) error {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	var leads bool
	select {
	case leads = <-j.turn:
	case <-timer.C:
		if q.leave(j) {
			return errOverloaded
		}
		leads = <-j.turn // it has been started
	}
	if leads {
		q.lead(j)
	}
	return j.err
}

// leave takes back a job that was not started.
func (q *queue) leave(j *job) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	i := slices.Index(q.waiting, j)
	if i >= 0 {
		q.waiting = slices.Delete(q.waiting, i, i+1)
	}
	return i >= 0
}

// lead commits a group with the job in front, and hands over to whoever waits. The next leader is told before the group is: the
// disk is what everybody waits for.
func (q *queue) lead(j *job) {
	// A panic would be caught with its request, and leave the store without a leader and in the middle of a transaction.
	// There is nothing to lose: what was answered is durable.
	defer func() {
		if p := recover(); p != nil {
			go panic(p)
			select {}
		}
	}()
	runtime.Gosched()
	group := q.gather(j)
	q.commit(group)
	q.next()
	for _, j := range group[1:] {
		j.turn <- false
	}
}

// gather takes the jobs of a group out of those that wait, in order, and leaves those that have a key in common with one before
// them.
func (q *queue) gather(first *job) []*job {
	q.mu.Lock()
	defer q.mu.Unlock()
	group := []*job{first}
	if len(q.waiting) == 0 {
		return group
	}
	taken := make(map[int64]bool)
	fits := func(j *job) bool { return !slices.ContainsFunc(j.keys, func(k int64) bool { return taken[k] }) }
	add := func(j *job) {
		for _, k := range j.keys {
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

// next has the first of those that wait lead. Where nobody does, the lane is free.
func (q *queue) next() {
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

// drain accepts no more and lets what was accepted finish.
func (q *queue) drain() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	for q.leading > 0 {
		q.idle.Wait()
	}
}
