package session

import (
	"context"
	"encoding/binary"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/mailmsg"
	"dialtone/internal/recorder"
	"dialtone/internal/tenant"
)

// recording is a Store that counts the records of writes.
type recording struct {
	Store
	records int
}

func (s *recording) RecordSessions(_ context.Context, list []Record) ([]Noticed, error) {
	s.records += len(list)
	return nil, nil
}

// silent makes notices without content.
type silent struct{ Notices }

func (silent) NewBrowserNotice(int64, string, string, time.Time) (n account.Notice) {
	n.Kind = mailmsg.NewBrowser
	return n
}

// numbered returns the record of the nth session, of the nth account.
func numbered(n int, at time.Time) (r Record) {
	binary.BigEndian.PutUint32(r.ID[:], uint32(n))
	r.Account = account.UID(r.ID)
	r.Began, r.Seen = at, at
	return r
}

// TestUsesBounds adds more records than can wait.
func TestUsesBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &recording{}
		u := newUses(Deps{Store: store, Notices: silent{}, Log: slog.New(slog.DiscardHandler), Now: time.Now})
		for i := range recorder.MaxWaiting + 1000 {
			u.add(t.Context(), numbered(i, time.Now()))
		}
		due := func(n int) bool { return u.due(numbered(n, time.Now()).ID, time.Time{}) }
		if !due(recorder.MaxWaiting+1) || due(5) {
			t.Error("a dropped session counts as recorded, or one that waits does not")
		}
		if err := u.records.Flush(t.Context()); err != nil || store.records != recorder.MaxWaiting {
			t.Errorf("wrote %d, %v", store.records, err)
		}
		store.records = 0
		for i := range maxNewBrowsers + 1 {
			u.addSignIn(t.Context(), &tenant.Tenant{}, account.Account{}, account.Origin{}, numbered(-1-i, time.Now()))
		}
		if store.records != 1 {
			t.Errorf("%d sign-ins with a new browser were written immediately, want 1", store.records)
		}
		last := numbered(-1-maxNewBrowsers, time.Now())
		u.addSignIn(t.Context(), &tenant.Tenant{}, account.Account{}, account.Origin{}, last)
		if store.records != 1 {
			t.Error("a sign-in that was written at once is written again")
		}
		if err := u.newBrowsers.Flush(t.Context()); err != nil || store.records != maxNewBrowsers+1 {
			t.Errorf("wrote %d sign-ins with a new browser, %v", store.records, err)
		}
	})
}

// TestNewBrowserSeldom checks that a browser is recorded as possibly new only once in
// newInterval, unless the account's browsers are forgotten.
func TestNewBrowserSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newUses(Deps{Store: &recording{}, Log: slog.New(slog.DiscardHandler), Now: time.Now})
		owner := account.Account{UID: account.NewUID(time.Now())}
		sessions := 0
		signsIn := func(owner account.Account, agent string) bool {
			sessions++
			s := numbered(sessions, time.Now())
			s.Account, s.Browser = owner.UID, BrowserOf(agent)
			u.addSignIn(t.Context(), nil, owner, account.Origin{}, s)
			_, waits := u.newBrowsers.Waiting(s.ID)
			return waits
		}
		const firefox = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"
		changed := owner
		changed.Passwords++
		for i, c := range []struct {
			owner account.Account
			agent string
			want  bool
		}{
			{owner, "", true}, {owner, "", false}, {owner, firefox, true}, {owner, firefox, false},
			{changed, "", true}, {changed, "", false}, {account.Account{}, "", true},
		} {
			if got := signsIn(c.owner, c.agent); got != c.want {
				t.Errorf("sign-in %d: %t", i, got)
			}
		}
		time.Sleep(newInterval)
		if !signsIn(owner, "") {
			t.Error("it is not recorded again")
		}
	})
}
