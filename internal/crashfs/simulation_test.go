package crashfs_test

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
	"dialtone/internal/crashfs"
	"dialtone/internal/fault"
)

// The simulation lives through years of a platform in milliseconds: people sign up, open links, get captchas wrong, are
// disabled and deleted; days pass; the disk fails and heals; the machine loses power. What was answered is written down,
// and what is found is held against it. The clock is a synctest bubble's, chance is the seed's, also where the program
// asks crypto/rand, and clients take turns: what goes on at once is for TestEveryPoint. So a seed always lives the same.

const seedsByDefault = 1000

// failedOnce are seeds that found something. In the first, an account that was enabled before it could be taken back had no message.
// In the last, such an account had been sent a new link and rightly stayed, which this test had not thought of. In the others, a second
// sync that failed took what the first one's failure had left, and zeros were moved from the journal to the database.
var failedOnce = []uint64{268, 6761, 6815, 10004, 12743, 13202, 18767, 10389}

// TestSimulation runs many seeds. DIALTONE_SEEDS=20000 runs so many, DIALTONE_SEED=17 that one alone.
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
	for _, seed := range failedOnce {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) { live(t, seed) })
	}
	t.Logf("%d seeds: %d deeds, %d restarts, %d faults that struck, %.0f days", n, total.deeds, total.restarts, total.faults, total.time.Hours()/24)
	if n >= seedsByDefault && (total.restarts == 0 || total.faults == 0 || total.deeds == 0) {
		t.Error("a part of the simulation did not happen")
	}
}

// TestSimulationReplays lives one seed twice and compares every operation of both lives.
func TestSimulationReplays(t *testing.T) {
	for seed := range uint64(5) {
		var digests []string
		for range 2 {
			t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) { digests = append(digests, live(t, seed).digest) })
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
	deeds, restarts, faults int
	time                    time.Duration
	digest                  string
}

func (a *tally) add(b tally) {
	a.deeds, a.restarts, a.faults, a.time = a.deeds+b.deeds, a.restarts+b.restarts, a.faults+b.faults, a.time+b.time
}

// life is one seed's.
type life struct {
	*rand.Rand
	h     *house
	truth *truth
	mail  map[string]string // address -> token, delivered
	// shaken says that syncs failed for a while since the machine started. Then the machine starts anew too, by the limit that
	// TestEveryFault tells of.
	shaken bool
	tally  tally
	log    []string
}

var users = []string{"karl", "lena", "mary", "nora"}

func live(t *testing.T, seed uint64) (done tally) {
	cryptotest.SetGlobalRandom(t, seed)
	synctest.Test(t, func(t *testing.T) {
		l := &life{Rand: rand.New(rand.NewPCG(seed, 2)), truth: &truth{past: make(map[string]bool), closed: make(map[string]bool)}, mail: make(map[string]string)}
		begin := time.Now()
		err := l.run()
		l.tally.time = time.Since(begin)
		if err != nil {
			t.Errorf("%v\nlive it again: DIALTONE_SEED=%d go test ./internal/crashfs -run 'TestSimulation$'\n%s", err, seed, strings.Join(l.log, "\n"))
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

// start opens a house, and holds what it finds against the truth.
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
	return l.tellAnew()
}

// check holds everything against the truth, counting delivered messages as there. Whoever waits has a link that counts, however often
// a newer one was asked for.
func (l *life) check(running bool) error {
	err := l.h.promiseWith(l.truth, running, l.mail)
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

// tellAnew makes what is there the truth: after a restart nothing is open any more.
func (l *life) tellAnew() error {
	f, err := l.h.look()
	if err != nil {
		return err
	}
	var deeds []*deed
	for _, d := range l.truth.deeds {
		if d.what != "signup" {
			continue
		}
		a, there := f.accounts[d.email]
		switch {
		case there:
			c := *d
			c.answered, c.err, c.base = true, nil, state{!a.Pending(), a.Held, !a.Confirmed.IsZero()}
			deeds = append(deeds, &c)
		default:
			if _, sent := l.mail[d.email]; sent {
				l.truth.past[d.email] = true
			}
		}
	}
	l.truth.deeds = deeds
	return nil
}

// deliver is the mail agent: it takes whole messages out of the pickup directory. A link that a newer one has replaced is not kept,
// since messages may come in any order. It ends where the store cannot tell.
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
	stays := false
	switch l.IntN(8) {
	case 0:
		n := l.IntN(50)
		l.h.fs.StopAfter(n)
		l.note("the power fails %d operations from now", n)
	case 1, 2:
		ill := ills[l.IntN(len(ills))]
		fault := ill.fault
		fault.After, stays = l.IntN(40), fault.Stays
		heal = l.h.fs.Fail(fault)
		l.note("%s", ill.name)
	}
	before := len(l.truth.deeds)
	l.act()
	for _, d := range l.truth.deeds[before:] {
		l.tally.deeds++
		l.note("%v %v: %v", time.Now().Format(time.DateTime), d, d.err)
		if d.answered && d.err != nil && heal == nil && fault.KindOf(d.err) == fault.Internal {
			return fmt.Errorf("%s: %w", d, d.err)
		}
	}
	if heal != nil && heal() {
		l.tally.faults++
	}
	l.shaken = l.shaken || stays && slices.ContainsFunc(l.h.fs.Journal(), func(op crashfs.Op) bool { return op.Err != nil && syncs(op) })
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
	// An account that cannot be taken back any more is found at the first time, its message at the second, and written at the third.
	if err := errors.Join(l.h.outbox.Flush(ctx), l.h.outbox.Flush(ctx), l.h.outbox.Flush(ctx)); err != nil {
		return fmt.Errorf("on a disk that is well: %w", err)
	}
	l.deliver()
	return l.check(true)
}

func (l *life) crash() error {
	variants := append(cuts(l.Uint64(), 4), crashfs.Chance(l.Uint64()), crashfs.Chance(l.Uint64()))
	if l.shaken {
		variants = variants[1:] // the machine goes too
	}
	v := variants[l.IntN(len(variants))]
	l.note("%s", v.Name)
	after := l.h.fs.Crash(v)
	l.h.close()
	if err := l.h.fs.Close(); err != nil {
		return err
	}
	l.shaken = l.shaken && v == crashfs.Killed
	l.tally.restarts++
	return l.start(after)
}

func (l *life) act() {
	user := users[l.IntN(len(users))]
	switch n := l.IntN(20); {
	case n < 7:
		l.truth.signup(l.h, user, true)
	case n < 8:
		l.truth.signup(l.h, user, false)
	case n < 10:
		l.truth.act(l.h, "activate", user, l.token(user))
	case n < 11:
		l.truth.act(l.h, "confirm", user, l.token(user))
	case n < 12:
		if l.IntN(2) == 0 {
			l.truth.act(l.h, "disable", user, "")
		} else {
			l.truth.act(l.h, "resend", user, "")
		}
	case n < 13:
		l.truth.act(l.h, "enable", user, "")
	case n < 14:
		// The row that a message would be written again from goes with its account. So a message that is not yet on the
		// disk when its account is deleted may stay torn after a power cut; here it is on the disk.
		if l.h.outbox.Flush(ctx) == nil {
			l.truth.act(l.h, "delete", user, "")
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
	for _, d := range slices.Backward(l.truth.deeds) {
		if token := l.mail[d.email]; d.user == user && token != "" {
			return token
		}
	}
	return ""
}
