package operator_test

import (
	"fmt"
	"testing"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/fault"
	"dialtone/internal/operator"
	"dialtone/internal/tenant"
)

// TestSetTenant checks who may change settings that could be used to take over accounts.
func TestSetTenant(t *testing.T) {
	w, s := newService(t)
	set := func(c operator.Caller, change func(*tenant.Tenant)) error {
		_, err := s.SetTenant(w.Context(), c, w.Tenant, "", func(t tenant.Tenant) (tenant.Tenant, error) {
			change(&t)
			return t, nil
		})
		return err
	}
	settings := operator.Caller{
		Actor: audit.Actor{Kind: audit.Token, Name: "ci", ID: "1"}, Scopes: []operator.Scope{operator.TenantWrite},
	}
	both := settings
	both.Scopes = []operator.Scope{operator.TenantWrite, operator.AccountsWrite}
	person := both
	person.Actor.Kind, person.Tenant = audit.Admin, w.Tenant.ID
	for name, c := range map[string]struct {
		change func(*tenant.Tenant)
		person bool
	}{
		"public_url":    {func(t *tenant.Tenant) { t.PublicURL = "https://evil.example" }, false},
		"mail_from":     {func(t *tenant.Tenant) { t.MailFrom = "x@other.test" }, false},
		"terms_url":     {func(t *tenant.Tenant) { t.TermsURL = "https://other.test/" }, true},
		"privacy_url":   {func(t *tenant.Tenant) { t.PrivacyURL = "https://other.test/" }, true},
		"imprint_url":   {func(t *tenant.Tenant) { t.ImprintURL = "https://other.test/" }, true},
		"mail_footer":   {func(t *tenant.Tenant) { t.MailFooter = "see https://other.test/" }, true},
		"reply_to":      {func(t *tenant.Tenant) { t.ReplyTo = "x@other.test" }, true},
		"support":       {func(t *tenant.Tenant) { t.Support = "https://evil.example/" }, true},
		"sip_server":    {func(t *tenant.Tenant) { t.SIPServer = "evil.example" }, true},
		"sip_websocket": {func(t *tenant.Tenant) { t.SIPWebSocket = "wss://evil.example/" }, true},
		"origins":       {func(t *tenant.Tenant) { t.Origins = []string{"https://evil.example"} }, true},
	} {
		if err := set(settings, c.change); !fault.Is(err, fault.Forbidden) {
			t.Errorf("%s with tenant:write alone: %v", name, err)
		}
		if err := set(person, c.change); c.person != (err == nil) || err != nil && !fault.Is(err, fault.Forbidden) {
			t.Errorf("%s by a person: %v", name, err)
		}
		if err := set(both, c.change); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	w.Must(set(settings, func(t *tenant.Tenant) { t.Product, t.About = "Phones", "Text" }))
	if err := set(settings, func(t *tenant.Tenant) { t.Product = "Pho\u202enes" }); !fault.Is(err, fault.Invalid) {
		t.Errorf("a product that changes the direction of writing: %v", err)
	}

	names := func(n int) (list []string) {
		for i := range n {
			list = append(list, fmt.Sprint("department-", i))
		}
		return list
	}
	w.Must(set(settings, func(t *tenant.Tenant) { t.Reserved = names(operator.MaxReserved) }))
	more := func(t *tenant.Tenant) { t.Reserved = names(operator.MaxReserved + 1) }
	if err := set(settings, more); !fault.Is(err, fault.Invalid) {
		t.Errorf("too many reserved names: %v", err)
	}
	w.Must(w.Store.Changes(w.Context(), audit.Filter{Action: "tenant.set"}, func(c audit.Change) error {
		if len(c.Before) > 4<<10 || len(c.After) > 4<<10 {
			t.Errorf("the trail has %d and %d bytes", len(c.Before), len(c.After))
		}
		return nil
	}))
	// A longer list from an earlier version works, and can be shortened.
	old, err := w.Store.Tenant(w.Context(), w.Tenant.ID)
	w.Must(err)
	old.Reserved = names(operator.MaxReserved + 2)
	w.Must(w.Store.SetTenant(w.Context(), old, w.Now()))
	w.Must(set(settings, func(t *tenant.Tenant) { t.Product = "Telephones" }))
	w.Must(set(settings, more))
}

// TestTokenRemoval checks that a token can remove only tokens whose permissions do not exceed its own.
func TestTokenRemoval(t *testing.T) {
	w, _ := newService(t)
	tokens := operator.NewTokens(operator.TokensDeps{
		Store: w.Store, SealRing: w.SealRing, Audit: w.Audit, Log: w.Logger, Now: w.Now,
	})
	for name, scopes := range map[string][]operator.Scope{
		"audit": {operator.AuditRead}, "tokens": {operator.TokensWrite},
	} {
		_, text, err := tokens.Add(w.Context(), root, time.Time{}, operator.NewToken{
			Name: name, Tenant: w.Tenant.ID, Scopes: scopes,
		})
		w.Must(err)
		w.Log.Hide(text)
	}
	c := operator.Caller{
		Actor:  audit.Actor{Kind: audit.Token, Name: "ci", ID: "1"},
		Tenant: w.Tenant.ID, Scopes: []operator.Scope{operator.TokensWrite},
	}
	if err := tokens.Remove(w.Context(), c, "audit", ""); !fault.Is(err, fault.Forbidden) {
		t.Errorf("a token with another scope: %v", err)
	}
	_, _, err := tokens.Add(w.Context(), c, time.Time{}, operator.NewToken{
		Name: "audit", Tenant: w.Tenant.ID, Scopes: []operator.Scope{operator.TokensWrite},
	})
	if !fault.Is(err, fault.Conflict) || err.Error() != "this name cannot be used; choose another one" {
		t.Errorf("a name that is taken: %v", err)
	}
	w.Must(tokens.Remove(w.Context(), c, "tokens", ""))
	w.Must(tokens.Remove(w.Context(), root, "audit", ""))
}

// TestTokenMessages checks that a token cannot flood an address with messages.
func TestTokenMessages(t *testing.T) {
	w, s := newService(t)
	token := operator.Caller{Actor: audit.Actor{Kind: audit.Token, Name: "ci", ID: "1"}, Scopes: operator.Scopes}
	add := func(c operator.Caller, n int) error {
		_, err := s.Add(w.Context(), c, w.Tenant, account.NewAccount{
			User: fmt.Sprint("ann", n), Name: "Ann", Email: "ann@mail.test",
		}, "")
		return err
	}
	w.Must(add(token, 1))
	_, err := s.Resend(w.Context(), token, w.Tenant, "ann1", "", "")
	w.Must(err)
	_, err = s.Enable(w.Context(), token, w.Tenant, "ann1", "", true)
	w.Must(err)
	_, _, err = s.MailResetLink(w.Context(), token, w.Tenant, "ann1", "")
	w.Must(err)
	// As by signups, an address gets at most three messages a day.
	if _, _, err = s.MailResetLink(w.Context(), token, w.Tenant, "ann1", ""); !fault.Is(err, fault.Limited) {
		t.Errorf("a fourth message: %v", err)
	}
	if err := add(token, 2); !fault.Is(err, fault.Limited) {
		t.Errorf("another account: %v", err)
	}
	w.Must(add(root, 3))
	if _, err := s.Resend(w.Context(), token, w.Tenant, "ann3", "", ""); !fault.Is(err, fault.Limited) {
		t.Errorf("the message again: %v", err)
	}
	_, err = s.Resend(w.Context(), token, w.Tenant, "ann3", "", "other@mail.test")
	w.Must(err)
	_, err = s.Resend(w.Context(), root, w.Tenant, "ann3", "", "ann@mail.test")
	w.Must(err)
}
