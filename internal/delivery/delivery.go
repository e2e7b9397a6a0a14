// Package delivery sends activation messages through an SMTP relay and keeps track of each of them.
// It runs only if the server has a relay (mail.relay). Without one, the server's work ends with the
// file in the pickup directory, and nothing in this package touches a file.
//
//	waiting --> sent
//	   |  ^
//	   v  | retry
//	deferred --> failed: the file is in badmail/, with a text file that says why
//	   |
//	   +--operator discards, file is gone, or newer message is enqueued--> discarded
//
// A newer message also discards one that has failed.
//
// # Guarantees
//
// No crash loses a message. Without a crash, no message is sent twice. After a crash a message
// can be sent twice, with the same Message-ID.
//
// # State
//
// The file in the pickup directory is the message. The row in the store is its state. The
// transaction that removes the outbox row adds the delivery row (see the outbox's Enqueue), so
// after a crash a message is either written again or on its way to the relay, never both. The row
// belongs to the account and is deleted with it.
//
// A message is sent from its file, to the recipient in the file's header. When the relay has
// accepted it, that is first recorded durably, and then the file is removed. So there are two
// windows for a crash:
//
//	accepted, not yet recorded     it is sent again, with the same Message-ID
//	recorded, file still there     the file is removed at the next start (Queue.Tidy)
//
// # Failures and back-off
//
// A refusal concerns either one message or the relay and our configuration. classify separates
// the two, so that one does not delay the other.
//
//   - The relay cannot be reached, has no TLS, rejects the login, or closes (421): no message
//     is at fault. All messages wait for a pause, which starts at one second and doubles up to
//     five minutes. Then one message is tried.
//   - The relay refuses the recipient or the content permanently (5xx): the message has failed.
//   - The relay refuses the sender (5xx to MAIL, authentication, policy): the configuration is at
//     fault. The message is deferred.
//   - Anything else, including a connection that breaks: the message is deferred with
//     exponential back-off from one minute to four hours, including up to a fifth of jitter. It
//     fails after three days, or when its link expires.
//
// If ten messages in a row are deferred and none is accepted, the relay is treated as unreachable.
// So one bad message blocks nobody, and a relay that accepts nothing is not flooded.
//
// No single recipient domain can use all connections, so a slow one leaves a connection for the others.
package delivery

import (
	"context"
	"errors"
	"strings"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/mailmsg"
	"dialtone/internal/secret"
)

// State is the state of a message.
type State string

// The states.
const (
	Waiting   State = "waiting"
	Deferred  State = "deferred"
	Sent      State = "sent"
	Failed    State = "failed"
	Discarded State = "discarded"
	// Written means that a server without a relay wrote the message to the pickup directory,
	// where a mail server takes it over. What happens to it then is unknown.
	Written State = "written"
)

// Open reports whether the message may still be sent.
func (s State) Open() bool { return s == Waiting || s == Deferred }

// Delivery is the state of one message.
type Delivery struct {
	Message mailmsg.ID
	Account account.UID
	Tenant  int64
	User    string
	// Email is where the message goes. Its own header has the same address.
	Email string
	// Node is the server whose pickup directory contains the file. It is empty if there is only one.
	Node  string
	State State
	// Since is when the message began to wait, Expires when its link expires.
	Since, Expires time.Time
	// Due is the time of the next attempt, or zero if there is none.
	Due      time.Time
	Attempts int
	// Answer is the relay's last answer, or the reason why the message is not being sent. The
	// reason is followed by LastAnswer and the relay's last answer, if there was one.
	Answer string
	// Kind is the kind of the message, as account.KindName returns it. It is empty for messages
	// that an older version enqueued.
	Kind string
	// Ended is when the message was sent, failed, was discarded or was replaced. It is zero if
	// that has not happened or is unknown.
	Ended time.Time
}

// LastAnswer separates the reason why a message is not being sent from the relay's last answer.
const LastAnswer = "; last answer: "

// Replaced is shown to people instead of Discarded for a message that a newer one has replaced.
const Replaced State = "replaced"

// Shown returns the state as people see it: State, or Replaced.
func (d Delivery) Shown() State {
	if d.Replaced() {
		return Replaced
	}
	return d.State
}

// Replaced reports whether a newer message has replaced this one, whose link no longer works.
func (d Delivery) Replaced() bool {
	why, _, _ := strings.Cut(d.Answer, LastAnswer)
	return d.State == Discarded && why == account.ErrReplaced.Error()
}

// Store stores deliveries. Each method is one transaction: it takes effect completely or not at all,
// it is durable when it returns, and any process may call it at any time. Deliveries are deleted
// with their account. Package conformance tests these rules.
type Store interface {
	// LinkHash is account.LinkHasher.LinkHash.
	LinkHash(secret.Token) [32]byte

	// DueMessages returns about limit deliveries of this node that are due now, the longest due
	// first, starting after a position. It skips addresses in the domains that without lists.
	// next is the position to continue from; it is zero at the end.
	DueMessages(ctx context.Context, now time.Time, after Position, without []string, limit int) (
		list []Delivery, next Position, err error)

	// Record stores State, Due, Attempts, Answer and Ended. Sent is final. A message that was
	// discarded or has failed in the meantime can only become sent. It ignores deliveries that
	// no longer exist.
	Record(ctx context.Context, list []Delivery) error

	// Classify looks up messages, at most 500, whose files are in this node's directory. It returns
	// those with a delivery, and the IDs of those that still have an outbox row.
	Classify(ctx context.Context, messages []mailmsg.ID) (list []Delivery, inOutbox []mailmsg.ID, err error)

	// ClaimFiles sets messages whose files are in this node's directory to Waiting. A message
	// of another node becomes this node's. So does one that is Written. A message without a
	// delivery gets one for the account whose activation token has the hash. It returns the IDs
	// of messages that belong to no such account.
	ClaimFiles(ctx context.Context, found []FoundFile, now time.Time) (unclaimed []mailmsg.ID, err error)

	// EachDelivery calls f for every delivery of any node in one of the states, in order of Since,
	// until f fails.
	EachDelivery(ctx context.Context, states []State, f func(Delivery) error) error

	// Delivery returns a message's delivery, OfAccount that of the account's newest message.
	// They fail with fault.NotFound. So does OfAccount while a newer message was created but is
	// not enqueued yet, because the state of the older one no longer matters.
	Delivery(ctx context.Context, message mailmsg.ID) (Delivery, error)
	OfAccount(ctx context.Context, tenant int64, uid account.UID) (Delivery, error)

	// Retry makes a message that is waiting, deferred or failed due now, and resets its attempts. It fails
	// with fault.NotFound, and with fault.Conflict if the message was sent, written, discarded, has expired,
	// or was replaced by a newer one. RetryAll does this for every deferred or failed message that can be
	// retried, and returns their number.
	Retry(ctx context.Context, message mailmsg.ID, now time.Time) (Delivery, error)
	RetryAll(ctx context.Context, now time.Time) (int64, error)

	// Discard ends a message that was not sent. Its node removes the file. It does not change
	// one that was already discarded or replaced. It fails with fault.NotFound, and with
	// fault.Conflict if the message was sent or written.
	Discard(ctx context.Context, message mailmsg.ID, why string, now time.Time) (Delivery, error)

	// Backlog returns how many of this node's messages are still to be sent.
	Backlog(ctx context.Context) (Backlog, error)
}

// Position is a position in the order of due messages. Zero is before the first.
type Position struct {
	Due     time.Time
	Message mailmsg.ID
}

// FoundFile is a message whose file is in the directory.
type FoundFile struct {
	Message mailmsg.ID
	// Token is the hash of the activation token in the message's link, or zero if it has none.
	Token [32]byte
}

// Backlog is what is still to be sent.
type Backlog struct {
	Waiting, Deferred int64
	Oldest            time.Time // zero if there are none
}

// ErrNoFile is returned for a message that has no file.
var ErrNoFile = errors.New("the message has no file")

// Files are the message files of one server: in its pickup directory, and in badmail/ next to it.
type Files interface {
	// Message returns the bytes of a message. A message in badmail/ is moved back first. It fails
	// with ErrNoFile.
	Message(id mailmsg.ID) ([]byte, error)
	// Remove removes a message, even from badmail/. It ignores a message without a file.
	Remove(id mailmsg.ID) error
	// MoveToBadmail moves a message to badmail/, durably, with a text file that says why. It
	// ignores a message that is already there or has no file.
	MoveToBadmail(id mailmsg.ID, why string) error
	// EachPickup calls f with the messages in the pickup directory, a few hundred at a time,
	// until f fails. EachBadmail does the same for badmail/.
	EachPickup(f func([]mailmsg.ID) error) error
	EachBadmail(f func([]mailmsg.ID) error) error
	// Token returns the token in a message's link. It fails if the message has no link.
	Token(id mailmsg.ID) (secret.Token, error)
}

// Relay is the SMTP server that messages are handed to. It is safe for concurrent use.
type Relay interface {
	// Send hands one message over and returns the relay's answer. It fails with a *Refusal.
	Send(ctx context.Context, from, to string, message []byte) (answer string, err error)
}

// Signer adds a DKIM signature to a tenant's message. It returns the message unchanged if the
// tenant has no key.
type Signer interface {
	Sign(ctx context.Context, tenant int64, message []byte) ([]byte, error)
}

// Step is a step of an SMTP session.
type Step int

// The steps, in order (RFC 5321 section 3).
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

// Refusal is a relay's negative answer, or the lack of an answer.
type Refusal struct {
	At Step
	// Code and Text are the relay's answer (RFC 5321 section 4.2). Code is 0 if there was no
	// answer: no connection, a broken one, or a timeout. Then Text tells which.
	Code int
	Text string
}

func (r *Refusal) Error() string { return r.At.String() + ": " + r.answer() }
