package web

import (
	"errors"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"

	"dialtone/internal/fault"
	"dialtone/internal/http/answer"
	"dialtone/internal/i18n"
	"dialtone/internal/provision"
)

// setHeaders sets the headers of every response. The policy lets a page load only its own files and
// connect only to its own host. Trusted Types turn a script's mistake into an error instead of
// markup.
func setHeaders(h http.Header) {
	answer.SetHeaders(h)
	h["Content-Security-Policy"] = policy
	// With no-referrer, browsers send "Origin: null" with the forms of our own pages.
	h["Referrer-Policy"] = sameOrigin
	h["Cross-Origin-Opener-Policy"] = sameOrigin
	h["Cross-Origin-Resource-Policy"] = sameOrigin
}

// Shared by all responses: these headers are set and never appended to.
var (
	policy = []string{"default-src 'none'; script-src 'self'; style-src 'self'; " +
		"img-src 'self'; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; " +
		"base-uri 'none'; require-trusted-types-for 'script'; trusted-types 'none'"}
	noReferrer = []string{"no-referrer"}
	sameOrigin = []string{"same-origin"}
	oneYear    = []string{"max-age=31536000"}
)

func newRequestID() string { return strconv.FormatUint(rand.Uint64()|1<<63, 36) }

// permissions disables browser features that no page needs. Files and the API's answers run no
// scripts.
var permissions = []string{"camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()"}

func writePage(w http.ResponseWriter, status int, page []byte) {
	w.Header()["Permissions-Policy"] = permissions
	answer.Bytes(w, status, answer.HTMLType, page)
}

// ruleHeader names the field and the rule that a form breaks, or the limit that a request exceeds,
// for programs that show their own texts. The body contains only the two members of the published
// contract.
const ruleHeader = "Dialtone-Rule"

// customError is an error with its own response instead of the usual one.
type customError struct {
	error
	// answer writes the response, with the status of the error's kind or another one. If it fails,
	// it has written nothing.
	answer func(w http.ResponseWriter, status int) error
}

func (e *customError) Unwrap() error { return e.error }

// fail is the only place where an error becomes an answer.
func (s *Site) fail(w http.ResponseWriter, r *request, rt route, err error) {
	k := answer.KindOf(err)
	logError := func(event string, err error) {
		s.deps.Log.ErrorContext(r.Context(), event, "request", r.from.Request, "path", r.URL.Path, "err", err)
	}
	internal := ""
	if fault.KindOf(err) == fault.Internal {
		logError("request failed", err)
		internal = "something went wrong on our side and nothing was saved; try again shortly, and contact the " +
			"operator if it keeps happening (request " + r.from.Request + ")"
	}
	answer.SetRetryAfter(w.Header(), err)
	if fe, ok := errors.AsType[*fault.Error](err); ok && fe.Rule != "" {
		w.Header()[ruleHeader] = []string{strings.TrimPrefix(fe.Field+"."+fe.Rule, ".")}
	}
	if custom, ok := errors.AsType[*customError](err); ok {
		failed := custom.answer(w, k.Status)
		if failed == nil {
			return
		}
		logError("error answer failed", failed)
	}
	if !rt.api && wantsPage(r.Request) {
		sp, key := s.pageLanguage(r), errorKey(k.Code)
		if errors.Is(err, provision.ErrGone) {
			key = "error.gone"
		}
		f := frame{Product: "Dialtone"} // if no platform has the host name
		if r.tenant != nil {
			f = s.newFrame(r.tenant, sp)
		}
		data := errorPage{f, k.Status, key, r.from.Request}
		if page, err := s.pages.render(sp.tag, "error", data); err == nil {
			writePage(w, k.Status, page)
			return
		}
	}
	if err := answer.JSON(w, k.Status, answer.ErrorOf(err, internal)); err != nil {
		logError("error answer failed", err)
	}
}

// errorKey returns the key of the text for people about an error with a code.
func errorKey(code string) string {
	if _, ok := i18n.In(i18n.English).Find("error." + code); ok {
		return "error." + code
	}
	return "error.other"
}

// wantsPage reports whether the request comes from a browser's navigation: only browsers accept
// text/html.
func wantsPage(r *http.Request) bool { return strings.Contains(r.Header.Get("Accept"), "text/html") }
