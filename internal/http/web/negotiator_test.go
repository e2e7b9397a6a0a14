package web

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"dialtone/internal/i18n"
	"dialtone/internal/tenant"
)

func TestNegotiatorCacheBound(t *testing.T) {
	n := newNegotiator()
	for i := range 3 * maxHeaders {
		if got := n.pick(fmt.Sprintf("de,aa-x-%d;q=0.5", i)); got != i18n.German {
			t.Fatalf("header %d: got %s", i, got)
		}
	}
	if len(n.known) > maxHeaders {
		t.Errorf("%d headers are kept", len(n.known))
	}
	if got := n.pick(strings.Repeat("aa,", maxHeader/3) + "de"); got != i18n.English {
		t.Errorf("the part beyond the limit counts: got %s", got)
	}
	for header := range n.known {
		if len(header) > maxHeader {
			t.Errorf("a header of %d bytes is kept", len(header))
		}
	}
}

func TestPageCacheBound(t *testing.T) {
	var c pageCache
	made := 0
	render := func() (asset, error) { made++; return newAsset("text/plain", []byte("x")), nil }
	ask := func(of *tenant.Tenant) {
		if _, err := c.page(of, "home", pageLanguage{}, render); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 2 * maxPages {
		of := &tenant.Tenant{ID: int64(i)}
		ask(of)
		ask(of)
	}
	if made != 2*maxPages || len(c.entries) > maxPages {
		t.Errorf("%d pages were made for %d, and %d are kept", made, 2*maxPages, len(c.entries))
	}
}

// TestPageSize bounds the compressed size of a page and all its files.
func TestPageSize(t *testing.T) {
	p, a := mustPages(t), mustAssets(t)
	for _, tag := range i18n.Tags {
		for _, name := range []string{"home", "signup", "login"} {
			out, err := p.render(tag, name, allPages("phone.example.org")[name].data)
			if err != nil {
				t.Fatal(err)
			}
			total := len(newAsset("text/html", out).packed())
			for _, url := range regexp.MustCompile(`/static/[\w.]+`).FindAllString(string(out), -1) {
				x, ok := a.lookup(url)
				if !ok {
					t.Fatalf("%s: no %s", name, url)
				}
				if packed := x.packed(); packed != nil {
					total += len(packed)
				} else {
					total += len(x.plain())
				}
			}
			if total > 60_000 || total < 1000 {
				t.Errorf("%s in %s weighs %d bytes", name, tag, total)
			}
			t.Logf("%s in %s: %d bytes in all, %d in the page", name, tag, total,
				len(newAsset("text/html", out).packed()))
		}
	}
}

// BenchmarkLanguage chooses the language for a browser's header, with the negotiator's cache and
// without.
func BenchmarkLanguage(b *testing.B) {
	n := newNegotiator()
	s := &Site{negotiator: n}
	r := httptest.NewRequest(http.MethodGet, "/signup.html", nil)
	r.URL = &url.URL{Path: "/signup.html"}
	r.Header.Set("Accept-Language", "de-AT,de;q=0.9,en-US;q=0.8,en;q=0.7")
	v := &request{Request: r}
	b.Run("known", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			s.pageLanguage(v)
		}
	})
	b.Run("new", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			n.match(r.Header.Get("Accept-Language"))
		}
	})
}
