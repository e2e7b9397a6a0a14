package operator_test

import (
	"fmt"
	"strings"
	"testing"

	"dialtone/internal/audit"
	"dialtone/internal/operator"
)

func TestSortLater(t *testing.T) {
	for claim, c := range map[string]struct{ changes, want string }{
		"changes that take something away are repeated": {
			"account.disable:a account.delete:b account.decline:c",
			"account.disable:a account.delete:b account.decline:c",
		},
		"a disable that was undone is not repeated": {
			"account.disable:a account.enable:a",
			"",
		},
		"a disable that was undone and repeated is repeated": {
			"account.disable:a account.enable:a account.disable:a",
			"account.disable:a",
		},
		"another account does not undo it": {
			"account.disable:a account.enable:b",
			"account.disable:a",
		},
		"enabling is not repeated": {
			"account.enable:a",
			"",
		},
		"the last role is repeated": {
			"account.role:a account.role:b account.role:a",
			"account.role:b account.role:a",
		},
		"nobody becomes an operator": {
			"account.role:a account.role:a:admin account.role:b:user",
			"account.role:b",
		},
		"a role and a disable are separate": {
			"account.role:a account.disable:a",
			"account.role:a account.disable:a",
		},
		"a removed token stays removed": {
			"token.remove:- token.add:-",
			"token.remove:-",
		},
		"tokens of both kinds are separate": {
			"token.remove:- directory.token.remove:-",
			"token.remove:- directory.token.remove:-",
		},
		"a new token is not repeated": {
			"token.add:-",
			"",
		},
		"a person's password and other changes are not repeated": {
			"password.change:a tenant.set:- account.leave:a account.bulk:-",
			"",
		},
		"a failed change is not repeated": {
			"account.delete:a:failed",
			"",
		},
	} {
		var changes []audit.Change
		for i, text := range strings.Fields(c.changes) {
			part := strings.Split(text, ":")
			x := audit.Change{ID: int64(i + 1), Action: audit.Action(part[0]), Outcome: audit.OK}
			if part[1] != "-" {
				x.Account = part[1]
			}
			if len(part) > 2 && part[2] == "failed" {
				x.Outcome = audit.Failed
			} else if len(part) > 2 {
				x.After = part[2]
			}
			changes = append(changes, x)
		}
		l := operator.SortLater(changes)
		var got []string
		for _, x := range l.Repeat {
			name := x.Account
			if name == "" {
				name = "-"
			}
			got = append(got, fmt.Sprintf("%s:%s", x.Action, name))
		}
		if text := strings.Join(got, " "); text != c.want {
			t.Errorf("%s: %q is repeated, want %q", claim, text, c.want)
		}
		if len(l.Repeat)+len(l.Rest) != len(changes) {
			t.Errorf("%s: a change is lost", claim)
		}
	}
}
