// Hooks: phone servers are told at once.
//
// A phone server knows things by itself: who is registered, what it was answered a moment ago, which domains there are. When an
// account is disabled, that has to go. So an operator adds a hook for each server, and a change writes a notice for each hook that
// it concerns, in its own transaction: there is no change without its notices, and no notice of a change that did not happen. Where
// there are no hooks, nothing is written.
//
//	change --one transaction--> notice --claim--> call --told--> gone
//	                              ^                 |
//	                              +--later, longer--+--for three days--> given up
//
// A notice says what to look at again, never what is true: by the time that it arrives, the account may have changed anew. A server
// that is told drops what it holds of the user and asks when it next needs to know. So a notice may come late, twice or after a
// younger one, and a disabled account that was enabled meanwhile stays enabled.
//
// Every server of a platform runs a Courier. It is woken by changes of its own process and looks besides, a few times a second, for
// those of commands and of other servers. A notice is claimed for as long as a call may take; when the claim is over, and nobody
// has said what came of it, somebody else tells it again: at least once, through a crash at any moment. Each hook has a lane of its
// own, so that one that hangs holds up no other.
package hook

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"dialtone/internal/fault"
	"dialtone/internal/secret"
)

// Kind is how a server is told.
type Kind string

// Kamailio is called by JSON-RPC over HTTP, whatever else there is by a webhook.
const (
	Kamailio Kind = "kamailio"
	Webhook  Kind = "webhook"
)

// ID names a hook for ever, also when its name has gone to another.
type ID [16]byte

func (id ID) String() string { return hex.EncodeToString(id[:]) }

// Hook is a phone server that wants to be told of changes.
type Hook struct {
	ID   ID
	Name string
	Kind Kind
	URL  string
	// Plain allows http to an address that is not private.
	PlainHTTP bool
	// Everyone is a hook for all tenants, those that come too. Any other is for the Tenants, and for none when they are gone.
	AllTenants bool
	Tenants    []int64
	// Sealed is the Secret, sealed for the ID, or nothing.
	Sealed  []byte
	Created time.Time
}

// Secret is what a server knows us by: for Kamailio the value of the header Authorization, for a webhook the key of its
// signatures, as "whsec_" and the base64 of 32 bytes. It does not print.
type Secret string

// Reveal is the secret itself.
func (s Secret) Reveal() string { return string(s) }

// String and its kin keep a secret out of logs.
func (Secret) String() string               { return secret.Redacted }
func (Secret) GoString() string             { return secret.Redacted }
func (Secret) LogValue() slog.Value         { return slog.StringValue(secret.Redacted) }
func (Secret) MarshalText() ([]byte, error) { return []byte(secret.Redacted), nil }

// Format keeps a secret out of the verbs that would print its bytes.
func (Secret) Format(f fmt.State, _ rune) { fmt.Fprint(f, secret.Redacted) }

// webhookPrefix stands before the key of a webhook (Standard Webhooks, "Signature scheme").
const webhookPrefix = "whsec_"

// NewWebhookSecret makes the key of a webhook.
func NewWebhookSecret() Secret {
	var key [32]byte
	rand.Read(key[:])
	return Secret(webhookPrefix + base64.StdEncoding.EncodeToString(key[:]))
}

// Key is the key of a webhook.
func (s Secret) Key() ([]byte, error) {
	text, ok := strings.CutPrefix(string(s), webhookPrefix)
	key, err := base64.StdEncoding.DecodeString(text)
	if !ok || err != nil || len(key) != 32 {
		return nil, fmt.Errorf("the hook's secret is no key of a webhook; remove the hook and add it again")
	}
	return key, nil
}

// BearerSecret and BasicSecret are what a Kamailio wants to see, from a token, or from "user:password".
func BearerSecret(token string) (Secret, error) {
	if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return "", fault.Field("bearer", "a bearer token is one word of ASCII characters; give a file that has it and nothing else")
	}
	return Secret("Bearer " + token), nil
}

func BasicSecret(pair string) (Secret, error) {
	if user, _, ok := strings.Cut(pair, ":"); !ok || user == "" || strings.ContainsFunc(pair, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return "", fault.Field("basic", "the name and the password are written as user:password; give a file that has them and nothing else")
	}
	return Secret("Basic " + base64.StdEncoding.EncodeToString([]byte(pair))), nil
}

// Locker seals the secrets of hooks.
type Sealer struct{ vault *secret.Vault }

// NewLocker is the locker of a seal ring. The word in it never changes: it is part of the keys.
func NewSealer(r *secret.Ring) Sealer { return Sealer{secret.NewVault(r, "hook secret")} }

// Seal makes a secret a hook's own. No hook belongs to one tenant alone, so they are sealed as those of tenant 0, which is nobody.
func (l Sealer) Seal(h *Hook, s Secret) {
	h.Sealed = nil
	if s != "" {
		h.Sealed = l.vault.Seal(0, h.ID[:], []byte(s))
	}
}

// Open is the secret of a hook, and empty where it has none.
func (l Sealer) Open(h Hook) (Secret, error) {
	if len(h.Sealed) == 0 {
		return "", nil
	}
	b, err := l.vault.Open(0, h.ID[:], h.Sealed)
	return Secret(b), err
}

const (
	maxHookName = 64
	maxHookURL  = 2048
)

// New gives a hook its id, and refuses one with a name or an URL that no hook can have.
func New(h Hook) (Hook, error) {
	if h.Name == "" || len(h.Name) > maxHookName || strings.Trim(h.Name, "abcdefghijklmnopqrstuvwxyz0123456789-_.") != "" || h.Name[0] == '-' {
		return h, fault.Field("name", "%q is no name of a hook; use 1 to %d of a to z, 0 to 9, - _ and .", h.Name, maxHookName)
	}
	if h.Kind != Kamailio && h.Kind != Webhook {
		return h, fault.Field("kind", "%q is no kind of hook; say --kamailio or --webhook", string(h.Kind))
	}
	if err := checkURL(h); err != nil {
		return h, err
	}
	rand.Read(h.ID[:])
	return h, nil
}

func checkURL(h Hook) error {
	u, err := url.Parse(h.URL)
	switch {
	case err != nil || u.Host == "" || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https" || len(h.URL) > maxHookURL:
		return fault.Field("url", "%q is no address that can be called; give one such as http://127.0.0.1:5060/RPC or https://host/path", h.URL)
	case u.User != nil:
		return fault.Field("url", "a password in an address would be shown in lists; give it with --basic or --bearer")
	case u.Fragment != "":
		return fault.Field("url", "%q has a part behind #, which no server is sent; leave it out", h.URL)
	}
	if addr, err := netip.ParseAddr(u.Hostname()); err == nil && u.Scheme == "http" && !h.PlainHTTP && !IsPrivate(addr) {
		return ErrPlainHTTP
	}
	return nil
}

// ErrPlain is http to an address that anybody may be on the way to.
var ErrPlainHTTP = fault.Field("url", "http to an address that is not private is read and changed by whoever is on the way; use https, or add --plain-http")

// Private reports whether an address is this machine's, or one of a network of one's own (RFC 1918, RFC 4193, RFC 3927).
func IsPrivate(a netip.Addr) bool {
	a = a.Unmap()
	return a.IsLoopback() || a.IsPrivate() || a.IsLinkLocalUnicast()
}
