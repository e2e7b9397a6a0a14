package web

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"dialtone/internal/audit"
	"dialtone/internal/captcha"
	"dialtone/internal/digest"
	"dialtone/internal/session"
	"dialtone/internal/test/world"
)

// benchSite is a site with one active account, alex, whose password is "a long password".
func benchSite(b *testing.B) *Site {
	w := world.New(b, world.Options{RealTime: true})
	// Audit lines are written as in production.
	log := slog.New(slog.NewJSONHandler(io.Discard, nil))
	w.Member("alex", world.WithPassword("a long password"), world.MD5Only)
	issuer, signatures := captcha.NewIssuer(w.SignRing, w.Now), session.NewSignatures(w.SignRing)
	authenticator := session.NewAuthenticator(session.Deps{
		Accounts: w.Accounts, Store: w.Store, Signatures: func() *session.Signatures { return signatures },
		SealRing: w.SealRing, Audit: audit.Log{Logger: log}, Now: w.Now,
	})
	site, err := New(Deps{
		Tenants: w.Tenants, Accounts: w.Accounts, Authenticator: authenticator,
		Captcha: func() *captcha.Issuer { return issuer }, Log: log,
	})
	if err != nil {
		b.Fatal(err)
	}
	return site
}

// BenchmarkReads handles the commonest requests that write nothing, without the network.
func BenchmarkReads(b *testing.B) {
	site := benchSite(b)
	for _, c := range []struct{ name, path string }{
		{"captcha", "/captcha.ashx"}, {"challenge", "/signin.ashx"}, {"sign-up page", "/signup.html"},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				r := httptest.NewRequest("GET", "http://phone.test"+c.path, nil)
				for pb.Next() {
					site.ServeHTTP(httptest.NewRecorder(), r)
				}
			})
		})
	}
	b.Run("sign-in", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			ask := httptest.NewRequest("GET", "http://phone.test/signin.ashx", nil)
			ask.RequestURI = "/signin.ashx"
			ha1 := digest.Compute("alex", "phone.test", "a long password").Hex()
			for pb.Next() {
				w := httptest.NewRecorder()
				site.ServeHTTP(w, ask)
				_, rest, _ := strings.Cut(w.Header().Get("Www-Authenticate"), `nonce="`)
				nonce, _, _ := strings.Cut(rest, `"`)
				answer := ask.Clone(context.Background())
				answer.Header.Set("Authorization", `Digest username="alex", realm="phone.test", nonce="`+nonce+
					`", uri="/signin.ashx", algorithm=MD5, qop=auth, nc=00000001, cnonce="c0ffee", response="`+
					hexMD5(ha1+":"+nonce+":00000001:c0ffee:auth:"+hexMD5("GET:/signin.ashx"))+`"`)
				w = httptest.NewRecorder()
				if site.ServeHTTP(w, answer); w.Code != http.StatusOK {
					b.Error(w.Body.String())
					return
				}
			}
		})
	})
}

func hexMD5(s string) string {
	sum := md5.Sum([]byte(s))
	return hex.EncodeToString(sum[:])
}
