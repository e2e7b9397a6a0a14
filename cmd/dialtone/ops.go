package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"golang.org/x/sys/unix"

	"dialtone/internal/config"
	"dialtone/internal/ops"
	"dialtone/internal/web"
)

// opsListener listens for machines that look after this one. Two servers may run on one machine without either of them
// having been told an address of its own: the second goes without.
func (s *server) opsListener() (net.Listener, error) {
	l, err := net.Listen("tcp", s.Ops.Listen)
	if errors.Is(err, unix.EADDRINUSE) && s.Ops.Listen == defaultOps() {
		s.log.Warn("another program has the port for /livez and /readyz, so there are none; choose one with --ops-listen", "addr", s.Ops.Listen)
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("ops: listen: %w; choose another address with --ops-listen", err)
	}
	return l, nil
}

func defaultOps() string {
	for _, k := range config.Keys() {
		if k.Name == "ops.listen" {
			return k.Default
		}
	}
	return ""
}

// serveOps answers on the listener until ctx ends.
func (s *server) serveOps(l net.Listener) func(context.Context) {
	site := ops.New([]ops.Check{
		{Name: "store", Probe: s.store.Ready},
		{Name: "pickup", Probe: func(context.Context) error { return s.pickup.Ready() }},
	}, time.Now)
	return func(ctx context.Context) {
		limits := web.Limits{Connections: 64, ConnectionsPerAddress: 64}
		if err := web.Serve(ctx, l, site, limits, s.log); err != nil && !errors.Is(err, net.ErrClosed) {
			s.log.Error("/livez and /readyz are gone", "err", err)
		}
	}
}
