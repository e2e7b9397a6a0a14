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
	"dialtone/internal/mailmsg"
	"dialtone/internal/secret"
	"dialtone/internal/tenant"
	"dialtone/internal/throttle"
)

// Desk is where accounts are asked for and dealt with: the rules of this package over a store and a mailbox. It is safe
// for concurrent use.
type Service struct {
	Deps
	buckets     throttle.Buckets
	credentials *secret.Vault
	tokens      *secret.Vault
	failures    *throttle.Failures
	reserved    sync.Map // string (the tenant's words) -> Reserved

	outbox  outbox
	started time.Time
}

// Deps is what a Desk works with. Every field is needed, save Letters, AddressCeiling and Relayed.
type Deps struct {
	Store   Store
	Mailbox Mailbox
	// Letters makes the messages; in the program's own words where it is empty.
	Letters mailmsg.Templates
	// Tenant is a tenant by its ID, for a message that is written again after a crash.
	Tenant func(id int64) (*tenant.Tenant, bool)
	// Captcha checks answers under the present signing keys.
	Captcha func() *captcha.Issuer
	// SealRing is the ring of seal.key.
	SealRing *secret.Ring
	Audit    audit.Log
	Log      *slog.Logger
	Now      func() time.Time
	// AddressCeiling is how many signups an hour one address gets at all tenants together; zero for no such limit.
	AddressCeiling int
	// Relayed says that this server sends its messages itself, once their files are on the disk.
	Relayed bool
}

// failureBuckets bounds the memory for counting failed signups: about 100 bytes each, and more for those that fail often.
const failureBuckets = 1 << 16

// What is sealed, and so which keys are used. The words never change: they are part of the keys.
const (
	vaultCredential = "credential"
	vaultToken      = "activation token"
)

// NewDesk makes a Desk.
func NewService(d Deps) *Service {
	return &Service{
		Deps:        d,
		buckets:     throttle.NewBuckets(d.SealRing),
		credentials: secret.NewVault(d.SealRing, vaultCredential),
		tokens:      secret.NewVault(d.SealRing, vaultToken),
		started:     d.Now(),
		failures:    throttle.NewFailures(throttle.FailedSignups, failureBuckets, d.Now),
	}
}

// Origin is where a request comes from.
type Origin struct {
	Addr    netip.Addr
	Request string // the request's id, for the log
}

// Credential opens the sealed credential of an account.
func (d *Service) Credential(a Account) (digest.Credential, error) { return a.open(d.credentials) }

func (a Account) open(v *secret.Vault) (digest.Credential, error) {
	b, err := v.Open(a.Tenant, a.UID[:], a.Sealed)
	if err != nil {
		return digest.Credential{}, err
	}
	return digest.UnmarshalCredential(b)
}

// Opener opens the sealed credentials of accounts, for a store that keeps a directory for phone servers.
func Opener(ring *secret.Ring) func(Account) (digest.Credential, error) {
	v := secret.NewVault(ring, vaultCredential)
	return func(a Account) (digest.Credential, error) { return a.open(v) }
}

// Activate opens a link. It spends the token, or at a tenant that wants the password too it gives the account as it is, still
// pending. Besides the errors of Store.Activate it fails with fault.NotFound for a text that is no token.
func (d *Service) Activate(ctx context.Context, t *tenant.Tenant, text string, from Origin) (Account, error) {
	var a Account
	err := error(fault.New(fault.NotFound, "no such link"))
	if token, ok := secret.ParseToken(text); ok {
		if t.Confirms() {
			a, err = d.Store.Linked(ctx, t.ID, token.Hash(), d.Now())
		} else {
			// The write goes on when the client hangs up: a link is not left half used.
			a, err = d.Store.Activate(context.WithoutCancel(ctx), t.ID, token.Hash(), d.Now())
		}
	}
	told := err
	if err == nil && a.Pending() {
		told = errOpened
	}
	d.record(ctx, audit.Activate, t, a, from, told)
	return a, err
}

// errOpened is for the audit log alone.
var errOpened = errors.New("a link was opened, and the password is to come")

// ErrLink is a Confirm with a link that is not the account's.
var ErrLink = fault.Field("token", "this is not the link of that account, or a newer message has replaced it; open the link of the newest message")

// Confirm spends the token of a link of a person who has proved the password of a. It may be repeated. It fails with ErrLink,
// ErrExpired and ErrHeld.
func (d *Service) Confirm(ctx context.Context, t *tenant.Tenant, a Account, text string, from Origin) (Account, error) {
	err := error(ErrLink)
	if token, ok := secret.ParseToken(text); ok {
		var confirmed Account
		confirmed, err = d.Store.Confirm(context.WithoutCancel(ctx), t.ID, token.Hash(), a.UID, d.Now())
		switch {
		case err == nil:
			a = confirmed
		case fault.Is(err, fault.NotFound) && !errors.Is(err, ErrExpired):
			err = ErrLink
		}
	}
	d.record(ctx, audit.Confirm, t, a, from, err)
	return a, err
}

// Enable, Disable, SetRole and Delete are an operator's acts.
func (d *Service) Enable(ctx context.Context, t *tenant.Tenant, user string) (Account, error) {
	a, err := d.Store.Enable(ctx, t.ID, user, d.Now())
	d.record(ctx, audit.AccountEnable, t, named(a, user), Origin{}, err)
	return a, err
}

func (d *Service) Disable(ctx context.Context, t *tenant.Tenant, user string) (Account, error) {
	a, err := d.Store.Disable(ctx, t.ID, user, d.Now())
	d.record(ctx, audit.AccountDisable, t, named(a, user), Origin{}, err)
	return a, err
}

func (d *Service) SetRole(ctx context.Context, t *tenant.Tenant, user string, role Role) (Account, error) {
	a, err := d.Store.SetRole(ctx, t.ID, user, role, d.Now())
	d.record(ctx, audit.AccountRole, t, named(a, user), Origin{}, err)
	return a, err
}

func (d *Service) Delete(ctx context.Context, t *tenant.Tenant, user string) error {
	err := d.Store.Delete(ctx, t.ID, user, d.Now())
	d.record(ctx, audit.AccountDelete, t, named(Account{}, user), Origin{}, err)
	return err
}

func named(a Account, user string) Account {
	if a.User == "" {
		a.User = user
	}
	return a
}

func (d *Service) record(ctx context.Context, action audit.Action, t *tenant.Tenant, a Account, from Origin, err error) {
	e := audit.Event{
		Action: action, Outcome: outcome(err), Tenant: t.Host, User: a.User, Peer: from.Addr, Request: from.Request,
	}
	if a.Email != "" {
		e.Email = MaskEmail(a.Email)
	}
	if fe, ok := asFault(err); ok {
		e.Detail = fe.Field
	}
	d.Audit.Record(ctx, e)
}

// stage stages the activation message of an account.
func (d *Service) stage(t *tenant.Tenant, a Account, id mailmsg.ID, token secret.Token, made time.Time) (StagedMessage, error) {
	l, err := d.Letters.Activation(t, a.Lang, id, a.Email, token, made, a.Expires)
	if err != nil {
		return nil, err
	}
	return d.Mailbox.Stage(l)
}
