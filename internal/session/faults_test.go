package session_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/digest"
	"dialtone/internal/session"
)

var errBroken = errors.New("broken by the test")

// faultyStore is a store whose methods fail with the errors in its fields.
type faultyStore struct {
	session.Store
	revoke, revoked, spend error
}

func (s *faultyStore) Revoke(ctx context.Context, tenant int64, id [16]byte, expires time.Time) error {
	if s.revoke != nil {
		return s.revoke
	}
	return s.Store.Revoke(ctx, tenant, id, expires)
}

func (s *faultyStore) Revoked(
	ctx context.Context, tenant int64, id [16]byte, expires time.Time,
) (bool, error) {
	if s.revoked != nil {
		return false, s.revoked
	}
	return s.Store.Revoked(ctx, tenant, id, expires)
}

func (s *faultyStore) Spend(
	ctx context.Context, tenant int64, id [16]byte, expires time.Time,
) (bool, error) {
	if s.spend != nil {
		return false, s.spend
	}
	return s.Store.Spend(ctx, tenant, id, expires)
}

// faultyAccounts are accounts whose methods fail with the errors in its fields.
type faultyAccounts struct {
	session.Accounts
	find, findUID, credential error
}

func (a *faultyAccounts) Find(ctx context.Context, tenant int64, user string) (account.Account, error) {
	if a.find != nil {
		return account.Account{}, a.find
	}
	return a.Accounts.Find(ctx, tenant, user)
}

func (a *faultyAccounts) FindUID(
	ctx context.Context, tenant int64, uid account.UID,
) (account.Account, error) {
	if a.findUID != nil {
		return account.Account{}, a.findUID
	}
	return a.Accounts.FindUID(ctx, tenant, uid)
}

func (a *faultyAccounts) Credential(c account.Account) (digest.Credential, error) {
	if a.credential != nil {
		return digest.Credential{}, a.credential
	}
	return a.Accounts.Credential(c)
}

// TestStoreFaults checks that a fault of the store is neither a proof nor a refusal.
func TestStoreFaults(t *testing.T) {
	h := newFixture(t)
	store, accounts := &faultyStore{Store: h.store}, &faultyAccounts{Accounts: h.accounts}
	h.deps.Store, h.deps.Accounts, h.deps.Nodes = store, accounts, true
	h.Authenticator = session.NewAuthenticator(h.deps)
	h.member("ann")
	g, err := h.signIn("ann", password)
	h.must(err)
	for name, fault := range map[string]*error{
		"the account is not read":      &accounts.find,
		"the credential does not open": &accounts.credential,
		"the nonce cannot be spent":    &store.spend,
	} {
		a := h.answer("ann", password)
		*fault = errBroken
		got, challenge, err := h.Authenticate(t.Context(), h.tenant, session.Attempt{
			Action: audit.SignIn, Authorization: a.header(), Method: "GET", URI: "/signin.ashx",
			From: h.origin(),
		})
		*fault = nil
		if !errors.Is(err, errBroken) || challenge != nil || got.User != "" {
			t.Errorf("%s: got %q, %v, %v", name, got.User, challenge, err)
		}
	}
	for name, fault := range map[string]*error{
		"the account is not read":      &accounts.findUID,
		"the revocations are not read": &store.revoked,
	} {
		*fault = errBroken
		if a, err := h.SignedIn(t.Context(), h.tenant, g.Session); !errors.Is(err, errBroken) || a.User != "" {
			t.Errorf("%s: the session is that of %q, %v", name, a.User, err)
		}
		*fault = nil
	}
	store.revoke = errBroken
	h.is(h.SignOut(t.Context(), h.tenant, g.Session, h.origin()), errBroken)
	if !strings.Contains(h.log.String(), `"msg":"signout","outcome":"server_error"`) {
		t.Errorf("the log does not say that signing out failed:\n%s", h.log.String())
	}
	store.revoke = nil
	if _, err := h.SignedIn(t.Context(), h.tenant, g.Session); err != nil {
		t.Errorf("the session after a sign-out that failed: %v", err)
	}
	h.must(h.SignOut(t.Context(), h.tenant, g.Session, h.origin()))
	if !strings.Contains(h.log.String(), `"msg":"signout","outcome":"ok"`) {
		t.Errorf("the log does not say that signing out succeeded:\n%s", h.log.String())
	}
}

// TestSpentNonceIsKept checks that a nonce which was spent is not accepted by a server whose clock
// is behind, after the others have removed what has expired.
func TestSpentNonceIsKept(t *testing.T) {
	h := newFixture(t)
	h.deps.Nodes = true
	h.Authenticator = session.NewAuthenticator(h.deps)
	h.member("ann")
	issued := h.now
	header := h.answer("ann", password).header()
	_, err := h.send(header, "", h.origin())
	h.must(err)
	h.now = issued.Add(digest.NonceLife + 59*time.Second)
	_, err = h.store.Sweep(t.Context(), h.now, h.now, 1000)
	h.must(err)
	h.now = issued.Add(digest.NonceLife - time.Second)
	if _, err := h.send(header, "", h.origin()); !errors.Is(err, session.ErrStale) {
		t.Errorf("replayed: got %v", err)
	}
}

// TestSharedNonceSkew checks how far ahead the clock of the server that issued a nonce may be.
func TestSharedNonceSkew(t *testing.T) {
	h := newFixture(t)
	h.deps.Nodes = true
	h.Authenticator = session.NewAuthenticator(h.deps)
	h.member("ann")
	for ahead, want := range map[time.Duration]error{
		10 * time.Second: nil, 10*time.Second + time.Millisecond: session.ErrStale,
		time.Millisecond - digest.NonceLife: nil, -digest.NonceLife: session.ErrStale,
	} {
		now := h.now
		h.now = now.Add(ahead)
		header := h.answer("ann", password).header()
		h.now = now.Truncate(time.Millisecond)
		if _, err := h.send(header, "", h.origin()); !errors.Is(err, want) {
			t.Errorf("%v ahead: got %v, want %v", ahead, err, want)
		}
		h.now = now
	}
}
