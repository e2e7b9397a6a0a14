package web_test

import (
	"bytes"
	"mime/multipart"
	"net/url"
	"strings"
	"testing"
)

// multipartOf returns a form as new FormData(form) sends it, and its media type.
func multipartOf(t *testing.T, f form, more ...string) (body, contentType string) {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for _, field := range f {
		value := must[string](t)(url.PathUnescape(strings.ReplaceAll(field[1], "+", "%20")))
		if err := w.WriteField(field[0], value); err != nil {
			t.Fatal(err)
		}
	}
	for i := 0; i < len(more); i += 2 {
		if err := w.WriteField(more[i], more[i+1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String(), w.FormDataContentType()
}

// TestMultipartSignup signs up with a multipart form, from the captcha to the first sign-in.
func TestMultipartSignup(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	post := func(v *visitor, body, contentType string) answer {
		return v.do(t, "POST", "/signup.ashx", body, "Content-Type", contentType)
	}
	t.Run("works", func(t *testing.T) {
		who := s.newPerson("a.test")
		v := s.visitor("a.test")
		body, contentType := multipartOf(t, s.form(t, who), "_charset_", "utf-8", "role", "admin")
		post(v, body, contentType).wantStatus(t, 200)
		v.get(t, s.link(t, who.email)).wantStatus(t, 200)
		a := v.signIn(t, who.user, who.password)
		a.wantStatus(t, 200)
		if !strings.Contains(a.body, `"role":"guest"`) {
			t.Errorf("the answer is %s", a.body)
		}
	})
	t.Run("is refused like another form", func(t *testing.T) {
		who := s.newPerson("a.test")
		f := s.form(t, who)
		body, contentType := multipartOf(t, f)
		twice, twiceType := multipartOf(t, f, "user", who.user)
		long, longType := multipartOf(t, f, "pad", strings.Repeat("x", 8<<10))
		s.changesNothing(t, "a.test", who.user, func() {
			for name, row := range map[string][3]string{
				"truncated":        {body[:len(body)-20], contentType, "well-formed"},
				"another boundary": {body, "multipart/form-data; boundary=x", "well-formed"},
				"a field twice":    {twice, twiceType, "user: "},
				"too long":         {long, longType, "8 KiB"},
			} {
				got := post(s.visitor("a.test"), row[0], row[1]).wantError(t, 400, "invalid_request")
				if !strings.Contains(got, row[2]) {
					t.Errorf("%s: %q", name, got)
				}
			}
		})
	})
}

// TestNavigation checks that a link to http://name:password@host/signin.ashx does not sign a visitor
// in as somebody else: browsers answer the challenge by themselves.
func TestNavigation(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	who := s.active(t, "a.test")
	for mode, cookies := range map[string]bool{"": true, "cors": true, "same-origin": true, "navigate": false} {
		a := s.visitor("a.test").signIn(t, who.user, who.password, "Sec-Fetch-Mode", mode)
		a.wantStatus(t, 200)
		if got := len(a.header["Set-Cookie"]) > 0; got != cookies {
			t.Errorf("Sec-Fetch-Mode %q: cookies %v", mode, a.header["Set-Cookie"])
		}
	}
}

// TestLinkWithOtherParameters checks that only the token of a link counts, whatever click trackers
// append.
func TestLinkWithOtherParameters(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for _, more := range []string{"&x=%zz", "&%zz", "&utm_source=a;b", "&x=%00", "&lang=de", "&token2=x"} {
		who := s.pending(t, "a.test")
		s.visitor("a.test").get(t, s.link(t, who.email)+more).wantStatus(t, 200)
		s.visitor("a.test").signIn(t, who.user, who.password).wantStatus(t, 200)
	}
	who := s.pending(t, "a.test")
	s.visitor("a.test").get(t, s.link(t, who.email)+"&token=x").wantStatus(t, 400)
}
