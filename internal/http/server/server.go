// Package server runs an HTTP server on a listener with bounded connections and time limits. Both
// the public and the operators' listener use it.
//
// It guarantees that no client can hold a connection for long without reading or writing, that one
// client cannot use up all connections, and that a shutdown gives requests in progress DrainTime to
// finish. When all connections are in use, a new one displaces the one that has kept the server
// waiting longest: for a request, for the rest of its header or body, or for the client to read the
// response. So clients that send half a request, or that keep their connection open afterwards,
// cannot lock others out. Connections of trusted proxies are not displaced. A log line says how
// many connections were displaced or refused, at most once a minute.
//
// ServeTLS does the same for a listener with TLS. A connection counts from the moment it is
// accepted, and a handshake must finish within 5 seconds, so that unfinished handshakes cannot hold
// more than other waiting connections. An HTTP/2 connection counts as waiting while no handler is
// computing a response for it.
//
// It does not handle certificates: the caller's tls.Config chooses them.
package server

import (
	"container/list"
	"context"
	"crypto/tls"
	"errors"
	"io"
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
	// ConnectionsPerAddress is the limit for an IPv4 address or an IPv6 /64. An IPv6 /48 may have
	// twice as many. Trusted proxies are exempt.
	ConnectionsPerAddress int
	TrustedProxies        []netip.Prefix
	// Counts counts the connections, unless it is nil.
	Counts *Connections
}

// DrainTime is how long Serve waits for requests in progress before it closes their connections.
const DrainTime = 10 * time.Second

// Serve answers requests on the listener until ctx is done, and then shuts down. The contexts of
// requests inherit the values of ctx. It returns nil after a clean shutdown, an error if requests
// were still in progress after DrainTime, and the listener's error if that fails.
func Serve(
	ctx context.Context, l net.Listener, h http.Handler, limits Limits, log *slog.Logger,
) error {
	return ServeTLS(ctx, l, nil, h, limits, log)
}

// maxStreams is how many concurrent requests a client may send over one connection.
const maxStreams = 32

// ServeTLS is like Serve for connections with TLS, over which clients may use HTTP/2. If config is
// nil, it is equivalent to Serve.
func ServeTLS(
	ctx context.Context, l net.Listener, config *tls.Config, h http.Handler, limits Limits, log *slog.Logger,
) error {
	limited := limit(l, limits, log)
	server := &http.Server{
		TLSConfig:         config,
		Handler:           limited.handler(h),
		BaseContext:       func(net.Listener) context.Context { return context.WithoutCancel(ctx) },
		ConnContext:       withConn,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      15 * time.Second,
		IdleTimeout:       60 * time.Second,
		MaxHeaderBytes:    16 << 10,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams:          maxStreams,
			MaxReceiveBufferPerConnection: 256 << 10,
			MaxReceiveBufferPerStream:     64 << 10,
			WriteByteTimeout:              15 * time.Second,
		},
		// The handler answers OPTIONS * itself.
		DisableGeneralOptionsHandler: true,
		ErrorLog:                     slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	failed := make(chan error, 1)
	go func() {
		if config == nil {
			failed <- server.Serve(limited)
		} else {
			failed <- server.ServeTLS(limited, "", "")
		}
	}()
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
// refused client notices immediately, and file descriptors remain for the store.
func limit(l net.Listener, limits Limits, log *slog.Logger) *limitedListener {
	if limits.Counts == nil {
		limits.Counts = new(Connections)
	}
	return &limitedListener{
		Listener: l, limits: limits, open: make(map[netip.Prefix]int), losses: losses{log: log},
	}
}

type limitedListener struct {
	net.Listener
	limits Limits
	losses losses // used only by Accept

	mu    sync.Mutex
	total int
	open  map[netip.Prefix]int // by network
	// conns contains the counted connections, except those of proxies. Connections whose client the
	// server is waiting for may be closed to make room; among these, the one that has waited
	// longest comes first.
	conns list.List
}

// limitedConn is an accepted connection.
type limitedConn struct {
	net.Conn
	listener *limitedListener
	addr     netip.Addr
	proxy    bool // never changes after acquire

	// The listener's mutex guards the other fields.
	counted bool          // until it is closed
	place   *list.Element // in listener.conns, or nil
	working int           // requests that have arrived completely and are being handled
	writing int           // calls of Write that have not returned
}

// waiting reports whether the server is waiting for the client.
func (c *limitedConn) waiting() bool { return c.working == 0 || c.writing > 0 }

func (l *limitedListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		peer := peerOf(c.RemoteAddr().String())
		if !peer.IsValid() { // not TCP
			return c, nil
		}
		accepted := &limitedConn{Conn: c, listener: l, addr: peer}
		displaced, ok := l.acquire(accepted)
		if displaced != nil {
			displaced.Conn.Close()
			l.losses.displaced++
			l.limits.Counts.displaced.Add(1)
		}
		if !ok {
			c.Close()
			l.losses.refused++
			l.limits.Counts.refused.Add(1)
		}
		l.losses.report()
		if ok {
			return accepted, nil
		}
	}
}

// acquire counts a connection and reports whether it is within the limits. If all connections are
// in use, it displaces a waiting one, which the caller must close.
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
		for e := l.conns.Front(); e != nil && displaced == nil; e = e.Next() {
			if other := e.Value.(*limitedConn); other.waiting() {
				displaced = other
			}
		}
		if displaced == nil {
			return nil, false
		}
		l.remove(displaced)
	}
	l.total++
	l.limits.Counts.open.Add(1)
	l.limits.Counts.accepted.Add(1)
	for _, network := range networks(c.addr) {
		l.open[network]++
	}
	c.counted = true
	// A proxy may be sending a request on an idle connection. If we closed it, the visitor would
	// get an error.
	if !c.proxy {
		c.place = l.conns.PushBack(c)
	}
	return displaced, true
}

// remove stops counting a connection. It may be called repeatedly.
func (l *limitedListener) remove(c *limitedConn) {
	if !c.counted {
		return
	}
	c.counted = false
	if c.place != nil {
		l.conns.Remove(c.place)
		c.place = nil
	}
	l.total--
	l.limits.Counts.open.Add(-1)
	for _, network := range networks(c.addr) {
		if l.open[network]--; l.open[network] == 0 {
			delete(l.open, network)
		}
	}
}

// handler wraps h for requests on the listener's connections. A connection counts as waiting,
// except while h has the whole request and computes the response.
func (l *limitedListener) handler(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, ok := r.Context().Value(connKey{}).(*limitedConn)
		if !ok || c.proxy {
			h.ServeHTTP(w, r)
			return
		}
		e := &exchange{conn: c}
		defer e.done()
		if r.ContentLength == 0 {
			e.received()
		} else {
			c.restartWait()
			r.Body = &body{r.Body, e}
		}
		h.ServeHTTP(w, r)
	})
}

type connKey struct{}

// withConn is the ConnContext hook of http.Server. It makes the connection available to the
// handler.
func withConn(ctx context.Context, c net.Conn) context.Context {
	if encrypted, ok := c.(*tls.Conn); ok {
		c = encrypted.NetConn()
	}
	return context.WithValue(ctx, connKey{}, c)
}

// exchange is a request on a connection, and its response.
type exchange struct {
	conn *limitedConn

	// The listener's mutex guards the other fields.
	working bool // it is one of conn.working
	ended   bool
}

// body is the body of a request. When it has been read to the end, the exchange no longer waits for
// the client.
type body struct {
	io.ReadCloser
	exchange *exchange
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) {
		b.exchange.received()
	}
	return n, err
}

// received records that the request has arrived completely.
func (e *exchange) received() {
	e.conn.listener.mu.Lock()
	defer e.conn.listener.mu.Unlock()
	if !e.working && !e.ended {
		e.working = true
		e.conn.working++
	}
}

// done records that the handler has returned.
func (e *exchange) done() {
	e.conn.listener.mu.Lock()
	defer e.conn.listener.mu.Unlock()
	e.ended = true
	if e.working {
		e.working = false
		e.conn.working--
	}
	e.conn.moveBack()
}

// restartWait records that the server starts to wait for the client now.
func (c *limitedConn) restartWait() {
	c.listener.mu.Lock()
	defer c.listener.mu.Unlock()
	c.moveBack()
}

// moveBack makes the connection the one with the shortest wait. The caller holds the mutex.
func (c *limitedConn) moveBack() {
	if c.place != nil {
		c.listener.conns.MoveToBack(c.place)
	}
}

// Write counts as waiting for the client, which may not be reading.
func (c *limitedConn) Write(p []byte) (int, error) {
	if c.proxy {
		return c.Conn.Write(p)
	}
	c.countWrites(1)
	defer c.countWrites(-1)
	return c.Conn.Write(p)
}

// countWrites records that a call of Write begins (n = 1) or has ended (n = -1).
func (c *limitedConn) countWrites(n int) {
	c.listener.mu.Lock()
	defer c.listener.mu.Unlock()
	c.writing += n
	if n > 0 {
		c.moveBack()
	}
}

func (c *limitedConn) Close() error {
	c.listener.mu.Lock()
	c.listener.remove(c)
	c.listener.mu.Unlock()
	return c.Conn.Close()
}

// losses counts the connections that were closed because of the limits, for the log.
type losses struct {
	log                *slog.Logger
	displaced, refused int // since the last report
	reported           time.Time
}

// report logs the losses, at most once a minute.
func (l *losses) report() {
	if l.displaced+l.refused == 0 || time.Since(l.reported) < time.Minute {
		return
	}
	l.log.Warn("connections closed at the limit", "displaced", l.displaced, "refused", l.refused)
	l.displaced, l.refused, l.reported = 0, 0, time.Now()
}

// siteFactor is the factor by which the limit of an IPv6 /48 exceeds ConnectionsPerAddress.
const siteFactor = 2

// networks returns the networks whose connections are counted together: an IPv4 address, or the
// IPv6 /64 and /48. Any host in a /64 can choose its address, and providers assign a whole /48 to
// one customer.
func networks(addr netip.Addr) []netip.Prefix {
	if addr.Is4() {
		return []netip.Prefix{netip.PrefixFrom(addr, 32)}
	}
	return []netip.Prefix{
		netip.PrefixFrom(addr, 64).Masked(), netip.PrefixFrom(addr, 48).Masked(),
	}
}
