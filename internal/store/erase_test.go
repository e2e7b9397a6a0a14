package store_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/outbox"
	"dialtone/internal/secret"
	"dialtone/internal/store"
	"dialtone/internal/store/engine"
	"dialtone/internal/test/teststore"
	"dialtone/internal/test/world"
)

// After an account is deleted, its name and its address are nowhere in the files of the database,
// although the store remains open. The accounts fit in one page of the database: SQLite does not
// overwrite what it moves when it splits pages.
func TestDeletedAccountLeavesNoTrace(t *testing.T) {
	path, ctx := filepath.Join(t.TempDir(), "dialtone.db"), t.Context()
	s := world.OpenStore(t, path, secret.NewRing(noon))
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	id := addTenant(t, s, "phone.test")
	victims := make(map[string]account.Signup)
	for i := range 8 {
		user := fmt.Sprintf("user%d", i)
		a := teststore.Signup(id, user)
		a.Account.Name = "Somebody " + user
		if i%2 == 0 {
			a.Account.Name, a.Account.Email = "Venera Victimova "+user, "venera-victimova-"+user+"@mail.test"
			victims[user] = a
		}
		must(s.Create(ctx, a, noon))
	}
	pending, err := s.Pending(ctx)
	must(err)
	var messages []outbox.Ref
	for _, e := range pending {
		messages = append(messages, outbox.Ref{Tenant: e.Tenant, Account: e.Account, Message: e.Message})
	}
	_, err = s.Enqueue(ctx, messages, noon)
	must(err)
	n := byte(0)
	for user, a := range victims {
		n++
		if n%2 == 0 { // the address moves to another table and back
			r := account.LinkReplacement{
				Account: a.Account, Was: a.Account.Email, Token: [32]byte{n}, Message: [16]byte{n},
				SealedToken: []byte("sealed"), Made: noon,
			}
			r.Account.Email = "venera-victimova-elsewhere@mail.test"
			must(s.Resend(ctx, r, noon))
		}
		if n%4 != 0 {
			_, err := s.EnableNow(ctx, id, user, noon)
			must(err)
			_, err = s.SetRole(ctx, id, user, account.SIPOnly, noon)
			must(err)
		}
	}
	if !inFiles(t, path, "ictimova") {
		t.Fatal("the test finds no account that exists")
	}
	for user := range victims {
		must(s.Delete(ctx, id, user, noon.Add(time.Hour)))
	}
	must(s.Erase(ctx))
	if inFiles(t, path, "ictimova") {
		t.Error("the files still contain a name or an address of a deleted account")
	}
	if !inFiles(t, path, "Somebody user1") {
		t.Error("the other accounts are gone too")
	}
}

// inFiles reports whether a text is in the database or its WAL.
func inFiles(t *testing.T, path, text string) bool {
	t.Helper()
	for _, suffix := range []string{"", "-wal"} {
		b, err := os.ReadFile(path + suffix)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		if bytes.Contains(b, []byte(text)) {
			return true
		}
	}
	return false
}

// The row of a deleted account keeps only the name, which stays reserved.
func TestDeletedAccountLeavesItsName(t *testing.T) {
	onFile, onServer := bothEngines(t)
	ring := secret.NewRing(noon)
	for _, c := range []struct {
		name   string
		engine engine.Engine
		store  *store.Store
	}{
		{"SQLite", onFile, teststore.OnSQLite(onFile, ring)},
		{"PostgreSQL", onServer, teststore.OnPostgres(onServer, ring)},
	} {
		ctx, id := t.Context(), addTenant(t, c.store, "phone.test")
		a := newSignup(id, "ann")
		if err := c.store.Create(ctx, a, noon); err != nil {
			t.Fatal(err)
		}
		if _, err := c.store.Confirm(ctx, id, a.Token, a.Account.UID, noon); err != nil {
			t.Fatal(err)
		}
		if err := c.store.Delete(ctx, id, "ann", noon); err != nil {
			t.Fatal(err)
		}
		n, err := engine.Count(c.engine.Reads(ctx), `SELECT count(*) FROM account
			WHERE username = 'ann' AND closed IS NOT NULL AND name = '' AND email = ''
			AND length(credential) = 0 AND token IS NULL AND confirmed IS NULL AND lang = 'en'`)
		if err != nil || n != 1 {
			t.Errorf("%s: %d rows contain nothing but the name, want 1; %v", c.name, n, err)
		}
	}
}
