package session

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/outage"
	"dialtone/internal/recorder"
)

// Record is what the store has about a session: enough for a person to recognize it.
type Record struct {
	ID      [16]byte // of the ticket
	Account account.UID
	Epoch   int64
	Began   time.Time
	// Seen is when the session was last used, which may be up to seenInterval earlier than it was.
	Seen time.Time
	// Net is the prefix of the address that used it last, as in the audit log. Browser is a label by
	// BrowserOf.
	Net, Browser string
	// How is how the person signed in. It is known only when the session begins, and not changed later.
	How How
	// New is set in the first record of a session that began without a device token of the account.
	New *NewBrowser
}

// How is how a person signed in. Its values are stored.
type How string

const (
	// ByPassword means by the password alone.
	ByPassword How = ""
	// ByCode means by the password and a code of an authenticator app, or a recovery code.
	ByCode How = "code"
	// ByPasskey means by a passkey.
	ByPasskey How = "passkey"
)

// Ends returns when the session ends unless it is used until then.
func (r Record) Ends() time.Time {
	idle, absolute := r.Seen.Add(Idle), r.Began.Add(Life)
	if absolute.Before(idle) {
		return absolute
	}
	return idle
}

const (
	// seenInterval is how often the use of a session is recorded at most.
	seenInterval = 5 * time.Minute
	// maxNewBrowsers is how many records with New may wait, at about 400 bytes each: after a restart, all people
	// of a large platform may sign in by a program that keeps no cookies.
	maxNewBrowsers = 65536
	// maxRecent is how many sessions may be remembered as recorded, at about 60 bytes each.
	maxRecent = 32768
)

var errTooMany = errors.New("more sessions than can be written; some are not listed until they are used again")

// uses records the uses of sessions, each of them seldom.
type uses struct {
	records *recorder.Recorder[[16]byte, Record] // of about 200 bytes each
	// newBrowsers has the records with New. A flood of other records cannot keep these out.
	newBrowsers *recorder.Recorder[[16]byte, Record]

	store   Store
	notices Notices // may be nil
	audit   audit.Log
	now     func() time.Time

	// browsers has for which accounts, browsers and networks a sign-in without a device token was recorded.
	browsers *recorder.Recent

	mu sync.Mutex // guards the fields below
	// recent and older have when sessions were recorded last. When recent is old enough or full, it
	// becomes older.
	recent, older map[[16]byte]time.Time
	began         time.Time // of recent
}

func newUses(d Deps) *uses {
	u := &uses{
		browsers: recorder.NewRecent(newInterval),
		store:    d.Store, notices: d.Notices, audit: d.Audit, now: d.Now,
		recent: make(map[[16]byte]time.Time),
		began:  d.Now(),
	}
	u.records, u.newBrowsers = u.newRecorder(d, recorder.MaxWaiting), u.newRecorder(d, maxNewBrowsers)
	return u
}

func (u *uses) newRecorder(d Deps, waiting int) *recorder.Recorder[[16]byte, Record] {
	return recorder.New(recorder.Deps[[16]byte, Record]{
		Key: func(s Record) [16]byte { return s.ID },
		// What the first record says about the beginning of the session stays.
		Merge: func(earlier, later Record) Record {
			later.How, later.New = earlier.How, earlier.New
			return later
		},
		Write:   u.write,
		Failed:  outage.New(d.Log, "sessions not recorded", "sessions recorded again", d.Now),
		Dropped: outage.New(d.Log, "sessions dropped", "sessions no longer dropped", d.Now),
		TooMany: errTooMany,
		Waiting: waiting,
	})
}

// waiting returns the record of a session that waits.
func (u *uses) waiting(id [16]byte) (Record, bool) {
	if r, ok := u.newBrowsers.Waiting(id); ok {
		return r, true
	}
	return u.records.Waiting(id)
}

// run writes records until ctx ends, and then those that are left.
func (u *uses) run(ctx context.Context) {
	var others sync.WaitGroup
	others.Go(func() { u.newBrowsers.Run(ctx) })
	u.records.Run(ctx)
	others.Wait()
}

// flush writes all records that wait.
func (u *uses) flush(ctx context.Context) error {
	return errors.Join(u.newBrowsers.Flush(ctx), u.records.Flush(ctx))
}

// write writes records and the notices that they cause.
func (u *uses) write(ctx context.Context, list []Record) error {
	// All servers write in one order, so that no two transactions wait for each other.
	slices.SortFunc(list, func(a, b Record) int {
		return cmp.Or(slices.Compare(a.Account[:], b.Account[:]), slices.Compare(a.ID[:], b.ID[:]))
	})
	u.makeNotices(list)
	added, err := u.store.RecordSessions(byOwner(ctx), list)
	u.writeNotices(ctx, list, added, err)
	return err
}

// due reports whether a use of a session is to be recorded, where seen is what the store has.
func (u *uses) due(id [16]byte, seen time.Time) bool {
	now := u.now()
	if now.Sub(seen) < seenInterval {
		return false
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	last, ok := u.recent[id]
	if !ok {
		last, ok = u.older[id]
	}
	return !ok || now.Sub(last) >= seenInterval || now.Before(last)
}

// add has a record written soon. It does not wait, and drops the record if too many wait. That of a sign-in
// with what may be a new browser waits in a queue of its own, and is written at once if that is full: otherwise
// somebody could prevent the message to the owner by signing in to accounts of their own very often.
func (u *uses) add(ctx context.Context, s Record) {
	if s.New == nil {
		if !u.records.Add(ctx, s) {
			return
		}
	} else {
		if !u.newBrowsers.Add(ctx, s) && u.write(context.WithoutCancel(ctx), []Record{s}) != nil {
			return
		}
		u.browsers.Add(s.New.key, s.New.At)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if age := s.Seen.Sub(u.began); age >= seenInterval || age < 0 || len(u.recent) >= maxRecent/2 {
		u.older, u.recent, u.began = u.recent, make(map[[16]byte]time.Time), s.Seen
	}
	u.recent[s.ID] = s.Seen
}
