package durability

import (
	"database/sql"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
	"time"

	_ "modernc.org/sqlite"

	"dialtone/internal/account"
	"dialtone/internal/mailmsg"
	"dialtone/internal/test/crashfs"
	"dialtone/internal/totp"
)

// noon is the time of these tests. The clock of a synctest bubble starts there.
var noon = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

func clock() time.Time { return noon }

// scenario is a sequence of operations that the tests stop at every point. It begins with a running
// harness on a disk where everything is durable, and with the transcript of the earlier requests.
type scenario struct {
	name string
	// before prepares the disk.
	before func(t *testing.T, h *harness, tr *transcript)
	// crash, if not nil, is the crash between before and do.
	crash *crashfs.Variant
	// do is what is stopped. Its harness is nil if starts is set.
	do func(t *testing.T, f *crashfs.FS, h *harness, tr *transcript)
	// starts says that do starts a harness itself.
	starts bool
	// valid, if not nil, reports whether the journal contains the operations that the scenario is
	// about.
	valid func(journal []crashfs.Op) bool
	// empty says that it begins with an empty disk.
	empty bool
	// sampled means that make test stops it at fewer moments, and without faults. The simulation makes
	// all its requests, with faults.
	sampled bool
}

var scenarios = []scenario{
	{
		name: "first start", empty: true, starts: true,
		do: func(t *testing.T, f *crashfs.FS, _ *harness, tr *transcript) {
			if h := mayOpen(t, f); h != nil {
				tr.signup(h, "karl", true)
				h.close()
			}
		},
	},
	{
		name: "signup",
		do:   func(t *testing.T, _ *crashfs.FS, h *harness, tr *transcript) { tr.signup(h, "karl", true) },
	},
	{
		name: "three signups in one group",
		do: func(t *testing.T, f *crashfs.FS, h *harness, tr *transcript) {
			group(f, h, tr, "karl", "lena", "mary")
		},
		valid: func(journal []crashfs.Op) bool { return count(journal, crashfs.Sync, database+"-wal") == 2 },
	},
	{
		name: "signup with a wrong captcha",
		do:   func(t *testing.T, _ *crashfs.FS, h *harness, tr *transcript) { tr.signup(h, "karl", false) },
	},
	{
		name:   "signup of a taken name",
		before: func(t *testing.T, h *harness, tr *transcript) { tr.signup(h, "karl", true) },
		do:     func(t *testing.T, _ *crashfs.FS, h *harness, tr *transcript) { tr.signup(h, "karl", true) },
	},
	{
		name:   "activation",
		before: func(t *testing.T, h *harness, tr *transcript) { tr.signup(h, "karl", true) },
		do: func(t *testing.T, _ *crashfs.FS, h *harness, tr *transcript) {
			tr.act(h, "activate", "karl", tr.tokenOf(h, "karl"))
		},
	},
	{
		name:   "confirmation",
		before: func(t *testing.T, h *harness, tr *transcript) { tr.signup(h, "karl", true) },
		do: func(t *testing.T, _ *crashfs.FS, h *harness, tr *transcript) {
			tr.act(h, "confirm", "karl", tr.tokenOf(h, "karl"))
		},
	},
	{
		name: "confirmation of an active account",
		before: func(t *testing.T, h *harness, tr *transcript) {
			tr.signup(h, "karl", true)
			tr.act(h, "activate", "karl", tr.tokenOf(h, "karl"))
		},
		do: func(t *testing.T, _ *crashfs.FS, h *harness, tr *transcript) {
			tr.act(h, "confirm", "karl", tr.tokenOf(h, "karl"))
		},
	},
	{
		name: "resend after a flush",
		before: func(t *testing.T, h *harness, tr *transcript) {
			tr.signup(h, "karl", true)
			h.outbox.Flush(ctx)
		},
		do: func(t *testing.T, _ *crashfs.FS, h *harness, tr *transcript) {
			tr.act(h, "resend", "karl", tr.tokenOf(h, "karl"))
			h.outbox.Flush(ctx)
		},
	},
	{
		name:   "resend, activation by the new link",
		before: func(t *testing.T, h *harness, tr *transcript) { tr.signup(h, "karl", true) },
		do: func(t *testing.T, _ *crashfs.FS, h *harness, tr *transcript) {
			if d := tr.act(h, "resend", "karl", tr.tokenOf(h, "karl")); d.err == nil {
				tr.tokens = nil
				if token := tr.tokenOf(h, "karl"); token != "" {
					tr.act(h, "activate", "karl", token)
				}
			}
			h.outbox.Flush(ctx)
		},
	},
	{
		name: "signup, flush, resend, flush, signup",
		do: func(t *testing.T, _ *crashfs.FS, h *harness, tr *transcript) {
			if d := tr.signup(h, "karl", true); d.err != nil {
				return
			}
			token := tr.tokenOf(h, "karl")
			h.outbox.Flush(ctx)
			tr.act(h, "resend", "karl", token)
			h.outbox.Flush(ctx)
			tr.signup(h, "lena", true)
			h.outbox.Flush(ctx)
		},
	},
	{
		name:   "publishing fails and the new link is undone",
		before: func(t *testing.T, h *harness, tr *transcript) { tr.signup(h, "karl", true) },
		do: func(t *testing.T, f *crashfs.FS, h *harness, tr *transcript) {
			disarm := f.Fail(crashfs.Fault{Err: eio, Only: publishes})
			d := tr.act(h, "resend", "karl", tr.tokenOf(h, "karl"))
			if disarm() && d.err == nil {
				t.Error("the resend succeeded, but its message could not be published")
			}
			h.outbox.Flush(ctx)
		},
	},
	{
		name: "recovery after a power cut, with a resend", crash: &crashfs.Variant{Name: "data lost",
			Data: crashfs.None}, starts: true,
		before: func(t *testing.T, h *harness, tr *transcript) {
			tr.signup(h, "karl", true)
			tr.act(h, "resend", "karl", tr.tokenOf(h, "karl"))
		},
		do: reopen,
	},
	{
		name: "disable",
		before: func(t *testing.T, h *harness, tr *transcript) {
			tr.signup(h, "karl", true)
			tr.act(h, "activate", "karl", tr.tokenOf(h, "karl"))
		},
		do: func(t *testing.T, _ *crashfs.FS, h *harness, tr *transcript) { tr.act(h, "disable", "karl", "") },
	},
	{
		name: "signup, flush, signup, flush",
		do: func(t *testing.T, _ *crashfs.FS, h *harness, tr *transcript) {
			for _, user := range []string{"karl", "lena"} {
				tr.signup(h, user, true)
				h.outbox.Flush(ctx)
			}
		},
	},
	{
		name: "recovery after a power cut", crash: &crashfs.Variant{Name: "data lost", Data: crashfs.None},
		starts: true,
		before: func(t *testing.T, h *harness, tr *transcript) {
			tr.signup(h, "karl", true)
			tr.signup(h, "lena", true)
		},
		do: reopen,
	},
	{
		name: "recovery after a kill", crash: &crashfs.Killed, starts: true,
		before: func(t *testing.T, h *harness, tr *transcript) {
			tr.signup(h, "karl", true)
			tr.act(h, "activate", "karl", tr.tokenOf(h, "karl"))
			tr.signup(h, "lena", true)
		},
		do: reopen,
	},
	{
		name:   "close",
		before: func(t *testing.T, h *harness, tr *transcript) { tr.signup(h, "karl", true) },
		do: func(t *testing.T, _ *crashfs.FS, h *harness, tr *transcript) {
			tr.signup(h, "lena", true)
			h.outbox.Flush(ctx)
			h.close()
		},
	},
	{
		name: "checkpoint, and a new WAL",
		before: func(t *testing.T, h *harness, tr *transcript) {
			tr.signup(h, "karl", true)
			tr.signup(h, "lena", true)
		},
		do: func(t *testing.T, f *crashfs.FS, h *harness, tr *transcript) {
			h.outbox.Flush(ctx)
			checkpoint(t, f)
			tr.signup(h, "mary", true)
			tr.act(h, "activate", "karl", tr.tokenOf(h, "karl"))
			checkpoint(t, f)
			tr.signup(h, "nora", true)
		},
		valid: func(journal []crashfs.Op) bool { return count(journal, crashfs.Sync, database) == 2 },
	},
	{
		name:   "backup",
		before: func(t *testing.T, h *harness, tr *transcript) { tr.signup(h, "karl", true) },
		do: func(t *testing.T, _ *crashfs.FS, h *harness, tr *transcript) {
			tr.signup(h, "lena", true)
			tr.act(h, "backup", "", "")
			tr.signup(h, "mary", true)
		},
		valid: func(journal []crashfs.Op) bool {
			return slices.ContainsFunc(journal, func(op crashfs.Op) bool {
				return op.Kind == crashfs.Link && op.To == copied
			})
		},
	},
	{
		name: "password change", sampled: true, before: member,
		do: func(t *testing.T, _ *crashfs.FS, h *harness, tr *transcript) {
			tr.password(h, "karl", "")
			h.outbox.Flush(ctx)
		},
	},
	{
		name: "reset link", sampled: true, before: member,
		do: func(t *testing.T, _ *crashfs.FS, h *harness, tr *transcript) {
			tr.forgot(h, "karl", tr.requests[0].email)
			h.outbox.Flush(ctx)
		},
	},
	{
		name: "reset", sampled: true,
		before: func(t *testing.T, h *harness, tr *transcript) {
			member(t, h, tr)
			tr.forgot(h, "karl", tr.requests[0].email)
			h.outbox.Flush(ctx)
		},
		do: func(t *testing.T, _ *crashfs.FS, h *harness, tr *transcript) {
			tr.password(h, "karl", tr.linkTo(h, "karl", mailmsg.Reset))
			h.outbox.Flush(ctx)
		},
	},
	{
		name: "sign-in with a new browser", sampled: true, before: member,
		do: func(t *testing.T, _ *crashfs.FS, h *harness, tr *transcript) {
			tr.signIn(h, "karl")
			h.outbox.Flush(ctx)
		},
	},
	{
		name: "not me", sampled: true,
		before: func(t *testing.T, h *harness, tr *transcript) {
			member(t, h, tr)
			tr.password(h, "karl", "")
			tr.signIn(h, "karl")
			h.outbox.Flush(ctx)
		},
		do: func(t *testing.T, _ *crashfs.FS, h *harness, tr *transcript) {
			tr.notMe(h, "karl", tr.messageTo(h, "karl", mailmsg.PasswordChanged))
		},
	},
	{
		name: "request of another address", sampled: true, before: member,
		do: func(t *testing.T, _ *crashfs.FS, h *harness, tr *transcript) {
			tr.requestEmail(h, "karl")
			h.outbox.Flush(ctx)
		},
	},
	{
		name: "another address", sampled: true,
		before: func(t *testing.T, h *harness, tr *transcript) {
			member(t, h, tr)
			tr.requestEmail(h, "karl")
			h.outbox.Flush(ctx)
		},
		do: func(t *testing.T, _ *crashfs.FS, h *harness, tr *transcript) {
			tr.setEmail(h, "karl", tr.linkTo(h, "karl", mailmsg.ConfirmEmail))
			h.outbox.Flush(ctx)
		},
	},
	{
		name: "not me, after another address and an app", sampled: true,
		before: func(t *testing.T, h *harness, tr *transcript) {
			member(t, h, tr)
			tr.requestEmail(h, "karl")
			h.outbox.Flush(ctx)
			tr.setEmail(h, "karl", tr.linkTo(h, "karl", mailmsg.ConfirmEmail))
			tr.appOn(h, "karl")
			h.outbox.Flush(ctx)
		},
		do: func(t *testing.T, _ *crashfs.FS, h *harness, tr *transcript) {
			tr.notMe(h, "karl", tr.messageTo(h, "karl", mailmsg.EmailChanged))
		},
	},
	{
		name: "leave", sampled: true, before: member,
		do: func(t *testing.T, _ *crashfs.FS, h *harness, tr *transcript) {
			tr.leave(h, "karl")
			h.outbox.Flush(ctx)
		},
	},
	{
		name: "stay", sampled: true, before: departed,
		do: func(t *testing.T, _ *crashfs.FS, h *harness, tr *transcript) {
			tr.stay(h, "karl", tr.linkTo(h, "karl", mailmsg.Leaving))
		},
	},
	{
		name: "reset after leaving", sampled: true,
		before: func(t *testing.T, h *harness, tr *transcript) {
			departed(t, h, tr)
			tr.forgot(h, "karl", tr.requests[0].email)
			h.outbox.Flush(ctx)
		},
		do: func(t *testing.T, _ *crashfs.FS, h *harness, tr *transcript) {
			tr.password(h, "karl", tr.linkTo(h, "karl", mailmsg.Reset))
			h.outbox.Flush(ctx)
		},
	},
	{
		name: "erasure", sampled: true, before: departed,
		do: func(t *testing.T, _ *crashfs.FS, h *harness, tr *transcript) {
			h.ahead = account.Grace + 25*time.Hour
			tr.erase(h)
		},
	},
	{
		name: "app, and its recovery codes", sampled: true, before: member,
		do: func(t *testing.T, _ *crashfs.FS, h *harness, tr *transcript) {
			tr.appOn(h, "karl")
			h.outbox.Flush(ctx)
		},
	},
	{
		name: "codes of an app", sampled: true,
		before: func(t *testing.T, h *harness, tr *transcript) {
			member(t, h, tr)
			tr.appOn(h, "karl")
			h.outbox.Flush(ctx)
		},
		do: func(t *testing.T, _ *crashfs.FS, h *harness, tr *transcript) {
			on := tr.requests[len(tr.requests)-1]
			tr.useCode(h, "karl", on.app.Code(totp.Step(h.now())+1))
			tr.useCode(h, "karl", on.codes[0])
		},
	},
	{
		name: "other recovery codes", sampled: true,
		before: func(t *testing.T, h *harness, tr *transcript) {
			member(t, h, tr)
			tr.appOn(h, "karl")
			h.outbox.Flush(ctx)
		},
		do: func(t *testing.T, _ *crashfs.FS, h *harness, tr *transcript) {
			tr.renewCodes(h, "karl")
			h.outbox.Flush(ctx)
		},
	},
	{
		name: "not me, after a recovery code", sampled: true,
		before: func(t *testing.T, h *harness, tr *transcript) {
			member(t, h, tr)
			on := tr.appOn(h, "karl")
			h.outbox.Flush(ctx)
			h.ahead = time.Second // the app is older than the message
			tr.useCode(h, "karl", on.codes[0])
			h.outbox.Flush(ctx) // looks for the message
			h.outbox.Flush(ctx)
		},
		do: func(t *testing.T, _ *crashfs.FS, h *harness, tr *transcript) {
			tr.notMe(h, "karl", tr.messageTo(h, "karl", mailmsg.RecoveryUsed))
		},
	},
	{
		name: "passkey", sampled: true, before: member,
		do: func(t *testing.T, _ *crashfs.FS, h *harness, tr *transcript) {
			tr.addPasskey(h, "karl")
			h.outbox.Flush(ctx)
		},
	},
	{
		name: "end of all other sessions", sampled: true,
		before: func(t *testing.T, h *harness, tr *transcript) {
			member(t, h, tr)
			tr.signIn(h, "karl")
		},
		do: func(t *testing.T, _ *crashfs.FS, h *harness, tr *transcript) {
			tr.endOthers(h, "karl", tr.requests[len(tr.requests)-1].session)
		},
	},
	{
		name: "publishing fails and the account is undone",
		do: func(t *testing.T, f *crashfs.FS, h *harness, tr *transcript) {
			disarm := f.Fail(crashfs.Fault{Err: eio, Only: publishes})
			d := tr.signup(h, "karl", true)
			if disarm() && d.err == nil {
				t.Error("the signup succeeded, but its message could not be published")
			}
			h.outbox.Flush(ctx)
			tr.signup(h, "lena", true)
		},
	},
}

// member makes karl sign up, activate the account and sign in.
func member(t *testing.T, h *harness, tr *transcript) {
	tr.signup(h, "karl", true)
	tr.act(h, "activate", "karl", tr.tokenOf(h, "karl"))
	tr.signIn(h, "karl")
	h.outbox.Flush(ctx)
}

// departed makes karl a member who has left.
func departed(t *testing.T, h *harness, tr *transcript) {
	member(t, h, tr)
	tr.leave(h, "karl")
	h.outbox.Flush(ctx)
}

const eio = syscall.EIO

// publishes reports whether an operation gives a message its name.
func publishes(op crashfs.Op) bool {
	return op.Kind == crashfs.Rename ||
		op.Kind == crashfs.LinkUnnamed && strings.HasSuffix(op.Path, ".eml")
}

// mayOpen starts a harness. It returns nil if the start fails, as it may on a disk that fails.
func mayOpen(t *testing.T, f *crashfs.FS) *harness {
	h, _, err := open(f, clock)
	if err != nil {
		return nil
	}
	return h
}

func reopen(t *testing.T, f *crashfs.FS, _ *harness, _ *transcript) {
	if h := mayOpen(t, f); h != nil {
		h.close()
	}
}

// count returns the number of operations of a kind on a file.
func count(journal []crashfs.Op, kind crashfs.Kind, path string) (n int) {
	for _, op := range journal {
		if op.Kind == kind && op.Path == path {
			n++
		}
	}
	return n
}

// checkpoint moves the WAL to the database, as SQLite does by itself when the WAL has a thousand
// frames.
func checkpoint(t *testing.T, f *crashfs.FS) {
	db, err := sql.Open("sqlite", "file:"+database+"?vfs="+f.VFS())
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.Exec("PRAGMA wal_checkpoint")
}

// group makes signups while a sync is in progress, so that they share one transaction.
func group(f *crashfs.FS, h *harness, tr *transcript, users ...string) {
	hold := make(chan struct{})
	var once sync.Once
	f.Before = func(op crashfs.Op) {
		if op.Kind == crashfs.Sync {
			once.Do(func() { <-hold })
		}
	}
	var all sync.WaitGroup
	all.Go(func() { h.store.Spend(ctx, 1, [16]byte{1}, noon.Add(time.Hour)) })
	synctest.Wait()
	serial := tr.serial()
	for i, user := range users {
		d := newSignup(h, user, serial+i, true)
		all.Go(func() { tr.ask(h, d) })
	}
	synctest.Wait()
	close(hold)
	all.Wait()
}

// prepare returns the disk that a scenario begins with, where everything is durable, and the
// transcript.
func (sc scenario) prepare(t *testing.T) (*crashfs.FS, *transcript) {
	f, tr := crashfs.New(), &transcript{past: make(map[string]bool)}
	if err := f.MakeDir("/data"); err != nil {
		t.Fatal(err)
	}
	if sc.empty {
		return f.Clone(), tr
	}
	h, flushErr, err := open(f, clock)
	if err := errors.Join(err, flushErr); err != nil {
		t.Fatal(err)
	}
	if err := f.SyncAll("/"); err != nil {
		t.Fatal(err)
	}
	if sc.before != nil {
		sc.before(t, h, tr)
	}
	tr.tokens, tr.messages = make(map[string]string), make(map[string]message)
	for _, d := range tr.requests {
		tr.tokens[d.user] = tr.tokenOf(h, d.user)
		for _, kind := range []mailmsg.Kind{
			mailmsg.Reset, mailmsg.PasswordChanged, mailmsg.ConfirmEmail, mailmsg.EmailChanged, mailmsg.Leaving,
			mailmsg.RecoveryUsed,
		} {
			if m := tr.messageTo(h, d.user, kind); m.token != "" {
				tr.messages[string(kind)+" "+d.user] = m
			}
		}
	}
	after := f.Clone()
	if sc.crash != nil {
		after = f.Crash(*sc.crash)
	}
	h.close()
	f.Close()
	return after, tr
}

// defaultChances is the number of random power cuts at every moment without DIALTONE_CHANCES.
const defaultChances = 2

var (
	// chances is the number of random power cuts at every moment.
	chances = number("DIALTONE_CHANCES", defaultChances)
	// complete means that everything is tried, as in make test-long.
	complete = chances > defaultChances
	// seed is the seed of the first simulation. It also determines which points and faults make test
	// tries, and the random power cuts.
	seed = number("DIALTONE_SEED", rand.Uint64N(1e9))
)

// number returns the value of an environment variable, or a default if it is not set.
func number(variable string, byDefault uint64) uint64 {
	text := os.Getenv(variable)
	if text == "" {
		return byDefault
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		panic(variable + ": " + err.Error())
	}
	return n
}

// repetition returns the command that repeats a test that failed with a seed.
func repetition(t *testing.T, seed uint64) string {
	name, _, _ := strings.Cut(t.Name(), "/")
	return fmt.Sprintf("run it again: DIALTONE_SEED=%d go test ./internal/test/durability -run '^%s$'", seed, name)
}

// some returns n elements of a list: a random one of each of n equal parts. In make test-long it
// returns all.
func some[T any](t *testing.T, list []T, n int) []T {
	if complete || n >= len(list) {
		return list
	}
	random := rand.New(rand.NewPCG(seed, uint64(crc32.ChecksumIEEE([]byte(t.Name())))))
	var chosen []T
	for i := range n {
		from, to := i*len(list)/n, (i+1)*len(list)/n
		chosen = append(chosen, list[from+random.IntN(to-from)])
	}
	return chosen
}

// half returns every second element of a list. Successive turns alternate between the two halves. In
// make test-long it returns all.
func half[T any](list []T, turn int) (chosen []T) {
	if complete {
		return list
	}
	for i := (turn + int(seed%2)) % 2; i < len(list); i += 2 {
		chosen = append(chosen, list[i])
	}
	return chosen
}

// leftOut reports whether make test skips an operation. Of consecutive writes to one file, it tries
// the first, the last, and two of every eight.
func leftOut(ops []crashfs.Op, i int) bool {
	if complete || i <= 0 || (i+int(seed%8))%8 < 2 || i+1 >= len(ops) {
		return false
	}
	return !slices.ContainsFunc(ops[i-1:i+2], func(op crashfs.Op) bool {
		return op.Kind != crashfs.Write || op.Path != ops[i].Path
	})
}

// stops returns the moments of a journal at which make test stops the program: after each mark, and at
// n others. In make test-long it returns all moments.
func stops(t *testing.T, journal []crashfs.Op, n int) map[int]bool {
	chosen, others := make(map[int]bool), []int{0}
	for i, op := range journal {
		switch {
		case op.Kind == crashfs.Mark:
			chosen[i+1] = true
		case op.Changes() && !leftOut(journal, i):
			others = append(others, i+1)
		}
	}
	for _, at := range some(t, others, n) {
		chosen[at] = true
	}
	return chosen
}

// TestEveryPoint stops each scenario before and after each of its operations, in every variant. Then
// it starts the program on the disk that is left, and checks the promise. In make test, it stops after
// each answer and at 16 other moments, tears a write only at every second sector, and, except after an
// answer, tries one half of the variants, alternately.
func TestEveryPoint(t *testing.T) {
	for _, sc := range scenarios {
		t.Run(sc.name, func(t *testing.T) {
			f, tr := sc.record(t)
			if sc.valid != nil && !sc.valid(f.Journal()) {
				t.Errorf("the scenario lacks the operations that it is about:\n%s", history(f.Journal(), f.Now()))
			}
			for _, d := range tr.requests {
				if sc.sampled && d.err != nil {
					t.Errorf("%s: %v", d, d.err)
				}
			}
			n := 16
			if sc.sampled {
				n = 6
			}
			var p points
			journal := f.Journal()
			chosen := stops(t, journal, n)
			f.Moments(func(at int, then *crashfs.FS) bool {
				if !chosen[at] {
					return true
				}
				p.moments++
				variants := cuts(seed+uint64(at), chances)
				if at == 0 || journal[at-1].Kind != crashfs.Mark {
					variants = half(variants, at)
				}
				err := p.everyCut(then, tr.at(at), variants)
				if err != nil {
					t.Errorf("stopped at %d: %v\n%s\n%s", at, err, repetition(t, seed), history(journal, at))
				}
				return err == nil
			})
			t.Logf("%d moments, %d points, %d different disks", p.moments, p.points, p.disks)
		})
	}
}

// record runs a scenario once, to its end.
func (sc scenario) record(t *testing.T) (f *crashfs.FS, tr *transcript) {
	synctest.Test(t, func(t *testing.T) {
		repeat(t, preparing)
		f, tr = sc.prepare(t)
		repeat(t, running)
		h := sc.run(t, f, tr, nil)
		f.Crash(crashfs.Killed) // so that the end of the test is not in the journal
		h.close()
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f, tr
}

// run runs a scenario on a prepared disk. ready, if not nil, is called when the journal begins.
func (sc scenario) run(t *testing.T, f *crashfs.FS, tr *transcript, ready func()) *harness {
	var h *harness
	if !sc.starts {
		var flushErr, err error
		if h, flushErr, err = open(f, clock); err != nil || flushErr != nil {
			t.Fatal(err, flushErr)
		}
	}
	f.Record()
	if ready != nil {
		ready()
	}
	sc.do(t, f, h, tr)
	return h
}

// points counts what was checked.
type points struct {
	moments, points, disks, exits int
	torn                          int // writes with more than one sector
}

// seen holds the disks, with their transcripts, that have passed checkPromise. All scenarios begin
// with the same random numbers, so that many disks occur again in other scenarios and after other
// faults.
var seen = make(map[string]bool)

// Seeds of the random numbers before a scenario and in it.
const preparing, running = 1, 2

// repeat seeds all random numbers.
func repeat(t *testing.T, seed int32) {
	cryptotest.SetGlobalRandom(t, uint64(seed))
	crashfs.SeedSQLite(seed)
}

// cuts returns the variants of a stop that do not depend on the last write.
func cuts(seed, chances uint64) []crashfs.Variant {
	variants := append([]crashfs.Variant{crashfs.Killed}, crashfs.Cuts...)
	for i := range chances {
		variants = append(variants, crashfs.Chance(seed*chances+i))
	}
	return variants
}

// everyCut checks the disks that the variants of a stop leave, and those that a torn last write
// leaves.
func (p *points) everyCut(f *crashfs.FS, tr *transcript, variants []crashfs.Variant) error {
	lengths := f.Torn()
	if len(lengths) > 0 {
		p.torn++
	}
	for _, n := range half(lengths, p.torn) {
		name := fmt.Sprintf("%d bytes of the last write survive", n)
		variants = append(variants,
			crashfs.Variant{Name: name, Torn: n},
			crashfs.Variant{Name: name + ", and no unsynced name", Torn: n, Entries: crashfs.None})
	}
	return p.cut(f, tr, variants)
}

func (p *points) cut(f *crashfs.FS, tr *transcript, variants []crashfs.Variant) error {
	for _, v := range variants {
		p.points++
		after := f.Crash(v)
		key := after.Image() + tr.key()
		if seen[key] {
			continue
		}
		p.disks++
		if err := checkPromise(after, tr); err != nil {
			return fmt.Errorf("%s: %w", v.Name, err)
		}
		seen[key] = true
	}
	return nil
}

// checkPromise starts the program on a disk, and returns an error if it breaks the promise.
func checkPromise(f *crashfs.FS, tr *transcript) error {
	h, flushErr, err := open(f, clock)
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	err = errors.Join(flushErr, h.promise(tr, false), h.promiseCreated())
	if err == nil {
		err = h.use(tr)
	}
	return errors.Join(err, h.close(), f.Close())
}

// history returns the last operations of the journal before a moment, and all earlier failures and
// marks.
func history(journal []crashfs.Op, at int) string {
	var b strings.Builder
	for i, op := range journal[:at] {
		if i >= at-60 || op.Err != nil || op.Kind == crashfs.Mark {
			fmt.Fprintf(&b, "%5d %v\n", i, op)
		}
	}
	return b.String()
}
