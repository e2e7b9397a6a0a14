package serve

import (
	"log/slog"
	"slices"
	"testing"
	"time"

	"dialtone/cmd/dialtone/internal/installation"
	"dialtone/internal/audit"
	"dialtone/internal/config"
)

// openEmptyStore opens an installation with a new store.
func openEmptyStore(t *testing.T, settings map[string]string) *installation.Installation {
	t.Helper()
	c, err := config.Load("", nil, settings)
	if err != nil {
		t.Fatal(err)
	}
	in, err := installation.Open(t.Context(), c, installation.Options{Create: installation.Always})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Store.Close() })
	return in
}

// At startup, a server looks for messages of deleted accounts, but not if its store is new: the
// messages may belong to another store.
func TestDeletionsBeforeStart(t *testing.T) {
	in := openEmptyStore(t, map[string]string{"data": t.TempDir()})
	for _, c := range []struct {
		action audit.Action
		want   bool
	}{{audit.TenantAdd, false}, {audit.AccountDisable, false}, {audit.AccountDelete, true}, {audit.KeysRotate, true}} {
		change := audit.Change{At: time.Now(), Action: c.action, Outcome: audit.OK}
		if err := in.Store.AddChange(t.Context(), change); err != nil {
			t.Fatal(err)
		}
		s := &server{Installation: in}
		if err := s.startTrail(t.Context()); err != nil || s.orphans != c.want {
			t.Errorf("after %s: %t, %v", c.action, s.orphans, err)
		}
	}
}

// A server removes changes from the trail that are older than the configured time.
func TestOldChangesAreRemoved(t *testing.T) {
	in := openEmptyStore(t, map[string]string{"data": t.TempDir(), "log.audit_days": "30"})
	const day = 24 * time.Hour
	for range 600 { // more than one transaction removes
		err := in.Store.AddChange(t.Context(), audit.Change{
			At: time.Now().Add(-31 * day), Action: audit.KeysRotate, Outcome: audit.OK,
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	kept := audit.Change{At: time.Now().Add(-29 * day), Action: audit.TURNRotate, Outcome: audit.OK}
	if err := in.Store.AddChange(t.Context(), kept); err != nil {
		t.Fatal(err)
	}
	s := &server{Installation: in, keeper: in.Keeper("", slog.New(slog.DiscardHandler))}
	if err := s.keeper.Cover(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.removeOldChanges(t.Context()); err != nil {
		t.Fatal(err)
	}
	var got []audit.Action
	err := in.Store.Changes(t.Context(), audit.Filter{}, func(c audit.Change) error {
		got = append(got, c.Action)
		return nil
	})
	if err != nil || !slices.Equal(got, []audit.Action{audit.TURNRotate}) {
		t.Errorf("left are %q, %v", got, err)
	}
}
