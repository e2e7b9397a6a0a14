package delivery

import (
	"context"
	"errors"

	"dialtone/internal/mailmsg"
	"dialtone/internal/secret"
)

// OrphanStore is the part of a store that RemoveOrphans needs.
type OrphanStore interface {
	// LinkHash is that of account.LinkHasher.
	LinkHash(secret.Token) [32]byte
	// Classify is that of Store.
	Classify(ctx context.Context, messages []mailmsg.ID) (list []Delivery, inOutbox []mailmsg.ID, err error)
	// WithAccount returns those of the files whose link is, or was, a link of an account.
	WithAccount(ctx context.Context, found []FoundFile) ([]mailmsg.ID, error)
}

// RemoveOrphans removes message files whose account was deleted, from the pickup directory and from
// badmail/, and returns how many. It works with and without a relay, and while servers run: a
// message is published after its account is committed, so the account of a file that can be seen
// exists or is gone.
func RemoveOrphans(ctx context.Context, store OrphanStore, files Files) (removed int, err error) {
	remove := func(found []mailmsg.ID, hash func(mailmsg.ID) ([32]byte, error)) error {
		known, inOutbox, err := store.Classify(ctx, found)
		if err != nil {
			return err
		}
		keep := make(map[mailmsg.ID]bool)
		for _, d := range known {
			keep[d.Message] = true
		}
		for _, id := range inOutbox {
			keep[id] = true
		}
		var unknown []FoundFile
		for _, id := range found {
			if keep[id] {
				continue
			}
			if h, err := hash(id); err == nil {
				unknown = append(unknown, FoundFile{id, h})
			} else if !errors.Is(err, ErrNoFile) {
				keep[id] = true // the file is not ours
			}
		}
		if len(unknown) == 0 {
			return nil
		}
		alive, err := store.WithAccount(ctx, unknown)
		if err != nil {
			return err
		}
		for _, id := range alive {
			keep[id] = true
		}
		var errs []error
		for _, f := range unknown {
			if !keep[f.Message] {
				errs = append(errs, files.Remove(f.Message))
				removed++
			}
		}
		return errors.Join(errs...)
	}
	return removed, errors.Join(
		files.EachPickup(func(found []mailmsg.ID) error {
			return remove(found, func(id mailmsg.ID) ([32]byte, error) {
				token, err := files.Token(id)
				return store.LinkHash(token), err
			})
		}),
		// A message in badmail/ has a delivery for as long as its account exists.
		files.EachBadmail(func(found []mailmsg.ID) error {
			return remove(found, func(mailmsg.ID) ([32]byte, error) { return [32]byte{}, nil })
		}),
	)
}
