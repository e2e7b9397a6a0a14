package session_test

import (
	"crypto/md5"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/digest"
	"dialtone/internal/fault"
	"dialtone/internal/secret"
	"dialtone/internal/session"
	"dialtone/internal/tenant"
	"dialtone/internal/test/world"
)

const password = "seven horses under the bridge"

// fixture is an Authenticator in a World.
type fixture struct {
	*world.World
	*session.Authenticator
	deps session.Deps
}

func newFixture(t testing.TB) *fixture {
	t.Helper()
	return newFixtureOn(t, nil, nil)
}

// newFixtureOn returns a fixture on a store, or on a new one if it is nil.
func newFixtureOn(t testing.TB, s *world.Store, ring *secret.Ring) *fixture {
	t.Helper()
	w := world.New(t, world.Options{
		Tenants: []tenant.Tenant{{Host: "phone.test"}, {Host: "other.test"}}, JSON: true, Store: s, SealRing: ring,
	})
	h := &fixture{World: w, deps: session.Deps{
		Accounts: w.Accounts, Store: w.Store, Passwords: w.AccountDeps.Passwords, Audit: w.Audit, Now: w.Now,
		Signatures: func() *session.Signatures { return session.NewSignatures(w.SignRing) },
	}}
	h.restart()
	return h
}

// newNode returns a fixture whose Authenticator shares its store with other servers.
func newNode(t *testing.T) *fixture {
	t.Helper()
	h := newFixture(t)
	h.deps.Nodes = true
	h.restart()
	return h
}

// restart replaces the Authenticator with one that has the dependencies in deps.
func (h *fixture) restart() { h.Authenticator = session.NewAuthenticator(h.deps) }

// join adds a pending account, and member an active one.
func (h *fixture) join(user string)   { h.Helper(); h.Join(user, world.WithPassword(password)) }
func (h *fixture) member(user string) { h.Helper(); h.Member(user, world.WithPassword(password)) }

// answer is a client's answer to a challenge. It is computed by a separate implementation of RFC 7616 section
// 3.4.1.
type answer struct {
	user, realm, nonce, uri, nc, password, algorithm, method string
}

// challenge returns a new challenge of a tenant.
func (h *fixture) challenge(t *tenant.Tenant) *digest.Challenge {
	h.Helper()
	_, c, err := h.Authenticate(h.Context(), t, session.Attempt{Method: "GET", URI: "/signin.ashx"})
	if !errors.Is(err, session.ErrNoProof) || c == nil || c.Stale {
		h.Fatalf("without a proof: got %v, %+v", err, c)
	}
	return c
}

func (h *fixture) answer(user, password string) answer {
	h.Helper()
	c := h.challenge(h.Tenant)
	return answer{user, c.Realm, c.Nonce, "/signin.ashx", "00000001", password, string(c.Algorithm),
		"GET"}
}

func (a answer) header() string {
	hash := func(s string) string { return fmt.Sprintf("%x", md5.Sum([]byte(s))) }
	if a.algorithm == "SHA-256" {
		hash = func(s string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(s))) }
	}
	response := hash(hash(a.user+":"+a.realm+":"+a.password) + ":" + a.nonce + ":" + a.nc +
		":cafe:auth:" + hash(a.method+":"+a.uri))
	return fmt.Sprintf(`Digest username="%s", realm="%s", nonce="%s", uri="%s", nc=%s, `+
		`cnonce="cafe", qop=auth, algorithm=%s, response="%s"`,
		strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(a.user), a.realm, a.nonce, a.uri, a.nc,
		a.algorithm, response)
}

// send sends a header, and signs in if it is a proof. A refusal of a proof must have a challenge.
func (h *fixture) send(header, device string, from account.Origin) (session.Grant, error) {
	h.Helper()
	a, challenge, err := h.Authenticate(h.Context(), h.Tenant, session.Attempt{
		Action: audit.SignIn, Authorization: header, Method: "GET", URI: "/signin.ashx",
		Device: device, From: from,
	})
	if fault.Is(err, fault.Unauthorized) != (challenge != nil) ||
		challenge != nil && challenge.Stale != errors.Is(err, session.ErrStale) {
		h.Fatalf("%v came with %+v", err, challenge)
	}
	if err != nil {
		if a.User != "" {
			h.Fatalf("%v came with the account of %s", err, a.User)
		}
		return session.Grant{}, err
	}
	return h.SignIn(h.Context(), h.Tenant, a, device, from, session.ByPassword)
}

// signIn answers a new challenge from an address that was not used before.
func (h *fixture) signIn(user, password string) (session.Grant, error) {
	return h.send(h.answer(user, password).header(), "", world.NewOrigin())
}

func TestSignIn(t *testing.T) {
	h := newFixture(t)
	h.member("ann")
	h.join("pia")
	h.member("hal")
	h.join("hap")
	h.Disable("hal", "hap")
	h.member("dee")
	h.Delete("dee")

	// logged checks that the log has one new line, a sign-in with the outcome.
	logged := func(name, outcome string) {
		t.Helper()
		text := h.Log.String()
		h.Log.Reset()
		if strings.Contains(text, "DROP TABLE") || strings.Contains(text, password) {
			t.Errorf("%s: the log contains the text typed as the name or the password", name)
		}
		want := `"msg":"signin","outcome":"` + outcome + `"`
		if strings.Count(text, "\n") != 1 || !strings.Contains(text, want) {
			t.Errorf("%s: want one line with %s, the log has\n%s", name, want, text)
		}
	}
	h.Log.Reset()
	g, err := h.signIn("ann", password)
	h.Must(err)
	if g.Session == "" || g.Device == "" {
		t.Errorf("got %+v", g)
	}
	logged("the right password", "ok")
	for _, c := range []struct {
		name, user, password string
		want                 error
	}{
		{"a wrong password", "ann", "x", session.ErrDenied},
		{"an empty password", "ann", "", session.ErrDenied},
		{"an unknown name", "nobody", password, session.ErrDenied},
		{"a name in capitals", "Ann", password, session.ErrDenied},
		{"a name that no account can have", `"; DROP TABLE account`, password, session.ErrDenied},
		{"a pending account", "pia", password, session.ErrNotActivated},
		{"a pending account, with a wrong password", "pia", "x", session.ErrDenied},
		{"a disabled account", "hal", password, session.ErrDenied},
		{"an account that was disabled while pending", "hap", password, session.ErrDenied},
		{"a deleted account", "dee", password, session.ErrDenied},
	} {
		g, err := h.signIn(c.user, c.password)
		if !errors.Is(err, c.want) || g.Session+g.Device != "" {
			t.Errorf("%s: got %v and %+v", c.name, err, g)
		}
		outcome := "denied"
		if c.want == session.ErrNotActivated {
			outcome = "not_activated"
		}
		logged(c.name, outcome)
	}
	h.Advance(account.PendingLife)
	if _, err := h.signIn("pia", password); !errors.Is(err, session.ErrDenied) {
		t.Errorf("an expired account: %v", err)
	}
	logged("an expired account", "denied")
}

func TestRefusedAnswers(t *testing.T) {
	t.Run("one server", func(t *testing.T) { testRefusedAnswers(t, newFixture(t), newFixture(t)) })
	t.Run("several servers", func(t *testing.T) { testRefusedAnswers(t, newNode(t), newNode(t)) })
}

func testRefusedAnswers(t *testing.T, h, elsewhere *fixture) {
	h.member("ann")
	for name, c := range map[string]struct {
		change func(*answer)
		want   error
	}{
		"for another realm":    {func(a *answer) { a.realm = "other.test" }, session.ErrDenied},
		"for another page":     {func(a *answer) { a.uri = "/" }, session.ErrURI},
		"behind a path prefix": {func(a *answer) { a.uri = "/accounts/signin.ashx" }, session.ErrURI},
		"for another host": {func(a *answer) {
			a.uri = "https://other.test/signin.ashx"
		}, session.ErrURI},
		"for another method":     {func(a *answer) { a.method = "POST" }, session.ErrDenied},
		"with another algorithm": {func(a *answer) { a.algorithm = "SHA-256" }, session.ErrDenied},
		"with a forged nonce": {func(a *answer) {
			a.nonce = strings.Repeat("A", len(a.nonce))
		}, session.ErrStale},
		"with another tenant's nonce": {func(a *answer) {
			a.nonce = h.challenge(h.At("other.test").Tenant).Nonce
		}, session.ErrStale},
		"after the life of the nonce": {func(*answer) { h.Advance(digest.NonceLife) },
			session.ErrStale},
		"to another server's challenge": {func(a *answer) { a.nonce = elsewhere.challenge(h.Tenant).Nonce },
			session.ErrStale},
		"with a nonce that was changed": {func(a *answer) { a.nonce = string(a.nonce[0]^1) + a.nonce[1:] },
			session.ErrStale},
	} {
		a := h.answer("ann", password)
		c.change(&a)
		if _, err := h.send(a.header(), "", world.NewOrigin()); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
	}
	for _, header := range []string{"Basic YW5uOng=", "Digest", "Bearer x"} {
		if _, err := h.send(header, "", world.NewOrigin()); !errors.Is(err, session.ErrDenied) {
			t.Errorf("%q: got %v", header, err)
		}
	}
	header := h.answer("ann", password).header()
	if _, err := h.send(header, "", world.NewOrigin()); err != nil {
		t.Errorf("the first time: %v", err)
	}
	if _, err := h.send(header, "", world.NewOrigin()); !errors.Is(err, session.ErrStale) {
		t.Errorf("the second time: %v", err)
	}
}

func TestSharedNonces(t *testing.T) {
	h := newNode(t)
	var nodes []*session.Authenticator
	for range 3 {
		nodes = append(nodes, session.NewAuthenticator(h.deps))
	}
	h.Authenticator = nodes[0]
	h.member("ann")
	header := h.answer("ann", password).header()
	var accepted, stale atomic.Int32
	var all sync.WaitGroup
	for i := range 24 {
		from := world.NewOrigin()
		all.Go(func() {
			_, _, err := nodes[i%3].Authenticate(t.Context(), h.Tenant, session.Attempt{
				Authorization: header, Method: "GET", URI: "/signin.ashx", From: from,
			})
			switch {
			case err == nil:
				accepted.Add(1)
			case errors.Is(err, session.ErrStale):
				stale.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	all.Wait()
	if accepted.Load() != 1 || stale.Load() != 23 {
		t.Errorf("the answer was accepted %d times and stale %d times, want 1 and 23",
			accepted.Load(), stale.Load())
	}
}

func TestSHA256(t *testing.T) {
	h := newFixture(t)
	h.member("ann")
	h.Tenant.Algorithm = digest.SHA256
	if _, err := h.signIn("ann", password); err != nil {
		t.Errorf("got %v", err)
	}
	a := h.answer("ann", password)
	a.algorithm = "MD5"
	if _, err := h.send(a.header(), "", world.NewOrigin()); !errors.Is(err, session.ErrDenied) {
		t.Errorf("an MD5 answer to a SHA-256 challenge: got %v", err)
	}
}

// wantRule checks the rule that an error names for programs.
func wantRule(t *testing.T, err error, rule string) {
	t.Helper()
	if f, ok := errors.AsType[*fault.Error](err); ok && f.Rule != rule {
		t.Errorf("the rule is %q, want %q", f.Rule, rule)
	}
}

func TestFailureLimits(t *testing.T) {
	for _, user := range []string{"ann", "nobody"} {
		t.Run("by name/"+user, func(t *testing.T) {
			h := newFixture(t)
			h.member("ann")
			h.member("bob")
			known, err := h.signIn("ann", password)
			h.Must(err)
			for i := range 10 {
				if _, err := h.signIn(user, "x"); !errors.Is(err, session.ErrDenied) {
					t.Fatalf("attempt %d: %v", i, err)
				}
			}
			_, err = h.signIn(user, password)
			f, ok := errors.AsType[*fault.Error](err)
			if !ok || f.Kind != fault.Limited || f.RetryAfter != 15*time.Minute {
				t.Fatalf("attempt 11: got %v, want a limit of 15 minutes", err)
			}
			wantRule(t, err, "name")
			if _, err := h.signIn("bob", password); err != nil {
				t.Errorf("another name: %v", err)
			}
			_, err = h.send(h.answer("ann", password).header(), known.Device, world.NewOrigin())
			if err != nil {
				t.Errorf("a device that has signed in before: %v", err)
			}
			if user == "ann" {
				stranger, err := h.signIn("bob", password)
				h.Must(err)
				for name, device := range map[string]string{
					"a device of another user": stranger.Device,
					"a forged device":          known.Device[:60] + "AAAA",
					"a session as a device":    known.Session,
				} {
					_, err := h.send(h.answer("ann", password).header(), device, world.NewOrigin())
					if !fault.Is(err, fault.Limited) {
						t.Errorf("with %s: %v", name, err)
					}
				}
				for range 10 {
					h.send(h.answer("ann", "x").header(), known.Device, world.NewOrigin())
				}
				_, err = h.send(h.answer("ann", password).header(), known.Device, world.NewOrigin())
				if !fault.Is(err, fault.Limited) {
					t.Errorf("a device after ten failures: got %v, want a limit", err)
				}
				wantRule(t, err, "device")
			}
			h.Advance(15 * time.Minute)
			if _, err := h.signIn("ann", password); err != nil {
				t.Errorf("after the wait: %v", err)
			}
		})
	}
	t.Run("by address", func(t *testing.T) {
		h := newFixture(t)
		h.member("ann")
		from := world.NewOrigin()
		for i := range 100 {
			header := h.answer(fmt.Sprint("user", i), "x").header()
			if _, err := h.send(header, "", from); !errors.Is(err, session.ErrDenied) {
				t.Fatalf("attempt %d: %v", i, err)
			}
		}
		_, err := h.send(h.answer("ann", password).header(), "", from)
		if !fault.Is(err, fault.Limited) {
			t.Errorf("attempt 101: got %v, want a limit", err)
		}
		wantRule(t, err, "")
		if _, err := h.signIn("ann", password); err != nil {
			t.Errorf("from another address: %v", err)
		}
	})
	t.Run("a right password resets the count", func(t *testing.T) {
		h := newFixture(t)
		h.member("ann")
		for range 5 {
			for range 9 {
				h.signIn("ann", "x")
			}
			if _, err := h.signIn("ann", password); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// TestFactorMissing checks who needs a second factor and has none.
func TestFactorMissing(t *testing.T) {
	for _, c := range []struct {
		require tenant.RequireFactor
		role    account.Role
		factors account.Factors
		want    bool
	}{
		{tenant.RequireAdmin, account.Admin, 0, true},
		{tenant.RequireAdmin, account.Admin, account.FactorApp, false},
		{tenant.RequireAdmin, account.User, 0, false},
		{tenant.RequireNone, account.Admin, 0, false},
		{"", account.Admin, 0, false},
	} {
		tn := &tenant.Tenant{Settings: tenant.Settings{RequireFactor: c.require}}
		if got := session.FactorMissing(tn, account.Account{Role: c.role, Factors: c.factors}); got != c.want {
			t.Errorf("%q, %s with %d factors: %t", c.require, c.role, c.factors, got)
		}
	}
}

func TestSession(t *testing.T) {
	begin := func(t *testing.T) (*fixture, session.Grant) {
		h := newFixture(t)
		h.member("ann")
		g, err := h.signIn("ann", password)
		h.Must(err)
		a, err := h.SignedIn(t.Context(), h.Tenant, g.Session, world.NewOrigin())
		if err != nil || a.User != "ann" {
			t.Fatalf("got account %+v, %v", a, err)
		}
		return h, g
	}
	for name, end := range map[string]func(*fixture, session.Grant){
		"when an operator disables the account": func(h *fixture, _ session.Grant) {
			h.Disable("ann")
		},
		"when the account was disabled and enabled again": func(h *fixture, _ session.Grant) {
			h.Disable("ann")
			_, err := h.Accounts.EnableNow(h.Context(), h.Tenant, "ann")
			h.Must(err)
		},
		"when the account is deleted": func(h *fixture, _ session.Grant) {
			h.Delete("ann")
		},
		"when the user signs out, even twice": func(h *fixture, g session.Grant) {
			for range 2 {
				h.Must(h.SignOut(h.Context(), h.Tenant, g.Session, world.NewOrigin()))
			}
		},
		"when the clock was ahead by a year and is corrected": func(h *fixture, _ session.Grant) {
			h.Advance(-365 * 24 * time.Hour)
		},
		"when it lies in the future by more than a minute": func(h *fixture, _ session.Grant) {
			h.Advance(-time.Minute - time.Microsecond)
		},
		"after session.Life":               func(h *fixture, _ session.Grant) { h.Advance(session.Life) },
		"after session.Idle without a use": func(h *fixture, _ session.Grant) { h.Advance(session.Idle) },
		"if an earlier version revoked it": func(h *fixture, g session.Grant) {
			list, _, err := h.Sessions(h.Context(), h.Tenant, g.Session, world.NewOrigin())
			h.Must(err)
			r := list[0]
			// That version stored the ID only under this time.
			_, err = h.Store.Spend(h.Context(), h.Tenant.ID, r.ID, r.Began.Add(12*time.Hour))
			h.Must(err)
		},
		"when the keys are rotated twice": func(h *fixture, _ session.Grant) {
			h.SignRing = h.SignRing.Rotated(h.Now(), 2).Rotated(h.Now(), 2)
		},
	} {
		t.Run("ends "+name, func(t *testing.T) {
			h, g := begin(t)
			end(h, g)
			_, err := h.SignedIn(t.Context(), h.Tenant, g.Session, world.NewOrigin())
			h.Is(err, session.ErrDenied)
		})
	}
	t.Run("survives until its end, and one rotation of the keys", func(t *testing.T) {
		h, g := begin(t)
		h.SignRing = h.SignRing.Rotated(h.Now(), 2)
		h.use(g.Session, session.Life-time.Microsecond)
		h.Advance(time.Microsecond)
		_, err := h.SignedIn(t.Context(), h.Tenant, g.Session, world.NewOrigin())
		h.Is(err, session.ErrDenied)
	})
	t.Run("survives until it has not been used for session.Idle", func(t *testing.T) {
		h, g := begin(t)
		h.use(g.Session, 15*time.Hour)
		h.Advance(session.Idle - time.Microsecond)
		h.restart() // the last known use is in the store
		_, err := h.SignedIn(t.Context(), h.Tenant, g.Session, world.NewOrigin())
		h.Must(err)
		h.Advance(time.Microsecond) // the use just now was not written
		h.restart()
		_, err = h.SignedIn(t.Context(), h.Tenant, g.Session, world.NewOrigin())
		h.Is(err, session.ErrDenied)
	})
	t.Run("survives a clock that is behind by a minute", func(t *testing.T) {
		h, g := begin(t)
		h.Advance(-time.Minute)
		_, err := h.SignedIn(t.Context(), h.Tenant, g.Session, world.NewOrigin())
		h.Must(err)
	})
	t.Run("can be ended while it lies in the future", func(t *testing.T) {
		h, g := begin(t)
		h.Advance(-24 * time.Hour)
		h.Must(h.SignOut(t.Context(), h.Tenant, g.Session, world.NewOrigin()))
		h.Advance(24 * time.Hour)
		_, err := h.SignedIn(t.Context(), h.Tenant, g.Session, world.NewOrigin())
		h.Is(err, session.ErrDenied)
	})
	t.Run("survives the end of another session", func(t *testing.T) {
		h, g := begin(t)
		other, err := h.signIn("ann", password)
		h.Must(err)
		if other.Session == g.Session {
			t.Fatal("two sign-ins returned the same session")
		}
		h.Must(h.SignOut(t.Context(), h.Tenant, other.Session, world.NewOrigin()))
		_, err = h.SignedIn(t.Context(), h.Tenant, g.Session, world.NewOrigin())
		h.Must(err)
	})
	t.Run("is invalid at another tenant", func(t *testing.T) {
		h, g := begin(t)
		_, err := h.SignedIn(t.Context(), h.At("other.test").Tenant, g.Session, world.NewOrigin())
		h.Is(err, session.ErrDenied)
		h.Must(h.SignOut(t.Context(), h.At("other.test").Tenant, g.Session, world.NewOrigin()))
		_, err = h.SignedIn(t.Context(), h.Tenant, g.Session, world.NewOrigin())
		h.Must(err)
	})
	t.Run("is invalid when it is changed", func(t *testing.T) {
		h, g := begin(t)
		for i := range len(g.Session) {
			for _, c := range []string{"A", "_", "\n", ""} {
				if bad := g.Session[:i] + c + g.Session[i+1:]; bad != g.Session {
					_, err := h.SignedIn(t.Context(), h.Tenant, bad, world.NewOrigin())
					if !errors.Is(err, session.ErrDenied) {
						t.Fatalf("%q is accepted: %v", bad, err)
					}
				}
			}
		}
		for _, bad := range []string{
			"", g.Session + "=", g.Session + "A", g.Device, strings.Repeat("A", len(g.Session)),
		} {
			_, err := h.SignedIn(t.Context(), h.Tenant, bad, world.NewOrigin())
			h.Is(err, session.ErrDenied)
			h.Must(h.SignOut(t.Context(), h.Tenant, bad, world.NewOrigin()))
		}
	})
}

// TestAuditAction checks that failures are recorded under the action that needed the proof.
func TestAuditAction(t *testing.T) {
	h := newFixture(t)
	for _, action := range []audit.Action{audit.SignIn, audit.Resend, audit.Confirm} {
		a := h.answer("ann", "x")
		_, _, err := h.Authenticate(t.Context(), h.Tenant, session.Attempt{
			Action: action, Authorization: a.header(), Method: "GET", URI: "/signin.ashx",
			From: world.NewOrigin(),
		})
		h.Is(err, session.ErrDenied)
		want := fmt.Sprintf(`"msg":"%s","outcome":"denied"`, action)
		if !strings.Contains(h.Log.String(), want) {
			t.Errorf("the log does not contain %s", want)
		}
	}
}

func TestDeny(t *testing.T) {
	h := newFixture(t)
	c, err := h.Deny(h.Tenant)
	h.Is(err, session.ErrDenied)
	if c == nil || c.Stale || c.Realm != h.Tenant.Realm {
		t.Errorf("the challenge is %+v", c)
	}
}
