// Package stats counts what happens at each tenant, by day.
//
// # What it guarantees
//
// Counting is an addition in memory. It never blocks, and the number of counters depends only
// on the numbers of tenants and kinds. A Counter writes its counts about once a second, in one
// transaction. A crash loses the counts since then. If the database fails during the commit of
// that transaction, they may be lost.
//
// # What it is not
//
// It counts by day, and neither by hour nor by account. Events of one account are in the audit
// log and the audit trail.
package stats

import (
	"context"
	"slices"
	"strconv"
	"time"
)

// Kind is what is counted. Its values are stored and published, so they do not change.
type Kind string

// The kinds.
const (
	Signup       Kind = "signup"       // new accounts that wait for their owner to open the link
	Activation   Kind = "activation"   // accounts that a link activated
	Confirmation Kind = "confirmation" // links that were opened with the password of the account
	FirstSignIn  Kind = "first_signin" // people who signed in for the first time
	SignIn       Kind = "signin"       // sign-ins

	// Refused sign-ups, by cause.
	SignupCaptcha Kind = "signup_refused_captcha"
	SignupTaken   Kind = "signup_refused_taken"   // the user name is taken
	SignupLimit   Kind = "signup_refused_limit"   // a limit of an address, a recipient or a tenant
	SignupInvalid Kind = "signup_refused_invalid" // a field is not valid
	SignupClosed  Kind = "signup_refused_closed"  // sign-ups are closed
	SignupFailed  Kind = "signup_refused_failure" // the server failed

	SignInRefused Kind = "signin_refused"
	Lookup        Kind = "lookup"      // credentials that phone servers got
	MailSent      Kind = "mail_sent"   // messages that the relay accepted
	MailFailed    Kind = "mail_failed" // messages whose delivery failed
)

// Kinds are all kinds, in the order in which they are shown.
var Kinds = []Kind{
	Signup, Activation, Confirmation, FirstSignIn, SignIn,
	SignupCaptcha, SignupTaken, SignupLimit, SignupInvalid, SignupClosed, SignupFailed,
	SignInRefused, Lookup, MailSent, MailFailed,
}

// KeptDays is how many days of counts are kept.
const KeptDays = 400

// Day is a day, UTC, as the number of days since 1970-01-01.
type Day int64

const dayLength = 24 * 60 * 60 // seconds

// DayOf returns the day of a time.
func DayOf(t time.Time) Day {
	s := t.Unix()
	if s < 0 {
		s -= dayLength - 1
	}
	return Day(s / dayLength)
}

// Time returns the start of the day.
func (d Day) Time() time.Time { return time.Unix(int64(d)*dayLength, 0).UTC() }

func (d Day) String() string { return d.Time().Format(time.DateOnly) }

// MarshalText returns the date, so that a day is a date in JSON.
func (d Day) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText parses the result of MarshalText.
func (d *Day) UnmarshalText(text []byte) error {
	t, err := time.Parse(time.DateOnly, string(text))
	*d = DayOf(t)
	return err
}

// Count is how often something happened at a tenant on a day.
type Count struct {
	Tenant int64
	Day    Day
	Kind   Kind
	N      int64
}

// Counts has a number for each of Kinds.
type Counts map[Kind]int64

// DayCounts are the counts of a day.
type DayCounts struct {
	Day    Day    `json:"day"`
	Counts Counts `json:"counts"`
}

// Store stores counts. Every method is one transaction. Package conformance tests these rules.
type Store interface {
	// AddCounts adds to the counts of days. It ignores tenants that do not exist.
	AddCounts(ctx context.Context, list []Count) error

	// Counts returns the counts of a tenant, or the sums of all tenants for 0, for the days
	// from to to, inclusive. Counts that are zero may be missing.
	Counts(ctx context.Context, tenant int64, from, to Day) ([]Count, error)

	// RemoveCounts removes up to limit counts of days before a day, oldest first, and returns how many it removed.
	RemoveCounts(ctx context.Context, before Day, limit int) (int64, error)
}

// Series returns a row for each day in [from, to], and the totals.
func Series(list []Count, from, to Day) (days []DayCounts, total Counts) {
	for day := from; day <= to; day++ {
		days = append(days, DayCounts{day, newCounts()})
	}
	total = newCounts()
	for _, c := range list {
		if c.Day >= from && c.Day <= to && slices.Contains(Kinds, c.Kind) {
			days[c.Day-from].Counts[c.Kind] += c.N
			total[c.Kind] += c.N
		}
	}
	return days, total
}

func newCounts() Counts {
	c := make(Counts, len(Kinds))
	for _, k := range Kinds {
		c[k] = 0
	}
	return c
}

// MaxCounted is the number up to which the rows of a backlog are counted.
const MaxCounted = 1000

// Bounded is a number of rows that is exact up to MaxCounted. A larger value means that there are more.
type Bounded int64

func (n Bounded) String() string {
	if n > MaxCounted {
		return "more than " + strconv.Itoa(MaxCounted)
	}
	return strconv.FormatInt(int64(n), 10)
}
