package web

import (
	"net/http"
	"strings"

	"dialtone/internal/http/answer"
	"dialtone/internal/tenant"
)

// Redirect returns the handler of a listener without TLS. It redirects requests to the public URL
// of their tenant, except those for which challenged reports true, which it has already answered.
func Redirect(tenants *tenant.Table, challenged func(http.ResponseWriter, *http.Request) bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		setHeaders(w.Header())
		// The body is not read, so what follows it must not be read as a request.
		w.Header().Set("Connection", "close")
		if challenged(w, r) {
			return
		}
		t, ok := tenants.Lookup(r.Host)
		if !ok || !t.Secure() {
			answer.JSON(w, http.StatusMisdirectedRequest, answer.Error{
				Code:        "misdirected_request",
				Description: "this server has no platform with that host name; check the address",
			})
			return
		}
		target := r.URL.RequestURI()
		if !strings.HasPrefix(target, "/") { // OPTIONS *
			target = "/"
		}
		http.Redirect(w, r, t.PublicURL+target, http.StatusPermanentRedirect)
	})
}
