package session_test

import (
	"bytes"
	"context"
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
	"dialtone/internal/secret"
	"dialtone/internal/session"
	"dialtone/internal/store"
	"dialtone/internal/tenant"
	"dialtone/internal/test/teststore"
)

const password = "seven horses under the bridge"

// house is a door with accounts behind it, over a real store, with a clock that a test sets.
type house struct {
	*testing.T
	*session.Authenticator
	deps    session.Deps
	desk    *account.Service
	store   *store.Store
	mailbox *pickup.Dir
	now     time.Time
	tenant  *tenant.Tenant
	other   *tenant.Tenant
	sign    *secret.Ring
	log     journal
	visits  int
}

// journal is a log that may be written to at any time.
type journal struct {
	mu sync.Mutex
	bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.Buffer.Write(p)
}

func newHouse(t *testing.T) *house {
	t.Helper()
	h := &house{T: t, now: time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)}
	seal := secret.NewRing(h.now)
	h.sign = secret.NewRing(h.now)
	dir := t.TempDir()
	var err error
	h.store, err = teststore.Open(t.Context(), filepath.Join(dir, "dialtone.db"), seal)
	h.must(err)
	t.Cleanup(func() { h.store.Close() })
	mailbox, err := pickup.Open(filepath.Join(dir, "pickup"))
	h.must(err)
	h.mailbox = mailbox
	var list []*tenant.Tenant
	for _, host := range []string{"phone.test", "other.test"} {
		tn, err := h.store.AddTenant(t.Context(), tenant.Tenant{Host: host, Realm: host, PublicURL: "https://" + host, Created: h.now})
		h.must(err)
		list = append(list, &tn)
	}
	h.tenant, h.other = list[0], list[1]
	now := func() time.Time { return h.now }
	logger := slog.New(slog.NewJSONHandler(&h.log, nil))
	h.desk = account.NewService(account.Deps{
		Store: h.store, Mailbox: mailbox, Tenant: func(int64) (*tenant.Tenant, bool) { return h.tenant, true },
		Captcha: func() *captcha.Issuer { return captcha.NewIssuer(h.sign, now) }, SealRing: seal,
		Audit: audit.Log{Logger: logger}, Log: logger, Now: now,
	})
	h.deps = session.Deps{
		Accounts: h.desk, Store: h.store, Signatures: func() *session.Signatures { return session.NewSignatures(h.sign) },
		SealRing: seal, Audit: audit.Log{Logger: logger}, Now: now,
	}
	h.Authenticator = session.NewAuthenticator(h.deps)
	return h
}

func (h *house) must(err error) {
	h.Helper()
	if err != nil {
		h.Fatal(err)
	}
}

func (h *house) is(err, want error) {
	h.Helper()
	if !errors.Is(err, want) {
		h.Fatalf("got %v, want %v", err, want)
	}
}

// anywhere is an address that was not used before.
func (h *house) anywhere() account.Origin {
	h.visits++
	return account.Origin{Addr: netip.AddrFrom4([4]byte{192, 0, byte(h.visits >> 8), byte(h.visits)})}
}

// join signs a user up; the account waits for its link.
func (h *house) join(user string) {
	h.Helper()
	q := captcha.NewIssuer(h.sign, func() time.Time { return h.now }).Ask(h.tenant.ID)
	var x, y int
	_, err := fmt.Sscanf(q.Text, "%d + %d", &x, &y)
	h.must(err)
	sum := digest.ComputeSHA256(user, h.tenant.Realm, password).Hex()
	_, err = h.desk.Signup(h.Context(), h.tenant, account.Form{
		User: user, Name: user, Email: user + "@mail.test", HA1: digest.Compute(user, h.tenant.Realm, password).Hex(), HA1SHA256: &sum,
		CaptchaToken: q.Token, CaptchaAnswer: fmt.Sprint(x + y),
	}, h.anywhere())
	h.must(err)
}

func (h *house) member(user string) {
	h.Helper()
	h.join(user)
	_, err := h.desk.Enable(h.Context(), h.tenant, user)
	h.must(err)
}

// answer is what a client sends for a challenge: the arithmetic of RFC 7616 §3.4.1, worked out here once more.
type answer struct {
	user, realm, nonce, uri, nc, password, algorithm, method string
}

func (h *house) answer(user, password string) answer {
	c := h.Challenge(h.tenant, false)
	return answer{user, c.Realm, c.Nonce, "/signin.ashx", "00000001", password, string(c.Algorithm), "GET"}
}

func (a answer) header() string {
	hash := func(s string) string { return fmt.Sprintf("%x", md5.Sum([]byte(s))) }
	if a.algorithm == "SHA-256" {
		hash = func(s string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(s))) }
	}
	response := hash(hash(a.user+":"+a.realm+":"+a.password) + ":" + a.nonce + ":" + a.nc + ":cafe:auth:" + hash(a.method+":"+a.uri))
	return fmt.Sprintf(`Digest username="%s", realm="%s", nonce="%s", uri="%s", nc=%s, cnonce="cafe", qop=auth, algorithm=%s, response="%s"`,
		strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(a.user), a.realm, a.nonce, a.uri, a.nc, a.algorithm, response)
}

func (h *house) send(header, device string, from account.Origin) (session.Grant, error) {
	return h.SignIn(h.Context(), h.tenant, session.Attempt{Authorization: header, Method: "GET", URI: "/signin.ashx", Device: device, From: from})
}

// signIn is a whole exchange from an address that was not used before.
func (h *house) signIn(user, password string) (session.Grant, error) {
	return h.send(h.answer(user, password).header(), "", h.anywhere())
}

func TestSignIn(t *testing.T) {
	h := newHouse(t)
	h.member("ann")
	h.join("pia")
	h.member("hal")
	_, err := h.desk.Disable(t.Context(), h.tenant, "hal")
	h.must(err)
	h.join("hap")
	_, err = h.desk.Disable(t.Context(), h.tenant, "hap")
	h.must(err)
	h.member("dee")
	h.must(h.desk.Delete(t.Context(), h.tenant, "dee"))

	g, err := h.signIn("ann", password)
	h.must(err)
	if g.Account.User != "ann" || g.Session == "" || g.Device == "" {
		t.Errorf("got %+v", g)
	}
	for _, c := range []struct {
		name, user, password string
		want                 error
	}{
		{"a wrong password", "ann", "x", session.ErrDenied},
		{"an empty password", "ann", "", session.ErrDenied},
		{"an unknown user", "nobody", password, session.ErrDenied},
		{"a user in capitals", "Ann", password, session.ErrDenied},
		{"a user that is no name", `"; DROP TABLE account`, password, session.ErrDenied},
		{"an account that waits for its link", "pia", password, session.ErrNotActivated},
		{"an account that waits for its link, with a wrong password", "pia", "x", session.ErrDenied},
		{"an account that an operator disabled", "hal", password, session.ErrDenied},
		{"an account that was disabled while it waited", "hap", password, session.ErrDenied},
		{"an account that was deleted", "dee", password, session.ErrDenied},
	} {
		g, err := h.signIn(c.user, c.password)
		if err != c.want || g.Session+g.Device != "" || (g.Account.User != "") != (c.want == session.ErrNotActivated) {
			t.Errorf("%s: got %v and %+v", c.name, err, g)
		}
	}
	h.now = h.now.Add(account.PendingLife)
	if _, err := h.signIn("pia", password); err != session.ErrDenied {
		t.Errorf("an account that has expired: %v", err)
	}
	if strings.Contains(h.log.String(), "DROP TABLE") || strings.Contains(h.log.String(), password) {
		t.Error("the log has what was typed into the name or the password")
	}
	for _, line := range []string{`"outcome":"denied"`, `"outcome":"not_activated"`, `"msg":"signin","outcome":"ok"`} {
		if !strings.Contains(h.log.String(), line) {
			t.Errorf("the log has no %s", line)
		}
	}
}

func TestAnswersThatAreRefused(t *testing.T) {
	for _, nodes := range []bool{false, true} {
		t.Run(fmt.Sprintf("nodes %v", nodes), func(t *testing.T) { testRefusedAnswers(t, nodes) })
	}
}

func testRefusedAnswers(t *testing.T, nodes bool) {
	h := newHouse(t)
	h.deps.Nodes = nodes
	h.Authenticator = session.NewAuthenticator(h.deps)
	h.member("ann")
	elsewhere := newHouse(t)
	elsewhere.deps.Nodes = nodes
	elsewhere.Authenticator = session.NewAuthenticator(elsewhere.deps)
	for name, c := range map[string]struct {
		change func(*answer)
		want   error
	}{
		"of another realm":       {func(a *answer) { a.realm = "other.test" }, session.ErrDenied},
		"for another page":       {func(a *answer) { a.uri = "/" }, session.ErrDenied},
		"for another method":     {func(a *answer) { a.method = "POST" }, session.ErrDenied},
		"by another algorithm":   {func(a *answer) { a.algorithm = "SHA-256" }, session.ErrDenied},
		"with a count of two":    {func(a *answer) { a.nc = "00000002" }, session.ErrStale},
		"with a nonce of no one": {func(a *answer) { a.nonce = strings.Repeat("A", len(a.nonce)) }, session.ErrStale},
		"of another tenant's nonce": {func(a *answer) {
			a.nonce = h.Challenge(h.other, false).Nonce
		}, session.ErrStale},
		"after a minute":       {func(*answer) { h.now = h.now.Add(digest.NonceLife) }, session.ErrStale},
		"of another house":     {func(a *answer) { a.nonce = elsewhere.Challenge(h.tenant, false).Nonce }, session.ErrStale},
		"with a changed nonce": {func(a *answer) { a.nonce = string(a.nonce[0]^1) + a.nonce[1:] }, session.ErrStale},
	} {
		a := h.answer("ann", password)
		c.change(&a)
		if _, err := h.send(a.header(), "", h.anywhere()); err != c.want {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
	}
	for _, header := range []string{"", "Basic YW5uOng=", "Digest", "Bearer x"} {
		if _, err := h.send(header, "", h.anywhere()); err != session.ErrDenied {
			t.Errorf("%q: got %v", header, err)
		}
	}
	header := h.answer("ann", password).header()
	if _, err := h.send(header, "", h.anywhere()); err != nil {
		t.Errorf("once: %v", err)
	}
	if _, err := h.send(header, "", h.anywhere()); err != session.ErrStale {
		t.Errorf("replayed: %v", err)
	}
}

func TestNodesAnswerEachOthersChallenges(t *testing.T) {
	h := newHouse(t)
	h.deps.Nodes = true
	doors := []*session.Authenticator{session.NewAuthenticator(h.deps), session.NewAuthenticator(h.deps), session.NewAuthenticator(h.deps)}
	h.Authenticator = doors[0]
	h.member("ann")
	header := h.answer("ann", password).header()
	var in, stale atomic.Int32
	var all sync.WaitGroup
	for i := range 24 {
		from := h.anywhere()
		all.Go(func() {
			_, err := doors[i%3].SignIn(t.Context(), h.tenant, session.Attempt{Authorization: header, Method: "GET", URI: "/signin.ashx", From: from})
			switch err {
			case nil:
				in.Add(1)
			case session.ErrStale:
				stale.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	all.Wait()
	if in.Load() != 1 || stale.Load() != 23 {
		t.Errorf("one answer signed in %d times, and was stale %d times", in.Load(), stale.Load())
	}
	// A node whose clock is behind takes a challenge of now, and one whose clock is right does not take one of later.
	h.now = h.now.Add(5 * time.Second)
	early := h.answer("ann", password).header()
	h.now = h.now.Add(-5 * time.Second)
	if _, err := h.send(early, "", h.anywhere()); err != nil {
		t.Errorf("a challenge of a clock that is five seconds ahead: %v", err)
	}
	h.now = h.now.Add(time.Minute)
	late := h.answer("ann", password).header()
	h.now = h.now.Add(-time.Minute)
	if _, err := h.send(late, "", h.anywhere()); err != session.ErrStale {
		t.Errorf("a challenge of a clock that is a minute ahead: %v", err)
	}
}

func TestSHA256(t *testing.T) {
	h := newHouse(t)
	h.member("ann")
	h.tenant.Algorithm = digest.SHA256
	if _, err := h.signIn("ann", password); err != nil {
		t.Errorf("got %v", err)
	}
	a := h.answer("ann", password)
	a.algorithm = "MD5"
	if _, err := h.send(a.header(), "", h.anywhere()); err != session.ErrDenied {
		t.Errorf("a weaker answer: %v", err)
	}
}

func TestGuessingIsLimited(t *testing.T) {
	for _, user := range []string{"ann", "nobody"} {
		t.Run("at the name "+user, func(t *testing.T) {
			h := newHouse(t)
			h.member("ann")
			h.member("bob")
			known, err := h.signIn("ann", password)
			h.must(err)
			for i := range 10 {
				if _, err := h.signIn(user, "x"); err != session.ErrDenied {
					t.Fatalf("try %d: %v", i, err)
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
			if _, err := h.send(h.answer("ann", password).header(), known.Device, h.anywhere()); err != nil {
				t.Errorf("the owner on a known device: %v", err)
			}
			if user == "ann" {
				stranger, err := h.signIn("bob", password)
				h.must(err)
				for name, device := range map[string]string{"another's device": stranger.Device, "a made-up device": known.Device[:60] + "AAAA", "a session for a device": known.Session} {
					if _, err := h.send(h.answer("ann", password).header(), device, h.anywhere()); !fault.Is(err, fault.Limited) {
						t.Errorf("with %s: %v", name, err)
					}
				}
				for range 10 {
					h.send(h.answer("ann", "x").header(), known.Device, h.anywhere())
				}
				if _, err := h.send(h.answer("ann", password).header(), known.Device, h.anywhere()); !fault.Is(err, fault.Limited) {
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
		h := newHouse(t)
		h.member("ann")
		from := h.anywhere()
		for i := range 100 {
			if _, err := h.send(h.answer(fmt.Sprint("user", i), "x").header(), "", from); err != session.ErrDenied {
				t.Fatalf("try %d: %v", i, err)
			}
		}
		if _, err := h.send(h.answer("ann", password).header(), "", from); !fault.Is(err, fault.Limited) {
			t.Errorf("the next: %v", err)
		}
		if _, err := h.signIn("ann", password); err != nil {
			t.Errorf("from elsewhere: %v", err)
		}
	})
	t.Run("a right password ends the count", func(t *testing.T) {
		h := newHouse(t)
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
	begin := func(t *testing.T) (*house, session.Grant) {
		h := newHouse(t)
		h.member("ann")
		g, err := h.signIn("ann", password)
		h.must(err)
		a, err := h.Who(t.Context(), h.tenant, g.Session)
		if err != nil || a.User != "ann" {
			t.Fatalf("it stands for %+v, %v", a, err)
		}
		return h, g
	}
	for name, end := range map[string]func(*house, session.Grant){
		"when an operator disables the account": func(h *house, _ session.Grant) {
			_, err := h.desk.Disable(h.Context(), h.tenant, "ann")
			h.must(err)
		},
		"when the account was disabled meanwhile and enabled again": func(h *house, _ session.Grant) {
			_, err := h.desk.Disable(h.Context(), h.tenant, "ann")
			h.must(err)
			_, err = h.desk.Enable(h.Context(), h.tenant, "ann")
			h.must(err)
		},
		"when the account is deleted": func(h *house, _ session.Grant) { h.must(h.desk.Delete(h.Context(), h.tenant, "ann")) },
		"when the person signs out": func(h *house, g session.Grant) {
			for range 2 {
				h.must(h.SignOut(h.Context(), h.tenant, g.Session, h.anywhere()))
			}
		},
		"after its life":                 func(h *house, _ session.Grant) { h.now = h.now.Add(session.Life) },
		"when the key was rotated twice": func(h *house, _ session.Grant) { h.sign = h.sign.Rotated(h.now, 2).Rotated(h.now, 2) },
	} {
		t.Run("ends "+name, func(t *testing.T) {
			h, g := begin(t)
			end(h, g)
			_, err := h.Who(t.Context(), h.tenant, g.Session)
			h.is(err, session.ErrDenied)
		})
	}
	t.Run("goes on until the last moment, and over one rotation", func(t *testing.T) {
		h, g := begin(t)
		h.sign = h.sign.Rotated(h.now, 2)
		h.now = h.now.Add(session.Life - time.Microsecond)
		_, err := h.Who(t.Context(), h.tenant, g.Session)
		h.must(err)
	})
	t.Run("goes on when another one ends", func(t *testing.T) {
		h, g := begin(t)
		other, err := h.signIn("ann", password)
		h.must(err)
		if other.Session == g.Session {
			t.Fatal("two sign-ins give one session")
		}
		h.must(h.SignOut(t.Context(), h.tenant, other.Session, h.anywhere()))
		_, err = h.Who(t.Context(), h.tenant, g.Session)
		h.must(err)
	})
	t.Run("is worth nothing at another tenant", func(t *testing.T) {
		h, g := begin(t)
		_, err := h.Who(t.Context(), h.other, g.Session)
		h.is(err, session.ErrDenied)
		h.must(h.SignOut(t.Context(), h.other, g.Session, h.anywhere()))
		_, err = h.Who(t.Context(), h.tenant, g.Session)
		h.must(err)
	})
	t.Run("is worth nothing when it is changed", func(t *testing.T) {
		h, g := begin(t)
		for i := range len(g.Session) {
			for _, c := range []string{"A", "_", "\n", ""} {
				if bad := g.Session[:i] + c + g.Session[i+1:]; bad != g.Session {
					if _, err := h.Who(t.Context(), h.tenant, bad); err != session.ErrDenied {
						t.Fatalf("%q is taken: %v", bad, err)
					}
				}
			}
		}
		for _, bad := range []string{"", g.Session + "=", g.Session + "A", g.Device, strings.Repeat("A", len(g.Session))} {
			_, err := h.Who(t.Context(), h.tenant, bad)
			h.is(err, session.ErrDenied)
			h.must(h.SignOut(t.Context(), h.tenant, bad, h.anywhere()))
		}
	})
}

// late is a store in which something happens once an account was found.
type late struct {
	account.Store
	then func()
}

func (l late) Find(ctx context.Context, tenant int64, user string, now time.Time) (account.Account, error) {
	defer l.then()
	return l.Store.Find(ctx, tenant, user, now)
}

// What comes between the proof and the confirmation is told as if it had come before both.
func TestConfirmThatComesTooLate(t *testing.T) {
	for name, then := range map[string]func(h *house){
		"an operator holds the account": func(h *house) {
			_, err := h.desk.Disable(h.Context(), h.tenant, "pia")
			h.must(err)
		},
		"the week ends": func(h *house) { h.now = h.now.Add(account.PendingLife) },
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t)
			h.join("pia")
			list, err := h.mailbox.Messages(1)
			h.must(err)
			_, rest, _ := strings.Cut(list[0].Text, "/activate.ashx?token=")
			token, _, _ := strings.Cut(rest, "\n")
			confirm := func() error {
				a := h.answer("pia", password)
				a.uri, a.method = "/activate.ashx", "POST"
				_, err := h.Confirm(h.Context(), h.tenant, session.Attempt{
					Authorization: a.header(), Method: "POST", URI: "/activate.ashx", From: h.anywhere(),
				}, token)
				return err
			}
			h.desk.Store = late{h.store, func() { then(h) }}
			h.is(confirm(), session.ErrDenied)
			h.desk.Store = h.store
			h.is(confirm(), session.ErrDenied)
		})
	}
}
