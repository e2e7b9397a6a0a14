package durability

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/fault"
	"dialtone/internal/test/crashfs"
)

// The simulation lives through years of a platform in milliseconds: people sign up, open links, get
// captchas wrong, are disabled and deleted; days pass; the disk fails and heals; the machine loses
// power. What was answered is written down, and what is found is held against it. The clock is a
// synctest bubble's, chance is the seed's, also where the program asks crypto/rand, and clients
// take turns: what goes on at once is for TestEveryPoint. So a seed always lives the same.

const seedsByDefault = 300

// TestSimulation runs many seeds. DIALTONE_SEEDS=20000 runs so many, DIALTONE_SEED=17 that one
// alone.
func TestSimulation(t *testing.T) {
	from, n := uint64(0), uint64(seedsByDefault)
	if text := os.Getenv("DIALTONE_SEEDS"); text != "" {
		n = number(t, text)
	}
	if text := os.Getenv("DIALTONE_SEED"); text != "" {
		from, n = number(t, text), 1
	}
	var total tally
	for seed := from; seed < from+n; seed++ {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) { total.add(live(t, seed)) })
	}
	t.Logf("%d seeds: %d requests, %d restarts, %d of them after a failed commit, %d faults that struck, "+
		"%.0f days", n, total.requests, total.restarts,
		total.exits, total.faults, total.time.Hours()/24)
	if n >= seedsByDefault && (total.restarts == 0 || total.exits == 0 || total.faults == 0 || total.requests == 0) {
		t.Error("a part of the simulation did not happen")
	}
}

// TestSimulationReplays lives one seed twice and compares every operation of both lives.
func TestSimulationReplays(t *testing.T) {
	for seed := range uint64(5) {
		var digests []string
		for range 2 {
			t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
				digests = append(digests, live(t,
					seed).digest)
			})
		}
		if digests[0] != digests[1] {
			t.Errorf("seed %d lived two lives", seed)
		}
	}
}

func number(t *testing.T, text string) uint64 {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

type tally struct {
	requests, restarts, exits, faults int
	time                              time.Duration
	digest                            string
}

func (a *tally) add(b tally) {
	a.requests, a.restarts, a.exits = a.requests+b.requests, a.restarts+b.restarts, a.exits+b.exits
	a.faults, a.time = a.faults+b.faults, a.time+b.time
}

// life is one seed's.
type life struct {
	*rand.Rand
	h          *harness
	transcript *transcript
	mail       map[string]string // address -> token, delivered
	tally      tally
	log        []string
}

var users = []string{"karl", "lena", "mary", "nora"}

func live(t *testing.T, seed uint64) (done tally) {
	cryptotest.SetGlobalRandom(t, seed)
	synctest.Test(t, func(t *testing.T) {
		l := &life{Rand: rand.New(rand.NewPCG(seed, 2)), transcript: &transcript{past: make(map[string]bool),
			closed: make(map[string]bool)}, mail: make(map[string]string)}
		begin := time.Now()
		err := l.run()
		l.tally.time = time.Since(begin)
		if err != nil {
			t.Errorf("%v\nlive it again: DIALTONE_SEED=%d go test ./internal/test/durability -run "+
				"'TestSimulation$'\n%s", err, seed, strings.Join(l.log, "\n"))
		}
		done = l.tally
		h := sha256.New()
		for _, op := range l.h.fs.Journal() {
			fmt.Fprintf(h, "%v %x\n", op, sha256.Sum256(op.Data))
		}
		done.digest = fmt.Sprintf("%x %s", h.Sum(nil), strings.Join(l.log, "\n"))
		l.h.fs.Crash(crashfs.Killed)
		l.h.close()
		if err := l.h.fs.Close(); err != nil {
			t.Error(err)
		}
	})
	return done
}

func (l *life) note(format string, args ...any) { l.log = append(l.log, fmt.Sprintf(format, args...)) }

func (l *life) run() error {
	f := crashfs.New()
	if err := f.MakeDir("/data"); err != nil {
		return err
	}
	if err := l.start(f.Clone()); err != nil {
		return err
	}
	for range 12 + l.IntN(12) {
		if err := l.step(); err != nil {
			return err
		}
	}
	if err := l.calm(); err != nil {
		return err
	}
	return l.crash()
}

// start opens a harness, and holds what it finds against the transcript.
func (l *life) start(f *crashfs.FS) error {
	f.Record()
	h, tended, err := open(f, time.Now)
	if err != nil {
		return fmt.Errorf("it does not start: %w", err)
	}
	l.h = h
	if tended != nil {
		return tended
	}
	l.deliver()
	if err := l.check(false); err != nil {
		return err
	}
	return l.restartTranscript()
}

// check compares everything with the transcript, counting delivered messages as there. A pending
// account has a link that works, however often a newer one was asked for.
func (l *life) check(running bool) error {
	err := l.h.promiseWith(l.transcript, running, l.mail)
	for _, user := range users {
		a, notFound := l.h.store.Find(ctx, l.h.tenant.ID, user, time.Now())
		if notFound != nil || !a.Pending() {
			continue
		}
		if _, why := l.h.linked(l.mail[a.Email]); why != nil && why != account.ErrHeld {
			err = errors.Join(err, fmt.Errorf("the link that %s has: %w", user, why))
		}
	}
	return err
}

// restartTranscript makes what is there the transcript: after a restart no request is open.
func (l *life) restartTranscript() error {
	f, err := l.h.inspect()
	if err != nil {
		return err
	}
	var requests []*request
	for _, d := range l.transcript.requests {
		if d.what != "signup" {
			continue
		}
		a, there := f.accounts[d.email]
		switch {
		case there:
			c := *d
			c.answered, c.err, c.base = true, nil, state{!a.Pending(), a.Held, !a.Confirmed.IsZero()}
			requests = append(requests, &c)
		default:
			if _, sent := l.mail[d.email]; sent {
				l.transcript.past[d.email] = true
			}
		}
	}
	l.transcript.requests = requests
	return nil
}

// deliver is the mail agent: it takes whole messages out of the pickup directory. A link that a
// newer one has replaced is not kept, since messages may come in any order. It ends where the store
// cannot tell.
func (l *life) deliver() {
	entries, err := l.h.fs.List(outgoing)
	if err != nil {
		return
	}
	for _, e := range entries {
		p := path.Join(outgoing, e.Name())
		if path.Ext(p) != ".eml" {
			continue
		}
		to, token, err := readMessage(l.h.fs, p)
		if err != nil {
			continue
		}
		_, err = l.h.linked(token)
		replaced := errors.Is(err, account.ErrReplaced)
		if err != nil && fault.KindOf(err) == fault.Internal {
			return
		}
		if !replaced {
			l.mail[to] = token
		}
		l.h.fs.Remove(p)
	}
}

func (l *life) step() error {
	var heal func() bool
	var injected *crashfs.Fault
	switch l.IntN(8) {
	case 0:
		n := l.IntN(50)
		l.h.fs.StopAfter(n)
		l.note("the power fails %d operations from now", n)
	case 1, 2:
		one := diskFaults[l.IntN(len(diskFaults))]
		fault := one.fault
		fault.After = l.IntN(40)
		injected, heal = &fault, l.h.fs.Fail(fault)
		l.note("%s", one.name)
	}
	before := len(l.transcript.requests)
	l.act()
	for _, d := range l.transcript.requests[before:] {
		l.tally.requests++
		l.note("%v %v: %v", time.Now().Format(time.DateTime), d, d.err)
		if d.answered && d.err != nil && heal == nil && d.open() {
			return fmt.Errorf("%s: %w", d, d.err)
		}
	}
	if heal != nil && heal() {
		l.tally.faults++
	}
	if l.h.failed() && !l.h.fs.Stopped() {
		return l.exit(injected)
	}
	if l.h.fs.Stopped() || l.IntN(10) == 0 {
		return l.crash()
	}
	if l.IntN(3) == 0 {
		return l.calm()
	}
	return nil
}

// calm is a while without trouble, after which everything is as it should be.
func (l *life) calm() error {
	l.h.fs.GoOn()
	// An account that cannot be taken back any more is found at the first time, its message at the
	// second, and written at the third.
	if err := errors.Join(l.h.outbox.Flush(ctx), l.h.outbox.Flush(ctx), l.h.outbox.Flush(ctx)); err != nil {
		return fmt.Errorf("on a disk that is well: %w", err)
	}
	l.deliver()
	return l.check(true)
}

// exit ends the process since a commit has failed, and the supervisor starts it again: where the
// fault lasts, perhaps again and again. Or the power fails meanwhile.
func (l *life) exit(injected *crashfs.Fault) error {
	if injected == nil {
		return fmt.Errorf("no fault was injected: %w", l.h.store.Err())
	}
	l.tally.exits++
	l.note("the process exits: %v", l.h.store.Err())
	if l.IntN(3) == 0 {
		return l.crash()
	}
	if err := l.h.exit(); err != nil {
		return err
	}
	f := l.h.fs
	for range l.IntN(3) {
		injected.After = l.IntN(60)
		heal := f.Fail(*injected)
		h, _, err := open(f, time.Now)
		l.note("a start on a disk that fails: %v", err)
		if h != nil {
			if h.outbox.Flush(ctx); h.failed() {
				err = h.exit()
			} else {
				err = h.close()
			}
		}
		if heal(); h != nil && err != nil {
			l.note("it ends with %v", err)
		}
	}
	if f.Stopped() {
		return l.crash()
	}
	f.GoOn()
	l.tally.restarts++
	return l.start(f)
}

func (l *life) crash() error {
	variants := append(cuts(l.Uint64(), 4), crashfs.Chance(l.Uint64()), crashfs.Chance(l.Uint64()))
	v := variants[l.IntN(len(variants))]
	l.note("%s", v.Name)
	after := l.h.fs.Crash(v)
	l.h.close()
	if err := l.h.fs.Close(); err != nil {
		return err
	}
	l.tally.restarts++
	return l.start(after)
}

func (l *life) act() {
	user := users[l.IntN(len(users))]
	switch n := l.IntN(20); {
	case n < 7:
		l.transcript.signup(l.h, user, true)
	case n < 8:
		l.transcript.signup(l.h, user, false)
	case n < 10:
		l.transcript.act(l.h, "activate", user, l.token(user))
	case n < 11:
		l.transcript.act(l.h, "confirm", user, l.token(user))
	case n < 12:
		if l.IntN(2) == 0 {
			l.transcript.act(l.h, "disable", user, "")
		} else {
			l.transcript.act(l.h, "resend", user, "")
		}
	case n < 13:
		l.transcript.act(l.h, "enable", user, "")
	case n < 14:
		// The row that a message would be written again from goes with its account. So a message
		// that is not yet on the disk when its account is deleted may stay torn after a power cut;
		// here it is on the disk.
		if l.h.outbox.Flush(ctx) == nil {
			l.transcript.act(l.h, "delete", user, "")
		}
	case n < 15:
		l.h.desk.Sweep(ctx)
	case n < 17:
		d := time.Duration(l.IntN(4*24)) * time.Hour
		l.note("%v pass", d)
		time.Sleep(d)
	default:
		l.h.outbox.Flush(ctx)
		l.deliver()
	}
}

// token is the newest that a user got.
func (l *life) token(user string) string {
	for _, d := range slices.Backward(l.transcript.requests) {
		if token := l.mail[d.email]; d.user == user && token != "" {
			return token
		}
	}
	return ""
}
