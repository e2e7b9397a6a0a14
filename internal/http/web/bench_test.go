package web

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/captcha"
	"dialtone/internal/digest"
	"dialtone/internal/mail/pickup"
	"dialtone/internal/outbox"
	"dialtone/internal/secret"
	"dialtone/internal/session"
	"dialtone/internal/tenant"
	"dialtone/internal/test/teststore"
)

// benchSite is a site with one active account, alex, whose password is "a long password".
func benchSite(b *testing.B) *Site {
	ctx, dir, now := context.Background(), b.TempDir(), time.Now
	ring := secret.NewRing(now())
	store, err := teststore.Open(ctx, filepath.Join(dir, "dialtone.db"), ring)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { store.Close() })
	box, err := pickup.Open(filepath.Join(dir, "pickup"))
	if err != nil {
		b.Fatal(err)
	}
	t, err := tenant.New(tenant.Tenant{Host: "phone.test", PublicURL: "https://phone.test"})
	if err != nil {
		b.Fatal(err)
	}
	if t, err = store.AddTenant(ctx, t); err != nil {
		b.Fatal(err)
	}
	tenants := tenant.NewTable(store, func(host string) string { return "https://" + host })
	if err := tenants.Refresh(ctx); err != nil {
		b.Fatal(err)
	}
	issuer, signatures := captcha.NewIssuer(ring, now), session.NewSignatures(ring)
	// Audit lines are written as in production.
	log := slog.New(slog.NewJSONHandler(io.Discard, nil))
	accounts := account.NewService(account.Deps{
		Store: store, Captcha: func() *captcha.Issuer { return issuer },
		Outbox: outbox.New(outbox.Deps{
			Store: store, Pickup: box, Tenant: tenants.ByID, SealRing: ring,
			Audit: audit.Log{Logger: log}, Log: log, Now: now,
		}),
		SealRing: ring, Audit: audit.Log{Logger: log}, Log: log, Now: now,
	})
	authenticator := session.NewAuthenticator(session.Deps{
		Accounts: accounts, Store: store, Signatures: func() *session.Signatures { return signatures },
		SealRing: ring, Audit: audit.Log{Logger: log}, Now: now,
	})
	site, err := New(Deps{
		Tenants: tenants, Accounts: accounts, Authenticator: authenticator,
		Captcha: func() *captcha.Issuer { return issuer }, Log: log,
	})
	if err != nil {
		b.Fatal(err)
	}
	q := issuer.Ask(t.ID)
	x, y, _ := strings.Cut(q.Text, " + ")
	xn, _ := strconv.Atoi(x)
	yn, _ := strconv.Atoi(y)
	_, err = accounts.Signup(ctx, &t, account.Form{
		User:          "alex",
		Name:          "Alex",
		Email:         "alex@example.org",
		HA1:           digest.Compute("alex", t.Realm, "a long password").Hex(),
		CaptchaToken:  q.Token,
		CaptchaAnswer: strconv.Itoa(xn + yn),
	}, account.Origin{Addr: netip.MustParseAddr("127.0.0.1")})
	if err != nil {
		b.Fatal(err)
	}
	if _, err := accounts.Enable(ctx, &t, "alex"); err != nil {
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
