package main

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// stream makes signups at a fixed rate while something else is measured. Its figures are those of
// all turns together. The time of a signup begins when it is due and ends with its answer.
type stream struct {
	figures
	took time.Duration
}

// streamConns is the number of concurrent signups. A stream that cannot keep up has a lower rate, which
// is printed.
const streamConns = 32

// start starts signups at a rate, for at most the duration most, and returns a function that stops
// them. It fetches the captchas before it returns.
func (s *stream) start(target string, perSecond int, most time.Duration) (stop func() error, err error) {
	captchas, err := prefetch(target, int(float64(perSecond)*(most.Seconds()+1)))
	if err != nil {
		return nil, err
	}
	due, end := make(chan time.Time, perSecond), make(chan struct{})
	began := time.Now()
	var all sync.WaitGroup
	all.Go(func() {
		defer close(due)
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		for sent := 0; ; {
			select {
			case <-end:
				return
			case <-tick.C:
			}
			for ; sent < int(time.Since(began).Seconds()*float64(perSecond)); sent++ {
				select {
				case due <- time.Now():
				default: // the stream is a second behind
				}
			}
		}
	})
	var f figures
	var mu sync.Mutex
	var took []time.Duration
	all.Go(func() {
		f = drive(streamConns, target, time.Hour, func(c *client) func() error {
			next := signups(captchas)(c)
			return func() error {
				since, ok := <-due
				if !ok {
					return io.EOF
				}
				err := next()
				if err == nil {
					mu.Lock()
					took = append(took, time.Since(since))
					mu.Unlock()
				}
				return err
			}
		})
	})
	return func() error {
		close(end)
		s.took += time.Since(began)
		all.Wait()
		f.all = took
		s.add(f)
		if f.failed > 0 {
			return fmt.Errorf("%d signups failed, the first with: %w", f.failed, f.firstFailure)
		}
		return nil
	}, nil
}

// rate returns the number of signups per second over all turns.
func (s *stream) rate() float64 { return float64(len(s.all)) / s.took.Seconds() }
