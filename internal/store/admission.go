package store

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"hash/fnv"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/throttle"
)

// Create implements account.Store.
func (s *Store) Create(ctx context.Context, a account.Signup, now time.Time) error {
	if a.Captcha.Ours {
		return s.engine.admit(a, now)
	}
	// A captcha that is not ours is refused in any case, so a read is enough.
	wait, err := longestWait(s.engine.reads(ctx), a.Address, now)
	if err != nil {
		return err
	}
	return facts{address: wait, used: true}.decide(a).refusal
}

func (l *lite) admit(a account.Signup, now time.Time) error {
	return l.write(func(tx transaction) error {
		f, err := gatherFacts(tx, a, now)
		if err != nil {
			return err
		}
		v := f.decide(a)
		if err := v.apply(tx, a, now); err != nil {
			return err
		}
		return v.refusal
	})
}

// facts are what the store knows about a signup.
type facts struct {
	address   time.Duration // time until the limits of the address allow a signup
	used      bool          // the captcha was answered before, or is not ours
	holder    []byte        // the uid of the account that has the name, or nil
	taken     bool          // the holder has not expired
	recipient time.Duration // time until the limit of the recipient allows a message
}

// decision says what a signup writes, and its answer.
type decision struct {
	refusal error  // nil if the account is created, or could be for CheckOnly
	spends  bool   // the captcha is spent
	admits  bool   // the account is created
	clears  []byte // the uid of an expired account that is deleted to free the name
}

// decide applies the checks in the order that account.Store.Create states.
func (f facts) decide(a account.Signup) decision {
	switch {
	case f.address > 0:
		return decision{refusal: account.ErrAddress(f.address)}
	case f.used:
		return decision{refusal: account.ErrCaptcha}
	case !a.Captcha.Right:
		return decision{refusal: account.ErrCaptcha, spends: true}
	case f.taken:
		return decision{refusal: account.ErrTaken, spends: true}
	case f.recipient > 0:
		return decision{refusal: account.ErrRecipient(f.recipient)}
	case a.CheckOnly:
		return decision{}
	default:
		return decision{spends: true, admits: true, clears: f.holder}
	}
}

// gatherFacts reads the facts one by one, and stops at the first that leads to a refusal.
func gatherFacts(q querier, a account.Signup, now time.Time) (f facts, err error) {
	if f.address, err = longestWait(q, a.Address, now); err != nil || f.address > 0 {
		return f, err
	}
	if f.used, err = isSpent(q, a.Captcha.Nonce, a.Captcha.Expires); err != nil || f.used || !a.Captcha.Right {
		return f, err
	}
	err = q.row(`SELECT uid, closed IS NOT NULL OR activated IS NOT NULL OR expires > $1
		FROM account WHERE tenant = $2 AND username = $3`,
		micros(now), a.Account.Tenant, a.Account.User).Scan(&f.holder, &f.taken)
	if err != nil && !errors.Is(err, sql.ErrNoRows) || f.taken {
		return f, err
	}
	f.recipient, err = waitFor(q, a.Recipient, now)
	return f, err
}

// longestWait returns the time until all of the limits allow another use, which is 0 if they do now.
func longestWait(q querier, list []throttle.Allowance, now time.Time) (longest time.Duration, err error) {
	for _, al := range list {
		wait, err := waitFor(q, al, now)
		if err != nil {
			return 0, err
		}
		longest = max(longest, wait)
	}
	return longest, nil
}

// waitFor returns the time until a limit allows another use: until the oldest of the last Limit uses no longer counts.
func waitFor(q querier, al throttle.Allowance, now time.Time) (time.Duration, error) {
	var at int64
	err := q.row(`SELECT at FROM taken WHERE bucket = $1 AND at > $2 ORDER BY at DESC LIMIT 1 OFFSET $3`,
		al.Bucket[:], micros(now.Add(-al.Rule.Per)), al.Rule.Limit-1).Scan(&at)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	} else if err != nil {
		return 0, err
	}
	return waitSince(at, al, now), nil
}

func waitSince(at int64, al throttle.Allowance, now time.Time) time.Duration {
	return fromMicros(at).Add(al.Rule.Per).Sub(now)
}

func isSpent(q querier, nonce [16]byte, expires time.Time) (bool, error) {
	var one int
	err := q.row(`SELECT 1 FROM spent WHERE expires = $1 AND nonce = $2`, micros(expires), nonce[:]).Scan(&one)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return err == nil, err
}

// markSpent records an id until it expires, and reports whether it was not recorded before.
func markSpent(tx transaction, id [16]byte, expires time.Time) (first bool, err error) {
	n, err := tx.exec(`INSERT INTO spent (expires, nonce) VALUES ($1, $2) ON CONFLICT DO NOTHING`,
		micros(expires), id[:])
	return n > 0, err
}

// apply writes what the decision says.
func (v decision) apply(tx transaction, a account.Signup, now time.Time) error {
	if v.clears != nil {
		if _, err := tx.exec(`DELETE FROM account WHERE uid = $1`, v.clears); err != nil {
			return err
		}
	}
	if v.spends {
		if _, err := markSpent(tx, a.Captcha.Nonce, a.Captcha.Expires); err != nil {
			return err
		}
	}
	if !v.admits {
		return nil
	}
	for _, al := range places(a) {
		if _, err := tx.exec(`INSERT INTO taken (bucket, at, account, until) VALUES ($1, $2, $3, $4)`,
			al.Bucket[:], micros(now), a.Account.UID[:], micros(now.Add(al.Rule.Per))); err != nil {
			return err
		}
	}
	c := a.Account
	if _, err := tx.exec(`INSERT INTO account (uid, tenant, username, name, email, role, held, created, expires, epoch,
		credential, has_sha256, token, lang) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)`,
		c.UID[:], c.Tenant, c.User, c.Name, c.Email, string(c.Role), c.Held, micros(c.Created), micros(c.Expires), c.Epoch,
		c.Sealed, c.HasSHA256, a.Token[:], string(c.Lang)); err != nil {
		return err
	}
	_, err := tx.exec(`INSERT INTO outbox (account, message, token) VALUES ($1, $2, $3)`,
		c.UID[:], a.Message[:], a.SealedToken)
	return err
}

// places returns all allowances that a signup uses.
func places(a account.Signup) []throttle.Allowance {
	return append(a.Address[:len(a.Address):len(a.Address)], a.Recipient)
}

// keysOf returns the lock keys of a signup: its allowances, its captcha and its name. Two signups that share a key are
// not decided at the same time.
func keysOf(a account.Signup) []int64 {
	keys := []int64{keyOf("captcha", 0, a.Captcha.Nonce[:]), keyOf("name", a.Account.Tenant, []byte(a.Account.User))}
	for _, al := range places(a) {
		keys = append(keys, keyOf("place", 0, al.Bucket[:]))
	}
	return keys
}

// keyOf returns the key of an advisory lock. If two different things have the same key, they wait for each other and
// nothing else happens.
func keyOf(kind string, tenant int64, thing []byte) int64 {
	h := fnv.New64a()
	h.Write(binary.BigEndian.AppendUint64([]byte(kind), uint64(tenant)))
	h.Write(thing)
	return int64(h.Sum64())
}

// Undo implements account.Store.
func (s *Store) Undo(ctx context.Context, a account.Signup, now time.Time) error {
	return s.engine.write(func(tx transaction) error {
		// With these locks held, a commit of the account that is under way has ended.
		if err := tx.lock(keysOf(a)...); err != nil {
			return err
		}
		// An account that was enabled since then has an owner, and its message is written again. An account with
		// another link has had a message since.
		n, err := tx.exec(`DELETE FROM account WHERE uid = $1 AND activated IS NULL AND token = $2`,
			a.Account.UID[:], a.Token[:])
		if err != nil || n == 0 {
			return err
		}
		for _, al := range places(a) {
			_, err := tx.exec(`DELETE FROM taken WHERE bucket = $1 AND account = $2`, al.Bucket[:], a.Account.UID[:])
			if err != nil {
				return err
			}
		}
		_, err = tx.exec(`DELETE FROM spent WHERE expires = $1 AND nonce = $2`,
			micros(a.Captcha.Expires), a.Captcha.Nonce[:])
		return err
	})
}
