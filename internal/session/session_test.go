package session_test

import (
	"bytes"
	"crypto/md5"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/captcha"
	"dialtone/internal/digest"
	"dialtone/internal/fault"
	"dialtone/internal/mail/pickup"
	"dialtone/internal/outbox"
	"dialtone/internal/secret"
	"dialtone/internal/session"
	"dialtone/internal/store"
	"dialtone/internal/tenant"
	"dialtone/internal/test/teststore"
)

const password = "seven horses under the bridge"

// fixture is an Authenticator with accounts in a real store, and a clock that a test sets.
type fixture struct {
	*testing.T
	*session.Authenticator
	deps     session.Deps
	accounts *account.Service
	store    *store.Store
	pickup   *pickup.Dir
	now      time.Time
	tenant   *tenant.Tenant
	other    *tenant.Tenant
	sign     *secret.Ring
	log      syncBuffer
	origins  int
}

// syncBuffer is a bytes.Buffer that is safe for concurrent writes.
type syncBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (j *syncBuffer) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.Buffer.Write(p)
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	h := &fixture{T: t, now: time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)}
	seal := secret.NewRing(h.now)
	h.sign = secret.NewRing(h.now)
	dir := t.TempDir()
	var err error
	h.store, err = teststore.Open(t.Context(), filepath.Join(dir, "dialtone.db"), seal)
	h.must(err)
	t.Cleanup(func() { h.store.Close() })
	h.pickup, err = pickup.Open(filepath.Join(dir, "pickup"))
	h.must(err)
	var list []*tenant.Tenant
	for _, host := range []string{"phone.test", "other.test"} {
		tn, err := h.store.AddTenant(t.Context(), tenant.Tenant{
			Host: host, Realm: host, PublicURL: "https://" + host, Created: h.now,
		})
		h.must(err)
		list = append(list, &tn)
	}
	h.tenant, h.other = list[0], list[1]
	now := func() time.Time { return h.now }
	logger := slog.New(slog.NewJSONHandler(&h.log, nil))
	h.accounts = account.NewService(account.Deps{
		Store: h.store, SealRing: seal, Log: logger, Now: now,
		Captcha: func() *captcha.Issuer { return captcha.NewIssuer(h.sign, now) },
		Outbox: outbox.New(outbox.Deps{
			Store: h.store, Pickup: h.pickup, SealRing: seal, Log: logger, Now: now,
		}),
	})
	h.deps = session.Deps{
		Accounts: h.accounts, Store: h.store, SealRing: seal,
		Signatures: func() *session.Signatures { return session.NewSignatures(h.sign) },
		Audit:      audit.Log{Logger: logger}, Now: now,
	}
	h.Authenticator = session.NewAuthenticator(h.deps)
	return h
}

func (h *fixture) must(err error) {
	h.Helper()
	if err != nil {
		h.Fatal(err)
	}
}

func (h *fixture) is(err, want error) {
	h.Helper()
	if !errors.Is(err, want) {
		h.Fatalf("got %v, want %v", err, want)
	}
}

// origin returns an address that was not used before.
func (h *fixture) origin() account.Origin {
	h.origins++
	return account.Origin{
		Addr: netip.AddrFrom4([4]byte{192, 0, byte(h.origins >> 8), byte(h.origins)}),
	}
}

// signup makes a pending account.
func (h *fixture) signup(user string) {
	h.Helper()
	q := captcha.NewIssuer(h.sign, func() time.Time { return h.now }).Ask(h.tenant.ID)
	var x, y int
	_, err := fmt.Sscanf(q.Text, "%d + %d", &x, &y)
	h.must(err)
	sum := digest.ComputeSHA256(user, h.tenant.Realm, password).Hex()
	_, err = h.accounts.Signup(h.Context(), h.tenant, account.Form{
		User: user, Name: user, Email: user + "@mail.test",
		HA1: digest.Compute(user, h.tenant.Realm, password).Hex(), HA1SHA256: &sum,
		CaptchaToken: q.Token, CaptchaAnswer: fmt.Sprint(x + y),
	}, h.origin())
	h.must(err)
}

// member makes an active account.
func (h *fixture) member(user string) {
	h.Helper()
	h.signup(user)
	_, err := h.accounts.Enable(h.Context(), h.tenant, user)
	h.must(err)
}

// answer is a client's answer to a challenge. It has an implementation of its own of RFC 7616
// section 3.4.1.
type answer struct {
	user, realm, nonce, uri, nc, password, algorithm, method string
}

// challenge returns a new challenge of a tenant.
func (h *fixture) challenge(t *tenant.Tenant) *digest.Challenge {
	h.Helper()
	_, c, err := h.Authenticate(h.Context(), t, session.Attempt{Method: "GET", URI: "/signin.ashx"})
	if !errors.Is(err, session.ErrNoProof) || c == nil || c.Stale {
		h.Fatalf("without a proof: %v, %+v", err, c)
	}
	return c
}

func (h *fixture) answer(user, password string) answer {
	h.Helper()
	c := h.challenge(h.tenant)
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

// send sends a header, and signs in if it is a proof. A refused proof must come with a challenge.
func (h *fixture) send(header, device string, from account.Origin) (session.Grant, error) {
	h.Helper()
	a, challenge, err := h.Authenticate(h.Context(), h.tenant, session.Attempt{
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
	return h.SignIn(h.Context(), h.tenant, a, from)
}

// signIn answers a new challenge from an address that was not used before.
func (h *fixture) signIn(user, password string) (session.Grant, error) {
	return h.send(h.answer(user, password).header(), "", h.origin())
}

func TestSignIn(t *testing.T) {
	h := newFixture(t)
	h.member("ann")
	h.signup("pia")
	h.member("hal")
	_, err := h.accounts.Disable(t.Context(), h.tenant, "hal")
	h.must(err)
	h.signup("hap")
	_, err = h.accounts.Disable(t.Context(), h.tenant, "hap")
	h.must(err)
	h.member("dee")
	h.must(h.accounts.Delete(t.Context(), h.tenant, "dee"))

	// logs checks that the log has grown by one sign-in with an outcome.
	logs := func(name, outcome string) {
		t.Helper()
		text := h.log.String()
		h.log.Reset()
		if strings.Contains(text, "DROP TABLE") || strings.Contains(text, password) {
			t.Errorf("%s: the log contains what was typed for the name or the password", name)
		}
		want := `"msg":"signin","outcome":"` + outcome + `"`
		if strings.Count(text, "\n") != 1 || !strings.Contains(text, want) {
			t.Errorf("%s: want one line with %s, the log has\n%s", name, want, text)
		}
	}
	h.log.Reset()
	g, err := h.signIn("ann", password)
	h.must(err)
	if g.Session == "" || g.Device == "" {
		t.Errorf("got %+v", g)
	}
	logs("the right password", "ok")
	for _, c := range []struct {
		name, user, password string
		want                 error
	}{
		{"a wrong password", "ann", "x", session.ErrDenied},
		{"an empty password", "ann", "", session.ErrDenied},
		{"an unknown user", "nobody", password, session.ErrDenied},
		{"a user in capitals", "Ann", password, session.ErrDenied},
		{"a user that is not a name", `"; DROP TABLE account`, password, session.ErrDenied},
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
		logs(c.name, outcome)
	}
	h.now = h.now.Add(account.PendingLife)
	if _, err := h.signIn("pia", password); !errors.Is(err, session.ErrDenied) {
		t.Errorf("an expired account: %v", err)
	}
	logs("an expired account", "denied")
}

func TestRefusedAnswers(t *testing.T) {
	for _, nodes := range []bool{false, true} {
		t.Run(fmt.Sprintf("nodes %v", nodes), func(t *testing.T) { testRefusedAnswers(t, nodes) })
	}
}

func testRefusedAnswers(t *testing.T, nodes bool) {
	h := newFixture(t)
	h.deps.Nodes = nodes
	h.Authenticator = session.NewAuthenticator(h.deps)
	h.member("ann")
	elsewhere := newFixture(t)
	elsewhere.deps.Nodes = nodes
	elsewhere.Authenticator = session.NewAuthenticator(elsewhere.deps)
	for name, c := range map[string]struct {
		change func(*answer)
		want   error
	}{
		"of another realm":     {func(a *answer) { a.realm = "other.test" }, session.ErrDenied},
		"for another page":     {func(a *answer) { a.uri = "/" }, session.ErrDenied},
		"for another method":   {func(a *answer) { a.method = "POST" }, session.ErrDenied},
		"by another algorithm": {func(a *answer) { a.algorithm = "SHA-256" }, session.ErrDenied},
		"with a count of two":  {func(a *answer) { a.nc = "00000002" }, session.ErrStale},
		"with a forged nonce": {func(a *answer) {
			a.nonce = strings.Repeat("A", len(a.nonce))
		}, session.ErrStale},
		"with another tenant's nonce": {func(a *answer) {
			a.nonce = h.challenge(h.other).Nonce
		}, session.ErrStale},
		"after a minute": {func(*answer) { h.now = h.now.Add(digest.NonceLife) },
			session.ErrStale},
		"of another server": {func(a *answer) { a.nonce = elsewhere.challenge(h.tenant).Nonce },
			session.ErrStale},
		"with a changed nonce": {func(a *answer) { a.nonce = string(a.nonce[0]^1) + a.nonce[1:] },
			session.ErrStale},
	} {
		a := h.answer("ann", password)
		c.change(&a)
		if _, err := h.send(a.header(), "", h.origin()); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
	}
	for _, header := range []string{"Basic YW5uOng=", "Digest", "Bearer x"} {
		if _, err := h.send(header, "", h.origin()); !errors.Is(err, session.ErrDenied) {
			t.Errorf("%q: got %v", header, err)
		}
	}
	header := h.answer("ann", password).header()
	if _, err := h.send(header, "", h.origin()); err != nil {
		t.Errorf("once: %v", err)
	}
	if _, err := h.send(header, "", h.origin()); !errors.Is(err, session.ErrStale) {
		t.Errorf("replayed: %v", err)
	}
}

func TestSharedNonces(t *testing.T) {
	h := newFixture(t)
	h.deps.Nodes = true
	var nodes []*session.Authenticator
	for range 3 {
		nodes = append(nodes, session.NewAuthenticator(h.deps))
	}
	h.Authenticator = nodes[0]
	h.member("ann")
	header := h.answer("ann", password).header()
	var proved, stale atomic.Int32
	var all sync.WaitGroup
	for i := range 24 {
		from := h.origin()
		all.Go(func() {
			_, _, err := nodes[i%3].Authenticate(t.Context(), h.tenant, session.Attempt{
				Authorization: header, Method: "GET", URI: "/signin.ashx", From: from,
			})
			switch {
			case err == nil:
				proved.Add(1)
			case errors.Is(err, session.ErrStale):
				stale.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	all.Wait()
	if proved.Load() != 1 || stale.Load() != 23 {
		t.Errorf("one answer was a proof %d times, and stale %d times", proved.Load(), stale.Load())
	}
	// The clock of the node that issued a nonce may be some seconds ahead, and not a minute.
	h.now = h.now.Add(5 * time.Second)
	early := h.answer("ann", password).header()
	h.now = h.now.Add(-5 * time.Second)
	if _, err := h.send(early, "", h.origin()); err != nil {
		t.Errorf("five seconds ahead: %v", err)
	}
	h.now = h.now.Add(time.Minute)
	late := h.answer("ann", password).header()
	h.now = h.now.Add(-time.Minute)
	if _, err := h.send(late, "", h.origin()); !errors.Is(err, session.ErrStale) {
		t.Errorf("a minute ahead: %v", err)
	}
}

func TestSHA256(t *testing.T) {
	h := newFixture(t)
	h.member("ann")
	h.tenant.Algorithm = digest.SHA256
	if _, err := h.signIn("ann", password); err != nil {
		t.Errorf("got %v", err)
	}
	a := h.answer("ann", password)
	a.algorithm = "MD5"
	if _, err := h.send(a.header(), "", h.origin()); !errors.Is(err, session.ErrDenied) {
		t.Errorf("a weaker answer: %v", err)
	}
}

func TestGuessing(t *testing.T) {
	for _, user := range []string{"ann", "nobody"} {
		t.Run("at the name "+user, func(t *testing.T) {
			h := newFixture(t)
			h.member("ann")
			h.member("bob")
			known, err := h.signIn("ann", password)
			h.must(err)
			for i := range 10 {
				if _, err := h.signIn(user, "x"); !errors.Is(err, session.ErrDenied) {
					t.Fatalf("attempt %d: %v", i, err)
				}
			}
			_, err = h.signIn(user, password)
			f, ok := errors.AsType[*fault.Error](err)
			if !ok || f.Kind != fault.Limited || f.RetryAfter != 15*time.Minute {
				t.Fatalf("the eleventh: %v", err)
			}
			if _, err := h.signIn("bob", password); err != nil {
				t.Errorf("another user: %v", err)
			}
			_, err = h.send(h.answer("ann", password).header(), known.Device, h.origin())
			if err != nil {
				t.Errorf("the owner on a known device: %v", err)
			}
			if user == "ann" {
				stranger, err := h.signIn("bob", password)
				h.must(err)
				for name, device := range map[string]string{
					"another's device":      stranger.Device,
					"a forged device":       known.Device[:60] + "AAAA",
					"a session as a device": known.Session,
				} {
					_, err := h.send(h.answer("ann", password).header(), device, h.origin())
					if !fault.Is(err, fault.Limited) {
						t.Errorf("with %s: %v", name, err)
					}
				}
				for range 10 {
					h.send(h.answer("ann", "x").header(), known.Device, h.origin())
				}
				_, err = h.send(h.answer("ann", password).header(), known.Device, h.origin())
				if !fault.Is(err, fault.Limited) {
					t.Errorf("a device that guesses: %v", err)
				}
			}
			h.now = h.now.Add(15 * time.Minute)
			if _, err := h.signIn("ann", password); err != nil {
				t.Errorf("after the wait: %v", err)
			}
		})
	}
	t.Run("from one address", func(t *testing.T) {
		h := newFixture(t)
		h.member("ann")
		from := h.origin()
		for i := range 100 {
			header := h.answer(fmt.Sprint("user", i), "x").header()
			if _, err := h.send(header, "", from); !errors.Is(err, session.ErrDenied) {
				t.Fatalf("attempt %d: %v", i, err)
			}
		}
		if _, err := h.send(h.answer("ann", password).header(), "", from); !fault.Is(err,
			fault.Limited) {
			t.Errorf("the next: %v", err)
		}
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

func TestSession(t *testing.T) {
	begin := func(t *testing.T) (*fixture, session.Grant) {
		h := newFixture(t)
		h.member("ann")
		g, err := h.signIn("ann", password)
		h.must(err)
		a, err := h.SignedIn(t.Context(), h.tenant, g.Session)
		if err != nil || a.User != "ann" {
			t.Fatalf("the session is that of %+v, %v", a, err)
		}
		return h, g
	}
	for name, end := range map[string]func(*fixture, session.Grant){
		"when an operator disables the account": func(h *fixture, _ session.Grant) {
			_, err := h.accounts.Disable(h.Context(), h.tenant, "ann")
			h.must(err)
		},
		"when the account was disabled and enabled again": func(h *fixture, _ session.Grant) {
			_, err := h.accounts.Disable(h.Context(), h.tenant, "ann")
			h.must(err)
			_, err = h.accounts.Enable(h.Context(), h.tenant, "ann")
			h.must(err)
		},
		"when the account is deleted": func(h *fixture, _ session.Grant) {
			h.must(h.accounts.Delete(h.Context(), h.tenant, "ann"))
		},
		"when the person signs out": func(h *fixture, g session.Grant) {
			for range 2 {
				h.must(h.SignOut(h.Context(), h.tenant, g.Session, h.origin()))
			}
		},
		"after its life": func(h *fixture, _ session.Grant) { h.now = h.now.Add(session.Life) },
		"when the key was rotated twice": func(h *fixture, _ session.Grant) {
			h.sign = h.sign.Rotated(h.now, 2).Rotated(h.now, 2)
		},
	} {
		t.Run("ends "+name, func(t *testing.T) {
			h, g := begin(t)
			end(h, g)
			_, err := h.SignedIn(t.Context(), h.tenant, g.Session)
			h.is(err, session.ErrDenied)
		})
	}
	t.Run("lasts until its end, and over one rotation", func(t *testing.T) {
		h, g := begin(t)
		h.sign = h.sign.Rotated(h.now, 2)
		h.now = h.now.Add(session.Life - time.Microsecond)
		_, err := h.SignedIn(t.Context(), h.tenant, g.Session)
		h.must(err)
	})
	t.Run("lasts when another one ends", func(t *testing.T) {
		h, g := begin(t)
		other, err := h.signIn("ann", password)
		h.must(err)
		if other.Session == g.Session {
			t.Fatal("two sign-ins give one session")
		}
		h.must(h.SignOut(t.Context(), h.tenant, other.Session, h.origin()))
		_, err = h.SignedIn(t.Context(), h.tenant, g.Session)
		h.must(err)
	})
	t.Run("is invalid at another tenant", func(t *testing.T) {
		h, g := begin(t)
		_, err := h.SignedIn(t.Context(), h.other, g.Session)
		h.is(err, session.ErrDenied)
		h.must(h.SignOut(t.Context(), h.other, g.Session, h.origin()))
		_, err = h.SignedIn(t.Context(), h.tenant, g.Session)
		h.must(err)
	})
	t.Run("is invalid when it is changed", func(t *testing.T) {
		h, g := begin(t)
		for i := range len(g.Session) {
			for _, c := range []string{"A", "_", "\n", ""} {
				if bad := g.Session[:i] + c + g.Session[i+1:]; bad != g.Session {
					_, err := h.SignedIn(t.Context(), h.tenant, bad)
					if !errors.Is(err, session.ErrDenied) {
						t.Fatalf("%q is accepted: %v", bad, err)
					}
				}
			}
		}
		for _, bad := range []string{
			"", g.Session + "=", g.Session + "A", g.Device, strings.Repeat("A", len(g.Session)),
		} {
			_, err := h.SignedIn(t.Context(), h.tenant, bad)
			h.is(err, session.ErrDenied)
			h.must(h.SignOut(t.Context(), h.tenant, bad, h.origin()))
		}
	})
}

// Every action has its failures recorded under its name.
func TestAuthenticateRecordsTheAction(t *testing.T) {
	h := newFixture(t)
	for _, action := range []audit.Action{audit.SignIn, audit.Resend, audit.Confirm} {
		a := h.answer("ann", "x")
		_, _, err := h.Authenticate(t.Context(), h.tenant, session.Attempt{
			Action: action, Authorization: a.header(), Method: "GET", URI: "/signin.ashx",
			From: h.origin(),
		})
		h.is(err, session.ErrDenied)
		want := fmt.Sprintf(`"msg":"%s","outcome":"denied"`, action)
		if !strings.Contains(h.log.String(), want) {
			t.Errorf("the log has no %s", want)
		}
	}
}

func TestDeny(t *testing.T) {
	h := newFixture(t)
	c, err := h.Deny(h.tenant)
	h.is(err, session.ErrDenied)
	if c == nil || c.Stale || c.Realm != h.tenant.Realm {
		t.Errorf("the challenge is %+v", c)
	}
}
