package web_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/audit"
)

// TestAdminConflict checks that a form for an account that somebody else has changed since changes nothing, shows the
// account as it is, and keeps what was typed.
func TestAdminConflict(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	dan, boss, who := s.admin(t, "a.test"), s.admin(t, "a.test"), s.active(t, "a.test")
	form := func(do string, more ...string) url.Values {
		a := s.find(t, who)
		f := url.Values{"user": {who.user}, "uid": {a.UID.String()}, "version": {versionText(a)}, "do": {do}}
		for i := 0; i < len(more); i += 2 {
			f.Set(more[i], more[i+1])
		}
		return f
	}
	if page := boss.open(t, "/admin/account?user="+who.user).body; !strings.Contains(page,
		`name="version" value="`+versionText(s.find(t, who))+`"`) {
		t.Error("the forms have no version")
	}
	refused := func(a answer, want ...string) {
		t.Helper()
		a.wantStatus(t, http.StatusConflict)
		if !strings.Contains(problem(a.body), "has changed since you opened this page") {
			t.Errorf("the problem is %s", problem(a.body))
		}
		body := strings.ReplaceAll(a.body, "<wbr>", "")
		for _, part := range append(want, "The last change: ",
			`name="version" value="`+versionText(s.find(t, who))+`"`) {
			if !strings.Contains(body, part) {
				t.Errorf("the page has no %s", part)
			}
		}
	}
	rename := form("rename", "name", "Bosss Version", "reason", "typed by boss")
	dan.act(t, who, "rename", "name", "Dans Version").wantStatus(t, 303)
	refused(boss.send(t, "/admin/account", rename), "Dans Version", `value="Bosss Version"`, `value="typed by boss"`)
	if name := s.find(t, who).Name; name != "Dans Version" {
		t.Errorf("the name is %q", name)
	}
	disable := form("disable", "reason", "by boss")
	dan.act(t, who, "disable", "reason", "by dan").wantStatus(t, 303)
	refused(boss.send(t, "/admin/account", disable), "by dan", `value="by boss"`, `value="disable"`)
	if _, by, why := s.find(t, who).Since(); by != "admin "+dan.who.user || why != "by dan" {
		t.Errorf("disabled by %q: %q", by, why)
	}
	// Without a version, a form changes nothing.
	enable := form("enable")
	enable.Del("version")
	boss.send(t, "/admin/account", enable).wantStatus(t, http.StatusConflict)
	// Knowing how it is, boss can replace who, when and why.
	boss.act(t, who, "disable", "reason", "by boss").wantStatus(t, 303)
	if _, by, why := s.find(t, who).Since(); by != "admin "+boss.who.user || why != "by boss" {
		t.Errorf("disabled by %q: %q", by, why)
	}
}

// TestAdminData downloads the data of a person by the page.
func TestAdminData(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	admin, who := s.admin(t, "a.test"), s.active(t, "a.test")
	a := admin.act(t, who, "data", "reason", "asked by letter")
	a.wantStatus(t, 200)
	var data account.Data
	if err := json.Unmarshal([]byte(a.body), &data); err != nil {
		t.Fatalf("%v: %s", err, a.body)
	}
	if data.Account.User != who.user || data.Account.Email != who.email ||
		!strings.Contains(a.header.Get("Content-Disposition"), "attachment") ||
		!strings.Contains(a.header.Get("Content-Disposition"), who.user) {
		t.Errorf("%v %+v", a.header, data.Account)
	}
	var found []audit.Change
	s.Must(s.Store.Changes(t.Context(), audit.Filter{User: who.user, Action: "account.data"},
		func(c audit.Change) error {
			found = append(found, c)
			return nil
		}))
	if len(found) != 1 || found[0].Actor.Name != admin.who.user || found[0].Reason != "asked by letter" {
		t.Errorf("the trail has %+v", found)
	}
	other := s.active(t, "b.test")
	admin.act(t, other, "data").wantStatus(t, http.StatusConflict)
}

// TestAdminAdd adds an account by the page.
func TestAdminAdd(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	admin := s.admin(t, "a.test")
	fields := func(pairs ...string) url.Values {
		f := url.Values{
			"user": {"berta"}, "name": {"Berta B"}, "email": {"berta@mail.test"}, "role": {"user"}, "lang": {"de"},
			"reason": {"new employee"},
		}
		for i := 0; i < len(pairs); i += 2 {
			f.Set(pairs[i], pairs[i+1])
		}
		return f
	}
	errors := regexp.MustCompile(`id="add-(\w+)-error">([^<]*)<`)
	taken := s.active(t, "a.test")
	for _, c := range []struct{ field, value, want string }{
		{"user", "", "Enter a user name"},
		{"user", "Berta", "Use lowercase letters only"},
		{"user", "admin", "reserved"},
		{"user", taken.user, "taken"},
		{"name", "", "Enter a name"},
		{"name", strings.Repeat("x", 300), "at most 120"},
		{"email", "", "name@example.org|help@example.org"},
		{"email", "a b@mail.test", "Remove the spaces"},
		{"role", "root", "one of the roles"},
		{"lang", "xx", "one of the languages"},
		{"reason", strings.Repeat("x", 501), "one line"},
	} {
		a := admin.send(t, "/admin/add", fields(c.field, c.value))
		m := errors.FindAllStringSubmatch(a.body, -1)
		if a.status != 400 || len(m) != 1 || m[0][1] != c.field || !regexp.MustCompile(c.want).MatchString(m[0][2]) {
			t.Errorf("%s %.20q: %d %q %s", c.field, c.value, a.status, m, problem(a.body))
			continue
		}
		if !strings.Contains(problem(a.body), `href="#add-`+c.field+`"`) ||
			!regexp.MustCompile(`id="add-`+c.field+`"[^>]* aria-invalid="true"`).MatchString(a.body) {
			t.Errorf("%s: the field is not marked, or nothing leads there", c.field)
		}
		if c.field != "reason" && !strings.Contains(a.body, `value="new employee"`) {
			t.Errorf("%s: what was typed is lost", c.field)
		}
	}
	admin.send(t, "/admin/add", fields()).wantRedirect(t, "/admin/account?user=berta#added")
	a, err := s.Accounts.Find(t.Context(), s.At("a.test").Tenant.ID, "berta")
	s.Must(err)
	if a.State() != account.Waiting || a.Name != "Berta B" || a.Role != account.User || a.Lang != "de" {
		t.Errorf("got %+v", a)
	}
	admin.send(t, "/admin/add", fields("user", "bruno", "active", "yes")).
		wantRedirect(t, "/admin/account?user=bruno#added")
	if a, err = s.Accounts.Find(t.Context(), s.At("a.test").Tenant.ID, "bruno"); err != nil ||
		a.State() != account.Active {
		t.Errorf("got %+v %v", a, err)
	}
}

// TestAdminReserve deletes an account whose name nobody is to have again.
func TestAdminReserve(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	admin, who := s.admin(t, "a.test"), s.pending(t, "a.test")
	admin.act(t, who, "delete", "confirm", "x", "reserve", "yes").wantStatus(t, 400)
	reserved := func() bool {
		x, err := s.Store.Tenant(t.Context(), s.At("a.test").Tenant.ID)
		s.Must(err)
		return strings.Contains(strings.Join(x.Reserved, " "), who.user)
	}
	if reserved() {
		t.Error("the name is reserved though nothing was confirmed")
	}
	admin.act(t, who, "delete", "confirm", who.user, "reserve", "yes").wantRedirect(t, "/admin/accounts#reserved")
	if !reserved() {
		t.Error("the name is not reserved")
	}
	a := admin.open(t, "/admin/account?user="+who.user)
	a.wantStatus(t, 404)
	if !strings.Contains(a.body, `href="/admin/accounts"`) ||
		!strings.Contains(a.body, `id="changes"`) {
		t.Errorf("the page of an account that is gone: %s", a.body)
	}
	for _, user := range []string{"Bert", "", "%00"} {
		a := admin.open(t, "/admin/account?user="+user)
		if a.status != 404 || !strings.Contains(a.body, `href="/admin/accounts"`) {
			t.Errorf("%q: %d", user, a.status)
		}
	}
}

const threeHours = 3 * time.Hour

// TestAdminTimes filters accounts by the time of day, and by words and phone addresses.
func TestAdminTimes(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	admin := s.admin(t, "a.test")
	s.At("a.test").Member("early")
	s.Advance(threeHours)
	s.At("a.test").Member("later")
	v := s.signedIn(t, admin.who)
	at := s.Now().Add(-threeHours / 2).UTC()
	for query, want := range map[string]string{
		"since=2h": "later",
		"until=2h": "early",
		"since=4h": "early later",
		"since=" + at.Format("2006-01-02T15:04:05Z"):              "later",
		"until=" + url.QueryEscape(at.Format("2006-01-02 15:04")): "early",
		"since=" + s.Now().Add(-threeHours).Format("2006-01-02"):  "early later",
		"text=early%40a.test":                                     "early",
		"text=sip:later%40A.test":                                 "later",
	} {
		a := v.open(t, "/admin/accounts?"+query)
		a.wantStatus(t, 200)
		var got []string
		for _, user := range []string{"early", "later"} {
			if strings.Contains(a.body, `href="/admin/account?user=`+user+`"`) {
				got = append(got, user)
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %v, want %s", query, got, want)
		}
	}
	for query, want := range map[string]string{
		"since=1h&until=2h":                 "before the first one",
		"since=2026-03-02&until=2026-03-01": "before the first one",
		"since=yesterday":                   "Enter the first time",
		"until=-2h":                         "Enter the last time",
	} {
		a := v.open(t, "/admin/accounts?"+query)
		if a.status != 400 || !strings.Contains(problem(a.body), want) {
			t.Errorf("%s: %d %s", query, a.status, problem(a.body))
		}
	}
	// The form for a change of all has the time itself.
	page := v.open(t, "/admin/accounts?since=2h").body
	if !regexp.MustCompile(`type="hidden" name="since" value="\d{4}-\d\d-\d\dT[\d:]+Z"`).MatchString(page) {
		t.Error("the form for a change of all accounts has no time")
	}
	if page := v.open(t, "/admin/accounts?text=arly").body; !strings.Contains(page, "not with what is in the middle") {
		t.Error("it does not say what is searched")
	}
}

// TestAdminBulkOfOthers says why a bulk change of another operator is refused.
func TestAdminBulkOfOthers(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	dan, boss, who := s.admin(t, "a.test"), s.admin(t, "a.test"), s.active(t, "a.test")
	a := dan.send(t, "/admin/bulk", url.Values{"do": {"start"}, "action": {"disable"}, "text": {who.user}})
	id := strings.TrimPrefix(a.header.Get("Location"), "/admin/bulk?id=")
	s.workBulk(t)
	run := url.Values{"do": {"run"}, "id": {id}, "count": {"1"}}
	for v, want := range map[*adminVisitor]string{boss: "Somebody else started this"} {
		if a := v.send(t, "/admin/bulk", run); a.status != 409 || !strings.Contains(problem(a.body), want) {
			t.Errorf("%d %s", a.status, problem(a.body))
		}
	}
	dan.send(t, "/admin/bulk", url.Values{"do": {"cancel"}, "id": {id}}).wantStatus(t, 303)
	if a := dan.send(t, "/admin/bulk", run); a.status != 409 ||
		!strings.Contains(problem(a.body), "not waiting for a confirmation") {
		t.Errorf("%d %s", a.status, problem(a.body))
	}
}

// TestSignInAgainEndsTheSession checks that a browser that signs in again does not leave a session behind.
func TestSignInAgainEndsTheSession(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	v := s.signedIn(t, s.active(t, "a.test"))
	s.sessions(t, v.visitor, v.cookies, 1)
	first := v.cookies
	v.cookies = v.signIn(t, v.who.user, v.who.password, "Cookie", first).cookies()
	s.sessions(t, v.visitor, v.cookies, 1)
	v.cookies = first
	v.open(t, "/account.html").wantStatus(t, http.StatusSeeOther)
}
