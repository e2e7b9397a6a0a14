package web

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

// Limits bound what connections may take.
type Limits struct {
	Connections           int // in all
	ConnectionsPerAddress int // of one IPv4 address or IPv6 /64; a trusted proxy has no such bound
	TrustedProxies        []netip.Prefix
}

// DrainTime is how long Serve waits for answers that are under way.
const DrainTime = 10 * time.Second

// Serve answers on the listener until ctx ends, then lets what is under way finish, for at most DrainTime. Slow senders
// and slow readers are cut off.
func Serve(ctx context.Context, l net.Listener, h http.Handler, limits Limits, log *slog.Logger) error {
	server := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      15 * time.Second,
		IdleTimeout:       60 * time.Second,
		MaxHeaderBytes:    16 << 10,
		// OPTIONS * goes through the gates too.
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
		err = errors.Join(errors.New("some requests took longer than the drain"), server.Close())
	}
	return err
}

// limit closes connections beyond the limits at once: a client that is turned away knows it, and files stay for the store.
func limit(l net.Listener, limits Limits) net.Listener {
	return &boundedListener{Listener: l, limits: limits, open: make(map[netip.Addr]int)}
}

type boundedListener struct {
	net.Listener
	limits Limits

	mu    sync.Mutex
	total int
	open  map[netip.Addr]int
}

func (l *boundedListener) Accept() (net.Conn, error) {
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
		if l.enter(addr) {
			return &boundedConn{Conn: c, leave: sync.OnceFunc(func() { l.leave(addr) })}, nil
		}
		c.Close()
	}
}

func (l *boundedListener) enter(addr netip.Addr) bool {
	proxy := slices.ContainsFunc(l.limits.TrustedProxies, func(p netip.Prefix) bool { return p.Contains(addr) })
	l.mu.Lock()
	defer l.mu.Unlock()
	client := party(addr)
	if l.total >= l.limits.Connections || !proxy && l.open[client] >= l.limits.ConnectionsPerAddress {
		return false
	}
	l.total++
	l.open[client]++
	return true
}

// party is what one client is taken to hold: an IPv4 address, or an IPv6 /64, whose addresses cost nothing.
func party(addr netip.Addr) netip.Addr {
	if addr.Is4() {
		return addr
	}
	return netip.PrefixFrom(addr, 64).Masked().Addr()
}

func (l *boundedListener) leave(addr netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.total--
	client := party(addr)
	if l.open[client]--; l.open[client] == 0 {
		delete(l.open, client)
	}
}

type boundedConn struct {
	net.Conn
	leave func()
}

func (c *boundedConn) Close() error {
	c.leave()
	return c.Conn.Close()
}
