package durability

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/fault"
	"dialtone/internal/mailmsg"
	"dialtone/internal/passkey"
	"dialtone/internal/tenant"
	"dialtone/internal/totp"
)

// Requests with which the owner of an account changes its address, leaves and stays, and changes and uses second
// factors.

func (u *recordingStore) AddEmailLink(
	ctx context.Context, l account.NewEmailLink, now time.Time,
) (sent bool, err error) {
	if sent, err = u.Store.AddEmailLink(ctx, l, now); sent || err != nil {
		notify(ctx, l.Account.User, l.Notice, err)
	}
	return sent, err
}

func (u *recordingStore) SetEmail(
	ctx context.Context, tenant int64, token [32]byte, n account.Notice, now time.Time,
) (account.Account, error) {
	a, err := u.Store.SetEmail(ctx, tenant, token, n, now)
	notify(ctx, a.User, n, err)
	return a, err
}

func (u *recordingStore) Leave(
	ctx context.Context, d account.Departure, now time.Time,
) (account.Account, error) {
	a, err := u.Store.Leave(ctx, d, now)
	notify(ctx, d.Account.User, d.Notice, err)
	return a, err
}

func (u *recordingStore) FinishApp(
	ctx context.Context, c account.AppChange, now time.Time,
) (account.Account, error) {
	a, err := u.Store.FinishApp(ctx, c, now)
	notify(ctx, c.Account.User, c.Notice, err)
	return a, err
}

func (u *recordingStore) RenewCodes(
	ctx context.Context, c account.AppChange, now time.Time,
) (account.Account, error) {
	a, err := u.Store.RenewCodes(ctx, c, now)
	notify(ctx, c.Account.User, c.Notice, err)
	return a, err
}

func (u *recordingStore) RemoveApp(
	ctx context.Context, c account.AppChange, now time.Time,
) (account.Account, error) {
	a, err := u.Store.RemoveApp(ctx, c, now)
	notify(ctx, c.Account.User, c.Notice, err)
	return a, err
}

func (u *recordingStore) AddPasskey(
	ctx context.Context, n account.NewPasskey, now time.Time,
) (account.Account, error) {
	a, err := u.Store.AddPasskey(ctx, n, now)
	notify(ctx, n.Account.User, n.Notice, err)
	return a, err
}

func (u *recordingStore) RemovePasskey(
	ctx context.Context, r account.PasskeyRemoval, now time.Time,
) (account.Account, error) {
	a, err := u.Store.RemovePasskey(ctx, r, now)
	notify(ctx, r.Account.User, r.Notice, err)
	return a, err
}

// signupAddress returns the address with which the account signed up that has, or had, another
// address.
func signupAddress(email string) string {
	local, _, _ := strings.Cut(email, "@")
	return local + "@example.org"
}

// own makes a request for the account of a user, as it is.
func (t *transcript) own(
	h *harness, d *request, do func(ctx context.Context, a account.Account, from account.Origin) error,
) *request {
	serial := t.serial()
	t.begin(h, d)
	from := account.Origin{Addr: netip.AddrFrom4([4]byte{13, byte(serial >> 8), byte(serial), 1})}
	a, err := h.store.Find(ctx, h.tenant.ID, d.user, h.now())
	if err == nil {
		err = do(withNotices(func(_ string, n account.Notice, _ error) { t.noted(d, n) }), a, from)
	}
	t.end(h, d, err)
	return d
}

// requestEmail asks for another address.
func (t *transcript) requestEmail(h *harness, user string) *request {
	d := &request{what: "email-link", user: user}
	serial := t.serial()
	return t.own(h, d, func(ctx context.Context, a account.Account, from account.Origin) error {
		local, _, _ := strings.Cut(a.Email, "@")
		d.email = fmt.Sprintf("%s@other%d.example.net", local, serial)
		_, err := h.accounts.RequestEmail(ctx, h.tenant, a, d.email, from)
		return err
	})
}

// setEmail opens the link in the message to another address.
func (t *transcript) setEmail(h *harness, user, token string) *request {
	d := &request{what: "set-email", user: user, token: token}
	return t.own(h, d, func(ctx context.Context, _ account.Account, from account.Origin) error {
		_, err := h.accounts.ConfirmEmail(ctx, h.tenant, token, from)
		return err
	})
}

func (t *transcript) leave(h *harness, user string) *request {
	d := &request{what: "leave", user: user}
	return t.own(h, d, func(ctx context.Context, a account.Account, from account.Origin) error {
		_, err := h.accounts.Leave(ctx, h.tenant, a, from)
		return err
	})
}

func (t *transcript) stay(h *harness, user, token string) *request {
	d := &request{what: "stay", user: user, token: token}
	return t.own(h, d, func(ctx context.Context, _ account.Account, from account.Origin) error {
		_, err := h.accounts.Stay(ctx, h.tenant, token, from)
		return err
	})
}

// erase erases all accounts whose grace period has passed.
func (t *transcript) erase(h *harness) *request {
	d := t.begin(h, &request{what: "erase"})
	for _, user := range users {
		if t.closed != nil {
			t.closed[user] = true
		}
	}
	_, err := h.accounts.EraseOverdue(ctx, func(int64) (*tenant.Tenant, bool) { return h.tenant, true })
	t.end(h, d, err)
	return d
}

// appOn sets up an authenticator app.
func (t *transcript) appOn(h *harness, user string) *request {
	d := &request{what: "app-on", user: user}
	return t.own(h, d, func(ctx context.Context, a account.Account, from account.Origin) (err error) {
		if d.app, err = h.accounts.StartApp(ctx, h.tenant, a, from); err != nil {
			return err
		}
		d.codes, _, err = h.accounts.FinishApp(ctx, h.tenant, a, d.app.Code(totp.Step(h.now())), from)
		return err
	})
}

// useCode uses a code of an app, or a recovery code.
func (t *transcript) useCode(h *harness, user, code string) *request {
	d := &request{what: "code", user: user, token: code}
	return t.own(h, d, func(ctx context.Context, a account.Account, from account.Origin) error {
		return h.accounts.UseCode(ctx, h.tenant, a, code, from)
	})
}

// renewCodes replaces the recovery codes of an app.
func (t *transcript) renewCodes(h *harness, user string) *request {
	d := &request{what: "codes", user: user}
	return t.own(h, d, func(ctx context.Context, a account.Account, from account.Origin) (err error) {
		d.codes, err = h.accounts.RenewCodes(ctx, h.tenant, a, from)
		return err
	})
}

func (t *transcript) appOff(h *harness, user string) *request {
	return t.own(h, &request{what: "app-off", user: user},
		func(ctx context.Context, a account.Account, from account.Origin) error {
			return h.accounts.RemoveApp(ctx, h.tenant, a, from)
		})
}

func (t *transcript) addPasskey(h *harness, user string) *request {
	d := &request{what: "passkey", user: user, token: fmt.Sprintf("key%d", t.serial())}
	return t.own(h, d, func(ctx context.Context, a account.Account, from account.Origin) error {
		c := passkey.Credential{ID: []byte(d.token), Key: []byte("public")}
		_, err := h.accounts.AddPasskey(ctx, h.tenant, a, c, "Key", from)
		return err
	})
}

func (t *transcript) removePasskey(h *harness, user, id string) *request {
	return t.own(h, &request{what: "passkey-off", user: user, token: id},
		func(ctx context.Context, a account.Account, from account.Origin) error {
			_, err := h.accounts.RemovePasskey(ctx, h.tenant, a, []byte(id), from)
			return err
		})
}

// ownFacts is what the requests of an account's owner set.
type ownFacts struct {
	email    string
	link     [32]byte // that sets newEmail, until linkEnds
	newEmail string
	linkEnds int64 // as UnixMicro
	leaving  int64 // when the account is to be erased, as UnixMicro, or 0
	app      bool
	codes    int // the recovery codes that are left
	made     int64
	passkeys string // the ID of each with a colon, the time when it was made, and a space
}

// hasMessage reports whether a request that succeeds has a message.
func (d *request) hasMessage() bool {
	switch d.what {
	case "password", "reset", "email-link", "set-email", "leave", "app-on", "app-off", "codes", "passkey",
		"passkey-off":
		return true
	case "code":
		return strings.Contains(d.token, "-") // a recovery code
	}
	return false
}

// after returns the facts after a request that was carried out.
func (f ownFacts) after(d *request) ownFacts {
	switch d.what {
	case "password", "disable":
		f.link = [32]byte{}
	case "reset": // the owner of an account that is leaving stays
		f.link, f.leaving = [32]byte{}, 0
	case "email-link":
		f.link, f.newEmail, f.linkEnds = d.notice.Token, d.email, d.notice.Until.UnixMicro()
	case "set-email":
		f.email, f.link = f.newEmail, [32]byte{}
	case "leave":
		f.leaving, f.link = d.notice.Until.UnixMicro(), [32]byte{}
	case "stay", "enable":
		f.leaving = 0
	case "not-me":
		f.email, f.link, f.leaving = d.email, [32]byte{}, 0
		since := d.made.UnixMicro()
		if f.app && f.made >= since {
			f.app, f.codes, f.made = false, 0, 0
		}
		if d.aboutCodes {
			f.codes = 0
		}
		var kept string
		for _, one := range strings.Fields(f.passkeys) {
			var made int64
			if _, text, _ := strings.Cut(one, ":"); text != "" {
				fmt.Sscan(text, &made)
			}
			if made < since {
				kept += one + " "
			}
		}
		f.passkeys = kept
	case "app-on":
		f.app, f.codes, f.made = true, account.RecoveryCodes, d.notice.Made.UnixMicro()
		f.link = [32]byte{}
	case "app-off":
		f.app, f.codes, f.made = false, 0, 0
	case "codes":
		f.codes = account.RecoveryCodes
	case "code":
		if strings.Contains(d.token, "-") {
			f.codes--
		}
	case "passkey":
		if f.passkeys == "" {
			f.link = [32]byte{}
		}
		f.passkeys += fmt.Sprintf("%s:%d ", d.token, d.notice.Made.UnixMicro())
	case "passkey-off":
		var kept string
		for _, one := range strings.Fields(f.passkeys) {
			if !strings.HasPrefix(one, d.token+":") {
				kept += one + " "
			}
		}
		f.passkeys = kept
	}
	return f
}

// ownFacts returns the facts that the account of a signup may have. A request whose outcome is not
// known was carried out if and only if its message exists.
func (t *transcript) ownFacts(signup *request, f *found, running bool) map[ownFacts]bool {
	now := map[ownFacts]bool{signup.baseFacts: true}
	if signup.baseFacts.email == "" {
		now = map[ownFacts]bool{{email: signup.email}: true}
	}
	for _, d := range t.after(signup) {
		if !d.done() && !d.mayRemain(running) {
			continue
		}
		sure := d.done()
		if !sure && d.hasMessage() {
			if _, there := f.changes[d.notice.Message.String()]; !there {
				continue
			}
			sure = true
		}
		next := make(map[ownFacts]bool)
		for s := range now {
			next[s.after(d)] = true
			if !sure {
				next[s] = true
			}
		}
		now = next
	}
	return now
}

// promiseOwn checks the facts of a signup's account, and remembers those that it has.
func (h *harness) promiseOwn(
	t *transcript, signup *request, a account.Account, f *found, running bool, wrong func(string, ...any),
) {
	list, err := h.store.Passkeys(ctx, a.UID)
	if err != nil {
		wrong("%s: read the passkeys: %v", signup, err)
		return
	}
	var ids []string
	for _, k := range list {
		ids = append(ids, string(k.ID))
		if _, err := h.accounts.OpenPasskey(h.tenant.ID, k); err != nil {
			wrong("%s: passkey %s: %v", signup, k.ID, err)
		}
	}
	app, err := h.store.App(ctx, a.UID)
	if err != nil && !fault.Is(err, fault.NotFound) {
		wrong("%s: read the app: %v", signup, err)
		return
	}
	got := ownFacts{email: a.Email, app: a.Factors.Has(account.FactorApp), codes: app.Codes}
	if !a.Leaving.IsZero() {
		got.leaving = a.Leaving.UnixMicro()
	}
	if got.app == app.Since.IsZero() || a.Factors.Has(account.FactorPasskey) != (len(ids) > 0) {
		wrong("the account of %s has the factors %v, an app since %v, and the passkeys %v", signup.user, a.Factors,
			app.Since, ids)
	}
	opens := make(map[[32]byte]bool) // the links that set an address
	for _, d := range append(t.after(signup), &request{notice: account.Notice{Token: signup.baseFacts.link}}) {
		if d.what == "email-link" || d.what == "" {
			_, _, err := h.store.EmailLink(ctx, h.tenant.ID, d.notice.Token, h.now())
			if opens[d.notice.Token] = err == nil; err != nil && !errors.Is(err, account.ErrLinkUsed) {
				wrong("%s: read the link: %v", d, err)
			}
		}
	}
	possible := t.ownFacts(signup, f, running)
	for s := range possible {
		var want []string
		for _, one := range strings.Fields(s.passkeys) {
			id, _, _ := strings.Cut(one, ":")
			want = append(want, id)
		}
		slices.Sort(want)
		slices.Sort(ids)
		same := s.email == got.email && s.leaving == got.leaving && s.app == got.app && s.codes == got.codes &&
			slices.Equal(want, ids)
		for link, open := range opens {
			valid := link == s.link && link != [32]byte{} && !a.Held && h.now().UnixMicro() < s.linkEnds
			same = same && open == valid
		}
		if same {
			signup.facts = s
			return
		}
	}
	wrong("the account of %s is %+v with the passkeys %q and the links %.4x, want one of %+v", signup.user, got, ids,
		opens, possible)
}

// erased reports whether the account of a signup may have been erased because its owner left, and whether it
// must have been.
func (t *transcript) erased(signup *request) (may, must bool) {
	leaving := map[int64]bool{signup.baseFacts.leaving: true}
	for _, d := range t.requests[slices.Index(t.requests, signup)+1:] {
		if d.what == "erase" {
			// Its clock may have advanced a little since it began.
			all, by := true, d.when.Add(-24*time.Hour)
			for v := range leaving {
				may = may || v != 0 && v <= by.Add(time.Minute).UnixMicro()
				all = all && v != 0 && v <= by.UnixMicro()
			}
			must = must || all && d.done()
			continue
		}
		if d.user != signup.user {
			continue
		}
		if d.what == "signup" && d.done() {
			break
		}
		next := int64(0)
		switch d.what {
		case "leave":
			next = d.notice.Until.UnixMicro()
		case "stay", "enable", "not-me", "reset":
		default:
			continue
		}
		if d.done() {
			leaving = map[int64]bool{next: true}
		} else if d.mayRemain(false) {
			leaving[next] = true
		}
	}
	return may, must
}

// useCodes uses each used code again, and checks that none works twice.
func (h *harness) useCodes(t *transcript) error {
	for _, d := range t.requests {
		if d.what != "code" {
			continue
		}
		a, err := h.store.Find(ctx, h.tenant.ID, d.user, h.now())
		if err != nil || a.Disabled {
			continue
		}
		works := 0
		for range 2 {
			err := h.accounts.UseCode(ctx, h.tenant, a, d.token, account.Origin{})
			if err == nil {
				works++
			} else if !errors.Is(err, account.ErrCodeWrong) {
				return fmt.Errorf("%s again: %w", d, err)
			}
		}
		if works > 1 || works > 0 && d.done() {
			return fmt.Errorf("%s was answered %v, and works %d times more", d, d.err, works)
		}
	}
	return nil
}

// isOwnKind reports whether a message with the subject may be of a kind. Those of mailmsg.FactorChanged have
// several subjects.
func isOwnKind(kind mailmsg.Kind, subject string) bool {
	if !slices.Contains(mailmsg.NotMe, kind) {
		return true
	}
	for other, part := range map[mailmsg.Kind]string{
		mailmsg.NewBrowser: "New sign-in", mailmsg.EmailChanged: "Your email address",
		mailmsg.PasswordChanged: "Your password", mailmsg.RecoveryUsed: "A recovery code",
	} {
		if strings.HasPrefix(subject, part) {
			return kind == other
		}
	}
	return kind == mailmsg.FactorChanged
}
