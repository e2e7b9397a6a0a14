package phone

import (
	"context"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/fault"
)

// Server is a phone server with its token.
type Server struct {
	// Name is what operators call it (CheckName); no two servers have the same.
	Name string
	// Token is the SHA-256 of its token.
	Token [32]byte
	// Tenants are the IDs of the tenants that it may ask about. One that was removed since is
	// nobody's ID any more.
	Tenants []int64
	Created time.Time
}

// Store keeps phone servers. Every method is one transaction.
type Store interface {
	// AddServer adds a server. It fails with fault.Conflict where one has the name.
	AddServer(ctx context.Context, s Server) error

	// RemoveServer removes a server, and its token with it. It fails with fault.NotFound where none
	// has the name.
	RemoveServer(ctx context.Context, name string) error

	// Servers are all servers, by name, and the number that every change of one raises.
	Servers(ctx context.Context) ([]Server, int64, error)

	// ServersVersion is that number alone.
	ServersVersion(ctx context.Context) (int64, error)

	// Sealed is what a phone server's question takes of an account, and nothing else of it: Tenant,
	// UID, Role, Disabled and Sealed, which is shared and not written to. Such questions are the
	// most frequent of all. It fails with fault.NotFound.
	Sealed(ctx context.Context, tenant int64, user string, now time.Time) (account.Account, error)

	// OnChange adds a function that is called after each transaction of this process that may have
	// changed what Sealed returns of an active account, and before the method that ran the
	// transaction returns, also if it returns an error. It is called with the account's UID, or
	// with the zero UID if any account may have changed.
	OnChange(f func(uid account.UID))
}

// maxName bounds a server's name.
const maxName = 64

// CheckName refuses what could not stand in a URL, a log line and a terminal as it is.
func CheckName(name string) error {
	if name == "" || len(name) > maxName {
		return fault.Field("name", "give the phone server a name of 1 to %d characters", maxName)
	}
	for i := range len(name) {
		switch c := name[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_', c == '.':
		default:
			return fault.Field("name", "%q has a character that a phone server's name cannot have; use letters, digits, hyphens, dots and underscores", name)
		}
	}
	return nil
}
