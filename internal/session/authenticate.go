package session

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/digest"
	"dialtone/internal/fault"
	"dialtone/internal/tenant"
	"dialtone/internal/throttle"
)

// Attempt is a request to be authenticated.
type Attempt struct {
	// Action is what the proof is for. The audit log records failures under it.
	Action audit.Action
	// Authorization is the header, or empty if the client has no challenge yet.
	Authorization string
	Method        string
	// URI is the target of the request, exactly as it was received.
	URI string
	// Code is the code of a second factor that came with the request, or empty.
	Code string
	// Session is the token of the session that came with the request, or empty.
	Session string
	// Device is the device token that came with the request, or empty.
	Device string
	// Link is the activation link that came with the request, or empty.
	Link string
	From account.Origin
}

var (
	// ErrNoProof means that a request has no answer to a challenge yet.
	ErrNoProof = fault.New(fault.Unauthorized,
		"prove the password with HTTP Digest, by the challenge in WWW-Authenticate")

	// ErrStale means that only the nonce of an answer was wrong. Clients answer the new
	// challenge without asking the person.
	ErrStale = fault.New(fault.Unauthorized,
		"the challenge was answered too late or twice; answer the new one")

	// ErrDenied is the error for every proof that does not match an account's password.
	ErrDenied = fault.New(fault.Unauthorized, "the user name or the password is wrong")

	// ErrURI means that an answer is for a request target other than the one received.
	ErrURI = fault.New(fault.Unauthorized, "the Digest answer names another uri than the request; "+
		"a proxy in front of this server must not change the path")

	// ErrNoCode means that the password is right, but the account also needs a code.
	ErrNoCode = secondFactor("code", "this account also needs the code of its authenticator app, or a recovery "+
		"code; send it in the header Dialtone-Code, with another proof of the password")

	// ErrPasskey means that the password is right but not sufficient: the platform requires a
	// second factor, and the account's is a passkey.
	ErrPasskey = secondFactor("passkey", "this platform requires a second factor for this account; "+
		"sign in with your passkey")

	// ErrFactorMissing means that the platform requires a second factor and the account has none.
	ErrFactorMissing = secondFactor("factor", "this platform requires a second factor for this account; "+
		"set one up at /two-step.html first")

	// ErrNotActivated means that the password is right but the account was not activated.
	ErrNotActivated = account.ErrNotActivated

	// ErrLeaving means that the password is right, and that the owner of the account has left.
	ErrLeaving = account.ErrLeaving
)

func secondFactor(rule, message string) error {
	err := fault.New(fault.SecondFactor, "%s", message)
	err.Rule = rule
	return err
}

// Authenticate returns the account whose password a request proves, active or pending, after the second step
// that the account needs. Otherwise it fails, with ErrNoProof, ErrStale, ErrURI or ErrDenied and the challenge
// to send, with ErrNoCode, account.ErrCodeWrong, ErrPasskey or ErrFactorMissing after the right password, with
// fault.Limited, or with an error of the store. With ErrLeaving, which follows the right password without a second
// step, it also returns the account. An answer is good for one call, and so is a code.
func (a *Authenticator) Authenticate(
	ctx context.Context, t *tenant.Tenant, at Attempt,
) (account.Account, *digest.Challenge, error) {
	proved, err := a.prove(ctx, t, at)
	if errors.Is(err, ErrLeaving) {
		return proved, nil, err
	}
	if err == nil {
		err = a.secondStep(ctx, t, proved, at)
	}
	if fault.Is(err, fault.Unauthorized) {
		return account.Account{}, a.challenge(t, errors.Is(err, ErrStale)), err
	}
	if err != nil {
		return account.Account{}, nil, err
	}
	return proved, nil, nil
}

// secondStep checks the second factor of an account whose password was proved.
func (a *Authenticator) secondStep(
	ctx context.Context, t *tenant.Tenant, owner account.Account, at Attempt,
) error {
	err, outcome := error(nil), ""
	switch {
	case owner.Factors.Has(account.FactorApp) && at.Code == "":
		err, outcome = ErrNoCode, "code_needed"
	case owner.Factors.Has(account.FactorApp):
		err = a.deps.Accounts.UseCode(ctx, t, owner, at.Code, at.From)
		switch {
		case errors.Is(err, account.ErrCodeWrong):
			outcome = "code_wrong"
		case fault.Is(err, fault.Limited):
			a.recordDetail(ctx, at.Action, t, owner.User, at.From, "rate_limited", throttle.LimitCode)
		case errors.Is(err, account.ErrHeld), errors.Is(err, account.ErrPasswordChanged),
			fault.Is(err, fault.NotFound): // since the proof
			err, outcome = ErrDenied, "denied"
		}
	case !requiresFactor(t, owner):
	case FactorMissing(t, owner):
		if !setsUpFactor[at.Action] {
			err, outcome = ErrFactorMissing, "factor_needed"
		}
	case owner.Factors.Has(account.FactorPasskey):
		// Its valid sessions began with the passkey.
		if !a.hasSession(ctx, t, owner, at) {
			err, outcome = ErrPasskey, "passkey_needed"
		}
	}
	if outcome != "" {
		a.record(ctx, at.Action, t, owner.User, at.From, outcome)
	}
	return err
}

// setsUpFactor are the actions that are permitted to an account which must have a second factor but has none yet.
var setsUpFactor = map[audit.Action]bool{
	audit.SignIn: true, audit.TwoStepBegin: true, audit.TwoStepOn: true, audit.PasskeyAdd: true,
}

// requiresFactor reports whether the platform requires a second factor for an account.
func requiresFactor(t *tenant.Tenant, a account.Account) bool {
	return t.RequireFactor == tenant.RequireAdmin && a.Role == account.Admin
}

// FactorMissing reports whether the platform requires a second factor of an account that has none.
func FactorMissing(t *tenant.Tenant, a account.Account) bool {
	return requiresFactor(t, a) && a.Factors == 0
}

// hasSession reports whether a request came with a session of owner.
func (a *Authenticator) hasSession(
	ctx context.Context, t *tenant.Tenant, owner account.Account, at Attempt,
) bool {
	other, err := a.SignedIn(ctx, t, at.Session, at.From)
	return err == nil && other.UID == owner.UID
}

// Deny returns what Authenticate returns for a wrong proof. It is for an account that turns out to
// be disabled or deleted after its password was proved.
func (a *Authenticator) Deny(t *tenant.Tenant) (*digest.Challenge, error) {
	return a.challenge(t, false), ErrDenied
}

func (a *Authenticator) challenge(t *tenant.Tenant, stale bool) *digest.Challenge {
	return &digest.Challenge{
		Realm: t.Realm, Algorithm: t.Challenge(), Nonce: a.nonces.issue(t), Stale: stale,
	}
}

// prove is Authenticate without the challenge.
func (a *Authenticator) prove(
	ctx context.Context, t *tenant.Tenant, at Attempt,
) (account.Account, error) {
	if at.Authorization == "" {
		return account.Account{}, ErrNoProof
	}
	answer, err := digest.ParseAnswer(at.Authorization)
	if err != nil || answer.Realm != t.Realm || answer.Algorithm != t.Challenge() {
		a.record(ctx, at.Action, t, "", at.From, "malformed")
		return account.Account{}, ErrDenied
	}
	if !sameResource(t, answer.URI, at.URI) {
		a.record(ctx, at.Action, t, "", at.From, "other_uri")
		return account.Account{}, ErrURI
	}
	owner, err := a.ownerToken(ctx, t, answer.Username, at)
	if err != nil {
		return account.Account{}, err
	}
	guess, wait, err := a.deps.Passwords.Begin(ctx, t.ID, at.From.Addr, answer.Username, owner)
	if err != nil {
		return account.Account{}, err
	}
	if wait > 0 {
		a.recordDetail(ctx, at.Action, t, answer.Username, at.From, "rate_limited", guess.Limit)
		return account.Account{}, limited(wait, guess.Limit)
	}
	defer guess.Cancel() // no effect after Right or Wrong
	if fresh, err := a.nonces.spend(ctx, t, answer.Nonce); err != nil {
		return account.Account{}, err
	} else if !fresh {
		return account.Account{}, ErrStale
	}

	found, err := a.deps.Accounts.Find(ctx, t.ID, answer.Username)
	known := err == nil
	if fault.Is(err, fault.NotFound) {
		found, err = a.deps.Accounts.Decoy(t.ID), nil
	}
	if err != nil {
		return account.Account{}, err
	}
	credential, err := a.deps.Accounts.Credential(found)
	if err != nil { // the account exists, so its name is not a mistyped password and can be logged
		return account.Account{}, fmt.Errorf("account %s of %s: %w", found.User, t.Host, err)
	}
	right := answer.Proves(credential, at.Method)
	if known && right && found.State() == account.Leaving {
		guess.Right()
		a.record(ctx, at.Action, t, found.User, at.From, "leaving")
		return found, ErrLeaving
	}
	if !known || !right || found.Held {
		guess.Wrong()
		a.record(ctx, at.Action, t, answer.Username, at.From, "denied")
		return account.Account{}, ErrDenied
	}
	guess.Right()
	return found, nil
}

// limited returns the error for too many wrong passwords. Its rule tells programs which limit
// was reached, unless it is a limit of the network.
func limited(wait time.Duration, limit string) error {
	err := fault.Limit(wait, "too many failed sign-ins; wait before trying again")
	if limit == throttle.LimitName || limit == throttle.LimitDevice {
		err.Rule = limit
	}
	return err
}

// sameResource reports whether the uri of an answer is the target of its request. It may also
// be an absolute URI of this tenant with that path (RFC 7616 section 3.4.6).
func sameResource(t *tenant.Tenant, uri, target string) bool {
	if uri == target {
		return true
	}
	u, err := url.Parse(uri)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.User == nil &&
		strings.EqualFold(u.Hostname(), t.Host) && u.RequestURI() == target
}
