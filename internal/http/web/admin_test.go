package web_test

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/operator"
	"dialtone/internal/session"
	"dialtone/internal/tenant"
)

// adminGets are the pages for operators, for an account.
func adminGets(user string) []string {
	return []string{
		"/admin/", "/admin/accounts", "/admin/add", "/admin/account?user=" + user, "/admin/changes", "/admin/messages",
		"/admin/settings", "/admin/preview", "/admin/again", "/admin/bulk?id=" + strings.Repeat("0", 32),
	}
}

// operators returns the operator.Service of a server.
func (s *testServer) operators() *operator.Service {
	return operator.NewService(operator.Deps{Accounts: s.Accounts, Store: s.Store, Now: s.Now})
}

// adminVisitor is a person with the role admin who is signed in.
type adminVisitor struct {
	*visitor
	who     person
	cookies string
}

func (s *testServer) setRole(t testing.TB, who person, role account.Role) {
	t.Helper()
	must[account.Account](t)(s.Accounts.SetRole(t.Context(), s.At(who.host).Tenant, who.user, role))
}

// admin returns a person with the role admin who has just signed in.
func (s *testServer) admin(t testing.TB, host string) *adminVisitor {
	t.Helper()
	who := s.active(t, host)
	s.setRole(t, who, account.Admin)
	return s.signedIn(t, who)
}

func (s *testServer) signedIn(t testing.TB, who person) *adminVisitor {
	t.Helper()
	v := &adminVisitor{visitor: s.visitor(who.host), who: who}
	v.cookies = v.signIn(t, who.user, who.password).cookies()
	return v
}

func (v *adminVisitor) open(t testing.TB, target string) answer {
	t.Helper()
	return v.get(t, target, "Cookie", v.cookies, "Accept", "text/html")
}

// send posts a form of the site's own page.
func (v *adminVisitor) send(t testing.TB, path string, fields url.Values, headers ...string) answer {
	t.Helper()
	return v.do(t, "POST", path, fields.Encode(), append([]string{
		"Content-Type", formType, "Cookie", v.cookies, "Accept", "text/html", "Sec-Fetch-Site", "same-origin",
	}, headers...)...)
}

// act sends a form of the page of an account.
func (v *adminVisitor) act(t testing.TB, who person, do string, more ...string) answer {
	t.Helper()
	f := url.Values{"user": {who.user}, "do": {do}}
	now := v.s.find(t, who)
	f.Set("uid", now.UID.String())
	f.Set("version", versionText(now))
	for i := 0; i < len(more); i += 2 {
		f.Set(more[i], more[i+1])
	}
	return v.send(t, "/admin/account", f)
}

// versionText is the version of an account in a form.
func versionText(a account.Account) string { return fmt.Sprintf("%x", a.Version()) }

func (a answer) wantRedirect(t testing.TB, to string) {
	t.Helper()
	if a.status != http.StatusSeeOther || a.header.Get("Location") != to {
		t.Fatalf("status %d to %q, want a redirect to %q; %s", a.status, a.header.Get("Location"), to, problem(a.body))
	}
}

func problem(body string) string {
	return regexp.MustCompile(`(?s)id="problem".*?</div>`).FindString(body)
}

// adminPosts contains a form for each kind of change, each with a check that the change was not
// made.
func adminPosts(s *testServer, t testing.TB, who person) map[string]struct {
	path   string
	fields url.Values
} {
	a := s.find(t, who)
	uid := a.UID.String()
	posts := map[string]struct {
		path   string
		fields url.Values
	}{
		"close":    {"/admin/", url.Values{"signups": {"closed"}, "note": {"x"}}},
		"settings": {"/admin/settings", url.Values{"product": {"Taken over"}}},
		"preview":  {"/admin/preview", url.Values{"product": {"Taken over"}}},
		"export":   {"/admin/changes", url.Values{"reason": {"x"}}},
		"discard":  {"/admin/messages", url.Values{"do": {"discard"}, "id": {strings.Repeat("0", 32)}}},
		"add": {"/admin/add", url.Values{
			"user": {"added"}, "name": {"Added"}, "email": {"added@mail.test"}, "role": {"admin"}, "lang": {"en"},
		}},
		"bulk": {"/admin/bulk", url.Values{"do": {"start"}, "action": {"delete"}, "text": {"visitor"}}},
	}
	for _, do := range []string{
		"enable", "activate", "disable", "role", "email", "rename", "resend", "mail-link", "reset-link", "sign-out",
		"remove-factors", "delete", "free-name", "data",
	} {
		posts[do] = struct {
			path   string
			fields url.Values
		}{"/admin/account", url.Values{
			"user": {who.user}, "uid": {uid}, "version": {versionText(a)}, "do": {do}, "role": {"admin"},
			"email": {"mallory@mail.test"}, "name": {"Mallory"}, "confirm": {who.user},
		}}
	}
	return posts
}

// snapshot describes everything that forms of the pages for operators can change. It leaves out the
// trail's entries about viewing a person.
func (s *testServer) snapshot(t testing.TB, who person) string {
	t.Helper()
	var n, changes int
	if err := s.db.QueryRow(`SELECT (SELECT count(*) FROM bulk), (SELECT count(*) FROM audit
		WHERE action NOT IN ($1, $2))`, string(audit.AccountView), string(audit.AccountList)).
		Scan(&n, &changes); err != nil {
		t.Fatal(err)
	}
	settings, _, err := s.Store.Tenants(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	a := s.find(t, who)
	return fmt.Sprintf("%+v %d %d %+v", a, n, changes, settings)
}

// TestAdminPermissions checks who may see and change what, for each kind of person, each page and
// each form.
func TestAdminPermissions(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	victim := s.active(t, "a.test")
	people := map[string]*adminVisitor{}
	for _, role := range []account.Role{account.Guest, account.User, account.SIPOnly} {
		who := s.active(t, "a.test")
		s.setRole(t, who, role)
		people[string(role)] = s.signedIn(t, who)
	}
	people["admin whose role was removed"] = s.admin(t, "a.test")
	s.setRole(t, people["admin whose role was removed"].who, account.User)
	outside := map[string]*adminVisitor{
		"stranger":          {visitor: s.visitor("a.test")},
		"forged session":    {visitor: s.visitor("a.test"), cookies: "__Host-dialtone-session=x"},
		"disabled admin":    s.admin(t, "a.test"),
		"of another tenant": s.admin(t, "b.test").atHost("a.test"),
	}
	must[account.Account](t)(s.Accounts.Disable(t.Context(), s.At("a.test").Tenant, outside["disabled admin"].who.user))
	before := s.snapshot(t, victim)
	for name, v := range people {
		for _, target := range adminGets(victim.user) {
			missing := v.open(t, "/nowhere")
			a := v.open(t, target)
			if a.status != 404 || strip(a.body) != strip(missing.body) || a.header.Get("X-Robots-Tag") != "noindex" {
				t.Errorf("%s at %s: %d, or not the page of an address with nothing", name, target, a.status)
			}
		}
		for form, p := range adminPosts(s, t, victim) {
			if a := v.send(t, p.path, p.fields); a.status != 404 {
				t.Errorf("%s sends %s: %d", name, form, a.status)
			}
		}
	}
	for name, v := range outside {
		for _, target := range adminGets(victim.user) {
			a := v.open(t, target)
			if a.status != 303 || !strings.HasPrefix(a.header.Get("Location"), "/login.html") ||
				a.header.Get("Cache-Control") != "no-store" {
				t.Errorf("%s at %s: %d to %s", name, target, a.status, a.header.Get("Location"))
			}
		}
		for form, p := range adminPosts(s, t, victim) {
			if a := v.send(t, p.path, p.fields); a.status != 303 ||
				!strings.HasPrefix(a.header.Get("Location"), "/login.html") {
				t.Errorf("%s sends %s: %d", name, form, a.status)
			}
		}
	}
	if after := s.snapshot(t, victim); after != before {
		t.Errorf("something changed:\n%s\n%s", before, after)
	}

	admin := s.admin(t, "a.test")
	for _, target := range adminGets(victim.user) {
		a := admin.open(t, target)
		want := 200
		if strings.HasPrefix(target, "/admin/bulk") {
			want = 404
		}
		if a.status != want || a.header.Get("Cache-Control") != "no-store" ||
			a.header.Get("X-Robots-Tag") != "noindex" {
			t.Errorf("an admin at %s: %d %v", target, a.status, a.header)
		}
	}
	before = s.snapshot(t, victim)
	for form, p := range adminPosts(s, t, victim) {
		for _, headers := range [][]string{
			{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}, {"Origin", "https://evil.test"},
			{"Origin", "null"}, {"Origin", "https://b.test"},
		} {
			a := admin.do(t, "POST", p.path, p.fields.Encode(), append([]string{
				"Content-Type", formType, "Cookie", admin.cookies, "Accept", "text/html",
			}, headers...)...)
			if a.status != 400 {
				t.Errorf("%s from %v: %d", form, headers, a.status)
			}
		}
	}
	// 15 minutes after signing in with the password alone.
	s.Advance(session.FreshFor)
	for form, p := range adminPosts(s, t, victim) {
		a := admin.send(t, p.path, p.fields)
		if form == "preview" {
			a.wantStatus(t, 200)
			continue
		}
		if a.status != 403 || !strings.Contains(a.body, `id="again"`) || !strings.Contains(a.body, "Sign in again") {
			t.Errorf("%s with an old sign-in: %d %s", form, a.status, problem(a.body))
		}
		for field, values := range p.fields {
			if !strings.Contains(a.body, `<textarea name="`+field+`">`+"\n"+values[0]+"</textarea>") {
				t.Errorf("%s: the value of %s is lost", form, field)
			}
		}
	}
	for _, target := range adminGets(victim.user) {
		if a := admin.open(t, target); a.status >= 500 || a.status == 303 {
			t.Errorf("with an old sign-in, %s is %d", target, a.status)
		}
	}
	if after := s.snapshot(t, victim); after != before {
		t.Errorf("something changed:\n%s\n%s", before, after)
	}
}

// strip removes the ID of the request.
func strip(page string) string {
	return regexp.MustCompile(`<bdi class="code">\w+</bdi>`).ReplaceAllString(page, "")
}

// atHost is the same browser at another host.
func (v *adminVisitor) atHost(host string) *adminVisitor {
	return &adminVisitor{v.visitor.at(host), v.who, v.cookies}
}

// TestAdminTenants checks that an admin of one tenant can neither see nor change accounts of
// another one.
func TestAdminTenants(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	admin, other := s.admin(t, "a.test"), s.active(t, "b.test")
	before := s.snapshot(t, other)
	admin.open(t, "/admin/account?user="+other.user).wantStatus(t, 404)
	for form, p := range adminPosts(s, t, other) {
		if p.path != "/admin/account" || form == "free-name" {
			continue
		}
		a := admin.send(t, p.path, p.fields)
		if a.status != 409 || !strings.Contains(a.body, "This no longer exists") {
			t.Errorf("%s: %d %s", form, a.status, problem(a.body))
		}
	}
	for _, target := range []string{"/admin/accounts?text=" + other.user, "/admin/changes?user=" + other.user} {
		a := admin.open(t, target)
		a.wantStatus(t, 200)
		if strings.Contains(a.body, other.email) || strings.Contains(a.body, `href="/admin/account?user=`+other.user) {
			t.Errorf("%s shows an account of another tenant", target)
		}
	}
	foreign := s.admin(t, "b.test")
	a := foreign.send(t, "/admin/bulk", url.Values{"do": {"start"}, "action": {"disable"}, "text": {"visitor"}})
	bulk, ok := strings.CutPrefix(a.header.Get("Location"), "/admin/bulk?id=")
	if !ok {
		t.Fatalf("%d %s", a.status, problem(a.body))
	}
	admin.open(t, "/admin/bulk?id="+bulk).wantStatus(t, 404)
	for _, do := range []string{"run", "cancel"} {
		a := admin.send(t, "/admin/bulk", url.Values{"do": {do}, "id": {bulk}, "count": {"1"}})
		a.wantStatus(t, 404)
	}
	foreign.send(t, "/admin/bulk", url.Values{"do": {"cancel"}, "id": {bulk}}).wantStatus(t, 303)
	if after := s.find(t, other); !strings.Contains(before, fmt.Sprintf("%+v", after)) {
		t.Errorf("the account changed: %+v", after)
	}
}

// TestAdminActions makes each change of an account on the page.
func TestAdminActions(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	admin := s.admin(t, "a.test")
	who, page := s.active(t, "a.test"), ""
	page = "/admin/account?user=" + who.user
	shown := func(parts ...string) {
		t.Helper()
		a := admin.open(t, page)
		a.wantStatus(t, 200)
		text := strings.ReplaceAll(a.body, "<wbr>", "")
		for _, part := range parts {
			if !strings.Contains(text, part) {
				t.Errorf("the page has no %s", part)
			}
		}
	}
	shown(`class="state active">Active<`, who.email, who.name)
	admin.act(t, who, "disable", "reason", "spam & scam").wantRedirect(t, page+"#disabled")
	shown(`class="state disabled">Disabled<`, "spam &amp; scam", admin.who.user)
	admin.act(t, who, "enable").wantRedirect(t, page+"#enabled")
	admin.act(t, who, "role", "role", "user").wantRedirect(t, page+"#role-set")
	admin.act(t, who, "rename", "name", "Zoë <b>").wantRedirect(t, page+"#renamed")
	shown(">User<", "Zoë &lt;b&gt;")
	moved := who
	moved.email = "moved-" + who.email
	s.hide(moved.email)
	admin.act(t, who, "email", "email", moved.email).wantRedirect(t, page+"#email-set")
	shown(moved.email)
	admin.act(t, who, "sign-out").wantRedirect(t, page+"#signed-out")
	admin.act(t, who, "mail-link").wantRedirect(t, page+"#mailed")
	link := admin.act(t, who, "reset-link", "reason", "no mail")
	link.wantStatus(t, 200)
	m := regexp.MustCompile(`reset-link">(https://a.test/reset.html\?token=[\w-]+)<`).FindStringSubmatch(link.body)
	if m == nil {
		t.Fatalf("no link: %s", link.body)
	}
	s.hide(m[1])
	if strings.Contains(admin.open(t, page).body, "token=") {
		t.Error("the link is shown again")
	}
	pending := s.pending(t, "a.test")
	admin.act(t, pending, "resend", "email", pending.email).wantRedirect(t,
		"/admin/account?user="+pending.user+"#resent")
	admin.act(t, pending, "activate").wantRedirect(t, "/admin/account?user="+pending.user+"#activated")

	for do, want := range map[string]string{
		"delete": "Type the user name", "email": "Check the email address", "rename": "Check the name",
		"role":    "Choose one",
		"disable": "in one line",
	} {
		a := admin.act(t, who, do, "email", "x", "name", "", "confirm", "x", "role", "root", "reason",
			strings.Repeat("x", 501))
		if a.status != 400 && a.status != 409 || !strings.Contains(problem(a.body), want) &&
			!strings.Contains(problem(a.body), "in one line") {
			t.Errorf("%s: %d %s", do, a.status, problem(a.body))
		}
	}
	if a := admin.act(t, who, "delete", "confirm", "x"); a.status != 400 ||
		!strings.Contains(problem(a.body), "Type the user name") {
		t.Errorf("delete without the name: %d %s", a.status, problem(a.body))
	}
	stale := url.Values{"user": {who.user}, "uid": {strings.Repeat("0", 32)}, "do": {"disable"}}
	if a := admin.send(t, "/admin/account", stale); a.status != 409 || !strings.Contains(a.body,
		"This no longer exists") {
		t.Errorf("for an earlier account: %d", a.status)
	}
	admin.act(t, who, "delete", "confirm", who.user, "reason", "asked").wantRedirect(t, "/admin/accounts#deleted")
	shown("Closed", "Account deleted", "<dd>operator <bdi>"+admin.who.user, "<dd><bdi>asked</bdi></dd>")
	admin.send(t, "/admin/account", url.Values{"user": {who.user}, "do": {"free-name"}, "confirm": {who.user}}).
		wantRedirect(t, "/admin/accounts#name-freed")
	admin.open(t, page).wantStatus(t, 404)
	actors := map[audit.Actor]int{}
	s.Must(s.Store.Changes(t.Context(), audit.Filter{User: who.user}, func(c audit.Change) error {
		if c.Actor.Kind == audit.Admin {
			actors[c.Actor]++
		}
		return nil
	}))
	own := audit.Actor{Kind: audit.Admin, Name: admin.who.user, ID: s.find(t, admin.who).UID.String()}
	if len(actors) != 1 || actors[own] < 9 {
		t.Errorf("the trail has %v", actors)
	}
}

// TestAdminOwnAccount checks that people cannot change their own account here: otherwise a stolen
// session could take over the account, and people could lose access to the pages by mistake.
func TestAdminOwnAccount(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	admin := s.admin(t, "a.test")
	before := s.snapshot(t, admin.who)
	for form, p := range adminPosts(s, t, admin.who) {
		if p.path != "/admin/account" {
			continue
		}
		a := admin.send(t, p.path, p.fields)
		if a.status != 409 || !strings.Contains(a.body, "You cannot change your own account here") ||
			strings.Contains(a.body, "reset.html") {
			t.Errorf("%s: %d %s", form, a.status, problem(a.body))
		}
	}
	if after := s.snapshot(t, admin.who); after != before {
		t.Errorf("something changed:\n%s\n%s", before, after)
	}
	if page := admin.open(t, "/admin/account?user="+admin.who.user).body; strings.Contains(page, `name="do"`) {
		t.Error("the page offers a change")
	}
	a := admin.open(t, "/account.html")
	if !strings.Contains(a.body, `href="/admin/"`) {
		t.Error("the account page does not lead there")
	}
	user := s.signedIn(t, s.active(t, "a.test"))
	if strings.Contains(user.open(t, "/account.html").body, "/admin/") {
		t.Error("the account page of somebody else leads there")
	}
}

// TestAdminSecondFactor checks that a sign-in with a second factor permits changes for longer.
func TestAdminReturn(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	admin := s.admin(t, "a.test")
	v := &adminVisitor{visitor: s.visitor("a.test")}
	target := "/admin/account?user=" + admin.who.user
	a := v.open(t, target)
	login := a.header.Get("Location")
	page := v.open(t, login)
	page.wantStatus(t, 200)
	if !strings.Contains(page.body, `data-next="`+target+`"`) {
		t.Errorf("%s does not lead back", login)
	}
	for _, next := range []string{
		"https://evil.test/admin/", "//evil.test/admin/", "/admin/../x", "/admin/again", "/admin/%2e%2e/",
		"javascript:alert(1)",
		"/admin/accounts@evil.test", "/admin/\\evil.test", "/admin/accounts%00", "/admin/nowhere", "\t/admin/",
	} {
		for _, at := range []string{"/login.html?next=", "/admin/again?next="} {
			body := admin.open(t, at+url.QueryEscape(next)).body
			if at == "/login.html?next=" {
				body = v.open(t, at+url.QueryEscape(next)).body
			}
			m := regexp.MustCompile(`data-next="([^"]*)"`).FindStringSubmatch(body)
			if m == nil || m[1] != "/account.html" && m[1] != "/admin/" {
				t.Errorf("%s%s leads to %q", at, next, m)
			}
		}
	}
}

// TestAdminSlowForm sends a form whose last byte arrives after the person has lost the role.
func TestAdminSlowForm(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for name, fields := range map[string]func(victim person) (string, url.Values){
		"/admin/account": func(victim person) (string, url.Values) {
			return "/admin/account", url.Values{
				"user": {victim.user}, "uid": {s.find(t, victim).UID.String()}, "do": {"role"}, "role": {"admin"},
			}
		},
		"/admin/settings": func(person) (string, url.Values) {
			return "/admin/settings", url.Values{"product": {"Taken over"}}
		},
	} {
		admin, victim := s.admin(t, "a.test"), s.active(t, "a.test")
		path, f := fields(victim)
		before := ""
		a := admin.slowly(t, path, f.Encode(), func() {
			s.setRole(t, admin.who, account.User)
			before = s.snapshot(t, victim)
		}, "Content-Type", formType, "Cookie", admin.cookies, "Sec-Fetch-Site", "same-origin")
		if after := s.snapshot(t, victim); a.status != 404 || after != before {
			t.Errorf("%s: %d\n%s\n%s", name, a.status, before, after)
		}
	}
}

// TestAdminLists checks pages with cursors and filters.
func TestAdminLists(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	admin := s.admin(t, "a.test")
	for i := range 120 {
		s.At("a.test").Member(fmt.Sprintf("bot-%03d", i))
	}
	seen := map[string]bool{}
	next, pages := "/admin/accounts?text=bot-", 0
	link := regexp.MustCompile(`href="/admin/account\?user=(bot-\d+)"`)
	for next != "" && pages < 10 {
		a := admin.open(t, next)
		a.wantStatus(t, 200)
		pages++
		for _, m := range link.FindAllStringSubmatch(a.body, -1) {
			if seen[m[1]] {
				t.Errorf("%s twice", m[1])
			}
			seen[m[1]] = true
		}
		next = ""
		if m := regexp.MustCompile(`href="(/admin/accounts\?[^"]*)" rel="next"`).FindStringSubmatch(a.body); m != nil {
			next = strings.ReplaceAll(m[1], "&amp;", "&")
		}
	}
	if len(seen) != 120 || pages < 3 {
		t.Errorf("%d accounts on %d pages", len(seen), pages)
	}
	for query, want := range map[string]int{
		"text=bot-00": 10, "text=BOT-001": 1, "text=bot-&state=disabled": 0, "text=bot-0&role=guest": 50,
		"text=bot-00&since=2100-01-01": 0, "text=bot-00&before=2100-01-01": 10, "text=bot-00&confirmed=yes": 0,
		"text=bot-00&confirmed=no": 10,
	} {
		a := admin.open(t, "/admin/accounts?"+query)
		a.wantStatus(t, 200)
		if got := len(link.FindAllString(a.body, -1)); got != want {
			t.Errorf("%s: %d accounts, want %d", query, got, want)
		}
	}
}

// TestAdminBulk disables and deletes many accounts on the pages.
func TestAdminBulk(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	admin := s.admin(t, "a.test")
	for i := range 25 {
		s.At("a.test").Member(fmt.Sprintf("bot-%03d", i))
	}
	start := func(fields ...string) answer {
		f := url.Values{"do": {"start"}, "reason": {"bots"}}
		for i := 0; i < len(fields); i += 2 {
			f.Set(fields[i], fields[i+1])
		}
		return admin.send(t, "/admin/bulk", f)
	}
	if a := start("action", "delete"); a.status != 400 || !strings.Contains(a.body, "at least one filter") {
		t.Errorf("all accounts: %d %s", a.status, problem(a.body))
	}
	for _, action := range []string{"disable", "delete"} {
		a := start("action", action, "text", "bot-")
		at := a.header.Get("Location")
		a.wantRedirect(t, at)
		id := strings.TrimPrefix(at, "/admin/bulk?id=")
		s.workBulk(t)
		page := admin.open(t, at).body
		if !strings.Contains(page, "Accounts found: 25.") {
			t.Fatalf("after counting: %s", page)
		}
		if !strings.Contains(page, "Only accounts that would change are counted") {
			t.Error("the page does not say which accounts count")
		}
		if got := strings.Count(page, `href="/admin/account?user=bot-`); got != 10 {
			t.Errorf("the preview has %d accounts", got)
		}
		for _, count := range []string{"", "24", "x", "-1", "99999999999999999999"} {
			a := admin.send(t, "/admin/bulk", url.Values{"do": {"run"}, "id": {id}, "count": {count}})
			if a.status != 409 || !strings.Contains(a.body, "Type the number of accounts") {
				t.Errorf("with %q: %d %s", count, a.status, problem(a.body))
			}
		}
		admin.send(t, "/admin/bulk", url.Values{"do": {"run"}, "id": {id}, "count": {"25"}}).
			wantRedirect(t, at+"#bulk-run")
		s.workBulk(t)
		if page := admin.open(t, at).body; !strings.Contains(page, "Accounts "+action+"d: 25") {
			t.Errorf("after the change: %s", page)
		}
	}
	if strings.Contains(admin.open(t, "/admin/accounts?text=bot-").body, "user=bot-") {
		t.Error("accounts are left")
	}
}

// workBulk counts or changes the accounts of a bulk change.
func (s *testServer) workBulk(t testing.TB) {
	t.Helper()
	must[operator.Bulk](t)(s.operators().WorkBulk(t.Context()))
}

// TestAdminSignups opens and closes signups on the page.
func TestAdminSignups(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	admin := s.admin(t, "a.test")
	admin.send(t, "/admin/", url.Values{"signups": {"closed"}, "note": {"Back <soon>"}, "reason": {"bots"}}).
		wantRedirect(t, "/admin/#signups-closed")
	s.Must(s.Tenants.Refresh(t.Context()))
	if page := admin.open(t, "/admin/").body; !strings.Contains(page, `id="signups">Closed<`) ||
		!strings.Contains(page, "Back &lt;soon&gt;") {
		t.Errorf("the page is %s", page)
	}
	if note, closed := s.At("a.test").Tenant.Closed(); !closed || note != "Back <soon>" {
		t.Errorf("signing up is closed: %v, with the note %q", closed, note)
	}
	admin.send(t, "/admin/", url.Values{"signups": {"open"}, "note": {""}}).wantRedirect(t, "/admin/#signups-open")
	s.Must(s.Tenants.Refresh(t.Context()))
	s.signUp(t, s.newPerson("a.test"))
	for _, f := range []url.Values{{"signups": {"half"}}, {}, {"signups": {"closed"}, "note": {strings.Repeat("x",
		301)}}} {
		if a := admin.send(t, "/admin/", f); a.status != 400 || problem(a.body) == "" {
			t.Errorf("%v: %d", f, a.status)
		}
	}
}

// TestAdminSettings changes settings on the page, after a preview.
func TestAdminSettings(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	admin := s.admin(t, "a.test")
	version := func() string {
		t.Helper()
		m := regexp.MustCompile(`name="version" value="(\w+)"`).FindStringSubmatch(admin.open(t,
			"/admin/settings").body)
		if m == nil {
			t.Fatal("no version")
		}
		return m[1]
	}
	first := version()
	good := url.Values{
		"version": {first}, "product": {"Example <Phones>"}, "about": {"Two\r\nlines"},
		"terms_url": {"https://example.org/terms"},
		"support":   {"help@example.org"}, "accent": {"#aa3300"}, "signups_per_hour": {"7"}, "activation": {"confirm"},
	}
	preview := admin.send(t, "/admin/preview", good)
	preview.wantStatus(t, 200)
	csp := preview.header.Get("Content-Security-Policy")
	if !strings.Contains(preview.body, "Example &lt;Phones&gt;") || !strings.Contains(preview.body, "data:text/css") ||
		strings.Contains(preview.body, "<script") || !strings.Contains(csp, "frame-ancestors 'self'") ||
		!strings.Contains(csp, "sandbox allow-same-origin") {
		t.Errorf("the preview has %s: %s", csp, preview.body)
	}
	if strings.Contains(admin.open(t, "/").body, "Example") {
		t.Error("the preview saved something")
	}
	admin.send(t, "/admin/settings", good).wantRedirect(t, "/admin/settings#settings-saved")
	x := s.At("a.test").Tenant
	x, _ = s.Tenants.ByID(x.ID)
	if x.Product != "Example <Phones>" || x.About != "Two\nlines" || x.Accent != "#aa3300" || x.SignupsPerHour != 7 ||
		x.Activation != tenant.ActivationConfirm || x.Host != "a.test" || x.Realm != "a.test" {
		t.Errorf("the settings are %+v", x.Settings)
	}
	if a := admin.send(t, "/admin/settings", good); a.status != 409 || !strings.Contains(a.body,
		"Somebody else has changed") {
		t.Errorf("with an old version: %d %s", a.status, problem(a.body))
	}
	bad := url.Values{
		"version": {version()}, "product": {strings.Repeat("x", 201)}, "terms_url": {"javascript:alert(1)"},
		"accent":  {"red"},
		"support": {"nobody"}, "signups_per_hour": {"-1"}, "activation": {"never"}, "reply_to": {"a b"},
	}
	a := admin.send(t, "/admin/settings", bad)
	a.wantStatus(t, 400)
	if got := strings.Count(a.body, `class="error"`); got != 7 {
		t.Errorf("%d errors: %s", got, a.body)
	}
	// A logo, and a file that is not a logo.
	for content, want := range map[string]int{
		`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1 1"><path d="M0 0"/></svg>`:                   303,
		`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1 1"><script>alert(1)</script></svg>`:          400,
		`<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)" viewBox="0 0 1 1"><path d="M0 0"/></svg>`: 400,
		strings.Repeat("x", tenant.MaxLogo+1):                                                                400,
	} {
		body := "--b\r\nContent-Disposition: form-data; name=\"version\"\r\n\r\n" + version() +
			"\r\n--b\r\nContent-Disposition: form-data; name=\"logo\"; filename=\"l.svg\"\r\n" +
			"Content-Type: image/svg+xml\r\n\r\n" +
			content + "\r\n--b--\r\n"
		a := admin.do(t, "POST", "/admin/settings", body, "Content-Type", "multipart/form-data; boundary=b", "Cookie",
			admin.cookies, "Accept", "text/html", "Sec-Fetch-Site", "same-origin")
		if a.status != want {
			t.Errorf("the logo %.60s: %d %s", content, a.status, problem(a.body))
		}
	}
	frame := admin.open(t, "/admin/settings").header.Get("Content-Security-Policy")
	if !strings.Contains(frame, "frame-src 'self'") || !strings.Contains(frame, "frame-ancestors 'none'") {
		t.Errorf("the page of the settings has %s", frame)
	}
}

// TestAdminSettingsChangeOnly checks that an unmodified form of the settings changes nothing, and
// that any other form changes only the modified fields.
func TestAdminSettingsChangeOnly(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	admin := s.admin(t, "a.test")
	field := regexp.MustCompile(`<input type="hidden" name="was_(\w+)" value="([^"]*)"`)
	for _, about := range []string{"", "Phones for all"} {
		form := url.Values{}
		page := admin.open(t, "/admin/settings").body
		form.Set("version", regexp.MustCompile(`name="version" value="(\w+)"`).FindStringSubmatch(page)[1])
		for _, m := range field.FindAllStringSubmatch(page, -1) {
			form.Set("was_"+m[1], m[2])
			form.Set(m[1], m[2])
		}
		if len(form) < 20 {
			t.Fatalf("the form has %d fields", len(form))
		}
		form.Set("about", about)
		admin.send(t, "/admin/settings", form).wantRedirect(t, "/admin/settings#settings-saved")
	}
	q := admin.open(t, "/admin/changes?action=tenant.set").body
	values := regexp.MustCompile(`<p>([^<:]*): (?:from|was|now) “`).FindAllStringSubmatch(q, -1)
	if len(values) != 1 || values[0][1] != "What the platform is" {
		t.Errorf("the trail has the changes %q", values)
	}
}

// TestAdminExport exports the trail.
func TestAdminExport(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	admin, who := s.admin(t, "a.test"), s.active(t, "a.test")
	admin.act(t, who, "disable", "reason", "line \" <b>").wantStatus(t, 303)
	a := admin.send(t, "/admin/changes", url.Values{"user": {who.user}, "reason": {"audit"}})
	a.wantStatus(t, 200)
	if !strings.HasPrefix(a.header.Get("Content-Type"), "application/jsonl") ||
		!strings.HasPrefix(a.header.Get("Content-Disposition"), "attachment") ||
		!strings.Contains(a.body, `"action":"account.disable"`) || !strings.Contains(a.body,
		`"actor":"`+admin.who.user+`"`) {
		t.Errorf("%v %s", a.header, a.body)
	}
	if page := admin.open(t, "/admin/changes?action=audit.").body; !strings.Contains(page, "Changes exported") {
		t.Error("the export is not in the trail")
	}
}

// TestAdminHostile sends requests that no page of the site sends.
func TestAdminHostile(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	admin, who := s.admin(t, "a.test"), s.active(t, "a.test")
	uid := s.find(t, who).UID.String()
	texts := []string{
		`"><img src=x onerror=alert(1)>`, `</title><script>alert(1)</script>`, `'-alert(1)-'`, "a\r\nSet-Cookie: x=1",
		"a\nLocation: https://evil.test", "\x00", "\xff\xfe", "\u202e\u2066abc", "{{.}}", "${7*7}", "' OR 1=1 --",
		"%", "_", `\`, "*",
		strings.Repeat("a", 5000), strings.Repeat("é", 300), "../../etc/passwd", "javascript:alert(1)", "-1",
		"0x10", "NaN",
		"99999999999999999999", "2026-13-45", "0000-00-00", "192.0.2.0/99", "::ffff:1.2.3.4/120", "fe80::1%eth0",
		"1.2.3.4/0",
		"::/0", " ", "\t", "\u00a0", "[link]", "*bold*", "{user}",
	}
	requests := 0
	check := func(what string, a answer) {
		t.Helper()
		requests++
		if a.status >= 500 {
			t.Errorf("%.200q: status %d", what, a.status)
		}
		for _, never := range []string{"<img src=x", "<script>alert", `href="javascript:`} {
			if strings.Contains(a.body, never) {
				t.Errorf("%.200q: the page has %s", what, never)
			}
		}
		if a.header.Get("Set-Cookie") != "" || strings.HasPrefix(a.header.Get("Location"), "http") {
			t.Errorf("%.200q: headers %v", what, a.header)
		}
	}
	for _, text := range texts {
		q := url.QueryEscape(text)
		for _, target := range []string{
			"/admin/accounts?text=", "/admin/accounts?state=", "/admin/accounts?role=", "/admin/accounts?net=",
			"/admin/accounts?since=", "/admin/accounts?before=", "/admin/accounts?confirmed=", "/admin/accounts?next=",
			"/admin/accounts?text=a&next=", "/admin/account?user=", "/admin/bulk?id=", "/admin/changes?user=",
			"/admin/changes?action=", "/admin/changes?actor=", "/admin/changes?net=", "/admin/changes?next=",
			"/admin/again?next=",
			"/admin/?lang=", "/admin/accounts?",
		} {
			check("GET "+target+text, admin.open(t, target+q))
		}
		for _, f := range []url.Values{
			{"user": {text}, "uid": {uid}, "do": {"disable"}},
			{"user": {who.user}, "uid": {text}, "do": {"disable"}},
			{"user": {who.user}, "uid": {uid}, "do": {text}},
			{"user": {who.user}, "uid": {uid}, "do": {"role"}, "role": {text}},
			{"user": {who.user}, "uid": {uid}, "do": {"rename"}, "name": {text}},
			{"user": {who.user}, "uid": {uid}, "do": {"enable"}, "reason": {text}},
			{"user": {who.user}, "uid": {uid}, "do": {"email"}, "email": {text}},
			{"user": {who.user}, "uid": {uid}, "do": {"delete"}, "confirm": {text}},
		} {
			check(fmt.Sprintf("POST account %v", f), admin.send(t, "/admin/account", f))
		}
		for path, fields := range map[string][]url.Values{
			"/admin/": {{"signups": {text}}, {"signups": {"open"}, "note": {text}}, {"signups": {"open"},
				"reason": {text}}},
			"/admin/bulk": {
				{"do": {"start"}, "action": {text}, "text": {"a"}}, {"do": {"start"}, "action": {"disable"},
					"text": {text}},
				{"do": {"run"}, "id": {text}, "count": {text}}, {"do": {text}, "id": {strings.Repeat("a", 32)}},
			},
			"/admin/changes":  {{"user": {text}}, {"reason": {text}}, {"net": {text}}},
			"/admin/messages": {{"do": {"retry"}, "id": {text}}, {"do": {text}, "id": {strings.Repeat("a", 32)}}},
			"/admin/settings": {{"version": {text}}, {"product": {text}}, {"about": {text}}, {"terms_url": {text}}},
			"/admin/preview":  {{"product": {text}}, {"about": {text}}, {"accent": {text}}},
		} {
			for _, f := range fields {
				check(fmt.Sprintf("POST %s %v", path, f), admin.send(t, path, f))
			}
		}
	}
	for _, path := range []string{"/admin/", "/admin/accounts", "/admin/account", "/admin/changes",
		"/admin/settings", "/admin/bulk"} {
		for _, method := range []string{"PUT", "DELETE", "PATCH", "TRACE", "HEAD", "OPTIONS", "BREW"} {
			check(method+" "+path, admin.do(t, method, path, "", "Cookie", admin.cookies))
		}
		for kind, body := range map[string]string{
			"application/json": `{"do":"disable"}`, formType: strings.Repeat("a=b&", 10_000),
			"text/plain":                  "do=disable",
			formType + "; charset=utf-16": "do=disable", "multipart/form-data; boundary=x": "--x\r\n\r\n--x--",
			"": "do=disable",
		} {
			check("POST "+path+" as "+kind, admin.do(t, "POST", path, body, "Content-Type", kind, "Cookie",
				admin.cookies,
				"Sec-Fetch-Site", "same-origin", "Accept", "text/html"))
		}
		check("twice "+path, admin.do(t, "POST", path, "do=disable&do=delete&user=a&user=b", "Content-Type",
			formType, "Cookie",
			admin.cookies, "Sec-Fetch-Site", "same-origin", "Accept", "text/html"))
		check("query "+path, admin.do(t, "POST", path+"?do=delete", "", "Content-Type", formType, "Cookie",
			admin.cookies))
	}
	if requests < 300 {
		t.Errorf("only %d requests", requests)
	}
	if a := s.find(t, who); a.State() != account.Active || a.Role != account.Guest {
		t.Errorf("the account is %+v", a)
	}
	if strings.Contains(s.Log.String(), "panic") {
		t.Error("a handler panicked")
	}
}
