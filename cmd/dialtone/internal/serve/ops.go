package serve

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"dialtone/internal/config"
	"dialtone/internal/http/admin"
	"dialtone/internal/http/lookup"
	"dialtone/internal/http/ops"
	httpserver "dialtone/internal/http/server"
)

// opsListener listens for monitoring, for phone servers and for the API for operators. If the default address is in
// use, it returns nil, so that two servers can run on one machine without further configuration.
func (s *server) opsListener() (net.Listener, error) {
	l, err := net.Listen("tcp", s.Ops.Listen)
	if errors.Is(err, unix.EADDRINUSE) && s.Ops.Listen == config.Default("ops.listen") {
		s.log.Warn("ops listener disabled: address in use", "addr", s.Ops.Listen,
			"hint", "choose another address with --ops-listen")
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("ops: listen: %w; choose another address with --ops-listen", err)
	}
	return l, nil
}

// serveOps returns a function that serves a listener until its ctx is done.
func (s *server) serveOps(l net.Listener) func(context.Context) {
	site := s.health
	lookups := lookup.New(lookup.Deps{Registry: s.registry, Log: s.log, Now: time.Now})
	s.registerMetrics(lookups)
	s.metrics.MustRegister(site.Checks())
	both := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if admin.Serves(r.URL.Path) {
			s.admin.ServeHTTP(w, r)
		} else if strings.HasPrefix(r.URL.Path, lookup.Root) {
			lookups.ServeHTTP(w, r)
		} else {
			site.ServeHTTP(w, r)
		}
	})
	if s.Ops.Remote() && s.opsFiles == nil {
		s.log.Warn("ops listener reachable from other machines; its connections are not encrypted", "addr", l.Addr())
	}
	hosts := s.Ops.Hosts
	if host, _, err := net.SplitHostPort(s.Ops.Listen); err == nil {
		hosts = append(slices.Clone(hosts), strings.ToLower(host))
	}
	handler := ops.RestrictHosts(hosts, both)
	return func(ctx context.Context) {
		limits := httpserver.Limits{Connections: 1024, ConnectionsPerAddress: 512, Counts: &s.opsConnections}
		err := httpserver.ServeTLS(ctx, l, s.opsTLS(), handler, limits, s.log)
		if err != nil && !errors.Is(err, net.ErrClosed) {
			s.log.Error("ops listener failed", "err", err)
		}
	}
}
