package web_test

import (
	"strings"
	"testing"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/sipserver"
)

// lookUp makes the phone server with the token look up an account.
func (s *testServer) lookUp(t *testing.T, token, realm, user string, how sipserver.How) {
	t.Helper()
	c, err := s.phones.Authenticate(t.Context(), token, account.Origin{})
	s.Must(err)
	e, err := s.phones.Find(t.Context(), c, realm, user)
	s.Must(err)
	s.phones.Found(t.Context(), c, e, how)
	s.Must(s.phones.Flush(t.Context()))
}

func TestPhones(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	who, other := s.active(t, "a.test"), s.active(t, "a.test")
	v := s.visitor("a.test")
	cookies := v.signIn(t, who.user, who.password).cookies()
	others := v.signIn(t, other.user, other.password).cookies()
	want := func(cookies, json, onPage string) {
		t.Helper()
		a := v.get(t, "/phones.ashx", "Cookie", cookies)
		a.wantJSON(t, 200)
		if got := strings.TrimSpace(a.body); got != json {
			t.Errorf("got %s, want %s", got, json)
		}
		page := v.get(t, "/account.html", "Cookie", cookies).body
		if onPage == "" && strings.Contains(page, `class="asked"`) || !strings.Contains(page, onPage) {
			t.Errorf("the page lacks %q, or says something:\n%s", onPage, page)
		}
	}
	const none = "No phone has used this account in the last 90 days"
	want(cookies, "[]", "")
	// The page says nothing while there are only phone servers of other tenants.
	elsewhere := s.AddServer("elsewhere", "b.test")
	s.Must(s.phones.Refresh(t.Context()))
	want(cookies, "[]", "")
	sbc, pbx := s.AddServer("sbc", "a.test"), s.AddServer("pbx", "a.test", "b.test")
	s.Must(s.phones.Refresh(t.Context()))
	want(cookies, "[]", none)

	first := s.Now()
	s.lookUp(t, sbc, "a.test", who.user, sipserver.HowCredential)
	s.Advance(90 * time.Minute)
	s.lookUp(t, sbc, "a.test", who.user, sipserver.HowFreeSWITCH)
	s.lookUp(t, pbx, "a.test", who.user, sipserver.HowAsterisk)
	at := func(x time.Time) string { return x.UTC().Truncate(time.Second).Format(time.RFC3339) }
	last := at(s.Now())
	want(cookies, `[{"server":"pbx","how":"asterisk","at":"`+last+`"},`+
		`{"server":"sbc","how":"credential","at":"`+at(first)+`"},`+
		`{"server":"sbc","how":"freeswitch","at":"`+last+`"}]`,
		`<bdi>sbc</bdi>:</span> <span><time datetime="`+last+`" `)
	want(others, "[]", none)
	page := v.get(t, "/account.html", "Cookie", cookies).body
	if n := strings.Count(page, "</bdi>:</span> <span><time"); n != 2 || strings.Contains(page, none) {
		t.Errorf("the page lists %d servers", n)
	}

	t.Run("is for people who are signed in, on this site", func(t *testing.T) {
		a := v.get(t, "/phones.ashx", "Cookie", "__Host-dialtone-session=x")
		a.wantError(t, 401, "unauthorized")
		if a.header.Get("WWW-Authenticate") != "Cookie" {
			t.Errorf("the challenge is %q", a.header.Get("WWW-Authenticate"))
		}
		s.visitor("b.test").get(t, "/phones.ashx", "Cookie", cookies).wantError(t, 401, "unauthorized")
		v.do(t, "POST", "/phones.ashx", "", "Cookie", cookies).wantStatus(t, 405)
		for _, h := range [][]string{{"Sec-Fetch-Site", "cross-site"}, {"Origin", "https://evil.test"}} {
			v.get(t, "/phones.ashx", append(h, "Cookie", cookies)...).wantError(t, 400, "invalid_request")
		}
	})
	t.Run("not of the same name at another tenant", func(t *testing.T) {
		s.At("b.test").Join(who.user)
		_, err := s.Store.EnableNow(t.Context(), s.At("b.test").Tenant.ID, who.user, s.Now())
		s.Must(err)
		s.Advance(sipserver.LookupInterval)
		s.lookUp(t, elsewhere, "b.test", who.user, sipserver.HowCredential)
		if body := v.get(t, "/phones.ashx", "Cookie", cookies).body; strings.Contains(body, "elsewhere") {
			t.Errorf("got %s", body)
		}
	})
	t.Run("not when disabled", func(t *testing.T) {
		s.At("a.test").Disable(who.user)
		v.get(t, "/phones.ashx", "Cookie", cookies).wantError(t, 401, "unauthorized")
	})
}
