package account

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"dialtone/internal/audit"
	"dialtone/internal/secret"
)

// outbox remembers what is to be done about messages besides answering.
type outbox struct {
	mu   sync.Mutex
	todo chores
}

type chores struct {
	// settle are published messages, whose rows go when the files are on the disk.
	settle []OutboxRef
	// doubtful are messages of which nothing is known: their sync failed, or they were not published and their account could not
	// be taken back, since it has an owner by now. After a sync that failed the kernel may have dropped what it could not write,
	// and a second sync would not say so. So where the row is still there, they are written again, never synced again.
	doubtful []OutboxRef
	// again are rows whose messages are to be written again.
	again []OutboxEntry
	// undo are accounts to take back whose undoing failed.
	undo []Signup
	// undoResend are new links to take back whose undoing failed.
	undoResend []LinkReplacement
}

func (o *outbox) published(s OutboxRef) {
	o.mu.Lock()
	o.todo.settle = append(o.todo.settle, s)
	o.mu.Unlock()
}

func (o *outbox) take() chores {
	o.mu.Lock()
	defer o.mu.Unlock()
	c := o.todo
	o.todo = chores{}
	return c
}

func (o *outbox) add(c chores) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.todo.settle = append(o.todo.settle, c.settle...)
	o.todo.doubtful = append(o.todo.doubtful, c.doubtful...)
	o.todo.again = append(o.todo.again, c.again...)
	o.todo.undo = append(o.todo.undo, c.undo...)
	o.todo.undoResend = append(o.todo.undoResend, c.undoResend...)
}

// undo takes an account back whose message could not be published. Where the store fails too, Tend tries again.
// It returns ErrUnknown if the store has failed in such a way that the account may stay.
func (d *Service) undo(ctx context.Context, ad Signup) error {
	err := d.Store.Undo(ctx, ad, d.Now())
	d.recordUndo(ctx, audit.Undo, ad.Account, err)
	if err != nil {
		d.Log.ErrorContext(ctx, "an account whose message failed could not be taken back yet", "err", err)
		d.outbox.add(chores{undo: []Signup{ad}})
		return inDoubt(err)
	}
	d.outbox.add(chores{doubtful: []OutboxRef{ad.sent()}})
	return nil
}

// inDoubt returns err if it is ErrUnknown, and nil otherwise.
func inDoubt(err error) error {
	if errors.Is(err, ErrUnknown) {
		return err
	}
	return nil
}

func (ad Signup) sent() OutboxRef { return OutboxRef{ad.Account.Tenant, ad.Account.UID, ad.Message} }

func (d *Service) recordUndo(ctx context.Context, action audit.Action, a Account, err error) {
	e := audit.Event{Action: action, Outcome: outcome(err), User: a.User}
	if t, ok := d.Tenant(a.Tenant); ok {
		e.Tenant = t.Host
	}
	d.Audit.Record(ctx, e)
}

// Recover finds what a crash left over: every outbox row in the store stands for a message that may be missing. It is
// called once, before the first signup; Tend then writes the messages again.
func (d *Service) Recover(ctx context.Context) error {
	waiting, err := d.Store.PendingMessages(ctx)
	if err != nil {
		return fmt.Errorf("read the outbox: %w", err)
	}
	d.outbox.add(chores{again: waiting})
	return nil
}

// Adopt lets the other nodes know that this one lives, and has Tend write the messages of nodes that have died. The same message
// has the same name and Message-ID wherever it is written. It is called about every ten seconds.
func (d *Service) Adopt(ctx context.Context) error {
	adopted, err := d.Store.TakeOver(ctx)
	if len(adopted) > 0 {
		d.Log.InfoContext(ctx, "took over the messages of a node that has died", "messages", len(adopted))
		d.outbox.add(chores{again: adopted})
	}
	return err
}

// Tend does what is to be done about messages: it writes those again that a crash swallowed, makes files durable, and
// removes the outbox rows of those that are. It is called about once a second, and once more at the end. What it fails
// at it tries again at the next call. It must not be called concurrently.
func (d *Service) Flush(ctx context.Context) error {
	todo := d.outbox.take()
	undone, takenBack := d.tendUndone(ctx, todo.undo), d.tendTakenBack(ctx, todo.undoResend)
	replaced, unsure, doubtful := d.tendDoubtful(ctx, todo.doubtful, todo.settle)
	return errors.Join(undone, takenBack, doubtful, d.tendMessages(ctx, todo.settle, append(todo.again, replaced...), unsure))
}

func (d *Service) tendUndone(ctx context.Context, undo []Signup) error {
	for i, ad := range undo {
		err := d.Store.Undo(ctx, ad, d.Now())
		d.recordUndo(ctx, audit.Undo, ad.Account, err)
		if err != nil {
			d.outbox.add(chores{undo: undo[i:]})
			return fmt.Errorf("take back an account whose message failed: %w", err)
		}
		d.outbox.add(chores{doubtful: []OutboxRef{ad.sent()}})
	}
	return nil
}

func (d *Service) tendTakenBack(ctx context.Context, undo []LinkReplacement) error {
	for i, r := range undo {
		if err := d.takeBack(ctx, r); err != nil {
			d.outbox.add(chores{undoResend: undo[i:]})
			return fmt.Errorf("take back a link whose message failed: %w", err)
		}
	}
	return nil
}

// tendDoubtful looks at messages whose sync failed. It gives those that are to be withdrawn, since a newer one was published, and all
// that nothing is known of yet.
func (d *Service) tendDoubtful(ctx context.Context, doubtful, published []OutboxRef) (replaced []OutboxEntry, unsure []OutboxRef, err error) {
	if len(doubtful) == 0 {
		return nil, nil, nil
	}
	waiting, err := d.Store.PendingMessages(ctx)
	if err != nil {
		d.outbox.add(chores{doubtful: doubtful})
		return nil, doubtful, fmt.Errorf("read the outbox: %w", err)
	}
	var todo chores
	for _, w := range waiting {
		switch {
		case !slices.Contains(doubtful, w.sent()):
		case !w.Replaced:
			todo.again = append(todo.again, w)
		case slices.ContainsFunc(published, func(s OutboxRef) bool { return s.Account == w.Account.UID }):
			replaced = append(replaced, w)
		default: // the newer one may be undone yet
			todo.doubtful = append(todo.doubtful, w.sent())
		}
	}
	d.outbox.add(todo)
	return replaced, todo.doubtful, nil
}

func (d *Service) tendMessages(ctx context.Context, settle []OutboxRef, again []OutboxEntry, unsure []OutboxRef) error {
	var failed []error
	for _, w := range again {
		if err := d.writeAgain(ctx, w); err != nil {
			// The others do not wait for it.
			failed = append(failed, fmt.Errorf("write a message again: %w", err))
			d.outbox.add(chores{again: []OutboxEntry{w}})
			unsure = append(unsure, w.sent())
			continue
		}
		settle = append(settle, w.sent())
	}
	// Settling a message takes the rows of older ones of its account along. So it waits for these.
	var now, later []OutboxRef
	for _, s := range settle {
		if slices.ContainsFunc(unsure, func(u OutboxRef) bool { return u.Account == s.Account }) {
			later = append(later, s)
		} else {
			now = append(now, s)
		}
	}
	d.outbox.add(chores{settle: later})
	return errors.Join(append(failed, d.settle(ctx, now))...)
}

// settle makes messages durable that were published, and then removes their rows.
func (d *Service) settle(ctx context.Context, settle []OutboxRef) error {
	if len(settle) == 0 {
		return nil
	}
	if err := d.Mailbox.Sync(); err != nil {
		d.outbox.add(chores{doubtful: settle})
		return fmt.Errorf("sync the pickup directory: %w", err)
	}
	if left, err := d.release(ctx, settle); err != nil {
		d.outbox.add(chores{settle: left})
		return fmt.Errorf("settle the outbox: %w", err)
	}
	return nil
}

// release removes the rows of messages whose files are on the disk, and hands these to the relay where there is one.
func (d *Service) release(ctx context.Context, settle []OutboxRef) (left []OutboxRef, err error) {
	if d.Relayed {
		return d.Store.Enqueue(ctx, settle, d.Now())
	}
	return d.Store.Ack(ctx, settle)
}

func (w OutboxEntry) sent() OutboxRef { return OutboxRef{w.Account.Tenant, w.Account.UID, w.Message} }

// writeAgain publishes the message of an outbox row, the same bytes under the same name. One whose link is worth nothing any more is
// withdrawn: half of it may be there.
func (d *Service) writeAgain(ctx context.Context, w OutboxEntry) error {
	if w.Replaced {
		return d.Mailbox.Withdraw(w.Message)
	}
	t, ok := d.Tenant(w.Account.Tenant)
	if !ok {
		// The tenant was removed meanwhile, with its accounts: nobody waits for this message.
		return nil
	}
	token, err := d.tokens.Open(w.Account.Tenant, w.Message[:], w.SealedToken)
	if err != nil || len(token) != len(secret.Token{}) {
		return fmt.Errorf("message %s: %w", w.Message, secret.ErrSeal)
	}
	draft, err := d.stage(t, w.Account, w.Message, secret.Token(token), w.Made)
	if err != nil {
		return err
	}
	if err := draft.Publish(); err != nil {
		return err
	}
	d.Audit.Record(ctx, audit.Event{
		Action: audit.Republish, Outcome: "ok", Tenant: t.Host, User: w.Account.User, Email: MaskEmail(w.Account.Email),
	})
	return nil
}
