package web

import (
	"net/url"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"dialtone/internal/i18n"
)

func TestSignUpPageLanguages(t *testing.T) {
	for _, tag := range append([]i18n.Tag{pseudoTag}, i18n.Tags...) {
		t.Run(string(tag), func(t *testing.T) {
			words := i18n.In(tag)
			if tag == pseudoTag {
				var err error
				if words, err = pseudoWords(); err != nil {
					t.Fatal(err)
				}
			}
			say := func(key string, slots ...string) string { return words.Text("signup.say."+key, slots...) }
			s := newPageServer(t)
			s.onSignup(replyRule("user", "kept"), replyRule("email", "domain"),
				withRetryAfter("1500", replyError(429, "rate_limited", "in English")),
				reply(200, `{"ok":true,"user":"alex"}`))
			p := openTab(t, s, "/signup.html?lang="+string(tag))
			p.ready()
			question := eval[string](p, `document.getElementById("question").textContent`)
			if got, want := question, say("question", "sum", "3 + 1"); got != want {
				t.Errorf("the question is %q, want %q", got, want)
			}
			// Only the name's direction follows its text.
			directions := eval[string](p, `["user", "email", "captcha_answer", "name"]
				.map((id) => document.getElementById(id).dir).join()`)
			if directions != "ltr,ltr,ltr,auto" {
				t.Errorf("the directions are %s", directions)
			}
			p.submit()
			want := []string{
				say("user_empty"),
				say("name_empty"),
				say("email_empty"),
				say("password_empty"),
				say("captcha_empty"),
			}
			if got := p.problems(); strings.Join(got, "|") != strings.Join(want, "|") {
				t.Errorf("an empty form: %q, want %q", got, want)
			}
			p.fillAll()
			for _, key := range []string{"user_kept", "email_domain"} {
				p.submit()
				p.wait(`!document.querySelector("form").hasAttribute("aria-busy")`)
				if got := p.problems(); len(got) != 1 || got[0] != say(key) {
					t.Errorf("a refusal: %q, want %q", got, say(key))
				}
			}
			p.submit()
			p.wait(
				`document.querySelectorAll("[aria-invalid]").length === 0 &&
					!document.querySelector("form").hasAttribute("aria-busy")`,
			)
			begin, _, _ := strings.Cut(words.Text("signup.say.rate_limited"), "{wait}")
			if got := p.problems(); len(got) != 1 || !strings.HasPrefix(got[0], begin) ||
				strings.ContainsAny(got[0], "{}٠١٢٣٤٥٦٧٨٩") ||
				!strings.Contains(got[0], "25") || strings.Contains(got[0], "خلال") { // "within"
				t.Errorf("a limit: %q", got)
			}
			p.submit()
			p.wait(`!document.getElementById("sent").hidden`)
			if body := p.body(); !strings.Contains(body, words.Text("signup.sent_title")+" – Dialtone\n") ||
				strings.ContainsAny(body, "{}[]*٠١٢٣٤٥٦٧٨٩") {
				t.Errorf("the page says %s", body)
			}
			sent := s.sent()
			fields, err := url.ParseQuery(sent[len(sent)-1])
			if err != nil || fields.Get("lang") != string(tag) {
				t.Errorf("the form sent the language %q (%v)", fields.Get("lang"), err)
			}
		})
	}
}

func TestLanguageMenuKeepsInput(t *testing.T) {
	p := openTab(t, newPageServer(t), "/signup.html")
	p.fillAll()
	p.do(chromedp.Click(chromedp.ID("language")))
	p.do(chromedp.Click(chromedp.CSS(`#languages a[lang="ar"]`)))
	p.wait(`document.documentElement.lang === "ar" && !document.getElementById("submit").disabled`)
	const typed = `["user", "name", "email", "password"].map((id) => document.getElementById(id).value).join("|")`
	if got := eval[string](p, typed); got != "alex|Álex Müller|alex@example.org|" {
		t.Errorf("the fields hold %q", got)
	}
	if got := eval[string](p, `JSON.stringify(sessionStorage)`); got != "{}" {
		t.Errorf("the tab keeps %s", got)
	}
}
