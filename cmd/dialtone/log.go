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

// logger writes to stderr: readable text for a person at a terminal, JSON lines for everything else.
func (p *program) logger(c config.Log) *slog.Logger { return slog.New(p.logHandler(c, p.stderr)) }

// logHandler writes to a way to stderr.
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

// utc is a handler whose times are in UTC. A ReplaceAttr would be asked about each attribute of each line instead.
type utc struct{ slog.Handler }

func (h utc) Handle(ctx context.Context, r slog.Record) error {
	r.Time = r.Time.UTC()
	return h.Handler.Handle(ctx, r)
}

func (h utc) WithAttrs(attrs []slog.Attr) slog.Handler { return utc{h.Handler.WithAttrs(attrs)} }
func (h utc) WithGroup(name string) slog.Handler       { return utc{h.Handler.WithGroup(name)} }

const (
	// logWaiting is how many lines may wait for a slow reader of the log: about a megabyte.
	logWaiting = 4096
	// logPatience is how long the end of the server waits for the lines that are left.
	logPatience = time.Second
)

// serverLog is the log of a server. A line never waits for whoever reads the log, so that a reader that stands still does
// not keep people from being served: a line that finds too many before it is dropped, and how many were is logged once
// there is room. The function it returns writes what is left.
func (p *program) serverLog(c config.Log) (*slog.Logger, func()) {
	q := &logQueue{to: p.stderr, waiting: make(chan []byte, logWaiting), closing: make(chan struct{}), closed: make(chan struct{})}
	direct := p.logger(c)
	go q.run(func(lines int64) { direct.Warn("log lines were dropped, since nobody read the log", "lines", lines) })
	return slog.New(p.logHandler(c, q)), q.close
}

// logQueue is a writer that never waits. Each Write is one line.
type logQueue struct {
	to              io.Writer
	waiting         chan []byte
	dropped         atomic.Int64
	closing, closed chan struct{}
}

func (q *logQueue) Write(line []byte) (int, error) {
	select {
	case q.waiting <- bytes.Clone(line):
	default:
		q.dropped.Add(1)
	}
	return len(line), nil
}

func (q *logQueue) run(tell func(lines int64)) {
	defer close(q.closed)
	write := func(line []byte) {
		q.to.Write(line) // whose failure there is nobody to tell of
		if n := q.dropped.Swap(0); n > 0 {
			tell(n)
		}
	}
	for {
		select {
		case line := <-q.waiting:
			write(line)
		case <-q.closing:
			for {
				select {
				case line := <-q.waiting:
					write(line)
				default:
					return
				}
			}
		}
	}
}

func (q *logQueue) close() {
	close(q.closing)
	select {
	case <-q.closed:
	case <-time.After(logPatience):
	}
}
