package web

import (
	"encoding/json"
	"html"
	"regexp"
	"strings"
	"testing"
)

const hostile = `"><img src=x onerror=alert(1)></script></title><!--'` + "\u2028`"

func mustPages(t *testing.T) *pages {
	t.Helper()
	p, err := newPages(mustAssets(t))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// view is a page with its data.
type view struct {
	page string
	data any
}

// everyPage is each page in each of its states, with text in every place that takes any.
func everyPage(text string) map[string]view {
	f := frame{Product: text, Host: text, Realm: text, Contact: text}
	views := map[string]view{
		"home":    {"home", homePage{f}},
		"signup":  {"signup", signupPage{f, text}},
		"login":   {"login", loginPage{f}},
		"account": {"account", accountPage{f, text, text, text, text, sipSettings{text, text, text, text, text, text}, []string{"linphone", "zoiper", "acrobits", "baresip", "jssip"}}},
		"scan":    {"provision", provisionPage{f, "linphone", &qrCode{25, "M4 4h1v1h-1z"}, text, ""}},
		"copied":  {"provision", provisionPage{f, "baresip", nil, "", text}},
		"error":   {"error", errorPage{f, 404, text, text, text, text}},
		"devmail": {"devmail", devMailPage{f, []devMail{{text, text, text, text, text, text, text}, {}}}},
		"titled":  {"home", homePage{frame{Title: text, Lang: text, Dir: text, Product: text, Host: text}}},
		"no mail": {"devmail", devMailPage{f, nil}},
	}
	for _, state := range activationStates {
		views["activation "+string(state)] = view{"activation", activationPage{f, state, text, text}}
	}
	return views
}

var activationStates = []activationState{
	activationDone, activationAlready, activationExpired, activationInvalid, activationReplaced, activationTrouble,
	activationUnopened, activationHeld,
}

func TestPagesRender(t *testing.T) {
	p := mustPages(t)
	for name, v := range everyPage("plain") {
		t.Run(name, func(t *testing.T) {
			out, err := p.render(v.page, v.data)
			if err != nil {
				t.Fatal(err)
			}
			page := string(out)
			for _, want := range []string{"<!doctype html>", "<html lang=", "<title>", "<h1", "<main>", "</html>"} {
				if !strings.Contains(page, want) {
					t.Errorf("there is no %s", want)
				}
			}
			for _, never := range []string{"ZgotmplZ", "<style", " style=", " onclick=", "javascript:", "https://", "http://"} {
				if strings.Contains(page, never) {
					t.Errorf("there is %q", never)
				}
			}
			if v.page == "activation" && !strings.Contains(page, `content="noindex"`) {
				t.Error("a page that a link leads to may be indexed")
			}
		})
	}
}

func TestPagesEscape(t *testing.T) {
	p := mustPages(t)
	for name, v := range everyPage(hostile) {
		t.Run(name, func(t *testing.T) {
			out, err := p.render(v.page, v.data)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(string(out), "<img src=x") {
				t.Errorf("markup came through:\n%s", out)
			}
			if strings.Count(string(out), "</title>") != 1 {
				t.Error("the title was closed from inside")
			}
		})
	}
}

var textsBlock = regexp.MustCompile(`(?s)<script type="application/json" id="texts">(.*?)</script>`)

func TestTextsForScripts(t *testing.T) {
	p, a := mustPages(t), mustAssets(t)
	for page, modules := range map[string][]string{
		"signup":  {"signup.js", "form.js", "password.js"},
		"login":   {"login.js"},
		"account": {"account.js"},
	} {
		out, err := p.render(page, everyPage(hostile)[page].data)
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
		said := regexp.MustCompile(`say\("(\w+)"`)
		for _, module := range modules {
			x, _ := a.lookup(a.url(module))
			for _, key := range said.FindAllSubmatch(x.plain, -1) {
				if texts[string(key[1])] == "" {
					t.Errorf("%s says %q, and %s has no such text", module, key[1], page)
				}
			}
		}
		for key, text := range texts {
			for _, word := range []string{"please", "sorry", "oops", "invalid", "illegal", "forbidden"} {
				if strings.Contains(strings.ToLower(text), word) {
					t.Errorf("%s: text %s has the word %q", page, key, word)
				}
			}
		}
	}
}

func TestFormsKeepTheirPromises(t *testing.T) {
	p := mustPages(t)
	for _, page := range []string{"signup", "login"} {
		out, err := p.render(page, everyPage("plain")[page].data)
		if err != nil {
			t.Fatal(err)
		}
		password := regexp.MustCompile(`<input id="password"[^>]*>`).FindString(string(out))
		if password == "" || strings.Contains(password, "name=") || strings.Contains(password, "maxlength") {
			t.Errorf("%s: password field is %q", page, password)
		}
		if submit := regexp.MustCompile(`<button[^>]*type="submit"[^>]*>`).FindString(string(out)); !strings.Contains(submit, " disabled") {
			t.Errorf("%s: without its script the form could be sent: %s", page, submit)
		}
		if strings.Contains(string(out), "placeholder") {
			t.Errorf("%s has a placeholder", page)
		}
	}
}

func TestActivationStates(t *testing.T) {
	p := mustPages(t)
	login, signup, again := `href="/login.html"`, `href="/signup.html"`, `href=""`
	tests := map[activationState]struct {
		heading  string
		has, not []string
	}{
		activationDone:     {"Account activated", []string{login, `data-user="alex"`}, []string{signup, again}},
		activationAlready:  {"Your account is already active", []string{login, `data-user="alex"`}, []string{signup, again}},
		activationExpired:  {"This link has expired", []string{signup, "1 May 2026"}, []string{again}},
		activationInvalid:  {"This link does not work", []string{signup}, []string{again}},
		activationReplaced: {"There is a newer link", nil, []string{again, login}},
		activationTrouble:  {"Your account is not active yet", []string{again}, []string{login, signup, "<script"}},
		activationUnopened: {"Activate your account", []string{again}, []string{login, signup, "<script"}},
		activationHeld:     {"This account is on hold", []string{"phone.test"}, []string{login, signup, again}},
	}
	for _, state := range activationStates {
		t.Run(string(state), func(t *testing.T) {
			data := activationPage{frame{Product: "Dialtone", Host: "phone.test"}, state, "", ""}
			if state == activationDone || state == activationAlready {
				data.User = "alex"
			}
			if state == activationExpired {
				data.Expired = "1 May 2026"
			}
			out, err := p.render("activation", data)
			if err != nil {
				t.Fatal(err)
			}
			page, want := string(out), tests[state]
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
					t.Errorf("%s is there", not)
				}
			}
		})
	}
}

func TestUnknownPage(t *testing.T) {
	if _, err := mustPages(t).render("layout", homePage{}); err == nil {
		t.Error("the layout alone was rendered")
	}
}

func TestAddressesInMessagesAreLinksOnlyIfTheyAreWeb(t *testing.T) {
	out, err := mustPages(t).render("devmail", devMailPage{Messages: []devMail{{Link: "javascript:alert(1)"}}})
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(html.UnescapeString(string(out)), `href="javascript:`) {
		t.Error("a script became a link")
	}
}
