package account_test

import (
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/captcha"
	"dialtone/internal/digest"
	"dialtone/internal/test/world"
)

// BenchmarkSignup measures a signup without HTTP: every rule, the durable transaction, the message
// file. The parallel form has 64 signups in progress, like a busy server.
func BenchmarkSignup(b *testing.B) {
	for _, parallel := range []int{1, 64} {
		b.Run(fmt.Sprintf("%d at once", parallel), func(b *testing.B) { benchmarkSignup(b, parallel) })
	}
}

func benchmarkSignup(b *testing.B, parallel int) {
	w := world.New(b, world.Options{RealTime: true})
	discard := slog.New(slog.DiscardHandler)
	w.OutboxDeps.Log, w.AccountDeps.Log, w.AccountDeps.Audit = discard, discard, audit.Log{}
	issuer := captcha.NewIssuer(w.SignRing, w.Now)
	w.AccountDeps.Captcha = func() *captcha.Issuer { return issuer }
	w.Rebuild()
	var serial atomic.Uint32
	one := func() error {
		q := issuer.Ask(w.Tenant.ID)
		x, y, _ := strings.Cut(q.Text, " + ")
		xn, _ := strconv.Atoi(x)
		yn, _ := strconv.Atoi(y)
		user := fmt.Sprintf("u%d", serial.Add(1))
		ha1b := digest.ComputeB(user, w.Tenant.Realm, "a long password").Hex()
		_, err := w.Accounts.Signup(w.Context(), w.Tenant, account.Form{
			User: user, Name: "Alex Example", Email: user + "@example.org",
			HA1: digest.Compute(user, w.Tenant.Realm, "a long password").Hex(), HA1B: &ha1b,
			CaptchaToken: q.Token, CaptchaAnswer: strconv.Itoa(xn + yn),
		}, world.NewOrigin())
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
