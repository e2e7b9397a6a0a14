package durability

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net/mail"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/captcha"
	"dialtone/internal/digest"
	"dialtone/internal/fault"
	"dialtone/internal/mail/pickup"
	"dialtone/internal/mailmsg"
	"dialtone/internal/outbox"
	"dialtone/internal/secret"
	"dialtone/internal/store"
	"dialtone/internal/tenant"
	"dialtone/internal/test/crashfs"
	"dialtone/internal/test/teststore"
	"dialtone/internal/throttle"
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
	fs     *crashfs.FS
	store  *store.Store
	box    *pickup.Dir
	desk   *account.Service
	outbox *outbox.Outbox
	tenant *tenant.Tenant
	issuer *captcha.Issuer
	now    func() time.Time
	closed bool
	undo   *undoing
}

// undoing is a store that remembers which messages' accounts and links could not be taken back at
// once. Their requests were answered with an error, and a crash may leave them as they are.
type undoing struct {
	*store.Store
	mu     sync.Mutex
	failed map[string]bool // by "signup" or "resend", and e-mail address
}

func (u *undoing) note(what, email string, err error) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.failed[what+" "+email] = u.failed[what+" "+email] || err != nil
	return err
}

func (u *undoing) has(what, email string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.failed[what+" "+email]
}

func (u *undoing) Undo(ctx context.Context, a account.Signup, now time.Time) error {
	return u.note("signup", a.Account.Email, u.Store.Undo(ctx, a, now))
}

func (u *undoing) UndoResend(ctx context.Context, r account.LinkReplacement, now time.Time) error {
	return u.note("resend", r.Account.Email, u.Store.UndoResend(ctx, r, now))
}

// failed reports whether the store wants the process to end.
func (h *harness) failed() bool { return h != nil && h.store.Err() != nil }

// exit ends the process as the serve command does after a failed commit. Nothing on the disk
// changes by it.
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

// open starts the program on a file system. Where the pickup directory is in trouble it starts all
// the same, and tended is that trouble.
func open(f *crashfs.FS, now func() time.Time) (h *harness, tended, err error) {
	return openWith(f, now, false)
}

// openWith is open for a server that may send its messages by a relay.
func openWith(
	f *crashfs.FS, now func() time.Time, relayed bool,
) (h *harness, tended, err error) {
	h = &harness{fs: f, now: now, issuer: captcha.NewIssuer(ring, now)}
	// As sqlite.Open does.
	if err := f.SyncFile(database + "-wal"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, err
	}
	f.Forget(database + "-wal")
	if h.store, err = teststore.OpenVFS(ctx, database, ring, f.VFS()); err != nil {
		return nil, nil, err
	}
	if tended, err = h.start(relayed); err != nil {
		h.store.Close()
		return nil, nil, err
	}
	return h, tended, nil
}

func (h *harness) start(relayed bool) (tended, err error) {
	t, err := tenant.New(tenant.Tenant{Host: realm, PublicURL: "https://" + realm})
	if err != nil {
		return nil, err
	}
	if err := h.store.AddFirstTenant(ctx, t); err != nil {
		return nil, err
	}
	tenants := tenant.NewTable(h.store, func(host string) string { return "https://" + host })
	if err := tenants.Refresh(ctx); err != nil {
		return nil, err
	}
	h.tenant, _ = tenants.Lookup(realm)
	if h.box, err = pickup.OpenOn(h.fs, outgoing); err != nil {
		return nil, err
	}
	if err := h.box.Clean(); err != nil {
		return nil, err
	}
	h.undo = &undoing{Store: h.store, failed: make(map[string]bool)}
	log := slog.New(slog.DiscardHandler)
	h.outbox = outbox.New(outbox.Deps{
		Store: h.store, Pickup: h.box, Tenant: tenants.ByID, SealRing: ring, Log: log, Now: h.now,
		Relayed: relayed,
	})
	h.desk = account.NewService(account.Deps{
		Store: h.undo, Outbox: h.outbox, Captcha: func() *captcha.Issuer { return h.issuer },
		SealRing: ring, Log: log, Now: h.now,
	})
	if err := h.outbox.Recover(ctx); err != nil {
		return nil, err
	}
	return h.outbox.Flush(ctx), nil
}

// request is something that a client asked for, or an operator.
type request struct {
	what string // signup, activate, confirm, resend, disable, enable, delete, backup
	user string

	// Of a signup: what it was asked with, each its own, so that what is found can be traced to it.
	email        string
	form         account.Form
	proof        captcha.Proof
	addr         netip.Addr
	rightCaptcha bool
	resent       bool // whether a later message for the account was asked for

	token string // of an activation or a confirmation, and of the link that counted before a resend

	when time.Time
	base state // of the account after the last restart

	// When it was asked and answered, as moments of the journal; before all of them where it was
	// not recorded.
	began, ended int
	answered     bool
	err          error
	notUndone    bool // it failed, and what was saved of it could not be taken back at once
}

func (d *request) String() string {
	s := fmt.Sprintf("%s %s", d.what, d.user)
	if d.what == "signup" && !d.rightCaptcha {
		s += " with a wrong captcha"
	}
	return s
}

// as is a request as one saw it at an earlier moment.
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

// done reports whether a request was answered with success, and open whether its answer does not
// say if it was carried out.
func (d *request) done() bool { return d.answered && d.err == nil }
func (d *request) open() bool {
	return !d.answered || d.err != nil && (fault.KindOf(d.err) == fault.Internal || errors.Is(d.err,
		fault.ErrInDoubt))
}

// mayRemain reports whether something may be there of a request that was not done. Of one that was
// answered with fault.ErrInDoubt it may be, and of one that was not answered. Of one that was
// answered with an error of ours nothing is, not even after a power cut, unless it had been saved
// and could not be taken back before the server died. running says that no restart came after.
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

// transcript is what was asked and answered: the only record that a person outside has.
type transcript struct {
	mu       sync.Mutex
	requests []*request
	tokens   map[string]string // that came by mail, by user
	past     map[string]bool   // addresses of accounts that went
	closed   map[string]bool   // names that may be kept from everybody, since their accounts were deleted
	asked    int
}

func (t *transcript) at(moment int) *transcript {
	then := &transcript{}
	for _, d := range t.requests {
		if c := d.as(moment); c != nil {
			then.requests = append(then.requests, c)
		}
	}
	return then
}

// key tells apart transcripts that demand different things.
func (t *transcript) key() string {
	var b strings.Builder
	for _, d := range t.requests {
		fmt.Fprintf(&b, "%v %s %s %x %t %t %t %d %t %t;", d, d.email, d.token, d.proof.Nonce, d.answered,
			d.err == nil, d.open(),
			fault.KindOf(d.err), d.mayRemain(false), d.resent)
	}
	fmt.Fprint(&b, t.tokens)
	return b.String()
}

func (t *transcript) copy() *transcript {
	return &transcript{requests: slices.Clone(t.requests), tokens: t.tokens, closed: t.closed, asked: t.asked}
}

// resends notes at the signup that a later message took a place too.
func (t *transcript) resends(email string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, d := range t.requests {
		d.resent = d.resent || d.what == "signup" && d.email == email
	}
}

// after is what was asked for about the account of a signup, until another account got its name.
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

// gone says whether the account of a signup may be gone, and whether it must be: by an operator, or
// since nobody opened its link in time.
func (t *transcript) gone(signup *request, now time.Time) (may, must bool) {
	pending := t.states(signup, false)
	if !now.Before(signup.when.Truncate(time.Microsecond).Add(account.PendingLife)) {
		must = true
		for s := range pending {
			may, must = may || !s.active, must && !s.active
		}
	}
	for _, d := range t.after(signup) {
		if d.what == "delete" {
			may, must = may || d.done() || d.mayRemain(false), must || d.done()
		}
	}
	return may, must
}

// tokenOf is the token that a user got.
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
	h.fs.Mark("%s is asked for", d)
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

// newSignup is a signup with everything its own.
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
	_, err := h.desk.Signup(ctx, h.tenant, d.form, account.Origin{Addr: d.addr})
	d.notUndone = h.undo.has("signup", d.email)
	t.end(h, d, err)
	return d
}

func (t *transcript) act(h *harness, what, user, token string) *request {
	d := t.begin(h, &request{what: what, user: user, token: token})
	var err error
	switch what {
	case "activate":
		_, err = h.desk.Activate(ctx, h.tenant, token, account.Origin{})
	case "confirm":
		var a account.Account
		if a, err = h.store.Find(ctx, h.tenant.ID, user, h.now()); err == nil {
			_, err = h.desk.Confirm(ctx, h.tenant, a, token, account.Origin{})
		}
	case "resend":
		var a account.Account
		if a, err = h.store.Find(ctx, h.tenant.ID, user, h.now()); err == nil {
			t.resends(a.Email)
			_, err = h.desk.Resend(ctx, h.tenant, a, "", account.Origin{})
			d.notUndone = h.undo.has("resend", a.Email)
		}
	case "disable":
		_, err = h.desk.Disable(ctx, h.tenant, user)
	case "enable":
		_, err = h.desk.Enable(ctx, h.tenant, user)
	case "delete":
		if t.closed != nil {
			t.closed[user] = true
		}
		err = h.desk.Delete(ctx, h.tenant, user)
	case "backup":
		err = h.store.BackupOn(ctx, h.fs, copied)
	}
	t.end(h, d, err)
	return d
}

// linked is the account of a link that counts.
func (h *harness) linked(token string) (account.Account, error) {
	parsed, ok := secret.ParseToken(token)
	if !ok {
		return account.Account{}, fault.New(fault.NotFound, "no link")
	}
	return h.store.Linked(ctx, h.tenant.ID, parsed.Hash(), h.now())
}

// found is what is there.
type found struct {
	accounts map[string]account.Account // by e-mail address
	tokens   map[string]string          // of the messages that no newer one has replaced, by the address they go to
	stray    []string                   // other files in the pickup directory
}

func (h *harness) inspect() (*found, error) {
	f := &found{accounts: make(map[string]account.Account), tokens: make(map[string]string)}
	if err := h.store.List(ctx, h.tenant.ID, h.now(), func(a account.Account) error {
		f.accounts[a.Email] = a
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
		to, token, err := readMessage(h.fs, path.Join(outgoing, e.Name()))
		if err != nil {
			return nil, fmt.Errorf("message %s is not whole: %w", e.Name(), err)
		}
		if t, ok := secret.ParseToken(token); ok {
			if _, err := h.store.Linked(ctx, h.tenant.ID, t.Hash(), h.now()); err == account.ErrReplaced {
				continue
			}
		}
		if f.tokens[to] != "" {
			return nil, fmt.Errorf("two messages to %s, and neither is replaced", to)
		}
		f.tokens[to] = token
	}
	return f, nil
}

func readMessage(f *crashfs.FS, p string) (to, token string, err error) {
	b, err := f.ReadFile(p)
	if err != nil {
		return "", "", err
	}
	m, err := mail.ReadMessage(bytes.NewReader(b))
	if err != nil {
		return "", "", err
	}
	if want := "<" + strings.TrimSuffix(path.Base(p),
		".eml") + "@" + realm + ">"; m.Header.Get("Message-Id") != want {
		return "", "", fmt.Errorf("Message-ID %q, want %q", m.Header.Get("Message-Id"), want)
	}
	text, err := mailmsg.Text(m)
	if err != nil {
		return "", "", err
	}
	_, rest, _ := strings.Cut(text, "/activate.ashx?token=")
	token, rest, _ = strings.Cut(rest, "\n")
	if _, ok := secret.ParseToken(token); !ok || !strings.HasSuffix(rest, "deleted on that day.\n") {
		return "", "", errors.New("the text is not whole")
	}
	return m.Header.Get("To"), token, nil
}

// promise reports where the state breaks the promise, given what was asked and answered. running
// says that no crash or restart was in between.
func (h *harness) promise(t *transcript, running bool) error { return h.promiseWith(t, running, nil) }

// promiseWith counts messages as there that a mail agent took.
func (h *harness) promiseWith(t *transcript, running bool, delivered map[string]string) error {
	f, err := h.inspect()
	if err != nil {
		return err
	}
	maps.Copy(f.tokens, delivered)
	var faults []error
	wrong := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if len(f.stray) > 0 && !running {
		wrong("files left in the pickup directory: %q", f.stray)
	}
	if rows, err := h.store.Pending(ctx); err != nil {
		return err
	} else if len(rows) > 0 {
		wrong("%d messages are still to be made safe", len(rows))
	}
	emails := make(map[string]bool)
	for _, d := range t.requests {
		switch d.what {
		case "signup":
			emails[d.email] = true
			h.promiseSignup(t, d, f, running, wrong)
		case "backup":
			h.promiseBackup(t, d, running, wrong)
		}
	}
	for email := range maps.Keys(f.accounts) {
		if !emails[email] {
			wrong("an account of %s that nobody asked for", email)
		}
	}
	for email := range maps.Keys(f.tokens) {
		if _, ok := f.accounts[email]; !ok && !t.past[email] {
			wrong("a message to %s and no account", email)
		}
	}
	return errors.Join(faults...)
}

func (h *harness) promiseSignup(t *transcript, d *request, f *found, running bool, wrong func(string, ...any)) {
	a, there := f.accounts[d.email]
	_, message := f.tokens[d.email]
	mayGo, mustGo := t.gone(d, h.now())
	if mustGo && there {
		wrong("%s: the account is gone and there again", d)
	}
	if mayGo && !there {
		if t.past != nil {
			t.past[d.email] = true
		}
		return
	}
	// An account that is to be taken back has an owner, and stays, if an operator enabled it first,
	// or if a new link was sent for it.
	owned := slices.ContainsFunc(t.after(d), func(later *request) bool {
		return (later.what == "enable" || later.what == "resend") && later.done()
	})
	possible := d.rightCaptcha && (d.done() || owned || d.mayRemain(running))
	switch {
	case d.done() && !there:
		wrong("%s was answered and there is no account", d)
	case there && !possible:
		wrong("%s was answered %v and the account is there", d, d.err)
	case there != message:
		wrong("%s: account %t, message %t", d, there, message)
	}
	// A signup for a taken name is refused, and spends the captcha even if the answer is lost.
	refused := t.closed[d.user]
	for _, a := range f.accounts {
		refused = refused || a.User == d.user && a.Email != d.email
	}
	spent, err := h.store.Revoked(ctx, h.tenant.ID, d.proof.Nonce, d.proof.Expires)
	kind := fault.KindOf(d.err)
	switch {
	case err != nil:
		wrong("%s: look at the captcha: %v", d, err)
	case !h.now().Before(d.proof.Expires): // nobody asks any more
	case d.rightCaptcha && d.open() && spent != there && !(refused && !running):
		wrong("%s: account %t, captcha spent %t", d, there, spent)
	case d.answered && (d.err == nil || kind == fault.Captcha || kind == fault.Conflict) && !spent:
		wrong("%s was answered %v and its captcha is not spent", d, d.err)
	case d.open() && !d.mayRemain(running) && spent && !owned:
		wrong("%s was answered %v and its captcha is spent", d, d.err)
	}
	buckets := throttle.NewBuckets(ring)
	for _, al := range append(buckets.Signup(h.tenant.ID, d.addr),
		throttle.Allowance{Bucket: buckets.Of("message", h.tenant.ID, account.RecipientKey(d.email)),
			Rule: throttle.MessagesPerRecipient}) {
		counts := h.now().Sub(d.when) < al.Rule.Per
		later := d.resent && al.Rule == throttle.MessagesPerRecipient
		if taken := h.taken(al); taken != (there && counts) && !(taken && later) {
			wrong("%s: account %t, place taken %t", d, there, taken)
		}
	}
	if !there {
		return
	}
	if c, err := h.desk.Credential(a); err != nil || c.HA1 != digest.Compute(d.user, realm, password) {
		wrong("%s: the credential does not open: %v", d, err)
	}
	var last *request
	for _, r := range t.after(d) {
		if r.what == "resend" && !(r.answered && r.err != nil && !r.open()) {
			last = r
		}
	}
	if last != nil && a.Pending() && last.token != "" { // unknown if the disk failed when it was looked up
		switch kept := f.tokens[d.email] == last.token; {
		case last.done() && kept:
			wrong("%s was answered, and the older link counts", last)
		case last.err != nil && !last.mayRemain(running) && !kept:
			wrong("%s was answered %v, and the older link does not count", last, last.err)
		}
	}
	states := t.states(d, running)
	if got := (state{!a.Pending(), a.Held, !a.Confirmed.IsZero()}); !states[got] {
		wrong("%s is %v, which nobody was told; possible: %v", d.user, got, states)
	}
}

// promiseBackup: whatever has the name of a copy is one, with everything that was answered before
// it was asked for.
func (h *harness) promiseBackup(t *transcript, d *request, running bool, wrong func(string, ...any)) {
	if !slices.Contains(h.fs.Files(), copied) {
		if d.done() {
			wrong("a backup was answered and is not there")
		}
		return
	}
	kept := slices.ContainsFunc(h.fs.Journal(), func(op crashfs.Op) bool {
		return op.Kind == crashfs.Remove &&
			op.Path == copied && op.Err != nil
	})
	if running && d.answered && d.err != nil && !kept {
		wrong("a backup was answered %v and is there", d.err)
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
			wrong("the copy has no account of %s, which was answered before", before)
		}
	}
}

// taken reports whether one place is taken, by asking for one where there is but one.
func (h *harness) taken(al throttle.Allowance) bool {
	al.Rule.Limit = 1
	err := h.store.Create(ctx, account.Signup{Address: []throttle.Allowance{al}}, h.now())
	return fault.KindOf(err) == fault.Limited
}

// state is how an account stands.
type state struct{ active, held, confirmed bool }

// states are those that the account of a signup may be in.
func (t *transcript) states(signup *request, running bool) map[state]bool {
	now := map[state]bool{signup.base: true}
	for _, d := range t.after(signup) {
		var step func(state) state
		switch d.what {
		case "activate":
			step = func(s state) state { return state{s.active || !s.held, s.held, s.confirmed} }
		case "confirm":
			step = func(s state) state { return state{s.active || !s.held, s.held, s.confirmed || !s.held} }
		case "disable":
			step = func(s state) state { return state{s.active, true, s.confirmed} }
		case "enable":
			step = func(s state) state { return state{true, false, s.confirmed} }
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

// use does what people do next: those without an answer send the same form again, and all open
// their links. It is the last thing that is done with a harness.
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
			if _, err := h.desk.Signup(ctx, h.tenant, d.form, account.Origin{Addr: d.addr}); err != nil {
				return fmt.Errorf("%s came to nothing and cannot be sent again: %w", d, err)
			}
		}
	}
	for _, d := range t.requests {
		if d.what != "resend" || !d.open() {
			continue
		}
		a, err := h.store.Find(ctx, h.tenant.ID, d.user, h.now())
		if err == nil && a.Pending() && !a.Held {
			if _, err := h.desk.Resend(ctx, h.tenant, a, "", account.Origin{}); err != nil {
				return fmt.Errorf("%s came to nothing and cannot be asked for again: %w", d, err)
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
		a, err := h.desk.Activate(ctx, h.tenant, token, account.Origin{})
		switch {
		case before.Held && errors.Is(err, account.ErrHeld), !before.Held && !before.Pending() && errors.Is(err,
			account.ErrActive):
		case before.Held || !before.Pending() || err != nil || a.UID != before.UID || a.Disabled:
			return fmt.Errorf("the link of %s: %v", before.User, err)
		}
	}
	return nil
}
