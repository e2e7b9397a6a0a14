package store_test

import (
	"database/sql"
	"path/filepath"
	"testing"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/mailmsg"
	"dialtone/internal/secret"
	"dialtone/internal/test/teststore"
	"dialtone/internal/test/world"
)

// A program of an earlier version that enables an account does not know that its owner has left. Then the account is
// not erased, whether or not an operator disables it later.
func TestLeavingAndEarlierVersions(t *testing.T) {
	ctx, path := t.Context(), filepath.Join(t.TempDir(), "dialtone.db")
	s := world.OpenStore(t, path, secret.NewRing(noon))
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	tenant := addTenant(t, s, "phone.test")
	must := func(_ account.Account, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	wantStale := func(when string, want int) {
		t.Helper()
		var n int
		err := db.QueryRow(`SELECT count(*) FROM account WHERE leaving IS NOT NULL`).Scan(&n)
		if err != nil || n != want {
			t.Errorf("%s: %d accounts have the time of an erasure, %v, want %d", when, n, err, want)
		}
		list, err := s.Overdue(ctx, noon.Add(account.Grace), 10)
		if err != nil || len(list) != 0 {
			t.Errorf("%s: %d accounts are to be erased, %v", when, len(list), err)
		}
	}
	for i, user := range []string{"ann", "bob", "cid"} {
		if err := s.Create(ctx, teststore.Signup(tenant, user), noon); err != nil {
			t.Fatal(err)
		}
		must(s.EnableNow(ctx, tenant, user, noon))
		a, err := s.Find(ctx, tenant, user, noon)
		must(a, err)
		token := [32]byte{byte(i + 1)}
		must(s.Leave(ctx, account.Departure{Account: a, Notice: account.Notice{
			Kind: mailmsg.Leaving, Message: mailmsg.ID{byte(i + 1)}, Token: token, SealedToken: []byte{1}, Made: noon,
			Until: noon.Add(account.Grace),
		}}, noon))
		switch user {
		case "ann":
			must(s.Enable(ctx, tenant, user, noon))
			wantStale("after Enable", 0)
			continue
		case "bob":
			must(s.Stay(ctx, tenant, token, noon))
			wantStale("after Stay", 0)
			continue
		}
		// What an earlier version does.
		_, err = db.Exec(`UPDATE account SET held = FALSE, set_state = 'active' WHERE username = ?`, user)
		if err != nil {
			t.Fatal(err)
		}
		wantStale("after an earlier version", 1)
		must(s.Disable(ctx, tenant, user, noon))
		wantStale("after Disable", 0)
		if _, err := db.Exec(`UPDATE account SET held = FALSE, leaving = 1 WHERE username = ?`, user); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Sweep(ctx, noon, noon.Add(-time.Hour), 10); err != nil {
			t.Fatal(err)
		}
		wantStale("after Sweep", 0)
	}
}
