package web

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"path"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"
)

func mustAssets(t *testing.T) *assets {
	t.Helper()
	a, err := newAssets()
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func fetchAsset(x asset, method string, header http.Header) *http.Response {
	r := httptest.NewRequest(method, "/static/x", nil)
	r.Header = header
	w := httptest.NewRecorder()
	x.serve(w, r)
	return w.Result()
}

func TestServeAsset(t *testing.T) {
	a := mustAssets(t)
	address := a.url("app.css")
	if !regexp.MustCompile(`^/static/app\.[0-9a-f]{8}\.css$`).MatchString(address) {
		t.Fatalf("address %q has no fingerprint", address)
	}
	x, ok := a.lookup(address)
	if !ok {
		t.Fatalf("%s is not found", address)
	}
	plainTag, packedTag := `"`+x.sum+`"`, `"`+x.sum+`-gzip"`
	tests := []struct {
		name, method, accept, ifNoneMatch string
		status                            int
		encoding, tag                     string
	}{
		{"plain", "GET", "", "", 200, "", plainTag},
		{"plain for identity", "GET", "identity", "", 200, "", plainTag},
		{"gzip", "GET", "gzip, deflate, br", "", 200, "gzip", packedTag},
		{"gzip in upper case with a weight", "GET", "br;q=1.0, GZIP;q=0.5", "", 200, "gzip", packedTag},
		{"plain when gzip is refused", "GET", "gzip;q=0, *", "", 200, "", plainTag},
		{"plain for an invalid weight", "GET", "gzip;q=much", "", 200, "", plainTag},
		{"plain for a coding that resembles gzip", "GET", "x-gzip2", "", 200, "", plainTag},
		{"not modified with the same tag", "GET", "", plainTag, 304, "", plainTag},
		{"not modified with a weak tag in a list", "GET", "gzip", `"other", W/` + packedTag, 304, "", packedTag},
		{"not modified with any tag", "GET", "gzip", "*", 304, "", packedTag},
		{"again with the tag of the other encoding", "GET", "gzip", plainTag, 200, "gzip", packedTag},
		{"head without body", "HEAD", "gzip", "", 200, "gzip", packedTag},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			header := http.Header{}
			if tt.accept != "" {
				header.Set("Accept-Encoding", tt.accept)
			}
			if tt.ifNoneMatch != "" {
				header.Set("If-None-Match", tt.ifNoneMatch)
			}
			res := fetchAsset(x, tt.method, header)
			body, err := io.ReadAll(res.Body)
			if err != nil {
				t.Fatal(err)
			}
			if res.StatusCode != tt.status {
				t.Errorf("status %d, want %d", res.StatusCode, tt.status)
			}
			if got := res.Header.Get("ETag"); got != tt.tag {
				t.Errorf("ETag %s, want %s", got, tt.tag)
			}
			if got := res.Header.Get("Cache-Control"); got != "public, max-age=31536000, immutable" {
				t.Errorf("Cache-Control %q", got)
			}
			if got := res.Header.Get("Vary"); got != "Accept-Encoding" {
				t.Errorf("Vary %q", got)
			}
			if tt.status == 304 || tt.method == "HEAD" {
				if len(body) != 0 {
					t.Errorf("%d bytes of body", len(body))
				}
				return
			}
			if got := res.Header.Get("Content-Encoding"); got != tt.encoding {
				t.Errorf("Content-Encoding %q, want %q", got, tt.encoding)
			}
			if got := res.Header.Get("Content-Type"); got != "text/css; charset=utf-8" {
				t.Errorf("Content-Type %q", got)
			}
			if tt.encoding == "gzip" {
				r, err := gzip.NewReader(bytes.NewReader(body))
				if err != nil {
					t.Fatal(err)
				}
				if body, err = io.ReadAll(r); err != nil {
					t.Fatal(err)
				}
			}
			if !bytes.Equal(body, x.plain) {
				t.Error("the body is not the file")
			}
		})
	}
}

func TestAssetPaths(t *testing.T) {
	a := mustAssets(t)
	address := a.url("app.css")
	for _, wrong := range []string{
		"", "/", "/static", "/static/", "/static/app.css", "/static/app.00000000.css",
		address + "/", "/x/.." + address,
		strings.ToUpper(address), "/static/../assets.go", strings.TrimPrefix(address, "/"),
	} {
		if _, ok := a.lookup(wrong); ok {
			t.Errorf("%q is found", wrong)
		}
	}
	if got := a.url("absent.js"); got != "" {
		t.Errorf("absent.js has the address %q", got)
	}
}

func TestModuleImports(t *testing.T) {
	a := mustAssets(t)
	specifiers := regexp.MustCompile(`["'](\.\.?/[^"']*)["']`)
	count := 0
	for address, x := range a.byPath {
		if path.Ext(address) != ".js" {
			continue
		}
		for _, match := range specifiers.FindAllSubmatch(x.plain, -1) {
			count++
			if _, ok := a.lookup(path.Join(path.Dir(address), string(match[1]))); !ok {
				t.Errorf("%s imports %s, which is not served", address, match[1])
			}
		}
	}
	if count == 0 {
		t.Error("no imports found at all")
	}
}

func TestFingerprints(t *testing.T) {
	files := fstest.MapFS{
		"page.js": {
			Data: []byte("import {\n  a,\n} from \"./a.js\";\nexport { b } from \"./b.js\";\n" +
				"import \"./b.js\";\nconst s = \"./a.js\";\n"),
		},
		"a.js": {Data: []byte(`import { b } from "./b.js";`)},
		"b.js": {Data: []byte(`export const b = 1;`)},
		"c.js": {Data: []byte(`export const c = 1;`)},
	}
	before, err := loadAssets(files)
	if err != nil {
		t.Fatal(err)
	}
	page, _ := before.lookup(before.url("page.js"))
	ua, ub := path.Base(before.url("a.js")), path.Base(before.url("b.js"))
	want := "import {\n  a,\n} from \"./" + ua + "\";\nexport { b } from \"./" + ub + "\";\n" +
		"import \"./" + ub + "\";\nconst s = \"./a.js\";\n"
	if string(page.plain) != want {
		t.Errorf("page.js became\n%s\nwant\n%s", page.plain, want)
	}
	if got := strings.Join(before.modules("page.js"), " "); got != before.url("a.js")+" "+before.url("b.js") {
		t.Errorf("page.js needs %s", got)
	}
	files["b.js"] = &fstest.MapFile{Data: []byte(`export const b = 2;`)}
	after, err := loadAssets(files)
	if err != nil {
		t.Fatal(err)
	}
	for name, changes := range map[string]bool{"page.js": true, "a.js": true, "b.js": true, "c.js": false} {
		if changed := before.url(name) != after.url(name); changed != changes {
			t.Errorf("%s has a new address: %v, want %v", name, changed, changes)
		}
	}
}

func TestLoadAssetsErrors(t *testing.T) {
	tests := []struct {
		name  string
		files fstest.MapFS
		want  string
	}{
		{"missing import", fstest.MapFS{"a.js": {Data: []byte(`import "./b.js";`)}}, "b.js"},
		{
			"import cycle",
			fstest.MapFS{"a.js": {Data: []byte(`import "./b.js";`)}, "b.js": {Data: []byte(`import "./a.js";`)}},
			"cycle",
		},
		{"unknown type", fstest.MapFS{"a.exe": {}}, "content type"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := loadAssets(tt.files); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
		})
	}
}

func TestAssetsSize(t *testing.T) {
	total := 0
	for _, x := range mustAssets(t).byPath {
		if packed := x.packed(); packed != nil {
			total += len(packed)
		} else {
			total += len(x.plain)
		}
	}
	if total > 40<<10 {
		t.Errorf("static files are %d bytes compressed; with the pages that goes above 60 kB", total)
	}
}

// TestColorFallback checks that browsers without light-dark() get the light value of each colour.
func TestColorFallback(t *testing.T) {
	a := mustAssets(t)
	x, _ := a.lookup(a.url("app.css"))
	css := string(x.plain)
	_, fallback, ok := strings.Cut(css, "@supports not (color: light-dark(#000, #fff)) {")
	fallback, _, _ = strings.Cut(fallback, "}")
	pair := regexp.MustCompile(`(--[\w-]+: (?:var\(--[\w-]+, )?)light-dark\((#\w+), #\w+\)(\)?;)`)
	colors := pair.FindAllStringSubmatch(css, -1)
	if !ok || len(colors) != strings.Count(css, "light-dark(#")-1 {
		t.Fatalf("%d colours, and a fallback: %t", len(colors), ok)
	}
	for _, c := range colors {
		if want := c[1] + c[2] + c[3]; !strings.Contains(fallback, want) {
			t.Errorf("the fallback lacks %s", want)
		}
	}
}
