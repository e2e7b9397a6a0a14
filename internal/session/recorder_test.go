package session

import (
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// recording is a Store that keeps how many records each write has.
type recording struct {
	Store
	mu     sync.Mutex
	writes []int
	err    error
}

func (s *recording) RecordSessions(_ context.Context, list []Record) ([]Noticed, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writes = append(s.writes, len(list))
	return nil, s.err
}

// written returns the writes so far.
func (s *recording) written() []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.writes)
}

// fail makes writes fail with an error.
func (s *recording) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

func numbered(n int, at time.Time) (r Record) {
	binary.BigEndian.PutUint32(r.ID[:], uint32(n))
	r.Began, r.Seen = at, at
	return r
}

// TestRecorderBounds adds more records than may wait, and more sessions than are remembered.
func TestRecorderBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		store := &recording{}
		r := newRecorder(Deps{Store: store, Log: slog.New(slog.NewTextHandler(&log, nil)), Now: time.Now})
		for i := range maxWaiting + 1000 {
			r.add(t.Context(), numbered(i, time.Now()))
		}
		if len(r.waiting) != maxWaiting || len(r.order) != maxWaiting {
			t.Errorf("%d records wait, want %d", len(r.waiting), maxWaiting)
		}
		if n := strings.Count(log.String(), "sessions dropped"); n != 1 {
			t.Errorf("the log has %d lines:\n%s", n, log.String())
		}
		r.add(t.Context(), numbered(5, time.Now())) // waits already
		due := func(n int) bool { return r.due(numbered(n, time.Now()).ID, time.Time{}) }
		if !due(maxWaiting+1) || due(5) {
			t.Error("a dropped session counts as recorded, or one that waits does not")
		}
		if err := r.flushAll(t.Context()); err != nil || len(store.writes) != maxWaiting/maxWritten ||
			store.writes[0] != maxWritten || len(r.order)+len(r.waiting) != 0 {
			t.Errorf("written were %v, %v", store.writes, err)
		}
		for i := range 3 * maxRecent {
			r.add(t.Context(), numbered(i, time.Now()))
			if i%maxWritten == 0 {
				r.flushAll(t.Context())
			}
		}
		if n := len(r.recent) + len(r.older); n > maxRecent {
			t.Errorf("%d sessions are remembered, want at most %d", n, maxRecent)
		}
	})
}

// TestRecorderRun checks when records are written.
func TestRecorderRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &recording{}
		r := newRecorder(Deps{Store: store, Log: slog.New(slog.DiscardHandler), Now: time.Now})
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { r.run(ctx); close(done) }()
		want := func(after time.Duration, writes ...int) {
			t.Helper()
			time.Sleep(after)
			synctest.Wait()
			if got := store.written(); !slices.Equal(got, writes) {
				t.Fatalf("written were %v, want %v", got, writes)
			}
		}
		synctest.Wait()
		for i := range maxWritten + 3 {
			r.add(ctx, numbered(i, time.Now()))
		}
		want(writeInterval - time.Millisecond)
		want(time.Millisecond, maxWritten)
		want(busyInterval-time.Millisecond, maxWritten)
		want(time.Millisecond, maxWritten, 3)
		store.fail(errors.New("broken"))
		r.add(ctx, numbered(1, time.Now()))
		want(2*writeInterval, maxWritten, 3, 1)
		want(retryInterval, maxWritten, 3, 1, 1)
		store.fail(nil)
		want(retryInterval, maxWritten, 3, 1, 1, 1)
		r.add(ctx, numbered(2, time.Now()))
		stop()
		want(0, maxWritten, 3, 1, 1, 1, 1)
		<-done
	})
}
