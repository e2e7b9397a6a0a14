package main

import (
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"dialtone/internal/i18n"
)

// speaks sets the language that the browser requests.
func (b *browser) speaks(tag i18n.Tag) {
	b.t.Helper()
	agent := b.get(`navigator.userAgent`)
	if _, err := chromedp.Call(b.ctx, emulation.SetUserAgentOverride,
		emulation.SetUserAgentOverrideParams{UserAgent: agent,
			AcceptLanguage: string(tag)}); err != nil {
		b.t.Fatal(err)
	}
}

// TestBrowserLanguages signs up in other languages: one that the browser requests, and one that is
// chosen on the page. It leaves the states of pages that TestAccessibilityInEveryLanguage checks to that.
func TestBrowserLanguages(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	p := start(t, launch{data: data, flags: []string{"--dev"}})
	command(t, "tenant", "set", "localhost", "--public-url", p.base, "--product", "Example Phones",
		"--data", data)
	b := newBrowser(t, p.base)
	for _, c := range []struct {
		tag     i18n.Tag
		browser i18n.Tag
		name    string
	}{{i18n.German, i18n.German, "Jürgen Groß"}, {i18n.Arabic, i18n.English, "مريم الحسن"}} {
		w := i18n.In(c.tag)
		user := "user-" + string(c.tag)
		title := func(key string) string {
			return `document.querySelector("h1:not([hidden] *)")?.textContent === ` +
				quoted(w.Text(key))
		}
		b.speaks(c.browser)
		b.step(w.Name+": the pages are in the language", func() {
			b.visit("/")
			if c.tag != c.browser {
				b.click("#language")
				b.shots(string(c.tag) + "-languages")
				b.click(`#languages a[lang="` + string(c.tag) + `"]`)
			}
			b.until(title("home.heading"))
			b.want(`document.documentElement.lang + " " + document.documentElement.dir + " " +
				getComputedStyle(document.body).direction`, string(c.tag)+" "+w.Dir+" "+w.Dir)
			b.shots(string(c.tag) + "-home")
			b.click(`.hero a.button`)
		})
		b.step(w.Name+": signing up", func() {
			b.until(title("signup.title") +
				` && document.getElementById("submit")?.disabled === false && /\d \+ \d/.test(question.textContent)`)
			b.check(string(c.tag) + " signup")
			b.click("#submit")
			b.until(`!summary.hidden`)
			b.shots(string(c.tag) + "-empty")
			b.fill("user", user, "name", c.name, "email", user+"@example.org", "password", secretWords)
			b.answer()
			b.shots(string(c.tag) + "-signup")
			b.click("#submit")
			b.until(`!sent.hidden && document.activeElement.id === "sent-title"`)
			b.want(`document.getElementById("sent-title").textContent`, w.Text("signup.sent_title"))
			b.click("#wrong summary")
			b.check(string(c.tag) + " sent")
			b.shots(string(c.tag) + "-sent")
		})
		b.step(w.Name+": the message and the page of its link are in the language", func() {
			b.visit("/dev/mail")
			subject := quoted(w.Text("message.subject", "platform", "Example Phones"))
			b.want(`[...document.querySelectorAll("article h2")].filter(e => e.textContent === `+subject+
				`).length`, "1")
			text := b.get(messageWith(user) + `.querySelector("pre").innerText`)
			if !strings.Contains(text, w.Text("message.open")) {
				t.Errorf("the message says %s", text)
			}
			b.do(messageWith(user) + `.querySelector("a").click()`)
			b.until(title("activation.done") + ` && !location.href.includes("token")`)
			b.check(string(c.tag) + " activated")
			b.shots(string(c.tag) + "-activated")
		})
		b.step(w.Name+": signing in there, and out", func() {
			b.until(`document.getElementById("submit")?.disabled === false`)
			b.want(`user.value`, user)
			b.fill("password", "another password")
			b.click("#submit")
			b.until(`!summary.hidden`)
			b.want(`document.getElementById("summary-list").innerText`, w.Text("login.say.wrong"))
			b.check(string(c.tag) + " login, wrong")
			b.shots(string(c.tag) + "-login")
			b.fill("password", secretWords)
			b.click("#submit")
			b.until(`location.pathname === "/account.html" && document.activeElement.id === "phone"`)
			b.want(`document.activeElement.innerText`, w.Text("account.phone_next"))
			b.want(`document.querySelector("h1").textContent`, w.Text("account.hello", "name", c.name))
			b.check(string(c.tag) + " account")
			b.shots(string(c.tag) + "-account")
			b.click(`form[action^="/signout.ashx"] button`)
			b.until(title("login.title"))
		})
	}
	b.end()
	p.mustStop(t)
}

// TestAccessibilityInEveryLanguage checks the accessibility of the main pages in all languages: in
// English in both colour schemes, and in the other languages in one of them in turn.
func TestAccessibilityInEveryLanguage(t *testing.T) {
	t.Parallel()
	p := start(t, launch{data: t.TempDir()})
	b := newBrowser(t, p.base)
	schemes := b.schemes
	for i, tag := range i18n.Tags {
		if tag != i18n.English {
			b.schemes = schemes[i%2 : i%2+1]
		}
		for _, path := range []string{"/", "/signup.html", "/login.html", "/activate.ashx?token=x", "/activated.html",
			"/decline.html?link=x", "/nothing"} {
			b.speaks(tag)
			b.visit(path)
			b.until(`document.documentElement.lang === ` + quoted(string(tag)) +
				` && document.readyState === "complete"`)
			b.do(`document.getElementById("language-list")?.showPopover()`)
			b.do(`document.getElementById("submit")?.click()`)
			b.check(string(tag) + " " + path)
		}
	}
	b.end()
}

// quoted returns text as a JavaScript string.
func quoted(text string) string { return "`" + text + "`" }
