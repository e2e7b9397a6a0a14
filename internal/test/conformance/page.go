package conformance

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/fault"
)

// limitScan makes the store examine few accounts for a page until the test ends, so that a short
// list needs many scans.
func (t *test) limitScan(first, all, small int) {
	if s, ok := t.Store.(interface {
		LimitScan(first, all, small int) (restore func())
	}); ok {
		t.Cleanup(s.LimitScan(first, all, small))
	}
}

// pages returns the accounts of all pages of a list.
func (t *test) pages(q account.Query, limit int, at time.Time) (list []account.Account) {
	t.Helper()
	const most = 10_000
	next := ""
	for range most {
		p, err := t.Page(t.ctx, t.tenant, q, next, limit, at)
		t.must(err)
		if len(p.Accounts) > limit {
			t.Fatalf("a page has %d accounts, want at most %d", len(p.Accounts), limit)
		}
		list = append(list, p.Accounts...)
		if p.Next == "" {
			return list
		}
		next = p.Next
	}
	t.Fatalf("the list has more than %d pages", most)
	return nil
}

func accountUsers(list []account.Account) []string {
	users := []string{}
	for _, a := range list {
		users = append(users, a.User)
	}
	return users
}

// expected returns the users that a list must contain, in its order.
func expected(all []account.Account, q account.Query) []string {
	var list []account.Account
	for _, a := range all {
		if q.Matches(a) {
			list = append(list, a)
		}
	}
	begins := func(s string) bool { return strings.HasPrefix(strings.ToLower(s), strings.ToLower(q.Text)) }
	rank := func(a account.Account) int {
		switch {
		case q.Text == "":
			return 2
		case begins(a.User):
			return 0
		case begins(a.Email):
			return 1
		}
		return 2
	}
	slices.SortFunc(list, func(a, b account.Account) int {
		if c := cmp.Compare(rank(a), rank(b)); c != 0 {
			return c
		}
		switch rank(a) {
		case 0:
			return cmp.Compare(a.User, b.User)
		case 1:
			return cmp.Or(cmp.Compare(strings.ToLower(a.Email), strings.ToLower(b.Email)),
				bytes.Compare(a.UID[:], b.UID[:]))
		}
		return bytes.Compare(b.UID[:], a.UID[:])
	})
	return accountUsers(list)
}

// pageTime is when the lists of random accounts are read.
var pageTime = noon.Add(time.Hour)

// newRand returns a source of random numbers. It logs the seed, which DIALTONE_SEED repeats.
func newRand(t *testing.T) *rand.Rand {
	seed := number(t, "DIALTONE_SEED", uint64(time.Now().UnixNano()))
	t.Logf("DIALTONE_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// queries returns the number of random queries: DIALTONE_QUERIES, which make test-long sets.
func queries(t *testing.T) int { return int(number(t, "DIALTONE_QUERIES", 40)) }

// number returns the value of an environment variable, or a default if it is not set.
func number(t *testing.T, variable string, byDefault uint64) uint64 {
	text := os.Getenv(variable)
	if text == "" {
		return byDefault
	}
	n, err := strconv.ParseUint(text, 10, 63)
	if err != nil {
		t.Fatalf("%s: %v", variable, err)
	}
	return n
}

func pick[T any](r *rand.Rand, list ...T) T { return list[r.IntN(len(list))] }

// addRandom adds n accounts of any kind to the tenant and returns those that are live at pageTime.
func (t *test) addRandom(r *rand.Rand, n int) (list []account.Account) {
	t.Helper()
	for i := range n {
		at := noon.Add(time.Duration(r.IntN(1000)) * time.Second / 2)
		if r.IntN(10) == 0 {
			at = at.Add(-account.PendingLife) // it will have expired
		}
		s := t.signup(fmt.Sprintf("%s%s%d", pick(r, "a", "b", "i"), pick(r, "a", "k", "-", ""), i), at)
		s.Account.Email = fmt.Sprintf("%s%s@mail.test", pick(r, "a", "B", "Ia", "k_"), pick(r, "a", "%", fmt.Sprint(i)))
		s.Account.Name = pick(r, "Ann", "AA", "\u0130a", "\u212aa", "K", "Élodie", "élodie",
			"%a", "_a", `\a`, "ba", "Ia", "日本",
			"Zoe Ann", "Zoe-Kay", "Zoe \u0130a", "Zoe Élodie", "Zoe _a")
		s.Account.Net = pick(r, "", "192.0.2.0/24", "192.0.20.0/24", "192.1.2.0/24", "2001:db8::/48", "2001:db8:1::/48",
			"2001::/48", "2001:0:db8::/48")
		t.must(t.Create(t.ctx, s, at))
		kind := r.IntN(8)
		if kind > 0 {
			_, err := t.Activate(t.ctx, t.tenant, s.Token, at)
			t.must(err)
			_, err = t.SetRole(t.ctx, t.tenant, s.Account.User, pick(r, account.Roles...), at)
			t.must(err)
		}
		var err error
		switch kind {
		case 1, 2:
			_, err = t.Confirm(t.ctx, t.tenant, s.Token, s.Account.UID, at)
		case 3:
			_, err = t.Disable(t.ctx, t.tenant, s.Account.User, at)
		case 4:
			t.leave(s.Account.User, at)
		case 5:
			if r.IntN(2) == 0 {
				err = t.Delete(t.ctx, t.tenant, s.Account.User, at)
			}
		}
		t.must(err)
		if a, err := t.Find(t.ctx, t.tenant, s.Account.User, pageTime); err == nil {
			list = append(list, a)
		}
	}
	return list
}

func randomQuery(r *rand.Rand) (q account.Query) {
	if r.IntN(3) == 0 {
		q.States = append(q.States, pick(r, account.States...), pick(r, account.States...))[:1+r.IntN(2)]
	}
	if r.IntN(3) == 0 {
		q.Roles = append(q.Roles, pick(r, account.Roles...), pick(r, account.Roles...))[:1+r.IntN(2)]
	}
	if r.IntN(3) > 0 {
		q.Text = pick(r, "a", "A", "aa", "i", "I", "k", "K", "ka", "ia", "é", "É", "b", "%", "_", `\`,
			"日", "k_", "\u212a", "a1", "zz")
	}
	if r.IntN(4) == 0 {
		q.Net = netip.MustParsePrefix(pick(r, "192.0.2.0/24", "192.0.0.0/16", "192.0.0.0/15", "0.0.0.0/0",
			"192.0.0.0/8",
			"2001:db8::/48", "2001:db8::/32", "2001::/16", "2001::/32", "2001::/48", "::/0", "2001:db8::/47"))
	}
	if r.IntN(4) == 0 {
		q.Since = noon.Add(time.Duration(r.IntN(500)) * time.Second)
	}
	if r.IntN(4) == 0 {
		q.Before = noon.Add(time.Duration(r.IntN(500)) * time.Second)
	}
	if r.IntN(4) == 0 {
		yes := r.IntN(2) == 0
		q.Confirmed = &yes
	}
	return q
}

var pageTests = []testCase{
	{"have the accounts that the query selects, once each and in order", func(t *test) {
		r := newRand(t.T)
		own := t.tenant
		t.tenant = t.addTenant("other.test")
		t.addRandom(r, 10)
		t.tenant = own
		all := t.addRandom(r, 80)
		for i := range queries(t.T) {
			switch i % 4 {
			case 0:
				t.limitScan(1+r.IntN(4), 1+r.IntN(20), 0)
			case 1:
				t.limitScan(250, 5000, 0)
			case 2:
				t.limitScan(250, 5000, 1000)
			case 3:
				t.limitScan(2, 5000, 0)
			}
			q := randomQuery(r)
			if q.Empty() && i%2 == 0 {
				continue
			}
			want := expected(all, q)
			if got := accountUsers(t.pages(q, 1+r.IntN(7), pageTime)); !slices.Equal(got, want) {
				t.Fatalf("query %+v: got %q, want %q", q, got, want)
			}
		}
	}},
	{"end without a next page if the last account is on it", func(t *test) {
		for _, user := range []string{"ann", "bob", "cid"} {
			t.addActive(user, noon)
		}
		for limit, more := range map[int]bool{2: true, 3: false, 4: false} {
			p, err := t.Page(t.ctx, t.tenant, account.Query{}, "", limit, noon)
			t.must(err)
			if (p.Next != "") != more {
				t.Errorf("limit %d: next %q", limit, p.Next)
			}
		}
	}},
	{"are limited, and continue, if nothing matches", func(t *test) {
		t.addMany(300)
		t.limitScan(8, 64, 10)
		p, err := t.Page(t.ctx, t.tenant, account.Query{Roles: []account.Role{account.Admin}}, "", 10, noon)
		t.must(err)
		if len(p.Accounts) > 0 || p.Next == "" {
			t.Errorf("got %d accounts and the next page %q", len(p.Accounts), p.Next)
		}
	}},
	{"have all accounts of a small tenant among many", func(t *test) {
		t.addMany(300)
		t.tenant = t.addTenant("small.test")
		t.addActive("ann", noon.Add(-time.Hour))
		t.addMany(300) // as many as a test has time for
		t.tenant = t.addTenant("smaller.test")
		t.addActive("bob", noon.Add(-time.Hour))
		t.limitScan(8, 64, 10)
		p, err := t.Page(t.ctx, t.tenant, account.Query{}, "", 10, noon)
		t.must(err)
		t.wantEqual(accountUsers(p.Accounts), []string{"bob"})
		if p.Next != "" {
			t.Error("there is a next page")
		}
	}},
	{"have every account that is kept exactly once, while others are added and deleted", func(t *test) {
		t.limitScan(3, 20, 0)
		var stay []string
		for i := range 60 {
			user := fmt.Sprint("s", i)
			t.addActive(user, noon.Add(time.Duration(i)*time.Second))
			t.addActive(fmt.Sprint("r", i), noon.Add(time.Duration(i)*time.Second))
			stay = append(stay, user)
		}
		done := make(chan struct{})
		var others sync.WaitGroup
		others.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-done:
					return
				default:
				}
				s := t.signup(fmt.Sprint("n", i), noon.Add(time.Duration(i%80)*time.Second))
				if err := t.Create(t.ctx, s, noon); err != nil && !fault.Is(err, fault.Overloaded) {
					t.Error(err)
				}
				if err := t.Delete(t.ctx, t.tenant, fmt.Sprint("r", i), noon); i < 60 && err != nil {
					t.Error(err)
				}
			}
		})
		slices.Sort(stay)
		for _, q := range []account.Query{{}, {States: []account.State{account.Active}}, {Text: "s"}, {Text: "ann"}} {
			var got []string
			for _, user := range accountUsers(t.pages(q, 4, noon)) {
				if user[0] == 's' {
					got = append(got, user)
				}
			}
			slices.Sort(got)
			if !slices.Equal(got, stay) {
				t.Errorf("query %+v: got %q", q, got)
			}
		}
		close(done)
		others.Wait()
	}},
	{"refuse cursors that no page returned", func(t *test) {
		for i := range 9 {
			t.addActive(fmt.Sprint("ann", i), noon)
		}
		q := account.Query{Text: "ann"}
		p, err := t.Page(t.ctx, t.tenant, q, "", 3, noon)
		t.must(err)
		good := p.Next
		b, err := base64.RawURLEncoding.DecodeString(good)
		t.must(err)
		encode := base64.RawURLEncoding.EncodeToString
		for name, c := range map[string]struct {
			query  account.Query
			cursor string
		}{
			"a list without text":   {account.Query{}, good},
			"a list of other texts": {account.Query{Text: "bob"}, good},
			"not base64":            {q, "?"},
			"padded":                {q, good + "="},
			"short":                 {q, encode(b[:7])},
			"an unknown phase":      {q, encode(append(append(bytes.Clone(b[:6]), 'x'), b[7:]...))},
			"a zero byte":           {q, encode(append(bytes.Clone(b), 0))},
			"not UTF-8":             {q, encode(append(bytes.Clone(b), 0xff))},
			"text after a UID":      {account.Query{}, encode(append(t.uidCursor(), 'x'))},
		} {
			_, err := t.Page(t.ctx, t.tenant, c.query, c.cursor, 3, noon)
			if !fault.Is(err, fault.Invalid) {
				t.Errorf("%s: got %v", name, err)
			}
		}
		other := t.addTenant("other.test")
		_, err = t.Page(t.ctx, other, q, good, 3, noon)
		t.wantKind(err, fault.Invalid)
		_, err = t.Page(t.ctx, t.tenant, account.Query{Text: "ANN", States: account.States}, good, 3, noon)
		t.must(err)
	}},
	{"refuse queries that make no sense", func(t *test) {
		for _, q := range []account.Query{
			{States: []account.State{account.Closed}}, {Roles: []account.Role{"boss"}}, {Text: "a\x00"}, {Text: "\xff"},
			{Text: strings.Repeat("a", 500)}, {Net: netip.MustParsePrefix("192.0.2.0/25")},
			{Net: netip.MustParsePrefix("2001:db8::/49")}, {Net: netip.MustParsePrefix("192.0.2.1/24")},
			{Net: netip.MustParsePrefix("::ffff:192.0.2.0/120")},
		} {
			_, err := t.Page(t.ctx, t.tenant, q, "", 3, noon)
			t.wantKind(err, fault.Invalid)
		}
	}},
}

// uidCursor returns the decoded cursor of a list without text.
func (t *test) uidCursor() []byte {
	t.Helper()
	p, err := t.Page(t.ctx, t.tenant, account.Query{}, "", 3, noon)
	t.must(err)
	b, err := base64.RawURLEncoding.DecodeString(p.Next)
	t.must(err)
	return b
}
