package main

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"time"
)

// throughput prints the tables for every number of connections, and the ratios to the limits of the same run.
func throughput(ctx context.Context, o options) error {
	limit, err := bare(ctx, o.dir, o.duration)
	if err != nil {
		return fmt.Errorf("bare limit: %w", err)
	}
	lone, err := bareLone(ctx, o.dir, 2000)
	if err != nil {
		return fmt.Errorf("bare limit: %w", err)
	}
	fmt.Printf("bare limit: %.0f signups/s in groups of %d; one at a time p50 %s, p99 %s\n\n", limit, bareGroup, show(lone.p50), show(lone.p99))
	empty, err := startEmpty(ctx)
	if err != nil {
		return err
	}
	defer empty.stop()
	for _, conns := range o.conns {
		if err := round(ctx, o, conns, limit, lone, empty); err != nil {
			return err
		}
	}
	return nil
}

func round(ctx context.Context, o options, conns int, limit float64, lone figures, empty *process) error {
	p, err := startDialtone(ctx, o.binary, filepath.Join(o.dir, fmt.Sprintf("data-%d", conns)))
	if err != nil {
		return err
	}
	defer p.stop()
	fmt.Printf("### %d connections\n\n| | a second | p50 | p99 | max | ratio |\n| --- | --- | --- | --- | --- | --- |\n", conns)
	row := func(name string, f figures, ratio string) {
		fmt.Printf("| %s | %s | %s |\n", name, f, ratio)
		if f.failed > 0 {
			fmt.Printf("\n%d of them failed, the first with: %v\n", f.failed, f.firstFailure)
		}
	}
	idle := p.memory("VmRSS")
	base := drive(conns, empty.target, o.duration, repeat("/"))
	captchas := drive(conns, p.target, o.duration, repeat("/captcha.ashx"))
	row("empty handler", base, "")
	row("captchas", captchas, fmt.Sprintf("%.2f of the empty handler", captchas.rate/base.rate))

	stock, err := prefetch(p.target, int(limit*o.duration.Seconds())+1000)
	if err != nil {
		return err
	}
	f := drive(conns, p.target, o.duration, signups(stock))
	ratio := fmt.Sprintf("%.2f of the bare limit", f.rate/limit)
	if conns == 1 {
		ratio = fmt.Sprintf("p50 %.2f times one bare transaction and file", float64(f.p50)/float64(lone.p50))
	}
	row("signups, the POST alone", f, ratio)

	emptyVisit := drive(conns, empty.target, o.duration, emptyVisits)
	visit := drive(conns, p.target, o.duration, visits)
	row("empty handler, visits", emptyVisit, "")
	row("visits (captcha and signup, a new connection every third)", visit, fmt.Sprintf("%.2f of the empty handler", visit.rate/emptyVisit.rate))

	users, activated, err := activateAll(p, conns, o.duration)
	if err != nil {
		return err
	}
	row("activations", activated, "")
	in := drive(conns, p.target, o.duration, signins(users))
	row("sign-ins (challenge and proof)", in, fmt.Sprintf("%.2f of the empty handler's exchanges of two", in.rate/(base.rate/2)))
	page := drive(conns, p.target, o.duration, repeat("/signup.html"))
	row("sign-up page", page, fmt.Sprintf("%.2f of the empty handler", page.rate/base.rate))
	fmt.Printf("\nmemory: %.0f MiB at start, %.0f MiB at the peak; first answer %s after start\n\n", idle, p.memory("VmHWM"), show(p.first))
	return nil
}

// prefetch is a stock of solved captchas.
func prefetch(target string, n int) (<-chan solved, error) {
	stock := make(chan solved, n)
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
					case stock <- s:
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
	close(stock)
	return stock, firstErr
}

// activateAll opens the links of all signups, for at most the duration, and gives the accounts that are active then.
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
	f := drive(conns, p.target, duration, activations(feed, done))
	close(done)
	var users []string
	for u := range done {
		users = append(users, u)
	}
	if len(users) == 0 {
		return nil, f, fmt.Errorf("no account could be activated: %v", f.firstFailure)
	}
	return users, f, nil
}
