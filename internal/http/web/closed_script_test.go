package web

import (
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// TestClosedPage shows the page for signing up at a closed tenant in a narrow window.
func TestClosedPage(t *testing.T) {
	s := newPageServer(t)
	p := openTab(t, s, "/", chromedp.EmulateViewport(320, 640))
	for path, texts := range map[string][]string{
		"/signup/closed?lang=de":      {"Zurzeit kann niemand ein Konto anlegen", "keine neuen Konten", "Anmelden"},
		"/signup/closed-note?lang=ar": {"لا يمكن لأحد إنشاء حساب حاليًا", "Back on Monday.", "تسجيل الدخول"},
	} {
		p.do(chromedp.Navigate(s.URL + path))
		for _, text := range texts {
			if body := p.body(); !strings.Contains(body, text) {
				t.Errorf("%s lacks %q:\n%s", path, text, body)
			}
		}
		if n := eval[int](p, `document.querySelectorAll("main form, main input").length`); n > 0 {
			t.Errorf("%s has %d fields", path, n)
		}
		if got := eval[int](p, `document.documentElement.scrollWidth`); got > 320 {
			t.Errorf("%s is %d pixels wide", path, got)
		}
		p.do(chromedp.Click(`main a.button`))
		p.wait(`location.pathname === "/login.html"`)
	}
}
