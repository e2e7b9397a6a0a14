// Package tenant says whose platform a request is for.
//
// A tenant is one phone platform on one host name. The request's Host alone selects it, by an exact match after the form
// was made canonical; there is no default tenant, and no parameter can name one. A tenant's realm is part of every HA1
// that its accounts have, so it is unique and does not change while there are accounts. Links are built from the tenant's
// public URL, and never from a request.
//
// Tenants lie in the store, where a command changes them while servers run. A server looks them up in a Directory: a
// table in memory that is read without a lock and renewed when the store's count of changes has moved.
package tenant

import (
	"cmp"
	"context"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"golang.org/x/net/idna"

	"dialtone/internal/digest"
	"dialtone/internal/fault"
)

// Tenant is one platform.
type Tenant struct {
	ID      int64
	Host    string
	Realm   string
	Created time.Time
	// PublicURL is scheme, host and port, without a path. Empty in the store where it was not set; a Directory fills in
	// the default.
	PublicURL string
	Settings
}

// Settings are what an operator may choose for a tenant. The zero value is a working choice.
type Settings struct {
	// Product is the platform's name for people; its host where empty.
	Product string `json:"product,omitempty"`
	// MailFrom is the sender of messages; no-reply@HOST where empty.
	MailFrom string `json:"mail_from,omitempty"`
	// ReplyTo is where answers to messages go; to the sender where empty.
	ReplyTo string `json:"reply_to,omitempty"`
	// MailFooter is a line at the end of messages; none where empty.
	MailFooter string `json:"mail_footer,omitempty"`
	// SIPServer and SIPTransport are what a person types into a softphone; the host, and TLS, where empty.
	SIPServer    string `json:"sip_server,omitempty"`
	SIPTransport string `json:"sip_transport,omitempty"`
	// SIPWebSocket is where phones in browsers reach the platform (RFC 7118), as wss://host[:port][/path]; none where empty.
	SIPWebSocket string `json:"sip_websocket,omitempty"`
	// TURNURIs are the platform's TURN servers (RFC 7065), in the order in which a browser tries them.
	TURNURIs []string `json:"turn_uris,omitempty"`
	// TURNSeconds is for how long a TURN credential is good; DefaultTURNLife where zero.
	TURNSeconds int `json:"turn_seconds,omitempty"`
	// AcrobitsCloud is the platform's Cloud ID at Acrobits, for people who scan its QR code with Cloud Softphone; none where empty.
	AcrobitsCloud string `json:"acrobits_cloud,omitempty"`
	// Origins may call the API from a browser page of their own (CORS), each as scheme://host[:port].
	Origins []string `json:"origins,omitempty"`
	// Reserved are user names that nobody may have, besides the built-in ones.
	Reserved []string `json:"reserved,omitempty"`
	// Algorithm is what sign-in challenges with; MD5 where empty.
	Algorithm digest.Algorithm `json:"algorithm,omitempty"`
	// SignupsPerHour is a ceiling for the whole tenant; none where zero.
	SignupsPerHour int `json:"signups_per_hour,omitempty"`
	// Activation is what activates an account; the link alone where empty.
	Activation Activation `json:"activation,omitempty"`
}

// Activation is what activates an account.
type Activation string

const (
	// ActivationLink is opening the link of the message, as the published contract has it.
	ActivationLink Activation = "link"
	// ActivationConfirm is proving the account's password on the page that the link opens.
	ActivationConfirm Activation = "confirm"
)

// Name is what people call the platform.
func (t Tenant) Name() string { return cmp.Or(t.Product, t.Host) }

// Sender is the address that messages come from.
func (t Tenant) Sender() string { return cmp.Or(t.MailFrom, "no-reply@"+t.Host) }

// Server is the SIP server that a softphone is given.
func (t Tenant) Server() string { return cmp.Or(t.SIPServer, t.Host) }

// Transport is the SIP transport that a softphone is given.
func (t Tenant) Transport() string { return cmp.Or(t.SIPTransport, "TLS") }

// WebSocket is where a phone in a browser connects to, or empty where it cannot.
func (t Tenant) WebSocket() string {
	if t.SIPWebSocket == "" && t.Transport() == "WSS" {
		return "wss://" + t.Server()
	}
	return t.SIPWebSocket
}

// DefaultTURNLife is for how long a TURN credential is good where the tenant does not say: long enough to begin a call with, and
// short enough that somebody who was disabled is soon without.
const DefaultTURNLife = time.Hour

// TURNLife is for how long a TURN credential is good.
func (t Tenant) TURNLife() time.Duration {
	if t.TURNSeconds == 0 {
		return DefaultTURNLife
	}
	return time.Duration(t.TURNSeconds) * time.Second
}

// Challenge is the algorithm of the sign-in challenge.
func (t Tenant) Challenge() digest.Algorithm {
	return cmp.Or(t.Algorithm, digest.MD5)
}

// Confirms reports whether a link does nothing without the account's password.
func (t Tenant) Confirms() bool { return t.Activation == ActivationConfirm }

// Secure reports whether people reach the tenant over TLS.
func (t Tenant) Secure() bool { return strings.HasPrefix(t.PublicURL, "https://") }

// CanonicalHost is the form that a request's Host is looked up by: ASCII letters in lower case, without a port and one
// trailing dot. It is "" for what cannot be a host name.
func CanonicalHost(raw string) string {
	host := raw
	if i := strings.LastIndexByte(host, ':'); i >= 0 && strings.IndexByte(host, ']') < i {
		if !digits(host[i+1:]) {
			return ""
		}
		host = host[:i]
	}
	host = strings.TrimSuffix(host, ".")
	if len(host) == 0 || len(host) > 253 {
		return ""
	}
	var lower []byte
	for i := range len(host) {
		c := host[i]
		switch {
		case 'A' <= c && c <= 'Z':
			if lower == nil {
				lower = []byte(host)
			}
			lower[i] = c + 'a' - 'A'
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-', c == '.', c == '_':
		default:
			return ""
		}
	}
	if lower != nil {
		return string(lower)
	}
	return host
}

func digits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

// New checks and completes what an operator gave for a tenant: host and realm, the public URL and the settings. Its
// errors are fault.Invalid, with the option's name as field.
func New(t Tenant) (Tenant, error) {
	host, err := idna.Lookup.ToASCII(strings.TrimSuffix(t.Host, "."))
	if err != nil || !utf8.ValidString(t.Host) || CanonicalHost(host) != host || strings.ContainsAny(host, "_:") || !labels(host) {
		return Tenant{}, fault.Field("host", "%q is not a host name; give a DNS name such as phone.example.org, without a port or path", t.Host)
	}
	t.Host = host
	if t.Realm == "" {
		t.Realm = t.Host
	}
	if t.Realm, err = checkRealm(t.Realm); err != nil {
		return Tenant{}, err
	}
	if t.PublicURL, err = checkURL("public-url", t.PublicURL); err != nil {
		return Tenant{}, err
	}
	t.Settings, err = t.Settings.check()
	return t, err
}

// ascii reports whether a text is ASCII, which a mail server takes that knows nothing of RFC 6531.
func ascii(s string) bool { return !strings.ContainsFunc(s, func(r rune) bool { return r > '~' }) }

// labels reports whether every label of a host has 1 to 63 bytes (RFC 1035 §2.3.4).
func labels(host string) bool {
	for label := range strings.SplitSeq(host, ".") {
		if label == "" || len(label) > 63 {
			return false
		}
	}
	return true
}

// checkRealm refuses what would break out of H(user:realm:password) or of the quoted string of a challenge.
func checkRealm(realm string) (string, error) {
	if len(realm) > 253 {
		return "", fault.Field("realm", "the realm is longer than 253 characters; shorten it")
	}
	for i := range len(realm) {
		if c := realm[i]; c < ' ' || c > '~' || c == ':' || c == '"' || c == '\\' {
			return "", fault.Field("realm", "the realm %q has a character that no digest realm can have; use letters, digits, dots, hyphens and spaces, and no colon, quote or backslash", realm)
		}
	}
	if strings.TrimSpace(realm) != realm {
		return "", fault.Field("realm", "the realm %q begins or ends with a space; leave it out", realm)
	}
	return realm, nil
}

func checkURL(field, raw string) (string, error) {
	if raw == "" {
		return "", nil
	}
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.Trim(u.Path, "/") != "" ||
		CanonicalHost(u.Host) == "" && !strings.HasPrefix(u.Host, "[::1]") {
		return "", fault.Field(field, "%q is not of the form https://host or https://host:port", raw)
	}
	if u.Scheme != "https" && !(u.Scheme == "http" && Loopback(u.Hostname())) {
		return "", fault.Field(field, "%q is not https; http is for localhost alone, since links and sessions would travel in clear", raw)
	}
	return u.Scheme + "://" + strings.ToLower(u.Host), nil
}

// Loopback reports whether a host name or address can only be this machine.
func Loopback(host string) bool {
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.Unmap().IsLoopback()
}

// Store keeps tenants. Every method is one transaction.
type Store interface {
	// AddTenant adds a tenant and gives it an ID. It fails with fault.Conflict where the host is there, or where a tenant
	// has the realm in any case: two tenants with one realm would share every HA1.
	AddTenant(ctx context.Context, t Tenant) (Tenant, error)

	// AddFirstTenant adds a tenant where there is none at all, and otherwise does nothing.
	AddFirstTenant(ctx context.Context, t Tenant) error

	// SetTenant replaces realm, public URL and settings of the tenant with the ID. It fails with fault.NotFound where the
	// tenant is gone, and with fault.Conflict where the realm would change or is another's while accounts exist, or where
	// the algorithm would be SHA-256 while an account lacks that digest.
	SetTenant(ctx context.Context, t Tenant, now time.Time) error

	// RemoveTenant removes a tenant and all that it has. It fails with fault.Conflict while it has accounts, unless
	// accounts are to go too, and with fault.NotFound where there is no such host.
	RemoveTenant(ctx context.Context, host string, accounts bool, now time.Time) error

	// Tenants are all tenants, by host, and the number that every change of a tenant raises.
	Tenants(ctx context.Context) ([]Tenant, int64, error)

	// TenantVersion is that number alone.
	TenantVersion(ctx context.Context) (int64, error)
}

// Directory is the table that requests are looked up in. It is safe for concurrent use.
type Table struct {
	store Store
	// url is the public URL of a tenant that has none of its own.
	url   func(host string) string
	table atomic.Pointer[table]
}

type table struct {
	version int64
	hosts   map[string]*Tenant
	realms  map[string]*Tenant // by foldedRealm
	ids     map[int64]*Tenant
}

// NewDirectory is an empty directory; Refresh fills it.
func NewTable(store Store, defaultURL func(host string) string) *Table {
	d := &Table{store: store, url: defaultURL}
	d.table.Store(&table{version: -1})
	return d
}

// Refresh reads the tenants anew if they have changed. On an error the old table stays.
func (d *Table) Refresh(ctx context.Context) error {
	version, err := d.store.TenantVersion(ctx)
	if err != nil || version == d.table.Load().version {
		return err
	}
	list, version, err := d.store.Tenants(ctx)
	if err != nil {
		return err
	}
	next := &table{
		version: version,
		hosts:   make(map[string]*Tenant, len(list)), realms: make(map[string]*Tenant, len(list)), ids: make(map[int64]*Tenant, len(list)),
	}
	for _, t := range list {
		if t.PublicURL == "" {
			t.PublicURL = d.url(t.Host)
		}
		next.hosts[t.Host] = &t
		next.realms[foldedRealm(t.Realm)] = &t
		next.ids[t.ID] = &t
	}
	d.table.Store(next)
	return nil
}

// Lookup is the tenant of a request's Host, as the request has it. The tenant is shared: it is read, never written.
func (d *Table) Lookup(host string) (*Tenant, bool) {
	t, ok := d.table.Load().hosts[CanonicalHost(host)]
	return t, ok
}

// ByRealm is the tenant with the realm, with ASCII letters in any case, as phone servers compare it.
func (d *Table) ByRealm(realm string) (*Tenant, bool) {
	t, ok := d.table.Load().realms[foldedRealm(realm)]
	return t, ok
}

// Means reports whether a SIP domain is the tenant's: its host or its realm, with ASCII letters in any case.
func (t Tenant) Means(domain string) bool {
	folded := foldedRealm(domain)
	return folded == t.Host || folded == foldedRealm(t.Realm)
}

// foldedRealm has ASCII letters in lower case and leaves all else alone, as the store's index does.
func foldedRealm(realm string) string {
	for i := range len(realm) {
		if c := realm[i]; 'A' <= c && c <= 'Z' {
			return strings.Map(func(r rune) rune {
				if 'A' <= r && r <= 'Z' {
					r += 'a' - 'A'
				}
				return r
			}, realm)
		}
	}
	return realm
}

// ByID is the tenant with the ID.
func (d *Table) ByID(id int64) (*Tenant, bool) {
	t, ok := d.table.Load().ids[id]
	return t, ok
}

// All are the tenants, in no order.
func (d *Table) All() []*Tenant {
	var list []*Tenant
	for _, t := range d.table.Load().hosts {
		list = append(list, t)
	}
	return list
}

// DefaultURL is the public URL of a host that has none set: https, or for this machine's own names http on the port that
// the server listens on.
func DefaultURL(host, listenPort string) string {
	if !Loopback(host) {
		return "https://" + host
	}
	return "http://" + host + ":" + listenPort
}
