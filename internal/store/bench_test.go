package store_test

import (
	"crypto/rand"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/captcha"
	"dialtone/internal/secret"
	"dialtone/internal/tenant"
	"dialtone/internal/test/teststore"
	"dialtone/internal/throttle"
)

// signups returns a function that returns signups as the signup page makes them. They share no limit
// and no captcha.
func signups(tenant int64) func() account.Signup {
	var number atomic.Int64
	now := time.Now()
	return func() account.Signup {
		at := now.Add(time.Duration(number.Add(1)) * 100 * time.Microsecond)
		a := account.Signup{
			Account: account.Account{
				UID:       account.NewUID(at),
				Tenant:    tenant,
				Name:      "Alex Example",
				Role:      account.Guest,
				Created:   at,
				Expires:   at.Add(account.PendingLife),
				Sealed:    make([]byte, 97),
				HasSHA256: true,
			},
			SealedToken: make([]byte, 64),
			Captcha:     captcha.Proof{Ours: true, Right: true, Expires: at.Add(captcha.Life)},
			Recipient:   throttle.Allowance{Rule: throttle.MessagesPerRecipient},
			Address:     []throttle.Allowance{{Rule: throttle.SignupsPerAddress}},
		}
		for _, b := range [][]byte{
			a.Account.Sealed, a.SealedToken, a.Token[:], a.Message[:], a.Captcha.Nonce[:],
			a.Recipient.Bucket[:], a.Address[0].Bucket[:],
		} {
			rand.Read(b)
		}
		a.Account.User = fmt.Sprintf("person%x", a.Message[:8])
		a.Account.Email = a.Account.User + "@example.org"
		return a
	}
}

// BenchmarkStore measures Create and Find of a store on SQLite, with 32 goroutines per CPU. Set
// TMPDIR=/dev/shm to leave out the disk.
func BenchmarkStore(b *testing.B) {
	s, err := teststore.Open(b.Context(), filepath.Join(b.TempDir(), "dialtone.db"), secret.NewRing(noon))
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	added, err := s.AddTenant(b.Context(), tenant.Tenant{Host: "phone.test", Realm: "phone.test"})
	if err != nil {
		b.Fatal(err)
	}
	next := signups(added.ID)
	known := next()
	if err := s.Create(b.Context(), known, known.Account.Created); err != nil {
		b.Fatal(err)
	}
	each := func(name string, do func() error) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetParallelism(32)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if err := do(); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
	each("create", func() error {
		a := next()
		return s.Create(b.Context(), a, a.Account.Created)
	})
	each("find", func() error {
		_, err := s.Find(b.Context(), added.ID, known.Account.User, known.Account.Created)
		return err
	})
}
