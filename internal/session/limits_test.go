package session_test

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"dialtone/internal/account"
	"dialtone/internal/fault"
	"dialtone/internal/session"
	"dialtone/internal/test/world"
)

// TestConcurrentGuesses concurrently sends wrong passwords for one name from many addresses.
// Only ten of them are evaluated.
func TestConcurrentGuesses(t *testing.T) {
	h := newFixture(t)
	h.member("ann")
	const guesses = 300
	headers := make([]string, guesses)
	for i := range headers {
		headers[i] = h.answer("ann", fmt.Sprint("guess ", i)).header()
	}
	var denied, limited atomic.Int32
	var all sync.WaitGroup
	for _, header := range headers {
		from := world.NewOrigin()
		all.Go(func() {
			_, err := h.send(header, "", from)
			switch {
			case errors.Is(err, session.ErrDenied):
				denied.Add(1)
			case fault.Is(err, fault.Limited):
				limited.Add(1)
			default:
				t.Errorf("got %v", err)
			}
		})
	}
	all.Wait()
	if denied.Load() != 10 || limited.Load() != guesses-10 {
		t.Errorf("%d guesses were evaluated and %d refused, want 10 and %d",
			denied.Load(), limited.Load(), guesses-10)
	}
}

// TestConcurrentSignIns signs in many times concurrently. None of the attempts is refused.
func TestConcurrentSignIns(t *testing.T) {
	h := newFixture(t)
	h.member("ann")
	headers := make([]string, 100)
	for i := range headers {
		headers[i] = h.answer("ann", password).header()
	}
	from := world.NewOrigin()
	var all sync.WaitGroup
	for _, header := range headers {
		all.Go(func() {
			if _, err := h.send(header, "", from); err != nil {
				t.Errorf("got %v", err)
			}
		})
	}
	all.Wait()
}

// TestOwnerIsNotLockedOut guesses passwords for a pending account, and from the owner's
// address, until both are refused. The owner can still sign in with a device token or the
// newest link.
func TestOwnerIsNotLockedOut(t *testing.T) {
	h := newFixture(t)
	ann, bob := h.Join("ann", world.WithPassword(password)), h.Join("bob")
	link := ann.Token.Text()
	from := world.NewOrigin()
	for i := range 100 {
		h.send(h.answer(fmt.Sprint("user", i), "x").header(), "", from)
	}
	for range 10 {
		h.send(h.answer("ann", "x").header(), "", world.NewOrigin())
	}
	authenticate := func(device, link string) error {
		_, _, err := h.Authenticate(h.Context(), h.Tenant, session.Attempt{
			Authorization: h.answer("ann", password).header(), Method: "GET", URI: "/signin.ashx",
			Device: device, Link: link, From: from,
		})
		return err
	}
	stranger := h.DeviceToken(h.Tenant, bob.Account)
	for _, c := range []struct {
		name, device, link string
		limited            bool
	}{
		{"nothing", "", "", true},
		{"a device of another user", stranger, "", true},
		{"the link of another user", "", bob.Token.Text(), true},
		{"a text that is no link", "", "x", true},
		{"the newest link", "", link, false},
		{"a device of another user and the newest link", stranger, link, false},
		{"a device", h.DeviceToken(h.Tenant, ann.Account), "", false},
	} {
		if err := authenticate(c.device, c.link); fault.Is(err, fault.Limited) != c.limited ||
			err != nil && !c.limited {
			t.Errorf("with %s: %v", c.name, err)
		}
	}
	_, err := h.Accounts.Resend(h.Context(), h.Tenant, ann.Account, "", from)
	h.Must(err)
	if err := authenticate("", link); !fault.Is(err, fault.Limited) {
		t.Errorf("with a replaced link: %v", err)
	}
}

// TestAcceptedAnswers checks answers of clients that differ from the usual form and are accepted.
func TestAcceptedAnswers(t *testing.T) {
	h := newFixture(t)
	h.member("ann")
	for name, change := range map[string]func(*answer){
		"continues counting across nonces": func(a *answer) { a.nc = "00000007" },
		"sends the absolute URI":           func(a *answer) { a.uri = "https://phone.test/signin.ashx" },
		"names the port":                   func(a *answer) { a.uri = "http://PHONE.test:8080/signin.ashx" },
	} {
		a := h.answer("ann", password)
		change(&a)
		if _, err := h.send(a.header(), "", world.NewOrigin()); err != nil {
			t.Errorf("a client that %s: %v", name, err)
		}
		if _, err := h.send(a.header(), "", world.NewOrigin()); !errors.Is(err, session.ErrStale) {
			t.Errorf("a client that %s, the same answer again: %v", name, err)
		}
	}
}

// TestDeviceOfAnEarlierAccount signs up with a name that a stranger had before, whose account
// was never activated. The stranger's device tokens allow no additional guesses for the new
// account.
func TestDeviceOfAnEarlierAccount(t *testing.T) {
	h := newFixture(t)
	token := h.DeviceToken(h.Tenant, h.Join("ann").Account)
	h.Advance(account.PendingLife)
	h.Join("ann", world.WithPassword(password))
	for range 10 {
		h.send(h.answer("ann", "x").header(), "", world.NewOrigin())
	}
	if _, err := h.send(h.answer("ann", "x").header(), token, world.NewOrigin()); !fault.Is(err, fault.Limited) {
		t.Errorf("a guess with the token of the earlier account: %v", err)
	}
}
