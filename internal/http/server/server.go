// Package server runs an HTTP server on a listener with bounded connections and time limits. The
// public listener and the operators' one use it alike.
//
// It guarantees that no client can hold a connection for long without reading or writing, that one
// client cannot use up all connections, and that a shutdown lets the requests in progress finish,
// for at most DrainTime. When all connections are in use, a new one displaces the one that has kept
// the server waiting for the header of a request for longest. So clients that send half a request,
// or that stay after their answer, cannot keep others out. Connections of trusted proxies are not
// displaced.
//
// It does not terminate TLS: a reverse proxy does that.
package server

import (
	"container/list"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Limits bound the number of open connections.
type Limits struct {
	Connections int
	// ConnectionsPerAddress holds for an IPv4 address or an IPv6 /64. An IPv6 /48 may have twice as
	// many. Trusted proxies are exempt.
	ConnectionsPerAddress int
	TrustedProxies        []netip.Prefix
}

// DrainTime is how long Serve waits for requests in progress before it closes their connections.
const DrainTime = 10 * time.Second

// Serve answers requests on the listener until ctx is done, and then shuts down. It returns nil
// after a clean shutdown, an error if requests were still in progress after DrainTime, and the
// listener's error if that fails.
func Serve(
	ctx context.Context, l net.Listener, h http.Handler, limits Limits, log *slog.Logger,
) error {
	server := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      15 * time.Second,
		IdleTimeout:       60 * time.Second,
		MaxHeaderBytes:    16 << 10,
		// The handler answers OPTIONS * as well.
		DisableGeneralOptionsHandler: true,
		ErrorLog:                     slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	limited := limit(l, limits)
	server.ConnState = limited.connState
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(limited) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.Background(), DrainTime)
	defer cancel()
	err := server.Shutdown(drain)
	if errors.Is(err, context.DeadlineExceeded) {
		err = errors.Join(errors.New("requests were still in progress after the drain time"), server.Close())
	}
	return err
}

// limit returns a listener that closes connections over the limits as soon as they are accepted. A
// refused client notices at once, and file descriptors remain for the store.
func limit(l net.Listener, limits Limits) *limitedListener {
	return &limitedListener{Listener: l, limits: limits, open: make(map[netip.Prefix]int)}
}

type limitedListener struct {
	net.Listener
	limits Limits

	mu    sync.Mutex
	total int
	open  map[netip.Prefix]int // by network
	// waiting has the connections that may be closed for a new one: those from which the server
	// waits for the header of a request. The one that it has waited for longest is first.
	waiting list.List
}

// limitedConn is an accepted connection. Its fields are guarded by the listener's mutex.
type limitedConn struct {
	net.Conn
	listener *limitedListener
	addr     netip.Addr
	proxy    bool
	counted  bool          // until it is closed
	waiting  *list.Element // in listener.waiting, or nil
}

func (l *limitedListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		peer, err := netip.ParseAddrPort(c.RemoteAddr().String())
		if err != nil { // not TCP
			return c, nil
		}
		accepted := &limitedConn{Conn: c, listener: l, addr: peer.Addr().Unmap().WithZone("")}
		displaced, ok := l.acquire(accepted)
		if displaced != nil {
			displaced.Conn.Close()
		}
		if ok {
			return accepted, nil
		}
		c.Close()
	}
}

// acquire counts a connection and reports whether it is within the limits. If all connections are
// in use, it takes the place of one that waits, which the caller has to close.
func (l *limitedListener) acquire(c *limitedConn) (displaced *limitedConn, ok bool) {
	c.proxy = slices.ContainsFunc(l.limits.TrustedProxies, func(p netip.Prefix) bool {
		return p.Contains(c.addr)
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	if !c.proxy {
		for _, network := range networks(c.addr) {
			most := l.limits.ConnectionsPerAddress
			if network.Bits() == 48 && network.Addr().Is6() {
				most *= siteFactor
			}
			if l.open[network] >= most {
				return nil, false
			}
		}
	}
	if l.total >= l.limits.Connections {
		first := l.waiting.Front()
		if first == nil {
			return nil, false
		}
		displaced = first.Value.(*limitedConn)
		l.remove(displaced)
	}
	l.total++
	for _, network := range networks(c.addr) {
		l.open[network]++
	}
	c.counted = true
	l.wait(c)
	return displaced, true
}

// wait adds a connection from which the server waits for the header of a request.
func (l *limitedListener) wait(c *limitedConn) {
	// A proxy may be sending a request on an idle connection. If we closed it, the visitor would
	// get an error.
	if c.counted && !c.proxy && c.waiting == nil {
		c.waiting = l.waiting.PushBack(c)
	}
}

// remove no longer counts a connection. It may be repeated.
func (l *limitedListener) remove(c *limitedConn) {
	if !c.counted {
		return
	}
	c.counted = false
	l.noLongerWaits(c)
	l.total--
	for _, network := range networks(c.addr) {
		if l.open[network]--; l.open[network] == 0 {
			delete(l.open, network)
		}
	}
}

func (l *limitedListener) noLongerWaits(c *limitedConn) {
	if c.waiting != nil {
		l.waiting.Remove(c.waiting)
		c.waiting = nil
	}
}

// connState is a hook of http.Server, which calls it with StateActive when the header of a request
// is complete, and with StateIdle after the answer.
func (l *limitedListener) connState(conn net.Conn, state http.ConnState) {
	c, ok := conn.(*limitedConn)
	if !ok {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch state {
	case http.StateActive:
		l.noLongerWaits(c)
	case http.StateIdle:
		l.wait(c)
	}
}

func (c *limitedConn) Close() error {
	c.listener.mu.Lock()
	c.listener.remove(c)
	c.listener.mu.Unlock()
	return c.Conn.Close()
}

// siteFactor is how many times ConnectionsPerAddress an IPv6 /48 may have open.
const siteFactor = 2

// networks returns the networks whose connections are counted together: an IPv4 address, or the
// IPv6 /64 and /48. Within a /64 anybody can choose an address, and providers give a whole /48 to
// one customer.
func networks(addr netip.Addr) []netip.Prefix {
	if addr.Is4() {
		return []netip.Prefix{netip.PrefixFrom(addr, 32)}
	}
	return []netip.Prefix{
		netip.PrefixFrom(addr, 64).Masked(), netip.PrefixFrom(addr, 48).Masked(),
	}
}
