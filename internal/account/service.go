package account

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"dialtone/internal/audit"
	"dialtone/internal/captcha"
	"dialtone/internal/outbox"
	"dialtone/internal/secret"
	"dialtone/internal/throttle"
)

// Service implements signup, activation and account administration on a Store and an Outbox. It is
// safe for concurrent use.
type Service struct {
	deps        Deps
	buckets     throttle.Buckets
	credentials Sealer
	// forgottenNames seals what people entered who forgot a password. Its purpose string never changes.
	forgottenNames *secret.Vault
	// passkeys seals passkeys. Its purpose string never changes.
	passkeys *secret.Vault
	// appSecrets seals the secrets of authenticator apps, and recoveryCodes hashes recovery
	// codes. Their purpose strings never change.
	appSecrets    *secret.Vault
	recoveryCodes *secret.MAC
	failures      *throttle.Signups
	reserved      sync.Map // string (the tenant's words) -> Reserved
	decoys        sync.Map // int64 (the tenant) -> Account
	started       time.Time
}

// Deps are the dependencies of a Service. A Service for the administration of accounts needs
// no Captcha, and an Outbox only for its links.
type Deps struct {
	Store  Store
	Outbox *outbox.Outbox
	// Captcha returns the issuer for the current signing keys.
	Captcha func() *captcha.Issuer
	// SealRing is the ring of seal.key.
	SealRing *secret.Ring
	// OldForm reports whether earlier versions of the program, which can open only the older
	// form of credentials (Sealer), may use the store. Nil means that none does.
	OldForm func() bool
	// Passwords limits wrong passwords, together with package session. Only Signup needs it.
	Passwords *throttle.Passwords
	Audit     audit.Log
	Log       *slog.Logger
	Now       func() time.Time
	// AddressCeiling is the limit of signups per hour for one address at all tenants together.
	// Zero means no such limit.
	AddressCeiling int
	// OneTenant reports whether there is only one tenant. Then the limit on messages to one
	// person from all tenants together is not counted, since the tenant's own limit is lower.
	// Nil means that it is counted.
	OneTenant func() bool
	// Dev lifts the limits on signups from one address for loopback addresses, so that a
	// developer can sign up as often as needed.
	Dev bool
}

// NewService returns a Service.
func NewService(d Deps) *Service {
	return &Service{
		deps:           d,
		buckets:        throttle.NewBuckets(d.SealRing),
		credentials:    NewSealer(d.SealRing),
		forgottenNames: secret.NewVault(d.SealRing, "forgotten name"),
		appSecrets:     newAppSecrets(d.SealRing),
		recoveryCodes:  secret.NewMAC(d.SealRing, "recovery code"),
		passkeys:       newPasskeyVault(d.SealRing),
		started:        d.Now(),
		failures:       throttle.NewSignups(d.Now),
	}
}

// Origin is where a request comes from.
type Origin struct {
	Addr    netip.Addr
	Request string // the ID of the request, for the log
	// Agent is the User-Agent header, which can be any text. It is neither logged nor stored.
	Agent string
}

// Find returns the account of a user. It fails with fault.NotFound.
func (s *Service) Find(ctx context.Context, tenant int64, user string) (Account, error) {
	return s.deps.Store.Find(ctx, tenant, user, s.deps.Now())
}

// FindUID returns the account with the UID. It fails with fault.NotFound.
func (s *Service) FindUID(ctx context.Context, tenant int64, uid UID) (Account, error) {
	return s.deps.Store.FindUID(ctx, tenant, uid, s.deps.Now())
}
