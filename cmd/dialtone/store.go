package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"dialtone/internal/fault"
	"dialtone/internal/store/transfer"
)

type storeCommand struct {
	Migrate storeMigrate `cmd:"" help:"Bring the schema up to date, once, however many servers and commands come at a time. A new version's servers do it too."`
	Copy    storeCopy    `cmd:"" help:"Copy the store to another database, SQLite or PostgreSQL; it may be stopped, and goes on where it was."`
}

type storeMigrate struct{}

func (storeMigrate) Run(p *program) error {
	return p.with(func(f *folder) error {
		version, err := f.store.Schema(p.ctx)
		if err == nil {
			fmt.Fprintf(p.stdout, "the schema has version %d\n", version)
		}
		return err
	})
}

type storeCopy struct {
	From    string `required:"" placeholder:"STORE" help:"sqlite:FILE, a postgres:// URL without a password (PGPASSFILE or PGPASSWORD may have it), or env:NAME for a variable with either in it."`
	To      string `required:"" placeholder:"STORE" help:"Likewise. It must be new or empty, or hold the beginning of this copy."`
	Compare bool   `help:"Compare the rows of both, and copy nothing."`
}

func (c *storeCopy) Run(p *program) error {
	var places [2]string
	for i, text := range []string{c.From, c.To} {
		place, err := p.place(text)
		if err != nil {
			return err
		}
		places[i] = place
	}
	from, to := places[0], places[1]
	for _, place := range places {
		path, ok := strings.CutPrefix(place, "sqlite:")
		if !ok {
			continue
		}
		if info, err := os.Stat(filepath.Dir(path)); err != nil || !info.IsDir() {
			return fault.New(fault.Invalid, "there is no folder %s; make it first, or mend the path", filepath.Dir(path))
		}
		// The lock of the server that would run on the file.
		unlock, err := lock(filepath.Join(filepath.Dir(path), "serve.lock"))
		if err != nil {
			return err
		}
		defer unlock()
	}
	do := transfer.Copy
	if c.Compare {
		do = transfer.Compare
	}
	b := newBar(p.stderr)
	err := do(p.ctx, from, to, b.show)
	b.end()
	if err != nil {
		if errors.Is(err, p.ctx.Err()) {
			err = fmt.Errorf("stopped (%w); the same command goes on from here", err)
		}
		return err
	}
	if c.Compare {
		fmt.Fprintln(p.stdout, "every row is the same on both sides")
		return nil
	}
	fmt.Fprintln(p.stdout, "every row was copied, and compared; the keys go with it: take seal.key and sign.key to the servers of the copy")
	return nil
}

// place is where a store is. A password on the command line would be seen by everybody on this machine.
func (p *program) place(text string) (string, error) {
	if name, ok := strings.CutPrefix(text, "env:"); ok {
		for _, entry := range p.environ {
			if value, ok := strings.CutPrefix(entry, name+"="); ok {
				return value, nil
			}
		}
		return "", fault.New(fault.Invalid, "there is no variable %s in the environment", name)
	}
	switch {
	case strings.HasPrefix(text, "sqlite:"):
		return text, nil
	case strings.HasPrefix(text, "postgres://"), strings.HasPrefix(text, "postgresql://"):
		user, _, _ := strings.Cut(text[strings.Index(text, "://")+3:], "@")
		if strings.Contains(user, ":") && strings.Contains(text, "@") || strings.Contains(strings.ToLower(text), "password=") {
			return "", fault.New(fault.Invalid, "the URL has a password in it, and everybody on this machine can see what a command is given; put it in a variable and give env:NAME, or use PGPASSFILE")
		}
		return text, nil
	default:
		return "", fault.New(fault.Invalid, "give sqlite:FILE, postgres://USER@HOST/DATABASE, or env:NAME")
	}
}

// bar shows how far something is: a bar on a terminal, and elsewhere a line every few seconds and when a part is done.
type bar struct {
	to       io.Writer
	terminal bool
	what     string
	begun    time.Time
	told     time.Time
	open     bool
}

func newBar(to io.Writer) *bar {
	b := &bar{to: to}
	if f, ok := to.(*os.File); ok {
		_, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
		b.terminal = err == nil
	}
	return b
}

const (
	barWidth = 30
	barEvery = 5 * time.Second
)

func (b *bar) show(what string, done, total int64) {
	now := time.Now()
	if what != b.what {
		b.end()
		b.what, b.begun, b.told = what, now, now
	}
	share := 1.0
	if total > 0 {
		share = min(1, float64(done)/float64(total))
	}
	text := fmt.Sprintf("%-16s %3.0f %%  %d of %d", what, share*100, done, total)
	switch {
	case b.terminal:
		full := int(share * barWidth)
		fmt.Fprintf(b.to, "\r\x1b[K%s%s  %s", strings.Repeat("█", full), strings.Repeat("░", barWidth-full), text)
		b.open = true
	case done >= total || now.Sub(b.told) >= barEvery:
		fmt.Fprintln(b.to, text)
		b.told = now
	}
}

func (b *bar) end() {
	if b.open {
		fmt.Fprintln(b.to)
		b.open = false
	}
}
