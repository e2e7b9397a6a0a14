package web

import (
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"dialtone/internal/fault"
	"dialtone/internal/http/server"
	"dialtone/internal/tenant"
)

// clientAddr returns the address of the client: the TCP peer, or the address that a trusted proxy
// reports.
func (s *Site) clientAddr(r *http.Request) netip.Addr {
	addr := server.Peer(r)
	if !addr.IsValid() {
		return addr
	}
	headers := r.Header.Values("X-Forwarded-For")
	client, unread := forwardedFor(addr, headers, s.deps.TrustedProxies)
	switch {
	case unread != "":
		s.warnings.warn(s.deps.Log, "forwarded address unreadable; the proxy counts as the client",
			"peer", addr, "value", unread[:min(len(unread), 100)])
	case len(headers) > 0 && !trusts(s.deps.TrustedProxies, addr):
		s.warnings.warn(s.deps.Log, "forwarded address ignored; the peer counts as the client "+
			"because it is not in trusted_proxies", "peer", addr)
		// Anybody on the Internet can send the header; the operator's proxy has a private address.
		if addr.IsLoopback() || addr.IsPrivate() {
			s.untrusted.Store(&untrusted{addr, time.Now()})
		}
	}
	return client
}

// untrusted is a peer whose forwarded address was ignored, and when that last happened.
type untrusted struct {
	peer netip.Addr
	at   time.Time
}

// UntrustedProxy returns a peer with a loopback or private address whose forwarded address was
// recently ignored, if there is one. It is probably a proxy that is missing in TrustedProxies: then
// all visitors share its limits.
func (s *Site) UntrustedProxy(within time.Duration) (netip.Addr, bool) {
	u := s.untrusted.Load()
	if u == nil || time.Since(u.at) > within {
		return netip.Addr{}, false
	}
	return u.peer, true
}

// forwarding records when trusted proxies last sent requests with and without a client's address.
type forwarding struct {
	proxies sync.Map     // of *forwarded, by netip.Addr
	known   atomic.Int64 // how many proxies are in the map
}

// maxForwarding limits the proxies that are remembered. A whole network may be trusted.
const maxForwarding = 64

// forwarded are the times of a proxy's last requests with and without X-Forwarded-For, in nanoseconds since 1970.
type forwarded struct{ with, without atomic.Int64 }

// note records a request to a tenant. Requests to a loopback host come from this machine, not from
// a proxy.
func (f *forwarding) note(r *request, trusted []netip.Prefix) {
	if len(trusted) == 0 || tenant.Loopback(r.tenant.Host) {
		return
	}
	addr := server.Peer(r.Request)
	if !trusts(trusted, addr) {
		return
	}
	v, ok := f.proxies.Load(addr)
	if !ok {
		if f.known.Add(1) > maxForwarding {
			f.known.Add(-1)
			return
		}
		if v, ok = f.proxies.LoadOrStore(addr, new(forwarded)); ok {
			f.known.Add(-1)
		}
	}
	at := &v.(*forwarded).without
	if r.Header.Get("X-Forwarded-For") != "" {
		at = &v.(*forwarded).with
	}
	at.Store(time.Now().UnixNano())
}

// SilentProxy returns a trusted proxy that recently sent requests, but none with a client's
// address, if there is one: then all visitors share its limits.
func (s *Site) SilentProxy(within time.Duration) (silent netip.Addr, found bool) {
	since := time.Now().Add(-within).UnixNano()
	s.forwarding.proxies.Range(func(addr, times any) bool {
		f := times.(*forwarded)
		if f.without.Load() > since && f.with.Load() <= since {
			silent, found = addr.(netip.Addr), true
		}
		return !found
	})
	return silent, found
}

// warnings logs each message at most once an hour, however many requests cause it.
type warnings struct{ last sync.Map } // of *atomic.Int64, by message

func (w *warnings) warn(log *slog.Logger, message string, args ...any) {
	v, _ := w.last.LoadOrStore(message, new(atomic.Int64))
	last, now := v.(*atomic.Int64), time.Now().Unix()
	if before := last.Load(); now-before >= 3600 && last.CompareAndSwap(before, now) {
		log.Warn(message, args...)
	}
}

// forwardedFor reads the X-Forwarded-For headers from the right, where the nearest proxy appends,
// as long as the addresses are trusted proxies. The first other address is the client. Empty
// elements are skipped. An element that is not an address ends the search; the proxy that sent it
// then counts as the client, and unread is the element.
func forwardedFor(
	peer netip.Addr, headers []string, trusted []netip.Prefix,
) (client netip.Addr, unread string) {
	if !trusts(trusted, peer) {
		return peer, ""
	}
	client = peer
	hops := strings.Split(strings.Join(headers, ","), ",")
	for i := len(hops) - 1; i >= 0; i-- {
		text := strings.TrimSpace(hops[i])
		if text == "" {
			continue
		}
		hop, ok := parseHop(text)
		if !ok {
			return client, text
		}
		client = hop
		if !trusts(trusted, client) {
			break
		}
	}
	return client, ""
}

// trusts reports whether an address belongs to a trusted proxy.
func trusts(trusted []netip.Prefix, addr netip.Addr) bool {
	return slices.ContainsFunc(trusted, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// parseHop parses an address as proxies write it: in quotes, in brackets, with a port.
func parseHop(s string) (netip.Addr, bool) {
	if inner, ok := strings.CutPrefix(s, `"`); ok {
		if s, ok = strings.CutSuffix(inner, `"`); !ok {
			return netip.Addr{}, false
		}
	}
	if with, err := netip.ParseAddrPort(s); err == nil {
		return with.Addr().Unmap().WithZone(""), true
	}
	if inner, ok := strings.CutPrefix(s, "["); ok {
		if s, ok = strings.CutSuffix(inner, "]"); !ok {
			return netip.Addr{}, false
		}
		hop, err := netip.ParseAddr(s)
		return hop.WithZone(""), err == nil && hop.Is6()
	}
	hop, err := netip.ParseAddr(s)
	return hop.Unmap().WithZone(""), err == nil
}

// sameSite refuses a request that a browser made for another site's page, unless the tenant lists
// that site.
func sameSite(r *request) error {
	origin := r.Header.Get("Origin")
	if origin != "" && slices.Contains(r.tenant.Origins, strings.ToLower(origin)) {
		return nil
	}
	return ownPage(r)
}

// ownPage refuses a request that a browser made for a page of another origin, listed or not. It is
// for requests that rely on the session cookie, which a browser also sends for pages of sibling
// hosts. Programs send neither of the two headers.
func ownPage(r *request) error {
	origin := r.Header.Get("Origin")
	switch site := r.Header.Get("Sec-Fetch-Site"); site {
	case "same-origin", "none":
		return nil
	case "":
		if origin == "" || ownOrigin(r.tenant, origin, r.Host) {
			return nil
		}
	}
	return fault.New(fault.Invalid, "the request was made by the page of another site; open this platform's own page")
}

// ownOrigin compares an origin with the public URL and with the Host, which is known to be the
// tenant's: a developer may reach the server through a forwarded port. A page that was loaded
// without TLS may come from anybody.
func ownOrigin(t *tenant.Tenant, origin, host string) bool {
	if origin == t.PublicURL {
		return true
	}
	u, err := url.Parse(origin)
	return err == nil && u.Host == host && (u.Scheme == "https" || !t.Secure())
}

// allowOrigin permits pages of listed origins to read the response (CORS), without credentials.
func (s *Site) allowOrigin(h http.Header, r *request) {
	if len(r.tenant.Origins) == 0 {
		return
	}
	h.Set("Vary", "Origin")
	origin := r.Header.Get("Origin")
	if !slices.Contains(r.tenant.Origins, strings.ToLower(origin)) {
		return
	}
	h.Set("Access-Control-Allow-Origin", origin)
	h.Set("Access-Control-Expose-Headers", "Retry-After, WWW-Authenticate, "+ruleHeader)
	h.Set("Cross-Origin-Resource-Policy", "cross-origin")
	if r.Method == http.MethodOptions {
		h.Set("Access-Control-Allow-Methods", "GET, POST")
		h.Set("Access-Control-Allow-Headers", "Content-Type, Authorization, X-Requested-With, "+codeHeader)
		h.Set("Access-Control-Max-Age", "600")
	}
}
