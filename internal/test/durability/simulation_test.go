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
	"dialtone/internal/totp"
)

// defaultSeeds is the number of simulations without DIALTONE_SEEDS.
const defaultSeeds = 80

// TestSimulation simulates years of a platform: people sign up, open links, answer captchas wrong, sign in,
// change and forget their passwords, change their addresses, end other sessions, turn authenticator apps on and
// off and use their codes, add passkeys, leave and stay, say that a change was not theirs, are disabled, deleted
// and erased; days pass; the disk fails and works again; the machine loses power. The answers are recorded, and
// the state is compared with them.
//
// Each run begins with a different seed. A seed always leads to the same simulation: the clock is that
// of a synctest bubble, all random numbers follow from the seed, including those of crypto/rand, and
// clients take turns. Concurrent requests are in TestEveryPoint.
//
// DIALTONE_SEEDS=20000 runs 20,000 seeds, DIALTONE_SEED=17 only that one.
func TestSimulation(t *testing.T) {
	n := number("DIALTONE_SEEDS", defaultSeeds)
	if os.Getenv("DIALTONE_SEED") != "" {
		n = 1
	}
	var total tally
	for i := range n {
		seed := seed + i
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) { total.add(simulate(t, seed)) })
	}
	t.Logf("%d seeds: %d requests, %d restarts, %d of them after a failed commit, %d faults, %.0f days, "+
		"%d accounts erased",
		n, total.requests, total.restarts, total.exits, total.faults, total.time.Hours()/24, total.erased)
	for _, what := range counted {
		t.Logf("%s: %+v", what, *total.of(what))
	}
	if n < defaultSeeds {
		return
	}
	var all changes
	for _, what := range counted {
		c := total.of(what)
		if n >= 40*defaultSeeds && (c.done == 0 || c.failed == 0 || c.open == 0) {
			t.Errorf("%s: some outcome is missing: %+v", what, *c)
		}
		all.add(*c)
	}
	if total.restarts == 0 || total.exits == 0 || total.faults == 0 || all.done == 0 || all.failed == 0 ||
		all.open == 0 || n >= 40*defaultSeeds && total.erased == 0 {
		t.Errorf("there were no restarts, exits or faults, or some outcome is missing: %+v", total)
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

// tally counts what happened in a simulation.
type tally struct {
	requests, restarts, exits, faults int
	erased                            int // accounts
	changes                           map[string]*changes
	time                              time.Duration
	digest                            string
}

// counted are the requests whose outcomes are counted.
var counted = []string{
	"password", "reset", "link", "not-me", "signin", "end-others", "email-link", "set-email", "leave", "stay", "app-on",
	"code", "codes", "app-off", "passkey", "passkey-off",
}

// of returns the counts of requests.
func (a *tally) of(what string) *changes {
	if a.changes == nil {
		a.changes = make(map[string]*changes)
	}
	if a.changes[what] == nil {
		a.changes[what] = new(changes)
	}
	return a.changes[what]
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
	for what, c := range b.changes {
		a.of(what).add(*c)
	}
	a.erased += b.erased
	a.requests, a.restarts, a.exits = a.requests+b.requests, a.restarts+b.restarts, a.exits+b.exits
	a.faults, a.time = a.faults+b.faults, a.time+b.time
}

// simulation is the run of one seed.
type simulation struct {
	*rand.Rand
	h          *harness
	transcript *transcript
	mail       mailbox
	reset      map[string]string   // tokens of the reset links that were delivered last, by address
	used       map[string]bool     // codes, and tokens of messages about changes, that were used
	apps       map[string]*request // that turned on an app, by user
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
			apps:  make(map[string]*request),
			mail:  mailbox{tokens: make(map[string]string), changes: make(map[string]message)},
		}
		begin := time.Now()
		err := l.run()
		l.tally.time = time.Since(begin)
		if err != nil {
			t.Errorf("%v\n%s\n%s", err, repetition(t, seed), strings.Join(l.log, "\n"))
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
	for range 16 + l.IntN(16) {
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

// restartTranscript makes the current state the transcript. After a restart no request is open.
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
			c.answered, c.err, c.base = true, nil, stateOf(a)
			c.baseFacts = d.facts
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

// deliver acts as the mail server: it takes complete messages out of the pickup directory. It
// ignores a link that was replaced by a newer one, since messages may be delivered in any order. It
// stops if the store fails.
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

// step performs one action, perhaps with a fault of the disk or a power cut.
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
		l.tally.of(d.what).count(d)
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
	l.h.fs.Resume()
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
	f.Resume()
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
	switch n := l.IntN(46); {
	case n >= 34:
		l.own(n - 34)
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
func (l *simulation) active() string { return l.inState(account.Active) }

// inState returns a user whose account is in a state, or an empty string.
func (l *simulation) inState(s account.State) string {
	for _, i := range l.Perm(len(users)) {
		a, err := l.h.store.Find(ctx, l.h.tenant.ID, users[i], time.Now())
		if err == nil && a.State() == s {
			return users[i]
		}
	}
	return ""
}

// person makes the user of an active account sign in, end other sessions, or open the link in a
// message about a change, which may have been used before.
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
		var list []message
		for _, m := range l.mail.changes {
			if signupAddress(m.to) == signupAddress(a.Email) && slices.Contains(mailmsg.NotMe, m.kind) {
				list = append(list, m)
			}
		}
		if len(list) == 0 {
			l.transcript.signIn(l.h, user)
			return
		}
		slices.SortFunc(list, func(a, b message) int { return strings.Compare(a.token, b.token) })
		l.usedOnce(l.transcript.notMe(l.h, user, list[l.IntN(len(list))]))
	}
}

// usedOnce makes a request with a token or a code that was used successfully before. It must fail.
func (l *simulation) usedOnce(d *request) {
	if d.done() {
		if l.used[d.token] {
			d.err = errors.New("the link or the code works twice")
		}
		l.used[d.token] = true
	}
}

// own makes the user of an account change the address, an app or a passkey, use a code, leave or
// stay. Sometimes the accounts of owners who left are erased.
func (l *simulation) own(n int) {
	user, left := l.active(), l.inState(account.Leaving)
	switch {
	case left != "" && n < 6:
		n, user = n%3, left // stays, or is erased
		if n == 2 {
			n = 0
		}
	case n < 2 && user != "":
		n = 2 // leaves
	case user == "":
		user = users[l.IntN(len(users))]
		l.transcript.act(l.h, "activate", user, l.token(user))
		return
	}
	a, err := l.h.store.Find(ctx, l.h.tenant.ID, user, time.Now())
	if err != nil {
		return
	}
	switch n {
	case 0:
		if l.IntN(3) == 0 {
			l.forgot(user) // a new password keeps the account too
		} else if token := l.sent(a, mailmsg.Leaving); token != "" {
			l.usedOnce(l.transcript.stay(l.h, user, token))
		}
	case 1:
		if l.IntN(4) > 0 {
			l.logf("the grace of those who have left passes")
			time.Sleep(account.Grace + 25*time.Hour)
		}
		if l.h.outbox.Flush(ctx) != nil { // as before a delete
			return
		}
		before := l.accounts()
		if l.transcript.erase(l.h); !l.h.failed() {
			l.tally.erased += before - l.accounts()
		}
	case 2, 3:
		l.transcript.leave(l.h, user)
		l.h.outbox.Flush(ctx)
		l.deliver()
	case 4, 5, 6:
		if token := l.sent(a, mailmsg.ConfirmEmail); token != "" && l.IntN(3) > 0 {
			l.usedOnce(l.transcript.setEmail(l.h, user, token))
			return
		}
		l.transcript.requestEmail(l.h, user)
		l.h.outbox.Flush(ctx)
		l.deliver()
	case 7, 8, 9:
		switch on := l.apps[user]; {
		case on == nil || !a.Factors.Has(account.FactorApp):
			if d := l.transcript.appOn(l.h, user); d.codes != nil {
				l.apps[user] = d
			}
		case l.IntN(4) == 0:
			l.transcript.appOff(l.h, user)
		case l.IntN(4) == 0:
			if d := l.transcript.renewCodes(l.h, user); d.done() {
				on.codes = d.codes
			}
		case l.IntN(2) == 0:
			l.usedOnce(l.transcript.useCode(l.h, user, on.codes[l.IntN(3)]))
		default:
			if l.IntN(3) > 0 {
				time.Sleep(totp.Period)
			}
			// A code is new in each step; 6 digits may repeat.
			code := on.app.Code(totp.Step(time.Now()))
			step := fmt.Sprintf("%s %d %s", user, totp.Step(time.Now()), code)
			if d := l.transcript.useCode(l.h, user, code); d.done() && l.used[step] {
				d.err = errors.New("the code works twice")
			} else if d.done() {
				l.used[step] = true
			}
		}
	default:
		list, err := l.h.store.Passkeys(ctx, a.UID)
		if err == nil && len(list) > 0 && l.IntN(2) == 0 {
			id := string(list[l.IntN(len(list))].ID)
			l.transcript.removePasskey(l.h, user, id)
			if l.IntN(8) == 0 {
				l.transcript.removePasskey(l.h, user, id) // which fails
			}
			return
		}
		l.transcript.addPasskey(l.h, user)
	}
}

// accounts returns the number of accounts.
func (l *simulation) accounts() int {
	f, err := l.h.inspect()
	if err != nil {
		return 0
	}
	return len(f.accounts)
}

// sent returns the token of a message of a kind about an account that was delivered, or an empty string.
func (l *simulation) sent(a account.Account, kind mailmsg.Kind) string {
	var tokens []string
	for _, m := range l.mail.changes {
		if m.kind == kind && signupAddress(m.to) == signupAddress(a.Email) {
			tokens = append(tokens, m.token)
		}
	}
	if len(tokens) == 0 {
		return ""
	}
	slices.Sort(tokens)
	return tokens[l.IntN(len(tokens))]
}

// forgot makes the user of an active account open the last reset link that was delivered, or
// request one.
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
