package serve

import (
	"cmp"
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"

	"dialtone/internal/audit"
	"dialtone/internal/http/lookup"
	"dialtone/internal/http/ops"
	httpserver "dialtone/internal/http/server"
	"dialtone/internal/tenant"
)

// isTenant reports whether there is a tenant with this host.
func (s *server) isTenant(host string) bool {
	_, ok := s.tenants.Lookup(host)
	return ok
}

// registerMetrics adds the metrics of the server to its registry. The label values of all of them come from fixed
// sets, or are the names of tenants, hooks and directories that exist.
func (s *server) registerMetrics(lookups *lookup.Handler) {
	s.metrics.MustRegister(s.programMetrics(), s.decisionMetrics(), s.storeMetrics(), s.hookMetrics(),
		s.pickupMetrics(), s.exportMetrics(), s.directoryMetrics(), lookupMetrics(lookups),
		requestMetrics(map[string]*httpserver.Requests{
			"public": s.site.Requests(), "lookup": lookups.Requests(), "admin": s.admin.Requests(),
		}),
		connectionMetrics(map[string]*httpserver.Connections{
			"public": &s.publicConnections, "ops": &s.opsConnections, "redirect": &s.redirectConnections,
		}))
	if s.TLS.On() || s.opsFiles != nil {
		s.metrics.MustRegister(s.tlsMetrics())
	}
	if s.exporter != nil {
		s.metrics.MustRegister(s.traceMetrics())
	}
	if s.queue != nil {
		s.metrics.MustRegister(s.relayMetrics())
	}
}

// programMetrics returns metrics about this program and its clock.
func (s *server) programMetrics() prometheus.Collector {
	version, revision := buildOf(debug.ReadBuildInfo())
	engine := "sqlite"
	if s.Shared() {
		engine = "postgresql"
	}
	return ops.NewCollector([]ops.Metric{
		{
			Name:   "dialtone_build_info",
			Help:   "The program and its store. The value is 1.",
			Labels: []string{"version", "revision", "goversion", "engine"},
		},
		{Name: "dialtone_clock_timestamp_seconds", Help: "Time by the clock of this server."},
		{Name: "dialtone_tenants", Help: "Tenants on this server."},
	}, func(_ context.Context, to *ops.Values) error {
		to.Set(0, 1, version, revision, runtime.Version(), engine)
		to.Set(1, float64(time.Now().UnixMicro())/1e6)
		to.Set(2, float64(len(s.tenants.All())))
		return nil
	})
}

// buildOf returns the version and the revision of a program, each "unknown" if the toolchain has not recorded it.
func buildOf(info *debug.BuildInfo, ok bool) (version, revision string) {
	if ok {
		version = strings.TrimPrefix(info.Main.Version, "(devel)")
		for _, setting := range info.Settings {
			if setting.Key == "vcs.revision" {
				revision = setting.Value[:min(12, len(setting.Value))]
			}
		}
	}
	return cmp.Or(version, "unknown"), cmp.Or(revision, "unknown")
}

// decisionMetrics returns metrics of the actions that people tried, by outcome.
func (s *server) decisionMetrics() prometheus.Collector {
	by := map[audit.Action]int{audit.Signup: 0, audit.Activate: 1, audit.Confirm: 2, audit.SignIn: 3}
	const others, refusals, questions = 4, 5, 6
	outcome := []string{"tenant", "outcome"}
	return ops.NewCollector([]ops.Metric{
		{Name: "dialtone_signups_total", Help: "Signups since the start, by outcome.", Counter: true, Labels: outcome},
		{
			Name: "dialtone_activations_total", Help: "Uses of activation links since the start, by outcome.",
			Counter: true, Labels: outcome,
		},
		{
			Name:    "dialtone_confirmations_total",
			Help:    "Confirmations by link and password since the start, by outcome.",
			Counter: true, Labels: outcome,
		},
		{Name: "dialtone_signins_total", Help: "Sign-ins since the start, by outcome.", Counter: true, Labels: outcome},
		{
			Name: "dialtone_account_actions_total", Help: "Other actions since the start, by outcome.",
			Counter: true, Labels: []string{"tenant", "action", "outcome"},
		},
		{
			Name: "dialtone_refusals_total", Help: "Actions that were refused or failed since the start, by cause.",
			Counter: true, Labels: []string{"tenant", "action", "cause"},
		},
		{Name: "dialtone_captcha_questions_total", Help: "Captcha questions since the start.", Counter: true},
	}, func(_ context.Context, to *ops.Values) error {
		s.counts.Each(hosts(s.tenants), func(c audit.Count) {
			if i, ok := by[c.Action]; ok {
				to.Set(i, float64(c.N), c.Tenant, c.Outcome)
			} else {
				to.Set(others, float64(c.N), c.Tenant, string(c.Action), c.Outcome)
			}
			if c.Outcome != audit.OK {
				to.Set(refusals, float64(c.N), c.Tenant, string(c.Action), c.Outcome)
			}
		})
		to.Set(questions, float64(s.site.Questions()))
		return nil
	})
}

func hosts(tenants *tenant.Table) (list []string) {
	for _, t := range tenants.All() {
		list = append(list, t.Host)
	}
	return list
}

// storeMetrics returns metrics of the store.
func (s *server) storeMetrics() prometheus.Collector {
	return ops.NewCollector([]ops.Metric{
		{Name: "dialtone_store_commit_duration_seconds", Help: "Time of a transaction until it is durable."},
		{Name: "dialtone_store_group_writes", Help: "Writes that shared a transaction."},
		{Name: "dialtone_store_wait_duration_seconds", Help: "Time until a write that had to wait was started."},
		{Name: "dialtone_store_waiting_writes", Help: "Writes that wait to be started."},
		{Name: "dialtone_store_database_bytes", Help: "Size of the database."},
		{Name: "dialtone_store_wal_bytes", Help: "Size of the WAL; only with SQLite."},
		{
			Name: "dialtone_store_pool_connections", Help: "Connections to PostgreSQL, by state.",
			Labels: []string{"state"},
		},
		{Name: "dialtone_store_pool_max_connections", Help: "Most connections to PostgreSQL that may be open."},
		{
			Name: "dialtone_store_pool_waits_total", Help: "Waits for a connection to PostgreSQL since the start.",
			Counter: true,
		},
	}, func(ctx context.Context, to *ops.Values) error {
		m := s.Store.Measures()
		to.Histogram(0, m.Commit.Snapshot())
		to.Histogram(1, m.Group.Snapshot())
		to.Histogram(2, m.Wait.Snapshot())
		l, err := s.Store.Load(ctx)
		to.Set(3, float64(l.Waiting))
		if l.Pool != nil {
			to.Set(6, float64(l.Pool.Used), "used")
			to.Set(6, float64(l.Pool.Idle), "idle")
			to.Set(7, float64(l.Pool.Max))
			to.Set(8, float64(l.Pool.Waits))
		}
		if err != nil {
			return fmt.Errorf("size of the store: %w", err)
		}
		to.Set(4, float64(l.Database))
		if l.WAL >= 0 {
			to.Set(5, float64(l.WAL))
		}
		return nil
	})
}

// hookMetrics returns metrics of the notifications of phone servers and programs.
func (s *server) hookMetrics() prometheus.Collector {
	return ops.NewCollector([]ops.Metric{
		{
			Name: "dialtone_hook_attempts_total",
			Help: "Attempts to deliver a notification since the start, by outcome.", Counter: true,
			Labels: []string{"outcome"},
		},
		{
			Name: "dialtone_hook_waiting_notifications", Help: "Notifications that wait for delivery.",
			Labels: []string{"hook"},
		},
		{
			Name:   "dialtone_hook_oldest_age_seconds",
			Help:   "How long the oldest of these notifications has waited; 0 if there is none.",
			Labels: []string{"hook"},
		},
	}, func(ctx context.Context, to *ops.Values) error {
		n := s.dispatcher.Counts()
		to.Set(0, float64(n.Delivered), "delivered")
		to.Set(0, float64(n.Deferred), "deferred")
		to.Set(0, float64(n.Abandoned), "abandoned")
		list, err := s.Store.Hooks(ctx)
		for _, h := range list {
			to.Set(1, float64(h.Waiting), h.Name)
			to.Set(2, age(h.Oldest).Seconds(), h.Name)
		}
		return err
	})
}

// exportMetrics returns metrics of the tables for phone servers.
func (s *server) exportMetrics() prometheus.Collector {
	return ops.NewCollector([]ops.Metric{
		{
			Name: "dialtone_export_missing_accounts",
			Help: "Active accounts that the export lacks because their credentials cannot be opened.",
		},
	}, func(_ context.Context, to *ops.Values) error {
		missing := 0
		if list := s.missing.list.Load(); list != nil {
			missing = len(*list)
		}
		to.Set(0, float64(missing))
		return nil
	})
}

// directoryMetrics returns metrics of the file systems that the server writes to.
func (s *server) directoryMetrics() prometheus.Collector {
	directories := map[string]string{"data": s.Data, "pickup": s.pickup.Path()}
	return ops.NewCollector([]ops.Metric{
		{
			Name:   "dialtone_filesystem_available_bytes",
			Help:   "Space on the file system of a directory that this server may use.",
			Labels: []string{"directory"},
		},
		{
			Name: "dialtone_filesystem_size_bytes", Help: "Size of the file system of a directory.",
			Labels: []string{"directory"},
		},
	}, func(_ context.Context, to *ops.Values) error {
		for name, path := range directories {
			var fs unix.Statfs_t
			if err := unix.Statfs(path, &fs); err != nil {
				return fmt.Errorf("space of %s: %w", path, err)
			}
			to.Set(0, float64(fs.Bavail)*float64(fs.Bsize), name)
			to.Set(1, float64(fs.Blocks)*float64(fs.Bsize), name)
		}
		return nil
	})
}

// lookupMetrics returns metrics of the look-ups by phone servers.
func lookupMetrics(lookups *lookup.Handler) prometheus.Collector {
	return ops.NewCollector([]ops.Metric{{
		Name:    "dialtone_lookups_total",
		Help:    "Look-ups since the start; cached are those that did not read the store.",
		Counter: true, Labels: []string{"format", "outcome", "cached"},
	}}, func(_ context.Context, to *ops.Values) error {
		for _, c := range lookups.Counts() {
			to.Set(0, float64(c.N), c.Format, c.Outcome, strconv.FormatBool(c.Cached))
		}
		return nil
	})
}

// requestMetrics returns metrics of HTTP requests. The sites are named by their audience.
func requestMetrics(sites map[string]*httpserver.Requests) prometheus.Collector {
	return ops.NewCollector([]ops.Metric{
		{
			Name:   "dialtone_http_request_duration_seconds",
			Help:   "Time of requests until the handler returned, by route, class of method and class of status.",
			Labels: []string{"site", "route", "method", "status"},
		},
		{
			Name: "dialtone_http_requests_in_flight", Help: "Requests that are being handled.",
			Labels: []string{"site"},
		},
	}, func(_ context.Context, to *ops.Values) error {
		for name, requests := range sites {
			for _, l := range requests.Latencies() {
				to.Histogram(0, l.Snapshot, name, l.Route, l.Method, l.Status)
			}
			to.Set(1, float64(requests.InFlight()), name)
		}
		return nil
	})
}

// connectionMetrics returns metrics of the connections of listeners.
func connectionMetrics(listeners map[string]*httpserver.Connections) prometheus.Collector {
	listener := []string{"listener"}
	return ops.NewCollector([]ops.Metric{
		{Name: "dialtone_http_connections", Help: "Open connections.", Labels: listener},
		{
			Name: "dialtone_http_connections_accepted_total", Help: "Connections since the start.",
			Counter: true, Labels: listener,
		},
		{
			Name:    "dialtone_http_connections_closed_total",
			Help:    "Connections that were closed because of the limits, by reason.",
			Counter: true, Labels: []string{"listener", "why"},
		},
	}, func(_ context.Context, to *ops.Values) error {
		for name, connections := range listeners {
			c := connections.Counts()
			to.Set(0, float64(c.Open), name)
			to.Set(1, float64(c.Accepted), name)
			to.Set(2, float64(c.Refused), name, "refused")
			to.Set(2, float64(c.Displaced), name, "displaced")
		}
		return nil
	})
}
