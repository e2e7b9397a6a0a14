// Package turn mints credentials for TURN servers that are good for a short time.
//
// A browser that makes a call through a TURN server has to hand a name and a password to a script of the page. That should not
// be the person's own password, so the platform mints another one: the scheme of draft-uberti-behave-turn-rest-00 §2.2, which
// coturn knows as use-auth-secret:
//
//	username = <expiry, Unix seconds>:<user>@<host>
//	password = base64(HMAC-SHA-1(secret, username))
//
// The TURN server shares nothing with the platform but the secret. It needs no realm and no list of users, so one server is
// enough for any number of tenants; the host in the name says in its log whose call it was. SHA-1 is the scheme's choice and not
// ours; as the hash of an HMAC it still stands.
//
// # The secret
//
// Secrets are derived from a ring of keys of its own (keys/turn.key), one from each key. The TURN server must know a new one
// before anything is signed with it, so a rotation dates its key ahead (see package secret), and the older ones stay for as long
// as a credential lives. Credentials are signed with one secret; the server is given all of them.
//
// # What a credential can do
//
// It opens relays until it expires; one that is open goes on as long as the TURN server lets it. Nothing can take a credential
// back. Its life is therefore the time that a person who was disabled may still begin a call.
package turn

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"encoding/hex"
	"strconv"
	"time"

	"dialtone/internal/redact"
	"dialtone/internal/secret"
	"dialtone/internal/tenant"
)

// Secret is what a TURN server shares with the platform. It does not print; Text is the secret itself.
type Secret struct{ secret.Key }

// Text is the secret as it stands in the configuration of a TURN server: 64 hex digits, whose bytes are the HMAC's key as they
// are.
func (s Secret) Text() string { return hex.EncodeToString(s.Key[:]) }

// Secrets are the secrets of a ring, in its order.
func Secrets(r *secret.Ring) []Secret {
	var list []Secret
	for _, k := range r.Derive("turn secret") {
		list = append(list, Secret{k})
	}
	return list
}

// Issuer mints credentials. It is safe for concurrent use.
type Issuer struct {
	secret Secret
	now    func() time.Time
}

// NewIssuer signs with the key that stands in front of the ring.
func NewIssuer(r *secret.Ring, now func() time.Time) *Issuer { return &Issuer{Secrets(r)[0], now} }

// Credential is what a browser hands to a TURN server.
type Credential struct {
	Username string
	Password redact.Of[string]
	// Life is for how long it is good, from now.
	Life time.Duration
	// URIs are the servers that take it (RFC 7065).
	URIs []string
}

// Issue mints a credential for a user of the tenant, for its servers and as long as it says.
func (i *Issuer) Issue(t *tenant.Tenant, user string) Credential {
	life := t.TURNLife()
	name := strconv.FormatInt(i.now().Add(life).Unix(), 10) + ":" + user + "@" + t.Host
	mac := hmac.New(sha1.New, []byte(i.secret.Text()))
	mac.Write([]byte(name))
	return Credential{Username: name, Password: redact.New(base64.StdEncoding.EncodeToString(mac.Sum(nil))), Life: life, URIs: t.TURNURIs}
}
