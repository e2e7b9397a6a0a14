package account

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"dialtone/internal/audit"
	"dialtone/internal/fault"
	"dialtone/internal/mailmsg"
	"dialtone/internal/passkey"
	"dialtone/internal/secret"
	"dialtone/internal/tenant"
	"dialtone/internal/throttle"
)

const (
	// MaxPasskeys is the maximum number of passkeys of an account.
	MaxPasskeys = 20
	// maxPasskeyName is the maximum length of a passkey's name, in code points.
	maxPasskeyName = 64
)

// Passkey is a passkey as it is stored.
type Passkey struct {
	// ID is the credential ID.
	ID      []byte
	Account UID
	// RP is the RP ID that the passkey was made for. It is for people; the sealed value decides.
	RP string
	// Name is what its owner calls it.
	Name string
	// Sealed is the passkey.Credential, sealed for its tenant, account, RP ID and credential ID.
	Sealed []byte
	Made   time.Time
	// Used is when it was last used, or zero.
	Used time.Time
}

// PasskeyStore stores passkeys. Those of an account that is not active cannot be used.
type PasskeyStore interface {
	// AddPasskey adds a passkey to an active account, with a message and a row of the audit trail. Concurrent
	// calls never exceed the limits. It fails with fault.NotFound for an account that does not exist or is not
	// active, with ErrHeld, with ErrPasskeyStale if the account has since got another epoch or its first
	// passkey, with ErrPasskeyKnown if there is a passkey with this ID, and with ErrTooManyPasskeys. The first
	// passkey ends the link that would set another address.
	AddPasskey(ctx context.Context, n NewPasskey, now time.Time) (Account, error)

	// RenamePasskey gives a passkey of an account another name, and takes a place under each
	// limit. It changes nothing if the passkey has that name already. It fails with
	// ErrNoPasskey and fault.Limited, and as AddPasskey does for the account.
	RenamePasskey(ctx context.Context, a Account, id []byte, name string, now time.Time,
		limits ...throttle.Allowance) error

	// RemovePasskey removes a passkey of an account and ends its sessions, with a message and a row of the audit
	// trail. Exactly one of several concurrent calls succeeds. It fails with ErrNoPasskey, and as AddPasskey does
	// for the account.
	RemovePasskey(ctx context.Context, r PasskeyRemoval, now time.Time) (Account, error)

	// Passkeys returns the passkeys of an account, oldest first.
	Passkeys(ctx context.Context, uid UID) ([]Passkey, error)

	// Passkey returns the passkey of a tenant with a credential ID. It fails with ErrNoPasskey.
	Passkey(ctx context.Context, tenant int64, id []byte) (Passkey, error)

	// UsePasskey records a use of a passkey and stores its new state. It fails with
	// ErrPasskeyChanged if the stored passkey differs from was, and with ErrNoPasskey if it is
	// gone or its account is not active.
	UsePasskey(ctx context.Context, was Passkey, sealed []byte, now time.Time) error
}

// NewPasskey is a passkey to add. Account is the account as it was when the owner proved the password.
type NewPasskey struct {
	Account Account
	Passkey Passkey
	Notice
	Allowances []throttle.Allowance
}

// PasskeyRemoval is a passkey to remove.
type PasskeyRemoval struct {
	Account Account // as it was when its owner proved their presence
	ID      []byte
	Notice
	Allowances []throttle.Allowance
}

// Errors of a PasskeyStore.
var (
	ErrNoPasskey = fault.Rule("id", "gone",
		"there is no such passkey of your account; it may have been removed already, so load the list again")
	ErrPasskeyKnown = limitRule("passkey_known", fault.New(fault.Conflict,
		"this passkey was added already; use it, or choose another device"))
	ErrTooManyPasskeys = limitRule("passkeys", fault.New(fault.Conflict,
		"an account can have %d passkeys; remove one that you no longer use", MaxPasskeys))
	// ErrPasskeyStale means that a response is for options that have expired or were used, or for an
	// account whose sessions have ended since.
	ErrPasskeyStale = limitRule("passkey_stale", fault.New(fault.Conflict,
		"the options for the passkey were used or are too old; get new ones and try again"))
	ErrPasskeyChanged = fault.New(fault.Conflict, "the passkey was used at the same moment")
)

// Party returns the tenant as a relying party. ok is false if browsers refuse passkeys for its
// address: they require TLS or a loopback host, and a host name.
func Party(t *tenant.Tenant) (_ passkey.Party, ok bool) {
	u, err := url.Parse(t.PublicURL)
	if err != nil {
		return passkey.Party{}, false
	}
	host := u.Hostname()
	if u.Port() == "443" && u.Scheme == "https" || u.Port() == "80" && u.Scheme == "http" {
		u.Host = host // as browsers write an origin
	}
	_, notIP := netip.ParseAddr(host)
	return passkey.Party{ID: t.Host, Origin: u.Scheme + "://" + u.Host, Name: t.Name()},
		(t.Secure() || tenant.Loopback(host)) && notIP != nil &&
			(host == t.Host || strings.HasSuffix(host, "."+t.Host))
}

// CleanPasskeyName returns the name of a passkey as it is stored: by the rules of displayed names, with at
// most 64 characters. It fails with fault.Rule("name", …).
func CleanPasskeyName(raw string) (string, error) {
	name, err := CleanName(raw)
	if err == nil && utf8.RuneCountInString(name) > maxPasskeyName {
		err = fault.Rule("name", "long", "must be at most %d characters long; shorten it", maxPasskeyName)
	}
	return name, err
}

// passkeyPlace returns what the sealed value of a passkey is bound to. The length of the RP ID
// makes the encoding unambiguous.
func passkeyPlace(k Passkey) []byte {
	return slices.Concat(k.Account[:], []byte{byte(len(k.RP))}, []byte(k.RP), k.ID)
}

func (s *Service) sealPasskey(tenant int64, k Passkey, c passkey.Credential) []byte {
	return s.passkeys.Seal(tenant, passkeyPlace(k), c.Marshal())
}

// OpenPasskey returns the credential of a passkey. It fails with secret.ErrSeal if something
// other than a Service made or changed the row.
func (s *Service) OpenPasskey(tenant int64, k Passkey) (passkey.Credential, error) {
	return openPasskey(s.passkeys, tenant, k)
}

// newPasskeyVault returns the vault that seals passkeys.
func newPasskeyVault(ring *secret.Ring) *secret.Vault { return secret.NewVault(ring, "passkey") }

func openPasskey(vault *secret.Vault, tenant int64, k Passkey) (passkey.Credential, error) {
	b, err := vault.Open(tenant, passkeyPlace(k), k.Sealed)
	if err != nil {
		return passkey.Credential{}, err
	}
	return passkey.Unmarshal(k.ID, b)
}

// AddPasskey adds a passkey to the account of an owner who has proved the password. proved is
// the account as it was then. It fails with fault.Invalid for the name, ErrNotActivated, and
// the errors of PasskeyStore.AddPasskey.
func (s *Service) AddPasskey(
	ctx context.Context, t *tenant.Tenant, proved Account, c passkey.Credential, name string, from Origin,
) (Passkey, error) {
	n := NewPasskey{
		Account: proved,
		Passkey: Passkey{ID: c.ID, Account: proved.UID, RP: t.Host},
		Notice:  s.newFactorNotice(proved, mailmsg.PasskeyAdded, audit.Network(from.Addr)),

		Allowances: s.factorChange(proved),
	}
	var err error
	switch n.Passkey.Name, err = CleanPasskeyName(name); {
	case err != nil:
	case proved.Pending():
		err = ErrNotActivated
	default:
		n.Passkey.Made = n.Made // the link of the message removes what was added since
		n.Passkey.Sealed = s.sealPasskey(t.ID, n.Passkey, c)
		var a Account
		if a, err = s.deps.Store.AddPasskey(byOwner(ctx, from), n, s.deps.Now()); err != nil {
			a = proved
		}
		s.writeAfter(a, n.Notice, err)
	}
	s.record(ctx, audit.PasskeyAdd, t, proved, from, err)
	return n.Passkey, err
}

// RenamePasskey gives a passkey of an account another name. It fails with fault.Invalid and with the
// errors of PasskeyStore.RenamePasskey.
func (s *Service) RenamePasskey(
	ctx context.Context, t *tenant.Tenant, owner Account, id []byte, name string, from Origin,
) error {
	name, err := CleanPasskeyName(name)
	if err == nil {
		err = s.deps.Store.RenamePasskey(byOwner(ctx, from), owner, id, name, s.deps.Now(),
			s.changeLimit(owner, changeByCookie))
	}
	s.record(ctx, audit.PasskeyRename, t, owner, from, err)
	return err
}

// RemovePasskey removes a passkey of an account whose owner has proved their presence. It
// returns the changed account: all its sessions have ended. It fails with ErrNotActivated and
// with the errors of PasskeyStore.RemovePasskey.
func (s *Service) RemovePasskey(
	ctx context.Context, t *tenant.Tenant, proved Account, id []byte, from Origin,
) (a Account, err error) {
	err = ErrNotActivated
	if !proved.Pending() {
		n := PasskeyRemoval{
			Account: proved, ID: id,
			Notice:     s.newFactorNotice(proved, mailmsg.PasskeyRemoved, audit.Network(from.Addr)),
			Allowances: s.factorRemoval(proved),
		}
		if a, err = s.deps.Store.RemovePasskey(byOwner(ctx, from), n, s.deps.Now()); err != nil {
			a = proved
		}
		s.writeAfter(a, n.Notice, err)
	}
	s.record(ctx, audit.PasskeyRemove, t, proved, from, err)
	return a, err
}

// OwnPasskey is a passkey as its owner sees it.
type OwnPasskey struct {
	Passkey
	passkey.Credential
	// Usable means that it was made for the tenant's current host name.
	Usable bool
}

// Passkeys returns the passkeys of an account, oldest first. A passkey that does not open was
// not made by this program: it is left out and logged.
func (s *Service) Passkeys(ctx context.Context, t *tenant.Tenant, owner Account) ([]OwnPasskey, error) {
	rows, err := s.deps.Store.Passkeys(ctx, owner.UID)
	if err != nil {
		return nil, err
	}
	list := make([]OwnPasskey, 0, len(rows))
	for _, k := range rows {
		c, err := s.OpenPasskey(t.ID, k)
		if err != nil {
			s.deps.Log.ErrorContext(ctx, "passkey does not open", "tenant", t.Host, "user", owner.User, "err", err)
			continue
		}
		list = append(list, OwnPasskey{k, c, k.RP == t.Host})
	}
	return list, nil
}

// maxUseAttempts is how often UsePasskey tries to update a passkey that concurrent uses change.
const maxUseAttempts = 5

// UsePasskey verifies a response of a passkey and stores its use. It returns the UID of the
// account, which the caller must look up. It fails with ErrNoPasskey for an unknown passkey or
// one of another RP ID, with passkey.ErrResponse and passkey.ErrCloned, and with secret.ErrSeal
// for a row that was changed.
func (s *Service) UsePasskey(ctx context.Context, t *tenant.Tenant, response passkey.Assertion) (UID, error) {
	for range maxUseAttempts {
		k, err := s.deps.Store.Passkey(ctx, t.ID, response.ID())
		if err != nil {
			return UID{}, err
		}
		err = s.usePasskey(ctx, t, k, response)
		if !errors.Is(err, ErrPasskeyChanged) {
			return k.Account, err
		}
	}
	return UID{}, ErrPasskeyChanged
}

func (s *Service) usePasskey(ctx context.Context, t *tenant.Tenant, k Passkey, response passkey.Assertion) error {
	party, ok := Party(t)
	if !ok || k.RP != party.ID || string(response.Handle()) != string(k.Account[:]) {
		return ErrNoPasskey
	}
	before, err := s.OpenPasskey(t.ID, k)
	if err != nil {
		return fmt.Errorf("passkey of account %s of %s: %w", k.Account, t.Host, err)
	}
	after, err := response.Verify(party, before)
	if err != nil {
		return err
	}
	// If nothing has changed, the sealed value stays the same. So concurrent uses of a passkey
	// without a counter do not conflict.
	sealed := k.Sealed
	if !after.Equal(before) {
		sealed = s.sealPasskey(t.ID, k, after)
	}
	return s.deps.Store.UsePasskey(context.WithoutCancel(ctx), k, sealed, s.deps.Now())
}
