package transfer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"dialtone/internal/audit"
	"dialtone/internal/secret"
	"dialtone/internal/store"
	"dialtone/internal/store/engine"
	"dialtone/internal/test/postgrestest"
)

// keeper returns the Keeper that writes the checkpoints of a store.
func keeper(s *testStore, ring *secret.Ring) *audit.Keeper {
	return loggingKeeper(s, ring, &bytes.Buffer{})
}

func loggingKeeper(s *testStore, ring *secret.Ring, log *bytes.Buffer) *audit.Keeper {
	return audit.NewKeeper(audit.KeeperDeps{
		Store: s, Ring: func() (*secret.Ring, error) { return ring, nil }, Log: slog.New(slog.NewJSONHandler(log, nil)),
		Now: func() time.Time { return noon },
	})
}

// wrong returns the faults in the trail of a store.
func wrong(t *testing.T, s *testStore, ring *secret.Ring) (list []string) {
	t.Helper()
	faults, _ := findings(t, s, ring, noon)
	return faults
}

func findings(t *testing.T, s *testStore, ring *secret.Ring, now time.Time) (faults, notes []string) {
	t.Helper()
	_, err := audit.Verify(t.Context(), audit.VerifyDeps{Store: s, Ring: ring, Now: now},
		func(f string) { faults = append(faults, f) },
		func(n string) { notes = append(notes, n) })
	if err != nil {
		t.Fatal(err)
	}
	return faults, notes
}

// trailTest is an empty store with an audit trail.
type trailTest struct {
	*testing.T
	*testStore
	ring *secret.Ring
	n    int
}

// add adds changes by a person, and covers them.
func (t *trailTest) add(n int) {
	t.Helper()
	for range n {
		t.n++
		ctx := audit.With(t.Context(), audit.Cause{
			Actor: audit.Actor{Kind: audit.Person}, Net: "192.0.2.7", Request: fmt.Sprint("r", t.n),
		})
		t.must(t.AddChange(ctx, audit.Change{
			At: noon, Action: audit.PasswordNotMe, Outcome: audit.OK, Tenant: "a.test", User: "ann", Subject: "email",
			Before: "x***@a.test", After: "y***@a.test",
		}))
	}
	t.must(keeper(t.testStore, t.ring).CoverNow(t.Context()))
}

func (t *trailTest) must(err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// exec runs a statement, as somebody does who can write to the database.
func (t *trailTest) exec(statement string) {
	t.Helper()
	t.must(t.engine.Write(func(tx engine.Tx) error { return tx.Script(statement) }))
}

// onEngines runs a test on a store of each engine.
func onEngines(t *testing.T, do func(*trailTest)) {
	t.Run("SQLite", func(t *testing.T) {
		ring := secret.NewRing(noon)
		s, err := openFile(t.Context(), filepath.Join(t.TempDir(), "a.db"), ring)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		do(&trailTest{T: t, testStore: s, ring: ring})
	})
	t.Run("PostgreSQL", func(t *testing.T) {
		ring := secret.NewRing(noon)
		do(&trailTest{T: t, testStore: openStore(t, ring, "a", postgrestest.Shared(t).Database(t)), ring: ring})
	})
}

// copyOfRow is SQL that gives a row of the trail another ID and event.
func copyOfRow(from, to int) string {
	const columns = `at, action, outcome, tenant, account, username, subject, before, after, actor_kind, actor,
		actor_id, sudo_user, reason, net, request`
	return fmt.Sprintf(`DELETE FROM audit WHERE id = %[2]d;
		INSERT INTO audit (id, event, %[3]s) SELECT %[2]d, mac, %[4]s FROM audit a, audit_checkpoint c
		WHERE a.id = %[1]d AND c.id = 1`, from, to, columns, "a."+strings.ReplaceAll(columns, ", ", ", a."))
}

// Each test begins with the changes 1 to 9, and the checkpoints 1 to 3 of three changes each.
func TestVerifyFindsWhatWasChanged(t *testing.T) {
	const twin = `CREATE TABLE twin AS SELECT * FROM platform WHERE name = 'audit.state'`
	tests := []struct {
		name string
		sql  string
		want []string
	}{
		{"nothing", ``, nil},
		{"an edited reason", `UPDATE audit SET reason = 'x' WHERE id = 5`, []string{"change 5 (password.not-me of"}},
		{"an edited time", `UPDATE audit SET at = at + 1 WHERE id = 9`, []string{"change 9 "}},
		{"an edited network", `UPDATE audit SET net = '192.0.2.8' WHERE id = 1`, []string{"change 1 "}},
		{"another network", `UPDATE audit SET net = '198.51.100.0/24' WHERE id = 1`, []string{"change 1 "}},
		{"an edited value", `UPDATE audit SET before = 'z***@a.test' WHERE id = 2`, []string{"change 2 "}},
		{"one cleared value", `UPDATE audit SET before = '' WHERE id = 2`, []string{"change 2 "}},
		{"what erasing an account clears", `UPDATE audit SET before = '', after = '', net = '192.0.2.0/24'`, nil},
		{"a missing change", `DELETE FROM audit WHERE id = 5`, []string{"change 5 (by 2026"}},
		{"the first change is missing", `DELETE FROM audit WHERE id = 1`, []string{"change 1 (by"}},
		{"the last change is missing", `DELETE FROM audit WHERE id = 9`, []string{"change 9 (by"}},
		{"an inserted change", copyOfRow(4, 5), []string{"change 5 (password.not-me"}},
		{"an inserted change at the beginning", copyOfRow(4, 0), []string{"change 0 (", "change 0 ("}},
		{"swapped changes", `UPDATE audit SET id = 99 WHERE id = 4; UPDATE audit SET id = 4 WHERE id = 8;
			UPDATE audit SET id = 8 WHERE id = 99`, []string{"change 4 (", "change 8 ("}},
		{"a missing checkpoint", `DELETE FROM audit_checkpoint WHERE id = 2`, []string{"checkpoint 2 is missing"}},
		{"an edited checkpoint", `UPDATE audit_checkpoint SET at = at + 1 WHERE id = 2`,
			[]string{"checkpoint 2 (changes 4 to 6"}},
		{"swapped checkpoints", `UPDATE audit_checkpoint SET id = 99 WHERE id = 1;
			UPDATE audit_checkpoint SET id = 1 WHERE id = 2; UPDATE audit_checkpoint SET id = 2 WHERE id = 99`,
			[]string{"checkpoint 1 (", "change 1 (", "change 2 (", "change 3 (", "checkpoint 2 (", "change 1 (by",
				"change 2 (by", "change 3 (by", "checkpoint 3 ("}},
		{"a shorter code", `UPDATE audit_checkpoint SET mac = substr(mac, 1, 16) WHERE id = 3`,
			[]string{"checkpoint 3 (", "checkpoint 3 is not the one"}},
		{"an unknown key", `UPDATE audit_checkpoint SET seal = 'x' WHERE id = 2`, []string{`the key "x"`}},
		{"an inserted checkpoint", `INSERT INTO audit_checkpoint SELECT 4, at, node, first, through, changes, tags,
			seal, mac FROM audit_checkpoint WHERE id = 3`, []string{"checkpoint 4 was inserted"}},
		{"a cut end", `DELETE FROM audit WHERE id > 6; DELETE FROM audit_checkpoint WHERE id > 2`,
			[]string{"checkpoint 3 is missing"}},
		{"a cut beginning", `DELETE FROM audit WHERE id <= 3; DELETE FROM audit_checkpoint WHERE id = 1`,
			[]string{"checkpoint 1 is missing"}},
		{"the state removed", `DELETE FROM platform WHERE name = 'audit.state'`,
			[]string{"the signed state is missing"}},
		{"the state edited", `UPDATE platform SET value = replace(value, '"newest":3', '"newest":2')
			WHERE name = 'audit.state'`, []string{"state of the audit trail was edited"}},
		{"the state garbage", `UPDATE platform SET value = '{' WHERE name = 'audit.state'`,
			[]string{"state of the audit trail was edited"}},
	}
	onEngines(t, func(t *trailTest) {
		t.exec(`DELETE FROM audit`)
		for range 3 {
			t.add(3)
		}
		t.exec(twin + `; CREATE TABLE changes AS SELECT * FROM audit;
			CREATE TABLE checkpoints AS SELECT * FROM audit_checkpoint`)
		for _, c := range tests {
			t.exec(`DELETE FROM audit; INSERT INTO audit SELECT * FROM changes; DELETE FROM audit_checkpoint;
				INSERT INTO audit_checkpoint SELECT * FROM checkpoints; DELETE FROM platform;
				INSERT INTO platform SELECT * FROM twin`)
			t.exec(c.sql)
			got := wrong(t.T, t.testStore, t.ring)
			ok := len(got) == len(c.want)
			for i := range c.want {
				ok = ok && strings.Contains(got[i], c.want[i])
			}
			if !ok {
				t.Errorf("%s: %q, want %q", c.name, got, c.want)
			}
		}
	})
}

// The trail keeps its proof when old changes are removed, and reveals if somebody removes more.
func TestRemovedForTheirAge(t *testing.T) {
	onEngines(t, func(t *trailTest) {
		t.exec(`DELETE FROM audit`)
		for i := range 4 {
			t.must(t.AddChange(t.Context(), audit.Change{
				At: noon.AddDate(0, 0, i-10), Action: audit.KeysRotate, Outcome: audit.OK,
			}))
		}
		k := keeper(t.testStore, t.ring)
		t.must(k.CoverNow(t.Context())) // a checkpoint for each two days
		t.must(k.Remove(t.Context(), noon.AddDate(0, 0, -9)))
		ids := func() (list []int64) {
			t.must(t.Changes(t.Context(), audit.Filter{}, func(c audit.Change) error {
				list = append(list, c.ID)
				return nil
			}))
			return list
		}
		all := ids()
		if got := wrong(t.T, t.testStore, t.ring); len(got) > 0 || len(all) != 4 {
			t.Errorf("faults %q, changes %v", got, all)
		}
		t.must(k.Remove(t.Context(), noon.AddDate(0, 0, -8)))
		if got := wrong(t.T, t.testStore, t.ring); len(got) > 0 || !slices.Equal(ids(), all[2:]) {
			t.Errorf("after the removal: faults %q, changes %v of %v", got, ids(), all)
		}
		t.add(3)
		t.exec(fmt.Sprintf(`DELETE FROM audit WHERE id = %d; DELETE FROM audit_checkpoint WHERE id = 2`, all[2]))
		got := wrong(t.T, t.testStore, t.ring)
		if len(got) != 1 || !strings.Contains(got[0], "checkpoint 2 is missing") {
			t.Errorf("after somebody removed more: %q", got)
		}
	})
}

// restart begins new checkpoints, as an operator does.
func (t *trailTest) restart(seen string) {
	t.Helper()
	ctx := audit.With(t.Context(), audit.Cause{Reason: "known"})
	t.must(audit.Restart(ctx, t.testStore, t.ring, seen, noon))
}

// blocked checks that a server signs nothing because checkpoints that it has seen are missing.
func (t *trailTest) blocked(k *audit.Keeper, also ...string) {
	t.Helper()
	before, err := t.CheckpointState(t.Context())
	t.must(err)
	for _, err := range []error{k.CoverNow(t.Context()), k.Remove(t.Context(), noon.AddDate(1, 0, 0))} {
		for _, want := range append([]string{"lacks checkpoints that this server has seen"}, also...) {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("an older trail: %v, want %q", err, want)
			}
		}
	}
	if after, err := t.CheckpointState(t.Context()); err != nil || after != before {
		t.Errorf("a server signed a trail that lacks what it has seen: %v", err)
	}
	t.must(k.Start(t.Context())) // the server still serves people
}

// A running server detects that the end of the trail was removed and an older state restored. It
// records that in the trail, and signs nothing until an operator begins new checkpoints.
func TestServerNoticesCutEnd(t *testing.T) {
	onEngines(t, func(t *trailTest) {
		t.add(2)
		t.exec(`CREATE TABLE twin AS SELECT * FROM platform; CREATE TABLE mark AS SELECT max(id) AS id FROM audit`)
		var log bytes.Buffer
		k := loggingKeeper(t.testStore, t.ring, &log)
		for range 2 {
			t.must(t.AddChange(t.Context(), audit.Change{At: noon, Action: audit.KeysRotate, Outcome: audit.OK}))
			t.must(k.CoverNow(t.Context()))
		}
		if n := strings.Count(log.String(), `"msg":"audit checkpoint","checkpoint":`); n != 2 {
			t.Errorf("%d checkpoints are logged: %s", n, &log)
		}
		t.exec(`DELETE FROM audit WHERE id > (SELECT id FROM mark); DELETE FROM audit_checkpoint WHERE id > 1;
			UPDATE platform SET value = (SELECT value FROM twin)`)
		if got := wrong(t.T, t.testStore, t.ring); len(got) > 0 {
			t.Errorf("an older state has the faults %q", got)
		}
		t.blocked(k)
		t.blocked(k)
		faults, notes := findings(t.T, t.testStore, t.ring, noon)
		if strings.Count(log.String(), `"level":"ERROR","msg":"audit trail lacks what`) != 1 || len(faults) > 0 ||
			len(notes) != 1 || !strings.Contains(notes[0], "a server found that changes after") {
			t.Errorf("faults %q, notes %q, log %s", faults, notes, &log)
		}
		t.restart("") // on another server, which has not seen what is gone
		t.must(k.CoverNow(t.Context()))
		if got := wrong(t.T, t.testStore, t.ring); len(got) > 0 {
			t.Errorf("after a restart: %q", got)
		}
	})
}

// The record of what a server has seen does not change while the database has an older trail,
// however that is forged.
func TestForgedRowsAreNotSigned(t *testing.T) {
	const swallow = `CREATE TRIGGER hide AFTER INSERT ON audit WHEN NEW.action = 'audit.broken'
		BEGIN DELETE FROM audit WHERE id = NEW.id; END`
	const swallowPostgres = `CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
		CREATE TRIGGER hide BEFORE INSERT ON audit FOR EACH ROW WHEN (NEW.action = 'audit.broken')
		EXECUTE FUNCTION swallow()`
	onEngines(t, func(t *trailTest) {
		trigger, drop := swallow, `DROP TRIGGER hide`
		if strings.HasSuffix(t.Name(), "/PostgreSQL") {
			trigger, drop = swallowPostgres, `DROP TRIGGER hide ON audit`
		}
		var log bytes.Buffer
		m, now := new(memory), noon
		t.add(2)
		t.exec(`CREATE TABLE twin AS SELECT * FROM platform`)
		t.add(2)
		t.must(t.server(m, &log, &now).CoverNow(t.Context()))
		seen := m.text
		t.exec(trigger)
		t.exec(`UPDATE audit SET reason = 'forged' WHERE id > 2; DELETE FROM audit_checkpoint WHERE id > 1;
			UPDATE platform SET value = (SELECT value FROM twin)`)
		for range 2 { // the second one is a server that starts again
			t.blocked(t.server(m, &log, &now), "was added to the trail and is not there")
		}
		t.exec(drop)
		k := t.server(m, &log, &now)
		t.blocked(k)
		// Another server has not seen what is gone, and signs.
		t.must(t.server(new(memory), &log, &now).CoverNow(t.Context()))
		t.add(2)
		t.blocked(k)
		if faults, _ := t.verify(m.text, time.Time{}, now); m.text != seen ||
			!oneWith(faults, "a server here has seen checkpoint 2, of") {
			t.Errorf("faults %q, seen %s, before %s", faults, m.text, seen)
		}
		t.restart(m.text)
		t.must(k.CoverNow(t.Context()))
		if faults, _ := t.verify(m.text, time.Time{}, now); m.text == seen || len(faults) > 0 {
			t.Errorf("after a restart: %q", faults)
		}
	})
}

// A command that has read an older trail does not overwrite what a server has seen since then.
func TestSeenNeverGoesBack(t *testing.T) {
	onEngines(t, func(t *trailTest) {
		var log bytes.Buffer
		m, now := new(memory), noon
		t.add(2)
		server, command := t.server(m, &log, &now), t.server(m, &log, &now)
		t.must(server.CoverNow(t.Context()))
		t.exec(`CREATE TABLE twin AS SELECT * FROM platform`)
		t.must(t.AddChange(t.Context(), audit.Change{At: noon, Action: audit.KeysRotate, Outcome: audit.OK}))
		t.must(command.CoverNow(t.Context()))
		seen := m.text
		t.exec(`DELETE FROM audit_checkpoint WHERE id > 1; UPDATE platform SET value = (SELECT value FROM twin)`)
		t.blocked(server)
		if m.text != seen {
			t.Errorf("seen is %s, before %s", m.text, seen)
		}
	})
}

// SQLite numbers the changes without gaps, so the removal of a change before a checkpoint covers it
// is detected.
func TestGapsBetweenNumbers(t *testing.T) {
	ring := secret.NewRing(noon)
	s, err := openFile(t.Context(), filepath.Join(t.TempDir(), "a.db"), ring)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	w := &trailTest{T: t, testStore: s, ring: ring}
	verify := func() (faults, notes []string) {
		t.Helper()
		numbers, err := s.Numbers(t.Context())
		w.must(err)
		_, err = audit.Verify(t.Context(), audit.VerifyDeps{Store: s, Ring: ring, Now: noon, Numbers: numbers},
			func(f string) { faults = append(faults, f) }, func(n string) { notes = append(notes, n) })
		w.must(err)
		return faults, notes
	}
	wants := func(what string, want ...string) {
		t.Helper()
		faults, _ := verify()
		ok := len(faults) == len(want)
		for i := range want {
			ok = ok && strings.Contains(faults[i], want[i])
		}
		if !ok {
			t.Errorf("%s: %q, want %q", what, faults, want)
		}
	}
	w.add(2)
	err = s.engine.Write(func(tx engine.Tx) error {
		if err := tx.Script(copyOfRow(1, 3)); err != nil {
			return err
		}
		return context.Canceled
	})
	if err == nil {
		t.Fatal("the transaction succeeded")
	}
	w.add(1)
	wants("after a transaction that failed")
	w.exec(`DELETE FROM audit WHERE id = 2`)
	wants("a change of a checkpoint", "change 2 (by")
	w.restart("")
	wants("after a restart")
	w.add(2)
	w.must(s.AddChange(t.Context(), audit.Change{At: noon, Action: audit.KeysRotate, Outcome: audit.OK}))
	w.exec(`DELETE FROM audit WHERE id = (SELECT max(id) FROM audit)`)
	wants("the newest one", "1 change missing (7)")
	w.add(2)
	wants("one before others", "1 change missing (7)")
	w.must(s.engine.Write(func(tx engine.Tx) error { return store.SetAuditGaps(tx, 8) }))
	if faults, notes := verify(); len(faults) > 0 ||
		!strings.Contains(strings.Join(notes, "\n"), "up to 8 were copied") {
		t.Errorf("after a copy from PostgreSQL: faults %q, notes %q", faults, notes)
	}
}

// An edited state prevents servers from writing checkpoints until an operator begins new ones.
func TestEditedStateStopsCheckpoints(t *testing.T) {
	onEngines(t, func(t *trailTest) {
		t.add(2)
		t.exec(`UPDATE platform SET value = replace(value, '"newest":1', '"newest":0')`)
		k := keeper(t.testStore, t.ring)
		if k.CoverNow(t.Context()) == nil || k.Remove(t.Context(), noon.AddDate(1, 0, 0)) == nil {
			t.Error("an edited state is accepted")
		}
		t.must(k.Start(t.Context())) // the server still serves people
		t.must(audit.Restart(audit.With(t.Context(), audit.Cause{Reason: "known"}), t.testStore, t.ring, "", noon))
		t.must(k.CoverNow(t.Context()))
		faults, notes := findings(t.T, t.testStore, t.ring, noon)
		if len(faults) > 0 || len(notes) != 1 || !strings.Contains(notes[0], "The reason: known") {
			t.Errorf("faults %q, notes %q", faults, notes)
		}
	})
}

func TestCheckpointsWithRotatedKeys(t *testing.T) {
	onEngines(t, func(t *trailTest) {
		old := t.ring
		t.add(2)
		t.ring = old.Rotated(noon.Add(time.Hour), 2)
		t.add(2)
		if got := wrong(t.T, t.testStore, t.ring); len(got) > 0 {
			t.Errorf("after a rotation: %q", got)
		}
		if err := keeper(t.testStore, old).CoverNow(t.Context()); err == nil {
			t.Error("a server without the new key continues")
		}
	})
}

// Old checkpoints do not hide that new ones are missing.
func TestLateCheckpoints(t *testing.T) {
	onEngines(t, func(t *trailTest) {
		t.add(2)
		later := noon.Add(time.Hour)
		if faults, notes := findings(t.T, t.testStore, t.ring, later); len(faults) > 0 || len(notes) != 1 ||
			!strings.Contains(notes[0], "may have been cut off") {
			t.Errorf("faults %q, notes %q", faults, notes)
		}
		command := audit.With(t.Context(), audit.Cause{Actor: audit.Actor{Kind: audit.Command}})
		for i, ctx := range []context.Context{command, t.Context()} {
			t.must(t.AddChange(ctx, audit.Change{At: later, Action: audit.KeysRotate, Outcome: audit.OK}))
			faults, notes := findings(t.T, t.testStore, t.ring, later.Add(time.Hour))
			if len(faults) != i || i == 1 && !strings.Contains(faults[0], "a server made change") {
				t.Errorf("faults %q, notes %q", faults, notes)
			}
		}
	})
}

// Two servers write one chain of checkpoints.
func TestCheckpointsOfTwoNodes(t *testing.T) {
	ring, url := secret.NewRing(noon), postgrestest.Shared(t).Database(t)
	a, b := openStore(t, ring, "a", url), openStore(t, ring, "b", url)
	change := audit.Change{At: noon, Action: audit.KeysRotate, Outcome: audit.OK}
	// The servers may finish all changes before one of them writes a checkpoint, so there is one before.
	if err := errors.Join(a.AddChange(t.Context(), change), keeper(a, ring).CoverNow(t.Context())); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 4)
	for _, s := range []*testStore{a, b} {
		go func() {
			for range 40 {
				if err := s.AddChange(context.Background(), change); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
		k := keeper(s, ring)
		go func() {
			for range 20 {
				if err := k.CoverNow(context.Background()); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for range 4 {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	if err := keeper(a, ring).CoverNow(t.Context()); err != nil {
		t.Fatal(err)
	}
	v, err := audit.Verify(t.Context(), audit.VerifyDeps{Store: a, Ring: ring, Now: noon},
		func(f string) { t.Error(f) }, func(n string) { t.Error(n) })
	if err != nil || v.Changes < 81 || v.Checkpoints < 2 {
		t.Errorf("%+v, %v", v, err)
	}
}

// memory is an audit.Memory.
type memory struct{ text string }

func (m *memory) Load() (string, error)  { return m.text, nil }
func (m *memory) Save(text string) error { m.text = text; return nil }

// server returns the Keeper of a server that starts, with its clock and its memory of what it has
// seen.
func (t *trailTest) server(m *memory, log *bytes.Buffer, now *time.Time) *audit.Keeper {
	return audit.NewKeeper(audit.KeeperDeps{
		Store: t.testStore, Ring: func() (*secret.Ring, error) { return t.ring, nil }, Memory: m,
		Log: slog.New(slog.NewJSONHandler(log, nil)), Now: func() time.Time { return *now },
	})
}

// verify returns the findings of Verify. Changes older than before are removed for their age.
func (t *trailTest) verify(seen string, before, now time.Time) (faults, notes []string) {
	t.Helper()
	_, err := audit.Verify(t.Context(), audit.VerifyDeps{
		Store: t.testStore, Ring: t.ring, Seen: seen, Before: before, Now: now,
	}, func(f string) { faults = append(faults, f) }, func(n string) { notes = append(notes, n) })
	t.must(err)
	return faults, notes
}

// oneWith reports whether a list consists of one text, which contains part.
func oneWith(list []string, part string) bool {
	return len(list) == 1 && strings.Contains(list[0], part)
}

// A server detects at its start that all checkpoints were removed, although the trail then looks
// like that of an upgrade. verify reports it until an operator begins new ones.
func TestServerNoticesReset(t *testing.T) {
	onEngines(t, func(t *trailTest) {
		var log bytes.Buffer
		m, now := new(memory), noon
		t.add(3)
		t.must(t.server(m, &log, &now).CoverNow(t.Context()))
		t.exec(`UPDATE audit SET actor = 'forged'; DELETE FROM audit_checkpoint; DELETE FROM platform`)
		if faults, _ := t.verify(m.text, time.Time{}, now); !oneWith(faults, "has seen checkpoint 1, of") {
			t.Errorf("while no server runs: %q", faults)
		}
		t.blocked(t.server(m, &log, &now))
		if !strings.Contains(log.String(), `"level":"ERROR","msg":"audit trail lacks what`) {
			t.Errorf("log %s", &log)
		}
		if faults, _ := t.verify(m.text, time.Time{}, now); len(faults) != 2 ||
			!strings.Contains(faults[1], "found that all checkpoints were gone") {
			t.Errorf("afterwards: %q", faults)
		}
		t.must(audit.Restart(audit.With(t.Context(), audit.Cause{Reason: "known"}), t.testStore, t.ring, m.text, now))
		t.must(t.server(m, &log, &now).CoverNow(t.Context()))
		faults, notes := t.verify(m.text, time.Time{}, now)
		if len(faults) > 0 || !oneWith(notes, "The reason: known") {
			t.Errorf("after a restart: faults %q, notes %q", faults, notes)
		}
	})
}

// An operator can begin new checkpoints after all were removed, even if no server has detected it
// yet.
func TestRestartAfterReset(t *testing.T) {
	onEngines(t, func(t *trailTest) {
		var log bytes.Buffer
		m, now := new(memory), noon
		for range 3 {
			t.add(3)
		}
		t.must(t.server(m, &log, &now).CoverNow(t.Context()))
		t.exec(`DELETE FROM audit_checkpoint; DELETE FROM platform`)
		t.must(audit.Restart(audit.With(t.Context(), audit.Cause{Reason: "known"}), t.testStore, t.ring, m.text, now))
		k := t.server(m, &log, &now)
		t.must(k.Start(t.Context()))
		t.must(k.CoverNow(t.Context()))
		faults, notes := t.verify(m.text, time.Time{}, now)
		if len(faults) > 0 || !oneWith(notes, "The reason: known") || strings.Contains(log.String(), "ERROR") {
			t.Errorf("faults %q, notes %q, log %s", faults, notes, &log)
		}
	})
}

// A server detects at its start that an older store was put back while it did not run.
func TestServerNoticesOlderStore(t *testing.T) {
	onEngines(t, func(t *trailTest) {
		var log bytes.Buffer
		m, now := new(memory), noon
		t.add(2)
		t.exec(`CREATE TABLE twin AS SELECT * FROM platform`)
		t.add(2)
		t.must(t.server(m, &log, &now).CoverNow(t.Context()))
		t.exec(`DELETE FROM audit WHERE id > 2; DELETE FROM audit_checkpoint WHERE id > 1;
			UPDATE platform SET value = (SELECT value FROM twin)`)
		if faults, _ := t.verify(m.text, time.Time{}, now); !oneWith(faults, "has seen checkpoint 2") {
			t.Errorf("while no server runs: %q", faults)
		}
		for range 2 {
			t.blocked(t.server(m, &log, &now))
		}
		faults, notes := t.verify(m.text, time.Time{}, now)
		if !oneWith(faults, "has seen checkpoint 2") ||
			!oneWith(notes, "a server found that changes after change 2 were gone") ||
			strings.Count(log.String(), "ERROR") != 1 {
			t.Errorf("faults %q, notes %q, log %s", faults, notes, &log)
		}
	})
}

// An attacker who prevents servers from writing checkpoints for a while, and then restores the
// state, leaves a trace in the trail.
func TestServerRecordsHeldOffCheckpoints(t *testing.T) {
	onEngines(t, func(t *trailTest) {
		var log bytes.Buffer
		now := noon
		t.add(2)
		t.exec(`CREATE TABLE twin AS SELECT * FROM platform`)
		for _, edited := range []string{`'{}'`, `replace(value, 'audit', 'x') || 'x'`} {
			k := t.server(new(memory), &log, &now)
			t.must(k.CoverNow(t.Context()))
			t.exec(`DELETE FROM twin; INSERT INTO twin SELECT * FROM platform; UPDATE platform SET value = ` + edited)
			if faults, _ := t.verify("", time.Time{}, now); !oneWith(faults, "was edited") {
				t.Errorf("with the state %s: %q", edited, faults)
			}
			for range 3 {
				now = now.Add(time.Minute)
				if k.Cover(t.Context()) == nil {
					t.Error("an edited state is accepted")
				}
			}
			t.exec(`UPDATE platform SET value = (SELECT value FROM twin)`)
			t.must(k.Cover(t.Context()))
		}
		faults, notes := t.verify("", time.Time{}, now)
		want := "between " + noon.Add(time.Minute).UTC().Format(time.RFC3339) + " and " +
			noon.Add(3*time.Minute).UTC().Format(time.RFC3339)
		if len(faults) > 0 || len(notes) != 2 || !strings.Contains(notes[0], want) {
			t.Errorf("faults %q, notes %q, want %q", faults, notes, want)
		}
	})
}

// After an upgrade there is no proof of the changes of earlier versions, and verify reports which
// these are.
func TestChangesBeforeFirstCheckpoint(t *testing.T) {
	onEngines(t, func(t *trailTest) {
		var log bytes.Buffer
		now := noon.Add(time.Hour)
		for range 3 {
			t.must(t.AddChange(t.Context(), audit.Change{At: noon, Action: audit.KeysRotate, Outcome: audit.OK}))
		}
		last, _, err := t.LastChange(t.Context(), audit.TrailBroken)
		t.must(err)
		t.must(t.server(new(memory), &log, &now).CoverNow(t.Context()))
		want := fmt.Sprintf("those up to %d", last)
		if faults, notes := t.verify("", time.Time{}, now); len(faults) > 0 || !oneWith(notes, want) {
			t.Errorf("faults %q, notes %q, want %q", faults, notes, want)
		}
	})
}

// A server of an earlier version removes changes by their own age, which does not look like an attack.
func TestRemovedByEarlierVersion(t *testing.T) {
	onEngines(t, func(t *trailTest) {
		t.exec(`DELETE FROM audit`)
		for i := range 6 {
			t.must(t.AddChange(t.Context(), audit.Change{
				At: noon.Add(time.Duration(i) * time.Hour), Action: audit.KeysRotate, Outcome: audit.OK,
			}))
		}
		t.must(keeper(t.testStore, t.ring).CoverNow(t.Context()))
		before := noon.Add(150 * time.Minute)
		t.exec(fmt.Sprintf(`DELETE FROM audit WHERE at < %d`, before.UnixMicro()))
		if faults, notes := t.verify("", before, noon); len(faults) > 0 || !oneWith(notes, "3 changes missing") {
			t.Errorf("faults %q, notes %q", faults, notes)
		}
		t.exec(`DELETE FROM audit WHERE id = (SELECT max(id) - 1 FROM audit)`)
		if faults, _ := t.verify("", before, noon); !oneWith(faults, "is missing") {
			t.Errorf("one from between the others: %q", faults)
		}
		if faults, _ := t.verify("", noon.AddDate(0, 0, -2), noon); len(faults) != 4 {
			t.Errorf("changes that are not old enough: %q", faults)
		}
	})
}

// A change with a time in the future does not prevent other changes from being removed.
func TestRemovalWithFutureChange(t *testing.T) {
	onEngines(t, func(t *trailTest) {
		var log bytes.Buffer
		t.exec(`DELETE FROM audit`)
		now := noon
		k := t.server(new(memory), &log, &now)
		add := func(at time.Time) {
			t.must(t.AddChange(t.Context(), audit.Change{At: at, Action: audit.KeysRotate, Outcome: audit.OK}))
			t.must(k.CoverNow(t.Context()))
		}
		left := func() (n int) {
			t.must(t.Changes(t.Context(), audit.Filter{}, func(audit.Change) error { n++; return nil }))
			return n
		}
		add(noon)
		add(noon.AddDate(10, 0, 0)) // by a program whose clock is fast
		if c, err := t.Checkpoint(t.Context(), 2); err != nil || c.At.After(noon.Add(time.Hour)) {
			t.Errorf("the checkpoint has the time %v, %v", c.At, err)
		}
		now = noon.Add(time.Hour)
		add(now)
		ahead := noon.AddDate(10, 0, 0) // the server's clock, for a while
		now = ahead
		add(ahead)
		now = noon.Add(2 * time.Hour)
		add(now)
		now = noon.AddDate(0, 0, 10)
		add(now)
		t.must(k.Remove(t.Context(), noon.Add(time.Minute)))
		if n := left(); n != 5 {
			t.Errorf("%d changes are left, want 5", n)
		}
		t.must(k.Remove(t.Context(), noon.AddDate(0, 0, 9)))
		if n := left(); n != 1 {
			t.Errorf("%d changes are left, want 1", n)
		}
		if faults, _ := t.verify("", time.Time{}, now); len(faults) > 0 {
			t.Errorf("faults %q", faults)
		}
	})
}

// Rows that no version of the program writes are reported, and the others are still checked.
func TestImpossibleRows(t *testing.T) {
	onEngines(t, func(t *trailTest) {
		t.exec(`DELETE FROM audit`)
		for range 3 {
			t.add(3)
		}
		var ids []int64
		t.must(t.Changes(t.Context(), audit.Filter{}, func(c audit.Change) error {
			ids = append(ids, c.ID)
			return nil
		}))
		t.exec(copyOfRow(int(ids[0]), -5))
		if got := wrong(t.T, t.testStore, t.ring); !oneWith(got, "change -5 (password.not-me of") {
			t.Errorf("a change with a negative ID: %q", got)
		}
		t.exec(`DELETE FROM audit WHERE id < 0`)
		if t.Name() != "TestImpossibleRows/SQLite" {
			return
		}
		t.exec(fmt.Sprintf(`UPDATE audit SET after = x'00' WHERE id = %d; UPDATE audit SET at = 'x' WHERE id = %d;
			UPDATE audit SET username = 'y' WHERE id = %d`, ids[1], ids[4], ids[7]))
		got := wrong(t.T, t.testStore, t.ring)
		for i, want := range []string{"wrong type", "wrong type", "was edited"} {
			if id := ids[1+3*i]; len(got) != 3 || !strings.Contains(got[i], fmt.Sprintf("change %d ", id)) ||
				!strings.Contains(got[i], want) {
				t.Fatalf("wrong types: %q, want change %d: %s", got, id, want)
			}
		}
		n := 0
		t.must(t.Changes(t.Context(), audit.Filter{}, func(audit.Change) error { n++; return nil }))
		if n != 9 {
			t.Errorf("%d changes are listed, want 9", n)
		}
		t.exec(`UPDATE audit_checkpoint SET at = 'x' WHERE id = 2; UPDATE platform SET value = value`)
		if got := wrong(t.T, t.testStore, t.ring); !strings.Contains(strings.Join(got, "\n"), "checkpoint 2 ") {
			t.Errorf("a checkpoint: %q", got)
		}
		t.exec(`UPDATE platform SET value = x'00'`)
		if got := wrong(t.T, t.testStore, t.ring); !oneWith(got, "was edited") {
			t.Errorf("the state: %q", got)
		}
	})
}

// The summary reports how much of the trail is proved.
func TestVerifySummary(t *testing.T) {
	onEngines(t, func(t *trailTest) {
		want := func(want string) {
			t.Helper()
			v, err := audit.Verify(t.Context(), audit.VerifyDeps{Store: t.testStore, Ring: t.ring, Now: noon},
				func(string) {}, func(string) {})
			t.must(err)
			if got := v.Summary(); got != "audit trail: "+want {
				t.Errorf("got %q, want %q", got, want)
			}
		}
		change := func() { t.must(t.AddChange(t.Context(), audit.Change{At: noon, Action: audit.KeysRotate})) }
		want("no changes")
		change()
		want("1 change, none of them proved: there is no checkpoint")
		t.add(2)
		want("3 changes, 3 of them proved by 1 checkpoint; the last one covers all, 2026-03-01T12:00:00Z")
		change()
		change()
		want("5 changes, 3 of them proved by 1 checkpoint; from 4 to 5 they are newer than the last one, " +
			"2026-03-01T12:00:00Z")
		t.exec(`UPDATE audit SET reason = 'forged' WHERE id = 2`)
		t.must(keeper(t.testStore, t.ring).CoverNow(t.Context()))
		want("5 changes, 4 of them proved by 2 checkpoints; the last one covers all, 2026-03-01T12:00:00Z")
	})
}

// A server that checks every ten seconds covers a change within a minute, whenever it was made.
func TestCheckpointWithinAMinute(t *testing.T) {
	ring := secret.NewRing(noon)
	s, err := openFile(t.Context(), filepath.Join(t.TempDir(), "a.db"), ring)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	now := noon
	k := audit.NewKeeper(audit.KeeperDeps{
		Store: s, Ring: func() (*secret.Ring, error) { return ring, nil }, Log: slog.New(slog.DiscardHandler),
		Now: func() time.Time { return now },
	})
	var checkpoints int
	for ; now.Before(noon.Add(10 * time.Minute)); now = now.Add(10 * time.Second) {
		if err := s.AddChange(t.Context(), audit.Change{At: now, Action: audit.KeysRotate}); err != nil {
			t.Fatal(err)
		}
		if err := k.Cover(t.Context()); err != nil {
			t.Fatal(err)
		}
		v, err := audit.Verify(t.Context(), audit.VerifyDeps{Store: s, Ring: ring, Now: now},
			func(string) {}, func(string) {})
		if err != nil {
			t.Fatal(err)
		}
		// The oldest of them may have been made right after the previous check. So it is n+1
		// intervals old at the next check.
		if n := v.Changes - v.Proved; n+1 >= 6 {
			t.Errorf("at %s: %d changes are not covered", now, n)
		}
		checkpoints = int(v.Checkpoints)
	}
	if checkpoints > 15 {
		t.Errorf("%d checkpoints in ten minutes", checkpoints)
	}
}
