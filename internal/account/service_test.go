package account_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/mail"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	_ "modernc.org/sqlite"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/captcha"
	"dialtone/internal/digest"
	"dialtone/internal/fault"
	"dialtone/internal/mail/pickup"
	"dialtone/internal/mailmsg"
	"dialtone/internal/outbox"
	"dialtone/internal/secret"
	"dialtone/internal/store"
	"dialtone/internal/tenant"
	"dialtone/internal/test/teststore"
)

var noon = time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)

const password = "seven horses under the bridge"

// fixture is a Service and an Outbox on a real store and a real pickup directory, with a clock that
// a test sets.
type fixture struct {
	*testing.T
	*account.Service
	*outbox.Outbox
	now      time.Time
	path     string // of the database
	store    *store.Store
	faults   *faultyStore  // in front of store
	pickup   *faultyPickup // in front of the directory
	tenants  *tenant.Table
	tenant   *tenant.Tenant
	seal     *secret.Ring
	sign     *secret.Ring
	log      *syncBuffer
	ceiling  int
	requests int
}

// syncBuffer is a bytes.Buffer that is safe for concurrent writes.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (j *syncBuffer) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.Write(p)
}

func (j *syncBuffer) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.String()
}

// faultyPickup is a pickup directory that fails as its fields say.
type faultyPickup struct {
	*pickup.Dir
	stage, publish, sync error
	staged               int
}

var errBroken = errors.New("broken by the test")

func (p *faultyPickup) Stage(l mailmsg.Message) (outbox.StagedMessage, error) {
	if p.stage != nil {
		return nil, p.stage
	}
	p.staged++
	d, err := p.Dir.Stage(l)
	return faultyMessage{d, p}, err
}

func (p *faultyPickup) Sync() error {
	if p.sync != nil {
		return p.sync
	}
	return p.Dir.Sync()
}

type faultyMessage struct {
	outbox.StagedMessage
	box *faultyPickup
}

func (d faultyMessage) Publish() error {
	if d.box.publish != nil {
		d.Discard()
		return d.box.publish
	}
	return d.StagedMessage.Publish()
}

// faultyStore is a store that fails as its fields say. If it fails with fault.ErrInDoubt, it has made the
// change, unless lost is set.
type faultyStore struct {
	*store.Store
	undo, create error
	lost         bool // a change that fails with fault.ErrInDoubt was not made
	undoResend   error
	resend       error
	adopted      []outbox.Entry
}

func (s *faultyStore) Undo(ctx context.Context, a account.Signup, now time.Time) error {
	if s.undo != nil {
		return s.undo
	}
	return s.Store.Undo(ctx, a, now)
}

func (s *faultyStore) Create(ctx context.Context, a account.Signup, now time.Time) error {
	if s.create != nil && (s.lost || !errors.Is(s.create, fault.ErrInDoubt)) {
		return s.create
	}
	return errors.Join(s.Store.Create(ctx, a, now), s.create)
}

func (s *faultyStore) Resend(ctx context.Context, r account.LinkReplacement, now time.Time) error {
	if s.resend != nil && s.lost {
		return s.resend
	}
	return errors.Join(s.Store.Resend(ctx, r, now), s.resend)
}

func (s *faultyStore) UndoResend(ctx context.Context, r account.LinkReplacement, now time.Time) error {
	if s.undoResend != nil {
		return s.undoResend
	}
	return s.Store.UndoResend(ctx, r, now)
}

func (s *faultyStore) TakeOver(context.Context) ([]outbox.Entry, error) { return s.adopted, nil }

func newFixture(t *testing.T) *fixture {
	t.Helper()
	dir := t.TempDir()
	o := &fixture{T: t, now: noon, path: filepath.Join(dir, "dialtone.db"),
		seal: secret.NewRing(noon), sign: secret.NewRing(noon), log: &syncBuffer{}}
	o.open(filepath.Join(dir, "pickup"))
	for _, host := range []string{"phone.test", "other.test"} {
		tn, err := tenant.New(tenant.Tenant{Host: host, Created: noon})
		o.must(err)
		_, err = o.store.AddTenant(t.Context(), tn)
		o.must(err)
	}
	o.must(o.tenants.Refresh(t.Context()))
	o.tenant, _ = o.tenants.Lookup("phone.test")
	return o
}

// open opens the store and the directory again, as a new process does.
func (o *fixture) open(pickupDir string) {
	o.Helper()
	store, err := teststore.Open(o.Context(), o.path, o.seal)
	o.must(err)
	o.Cleanup(func() { store.Close() })
	dir, err := pickup.Open(pickupDir)
	o.must(err)
	o.store, o.faults, o.pickup = store, &faultyStore{Store: store}, &faultyPickup{Dir: dir}
	o.tenants = tenant.NewTable(store,
		func(host string) string { return tenant.DefaultURL(host, "8080") })
	o.must(o.tenants.Refresh(o.Context()))
	logger := slog.New(slog.NewJSONHandler(o.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	events, now := audit.Log{Logger: logger}, func() time.Time { return o.now }
	o.Outbox = outbox.New(outbox.Deps{
		Store: o.faults, Pickup: o.pickup, Tenant: o.tenants.ByID, SealRing: o.seal,
		Audit: events, Log: logger, Now: now,
	})
	o.Service = account.NewService(account.Deps{
		Store: o.faults, Outbox: o.Outbox, Captcha: o.issuer, SealRing: o.seal,
		Audit: events, Log: logger, Now: now, AddressCeiling: o.ceiling,
	})
}

func (o *fixture) issuer() *captcha.Issuer {
	return captcha.NewIssuer(o.sign, func() time.Time { return o.now })
}

func (o *fixture) must(err error) {
	o.Helper()
	if err != nil {
		o.Fatal(err)
	}
}

func (o *fixture) refused(err error, kind fault.Kind) {
	o.Helper()
	if !fault.Is(err, kind) {
		o.Fatalf("got %v (kind %d), want kind %d", err, fault.KindOf(err), kind)
	}
}

// answered returns a new captcha with its right answer.
func (o *fixture) answered(tenant int64) (token, answer string) {
	o.Helper()
	q := o.issuer().Ask(tenant)
	var x, y int
	if _, err := fmt.Sscanf(q.Text, "%d + %d", &x, &y); err != nil {
		o.Fatal(err)
	}
	return q.Token, fmt.Sprint(x + y)
}

// form returns a valid form.
func (o *fixture) form(user string) account.Form {
	o.Helper()
	f := account.Form{User: user, Name: "Ann Example", Email: user + "@mail.test",
		HA1: digest.Compute(user, o.tenant.Realm, password).Hex()}
	f.CaptchaToken, f.CaptchaAnswer = o.answered(o.tenant.ID)
	return f
}

// from returns one of many addresses.
func from(n int) account.Origin {
	return account.Origin{Addr: netip.AddrFrom4([4]byte{192, 0, byte(n >> 8), byte(n)}),
		Request: fmt.Sprint("r", n)}
}

// newOrigin returns an address that was not used before.
func (o *fixture) newOrigin() account.Origin {
	o.requests++
	return from(1000 + o.requests)
}

func (o *fixture) signup(user string) account.Account {
	o.Helper()
	a, err := o.Signup(o.Context(), o.tenant, o.form(user), o.newOrigin())
	o.must(err)
	return a
}

// files returns the files of the pickup directory by name.
func (o *fixture) files() map[string]string {
	o.Helper()
	files := make(map[string]string)
	entries, err := os.ReadDir(o.pickup.Path())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		o.Fatal(err)
	}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(o.pickup.Path(), e.Name()))
		o.must(err)
		files[e.Name()] = string(b)
	}
	return files
}

// onlyFile returns the name and content of the only file.
func (o *fixture) onlyFile() (name, content string) {
	o.Helper()
	files := o.files()
	if len(files) != 1 {
		o.Fatalf("there are %d files, want one", len(files))
	}
	for name, content = range files {
	}
	return name, content
}

func (o *fixture) absent(user string) {
	o.Helper()
	_, err := o.store.Find(o.Context(), o.tenant.ID, user, o.now)
	o.refused(err, fault.NotFound)
}

func (o *fixture) waiting() int {
	o.Helper()
	list, err := o.store.Pending(o.Context())
	o.must(err)
	return len(list)
}

var link = regexp.MustCompile(`(?m)^https://phone\.test/activate\.ashx\?token=([A-Za-z0-9_-]{43})$`)

func tokenIn(t *testing.T, message string) string {
	t.Helper()
	m := link.FindStringSubmatch(strings.ReplaceAll(message, "\r\n", "\n"))
	if m == nil {
		t.Fatalf("no link in %q", message)
	}
	return m[1]
}

func TestSignup(t *testing.T) {
	o := newFixture(t)
	o.now = noon.Add(123456789) // with more digits than the store keeps
	form := o.form("ann")
	form.Name, form.Email = "  Ann   Éxample ", "Ann+phone@MAIL.test"
	form.HA1 = strings.ToUpper(form.HA1)
	b, sum := digest.ComputeB("ann", "phone.test", password),
		digest.ComputeSHA256("ann", "phone.test", password)
	bText, sumText := b.Hex(), strings.ToUpper(sum.Hex())
	form.HA1B, form.HA1SHA256 = &bText, &sumText
	a, err := o.Signup(o.Context(), o.tenant, form, from(1))
	o.must(err)
	if a.User != "ann" || a.Name != "Ann Éxample" || a.Email != "Ann+phone@mail.test" ||
		a.Role != account.Guest || !a.Disabled || a.Held || !a.Pending() {
		t.Errorf("got %+v", a)
	}
	stored, err := o.store.Find(o.Context(), o.tenant.ID, "ann", o.now)
	o.must(err)
	if !stored.Disabled || stored.Role != account.Guest || stored.Email != a.Email ||
		!stored.Created.Equal(a.Created) || !stored.Expires.Equal(a.Created.Add(7*24*time.Hour)) ||
		!stored.HasSHA256 {
		t.Errorf("the store has %+v", stored)
	}
	c, err := o.Credential(stored)
	o.must(err)
	if c.HA1 != digest.Compute("ann", "phone.test", password) || *c.HA1B != b || *c.SHA256 != sum {
		t.Error("the credential is another one")
	}

	name, content := o.onlyFile()
	if !regexp.MustCompile(`^[0-9a-f]{32}\.eml$`).MatchString(name) {
		t.Errorf("the message is %s", name)
	}
	m, err := mail.ReadMessage(strings.NewReader(content))
	o.must(err)
	if got := m.Header.Get("To"); got != a.Email {
		t.Errorf("the message goes to %s", got)
	}
	token := tokenIn(t, content)

	if err := o.Flush(o.Context()); err != nil || o.waiting() != 0 {
		t.Errorf("flushing: %v, and %d entries are left", err, o.waiting())
	}
	if _, again := o.onlyFile(); again != content {
		t.Error("flushing changed the message")
	}
	if _, err := o.Activate(o.Context(), &tenant.Tenant{ID: o.tenant.ID + 1}, token,
		from(1)); !fault.Is(err, fault.NotFound) {
		t.Errorf("at the other tenant: %v", err)
	}
	for _, bad := range []string{"", token[:42], token + "A", token[:20] + "\n" + token[20:],
		token + "=", strings.ToLower(token) + " "} {
		if _, err := o.Activate(o.Context(), o.tenant, bad, from(1)); !fault.Is(err,
			fault.NotFound) {
			t.Errorf("with %q: %v", bad, err)
		}
	}
	got, err := o.Activate(o.Context(), o.tenant, token, from(1))
	if err != nil || got.Disabled || got.UID != stored.UID {
		t.Errorf("the link: %+v and %v", got, err)
	}
	if _, err := o.Activate(o.Context(), o.tenant, token, from(1)); !errors.Is(err,
		account.ErrActive) {
		t.Errorf("the link again: %v", err)
	}
}

// refusal is a change to a form that makes Signup refuse it.
type refusal struct {
	name    string
	change  func(*fixture, *account.Form)
	kind    fault.Kind
	field   string
	message string
	spent   bool // the captcha
}

func ptr(s string) *string { return &s }

var refusals = []refusal{
	{"no user", func(_ *fixture, f *account.Form) { f.User = "" }, fault.Invalid, "",
		account.Missing, false},
	{"no name", func(_ *fixture, f *account.Form) { f.Name = "" }, fault.Invalid, "",
		account.Missing, false},
	{"no address", func(_ *fixture, f *account.Form) { f.Email = "" }, fault.Invalid, "",
		account.Missing, false},
	{"no hash", func(_ *fixture, f *account.Form) { f.HA1 = "" }, fault.Invalid, "", account.Missing,
		false},
	{"no captcha", func(_ *fixture, f *account.Form) { f.CaptchaToken = "" }, fault.Invalid, "",
		account.Missing, false},
	{"no answer", func(_ *fixture, f *account.Form) { f.CaptchaAnswer = "" }, fault.Invalid, "",
		account.Missing, false},
	{"a user with a capital", func(_ *fixture, f *account.Form) { f.User = "Ann" }, fault.Invalid,
		"user", "", false},
	{"a reserved user", func(_ *fixture, f *account.Form) { f.User = "adm1n" }, fault.Invalid,
		"user", "", false},
	{"an emergency number", func(_ *fixture, f *account.Form) { f.User = "911" }, fault.Invalid,
		"user", "", false},
	{"a name without letters", func(_ *fixture, f *account.Form) { f.Name = " ... " }, fault.Invalid,
		"name", "", false},
	{"two addresses", func(_ *fixture, f *account.Form) { f.Email = "a@mail.test,b@mail.test" },
		fault.Invalid, "email", "", false},
	{"a hash of 31 digits", func(_ *fixture, f *account.Form) { f.HA1 = f.HA1[1:] }, fault.Invalid,
		"ha1", "", false},
	{"a hash with a g", func(_ *fixture, f *account.Form) { f.HA1 = "g" + f.HA1[1:] }, fault.Invalid,
		"ha1", "", false},
	{"an empty ha1b", func(_ *fixture, f *account.Form) { f.HA1B = ptr("") }, fault.Invalid, "ha1b",
		"", false},
	{"a short SHA-256", func(_ *fixture, f *account.Form) { f.HA1SHA256 = ptr(f.HA1) },
		fault.Invalid, "ha1_sha256", "", false},
	{"the commonest password",
		func(o *fixture, f *account.Form) { f.HA1 = o.hash(f.User, "123456") }, fault.Invalid, "ha1",
		"", false},
	{"the last common password",
		func(o *fixture, f *account.Form) { f.HA1 = o.hash(f.User, lastPassword(o.T)) },
		fault.Invalid, "ha1", "", false},
	{"an empty password", func(o *fixture, f *account.Form) { f.HA1 = o.hash(f.User, "") },
		fault.Invalid, "ha1", "", false},
	{"the user name as the password",
		func(o *fixture, f *account.Form) { f.HA1 = o.hash(f.User, f.User) }, fault.Invalid, "ha1",
		"", false},
	{"a long common password", func(o *fixture, f *account.Form) {
		f.HA1 = o.hash(f.User, "qwertyuiop12")
	}, fault.Invalid, "ha1", "", false},
	{"the displayed name with digits", func(o *fixture, f *account.Form) {
		f.Name = "Zacharias Quill"
		f.HA1 = o.hash(f.User, "Zacharias1234")
	}, fault.Invalid, "ha1", "", false},
	{"an ha1b of a common password", func(o *fixture, f *account.Form) {
		f.HA1B = ptr(digest.ComputeB(f.User, o.tenant.Realm, "password1234").Hex())
	}, fault.Invalid, "ha1b", "", false},
	{"a SHA-256 of a common password", func(o *fixture, f *account.Form) {
		f.HA1SHA256 = ptr(digest.ComputeSHA256(f.User, o.tenant.Realm, "111111111111").Hex())
	}, fault.Invalid, "ha1_sha256", "", false},
	{"a weak password in upper-case hex",
		func(o *fixture, f *account.Form) { f.HA1 = strings.ToUpper(o.hash(f.User, "password")) },
		fault.Invalid, "ha1", "", false},
	{"a wrong answer", func(_ *fixture, f *account.Form) { f.CaptchaAnswer = "99" }, fault.Captcha,
		"", "", true},
	{"an answer that is not a number", func(_ *fixture, f *account.Form) { f.CaptchaAnswer = "eight" },
		fault.Captcha, "", "", true},
	{"a forged captcha", func(_ *fixture, f *account.Form) { f.CaptchaToken = "x" },
		fault.Captcha, "", "", false},
	{"a captcha of another tenant",
		func(o *fixture, f *account.Form) {
			f.CaptchaToken,
				f.CaptchaAnswer = o.answered(o.tenant.ID + 1)
		}, fault.Captcha, "", "", false},
}

func (o *fixture) hash(user, password string) string {
	return digest.Compute(user, o.tenant.Realm, password).Hex()
}

// lastPassword is the last one of the list of common passwords.
func lastPassword(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../weakpass/passwords.txt")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	if len(lines) < 8000 {
		t.Fatalf("the list has %d passwords", len(lines))
	}
	return lines[len(lines)-1]
}

func TestSignupRefusals(t *testing.T) {
	for _, c := range refusals {
		t.Run(c.name, func(t *testing.T) {
			o := newFixture(t)
			good := o.form("ann")
			bad := good
			c.change(o, &bad)
			_, err := o.Signup(o.Context(), o.tenant, bad, from(1))
			f, ok := errors.AsType[*fault.Error](err)
			if !ok || f.Kind != c.kind || f.Field != c.field || c.message != "" &&
				f.Message != c.message {
				t.Fatalf("got %#v", err)
			}
			o.absent("ann")
			if files := o.files(); len(files) != 0 || o.waiting() != 0 {
				t.Errorf("left %d files and %d messages", len(files), o.waiting())
			}
			_, err = o.Signup(o.Context(), o.tenant, good, from(1))
			if c.spent {
				o.refused(err, fault.Captcha)
				good.CaptchaToken, good.CaptchaAnswer = o.answered(o.tenant.ID)
				_, err = o.Signup(o.Context(), o.tenant, good, from(1))
			}
			o.must(err)
			// A refusal takes no place: two more signups succeed, and then no more.
			for _, user := range []string{"bob", "cid"} {
				_, err = o.Signup(o.Context(), o.tenant, o.form(user), from(1))
				o.must(err)
			}
			_, err = o.Signup(o.Context(), o.tenant, o.form("dan"), from(1))
			o.refused(err, fault.Limited)
		})
	}
}

func TestSignupOrderOfChecks(t *testing.T) {
	o := newFixture(t)
	o.signup("taken")
	mailed := "mailed@mail.test"
	for i := range 3 {
		f := o.form(fmt.Sprint("mailed", i))
		f.Email = fmt.Sprintf("Mailed+%d@MAIL.test", i)
		_, err := o.Signup(o.Context(), o.tenant, f, from(1)) // which fills the address too
		o.must(err)
	}
	files := len(o.files())

	f := o.form("taken")
	f.Email, f.CaptchaAnswer = mailed, "99"
	f.HA1 = "x"
	try := func(at account.Origin, kind fault.Kind, want string) {
		t.Helper()
		_, err := o.Signup(o.Context(), o.tenant, f, at)
		if got, ok := errors.AsType[*fault.Error](err); !ok || got.Kind != kind ||
			!strings.Contains(got.Message, want) {
			t.Errorf("got %v, want a refusal of kind %d that says %q", err, kind, want)
		}
	}
	f.Name = ""
	try(from(1), fault.Invalid, "required")
	f.Name = "Ann"
	try(from(1), fault.Invalid, "32 hex digits")
	f.HA1 = o.hash("taken", password)
	try(from(1), fault.Limited, "from your address")
	try(from(2), fault.Captcha, "answer")
	f.CaptchaToken, f.CaptchaAnswer = o.answered(o.tenant.ID)
	try(from(2), fault.Conflict, "taken")
	try(from(2), fault.Captcha, "answer") // the conflict has spent it
	f.User, f.HA1 = "free", o.hash("free", password)
	f.CaptchaToken, f.CaptchaAnswer = o.answered(o.tenant.ID)
	try(from(2), fault.Limited, "to this e-mail address")
	f.Email = "free@mail.test"
	o.absent("free")
	if got := len(o.files()); got != files {
		t.Errorf("there are %d files, want %d", got, files)
	}
	if _, err := o.Signup(o.Context(), o.tenant, f,
		from(2)); err != nil { // with the captcha of the limit
		t.Error(err)
	}
}

func TestSignupSHA256(t *testing.T) {
	o := newFixture(t)
	strict := *o.tenant
	strict.Algorithm = digest.SHA256
	f := o.form("ann")
	_, err := o.Signup(o.Context(), &strict, f, from(1))
	if e, ok := errors.AsType[*fault.Error](err); !ok || e.Field != "ha1_sha256" {
		t.Errorf("got %v", err)
	}
	f.HA1SHA256 = ptr(digest.ComputeSHA256("ann", strict.Realm, password).Hex())
	_, err = o.Signup(o.Context(), &strict, f, from(1))
	o.must(err)
}

func TestSignupLimits(t *testing.T) {
	t.Run("sixty failures of any kind from one address",
		func(t *testing.T) {
			o := newFixture(t)
			bad := o.form("ann")
			bad.HA1 = "x"
			for range 60 {
				_, err := o.Signup(o.Context(), o.tenant, bad, from(1))
				o.refused(err, fault.Invalid)
			}
			good := o.form("ann")
			_, err := o.Signup(o.Context(), o.tenant, good, from(1))
			o.refused(err, fault.Limited)
			_, err = o.Signup(o.Context(), o.tenant, good, from(2))
			o.must(err)
			o.now = o.now.Add(10 * time.Minute)
			_, err = o.Signup(o.Context(), o.tenant, o.form("bob"), from(1))
			o.must(err)
		})
	t.Run("the ceiling for all tenants together", func(t *testing.T) {
		o := newFixture(t)
		o.ceiling = 2
		o.open(o.pickup.Path())
		other, _ := o.tenants.Lookup("other.test")
		home := o.tenant
		for _, tn := range []*tenant.Tenant{home, other} {
			o.tenant = tn
			_, err := o.Signup(o.Context(), tn, o.form("ann"), from(1))
			o.must(err)
		}
		o.tenant = home
		_, err := o.Signup(o.Context(), home, o.form("bob"), from(1))
		o.refused(err, fault.Limited)
	})
	t.Run("tenants count separately", func(t *testing.T) {
		o := newFixture(t)
		other, _ := o.tenants.Lookup("other.test")
		for _, tn := range []*tenant.Tenant{o.tenant, other} {
			o.tenant = tn
			for i := range 3 {
				_, err := o.Signup(o.Context(), tn, o.form(fmt.Sprint("ann", i)), from(1))
				o.must(err)
			}
			_, err := o.Signup(o.Context(), tn, o.form("bob"), from(1))
			o.refused(err, fault.Limited)
		}
	})
	t.Run("the ceiling of a tenant", func(t *testing.T) {
		o := newFixture(t)
		small := *o.tenant
		small.SignupsPerHour = 2
		for i, want := range []bool{true, true, false} {
			_, err := o.Signup(o.Context(), &small, o.form(fmt.Sprint("ann", i)), from(i))
			if want != (err == nil) || err != nil && !fault.Is(err, fault.Limited) {
				t.Errorf("signup %d: %v", i, err)
			}
		}
	})
}

// pickupFaults are the ways in which a pickup directory fails, and how it is healed.
var pickupFaults = []struct {
	name        string
	brk, mended func(*fixture) error
}{
	{"is removed", func(o *fixture) error { return os.RemoveAll(o.pickup.Path()) },
		func(o *fixture) error { return os.Mkdir(o.pickup.Path(), 0o770) }},
	{"is a file", func(o *fixture) error {
		return errors.Join(os.RemoveAll(o.pickup.Path()),
			os.WriteFile(o.pickup.Path(), nil, 0o600))
	}, func(o *fixture) error {
		return errors.Join(os.Remove(o.pickup.Path()), os.Mkdir(o.pickup.Path(), 0o770))
	}},
	{"is full", func(o *fixture) error { o.pickup.stage = errBroken; return nil },
		func(o *fixture) error { o.pickup.stage = nil; return nil }},
	{"cannot rename", func(o *fixture) error { o.pickup.publish = errBroken; return nil },
		func(o *fixture) error { o.pickup.publish = nil; return nil }},
	{"works but the store fails",
		func(o *fixture) error { o.faults.create = errBroken; return nil },
		func(o *fixture) error { o.faults.create = nil; return nil }},
}

func TestSignupFaults(t *testing.T) {
	for _, c := range pickupFaults {
		t.Run("the directory "+c.name, func(t *testing.T) {
			o := newFixture(t)
			form := o.form("ann")
			o.must(c.brk(o))
			for range 5 { // more than there are places
				_, err := o.Signup(o.Context(), o.tenant, form, from(1))
				o.refused(err, fault.Internal)
				o.absent("ann")
				if o.waiting() != 0 {
					t.Fatal("an entry is left")
				}
			}
			o.must(c.mended(o))
			if files := o.files(); len(files) != 0 {
				t.Errorf("left behind: %d files", len(files))
			}
			_, err := o.Signup(o.Context(), o.tenant, form, from(1))
			o.must(err)
			_, content := o.onlyFile()
			tokenIn(t, content)
			o.must(o.Flush(o.Context()))
		})
	}
}

func TestSignupTakenNameWithFaultyPickup(t *testing.T) {
	for _, c := range pickupFaults[:4] {
		t.Run("the directory "+c.name, func(t *testing.T) {
			o := newFixture(t)
			o.signup("ann")
			o.must(c.brk(o))
			_, err := o.Signup(o.Context(), o.tenant, o.form("ann"), from(1))
			o.refused(err, fault.Conflict)
		})
	}
}

func TestSignupUndoIsRetried(t *testing.T) {
	o := newFixture(t)
	form := o.form("ann")
	o.pickup.publish, o.faults.undo = errBroken, errBroken
	_, err := o.Signup(o.Context(), o.tenant, form, from(1))
	o.refused(err, fault.Internal)
	if _, err := o.store.Find(o.Context(), o.tenant.ID, "ann", o.now); err != nil {
		t.Fatalf("the undo did not fail: %v", err)
	}
	if err := o.Flush(o.Context()); !errors.Is(err, errBroken) {
		t.Errorf("Flush while the store fails: %v", err)
	}
	o.pickup.publish, o.faults.undo = nil, nil
	o.must(o.Flush(o.Context()))
	o.absent("ann")
	if o.waiting() != 0 || len(o.files()) != 0 {
		t.Errorf("%d entries are left, %d files are left", o.waiting(), len(o.files()))
	}
	_, err = o.Signup(o.Context(), o.tenant, form, from(1))
	o.must(err)
}

func TestSignupUnknownIsUndone(t *testing.T) {
	for _, committed := range []bool{true, false} {
		t.Run(fmt.Sprintf("committed %v", committed), func(t *testing.T) {
			o := newFixture(t)
			form := o.form("ann")
			o.faults.create, o.faults.lost = fault.ErrInDoubt, !committed
			_, err := o.Signup(o.Context(), o.tenant, form, from(1))
			o.refused(err, fault.Overloaded)
			o.faults.create, o.faults.lost = nil, false
			o.must(o.Flush(o.Context()))
			o.absent("ann")
			if o.waiting() != 0 || len(o.files()) != 0 {
				t.Errorf("%d entries are left, %d files are left", o.waiting(), len(o.files()))
			}
			_, err = o.Signup(o.Context(), o.tenant, form,
				from(1)) // the same captcha: nothing is left of the first try
			o.must(err)
		})
	}
}

func TestOutboxTakeOver(t *testing.T) {
	o := newFixture(t)
	o.signup("ann")
	name, content := o.onlyFile()
	rows, err := o.store.Pending(o.Context())
	o.must(err)
	o.open(filepath.Join(t.TempDir(), "pickup")) // another node
	o.faults.adopted = rows
	o.must(o.TakeOver(o.Context()))
	o.faults.adopted = nil
	o.must(o.Flush(o.Context()))
	if again, bytes := o.onlyFile(); again != name || bytes != content {
		t.Errorf("there is %s:\n%s\nwant %s:\n%s", again, bytes, name, content)
	}
	if o.waiting() != 0 {
		t.Error("the entry is left")
	}
}

func TestOutboxRecover(t *testing.T) {
	for _, c := range []struct {
		name string
		lose func(path string) error
	}{
		{"the file is there", func(string) error { return nil }},
		{"the file is gone", os.Remove},
		{"the file is empty", func(path string) error { return os.Truncate(path, 0) }},
		{"half of the file is there", func(path string) error { return os.Truncate(path, 300) }},
		{"the file was never renamed", func(path string) error {
			dir, name := filepath.Split(path)
			return os.Rename(path, dir+"."+strings.TrimSuffix(name, ".eml")+".part")
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := newFixture(t)
			o.now = noon.Add(123456789) // with more digits than the store keeps
			o.signup("ann")
			name, content := o.onlyFile()
			o.must(c.lose(filepath.Join(o.pickup.Path(), name)))
			o.now = noon.Add(5 * time.Hour)
			o.open(o.pickup.Path())
			o.must(o.pickup.Clean())
			o.must(o.Recover(o.Context()))
			o.must(o.Flush(o.Context()))
			if again, bytes := o.onlyFile(); again != name || bytes != content {
				t.Errorf("there is %s:\n%s\nwant %s:\n%s", again, bytes, name, content)
			}
			if o.waiting() != 0 {
				t.Error("the entry is left")
			}
			a, err := o.Activate(o.Context(), o.tenant, tokenIn(t, content), from(1))
			if err != nil || a.User != "ann" {
				t.Errorf("the link: %v", err)
			}
			o.must(os.Remove(filepath.Join(o.pickup.Path(), name))) // the mail agent takes it
			o.must(o.Flush(o.Context()))
			if len(o.files()) != 0 {
				t.Error("the message came again")
			}
		})
	}
}

func TestOutboxFailedSync(t *testing.T) {
	o := newFixture(t)
	o.signup("ann")
	name, content := o.onlyFile()
	o.pickup.sync = errBroken
	if err := o.Flush(o.Context()); !errors.Is(err, errBroken) {
		t.Fatalf("flushing: %v", err)
	}
	if o.waiting() != 1 {
		t.Fatal("the entry was removed and the message is not on disk")
	}
	// After a failed sync the kernel may have dropped the data, and a second sync would not say so.
	o.must(os.Truncate(filepath.Join(o.pickup.Path(), name), 10))
	o.pickup.sync = nil
	staged := o.pickup.staged
	for range 3 {
		o.must(o.Flush(o.Context()))
	}
	if o.pickup.staged != staged+1 {
		t.Errorf("the message was written again %d times", o.pickup.staged-staged)
	}
	if again, bytes := o.onlyFile(); again != name || bytes != content {
		t.Errorf("there is %s: %q", again, bytes)
	}
	if o.waiting() != 0 {
		t.Error("the entry is left")
	}
}

func TestOutboxBadMessage(t *testing.T) {
	o := newFixture(t)
	o.signup("ann")
	o.now = o.now.Add(time.Second)
	o.signup("bob")
	o.exec(`UPDATE outbox SET token = x'00' WHERE account = (SELECT uid FROM account WHERE username = 'ann')`)
	for name := range o.files() {
		o.must(os.Remove(filepath.Join(o.pickup.Path(), name)))
	}
	o.open(o.pickup.Path())
	o.must(o.Recover(o.Context()))
	for range 2 {
		if err := o.Flush(o.Context()); !errors.Is(err, secret.ErrSeal) {
			t.Errorf("flushing: %v", err)
		}
	}
	if _, content := o.onlyFile(); !strings.Contains(content, "bob@mail.test") {
		t.Errorf("there is %s", content)
	}
	if o.waiting() != 1 {
		t.Errorf("%d entries are left", o.waiting())
	}
}

// exec runs SQL on a connection of its own.
func (o *fixture) exec(query string) {
	o.Helper()
	db, err := sql.Open("sqlite", o.path)
	o.must(err)
	_, err = db.Exec(query)
	o.must(errors.Join(err, db.Close()))
}

func TestSecretsAreNotStoredOrLogged(t *testing.T) {
	o := newFixture(t)
	ha1, ha1b, sum := digest.Compute("ann", "phone.test", password),
		digest.ComputeB("ann", "phone.test", password),
		digest.ComputeSHA256("ann", "phone.test", password)
	form := o.form("ann")
	form.HA1B, form.HA1SHA256 = ptr(ha1b.Hex()), ptr(sum.Hex())
	form.Email = "a-canary-of-an-address@mail.test"
	spoiled := form
	spoiled.CaptchaAnswer = "271828" // as no other number in a log
	_, err := o.Signup(o.Context(), o.tenant, spoiled, from(1))
	o.refused(err, fault.Captcha)
	form.CaptchaToken, form.CaptchaAnswer = o.answered(o.tenant.ID)
	o.pickup.publish, o.faults.undo = errBroken, errBroken
	_, err = o.Signup(o.Context(), o.tenant, form, from(1))
	o.refused(err, fault.Internal)
	o.pickup.publish, o.faults.undo = nil, nil
	o.must(o.Flush(o.Context()))
	_, err = o.Signup(o.Context(), o.tenant, form, from(1))
	o.must(err)
	_, message := o.onlyFile()
	text := tokenIn(t, message)
	token, _ := secret.ParseToken(text)
	o.open(o.pickup.Path())
	o.must(o.Recover(o.Context()))
	o.must(o.Flush(o.Context()))
	_, err = o.Activate(o.Context(), o.tenant, text, from(1))
	o.must(err)
	_, err = o.Activate(o.Context(), o.tenant, text, from(1))
	o.is(err, account.ErrActive)

	canaries := map[string]string{
		"HA1": ha1.Hex(), "HA1B": ha1b.Hex(), "SHA-256": sum.Hex(), "the raw HA1": string(ha1[:]),
		"the raw HA1B":    string(ha1b[:]),
		"the raw SHA-256": string(sum[:]), "the token": text, "the raw token": string(token[:]),
		"the token in hex": hex.EncodeToString(token[:]),
	}
	look := func(where, what string) {
		for name, canary := range canaries {
			if strings.Contains(what, canary) || strings.Contains(what, strings.ToUpper(canary)) {
				t.Errorf("%s contains %s", where, name)
			}
		}
	}
	for _, suffix := range []string{"", "-wal", "-shm"} {
		b, err := os.ReadFile(o.path + suffix)
		o.must(err)
		look("dialtone.db"+suffix, string(b))
	}
	for _, part := range []string{"the captcha", "the spoiled answer", "the whole address",
		"the password"} {
		canaries[part] = map[string]string{
			"the captcha": form.CaptchaToken, "the spoiled answer": "271828",
			"the whole address": form.Email, "the password": password,
		}[part]
	}
	log := o.log.String()
	look("the log", log)
	for _, line := range []string{`"captcha_failed"`, `"server_error"`, `"signup.undo"`,
		`"message.republish"`, `"already_active"`, `"a***@mail.test"`} {
		if !strings.Contains(log, line) {
			t.Errorf("the log has no %s, so the test proves nothing:\n%s", line, log)
		}
	}
}

func (o *fixture) is(err, want error) {
	o.Helper()
	if !errors.Is(err, want) {
		o.Fatalf("got %v, want %v", err, want)
	}
}

func TestCredentialIsBoundToItsAccount(t *testing.T) {
	o := newFixture(t)
	o.signup("ann")
	o.signup("bob")
	o.exec(`CREATE TEMP TABLE old AS SELECT username, credential FROM account;
		UPDATE account SET credential = (SELECT credential FROM old WHERE old.username <> account.username)`)
	for _, user := range []string{"ann", "bob"} {
		a, err := o.store.Find(o.Context(), o.tenant.ID, user, o.now)
		o.must(err)
		_, err = o.Credential(a)
		o.is(err, secret.ErrSeal)
	}
}

func TestAdminIsRecorded(t *testing.T) {
	o := newFixture(t)
	o.signup("ann")
	for _, act := range []struct {
		action audit.Action
		do     func(user string) error
	}{
		{audit.AccountEnable, func(user string) error {
			_,
				err := o.Enable(o.Context(), o.tenant, user)
			return err
		}},
		{audit.AccountDisable, func(user string) error {
			_,
				err := o.Disable(o.Context(), o.tenant, user)
			return err
		}},
		{audit.AccountRole, func(user string) error {
			_,
				err := o.SetRole(o.Context(), o.tenant, user, account.Admin)
			return err
		}},
		{audit.AccountDelete, func(user string) error {
			return o.Delete(o.Context(), o.tenant,
				user)
		}},
	} {
		o.must(act.do("ann"))
		o.refused(act.do("nobody"), fault.NotFound)
		for _, want := range []string{
			fmt.Sprintf(`"msg":%q,"outcome":"ok","tenant":"phone.test","user":"ann"`, act.action),
			fmt.Sprintf(`"msg":%q,"outcome":"not_found","tenant":"phone.test","user":"nobody"`,
				act.action),
		} {
			if strings.Count(o.log.String(), want) != 1 {
				t.Errorf("the log has not one line with %s", want)
			}
		}
	}
}

func TestConcurrentSignups(t *testing.T) {
	o := newFixture(t)
	o.pickup.staged = 0
	forms := make([]account.Form, 50)
	for i := range forms {
		forms[i] = o.form("ann")
	}
	log, now := slog.New(slog.DiscardHandler), func() time.Time { return noon }
	messages := outbox.New(outbox.Deps{
		Store: o.store, Pickup: o.pickup.Dir, SealRing: o.seal, Log: log, Now: now,
	})
	service := account.NewService(account.Deps{
		Store: o.store, Outbox: messages, Captcha: o.issuer, SealRing: o.seal, Log: log, Now: now,
	})
	var all sync.WaitGroup
	errs := make([]error, len(forms))
	for i, form := range forms {
		all.Go(func() { _, errs[i] = service.Signup(o.Context(), o.tenant, form, from(i)) })
	}
	all.Wait()
	wins := 0
	for _, err := range errs {
		if err == nil {
			wins++
		} else if !fault.Is(err, fault.Conflict) {
			t.Error(err)
		}
	}
	if wins != 1 {
		t.Errorf("%d signups got the name", wins)
	}
	o.onlyFile()
	o.must(messages.Flush(o.Context()))
	if o.waiting() != 0 {
		t.Error("an entry is left")
	}
}

// jumped returns a time after the wall clock was set, while the monotonic clock went on. The
// standard library returns such times only when that happens, so the fields are changed here.
func jumped(t *testing.T, at time.Time, by time.Duration) time.Time {
	t.Helper()
	moved := at.Add(by)
	monotonic := (*int64)(unsafe.Add(unsafe.Pointer(&moved),
		unsafe.Sizeof(uint64(0)))) // the field ext of time.Time
	*monotonic -= int64(by)
	if moved.Sub(at) != 0 || moved.Round(0).Sub(at.Round(0)) != by {
		t.Fatal("time.Time has another layout than this test expects")
	}
	return moved
}

func TestSweep(t *testing.T) {
	const day = 24 * time.Hour
	start := time.Now() // with the machine's count of time
	o := newFixture(t)
	o.now = start
	o.open(o.pickup.Path())
	o.signup("ann")
	_, content := o.onlyFile()
	there := func() bool {
		t.Helper()
		_, err := o.Activate(o.Context(), o.tenant, tokenIn(t, content), from(1))
		return errors.Is(err, account.ErrExpired)
	}
	for _, by := range []time.Duration{10 * 365 * day, 8 * day, -10 * 365 * day,
		time.Hour + time.Second} {
		o.now = jumped(t, start, by)
		if err := o.Sweep(o.Context()); err == nil {
			t.Errorf("after a jump of %v Sweep succeeds", by)
		}
		o.now = start
		if _, err := o.store.Find(o.Context(), o.tenant.ID, "ann", o.now); err != nil {
			t.Fatalf("after a jump of %v and back: %v", by, err)
		}
	}
	o.now = jumped(t, start, time.Hour-time.Second) // as a clock is corrected
	o.must(o.Sweep(o.Context()))

	o.now = start.Add(8*day - time.Microsecond)
	o.must(o.Sweep(o.Context()))
	if !there() {
		t.Error("a link that is a day too late is not ErrExpired")
	}
	o.now = start.Add(8*day + time.Microsecond)
	o.must(o.Sweep(o.Context()))
	if there() {
		t.Error("the row is still there a day after the account expired")
	}
}

func TestSweepIsComplete(t *testing.T) {
	o := newFixture(t)
	const n = 1100 // more than two rounds
	o.exec(`WITH RECURSIVE c (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < ` + fmt.Sprint(n) + `)
		INSERT INTO account (uid, tenant, username, name, email, role, held, created, expires,
			activated, closed, epoch, credential, has_sha256, token)
		SELECT randomblob(16), 1, 'u' || i, '', '', 'guest', FALSE, 0, i,
			NULL, NULL, 0, x'', FALSE, randomblob(32) FROM c`)
	o.must(o.Sweep(o.Context()))
	db, err := sql.Open("sqlite", o.path)
	o.must(err)
	defer db.Close()
	var left int
	o.must(db.QueryRow(`SELECT count(*) FROM account`).Scan(&left))
	if left != 0 {
		t.Errorf("%d accounts are left", left)
	}
}

func TestUIDOrder(t *testing.T) {
	var list []string
	for i := range 100 {
		u := account.NewUID(noon.Add(time.Duration(i) * time.Millisecond))
		if u[6]>>4 != 7 || u[8]>>6 != 2 {
			t.Errorf("%s is not a UUID of version 7", u)
		}
		list = append(list, u.String())
	}
	if !slices.IsSorted(list) {
		t.Error("a later UID is less than an earlier one")
	}
}
