package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
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

	"dialtone/internal/audit"
	"dialtone/internal/config"
	"dialtone/internal/datadir"
	httpserver "dialtone/internal/http/server"
	"dialtone/internal/http/web"
	"dialtone/internal/store/engine"
	"dialtone/internal/tenant"
)

// serveCommand has a flag for each key of the configuration except those that all commands have.
type serveCommand struct {
	Settings keyFlags `embed:""`
	Clusters *string  `hidden:"" help:"Removed; the configuration refuses it and says what to do."`
}

// Help is printed by dialtone serve --help.
func (c *serveCommand) Help() string {
	return "Exit status: 0 after SIGTERM or Ctrl-C; 1 if it cannot start; 75 if the disk failed while " +
		"saving, and a restart recovers; 78 if the configuration or the keys are wrong, or the store is damaged, " +
		"was removed, or cannot be written by this user. Have your supervisor restart it after a failure " +
		"(systemd: Restart=on-failure)."
}

// Run runs the server until the context of the program ends or the store fails.
func (c *serveCommand) Run(p *program) (err error) {
	conf, err := p.settings()
	if err != nil {
		return err
	}
	// What a server changes is not what the user who starts it changes.
	p.ctx = audit.With(p.ctx, audit.Cause{Actor: audit.Actor{Kind: audit.System}})
	if conf.Log.Addresses == config.LogFullAddresses {
		p.ctx = audit.WithWholeAddresses(p.ctx)
	}
	tuneMemory()
	// If the reader of stdout or stderr has gone, writing fails, but the server continues.
	signal.Ignore(syscall.SIGPIPE)
	log, flush := p.serverLog(conf.Log)
	defer flush()
	received, stopSignals := handleSignals(log)
	defer stopSignals()
	systemd := newSupervisor(log)
	if err := datadir.Dir(conf.Data).CheckRestored(); err != nil {
		return inDataDir(err)
	}
	node, err := datadir.Dir(conf.Data).CreateNode()
	if err != nil {
		return inDataDir(err)
	}
	lost := lostParts(p.ctx, conf, always)
	in, err := openInstallation(p.ctx, conf, node, always)
	if err != nil {
		return err
	}
	warnOfLost(log, lost)
	defer func() { err = errors.Join(err, in.store.Close()) }()
	unlock, err := in.dir.Lock()
	if err != nil {
		return inDataDir(err)
	}
	defer unlock()
	err = in.store.ClaimNode(p.ctx, in.dir.Place(), func() {
		log.Info("waiting for a sign of another server with the same node.id", "file", in.dir.NodeFile(),
			"hint", "the last one was killed, and the machine restarted or the data directory moved or copied since")
	})
	if p.ctx.Err() != nil {
		return nil
	} else if err != nil {
		return err
	}
	if err := bindNames(p.ctx, in, log); err != nil {
		return err
	}
	if err := in.firstTenant(p.ctx); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", conf.Listen)
	if err != nil {
		return fmt.Errorf("listen: %w; if another program has the port, choose another with --listen", err)
	}
	defer listener.Close()
	in.Listen = listener.Addr().String() // the port may have been 0

	s, err := newServer(p.ctx, in, log, node)
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
	s.printAddresses(p.stdout, opsListener)
	background, stop := context.WithCancel(context.WithoutCancel(p.ctx))
	var running sync.WaitGroup
	for _, task := range tasks {
		running.Go(func() { task(background) })
	}
	serving, stopServing := s.whileStoreWorks(p.ctx)
	defer stopServing()
	context.AfterFunc(serving, systemd.stopping)
	received.reload.Store(&reloader{program: p, server: s, running: conf, systemd: systemd})
	systemd.ready() // connections are accepted already, and wait for what follows
	err = httpserver.ServeTLS(serving, listener, s.publicTLS(), s.site, s.limits(), log)
	stop()
	running.Wait()
	if failure := s.store.Err(); failure != nil {
		return errors.Join(failure, err)
	}
	if s.nameLost.Load() {
		return errors.Join(engine.ErrNodeAlive, err) // the messages belong to the other server
	}
	// All acknowledged messages are durable already. This saves the next start the work.
	return errors.Join(err, s.outbox.Flush(context.WithoutCancel(p.ctx)), s.operator.Flush())
}

// lostPart describes a part of an installation that a server or command creates though the
// installation is not new.
type lostPart struct{ event, file, hint string } // the file is empty for PostgreSQL

// warnOfLost logs the parts that were created though the installation is not new.
func warnOfLost(log *slog.Logger, lost []lostPart) {
	for _, part := range lost {
		if part.file == "" {
			log.Warn(part.event, "hint", part.hint)
			continue
		}
		log.Warn(part.event, "file", part.file, "hint", part.hint)
	}
}

// lostParts returns the parts that openInstallation is about to create though other parts exist. It
// leaves errors to openInstallation.
func lostParts(ctx context.Context, c config.Config, create creation) (list []lostPart) {
	in := &installation{Config: c, dir: datadir.Dir(c.Data), keys: newKeys(c.Keys)}
	exists, err := in.hasStore(ctx)
	if err != nil {
		return nil
	}
	missing := func(path string) bool {
		_, err := os.Stat(path)
		return errors.Is(err, fs.ErrNotExist)
	}
	if !exists && !in.keys.Seal.FromEnv() && !missing(in.keys.Seal.Path) {
		file := in.dir.Database()
		if in.shared() {
			file = ""
		}
		list = append(list, lostPart{"store created though there are keys of an earlier one", file,
			"if accounts are missing, stop the server and restore the database, or correct data or database"})
	}
	if exists && create == always && !in.keys.Sign.FromEnv() && missing(in.keys.Sign.Path) {
		list = append(list, lostPart{"signing key created for a store that is not new", in.keys.Sign.Path,
			"everyone has to sign in again, and links for phones do not work, unless the file is restored"})
	}
	return list
}

// warnWithoutTURNKey logs that tenants have TURN servers for which the server has no key. It makes none:
// the TURN servers would not know it.
func (s *server) warnWithoutTURNKey() {
	hasTURN := func(t *tenant.Tenant) bool { return len(t.TURNURIs) > 0 }
	if s.turn.Value() == nil && slices.ContainsFunc(s.tenants.All(), hasTURN) {
		s.log.Warn("no key for the TURN servers of the tenants; phones in browsers get no credentials",
			"file", s.keys.TURN.Path, "hint", "restore the file; if there never was one, run dialtone turn secret "+
				"and give the secret to the TURN servers")
	}
}

// exitTimeout is how long a server whose store has failed may take to end. A disk that fails may
// also hang, and then only the end of the process lets the supervisor restart it.
const exitTimeout = httpserver.DrainTime + 5*time.Second

// whileStoreWorks returns a context that ends with ctx, or when the store has failed for good.
func (s *server) whileStoreWorks(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, stop := context.WithCancel(ctx)
	go func() {
		select {
		case <-s.store.Broken():
			status := exitStatus(s.store.Err())
			s.log.ErrorContext(ctx, "store failed; exiting", "status", status, "err", s.store.Err())
			time.AfterFunc(exitTimeout, func() { os.Exit(status) })
			stop()
		case <-s.nameTaken:
			s.log.ErrorContext(ctx, "name of the server taken; exiting", "status", exitConfig,
				"err", engine.ErrNodeAlive)
			stop()
		case <-ctx.Done():
		}
	}()
	return ctx, stop
}

// tuneMemory makes garbage collections rarer, unless the runtime's own variables are set. Only a
// few MiB are live between requests, so with the default the collector would run dozens of times a
// second. GOGC=200 gains 5 % of sign-ins for a few MiB; higher values gain no more. The memory
// limit is a soft one. It keeps a flood of connections from using five times the memory that it
// needs.
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
