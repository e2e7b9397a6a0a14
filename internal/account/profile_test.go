package account_test

import (
	"strings"
	"testing"

	"dialtone/internal/account"
	"dialtone/internal/fault"
	"dialtone/internal/i18n"
	"dialtone/internal/passkey"
)

// profile changes the profile of an account, as it is now.
func (o *fixture) profile(user string, form account.ProfileForm) error {
	o.Helper()
	_, err := o.Accounts.ChangeProfile(o.Context(), o.Tenant, o.find(user), form, from(1))
	return err
}

func TestChangeProfile(t *testing.T) {
	o := newFixture(t)
	o.Member("ann")
	want := func(name string, lang i18n.Tag) {
		t.Helper()
		if a := o.find("ann"); a.Name != name || a.Lang != lang {
			t.Errorf("the name is %q and the language %q, want %q and %q", a.Name, a.Lang, name, lang)
		}
	}
	name := o.find("ann").Name
	o.Must(o.profile("ann", account.ProfileForm{Lang: new("de")}))
	want(name, i18n.German)
	o.Must(o.profile("ann", account.ProfileForm{Name: new("Ann B")}))
	want("Ann B", i18n.German)
	o.Must(o.profile("ann", account.ProfileForm{Name: new("Ann C"), Lang: new("fr")}))
	want("Ann C", i18n.French)
	for _, form := range []account.ProfileForm{
		{}, {Name: new("A\u202e"), Lang: new("de")}, {Name: new("Ann D"), Lang: new("xx")},
	} {
		o.refused(o.profile("ann", form), fault.Invalid)
	}
	want("Ann C", i18n.French)
}

// TestRequestEmail checks what is sent to another address, and what the log has about it.
func TestRequestEmail(t *testing.T) {
	o := newFixture(t)
	request := func(user string) {
		t.Helper()
		email, err := o.Accounts.RequestEmail(o.Context(), o.Tenant, o.find(user), "next@mail.test", from(1))
		if err != nil || email != "next@mail.test" {
			t.Fatalf("got %s, %v", email, err)
		}
	}
	for _, user := range []string{"ann", "ben", "carl", "dora"} {
		o.Member(user)
	}
	sent := func() int {
		t.Helper()
		o.Must(o.Outbox.Flush(o.Context()))
		return len(o.Messages())
	}
	before := sent()
	for _, user := range []string{"ann", "ben", "carl"} {
		request(user)
	}
	if n := sent() - before; n != 3 {
		t.Errorf("%d messages were sent", n)
	}
	want := func(user, outcome, detail string) {
		t.Helper()
		for line := range strings.Lines(o.Log.String()) {
			if strings.Contains(line, `"account.email-request"`) && strings.Contains(line, `"user":"`+user+`"`) {
				for _, part := range []string{`"outcome":"` + outcome, `"email":"n***@mail.test"`, detail} {
					if !strings.Contains(line, part) {
						t.Errorf("the log has no %s: %s", part, line)
					}
				}
				return
			}
		}
		t.Errorf("the log has nothing about %s:\n%s", user, o.Log)
	}
	want("ann", "ok", "")
	request("dora")
	if n := sent() - before; n != 3 {
		t.Errorf("the address had three messages, and has %d now", n)
	}
	want("dora", "rate_limited", `"detail":"recipient"`)
}

// TestMessageInTheLanguageOfNow changes accounts for somebody who proved the password before the language was changed.
func TestMessageInTheLanguageOfNow(t *testing.T) {
	o := newFixture(t)
	_, _, key := o.withFactors("ann")
	o.Must(o.Outbox.Flush(o.Context()))
	o.Must(o.profile("ann", account.ProfileForm{Lang: new("de")}))
	for _, change := range []func(proved account.Account) error{
		func(proved account.Account) error {
			c := passkey.Credential{ID: []byte("another key"), Key: []byte("public")}
			_, err := o.Accounts.AddPasskey(o.Context(), o.Tenant, proved, c, "Key", from(1))
			return err
		},
		func(proved account.Account) error {
			_, err := o.Accounts.RemovePasskey(o.Context(), o.Tenant, proved, key.ID, from(1))
			return err
		},
		func(proved account.Account) error {
			form := o.passwordForm("ann", newPassword)
			_, err := o.Accounts.ChangePassword(o.Context(), o.Tenant, proved, form, from(1))
			return err
		},
		func(proved account.Account) error {
			_, err := o.Accounts.Leave(o.Context(), o.Tenant, proved, from(1))
			return err
		},
	} {
		before := o.Messages()
		proved := o.find("ann")
		proved.Lang = i18n.English // until just before
		o.Must(change(proved))
		o.Must(o.Outbox.Flush(o.Context()))
		if _, message := o.newFile(before); !strings.Contains(message, "Content-Language: de") {
			t.Errorf("the message is not in German: %s", message)
		}
	}
}
