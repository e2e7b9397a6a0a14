package sipserver_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/hook"
	"dialtone/internal/redact"
	"dialtone/internal/sipserver"
	"dialtone/internal/test/world"
)

// wantAlice checks that alice is found with a role, or not found if the role is empty.
func (f *fixture) wantAlice(c *sipserver.Caller, realm string, role account.Role) {
	f.Helper()
	e, err := f.registry.Find(f.Context(), c, realm, "alice")
	if role == "" {
		if !errors.Is(err, sipserver.ErrNoAccount) {
			f.Errorf("found alice with the role %q, error %v, want %v", e.Role, err, sipserver.ErrNoAccount)
		}
	} else if err != nil || e.Role != role {
		f.Errorf("found alice with the role %q, error %v, want %q", e.Role, err, role)
	}
}

// TestFindAfterChange does not advance the clock, so no cached account expires.
func TestFindAfterChange(t *testing.T) {
	f := newFixture(t)
	f.At("a.test").Member("alice")
	f.At("b.test").Member("alice")
	c := f.caller(f.addServer("one", "a.test", "b.test"))
	f.wantAlice(c, "a.test", account.Guest)
	a := f.At("a.test").Tenant
	for _, change := range []struct {
		name string
		do   func() error
		want account.Role
	}{
		{"role", func() error {
			_, err := f.Accounts.SetRole(t.Context(), a, "alice", account.SIPOnly)
			return err
		}, account.SIPOnly},
		{"disabled", func() error {
			_, err := f.Accounts.Disable(t.Context(), a, "alice")
			return err
		}, ""},
		{"enabled", func() error {
			_, err := f.Accounts.Enable(t.Context(), a, "alice")
			return err
		}, account.SIPOnly},
		{"deleted", func() error { return f.Accounts.Delete(t.Context(), a, "alice") }, ""},
	} {
		f.Must(change.do())
		for range 2 {
			f.wantAlice(c, "a.test", change.want)
		}
		f.wantAlice(c, "b.test", account.Guest)
		if t.Failed() {
			t.Fatal(change.name)
		}
	}
	// The tenant table still contains the tenant. The account is refused because it is deleted.
	f.Must(f.Store.RemoveTenant(t.Context(), "b.test", true, f.Now()))
	f.wantAlice(c, "b.test", "")
}

// otherProcess opens the store a second time, like a command does while the server runs.
func (f *fixture) otherProcess() *world.Store {
	f.Helper()
	return world.OpenStore(f.TB, f.DatabaseFile(), f.SealRing)
}

func TestFindAfterChangeByAnotherProcess(t *testing.T) {
	f := newFixture(t)
	f.At("a.test").Member("alice")
	c := f.caller(f.addServer("one", "a.test"))
	f.wantAlice(c, "a.test", account.Guest)
	other, id := f.otherProcess(), f.At("a.test").Tenant.ID
	_, err := other.Disable(t.Context(), id, "alice", f.Now())
	f.Must(err)
	f.Advance(time.Second)
	f.wantAlice(c, "a.test", "")
	_, err = other.Enable(t.Context(), id, "alice", f.Now())
	f.Must(err)
	f.wantAlice(c, "a.test", account.Guest) // Immediately, since inactive accounts are not cached.
}

// sendFunc is a hook.Transport that calls a function.
type sendFunc func(hook.Notification) error

func (f sendFunc) Send(_ context.Context, _ hook.Hook, _ hook.Secret, n hook.Notification) error {
	return f(n)
}

func (f sendFunc) Test(context.Context, hook.Hook, hook.Secret) (string, error) { return "", nil }

// TestFindAfterNotification checks that a phone server that looks an account up during the
// notification of a change does not get the account's old state.
func TestFindAfterNotification(t *testing.T) {
	f := newFixture(t)
	f.At("a.test").Member("alice")
	c := f.caller(f.addServer("one", "a.test"))
	h, err := hook.New(hook.Hook{
		Name: "crm", Kind: hook.Webhook, URL: "http://127.0.0.1/", AllTenants: true, Created: world.Noon,
	})
	f.Must(err)
	hook.NewSealer(f.SealRing).Seal(&h, redact.New("secret"))
	f.Must(f.Store.AddHook(t.Context(), h))
	f.wantAlice(c, "a.test", account.Guest)
	_, err = f.otherProcess().Disable(t.Context(), f.At("a.test").Tenant.ID, "alice", f.Now())
	f.Must(err)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	called := false
	send := sendFunc(func(hook.Notification) error {
		called = true
		f.wantAlice(c, "a.test", "")
		cancel()
		return nil
	})
	dispatcher := hook.NewDispatcher(hook.Deps{
		Queue:      f.Store,
		Transports: map[hook.Kind]hook.Transport{hook.Webhook: send},
		SealRing:   f.SealRing,
		Log:        slog.New(slog.DiscardHandler),
		Now:        func() time.Time { return f.Now() },
		Forget:     f.registry.Forget,
	})
	dispatcher.Run(ctx)
	if !called {
		t.Error("the phone server was not notified")
	}
}
