package serve

import (
	"context"
	"log/slog"
	"sync/atomic"

	"dialtone/internal/account"
	"dialtone/internal/export"
	"dialtone/internal/export/htdigest"
	"dialtone/internal/http/ops"
	"dialtone/internal/store"
)

// missing holds the accounts that are missing in the export. Only one goroutine may call refresh.
type missing struct {
	list   atomic.Pointer[[]export.Missing]
	logged map[account.UID]bool
}

// refresh reads the missing accounts, and logs each once.
func (m *missing) refresh(ctx context.Context, from *store.Store, log *slog.Logger) error {
	list, err := from.MissingInExport(ctx)
	if err != nil {
		return err
	}
	m.list.Store(&list)
	now := make(map[account.UID]bool)
	for _, a := range list {
		now[a.UID] = true
		if !m.logged[a.UID] {
			log.ErrorContext(ctx, "account missing in the export: its credential does not open",
				"tenant", a.Tenant, "user", a.User, "account", a.ID, "hint", export.MissingHint)
		}
	}
	m.logged = now
	return nil
}

// exportReady is the check of /readyz. Missing accounts are only a warning: they are missing at all servers of a
// database, and a load balancer that removed all of them would lock everybody out.
func (s *server) exportReady(ctx context.Context) error {
	if err := s.Store.ExportReady(ctx); err != nil {
		return err
	}
	if list := s.missing.list.Load(); list != nil && len(*list) > 0 {
		return ops.Warning(export.DescribeMissing(*list))
	}
	return nil
}

// newHtdigestFollower returns the task that updates the htdigest files of the configuration.
func (s *server) newHtdigestFollower() *htdigest.Follower {
	var files []htdigest.File
	for _, h := range s.Export.Htdigest {
		files = append(files, htdigest.File{Host: h.Host, Path: h.File})
	}
	return htdigest.NewFollower(htdigest.Deps{
		Source: s.Store,
		Realm: func(ctx context.Context, host string) (string, error) {
			t, err := s.TenantOf(ctx, host)
			if err != nil {
				return "", err
			}
			return t.Realm, nil
		},
		Files: files,
		Log:   s.log,
	})
}

// catchUpExport updates the exported tables.
func (s *server) catchUpExport(ctx context.Context) {
	ctx = context.WithoutCancel(ctx)
	err := s.Store.CatchUpExport(ctx)
	if err == nil {
		err = s.missing.refresh(ctx, s.Store, s.log)
	}
	s.outages.export.Report(ctx, err, "retry_in", FlushInterval.String())
}
