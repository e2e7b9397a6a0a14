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
	// writeInterval is how long records are collected for one transaction, and maxWritten how many are
	// in it. The rest waits for the next one, which comes after busyInterval. So writing takes little of
	// the processor time of a server whose sign-ins are as many as it can do.
	writeInterval = 250 * time.Millisecond
	busyInterval  = time.Second
	maxWritten    = 256
	// retryInterval is the time between attempts while the store fails.
	retryInterval = 2 * time.Second
	// maxWaiting is how many records may wait to be written, at about 200 bytes each.
	maxWaiting = 8192
	// maxRecent is how many sessions may be remembered as recorded, at about 60 bytes each.
	maxRecent = 32768
)

var errTooMany = errors.New("more sessions than can be written; some are not listed until they are used again")

// recorder collects records and writes them in the background.
type recorder struct {
	store         Store
	notices       Notices // may be nil
	audit         audit.Log
	now           func() time.Time
	failed, drops *outage.Log
	wake          chan struct{} // of capacity 1; receives when records wait

	mu      sync.Mutex          // guards the fields below
	waiting map[[16]byte]Record // without those that are being written
	order   [][16]byte          // of the records that wait
	// recent and older have when sessions were recorded last. When recent is old enough or full, it
	// becomes older.
	recent, older map[[16]byte]time.Time
	began         time.Time // of recent
}

func newRecorder(d Deps) *recorder {
	store, log, now := d.Store, d.Log, d.Now
	return &recorder{
		store: store, notices: d.Notices, audit: d.Audit, now: now,
		failed:  outage.New(log, "sessions not recorded", "sessions recorded again", now),
		drops:   outage.New(log, "sessions dropped", "sessions no longer dropped", now),
		wake:    make(chan struct{}, 1),
		waiting: make(map[[16]byte]Record),
		recent:  make(map[[16]byte]time.Time),
		began:   now(),
	}
}

// due reports whether a use of a session is to be recorded, where seen is what the store has.
func (r *recorder) due(id [16]byte, seen time.Time) bool {
	now := r.now()
	if now.Sub(seen) < seenInterval {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	last, ok := r.recent[id]
	if !ok {
		last, ok = r.older[id]
	}
	return !ok || now.Sub(last) >= seenInterval || now.Before(last)
}

// add has a record written soon. It does not wait, and drops the record if too many wait.
func (r *recorder) add(ctx context.Context, s Record) {
	if !r.put(s) {
		r.drops.Report(ctx, errTooMany, "waiting", maxWaiting)
		return
	}
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

func (r *recorder) put(s Record) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	first, waits := r.waiting[s.ID]
	switch {
	case waits:
		s = s.after(first)
	case len(r.waiting) >= maxWaiting:
		return false
	default:
		r.order = append(r.order, s.ID)
	}
	r.waiting[s.ID] = s
	if age := s.Seen.Sub(r.began); age >= seenInterval || age < 0 || len(r.recent) >= maxRecent/2 {
		r.older, r.recent, r.began = r.recent, make(map[[16]byte]time.Time), s.Seen
	}
	r.recent[s.ID] = s.Seen
	return true
}

// after returns a record with what an earlier one of the session says about its beginning.
func (r Record) after(earlier Record) Record {
	r.How, r.New = earlier.How, earlier.New
	return r
}

// how returns how a session began whose record waits.
func (r *recorder) how(id [16]byte) (How, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, ok := r.waiting[id]
	return s.How, ok
}

// take takes records that wait, the oldest first.
func (r *recorder) take() (list []Record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := min(len(r.order), maxWritten)
	for _, id := range r.order[:n] {
		list = append(list, r.waiting[id])
		delete(r.waiting, id)
	}
	if r.order = r.order[n:]; len(r.order) == 0 {
		r.order = nil
	}
	return list
}

// putBack has records wait on, unless newer ones do.
func (r *recorder) putBack(list []Record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range list {
		if newer, ok := r.waiting[s.ID]; ok {
			r.waiting[s.ID] = newer.after(s)
		} else if len(r.waiting) < maxWaiting {
			r.waiting[s.ID] = s
			r.order = append(r.order, s.ID)
		}
	}
}

// flush writes records that wait, and returns how many. After a failure they wait on.
func (r *recorder) flush(ctx context.Context) (wrote int, err error) {
	list := r.take()
	if len(list) == 0 {
		return 0, nil
	}
	// All servers write in one order, so that no two transactions wait for each other.
	slices.SortFunc(list, func(a, b Record) int {
		return cmp.Or(slices.Compare(a.Account[:], b.Account[:]), slices.Compare(a.ID[:], b.ID[:]))
	})
	r.makeNotices(list)
	added, err := r.store.RecordSessions(byOwner(ctx), list)
	r.writeNotices(ctx, list, added, err)
	r.failed.Report(ctx, err, "waiting", len(list), "retry_in", retryInterval.String())
	if err != nil {
		r.putBack(list)
		return 0, err
	}
	r.drops.Report(ctx, nil)
	return len(list), nil
}

// run writes records until ctx ends, and then those that are left.
func (r *recorder) run(ctx context.Context) {
	background := context.WithoutCancel(ctx)
	timer := time.NewTimer(0)
	defer timer.Stop()
	wait := r.wake // nil while the timer runs
	for {
		select {
		case <-ctx.Done():
			r.flushAll(background)
			return
		case <-wait:
			wait = nil
			timer.Reset(writeInterval)
		case <-timer.C:
			switch wrote, err := r.flush(background); {
			case err != nil:
				timer.Reset(retryInterval)
			case wrote == maxWritten:
				timer.Reset(busyInterval)
			case wrote > 0:
				timer.Reset(writeInterval)
			default:
				wait = r.wake
			}
		}
	}
}

// flushAll writes all records that wait.
func (r *recorder) flushAll(ctx context.Context) error {
	for {
		if wrote, err := r.flush(ctx); err != nil || wrote == 0 {
			return err
		}
	}
}
