package account

import (
	"cmp"
	"context"
	"crypto/rand"
	"slices"
	"time"

	"dialtone/internal/digest"
	"dialtone/internal/fault"
	"dialtone/internal/i18n"
	"dialtone/internal/mailmsg"
	"dialtone/internal/secret"
	"dialtone/internal/tenant"
)

// NewAccount is an account that an operator adds.
type NewAccount struct {
	User, Name, Email string
	// Role is the role, or empty for Guest. Lang is the language for messages, or empty for English.
	Role Role
	Lang i18n.Tag
	// HA1 and HA1SHA256 are the digests of the password, as in a Form. Without HA1, a message to the address has a
	// link to choose the password, unless NoMessage is set.
	HA1       string
	HA1SHA256 *string
	// Active makes the account active at once. Otherwise it waits until the link in its message is opened.
	Active bool
	// NoMessage, for an active account, means that the operator passes on a link made by MakeResetLink.
	NoMessage bool
	// Reserved permits a reserved user name.
	Reserved bool
}

// Add adds an account for an operator, by the rules of a signup, but without a captcha and,
// except for tokenPlaces, without limits. A waiting account with a password gets the activation
// message. An account without a password gets a message with a link to choose one, which works
// for PendingLife, and activates and confirms the account. An active account with a password,
// or with NoMessage, gets no message. A server writes the message within seconds. Add fails
// with fault.Invalid, ErrTaken and fault.Limited.
func (s *Service) Add(ctx context.Context, t *tenant.Tenant, n NewAccount) (Account, error) {
	a, c, err := s.checkNew(t, n)
	if err != nil {
		return a, err
	}
	// The store's precision is microseconds. A message that is written again must have the same times.
	now := s.deps.Now().UTC().Truncate(time.Microsecond)
	a.UID, a.Created, a.Expires = NewUID(now), now, now.Add(PendingLife)
	a.Set.State = Waiting
	if n.Active {
		a.Activated, a.Set.State = now, Active
	}
	s.seal(&a, c)
	add := Addition{Account: a}
	switch {
	case n.HA1 == "" && !n.NoMessage:
		add.Notice = s.newNotice(a, mailmsg.SetPassword, PendingLife, "")
		add.Token = s.deps.Store.LinkHash(secret.NewTokenAt(now)) // nobody has the token
	case !n.Active:
		add.Notice = s.newNotice(a, mailmsg.Activation, PendingLife, "")
		add.Token = add.Notice.Token
	default:
		add.Token = s.deps.Store.LinkHash(secret.NewTokenAt(now))
	}
	if add.Notice.Message != (mailmsg.ID{}) {
		add.Allowances = s.tokenPlaces(ctx, t, a.Email)
	}
	return s.deps.Store.AddAccount(ctx, add, now)
}

// checkNew applies the rules of a signup to an account that an operator adds. If the account
// has no password, its credential is random.
func (s *Service) checkNew(t *tenant.Tenant, n NewAccount) (a Account, c digest.Credential, err error) {
	a = Account{Tenant: t.ID, User: n.User, Role: cmp.Or(n.Role, Guest), NotSignedIn: true}
	if !slices.Contains(Roles, a.Role) {
		return a, c, fault.Field("role", "%q is not a role; use guest, user, siponly or admin", string(n.Role))
	}
	reserved, err := s.reservedFor(t)
	if err != nil {
		return a, c, err
	}
	if n.Reserved {
		_, err = checkForm(n.User)
	} else {
		err = CheckUser(n.User, reserved)
	}
	if err != nil {
		return a, c, err
	}
	if a.Name, err = CleanName(n.Name); err != nil {
		return a, c, err
	}
	if a.Email, err = CleanEmail(n.Email); err != nil {
		return a, c, err
	}
	tag, ok := i18n.Parse(cmp.Or(string(n.Lang), string(i18n.English)))
	if !ok {
		return a, c, fault.Field("lang", "send one of %s", languages())
	}
	a.Lang = tag
	if n.HA1 == "" {
		return a, randomCredential(), nil
	}
	if c, err = parseCredential(t, Form{HA1: n.HA1, HA1SHA256: n.HA1SHA256}); err != nil {
		return a, c, err
	}
	return a, c, checkPassword(t, a, c)
}

// randomCredential returns a credential that belongs to no password.
func randomCredential() (c digest.Credential) {
	var b digest.HA1
	var sum digest.HA1SHA256
	rand.Read(c.HA1[:])
	rand.Read(b[:])
	rand.Read(sum[:])
	c.HA1B, c.SHA256 = &b, &sum
	return c
}
