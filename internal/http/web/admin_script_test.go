package web

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// accessibilityRules returns the script of axe-core.
func accessibilityRules(t *testing.T) string {
	t.Helper()
	axe, err := filepath.Glob("../../../.tools/axe-core-*/axe.min.js")
	if err != nil || len(axe) != 1 {
		t.Fatal("this test needs axe-core: make test fetches it")
	}
	rules, err := os.ReadFile(axe[0])
	if err != nil {
		t.Fatal(err)
	}
	return string(rules)
}

// adminPaths are the paths of the pages for operators on a page server.
func adminPaths() (paths []string) {
	for name := range adminViews(frame{}, "") {
		paths = append(paths, "/"+strings.ReplaceAll(name, " ", "-"))
	}
	slices.Sort(paths)
	return paths
}

// TestAdminPagesLayout opens the pages for operators at 320 pixels in five languages, and checks them with axe-core
// on light and dark screens.
func TestAdminPagesLayout(t *testing.T) {
	s := newPageServer(t)
	rules := accessibilityRules(t)
	p := openTab(t, s, "/error", chromedp.EmulateViewport(320, 640))
	for i, path := range adminPaths() {
		// Each page in three languages, and each language on some pages.
		for j, lang := range []string{[]string{"en", "fr", "es"}[i%3], "de", "ar"} {
			if j == 0 {
				p.do(chromedp.Navigate(s.URL + path + "?lang=" + lang))
			} else {
				p.show(path + "?lang=" + lang)
			}
			for _, problem := range eval[[]string](p, `(() => {
				document.querySelectorAll("details").forEach((e) => { e.open = true; });
				const { scrollWidth } = document.documentElement;
				const problems = [...document.querySelectorAll("button, input, select, .button, .parts a")]
					.filter((e) => e.checkVisibility() && Math.min(e.offsetHeight, e.offsetWidth) < 44)
					.map((e) => "a target below 44 pixels: " + e.outerHTML);
				if (scrollWidth > 320) problems.push("it is " + scrollWidth + " pixels wide");
				const { direction } = getComputedStyle(document.querySelector("h1"));
				if (direction !== "`+map[bool]string{true: "rtl", false: "ltr"}[lang == "ar"]+`") {
					problems.push("it is " + direction);
				}
				return problems;
			})()`) {
				t.Errorf("%s in %s: %s", path, lang, problem)
			}
			shot(p, path+"-320-"+lang)
		}
	}
	p.resize(1280, 900, false)
	// The policy of the settings allows their frame.
	p.do(chromedp.Navigate(s.URL+"/admin-settings"), chromedp.Evaluate[chromedp.Void](rules))
	for j, scheme := range []string{"light", "dark"} {
		for i, path := range adminPaths() {
			if i%2 != j && !strings.HasSuffix(path, "home") && !strings.HasSuffix(path, "account") {
				continue
			}
			if _, err := chromedp.Call(p.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
				Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
			}); err != nil {
				t.Fatal(err)
			}
			script := p.show(path)
			// A module runs once at each address. Its timers would load the page again.
			eval[bool](p, `(async () => {
				const timers = setTimeout;
				window.setTimeout = () => {};
				await import("`+script+"#"+path+`");
				window.setTimeout = timers;
				document.querySelectorAll("details").forEach((e) => { e.open = true; });
				return true;
			})()`)
			found := eval[[]string](p, `axe.run({ exclude: [["iframe"]] }, { iframes: false }).then(({ violations }) =>
				violations.flatMap((v) => v.nodes.map((n) => v.id + ": " + n.html.slice(0, 200))))`)
			for _, v := range found {
				t.Errorf("%s on a %s screen: %s", path, scheme, v)
			}
			shot(p, path+"-"+scheme)
		}
	}
}

// TestAdminKeyboard checks that the first stop leads past the navigation, and that what has just happened has the
// focus: on a page for operators and on one for visitors.
func TestAdminKeyboard(t *testing.T) {
	s := newPageServer(t)
	p := openTab(t, s, "/error", chromedp.EmulateViewport(320, 640))
	for path, next := range map[string]string{
		"/admin-accounts": `.head-line a`, "/sessions.html": `main button, main a`,
	} {
		p.do(chromedp.Navigate(s.URL + path))
		p.wait(`document.readyState === "complete"`)
		p.do(chromedp.KeyEvent(kb.Tab))
		p.wait(`document.activeElement.matches(".skip") && document.activeElement.getBoundingClientRect().top >= 0`)
		shot(p, path+"-skip")
		p.do(chromedp.KeyEvent(kb.Enter))
		p.wait(`location.hash === "#content"`)
		p.do(chromedp.KeyEvent(kb.Tab))
		if !eval[bool](p, `document.activeElement === document.querySelector("`+next+`")`) {
			t.Errorf("%s: the focus is on %s", path, eval[string](p, `document.activeElement.outerHTML`))
		}
	}
	for _, path := range []string{"/admin-own#disabled", "/sessions.html#ended"} {
		p.do(chromedp.Navigate("about:blank"))
		p.do(chromedp.Navigate(s.URL + path))
		_, id, _ := strings.Cut(path, "#")
		p.wait(`document.activeElement.id === "` + id + `" && !location.hash`)
	}
}

// shot saves a screenshot of the page in the directory that the environment names.
func shot(p *tab, name string) {
	dir := os.Getenv("DIALTONE_SHOTS")
	if dir == "" {
		return
	}
	png, err := chromedp.Run(p.ctx, chromedp.FullScreenshot(100))
	if err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, strings.Trim(strings.ReplaceAll(name, "/", "-"), "-")+".png"), png,
		0o600); err != nil {
		p.t.Fatal(err)
	}
}
