package web

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"

	"dialtone/internal/fault"
	"dialtone/internal/http/answer"
	"dialtone/internal/i18n"
	"dialtone/internal/provision"
)

// setHeaders sets the headers of every answer. The policy lets a page load its own files and talk to
// its own host, and nothing else. Trusted Types turn a script's mistake into an error instead of
// markup.
func setHeaders(h http.Header) {
	answer.SetHeaders(h)
	h["Content-Security-Policy"] = policy
	h["Referrer-Policy"] = noReferrer
	h["Cross-Origin-Opener-Policy"] = sameOrigin
	h["Cross-Origin-Resource-Policy"] = sameOrigin
}

// Shared by all answers: headers are set and never appended to.
var (
	policy = []string{"default-src 'none'; script-src 'self'; style-src 'self'; " +
		"img-src 'self'; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; " +
		"base-uri 'none'; require-trusted-types-for 'script'; trusted-types 'none'"}
	noReferrer = []string{"no-referrer"}
	sameOrigin = []string{"same-origin"}
)

func newRequestID() string { return strconv.FormatUint(rand.Uint64()|1<<63, 36) }

func stack(p any) string { return fmt.Sprintf("%v\n%s", p, debug.Stack()) }

func writePage(w http.ResponseWriter, status int, page []byte) {
	answer.Bytes(w, status, answer.HTMLType, page)
}

// ruleHeader names the field and the rule that a form breaks, for programs that have words of their own. The body is the
// published contract's and has its two members.
const ruleHeader = "Dialtone-Rule"

// fail is the one place where an error becomes an answer.
func (s *Site) fail(w http.ResponseWriter, v *visit, rt route, err error) {
	k := answer.KindOf(err)
	if fault.KindOf(err) == fault.Internal {
		s.Log.ErrorContext(v.Context(), "request failed", "request", v.from.Request, "path", v.URL.Path, "err", err)
	}
	answer.SetRetryAfter(w.Header(), err)
	if fe, ok := errors.AsType[*fault.Error](err); ok && fe.Rule != "" {
		w.Header()[ruleHeader] = []string{fe.Field + "." + fe.Rule}
	}
	if !rt.api && v.tenant != nil && wantsPage(v.Request) {
		sp, key := s.speech(v), errorWords(k.Code)
		if errors.Is(err, provision.ErrGone) {
			key = "error.gone"
		}
		if page, err := s.pages.render(sp.tag, "error", errorPage{newFrame(v.tenant, sp), k.Status, key, v.from.Request}); err == nil {
			writePage(w, k.Status, page)
			return
		}
	}
	body := answer.ErrorOf(err, "something went wrong on our side and nothing was saved; try again "+
		"shortly, and contact the operator if it keeps happening (request "+v.from.Request+")")
	if err := answer.JSON(w, k.Status, body); err != nil {
		s.Log.ErrorContext(v.Context(), "error answer failed", "request", v.from.Request, "err", err)
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
