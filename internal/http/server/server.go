// Package server runs an HTTP server on a listener with bounded connections and time limits. The
// public listener and the operators' one use it alike.
//
// It guarantees that no client can hold a connection for long without reading or writing, that one
// client cannot use up all connections, and that a shutdown lets the requests in progress finish,
// for at most DrainTime.
//
// It does not terminate TLS: a reverse proxy does that.
package server

import (
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
	// ConnectionsPerAddress holds for an IPv4 address or an IPv6 /64. Trusted proxies are exempt.
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
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(limit(l, limits)) }()
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
func limit(l net.Listener, limits Limits) net.Listener {
	return &limitedListener{Listener: l, limits: limits, open: make(map[netip.Addr]int)}
}

type limitedListener struct {
	net.Listener
	limits Limits

	mu    sync.Mutex
	total int
	open  map[netip.Addr]int // by client
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
		addr := peer.Addr().Unmap().WithZone("")
		if l.acquire(addr) {
			release := sync.OnceFunc(func() { l.release(addr) })
			return &limitedConn{Conn: c, release: release}, nil
		}
		c.Close()
	}
}

func (l *limitedListener) acquire(addr netip.Addr) bool {
	proxy := slices.ContainsFunc(l.limits.TrustedProxies, func(p netip.Prefix) bool {
		return p.Contains(addr)
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	c := client(addr)
	if l.total >= l.limits.Connections || !proxy && l.open[c] >= l.limits.ConnectionsPerAddress {
		return false
	}
	l.total++
	l.open[c]++
	return true
}

func (l *limitedListener) release(addr netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.total--
	c := client(addr)
	if l.open[c]--; l.open[c] == 0 {
		delete(l.open, c)
	}
}

// client is the part of an address that stands for one client: an IPv4 address, or an IPv6 /64,
// within which addresses are free.
func client(addr netip.Addr) netip.Addr {
	if addr.Is4() {
		return addr
	}
	return netip.PrefixFrom(addr, 64).Masked().Addr()
}

type limitedConn struct {
	net.Conn
	release func()
}

func (c *limitedConn) Close() error {
	c.release()
	return c.Conn.Close()
}
