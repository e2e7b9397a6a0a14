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
	"dialtone/internal/secret"
	"dialtone/internal/tenant"
)

// These tests hold a real server to the published contract.

// signupFields are the fields that the server reads, the required ones first.
var (
	requiredFields = []string{"user", "name", "email", "ha1", "captcha_token", "captcha_answer"}
	signupFields   = append(slices.Clone(requiredFields), "ha1b", "ha1_sha256")
)

const missingText = "user, name, email, ha1, captcha_token, captcha_answer required"

func TestCaptcha(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	v := s.visitor("a.test")
	seen := make(map[string]bool)
	for range 50 {
		a := v.get(t, "/captcha.ashx")
		a.wantJSON(t, 200)
		var got map[string]string
		a.decode(t, &got)
		if len(got) != 2 || got["question"] == "" || got["token"] == "" {
			t.Fatalf("body %q, want question and token and nothing else", a.body)
		}
		solve(t, got["question"])
		if seen[got["token"]] {
			t.Fatal("two captchas have the same token")
		}
		seen[got["token"]] = true
		if len(a.header["Set-Cookie"]) != 0 {
			t.Fatal("a captcha sets a cookie")
		}
	}
	if n := s.spentCaptchas(t); n != 0 {
		t.Errorf("unanswered captchas left %d rows", n)
	}
}

func TestSignup(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	who := s.newPerson("a.test")
	a := s.visitor("a.test").post(t, s.form(t, who))
	a.wantJSON(t, 200)
	if want := fmt.Sprintf(`{"ok":true,"user":%q}`, who.user) + "\n"; a.body != want {
		t.Errorf("body %q, want %q", a.body, want)
	}
	got := s.find(t, who)
	if !got.Disabled || got.Role != account.Guest || got.Name != who.name || got.Email != who.email || got.Held ||
		!got.Pending() {
		t.Errorf("account %+v", got)
	}
	if life := got.Expires.Sub(s.Now()); life != 7*24*time.Hour {
		t.Errorf("the link is valid for %v", life)
	}
	credential, err := s.Accounts.Credential(got)
	if err != nil || credential.HA1.Hex() != who.ha1() || credential.HA1B != nil || credential.SHA256 != nil {
		t.Errorf("the stored credential is not the one that was sent (%v)", err)
	}
	origin, target := s.linkParts(t, who.email)
	if origin != "https://a.test" {
		t.Errorf("the link goes to %s", origin)
	}
	for _, name := range s.Files("pickup") {
		if !strings.HasSuffix(name, ".eml") {
			t.Errorf("there is a file %s", name)
		}
	}
	// The database files contain neither the token nor HA1 in the clear.
	token := must[*url.URL](t)(url.Parse(target)).Query().Get("token")
	raw, ok := secret.DecodeText(token)
	if !ok {
		t.Fatalf("token %q", token)
	}
	for _, name := range []string{"dialtone.db", "dialtone.db-wal"} {
		content, err := os.ReadFile(filepath.Join(s.Dir, name))
		if err != nil {
			t.Fatal(err)
		}
		for what, bad := range map[string][]byte{
			"the token": []byte(token), "the token's bytes": raw,
			"HA1": []byte(who.ha1()), "HA1's bytes": credential.HA1[:], "the password": []byte(who.password),
		} {
			if bytes.Contains(content, bad) {
				t.Errorf("%s contains %s", name, what)
			}
		}
	}
}

// TestSignupRefused checks that a valid signup with one change is refused with exactly that
// description, and changes nothing.
func TestSignupRefused(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	long := strings.Repeat
	type row struct {
		name, change string // the change is name=value in percent-encoding
	}
	refusals := map[string][]row{ // by description
		missingText: {
			{"empty user", "user="},
			{"empty name", "name="},
			{"empty e-mail", "email="},
			{"empty HA1", "ha1="},
			{"empty captcha token", "captcha_token="},
			{"empty captcha answer", "captcha_answer="},
		},
		"user: must be 1 to 64 characters long": {
			{"user of 65 characters", "user=" + long("a", 65)},
		},
		"user: must be in lower case; type it again without capitals": {
			{"user in capitals", "user=ALEX"},
			{"user with one capital", "user=aleX"},
		},
		"user: may contain only the letters a to z, digits, dot, underscore and hyphen; " +
			"leave out everything else": {
			{"user with a leading space", "user=+alex"},
			{"user with a trailing space", "user=alex+"},
			{"user with a Kelvin sign", "user=%E2%84%AAarl"},
			{"user with a long s", "user=%C5%BFusan"},
			{"user with a dotted capital I", "user=%C4%B0van"},
			{"user in full-width letters", "user=%EF%BD%81%EF%BD%8C%EF%BD%85%EF%BD%98"},
			{"user with a Cyrillic a", "user=%D0%B0lex"},
			{"user with an at sign", "user=alex%40a.test"},
			{"user with a slash", "user=a%2Fb"},
			{"user with a backslash", "user=a%5Cb"},
			{"user with a colon", "user=a%3Ab"},
			{"user with a quote", "user=a%22b"},
		},
		"user: needs at least one letter or digit; add one": {
			{"user of one dot", "user=."},
			{"user of two dots", "user=.."},
			{"user of a hyphen", "user=-"},
			{"user of marks only", "user=_.-"},
		},
		"user: is reserved for the platform; choose another name": {
			{"reserved user", "user=admin"},
		},
		"user: looks like a name that is reserved for the platform; choose another name": {
			{"user that looks like a reserved one", "user=adm1n"},
			{"user that looks like support", "user=supp0rt"},
			{"user with separators in a reserved name", "user=ad-min"},
		},
		"user: is an emergency or service number; choose another name": {
			{"emergency number", "user=911"},
			{"European emergency number", "user=112"},
			{"emergency number with hyphens", "user=9-1-1"},
		},
		"name: is empty; enter the name that others will see": {
			{"name of white space", "name=+++"},
			{"name of non-ASCII white space", "name=%C2%A0%E3%80%80"},
		},
		"name: must be at most 120 characters long; shorten it": {
			{"name of 121 characters", "name=" + long("a", 121)},
			{"name of 121 characters of four bytes", "name=" + long("%F0%90%80%80", 121)},
		},
		"name: needs at least one letter or digit; add one": {
			{"name without a letter or digit", "name=%21%21"},
		},
		"name: has a character that cannot be seen or that changes the direction of the text; " +
			"type it again by hand": {
			{"name with a right-to-left override", "name=A%E2%80%AEB"},
			{"name with a left-to-right isolate", "name=A%E2%81%A6B"},
			{"name of a zero-width space", "name=%E2%80%8B"},
			{"name with a zero-width space", "name=A%E2%80%8BB"},
			{"name with a byte order mark", "name=A%EF%BB%BFB"},
			{"name with a soft hyphen", "name=A%C2%ADB"},
			{"name with a tag character", "name=A%F3%A0%81%81B"},
		},
		"name: has a character that is in no standard alphabet or too new to be shown; " +
			"type it again without that character": {
			{"name with a private character", "name=A%EE%80%80B"},
			{"name with an unassigned character", "name=A%F0%9F%BF%BEB"},
			{"name with a noncharacter", "name=A%EF%BF%BFB"},
		},
		"name: has a line break, tab or other control character; type it as one line of plain text": {
			{"name with a line separator", "name=A%E2%80%A8B"},
			{"name with a paragraph separator", "name=A%E2%80%A9B"},
		},
		"email: has no @; write it as name@example.org": {
			{"e-mail without an at sign", "email=alex.test"},
		},
		"email: has nothing before the @; write it as name@example.org": {
			{"e-mail without a local part", "email=%40x.test"},
		},
		"email: has nothing after the @; write it as name@example.org": {
			{"e-mail without a domain", "email=alex%40"},
		},
		"email: needs a full domain after the @, such as example.org": {
			{"e-mail with a domain of one label", "email=alex%40localhost"},
		},
		"email: has a domain that no mail can be sent to; check the part after the @": {
			{"e-mail with an empty label", "email=alex%40x..test"},
			{"address literal", "email=a%40%5B192.0.2.1%5D"},
			{"label of 64 characters", "email=a%40" + long("b", 64) + ".test"},
			{"domain label with a leading hyphen", "email=a%40-x.test"},
			{"underscore in the domain", "email=a%40x_y.test"},
			{"broken A-label", "email=a%40xn--.test"},
		},
		"email: has a dot that does not stand between two characters; check the part before the @": {
			{"e-mail with a leading dot", "email=.alex%40x.test"},
			{"e-mail with a trailing dot before the at sign", "email=alex.%40x.test"},
			{"e-mail with two dots", "email=a..b%40x.test"},
		},
		"email: must not begin with a hyphen; use another address": {
			{"e-mail with a leading hyphen", "email=-oQ%2Ftmp%40x.test"},
			{"e-mail that is a mail program option", "email=-OQueueDirectory%3D%2Ftmp%40x.test"},
		},
		"email: must have no spaces; take them out": {
			{"e-mail with a space", "email=a+b%40x.test"},
			{"e-mail with a trailing space", "email=alex%40x.test+"},
			{"e-mail with a display name", "email=A+%3Ca%40x.test%3E"},
		},
		"email: must be one address and nothing else, such as name@example.org": {
			{"two e-mails with a comma", "email=a%40x.test%2Cb%40y.test"},
			{"two e-mails with a semicolon", "email=a%40x.test%3Bb%40y.test"},
			{"e-mail with two at signs", "email=a%40b%40x.test"},
			{"e-mail group", "email=g%3Aa%40x.test%3B"},
			{"e-mail in angle brackets", "email=%3Ca%40x.test%3E"},
			{"source route", "email=%40x.test%3Aa%40y.test"},
			{"bang path with a percent hack and an e-mail with two at signs", "email=a%25y%40z%40x.test"},
		},
		"email: has a character before the @ that is not supported; check it, or use another address": {
			{"e-mail with a comment", "email=a(c)%40x.test"},
			{"quoted local part", "email=%22x%22%40x.test"},
		},
		"email: has a number where its domain should be; write a name such as example.org after the @": {
			{"bare IP address", "email=a%40192.0.2.1"},
		},
		"email: has letters other than a to z before the @, which are not supported; use another address": {
			{"local part outside ASCII", "email=%C3%BC%40x.test"},
		},
		"email: must have at most 64 characters before the @; use a shorter address": {
			{"local part of 65 characters", "email=" + long("a", 65) + "%40x.test"},
		},
		"email: must be at most 254 characters long; use a shorter address": {
			{
				"e-mail of 255 characters",
				"email=" + long("a", 64) + "%40" + long(long("b", 62)+".", 2) + long("b", 59) + ".test",
			},
		},
		"ha1: send MD5(user:realm:password) as 32 hex digits": {
			{"HA1 of 31 digits", "ha1=" + long("a", 31)},
			{"HA1 of 33 digits", "ha1=" + long("a", 33)},
			{"HA1 with a g", "ha1=" + long("a", 31) + "g"},
			{"HA1 with a space", "ha1=+" + long("a", 31)},
			{"HA1 of full-width digits", "ha1=" + long("%EF%BC%91", 32)},
			{"HA1 of 64 digits", "ha1=" + long("ab", 32)},
		},
		"ha1b: send MD5(user@realm:realm:password) as 32 hex digits, or leave the field out": {
			{"empty ha1b", "ha1b="},
			{"ha1b of 31 digits", "ha1b=" + long("a", 31)},
			{"ha1b with a g", "ha1b=" + long("g", 32)},
		},
		"ha1_sha256: send SHA-256(user:realm:password) as 64 hex digits, or leave the field out": {
			{"empty ha1_sha256", "ha1_sha256="},
			{"ha1_sha256 of 32 digits", "ha1_sha256=" + long("a", 32)},
			{"ha1_sha256 with an x", "ha1_sha256=" + long("x", 64)},
		},
	}
	for _, field := range signupFields {
		for what, bytes := range map[string]string{
			"bytes that are not UTF-8": "%ff%fe", "overlong slash": "%c0%af", "surrogate": "%ed%a0%80",
			"truncated character": "a%e2%80", "code point beyond Unicode": "%f4%90%80%80",
		} {
			text := field + ": the text is not UTF-8; send it as UTF-8"
			refusals[text] = append(refusals[text], row{what + " in " + field, field + "=" + bytes})
		}
		for what, bytes := range map[string]string{
			"NUL": "a%00b", "CRLF": "a%0d%0ab", "line feed": "a%0ab", "tab": "a%09b",
			"trailing line feed": "a%0a", "escape sequence": "%1b%5b2J", "delete": "a%7fb",
			"next line": "a%c2%85b", "last C1 control": "a%c2%9fb", "first control": "%01",
		} {
			text := field + ": the text contains a control character; remove it"
			refusals[text] = append(refusals[text], row{what + " in " + field, field + "=" + bytes})
		}
	}
	for text, rows := range refusals {
		for _, row := range rows {
			t.Run(row.name, func(t *testing.T) {
				who := s.newPerson("a.test")
				f := s.form(t, who).with(row.change)
				user := who.user
				if value, ok := strings.CutPrefix(row.change, "user="); ok {
					user, _ = url.QueryUnescape(value)
				}
				spent := s.spentCaptchas(t)
				s.changesNothing(t, "a.test", user, func() {
					got := s.visitor("a.test").post(t, f).wantError(t, 400, "invalid_request")
					if got != text {
						t.Errorf("the description is %q, want %q", got, text)
					}
					if s.spentCaptchas(t) != spent {
						t.Error("the captcha was spent")
					}
				})
			})
		}
	}
}

func TestSignupMissingFields(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for _, field := range requiredFields {
		for name, change := range map[string]func(form) form{
			field + " missing": func(f form) form { return f.without(field) },
			field + " empty":   func(f form) form { return f.with(field + "=") },
			field + " missing and others invalid": func(f form) form {
				return f.with("user=BAD", "ha1=bad", "email=bad").without(field)
			},
			field + " in another case": func(f form) form {
				return append(f.without(field), [2]string{strings.ToUpper(field), "x"})
			},
		} {
			t.Run(name, func(t *testing.T) {
				who := s.newPerson("a.test")
				f := change(s.form(t, who))
				s.changesNothing(t, "a.test", who.user, func() {
					if got := s.visitor("a.test").post(t, f).
						wantError(t, 400, "invalid_request"); got != missingText {
						t.Errorf("the description is %q, want %q", got, missingText)
					}
				})
			})
		}
	}
	for name, body := range map[string]string{
		"empty body": "", "body of an ampersand": "&", "body of one word": "user",
	} {
		t.Run(name, func(t *testing.T) {
			if got := s.visitor("a.test").postBody(t, body).
				wantError(t, 400, "invalid_request"); got != missingText {
				t.Errorf("the description is %q", got)
			}
		})
	}
}

// TestSignupAccepted checks what is stored for unusual valid signups.
func TestSignupAccepted(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	long := strings.Repeat
	hex := long("0123456789abcdef", 2)
	rows := []struct {
		name    string
		changes []string
		user    string // stored; the person's own if empty
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
		{
			"a name of 120 characters of four bytes", []string{"name=" + long("%F0%90%80%80", 120)},
			"", long("\U00010000", 120), "",
		},
		{
			"a name of 120 characters and spaces around it",
			[]string{"name=++" + long("%E4%B8%AD", 120) + "++"}, "", long("中", 120), "",
		},
		{"a name with white space inside", []string{"name=Jo+++van%C2%A0der+Berg"}, "", "Jo van der Berg", ""},
		{"a name in another normal form", []string{"name=Zoe%CC%88"}, "", "Zoë", ""},
		{
			"an Arabic name",
			[]string{"name=" + url.QueryEscape("فاطمة الزهراء")}, "", "فاطمة الزهراء", "",
		},
		{"a Hebrew name", []string{"name=" + url.QueryEscape("יעל כהן")}, "", "יעל כהן", ""},
		{
			"a name in Devanagari", []string{"name=" + url.QueryEscape("राजेश क्\u200dषत्रिय")}, "",
			"राजेश क्\u200dषत्रिय", "",
		},
		{
			"a name with an emoji family",
			[]string{"name=" + url.QueryEscape("Ann 👩\u200d👩\u200d👧")}, "", "Ann 👩\u200d👩\u200d👧",
			"",
		},
		{
			"a name with markup in it",
			[]string{"name=" + url.QueryEscape(`"><img src=x onerror=alert(1)>`)}, "",
			`"><img src=x onerror=alert(1)>`, "",
		},
		{"an e-mail with a tag", []string{"email=jo%2Btag%40one.test"}, "", "", "jo+tag@one.test"},
		{"an e-mail with capitals in its domain", []string{"email=Jo%40TWO.Test"}, "", "", "Jo@two.test"},
		{
			"an e-mail with an international domain",
			[]string{"email=" + url.QueryEscape("a@bücher.test")}, "", "", "a@xn--bcher-kva.test",
		},
		{
			"an e-mail of 254 characters",
			[]string{"email=" + long("a", 64) + "%40" + long(long("b", 62)+".", 2) + long("b", 58) + ".test"},
			"", "", long("a", 64) + "@" + long(long("b", 62)+".", 2) + long("b", 58) + ".test",
		},
		{"an HA1 in capitals", []string{"ha1=" + strings.ToUpper(hex)}, "", "", ""},
		{"an answer with spaces around it", []string{"ha1=" + hex, "captcha_answer=+%s+"}, "", "", ""},
		{
			"both optional hashes in capitals",
			[]string{"ha1=" + hex, "ha1b=" + strings.ToUpper(hex), "ha1_sha256=" + strings.ToUpper(hex+hex)},
			"", "", "",
		},
		{
			"unknown fields",
			[]string{
				"ha1=" + hex, "role=admin", "disabled=false", "activated=1", "realm=x", "tenant=b",
				"uid=1", "x=",
			},
			"", "", "",
		},
		{"an unknown field twice", []string{"ha1=" + hex, "x=1&x=2"}, "", "", ""},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			who := s.newPerson("a.test")
			f := s.form(t, who)
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
			s.hide(row.email)
			f = f.with(row.changes...)
			s.visitor("a.test").post(t, f).wantStatus(t, 200)
			got := s.find(t, who)
			if got.Name != row.shown || got.Email != row.email {
				t.Errorf("stored name %q and e-mail %q, want %q and %q", got.Name, got.Email, row.shown, row.email)
			}
			if got.Role != account.Guest || !got.Disabled || !got.Pending() || got.Held ||
				got.Tenant != s.At("a.test").Tenant.ID {
				t.Errorf("the account is %+v", got)
			}
			credential, err := s.Accounts.Credential(got)
			if err != nil {
				t.Fatal(err)
			}
			if want := strings.ToLower(f.get(t, "ha1")); credential.HA1.Hex() != want {
				t.Error("the stored HA1 is not the one that was sent")
			}
			optional := strings.Contains(f.String(), "ha1b=")
			if (credential.HA1B != nil) != optional || (credential.SHA256 != nil) != optional ||
				got.HasSHA256 != optional {
				t.Error("the stored optional hashes are not those that were sent")
			}
			if optional && (credential.HA1B.Hex() != hex || credential.SHA256.Hex() != hex+hex) {
				t.Error("the optional hashes are not stored in lower case")
			}
			if len(s.messages(t, row.email)) != 1 {
				t.Errorf("%d messages to %s", len(s.messages(t, row.email)), row.email)
			}
		})
	}
}

func TestSignupCommonPassword(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	// Some of the most common passwords, of the most likely ones with at least 12 characters, and
	// of those derived from the person.
	for _, password := range []string{
		"password", "123456", "qwerty", "iloveyou", "letmein", "dragon", "monkey", "trustno1",
		"sunshine", "michael", "", "USER", "HOST",
		"password1234", "111111111111", "qwertyuiop12", "Password123!", "alex12345678",
	} {
		t.Run("the password "+password, func(t *testing.T) {
			who := s.newPerson("a.test")
			if strings.HasPrefix(password, "alex") {
				who.user = "alex"
			}
			who.password = strings.NewReplacer("USER", who.user, "HOST", who.host).Replace(password)
			f := s.form(t, who)
			s.changesNothing(t, "a.test", who.user, func() {
				got := s.visitor("a.test").post(t, f).wantError(t, 400, "invalid_request")
				if got != "ha1: the password is easy to guess; choose another one" {
					t.Errorf("the description is %q", got)
				}
			})
		})
	}
}

// TestSignupCheckOrder checks that a request with two faults gets the error for the one that is
// checked first.
func TestSignupCheckOrder(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	full := s.visitor("a.test") // an address at its limit
	for range 3 {
		full.post(t, s.form(t, s.newPerson("a.test"))).wantStatus(t, 200)
	}
	taken := s.pending(t, "a.test")
	victim := s.newPerson("a.test")
	for range 3 {
		who := s.newPerson("a.test")
		who.email = victim.email
		s.signUp(t, who)
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
		{
			"an unknown path",
			func(r *request) { r.target = "/signups.ashx" + r.target[len("/signup.ashx"):] }, 404,
			"not_found", "",
		},
		{"a wrong method", func(r *request) { r.method = "PUT" }, 405, "method_not_allowed", "POST"},
		{"a wrong media type", func(r *request) { r.media = "text/plain" }, 400, "invalid_request", formType},
		{
			"a long body", func(r *request) { r.padding = "&pad=" + strings.Repeat("x", 9000) },
			400, "invalid_request", "8 KiB",
		},
		{"a query string", func(r *request) { r.target += "?user=q" }, 400, "invalid_request", "question mark"},
		{
			"a body that does not parse", func(r *request) { r.more += "&z=%zz" }, 400,
			"invalid_request", "well-formed",
		},
		{
			"a field twice", func(r *request) { r.more += "&email=x%40y.test" }, 400,
			"invalid_request", "more than once",
		},
		{
			"bytes that are no UTF-8", func(r *request) { r.f = r.f.with("ha1b=%ff") }, 400,
			"invalid_request", "UTF-8",
		},
		{"a missing field", func(r *request) { r.f = r.f.without("name") }, 400, "invalid_request", missingText},
		{
			"a field of bad shape", func(r *request) { r.f = r.f.with("ha1=xyz") }, 400,
			"invalid_request", "ha1: send",
		},
		{
			"an address that had its signups", func(r *request) { r.from = full }, 429,
			"rate_limited", "too many accounts",
		},
		{"a wrong captcha", func(r *request) { r.f = r.f.with("captcha_answer=99") }, 400, "captcha_failed", ""},
		{
			"a user that is taken", func(r *request) { r.f = r.f.with("user=" + taken.user) }, 409,
			"conflict", "taken",
		},
		{
			"an e-mail that had its messages",
			func(r *request) { r.f = r.f.with("email=" + url.QueryEscape(victim.email)) }, 429,
			"rate_limited", "e-mail",
		},
		{"a store that fails", func(r *request) { r.broken = true }, 500, "server_error", ""},
	}
	repair := func() {}
	defer func() { repair() }()
	try := func(t *testing.T, spoilt ...check) {
		t.Helper()
		r := request{
			from: s.visitor("a.test"), method: "POST", target: "/signup.ashx", media: formType,
			host: "a.test",
		}
		r.f = s.form(t, s.newPerson("a.test"))
		for _, c := range spoilt {
			c.spoil(&r)
		}
		if r.broken {
			repair = s.breakStore(t)
			defer func() { repair(); repair = func() {} }()
		}
		before := s.state(t)
		a := r.from.at(r.host).do(t, r.method, r.target, r.f.String()+r.more+r.padding, "Content-Type", r.media)
		if got := a.wantError(t, spoilt[0].status, spoilt[0].code); !strings.Contains(got, spoilt[0].says) {
			t.Errorf("the description is %q, want %q in it", got, spoilt[0].says)
		}
		if after := s.state(t); after != before {
			t.Errorf("the state changed:\n before %s\n after  %s", before, after)
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
	s := startServer(t)
	for _, row := range []struct{ path, allow string }{
		{"/captcha.ashx", "GET, HEAD"}, {"/signup.ashx", "POST"},
		{"/activate.ashx", "GET, HEAD, POST"}, {"/signin.ashx", "GET, HEAD, POST"},
		{"/decline.ashx", "POST"}, {"/decline.html", "GET, HEAD, POST"},
		{"/signout.ashx", "POST"}, {"/", "GET, HEAD"}, {"/signup.html", "GET, HEAD"},
		{"/login.html", "GET, HEAD"}, {"/account.html", "GET, HEAD"}, {"/activated.html", "GET, HEAD"},
		{"/passkeys.ashx", "GET, HEAD, POST"}, {"/passkeys.html", "GET, HEAD"},
		{"/passkey.ashx", "POST"}, {"/passkey-options.ashx", "GET, HEAD"}, {"/passkey-new.ashx", "POST"},
		{"/passkey-remove.ashx", "POST"},
		{"/sessions.ashx", "GET, HEAD, POST"}, {"/sessions.html", "GET, HEAD"},
		{"/phones.ashx", "GET, HEAD"},
		{"/turn", "GET, HEAD"}, {"/provision", "GET, HEAD, POST"}, {"/provision/linphone.xml", "GET, HEAD"},
		{"/provision/zoiper.xml", "GET, HEAD"},
		{"/forgot.ashx", "POST"}, {"/forgot.html", "GET, HEAD"},
		{"/reset.ashx", "GET, HEAD, POST"}, {"/reset.html", "GET, HEAD"},
		{"/not-me.ashx", "POST"}, {"/not-me.html", "GET, HEAD"},
		{"/email.ashx", "POST"}, {"/profile.ashx", "POST"}, {"/profile.html", "GET, HEAD"},
		{"/confirm-email.ashx", "POST"}, {"/confirm-email.html", "GET, HEAD"},
		{"/leave.ashx", "POST"}, {"/leave.html", "GET, HEAD"}, {"/data.ashx", "GET, HEAD"},
		{"/stay.ashx", "POST"}, {"/stay.html", "GET, HEAD"},
	} {
		for _, method := range []string{
			"GET", "POST", "PUT", "DELETE", "PATCH", "TRACE", "FOO", "PROPFIND", "get", "CONNECT",
		} {
			if slices.Contains(strings.Split(row.allow, ", "), method) {
				continue
			}
			t.Run(method+" not for "+row.path, func(t *testing.T) {
				who := s.newPerson("a.test")
				a := s.visitor("a.test").do(t, method, row.path, s.form(t, who).String(), "Content-Type", formType)
				a.wantError(t, 405, "method_not_allowed")
				if got := a.header.Values("Allow"); len(got) != 1 || got[0] != row.allow {
					t.Errorf("Allow is %q, want %q", got, row.allow)
				}
			})
		}
		t.Run("OPTIONS "+row.path, func(t *testing.T) {
			a := s.visitor("a.test").do(t, "OPTIONS", row.path, "")
			a.wantStatus(t, 204)
			if a.header.Get("Allow") != row.allow || a.body != "" ||
				a.header.Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("headers %v, body %q", a.header, a.body)
			}
		})
	}
	t.Run("HEAD of the captcha has no body", func(t *testing.T) {
		a := s.visitor("a.test").do(t, "HEAD", "/captcha.ashx", "")
		a.wantJSON(t, 200)
		if a.body != "" {
			t.Errorf("body %q", a.body)
		}
	})
	t.Run("HEAD not for signup", func(t *testing.T) {
		a := s.visitor("a.test").do(t, "HEAD", "/signup.ashx", "")
		a.wantJSON(t, 405)
		if a.header.Get("Allow") != "POST" || a.body != "" {
			t.Errorf("headers %v, body %q", a.header, a.body)
		}
	})
	for _, header := range []string{"X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"} {
		t.Run(header+" changes nothing", func(t *testing.T) {
			who := s.newPerson("a.test")
			f := s.form(t, who).with("_method=DELETE")
			s.changesNothing(t, "a.test", who.user, func() {
				s.visitor("a.test").
					do(t, "GET", "/signup.ashx", f.String(), header, "POST", "Content-Type", formType).
					wantError(t, 405, "method_not_allowed")
			})
			s.visitor("a.test").post(t, s.form(t, s.newPerson("a.test")), header, "DELETE").wantStatus(t, 200)
		})
	}
}

func TestSignupSHA256Tenant(t *testing.T) {
	t.Parallel()
	s := startServerWith(t, options{tenants: func(x *tenant.Tenant) {
		if x.Host == "b.test" {
			x.Algorithm = "SHA-256"
		}
	}})
	who := s.newPerson("b.test")
	f := s.form(t, who)
	s.changesNothing(t, "a.test", who.user, func() {
		s.visitor("b.test").post(t, f).wantError(t, 400, "invalid_request")
	})
	full := sha256Hex(who.user + ":b.test:" + who.password)
	s.hide(full)
	s.visitor("b.test").post(t, s.form(t, who).with("ha1_sha256="+full)).wantStatus(t, 200)
	if got := s.visitor("b.test").get(t, "/signin.ashx").challenge(t); got.param["algorithm"] != "SHA-256" {
		t.Errorf("the challenge is %v", got)
	}
}

func TestSignupTakenName(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	who := s.pending(t, "a.test")
	again := func(t *testing.T) answer {
		other := s.newPerson("a.test")
		other.user = who.user
		return s.visitor("a.test").post(t, s.form(t, other))
	}
	if got := again(t).wantError(t, 409, "conflict"); !strings.Contains(got, "taken") {
		t.Errorf("the description is %q", got)
	}
	s.visitor("a.test").get(t, s.link(t, who.email)).wantStatus(t, 200)
	again(t).wantError(t, 409, "conflict")
	s.At("a.test").Delete(who.user)
	// The name of a deleted account cannot be used again.
	again(t).wantError(t, 409, "conflict")
	s.Advance(365 * 24 * time.Hour)
	again(t).wantError(t, 409, "conflict")
	other := s.newPerson("b.test")
	other.user = who.user
	s.signUp(t, other)
}

func TestSignupReservedName(t *testing.T) {
	t.Parallel()
	s := startServerWith(t, options{tenants: func(x *tenant.Tenant) { x.Reserved = []string{"zebrafone"} }})
	for _, user := range []string{"zebrafone", "zebraf0ne", "zebra-fone", "admin", "postmaster", "root"} {
		who := s.newPerson("a.test")
		who.user = user
		s.visitor("a.test").post(t, s.form(t, who)).wantError(t, 400, "invalid_request")
	}
}

// TestSignupServerError checks that an internal error changes nothing, and that the same form works
// after the repair, since its captcha was not spent.
func TestSignupServerError(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for name, fail := range map[string]func(t *testing.T) (repair func()){
		"store cannot write": func(t *testing.T) func() { return s.breakStore(t) },
		"store cannot read": func(t *testing.T) func() {
			s.exec(t, `ALTER TABLE taken RENAME TO elsewhere`)
			return func() { s.exec(t, `ALTER TABLE elsewhere RENAME TO taken`) }
		},
		"outbox cannot write": func(t *testing.T) func() {
			s.exec(t, `CREATE TRIGGER broken BEFORE INSERT ON outbox
				BEGIN SELECT RAISE(ABORT, 'no such file /x.go:1'); END`)
			return func() { s.exec(t, `DROP TRIGGER broken`) }
		},
		"message cannot be published": func(t *testing.T) func() {
			s.Pickup.PublishErr = errors.New("rename /var/spool/x.eml: no space")
			return func() { s.Pickup.PublishErr = nil }
		},
	} {
		t.Run(name, func(t *testing.T) {
			who := s.newPerson("a.test")
			f := s.form(t, who)
			v := s.visitor("a.test")
			before, spent := s.state(t), s.spentCaptchas(t)
			repair := fail(t)
			for range 4 { // more than the address limit, which does not count them
				got := v.post(t, f).wantError(t, 500, "server_error")
				if strings.ContainsAny(got, `/\`) || strings.Contains(got, ".go") || strings.Contains(got, "SQL") {
					t.Errorf("the description shows internals: %q", got)
				}
			}
			repair()
			if after := s.state(t); after != before || s.spentCaptchas(t) != spent {
				t.Errorf("the state changed:\n before %s, %d captchas\n after  %s, %d captchas", before,
					spent, after, s.spentCaptchas(t))
			}
			v.post(t, f).wantStatus(t, 200)
			s.link(t, who.email)
		})
	}
	t.Run("pickup directory is missing", func(t *testing.T) {
		who, taken := s.newPerson("a.test"), s.pending(t, "a.test")
		f := s.form(t, who)
		v := s.visitor("a.test")
		if err := os.Rename(s.Pickup.Path(), s.Pickup.Path()+".away"); err != nil {
			t.Fatal(err)
		}
		for range 4 {
			v.post(t, f).wantError(t, 500, "server_error")
		}
		// A taken name is still a conflict.
		other := s.newPerson("a.test")
		other.user = taken.user
		s.visitor("a.test").post(t, s.form(t, other)).wantError(t, 409, "conflict")
		if err := os.Rename(s.Pickup.Path()+".away", s.Pickup.Path()); err != nil {
			t.Fatal(err)
		}
		v.post(t, f).wantStatus(t, 200)
	})
}

func TestCaptchaSingleUse(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	post := func(t *testing.T, token, answer string) answer {
		t.Helper()
		f := s.form(t, s.newPerson("a.test"))
		return s.visitor("a.test").
			post(t, f.with("captcha_token="+url.QueryEscape(token), "captcha_answer="+url.QueryEscape(answer)))
	}
	t.Run("not after success", func(t *testing.T) {
		token, answer := s.captcha(t, "a.test")
		post(t, token, answer).wantStatus(t, 200)
		post(t, token, answer).wantError(t, 400, "captcha_failed")
	})
	t.Run("not after a wrong answer", func(t *testing.T) {
		token, answer := s.captcha(t, "a.test")
		post(t, token, "99").wantError(t, 400, "captcha_failed")
		post(t, token, answer).wantError(t, 400, "captcha_failed")
	})
	t.Run("not after an answer that is not a number", func(t *testing.T) {
		token, answer := s.captcha(t, "a.test")
		post(t, token, "eight").wantError(t, 400, "captcha_failed")
		post(t, token, answer).wantError(t, 400, "captcha_failed")
	})
	t.Run("not after a conflict", func(t *testing.T) {
		who := s.pending(t, "a.test")
		token, answer := s.captcha(t, "a.test")
		f := s.form(t, s.newPerson("a.test")).with("captcha_token="+token, "captcha_answer="+answer)
		s.visitor("a.test").post(t, f.with("user="+who.user)).wantError(t, 409, "conflict")
		s.visitor("a.test").post(t, f).wantError(t, 400, "captcha_failed")
	})
	t.Run("again after an invalid field", func(t *testing.T) {
		token, answer := s.captcha(t, "a.test")
		f := s.form(t, s.newPerson("a.test")).with("captcha_token="+token, "captcha_answer="+answer)
		s.visitor("a.test").post(t, f.with("ha1=short")).wantError(t, 400, "invalid_request")
		s.visitor("a.test").post(t, f).wantStatus(t, 200)
	})
	t.Run("again after the address limit", func(t *testing.T) {
		v := s.visitor("a.test")
		for range 3 {
			v.post(t, s.form(t, s.newPerson("a.test"))).wantStatus(t, 200)
		}
		f := s.form(t, s.newPerson("a.test"))
		v.post(t, f).wantError(t, 429, "rate_limited")
		s.visitor("a.test").post(t, f).wantStatus(t, 200)
	})
	t.Run("again after the recipient limit", func(t *testing.T) {
		victim := s.newPerson("a.test")
		for range 3 {
			who := s.newPerson("a.test")
			who.email = victim.email
			s.signUp(t, who)
		}
		who := s.newPerson("a.test")
		f := s.form(t, who)
		s.visitor("a.test").post(t, f.with("email="+url.QueryEscape(victim.email))).
			wantError(t, 429, "rate_limited")
		s.visitor("a.test").post(t, f).wantStatus(t, 200)
	})
	for name, vary := range map[string]func(token string) string{
		"not with a line feed in it": func(s string) string { return s[:10] + "\n" + s[10:] },
		"not with padding":           func(s string) string { return s + "=" },
		"not with a space behind it": func(s string) string { return s + " " },
		"not in the other alphabet": func(s string) string {
			return strings.NewReplacer("-", "+", "_", "/").Replace(s[:1] + "-" + s[2:])
		},
		"not with its last letter off":  func(s string) string { return s[:len(s)-1] },
		"not with another first letter": func(s string) string { return "B" + s[1:] },
		"not twice over":                func(s string) string { return s + s },
	} {
		t.Run(name, func(t *testing.T) {
			token, answer := s.captcha(t, "a.test")
			who := s.newPerson("a.test")
			f := s.form(t, who).with("captcha_token="+url.QueryEscape(vary(token)), "captcha_answer="+answer)
			spent := s.spentCaptchas(t)
			s.changesNothing(t, "a.test", who.user, func() {
				a := s.visitor("a.test").post(t, f)
				if strings.Contains(vary(token), "\n") {
					a.wantError(t, 400, "invalid_request") // for the control character
				} else {
					a.wantError(t, 400, "captcha_failed")
				}
				if s.spentCaptchas(t) != spent {
					t.Error("a token that we did not issue was stored as spent")
				}
			})
			post(t, token, answer).wantStatus(t, 200) // it was not spent
		})
	}
	t.Run("not with another MAC, which counts as a try", func(t *testing.T) {
		token, answer := s.captcha(t, "a.test")
		last := map[bool]string{true: "B", false: "A"}[strings.HasSuffix(token, "A")]
		post(t, token[:len(token)-1]+last, answer).wantError(t, 400, "captcha_failed")
		post(t, token, answer).wantError(t, 400, "captcha_failed")
	})
	for name, answer := range map[string]string{
		"not for an answer with a sign": "+%s", "not for an answer with a point": "%s.0",
		"not for a negative answer": "-%s", "not for an answer in hexadecimal": "0x%s",
		"not for a very long answer": strings.Repeat("0", 400) + "%s", "not for a sum": "%s+0",
		"not for other digits of another script": "٩٩٩", // no answer has three digits
	} {
		t.Run(name, func(t *testing.T) {
			token, right := s.captcha(t, "a.test")
			post(t, token, strings.ReplaceAll(answer, "%s", right)).wantError(t, 400, "captcha_failed")
		})
	}
}

func TestCaptchaValidity(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	post := func(t *testing.T, host, token, answer string) answer {
		t.Helper()
		f := s.form(t, s.newPerson(host)).with("captcha_token="+token, "captcha_answer="+answer)
		return s.visitor(host).post(t, f)
	}
	token, answer := s.captcha(t, "a.test")
	late, lateAnswer := s.captcha(t, "a.test")
	s.Advance(899 * time.Second)
	post(t, "a.test", token, answer).wantStatus(t, 200)
	s.Advance(time.Second)
	post(t, "a.test", late, lateAnswer).wantError(t, 400, "captcha_failed")

	s.Advance(61 * time.Second) // the clock of another node is ahead
	early, earlyAnswer := s.captcha(t, "a.test")
	s.Advance(-61 * time.Second)
	post(t, "a.test", early, earlyAnswer).wantError(t, 400, "captcha_failed")
	s.Advance(time.Second)
	post(t, "a.test", early, earlyAnswer).wantStatus(t, 200)

	foreign, foreignAnswer := s.captcha(t, "b.test")
	post(t, "a.test", foreign, foreignAnswer).wantError(t, 400, "captcha_failed")
	post(t, "b.test", foreign, foreignAnswer).wantStatus(t, 200)

	t.Run("after a restart and one key rotation", func(t *testing.T) {
		token, answer := s.captcha(t, "a.test")
		s.restart(t)
		post(t, "a.test", token, answer).wantStatus(t, 200)
		post(t, "a.test", token, answer).wantError(t, 400, "captcha_failed")
		one, oneAnswer := s.captcha(t, "a.test")
		two, twoAnswer := s.captcha(t, "a.test")
		s.SignRing = s.SignRing.Rotated(s.Now(), 2)
		post(t, "a.test", one, oneAnswer).wantStatus(t, 200)
		s.SignRing = s.SignRing.Rotated(s.Now(), 2)
		post(t, "a.test", two, twoAnswer).wantError(t, 400, "captcha_failed")
	})
}

// TestCaptchaBeforeTakenName checks that a signup with a wrong captcha does not reveal whether a
// name is taken.
func TestCaptchaBeforeTakenName(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	there, free := s.pending(t, "a.test"), s.newPerson("a.test")
	var answers []answer
	for _, user := range []string{there.user, free.user} {
		who := s.newPerson("a.test")
		who.user = user
		answers = append(answers, s.visitor("a.test").post(t, s.form(t, who).with("captcha_answer=99")))
	}
	answers[0].wantError(t, 400, "captcha_failed")
	wantSame(t, answers...)
}

// wantSame checks that answers do not differ, except in their dates and nonces.
func wantSame(t *testing.T, answers ...answer) {
	t.Helper()
	nonce := regexp.MustCompile(`nonce="[^"]*"`)
	for i := range answers {
		answers[i].header.Del("Date")
		if c := answers[i].header["Www-Authenticate"]; c != nil {
			c[0] = nonce.ReplaceAllString(c[0], "nonce")
		}
		if first, this := fmt.Sprint(answers[0]), fmt.Sprint(answers[i]); first != this {
			t.Errorf("two answers differ:\n%s\n%s", first, this)
		}
	}
}

func TestAddressLimit(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	t.Run("fourth signup in an hour is refused", func(t *testing.T) {
		v := s.visitor("a.test")
		try := func() answer { return v.post(t, s.form(t, s.newPerson("a.test"))) }
		start := s.Now()
		try().wantStatus(t, 200)
		s.Advance(time.Minute)
		try().wantStatus(t, 200)
		s.Advance(time.Minute)
		try().wantStatus(t, 200)
		for _, at := range []time.Duration{2 * time.Minute, 30 * time.Minute, 59*time.Minute + 59*time.Second} {
			s.Advance(start.Add(at).Sub(s.Now()))
			a := try()
			a.wantError(t, 429, "rate_limited")
			if got, want := a.retryAfter(t), time.Hour-at; got != want {
				t.Errorf("after %v: Retry-After is %v, want %v", at, got, want)
			}
		}
		s.Advance(time.Second)
		try().wantStatus(t, 200)
		a := try()
		a.wantError(t, 429, "rate_limited")
		if got := a.retryAfter(t); got != time.Minute {
			t.Errorf("Retry-After is %v, want %v", got, time.Minute)
		}
		s.Advance(a.retryAfter(t))
		try().wantStatus(t, 200)
	})
	t.Run("Retry-After rounds up", func(t *testing.T) {
		v := s.visitor("a.test")
		for range 3 {
			v.post(t, s.form(t, s.newPerson("a.test"))).wantStatus(t, 200)
		}
		s.Advance(time.Hour - time.Millisecond)
		a := v.post(t, s.form(t, s.newPerson("a.test")))
		a.wantError(t, 429, "rate_limited")
		if got := a.retryAfter(t); got != time.Second {
			t.Errorf("Retry-After is %v", got)
		}
	})
	t.Run("untrusted headers are ignored", func(t *testing.T) {
		v := s.visitor("a.test")
		for range 3 {
			v.post(t, s.form(t, s.newPerson("a.test"))).wantStatus(t, 200)
		}
		for _, header := range []string{
			"X-Forwarded-For", "X-Real-IP", "Forwarded", "CF-Connecting-IP", "True-Client-IP",
			"X-Client-IP", "X-Cluster-Client-IP", "Client-IP", "Via",
		} {
			value := "203.0.113.77"
			if header == "Forwarded" {
				value = "for=203.0.113.77"
			}
			v.post(t, s.form(t, s.newPerson("a.test")), header, value).wantError(t, 429, "rate_limited")
		}
	})
	t.Run("loopback is limited too", func(t *testing.T) {
		v := &visitor{s, "a.test", netip.MustParseAddr("127.0.0.1")}
		for range 3 {
			v.post(t, s.form(t, s.newPerson("a.test"))).wantStatus(t, 200)
		}
		v.post(t, s.form(t, s.newPerson("a.test"))).wantError(t, 429, "rate_limited")
	})
	t.Run("failures do not count", func(t *testing.T) {
		v := s.visitor("a.test")
		there := s.pending(t, "a.test")
		for range 5 {
			f := s.form(t, s.newPerson("a.test"))
			v.post(t, f.with("user="+there.user)).wantError(t, 409, "conflict")
			v.post(t, s.form(t, s.newPerson("a.test")).with("captcha_answer=99")).
				wantError(t, 400, "captcha_failed")
		}
		for range 3 {
			v.post(t, s.form(t, s.newPerson("a.test"))).wantStatus(t, 200)
		}
	})
	t.Run("tenants are counted separately", func(t *testing.T) {
		v := s.visitor("a.test")
		for range 3 {
			v.post(t, s.form(t, s.newPerson("a.test"))).wantStatus(t, 200)
		}
		for range 3 {
			v.at("b.test").post(t, s.form(t, s.newPerson("b.test"))).wantStatus(t, 200)
		}
		v.post(t, s.form(t, s.newPerson("a.test"))).wantError(t, 429, "rate_limited")
		v.at("b.test").post(t, s.form(t, s.newPerson("b.test"))).wantError(t, 429, "rate_limited")
	})
	t.Run("counts survive a restart", func(t *testing.T) {
		v := s.visitor("a.test")
		for range 3 {
			v.post(t, s.form(t, s.newPerson("a.test"))).wantStatus(t, 200)
		}
		s.restart(t)
		v.post(t, s.form(t, s.newPerson("a.test"))).wantError(t, 429, "rate_limited")
	})
}

func TestAddressCeiling(t *testing.T) {
	t.Parallel()
	s := startServerWith(t, options{ceiling: 4})
	v := s.visitor("a.test")
	for range 3 {
		v.post(t, s.form(t, s.newPerson("a.test"))).wantStatus(t, 200)
	}
	v.at("b.test").post(t, s.form(t, s.newPerson("b.test"))).wantStatus(t, 200)
	v.at("b.test").post(t, s.form(t, s.newPerson("b.test"))).wantError(t, 429, "rate_limited")
	s.visitor("b.test").post(t, s.form(t, s.newPerson("b.test"))).wantStatus(t, 200)
}

func TestTenantCeiling(t *testing.T) {
	t.Parallel()
	s := startServerWith(t, options{tenants: func(x *tenant.Tenant) {
		if x.Host == "a.test" {
			x.SignupsPerHour = 4
		}
	}})
	who := s.active(t, "a.test")
	for range 3 {
		s.pending(t, "a.test")
	}
	s.visitor("a.test").post(t, s.form(t, s.newPerson("a.test"))).wantError(t, 429, "rate_limited")
	s.pending(t, "b.test")
	s.visitor("a.test").signIn(t, who.user, who.password).wantStatus(t, 200)
}

func TestForwardedFor(t *testing.T) {
	t.Parallel()
	proxy := netip.MustParseAddr("127.0.0.9")
	s := startServerWith(t,
		options{proxies: []netip.Prefix{netip.PrefixFrom(proxy, 32), netip.MustParsePrefix("10.0.0.0/24")}})
	v := &visitor{s, "a.test", proxy}
	post := func(t *testing.T, forwarded ...string) int {
		t.Helper()
		var headers []string
		for _, f := range forwarded {
			headers = append(headers, "X-Forwarded-For", f)
		}
		a := v.post(t, s.form(t, s.newPerson("a.test")), headers...)
		if a.status != 200 {
			a.wantError(t, 429, "rate_limited")
		}
		return a.status
	}
	for _, row := range []struct {
		name  string
		first []string // the address of three signups
		then  []string
		want  int
	}{
		{
			"the rightmost address that is not a proxy counts",
			[]string{"9.9.9.9, 192.0.2.7, 10.0.0.7"}, []string{"8.8.8.8, 192.0.2.7, 10.0.0.8"}, 429,
		},
		{"what stands left of it does not", []string{"1.2.3.4, 192.0.2.8"}, []string{"1.2.3.4, 192.0.2.9"}, 200},
		{"several headers are one list", []string{"9.9.9.9", "192.0.2.10"}, []string{"7.7.7.7", "192.0.2.10"}, 429},
		{"an IPv4 address in IPv6 is the IPv4 address", []string{"192.0.2.11"}, []string{"::ffff:192.0.2.11"}, 429},
		{
			"another host of one /64 is the same client", []string{"2001:db8:1:1::1"},
			[]string{"2001:db8:1:1:ffff::2"}, 429,
		},
		{"another /64 is another client", []string{"2001:db8:2:1::1"}, []string{"2001:db8:2:2::1"}, 200},
		{"a zone makes no other client", []string{"2001:db8:3:1::1"}, []string{"2001:db8:3:1::2%eth0"}, 429},
		{"a port behind it makes no other client", []string{"192.0.2.14:1024"}, []string{"192.0.2.14:2048"}, 429},
		{"two clients with ports are two", []string{"192.0.2.15:1024"}, []string{"192.0.2.16:1024"}, 200},
		{
			"text that is not an address is ignored", []string{"192.0.2.12, unknown"},
			[]string{"192.0.2.13, <script>"}, 429,
		},
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
	t.Run("a /48 has thirty signups", func(t *testing.T) {
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
	t.Run("not from an untrusted peer", func(t *testing.T) {
		v := s.visitor("a.test")
		for range 3 {
			v.post(t, s.form(t, s.newPerson("a.test")), "X-Forwarded-For", "192.0.2.50").wantStatus(t, 200)
		}
		v.post(t, s.form(t, s.newPerson("a.test")), "X-Forwarded-For", "192.0.2.51").
			wantError(t, 429, "rate_limited")
	})
}

func TestFailureLimit(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	v := s.visitor("a.test")
	bad := []func() answer{ // refused by different checks
		func() answer { return v.post(t, s.form(t, s.newPerson("a.test")).with("captcha_answer=99")) },
		func() answer { return v.post(t, s.form(t, s.newPerson("a.test")).with("ha1=short")) },
		func() answer { return v.postBody(t, "user=%zz") },
		func() answer { return v.do(t, "POST", "/signup.ashx", "{}", "Content-Type", "application/json") },
	}
	for i := range 60 {
		bad[i%len(bad)]().wantStatus(t, 400)
	}
	f := s.form(t, s.newPerson("a.test"))
	s.changesNothing(t, "a.test", f.get(t, "user"), func() {
		a := v.post(t, f)
		a.wantError(t, 429, "rate_limited")
		if got := a.retryAfter(t); got != 10*time.Minute {
			t.Errorf("Retry-After is %v, want 10m", got)
		}
	})
	v.postBody(t, "user=%zz").wantError(t, 400, "invalid_request") // checked before the limit
	s.visitor("a.test").post(t, s.form(t, s.newPerson("a.test"))).wantStatus(t, 200)
	v.at("b.test").post(t, s.form(t, s.newPerson("b.test"))).wantStatus(t, 200)
	s.Advance(10 * time.Minute)
	v.post(t, s.form(t, s.newPerson("a.test"))).wantStatus(t, 200)
}

func TestFailureLimitRetryAfter(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	v := s.visitor("a.test")
	for range 60 { // spread over most of the 10 minutes
		v.postBody(t, "user=%zz").wantStatus(t, 400)
		s.Advance(9 * time.Second)
	}
	a := v.post(t, s.form(t, s.newPerson("a.test")))
	a.wantError(t, 429, "rate_limited")
	s.Advance(a.retryAfter(t))
	v.post(t, s.form(t, s.newPerson("a.test"))).wantStatus(t, 200)
}

func TestRecipientLimit(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	post := func(host, email string) answer {
		who := s.newPerson(host)
		who.email = email
		return s.visitor(host).post(t, s.form(t, who))
	}
	for _, email := range []string{"v.victim+1@mail.test", "V.Victim@mail.test", "v.victim@MAIL.test"} {
		post("a.test", email).wantStatus(t, 200)
	}
	who := s.newPerson("a.test")
	who.email = "v.victim+another@Mail.Test"
	s.changesNothing(t, "a.test", who.user, func() {
		a := s.visitor("a.test").post(t, s.form(t, who))
		a.wantError(t, 429, "rate_limited")
		if got := a.header.Get("Retry-After"); got != "86400" {
			t.Errorf("Retry-After is %q, want a day", got)
		}
	})
	post("a.test", "another.victim@mail.test").wantStatus(t, 200)
	post("b.test", "v.victim@mail.test").wantStatus(t, 200)
	s.Advance(24*time.Hour - time.Second)
	post("a.test", "v.victim@mail.test").wantError(t, 429, "rate_limited")
	s.Advance(time.Second)
	post("a.test", "v.victim@mail.test").wantStatus(t, 200)
}

func TestActivation(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	v := s.visitor("a.test")
	opened := func(t *testing.T, a answer, status int, heading string) {
		t.Helper()
		a.wantStatus(t, status)
		if a.header.Get("Content-Type") != "text/html; charset=utf-8" ||
			a.header.Get("Cache-Control") != "no-store" ||
			a.header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("headers %v", a.header)
		}
		if !strings.Contains(a.body, "<h1>"+heading) {
			t.Errorf("no heading %q in the page: %s", heading, a.body)
		}
		if len(a.header["Set-Cookie"]) != 0 {
			t.Error("the link sets a cookie")
		}
	}
	waits := func(t *testing.T, who person) {
		t.Helper()
		if a := s.find(t, who); !a.Disabled || !a.Pending() {
			t.Fatalf("the account is active: %+v", a)
		}
	}

	t.Run("works once", func(t *testing.T) {
		who := s.pending(t, "a.test")
		link := s.link(t, who.email)
		a := v.get(t, link)
		opened(t, a, 200, "Account activated")
		if !strings.Contains(a.body, `href="/login.html"`) {
			t.Error("the page does not link to sign-in")
		}
		if a := s.find(t, who); a.Disabled || a.Role != account.Guest {
			t.Errorf("the account is %+v", a)
		}
		a = v.get(t, link)
		opened(t, a, 400, "Your account is already active")
		if !strings.Contains(a.body, `href="/login.html"`) {
			t.Error("the page does not link to sign-in")
		}
		s.Advance(30 * 24 * time.Hour)
		opened(t, v.get(t, link), 400, "Your account is already active")
	})

	t.Run("leads to the phone until somebody has signed in with the link", func(t *testing.T) {
		who := s.pending(t, "a.test")
		link := s.link(t, who.email)
		_, token, _ := strings.Cut(link, "token=")
		const next = `data-next="/account.html?next=phone"`
		for range 2 {
			a := v.get(t, link)
			if !strings.Contains(a.body, next) || !strings.Contains(a.body, `value="`+who.user+`"`) {
				t.Errorf("the page is %s", a.body)
			}
		}
		v.confirm(t, who.user, who.password, token).wantStatus(t, 200)
		if a := v.get(t, link); strings.Contains(a.body, next) {
			t.Errorf("after that, the page is %s", a.body)
		}
	})

	t.Run("not by HEAD or prefetch", func(t *testing.T) {
		who := s.pending(t, "a.test")
		link := s.link(t, who.email)
		v.do(t, "HEAD", link, "").wantStatus(t, 200)
		v.do(t, "OPTIONS", link, "").wantStatus(t, 204)
		v.do(t, "POST", link, "").wantError(t, 401, "unauthorized")
		for _, header := range [][2]string{
			{"Sec-Purpose", "prefetch"}, {"Sec-Purpose", "prefetch;prerender"},
			{"Sec-Purpose", "prefetch;anonymous-client-ip"},
			{"Purpose", "prefetch"}, {"X-Moz", "prefetch"}, {"X-Purpose", "preview"},
			{"Purpose", "Prefetch"}, {"Sec-Purpose", "prerender"},
		} {
			opened(t, v.get(t, link, header[:]...), 200, "Activate your account")
		}
		waits(t, who)
		opened(t, v.get(t, link), 200, "Account activated")
	})

	t.Run("invalid tokens have one answer", func(t *testing.T) {
		who := s.pending(t, "a.test")
		token := strings.TrimPrefix(s.link(t, who.email), "/activate.ashx?token=")
		other := secret.NewToken().Text()
		var answers []answer
		for _, query := range []string{
			"", "?", "?token=", "?token=x", "?token=" + other, "?token=" + token[:42],
			"?token=" + token + "A", "?token=" + token + "%3D",
			"?token=" + token[:9] + "%0A" + token[9:], "?token=" + token + "&token=" + token,
			"?token=" + token + "&token=", "?TOKEN=" + token,
			"?token=%zz", "?token=" + token + ";x=1", "?t=" + token,
			"?token=" + strings.Repeat("A", 5000), "?token=%00", "?token=%ff",
			"?token=" + who.user, "?token=..%2F..%2Fetc",
		} {
			answers = append(answers, v.get(t, "/activate.ashx"+query))
		}
		opened(t, answers[0], 400, "This link does not work")
		wantSame(t, answers...)
		waits(t, who)
	})

	t.Run("not with other tokens", func(t *testing.T) {
		captcha, _ := s.captcha(t, "a.test")
		opened(t, v.get(t, "/activate.ashx?token="+captcha), 400, "This link does not work")
		who := s.active(t, "a.test")
		a := v.signIn(t, who.user, who.password)
		a.wantStatus(t, 200)
		for _, c := range strings.Split(a.cookies(), "; ") {
			_, value, _ := strings.Cut(c, "=")
			opened(t, v.get(t, "/activate.ashx?token="+value), 400, "This link does not work")
			s.visitor("a.test").post(t, s.form(t, s.newPerson("a.test")).with("captcha_token="+value)).
				wantError(t, 400, "captcha_failed")
		}
		who = s.pending(t, "a.test")
		token := strings.TrimPrefix(s.link(t, who.email), "/activate.ashx?token=")
		s.visitor("a.test").post(t, s.form(t, s.newPerson("a.test")).with("captcha_token="+token)).
			wantError(t, 400, "captcha_failed")
		a = v.get(t, "/account.html", "Cookie", "__Host-dialtone-session="+token)
		a.wantStatus(t, 303)
	})

	t.Run("not at another tenant", func(t *testing.T) {
		who := s.newPerson("a.test")
		twin := who
		twin.host, twin.email = "b.test", s.newPerson("b.test").email
		s.signUp(t, who)
		s.signUp(t, twin)
		link := s.link(t, who.email)
		opened(t, s.visitor("b.test").get(t, link), 400, "This link does not work")
		waits(t, who)
		waits(t, twin)
		opened(t, v.get(t, link), 200, "Account activated")
		waits(t, twin)
	})

	t.Run("not after 7 days", func(t *testing.T) {
		intime, late := s.pending(t, "a.test"), s.pending(t, "a.test")
		intimeLink, lateLink := s.link(t, intime.email), s.link(t, late.email)
		s.Advance(7*24*time.Hour - time.Second)
		opened(t, v.get(t, intimeLink), 200, "Account activated")
		s.Advance(time.Second)
		opened(t, v.get(t, lateLink), 400, "This link has expired")
		if _, err := s.Store.Find(t.Context(), s.At("a.test").Tenant.ID, late.user, s.Now()); err == nil {
			t.Error("the expired account is still there")
		}
		v.signIn(t, late.user, late.password).wantStatus(t, 401)

		// The name is free, and the old link does not activate the next account with that name.
		next := s.newPerson("a.test")
		next.user = late.user
		s.signUp(t, next)
		opened(t, v.get(t, lateLink), 400, "This link does not work")
		waits(t, next)
		opened(t, v.get(t, s.link(t, next.email)), 200, "Account activated")
	})

	t.Run("not when disabled", func(t *testing.T) {
		who, early := s.active(t, "a.test"), s.pending(t, "a.test")
		a := s.At("a.test").Tenant
		for _, w := range []person{who, early} {
			if _, err := s.Accounts.Disable(t.Context(), a, w.user); err != nil {
				t.Fatal(err)
			}
			opened(t, v.get(t, s.link(t, w.email)), 400, "This account is disabled")
			if got := s.find(t, w); !got.Disabled {
				t.Errorf("the link enabled a disabled account: %+v", got)
			}
		}
		// After the operator enables it, its link works again.
		if got, err := s.Accounts.Enable(t.Context(), a, early.user); err != nil || !got.Disabled || got.Held {
			t.Fatalf("got %+v, %v", got, err)
		}
		opened(t, v.get(t, s.link(t, early.email)), 200, "Account activated")
		opened(t, v.get(t, s.link(t, early.email)), 400, "Your account is already active")
	})

	t.Run("not when deleted", func(t *testing.T) {
		for _, who := range []person{s.active(t, "a.test"), s.pending(t, "a.test")} {
			s.At("a.test").Delete(who.user)
			opened(t, v.get(t, s.link(t, who.email)), 400, "This link does not work")
		}
	})

	t.Run("works after a store failure", func(t *testing.T) {
		who := s.pending(t, "a.test")
		link := s.link(t, who.email)
		s.exec(t,
			`CREATE TRIGGER broken BEFORE UPDATE ON account BEGIN SELECT RAISE(ABORT, 'disk /var/lib: I/O error'); END`)
		a := v.get(t, link)
		s.exec(t, `DROP TRIGGER broken`)
		opened(t, a, 500, "Your account is not active yet")
		if strings.Contains(a.body, "/var/lib") || strings.Contains(a.body, "SQL") {
			t.Errorf("the page shows internals: %s", a.body)
		}
		waits(t, who)
		opened(t, v.get(t, link), 200, "Account activated")
	})

	t.Run("concurrent", func(t *testing.T) {
		who := s.pending(t, "a.test")
		link := s.link(t, who.email)
		activated := s.Log.Count(`"activate","outcome":"ok"`)
		answers := make([]answer, 20)
		atOnce(len(answers), func(i int) { answers[i] = s.visitor("a.test").get(t, link) })
		ok := 0
		for _, a := range answers {
			if a.status == 200 {
				ok++
			} else {
				opened(t, a, 400, "Your account is already active")
			}
		}
		if got := s.Log.Count(`"activate","outcome":"ok"`) - activated; ok != 1 || got != 1 {
			t.Errorf("%d answers of 200 and %d events, want one each", ok, got)
		}
	})
}

func TestConcurrentSignups(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	count := func(t *testing.T, answers []answer, status int, code string) (ok, refused int) {
		t.Helper()
		for _, a := range answers {
			if a.status == 200 {
				ok++
				continue
			}
			a.wantError(t, status, code)
			refused++
		}
		return ok, refused
	}
	t.Run("one name, sixteen signups", func(t *testing.T) {
		who := s.newPerson("a.test")
		forms := make([]form, 16)
		for i := range forms {
			other := s.newPerson("a.test")
			other.user = who.user
			forms[i] = s.form(t, other)
		}
		files := len(s.Files("pickup"))
		answers := make([]answer, len(forms))
		atOnce(len(forms), func(i int) { answers[i] = s.visitor("a.test").post(t, forms[i]) })
		if ok, refused := count(t, answers, 409, "conflict"); ok != 1 || refused != 15 {
			t.Errorf("%d signed up and %d did not", ok, refused)
		}
		s.find(t, who)
		if n := len(s.Files("pickup")) - files; n != 1 {
			t.Errorf("%d files", n)
		}
	})
	t.Run("one address, twenty-four signups", func(t *testing.T) {
		v := s.visitor("a.test")
		forms := make([]form, 24)
		for i := range forms {
			forms[i] = s.form(t, s.newPerson("a.test"))
		}
		files := len(s.Files("pickup"))
		answers := make([]answer, len(forms))
		atOnce(len(forms), func(i int) { answers[i] = v.post(t, forms[i]) })
		if ok, refused := count(t, answers, 429, "rate_limited"); ok != 3 || refused != 21 {
			t.Errorf("%d signed up and %d did not", ok, refused)
		}
		for _, a := range answers {
			if a.status == 429 && a.retryAfter(t) != time.Hour {
				t.Errorf("Retry-After is %v, want an hour", a.retryAfter(t))
			}
		}
		if n := len(s.Files("pickup")) - files; n != 3 {
			t.Errorf("%d files", n)
		}
	})
	t.Run("one captcha, fifty signups", func(t *testing.T) {
		token, sum := s.captcha(t, "a.test")
		forms := make([]form, 50)
		for i := range forms {
			forms[i] = s.form(t, s.newPerson("a.test")).with("captcha_token="+token, "captcha_answer="+sum)
		}
		answers := make([]answer, len(forms))
		atOnce(len(forms), func(i int) { answers[i] = s.visitor("a.test").post(t, forms[i]) })
		if ok, refused := count(t, answers, 400, "captcha_failed"); ok != 1 || refused != 49 {
			t.Errorf("%d signed up and %d did not", ok, refused)
		}
	})
	t.Run("one recipient, twelve signups", func(t *testing.T) {
		victim := s.newPerson("a.test")
		forms := make([]form, 12)
		for i := range forms {
			forms[i] = s.form(t, s.newPerson("a.test")).with("email=" + url.QueryEscape(victim.email))
		}
		answers := make([]answer, len(forms))
		atOnce(len(forms), func(i int) { answers[i] = s.visitor("a.test").post(t, forms[i]) })
		if ok, refused := count(t, answers, 429, "rate_limited"); ok != 3 || refused != 9 ||
			len(s.messages(t, victim.email)) != 3 {
			t.Errorf("%d signed up, %d did not, %d messages", ok, refused, len(s.messages(t, victim.email)))
		}
	})
}

func TestHost(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for _, host := range []string{
		"a.test", "A.TEST", "a.test.", "A.Test.:8443", "a.test:8443", "a.test:", "a.test:0",
		"a.test:99999",
	} {
		t.Run(host+" finds the tenant", func(t *testing.T) {
			who := s.newPerson("a.test")
			a := s.visitor(host).
				post(t, s.form(t, who), "X-Forwarded-Host", "evil.test", "Forwarded", "host=evil.test;proto=http",
					"X-Host", "evil.test", "X-Original-URL", "/evil", "X-Rewrite-URL", "/evil",
					"X-Forwarded-Proto", "http", "X-Forwarded-Port", "1")
			a.wantStatus(t, 200)
			if origin, _ := s.linkParts(t, who.email); origin != "https://a.test" {
				t.Errorf("the link goes to %q", origin)
			}
			s.find(t, who)
		})
	}
	for _, host := range []string{
		"evil.test", "127.0.0.1", "[::1]", "[::1]:80", "a.test.evil.test", "evil-a.test", "xa.test",
		"a.tes", "test", "a.test..", ".a.test",
		"a.test:x", "a.test:80:80", "a..test", "a_test", "..", "a.test:-1", "a.test%00", "www.a.test",
	} {
		t.Run(host+" is misdirected", func(t *testing.T) {
			who := s.newPerson("a.test")
			f := s.form(t, who)
			s.changesNothing(t, "a.test", who.user, func() {
				for _, a := range []answer{
					s.visitor(host).post(t, f, "X-Forwarded-Host", "a.test"),
					s.visitor(host).get(t, "/captcha.ashx"), s.visitor(host).get(t, "/"),
					s.visitor(host).get(t, "/captcha.ashx", "Accept", "text/html"),
					s.visitor(host).do(t, "PUT", "/nothing", ""),
					s.visitor(host).do(t, "OPTIONS", "/signup.ashx", ""),
				} {
					if got := a.wantError(t, 421, "misdirected_request"); strings.Contains(got, "a.test") {
						t.Errorf("the description names a tenant: %q", got)
					}
					if a.header.Get("WWW-Authenticate") != "" || a.header.Get("Strict-Transport-Security") != "" {
						t.Errorf("headers %v", a.header)
					}
				}
				for _, path := range []string{"/", "/signup.html", "/nothing"} {
					a := s.visitor(host).get(t, path, "Accept", "text/html", "Accept-Language", "de")
					a.wantStatus(t, 421)
					if !strings.HasPrefix(a.header.Get("Content-Type"), "text/html") ||
						!strings.Contains(a.body, "keine Telefonplattform") || strings.Contains(a.body, "a.test") {
						t.Errorf("%s: the page is\n%s", path, a.body)
					}
				}
			})
		})
	}
	t.Run("same user at two tenants", func(t *testing.T) {
		who := s.newPerson("a.test")
		twin := s.newPerson("b.test")
		twin.user = who.user
		s.signUp(t, who)
		s.signUp(t, twin)
		s.visitor("a.test").get(t, s.link(t, who.email)).wantStatus(t, 200)
		s.visitor("a.test").signIn(t, who.user, who.password).wantStatus(t, 200)
		s.visitor("b.test").signIn(t, who.user, who.password).wantStatus(t, 401)
		s.visitor("b.test").signIn(t, twin.user, twin.password).wantStatus(t, 403)
	})
	t.Run("no two tenants with one realm", func(t *testing.T) {
		x := must[tenant.Tenant](t)(tenant.New(tenant.Tenant{Host: "c.test", Realm: "A.TEST"}))
		if _, err := s.Store.AddTenant(context.Background(), x); err == nil {
			t.Error("the second tenant was added")
		}
	})
	t.Run("localhost has no TLS", func(t *testing.T) {
		who := s.active(t, "localhost")
		origin, _ := s.linkParts(t, who.email)
		if !strings.HasPrefix(origin, "http://localhost:") {
			t.Errorf("the link goes to %s", origin)
		}
		a := s.visitor("localhost").signIn(t, who.user, who.password)
		a.wantStatus(t, 200)
		if !strings.HasPrefix(a.cookies(), "dialtone-session=") || a.header.Get("Strict-Transport-Security") != "" {
			t.Errorf("headers %v", a.header)
		}
	})
}
