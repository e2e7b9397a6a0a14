package account_test

import (
	"context"
	"regexp"
	"strings"
	"testing"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/digest"
	"dialtone/internal/fault"
	"dialtone/internal/secret"
	"dialtone/internal/store"
	"dialtone/internal/test/world"
)

// withEmail sets the address of a person.
func withEmail(email string) world.Option {
	return func(p *world.Person) { p.Account.Email = email }
}

var linkOfKind = regexp.MustCompile(`(?m)^https://phone\.test(/[a-z-]+\.(?:html|ashx)\?token=([A-Za-z0-9_-]{43}))$`)

// sent calls do. For each new message it returns the address, the path of the link without the token, and the
// token.
func (o *fixture) sent(do func()) (messages, tokens []string) {
	o.Helper()
	before := o.Messages()
	do()
	for name, content := range o.Messages() {
		if before[name] != "" {
			continue
		}
		text := strings.ReplaceAll(content, "\r\n", "\n")
		m := linkOfKind.FindStringSubmatch(text)
		to := regexp.MustCompile(`(?m)^To: (.*)$`).FindStringSubmatch(text)
		if m == nil || to == nil {
			o.Fatalf("the message is %q", text)
		}
		o.Log.Hide(m[2])
		messages = append(messages, to[1]+" "+strings.TrimSuffix(m[1], "?token="+m[2]))
		tokens = append(tokens, m[2])
	}
	return messages, tokens
}

// newPassword returns the hashes of a new password.
func (o *fixture) newPassword(user, text string) account.PasswordForm {
	realm := o.Tenant.Realm
	p := account.PasswordForm{
		HA1: digest.Compute(user, realm, text).Hex(), HA1B: digest.ComputeB(user, realm, text).Hex(),
		HA1SHA256: digest.ComputeSHA256(user, realm, text).Hex(),
	}
	o.Log.Hide(text, p.HA1, p.HA1B, p.HA1SHA256)
	return p
}

const newWords = "nine foxes behind the lighthouse"

// movingStore changes the address of an account just before a link is added.
type movingStore struct {
	*store.Store
	email string
}

func (s *movingStore) AddResetLink(
	ctx context.Context, r account.NewResetLink, now time.Time,
) (account.Account, error) {
	if _, err := s.Store.ReplaceEmail(ctx, r.Tenant, r.User, s.email, now); err != nil {
		return account.Account{}, err
	}
	return s.Store.AddResetLink(ctx, r, now)
}

// TestResetLinkToTheAddressOfNow checks that no link goes to an address that the account has no more.
func TestResetLinkToTheAddressOfNow(t *testing.T) {
	o := newFixture(t)
	o.Member("ann", withEmail("stolen@mail.test"))
	o.AccountDeps.Store = &movingStore{o.Store, "new@mail.test"}
	o.Rebuild()
	messages, _ := o.sent(func() {
		o.Must(o.Accounts.Forgot(o.Context(), o.Tenant, "ann", world.NewOrigin()))
		o.answerForgotten()
	})
	if got := strings.Join(messages, " "); got != "new@mail.test /reset.html" {
		t.Errorf("got the messages %q", got)
	}
}

// TestResetEndsALeave checks that the log says when a new password has ended a leave, and only then.
func TestResetEndsALeave(t *testing.T) {
	for _, leaves := range []bool{false, true} {
		o := newFixture(t)
		o.Member("ann")
		if leaves {
			_, err := o.Accounts.Leave(o.Context(), o.Tenant, o.find("ann"), from(1))
			o.Must(err)
			o.Must(o.Outbox.Flush(o.Context()))
		}
		o.Advance(time.Minute)
		o.Must(o.resetBy(o.resetToken("ann"), "ann", newWords))
		if n := o.Log.Count(`"msg":"account.stay"`); (n == 1) != leaves || n > 1 {
			t.Errorf("leaves %t: the log has account.stay %d times", leaves, n)
		}
	}
}

// resetToken requests a reset link and returns its token.
func (o *fixture) resetToken(who string) string {
	o.Helper()
	_, tokens := o.sent(func() {
		o.Must(o.Accounts.Forgot(o.Context(), o.Tenant, who, world.NewOrigin()))
		o.answerForgotten()
	})
	if len(tokens) != 1 {
		o.Fatalf("%d messages, want one", len(tokens))
	}
	return tokens[0]
}

func TestReset(t *testing.T) {
	o := newFixture(t)
	o.Member("ann", withEmail("home@mail.test"))
	o.Member("ben", withEmail("home@mail.test"))
	token := o.resetToken("home@mail.test")
	list, until, err := o.Accounts.ResetLink(o.Context(), o.Tenant, token)
	o.Must(err)
	if len(list) != 2 || list[0].User != "ann" || list[1].User != "ben" || !until.Equal(o.Now().Add(time.Hour)) {
		t.Errorf("got %+v until %v", list, until)
	}
	messages, _ := o.sent(func() {
		a, err := o.Accounts.Reset(o.Context(), o.Tenant, token, "ben", o.newPassword("ben", newWords), from(1))
		o.Must(err)
		o.Must(o.Outbox.Flush(o.Context()))
		c, err := o.Accounts.Credential(a)
		o.Must(err)
		if c.HA1.Hex() != o.hash("ben", newWords) || c.HA1B == nil || c.SHA256 == nil || !a.HasSHA256 ||
			a.Confirmed.IsZero() || a.Passwords != 1 {
			t.Errorf("got %+v", a)
		}
	})
	if got := strings.Join(messages, " "); got != "home@mail.test /not-me.html" {
		t.Errorf("got the messages %q", got)
	}
	_, err = o.Accounts.Reset(o.Context(), o.Tenant, token, "ann", o.newPassword("ann", newWords), from(1))
	o.Is(err, account.ErrLinkUsed)
	for want, n := range map[string]int{`"msg":"password.reset","outcome":"ok"`: 1,
		`"msg":"password.reset","outcome":"not_found"`: 1} {
		if got := o.Log.Count(want); got != n {
			t.Errorf("the log has %d of %s, want %d", got, want, n)
		}
	}
}

// TestResetRefused checks that a refusal is the same whether or not there is an account, and
// that it does not use up the link.
func TestResetRefused(t *testing.T) {
	o := newFixture(t)
	o.Member("ann")
	o.Member("ben")
	o.Join("cid")
	o.Member("dan")
	o.Disable("dan")
	token := o.resetToken("ann")
	reset := func(token, user string) error {
		_, err := o.Accounts.Reset(o.Context(), o.Tenant, token, user, o.newPassword(user, newWords), from(1))
		return err
	}
	for _, user := range []string{"ann", "ben", "cid", "dan", "nobody"} {
		for _, bad := range []string{"", "x", secret.NewToken().Text(), token + "A"} {
			o.Is(reset(bad, user), account.ErrLinkUsed)
		}
		if user != "ann" {
			o.Is(reset(token, user), account.ErrLinkUsed)
		}
	}
	other := o.At("other.test").Tenant
	_, err := o.Accounts.Reset(o.Context(), other, token, "ann", o.newPassword("ann", newWords), from(1))
	o.Is(err, account.ErrLinkUsed)
	weak := func(p account.PasswordForm) {
		t.Helper()
		_, err := o.Accounts.Reset(o.Context(), o.Tenant, token, "ann", p, from(1))
		o.refused(err, fault.Invalid)
	}
	weak(o.newPassword("ann", "qazwsxedcrfv"))
	mixed := o.newPassword("ann", newWords)
	mixed.HA1B = digest.ComputeB("ann", o.Tenant.Realm, "password").Hex()
	weak(mixed)
	weak(account.PasswordForm{HA1: mixed.HA1, HA1B: "x", HA1SHA256: mixed.HA1SHA256})
	o.Must(reset(token, "ann"))
}
