package account

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"dialtone/internal/audit"
	"dialtone/internal/captcha"
	"dialtone/internal/digest"
	"dialtone/internal/fault"
	"dialtone/internal/outbox"
	"dialtone/internal/secret"
	"dialtone/internal/tenant"
	"dialtone/internal/throttle"
)

// Service implements signup, activation and account administration on a Store and an Outbox. It is
// safe for concurrent use.
type Service struct {
	deps        Deps
	buckets     throttle.Buckets
	credentials *secret.Vault
	failures    *throttle.Failures
	reserved    sync.Map // string (the tenant's words) -> Reserved
	started     time.Time
}

// Deps are the dependencies of a Service. A Service for the administration of accounts needs
// neither Outbox nor Captcha.
type Deps struct {
	Store  Store
	Outbox *outbox.Outbox
	// Captcha returns the issuer for the present signing keys.
	Captcha func() *captcha.Issuer
	// SealRing is the ring of seal.key.
	SealRing *secret.Ring
	// Passwords limits wrong passwords, together with package session. Only Signup needs it.
	Passwords *throttle.Passwords
	Audit     audit.Log
	Log       *slog.Logger
	Now       func() time.Time
	// AddressCeiling is how many signups an hour one address gets at all tenants together, or zero
	// for no such limit.
	AddressCeiling int
}

// vaultCredential is the purpose that credentials are sealed for. It is part of the keys and never
// changes.
const vaultCredential = "credential"

// NewService returns a Service.
func NewService(d Deps) *Service {
	return &Service{
		deps:        d,
		buckets:     throttle.NewBuckets(d.SealRing),
		credentials: secret.NewVault(d.SealRing, vaultCredential),
		started:     d.Now(),
		failures: throttle.NewFailures(
			throttle.FailedSignups, throttle.FailedSignupBuckets, d.Now),
	}
}

// Origin is where a request comes from.
type Origin struct {
	Addr    netip.Addr
	Request string // the request's ID, for the log
}

// Find returns the account of a user. It fails with fault.NotFound.
func (s *Service) Find(ctx context.Context, tenant int64, user string) (Account, error) {
	return s.deps.Store.Find(ctx, tenant, user, s.deps.Now())
}

// FindUID returns the account with the UID. It fails with fault.NotFound.
func (s *Service) FindUID(ctx context.Context, tenant int64, uid UID) (Account, error) {
	return s.deps.Store.FindUID(ctx, tenant, uid, s.deps.Now())
}

// Credential opens the sealed credential of an account.
func (s *Service) Credential(a Account) (digest.Credential, error) { return a.open(s.credentials) }

func (a Account) open(v *secret.Vault) (digest.Credential, error) {
	b, err := v.Open(a.Tenant, a.UID[:], a.Sealed)
	if err != nil {
		return digest.Credential{}, err
	}
	return digest.UnmarshalCredential(b)
}

// HasLink reports whether a text is the newest link of the account of a user, or the link that
// activated it.
func (s *Service) HasLink(ctx context.Context, tenant int64, user, text string) (bool, error) {
	token, ok := secret.ParseToken(text)
	if !ok {
		return false, nil
	}
	a, err := s.deps.Store.Linked(ctx, tenant, token.Hash(), s.deps.Now())
	switch {
	case err == nil, errors.Is(err, ErrActive):
		return a.User == user, nil
	case errors.Is(err, ErrHeld), fault.Is(err, fault.NotFound):
		return false, nil
	}
	return false, err
}

// Opener returns a function that opens the sealed credentials of accounts, for a store that exports
// them to SIP servers.
func Opener(ring *secret.Ring) func(Account) (digest.Credential, error) {
	v := secret.NewVault(ring, vaultCredential)
	return func(a Account) (digest.Credential, error) { return a.open(v) }
}

// Activate is called when a link is opened. It spends the token and activates the account. At a
// tenant that requires the password too, it only returns the account, which is still pending. It
// fails with the errors of LinkStore.Activate, and with fault.NotFound for a text that is not a
// token.
func (s *Service) Activate(
	ctx context.Context, t *tenant.Tenant, text string, from Origin,
) (Account, error) {
	var a Account
	err := error(fault.New(fault.NotFound, "no such link"))
	if token, ok := secret.ParseToken(text); ok {
		if t.Confirms() {
			a, err = s.deps.Store.Linked(ctx, t.ID, token.Hash(), s.deps.Now())
		} else {
			// The write goes on if the client disconnects, so that no link is half used.
			ctx := context.WithoutCancel(ctx)
			a, err = s.deps.Store.Activate(ctx, t.ID, token.Hash(), s.deps.Now())
		}
	}
	recorded := err
	if err == nil && a.Pending() {
		recorded = errOpened
	}
	s.record(ctx, audit.Activate, t, a, from, recorded)
	return a, err
}

// errOpened is what the audit log records for a link that was opened at a tenant that requires the
// password too.
var errOpened = errors.New("link opened, password required")

// ErrLink means that a link is not that of the account whose password was proved.
var ErrLink = fault.Field("token", "this is not the link of that account, or a newer message has "+
	"replaced it; open the link of the newest message")

// Confirm takes the token of a link from somebody who has proved the password of a. It may be
// repeated. It fails with ErrLink, ErrExpired and ErrHeld.
func (s *Service) Confirm(
	ctx context.Context, t *tenant.Tenant, a Account, text string, from Origin,
) (Account, error) {
	err := error(ErrLink)
	if token, ok := secret.ParseToken(text); ok {
		var confirmed Account
		confirmed, err = s.deps.Store.Confirm(
			context.WithoutCancel(ctx), t.ID, token.Hash(), a.UID, s.deps.Now())
		switch {
		case err == nil:
			a = confirmed
		case fault.Is(err, fault.NotFound) && !errors.Is(err, ErrExpired):
			err = ErrLink
		}
	}
	s.record(ctx, audit.Confirm, t, a, from, err)
	return a, err
}

// Enable activates a pending account, and ends a hold, on behalf of an operator. Like the other
// methods for operators it fails with fault.NotFound.
func (s *Service) Enable(ctx context.Context, t *tenant.Tenant, user string) (Account, error) {
	a, err := s.deps.Store.Enable(ctx, t.ID, user, s.deps.Now())
	s.recordAdmin(ctx, audit.AccountEnable, t, a, user, err)
	return a, err
}

// Disable holds an account and ends its sessions.
func (s *Service) Disable(ctx context.Context, t *tenant.Tenant, user string) (Account, error) {
	a, err := s.deps.Store.Disable(ctx, t.ID, user, s.deps.Now())
	s.recordAdmin(ctx, audit.AccountDisable, t, a, user, err)
	return a, err
}

// SetRole changes the role of an account.
func (s *Service) SetRole(
	ctx context.Context, t *tenant.Tenant, user string, role Role,
) (Account, error) {
	a, err := s.deps.Store.SetRole(ctx, t.ID, user, role, s.deps.Now())
	s.recordAdmin(ctx, audit.AccountRole, t, a, user, err)
	return a, err
}

// Delete removes an account. The name of one that was active stays taken.
func (s *Service) Delete(ctx context.Context, t *tenant.Tenant, user string) error {
	err := s.deps.Store.Delete(ctx, t.ID, user, s.deps.Now())
	s.recordAdmin(ctx, audit.AccountDelete, t, Account{}, user, err)
	return err
}

func (s *Service) recordAdmin(
	ctx context.Context, action audit.Action, t *tenant.Tenant, a Account, user string, err error,
) {
	a.User = user
	s.record(ctx, action, t, a, Origin{}, err)
}

func (s *Service) record(
	ctx context.Context, action audit.Action, t *tenant.Tenant, a Account, from Origin, err error,
) {
	e := audit.Event{
		Action: action, Outcome: auditReason(err), Tenant: t.Host, User: a.User,
		Peer: from.Addr, Request: from.Request,
	}
	if a.Email != "" {
		e.Email = audit.MaskEmail(a.Email)
	}
	if fe, ok := errors.AsType[*fault.Error](err); ok {
		e.Detail = fe.Field
	}
	s.deps.Audit.Record(ctx, e)
}

// recordUndo records that a signup or a new link was undone.
func (s *Service) recordUndo(
	ctx context.Context, action audit.Action, t *tenant.Tenant, user string, err error,
) {
	s.deps.Audit.Record(ctx, audit.Event{
		Action: action, Outcome: auditReason(err), Tenant: t.Host, User: user,
	})
}

// auditReason is the reason code that the audit log has for an error.
func auditReason(err error) string {
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, ErrActive):
		return "already_active"
	case errors.Is(err, ErrExpired):
		return "expired"
	case errors.Is(err, ErrHeld):
		return "held"
	case errors.Is(err, ErrReplaced):
		return "replaced"
	case errors.Is(err, errOpened):
		return "opened"
	case errors.Is(err, errRepeated):
		return "repeated"
	}
	switch fault.KindOf(err) {
	case fault.Invalid:
		return "invalid_request"
	case fault.Limited:
		return "rate_limited"
	case fault.Captcha:
		return "captcha_failed"
	case fault.Conflict:
		return "conflict"
	case fault.NotFound:
		return "not_found"
	case fault.Overloaded:
		return "overloaded"
	default:
		return "server_error"
	}
}
