package account

import (
	"context"
	"errors"
	"time"

	"dialtone/internal/audit"
	"dialtone/internal/digest"
	"dialtone/internal/fault"
	"dialtone/internal/mailmsg"
	"dialtone/internal/secret"
	"dialtone/internal/tenant"
	"dialtone/internal/throttle"
)

// PasswordForm is a new password as it was received. All three hashes are required: the server
// cannot derive the others from HA1, and phones that use them could no longer register.
type PasswordForm struct{ HA1, HA1B, HA1SHA256 string }

// Credential returns the hashes of the form. It fails with fault.Invalid.
func (f PasswordForm) Credential() (c digest.Credential, err error) {
	if f.HA1 == "" || f.HA1B == "" || f.HA1SHA256 == "" {
		return c, fault.New(fault.Invalid, "ha1, ha1b, ha1_sha256 required")
	}
	if c.HA1, err = digest.ParseHA1(f.HA1); err != nil {
		return c, errHA1
	}
	b, err := digest.ParseHA1(f.HA1B)
	if err != nil {
		return c, fault.Field("ha1b", "send MD5(user@realm:realm:password) as 32 hex digits")
	}
	sum, err := digest.ParseHA1SHA256(f.HA1SHA256)
	if err != nil {
		return c, fault.Field("ha1_sha256", "send SHA-256(user:realm:password) as 64 hex digits")
	}
	c.HA1B, c.SHA256 = &b, &sum
	return c, nil
}

// ErrNotActivated means that the password is right but the account was not activated.
var ErrNotActivated = fault.New(fault.NotActivated, "the account is not activated yet; "+
	"open the link in the activation message")

// NoticeLife is how long the link in a message about a change works.
const NoticeLife = 7 * 24 * time.Hour

// ChangePassword gives an account a new password, for somebody who has proved the present one. proved
// is the account as it was then. All sessions and device tokens of the account end, and its owner
// gets a message. When ChangePassword returns nil, the password and the message's outbox entry are
// durable; when it fails, neither exists, except with fault.ErrInDoubt. It returns the changed
// account. It fails with fault.Invalid, ErrNotActivated, and the errors of PersonStore.SetPassword.
func (s *Service) ChangePassword(
	ctx context.Context, t *tenant.Tenant, proved Account, form PasswordForm, from Origin,
) (Account, error) {
	a, err := s.changePassword(context.WithoutCancel(ctx), t, proved, form, from)
	s.record(ctx, audit.PasswordChange, t, proved, from, err)
	return a, err
}

func (s *Service) changePassword(
	ctx context.Context, t *tenant.Tenant, proved Account, form PasswordForm, from Origin,
) (Account, error) {
	if proved.Pending() {
		return Account{}, ErrNotActivated
	}
	with, err := s.newCredential(t, proved, form)
	if err != nil {
		return Account{}, err
	}
	change := PasswordChange{
		Account: with,
		Allowances: []throttle.Allowance{{
			Bucket: s.buckets.Of("password", t.ID, proved.UID.String()),
			Rule:   throttle.PasswordsPerAccount,
			Limit:  throttle.LimitPassword,
		}},
		Notice: s.newNotice(proved, mailmsg.PasswordChanged, NoticeLife, audit.Network(from.Addr)),
	}
	a, err := s.deps.Store.SetPassword(byOwner(ctx, from), change, s.deps.Now())
	if err == nil {
		with = a
	}
	s.writeAfter(with, change.Notice, err)
	return a, err
}

// newCredential returns the account with the sealed credential of a new password. It fails with
// fault.Invalid if the password breaks a rule of signups or is the present one.
func (s *Service) newCredential(t *tenant.Tenant, a Account, form PasswordForm) (Account, error) {
	c, err := form.Credential()
	if err != nil {
		return a, err
	}
	// If one hash stayed the same, phones could still register with the old password. A
	// credential that does not open is replaced.
	if before, err := s.Credential(a); err == nil {
		if field := sameHash(c, before); field != "" {
			return a, fault.Rule(field, "same", "this is the present password; choose another one")
		}
	} else if !errors.Is(err, secret.ErrSeal) {
		return a, err
	}
	if err := checkPassword(t, a, c); err != nil {
		return a, err
	}
	s.seal(&a, c)
	return a, nil
}

// sameHash returns the field of a hash that two credentials have in common, or "".
func sameHash(c, before digest.Credential) string {
	switch {
	case c.HA1 == before.HA1:
		return "ha1"
	case before.HA1B != nil && *c.HA1B == *before.HA1B:
		return "ha1b"
	case before.SHA256 != nil && *c.SHA256 == *before.SHA256:
		return "ha1_sha256"
	}
	return ""
}

// seal sets the credential of an account, in a form that all programs that use the store can open.
func (s *Service) seal(a *Account, c digest.Credential) {
	a.HasSHA256 = c.SHA256 != nil
	if s.deps.OldForm != nil && s.deps.OldForm() {
		s.credentials.SealOld(a, c)
	} else {
		s.credentials.Seal(a, c)
	}
}
