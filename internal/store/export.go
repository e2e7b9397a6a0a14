package store

import (
	"context"

	"dialtone/internal/account"
	"dialtone/internal/phone"
)

var _ phone.Exporter = (*Store)(nil)

// EnableExport implements phone.Exporter.
func (s *Store) EnableExport(ctx context.Context, progress phone.Progress) error {
	return s.tables.Enable(ctx, progress)
}

// DisableExport implements phone.Exporter.
func (s *Store) DisableExport(context.Context) error { return s.tables.Disable() }

// ExportStatus implements phone.Exporter.
func (s *Store) ExportStatus(ctx context.Context) (phone.Status, error) { return s.tables.Status(ctx) }

// Exported implements phone.Exporter.
func (s *Store) Exported(ctx context.Context, realm string, each func(phone.Listing) error) error {
	return s.tables.Each(ctx, realm, each)
}

// ExportChanges implements phone.Exporter.
func (s *Store) ExportChanges(ctx context.Context) (int64, error) { return s.tables.Version(ctx) }

// TendExport implements phone.Exporter.
func (s *Store) TendExport(ctx context.Context) error { return s.tables.CatchUp(ctx) }

// CompareExport implements phone.Exporter.
func (s *Store) CompareExport(ctx context.Context, report func(string)) error {
	return s.tables.Compare(ctx, report)
}

// GrantExport creates a role of the database that may read the tables of one kind of phone server and
// nothing else. Without a password the role cannot log in. If the database's user may not create roles,
// GrantExport changes nothing and returns the statements for an administrator to run.
func (s *Store) GrantExport(_ context.Context, schema, role, password string) (statements []string, err error) {
	return s.tables.Grant(schema, role, password)
}

// OnChange implements phone.Store.
func (s *Store) OnChange(f func(uid account.UID)) { s.tables.OnChange(f) }
