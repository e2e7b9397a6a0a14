package account

import (
	"context"
	"errors"
	"strings"
	"time"

	"dialtone/internal/audit"
	"dialtone/internal/fault"
	"dialtone/internal/i18n"
	"dialtone/internal/mailmsg"
	"dialtone/internal/outbox"
	"dialtone/internal/tenant"
	"dialtone/internal/throttle"
)

// EmailLinkLife is how long a link that confirms a new address works.
const EmailLinkLife = 24 * time.Hour

// ProfileStore is for people who change the address, the name or the language of their accounts.
type ProfileStore interface {
	// AddEmailLink adds a link that sets another address of an active account, with its message to that
	// address. It replaces the account's earlier links of this kind. It takes a place under each limit of the
	// account and of the recipient. If a limit of the account is reached, it fails with fault.Limited. If one
	// of the recipient is reached, it removes the earlier links, adds none, and returns false. It also fails
	// with fault.NotFound for an account that does not exist or is not active, with ErrHeld, with
	// ErrPasswordChanged if the proof is of an older password, and with ErrAddressChanged if the account's
	// address is no longer that of l.Account.
	AddEmailLink(ctx context.Context, l NewEmailLink, now time.Time) (sent bool, err error)

	// EmailLink returns the active account of a link, and the address that the link sets. It changes nothing.
	// It fails with ErrLinkUsed.
	EmailLink(ctx context.Context, tenant int64, token [32]byte, now time.Time) (Account, string, error)

	// SetEmail uses up a link of AddEmailLink, sets the address, and confirms the account. It
	// ends the reset links that went to the previous address. The notice goes to that address,
	// and its link sets the address back (NotMe). Exactly one of several concurrent calls with
	// one link succeeds. It fails with ErrLinkUsed and ErrHeld, and with fault.NotFound for an
	// account that does not exist.
	SetEmail(ctx context.Context, tenant int64, token [32]byte, n Notice, now time.Time) (Account, error)

	// ReplaceEmail is for an operator: it sets the address of an account in any state. It ends all links of the
	// account, and its sessions and device tokens, and removes its messages that are still being written. It
	// sends no message. The second factors stay. It fails with fault.NotFound.
	ReplaceEmail(ctx context.Context, tenant int64, user, email string, now time.Time) (Account, error)

	// SetProfile sets the name and the language of an active account. A change takes a place under each
	// limit. It fails with fault.NotFound for an account that does not exist or is not active, with ErrHeld, and
	// with fault.Limited.
	SetProfile(ctx context.Context, p ProfileChange, now time.Time) (Account, error)
}

// NewEmailLink is a link that sets another address, with everything that its transaction checks and takes.
type NewEmailLink struct {
	// Account is the one whose password was proved, with the address that it had.
	Account Account
	// Email is the other address.
	Email string
	Notice
	// Allowances are those of the account, and Recipient those of the other address.
	Allowances, Recipient []throttle.Allowance
}

// ProfileChange is another name or language for an account. Empty fields are not changed.
type ProfileChange struct {
	Account Account
	Name    string
	Lang    i18n.Tag
	// Allowances are those of the account.
	Allowances []throttle.Allowance
}

// ChangeRefusal is the error for the limit of an account's changes that send no message.
func ChangeRefusal(w throttle.Wait) error {
	return named(limitRule("changes", fault.Limit(w.For, "the account was changed too often today; wait before "+
		"changing it again")), w)
}

// EmailRefusal is the error of AddEmailLink for the limit of an account.
func EmailRefusal(w throttle.Wait) error {
	return named(limitRule("changes.email", fault.Limit(w.For,
		"too many messages to another address were asked for today; use the link in the last one, or wait")), w)
}

// emailRecipient returns the limits for messages to an address that confirm it: at the tenant, and, if there are
// several, at all tenants. They are separate from the limits of activation messages: signups with an address
// must not keep its owner from using it.
func (s *Service) emailRecipient(t *tenant.Tenant, email string) []throttle.Allowance {
	return s.messagesTo(t, "confirm message", email)
}

// The kinds of changes of an account that send no message. They are counted separately, so that
// somebody with a stolen session cannot use up the limit of changes that need the password.
const (
	// changeByCookie is for changes for which a session is enough.
	changeByCookie = "profile"
	// changeByProof is for starting to set up an authenticator app.
	changeByProof = "begin app"
)

// changeLimit returns the limit of an account's changes of one kind that send no message.
func (s *Service) changeLimit(a Account, kind string) throttle.Allowance {
	return throttle.Allowance{
		Bucket: s.buckets.Of(kind, a.Tenant, a.UID.String()),
		Rule:   throttle.ChangesPerAccount,
		Limit:  throttle.LimitChanges,
	}
}

// RequestEmail sends a message to another address of an account, for somebody who has proved the account's
// password. The link in it sets the address (ConfirmEmail). Until then the account keeps its present address.
// RequestEmail returns the address in the form in which it would be stored. It sends nothing, and returns no
// error, if the address has had too many such messages, or its owner has declined an account within 24 hours:
// the answer must not reveal that. It fails with fault.Invalid, fault.Limited, ErrNotActivated, and the
// errors of ProfileStore.AddEmailLink.
func (s *Service) RequestEmail(
	ctx context.Context, t *tenant.Tenant, proved Account, raw string, from Origin,
) (string, error) {
	email, sent, err := s.requestEmail(byOwner(ctx, from), t, proved, raw, from)
	outcome, recorded := err, proved
	if err == nil {
		recorded.Email = email
		if !sent {
			outcome = &fault.Error{Kind: fault.Limited, Limit: throttle.LimitRecipient}
		}
	}
	s.record(ctx, audit.EmailRequest, t, recorded, from, outcome)
	return email, err
}

func (s *Service) requestEmail(
	ctx context.Context, t *tenant.Tenant, proved Account, raw string, from Origin,
) (email string, sent bool, err error) {
	if proved.Pending() {
		return "", false, ErrNotActivated
	}
	if email, err = CleanEmail(raw); err != nil {
		return "", false, err
	}
	if email == proved.Email {
		return "", false, fault.Rule("email", "same", "this is the address of the account already; enter another one")
	}
	l := NewEmailLink{
		Account: proved, Email: email,
		Notice: s.newNotice(proved, mailmsg.ConfirmEmail, EmailLinkLife, audit.Network(from.Addr)),
		Allowances: []throttle.Allowance{{
			Bucket: s.buckets.Of("email", t.ID, proved.UID.String()),
			Rule:   throttle.EmailRequestsPerAccount,
			Limit:  throttle.LimitAddressChange,
		}},
		Recipient: s.emailRecipient(t, email),
	}
	sent, err = s.deps.Store.AddEmailLink(ctx, l, s.deps.Now())
	if sent || err != nil {
		proved.Email = email
		s.writeAfter(proved, l.Notice, err)
	}
	return email, sent, err
}

// EmailLink returns the account of a link that sets another address, and that address. It changes nothing. It
// fails with ErrLinkUsed.
func (s *Service) EmailLink(ctx context.Context, t *tenant.Tenant, text string) (Account, string, error) {
	link, ok := s.link(text)
	if !ok {
		return Account{}, "", ErrLinkUsed
	}
	return s.deps.Store.EmailLink(ctx, t.ID, link, s.deps.Now())
}

// ConfirmEmail sets the address of an account, for somebody who got the message of RequestEmail. A message to the
// previous address has a link that sets it back. ConfirmEmail fails with ErrLinkUsed.
func (s *Service) ConfirmEmail(ctx context.Context, t *tenant.Tenant, text string, from Origin) (Account, error) {
	a, err := s.confirmEmail(byOwner(ctx, from), t, text, from)
	s.record(ctx, audit.EmailChange, t, a, from, err)
	return a, refusedLink(err)
}

func (s *Service) confirmEmail(ctx context.Context, t *tenant.Tenant, text string, from Origin) (Account, error) {
	before, _, err := s.EmailLink(ctx, t, text)
	if err != nil {
		return Account{}, err
	}
	link, _ := s.link(text)
	n := s.newNotice(before, mailmsg.EmailChanged, NoticeLife, audit.Network(from.Addr))
	a, err := s.deps.Store.SetEmail(ctx, t.ID, link, n, s.deps.Now())
	if errors.Is(err, fault.ErrInDoubt) {
		s.deps.Outbox.Recheck(outbox.Ref{Tenant: t.ID, Account: before.UID, Message: n.Message})
	}
	if err != nil {
		return before, err
	}
	// The address cannot have changed since EmailLink, as every change ends the link.
	before.Lang = a.Lang
	s.write(before, n)
	return a, nil
}

// ProfileForm is a name and a language as they were received. Nil fields are not changed.
type ProfileForm struct{ Name, Lang *string }

// ChangeProfile sets the name or the language of an account, or both, for its owner. It fails with fault.Invalid,
// ErrNotActivated, and the errors of ProfileStore.SetProfile.
func (s *Service) ChangeProfile(
	ctx context.Context, t *tenant.Tenant, owner Account, form ProfileForm, from Origin,
) (Account, error) {
	a, err := s.changeProfile(byOwner(ctx, from), owner, form)
	s.record(ctx, audit.ProfileChange, t, owner, from, err)
	return a, err
}

func (s *Service) changeProfile(ctx context.Context, owner Account, form ProfileForm) (Account, error) {
	if owner.Pending() {
		return Account{}, ErrNotActivated
	}
	p, err := form.change(owner)
	if err != nil {
		return Account{}, err
	}
	p.Allowances = []throttle.Allowance{s.changeLimit(owner, changeByCookie)}
	return s.deps.Store.SetProfile(ctx, p, s.deps.Now())
}

// change returns the change of an account that the form asks for. It fails with fault.Invalid.
func (f ProfileForm) change(a Account) (p ProfileChange, err error) {
	p.Account = a
	if f.Name == nil && f.Lang == nil {
		return p, fault.New(fault.Invalid, "name or lang required")
	}
	if f.Name != nil {
		if p.Name, err = CleanName(*f.Name); err != nil {
			return p, err
		}
	}
	if f.Lang != nil {
		tag, ok := i18n.Parse(*f.Lang)
		if !ok {
			return p, fault.Field("lang", "send one of %s", languages())
		}
		p.Lang = tag
	}
	return p, nil
}

// languages returns the tags of all languages, for an error.
func languages() string {
	var list []string
	for _, tag := range i18n.Tags {
		list = append(list, string(tag))
	}
	return strings.Join(list, ", ")
}
