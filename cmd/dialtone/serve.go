package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/delivery"
	"dialtone/internal/hook"
	"dialtone/internal/hook/httpclient"
	"dialtone/internal/http/ops"
	httpserver "dialtone/internal/http/server"
	"dialtone/internal/http/web"
	"dialtone/internal/mail/pickup"
	"dialtone/internal/mail/relay"
	"dialtone/internal/outbox"
	"dialtone/internal/provision"
	"dialtone/internal/session"
	"dialtone/internal/sipserver"
	"dialtone/internal/tenant"
	"dialtone/internal/turn"
)

// serveCommand has a flag for every key of the configuration but those that are for all commands.
type serveCommand struct {
	Settings keyFlags `embed:""`
	Clusters *string  `hidden:"" help:"Removed; the configuration refuses it and says what to do."`
}

// Help is printed by dialtone serve --help.
func (c *serveCommand) Help() string {
	return "Exit status: 0 after SIGTERM or Ctrl-C; 1 if it cannot start; 75 if saving failed because the disk failed, when a restart recovers; " +
		"78 for a wrong configuration, keys or a damaged store. Have your supervisor restart it after a failure (systemd: Restart=on-failure)."
}

func (c *serveCommand) Run(p *program) (err error) {
	conf, err := p.settings()
	if err != nil {
		return err
	}
	tuneMemory()
	// Whoever read stdout and stderr may go away: writing there then fails, and does not end the server.
	signal.Ignore(syscall.SIGPIPE)
	log, flush := p.serverLog(conf.Log)
	defer flush()
	node, err := nodeID(conf.Data)
	if err != nil {
		return err
	}
	f, err := openNode(p.ctx, conf, node)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.store.Close()) }()
	unlock, err := lock(filepath.Join(f.Data, "serve.lock"))
	if err != nil {
		return err
	}
	defer unlock()
	if err := f.firstTenant(p.ctx); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", conf.Listen)
	if err != nil {
		return fmt.Errorf("listen: %w; another program may have the port: choose one with --listen", err)
	}
	defer listener.Close()
	f.Listen = listener.Addr().String() // with the port that a 0 became

	s, err := newServer(p, f, log, node)
	if err != nil {
		return err
	}
	loops := s.loops()
	operators, err := s.opsListener()
	if err != nil {
		return err
	}
	if operators != nil {
		defer operators.Close()
		loops = append(loops, s.serveOps(operators))
	}
	s.announce(p, operators)
	background, stop := context.WithCancel(context.WithoutCancel(p.ctx))
	var running sync.WaitGroup
	for _, loop := range loops {
		running.Go(func() { loop(background) })
	}
	serving, stopServing := s.whileStoreWorks(p.ctx)
	defer stopServing()
	err = httpserver.Serve(serving, listener, s.site, s.limits(), log)
	stop()
	running.Wait()
	if failure := s.store.Err(); failure != nil {
		return errors.Join(failure, err)
	}
	// What was answered is safe already; this only spares the next start the work.
	return errors.Join(err, s.outbox.Flush(context.WithoutCancel(p.ctx)))
}

// exitWithin is how long a server whose store has failed may take to end. A disk that fails may also
// hang, and then only the end of the process lets the supervisor go on.
const exitWithin = httpserver.DrainTime + 5*time.Second

// whileStoreWorks returns a context that ends with ctx, or when the store has failed and only a restart
// recovers.
func (s *server) whileStoreWorks(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, stop := context.WithCancel(ctx)
	go func() {
		select {
		case <-s.store.Broken():
			s.log.ErrorContext(ctx, "store failed; exiting", "status", exitRestart, "err", s.store.Err())
			time.AfterFunc(exitWithin, func() { os.Exit(exitRestart) })
			stop()
		case <-ctx.Done():
		}
	}()
	return ctx, stop
}

// tuneMemory trades a few MiB for a twentieth of the sign-ins a second: what is alive between requests is a few MiB, and by the
// runtime's defaults it would be searched dozens of times a second. Beyond this the memory grows and the rate does not. The limit, which is a soft one, keeps a flood of
// connections from taking five times what it needs. Both give way to the runtime's own variables.
func tuneMemory() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(200)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(128 << 20)
	}
}

// lock keeps a second server from the folder: two would recover each other's messages.
func lock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("%s is held: another server runs on this data folder (%w)", path, err)
	}
	return func() { f.Close() }, nil
}

// server is everything that runs.
type server struct {
	*folder
	log     *slog.Logger
	tenants *tenant.Table
	signing *signing
	turn    *followed[turn.Issuer]
	pickup  *pickup.Dir
	desk    *account.Service
	outbox  *outbox.Outbox
	phones  *sipserver.Registry
	hooks   *hook.Dispatcher
	site    *web.Site
	metrics *prometheus.Registry

	// What sends the messages; nil where nothing of ours does.
	queue    *delivery.Queue
	outgoing *relay.Relay
}

func newServer(p *program, f *folder, log *slog.Logger, node string) (*server, error) {
	s := &server{folder: f, log: log, signing: newSigning(f), turn: newTURN(f), metrics: ops.NewRegistry()}
	if err := errors.Join(s.signing.refresh(), s.turn.refresh()); err != nil {
		return nil, err
	}
	s.tenants = tenant.NewTable(f.store, f.defaultURL)
	if err := s.tenants.Refresh(p.ctx); err != nil {
		return nil, err
	}
	var err error
	if s.pickup, err = pickup.Open(f.Mail.PickupDir); err != nil {
		return nil, err
	}
	if err := s.pickup.Clean(); err != nil {
		return nil, err
	}
	if s.pickup.Readable() {
		log.Warn("everybody on this machine can list the pickup directory; its messages hold activation links", "dir", s.pickup.Path())
	}
	if !f.nodes() {
		node = ""
	}
	if err := s.openRelay(node); err != nil {
		return nil, err
	}
	letters, err := templates(f.Mail.TemplatesDir)
	if err != nil {
		return nil, err
	}
	events := audit.Log{Logger: log}
	s.outbox = outbox.New(outbox.Deps{
		Store: f.store, Pickup: s.pickup, Templates: letters, Tenant: s.tenants.ByID, SealRing: f.seal,
		Audit: events, Log: log, Now: time.Now, Relayed: s.queue != nil,
	})
	s.desk = account.NewService(account.Deps{
		Store: f.store, Outbox: s.outbox, Captcha: s.signing.issuer, SealRing: f.seal,
		Audit: events, Log: log, Now: time.Now,
		AddressCeiling: f.Limits.SignupsPerAddressAllTenants,
	})
	s.phones = sipserver.NewRegistry(sipserver.Deps{
		Store: f.store, Tenants: s.tenants, Accounts: s.desk, SealRing: f.seal, Audit: events, Now: time.Now,
		NoCache: f.nodes(),
	})
	if err := s.phones.Refresh(p.ctx); err != nil {
		return nil, err
	}
	if err := s.outbox.Recover(p.ctx); err != nil {
		return nil, err
	}
	s.adopt(p.ctx) // before the first signup: who is not known cannot be missed
	// A pickup directory in trouble does not keep the server from starting: people can sign in, and Tend tries again.
	s.tend(p.ctx)
	s.hooks = hook.NewDispatcher(hook.Deps{
		Queue: f.store, Transports: transports(httpclient.New()), Forget: s.phones.Forget,
		SealRing: f.seal, Log: log, Now: time.Now,
	})
	authenticator := session.NewAuthenticator(session.Deps{
		Accounts: s.desk, Store: f.store, Signatures: s.signing.signatures, SealRing: f.seal, Nodes: f.nodes(), Audit: events, Now: time.Now,
	})
	deps := web.Deps{
		Tenants: s.tenants, Accounts: s.desk, Authenticator: authenticator, Captcha: s.signing.issuer, TURN: s.turn.value.Load,
		Links:          &provision.Links{Accounts: f.store, Store: f.store, Tickets: s.signing.tickets, Audit: events, Now: time.Now},
		TrustedProxies: f.HTTP.TrustedProxies, Log: log,
	}
	if s.queue != nil {
		deps.Delivery = func(ctx context.Context, a account.Account) (delivery.State, error) {
			d, err := f.store.OfAccount(ctx, a.Tenant, a.UID)
			return d.State, err
		}
	}
	if f.Dev {
		deps.DevMail = s.messages
	}
	s.site, err = web.New(deps)
	return s, err
}

// devMessages is how many messages a development server shows.
const devMessages = 50

func (s *server) messages() ([]web.DevMessage, error) {
	list, err := s.pickup.Messages(devMessages)
	out := make([]web.DevMessage, len(list))
	for i, m := range list {
		out[i] = web.DevMessage(m)
	}
	return out, err
}

func (s *server) limits() httpserver.Limits {
	return httpserver.Limits{
		Connections: s.HTTP.MaxConnections, ConnectionsPerAddress: s.HTTP.MaxConnectionsPerAddress, TrustedProxies: s.HTTP.TrustedProxies,
	}
}

// announce says where to go.
func (s *server) announce(p *program, operators net.Listener) {
	fmt.Fprintf(p.stdout, "Dialtone listens on %s\n", s.Listen)
	for _, t := range s.tenants.All() {
		fmt.Fprintf(p.stdout, "  sign up    %s/signup.html\n", t.PublicURL)
		if s.Dev && tenant.Loopback(t.Host) {
			fmt.Fprintf(p.stdout, "  messages   %s%s\n", t.PublicURL, web.DevMailPath)
		}
	}
	if operators != nil {
		fmt.Fprintf(p.stdout, "  operators  http://%s\n", operators.Addr())
	}
	if s.queue != nil {
		fmt.Fprintf(p.stdout, "  relay      %s\n", s.Mail.Relay.Parts().Address)
	}
	fmt.Fprintf(p.stdout, "  pickup     %s\n", s.pickup.Path())
}

// The rhythm of the background work. Operators are promised that a change of a tenant or of a phone server's token is seen within a second.
const (
	watchEvery = 300 * time.Millisecond
	tendEvery  = time.Second
	sweepEvery = time.Minute
	adoptEvery = 10 * time.Second
)

func (s *server) loops() []func(context.Context) {
	loops := []func(context.Context){
		s.follow,
		every(adoptEvery, s.adopt),
		every(tendEvery, s.tend),
		every(sweepEvery, s.sweep),
		every(tendEvery, s.catchUpExport),
		s.hooks.Run,
	}
	if len(s.Export.Htdigest) > 0 {
		loops = append(loops, every(watchEvery, s.newHtdigestFollower().Update))
	}
	if s.queue != nil {
		loops = append(loops, s.sendMessages)
	}
	return loops
}

func every(d time.Duration, do func(context.Context)) func(context.Context) {
	return func(ctx context.Context) {
		ticker := time.NewTicker(d)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
				do(ctx)
			}
		}
	}
}

// follow sees changes of tenants, phone servers and keys when it is told of them, and by looking besides.
func (s *server) follow(ctx context.Context) {
	told := make(chan struct{}, 1)
	var listening sync.WaitGroup
	listening.Go(func() {
		s.store.Watch(ctx, func() {
			select {
			case told <- struct{}{}:
			default:
			}
		})
	})
	defer listening.Wait()
	ticker := time.NewTicker(watchEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-told:
		case <-ticker.C:
		}
		s.watch(ctx)
	}
}

func (s *server) adopt(ctx context.Context) {
	if err := s.outbox.TakeOver(ctx); err != nil && ctx.Err() == nil {
		s.log.ErrorContext(ctx, "the other servers could not be told that this one lives; it is tried again in ten seconds", "err", err)
	}
}

func (s *server) watch(ctx context.Context) {
	if err := errors.Join(s.tenants.Refresh(ctx), s.phones.Refresh(ctx), s.signing.refresh(), s.turn.refresh()); err != nil && ctx.Err() == nil {
		s.log.ErrorContext(ctx, "tenants, phone servers or keys could not be read; those of before stay in force", "err", err)
	}
}

func (s *server) tend(ctx context.Context) {
	if err := s.outbox.Flush(context.WithoutCancel(ctx)); err != nil {
		s.log.ErrorContext(ctx, "messages could not be made safe; it is tried again in a second", "err", err)
	}
}

func (s *server) sweep(ctx context.Context) {
	if err := s.desk.Sweep(ctx); err != nil && ctx.Err() == nil {
		s.log.ErrorContext(ctx, "sweep failed; it is tried again in a minute", "err", err)
	}
}
