// Package delivery is what becomes of a message once its file is on the disk: it waits, is sent by way of a relay, is put off, or
// fails.
//
//	waiting --> sent
//	   |  ^
//	   v  | retry
//	deferred --> failed: the file is in badmail/, beside a text that says why
//	   |
//	   +--operator discards, the file is gone, or a newer message is handed over--> discarded
//
// It is at work only where the server has a relay: the SMTP server that takes its messages. Without one the pickup directory is
// where the program ends, and nothing of this package touches a file.
//
// # What is kept where
//
// The file in the pickup directory is the message, and the row in the store is its state. The row is made by the transaction that
// removes the outbox row (account.Store.Hand), so a message is either still to be written again after a crash, or on its way to the
// relay, and never both: what was sent is not published anew. The row belongs to the account and goes with it.
//
// A message is sent from its file and by its file's header. When the relay has taken it, that is recorded, durably, and only then the
// file is removed. So there are two moments at which a crash shows:
//
//	the relay took it, and it is not recorded     it is sent again, with the same Message-ID
//	it is recorded, and the file is there still   the file is removed at the next start (Queue.Tidy)
//
// No crash loses a message. One that nobody stopped sends none twice.
//
// # Whose fault it is
//
// What a relay answers is either about the message or about us, and the two are told apart (judge), since the one must not make the
// other wait.
//
//   - The relay cannot be reached, has no TLS, does not let us in, or says that it closes (421): nothing is wrong with any message.
//     All wait, for a second first and twice as long each time, five minutes at most; then one is tried.
//   - It refuses recipient or content for good (5xx): the message has failed.
//   - It refuses the sender, or us (5xx to MAIL, authentication and policy): a matter of configuration, which may be mended. The message
//     is put off.
//   - Anything else, a connection that breaks in the middle too: the message is put off, for a minute first, twice as long each
//     time, four hours at most, and all by chance a little longer. After three days, or when its link is worth nothing, it has failed.
//
// Where ten messages in a row are put off and none is taken, the relay is treated as one that cannot be reached: so one poisoned message
// stops nobody, and a relay that takes nothing is not stormed.
//
// No domain of recipients gets all connections: where one is slow, others get through.
package delivery

import (
	"bytes"
	"context"
	"errors"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/mailmsg"
)

// State is what became of a message.
type State string

// The states.
const (
	Waiting   State = "waiting"
	Deferred  State = "deferred"
	Sent      State = "sent"
	Failed    State = "failed"
	Discarded State = "discarded"
)

// Open reports whether the message may still be sent.
func (s State) Open() bool { return s == Waiting || s == Deferred }

// Delivery is one message's state.
type Delivery struct {
	Message mailmsg.ID
	Account account.UID
	Tenant  int64
	// User and Email are the account's as they are now. The message goes where its own header says.
	User, Email string
	// Node is the server whose pickup directory has the file; empty where there is but one.
	Node  string
	State State
	// Since is when it began to wait, Expires when its link is worth nothing.
	Since, Expires time.Time
	// Due is when something is to be done about it: when it is tried next. Zero where nothing is.
	Due      time.Time
	Attempts int
	// Answer is what the relay said last, or why the message is not on its way.
	Answer string
}

// Store keeps deliveries. Every method is one transaction: it happens whole or not at all, it is durable when it returns, and any
// process may call it at any time. What is made for an account goes with it. Package storetest states these rules as tests.
type Store interface {
	// DueMessages are about limit deliveries of this node for which something is to be done by now, the longest due first, from behind a
	// place on. Those of accounts whose address is in one of the domains are left out. next is the place to go on from; it is zero
	// where there is nothing behind.
	DueMessages(ctx context.Context, now time.Time, behind Place, without []string, limit int) (list []Delivery, next Place, err error)

	// Record notes State, Due, Attempts and Answer. What has been sent is that for good; what was discarded or has failed meanwhile
	// becomes sent, and nothing else. A delivery that is gone does not matter.
	Record(ctx context.Context, list []Delivery) error

	// Look tells of messages whose files lie in this node's directory, at most 500: those that have a delivery, and those for which
	// there is an outbox row still (unsettled).
	Look(ctx context.Context, messages []mailmsg.ID) (list []Delivery, unsettled []mailmsg.ID, err error)

	// ClaimFiles makes messages wait whose files lie in this node's directory: one of another node becomes this one's, and one without
	// a delivery gets one for the account whose activation token has the hash. Those of no such account it returns.
	ClaimFiles(ctx context.Context, found []Found, now time.Time) (strangers []mailmsg.ID, err error)

	// EachDelivery calls f for every delivery of any node that is in one of the states, in order of Since, until f fails.
	EachDelivery(ctx context.Context, states []State, f func(Delivery) error) error

	// Delivery is that of a message, OfAccount that of the account's newest. They fail with fault.NotFound; for an account also while a
	// newer message was made and is not yet handed over, since what became of the older one matters to nobody then.
	Delivery(ctx context.Context, message mailmsg.ID) (Delivery, error)
	OfAccount(ctx context.Context, tenant int64, uid account.UID) (Delivery, error)

	// Retry makes a message that waits, was put off or has failed due now, as if it had just come. It fails with fault.NotFound, and
	// with fault.Conflict for one that was sent, discarded, has expired, or was replaced by a newer one. RetryAll does it for all that
	// were put off or have failed and could be retried, and says how many there were.
	Retry(ctx context.Context, message mailmsg.ID, now time.Time) (Delivery, error)
	RetryAll(ctx context.Context, now time.Time) (int64, error)

	// Discard ends a message that was not sent; its node removes the file. It fails with fault.NotFound, and with fault.Conflict for
	// one that was sent.
	Discard(ctx context.Context, message mailmsg.ID, why string, now time.Time) (Delivery, error)

	// Backlog is how many of this node's messages are to be sent, and since when the oldest of them waits.
	Backlog(ctx context.Context) (Backlog, error)
}

// Place is one in the order of what is due; zero is before the first.
type Place struct {
	Due     time.Time
	Message mailmsg.ID
}

// Before reports whether a place comes before another.
func (p Place) Before(other Place) bool {
	return p.Due.Before(other.Due) || p.Due.Equal(other.Due) && bytes.Compare(p.Message[:], other.Message[:]) < 0
}

// Found is a message whose file lies in the directory.
type Found struct {
	Message mailmsg.ID
	// Token is the hash of the activation token in its link; zero where it has none.
	Token [32]byte
}

// Backlog is what is still to be sent.
type Backlog struct {
	Waiting, Deferred int64
	Oldest            time.Time // zero where there is nothing
}

// ErrNoFile is a message that has no file.
var ErrNoFile = errors.New("there is no file of this message")

// Box has the files. Its directory is drained by one server.
type Box interface {
	// Message is the bytes of a message; one that lies in badmail/ is brought back first. It fails with ErrNoFile.
	Message(id mailmsg.ID) ([]byte, error)
	// Remove removes a message, from badmail/ too. One that is gone does not matter.
	Remove(id mailmsg.ID) error
	// Condemn moves a message to badmail/, durably, with a text that says why. One that is there already, or gone, does not matter.
	Condemn(id mailmsg.ID, why string) error
	// Files calls f with the messages in the directory, some hundred at a time, and Condemned with those in badmail/, until f fails.
	Files(f func([]mailmsg.ID) error) error
	Condemned(f func([]mailmsg.ID) error) error
	// Link is the hash of the activation token in a message's link. It fails where there is none.
	Link(id mailmsg.ID) ([32]byte, error)
}

// Relay is the SMTP server that takes messages. It is safe for concurrent use.
type Relay interface {
	// Send hands one message over and returns what the relay answered. It fails with a *Refusal.
	Send(ctx context.Context, from, to string, message []byte) (answer string, err error)
}

// Signer puts a signature before a message of a tenant, or leaves the message as it is.
type Signer interface {
	Sign(ctx context.Context, tenant int64, message []byte) ([]byte, error)
}

// Step is how far the talk with a relay had come.
type Step int

// The steps, in order (RFC 5321 §3).
const (
	Connecting Step = iota // TCP, TLS, greeting, EHLO
	LoggingIn              // AUTH
	Mail
	Rcpt
	Data // the command, the content and the final dot
)

func (s Step) String() string {
	return [...]string{"connecting", "logging in", "MAIL", "RCPT", "DATA"}[s]
}

// Refusal is any answer of a relay but yes, or none.
type Refusal struct {
	At Step
	// Code and Text are the answer's (RFC 5321 §4.2). The code is 0 where there was none: no connection, or a broken one, or no answer
	// in time; then the text says which.
	Code int
	Text string
}

func (r *Refusal) Error() string { return r.At.String() + ": " + r.answer() }
