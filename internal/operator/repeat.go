package operator

import (
	"cmp"
	"slices"

	"dialtone/internal/account"
	"dialtone/internal/audit"
)

// Later are the changes in the audit trail of a lost database that its backup lacks, sorted for a restore.
type Later struct {
	// Repeat are the changes to repeat, oldest first. If several set the same value, only the last is included.
	Repeat []audit.Change
	// Rest are the other changes, for an operator to review.
	Rest []audit.Change
}

// SortLater sorts the changes of an audit trail that are later than a backup. changes are
// ordered, oldest first. Those that take something away must be repeated: disabling and
// deleting an account, removing a token, and the last role of an account unless it is admin.
// Disabling that was undone is not repeated. Neither is enabling an account: it stays as it is
// in the backup.
func SortLater(changes []audit.Change) (l Later) {
	type key struct{ kind, tenant, account, subject string }
	last := make(map[key]int)
	rank := func(c audit.Change) (key, bool) {
		if c.Outcome != audit.OK {
			return key{}, false
		}
		k := key{tenant: c.Tenant, account: c.Account}
		switch c.Action {
		case audit.AccountDisable, audit.AccountEnable:
			k.kind = "state"
		case audit.AccountRole:
			k.kind = "role"
		case audit.AccountDelete, audit.AccountDecline:
			k.kind = "deleted"
		case audit.TokenAdd, audit.TokenRemove, audit.DirectoryTokenAdd, audit.DirectoryTokenRemove:
			kind := "token"
			if c.Action == audit.DirectoryTokenAdd || c.Action == audit.DirectoryTokenRemove {
				kind = "directory token"
			}
			return key{kind: kind, subject: c.Subject}, true
		default:
			return k, false
		}
		return k, c.Account != ""
	}
	for i, c := range changes {
		// A removed token stays removed even if another one got its name later, since the
		// backup contains the removed one.
		if k, ok := rank(c); ok && c.Action != audit.TokenAdd && c.Action != audit.DirectoryTokenAdd {
			last[k] = i
		}
	}
	for i, c := range changes {
		k, ok := rank(c)
		gives := c.Action == audit.AccountEnable ||
			c.Action == audit.AccountRole && c.After == string(account.Admin)
		if at, found := last[k]; ok && found && at == i && !gives {
			l.Repeat = append(l.Repeat, c)
		} else {
			l.Rest = append(l.Rest, c)
		}
	}
	slices.SortStableFunc(l.Repeat, func(a, b audit.Change) int { return cmp.Compare(a.ID, b.ID) })
	return l
}
