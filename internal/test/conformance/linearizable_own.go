package conformance

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"dialtone/internal/account"
	"dialtone/internal/mailmsg"
)

// Calls in histories (Linearizable) with which the owner of an account changes its address, leaves and stays,
// and changes and uses second factors.

const (
	addEmail  operation = "add e-mail link"
	readEmail operation = "read e-mail link"
	setEmail  operation = "set e-mail address"
	leave     operation = "leave"
	stay      operation = "stay"
	erase     operation = "erase"

	startApp      operation = "start app"
	finishApp     operation = "finish app"
	renewCodes    operation = "renew codes"
	removeApp     operation = "remove app"
	useStep       operation = "use code of app"
	useRecovery   operation = "use recovery code"
	removeFactors operation = "remove factors"
	addPasskey    operation = "add passkey"
	removePasskey operation = "remove passkey"
	usePasskey    operation = "use passkey"
)

// passkeysOfUser is how many passkeys a user may have in a history.
const passkeysOfUser = 2

// ownRequest is the part of a request for these calls.
type ownRequest struct {
	secret  string // of the app that startApp and finishApp set and useStep compares with
	step    int64  // whose code finishApp and useStep use
	codes   string // the recovery codes that finishApp and renewCodes add, in hex, or the one that useRecovery uses
	passkey int
	now     string // the sealed value that addPasskey and usePasskey set; usePasskey replaces request.was
}

// ownResult is the part of a result for these calls.
type ownResult struct {
	factors account.Factors
	leaving int64  // as UnixMicro, or 0
	email   string // that the link of readEmail sets
	done    bool   // sent of addEmail, and erased of erase
	left    int    // the recovery codes after useStep and useRecovery
}

// ownLinks are the links and values of these calls that a client may use.
type ownLinks struct {
	emails, stays []ownLink
	departed      []account.Account
	apps          []ownApp
	finished      []ownApp  // that FinishApp has turned on
	codes         []ownLink // recovery codes
	passkeys      []ownPasskey
	calls         int64 // of history.own
}

// ownApp is an authenticator app of a user.
type ownApp struct{ user, secret string }

// ownPasskey is a passkey of a user as it was stored.
type ownPasskey struct {
	user   string
	number int
	row    account.Passkey
}

// own chooses one of these calls for the account a, and returns it, or nil if there is nothing to
// call it for. The call writes to out. The caller holds h.mu.
func (h *history) own(c *request, out *ownResult, rng *rand.Rand, a account.Account) func() (account.Account, error) {
	o, none := &h.ownLinks, account.Account{}
	o.calls++
	switch n := rng.IntN(28); n {
	case 0, 1:
		l := account.NewEmailLink{Account: a, Email: h.anyAddress(rng, a.User)}
		l.Notice = notice(mailmsg.ConfirmEmail, c.at)
		l.Until = c.at.AddDate(0, 0, 1)
		c.op, c.link, c.until, c.was, c.email = addEmail, l.Token, l.Until, a.Email, l.Email
		return func() (_ account.Account, err error) {
			if out.done, err = h.AddEmailLink(h.ctx, l, c.at); err == nil { // nobody has the link before
				h.mu.Lock()
				defer h.mu.Unlock()
				o.emails = append(o.emails, ownLink{a.User, l.Token})
			}
			return none, err
		}
	case 2, 3, 4, 5:
		l, ok := recent(o.emails, rng, 2)
		if !ok {
			return nil
		}
		c.op, c.user, c.link = readEmail, l.user, l.token
		if n == 2 {
			return func() (a account.Account, err error) {
				a, out.email, err = h.EmailLink(h.ctx, h.tenant, c.link, c.at)
				return a, err
			}
		}
		c.op = setEmail
		m := ownNotice(c, mailmsg.EmailChanged)
		return func() (account.Account, error) { return h.SetEmail(h.ctx, h.tenant, c.link, m, c.at) }
	case 6, 7:
		d := departure(a, c.at)
		c.op, c.link, c.until = leave, d.Token, d.Until
		return func() (account.Account, error) {
			a, err := h.Leave(h.ctx, d, c.at)
			if err == nil {
				h.mu.Lock()
				defer h.mu.Unlock()
				o.stays, o.departed = append(o.stays, ownLink{a.User, d.Token}), append(o.departed, a)
			}
			return a, err
		}
	case 8, 9, 10:
		l, ok := recent(o.stays, rng, 3)
		if !ok {
			return nil
		}
		c.op, c.user, c.link = stay, l.user, l.token
		return func() (account.Account, error) { return h.Stay(h.ctx, h.tenant, c.link, c.at) }
	case 11:
		gone, ok := recent(o.departed, rng, 6)
		if !ok {
			return nil
		}
		c.op, c.user, c.uid = erase, gone.User, gone.UID
		return func() (_ account.Account, err error) {
			out.done, err = h.EraseOverdue(h.ctx, gone, c.at, c.at)
			return none, err
		}
	case 12, 13, 14:
		c.op, c.secret = startApp, fmt.Sprintf("secret %x", newID())
		o.apps = append(o.apps, ownApp{a.User, c.secret})
		return func() (account.Account, error) { return none, h.StartApp(h.ctx, a, []byte(c.secret), c.at) }
	case 15, 16, 17, 18:
		app, ok := newestApp(o.apps, a.User, rng)
		if on, there := recent(o.finished, rng, 3); there && n >= 17 && rng.IntN(8) > 0 {
			if a, ok = h.known[on.user]; !ok {
				return nil
			}
			app, c.user, c.uid, c.passwords, c.factors = on, on.user, a.UID, a.Passwords, a.Factors
		}
		if !ok {
			return nil
		}
		c.secret, c.step = app.secret, 1+o.calls/8
		if n < 17 {
			c.op = finishApp
			change := h.newCodes(c, a)
			change.Sealed, change.Step, change.Notice = []byte(c.secret), c.step, ownNotice(c, mailmsg.FactorChanged)
			return func() (account.Account, error) {
				a, err := h.FinishApp(h.ctx, change, c.at)
				if err == nil {
					h.mu.Lock()
					defer h.mu.Unlock()
					o.finished = append(o.finished, app)
				}
				return a, err
			}
		}
		c.op, c.step = useStep, c.step+rng.Int64N(3)
		u := account.CodeUse{ID: newID(), Account: a, Sealed: []byte(c.secret), Step: c.step}
		return func() (_ account.Account, err error) {
			out.left, err = h.UseCode(h.ctx, u, c.at)
			return none, err
		}
	case 19, 20:
		l, ok := recent(o.codes, rng, 6)
		if !ok {
			return nil
		}
		a = h.known[l.user] // the code was made for an account that was known
		c.op, c.user, c.codes = useRecovery, l.user, codeText(l.token)
		c.uid, c.passwords, c.factors = a.UID, a.Passwords, a.Factors
		u := account.CodeUse{ID: newID(), Account: a, Recovery: [][32]byte{newToken(), l.token}}
		u.Notice = ownNotice(c, mailmsg.RecoveryUsed)
		u.Noticed = allowance(newBucket(), 2) // one wrong code has no message
		return func() (_ account.Account, err error) {
			out.left, err = h.UseCode(h.ctx, u, c.at)
			return none, err
		}
	case 21, 22:
		what := rng.IntN(3)
		if on, ok := recent(o.finished, rng, 4); ok && what < 2 {
			if known, ok := h.known[on.user]; ok { // most others have no app
				a = known
				c.user, c.uid, c.passwords, c.factors = on.user, a.UID, a.Passwords, a.Factors
			}
		}
		switch what {
		case 0:
			c.op = renewCodes
			change := h.newCodes(c, a)
			change.Notice = ownNotice(c, mailmsg.FactorChanged)
			change.Detail = mailmsg.CodesReplaced
			c.notice = notMeOf(change.Notice)
			return func() (account.Account, error) { return h.RenewCodes(h.ctx, change, c.at) }
		case 1:
			c.op = removeApp
			change := account.AppChange{Account: a, Notice: ownNotice(c, mailmsg.FactorChanged)}
			return func() (account.Account, error) { return h.RemoveApp(h.ctx, change, c.at) }
		}
		c.op = removeFactors
		m := ownNotice(c, mailmsg.FactorChanged)
		return func() (account.Account, error) { return h.RemoveFactors(h.ctx, h.tenant, a.User, m, c.at) }
	case 23:
		c.op, c.passkey, c.now = addPasskey, rng.IntN(passkeysOfUser), fmt.Sprintf("state %x", newID())
		k := newPasskey(a, fmt.Sprint(a.User, " ", c.passkey), c.at)
		k.Passkey.Sealed, k.Notice = []byte(c.now), ownNotice(c, mailmsg.FactorChanged)
		return func() (_ account.Account, err error) {
			if a, err = h.AddPasskey(h.ctx, k, c.at); err == nil {
				h.stored(ownPasskey{c.user, c.passkey, k.Passkey})
			}
			return a, err
		}
	}
	k, ok := recent(o.passkeys, rng, 4)
	if !ok {
		return nil
	}
	c.user, c.uid, c.passkey = k.user, k.row.Account, k.number
	if rng.IntN(4) == 0 {
		c.op = removePasskey
		a = h.known[k.user]
		a.UID, c.passwords, c.factors = c.uid, a.Passwords, a.Factors
		m := ownNotice(c, mailmsg.FactorChanged)
		r := account.PasskeyRemoval{Account: a, ID: k.row.ID, Notice: m}
		return func() (account.Account, error) { return h.RemovePasskey(h.ctx, r, c.at) }
	}
	c.op, c.was, c.now = usePasskey, string(k.row.Sealed), fmt.Sprintf("state %x", newID())
	next := k
	next.row.Sealed = []byte(c.now)
	return func() (account.Account, error) {
		err := h.UsePasskey(h.ctx, k.row, []byte(c.now), c.at)
		if err == nil {
			h.stored(next)
		}
		return none, err
	}
}

// stored adds a passkey that clients may use. A client replaces a state only after it has read it.
func (h *history) stored(k ownPasskey) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.passkeys = append(h.passkeys, k)
}

// ownNotice returns the message of a request's change, which has a link for a week.
func ownNotice(c *request, kind mailmsg.Kind) account.Notice {
	n := notice(kind, c.at)
	n.Until = c.at.AddDate(0, 0, 7)
	c.notice = notMeOf(n)
	return n
}

// newCodes returns a change of an app with two new recovery codes.
func (h *history) newCodes(c *request, a account.Account) account.AppChange {
	change := account.AppChange{Account: a, Codes: newCodes(2)}
	for _, code := range change.Codes {
		c.codes += codeText(code)
		h.codes = append(h.codes, ownLink{a.User, code})
	}
	return change
}

func codeText(code [32]byte) string { return fmt.Sprintf("%x ", code) }

// newestApp returns the app of a user that was started last, or the one before.
func newestApp(apps []ownApp, user string, rng *rand.Rand) (app ownApp, ok bool) {
	skip := rng.IntN(4) == 0
	for _, one := range slices.Backward(apps) {
		if one.user != user {
			continue
		}
		if app, ok = one, true; !skip {
			break
		}
		skip = false
	}
	return app, ok
}

// ownState is the part of the state of a user name for these calls.
type ownState struct {
	emailLink  reset
	newAddress string // that emailLink sets
	emails     int64  // how often the address was changed
	leaving    int64  // when the account must be erased, as UnixMicro, or 0
	byOperator bool   // an operator holds the account
	stayLink   reset
	app        appState
	passkeys   [passkeysOfUser]passkeyState
}

// appState is an authenticator app, or zero.
type appState struct {
	secret     string
	on         bool
	made, step int64
	codes      string // the recovery codes, in hex
}

// passkeyState is a passkey, or zero.
type passkeyState struct {
	made   int64
	sealed string
}

func (s ownState) factors() (f account.Factors) {
	if s.app.on {
		f |= account.FactorApp
	}
	if s.passkeys != [passkeysOfUser]passkeyState{} {
		f |= account.FactorPasskey
	}
	return f
}

// withoutFactorsSince returns a state without the factors that were made at a time or later.
func (s ownState) withoutFactorsSince(at int64) ownState {
	if s.app.made >= at {
		s.app = appState{}
	}
	for i := range s.passkeys {
		if s.passkeys[i].made >= at {
			s.passkeys[i] = passkeyState{}
		}
	}
	return s
}

// ownerMay returns the error of a call for the owner of an account, or nil.
func (s nameState) ownerMay(c request) error {
	switch {
	case !s.exists(c.at) || s.uid != c.uid:
		return errAbsent
	case s.held:
		return account.ErrHeld
	case !s.active:
		return errAbsent
	}
	return nil
}

// provedMay is ownerMay for a call with a proof of the password.
func (s nameState) provedMay(c request) error {
	err := s.ownerMay(c)
	if err == nil && !s.proves(c) {
		err = account.ErrPasswordChanged
	}
	return err
}

// proves reports whether the proof of a call still counts: no other password was set, and no app turned on, since.
func (s nameState) proves(c request) bool {
	return s.passwords == c.passwords && (!s.app.on || c.factors.Has(account.FactorApp))
}

// afterOwn is after for these calls. It also returns the result, except for the account. It reports false for
// other calls.
//
//lint:ignore ST1008 the order is that of after
func (s nameState) afterOwn(c request) (next nameState, want error, out ownResult, ok bool) {
	i := c.passkey
	switch c.op {
	default:
		return s, nil, out, false

	case addEmail:
		if want = s.provedMay(c); want == nil && s.email != c.was {
			want = account.ErrAddressChanged
		}
		if want == nil {
			s.emailLink, s.newAddress, out.done = reset{c.link, c.until}, c.email, true
		}
	case readEmail, setEmail:
		switch {
		case !s.exists(c.at) || s.held || !s.emailLink.opens(c):
			want = account.ErrLinkUsed
		case c.op == readEmail:
			out.email = s.newAddress
		default:
			s = s.withNotMe(c.notice)
			s.email, s.emails, s.confirmed = s.newAddress, s.emails+1, true
			s.emailLink, s.newAddress, s.mailed, s.sameAddress = reset{}, "", reset{}, ""
		}
	case leave:
		if want = s.provedMay(c); want == nil {
			s.held, s.byOperator, s.leaving, s.epoch = true, false, c.until.UnixMicro(), s.epoch+1
			s.sessions, s.emailLink = "", reset{}
			s.stayLink = reset{c.link, c.until}
		}
	case stay:
		if !s.exists(c.at) || s.leaving == 0 || s.byOperator || !s.stayLink.opens(c) {
			want = account.ErrLinkUsed
		} else {
			s.held, s.leaving, s.stayLink = false, 0, reset{}
		}
	case erase:
		if out.done = s.uid == c.uid && s.leaving != 0 && s.leaving <= c.at.UnixMicro(); out.done {
			s = s.erased()
		}

	case startApp:
		if want = s.provedMay(c); want == nil && s.app.on {
			want = account.ErrAppOn
		} else if want == nil {
			s.app = appState{secret: c.secret, made: c.at.UnixMicro()}
		}
	case finishApp:
		switch want = s.provedMay(c); {
		case want != nil:
		case s.app.on:
			want = account.ErrAppOn
		case s.app.secret != c.secret:
			want = account.ErrAppReplaced
		default:
			s.app = appState{c.secret, true, c.at.UnixMicro(), c.step, c.codes}
			s.epoch, s.sessions = s.epoch+1, ""
			s.emailLink, s.newAddress = reset{}, ""
			s = s.withNotMe(c.notice)
		}
	case renewCodes, removeApp:
		switch want = s.provedMay(c); {
		case want != nil:
		case !s.app.on:
			want = account.ErrAppOff
		case c.op == renewCodes:
			s.app.codes = c.codes
			s = s.withNotMe(c.notice)
		default:
			s.app = appState{}
			s = s.withNotMe(c.notice)
		}
	case useStep, useRecovery:
		before := s.app
		switch want = s.provedMay(c); {
		case want != nil:
		case c.op == useStep && s.app.on && s.app.secret == c.secret && s.app.step < c.step:
			s.app.step = c.step
		case c.op == useRecovery:
			s.app.codes = strings.ReplaceAll(s.app.codes, c.codes, "")
		}
		if want == nil && s.app == before {
			want = account.ErrCodeWrong
		} else if want == nil {
			out.left = strings.Count(s.app.codes, " ")
		}
		if want == nil && c.op == useRecovery {
			s = s.withNotMe(c.notice)
		}
	case removeFactors:
		if !s.exists(c.at) {
			want = errAbsent
		} else if s.factors() != 0 {
			s.app, s.passkeys = appState{}, [passkeysOfUser]passkeyState{}
			s.epoch, s.sessions = s.epoch+1, ""
			s = s.withNotMe(c.notice)
		}

	case addPasskey:
		switch want = s.ownerMay(c); {
		case want != nil:
		case s.epoch != c.session.epoch,
			s.factors().Has(account.FactorPasskey) && !c.factors.Has(account.FactorPasskey):
			want = account.ErrPasskeyStale
		case s.passkeys[i].sealed != "":
			want = account.ErrPasskeyKnown
		default:
			if !s.factors().Has(account.FactorPasskey) {
				s.emailLink, s.newAddress = reset{}, ""
			}
			s.passkeys[i] = passkeyState{c.at.UnixMicro(), c.now}
			s = s.withNotMe(c.notice)
		}
	case removePasskey:
		if want = s.provedMay(c); want == nil && s.passkeys[i].sealed == "" {
			want = account.ErrNoPasskey
		} else if want == nil {
			s.passkeys[i] = passkeyState{}
			s.epoch, s.sessions = s.epoch+1, ""
			s = s.withNotMe(c.notice)
		}
	case usePasskey:
		switch {
		case s.passkeys[i].sealed != "" && s.passkeys[i].sealed != c.was:
			want = account.ErrPasskeyChanged
		case s.passkeys[i].sealed == "" || s.ownerMay(c) != nil:
			want = account.ErrNoPasskey
		default:
			s.passkeys[i].sealed = c.now
		}
	}
	return s, want, out, true
}

// erased returns the state after the delete of an active account.
func (s nameState) erased() nameState {
	s.closed, s.epoch, s.sessions, s.notMe, s.ownState = true, s.epoch+1, "", "", ownState{}
	return s
}

// mayAnswer reports whether a call that changed nothing may also return an error, since it read the account
// before its transaction, or in two statements.
func (s nameState) mayAnswer(c request, err error) bool {
	switch c.op {
	case notMe, setEmail, stay: // the account was disabled or deleted after the link was read
		return s.held && err == account.ErrHeld || s.closed && err == errAbsent
	case usePasskey:
		return s.ownerMay(c) != nil && err == account.ErrNoPasskey
	}
	return false
}
