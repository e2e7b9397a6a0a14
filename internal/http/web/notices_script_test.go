package web

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"dialtone/internal/i18n"
)

// TestNewAttemptHidesNotices checks that notices about an earlier attempt disappear when a form is
// sent again.
func TestNewAttemptHidesNotices(t *testing.T) {
	for _, c := range []struct{ path, notice, form string }{
		{"/profile.html?saved", "saved", "email-form"},
		{"/passkeys.html#added", "added", "change"},
		{"/two-step/on#recovery", "recovery", "two-step"},
	} {
		t.Run(c.path, func(t *testing.T) {
			p := openTab(t, newPageServer(t), c.path)
			p.ready()
			if !p.visible(c.notice) {
				t.Fatal("there is no notice")
			}
			eval[bool](p, `(document.getElementById("`+c.form+`").requestSubmit(), true)`)
			if len(p.problems()) == 0 || p.visible(c.notice) {
				t.Errorf("problems %q, notice %v", p.problems(), p.visible(c.notice))
			}
		})
	}
}

// TestLastUse checks the times at which phones were last seen: in words, never in the future, and without a
// change of the layout.
func TestLastUse(t *testing.T) {
	s := newPageServer(t)
	site, err := loadTestSite()
	if err != nil {
		t.Fatal(err)
	}
	v := site.views["/account.html"].data.(accountPage)
	v.Asked = &phoneLookups{[]listedPhoneServer{
		{"a", time.Now()}, {"b", time.Now().Add(time.Minute)}, {"c", time.Now().Add(-20 * time.Minute)},
		{"d", time.Now().Add(-50 * time.Hour)},
	}}
	s.handle("/phones", func(w http.ResponseWriter, _ *http.Request) {
		out, err := site.pages.render(i18n.English, "account", v)
		if err != nil {
			t.Error(err)
		}
		writePage(w, http.StatusOK, out)
	})
	p := openDrawing(t, s, "/phones", 1280, 2000) // only what is in view can shift
	p.wait(`document.querySelector(".asked time")?.textContent.startsWith("less")`)
	got := eval[[]string](p, `[...document.querySelectorAll(".asked time")].map((e) => e.textContent)`)
	want := []string{"less than a minute ago", "less than a minute ago", "about 20 minutes ago", "about 2 days ago"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	shift := eval[float64](p, `new Promise((done) => {
		// Other parts of the page may move.
		const ofList = ({ node }) => (node?.parentElement ?? node)?.closest?.(".asked");
		new PerformanceObserver((list) => done(list.getEntries().filter(({ sources }) => sources.some(ofList))
			.reduce((sum, e) => sum + e.value, 0)))
			.observe({ type: "layout-shift", buffered: true });
		setTimeout(() => done(0), 200);
	})`)
	if shift != 0 {
		t.Errorf("the layout shifts by %f", shift)
	}
	if text := p.body(); !strings.Contains(text, "Last use by phones") {
		t.Error("the heading is missing")
	}
}
