package web_test

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/secret"
)

// declineLink returns the token in the only message to an address, and the link in it for people who did
// not sign up.
func (s *testServer) declineLink(t *testing.T, email string) (token, link string) {
	t.Helper()
	_, token, _ = strings.Cut(s.link(t, email), "token=")
	link = "/decline.html?link=" + token
	if text := s.messages(t, email)[0].text; strings.Count(text, link+"\n") != 1 {
		t.Fatalf("the link is not in the message %q", text)
	}
	return token, link
}

func TestDecline(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	v := s.visitor("a.test")
	opened := func(t *testing.T, a answer, status int, heading string) {
		t.Helper()
		a.wantStatus(t, status)
		if !strings.Contains(a.body, "<h1>"+heading+"</h1>") {
			t.Errorf("no heading %q in the page: %s", heading, a.body)
		}
		if len(a.header["Set-Cookie"]) != 0 {
			t.Error("the page sets a cookie")
		}
	}
	post := func(v *visitor, path, body string, header ...string) answer {
		return v.do(t, "POST", path, body, append([]string{"Content-Type", formType}, header...)...)
	}
	isGone := func(t *testing.T, who person) {
		t.Helper()
		_, err := s.Store.Find(t.Context(), s.At(who.host).Tenant.ID, who.user, s.Now())
		if err == nil {
			t.Error("the account is still there")
		}
	}

	t.Run("by the endpoint, and the address hears nothing for a day", func(t *testing.T) {
		who := s.pending(t, "a.test")
		token, _ := s.declineLink(t, who.email)
		post(v, "/decline.ashx", "token="+token).wantJSON(t, 200)
		isGone(t, who)
		post(v, "/decline.ashx", "token="+token).wantError(t, 404, "not_found")
		v.get(t, "/activate.ashx?token="+token).wantStatus(t, 400)

		again := s.newPerson("a.test")
		again.email = who.email
		a := s.visitor("a.test").post(t, s.form(t, again))
		a.wantError(t, 429, "rate_limited")
		if got := a.header.Get("Dialtone-Rule"); got != "recipient" {
			t.Errorf("the rule is %q", got)
		}
		elsewhere := s.newPerson("b.test")
		elsewhere.email = who.email
		s.signUp(t, elsewhere)
		s.Advance(24 * time.Hour)
		s.signUp(t, again)
	})

	t.Run("by the page", func(t *testing.T) {
		who := s.pending(t, "a.test")
		token, link := s.declineLink(t, who.email)
		for range 3 {
			a := v.get(t, link+"&utm_source=x")
			opened(t, a, 200, "Remove this account?")
			if !strings.Contains(a.body, `value="`+token+`"`) || strings.Contains(a.body, who.user) {
				t.Errorf("the page is\n%s", a.body)
			}
		}
		if got := s.find(t, who); !got.Pending() {
			t.Errorf("the account is %+v", got)
		}
		opened(t, post(v, "/decline.html", "token="+token), 200, "The account is removed")
		isGone(t, who)
		opened(t, post(v, "/decline.html", "token="+token), 404, "There is nothing to remove")
		opened(t, v.get(t, link), 404, "There is nothing to remove")
	})

	t.Run("not of an active account", func(t *testing.T) {
		who := s.active(t, "a.test")
		token, link := s.declineLink(t, who.email)
		a := post(v, "/decline.ashx", "token="+token)
		a.wantError(t, 409, "conflict")
		if got := a.header.Get("Dialtone-Rule"); got != "active" {
			t.Errorf("the rule is %q", got)
		}
		for _, a := range []answer{v.get(t, link), post(v, "/decline.html", "token="+token)} {
			opened(t, a, 409, "This account is active")
			if !strings.Contains(a.body, `href="/login.html"`) {
				t.Error("the page does not link to sign-in")
			}
		}
		v.signIn(t, who.user, who.password).wantStatus(t, 200)
	})

	t.Run("not when disabled", func(t *testing.T) {
		who := s.pending(t, "a.test")
		token, link := s.declineLink(t, who.email)
		if _, err := s.Accounts.Disable(t.Context(), s.At("a.test").Tenant, who.user); err != nil {
			t.Fatal(err)
		}
		a := post(v, "/decline.ashx", "token="+token)
		a.wantError(t, 409, "conflict")
		if got := a.header.Get("Dialtone-Rule"); got != "held" {
			t.Errorf("the rule is %q", got)
		}
		opened(t, v.get(t, link), 409, "This account is disabled")
		s.find(t, who)
	})

	t.Run("not at another tenant", func(t *testing.T) {
		who := s.pending(t, "a.test")
		token, link := s.declineLink(t, who.email)
		opened(t, s.visitor("b.test").get(t, link), 404, "There is nothing to remove")
		post(s.visitor("b.test"), "/decline.ashx", "token="+token).wantError(t, 404, "not_found")
		s.find(t, who)
	})

	t.Run("not after 7 days", func(t *testing.T) {
		who := s.pending(t, "a.test")
		token, link := s.declineLink(t, who.email)
		s.Advance(account.PendingLife)
		opened(t, v.get(t, link), 404, "There is nothing to remove")
		post(v, "/decline.ashx", "token="+token).wantError(t, 404, "not_found")
	})

	t.Run("not by a stranger who got the first message", func(t *testing.T) {
		who := s.pending(t, "a.test")
		token, link := s.declineLink(t, who.email)
		right := s.newPerson("a.test").email
		s.visitor("a.test").resend(t, who.user, who.password, "email="+url.QueryEscape(right)).wantStatus(t, 200)
		opened(t, v.get(t, link), 404, "There is nothing to remove")
		post(v, "/decline.ashx", "token="+token).wantError(t, 404, "not_found")
		s.find(t, who)
		token, _ = s.declineLink(t, right)
		post(v, "/decline.ashx", "token="+token).wantStatus(t, 200)
	})

	t.Run("by an older message to the same address", func(t *testing.T) {
		who := s.pending(t, "a.test")
		token, link := s.declineLink(t, who.email)
		s.visitor("a.test").resend(t, who.user, who.password, "").wantStatus(t, 200)
		opened(t, v.get(t, link), 200, "Remove this account?")
		post(v, "/decline.ashx", "token="+token).wantStatus(t, 200)
		isGone(t, who)
	})

	t.Run("with a mistake in the request", func(t *testing.T) {
		who := s.pending(t, "a.test")
		token, link := s.declineLink(t, who.email)
		good := "token=" + token
		for _, path := range []string{"/decline.ashx", "/decline.html"} {
			for name, a := range map[string]answer{
				"no token":    post(v, path, ""),
				"empty token": post(v, path, "token="),
				"two tokens":  post(v, path, good+"&"+good),
				"no UTF-8":    post(v, path, "token=%ff"),
				"query":       post(v, path+"?"+good, good),
				"media type":  v.do(t, "POST", path, good, "Content-Type", "text/plain"),
				"cross-site":  post(v, path, good, "Sec-Fetch-Site", "cross-site", "Origin", "https://evil.test"),
				"other site":  post(v, path, good, "Origin", "https://evil.test"),
			} {
				if a.status != 400 {
					t.Errorf("%s %s: the status is %d", path, name, a.status)
				}
			}
			post(v, path, "token="+secret.NewToken().Text()).wantStatus(t, 404)
			post(v, path, "token=x").wantStatus(t, 404)
			s.visitor("nowhere.test").do(t, "POST", path, good, "Content-Type", formType).wantStatus(t, 421)
		}
		v.get(t, "/decline.ashx").wantError(t, 405, "method_not_allowed")
		v.do(t, "PUT", link, "").wantStatus(t, 405)
		v.do(t, "HEAD", link, "").wantStatus(t, 200)
		v.do(t, "OPTIONS", link, "").wantStatus(t, 204)
		for _, query := range []string{
			"", "?link=", "?link=x", "?token=" + token, "?link=" + token + "&link=" + token,
		} {
			opened(t, v.get(t, "/decline.html"+query), 404, "There is nothing to remove")
		}
		s.find(t, who)
	})

	t.Run("starts no session and sets no cookie", func(t *testing.T) {
		who := s.pending(t, "a.test")
		token, link := s.declineLink(t, who.email)
		for _, a := range []answer{v.get(t, link), post(v, "/decline.ashx", "token="+token)} {
			if got := a.header.Values("Set-Cookie"); len(got) > 0 {
				t.Errorf("got %q", got)
			}
		}
	})

	t.Run("is recorded", func(t *testing.T) {
		who := s.pending(t, "a.test")
		token, _ := s.declineLink(t, who.email)
		post(v, "/decline.ashx", "token="+token).wantStatus(t, 200)
		var last audit.Change
		err := s.Store.Changes(t.Context(), audit.Filter{User: who.user}, func(c audit.Change) error {
			last = c
			return nil
		})
		if err != nil || last.Action != audit.AccountDecline || last.Actor.Kind != audit.Person {
			t.Errorf("got %+v, %v", last, err)
		}
	})
}
