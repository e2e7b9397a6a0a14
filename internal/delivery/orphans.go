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
	// Classify is Store.Classify.
	Classify(ctx context.Context, messages []mailmsg.ID) (list []Delivery, inOutbox []mailmsg.ID, err error)
	// WithAccount returns the files whose link belongs, or belonged, to an existing account.
	WithAccount(ctx context.Context, found []FoundFile) ([]mailmsg.ID, error)
}

// RemoveOrphans removes message files whose account was deleted, from the pickup directory and from
// badmail/, and returns how many it removed. It works with and without a relay, and while servers run: a
// message is published after its account is committed, so if a file is visible, its account exists or was deleted.
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
		withAccount, err := store.WithAccount(ctx, unknown)
		if err != nil {
			return err
		}
		for _, id := range withAccount {
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
