package main

import (
	"bytes"
	"context"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"dialtone/internal/config"
)

// logger returns a logger to stderr. Unless the configuration says otherwise, it writes text to a
// terminal and JSON lines to anything else.
func (p *program) logger(c config.Log) *slog.Logger {
	return slog.New(p.logHandler(c, p.stderr))
}

// logHandler returns a handler that writes to a writer in front of stderr.
func (p *program) logHandler(c config.Log, to io.Writer) slog.Handler {
	options := &slog.HandlerOptions{Level: c.Level}
	text := c.Format == config.LogText
	if c.Format == config.LogAuto {
		f, ok := p.stderr.(*os.File)
		if ok {
			info, err := f.Stat()
			text = err == nil && info.Mode()&fs.ModeCharDevice != 0
		}
	}
	if text {
		return utc{slog.NewTextHandler(to, options)}
	}
	return utc{slog.NewJSONHandler(to, options)}
}

// utc is a handler that logs times in UTC. HandlerOptions.ReplaceAttr would do it too, but it is called
// for every attribute.
type utc struct{ slog.Handler }

func (h utc) Handle(ctx context.Context, r slog.Record) error {
	r.Time = r.Time.UTC()
	return h.Handler.Handle(ctx, r)
}

func (h utc) WithAttrs(attrs []slog.Attr) slog.Handler { return utc{h.Handler.WithAttrs(attrs)} }
func (h utc) WithGroup(name string) slog.Handler       { return utc{h.Handler.WithGroup(name)} }

const (
	// logQueueLines is how many lines are kept for a slow reader of stderr: about a megabyte.
	logQueueLines = 4096
	// logFlushTimeout is how long the server waits for the remaining lines when it ends.
	logFlushTimeout = time.Second
)

// serverLog returns the log of a server, and a function that writes the remaining lines. Logging never
// blocks, so a stalled reader of stderr does not stall requests. If the queue is full, lines are dropped;
// their number is logged as soon as there is room.
func (p *program) serverLog(c config.Log) (*slog.Logger, func()) {
	q := &logQueue{
		to:      p.stderr,
		lines:   make(chan []byte, logQueueLines),
		closing: make(chan struct{}),
		closed:  make(chan struct{}),
	}
	direct := p.logger(c)
	go q.run(func(n int64) { direct.Warn("log lines dropped: stderr is not being read", "lines", n) })
	return slog.New(p.logHandler(c, q)), q.close
}

// logQueue is a writer that never blocks. Each Write is one line.
type logQueue struct {
	to              io.Writer
	lines           chan []byte
	dropped         atomic.Int64
	closing, closed chan struct{}
}

func (q *logQueue) Write(line []byte) (int, error) {
	select {
	case q.lines <- bytes.Clone(line):
	default:
		q.dropped.Add(1)
	}
	return len(line), nil
}

// run writes lines until the queue is closed. It calls report with the number of dropped lines.
func (q *logQueue) run(report func(lines int64)) {
	defer close(q.closed)
	write := func(line []byte) {
		q.to.Write(line) // a failure cannot be reported anywhere
		if n := q.dropped.Swap(0); n > 0 {
			report(n)
		}
	}
	for {
		select {
		case line := <-q.lines:
			write(line)
		case <-q.closing:
			for {
				select {
				case line := <-q.lines:
					write(line)
				default:
					return
				}
			}
		}
	}
}

// close writes the remaining lines, for at most logFlushTimeout.
func (q *logQueue) close() {
	close(q.closing)
	select {
	case <-q.closed:
	case <-time.After(logFlushTimeout):
	}
}
