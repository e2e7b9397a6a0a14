// Package export defines what phone servers can read from tables or files, instead of looking up accounts over
// HTTP.
//
// The tables contain HA1s in the clear, so they exist only while an operator has enabled the export.
// Then exactly the active accounts have entries. An entry is added before the change that makes an
// account active is answered, and removed before the change that ends this is answered.
//
// The package contains the rules and not the tables: these are in the store, and package
// htdigest below this one writes files for Apache.
package export

import (
	"context"
	"fmt"
	"strings"

	"dialtone/internal/account"
	"dialtone/internal/digest"
	"dialtone/internal/fault"
	"dialtone/internal/tenant"
)

// Entry is what phone servers read about an account.
type Entry struct {
	UID   account.UID
	User  string
	Realm string
	Role  account.Role
	digest.Credential
}

// Address returns the user name with the realm, user@realm. Some phones authenticate by it, and it
// is unique among the accounts of all tenants.
func (e Entry) Address() string { return e.User + "@" + e.Realm }

// Includes reports whether an existing account has an entry. Phone servers have no field for a
// disabled account, so a disabled account has none.
func Includes(a account.Account) bool { return !a.Disabled }

// Domain is a SIP domain: the part of an address of record after the @.
type Domain struct {
	Name string // in lower case
	// Realm is the realm that users of the domain are challenged with.
	Realm  string
	Tenant int64
}

// Domains returns the SIP domains of tenants: the host of each, and its realm if that is a host
// name too, as when people sign up at accounts.example.org for phones that register at example.org.
// The host of one tenant is never a domain of another.
func Domains(tenants []tenant.Tenant) []Domain {
	var list []Domain
	taken := make(map[string]bool)
	add := func(name string, t tenant.Tenant) {
		if !taken[name] {
			taken[name] = true
			list = append(list, Domain{name, t.Realm, t.ID})
		}
	}
	for _, t := range tenants {
		add(t.Host, t)
	}
	for _, t := range tenants {
		if name := tenant.CanonicalHost(t.Realm); name != "" && strings.EqualFold(name, t.Realm) {
			add(name, t)
		}
	}
	return list
}

// Status is the state of the export.
type Status struct {
	Enabled bool `json:"enabled"`
	// Complete means that every active account has its entry. It is false until EnableExport has
	// added the accounts that existed before, and while accounts are missing.
	Complete bool  `json:"whole"`
	Entries  int64 `json:"entries"`
	Domains  int64 `json:"domains"`
	// Missing are the active accounts that have no entry because their credentials do not open.
	Missing []Missing `json:"missing"`
	// Locations are where the tables are: a file, or schemas of a database.
	Locations []string `json:"places"`
}

// Missing is an active account that has no entry, because its credential does not open: the row of
// the account was damaged or exchanged.
type Missing struct {
	UID    account.UID `json:"-"`
	ID     string      `json:"account"` // the text of UID
	User   string      `json:"user"`
	Tenant string      `json:"tenant"` // the host
}

// String names the account for an operator.
func (m Missing) String() string { return m.User + " of " + m.Tenant + " (" + m.ID + ")" }

// MissingHint tells operators what to do about missing accounts.
const MissingHint = "restore its row from a backup and run dialtone directory export rebuild, or delete the account"

// DescribeMissing says in one line which accounts are missing in the export, and what to do.
func DescribeMissing(list []Missing) string {
	const shown = 10
	var names []string
	for _, m := range list[:min(shown, len(list))] {
		names = append(names, m.String())
	}
	if len(list) > shown {
		names = append(names, fmt.Sprintf("and %d more", len(list)-shown))
	}
	return "active accounts left out, because their credentials do not open: " + strings.Join(names, ", ") +
		"; for each, " + MissingHint
}

// Progress is called with the number of entries done so far and the total number of entries.
type Progress func(done, total int64)

// ErrNotEnabled means that an operation needs the export to be enabled.
var ErrNotEnabled = fault.New(fault.Conflict,
	"the export for phone servers is not enabled; enable it with: dialtone directory export enable")

// Admin enables, disables and repairs the export. Package conformance tests these rules.
//
// While the export is enabled, every method of account.Store and tenant.Store that changes what an
// entry contains updates the entry before it returns without an error. If it returns an error, the
// account may have changed without the entry. CatchUpExport updates the entry later.
//
// An account whose credential does not open has no entry and is recorded as missing. It does
// not affect the entries of other accounts, and no method fails because of it.
type Admin interface {
	// EnableExport enables the export and returns when it is complete, except for missing accounts.
	// Changes during the call are included. If the export is enabled already, EnableExport compares
	// every entry with its account and corrects it. If the tables cannot be filled, the audit trail
	// gets a second row about that.
	EnableExport(ctx context.Context, progress Progress) error

	// DisableExport disables the export and removes every entry. It is idempotent. If the entries
	// cannot be removed, the audit trail gets a second row about that.
	DisableExport(ctx context.Context) error

	// ExportStatus returns the state of the export.
	ExportStatus(ctx context.Context) (Status, error)

	// MissingInExport returns the active accounts that have no entry because their credentials do
	// not open. It is called periodically.
	MissingInExport(ctx context.Context) ([]Missing, error)

	// CompareExport calls report for each difference between the entries and the accounts, and for
	// what CheckExportSchema finds. It changes nothing, except that it applies pending updates first.
	CompareExport(ctx context.Context, report func(string)) error

	// CheckExportSchema calls report for each table, view or other part of the exported tables
	// that differs from what the program creates, and for other objects that can change what
	// phone servers read. It changes nothing.
	CheckExportSchema(ctx context.Context, report func(string)) error

	// CatchUpExport applies updates that a crash or a fault has delayed, and removes leftovers
	// of a disabled export. It is called periodically.
	CatchUpExport(ctx context.Context) error
}

// Source reads the export. Package conformance tests these rules.
type Source interface {
	// ExportedEntries calls yield for the entries of a realm in the order of user names, until
	// yield fails; it returns that error. The entries include every change that was answered before
	// the call. It fails with ErrNotEnabled.
	ExportedEntries(ctx context.Context, realm string, yield func(Entry) error) error

	// ExportVersion returns a number that is different after every change of an entry. It is 0
	// while the export is disabled.
	ExportVersion(ctx context.Context) (int64, error)
}
