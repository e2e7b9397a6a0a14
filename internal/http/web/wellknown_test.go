package web_test

import (
	"errors"
	"strings"
	"testing"

	"dialtone/internal/http/web"
)

func TestWellKnownFiles(t *testing.T) {
	const text = "Contact: mailto:security@example.org\nExpires: 2027-01-01T00:00:00Z\n"
	var failure error
	s := startServerWith(t, options{web: func(d *web.Deps) {
		d.SecurityTxt = func() ([]byte, error) { return []byte(text), failure }
	}})
	v := s.visitor("a.test")
	a := v.get(t, "/robots.txt")
	a.wantStatus(t, 200)
	if a.header.Get("Content-Type") != "text/plain; charset=utf-8" ||
		!strings.HasPrefix(a.body, "User-agent: *\nDisallow: /*.ashx\n") ||
		strings.Contains(a.body, "\nDisallow: /\n") {
		t.Errorf("robots.txt is %v %q", a.header, a.body)
	}
	a = v.get(t, "/favicon.ico")
	a.wantStatus(t, 302)
	icon := v.get(t, a.header.Get("Location"))
	icon.wantStatus(t, 200)
	if icon.header.Get("Content-Type") != "image/svg+xml" {
		t.Errorf("the icon is %v", icon.header)
	}
	a = v.get(t, "/.well-known/security.txt")
	a.wantStatus(t, 200)
	if a.header.Get("Content-Type") != "text/plain; charset=utf-8" || a.body != text {
		t.Errorf("security.txt is %v %q", a.header, a.body)
	}
	for _, path := range []string{"/robots.txt", "/favicon.ico", "/.well-known/security.txt"} {
		v.do(t, "POST", path, "").wantError(t, 405, "method_not_allowed")
		s.visitor("evil.test").get(t, path).wantError(t, 421, "misdirected_request")
	}
	failure = errors.New("no such file")
	v.get(t, "/.well-known/security.txt").wantError(t, 500, "server_error")
	startServer(t).visitor("a.test").get(t, "/.well-known/security.txt").wantError(t, 404, "not_found")
}
