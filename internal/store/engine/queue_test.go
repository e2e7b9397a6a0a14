package engine

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
)

// TestQueueGroups checks which of the waiting jobs are committed together, in groups of at most
// three.
func TestQueueGroups(t *testing.T) {
	for _, c := range []struct {
		name string
		keys [][]int64
		want string
	}{
		{"no keys in common", [][]int64{{1}, {2}, {3}, {4}}, "[0 1 2] [3]"},
		{"no keys", [][]int64{nil, nil, nil, nil, nil, nil, nil}, "[0 1 2] [3 4 5] [6]"},
		{"the leader's key waits", [][]int64{{1, 2}, {2}, {3}}, "[0 2] [1]"},
		{"the key of an earlier follower waits", [][]int64{{1}, {2, 3}, {3}, {4}}, "[0 1 3] [2]"},
		{"a job that waits does not hold back later jobs", [][]int64{{1}, {1, 5}, {5}, {6}}, "[0 2 3] [1]"},
		{"one key for all", [][]int64{{1}, {1}, {1}}, "[0] [1] [2]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				free := make(chan struct{})
				var got []string
				q := NewQueue(1, 3, func(group []*Job[int]) {
					<-free
					var list []int
					for _, j := range group {
						list = append(list, j.Work)
					}
					got = append(got, fmt.Sprint(list))
				})
				var all sync.WaitGroup
				all.Go(func() { q.Run(&Job[int]{}) })
				synctest.Wait() // it commits
				for i, keys := range c.keys {
					j := &Job[int]{Work: i, Keys: keys}
					all.Go(func() { q.Run(j) })
					synctest.Wait() // it waits
				}
				close(free)
				all.Wait()
				if s := fmt.Sprint(got[1:]); s != "["+c.want+"]" {
					t.Errorf("got %s, want [%s]", s, c.want)
				}
				q.Drain()
				if err := q.Run(&Job[int]{}); err != ErrClosed {
					t.Errorf("when it is closed: %v", err)
				}
			})
		})
	}
}
