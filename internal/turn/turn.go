// Package turn issues short-lived credentials for TURN servers.
//
// A page that makes calls through a TURN server needs a user name and a password in its script.
// That should not be the person's own password, so the platform issues temporary ones by the
// scheme of draft-uberti-behave-turn-rest-00 section 2.2, which coturn calls use-auth-secret:
//
//	username = <expiry, Unix seconds>:<user>@<host>
//	password = base64(HMAC-SHA-1(secret, username))
//
// The TURN server shares only the secret with the platform. It needs no realm and no list of
// users, so one server suffices for any number of tenants; the host in the user name shows in
// its log whose call it was. SHA-1 is the scheme's choice, and still secure in an HMAC.
//
// # The secret
//
// Secrets are derived from a separate ring of keys (keys/turn.key), one from each key. The TURN
// server must know a new secret before it is used, so a rotation dates its key ahead (see
// package secret), and older keys are kept as long as credentials are valid. Credentials are
// signed with one secret; the server gets all of them.
//
// # What a credential can do
//
// Until it expires, it can be used to allocate relays. An allocated relay can be kept as long
// as the TURN server allows. A credential cannot be revoked, so its lifetime is also how long a
// person whose account was disabled can still start calls.
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

// Secret is the secret that a TURN server shares with the platform. It does not print.
type Secret struct{ secret.Key }

// Text returns the secret in the form for the configuration of a TURN server: 64 hex digits, whose
// bytes are the HMAC's key.
func (s Secret) Text() string { return hex.EncodeToString(s.Key[:]) }

// Secrets returns the secrets of a ring, in its order.
func Secrets(r *secret.Ring) []Secret {
	var list []Secret
	for _, k := range r.Derive("turn secret") {
		list = append(list, Secret{k})
	}
	return list
}

// Issuer issues credentials. It is safe for concurrent use.
type Issuer struct {
	secret Secret
	now    func() time.Time
}

// NewIssuer returns an Issuer that signs with the first key of the ring.
func NewIssuer(r *secret.Ring, now func() time.Time) *Issuer { return &Issuer{Secrets(r)[0], now} }

// Credential is a credential for TURN servers.
type Credential struct {
	Username string
	Password redact.Of[string]
	// Life is how long it is valid from now.
	Life time.Duration
	// URIs are the servers that accept it (RFC 7065).
	URIs []string
}

// Issue returns a credential for a user of the tenant, for its servers and with its life.
func (i *Issuer) Issue(t *tenant.Tenant, user string) Credential {
	life := t.TURNLife()
	name := strconv.FormatInt(i.now().Add(life).Unix(), 10) + ":" + user + "@" + t.Host
	mac := hmac.New(sha1.New, []byte(i.secret.Text()))
	mac.Write([]byte(name))
	password := base64.StdEncoding.EncodeToString(mac.Sum(nil))
	return Credential{
		Username: name, Password: redact.New(password), Life: life, URIs: t.TURNURIs,
	}
}
