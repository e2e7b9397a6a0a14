package account_test

import (
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
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
	"dialtone/internal/digest"
	"dialtone/internal/fault"
	"dialtone/internal/secret"
	"dialtone/internal/test/world"
	"dialtone/internal/trace"
)

func TestSignup(t *testing.T) {
	o := newFixture(t)
	o.Set(world.Noon.Add(123456789)) // with more digits than the store keeps
	form := o.form("ann")
	form.Name, form.Email = "  Ann   Éxample ", "Ann+phone@MAIL.test"
	form.HA1 = strings.ToUpper(form.HA1)
	b, sum := digest.ComputeB("ann", "phone.test", password),
		digest.ComputeSHA256("ann", "phone.test", password)
	bText, sumText := b.Hex(), strings.ToUpper(sum.Hex())
	form.HA1B, form.HA1SHA256 = &bText, &sumText
	a, err := o.Accounts.Signup(o.Context(), o.Tenant, form, from(1))
	o.Must(err)
	if a.User != "ann" || a.Name != "Ann Éxample" || a.Email != "Ann+phone@mail.test" ||
		a.Role != account.Guest || !a.Disabled || a.Held || !a.Pending() {
		t.Errorf("got %+v", a)
	}
	stored, err := o.Store.Find(o.Context(), o.Tenant.ID, "ann", o.Now())
	o.Must(err)
	if !stored.Disabled || stored.Role != account.Guest || stored.Email != a.Email ||
		!stored.Created.Equal(a.Created) || !stored.Expires.Equal(a.Created.Add(7*24*time.Hour)) ||
		!stored.HasSHA256 {
		t.Errorf("the store has %+v", stored)
	}
	c, err := o.Accounts.Credential(stored)
	o.Must(err)
	if c.HA1 != digest.Compute("ann", "phone.test", password) || *c.HA1B != b || *c.SHA256 != sum {
		t.Error("the credential is not that of the form")
	}

	name, content := o.onlyFile()
	if !regexp.MustCompile(`^[0-9a-f]{32}\.eml$`).MatchString(name) {
		t.Errorf("the file of the message is %s", name)
	}
	m, err := mail.ReadMessage(strings.NewReader(content))
	o.Must(err)
	if got := m.Header.Get("To"); got != a.Email {
		t.Errorf("the message goes to %s", got)
	}
	token := tokenIn(t, content)

	if err := o.Outbox.Flush(o.Context()); err != nil || len(o.Pending()) != 0 {
		t.Errorf("Flush: %v, and %d entries are left", err, len(o.Pending()))
	}
	if _, again := o.onlyFile(); again != content {
		t.Error("flushing changed the message")
	}
	_, err = o.Accounts.Activate(o.Context(), o.At("other.test").Tenant, token, from(1))
	if !fault.Is(err, fault.NotFound) {
		t.Errorf("at the other tenant: %v", err)
	}
	for _, bad := range []string{"", token[:42], token + "A", token[:20] + "\n" + token[20:],
		token + "=", strings.ToLower(token) + " "} {
		_, err := o.Accounts.Activate(o.Context(), o.Tenant, bad, from(1))
		if !fault.Is(err, fault.NotFound) {
			t.Errorf("with %q: %v", bad, err)
		}
	}
	got, err := o.Accounts.Activate(o.Context(), o.Tenant, token, from(1))
	if err != nil || got.Disabled || got.UID != stored.UID {
		t.Errorf("Activate: got %+v, %v", got, err)
	}
	_, err = o.Accounts.Activate(o.Context(), o.Tenant, token, from(1))
	o.Is(err, account.ErrActive)
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
	{"no user name", func(_ *fixture, f *account.Form) { f.User = "" }, fault.Invalid, "",
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
	{"a user name with a capital", func(_ *fixture, f *account.Form) { f.User = "Ann" }, fault.Invalid,
		"user", "", false},
	{"a reserved user name", func(_ *fixture, f *account.Form) { f.User = "adm1n" }, fault.Invalid,
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
		func(o *fixture, f *account.Form) { f.HA1 = o.hash(f.User, lastPassword(o.TB)) },
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
		f.HA1B = ptr(digest.ComputeB(f.User, o.Tenant.Realm, "password1234").Hex())
	}, fault.Invalid, "ha1b", "", false},
	{"a SHA-256 of a common password", func(o *fixture, f *account.Form) {
		f.HA1SHA256 = ptr(digest.ComputeSHA256(f.User, o.Tenant.Realm, "111111111111").Hex())
	}, fault.Invalid, "ha1_sha256", "", false},
	{"an ha1b of the commonest word", func(o *fixture, f *account.Form) {
		f.HA1B = ptr(digest.ComputeB(f.User, o.Tenant.Realm, "password").Hex())
	}, fault.Invalid, "ha1b", "", false},
	{"a SHA-256 of the commonest word", func(o *fixture, f *account.Form) {
		f.HA1SHA256 = ptr(digest.ComputeSHA256(f.User, o.Tenant.Realm, "password").Hex())
	}, fault.Invalid, "ha1_sha256", "", false},
	{"a SHA-256 of the commonest word, in upper-case hex", func(o *fixture, f *account.Form) {
		f.HA1SHA256 = ptr(strings.ToUpper(digest.ComputeSHA256(f.User, o.Tenant.Realm, "password").Hex()))
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
			f.CaptchaToken, f.CaptchaAnswer = o.answered(o.Tenant.ID + 1)
		}, fault.Captcha, "", "", false},
}

// A tenant that signs in with SHA-256 refuses the SHA-256 of a common password even if the ha1 is that of a good
// one.
func TestSignupSHA256OfCommonPassword(t *testing.T) {
	o := newFixture(t)
	o.Tenant.Algorithm = digest.SHA256
	form := o.form("ann")
	for _, p := range []string{"password", lastPassword(t), "zacharias1234"} {
		form.Name = "Zacharias Quill"
		form.HA1SHA256 = ptr(digest.ComputeSHA256("ann", o.Tenant.Realm, p).Hex())
		_, err := o.Accounts.Signup(o.Context(), o.Tenant, form, from(1))
		if f, ok := errors.AsType[*fault.Error](err); !ok || f.Field != "ha1_sha256" || f.Rule != "common" {
			t.Errorf("%s: got %#v", p, err)
		}
	}
	form.HA1SHA256 = ptr(digest.ComputeSHA256("ann", o.Tenant.Realm, "violet kettle 9 harbour").Hex())
	_, err := o.Accounts.Signup(o.Context(), o.Tenant, form, from(1))
	o.Must(err)
}

// lastPassword returns the last entry of the list of common passwords.
func lastPassword(t testing.TB) string {
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
			_, err := o.Accounts.Signup(o.Context(), o.Tenant, bad, from(1))
			f, ok := errors.AsType[*fault.Error](err)
			if !ok || f.Kind != c.kind || f.Field != c.field || c.message != "" &&
				f.Message != c.message {
				t.Fatalf("got %#v", err)
			}
			o.absent("ann")
			if files := o.Messages(); len(files) != 0 || len(o.Pending()) != 0 {
				t.Errorf("%d files and %d entries are left", len(files), len(o.Pending()))
			}
			_, err = o.Accounts.Signup(o.Context(), o.Tenant, good, from(1))
			if c.spent {
				o.refused(err, fault.Captcha)
				good.CaptchaToken, good.CaptchaAnswer = o.answered(o.Tenant.ID)
				_, err = o.Accounts.Signup(o.Context(), o.Tenant, good, from(1))
			}
			o.Must(err)
			// A refusal does not count towards the limit: two more signups succeed, then no more.
			for _, user := range []string{"bob", "cid"} {
				_, err = o.Accounts.Signup(o.Context(), o.Tenant, o.form(user), from(1))
				o.Must(err)
			}
			_, err = o.Accounts.Signup(o.Context(), o.Tenant, o.form("dan"), from(1))
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
		_, err := o.Accounts.Signup(o.Context(), o.Tenant, f, from(1)) // uses up the limit by address too
		o.Must(err)
	}
	files := len(o.Messages())

	f := o.form("taken")
	f.Email, f.CaptchaAnswer = mailed, "99"
	f.HA1 = "x"
	try := func(at account.Origin, kind fault.Kind, want string) {
		t.Helper()
		_, err := o.Accounts.Signup(o.Context(), o.Tenant, f, at)
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
	try(from(1), fault.Limited, "from your network")
	try(from(2), fault.Captcha, "answer")
	f.CaptchaToken, f.CaptchaAnswer = o.answered(o.Tenant.ID)
	try(from(2), fault.Conflict, "taken")
	try(from(2), fault.Captcha, "answer") // the conflict has spent the captcha
	f.User, f.HA1 = "free", o.hash("free", password)
	f.CaptchaToken, f.CaptchaAnswer = o.answered(o.Tenant.ID)
	try(from(2), fault.Limited, "to this e-mail address")
	f.Email = "free@mail.test"
	o.absent("free")
	if got := len(o.Messages()); got != files {
		t.Errorf("there are %d files, want %d", got, files)
	}
	// The refusal for the limit has not spent the captcha.
	_, err := o.Accounts.Signup(o.Context(), o.Tenant, f, from(2))
	o.Must(err)
}

func TestSignupSHA256(t *testing.T) {
	o := newFixture(t)
	strict := *o.Tenant
	strict.Algorithm = digest.SHA256
	f := o.form("ann")
	_, err := o.Accounts.Signup(o.Context(), &strict, f, from(1))
	if e, ok := errors.AsType[*fault.Error](err); !ok || e.Field != "ha1_sha256" {
		t.Errorf("got %v", err)
	}
	f.HA1SHA256 = ptr(digest.ComputeSHA256("ann", strict.Realm, password).Hex())
	_, err = o.Accounts.Signup(o.Context(), &strict, f, from(1))
	o.Must(err)
}

func TestSignupLimits(t *testing.T) {
	t.Run("failures by address", func(t *testing.T) {
		o := newFixture(t)
		bad := o.form("ann")
		bad.HA1 = "x"
		for range 60 {
			_, err := o.Accounts.Signup(o.Context(), o.Tenant, bad, from(1))
			o.refused(err, fault.Invalid)
		}
		good := o.form("ann")
		_, err := o.Accounts.Signup(o.Context(), o.Tenant, good, from(1))
		o.refused(err, fault.Limited)
		_, err = o.Accounts.Signup(o.Context(), o.Tenant, good, from(2))
		o.Must(err)
		o.Advance(10 * time.Minute)
		_, err = o.Accounts.Signup(o.Context(), o.Tenant, o.form("bob"), from(1))
		o.Must(err)
	})
	t.Run("signups by address, of all tenants together", func(t *testing.T) {
		o := newFixture(t)
		o.AccountDeps.AddressCeiling = 2
		o.Rebuild()
		for _, host := range []string{"phone.test", "other.test"} {
			o.Tenant = o.At(host).Tenant
			_, err := o.Accounts.Signup(o.Context(), o.Tenant, o.form("ann"), from(1))
			o.Must(err)
		}
		_, err := o.Accounts.Signup(o.Context(), o.Tenant, o.form("bob"), from(1))
		o.refused(err, fault.Limited)
	})
	t.Run("signups by address, separately for each tenant", func(t *testing.T) {
		o := newFixture(t)
		for _, host := range []string{"phone.test", "other.test"} {
			o.Tenant = o.At(host).Tenant
			for i := range 3 {
				_, err := o.Accounts.Signup(o.Context(), o.Tenant, o.form(fmt.Sprint("ann", i)), from(1))
				o.Must(err)
			}
			_, err := o.Accounts.Signup(o.Context(), o.Tenant, o.form("bob"), from(1))
			o.refused(err, fault.Limited)
		}
	})
	t.Run("not for a developer", func(t *testing.T) {
		o := newFixture(t)
		o.AccountDeps.AddressCeiling = 2
		local := account.Origin{Addr: netip.MustParseAddr("::1")}
		for _, dev := range []bool{false, true} {
			o.AccountDeps.Dev = dev
			o.Rebuild()
			for i := range 70 {
				bad := o.form("ann")
				bad.CaptchaAnswer = "99"
				_, err := o.Accounts.Signup(o.Context(), o.Tenant, bad, local)
				if want := fault.Captcha; !fault.Is(err, want) && (dev || i < 60) {
					t.Fatalf("dev %v, failure %d: %v", dev, i, err)
				}
			}
			for i := range 5 {
				_, err := o.Accounts.Signup(o.Context(), o.Tenant, o.form(fmt.Sprint("ann", i)), local)
				if dev != (err == nil) {
					t.Errorf("dev %v, signup %d: %v", dev, i, err)
				}
			}
		}
		for i := range 3 { // everybody else has the limits
			_, err := o.Accounts.Signup(o.Context(), o.Tenant, o.form(fmt.Sprint("bob", i)), from(1))
			if (i < 2) != (err == nil) {
				t.Errorf("signup %d from elsewhere: %v", i, err)
			}
		}
	})
	t.Run("signups of a tenant", func(t *testing.T) {
		o := newFixture(t)
		small := *o.Tenant
		small.SignupsPerHour = 2
		for i, want := range []bool{true, true, false} {
			_, err := o.Accounts.Signup(o.Context(), &small, o.form(fmt.Sprint("ann", i)), from(i))
			if want != (err == nil) || err != nil && !fault.Is(err, fault.Limited) {
				t.Errorf("signup %d: %v", i, err)
			}
		}
	})
}

// pickupFaults are the ways in which the pickup directory or the store fails.
var pickupFaults = []struct {
	name         string
	fail, repair func(*fixture) error
}{
	{"is removed", func(o *fixture) error { return os.RemoveAll(o.Pickup.Path()) },
		func(o *fixture) error { return os.Mkdir(o.Pickup.Path(), 0o770) }},
	{"is a file", func(o *fixture) error {
		return errors.Join(os.RemoveAll(o.Pickup.Path()),
			os.WriteFile(o.Pickup.Path(), nil, 0o600))
	}, func(o *fixture) error {
		return errors.Join(os.Remove(o.Pickup.Path()), os.Mkdir(o.Pickup.Path(), 0o770))
	}},
	{"cannot stage", func(o *fixture) error { o.Pickup.StageErr = errBroken; return nil },
		func(o *fixture) error { o.Pickup.StageErr = nil; return nil }},
	{"cannot publish", func(o *fixture) error { o.Pickup.PublishErr = errBroken; return nil },
		func(o *fixture) error { o.Pickup.PublishErr = nil; return nil }},
	{"works but the store fails",
		func(o *fixture) error { o.faults.create = errBroken; return nil },
		func(o *fixture) error { o.faults.create = nil; return nil }},
}

func TestSignupFaults(t *testing.T) {
	for _, c := range pickupFaults {
		t.Run("the directory "+c.name, func(t *testing.T) {
			o := newFixture(t)
			form := o.form("ann")
			var spans []string // that end, with an exclamation mark if they have failed
			tracer := trace.New(1, func(s *trace.Span) {
				if name, ok := strings.CutPrefix(s.Name, "pickup."); ok {
					spans = append(spans, name+map[bool]string{true: "!"}[s.Failed])
				}
			})
			ctx, _ := tracer.Begin(o.Context(), "signup", trace.Server, trace.Parent{})
			o.Must(c.fail(o))
			for range 5 { // more than the limit by address
				spans = nil
				_, err := o.Accounts.Signup(ctx, o.Tenant, form, from(1))
				o.refused(err, fault.Internal)
				want := []string{"stage!", "stage publish!"}
				if c.name == "works but the store fails" {
					want = []string{"stage"}
				}
				if got := strings.Join(spans, " "); !slices.Contains(want, got) {
					t.Errorf("the trace has %q, want one of %q", got, want)
				}
				o.absent("ann")
				if len(o.Pending()) != 0 {
					t.Fatal("an entry is left")
				}
			}
			o.Must(c.repair(o))
			if files := o.Messages(); len(files) != 0 {
				t.Errorf("%d files are left", len(files))
			}
			spans = nil
			_, err := o.Accounts.Signup(ctx, o.Tenant, form, from(1))
			o.Must(err)
			if got := strings.Join(spans, " "); got != "stage publish" {
				t.Errorf("the trace has %q", got)
			}
			_, content := o.onlyFile()
			tokenIn(t, content)
			o.Must(o.Outbox.Flush(o.Context()))
		})
	}
}

func TestSignupTakenNameWithFaultyPickup(t *testing.T) {
	for _, c := range pickupFaults[:4] {
		t.Run("the directory "+c.name, func(t *testing.T) {
			o := newFixture(t)
			o.signup("ann")
			o.Must(c.fail(o))
			form := o.form("ann")
			form.Email = "another@mail.test"
			_, err := o.Accounts.Signup(o.Context(), o.Tenant, form, from(1))
			o.refused(err, fault.Conflict)
		})
	}
}

func TestSignupUndoIsRetried(t *testing.T) {
	o := newFixture(t)
	form := o.form("ann")
	o.Pickup.PublishErr, o.faults.undo = errBroken, errBroken
	_, err := o.Accounts.Signup(o.Context(), o.Tenant, form, from(1))
	o.refused(err, fault.Internal)
	if _, err := o.Store.Find(o.Context(), o.Tenant.ID, "ann", o.Now()); err != nil {
		t.Fatalf("the undo did not fail: %v", err)
	}
	if err := o.Outbox.Flush(o.Context()); !errors.Is(err, errBroken) {
		t.Errorf("Flush while the store fails: %v", err)
	}
	o.Pickup.PublishErr, o.faults.undo = nil, nil
	o.Must(o.Outbox.Flush(o.Context()))
	o.absent("ann")
	if len(o.Pending()) != 0 || len(o.Messages()) != 0 {
		t.Errorf("%d entries are left, %d files are left", len(o.Pending()), len(o.Messages()))
	}
	_, err = o.Accounts.Signup(o.Context(), o.Tenant, form, from(1))
	o.Must(err)
}

func TestSignupUnknownIsUndone(t *testing.T) {
	for _, committed := range []bool{true, false} {
		t.Run(fmt.Sprintf("committed %v", committed), func(t *testing.T) {
			o := newFixture(t)
			form := o.form("ann")
			o.faults.create, o.faults.lost = fault.ErrInDoubt, !committed
			_, err := o.Accounts.Signup(o.Context(), o.Tenant, form, from(1))
			o.refused(err, fault.Overloaded)
			o.faults.create, o.faults.lost = nil, false
			o.Must(o.Outbox.Flush(o.Context()))
			o.absent("ann")
			if len(o.Pending()) != 0 || len(o.Messages()) != 0 {
				t.Errorf("%d entries are left, %d files are left", len(o.Pending()), len(o.Messages()))
			}
			// The same captcha is valid again.
			_, err = o.Accounts.Signup(o.Context(), o.Tenant, form, from(1))
			o.Must(err)
		})
	}
}

func TestOutboxRecover(t *testing.T) {
	for _, c := range []struct {
		name string
		lose func(path string) error
	}{
		{"when the file is there", func(string) error { return nil }},
		{"when the file is missing", os.Remove},
		{"when the file is empty", func(path string) error { return os.Truncate(path, 0) }},
		{"when the file is truncated", func(path string) error { return os.Truncate(path, 300) }},
		{"when the file was not renamed", func(path string) error {
			dir, name := filepath.Split(path)
			return os.Rename(path, dir+"."+strings.TrimSuffix(name, ".eml")+".part")
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := newFixture(t)
			o.Set(world.Noon.Add(123456789)) // with more digits than the store keeps
			o.signup("ann")
			name, content := o.onlyFile()
			o.Must(c.lose(filepath.Join(o.Pickup.Path(), name)))
			o.Set(world.Noon.Add(5 * time.Hour))
			o.restart()
			o.Must(o.Pickup.Clean())
			o.Must(o.Outbox.Recover(o.Context()))
			o.Must(o.Outbox.Flush(o.Context()))
			if again, bytes := o.onlyFile(); again != name || bytes != content {
				t.Errorf("there is %s:\n%s\nwant %s:\n%s", again, bytes, name, content)
			}
			if len(o.Pending()) != 0 {
				t.Error("the entry is left")
			}
			a, err := o.Accounts.Activate(o.Context(), o.Tenant, tokenIn(t, content), from(1))
			if err != nil || a.User != "ann" {
				t.Errorf("Activate: got %v, %v", a.User, err)
			}
			o.Must(os.Remove(filepath.Join(o.Pickup.Path(), name))) // as the mail server does
			o.Must(o.Outbox.Flush(o.Context()))
			if len(o.Messages()) != 0 {
				t.Error("the message was written again")
			}
		})
	}
}

func TestSecretsAreNotStoredOrLogged(t *testing.T) {
	o := newFixture(t)
	ha1, ha1b, sum := digest.Compute("ann", "phone.test", password),
		digest.ComputeB("ann", "phone.test", password),
		digest.ComputeSHA256("ann", "phone.test", password)
	form := o.form("ann")
	form.HA1B, form.HA1SHA256 = ptr(ha1b.Hex()), ptr(sum.Hex())
	form.Email = "a-canary-of-an-address@mail.test"
	wrong := form
	wrong.CaptchaAnswer = "271828" // which no other number in the log contains
	_, err := o.Accounts.Signup(o.Context(), o.Tenant, wrong, from(1))
	o.refused(err, fault.Captcha)
	form.CaptchaToken, form.CaptchaAnswer = o.answered(o.Tenant.ID)
	o.Pickup.PublishErr, o.faults.undo = errBroken, errBroken
	_, err = o.Accounts.Signup(o.Context(), o.Tenant, form, from(1))
	o.refused(err, fault.Internal)
	o.Pickup.PublishErr, o.faults.undo = nil, nil
	o.Must(o.Outbox.Flush(o.Context()))
	_, err = o.Accounts.Signup(o.Context(), o.Tenant, form, from(1))
	o.Must(err)
	_, message := o.onlyFile()
	text := tokenIn(t, message)
	token, _ := secret.ParseToken(text)
	o.restart()
	o.Must(o.Outbox.Recover(o.Context()))
	o.Must(o.Outbox.Flush(o.Context()))
	_, err = o.Accounts.Activate(o.Context(), o.Tenant, text, from(1))
	o.Must(err)
	_, err = o.Accounts.Activate(o.Context(), o.Tenant, text, from(1))
	o.Is(err, account.ErrActive)

	canaries := map[string]string{
		"HA1": ha1.Hex(), "HA1B": ha1b.Hex(), "SHA-256": sum.Hex(), "the raw HA1": string(ha1[:]),
		"the raw HA1B":    string(ha1b[:]),
		"the raw SHA-256": string(sum[:]), "the token": text, "the raw token": string(token[:]),
		"the token in hex": hex.EncodeToString(token[:]),
	}
	check := func(where, text string) {
		for name, canary := range canaries {
			if strings.Contains(text, canary) || strings.Contains(text, strings.ToUpper(canary)) {
				t.Errorf("%s contains %s", where, name)
			}
		}
	}
	for _, suffix := range []string{"", "-wal", "-shm"} {
		b, err := os.ReadFile(o.DatabaseFile() + suffix)
		o.Must(err)
		check("dialtone.db"+suffix, string(b))
	}
	maps.Copy(canaries, map[string]string{
		"the captcha": form.CaptchaToken, "the wrong answer": wrong.CaptchaAnswer,
		"the whole address": form.Email, "the password": password,
	})
	log := o.Log.String()
	check("the log", log)
	for _, line := range []string{`"captcha_failed"`, `"server_error"`, `"signup.undo"`,
		`"message.republish"`, `"already_active"`, `"a***@mail.test"`} {
		if !strings.Contains(log, line) {
			t.Errorf("the log does not contain %s:\n%s", line, log)
		}
	}
}

func TestCredentialIsBoundToItsAccount(t *testing.T) {
	o := newFixture(t)
	o.signup("ann")
	o.signup("bob")
	o.exec(`CREATE TEMP TABLE old AS SELECT username, credential FROM account;
		UPDATE account SET credential = (SELECT credential FROM old WHERE old.username <> account.username)`)
	for _, user := range []string{"ann", "bob"} {
		a, err := o.Store.Find(o.Context(), o.Tenant.ID, user, o.Now())
		o.Must(err)
		_, err = o.Accounts.Credential(a)
		o.Is(err, secret.ErrSeal)
	}
}

// Actions of operators are added to the audit trail. Servers write them to their logs from
// there, and nothing is logged twice.
func TestTrailOfOperators(t *testing.T) {
	o := newFixture(t)
	o.signup("ann")
	ctx := audit.With(o.Context(), audit.Cause{Actor: audit.Actor{Kind: audit.Command, Name: "olga"}, Reason: "why"})
	for _, act := range []struct {
		action audit.Action
		do     func(user string) error
	}{
		{audit.AccountEnable, func(user string) error {
			_, err := o.Accounts.EnableNow(ctx, o.Tenant, user)
			return err
		}},
		{audit.AccountDisable, func(user string) error {
			_, err := o.Accounts.Disable(ctx, o.Tenant, user)
			return err
		}},
		{audit.AccountEnable, func(user string) error {
			_, err := o.Accounts.Enable(ctx, o.Tenant, user)
			return err
		}},
		{audit.AccountRole, func(user string) error {
			_, err := o.Accounts.SetRole(ctx, o.Tenant, user, account.Admin)
			return err
		}},
		{audit.AccountDelete, func(user string) error { return o.Accounts.Delete(ctx, o.Tenant, user) }},
		{audit.AccountFreeName, func(user string) error { return o.Accounts.FreeName(ctx, o.Tenant, user) }},
	} {
		var last int64
		o.Must(o.Store.Changes(ctx, audit.Filter{}, func(c audit.Change) error {
			last = c.ID
			return nil
		}))
		o.Must(act.do("ann"))
		o.refused(act.do("nobody"), fault.NotFound)
		var got []string
		o.Must(o.Store.Changes(ctx, audit.Filter{AfterID: last}, func(c audit.Change) error {
			got = append(got, fmt.Sprint(c.Action, c.User, c.Actor, c.Reason))
			return nil
		}))
		if want := []string{fmt.Sprint(act.action, "ann", "olga", "why")}; !slices.Equal(got, want) {
			t.Errorf("the trail has %q, want %q", got, want)
		}
		if n := o.Log.Count(fmt.Sprintf(`"msg":%q`, act.action)); n != 0 {
			t.Errorf("%s is logged %d times", act.action, n)
		}
	}
}

func TestConcurrentSignups(t *testing.T) {
	o := newFixture(t)
	forms := make([]account.Form, 50)
	for i := range forms {
		forms[i] = o.form("ann")
		forms[i].Email = fmt.Sprintf("ann%d@mail.test", i)
	}
	var all sync.WaitGroup
	errs := make([]error, len(forms))
	for i, form := range forms {
		all.Go(func() { _, errs[i] = o.Accounts.Signup(o.Context(), o.Tenant, form, from(i)) })
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
		t.Errorf("%d signups of the same name succeeded, want one", wins)
	}
	o.onlyFile()
	o.Must(o.Outbox.Flush(o.Context()))
	if len(o.Pending()) != 0 {
		t.Error("an entry is left")
	}
}

// jumped returns the time at, as time.Now returns it after the wall clock was set forward by a
// duration. Its monotonic clock reading is that of at. The standard library cannot create such
// a time, so jumped writes to its fields.
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
	start := time.Now() // which has a monotonic clock reading
	o := newFixture(t)
	o.Set(start)
	o.restart()
	o.signup("ann")
	_, content := o.onlyFile()
	expired := func() bool {
		t.Helper()
		_, err := o.Accounts.Activate(o.Context(), o.Tenant, tokenIn(t, content), from(1))
		return errors.Is(err, account.ErrExpired)
	}
	for _, by := range []time.Duration{10 * 365 * day, 8 * day, -10 * 365 * day, time.Hour + time.Second} {
		o.Set(jumped(t, start, by))
		if err := o.Accounts.Sweep(o.Context()); (err == nil) != (by < 0) {
			t.Errorf("Sweep after a jump of %v: %v", by, err)
		}
		o.Set(start)
		if _, err := o.Store.Find(o.Context(), o.Tenant.ID, "ann", o.Now()); err != nil {
			t.Fatalf("after a jump of %v and back: %v", by, err)
		}
	}
	o.Set(jumped(t, start, time.Hour-time.Second)) // the largest correction of a clock that is accepted
	o.Must(o.Accounts.Sweep(o.Context()))

	o.Set(start.Add(8*day - time.Microsecond))
	o.Must(o.Accounts.Sweep(o.Context()))
	if !expired() {
		t.Error("the link does not fail with ErrExpired, as it must for a day after the account expired")
	}
	o.Set(start.Add(8*day + time.Microsecond))
	o.Must(o.Accounts.Sweep(o.Context()))
	if expired() {
		t.Error("the row is still there a day after the account expired")
	}
}

// TestSweepAfterWrongStart starts with a clock that is a year ahead and is corrected afterwards.
func TestSweepAfterWrongStart(t *testing.T) {
	const day = 24 * time.Hour
	right := time.Now()
	o := newFixture(t)
	o.Set(right)
	o.signup("ann")
	_, content := o.onlyFile()
	o.Set(jumped(t, right, 365*day))
	o.restart()
	o.Set(right.Add(8*day + time.Microsecond))
	o.Must(o.Accounts.Sweep(o.Context()))
	_, err := o.Accounts.Activate(o.Context(), o.Tenant, tokenIn(t, content), from(1))
	if err == nil || errors.Is(err, account.ErrExpired) {
		t.Errorf("the row is still there a day after the account expired: %v", err)
	}
}

func TestSweepIsComplete(t *testing.T) {
	o := newFixture(t)
	const n = 1100 // more than two batches
	o.exec(`WITH RECURSIVE c (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < ` + fmt.Sprint(n) + `)
		INSERT INTO account (uid, tenant, username, name, email, role, held, created, expires,
			activated, closed, epoch, credential, has_sha256, token)
		SELECT randomblob(16), 1, 'u' || i, '', '', 'guest', FALSE, 0, i,
			NULL, NULL, 0, x'', FALSE, randomblob(32) FROM c`)
	o.Must(o.Accounts.Sweep(o.Context()))
	db, err := sql.Open("sqlite", o.DatabaseFile())
	o.Must(err)
	defer db.Close()
	var left int
	o.Must(db.QueryRow(`SELECT count(*) FROM account`).Scan(&left))
	if left != 0 {
		t.Errorf("%d accounts are left", left)
	}
}
