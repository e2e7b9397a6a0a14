package account_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/captcha"
	"dialtone/internal/digest"
	"dialtone/internal/mail/pickup"
	"dialtone/internal/outbox"
	"dialtone/internal/secret"
	"dialtone/internal/tenant"
	"dialtone/internal/test/teststore"
)

// BenchmarkSignup measures a signup without HTTP: every rule, the durable transaction, the message
// file. The parallel form has 64 signups in progress, like a busy server.
func BenchmarkSignup(b *testing.B) {
	for _, parallel := range []int{1, 64} {
		b.Run(fmt.Sprintf("%d at once", parallel),
			func(b *testing.B) { benchmarkSignup(b, parallel) })
	}
}

func benchmarkSignup(b *testing.B, parallel int) {
	ctx, dir := context.Background(), b.TempDir()
	ring := secret.NewRing(time.Now())
	store, err := teststore.Open(ctx, filepath.Join(dir, "dialtone.db"), ring)
	if err != nil {
		b.Fatal(err)
	}
	defer store.Close()
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
	issuer := captcha.NewIssuer(ring, time.Now)
	service := account.NewService(account.Deps{
		Store: store, Captcha: func() *captcha.Issuer { return issuer }, SealRing: ring,
		Outbox: outbox.New(outbox.Deps{
			Store: store, Pickup: box, SealRing: ring, Log: slog.New(slog.DiscardHandler),
			Now: time.Now,
		}),
		Log: slog.New(slog.DiscardHandler), Now: time.Now,
	})
	var serial atomic.Uint32
	one := func() error {
		n := serial.Add(1)
		q := issuer.Ask(t.ID)
		x, y, _ := strings.Cut(q.Text, " + ")
		xn, _ := strconv.Atoi(x)
		yn, _ := strconv.Atoi(y)
		user := fmt.Sprintf("u%d", n)
		ha1b := digest.ComputeB(user, t.Realm, "a long password").Hex()
		_, err := service.Signup(ctx, &t, account.Form{
			User: user, Name: "Alex Example", Email: user + "@example.org",
			HA1: digest.Compute(user, t.Realm, "a long password").Hex(), HA1B: &ha1b,
			CaptchaToken: q.Token, CaptchaAnswer: strconv.Itoa(xn + yn),
		}, account.Origin{Addr: netip.AddrFrom4([4]byte{127, byte(n >> 16), byte(n >> 8),
			byte(n)})})
		return err
	}
	b.SetParallelism(parallel / 2)
	b.ResetTimer()
	if parallel == 1 {
		for b.Loop() {
			if err := one(); err != nil {
				b.Fatal(err)
			}
		}
	} else {
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if err := one(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "signups/s")
}
