package account

import (
	"cmp"
	"context"
	"crypto/subtle"
	"errors"
	"strings"
	"time"

	"dialtone/internal/audit"
	"dialtone/internal/digest"
	"dialtone/internal/fault"
	"dialtone/internal/i18n"
	"dialtone/internal/outbox"
	"dialtone/internal/tenant"
	"dialtone/internal/throttle"
	"dialtone/internal/trace"
	"dialtone/internal/weakpass"
)

// Form is a signup as it was received: each field once, valid UTF-8 without control characters.
type Form struct {
	User, Name, Email, HA1      string
	CaptchaToken, CaptchaAnswer string
	// HA1B and HA1SHA256 are nil where the field was not sent.
	HA1B, HA1SHA256 *string
	// Lang is the language for messages to the person; empty is English.
	Lang i18n.Tag
	// Malformed is why the form could not be read, or nil. A Signup with such a form fails
	// with this error, and counts as a failure like any other.
	Malformed error
	// CrossSite means that the page of another site sent the form. The person did not request
	// that, so a failure does not count against their address.
	CrossSite bool
}

// Missing is the answer to a form that lacks a field. The published contract fixes its wording.
const Missing = "user, name, email, ha1, captcha_token, captcha_answer required"

// repeatTime is how long a signup can be sent again (section 5.14 of the contract).
const repeatTime = 15 * time.Minute

// errRepeated is recorded in the audit log for a signup that was sent again.
var errRepeated = errors.New("the same signup again")

// Signup creates a pending account and publishes its activation message. When it returns nil, both
// exist and survive a crash; when it fails, neither does. Its errors are those of the published
// contract, in its order: fault.Closed, fault.Invalid, fault.Limited, fault.Captcha, fault.Conflict, and
// fault.Internal or fault.Overloaded for failures of the server.
//
// A form that is sent again because its answer was lost succeeds again and changes nothing.
func (s *Service) Signup(
	ctx context.Context, t *tenant.Tenant, form Form, from Origin,
) (Account, error) {
	p := &pendingSignup{tenant: t, form: form, from: from, now: s.deps.Now()}
	if note, closed := t.Closed(); closed {
		return s.closed(ctx, p, note)
	}
	err := form.Malformed
	if err == nil {
		p.account, p.credential, err = s.check(t, form, p.now)
	}
	if err == nil {
		err = s.limited(ctx, p)
	} else if fault.Is(err, fault.Invalid) && !form.CrossSite && !s.isDeveloper(from) {
		s.failures.Add(t.ID, from.Addr)
	}
	if form.Malformed == nil {
		s.record(ctx, audit.Signup, t, p.account, from, err)
	}
	if errors.Is(err, errRepeated) {
		err = nil
	}
	return p.account, err
}

// closed handles a signup at a tenant that is closed for signups. A form that was first sent
// before that succeeds again. Such a form has a captcha issued by this server; all others are
// refused without checking the rules or the store.
func (s *Service) closed(ctx context.Context, p *pendingSignup, note string) (Account, error) {
	p.account.User = p.form.User
	var err error = fault.New(fault.Closed, "%s",
		cmp.Or(note, "nobody can sign up here at the moment; an account that you have already works as before"))
	if p.form.Malformed != nil {
		return p.account, err
	}
	if _, ours := s.deps.Captcha().Nonce(p.tenant.ID, p.form.CaptchaToken); ours {
		var invalid error
		if p.account, p.credential, invalid = s.check(p.tenant, p.form, p.now); invalid == nil && s.repeated(ctx, p) {
			err = errRepeated
		}
	}
	s.record(ctx, audit.Signup, p.tenant, p.account, p.from, err)
	if errors.Is(err, errRepeated) {
		err = nil
	}
	return p.account, err
}

// limited calls admit within the limits on failures from one network. It fails with errRepeated
// if the signup would be refused but was sent again.
func (s *Service) limited(ctx context.Context, p *pendingSignup) error {
	if s.isDeveloper(p.from) {
		return s.admitOrRepeat(ctx, p)
	}
	attempt, wait, err := s.failures.Begin(ctx, p.tenant.ID, p.from.Addr)
	if err != nil {
		return err
	}
	if wait > 0 {
		if s.repeated(ctx, p) {
			return errRepeated
		}
		// This is not counted as a failure: otherwise repeated attempts would prolong the wait for ever.
		return named(fault.Limit(wait,
			"too many failed attempts from your network; wait before trying again"),
			throttle.Wait{For: wait, Limit: attempt.Limit})
	}
	defer attempt.Cancel() // no effect after Wrong
	err = s.admitOrRepeat(ctx, p)
	if isRefusal(err) {
		attempt.Wrong()
	}
	return err
}

// admitOrRepeat calls admit, and fails with errRepeated if admit refuses a signup that was sent again.
func (s *Service) admitOrRepeat(ctx context.Context, p *pendingSignup) error {
	err := s.admit(ctx, p)
	if isRefusal(err) && s.repeated(ctx, p) {
		return errRepeated
	}
	return err
}

// isRefusal reports whether an error of admit counts as a failure of the sender.
func isRefusal(err error) bool {
	switch fault.KindOf(err) {
	case fault.Captcha, fault.Conflict, fault.Limited:
		return true
	}
	return false
}

// repeated reports whether a pending account was created within repeatTime with the same user name,
// address and HA1, and sets p.account to it. A wrong HA1 for such an account counts as a wrong
// password, so that nobody can guess passwords this way. A form with the captcha that the account
// was made with comes from its owner and is counted separately: other people's wrong passwords do
// not keep it from being recognized. If an error occurs, repeated returns false, and the sender
// gets the error of admit.
func (s *Service) repeated(ctx context.Context, p *pendingSignup) bool {
	t := p.tenant
	a, err := s.Find(ctx, t.ID, p.account.User)
	if err != nil || !a.Pending() || a.Held || a.Created.Before(p.now.Add(-repeatTime)) {
		return false
	}
	owner := ""
	if nonce, ok := s.deps.Captcha().Nonce(t.ID, p.form.CaptchaToken); ok && a.UID.madeWith(nonce) {
		owner = string(nonce[:])
	}
	guess, wait, err := s.deps.Passwords.Begin(ctx, t.ID, p.from.Addr, a.User, owner)
	if err != nil || wait > 0 {
		return false
	}
	defer guess.Cancel() // no effect after Wrong
	c, err := s.Credential(a)
	if err != nil {
		return false
	}
	if subtle.ConstantTimeCompare(c.HA1[:], p.credential.HA1[:]) != 1 {
		guess.Wrong()
		return false
	}
	if a.Email != p.account.Email {
		return false
	}
	// The first signup may still be in progress, and be undone.
	ctx = context.WithoutCancel(ctx)
	if err := s.deps.Store.Acknowledge(ctx, t.ID, a.UID, s.deps.Now()); err != nil {
		return false
	}
	p.account = a
	return true
}

// check applies the rules that need only the form.
func (s *Service) check(
	t *tenant.Tenant, form Form, now time.Time,
) (Account, digest.Credential, error) {
	a := Account{Tenant: t.ID, Role: Guest, Disabled: true, NotSignedIn: true}
	var c digest.Credential
	if form.User == "" || form.Name == "" || form.Email == "" || form.HA1 == "" ||
		form.CaptchaToken == "" || form.CaptchaAnswer == "" {
		return a, c, fault.New(fault.Invalid, Missing)
	}
	reserved, err := s.reservedFor(t)
	if err != nil {
		return a, c, err
	}
	if err := CheckUser(form.User, reserved); err != nil {
		return a, c, err
	}
	a.User = form.User
	if a.Name, err = CleanName(form.Name); err != nil {
		return a, c, err
	}
	if a.Email, err = CleanEmail(form.Email); err != nil {
		return a, c, err
	}
	if c, err = parseCredential(t, form); err != nil {
		return a, c, err
	}
	if err := checkPassword(t, a, c); err != nil {
		return a, c, err
	}
	a.Lang, _ = i18n.Parse(string(form.Lang))
	// The store's precision is microseconds. A message that is written again must have the same times.
	a.Created = now.UTC().Truncate(time.Microsecond)
	a.Expires = a.Created.Add(PendingLife)
	return a, c, nil
}

// checkPassword refuses a credential if one of its hashes is that of a weak password.
func checkPassword(t *tenant.Tenant, a Account, c digest.Credential) error {
	form := weakpass.Signup{
		User:   a.User,
		Realm:  t.Realm,
		Host:   t.Host,
		Email:  a.Email,
		Names:  []string{a.Name, t.Product},
		HA1:    c.HA1,
		HA1B:   (*[16]byte)(c.HA1B),
		SHA256: (*[32]byte)(c.SHA256),

		SignInSHA256: t.Challenge() == digest.SHA256,
	}
	field := form.Weak()
	if field == "" {
		return nil
	}
	return fault.Rule(field, "common", "the password is easy to guess; choose another one")
}

var errHA1 = fault.Field("ha1", "send MD5(user:realm:password) as 32 hex digits")

func parseCredential(t *tenant.Tenant, form Form) (c digest.Credential, err error) {
	if c.HA1, err = digest.ParseHA1(form.HA1); err != nil {
		return c, errHA1
	}
	if form.HA1B != nil {
		h, err := digest.ParseHA1(*form.HA1B)
		if err != nil {
			return c, fault.Field("ha1b", "send MD5(user@realm:realm:password) as 32 hex "+
				"digits, or leave the field out")
		}
		c.HA1B = &h
	}
	if form.HA1SHA256 != nil {
		h, err := digest.ParseHA1SHA256(*form.HA1SHA256)
		if err != nil {
			return c, fault.Field("ha1_sha256", "send SHA-256(user:realm:password) as 64 hex "+
				"digits, or leave the field out")
		}
		c.SHA256 = &h
	}
	if t.Challenge() == digest.SHA256 && c.SHA256 == nil {
		return c, fault.Field("ha1_sha256", "this platform signs in with SHA-256; "+
			"send SHA-256(user:realm:password) as 64 hex digits too")
	}
	return c, nil
}

func (s *Service) reservedFor(t *tenant.Tenant) (Reserved, error) {
	key := strings.Join(t.Reserved, "\n")
	if r, ok := s.reserved.Load(key); ok {
		return r.(Reserved), nil
	}
	r, err := NewReserved(t.Reserved)
	if err == nil {
		s.reserved.Store(key, r)
	}
	return r, err
}

// pendingSignup is a signup whose form was checked.
type pendingSignup struct {
	tenant     *tenant.Tenant
	form       Form
	from       Origin
	now        time.Time
	account    Account
	credential digest.Credential
}

// admit checks the captcha, and creates the account with its message.
func (s *Service) admit(ctx context.Context, p *pendingSignup) error {
	t := p.tenant
	proof := s.deps.Captcha().Check(t.ID, p.form.CaptchaToken, p.form.CaptchaAnswer)
	su := Signup{
		Account: p.account,
		Captcha: proof,
		Address: s.allowances(t, p.from),
	}
	to := s.recipient(t, p.account.Email)
	su.Recipient, su.RecipientMore = to[0], to[1:]
	// From here on, the work continues if the client disconnects: it is completed or undone.
	ctx = context.WithoutCancel(ctx)
	if !proof.Right {
		return s.deps.Store.Create(ctx, su, p.now) // refuses it, and spends the captcha if it is ours
	}

	link := s.deps.Outbox.NewLink(t.ID)
	p.account.UID = signupUID(p.now, proof.Nonce)
	p.account.Net = audit.Network(p.from.Addr)
	su.Account.UID, su.Account.Net = p.account.UID, p.account.Net
	s.seal(&su.Account, p.credential)
	su.Token, su.Message, su.SealedToken = s.deps.Store.LinkHash(link.Token), link.Message, link.Sealed
	_, staging := trace.Start(ctx, "pickup.stage")
	staged, err := s.stage(t, su.Account, link, su.Account.Created, false)
	staging.Finish(err != nil)
	if err != nil {
		su.CheckOnly = true
		return errors.Join(s.deps.Store.Create(ctx, su, p.now), err)
	}
	undo := func(ctx context.Context) error { return s.undoSignup(ctx, t, su) }
	if err := s.deps.Store.Create(ctx, su, p.now); err != nil {
		staged.Discard()
		if errors.Is(err, fault.ErrInDoubt) {
			s.deps.Outbox.UndoLater(undo)
		}
		return err
	}
	_, publishing := trace.Start(ctx, "pickup.publish")
	err = staged.Publish()
	publishing.Finish(err != nil)
	if err != nil {
		return errors.Join(err, inDoubt(s.deps.Outbox.Undo(ctx, undo)))
	}
	s.deps.Outbox.Published(su.ref(), staged)
	return nil
}

// stage stages the message with a new link.
func (s *Service) stage(
	t *tenant.Tenant, a Account, l outbox.Link, made time.Time, resent bool,
) (outbox.Staged, error) {
	return s.deps.Outbox.Stage(t, outbox.Entry{
		Ref:  outbox.Ref{Tenant: t.ID, Account: a.UID, Message: l.Message},
		Made: made, Expires: a.Expires, Resent: resent, User: a.User, Email: a.Email, Lang: a.Lang,
	}, l.Token)
}

func (s *Service) undoSignup(ctx context.Context, t *tenant.Tenant, su Signup) error {
	err := s.deps.Store.Undo(ctx, su, s.deps.Now())
	s.recordUndo(ctx, audit.Undo, t, su.Account.User, err)
	if err == nil {
		// Undo leaves an account alone that is in use by now. Its message must then be written.
		s.deps.Outbox.Recheck(su.ref())
	}
	return err
}

// inDoubt returns the error of an undo if it is fault.ErrInDoubt, and nil otherwise. With that
// error the undo may not have happened, and the answer must say so.
func inDoubt(err error) error {
	if errors.Is(err, fault.ErrInDoubt) {
		return err
	}
	return nil
}

// allowances returns the limits of signups that apply to an origin.
func (s *Service) allowances(t *tenant.Tenant, from Origin) []throttle.Allowance {
	var list []throttle.Allowance
	developer := s.isDeveloper(from)
	if !developer {
		list = s.buckets.Signup(t.ID, from.Addr)
	}
	if s.deps.AddressCeiling > 0 && !developer {
		list = append(list, throttle.Allowance{
			Bucket: s.buckets.Of("signup", 0, throttle.Party(from.Addr)),
			Rule:   throttle.Rule{Limit: s.deps.AddressCeiling, Per: time.Hour},
			Limit:  throttle.LimitInstallation,
		})
	}
	if t.SignupsPerHour > 0 {
		list = append(list, throttle.Allowance{
			Bucket: s.buckets.Of("signup", t.ID, "everybody"),
			Rule:   throttle.Rule{Limit: t.SignupsPerHour, Per: time.Hour},
			Limit:  throttle.LimitTenant,
		})
	}
	return list
}

// isDeveloper reports whether a signup comes from the developer of this platform.
func (s *Service) isDeveloper(from Origin) bool { return s.deps.Dev && from.Addr.IsLoopback() }

// recipient returns the limits of activation messages to a recipient.
func (s *Service) recipient(t *tenant.Tenant, email string) []throttle.Allowance {
	return s.messagesTo(t, "message", email)
}

// messagesTo returns the limits of messages of a kind to a recipient: at the tenant and, if there are
// several tenants, at all of them together.
func (s *Service) messagesTo(t *tenant.Tenant, kind, email string) []throttle.Allowance {
	key := RecipientKey(email)
	places := []throttle.Allowance{{
		Bucket: s.buckets.Of(kind, t.ID, key),
		Rule:   throttle.MessagesPerRecipient,
		Limit:  throttle.LimitRecipient,
	}}
	return s.withPerson(places, kind, key, throttle.MessagesPerPerson)
}

// withPerson adds the limit of messages of a kind to a recipient at all tenants together, if
// there are several. key is the RecipientKey.
func (s *Service) withPerson(
	places []throttle.Allowance, kind, key string, rule throttle.Rule,
) []throttle.Allowance {
	if s.deps.OneTenant != nil && s.deps.OneTenant() {
		return places
	}
	return append(places, throttle.Allowance{
		Bucket: s.buckets.Of(kind, 0, key),
		Rule:   rule,
		Limit:  throttle.LimitPerson,
	})
}
