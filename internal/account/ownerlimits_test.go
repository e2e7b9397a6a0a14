package account_test

import (
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/fault"
	"dialtone/internal/mailmsg"
	"dialtone/internal/outbox"
	"dialtone/internal/passkey"
	"dialtone/internal/secret"
)

// wantLimit checks that an error is the refusal of a limit, with the rule by which pages identify it.
func (o *fixture) wantLimit(err error, rule, limit string) {
	o.Helper()
	f, ok := errors.AsType[*fault.Error](err)
	if !ok || f.Kind != fault.Limited || f.Rule != rule || f.Limit != limit || f.RetryAfter <= 0 {
		o.Errorf("got %#v", err)
	}
}

// resetBy sets a new password by a reset link.
func (o *fixture) resetBy(token, user, password string) error {
	o.Helper()
	_, err := o.Accounts.Reset(o.Context(), o.Tenant, token, user, o.newPassword(user, password), from(1))
	return err
}

// tokens calls do, and returns the tokens of the n messages that result.
func (o *fixture) tokens(n int, do func()) []string {
	o.Helper()
	_, list := o.sent(func() {
		do()
		o.Must(o.Outbox.Flush(o.Context()))
	})
	if len(list) != n {
		o.Fatalf("%d messages, want %d", len(list), n)
	}
	return list
}

// mailedLink returns the token of a reset link that counts as sent in a message.
func (o *fixture) mailedLink(user string) string {
	o.Helper()
	token := secret.NewToken()
	o.Log.Hide(token.Text())
	n := account.NewResetLink{Tenant: o.Tenant.ID, User: user, Notice: account.Notice{
		Kind: mailmsg.Reset, Token: o.Store.LinkHash(token), Made: o.Now(), Until: o.Now().Add(time.Hour),
		SealedToken: []byte("unused"),
	}}
	rand.Read(n.Message[:])
	a, err := o.Store.AddResetLink(o.Context(), n, o.Now())
	o.Must(err)
	// Nothing writes the message: its sealed token does not open.
	_, err = o.Store.Ack(o.Context(), []outbox.Ref{{Tenant: a.Tenant, Account: a.UID, Message: n.Message}}, o.Now())
	o.Must(err)
	return token.Text()
}

// TestThiefsLimits checks that a thief who knows the password and has changed the account's
// address cannot use up the limits that the owner needs to recover the account.
func TestThiefsLimits(t *testing.T) {
	o := newFixture(t)
	o.Member("ann", withEmail("ann@mail.test"))
	o.Must(o.Outbox.Flush(o.Context()))
	confirm := o.tokens(1, func() {
		_, err := o.Accounts.RequestEmail(o.Context(), o.Tenant, o.find("ann"), "thief@mail.test", from(1))
		o.Must(err)
	})[0]
	undo := o.tokens(1, func() {
		_, err := o.Accounts.ConfirmEmail(o.Context(), o.Tenant, confirm, from(1))
		o.Must(err)
	})[0]
	links := o.tokens(10, func() {
		for i := range 10 {
			_, err := o.change("ann", fmt.Sprint(newPassword, i))
			o.Must(err)
		}
	})
	for i, link := range links {
		_, _, err := o.Accounts.NotMe(o.Context(), o.Tenant, link, from(1))
		o.Must(err)
		o.Must(o.resetBy(o.mailedLink("ann"), "ann", fmt.Sprint(newPassword, "reset ", i)))
	}
	o.wantLimit(o.resetBy(o.mailedLink("ann"), "ann", newWords), "changes.password", "password")

	// An operator's link still works.
	link, _, err := o.Accounts.MakeResetLink(o.Context(), o.Tenant, "ann", time.Hour)
	o.Must(err)
	_, token, _ := strings.Cut(link, "token=")
	o.Must(o.resetBy(token, "ann", "the operator's link works"))

	_, path, err := o.Accounts.NotMe(o.Context(), o.Tenant, undo, from(1))
	o.Must(err)
	_, own, _ := strings.Cut(path, "token=")
	o.Log.Hide(own)
	o.Must(o.resetBy(own, "ann", newWords))
	if a := o.find("ann"); a.Email != "ann@mail.test" {
		t.Errorf("the address is %s", a.Email)
	}
	o.wantPassword("ann", newWords)
}

// TestPasswordLimits checks that each of these is possible ten times a day: changes by proof,
// resets by link, and uses of links by people who did not make a change.
func TestPasswordLimits(t *testing.T) {
	o := newFixture(t)
	o.Member("ann")
	o.Must(o.Outbox.Flush(o.Context()))
	_, tokens := o.sent(func() {
		for i := range 10 {
			_, err := o.change("ann", fmt.Sprint(newPassword, i))
			o.Must(err)
		}
		_, err := o.change("ann", newPassword)
		o.wantLimit(err, "changes.password", "password")
		for i := range 10 {
			o.Must(o.resetBy(o.mailedLink("ann"), "ann", fmt.Sprint(newWords, i)))
		}
		o.wantLimit(o.resetBy(o.mailedLink("ann"), "ann", newWords), "changes.password", "password")
		o.wantPassword("ann", fmt.Sprint(newWords, 9))
		o.Must(o.Outbox.Flush(o.Context()))
	})
	if len(tokens) != 20 {
		t.Fatalf("%d messages", len(tokens))
	}
	for _, token := range tokens[:10] {
		_, _, err := o.Accounts.NotMe(o.Context(), o.Tenant, token, from(1))
		o.Must(err)
	}
	_, _, err := o.Accounts.NotMe(o.Context(), o.Tenant, tokens[10], from(1))
	o.wantLimit(err, "changes.link", "not_me")
	_, _, err = o.Accounts.NotMe(o.Context(), o.Tenant, secret.NewToken().Text(), from(1))
	o.Is(err, account.ErrLinkUsed)
	o.Advance(24 * time.Hour)
	_, _, err = o.Accounts.NotMe(o.Context(), o.Tenant, tokens[10], from(1))
	o.Must(err)
}

// TestChangeLimit checks that changes of the profile and starting to set up an app are each
// possible a hundred times a day.
func TestChangeLimit(t *testing.T) {
	o := newFixture(t)
	o.Member("ann")
	o.Member("ben")
	rename := func(user, name string) error {
		form := account.ProfileForm{Name: &name}
		_, err := o.Accounts.ChangeProfile(o.Context(), o.Tenant, o.find(user), form, from(1))
		return err
	}
	begin := func() error {
		_, err := o.Accounts.StartApp(o.Context(), o.Tenant, o.find("ann"), from(1))
		return err
	}
	for i := range 100 {
		o.Must(rename("ann", fmt.Sprint("Ann ", i)))
	}
	o.wantLimit(rename("ann", "Ann"), "changes", "changes")
	for range 100 { // a session alone has not used these up
		o.Must(begin())
	}
	o.wantLimit(begin(), "changes", "changes")
	o.Must(rename("ann", "Ann 99"))
	o.Must(rename("ben", "Ben"))
	if n := o.count(`SELECT count(*) FROM audit WHERE username = 'ann' AND action = 'account.profile'`); n != 100 {
		t.Errorf("the trail has %d changes", n)
	}
	o.Advance(24 * time.Hour)
	o.Must(rename("ann", "Ann"))
}

// TestFactorLimits checks that adding passkeys cannot keep the owner from removing them.
func TestFactorLimits(t *testing.T) {
	o := newFixture(t)
	o.Member("ann")
	add := func(id int) error {
		c := passkey.Credential{ID: fmt.Append(nil, id), Key: []byte("public")}
		_, err := o.Accounts.AddPasskey(o.Context(), o.Tenant, o.find("ann"), c, "Key", from(1))
		return err
	}
	remove := func(id int) error {
		_, err := o.Accounts.RemovePasskey(o.Context(), o.Tenant, o.find("ann"), fmt.Append(nil, id), from(1))
		return err
	}
	for day := range 2 {
		for i := range 10 {
			o.Must(add(10*day + i))
		}
		o.Advance(24 * time.Hour)
	}
	for i := range 10 {
		o.Must(remove(i))
		o.Must(add(20 + i))
	}
	o.wantLimit(add(30), "factors", "factors")
	for i := range 20 {
		o.Must(remove(10 + i))
	}
	if a := o.find("ann"); a.Factors != 0 {
		t.Errorf("the factors are %v", a.Factors)
	}
}
