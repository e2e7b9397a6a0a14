package web

import (
	"context"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"dialtone/internal/secret"
	"dialtone/internal/tenant"
)

// FuzzForm checks that a body is refused, or contains each field of the form once, as text without
// control characters.
func FuzzForm(f *testing.F) {
	for _, body := range []string{
		"", "user=alex&name=A&email=a%40b.test&ha1=00&captcha_token=t&captcha_answer=3",
		"user=a&user=b", "user=%ff", "user=%00", "user=a;b",
		"ha1b=&ha1_sha256=%c2%85", "%75ser=a&user=", "user", "=user", "&&&", "user=a+b%20c",
		strings.Repeat("user=a&", 2000),
	} {
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body string) {
		r := httptest.NewRequest("POST", "/signup.ashx", strings.NewReader(body))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		form, _, err := readSignup(httptest.NewRecorder(), r)
		if err != nil {
			return
		}
		if len(body) > maxForm {
			t.Fatalf("a body of %d bytes was accepted", len(body))
		}
		got := map[string]*string{
			"user":           &form.User,
			"name":           &form.Name,
			"email":          &form.Email,
			"ha1":            &form.HA1,
			"captcha_token":  &form.CaptchaToken,
			"captcha_answer": &form.CaptchaAnswer,
			"ha1b":           form.HA1B,
			"ha1_sha256":     form.HA1SHA256,
		}
		// Parse it again in another way.
		sent := make(map[string][]string)
		for pair := range strings.SplitSeq(body, "&") {
			name, value, _ := strings.Cut(pair, "=")
			name, errName := url.QueryUnescape(name)
			value, errValue := url.QueryUnescape(value)
			if errName != nil || errValue != nil || strings.Contains(pair, ";") {
				t.Fatalf("%q was accepted for a form", body)
			}
			if pair != "" {
				sent[name] = append(sent[name], value)
			}
		}
		for field, value := range got {
			switch {
			case value == nil || *value == "" && len(sent[field]) == 0:
				if len(sent[field]) != 0 {
					t.Fatalf("%s was lost from %q", field, body)
				}
				continue
			case len(sent[field]) != 1 || sent[field][0] != *value:
				t.Fatalf("%s is %q, and the body %q", field, *value, body)
			case !utf8.ValidString(*value):
				t.Fatalf("%s is %q, which is not valid UTF-8", field, *value)
			case strings.ContainsFunc(*value, unicode.IsControl):
				t.Fatalf("%s is %q, with a control character", field, *value)
			}
		}
	})
}

// FuzzForwarded checks that the client's address is that of the peer, or one that only trusted
// proxies forwarded.
func FuzzForwarded(f *testing.F) {
	for _, header := range []string{
		"", "192.0.2.1", "192.0.2.1, 10.0.0.1", "::ffff:192.0.2.1", "2001:db8::1%eth0, 10.1.2.3",
		"10.0.0.1, unknown", ",", "192.0.2.1,", "192.0.2.1:80", "[::1]:80",
		"9.9.9.9, x, 10.0.0.1",
	} {
		f.Add("10.0.0.1", header, "")
		f.Add("192.0.2.99", header, header)
		f.Add("::ffff:10.0.0.1", "", header)
	}
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	isTrusted := func(a netip.Addr) bool { return trusted[0].Contains(a) || trusted[1].Contains(a) }
	f.Fuzz(func(t *testing.T, peerText, one, two string) {
		peer, err := netip.ParseAddr(peerText)
		if err != nil {
			return
		}
		peer = peer.Unmap().WithZone("")
		got, _ := forwardedFor(peer, []string{one, two}, trusted)
		if untrusted, _ := forwardedFor(peer, []string{one, two}, nil); untrusted != peer {
			t.Fatal("a header counts where no proxy is trusted")
		}
		if !isTrusted(peer) {
			if got != peer {
				t.Fatalf("the address %s without a proxy became %s", peer, got)
			}
			return
		}
		if !got.IsValid() || got.Zone() != "" || got.Is4In6() {
			t.Fatalf("the address %v is not in its plain form", got)
		}
		var hops []netip.Addr
		for _, hop := range strings.Split(one+","+two, ",") {
			if strings.TrimSpace(hop) == "" {
				continue
			}
			a, ok := parseHop(strings.TrimSpace(hop))
			if !ok {
				hops = nil // addresses to the left of it do not count
				continue
			}
			hops = append(hops, a)
		}
		i := slices.Index(hops, got)
		if i < 0 {
			if got != peer {
				t.Fatalf("%s is neither the peer nor in %q", got, one+","+two)
			}
			return
		}
		i = len(hops) - 1 - slices.Index(reversed(hops), got)
		for _, later := range hops[i+1:] {
			if !isTrusted(later) {
				t.Fatalf("%s was accepted from %s, which is not a proxy", got, later)
			}
		}
	})
}

func reversed(list []netip.Addr) []netip.Addr {
	list = slices.Clone(list)
	slices.Reverse(list)
	return list
}

// tenantList is a store of tenants that never change.
type tenantList struct {
	tenant.Store
	list []tenant.Tenant
}

func (s tenantList) Tenants(context.Context) ([]tenant.Tenant, int64, error) { return s.list, 1, nil }
func (s tenantList) TenantVersion(context.Context) (int64, error)            { return 1, nil }

// FuzzHost checks that a Host matches a tenant exactly, except for the case of ASCII letters, a
// port and one trailing dot.
func FuzzHost(f *testing.F) {
	var s tenantList
	for i, host := range []string{"a.test", "localhost", "xn--bcher-kva.test"} {
		s.list = append(s.list, tenant.Tenant{ID: int64(i + 1), Host: host, Created: time.Unix(0, 0)})
	}
	d := tenant.NewTable(s, func(host string) string { return "https://" + host })
	if err := d.Refresh(context.Background()); err != nil {
		f.Fatal(err)
	}
	for _, host := range []string{
		"", "a.test", "A.Test.:8443", "a.test..", "a.test:", "a.test:x", "evil.test",
		"a.test.evil.test", "evil-a.test", "\u212Acalhost", "bücher.test", "[::1]:80",
		"a.test\x00", "a.test@evil.test", "a.test:80:80", "a.te\u017Ft", "localhost:443", "]:a.test",
	} {
		f.Add(host)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		got, ok := d.Lookup(raw)
		if !ok {
			for _, x := range s.list {
				if raw == x.Host || raw == x.Host+"." || raw == x.Host+":443" || raw == strings.ToUpper(x.Host) {
					t.Fatalf("%q matches no tenant", raw)
				}
			}
			return
		}
		// The text begins with the tenant's host name. Only a dot and a port may follow.
		rest := raw[min(len(raw), len(got.Host)):]
		if len(raw) < len(got.Host) {
			t.Fatalf("%q matches the tenant %s", raw, got.Host)
		}
		for i := range len(got.Host) {
			if c := raw[i]; c != got.Host[i] && !('A' <= c && c <= 'Z' && c+'a'-'A' == got.Host[i]) {
				t.Fatalf("%q matches the tenant %s", raw, got.Host)
			}
		}
		rest = strings.TrimPrefix(rest, ".")
		if port, has := strings.CutPrefix(rest, ":"); rest != "" &&
			(!has || strings.Trim(port, "0123456789") != "") {
			t.Fatalf("%q matches the tenant %s", raw, got.Host)
		}
	})
}

// FuzzToken checks that a link has exactly one token, and a token exactly one text.
func FuzzToken(f *testing.F) {
	good := secret.Token{1, 2, 3}.Text()
	for _, query := range []string{
		"", "token=", "token=" + good, "token=" + good + "&x=1", "token=" + good + "&token=" + good,
		"token=" + good + "=", "token=" + good[:9] + "%0A" + good[9:],
		"token=%zz", "token=" + good + ";", "Token=" + good, "token=" + good[:42] + "B",
		"%74oken=" + good, "token=" + good + "+",
	} {
		f.Add(query)
	}
	f.Fuzz(func(t *testing.T, query string) {
		text := tokenOf(&url.URL{RawQuery: query})
		token, ok := secret.ParseToken(text)
		if !ok {
			if len(text) == secret.TokenLength &&
				strings.Trim(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") == "" &&
				strings.Contains("AEIMQUYcgkosw048", text[42:]) {
				t.Fatalf("the token %q is refused", text)
			}
			return
		}
		if token.Text() != text || len(text) != secret.TokenLength {
			t.Fatalf("two texts are the same token: %q and %q", text, token.Text())
		}
		tokens := 0
		for pair := range strings.SplitSeq(query, "&") {
			name, _, _ := strings.Cut(pair, "=")
			if name, err := url.QueryUnescape(name); err == nil && name == "token" {
				tokens++
			}
		}
		if tokens != 1 {
			t.Fatalf("%d tokens are in %q", tokens, query)
		}
	})
}

// TestRoutes checks that the routes and their methods are the documented ones.
func TestRoutes(t *testing.T) {
	documented := map[string]string{
		"/captcha.ashx": "GET, HEAD", "/signup.ashx": "POST", "/activate.ashx": "GET, HEAD, POST",
		"/signin.ashx": "GET, HEAD, POST", "/signout.ashx": "POST", "/resend.ashx": "POST",
		"/decline.ashx": "POST", "/decline.html": "GET, HEAD, POST",
		"/two-step.ashx": "POST", "/two-step.html": "GET, HEAD",
		"/password.ashx": "POST", "/password.html": "GET, HEAD", "/.well-known/change-password": "GET, HEAD",
		"/": "GET, HEAD", "/signup.html": "GET, HEAD", "/login.html": "GET, HEAD",
		"/passkeys.ashx": "GET, HEAD, POST", "/passkeys.html": "GET, HEAD", "/passkey.ashx": "POST",
		"/passkey-options.ashx": "GET, HEAD", "/passkey-new.ashx": "POST", "/passkey-remove.ashx": "POST",
		"/sessions.ashx": "GET, HEAD, POST", "/sessions.html": "GET, HEAD",
		"/phones.ashx":  "GET, HEAD",
		"/account.html": "GET, HEAD", "/activated.html": "GET, HEAD",
		"/forgot.ashx": "POST", "/reset.ashx": "GET, HEAD, POST", "/not-me.ashx": "POST",
		"/forgot.html": "GET, HEAD", "/reset.html": "GET, HEAD", "/not-me.html": "GET, HEAD",
		"/email.ashx": "POST", "/confirm-email.ashx": "POST", "/confirm-email.html": "GET, HEAD",
		"/profile.ashx": "POST", "/profile.html": "GET, HEAD",
		"/data.ashx": "GET, HEAD", "/leave.ashx": "POST", "/leave.html": "GET, HEAD",
		"/stay.ashx": "POST", "/stay.html": "GET, HEAD",
		"/turn": "GET, HEAD", "/provision": "GET, HEAD, POST",
		"/robots.txt": "GET, HEAD", "/favicon.ico": "GET, HEAD",
		"/provision/linphone.xml": "GET, HEAD", "/provision/zoiper.xml": "GET, HEAD",
	}
	site, err := New(Deps{})
	if err != nil {
		t.Fatal(err)
	}
	for path, rt := range site.table {
		if documented[path] != rt.methods() {
			t.Errorf("%s accepts %s, want %q as documented", path, rt.methods(), documented[path])
		}
	}
	for path := range documented {
		if _, there := site.table[path]; !there {
			t.Errorf("%s is documented, but there is no such route", path)
		}
	}
}
