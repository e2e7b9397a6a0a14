package ops

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A hanging vital check, and checks that no longer run, mean no progress. A failing check, or a
// hanging one that is not vital, is not a reason to restart the server.
func TestProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var storeHangs, diskHangs atomic.Bool
		s := New([]Check{
			{Name: "store", Vital: true, Probe: func(context.Context) error {
				if storeHangs.Load() {
					<-release
				}
				return errors.New("the store is away")
			}},
			{Name: "disk", Probe: func(context.Context) error {
				if diskHangs.Load() {
					<-release
				}
				return nil
			}},
		}, nil, time.Now)
		wait := func(d time.Duration) {
			time.Sleep(d)
			synctest.Wait()
		}
		if err := s.Progress(); err != nil {
			t.Errorf("before the first check: %v", err)
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { s.Run(ctx); close(ended) }()
		wait(time.Minute)
		if err := s.Progress(); err != nil {
			t.Errorf("a store that fails: %v", err)
		}
		diskHangs.Store(true)
		wait(time.Minute)
		if err := s.Progress(); err != nil {
			t.Errorf("a disk that hangs: %v", err)
		}
		storeHangs.Store(true)
		wait(stallTime / 2)
		if err := s.Progress(); err != nil {
			t.Errorf("a store that has hung for a short time: %v", err)
		}
		wait(stallTime)
		if err := s.Progress(); err == nil || !strings.Contains(err.Error(), `"store" has hung`) {
			t.Errorf("a store that hangs: %v", err)
		}
		storeHangs.Store(false)
		diskHangs.Store(false)
		close(release)
		wait(stallTime)
		if err := s.Progress(); err != nil {
			t.Errorf("a store that no longer hangs: %v", err)
		}
		stop()
		<-ended
		wait(2 * stallTime)
		if err := s.Progress(); err == nil || !strings.Contains(err.Error(), "have not run") {
			t.Errorf("checks that do not run: %v", err)
		}
	})
}
