package web_test

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"dialtone/internal/stats"
	"dialtone/internal/tenant"
)

// firstButton returns the value of the first button of the switch for sign-ups, which the Enter key presses.
func firstButton(page string) string {
	m := regexp.MustCompile(`name="signups" value="(\w+)"`).FindStringSubmatch(page)
	if m == nil {
		return "missing"
	}
	return m[1]
}

// TestAdminSignupsPage checks that the overview immediately shows the state, who set it and why,
// and that Enter keeps it.
func TestAdminSignupsPage(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	admin := s.admin(t, "a.test")
	page := func() string { return admin.open(t, "/admin/").body }
	has := func(what string, parts ...string) {
		t.Helper()
		text := page()
		for _, part := range parts {
			if !strings.Contains(text, part) {
				t.Errorf("%s: the page has no %s", what, part)
			}
		}
	}
	has("open", `id="signups">Open<`, `value="closed"`)
	if got := firstButton(page()); got != "note" || strings.Contains(page(), `name="signups" value="open"`) {
		t.Errorf("while sign-ups are open, the first button is %s", got)
	}
	admin.send(t, "/admin/", url.Values{"signups": {"note"}, "note": {"Soon"}}).wantRedirect(t, "/admin/#note-saved")
	has("after the note", `id="signups">Open<`, `value="Soon"`)
	admin.send(t, "/admin/", url.Values{"signups": {"closed"}, "note": {"Soon"}, "reason": {"a flood"}}).
		wantRedirect(t, "/admin/#signups-closed")
	// This server's table is not reloaded in between.
	has("closed", `id="signups">Closed<`, `id="closed-since"`, "a flood", "operator <bdi>"+admin.who.user)
	if got := firstButton(page()); got != "note" || strings.Contains(page(), `name="signups" value="closed"`) {
		t.Errorf("while sign-ups are closed, the first button is %s", got)
	}
	admin.send(t, "/admin/", url.Values{"signups": {"note"}, "note": {"On Tuesday"}, "reason": {"a date"}}).
		wantRedirect(t, "/admin/#note-saved")
	has("closed, after the note", `id="signups">Closed<`, "On Tuesday", "a flood")
	s.Must(s.Tenants.Refresh(t.Context()))
	if note, closed := s.At("a.test").Tenant.Closed(); !closed || note != "On Tuesday" {
		t.Errorf("signing up is closed: %v, with the note %q", closed, note)
	}

	s.Must(s.Store.SetFreeze(t.Context(), &tenant.Freeze{Note: "All of them"}, s.Now()))
	admin.send(t, "/admin/", url.Values{"signups": {"open"}, "note": {""}}).wantRedirect(t, "/admin/#signups-frozen")
	has("frozen", `id="signups">Closed<`, `id="frozen"`, "All of them", "is “open”")
	s.Must(s.Store.SetFreeze(t.Context(), nil, s.Now()))
	has("no longer frozen", `id="signups">Open<`)
}

// TestAdminCounts checks the daily counts on the overview.
func TestAdminCounts(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	admin := s.admin(t, "a.test")
	today := stats.DayOf(s.Now())
	s.Must(s.Store.AddCounts(t.Context(), []stats.Count{
		{Tenant: s.At("a.test").Tenant.ID, Day: today, Kind: stats.SignIn, N: 4321},
		{Tenant: s.At("a.test").Tenant.ID, Day: today - 40, Kind: stats.Signup, N: 1234},
	}))
	rows := regexp.MustCompile(`<tr><th scope="row">`)
	for query, days := range map[string]int{"": 30, "?days=7": 7, "?days=90": 90, "?days=1000": 30} {
		page := admin.open(t, "/admin/"+query).body
		if got := len(rows.FindAllString(page, -1)); got != days {
			t.Errorf("%q shows %d days, want %d", query, got, days)
		}
		if strings.Contains(page, "<td>1234</td>") != (days == 90) {
			t.Errorf("%q: an old day is shown, or missing", query)
		}
		_, table, _ := strings.Cut(page, "<tbody>")
		if first, _, _ := strings.Cut(table, "</tr>"); !strings.Contains(first, "<td>4321</td>") {
			t.Errorf("%q: the first row is %s", query, first)
		}
	}
}

// TestAdminChanges checks the list of changes: in words, filtered, and with one row for a change of many accounts.
func TestAdminChanges(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	admin, who := s.admin(t, "a.test"), s.active(t, "a.test")
	admin.act(t, who, "disable", "reason", "spam").wantStatus(t, 303)
	admin.act(t, who, "disable", "reason", "more spam").wantStatus(t, 303)
	admin.act(t, who, "role", "role", "user").wantStatus(t, 303)
	other := s.active(t, "a.test")
	admin.act(t, other, "sign-out").wantStatus(t, 303)
	version := regexp.MustCompile(`name="version" value="(\w+)"`).FindStringSubmatch(
		admin.open(t, "/admin/settings").body)[1]
	admin.send(t, "/admin/settings", url.Values{
		"version": {version}, "product": {"Phones"}, "signups_per_hour": {"7"},
	}).wantStatus(t, 303)
	for range 60 {
		s.At("a.test").Member("bot-" + s.newPerson("a.test").user)
	}
	start := admin.send(t, "/admin/bulk", url.Values{"do": {"start"}, "action": {"delete"}, "text": {"bot-"}})
	s.workBulk(t)
	id := strings.TrimPrefix(start.header.Get("Location"), "/admin/bulk?id=")
	admin.send(t, "/admin/bulk", url.Values{"do": {"run"}, "id": {id}, "count": {"60"}}).wantStatus(t, 303)
	s.workBulk(t)

	page := strings.ReplaceAll(admin.open(t, "/admin/changes").body, "<wbr>", "")
	for _, part := range []string{
		">Account disabled", "from “Active” to “Disabled”", "<p>still “Disabled”</p>", ">Role changed",
		"from “Guest” to “User”", ">Sessions ended", "<br>all sessions</p>",
		">Settings changed",
		"<p>Name of the platform: from “not set” to “<bdi>Phones</bdi>”</p>",
		"<p>Signups per hour: from “not set” to “<bdi>7</bdi>”</p>", ">Delete accounts",
		`<a href="/admin/bulk?id=` + id + `">Accounts: 60</a>`, "by operator <bdi>" + admin.who.user,
		"[Show", "reason: ",
	} {
		if strings.Contains(page, part) == (part == "[Show") {
			t.Errorf("the page has no %s, or should not", part)
		}
	}
	if strings.Contains(page, ">bot-") || strings.Contains(page, "{&#34;") {
		t.Error("the page has an account of the change of many, or JSON")
	}
	found := regexp.MustCompile(`<p class="when">`)
	for query, want := range map[string]int{
		"action=account.disable": 2, "action=account.delete": 0, "action=account.delete&bulk=all": 50,
		"action=tenant.set": 1, "user=" + who.user: 3, "actor=nobody": 0, "since=2026-02-02&before=2026-02-01": 0,
	} {
		if got := len(found.FindAllString(admin.open(t, "/admin/changes?"+query).body, -1)); got != want {
			t.Errorf("%s: %d changes, want %d", query, got, want)
		}
	}
	if page := admin.open(t, "/admin/changes?actor=nob").body; !strings.Contains(page, "must be whole") {
		t.Error("nothing found, and the page does not say why")
	}
	admin.open(t, "/admin/changes?since=2026-02-02&before=2026-02-01").wantStatus(t, 400)

	if page := admin.open(t, "/admin/account?user="+who.user).body; strings.Contains(page,
		`href="/admin/account?user=`+who.user+`"`) || !strings.Contains(page, ">Role changed") {
		t.Error("the page of an account leads to itself, or has no changes")
	}

	bot := regexp.MustCompile(`href="/admin/account\?user=(bot-[\w-]+)"`).FindStringSubmatch(
		admin.open(t, "/admin/changes?bulk=all").body)[1]
	gone := admin.open(t, "/admin/account?user="+bot)
	if gone.status != http.StatusNotFound && !strings.Contains(gone.body, "Account deleted") {
		t.Errorf("a deleted account: %d", gone.status)
	}
}

// TestAdminGone checks the pages for operators about objects that do not exist.
func TestAdminGone(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	admin, who := s.admin(t, "a.test"), s.active(t, "a.test")
	admin.act(t, who, "delete", "confirm", who.user, "reason", "asked for it").wantStatus(t, 303)
	admin.send(t, "/admin/account", url.Values{"user": {who.user}, "do": {"free-name"}, "confirm": {who.user}}).
		wantStatus(t, 303)
	for target, want := range map[string]string{
		"/admin/account?user=" + who.user:                  "asked for it",
		"/admin/account?user=" + strings.ToUpper(who.user): "asked for it",
		"/admin/account?user=nobody":                       "There is no account <bdi>nobody</bdi>",
		"/admin/account":                                   "There is nothing here",
		"/admin/bulk?id=" + strings.Repeat("0", 32):        "There is nothing here",
	} {
		a := admin.open(t, target)
		if a.status != http.StatusNotFound || !strings.Contains(a.body, want) ||
			!strings.Contains(a.body, `<nav class="parts"`) {
			t.Errorf("%s: %d without %q or the menu", target, a.status, want)
		}
	}
}

// TestAdminSettingsConflict checks that what a person entered is kept if somebody else has changed the settings.
func TestAdminSettingsConflict(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	admin := s.admin(t, "a.test")
	hidden := regexp.MustCompile(`name="(version|was_\w+)" value="([^"]*)"`)
	form := func(page string) url.Values {
		f := url.Values{}
		for _, m := range hidden.FindAllStringSubmatch(page, -1) {
			f.Set(m[1], m[2])
			if name, ok := strings.CutPrefix(m[1], "was_"); ok {
				f.Set(name, m[2])
			}
		}
		return f
	}
	mine, theirs := form(admin.open(t, "/admin/settings").body), form(admin.open(t, "/admin/settings").body)
	theirs.Set("about", "Theirs")
	theirs.Set("product", "Phones")
	admin.send(t, "/admin/settings", theirs).wantStatus(t, 303)
	mine.Set("about", "Mine")
	mine.Set("welcome", "A long text")
	a := admin.send(t, "/admin/settings", mine)
	a.wantStatus(t, http.StatusConflict)
	for _, part := range []string{
		"\nMine</textarea>", "\nA long text</textarea>",
		`name="product" type="text" dir="auto" maxlength="200" autocomplete="off" value="Phones"`,
		"Somebody else has set: <bdi>Theirs</bdi>", `<a href="#s-about">`,
	} {
		if !strings.Contains(a.body, part) {
			t.Errorf("the page has no %s", part)
		}
	}
	if strings.Contains(a.body, `<a href="#s-product">`) || strings.Contains(a.body, `<a href="#s-welcome">`) {
		t.Error("the page warns about a setting that only one of them changed")
	}
	again := form(a.body)
	again.Set("about", "Both")
	again.Set("welcome", "A long text")
	admin.send(t, "/admin/settings", again).wantStatus(t, 303)
	x, _ := s.Tenants.ByID(s.At("a.test").Tenant.ID)
	if x.About != "Both" || x.Welcome != "A long text" || x.Product != "Phones" {
		t.Errorf("the settings are %+v", x.Settings)
	}
	for page, want := range map[string]string{"home": "Both", "account": "A long text", "signup": "Phones"} {
		if got := admin.send(t, "/admin/preview", url.Values{"preview": {page}}).body; !strings.Contains(got, want) {
			t.Errorf("the preview of %s has no %q", page, want)
		}
	}
}

// TestAdminAddress checks that the answer to a form contains the address that the browser must show
// instead of the form's.
func TestAdminAddress(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	admin, who := s.admin(t, "a.test"), s.active(t, "a.test")
	account := "/admin/account?user=" + who.user
	check := func(what string, a answer, want string) {
		t.Helper()
		if !strings.Contains(a.body, `data-address="`+want+`"`) {
			t.Errorf("%s: status %d without the address %s", what, a.status, want)
		}
	}
	check("a reset link", admin.act(t, who, "reset-link"), account)
	check("a wrong name", admin.act(t, who, "delete", "confirm", "x"), account)
	check("a note", admin.send(t, "/admin/", url.Values{"signups": {"half"}}), "/admin/")
	check("no filter", admin.send(t, "/admin/bulk", url.Values{"do": {"start"}, "action": {"delete"}}),
		"/admin/accounts")
	check("settings", admin.send(t, "/admin/settings", url.Values{"accent": {"red"}}), "/admin/settings")
	check("an export", admin.send(t, "/admin/changes", url.Values{"net": {"x"}}), "/admin/changes?net=x")
	s.Advance(time.Hour)
	check("an old sign-in", admin.act(t, who, "disable"), account)
}
