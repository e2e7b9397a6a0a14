package store

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"dialtone/internal/store/engine"
	"dialtone/internal/store/sqlite"
)

// Statements that look for an address do not read all accounts of a tenant. PostgreSQL's plans depend on what the table
// contains; SQLite's do not.
func TestAddressesAreFoundByIndex(t *testing.T) {
	e, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "dialtone.db"), func(engine.Tx) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	p := &pager{tenant: 1, text: "a", now: time.Unix(0, 0)}
	w := p.candidates(startOf(phaseEmail), nil)
	for _, c := range []struct {
		name, statement string
		args            []any
		want            []string
	}{
		{"of an address", ofEmail, []any{0, 1, "a"}, []string{"account_email", "account_waiting_email"}},
		{"usable", usableOfEmail, []any{0, 1, "a"}, []string{"account_email"}},
		{"page", selection(phaseEmail, accountColumns, `account`, w.String()) + ` LIMIT 1`, w.args,
			[]string{"account_email", "account_waiting_email"}},
	} {
		var used []string
		if err := e.Reads(t.Context()).Each(func(row engine.Scanner) error {
			var id, parent, unused int64
			var step string
			err := row.Scan(&id, &parent, &unused, &step)
			if _, index, ok := strings.Cut(step, "account USING INDEX "); ok {
				used = append(used, strings.Fields(index)[0])
			} else if strings.Contains(step, "account") {
				used = append(used, step)
			}
			return err
		}, `EXPLAIN QUERY PLAN `+c.statement, c.args...); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if !slices.Equal(used, c.want) {
			t.Errorf("%s: uses %q, want %q", c.name, used, c.want)
		}
	}
}
