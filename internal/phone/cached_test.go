package phone_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/phone"
	"dialtone/internal/store"
	"dialtone/internal/test/teststore"
)

// found wants alice to be found with a role, or not at all if the role is empty.
func (h *house) found(c *phone.Caller, realm string, role account.Role) {
	h.Helper()
	e, err := h.phones.Find(h.Context(), c, realm, "alice")
	if role == "" {
		if err != phone.ErrNone {
			h.Errorf("found alice with the role %q, error %v, want %v", e.Role, err, phone.ErrNone)
		}
	} else if err != nil || e.Role != role {
		h.Errorf("found alice with the role %q, error %v, want %q", e.Role, err, role)
	}
}

// The clock stands still: nothing that is cached expires.
func TestFindAfterChange(t *testing.T) {
	h := open(t)
	h.member("a.test", "alice", nil)
	h.member("b.test", "alice", nil)
	c := h.admitted(h.server("one", "a.test", "b.test"))
	h.found(c, "a.test", account.Guest)
	a := h.tenant("a.test")
	for _, change := range []struct {
		name string
		do   func() error
		want account.Role
	}{
		{"role", func() error {
			_, err := h.desk.SetRole(t.Context(), a, "alice", account.SIPOnly)
			return err
		}, account.SIPOnly},
		{"disabled", func() error {
			_, err := h.desk.Disable(t.Context(), a, "alice")
			return err
		}, ""},
		{"enabled", func() error {
			_, err := h.desk.Enable(t.Context(), a, "alice")
			return err
		}, account.SIPOnly},
		{"deleted", func() error { return h.desk.Delete(t.Context(), a, "alice") }, ""},
	} {
		h.must(change.do())
		for range 2 {
			h.found(c, "a.test", change.want)
		}
		h.found(c, "b.test", account.Guest)
		if t.Failed() {
			t.Fatal(change.name)
		}
	}
	// The table of tenants still has the tenant: the account is refused because it is gone.
	h.must(h.store.RemoveTenant(t.Context(), "b.test", true, h.now))
	h.found(c, "b.test", "")
}

// otherProcess opens the store a second time, as a command does while the server runs.
func (h *house) otherProcess() *store.Store {
	h.Helper()
	other, err := teststore.Open(h.Context(), h.path, h.ring)
	h.must(err)
	h.Cleanup(func() { other.Close() })
	return other
}

func TestFindAfterChangeByAnotherProcess(t *testing.T) {
	h := open(t)
	h.member("a.test", "alice", nil)
	c := h.admitted(h.server("one", "a.test"))
	h.found(c, "a.test", account.Guest)
	other, id := h.otherProcess(), h.tenant("a.test").ID
	_, err := other.Disable(t.Context(), id, "alice", h.now)
	h.must(err)
	h.now = h.now.Add(time.Second)
	h.found(c, "a.test", "")
	_, err = other.Enable(t.Context(), id, "alice", h.now)
	h.must(err)
	h.found(c, "a.test", account.Guest) // at once: an account that is not active is not cached
}

// callFunc is a phone server that is called as a function.
type callFunc func(phone.Notification) error

func (f callFunc) Call(_ context.Context, _ phone.Hook, _ phone.HookSecret, n phone.Notification) error {
	return f(n)
}

// A phone server that was notified of a change looks the account up again. It must not get the
// account as it was, or it would keep that.
func TestFindAfterNotification(t *testing.T) {
	h := open(t)
	h.member("a.test", "alice", nil)
	c := h.admitted(h.server("one", "a.test"))
	hook, err := phone.NewHook(phone.Hook{
		Name: "crm", Kind: phone.Webhook, URL: "http://127.0.0.1/", Everyone: true, Created: noon,
	})
	h.must(err)
	phone.NewLocker(h.ring).Seal(&hook, phone.NewWebhookSecret())
	h.must(h.store.AddHook(t.Context(), hook))
	h.found(c, "a.test", account.Guest)
	_, err = h.otherProcess().Disable(t.Context(), h.tenant("a.test").ID, "alice", h.now)
	h.must(err)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	called := false
	dispatcher := &phone.Dispatcher{
		Store:    h.store,
		SealRing: h.ring,
		Log:      slog.New(slog.DiscardHandler),
		Now:      func() time.Time { return h.now },
		Forget:   h.phones.Forget,
		Callout: callFunc(func(n phone.Notification) error {
			called = true
			h.found(c, "a.test", "")
			cancel()
			return nil
		}),
	}
	dispatcher.Run(ctx)
	if !called {
		t.Error("the phone server was not notified")
	}
}
