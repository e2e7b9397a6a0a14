package account

import (
	"context"
	"time"

	"dialtone/internal/fault"
	"dialtone/internal/mailmsg"
	"dialtone/internal/outbox"
	"dialtone/internal/throttle"
)

// PersonStore is for what people change of their own accounts. The transaction of a change also
// adds it to the audit trail and, with a Notice, a message to the outbox.
type PersonStore interface {
	// SetPassword replaces the credential of an active account, or, with a link, of one whose owner has
	// left: then the account becomes active again, and the notice gets the detail mailmsg.Stays. It ends all
	// sessions, forgets the device tokens, and ends every reset link that went to the account's address, and
	// every link that would set another address. With a link it uses up the link, and confirms the account
	// if the link was in a message. Exactly one of several concurrent calls with one proof or one link
	// succeeds. It fails with fault.NotFound for an account that does not exist or is not active, with
	// ErrHeld, with ErrPasswordChanged if the proof is of an older password, and with ErrLinkUsed.
	SetPassword(ctx context.Context, c PasswordChange, now time.Time) (Account, error)
}

// PasswordChange is a new password for an account.
type PasswordChange struct {
	// Account has the new Sealed and HasSHA256. Its Passwords is as it was when the password was proved.
	Account Account
	// Link is the hash of the token of a reset link that goes to the account's address. It replaces the proof.
	Link *[32]byte
	// Allowances apply to a change by proof, or by a link in a message. If one is used up, the
	// change fails with fault.Limited. A link without a message uses none: it was made by an
	// operator, or was counted when it was made.
	Allowances []throttle.Allowance
	// First is set for the link of mailmsg.SetPassword: the account may be waiting, and is
	// active and confirmed afterwards. No message about the change is sent.
	First bool
	Notice
}

// Notice is a message about a change, with its link. The transaction of the change adds it.
type Notice struct {
	Kind    mailmsg.Kind
	Message mailmsg.ID
	// Token is the hash of the link's token, and SealedToken the token as an outbox entry contains it.
	Token       [32]byte
	SealedToken []byte
	// Made is when the message was made, and Until when the link expires.
	Made, Until time.Time
	// Net is the network that the change came from. Detail is the Detail of a mailmsg.Link.
	Net, Detail string
}

// Errors of a PersonStore.
var (
	// ErrPasswordChanged means that a proof is of an older password, or that an authenticator
	// app was turned on since, so that the proof now needs a code.
	ErrPasswordChanged = fault.New(fault.Conflict, "the password was changed, or an authenticator app turned on, at "+
		"the same moment")
	ErrLinkUsed = fault.New(fault.NotFound, "the link was used, has expired, or a newer one has replaced it")
)

// PasswordRefusal is the error of SetPassword for the limit of changes of an account.
func PasswordRefusal(w throttle.Wait) error {
	return named(limitRule("changes.password", fault.Limit(w.For,
		"the password was changed too often today; wait before changing it again")), w)
}

// newNotice returns a message of a kind to the account's address.
func (s *Service) newNotice(a Account, kind mailmsg.Kind, life time.Duration, net string) Notice {
	link := s.deps.Outbox.NewLink(a.Tenant)
	// The store's precision is microseconds. A message that is written again must have the same times.
	made := s.deps.Now().UTC().Truncate(time.Microsecond)
	return Notice{
		Kind: kind, Message: link.Message, Token: s.deps.Store.LinkHash(link.Token), SealedToken: link.Sealed,
		Made: made, Until: made.Add(life), Net: net,
	}
}

// write passes the message of a committed change to the outbox. An account without an address gets none.
func (s *Service) write(a Account, n Notice) {
	if a.Email == "" {
		return
	}
	s.deps.Outbox.Write(outbox.Entry{
		Ref:  outbox.Ref{Tenant: a.Tenant, Account: a.UID, Message: n.Message},
		Kind: n.Kind, SealedToken: n.SealedToken, Made: n.Made, Expires: n.Until, Net: n.Net,
		Detail: n.Detail, User: a.User, Email: a.Email, Lang: a.Lang,
	})
}
