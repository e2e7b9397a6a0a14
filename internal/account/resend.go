package account

import (
	"context"
	"crypto/rand"
	"errors"
	"time"

	"dialtone/internal/audit"
	"dialtone/internal/fault"
	"dialtone/internal/mailmsg"
	"dialtone/internal/secret"
	"dialtone/internal/tenant"
	"dialtone/internal/throttle"
)

// Resending is a new link for a pending account, with everything that its transaction checks and takes.
type LinkReplacement struct {
	// Account is the account with the address that it has from then on. Was is the one that it had when it was looked at.
	Account Account
	Was     string
	// Token, Message and SealedToken are as in Admission. Made is when the message was made.
	Token       [32]byte
	Message     mailmsg.ID
	SealedToken []byte
	Made        time.Time
	Places      []throttle.Allowance
	// CheckOnly goes through every check and writes nothing, as in Admission.
	CheckOnly bool
}

// ErrMended is a Resend for an account whose address was changed since it was looked at.
var ErrAddressChanged = &fault.Error{
	Kind: fault.Overloaded, Message: "the account's address was changed at this moment; nothing was sent, ask again", RetryAfter: time.Second,
}

// ErrResends is the limit on messages for one account, with the time to wait.
func ErrResends(wait time.Duration) error {
	return fault.Limit(wait, "the message was sent as often as it is in a day; look for it in the spam folder, or wait")
}

// Resend sends a pending account's message once more, with a new link, and to another address where email is not empty: the
// account has that address from then on. Who asks has proved the account's password. What was promised of a signup holds:
// without an error the message is there and stays through a crash, and otherwise the link and the address before count as if
// nothing had been asked. It gives the account back as it is then. It fails with fault.Invalid, fault.Limited, and the errors of
// Store.Resend.
func (d *Service) Resend(ctx context.Context, t *tenant.Tenant, a Account, email string, from Origin) (Account, error) {
	r := LinkReplacement{Account: a, Was: a.Email}
	var err error
	if email != "" {
		r.Account.Email, err = CleanEmail(email)
	}
	if err == nil {
		// From here on the work goes on when the client hangs up: it ends whole, or it is undone.
		err = d.resend(context.WithoutCancel(ctx), t, r, d.Now())
	}
	d.record(ctx, audit.Resend, t, r.Account, from, err)
	return r.Account, err
}

func (d *Service) resend(ctx context.Context, t *tenant.Tenant, r LinkReplacement, now time.Time) error {
	token := secret.NewToken()
	rand.Read(r.Message[:])
	r.Token = token.Hash()
	r.SealedToken = d.tokens.Seal(t.ID, r.Message[:], token[:])
	// The store keeps microseconds, and the message must come out the same after a restart.
	r.Made = now.UTC().Truncate(time.Microsecond)
	r.Places = []throttle.Allowance{
		{Bucket: d.buckets.Of("resend", t.ID, r.Account.UID.String()), Rule: throttle.ResendsPerAccount},
		d.recipient(t, r.Account.Email),
	}
	draft, err := d.stage(t, r.Account, r.Message, token, r.Made)
	if err != nil {
		r.CheckOnly = true
		return errors.Join(d.Store.Resend(ctx, r, now), err)
	}
	if err := d.Store.Resend(ctx, r, now); err != nil {
		draft.Discard()
		if errors.Is(err, ErrUnknown) {
			d.outbox.add(chores{undoResend: []LinkReplacement{r}})
		}
		return err
	}
	if err := draft.Publish(); err != nil {
		return errors.Join(err, d.undoResend(ctx, r))
	}
	d.outbox.published(OutboxRef{t.ID, r.Account.UID, r.Message})
	return nil
}

// recipient is the place that a message takes for where it goes.
func (d *Service) recipient(t *tenant.Tenant, email string) throttle.Allowance {
	return throttle.Allowance{Bucket: d.buckets.Of("message", t.ID, RecipientKey(email)), Rule: throttle.MessagesPerRecipient}
}

// undoResend takes a new link back whose message could not be published. Where the store fails too, Tend tries again.
// It returns ErrUnknown if the store has failed in such a way that the new link may stay.
func (d *Service) undoResend(ctx context.Context, r LinkReplacement) error {
	err := d.takeBack(ctx, r)
	if err != nil {
		d.Log.ErrorContext(ctx, "a link whose message failed could not be taken back yet", "err", err)
		d.outbox.add(chores{undoResend: []LinkReplacement{r}})
	}
	return inDoubt(err)
}

func (d *Service) takeBack(ctx context.Context, r LinkReplacement) error {
	err := d.Store.UndoResend(ctx, r, d.Now())
	d.recordUndo(ctx, audit.UndoResend, r.Account, err)
	return err
}
