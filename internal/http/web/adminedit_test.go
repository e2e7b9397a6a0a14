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

// TestAdminConflict checks that a form for an outdated version of an account changes nothing, shows
// the current account, and keeps what was typed.
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
	// After seeing the current state, boss can replace who, when and why.
	boss.act(t, who, "disable", "reason", "by boss").wantStatus(t, 303)
	if _, by, why := s.find(t, who).Since(); by != "admin "+boss.who.user || why != "by boss" {
		t.Errorf("disabled by %q: %q", by, why)
	}
}

// TestAdminData downloads the data of a person from the page.
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

// TestAdminAdd adds an account on the page.
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
		{"name", "", "The name is empty"},
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

// TestAdminReserve deletes an account and reserves its name.
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
		"since=2h":  "later",
		"before=2h": "early",
		"since=4h":  "early later",
		"since=" + at.Format("2006-01-02T15:04:05Z"):               "later",
		"before=" + url.QueryEscape(at.Format("2006-01-02 15:04")): "early",
		"since=" + s.Now().Add(-threeHours).Format("2006-01-02"):   "early later",
		"text=early%40a.test":                                      "early",
		"text=sip:later%40A.test":                                  "later",
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
	// The form for a bulk change contains the absolute time.
	page := v.open(t, "/admin/accounts?since=2h").body
	if !regexp.MustCompile(`type="hidden" name="since" value="\d{4}-\d\d-\d\dT[\d:]+Z"`).MatchString(page) {
		t.Error("the form for a change of all accounts has no time")
	}
	if page := v.open(t, "/admin/accounts?text=arly").body; !strings.Contains(page, "not with what is in the middle") {
		t.Error("it does not say what is searched")
	}
}

// TestAdminYesterday selects one day. As in commands, a day means its beginning.
func TestAdminYesterday(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	admin := s.admin(t, "a.test")
	s.Advance(24 * time.Hour)
	yesterday := s.Now().UTC().Format(time.DateOnly)
	s.At("a.test").Member("early")
	s.Advance(24 * time.Hour)
	today := s.Now().UTC().Format(time.DateOnly)
	s.At("a.test").Member("later")
	v := s.signedIn(t, admin.who)
	_ = v.open(t, "/admin/account?user=later")
	days := "since=" + yesterday + "&before=" + today
	if page := v.open(t, "/admin/accounts?"+days).body; !strings.Contains(page, "user=early\"") ||
		strings.Contains(page, "user=later\"") {
		t.Error("the accounts of yesterday are not those")
	}
	if page := v.open(t, "/admin/changes?"+days).body; strings.Contains(page, "user=later\"") {
		t.Error("the changes of yesterday have one of today")
	}
	for _, query := range []string{"since=2h", "since=" + url.QueryEscape(today+" 00:00"), "since=" + today} {
		s.Eventually(query+" has the change, which is added in the background", func() bool {
			return strings.Contains(v.open(t, "/admin/changes?action=account.view&"+query).body, "user=later\"")
		})
	}
	export := v.open(t, "/admin/changes?since=2h").body
	if !regexp.MustCompile(`type="hidden" name="since" value="\d{4}-\d\d-\d\dT[\d:]+Z"`).MatchString(export) {
		t.Error("the form for the export has no time")
	}
}

// TestAdminWrongFilter checks what the pages say about an invalid filter: at the top, next to the
// field, and instead of the list.
func TestAdminWrongFilter(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	admin := s.admin(t, "a.test")
	for address, want := range map[string][2]string{ // the field, and the text beside it
		"accounts?since=1h&before=2h":                 {"before", "This is not after “From”"},
		"accounts?since=2026-03-02&before=2026-03-01": {"before", "This is not after “From”"},
		"accounts?since=yesterday":                    {"since", "Enter a day, a time or a duration"},
		"accounts?before=-2h":                         {"before", "Enter a day, a time or a duration"},
		"accounts?net=300.1.1.1":                      {"net", "Enter a network"},
		"accounts?state=gone":                         {"state", "Choose one"},
		"accounts?role=x":                             {"role", "Choose one"},
		"accounts?confirmed=x":                        {"confirmed", "Choose yes"},
		"accounts?text=%00":                           {"text", "Search for"},
		"changes?since=yesterday":                     {"since", "Enter a day, a time or a duration"},
		"changes?since=2026-03-02&before=2026-03-01":  {"before", "This is not after “From”"},
		"changes?net=300.1.1.1":                       {"net", "Enter a network"},
		"changes?user=%00":                            {"user", "Enter a user name"},
		"changes?action=%00":                          {"action", "Enter the kind"},
		"changes?actor=%00":                           {"actor", "Enter who"},
	} {
		a := admin.open(t, "/admin/"+address)
		page, field := a.body, want[0]
		label := regexp.MustCompile(`<label for="` + field + `">([^<]*)<`).FindStringSubmatch(page)
		if a.status != 400 || label == nil {
			t.Errorf("%s: %d, label %q", address, a.status, label)
			continue
		}
		for _, part := range []string{
			"<p>Nothing was searched. See the message next to the field.</p>",
			`<a href="#` + field + `">` + label[1] + `</a>`,
			`<p class="error" id="filter-` + field + `-error">` + want[1], `<h2 id="list">Nothing was searched</h2>`,
		} {
			if !strings.Contains(page, part) {
				t.Errorf("%s: the page has no %s", address, part)
			}
		}
		if !regexp.MustCompile(`<(input|select) id="`+field+`"[^>]* aria-invalid="true" aria-describedby="[^"]*filter-`+
			field+`-error"`).MatchString(page) || strings.Count(page, `aria-invalid`) != 1 {
			t.Errorf("%s: the field is not marked", address)
		}
		if strings.Contains(page, "Nothing matches") {
			t.Errorf("%s: the page says that nothing matches", address)
		}
	}
	for _, list := range []string{"accounts", "changes"} {
		page := admin.open(t, "/admin/"+list+"?next=x").body
		if strings.Contains(page, "Nothing matches") || !strings.Contains(page, ">Nothing was searched<") {
			t.Errorf("%s: a page of the list that does not exist", list)
		}
	}
}

// TestAdminEmptyName checks that the page of an account has one rule for a name, and reports an
// empty one.
func TestAdminEmptyName(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	admin, who := s.admin(t, "a.test"), s.active(t, "a.test")
	for name, want := range map[string]string{
		" ": "The name is empty", strings.Repeat("x", 300): "at most 120", "-": "at most 120",
	} {
		a := admin.act(t, who, "rename", "name", name)
		beside := regexp.MustCompile(`id="rename-name-error">([^<]*)<`).FindStringSubmatch(a.body)
		if a.status != 400 || beside == nil || !strings.Contains(beside[1], want) {
			t.Errorf("%q: %d %q", name, a.status, beside)
		}
		if !strings.Contains(problem(a.body), "See the message next to the field") ||
			strings.Contains(problem(a.body), "120") {
			t.Errorf("%q: the summary has a rule too: %s", name, problem(a.body))
		}
	}
}

// TestAdminBulkOfOthers checks that the page says why running another operator's bulk change is
// refused.
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
