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
	"dialtone/internal/mailmsg"
	"dialtone/internal/secret"
	"dialtone/internal/session"
	"dialtone/internal/test/world"
	"dialtone/internal/throttle"
)

// signups returns a function that returns signups like those of the signup page. They share no
// limit and no captcha.
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
	s := world.OpenStore(b, filepath.Join(b.TempDir(), "dialtone.db"), secret.NewRing(noon))
	id := addTenant(b, s, "phone.test")
	next := signups(id)
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
		_, err := s.Find(b.Context(), id, known.Account.User, known.Account.Created)
		return err
	})
}

// BenchmarkRecordSessions measures transactions with 256 records of new sessions, each of a
// different account. Run it with -benchtime=40x, since accounts with session.MaxListed sessions
// cost more.
func BenchmarkRecordSessions(b *testing.B) {
	const people = 256
	s := world.OpenStore(b, filepath.Join(b.TempDir(), "dialtone.db"), secret.NewRing(noon))
	id := addTenant(b, s, "phone.test")
	next := signups(id)
	var accounts []account.Account
	// records returns a record for each account. Without a device token, the record is of a new
	// sign-in.
	records := func(browser string, device bool, at time.Time) (list []session.Record) {
		for _, a := range accounts {
			r := session.Record{
				Account: a.UID, Epoch: a.Epoch, Began: at, Seen: at, Net: "192.0.2.0/24", Browser: browser,
			}
			rand.Read(r.ID[:])
			if !device {
				n := account.Notice{
					Kind: mailmsg.NewBrowser, Made: at, Until: at.Add(time.Hour), SealedToken: make([]byte, 64),
				}
				rand.Read(n.Token[:])
				rand.Read(n.Message[:])
				r.New = &session.NewBrowser{At: at, Net: r.Net, Browser: browser, Notice: n}
			}
			list = append(list, r)
		}
		return list
	}
	start := time.Now().Truncate(time.Microsecond).Add(2 * time.Hour)
	for name, c := range map[string]struct {
		device, known bool
		step          time.Duration // between the transactions
	}{
		"device token":  {true, true, time.Minute},
		"known browser": {false, true, time.Minute},
		"a day later":   {false, true, 24 * time.Hour},
		"new browser":   {false, false, 24 * time.Hour},
	} {
		b.Run(name, func(b *testing.B) {
			accounts = nil // new ones, which have few sessions
			for range people {
				a := next()
				if err := s.Create(b.Context(), a, a.Account.Created); err != nil {
					b.Fatal(err)
				}
				if _, err := s.Activate(b.Context(), id, a.Token, a.Account.Created); err != nil {
					b.Fatal(err)
				}
				accounts = append(accounts, a.Account)
			}
			for i := 0; b.Loop(); i++ {
				browser := name
				if !c.known {
					browser = fmt.Sprint(name, b.N, i)
				}
				b.StopTimer()
				list := records(browser, c.device, start.Add(time.Duration(i)*c.step))
				b.StartTimer()
				if _, err := s.RecordSessions(b.Context(), list); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
