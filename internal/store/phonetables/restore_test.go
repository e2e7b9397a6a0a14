package phonetables_test

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"dialtone/internal/digest"
	"dialtone/internal/export"
	"dialtone/internal/secret"
	"dialtone/internal/test/postgrestest"
)

// dumpInto dumps a database with options of pg_dump and restores it into an empty one.
func dumpInto(t *testing.T, from, to string, options ...string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "dump")
	run := func(program string, args ...string) {
		t.Helper()
		path, err := postgrestest.Program(program)
		if err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(path, args...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", program, err, out)
		}
	}
	run("pg_dump", append(options, "--format=custom", "--file="+file, from)...)
	run("pg_restore", "--exit-on-error", "--dbname="+to, file)
}

// docs/export.md says how to dump a database without credentials in cleartext.
func TestRestoreWithoutTables(t *testing.T) {
	for name, option := range map[string]string{
		"without_data":    "--exclude-table-data=dialtone_directory.*",
		"without_schemas": "--schema=public",
	} {
		t.Run(name, func(t *testing.T) {
			cluster := postgrestest.Shared(t)
			from, to := cluster.Database(t), cluster.Database(t)
			if name == "without_schemas" { // pg_restore creates it
				cluster.Exec(t, to, `DROP SCHEMA public`)
			}
			ring := secret.NewRing(noon)
			s := openStore(t, ring, "", from)
			id := addTenant(t, s, "phone.test")
			a := newSignup(id, "ann")
			a.Account.Sealed = secret.NewVault(ring, "credential").Seal(id, a.Account.UID[:],
				digest.Credential{HA1: digest.Compute("ann", "phone.test", "x")}.Marshal())
			if err := s.Create(t.Context(), a, noon); err != nil {
				t.Fatal(err)
			}
			if _, err := s.EnableNow(t.Context(), id, "ann", noon); err != nil {
				t.Fatal(err)
			}
			if err := s.EnableExport(t.Context(), noProgress); err != nil {
				t.Fatal(err)
			}
			if err := s.ExportReady(t.Context()); err != nil {
				t.Fatal(err)
			}
			dumpInto(t, from, to, option)

			s = openStore(t, ring, "", to)
			if err := s.CatchUpExport(t.Context()); err != nil {
				t.Fatal(err)
			}
			if st, err := s.ExportStatus(t.Context()); err != nil || !st.Enabled || st.Complete || st.Entries != 0 {
				t.Errorf("status after the restore: %+v, %v", st, err)
			}
			if err := s.ExportReady(t.Context()); err == nil || !strings.Contains(err.Error(), "export rebuild") {
				t.Errorf("readiness after the restore: %v", err)
			}
			// A file for Apache keeps its content.
			if n, err := s.ExportVersion(t.Context()); err == nil {
				t.Errorf("version %d after the restore", n)
			}
			var found []string
			if err := s.CompareExport(t.Context(), func(text string) { found = append(found, text) }); err != nil {
				t.Fatal(err)
			}
			if len(found) == 0 || !strings.Contains(found[0], "export rebuild") {
				t.Errorf("verify after the restore: %q", found)
			}

			if err := s.EnableExport(t.Context(), noProgress); err != nil {
				t.Fatal(err)
			}
			if err := s.ExportReady(t.Context()); err != nil {
				t.Error(err)
			}
			if _, err := s.ExportVersion(t.Context()); err != nil {
				t.Error(err)
			}
			var entries []export.Entry
			err := s.ExportedEntries(t.Context(), "phone.test", func(e export.Entry) error {
				entries = append(entries, e)
				return nil
			})
			if err != nil || len(entries) != 1 || entries[0].User != "ann" {
				t.Errorf("entries after the rebuild: %v, %v", entries, err)
			}
			if err := s.CompareExport(t.Context(), func(text string) { t.Error(text) }); err != nil {
				t.Fatal(err)
			}
		})
	}
}
