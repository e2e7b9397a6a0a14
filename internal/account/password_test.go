package account_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/digest"
	"dialtone/internal/fault"
	"dialtone/internal/i18n"
	"dialtone/internal/mailmsg"
	"dialtone/internal/outbox"
	"dialtone/internal/secret"
)

// passwordForm returns the form of a new password.
func (o *fixture) passwordForm(user, password string) account.PasswordForm {
	realm := o.Tenant.Realm
	return account.PasswordForm{
		HA1:       o.hash(user, password),
		HA1B:      digest.ComputeB(user, realm, password).Hex(),
		HA1SHA256: digest.ComputeSHA256(user, realm, password).Hex(),
	}
}

// change changes the password of a user whose account is as in the store.
func (o *fixture) change(user, password string) (account.Account, error) {
	o.Helper()
	return o.Accounts.ChangePassword(o.Context(), o.Tenant, o.find(user), o.passwordForm(user, password), from(7))
}

func (o *fixture) find(user string) account.Account {
	o.Helper()
	a, err := o.Store.Find(o.Context(), o.Tenant.ID, user, o.Now())
	o.Must(err)
	return a
}

// notices returns the outbox entries of messages about changed passwords.
func (o *fixture) notices() []outbox.Entry {
	o.Helper()
	return slices.DeleteFunc(o.Pending(), func(e outbox.Entry) bool { return e.Kind != mailmsg.PasswordChanged })
}

// wantPassword checks which password an account has.
func (o *fixture) wantPassword(user, password string) {
	o.Helper()
	c, err := o.Accounts.Credential(o.find(user))
	o.Must(err)
	if c.HA1.Hex() != o.hash(user, password) {
		o.Errorf("the password is not %q", password)
	}
}

const newPassword = "eleven geese beside the canal"

func TestChangePassword(t *testing.T) {
	o := newFixture(t)
	o.Member("ann")
	before := o.find("ann")
	o.Advance(time.Hour)
	got, err := o.change("ann", newPassword)
	o.Must(err)
	o.wantPassword("ann", newPassword)
	if stored := o.find("ann"); got.Passwords != 1 || stored.Passwords != 1 || stored.Epoch != before.Epoch+1 ||
		got.Epoch != stored.Epoch || stored.Name != before.Name || stored.Activated != before.Activated {
		t.Errorf("the account is %+v, and was %+v", stored, before)
	}
	if list := o.notices(); len(list) != 1 || list[0].Email != before.Email || list[0].Net != "192.0.0.0/24" ||
		list[0].Expires.Sub(list[0].Made) != 7*24*time.Hour || !list[0].Made.Equal(o.Now()) {
		t.Errorf("the outbox has %+v", list)
	}
	o.Must(o.Outbox.Flush(t.Context()))
	_, message := o.onlyFile()
	if !strings.Contains(message, "\r\nTo: "+before.Email+"\r\n") || len(o.notices()) != 0 {
		t.Errorf("the message is %s", message)
	}
	// The proof of the previous password no longer counts.
	_, err = o.Accounts.ChangePassword(t.Context(), o.Tenant, before, o.passwordForm("ann", password), from(7))
	o.Is(err, account.ErrPasswordChanged)
	o.wantPassword("ann", newPassword)
}

// TestChangePasswordLimit checks that an account has ten changes a day, since each sends a message.
func TestChangePasswordLimit(t *testing.T) {
	o := newFixture(t)
	o.Member("ann")
	for i := range 10 {
		_, err := o.change("ann", fmt.Sprint("eleven geese beside canal ", i))
		o.Must(err)
	}
	_, err := o.change("ann", newPassword)
	o.refused(err, fault.Limited)
	o.wantPassword("ann", "eleven geese beside canal 9")
	if n := len(o.notices()); n != 10 {
		t.Errorf("%d messages, want 10", n)
	}
	o.Advance(24 * time.Hour)
	_, err = o.change("ann", newPassword)
	o.Must(err)
}

// TestPresentPassword checks that a new password may not have a hash of the present one, with
// which phones could still register.
func TestPresentPassword(t *testing.T) {
	o := newFixture(t)
	o.Member("ann")
	_, err := o.change("ann", newPassword)
	o.Must(err)
	present, fresh := o.passwordForm("ann", newPassword), o.passwordForm("ann", password)
	token := secret.NewToken()
	_, err = o.Store.AddResetLink(t.Context(), account.NewResetLink{
		Tenant: o.Tenant.ID, User: "ann",
		Notice: account.Notice{
			Kind: mailmsg.Reset, Token: o.Store.LinkHash(token), Made: o.Now(), Until: o.Now().Add(time.Hour),
		},
	}, o.Now())
	o.Must(err)
	for field, change := range map[string]func(*account.PasswordForm){
		"ha1":        func(f *account.PasswordForm) { f.HA1 = present.HA1 },
		"ha1b":       func(f *account.PasswordForm) { f.HA1B = present.HA1B },
		"ha1_sha256": func(f *account.PasswordForm) { f.HA1SHA256 = present.HA1SHA256 },
	} {
		form := fresh
		change(&form)
		_, changed := o.Accounts.ChangePassword(t.Context(), o.Tenant, o.find("ann"), form, from(7))
		_, reset := o.Accounts.Reset(t.Context(), o.Tenant, token.Text(), "ann", form, from(7))
		for _, err := range []error{changed, reset} {
			if fe, ok := errors.AsType[*fault.Error](err); !ok || fe.Field != field || fe.Rule != "same" {
				t.Errorf("with the present %s: %v", field, err)
			}
		}
	}
	o.wantPassword("ann", newPassword)
}

// TestChangePasswordCrash checks that the message is written after a crash that follows the change, in
// the language of the account.
func TestChangePasswordCrash(t *testing.T) {
	o := newFixture(t)
	form := o.form("ann")
	form.Lang = i18n.German
	_, err := o.Accounts.Signup(t.Context(), o.Tenant, form, from(1))
	o.Must(err)
	o.Must(o.Outbox.Flush(t.Context()))
	o.Enable("ann")
	before := o.Messages()
	_, err = o.change("ann", newPassword)
	o.Must(err)
	o.restart()
	o.wantPassword("ann", newPassword)
	o.Must(o.Outbox.Recover(t.Context()))
	o.Must(o.Outbox.Flush(t.Context()))
	if _, message := o.newFile(before); !strings.Contains(message, "Content-Language: de") {
		t.Errorf("the message is %s", message)
	}
}

// TestChangePasswordInDoubt checks that there is a message if and only if a change was made,
// even if the store reports an unknown outcome.
func TestChangePasswordInDoubt(t *testing.T) {
	for name, lost := range map[string]bool{"made": false, "lost": true} {
		t.Run(name, func(t *testing.T) {
			o := newFixture(t)
			person := o.Member("ann")
			o.faults.setPassword, o.faults.lost = fault.ErrInDoubt, lost
			if _, err := o.change("ann", newPassword); !errors.Is(err, fault.ErrInDoubt) {
				t.Errorf("the error is %v", err)
			}
			for range 3 {
				o.Must(o.Outbox.Flush(t.Context()))
			}
			if lost {
				o.wantPassword("ann", person.Password)
			} else {
				o.wantPassword("ann", newPassword)
			}
			want := map[bool]int{false: 1, true: 0}[lost]
			if n := len(o.Messages()); n != want || len(o.notices()) != 0 {
				t.Errorf("%d messages, want %d, and %d wait", n, want, len(o.notices()))
			}
		})
	}
}

// TestChangePasswordOldForm checks that the credential has the form that earlier versions of
// the program can open, while they use the store.
func TestChangePasswordOldForm(t *testing.T) {
	for _, old := range []bool{false, true} {
		o := newFixture(t)
		o.AccountDeps.OldForm = func() bool { return old }
		o.Rebuild()
		o.Member("ann")
		_, err := o.change("ann", newPassword)
		o.Must(err)
		o.wantPassword("ann", newPassword)
		renamed := o.find("ann")
		renamed.User = "bob" // which only the older form does not notice
		if _, err := o.Accounts.Credential(renamed); (err == nil) != old {
			t.Errorf("old form %v: under another name, opening fails with %v", old, err)
		}
	}
}
