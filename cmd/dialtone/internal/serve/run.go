// Package serve runs the server, for the command serve. It connects the packages below internal.
//
// A server starts only with its keys, its store, its certificates and the name of its node, but without a reachable
// mail relay, phone server or supervisor. Everything that it has acknowledged is durable. SIGTERM and Ctrl-C let open
// requests finish. After a failed commit, or if another process claims the name of the node, Run returns an error. If
// that takes longer than ExitTimeout after a failed commit, because the disk hangs, the process exits.
//
// Run opens the installation and the listeners, and starts the background tasks (tasks), each in its own goroutine.
// They follow what other processes change: tenants, keys, certificates and the audit trail. The start and the end of an
// outage are logged. The checks of /readyz (newHealth) and the metrics (registerMetrics) observe all of this. SIGHUP
// applies the keys in appliedNow.
//
// The package contains no rules about accounts, messages or requests: those are in the packages that it connects. It
// does not parse flags.
package serve

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"dialtone/cmd/dialtone/internal/exitstatus"
	"dialtone/cmd/dialtone/internal/installation"
	"dialtone/cmd/dialtone/internal/runas"
	"dialtone/internal/audit"
	"dialtone/internal/config"
	"dialtone/internal/datadir"
	httpserver "dialtone/internal/http/server"
	"dialtone/internal/http/web"
	"dialtone/internal/store/engine"
	"dialtone/internal/tenant"
)

// Options are the options of Run.
type Options struct {
	Config config.Config
	// Settings reads the configuration again, from the same sources as at the start.
	Settings func() (config.Config, error)
	Log      *slog.Logger
	Level    *slog.LevelVar // of Log
	Stdout   io.Writer
}

// Run runs a server until ctx ends or the store fails.
func Run(ctx context.Context, o Options) (err error) {
	conf, log := o.Config, o.Log
	// The audit trail names the system, not the user who started the server, as the actor of its changes.
	ctx = audit.With(ctx, audit.Cause{Actor: audit.Actor{Kind: audit.System}})
	if conf.Log.Addresses == config.LogFullAddresses {
		ctx = audit.WithWholeAddresses(ctx)
	}
	tuneMemory()
	// If stdout or stderr is a closed pipe, writing fails, but the server continues.
	signal.Ignore(syscall.SIGPIPE)
	received, stopSignals := handleSignals(log)
	defer stopSignals()
	systemd := newSupervisor(log)
	if err := datadir.Dir(conf.Data).CheckRestored(); err != nil {
		return runas.InDataDir(err)
	}
	node, err := datadir.Dir(conf.Data).CreateNode()
	if err != nil {
		return runas.InDataDir(err)
	}
	lost := installation.LostParts(ctx, conf, installation.Always)
	in, err := installation.Open(ctx, conf, installation.Options{Node: node, Create: installation.Always})
	if err != nil {
		return err
	}
	installation.LogLost(log, lost)
	defer func() { err = errors.Join(err, in.Store.Close()) }()
	unlock, err := in.Dir.Lock()
	if err != nil {
		return runas.InDataDir(err)
	}
	defer unlock()
	err = in.Store.ClaimNode(ctx, in.Dir.Place(), func() {
		log.Info("waiting for a sign of another server with the same node.id", "file", in.Dir.NodeFile(),
			"hint", "the last one was killed, and the machine restarted or the data directory moved or copied since")
	})
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return err
	}
	if err := bindNames(ctx, in, log); err != nil {
		return err
	}
	if err := in.FirstTenant(ctx); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", conf.Listen)
	if err != nil {
		return fmt.Errorf("listen: %w; if another program has the port, choose another with --listen", err)
	}
	defer listener.Close()
	in.Listen = listener.Addr().String() // the port may have been 0

	s, err := newServer(ctx, in, log, node)
	if err != nil {
		return err
	}
	s.warnWithoutTURNKey()
	tasks := s.tasks()
	opsListener, err := s.opsListener()
	if err != nil {
		return err
	}
	if opsListener != nil {
		defer opsListener.Close()
		tasks = append(tasks, s.serveOps(opsListener))
	}
	redirectListener, err := s.redirectListener()
	if err != nil {
		return err
	}
	if redirectListener != nil {
		defer redirectListener.Close()
		tasks = append(tasks, s.serveRedirect(redirectListener))
	}
	if watchdog := systemd.watchdog(log, s.health.Progress); watchdog != nil {
		tasks = append(tasks, watchdog)
	}
	s.printAddresses(o.Stdout, opsListener)
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	for _, task := range tasks {
		running.Go(func() { task(background) })
	}
	serving, stopServing := s.whileStoreWorks(ctx)
	defer stopServing()
	context.AfterFunc(serving, systemd.stopping)
	received.reload.Store(&reloader{options: o, server: s, running: conf, systemd: systemd})
	systemd.ready() // connections are accepted already, and wait for what follows
	err = httpserver.ServeTLS(serving, listener, s.publicTLS(), s.site, s.limits(), log)
	stop()
	running.Wait()
	if failure := s.Store.Err(); failure != nil {
		return errors.Join(failure, err)
	}
	if s.nameLost.Load() {
		return errors.Join(engine.ErrNodeAlive, err) // the messages belong to the other server
	}
	// All acknowledged messages are durable already. This saves the next start the work.
	return errors.Join(err, s.outbox.Flush(context.WithoutCancel(ctx)), s.operator.Flush())
}

// warnWithoutTURNKey logs a warning if tenants have TURN servers and the server has no TURN key. It creates none,
// because the TURN servers would not know it.
func (s *server) warnWithoutTURNKey() {
	hasTURN := func(t *tenant.Tenant) bool { return len(t.TURNURIs) > 0 }
	if s.turn.Value() == nil && slices.ContainsFunc(s.tenants.All(), hasTURN) {
		s.log.Warn("no key for the TURN servers of the tenants; phones in browsers get no credentials",
			"file", s.KeySources.TURN.Path, "hint", "restore the file; if there never was one, run dialtone turn "+
				"secret and give the secret to the TURN servers")
	}
}

// ExitTimeout is how long a server may take to end after its store has failed. A failing disk may also hang, and a
// supervisor can restart the server only after the process has exited.
const ExitTimeout = httpserver.DrainTime + 5*time.Second

// whileStoreWorks returns a context that ends with ctx, when the store has failed permanently, or when another process
// has claimed the name of the node.
func (s *server) whileStoreWorks(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, stop := context.WithCancel(ctx)
	go func() {
		select {
		case <-s.Store.Broken():
			status := exitstatus.Of(s.Store.Err())
			s.log.ErrorContext(ctx, "store failed; exiting", "status", status, "err", s.Store.Err())
			time.AfterFunc(ExitTimeout, func() { os.Exit(status) })
			stop()
		case <-s.nameTaken:
			s.log.ErrorContext(ctx, "name of the server taken; exiting", "status", exitstatus.Of(engine.ErrNodeAlive),
				"err", engine.ErrNodeAlive)
			stop()
		case <-ctx.Done():
		}
	}()
	return ctx, stop
}

// tuneMemory makes garbage collections less frequent, unless GOGC or GOMEMLIMIT is set. Only a few MiB are live between
// requests, so with the default the collector would run dozens of times a second. GOGC=200 allows 5 % more sign-ins per
// second for a few MiB; higher values gain nothing. The memory limit is soft. Without it, a flood of connections would
// use five times the memory that it needs.
func tuneMemory() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(200)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(128 << 20)
	}
}

// printAddresses prints where the server can be reached and where it writes messages.
func (s *server) printAddresses(to io.Writer, opsListener net.Listener) {
	fmt.Fprintf(to, "Dialtone listens on %s\n", s.Listen)
	byHost := func(a, b *tenant.Tenant) int { return strings.Compare(a.Host, b.Host) }
	for _, t := range slices.SortedFunc(slices.Values(s.tenants.All()), byHost) {
		fmt.Fprintf(to, "  sign up    %s/signup.html\n", t.PublicURL)
		if s.Dev && tenant.Loopback(t.Host) {
			fmt.Fprintf(to, "  messages   %s%s\n", t.PublicURL, web.DevMailPath)
			fmt.Fprintf(to, "  operators  %s/admin/ (for accounts with the role admin)\n", t.PublicURL)
		}
	}
	if opsListener != nil {
		scheme := "http"
		if s.opsFiles != nil {
			scheme = "https"
		}
		fmt.Fprintf(to, "  internal   %s://%s\n", scheme, opsListener.Addr())
	}
	if s.queue != nil {
		fmt.Fprintf(to, "  relay      %s\n", s.Mail.Relay.Parts().Address)
	}
	fmt.Fprintf(to, "  pickup     %s\n", s.pickup.Path())
}
