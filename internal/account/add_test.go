package account_test

import (
	"fmt"
	"slices"
	"testing"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/fault"
	"dialtone/internal/i18n"
)

// written makes a server write the messages of operators' changes.
func (o *fixture) written() {
	o.Helper()
	o.Must(o.Outbox.TakeOver(o.Context()))
	o.Must(o.Outbox.Flush(o.Context()))
}

// TestAdd follows a person whose account an operator adds without a password.
func TestAdd(t *testing.T) {
	o := newFixture(t)
	n := account.NewAccount{User: "ann", Name: "Ann", Email: "ann@mail.test", Role: account.User}
	a, err := o.Accounts.Add(o.Context(), o.Tenant, n)
	o.Must(err)
	if a.State() != account.Waiting || a.Role != account.User || a.Lang != i18n.English {
		t.Errorf("got %+v", a)
	}
	messages, tokens := o.sent(o.written)
	if !slices.Equal(messages, []string{"ann@mail.test /reset.html"}) {
		t.Fatalf("got %q", messages)
	}
	// The message is lost, so the person asks for another link.
	_, more := o.sent(func() {
		o.Must(o.Accounts.Forgot(o.Context(), o.Tenant, "ann@mail.test", from(1)))
		o.answerForgotten()
	})
	if len(more) != 1 {
		t.Fatalf("%d messages", len(more))
	}
	password := o.newPassword("ann", newWords)
	_, err = o.Accounts.Reset(o.Context(), o.Tenant, tokens[0], "ann", password, from(1))
	o.Is(err, account.ErrLinkUsed)
	list, until, err := o.Accounts.ResetLink(o.Context(), o.Tenant, more[0])
	if err != nil || len(list) != 1 || !list[0].Pending() || !until.Equal(a.Expires) {
		t.Fatalf("got %+v, %v, %v", list, until, err)
	}
	weak := o.newPassword("ann", "qwertyuiop")
	_, err = o.Accounts.Reset(o.Context(), o.Tenant, more[0], "ann", weak, from(1))
	o.refused(err, fault.Invalid)
	messages, _ = o.sent(func() {
		got, err := o.Accounts.Reset(o.Context(), o.Tenant, more[0], "ann", password, from(1))
		o.Must(err)
		if got.State() != account.Active || got.Confirmed.IsZero() {
			t.Errorf("got %+v", got)
		}
		o.written()
	})
	if len(messages) != 0 {
		t.Errorf("there is another message: %q", messages)
	}
	got, err := o.Store.Find(o.Context(), o.Tenant.ID, "ann", o.Now())
	o.Must(err)
	c, err := o.Accounts.Credential(got)
	if err != nil || c.HA1.Hex() != password.HA1 {
		t.Errorf("the password is another one: %v", err)
	}
}

// TestSendAgain sends the message again to another address, for each kind of waiting account.
func TestSendAgain(t *testing.T) {
	o := newFixture(t)
	o.pending("ann")
	_, err := o.Accounts.Add(o.Context(), o.Tenant,
		account.NewAccount{User: "ben", Name: "Ben", Email: "ben@mail.test"})
	o.Must(err)
	o.written()
	for user, path := range map[string]string{"ann": "/activate.ashx", "ben": "/reset.html"} {
		messages, tokens := o.sent(func() {
			_, err := o.Accounts.SendAgain(o.Context(), o.Tenant, user, user+"@other.test")
			o.Must(err)
			o.written()
		})
		if !slices.Equal(messages, []string{user + "@other.test " + path}) {
			t.Fatalf("got %q", messages)
		}
		if user == "ann" {
			o.opens(tokens[0])
		}
	}
	_, err = o.Accounts.SendAgain(o.Context(), o.Tenant, "ben", "nowhere")
	o.refused(err, fault.Invalid)
	_, err = o.Accounts.SendAgain(o.Context(), o.Tenant, "ann", "")
	o.Is(err, account.ErrActive)
	messages, _ := o.sent(func() {
		_, _, err := o.Accounts.MailResetLink(o.Context(), o.Tenant, "ann")
		o.Must(err)
		o.written()
	})
	if !slices.Equal(messages, []string{"ann@other.test /reset.html"}) {
		t.Errorf("got %q", messages)
	}
}

// TestTokensAreLimited checks that messages that a token asks for take the places of their recipient, and that accounts
// without a message take none.
func TestTokensAreLimited(t *testing.T) {
	o := newFixture(t)
	ctx := o.Context()
	by := func(kind audit.ActorKind) {
		ctx = audit.With(o.Context(), audit.Cause{Actor: audit.Actor{Kind: kind, Name: "ci", ID: "1"}})
	}
	users := 0
	add := func(message bool) error {
		users++
		n := account.NewAccount{User: fmt.Sprint("user", users), Name: "Ann", Email: "ann@mail.test"}
		n.Active, n.NoMessage = !message, !message
		_, err := o.Accounts.Add(ctx, o.Tenant, n)
		return err
	}
	by(audit.Token)
	for range 4 {
		o.Must(add(false))
	}
	for range 3 {
		o.Must(add(true))
	}
	o.wantLimit(add(true), "recipient", "recipient")
	o.Must(add(false))
	by(audit.Command)
	o.Must(add(true))
}

func TestAddRefuses(t *testing.T) {
	o := newFixture(t)
	o.Member("ann")
	good := account.NewAccount{User: "ben", Name: "Ben", Email: "ben@mail.test"}
	for name, c := range map[string]struct {
		change func(*account.NewAccount)
		kind   fault.Kind
		field  string
	}{
		"no name":         {func(n *account.NewAccount) { n.Name = "" }, fault.Invalid, "name"},
		"no user name":    {func(n *account.NewAccount) { n.User = "" }, fault.Invalid, "user"},
		"no address":      {func(n *account.NewAccount) { n.Email = "" }, fault.Invalid, "email"},
		"a reserved name": {func(n *account.NewAccount) { n.User = "admin" }, fault.Invalid, "user"},
		"capitals":        {func(n *account.NewAccount) { n.User, n.Reserved = "Ben", true }, fault.Invalid, "user"},
		"a bad address":   {func(n *account.NewAccount) { n.Email = "ben" }, fault.Invalid, "email"},
		"a hidden letter": {func(n *account.NewAccount) { n.Name = "Be\u202en" }, fault.Invalid, "name"},
		"a bad role":      {func(n *account.NewAccount) { n.Role = "king" }, fault.Invalid, "role"},
		"a bad language":  {func(n *account.NewAccount) { n.Lang = "xx" }, fault.Invalid, "lang"},
		"a bad hash":      {func(n *account.NewAccount) { n.HA1 = "password" }, fault.Invalid, "ha1"},
		"a weak password": {func(n *account.NewAccount) { n.HA1 = o.hash("ben", "password") }, fault.Invalid, "ha1"},
		"a taken name":    {func(n *account.NewAccount) { n.User = "ann" }, fault.Conflict, ""},
	} {
		n := good
		c.change(&n)
		_, err := o.Accounts.Add(o.Context(), o.Tenant, n)
		if fe, ok := err.(*fault.Error); !ok || fe.Kind != c.kind || fe.Field != c.field {
			t.Errorf("%s: got %v", name, err)
		}
	}
	good.User, good.Reserved, good.HA1, good.Active = "admin", true, o.hash("admin", password), true
	a, err := o.Accounts.Add(o.Context(), o.Tenant, good)
	if err != nil || a.State() != account.Active || !a.Confirmed.IsZero() {
		t.Errorf("got %+v, %v", a, err)
	}
}
