package delivery

import (
	"context"
	"errors"
	"time"

	"dialtone/internal/mailmsg"
)

// runTidy calls Tidy at the start and then every tidyInterval.
func (q *Queue) runTidy(ctx context.Context) {
	ticker := time.NewTicker(tidyInterval)
	defer ticker.Stop()
	for {
		if err := q.Tidy(ctx); err != nil {
			q.logError(ctx, "pickup directory check failed", err, "retry_in", tidyInterval.String())
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// Tidy compares the files with the store and repairs what was left behind by a crash or by
// running without a relay. It removes files of messages that were sent or discarded, moves
// those of failed messages to badmail/, and sets unknown messages to Waiting. It removes the
// file of a message whose account no longer exists.
func (q *Queue) Tidy(ctx context.Context) error {
	return errors.Join(
		q.deps.Files.EachPickup(func(files []mailmsg.ID) error { return q.tidyPickup(ctx, files) }),
		q.deps.Files.EachBadmail(func(files []mailmsg.ID) error { return q.tidyBadmail(ctx, files) }),
	)
}

func (q *Queue) tidyPickup(ctx context.Context, files []mailmsg.ID) error {
	known, inOutbox, err := q.deps.Store.Classify(ctx, files)
	if err != nil {
		return err
	}
	unknown := make(map[mailmsg.ID]bool, len(files))
	for _, id := range files {
		unknown[id] = true
	}
	for _, id := range inOutbox {
		delete(unknown, id)
	}
	var errs []error
	for _, d := range known {
		unknown[d.Message] = d.State == Written || d.State.Open() && d.Node != q.deps.Node
		switch d.State {
		case Sent, Discarded:
			errs = append(errs, q.deps.Files.Remove(d.Message))
		case Failed:
			errs = append(errs, q.deps.Files.MoveToBadmail(d.Message, d.Answer))
		}
	}
	var found []FoundFile
	for id, isUnknown := range unknown {
		if !isUnknown {
			continue
		}
		token, err := q.deps.Files.Token(id)
		if errors.Is(err, ErrNoFile) {
			continue
		}
		if err != nil {
			q.deps.Log.WarnContext(ctx, "foreign file in pickup directory ignored",
				"message", id.String(), "err", err)
			continue
		}
		found = append(found, FoundFile{id, q.deps.Store.LinkHash(token)})
	}
	if len(found) == 0 {
		return errors.Join(errs...)
	}
	unclaimed, err := q.deps.Store.ClaimFiles(ctx, found, q.deps.Now())
	if err != nil {
		return err
	}
	for _, id := range unclaimed {
		q.deps.Log.InfoContext(ctx, "message without account removed", "message", id.String())
		errs = append(errs, q.deps.Files.Remove(id))
	}
	return errors.Join(errs...)
}

// tidyBadmail removes files in badmail/ that belong to no account.
func (q *Queue) tidyBadmail(ctx context.Context, files []mailmsg.ID) error {
	known, _, err := q.deps.Store.Classify(ctx, files)
	if err != nil {
		return err
	}
	keep := make(map[mailmsg.ID]bool)
	for _, d := range known {
		keep[d.Message] = d.State == Failed || d.State.Open()
	}
	var errs []error
	for _, id := range files {
		if !keep[id] {
			errs = append(errs, q.deps.Files.Remove(id))
		}
	}
	return errors.Join(errs...)
}
