package web_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/mailmsg"
	"dialtone/internal/outbox"
	"dialtone/internal/secret"
	"dialtone/internal/tenant"
)

// The published contract, on a real server. Each table is one of its sections.

const missing = "user, name, email, ha1, captcha_token, captcha_answer required"

func TestCaptchaIsAsked(t *testing.T) {
	t.Parallel()
	p := open(t)
	v := p.visitor("a.test")
	seen := make(map[string]bool)
	for range 50 {
		a := v.get(t, "/captcha.ashx")
		a.isJSON(t, 200)
		var got map[string]string
		a.json(t, &got)
		if len(got) != 2 || got["question"] == "" || got["token"] == "" {
			t.Fatalf("body %q, want question and token and nothing else", a.body)
		}
		solve(t, got["question"])
		if seen[got["token"]] {
			t.Fatal("two questions have one token")
		}
		seen[got["token"]] = true
		if len(a.header["Set-Cookie"]) != 0 {
			t.Fatal("a captcha sets a cookie")
		}
	}
	if n := p.spent(t); n != 0 {
		t.Errorf("questions that nobody answered left %d rows", n)
	}
}

func TestSignupSucceeds(t *testing.T) {
	t.Parallel()
	p := open(t)
	who := p.person("a.test")
	a := p.visitor("a.test").post(t, p.form(t, who))
	a.isJSON(t, 200)
	if want := fmt.Sprintf(`{"ok":true,"user":%q}`, who.user) + "\n"; a.body != want {
		t.Errorf("body %q, want %q", a.body, want)
	}
	got := p.find(t, who)
	if !got.Disabled || got.Role != account.Guest || got.Name != who.name || got.Email != who.email || got.Held || !got.Pending() {
		t.Errorf("account %+v", got)
	}
	if life := got.Expires.Sub(p.clock.Now()); life != 7*24*time.Hour {
		t.Errorf("the link is good for %v", life)
	}
	credential, err := p.desk.Credential(got)
	if err != nil || credential.HA1.Hex() != who.ha1() || credential.HA1B != nil || credential.SHA256 != nil {
		t.Errorf("another credential was stored than was sent (%v)", err)
	}
	origin, target := p.wholeLink(t, who.email)
	if origin != "https://a.test" {
		t.Errorf("the link goes to %s", origin)
	}
	for _, name := range p.files(t) {
		if !strings.HasSuffix(name, ".eml") {
			t.Errorf("there is a file %s", name)
		}
	}
	// The store knows the token and the password's hash only as what cannot be used.
	token := must[*url.URL](t)(url.Parse(target)).Query().Get("token")
	raw, ok := secret.DecodeText(token)
	if !ok {
		t.Fatalf("token %q", token)
	}
	for _, name := range []string{"dialtone.db", "dialtone.db-wal"} {
		content, err := os.ReadFile(filepath.Join(p.dir, name))
		if err != nil {
			t.Fatal(err)
		}
		for what, bad := range map[string][]byte{
			"the token": []byte(token), "the token's bytes": raw,
			"HA1": []byte(who.ha1()), "HA1's bytes": credential.HA1[:], "the password": []byte(who.password),
		} {
			if bytes.Contains(content, bad) {
				t.Errorf("%s holds %s", name, what)
			}
		}
	}
}

// Every row is a valid signup but for one thing. It must be refused with the status and code, and leave nothing.
func TestSignupIsRefused(t *testing.T) {
	t.Parallel()
	p := open(t)
	long := strings.Repeat
	rows := []struct {
		name, change string // the change is name=value in percent-encoding
		says         string // in the description
	}{
		{"a user of nothing", "user=", missing},
		{"a user of 65 characters", "user=" + long("a", 65), "user"},
		{"a user in capitals", "user=ALEX", "user"},
		{"a user with one capital", "user=aleX", "user"},
		{"a user that begins with a space", "user=+alex", "user"},
		{"a user that ends with a space", "user=alex+", "user"},
		{"a user with a Kelvin sign", "user=%E2%84%AAarl", "user"},
		{"a user with a long s", "user=%C5%BFusan", "user"},
		{"a user with a dotted capital I", "user=%C4%B0van", "user"},
		{"a user in full width", "user=%EF%BD%81%EF%BD%8C%EF%BD%85%EF%BD%98", "user"},
		{"a user with a Cyrillic a", "user=%D0%B0lex", "user"},
		{"a user with an at sign", "user=alex%40a.test", "user"},
		{"a user with a slash", "user=a%2Fb", "user"},
		{"a user with a backslash", "user=a%5Cb", "user"},
		{"a user with a colon, which HA1 cannot hold", "user=a%3Ab", "user"},
		{"a user with a quote", "user=a%22b", "user"},
		{"a user of one dot", "user=.", "user"},
		{"a user of two dots", "user=..", "user"},
		{"a user of a hyphen", "user=-", "user"},
		{"a user of marks alone", "user=_.-", "user"},
		{"a reserved user", "user=admin", "user"},
		{"a user that looks like a reserved one", "user=adm1n", "user"},
		{"a user that looks like support", "user=supp0rt", "user"},
		{"a user with separators in a reserved name", "user=ad-min", "user"},
		{"an emergency number", "user=911", "user"},
		{"the European emergency number", "user=112", "user"},
		{"an emergency number with hyphens", "user=9-1-1", "user"},

		{"a name of nothing", "name=", missing},
		{"a name of white space", "name=+++", "name"},
		{"a name of white space of other kinds", "name=%C2%A0%E3%80%80", "name"},
		{"a name of 121 characters", "name=" + long("a", 121), "name"},
		{"a name of 121 characters of four bytes", "name=" + long("%F0%90%80%80", 121), "name"},
		{"a name without a letter or digit", "name=%21%21", "name"},
		{"a name with a right-to-left override", "name=A%E2%80%AEB", "name"},
		{"a name with a left-to-right isolate", "name=A%E2%81%A6B", "name"},
		{"a name of a zero-width space", "name=%E2%80%8B", "name"},
		{"a name with a zero-width space", "name=A%E2%80%8BB", "name"},
		{"a name with a byte order mark", "name=A%EF%BB%BFB", "name"},
		{"a name with a soft hyphen", "name=A%C2%ADB", "name"},
		{"a name with a tag character", "name=A%F3%A0%81%81B", "name"},
		{"a name with a private character", "name=A%EE%80%80B", "name"},
		{"a name with an unassigned character", "name=A%F0%9F%BF%BEB", "name"},
		{"a name with a noncharacter", "name=A%EF%BF%BFB", "name"},
		{"a name with a line separator", "name=A%E2%80%A8B", "name"},
		{"a name with a paragraph separator", "name=A%E2%80%A9B", "name"},

		{"an e-mail of nothing", "email=", missing},
		{"an e-mail without an at sign", "email=alex.test", "email"},
		{"an e-mail without a local part", "email=%40x.test", "email"},
		{"an e-mail without a domain", "email=alex%40", "email"},
		{"an e-mail with a domain of one label", "email=alex%40localhost", "email"},
		{"an e-mail with an empty label", "email=alex%40x..test", "email"},
		{"an e-mail with a leading dot", "email=.alex%40x.test", "email"},
		{"an e-mail with a trailing dot before the at sign", "email=alex.%40x.test", "email"},
		{"an e-mail with two dots", "email=a..b%40x.test", "email"},
		{"an e-mail with a leading hyphen", "email=-oQ%2Ftmp%40x.test", "email"},
		{"an e-mail with a leading hyphen and an option of a mail program", "email=-OQueueDirectory%3D%2Ftmp%40x.test", "email"},
		{"an e-mail with a space", "email=a+b%40x.test", "email"},
		{"an e-mail that ends with a space", "email=alex%40x.test+", "email"},
		{"two e-mails with a comma", "email=a%40x.test%2Cb%40y.test", "email"},
		{"two e-mails with a semicolon", "email=a%40x.test%3Bb%40y.test", "email"},
		{"two at signs", "email=a%40b%40x.test", "email"},
		{"a group", "email=g%3Aa%40x.test%3B", "email"},
		{"an e-mail in angle brackets", "email=%3Ca%40x.test%3E", "email"},
		{"an e-mail with a display name", "email=A+%3Ca%40x.test%3E", "email"},
		{"an e-mail with a comment", "email=a(c)%40x.test", "email"},
		{"a quoted local part", "email=%22x%22%40x.test", "email"},
		{"an address literal", "email=a%40%5B192.0.2.1%5D", "email"},
		{"a bare IP address", "email=a%40192.0.2.1", "email"},
		{"a source route", "email=%40x.test%3Aa%40y.test", "email"},
		{"a bang path with a percent hack and two at signs", "email=a%25y%40z%40x.test", "email"},
		{"a local part beyond ASCII", "email=%C3%BC%40x.test", "not supported"},
		{"a local part of 65 characters", "email=" + long("a", 65) + "%40x.test", "email"},
		{"an e-mail of 255 characters", "email=" + long("a", 64) + "%40" + long(long("b", 62)+".", 2) + long("b", 59) + ".test", "email"},
		{"a label of 64 characters", "email=a%40" + long("b", 64) + ".test", "email"},
		{"a domain label with a leading hyphen", "email=a%40-x.test", "email"},
		{"an underscore in the domain", "email=a%40x_y.test", "email"},
		{"a broken A-label", "email=a%40xn--.test", "email"},

		{"an HA1 of nothing", "ha1=", missing},
		{"an HA1 of 31 digits", "ha1=" + long("a", 31), "ha1"},
		{"an HA1 of 33 digits", "ha1=" + long("a", 33), "ha1"},
		{"an HA1 with a g", "ha1=" + long("a", 31) + "g", "ha1"},
		{"an HA1 with a space", "ha1=+" + long("a", 31), "ha1"},
		{"an HA1 of full-width digits", "ha1=" + long("%EF%BC%91", 32), "ha1"},
		{"an HA1 that is a SHA-256", "ha1=" + long("ab", 32), "ha1"},

		{"an ha1b of nothing", "ha1b=", "ha1b"},
		{"an ha1b of 31 digits", "ha1b=" + long("a", 31), "ha1b"},
		{"an ha1b with a g", "ha1b=" + long("g", 32), "ha1b"},
		{"an ha1_sha256 of nothing", "ha1_sha256=", "ha1_sha256"},
		{"an ha1_sha256 of 32 digits", "ha1_sha256=" + long("a", 32), "ha1_sha256"},
		{"an ha1_sha256 with an x", "ha1_sha256=" + long("x", 64), "ha1_sha256"},

		{"a captcha token of nothing", "captcha_token=", missing},
		{"a captcha answer of nothing", "captcha_answer=", missing},
	}
	for _, field := range []string{"user", "name", "email", "ha1", "captcha_token", "captcha_answer", "ha1b", "ha1_sha256"} {
		for what, bytes := range map[string]string{
			"bytes that are no UTF-8": "%ff%fe", "an overlong slash": "%c0%af", "a surrogate": "%ed%a0%80",
			"a cut character": "a%e2%80", "too large a code point": "%f4%90%80%80",
		} {
			rows = append(rows, struct{ name, change, says string }{what + " in " + field, field + "=" + bytes, field + ": the text is not UTF-8"})
		}
		for what, bytes := range map[string]string{
			"a NUL": "a%00b", "a line break": "a%0d%0ab", "a line feed": "a%0ab", "a tab": "a%09b", "a trailing line feed": "a%0a",
			"an escape sequence": "%1b%5b2J", "a delete": "a%7fb", "a C1 control": "a%c2%85b", "the last C1 control": "a%c2%9fb",
			"the first control": "%01",
		} {
			rows = append(rows, struct{ name, change, says string }{what + " in " + field, field + "=" + bytes, field + ": the text contains a control character"})
		}
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			who := p.person("a.test")
			f := p.form(t, who).with(row.change)
			user := who.user
			if strings.HasPrefix(row.change, "user=") {
				user, _ = url.QueryUnescape(row.change[5:])
			}
			spent := p.spent(t)
			p.leavesNothing(t, "a.test", user, func() {
				got := p.visitor("a.test").post(t, f).fails(t, 400, "invalid_request")
				if !strings.Contains(got, row.says) || row.says == missing && got != missing {
					t.Errorf("the description is %q, want %q in it", got, row.says)
				}
				if p.spent(t) != spent {
					t.Error("the captcha was spent")
				}
			})
		})
	}
}

func TestSignupWantsItsFields(t *testing.T) {
	t.Parallel()
	p := open(t)
	required := []string{"user", "name", "email", "ha1", "captcha_token", "captcha_answer"}
	for _, field := range required {
		for name, change := range map[string]func(form) form{
			field + " is missing":                  func(f form) form { return f.without(field) },
			field + " is empty":                    func(f form) form { return f.with(field + "=") },
			field + " is missing and another bad":  func(f form) form { return f.with("user=BAD", "ha1=bad", "email=bad").without(field) },
			field + " is there under another case": func(f form) form { return append(f.without(field), [2]string{strings.ToUpper(field), "x"}) },
		} {
			t.Run(name, func(t *testing.T) {
				who := p.person("a.test")
				f := change(p.form(t, who))
				p.leavesNothing(t, "a.test", who.user, func() {
					if got := p.visitor("a.test").post(t, f).fails(t, 400, "invalid_request"); got != missing {
						t.Errorf("the description is %q, want %q", got, missing)
					}
				})
			})
		}
	}
	for name, body := range map[string]string{"the body is empty": "", "the body is an ampersand": "&", "the body is one word": "user"} {
		t.Run(name, func(t *testing.T) {
			if got := p.visitor("a.test").postBody(t, body).fails(t, 400, "invalid_request"); got != missing {
				t.Errorf("the description is %q", got)
			}
		})
	}
}

// Every row is an unusual signup that is right, and what must then be stored.
func TestSignupIsAccepted(t *testing.T) {
	t.Parallel()
	p := open(t)
	long := strings.Repeat
	hex := long("0123456789abcdef", 2)
	rows := []struct {
		name    string
		changes []string
		user    string // stored, where it is not the person's
		shown   string
		email   string
	}{
		{"a user of one letter", []string{"user=q"}, "q", "", ""},
		{"a user of 64 characters", []string{"user=" + long("a", 64)}, long("a", 64), "", ""},
		{"an extension", []string{"user=1001"}, "1001", "", ""},
		{"a user with every mark", []string{"user=a.b_c-d"}, "a.b_c-d", "", ""},
		{"a user that a shell would take for an option", []string{"user=-rf"}, "-rf", "", ""},
		{"a user that looks like a host name", []string{"user=www.evil.com"}, "www.evil.com", "", ""},
		{"a name of one letter", []string{"name=X"}, "", "X", ""},
		{"a name of 120 letters", []string{"name=" + long("a", 120)}, "", long("a", 120), ""},
		{"a name of 120 characters of four bytes", []string{"name=" + long("%F0%90%80%80", 120)}, "", long("\U00010000", 120), ""},
		{"a name of 120 characters and spaces around it", []string{"name=++" + long("%E4%B8%AD", 120) + "++"}, "", long("中", 120), ""},
		{"a name with white space inside", []string{"name=Jo+++van%C2%A0der+Berg"}, "", "Jo van der Berg", ""},
		{"a name in another normal form", []string{"name=Zoe%CC%88"}, "", "Zoë", ""},
		{"an Arabic name", []string{"name=" + url.QueryEscape("فاطمة الزهراء")}, "", "فاطمة الزهراء", ""},
		{"a Hebrew name", []string{"name=" + url.QueryEscape("יעל כהן")}, "", "יעל כהן", ""},
		{"a name in Devanagari", []string{"name=" + url.QueryEscape("राजेश क्\u200dषत्रिय")}, "", "राजेश क्\u200dषत्रिय", ""},
		{"a name with an emoji family", []string{"name=" + url.QueryEscape("Ann 👩\u200d👩\u200d👧")}, "", "Ann 👩\u200d👩\u200d👧", ""},
		{"a name with markup in it", []string{"name=" + url.QueryEscape(`"><img src=x onerror=alert(1)>`)}, "", `"><img src=x onerror=alert(1)>`, ""},
		{"an e-mail with a tag", []string{"email=jo%2Btag%40one.test"}, "", "", "jo+tag@one.test"},
		{"an e-mail with capitals in its domain", []string{"email=Jo%40TWO.Test"}, "", "", "Jo@two.test"},
		{"an e-mail with an international domain", []string{"email=" + url.QueryEscape("a@bücher.test")}, "", "", "a@xn--bcher-kva.test"},
		{"an e-mail of 254 characters", []string{"email=" + long("a", 64) + "%40" + long(long("b", 62)+".", 2) + long("b", 58) + ".test"}, "", "",
			long("a", 64) + "@" + long(long("b", 62)+".", 2) + long("b", 58) + ".test"},
		{"an HA1 in capitals", []string{"ha1=" + strings.ToUpper(hex)}, "", "", ""},
		{"an answer with spaces around it", []string{"ha1=" + hex, "captcha_answer=+%s+"}, "", "", ""},
		{"both optional hashes in capitals", []string{"ha1=" + hex, "ha1b=" + strings.ToUpper(hex), "ha1_sha256=" + strings.ToUpper(hex+hex)}, "", "", ""},
		{"fields that nobody knows", []string{"ha1=" + hex, "role=admin", "disabled=false", "activated=1", "realm=x", "tenant=b", "uid=1", "x="}, "", "", ""},
		{"a field that nobody knows, given twice", []string{"ha1=" + hex, "x=1&x=2"}, "", "", ""},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			who := p.person("a.test")
			f := p.form(t, who)
			for i, c := range row.changes {
				row.changes[i] = strings.ReplaceAll(c, "%s", f.get(t, "captcha_answer"))
			}
			if row.user != "" {
				who.user = row.user
			}
			if row.shown == "" {
				row.shown = who.name
			}
			if row.email == "" {
				row.email = who.email
			}
			p.hide("e-mail address", row.email)
			f = f.with(row.changes...)
			p.visitor("a.test").post(t, f).is(t, 200)
			got := p.find(t, who)
			if got.Name != row.shown || got.Email != row.email {
				t.Errorf("stored name %q and e-mail %q, want %q and %q", got.Name, got.Email, row.shown, row.email)
			}
			if got.Role != account.Guest || !got.Disabled || !got.Pending() || got.Held || got.Tenant != p.tenant(t, "a.test").ID {
				t.Errorf("the account is %+v", got)
			}
			credential, err := p.desk.Credential(got)
			if err != nil {
				t.Fatal(err)
			}
			if want := strings.ToLower(f.get(t, "ha1")); credential.HA1.Hex() != want {
				t.Error("another HA1 is stored")
			}
			optional := strings.Contains(f.String(), "ha1b=")
			if (credential.HA1B != nil) != optional || (credential.SHA256 != nil) != optional || got.HasSHA256 != optional {
				t.Error("the optional hashes are not as they were sent")
			}
			if optional && (credential.HA1B.Hex() != hex || credential.SHA256.Hex() != hex+hex) {
				t.Error("the optional hashes are not stored in small letters")
			}
			if len(p.messages(t, row.email)) != 1 {
				t.Errorf("%d messages to %s", len(p.messages(t, row.email)), row.email)
			}
		})
	}
}

func TestCommonPasswordsAreRefused(t *testing.T) {
	t.Parallel()
	p := open(t)
	// Some of the commonest, some of the likeliest with 12 characters or more, and what can be guessed of the person.
	for _, password := range []string{
		"password", "123456", "qwerty", "iloveyou", "letmein", "dragon", "monkey", "trustno1", "sunshine", "michael", "", "USER", "HOST",
		"password1234", "111111111111", "qwertyuiop12", "Password123!", "USER12345678",
	} {
		t.Run("the password "+password, func(t *testing.T) {
			who := p.person("a.test")
			who.password = strings.NewReplacer("USER", who.user, "HOST", who.host).Replace(password)
			f := p.form(t, who)
			p.leavesNothing(t, "a.test", who.user, func() {
				if got := p.visitor("a.test").post(t, f).fails(t, 400, "invalid_request"); !strings.HasPrefix(got, "ha1: the password") {
					t.Errorf("the description is %q", got)
				}
			})
		})
	}
}

// A request with two things wrong gets the answer of the one that comes first (section 5.2).
func TestOrderOfChecks(t *testing.T) {
	t.Parallel()
	p := open(t)
	full := p.visitor("a.test") // an address that has had its three signups
	for range 3 {
		full.post(t, p.form(t, p.person("a.test"))).is(t, 200)
	}
	taken := p.member(t, "a.test")
	victim := p.person("a.test")
	for range 3 {
		who := p.person("a.test")
		who.email = victim.email
		p.signUp(t, who)
	}
	type request struct {
		from                        *visitor
		host, method, target, media string
		f                           form
		more, padding               string
		broken                      bool
	}
	type check struct {
		name   string
		spoil  func(*request)
		status int
		code   string
		says   string
	}
	checks := []check{
		{"an unknown host", func(r *request) { r.host = "evil.test" }, 421, "misdirected_request", ""},
		{"an unknown path", func(r *request) { r.target = "/signups.ashx" + r.target[len("/signup.ashx"):] }, 404, "not_found", ""},
		{"a wrong method", func(r *request) { r.method = "PUT" }, 405, "method_not_allowed", "POST"},
		{"a wrong media type", func(r *request) { r.media = "text/plain" }, 400, "invalid_request", formType},
		{"a long body", func(r *request) { r.padding = "&pad=" + strings.Repeat("x", 9000) }, 400, "invalid_request", "8 KiB"},
		{"a query string", func(r *request) { r.target += "?user=q" }, 400, "invalid_request", "question mark"},
		{"a body that does not parse", func(r *request) { r.more += "&z=%zz" }, 400, "invalid_request", "well-formed"},
		{"a field twice", func(r *request) { r.more += "&email=x%40y.test" }, 400, "invalid_request", "more than once"},
		{"bytes that are no UTF-8", func(r *request) { r.f = r.f.with("ha1b=%ff") }, 400, "invalid_request", "UTF-8"},
		{"a missing field", func(r *request) { r.f = r.f.without("name") }, 400, "invalid_request", missing},
		{"a field of bad shape", func(r *request) { r.f = r.f.with("ha1=xyz") }, 400, "invalid_request", "ha1: send"},
		{"an address that had its signups", func(r *request) { r.from = full }, 429, "rate_limited", "your address"},
		{"a wrong captcha", func(r *request) { r.f = r.f.with("captcha_answer=99") }, 400, "captcha_failed", ""},
		{"a user that is taken", func(r *request) { r.f = r.f.with("user=" + taken.user) }, 409, "conflict", "taken"},
		{"an e-mail that had its messages", func(r *request) { r.f = r.f.with("email=" + url.QueryEscape(victim.email)) }, 429, "rate_limited", "e-mail"},
		{"a store that fails", func(r *request) { r.broken = true }, 500, "server_error", ""},
	}
	mend := func() {}
	defer func() { mend() }()
	try := func(t *testing.T, spoilt ...check) {
		t.Helper()
		r := request{from: p.visitor("a.test"), method: "POST", target: "/signup.ashx", media: formType, host: "a.test"}
		r.f = p.form(t, p.person("a.test"))
		for _, c := range spoilt {
			c.spoil(&r)
		}
		if r.broken {
			mend = p.breakStore(t)
			defer func() { mend(); mend = func() {} }()
		}
		before := p.state(t)
		a := r.from.at(r.host).do(t, r.method, r.target, r.f.String()+r.more+r.padding, "Content-Type", r.media)
		if got := a.fails(t, spoilt[0].status, spoilt[0].code); !strings.Contains(got, spoilt[0].says) {
			t.Errorf("the description is %q, want %q in it", got, spoilt[0].says)
		}
		if after := p.state(t); after != before {
			t.Errorf("something was left behind:\n before %s\n after  %s", before, after)
		}
	}
	for i, first := range checks {
		t.Run(first.name, func(t *testing.T) { try(t, first) })
		for _, second := range checks[i+1:] {
			t.Run(first.name+" before "+second.name, func(t *testing.T) { try(t, first, second) })
		}
	}
}

func TestMethods(t *testing.T) {
	t.Parallel()
	p := open(t)
	for _, row := range []struct{ path, allow string }{
		{"/captcha.ashx", "GET, HEAD"}, {"/signup.ashx", "POST"}, {"/activate.ashx", "GET, HEAD, POST"}, {"/signin.ashx", "GET, HEAD, POST"},
		{"/signout.ashx", "POST"}, {"/", "GET, HEAD"}, {"/signup.html", "GET, HEAD"}, {"/login.html", "GET, HEAD"}, {"/account.html", "GET, HEAD"},
		{"/turn", "GET, HEAD"}, {"/provision", "POST"}, {"/provision/linphone.xml", "GET, HEAD"}, {"/provision/zoiper.xml", "GET, HEAD"},
	} {
		for _, method := range []string{"GET", "POST", "PUT", "DELETE", "PATCH", "TRACE", "FOO", "PROPFIND", "get", "CONNECT"} {
			if slices.Contains(strings.Split(row.allow, ", "), method) {
				continue
			}
			t.Run(method+" is not for "+row.path, func(t *testing.T) {
				who := p.person("a.test")
				a := p.visitor("a.test").do(t, method, row.path, p.form(t, who).String(), "Content-Type", formType)
				a.fails(t, 405, "method_not_allowed")
				if got := a.header.Values("Allow"); len(got) != 1 || got[0] != row.allow {
					t.Errorf("Allow is %q, want %q", got, row.allow)
				}
			})
		}
		t.Run("OPTIONS tells of "+row.path, func(t *testing.T) {
			a := p.visitor("a.test").do(t, "OPTIONS", row.path, "")
			a.is(t, 204)
			if a.header.Get("Allow") != row.allow || a.body != "" || a.header.Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("headers %v, body %q", a.header, a.body)
			}
		})
	}
	t.Run("HEAD of the captcha has its headers and no body", func(t *testing.T) {
		a := p.visitor("a.test").do(t, "HEAD", "/captcha.ashx", "")
		a.isJSON(t, 200)
		if a.body != "" {
			t.Errorf("body %q", a.body)
		}
	})
	t.Run("HEAD is not for signup", func(t *testing.T) {
		a := p.visitor("a.test").do(t, "HEAD", "/signup.ashx", "")
		a.isJSON(t, 405)
		if a.header.Get("Allow") != "POST" || a.body != "" {
			t.Errorf("headers %v, body %q", a.header, a.body)
		}
	})
	for _, header := range []string{"X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"} {
		t.Run(header+" changes nothing", func(t *testing.T) {
			who := p.person("a.test")
			f := p.form(t, who).with("_method=DELETE")
			p.leavesNothing(t, "a.test", who.user, func() {
				p.visitor("a.test").do(t, "GET", "/signup.ashx", f.String(), header, "POST", "Content-Type", formType).fails(t, 405, "method_not_allowed")
			})
			p.visitor("a.test").post(t, p.form(t, p.person("a.test")), header, "DELETE").is(t, 200)
		})
	}
}

func TestOptionalHashesDecideWithSHA256(t *testing.T) {
	t.Parallel()
	p := openWith(t, choice{tenants: func(x *tenant.Tenant) {
		if x.Host == "b.test" {
			x.Algorithm = "SHA-256"
		}
	}})
	who := p.person("b.test")
	f := p.form(t, who)
	p.leavesNothing(t, "a.test", who.user, func() {
		p.visitor("b.test").post(t, f).fails(t, 400, "invalid_request")
	})
	full := sha256Hex(who.user + ":b.test:" + who.password)
	p.hide("SHA-256 digest", full)
	p.visitor("b.test").post(t, p.form(t, who).with("ha1_sha256="+full)).is(t, 200)
	if got := p.visitor("b.test").get(t, "/signin.ashx").challenge(t); got.param["algorithm"] != "SHA-256" {
		t.Errorf("the challenge is %v", got)
	}
}

func TestTakenNames(t *testing.T) {
	t.Parallel()
	p := open(t)
	who := p.member(t, "a.test")
	again := func(t *testing.T) answer {
		other := p.person("a.test")
		other.user = who.user
		return p.visitor("a.test").post(t, p.form(t, other))
	}
	if got := again(t).fails(t, 409, "conflict"); !strings.Contains(got, "taken") {
		t.Errorf("the description is %q", got)
	}
	p.visitor("a.test").get(t, p.link(t, who.email)).is(t, 200)
	again(t).fails(t, 409, "conflict")
	if err := p.desk.Delete(t.Context(), p.tenant(t, "a.test"), who.user); err != nil {
		t.Fatal(err)
	}
	// The name of somebody who was here goes to nobody else.
	again(t).fails(t, 409, "conflict")
	p.clock.add(365 * 24 * time.Hour)
	again(t).fails(t, 409, "conflict")
	other := p.person("b.test")
	other.user = who.user
	p.signUp(t, other)
}

func TestReservedIsToldBeforeTaken(t *testing.T) {
	t.Parallel()
	p := openWith(t, choice{tenants: func(x *tenant.Tenant) { x.Reserved = []string{"zebrafone"} }})
	for _, user := range []string{"zebrafone", "zebraf0ne", "zebra-fone", "admin", "postmaster", "root"} {
		who := p.person("a.test")
		who.user = user
		p.visitor("a.test").post(t, p.form(t, who)).fails(t, 400, "invalid_request")
	}
}

// What goes wrong at our side leaves nothing, and the very same form works when it is mended: the captcha was not spent.
func TestOurOwnTroubleLeavesNothing(t *testing.T) {
	t.Parallel()
	var publish error
	p := openWith(t, choice{mailbox: func(m outbox.Pickup) outbox.Pickup { return failingMailbox{m, &publish} }})
	for name, break_ := range map[string]func(t *testing.T) (mend func()){
		"the store refuses": func(t *testing.T) func() { return p.breakStore(t) },
		"the store cannot be read": func(t *testing.T) func() {
			p.exec(t, `ALTER TABLE taken RENAME TO elsewhere`)
			return func() { p.exec(t, `ALTER TABLE elsewhere RENAME TO taken`) }
		},
		"the outbox refuses": func(t *testing.T) func() {
			p.exec(t, `CREATE TRIGGER broken BEFORE INSERT ON outbox BEGIN SELECT RAISE(ABORT, 'no such file /x.go:1'); END`)
			return func() { p.exec(t, `DROP TRIGGER broken`) }
		},
		"a message cannot be published": func(t *testing.T) func() {
			publish = errors.New("rename /var/spool/x.eml: no space")
			return func() { publish = nil }
		},
	} {
		t.Run(name, func(t *testing.T) {
			who := p.person("a.test")
			f := p.form(t, who)
			v := p.visitor("a.test")
			before, spent := p.state(t), p.spent(t)
			mend := break_(t)
			for range 4 { // more than the allowance of the address, which is not used up
				got := v.post(t, f).fails(t, 500, "server_error")
				if strings.ContainsAny(got, `/\`) || strings.Contains(got, ".go") || strings.Contains(got, "SQL") {
					t.Errorf("the description tells of our insides: %q", got)
				}
			}
			mend()
			if after := p.state(t); after != before || p.spent(t) != spent {
				t.Errorf("something was left behind:\n before %s, %d captchas\n after  %s, %d captchas", before, spent, after, p.spent(t))
			}
			v.post(t, f).is(t, 200)
			p.link(t, who.email)
		})
	}
	t.Run("the pickup directory is gone", func(t *testing.T) {
		who, taken := p.person("a.test"), p.member(t, "a.test")
		f := p.form(t, who)
		v := p.visitor("a.test")
		if err := os.Rename(p.pickup(), p.pickup()+".away"); err != nil {
			t.Fatal(err)
		}
		for range 4 {
			v.post(t, f).fails(t, 500, "server_error")
		}
		// Whose fault it is does not change what a person whose name is taken is told.
		other := p.person("a.test")
		other.user = taken.user
		p.visitor("a.test").post(t, p.form(t, other)).fails(t, 409, "conflict")
		if err := os.Rename(p.pickup()+".away", p.pickup()); err != nil {
			t.Fatal(err)
		}
		v.post(t, f).is(t, 200)
	})
}

// failingMailbox cannot publish while *fault is set.
type failingMailbox struct {
	outbox.Pickup
	fault *error
}

func (m failingMailbox) Stage(l mailmsg.Message) (outbox.StagedMessage, error) {
	d, err := m.Pickup.Stage(l)
	if err != nil || *m.fault == nil {
		return d, err
	}
	return failingDraft{d, *m.fault}, nil
}

type failingDraft struct {
	outbox.StagedMessage
	fault error
}

func (d failingDraft) Publish() error {
	d.Discard()
	return d.fault
}

func TestCaptchaIsAnsweredOnce(t *testing.T) {
	t.Parallel()
	p := open(t)
	post := func(t *testing.T, token, answer string) answer {
		t.Helper()
		f := p.form(t, p.person("a.test"))
		return p.visitor("a.test").post(t, f.with("captcha_token="+url.QueryEscape(token), "captcha_answer="+url.QueryEscape(answer)))
	}
	t.Run("not again after success", func(t *testing.T) {
		token, answer := p.question(t, "a.test")
		post(t, token, answer).is(t, 200)
		post(t, token, answer).fails(t, 400, "captcha_failed")
	})
	t.Run("not again after a wrong answer", func(t *testing.T) {
		token, answer := p.question(t, "a.test")
		post(t, token, "99").fails(t, 400, "captcha_failed")
		post(t, token, answer).fails(t, 400, "captcha_failed")
	})
	t.Run("not again after an answer that is no number", func(t *testing.T) {
		token, answer := p.question(t, "a.test")
		post(t, token, "eight").fails(t, 400, "captcha_failed")
		post(t, token, answer).fails(t, 400, "captcha_failed")
	})
	t.Run("not again after a conflict", func(t *testing.T) {
		who := p.member(t, "a.test")
		token, answer := p.question(t, "a.test")
		f := p.form(t, p.person("a.test")).with("captcha_token="+token, "captcha_answer="+answer)
		p.visitor("a.test").post(t, f.with("user="+who.user)).fails(t, 409, "conflict")
		p.visitor("a.test").post(t, f).fails(t, 400, "captcha_failed")
	})
	t.Run("again after a bad field", func(t *testing.T) {
		token, answer := p.question(t, "a.test")
		f := p.form(t, p.person("a.test")).with("captcha_token="+token, "captcha_answer="+answer)
		p.visitor("a.test").post(t, f.with("ha1=short")).fails(t, 400, "invalid_request")
		p.visitor("a.test").post(t, f).is(t, 200)
	})
	t.Run("again after too many signups from the address", func(t *testing.T) {
		v := p.visitor("a.test")
		for range 3 {
			v.post(t, p.form(t, p.person("a.test"))).is(t, 200)
		}
		f := p.form(t, p.person("a.test"))
		v.post(t, f).fails(t, 429, "rate_limited")
		p.visitor("a.test").post(t, f).is(t, 200)
	})
	t.Run("again after too many messages to the recipient", func(t *testing.T) {
		victim := p.person("a.test")
		for range 3 {
			who := p.person("a.test")
			who.email = victim.email
			p.signUp(t, who)
		}
		who := p.person("a.test")
		f := p.form(t, who)
		p.visitor("a.test").post(t, f.with("email="+url.QueryEscape(victim.email))).fails(t, 429, "rate_limited")
		p.visitor("a.test").post(t, f).is(t, 200)
	})
	for name, vary := range map[string]func(token string) string{
		"not with a line feed in it":    func(s string) string { return s[:10] + "\n" + s[10:] },
		"not with padding":              func(s string) string { return s + "=" },
		"not with a space behind it":    func(s string) string { return s + " " },
		"not in the other alphabet":     func(s string) string { return strings.NewReplacer("-", "+", "_", "/").Replace(s[:1] + "-" + s[2:]) },
		"not with its last letter off":  func(s string) string { return s[:len(s)-1] },
		"not with another first letter": func(s string) string { return "B" + s[1:] },
		"not twice over":                func(s string) string { return s + s },
	} {
		t.Run(name, func(t *testing.T) {
			token, answer := p.question(t, "a.test")
			who := p.person("a.test")
			f := p.form(t, who).with("captcha_token="+url.QueryEscape(vary(token)), "captcha_answer="+answer)
			spent := p.spent(t)
			p.leavesNothing(t, "a.test", who.user, func() {
				a := p.visitor("a.test").post(t, f)
				if strings.Contains(vary(token), "\n") {
					a.fails(t, 400, "invalid_request") // a control character, which no field may have
				} else {
					a.fails(t, 400, "captcha_failed")
				}
				if p.spent(t) != spent {
					t.Error("a token that is none of ours costs us a row")
				}
			})
			post(t, token, answer).is(t, 200) // what was made up has spent nothing
		})
	}
	t.Run("not with the code of another answer, and that is a try", func(t *testing.T) {
		token, answer := p.question(t, "a.test")
		last := map[bool]string{true: "B", false: "A"}[strings.HasSuffix(token, "A")]
		post(t, token[:len(token)-1]+last, answer).fails(t, 400, "captcha_failed")
		post(t, token, answer).fails(t, 400, "captcha_failed")
	})
	for name, answer := range map[string]string{
		"not for an answer with a sign": "+%s", "not for an answer with a point": "%s.0", "not for a negative answer": "-%s",
		"not for an answer in hex": "0x%s", "not for a very long answer": strings.Repeat("0", 400) + "%s", "not for a sum": "%s+0",
		"not for digits of another script": "٨",
	} {
		t.Run(name, func(t *testing.T) {
			token, right := p.question(t, "a.test")
			post(t, token, strings.ReplaceAll(answer, "%s", right)).fails(t, 400, "captcha_failed")
		})
	}
}

func TestCaptchaHasItsTimeAndPlace(t *testing.T) {
	t.Parallel()
	p := open(t)
	post := func(t *testing.T, host, token, answer string) answer {
		t.Helper()
		f := p.form(t, p.person(host)).with("captcha_token="+token, "captcha_answer="+answer)
		return p.visitor(host).post(t, f)
	}
	token, answer := p.question(t, "a.test")
	late, lateAnswer := p.question(t, "a.test")
	p.clock.add(899 * time.Second)
	post(t, "a.test", token, answer).is(t, 200)
	p.clock.add(time.Second)
	post(t, "a.test", late, lateAnswer).fails(t, 400, "captcha_failed")

	p.clock.add(61 * time.Second) // another node's clock is ahead of ours
	early, earlyAnswer := p.question(t, "a.test")
	p.clock.add(-61 * time.Second)
	post(t, "a.test", early, earlyAnswer).fails(t, 400, "captcha_failed")
	p.clock.add(time.Second)
	post(t, "a.test", early, earlyAnswer).is(t, 200)

	foreign, foreignAnswer := p.question(t, "b.test")
	post(t, "a.test", foreign, foreignAnswer).fails(t, 400, "captcha_failed")
	post(t, "b.test", foreign, foreignAnswer).is(t, 200)

	t.Run("and lives through a restart and one rotation of keys", func(t *testing.T) {
		token, answer := p.question(t, "a.test")
		p.restart(t)
		post(t, "a.test", token, answer).is(t, 200)
		post(t, "a.test", token, answer).fails(t, 400, "captcha_failed")
		one, oneAnswer := p.question(t, "a.test")
		two, twoAnswer := p.question(t, "a.test")
		p.sign.Store(p.sign.Load().Rotated(p.clock.Now(), 2))
		post(t, "a.test", one, oneAnswer).is(t, 200)
		p.sign.Store(p.sign.Load().Rotated(p.clock.Now(), 2))
		post(t, "a.test", two, twoAnswer).fails(t, 400, "captcha_failed")
	})
}

// Whoever has not solved the captcha learns nothing about who is here.
func TestCaptchaComesBeforeTheName(t *testing.T) {
	t.Parallel()
	p := open(t)
	there, free := p.member(t, "a.test"), p.person("a.test")
	var answers []answer
	for _, user := range []string{there.user, free.user} {
		who := p.person("a.test")
		who.user = user
		answers = append(answers, p.visitor("a.test").post(t, p.form(t, who).with("captcha_answer=99")))
	}
	answers[0].fails(t, 400, "captcha_failed")
	alike(t, answers...)
}

// alike checks that answers differ in nothing but what differs in every answer.
func alike(t *testing.T, answers ...answer) {
	t.Helper()
	nonce := regexp.MustCompile(`nonce="[^"]*"`)
	for i := range answers {
		answers[i].header.Del("Date")
		if c := answers[i].header["Www-Authenticate"]; c != nil {
			c[0] = nonce.ReplaceAllString(c[0], "nonce")
		}
		if first, this := fmt.Sprint(answers[0]), fmt.Sprint(answers[i]); first != this {
			t.Errorf("two answers can be told apart:\n%s\n%s", first, this)
		}
	}
}

func TestSignupsOfOneAddress(t *testing.T) {
	t.Parallel()
	p := open(t)
	t.Run("the fourth waits until the first is an hour old", func(t *testing.T) {
		v := p.visitor("a.test")
		try := func() answer { return v.post(t, p.form(t, p.person("a.test"))) }
		start := p.clock.Now()
		try().is(t, 200)
		p.clock.add(time.Minute)
		try().is(t, 200)
		p.clock.add(time.Minute)
		try().is(t, 200)
		for _, at := range []time.Duration{2 * time.Minute, 30 * time.Minute, 59*time.Minute + 59*time.Second} {
			p.clock.add(start.Add(at).Sub(p.clock.Now()))
			a := try()
			a.fails(t, 429, "rate_limited")
			if got, want := a.retryAfter(t), time.Hour-at; got != want {
				t.Errorf("after %v: Retry-After is %v, want %v", at, got, want)
			}
		}
		p.clock.add(time.Second)
		try().is(t, 200)
		a := try()
		a.fails(t, 429, "rate_limited")
		if got := a.retryAfter(t); got != time.Minute {
			t.Errorf("Retry-After is %v, want %v", got, time.Minute)
		}
		p.clock.add(a.retryAfter(t))
		try().is(t, 200)
	})
	t.Run("part of a second is a whole one", func(t *testing.T) {
		v := p.visitor("a.test")
		for range 3 {
			v.post(t, p.form(t, p.person("a.test"))).is(t, 200)
		}
		p.clock.add(time.Hour - time.Millisecond)
		a := v.post(t, p.form(t, p.person("a.test")))
		a.fails(t, 429, "rate_limited")
		if got := a.retryAfter(t); got != time.Second {
			t.Errorf("Retry-After is %v", got)
		}
	})
	t.Run("no header gives another address", func(t *testing.T) {
		v := p.visitor("a.test")
		for range 3 {
			v.post(t, p.form(t, p.person("a.test"))).is(t, 200)
		}
		for _, header := range []string{"X-Forwarded-For", "X-Real-IP", "Forwarded", "CF-Connecting-IP", "True-Client-IP", "X-Client-IP", "X-Cluster-Client-IP", "Client-IP", "Via"} {
			value := "203.0.113.77"
			if header == "Forwarded" {
				value = "for=203.0.113.77"
			}
			v.post(t, p.form(t, p.person("a.test")), header, value).fails(t, 429, "rate_limited")
		}
	})
	t.Run("this machine is an address like others", func(t *testing.T) {
		v := &visitor{p, "a.test", netip.MustParseAddr("127.0.0.1")}
		for range 3 {
			v.post(t, p.form(t, p.person("a.test"))).is(t, 200)
		}
		v.post(t, p.form(t, p.person("a.test"))).fails(t, 429, "rate_limited")
	})
	t.Run("failures do not count", func(t *testing.T) {
		v := p.visitor("a.test")
		there := p.member(t, "a.test")
		for range 5 {
			f := p.form(t, p.person("a.test"))
			v.post(t, f.with("user="+there.user)).fails(t, 409, "conflict")
			v.post(t, p.form(t, p.person("a.test")).with("captcha_answer=99")).fails(t, 400, "captcha_failed")
		}
		for range 3 {
			v.post(t, p.form(t, p.person("a.test"))).is(t, 200)
		}
	})
	t.Run("tenants count apart", func(t *testing.T) {
		v := p.visitor("a.test")
		for range 3 {
			v.post(t, p.form(t, p.person("a.test"))).is(t, 200)
		}
		for range 3 {
			v.at("b.test").post(t, p.form(t, p.person("b.test"))).is(t, 200)
		}
		v.post(t, p.form(t, p.person("a.test"))).fails(t, 429, "rate_limited")
		v.at("b.test").post(t, p.form(t, p.person("b.test"))).fails(t, 429, "rate_limited")
	})
	t.Run("a restart forgets nothing", func(t *testing.T) {
		v := p.visitor("a.test")
		for range 3 {
			v.post(t, p.form(t, p.person("a.test"))).is(t, 200)
		}
		p.restart(t)
		v.post(t, p.form(t, p.person("a.test"))).fails(t, 429, "rate_limited")
	})
}

func TestCeilingOverAllTenants(t *testing.T) {
	t.Parallel()
	p := openWith(t, choice{ceiling: 4})
	v := p.visitor("a.test")
	for range 3 {
		v.post(t, p.form(t, p.person("a.test"))).is(t, 200)
	}
	v.at("b.test").post(t, p.form(t, p.person("b.test"))).is(t, 200)
	v.at("b.test").post(t, p.form(t, p.person("b.test"))).fails(t, 429, "rate_limited")
	p.visitor("b.test").post(t, p.form(t, p.person("b.test"))).is(t, 200)
}

func TestCeilingOfATenant(t *testing.T) {
	t.Parallel()
	p := openWith(t, choice{tenants: func(x *tenant.Tenant) {
		if x.Host == "a.test" {
			x.SignupsPerHour = 4
		}
	}})
	who := p.active(t, "a.test")
	for range 3 {
		p.member(t, "a.test")
	}
	p.visitor("a.test").post(t, p.form(t, p.person("a.test"))).fails(t, 429, "rate_limited")
	p.member(t, "b.test")
	p.visitor("a.test").signIn(t, who.user, who.password).is(t, 200)
}

func TestAddressesBehindAProxy(t *testing.T) {
	t.Parallel()
	proxy := netip.MustParseAddr("127.0.0.9")
	p := openWith(t, choice{proxies: []netip.Prefix{netip.PrefixFrom(proxy, 32), netip.MustParsePrefix("10.0.0.0/24")}})
	v := &visitor{p, "a.test", proxy}
	post := func(t *testing.T, forwarded ...string) int {
		t.Helper()
		var headers []string
		for _, f := range forwarded {
			headers = append(headers, "X-Forwarded-For", f)
		}
		a := v.post(t, p.form(t, p.person("a.test")), headers...)
		if a.status != 200 {
			a.fails(t, 429, "rate_limited")
		}
		return a.status
	}
	for _, row := range []struct {
		name  string
		first []string // three that fill the place
		then  []string
		want  int
	}{
		{"the rightmost address that is no proxy counts", []string{"9.9.9.9, 192.0.2.7, 10.0.0.7"}, []string{"8.8.8.8, 192.0.2.7, 10.0.0.8"}, 429},
		{"what stands left of it does not", []string{"1.2.3.4, 192.0.2.8"}, []string{"1.2.3.4, 192.0.2.9"}, 200},
		{"several headers are one list", []string{"9.9.9.9", "192.0.2.10"}, []string{"7.7.7.7", "192.0.2.10"}, 429},
		{"an IPv4 address in IPv6 is the IPv4 address", []string{"192.0.2.11"}, []string{"::ffff:192.0.2.11"}, 429},
		{"another host of one /64 is the same client", []string{"2001:db8:1:1::1"}, []string{"2001:db8:1:1:ffff::2"}, 429},
		{"another /64 is another client", []string{"2001:db8:2:1::1"}, []string{"2001:db8:2:2::1"}, 200},
		{"a zone makes no other client", []string{"2001:db8:3:1::1"}, []string{"2001:db8:3:1::2%eth0"}, 429},
		{"a port behind it makes no other client", []string{"192.0.2.14:1024"}, []string{"192.0.2.14:2048"}, 429},
		{"two clients with ports are two", []string{"192.0.2.15:1024"}, []string{"192.0.2.16:1024"}, 200},
		{"what is no address is not believed", []string{"192.0.2.12, unknown"}, []string{"192.0.2.13, <script>"}, 429},
	} {
		t.Run(row.name, func(t *testing.T) {
			for range 3 {
				if got := post(t, row.first...); got != 200 {
					t.Fatalf("status %d", got)
				}
			}
			if got := post(t, row.then...); got != row.want {
				t.Errorf("status %d, want %d", got, row.want)
			}
		})
	}
	t.Run("a /48 has thirty", func(t *testing.T) {
		for i := range 30 {
			if got := post(t, fmt.Sprintf("2001:db8:48:%x::1", i)); got != 200 {
				t.Fatalf("signup %d: status %d", i+1, got)
			}
		}
		if got := post(t, "2001:db8:48:ffff::1"); got != 429 {
			t.Errorf("the 31st: status %d", got)
		}
		if got := post(t, "2001:db8:49:ffff::1"); got != 200 {
			t.Errorf("the next /48: status %d", got)
		}
	})
	t.Run("somebody else is not believed", func(t *testing.T) {
		v := p.visitor("a.test")
		for range 3 {
			v.post(t, p.form(t, p.person("a.test")), "X-Forwarded-For", "192.0.2.50").is(t, 200)
		}
		v.post(t, p.form(t, p.person("a.test")), "X-Forwarded-For", "192.0.2.51").fails(t, 429, "rate_limited")
	})
}

func TestFailedPostsOfOneAddress(t *testing.T) {
	t.Parallel()
	p := open(t)
	v := p.visitor("a.test")
	bad := []func() answer{ // whoever refuses it
		func() answer { return v.post(t, p.form(t, p.person("a.test")).with("captcha_answer=99")) },
		func() answer { return v.post(t, p.form(t, p.person("a.test")).with("ha1=short")) },
		func() answer { return v.postBody(t, "user=%zz") },
		func() answer { return v.do(t, "POST", "/signup.ashx", "{}", "Content-Type", "application/json") },
	}
	for i := range 60 {
		bad[i%len(bad)]().is(t, 400)
	}
	f := p.form(t, p.person("a.test"))
	p.leavesNothing(t, "a.test", f.get(t, "user"), func() {
		a := v.post(t, f)
		a.fails(t, 429, "rate_limited")
		if got := a.retryAfter(t); got != 10*time.Minute {
			t.Errorf("Retry-After is %v, want 10m", got)
		}
	})
	v.postBody(t, "user=%zz").fails(t, 400, "invalid_request") // comes before the limit, as in section 5.2
	p.visitor("a.test").post(t, p.form(t, p.person("a.test"))).is(t, 200)
	v.at("b.test").post(t, p.form(t, p.person("b.test"))).is(t, 200)
	p.clock.add(10 * time.Minute)
	v.post(t, p.form(t, p.person("a.test"))).is(t, 200)
}

func TestWaitingOutTheLimitOnFailures(t *testing.T) {
	t.Parallel()
	p := open(t)
	v := p.visitor("a.test")
	for range 60 { // far apart, so that a place is free soon and the next one soon after
		v.postBody(t, "user=%zz").is(t, 400)
		p.clock.add(9 * time.Second)
	}
	a := v.post(t, p.form(t, p.person("a.test")))
	a.fails(t, 429, "rate_limited")
	p.clock.add(a.retryAfter(t))
	v.post(t, p.form(t, p.person("a.test"))).is(t, 200)
}

func TestMessagesToOneRecipient(t *testing.T) {
	t.Parallel()
	p := open(t)
	post := func(host, email string) answer {
		who := p.person(host)
		who.email = email
		return p.visitor(host).post(t, p.form(t, who))
	}
	for _, email := range []string{"v.victim+1@mail.test", "V.Victim@mail.test", "v.victim@MAIL.test"} {
		post("a.test", email).is(t, 200)
	}
	who := p.person("a.test")
	who.email = "v.victim+another@Mail.Test"
	p.leavesNothing(t, "a.test", who.user, func() {
		a := p.visitor("a.test").post(t, p.form(t, who))
		a.fails(t, 429, "rate_limited")
		if got := a.header.Get("Retry-After"); got != "86400" {
			t.Errorf("Retry-After is %q, want a day", got)
		}
	})
	post("a.test", "another.victim@mail.test").is(t, 200)
	post("b.test", "v.victim@mail.test").is(t, 200)
	p.clock.add(24*time.Hour - time.Second)
	post("a.test", "v.victim@mail.test").fails(t, 429, "rate_limited")
	p.clock.add(time.Second)
	post("a.test", "v.victim@mail.test").is(t, 200)
}

func TestActivation(t *testing.T) {
	t.Parallel()
	p := open(t)
	v := p.visitor("a.test")
	opened := func(t *testing.T, a answer, status int, heading string) {
		t.Helper()
		a.is(t, status)
		if a.header.Get("Content-Type") != "text/html; charset=utf-8" || a.header.Get("Cache-Control") != "no-store" || a.header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("headers %v", a.header)
		}
		if !strings.Contains(a.body, "<h1>"+heading) {
			t.Errorf("no heading %q in the page: %s", heading, a.body)
		}
		if len(a.header["Set-Cookie"]) != 0 {
			t.Error("a link sets a cookie")
		}
	}
	waits := func(t *testing.T, who person) {
		t.Helper()
		if a := p.find(t, who); !a.Disabled || !a.Pending() {
			t.Fatalf("the account was activated: %+v", a)
		}
	}

	t.Run("works once", func(t *testing.T) {
		who := p.member(t, "a.test")
		link := p.link(t, who.email)
		a := v.get(t, link)
		opened(t, a, 200, "Account activated")
		if !strings.Contains(a.body, `href="/login.html"`) {
			t.Error("the page leads not to sign-in")
		}
		if a := p.find(t, who); a.Disabled || a.Role != account.Guest {
			t.Errorf("the account is %+v", a)
		}
		a = v.get(t, link)
		opened(t, a, 400, "Your account is already active")
		if !strings.Contains(a.body, `href="/login.html"`) {
			t.Error("the page leads not to sign-in")
		}
		p.clock.add(30 * 24 * time.Hour)
		opened(t, v.get(t, link), 400, "Your account is already active")
	})

	t.Run("nothing that only looks activates", func(t *testing.T) {
		who := p.member(t, "a.test")
		link := p.link(t, who.email)
		v.do(t, "HEAD", link, "").is(t, 200)
		v.do(t, "OPTIONS", link, "").is(t, 204)
		v.do(t, "POST", link, "").fails(t, 401, "unauthorized")
		for _, header := range [][2]string{
			{"Sec-Purpose", "prefetch"}, {"Sec-Purpose", "prefetch;prerender"}, {"Sec-Purpose", "prefetch;anonymous-client-ip"},
			{"Purpose", "prefetch"}, {"X-Moz", "prefetch"}, {"X-Purpose", "preview"}, {"Purpose", "Prefetch"}, {"Sec-Purpose", "prerender"},
		} {
			opened(t, v.get(t, link, header[:]...), 200, "Activate your account")
		}
		waits(t, who)
		opened(t, v.get(t, link), 200, "Account activated")
	})

	t.Run("a stranger's tokens are one answer", func(t *testing.T) {
		who := p.member(t, "a.test")
		token := strings.TrimPrefix(p.link(t, who.email), "/activate.ashx?token=")
		other := secret.NewToken().Text()
		var answers []answer
		for _, query := range []string{
			"", "?", "?token=", "?token=x", "?token=" + other, "?token=" + token[:42], "?token=" + token + "A", "?token=" + token + "%3D",
			"?token=" + token[:9] + "%0A" + token[9:], "?token=" + token + "&token=" + token, "?token=" + token + "&token=", "?TOKEN=" + token,
			"?token=%zz", "?token=" + token + ";x=1", "?t=" + token, "?token=" + strings.Repeat("A", 5000), "?token=%00", "?token=%ff",
			"?token=" + who.user, "?token=..%2F..%2Fetc",
		} {
			answers = append(answers, v.get(t, "/activate.ashx"+query))
		}
		opened(t, answers[0], 400, "This link does not work")
		alike(t, answers...)
		waits(t, who)
	})

	t.Run("another kind of token is none", func(t *testing.T) {
		captcha, _ := p.question(t, "a.test")
		opened(t, v.get(t, "/activate.ashx?token="+captcha), 400, "This link does not work")
		who := p.active(t, "a.test")
		a := v.signIn(t, who.user, who.password)
		a.is(t, 200)
		for _, c := range strings.Split(a.cookies(), "; ") {
			_, value, _ := strings.Cut(c, "=")
			opened(t, v.get(t, "/activate.ashx?token="+value), 400, "This link does not work")
			p.visitor("a.test").post(t, p.form(t, p.person("a.test")).with("captcha_token="+value)).fails(t, 400, "captcha_failed")
		}
		who = p.member(t, "a.test")
		token := strings.TrimPrefix(p.link(t, who.email), "/activate.ashx?token=")
		p.visitor("a.test").post(t, p.form(t, p.person("a.test")).with("captcha_token="+token)).fails(t, 400, "captcha_failed")
		a = v.get(t, "/account.html", "Cookie", "__Host-dialtone-session="+token)
		a.is(t, 303)
	})

	t.Run("not at another tenant", func(t *testing.T) {
		who := p.person("a.test")
		twin := who
		twin.host, twin.email = "b.test", p.person("b.test").email
		p.signUp(t, who)
		p.signUp(t, twin)
		link := p.link(t, who.email)
		opened(t, p.visitor("b.test").get(t, link), 400, "This link does not work")
		waits(t, who)
		waits(t, twin)
		opened(t, v.get(t, link), 200, "Account activated")
		waits(t, twin)
	})

	t.Run("until 7 days are over", func(t *testing.T) {
		intime, late := p.member(t, "a.test"), p.member(t, "a.test")
		intimeLink, lateLink := p.link(t, intime.email), p.link(t, late.email)
		p.clock.add(7*24*time.Hour - time.Second)
		opened(t, v.get(t, intimeLink), 200, "Account activated")
		p.clock.add(time.Second)
		opened(t, v.get(t, lateLink), 400, "This link has expired")
		if _, err := p.store.Find(t.Context(), p.tenant(t, "a.test").ID, late.user, p.clock.Now()); err == nil {
			t.Error("the expired account is still there")
		}
		v.signIn(t, late.user, late.password).is(t, 401)

		// The name is free, and the old link is worth nothing to whoever has it.
		heir := p.person("a.test")
		heir.user = late.user
		p.signUp(t, heir)
		opened(t, v.get(t, lateLink), 400, "This link does not work")
		waits(t, heir)
		opened(t, v.get(t, p.link(t, heir.email)), 200, "Account activated")
	})

	t.Run("not against an operator", func(t *testing.T) {
		who, early := p.active(t, "a.test"), p.member(t, "a.test")
		a := p.tenant(t, "a.test")
		for _, w := range []person{who, early} {
			if _, err := p.desk.Disable(t.Context(), a, w.user); err != nil {
				t.Fatal(err)
			}
			opened(t, v.get(t, p.link(t, w.email)), 400, "This account is on hold")
			if got := p.find(t, w); !got.Disabled {
				t.Errorf("a link has undone the hold: %+v", got)
			}
		}
		if _, err := p.desk.Enable(t.Context(), a, early.user); err != nil {
			t.Fatal(err)
		}
		opened(t, v.get(t, p.link(t, early.email)), 400, "Your account is already active")
	})

	t.Run("not of an account that was deleted", func(t *testing.T) {
		for _, who := range []person{p.active(t, "a.test"), p.member(t, "a.test")} {
			if err := p.desk.Delete(t.Context(), p.tenant(t, "a.test"), who.user); err != nil {
				t.Fatal(err)
			}
			opened(t, v.get(t, p.link(t, who.email)), 400, "This link does not work")
		}
	})

	t.Run("a store in trouble leaves the link good", func(t *testing.T) {
		who := p.member(t, "a.test")
		link := p.link(t, who.email)
		p.exec(t, `CREATE TRIGGER broken BEFORE UPDATE ON account BEGIN SELECT RAISE(ABORT, 'disk /var/lib: I/O error'); END`)
		a := v.get(t, link)
		p.exec(t, `DROP TRIGGER broken`)
		opened(t, a, 500, "Your account is not active yet")
		if strings.Contains(a.body, "/var/lib") || strings.Contains(a.body, "SQL") {
			t.Errorf("the page tells of our insides: %s", a.body)
		}
		waits(t, who)
		opened(t, v.get(t, link), 200, "Account activated")
	})

	t.Run("twenty at once are one", func(t *testing.T) {
		who := p.member(t, "a.test")
		link := p.link(t, who.email)
		activated := strings.Count(p.log.String(), `"activate","outcome":"ok"`)
		answers := make([]answer, 20)
		atOnce(len(answers), func(i int) { answers[i] = p.visitor("a.test").get(t, link) })
		ok := 0
		for _, a := range answers {
			if a.status == 200 {
				ok++
			} else {
				opened(t, a, 400, "Your account is already active")
			}
		}
		if got := strings.Count(p.log.String(), `"activate","outcome":"ok"`) - activated; ok != 1 || got != 1 {
			t.Errorf("%d answers of 200 and %d events, want one each", ok, got)
		}
	})
}

func TestSignupsAtOnce(t *testing.T) {
	t.Parallel()
	p := open(t)
	count := func(t *testing.T, answers []answer, status int, code string) (ok, refused int) {
		t.Helper()
		for _, a := range answers {
			if a.status == 200 {
				ok++
				continue
			}
			a.fails(t, status, code)
			refused++
		}
		return ok, refused
	}
	t.Run("one name goes to one of sixteen", func(t *testing.T) {
		who := p.person("a.test")
		forms := make([]form, 16)
		for i := range forms {
			other := p.person("a.test")
			other.user = who.user
			forms[i] = p.form(t, other)
		}
		files := len(p.files(t))
		answers := make([]answer, len(forms))
		atOnce(len(forms), func(i int) { answers[i] = p.visitor("a.test").post(t, forms[i]) })
		if ok, refused := count(t, answers, 409, "conflict"); ok != 1 || refused != 15 {
			t.Errorf("%d have the name and %d not", ok, refused)
		}
		p.find(t, who)
		if n := len(p.files(t)) - files; n != 1 {
			t.Errorf("%d files", n)
		}
	})
	t.Run("one address gets three of twenty-four", func(t *testing.T) {
		v := p.visitor("a.test")
		forms := make([]form, 24)
		for i := range forms {
			forms[i] = p.form(t, p.person("a.test"))
		}
		files := len(p.files(t))
		answers := make([]answer, len(forms))
		atOnce(len(forms), func(i int) { answers[i] = v.post(t, forms[i]) })
		if ok, refused := count(t, answers, 429, "rate_limited"); ok != 3 || refused != 21 {
			t.Errorf("%d signed up and %d not", ok, refused)
		}
		for _, a := range answers {
			if a.status == 429 && a.retryAfter(t) != time.Hour {
				t.Errorf("Retry-After is %v, want an hour", a.retryAfter(t))
			}
		}
		if n := len(p.files(t)) - files; n != 3 {
			t.Errorf("%d files", n)
		}
	})
	t.Run("one captcha lets one of fifty in", func(t *testing.T) {
		token, sum := p.question(t, "a.test")
		forms := make([]form, 50)
		for i := range forms {
			forms[i] = p.form(t, p.person("a.test")).with("captcha_token="+token, "captcha_answer="+sum)
		}
		answers := make([]answer, len(forms))
		atOnce(len(forms), func(i int) { answers[i] = p.visitor("a.test").post(t, forms[i]) })
		if ok, refused := count(t, answers, 400, "captcha_failed"); ok != 1 || refused != 49 {
			t.Errorf("%d signed up and %d not", ok, refused)
		}
	})
	t.Run("one recipient gets three messages of twelve", func(t *testing.T) {
		victim := p.person("a.test")
		forms := make([]form, 12)
		for i := range forms {
			forms[i] = p.form(t, p.person("a.test")).with("email=" + url.QueryEscape(victim.email))
		}
		answers := make([]answer, len(forms))
		atOnce(len(forms), func(i int) { answers[i] = p.visitor("a.test").post(t, forms[i]) })
		if ok, refused := count(t, answers, 429, "rate_limited"); ok != 3 || refused != 9 || len(p.messages(t, victim.email)) != 3 {
			t.Errorf("%d signed up, %d not, %d messages", ok, refused, len(p.messages(t, victim.email)))
		}
	})
}

func TestHosts(t *testing.T) {
	t.Parallel()
	p := open(t)
	for _, host := range []string{"a.test", "A.TEST", "a.test.", "A.Test.:8443", "a.test:8443", "a.test:", "a.test:0", "a.test:99999"} {
		t.Run(host+" is the tenant", func(t *testing.T) {
			who := p.person("a.test")
			a := p.visitor(host).post(t, p.form(t, who), "X-Forwarded-Host", "evil.test", "Forwarded", "host=evil.test;proto=http",
				"X-Host", "evil.test", "X-Original-URL", "/evil", "X-Rewrite-URL", "/evil", "X-Forwarded-Proto", "http", "X-Forwarded-Port", "1")
			a.is(t, 200)
			if origin, _ := p.wholeLink(t, who.email); origin != "https://a.test" {
				t.Errorf("the link goes to %q", origin)
			}
			p.find(t, who)
		})
	}
	for _, host := range []string{
		"evil.test", "127.0.0.1", "[::1]", "[::1]:80", "a.test.evil.test", "evil-a.test", "xa.test", "a.tes", "test", "a.test..", ".a.test",
		"a.test:x", "a.test:80:80", "a..test", "a_test", "..", "a.test:-1", "a.test%00", "www.a.test",
	} {
		t.Run(host+" is nobody", func(t *testing.T) {
			who := p.person("a.test")
			f := p.form(t, who)
			p.leavesNothing(t, "a.test", who.user, func() {
				for _, a := range []answer{
					p.visitor(host).post(t, f, "X-Forwarded-Host", "a.test"),
					p.visitor(host).get(t, "/captcha.ashx"), p.visitor(host).get(t, "/", "Accept", "text/html"),
					p.visitor(host).do(t, "PUT", "/nothing", ""), p.visitor(host).do(t, "OPTIONS", "/signup.ashx", ""),
				} {
					if got := a.fails(t, 421, "misdirected_request"); strings.Contains(got, "a.test") {
						t.Errorf("the description tells of a tenant: %q", got)
					}
					if a.header.Get("WWW-Authenticate") != "" || a.header.Get("Strict-Transport-Security") != "" {
						t.Errorf("headers %v", a.header)
					}
				}
			})
		})
	}
	t.Run("one name at two tenants is two people", func(t *testing.T) {
		who := p.person("a.test")
		twin := p.person("b.test")
		twin.user = who.user
		p.signUp(t, who)
		p.signUp(t, twin)
		p.visitor("a.test").get(t, p.link(t, who.email)).is(t, 200)
		p.visitor("a.test").signIn(t, who.user, who.password).is(t, 200)
		p.visitor("b.test").signIn(t, who.user, who.password).is(t, 401)
		p.visitor("b.test").signIn(t, twin.user, twin.password).is(t, 403)
	})
	t.Run("two tenants cannot have one realm", func(t *testing.T) {
		x := must[tenant.Tenant](t)(tenant.New(tenant.Tenant{Host: "c.test", Realm: "A.TEST"}))
		if _, err := p.store.AddTenant(context.Background(), x); err == nil {
			t.Error("a second tenant has the realm")
		}
	})
	t.Run("localhost is a tenant without TLS", func(t *testing.T) {
		who := p.active(t, "localhost")
		origin, _ := p.wholeLink(t, who.email)
		if !strings.HasPrefix(origin, "http://localhost:") {
			t.Errorf("the link goes to %s", origin)
		}
		a := p.visitor("localhost").signIn(t, who.user, who.password)
		a.is(t, 200)
		if !strings.HasPrefix(a.cookies(), "dialtone-session=") || a.header.Get("Strict-Transport-Security") != "" {
			t.Errorf("headers %v", a.header)
		}
	})
}
