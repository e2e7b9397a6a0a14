// Package session says who is signed in, until when, and how a person signs in.
//
// # Signing in
//
// Sign-in is the Digest exchange of package digest. The password is proved, never sent, and neither is its hash. A wrong
// password, an unknown name and an account that an operator disabled are one and the same answer, at the same cost: an
// unknown name is checked against a decoy. Only after the right proof is a person told that the account still waits for
// its link. The same proof, with the same counts and the same answers, is asked of whoever wants the message with the link
// once more, or wants it to go elsewhere, and of whoever confirms that a link is theirs.
//
// Wrong proofs are counted by name, known or not, and by address; past the limit further tries wait. So that nobody can
// shut a person out by guessing at their name, a browser that has signed in before carries a device token, and its
// failures are counted by themselves.
//
// # Sessions
//
// A session is a token in a cookie: who, since when, under a signature. Reading one costs no write and no session table:
// it is good for Life, while the account's epoch is the one that it was made under, so that disabling an account ends its
// sessions with the next request. Signing out revokes the one session, by its id, in the store.
//
// The token is unpadded base64url of
//
//	version (1 byte) ‖ id (16, random) ‖ uid (16) ‖ epoch (8) ‖ Unix seconds of issue (8) ‖ HMAC-SHA-256 (32)
//
// and the HMAC covers the tenant besides.
package session

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/digest"
	"dialtone/internal/fault"
	"dialtone/internal/secret"
	"dialtone/internal/tenant"
	"dialtone/internal/throttle"
)

// Life is how long a person stays signed in.
const Life = 12 * time.Hour

// DeviceLife is how long a browser counts as known.
const DeviceLife = 365 * 24 * time.Hour

// Store keeps the ids of sessions that ended before their time.
type Store interface {
	// Revoke notes an id until expires. It may be repeated.
	Revoke(ctx context.Context, tenant int64, id [16]byte, expires time.Time) error
	// Revoked reports whether the id was noted.
	Revoked(ctx context.Context, tenant int64, id [16]byte, expires time.Time) (bool, error)
	// Spend notes an id until expires and reports whether it was the first to do so. Of any number of concurrent calls one is. A
	// crash of the database may forget what was spent in the second before it.
	Spend(ctx context.Context, tenant int64, id [16]byte, expires time.Time) (first bool, err error)
}

// Door is where people sign in and out. It is safe for concurrent use.
type Authenticator struct {
	Deps
	nonces    nonces
	buckets   throttle.Buckets
	byName    *throttle.Failures
	byAddress *throttle.Failures
	decoy     digest.Credential
}

// Deps is what a Door works with.
type Deps struct {
	Accounts *account.Service
	Store    Store
	// Signatures signs sessions and device tokens under the present signing keys.
	Signatures func() *Signatures
	SealRing   *secret.Ring
	// Nodes says that other servers share the store, so that a challenge of one may be answered at another.
	Nodes bool
	Audit audit.Log
	Now   func() time.Time
}

// Signatures are the codes of session and device tokens under one state of the signing keys.
type Signatures struct{ session, device, nonce *secret.MAC }

// NewSignatures uses the keys of the ring.
func NewSignatures(r *secret.Ring) *Signatures {
	return &Signatures{secret.NewMAC(r, "session"), secret.NewMAC(r, "device"), secret.NewMAC(r, "sign-in nonce")}
}

const failureBuckets = 1 << 16

// NewDoor makes a Door.
func NewAuthenticator(d Deps) *Authenticator {
	door := &Authenticator{
		Deps:      d,
		nonces:    ownNonces{digest.NewNonces(d.Now)},
		buckets:   throttle.NewBuckets(d.SealRing),
		byName:    throttle.NewFailures(throttle.FailedSignIns, failureBuckets, d.Now),
		byAddress: throttle.NewFailures(throttle.FailedSignInsPerAddress, failureBuckets, d.Now),
	}
	if d.Nodes {
		door.nonces = sharedNonces{d.Store, d.Signatures, d.Now}
	}
	door.decoy.SHA256 = new(digest.HA1SHA256)
	rand.Read(door.decoy.HA1[:])
	rand.Read(door.decoy.SHA256[:])
	return door
}

// Challenge is what a request without an answer, or with a wrong one, is told.
func (d *Authenticator) Challenge(t *tenant.Tenant, stale bool) digest.Challenge {
	return digest.Challenge{Realm: t.Realm, Algorithm: t.Challenge(), Nonce: d.nonces.issue(t), Stale: stale}
}

// Attempt is one answer to a challenge.
type Attempt struct {
	Authorization string
	Method        string
	// URI is the request's target, as it came in.
	URI string
	// Device is the device token that came with it, or empty.
	Device string
	From   account.Origin
}

// Grant is a successful sign-in.
type Grant struct {
	Account account.Account
	Session string // for a cookie, good for Life
	Device  string // for a cookie, good for DeviceLife
}

// ErrStale is a sign-in that failed for its nonce alone; the client answers a new challenge by itself.
var ErrStale = fault.New(fault.Unauthorized, "the challenge was answered too late or twice; answer the new one")

// ErrDenied is every sign-in that did not prove an account's password.
var ErrDenied = fault.New(fault.Unauthorized, "the user name or the password is not right")

// ErrNotActivated is a proved password of an account whose link was not opened yet.
var ErrNotActivated = fault.New(fault.NotActivated, "the account is not activated yet; open the link in the message that was sent when it was made")

// SignIn checks an answer. It fails with ErrStale, ErrDenied, fault.Limited, or with ErrNotActivated: the account comes along then
// too, since its password was proved.
func (d *Authenticator) SignIn(ctx context.Context, t *tenant.Tenant, at Attempt) (Grant, error) {
	a, err := d.prove(ctx, t, at, audit.SignIn)
	if err != nil {
		return Grant{}, err
	}
	if a.Disabled {
		d.record(ctx, audit.SignIn, t, a.User, at.From, "not_activated")
		return Grant{Account: a}, ErrNotActivated
	}
	d.record(ctx, audit.SignIn, t, a.User, at.From, "ok")
	return Grant{Account: a, Session: d.newSession(a), Device: d.deviceToken(t, a.User)}, nil
}

// Resend sends the activation message of the account once more whose password the answer proves, to another address where email
// is not empty. It fails like SignIn, and besides with account.ErrActive and the errors of account.Desk.Resend.
func (d *Authenticator) Resend(ctx context.Context, t *tenant.Tenant, at Attempt, email string) (account.Account, error) {
	a, err := d.prove(ctx, t, at, audit.Resend)
	if err != nil {
		return account.Account{}, err
	}
	a, err = d.Accounts.Resend(ctx, t, a, email, at.From)
	if errors.Is(err, account.ErrHeld) || fault.Is(err, fault.NotFound) {
		err = ErrDenied // since this moment, and so the same as a moment later
	}
	return a, err
}

// Confirm takes the token of an account's link from whoever proves its password. It fails like SignIn, and with the errors of
// account.Desk.Confirm.
func (d *Authenticator) Confirm(ctx context.Context, t *tenant.Tenant, at Attempt, token string) (account.Account, error) {
	a, err := d.prove(ctx, t, at, audit.Confirm)
	if err != nil {
		return account.Account{}, err
	}
	a, err = d.Accounts.Confirm(ctx, t, a, token, at.From)
	if errors.Is(err, account.ErrHeld) || errors.Is(err, account.ErrExpired) {
		err = ErrDenied // since this moment, and so the same as a moment later
	}
	return a, err
}

// prove gives the account whose password an answer proves, be it active or not. It fails with ErrStale, ErrDenied or fault.Limited,
// and records what it fails with as the outcome of an action.
func (d *Authenticator) prove(ctx context.Context, t *tenant.Tenant, at Attempt, action audit.Action) (account.Account, error) {
	answer, err := digest.ParseAnswer(at.Authorization)
	if err != nil || answer.Realm != t.Realm || answer.URI != at.URI || answer.Algorithm != t.Challenge() {
		d.record(ctx, action, t, "", at.From, "malformed")
		return account.Account{}, ErrDenied
	}
	address := d.buckets.Of("failed sign-in address", t.ID, throttle.Party(at.From.Addr))
	name := d.nameBucket(t, answer.Username, at.Device)
	if wait := max(d.byAddress.Wait(address), d.byName.Wait(name)); wait > 0 {
		d.record(ctx, action, t, answer.Username, at.From, "rate_limited")
		return account.Account{}, fault.Limit(wait, "too many sign-ins that failed; wait before the next one")
	}
	if answer.NC != "00000001" {
		return account.Account{}, ErrStale
	}
	if fresh, err := d.nonces.spend(ctx, t, answer.Nonce); err != nil {
		return account.Account{}, err
	} else if !fresh {
		return account.Account{}, ErrStale
	}

	a, err := d.Accounts.Store.Find(ctx, t.ID, answer.Username, d.Now())
	credential := d.decoy
	known := err == nil
	switch {
	case known:
		if credential, err = d.Accounts.Credential(a); err != nil {
			return account.Account{}, err
		}
	case fault.Is(err, fault.NotFound):
	default:
		return account.Account{}, err
	}
	proved := answer.Proves(credential, at.Method)
	if !known || !proved || a.Held {
		d.byName.Add(name)
		d.byAddress.Add(address)
		d.record(ctx, action, t, answer.Username, at.From, "denied")
		return account.Account{}, ErrDenied
	}
	d.byName.Forget(name)
	return a, nil
}

// record never logs a name that is not of an account's form: what a person types into a name field is sometimes their
// password.
func (d *Authenticator) record(ctx context.Context, action audit.Action, t *tenant.Tenant, user string, from account.Origin, outcome string) {
	if !account.WellFormedUser(user) {
		user = ""
	}
	d.Audit.Record(ctx, audit.Event{
		Action: action, Outcome: outcome, Tenant: t.Host, User: user, Peer: from.Addr, Request: from.Request,
	})
}

// nameBucket counts by the name, or for a device that has signed in with it before by the device.
func (d *Authenticator) nameBucket(t *tenant.Tenant, user, device string) throttle.Bucket {
	if b, ok := secret.DecodeText(device); ok && len(b) == 16+32 {
		if d.Signatures().device.Verify(b[16:], tenantBytes(t.ID), b[:16], []byte(user)) {
			return d.buckets.Of("failed sign-in device", t.ID, string(b[:16]))
		}
	}
	return d.buckets.Of("failed sign-in name", t.ID, user)
}

func (d *Authenticator) deviceToken(t *tenant.Tenant, user string) string {
	b := make([]byte, 16, 16+32)
	rand.Read(b)
	sum := d.Signatures().device.Sum(tenantBytes(t.ID), b, []byte(user))
	return base64.RawURLEncoding.EncodeToString(append(b, sum[:]...))
}

const (
	version = 1
	signed  = 1 + 16 + 16 + 8 + 8
)

func (d *Authenticator) newSession(a account.Account) string {
	b := make([]byte, signed, signed+32)
	b[0] = version
	rand.Read(b[1:17])
	copy(b[17:33], a.UID[:])
	binary.BigEndian.PutUint64(b[33:], uint64(a.Epoch))
	binary.BigEndian.PutUint64(b[41:], uint64(d.Now().Unix()))
	sum := d.Signatures().session.Sum(tenantBytes(a.Tenant), b)
	return base64.RawURLEncoding.EncodeToString(append(b, sum[:]...))
}

func tenantBytes(id int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(id)) }

type parsed struct {
	id      [16]byte
	uid     account.UID
	epoch   int64
	expires time.Time
}

func (d *Authenticator) parse(t *tenant.Tenant, token string) (parsed, bool) {
	b, ok := secret.DecodeText(token)
	if !ok || len(b) != signed+32 || b[0] != version || !d.Signatures().session.Verify(b[signed:], tenantBytes(t.ID), b[:signed]) {
		return parsed{}, false
	}
	issued := time.Unix(int64(binary.BigEndian.Uint64(b[41:])), 0)
	p := parsed{
		id: [16]byte(b[1:17]), uid: account.UID(b[17:33]),
		epoch: int64(binary.BigEndian.Uint64(b[33:])), expires: issued.Add(Life),
	}
	return p, d.Now().Before(p.expires)
}

// Who is the account that a session token stands for. It fails with ErrDenied where there is none, or no more.
func (d *Authenticator) Who(ctx context.Context, t *tenant.Tenant, token string) (account.Account, error) {
	p, ok := d.parse(t, token)
	if !ok {
		return account.Account{}, ErrDenied
	}
	a, err := d.Accounts.Store.FindUID(ctx, t.ID, p.uid, d.Now())
	if fault.Is(err, fault.NotFound) || err == nil && (a.Disabled || a.Epoch != p.epoch) {
		return account.Account{}, ErrDenied
	}
	if err != nil {
		return account.Account{}, err
	}
	revoked, err := d.Store.Revoked(ctx, t.ID, p.id, p.expires)
	if err == nil && revoked {
		err = ErrDenied
	}
	return a, err
}

// SignOut ends a session. A token that stands for none is not an error: the person is signed out.
func (d *Authenticator) SignOut(ctx context.Context, t *tenant.Tenant, token string, from account.Origin) error {
	p, ok := d.parse(t, token)
	if !ok {
		return nil
	}
	err := d.Store.Revoke(context.WithoutCancel(ctx), t.ID, p.id, p.expires)
	e := audit.Event{Action: audit.SignOut, Outcome: "ok", Tenant: t.Host, Peer: from.Addr, Request: from.Request}
	if err != nil {
		e.Outcome = "server_error"
	}
	d.Audit.Record(ctx, e)
	return err
}
