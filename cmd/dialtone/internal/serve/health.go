package serve

import (
	"context"
	"errors"
	"fmt"
	"time"

	"dialtone/cmd/dialtone/internal/installation"
	"dialtone/internal/http/ops"
	"dialtone/internal/outage"
)

// newHealth returns the checks of /readyz. They run whether or not there is a listener for it.
func (s *server) newHealth() *ops.Site {
	checks := []ops.Check{
		s.vital(s.readiness("store", s.Store.Ready)),
		s.readiness("export", s.exportReady),
		s.readiness("keys", s.keysReady),
		s.readiness("pickup", func(context.Context) error { return s.pickup.Ready() }),
		s.readiness("hooks", s.hooksReady),
		s.readiness("clock", s.clockReady),
		s.readiness("proxy", s.proxyReady),
		s.readiness("audit trail", s.trailReady),
		s.readiness("data disk", ops.Disk(s.Data)),
		s.readiness("pickup disk", ops.Disk(s.pickup.Path())),
	}
	if s.queue != nil {
		checks = append(checks, s.readiness("relay", s.relayReady))
	}
	if s.TLS.On() || s.opsFiles != nil {
		checks = append(checks, s.readiness("tls", s.tlsReady))
	}
	site := ops.New(checks, s.metrics, time.Now)
	site.Server = installation.ServerID(s.Dir)
	return site
}

// vital marks a check: if it hangs, the server makes no progress.
func (s *server) vital(c ops.Check) ops.Check {
	c.Vital = true
	return c
}

// readiness returns a check of /readyz whose failures and warnings are logged as package outage does.
func (s *server) readiness(name string, probe func(context.Context) error) ops.Check {
	failures := outage.New(s.log, "not ready", "ready again", time.Now)
	warnings := outage.NewWarning(s.log, "check warns", "check no longer warns", time.Now)
	return ops.Check{Name: name, Probe: probe, Report: func(err error) {
		ctx := context.Background()
		warning, ok := errors.AsType[ops.Warning](err)
		switch {
		case ok:
			warnings.Report(ctx, warning, "check", name)
			err = nil
		case err == nil: // a failure does not show that the cause of the warning is gone
			warnings.Report(ctx, nil, "check", name)
		}
		failures.Report(ctx, err, "check", name)
	}}
}

// relayReady warns while the relay cannot be used. It does not fail: people can sign in, and messages are kept.
func (s *server) relayReady(context.Context) error {
	if err := s.queue.Down(); err != nil {
		return ops.Warning(err.Error())
	}
	return nil
}

// proxyMemory is how long the check of the proxy warns after the last request that shows the fault.
const proxyMemory = 10 * time.Minute

// proxyReady warns about a proxy that is not in http.trusted_proxies, or that does not send X-Forwarded-For.
func (s *server) proxyReady(context.Context) error {
	if peer, found := s.site.UntrustedProxy(proxyMemory); found {
		return ops.Warning(fmt.Sprintf("the proxy at %s is not in http.trusted_proxies, so its X-Forwarded-For is "+
			"ignored, and all visitors share the limits of its address", peer))
	}
	if peer, found := s.site.SilentProxy(proxyMemory); found {
		return ops.Warning(fmt.Sprintf("%s: all requests from %s, which is in http.trusted_proxies, lack it, so all "+
			"visitors share the limits of its address", ops.SilentProxy, peer))
	}
	return nil
}

// hooksReady warns about hooks with a backlog.
func (s *server) hooksReady(ctx context.Context) error {
	list, err := s.Store.HookBacklogs(ctx, 0)
	if err != nil {
		return ops.Warning("the hooks cannot be read: " + err.Error())
	}
	return ops.Hooks(list, time.Now())
}

// clockReady warns if the clock was set forward, or differs from the clock of the database.
func (s *server) clockReady(ctx context.Context) error {
	if err := s.accounts.CheckClock(); err != nil {
		return ops.Warning(err.Error())
	}
	before := time.Now()
	theirs, err := s.Store.Clock(ctx)
	if err != nil || theirs.IsZero() { // a failure of the store has its own check
		return nil
	}
	return ops.Clock(before, theirs, time.Now())
}
