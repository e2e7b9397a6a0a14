package conformance

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/fault"
	operators "dialtone/internal/operator"
	"dialtone/internal/tenant"
)

// newToken returns a token with a unique hash.
func (t *test) newToken(name string, tenant int64) operators.Token {
	id := newID()
	k := operators.Token{
		ID: fmt.Sprintf("%x", id[:8]), Name: name, Tenant: tenant, Made: noon.Add(3 * tick), MadeBy: "root",
		Scopes: []operators.Scope{operators.AccountsRead, operators.AuditRead},
	}
	copy(k.Hash[:], id[:])
	return k
}

// tokens returns the tokens of a tenant, as text.
func (t *test) tokens(tenant int64) (list []string) {
	t.Helper()
	all, err := t.Tokens(t.ctx, tenant)
	t.must(err)
	for _, k := range all {
		list = append(list, fmt.Sprintf("%#v", k))
	}
	return list
}

var tokenTests = []testCase{
	{"keep every field, and are listed by name", func(t *test) {
		other := t.addTenant("b.test")
		two, one, three := t.newToken("two", t.tenant), t.newToken("One", 0), t.newToken("three", other)
		one.Expires = noon.Add(time.Hour)
		for _, k := range []operators.Token{two, one, three} {
			t.must(t.AddToken(t.ctx, k))
			got, err := t.TokenByHash(t.ctx, k.Hash, noon)
			t.must(err)
			t.wantEqual([]string{fmt.Sprintf("%#v", got)}, []string{fmt.Sprintf("%#v", k)})
		}
		t.wantEqual(t.tokens(t.tenant), []string{fmt.Sprintf("%#v", two)})
		if list := t.tokens(0); len(list) != 3 || !strings.Contains(list[2], `"two"`) && !strings.Contains(list[1],
			`"two"`) {
			t.Errorf("%q", list)
		}
	}},
	{"have unique names", func(t *test) {
		t.must(t.AddToken(t.ctx, t.newToken("one", 0)))
		changes := t.newChanges(func() {
			t.wantKind(t.AddToken(t.ctx, t.newToken("one", t.tenant)), fault.Conflict)
		})
		if len(changes) > 0 || len(t.tokens(0)) != 1 {
			t.Errorf("%q, %q", changes, t.tokens(0))
		}
	}},
	{"end at their time, when they are removed, and with their tenant", func(t *test) {
		other := t.addTenant("b.test")
		k, of := t.newToken("one", 0), t.newToken("two", other)
		k.Expires = noon.Add(time.Hour)
		t.must(t.AddToken(t.ctx, k))
		t.must(t.AddToken(t.ctx, of))
		_, err := t.TokenByHash(t.ctx, k.Hash, k.Expires.Add(-tick))
		t.must(err)
		_, err = t.TokenByHash(t.ctx, k.Hash, k.Expires)
		t.wantKind(err, fault.NotFound)
		_, err = t.TokenByHash(t.ctx, [32]byte{1}, noon)
		t.wantKind(err, fault.NotFound)
		t.must(t.RemoveToken(t.ctx, "one", 0, noon))
		_, err = t.TokenByHash(t.ctx, k.Hash, noon)
		t.wantKind(err, fault.NotFound)
		t.wantKind(t.RemoveToken(t.ctx, "one", 0, noon), fault.NotFound)
		t.must(t.RemoveTenant(t.ctx, "b.test", false, noon))
		_, err = t.TokenByHash(t.ctx, of.Hash, noon)
		t.wantKind(err, fault.NotFound)
	}},
	{"are removed by their tenant only", func(t *test) {
		other := t.addTenant("b.test")
		t.must(t.AddToken(t.ctx, t.newToken("all", 0)))
		t.must(t.AddToken(t.ctx, t.newToken("other", other)))
		t.wantKind(t.RemoveToken(t.ctx, "all", t.tenant, noon), fault.NotFound)
		t.wantKind(t.RemoveToken(t.ctx, "other", t.tenant, noon), fault.NotFound)
		t.must(t.RemoveToken(t.ctx, "other", other, noon))
	}},
	{"are in the trail, without the token", func(t *test) {
		k := t.newToken("one", t.tenant)
		t.wantEqual(t.newChanges(func() {
			t.must(t.AddToken(t.as("asked"), k))
			t.must(t.RemoveToken(t.as("asked"), "one", 0, noon))
		}), []string{
			"token.add phone.test one >accounts:read audit:read",
			"token.remove phone.test one accounts:read audit:read",
		})
	}},
	{"keep the latest use", func(t *test) {
		k := t.newToken("one", 0)
		t.must(t.AddToken(t.ctx, k))
		for _, c := range []struct{ at, want time.Duration }{{time.Hour, time.Hour}, {time.Minute, time.Hour},
			{2 * time.Hour,
				2 * time.Hour}} {
			t.must(t.RecordTokenUses(t.ctx, []operators.TokenUse{{ID: k.ID, At: noon.Add(c.at)}, {ID: "none",
				At: noon}}))
			got, err := t.TokenByHash(t.ctx, k.Hash, noon)
			t.must(err)
			if !got.Used.Equal(noon.Add(c.want)) {
				t.Errorf("used %v, want %v", got.Used, noon.Add(c.want))
			}
		}
	}},
	{"are added and removed once by 20 concurrent calls", func(t *test) {
		count := t.concurrently(20, func(int) error { return t.AddToken(t.ctx, t.newToken("one", 0)) })
		if count[succeeded] != 1 || count[fault.Conflict] != 19 {
			t.Errorf("%v", count)
		}
		count = t.concurrently(20, func(int) error { return t.RemoveToken(t.ctx, "one", 0, noon) })
		if count[succeeded] != 1 || count[fault.NotFound] != 19 {
			t.Errorf("%v", count)
		}
	}},
}

// claimAnswer claims a key, and reports whether it succeeded.
func (t *test) claimAnswer(token, key string, a operators.StoredAnswer, now time.Time) (operators.StoredAnswer, bool) {
	t.Helper()
	stored, claimed, err := t.ClaimAnswer(t.ctx, token, key, a, now)
	t.must(err)
	return stored, claimed
}

var answerTests = []testCase{
	{"are claimed, set and ended", func(t *test) {
		k, other := t.newToken("one", 0), t.newToken("two", 0)
		t.must(t.AddToken(t.ctx, k))
		t.must(t.AddToken(t.ctx, other))
		a := operators.StoredAnswer{Request: []byte("request"), Until: noon.Add(time.Hour)}
		if _, ok := t.claimAnswer(k.ID, "key", a, noon); !ok {
			t.Error("not claimed")
		}
		if got, ok := t.claimAnswer(k.ID, "key", operators.StoredAnswer{Request: []byte("x"),
			Until: noon.Add(2 * time.Hour)},
			noon.Add(time.Hour-tick)); ok || got.Status != 0 || string(got.Request) != "request" ||
			!got.Until.Equal(a.Until) {
			t.Errorf("%+v, %v", got, ok)
		}
		if _, ok := t.claimAnswer(other.ID, "key", a, noon); !ok {
			t.Error("tokens share a key")
		}
		a.Status, a.Body = 201, []byte("body")
		t.must(t.SetAnswer(t.ctx, k.ID, "key", a))
		t.must(t.ReleaseAnswer(t.ctx, k.ID, "key", a)) // has an answer
		if got, ok := t.claimAnswer(k.ID, "key", a, noon); ok || got.Status != 201 || !bytes.Equal(got.Body, a.Body) {
			t.Errorf("%+v, %v", got, ok)
		}
		later := operators.StoredAnswer{Request: []byte("other"), Until: noon.Add(5 * time.Hour)}
		if got, ok := t.claimAnswer(k.ID, "key", later, a.Until); !ok || got.Status != 0 || len(got.Body) > 0 {
			t.Errorf("%+v, %v", got, ok)
		}
		t.must(t.SetAnswer(t.ctx, k.ID, "key", a)) // of the earlier claim
		if got, _ := t.claimAnswer(k.ID, "key", a, noon); got.Status != 0 {
			t.Errorf("%+v", got)
		}
		t.must(t.ReleaseAnswer(t.ctx, k.ID, "key", later))
		if _, ok := t.claimAnswer(k.ID, "key", later, noon); !ok {
			t.Error("not released")
		}
	}},
	{"are claimed by one of 20 concurrent calls", func(t *test) {
		k := t.newToken("one", 0)
		t.must(t.AddToken(t.ctx, k))
		var n atomic.Int64
		count := t.concurrently(20, func(i int) error {
			_, ok, err := t.ClaimAnswer(t.ctx, k.ID, "key", operators.StoredAnswer{
				Request: []byte{byte(i)}, Until: noon.Add(time.Hour)}, noon)
			if ok {
				n.Add(1)
			}
			return err
		})
		if n.Load() != 1 || count[succeeded] != 20 {
			t.Errorf("%d claims, %v", n.Load(), count)
		}
	}},
	{"are swept when they have ended, and are removed with the token", func(t *test) {
		k := t.newToken("one", 0)
		t.must(t.AddToken(t.ctx, k))
		for i := range 5 {
			t.claimAnswer(k.ID, fmt.Sprint(i), operators.StoredAnswer{
				Request: []byte{1}, Until: noon.Add(time.Duration(i+1) * time.Hour)}, noon)
		}
		for _, c := range []struct {
			limit int
			want  int64
		}{{2, 2}, {5, 1}, {5, 0}} {
			n, err := t.SweepAnswers(t.ctx, noon.Add(3*time.Hour), c.limit)
			t.must(err)
			if n != c.want {
				t.Errorf("swept %d, want %d", n, c.want)
			}
		}
		t.must(t.RemoveToken(t.ctx, "one", 0, noon))
		n, err := t.SweepAnswers(t.ctx, noon.Add(24*time.Hour), 10)
		t.must(err)
		if n != 0 {
			t.Errorf("%d answers of a removed token", n)
		}
	}},
}

var conditionTests = []testCase{
	{"let one of 20 concurrent changes of an account happen", func(t *test) {
		t.addActive("ann", noon)
		ctx := account.OnlyIf(t.ctx, t.find("ann", noon).Version())
		do := []func() error{
			func() error { _, err := t.Disable(ctx, t.tenant, "ann", noon); return err },
			func() error { _, err := t.SetRole(ctx, t.tenant, "ann", account.User, noon); return err },
			func() error { _, err := t.Rename(ctx, t.tenant, "ann", "Other", noon); return err },
			func() error { _, err := t.ReplaceEmail(ctx, t.tenant, "ann", "other@mail.test", noon); return err },
			func() error { _, err := t.EndSessions(ctx, t.tenant, "ann", noon); return err },
		}
		count := t.concurrently(20, func(i int) error { return do[i%len(do)]() })
		if count[succeeded] != 1 || count[fault.Changed] != 19 {
			t.Errorf("%v", count)
		}
	}},
	{"refuse a change of another version, and change nothing", func(t *test) {
		t.addActive("ann", noon)
		t.addPending("bob", noon)
		ctx := account.OnlyIf(t.ctx, account.Version{1})
		before := t.find("ann", noon)
		changes := t.newChanges(func() {
			for name, do := range map[string]func() error{
				"Enable":    func() error { _, err := t.Enable(ctx, t.tenant, "ann", noon); return err },
				"EnableNow": func() error { _, err := t.EnableNow(ctx, t.tenant, "ann", noon); return err },
				"Delete":    func() error { return t.Delete(ctx, t.tenant, "ann", noon) },
				"AddResetLink": func() error {
					_, err := t.AddResetLink(ctx, account.NewResetLink{Tenant: t.tenant, User: "ann"}, noon)
					return err
				},
				"SendAgain": func() error {
					_, err := t.SendAgain(ctx, t.again("bob", "new@mail.test"), noon)
					return err
				},
				"RemoveFactors": func() error {
					_, err := t.RemoveFactors(ctx, t.tenant, "ann", account.Notice{}, noon)
					return err
				},
			} {
				if err := do(); !fault.Is(err, fault.Changed) {
					t.Errorf("%s: %v", name, err)
				}
			}
		})
		if len(changes) > 0 || t.find("ann", noon).Version() != before.Version() {
			t.Errorf("%q", changes)
		}
		t.wantEmail("bob", "bob@mail.test", noon)
		t.must(t.Delete(account.OnlyIf(t.ctx, before.Version()), t.tenant, "ann", noon))
	}},
	{"let one of 20 concurrent changes of a tenant happen", func(t *test) {
		old, err := t.Tenant(t.ctx, t.tenant)
		t.must(err)
		ctx := tenant.OnlyIf(t.ctx, old.Version())
		count := t.concurrently(20, func(i int) error {
			next := old
			next.Product = fmt.Sprint("Product ", i)
			return t.SetTenant(ctx, next, noon)
		})
		if count[succeeded] != 1 || count[fault.Changed] != 19 {
			t.Errorf("%v", count)
		}
		got, err := t.Tenant(t.ctx, t.tenant)
		t.must(err)
		if got.Version() == old.Version() || got.Product == "" {
			t.Errorf("%+v", got)
		}
		_, err = t.Tenant(t.ctx, t.tenant+1000)
		t.wantKind(err, fault.NotFound)
	}},
	{"see every change of a tenant", func(t *test) {
		old, err := t.Tenant(t.ctx, t.tenant)
		t.must(err)
		versions := []tenant.Version{old.Version()}
		for _, edit := range []func(*tenant.Tenant){
			func(n *tenant.Tenant) { n.Realm = "Other" },
			func(n *tenant.Tenant) { n.PublicURL = "https://other.test" },
			func(n *tenant.Tenant) { n.Logo = tenant.Logo{Type: "image/png", Data: []byte{1}} },
			func(n *tenant.Tenant) { n.Reserved = []string{"boss"} },
		} {
			next := old
			edit(&next)
			t.must(t.SetTenant(t.ctx, next, noon))
			got, err := t.Tenant(t.ctx, t.tenant)
			t.must(err)
			if slices.Contains(versions, got.Version()) || got.Version() != next.Version() {
				t.Errorf("%+v has the version of another", got)
			}
			versions = append(versions, got.Version())
		}
	}},
}
