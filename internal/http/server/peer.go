package server

import (
	"net/http"
	"net/netip"
)

// Peer returns the address of the TCP peer of a request, without a zone and never as an IPv4 address
// that is mapped into IPv6. It is not valid if the connection is not TCP. Proxies may be peers: Peer
// reads no header.
func Peer(r *http.Request) netip.Addr { return peerOf(r.RemoteAddr) }

// peerOf returns the address in a text that consists of address and port, in the form of Peer.
func peerOf(remote string) netip.Addr {
	peer, _ := netip.ParseAddrPort(remote)
	return peer.Addr().Unmap().WithZone("")
}
