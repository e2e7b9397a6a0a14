package web

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"dialtone/internal/fault"
	"dialtone/internal/i18n"
	"dialtone/internal/provision"
)

// setHeaders are the headers of every answer. The policy lets a page load its own files and talk to its own host, and
// nothing else; Trusted Types turn a script's slip into an error instead of markup.
func setHeaders(h http.Header) {
	h["Content-Security-Policy"] = policy
	h["X-Content-Type-Options"] = nosniff
	h["Referrer-Policy"] = noReferrer
	h["Cross-Origin-Opener-Policy"] = sameOrigin
	h["Cross-Origin-Resource-Policy"] = sameOrigin
	h["Cache-Control"] = noStore
}

// One slice each, shared by all answers: headers are set anew and never appended to.
var (
	policy = []string{"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
		"form-action 'self'; frame-ancestors 'none'; base-uri 'none'; require-trusted-types-for 'script'; trusted-types 'none'"}
	nosniff    = []string{"nosniff"}
	noReferrer = []string{"no-referrer"}
	sameOrigin = []string{"same-origin"}
	noStore    = []string{"no-store"}
	jsonType   = []string{"application/json; charset=utf-8"}
	htmlType   = []string{"text/html; charset=utf-8"}
)

func newRequestID() string { return strconv.FormatUint(rand.Uint64()|1<<63, 36) }

func stack(p any) string { return fmt.Sprintf("%v\n%s", p, debug.Stack()) }

// writeJSON sends v, whole or as an error before the first byte.
func writeJSON(w http.ResponseWriter, status int, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	h := w.Header()
	h["Content-Type"] = jsonType
	setLength(h, len(b)+1)
	w.WriteHeader(status)
	w.Write(append(b, '\n'))
	return nil
}

// setLength tells the length of a body that net/http would send in chunks. It counts a body of up to 2048 bytes by itself,
// without another entry in the header: a map of more than eight entries costs as much as all of them.
func setLength(h http.Header, length int) {
	if length > 2048 {
		h["Content-Length"] = []string{strconv.Itoa(length)}
	}
}

func writePage(w http.ResponseWriter, status int, page []byte) {
	h := w.Header()
	h["Content-Type"] = htmlType
	setLength(h, len(page))
	w.WriteHeader(status)
	w.Write(page)
}

// kinds is how each kind of error is told.
var kinds = map[fault.Kind]struct {
	status int
	code   string
}{
	fault.Internal:     {http.StatusInternalServerError, "server_error"},
	fault.Misdirected:  {http.StatusMisdirectedRequest, "misdirected_request"},
	fault.NotFound:     {http.StatusNotFound, "not_found"},
	fault.Method:       {http.StatusMethodNotAllowed, "method_not_allowed"},
	fault.Invalid:      {http.StatusBadRequest, "invalid_request"},
	fault.Limited:      {http.StatusTooManyRequests, "rate_limited"},
	fault.Captcha:      {http.StatusBadRequest, "captcha_failed"},
	fault.Conflict:     {http.StatusConflict, "conflict"},
	fault.Unauthorized: {http.StatusUnauthorized, "unauthorized"},
	fault.NotActivated: {http.StatusForbidden, "not_activated"},
	fault.Overloaded:   {http.StatusServiceUnavailable, "overloaded"},
}

type errorAnswer struct {
	Error       string `json:"error"`
	Description string `json:"error_description"`
}

// ruleHeader names the field and the rule that a form breaks, for programs that have words of their own. The body is the
// published contract's and has its two members.
const ruleHeader = "Dialtone-Rule"

// fail is the one place where an error becomes an answer.
func (s *Site) fail(w http.ResponseWriter, v *visit, rt route, err error) {
	kind := fault.KindOf(err)
	k := kinds[kind]
	answer := errorAnswer{Error: k.code}
	answer.Description = "something failed on our side and nothing was saved; send the same again in a while, and tell the operator if it stays (request " + v.from.Request + ")"
	if kind == fault.Internal {
		s.Log.ErrorContext(v.Context(), "request failed", "request", v.from.Request, "path", v.URL.Path, "err", err)
	} else if fe, ok := errors.AsType[*fault.Error](err); ok {
		answer.Description = fe.Message
		if fe.Field != "" {
			answer.Description = fe.Field + ": " + fe.Message
		}
		if fe.Rule != "" {
			w.Header()[ruleHeader] = []string{fe.Field + "." + fe.Rule}
		}
		if fe.RetryAfter > 0 {
			w.Header().Set("Retry-After", strconv.Itoa(int(fe.RetryAfter/time.Second)))
		}
	}
	if !rt.api && v.tenant != nil && wantsPage(v.Request) {
		sp, key := s.speech(v), errorWords(k.code)
		if err == provision.ErrGone {
			key = "error.gone"
		}
		if page, err := s.pages.render(sp.tag, "error", errorPage{newFrame(v.tenant, sp), k.status, key, v.from.Request}); err == nil {
			writePage(w, k.status, page)
			return
		}
	}
	if err := writeJSON(w, k.status, answer); err != nil {
		s.Log.ErrorContext(v.Context(), "an error could not be told", "request", v.from.Request, "err", err)
	}
}

// errorWords is the key of what a person is told about an error with that code.
func errorWords(code string) string {
	if _, ok := i18n.In(i18n.English).Find("error." + code); ok {
		return "error." + code
	}
	return "error.other"
}

// wantsPage reports whether a person's browser is asking, by the one thing that browsers say and programs do not.
func wantsPage(r *http.Request) bool { return strings.Contains(r.Header.Get("Accept"), "text/html") }
