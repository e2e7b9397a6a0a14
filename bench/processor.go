package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// processor prints the processor time (user and system) that the server and an empty handler use for
// each kind of request. Unlike rates, these times hardly depend on other work on the machine.
func processor(ctx context.Context, o options) error {
	const conns, rounds = 64, 3
	empty, err := startEmpty(ctx)
	if err != nil {
		return err
	}
	defer empty.stop()
	least := make(map[string]float64)
	measure := func(name string, p *process, count int, work func(*client) func() error) error {
		before, err := p.processorTime()
		if err != nil {
			return err
		}
		f := drive(conns, p.target, time.Hour, atMost(count, work))
		after, err := p.processorTime()
		if err != nil {
			return err
		}
		if f.failed > 0 {
			return fmt.Errorf("%s: %d failed, the first with: %w", name, f.failed, f.firstFailure)
		}
		took := float64((after - before).Microseconds()) / float64(count)
		if past, ok := least[name]; !ok || took < past {
			least[name] = took
		}
		return nil
	}
	start := math.Inf(1)
	for i := range rounds {
		operators, err := freeAddress()
		if err != nil {
			return err
		}
		p, err := startDialtone(ctx, o.binary, filepath.Join(o.dir, fmt.Sprintf("processor-%d", i)),
			"DIALTONE_OPS_LISTEN="+operators)
		if err != nil {
			return err
		}
		defer p.stop()
		start = min(start, float64(p.first.Microseconds())/1000)
		stock, err := prefetch(p.target, 8000)
		if err != nil {
			return err
		}
		for _, k := range []struct {
			name  string
			p     *process
			count int
			work  func(*client) func() error
		}{
			{"empty handler", empty, 40000, repeat("/")},
			{"empty handler, visits", empty, 6000, emptyVisits},
			{"captchas", p, 40000, repeat("/captcha.ashx")},
			{"sign-up page", p, 40000, repeat("/signup.html")},
			{"signups, the POST alone", p, 8000, signups(stock)},
			{"visits", p, 6000, visits},
		} {
			if err := measure(k.name, k.p, k.count, k.work); err != nil {
				return err
			}
		}
		before, err := p.processorTime()
		if err != nil {
			return err
		}
		users, f, err := activateAll(p, conns, time.Hour)
		if err != nil {
			return err
		}
		after, err := p.processorTime()
		if err != nil {
			return err
		}
		took := float64((after - before).Microseconds()) / float64(len(f.all))
		if past, ok := least["activations"]; !ok || took < past {
			least["activations"] = took
		}
		if err := measure("sign-ins (challenge and proof)", p, 20000, signins(users)); err != nil {
			return err
		}
		token, err := newToken(ctx, o.binary, p.data, operators)
		if err != nil {
			return err
		}
		asked := *p
		asked.target = operators
		if err := measure("look-ups by phone servers", &asked, 40000, credentials(users, token)); err != nil {
			return err
		}
	}
	fmt.Printf("| microseconds of processor time per request | least of %d |\n| --- | --- |\n", rounds)
	for _, name := range []string{
		"empty handler", "empty handler, visits", "captchas", "sign-up page",
		"signups, the POST alone", "visits", "activations", "sign-ins (challenge and proof)",
		"look-ups by phone servers",
	} {
		fmt.Printf("| %s | %.1f |\n", name, least[name])
	}
	fmt.Printf("\nfirst answer %.1f ms after start\n", start)
	return nil
}

// atMost limits the number of calls on all connections together.
func atMost(count int, work func(*client) func() error) func(*client) func() error {
	var made atomic.Int64
	return func(c *client) func() error {
		next := work(c)
		return func() error {
			if made.Add(1) > int64(count) {
				return io.EOF
			}
			return next()
		}
	}
}

// processorTime returns the processor time that the process has used so far, in user and system mode.
// Its resolution is 10 ms.
func (p *process) processorTime() (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	// The name of the command, in parentheses, may contain spaces. utime and stime are the 14th and
	// 15th field of the line, and so the 12th and 13th after the name.
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0, fmt.Errorf("cannot read the processor time of %s", p.target)
	}
	user, errUser := strconv.Atoi(fields[11])
	system, errSystem := strconv.Atoi(fields[12])
	if errUser != nil || errSystem != nil {
		return 0, fmt.Errorf("cannot read the processor time of %s", p.target)
	}
	return time.Duration(user+system) * 10 * time.Millisecond, nil
}
