package terminal

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// Progress shows the progress of a command that has one or more parts: as a bar on a terminal, otherwise as a line
// every few seconds and at the end of each part.
type Progress struct {
	to       io.Writer
	terminal bool
	part     string
	shown    time.Time
	open     bool // the line on the terminal is not finished
}

// NewProgress returns a Progress that writes to to.
func NewProgress(to io.Writer) *Progress {
	p := &Progress{to: to}
	if f, ok := to.(*os.File); ok {
		p.terminal = isTerminal(f)
	}
	return p
}

const (
	barWidth    = 30
	barInterval = 5 * time.Second
)

// Show shows that done of total units of a part are done.
func (p *Progress) Show(part string, done, total int64) {
	now := time.Now()
	if part != p.part {
		p.End()
		p.part, p.shown = part, now
	}
	share := 1.0
	if total > 0 {
		share = min(1, float64(done)/float64(total))
	}
	text := fmt.Sprintf("%-16s %3.0f %%  %d of %d", part, share*100, done, total)
	switch {
	case p.terminal:
		full := int(share * barWidth)
		fmt.Fprintf(p.to, "\r\x1b[K%s%s  %s",
			strings.Repeat("█", full), strings.Repeat("░", barWidth-full), text)
		p.open = true
	case done >= total || now.Sub(p.shown) >= barInterval:
		fmt.Fprintln(p.to, text)
		p.shown = now
	}
}

// End finishes the line on the terminal.
func (p *Progress) End() {
	if p.open {
		fmt.Fprintln(p.to)
		p.open = false
	}
}

// Reader returns a reader of from that shows how many of total bytes it has read. It fails when ctx has ended.
func (p *Progress) Reader(ctx context.Context, from io.Reader, part string, total int64) io.Reader {
	return &progressReader{r: from, ctx: ctx, bar: p, part: part, total: total}
}

type progressReader struct {
	r           io.Reader
	ctx         context.Context
	bar         *Progress
	part        string
	read, total int64
	shown       int64
}

func (s *progressReader) Read(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := s.r.Read(p)
	s.read += int64(n)
	const step = 1 << 20
	if n > 0 && (s.read >= s.total || s.read-s.shown >= step) {
		s.shown = s.read
		s.bar.Show(s.part, s.read, s.total)
	}
	return n, err
}
