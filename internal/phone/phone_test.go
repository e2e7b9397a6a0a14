package phone_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/captcha"
	"dialtone/internal/digest"
	"dialtone/internal/fault"
	"dialtone/internal/phone"
	"dialtone/internal/secret"
	"dialtone/internal/store"
	"dialtone/internal/tenant"
	"dialtone/internal/test/teststore"
	"dialtone/internal/throttle"
)

// house is a store with the tenants a.test, b.test and c.test (whose realm is "C Phones"), and a directory over it.
type house struct {
	testing.TB
	now     time.Time
	store   *store.Store
	path    string // of the store
	shut    func() // closes the store
	ring    *secret.Ring
	tenants *tenant.Table
	desk    *account.Service
	phones  *phone.Registry
	audit   bytes.Buffer
}

func open(t testing.TB) *house {
	t.Helper()
	h := &house{TB: t, now: noon, ring: secret.NewRing(noon), path: filepath.Join(t.TempDir(), "dialtone.db")}
	var err error
	if h.store, err = teststore.Open(t.Context(), h.path, h.ring); err != nil {
		t.Fatal(err)
	}
	h.shut = sync.OnceFunc(func() { h.store.Close() })
	t.Cleanup(h.shut)
	for host, realm := range map[string]string{"a.test": "a.test", "b.test": "b.test", "c.test": "C Phones"} {
		_, err := h.store.AddTenant(t.Context(), tenant.Tenant{Host: host, Realm: realm, Created: noon})
		h.must(err)
	}
	now := func() time.Time { return h.now }
	h.tenants = tenant.NewTable(h.store, func(host string) string { return "https://" + host })
	h.must(h.tenants.Refresh(t.Context()))
	events := audit.Log{Logger: slog.New(slog.NewTextHandler(&h.audit, nil))}
	h.desk = account.NewService(account.Deps{
		Store: h.store, Tenant: h.tenants.ByID, Captcha: func() *captcha.Issuer { return nil }, SealRing: h.ring, Audit: events, Now: now,
	})
	h.phones = phone.NewRegistry(phone.Deps{
		Store: h.store, Tenants: h.tenants, Accounts: h.desk, SealRing: h.ring, Audit: events, Now: now,
	})
	return h
}

func (h *house) must(err error) {
	h.Helper()
	if err != nil {
		h.Fatal(err)
	}
}

func fresh() (b [16]byte) {
	rand.Read(b[:])
	return b
}

func (h *house) tenant(host string) *tenant.Tenant {
	h.Helper()
	t, ok := h.tenants.Lookup(host)
	if !ok {
		h.Fatalf("there is no tenant %s", host)
	}
	return t
}

// joins adds an account that waits for its link. What keep leaves of the credential is stored.
func (h *house) joins(host, user string, keep func(*digest.Credential)) account.Signup {
	h.Helper()
	t := h.tenant(host)
	password := "the pass phrase of " + user + " at " + host
	b, sha := digest.ComputeB(user, t.Realm, password), digest.ComputeSHA256(user, t.Realm, password)
	c := digest.Credential{HA1: digest.Compute(user, t.Realm, password), HA1B: &b, SHA256: &sha}
	if keep != nil {
		keep(&c)
	}
	a := account.Signup{
		Account: account.Account{
			UID: account.NewUID(h.now), Tenant: t.ID, User: user, Name: user, Email: user + "@mail.test", Role: account.Guest,
			Disabled: true, Created: h.now, Expires: h.now.Add(account.PendingLife), HasSHA256: c.SHA256 != nil,
		},
		Token: secret.NewToken().Hash(), SealedToken: []byte("sealed"),
		Message:   fresh(),
		Captcha:   captcha.Proof{Ours: true, Right: true, Nonce: fresh(), Expires: h.now.Add(captcha.Life)},
		Recipient: throttle.Allowance{Bucket: throttle.Bucket(fresh()), Rule: throttle.MessagesPerRecipient},
		Address:   []throttle.Allowance{{Bucket: throttle.Bucket(fresh()), Rule: throttle.SignupsPerAddress}},
	}
	a.Account.Sealed = secret.NewVault(h.ring, "credential").Seal(t.ID, a.Account.UID[:], c.Marshal())
	h.must(h.store.Create(h.Context(), a, h.now))
	return a
}

// member adds an account and activates it.
func (h *house) member(host, user string, keep func(*digest.Credential)) {
	h.Helper()
	a := h.joins(host, user, keep)
	_, err := h.store.Activate(h.Context(), a.Account.Tenant, a.Token, h.now)
	h.must(err)
}

// server adds a phone server and gives its token.
func (h *house) server(name string, hosts ...string) (token string) {
	h.Helper()
	t := secret.NewToken()
	s := phone.Server{Name: name, Token: t.Hash(), Created: noon}
	for _, host := range hosts {
		s.Tenants = append(s.Tenants, h.tenant(host).ID)
	}
	h.must(h.store.AddServer(h.Context(), s))
	h.must(h.phones.Refresh(h.Context()))
	return t.Text()
}

func (h *house) admitted(token string) *phone.Caller {
	h.Helper()
	c, err := h.phones.Admit(h.Context(), token, account.Origin{})
	h.must(err)
	return c
}

func TestFind(t *testing.T) {
	h := open(t)
	ctx := t.Context()
	for _, host := range []string{"a.test", "b.test", "c.test"} {
		h.member(host, "alice", nil)
	}
	h.member("a.test", "sipper", nil)
	_, err := h.desk.SetRole(ctx, h.tenant("a.test"), "sipper", account.SIPOnly)
	h.must(err)
	h.member("a.test", "plain", func(c *digest.Credential) { c.HA1B, c.SHA256 = nil, nil })
	h.joins("a.test", "pending", nil)
	h.joins("a.test", "late", nil)
	for _, user := range []string{"held", "gone"} {
		h.member("a.test", user, nil)
	}
	_, err = h.desk.Disable(ctx, h.tenant("a.test"), "held")
	h.must(err)
	h.must(h.desk.Delete(ctx, h.tenant("a.test"), "gone"))
	h.joins("a.test", "stopped", nil) // by an operator, before the link
	_, err = h.desk.Disable(ctx, h.tenant("a.test"), "stopped")
	h.must(err)
	ac := h.admitted(h.server("ac", "a.test", "c.test"))

	for _, c := range []struct{ name, realm, username, password string }{
		{"an active account", "a.test", "alice", "the pass phrase of alice at a.test"},
		{"the realm in any case", "A.TEST", "alice", "the pass phrase of alice at a.test"},
		{"another tenant of the server", "c phones", "alice", "the pass phrase of alice at c.test"},
		{"a name with its realm", "a.test", "alice@a.test", "the pass phrase of alice at a.test"},
		{"a name with its realm, both in other case", "C PHONES", "alice@C Phones", "the pass phrase of alice at c.test"},
		{"an account with another role", "a.test", "sipper", "the pass phrase of sipper at a.test"},
		{"an account with an MD5 hash alone", "a.test", "plain", "the pass phrase of plain at a.test"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, err := h.phones.Find(ctx, ac, c.realm, c.username)
			if err != nil {
				t.Fatal(err)
			}
			// The hash is that of the name that was asked for, in the realm that the entry tells.
			if e.Username != c.username || e.HA1 != digest.Compute(e.Username, e.Tenant.Realm, c.password) {
				t.Errorf("the entry of %s has another hash", e.Username)
			}
			user, _, with := strings.Cut(c.username, "@")
			switch hasSHA := !with && user != "plain"; {
			case hasSHA != (e.SHA256 != nil):
				t.Errorf("there is a SHA-256 hash: %t", e.SHA256 != nil)
			case hasSHA && *e.SHA256 != digest.ComputeSHA256(user, e.Tenant.Realm, c.password):
				t.Error("another SHA-256 hash")
			}
			if want := map[bool]account.Role{true: account.SIPOnly, false: account.Guest}[user == "sipper"]; e.Role != want {
				t.Errorf("the role is %s", e.Role)
			}
		})
	}

	h.now = noon.Add(account.PendingLife - time.Microsecond)
	h.joins("a.test", "fresh", nil)
	h.now = h.now.Add(time.Microsecond) // "late" and "pending" have run out
	for _, c := range []struct{ name, realm, username string }{
		{"an unknown name", "a.test", "nobody"},
		{"no name", "a.test", ""},
		{"a name in capitals", "a.test", "ALICE"},
		{"a name that is none", "a.test", "alice\x00"},
		{"an account that waits for its link", "a.test", "fresh"},
		{"an account that waited too long", "a.test", "late"},
		{"a held account", "a.test", "held"},
		{"an account held before its link", "a.test", "stopped"},
		{"a deleted account", "a.test", "gone"},
		{"a tenant of another server", "b.test", "alice"},
		{"a realm of nobody", "d.test", "alice"},
		{"no realm", "", "alice"},
		{"a host that is not the realm", "c.test", "alice"},
		{"a name with the realm of another tenant", "a.test", "alice@c phones"},
		{"a name with its realm in other case", "a.test", "alice@A.test"},
		{"a name with its realm twice", "a.test", "alice@a.test@a.test"},
		{"a name with an empty realm", "a.test", "alice@"},
		{"a realm for a name", "a.test", "@a.test"},
		{"a name with its realm, and no hash of that", "a.test", "plain@a.test"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, err := h.phones.Find(ctx, ac, c.realm, c.username)
			if err != phone.ErrNone || e != (phone.Entry{}) {
				t.Errorf("got %v, %v", e, err)
			}
		})
	}

	t.Run("from the next look-up on", func(t *testing.T) {
		_, err := h.desk.Disable(ctx, h.tenant("a.test"), "alice")
		h.must(err)
		if _, err := h.phones.Find(ctx, ac, "a.test", "alice"); err != phone.ErrNone {
			t.Errorf("disabled: %v", err)
		}
		_, err = h.desk.Enable(ctx, h.tenant("a.test"), "fresh")
		h.must(err)
		if _, err := h.phones.Find(ctx, ac, "a.test", "fresh"); err != nil {
			t.Errorf("enabled: %v", err)
		}
	})
	t.Run("a damaged credential is no unknown name", func(t *testing.T) {
		a := h.joins("a.test", "swapped", nil)
		b := h.joins("a.test", "other", nil)
		b.Account.User, b.Account.UID, b.Account.Sealed = "thief", account.NewUID(h.now), a.Account.Sealed
		b.Token, b.Message[0], b.Captcha.Nonce[0] = secret.NewToken().Hash(), b.Message[0]^1, b.Captcha.Nonce[0]^1
		h.must(h.store.Create(ctx, b, h.now))
		_, err := h.desk.Enable(ctx, h.tenant("a.test"), "thief")
		h.must(err)
		if _, err := h.phones.Find(ctx, ac, "a.test", "thief"); !errors.Is(err, secret.ErrSeal) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a store that is closed is no unknown name", func(t *testing.T) {
		h.shut()
		for _, user := range []string{"alice", "nobody"} {
			_, err := h.phones.Find(ctx, ac, "a.test", user)
			if fe, ok := errors.AsType[*fault.Error](err); !ok || fe.Kind != fault.Overloaded || fe.RetryAfter == 0 || fe.Cause == nil {
				t.Errorf("%s: %v", user, err)
			}
		}
	})
}

func TestAdmit(t *testing.T) {
	h := open(t)
	ctx := t.Context()
	if _, err := h.phones.Admit(ctx, secret.NewToken().Text(), account.Origin{}); err != phone.ErrToken {
		t.Errorf("before anything was read: %v", err)
	}
	one, two := h.server("one", "a.test"), h.server("two", "a.test", "b.test")
	for token, name := range map[string]string{one: "one", two: "two"} {
		if c := h.admitted(token); c.Name != name {
			t.Errorf("the token of %s is that of %s", name, c.Name)
		}
	}
	for _, c := range []struct{ name, token string }{
		{"no token", ""}, {"another token", secret.NewToken().Text()}, {"half a token", one[:20]}, {"a longer one", one + "A"},
		{"a token with a space", " " + one}, {"a token of two lines", one[:42] + "\n"}, {"its name", "one"},
		{"the same bytes, written otherwise", one[:42] + string(neighbour(one[42]))},
	} {
		if _, err := h.phones.Admit(ctx, c.token, account.Origin{}); err != phone.ErrToken {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	h.must(h.store.RemoveServer(ctx, "one"))
	h.admitted(one)
	h.must(h.phones.Refresh(ctx))
	if _, err := h.phones.Admit(ctx, one, account.Origin{}); err != phone.ErrToken {
		t.Errorf("a token that was removed: %v", err)
	}
	h.admitted(two)
	h.shut()
	if err := h.phones.Refresh(ctx); err == nil {
		t.Error("a closed store was read")
	}
	h.admitted(two) // an error empties nothing
}

// neighbour is a last letter of a token that differs in the bits which the token has no use for.
func neighbour(c byte) byte {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return alphabet[strings.IndexByte(alphabet, c)^1]
}

func TestWrongTokensAreCountedByAddress(t *testing.T) {
	h := open(t)
	right := h.server("one", "a.test")
	from := func(addr string) account.Origin { return account.Origin{Addr: netip.MustParseAddr(addr)} }
	try := func(token, addr string) error {
		_, err := h.phones.Admit(t.Context(), token, from(addr))
		return err
	}
	for i := range throttle.WrongTokens.Limit {
		if err := try("wrong", "192.0.2.1"); err != phone.ErrToken {
			t.Fatalf("try %d: %v", i+1, err)
		}
	}
	logged := strings.Count(h.audit.String(), "\n")
	if logged != throttle.WrongTokens.Limit || !strings.Contains(h.audit.String(), "msg=directory.request outcome=denied net=192.0.2.0/24") {
		t.Errorf("%d lines of audit: %.200s", logged, h.audit.String())
	}
	for _, token := range []string{"wrong", secret.NewToken().Text()} {
		if err := try(token, "192.0.2.1"); !fault.Is(err, fault.Limited) {
			t.Errorf("one too many: %v", err)
		}
	}
	if strings.Count(h.audit.String(), "\n") != logged {
		t.Error("what is over the limit is logged")
	}
	if err := try(right, "192.0.2.1"); err != nil {
		t.Errorf("the right token, from the same address: %v", err)
	}
	if err := try("wrong", "192.0.2.2"); err != phone.ErrToken {
		t.Errorf("another address: %v", err)
	}
	h.now = h.now.Add(throttle.WrongTokens.Per)
	if err := try("wrong", "192.0.2.1"); err != phone.ErrToken {
		t.Errorf("later: %v", err)
	}
}

func TestServerGoneWildIsHeldUp(t *testing.T) {
	h := open(t)
	wild, calm := h.server("wild", "a.test"), h.server("calm", "a.test")
	n := 0
	var err error
	for ; n <= 200_000 && err == nil; n++ {
		_, err = h.phones.Admit(context.Background(), wild, account.Origin{})
	}
	if !fault.Is(err, fault.Limited) || n < 30_000 {
		t.Errorf("after %d at once: %v", n, err)
	}
	h.admitted(calm)
	h.server("another", "a.test") // the table is made anew, and the count goes on
	if _, err := h.phones.Admit(t.Context(), wild, account.Origin{}); !fault.Is(err, fault.Limited) {
		t.Errorf("after another server was added: %v", err)
	}
	h.now = h.now.Add(time.Second)
	h.admitted(wild)
}

func TestOnlyTenant(t *testing.T) {
	h := open(t)
	one, two := h.admitted(h.server("one", "c.test")), h.admitted(h.server("two", "a.test", "b.test"))
	if tn, ok := h.phones.OnlyTenant(one); !ok || tn.Host != "c.test" {
		t.Errorf("the only tenant is %v, %t", tn, ok)
	}
	if tn, ok := h.phones.OnlyTenant(two); ok {
		t.Errorf("the only one of two is %v", tn)
	}
	h.must(h.store.RemoveTenant(t.Context(), "c.test", true, noon))
	h.must(h.tenants.Refresh(t.Context()))
	if tn, ok := h.phones.OnlyTenant(one); ok {
		t.Errorf("one that was removed is %v", tn)
	}
}

func TestNames(t *testing.T) {
	for _, name := range []string{"a", "kamailio-1.example_2", "SBC", strings.Repeat("x", 64)} {
		if err := phone.CheckName(name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, name := range []string{"", strings.Repeat("x", 65), "a b", "a/b", "a\n", "ä", "a:b", "a\x00", "\u212a"} {
		if err := phone.CheckName(name); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// A right token costs no more than a hash and a look into a map; a look-up, besides, what the store's statement does.
func BenchmarkLookUp(b *testing.B) {
	h := open(b)
	h.member("a.test", "alice", nil)
	token := h.server("one", "a.test")
	b.Run("token", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			h.now = h.now.Add(time.Second)
			h.admitted(token)
		}
	})
	b.Run("account", func(b *testing.B) {
		c := h.admitted(token)
		b.ReportAllocs()
		for b.Loop() {
			h.now = h.now.Add(time.Second) // what is cached is too old
			if _, err := h.phones.Find(b.Context(), c, "a.test", "alice"); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("cached account", func(b *testing.B) {
		c := h.admitted(token)
		b.ReportAllocs()
		for b.Loop() {
			if _, err := h.phones.Find(b.Context(), c, "a.test", "alice"); err != nil {
				b.Fatal(err)
			}
		}
	})
}
