package main

import (
	"context"
	"io"
	"io/fs"
	"log/slog"
	"os"

	"dialtone/cmd/dialtone/internal/terminal"
	"dialtone/internal/asynclog"
	"dialtone/internal/config"
)

// logger returns a logger to stderr. Unless the configuration says otherwise, it writes text to a
// terminal and JSON lines to anything else.
func (p *program) logger(c config.Log) *slog.Logger {
	return slog.New(p.logHandler(c, p.stderr))
}

// logHandler returns a handler that writes to to, which is stderr or writes to it.
func (p *program) logHandler(c config.Log, to io.Writer) slog.Handler {
	p.logLevel.Set(c.Level)
	options := &slog.HandlerOptions{Level: &p.logLevel}
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

// utc is a handler that logs times in UTC. HandlerOptions.ReplaceAttr could do this, but is called for every attribute.
type utc struct{ slog.Handler }

func (h utc) Handle(ctx context.Context, r slog.Record) error {
	r.Time = r.Time.UTC()
	return h.Handler.Handle(ctx, r)
}

func (h utc) WithAttrs(attrs []slog.Attr) slog.Handler { return utc{h.Handler.WithAttrs(attrs)} }
func (h utc) WithGroup(name string) slog.Handler       { return utc{h.Handler.WithGroup(name)} }

// serverLog returns the log of a server, which never blocks, and a function that writes the remaining lines.
func (p *program) serverLog(c config.Log) (*slog.Logger, func()) {
	direct := p.logger(c)
	w := asynclog.NewWriter(p.stderr, func(dropped int64) {
		direct.Warn("log lines dropped: stderr is not being read", "lines", dropped)
	})
	return slog.New(p.logHandler(c, w)), w.Close
}

// table returns a writer of aligned columns to standard output.
func (p *program) table() terminal.Table { return terminal.NewTable(p.stdout) }
