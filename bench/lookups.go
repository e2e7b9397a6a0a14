package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// lookups prints the rate of look-ups by phone servers at each number of accounts, and its ratio to
// the rate of the empty handler, which gets the same requests in alternating turns. With o.signups,
// a stream of signups runs during the turns of the look-ups, but not during those of the empty
// handler.
func lookups(ctx context.Context, o options) error {
	const conns = 64
	empty, err := startEmpty(ctx)
	if err != nil {
		return err
	}
	defer empty.stop()
	fmt.Printf("| accounts | look-ups/s, %d connections | p50 | p99 | max | empty handler/s | ratio |\n", conns)
	fmt.Println("| --- | --- | --- | --- | --- | --- | --- |")
	least, most := math.Inf(1), 0.0
	for _, n := range o.lookups {
		ratio, err := lookupsAt(ctx, o, n, conns, empty)
		if err != nil {
			return err
		}
		least, most = min(least, ratio), max(most, ratio)
	}
	fmt.Printf("\nthe smallest ratio is %.2f of the largest\n", least/most)
	return nil
}

// lookupsAt prints the figures at a number of accounts. It returns the ratio to the rate of the empty handler.
func lookupsAt(ctx context.Context, o options, n, conns int, empty *process) (ratio float64, err error) {
	data := filepath.Join(o.dir, fmt.Sprintf("lookups-%d", n))
	users, err := populate(ctx, o.binary, data, "", n)
	if err != nil {
		return 0, err
	}
	operators, err := freeAddress()
	if err != nil {
		return 0, err
	}
	p, err := startDialtone(ctx, o.binary, data, "DIALTONE_OPS_LISTEN="+operators)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	token, err := newToken(ctx, o.binary, data, operators)
	if err != nil {
		return 0, err
	}
	work := credentials(users, token)
	slice := o.duration / turns
	var beside stream
	asked, idle := &meter{process: p}, &meter{process: empty}
	f, base, of, err := compare(
		func() (figures, error) {
			if o.signups == 0 {
				return asked.measure(func() figures { return drive(conns, operators, slice, work) })
			}
			stop, err := beside.start(p.target, o.signups, slice)
			if err != nil {
				return figures{}, err
			}
			f, err := asked.measure(func() figures { return drive(conns, operators, slice, work) })
			return f, errors.Join(err, stop())
		},
		func() (figures, error) {
			return idle.measure(func() figures { return drive(conns, empty.target, slice, work) })
		}, byRate)
	if err != nil {
		return 0, err
	}
	if f.failed > 0 {
		return 0, fmt.Errorf("%d look-ups failed, the first with: %w", f.failed, f.firstFailure)
	}
	fmt.Printf("| %d | %s | %.0f | %s |\n", n, f, base.rate, asText(of, "of the empty handler"))
	if o.signups > 0 {
		fmt.Printf("| | beside %.0f signups/s, p50 %s, p99 %s | | | | | |\n",
			beside.rate(), show(beside.p50), show(beside.p99))
	} else {
		// Other programs on the machine hardly affect these times.
		perLookup, perEmpty := asked.secondsPerRequest(), idle.secondsPerRequest()
		fmt.Printf("| | processor time of server and load: %.1f µs, empty handler %.1f µs "+
			"| | | | | %.2f by that |\n", perLookup*1e6, perEmpty*1e6, perEmpty/perLookup)
	}
	return of[0], nil
}

// meter adds up the processor time that a server and this program spend on requests.
type meter struct {
	*process
	cpu      time.Duration
	requests int
}

func (m *meter) measure(do func() figures) (figures, error) {
	before, err := m.used()
	if err != nil {
		return figures{}, err
	}
	f := do()
	after, err := m.used()
	m.cpu += after - before
	m.requests += len(f.all)
	return f, err
}

// secondsPerRequest returns the processor time of one request.
func (m *meter) secondsPerRequest() float64 { return m.cpu.Seconds() / float64(m.requests) }

// used returns the processor time of the server and of this program so far.
func (m *meter) used() (time.Duration, error) {
	var own syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &own); err != nil {
		return 0, err
	}
	server, err := m.usage()
	return server.processor + time.Duration(own.Utime.Nano()+own.Stime.Nano()), err
}

// newToken adds a phone server and waits until the running server has seen it.
func newToken(ctx context.Context, binary, data, operators string) (string, error) {
	add := []string{"--data", data, "directory", "token", "add", "bench", "--tenant", realm}
	out, err := exec.CommandContext(ctx, binary, add...).Output()
	if err != nil {
		return "", fmt.Errorf("token: %w", err)
	}
	token := strings.TrimSpace(string(out))
	c := &client{target: operators}
	defer c.close()
	if err := c.connect(); err != nil {
		return "", err
	}
	ask := get(operators, "/v1/sip/credential?username=nobody&realm="+realm, bearer(token))
	for began := time.Now(); time.Since(began) < 5*time.Second; time.Sleep(50 * time.Millisecond) {
		if status, err := c.do(ask); err != nil {
			return "", err
		} else if status == http.StatusNotFound {
			return token, nil
		}
	}
	return "", errors.New("the server does not accept the token")
}

func bearer(token string) string { return "Authorization: Bearer " + token + "\r\n" }

// credentials looks up one user after another, as Kamailio does.
func credentials(users []string, token string) func(*client) func() error {
	var turn atomic.Uint64
	return func(c *client) func() error {
		more := bearer(token)
		return func() error {
			if err := c.ready(); err != nil {
				return err
			}
			user := users[turn.Add(1)%uint64(len(users))]
			return wantOK(c, get(c.target, "/v1/sip/credential?username="+user+"&realm="+realm+"&algorithm=MD5", more))
		}
	}
}
