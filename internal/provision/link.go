package provision

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/fault"
	"dialtone/internal/secret"
	"dialtone/internal/tenant"
)

// LinkLife is how long a link may be opened.
const LinkLife = 15 * time.Minute

const (
	version = 1
	signed  = 1 + 16 + 16 + 8 + 8
	cut     = 16
)

// Store keeps the ids of links that were used.
type Store interface {
	// Spend notes an id until expires and reports whether it was the first to do so. Of any number of concurrent calls one is.
	Spend(ctx context.Context, tenant int64, id [16]byte, expires time.Time) (first bool, err error)
}

// Accounts finds the account of a link.
type Accounts interface {
	// FindUID fails with fault.NotFound where there is no such account, or no more.
	FindUID(ctx context.Context, tenant int64, uid account.UID, now time.Time) (account.Account, error)
}

// Tickets are the tokens of links under one state of the signing keys.
type Tickets struct {
	mac *secret.MAC
	now func() time.Time
}

// NewTickets uses the keys of the ring.
func NewTickets(r *secret.Ring, now func() time.Time) *Tickets {
	return &Tickets{secret.NewMAC(r, "provisioning link"), now}
}

func (t *Tickets) issue(a account.Account, f Format) string {
	b := make([]byte, signed, signed+cut)
	b[0] = version
	rand.Read(b[1:17])
	copy(b[17:33], a.UID[:])
	binary.BigEndian.PutUint64(b[33:], uint64(a.Epoch))
	binary.BigEndian.PutUint64(b[41:], uint64(t.now().Unix()))
	sum := t.mac.Sum(tenantBytes(a.Tenant), []byte(f), b)
	return base64.RawURLEncoding.EncodeToString(append(b, sum[:cut]...))
}

func tenantBytes(id int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(id)) }

type ticket struct {
	id      [16]byte
	uid     account.UID
	epoch   int64
	expires time.Time
}

// read is the ticket of a token that is ours for this tenant and format, whatever its age.
func (t *Tickets) read(tenant int64, f Format, token string) (ticket, bool) {
	b, ok := secret.DecodeText(token)
	if !ok || len(b) != signed+cut || b[0] != version || !t.mac.Verify(b[signed:], tenantBytes(tenant), []byte(f), b[:signed]) {
		return ticket{}, false
	}
	return ticket{
		id: [16]byte(b[1:17]), uid: account.UID(b[17:33]), epoch: int64(binary.BigEndian.Uint64(b[33:])),
		expires: time.Unix(int64(binary.BigEndian.Uint64(b[41:])), 0).Add(LinkLife),
	}, true
}

// ErrGone is every link that gives nothing, whatever the reason.
var ErrGone = fault.New(fault.NotFound, "this link works once and for 15 minutes, and no more; make a new one on your account page")

// Links makes links and opens them. It is safe for concurrent use.
type Links struct {
	Accounts Accounts
	Store    Store
	// Tickets signs under the present signing keys.
	Tickets func() *Tickets
	Audit   audit.Log
	Now     func() time.Time
}

// Make is the token of a new link for a person who is signed in.
func (l *Links) Make(ctx context.Context, t *tenant.Tenant, a account.Account, f Format, from account.Origin) (token string) {
	l.record(ctx, audit.ProvisionLink, t, a.User, from, "ok")
	return l.Tickets().issue(a, f)
}

// Open spends a link and gives the file. Of any number of concurrent calls one succeeds; it and every other link that is worth
// nothing fails with ErrGone.
func (l *Links) Open(ctx context.Context, t *tenant.Tenant, f Format, token string, from account.Origin) (File, error) {
	file, user, outcome, err := l.open(ctx, t, f, token)
	l.record(ctx, audit.ProvisionFile, t, user, from, outcome)
	return file, err
}

func (l *Links) open(ctx context.Context, t *tenant.Tenant, f Format, token string) (file File, user, outcome string, err error) {
	k, ok := l.Tickets().read(t.ID, f, token)
	if !ok {
		return File{}, "", "not_found", ErrGone
	}
	if !l.Now().Before(k.expires) {
		return File{}, "", "expired", ErrGone
	}
	a, err := l.Accounts.FindUID(ctx, t.ID, k.uid, l.Now())
	if fault.Is(err, fault.NotFound) || err == nil && (a.Disabled || a.Epoch != k.epoch) {
		return File{}, a.User, "not_found", ErrGone
	} else if err != nil {
		return File{}, "", "server_error", err
	}
	if file, err = New(t, a).In(f); err != nil {
		return File{}, a.User, "refused", err
	}
	// Kept longer than it is good for, for servers whose clocks differ.
	first, err := l.Store.Spend(ctx, t.ID, k.id, k.expires.Add(time.Minute))
	switch {
	case err != nil:
		return File{}, a.User, "server_error", err
	case !first:
		return File{}, a.User, "used", ErrGone
	}
	return file, a.User, "ok", nil
}

func (l *Links) record(ctx context.Context, action audit.Action, t *tenant.Tenant, user string, from account.Origin, outcome string) {
	l.Audit.Record(ctx, audit.Event{Action: action, Outcome: outcome, Tenant: t.Host, User: user, Peer: from.Addr, Request: from.Request})
}
