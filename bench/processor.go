package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// kinds are the kinds of request that processor measures, in this order: activations opens the links of the
// signups before it, and later kinds use the accounts that it has activated.
var kinds = []struct {
	name    string
	measure func(context.Context, *subject) (figures, error)
}{
	{"captchas", of(40000, repeat("/captcha.ashx"))},
	{"sign-up page", of(40000, repeat("/signup.html"))},
	{"signups, the POST alone", func(_ context.Context, s *subject) (figures, error) {
		return s.make(s.target, 8000, signups(s.captchas))
	}},
	{"visits", of(6000, visits)},
	{"activations", func(_ context.Context, s *subject) (f figures, err error) {
		s.users, f, err = activateAll(s.process, processorConns, time.Hour)
		return f, err
	}},
	{"sign-ins (challenge and proof)", func(_ context.Context, s *subject) (figures, error) {
		return s.make(s.target, 20000, signins(s.users))
	}},
	{"look-ups by phone servers", func(ctx context.Context, s *subject) (figures, error) {
		token, err := newToken(ctx, s.binary, s.data, s.operators)
		if err != nil {
			return figures{}, err
		}
		return s.make(s.operators, 40000, credentials(s.users, token))
	}},
}

// processorConns is the number of connections that processor uses.
const processorConns = 64

// subject is a server whose requests are measured.
type subject struct {
	*process
	binary    string
	operators string        // the address of the listener for phone servers
	captchas  <-chan solved // for signups
	users     []string      // the names of active accounts
}

// make makes a number of requests to an address of the server.
func (s *subject) make(target string, count int, work func(*client) func() error) (figures, error) {
	p := *s.process
	p.target = target
	return p.driveWithUsage(processorConns, time.Hour, atMost(count, work))
}

// of returns a function that measures a number of requests to the public listener.
func of(count int, work func(*client) func() error) func(context.Context, *subject) (figures, error) {
	return func(_ context.Context, s *subject) (figures, error) { return s.make(s.target, count, work) }
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
	least := make([][]cost, len(builds)) // of each kind
	for i := range builds {
		least[i] = slices.Repeat([]cost{{math.Inf(1), math.Inf(1)}}, len(kinds))
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
		for i, k := range kinds {
			fmt.Printf("| %s | %s |\n", k.name, least[0][i])
		}
		return nil
	}
	fmt.Print("| | processor time | KiB written | the other | KiB written | ratio |\n" +
		"| --- | --- | --- | --- | --- | --- |\n")
	for i, k := range kinds {
		a, b := least[0][i], least[1][i]
		fmt.Printf("| %s | %s | %s | %.2f |\n", k.name, a, b, a.processor/b.processor)
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
func measureKinds(ctx context.Context, binary, data string, least []cost) error {
	operators, err := freeAddress()
	if err != nil {
		return err
	}
	p, err := startDialtone(ctx, binary, data, "DIALTONE_OPS_LISTEN="+operators)
	if err != nil {
		return err
	}
	defer p.stop()
	captchas, err := prefetch(p.target, 8000)
	if err != nil {
		return err
	}
	s := &subject{process: p, binary: binary, operators: operators, captchas: captchas}
	for i, k := range kinds {
		f, err := k.measure(ctx, s)
		if err == nil && f.failed > 0 {
			err = fmt.Errorf("%d failed, the first with: %w", f.failed, f.firstFailure)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", k.name, err)
		}
		n := float64(len(f.all))
		least[i].processor = min(least[i].processor, float64(f.used.processor.Microseconds())/n)
		least[i].written = min(least[i].written, float64(f.used.written)/1024/n)
	}
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

// usage is the resources that a process has used so far.
type usage struct {
	processor time.Duration // in user and system mode, with a resolution of 10 ms
	written   int64         // bytes that were given to a disk; a page that is written again before that counts once
}

func (u usage) plus(v usage) usage { return usage{u.processor + v.processor, u.written + v.written} }

// driveWithUsage calls drive, and adds what the server uses in that time.
func (p *process) driveWithUsage(conns int, duration time.Duration, work func(*client) func() error) (figures, error) {
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
