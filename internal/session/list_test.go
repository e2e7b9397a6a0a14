package session_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/session"
	"dialtone/internal/test/world"
)

const firefox = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"

// use uses a session every few hours for a while, and writes the uses to the store.
func (h *fixture) use(token string, while time.Duration) {
	h.Helper()
	for while > 0 {
		step := min(while, session.Idle/2)
		h.Advance(step)
		while -= step
		_, err := h.SignedIn(h.Context(), h.Tenant, token, world.NewOrigin())
		h.Must(err)
		h.Must(h.Flush(h.Context()))
	}
}

// start signs a user in with a browser.
func (h *fixture) start(user, agent string) (string, account.Origin) {
	h.Helper()
	from := world.NewOrigin()
	from.Agent = agent
	g, err := h.send(h.answer(user, password).header(), "", from)
	h.Must(err)
	return g.Session, from
}

// sessions returns the list of sessions, which must have n entries, and the ID of the own session.
func (h *fixture) sessions(token string, n int) ([]session.Record, [16]byte) {
	h.Helper()
	list, own, err := h.Sessions(h.Context(), h.Tenant, token, world.NewOrigin())
	h.Must(err)
	if len(list) != n {
		h.Fatalf("%d sessions are listed, want %d: %+v", len(list), n, list)
	}
	return list, own
}

// over fails the test unless a session has ended.
func (h *fixture) over(token string) {
	h.Helper()
	_, err := h.SignedIn(h.Context(), h.Tenant, token, world.NewOrigin())
	h.Is(err, session.ErrDenied)
}

func (h *fixture) alive(token string) {
	h.Helper()
	_, err := h.SignedIn(h.Context(), h.Tenant, token, world.NewOrigin())
	h.Must(err)
}

func TestSessions(t *testing.T) {
	h := newFixture(t)
	h.member("ann")
	h.member("bob")
	h.start("bob", firefox)
	first, from := h.start("ann", firefox)
	h.Advance(time.Minute)
	second, _ := h.start("ann", "")

	h.sessions(second, 1) // none is written yet, and the own one is listed anyway
	h.Must(h.Flush(t.Context()))
	list, own := h.sessions(second, 2)
	if list[0].ID != own || list[0].Browser != "" || !list[0].Seen.Equal(h.Now()) {
		t.Errorf("the own session is %+v", list[0])
	}
	if r := list[1]; r.Browser != "Firefox on Linux" || r.Net != audit.Network(from.Addr) ||
		!r.Began.Equal(h.Now().Add(-time.Minute)) || !r.Seen.Equal(r.Began) {
		t.Errorf("the other session is %+v", r)
	}

	// A use is recorded after 5 minutes, not before.
	h.Advance(4*time.Minute - time.Second)
	h.alive(first)
	h.Must(h.Flush(t.Context()))
	if list, _ := h.sessions(second, 2); !list[1].Seen.Equal(list[1].Began) {
		t.Errorf("the use after less than 5 minutes is recorded: %+v", list[1])
	}
	h.Advance(time.Second)
	h.alive(first)
	h.Must(h.Flush(t.Context()))
	if list, _ := h.sessions(second, 2); !list[1].Seen.Equal(h.Now()) {
		t.Errorf("the use after 5 minutes is not recorded: %+v", list[1])
	}

	h.Must(h.SignOut(t.Context(), h.Tenant, first, from))
	h.sessions(second, 1)

	// The own one is listed in place of another, if there are too many.
	for range session.MaxListed {
		h.start("ann", firefox)
	}
	h.Must(h.Flush(t.Context()))
	last, _ := h.start("ann", firefox)
	h.sessions(last, session.MaxListed)
}

func TestEnd(t *testing.T) {
	h := newFixture(t)
	h.member("ann")
	h.member("bob")
	bob, _ := h.start("bob", "")
	first, _ := h.start("ann", "")
	second, _ := h.start("ann", "")
	h.Must(h.Flush(t.Context()))
	_, firstID := h.sessions(first, 2)
	_, bobID := h.sessions(bob, 1)

	for name, id := range map[string][16]byte{"another account's": bobID, "an unknown": {1}} {
		if err := h.End(t.Context(), h.Tenant, second, id, world.NewOrigin()); !errors.Is(err, session.ErrNoSession) {
			t.Errorf("%s session: got %v", name, err)
		}
	}
	other := h.At("other.test").Tenant
	h.Is(h.End(t.Context(), other, second, firstID, world.NewOrigin()), session.ErrDenied)
	h.alive(bob)
	h.alive(first)

	h.Must(h.End(t.Context(), h.Tenant, second, firstID, world.NewOrigin()))
	h.over(first)
	h.sessions(second, 1)
	h.Is(h.End(t.Context(), h.Tenant, second, firstID, world.NewOrigin()), session.ErrNoSession)
	h.Is(h.End(t.Context(), h.Tenant, first, firstID, world.NewOrigin()), session.ErrDenied)
	_, own := h.sessions(second, 1)
	h.Must(h.End(t.Context(), h.Tenant, second, own, world.NewOrigin()))
	h.over(second)
	h.alive(bob)
	if !strings.Contains(h.Log.String(), `"msg":"sessions.end","outcome":"ok","tenant":"phone.test","user":"ann"`) {
		t.Errorf("the log does not say that a session was ended:\n%s", h.Log.String())
	}
}

func TestEndOthers(t *testing.T) {
	h := newFixture(t)
	h.member("ann")
	h.member("bob")
	bob, _ := h.start("bob", "")
	listed, _ := h.start("ann", "")
	h.Must(h.Flush(t.Context()))
	unlisted, _ := h.start("ann", "")
	own, _ := h.start("ann", firefox)
	h.use(own, session.Life-time.Hour) // longer ago than session.Idle
	next, err := h.EndOthers(t.Context(), h.Tenant, own, world.NewOrigin())
	h.Must(err)
	for _, token := range []string{listed, unlisted, own} {
		h.over(token)
	}
	h.sessions(next, 1)
	_, err = h.EndOthers(t.Context(), h.Tenant, own, world.NewOrigin())
	h.Is(err, session.ErrDenied)
	again, err := h.EndOthers(t.Context(), h.Tenant, next, world.NewOrigin())
	h.Must(err)
	h.over(next)
	h.over(bob) // by its idle limit

	h.restart()
	h.Advance(time.Hour - time.Microsecond)
	h.alive(again)
	h.Advance(time.Microsecond) // it does not last longer than the first one
	h.over(again)

	var trail []string
	h.Must(h.Store.Changes(t.Context(), audit.Filter{User: "ann"}, func(c audit.Change) error {
		trail = append(trail, fmt.Sprint(c.Action, " by ", c.Actor))
		return nil
	}))
	if got := strings.Join(trail, ", "); got != "sessions.end by person, sessions.end by person" {
		t.Errorf("the trail has %s", got)
	}
}

// TestRecorderFaults checks that people can sign in and use sessions while the list cannot be
// written. It must be written as soon as the store works again, in transactions of bounded
// size.
func TestRecorderFaults(t *testing.T) {
	h := newFixture(t)
	store := &faultyStore{Store: h.Store, record: errBroken}
	h.deps.Store, h.deps.Log = store, h.Logger
	h.restart()
	h.member("ann")
	var tokens []string
	for range 3 {
		token, _ := h.start("ann", "")
		tokens = append(tokens, token)
	}
	h.Is(h.Flush(t.Context()), errBroken)
	h.Advance(time.Hour)
	for _, token := range tokens {
		h.alive(token)
		h.alive(token)
	}
	h.Is(h.Flush(t.Context()), errBroken)
	h.sessions(tokens[0], 1)
	store.record = nil
	h.Must(h.Flush(t.Context()))
	if fmt.Sprint(store.recorded) != "[3]" {
		t.Errorf("wrote %v, want one write of 3 records", store.recorded)
	}
	list, _ := h.sessions(tokens[0], 3)
	if !list[2].Seen.Equal(h.Now()) {
		t.Errorf("the newest use was not written: %+v", list[2])
	}
	if n := strings.Count(h.Log.String(), `"msg":"sessions not recorded"`); n != 2 {
		t.Errorf("the log has %d lines about it, want one per minute:\n%s", n, h.Log.String())
	}
}

// TestEndFaults checks that nothing ends, and no token is issued, when the store fails.
func TestEndFaults(t *testing.T) {
	h := newFixture(t)
	store := &faultyStore{Store: h.Store, end: errBroken}
	h.deps.Store = store
	h.restart()
	h.member("ann")
	own, from := h.start("ann", "")
	_, _, err := h.Sessions(t.Context(), h.Tenant, own, from)
	h.Is(err, errBroken)
	h.Is(h.End(t.Context(), h.Tenant, own, [16]byte{1}, from), errBroken)
	token, err := h.EndOthers(t.Context(), h.Tenant, own, from)
	h.Is(err, errBroken)
	if token != "" || strings.Count(h.Log.String(), `"msg":"sessions.end","outcome":"server_error"`) != 2 {
		t.Errorf("the issued token is %q, and the log has\n%s", token, h.Log.String())
	}
	h.alive(own)
}

func TestBrowserOf(t *testing.T) {
	for agent, want := range map[string]string{
		firefox: "Firefox on Linux",
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 " +
			"Safari/537.36 Edg/130.0.0.0": "Edge on Windows",
		"Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 " +
			"Mobile Safari/537.36": "Chrome on Android",
		"Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) " +
			"Version/18.1 Mobile/15E148 Safari/604.1": "Safari on iPhone",
		"Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) " +
			"CriOS/130.0 Mobile/15E148 Safari/604.1": "Chrome on iPhone",
		"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) " +
			"Version/18.1 Safari/605.1.15": "Safari on Mac",
		"curl/8.9.1": "curl", "": "", "<script>": "", "my password": "",
		strings.Repeat("x", 512) + "Firefox/1": "",
	} {
		if got := session.BrowserOf(agent); got != want {
			t.Errorf("%q is %q, want %q", agent, got, want)
		}
	}
}
