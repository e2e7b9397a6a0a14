package crashfs_test

import (
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	_ "modernc.org/sqlite"

	"dialtone/internal/crashfs"
)

// noon is when everything in these tests happens: a synctest bubble's clock starts there.
var noon = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

func clock() time.Time { return noon }

// scenario is something that is stopped at every point of it. It begins with a started house on a disk where everything is
// durable, and with what was asked and answered before.
type scenario struct {
	name string
	// before prepares the disk.
	before func(t *testing.T, h *house, tr *truth)
	// crash is what the disk goes through between before and do; none where it is nil.
	crash *crashfs.Variant
	// do is what is stopped. It gets no house where it starts one itself.
	do     func(t *testing.T, f *crashfs.FS, h *house, tr *truth)
	starts bool
	// sees says what the journal must have for the scenario to be what its name says.
	sees func(journal []crashfs.Op) bool
	// empty begins with an empty disk.
	empty bool
}

var scenarios = []scenario{
	{
		name: "first start", empty: true, starts: true,
		do: func(t *testing.T, f *crashfs.FS, _ *house, tr *truth) {
			if h := mayOpen(t, f); h != nil {
				tr.signup(h, "karl", true)
				h.close()
			}
		},
	},
	{
		name: "signup",
		do:   func(t *testing.T, _ *crashfs.FS, h *house, tr *truth) { tr.signup(h, "karl", true) },
	},
	{
		name: "three signups in one group",
		do: func(t *testing.T, f *crashfs.FS, h *house, tr *truth) {
			group(f, h, tr, "karl", "lena", "mary")
		},
		sees: func(journal []crashfs.Op) bool { return count(journal, crashfs.Sync, database+"-wal") == 2 },
	},
	{
		name: "signup with a wrong captcha",
		do:   func(t *testing.T, _ *crashfs.FS, h *house, tr *truth) { tr.signup(h, "karl", false) },
	},
	{
		name:   "signup of a taken name",
		before: func(t *testing.T, h *house, tr *truth) { tr.signup(h, "karl", true) },
		do:     func(t *testing.T, _ *crashfs.FS, h *house, tr *truth) { tr.signup(h, "karl", true) },
	},
	{
		name:   "activation",
		before: func(t *testing.T, h *house, tr *truth) { tr.signup(h, "karl", true) },
		do: func(t *testing.T, _ *crashfs.FS, h *house, tr *truth) {
			tr.act(h, "activate", "karl", tr.tokenOf(h, "karl"))
		},
	},
	{
		name:   "confirmation",
		before: func(t *testing.T, h *house, tr *truth) { tr.signup(h, "karl", true) },
		do: func(t *testing.T, _ *crashfs.FS, h *house, tr *truth) {
			tr.act(h, "confirm", "karl", tr.tokenOf(h, "karl"))
		},
	},
	{
		name: "confirmation of an active account",
		before: func(t *testing.T, h *house, tr *truth) {
			tr.signup(h, "karl", true)
			tr.act(h, "activate", "karl", tr.tokenOf(h, "karl"))
		},
		do: func(t *testing.T, _ *crashfs.FS, h *house, tr *truth) {
			tr.act(h, "confirm", "karl", tr.tokenOf(h, "karl"))
		},
	},
	{
		name: "resend of a message that is on the disk",
		before: func(t *testing.T, h *house, tr *truth) {
			tr.signup(h, "karl", true)
			h.outbox.Flush(ctx)
		},
		do: func(t *testing.T, _ *crashfs.FS, h *house, tr *truth) {
			tr.act(h, "resend", "karl", tr.tokenOf(h, "karl"))
			h.outbox.Flush(ctx)
		},
	},
	{
		name:   "resend, activation by the new link",
		before: func(t *testing.T, h *house, tr *truth) { tr.signup(h, "karl", true) },
		do: func(t *testing.T, _ *crashfs.FS, h *house, tr *truth) {
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
		name: "signup, a sync, resend, a sync, signup",
		do: func(t *testing.T, _ *crashfs.FS, h *house, tr *truth) {
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
		name:   "publishing fails and the new link is taken back",
		before: func(t *testing.T, h *house, tr *truth) { tr.signup(h, "karl", true) },
		do: func(t *testing.T, f *crashfs.FS, h *house, tr *truth) {
			heal := f.Fail(crashfs.Fault{Err: eio, Only: func(op crashfs.Op) bool { return op.Kind == crashfs.Rename }})
			d := tr.act(h, "resend", "karl", tr.tokenOf(h, "karl"))
			if heal() && d.err == nil {
				t.Error("the resend was answered though its message could not be published")
			}
			h.outbox.Flush(ctx)
		},
	},
	{
		name: "recovery after a power cut, with a resend", crash: &crashfs.Variant{Name: "data lost", Data: crashfs.None}, starts: true,
		before: func(t *testing.T, h *house, tr *truth) {
			tr.signup(h, "karl", true)
			tr.act(h, "resend", "karl", tr.tokenOf(h, "karl"))
		},
		do: reopen,
	},
	{
		name: "disable",
		before: func(t *testing.T, h *house, tr *truth) {
			tr.signup(h, "karl", true)
			tr.act(h, "activate", "karl", tr.tokenOf(h, "karl"))
		},
		do: func(t *testing.T, _ *crashfs.FS, h *house, tr *truth) { tr.act(h, "disable", "karl", "") },
	},
	{
		name: "signup, tend, signup, tend",
		do: func(t *testing.T, _ *crashfs.FS, h *house, tr *truth) {
			for _, user := range []string{"karl", "lena"} {
				tr.signup(h, user, true)
				h.outbox.Flush(ctx)
			}
		},
	},
	{
		name: "recovery after a power cut", crash: &crashfs.Variant{Name: "data lost", Data: crashfs.None}, starts: true,
		before: func(t *testing.T, h *house, tr *truth) {
			tr.signup(h, "karl", true)
			tr.signup(h, "lena", true)
		},
		do: reopen,
	},
	{
		name: "recovery after a kill", crash: &crashfs.Killed, starts: true,
		before: func(t *testing.T, h *house, tr *truth) {
			tr.signup(h, "karl", true)
			tr.act(h, "activate", "karl", tr.tokenOf(h, "karl"))
			tr.signup(h, "lena", true)
		},
		do: reopen,
	},
	{
		name:   "close",
		before: func(t *testing.T, h *house, tr *truth) { tr.signup(h, "karl", true) },
		do: func(t *testing.T, _ *crashfs.FS, h *house, tr *truth) {
			tr.signup(h, "lena", true)
			h.outbox.Flush(ctx)
			h.close()
		},
	},
	{
		name: "checkpoint, and the journal begun anew",
		before: func(t *testing.T, h *house, tr *truth) {
			tr.signup(h, "karl", true)
			tr.signup(h, "lena", true)
		},
		do: func(t *testing.T, f *crashfs.FS, h *house, tr *truth) {
			h.outbox.Flush(ctx)
			checkpoint(t, f)
			tr.signup(h, "mary", true)
			tr.act(h, "activate", "karl", tr.tokenOf(h, "karl"))
			checkpoint(t, f)
			tr.signup(h, "nora", true)
		},
		sees: func(journal []crashfs.Op) bool { return count(journal, crashfs.Sync, database) == 2 },
	},
	{
		name:   "backup",
		before: func(t *testing.T, h *house, tr *truth) { tr.signup(h, "karl", true) },
		do: func(t *testing.T, _ *crashfs.FS, h *house, tr *truth) {
			tr.signup(h, "lena", true)
			tr.act(h, "backup", "", "")
			tr.signup(h, "mary", true)
		},
		sees: func(journal []crashfs.Op) bool {
			return slices.ContainsFunc(journal, func(op crashfs.Op) bool { return op.Kind == crashfs.Link && op.To == copied })
		},
	},
	{
		name: "publishing fails and the account is taken back",
		do: func(t *testing.T, f *crashfs.FS, h *house, tr *truth) {
			heal := f.Fail(crashfs.Fault{Err: eio, Only: func(op crashfs.Op) bool { return op.Kind == crashfs.Rename }})
			d := tr.signup(h, "karl", true)
			if heal() && d.err == nil {
				t.Error("the signup was answered though its message could not be published")
			}
			h.outbox.Flush(ctx)
			tr.signup(h, "lena", true)
		},
	},
}

const eio = syscall.EIO

// mayOpen starts a house, which may fail where the disk does.
func mayOpen(t *testing.T, f *crashfs.FS) *house {
	h, _, err := open(f, clock)
	if err != nil {
		return nil
	}
	return h
}

func reopen(t *testing.T, f *crashfs.FS, _ *house, _ *truth) {
	if h := mayOpen(t, f); h != nil {
		h.close()
	}
}

// count is how many operations of a kind a file had.
func count(journal []crashfs.Op, kind crashfs.Kind, path string) (n int) {
	for _, op := range journal {
		if op.Kind == kind && op.Path == path {
			n++
		}
	}
	return n
}

// checkpoint moves the journal to the database, as SQLite does by itself when the journal has a thousand pages.
func checkpoint(t *testing.T, f *crashfs.FS) {
	db, err := sql.Open("sqlite", "file:"+database+"?vfs="+f.VFS())
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.Exec("PRAGMA wal_checkpoint")
}

// group makes signups that come while the disk is busy, so that one transaction takes them all.
func group(f *crashfs.FS, h *house, tr *truth, users ...string) {
	hold := make(chan struct{})
	var once sync.Once
	f.Before = func(op crashfs.Op) {
		if op.Kind == crashfs.Sync {
			once.Do(func() { <-hold })
		}
	}
	var all sync.WaitGroup
	all.Go(func() { h.store.Revoke(ctx, 1, [16]byte{1}, noon.Add(time.Hour)) })
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

// prepare is the disk that a scenario begins with, all durable, and what was asked and answered before.
func (sc scenario) prepare(t *testing.T) (*crashfs.FS, *truth) {
	f, tr := crashfs.New(), &truth{}
	if err := f.MakeDir("/data"); err != nil {
		t.Fatal(err)
	}
	if sc.empty {
		return f.Clone(), tr
	}
	h, tended, err := open(f, clock)
	if err := errors.Join(err, tended); err != nil {
		t.Fatal(err)
	}
	if sc.before != nil {
		sc.before(t, h, tr)
	}
	tr.tokens = make(map[string]string)
	for _, d := range tr.deeds {
		tr.tokens[d.user] = tr.tokenOf(h, d.user)
	}
	after := f.Clone()
	if sc.crash != nil {
		after = f.Crash(*sc.crash)
	}
	h.close()
	f.Close()
	return after, tr
}

// chances is how many power cuts by chance every moment has.
const chances = 10

// TestEveryPoint stops each scenario before and after each of its operations, in every variant, starts the program on what
// is left, and holds it to its promise.
func TestEveryPoint(t *testing.T) {
	for _, sc := range scenarios {
		t.Run(sc.name, func(t *testing.T) {
			t.Parallel()
			f, tr := sc.record(t)
			if sc.sees != nil && !sc.sees(f.Journal()) {
				t.Errorf("this is another scenario:\n%s", history(f.Journal(), f.Now()))
			}
			p := points{seen: make(map[string]bool)}
			f.Moments(func(at int, then *crashfs.FS) bool {
				p.moments++
				err := p.everyCut(then, tr.at(at), uint64(at))
				if err != nil {
					t.Errorf("stopped at %d: %v\n%s", at, err, history(f.Journal(), at))
				}
				return err == nil
			})
			t.Logf("%d moments, %d points, %d different disks", p.moments, p.points, len(p.seen))
		})
	}
}

// record runs a scenario once, to its end.
func (sc scenario) record(t *testing.T) (f *crashfs.FS, tr *truth) {
	synctest.Test(t, func(t *testing.T) {
		f, tr = sc.prepare(t)
		h := sc.run(t, f, tr, nil)
		f.Crash(crashfs.Killed) // so that the end of the test is not in the journal
		h.close()
	})
	return f, tr
}

// run does a scenario on a prepared disk. ready, where it is there, is called when the recorded part begins.
func (sc scenario) run(t *testing.T, f *crashfs.FS, tr *truth, ready func()) *house {
	var h *house
	if !sc.starts {
		var tended, err error
		if h, tended, err = open(f, clock); err != nil || tended != nil {
			t.Fatal(err, tended)
		}
	}
	f.Record()
	if ready != nil {
		ready()
	}
	sc.do(t, f, h, tr)
	return h
}

// points counts, and knows what was looked at already.
type points struct {
	moments, points int
	seen            map[string]bool
}

// cuts are the stops that do not depend on the last write.
func cuts(seed, chances uint64) []crashfs.Variant {
	variants := append([]crashfs.Variant{crashfs.Killed}, crashfs.Cuts...)
	for i := range chances {
		variants = append(variants, crashfs.Chance(seed*chances+i))
	}
	return variants
}

// everyCut looks at what every variant of a stop leaves of a disk.
func (p *points) everyCut(f *crashfs.FS, tr *truth, seed uint64) error {
	variants := cuts(seed, chances)
	for _, n := range f.Torn() {
		variants = append(variants, crashfs.Variant{Name: fmt.Sprintf("of the last write %d bytes are there", n), Torn: n},
			crashfs.Variant{Name: fmt.Sprintf("of the last write %d bytes are there, and no unsynced name", n), Torn: n, Entries: crashfs.None})
	}
	return p.cut(f, tr, variants)
}

func (p *points) cut(f *crashfs.FS, tr *truth, variants []crashfs.Variant) error {
	for _, v := range variants {
		p.points++
		after := f.Crash(v)
		image := after.Image()
		key := string(image[:]) + tr.key()
		if p.seen[key] {
			continue
		}
		p.seen[key] = true
		if err := keeps(after, tr); err != nil {
			return fmt.Errorf("%s: %w", v.Name, err)
		}
	}
	return nil
}

// keeps starts the program on a disk and says where it breaks its promise.
func keeps(f *crashfs.FS, tr *truth) error {
	h, tended, err := open(f, clock)
	if err != nil {
		return fmt.Errorf("it does not start: %w", err)
	}
	err = errors.Join(tended, h.promise(tr, false))
	if err == nil {
		err = h.use(tr)
	}
	return errors.Join(err, h.close(), f.Close())
}

// history is what happened up to a moment.
func history(journal []crashfs.Op, at int) string {
	var b strings.Builder
	for i, op := range journal[:at] {
		if i >= at-60 || op.Err != nil || op.Kind == crashfs.Mark {
			fmt.Fprintf(&b, "%5d %v\n", i, op)
		}
	}
	return b.String()
}
