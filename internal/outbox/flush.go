package outbox

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"dialtone/internal/audit"
	"dialtone/internal/mailmsg"
)

// Flush undoes transactions, writes messages that may be lost, syncs the directory, and removes
// the entries of the messages that are on disk. It must be called about once a second, and once
// more before the program ends. The next call retries failed work.
func (o *Outbox) Flush(ctx context.Context) error {
	w := o.take()
	undone := o.undo(ctx, w.undo)
	replaced, unsure, checked := o.check(ctx, w)
	published, failed := o.writeNew(w.write)
	written := o.write(ctx, append(w.published, published...), append(w.rewrite, replaced...), unsure)
	return errors.Join(undone, checked, failed, written)
}

func (o *Outbox) undo(ctx context.Context, list []func(context.Context) error) error {
	for i, undo := range list {
		if err := undo(ctx); err != nil {
			o.add(work{undo: list[i:]})
			return fmt.Errorf("undo a transaction without a message: %w", err)
		}
	}
	return nil
}

// check looks up the entries of doubtful and unpublished messages. The next Flush writes those
// that are still valid. check returns the entries to withdraw, because a newer message of the
// account was published, and the messages whose state is still unknown.
func (o *Outbox) check(ctx context.Context, w work) (replaced []Entry, unsure []Ref, err error) {
	if len(w.doubtful) == 0 && len(w.unpublished) == 0 {
		return nil, nil, nil
	}
	entries, err := o.deps.Store.Pending(ctx)
	if err != nil {
		o.add(work{doubtful: w.doubtful, unpublished: w.unpublished})
		return nil, slices.Concat(w.doubtful, w.unpublished), fmt.Errorf("read the outbox: %w", err)
	}
	var next work
	for _, e := range entries {
		doubtful := slices.Contains(w.doubtful, e.Ref)
		switch {
		case !doubtful && !slices.Contains(w.unpublished, e.Ref):
		case !e.Replaced && doubtful:
			next.rewrite = append(next.rewrite, e)
		case !e.Replaced:
			next.write = append(next.write, e)
		case hasAccount(w.published, e.Account):
			replaced = append(replaced, e)
		case doubtful: // the newer message may still be undone
			next.doubtful = append(next.doubtful, e.Ref)
		default:
			next.unpublished = append(next.unpublished, e.Ref)
		}
	}
	o.add(next)
	return replaced, slices.Concat(next.doubtful, next.unpublished), nil
}

func hasAccount(list []Ref, uid [16]byte) bool {
	return slices.ContainsFunc(list, func(r Ref) bool { return r.Account == uid })
}

// writeNew writes the messages of entries, and returns those that can be acknowledged after a sync.
func (o *Outbox) writeNew(list []Entry) (published []Ref, err error) {
	var failed []error
	for _, e := range list {
		if _, err := o.publish(e); errors.Is(err, mailmsg.ErrKind) {
			o.leave(e)
		} else if err != nil {
			failed = append(failed, fmt.Errorf("write a message: %w", err))
			o.Write(e)
		} else {
			published = append(published, e.Ref)
		}
	}
	return published, errors.Join(failed...)
}

// leave skips an entry of a kind that only a later version of the program knows. The next start reads it again.
func (o *Outbox) leave(e Entry) {
	o.mu.Lock()
	_, logged := o.left[e.Message]
	o.left[e.Message] = struct{}{}
	o.mu.Unlock()
	if !logged {
		o.deps.Log.Error("message not written; start a version of the program that knows its kind",
			"message", e.Message.String(), "kind", string(e.Kind), "user", e.User)
	}
}

// write rewrites messages, and makes them and the published ones durable.
func (o *Outbox) write(ctx context.Context, published []Ref, rewrite []Entry, unsure []Ref) error {
	var failed []error
	for _, e := range rewrite {
		err := o.rewrite(ctx, e)
		if errors.Is(err, mailmsg.ErrKind) {
			o.leave(e)
			continue
		}
		if err != nil {
			failed = append(failed, fmt.Errorf("write a message again: %w", err))
			o.add(work{rewrite: []Entry{e}})
			unsure = append(unsure, e.Ref)
			continue
		}
		published = append(published, e.Ref)
	}
	// Acknowledging a message also removes the entries of the account's older messages, so it
	// must wait until their state is known.
	var now, later []Ref
	for _, r := range published {
		if hasAccount(unsure, r.Account) {
			later = append(later, r)
		} else {
			now = append(now, r)
		}
	}
	o.add(work{published: later})
	return errors.Join(append(failed, o.sync(ctx, now))...)
}

// sync makes published messages durable and then removes their entries.
func (o *Outbox) sync(ctx context.Context, published []Ref) error {
	if len(published) == 0 {
		return nil
	}
	if err := o.deps.Pickup.Sync(); err != nil {
		o.doubt(published)
		return fmt.Errorf("sync the pickup directory: %w", err)
	}
	if left, err := o.ack(ctx, published); err != nil {
		o.add(work{published: left})
		return fmt.Errorf("acknowledge messages: %w", err)
	}
	return nil
}

// doubt makes the next Flush write these messages again after a failed sync, and all others that were
// published before the sync ended.
func (o *Outbox) doubt(published []Ref) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.failures++
	o.todo.doubtful = slices.Concat(o.todo.doubtful, published, o.todo.published)
	o.todo.published = nil
}

func (o *Outbox) ack(ctx context.Context, sent []Ref) (left []Ref, err error) {
	if o.deps.Relayed {
		return o.deps.Store.Enqueue(ctx, sent, o.deps.Now())
	}
	return o.deps.Store.Ack(ctx, sent, o.deps.Now())
}

// rewrite publishes the message of an entry again.
func (o *Outbox) rewrite(ctx context.Context, e Entry) error {
	ok, err := o.publish(e)
	if err != nil || !ok {
		return err
	}
	event := audit.Event{
		Action: audit.Republish, Outcome: "ok", User: e.User, Email: audit.MaskEmail(e.Email),
	}
	if t, ok := o.deps.Tenant(e.Tenant); ok {
		event.Tenant = t.Host
	}
	o.deps.Audit.Record(ctx, event)
	return nil
}

// publish writes and publishes the message of an entry, and reports whether it did. A replaced
// message is withdrawn instead, since part of it may have been written. Nothing is written if
// the tenant was removed in the meantime.
func (o *Outbox) publish(e Entry) (bool, error) {
	if e.Replaced {
		return false, o.deps.Pickup.Withdraw(e.Message)
	}
	t, ok := o.deps.Tenant(e.Tenant)
	if !ok {
		return false, nil
	}
	token, err := open(o.tokens, e)
	if err != nil {
		return false, fmt.Errorf("message %s to %s of %s: %w", e.Message, e.User, t.Host, err)
	}
	staged, err := o.Stage(t, e, token)
	if err != nil {
		return false, err
	}
	return true, staged.Publish()
}
