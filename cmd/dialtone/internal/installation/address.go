package installation

import (
	"crypto/sha256"
	"encoding/hex"
	"net"
	"net/netip"

	"dialtone/internal/datadir"
)

// ServerID returns what /readyz says of the server of a data directory, or "" if no server has run there, or the name
// of the server cannot be read. It does not give the name away.
func ServerID(dir datadir.Dir) string {
	name, err := dir.Node()
	if err != nil {
		return ""
	}
	sum := sha256.Sum256([]byte("readyz of " + name))
	return hex.EncodeToString(sum[:8])
}

// Reachable returns an address at which this machine reaches a listener: loopback for one on all addresses.
func Reachable(listen string) string {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return listen
	}
	ip, err := netip.ParseAddr(host)
	switch {
	case host == "" || err == nil && ip.IsUnspecified() && ip.Is4():
		host = "127.0.0.1"
	case err == nil && ip.IsUnspecified():
		host = "::1"
	}
	return net.JoinHostPort(host, port)
}
