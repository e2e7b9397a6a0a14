package account_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/fault"
	"dialtone/internal/store"
	"dialtone/internal/test/world"
)

// answerForgotten handles all rows and writes the messages.
func (o *fixture) answerForgotten() {
	o.Helper()
	o.Must(o.Accounts.ServeForgotten(o.Context(), o.Tenants.ByID))
	o.Must(o.Outbox.Flush(o.Context()))
}

// wantForgotten checks how many rows are left.
func (o *fixture) wantForgotten(want int) {
	o.Helper()
	if n := o.count(`SELECT count(*) FROM forgotten`); n != want {
		o.Errorf("%d rows are left, want %d", n, want)
	}
}

// TestForgotten checks who gets which message. The first rows are those of accounts that expire.
func TestForgotten(t *testing.T) {
	o := newFixture(t)
	o.Member("ann", withEmail("Ann@mail.test"))
	o.Member("ben", withEmail("ann@mail.test"))
	o.Join("cid", withEmail("cid@mail.test"))
	o.Member("dan", withEmail("dan@mail.test"))
	o.Disable("dan")
	o.Join("eva", withEmail("both@mail.test"))
	o.Member("fay", withEmail("both@mail.test"))
	o.Member("gus", withEmail("gus@xn--mnchen-3ya.test"))
	for _, c := range []struct{ name, who, want, log string }{
		{"user name of a waiting account", "cid", "cid@mail.test /activate.ashx", `"resend","outcome":"ok"`},
		{"address of a waiting account", "cid@mail.test", "cid@mail.test /activate.ashx", `"resend","outcome":"ok"`},
		{"user name", "ben", "ann@mail.test /reset.html", `"password.link","outcome":"ok"`},
		{"address of two accounts", "ANN@mail.test", "Ann@mail.test /reset.html", `"password.link","outcome":"ok"`},
		{"the exact address of the first", "Ann@mail.test", "Ann@mail.test /reset.html",
			`"password.link","outcome":"ok","tenant":"phone.test","user":"ann"`},
		{"the exact address of the second", "ann@mail.test", "ann@mail.test /reset.html",
			`"password.link","outcome":"ok","tenant":"phone.test","user":"ben"`},
		{"user name at another host", "fay@elsewhere.test", "", `"password.link","outcome":"not_found"`},
		{"phone address", "fay@phone.test", "both@mail.test /reset.html", `"password.link","outcome":"ok"`},
		{"with spaces around", "  gus ", "gus@xn--mnchen-3ya.test /reset.html", `"password.link","outcome":"ok"`},
		{"address in another script", "gus@münchen.test", "gus@xn--mnchen-3ya.test /reset.html",
			`"password.link","outcome":"ok"`},
		{"active account before one that waits", "both@mail.test", "both@mail.test /reset.html",
			`"password.link","outcome":"ok"`},
		{"disabled account", "dan", "", `"password.link","outcome":"held"`},
		{"address of a disabled account", "dan@mail.test", "", `"password.link","outcome":"held"`},
		{"unknown name", "nobody-of-that-name", "", `"password.link","outcome":"not_found"`},
		{"unknown address", "nobody@mail.test", "", `"password.link","outcome":"not_found"`},
		{"user name in capitals", "BEN", "", `"password.link","outcome":"not_found"`},
		{"text with a wildcard", "%@mail.test", "", `"password.link","outcome":"not_found"`},
		{"password", "correct horse battery staple", "", `"password.link","outcome":"not_found"`},
	} {
		logged := o.Log.Count(c.log)
		messages, _ := o.sent(func() {
			o.Must(o.Accounts.Forgot(o.Context(), o.Tenant, c.who, world.NewOrigin()))
			o.wantForgotten(1)
			o.answerForgotten()
		})
		if got := strings.Join(messages, " "); got != c.want {
			t.Errorf("%s: got the messages %q, want %q", c.name, got, c.want)
		}
		if o.Log.Count(c.log) != logged+1 {
			t.Errorf("%s: the log does not contain %s", c.name, c.log)
		}
		o.wantForgotten(0)
		o.Advance(25 * time.Hour)
	}
	for _, typed := range []string{"nobody-of-that-name", "correct horse", "nobody@mail"} {
		if strings.Contains(o.Log.String(), typed) {
			t.Errorf("the log contains %q", typed)
		}
	}
}

// TestForgottenOfOneAddress asks for a link by an address that one more account has each time.
func TestForgottenOfOneAddress(t *testing.T) {
	o := newFixture(t)
	home := withEmail("home@mail.test")
	member := func(user string) { o.Member(user, home) }
	for _, c := range []struct {
		add        func(user string)
		user, want string
	}{
		{func(user string) { member(user); o.Disable(user) }, "ann", "ann"},
		{func(user string) { o.Join(user, home) }, "ben", "ben"},
		{func(user string) { o.Join(user, home) }, "carl", "carl"}, // the newest of those that wait
		{func(user string) {
			member(user)
			_, err := o.Accounts.Leave(o.Context(), o.Tenant, o.find(user), from(1))
			o.Must(err)
		}, "dora", "dora"},
		{member, "fay", "fay"},
		{member, "eva", "eva"}, // the first of those that are active, by their names
		{member, "gus", "eva"},
	} {
		o.Advance(time.Minute)
		c.add(c.user)
		o.Must(o.Accounts.Forgot(o.Context(), o.Tenant, "home@mail.test", world.NewOrigin()))
		o.answerForgotten()
		last := ""
		for line := range strings.Lines(o.Log.String()) {
			if strings.Contains(line, `"msg":"password.link"`) || strings.Contains(line, `"msg":"resend"`) {
				last = line
			}
		}
		if !strings.Contains(last, `"user":"`+c.want+`"`) {
			t.Errorf("after %s, the answer is for another than %s: %s", c.user, c.want, last)
		}
	}
}

// TestForgotWork checks that answering takes the same work for every text.
func TestForgotWork(t *testing.T) {
	o := newFixture(t)
	o.Member("ann", withEmail("ann@mail.test"))
	o.Join("cid")
	o.Member("dan")
	o.Disable("dan")
	for _, who := range []string{"ann", "ann@mail.test", "cid", "dan", "nobody", "nobody@mail.test", "a b c", "%"} {
		s := &countingStore{Store: o.Store}
		o.AccountDeps.Store = s
		o.Rebuild()
		rows := func() string {
			return fmt.Sprint(o.count(`SELECT count(*) FROM taken`), o.count(`SELECT count(*) FROM forgotten`),
				o.count(`SELECT count(*) FROM link`), o.count(`SELECT count(*) FROM outbox`))
		}
		taken, forgotten := o.count(`SELECT count(*) FROM taken`), o.count(`SELECT count(*) FROM forgotten`)
		links, entries := o.count(`SELECT count(*) FROM link`), o.count(`SELECT count(*) FROM outbox`)
		want := fmt.Sprint(taken+1, forgotten+1, links, entries)
		o.Must(o.Accounts.Forgot(o.Context(), o.Tenant, who, world.NewOrigin()))
		if got := rows(); got != want || s.looked != 0 || s.added != 1 {
			t.Errorf("%q: got the rows %s, want %s; %d look-ups, %d additions", who, got, want, s.looked, s.added)
		}
	}
}

func TestForgotRefused(t *testing.T) {
	o := newFixture(t)
	for _, who := range []string{
		"", "  ", "a\nb", "a\x00b", "a\x7fb", "\xff", strings.Repeat("a", 255), strings.Repeat("ü", 128),
	} {
		o.refused(o.Accounts.Forgot(o.Context(), o.Tenant, who, world.NewOrigin()), fault.Invalid)
	}
	o.wantForgotten(0)
	o.Must(o.Accounts.Forgot(o.Context(), o.Tenant, strings.Repeat("a", 254), world.NewOrigin()))
}

// TestForgotIsSealed checks that the store does not contain what a person entered. It may be a
// password that was typed into the wrong field.
func TestForgotIsSealed(t *testing.T) {
	o := newFixture(t)
	o.Must(o.Accounts.Forgot(o.Context(), o.Tenant, "canary secret", world.NewOrigin()))
	o.wantForgotten(1)
	if n := o.count(`SELECT count(*) FROM forgotten WHERE instr(who, CAST('canary' AS BLOB)) > 0`); n != 0 {
		t.Error("the row has it in clear")
	}
	o.answerForgotten()
	o.wantForgotten(0)
}

// TestForgotLimit checks the limits of a sender, which survive a restart.
func TestForgotLimit(t *testing.T) {
	o := newFixture(t)
	one := world.NewOrigin()
	for range 10 {
		o.Must(o.Accounts.Forgot(o.Context(), o.Tenant, "nobody", one))
	}
	o.answerForgotten()
	o.restart()
	err := o.Accounts.Forgot(o.Context(), o.Tenant, "ann", one)
	o.refused(err, fault.Limited)
	o.Must(o.Accounts.Forgot(o.Context(), o.Tenant, "ann", world.NewOrigin()))
	o.Must(o.Accounts.Forgot(o.Context(), o.At("other.test").Tenant, "ann", one))
	o.wantForgotten(2)
	o.Advance(time.Hour)
	o.Must(o.Accounts.Forgot(o.Context(), o.Tenant, "ann", one))
}

// TestResetLimit checks that requests from one network get an account at most three messages a
// day, and all requests together at most ten. One network cannot use up the messages of others.
// The log has the reason when no further message is sent.
func TestResetLimit(t *testing.T) {
	o := newFixture(t)
	o.Member("ann", withEmail("home@mail.test"))
	o.Member("ben", withEmail("home@mail.test"))
	host := byte(0)
	ask := func(user string, network byte) int {
		messages, _ := o.sent(func() {
			host++ // each person asks from another address, because of the limits of addresses
			origin := account.Origin{Addr: netip.AddrFrom4([4]byte{192, 0, network, host})}
			o.Must(o.Accounts.Forgot(o.Context(), o.Tenant, user, origin))
			o.answerForgotten()
		})
		o.wantForgotten(0)
		return len(messages)
	}
	refused := 0
	want := func(user string, network byte, messages ...int) {
		t.Helper()
		for i, n := range messages {
			if got := ask(user, network); got != n {
				t.Fatalf("message %d of %s for network %d: %d, want %d", i, user, network, got, n)
			}
			refused += 1 - n
		}
		if n := o.Log.Count(`"msg":"password.link","outcome":"rate_limited"`); n != refused {
			t.Errorf("the log says %d times that a limit was reached, want %d", n, refused)
		}
	}
	want("ann", 1, 1, 1, 1, 0)
	want("ann", 2, 1, 1, 1, 0)
	want("ben", 1, 1, 1, 1, 0)
	want("ann", 3, 1, 0) // the tenth to the address
	want("ben", 4, 0)
	o.Advance(24 * time.Hour)
	want("ann", 1, 1, 1, 1, 0)
}

// TestResetLimitOfAccount checks the limit of an account, whose address changes.
func TestResetLimitOfAccount(t *testing.T) {
	o := newFixture(t)
	o.Member("ann")
	for i := range byte(12) {
		_, err := o.Accounts.ReplaceEmail(o.Context(), o.Tenant, "ann", fmt.Sprintf("ann%d@mail.test", i))
		o.Must(err)
		messages, _ := o.sent(func() {
			origin := account.Origin{Addr: netip.AddrFrom4([4]byte{192, 0, i, 1})}
			o.Must(o.Accounts.Forgot(o.Context(), o.Tenant, "ann", origin))
			o.answerForgotten()
		})
		if got, want := len(messages), i < 10; (got == 1) != want {
			t.Errorf("message %d: %d, want one: %v", i, got, want)
		}
	}
}

// TestResetDespiteSignups checks that signups with a person's address, which anybody can send,
// do not keep that person from setting a new password.
func TestResetDespiteSignups(t *testing.T) {
	o := newFixture(t)
	o.Member("ann", withEmail("home@mail.test"))
	var err error
	for i := 0; err == nil; i++ {
		form := o.form(fmt.Sprint("stranger", i))
		form.Email = "home@mail.test"
		_, err = o.Accounts.Signup(o.Context(), o.Tenant, form, world.NewOrigin())
	}
	o.refused(err, fault.Limited)
	messages, _ := o.sent(func() {
		o.Must(o.Accounts.Forgot(o.Context(), o.Tenant, "ann", world.NewOrigin()))
		o.answerForgotten()
	})
	if len(messages) != 1 {
		t.Errorf("%d messages, want one", len(messages))
	}
}

// TestSignupDoesNotRevealForgot checks that a signup with an address does not reveal whether a
// reset link was requested for a pending account with that address.
func TestSignupDoesNotRevealForgot(t *testing.T) {
	var signups []int
	for _, forgot := range []bool{false, true} {
		o := newFixture(t)
		o.Join("cid", withEmail("home@mail.test"))
		for range 3 {
			if forgot {
				o.Must(o.Accounts.Forgot(o.Context(), o.Tenant, "cid", world.NewOrigin()))
			}
		}
		o.answerForgotten()
		n := 0
		for err := error(nil); err == nil; n++ {
			form := o.form(fmt.Sprint("stranger", n))
			form.Email = "home@mail.test"
			_, err = o.Accounts.Signup(o.Context(), o.Tenant, form, world.NewOrigin())
		}
		signups = append(signups, n)
	}
	if signups[0] != signups[1] {
		t.Errorf("%d signups after nothing, and %d after messages to a pending account", signups[0], signups[1])
	}
}

// TestServeForgottenBehindFailures checks that rows which cannot be handled do not delay others.
func TestServeForgottenBehindFailures(t *testing.T) {
	o := newFixture(t)
	o.Join("cid")
	o.Member("ann")
	const failing = 230
	for range failing {
		o.Must(o.Accounts.Forgot(o.Context(), o.Tenant, "cid", world.NewOrigin()))
		o.Advance(time.Millisecond)
	}
	o.Must(o.Accounts.Forgot(o.Context(), o.Tenant, "ann", world.NewOrigin()))
	o.Pickup.StageErr = errors.New("broken by the test")
	if err := o.Accounts.ServeForgotten(o.Context(), o.Tenants.ByID); !errors.Is(err, o.Pickup.StageErr) {
		t.Errorf("got %v", err)
	}
	o.wantForgotten(failing)
	o.Pickup.StageErr = nil
	o.answerForgotten()
	o.wantForgotten(0)
}

// TestServeForgottenByMany checks that several workers together handle each row exactly once.
func TestServeForgottenByMany(t *testing.T) {
	o := newFixture(t)
	const people = 12
	for i := range people {
		user := fmt.Sprint("ann", i)
		o.Member(user)
		o.Must(o.Accounts.Forgot(o.Context(), o.Tenant, user, world.NewOrigin()))
	}
	messages, _ := o.sent(func() {
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				if err := o.Accounts.ServeForgotten(o.Context(), o.Tenants.ByID); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		o.Must(o.Outbox.Flush(o.Context()))
	})
	o.wantForgotten(0)
	if len(messages) != people || o.Log.Count(`"msg":"password.link"`) != people {
		t.Errorf("%d messages and %d events, want %d", len(messages), o.Log.Count(`"msg":"password.link"`), people)
	}
}

// countingStore counts the calls that look for an account, and those that add a row.
type countingStore struct {
	*store.Store
	looked, added int
}

func (s *countingStore) Find(ctx context.Context, tenant int64, user string, now time.Time) (account.Account, error) {
	s.looked++
	return s.Store.Find(ctx, tenant, user, now)
}

func (s *countingStore) OfEmail(
	ctx context.Context, tenant int64, email string, now time.Time,
) ([]account.Account, error) {
	s.looked++
	return s.Store.OfEmail(ctx, tenant, email, now)
}

func (s *countingStore) AddForgotten(ctx context.Context, f account.Forgotten, now time.Time) error {
	s.added++
	return s.Store.AddForgotten(ctx, f, now)
}
