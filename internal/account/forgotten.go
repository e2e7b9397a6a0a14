package account

import (
	"context"
	"crypto/rand"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"dialtone/internal/audit"
	"dialtone/internal/fault"
	"dialtone/internal/mailmsg"
	"dialtone/internal/secret"
	"dialtone/internal/tenant"
	"dialtone/internal/throttle"
)

// maxWho is the maximum length of a user name or address, in bytes.
const maxWho = maxEmail

// ForgottenID identifies a Forgotten.
type ForgottenID [16]byte

// Forgotten is a request by somebody who forgot their password.
type Forgotten struct {
	ID     ForgottenID
	Tenant int64
	// Sealed is a user name or an address, as the person wrote it. It may be a password that
	// was typed into the wrong field, so it is sealed, never logged, and removed within
	// seconds.
	Sealed []byte
	// Net is the network that it came from.
	Net string
	// Allowances are those of the sender. The store does not return them.
	Allowances []throttle.Allowance
}

// ErrHandled means that another server has handled a Forgotten row.
var ErrHandled = fault.New(fault.NotFound, "another server has handled this")

// ForgottenRefusal is the error of AddForgotten for the limits of a sender.
func ForgottenRefusal(w throttle.Wait) error {
	return named(fault.Limit(w.For, "too many people have asked for a new password from your network; "+
		"wait before trying again, or use another network"), w)
}

// ResetRefusal is the error of AddResetLink for the limits of an account and its address.
func ResetRefusal(w throttle.Wait) error {
	return named(fault.Limit(w.For, "too many messages were sent to this account or its address today"), w)
}

// Forgot records that somebody has forgotten the password of an account. who is a user name or
// an address. Forgot does the same for every well-formed text: a server looks for the account
// later (ServeForgotten). It fails with fault.Invalid and fault.Limited.
func (s *Service) Forgot(ctx context.Context, t *tenant.Tenant, who string, from Origin) error {
	err := checkWho(who)
	if err == nil {
		f := Forgotten{Tenant: t.ID, Net: audit.Network(from.Addr)}
		rand.Read(f.ID[:])
		f.Sealed = s.forgottenNames.Seal(t.ID, f.ID[:], []byte(who))
		if !s.isDeveloper(from) {
			f.Allowances = s.buckets.Forgotten(t.ID, from.Addr)
		}
		err = s.deps.Store.AddForgotten(context.WithoutCancel(ctx), f, s.deps.Now())
	}
	s.record(ctx, audit.PasswordForgot, t, Account{}, from, err)
	return err
}

// checkWho refuses a text that is neither a user name nor an address.
func checkWho(who string) error {
	switch {
	case strings.TrimSpace(who) == "":
		return fault.Rule("account", "empty", "send the user name or the e-mail address of the account")
	case len(who) > maxWho:
		return fault.Rule("account", "long", "must have at most %d bytes; check it", maxWho)
	case !utf8.ValidString(who) || strings.ContainsFunc(who, unicode.IsControl):
		return fault.Rule("account", "control", "has a line break, tab or other control character; type it again")
	}
	return nil
}

// forgottenBatch is how many rows ServeForgotten reads at a time.
const forgottenBatch = 100

// ServeForgotten sends a message to everybody who reported a forgotten password and has an
// account. Several servers may call it concurrently: each row is handled by one of them. A row
// that cannot be handled stays for the next call. tenants returns a tenant by its ID.
func (s *Service) ServeForgotten(ctx context.Context, tenants func(int64) (*tenant.Tenant, bool)) error {
	var failed error // only the last one: there may be thousands
	skip := 0
	for {
		list, err := s.deps.Store.Forgotten(ctx, skip, forgottenBatch)
		if err != nil {
			return err
		}
		for _, f := range list {
			if ctx.Err() != nil {
				return failed
			}
			t, ok := tenants(f.Tenant)
			if !ok { // it is new, or was removed together with its rows
				skip++
				continue
			}
			if err := s.serveForgotten(context.WithoutCancel(ctx), t, f); err != nil {
				failed = err
				skip++
			}
		}
		if len(list) < forgottenBatch {
			return failed
		}
	}
}

// serveForgotten handles one row.
func (s *Service) serveForgotten(ctx context.Context, t *tenant.Tenant, f Forgotten) error {
	var a Account
	who, err := s.forgottenNames.Open(t.ID, f.ID[:], f.Sealed)
	if errors.Is(err, secret.ErrSeal) { // the row or the key was changed
		err = fault.New(fault.NotFound, "the name cannot be read")
	} else if err == nil {
		a, err = s.forgotten(ctx, t, string(who))
	}
	from := Origin{}
	if net, err := netip.ParsePrefix(f.Net); err == nil {
		from.Addr = net.Addr()
	}
	switch {
	case err == nil && a.Email == "":
		err = fault.New(fault.NotFound, "the account has no e-mail address")
	case err == nil && (a.State() == Active || a.State() == Leaving):
		return s.sendLink(ctx, t, a, mailmsg.Reset, f.ID, from)
	case err == nil && a.State() == Waiting:
		if invited, err := s.deps.Store.HasPasswordLink(ctx, a.UID); err != nil {
			return err
		} else if invited {
			return s.sendLink(ctx, t, a, mailmsg.SetPassword, f.ID, from)
		}
		r := LinkReplacement{Account: a, Was: a.Email, Forgotten: f.ID, Net: audit.Network(from.Addr)}
		return s.handled(ctx, audit.Resend, t, a, f.ID, from, s.resend(ctx, t, r, s.deps.Now()))
	case err == nil:
		err = ErrHeld
	case !fault.Is(err, fault.NotFound):
		return err
	}
	removed, failure := s.deps.Store.RemoveForgotten(ctx, f.ID)
	if failure == nil && removed {
		s.record(ctx, audit.PasswordLink, t, a, from, err)
	}
	return failure
}

// forgotten returns the account that somebody means by a user name, an address or a phone
// address: the first active one, or else one whose owner has left, or else the newest waiting
// one. The others come first since anybody can create a waiting account with somebody else's
// address.
func (s *Service) forgotten(ctx context.Context, t *tenant.Tenant, who string) (Account, error) {
	who = strings.TrimSpace(who)
	if a, err := s.Find(ctx, t.ID, who); !fault.Is(err, fault.NotFound) {
		return a, err
	}
	email, err := CleanEmail(who)
	if err != nil {
		return Account{}, fault.New(fault.NotFound, "there is no such account")
	}
	list, err := s.deps.Store.OfEmail(ctx, t.ID, email, s.deps.Now())
	if err != nil {
		return Account{}, err
	}
	// Only the mail server of the address knows whether case matters, so exact matches take precedence.
	exact := func(a Account) bool { return a.Email == email }
	if slices.ContainsFunc(list, exact) {
		list = slices.DeleteFunc(list, func(a Account) bool { return !exact(a) })
	}
	if len(list) > 0 {
		rank := map[State]int{Active: 0, Leaving: 1, Waiting: 2, Disabled: 3}
		return slices.MinFunc(list, func(a, b Account) int {
			if order := rank[a.State()] - rank[b.State()]; order != 0 || a.State() != Waiting {
				return order
			}
			return b.Created.Compare(a.Created)
		}), nil
	}
	user, host, _ := strings.Cut(email, "@")
	if host != t.Host && host != t.Realm {
		user = ""
	}
	return s.Find(ctx, t.ID, user)
}

// sendLink sends a message with a reset link to an account that is active or whose owner has
// left, or a message with a new link to choose a password to an account that still waits for
// its first one.
func (s *Service) sendLink(
	ctx context.Context, t *tenant.Tenant, a Account, kind mailmsg.Kind, id ForgottenID, from Origin,
) error {
	r := NewResetLink{
		Tenant: t.ID, User: a.User, Notice: s.newNotice(a, kind, ResetLife, ""), Forgotten: id,
		Allowances: s.resetAllowances(t, a, audit.Network(from.Addr)),
	}
	if kind == mailmsg.SetPassword {
		r.Until = a.Expires
	}
	changed, err := s.deps.Store.AddResetLink(ctx, r, s.deps.Now())
	if err == nil {
		a = changed
	}
	s.writeAfter(a, r.Notice, err)
	return s.handled(ctx, audit.PasswordLink, t, a, id, from, err)
}

// resetAllowances returns the limits of messages about a forgotten password that was reported
// from a network. They are separate from the limits of activation messages: signups with
// somebody's address must not keep that person from a new password, and a signup must not
// reveal that such a message was sent.
func (s *Service) resetAllowances(t *tenant.Tenant, a Account, net string) []throttle.Allowance {
	key := RecipientKey(a.Email)
	places := []throttle.Allowance{{
		Bucket: s.buckets.Of("reset from", t.ID, a.UID.String()+" "+net),
		Rule:   throttle.ResetsPerNetwork,
		Limit:  throttle.LimitReset,
	}, {
		Bucket: s.buckets.Of("reset", t.ID, a.UID.String()),
		Rule:   throttle.ResetsPerAccount,
		Limit:  throttle.LimitReset,
	}, {
		Bucket: s.buckets.Of("reset message", t.ID, key),
		Rule:   throttle.ResetsPerRecipient,
		Limit:  throttle.LimitRecipient,
	}}
	return s.withPerson(places, "reset message", key, throttle.ResetsPerPerson)
}

// handled finishes a row whose handling ended with err. It records the outcome unless another
// server has handled the row, and returns the error if the row stays for the next call.
func (s *Service) handled(
	ctx context.Context, action audit.Action, t *tenant.Tenant, a Account, id ForgottenID, from Origin, err error,
) error {
	switch fault.KindOf(err) {
	case fault.Limited, fault.NotFound, fault.Conflict:
		if errors.Is(err, ErrHandled) {
			return nil
		}
		s.record(ctx, action, t, a, from, err)
		_, err = s.deps.Store.RemoveForgotten(ctx, id)
		return err
	}
	if err == nil {
		s.record(ctx, action, t, a, from, nil)
	}
	return err
}
