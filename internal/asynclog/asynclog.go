// Package asynclog is a writer of log lines that never blocks.
//
// A stalled reader of stderr must not stall a server. So a goroutine writes the lines from a queue
// in memory. If the queue is full, lines are dropped, and their number is reported after the next
// line that is written. Close drops what it cannot write within a second, and reports that too, if
// the reader reads again within another second. A reader that never reads again cannot be told what
// it has missed.
package asynclog

import (
	"bytes"
	"io"
	"sync/atomic"
	"time"
)

const (
	// QueueLines is how many lines the queue holds: about a megabyte.
	QueueLines = 4096
	// flushTimeout is how long Close waits for the remaining lines, and then for the report of those that
	// it dropped.
	flushTimeout = time.Second
)

// Writer is an io.Writer that never blocks. Each Write is one line.
type Writer struct {
	to              io.Writer
	report          func(dropped int64)
	lines           chan []byte
	dropped         atomic.Int64
	expired         atomic.Bool // no further line is written
	closing, closed chan struct{}
}

// NewWriter returns a Writer in front of another. It calls report with the number of dropped lines
// after it has written a line again. Only one goroutine writes and reports.
func NewWriter(to io.Writer, report func(dropped int64)) *Writer {
	w := &Writer{
		to:      to,
		report:  report,
		lines:   make(chan []byte, QueueLines),
		closing: make(chan struct{}),
		closed:  make(chan struct{}),
	}
	go w.run()
	return w
}

// Write adds a line to the queue or drops it. It never fails.
func (w *Writer) Write(line []byte) (int, error) {
	select {
	case w.lines <- bytes.Clone(line):
	default:
		w.dropped.Add(1)
	}
	return len(line), nil
}

func (w *Writer) run() {
	defer close(w.closed)
	for {
		select {
		case line := <-w.lines:
			w.write(line)
		case <-w.closing:
			for {
				select {
				case line := <-w.lines:
					w.write(line)
				default:
					w.reportDropped()
					return
				}
			}
		}
	}
}

func (w *Writer) write(line []byte) {
	if w.expired.Load() {
		w.dropped.Add(1)
		return
	}
	w.to.Write(line) // a failure cannot be reported anywhere
	if !w.expired.Load() {
		w.reportDropped()
	}
}

func (w *Writer) reportDropped() {
	if n := w.dropped.Swap(0); n > 0 {
		w.report(n)
	}
}

// Close writes the remaining lines, and takes two seconds at most. It must be called once, after the
// last Write.
func (w *Writer) Close() {
	close(w.closing)
	if !w.wait() {
		w.expired.Store(true)
		w.wait()
	}
}

// wait reports whether everything is written before the timeout.
func (w *Writer) wait() bool {
	select {
	case <-w.closed:
		return true
	case <-time.After(flushTimeout):
		return false
	}
}
