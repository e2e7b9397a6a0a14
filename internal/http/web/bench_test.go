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
	"sync"
	"testing"
	"time"

	"dialtone/internal/asynclog"
	"dialtone/internal/audit"
	"dialtone/internal/captcha"
	"dialtone/internal/digest"
	"dialtone/internal/session"
	"dialtone/internal/stats"
	"dialtone/internal/test/world"
)

// benchSite is a site with one active account, alex, whose password is "a long password".
func benchSite(b *testing.B) *Site {
	w := world.New(b, world.Options{RealTime: true})
	// Audit lines are counted and written as in production.
	lines := asynclog.NewWriter(io.Discard, func(int64) {})
	b.Cleanup(lines.Close)
	log := slog.New(slog.NewJSONHandler(lines, nil))
	daily := stats.NewCounter(w.Store, w.Tenants.Lookup, w.Now)
	events := audit.Log{Logger: log, Observers: []func(audit.Event){
		audit.NewCounts(func(host string) bool { return host == w.Tenant.Host }).Observe, daily.Observe,
	}}
	w.Member("alex", world.WithPassword("a long password"), world.MD5Only)
	issuer, signatures := captcha.NewIssuer(w.SignRing, w.Now), session.NewSignatures(w.SignRing)
	authenticator := session.NewAuthenticator(session.Deps{
		Accounts: w.Accounts, Store: w.Store, Signatures: func() *session.Signatures { return signatures },
		Passwords: w.AccountDeps.Passwords, Notices: w.Accounts, Audit: events, Counts: daily, Now: time.Now,
	})
	ctx, stop := context.WithCancel(context.Background())
	var written sync.WaitGroup
	written.Go(func() { authenticator.Run(ctx) })
	b.Cleanup(func() { stop(); written.Wait() })
	site, err := New(Deps{
		Tenants: w.Tenants, Accounts: w.Accounts, Authenticator: authenticator,
		Captcha: func() *captcha.Issuer { return issuer }, Log: log,
	})
	if err != nil {
		b.Fatal(err)
	}
	return site
}

// BenchmarkReads measures the most common requests that do not write, without the network.
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
			proof := ask.Clone(context.Background())
			ha1 := digest.Compute("alex", "phone.test", "a long password").Hex()
			ha2 := hexMD5("GET:/signin.ashx")
			for pb.Next() {
				w := discard{header: http.Header{}}
				site.ServeHTTP(&w, ask)
				_, rest, _ := strings.Cut(w.header["Www-Authenticate"][0], `nonce="`)
				nonce, _, _ := strings.Cut(rest, `"`)
				proof.Header["Authorization"] = []string{`Digest username="alex", realm="phone.test", nonce="` + nonce +
					`", uri="/signin.ashx", algorithm=MD5, qop=auth, nc=00000001, cnonce="c0ffee", response="` +
					hexMD5(ha1+":"+nonce+":00000001:c0ffee:auth:"+ha2) + `"`}
				w = discard{header: http.Header{}}
				if site.ServeHTTP(&w, proof); w.status != http.StatusOK {
					b.Error(w.status)
					return
				}
			}
		})
	})
}

// discard is a response that keeps its header and status.
type discard struct {
	header http.Header
	status int
}

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) WriteHeader(status int)      { d.status = status }
func (d *discard) Write(p []byte) (int, error) { return len(p), nil }

func hexMD5(s string) string {
	sum := md5.Sum([]byte(s))
	return hex.EncodeToString(sum[:])
}
