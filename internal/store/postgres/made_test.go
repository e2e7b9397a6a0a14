package postgres_test

import (
	"flag"
	"os"
	"testing"

	"dialtone/internal/secret"
	"dialtone/internal/test/postgrestest"
)

var update = flag.Bool("update", false, "rewrite schema.txt")

// schema.txt contains what the migrations create.
func TestMadeSchema(t *testing.T) {
	s := openStore(t, secret.NewRing(noon), "a", postgrestest.Shared(t).Database(t))
	got, err := s.engine.SchemaText(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile("schema.txt", []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want, err := os.ReadFile("schema.txt"); err != nil || got != string(want) {
		t.Errorf("schema.txt does not match the migrations (%v): run go test -run TestMadeSchema -update", err)
	}
}
