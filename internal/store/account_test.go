package store_test

import (
	"path/filepath"
	"testing"

	"dialtone/internal/secret"
	"dialtone/internal/store"
	"dialtone/internal/store/engine"
	"dialtone/internal/store/postgres"
	"dialtone/internal/store/sqlite"
	"dialtone/internal/test/postgrestest"
	"dialtone/internal/test/teststore"
)

// The row of a deleted account keeps its name reserved, and nothing else of the account.
func TestDeletedAccountLeavesItsName(t *testing.T) {
	onFile, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "dialtone.db"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer onFile.Close()
	onServer, err := postgres.Open(t.Context(), "a", postgrestest.Shared(t).Database(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer onServer.Close()
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
			t.Errorf("%s: %d rows have nothing but the name, want 1; %v", c.name, n, err)
		}
	}
}
