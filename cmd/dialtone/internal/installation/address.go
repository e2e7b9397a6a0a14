package installation

import (
	"crypto/sha256"
	"encoding/hex"
	"net"
	"net/netip"

	"dialtone/internal/datadir"
)

// ServerID returns the identifier by which /readyz identifies the server of a data directory: a hash that does not
// reveal the name of the server. It is empty if no server has run there, or its name cannot be read.
func ServerID(dir datadir.Dir) string {
	name, err := dir.Node()
	if err != nil {
		return ""
	}
	sum := sha256.Sum256([]byte("readyz of " + name))
	return hex.EncodeToString(sum[:8])
}

// DialAddress returns the address to dial from this machine to reach a listener. It is a loopback address for a
// listener on all addresses.
func DialAddress(listen string) string {
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
