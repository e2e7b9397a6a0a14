package postgres_test

import (
	"bytes"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"dialtone/internal/secret"
	"dialtone/internal/test/postgrestest"
)

// proxy is a TCP proxy between a store and its server that can fail like a network.
type proxy struct {
	net.Listener
	target string

	mu            sync.Mutex
	blackhole     bool   // drop everything, in both directions
	thenBlackhole bool   // set blackhole with the next cut
	cutRequest    []byte // close the connection, once, instead of forwarding this text of the client
	cutResponse   []byte // the same for a text of the server
	conns         []net.Conn

	cuts atomic.Int32 // connections closed because of cutRequest and cutResponse
}

func newProxy(t *testing.T, target string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{Listener: l, target: target}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s, err := net.Dial("tcp", target)
			if err != nil {
				c.Close()
				continue
			}
			p.mu.Lock()
			p.conns = append(p.conns, c, s)
			p.mu.Unlock()
			all.Go(func() { p.forward(c, s, &p.cutRequest) })
			all.Go(func() { p.forward(s, c, &p.cutResponse) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		p.mu.Lock()
		for _, c := range p.conns {
			c.Close()
		}
		p.mu.Unlock()
		all.Wait()
	})
	return p
}

// forward forwards bytes until a connection ends, or has to be cut because of the text at cutAt.
func (p *proxy) forward(from, to net.Conn, cutAt *[]byte) {
	defer from.Close()
	defer to.Close()
	b := make([]byte, 64<<10)
	for {
		n, err := from.Read(b)
		if err != nil {
			return
		}
		p.mu.Lock()
		drop := p.blackhole
		cut := *cutAt != nil && bytes.Contains(b[:n], *cutAt)
		if cut {
			*cutAt = nil
			p.blackhole = p.blackhole || p.thenBlackhole
			p.cuts.Add(1)
		}
		p.mu.Unlock()
		switch {
		case cut:
			return
		case drop:
		default:
			if _, err := to.Write(b[:n]); err != nil {
				return
			}
		}
	}
}

// update runs do, which may change the fields of the proxy.
func (p *proxy) update(do func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	do()
}

// restore ends the black hole and closes all connections, because they have lost bytes.
func (p *proxy) restore() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.blackhole, p.thenBlackhole = false, false
	for _, c := range p.conns {
		c.Close()
	}
	p.conns = nil
}

// url returns the URL of a database through the proxy.
func (p *proxy) url(direct string) string {
	return strings.Replace(direct, p.target, p.Addr().String(), 1)
}

// committed is the server's answer to a COMMIT that succeeded.
var committed = []byte("COMMIT\x00")

// openBoth opens two stores on one new database with a tenant, one of them through a proxy.
func openBoth(t *testing.T, c *postgrestest.Cluster) (proxied, direct *testStore, p *proxy, tenantID int64) {
	t.Helper()
	url, ring := c.Database(t), secret.NewRing(noon)
	p = newProxy(t, c.Addr())
	direct = openStore(t, ring, "direct", url)
	proxied = openStore(t, ring, "proxied", p.url(url))
	return proxied, direct, p, addTenant(t, direct, "phone.test")
}
