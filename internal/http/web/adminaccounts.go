package web

import (
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"dialtone/internal/account"
	"dialtone/internal/operator"
)

// adminPageSize is the number of accounts or changes on a page of a list.
const adminPageSize = 50

// accountFilter is the filter of a list of accounts as it is in the address, for the fields of the form.
type accountFilter struct{ Text, State, Role, Net, Since, Before, Confirmed string }

// pairs returns the filter as names and values of a query.
func (f accountFilter) pairs() []string {
	return []string{
		"text", f.Text, "state", f.State, "role", f.Role, "net", f.Net, "since", f.Since, "before", f.Before,
		"confirmed", f.Confirmed,
	}
}

// filterFields are the names of the fields of an accountFilter.
var filterFields = []string{"text", "state", "role", "net", "since", "before", "confirmed"}

// newAccountFilter returns the filter whose fields get returns.
func newAccountFilter(get func(name string) string) accountFilter {
	return accountFilter{
		Text: strings.TrimSpace(get("text")), State: get("state"), Role: get("role"),
		Net: strings.TrimSpace(get("net")), Since: strings.TrimSpace(get("since")),
		Before: strings.TrimSpace(get("before")), Confirmed: get("confirmed"),
	}
}

// fixed returns the filter with times instead of durations before now, for a form that is sent
// later.
func (f accountFilter) fixed(now time.Time) accountFilter {
	f.Since, f.Before = fixedTime(f.Since, now), fixedTime(f.Before, now)
	return f
}

// fixedTime converts a duration before now to a time. It returns other texts unchanged.
func fixedTime(text string, now time.Time) string {
	if d, err := operator.ParsePeriod("time", text); err == nil && d > 0 {
		return now.UTC().Add(-d).Truncate(time.Second).Format(time.RFC3339)
	}
	return text
}

// maxFilterText is the maximum length of a text in a filter, in bytes: that of an e-mail address.
const maxFilterText = 254

// query converts the filter to a query, or returns the name of the first invalid field. A phone
// address at the host counts as a user name.
func (f accountFilter) query(host string, now time.Time) (q account.Query, problem string) {
	if len(f.Text) > maxFilterText || !utf8.ValidString(f.Text) || strings.ContainsFunc(f.Text, unicode.IsControl) {
		return q, "text"
	}
	q.Text = strings.TrimPrefix(f.Text, "sip:")
	if user, of, _ := strings.Cut(q.Text, "@"); user != "" && strings.EqualFold(of, host) {
		q.Text = user
	}
	if f.State != "" {
		if !slices.Contains(account.States, account.State(f.State)) {
			return q, "state"
		}
		q.States = []account.State{account.State(f.State)}
	}
	if f.Role != "" {
		if !slices.Contains(account.Roles, account.Role(f.Role)) {
			return q, "role"
		}
		q.Roles = []account.Role{account.Role(f.Role)}
	}
	var ok bool
	if q.Net, ok = parseNetwork(f.Net); !ok {
		return q, "net"
	}
	if q.Since, q.Before, problem = parseTimes(f.Since, f.Before, now); problem != "" {
		return q, problem
	}
	switch f.Confirmed {
	case "":
	case "yes", "no":
		yes := f.Confirmed == "yes"
		q.Confirmed = &yes
	default:
		return q, "confirmed"
	}
	return q, ""
}

// parseNetwork parses a network, or an address as its network. The result has no more bits than the
// store keeps of an address. An empty text is the zero network.
func parseNetwork(text string) (netip.Prefix, bool) {
	p, err := operator.ParseNetwork("net", text)
	if err != nil || !p.IsValid() {
		return p, err == nil
	}
	bits := 48
	if p.Addr().Is4() {
		bits = 24
	}
	p, err = p.Addr().Prefix(min(p.Bits(), bits))
	return p, err == nil
}

// parseTimes parses the fields since and before, or returns the name of the problem.
func parseTimes(sinceText, beforeText string, now time.Time) (since, before time.Time, problem string) {
	var ok bool
	if since, ok = parseTime(sinceText, now); !ok {
		return since, before, "since"
	}
	if before, ok = parseTime(beforeText, now); !ok {
		return since, before, "before"
	}
	if !before.IsZero() && !since.Before(before) {
		return since, before, "order"
	}
	return since, before, ""
}

// parseTime parses a time in the format of commands, or as people write it in UTC. A day means its
// beginning, as in commands. An empty text is the zero time.
func parseTime(text string, now time.Time) (at time.Time, ok bool) {
	at, err := operator.ParseTime("time", text, now)
	if err == nil {
		return at, true
	}
	for _, layout := range []string{"2006-01-02T15:04", "2006-01-02 15:04", "2006-01-02 15:04:05"} {
		if at, err := time.Parse(layout, text); err == nil {
			return at, at.Year() >= 1970
		}
	}
	return at, false
}

// wrongFilter is an invalid field of a filter: its name, and the key of the text about it.
type wrongFilter struct{ Wrong, Error string }

// newWrongFilter returns the field that a problem of a filter is about.
func newWrongFilter(problem string) wrongFilter {
	switch problem {
	case "since", "before":
		return wrongFilter{problem, "admin.bad.filter_time"}
	case "order":
		return wrongFilter{"before", "admin.bad.filter_order"}
	}
	return wrongFilter{problem, "admin.bad.filter_" + problem}
}

// fixes returns the field for the summary of problems.
func (f wrongFilter) fixes() []adminField { return []adminField{{f.Wrong, filterLabels[f.Wrong]}} }

// filterLabels maps fields of filters to the keys of their labels.
var filterLabels = map[string]string{
	"text": "admin.text", "state": "admin.state", "role": "admin.role", "net": "admin.net", "since": "admin.since",
	"before": "admin.before_time", "confirmed": "admin.confirmed", "user": "form.user", "action": "admin.action",
	"actor": "admin.actor",
}

// accountsView is /admin/accounts.
type accountsView struct {
	adminFrame
	wrongFilter
	Filter accountFilter
	// NotSearched means that the filter or the address has a problem.
	NotSearched bool
	// States and Roles are the choices of the filter.
	States []account.State
	Roles  []account.Role
	// Fixed is Filter with fixed times, for the form for a bulk change.
	Fixed accountFilter
	// Filtered means that the filter selects only some accounts.
	Filtered bool
	Accounts []listedAccount
	// Next is the address of the next page, or empty. Partial means that this page is not full
	// although there may be more accounts.
	Next    string
	Partial bool
	// First is the address of the first page, if this is a later one.
	First string
	// Action and Reason fill the form for a bulk change. Bulks lists recent bulk changes.
	Action, Reason string
	Bulks          []listedBulk
}

// listedAccount is an account in a list.
type listedAccount struct {
	URL               string
	User, Name, Email string
	State             account.State
	Role              account.Role
	Created           time.Time
	Net               string
	Confirmed         bool
}

// MoreFiltered reports whether the filter uses fields other than text and state.
func (v accountsView) MoreFiltered() bool {
	return v.Filter != accountFilter{Text: v.Filter.Text, State: v.Filter.State}
}

// Times are suggestions for a time in a filter.
func (adminFrame) Times() []string { return []string{"15m", "1h", "2h", "24h"} }

// Today is the current day in UTC, for an example.
func (adminFrame) Today() string { return time.Now().UTC().Format(time.DateOnly) }

// Yesterday is the day before Today.
func (adminFrame) Yesterday() string { return time.Now().UTC().AddDate(0, 0, -1).Format(time.DateOnly) }

func (f adminFrame) listed(list []account.Account) []listedAccount {
	out := make([]listedAccount, len(list))
	for i, a := range list {
		out[i] = listedAccount{
			f.Link(adminAccount, "user", a.User), a.User, a.Name, a.Email, a.State(), a.Role, a.Created, a.Net,
			!a.Confirmed.IsZero(),
		}
	}
	return out
}

// adminQuery returns the query of an address. A malformed query counts as empty.
func adminQuery(r *adminRequest) url.Values {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return url.Values{}
	}
	return q
}

func (s *Site) showAccounts(w http.ResponseWriter, r *adminRequest) error {
	q := adminQuery(r)
	return s.listAccounts(w, r, s.newAccountsView(r, newAccountFilter(q.Get)), q.Get("next"))
}

func (s *Site) newAccountsView(r *adminRequest, f accountFilter) accountsView {
	return accountsView{
		adminFrame: s.adminFrame(r, adminAccounts, "deleted", "reserved", "name-freed"), Filter: f,
		States: account.States, Roles: account.Roles,
	}
}

// listAccounts writes the list. If the filter has a problem, the list is empty.
func (s *Site) listAccounts(w http.ResponseWriter, r *adminRequest, v accountsView, next string) error {
	now := s.deps.Operators.Now()
	query, problem := v.Filter.query(r.tenant.Host, now)
	v.Fixed = v.Filter.fixed(now)
	if v.NotSearched = problem != ""; v.NotSearched {
		v.wrongFilter = newWrongFilter(problem)
		v.Problem, v.Fixes = "filter", v.fixes()
	} else {
		page, err := s.deps.Operators.List(r.Context(), r.caller, r.tenant, query, next, adminPageSize)
		if p, ok := problemOf(err); ok && next != "" {
			v.Problem, v.NotSearched = "list_"+p, true // an invalid cursor
		} else if err != nil {
			return err
		}
		v.Accounts = v.listed(page.Accounts)
		if page.Next != "" {
			v.Next = v.Link(adminAccounts, append(v.Filter.pairs(), "next", page.Next)...)
			v.Partial = len(page.Accounts) < adminPageSize
		}
		if next != "" {
			v.First = v.Link(adminAccounts, v.Filter.pairs()...)
		}
	}
	v.Filtered = v.Filter != accountFilter{} && problem == ""
	bulks, err := s.deps.Operators.Bulks(r.Context(), r.caller, r.tenant, maxBulks)
	if err != nil {
		return err
	}
	for _, b := range bulks {
		v.Bulks = append(v.Bulks, newListedBulk(v.adminFrame, b))
	}
	return s.adminShow(w, r, "admin-accounts", v.Problem, v)
}
