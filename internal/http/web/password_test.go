package web_test

import (
	"fmt"
	"strings"
	"testing"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/digest"
	"dialtone/internal/tenant"
)

// newPassword returns the person with a different password.
func (s *testServer) newPassword(who person) person {
	who.password = fmt.Sprintf("canary-password-%d", people.Add(1))
	s.hide(who.password)
	for _, field := range passwordForm(who) {
		s.hide(field[1])
	}
	return who
}

// passwordForm is the form with the hashes of a person's password.
func passwordForm(who person) form {
	whole := who.user + "@" + who.host
	return form{
		{"ha1", who.ha1()},
		{"ha1b", md5Hex(whole + ":" + who.host + ":" + who.password)},
		{"ha1_sha256", sha256Hex(who.user + ":" + who.host + ":" + who.password)},
	}
}

// changePassword sends both requests of a change. The first is without the form, as curl sends it.
func (v *visitor) changePassword(t testing.TB, who person, f form, headers ...string) answer {
	t.Helper()
	c := v.do(t, "POST", "/password.ashx", "").challenge(t)
	return v.changeProof(t, c, who, f, headers...)
}

func (v *visitor) changeProof(t testing.TB, c challenge, who person, f form, headers ...string) answer {
	t.Helper()
	proof := c.proof(who.user, who.password, "POST", "/password.ashx", nil)
	headers = append([]string{"Content-Type", formType, "Authorization", proof}, headers...)
	return v.do(t, "POST", "/password.ashx", f.String(), headers...)
}

// signsIn reports whether a password is the current one.
func (s *testServer) signsIn(t testing.TB, who person) bool {
	t.Helper()
	a := s.visitor(who.host).signIn(t, who.user, who.password)
	if a.status != 200 {
		a.wantError(t, 401, "unauthorized")
	}
	return a.status == 200
}

// wantPassword checks that a password works, that others do not, and how often it was changed.
func (s *testServer) wantPassword(t testing.TB, changes int64, who person, others ...person) {
	t.Helper()
	if got := s.find(t, who).Passwords; got != changes {
		t.Errorf("the password was changed %d times, want %d", got, changes)
	}
	if !s.signsIn(t, who) {
		t.Error("the password does not work")
	}
	for _, other := range others {
		if s.signsIn(t, other) {
			t.Error("another password works")
		}
	}
}

// signedIn reports whether a browser with cookies is signed in.
func (v *visitor) signedIn(t testing.TB, cookies string) bool {
	t.Helper()
	return v.get(t, "/account.html", "Cookie", cookies).status == 200
}

func TestChangePassword(t *testing.T) {
	t.Parallel()
	s := startServer(t)

	t.Run("replaces all three hashes", func(t *testing.T) {
		old := s.active(t, "a.test")
		who := s.newPassword(old)
		a := s.visitor("a.test").changePassword(t, old, passwordForm(who))
		a.wantJSON(t, 200)
		if want := fmt.Sprintf(`{"ok":true,"user":%q,"signed_in":false}`, who.user) + "\n"; a.body != want {
			t.Errorf("body %q, want %q", a.body, want)
		}
		if got := a.cookies(); !strings.HasPrefix(got, "__Host-dialtone-device=") || strings.Contains(got, "; ") {
			t.Errorf("without a session, the cookies are %q", got)
		}
		s.wantPassword(t, 1, who, old)
		got := s.find(t, who)
		c := must[digest.Credential](t)(s.Accounts.Credential(got))
		if c.HA1 != digest.Compute(who.user, "a.test", who.password) ||
			c.HA1B == nil || *c.HA1B != digest.ComputeB(who.user, "a.test", who.password) ||
			c.SHA256 == nil || *c.SHA256 != digest.ComputeSHA256(who.user, "a.test", who.password) || !got.HasSHA256 {
			t.Error("the stored hashes are not those of the form")
		}
	})
	t.Run("is in the log and in the audit trail", func(t *testing.T) {
		old := s.active(t, "a.test")
		s.visitor("a.test").changePassword(t, s.newPassword(old), passwordForm(old)).wantStatus(t, 401)
		s.visitor("a.test").changePassword(t, old, passwordForm(old)).wantStatus(t, 400)
		s.visitor("a.test").changePassword(t, old, passwordForm(s.newPassword(old))).wantStatus(t, 200)
		for _, outcome := range []string{"denied", "invalid_request", "ok"} {
			line := fmt.Sprintf(`"msg":"password.change","outcome":%q,"tenant":"a.test","user":%q`, outcome, old.user)
			if n := s.Log.Count(line); n != 1 {
				t.Errorf("the log has %d lines with %s", n, line)
			}
		}
		var changes []audit.Change
		s.Must(s.Store.Changes(t.Context(), audit.Filter{}, func(c audit.Change) error {
			if c.User == old.user {
				changes = append(changes, c)
			}
			return nil
		}))
		if len(changes) != 1 || changes[0].Action != audit.PasswordChange || changes[0].Outcome != audit.OK ||
			changes[0].Actor != (audit.Actor{Kind: audit.Person}) || changes[0].Tenant != "a.test" {
			t.Errorf("the audit trail has %+v", changes)
		}
	})
	t.Run("ends all other sessions, and this one continues", func(t *testing.T) {
		old := s.active(t, "a.test")
		v, other := s.visitor("a.test"), s.visitor("a.test")
		before := v.signIn(t, old.user, old.password).cookies()
		elsewhere := other.signIn(t, old.user, old.password).cookies()
		who := s.newPassword(old)
		a := v.changePassword(t, old, passwordForm(who), "Cookie", before)
		a.wantStatus(t, 200)
		if !v.signedIn(t, a.cookies()) || !strings.Contains(a.body, `"signed_in":true`) {
			t.Error("the session of the change ended")
		}
		if v.signedIn(t, before) || other.signedIn(t, elsewhere) {
			t.Error("a session from before the change is still valid")
		}
		// The new session ends with the next change.
		s.visitor("a.test").changePassword(t, who, passwordForm(s.newPassword(who))).wantStatus(t, 200)
		if v.signedIn(t, a.cookies()) {
			t.Error("the session is still valid after another change")
		}
	})
	t.Run("starts no session", func(t *testing.T) {
		stranger, ended := s.active(t, "a.test"), s.active(t, "a.test")
		v := s.visitor("a.test")
		strangers := v.signIn(t, stranger.user, stranger.password).cookies()
		over := v.signIn(t, ended.user, ended.password).cookies()
		v.do(t, "POST", "/signout.ashx", "", "Cookie", over).wantStatus(t, 303)
		for name, row := range map[string]struct {
			who    person
			cookie string
		}{
			"for the session of another account": {s.active(t, "a.test"), strangers},
			"for a session that has ended":       {ended, over},
			"for a forged one":                   {s.active(t, "a.test"), "__Host-dialtone-session=AAAA"},
		} {
			a := v.changePassword(t, row.who, passwordForm(s.newPassword(row.who)), "Cookie", row.cookie)
			a.wantStatus(t, 200)
			if strings.Contains(a.cookies(), "dialtone-session") {
				t.Errorf("%s: the cookies are %q", name, a.cookies())
			}
		}
		if !v.signedIn(t, strangers) {
			t.Error("the session of another account ended")
		}
	})
	t.Run("drops device tokens", func(t *testing.T) {
		old := s.active(t, "a.test")
		v := s.visitor("a.test")
		known := v.signIn(t, old.user, old.password).cookies()
		who := s.newPassword(old)
		fresh := v.changePassword(t, old, passwordForm(who), "Cookie", known).cookies()
		for range 10 {
			s.visitor("a.test").signIn(t, who.user, "wrong").wantError(t, 401, "unauthorized")
		}
		s.visitor("a.test").signIn(t, who.user, who.password, "Cookie", known).wantRateLimit(t)
		s.visitor("a.test").signIn(t, who.user, who.password, "Cookie", fresh).wantStatus(t, 200)
	})
	t.Run("writes a message to the owner", func(t *testing.T) {
		old := s.active(t, "a.test")
		before := len(s.messages(t, old.email))
		s.visitor("a.test").changePassword(t, old, passwordForm(s.newPassword(old))).wantStatus(t, 200)
		s.Must(s.Outbox.Flush(t.Context()))
		list := s.messages(t, old.email)
		if len(list) != before+1 {
			t.Fatalf("%d messages, want one more than %d", len(list), before)
		}
		found := 0
		for _, m := range list {
			if strings.Contains(m.text, "https://a.test/not-me.html?token=") {
				found++
				if !strings.Contains(m.text, "127.") || !strings.Contains(m.text, "/24") ||
					!strings.Contains(m.text, old.user) || strings.Contains(m.text, old.name) {
					t.Errorf("the message is %q", m.text)
				}
			}
		}
		if found != 1 || len(s.Pending()) != 0 {
			t.Errorf("%d messages about the change, and %d wait", found, len(s.Pending()))
		}
	})
	t.Run("can be repeated with the new password", func(t *testing.T) {
		first := s.active(t, "a.test")
		second := s.newPassword(first)
		s.visitor("a.test").changePassword(t, first, passwordForm(second)).wantStatus(t, 200)
		s.visitor("a.test").changePassword(t, first, passwordForm(s.newPassword(first))).
			wantError(t, 401, "unauthorized")
		// An earlier password may be used again.
		s.visitor("a.test").changePassword(t, second, passwordForm(first)).wantStatus(t, 200)
		s.wantPassword(t, 2, first, second)
	})
	t.Run("survives a restart", func(t *testing.T) {
		old := s.active(t, "a.test")
		who := s.newPassword(old)
		v := s.visitor("a.test")
		cookies := v.signIn(t, old.user, old.password).cookies()
		cookies = v.changePassword(t, old, passwordForm(who), "Cookie", cookies).cookies()
		s.restart(t)
		s.wantPassword(t, 1, who, old)
		if !v.signedIn(t, cookies) {
			t.Error("the session ended")
		}
	})
}

// TestChangePasswordRefused checks that a valid change with one modification is refused, and that
// the old password and the session then still work.
func TestChangePasswordRefused(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	const all, shape = "ha1, ha1b, ha1_sha256 required", "%s: send %s(%s:realm:password) as %d hex digits"
	type row struct {
		change func(form) form
		text   string
		rule   string
	}
	with := func(change string) func(form) form { return func(f form) form { return f.with(change) } }
	rows := map[string]row{
		"a field twice": {
			func(f form) form { return append(f, f[0]) }, "ha1: the field was sent more than once; send it once", "",
		},
		"not UTF-8":           {with("ha1=%ff"), "ha1: the text is not UTF-8; send it as UTF-8", ""},
		"a control character": {with("ha1b=%00"), "ha1b: the text contains a control character; remove it", ""},
	}
	texts := map[string]string{
		"ha1":        fmt.Sprintf(shape, "ha1", "MD5", "user", 32),
		"ha1b":       fmt.Sprintf(shape, "ha1b", "MD5", "user@realm", 32),
		"ha1_sha256": fmt.Sprintf(shape, "ha1_sha256", "SHA-256", "user", 64),
	}
	for field, text := range texts {
		rows[field+" missing"] = row{func(f form) form { return f.without(field) }, all, ""}
		rows[field+" empty"] = row{with(field + "="), all, ""}
		rows[field+" too short"] = row{with(field + "=" + strings.Repeat("a", 31)), text, ""}
		rows[field+" not hex"] = row{func(f form) form {
			return f.with(field + "=" + strings.Repeat("g", len(f.get(t, field))))
		}, text, ""}
	}
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			who := s.active(t, "a.test")
			a := s.visitor("a.test").changePassword(t, who, row.change(passwordForm(s.newPassword(who))))
			if got := a.wantError(t, 400, "invalid_request"); got != row.text {
				t.Errorf("the description is %q, want %q", got, row.text)
			}
			if a.header.Get("WWW-Authenticate") != "" {
				t.Error("the answer has a challenge")
			}
			s.wantPassword(t, 0, who)
		})
	}
	for _, field := range []string{"ha1", "ha1b", "ha1_sha256"} {
		t.Run(field+" of a common password", func(t *testing.T) {
			who := s.active(t, "a.test")
			weak := who
			weak.password = "123456789"
			f := passwordForm(s.newPassword(who))
			a := s.visitor("a.test").changePassword(t, who, f.with(field+"="+passwordForm(weak).get(t, field)))
			a.wantError(t, 400, "invalid_request")
			if got := a.header.Get("Dialtone-Rule"); got != field+".common" {
				t.Errorf("the rule is %q", got)
			}
			s.wantPassword(t, 0, who)
		})
	}
	t.Run("a password made of the account's own texts", func(t *testing.T) {
		who := s.active(t, "a.test")
		for _, password := range []string{who.user, who.email, who.name} {
			weak := who
			weak.password = password
			a := s.visitor("a.test").changePassword(t, who, passwordForm(weak))
			a.wantError(t, 400, "invalid_request")
			if got := a.header.Get("Dialtone-Rule"); got != "ha1.common" {
				t.Errorf("the rule is %q", got)
			}
		}
		s.wantPassword(t, 0, who)
	})
	t.Run("the password as before", func(t *testing.T) {
		who := s.active(t, "a.test")
		f := passwordForm(who)
		for _, f := range []form{f, f.with("ha1=" + strings.ToUpper(who.ha1()))} {
			a := s.visitor("a.test").changePassword(t, who, f)
			a.wantError(t, 400, "invalid_request")
			if got := a.header.Get("Dialtone-Rule"); got != "ha1.same" {
				t.Errorf("the rule is %q", got)
			}
		}
		s.wantPassword(t, 0, who)
	})
	t.Run("another kind of request", func(t *testing.T) {
		who := s.active(t, "a.test")
		v, f := s.visitor("a.test"), passwordForm(s.newPassword(who))
		v.get(t, "/password.ashx").wantError(t, 405, "method_not_allowed")
		v.do(t, "PUT", "/password.ashx", f.String(), "Content-Type", formType).wantError(t, 405, "method_not_allowed")
		if a := v.do(t, "OPTIONS", "/password.ashx", ""); a.status != 204 || a.header.Get("Allow") != "POST" {
			t.Errorf("OPTIONS: %d, Allow %q", a.status, a.header.Get("Allow"))
		}
		proof := func(target string) []string {
			c := v.do(t, "POST", target, "").challenge(t)
			return []string{"Authorization", c.proof(who.user, who.password, "POST", target, nil), "Content-Type"}
		}
		v.do(t, "POST", "/password.ashx", `{}`, append(proof("/password.ashx"), "application/json")...).
			wantError(t, 400, "invalid_request")
		v.do(t, "POST", "/password.ashx", strings.Repeat("x=1&", 4096), append(proof("/password.ashx"), formType)...).
			wantError(t, 400, "invalid_request")
		v.do(t, "POST", "/password.ashx?"+f.String(), "", append(proof("/password.ashx?"+f.String()), formType)...).
			wantError(t, 400, "invalid_request")
		s.wantPassword(t, 0, who)
	})
	t.Run("another site", func(t *testing.T) {
		who := s.active(t, "a.test")
		v, f := s.visitor("a.test"), passwordForm(s.newPassword(who))
		cookies := v.signIn(t, who.user, who.password).cookies()
		for _, headers := range [][]string{
			{"Origin", "https://evil.test", "Sec-Fetch-Site", "cross-site"}, {"Origin", "null"},
			{"Sec-Fetch-Site", "same-site"}, {"Origin", "https://b.test"},
		} {
			a := v.changePassword(t, who, f, append(headers, "Cookie", cookies)...)
			a.wantError(t, 400, "invalid_request")
			if len(a.header["Set-Cookie"]) > 0 || a.header.Get("WWW-Authenticate") != "" {
				t.Errorf("headers %v", a.header)
			}
		}
		s.wantPassword(t, 0, who)
	})
	t.Run("a session without a proof", func(t *testing.T) {
		who := s.active(t, "a.test")
		v, f := s.visitor("a.test"), passwordForm(s.newPassword(who))
		cookies := v.signIn(t, who.user, who.password).cookies()
		a := v.do(t, "POST", "/password.ashx", f.String(), "Content-Type", formType, "Cookie", cookies)
		a.wantError(t, 401, "unauthorized")
		s.wantPassword(t, 0, who)
		if !v.signedIn(t, cookies) {
			t.Error("the session ended")
		}
	})
	t.Run("a proof twice", func(t *testing.T) {
		old := s.active(t, "a.test")
		v, first, second := s.visitor("a.test"), s.newPassword(old), s.newPassword(old)
		c := v.do(t, "POST", "/password.ashx", "").challenge(t)
		v.changeProof(t, c, old, passwordForm(first)).wantStatus(t, 200)
		v.changeProof(t, c, old, passwordForm(second)).wantError(t, 401, "unauthorized")
		s.wantPassword(t, 1, first, old, second)
	})
	t.Run("a proof for another request", func(t *testing.T) {
		who := s.active(t, "a.test")
		v, f := s.visitor("a.test"), passwordForm(s.newPassword(who))
		c := v.do(t, "POST", "/password.ashx", "").challenge(t)
		proof := c.proof(who.user, who.password, "GET", "/signin.ashx", nil)
		v.do(t, "POST", "/password.ashx", f.String(), "Content-Type", formType, "Authorization", proof).
			wantError(t, 401, "unauthorized")
		s.wantPassword(t, 0, who)
	})
	t.Run("an account that is not the owner's", func(t *testing.T) {
		who, other := s.active(t, "a.test"), s.active(t, "b.test")
		held, gone := s.active(t, "a.test"), s.active(t, "a.test")
		s.At("a.test").Disable(held.user)
		s.At("a.test").Delete(gone.user)
		wrong, nobody := s.newPassword(who), s.newPerson("a.test")
		v := s.visitor("a.test")
		var answers []answer
		for _, who := range []person{wrong, nobody, other, held, gone} {
			answers = append(answers, v.changePassword(t, who, passwordForm(s.newPassword(who))))
		}
		answers[0].wantError(t, 401, "unauthorized")
		wantSame(t, answers...)
		s.wantPassword(t, 0, who, wrong)
		s.wantPassword(t, 0, other)
		s.At("a.test").Enable(held.user)
		s.wantPassword(t, 0, held)
	})
	t.Run("an account that is not active", func(t *testing.T) {
		who := s.pending(t, "a.test")
		a := s.visitor("a.test").changePassword(t, who, passwordForm(s.newPassword(who)))
		a.wantError(t, 403, "not_activated")
		signIn := s.visitor("a.test").signIn(t, who.user, who.password)
		a.header.Del("Vary")
		wantSame(t, signIn, a)
		s.visitor("a.test").get(t, s.link(t, who.email)).wantStatus(t, 200)
		s.wantPassword(t, 0, who)
		if n := s.Log.Count(`"msg":"password.change","outcome":"not_activated"`); n != 1 {
			t.Errorf("%d audit events", n)
		}
	})
	t.Run("wrong passwords are limited", func(t *testing.T) {
		who := s.active(t, "a.test")
		wrong := s.newPassword(who)
		for range 10 {
			s.visitor("a.test").changePassword(t, wrong, passwordForm(wrong)).wantError(t, 401, "unauthorized")
		}
		a := s.visitor("a.test").changePassword(t, who, passwordForm(wrong))
		a.wantRateLimit(t)
		if got := a.header.Get("Dialtone-Rule"); got != "name" {
			t.Errorf("the rule is %q", got)
		}
	})
}

// TestChangePasswordStoreFault checks that a change during a store failure leaves everything
// unchanged, and works once the fault is gone.
func TestChangePasswordStoreFault(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	old := s.active(t, "a.test")
	who := s.newPassword(old)
	v := s.visitor("a.test")
	cookies := v.signIn(t, old.user, old.password).cookies()
	s.exec(t, `CREATE TRIGGER broken BEFORE INSERT ON outbox BEGIN SELECT RAISE(ABORT, 'disk /secret'); END`)
	a := v.changePassword(t, old, passwordForm(who), "Cookie", cookies)
	if text := a.wantError(t, 500, "server_error"); strings.Contains(text, "disk") {
		t.Errorf("the description is %q", text)
	}
	if len(a.header["Set-Cookie"]) > 0 || !v.signedIn(t, cookies) {
		t.Error("the session changed")
	}
	s.wantPassword(t, 0, old, who)
	s.exec(t, `DROP TRIGGER broken`)
	s.Must(s.Outbox.Flush(t.Context()))
	if n := len(s.messages(t, old.email)); n != 1 {
		t.Errorf("%d messages, want that of the signup", n)
	}
	v.changePassword(t, old, passwordForm(who), "Cookie", cookies).wantStatus(t, 200)
	s.wantPassword(t, 1, who, old)
}

// TestChangePasswordCORS checks that a page of a listed origin can change a password, and learns the
// rule that it breaks.
func TestChangePasswordCORS(t *testing.T) {
	t.Parallel()
	s := startServerWith(t, options{tenants: func(x *tenant.Tenant) { x.Origins = []string{"https://shop.test"} }})
	who := s.active(t, "a.test")
	v := s.visitor("a.test")
	shop := []string{"Origin", "https://shop.test", "Sec-Fetch-Site", "cross-site", "X-Requested-With", "fetch"}
	a := v.do(t, "OPTIONS", "/password.ashx", "", append(shop, "Access-Control-Request-Method", "POST")...)
	if a.status != 204 || a.header.Get("Access-Control-Allow-Origin") != "https://shop.test" {
		t.Errorf("the preflight: %d %v", a.status, a.header)
	}
	c := v.do(t, "POST", "/password.ashx", "", append(shop, "Authorization", "X-Digest")...).challenge(t)
	if c.scheme != "X-Digest" {
		t.Errorf("the scheme is %s", c.scheme)
	}
	a = v.changeProof(t, c, who, passwordForm(who), shop...)
	a.wantError(t, 400, "invalid_request")
	if a.header.Get("Access-Control-Allow-Origin") != "https://shop.test" ||
		!strings.Contains(a.header.Get("Access-Control-Expose-Headers"), "Dialtone-Rule") {
		t.Errorf("headers %v", a.header)
	}
	v.changePassword(t, who, passwordForm(s.newPassword(who)), shop...).wantStatus(t, 200)
}

// TestConcurrentPasswordChanges checks that exactly one of several concurrent changes with one
// password succeeds, and that the others get the answer for a wrong password.
func TestConcurrentPasswordChanges(t *testing.T) {
	t.Parallel()
	var then func()
	s := startServerWith(t, options{store: func(store account.Store) account.Store {
		return afterFind{store, &then}
	}})
	t.Run("between proof and change", func(t *testing.T) {
		old := s.active(t, "a.test")
		first, second := s.newPassword(old), s.newPassword(old)
		then = func() { s.visitor("a.test").changePassword(t, old, passwordForm(first)).wantStatus(t, 200) }
		late := s.visitor("a.test").changePassword(t, old, passwordForm(second))
		late.wantError(t, 401, "unauthorized")
		late.challenge(t)
		wantSame(t, s.visitor("a.test").changePassword(t, old, passwordForm(second)), late)
		s.wantPassword(t, 1, first, old, second)
		if n := s.Log.Count(`"msg":"password.change","outcome":"conflict"`); n != 1 {
			t.Errorf("%d audit events", n)
		}
	})
	for name, end := range map[string]func(user string){
		"disabled": func(user string) { s.At("a.test").Disable(user) },
		"deleted":  s.At("a.test").Delete,
	} {
		t.Run("between proof and change, the account is "+name, func(t *testing.T) {
			who := s.active(t, "a.test")
			then = func() { end(who.user) }
			late := s.visitor("a.test").changePassword(t, who, passwordForm(s.newPassword(who)))
			late.wantError(t, 401, "unauthorized")
			wantSame(t, s.visitor("a.test").changePassword(t, who, passwordForm(s.newPassword(who))), late)
		})
	}
	for round := range 8 {
		t.Run(fmt.Sprint("at once/", round), func(t *testing.T) {
			old := s.active(t, "a.test")
			tries := []person{s.newPassword(old), s.newPassword(old), s.newPassword(old), s.newPassword(old)}
			challenges := make([]challenge, len(tries))
			for i := range tries {
				challenges[i] = s.visitor("a.test").do(t, "POST", "/password.ashx", "").challenge(t)
			}
			answers := make([]answer, len(tries))
			atOnce(len(tries), func(i int) {
				answers[i] = s.visitor("a.test").changeProof(t, challenges[i], old, passwordForm(tries[i]))
			})
			var won, lost []person
			for i, a := range answers {
				if a.status == 200 {
					won = append(won, tries[i])
				} else {
					a.wantError(t, 401, "unauthorized")
					lost = append(lost, tries[i])
				}
			}
			if len(won) != 1 {
				t.Fatalf("%d changes succeeded", len(won))
			}
			s.wantPassword(t, 1, won[0], append(lost, old)...)
			s.Must(s.Outbox.Flush(t.Context()))
			if n := len(s.messages(t, old.email)); n != 2 {
				t.Errorf("%d messages, want those of the signup and of one change", n)
			}
		})
	}
}

// TestPasswordPage checks who gets the page, and where password managers look for it.
func TestPasswordPage(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	who := s.newPerson("a.test")
	who.name = `"><img src=x onerror=alert(1)>`
	s.signUp(t, who)
	s.visitor("a.test").get(t, s.link(t, who.email)).wantStatus(t, 200)
	v := s.visitor("a.test")
	for target, want := range map[string]string{
		"/password.html":                        "/login.html?next=/password.html",
		"/.well-known/change-password":          "/password.html",
		"/.well-known/change-password?lang=de":  "/password.html?lang=de",
		"/.well-known/change-password?next=//x": "/password.html",
	} {
		a := v.get(t, target)
		if a.status != 303 || a.header.Get("Location") != want {
			t.Errorf("%s: %d to %q, want %q", target, a.status, a.header.Get("Location"), want)
		}
	}
	cookies := v.signIn(t, who.user, who.password).cookies()
	page := v.get(t, "/password.html", "Cookie", cookies)
	page.wantStatus(t, 200)
	if page.header.Get("Cache-Control") != "no-store" || strings.Contains(page.body, "<img src=x") ||
		!strings.Contains(page.body, `value="`+who.user+`" autocomplete="username"`) {
		t.Errorf("the page is %v %s", page.header, page.body)
	}
	account := v.get(t, "/account.html", "Cookie", cookies)
	if !strings.Contains(account.body, `href="/password.html"`) {
		t.Error("the account page has no link to it")
	}
	v.do(t, "POST", "/password.html", "", "Cookie", cookies).wantError(t, 405, "method_not_allowed")
	if a := s.visitor("b.test").get(t, "/password.html", "Cookie", cookies); a.status != 303 {
		t.Errorf("at another tenant: %d", a.status)
	}
	s.At("a.test").Disable(who.user)
	a := v.get(t, "/password.html", "Cookie", cookies)
	if a.header.Get("Location") != "/login.html?next=/password.html#ended" {
		t.Errorf("disabled: %d to %q", a.status, a.header.Get("Location"))
	}
}
