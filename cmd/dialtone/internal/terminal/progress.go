package terminal

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// Progress shows progress: a bar on a terminal, otherwise a line every few seconds and at the end
// of each part.
type Progress struct {
	to       io.Writer
	terminal bool
	part     string
	shown    time.Time
	open     bool // the line on the terminal is not finished
}

// NewProgress returns a Progress that writes to a terminal or to another writer.
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

// Show shows that done of total are done of a part.
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

// Reader returns a reader that shows how much of total bytes was read from another one. It fails once ctx has ended.
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
