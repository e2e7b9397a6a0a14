package session_test

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/fault"
	"dialtone/internal/mailmsg"
	"dialtone/internal/session"
	"dialtone/internal/test/world"
)

// noticing returns a fixture with members ann and bob, who activated their accounts a while ago.
func noticing(t *testing.T) *fixture {
	h := newFixture(t)
	h.deps.Notices = h.Accounts
	h.restart()
	h.member("ann")
	h.member("bob")
	h.Advance(session.SettlingTime)
	return h
}

// told writes the pending records. It returns the users who got messages about new browsers since the last call.
func (h *fixture) told() (users []string) {
	h.Helper()
	h.Must(h.Flush(h.Context()))
	for _, e := range h.Pending() {
		if e.Kind == mailmsg.NewBrowser {
			users = append(users, e.User)
		}
	}
	h.Must(h.Outbox.Flush(h.Context()))
	if n := h.waiting(); n > 0 {
		h.Errorf("the outbox was not told of %d messages", n)
	}
	return users
}

// waiting returns how many messages about new browsers are not written yet.
func (h *fixture) waiting() (n int) {
	for _, e := range h.Pending() {
		if e.Kind == mailmsg.NewBrowser {
			n++
		}
	}
	return n
}

func (h *fixture) wantTold(users ...string) {
	h.Helper()
	if got := h.told(); !slices.Equal(got, users) {
		h.Errorf("messages went to %v, want %v", got, users)
	}
}

func TestNewBrowser(t *testing.T) {
	h := noticing(t)
	g, err := h.signIn("ann", password)
	h.Must(err)
	h.wantTold("ann")
	text := ""
	for _, m := range h.Messages() {
		if strings.Contains(m, "/not-me.html?token=") {
			text = m
		}
	}
	if !strings.Contains(text, "To: ann@") || !strings.Contains(text, "New sign-in to your account") {
		t.Errorf("the message is %s", text)
	}
	const logged = `"msg":"signin.new-browser","outcome":"ok","tenant":"phone.test","user":"ann"`
	if n := strings.Count(h.Log.String(), logged); n != 1 {
		t.Errorf("the log has\n%s", h.Log.String())
	}

	network := byte(0)
	send := func(user, device string) string {
		h.Advance(25 * time.Hour)
		network++
		from := account.Origin{Addr: netip.AddrFrom4([4]byte{172, 16, network, 1})}
		other, err := h.send(h.answer(user, password).header(), device, from)
		h.Must(err)
		return other.Device
	}
	send("ann", g.Device)
	h.wantTold()
	stranger := send("bob", "")
	h.wantTold("bob")
	send("ann", stranger)
	h.wantTold("ann")
	send("ann", g.Device[:60]+"AAAA")
	h.wantTold("ann")
	send("ann", g.Session)
	h.wantTold("ann")

	a, err := h.Accounts.Find(t.Context(), h.Tenant.ID, "ann")
	h.Must(err)
	a.Passwords++ // as after a change by a browser that knows the password
	h.Continue(t.Context(), h.Tenant, a, world.NewOrigin(), session.ByPassword)
	h.wantTold()
	a.Passwords--
	if _, err := h.Store.SetPassword(t.Context(), account.PasswordChange{
		Account: a, Notice: account.Notice{Kind: mailmsg.PasswordChanged, Made: h.Now(), Until: h.Now().Add(time.Hour)},
	}, h.Now()); err != nil {
		t.Fatal(err)
	}
	send("ann", g.Device) // it is one of the password before
	h.wantTold("ann")
}

// TestNewBrowserCookies checks that a program without cookies causes one message, no matter how
// often and how long it signs a person in.
func TestNewBrowserCookies(t *testing.T) {
	h := noticing(t)
	from := world.NewOrigin()
	from.Agent = "integrator/1.0"
	for day := range 200 { // more than KnownLife
		_, err := h.send(h.answer("ann", password).header(), "", from)
		h.Must(err)
		_, err = h.Store.Sweep(t.Context(), h.Now(), h.Now(), 100)
		h.Must(err)
		if day == 0 {
			h.wantTold("ann")
		} else {
			h.wantTold()
		}
		h.Advance(24 * time.Hour)
	}
}

// doubtful is a store whose commits are in doubt.
type doubtful struct {
	session.Store
	// before is called instead of the first RecordSessions, whose result is lost.
	before func(list []session.Record)
}

func (s *doubtful) RecordSessions(ctx context.Context, list []session.Record) ([]session.Noticed, error) {
	if before := s.before; before != nil {
		s.before = nil
		before(list)
		return nil, fault.ErrInDoubt
	}
	return s.Store.RecordSessions(ctx, list)
}

// TestNewBrowserInDoubt checks that a message is written exactly once, whether a commit in
// doubt succeeded, failed, or succeeded late.
func TestNewBrowserInDoubt(t *testing.T) {
	for name, c := range map[string]struct{ atOnce, late bool }{
		"committed": {true, false}, "not committed": {false, false}, "committed late": {false, true},
	} {
		t.Run(name, func(t *testing.T) {
			h := noticing(t)
			store := &doubtful{Store: h.Store}
			var lost []session.Record
			store.before = func(list []session.Record) {
				lost = list
				if c.atOnce {
					_, err := h.Store.RecordSessions(t.Context(), list)
					h.Must(err)
				}
			}
			h.deps.Store = store
			h.restart()
			token, _ := h.start("ann", firefox)
			h.Is(h.Flush(t.Context()), fault.ErrInDoubt)
			h.Must(h.Outbox.Flush(t.Context()))
			if c.late {
				_, err := h.Store.RecordSessions(t.Context(), lost)
				h.Must(err)
			}
			h.Advance(time.Hour)
			_, err := h.SignedIn(t.Context(), h.Tenant, token, world.NewOrigin()) // a use while the record waits
			h.Must(err)
			h.Must(h.Flush(t.Context()))
			for range 3 {
				h.Must(h.Outbox.Flush(t.Context()))
			}
			n := 0
			for _, m := range h.Messages() {
				n += strings.Count(m, "/not-me.html?token=")
			}
			if n != 1 || h.waiting() != 0 {
				t.Errorf("%d messages were written, and %d are in the outbox", n, h.waiting())
			}
		})
	}
}

// TestSessionBegan checks that the list shows how a session began: before its record is
// written, while it is in use, and after it has ended all others.
func TestSessionBegan(t *testing.T) {
	h := newFixture(t)
	h.member("ann")
	a, err := h.Accounts.Find(t.Context(), h.Tenant.ID, "ann")
	h.Must(err)
	want := func(token string, how session.How) {
		t.Helper()
		if list, _ := h.sessions(token, 1); list[0].How != how {
			t.Errorf("the session began by %q, want %q", list[0].How, how)
		}
	}
	for _, flushed := range []bool{false, true} {
		g, err := h.SignIn(t.Context(), h.Tenant, a, "", world.NewOrigin(), session.ByPasskey)
		h.Must(err)
		if flushed {
			h.Must(h.Flush(t.Context()))
		}
		want(g.Session, session.ByPasskey)
		h.Advance(time.Hour)
		want(g.Session, session.ByPasskey)
		h.Must(h.Flush(t.Context()))
		next, err := h.EndOthers(t.Context(), h.Tenant, g.Session, world.NewOrigin())
		h.Must(err)
		want(next, session.ByPasskey)
		_, own := h.sessions(next, 1)
		h.Must(h.End(t.Context(), h.Tenant, next, own, world.NewOrigin()))
		a.Epoch++
	}
}
