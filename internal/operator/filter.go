package operator

import (
	"net/netip"
	"strconv"
	"strings"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/fault"
)

// The functions in this file parse the texts of filters, for commands and the API alike. An
// empty text is the zero value. They fail with fault.Invalid, which names the field.

// ParseTime parses a time: a date, a time of RFC 3339, or a duration before now.
func ParseTime(field, text string, now time.Time) (time.Time, error) {
	return parseTime(field, text, now, -1)
}

// ParseEnd is like ParseTime, but for a future time: a duration counts from now.
func ParseEnd(field, text string, now time.Time) (time.Time, error) {
	return parseTime(field, text, now, 1)
}

func parseTime(field, text string, now time.Time, direction time.Duration) (at time.Time, err error) {
	if text == "" {
		return time.Time{}, nil
	}
	if d, ok := parsePeriod(text); ok {
		at = now.Add(direction * d)
	} else if at, err = time.Parse(time.RFC3339, text); err != nil {
		at, err = time.Parse(time.DateOnly, text)
	}
	if err != nil || at.Year() < 1970 || at.Year() > 9999 {
		where := "before"
		if direction > 0 {
			where = "after"
		}
		return time.Time{}, fault.Field(field, "%q is not a time; use 2026-03-01, 2026-03-01T12:00:00Z, "+
			"or a duration %s now such as 24h or 7d", text, where)
	}
	return at.UTC().Truncate(time.Microsecond), nil // the precision of the store
}

// ParsePeriod parses a duration, which may also be in whole days.
func ParsePeriod(field, text string) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	d, ok := parsePeriod(text)
	if !ok || d == 0 {
		return 0, fault.Field(field, "%q is not a duration such as 30m, 12h or 7d", text)
	}
	return d, nil
}

// PeriodText formats a duration so that ParsePeriod can parse it.
func PeriodText(d time.Duration) string {
	const day = 24 * time.Hour
	if d > day && d%day == 0 {
		return strconv.FormatInt(int64(d/day), 10) + "d"
	}
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

func parsePeriod(text string) (time.Duration, bool) {
	const day, maxDays = 24 * time.Hour, 36500
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 16)
		return time.Duration(n) * day, err == nil && n <= maxDays
	}
	d, err := time.ParseDuration(text)
	return d, err == nil && d >= 0
}

// ParseNetwork parses an address or a network.
func ParseNetwork(field, text string) (netip.Prefix, error) {
	if text == "" {
		return netip.Prefix{}, nil
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		a, err := netip.ParseAddr(text)
		if err != nil || a.Zone() != "" {
			return netip.Prefix{}, fault.Field(field, "%q is neither an address nor a network; "+
				"use 192.0.2.1, 192.0.2.0/24 or 2001:db8::/48", text)
		}
		a = a.Unmap()
		p = netip.PrefixFrom(a, a.BitLen())
	}
	if p.Addr().Is4In6() {
		return netip.Prefix{}, fault.Field(field, "%q is an IPv4 network written as IPv6; write it as 192.0.2.0/24",
			text)
	}
	return p.Masked(), nil
}

// ParseSignupNetwork is ParseNetwork for the network of a signup. Only its /24 or /48 is
// stored, so an address is replaced by its network.
func ParseSignupNetwork(field, text string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(text); err == nil && a.Zone() == "" {
		text = audit.Network(a)
	}
	return ParseNetwork(field, text)
}

// AccountFilter is the text form of an account.Query.
type AccountFilter struct {
	States    []account.State
	Roles     []account.Role
	Text      string
	Network   string
	Since     string
	Before    string
	Confirmed *bool
}

// Query returns the query of a filter.
func (f AccountFilter) Query(now time.Time) (q account.Query, err error) {
	q = account.Query{States: f.States, Roles: f.Roles, Text: f.Text, Confirmed: f.Confirmed}
	if q.Net, err = ParseSignupNetwork("net", f.Network); err != nil {
		return q, err
	}
	if q.Since, err = ParseTime("since", f.Since, now); err != nil {
		return q, err
	}
	if q.Before, err = ParseTime("before", f.Before, now); err != nil {
		return q, err
	}
	return q, q.Check()
}
