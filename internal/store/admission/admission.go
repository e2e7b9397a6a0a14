// Package admission decides whether a signup creates an account, and what it writes.
//
// It does no I/O. The store gathers the facts in the transaction of the signup, and so does an
// engine that decides several signups in one transaction.
package admission

import (
	"encoding/binary"
	"hash/fnv"
	"slices"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/throttle"
)

// Grouper is an engine that commits signups in groups, which is faster than a transaction for each.
type Grouper interface {
	// Create is account.Store.Create for a captcha that this platform issued.
	Create(a account.Signup, now time.Time) error
}

// Facts are what the database knows about a signup.
type Facts struct {
	Address   throttle.Wait // until the limits of the address allow a signup
	Used      bool          // the captcha was answered before, or is not ours
	Holder    []byte        // the uid of the account that has the name, or nil
	Taken     bool          // the holder has not expired
	Recipient throttle.Wait // until the limits of the recipient allow a message
}

// Decision says what a signup writes, and its answer.
type Decision struct {
	Refusal error  // nil if the account is created or, with CheckOnly, could be
	Spends  bool   // the captcha is spent
	Admits  bool   // the account is created
	Clears  []byte // the uid of an expired account that is deleted to free the name
}

// Decide applies the checks in the order that account.Store.Create states.
func (f Facts) Decide(a account.Signup) Decision {
	switch {
	case f.Address.For > 0:
		return Decision{Refusal: account.SignupRefusal(f.Address)}
	case f.Used:
		return Decision{Refusal: account.ErrCaptcha}
	case !a.Captcha.Right:
		return Decision{Refusal: account.ErrCaptcha, Spends: true}
	case f.Taken:
		return Decision{Refusal: account.ErrTaken, Spends: true}
	case f.Recipient.For > 0:
		return Decision{Refusal: account.RecipientRefusal(f.Recipient)}
	case a.CheckOnly:
		return Decision{}
	default:
		return Decision{Spends: true, Admits: true, Clears: f.Holder}
	}
}

// WaitSince returns the wait from now until a limit allows another use, where at is the time of the
// oldest use that counts. A use in the future, recorded by a clock that was ahead, counts as a use
// now.
func WaitSince(at time.Time, al throttle.Allowance, now time.Time) throttle.Wait {
	return throttle.Wait{For: min(at.Add(al.Rule.Per).Sub(now), al.Rule.Per), Limit: al.Limit}
}

// Allowances returns all allowances that a signup uses.
func Allowances(a account.Signup) []throttle.Allowance {
	return slices.Concat(a.Address, Recipients(a))
}

// Recipients returns the allowances of the recipient.
func Recipients(a account.Signup) []throttle.Allowance {
	return append([]throttle.Allowance{a.Recipient}, a.RecipientMore...)
}

// Keys returns the lock keys of a signup: its allowances, its captcha and its name. Two signups
// that share a key are not decided at the same time.
func Keys(a account.Signup) []int64 {
	keys := []int64{
		Key("captcha", 0, a.Captcha.Nonce[:]),
		Key("name", a.Account.Tenant, []byte(a.Account.User)),
	}
	for _, al := range Allowances(a) {
		keys = append(keys, Key("place", 0, al.Bucket[:]))
	}
	return keys
}

// LinkKeys returns the lock keys of a replacement of a link: the account's link and the allowances.
func LinkKeys(r account.LinkReplacement) []int64 {
	keys := []int64{Key("link", r.Account.Tenant, r.Account.UID[:])}
	for _, al := range r.Allowances {
		keys = append(keys, Key("place", 0, al.Bucket[:]))
	}
	return keys
}

// Key returns the key of a lock. Two different things that happen to have the same key wait for
// each other, which is harmless. Servers of different versions on one database must use the same
// keys.
func Key(kind string, tenant int64, name []byte) int64 {
	h := fnv.New64a()
	h.Write(binary.BigEndian.AppendUint64([]byte(kind), uint64(tenant)))
	h.Write(name)
	return int64(h.Sum64())
}
