// Package tenant holds the tenants and finds the tenant of a request.
//
// A tenant is one phone platform on one host name. Its realm is part of the HA1 of every account,
// so realms are unique, and a realm does not change while the tenant has accounts.
//
// # Guarantees
//
// Only the Host header selects the tenant of a request, by an exact match of its canonical form
// (CanonicalHost). There is no default tenant, and no parameter can select one. Links are built
// from the tenant's public URL, never from a request.
//
// # Table
//
// Tenants are kept in the store, and commands change them while servers run. A server looks up
// tenants in a Table, which is in memory, is read without a lock, and is replaced when the
// store's version number has changed.
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

// Tenant is one phone platform.
type Tenant struct {
	ID      int64
	Host    string
	Realm   string
	Created time.Time
	// PublicURL is the scheme, host and port at which people reach the tenant. In the store it
	// is empty if it was not set; a Table fills in the default.
	PublicURL string
	Settings
	// Freeze is not nil while the signups of all tenants are closed. It is not a setting of the tenant.
	Freeze *Freeze
}

// Settings are the settings that an operator can choose for a tenant. The zero value is valid.
type Settings struct {
	// Product is the platform's name for people. The default is the host.
	Product string `json:"product,omitempty"`
	// MailFrom is the sender of messages. The default is no-reply@HOST.
	MailFrom string `json:"mail_from,omitempty"`
	// ReplyTo is the address for replies to messages. The default is the sender.
	ReplyTo string `json:"reply_to,omitempty"`
	// MailFooter is a line at the end of messages, or empty.
	MailFooter string `json:"mail_footer,omitempty"`
	// About says what the platform is, what it costs and who runs it. Welcome is for people who have
	// an account, such as which number to try first. Both are plain text, and may be empty or have
	// several lines.
	About   string `json:"about,omitempty"`
	Welcome string `json:"welcome,omitempty"`
	// TermsURL, PrivacyURL and ImprintURL are URLs of the operator's pages, or empty.
	TermsURL   string `json:"terms_url,omitempty"`
	PrivacyURL string `json:"privacy_url,omitempty"`
	ImprintURL string `json:"imprint_url,omitempty"`
	// Support is the URL of a page or an e-mail address where people get help, or empty.
	Support string `json:"support,omitempty"`
	// Accent is the colour of links and buttons as #rrggbb. The default is DefaultAccent.
	Accent string `json:"accent,omitempty"`
	// Logo is the picture next to the platform's name. The store keeps it in separate columns.
	Logo Logo `json:"-"`
	// SIPServer and SIPTransport are what a person enters in a softphone. The defaults are the host
	// and TLS.
	SIPServer    string `json:"sip_server,omitempty"`
	SIPTransport string `json:"sip_transport,omitempty"`
	// SIPWebSocket is the URL for phones in browsers (RFC 7118), wss://host[:port][/path], or
	// empty.
	SIPWebSocket string `json:"sip_websocket,omitempty"`
	// TURNURIs are the platform's TURN servers (RFC 7065), in the order in which browsers try them.
	TURNURIs []string `json:"turn_uris,omitempty"`
	// TURNSeconds is how long a TURN credential is valid. The default is DefaultTURNLife.
	TURNSeconds int `json:"turn_seconds,omitempty"`
	// AcrobitsCloud is the platform's Cloud ID at Acrobits, for people who scan its QR code with
	// Cloud Softphone, or empty.
	AcrobitsCloud string `json:"acrobits_cloud,omitempty"`
	// Origins are sites whose pages may call the API (CORS), each as scheme://host[:port].
	Origins []string `json:"origins,omitempty"`
	// Reserved are user names that nobody can sign up with, in addition to the built-in ones.
	Reserved []string `json:"reserved,omitempty"`
	// Algorithm is the digest algorithm of sign-in challenges. The default is MD5.
	Algorithm digest.Algorithm `json:"algorithm,omitempty"`
	// SignupsPerHour limits the signups of the whole tenant. Zero means no limit.
	SignupsPerHour int `json:"signups_per_hour,omitempty"`
	// Activation is what activates an account. The default is ActivationLink.
	Activation Activation `json:"activation,omitempty"`
	// RequireFactor is who needs a second factor for the website. The default is nobody.
	RequireFactor RequireFactor `json:"require_factor,omitempty"`
	// Signups is who can sign up. The default is SignupsOpen. SignupsNote is the operator's
	// note for visitors while nobody can, one or two sentences of plain text, or empty.
	Signups     Signups `json:"signups,omitempty"`
	SignupsNote string  `json:"signups_note,omitempty"`
}

// Signups is who can sign up.
type Signups string

// The values of Signups. More may be added.
const (
	// SignupsOpen means that everybody can sign up.
	SignupsOpen Signups = "open"
	// SignupsClosed means that nobody can sign up. Waiting accounts can still be activated.
	SignupsClosed Signups = "closed"
)

// Freeze closes the signups of all tenants, regardless of their settings.
type Freeze struct {
	// Note is shown to visitors instead of a tenant's note. It may be empty.
	Note string `json:"note,omitempty"`
}

// RequireFactor is which accounts need a second factor for the website.
type RequireFactor string

const (
	// RequireNone means that no account needs one.
	RequireNone RequireFactor = "none"
	// RequireAdmin means that accounts with the role admin need one.
	RequireAdmin RequireFactor = "admin"
)

// Activation is what activates an account.
type Activation string

const (
	// ActivationLink activates an account when the link in its message is opened. This is the
	// behaviour of the published contract.
	ActivationLink Activation = "link"
	// ActivationConfirm activates an account when its password is entered on the page that the link
	// opens.
	ActivationConfirm Activation = "confirm"
)

// Name returns the platform's name for people.
func (t Tenant) Name() string { return cmp.Or(t.Product, t.Host) }

// Sender returns the sender of messages.
func (t Tenant) Sender() string { return cmp.Or(t.MailFrom, "no-reply@"+t.Host) }

// Server returns the SIP server that is shown for softphones.
func (t Tenant) Server() string { return cmp.Or(t.SIPServer, t.Host) }

// Transport returns the SIP transport that is shown for softphones.
func (t Tenant) Transport() string { return cmp.Or(t.SIPTransport, "TLS") }

// WebSocket returns the URL for phones in browsers, or an empty string if there is none.
func (t Tenant) WebSocket() string {
	if t.SIPWebSocket == "" && t.Transport() == "WSS" {
		return "wss://" + t.Server()
	}
	return t.SIPWebSocket
}

// DefaultTURNLife is how long a TURN credential is valid by default: long enough to start a
// call, and short enough that a disabled account soon has none.
const DefaultTURNLife = time.Hour

// TURNLife returns how long a TURN credential is valid.
func (t Tenant) TURNLife() time.Duration {
	if t.TURNSeconds == 0 {
		return DefaultTURNLife
	}
	return time.Duration(t.TURNSeconds) * time.Second
}

// Challenge returns the digest algorithm of sign-in challenges.
func (t Tenant) Challenge() digest.Algorithm { return cmp.Or(t.Algorithm, digest.MD5) }

// Confirms reports whether activation requires the account's password.
func (t Tenant) Confirms() bool { return t.Activation == ActivationConfirm }

// SignupMode returns who can sign up, by the tenant's own setting.
func (t Tenant) SignupMode() Signups { return cmp.Or(t.Signups, SignupsOpen) }

// Closed reports whether nobody can sign up, and returns the operator's note about that for visitors, or "".
func (t Tenant) Closed() (note string, closed bool) {
	switch {
	case t.Freeze != nil:
		return t.Freeze.Note, true
	case t.SignupMode() != SignupsOpen:
		return t.SignupsNote, true
	}
	return "", false
}

// Secure reports whether people reach the tenant over TLS.
func (t Tenant) Secure() bool { return strings.HasPrefix(t.PublicURL, "https://") }

// CanonicalHost returns the form in which a request's Host is looked up: ASCII letters in lower
// case, without the port and without one trailing dot. It returns "" if raw cannot be a host name.
func CanonicalHost(raw string) string {
	host := raw
	if i := strings.LastIndexByte(host, ':'); strings.IndexByte(host, ']') < i {
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

// New checks the host, realm, public URL and settings of a tenant, and fills in defaults. It
// fails with fault.Invalid; the field is the name of the command-line option.
func New(t Tenant) (Tenant, error) {
	host, err := idna.Lookup.ToASCII(strings.TrimSuffix(t.Host, "."))
	if err != nil || !utf8.ValidString(t.Host) || CanonicalHost(host) != host ||
		strings.ContainsAny(host, "_:") || !validLabels(host) {
		return Tenant{}, fault.Field("host",
			"%q is not a host name; use a DNS name such as phone.example.org, without a port or path",
			t.Host)
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

// ascii reports whether an address is ASCII, so that mail servers without RFC 6531 accept it.
func ascii(s string) bool { return !strings.ContainsFunc(s, func(r rune) bool { return r > '~' }) }

// validLabels reports whether every label of a host has 1 to 63 bytes (RFC 1035 section 2.3.4).
func validLabels(host string) bool {
	for label := range strings.SplitSeq(host, ".") {
		if label == "" || len(label) > 63 {
			return false
		}
	}
	return true
}

// checkRealm refuses realms that are ambiguous in H(user:realm:password) or break out of the quoted
// string of a challenge.
func checkRealm(realm string) (string, error) {
	if len(realm) > 253 {
		return "", fault.Field("realm", "the realm is longer than 253 characters; shorten it")
	}
	for i := range len(realm) {
		if c := realm[i]; c < ' ' || c > '~' || c == ':' || c == '"' || c == '\\' {
			return "", fault.Field("realm",
				"the realm %q contains a character that is not allowed in a digest realm; "+
					"use letters, digits and other signs of ASCII, but no colon, quote or backslash",
				realm)
		}
	}
	if strings.TrimSpace(realm) != realm {
		return "", fault.Field("realm", "the realm %q begins or ends with a space; remove it", realm)
	}
	return realm, nil
}

// checkURL checks a URL without a path, and returns it in lower case.
func checkURL(field, raw string) (string, error) {
	if raw == "" {
		return "", nil
	}
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" ||
		strings.Trim(u.Path, "/") != "" ||
		CanonicalHost(u.Host) == "" && !strings.HasPrefix(u.Host, "[::1]") {
		return "", fault.Field(field, "%q is not of the form https://host or https://host:port", raw)
	}
	if u.Scheme != "https" && !(u.Scheme == "http" && Loopback(u.Hostname())) {
		return "", fault.Field(field,
			"%q is not https; http is only allowed for localhost, "+
				"because links and sessions would be sent unencrypted", raw)
	}
	return u.Scheme + "://" + strings.ToLower(u.Host), nil
}

// Loopback reports whether a host name or address always refers to the local machine.
func Loopback(host string) bool {
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.Unmap().IsLoopback()
}

// Store stores tenants. Each method is one transaction.
type Store interface {
	// AddTenant adds a tenant and returns it with its ID. It fails with fault.Conflict if the host
	// exists, or if a tenant has the same realm except for case: two tenants with one realm would
	// share every HA1.
	AddTenant(ctx context.Context, t Tenant) (Tenant, error)

	// AddFirstTenant adds a tenant if there is none yet. Otherwise it does nothing.
	AddFirstTenant(ctx context.Context, t Tenant) error

	// SetTenant replaces the realm, public URL and settings of the tenant with the ID. It fails
	// with fault.NotFound if the tenant does not exist. It fails with fault.Conflict if the realm
	// belongs to another tenant, if it would change while accounts exist, or if the algorithm would
	// become SHA-256 while an account has no SHA-256 digest.
	SetTenant(ctx context.Context, t Tenant, now time.Time) error

	// RemoveTenant removes a tenant and everything that belongs to it. It fails with fault.NotFound
	// if the host does not exist, and with fault.Conflict if the tenant has accounts and accounts
	// is false.
	RemoveTenant(ctx context.Context, host string, accounts bool, now time.Time) error

	// Tenants returns all tenants in order of host, and a version number that increases with every
	// change of a tenant.
	Tenants(ctx context.Context) ([]Tenant, int64, error)

	// TenantVersion returns only the version number.
	TenantVersion(ctx context.Context) (int64, error)
}

// Table finds tenants in memory. It is safe for concurrent use.
type Table struct {
	store Store
	// defaultURL returns the default public URL of a tenant.
	defaultURL func(host string) string
	current    atomic.Pointer[table]
}

// table is one version of a Table. It is immutable.
type table struct {
	version int64
	hosts   map[string]*Tenant
	realms  map[string]*Tenant // by foldedRealm
	ids     map[int64]*Tenant
}

// NewTable returns an empty Table. Refresh fills it.
func NewTable(store Store, defaultURL func(host string) string) *Table {
	t := &Table{store: store, defaultURL: defaultURL}
	t.current.Store(&table{version: -1})
	return t
}

// Refresh reads the tenants from the store if any has changed. If it fails, the table does not
// change.
func (tt *Table) Refresh(ctx context.Context) error {
	version, err := tt.store.TenantVersion(ctx)
	if err != nil || version == tt.current.Load().version {
		return err
	}
	list, version, err := tt.store.Tenants(ctx)
	if err != nil {
		return err
	}
	next := &table{
		version: version,
		hosts:   make(map[string]*Tenant, len(list)),
		realms:  make(map[string]*Tenant, len(list)),
		ids:     make(map[int64]*Tenant, len(list)),
	}
	for _, t := range list {
		if t.PublicURL == "" {
			t.PublicURL = tt.defaultURL(t.Host)
		}
		next.hosts[t.Host] = &t
		next.realms[foldedRealm(t.Realm)] = &t
		next.ids[t.ID] = &t
	}
	tt.current.Store(next)
	return nil
}

// Lookup returns the tenant of a request's Host header. The tenant is shared and must not be
// changed.
func (tt *Table) Lookup(host string) (*Tenant, bool) {
	t, ok := tt.current.Load().hosts[CanonicalHost(host)]
	return t, ok
}

// ByHost returns the tenant with exactly this host.
func (tt *Table) ByHost(host string) (*Tenant, bool) {
	t, ok := tt.current.Load().hosts[host]
	return t, ok
}

// ByRealm returns the tenant with a realm. Like phone servers, it ignores the case of ASCII
// letters.
func (tt *Table) ByRealm(realm string) (*Tenant, bool) {
	t, ok := tt.current.Load().realms[foldedRealm(realm)]
	return t, ok
}

// ByID returns the tenant with an ID.
func (tt *Table) ByID(id int64) (*Tenant, bool) {
	t, ok := tt.current.Load().ids[id]
	return t, ok
}

// All returns all tenants, in no particular order.
func (tt *Table) All() []*Tenant {
	var list []*Tenant
	for _, t := range tt.current.Load().hosts {
		list = append(list, t)
	}
	return list
}

// HasDomain reports whether a SIP domain is the tenant's host or realm, ignoring the case of ASCII
// letters.
func (t Tenant) HasDomain(domain string) bool {
	folded := foldedRealm(domain)
	return folded == t.Host || folded == foldedRealm(t.Realm)
}

// foldedRealm returns a realm with ASCII letters in lower case and everything else unchanged, as in
// the store's index.
func foldedRealm(realm string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			r += 'a' - 'A'
		}
		return r
	}, realm)
}

// DefaultURL returns the default public URL of a tenant: https://HOST, or for a loopback host a
// URL with the port on which the server listens, and with http unless the listener uses TLS.
func DefaultURL(host, listenPort string, encrypted bool) string {
	switch {
	case !Loopback(host):
		return "https://" + host
	case encrypted:
		return "https://" + host + ":" + listenPort
	}
	return "http://" + host + ":" + listenPort
}

// Address returns the default public URL of a tenant with a host.
func (tt *Table) Address(host string) string { return tt.defaultURL(host) }
