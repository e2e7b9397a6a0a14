package account

import (
	"context"
	"fmt"

	"dialtone/internal/mailmsg"
	"dialtone/internal/secret"
)

// Inspector is a store that can be looked through.
type Inspector interface {
	// Consistent tells of every fault in the database's own structures: pages, indexes, references.
	Consistent(ctx context.Context, report func(string)) error
	// CompareExport tells of everything in the directory of phone servers that is not as the accounts are. It may first do what was
	// due there.
	CompareExport(ctx context.Context, report func(string)) error
	// Each calls f for every account of every tenant, those that expired or are closed too. The token is the hash of the
	// activation token, or empty.
	Each(ctx context.Context, f func(a Account, token []byte, closed bool) error) error
	// Waiting are the outbox rows.
	PendingMessages(ctx context.Context) ([]OutboxEntry, error)
}

// Shelf is a mailbox that can be looked through.
type MessageReader interface {
	// Each calls f with the decoded text of every published message, or with why it is none.
	Each(f func(file, text string, err error)) error
}

// Report is what Verify found.
type Report struct {
	Accounts int `json:"accounts"`
	Active   int `json:"active"`
	Waiting  int `json:"waiting"`
	Messages int `json:"messages"`
	// Faults should not be: something was lost, changed or mixed up.
	Faults []string `json:"faults"`
	// Notes are states that mend themselves or do no harm.
	Notes []string `json:"notes"`
}

// Verify goes through a data folder and says what does not fit together: the database's structures, every sealed value,
// every outbox row, every message in the pickup directory. It changes nothing.
func Verify(ctx context.Context, store Inspector, shelf MessageReader, ring *secret.Ring) (Report, error) {
	r := Report{Faults: []string{}, Notes: []string{}}
	fault := func(format string, args ...any) { r.Faults = append(r.Faults, fmt.Sprintf(format, args...)) }
	note := func(format string, args ...any) { r.Notes = append(r.Notes, fmt.Sprintf(format, args...)) }

	if err := store.Consistent(ctx, func(s string) { fault("database: %s", s) }); err != nil {
		return r, err
	}
	if err := store.CompareExport(ctx, func(s string) { fault("directory of phone servers: %s", s) }); err != nil {
		return r, err
	}
	desk := Service{credentials: secret.NewVault(ring, vaultCredential), tokens: secret.NewVault(ring, vaultToken)}
	owners := make(map[[32]byte]string)
	err := store.Each(ctx, func(a Account, token []byte, closed bool) error {
		if closed {
			return nil
		}
		r.Accounts++
		if !a.Pending() {
			r.Active++
		}
		switch c, err := desk.Credential(a); {
		case err != nil:
			fault("account %s: %v", a.User, err)
		case (c.SHA256 != nil) != a.HasSHA256:
			fault("account %s: the row does not say rightly whether there is a SHA-256 digest", a.User)
		}
		if a.Pending() && !a.Confirmed.IsZero() {
			fault("account %s: it is confirmed and not active", a.User)
		}
		if a.Pending() && len(token) != len(secret.Token{}) {
			fault("account %s: it waits for a link and has none", a.User)
		}
		if len(token) == len(secret.Token{}) {
			owners[[32]byte(token)] = a.User
		}
		return nil
	})
	if err != nil {
		return r, err
	}
	waiting, err := store.PendingMessages(ctx)
	if err != nil {
		return r, err
	}
	for _, w := range waiting {
		if w.Replaced {
			continue
		}
		r.Waiting++
		token, err := desk.tokens.Open(w.Account.Tenant, w.Message[:], w.SealedToken)
		if err != nil || len(token) != len(secret.Token{}) {
			fault("outbox: the message %s cannot be written again: %v", w.Message, secret.ErrSeal)
		} else if owners[secret.Token(token).Hash()] != w.Account.User {
			fault("outbox: the link of message %s is not that of account %s", w.Message, w.Account.User)
		}
	}
	err = shelf.Each(func(file, text string, err error) {
		r.Messages++
		if err != nil {
			fault("message %s: %v", file, err)
			return
		}
		token, ok := mailmsg.Token(text)
		if !ok {
			fault("message %s: there is no link in it", file)
		} else if _, known := owners[token.Hash()]; !known {
			note("message %s: its link leads nowhere any more (the account was not activated in time or is deleted, or a newer message has replaced it)", file)
		}
	})
	return r, err
}
