package account_test

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/captcha"
	"dialtone/internal/digest"
	"dialtone/internal/stats"
	"dialtone/internal/tenant"
	"dialtone/internal/test/world"
)

// BenchmarkSignup measures a signup without HTTP: all rules, the durable transaction and the
// message file. The parallel variant keeps 64 signups in progress, like a busy server.
func BenchmarkSignup(b *testing.B) {
	for _, parallel := range []int{1, 64} {
		b.Run(fmt.Sprintf("%d at once", parallel), func(b *testing.B) { benchmarkSignup(b, parallel) })
	}
}

func benchmarkWorld(b *testing.B) (*world.World, *captcha.Issuer) {
	w := world.New(b, world.Options{RealTime: true})
	discard := slog.New(slog.DiscardHandler)
	w.OutboxDeps.Log, w.AccountDeps.Log, w.AccountDeps.Audit = discard, discard, audit.Log{}
	issuer := captcha.NewIssuer(w.SignRing, w.Now)
	w.AccountDeps.Captcha = func() *captcha.Issuer { return issuer }
	w.Rebuild()
	return w, issuer
}

// signupsOf returns a function that signs another person up with each call.
func signupsOf(w *world.World, issuer *captcha.Issuer) func() error {
	var serial atomic.Uint32
	return func() error {
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
}

func benchmarkSignup(b *testing.B, parallel int) {
	one := signupsOf(benchmarkWorld(b))
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

// BenchmarkCountedSignup compares signups with and without counting; the counts are written
// once a second. The two alternate, so that other load on the machine affects both. The metric
// is the rate with counting divided by the rate without, as the median of all pairs.
func BenchmarkCountedSignup(b *testing.B) {
	const batch, parallel = 256, 64
	var sides [2]func() error
	for i := range sides {
		w, issuer := benchmarkWorld(b)
		if i == 1 {
			c := stats.NewCounter(w.Store, func(host string) (*tenant.Tenant, bool) {
				return w.Tenant, host == w.Tenant.Host
			}, w.Now)
			w.AccountDeps.Audit = audit.Log{Observers: []func(audit.Event){c.Observe}}
			w.Rebuild()
			done, stopped := make(chan struct{}), make(chan struct{})
			go func() {
				defer close(stopped)
				for {
					select {
					case <-done:
						return
					case <-time.After(time.Second):
						if err := c.Flush(context.Background()); err != nil {
							b.Error(err)
						}
					}
				}
			}()
			b.Cleanup(func() { close(done); <-stopped })
		}
		sides[i] = signupsOf(w, issuer)
	}
	run := func(one func() error) time.Duration {
		start := time.Now()
		var all sync.WaitGroup
		for range parallel {
			all.Go(func() {
				for range batch / parallel {
					if err := one(); err != nil {
						b.Error(err)
					}
				}
			})
		}
		all.Wait()
		return time.Since(start)
	}
	world.ReportRatio(b, func(side int) time.Duration { return run(sides[side]) })
}
