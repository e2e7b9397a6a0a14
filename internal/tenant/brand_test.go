package tenant_test

import (
	"bytes"
	"encoding/base64"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"strings"
	"testing"

	"dialtone/internal/fault"
	"dialtone/internal/tenant"
)

func TestNewTexts(t *testing.T) {
	for text, want := range map[string]string{
		"":                         "",
		"Free of charge.":          "Free of charge.",
		" \nOne.\r\nTwo.\n\nThree": "One.\nTwo.\n\nThree",
		strings.Repeat("電", 600):   strings.Repeat("電", 600),
	} {
		got, err := newWith(tenant.Settings{About: text, Welcome: text})
		if err != nil || got.About != want || got.Welcome != want {
			t.Errorf("%q: got %q and %q, %v", text, got.About, got.Welcome, err)
		}
	}
	for _, text := range []string{strings.Repeat("電", 601), "a\tb", "a\x00b", "a\u0085b", "a\x7fb", "a\xffb", "a\rb"} {
		_, err := newWith(tenant.Settings{About: text})
		wantField(t, err, "about", text)
		_, err = newWith(tenant.Settings{Welcome: text})
		wantField(t, err, "welcome", text)
	}
}

// wantField checks that a value was refused because of a field.
func wantField(t *testing.T, err error, field, value string) {
	t.Helper()
	if fe, ok := err.(*fault.Error); !ok || fe.Kind != fault.Invalid || fe.Field != field {
		t.Errorf("%s %.80q: got %v", field, value, err)
	}
}

func TestNewLinks(t *testing.T) {
	for raw, want := range map[string]string{
		"":                                    "",
		"https://www.a.test/terms?lang=de#x":  "https://www.a.test/terms?lang=de#x",
		"http://a.test:8080":                  "http://a.test:8080",
		"https://bücher.test/agb":             "https://xn--bcher-kva.test/agb",
		"https://a.test/datenschutzerklärung": "https://a.test/datenschutzerkl%C3%A4rung",
		"https://[2001:db8::1]:8443/":         "https://[2001:db8::1]:8443/",
	} {
		got, err := newWith(tenant.Settings{TermsURL: raw, PrivacyURL: raw, ImprintURL: raw, Support: raw})
		if err != nil || got.TermsURL != want || got.PrivacyURL != want || got.ImprintURL != want ||
			got.SupportURL() != want {
			t.Errorf("%q: got %+v, %v", raw, got.Settings, err)
		}
	}
	longest := "https://a.test/" + strings.Repeat("a", 200-len("https://a.test/"))
	if got, err := newWith(tenant.Settings{TermsURL: longest}); err != nil || got.TermsURL != longest {
		t.Errorf("%q: got %q, %v", longest, got.TermsURL, err)
	}
	for _, raw := range []string{
		longest + "a",
		"a.test", "/terms", "//a.test", "ftp://a.test/", "javascript:alert(1)", "https://", "https://a b.test/",
		"https://u:p@a.test/", "https://a.test/\"x", "https://a.test/<x", "https://a.test/\nx", "https://a.test:0/",
		"https://a.test/%zz", "https://-a.test/", "https://a.test/" + strings.Repeat("a", 200), "https://a.test/\xff",
	} {
		_, err := newWith(tenant.Settings{TermsURL: raw})
		wantField(t, err, "terms-url", raw)
		_, err = newWith(tenant.Settings{PrivacyURL: raw})
		wantField(t, err, "privacy-url", raw)
		_, err = newWith(tenant.Settings{ImprintURL: raw})
		wantField(t, err, "imprint-url", raw)
		_, err = newWith(tenant.Settings{Support: raw})
		wantField(t, err, "support", raw)
	}
}

func TestSupportURL(t *testing.T) {
	for raw, want := range map[string]string{
		"":                       "",
		"help@a.test":            "mailto:help@a.test",
		"mailto:help@a.test":     "mailto:help@a.test",
		"a+b?c%d@a.test":         "mailto:a+b%3Fc%25d@a.test",
		"https://a.test/help":    "https://a.test/help",
		"http://a.test/help?a=b": "http://a.test/help?a=b",
	} {
		got, err := newWith(tenant.Settings{Support: raw})
		if err != nil || got.SupportURL() != want {
			t.Errorf("%q: got %q, %v", raw, got.SupportURL(), err)
		}
	}
	longest := strings.Repeat("a", 200-len("@a.test")) + "@a.test"
	if got, err := newWith(tenant.Settings{Support: longest}); err != nil || got.Support != longest {
		t.Errorf("%q: got %q, %v", longest, got.Support, err)
	}
	for _, raw := range []string{
		"a" + longest, "Help <help@a.test>", "a@a.test,b@a.test", "ü@a.test", "help", "a@b.test\nc",
	} {
		_, err := newWith(tenant.Settings{Support: raw})
		wantField(t, err, "support", raw)
	}
}

func TestNewAccent(t *testing.T) {
	for raw, want := range map[string]string{"": "", "#A1B2C3": "#a1b2c3", "00ff00": "#00ff00"} {
		if got, err := newWith(tenant.Settings{Accent: raw}); err != nil || got.Accent != want {
			t.Errorf("%q: got %q, %v", raw, got.Accent, err)
		}
	}
	for _, raw := range []string{"#", "#fff", "#12345", "#1234567", "#12345g", "red", "#+12345", "##12345"} {
		_, err := newWith(tenant.Settings{Accent: raw})
		wantField(t, err, "accent", raw)
	}
}

// TestPalette checks that an accent with the contrast of WCAG 2.2 stays, and that others become the first colour
// towards black or white that has it.
func TestPalette(t *testing.T) {
	for accent, want := range map[string]tenant.Palette{
		"": {
			Light: tenant.Shades{Accent: "#0b6b57", OnAccent: "#ffffff", Strong: "#085041", Tint: "#e7f0ee"},
			Dark:  tenant.Shades{Accent: "#65a295", OnAccent: "#0e1312", Strong: "#8cb9b0", Tint: "#23322f"},
		},
		"#ffcc00": {
			Light: tenant.Shades{Accent: "#856a00", OnAccent: "#ffffff", Strong: "#645000", Tint: "#f3f0e6"},
			Dark:  tenant.Shades{Accent: "#ffcc00", OnAccent: "#0e1312", Strong: "#ffd940", Tint: "#3b3917"},
		},
		"#000000": {
			Light: tenant.Shades{Accent: "#000000", OnAccent: "#ffffff", Strong: "#000000", Tint: "#e6e6e6"},
			Dark:  tenant.Shades{Accent: "#969696", OnAccent: "#0e1312", Strong: "#b0b0b0", Tint: "#2a302f"},
		},
		"#ffffff": {
			Light: tenant.Shades{Accent: "#6e6e6e", OnAccent: "#ffffff", Strong: "#535353", Tint: "#f1f1f1"},
			Dark:  tenant.Shades{Accent: "#ffffff", OnAccent: "#0e1312", Strong: "#ffffff", Tint: "#3b413f"},
		},
		"#d02010": {
			Light: tenant.Shades{Accent: "#d02010", OnAccent: "#ffffff", Strong: "#9c180c", Tint: "#fae9e7"},
			Dark:  tenant.Shades{Accent: "#e2756b", OnAccent: "#0e1312", Strong: "#e99890", Tint: "#372b28"},
		},
	} {
		if got := (tenant.Settings{Accent: accent}).Palette(); got != want {
			t.Errorf("%q: got  %v\nwant %v", accent, got, want)
		}
	}
}

func encoded(encode func(*bytes.Buffer, image.Image) error, width, height int) []byte {
	var b bytes.Buffer
	picture := image.NewPaletted(image.Rect(0, 0, width, height), color.Palette{color.Black})
	if err := encode(&b, picture); err != nil {
		panic(err)
	}
	return b.Bytes()
}

func pngOf(width, height int) []byte {
	return encoded(func(b *bytes.Buffer, i image.Image) error { return png.Encode(b, i) }, width, height)
}

func jpegOf(width, height int) []byte {
	return encoded(func(b *bytes.Buffer, i image.Image) error { return jpeg.Encode(b, i, nil) }, width, height)
}

// webP is a picture of one pixel.
const webP = "UklGRhoAAABXRUJQVlA4TA0AAAAvAAAAEAcQERGIiP4HAA=="

const svgHead = `<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="0 0 9 9">`

func TestNewLogo(t *testing.T) {
	webp, err := base64.StdEncoding.DecodeString(webP)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"PNG":  {pngOf(2048, 2048), "image/png"},
		"JPEG": {jpegOf(9, 9), "image/jpeg"},
		"WebP": {webp, "image/webp"},
		"SVG":  {[]byte(svgHead + `<path d="M0 0h9v9z"/></svg>`), "image/svg+xml"},
		"SVG of a drawing program": {[]byte("\ufeff<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<!-- x -->\n" +
			`<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "http://www.w3.org/Graphics/SVG/1.1/DTD/svg11.dtd">` +
			svgHead + `<style>.a{fill:url(#g)}</style><linearGradient id="g"/>` +
			`<use xlink:href="#p" style="fill: url( '#g' )"/></svg>`), "image/svg+xml"},
		"SVG of 64 KiB": {[]byte(svgHead + strings.Repeat(" ", tenant.MaxLogo-len(svgHead)-6) + "</svg>"),
			"image/svg+xml"},
	} {
		if got, err := tenant.NewLogo(c.data); err != nil || got.Type != c.want || !bytes.Equal(got.Data, c.data) {
			t.Errorf("%s: got %s, %v", name, got.Type, err)
		}
	}
}

func TestNewLogoErrors(t *testing.T) {
	svg := func(inside string) []byte { return []byte(svgHead + inside + "</svg>") }
	for name, data := range map[string][]byte{
		"HTML":                    []byte("<!doctype html><script>alert(1)</script>"),
		"GIF":                     []byte("GIF89a\x01\x00\x01\x00\x00\x00\x00;"),
		"text":                    []byte("logo.png"),
		"start of a PNG":          pngOf(9, 9)[:20],
		"start of a JPEG":         jpegOf(9, 9)[:20],
		"start of a WebP":         []byte("RIFF\x1a\x00\x00\x00WEBPVP8"),
		"wide PNG":                pngOf(2049, 1),
		"high JPEG":               jpegOf(1, 2049),
		"large SVG":               svg(strings.Repeat(" ", tenant.MaxLogo)),
		"SVG without a namespace": []byte("<svg></svg>"),
		"SVG that does not end":   []byte(svgHead),
		"SVG in another element":  []byte("<a>" + svgHead + "</svg></a>"),
		"script":                  svg("<script>alert(1)</script>"),
		"script in upper case":    svg("<SCRIPT/>"),
		"script of a prefix":      svg(`<x:script xmlns:x="http://www.w3.org/2000/svg"/>`),
		"event":                   svg(`<path onload="alert(1)"/>`),
		"HTML inside":             svg("<foreignObject/>"),
		"animation":               svg(`<a><set attributeName="href" to="javascript:alert(1)"/></a>`),
		"link":                    svg(`<a href="javascript:alert(1)"/>`),
		"foreign picture":         svg(`<image xlink:href="https://x.test/a.png"/>`),
		"picture of data":         svg(`<image href="data:image/png;base64,AA"/>`),
		"foreign style":           svg("<style>@import 'https://x.test/a.css'</style>"),
		"foreign fill":            svg(`<path fill="url(https://x.test/a.svg#b)"/>`),
		"second fill foreign":     svg(`<path style="fill:url(#a);stroke:url( 'x.svg#b')"/>`),
		"foreign font":            svg("<style><![CDATA[@font-face{src:URL(//x.test/f)}]]></style>"),
		"escape in a style":       svg(`<style>a{fill:u\72l(//x.test)}</style>`),
		"style sheet":             []byte(`<?xml-stylesheet href="https://x.test/a.css"?>` + string(svg(""))),
		"entity":                  []byte(`<!DOCTYPE svg [<!ENTITY a "b">]>` + string(svg(""))),
		"entity in use":           svg("&a;"),
	} {
		got, err := tenant.NewLogo(data)
		if err == nil {
			t.Errorf("%s is accepted as %s", name, got.Type)
			continue
		}
		wantField(t, err, "logo", name)
	}
	if got, err := newWith(tenant.Settings{Logo: tenant.Logo{Type: "text/html", Data: pngOf(1, 1)}}); err != nil ||
		got.Logo.Type != "image/png" {
		t.Errorf("a logo of a wrong type becomes %s, %v", got.Logo.Type, err)
	}
	_, err := newWith(tenant.Settings{Logo: tenant.Logo{Type: "image/png", Data: []byte("x")}})
	wantField(t, err, "logo", "x")
}
