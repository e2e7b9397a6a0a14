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
	"dialtone/internal/mailmsg"
	"dialtone/internal/test/crashfs"
)

// defaultSeeds is the number of simulations without DIALTONE_SEEDS.
const defaultSeeds = 300

// TestSimulation simulates years of a platform: people sign up, open links, answer captchas wrong, change
// and forget their passwords, are sign in, end other sessions, say that a change was not theirs, are disabled and deleted; days pass; the disk fails and works again; the
// machine loses power. The answers are recorded, and the state is compared with them.
//
// A seed always leads to the same simulation. The clock is that of a synctest bubble, all random
// numbers follow from the seed, also those of crypto/rand, and clients take turns. Concurrent
// requests are in TestEveryPoint.
//
// DIALTONE_SEEDS=20000 runs 20,000 seeds, DIALTONE_SEED=17 only that one.
func TestSimulation(t *testing.T) {
	from, n := uint64(0), uint64(defaultSeeds)
	if text := os.Getenv("DIALTONE_SEEDS"); text != "" {
		n = number(t, text)
	}
	if text := os.Getenv("DIALTONE_SEED"); text != "" {
		from, n = number(t, text), 1
	}
	var total tally
	for seed := from; seed < from+n; seed++ {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) { total.add(simulate(t, seed)) })
	}
	t.Logf("%d seeds: %d requests, %d restarts, %d of them after a failed commit, %d faults, %.0f days",
		n, total.requests, total.restarts, total.exits, total.faults, total.time.Hours()/24)
	t.Logf("password changes: %+v; resets: %+v; reset links: %+v; not me: %+v; sign-ins: %+v; ends of others: %+v",
		total.passwords, total.resets, total.links, total.notMe, total.signIns, total.ends)
	if n < defaultSeeds {
		return
	}
	if total.restarts == 0 || total.exits == 0 || total.faults == 0 || total.requests == 0 {
		t.Error("there were no requests, restarts, exits or faults")
	}
	for _, c := range []changes{
		total.passwords, total.resets, total.links, total.notMe, total.signIns, total.ends,
	} {
		if c.done == 0 || c.failed == 0 || c.open == 0 {
			t.Errorf("changes with some outcome are missing: %+v", c)
		}
	}
}

// TestSimulationReplays runs seeds twice and compares every operation of both runs.
func TestSimulationReplays(t *testing.T) {
	for seed := range uint64(5) {
		var digests []string
		for range 2 {
			t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
				digests = append(digests, simulate(t, seed).digest)
			})
		}
		if digests[0] != digests[1] {
			t.Errorf("the two runs of seed %d differ", seed)
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

// tally counts what happened in a simulation.
type tally struct {
	requests, restarts, exits, faults int
	passwords, resets, links          changes
	notMe, signIns, ends              changes
	time                              time.Duration
	digest                            string
}

// changes counts changes that succeeded, that failed, and whose outcome was not known at first.
type changes struct{ done, failed, open int }

func (c *changes) count(d *request) {
	switch {
	case d.done():
		c.done++
	case d.mayRemain(true):
		c.open++
	default:
		c.failed++
	}
}

func (c *changes) add(b changes) {
	c.done, c.failed, c.open = c.done+b.done, c.failed+b.failed, c.open+b.open
}

func (a *tally) add(b tally) {
	a.passwords.add(b.passwords)
	a.resets.add(b.resets)
	a.links.add(b.links)
	a.notMe.add(b.notMe)
	a.signIns.add(b.signIns)
	a.ends.add(b.ends)
	a.requests, a.restarts, a.exits = a.requests+b.requests, a.restarts+b.restarts, a.exits+b.exits
	a.faults, a.time = a.faults+b.faults, a.time+b.time
}

// simulation is the run of one seed.
type simulation struct {
	*rand.Rand
	h          *harness
	transcript *transcript
	mail       mailbox
	reset      map[string]string // tokens of the reset links that were delivered last, by address
	used       map[string]bool   // tokens of messages about changes that were used
	tally      tally
	log        []string
}

var users = []string{"karl", "lena", "mary", "nora"}

func simulate(t *testing.T, seed uint64) (done tally) {
	cryptotest.SetGlobalRandom(t, seed)
	synctest.Test(t, func(t *testing.T) {
		l := &simulation{
			Rand: rand.New(rand.NewPCG(seed, 2)),
			transcript: &transcript{
				past: make(map[string]bool), closed: make(map[string]bool), sent: make(map[string]bool),
			},
			reset: make(map[string]string),
			used:  make(map[string]bool),
			mail:  mailbox{tokens: make(map[string]string), changes: make(map[string]message)},
		}
		begin := time.Now()
		err := l.run()
		l.tally.time = time.Since(begin)
		if err != nil {
			t.Errorf("%v\nrun it again: DIALTONE_SEED=%d go test ./internal/test/durability -run "+
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

// logf adds a line to the log, which is printed if the simulation fails.
func (l *simulation) logf(format string, args ...any) {
	l.log = append(l.log, fmt.Sprintf(format, args...))
}

func (l *simulation) run() error {
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
	if err := l.settled(); err != nil {
		return err
	}
	return l.crash()
}

// start opens a harness, and compares its state with the transcript.
func (l *simulation) start(f *crashfs.FS) error {
	f.Record()
	h, flushErr, err := open(f, time.Now)
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	l.h = h
	if flushErr != nil {
		return flushErr
	}
	l.deliver()
	if err := l.check(false); err != nil {
		return err
	}
	return l.restartTranscript()
}

// check compares the state, with the delivered messages, with the transcript. The newest link of each
// pending account must work, whatever happened to resends.
func (l *simulation) check(running bool) error {
	err := l.h.promiseWith(l.transcript, running, l.mail)
	for _, user := range users {
		a, notFound := l.h.store.Find(ctx, l.h.tenant.ID, user, time.Now())
		if notFound != nil || !a.Pending() {
			continue
		}
		if _, why := l.h.linked(l.mail.tokens[a.Email]); why != nil && !errors.Is(why, account.ErrHeld) {
			err = errors.Join(err, fmt.Errorf("the link of %s: %w", user, why))
		}
	}
	return err
}

// restartTranscript makes the present state the transcript. After a restart no request is open.
func (l *simulation) restartTranscript() error {
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
			credential, err := l.h.accounts.Credential(a)
			if err != nil {
				return err
			}
			c.baseHA1 = credential.HA1
			requests = append(requests, &c)
		default:
			if _, sent := l.mail.tokens[d.email]; sent {
				l.transcript.past[d.email] = true
			}
		}
	}
	for id := range f.changes {
		l.transcript.sent[id] = true
	}
	for id := range l.mail.changes {
		l.transcript.sent[id] = true
	}
	l.transcript.requests = requests
	return nil
}

// deliver is the mail server: it takes complete messages out of the pickup directory. It does not keep
// a link that was replaced by a newer one, since messages may be delivered in any order. It stops if
// the store fails.
func (l *simulation) deliver() {
	entries, err := l.h.fs.List(outgoing)
	if err != nil {
		return
	}
	for _, e := range entries {
		p := path.Join(outgoing, e.Name())
		if path.Ext(p) != ".eml" {
			continue
		}
		m, err := readMessage(l.h.fs, p)
		if err != nil {
			continue
		}
		if m.kind != mailmsg.Activation {
			l.mail.changes[m.id] = m
			if m.kind == mailmsg.Reset {
				l.reset[m.to] = m.token
			}
			l.h.fs.Remove(p)
			continue
		}
		_, err = l.h.linked(m.token)
		replaced := errors.Is(err, account.ErrReplaced)
		if err != nil && fault.KindOf(err) == fault.Internal {
			return
		}
		if !replaced {
			l.mail.tokens[m.to] = m.token
		}
		l.h.fs.Remove(p)
	}
}

// step does one thing, perhaps with a fault of the disk or a power cut.
func (l *simulation) step() error {
	var disarm func() bool
	var injected *crashfs.Fault
	switch l.IntN(8) {
	case 0:
		n := l.IntN(50)
		l.h.fs.StopAfter(n)
		l.logf("the power fails after %d operations", n)
	case 1, 2:
		one := diskFaults[l.IntN(len(diskFaults))]
		fault := one.fault
		fault.After = l.IntN(40)
		injected, disarm = &fault, l.h.fs.Fail(fault)
		l.logf("%s", one.name)
	}
	before := len(l.transcript.requests)
	l.act()
	for _, d := range l.transcript.requests[before:] {
		l.tally.requests++
		switch d.what {
		case "password":
			l.tally.passwords.count(d)
		case "reset":
			l.tally.resets.count(d)
		case "link":
			l.tally.links.count(d)
		case "not-me":
			l.tally.notMe.count(d)
		case "signin":
			l.tally.signIns.count(d)
		case "end-others":
			l.tally.ends.count(d)
		}
		l.logf("%v %v: %v", time.Now().Format(time.DateTime), d, d.err)
		if d.answered && d.err != nil && disarm == nil && d.open() {
			return fmt.Errorf("%s: %w", d, d.err)
		}
	}
	if disarm != nil && disarm() {
		l.tally.faults++
	}
	if l.h.failed() && !l.h.fs.Stopped() {
		return l.exit(injected)
	}
	if l.h.fs.Stopped() || l.IntN(10) == 0 {
		return l.crash()
	}
	if l.IntN(3) == 0 {
		return l.settled()
	}
	return nil
}

// settled flushes the outbox on a disk that works, and checks that nothing is left to do.
func (l *simulation) settled() error {
	l.h.fs.GoOn()
	if err := l.transcript.serveForgotten(l.h); err != nil {
		return fmt.Errorf("reset links on a disk that works: %w", err)
	}
	// The first Flush finds that an account cannot be undone any more, the second finds its entry, and
	// the third writes its message.
	if err := errors.Join(l.h.outbox.Flush(ctx), l.h.outbox.Flush(ctx), l.h.outbox.Flush(ctx)); err != nil {
		return fmt.Errorf("flush on a disk that works: %w", err)
	}
	l.deliver()
	return l.check(true)
}

// exit ends the process after a failed commit, and starts it again, perhaps several times while the
// disk fails. Or the power fails.
func (l *simulation) exit(injected *crashfs.Fault) error {
	if injected == nil {
		return fmt.Errorf("no fault was injected: %w", l.h.store.Err())
	}
	l.tally.exits++
	l.logf("the process exits: %v", l.h.store.Err())
	if l.IntN(3) == 0 {
		return l.crash()
	}
	if err := l.h.exit(); err != nil {
		return err
	}
	f := l.h.fs
	for range l.IntN(3) {
		injected.After = l.IntN(60)
		disarm := f.Fail(*injected)
		h, _, err := open(f, time.Now)
		l.logf("a start while the disk fails: %v", err)
		if h != nil {
			if h.outbox.Flush(ctx); h.failed() {
				err = h.exit()
			} else {
				err = h.close()
			}
		}
		if disarm(); h != nil && err != nil {
			l.logf("its exit: %v", err)
		}
	}
	if f.Stopped() {
		return l.crash()
	}
	f.GoOn()
	l.tally.restarts++
	return l.start(f)
}

// crash cuts the power or kills the process, and starts it again.
func (l *simulation) crash() error {
	variants := append(cuts(l.Uint64(), 4), crashfs.Chance(l.Uint64()), crashfs.Chance(l.Uint64()))
	v := variants[l.IntN(len(variants))]
	l.logf("%s", v.Name)
	after := l.h.fs.Crash(v)
	l.h.close()
	if err := l.h.fs.Close(); err != nil {
		return err
	}
	l.tally.restarts++
	return l.start(after)
}

// act makes one request, lets time pass, or delivers messages.
func (l *simulation) act() {
	user := users[l.IntN(len(users))]
	switch n := l.IntN(34); {
	case n >= 28:
		l.person(n - 28)
	case n >= 20:
		active := l.active()
		switch {
		case active == "":
			l.transcript.act(l.h, "activate", user, l.token(user))
		case n >= 24:
			l.transcript.password(l.h, active, "")
		default:
			l.forgot(active)
		}
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
		// Deleting an account deletes its outbox entries, so a message that is not synced by then may
		// stay incomplete after a power cut. Here it is synced.
		if l.h.outbox.Flush(ctx) != nil {
			return
		}
		if l.IntN(3) == 0 {
			l.transcript.act(l.h, "decline", user, l.token(user))
		} else {
			l.transcript.act(l.h, "delete", user, "")
		}
	case n < 15:
		l.h.accounts.Sweep(ctx)
	case n < 17:
		d := time.Duration(l.IntN(4*24)) * time.Hour
		l.logf("%v pass", d)
		time.Sleep(d)
	default:
		l.h.outbox.Flush(ctx)
		l.deliver()
	}
}

// active returns a user with an active account, or an empty string if there is none.
func (l *simulation) active() string {
	for _, i := range l.Perm(len(users)) {
		a, err := l.h.store.Find(ctx, l.h.tenant.ID, users[i], time.Now())
		if err == nil && !a.Disabled {
			return users[i]
		}
	}
	return ""
}

// person has the user of an active account sign in, end other sessions, or open the link in a message about a
// change, which may have been used before.
func (l *simulation) person(n int) {
	user := l.active()
	if user == "" {
		return
	}
	switch n {
	case 0, 1:
		l.transcript.signIn(l.h, user)
	case 2:
		isOwn := func(d *request) bool { return d.user == user && d.session != "" }
		i := slices.IndexFunc(l.transcript.requests, isOwn)
		if i < 0 {
			i = len(l.transcript.requests)
			l.transcript.signIn(l.h, user)
		}
		if d := l.transcript.requests[i]; isOwn(d) {
			l.transcript.endOthers(l.h, user, d.session)
		}
	default:
		a, err := l.h.store.Find(ctx, l.h.tenant.ID, user, time.Now())
		if err != nil {
			return
		}
		var links []string
		for _, m := range l.mail.changes {
			if m.to == a.Email && slices.Contains(mailmsg.NotMe, m.kind) {
				links = append(links, m.token)
			}
		}
		if len(links) == 0 {
			l.transcript.signIn(l.h, user)
			return
		}
		slices.Sort(links)
		token := links[l.IntN(len(links))]
		if d := l.transcript.notMe(l.h, user, token); d.done() {
			if l.used[token] {
				d.err = errors.New("the link works twice")
			}
			l.used[token] = true
		}
	}
}

// forgot has the user of an active account open the reset link that was delivered last, or ask for one.
func (l *simulation) forgot(user string) {
	a, err := l.h.store.Find(ctx, l.h.tenant.ID, user, time.Now())
	if err != nil {
		return
	}
	if token := l.reset[a.Email]; token != "" && l.IntN(4) > 0 {
		delete(l.reset, a.Email)
		l.transcript.password(l.h, user, token)
		return
	}
	l.transcript.forgot(l.h, user, a.Email)
	l.h.outbox.Flush(ctx)
	l.deliver()
}

// token returns the token of the newest message to a user, or an empty string.
func (l *simulation) token(user string) string {
	for _, d := range slices.Backward(l.transcript.requests) {
		if token := l.mail.tokens[d.email]; d.user == user && token != "" {
			return token
		}
	}
	return ""
}
