package store

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"strconv"
	"strings"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/store/engine"
)

// scanLimits limits the number of accounts that are examined for one page, and so the time for it.
type scanLimits struct {
	first int // in the first step; most pages need no other
	all   int // in all steps, approximately
	// small is the greatest size of a small tenant, including the names of deleted accounts. Each
	// page of a small tenant examines all its accounts, and none of others. In the order of the
	// table, very few accounts may belong to a small tenant.
	small int
}

var defaultScan = scanLimits{250, 5000, 1000}

// LimitScan changes the numbers of accounts that are examined for a page, as scanLimits describes
// them. It is for tests. It must be called before Page, and restore must be called when no Page
// runs any more.
func (s *Store) LimitScan(first, all, small int) (restore func()) {
	before := s.scan
	s.scan = scanLimits{first, all, small}
	return func() { s.scan = before }
}

const (
	// rejectedCost is the cost of an account that the database returns but the query does not
	// match, and indexCost that of an account that is found by an index, anywhere in the table. An
	// account that is read in the order of the table costs 1.
	rejectedCost = 4
	indexCost    = 5
	// maxPage is the largest number of accounts on a page.
	maxPage = 1000
)

// Page implements account.PageStore.
func (s *Store) Page(ctx context.Context, tenant int64, q account.Query, next string, limit int,
	now time.Time) (page account.Page, err error) {
	if err := q.Check(); err != nil {
		return page, err
	}
	phases := []byte{phaseUID}
	if q.Text != "" {
		phases = []byte{phaseUser, phaseEmail, phaseUID}
	}
	mark, at := queryMark(tenant, q), startOf(phases[0])
	if next != "" {
		if at, err = parseKey(next, mark); err != nil {
			return page, err
		}
		i := bytes.IndexByte(phases, at.phase)
		if i < 0 {
			return page, errCursor
		}
		phases = phases[i:]
	}
	p := &pager{
		q: s.engine.Reads(ctx), tenant: tenant, query: q, text: strings.ToLower(q.Text), now: now,
		limit: min(max(limit, 1), maxPage), scanLimits: s.scan, budget: s.scan.all,
	}
	for i, phase := range phases {
		if i > 0 {
			at = startOf(phase)
		}
		end := false
		if len(p.list) < p.limit && p.budget > 0 {
			if at, end, err = p.scan(at); err != nil {
				return page, err
			}
		}
		if !end {
			return account.Page{Accounts: p.list, Next: at.encode(mark)}, nil
		}
	}
	return account.Page{Accounts: p.list}, nil
}

// pager collects the accounts of one page.
type pager struct {
	q      engine.Querier
	tenant int64
	query  account.Query
	text   string // the query's text in lower case
	now    time.Time
	limit  int
	scanLimits
	budget int // how many more accounts may be examined
	list   []account.Account
}

// scan adds the accounts of a phase after a position, until the page is full or the budget used up. It returns the
// position to continue from, and whether there are no more accounts in this phase.
func (p *pager) scan(at pageKey) (next pageKey, end bool, err error) {
	if at.phase == phaseUID {
		small, err := p.isSmall()
		if err != nil {
			return at, false, err
		}
		if small {
			return p.read(at, nil, true)
		}
	}
	cost := 1
	if at.phase != phaseUID {
		cost = indexCost
	}
	for size := p.first; ; size *= 8 {
		size = max(min(size, p.budget/cost), 1)
		bound, err := p.bound(at, size)
		if err != nil {
			return at, false, err
		}
		p.budget -= size * cost
		if at, end, err = p.read(at, bound, false); err != nil || !end || bound == nil {
			return at, end, err
		}
		at = *bound
		if len(p.list) == p.limit || p.budget <= 0 {
			return at, false, nil
		}
	}
}

// isSmall reports whether the tenant has at most scanLimits.small accounts.
func (p *pager) isSmall() (bool, error) {
	var user string
	err := p.q.Row(`SELECT username FROM account WHERE tenant = $1 ORDER BY username LIMIT 1 OFFSET `+
		strconv.Itoa(p.small), p.tenant).Scan(&user)
	if errors.Is(err, sql.ErrNoRows) {
		return true, nil
	}
	return false, err
}

// selection returns the statement that reads columns of the accounts that meet a condition, in the
// order of a phase. from is the table account, or a part of it. limit is the text after LIMIT, and
// part the limit for each of the two parts of phaseEmail.
//
// In phaseEmail, the address in lower case precedes the columns. Waiting accounts and the others
// have an index each. Each part has its own limit: PostgreSQL would otherwise sort all accounts of
// both.
func selection(phase byte, columns, from, condition, limit, part string) string {
	switch phase {
	case phaseUser:
		return `SELECT ` + columns + ` FROM ` + from + ` WHERE ` + condition + ` ORDER BY username LIMIT ` + limit
	case phaseEmail:
		of := func(state string) string {
			return `SELECT * FROM (SELECT lower(email), ` + columns + ` FROM ` + from + ` WHERE ` + condition +
				` AND ` + state + ` ORDER BY lower(email), uid LIMIT ` + part + `) AS part`
		}
		return of(`activated IS NOT NULL`) + ` UNION ALL ` + of(`activated IS NULL`) + ` ORDER BY 1, 2 LIMIT ` + limit
	default:
		return `SELECT ` + columns + ` FROM ` + from + ` WHERE ` + condition + ` ORDER BY uid DESC LIMIT ` + limit
	}
}

// candidates returns the condition for the accounts that a scan examines: those of a phase after a
// position and, unless bound is nil, up to bound. In phaseUID they are of any tenant. There is one
// term for each end of the range, since SQLite uses only one for an index.
func (p *pager) candidates(at pageKey, bound *pageKey) *where {
	w := new(where)
	switch at.phase {
	case phaseUser:
		w.and(`tenant = %s`, p.tenant)
		if at.text < p.text {
			w.and(`username >= %s`, p.text)
		} else {
			w.and(`username > %s`, at.text)
		}
		if bound == nil {
			w.and(`username < %s`, afterPrefix(p.text))
		} else {
			w.and(`username <= %s`, bound.text)
		}
	case phaseEmail:
		w.and(`tenant = %s AND closed IS NULL AND lower(email) >= %s`, p.tenant, max(at.text, p.text))
		w.and(`(lower(email) > %s OR uid > %s)`, at.text, at.uid[:])
		if bound == nil {
			w.and(`lower(email) < %s`, afterPrefix(p.text))
		} else {
			w.and(`lower(email) <= %s AND (lower(email) < %s OR uid <= %s)`, bound.text, bound.text, bound.uid[:])
		}
	default:
		// No account has the least or greatest UID of a millisecond.
		least, greatest := uidRange(p.query)
		if bound != nil {
			least = bound.uid
		}
		w.and(`uid >= %s AND uid < %s`, least[:], earlier(greatest, at.uid))
	}
	return w
}

// earlier returns the lesser of two UIDs.
func earlier(a, b account.UID) []byte {
	if bytes.Compare(a[:], b[:]) < 0 {
		return a[:]
	}
	return b[:]
}

// bound returns the position of the last of the next n candidates, or nil if there are fewer.
func (p *pager) bound(at pageKey, n int) (*pageKey, error) {
	w, k := p.candidates(at, nil), pageKey{phase: at.phase}
	var uid []byte
	columns, dst := `uid`, []any{&uid}
	switch at.phase {
	case phaseUser:
		columns, dst = `username`, []any{&k.text}
	case phaseEmail:
		dst = []any{&k.text, &uid}
	}
	limit := `1 OFFSET ` + strconv.Itoa(n-1)
	err := p.q.Row(selection(at.phase, columns, `account`, w.String(), limit, strconv.Itoa(n)), w.args...).Scan(dst...)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	copy(k.uid[:], uid)
	return &k, err
}

// read adds the accounts of a phase after a position and up to another one, or all if that is nil. It returns the
// position of the last one if the page is full and there are more, or the budget was used up.
func (p *pager) read(at pageKey, bound *pageKey, small bool) (next pageKey, end bool, err error) {
	for {
		w := p.candidates(at, bound)
		w.matching(p.query, p.now)
		if at.phase != phaseUser && p.text != "" {
			w.and(`NOT (username >= %s AND username < %s)`, p.text, afterPrefix(p.text))
		}
		from := `account`
		with := ``
		if at.phase == phaseUID {
			if p.text != "" {
				w.and(`NOT (lower(email) >= %s AND lower(email) < %s)`, p.text, afterPrefix(p.text))
				w.named(p.text)
			}
			if small {
				from = `own`
				with = `WITH own AS MATERIALIZED (SELECT * FROM account WHERE tenant = ` + w.arg(p.tenant) +
					` ORDER BY username LIMIT ` + strconv.Itoa(p.small) + `) `
			} else {
				w.and(`+tenant = %s`, p.tenant) // without the index on tenant
			}
		}
		want := max(p.limit-len(p.list)+1, 50)
		limit := w.arg(want)
		var found []account.Account
		var first []any
		if at.phase == phaseEmail {
			first = []any{new(string)}
		}
		err := p.q.Each(func(row engine.Scanner) error {
			a, err := scanAccount(row, first...)
			found = append(found, a)
			return err
		}, with+selection(at.phase, accountColumns, from, w.String(), limit, limit), w.args...)
		if err != nil {
			return at, false, err
		}
		for _, a := range found {
			key := pageKey{at.phase, a.UID, ``}
			switch at.phase {
			case phaseUser:
				key.text = a.User
			case phaseEmail:
				key.text = strings.ToLower(a.Email)
			}
			switch matches := p.query.Matches(a); {
			case matches && len(p.list) == p.limit:
				return at, false, nil
			case matches:
				p.list = append(p.list, a)
			default:
				p.budget -= rejectedCost
			}
			at = key
		}
		if len(found) < want {
			return at, true, nil
		}
		if p.budget <= 0 {
			return at, false, nil
		}
	}
}
