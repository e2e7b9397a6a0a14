package smtptest

import (
	"net"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// ServFail is the only record of a name for which the server answers SERVFAIL.
const ServFail = "SERVFAIL"

// DNS starts a DNS server with TXT records and returns its address. A text that is an IPv4 address is an A
// record too. The server stops with the test.
// A name that is not in records, or has a nil list, does not exist.
func DNS(t testing.TB, records map[string][]string) string {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go func() {
		b := make([]byte, 4096)
		for {
			n, from, err := conn.ReadFrom(b)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(b[:n]) != nil || len(m.Questions) != 1 {
				continue
			}
			q := m.Questions[0]
			texts := records[strings.TrimSuffix(strings.ToLower(q.Name.String()), ".")]
			m.Header.Response, m.Header.Authoritative, m.Header.RecursionAvailable = true, true, true
			m.Additionals = nil
			switch {
			case len(texts) == 1 && texts[0] == ServFail:
				m.Header.RCode = dnsmessage.RCodeServerFailure
			case texts == nil:
				m.Header.RCode = dnsmessage.RCodeNameError
			case q.Type == dnsmessage.TypeA:
				for _, text := range texts {
					if addr, err := netip.ParseAddr(text); err == nil && addr.Is4() {
						m.Answers = append(m.Answers, dnsmessage.Resource{
							Header: dnsmessage.ResourceHeader{
								Name: q.Name, Type: q.Type, Class: dnsmessage.ClassINET, TTL: 60,
							},
							Body: &dnsmessage.AResource{A: addr.As4()},
						})
					}
				}
			case q.Type == dnsmessage.TypeTXT:
				for _, text := range texts {
					var parts []string
					for len(text) > 255 {
						parts, text = append(parts, text[:255]), text[255:]
					}
					m.Answers = append(m.Answers, dnsmessage.Resource{
						Header: dnsmessage.ResourceHeader{
							Name: q.Name, Type: dnsmessage.TypeTXT, Class: dnsmessage.ClassINET, TTL: 60,
						},
						Body: &dnsmessage.TXTResource{TXT: append(parts, text)},
					})
				}
			}
			out, err := m.Pack()
			if err == nil {
				conn.WriteTo(out, from)
			}
		}
	}()
	return conn.LocalAddr().String()
}
