package admin_test

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/fault"
	"dialtone/internal/http/answer"
	"dialtone/internal/operator"
)

// documented is an operation in the document.
type documented struct {
	id, method, path string
	scope            operator.Scope
	installation     bool // it belongs to no tenant
	statuses         []string
}

// operations returns all operations of the document, deletions last.
func (f *fixture) operations() (list []documented) {
	f.Helper()
	for path, item := range f.document.Paths.Map() {
		for method, o := range item.Operations() {
			list = append(list, documented{
				id: o.OperationID, method: method, path: path, scope: operator.Scope(o.Extensions["x-scope"].(string)),
				installation: strings.Contains(o.Description, "a token for all tenants"),
				statuses:     slices.Sorted(maps.Keys(o.Responses.Map())),
			})
		}
	}
	slices.SortFunc(list, func(a, b documented) int { return strings.Compare(a.id, b.id) })
	return list
}

// sample returns a valid request for an operation on a tenant, and creates the objects that it
// needs. n must be different each time.
func (f *fixture) sample(o documented, host string, n int) (target, body string) {
	f.Helper()
	w := f.At(host)
	user, name := fmt.Sprint("user", n), fmt.Sprint("token", n)
	var bulk operator.Bulk
	switch {
	case o.id == "resendAccount":
		w.Join(user)
	case strings.Contains(o.path, "{user}"):
		w.Member(user)
		if o.id == "freeName" {
			f.Must(w.Accounts.Delete(f.Context(), w.Tenant, user))
		}
	case strings.Contains(o.path, "/messages/{id}"):
		return strings.NewReplacer("{host}", host, "{id}", f.failedMessage(host, user)).Replace(o.path), ""
	case o.id == "deleteToken":
		f.token(name, host, operator.TokensWrite)
	case strings.Contains(o.path, "{id}"):
		var err error
		c := operator.Caller{Actor: root.Actor, Scopes: operator.Scopes}
		bulk, err = f.service.StartBulk(f.Context(), c, w.Tenant, operator.BulkDisable, account.Query{Text: "nobody"},
			"")
		f.Must(err)
	}
	target = strings.NewReplacer("{host}", host, "{user}", user, "{name}", name, "{id}",
		bulk.ID.String()).Replace(o.path)
	body = map[string]string{
		"updateTenant": `{"product":"X"}`, "setSignups": `{"signups":"open"}`, "setFreeze": `{"frozen":false}`,
		"createAccount": fmt.Sprintf(`{"user":"made%d","name":"X","email":"x@mail.test",`+
			`"ha1":"0123456789abcdef0123456789abcdef","active":true}`, n),
		"updateAccount": `{"name":"X"}`, "createBulk": `{"action":"disable","query":{"text":"nobody"}}`,
		"runBulk": `{"count":0}`, "createToken": fmt.Sprintf(`{"name":"made%d","scopes":["tokens:write"]}`, n),
	}[o.id]
	return target, body
}

// TestPermissions calls every operation with every scope, at its own and another tenant, and without a valid token.
func TestPermissions(t *testing.T) {
	f := newFixture(t)
	const ownTenant, otherTenant, allTenants = "a.test", "b.test", ""
	tokens := make(map[string]string) // by scope and host
	for _, s := range operator.Scopes {
		for _, host := range []string{ownTenant, allTenants} {
			tokens[string(s)+host] = f.token("s"+strings.ReplaceAll(string(s), ":", "-")+host, host, s)
		}
	}
	_, expired, err := f.tokens.Add(t.Context(), root, time.Time{}, operator.NewToken{
		Name: "expired", Scopes: operator.Scopes, Expires: f.Now().Add(time.Second)})
	f.Must(err)
	removed := f.token("removed", "", operator.Scopes...)
	f.Must(f.tokens.Remove(t.Context(), root, "removed", ""))
	f.Advance(time.Second)
	f.Log.Hide(expired)

	n, calls := 0, 0
	for _, o := range f.operations() {
		try := func(claim, token, host string, want func(status int) bool, mayChange bool) {
			t.Helper()
			n++
			calls++
			target, body := f.sample(o, host, n)
			before := len(f.changes())
			r := f.send(o.method, target, body, token)
			if made := f.valueOf(r, "secret"); made != "" {
				f.Log.Hide(made)
			}
			if !want(r.status) {
				t.Errorf("%s, %s: %d %s", o.id, claim, r.status, r.body)
			}
			if !mayChange && len(f.changes()) != before {
				t.Errorf("%s, %s: changed something", o.id, claim)
			}
			if strings.Contains(strings.ToLower(o.id), "bulk") { // there must not be too many open ones
				at := f.At(host)
				list, err := f.service.Bulks(f.Context(), root, at.Tenant, 10)
				f.Must(err)
				for _, b := range list {
					_, err := f.Store.CancelBulk(f.Context(), at.Tenant.ID, b.ID, f.Now())
					f.Must(err)
				}
			}
		}
		f.Advance(time.Minute) // below the limit on wrong tokens
		is := func(want int) func(int) bool { return func(status int) bool { return status == want } }
		// Running needs a counted bulk change of the caller; TestOthers covers it.
		done := func(status int) bool { return status < 300 || o.id == "runBulk" && status == 409 }
		for claim, token := range map[string]string{"no token": "", "expired": expired, "removed": removed,
			"other": "dta_x"} {
			try(claim, token, ownTenant, is(401), false)
		}
		for _, s := range operator.Scopes {
			if s != o.scope {
				for _, host := range []string{ownTenant, allTenants} {
					try(string(s)+" of "+host, tokens[string(s)+host], ownTenant, is(403), false)
				}
				continue
			}
			mine, all := tokens[string(s)+ownTenant], tokens[string(s)+allTenants]
			switch {
			case o.installation:
				try("a token of a tenant", mine, ownTenant, is(403), false)
			case strings.Contains(o.path, "{host}"):
				try("its own tenant", mine, ownTenant, done, true)
				try("another tenant", mine, otherTenant, is(404), false)
			case o.id == "deleteToken":
				try("a token of its own tenant", mine, ownTenant, done, true)
				try("a token of another tenant", mine, otherTenant, is(404), true) // sample makes the token
			default:
				try("a token of a tenant", mine, ownTenant, done, true)
			}
			try("all tenants", all, ownTenant, done, true)
			try("all tenants, the other one", all, otherTenant, done, true)
		}
	}
	t.Logf("%d requests", calls)
}

// TestDocument checks that the document contains every route and status.
func TestDocument(t *testing.T) {
	f := newFixture(t)
	known := make(map[string]bool)
	for _, k := range answer.Kinds() {
		known[fmt.Sprint(k.Status)] = true
	}
	ids := make(map[string]bool)
	for _, o := range f.operations() {
		if o.id == "" || ids[o.id] || !slices.Contains(operator.Scopes, o.scope) {
			t.Errorf("%+v", o)
		}
		ids[o.id] = true
		for _, status := range o.statuses {
			if !strings.HasPrefix(status, "2") && !known[status] {
				t.Errorf("%s: no error has the status %s", o.id, status)
			}
		}
		if changes := o.method != http.MethodGet; changes != slices.Contains(o.statuses,
			fmt.Sprint(answer.Kinds()[fault.Conflict].Status)) {
			t.Errorf("%s: %v", o.id, o.statuses)
		}
	}
	if len(ids) < 36 {
		t.Errorf("%d operations", len(ids))
	}
}
