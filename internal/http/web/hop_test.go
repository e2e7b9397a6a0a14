package web

import (
	"log/slog"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"dialtone/internal/tenant"
)

// TestParseHop covers the formats in which proxies write an address.
func TestParseHop(t *testing.T) {
	for text, want := range map[string]string{
		"192.0.2.1":              "192.0.2.1",
		"192.0.2.1:80":           "192.0.2.1",
		"::ffff:192.0.2.1":       "192.0.2.1",
		"[::ffff:192.0.2.1]:80":  "192.0.2.1",
		"2001:db8::1":            "2001:db8::1",
		"2001:db8::1%eth0":       "2001:db8::1",
		"[2001:db8::1]":          "2001:db8::1",
		"[2001:db8::1]:443":      "2001:db8::1",
		`"192.0.2.1"`:            "192.0.2.1",
		`"192.0.2.1:80"`:         "192.0.2.1",
		`"[2001:db8::1]"`:        "2001:db8::1",
		`"[2001:db8::1]:443"`:    "2001:db8::1",
		"":                       "",
		`"`:                      "",
		`""`:                     "",
		`"192.0.2.1`:             "",
		`192.0.2.1"`:             "",
		"[2001:db8::1":           "",
		"2001:db8::1]":           "",
		"[192.0.2.1]":            "",
		"[]":                     "",
		"192.0.2.1:x":            "",
		"192.0.2":                "",
		"unknown":                "",
		"_hidden":                "",
		"for=192.0.2.1":          "",
		"proxy.example.org":      "",
		"192.0.2.1 198.51.100.1": "",
	} {
		got, ok := parseHop(text)
		if ok != (want != "") || ok && got.String() != want {
			t.Errorf("%q: got %v, %v, want %q", text, got, ok, want)
		}
	}
}

func TestForwardedFor(t *testing.T) {
	proxy := netip.MustParseAddr("10.0.0.1")
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	for header, want := range map[string][2]string{ // the client, and what could not be read
		"":                            {"10.0.0.1", ""},
		"192.0.2.1":                   {"192.0.2.1", ""},
		"192.0.2.1,":                  {"192.0.2.1", ""},
		",192.0.2.1, ,":               {"192.0.2.1", ""},
		"198.51.100.1, 192.0.2.1":     {"192.0.2.1", ""},
		"192.0.2.1, 10.0.0.2":         {"192.0.2.1", ""},
		"[2001:db8::1], 10.0.0.2":     {"2001:db8::1", ""},
		`"[2001:db8::1]:443"`:         {"2001:db8::1", ""},
		"192.0.2.1, unknown":          {"10.0.0.1", "unknown"},
		"192.0.2.1, x, 10.0.0.2":      {"10.0.0.2", "x"},
		"unknown, 192.0.2.1":          {"192.0.2.1", ""},
		`192.0.2.1, "[2001:db8::1]x"`: {"10.0.0.1", `"[2001:db8::1]x"`},
	} {
		client, unread := forwardedFor(proxy, []string{header}, trusted)
		if client.String() != want[0] || unread != want[1] {
			t.Errorf("%q: client %v, unread %q, want %q", header, client, unread, want)
		}
	}
}

// TestForwardedWarnings checks that the log reports what is wrong with a proxy, and nothing else.
func TestForwardedWarnings(t *testing.T) {
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	for _, row := range []struct {
		name, peer, header string
		says               string // empty for no warning
	}{
		{"a proxy that is not trusted", "192.0.2.1:1", "198.51.100.1", "forwarded address ignored"},
		{"a header that cannot be read", "10.0.0.1:1", "unknown", "forwarded address unreadable"},
		{"a visitor without a proxy", "192.0.2.1:1", "", ""},
		{"a visitor through a trusted proxy", "10.0.0.1:1", "198.51.100.1", ""},
		{"a request by a trusted proxy itself", "10.0.0.1:1", "10.0.0.1", ""},
		{"an empty header of a trusted proxy", "10.0.0.1:1", " ", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			var log strings.Builder
			s := &Site{deps: Deps{TrustedProxies: trusted, Log: slog.New(slog.NewTextHandler(&log, nil))}}
			r := httptest.NewRequest("GET", "/", nil)
			r.RemoteAddr = row.peer
			if row.header != "" {
				r.Header.Set("X-Forwarded-For", row.header)
			}
			s.clientAddr(r)
			s.clientAddr(r) // within the same hour
			if got := log.String(); strings.Count(got, "msg=") != min(1, len(row.says)) ||
				!strings.Contains(got, row.says) {
				t.Errorf("the log is %q, want %q once", got, row.says)
			}
			// Anybody on the Internet may send the header.
			if peer, found := s.UntrustedProxy(time.Minute); found {
				t.Errorf("a proxy that is not trusted: %v", peer)
			}
		})
	}
}

// A peer in a private network that sends the header counts as a proxy for some time.
func TestUntrustedProxy(t *testing.T) {
	for _, peer := range []string{"127.0.0.1", "10.0.0.7", "::1", "fd00::7"} {
		s := &Site{deps: Deps{Log: slog.New(slog.DiscardHandler)}}
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = netip.AddrPortFrom(netip.MustParseAddr(peer), 1).String()
		s.clientAddr(r)
		if _, found := s.UntrustedProxy(time.Minute); found {
			t.Errorf("%s without a header", peer)
		}
		r.Header.Set("X-Forwarded-For", "198.51.100.1")
		s.clientAddr(r)
		if got, found := s.UntrustedProxy(time.Minute); !found || got.String() != peer {
			t.Errorf("got %v, %v, want %s", got, found, peer)
		}
		if _, found := s.UntrustedProxy(0); found {
			t.Errorf("%s: it is never forgotten", peer)
		}
	}
}

// A trusted proxy without the header is detected by its requests to a tenant, unless it has also
// sent the header.
func TestSilentProxy(t *testing.T) {
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	s := &Site{deps: Deps{TrustedProxies: trusted}}
	receive := func(peer, host, header string) {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = netip.AddrPortFrom(netip.MustParseAddr(peer), 1).String()
		if header != "" {
			r.Header.Set("X-Forwarded-For", header)
		}
		s.forwarding.note(&request{Request: r, tenant: &tenant.Tenant{Host: host}}, trusted)
	}
	want := func(want string) {
		t.Helper()
		got, found := s.SilentProxy(time.Minute)
		if found != (want != "") || found && got.String() != want {
			t.Errorf("got %v, %v, want %q", got, found, want)
		}
	}
	receive("192.0.2.1", "phone.test", "") // no proxy
	receive("10.0.0.7", "localhost", "")   // on this machine
	want("")
	receive("10.0.0.7", "phone.test", "198.51.100.1")
	receive("10.0.0.7", "phone.test", "") // such as a check of the proxy
	want("")
	receive("10.0.0.8", "phone.test", "")
	want("10.0.0.8")
	if _, found := s.SilentProxy(0); found {
		t.Error("it is never forgotten")
	}
	receive("10.0.0.8", "phone.test", "198.51.100.1")
	want("")
	for i := range 2 * maxForwarding {
		receive(netip.AddrFrom4([4]byte{10, 1, 0, byte(i)}).String(), "phone.test", "")
	}
	if n := s.forwarding.known.Load(); n != maxForwarding {
		t.Errorf("%d proxies are remembered", n)
	}
}
