package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// kinds are the kinds of request that processor measures, in the order of its table.
var kinds = []string{
	"captchas", "sign-up page", "signups, the POST alone", "visits", "activations",
	"sign-ins (challenge and proof)", "look-ups by phone servers",
}

// processor prints the processor time (user and system) that the server uses for each kind of
// request, and how much it writes to the disk. Unlike rates, these hardly depend on other work on
// the machine. If there is another build to compare with, the two take turns.
func processor(ctx context.Context, o options) error {
	const rounds = 3
	fmt.Printf("User and system time of the server for one request (or signup, or sign-in) at 64 connections,\n"+
		"and how much it writes to the disk for it. The least of %d rounds.\n\n", rounds)
	builds := []string{o.binary}
	if o.versus != "" {
		builds = append(builds, o.versus)
	}
	least := make([]map[string]cost, len(builds))
	for i := range builds {
		least[i] = make(map[string]cost)
	}
	for n := range rounds {
		for i, binary := range builds {
			data := filepath.Join(o.dir, fmt.Sprintf("processor-%d-%d", n, i))
			if err := measureKinds(ctx, binary, data, least[i]); err != nil {
				return fmt.Errorf("%s: %w", binary, err)
			}
		}
	}
	if o.versus == "" {
		fmt.Print("| | processor time | KiB written |\n| --- | --- | --- |\n")
		for _, name := range kinds {
			fmt.Printf("| %s | %s |\n", name, least[0][name])
		}
		return nil
	}
	fmt.Print("| | processor time | KiB written | the other | KiB written | ratio |\n" +
		"| --- | --- | --- | --- | --- | --- |\n")
	for _, name := range kinds {
		a, b := least[0][name], least[1][name]
		fmt.Printf("| %s | %s | %s | %.2f |\n", name, a, b, a.processor/b.processor)
	}
	return nil
}

// cost is what one request costs the server.
type cost struct {
	processor float64 // in microseconds
	written   float64 // in KiB
}

func (c cost) String() string { return fmt.Sprintf("%.1f µs | %.1f", c.processor, c.written) }

// measureKinds runs a server, measures the cost of each kind of request, and updates the least costs.
func measureKinds(ctx context.Context, binary, data string, least map[string]cost) error {
	const conns = 64
	operators, err := freeAddress()
	if err != nil {
		return err
	}
	p, err := startDialtone(ctx, binary, data, "DIALTONE_OPS_LISTEN="+operators)
	if err != nil {
		return err
	}
	defer p.stop()
	record := func(name string, f figures) error {
		if f.failed > 0 {
			return fmt.Errorf("%s: %d failed, the first with: %w", name, f.failed, f.firstFailure)
		}
		n := float64(len(f.all))
		c := cost{float64(f.used.processor.Microseconds()) / n, float64(f.used.written) / 1024 / n}
		if past, ok := least[name]; ok {
			c = cost{min(c.processor, past.processor), min(c.written, past.written)}
		}
		least[name] = c
		return nil
	}
	measure := func(name string, p *process, count int, work func(*client) func() error) error {
		f, err := p.drive(conns, time.Hour, atMost(count, work))
		if err != nil {
			return err
		}
		return record(name, f)
	}
	captchas, err := prefetch(p.target, 8000)
	if err != nil {
		return err
	}
	for _, k := range []struct {
		name  string
		count int
		work  func(*client) func() error
	}{
		{"captchas", 40000, repeat("/captcha.ashx")},
		{"sign-up page", 40000, repeat("/signup.html")},
		{"signups, the POST alone", 8000, signups(captchas)},
		{"visits", 6000, visits},
	} {
		if err := measure(k.name, p, k.count, k.work); err != nil {
			return err
		}
	}
	users, f, err := activateAll(p, conns, time.Hour)
	if err != nil {
		return err
	}
	if err := record("activations", f); err != nil {
		return err
	}
	if err := measure("sign-ins (challenge and proof)", p, 20000, signins(users)); err != nil {
		return err
	}
	token, err := newToken(ctx, binary, p.data, operators)
	if err != nil {
		return err
	}
	asked := *p
	asked.target = operators
	return measure("look-ups by phone servers", &asked, 40000, credentials(users, token))
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

// usage is the resources that a process has used so far.
type usage struct {
	processor time.Duration // in user and system mode, with a resolution of 10 ms
	written   int64         // bytes that were given to a disk; a page that is written again before that counts once
}

func (u usage) plus(v usage) usage { return usage{u.processor + v.processor, u.written + v.written} }

// drive calls the function drive, and adds what the server uses in that time.
func (p *process) drive(conns int, duration time.Duration, work func(*client) func() error) (figures, error) {
	before, err := p.usage()
	if err != nil {
		return figures{}, err
	}
	f := drive(conns, p.target, duration, work)
	after, err := p.usage()
	f.used = usage{after.processor - before.processor, after.written - before.written}
	return f, err
}

func (p *process) usage() (u usage, err error) {
	fail := func(err error) (usage, error) {
		return usage{}, fmt.Errorf("cannot read what %s uses: %w", p.target, err)
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return fail(err)
	}
	// The name of the command, in parentheses, may contain spaces. utime and stime are the 14th and
	// 15th field of the line, and so the 12th and 13th after the name.
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return fail(errors.New("its line in /proc is too short"))
	}
	user, errUser := strconv.Atoi(fields[11])
	system, errSystem := strconv.Atoi(fields[12])
	u.processor = time.Duration(user+system) * 10 * time.Millisecond
	text, err = os.ReadFile(fmt.Sprintf("/proc/%d/io", p.cmd.Process.Pid))
	_, rest, _ = strings.Cut(string(text), "\nwrite_bytes: ")
	line, _, _ := strings.Cut(rest, "\n")
	var errWritten error
	u.written, errWritten = strconv.ParseInt(line, 10, 64)
	if err := errors.Join(errUser, errSystem, err, errWritten); err != nil {
		return fail(err)
	}
	return u, nil
}
