package account

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"time"

	"dialtone/internal/audit"
	"dialtone/internal/digest"
	"dialtone/internal/fault"
	"dialtone/internal/i18n"
	"dialtone/internal/secret"
	"dialtone/internal/tenant"
	"dialtone/internal/throttle"
	"dialtone/internal/weakpass"
)

// Form is a signup as it came in: raw text, each field once, valid UTF-8 without control characters.
type Form struct {
	User, Name, Email, HA1      string
	CaptchaToken, CaptchaAnswer string
	// HA1B and HA1SHA256 are nil where the field was not sent.
	HA1B, HA1SHA256 *string
	// Lang is the language to write to the person in; empty is English.
	Lang i18n.Tag
}

// Missing is what a form without one of its fields is told, word for word (the published contract).
const Missing = "user, name, email, ha1, captcha_token, captcha_answer required"

// Signup makes a pending account and publishes its activation message. When it returns without an error both are there,
// and stay through a crash. When it fails, nothing is left of it. The errors are those of the published contract, in its
// order: fault.Invalid, fault.Limited, fault.Captcha, fault.Conflict, and others for our own trouble.
func (d *Service) Signup(ctx context.Context, t *tenant.Tenant, form Form, from Origin) (Account, error) {
	now := d.Now()
	a, credential, err := d.check(t, form, now)
	if err == nil {
		err = d.admit(ctx, t, a, credential, form, from, now)
	}
	if counts(err) {
		d.Refused(t, from)
	}
	d.record(ctx, audit.Signup, t, a, from, err)
	return a, err
}

// counts reports whether a failure is the sender's. One of the limit on failures itself is not: it would renew itself, and
// a sender who waits as long as they were told would wait for ever.
func counts(err error) bool {
	switch fault.KindOf(err) {
	case fault.Internal, fault.Overloaded:
		return false
	}
	return !errors.Is(err, errFailures)
}

// Refused counts a failed POST of the address, whoever refused it.
func (d *Service) Refused(t *tenant.Tenant, from Origin) { d.failures.Add(d.failureBucket(t, from)) }

func (d *Service) failureBucket(t *tenant.Tenant, from Origin) throttle.Bucket {
	return d.buckets.Of("failed signup", t.ID, throttle.Party(from.Addr))
}

// check applies the rules that need nothing but the form.
func (d *Service) check(t *tenant.Tenant, form Form, now time.Time) (Account, digest.Credential, error) {
	a := Account{Tenant: t.ID, Role: Guest, Disabled: true}
	var c digest.Credential
	if form.User == "" || form.Name == "" || form.Email == "" || form.HA1 == "" || form.CaptchaToken == "" || form.CaptchaAnswer == "" {
		return a, c, fault.New(fault.Invalid, Missing)
	}
	reserved, err := d.reservedFor(t)
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
	// The store keeps microseconds; what is derived from these times must come out the same after a restart.
	a.Created = now.UTC().Truncate(time.Microsecond)
	a.Expires = a.Created.Add(PendingLife)
	a.HasSHA256 = c.SHA256 != nil
	return a, c, nil
}

// checkPassword refuses a credential of which one hash is that of a password that is easy to guess.
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
	}
	field := form.Weak()
	if field == "" {
		return nil
	}
	return fault.Rule(field, "common", "the password is easy to guess; choose another one")
}

func parseCredential(t *tenant.Tenant, form Form) (c digest.Credential, err error) {
	if c.HA1, err = digest.ParseHA1(form.HA1); err != nil {
		return c, fault.Field("ha1", "send MD5(user:realm:password) as 32 hex digits")
	}
	if form.HA1B != nil {
		h, err := digest.ParseHA1(*form.HA1B)
		if err != nil {
			return c, fault.Field("ha1b", "send MD5(user@realm:realm:password) as 32 hex digits, or leave the field out")
		}
		c.HA1B = &h
	}
	if form.HA1SHA256 != nil {
		h, err := digest.ParseHA1SHA256(*form.HA1SHA256)
		if err != nil {
			return c, fault.Field("ha1_sha256", "send SHA-256(user:realm:password) as 64 hex digits, or leave the field out")
		}
		c.SHA256 = &h
	}
	if t.Challenge() == digest.SHA256 && c.SHA256 == nil {
		return c, fault.Field("ha1_sha256", "this platform signs in with SHA-256; send SHA-256(user:realm:password) as 64 hex digits too")
	}
	return c, nil
}

func (d *Service) reservedFor(t *tenant.Tenant) (Reserved, error) {
	key := strings.Join(t.Reserved, "\n")
	if r, ok := d.reserved.Load(key); ok {
		return r.(Reserved), nil
	}
	r, err := NewReserved(t.Reserved)
	if err == nil {
		d.reserved.Store(key, r)
	}
	return r, err
}

// admit does what a checked form asks for.
func (d *Service) admit(ctx context.Context, t *tenant.Tenant, a Account, c digest.Credential, form Form, from Origin, now time.Time) error {
	if wait := d.failures.Wait(d.failureBucket(t, from)); wait > 0 {
		limit := fault.Limit(wait, "too many tries from your address that came to nothing; wait before the next one")
		limit.Cause = errFailures
		return limit
	}
	proof := d.Captcha().Check(t.ID, form.CaptchaToken, form.CaptchaAnswer)
	ad := Signup{
		Account:   a,
		Captcha:   proof,
		Address:   d.allowances(t, from),
		Recipient: d.recipient(t, a.Email),
	}
	// From here on the work goes on when the client hangs up: it ends whole, or it is undone.
	ctx = context.WithoutCancel(ctx)
	if !proof.Right {
		return d.Store.Create(ctx, ad, now) // which refuses it, and spends the captcha where it is one of ours
	}

	token := secret.NewToken()
	rand.Read(ad.Message[:])
	ad.Account.UID = NewUID(now)
	ad.Account.Sealed = d.credentials.Seal(t.ID, ad.Account.UID[:], c.Marshal())
	ad.Token = token.Hash()
	ad.SealedToken = d.tokens.Seal(t.ID, ad.Message[:], token[:])

	draft, err := d.stage(t, ad.Account, ad.Message, token, a.Created)
	if err != nil {
		ad.CheckOnly = true
		return errors.Join(d.Store.Create(ctx, ad, now), err)
	}
	if err := d.Store.Create(ctx, ad, now); err != nil {
		draft.Discard()
		if errors.Is(err, ErrUnknown) {
			// Nobody is told of an account, so there is to be none. Tend sees to it as soon as the store is back.
			d.outbox.add(chores{undo: []Signup{ad}})
		}
		return err
	}
	if err := draft.Publish(); err != nil {
		return errors.Join(err, d.undo(ctx, ad))
	}
	d.outbox.published(OutboxRef{t.ID, ad.Account.UID, ad.Message})
	return nil
}

var errFailures = errors.New("limit on failures")

func (d *Service) allowances(t *tenant.Tenant, from Origin) []throttle.Allowance {
	list := d.buckets.Signup(t.ID, from.Addr)
	if d.AddressCeiling > 0 {
		list = append(list, throttle.Allowance{
			Bucket: d.buckets.Of("signup", 0, throttle.Party(from.Addr)),
			Rule:   throttle.Rule{Limit: d.AddressCeiling, Per: time.Hour},
		})
	}
	if t.SignupsPerHour > 0 {
		list = append(list, throttle.Allowance{
			Bucket: d.buckets.Of("signup", t.ID, "everybody"),
			Rule:   throttle.Rule{Limit: t.SignupsPerHour, Per: time.Hour},
		})
	}
	return list
}

// What a Store fails with for each refusal of Create; the sentences are the person's.
var (
	ErrCaptcha = fault.New(fault.Captcha, "the answer does not match the question, or the question is too old or was answered before; answer a new one")
	ErrTaken   = fault.New(fault.Conflict, "the user name is taken; choose another one")
)

// ErrAddress and ErrRecipient are the store's two limits, with the time to wait.
func ErrAddress(wait time.Duration) error {
	return fault.Limit(wait, "too many signups from your address; wait before the next one")
}

func ErrRecipient(wait time.Duration) error {
	return fault.Limit(wait, "too many messages to this e-mail address today; look for an earlier one, or wait")
}

// outcome is the reason code that the audit log has for an error.
func outcome(err error) string {
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, ErrActive):
		return "already_active"
	case errors.Is(err, ErrExpired):
		return "expired"
	case errors.Is(err, ErrHeld):
		return "held"
	case errors.Is(err, ErrReplaced):
		return "replaced"
	case errors.Is(err, errOpened):
		return "opened"
	}
	switch fault.KindOf(err) {
	case fault.Invalid:
		return "invalid_request"
	case fault.Limited:
		return "rate_limited"
	case fault.Captcha:
		return "captcha_failed"
	case fault.Conflict:
		return "conflict"
	case fault.NotFound:
		return "not_found"
	case fault.Overloaded:
		return "overloaded"
	default:
		return "server_error"
	}
}

func asFault(err error) (*fault.Error, bool) { return errors.AsType[*fault.Error](err) }
