package account

import (
	"context"
	"crypto/rand"
	"errors"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"dialtone/internal/audit"
	"dialtone/internal/fault"
	"dialtone/internal/mailmsg"
	"dialtone/internal/outbox"
	"dialtone/internal/secret"
	"dialtone/internal/tenant"
	"dialtone/internal/throttle"
)

const (
	// ResetLife is how long a reset link works.
	ResetLife = time.Hour
	// MaxResetLife is the longest lifetime of a reset link that an operator makes.
	MaxResetLife = 7 * 24 * time.Hour
)

// maxWho is the maximum length of a user name or address, in bytes.
const maxWho = maxEmail

// ResetStore is for people who have forgotten their password.
type ResetStore interface {
	// AddForgotten adds a row for somebody who forgot their password, and takes a place under
	// each limit of the sender. If it fails with fault.Limited, it changes nothing. It does not
	// look for the account.
	AddForgotten(ctx context.Context, f Forgotten, now time.Time) error

	// Forgotten returns up to limit rows, oldest first, without the first skip rows.
	Forgotten(ctx context.Context, skip, limit int) ([]Forgotten, error)

	// RemoveForgotten removes a row, and reports whether it existed. Exactly one of several
	// concurrent calls removes it.
	RemoveForgotten(ctx context.Context, id ForgottenID) (bool, error)

	// OfEmail returns the accounts with an address, ignoring case, ordered by user.
	OfEmail(ctx context.Context, tenant int64, email string, now time.Time) ([]Account, error)

	// AddResetLink adds a reset link for an account that is active or whose owner has left, and its message unless
	// that is zero. The link replaces the reset links that went to the account's address. With a message it is for all
	// such accounts of the address. Without one it is for this account only, and also replaces the account's reset
	// links without a message, which otherwise only a reset and NotMe do. It first removes the row r.Forgotten, if
	// there is one, and takes a place under each limit. With the kind mailmsg.SetPassword it replaces the link of
	// that kind of a waiting account, which must have one, and keeps its expiry. It fails with ErrHandled if the
	// row is gone. It also fails with fault.NotFound for an account that does not exist or was not activated, with
	// ErrHeld if an operator has disabled it, and with fault.Limited; then only the row is removed.
	AddResetLink(ctx context.Context, r NewResetLink, now time.Time) (Account, error)

	// HasPasswordLink reports whether a waiting account was added without a password (mailmsg.SetPassword).
	HasPasswordLink(ctx context.Context, uid UID) (bool, error)

	// ResetLink returns the accounts that a reset link is for, which are active or whose owners have left, ordered by
	// user, and when it expires. The link of mailmsg.SetPassword is for one account, which may be waiting.
	// ResetLink changes nothing. It fails with ErrLinkUsed.
	ResetLink(ctx context.Context, tenant int64, token [32]byte, now time.Time) ([]Account, time.Time, error)

	// NotMe uses up the link of a message about a change (mailmsg.NotMe), ends all sessions of its
	// account, and adds a reset link n without a message, as AddResetLink does. If somebody has left in
	// the owner's name, the account becomes active again. If the address was changed since the message,
	// it is set back to the one that the message went to, and links that went to later ones end. Reset
	// links without a message end unless they are older than that address. A pending change of the
	// address ends. The second factors that were added since the message are removed. If the message was
	// about recovery codes that were used or replaced, all recovery codes are removed, since somebody
	// else may have the list, but the app stays. Device tokens and proofs of the password end. It takes a
	// place under each limit of the account. It fails with ErrLinkUsed, ErrHeld and fault.Limited, and
	// with fault.NotFound for an account that does not exist.
	NotMe(ctx context.Context, tenant int64, token [32]byte, n Notice, now time.Time,
		limits ...throttle.Allowance) (Account, error)

	// NotMeLink returns what NotMe with the link would undo. It changes nothing. It fails with
	// ErrLinkUsed where NotMe fails.
	NotMeLink(ctx context.Context, tenant int64, token [32]byte, now time.Time) (Undone, error)
}

// Undone is what the link of a message about a change undoes.
type Undone struct {
	// Account is the account before the change. If its owner has left, NotMe keeps it from being erased.
	Account Account
	// Email is the address that the account has afterwards.
	Email string
	// Emails is how often the address had been changed when the message was made. It identifies
	// the mailbox that got the link.
	Emails int64
	// App reports whether an authenticator app is removed. Passkeys is how many passkeys are removed.
	App      bool
	Passkeys int
	// Codes is how many recovery codes are removed while the app stays.
	Codes int
}

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

// NewResetLink is a reset link, with everything that its transaction checks and takes.
type NewResetLink struct {
	Tenant int64
	User   string
	Notice
	// Forgotten is the row that asked for the link, or zero.
	Forgotten ForgottenID
	// Allowances are those of the account and of the recipient.
	Allowances []throttle.Allowance
	// TakenOver means that a server writes the message, and not this process.
	TakenOver bool
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

// NotMeRefusal is the error of NotMe for the limit of an account.
func NotMeRefusal(w throttle.Wait) error {
	return named(limitRule("changes.link", fault.Limit(w.For,
		"too many links in messages about changes were used today; wait before using another one")), w)
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

// writeAfter writes the message of a change whose transaction ended with err. If it is unknown
// whether the transaction was committed, a later flush of the outbox finds out.
func (s *Service) writeAfter(a Account, n Notice, err error) {
	switch {
	case err == nil:
		s.write(a, n)
	case errors.Is(err, fault.ErrInDoubt):
		s.deps.Outbox.Recheck(outbox.Ref{Tenant: a.Tenant, Account: a.UID, Message: n.Message})
	}
}

// MakeResetLink makes a reset link for an operator without sending it, and returns its URL. It fails
// with fault.NotFound for an account that does not exist or was not activated, and with ErrHeld if it is disabled.
func (s *Service) MakeResetLink(
	ctx context.Context, t *tenant.Tenant, user string, life time.Duration,
) (address string, until time.Time, err error) {
	token, n := s.unsentLink(life)
	_, err = s.deps.Store.AddResetLink(ctx, NewResetLink{Tenant: t.ID, User: user, Notice: n}, s.deps.Now())
	return t.PublicURL + mailmsg.Path(mailmsg.Reset, token), n.Until, err
}

// unsentLink returns a reset link without a message.
func (s *Service) unsentLink(life time.Duration) (secret.Token, Notice) {
	made := s.deps.Now().UTC().Truncate(time.Microsecond)
	token := secret.NewTokenAt(made)
	return token, Notice{
		Kind: mailmsg.Reset, Token: s.deps.Store.LinkHash(token), Made: made, Until: made.Add(life),
	}
}

// ResetLink returns the accounts that a reset link is for, ordered by user, and when it expires. It
// changes nothing. It fails with ErrLinkUsed.
func (s *Service) ResetLink(ctx context.Context, t *tenant.Tenant, text string) ([]Account, time.Time, error) {
	link, ok := s.link(text)
	if !ok {
		return nil, time.Time{}, ErrLinkUsed
	}
	return s.deps.Store.ResetLink(ctx, t.ID, link, s.deps.Now())
}

// Reset sets a new password for one of the accounts of a reset link. If the account's owner has left, it
// becomes active again, and the message about the new password says so. Reset starts no session. It fails
// with fault.Invalid and fault.Limited, and with ErrLinkUsed for any link and account that do not belong
// together, whether or not there is such an account.
func (s *Service) Reset(
	ctx context.Context, t *tenant.Tenant, text, user string, p PasswordForm, from Origin,
) (Account, error) {
	a, err := s.reset(ctx, t, text, user, p, from)
	s.record(ctx, audit.PasswordReset, t, a, from, err)
	return a, refusedLink(err)
}

// refusedLink returns ErrLinkUsed if err means that the account was disabled or deleted after
// the link was read, and other errors unchanged.
func refusedLink(err error) error {
	if errors.Is(err, ErrHeld) || fault.Is(err, fault.NotFound) {
		return ErrLinkUsed
	}
	return err
}

func (s *Service) reset(
	ctx context.Context, t *tenant.Tenant, text, user string, p PasswordForm, from Origin,
) (Account, error) {
	list, _, err := s.ResetLink(ctx, t, text)
	if err != nil {
		return Account{}, err
	}
	i := slices.IndexFunc(list, func(a Account) bool { return a.User == user })
	if i < 0 {
		return Account{}, ErrLinkUsed
	}
	a, err := s.newCredential(t, list[i], p)
	if err != nil {
		return list[i], err
	}
	link, _ := s.link(text)
	c := PasswordChange{
		Account: a, Link: &link,
		Allowances: []throttle.Allowance{{
			Bucket: s.buckets.Of("reset use", t.ID, ofAddress(a, a.Emails)),
			Rule:   throttle.ResetUsesPerAccount,
			Limit:  throttle.LimitPassword,
		}},
		First:  list[i].Pending(),
		Notice: s.newNotice(a, mailmsg.PasswordChanged, NoticeLife, audit.Network(from.Addr)),
	}
	now := s.deps.Now()
	changed, err := s.deps.Store.SetPassword(byOwner(ctx, from), c, now)
	if err != nil {
		changed = list[i]
	} else if !c.First && changed.Set.State == Active && changed.Set.At.Equal(now.Truncate(time.Microsecond)) {
		c.Detail = mailmsg.Stays // as in the entry that the store added
		s.record(ctx, audit.AccountStay, t, changed, from, nil)
	}
	if !c.First {
		s.writeAfter(changed, c.Notice, err)
	}
	return changed, err
}

// ofAddress returns the name of a bucket for one address of an account: the one that it has
// after n changes. So somebody who has moved the account to another mailbox cannot use up the
// places of those who had it before.
func ofAddress(a Account, n int64) string { return a.UID.String() + " " + strconv.FormatInt(n, 10) }

// byOwner returns a context for a change by the account's owner, which continues if the client
// disconnects.
func byOwner(ctx context.Context, from Origin) context.Context {
	return audit.ByPerson(context.WithoutCancel(ctx), from.Addr, from.Request)
}

// NotMeLink returns what NotMe with the link would undo. It changes nothing. It fails with ErrLinkUsed.
func (s *Service) NotMeLink(ctx context.Context, t *tenant.Tenant, text string) (Undone, error) {
	link, ok := s.link(text)
	if !ok {
		return Undone{}, ErrLinkUsed
	}
	return s.deps.Store.NotMeLink(ctx, t.ID, link, s.deps.Now())
}

// NotMe is for somebody who did not make a change. It uses up the link of the message about it,
// undoes what ResetStore.NotMe describes, ends all sessions, and returns the changed account
// and the path of a reset link. It fails with ErrLinkUsed and fault.Limited.
func (s *Service) NotMe(
	ctx context.Context, t *tenant.Tenant, text string, from Origin,
) (a Account, reset string, err error) {
	next, n := s.unsentLink(ResetLife)
	undone, err := s.NotMeLink(ctx, t, text)
	if err == nil {
		link, _ := s.link(text)
		a, err = s.deps.Store.NotMe(byOwner(ctx, from), t.ID, link, n, s.deps.Now(), throttle.Allowance{
			Bucket: s.buckets.Of("not me", t.ID, ofAddress(undone.Account, undone.Emails)),
			Rule:   throttle.NotMePerAccount,
			Limit:  throttle.LimitNotMe,
		})
	}
	s.record(ctx, audit.PasswordNotMe, t, a, from, err)
	return a, mailmsg.Path(mailmsg.Reset, next), refusedLink(err)
}
