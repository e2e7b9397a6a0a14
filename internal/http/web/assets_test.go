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

	"dialtone/internal/i18n"
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
			if !bytes.Equal(body, x.plain()) {
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

func TestBundle(t *testing.T) {
	files := fstest.MapFS{
		"page.js": {Data: []byte("// A page.\nimport {\n  a,\n} from \"./a.js\";\nimport { b } from \"./b-b.js\";\n" +
			"import \"./c.js\";\nconst x = a + b();\n")},
		"a.js":   {Data: []byte("import { b } from \"./b-b.js\";\nconst x = 1;\nexport const a = x;\n")},
		"b-b.js": {Data: []byte("export function b() {}\nexport async function d() {}\n")},
		"c.js":   {Data: []byte("const s = 'import';\n")},
	}
	scripts, err := bundles(files)
	if err != nil {
		t.Fatal(err)
	}
	if len(scripts) != 1 {
		t.Errorf("%d scripts", len(scripts))
	}
	const want = "const $b_b = (() => {\nfunction b() {}\nasync function d() {}\n\nreturn { b, d };\n})();\n" +
		"const $a = (() => {\nconst { b } = $b_b;\nconst x = 1;\nconst a = x;\n\nreturn { a };\n})();\n" +
		"const $c = (() => {\nconst s = 'import';\n\nreturn {  };\n})();\n" +
		"const $page = (() => {\n// A page.\nconst {\n  a,\n} = $a;\nconst { b } = $b_b;\n\nconst x = a + b();\n\n" +
		"return {  };\n})();\n"
	if got := string(bytes.Join(scripts["page.js"], nil)); got != want {
		t.Errorf("the script is\n%s\nwant\n%s", got, want)
	}
}

func TestFingerprints(t *testing.T) {
	files := fstest.MapFS{
		"page.js": {Data: []byte("import { a } from \"./a.js\";\n")},
		"a.js":    {Data: []byte("export const a = 1;\n")},
		"c.js":    {Data: []byte("const c = 1;\n")},
	}
	before, err := loadAssets(files)
	if err != nil {
		t.Fatal(err)
	}
	files["a.js"] = &fstest.MapFile{Data: []byte("export const a = 2;\n")}
	after, err := loadAssets(files)
	if err != nil {
		t.Fatal(err)
	}
	for name, changes := range map[string]bool{"page.js": true, "c.js": false} {
		if changed := before.url(name) != after.url(name); changed != changes {
			t.Errorf("%s has a new address: %v, want %v", name, changed, changes)
		}
	}
	if url := after.url("a.js"); url != "" {
		t.Errorf("a module that is part of a script has the address %s", url)
	}
}

func TestLoadAssetsErrors(t *testing.T) {
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }
	tests := []struct {
		name  string
		files fstest.MapFS
		want  string
	}{
		{"missing import", fstest.MapFS{"a.js": file(`import "./b.js";`)}, "b.js"},
		{
			"import cycle",
			fstest.MapFS{"a.js": file(`import "./b.js";`), "b.js": file(`import "./a.js";`)}, "cycle",
		},
		{"default import", fstest.MapFS{"a.js": file(`import a from "./b.js";`)}, "not supported"},
		{"renamed import", fstest.MapFS{"a.js": file(`import { a as b } from "./b.js";`)}, "not supported"},
		{"exported class", fstest.MapFS{"a.js": file(`export class A {}`)}, "not supported"},
		{"import that does not end its line", fstest.MapFS{"a.js": file(`import "./b.js"; f();`)}, "not supported"},
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

// TestPageWeight adds up the sizes of the files that each page loads, with the largest permitted
// logo.
func TestPageWeight(t *testing.T) {
	p, a := mustPages(t), mustAssets(t)
	resource := regexp.MustCompile(`/static/[\w.-]+`)
	for name, v := range allPages("plain") {
		for _, tag := range i18n.Tags {
			page, err := p.render(tag, v.page, v.data)
			if err != nil {
				t.Fatal(err)
			}
			total, scripts := len(pack(page)), 0
			seen := map[string]bool{}
			for _, url := range resource.FindAllString(string(page), -1) {
				if seen[url] {
					continue
				}
				seen[url] = true
				x, ok := a.lookup(url)
				if !ok {
					t.Fatalf("%s has %s, which is not served", name, url)
				}
				if path.Ext(url) == ".js" {
					scripts++
				}
				if packed := x.packed(); packed != nil {
					total += len(packed)
				} else {
					total += len(x.plain())
				}
			}
			if total > 60_000 || scripts > 1 || len(seen) > 3 {
				t.Errorf("%s in %s: %d bytes compressed, %d files, %d scripts", name, tag, total, len(seen), scripts)
			}
		}
	}
}

// TestDarkColors checks that every colour has a second value for dark screens, in a rule that older
// browsers support.
func TestDarkColors(t *testing.T) {
	a := mustAssets(t)
	x, _ := a.lookup(a.url("app.css"))
	light, rest, _ := strings.Cut(string(x.plain()), "@media (prefers-color-scheme: dark) {")
	dark, _, ok := strings.Cut(rest, "\n}\n")
	color := regexp.MustCompile(`(--[\w-]+): (?:#|rgb\()`)
	colors := color.FindAllStringSubmatch(light, -1)
	if !ok || len(colors) < 15 || strings.Contains(string(x.plain()), "light-dark(") {
		t.Fatalf("%d colours, and a dark set: %t", len(colors), ok)
	}
	for _, c := range colors {
		if !strings.Contains(dark, "    "+c[1]+": ") {
			t.Errorf("%s has no dark value", c[1])
		}
	}
}
