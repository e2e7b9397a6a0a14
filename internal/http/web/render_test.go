package web

import (
	"cmp"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"html"
	"io/fs"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"dialtone/internal/http/answer"
	"dialtone/internal/i18n"
	"dialtone/internal/operator"
	"dialtone/internal/provision"
	"dialtone/internal/tenant"
)

const hostile = `"><img src=x onerror=alert(1)></script></title><!--'` + "\u2028`"

func mustPages(t *testing.T) *pages {
	t.Helper()
	p, err := newPages(mustAssets(t), allLanguages()...)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func allLanguages() (list []*i18n.Words) {
	for _, t := range i18n.Tags {
		list = append(list, i18n.In(t))
	}
	return list
}

// view is a page and its data.
type view struct {
	page string
	data any
}

// allPages returns each page in each of its states, with text in every place that shows a value.
func allPages(text string) map[string]view {
	f := frame{Product: text, Host: text, Realm: text, Brand: brand{
		About: text, Welcome: text, Links: []brandLink{{"layout.terms", text}, {"layout.support", text}},
	}}
	linphone := setup{
		Program: "linphone", Code: &qrCode{Size: 25, Path: "M4 4h1v1h-1z"}, Link: text,
		Open: opener(provision.Linphone, text), Stores: stores[provision.Linphone], Seconds: 840,
	}
	in := f
	in.SignedIn = text
	views := map[string]view{
		"home":           {"home", homePage{f}},
		"signup":         {"signup", signupPage{frame: f, MailFrom: text}},
		"signup confirm": {"signup", signupPage{frame: f, MailFrom: text, Confirm: true}},
		"login":          {"login", loginPage{frame: f, Next: "/account.html", Passkeys: true}},
		"account": {
			"account",
			accountPage{
				frame: in, Name: text, Email: text,
				SIP:   sipSettings{User: text, Domain: text, Realm: text, Server: text, Transport: text},
				Phone: &linphone, Others: []string{"zoiper", "acrobits"}, Tools: []string{"baresip", "jssip"},
				Asked: &phoneLookups{[]listedPhoneServer{{Name: text}}}, TwoStep: true, Passkeys: 20,
				Operator: true,
			},
		},
		"account unasked": {"account", accountPage{frame: in, Asked: &phoneLookups{}}},
		"password":        {"password", passwordPage{frame: in, Name: text, Email: text}},
		"two-step":        {"two-step", twoStepView{frame: in}},
		"two-step on":     {"two-step", twoStepView{frame: in, On: true, Codes: 3}},
		"two-step needed": {"two-step", twoStepView{frame: in, Required: true}},
		"sessions": {"sessions", sessionsView{in, []listedSession{
			{ID: text, Browser: text, System: text, Net: text, Current: true}, {ID: text, Browser: text}, {},
		}}},
		"passkeys": {"passkeys", passkeysView{frame: in, Offered: true, Passkeys: []listedPasskey{
			{ID: text, Name: text, Used: time.Now()}, {ID: text, Name: text, Synced: true, Usable: true},
		}, Suggested: text}},
		"no passkeys":    {"passkeys", passkeysView{frame: in}},
		"one session":    {"sessions", sessionsView{in, []listedSession{{Current: true}}}},
		"home signed in": {"home", homePage{in}},
		"signed in":      {"signedin", signedInPage{in}},
		"scan": {"provision", provisionPage{
			frame: in, setup: linphone,
		}},
		"copied": {"provision", provisionPage{frame: in, setup: setup{Program: "baresip"}, Text: text}},
		"error":  {"error", errorPage{frame: f, Status: 500, Key: "error.server_error", Request: text}},
		"gone":   {"error", errorPage{frame: f, Status: 404, Key: "error.gone", Request: text}},
		"devmail": {"devmail", devMailPage{f, []devMail{{
			File: text, From: text, To: text, Date: text, Subject: text, Text: text, Link: text, Button: text,
		}, {}}}},
		"switch":  {"home", homePage{frame{Product: text, Host: text, Switch: true}}},
		"no mail": {"devmail", devMailPage{frame: f}},

		"forgot":        {"forgot", forgotPage{f}},
		"reset":         {"reset", resetPage{frame: f, Users: []string{text}, Kept: []string{text}}},
		"reset first":   {"reset", resetPage{frame: f, Users: []string{text}, First: true}},
		"closed":        {"closed", closedPage{f, text}},
		"closed silent": {"closed", closedPage{f, ""}},
		"reset several": {"reset", resetPage{frame: f, Users: []string{text, text + text}}},
		"reset lost":    {"reset", resetPage{frame: f}},
		"notme": {"notme", notMePage{
			frame: f, User: text, Email: text, Stays: true, App: true, Passkeys: 1, Codes: true,
		}},
		"notme lost": {"notme", notMePage{frame: f}},

		"account next":    {"account", accountPage{frame: in, Name: text, Email: text, Next: true}},
		"account changed": {"account", accountPage{frame: in, Email: text, Next: true, Changed: true}},
		"profile":         {"profile", profilePage{frame: in, Name: text, Email: text, Lang: i18n.German}},
		"profile saved": {"profile", profilePage{
			frame: in, Name: text, Email: text, Lang: i18n.German, Saved: true,
		}},
		"confirmemail":       {"confirmemail", confirmEmailPage{frame: f, User: text, Email: text}},
		"confirm email lost": {"confirmemail", confirmEmailPage{frame: f}},
		"leave":              {"leave", leavePage{frame: in, Email: text, Days: 400}},
		"stay":               {"stay", stayPage{frame: f, User: text}},
		"stay lost":          {"stay", stayPage{frame: f}},
	}
	maps.Copy(views, adminViews(in, text))
	for _, state := range activationStates {
		views["activation "+string(state)] = view{"activation", activationPage{
			frame: f, State: state, User: text, Expired: text,
		}}
	}
	for _, state := range declineStates {
		views["decline "+string(state)] = view{"decline", declinePage{frame: f, State: state, Token: text}}
	}
	return views
}

var declineStates = []declineState{
	declineAsk, declineDone, declineActive, declineHeld, declineGone, declineTrouble,
}

var activationStates = []activationState{
	activationDone, activationAlready, activationExpired, activationInvalid, activationReplaced, activationTrouble,
	activationUnopened, activationHeld, activationConfirm,
}

// TestPagesParse checks every page, since a server parses each when it is first rendered.
func TestPagesParse(t *testing.T) {
	for key, parse := range mustPages(t).byName {
		if _, err := parse(); err != nil {
			t.Errorf("%v: %v", key, err)
		}
	}
}

func TestRender(t *testing.T) {
	p := mustPages(t)
	for _, words := range allLanguages() {
		for name, v := range allPages("plain") {
			t.Run(string(words.Tag)+" "+name, func(t *testing.T) {
				out, err := p.render(words.Tag, v.page, v.data)
				if err != nil {
					t.Fatal(err)
				}
				page := string(out)
				for _, want := range []string{
					"<!doctype html>", `<html lang="` + string(words.Tag) + `" dir="` + words.Dir + `">`,
					"<title>", "<h1", "<main", "</html>",
				} {
					if !strings.Contains(page, want) {
						t.Errorf("the page does not contain %s", want)
					}
				}
				for _, never := range []string{
					"ZgotmplZ", "<style", " style=", " onclick=", "javascript:", `src="http`,
					`<link rel="stylesheet" href="http`,
					" pattern=", // browsers do not say which format they want
				} {
					if strings.Contains(page, never) {
						t.Errorf("the page contains %q", never)
					}
				}
				if v.page == "activation" && !strings.Contains(page, `content="noindex"`) {
					t.Error("a page that a link leads to may be indexed")
				}
				if rest := regexp.MustCompile(`[{}*]|\[\w`).
					FindString(textsBlock.ReplaceAllString(page, "")); rest != "" {
					t.Errorf("an unexpanded mark is left: %q", rest)
				}
			})
		}
	}
}

func TestRenderEscapes(t *testing.T) {
	p := mustPages(t)
	for _, tag := range i18n.Tags {
		for name, v := range allPages(hostile) {
			t.Run(string(tag)+" "+name, func(t *testing.T) {
				out, err := p.render(tag, v.page, v.data)
				if err != nil {
					t.Fatal(err)
				}
				if strings.Contains(string(out), "<img src=x") {
					t.Errorf("markup was not escaped:\n%s", out)
				}
				charts := strings.Count(string(out), `<title id="chart-title">`)
				if strings.Count(string(out), "</title>") != 1+charts {
					t.Error("the title has an end tag in it")
				}
			})
		}
	}
}

var textsBlock = regexp.MustCompile(`(?s)<script type="application/json" id="texts">(.*?)</script>`)

// textsOf returns the texts that a page has for its scripts.
func textsOf(t *testing.T, p *pages, tag i18n.Tag, page string) map[string]string {
	t.Helper()
	v := allPages(hostile)[page]
	out, err := p.render(tag, v.page, v.data)
	if err != nil {
		t.Fatal(err)
	}
	match := textsBlock.FindSubmatch(out)
	if match == nil {
		t.Fatalf("%s has no block of texts", page)
	}
	texts := map[string]string{}
	if err := json.Unmarshal(match[1], &texts); err != nil {
		t.Fatalf("the texts of %s: %v\n%s", page, err, match[1])
	}
	return texts
}

func TestScriptTexts(t *testing.T) {
	p, a, found := mustPages(t), mustAssets(t), 0
	said := regexp.MustCompile(`(?:\b(?:say|show|showInvalid)\(|\bwrite\(\w+, |\badd\("\w+", )"(\w+)"`)
	for _, page := range []string{
		"signup", "login", "account", "password", "activation done", "activation confirm",
		"forgot", "reset", "notme", "profile", "confirmemail",
	} {
		module := map[string]string{
			"activation done": "activation.js", "activation confirm": "confirm.js", "password": "changepassword.js",
			"two-step": "two-step.js", "two-step on": "two-step.js", "two-step needed": "two-step.js",
		}[page]
		if module == "" {
			module = page + ".js"
		}
		texts := textsOf(t, p, i18n.French, page)
		x, _ := a.lookup(a.url(module))
		for _, key := range said.FindAllSubmatch(x.plain(), -1) {
			found++
			if texts[string(key[1])] == "" {
				t.Errorf("%s says %q, and %s has no such text", module, key[1], page)
			}
		}
	}
	if found < 50 {
		t.Errorf("only %d texts were found in the scripts", found)
	}
}

// TestRuleTexts checks that every rule in the program's source that refuses an input has a text on
// the page.
func TestRuleTexts(t *testing.T) {
	texts := textsOf(t, mustPages(t), i18n.English, "signup")
	inputs := map[string][]string{
		"user":  {"user"},
		"name":  {"name"},
		"email": {"email"},
		"ha1":   {"password"},
		"":      {"user", "name", "email"},
	}
	count := 0
	literal := func(e ast.Expr) string {
		if l, ok := e.(*ast.BasicLit); ok {
			return strings.Trim(l.Value, `"`)
		}
		return ""
	}
	for _, pattern := range []string{"../../account/*.go", "../form/*.go", "*.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			tree, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(tree, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok || len(call.Args) < 2 {
					return true
				}
				name, ok := call.Fun.(*ast.SelectorExpr)
				if !ok {
					return true
				}
				field := literal(call.Args[0])
				switch name.Sel.Name {
				case "Rule":
					count++
					rule := literal(call.Args[1])
					if rule == "common" || rule == "same" { // of one of the three hashes
						field = "ha1"
					}
					for _, input := range inputs[field] {
						if texts[input+"_"+rule] == "" {
							t.Errorf("the sign-up page has no text for the rule %s of %s", rule, input)
						}
					}
				case "Field":
					if field == "user" || field == "name" || field == "email" {
						t.Errorf("%s is refused without a rule: %s", field, literal(call.Args[1]))
					}
				}
				return true
			})
		}
	}
	if count < 30 {
		t.Errorf("only %d rules were found", count)
	}
}

// TestUnusedTexts checks that every text for pages is used on a page.
func TestUnusedTexts(t *testing.T) {
	used := map[string]bool{"language": true, "direction": true, "layout.operator": true}
	files, err := fs.Glob(pageFiles, "pages/*.html")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := pageFiles.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, key := range regexp.MustCompile(`(?:say|setting) "([\w.]+)"`).FindAllSubmatch(text, -1) {
			used[string(key[1])] = true
		}
	}
	for _, state := range activationStates {
		used["activation."+string(state)] = true
	}
	for _, state := range declineStates {
		used["decline."+string(state)] = true
	}
	for _, key := range []string{"error.other", "error.gone"} { // for kinds without a text, and for a used link
		used[key], used[key+"_text"] = true, true
	}
	links := tenant.Settings{TermsURL: "x", PrivacyURL: "x", ImprintURL: "x", Support: "x"}
	for _, link := range newTenantBrand(&tenant.Tenant{Settings: links}).brand.Links {
		used[link.Label] = true
	}
	used["provision."+string(provision.JsSIP)] = true
	used["sessions.on"], used["sessions.unknown"], used["admin.more_than"] = true, true, true
	for _, k := range answer.Kinds() {
		used["error."+k.Code], used["error."+k.Code+"_text"] = true, true
	}
	named := regexp.MustCompile(
		`^admin\.(?:nav_|(?:act|actor|bad|bulk|choice|count|do|done|group|group_all|hint|lead|mail|mail_kind|month|` +
			`preview_page|problem|role|set|state|subject|value)\.|(?:before|after|before_after|same)$)`)
	for _, key := range i18n.In(i18n.English).Keys() {
		if named.MatchString(key) { // by what a page shows
			continue
		}
		if !used[key] && !strings.Contains(key, ".say.") && !strings.HasPrefix(key, "message.") &&
			!strings.HasPrefix(key, "date.") {
			t.Errorf("%s is not used on any page", key)
		}
	}
}

// TestLimitTexts checks that each page contains the texts for the limits that may refuse its forms.
func TestLimitTexts(t *testing.T) {
	p := mustPages(t)
	for page, keys := range map[string][]string{
		"password": {"rate_password"},
		"reset":    {"rate_password"},
		"profile":  {"rate_changes", "rate_email"},
		"passkeys": {"rate_changes", "rate_factors"},
		"two-step": {"rate_changes", "rate_factors", "rate_codes"},
		"notme":    {"rate_link"},
	} {
		out, err := p.render(i18n.English, page, allPages("plain")[page].data)
		if err != nil {
			t.Fatal(err)
		}
		for _, key := range keys {
			if !strings.Contains(string(out), `"`+key+`":`) || !strings.Contains(string(out), `"`+key+`_open":`) {
				t.Errorf("%s has no text %s", page, key)
			}
		}
	}
}

func TestForms(t *testing.T) {
	p := mustPages(t)
	for _, page := range []string{
		"signup", "login", "password", "activation done", "activation already", "activation confirm",
		"reset", "profile",
	} {
		out, err := p.render(i18n.English, allPages("plain")[page].page, allPages("plain")[page].data)
		if err != nil {
			t.Fatal(err)
		}
		passwords := regexp.MustCompile(`<input id="(?:password|current)"[^>]*>`).FindAllString(string(out), -1)
		if len(passwords) != strings.Count(string(out), `type="password"`) || len(passwords) == 0 {
			t.Errorf("%s: password fields are %q", page, passwords)
		}
		for _, password := range passwords {
			if strings.Contains(password, "name=") || strings.Contains(password, "maxlength") {
				t.Errorf("%s: password field is %q", page, password)
			}
		}
		submit := regexp.MustCompile(`<button[^>]*type="submit" id="submit"[^>]*>`).FindString(string(out))
		if !strings.Contains(submit, " disabled") {
			t.Errorf("%s: the form could be sent without its script: %s", page, submit)
		}
		if strings.Contains(string(out), "placeholder") {
			t.Errorf("%s has a placeholder", page)
		}
	}
}

// TestFormActions checks that every form posts to a route that accepts POST.
func TestFormActions(t *testing.T) {
	site, err := New(Deps{Operators: operator.NewService(operator.Deps{})})
	if err != nil {
		t.Fatal(err)
	}
	forms := regexp.MustCompile(`<form[^>]* method="post" action="([^"?]*)`)
	searches := regexp.MustCompile(`<form[^>]* method="get" action="([^"?]*)`)
	for name, v := range allPages("plain") {
		out, err := site.pages.render(i18n.English, v.page, v.data)
		if err != nil {
			t.Fatal(err)
		}
		found := forms.FindAllSubmatch(out, -1)
		search := searches.FindAllSubmatch(out, -1)
		for _, form := range search {
			if site.table[string(form[1])].get == nil {
				t.Errorf("%s searches at %s, which has no such route", name, form[1])
			}
		}
		if len(found)+len(search) != strings.Count(string(out), "<form") {
			t.Errorf("%s has a form without method and action", name)
		}
		for _, form := range found {
			if site.table[string(form[1])].post == nil {
				t.Errorf("%s posts to %s, which has no such route", name, form[1])
			}
		}
	}
}

// statesWithUser are the states in which the page may name the user.
var statesWithUser = []activationState{activationDone, activationAlready, activationConfirm}

func TestActivationPage(t *testing.T) {
	p := mustPages(t)
	login, signup, again := `href="/login.html"`, `href="/signup.html"`, `href=""`
	tests := map[activationState]struct {
		heading  string
		has, not []string
	}{
		activationDone: {
			"Account activated",
			[]string{login, `data-user="alex"`, `value="alex"`, `data-next="/account.html?next=phone"`},
			[]string{again},
		},
		activationAlready: {
			"Your account is already active",
			[]string{login, `data-user="alex"`, `value="alex"`, `data-next="/account.html?next=phone"`},
			[]string{again},
		},
		activationExpired:  {"This link has expired", []string{signup, "1 May 2026"}, []string{again}},
		activationInvalid:  {"This link does not work", []string{signup}, []string{again}},
		activationReplaced: {"There is a newer link", nil, []string{again, login}},
		activationTrouble:  {"Your account is not active yet", []string{again}, []string{login, signup, "<script"}},
		activationUnopened: {"Activate your account", []string{again}, []string{login, signup, "<script"}},
		activationHeld:     {"This account is disabled", []string{"phone.test"}, []string{login, signup, again}},
		activationConfirm: {
			"Activate your account",
			[]string{`value="alex"`, `action="/activate.ashx"`, signup, "or ask the operator of"},
			[]string{again, "token"},
		},
	}
	for _, state := range activationStates {
		t.Run(string(state), func(t *testing.T) {
			data := activationPage{frame: frame{Product: "Dialtone", Host: "phone.test"}, State: state}
			if slices.Contains(statesWithUser, state) {
				data.User = "alex"
			}
			if state == activationExpired {
				data.Expired = "1 May 2026"
			}
			out, err := p.render(i18n.English, "activation", data)
			if err != nil {
				t.Fatal(err)
			}
			page, want := strings.ReplaceAll(string(out), "<wbr>", ""), tests[state]
			if !strings.Contains(page, "<h1>"+want.heading+"</h1>") {
				t.Errorf("heading %q is missing", want.heading)
			}
			if !strings.Contains(page, "<title>"+want.heading+" – Dialtone</title>") {
				t.Errorf("the title is not %q", want.heading)
			}
			for _, has := range want.has {
				if !strings.Contains(page, has) {
					t.Errorf("%s is missing", has)
				}
			}
			for _, not := range want.not {
				if strings.Contains(page, not) {
					t.Errorf("the page contains %s", not)
				}
			}
		})
	}
}

func TestUnknownPage(t *testing.T) {
	if _, err := mustPages(t).render(i18n.English, "layout", homePage{}); err == nil {
		t.Error("the layout was rendered without a page")
	}
}

func TestDevMailLinkScheme(t *testing.T) {
	data := devMailPage{Messages: []devMail{{Link: "javascript:alert(1)"}}}
	out, err := mustPages(t).render(i18n.English, "devmail", data)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(html.UnescapeString(string(out)), `href="javascript:`) {
		t.Error("a javascript: URL became a link")
	}
}

// TestAdminBacklog checks that the home page and that of messages show how many messages wait, were deferred and
// failed, and the time of the oldest one.
func TestAdminBacklog(t *testing.T) {
	p := mustPages(t)
	mail := operator.MailBacklog{
		Waiting: 3, Deferred: 20, Failed: 1, Oldest: time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC),
	}
	row := regexp.MustCompile(`<dd>(?:<time datetime="([^"]*)"[^>]*>)?([^<]*)`)
	views := adminViews(frame{}, "")
	home, messages := views["admin home"].data.(homeView), views["admin messages"].data.(messagesView)
	home.Mail, messages.Mail = mail, mail
	for page, data := range map[string]any{"admin-home": home, "admin-messages": messages} {
		out, err := p.render(i18n.English, page, data)
		if err != nil {
			t.Fatal(err)
		}
		list := regexp.MustCompile(`(?s)<h2 id="(?:mail|backlog)">.*?</dl>`).FindString(string(out))
		var values []string
		for _, m := range row.FindAllStringSubmatch(list, -1) {
			values = append(values, cmp.Or(m[1], m[2]))
		}
		if got := strings.Join(values, " "); got != "3 20 1 2026-11-28T12:00:00Z" {
			t.Errorf("%s shows %q", page, got)
		}
	}
}
