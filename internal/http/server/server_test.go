package server

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// pipes is a listener of in-memory connections. In a synctest bubble, they and all timeouts of the
// server run on the bubble's clock.
type pipes struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), done: make(chan struct{})} }

func (l *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipes) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *pipes) Addr() net.Addr { return &net.TCPAddr{} }

// dial opens a connection from an address.
func (l *pipes) dial(from string) net.Conn {
	client, server := net.Pipe()
	addr := netip.AddrPortFrom(netip.MustParseAddr(from), 4711)
	l.conns <- fromConn{server, net.TCPAddrFromAddrPort(addr)}
	return client
}

type fromConn struct {
	net.Conn
	from net.Addr
}

func (c fromConn) RemoteAddr() net.Addr { return c.from }

// withServer runs do in a bubble in which a server runs.
func withServer(
	t *testing.T, h http.HandlerFunc, limits Limits,
	do func(t *testing.T, l *pipes, stop func() error),
) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		l, ended := newPipes(), make(chan error, 1)
		go func() { ended <- Serve(ctx, l, h, limits, discard) }()
		stop := sync.OnceValue(func() error {
			cancel()
			return <-ended
		})
		do(t, l, stop)
		if err := stop(); err != nil {
			t.Errorf("the server ended with %v", err)
		}
	})
}

// openFor returns how long the server keeps a connection open from which the client only reads.
func openFor(c net.Conn) time.Duration {
	start := time.Now()
	io.Copy(io.Discard, c)
	return time.Since(start)
}

var discard = slog.New(slog.DiscardHandler)

var noLimits = Limits{Connections: 100, ConnectionsPerAddress: 100}

func readBody(w http.ResponseWriter, r *http.Request) {
	if _, err := io.ReadAll(r.Body); err == nil {
		io.WriteString(w, "done")
	}
}

func TestTimeouts(t *testing.T) {
	// drip sends one byte a second until the connection is closed.
	drip := func(c net.Conn, text string) {
		for i := range len(text) {
			if _, err := c.Write([]byte{text[i]}); err != nil {
				return
			}
			time.Sleep(time.Second)
		}
	}
	head := "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1000\r\n\r\n"
	for _, row := range []struct {
		name string
		send func(net.Conn)
		want time.Duration
	}{
		{"nothing is sent", func(net.Conn) {}, 5 * time.Second},
		{"headers are sent slowly", func(c net.Conn) {
			drip(c, "GET / HTTP/1.1\r\nHost: a.test\r\nX-Long: "+strings.Repeat("x", 1000))
		}, 5 * time.Second},
		{"headers end early", func(c net.Conn) {
			io.WriteString(c, "GET / HTTP/1.1\r\nHost:")
		}, 5 * time.Second},
		{"a body is sent slowly", func(c net.Conn) {
			io.WriteString(c, head)
			drip(c, strings.Repeat("x", 1000))
		}, 10 * time.Second},
		{"a body ends early", func(c net.Conn) { io.WriteString(c, head+"x") }, 10 * time.Second},
		{"an idle connection", func(c net.Conn) {
			io.WriteString(c, "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
		}, 60 * time.Second},
	} {
		t.Run(row.name, func(t *testing.T) {
			withServer(t, readBody, noLimits, func(t *testing.T, l *pipes, _ func() error) {
				c := l.dial("192.0.2.1")
				defer c.Close()
				var sending sync.WaitGroup
				sending.Go(func() { row.send(c) })
				// After a half-read body net/http waits up to half a second for the client to read.
				if got := openFor(c); got < row.want || got > row.want+time.Second {
					t.Errorf("the connection was open for %v, want %v", got, row.want)
				}
				c.Close()
				sending.Wait()
			})
		})
	}
	t.Run("an answer is read slowly", func(t *testing.T) {
		var failed chan time.Duration
		slow := func(w http.ResponseWriter, r *http.Request) {
			start := time.Now()
			for {
				if _, err := w.Write(make([]byte, 64<<10)); err != nil {
					failed <- time.Since(start)
					return
				}
			}
		}
		withServer(t, slow, noLimits, func(t *testing.T, l *pipes, _ func() error) {
			failed = make(chan time.Duration, 1) // made in the bubble, whose clock stops only for its own channels
			c := l.dial("192.0.2.1")
			defer c.Close()
			io.WriteString(c, "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
			if got := <-failed; got != 15*time.Second {
				t.Errorf("the answer was kept for %v", got)
			}
		})
	})
}

func TestLimits(t *testing.T) {
	// alive reports whether the server answers requests on the connection.
	alive := func(t *testing.T, c net.Conn) bool {
		t.Helper()
		if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"); err != nil {
			return false
		}
		response, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			return false
		}
		io.Copy(io.Discard, response.Body)
		return true
	}
	proxies := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	for _, row := range []struct {
		name   string
		limits Limits
		open   []string // from where connections are open
		next   string
		want   bool
	}{
		{"within the limits", Limits{4, 2, nil, nil}, []string{"192.0.2.1", "192.0.2.2"}, "192.0.2.1", true},
		{"not over the limit of an address", Limits{9, 2, nil, nil},
			[]string{"192.0.2.1", "192.0.2.1"}, "192.0.2.1", false},
		{"from another address", Limits{9, 2, nil, nil}, []string{"192.0.2.1", "192.0.2.1"}, "192.0.2.2", true},
		{"not as IPv4-mapped IPv6", Limits{9, 2, nil, nil},
			[]string{"192.0.2.1", "192.0.2.1"}, "::ffff:192.0.2.1", false},
		{"not over the limit of a /64", Limits{9, 2, nil, nil},
			[]string{"2001:db8::1", "2001:db8::2"}, "2001:db8::ffff:3", false},
		{"from another /64", Limits{9, 2, nil, nil},
			[]string{"2001:db8::1", "2001:db8::2"}, "2001:db8:0:1::1", true},
		{"from a proxy over the limit of an address", Limits{9, 2, proxies, nil},
			[]string{"10.0.0.1", "10.0.0.1", "10.0.0.1"}, "10.0.0.1", true},
		{"from another /64 within the limit of a /48", Limits{9, 2, nil, nil},
			[]string{"2001:db8::1", "2001:db8:0:1::1", "2001:db8:0:2::1"}, "2001:db8:0:3::1", true},
		{"not over the limit of a /48", Limits{9, 2, nil, nil},
			[]string{"2001:db8::1", "2001:db8:0:1::1", "2001:db8:0:2::1", "2001:db8:0:3::1"},
			"2001:db8:0:4::1", false},
		{"from another /48", Limits{9, 2, nil, nil},
			[]string{"2001:db8::1", "2001:db8:0:1::1", "2001:db8:0:2::1", "2001:db8:0:3::1"},
			"2001:db8:1::1", true},
		{"not over the total from a proxy", Limits{3, 2, proxies, nil},
			[]string{"10.0.0.1", "10.0.0.1", "10.0.0.1"}, "10.0.0.1", false},
	} {
		t.Run(row.name, func(t *testing.T) {
			withServer(t, readBody, row.limits, func(t *testing.T, l *pipes, _ func() error) {
				var conns []net.Conn
				for _, from := range row.open {
					c := l.dial(from)
					defer c.Close()
					conns = append(conns, c)
					if !alive(t, c) {
						t.Fatalf("%s was refused", from)
					}
				}
				c := l.dial(row.next)
				defer c.Close()
				if got := alive(t, c); got != row.want {
					t.Errorf("accepted: %v, want %v", got, row.want)
				}
				for _, c := range conns {
					if !alive(t, c) {
						t.Error("an older connection was closed")
					}
				}
				// A closed connection no longer counts.
				for _, c := range append(conns, c) {
					c.Close()
				}
				synctest.Wait()
				c = l.dial(row.next)
				defer c.Close()
				if !alive(t, c) {
					t.Error("closed connections still count")
				}
			})
		})
	}
}

func TestDisplacement(t *testing.T) {
	const (
		request = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"
		post    = "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\n"
		chunked = "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n"
		unread  = "GET /unread HTTP/1.1\r\nHost: a.test\r\n\r\n"
	)
	limits := Limits{3, 3, []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, nil}
	// Each of the three open connections sends its text, one second after the previous one.
	for _, row := range []struct {
		name   string
		from   string // of the open connections
		texts  [3]string
		closed int // which one is displaced; -1 if the new connection is refused
	}{
		{"the oldest that has sent nothing", "192.0.2.1", [3]string{"", "", ""}, 0},
		{"the oldest with half a header", "192.0.2.1", [3]string{"GET / HT", "GET", "GET / "}, 0},
		{"not one whose request is answered", "192.0.2.1", [3]string{request, "GET / HT", ""}, 1},
		{"the oldest with half a body", "192.0.2.1", [3]string{post + "x", post, post + "xx"}, 0},
		{"one with half a body in chunks", "192.0.2.1",
			[3]string{request, chunked + "3\r\nxyz\r\n", request}, 1},
		{"not one whose body is complete", "192.0.2.1", [3]string{post + "xyz", post + "xx", ""}, 1},
		{"not one whose chunks are complete", "192.0.2.1",
			[3]string{chunked + "3\r\nxyz\r\n0\r\n\r\n", post + "xx", ""}, 1},
		{"the oldest that does not read the answer", "192.0.2.1", [3]string{request, unread, unread}, 1},
		{"the new one when all are answered", "192.0.2.1", [3]string{request, request, request}, -1},
		{"the new one when a proxy has all", "10.0.0.1", [3]string{"", "", ""}, -1},
	} {
		t.Run(row.name, func(t *testing.T) {
			var slow chan bool
			handler := func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/unread" {
					w.Write(make([]byte, 64<<10))
				} else if _, err := io.ReadAll(r.Body); err == nil {
					<-slow
				}
			}
			withServer(t, handler, limits, func(t *testing.T, l *pipes, _ func() error) {
				slow = make(chan bool)
				var conns []net.Conn
				for _, text := range row.texts {
					c := l.dial(row.from)
					defer c.Close()
					conns = append(conns, c)
					io.WriteString(c, text)
					time.Sleep(time.Second)
				}
				late := l.dial("192.0.2.9")
				defer late.Close()
				synctest.Wait()
				if got := isClosed(late); got != (row.closed < 0) {
					t.Errorf("the new connection is closed: %v", got)
				}
				for i, c := range conns {
					if got := isClosed(c); got != (i == row.closed) {
						t.Errorf("connection %d is closed: %v", i, got)
					}
				}
				close(slow)
			})
		})
	}
	t.Run("an idle one", func(t *testing.T) {
		withServer(t, readBody, limits, func(t *testing.T, l *pipes, _ func() error) {
			var conns []net.Conn
			for range 3 {
				c := l.dial("192.0.2.1")
				defer c.Close()
				conns = append(conns, c)
			}
			for _, i := range []int{1, 0, 2} { // in this order, they become idle
				io.WriteString(conns[i], request)
				response, err := http.ReadResponse(bufio.NewReader(conns[i]), nil)
				if err != nil {
					t.Fatal(err)
				}
				io.Copy(io.Discard, response.Body)
				synctest.Wait()
			}
			defer l.dial("192.0.2.9").Close()
			synctest.Wait()
			for i, c := range conns {
				if got := isClosed(c); got != (i == 1) {
					t.Errorf("connection %d is closed: %v", i, got)
				}
			}
		})
	})
}

// TestDisplacementOfSlowBodies opens more connections than the limit allows. Each sends its body
// byte by byte. At the same time, another client must get its page.
func TestDisplacementOfSlowBodies(t *testing.T) {
	withServer(t, readBody, Limits{20, 10, nil, nil}, func(t *testing.T, l *pipes, _ func() error) {
		var sending sync.WaitGroup
		for i := range 30 {
			c := l.dial("192.0.2." + string('1'+rune(i/10)))
			defer c.Close()
			sending.Go(func() {
				io.WriteString(c, "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 500\r\n\r\n")
				for range 5 {
					if _, err := c.Write([]byte{'x'}); err != nil {
						return
					}
					time.Sleep(time.Second)
				}
			})
		}
		for range 10 {
			synctest.Wait()
			c := l.dial("198.51.100.1")
			synctest.Wait()
			if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"); err != nil {
				t.Fatal("refused:", err)
			}
			response, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Fatal("not answered:", err)
			}
			io.Copy(io.Discard, response.Body)
			c.Close()
		}
		sending.Wait()
	})
}

func TestLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var lines bytes.Buffer
		pipes := newPipes()
		defer pipes.Close()
		l := limit(pipes, Limits{2, 1, nil, nil}, slog.New(slog.NewTextHandler(&lines, nil)))
		go func() {
			for {
				if _, err := l.Accept(); err != nil {
					return
				}
			}
		}()
		check := func(want ...string) {
			t.Helper()
			synctest.Wait()
			got := strings.Split(strings.TrimSpace(lines.String()), "\n")
			lines.Reset()
			if strings.Join(got, "") == "" {
				got = nil
			}
			if len(got) != len(want) {
				t.Fatalf("logged %q, want %q", got, want)
			}
			for i := range got {
				if !strings.Contains(got[i], "level=WARN") || !strings.HasSuffix(got[i], want[i]) {
					t.Errorf("logged %q, want %q", got[i], want[i])
				}
			}
		}
		open := func(from ...string) {
			for _, f := range from {
				pipes.dial(f)
			}
		}
		open("192.0.2.1", "192.0.2.2")
		check()
		open("192.0.2.2")
		check("displaced=0 refused=1")
		open("192.0.2.3", "192.0.2.4", "192.0.2.4")
		time.Sleep(59 * time.Second)
		open("192.0.2.4")
		check()
		time.Sleep(time.Second)
		open("192.0.2.5")
		check("displaced=3 refused=2")
	})
}

// isClosed reports whether the server has closed a connection. It returns at once.
func isClosed(c net.Conn) bool {
	c.SetReadDeadline(time.Now())
	_, err := c.Read(make([]byte, 1))
	return errors.Is(err, io.EOF)
}

func TestRelease(t *testing.T) {
	l := limit(newPipes(), Limits{Connections: 3, ConnectionsPerAddress: 2}, discard)
	a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	for range 1000 {
		var conns []*limitedConn
		var exchanges []*exchange
		for _, addr := range []netip.Addr{a, b, a} {
			client, conn := net.Pipe()
			defer client.Close()
			c := &limitedConn{Conn: conn, listener: l, addr: addr}
			if _, ok := l.acquire(c); !ok {
				t.Fatal("refused")
			}
			e := &exchange{conn: c}
			e.received()
			conns, exchanges = append(conns, c), append(exchanges, e)
		}
		if _, ok := l.acquire(&limitedConn{listener: l, addr: netip.MustParseAddr("192.0.2.3")}); ok {
			t.Fatal("a fourth connection was accepted")
		}
		conns[0].restartWait()
		for i, c := range conns {
			c.Close()
			c.Close() // a connection that is closed twice is released once
			c.restartWait()
			exchanges[i].done()
		}
	}
	if l.total != 0 || len(l.open) != 0 || l.conns.Len() != 0 {
		t.Errorf("%d connections and %d networks are counted, %d are listed", l.total, len(l.open), l.conns.Len())
	}
}

func TestShutdown(t *testing.T) {
	work := func(d time.Duration) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(d)
			io.WriteString(w, "done")
		}
	}
	t.Run("finishes a request in progress", func(t *testing.T) {
		withServer(t, work(9*time.Second), noLimits, func(t *testing.T, l *pipes, stop func() error) {
			busy, idle := l.dial("192.0.2.1"), l.dial("192.0.2.2")
			defer busy.Close()
			defer idle.Close()
			io.WriteString(busy, "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
			synctest.Wait() // the handler runs
			ended := make(chan error, 1)
			go func() { ended <- stop() }()
			back, err := io.ReadAll(busy)
			if err != nil || !bytes.HasSuffix(back, []byte("done")) ||
				!bytes.Contains(back, []byte("Connection: close")) {
				t.Errorf("the answer is %q (%v)", back, err)
			}
			if err := <-ended; err != nil {
				t.Errorf("the server ended with %v", err)
			}
			select {
			case l.conns <- idle:
				t.Error("a connection was accepted after the shutdown")
			case <-l.done:
			}
		})
	})
	t.Run("gives up after the drain time", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			l, ended := newPipes(), make(chan error, 1)
			go func() { ended <- Serve(ctx, l, work(time.Minute), noLimits, discard) }()
			c := l.dial("192.0.2.1")
			defer c.Close()
			io.WriteString(c, "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
			synctest.Wait()
			start := time.Now()
			cancel()
			if err := <-ended; !errors.Is(err, context.DeadlineExceeded) &&
				(err == nil || !strings.Contains(err.Error(), "drain time")) {
				t.Errorf("the server ended with %v", err)
			}
			if got := time.Since(start); got != DrainTime {
				t.Errorf("the end took %v", got)
			}
			time.Sleep(time.Minute) // until the handler has returned
		})
	})
	t.Run("returns the error of the listener", func(t *testing.T) {
		l := newPipes()
		l.Close()
		err := Serve(t.Context(), l, work(0), noLimits, discard)
		if !errors.Is(err, net.ErrClosed) {
			t.Errorf("the server ended with %v", err)
		}
	})
}
