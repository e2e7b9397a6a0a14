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
		signedIn := numbered(-1, time.Now())
		signedIn.New = &NewBrowser{Notice: account.Notice{Kind: mailmsg.NewBrowser}}
		if u.add(t.Context(), signedIn); store.records != 1 {
			t.Errorf("written were %d records, want that of a sign-in with a new browser", store.records)
		}
		store.records = 0
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
	})
}
