package phonetables_test

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"testing"

	"dialtone/internal/audit"
	"dialtone/internal/secret"
	"dialtone/internal/test/teststore"
	"dialtone/internal/test/world"
)

// trail returns the changes of the export in the audit trail.
func trail(t *testing.T, s audit.Trail) (list []string) {
	t.Helper()
	err := s.Changes(t.Context(), audit.Filter{}, func(c audit.Change) error {
		switch c.Action {
		case audit.ExportEnable, audit.ExportRebuild, audit.ExportDisable:
			list = append(list, string(c.Action)+" "+c.Outcome+" by "+c.Actor.Name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func wantTrail(t *testing.T, s audit.Trail, want ...string) {
	t.Helper()
	if got := trail(t, s); !slices.Equal(got, want) {
		t.Errorf("the trail has\n%q, want\n%q", got, want)
	}
}

// The audit trail has a second row for an export that was enabled or rebuilt, but not filled.
func TestTrailOfFailedFill(t *testing.T) {
	onDamaged(t, func(d damaged) {
		ctx := audit.With(d.Context(), audit.Cause{Actor: audit.Actor{Kind: audit.Command, Name: "olga"}})
		ended, end := context.WithCancel(ctx)
		end()
		for range 2 {
			if err := d.EnableExport(ended, noProgress); !errors.Is(err, context.Canceled) {
				d.Errorf("got %v", err)
			}
		}
		d.must(d.EnableExport(ctx, noProgress))
		wantTrail(d.T, d.Store,
			"directory.export.enable ok by olga", "directory.export.enable failed by olga",
			"directory.export.rebuild ok by olga", "directory.export.rebuild failed by olga",
			"directory.export.rebuild ok by olga")
	})
}

// The audit trail has a second row for an export that was disabled, but whose file was not emptied.
func TestTrailOfFailedDisable(t *testing.T) {
	s, _, dir, _ := openExporting(t)
	defer world.CloseStore(t, s)
	restore := blockExport(t, dir)
	if err := s.DisableExport(t.Context()); err == nil {
		t.Error("the export was disabled although its file cannot be emptied")
	}
	restore()
	if err := s.DisableExport(t.Context()); err != nil {
		t.Error(err)
	}
	wantTrail(t, s, "directory.export.enable ok by ", "directory.export.disable ok by ",
		"directory.export.disable failed by ", "directory.export.disable ok by ")
}

// A refusal to enable the export, because there is no key, is not in the audit trail.
func TestTrailOfRefusedEnable(t *testing.T) {
	s, err := teststore.Open(t.Context(), filepath.Join(t.TempDir(), "dialtone.db"), (*secret.Ring)(nil))
	if err != nil {
		t.Fatal(err)
	}
	defer world.CloseStore(t, s)
	if err := s.EnableExport(t.Context(), noProgress); err == nil {
		t.Error("the export was enabled without a key")
	}
	wantTrail(t, s)
}
