package sipserver

import (
	"context"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/fault"
)

// Server is a phone server and its token.
type Server struct {
	// Name is unique among servers; see CheckName.
	Name string
	// Token is the SHA-256 of the token.
	Token [32]byte
	// Tenants are the IDs of the tenants that the server may ask about. The ID of a removed tenant
	// is never reused.
	Tenants []int64
	Created time.Time
}

// Store is what a Registry reads. Every method is one transaction. Package conformance tests these
// rules.
type Store interface {
	// Servers returns all servers ordered by name, and the version of that list.
	Servers(ctx context.Context) ([]Server, int64, error)

	// ServersVersion returns a number that increases with every change of a server.
	ServersVersion(ctx context.Context) (int64, error)

	// Sealed returns the part of an account that a look-up needs: Tenant, User, UID, Role, Disabled
	// and Sealed. The caller must not modify Sealed. It fails with fault.NotFound. Look-ups are by far
	// the most frequent requests, so this is one query of one row.
	Sealed(ctx context.Context, tenant int64, user string, now time.Time) (account.Account, error)

	// OnChange adds a function that is called after each transaction of this process that may have
	// changed the result of Sealed for an active account, and before the method that ran the
	// transaction returns, with or without an error. The argument is the UID of the account, or the
	// zero UID if any account may have changed.
	OnChange(f func(uid account.UID))

	// RecordLookups adds look-ups of accounts that are neither deleted nor disabled, and updates older
	// ones of the same account, server and form. Callers must sort the list, so that concurrent calls
	// cannot deadlock. It contains only one entry for each account, server and form.
	RecordLookups(ctx context.Context, list []Lookup) error

	// LastLookups returns the look-ups of an account within LookupLife, by servers that still
	// exist, ordered by server name and form.
	LastLookups(ctx context.Context, uid account.UID, now time.Time) ([]Lookup, error)
}

// AdminStore is for operators' commands. Every method is one transaction. Package
// conformance tests these rules.
type AdminStore interface {
	// AddServer adds a server. It fails with fault.Conflict if the name is taken.
	AddServer(ctx context.Context, s Server) error

	// RemoveServer removes a server and its token. It fails with fault.NotFound.
	RemoveServer(ctx context.Context, name string) error

	// Servers returns all servers ordered by name, and the version of that list.
	Servers(ctx context.Context) ([]Server, int64, error)
}

const maxName = 64

// CheckName refuses names that would need escaping in a URL, a log line or a terminal.
func CheckName(name string) error {
	if name == "" || len(name) > maxName {
		return fault.Field("name", "give the phone server a name of 1 to %d characters", maxName)
	}
	for i := range len(name) {
		switch c := name[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_', c == '.':
		default:
			return fault.Field("name", "%q is not a valid name for a phone server; "+
				"use letters, digits, hyphens, dots and underscores", name)
		}
	}
	return nil
}
