package session

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strconv"
	"sync"
	"time"
	"unique"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/outage"
	"dialtone/internal/recorder"
	"dialtone/internal/stats"
	"dialtone/internal/tenant"
)

// Record is what the store keeps about a session: enough for a person to recognize it.
type Record struct {
	ID      [16]byte // of the ticket
	Account account.UID
	Epoch   int64
	Began   time.Time
	// Seen is when the session was last used. The last use can be up to seenInterval later.
	Seen time.Time
	// Net is the prefix of the address that last used it, as in the audit log. Browser is a
	// label returned by BrowserOf.
	Net, Browser string
	// How is how the person signed in. It is set when the session begins and never changes.
	How How
	// First means that the person had not signed in before, as far as the store knew.
	First bool
	// New is set in the first record of a session that began without a device token of the account.
	New *NewBrowser
}

// How is how a person signed in. Its values are stored.
type How string

const (
	// ByPassword means the password alone.
	ByPassword How = ""
	// ByCode means the password and a code of an authenticator app, or a recovery code.
	ByCode How = "code"
	// ByPasskey means a passkey.
	ByPasskey How = "passkey"
)

// Ends returns when the session ends unless it is used before.
func (r Record) Ends() time.Time {
	idle, absolute := r.Seen.Add(Idle), r.Began.Add(Life)
	if absolute.Before(idle) {
		return absolute
	}
	return idle
}

const (
	// seenInterval is the minimum interval between two recorded uses of a session.
	seenInterval = 5 * time.Minute
	// maxNewBrowsers is how many records with New can wait, at about 200 bytes each: after a
	// restart, all users of a large platform may sign in with a program that keeps no cookies.
	maxNewBrowsers = 65536
)

var errTooMany = errors.New("more sessions than can be written; some are not listed until they are used again")

// uses records when sessions begin and, at long intervals, when they are used.
type uses struct {
	records *recorder.Recorder[[16]byte, Record] // about 200 bytes each
	// newBrowsers contains the sign-ins that get a record with New. A flood of other records cannot displace them.
	newBrowsers *recorder.Recorder[[16]byte, *signIn]

	store   Store
	notices Notices // may be nil
	audit   audit.Log
	now     func() time.Time

	// browsers contains the accounts, browsers and networks for which a sign-in without a device token was
	// recorded.
	browsers *recorder.Recent
	// firsts contains the accounts whose first sign-in was counted.
	firsts *recorder.Recent
	counts *stats.Counter
	// recent contains the sessions whose use was recorded.
	recent *recorder.Recent
}

func newUses(d Deps) *uses {
	u := &uses{
		browsers: recorder.NewRecent(newInterval), recent: recorder.NewRecent(seenInterval),
		firsts: recorder.NewRecent(newInterval), counts: d.Counts,
		store: d.Store, notices: d.Notices, audit: d.Audit, now: d.Now,
	}
	u.records = recorder.New(recorder.Deps[[16]byte, Record]{
		Key: func(s Record) [16]byte { return s.ID },
		// The way the session began never changes.
		Merge: func(earlier, later Record) Record {
			later.How, later.First = earlier.How, earlier.First || later.First
			return later
		},
		Write:  u.write,
		Failed: failed(d), Dropped: dropped(d), TooMany: errTooMany,
	})
	u.newBrowsers = recorder.New(recorder.Deps[[16]byte, *signIn]{
		Key:    func(s *signIn) [16]byte { return s.id },
		Write:  u.writeSignIns,
		Failed: failed(d), Dropped: dropped(d), TooMany: errTooMany,
		Waiting: maxNewBrowsers,
	})
	return u
}

// countFirst counts the first sign-in of an account. It counts it once, even if more sign-ins
// follow before the first is written.
func (u *uses) countFirst(t *tenant.Tenant, r Record) {
	if key := u.firsts.Key(r.Account); !u.firsts.Has(key, r.Seen) {
		u.firsts.Add(key, r.Seen)
		u.counts.Add(t.ID, stats.FirstSignIn)
	}
}

func failed(d Deps) *outage.Log {
	return outage.New(d.Log, "sessions not recorded", "sessions recorded again", d.Now)
}

func dropped(d Deps) *outage.Log {
	return outage.New(d.Log, "sessions dropped", "sessions no longer dropped", d.Now)
}

// how returns how a session began if its record is waiting.
func (u *uses) how(id [16]byte) (How, bool) {
	if s, ok := u.newBrowsers.Waiting(id); ok {
		return s.how, true
	}
	r, ok := u.records.Waiting(id)
	return r.How, ok
}

// run writes records until ctx is done, and then the remaining ones.
func (u *uses) run(ctx context.Context) {
	var wg sync.WaitGroup
	wg.Go(func() { u.newBrowsers.Run(ctx) })
	u.records.Run(ctx)
	wg.Wait()
}

// flush writes all waiting records.
func (u *uses) flush(ctx context.Context) error {
	return errors.Join(u.newBrowsers.Flush(ctx), u.records.Flush(ctx))
}

// write writes records and the notices that they cause.
func (u *uses) write(ctx context.Context, list []Record) error {
	// All servers write records in the same order, so that transactions cannot deadlock.
	slices.SortFunc(list, func(a, b Record) int {
		return cmp.Or(slices.Compare(a.Account[:], b.Account[:]), slices.Compare(a.ID[:], b.ID[:]))
	})
	u.makeNotices(list)
	added, err := u.store.RecordSessions(ctx, list)
	u.writeNotices(ctx, list, added, err)
	return err
}

// due reports whether a use of a session must be recorded. seen is the last use that the store has recorded.
func (u *uses) due(id [16]byte, seen time.Time) bool {
	now := u.now()
	return now.Sub(seen) >= seenInterval && !u.recent.Has(u.recent.Key(id), now)
}

// add queues a record to be written soon. It does not block, and drops the record if too many are waiting.
func (u *uses) add(ctx context.Context, s Record) {
	if u.records.Add(ctx, s) {
		u.recent.Add(u.recent.Key(s.ID), s.Seen)
	}
}

// addSignIn is add for the first record of a session that began without a device token. A
// sign-in from a possibly new browser waits in a separate queue, and is written at once if that
// is full: otherwise somebody could prevent the message to the owner by signing in to their own
// accounts very often. If one was recorded within newInterval for the same account, browser and
// network, the record is added to the ordinary queue, so that a program without cookies that
// signs one person in very often does not fill the separate one.
func (u *uses) addSignIn(
	ctx context.Context, t *tenant.Tenant, owner account.Account, from account.Origin, r Record,
) {
	// Every change that makes the store forget an account's browsers also raises Passwords.
	key := u.browsers.Key(r.Account, r.Net, r.Browser, strconv.FormatInt(owner.Passwords, 10))
	if u.browsers.Has(key, r.Seen) {
		u.add(ctx, r)
		return
	}
	s := &signIn{
		id: r.ID, account: r.Account, epoch: r.Epoch, at: r.Seen.UnixNano(), tenant: t, addr: from.Addr,
		request: from.Request, browser: unique.Make(r.Browser), how: r.How, first: r.First,
	}
	if u.newBrowsers.Add(ctx, s) || u.writeSignIns(context.WithoutCancel(ctx), []*signIn{s}) == nil {
		u.browsers.Add(key, r.Seen)
	}
}
