package world

import (
	"net/netip"
	"sync/atomic"

	"dialtone/internal/account"
)

var origins atomic.Uint32

// NewOrigin returns an address that it has not returned before, so that no limit by address applies.
func NewOrigin() account.Origin {
	n := origins.Add(1)
	return account.Origin{Addr: netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)})}
}
