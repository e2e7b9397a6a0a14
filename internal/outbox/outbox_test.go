package outbox_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/captcha"
	"dialtone/internal/delivery"
	"dialtone/internal/i18n"
	"dialtone/internal/mail/pickup"
	"dialtone/internal/mailmsg"
	"dialtone/internal/outbox"
	"dialtone/internal/secret"
	"dialtone/internal/store"
	"dialtone/internal/tenant"
	"dialtone/internal/test/teststore"
	"dialtone/internal/throttle"
)

var (
	noon      = time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)
	errBroken = errors.New("broken by the test")
)

// fixture is an Outbox on a real store and a real pickup directory, which a test can make fail.
type fixture struct {
	*testing.T
	*outbox.Outbox
	deps   outbox.Deps
	store  *faultyStore
	pickup *faultyPickup
	tenant *tenant.Tenant
	log    bytes.Buffer
}

// faultyStore is a store whose methods fail with the errors in its fields. Ack fails after half of
// its work, if ack is set.
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

func (s *faultyStore) Ack(ctx context.Context, sent []outbox.Ref) ([]outbox.Ref, error) {
	if s.ack != nil {
		half := len(sent) / 2
		left, err := s.Store.Ack(ctx, sent[:half])
		return append(left, sent[half:]...), errors.Join(err, s.ack)
	}
	return s.Store.Ack(ctx, sent)
}

func (s *faultyStore) TakeOver(context.Context) ([]outbox.Entry, error) {
	return s.adopted, s.takeOver
}

// faultyPickup is a pickup directory whose methods fail with the errors in its fields. It counts
// the messages that were staged and the syncs.
type faultyPickup struct {
	*pickup.Dir
	stage, publish, sync, withdraw error
	staged, synced                 int
}

func (p *faultyPickup) Stage(m mailmsg.Message) (outbox.StagedMessage, error) {
	if p.stage != nil {
		return nil, p.stage
	}
	p.staged++
	s, err := p.Dir.Stage(m)
	return faultyMessage{s, p}, err
}

func (p *faultyPickup) Withdraw(id mailmsg.ID) error {
	if p.withdraw != nil {
		return p.withdraw
	}
	return p.Dir.Withdraw(id)
}

func (p *faultyPickup) Sync() error {
	p.synced++
	if p.sync != nil {
		return p.sync
	}
	return p.Dir.Sync()
}

type faultyMessage struct {
	outbox.StagedMessage
	pickup *faultyPickup
}

func (m faultyMessage) Publish() error {
	if m.pickup.publish != nil {
		m.Discard()
		return m.pickup.publish
	}
	return m.StagedMessage.Publish()
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{T: t}
	ring, dir := secret.NewRing(noon), t.TempDir()
	db, err := teststore.Open(t.Context(), filepath.Join(dir, "dialtone.db"), ring)
	f.must(err)
	t.Cleanup(func() { db.Close() })
	files, err := pickup.Open(filepath.Join(dir, "pickup"))
	f.must(err)
	added, err := db.AddTenant(t.Context(), tenant.Tenant{
		Host: "phone.test", Realm: "phone.test", PublicURL: "https://phone.test", Created: noon,
	})
	f.must(err)
	f.store, f.pickup, f.tenant = &faultyStore{Store: db}, &faultyPickup{Dir: files}, &added
	logger := slog.New(slog.NewTextHandler(&f.log, nil))
	f.deps = outbox.Deps{
		Store: f.store, Pickup: f.pickup, SealRing: ring, Audit: audit.Log{Logger: logger},
		Log: logger, Now: func() time.Time { return noon },
		Tenant: func(id int64) (*tenant.Tenant, bool) { return f.tenant, id == f.tenant.ID },
	}
	f.restart()
	return f
}

// restart replaces the Outbox by a new one, as a new process does.
func (f *fixture) restart() { f.Outbox = outbox.New(f.deps) }

func (f *fixture) must(err error) {
	f.Helper()
	if err != nil {
		f.Fatal(err)
	}
}

// flush calls Flush, which must fail with want.
func (f *fixture) flush(want error) {
	f.Helper()
	if err := f.Flush(f.Context()); !errors.Is(err, want) {
		f.Fatalf("Flush: got %v, want %v", err, want)
	}
}

// signup commits a pending account with an entry, and stages its message.
func (f *fixture) signup(user string) (outbox.Entry, outbox.StagedMessage) {
	f.Helper()
	link, uid := f.NewLink(f.tenant.ID), account.NewUID(noon)
	s := account.Signup{
		Account: account.Account{
			UID: uid, Tenant: f.tenant.ID, User: user, Email: user + "@mail.test",
			Role: account.Guest, Lang: i18n.English, Disabled: true, Created: noon,
			Expires: noon.Add(account.PendingLife), Sealed: []byte("sealed credential"),
		},
		Token: link.Token.Hash(), Message: link.Message, SealedToken: link.Sealed,
		Captcha:   captcha.Proof{Ours: true, Right: true, Expires: noon.Add(captcha.Life)},
		Recipient: throttle.Allowance{Rule: throttle.MessagesPerRecipient},
	}
	rand.Read(s.Captcha.Nonce[:])
	rand.Read(s.Recipient.Bucket[:])
	f.must(f.store.Create(f.Context(), s, noon))
	return f.staged(link)
}

// resend gives the account of an entry a new link, and stages the message with it.
func (f *fixture) resend(e outbox.Entry) (outbox.Entry, outbox.StagedMessage) {
	f.Helper()
	a, err := f.store.Find(f.Context(), e.Tenant, e.User, noon)
	f.must(err)
	link := f.NewLink(e.Tenant)
	f.must(f.store.Resend(f.Context(), account.LinkReplacement{
		Account: a, Was: a.Email, Token: link.Token.Hash(), Message: link.Message,
		SealedToken: link.Sealed, Made: noon.Add(time.Minute),
	}, noon.Add(time.Minute)))
	return f.staged(link)
}

// staged stages the message of a link whose entry is in the store.
func (f *fixture) staged(link outbox.Link) (outbox.Entry, outbox.StagedMessage) {
	f.Helper()
	list, err := f.store.Store.Pending(f.Context())
	f.must(err)
	i := slices.IndexFunc(list, func(e outbox.Entry) bool { return e.Message == link.Message })
	if i < 0 {
		f.Fatal("the entry is missing")
	}
	m, err := f.Stage(f.tenant, list[i], link.Token)
	f.must(err)
	return list[i], m
}

// published is signup with the message published.
func (f *fixture) published(user string) outbox.Entry {
	f.Helper()
	e, m := f.signup(user)
	f.must(m.Publish())
	f.Published(e.Ref)
	return e
}

// expect checks which users have an entry, and how many messages are in the directory.
func (f *fixture) expect(messages int, users ...string) {
	f.Helper()
	list, err := f.store.Store.Pending(f.Context())
	f.must(err)
	var got []string
	for _, e := range list {
		got = append(got, e.User)
	}
	if slices.Sort(got); !slices.Equal(got, users) {
		f.Fatalf("there are entries of %q, want %q", got, users)
	}
	if files := f.files(); len(files) != messages {
		f.Fatalf("there are %d messages, want %d", len(files), messages)
	}
}

// files returns the files of the pickup directory by name.
func (f *fixture) files() map[string]string {
	f.Helper()
	files := make(map[string]string)
	entries, err := os.ReadDir(f.pickup.Path())
	f.must(err)
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(f.pickup.Path(), e.Name()))
		f.must(err)
		files[e.Name()] = string(b)
	}
	return files
}

// remove removes the file of a message.
func (f *fixture) remove(e outbox.Entry) {
	f.Helper()
	f.must(f.pickup.Dir.Withdraw(e.Message))
}

// logged returns how many lines of the log contain a text.
func (f *fixture) logged(text string) int { return strings.Count(f.log.String(), text) }

func TestFlush(t *testing.T) {
	t.Run("acknowledges a published message after a sync", func(t *testing.T) {
		f := newFixture(t)
		f.published("ann")
		f.expect(1, "ann")
		f.flush(nil)
		f.expect(1)
		if f.pickup.synced != 1 || f.pickup.staged != 1 {
			t.Errorf("%d syncs, and %d messages staged", f.pickup.synced, f.pickup.staged)
		}
	})
	t.Run("does not sync when there is nothing to do", func(t *testing.T) {
		f := newFixture(t)
		f.flush(nil)
		f.published("ann")
		f.flush(nil)
		f.flush(nil)
		if f.pickup.synced != 1 {
			t.Errorf("%d syncs, want one", f.pickup.synced)
		}
	})
	t.Run("does not read the outbox when no message is in doubt", func(t *testing.T) {
		f := newFixture(t)
		f.store.pending = errBroken
		f.published("ann")
		f.flush(nil)
		f.expect(1)
	})
	t.Run("writes a message again after a failed sync", func(t *testing.T) {
		f := newFixture(t)
		e := f.published("ann")
		before := f.files()
		f.pickup.sync = errBroken
		f.flush(errBroken)
		f.expect(1, "ann")
		f.remove(e)
		f.pickup.sync = nil
		f.flush(nil) // finds the entry
		f.flush(nil) // writes the message
		f.expect(1)
		if !maps.Equal(f.files(), before) {
			t.Error("the message differs from the one before")
		}
		if f.pickup.staged != 2 {
			t.Errorf("the message was staged %d times, want two", f.pickup.staged)
		}
		if f.logged("msg=message.republish") != 1 || f.logged("email=a***@mail.test") != 1 {
			t.Errorf("the log has no audit event:\n%s", f.log.String())
		}
	})
	t.Run("acknowledges again what the store could not", func(t *testing.T) {
		f := newFixture(t)
		f.published("ann")
		f.published("bob")
		f.store.ack = errBroken
		f.flush(errBroken)
		f.expect(2, "bob")
		f.store.ack = nil
		f.flush(nil)
		f.expect(2)
		if f.pickup.staged != 2 {
			t.Errorf("%d messages were staged, want two", f.pickup.staged)
		}
	})
	t.Run("makes a message due where messages are relayed", func(t *testing.T) {
		f := newFixture(t)
		f.deps.Relayed = true
		f.restart()
		e := f.published("ann")
		f.store.ack = errBroken // Ack is not called
		f.flush(nil)
		f.expect(1)
		if d, err := f.store.Delivery(t.Context(), e.Message); err != nil || d.State != delivery.Waiting {
			t.Errorf("the message is %+v, %v", d, err)
		}
	})
	t.Run("leaves the delivery alone where messages are not relayed", func(t *testing.T) {
		f := newFixture(t)
		e := f.published("ann")
		f.flush(nil)
		if d, err := f.store.Delivery(t.Context(), e.Message); err == nil {
			t.Errorf("the message is %+v", d)
		}
	})
}

func TestUndo(t *testing.T) {
	t.Run("returns at once when it succeeds", func(t *testing.T) {
		f := newFixture(t)
		calls := 0
		f.must(f.Undo(t.Context(), func(context.Context) error { calls++; return nil }))
		f.flush(nil)
		if calls != 1 || f.logged("undo failed") != 0 {
			t.Errorf("it was called %d times, want once; the log is\n%s", calls, f.log.String())
		}
	})
	t.Run("is retried until it succeeds", func(t *testing.T) {
		f := newFixture(t)
		calls := 0
		err := f.Undo(t.Context(), func(context.Context) error {
			if calls++; calls < 4 {
				return errBroken
			}
			return nil
		})
		if !errors.Is(err, errBroken) || f.logged(`level=ERROR msg="undo failed, will be retried"`) != 1 {
			t.Errorf("got %v, and in the log\n%s", err, f.log.String())
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
			f.UndoLater(func(context.Context) error {
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
			t.Errorf("undone are %q, want %q", done, want)
		}
	})
}

func TestRecheck(t *testing.T) {
	t.Run("writes a message whose entry is still there", func(t *testing.T) {
		f := newFixture(t)
		e, m := f.signup("ann")
		m.Discard()
		f.Recheck(e.Ref)
		f.flush(nil)
		f.flush(nil)
		f.expect(1)
	})
	t.Run("writes no message whose entry is gone", func(t *testing.T) {
		f := newFixture(t)
		e, m := f.signup("ann")
		m.Discard()
		_, err := f.store.Ack(t.Context(), []outbox.Ref{e.Ref})
		f.must(err)
		f.Recheck(e.Ref)
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
		f.Recheck(e.Ref)
		f.flush(nil)
		f.flush(nil)
		f.expect(1, "bob")
	})
	t.Run("withdraws a message when a newer one is published", func(t *testing.T) {
		f := newFixture(t)
		e, m := f.signup("ann")
		f.must(m.Publish())
		newer, n := f.resend(e)
		f.must(n.Publish())
		f.Recheck(e.Ref)
		f.Published(newer.Ref)
		f.flush(nil)
		f.expect(1)
		if files := f.files(); files[newer.Message.String()+".eml"] == "" {
			t.Errorf("the newer message is not among %q", slices.Collect(maps.Keys(files)))
		}
		if f.logged("message.republish") != 0 {
			t.Error("a withdrawn message is recorded as published")
		}
	})
	t.Run("keeps a replaced message while the newer one is not published", func(t *testing.T) {
		f := newFixture(t)
		e, m := f.signup("ann")
		f.must(m.Publish())
		newer, n := f.resend(e)
		f.Recheck(e.Ref)
		f.published("bob") // another account says nothing about this one
		f.flush(nil)
		f.expect(2, "ann", "ann")
		f.must(n.Publish())
		f.Published(newer.Ref)
		f.flush(nil)
		f.expect(2)
	})
	t.Run("is repeated when the outbox cannot be read", func(t *testing.T) {
		f := newFixture(t)
		e, m := f.signup("ann")
		m.Discard()
		newer, n := f.resend(e)
		f.must(n.Publish())
		f.Recheck(e.Ref)
		f.Published(newer.Ref)
		f.store.pending = errBroken
		f.flush(errBroken)
		f.expect(1, "ann", "ann") // the newer message waits for the older one
		f.store.pending = nil
		f.flush(nil)
		f.expect(1)
	})
}

func TestRecover(t *testing.T) {
	t.Run("writes every message again", func(t *testing.T) {
		f := newFixture(t)
		f.published("ann")
		f.published("bob")
		before := f.files()
		for _, e := range f.entries() {
			f.remove(e)
		}
		f.restart()
		f.must(f.Recover(t.Context()))
		f.flush(nil)
		f.expect(2)
		if !maps.Equal(f.files(), before) {
			t.Error("the messages differ from those before")
		}
	})
	t.Run("fails when the outbox cannot be read", func(t *testing.T) {
		f := newFixture(t)
		f.store.pending = errBroken
		if err := f.Recover(t.Context()); !errors.Is(err, errBroken) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("withdraws a replaced message", func(t *testing.T) {
		f := newFixture(t)
		e := f.published("ann")
		_, m := f.resend(e)
		f.must(m.Publish())
		f.restart()
		f.must(f.Recover(t.Context()))
		f.flush(nil)
		f.expect(1)
	})
	t.Run("retries a message that cannot be withdrawn", func(t *testing.T) {
		f := newFixture(t)
		e := f.published("ann")
		_, m := f.resend(e)
		f.must(m.Publish())
		f.restart()
		f.pickup.withdraw = errBroken
		f.must(f.Recover(t.Context()))
		f.flush(errBroken)
		f.expect(2, "ann", "ann") // the newer message waits for the older one
		f.pickup.withdraw = nil
		f.flush(nil)
		f.expect(1)
	})
	for name, fault := range map[string]func(*fixture) *error{
		"retries a message that cannot be staged":    func(f *fixture) *error { return &f.pickup.stage },
		"retries a message that cannot be published": func(f *fixture) *error { return &f.pickup.publish },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.remove(f.published("ann"))
			f.restart()
			f.must(f.Recover(t.Context()))
			err := fault(f)
			*err = errBroken
			f.flush(errBroken)
			f.flush(errBroken)
			f.expect(0, "ann")
			if f.logged("message.republish") != 0 {
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
		f.deps.Tenant = func(int64) (*tenant.Tenant, bool) { return nil, false }
		f.restart()
		f.must(f.Recover(t.Context()))
		f.flush(nil)
		f.expect(0)
	})
	t.Run("reports a token that cannot be opened", func(t *testing.T) {
		f := newFixture(t)
		e := f.published("ann")
		f.remove(e)
		f.deps.SealRing = secret.NewRing(noon)
		f.restart()
		f.must(f.Recover(t.Context()))
		f.flush(secret.ErrSeal)
		f.expect(0, "ann")
		if err := f.Flush(t.Context()); err == nil || !strings.Contains(err.Error(), e.Message.String()) {
			t.Errorf("the error does not name the message: %v", err)
		}
	})
}

// entries returns the entries in the store.
func (f *fixture) entries() []outbox.Entry {
	f.Helper()
	list, err := f.store.Store.Pending(f.Context())
	f.must(err)
	return list
}

func TestTakeOver(t *testing.T) {
	f := newFixture(t)
	f.remove(f.published("ann"))
	f.restart()
	f.must(f.TakeOver(t.Context()))
	f.flush(nil)
	if f.log.Len() != 0 {
		t.Errorf("the log is not empty:\n%s", f.log.String())
	}
	f.expect(0, "ann")
	f.store.adopted, f.store.takeOver = f.entries(), errBroken
	if err := f.TakeOver(t.Context()); !errors.Is(err, errBroken) {
		t.Errorf("got %v", err)
	}
	if f.logged(`msg="outbox of a dead node taken over" messages=1`) != 1 {
		t.Errorf("the log is\n%s", f.log.String())
	}
	f.flush(nil)
	f.expect(1)
}

func TestOpener(t *testing.T) {
	ring := secret.NewRing(noon)
	o := outbox.New(outbox.Deps{SealRing: ring})
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
	if _, err := outbox.Opener(secret.NewRing(noon))(e); !errors.Is(err, secret.ErrSeal) {
		t.Errorf("another ring: got %v", err)
	}
	if again := o.NewLink(7); again.Message == l.Message || again.Token == l.Token {
		t.Error("two links are the same")
	}
}
