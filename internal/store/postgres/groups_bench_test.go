package postgres

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"dialtone/internal/account"
	"dialtone/internal/captcha"
	"dialtone/internal/store/admission"
	"dialtone/internal/store/engine"
	"dialtone/internal/test/postgrestest"
	"dialtone/internal/throttle"
)

// signupForm is one way to run signups on PostgreSQL.
type signupForm struct {
	name  string
	admit func(account.Signup, time.Time) error
	next  func() account.Signup
	turns []signupTurn
}

// signupTurn is the result of one form in one turn.
type signupTurn struct {
	rate           float64 // signups per second
	client, server float64 // processor time per signup, in microseconds
}

func (t signupTurn) cpu() float64 { return t.client + t.server }

// BenchmarkSignupForms compares signups in groups with signups that each have a transaction of
// their own, on one PostgreSQL server with fsync and synchronous_commit on. Each iteration is a
// turn, in which every form runs for 1.5 seconds; run it with -benchtime=9x. The forms are:
//
//   - groups: as the engine does it;
//   - single: two round trips per signup, one for locks and checks and one for rows and COMMIT;
//   - one trip: locks, checks, rows and COMMIT in one round trip, which ignores what the checks found.
//     It is not correct. It is an upper bound for any form with a transaction per signup.
func BenchmarkSignupForms(b *testing.B) {
	c := postgrestest.Start(b, "max_connections=200")
	form := func(name, pool string, admit func(*Engine) func(account.Signup, time.Time) error) *signupForm {
		e, err := Open(b.Context(), "a", c.Database(b)+pool, nil)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { e.Close() })
		var id int64
		err = e.Write(func(tx engine.Tx) error {
			return tx.Row(`INSERT INTO tenant (host, realm, public_url, settings, created)
				VALUES ('phone.test', 'phone.test', '', '{}', 0) RETURNING id`).Scan(&id)
		})
		if err != nil {
			b.Fatal(err)
		}
		return &signupForm{name: name, admit: admit(e), next: signups(id)}
	}
	single := func(p *Engine) func(account.Signup, time.Time) error { return p.admitSingle }
	forms := []*signupForm{
		form("groups", "", func(p *Engine) func(account.Signup, time.Time) error { return p.Create }),
		form("single, 16 connections", "", single),
		form("single, 64 connections", "&pool_max_conns=64", single),
		form("one trip, 16 connections", "", func(p *Engine) func(account.Signup, time.Time) error {
			return p.admitOneTrip
		}),
	}
	for _, clients := range []int{1, 16, 64} {
		b.Run(fmt.Sprintf("%d_at_once", clients), func(b *testing.B) {
			for _, f := range forms {
				f.turn(b, c.Pid(), clients) // warm up
				f.turns = nil
			}
			for turn := range b.N {
				for i := range forms {
					forms[(i+turn)%len(forms)].turn(b, c.Pid(), clients)
				}
			}
			for _, f := range forms {
				b.Log(f.report(forms[0]))
			}
		})
	}
}

// signups returns a function that returns signups as the signup page makes them. They share no
// limit and no captcha.
func signups(tenant int64) func() account.Signup {
	var number atomic.Int64
	now := time.Now()
	return func() account.Signup {
		at := now.Add(time.Duration(number.Add(1)) * 100 * time.Microsecond)
		a := account.Signup{
			Account: account.Account{
				UID: account.NewUID(at), Tenant: tenant, Name: "Alex Example", Role: account.Guest,
				Created: at, Expires: at.Add(account.PendingLife),
				Sealed: make([]byte, 97), HasSHA256: true,
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

// turn runs the form for 1.5 seconds with a number of clients.
func (f *signupForm) turn(b *testing.B, server, clients int) {
	var done atomic.Int64
	var all sync.WaitGroup
	began, client, backends := time.Now(), ownTime(), treeTime(server)
	for range clients {
		all.Go(func() {
			for time.Since(began) < 1500*time.Millisecond {
				a := f.next()
				if err := f.admit(a, a.Account.Created); err != nil {
					b.Error(err)
					return
				}
				done.Add(1)
			}
		})
	}
	all.Wait()
	n := float64(done.Load())
	f.turns = append(f.turns, signupTurn{
		rate:   n / time.Since(began).Seconds(),
		client: float64((ownTime() - client).Microseconds()) / n,
		server: float64((treeTime(server) - backends).Microseconds()) / n,
	})
}

// report returns a line with the medians of a form, and the medians of its ratios to another form in
// the same turn.
func (f *signupForm) report(base *signupForm) string {
	medianOf := func(value func(i int) float64) (median, least, most float64) {
		var list []float64
		for i := range f.turns {
			list = append(list, value(i))
		}
		slices.Sort(list)
		return list[len(list)/2], list[0], list[len(list)-1]
	}
	rate, _, _ := medianOf(func(i int) float64 { return f.turns[i].rate })
	client, _, _ := medianOf(func(i int) float64 { return f.turns[i].client })
	server, _, _ := medianOf(func(i int) float64 { return f.turns[i].server })
	rates, leastRate, mostRate := medianOf(func(i int) float64 { return base.turns[i].rate / f.turns[i].rate })
	cpu, leastCPU, mostCPU := medianOf(func(i int) float64 { return f.turns[i].cpu() / base.turns[i].cpu() })
	return fmt.Sprintf("| %s | %.0f | %.0f | %.0f | %.2f (%.2f to %.2f) | %.2f (%.2f to %.2f) |",
		f.name, rate, client, server, rates, leastRate, mostRate, cpu, leastCPU, mostCPU)
}

// ownTime returns the processor time of this process.
func ownTime() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// treeTime returns the processor time of a process and its children, including children that have
// ended. It reads it from /proc (see proc(5)), in ticks of 10 ms.
func treeTime(pid int) (used time.Duration) {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // the process has ended
		}
		fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:])) // starting with field 3
		own, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		parent, _ := strconv.Atoi(fields[1])
		times := fields[11:13] // utime and stime
		switch pid {
		case own:
			times = fields[11:15] // and cutime and cstime
		case parent:
		default:
			continue
		}
		for _, ticks := range times {
			n, _ := strconv.Atoi(ticks)
			used += time.Duration(n) * 10 * time.Millisecond
		}
	}
	return used
}

// admitSingle is Create in its own transaction, in two round trips. It does not retry, and does not
// find out the outcome of a lost COMMIT.
func (p *Engine) admitSingle(a account.Signup, now time.Time) error {
	if err := p.breaker.open(); err != nil {
		return err
	}
	limited, cancel := context.WithTimeout(context.Background(), operationTimeout)
	defer cancel()
	ctx, cancel := p.breaker.withCancel(limited)
	defer cancel()
	conn, err := p.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer release(conn)
	var f admission.Facts
	batch := &pgx.Batch{}
	queueChecks(batch, &f, a, now)
	if err := conn.SendBatch(ctx, batch).Close(); err != nil {
		rollback(conn.Conn())
		return err
	}
	v := f.Decide(a)
	if !v.Admits {
		rollback(conn.Conn())
		return v.Refusal
	}
	batch = &pgx.Batch{}
	queueRows(batch, a, now, p.name)
	return commitBatch(ctx, conn.Conn(), batch)
}

// admitOneTrip sends all statements of a signup at once.
func (p *Engine) admitOneTrip(a account.Signup, now time.Time) error {
	conn, err := p.pool.Acquire(context.Background())
	if err != nil {
		return err
	}
	defer release(conn)
	var f admission.Facts
	batch := &pgx.Batch{}
	queueChecks(batch, &f, a, now)
	queueRows(batch, a, now, p.name)
	return commitBatch(context.Background(), conn.Conn(), batch)
}

func commitBatch(ctx context.Context, conn *pgx.Conn, batch *pgx.Batch) error {
	committed := false
	batch.Queue(`COMMIT`).Exec(func(tag pgconn.CommandTag) error {
		committed = tag.String() == "COMMIT"
		return nil
	})
	forgetWarning(conn)
	err := conn.SendBatch(ctx, batch).Close()
	if err == nil && !committed {
		err = errors.New("the transaction was rolled back")
	}
	return cmp.Or(err, warning(conn))
}

// queueChecks begins a transaction, takes the locks of a signup and finds all facts about it in one
// statement.
func queueChecks(batch *pgx.Batch, f *admission.Facts, a account.Signup, now time.Time) {
	var buckets [][]byte
	var since, skip []int64
	for _, al := range admission.Allowances(a) {
		buckets = append(buckets, al.Bucket[:])
		since = append(since, engine.Micros(now.Add(-al.Rule.Per)))
		skip = append(skip, int64(al.Rule.Limit-1))
	}
	batch.Queue(`BEGIN`)
	batch.Queue(takeLocks, admission.Keys(a))
	batch.Queue(`SELECT ARRAY(SELECT (SELECT at FROM taken WHERE bucket = w.bucket AND at > w.since
			ORDER BY at DESC LIMIT 1 OFFSET w.skip)
			FROM unnest($1::bytea[], $2::bigint[], $3::bigint[]) WITH ORDINALITY w (bucket, since, skip, n) ORDER BY n),
		EXISTS (SELECT 1 FROM spent WHERE expires = $4 AND nonce = $5), a.uid,
		COALESCE(a.closed IS NOT NULL OR a.activated IS NOT NULL OR a.expires > $8, FALSE)
		FROM (SELECT) one LEFT JOIN account a ON a.tenant = $6 AND a.username = $7`,
		buckets, since, skip, engine.Micros(a.Captcha.Expires), a.Captcha.Nonce[:], a.Account.Tenant, a.Account.User,
		engine.Micros(now)).QueryRow(func(row pgx.Row) error {
		var at []*int64
		if err := row.Scan(&at, &f.Used, &f.Holder, &f.Taken); err != nil {
			return err
		}
		for i, al := range admission.Allowances(a) {
			switch {
			case at[i] == nil:
			case i < len(a.Address):
				f.Address = f.Address.Max(admission.WaitSince(engine.FromMicros(*at[i]), al, now))
			default:
				f.Recipient = f.Recipient.Max(admission.WaitSince(engine.FromMicros(*at[i]), al, now))
			}
		}
		return nil
	})
}

// queueRows inserts all rows of a signup in one statement.
func queueRows(batch *pgx.Batch, a account.Signup, now time.Time, node string) {
	var buckets [][]byte
	var until []int64
	for _, al := range admission.Allowances(a) {
		buckets = append(buckets, slices.Clone(al.Bucket[:]))
		until = append(until, engine.Micros(now.Add(al.Rule.Per)))
	}
	c := a.Account
	batch.Queue(`WITH s AS (INSERT INTO spent (expires, nonce) VALUES ($1, $2) ON CONFLICT DO NOTHING),
		t AS (INSERT INTO taken (bucket, at, account, until)
			SELECT bucket, $3, $4, until FROM unnest($5::bytea[], $6::bigint[]) w (bucket, until)),
		a AS (INSERT INTO account (uid, tenant, username, name, email, role, held, created, expires, epoch, credential,
			has_sha256, token, lang)
			VALUES ($4, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19))
		INSERT INTO outbox (account, message, token, node) VALUES ($4, $20, $21, $22)`,
		engine.Micros(a.Captcha.Expires), a.Captcha.Nonce[:], engine.Micros(now), c.UID[:], buckets, until,
		c.Tenant, c.User, c.Name, c.Email, string(c.Role), c.Held, engine.Micros(c.Created),
		engine.Micros(c.Expires), c.Epoch, c.Sealed, c.HasSHA256, a.Token[:], string(c.Lang),
		a.Message[:], a.SealedToken, node)
}
