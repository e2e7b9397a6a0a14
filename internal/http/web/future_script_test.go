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

// TestTimesInWords checks how pages express the distance of a time, in the past and in the future,
// in each language, whatever the clock of the device. The answer to a form takes the address of its
// page, so that the browser does not send the form again.
func TestTimesInWords(t *testing.T) {
	s := newPageServer(t)
	site, err := loadTestSite()
	if err != nil {
		t.Fatal(err)
	}
	tag := i18n.English
	posts := 0
	s.handle("/admin/account", func(w http.ResponseWriter, r *http.Request) {
		now := time.Now()
		v := accountView{
			User: "ann", State: account.Waiting, Role: account.Guest,
			Since: now.Add(-3 * time.Hour), Until: now.Add(7 * 24 * time.Hour),
			Created: now.Add(-50 * time.Hour), Activated: now.Add(24*time.Hour + time.Minute),
			Confirmed: now.Add(40 * time.Minute),
			Lookups:   []listedPhoneServer{{"a", now.Add(50 * time.Second)}, {"b", now.Add(-50 * time.Second)}},
			ResetLink: "x", LinkUntil: now.Add(time.Hour),
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
		"en": {
			"UTC (3 hours ago)", "UTC (in 7 days)", "UTC (in 1 hour)", "in 1 day (", "in 40 minutes (", "2 days ago (",
			"in less than a minute (", "less than a minute ago (",
		},
		"de": {
			"(UTC), vor 3 Stunden", "(UTC), in 7 Tagen", "(UTC), in 1 Stunde", "in 1 Tag, ", "in 40 Minuten, ",
			"vor 2 Tagen, ", "in weniger als einer Minute, ", "vor weniger als einer Minute, ",
		},
		"fr": {
			"(UTC), il y a 3 heures", "(UTC), dans 7 jours", "(UTC), dans 1 heure", "dans 1 jour, ",
			"dans 40 minutes, ", "il y a 2 jours, ", "dans moins d’une minute, ", "il y a moins d’une minute, ",
		},
		"es": {
			"(UTC), hace 3 horas", "(UTC), dentro de 7 días", "(UTC), dentro de 1 hora", "dentro de 1 día, ",
			"dentro de 40 minutos, ", "hace 2 días, ", "en menos de un minuto, ", "hace menos de un minuto, ",
		},
		"ar": {
			"(UTC)، قبل 3 ساعات", "(UTC)، خلال 7 أيام", "(UTC)، خلال ساعة واحدة", "خلال يوم واحد، ",
			"خلال 40 دقيقة، ", "قبل يومين، ", "خلال أقل من دقيقة، ", "قبل أقل من دقيقة، ",
		},
	}
	p := openTab(t, s, "/admin/account", onEachPage(`Date.now = () => 0`)) // a clock that is wrong
	for _, tag = range i18n.Tags {
		p.do(chromedp.Navigate(s.URL + "/admin/account?user=ann"))
		times := eval[[]string](p, `[...document.querySelectorAll("main time")].map((e) => e.textContent)`)
		for _, want := range words[tag] {
			if !slices.ContainsFunc(times, func(text string) bool {
				text = strings.ReplaceAll(text, "\u00a0", " ")
				// What ends with a space or a bracket is at the beginning, and the rest at the end.
				return strings.HasPrefix(text, want) && strings.HasSuffix(strings.TrimRight(text, ") "), "UTC") ||
					strings.HasSuffix(text, want)
			}) {
				t.Errorf("%s: no time is %q: %q", tag, want, times)
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
