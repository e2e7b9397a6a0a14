package userfile

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"

	"dialtone/internal/account"
)

// flexisipAccount is a row of accounts with its rows of passwords.
type flexisipAccount struct {
	line                               int64
	user, domain, email, name, problem string
	known, inactive                    bool
	md5, clear, sha256, unknown        string
}

// joinFlexisip joins the tables accounts and passwords of the Flexisip account manager.
// passwords.account_id is accounts.id, and an account has one password for each algorithm. Both
// tables are in memory until the end, a few hundred bytes for each account.
func joinFlexisip() (map[string]func(row, Yield) error, func(Yield) error) {
	all := make(map[string]*flexisipAccount)
	of := func(id string) *flexisipAccount {
		a := all[id]
		if a == nil {
			a = new(flexisipAccount)
			all[id] = a
		}
		return a
	}
	accounts := func(r row, yield Yield) error {
		id := r.get("id")
		if id == "" {
			return yield(unreadable(account.ImportEntry{Line: r.line, User: r.get("username")}, "no id"))
		}
		a := of(id)
		a.known, a.line, a.problem = true, r.line, r.problem
		a.user, a.domain, a.email, a.name = r.get("username"), r.get("domain"), r.get("email"), r.get("display_name")
		a.inactive = isFalse(r.values["activated"]) || !isFalse(r.values["blocked"]) && r.get("blocked") != ""
		return nil
	}
	passwords := func(r row, _ Yield) error {
		id := r.get("account_id")
		if id == "" {
			return nil // of no account
		}
		a, text := of(id), r.get("password")
		switch strings.ToUpper(r.get("algorithm")) {
		case "MD5":
			a.md5 = text
		case "CLRTXT":
			a.clear = text
		case "SHA-256":
			a.sha256 = text
		default:
			a.unknown = r.get("algorithm")
		}
		return nil
	}
	end := func(yield Yield) error {
		for _, id := range slices.SortedFunc(maps.Keys(all), func(a, b string) int {
			return cmp.Or(cmp.Compare(number(a), number(b)), cmp.Compare(a, b))
		}) {
			a := all[id]
			if !a.known {
				continue // passwords of an account that was deleted
			}
			e := account.ImportEntry{Line: a.line, User: a.user, Realm: a.domain, Email: a.email, Name: a.name}
			switch {
			case a.problem != "":
				e = unreadable(e, a.problem)
			case a.inactive:
				e.Problem = account.ImportInactive
			case a.md5 == "" && a.clear == "" && a.sha256 == "" && a.unknown != "":
				e.Problem, e.Detail = account.ImportBadHash, "another algorithm"
			}
			setHash(&e, a.md5)
			setVariants(&e, "", a.sha256)
			setPassword(&e, a.clear)
			if err := yield(e); err != nil {
				return err
			}
		}
		return nil
	}
	return map[string]func(row, Yield) error{"accounts": accounts, "passwords": passwords}, end
}

// isFalse reports whether a value of a boolean column is false. A missing column is not.
func isFalse(value string) bool { return value == "0" || value == "f" || value == "false" }

func number(id string) int64 {
	n, err := strconv.ParseInt(id, 10, 64)
	if err != nil {
		return -1
	}
	return n
}
