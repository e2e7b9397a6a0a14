package web

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"dialtone/internal/account"
	"dialtone/internal/i18n"
)

// TestTimesInWords checks how pages say how far a time is: in the past and in the future, in each language. The answer
// to a form gets the address of its page, so that the browser does not send the form again.
func TestTimesInWords(t *testing.T) {
	s := newPageServer(t)
	site, err := loadTestSite()
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	tag := i18n.English
	posts := 0
	s.handle("/admin/account", func(w http.ResponseWriter, r *http.Request) {
		v := accountView{
			User: "ann", State: account.Waiting, Role: account.Guest,
			Since: now.Add(-3 * time.Hour), Until: now.Add(7 * 24 * time.Hour),
			Created: now.Add(-50 * time.Hour), Activated: now.Add(24*time.Hour + time.Minute),
			Confirmed: now.Add(40 * time.Minute),
		}
		v.frame = frame{Host: testHost, Product: "Dialtone"}
		if r.Method == http.MethodPost {
			v.Address = "/admin/account?user=ann"
			posts++
		}
		page, err := site.pages.render(tag, "admin-account", v)
		if err != nil {
			t.Error(err)
		}
		writePage(w, http.StatusOK, page)
	})
	words := map[i18n.Tag][]string{
		"en": {"3 hours ago", "in 7 days", "in 1 day", "in 40 minutes", "2 days ago"},
		"de": {"vor 3 Stunden", "in 7 Tagen", "in 1 Tag", "in 40 Minuten", "vor 2 Tagen"},
		"fr": {"il y a 3 heures", "dans 7 jours", "dans 1 jour", "dans 40 minutes", "il y a 2 jours"},
		"es": {"hace 3 horas", "dentro de 7 días", "dentro de 1 día", "dentro de 40 minutos", "hace 2 días"},
		"ar": {"قبل 3 ساعات", "خلال 7 أيام", "خلال يوم واحد", "خلال 40 دقيقة", "قبل يومين"},
	}
	p := openTab(t, s, "/admin/account")
	for _, tag = range i18n.Tags {
		p.do(chromedp.Navigate(s.URL + "/admin/account?user=ann"))
		times := eval[[]string](p, `[...document.querySelectorAll("main time")].map((e) => e.textContent)`)
		for _, want := range words[tag] {
			if !slices.ContainsFunc(times, func(text string) bool {
				return strings.HasPrefix(strings.ReplaceAll(text, "\u00a0", " "), want)
			}) {
				t.Errorf("%s: no time begins with %q: %q", tag, want, times)
			}
		}
	}
	// A form, and its answer loaded again.
	eval[bool](p, `(() => {
		const form = document.createElement("form");
		Object.assign(form, { method: "post", action: "/admin/account" });
		document.body.append(form);
		form.submit();
		return true;
	})()`)
	p.wait(`location.pathname + location.search === "/admin/account?user=ann" && document.readyState === "complete" &&
		document.querySelector("[data-address]")`)
	p.do(chromedp.Reload())
	p.wait(`document.readyState === "complete" && !document.querySelector("[data-address]")`)
	if posts != 1 {
		t.Errorf("the form was sent %d times", posts)
	}
}
