package store

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
)

// What is in a group, with three at most: the first that waits, and those behind it that have no key in common with one before them.
func TestGroups(t *testing.T) {
	for _, c := range []struct {
		name string
		keys [][]int64
		want string
	}{
		{"nobody has anything in common", [][]int64{{1}, {2}, {3}, {4}}, "[0 1 2] [3]"},
		{"nobody has a key", [][]int64{nil, nil, nil, nil, nil, nil, nil}, "[0 1 2] [3 4 5] [6]"},
		{"one has the leader's key", [][]int64{{1, 2}, {2}, {3}}, "[0 2] [1]"},
		{"one has the key of another that follows", [][]int64{{1}, {2, 3}, {3}, {4}}, "[0 1 3] [2]"},
		{"one that is left does not keep away who comes behind it", [][]int64{{1}, {1, 5}, {5}, {6}}, "[0 2 3] [1]"},
		{"all have the same", [][]int64{{1}, {1}, {1}}, "[0] [1] [2]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				number := make(map[*job]int)
				free := make(chan struct{})
				var got []string
				q := newQueue(1, 3, func(group []*job) {
					<-free
					var list []int
					for _, j := range group {
						list = append(list, number[j])
					}
					got = append(got, fmt.Sprint(list))
				})
				var all sync.WaitGroup
				all.Go(func() { q.run(&job{}) })
				synctest.Wait() // it commits
				for i, keys := range c.keys {
					j := &job{keys: keys}
					number[j] = i
					all.Go(func() { q.run(j) })
					synctest.Wait() // it waits
				}
				close(free)
				all.Wait()
				if s := fmt.Sprint(got[1:]); s != "["+c.want+"]" {
					t.Errorf("got %s, want [%s]", s, c.want)
				}
				q.drain()
				if err := q.run(&job{}); err != errClosed {
					t.Errorf("when it is closed: %v", err)
				}
			})
		})
	}
}
