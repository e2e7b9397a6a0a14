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
	"dialtone/internal/test/world"
	"dialtone/internal/throttle"
)

var errBroken = errors.New("broken by the test")

// faultyStore is a store whose methods fail with the errors in its fields.
type faultyStore struct {
	session.Store
	signOut, revoked, spend, record error
	end                             error // of End, EndOthers and Sessions
	recorded                        []int // records of each write
}

func (s *faultyStore) SignOut(
	ctx context.Context, r session.Record, now time.Time, limits ...throttle.Allowance,
) error {
	if s.signOut != nil {
		return s.signOut
	}
	return s.Store.SignOut(ctx, r, now, limits...)
}

func (s *faultyStore) Revoked(
	ctx context.Context, uid account.UID, id [16]byte, until ...time.Time,
) (bool, time.Time, error) {
	if s.revoked != nil {
		return false, time.Time{}, s.revoked
	}
	return s.Store.Revoked(ctx, uid, id, until...)
}

func (s *faultyStore) RecordSessions(ctx context.Context, list []session.Record) ([]session.Noticed, error) {
	if s.record != nil {
		return nil, s.record
	}
	s.recorded = append(s.recorded, len(list))
	return s.Store.RecordSessions(ctx, list)
}

func (s *faultyStore) Spend(
	ctx context.Context, tenant int64, id [16]byte, expires time.Time,
) (bool, error) {
	if s.spend != nil {
		return false, s.spend
	}
	return s.Store.Spend(ctx, tenant, id, expires)
}

func (s *faultyStore) Sessions(
	ctx context.Context, uid account.UID, epoch int64, now time.Time,
) ([]session.Record, error) {
	if s.end != nil {
		return nil, s.end
	}
	return s.Store.Sessions(ctx, uid, epoch, now)
}

func (s *faultyStore) End(
	ctx context.Context, uid account.UID, epoch int64, id [16]byte, now time.Time, limits ...throttle.Allowance,
) error {
	if s.end != nil {
		return s.end
	}
	return s.Store.End(ctx, uid, epoch, id, now, limits...)
}

func (s *faultyStore) EndOthers(
	ctx context.Context, own session.Record, now time.Time, limits ...throttle.Allowance,
) error {
	if s.end != nil {
		return s.end
	}
	return s.Store.EndOthers(ctx, own, now, limits...)
}

// faultyAccounts are accounts whose methods fail with the errors in its fields.
type faultyAccounts struct {
	session.Accounts
	find, findUID, credential error
	opened                    int // credentials
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
	a.opened++
	return a.Accounts.Credential(c)
}

// TestStoreFaults checks that an error of the store is returned unchanged. Nobody is signed in,
// and nobody is refused for a wrong password.
func TestStoreFaults(t *testing.T) {
	h := newFixture(t)
	store, accounts := &faultyStore{Store: h.Store}, &faultyAccounts{Accounts: h.Accounts}
	h.deps.Store, h.deps.Accounts, h.deps.Nodes = store, accounts, true
	h.restart()
	h.member("ann")
	g, err := h.signIn("ann", password)
	h.Must(err)
	for name, fault := range map[string]*error{
		"the account is not read":      &accounts.find,
		"the credential does not open": &accounts.credential,
		"the nonce cannot be spent":    &store.spend,
	} {
		a := h.answer("ann", password)
		*fault = errBroken
		got, challenge, err := h.Authenticate(t.Context(), h.Tenant, session.Attempt{
			Action: audit.SignIn, Authorization: a.header(), Method: "GET", URI: "/signin.ashx",
			From: world.NewOrigin(),
		})
		*fault = nil
		if !errors.Is(err, errBroken) || challenge != nil || got.User != "" {
			t.Errorf("%s: got %q, %v, %v", name, got.User, challenge, err)
		}
		if fault == &accounts.credential && !strings.HasPrefix(err.Error(), "account ann of "+h.Tenant.Host+": ") {
			t.Errorf("%s: the error does not name the account: %v", name, err)
		}
	}
	for name, fault := range map[string]*error{
		"the account is not read":      &accounts.findUID,
		"the credential does not open": &accounts.credential,
		"the revocations are not read": &store.revoked,
	} {
		*fault = errBroken
		a, err := h.SignedIn(t.Context(), h.Tenant, g.Session, world.NewOrigin())
		if !errors.Is(err, errBroken) || a.User != "" {
			t.Errorf("%s: got the account %q, %v", name, a.User, err)
		}
		*fault = nil
	}
	store.signOut = errBroken
	h.Is(h.SignOut(t.Context(), h.Tenant, g.Session, world.NewOrigin()), errBroken)
	if !strings.Contains(h.Log.String(), `"msg":"signout","outcome":"server_error"`) {
		t.Errorf("the log does not say that signing out failed:\n%s", h.Log.String())
	}
	store.signOut = nil
	if _, err := h.SignedIn(t.Context(), h.Tenant, g.Session, world.NewOrigin()); err != nil {
		t.Errorf("after a failed sign-out the session is over: %v", err)
	}
	h.Must(h.SignOut(t.Context(), h.Tenant, g.Session, world.NewOrigin()))
	if !strings.Contains(h.Log.String(), `"msg":"signout","outcome":"ok"`) {
		t.Errorf("the log does not say that signing out succeeded:\n%s", h.Log.String())
	}
}

// TestUnknownNameCost checks that a denied attempt opens one credential, whether or not the
// account exists. Opening takes longer than everything else that depends on the account.
func TestUnknownNameCost(t *testing.T) {
	h := newFixture(t)
	accounts := &faultyAccounts{Accounts: h.Accounts}
	h.deps.Accounts = accounts
	h.restart()
	h.member("known")
	h.join("pending")
	h.member("held")
	h.Disable("held")
	h.member("deleted")
	h.Delete("deleted")
	for _, user := range []string{"known", "pending", "held", "deleted", "unknown", "No name"} {
		accounts.opened = 0
		if _, err := h.signIn(user, "a guess"); !errors.Is(err, session.ErrDenied) || accounts.opened != 1 {
			t.Errorf("%q: got %v, and %d credentials were opened", user, err, accounts.opened)
		}
	}
}

// TestSpentNonceIsKept checks that a spent nonce is still known to a server whose clock is behind,
// after another server has removed expired nonces.
func TestSpentNonceIsKept(t *testing.T) {
	h := newNode(t)
	h.member("ann")
	header := h.answer("ann", password).header()
	_, err := h.send(header, "", world.NewOrigin())
	h.Must(err)
	h.Advance(digest.NonceLife + 59*time.Second)
	_, err = h.Store.Sweep(t.Context(), h.Now(), h.Now(), 1000)
	h.Must(err)
	h.Advance(-time.Minute)
	if _, err := h.send(header, "", world.NewOrigin()); !errors.Is(err, session.ErrStale) {
		t.Errorf("replayed: got %v", err)
	}
}

// TestSharedNonceSkew checks how far ahead the clock of the server that issued a nonce may be.
func TestSharedNonceSkew(t *testing.T) {
	h := newNode(t)
	h.member("ann")
	for ahead, want := range map[time.Duration]error{
		5 * time.Second: nil, 10 * time.Second: nil,
		10*time.Second + time.Millisecond: session.ErrStale, time.Minute: session.ErrStale,
		time.Millisecond - digest.NonceLife: nil, -digest.NonceLife: session.ErrStale,
	} {
		h.Advance(ahead)
		header := h.answer("ann", password).header()
		h.Advance(-ahead)
		if _, err := h.send(header, "", world.NewOrigin()); !errors.Is(err, want) {
			t.Errorf("%v ahead: got %v, want %v", ahead, err, want)
		}
	}
}
