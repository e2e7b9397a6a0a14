package provision_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/digest"
	"dialtone/internal/provision"
	"dialtone/internal/secret"
	"dialtone/internal/tenant"
)

// oneAccount has one account, and records what is spent.
type oneAccount struct {
	account.Account
	spent []string
}

func (o *oneAccount) FindUID(
	_ context.Context, tenant int64, uid account.UID,
) (account.Account, error) {
	if tenant != o.Tenant || uid != o.UID {
		return account.Account{}, errors.New("another account was looked up")
	}
	return o.Account, nil
}

func (o *oneAccount) Credential(account.Account) (digest.Credential, error) {
	return digest.Credential{}, nil
}

func (o *oneAccount) Spend(
	_ context.Context, tenant int64, id [16]byte, expires time.Time,
) (bool, error) {
	o.spent = append(o.spent, fmt.Sprintf("%d %x %d", tenant, id, expires.Unix()))
	return true, nil
}

// A link that an older version of the program made can still be opened after an upgrade.
func TestGoldenToken(t *testing.T) {
	const token = "Abvm7I1OHe-XePqK8FRA3hYBAgMEBQYHCAkKCwwNDg8QAAAAAAAAACoAAAAAaVc1pcwjoHbrT31b7B1M9H" +
		"6KdXM"
	ring, err := secret.ParseRing("v1 1700000000 " +
		"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f")
	if err != nil {
		t.Fatal(err)
	}
	made := time.Date(2026, time.January, 2, 3, 4, 5, 0, time.UTC)
	clock := func() time.Time { return made.Add(time.Minute) }
	x := &tenant.Tenant{ID: 5<<32 | 7, Host: "a.test", Realm: "a.test"}
	o := &oneAccount{Account: account.Account{
		UID:    account.UID{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16},
		Tenant: x.ID, User: "alex", Epoch: 42,
	}}
	links := provision.NewLinks(provision.Deps{
		Accounts: o, Store: o, Now: clock,
		Tickets: func() *provision.Tickets { return provision.NewTickets(ring, clock) },
	})
	_, err = links.Open(t.Context(), x, provision.Linphone, token, account.Origin{})
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("%d bbe6ec8d4e1def9778fa8af05440de16 %d", x.ID,
		made.Add(16*time.Minute).Unix())
	if len(o.spent) != 1 || o.spent[0] != want {
		t.Errorf("spent %q, want %q", o.spent, want)
	}
}
