package account

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"dialtone/internal/fault"
)

// Query selects accounts for a list. A zero field selects all.
type Query struct {
	States []State `json:"states,omitempty"`
	Roles  []Role  `json:"roles,omitempty"`
	// Text is a prefix of the user name, the address, the display name, or a later word of the
	// display name. Case is ignored. The domain of an address has the form of A-labels.
	Text string `json:"text,omitempty"`
	// Net contains the network that the signup came from. Its prefix has at most 24 bits for
	// IPv4 and 48 for IPv6, since the store keeps no more of an address.
	Net netip.Prefix `json:"net,omitzero"`
	// Since and Before limit the time of the signup to the half-open interval [Since, Before).
	Since  time.Time `json:"since,omitzero"`
	Before time.Time `json:"before,omitzero"`
	// Confirmed is whether the account is confirmed, or nil.
	Confirmed *bool `json:"confirmed,omitempty"`
}

// maxQueryText is the maximum length of Query.Text in bytes: that of a display name.
const maxQueryText = maxNameBytes

// Check fails with fault.Invalid for a query that makes no sense.
func (q Query) Check() error {
	for _, state := range q.States {
		if !slices.Contains(States, state) {
			return fault.Field("state", "no account is in the state %q; "+
				"use waiting, active, disabled or leaving; deleted accounts are in the list of names", state)
		}
	}
	for _, role := range q.Roles {
		if !slices.Contains(Roles, role) {
			return fault.Field("role", "there is no role %q; use guest, user, siponly or admin", role)
		}
	}
	if len(q.Text) > maxQueryText || !utf8.ValidString(q.Text) || strings.ContainsFunc(q.Text, unicode.IsControl) {
		return fault.Field("text", "the text must be one line with at most %d bytes", maxQueryText)
	}
	if q.Net == (netip.Prefix{}) {
		return nil
	}
	maxBits := 48
	if q.Net.Addr().Is4() {
		maxBits = 24
	}
	switch {
	case !q.Net.IsValid() || q.Net != q.Net.Masked() || q.Net.Addr().Is4In6():
		return fault.Field("net", "the network must be one such as 192.0.2.0/24 or 2001:db8::/32")
	case q.Net.Bits() > maxBits:
		return fault.Field("net", "the network is smaller than what is kept of an address; "+
			"use at most /24 for IPv4 and /48 for IPv6")
	}
	return nil
}

// Empty reports whether the query selects all accounts.
func (q Query) Empty() bool {
	return len(q.States) == 0 && len(q.Roles) == 0 && q.Text == "" && q.Net == (netip.Prefix{}) &&
		q.Since.IsZero() && q.Before.IsZero() && q.Confirmed == nil
}

// Page is a part of a list of accounts.
type Page struct {
	Accounts []Account
	// Next continues the list after this page. It is empty at the end of the list. A page with
	// a Next can have fewer accounts than requested, or none: the store examines a limited
	// number of accounts for one page.
	Next string
}

// PageStore lists accounts page by page.
type PageStore interface {
	// Page returns up to limit accounts of the tenant that a query selects, after the page
	// whose Next is given; without next it returns the first page. Accounts that signed up
	// later come first; with Query.Text, accounts are ordered by how they match. An account
	// that exists throughout is on exactly one page. The time that Page takes does not depend
	// on the number of accounts. It fails with fault.Invalid for a next that no page returned.
	Page(ctx context.Context, tenant int64, q Query, next string, limit int, now time.Time) (Page, error)
}

// Matches reports whether the query selects an account, which must not be expired or deleted.
func (q Query) Matches(a Account) bool {
	return (len(q.States) == 0 || slices.Contains(q.States, a.State())) &&
		(len(q.Roles) == 0 || slices.Contains(q.Roles, a.Role)) &&
		(q.Text == "" ||
			hasPrefixFold(a.User, q.Text) || hasPrefixFold(a.Email, q.Text) || hasWordFold(a.Name, q.Text)) &&
		(!q.Net.IsValid() || q.contains(a.Net)) &&
		!a.Created.Before(q.Since) && (q.Before.IsZero() || a.Created.Before(q.Before)) &&
		(q.Confirmed == nil || *q.Confirmed == !a.Confirmed.IsZero())
}

// hasPrefixFold reports whether s begins with prefix, ignoring case.
func hasPrefixFold(s, prefix string) bool {
	return strings.HasPrefix(strings.ToLower(s), strings.ToLower(prefix))
}

// hasWordFold reports whether s or one of its later words begins with prefix, ignoring case. A word
// begins after a space or a hyphen.
func hasWordFold(s, prefix string) bool {
	s, prefix = strings.ToLower(s), strings.ToLower(prefix)
	return strings.HasPrefix(s, prefix) || strings.Contains(s, " "+prefix) || strings.Contains(s, "-"+prefix)
}

// contains reports whether the query's network contains another one, in the form of audit.Network.
func (q Query) contains(net string) bool {
	p, err := netip.ParsePrefix(net)
	return err == nil && p.Bits() >= q.Net.Bits() && q.Net.Contains(p.Addr())
}
