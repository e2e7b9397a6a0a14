// Package turn issues short-lived credentials for TURN servers.
//
// A browser that makes a call through a TURN server has to hand a name and a password to a script
// of the page. That should not be the person's own password, so the platform issues another one by
// the scheme of draft-uberti-behave-turn-rest-00 section 2.2, which coturn calls use-auth-secret:
//
//	username = <expiry, Unix seconds>:<user>@<host>
//	password = base64(HMAC-SHA-1(secret, username))
//
// The TURN server shares nothing with the platform but the secret. It needs no realm and no list of
// users, so one server suffices for any number of tenants; the host in the name tells its log whose
// call it was. SHA-1 is the scheme's choice, and still secure in an HMAC.
//
// # The secret
//
// Secrets are derived from a ring of keys of their own (keys/turn.key), one from each key. The TURN
// server must know a new secret before it is used, so a rotation dates its key ahead (see package
// secret), and older keys stay for as long as a credential lives. Credentials are signed with one
// secret; the server gets all of them.
//
// # What a credential can do
//
// It opens relays until it expires. A relay that is open stays for as long as the TURN server
// allows. A credential cannot be revoked, so its life is also how long a person whose account was
// disabled may still begin a call.
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

// Secret is what a TURN server shares with the platform. It does not print.
type Secret struct{ secret.Key }

// Text returns the secret as it is in the configuration of a TURN server: 64 hex digits, whose
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

// Credential is what a browser hands to a TURN server.
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
