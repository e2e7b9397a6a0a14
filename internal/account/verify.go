package account

import (
	"context"
	"fmt"

	"dialtone/internal/mailmsg"
	"dialtone/internal/outbox"
	"dialtone/internal/secret"
)

// Inspector is a store that can be checked.
type Inspector interface {
	LinkHasher
	// Consistent reports every fault in the database's own structures: pages, indexes, references.
	Consistent(ctx context.Context, report func(string)) error
	// CompareExport reports every difference between the tables exported for SIP servers and the
	// accounts. It may first bring the tables up to date.
	CompareExport(ctx context.Context, report func(string)) error
	// Each calls f for every account of every tenant, including expired and closed ones. The token
	// is the hash of the activation token, or empty.
	Each(ctx context.Context, f func(a Account, token []byte, closed bool) error) error
	// EachLink calls f for every link that is not the activation link of an account, with the hash of its
	// token. Some are activation links that were replaced.
	EachLink(ctx context.Context, f func(token []byte, user string) error) error
	// EachApp calls f for every authenticator app, finished or not, with its account.
	EachApp(ctx context.Context, f func(Account, App) error) error
	// EachPasskey calls f for every passkey, with its account.
	EachPasskey(ctx context.Context, f func(Account, Passkey) error) error
	// Binding returns how far the credentials are bound to their user names.
	Binding(ctx context.Context) (Binding, error)
	// Pending returns the outbox entries.
	Pending(ctx context.Context) ([]outbox.Entry, error)
}

// MessageReader reads the messages of a pickup directory.
type MessageReader interface {
	// Each calls f with the decoded text of every published message, or with the reason why a file
	// cannot be read as one.
	Each(f func(file, text string, err error)) error
}

// Report is what Verify found.
type Report struct {
	Accounts int `json:"accounts"`
	Active   int `json:"active"`
	Waiting  int `json:"waiting"`
	Messages int `json:"messages"`
	// Faults mean that something was lost, changed or mixed up.
	Faults []string `json:"faults"`
	// Notes are harmless, or will be repaired by the server.
	Notes []string `json:"notes"`
}

// verifier checks one data directory.
type verifier struct {
	Report
	ring    *secret.Ring
	binding Binding
	old     int // credentials in the older form
	hash    func(secret.Token) [32]byte
	// owners are the users by the hash of the token of their links.
	owners map[[32]byte]string
}

// Verify checks that everything in a data directory is consistent: the structures of the database,
// every sealed value, every outbox entry, every message in the pickup directory. It changes
// nothing.
func Verify(
	ctx context.Context, store Inspector, messages MessageReader, ring *secret.Ring,
) (Report, error) {
	v := verifier{
		Report: Report{Faults: []string{}, Notes: []string{}},
		ring:   ring, hash: store.LinkHash, owners: make(map[[32]byte]string),
	}
	err := store.Consistent(ctx, func(text string) { v.fault("database: %s", text) })
	if err != nil {
		return v.Report, err
	}
	err = store.CompareExport(ctx, func(text string) { v.fault("exported tables: %s", text) })
	if err != nil {
		return v.Report, err
	}
	if v.binding, err = store.Binding(ctx); err != nil {
		return v.Report, err
	}
	sealer := NewSealer(ring)
	err = store.Each(ctx, func(a Account, token []byte, closed bool) error {
		if !closed {
			v.account(a, token, sealer)
		}
		return nil
	})
	if err != nil {
		return v.Report, err
	}
	err = store.EachLink(ctx, func(token []byte, user string) error {
		if len(token) != len(secret.Token{}) {
			v.fault("account %s: a link without a token", user)
			return nil
		}
		v.owners[[32]byte(token)] = user
		return nil
	})
	if err != nil {
		return v.Report, err
	}
	if err := v.factors(ctx, store); err != nil {
		return v.Report, err
	}
	if v.old > 0 {
		v.note("credentials that are not bound to their user names: %d; exchanged names would not be found; "+
			"run dialtone keys bind", v.old)
	}
	entries, err := store.Pending(ctx)
	if err != nil {
		return v.Report, err
	}
	v.outbox(entries)
	err = messages.Each(v.message)
	return v.Report, err
}

func (v *verifier) fault(format string, args ...any) {
	v.Faults = append(v.Faults, fmt.Sprintf(format, args...))
}

func (v *verifier) note(format string, args ...any) {
	v.Notes = append(v.Notes, fmt.Sprintf(format, args...))
}

func (v *verifier) account(a Account, token []byte, sealer Sealer) {
	v.Accounts++
	if !a.Pending() {
		v.Active++
	}
	c, old, err := sealer.open(a)
	switch {
	case err != nil:
		v.fault("account %s: %v", a.User, err)
	case old && v.binding == Bound:
		v.fault("account %s: its credential is not bound to its user name, though all have been; "+
			"the row may be an old one with another name", a.User)
	case (c.SHA256 != nil) != a.HasSHA256:
		v.fault("account %s: the row is wrong about having a SHA-256 digest", a.User)
	}
	if old && v.binding != Bound {
		v.old++
	}
	if a.Pending() && !a.Confirmed.IsZero() {
		v.fault("account %s: confirmed but not active", a.User)
	}
	if a.Pending() && len(token) != len(secret.Token{}) {
		v.fault("account %s: pending without a link", a.User)
	}
	if len(token) == len(secret.Token{}) {
		v.owners[[32]byte(token)] = a.User
	}
}

// factors checks the sealed values of second factors.
func (v *verifier) factors(ctx context.Context, store Inspector) error {
	apps, passkeys := newAppSecrets(v.ring), newPasskeyVault(v.ring)
	err := store.EachApp(ctx, func(a Account, app App) error {
		if _, err := openApp(apps, a, app); err != nil {
			v.fault("account %s: its authenticator app: %v", a.User, err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return store.EachPasskey(ctx, func(a Account, k Passkey) error {
		if _, err := openPasskey(passkeys, a.Tenant, k); err != nil {
			v.fault("account %s: its passkey %q: %v", a.User, k.Name, err)
		}
		return nil
	})
}

func (v *verifier) outbox(entries []outbox.Entry) {
	open := outbox.Opener(v.ring)
	for _, e := range entries {
		if e.Replaced {
			continue
		}
		v.Waiting++
		token, err := open(e)
		if err != nil {
			v.fault("outbox: message %s cannot be written again: %v", e.Message, err)
			continue
		}
		owner, known := v.owners[v.hash(token)]
		if owner != e.User && (known || e.Kind == mailmsg.Activation) { // other links are removed when they are used
			v.fault("outbox: the link of message %s is not that of account %s", e.Message, e.User)
		}
	}
}

func (v *verifier) message(file, text string, err error) {
	v.Messages++
	if err != nil {
		v.fault("message %s: %v", file, err)
		return
	}
	token, ok := mailmsg.Token(text)
	if !ok {
		v.fault("message %s: there is no link in it", file)
	} else if _, known := v.owners[v.hash(token)]; !known {
		v.note("message %s: its link is no longer valid (the account expired or was deleted, "+
			"or a newer message has replaced it)", file)
	}
}
