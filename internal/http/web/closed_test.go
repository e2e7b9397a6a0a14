package web_test

import (
	"strings"
	"testing"

	"dialtone/internal/tenant"
)

// set replaces the settings of the first tenant, a.test.
func (s *testServer) set(t testing.TB, change func(*tenant.Tenant)) {
	t.Helper()
	changed := must[[]tenant.Tenant](t)(tenantsOf(t.Context(), s))[0]
	change(&changed)
	if err := s.Store.SetTenant(t.Context(), changed, s.Clock.Now()); err != nil {
		t.Fatal(err)
	}
	if err := s.Tenants.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// TestClosedSignups closes signups between the steps that people take.
func TestClosedSignups(t *testing.T) {
	s := startServer(t)
	v := s.visitor("a.test")
	before := s.newPerson("a.test")
	sent := s.form(t, before)
	v.post(t, sent).wantStatus(t, 200)
	waits := s.form(t, s.newPerson("a.test"))
	for _, note := range []string{"", `Back on <b>Monday</b> & "later".`} {
		s.set(t, func(tn *tenant.Tenant) { tn.Signups, tn.SignupsNote = tenant.SignupsClosed, note })
		want := note
		if note == "" {
			want = "nobody can sign up here at the moment; an account that you have already works as before"
		}
		if got := v.post(t, waits).wantError(t, 403, "signups_closed"); got != want {
			t.Errorf("the description is %q", got)
		}
		v.postBody(t, "user=ann").wantError(t, 403, "signups_closed")
		v.get(t, "/captcha.ashx").wantStatus(t, 200)
		page := v.get(t, "/signup.html", "Accept-Language", "de")
		page.wantStatus(t, 200)
		if strings.Contains(page.body, "<form") || !strings.Contains(page.body, "Zurzeit kann niemand") ||
			!strings.Contains(page.body, "/login.html") || strings.Contains(page.body, "<b>Monday") ||
			note != "" && !strings.Contains(page.body, "Back on &lt;b&gt;Monday&lt;/b&gt; &amp;") {
			t.Errorf("the page is\n%s", page.body)
		}
	}
	// The same form again, its link, and signing in.
	v.post(t, sent).wantStatus(t, 200)
	v.get(t, s.link(t, before.email)).wantStatus(t, 200)
	v.signIn(t, before.user, before.password).wantStatus(t, 200)
	s.visitor("b.test").get(t, "/signup.html").wantStatus(t, 200)
	s.set(t, func(tn *tenant.Tenant) { tn.Signups = tenant.SignupsOpen })
	v.post(t, waits).wantStatus(t, 200)
	if page := v.get(t, "/signup.html").body; !strings.Contains(page, `id="signup"`) {
		t.Errorf("the page is\n%s", page)
	}
}

// TestClosedDuringSignup closes signups while forms arrive slowly.
func TestClosedDuringSignup(t *testing.T) {
	s := startServer(t)
	v := s.visitor("a.test")
	closing := func() { s.set(t, func(tn *tenant.Tenant) { tn.Signups = tenant.SignupsClosed }) }
	sent := s.form(t, s.newPerson("a.test"))
	v.slowly(t, "/signup.ashx", sent.String(), closing, "Content-Type", formType).wantError(t, 403, "signups_closed")
	opening := func() { s.set(t, func(tn *tenant.Tenant) { tn.Signups = tenant.SignupsOpen }) }
	v.slowly(t, "/signup.ashx", sent.String(), opening, "Content-Type", formType).wantStatus(t, 200)
}
