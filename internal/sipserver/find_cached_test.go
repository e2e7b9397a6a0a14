package sipserver_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/hook"
	"dialtone/internal/sipserver"
	"dialtone/internal/store"
	"dialtone/internal/test/teststore"
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
	f.addActive("a.test", "alice", nil)
	f.addActive("b.test", "alice", nil)
	c := f.caller(f.addServer("one", "a.test", "b.test"))
	f.wantAlice(c, "a.test", account.Guest)
	a := f.tenant("a.test")
	for _, change := range []struct {
		name string
		do   func() error
		want account.Role
	}{
		{"role", func() error {
			_, err := f.accounts.SetRole(t.Context(), a, "alice", account.SIPOnly)
			return err
		}, account.SIPOnly},
		{"disabled", func() error {
			_, err := f.accounts.Disable(t.Context(), a, "alice")
			return err
		}, ""},
		{"enabled", func() error {
			_, err := f.accounts.Enable(t.Context(), a, "alice")
			return err
		}, account.SIPOnly},
		{"deleted", func() error { return f.accounts.Delete(t.Context(), a, "alice") }, ""},
	} {
		f.must(change.do())
		for range 2 {
			f.wantAlice(c, "a.test", change.want)
		}
		f.wantAlice(c, "b.test", account.Guest)
		if t.Failed() {
			t.Fatal(change.name)
		}
	}
	// The tenant table still has the tenant; the account is refused because it is deleted.
	f.must(f.store.RemoveTenant(t.Context(), "b.test", true, f.now))
	f.wantAlice(c, "b.test", "")
}

// otherProcess opens the store a second time, as a command does while the server runs.
func (f *fixture) otherProcess() *store.Store {
	f.Helper()
	other, err := teststore.Open(f.Context(), f.path, f.ring)
	f.must(err)
	f.Cleanup(func() { other.Close() })
	return other
}

func TestFindAfterChangeByAnotherProcess(t *testing.T) {
	f := newFixture(t)
	f.addActive("a.test", "alice", nil)
	c := f.caller(f.addServer("one", "a.test"))
	f.wantAlice(c, "a.test", account.Guest)
	other, id := f.otherProcess(), f.tenant("a.test").ID
	_, err := other.Disable(t.Context(), id, "alice", f.now)
	f.must(err)
	f.now = f.now.Add(time.Second)
	f.wantAlice(c, "a.test", "")
	_, err = other.Enable(t.Context(), id, "alice", f.now)
	f.must(err)
	f.wantAlice(c, "a.test", account.Guest) // At once: inactive accounts are not cached.
}

// sendFunc is a hook.Transport that calls a function.
type sendFunc func(hook.Notification) error

func (f sendFunc) Send(_ context.Context, _ hook.Hook, _ hook.Secret, n hook.Notification) error {
	return f(n)
}

func (f sendFunc) Test(context.Context, hook.Hook, hook.Secret) (string, error) { return "", nil }

// TestFindAfterNotification checks that a phone server which is notified of a change, and looks the
// account up again during the call, does not get the account as it was.
func TestFindAfterNotification(t *testing.T) {
	f := newFixture(t)
	f.addActive("a.test", "alice", nil)
	c := f.caller(f.addServer("one", "a.test"))
	h, err := hook.New(hook.Hook{
		Name: "crm", Kind: hook.Webhook, URL: "http://127.0.0.1/", AllTenants: true, Created: noon,
	})
	f.must(err)
	hook.NewSealer(f.ring).Seal(&h, "secret")
	f.must(f.store.AddHook(t.Context(), h))
	f.wantAlice(c, "a.test", account.Guest)
	_, err = f.otherProcess().Disable(t.Context(), f.tenant("a.test").ID, "alice", f.now)
	f.must(err)
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
		Queue:      f.store,
		Transports: map[hook.Kind]hook.Transport{hook.Webhook: send},
		SealRing:   f.ring,
		Log:        slog.New(slog.DiscardHandler),
		Now:        func() time.Time { return f.now },
		Forget:     f.registry.Forget,
	})
	dispatcher.Run(ctx)
	if !called {
		t.Error("the phone server was not notified")
	}
}
