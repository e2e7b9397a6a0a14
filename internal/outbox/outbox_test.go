package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/delivery"
	"dialtone/internal/mailmsg"
	"dialtone/internal/outbox"
	"dialtone/internal/secret"
	"dialtone/internal/store"
	"dialtone/internal/tenant"
	"dialtone/internal/test/world"
)

var errBroken = errors.New("broken by the test")

// fixture is a World with a store that a test can make fail.
type fixture struct {
	*world.World
	faults *faultyStore // in front of Store, for the Outbox
}

// faultyStore is a store whose methods fail with the errors in its fields. If ack is set, Ack
// fails after half of its work.
type faultyStore struct {
	*store.Store
	pending, ack, takeOver error
	adopted                []outbox.Entry
}

func (s *faultyStore) Pending(ctx context.Context) ([]outbox.Entry, error) {
	if s.pending != nil {
		return nil, s.pending
	}
	return s.Store.Pending(ctx)
}

func (s *faultyStore) Ack(ctx context.Context, sent []outbox.Ref, now time.Time) ([]outbox.Ref, error) {
	if s.ack != nil {
		half := len(sent) / 2
		left, err := s.Store.Ack(ctx, sent[:half], now)
		return append(left, sent[half:]...), errors.Join(err, s.ack)
	}
	return s.Store.Ack(ctx, sent, now)
}

func (s *faultyStore) TakeOver(context.Context) ([]outbox.Entry, error) {
	return s.adopted, s.takeOver
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	w := world.New(t, world.Options{})
	f := &fixture{World: w, faults: &faultyStore{Store: w.Store}}
	f.OutboxDeps.Store = f.faults
	f.Rebuild()
	return f
}

// flush calls Flush, which must fail with want.
func (f *fixture) flush(want error) {
	f.Helper()
	if err := f.Outbox.Flush(f.Context()); !errors.Is(err, want) {
		f.Fatalf("Flush: got %v, want %v", err, want)
	}
}

// signup commits a pending account with an entry, and stages its message.
func (f *fixture) signup(user string) (outbox.Entry, outbox.Staged) {
	f.Helper()
	s, link := f.Signup(user).Signup, f.Outbox.NewLink(f.Tenant.ID)
	s.Token, s.Message, s.SealedToken = f.Store.LinkHash(link.Token), link.Message, link.Sealed
	f.Must(f.Store.Create(f.Context(), s, f.Now()))
	return f.staged(link)
}

// resend gives the account of an entry a new link, and stages the message with it.
func (f *fixture) resend(e outbox.Entry) (outbox.Entry, outbox.Staged) {
	f.Helper()
	a, err := f.Store.Find(f.Context(), e.Tenant, e.User, f.Now())
	f.Must(err)
	link := f.Outbox.NewLink(e.Tenant)
	f.Must(f.Store.Resend(f.Context(), account.LinkReplacement{
		Account: a, Was: a.Email, Token: f.Store.LinkHash(link.Token), Message: link.Message,
		SealedToken: link.Sealed, Made: f.Now().Add(time.Minute),
	}, f.Now().Add(time.Minute)))
	return f.staged(link)
}

// staged stages the message of a link whose entry is in the store.
func (f *fixture) staged(link outbox.Link) (outbox.Entry, outbox.Staged) {
	f.Helper()
	list := f.Pending()
	i := slices.IndexFunc(list, func(e outbox.Entry) bool { return e.Message == link.Message })
	if i < 0 {
		f.Fatal("the entry is missing")
	}
	m, err := f.Outbox.Stage(f.Tenant, list[i], link.Token)
	f.Must(err)
	return list[i], m
}

// published is signup with the message published.
func (f *fixture) published(user string) outbox.Entry {
	f.Helper()
	e, m := f.signup(user)
	f.Must(m.Publish())
	f.Outbox.Published(e.Ref, m)
	return e
}

// expect checks which users have an entry, and how many messages are in the directory.
func (f *fixture) expect(messages int, users ...string) {
	f.Helper()
	var got []string
	for _, e := range f.Pending() {
		got = append(got, e.User)
	}
	if slices.Sort(got); !slices.Equal(got, users) {
		f.Fatalf("there are entries of %q, want %q", got, users)
	}
	if files := f.Files("pickup"); len(files) != messages {
		f.Fatalf("there are %d messages, want %d", len(files), messages)
	}
}

// remove removes the file of a message.
func (f *fixture) remove(e outbox.Entry) {
	f.Helper()
	f.Must(f.Pickup.Dir.Withdraw(e.Message))
}

func TestFlush(t *testing.T) {
	t.Run("acknowledges a published message after a sync", func(t *testing.T) {
		f := newFixture(t)
		f.published("ann")
		f.expect(1, "ann")
		f.flush(nil)
		f.expect(1)
		if f.Pickup.Synced.Load() != 1 || f.Pickup.Staged.Load() != 1 {
			t.Errorf("%d syncs, and %d messages staged", f.Pickup.Synced.Load(), f.Pickup.Staged.Load())
		}
	})
	t.Run("does not sync when there is nothing to do", func(t *testing.T) {
		f := newFixture(t)
		f.flush(nil)
		f.published("ann")
		f.flush(nil)
		f.flush(nil)
		if f.Pickup.Synced.Load() != 1 {
			t.Errorf("%d syncs, want one", f.Pickup.Synced.Load())
		}
	})
	t.Run("does not read the outbox when no message is in doubt", func(t *testing.T) {
		f := newFixture(t)
		f.faults.pending = errBroken
		f.published("ann")
		f.flush(nil)
		f.expect(1)
	})
	t.Run("writes a message again after a failed sync", func(t *testing.T) {
		f := newFixture(t)
		e := f.published("ann")
		before := f.Messages()
		f.Pickup.SyncErr = errBroken
		f.flush(errBroken)
		f.expect(1, "ann")
		// After a failed sync the kernel may have dropped data, and another sync would not report it.
		f.Must(os.Truncate(filepath.Join(f.Pickup.Path(), e.Message.String()+".eml"), 10))
		f.Pickup.SyncErr = nil
		f.flush(nil) // finds the entry
		f.flush(nil) // writes the message
		f.flush(nil) // has nothing to do
		f.expect(1)
		if !maps.Equal(f.Messages(), before) {
			t.Error("the message differs from the one before")
		}
		if f.Pickup.Staged.Load() != 2 {
			t.Errorf("the message was staged %d times, want two", f.Pickup.Staged.Load())
		}
		if f.Log.Count("msg=message.republish") != 1 || f.Log.Count("email=a***@mail.test") != 1 {
			t.Errorf("the log has no audit event:\n%s", f.Log.String())
		}
	})
	t.Run("writes all messages again that were staged before a failed sync", func(t *testing.T) {
		f := newFixture(t)
		f.published("ann")
		e, m := f.signup("bob")
		f.Pickup.BeforeSync = func() { f.published("cid") } // as the sync of ann's message begins
		f.Pickup.SyncErr = errBroken
		f.flush(errBroken)
		f.Pickup.BeforeSync, f.Pickup.SyncErr = nil, nil
		f.Must(m.Publish())
		f.Outbox.Published(e.Ref, m)
		before := f.Messages()
		for name := range before {
			f.Must(os.Truncate(filepath.Join(f.Pickup.Path(), name), 10))
		}
		f.published("dan") // after it
		f.flush(nil)
		f.expect(4, "ann", "bob", "cid")
		f.flush(nil)
		f.expect(4)
		for name, text := range before {
			if f.Messages()[name] != text {
				t.Errorf("%s was not written again", name)
			}
		}
		if n := f.Pickup.Staged.Load(); n != 4+3 {
			t.Errorf("messages were staged %d times, want 7", n)
		}
	})
	t.Run("repeats acknowledgements that failed in the store", func(t *testing.T) {
		f := newFixture(t)
		f.published("ann")
		f.published("bob")
		f.faults.ack = errBroken
		f.flush(errBroken)
		f.expect(2, "bob")
		f.faults.ack = nil
		f.flush(nil)
		f.expect(2)
		if f.Pickup.Staged.Load() != 2 {
			t.Errorf("%d messages were staged, want two", f.Pickup.Staged.Load())
		}
	})
	t.Run("makes a message due if messages are relayed", func(t *testing.T) {
		f := newFixture(t)
		f.OutboxDeps.Relayed = true
		f.Rebuild()
		e := f.published("ann")
		f.faults.ack = errBroken // Ack is not called
		f.flush(nil)
		f.expect(1)
		if d, err := f.Store.Delivery(t.Context(), e.Message); err != nil || d.State != delivery.Waiting {
			t.Errorf("got %+v, %v", d, err)
		}
	})
	t.Run("adds no delivery if messages are not relayed", func(t *testing.T) {
		f := newFixture(t)
		e := f.published("ann")
		f.flush(nil)
		if d, err := f.Store.Delivery(t.Context(), e.Message); err == nil {
			t.Errorf("there is a delivery: %+v", d)
		}
	})
}

// change commits a new password for an active account, with the entry of its message.
func (f *fixture) change(user string) outbox.Entry {
	return f.changeWith(user, mailmsg.PasswordChanged)
}

// changeWith is change with a message of a kind.
func (f *fixture) changeWith(user string, kind mailmsg.Kind) outbox.Entry {
	f.Helper()
	a := f.Member(user)
	_, err := f.Store.Ack(f.Context(), []outbox.Ref{
		{Tenant: a.Account.Tenant, Account: a.Account.UID, Message: a.Message},
	}, f.Now())
	f.Must(err)
	link := f.Outbox.NewLink(f.Tenant.ID)
	_, err = f.Store.SetPassword(f.Context(), account.PasswordChange{Account: a.Account, Notice: account.Notice{
		Kind: kind, Message: link.Message, Token: f.Store.LinkHash(link.Token),
		SealedToken: link.Sealed, Made: f.Now(), Until: f.Now().Add(time.Hour), Net: "192.0.2.0/24",
	}}, f.Now())
	f.Must(err)
	list := f.Pending()
	return list[slices.IndexFunc(list, func(e outbox.Entry) bool { return e.Message == link.Message })]
}

func TestWrite(t *testing.T) {
	t.Run("makes the next flush write the message", func(t *testing.T) {
		f := newFixture(t)
		e := f.change("ann")
		f.Outbox.Write(e)
		f.flush(nil)
		f.expect(1)
		if f.Log.Count("msg=message.republish") != 0 {
			t.Errorf("the first writing of a message is logged as a repetition:\n%s", f.Log.String())
		}
	})
	t.Run("tries again if the directory fails", func(t *testing.T) {
		f := newFixture(t)
		f.Outbox.Write(f.change("ann"))
		f.Pickup.StageErr = errBroken
		f.flush(errBroken)
		f.expect(0, "ann")
		f.Pickup.StageErr = nil
		f.flush(nil)
		f.expect(1)
	})
	t.Run("writes the same message again after a crash", func(t *testing.T) {
		f := newFixture(t)
		e := f.change("ann")
		f.Outbox.Write(e)
		f.Pickup.SyncErr = errBroken
		f.flush(errBroken)
		before := f.Messages()
		f.remove(e)
		f.Pickup.SyncErr = nil
		f.Rebuild()
		f.Must(f.Outbox.Recover(t.Context()))
		f.flush(nil)
		f.expect(1)
		if !maps.Equal(f.Messages(), before) {
			t.Error("the message differs from the one before")
		}
	})
	t.Run("does not delay the acknowledgement of others", func(t *testing.T) {
		f := newFixture(t)
		f.published("bob")
		e := f.change("ann")
		e.SealedToken = []byte("changed")
		f.Outbox.Write(e)
		f.flush(secret.ErrSeal)
		f.expect(1, "ann")
	})
}

func TestUndo(t *testing.T) {
	t.Run("returns immediately when it succeeds", func(t *testing.T) {
		f := newFixture(t)
		calls := 0
		f.Must(f.Outbox.Undo(t.Context(), func(context.Context) error { calls++; return nil }))
		f.flush(nil)
		if calls != 1 || f.Log.Count("undo failed") != 0 {
			t.Errorf("it was called %d times, want once; the log is\n%s", calls, f.Log.String())
		}
	})
	t.Run("is retried until it succeeds", func(t *testing.T) {
		f := newFixture(t)
		calls := 0
		err := f.Outbox.Undo(t.Context(), func(context.Context) error {
			if calls++; calls < 4 {
				return errBroken
			}
			return nil
		})
		if !errors.Is(err, errBroken) || f.Log.Count(`level=ERROR msg="undo failed, will be retried"`) != 1 {
			t.Errorf("got %v, and in the log\n%s", err, f.Log.String())
		}
		f.flush(errBroken)
		f.flush(errBroken)
		f.flush(nil)
		f.flush(nil)
		if calls != 4 {
			t.Errorf("it was called %d times, want four", calls)
		}
	})
	t.Run("keeps those after one that fails", func(t *testing.T) {
		f := newFixture(t)
		var fails error
		var done []string
		undo := func(name string, err *error) {
			f.Outbox.UndoLater(func(context.Context) error {
				if err != nil && *err != nil {
					return *err
				}
				done = append(done, name)
				return nil
			})
		}
		undo("first", nil)
		undo("second", &fails)
		undo("third", nil)
		fails = errBroken
		f.flush(errBroken)
		fails = nil
		f.flush(nil)
		if want := []string{"first", "second", "third"}; !slices.Equal(done, want) {
			t.Errorf("undid %q, want %q", done, want)
		}
	})
}

func TestRecheck(t *testing.T) {
	t.Run("writes a message whose entry still exists", func(t *testing.T) {
		f := newFixture(t)
		e, m := f.signup("ann")
		m.Discard()
		f.Outbox.Recheck(e.Ref)
		f.flush(nil)
		f.flush(nil)
		f.expect(1)
		if f.Log.Count("msg=message.republish") != 0 {
			t.Errorf("the first writing of a message is logged as a repetition:\n%s", f.Log.String())
		}
	})
	t.Run("writes no message whose entry is gone", func(t *testing.T) {
		f := newFixture(t)
		e, m := f.signup("ann")
		m.Discard()
		_, err := f.Store.Ack(t.Context(), []outbox.Ref{e.Ref}, f.Now())
		f.Must(err)
		f.Outbox.Recheck(e.Ref)
		f.flush(nil)
		f.flush(nil)
		f.expect(0)
	})
	t.Run("writes no other message", func(t *testing.T) {
		f := newFixture(t)
		e, m := f.signup("ann")
		m.Discard()
		_, other := f.signup("bob")
		other.Discard()
		f.Outbox.Recheck(e.Ref)
		f.flush(nil)
		f.flush(nil)
		f.expect(1, "bob")
	})
	t.Run("withdraws a message when a newer one is published", func(t *testing.T) {
		f := newFixture(t)
		e, m := f.signup("ann")
		f.Must(m.Publish())
		newer, n := f.resend(e)
		f.Must(n.Publish())
		f.Outbox.Recheck(e.Ref)
		f.Outbox.Published(newer.Ref, n)
		f.flush(nil)
		f.expect(1)
		if files := f.Messages(); files[newer.Message.String()+".eml"] == "" {
			t.Errorf("the newer message is not among %q", slices.Collect(maps.Keys(files)))
		}
		if f.Log.Count("message.republish") != 0 {
			t.Error("a withdrawn message is recorded as published")
		}
	})
	t.Run("keeps a replaced message while the newer one is not published", func(t *testing.T) {
		f := newFixture(t)
		e, m := f.signup("ann")
		f.Must(m.Publish())
		newer, n := f.resend(e)
		f.Outbox.Recheck(e.Ref)
		f.published("bob") // a message of another account is not relevant here
		f.flush(nil)
		f.expect(2, "ann", "ann")
		f.Must(n.Publish())
		f.Outbox.Published(newer.Ref, n)
		f.flush(nil)
		f.expect(2)
	})
	t.Run("is repeated when the outbox cannot be read", func(t *testing.T) {
		f := newFixture(t)
		e, m := f.signup("ann")
		m.Discard()
		newer, n := f.resend(e)
		f.Must(n.Publish())
		f.Outbox.Recheck(e.Ref)
		f.Outbox.Published(newer.Ref, n)
		f.faults.pending = errBroken
		f.flush(errBroken)
		f.expect(1, "ann", "ann") // the newer message waits for the older one
		f.faults.pending = nil
		f.flush(nil)
		f.expect(1)
	})
}

func TestRecover(t *testing.T) {
	t.Run("writes every message again", func(t *testing.T) {
		f := newFixture(t)
		f.published("ann")
		f.published("bob")
		before := f.Messages()
		for _, e := range f.Pending() {
			f.remove(e)
		}
		f.Rebuild()
		f.Must(f.Outbox.Recover(t.Context()))
		f.flush(nil)
		f.expect(2)
		if !maps.Equal(f.Messages(), before) {
			t.Error("the messages differ from those before")
		}
	})
	t.Run("fails when the outbox cannot be read", func(t *testing.T) {
		f := newFixture(t)
		f.faults.pending = errBroken
		if err := f.Outbox.Recover(t.Context()); !errors.Is(err, errBroken) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("withdraws a replaced message", func(t *testing.T) {
		f := newFixture(t)
		e := f.published("ann")
		_, m := f.resend(e)
		f.Must(m.Publish())
		f.Rebuild()
		f.Must(f.Outbox.Recover(t.Context()))
		f.flush(nil)
		f.expect(1)
	})
	t.Run("retries a message that cannot be withdrawn", func(t *testing.T) {
		f := newFixture(t)
		e := f.published("ann")
		_, m := f.resend(e)
		f.Must(m.Publish())
		f.Rebuild()
		f.Pickup.WithdrawErr = errBroken
		f.Must(f.Outbox.Recover(t.Context()))
		f.flush(errBroken)
		f.expect(2, "ann", "ann") // the newer message waits for the older one
		f.Pickup.WithdrawErr = nil
		f.flush(nil)
		f.expect(1)
	})
	for name, fault := range map[string]func(*fixture) *error{
		"retries a message that cannot be staged":    func(f *fixture) *error { return &f.Pickup.StageErr },
		"retries a message that cannot be published": func(f *fixture) *error { return &f.Pickup.PublishErr },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.remove(f.published("ann"))
			f.Rebuild()
			f.Must(f.Outbox.Recover(t.Context()))
			err := fault(f)
			*err = errBroken
			f.flush(errBroken)
			f.flush(errBroken)
			f.expect(0, "ann")
			if f.Log.Count("message.republish") != 0 {
				t.Error("a failure is recorded as published")
			}
			*err = nil
			f.flush(nil)
			f.expect(1)
		})
	}
	t.Run("drops the entries of a tenant that was removed", func(t *testing.T) {
		f := newFixture(t)
		f.remove(f.published("ann"))
		f.OutboxDeps.Tenant = func(int64) (*tenant.Tenant, bool) { return nil, false }
		f.Rebuild()
		f.Must(f.Outbox.Recover(t.Context()))
		f.flush(nil)
		f.expect(0)
	})
	t.Run("reports a token that cannot be opened, and writes the other messages", func(t *testing.T) {
		f := newFixture(t)
		bad := f.Signup("ann").Signup
		f.Must(f.Store.Create(t.Context(), bad, f.Now()))
		f.Advance(time.Second)
		bob := f.published("bob")
		before := f.Messages()
		f.remove(bob)
		f.Rebuild()
		f.Must(f.Outbox.Recover(t.Context()))
		f.flush(secret.ErrSeal)
		f.expect(1, "ann")
		if !maps.Equal(f.Messages(), before) {
			t.Error("the message differs from the one before")
		}
		err := f.Outbox.Flush(t.Context())
		f.Is(err, secret.ErrSeal)
		if !strings.Contains(err.Error(), bad.Message.String()) {
			t.Errorf("the error does not name the message: %v", err)
		}
	})
}

func TestTakeOver(t *testing.T) {
	f := newFixture(t)
	e := f.published("ann")
	before := f.Messages()
	f.remove(e)
	f.Rebuild()
	f.Must(f.Outbox.TakeOver(t.Context()))
	f.flush(nil)
	if f.Log.String() != "" {
		t.Errorf("the log is not empty:\n%s", f.Log.String())
	}
	f.expect(0, "ann")
	f.faults.adopted, f.faults.takeOver = f.Pending(), errBroken
	if err := f.Outbox.TakeOver(t.Context()); !errors.Is(err, errBroken) {
		t.Errorf("got %v", err)
	}
	if f.Log.Count(`msg="outbox of a dead node taken over" messages=1`) != 1 {
		t.Errorf("the log is\n%s", f.Log.String())
	}
	f.flush(nil)
	f.expect(1)
	if !maps.Equal(f.Messages(), before) {
		t.Error("the message differs from the one before")
	}
	if f.Log.Count("msg=message.republish") != 1 {
		t.Errorf("the log is\n%s", f.Log.String())
	}
}

func TestTakeOverOfUnowned(t *testing.T) {
	f := newFixture(t)
	e := f.change("ann") // as by a command, which does not write the message
	e.Unowned = true
	f.faults.adopted = []outbox.Entry{e}
	f.Must(f.Outbox.TakeOver(t.Context()))
	f.flush(nil)
	f.expect(1)
	if f.Log.String() != "" {
		t.Errorf("the log is not empty:\n%s", f.Log.String())
	}
	t.Run("withdraws replaced messages", func(t *testing.T) {
		f := newFixture(t)
		_, m := f.signup("ann")
		f.Must(m.Publish())
		_, n := f.resend(f.Pending()[0])
		n.Discard()
		for _, e := range f.Pending() {
			e.Unowned = true
			f.faults.adopted = append(f.faults.adopted, e)
		}
		f.Must(f.Outbox.TakeOver(t.Context()))
		f.flush(nil)
		f.expect(1)
	})
}

func TestOpener(t *testing.T) {
	ring := secret.NewRing(world.Noon)
	o := outbox.New(outbox.Deps{SealRing: ring, Now: time.Now})
	l := o.NewLink(7)
	entry := func(tenant int64, id mailmsg.ID, sealed []byte) outbox.Entry {
		return outbox.Entry{Ref: outbox.Ref{Tenant: tenant, Message: id}, SealedToken: sealed}
	}
	open := outbox.Opener(ring)
	if got, err := open(entry(7, l.Message, l.Sealed)); err != nil || got != l.Token {
		t.Errorf("the token is not the one that was sealed: %v", err)
	}
	vault := secret.NewVault(ring, "activation token")
	for name, e := range map[string]outbox.Entry{
		"another tenant":  entry(8, l.Message, l.Sealed),
		"another message": entry(7, o.NewLink(7).Message, l.Sealed),
		"a short token":   entry(7, l.Message, vault.Seal(7, l.Message[:], l.Token[1:])),
		"a long token":    entry(7, l.Message, vault.Seal(7, l.Message[:], append(l.Token[:], 0))),
		"no token":        entry(7, l.Message, nil),
	} {
		if got, err := open(e); !errors.Is(err, secret.ErrSeal) || got != (secret.Token{}) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	e := entry(7, l.Message, l.Sealed)
	if _, err := outbox.Opener(secret.NewRing(world.Noon))(e); !errors.Is(err, secret.ErrSeal) {
		t.Errorf("another ring: got %v", err)
	}
	if again := o.NewLink(7); again.Message == l.Message || again.Token == l.Token {
		t.Error("two links are the same")
	}
}

// A message of a kind that only a later version knows affects neither the server nor other messages.
func TestUnknownKind(t *testing.T) {
	for _, again := range []bool{false, true} {
		t.Run(fmt.Sprintf("again=%v", again), func(t *testing.T) {
			f := newFixture(t)
			e := f.changeWith("ann", "of_a_later_version")
			if again {
				f.Must(f.Outbox.Recover(t.Context()))
			} else {
				f.Outbox.Write(e)
			}
			f.published("bob")
			for range 3 {
				f.flush(nil)
				f.Outbox.Write(e) // like another node's entry that is taken over
			}
			f.expect(1, "ann")
			if n := f.Log.Count(`msg="message not written`); n != 1 {
				t.Errorf("%d lines in\n%s", n, f.Log.String())
			}
		})
	}
}
