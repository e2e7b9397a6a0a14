package main

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"time"
)

// throughput prints a table for each number of connections, with the ratios to the limits that the
// same run measures.
func throughput(ctx context.Context, o options) error {
	empty, err := startEmpty(ctx)
	if err != nil {
		return err
	}
	defer empty.stop()
	for _, conns := range o.conns {
		if err := round(ctx, o, conns, empty); err != nil {
			return err
		}
	}
	return nil
}

func round(ctx context.Context, o options, conns int, empty *process) error {
	p, err := startDialtone(ctx, o.binary, filepath.Join(o.dir, fmt.Sprintf("data-%d", conns)))
	if err != nil {
		return err
	}
	defer p.stop()
	fmt.Printf("### %d connections\n\n| | per second | p50 | p99 | max | ratio |\n"+
		"| --- | --- | --- | --- | --- | --- |\n", conns)
	row := func(name string, f figures, ratio string) {
		fmt.Printf("| %s | %s | %s |\n", name, f, ratio)
		if f.failed > 0 {
			fmt.Printf("\n%d of them failed, the first with: %v\n", f.failed, f.firstFailure)
		}
	}
	idle := p.memory("VmRSS")
	slice := o.duration / turns
	against := func(p *process, work func(*client) func() error) func() (figures, error) {
		return func() (figures, error) { return drive(conns, p.target, slice, work), nil }
	}
	captchas, base, of, err := compare(against(p, repeat("/captcha.ashx")), against(empty, repeat("/")), byRate)
	if err != nil {
		return err
	}
	row("empty handler", base, "")
	row("captchas", captchas, asText(of, "of the empty handler"))

	prefetched, err := prefetch(p.target, captchaRate*int(o.duration.Seconds()+1))
	if err != nil {
		return err
	}
	site, shut, err := newBare(ctx, o.dir, fmt.Sprintf("bare-%d", conns))
	if err != nil {
		return fmt.Errorf("bare limit: %w", err)
	}
	defer shut()
	if conns == 1 {
		bare := func() (figures, error) { return site.lone(loneCount) }
		f, lone, of, err := compare(against(p, signups(prefetched)), bare, byP50)
		if err != nil {
			return err
		}
		row("one bare transaction and file", lone, "")
		row("signups, the POST alone", f, asText(of, "times that, by p50"))
	} else {
		bare := func() (figures, error) { return site.groups(slice) }
		f, limit, of, err := compare(against(p, signups(prefetched)), bare, byRate)
		if err != nil {
			return err
		}
		fmt.Printf("| bare limit, in groups of %d | %8.0f | | | | |\n", bareGroup, limit.rate)
		row("signups, the POST alone", f, asText(of, "of the bare limit"))
	}

	visit, emptyVisit, of, err := compare(against(p, visits), against(empty, emptyVisits), byRate)
	if err != nil {
		return err
	}
	row("empty handler, visits", emptyVisit, "")
	row("visits (captcha and signup, a new connection every third)", visit, asText(of, "of the empty handler"))

	users, activated, err := activateAll(p, conns, o.duration)
	if err != nil {
		return err
	}
	row("activations", activated, "")
	in, _, of, err := compare(against(p, signins(users)), against(empty, emptySignins(users)), byRate)
	if err != nil {
		return err
	}
	row("sign-ins (challenge and proof)", in, asText(of, "of the empty handler, the same two requests"))
	page, _, of, err := compare(against(p, repeat("/signup.html")), against(empty, repeat("/")), byRate)
	if err != nil {
		return err
	}
	row("sign-up page", page, asText(of, "of the empty handler"))
	fmt.Printf("\nmemory: %.0f MiB at start, %.0f MiB at the peak; first answer %s after start\n\n",
		idle, p.memory("VmHWM"), show(p.first))
	return nil
}

const (
	// captchaRate is how many captchas per second the signups may use.
	captchaRate = 8000
	// loneCount is the number of transactions that the bare site runs in one turn.
	loneCount = 400
)

// prefetch returns n solved captchas.
func prefetch(target string, n int) (<-chan solved, error) {
	captchas := make(chan solved, n)
	var mu sync.Mutex
	var firstErr error
	var workers sync.WaitGroup
	for range 8 {
		workers.Go(func() {
			c := &client{target: target}
			defer c.close()
			err := c.connect()
			ask := get(host(target), "/captcha.ashx", "")
			for err == nil {
				var s solved
				if s, err = fetchCaptcha(c, ask); err == nil {
					select {
					case captchas <- s:
					default:
						return
					}
				}
			}
			mu.Lock()
			defer mu.Unlock()
			firstErr = err
		})
	}
	workers.Wait()
	close(captchas)
	return captchas, firstErr
}

// activateAll opens the links of all signups, for at most the duration, and returns the active
// accounts.
func activateAll(p *process, conns int, duration time.Duration) ([]string, figures, error) {
	tokens, err := links(p.data)
	if err != nil {
		return nil, figures{}, err
	}
	feed := make(chan string, len(tokens))
	for _, t := range tokens {
		feed <- t
	}
	close(feed)
	done := make(chan string, len(tokens))
	f, err := p.driveWithUsage(conns, duration, activations(feed, done))
	close(done)
	if err != nil {
		return nil, f, err
	}
	var users []string
	for u := range done {
		users = append(users, u)
	}
	if len(users) == 0 {
		return nil, f, fmt.Errorf("no account could be activated: %v", f.firstFailure)
	}
	return users, f, nil
}
