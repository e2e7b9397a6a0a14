package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// perSite is how many accounts a flood signs up from each /48. They come from several /64, since each of these is
	// limited to perAddress an hour.
	perSite = 10
	// floodConns is the number of connections of the flood, which come from one trusted proxy.
	floodConns = 32
	// regulars is the number of existing accounts that sign in and are looked up during the flood.
	regulars = 50
)

// flood measures how people with accounts are affected while bots sign up from many networks, until
// signups are closed, and while the accounts of the bots are deleted.
func flood(ctx context.Context, o options) error {
	data := filepath.Join(o.dir, "flood")
	users, err := populate(ctx, o.binary, data, "", regulars)
	if err != nil {
		return err
	}
	operators, err := freeAddress()
	if err != nil {
		return err
	}
	p, err := startDialtone(ctx, o.binary, data, "DIALTONE_OPS_LISTEN="+operators,
		"DIALTONE_HTTP_TRUSTED_PROXIES=127.0.0.0/8")
	if err != nil {
		return err
	}
	defer p.stop()
	token, err := newToken(ctx, o.binary, data, operators)
	if err != nil {
		return err
	}
	fmt.Printf("### %d signups from %d networks\n\n", o.flood, o.flood/perSite)
	fmt.Println("| | sign-ins | p50 | p99 | max | look-ups | p50 | p99 | max | failed |")
	fmt.Println("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
	measure := func(name string, do func() error) error {
		stop := beside(ctx, p.target, operators, users, token)
		err := do()
		signedIn, lookedUp := stop()
		fmt.Printf("| %s | %d | %s | %s | %s | %d | %s | %s | %s | %d |\n", name,
			len(signedIn.all), show(signedIn.p50), show(signedIn.p99), show(signedIn.max),
			len(lookedUp.all), show(lookedUp.p50), show(lookedUp.p99), show(lookedUp.max),
			signedIn.failed+lookedUp.failed)
		if err == nil {
			err = errors.Join(signedIn.firstFailure, lookedUp.firstFailure)
		}
		return err
	}
	since := time.Now().UTC()
	if err := measure("before", func() error { return sleep(ctx, o.duration) }); err != nil {
		return err
	}
	var signedUp figures
	var tookFlood, tookStop time.Duration
	command := func(args ...string) ([]byte, error) {
		out, err := exec.CommandContext(ctx, o.binary, append(args, "--data", data)...).CombinedOutput()
		if err != nil {
			return out, fmt.Errorf("%v: %w\n%s", args, err, out)
		}
		return out, nil
	}
	if err := measure("during the flood", func() (err error) {
		began := time.Now()
		bots := newBots(o.flood)
		signedUp = drive(floodConns, p.target, time.Hour, bots.signups)
		tookFlood = time.Since(began)
		if signedUp.failed > 0 {
			return fmt.Errorf("%d signups failed, the first with: %w", signedUp.failed, signedUp.firstFailure)
		}
		tookStop, err = stopSignups(p.target, command)
		return err
	}); err != nil {
		return err
	}
	if err := measure("signups closed", func() error { return sleep(ctx, o.duration) }); err != nil {
		return err
	}
	var tookClean time.Duration
	var result struct{ Found, Done int64 }
	if err := measure("during the deletion", func() error {
		began := time.Now()
		out, err := command("account", "bulk", "delete", "--net=2a00::/16", "--since="+since.Format(time.RFC3339),
			fmt.Sprint("--count=", o.flood), "--reason=flood", "--json")
		tookClean = time.Since(began)
		if err == nil {
			err = json.Unmarshal(out, &result)
		}
		return err
	}); err != nil {
		return err
	}
	if err := measure("after", func() error { return sleep(ctx, o.duration) }); err != nil {
		return err
	}
	fmt.Printf("\n%d accounts signed up in %s (%.0f a second); the stop refused signups %s after the command began; "+
		"%d of %d accounts were deleted in %s (%.0f a second); peak memory of the server %.0f MiB\n",
		len(signedUp.all), tookFlood.Round(time.Second/10), signedUp.rate, show(tookStop), result.Done, result.Found,
		tookClean.Round(time.Second/10), float64(result.Done)/tookClean.Seconds(), p.memory("VmHWM"))
	// The regular users got a message about a new browser.
	left, err := filepath.Glob(filepath.Join(data, "pickup", "*.eml"))
	if err == nil && len(left) > regulars {
		err = fmt.Errorf("%d messages of deleted accounts are left", len(left)-regulars)
	}
	return err
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// beside makes users sign in, and phone servers look them up, at fixed intervals, until stop is
// called.
func beside(ctx context.Context, target, operators string, users []string,
	token string) (stop func() (signedIn, lookedUp figures)) {
	const interval = 20 * time.Millisecond // of the sign-ins, and of the look-ups
	ctx, cancel := context.WithCancel(ctx)
	regularly := func(work func() error) func() error {
		ticker := time.NewTicker(interval)
		return func() error {
			select {
			case <-ctx.Done():
				return io.EOF
			case <-ticker.C:
				return work()
			}
		}
	}
	var signedIn, lookedUp figures
	var all sync.WaitGroup
	start := func(f *figures, target string, work func(*client) func() error) {
		all.Go(func() {
			// The times that drive measures include the wait for the ticker; these do not.
			var took []time.Duration
			g := drive(1, target, time.Hour, func(c *client) func() error {
				next := work(c)
				return regularly(func() error {
					began := time.Now()
					err := next()
					if err == nil {
						took = append(took, time.Since(began))
					}
					return err
				})
			})
			f.failed, f.firstFailure = g.failed, g.firstFailure
			f.summarize(took)
		})
	}
	start(&signedIn, target, signins(users))
	start(&lookedUp, operators, credentials(users, token))
	return func() (figures, figures) {
		cancel()
		all.Wait()
		return signedIn, lookedUp
	}
}

// bots makes signups from many networks, each of another account.
type bots struct{ next, most atomic.Int64 }

func newBots(n int) *bots {
	b := new(bots)
	b.most.Store(int64(n))
	return b
}

// addressOf returns the address of account i. Each group of perSite accounts has a site of its own,
// with 4 networks.
func addressOf(i int64) netip.Addr {
	a := [16]byte{0: 0x2a, 1: 0x00, 15: 1}
	binary.BigEndian.PutUint32(a[2:], uint32(i/perSite))
	a[7] = byte(i % perSite / perAddress)
	return netip.AddrFrom16(a)
}

func (b *bots) signups(c *client) func() error {
	return func() error {
		i := b.next.Add(1) - 1
		if i >= b.most.Load() {
			return io.EOF
		}
		if err := c.ready(); err != nil {
			return err
		}
		from := "X-Forwarded-For: " + addressOf(i).String() + "\r\n"
		s, err := fetchCaptcha(c, get(host(c.target), "/captcha.ashx", from))
		if err != nil {
			return err
		}
		return wantOK(c, withHeader(post(host(c.target), "/signup.ashx", signupForm(newName(), s)), from))
	}
}

// withHeader returns a request with another header line.
func withHeader(request []byte, line string) []byte {
	head, body, _ := bytes.Cut(request, []byte("\r\n\r\n"))
	return fmt.Appendf(nil, "%s\r\n%s\r\n%s", head, line, body)
}

// stopSignups closes signups by a command, and returns how long after the start of the command the
// server refused one.
func stopSignups(target string, command func(...string) ([]byte, error)) (time.Duration, error) {
	began := time.Now()
	done := make(chan error, 1)
	go func() {
		_, err := command("signups", "close", "--freeze", "--reason=flood")
		done <- err
	}()
	c := &client{target: target}
	defer c.close()
	for i := int64(1 << 30); time.Since(began) < 10*time.Second; i += perSite {
		if err := c.ready(); err != nil {
			return 0, err
		}
		from := "X-Forwarded-For: " + addressOf(i).String() + "\r\n"
		// The signup is refused because signups are closed or because of its captcha.
		form := signupForm(newName(), solved{"none", "0"})
		status, err := c.do(withHeader(post(host(target), "/signup.ashx", form), from))
		if err != nil {
			return 0, err
		}
		if status == http.StatusForbidden || bytes.Contains(c.body.Bytes(), []byte("closed")) {
			return time.Since(began), <-done
		}
		time.Sleep(5 * time.Millisecond)
	}
	return 0, fmt.Errorf("signups are not closed: %s", c.body.Bytes())
}
