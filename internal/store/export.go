package store

import (
	"context"
	"errors"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/export"
	"dialtone/internal/store/engine"
	"dialtone/internal/store/phonetables"
)

var (
	_ export.Admin  = (*Store)(nil)
	_ export.Source = (*Store)(nil)
)

// EnableExport implements export.Admin.
func (s *Store) EnableExport(ctx context.Context, progress export.Progress) error {
	enable, rebuild := entry(ctx, audit.ExportEnable, time.Now()), entry(ctx, audit.ExportRebuild, time.Now())
	var added *trailEntry
	return s.tables.Enable(ctx, progress, func(tx engine.Tx) error {
		enabled, err := phonetables.Enabled(tx)
		if err != nil {
			return err
		}
		if added == nil { // a repeated run would find what the first one has enabled
			added = enable
			if enabled {
				added = rebuild
			}
		}
		return added.add(tx)
	}, func(err error) error { return s.addFailed(ctx, added.Action, err) })
}

// addFailed adds to the trail that a change failed after its row was added, and returns the errors.
func (s *Store) addFailed(ctx context.Context, action audit.Action, err error) error {
	e := entry(ctx, action, time.Now())
	e.Outcome = audit.Failed
	return errors.Join(err, s.engine.Write(e.add))
}

// DisableExport implements export.Admin.
func (s *Store) DisableExport(ctx context.Context) error {
	return s.tables.Disable(entry(ctx, audit.ExportDisable, time.Now()).add,
		func(err error) error { return s.addFailed(ctx, audit.ExportDisable, err) })
}

// ExportStatus implements export.Admin.
func (s *Store) ExportStatus(ctx context.Context) (export.Status, error) { return s.tables.Status(ctx) }

// ExportedEntries implements export.Source.
func (s *Store) ExportedEntries(ctx context.Context, realm string, each func(export.Entry) error) error {
	return s.tables.Each(ctx, realm, each)
}

// ExportVersion implements export.Source.
func (s *Store) ExportVersion(ctx context.Context) (int64, error) { return s.tables.Version(ctx) }

// MissingInExport implements export.Admin.
func (s *Store) MissingInExport(ctx context.Context) ([]export.Missing, error) {
	return s.tables.Missing(ctx)
}

// CheckExportSchema implements export.Admin.
func (s *Store) CheckExportSchema(ctx context.Context, report func(string)) error {
	return s.tables.CheckSchema(ctx, report)
}

// CatchUpExport implements export.Admin.
func (s *Store) CatchUpExport(ctx context.Context) error { return s.tables.CatchUp(ctx) }

// CompareExport implements export.Admin.
func (s *Store) CompareExport(ctx context.Context, report func(string)) error {
	return s.tables.Compare(ctx, report)
}

// ExportReady fails if an operator must fill the tables for phone servers, because the database was
// restored from a dump without them.
func (s *Store) ExportReady(ctx context.Context) error { return s.tables.Ready(ctx) }

// GrantExport creates a role of the database that may read the tables of one kind of phone server
// and nothing else. Without a password the role cannot log in. If the database's user may not
// create roles, GrantExport changes nothing and returns the statements for an administrator to run.
func (s *Store) GrantExport(ctx context.Context, schema, role, password string) (statements []string, err error) {
	return s.tables.Grant(schema, role, password, entry(ctx, audit.ExportRole, time.Now()).about(role).add)
}

// OnChange implements sipserver.Store.
func (s *Store) OnChange(f func(uid account.UID)) { s.tables.OnChange(f) }
