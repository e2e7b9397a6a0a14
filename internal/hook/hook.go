package hook

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"dialtone/internal/fault"
	"dialtone/internal/redact"
	"dialtone/internal/secret"
)

// Kind is the protocol of a hook.
type Kind string

const (
	Kamailio Kind = "kamailio" // JSON-RPC over HTTP
	Webhook  Kind = "webhook"  // Standard Webhooks
)

// ID identifies a hook. It is never reused, unlike the name.
type ID [16]byte

func (id ID) String() string { return hex.EncodeToString(id[:]) }

// Hook is a phone server that is notified of changes.
type Hook struct {
	ID   ID
	Name string
	Kind Kind
	URL  string
	// PlainHTTP permits http to addresses that are not private.
	PlainHTTP bool
	// AllTenants makes the hook one for all tenants, including those added later. Any other
	// hook is only for Tenants, and for none once these are removed.
	AllTenants bool
	Tenants    []int64
	// Events are the types of events that the hook is notified of. Nil means PhoneEvents, only
	// about accounts that were activated.
	Events []EventType
	// Sealed is the Secret, sealed for the ID. It is empty if the hook has none.
	Sealed  []byte
	Created time.Time
}

// Secret authenticates Dialtone to a phone server. Its form depends on the Kind of the hook,
// and is defined by the transport's package. The zero value means no secret.
type Secret = redact.Of[string]

// Sealer seals the secrets of hooks.
type Sealer struct{ vault *secret.Vault }

// NewSealer returns the Sealer of a seal ring.
func NewSealer(r *secret.Ring) Sealer {
	// The purpose is part of the derived keys, so changing it would make stored secrets unreadable.
	return Sealer{secret.NewVault(r, "hook secret")}
}

// noTenant is the tenant ID that secrets are sealed for, since a hook can belong to several
// tenants. No tenant has this ID.
const noTenant = 0

// Seal sets h.Sealed to the sealed secret, or to nothing if the secret is empty. It can only be opened for this
// hook.
func (l Sealer) Seal(h *Hook, s Secret) {
	h.Sealed = nil
	if text := s.Reveal(); text != "" {
		h.Sealed = l.vault.Seal(noTenant, h.ID[:], []byte(text))
	}
}

// Open returns the secret of a hook, which is empty if the hook has none.
func (l Sealer) Open(h Hook) (Secret, error) {
	if len(h.Sealed) == 0 {
		return Secret{}, nil
	}
	b, err := l.vault.Open(noTenant, h.ID[:], h.Sealed)
	return redact.New(string(b)), err
}

const (
	maxName = 64
	maxURL  = 2048
)

// New gives a hook its ID. It fails with fault.Invalid if the name, kind or URL is not valid.
func New(h Hook) (Hook, error) {
	const allowed = "abcdefghijklmnopqrstuvwxyz0123456789-_."
	if h.Name == "" || len(h.Name) > maxName || strings.Trim(h.Name, allowed) != "" || h.Name[0] == '-' {
		return h, fault.Field("name", "%q is not a valid hook name; "+
			"use 1 to %d of a to z, 0 to 9, - _ and ., not beginning with -", h.Name, maxName)
	}
	if h.Kind != Kamailio && h.Kind != Webhook {
		return h, fault.Field("kind", "%q is not a kind of hook; use --kamailio or --webhook", string(h.Kind))
	}
	if err := checkURL(h); err != nil {
		return h, err
	}
	if err := checkEvents(h); err != nil {
		return h, err
	}
	rand.Read(h.ID[:])
	return h, nil
}

func checkEvents(h Hook) error {
	if h.Kind != Webhook && h.Events != nil {
		return fault.Field("events", "events can be chosen for a webhook only; "+
			"a Kamailio is notified of those that phone servers need")
	}
	for _, e := range h.Events {
		if !slices.Contains(Events, e) {
			return fault.Field("events", "%q is not an event; choose from %s", string(e), JoinEvents(Events, ", "))
		}
	}
	return nil
}

// JoinEvents joins events to a text.
func JoinEvents(list []EventType, sep string) string {
	words := make([]string, len(list))
	for i, e := range list {
		words[i] = string(e)
	}
	return strings.Join(words, sep)
}

func checkURL(h Hook) error {
	u, err := url.Parse(h.URL)
	switch {
	case err != nil, u.Hostname() == "", u.Scheme != "http" && u.Scheme != "https", len(h.URL) > maxURL:
		return fault.Field("url", "%q is not a valid URL for a hook; give one such as "+
			"http://127.0.0.1:5060/RPC or https://host/path", h.URL)
	case u.User != nil:
		return fault.Field("url", "a password in the URL would be shown in lists; "+
			"give it with --basic or --bearer")
	case u.Fragment != "":
		return fault.Field("url", "the part of %q after # is never sent to a server; leave it out", h.URL)
	}
	if u.Scheme == "http" && !h.PlainHTTP {
		if addr, err := netip.ParseAddr(u.Hostname()); err == nil && !IsPrivate(addr) {
			return ErrPlainHTTP
		}
	}
	return nil
}

// ErrPlainHTTP refuses http to an address that is not private.
var ErrPlainHTTP = fault.Field("url",
	"http to an address that is not private can be read and changed on the way; use https, or add --plain-http")

// IsPrivate reports whether an address belongs to this machine or to a private network (RFC 1918,
// RFC 4193, RFC 3927).
func IsPrivate(a netip.Addr) bool {
	a = a.Unmap()
	return a.IsLoopback() || a.IsPrivate() || a.IsLinkLocalUnicast()
}

// State is a hook and the progress of its notifications.
type State struct {
	Hook
	// Waiting counts the notifications that were not delivered yet. Oldest is the time of the
	// oldest of them.
	Waiting int64
	Oldest  time.Time
	// LastFailure is when an attempt last failed, and LastError is its error.
	LastFailure time.Time
	LastError   string
	// GivenUp counts the notifications that were abandoned.
	GivenUp int64
}

// Store stores hooks. Every method is one transaction. Package conformance tests these rules.
type Store interface {
	// AddHook adds a hook. It fails with fault.Conflict if the name is taken.
	AddHook(ctx context.Context, h Hook) error

	// RemoveHook removes a hook and its notifications. It fails with fault.NotFound.
	RemoveHook(ctx context.Context, name string) error

	// Hooks returns all hooks, ordered by name.
	Hooks(ctx context.Context) ([]State, error)
}
