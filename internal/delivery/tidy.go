package delivery

import (
	"context"
	"errors"
	"time"

	"dialtone/internal/mailmsg"
)

// keepTidy calls Tidy at the start, and then from time to time.
func (q *Queue) keepTidy(ctx context.Context) {
	ticker := time.NewTicker(tidyEvery)
	defer ticker.Stop()
	for {
		if err := q.Tidy(ctx); err != nil {
			q.complain(ctx, "the pickup directory could not be compared with the store; it is tried again in an hour", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// Tidy compares the files with the store, and mends what a crash left, or a time without a relay: files of messages that were sent or
// discarded go, those of messages that failed are moved, those that nobody knows wait to be sent from now on. Where the account is gone
// that a message is for, the file goes too.
func (q *Queue) Tidy(ctx context.Context) error {
	return errors.Join(
		q.Box.Files(func(files []mailmsg.ID) error { return q.tidy(ctx, files) }),
		q.Box.Condemned(func(files []mailmsg.ID) error { return q.tidyCondemned(ctx, files) }),
	)
}

func (q *Queue) tidy(ctx context.Context, files []mailmsg.ID) error {
	known, unsettled, err := q.Store.Look(ctx, files)
	if err != nil {
		return err
	}
	unknown := make(map[mailmsg.ID]bool, len(files))
	for _, id := range files {
		unknown[id] = true
	}
	for _, id := range unsettled {
		delete(unknown, id)
	}
	var failed []error
	for _, d := range known {
		unknown[d.Message] = d.State.Open() && d.Node != q.Node
		switch d.State {
		case Sent, Discarded:
			failed = append(failed, q.Box.Remove(d.Message))
		case Failed:
			failed = append(failed, q.Box.Condemn(d.Message, d.Answer))
		}
	}
	var found []Found
	for id, is := range unknown {
		if !is {
			continue
		}
		link, err := q.Box.Link(id)
		if errors.Is(err, ErrNoFile) {
			continue
		} else if err != nil {
			q.Log.WarnContext(ctx, "a file in the pickup directory is no message of ours; it is left alone", "message", id.String(), "err", err)
			continue
		}
		found = append(found, Found{id, link})
	}
	if len(found) == 0 {
		return errors.Join(failed...)
	}
	strangers, err := q.Store.ClaimFiles(ctx, found, q.Now())
	if err != nil {
		return err
	}
	for _, id := range strangers {
		q.Log.InfoContext(ctx, "a message was removed for which no account waits any more", "message", id.String())
		failed = append(failed, q.Box.Remove(id))
	}
	return errors.Join(failed...)
}

// tidyCondemned removes what lies in badmail/ for no account.
func (q *Queue) tidyCondemned(ctx context.Context, files []mailmsg.ID) error {
	known, _, err := q.Store.Look(ctx, files)
	if err != nil {
		return err
	}
	keep := make(map[mailmsg.ID]bool)
	for _, d := range known {
		keep[d.Message] = d.State == Failed || d.State.Open()
	}
	var failed []error
	for _, id := range files {
		if !keep[id] {
			failed = append(failed, q.Box.Remove(id))
		}
	}
	return errors.Join(failed...)
}
