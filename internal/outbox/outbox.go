// Package outbox writes activation messages so that an answered request never lacks its message,
// not even after a power cut, and nobody waits for a file to be synced.
//
// # Guarantees
//
// A caller stages a message, commits a transaction that adds an Entry to the outbox table, and
// publishes the message. If Publish returned nil, the message will be in the pickup directory: it
// is there now, and if a crash loses it, it is written again with the same bytes, name and
// Message-ID. So a message can appear twice after a crash, but is never missing. If the caller does
// not publish, it undoes its transaction with Undo, and the message is never written.
//
// # How it works
//
// Syncing each file would cost more than all the rest of a signup. Instead the table's row
// replaces the file: it contains the sealed token of the link, and stays until the file is
// known to be on disk. About once a second, Flush syncs the directory once for all messages and
// then removes their rows. After a crash, Recover schedules every remaining message to be
// written again.
//
// After a failed sync the kernel may have dropped what it could not write, and a second sync would
// not report it. Every message that was written before the failure is therefore written again: those
// that this Flush was to acknowledge, those that were published in the meantime, and those that were
// staged and are published later.
//
// Several servers may share a store. Each has its own rows, and TakeOver moves the rows of a server
// that has died.
//
// # What it is not
//
// The outbox does not send mail. A mail server takes the messages from the pickup directory, or
// package delivery sends them once they are on disk.
package outbox

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"dialtone/internal/audit"
	"dialtone/internal/i18n"
	"dialtone/internal/mailmsg"
	"dialtone/internal/secret"
	"dialtone/internal/tenant"
)

// Ref identifies an entry.
type Ref struct {
	Tenant  int64
	Account [16]byte // its UID
	Message mailmsg.ID
}

// Entry is a row of the outbox: a message that is not yet known to be on disk, with what is needed
// to write it again.
type Entry struct {
	Ref
	Kind mailmsg.Kind
	// SealedToken is the token of the link, as NewLink sealed it.
	SealedToken []byte
	// Made is when the message was made, and Expires when its link expires.
	Made, Expires time.Time
	// Resent means that an activation message is not the first of the account.
	Resent bool
	// Replaced means that a newer activation message has made the link invalid.
	Replaced bool
	// Unowned means that the entry had no server when TakeOver found it: a command added it, or
	// it came with a copied store.
	Unowned bool
	// Net is where a change came from, and Detail which change it was, for kinds of messages that tell it.
	Net, Detail string

	User  string
	Email string // where the message goes
	Lang  i18n.Tag
}

// Store stores the entries. They are added by the transactions that need them (see
// account.Store). Every method except Pending is one or more transactions, and its changes are
// durable when it returns.
type Store interface {
	// Pending returns this node's entries, oldest first.
	Pending(ctx context.Context) ([]Entry, error)

	// Ack removes entries, and those of older messages of the same account and node. Missing ones
	// are ignored. With an error it returns the entries that may still exist. The transaction
	// that removes an entry also records that its message has been in the pickup directory since
	// now (delivery.Written), except for the first message of a new account, whose state follows
	// from the account.
	Ack(ctx context.Context, sent []Ref, now time.Time) (left []Ref, err error)

	// Enqueue is Ack for a server that sends its messages through a relay. The transaction that
	// removes an entry also makes its message due for sending (package delivery), and discards
	// older messages of the account that are still waiting to be sent. It ignores missing entries.
	Enqueue(ctx context.Context, sent []Ref, now time.Time) (left []Ref, err error)

	// TakeOver renews this node's lease, and transfers the entries of nodes with expired leases
	// to this node; it returns those entries. A node that calls it at least every twenty
	// seconds keeps its lease.
	TakeOver(ctx context.Context) ([]Entry, error)
}

// Pickup is the SMTP pickup directory.
type Pickup interface {
	// Stage writes the message under a name that no mail server takes.
	Stage(id mailmsg.ID, message []byte) (StagedMessage, error)
	// Withdraw removes a message that has not been taken yet. A missing one is ignored.
	Withdraw(id mailmsg.ID) error
	// Sync makes everything durable that was published before the call. It also fails if anything that
	// was written since the previous call may be lost. It reports that only once.
	Sync() error
}

// StagedMessage is a message that was written and has not been published. Exactly one of its
// methods must be called, once.
type StagedMessage interface {
	// Publish atomically renames the message to its final name, and replaces a file of that name.
	Publish() error
	// Discard removes the message.
	Discard()
}

// Deps are the dependencies of an Outbox. If Templates is empty, the built-in texts are used.
type Deps struct {
	Store     Store
	Pickup    Pickup
	Templates mailmsg.Templates
	// Tenant returns a tenant by its ID.
	Tenant func(id int64) (*tenant.Tenant, bool)
	// SealRing is the ring of seal.key.
	SealRing *secret.Ring
	Audit    audit.Log
	Log      *slog.Logger
	Now      func() time.Time
	// Relayed means that this server sends its messages itself.
	Relayed bool
}

// Outbox stages messages and makes them durable. Its methods are safe for concurrent use,
// except for Flush, which must not be called concurrently with itself.
type Outbox struct {
	deps      Deps
	tokens    *secret.Vault
	templates atomic.Pointer[mailmsg.Templates]

	mu   sync.Mutex
	todo work
	// failures counts the syncs that failed.
	failures uint64
	left     map[mailmsg.ID]struct{} // messages of kinds that this program does not know
}

// work is the work for the next Flush.
type work struct {
	// published messages must be synced and then acknowledged.
	published []Ref
	// doubtful messages may be missing or half written, since a sync has failed after they were
	// staged. If the entry still exists, they are written again.
	doubtful []Ref
	// unpublished messages are written if their entry exists. It may not exist if the
	// transaction was in doubt. It may exist although the transaction was to be undone, because
	// the account is in use by now.
	unpublished []Ref
	// write are new messages to write, and rewrite are messages to write again.
	write, rewrite []Entry
	// undo are functions that undo transactions.
	undo []func(context.Context) error
}

// New returns an Outbox.
func New(d Deps) *Outbox {
	o := &Outbox{deps: d, tokens: vault(d.SealRing), left: make(map[mailmsg.ID]struct{})}
	o.SetTemplates(d.Templates)
	return o
}

// SetTemplates replaces the templates for all further messages.
func (o *Outbox) SetTemplates(t mailmsg.Templates) { o.templates.Store(&t) }

// vault returns the vault that seals tokens. Its purpose string is an input of the key derivation and never
// changes.
func vault(r *secret.Ring) *secret.Vault { return secret.NewVault(r, "activation token") }

// Link is a new message's ID and the token of the link in it.
type Link struct {
	Message mailmsg.ID
	Token   secret.Token
	// Sealed is the token in the form of Entry.SealedToken.
	Sealed []byte
}

// NewLink returns a random message ID and a random token for its link.
func (o *Outbox) NewLink(tenant int64) Link {
	l := Link{Token: secret.NewTokenAt(o.deps.Now())}
	rand.Read(l.Message[:])
	l.Sealed = o.tokens.Seal(tenant, l.Message[:], l.Token[:])
	return l
}

// Opener returns a function that opens the token of an entry. It fails with secret.ErrSeal.
func Opener(r *secret.Ring) func(Entry) (secret.Token, error) {
	v := vault(r)
	return func(e Entry) (secret.Token, error) { return open(v, e) }
}

func open(v *secret.Vault, e Entry) (secret.Token, error) {
	token, err := v.Open(e.Tenant, e.Message[:], e.SealedToken)
	if err != nil || len(token) != len(secret.Token{}) {
		return secret.Token{}, secret.ErrSeal
	}
	return secret.Token(token), nil
}

// Staged is a message that Stage has written.
type Staged struct {
	StagedMessage
	failures uint64 // of syncs before it was written
}

// Stage stages the message of an entry.
func (o *Outbox) Stage(t *tenant.Tenant, e Entry, token secret.Token) (Staged, error) {
	o.mu.Lock()
	failures := o.failures
	o.mu.Unlock()
	m, err := o.templates.Load().Bytes(t, e.Lang, e.Message, e.Email, mailmsg.Link{
		Kind: e.Kind, Token: token, Made: e.Made, Expires: e.Expires, Resent: e.Resent, Net: e.Net,
		Detail: e.Detail, User: e.User,
	})
	if err != nil {
		return Staged{}, err
	}
	staged, err := o.deps.Pickup.Stage(e.Message, m)
	return Staged{staged, failures}, err
}

// Write makes the next Flush write the message of an entry that a transaction has added. So a
// message about a change need not be staged, and its transaction is never undone.
func (o *Outbox) Write(e Entry) { o.add(work{write: []Entry{e}}) }

// Published makes the next Flush sync and acknowledge a message that was published, or write it again
// if a sync has failed since it was staged.
func (o *Outbox) Published(r Ref, m Staged) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if m.failures == o.failures {
		o.todo.published = append(o.todo.published, r)
	} else {
		o.todo.doubtful = append(o.todo.doubtful, r)
	}
}

// Recheck makes a later Flush write a message that was not published, if its entry then exists.
func (o *Outbox) Recheck(r Ref) { o.add(work{unpublished: []Ref{r}}) }

// Undo undoes a transaction whose message could not be published. If that fails too, it returns the
// error, and Flush tries again until it succeeds.
func (o *Outbox) Undo(ctx context.Context, undo func(context.Context) error) error {
	err := undo(ctx)
	if err != nil {
		o.deps.Log.ErrorContext(ctx, "undo failed, will be retried", "err", err)
		o.UndoLater(undo)
	}
	return err
}

// UndoLater makes Flush undo a transaction that may or may not have been committed.
func (o *Outbox) UndoLater(undo func(context.Context) error) {
	o.add(work{undo: []func(context.Context) error{undo}})
}

func (o *Outbox) add(w work) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.todo.published = append(o.todo.published, w.published...)
	o.todo.doubtful = append(o.todo.doubtful, w.doubtful...)
	o.todo.unpublished = append(o.todo.unpublished, w.unpublished...)
	o.todo.write = append(o.todo.write, w.write...)
	o.todo.rewrite = append(o.todo.rewrite, w.rewrite...)
	o.todo.undo = append(o.todo.undo, w.undo...)
}

func (o *Outbox) take() work {
	o.mu.Lock()
	defer o.mu.Unlock()
	w := o.todo
	o.todo = work{}
	return w
}

// Recover makes Flush write again every message whose entry an earlier run left behind. It must
// be called once, before the first message is staged.
func (o *Outbox) Recover(ctx context.Context) error {
	entries, err := o.deps.Store.Pending(ctx)
	if err != nil {
		return fmt.Errorf("read the outbox: %w", err)
	}
	o.add(work{rewrite: entries})
	return nil
}

// TakeOver renews this node's lease and makes Flush write the messages of nodes that have died,
// and those of commands. A message has the same name and Message-ID on every node. TakeOver
// must be called about every ten seconds.
func (o *Outbox) TakeOver(ctx context.Context) error {
	entries, err := o.deps.Store.TakeOver(ctx)
	var w work
	for _, e := range entries {
		if e.Unowned {
			w.write = append(w.write, e)
		} else {
			w.rewrite = append(w.rewrite, e)
		}
	}
	if len(w.rewrite) > 0 {
		o.deps.Log.InfoContext(ctx, "outbox of a dead node taken over", "messages", len(w.rewrite))
	}
	o.add(w)
	return err
}
