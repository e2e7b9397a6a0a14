package store

import (
	"context"

	"dialtone/internal/account"
	"dialtone/internal/export"
)

var (
	_ export.Admin  = (*Store)(nil)
	_ export.Source = (*Store)(nil)
)

// EnableExport implements export.Admin.
func (s *Store) EnableExport(ctx context.Context, progress export.Progress) error {
	return s.tables.Enable(ctx, progress)
}

// DisableExport implements export.Admin.
func (s *Store) DisableExport(context.Context) error { return s.tables.Disable() }

// ExportStatus implements export.Admin.
func (s *Store) ExportStatus(ctx context.Context) (export.Status, error) { return s.tables.Status(ctx) }

// ExportedEntries implements export.Source.
func (s *Store) ExportedEntries(ctx context.Context, realm string, each func(export.Entry) error) error {
	return s.tables.Each(ctx, realm, each)
}

// ExportVersion implements export.Source.
func (s *Store) ExportVersion(ctx context.Context) (int64, error) { return s.tables.Version(ctx) }

// CatchUpExport implements export.Admin.
func (s *Store) CatchUpExport(ctx context.Context) error { return s.tables.CatchUp(ctx) }

// CompareExport implements export.Admin.
func (s *Store) CompareExport(ctx context.Context, report func(string)) error {
	return s.tables.Compare(ctx, report)
}

// ExportReady fails if the tables for phone servers are to be filled by an operator, because the
// database was restored from a dump without them.
func (s *Store) ExportReady(ctx context.Context) error { return s.tables.Ready(ctx) }

// GrantExport creates a role of the database that may read the tables of one kind of phone server
// and nothing else. Without a password the role cannot log in. If the database's user may not
// create roles, GrantExport changes nothing and returns the statements for an administrator to run.
func (s *Store) GrantExport(_ context.Context, schema, role, password string) (statements []string, err error) {
	return s.tables.Grant(schema, role, password)
}

// OnChange implements sipserver.Store.
func (s *Store) OnChange(f func(uid account.UID)) { s.tables.OnChange(f) }
