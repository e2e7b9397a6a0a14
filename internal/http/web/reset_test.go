package web_test

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"dialtone/internal/audit"
	"dialtone/internal/secret"
	"dialtone/internal/tenant"
)

// postForm sends a form to a path.
func (v *visitor) postForm(t testing.TB, path, body string, headers ...string) answer {
	t.Helper()
	return v.do(t, "POST", path, body, append([]string{"Content-Type", formType}, headers...)...)
}

// answerForgotten handles all requests for forgotten passwords, and writes the messages.
func (s *testServer) answerForgotten(t testing.TB) {
	t.Helper()
	s.Must(s.Accounts.ServeForgotten(t.Context(), s.Tenants.ByID))
	s.Must(s.Outbox.Flush(t.Context()))
}

// linkToPage returns the path and query of the link to a page, such as "reset", in the newest message to an
// address that has one.
func (s *testServer) linkToPage(t testing.TB, email, page string) (link, token string) {
	t.Helper()
	s.Must(s.Outbox.Flush(t.Context()))
	pattern := regexp.MustCompile(`(?m)^https://\S+(/` + page + `\.html\?token=([A-Za-z0-9_-]{43}))$`)
	list := s.messages(t, email)
	var found []string
	var made time.Time
	for _, m := range list {
		if at, err := m.header.Date(); err == nil && !at.Before(made) {
			if parts := pattern.FindStringSubmatch(m.text); parts != nil {
				made, found = at, parts
			}
		}
	}
	if found == nil {
		t.Fatalf("none of %d messages has a link to %s", len(list), page)
	}
	s.hide(found[2])
	return found[1], found[2]
}

// deadLink returns what a page says of a link that does not work.
func deadLink(token string) string {
	if _, whole := secret.ParseToken(token); !whole {
		return "Part of the link is missing. Open it from the message again, or copy all of it from there."
	}
	return "This link no longer works"
}

// resetToken requests a reset link and returns its token.
func (s *testServer) resetToken(t testing.TB, who person) string {
	t.Helper()
	s.visitor(who.host).postForm(t, "/forgot.ashx", "account="+who.user).wantStatus(t, 200)
	s.answerForgotten(t)
	_, token := s.linkToPage(t, who.email, "reset")
	return token
}

// newKeys returns the fields of a new password.
func (s *testServer) newKeys(who person, password string) form {
	s.hide(password)
	realm := who.host
	f := form{
		{"user", who.user},
		{"ha1", md5Hex(who.user + ":" + realm + ":" + password)},
		{"ha1b", md5Hex(who.user + "@" + realm + ":" + realm + ":" + password)},
		{"ha1_sha256", sha256Hex(who.user + ":" + realm + ":" + password)},
	}
	for _, field := range f[1:] {
		s.hide(field[1])
	}
	return f
}

const otherWords = "a lighthouse behind nine foxes"

// TestForgot checks the answer to somebody who forgot a password, which is the same for every account and
// for none.
func TestForgot(t *testing.T) {
	t.Parallel()
	s := startServerWith(t, options{tenants: func(x *tenant.Tenant) { x.Origins = []string{"https://shop.test"} }})
	who, waiting, held := s.active(t, "a.test"), s.pending(t, "a.test"), s.active(t, "a.test")
	s.Disable(held.user)
	rows := func() (n int) {
		if err := s.db.QueryRow(`SELECT count(*) FROM forgotten`).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	var answers []answer
	for i, account := range []string{
		who.user, strings.ReplaceAll(who.email, "@", "%40"), waiting.user, held.user, "nobody", "nobody%40mail.test",
		"no%20account%20at%20all", strings.Repeat("a", 254), strings.Repeat("%C3%BC", 127),
	} {
		a := s.visitor("a.test").postForm(t, "/forgot.ashx", "account="+account)
		a.wantJSON(t, 200)
		if a.body != `{"ok":true}`+"\n" || len(a.header["Set-Cookie"]) != 0 {
			t.Errorf("%s: headers %v, body %q", account, a.header, a.body)
		}
		if n := rows(); n != i+1 {
			t.Errorf("%s: %d rows, want %d", account, n, i+1)
		}
		answers = append(answers, a)
	}
	wantSame(t, answers...)
	s.visitor("a.test").postForm(t, "/forgot.ashx", "account=x", "Origin", "https://shop.test",
		"Sec-Fetch-Site", "cross-site").wantStatus(t, 200)
	before := rows()
	for _, row := range []struct{ name, target, body, header, value string }{
		{"empty", "", "account=", "", ""},
		{"blank", "", "account=+", "", ""},
		{"missing", "", "user=alex", "", ""},
		{"too long", "", "account=" + strings.Repeat("a", 255), "", ""},
		{"control character", "", "account=a%0Ab", "", ""},
		{"not UTF-8", "", "account=%FF", "", ""},
		{"twice", "", "account=a&account=b", "", ""},
		{"in the address", "?account=a", "", "", ""},
		{"JSON", "", "{}", "Content-Type", "application/json"},
		{"from the page of another site", "", "account=a", "Sec-Fetch-Site", "cross-site"},
	} {
		t.Run(row.name, func(t *testing.T) {
			headers := []string{"Content-Type", formType}
			if row.header == "Content-Type" {
				headers = nil
			}
			if row.header != "" {
				headers = append(headers, row.header, row.value)
			}
			s.visitor("a.test").do(t, "POST", "/forgot.ashx"+row.target, row.body, headers...).
				wantError(t, 400, "invalid_request")
		})
	}
	s.visitor("a.test").get(t, "/forgot.ashx").wantError(t, 405, "method_not_allowed")
	if rows() != before {
		t.Error("a refused form added a row")
	}
	s.answerForgotten(t)
	if rows() != 0 {
		t.Error("rows are left")
	}
	if n := len(s.messages(t, who.email)); n != 3 { // activation, and one for each of two
		t.Errorf("%d messages, want 3", n)
	}
}

// TestForgotSenderLimit checks the limits for a network.
func TestForgotSenderLimit(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	v := s.visitor("a.test")
	for range 10 {
		v.postForm(t, "/forgot.ashx", "account=nobody").wantStatus(t, 200)
	}
	if got := v.postForm(t, "/forgot.ashx", "account=nobody").wantRateLimit(t); got != time.Hour {
		t.Errorf("Retry-After is %v", got)
	}
	s.restart(t)
	v.s = s
	v.postForm(t, "/forgot.ashx", "account=other").wantRateLimit(t)
	s.visitor("a.test").postForm(t, "/forgot.ashx", "account=other").wantStatus(t, 200)
	v.at("b.test").postForm(t, "/forgot.ashx", "account=other").wantStatus(t, 200)
	s.Advance(time.Hour)
	v.postForm(t, "/forgot.ashx", "account=nobody").wantStatus(t, 200)
}

// TestResetEndpoint checks a reset from the message to the sign-in with the new password.
func TestResetEndpoint(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	who := s.active(t, "a.test")
	v := s.visitor("a.test")
	s.Advance(300 * time.Millisecond)
	token := s.resetToken(t, who)
	until := s.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	session := v.signIn(t, who.user, who.password).cookies()

	t.Run("a GET uses nothing up", func(t *testing.T) {
		for range 3 {
			a := v.get(t, "/reset.ashx?token="+token+"&utm=x")
			a.wantJSON(t, 200)
			if want := fmt.Sprintf(`{"accounts":[%q],"until":%q}`+"\n", who.user, until); a.body != want {
				t.Errorf("body %q, want %q", a.body, want)
			}
			v.do(t, "HEAD", "/reset.ashx?token="+token, "").wantStatus(t, 200)
			page := v.get(t, "/reset.html?token="+token)
			page.wantStatus(t, 200)
			if !strings.Contains(page.body, `value="`+who.user+`"`) || strings.Contains(page.body, token) ||
				page.header.Get("Referrer-Policy") != "no-referrer" || page.header.Get("X-Robots-Tag") != "noindex" ||
				page.header.Get("Cache-Control") != "no-store" || len(page.header["Set-Cookie"]) != 0 {
				t.Errorf("headers %v, page %s", page.header, page.body)
			}
			v.do(t, "HEAD", "/reset.html?token="+token, "").wantStatus(t, 200)
			v.do(t, "OPTIONS", "/reset.ashx", "").wantStatus(t, 204)
		}
	})
	t.Run("bad links", func(t *testing.T) {
		v.get(t, "/reset.ashx").wantError(t, 400, "invalid_request")
		for _, bad := range []string{"x", secret.NewToken().Text(), token + "A", token[1:]} {
			v.get(t, "/reset.ashx?token="+bad).wantError(t, 404, "not_found")
			page := v.get(t, "/reset.html?token="+bad)
			page.wantStatus(t, 404)
			if !strings.Contains(page.body, deadLink(bad)) || !strings.Contains(page.body, `href="/forgot.html"`) {
				t.Errorf("the page is %s", page.body)
			}
		}
		v.get(t, "/reset.html").wantStatus(t, 404)
		s.visitor("b.test").get(t, "/reset.ashx?token="+token).wantError(t, 404, "not_found")
		s.visitor("b.test").get(t, "/reset.html?token="+token).wantStatus(t, 404)
	})
	good := append(form{{"token", token}}, s.newKeys(who, otherWords)...)
	t.Run("refused", func(t *testing.T) {
		for _, name := range []string{"token", "user", "ha1", "ha1b", "ha1_sha256"} {
			for _, f := range []form{good.without(name), good.with(name + "=")} {
				got := v.postForm(t, "/reset.ashx", f.String()).wantError(t, 400, "invalid_request")
				if got != "token, user, ha1, ha1b, ha1_sha256 required" {
					t.Errorf("without %s: the description is %q", name, got)
				}
			}
		}
		for change, rule := range map[string]string{"ha1=x": "", "ha1b=x": "", "ha1_sha256=x": "",
			"ha1=" + md5Hex(who.user+":a.test:password1234"): "ha1.common"} {
			a := v.postForm(t, "/reset.ashx", good.with(change).String())
			a.wantError(t, 400, "invalid_request")
			if got := a.header.Get("Dialtone-Rule"); got != rule {
				t.Errorf("%s: the rule is %q, want %q", change, got, rule)
			}
		}
		v.postForm(t, "/reset.ashx", good.with("user=nobody").String()).wantError(t, 404, "not_found")
		v.postForm(t, "/reset.ashx", good.with("token="+secret.NewToken().Text()).String()).
			wantError(t, 404, "not_found")
		v.postForm(t, "/reset.ashx", good.String()+"&user=x").wantError(t, 400, "invalid_request")
		v.postForm(t, "/reset.ashx?token="+token, good.String()).wantError(t, 400, "invalid_request")
		v.do(t, "POST", "/reset.ashx", "{}", "Content-Type", "application/json").wantError(t, 400, "invalid_request")
		v.postForm(t, "/reset.ashx", good.String(), "Sec-Fetch-Site", "cross-site").wantError(t, 400, "invalid_request")
		v.do(t, "PUT", "/reset.ashx", good.String()).wantError(t, 405, "method_not_allowed")
		s.visitor("b.test").postForm(t, "/reset.ashx", good.String()).wantError(t, 404, "not_found")
		v.signIn(t, who.user, who.password).wantStatus(t, 200)
	})
	t.Run("not while the account is disabled", func(t *testing.T) {
		s.Disable(who.user)
		v.get(t, "/reset.ashx?token="+token).wantError(t, 404, "not_found")
		wantSame(t, v.postForm(t, "/reset.ashx", good.String()),
			v.postForm(t, "/reset.ashx", good.with("user=nobody").String()))
		s.Enable(who.user)
		v.get(t, "/reset.ashx?token="+token).wantError(t, 404, "not_found")
		s.Advance(time.Second) // the newest message is found by its date
		token = s.resetToken(t, who)
		good = good.with("token=" + token)
		session = v.signIn(t, who.user, who.password).cookies()
	})
	t.Run("once", func(t *testing.T) {
		a := v.postForm(t, "/reset.ashx", good.String())
		a.wantJSON(t, 200)
		if want := fmt.Sprintf(`{"ok":true,"user":%q}`+"\n", who.user); a.body != want {
			t.Errorf("body %q", a.body)
		}
		device := a.cookies()
		if len(a.header["Set-Cookie"]) != 1 || !strings.HasPrefix(device, "__Host-dialtone-device=") {
			t.Fatalf("headers %v", a.header)
		}
		v.postForm(t, "/reset.ashx", good.String()).wantError(t, 404, "not_found")
		v.get(t, "/reset.ashx?token="+token).wantError(t, 404, "not_found")
		v.signIn(t, who.user, who.password).wantError(t, 401, "unauthorized")
		v.signIn(t, who.user, otherWords).wantStatus(t, 200)
		v.get(t, "/account.html", "Cookie", session).wantStatus(t, 303)
		s.linkToPage(t, who.email, "not-me")

		// Others who guess passwords do not lock out the browser of the reset.
		for range 10 {
			s.visitor("a.test").signIn(t, who.user, "wrong").wantError(t, 401, "unauthorized")
		}
		v.signIn(t, who.user, otherWords).wantError(t, 429, "rate_limited")
		v.signIn(t, who.user, otherWords, "Cookie", device).wantStatus(t, 200)
	})
}

// TestConcurrentResets checks that exactly one of many concurrent resets with one link succeeds.
func TestConcurrentResets(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	who := s.active(t, "a.test")
	token := s.resetToken(t, who)
	words := []string{otherWords + " 1", otherWords + " 2", otherWords + " 3", otherWords + " 4"}
	forms := make([]string, len(words))
	for i, password := range words {
		forms[i] = append(form{{"token", token}}, s.newKeys(who, password)...).String()
	}
	status := make([]int, len(words))
	atOnce(len(words), func(i int) {
		status[i] = s.visitor("a.test").postForm(t, "/reset.ashx", forms[i]).status
	})
	won := -1
	for i, got := range status {
		if got == 200 && won < 0 {
			won = i
		} else if got != 404 {
			t.Errorf("the answers are %v", status)
		}
	}
	if won < 0 {
		t.Fatalf("the answers are %v", status)
	}
	s.visitor("a.test").signIn(t, who.user, words[won]).wantStatus(t, 200)
	s.visitor("a.test").get(t, "/reset.ashx?token="+token).wantError(t, 404, "not_found")
}

// TestNotMeEndpoint checks the way back for somebody who did not change the password.
func TestNotMeEndpoint(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	who := s.active(t, "a.test")
	v := s.visitor("a.test")
	reset := func(password string) {
		t.Helper()
		f := append(form{{"token", s.resetToken(t, who)}}, s.newKeys(who, password)...)
		v.postForm(t, "/reset.ashx", f.String()).wantStatus(t, 200)
	}
	reset(otherWords)
	link, token := s.linkToPage(t, who.email, "not-me")
	s.Advance(time.Minute)
	reset(otherWords + " again") // the link works nevertheless
	session := v.signIn(t, who.user, otherWords+" again").cookies()
	for range 2 {
		page := v.get(t, link)
		page.wantStatus(t, 200)
		wantWords(t, page, who.user, `data-did="sessions"`, `action="/not-me.ashx"`)
		if start, _, _ := strings.Cut(page.body, `id="lost"`); strings.Count(start, "data-did") != 1 {
			t.Errorf("the page says that more is undone than sessions:\n%s", start)
		}
		if strings.Contains(page.body, token) || page.header.Get("Referrer-Policy") != "no-referrer" {
			t.Errorf("headers %v, page %s", page.header, page.body)
		}
		v.do(t, "HEAD", link, "").wantStatus(t, 200)
	}
	// A chosen language takes precedence over that of the message.
	french := v.get(t, "/not-me.html?lang=fr&token="+token)
	wantWords(t, french, `<html lang="fr"`, `href="?lang=de"`, `action="/not-me.ashx"`)
	v.get(t, "/not-me.ashx?token="+token).wantError(t, 405, "method_not_allowed")
	v.get(t, "/account.html", "Cookie", session).wantStatus(t, 200)

	v.postForm(t, "/not-me.ashx", "").wantError(t, 400, "invalid_request")
	v.postForm(t, "/not-me.ashx", "token=x").wantError(t, 404, "not_found")
	v.postForm(t, "/not-me.ashx", "token="+secret.NewToken().Text()).wantError(t, 404, "not_found")
	v.postForm(t, "/not-me.ashx?token="+token, "").wantError(t, 400, "invalid_request")
	v.postForm(t, "/not-me.ashx", "token="+token, "Sec-Fetch-Site", "cross-site").wantError(t, 400, "invalid_request")
	s.visitor("b.test").postForm(t, "/not-me.ashx", "token="+token).wantError(t, 404, "not_found")

	a := v.postForm(t, "/not-me.ashx", "token="+token)
	a.wantJSON(t, 200)
	var got struct {
		OK                 bool
		User, Email, Reset string
	}
	if err := json.Unmarshal([]byte(a.body), &got); err != nil || !got.OK || got.User != who.user ||
		got.Email != audit.MaskEmail(who.email) {
		t.Fatalf("body %q", a.body)
	}
	v.get(t, "/account.html", "Cookie", session).wantStatus(t, 303)
	v.postForm(t, "/not-me.ashx", "token="+token).wantError(t, 404, "not_found")
	for _, dead := range []string{token, "", "x", token[1:]} {
		page := v.get(t, "/not-me.html?token="+dead)
		page.wantStatus(t, 404)
		wantWords(t, page, deadLink(dead), `href="/forgot.html"`, "ask the operator of")
		if strings.Contains(page.body, who.user) || strings.Contains(page.body, `action="/not-me.ashx"`) {
			t.Errorf("the page of a dead link has a name or a form:\n%s", page.body)
		}
	}
	next, ok := strings.CutPrefix(got.Reset, "/reset.html?token=")
	if !ok {
		t.Fatalf("the next page is %q", got.Reset)
	}
	s.hide(next)
	v.get(t, got.Reset).wantStatus(t, 200)
	f := append(form{{"token", next}}, s.newKeys(who, otherWords+" mine")...)
	v.postForm(t, "/reset.ashx", f.String()).wantStatus(t, 200)
	v.signIn(t, who.user, otherWords+" mine").wantStatus(t, 200)
}
