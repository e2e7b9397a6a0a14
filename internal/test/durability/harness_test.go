package durability

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"math"
	"net/mail"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/captcha"
	"dialtone/internal/digest"
	"dialtone/internal/fault"
	"dialtone/internal/hook"
	"dialtone/internal/mail/pickup"
	"dialtone/internal/mailmsg"
	"dialtone/internal/outbox"
	"dialtone/internal/secret"
	"dialtone/internal/session"
	"dialtone/internal/store"
	"dialtone/internal/tenant"
	"dialtone/internal/test/crashfs"
	"dialtone/internal/test/teststore"
	"dialtone/internal/throttle"
	"dialtone/internal/totp"
)

const (
	database = "/data/dialtone.db"
	outgoing = "/data/pickup"
	copied   = "/data/copy.db"
	realm    = "phone.test"
	password = "correct horse battery staple"
)

var (
	ring = secret.NewRing(time.Unix(0, 0))
	ctx  = context.Background()
)

// harness is the program without HTTP, assembled and started as the serve command does.
type harness struct {
	fs       *crashfs.FS
	store    *store.Store
	pickup   *pickup.Dir
	accounts *account.Service
	outbox   *outbox.Outbox
	sessions func() *session.Authenticator
	tenant   *tenant.Tenant
	issuer   *captcha.Issuer
	now      func() time.Time
	ahead    time.Duration // of the clock that open was called with
	closed   bool
	undo     *recordingStore
}

// recordingStore is a store that remembers which undos of signups and of resends failed. Their requests
// were answered with an error, but a crash may leave their changes in place. It also reports the message
// of each change of a password and of each reset link (withNotices).
type recordingStore struct {
	*store.Store
	mu     sync.Mutex
	failed map[string]bool // by "signup" or "resend", and e-mail address
}

func (u *recordingStore) record(what, email string, err error) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.failed[what+" "+email] = u.failed[what+" "+email] || err != nil
	return err
}

func (u *recordingStore) has(what, email string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.failed[what+" "+email]
}

func (u *recordingStore) Undo(ctx context.Context, a account.Signup, now time.Time) error {
	return u.record("signup", a.Account.Email, u.Store.Undo(ctx, a, now))
}

func (u *recordingStore) UndoResend(ctx context.Context, r account.LinkReplacement, now time.Time) error {
	return u.record("resend", r.Account.Email, u.Store.UndoResend(ctx, r, now))
}

// errNotAnswered is the error with which a reset link is reported before the store is called.
var errNotAnswered = errors.New("not answered yet")

// noticesKey is the context key of a function that withNotices sets.
type noticesKey struct{}

// withNotices returns a context with which do is called after each change that has a message.
func withNotices(do func(user string, n account.Notice, err error)) context.Context {
	return context.WithValue(ctx, noticesKey{}, do)
}

func notify(ctx context.Context, user string, n account.Notice, err error) {
	if do, ok := ctx.Value(noticesKey{}).(func(string, account.Notice, error)); ok {
		do(user, n, err)
	}
}

func (u *recordingStore) SetPassword(
	ctx context.Context, c account.PasswordChange, now time.Time,
) (account.Account, error) {
	a, err := u.Store.SetPassword(ctx, c, now)
	notify(ctx, c.Account.User, c.Notice, err)
	return a, err
}

func (u *recordingStore) AddResetLink(
	ctx context.Context, r account.NewResetLink, now time.Time,
) (account.Account, error) {
	notify(ctx, r.User, r.Notice, errNotAnswered)
	a, err := u.Store.AddResetLink(ctx, r, now)
	notify(ctx, r.User, r.Notice, err)
	return a, err
}

func (u *recordingStore) NotMe(
	ctx context.Context, tenant int64, token [32]byte, n account.Notice, now time.Time,
	limits ...throttle.Allowance,
) (account.Account, error) {
	a, err := u.Store.NotMe(ctx, tenant, token, n, now, limits...)
	notify(ctx, a.User, n, err)
	return a, err
}

func (u *recordingStore) UseCode(ctx context.Context, c account.CodeUse, now time.Time) (int, error) {
	left, err := u.Store.UseCode(ctx, c, now)
	if c.Recovery != nil {
		c.Notice.Kind = mailmsg.RecoveryUsed
		notify(ctx, c.Account.User, c.Notice, err)
	}
	return left, err
}

func (u *recordingStore) RecordSessions(ctx context.Context, list []session.Record) ([]session.Noticed, error) {
	added, err := u.Store.RecordSessions(ctx, list)
	for _, r := range list {
		if r.New != nil && (err != nil || len(added) > 0) {
			notify(ctx, "", r.New.Notice, err)
		}
	}
	return added, err
}

// failed reports whether the store has failed, so that the process must end.
func (h *harness) failed() bool { return h != nil && h.store.Err() != nil }

// exit ends the process as the serve command does after a failed commit. It must not change the
// disk.
func (h *harness) exit() error {
	before := h.fs.Image()
	if err := h.close(); err != nil {
		return err
	}
	if h.fs.Image() != before {
		return errors.New("closing a store that has failed changed the disk")
	}
	return nil
}

// close closes the store, once. On a nil harness it does nothing.
func (h *harness) close() error {
	if h == nil || h.closed {
		return nil
	}
	h.closed = true
	return h.store.Close()
}

// open starts the program on a file system. A failure of the first Flush does not prevent the start;
// it is returned as flushErr.
func open(f *crashfs.FS, now func() time.Time) (h *harness, flushErr, err error) {
	return openWith(f, now, false)
}

// openWith is open for a server that sends its messages through a relay, if relayed is set.
func openWith(
	f *crashfs.FS, now func() time.Time, relayed bool,
) (h *harness, flushErr, err error) {
	h = &harness{fs: f, issuer: captcha.NewIssuer(ring, now)}
	h.now = func() time.Time { return now().Add(h.ahead) }
	// As sqlite.Open does.
	if err := f.SyncFile(database + "-wal"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, err
	}
	f.Forget(database + "-wal")
	if h.store, err = teststore.OpenVFS(ctx, database, ring, f.VFS()); err != nil {
		return nil, nil, err
	}
	if flushErr, err = h.start(relayed); err != nil {
		h.store.Close()
		return nil, nil, err
	}
	return h, flushErr, nil
}

// newAccounts is a hook that is notified of new accounts.
var newAccounts = hook.Hook{
	ID: hook.ID{1}, Name: "new-accounts", Kind: hook.Webhook, URL: "https://hooks.test/", AllTenants: true,
	Events: []hook.EventType{hook.AccountCreated},
}

// promiseCreated returns an error unless exactly one notification reports the creation of each
// account. It claims the notifications, so it must run after the checks that need the store as the
// crash left it.
func (h *harness) promiseCreated() error {
	f, err := h.inspect()
	if err != nil {
		return err
	}
	list, err := h.store.Claim(ctx, newAccounts.ID, h.now(), h.now(), math.MaxInt32)
	created := make(map[account.UID]int)
	for _, n := range list {
		created[n.Account]++
	}
	for _, a := range f.accounts {
		if n := created[a.UID]; n != 1 {
			err = errors.Join(err, fmt.Errorf("%d notifications say that the account of %s was created", n, a.User))
		}
	}
	return err
}

func (h *harness) start(relayed bool) (flushErr, err error) {
	t, err := tenant.New(tenant.Tenant{Host: realm, PublicURL: "https://" + realm})
	if err != nil {
		return nil, err
	}
	if err := h.store.AddFirstTenant(ctx, t); err != nil {
		return nil, err
	}
	if err := h.store.AddHook(ctx, newAccounts); err != nil && !fault.Is(err, fault.Conflict) {
		return nil, err
	}
	tenants := tenant.NewTable(h.store, func(host string) string { return "https://" + host })
	if err := tenants.Refresh(ctx); err != nil {
		return nil, err
	}
	h.tenant, _ = tenants.Lookup(realm)
	if h.pickup, err = pickup.OpenOn(h.fs, outgoing); err != nil {
		return nil, err
	}
	if err := h.pickup.Clean(); err != nil {
		return nil, err
	}
	h.undo = &recordingStore{Store: h.store, failed: make(map[string]bool)}
	log := slog.New(slog.DiscardHandler)
	h.outbox = outbox.New(outbox.Deps{
		Store: h.store, Pickup: h.pickup, Tenant: tenants.ByID, SealRing: ring, Log: log, Now: h.now,
		Relayed: relayed,
	})
	h.accounts = account.NewService(account.Deps{
		Store: h.undo, Outbox: h.outbox, Captcha: func() *captcha.Issuer { return h.issuer },
		SealRing: ring, Passwords: throttle.NewPasswords(h.now), Log: log, Now: h.now,
	})
	h.newSessions()
	if err := h.outbox.Recover(ctx); err != nil {
		return nil, err
	}
	return h.outbox.Flush(ctx), nil
}

// newSessions replaces the Authenticator with one that has nothing to write. It is created on first
// use: an Authenticator has tables of 2 MB, and only a few of the thousands of starts need one. Its
// clock is ahead, so that no account counts as just activated.
func (h *harness) newSessions() {
	h.sessions = sync.OnceValue(func() *session.Authenticator {
		return session.NewAuthenticator(session.Deps{
			Accounts: h.accounts, Store: h.undo, Notices: h.accounts, Passwords: throttle.NewPasswords(h.now),
			Signatures: func() *session.Signatures { return session.NewSignatures(ring) },
			Now:        func() time.Time { return h.now().Add(session.SettlingTime) },
		})
	})
}

// request is a request of a client or an operator.
type request struct {
	// signup, activate, confirm, resend, decline, disable, enable, delete, backup, password (a change by
	// proof), reset (one by a link), forgot, link (the server made a reset link), not-me, signin,
	// end-others (the end of all other sessions), email-link, set-email, leave, stay, erase, app-on, code,
	// codes (others replace the recovery codes), app-off, passkey or passkey-off
	what string
	user string

	// The input of a signup. It is unique, so that everything found on the disk can be traced to it. A
	// forgot request has an e-mail address and an address too, an email-link has the other address, and a not-me
	// the address that its message went to.
	email        string
	form         account.Form
	proof        captcha.Proof
	addr         netip.Addr
	rightCaptcha bool
	resent       bool // whether a resend for the account was requested later

	made       time.Time // when the message of not-me was made
	aboutCodes bool      // whether it was about recovery codes

	// token is that of an activation, confirmation, reset, not-me, set-email or stay, or of the valid link before a
	// resend, or a code, or the ID of a passkey.
	token string
	app   totp.Secret // of app-on
	codes []string    // the recovery codes of app-on, and of codes, which replaces them
	// session is the token of the session that signin began, or of its continuation after end-others.
	session string

	// ha1 is that of the new password. notice is the message of a change or of a reset link, the
	// reset link of not-me, or the message about a new browser. It is zero if the store was not
	// called, or if there is no message.
	ha1    digest.HA1
	notice account.Notice

	when time.Time
	// The account after the last restart.
	base      state
	baseHA1   digest.HA1
	baseFacts ownFacts
	// facts are those of the account at their last check.
	facts ownFacts

	// The moments of the journal at which it began and ended. They are before all others if nothing
	// was recorded then.
	began, ended int
	answered     bool
	err          error
	notUndone    bool // it failed after a commit, and its undo failed at first
}

func (d *request) String() string {
	s := fmt.Sprintf("%s %s", d.what, d.user)
	if d.what == "signup" && !d.rightCaptcha {
		s += " with a wrong captcha"
	}
	return s
}

// as returns the state of a request at an earlier moment, or nil if it had not begun.
func (d *request) as(at int) *request {
	if d.began >= at {
		return nil
	}
	c := *d
	if c.answered && c.ended >= at {
		c.answered, c.err = false, nil
	}
	return &c
}

// done reports whether a request succeeded. open reports whether it is unknown if it was carried
// out, because of its answer or because there was none.
func (d *request) done() bool { return d.answered && d.err == nil }
func (d *request) open() bool {
	return !d.answered || d.err != nil && (fault.KindOf(d.err) == fault.Internal || errors.Is(d.err,
		fault.ErrInDoubt))
}

// mayRemain reports whether the changes of a request that is not done may be in place. They may if
// there was no answer, or fault.ErrInDoubt. After an internal error they must not be, not even
// after a power cut, unless they were committed and the server died before it could undo them.
// running reports that the server was not restarted since.
func (d *request) mayRemain(running bool) bool {
	switch {
	case !d.open():
		return false
	case !d.answered, errors.Is(d.err, fault.ErrInDoubt):
		return true
	default:
		return d.notUndone && !running
	}
}

// transcript records all requests and their answers, which is all that clients know.
type transcript struct {
	mu       sync.Mutex
	requests []*request
	tokens   map[string]string    // from messages, by user
	messages map[string]message   // about changes, by kind and user
	made     map[string]time.Time // when messages about changes were made, by ID
	past     map[string]bool      // addresses of accounts that no longer exist
	sent     map[string]bool      // IDs of messages about changes before the last restart
	closed   map[string]bool      // names that may be refused, since their accounts were deleted
	asked    int
}

func (t *transcript) at(moment int) *transcript {
	then := &transcript{past: maps.Clone(t.past)}
	for _, d := range t.requests {
		if c := d.as(moment); c != nil {
			then.requests = append(then.requests, c)
		}
	}
	return then
}

// key returns a text that is different for transcripts with different demands.
func (t *transcript) key() string {
	var b strings.Builder
	for _, d := range t.requests {
		fmt.Fprintf(&b, "%v %s %s %s %x %x %t %t %t %d %t %t;", d, d.email, d.token, d.session, d.proof.Nonce,
			d.notice.Token, d.answered, d.err == nil, d.open(),
			fault.KindOf(d.err), d.mayRemain(false), d.resent)
	}
	fmt.Fprint(&b, t.tokens)
	return b.String()
}

func (t *transcript) copy() *transcript {
	return &transcript{requests: slices.Clone(t.requests), tokens: t.tokens, closed: t.closed, past: t.past,
		messages: t.messages, made: maps.Clone(t.made),
		asked: t.asked}
}

// resends records at the signup that a later message counts towards the limits too.
func (t *transcript) resends(email string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, d := range t.requests {
		d.resent = d.resent || d.what == "signup" && d.email == email
	}
}

// after returns the requests about the account of a signup, until another account got its name.
func (t *transcript) after(signup *request) (list []*request) {
	for _, d := range t.requests[slices.Index(t.requests, signup)+1:] {
		if d.user == signup.user {
			if d.what == "signup" && d.done() {
				break
			}
			list = append(list, d)
		}
	}
	return list
}

// gone reports whether the account of a signup may be deleted, and whether it must be: by an
// operator, by the owner of the address, or because its link was not opened in time.
func (t *transcript) gone(signup *request, now time.Time) (may, must bool) {
	pending := t.states(signup, false)
	if !now.Before(signup.when.Truncate(time.Microsecond).Add(account.PendingLife)) {
		must = true
		for s := range pending {
			may, must = may || !s.active, must && !s.active
		}
	}
	for _, d := range t.after(signup) {
		if d.what == "delete" || d.what == "decline" {
			may, must = may || d.done() || d.mayRemain(false), must || d.done()
		}
	}
	mayErase, mustErase := t.erased(signup)
	return may || mayErase, must || mustErase
}

// tokenOf returns the token in the last message to a user, or an empty string.
func (t *transcript) tokenOf(h *harness, user string) string {
	if token := t.tokens[user]; token != "" {
		return token
	}
	f, err := h.inspect()
	if err != nil {
		return ""
	}
	for email, a := range f.accounts {
		if a.User == user {
			return f.tokens[email]
		}
	}
	return ""
}

func (t *transcript) begin(h *harness, d *request) *request {
	d.when = h.now()
	h.fs.Mark("%s begins", d)
	t.mu.Lock()
	defer t.mu.Unlock()
	d.began = h.fs.Now() - 1
	t.requests = append(t.requests, d)
	t.asked++
	return d
}

func (t *transcript) end(h *harness, d *request, err error) {
	h.fs.Mark("%s is answered: %v", d, err)
	t.mu.Lock()
	defer t.mu.Unlock()
	d.ended, d.answered, d.err = h.fs.Now()-1, !h.fs.Stopped(), err
}

func (t *transcript) serial() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.asked
}

// newSignup returns a signup that shares no limit with another. right says whether its captcha is
// answered correctly.
func newSignup(h *harness, user string, serial int, right bool) *request {
	q := h.issuer.Ask(h.tenant.ID)
	x, y, _ := strings.Cut(q.Text, " + ")
	xn, _ := strconv.Atoi(x)
	yn, _ := strconv.Atoi(y)
	if !right {
		yn++
	}
	d := &request{
		what: "signup", user: user, email: fmt.Sprintf("person%d@example.org", serial), rightCaptcha: right,
		addr: netip.AddrFrom4([4]byte{10, byte(serial >> 16), byte(serial >> 8), byte(serial)}),
		form: account.Form{
			User: user, Name: "Alex Example", HA1: digest.Compute(user, realm, password).Hex(),
			CaptchaToken: q.Token, CaptchaAnswer: strconv.Itoa(xn + yn),
		},
		baseHA1: digest.Compute(user, realm, password),
	}
	d.form.Email = d.email
	d.proof = h.issuer.Check(h.tenant.ID, q.Token, d.form.CaptchaAnswer)
	return d
}

func (t *transcript) signup(h *harness, user string, right bool) *request {
	return t.ask(h, newSignup(h, user, t.serial(), right))
}

func (t *transcript) ask(h *harness, d *request) *request {
	t.begin(h, d)
	_, err := h.accounts.Signup(ctx, h.tenant, d.form, account.Origin{Addr: d.addr})
	d.notUndone = h.undo.has("signup", d.email)
	t.end(h, d, err)
	return d
}

func (t *transcript) act(h *harness, what, user, token string) *request {
	d := t.begin(h, &request{what: what, user: user, token: token})
	var err error
	switch what {
	case "activate":
		_, err = h.accounts.Activate(ctx, h.tenant, token, account.Origin{})
	case "confirm":
		var a account.Account
		if a, err = h.store.Find(ctx, h.tenant.ID, user, h.now()); err == nil {
			_, err = h.accounts.Confirm(ctx, h.tenant, a, token, account.Origin{})
		}
	case "resend":
		var a account.Account
		if a, err = h.store.Find(ctx, h.tenant.ID, user, h.now()); err == nil {
			t.resends(a.Email)
			_, err = h.accounts.Resend(ctx, h.tenant, a, "", account.Origin{})
			d.notUndone = h.undo.has("resend", a.Email)
		}
	case "decline":
		_, err = h.accounts.Decline(ctx, h.tenant, token, account.Origin{})
	case "disable":
		_, err = h.accounts.Disable(ctx, h.tenant, user)
	case "enable":
		_, err = h.accounts.EnableNow(ctx, h.tenant, user)
	case "delete":
		if t.closed != nil {
			t.closed[user] = true
		}
		err = h.accounts.Delete(ctx, h.tenant, user)
	case "backup":
		err = h.store.BackupOn(ctx, h.fs, copied)
	}
	t.end(h, d, err)
	return d
}

// password changes the password of a user to a new one: with a proof of the present one, or with the token
// of a reset link.
func (t *transcript) password(h *harness, user, token string) *request {
	text := fmt.Sprintf("%s %d", password, t.serial())
	d := &request{what: "password", user: user, ha1: digest.Compute(user, realm, text)}
	if token != "" {
		d.what, d.token = "reset", token
	}
	t.begin(h, d)
	form := account.PasswordForm{
		HA1: d.ha1.Hex(), HA1B: digest.ComputeB(user, realm, text).Hex(),
		HA1SHA256: digest.ComputeSHA256(user, realm, text).Hex(),
	}
	ctx := withNotices(func(_ string, n account.Notice, _ error) { t.noted(d, n) })
	var err error
	if token != "" {
		_, err = h.accounts.Reset(ctx, h.tenant, token, user, form, account.Origin{})
	} else {
		var a account.Account
		if a, err = h.store.Find(ctx, h.tenant.ID, user, h.now()); err == nil {
			_, err = h.accounts.ChangePassword(ctx, h.tenant, a, form, account.Origin{})
		}
	}
	t.end(h, d, err)
	return d
}

// signIn signs a user in with a new browser in a network of its own, and writes the session's record.
func (t *transcript) signIn(h *harness, user string) *request {
	serial := t.serial()
	d := t.begin(h, &request{what: "signin", user: user})
	a, err := h.store.Find(ctx, h.tenant.ID, user, h.now())
	if err == nil {
		var g session.Grant
		from := account.Origin{Addr: netip.AddrFrom4([4]byte{12, byte(serial >> 8), byte(serial), 1})}
		g, err = h.sessions().SignIn(ctx, h.tenant, a, "", from, session.ByPassword)
		d.session = g.Session
	}
	if err == nil {
		ctx := withNotices(func(_ string, n account.Notice, _ error) { t.noted(d, n) })
		if err = h.sessions().Flush(ctx); err != nil {
			h.newSessions() // what could not be written is no longer tried
		}
	}
	t.end(h, d, err)
	return d
}

// endOthers ends all sessions of a user but the one with a token.
func (t *transcript) endOthers(h *harness, user, token string) *request {
	d := t.begin(h, &request{what: "end-others", user: user, token: token})
	next, err := h.sessions().EndOthers(ctx, h.tenant, token, account.Origin{})
	d.session = next
	t.end(h, d, err)
	return d
}

// notMe opens the link in a message about a change to the account of a user.
func (t *transcript) notMe(h *harness, user string, m message) *request {
	d := t.begin(h, &request{
		what: "not-me", user: user, email: m.to, token: m.token, made: t.made[m.id], aboutCodes: m.aboutCodes,
	})
	ctx := withNotices(func(_ string, n account.Notice, _ error) { t.noted(d, n) })
	_, _, err := h.accounts.NotMe(ctx, h.tenant, m.token, account.Origin{})
	t.end(h, d, err)
	return d
}

// linkTo returns the token in the message of a kind to a user, or "".
func (t *transcript) linkTo(h *harness, user string, kind mailmsg.Kind) string {
	return t.messageTo(h, user, kind).token
}

// messageTo returns a message of a kind to a user, or zero.
func (t *transcript) messageTo(h *harness, user string, kind mailmsg.Kind) message {
	if m, ok := t.messages[string(kind)+" "+user]; ok {
		return m
	}
	f, err := h.inspect()
	if err != nil {
		return message{}
	}
	for _, m := range f.changes {
		if a := f.accounts[signupAddress(m.to)]; a.User == user && m.kind == kind {
			return m
		}
	}
	return message{}
}

// noted records the message of a change.
func (t *transcript) noted(d *request, n account.Notice) {
	t.mu.Lock()
	defer t.mu.Unlock()
	d.notice = n
	if t.made == nil {
		t.made = make(map[string]time.Time)
	}
	t.made[n.Message.String()] = n.Made
}

// forgot makes the owner of an address request a new password, and the server look for the account.
// Another account may get the user name later, but not the address.
func (t *transcript) forgot(h *harness, user, email string) {
	serial := t.serial()
	d := t.begin(h, &request{
		what: "forgot", user: user, email: email,
		addr: netip.AddrFrom4([4]byte{11, byte(serial >> 8), byte(serial), 1}), // a network of its own
	})
	err := h.accounts.Forgot(ctx, h.tenant, email, account.Origin{Addr: d.addr})
	t.end(h, d, err)
	t.serveForgotten(h)
}

// serveForgotten sends reset links to those who requested one. Each is a separate request, since
// those who request a link are answered earlier.
func (t *transcript) serveForgotten(h *harness) error {
	var d *request
	ctx := withNotices(func(user string, n account.Notice, err error) {
		if errors.Is(err, errNotAnswered) {
			d = t.begin(h, &request{what: "link", user: user, notice: n})
		} else {
			t.end(h, d, err)
		}
	})
	return h.accounts.ServeForgotten(ctx, func(int64) (*tenant.Tenant, bool) { return h.tenant, true })
}

// linked returns the account of a valid link.
func (h *harness) linked(token string) (account.Account, error) {
	parsed, ok := secret.ParseToken(token)
	if !ok {
		return account.Account{}, fault.New(fault.NotFound, "no link")
	}
	return h.store.Linked(ctx, h.tenant.ID, h.store.LinkHash(parsed), h.now())
}

// found is the state of the store and the pickup directory.
type found struct {
	accounts map[string]account.Account // by the e-mail address that they signed up with
	tokens   map[string]string          // of activation messages that were not replaced, by address
	changes  map[string]message         // the messages about changes, by ID
	stray    []string                   // other files in the pickup directory
}

func (h *harness) inspect() (*found, error) {
	f := &found{
		accounts: make(map[string]account.Account), tokens: make(map[string]string),
		changes: make(map[string]message),
	}
	if err := h.store.List(ctx, h.tenant.ID, h.now(), func(a account.Account) error {
		f.accounts[signupAddress(a.Email)] = a
		return nil
	}); err != nil {
		return nil, err
	}
	entries, err := h.fs.List(outgoing)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if path.Ext(e.Name()) != ".eml" {
			f.stray = append(f.stray, e.Name())
			continue
		}
		m, err := readMessage(h.fs, path.Join(outgoing, e.Name()))
		if err != nil {
			return nil, fmt.Errorf("message %s is not complete: %w", e.Name(), err)
		}
		if m.kind != mailmsg.Activation {
			f.changes[m.id] = m
			continue
		}
		if t, ok := secret.ParseToken(m.token); ok {
			_, err := h.store.Linked(ctx, h.tenant.ID, h.store.LinkHash(t), h.now())
			if errors.Is(err, account.ErrReplaced) {
				continue
			}
		}
		if f.tokens[m.to] != "" {
			return nil, fmt.Errorf("there are two messages to %s that were not replaced", m.to)
		}
		f.tokens[m.to] = m.token
	}
	return f, nil
}

// message is a complete message.
type message struct {
	id, to, token string
	kind          mailmsg.Kind
	aboutCodes    bool // recovery codes were used or replaced
}

func readMessage(f *crashfs.FS, p string) (message, error) {
	b, err := f.ReadFile(p)
	if err != nil {
		return message{}, err
	}
	read, err := mail.ReadMessage(bytes.NewReader(b))
	if err != nil {
		return message{}, err
	}
	m := message{id: strings.TrimSuffix(path.Base(p), ".eml"), to: read.Header.Get("To")}
	if got, want := read.Header.Get("Message-Id"), "<"+m.id+"@"+realm+">"; got != want {
		return m, fmt.Errorf("Message-ID %q, want %q", got, want)
	}
	text, err := mailmsg.Text(read)
	if err != nil {
		return m, err
	}
	for kind, before := range map[mailmsg.Kind]string{
		mailmsg.Activation: "/activate.ashx?token=", mailmsg.Reset: "/reset.html?token=",
		mailmsg.PasswordChanged: "/not-me.html?token=", mailmsg.NewBrowser: "/not-me.html?token=",
		mailmsg.EmailChanged: "/not-me.html?token=", mailmsg.FactorChanged: "/not-me.html?token=",
		mailmsg.ConfirmEmail: "/confirm-email.html?token=", mailmsg.Leaving: "/stay.html?token=",
		mailmsg.RecoveryUsed: "/not-me.html?token=",
	} {
		if !isOwnKind(kind, read.Header.Get("Subject")) {
			continue
		}
		_, rest, found := strings.Cut(text, before)
		if !found {
			continue
		}
		m.kind = kind
		m.aboutCodes = strings.Contains(read.Header.Get("Subject"), "recovery code")
		m.token, rest, _ = strings.Cut(rest, "\n")
		end := ".\n"
		if kind == mailmsg.Activation {
			end = "/decline.html?link=" + m.token + "\n"
		}
		if _, ok := secret.ParseToken(m.token); ok && strings.HasSuffix(rest, end) {
			return m, nil
		}
	}
	return m, errors.New("the text is not complete")
}

// promise returns an error for every difference between the state and what the transcript demands.
// running reports that the server did not crash or restart since the requests.
func (h *harness) promise(t *transcript, running bool) error {
	return h.promiseWith(t, running, mailbox{})
}

// mailbox holds the messages that a mail server has taken.
type mailbox struct {
	tokens  map[string]string  // of activation messages, by address
	changes map[string]message // the messages about changes, by ID
}

// promiseWith is promise with messages that a mail server has taken.
func (h *harness) promiseWith(t *transcript, running bool, delivered mailbox) error {
	f, err := h.inspect()
	if err != nil {
		return err
	}
	maps.Copy(f.tokens, delivered.tokens)
	maps.Copy(f.changes, delivered.changes)
	var faults []error
	wrong := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if len(f.stray) > 0 && !running {
		wrong("files left in the pickup directory: %q", f.stray)
	}
	if rows, err := h.store.Pending(ctx); err != nil {
		return err
	} else if len(rows) > 0 {
		wrong("%d outbox entries are left", len(rows))
	}
	emails := make(map[string]bool)
	changes := maps.Clone(t.sent)
	if changes == nil {
		changes = make(map[string]bool)
	}
	for _, d := range t.requests {
		switch d.what {
		case "signin", "email-link", "set-email", "leave", "app-on", "app-off", "code", "codes", "passkey",
			"passkey-off":
			changes[d.notice.Message.String()] = true
			if d.notice.Kind != "" {
				h.promiseMessage(d, f, running, wrong)
			}
		case "password", "reset", "link":
			changes[d.notice.Message.String()] = true
			h.promiseMessage(d, f, running, wrong)
		case "forgot":
			h.promiseForgotten(t, d, f, wrong)
		case "signup":
			emails[d.email] = true
			h.promiseSignup(t, d, f, running, wrong)
		case "backup":
			h.promiseBackup(t, d, running, wrong)
		}
	}
	for email := range maps.Keys(f.accounts) {
		if !emails[email] {
			wrong("there is an account of %s without a signup", email)
		}
	}
	for email := range maps.Keys(f.tokens) {
		if _, ok := f.accounts[email]; !ok && !t.past[email] {
			wrong("there is a message to %s without an account", email)
		}
	}
	for id, m := range f.changes {
		if !changes[id] {
			wrong("there is a message %s to %s without a change", m.kind, m.to)
		}
	}
	return errors.Join(faults...)
}

// promiseMessage checks that a change that succeeded has a message, and that one that failed has
// none. If the outcome is not known, promisePassword checks that the message exists if the change
// does.
func (h *harness) promiseMessage(d *request, f *found, running bool, wrong func(string, ...any)) {
	m, there := f.changes[d.notice.Message.String()]
	switch {
	case d.done() && !there:
		wrong("%s succeeded, but there is no message", d)
	case !d.done() && !d.mayRemain(running) && there:
		wrong("%s was answered %v, but there is a message", d, d.err)
	case there && m.kind != d.notice.Kind:
		wrong("the message of %s is a %q", d, m.kind)
	}
}

// promiseForgotten checks that the server remembers for a day who requested a reset link and has
// not received one. After that, a sweep forgets them.
func (h *harness) promiseForgotten(t *transcript, d *request, f *found, wrong func(string, ...any)) {
	handled := slices.ContainsFunc(t.after(d), func(later *request) bool {
		_, message := f.changes[later.notice.Message.String()]
		return later.what == "link" && (message || !later.open()) ||
			slices.Contains([]string{"disable", "delete", "leave", "set-email", "not-me"}, later.what)
	})
	late := !h.now().Before(d.when.Add(throttle.Longest))
	if _, there := f.accounts[signupAddress(d.email)]; !d.done() || handled || late || !there {
		return
	}
	rows, err := h.store.Forgotten(ctx, 0, 1000)
	if err != nil {
		wrong("%s: read the rows: %v", d, err)
	} else if !slices.ContainsFunc(rows, func(r account.Forgotten) bool { return r.Net == audit.Network(d.addr) }) {
		wrong("%s succeeded and was not handled, but there is no row", d)
	}
}

// promisePassword checks that the credential of a signup's account is that of its last change, and
// that a change or a reset link whose outcome is not known exists if and only if its message does.
func (h *harness) promisePassword(
	t *transcript, signup *request, a account.Account, f *found, running bool, wrong func(string, ...any),
) {
	c, err := h.accounts.Credential(a)
	if err != nil {
		wrong("%s: the credential does not open: %v", signup, err)
		return
	}
	possible := []digest.HA1{signup.baseHA1}
	var last *request
	for _, d := range t.after(signup) {
		switch {
		case d.what != "password" && d.what != "reset" && d.what != "link":
		case d.done() && d.what != "link":
			possible, last = []digest.HA1{d.ha1}, nil
		case d.done():
			last = nil
		case d.mayRemain(running):
			if d.what != "link" {
				possible = append(possible, d.ha1)
			}
			last = d
		}
	}
	if !slices.Contains(possible, c.HA1) {
		wrong("the account of %s does not have the password of its last change", signup.user)
	}
	if last == nil || last.notice.Message == (mailmsg.ID{}) || !h.now().Before(last.notice.Until) {
		return
	}
	there := c.HA1 == last.ha1
	if last.what == "link" {
		_, _, err := h.store.ResetLink(ctx, h.tenant.ID, last.notice.Token, h.now())
		if there = err == nil; !there && !errors.Is(err, account.ErrLinkUsed) {
			wrong("%s: read the link: %v", last, err)
		}
	}
	_, message := f.changes[last.notice.Message.String()]
	if there != message && !(last.what == "link" && a.Held) {
		wrong("%s was answered %v: change %t, message %t", last, last.err, there, message)
	}
}

// began is a session, with whether it may be valid, and whether it must be.
type began struct {
	request   *request
	may, must bool
}

// promiseSessions checks that the sessions of a signup's account are valid until they were ended,
// that the record of one that began with a new browser exists if and only if the message does, and
// that what "not me" does happened completely or not at all.
func (h *harness) promiseSessions(
	t *transcript, signup *request, a account.Account, f *found, running bool, wrong func(string, ...any),
) {
	defer h.newSessions() // so that no later request records the use of the sessions by this check
	var list []began
	var notMe *request // the last one whose reset link nothing has replaced since
	var before []began // its sessions, as they were before
	for _, d := range t.after(signup) {
		if !d.done() && !d.mayRemain(running) && d.what != "signin" {
			continue
		}
		switch d.what {
		case "password", "reset", "not-me", "end-others", "disable", "delete", "decline", "leave", "app-on",
			"passkey-off":
			if d.what == "not-me" {
				notMe, before = d, slices.Clone(list)
			} else if d.what != "password" {
				notMe = nil
			}
			for i := range list {
				list[i].may, list[i].must = list[i].may && !d.done(), false
			}
		}
		if d.session != "" { // a session is valid whether or not it has a record
			list = append(list, began{d, true, d.what == "signin" || d.done()})
		}
	}
	records, err := h.store.Sessions(ctx, a.UID, a.Epoch, h.now())
	if err != nil {
		wrong("%s: list the sessions: %v", signup, err)
	}
	messages := 0
	for _, m := range f.changes {
		if m.kind == mailmsg.NewBrowser && signupAddress(m.to) == signup.email {
			messages++
		}
	}
	for _, s := range list {
		d, counts := s.request, h.counts(s.request, wrong)
		switch {
		case counts && !s.may:
			wrong("the session of %s counts after it was ended", d)
		case !counts && s.must && !a.Disabled && h.now().Sub(d.when) < session.Idle:
			wrong("the session of %s does not count", d)
		}
		if d.what != "signin" || !s.must || a.Disabled || h.now().Sub(d.when) >= session.Idle-session.SettlingTime {
			continue
		}
		network := "12." // of signIn
		listed := slices.ContainsFunc(records, func(r session.Record) bool {
			return r.Net == d.notice.Net && strings.HasPrefix(r.Net, network)
		})
		_, message := f.changes[d.notice.Message.String()]
		switch {
		case d.notice.Kind == "" || messages >= session.MaxNotices: // no message, or perhaps none
		case d.done() && !listed:
			wrong("%s succeeded, but has no record", d)
		case !d.done() && listed != message:
			wrong("%s was answered %v: record %t, message %t", d, d.err, listed, message)
		}
	}
	if notMe == nil || notMe.notice.Kind == "" || a.Disabled || !h.now().Before(notMe.notice.Until) {
		return
	}
	_, _, err = h.store.ResetLink(ctx, h.tenant.ID, notMe.notice.Token, h.now())
	there := err == nil
	if !there && !errors.Is(err, account.ErrLinkUsed) {
		wrong("%s: read the link: %v", notMe, err)
	}
	if notMe.done() && !there {
		wrong("%s succeeded, but there is no reset link", notMe)
	}
	for _, s := range before {
		if s.must && notMe.mayRemain(running) && h.now().Sub(s.request.when) < session.Idle &&
			h.counts(s.request, wrong) == there {
			wrong("%s was answered %v: reset link %t, but the session of %s does not agree", notMe, notMe.err, there,
				s.request)
		}
	}
}

// counts reports whether the session of a request is valid.
func (h *harness) counts(d *request, wrong func(string, ...any)) bool {
	_, err := h.sessions().SignedIn(ctx, h.tenant, d.session, account.Origin{})
	if err != nil && !errors.Is(err, session.ErrDenied) {
		wrong("%s: read the session: %v", d, err)
	}
	return err == nil
}

func (h *harness) promiseSignup(t *transcript, d *request, f *found, running bool, wrong func(string, ...any)) {
	a, there := f.accounts[d.email]
	_, message := f.tokens[d.email]
	mayGo, mustGo := t.gone(d, h.now())
	if mustGo && there {
		wrong("%s: the account was deleted and exists", d)
	}
	if mayGo && !there {
		if t.past != nil {
			t.past[d.email] = true
		}
		return
	}
	// The undo of a signup leaves an account that an operator has enabled, or that has a new link.
	owned := slices.ContainsFunc(t.after(d), func(later *request) bool {
		return (later.what == "enable" || later.what == "resend") && later.done()
	})
	possible := d.rightCaptcha && (d.done() || owned || d.mayRemain(running))
	switch {
	case d.done() && !there:
		wrong("%s succeeded, but there is no account", d)
	case there && !possible:
		wrong("%s was answered %v, but there is an account", d, d.err)
	case there != message:
		wrong("%s: account %t, message %t", d, there, message)
	}
	// A signup for a taken name is refused. It spends the captcha, even if the answer is lost.
	refused := t.closed[d.user]
	for _, a := range f.accounts {
		refused = refused || a.User == d.user && a.Email != d.email
	}
	spent, _, err := h.store.Revoked(ctx, account.UID{}, d.proof.Nonce, d.proof.Expires)
	kind := fault.KindOf(d.err)
	switch {
	case err != nil:
		wrong("%s: read the captcha: %v", d, err)
	case !h.now().Before(d.proof.Expires): // an expired captcha need not be stored
	case d.rightCaptcha && d.open() && spent != there && !(refused && !running):
		wrong("%s: account %t, captcha spent %t", d, there, spent)
	case d.answered && (d.err == nil || kind == fault.Captcha || kind == fault.Conflict) && !spent:
		wrong("%s was answered %v, but its captcha is not spent", d, d.err)
	case d.open() && !d.mayRemain(running) && spent && !owned:
		wrong("%s was answered %v, but its captcha is spent", d, d.err)
	}
	buckets := throttle.NewBuckets(ring)
	for _, al := range append(buckets.Signup(h.tenant.ID, d.addr),
		throttle.Allowance{Bucket: buckets.Of("message", h.tenant.ID, account.RecipientKey(d.email)),
			Rule: throttle.MessagesPerRecipient},
		throttle.Allowance{Bucket: buckets.Of("message", 0, account.RecipientKey(d.email)),
			Rule: throttle.MessagesPerPerson}) {
		counts := h.now().Sub(d.when) < al.Rule.Per
		later := d.resent && al.Rule.Per == throttle.MessagesPerRecipient.Per
		if taken := h.taken(al); taken != (there && counts) && !(taken && later) {
			wrong("%s: account %t, counted towards the limit %t", d, there, taken)
		}
	}
	if !there {
		return
	}
	h.promisePassword(t, d, a, f, running, wrong)
	h.promiseSessions(t, d, a, f, running, wrong)
	h.promiseOwn(t, d, a, f, running, wrong)
	var last *request
	for _, r := range t.after(d) {
		if r.what == "resend" && !(r.answered && r.err != nil && !r.open()) {
			last = r
		}
	}
	if last != nil && a.Pending() && last.token != "" { // which is empty if the disk failed when it was read
		switch kept := f.tokens[d.email] == last.token; {
		case last.done() && kept:
			wrong("%s succeeded, but the older link is valid", last)
		case last.err != nil && !last.mayRemain(running) && !kept:
			wrong("%s was answered %v, but the older link is not valid", last, last.err)
		}
	}
	states := t.states(d, running)
	if got := stateOf(a); !states[got] {
		wrong("the account of %s is %v, want one of %v", d.user, got, states)
	}
}

// promiseBackup checks that a file with the name of a backup is a complete backup of everything
// that succeeded before it began.
func (h *harness) promiseBackup(t *transcript, d *request, running bool, wrong func(string, ...any)) {
	if !slices.Contains(h.fs.Files(), copied) {
		if d.done() {
			wrong("the backup succeeded, but there is no file")
		}
		return
	}
	kept := slices.ContainsFunc(h.fs.Journal(), func(op crashfs.Op) bool {
		return op.Kind == crashfs.Remove && op.Path == copied && op.Err != nil
	})
	if running && d.answered && d.err != nil && !kept {
		wrong("the backup was answered %v, but there is a file", d.err)
	}
	s, err := teststore.OpenVFS(ctx, copied, ring, h.fs.VFS())
	if err != nil {
		wrong("the copy does not open: %v", err)
		return
	}
	defer s.Close()
	has := make(map[string]bool)
	err = s.List(ctx, h.tenant.ID, h.now(), func(a account.Account) error {
		has[a.Email] = true
		return nil
	})
	if err := errors.Join(err, s.Consistent(ctx, func(what string) { wrong("the copy: %s", what) })); err != nil {
		wrong("the copy cannot be read: %v", err)
	}
	for _, before := range t.requests[:slices.Index(t.requests, d)] {
		if before.what == "signup" && before.done() && !has[before.email] {
			wrong("the copy has no account of %s, which succeeded before it", before)
		}
	}
}

// taken reports whether anything counts towards a limit, by a request under the same limit of one.
func (h *harness) taken(al throttle.Allowance) bool {
	al.Rule.Limit = 1
	err := h.store.Create(ctx, account.Signup{Address: []throttle.Allowance{al}}, h.now())
	return fault.KindOf(err) == fault.Limited
}

// state is the state of an account.
type state struct{ active, held, confirmed, leaving bool }

func stateOf(a account.Account) state {
	return state{!a.Pending(), a.Held, !a.Confirmed.IsZero(), a.State() == account.Leaving}
}

// states returns the states that the account of a signup may be in.
func (t *transcript) states(signup *request, running bool) map[state]bool {
	now := map[state]bool{signup.base: true}
	for _, d := range t.after(signup) {
		var step func(state) state
		free := func(s state) state {
			if s.leaving {
				s.held, s.leaving = false, false
			}
			return s
		}
		switch d.what {
		case "activate":
			step = func(s state) state { s.active = s.active || !s.held; return s }
		case "confirm":
			step = func(s state) state {
				s.active, s.confirmed = s.active || !s.held, s.confirmed || !s.held
				return s
			}
		case "reset":
			step = func(s state) state {
				s = free(s)
				s.confirmed = s.confirmed || s.active && !s.held
				return s
			}
		case "set-email":
			step = func(s state) state { s.confirmed = s.confirmed || s.active && !s.held; return s }
		case "disable":
			step = func(s state) state { s.held, s.leaving = true, false; return s }
		case "enable":
			step = func(s state) state { return state{true, false, s.confirmed, false} }
		case "leave":
			step = func(s state) state {
				if s.active && !s.held {
					s.held, s.leaving = true, true
				}
				return s
			}
		case "stay", "not-me":
			step = free
		default:
			continue
		}
		next := make(map[state]bool)
		for s := range now {
			if d.done() || d.mayRemain(running) {
				next[step(s)] = true
			}
			if !d.done() {
				next[s] = true
			}
		}
		now = next
	}
	return now
}

// use makes the requests that people make next, and checks that they work: those without an answer
// send the same form again, and all open their links. The harness cannot be used afterwards.
func (h *harness) use(t *transcript) error {
	f, err := h.inspect()
	if err != nil {
		return err
	}
	users := make(map[string]bool)
	for _, a := range f.accounts {
		users[a.User] = true
	}
	for _, d := range t.requests {
		if d.what == "signup" && d.rightCaptcha && d.open() && !users[d.user] {
			users[d.user] = true
			if _, err := h.accounts.Signup(ctx, h.tenant, d.form, account.Origin{Addr: d.addr}); err != nil {
				return fmt.Errorf("%s failed and cannot be sent again: %w", d, err)
			}
		}
	}
	if err := h.useCodes(t); err != nil {
		return err
	}
	for _, d := range t.requests {
		if d.what != "not-me" {
			continue
		}
		_, _, there := h.store.ResetLink(ctx, h.tenant.ID, d.notice.Token, h.now())
		_, _, err := h.accounts.NotMe(ctx, h.tenant, d.token, account.Origin{})
		if used := errors.Is(err, account.ErrLinkUsed); err != nil && !used || used != (there == nil) {
			return fmt.Errorf("%s was answered %v, and left a reset link (%v); again: %v", d, d.err, there, err)
		}
	}
	for _, d := range t.requests {
		if d.what != "resend" || !d.open() {
			continue
		}
		a, err := h.store.Find(ctx, h.tenant.ID, d.user, h.now())
		if err == nil && a.Pending() && !a.Held {
			if _, err := h.accounts.Resend(ctx, h.tenant, a, "", account.Origin{}); err != nil {
				return fmt.Errorf("%s failed and cannot be repeated: %w", d, err)
			}
		}
	}
	if f, err = h.inspect(); err != nil {
		return err
	}
	for email, token := range f.tokens {
		before, ok := f.accounts[email]
		if !ok {
			continue
		}
		a, err := h.accounts.Activate(ctx, h.tenant, token, account.Origin{})
		switch {
		case before.Held && errors.Is(err, account.ErrHeld),
			!before.Held && !before.Pending() && errors.Is(err, account.ErrActive):
		case before.Held || !before.Pending() || err != nil || a.UID != before.UID || a.Disabled:
			return fmt.Errorf("the link of %s: %v", before.User, err)
		}
	}
	return nil
}
