package web

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

//go:embed static
var staticFiles embed.FS

// staticRoot is where the static files are served. A file's address holds a fingerprint of its content, so what a browser
// once fetched stays right for ever, and a page of a new version can never meet a script of the old one.
const staticRoot = "/static/"

// contentTypes are the only kinds of file that static/ may hold: each is named here rather than guessed from the machine's
// tables, since the pages forbid sniffing.
var contentTypes = map[string]string{
	".css": "text/css; charset=utf-8",
	".js":  "text/javascript; charset=utf-8",
	".svg": "image/svg+xml",
}

// assets are the embedded static files, named once at start.
type assets struct {
	byPath  map[string]asset
	urls    map[string]string
	imports map[string][]string
}

// asset is one static file in both of its forms. packed gives nil where compression would not make the file smaller; it
// compresses when it is called first, which a start does not wait for.
type asset struct {
	contentType string
	plain       []byte
	packed      func() []byte
	sum         string
	// vary is what in a request decides about the answer.
	vary []string
}

var (
	varyFile = []string{"Accept-Encoding"}
	varyPage = []string{"Accept-Encoding, Accept-Language"}
)

// newAssets loads the embedded files. It fails only for faults that a build should never ship: a module that imports a
// file that does not exist, modules that import each other in a circle, or a file of a kind that nothing serves.
func newAssets() (*assets, error) {
	files, err := fs.Sub(staticFiles, "static")
	if err != nil {
		return nil, err
	}
	return loadAssets(files)
}

func loadAssets(files fs.FS) (*assets, error) {
	names, err := fs.Glob(files, "*")
	if err != nil {
		return nil, err
	}
	a := &assets{byPath: map[string]asset{}, urls: map[string]string{}, imports: map[string][]string{}}
	for _, name := range names {
		if err := a.load(files, name, nil); err != nil {
			return nil, err
		}
	}
	return a, nil
}

// specifier finds what a module imports: the quoted relative name at the end of an import or a re-export.
var specifier = regexp.MustCompile(`(?m)^((?:import|export)\b[^"';]*)"\./([^"]+)"`)

// load adds one file, and before it the modules that it imports: their fingerprints stand in its text, and so go into its
// own. An import map would do the same in the browser, but it is an inline script, which the pages' policy forbids.
func (a *assets) load(files fs.FS, name string, importers []string) error {
	if a.urls[name] != "" {
		return nil
	}
	if slices.Contains(importers, name) {
		return fmt.Errorf("static: modules import each other in a circle: %s", strings.Join(append(importers, name), ", "))
	}
	content, err := fs.ReadFile(files, name)
	if err != nil {
		return fmt.Errorf("static: %w", err)
	}
	ext := path.Ext(name)
	if contentTypes[ext] == "" {
		return fmt.Errorf("static: %s: no content type for %q", name, ext)
	}
	if ext == ".js" {
		if content, err = a.link(files, name, content, append(importers, name)); err != nil {
			return err
		}
	}
	x := newAsset(contentTypes[ext], content)
	a.urls[name] = staticRoot + strings.TrimSuffix(name, ext) + "." + x.sum[:8] + ext
	a.byPath[a.urls[name]] = x
	return nil
}

// newAsset is content in both of its forms.
func newAsset(contentType string, content []byte) asset {
	sum := sha256.Sum256(content)
	pack := sync.OnceValue(func() []byte { return pack(content) })
	return asset{contentType: contentType, plain: content, packed: pack, sum: hex.EncodeToString(sum[:]), vary: varyFile}
}

func pack(content []byte) []byte {
	var packed bytes.Buffer
	w, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err != nil {
		panic("web: gzip has that level: " + err.Error())
	}
	w.Write(content) // to memory: cannot fail
	w.Close()
	if packed.Len() >= len(content) {
		return nil
	}
	return packed.Bytes()
}

// link replaces the names of imported modules with their fingerprinted ones, and notes them for modules.
func (a *assets) link(files fs.FS, name string, content []byte, importers []string) ([]byte, error) {
	var failed error
	needs := map[string]bool{}
	linked := specifier.ReplaceAllFunc(content, func(match []byte) []byte {
		part := specifier.FindSubmatch(match)
		imported := string(part[2])
		if err := a.load(files, imported, slices.Clone(importers)); err != nil {
			failed = err
			return match
		}
		needs[imported] = true
		for _, further := range a.imports[imported] {
			needs[further] = true
		}
		return fmt.Appendf(nil, `%s"./%s"`, part[1], path.Base(a.urls[imported]))
	})
	a.imports[name] = slices.Sorted(maps.Keys(needs))
	return linked, failed
}

// url is the address of the file with this name, fingerprint included, or empty if there is no such file.
func (a *assets) url(name string) string { return a.urls[name] }

// modules are the addresses of everything that the module with this name imports, directly or not, so that a page can
// ask for them all at once instead of one level after the other.
func (a *assets) modules(name string) []string {
	var urls []string
	for _, imported := range a.imports[name] {
		urls = append(urls, a.urls[imported])
	}
	return urls
}

// lookup finds the file served at a path such as /static/app.1a2b3c4d.css.
func (a *assets) lookup(path string) (asset, bool) {
	x, ok := a.byPath[path]
	return x, ok
}

// serve answers with a file whose address names its content.
func (x asset) serve(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	x.answer(w, r)
}

// answer answers GET and HEAD with the content, or with 304 where the browser has it already. The two forms are different
// representations and have different entity tags (RFC 9110 §8.8.3).
func (x asset) answer(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", x.contentType)
	h.Set("X-Content-Type-Options", "nosniff")
	h["Vary"] = x.vary
	body, tag := x.plain, `"`+x.sum+`"`
	if acceptsGzip(r.Header.Values("Accept-Encoding")) {
		if packed := x.packed(); packed != nil {
			body, tag = packed, `"`+x.sum+`-gzip"`
			h.Set("Content-Encoding", "gzip")
		}
	}
	h.Set("ETag", tag)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
}

// acceptsGzip reports whether gzip is named among the codings that the client takes, with a weight above zero
// (RFC 9110 §12.5.3). The wildcard does not count: the plain form is always a right answer.
func acceptsGzip(values []string) bool {
	for coding := range strings.SplitSeq(strings.Join(values, ","), ",") {
		name, weight, weighted := strings.Cut(coding, ";")
		if !strings.EqualFold(strings.TrimSpace(name), "gzip") {
			continue
		}
		if !weighted {
			return true
		}
		key, value, _ := strings.Cut(strings.TrimSpace(weight), "=")
		q, err := strconv.ParseFloat(value, 64)
		return strings.EqualFold(key, "q") && err == nil && q > 0
	}
	return false
}
