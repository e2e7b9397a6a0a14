package web

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
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

// staticRoot is the path of the static files. A file's address contains a fingerprint of its
// content, so a browser may keep it forever, and a page of a new version gets no script of the old
// one from a cache.
const staticRoot = "/static/"

// contentTypes are the only kinds of file that static/ may contain. Each is listed here and not
// guessed from the machine's tables, since the pages forbid sniffing.
var contentTypes = map[string]string{
	".css": "text/css; charset=utf-8",
	".js":  "text/javascript; charset=utf-8",
	".svg": "image/svg+xml",
}

// assets holds the embedded static files. Their addresses are computed once at startup.
type assets struct {
	byPath map[string]asset
	urls   map[string]string
}

// asset is a static file in two forms. packed returns the compressed form, or nil if compression
// would not make the file smaller. It compresses at the first call, so that startup does not wait
// for it. plain is for the few clients without compression: it joins the parts of the file at each
// call.
type asset struct {
	contentType string
	plain       func() []byte
	packed      func() []byte
	sum         string
	// vary lists the request headers that the response depends on.
	vary []string
}

var (
	varyFile = []string{"Accept-Encoding"}
	varyPage = []string{"Accept-Encoding, Accept-Language"}
)

// newAssets loads the embedded files. It fails only for mistakes in them: those that bundles
// reports, and files of an unknown type.
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
	scripts, err := bundles(files)
	if err != nil {
		return nil, err
	}
	a := &assets{byPath: map[string]asset{}, urls: map[string]string{}}
	for _, name := range names {
		ext := path.Ext(name)
		if contentTypes[ext] == "" {
			return nil, fmt.Errorf("static: %s: no content type for %q", name, ext)
		}
		parts, isScript := scripts[name]
		if ext == ".js" && !isScript {
			continue // part of other scripts
		}
		if !isScript {
			content, err := fs.ReadFile(files, name)
			if err != nil {
				return nil, fmt.Errorf("static: %w", err)
			}
			parts = [][]byte{content}
		}
		x := newAsset(contentTypes[ext], parts...)
		a.urls[name] = staticRoot + strings.TrimSuffix(name, ext) + "." + x.sum[:8] + ext
		a.byPath[a.urls[name]] = x
	}
	return a, nil
}

// newAsset returns an asset with the joined parts as its content. It retains the parts, which may
// be shared.
func newAsset(contentType string, parts ...[]byte) asset {
	sum := sha256.New()
	for _, part := range parts {
		sum.Write(part)
	}
	plain := func() []byte {
		if len(parts) == 1 {
			return parts[0]
		}
		return slices.Concat(parts...)
	}
	return asset{
		contentType: contentType,
		plain:       plain,
		packed:      sync.OnceValue(func() []byte { return pack(plain()) }),
		sum:         hex.EncodeToString(sum.Sum(nil)),
		vary:        varyFile,
	}
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

// url returns the address of a file, fingerprint included, or "" if there is no such file.
func (a *assets) url(name string) string { return a.urls[name] }

// lookup returns the file served at a path such as /static/app.1a2b3c4d.css.
func (a *assets) lookup(path string) (asset, bool) {
	x, ok := a.byPath[path]
	return x, ok
}

// fingerprint matches the fingerprint and the extension in an address.
var fingerprint = regexp.MustCompile(`\.[0-9a-f]{8}(\.[a-z]+)$`)

// ofOtherVersion returns the file for a path with the fingerprint of another version of the
// program. Servers behind one address are upgraded one after another, so a page from one server may
// request its files from another.
func (a *assets) ofOtherVersion(path string) (asset, bool) {
	if !fingerprint.MatchString(path) {
		return asset{}, false
	}
	name := strings.TrimPrefix(fingerprint.ReplaceAllString(path, "$1"), staticRoot)
	return a.lookup(a.urls[name])
}

// serve answers with a file whose address identifies its content.
func (x asset) serve(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	x.answer(w, r)
}

// answer answers GET and HEAD with the content, or with 304 if the browser has it already. The two
// forms are different representations and have different entity tags (RFC 9110 section 8.8.3).
func (x asset) answer(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", x.contentType)
	h.Set("X-Content-Type-Options", "nosniff")
	h["Vary"] = x.vary
	var body []byte
	tag := `"` + x.sum + `"`
	if acceptsGzip(r.Header.Values("Accept-Encoding")) {
		body = x.packed()
	}
	if body != nil {
		tag = `"` + x.sum + `-gzip"`
		h.Set("Content-Encoding", "gzip")
	} else {
		body = x.plain()
	}
	h.Set("ETag", tag)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
}

// acceptsGzip reports whether the client accepts gzip, by name and with a weight above zero (RFC
// 9110 section 12.5.3). It ignores the wildcard: the plain form is always acceptable.
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
