package main

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"

	"dialtone/internal/account"
	"dialtone/internal/export"
	"dialtone/internal/http/ops"
	"dialtone/internal/store"
)

// missing is what a server knows of the accounts that are missing in the export. One goroutine calls
// refresh.
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

// exportReady is the check of /readyz. Missing accounts are a warning: all servers of a database have
// the same ones, and a load balancer that took these servers out would stop everybody.
func (s *server) exportReady(ctx context.Context) error {
	if err := s.Store.ExportReady(ctx); err != nil {
		return err
	}
	if list := s.missing.list.Load(); list != nil && len(*list) > 0 {
		return ops.Warning(describeMissing(*list))
	}
	return nil
}

// describeMissing says in one line which accounts are missing in the export, and what to do.
func describeMissing(list []export.Missing) string {
	const shown = 10
	var names []string
	for _, m := range list[:min(shown, len(list))] {
		names = append(names, m.String())
	}
	if len(list) > shown {
		names = append(names, fmt.Sprintf("and %d more", len(list)-shown))
	}
	return "active accounts left out, because their credentials do not open: " + strings.Join(names, ", ") +
		"; for each, " + export.MissingHint
}
