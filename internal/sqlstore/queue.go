package sqlstore

import (
	"errors"
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
// job that finds a lane free is committed by its caller at once, and so costs no hand-over; those that come meanwhile wait, and
// when a commit is done the first of them leads the next group.
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
	signup account.Admission
	now    time.Time
	// keys are what jobs of one group may not have in common.
	keys []int64

	err error
	// turn tells a job that waited what to do. It is nil for one that did not wait.
	turn chan turn
}

// turn is nil when the job was done by another, and else the group to lead, with the job itself in front.
type turn []*job

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
		q.lead([]*job{j})
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
	j.turn = make(chan turn, 1)
	q.waiting = append(q.waiting, j)
	return false, nil
}

func (q *queue) wait(j *job) error {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	var t turn
	select {
	case t = <-j.turn:
	case <-timer.C:
		if q.leave(j) {
			return errOverloaded
		}
		t = <-j.turn // it has been started
	}
	if t != nil {
		q.lead(t)
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

// lead commits a group and hands over to whoever waits. The next leader is told before the group is: the disk is what
// everybody waits for.
func (q *queue) lead(group []*job) {
	// A panic would be caught with its request, and leave the store without a leader and in the middle of a transaction.
	// There is nothing to lose: what was answered is durable.
	defer func() {
		if p := recover(); p != nil {
			go panic(p)
			select {}
		}
	}()
	q.commit(group)
	if next := q.next(); next != nil {
		next[0].turn <- next
	}
	for _, j := range group[1:] {
		j.turn <- nil
	}
}

// next takes the jobs of the next group out of those that wait, in order, and leaves those that have a key in common with one
// before them. Where nobody waits, the lane is free.
func (q *queue) next() (group []*job) {
	q.mu.Lock()
	defer q.mu.Unlock()
	taken := make(map[int64]bool)
	clash := func(j *job) bool { return slices.ContainsFunc(j.keys, func(k int64) bool { return taken[k] }) }
	left := q.waiting[:0]
	for _, j := range q.waiting {
		if len(group) == q.limit || clash(j) {
			left = append(left, j)
			continue
		}
		for _, k := range j.keys {
			taken[k] = true
		}
		group = append(group, j)
	}
	clear(q.waiting[len(left):])
	q.waiting = left
	if group == nil {
		q.leading--
		q.idle.Broadcast()
	}
	return group
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
