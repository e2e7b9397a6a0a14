package session

import (
	"context"
	"errors"
	"time"
	"unicode/utf8"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/fault"
	"dialtone/internal/passkey"
	"dialtone/internal/secret"
	"dialtone/internal/tenant"
	"dialtone/internal/throttle"
)

// ChallengeLife is how long the options for a passkey are valid.
const ChallengeLife = 5 * time.Minute

// maxDisplayName is the maximum length of a name in options, in bytes. Authenticators cut longer ones.
const maxDisplayName = 64

var (
	// ErrPasskeyDenied is the error for every response that does not come from a passkey of an
	// active account. It does not tell an unknown passkey from a removed one or a wrong
	// signature.
	ErrPasskeyDenied = &fault.Error{
		Kind: fault.Unauthorized, Rule: "passkey",
		Message: "this passkey is not known here, or its account cannot be used; sign in with the password",
	}
	// ErrNoPasskeys means that browsers refuse passkeys for the tenant's address.
	ErrNoPasskeys = &fault.Error{
		Kind: fault.Invalid, Rule: "no_passkeys",
		Message: "browsers let no page of this platform use passkeys; " +
			"its public URL must be https and have its host name",
	}
)

// PasskeyOptions returns the options for signing in with a passkey, as JSON. The challenge is a
// signed ticket, so nothing is stored until it is used. It fails with ErrNoPasskeys.
func (a *Authenticator) PasskeyOptions(t *tenant.Tenant) ([]byte, error) {
	party, ok := account.Party(t)
	if !ok {
		return nil, ErrNoPasskeys
	}
	challenge := a.deps.Signatures().challenge.Append(nil, t.ID, secret.NewTicket(a.deps.Now()))
	return party.RequestOptions(challenge)
}

// NewPasskeyOptions returns the options for a new passkey of an account whose owner has proved the password,
// as JSON. The challenge names the account, and authorizes adding one passkey to it within ChallengeLife,
// unless its sessions end before. It fails with ErrNotActivated and ErrNoPasskeys.
func (a *Authenticator) NewPasskeyOptions(
	ctx context.Context, t *tenant.Tenant, owner account.Account,
) ([]byte, error) {
	party, ok := account.Party(t)
	if !ok {
		return nil, ErrNoPasskeys
	} else if owner.Pending() {
		return nil, ErrNotActivated
	}
	list, err := a.deps.Accounts.Passkeys(ctx, t, owner)
	if err != nil {
		return nil, err
	}
	if len(list) >= account.MaxPasskeys {
		return nil, account.ErrTooManyPasskeys
	}
	var known []passkey.Credential
	for _, k := range list {
		if k.Usable {
			known = append(known, k.Credential)
		}
	}
	ticket := secret.NewTicket(a.deps.Now())
	ticket.Account, ticket.Epoch = owner.UID, additionEpoch(owner)
	challenge := a.deps.Signatures().addition.Append(nil, t.ID, ticket)
	return party.CreationOptions(challenge, passkey.User{
		Handle: owner.UID[:], Name: owner.User, DisplayName: shorten(owner.Name, maxDisplayName),
	}, known)
}

// additionEpoch is the epoch in challenges for new passkeys. It changes with the first passkey,
// so that options that were obtained before, with the password alone, become invalid.
func additionEpoch(a account.Account) int64 {
	n := 2 * a.Epoch
	if a.Factors.Has(account.FactorPasskey) {
		n++
	}
	return n
}

// shorten cuts a text to at most n bytes, between characters.
func shorten(text string, n int) string {
	if len(text) <= n {
		return text
	}
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n]
}

// NewPasskey verifies the response to NewPasskeyOptions. It returns the credential, and the account as it
// was when its owner proved the password, for account.Service.AddPasskey. A response is good for one call. It
// fails with passkey.ErrResponse, account.ErrPasskeyStale and ErrNoPasskeys.
func (a *Authenticator) NewPasskey(
	ctx context.Context, t *tenant.Tenant, response string,
) (passkey.Credential, account.Account, error) {
	refused := func(err error) (passkey.Credential, account.Account, error) {
		return passkey.Credential{}, account.Account{}, err
	}
	party, ok := account.Party(t)
	if !ok {
		return refused(ErrNoPasskeys)
	}
	parsed, err := passkey.ParseCreation(response)
	if err != nil {
		return refused(err)
	}
	ticket, ok := readChallenge(a.deps.Signatures().addition, t, parsed.Challenge(), a.deps.Now())
	if !ok {
		return refused(account.ErrPasskeyStale)
	}
	made, err := parsed.Verify(party)
	if err != nil {
		return refused(err)
	}
	owner, err := a.owner(ctx, t, ticket.Account)
	switch {
	case fault.Is(err, fault.NotFound), err == nil && (owner.Disabled || additionEpoch(owner) != ticket.Epoch):
		return refused(account.ErrPasskeyStale)
	case err != nil:
		return refused(err)
	}
	if err := a.spendChallenge(ctx, t, ticket); err != nil {
		return refused(err)
	}
	return made, owner, nil
}

// readChallenge returns the ticket of a challenge in a response.
func readChallenge(tickets *secret.Tickets, t *tenant.Tenant, text string, now time.Time) (secret.Ticket, bool) {
	k, ok := tickets.Read(t.ID, text)
	return k, ok && k.Fresh(now, ChallengeLife, nonceSkew)
}

// spendChallenge uses up a challenge. It fails with account.ErrPasskeyStale.
func (a *Authenticator) spendChallenge(ctx context.Context, t *tenant.Tenant, k secret.Ticket) error {
	// It is kept longer than it is valid, because the clocks of servers differ.
	first, err := a.deps.Store.Spend(ctx, t.ID, k.ID, k.Issued.Add(ChallengeLife+time.Minute))
	if err == nil && !first {
		err = account.ErrPasskeyStale
	}
	return err
}

// beginPasskey counts an attempt by its owner token, if it has one, or else by its network. It
// is never counted by the user name, which anybody could claim.
func (a *Authenticator) beginPasskey(
	ctx context.Context, t *tenant.Tenant, from account.Origin, known string,
) (throttle.Guess, time.Duration, error) {
	if known == "" {
		return a.deps.Passwords.BeginUnnamed(ctx, t.ID, from.Addr)
	}
	return a.deps.Passwords.Begin(ctx, t.ID, from.Addr, "", known)
}

// PasskeyAttempt is a response of a passkey to be verified.
type PasskeyAttempt struct {
	// Action is what the passkey is used for. The audit log records failures under it.
	Action audit.Action
	// Response is a PublicKeyCredential as JSON.
	Response string
	// Device is the device token that came with the request, or empty.
	Device string
	From   account.Origin
}

// VerifyPasskey returns the active account whose passkey made a response to PasskeyOptions. It fails with
// passkey.ErrResponse if it is malformed, account.ErrPasskeyStale, ErrPasskeyDenied, passkey.ErrCloned,
// fault.Limited, or with an error of the store. A response is good for one call.
func (a *Authenticator) VerifyPasskey(
	ctx context.Context, t *tenant.Tenant, at PasskeyAttempt,
) (account.Account, error) {
	refused := func(user, outcome, detail string, err error) (account.Account, error) {
		a.recordDetail(ctx, at.Action, t, user, at.From, outcome, detail)
		return account.Account{}, err
	}
	if _, ok := account.Party(t); !ok {
		return account.Account{}, ErrNoPasskeys
	}
	parsed, err := passkey.ParseAssertion(at.Response)
	if err != nil {
		return refused("", "malformed", string(ByPasskey), err)
	}
	ticket, ok := readChallenge(a.deps.Signatures().challenge, t, parsed.Challenge(), a.deps.Now())
	if !ok {
		return account.Account{}, account.ErrPasskeyStale
	}
	var claimed account.Account
	var uid account.UID
	if len(parsed.Handle()) == len(uid) {
		copy(uid[:], parsed.Handle())
		claimed, err = a.owner(ctx, t, uid)
		if err != nil && !fault.Is(err, fault.NotFound) {
			return account.Account{}, err
		}
	}
	known := ""
	if err == nil && claimed.UID == uid {
		if known, err = a.ownerToken(ctx, t, claimed.User, Attempt{Device: at.Device}); err != nil {
			return account.Account{}, err
		}
	}
	guess, wait, err := a.beginPasskey(ctx, t, at.From, known)
	if err != nil {
		return account.Account{}, err
	}
	if wait > 0 {
		return refused(claimed.User, "rate_limited", guess.Limit, limited(wait, guess.Limit))
	}
	defer guess.Cancel() // no effect after Right or Wrong
	// A response can be used once, even if it turns out to be wrong.
	if err := a.spendChallenge(ctx, t, ticket); err != nil {
		return account.Account{}, err
	}
	if claimed.UID == (account.UID{}) || claimed.Disabled {
		guess.Wrong()
		return refused("", "denied", string(ByPasskey), ErrPasskeyDenied)
	}
	used, err := a.deps.Accounts.UsePasskey(ctx, t, parsed)
	switch {
	case errors.Is(err, passkey.ErrCloned):
		return refused(claimed.User, "denied", "passkey_counter", err)
	case fault.Is(err, fault.NotFound), fault.Is(err, fault.Invalid), err == nil && used != claimed.UID:
		guess.Wrong()
		return refused(claimed.User, "denied", string(ByPasskey), ErrPasskeyDenied)
	case err != nil:
		return account.Account{}, err
	}
	return claimed, nil
}
