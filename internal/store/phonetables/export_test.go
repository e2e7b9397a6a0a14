package phonetables

import (
	"context"
	"strings"

	"dialtone/internal/export"
	"dialtone/internal/store/engine"
)

// WithTables runs do in a transaction on the accounts and the tables.
func (t *Tables) WithTables(do func(engine.Tx) error) error { return t.backend.withTables(do) }

// EnableOnly enables the export without filling the tables.
func (t *Tables) EnableOnly() error { return t.backend.enable(func(engine.Tx) error { return nil }) }

// Publish applies the change of a subject to the tables in PostgreSQL.
func (t *Tables) Publish(tx engine.Tx, subject Subject) error {
	_, err := t.backend.publish(tx, []Subject{subject})
	return err
}

// Fill fills the tables from the accounts.
func (t *Tables) Fill(ctx context.Context, progress export.Progress) error {
	return t.fill(ctx, progress)
}

// CountMade returns how many objects are compared on PostgreSQL, and how many the script creates.
func CountMade() (compared, all int) {
	tables, indexes, views := madeObjects()
	all = strings.Count(postgresTables, "\nCREATE ") - strings.Count(postgresTables, "\nCREATE SCHEMA ")
	return len(tables) + len(indexes) + len(views), all
}
