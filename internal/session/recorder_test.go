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

func numbered(n int, at time.Time) (r Record) {
	binary.BigEndian.PutUint32(r.ID[:], uint32(n))
	r.Began, r.Seen = at, at
	return r
}

// TestUsesBounds adds more records than may wait, and more sessions than are remembered.
func TestUsesBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &recording{}
		u := newUses(Deps{Store: store, Log: slog.New(slog.DiscardHandler), Now: time.Now})
		for i := range recorder.MaxWaiting + 1000 {
			u.add(t.Context(), numbered(i, time.Now()))
		}
		due := func(n int) bool { return u.due(numbered(n, time.Now()).ID, time.Time{}) }
		if !due(recorder.MaxWaiting+1) || due(5) {
			t.Error("a dropped session counts as recorded, or one that waits does not")
		}
		if err := u.records.Flush(t.Context()); err != nil || store.records != recorder.MaxWaiting {
			t.Errorf("written were %d, %v", store.records, err)
		}
		for i := range 3 * maxRecent {
			u.add(t.Context(), numbered(i, time.Now()))
			if i%recorder.MaxBatch == 0 {
				u.records.Flush(t.Context())
			}
		}
		if n := len(u.recent) + len(u.older); n > maxRecent {
			t.Errorf("%d sessions are remembered, want at most %d", n, maxRecent)
		}
		store.records = 0
		for i := range maxNewBrowsers + 1 {
			signedIn := numbered(-1-i, time.Now())
			signedIn.New = &NewBrowser{Notice: account.Notice{Kind: mailmsg.NewBrowser}}
			u.add(t.Context(), signedIn)
		}
		if store.records != 1 {
			t.Errorf("written at once were %d sign-ins with a new browser, want 1", store.records)
		}
		if err := u.newBrowsers.Flush(t.Context()); err != nil || store.records != maxNewBrowsers+1 {
			t.Errorf("written were %d sign-ins with a new browser, %v", store.records, err)
		}
	})
}

// TestNewBrowserSeldom checks that one browser is recorded as what may be a new one once in newInterval, or
// until the account's browsers are forgotten.
func TestNewBrowserSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newUses(Deps{Store: &recording{}, Log: slog.New(slog.DiscardHandler), Now: time.Now})
		owner := account.Account{UID: account.NewUID(time.Now())}
		signsIn := func(owner account.Account, agent string) bool {
			s := numbered(1, time.Now())
			s.Browser = BrowserOf(agent)
			s.New = u.newBrowser(nil, owner, account.Origin{}, s)
			u.add(t.Context(), s)
			return s.New != nil
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
