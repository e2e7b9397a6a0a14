package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// sources counts the source addresses in use. All addresses of 127/8 are this machine's.
var sources atomic.Uint32

// nextSource returns an unused source address.
func nextSource() netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], 127<<24|(1<<16+sources.Add(1))&0xffffff)
	return netip.AddrFrom4(b)
}

// client is an HTTP/1.1 client with one connection. It reads only responses with a Content-Length.
type client struct {
	target string
	conn   net.Conn
	in     *bufio.Reader
	body   bytes.Buffer
	header []byte // of the last response
	// signups is how many were made over this connection.
	signups int
}

// connect opens a new connection from an unused address.
func (c *client) connect() error {
	c.close()
	source := netip.AddrPortFrom(nextSource(), 0)
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(source), Timeout: 5 * time.Second}
	conn, err := d.Dial("tcp", c.target)
	if err != nil {
		return err
	}
	c.conn, c.signups = conn, 0
	if c.in == nil {
		c.in = bufio.NewReader(conn)
	} else {
		c.in.Reset(conn)
	}
	return nil
}

// ready connects if there is no connection.
func (c *client) ready() error {
	if c.conn != nil {
		return nil
	}
	return c.connect()
}

// readyToSignUp connects from another address if perAddress signups were made from this one, or if there is no
// connection. It counts a signup.
func (c *client) readyToSignUp() error {
	if c.conn == nil || c.signups == perAddress {
		if err := c.connect(); err != nil {
			return err
		}
	}
	c.signups++
	return nil
}

func (c *client) close() {
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
}

// do sends a request and returns the status of the response. Header and body are in c until the next
// call.
func (c *client) do(request []byte) (status int, err error) {
	if _, err := c.conn.Write(request); err != nil {
		return 0, err
	}
	c.header = c.header[:0]
	c.body.Reset()
	length := 0
	for {
		line, err := c.in.ReadSlice('\n')
		if err != nil {
			return 0, err
		}
		if len(line) <= 2 {
			break
		}
		if status == 0 {
			if status, err = strconv.Atoi(string(line[9:12])); err != nil {
				return 0, err
			}
		} else if value, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
				return 0, err
			}
		}
		c.header = append(c.header, line...)
	}
	_, err = io.CopyN(&c.body, c.in, int64(length))
	return status, err
}

// get returns a GET request. more is further header lines.
func get(target, path, more string) []byte {
	return fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: %s\r\n%s\r\n", path, target, more)
}

// post returns a POST request.
func post(target, path string, form []byte) []byte {
	b := fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/x-www-form-urlencoded\r\n"+
		"Content-Length: %d\r\n\r\n", path, target, len(form))
	return append(b, form...)
}

// figures are the results of a run of one kind of request.
type figures struct {
	rate          float64         // per second
	all           []time.Duration // of each request, sorted
	p50, p99, max time.Duration
	failed        int
	firstFailure  error
	used          usage // of the server, if it was measured
}

// perRequest returns the processor time and the bytes written for one request.
func (f figures) perRequest() (processor time.Duration, written int64) {
	n := max(len(f.all), 1)
	return f.used.processor / time.Duration(n), f.used.written / int64(n)
}

func (f figures) String() string {
	return fmt.Sprintf("%8.0f | %9s | %9s | %9s", f.rate, show(f.p50), show(f.p99), show(f.max))
}

func show(d time.Duration) string { return d.Round(time.Microsecond * 10).String() }

// drive runs work on conns connections for the duration. Each call of the function that work returns
// is one request or exchange. If it returns io.EOF, its connection has no more work.
func drive(conns int, target string, duration time.Duration, work func(c *client) func() error) figures {
	var mu sync.Mutex
	var all []time.Duration
	var f figures
	var workers sync.WaitGroup
	start := time.Now()
	for range conns {
		workers.Go(func() {
			c := &client{target: target}
			defer c.close()
			var took []time.Duration
			next := work(c)
			for time.Since(start) < duration {
				began := time.Now()
				err := next()
				if err == io.EOF {
					break
				}
				if err != nil {
					mu.Lock()
					if f.failed++; f.firstFailure == nil {
						f.firstFailure = err
					}
					mu.Unlock()
					c.close()
					continue
				}
				took = append(took, time.Since(began))
			}
			mu.Lock()
			all = append(all, took...)
			mu.Unlock()
		})
	}
	workers.Wait()
	f.rate = float64(len(all)) / time.Since(start).Seconds()
	f.summarize(all)
	return f
}

func (f *figures) summarize(all []time.Duration) {
	slices.Sort(all)
	f.all = all
	if len(all) > 0 {
		f.p50, f.p99, f.max = all[len(all)/2], all[len(all)*99/100], all[len(all)-1]
	}
}

// turns is the number of turns that each of two measurements gets.
const turns = 5

// compare measures two things in alternating turns, so that other load on the machine affects both. It
// returns the figures of all turns together, with the median rate, and the median, smallest and
// largest ratio of a turn.
func compare(
	one, other func() (figures, error),
	ratio func(a, b figures) float64,
) (a, b figures, of [3]float64, err error) {
	var ratios, ratesA, ratesB []float64
	for range turns {
		fa, err := one()
		if err != nil {
			return a, b, of, err
		}
		fb, err := other()
		if err != nil {
			return a, b, of, err
		}
		a.add(fa)
		b.add(fb)
		ratios = append(ratios, ratio(fa, fb))
		ratesA, ratesB = append(ratesA, fa.rate), append(ratesB, fb.rate)
	}
	for _, list := range [][]float64{ratios, ratesA, ratesB} {
		slices.Sort(list)
	}
	a.rate, b.rate = ratesA[turns/2], ratesB[turns/2]
	return a, b, [3]float64{ratios[turns/2], ratios[0], ratios[turns-1]}, nil
}

// add adds the figures of another turn, except the rate.
func (f *figures) add(g figures) {
	f.failed += g.failed
	if f.firstFailure == nil {
		f.firstFailure = g.firstFailure
	}
	f.used = f.used.plus(g.used)
	f.summarize(append(f.all, g.all...))
}

func byRate(a, b figures) float64 { return a.rate / b.rate }
func byP50(a, b figures) float64  { return float64(a.p50) / float64(b.p50) }

func asText(of [3]float64, what string) string {
	return fmt.Sprintf("%.2f (%.2f to %.2f) %s", of[0], of[1], of[2], what)
}
