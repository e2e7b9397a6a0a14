package serve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"dialtone/cmd/dialtone/internal/adapter"
	"dialtone/cmd/dialtone/internal/installation"
	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/delivery"
	"dialtone/internal/hook"
	"dialtone/internal/hook/httpclient"
	"dialtone/internal/http/acme"
	"dialtone/internal/http/admin"
	"dialtone/internal/http/ops"
	httpserver "dialtone/internal/http/server"
	"dialtone/internal/http/tlscert"
	"dialtone/internal/http/web"
	"dialtone/internal/mail/pickup"
	"dialtone/internal/mail/relay"
	"dialtone/internal/operator"
	"dialtone/internal/otlp"
	"dialtone/internal/outbox"
	"dialtone/internal/provision"
	"dialtone/internal/regularfile"
	"dialtone/internal/secret/keyfile"
	"dialtone/internal/session"
	"dialtone/internal/sipserver"
	"dialtone/internal/stats"
	"dialtone/internal/tenant"
	"dialtone/internal/throttle"
	"dialtone/internal/trace"
	"dialtone/internal/turn"
)

// server is a running server.
type server struct {
	*installation.Installation
	log           *slog.Logger
	tenants       *tenant.Table
	signing       signing
	turn          *keyfile.Follower[turn.Issuer]
	keysErr       atomic.Pointer[error] // of the last attempt to read the keys again; nil if it succeeded
	oldForm       atomic.Bool           // programs of an earlier version may use the store
	nameTaken     chan struct{}         // closed when another process has claimed the name of this node
	nameLost      atomic.Bool           // nameTaken is closed
	pickup        *pickup.Dir
	accounts      *account.Service
	passwords     *throttle.Passwords
	outbox        *outbox.Outbox
	registry      *sipserver.Registry
	operator      *operator.Service
	tokens        *operator.Tokens  // of the API for operators
	answers       *operator.Answers // of the API for operators
	admin         *admin.Handler
	dispatcher    *hook.Dispatcher
	authenticator *session.Authenticator
	site          *web.Site
	metrics       *prometheus.Registry
	outages       outages
	events        audit.Log
	counts        *audit.Counts
	tracer        *trace.Tracer // nil without traces, like exporter
	exporter      *otlp.Exporter
	daily         *stats.Counter
	health        *ops.Site
	keeper        *audit.Keeper
	lastChange    int64 // the ID of the last change of the audit trail that was logged
	orphans       bool  // the directories may contain messages of deleted accounts
	missing       missing
	// The last results of checkSchema and of writing a checkpoint.
	schemaErr, trailErr atomic.Pointer[error]

	publicConnections, opsConnections, redirectConnections httpserver.Connections

	// Either files or acme holds the certificates of the public listener; both are nil without TLS. opsFiles holds the
	// certificate of the operators' listener, or is nil.
	files, opsFiles *tlscert.Files
	acme            *acme.Manager
	tlsErr          atomic.Pointer[error] // of the last attempt to read certificates; nil if it succeeded

	// queue and relay send messages. They are nil if no relay is configured.
	queue *delivery.Queue
	relay *relay.Relay
}

// newServer connects the parts of a server, and recovers messages that a crash has lost.
func newServer(ctx context.Context, in *installation.Installation, log *slog.Logger, node string) (*server, error) {
	s := &server{
		Installation: in,
		log:          log,
		signing:      newSigning(in.KeySources.Sign, time.Now),
		turn:         newTURN(in.KeySources.TURN, time.Now),
		tenants:      tenant.NewTable(in.Store, in.DefaultURL),
		metrics:      ops.NewRegistry(),
		outages:      newOutages(log),
		nameTaken:    make(chan struct{}),
	}
	s.daily = stats.NewCounter(in.Store, s.tenants.ByHost, time.Now)
	if err := errors.Join(s.signing.refresh(), s.turn.Refresh()); err != nil {
		return nil, err
	}
	if err := s.startTrail(ctx); err != nil {
		return nil, err
	}
	if err := s.tenants.Refresh(ctx); err != nil {
		return nil, err
	}
	s.oldForm.Store(!in.Seal.IsStrict())
	if err := s.refreshOldForm(ctx); err != nil {
		return nil, err
	}
	if err := s.openPickup(); err != nil {
		return nil, err
	}
	if !in.Shared() {
		node = ""
	}
	if err := s.openTracer(node); err != nil {
		return nil, err
	}
	if err := s.openRelay(node); err != nil {
		return nil, err
	}
	messages, err := adapter.Templates(in.Mail.TemplatesDir)
	if err != nil {
		return nil, err
	}
	s.counts = audit.NewCounts(s.isTenant)
	events := audit.Log{Logger: log, Observers: []func(audit.Event){s.counts.Observe, s.daily.Observe}}
	s.events = events
	s.keeper = in.Keeper(node, log)
	if err := s.keeper.Start(ctx); err != nil {
		return nil, err
	}
	s.outbox = outbox.New(outbox.Deps{
		Store:     in.Store,
		Pickup:    s.pickup,
		Templates: messages,
		Tenant:    s.tenants.ByID,
		SealRing:  in.Seal,
		Audit:     events,
		Log:       log,
		Now:       time.Now,
		Relayed:   s.queue != nil,
	})
	s.passwords = throttle.NewPasswords(time.Now)
	s.accounts = account.NewService(account.Deps{
		Store:          in.Store,
		Outbox:         s.outbox,
		Captcha:        s.signing.issuer,
		SealRing:       in.Seal,
		OldForm:        s.oldForm.Load,
		Passwords:      s.passwords,
		Audit:          events,
		Log:            log,
		Now:            time.Now,
		AddressCeiling: in.Limits.SignupsPerAddressAllTenants,
		OneTenant:      func() bool { return len(s.tenants.All()) == 1 },
		Dev:            in.Dev,
	})
	s.registry = sipserver.NewRegistry(sipserver.Deps{
		Store:    in.Store,
		Tenants:  s.tenants,
		Accounts: s.accounts,
		SealRing: in.Seal,
		Audit:    events,
		Counts:   s.daily,
		Log:      log,
		Now:      time.Now,
		NoCache:  in.Shared(),
	})
	if err := s.registry.Refresh(ctx); err != nil {
		return nil, err
	}
	if err := s.recover(ctx); err != nil {
		return nil, err
	}
	s.dispatcher = hook.NewDispatcher(hook.Deps{
		Queue:      in.Store,
		Transports: adapter.HookTransports(httpclient.New()),
		Forget:     s.registry.Forget,
		Tracer:     s.tracer,
		SealRing:   in.Seal,
		Log:        log,
		Now:        time.Now,
	})
	if file := s.HTTP.SecurityTxt; file != "" {
		if _, err := regularfile.Read(file); err != nil {
			return nil, fmt.Errorf("http.security_txt: %w", err)
		}
	}
	if err := s.openTLS(ctx); err != nil {
		return nil, err
	}
	s.health = s.newHealth()
	s.authenticator = s.newAuthenticator(events)
	s.openAdmin(events)
	s.site, err = web.New(s.webDeps(events))
	return s, err
}

// openAdmin creates the API for operators.
func (s *server) openAdmin(events audit.Log) {
	s.operator = operator.NewService(operator.Deps{
		Accounts: s.accounts, Store: s.Store, Now: time.Now, CoverTrail: s.coverTrailNow,
	})
	s.tokens = operator.NewTokens(operator.TokensDeps{
		Store: s.Store, SealRing: s.Seal, Audit: events, Log: s.log, Now: time.Now,
	})
	s.answers = operator.NewAnswers(s.Store, s.Seal, time.Now)
	s.admin = admin.New(admin.Deps{
		Operator: s.operator, Tokens: s.tokens, Answers: s.answers, Tenants: s.tenants, Log: s.log, Now: time.Now,
	})
}

// openPickup opens the pickup directory and removes what a crash left in it.
func (s *server) openPickup() (err error) {
	if s.pickup, err = pickup.Open(s.Mail.PickupDir); err != nil {
		return installation.InPickupDir(s.Config, err)
	}
	if err := s.pickup.Clean(); err != nil {
		return installation.InPickupDir(s.Config, err)
	}
	if s.pickup.Readable() {
		s.log.Warn("pickup directory readable by all users of this machine; its messages contain activation links",
			"dir", s.pickup.Path())
	}
	return nil
}

// recover writes messages again that a crash has lost, and registers this server with the others that share the store.
func (s *server) recover(ctx context.Context) error {
	if err := s.outbox.Recover(ctx); err != nil {
		return err
	}
	// This must precede the first signup: other servers take over the messages only of servers that they know.
	s.takeOver(ctx)
	// A failure does not prevent the server from starting: people can sign in, and it is tried again.
	s.flushOutbox(ctx)
	return nil
}

func (s *server) newAuthenticator(events audit.Log) *session.Authenticator {
	return session.NewAuthenticator(session.Deps{
		Accounts:   s.accounts,
		Store:      s.Store,
		Signatures: s.signing.signatures,
		Passwords:  s.passwords,
		Nodes:      s.Shared(),
		Notices:    s.accounts,
		Audit:      events,
		Counts:     s.daily,
		Log:        s.log,
		Now:        time.Now,
	})
}

func (s *server) webDeps(events audit.Log) web.Deps {
	deps := web.Deps{
		Tenants:       s.tenants,
		Accounts:      s.accounts,
		Authenticator: s.authenticator,
		Phones:        s.registry,
		Operators:     s.operator,
		Captcha:       s.signing.issuer,
		TURN:          s.turn.Value,
		Links: provision.NewLinks(provision.Deps{
			Accounts: s.accounts,
			Store:    s.Store,
			Tickets:  s.signing.tickets,
			Audit:    events,
			Now:      time.Now,
		}),
		Tracer:         s.tracer,
		ChangeDays:     s.Log.AuditDays,
		TrustedProxies: s.HTTP.TrustedProxies,
		Log:            s.log,
	}
	if s.queue != nil {
		deps.Delivery = func(ctx context.Context, a account.Account) (delivery.State, error) {
			d, err := s.Store.OfAccount(ctx, a.Tenant, a.UID)
			return d.State, err
		}
	}
	if s.HTTP.SecurityTxt != "" {
		deps.SecurityTxt = func() ([]byte, error) { return regularfile.Read(s.HTTP.SecurityTxt) }
	}
	if s.Dev {
		deps.DevMail = s.devMessages
	}
	return deps
}

// maxDevMessages limits the messages that a development server shows.
const maxDevMessages = 50

func (s *server) devMessages() ([]web.DevMessage, error) {
	list, err := s.pickup.Messages(maxDevMessages)
	out := make([]web.DevMessage, len(list))
	for i, m := range list {
		out[i] = web.DevMessage(m)
	}
	return out, err
}

func (s *server) limits() httpserver.Limits {
	return httpserver.Limits{
		Connections:           s.HTTP.MaxConnections,
		ConnectionsPerAddress: s.HTTP.MaxPerAddress,
		TrustedProxies:        s.HTTP.TrustedProxies,
		Counts:                &s.publicConnections,
	}
}
