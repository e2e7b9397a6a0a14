package sipserver_test

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/digest"
	"dialtone/internal/fault"
	"dialtone/internal/secret"
	"dialtone/internal/sipserver"
	"dialtone/internal/test/world"
	"dialtone/internal/throttle"
)

func TestFind(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	for _, host := range []string{"a.test", "b.test", "c.test"} {
		f.At(host).Member("alice")
	}
	f.At("a.test").Member("siponly")
	_, err := f.Accounts.SetRole(ctx, f.At("a.test").Tenant, "siponly", account.SIPOnly)
	f.Must(err)
	f.At("a.test").Member("md5only", world.MD5Only)
	f.At("a.test").Join("expired")
	for _, user := range []string{"disabled", "deleted"} {
		f.At("a.test").Member(user)
	}
	f.At("a.test").Join("disabledpending")
	f.At("a.test").Disable("disabled", "disabledpending")
	f.At("a.test").Delete("deleted")
	caller := f.caller(f.addServer("ac", "a.test", "c.test"))

	for _, c := range []struct{ name, realm, username, password string }{
		{"an active account", "a.test", "alice", world.Password("alice", "a.test")},
		{"the realm in another case", "A.TEST", "alice", world.Password("alice", "a.test")},
		{"another tenant of the server", "c phones", "alice", world.Password("alice", "c.test")},
		{"a name with its realm", "a.test", "alice@a.test", world.Password("alice", "a.test")},
		{"a name with its realm, in a realm in another case", "C PHONES", "alice@C Phones",
			world.Password("alice", "c.test")},
		{"an account with another role", "a.test", "siponly", world.Password("siponly", "a.test")},
		{"an account with an MD5 hash only", "a.test", "md5only", world.Password("md5only", "a.test")},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, err := f.registry.Find(ctx, caller, c.realm, c.username)
			if err != nil {
				t.Fatal(err)
			}
			if e.Username != c.username || e.HA1 != digest.Compute(e.Username, e.Tenant.Realm, c.password) {
				t.Errorf("the hash is not that of %s in %s", e.Username, e.Tenant.Realm)
			}
			user, _, withRealm := strings.Cut(c.username, "@")
			switch wantSHA := !withRealm && user != "md5only"; {
			case wantSHA != (e.SHA256 != nil):
				t.Errorf("has a SHA-256 hash: %t, want %t", e.SHA256 != nil, wantSHA)
			case wantSHA && *e.SHA256 != digest.ComputeSHA256(user, e.Tenant.Realm, c.password):
				t.Error("the SHA-256 hash is wrong")
			}
			want := account.Guest
			if user == "siponly" {
				want = account.SIPOnly
			}
			if e.Role != want {
				t.Errorf("the role is %s, want %s", e.Role, want)
			}
		})
	}

	f.Advance(account.PendingLife - time.Microsecond)
	f.At("a.test").Join("pending")
	f.Advance(time.Microsecond) // expires the account "expired"
	for _, c := range []struct{ name, realm, username string }{
		{"an unknown name", "a.test", "nobody"},
		{"no name", "a.test", ""},
		{"a name in upper case", "a.test", "ALICE"},
		{"a malformed name", "a.test", "alice\x00"},
		{"a pending account", "a.test", "pending"},
		{"an expired account", "a.test", "expired"},
		{"a disabled account", "a.test", "disabled"},
		{"an account disabled while pending", "a.test", "disabledpending"},
		{"a deleted account", "a.test", "deleted"},
		{"a tenant of another server", "b.test", "alice"},
		{"an unknown realm", "d.test", "alice"},
		{"no realm", "", "alice"},
		{"a host that is not the realm", "c.test", "alice"},
		{"a name with the realm of another tenant", "a.test", "alice@c phones"},
		{"a name with its realm in another case", "a.test", "alice@A.test"},
		{"a name with its realm twice", "a.test", "alice@a.test@a.test"},
		{"a name with an empty realm", "a.test", "alice@"},
		{"a realm instead of a name", "a.test", "@a.test"},
		{"a name with its realm, without such a hash", "a.test", "md5only@a.test"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, err := f.registry.Find(ctx, caller, c.realm, c.username)
			if !errors.Is(err, sipserver.ErrNoAccount) || e != (sipserver.Entry{}) {
				t.Errorf("got %v, %v", e, err)
			}
		})
	}

	t.Run("a change applies to the next look-up", func(t *testing.T) {
		f.At("a.test").Disable("alice")
		if _, err := f.registry.Find(ctx, caller, "a.test", "alice"); !errors.Is(err, sipserver.ErrNoAccount) {
			t.Errorf("disabled: %v", err)
		}
		_, err := f.Accounts.EnableNow(ctx, f.At("a.test").Tenant, "pending")
		f.Must(err)
		if _, err := f.registry.Find(ctx, caller, "a.test", "pending"); err != nil {
			t.Errorf("enabled: %v", err)
		}
	})
	t.Run("a credential of another account is an error", func(t *testing.T) {
		first := f.At("a.test").Join("first")
		second := f.At("a.test").Join("second")
		second.Account.User, second.Account.UID = "thief", account.NewUID(f.Now())
		second.Account.Sealed = first.Account.Sealed
		second.Signup.Token = secret.NewToken().Hash()
		second.Message[0] ^= 1
		second.Captcha.Nonce[0] ^= 1
		f.Must(f.Store.Create(ctx, second.Signup, f.Now()))
		_, err := f.Accounts.EnableNow(ctx, f.At("a.test").Tenant, "thief")
		f.Must(err)
		if _, err := f.registry.Find(ctx, caller, "a.test", "thief"); !errors.Is(err, secret.ErrSeal) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("an unavailable store is not an unknown name", func(t *testing.T) {
		f.Close()
		for _, user := range []string{"alice", "nobody"} {
			_, err := f.registry.Find(ctx, caller, "a.test", user)
			fe, ok := errors.AsType[*fault.Error](err)
			if !ok || fe.Kind != fault.Overloaded || fe.RetryAfter == 0 || fe.Cause == nil {
				t.Errorf("%s: %v", user, err)
			}
		}
	})
}

func TestAuthenticate(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	refused := func(name, token string) {
		t.Helper()
		_, err := f.registry.Authenticate(ctx, token, account.Origin{})
		if !errors.Is(err, sipserver.ErrBadToken) {
			t.Errorf("%s: %v", name, err)
		}
	}
	refused("before the first Refresh", secret.NewToken().Text())
	one, two := f.addServer("one", "a.test"), f.addServer("two", "a.test", "b.test")
	for token, name := range map[string]string{one: "one", two: "two"} {
		if c := f.caller(token); c.Name != name {
			t.Errorf("the token of %s is that of %s", name, c.Name)
		}
	}
	for _, c := range []struct{ name, token string }{
		{"no token", ""},
		{"an unknown token", secret.NewToken().Text()},
		{"half a token", one[:20]},
		{"a longer token", one + "A"},
		{"a leading space", " " + one},
		{"a trailing newline", one[:42] + "\n"},
		{"the name of the server", "one"},
		{"the same bytes in another encoding", one[:42] + string(sameBits(one[42]))},
	} {
		refused(c.name, c.token)
	}
	f.Must(f.Store.RemoveServer(ctx, "one"))
	f.caller(one)
	f.Must(f.registry.Refresh(ctx))
	refused("a removed server", one)
	f.caller(two)
	f.Close()
	if err := f.registry.Refresh(ctx); err == nil {
		t.Error("Refresh read a closed store")
	}
	f.caller(two) // A failed Refresh keeps the servers.
}

// sameBits returns a last character of a token that differs from c only in the unused bits of the encoding.
func sameBits(c byte) byte {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return alphabet[strings.IndexByte(alphabet, c)^1]
}

func TestWrongTokensPerAddress(t *testing.T) {
	f := newFixture(t)
	right := f.addServer("one", "a.test")
	try := func(token, addr string) error {
		from := account.Origin{Addr: netip.MustParseAddr(addr)}
		_, err := f.registry.Authenticate(t.Context(), token, from)
		return err
	}
	for i := range throttle.WrongTokens.Limit {
		if err := try("wrong", "192.0.2.1"); !errors.Is(err, sipserver.ErrBadToken) {
			t.Fatalf("attempt %d: %v", i+1, err)
		}
	}
	events := f.Log.Count("\n")
	const event = "msg=directory.request outcome=denied net=192.0.2.0/24"
	if events != throttle.WrongTokens.Limit || f.Log.Count(event) == 0 {
		t.Errorf("%d audit events: %.200s", events, f.Log.String())
	}
	for _, token := range []string{"wrong", secret.NewToken().Text()} {
		if err := try(token, "192.0.2.1"); !fault.Is(err, fault.Limited) {
			t.Errorf("above the limit: %v", err)
		}
	}
	if f.Log.Count("\n") != events {
		t.Error("attempts above the limit are in the audit log")
	}
	if err := try(right, "192.0.2.1"); err != nil {
		t.Errorf("the right token from the same address: %v", err)
	}
	if err := try("wrong", "192.0.2.2"); !errors.Is(err, sipserver.ErrBadToken) {
		t.Errorf("another address: %v", err)
	}
	f.Advance(throttle.WrongTokens.Per)
	if err := try("wrong", "192.0.2.1"); !errors.Is(err, sipserver.ErrBadToken) {
		t.Errorf("after the period: %v", err)
	}
}

func TestRateLimitPerServer(t *testing.T) {
	f := newFixture(t)
	busy, calm := f.addServer("busy", "a.test"), f.addServer("calm", "a.test")
	n := 0
	var err error
	for ; n <= 200_000 && err == nil; n++ {
		_, err = f.registry.Authenticate(context.Background(), busy, account.Origin{})
	}
	if !fault.Is(err, fault.Limited) || n < 30_000 {
		t.Errorf("after %d look-ups: %v", n, err)
	}
	f.caller(calm)
	f.addServer("another", "a.test") // A Refresh that changes the table keeps the count.
	if _, err := f.registry.Authenticate(t.Context(), busy, account.Origin{}); !fault.Is(err, fault.Limited) {
		t.Errorf("after another server was added: %v", err)
	}
	f.Advance(time.Second)
	f.caller(busy)
}

func TestOnlyTenant(t *testing.T) {
	f := newFixture(t)
	one := f.caller(f.addServer("one", "c.test"))
	two := f.caller(f.addServer("two", "a.test", "b.test"))
	if tn, ok := f.registry.OnlyTenant(one); !ok || tn.Host != "c.test" {
		t.Errorf("server with one tenant: %v, %t", tn, ok)
	}
	if tn, ok := f.registry.OnlyTenant(two); ok {
		t.Errorf("server with two tenants: %v", tn)
	}
	f.Must(f.Store.RemoveTenant(t.Context(), "c.test", true, world.Noon))
	f.Must(f.Tenants.Refresh(t.Context()))
	if tn, ok := f.registry.OnlyTenant(one); ok {
		t.Errorf("removed tenant: %v", tn)
	}
}

func TestCheckName(t *testing.T) {
	for _, name := range []string{"a", "kamailio-1.example_2", "SBC", strings.Repeat("x", 64)} {
		if err := sipserver.CheckName(name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, name := range []string{
		"", strings.Repeat("x", 65), "a b", "a/b", "a\n", "ä", "a:b", "a\x00", "\u212a",
	} {
		if err := sipserver.CheckName(name); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// BenchmarkLookup measures the check of a token, a look-up of an account in the store, and a look-up in the cache.
func BenchmarkLookup(b *testing.B) {
	f := newFixture(b)
	f.At("a.test").Member("alice")
	token := f.addServer("one", "a.test")
	b.Run("token", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			f.Advance(time.Second)
			f.caller(token)
		}
	})
	b.Run("account", func(b *testing.B) {
		c := f.caller(token)
		b.ReportAllocs()
		for b.Loop() {
			f.Advance(time.Second) // expires the cache
			if _, err := f.registry.Find(b.Context(), c, "a.test", "alice"); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("cached account", func(b *testing.B) {
		c := f.caller(token)
		b.ReportAllocs()
		for b.Loop() {
			if _, err := f.registry.Find(b.Context(), c, "a.test", "alice"); err != nil {
				b.Fatal(err)
			}
		}
	})
}
