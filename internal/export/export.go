package export

import (
	"context"
	"strings"

	"dialtone/internal/account"
	"dialtone/internal/digest"
	"dialtone/internal/fault"
	"dialtone/internal/tenant"
)

// # The export
//
// Some phone servers do not ask over HTTP: they read a table, or a file. What they read has the HA1s in clear, and so there is none
// unless an operator says so. Then an entry stands there for every active account and for no other, from before the change is
// answered that made the account active until before the one is that ended it.

// Entry is what phone servers read of an account.
type Entry struct {
	UID   account.UID
	User  string
	Realm string
	Role  account.Role
	digest.Credential
}

// Address is the user name that includes the realm: that of a phone which sends it so, and the one name that an account has among
// those of all tenants.
func (e Entry) Address() string { return e.User + "@" + e.Realm }

// Listed reports whether phone servers may know of an account that is there. They have no field for "disabled".
func Includes(a account.Account) bool { return !a.Disabled }

// Domain is a SIP domain, the part of an address-of-record behind the @.
type Domain struct {
	Name string // in lower case
	// Realm is what its users are challenged with.
	Realm  string
	Tenant int64
}

// Domains are the SIP domains of tenants: the host of each, and its realm where that is a host name too, as where accounts are made
// at accounts.example.org for phones that register at example.org. A name that is one tenant's host is no other's.
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

// Status is how the export stands.
type Status struct {
	Enabled bool `json:"enabled"`
	// Whole says that every active account has its entry. It is false until the accounts of before have been added.
	Complete bool  `json:"whole"`
	Entries  int64 `json:"entries"`
	Domains  int64 `json:"domains"`
	// Places are where phone servers find it: a file, or schemas of a database.
	Places []string `json:"places"`
}

// Progress is told how many of the entries are done.
type Progress func(done, total int64)

// ErrNoExport is what is refused without an export.
var ErrNotEnabled = fault.New(fault.Conflict, "phone servers are given no directory; begin it with: dialtone directory export enable")

// Exporter keeps the export. Package storetest states these rules as tests.
//
// While it is enabled, every method of account.Store and tenant.Store that changes what an entry says has the entry follow before it
// returns without an error. Where it returns an error, the account may have changed and the entry not; it then follows as soon as it
// can (TendExport).
type Exporter interface {
	// EnableExport begins the export, and returns when it is whole. What changes meanwhile is in it as it became. Where it is
	// enabled already, all of it is compared with the accounts and mended.
	EnableExport(ctx context.Context, progress Progress) error

	// DisableExport ends the export and removes every entry. It may be repeated.
	DisableExport(ctx context.Context) error

	// ExportStatus says how it stands.
	ExportStatus(ctx context.Context) (Status, error)

	// Exported calls each for the entries of a realm in the order of users, until each fails; it returns that failure. It gives
	// every change that was answered before it was called. It fails with ErrNoExport.
	ExportedEntries(ctx context.Context, realm string, each func(Entry) error) error

	// ExportChanges is a number that is another one after an entry was changed, 0 where there is no export.
	ExportVersion(ctx context.Context) (int64, error)

	// TendExport has entries follow that a crash or a fault has kept from it, and removes what a disabled export has left. It is
	// called again and again.
	CatchUpExport(ctx context.Context) error

	// CompareExport reports what in the export is not as the accounts say. It changes nothing but what is due.
	CompareExport(ctx context.Context, report func(string)) error
}
