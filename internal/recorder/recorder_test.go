package recorder

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"dialtone/internal/outage"
)

// value is the nth value of a key.
type value struct{ key, n int }

// recording keeps the values of each write. Writes fail with err if it is set.
type recording struct {
	mu     sync.Mutex
	writes [][]value
	err    error
}

func (s *recording) write(_ context.Context, list []value) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	slices.SortFunc(list, func(a, b value) int { return b.key - a.key }) // like a store may do
	s.writes = append(s.writes, list)
	return s.err
}

// lengths returns the number of values in each write so far.
func (s *recording) lengths() (list []int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range s.writes {
		list = append(list, len(w))
	}
	return list
}

// fail makes writes fail with an error.
func (s *recording) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

func (s *recording) recorder(log *slog.Logger) *Recorder[int, value] {
	return New(Deps[int, value]{
		Key:     func(v value) int { return v.key },
		Write:   s.write,
		Failed:  outage.New(log, "not recorded", "recorded again", time.Now),
		Dropped: outage.New(log, "values dropped", "values no longer dropped", time.Now),
		TooMany: errors.New("too many"),
	})
}

// TestBounds adds more values than can wait.
func TestBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		store := &recording{}
		r := store.recorder(slog.New(slog.NewTextHandler(&log, nil)))
		added := 0
		for i := range MaxWaiting + 1000 {
			if r.Add(t.Context(), value{i, 0}) {
				added++
			}
		}
		if added != MaxWaiting || len(r.waiting) != MaxWaiting || len(r.order) != MaxWaiting {
			t.Errorf("%d values wait after adding %d, want %d", len(r.waiting), added, MaxWaiting)
		}
		if n := strings.Count(log.String(), "values dropped"); n != 1 {
			t.Errorf("the log has %d lines:\n%s", n, log.String())
		}
		if !r.Add(t.Context(), value{5, 1}) {
			t.Error("a newer value of a key that waits is dropped")
		}
		if err := r.Flush(t.Context()); err != nil || len(store.writes) != MaxWaiting/MaxBatch ||
			len(store.writes[0]) != MaxBatch || len(r.order)+len(r.waiting) != 0 {
			t.Errorf("wrote %v, %v", store.lengths(), err)
		}
		if got := store.writes[0][MaxBatch-1-5]; got != (value{5, 1}) {
			t.Errorf("wrote %v, want the newest value", got)
		}
		if n := strings.Count(log.String(), "values no longer dropped"); n != 1 {
			t.Errorf("the log has %d lines about the end:\n%s", n, log.String())
		}
	})
}

// TestPutBack fails a write while newer values are added.
func TestPutBack(t *testing.T) {
	store := &recording{err: errors.New("broken")}
	r := store.recorder(slog.New(slog.DiscardHandler))
	for i := range 3 {
		r.Add(t.Context(), value{i, 0})
	}
	write := r.deps.Write
	r.deps.Write = func(ctx context.Context, list []value) error {
		r.Add(ctx, value{1, 1})
		return write(ctx, list)
	}
	if err := r.Flush(t.Context()); err == nil {
		t.Error("the failure is not reported")
	}
	r.deps.Write = write
	store.fail(nil)
	if err := r.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := store.writes[1]; !slices.Equal(got, []value{{2, 0}, {1, 1}, {0, 0}}) {
		t.Errorf("wrote %v", got)
	}
}

// TestMerge merges values that are added, and values that still wait after a failure.
func TestMerge(t *testing.T) {
	store := &recording{err: errors.New("broken")}
	r := store.recorder(slog.New(slog.DiscardHandler))
	r.deps.Merge = func(earlier, later value) value { return value{later.key, later.n*10 + earlier.n} }
	r.Add(t.Context(), value{1, 1})
	r.Add(t.Context(), value{1, 2})
	write := r.deps.Write
	r.deps.Write = func(ctx context.Context, list []value) error {
		if _, ok := r.Waiting(1); ok {
			t.Error("a value that is being written is still waiting")
		}
		r.Add(ctx, value{1, 3})
		return write(ctx, list)
	}
	r.Flush(t.Context())
	if got := store.writes[0][0]; got != (value{1, 21}) {
		t.Errorf("wrote %v", got)
	}
	if got, ok := r.Waiting(1); !ok || got != (value{1, 51}) {
		t.Errorf("%v waits: %t", got, ok)
	}
}

// TestRun checks when records are written.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &recording{}
		r := store.recorder(slog.New(slog.DiscardHandler))
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { r.Run(ctx); close(done) }()
		want := func(after time.Duration, writes ...int) {
			t.Helper()
			time.Sleep(after)
			synctest.Wait()
			if got := store.lengths(); !slices.Equal(got, writes) {
				t.Fatalf("wrote %v, want %v", got, writes)
			}
		}
		synctest.Wait()
		for i := range MaxBatch + 3 {
			r.Add(ctx, value{i, 0})
		}
		want(writeInterval - time.Millisecond)
		want(time.Millisecond, MaxBatch)
		want(busyInterval-time.Millisecond, MaxBatch)
		want(time.Millisecond, MaxBatch, 3)
		store.fail(errors.New("broken"))
		r.Add(ctx, value{1, 0})
		want(2*writeInterval, MaxBatch, 3, 1)
		want(retryInterval, MaxBatch, 3, 1, 1)
		store.fail(nil)
		want(retryInterval, MaxBatch, 3, 1, 1, 1)
		r.Add(ctx, value{2, 0})
		stop()
		want(0, MaxBatch, 3, 1, 1, 1, 1)
		<-done
	})
}
