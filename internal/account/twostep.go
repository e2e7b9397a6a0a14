package account

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"dialtone/internal/audit"
	"dialtone/internal/fault"
	"dialtone/internal/mailmsg"
	"dialtone/internal/outbox"
	"dialtone/internal/secret"
	"dialtone/internal/tenant"
	"dialtone/internal/throttle"
	"dialtone/internal/totp"
)

// TwoStepStore stores authenticator apps and recovery codes. Changes by an owner need a proof
// of the password. They fail with fault.NotFound for an account that does not exist or is not
// active, with ErrHeld, and with ErrPasswordChanged if the proof is of an older password.
type TwoStepStore interface {
	// App returns the app of an account, finished or not. It fails with fault.NotFound.
	App(ctx context.Context, uid UID) (App, error)

	// StartApp stores the sealed secret of a new app, which is not in effect until FinishApp.
	// It replaces an unfinished one, and takes a place under each limit. It fails with ErrAppOn
	// if there is one that is finished, and with fault.Limited.
	StartApp(ctx context.Context, a Account, sealed []byte, now time.Time, limits ...throttle.Allowance) error

	// FinishApp puts the app with the secret c.Sealed into effect, and adds recovery codes. Exactly
	// one of several concurrent calls succeeds. It fails with ErrAppOn, with ErrAppReplaced if
	// the account has another secret, and with fault.Limited.
	FinishApp(ctx context.Context, c AppChange, now time.Time) (Account, error)

	// RenewCodes replaces all recovery codes. It fails with ErrAppOff and fault.Limited. Only
	// its notice has the detail mailmsg.CodesReplaced.
	RenewCodes(ctx context.Context, c AppChange, now time.Time) (Account, error)

	// RemoveApp removes the app and the recovery codes. It fails with ErrAppOff and fault.Limited.
	RemoveApp(ctx context.Context, c AppChange, now time.Time) (Account, error)

	// RemoveFactors is for an operator: it removes the app, the recovery codes and all passkeys of an account,
	// and ends its sessions. It changes nothing if the account has none of them. It fails with fault.NotFound.
	RemoveFactors(ctx context.Context, tenant int64, user string, n Notice, now time.Time) (Account, error)

	// UseCode uses up a code: a step of the app that is newer than all steps used before, or else a recovery code.
	// Exactly one of several concurrent calls with one code succeeds, even on different servers. It fails with
	// ErrCodeWrong, which takes a place under each limit, and with fault.Limited. It returns how many recovery
	// codes are left. The use of a recovery code adds the notice with the detail mailmsg.RecoveryUsed, at most
	// RecoveryNotices times within a day. A wrong code adds it with mailmsg.WrongCodes if the limit Noticed is
	// reached, unless one with that detail was made within Noticed.Rule.Per.
	UseCode(ctx context.Context, u CodeUse, now time.Time) (left int, err error)
}

// App is an authenticator app of an account.
type App struct {
	// Sealed is the sealed secret.
	Sealed []byte
	// Since is when the first code proved that the app has the secret. Until then it is zero,
	// and the app is not in effect.
	Since time.Time
	// Step is the newest step whose code was used.
	Step int64
	// Codes is how many recovery codes are left.
	Codes int
}

// AppChange is a change of an app or its recovery codes.
type AppChange struct {
	// Account is the account whose password was proved.
	Account Account
	// Sealed is the secret of the app to finish, and Step the step of the code that proves it.
	Sealed []byte
	Step   int64
	// Codes are the HMACs of new recovery codes.
	Codes      [][32]byte
	Allowances []throttle.Allowance
	Notice
}

// CodeUse is a code that somebody has entered after the right password.
type CodeUse struct {
	ID      [16]byte // of the attempt
	Account Account
	// Sealed is the secret that the code was compared with, and Step the step whose code it is, or zero.
	Sealed []byte
	Step   int64
	// Recovery contains the HMACs of a recovery code, one for each key, or is empty.
	Recovery   [][32]byte
	Allowances []throttle.Allowance // for a wrong code
	// Noticed counts wrong codes for the notice. It refuses nothing.
	Noticed throttle.Allowance
	// Notice has no kind. If it is zero, no message is added.
	Notice
}

// Errors of second factors.
var (
	ErrAppOn       = fault.New(fault.Conflict, "the account has an authenticator app already; turn it off first")
	ErrAppOff      = fault.New(fault.Conflict, "the account has no authenticator app")
	ErrAppReplaced = fault.New(fault.Conflict, "setting up the authenticator app was started again elsewhere; "+
		"begin again")
	ErrCodeWrong = secondFactor("code.wrong", "the code is wrong, or was used before; "+
		"wait for the next one of the app, or use another recovery code")
)

func secondFactor(rule, message string) error {
	err := fault.New(fault.SecondFactor, "%s", message)
	err.Rule = rule
	return err
}

// FactorRefusal is the error for the limits of changes of an account's second factors and recovery codes.
func FactorRefusal(w throttle.Wait) error {
	if w.Limit == throttle.LimitRecoveryCodes {
		return named(limitRule("codes", fault.Limit(w.For, "the recovery codes were renewed too often today; "+
			"use those that you got last, or wait before getting new ones")), w)
	}
	return named(limitRule("factors", fault.Limit(w.For, "the second factors were changed too often today; "+
		"wait before changing them again")), w)
}

// CodeRefusal is the error of UseCode for the limit of wrong codes.
func CodeRefusal(w throttle.Wait) error {
	return named(limitRule("code.limit", fault.Limit(w.For, "too many wrong codes; wait before trying again")), w)
}

// RecoveryCodes is how many recovery codes an account gets at a time.
const RecoveryCodes = 10

// RecoveryNotices is the maximum number of messages per day about used recovery codes. More
// would bury other messages: somebody with the password can turn an app on, use its codes and
// turn it off again.
const RecoveryNotices = 5

const (
	// recoveryLength is the length of a recovery code: 50 bits. The HMACs in the store are useless
	// without the seal key, and few wrong codes are permitted.
	recoveryLength = 10
	// recoveryAlphabet is the one of Crockford's base 32, which has no letters that look like digits.
	recoveryAlphabet = "0123456789abcdefghjkmnpqrstvwxyz"
)

func newRecoveryCode() string {
	var b [recoveryLength]byte
	rand.Read(b[:])
	for i := range b {
		b[i] = recoveryAlphabet[b[i]%32]
	}
	return string(b[:5]) + "-" + string(b[5:])
}

// parseRecoveryCode returns a recovery code in canonical form, without the hyphen, from what a person typed.
func parseRecoveryCode(text string) (code string, ok bool) {
	if len(text) > 32 {
		return "", false
	}
	code = strings.NewReplacer(" ", "", "-", "", "o", "0", "i", "1", "l", "1").Replace(strings.ToLower(text))
	return code, len(code) == recoveryLength && strings.Trim(code, recoveryAlphabet) == ""
}

// newRecoveryCodes returns new random recovery codes and their HMACs.
func (s *Service) newRecoveryCodes(uid UID) (codes []string, sums [][32]byte) {
	for range RecoveryCodes {
		code := newRecoveryCode()
		plain, _ := parseRecoveryCode(code)
		codes = append(codes, code)
		sums = append(sums, s.recoveryCodes.Sum(uid[:], []byte(plain)))
	}
	return codes, sums
}

// TwoStep is what the owner of an account sees of its app.
type TwoStep struct {
	// Since is when the app was turned on, or zero.
	Since time.Time
	// Codes is how many recovery codes are left.
	Codes int
}

// TwoStep returns the state of an account's app.
func (s *Service) TwoStep(ctx context.Context, a Account) (TwoStep, error) {
	if !a.Factors.Has(FactorApp) {
		return TwoStep{}, nil
	}
	app, err := s.deps.Store.App(ctx, a.UID)
	if fault.Is(err, fault.NotFound) { // it was turned off concurrently
		err = nil
	}
	return TwoStep{app.Since, app.Codes}, err
}

// StartApp makes a random secret for an authenticator app, for somebody who has proved the
// password. The app is not in effect until FinishApp. It fails with ErrNotActivated, ErrAppOn
// and the errors of a TwoStepStore.
func (s *Service) StartApp(
	ctx context.Context, t *tenant.Tenant, proved Account, from Origin,
) (app totp.Secret, err error) {
	if app = totp.NewSecret(); proved.Pending() {
		err = ErrNotActivated
	} else {
		sealed := s.appSecrets.Seal(proved.Tenant, place(proved), app[:])
		err = s.deps.Store.StartApp(byOwner(ctx, from), proved, sealed, s.deps.Now(),
			s.changeLimit(proved, changeByProof))
	}
	s.record(ctx, audit.TwoStepBegin, t, proved, from, err)
	return app, err
}

// FinishApp turns an authenticator app on, with a code that proves that the app has the secret.
// It returns recovery codes, which cannot be retrieved again, and the changed account: all its
// sessions have ended. The owner gets a message, whose outbox entry is part of the same
// transaction. It fails with fault.Invalid for a code that is not the app's.
func (s *Service) FinishApp(
	ctx context.Context, t *tenant.Tenant, proved Account, code string, from Origin,
) (codes []string, a Account, err error) {
	c := s.newAppChange(proved, mailmsg.AppOn, s.factorChange(proved), from)
	codes, c.Codes = s.newRecoveryCodes(proved.UID)
	if c.Sealed, c.Step, err = s.matchNew(ctx, proved, code); err == nil {
		a, err = s.changeApp(ctx, c, from, s.deps.Store.FinishApp)
	}
	s.record(ctx, audit.TwoStepOn, t, proved, from, err)
	return codes, a, err
}

// matchNew returns the sealed secret of the app that is being set up, and the step that code belongs to.
func (s *Service) matchNew(ctx context.Context, a Account, code string) (sealed []byte, step int64, err error) {
	if a.Pending() {
		return nil, 0, ErrNotActivated
	}
	app, err := s.deps.Store.App(ctx, a.UID)
	switch {
	case fault.Is(err, fault.NotFound):
		return nil, 0, ErrAppReplaced
	case err != nil:
		return nil, 0, err
	case !app.Since.IsZero():
		return nil, 0, ErrAppOn
	}
	shared, err := s.openApp(a, app)
	if err != nil {
		return nil, 0, err
	}
	digits, _ := totp.ParseCode(code)
	step, ok := shared.Match(digits, s.deps.Now())
	if !ok {
		return nil, 0, fault.Rule("code", "other", "this is not the code that the app shows now; "+
			"check the clock of the device, and send the present code")
	}
	return app.Sealed, step, nil
}

func (s *Service) openApp(a Account, app App) (totp.Secret, error) {
	return openApp(s.appSecrets, a, app)
}

// newAppSecrets returns the vault that seals the secrets of authenticator apps.
func newAppSecrets(ring *secret.Ring) *secret.Vault { return secret.NewVault(ring, "totp secret") }

// openApp returns the secret of an app. It fails with secret.ErrSeal.
func openApp(vault *secret.Vault, a Account, app App) (shared totp.Secret, err error) {
	b, err := vault.Open(a.Tenant, place(a), app.Sealed)
	if err == nil && len(b) != len(shared) {
		err = secret.ErrSeal
	}
	copy(shared[:], b)
	return shared, err
}

// RenewCodes replaces the recovery codes of an account, and returns the new ones. The owner gets a message.
func (s *Service) RenewCodes(
	ctx context.Context, t *tenant.Tenant, proved Account, from Origin,
) (codes []string, err error) {
	c := s.newAppChange(proved, mailmsg.CodesReplaced, []throttle.Allowance{{
		Bucket: s.buckets.Of("recovery codes", proved.Tenant, proved.UID.String()),
		Rule:   throttle.RecoveryCodesPerAccount,
		Limit:  throttle.LimitRecoveryCodes,
	}}, from)
	codes, c.Codes = s.newRecoveryCodes(proved.UID)
	_, err = s.changeApp(ctx, c, from, s.deps.Store.RenewCodes)
	s.record(ctx, audit.TwoStepCodes, t, proved, from, err)
	return codes, err
}

// RemoveApp turns off the authenticator app of an account. Its recovery codes no longer work. The owner gets
// a message.
func (s *Service) RemoveApp(ctx context.Context, t *tenant.Tenant, proved Account, from Origin) error {
	c := s.newAppChange(proved, mailmsg.AppOff, s.factorRemoval(proved), from)
	_, err := s.changeApp(ctx, c, from, s.deps.Store.RemoveApp)
	s.record(ctx, audit.TwoStepOff, t, proved, from, err)
	return err
}

// newAppChange returns a change that sends a message with a detail.
func (s *Service) newAppChange(
	proved Account, detail string, limits []throttle.Allowance, from Origin,
) AppChange {
	return AppChange{
		Account:    proved,
		Allowances: limits,
		Notice:     s.newFactorNotice(proved, detail, audit.Network(from.Addr)),
	}
}

// factorChange returns the limit of adding authenticator apps and passkeys to an account.
func (s *Service) factorChange(a Account) []throttle.Allowance {
	return s.factorLimit(a, "factors", throttle.FactorChangesPerAccount)
}

// factorRemoval returns the limit of removing them.
func (s *Service) factorRemoval(a Account) []throttle.Allowance {
	return s.factorLimit(a, "factors removed", throttle.FactorRemovalsPerAccount)
}

func (s *Service) factorLimit(a Account, kind string, rule throttle.Rule) []throttle.Allowance {
	return []throttle.Allowance{{
		Bucket: s.buckets.Of(kind, a.Tenant, a.UID.String()),
		Rule:   rule,
		Limit:  throttle.LimitFactors,
	}}
}

// newFactorNotice returns a message about a change of the authenticator app, its recovery codes or the passkeys of an
// account.
func (s *Service) newFactorNotice(a Account, detail, net string) Notice {
	n := s.newNotice(a, mailmsg.FactorChanged, NoticeLife, net)
	n.Detail = detail
	return n
}

// changeApp makes a change, and passes its message to the outbox.
func (s *Service) changeApp(
	ctx context.Context, c AppChange, from Origin, change func(context.Context, AppChange, time.Time) (Account, error),
) (Account, error) {
	if c.Account.Pending() {
		return Account{}, ErrNotActivated
	}
	a, err := change(byOwner(ctx, from), c, s.deps.Now())
	if c.Message != (mailmsg.ID{}) {
		s.writeAfter(a, c.Notice, err)
	}
	return a, err
}

// UseCode uses up a code of the authenticator app of an account, or a recovery code, for somebody who has
// proved the password. It fails with the errors of TwoStepStore.UseCode.
func (s *Service) UseCode(ctx context.Context, t *tenant.Tenant, a Account, code string, from Origin) error {
	u := CodeUse{
		Account: a,
		Allowances: []throttle.Allowance{{
			// Somebody who guesses codes has the password. A new password stops them, and ends the owner's wait
			// too.
			Bucket: s.buckets.Of("code", t.ID, fmt.Sprint(a.UID, " ", a.Passwords)),
			Rule:   throttle.WrongCodes,
			Limit:  throttle.LimitCode,
		}, {
			// Somebody with access to the mailbox can set a new password any number of times,
			// so this limit ignores changes of the password.
			Bucket: s.buckets.Of("codes", t.ID, a.UID.String()),
			Rule:   throttle.WrongCodesInAll,
			Limit:  throttle.LimitCode,
		}},
	}
	rand.Read(u.ID[:])
	if digits, ok := totp.ParseCode(code); ok {
		app, err := s.deps.Store.App(ctx, a.UID)
		if err == nil {
			var shared totp.Secret
			shared, err = s.openApp(a, app)
			u.Sealed = app.Sealed
			u.Step, _ = shared.Match(digits, s.deps.Now())
		}
		if err != nil && !fault.Is(err, fault.NotFound) {
			return err
		}
	} else if plain, ok := parseRecoveryCode(code); ok {
		u.Recovery = s.recoveryCodes.Sums(a.UID[:], []byte(plain))
	}
	u.Noticed = throttle.Allowance{
		Bucket: s.buckets.Of("wrong codes", t.ID, fmt.Sprint(a.UID, " ", a.Passwords)),
		Rule:   throttle.WrongCodesNoticed,
	}
	u.Notice = s.newNotice(a, "", NoticeLife, audit.Network(from.Addr))
	_, err := s.deps.Store.UseCode(byOwner(ctx, from), u, s.deps.Now())
	if err == nil && u.Recovery != nil || errors.Is(err, ErrCodeWrong) || errors.Is(err, fault.ErrInDoubt) {
		// The store may have added the message or not.
		s.deps.Outbox.Recheck(outbox.Ref{Tenant: t.ID, Account: a.UID, Message: u.Message})
	}
	if u.Recovery != nil && !errors.Is(err, ErrCodeWrong) {
		s.record(ctx, audit.TwoStepRecovery, t, a, from, err)
	}
	return err
}

// RemoveFactors removes all second factors of an account, for an operator, and ends its sessions. The owner gets
// a message, which a server writes within seconds. It changes nothing if the account has none.
func (s *Service) RemoveFactors(ctx context.Context, t *tenant.Tenant, user string) (Account, error) {
	n := s.newFactorNotice(Account{Tenant: t.ID}, mailmsg.FactorsRemoved, "")
	return s.deps.Store.RemoveFactors(ctx, t.ID, user, n, s.deps.Now())
}
