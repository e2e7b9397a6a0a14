package web_test

import (
	"context"
	"fmt"
	"math"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"dialtone/internal/tenant"
)

const logoSVG = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"><path d="M0 0h9v9z"/></svg>`

func TestBrand(t *testing.T) {
	s := startServerWith(t, options{tenants: func(tn *tenant.Tenant) {
		if tn.Host != "a.test" {
			return
		}
		tn.Product = "Example & Phones"
		tn.About, tn.Welcome = "Free <of> charge.\nRun by us.", "Call 600\nto hear yourself."
		tn.TermsURL, tn.PrivacyURL = "https://a.test/terms?a=b&c=d", "https://a.test/privacy"
		tn.ImprintURL, tn.Support = "https://a.test/imprint", "help@a.test"
		tn.Accent, tn.Logo = "#c8102e", tenant.Logo{Data: []byte(logoSVG)}
	}})
	v := s.visitor("a.test")
	home := v.get(t, "/")
	home.wantStatus(t, 200)
	for _, want := range []string{
		">Free &lt;of&gt; charge.\nRun by us.<", `<a href="https://a.test/terms?a=b&amp;c=d">Terms of use</a>`,
		`<a href="https://a.test/privacy">Privacy</a>`, `<a href="https://a.test/imprint">Legal notice</a>`,
		`<a href="mailto:help@a.test">Help</a>`, ">Example &amp; Phones<",
	} {
		if !strings.Contains(home.body, want) {
			t.Errorf("the page has no %s:\n%s", want, home.body)
		}
	}
	if strings.Contains(home.body, "Call 600") {
		t.Error("the home page shows the text for people with an account")
	}
	for _, path := range []string{"/signup.html", "/login.html", "/nothing"} {
		page := v.get(t, path, "Accept", "text/html").body
		if !strings.Contains(page, ">Privacy</a>") || !strings.Contains(page, "/brand/logo.") {
			t.Errorf("%s has no footer or logo:\n%s", path, page)
		}
		if strings.Contains(page, " at <bdi") && strings.Contains(page, "a.test</bdi>.") {
			t.Errorf("%s names the host where the product has a name:\n%s", path, page)
		}
	}
	other := s.visitor("b.test").get(t, "/").body
	if strings.Contains(other, "/brand/") || strings.Contains(other, `class="links"`) ||
		strings.Contains(other, `class="prose"`) {
		t.Errorf("the page of a tenant without a brand:\n%s", other)
	}
	who := s.active(t, "a.test")
	page := v.get(t, "/account.html", "Cookie", v.signIn(t, who.user, who.password).cookies())
	page.wantStatus(t, 200)
	if !strings.Contains(page.body, ">Call 600\nto hear yourself.<") {
		t.Errorf("the account page has no welcome:\n%s", page.body)
	}
}

var brandFiles = regexp.MustCompile(`"(/brand/(?:logo|accent)\.[0-9a-f]{8}\.[a-z]+)"`)

// brandURLs returns the addresses of the logo and the style sheet in a page.
func brandURLs(t *testing.T, page string) (logo, style string) {
	t.Helper()
	for _, match := range brandFiles.FindAllStringSubmatch(page, -1) {
		if strings.Contains(match[1], "/logo.") {
			logo = match[1]
		} else {
			style = match[1]
		}
	}
	if logo == "" || style == "" {
		t.Fatalf("the page has the logo %q and the style sheet %q", logo, style)
	}
	return logo, style
}

func TestBrandFiles(t *testing.T) {
	s := startServerWith(t, options{tenants: func(tn *tenant.Tenant) {
		tn.Accent = map[string]string{"a.test": "#c8102e", "b.test": "#003087"}[tn.Host]
		tn.Logo.Data = []byte(strings.Replace(logoSVG, "0 0 9 9", "0 0 9 "+strconv.Itoa(len(tn.Host)), 1))
	}})
	v := s.visitor("a.test")
	logo, style := brandURLs(t, v.get(t, "/").body)
	for path, c := range map[string]struct{ contentType, want string }{
		logo:  {"image/svg+xml", `viewBox="0 0 9 6"`},
		style: {"text/css; charset=utf-8", ":root{--accent:#c8102e;--on-accent:#ffffff;"},
	} {
		a := v.get(t, path)
		a.wantStatus(t, 200)
		if a.header.Get("Content-Type") != c.contentType || !strings.Contains(a.body, c.want) ||
			a.header.Get("Cache-Control") != "public, max-age=31536000, immutable" ||
			a.header.Get("X-Content-Type-Options") != "nosniff" ||
			!strings.HasPrefix(a.header.Get("Content-Security-Policy"), "default-src 'none'; ") ||
			!strings.Contains(a.header.Get("Content-Security-Policy"), "; sandbox;") {
			t.Errorf("%s: %v\n%s", path, a.header, a.body)
		}
		v.get(t, path, "If-None-Match", a.header.Get("Etag")).wantStatus(t, 304)
		v.do(t, "POST", path, "").wantError(t, 405, "method_not_allowed")
		// A page that is older than a change of the brand gets the current files.
		old := v.get(t, regexp.MustCompile(`[0-9a-f]{8}`).ReplaceAllString(path, "00000000"))
		old.wantStatus(t, 200)
		if old.body != a.body || old.header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s with another fingerprint: %v\n%s", path, old.header, old.body)
		}
	}
	for _, path := range []string{
		"/brand/", "/brand/logo.svg", "/brand/x.00000000.svg", style[:len(style)-4], logo + "1",
	} {
		v.get(t, path).wantError(t, 404, "not_found")
	}
	other := s.visitor("b.test")
	if _, otherStyle := brandURLs(t, other.get(t, "/").body); otherStyle == style {
		t.Error("two tenants have one style sheet")
	}
	if a := other.get(t, style); !strings.Contains(a.body, "#003087") {
		t.Errorf("a tenant gets the colours of another: %s", a.body)
	}
	icon := v.get(t, "/favicon.ico")
	if icon.header.Get("Location") != logo {
		t.Errorf("the icon is %s, want %s", icon.header.Get("Location"), logo)
	}
	changed := must[[]tenant.Tenant](t)(tenantsOf(t.Context(), s))[0]
	changed.Accent, changed.Logo = "", tenant.Logo{}
	if err := s.Store.SetTenant(t.Context(), changed, s.Clock.Now()); err != nil {
		t.Fatal(err)
	}
	if err := s.Tenants.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if page := v.get(t, "/").body; strings.Contains(page, "/brand/") {
		t.Errorf("the page still has a brand:\n%s", page)
	}
	v.get(t, logo).wantError(t, 404, "not_found")
	v.get(t, style).wantError(t, 404, "not_found")
}

func tenantsOf(ctx context.Context, s *testServer) ([]tenant.Tenant, error) {
	list, _, err := s.Store.Tenants(ctx)
	return list, err
}

// TestPaletteContrast checks the colours of accents against the backgrounds in the site's own style
// sheet: 4.5 is the contrast that text needs (WCAG 2.2).
func TestPaletteContrast(t *testing.T) {
	css, err := os.ReadFile("static/app.css")
	if err != nil {
		t.Fatal(err)
	}
	var light, dark []string
	for _, value := range regexp.MustCompile(`--(?:page|card):([^;]*);`).FindAllStringSubmatch(string(css), -1) {
		for _, background := range regexp.MustCompile(`#[0-9a-f]{6}`).FindAllString(value[1], -1) {
			if contrastOf(t, background, "#000000") > contrastOf(t, background, "#ffffff") {
				light = append(light, background)
			} else {
				dark = append(dark, background)
			}
		}
	}
	if len(light) < 2 || len(dark) < 2 {
		t.Fatalf("the backgrounds of light pages are %q, those of dark pages %q", light, dark)
	}
	accents := []string{"", "#000000", "#ffffff", "#808080", "#ffcc00", "#003087", "#c8102e"}
	for r := 0; r < 256; r += 51 {
		for g := 0; g < 256; g += 51 {
			for b := 0; b < 256; b += 51 {
				accents = append(accents, fmt.Sprintf("#%02x%02x%02x", r, g, b))
			}
		}
	}
	for _, accent := range accents {
		p := tenant.Settings{Accent: accent}.Palette()
		for _, c := range []struct {
			shades      tenant.Shades
			backgrounds []string
		}{{p.Light, light}, {p.Dark, dark}} {
			for _, text := range []string{c.shades.Accent, c.shades.Strong} {
				for _, background := range append(c.backgrounds, c.shades.Tint, c.shades.OnAccent) {
					if ratio := contrastOf(t, text, background); ratio < 4.5 {
						t.Errorf("%s: %s on %s has the contrast %.2f", accent, text, background, ratio)
					}
				}
			}
		}
	}
	for accent, want := range map[string]string{"#0b6b57": "#0b6b57", "#c8102e": "#c8102e"} {
		if got := (tenant.Settings{Accent: accent}).Palette().Light.Accent; got != want {
			t.Errorf("%s has the contrast already and becomes %s", accent, got)
		}
	}
	if got := (tenant.Settings{Accent: "#ffcc00"}).Palette().Dark.Accent; got != "#ffcc00" {
		t.Errorf("#ffcc00 can be read on dark pages and becomes %s", got)
	}
}

// contrastOf returns the contrast ratio of WCAG 2.2.
func contrastOf(t *testing.T, a, b string) float64 {
	t.Helper()
	var luminance [2]float64
	for i, colour := range []string{a, b} {
		for j, weight := range []float64{0.2126, 0.7152, 0.0722} {
			n, err := strconv.ParseUint(colour[1+2*j:3+2*j], 16, 8)
			if err != nil || len(colour) != 7 {
				t.Fatalf("%q is not a colour", colour)
			}
			part := float64(n) / 255
			if part <= 0.04045 {
				part /= 12.92
			} else {
				part = math.Pow((part+0.055)/1.055, 2.4)
			}
			luminance[i] += weight * part
		}
	}
	return (max(luminance[0], luminance[1]) + 0.05) / (min(luminance[0], luminance[1]) + 0.05)
}
