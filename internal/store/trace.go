package store

import (
	"context"
	"time"

	"dialtone/internal/fault"
	"dialtone/internal/store/engine"
	"dialtone/internal/store/phonetables"
	"dialtone/internal/trace"
)

// write runs a write of the engine, and records in the trace of ctx how long it waited to start,
// and how long its commit took.
func (s *Store) write(ctx context.Context, do func(engine.Tx) error) error {
	_, span := trace.Start(ctx, "store.write")
	if span == nil {
		return s.engine.Write(do)
	}
	w := newTracedWrite(span)
	return w.end(s.engine.Write(func(tx engine.Tx) error {
		w.begin()
		defer w.done()
		return do(tx)
	}))
}

// writeTables is write for a change that may affect phone servers.
func (s *Store) writeTables(ctx context.Context, do func(engine.Tx) ([]phonetables.Subject, error)) error {
	_, span := trace.Start(ctx, "store.write")
	if span == nil {
		return s.tables.Write(do)
	}
	w := newTracedWrite(span)
	return w.end(s.tables.Write(func(tx engine.Tx) ([]phonetables.Subject, error) {
		w.begin()
		defer w.done()
		return do(tx)
	}))
}

// tracedWrite holds the times of a write. The statements may run on another goroutine while the
// caller waits, and more than once.
type tracedWrite struct {
	span                   *trace.Span
	called, began, stopped time.Time
}

func newTracedWrite(span *trace.Span) *tracedWrite {
	return &tracedWrite{span: span, called: time.Now()}
}

func (w *tracedWrite) begin() {
	if w.began.IsZero() {
		w.began = time.Now()
	}
}

func (w *tracedWrite) done() { w.stopped = time.Now() }

// end ends the span. A refusal is not a failure.
func (w *tracedWrite) end(err error) error {
	if !w.stopped.IsZero() {
		w.span.Part("store.wait", w.called, w.began)
		w.span.Part("store.commit", w.stopped, time.Now())
	}
	w.span.Finish(err != nil && fault.KindOf(err) == fault.Internal)
	return err
}
