package web

import (
	"fmt"
	"html/template"
	"net/http"
	"strings"
	"sync"

	"dialtone/internal/tenant"
)

// brandRoot is the path of a tenant's own files: its logo, and a style sheet with its colours. Like
// static files, they have fingerprints of their content in their addresses.
const brandRoot = "/brand/"

// brand is the operator's branding on a page. Any field can be empty.
type brand struct {
	// About and Welcome are plain text, possibly with line breaks.
	About, Welcome string
	// Links are the operator's own pages, and the support contact.
	Links []brandLink
	// LogoURL is the address of the logo.
	LogoURL template.URL
	// StyleURL is the address of a style sheet that sets the custom properties --accent, --on-accent,
	// --accent-strong and --accent-tint. It is empty if the operator has chosen no colour.
	StyleURL template.URL
}

// brandLink is one link. Label is the key of its text.
type brandLink struct{ Label, URL string }

// tenantBrand is a tenant's brand with the files that it refers to.
type tenantBrand struct {
	of    *tenant.Tenant // a changed tenant has another pointer
	brand brand
	files []brandFile
}

// brandFile is one file. Its address consists of head, a fingerprint, and tail.
type brandFile struct {
	head, tail string
	asset      asset
}

func (f brandFile) url() string { return f.head + f.asset.sum[:8] + f.tail }

// brandCache caches the brands of tenants, so that a request does not hash their files.
type brandCache struct {
	mu      sync.RWMutex
	entries map[int64]*tenantBrand
}

// maxBrands bounds the cache. If more are needed, the cache is emptied.
const maxBrands = 4096

func (c *brandCache) of(t *tenant.Tenant) *tenantBrand {
	c.mu.RLock()
	b := c.entries[t.ID]
	c.mu.RUnlock()
	if b != nil && b.of == t {
		return b
	}
	b = newTenantBrand(t)
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.entries) >= maxBrands || c.entries == nil {
		c.entries = make(map[int64]*tenantBrand)
	}
	c.entries[t.ID] = b
	return b
}

// logoExtensions maps the media types of logos to extensions in addresses.
var logoExtensions = map[string]string{
	"image/png": ".png", "image/jpeg": ".jpg", "image/webp": ".webp", "image/svg+xml": ".svg",
}

func newTenantBrand(t *tenant.Tenant) *tenantBrand {
	b := &tenantBrand{of: t, brand: brand{About: t.About, Welcome: t.Welcome}}
	for _, link := range t.Links() {
		b.brand.Links = append(b.brand.Links, brandLink{"layout." + link.Name, link.URL})
	}
	if ext := logoExtensions[t.Logo.Type]; ext != "" {
		f := brandFile{brandRoot + "logo.", ext, newAsset(t.Logo.Type, t.Logo.Data)}
		b.files = append(b.files, f)
		b.brand.LogoURL = template.URL(f.url())
	}
	if t.Accent != "" {
		f := brandFile{brandRoot + "accent.", ".css", newAsset(contentTypes[".css"], styleSheet(t.Palette()))}
		b.files = append(b.files, f)
		b.brand.StyleURL = template.URL(f.url())
	}
	return b
}

// styleSheet returns the custom properties of an accent, for light and dark pages.
func styleSheet(p tenant.Palette) []byte {
	var light, dark strings.Builder
	for _, property := range []struct{ name, light, dark string }{
		{"--accent", p.Light.Accent, p.Dark.Accent},
		{"--on-accent", p.Light.OnAccent, p.Dark.OnAccent},
		{"--accent-strong", p.Light.Strong, p.Dark.Strong},
		{"--accent-tint", p.Light.Tint, p.Dark.Tint},
	} {
		fmt.Fprintf(&light, "%s:%s;", property.name, property.light)
		fmt.Fprintf(&dark, "%s:%s;", property.name, property.dark)
	}
	return []byte(":root{" + light.String() + "}\n" +
		"@media (prefers-color-scheme:dark){:root{" + dark.String() + "}}\n")
}

// brandPolicy is for files that the operator uploaded: even if a browser opens one directly, it
// cannot run or load anything.
var brandPolicy = []string{"default-src 'none'; style-src 'unsafe-inline'; sandbox; frame-ancestors 'none'"}

// brandFile serves a file of the tenant. For the fingerprint of another version, it serves the
// current file, which the browser must not cache: the page may be older than a change.
func (s *Site) brandFile(w http.ResponseWriter, r *request) error {
	for _, f := range s.brands.of(r.tenant).files {
		rest, ok := strings.CutPrefix(r.URL.Path, f.head)
		if !ok {
			continue
		}
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			return onlyGet(w)
		}
		w.Header()["Content-Security-Policy"] = brandPolicy
		if rest == f.asset.sum[:8]+f.tail {
			f.asset.serve(w, r.Request)
			return nil
		}
		if fingerprint.MatchString(r.URL.Path) {
			w.Header().Set("Cache-Control", "no-store")
			f.asset.answer(w, r.Request)
			return nil
		}
	}
	return errNoPage
}
