package web_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"dialtone/internal/i18n"
	"dialtone/internal/mailmsg"
)

var htmlTag = regexp.MustCompile(`<html lang="([\w-]+)" dir="(\w+)">`)

// pageLanguage returns the language that a page declares.
func pageLanguage(t *testing.T, a answer) i18n.Tag {
	t.Helper()
	m := htmlTag.FindStringSubmatch(a.body)
	if m == nil {
		t.Fatalf("status %d, and no page: %.200q", a.status, a.body)
	}
	if want := i18n.In(i18n.Tag(m[1])).Dir; m[2] != want {
		t.Errorf("the direction of %s is %s, want %s", m[1], m[2], want)
	}
	return i18n.Tag(m[1])
}

func TestPageLanguage(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	v := s.visitor("a.test")
	for _, c := range []struct {
		name, query, accept string
		want                i18n.Tag
		chosen              bool
	}{
		{"no header", "", "", i18n.English, false},
		{"one language", "", "de", i18n.German, false},
		{"a regional one", "", "fr-CA", i18n.French, false},
		{"upper case", "", "AR", i18n.Arabic, false},
		{"second choice", "", "pt-BR,es;q=0.8,en;q=0.5", i18n.Spanish, false},
		{"by weight, not by order", "", "en;q=0.1,de;q=0.9", i18n.German, false},
		{"a related language", "", "gsw", i18n.German, false},
		{"unsupported", "", "ja", i18n.English, false},
		{"any", "", "*", i18n.English, false},
		{"weight of zero", "", "de;q=0,es", i18n.Spanish, false},
		{"malformed", "", "};?\x80,,;q=q", i18n.English, false},
		{"a very long list", "", "ar," + strings.Repeat("de,", 1000), i18n.Arabic, false},
		{"one very long tag", "", strings.Repeat("de-", 1000), i18n.English, false},
		{"chosen", "?lang=ar", "", i18n.Arabic, true},
		{"chosen, not the browser's", "?lang=es", "de", i18n.Spanish, true},
		{"chosen and the browser's", "?lang=de", "de", i18n.German, true},
		{"chosen among other parameters", "?x=1&lang=fr&y", "de", i18n.French, true},
		{"unsupported choice", "?lang=ja", "de", i18n.German, false},
		{"an empty choice", "?lang=", "fr", i18n.French, false},
		{"a choice with markup", "?lang=%22%3E%3Cimg", "fr", i18n.French, false},
		{"another parameter", "?language=ar", "fr", i18n.French, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, path := range []string{"/", "/signup.html", "/login.html", "/nothing/here"} {
				headers := []string{"Accept", "text/html"}
				if c.accept != "" {
					headers = append(headers, "Accept-Language", c.accept)
				}
				a := v.get(t, path+c.query, headers...)
				if got := pageLanguage(t, a); got != c.want {
					t.Errorf("%s is in %s, want %s", path, got, c.want)
				}
				carried := strings.Contains(a.body, `html?lang=`+string(c.want)+`"`) ||
					strings.Contains(a.body, `"/?lang=`+string(c.want)+`"`)
				if carried != c.chosen {
					t.Errorf("the links of %s keep the language: %v, want %v", path, carried, c.chosen)
				}
			}
		})
	}
}

func TestPageCacheByLanguage(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	v := s.visitor("a.test")
	tags := map[string]string{}
	for _, c := range []string{"en", "de", "fr", "es", "ar"} {
		for _, query := range []string{"", "?lang=" + c} {
			a := v.get(t, "/signup.html"+query, "Accept-Language", c)
			a.wantStatus(t, 200)
			if got := a.header.Values("Vary"); len(got) != 1 || got[0] != "Accept-Encoding, Accept-Language" {
				t.Errorf("%s: Vary is %q", c, got)
			}
			etag := a.header.Get("ETag")
			if other, ok := tags[etag]; ok {
				t.Errorf("%s%s and %s have the same ETag", c, query, other)
			}
			tags[etag] = c + query
			v.get(t, "/signup.html"+query, "Accept-Language", c, "If-None-Match", etag).wantStatus(t, 304)
			other := map[string]string{"en": "de"}[c] + "es"
			v.get(t, "/signup.html"+query, "Accept-Language", other, "If-None-Match", `"x"`).wantStatus(t, 200)
			if cookies := a.header.Values("Set-Cookie"); len(cookies) != 0 {
				t.Errorf("a public page sets %q", cookies)
			}
		}
		if german := tags[v.get(t, "/signup.html", "Accept-Language", c).header.Get("ETag")]; german != c {
			t.Errorf("%s is cached as %s", c, german)
		}
	}
}

func TestLanguageMenu(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	who := s.active(t, "a.test")
	v := s.visitor("a.test")
	cookies := v.signIn(t, who.user, who.password).cookies()
	for _, path := range []string{
		"/", "/signup.html", "/login.html", "/account.html", "/sessions.html", "/leave.html",
	} {
		a := v.get(t, path+"?lang=de", "Cookie", cookies)
		a.wantStatus(t, 200)
		for _, tag := range i18n.Tags {
			w := i18n.In(tag)
			current := ""
			if tag == i18n.German {
				current = ` aria-current="true"`
			}
			want := fmt.Sprintf(`<a href="?lang=%s" lang="%s" hreflang="%s"%s><bdi>%s</bdi></a>`,
				tag, tag, tag, current, w.Name)
			if strings.Count(a.body, want) != 1 {
				t.Errorf("%s does not have %s", path, want)
			}
		}
	}
	if a := v.get(t, "/account.html?lang=de"); a.status != 303 ||
		a.header.Get("Location") != "/login.html?lang=de" {
		t.Errorf("the redirect to sign-in is %d to %s", a.status, a.header.Get("Location"))
	}
	// The requested personal page follows after signing in, and is kept when the language is
	// changed.
	for page, login := range map[string]string{
		"/password.html?lang=de": "/login.html?lang=de&next=/password.html",
		"/sessions.html":         "/login.html?next=/sessions.html",
	} {
		a := v.get(t, page)
		if a.status != 303 || a.header.Get("Location") != login {
			t.Errorf("the redirect from %s is %d to %s", page, a.status, a.header.Get("Location"))
		}
		path, _, _ := strings.Cut(page, "?")
		body := v.get(t, login).body
		if !strings.Contains(body, `data-next="`+page+`"`) ||
			!strings.Contains(body, `<a href="?lang=fr&amp;next=`+path+`" lang="fr"`) {
			t.Errorf("%s does not lead to %s", login, page)
		}
	}
	for _, next := range []string{
		"", "/", "//evil.test", "https://evil.test/", "/signout.ashx", "javascript:alert(1)",
		"/provision?format=linphone", "/password.html%3Fx", "/password.html/../signout.ashx", "%22%3E%3Cscript%3E",
		"/password.html#x", "/Password.html", "x/password.html",
	} {
		body := v.get(t, "/login.html?next="+strings.ReplaceAll(next, "#", "%23")).body
		if !strings.Contains(body, `data-next="/account.html"`) || strings.Contains(body, "&amp;next=") {
			t.Errorf("next=%s leads to another page", next)
		}
	}
	if a := v.do(t, "POST", "/signout.ashx?lang=ar", "", "Cookie", cookies); a.status != 303 ||
		a.header.Get("Location") != "/login.html?lang=ar#signed-out" {
		t.Errorf("signing out redirects with %d to %s", a.status, a.header.Get("Location"))
	}
}

func TestAccountLanguage(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for _, c := range []struct {
		name, field, accept string // the field is appended to the body
		want                i18n.Tag
	}{
		{"no field and no header", "", "", i18n.English},
		{"field", "&lang=de", "", i18n.German},
		{"field before header", "&lang=ar", "fr", i18n.Arabic},
		{"field with a region", "&lang=es-MX", "", i18n.Spanish},
		{"header", "", "fr-BE,fr;q=0.9", i18n.French},
		{"wildcard header", "", "*", i18n.English},
		{"unsupported", "&lang=ja", "", i18n.English},
		{"unsupported field and supported header", "&lang=ja", "es", i18n.Spanish},
		{"an empty field", "&lang=", "", i18n.English},
		{"field twice", "&lang=de&lang=fr", "", i18n.English},
		{"field not in UTF-8", "&lang=%ff%fe", "", i18n.English},
		{"a control character", "&lang=de%00", "", i18n.English},
		{"very long field", "&lang=de-" + strings.Repeat("x", 5000), "", i18n.German},
	} {
		t.Run(c.name, func(t *testing.T) {
			who := s.newPerson("a.test")
			var headers []string
			if c.accept != "" {
				headers = []string{"Accept-Language", c.accept}
			}
			a := s.visitor("a.test").postBody(t, s.form(t, who).String()+c.field, headers...)
			a.wantJSON(t, 200)
			if want := fmt.Sprintf(`{"ok":true,"user":%q}`, who.user) + "\n"; a.body != want {
				t.Errorf("the answer is %s", a.body)
			}
			if got := s.find(t, who).Lang; got != c.want {
				t.Errorf("the account's language is %s, want %s", got, c.want)
			}
			list := s.messages(t, who.email)
			if len(list) != 1 {
				t.Fatalf("%d messages", len(list))
			}
			m, words := list[0], i18n.In(c.want)
			if got := m.header.Get("Content-Language"); got != string(c.want) {
				t.Errorf("the message says that it is in %s", got)
			}
			if got, want := mailmsg.Decode(m.header.Get("Subject")), words.Text("message.subject",
				"platform", "a.test"); got != want {
				t.Errorf("the subject is %q, want %q", got, want)
			}
			if !strings.Contains(m.text, words.Text("message.open")) {
				t.Errorf("the text is in another language:\n%s", m.text)
			}

			// The page behind the link is in the language of the message, not of the browser.
			browser := i18n.German
			if c.want == browser {
				browser = i18n.French
			}
			link := s.link(t, who.email)
			for i, status := range []int{200, 400} {
				a := s.visitor("a.test").get(t, link, "Accept-Language", string(browser))
				a.wantStatus(t, status)
				if got := pageLanguage(t, a); got != c.want {
					t.Errorf("page %d of the link is in %s", i, got)
				}
				if !strings.Contains(a.body, `href="/login.html?lang=`+string(c.want)+`"`) {
					t.Errorf("page %d links to sign-in in another language", i)
				}
			}
		})
	}
}

func TestExpiredLinkDate(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	who := s.newPerson("a.test")
	s.visitor("a.test").postBody(t, s.form(t, who).String()+"&lang=de").wantStatus(t, 200)
	expires := s.find(t, who).Expires
	link := s.link(t, who.email)
	s.Advance(7*24*time.Hour + time.Minute)
	a := s.visitor("a.test").get(t, link)
	a.wantStatus(t, 400)
	if want := "bis zum " + i18n.In(i18n.German).Day(expires); pageLanguage(t, a) != i18n.German ||
		!strings.Contains(a.body, want) {
		t.Errorf("the page does not say %s", want)
	}
}

// TestAPILanguage checks that endpoints answer in English, also to a German browser.
func TestAPILanguage(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	german := []string{"Accept-Language", "de"}
	v := s.visitor("a.test")
	if got, want := v.postBody(t, s.form(t, s.newPerson("a.test")).with("user=admin").String()+"&lang=de", german...).
		wantError(t, 400, "invalid_request"),
		"user: is reserved for the platform; choose another name"; got != want {
		t.Errorf("the description is %q, want %q", got, want)
	}
	if got := v.postBody(t, "", german...).wantError(t, 400, "invalid_request"); got != missingText {
		t.Errorf("the description is %q", got)
	}
	a := v.get(t, "/captcha.ashx?lang=de", german...)
	a.wantJSON(t, 200)
	if !regexp.MustCompile(`^\{"question":"\d+ \+ \d+",`).MatchString(a.body) {
		t.Errorf("the question is %s", a.body)
	}
	v.do(t, "POST", "/signup.ashx?lang=de", s.form(t, s.newPerson("a.test")).String(), "Content-Type", formType).
		wantError(t, 400, "invalid_request")
}

func TestRuleHeader(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for change, want := range map[string]string{
		"user=admin": "user.kept", "user=adm1n": "user.alike", "user=911": "user.service",
		"user=Alex": "user.upper", "user=_": "user.marks",
		"name=%E2%80%AE": "name.hidden", "name=a%09b": "name.control", "email=a": "email.at",
		"email=a%40b": "email.domain", "ha1=x": "", "captcha_answer=99": "",
	} {
		a := s.visitor("a.test").post(t, s.form(t, s.newPerson("a.test")).with(change))
		if got := a.header.Get("Dialtone-Rule"); a.status != 400 || got != want {
			t.Errorf("%s: %d with the rule %q, want %q", change, a.status, got, want)
		}
	}
	who := s.newPerson("a.test")
	who.password = "password"
	if got := s.visitor("a.test").post(t, s.form(t, who)).header.Get("Dialtone-Rule"); got != "ha1.common" {
		t.Errorf("a common password breaks the rule %q", got)
	}
}

func TestErrorPageLanguage(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	v := s.visitor("a.test")
	words := i18n.In(i18n.German)
	html := []string{"Accept", "text/html", "Accept-Language", "de"}
	for _, c := range []struct {
		method, path, key string
		status            int
	}{
		{"GET", "/nothing", "error.not_found", 404},
		{"PUT", "/login.html", "error.method_not_allowed", 405},
		{"POST", "/signout.ashx", "error.other", 400},
	} {
		headers := html
		if c.status == 400 {
			headers = append([]string{"Sec-Fetch-Site", "cross-site"}, html...)
		}
		a := v.do(t, c.method, c.path, "", headers...)
		a.wantStatus(t, c.status)
		if !strings.Contains(a.body, "<h1>"+words.Text(c.key)+"</h1>") ||
			!strings.Contains(a.body, words.Text(c.key+"_text")) ||
			pageLanguage(t, a) != i18n.German {
			t.Errorf("%s %s does not say %s", c.method, c.path, words.Text(c.key))
		}
	}
	who := s.active(t, "a.test")
	cookies := v.signIn(t, who.user, who.password).cookies()
	s.exec(t, `CREATE TRIGGER broken BEFORE INSERT ON spent BEGIN SELECT RAISE(ABORT, 'no'); END`)
	a := v.do(t, "POST", "/signout.ashx", "", append([]string{"Cookie", cookies}, html...)...)
	a.wantStatus(t, 500)
	if !regexp.MustCompile(`die Anfrage <bdi class="code">\w+</bdi>\.`).MatchString(a.body) ||
		!strings.Contains(a.body, words.Text("error.server_error")) {
		t.Errorf("the page of a 500 is %s", a.body)
	}
}

// TestOwnLanguage checks that a person who is signed in gets the pages in the language of the
// account, unless the address requests another one.
func TestOwnLanguage(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	who := s.active(t, "a.test")
	v := s.visitor("a.test")
	in := []string{"Cookie", v.signIn(t, who.user, who.password).cookies(), "Accept-Language", "en"}
	v.proveForm(t, who, "/profile.ashx", "lang=ar").wantStatus(t, 200)
	for _, path := range []string{
		"/", "/account.html", "/profile.html", "/password.html", "/sessions.html", "/two-step.html", "/passkeys.html",
		"/leave.html", "/login.html", "/forgot.html", "/provision?format=linphone",
	} {
		query := "?"
		if strings.Contains(path, "?") {
			query = "&"
		}
		wantWords(t, v.get(t, path, in...), `<html lang="ar"`)
		wantWords(t, v.get(t, path+query+"lang=de", in...), `<html lang="de"`)
	}
	wantWords(t, v.get(t, "/login.html", "Accept-Language", "en"), `<html lang="en"`)
}
