// Package finding describes the faults of an installation: the cause of each, and what to do.
//
// It changes nothing. Advice to change the owner or the mode of a file does not help other users to trick root: Change
// and Link replace it if the path leads through a link that somebody else has made.
//
// The package contains the checks that need neither the configuration nor an open store: of files that the wrong user
// owns, names that the DNS lacks, and a public URL at which another server answers. The other checks are in package
// doctor, which passes them to Run. Run runs all checks at the same time and ends within a limit, even if one hangs: a
// check that did not end is a finding of its own.
package finding

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// Level says how bad a finding is.
type Level string

// The levels.
const (
	// Fault prevents people from using the platform, or endangers the data.
	Fault Level = "fault"
	// Warning is a problem to fix before it becomes a fault.
	Warning Level = "warning"
	// Note is a state that may be intended.
	Note Level = "note"
)

// Section is a part of docs/operating.md, by its anchor, or of another page in docs, by page#anchor.
type Section string

// The sections that findings refer to.
const (
	AboutStart   Section = "start"
	AboutRestore Section = "restore"
	AboutHealth  Section = "health"
	AboutKeys    Section = "keys"
	AboutMail    Section = "mail"
	AboutPhones  Section = "phone-servers"
	AboutNodes   Section = "more-than-one-server"
	AboutClock   Section = "the-clock"
	AboutSignups Section = "opening-and-closing-signups"
	AboutTenants Section = "tenants"
	AboutTrail   Section = "audit-trail"
	AboutDoctor  Section = "what-is-wrong"

	AboutCertificates Section = "tls.md#certificates-in-files"
	AboutExpiry       Section = "tls.md#expiry"
	AboutKeyFiles     Section = "tls.md#who-reads-the-keys"
)

// Sections are all of them.
var Sections = []Section{
	AboutStart, AboutRestore, AboutHealth, AboutKeys, AboutMail, AboutPhones, AboutNodes, AboutClock, AboutSignups,
	AboutTenants, AboutTrail, AboutDoctor, AboutCertificates, AboutExpiry, AboutKeyFiles,
}

// Path returns where the section is in the source.
func (s Section) Path() string {
	if strings.Contains(string(s), "#") {
		return "docs/" + string(s)
	}
	return "docs/operating.md#" + string(s)
}

// Finding is one fault, warning or note.
type Finding struct {
	Level Level  `json:"level"`
	Check string `json:"check"`  // what was checked, in a word or two
	Cause string `json:"cause"`  // one sentence, without a period
	Next  string `json:"advice"` // what to do, likewise
	See   string `json:"see"`    // a page of the documentation
}

// New returns a finding.
func New(level Level, check string, see Section, cause, next string) Finding {
	return Finding{Level: level, Check: check, Cause: cause, Next: next, See: see.Path()}
}

// Check is a part of an examination.
type Check struct {
	Name string
	Do   func(context.Context) []Finding
}

// Run runs checks at the same time, and returns their findings in the order of the checks.
func Run(ctx context.Context, limit time.Duration, checks []Check) []Finding {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	results := make([]chan []Finding, len(checks))
	for i, c := range checks {
		results[i] = make(chan []Finding, 1)
		go func() { results[i] <- c.Do(ctx) }()
	}
	// A check that ends because of the timeout gets a moment to report that.
	over := time.After(limit + limit/10)
	list := []Finding{}
	for i, c := range checks {
		select {
		case found := <-results[i]:
			list = append(list, found...)
			continue
		default:
		}
		select {
		case found := <-results[i]:
			list = append(list, found...)
		case <-over:
			over = closed
			list = append(list, New(Fault, c.Name, AboutDoctor,
				fmt.Sprintf("the check did not end within %v, so a disk or another machine may hang", limit),
				"look at the disks of this machine (dmesg) and at its network"))
		}
	}
	return list
}

// closed is a timer that has always expired.
var closed = func() <-chan time.Time {
	c := make(chan time.Time)
	close(c)
	return c
}()
