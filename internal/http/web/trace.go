package web

import (
	"net/http"

	"dialtone/internal/http/server"
	"dialtone/internal/trace"
)

// traced begins the span of a request, if the request is recorded. It continues only the traces of
// trusted proxies. Otherwise clients could have all their requests recorded, or add them to the
// traces of others.
func (s *Site) traced(r *http.Request) (*http.Request, *trace.Span) {
	var parent trace.Parent
	if header := r.Header["Traceparent"]; len(header) == 1 {
		if trusts(s.deps.TrustedProxies, server.Peer(r)) {
			parent, _ = trace.ParseParent(header[0])
		}
	}
	ctx, span := s.deps.Tracer.Begin(r.Context(), "request", trace.Server, parent)
	if span == nil {
		return r, nil
	}
	return r.WithContext(ctx), span
}

// finish ends the span of a request. The recorded route comes from the table; it is never the path
// that the client sent.
func (s *Site) finish(span *trace.Span, r *request, rt route, status int) {
	span.Name = s.requests.Routes()[rt.number]
	span.Set("http.route", span.Name)
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodPost:
		span.Set("http.request.method", r.Method)
	default:
		span.Set("http.request.method", "_OTHER")
	}
	span.SetInt("http.response.status_code", int64(status))
	if r.tenant != nil {
		span.Set("dialtone.tenant", r.tenant.Host)
	}
	span.Set("dialtone.request", r.from.Request)
	span.Finish(status >= http.StatusInternalServerError || status == 0)
}
